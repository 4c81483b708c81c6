//! How long a hole in a connection's bytes is waited for.
//!
//! What the peer acknowledged did arrive there: a hole before it is a hole in the capture, and little
//! waiting is worth it. What it did not may be sent again.
//!
//! Never: knows what the bytes are.

use super::stream::Mark;

/// Packets of a connection for which a hole is waited for that the peer does not have.
const HOLE_PACKETS: u64 = 64;
/// Capture time for which such a hole is waited for.
const HOLE_NS: u64 = 1_000_000_000;
/// Capture time for which a hole is waited for that the peer may have too: a retransmission.
const RETRANSMISSION_NS: u64 = 30_000_000_000;
/// Most that a connection holds.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A hole in one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hole {
    pub(super) end: usize,
    pub(super) to: u64,
    /// The peer has what is missing.
    pub(super) acknowledged: bool,
    /// The packet that shows the hole.
    pub(super) mark: Mark,
}

/// What is waited for, and since when.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Patience {
    stall: Option<Stall>,
}

/// The direction and position of a hole; packets and time of the connection when it was seen.
#[derive(Debug, Clone, Copy)]
struct Stall {
    end: usize,
    at: u64,
    since: (u64, u64),
}

impl Patience {
    /// Whether something is waited for.
    pub(super) fn is_tried(&self) -> bool {
        self.stall.is_some()
    }

    /// Whether a hole that begins at `at` was waited for long enough, so many packets and so much
    /// time into the connection, which holds so many bytes.
    pub(super) fn ends(&mut self, hole: &Hole, at: u64, now: (u64, u64), held: usize) -> bool {
        let stall = match self.stall {
            Some(stall) if (stall.end, stall.at) == (hole.end, at) => stall,
            _ => Stall { end: hole.end, at, since: now },
        };
        self.stall = Some(stall);
        let ((packets, time_ns), (since_packets, since_ns)) = (now, stall.since);
        let waited_ns = time_ns.saturating_sub(since_ns);
        let enough = if hole.acknowledged {
            packets - since_packets >= HOLE_PACKETS || waited_ns >= HOLE_NS
        } else {
            waited_ns >= RETRANSMISSION_NS
        };
        enough || held >= HELD_BYTES_MAX
    }
}
