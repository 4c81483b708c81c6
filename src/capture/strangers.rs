//! Segments that can hardly be of the connection whose ports they have.
//!
//! Ports are used again, and the SYN that says so may be missing from the capture. One segment far
//! from its stream may be anything, a forgery too; those that follow from each other show that
//! another connection has begun, and are its beginning.
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
const NEAR_BYTES: u32 = 1024 * 1024;

/// The last segments of a connection that were far from where it is, in a row.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    kept: Vec<Stranger>,
    bytes: usize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Stranger {
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

    fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.payload_bytes)
    }
}

impl Strangers {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a segment follows from those before it: it answers one, or is the third in a row
    /// of one direction.
    pub(super) fn are_followed_by(&self, segment: &Segment<'_>) -> bool {
        let follows = |stranger: &Stranger| {
            if stranger.source == segment.source {
                return self.kept.len() >= 2 && segment.sequence == stranger.end();
            }
            let apart = segment.acknowledgement.wrapping_sub(stranger.end()).cast_signed();
            segment.flags.ack && apart.unsigned_abs() <= NEAR_BYTES
        };
        self.kept.iter().any(follows)
    }

    pub(super) fn keep(&mut self, segment: &Segment<'_>, number: PacketNumber, time_ns: u64) {
        let bytes = segment.payload.len();
        if self.kept.len() == KEPT_MAX || self.bytes + bytes > KEPT_BYTES_MAX {
            *self = Self::default();
        }
        self.bytes += bytes;
        self.kept.push(Stranger {
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
