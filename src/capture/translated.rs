//! Connections that a capture shows twice, before and behind address translation.
//!
//! Where every interface of a host with containers is captured, each packet is there with the
//! addresses of the container and with those of the host, or of a service and of who serves it.
//! Translation leaves the sequence numbers as they are, and seldom touches the client's port. Taken
//! for two connections they would be two clients that were told the same.
//!
//! Never: keeps more than its bound; looks at a segment that is no SYN.

use std::collections::VecDeque;
use std::net::SocketAddr;

use capture_file::segment::Segment;

/// Beginnings that are remembered.
const BEGINNINGS_MAX: usize = 256;
/// How long a packet takes through one host, by a wide margin.
const NEAR_NS: u64 = 100_000_000;
/// Numbers below are chosen by programs that write captures, not by systems that connect.
const CHANCE_MIN: u32 = 1 << 16;

/// How connections began, the last of them.
#[derive(Debug, Default)]
pub(super) struct Beginnings(VecDeque<Beginning>);

#[derive(Debug)]
struct Beginning {
    sequence: u32,
    client: SocketAddr,
    broker: SocketAddr,
    time_ns: u64,
    at: usize,
}

impl Beginnings {
    /// Where the connection is, if any, that a SYN between other addresses began.
    pub(super) fn find(&self, segment: &Segment<'_>, time_ns: u64) -> Option<usize> {
        if !is_beginning(segment) {
            return None;
        }
        let (client, broker) = (segment.source, segment.target);
        let same = |b: &&Beginning| {
            b.sequence == segment.sequence
                && b.time_ns.abs_diff(time_ns) <= NEAR_NS
                && b.client.port() == client.port()
                && (b.client == client) != (b.broker == broker)
        };
        self.0.iter().rev().find(same).map(|beginning| beginning.at)
    }

    /// Remembers how the connection there began.
    pub(super) fn keep(&mut self, segment: &Segment<'_>, time_ns: u64, at: usize) {
        if !is_beginning(segment) {
            return;
        }
        if self.0.len() == BEGINNINGS_MAX {
            self.0.pop_front();
        }
        let Segment { sequence, source: client, target: broker, .. } = *segment;
        self.0.push_back(Beginning { sequence, client, broker, time_ns, at });
    }

    /// The connection there is gone.
    pub(super) fn forget(&mut self, at: usize) {
        self.0.retain(|beginning| beginning.at != at);
    }
}

fn is_beginning(segment: &Segment<'_>) -> bool {
    segment.flags.syn && !segment.flags.ack && segment.sequence >= CHANCE_MIN
}
