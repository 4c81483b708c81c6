//! Where bytes said and heard are written as they happen.
//!
//! A tap sees both directions of a connection at the place where our client or proxy reads and
//! writes it. The capture room's pcapng writer is one; a test may count bytes with another.

use std::net::SocketAddr;

/// Which way bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the client to the broker.
    Request,
    /// From the broker to the client.
    Response,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Request => Self::Response,
            Self::Response => Self::Request,
        }
    }
}

/// One connection, named for the time of a run: numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Connection(pub u64);

/// Takes what is said and heard, each with its time in nanoseconds since 1970.
///
/// Calls for one connection come in order; calls for different connections may come from
/// different threads at once.
pub trait Tap: Send + Sync {
    /// A connection was opened.
    fn opened(&self, connection: Connection, client: SocketAddr, broker: SocketAddr, time_ns: u64);
    /// Bytes went over it.
    fn bytes(&self, connection: Connection, direction: Direction, time_ns: u64, bytes: &[u8]);
    /// A rule or a step did something to it; `action` is for people, in a few words.
    fn action(&self, connection: Connection, direction: Direction, time_ns: u64, action: &str);
    /// It was closed; `by` is whose end closed first.
    fn closed(&self, connection: Connection, by: Direction, time_ns: u64);
    /// It was reset; `by` is whose end did it.
    fn reset(&self, connection: Connection, by: Direction, time_ns: u64) {
        self.closed(connection, by, time_ns);
    }
}

/// Takes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTap;

impl Tap for NoTap {
    fn opened(&self, _: Connection, _: SocketAddr, _: SocketAddr, _: u64) {}
    fn bytes(&self, _: Connection, _: Direction, _: u64, _: &[u8]) {}
    fn action(&self, _: Connection, _: Direction, _: u64, _: &str) {}
    fn closed(&self, _: Connection, _: Direction, _: u64) {}
}
