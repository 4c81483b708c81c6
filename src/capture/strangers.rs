//! Segments that can hardly be of the connection whose ports they have.
//!
//! Ports are used again, and the SYN that says so may be missing from the capture; or a SYN is there
//! and old, a duplicate of one from before, which a live connection does not accept (RFC 9293,
//! 3.10.7.4; RFC 5961). One segment alone may be anything, a forgery too; those that follow from
//! each other show that another connection has begun, and are its beginning.
//!
//! Never: keeps more than its bounds; decides for a connection that goes on.

use std::net::SocketAddr;

use capture_file::segment::{Flags, Segment};

use crate::history::wire::PacketNumber;

/// Segments that are kept of one connection.
const KEPT_MAX: usize = 8;
/// Their bytes.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// How far an acknowledgement may be from the end of what it acknowledges.
const NEAR_BYTES: i32 = 1024 * 1024;

/// The last segments of a connection that were far from where it is, in a row.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    kept: Vec<Stranger>,
    bytes: usize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Stranger {
    /// Which end of the connection said it.
    end: usize,
    source: SocketAddr,
    target: SocketAddr,
    sequence: u32,
    acknowledgement: u32,
    flags: Flags,
    payload: Vec<u8>,
    payload_bytes: u32,
    pub(super) number: PacketNumber,
    pub(super) time_ns: u64,
}

impl Stranger {
    pub(super) fn segment(&self) -> Segment<'_> {
        Segment {
            source: self.source,
            target: self.target,
            sequence: self.sequence,
            acknowledgement: self.acknowledgement,
            flags: self.flags,
            payload: &self.payload,
            payload_bytes: self.payload_bytes,
        }
    }

    /// The number after its last; SYN takes one.
    fn after(&self) -> u32 {
        self.sequence.wrapping_add(self.payload_bytes + u32::from(self.flags.syn))
    }

    fn is_followed_by(&self, end: usize, segment: &Segment<'_>, kept: usize) -> Following {
        let Segment { sequence, acknowledgement, flags, .. } = *segment;
        if self.end == end {
            return match sequence == self.after() && !flags.syn {
                true if kept >= 2 => Following::Surely,
                true if self.flags.syn => Following::Perhaps,
                _ => Following::No,
            };
        }
        let apart = acknowledgement.wrapping_sub(self.after()).cast_signed();
        let answers = flags.ack
            && match self.flags {
                // Numbers of the live connection may be near these.
                Flags { syn: true, ack: true, .. } => {
                    sequence == self.acknowledgement && (0..NEAR_BYTES).contains(&apart)
                }
                Flags { syn: true, .. } => (flags.syn || flags.rst) && apart == 0,
                _ => apart.unsigned_abs() <= NEAR_BYTES.unsigned_abs(),
            };
        if answers { Following::Surely } else { Following::No }
    }
}

/// Whether a segment goes on with those that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Following {
    No,
    /// It can: it is kept with them.
    Perhaps,
    /// It answers one, or is the third in a row of one direction.
    Surely,
}

impl Strangers {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a segment follows from those that are kept.
    pub(super) fn are_followed_by(&self, end: usize, segment: &Segment<'_>) -> Following {
        let kept = self.kept.len();
        let following = |stranger: &Stranger| stranger.is_followed_by(end, segment, kept);
        self.kept.iter().map(following).max().unwrap_or(Following::No)
    }

    /// Whether the connection is known to begin with them.
    pub(super) fn begin(&self) -> bool {
        self.kept.iter().any(|stranger| stranger.flags.syn)
    }

    pub(super) fn keep(
        &mut self,
        end: usize,
        segment: &Segment<'_>,
        number: PacketNumber,
        time_ns: u64,
    ) {
        let bytes = segment.payload.len();
        // What came before another SYN is not what it begins.
        let is_known = |kept: &Stranger| kept.flags.syn && kept.sequence == segment.sequence;
        let begins = segment.flags.syn && !segment.flags.ack && !self.kept.iter().any(is_known);
        if begins || self.kept.len() == KEPT_MAX || self.bytes + bytes > KEPT_BYTES_MAX {
            *self = Self::default();
        }
        self.bytes += bytes;
        self.kept.push(Stranger {
            end,
            source: segment.source,
            target: segment.target,
            sequence: segment.sequence,
            acknowledgement: segment.acknowledgement,
            flags: segment.flags,
            payload: segment.payload.to_vec(),
            payload_bytes: segment.payload_bytes,
            number,
            time_ns,
        });
    }

    pub(super) fn into_kept(self) -> Vec<Stranger> {
        self.kept
    }
}
