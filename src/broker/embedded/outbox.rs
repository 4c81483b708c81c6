//! Turns answers into bytes for a connection; large records are passed on, not copied.
//!
//! Answers gather here while further requests wait in the connection's inbox, and leave together.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;
use kafka_wire::header::{RequestHeader, encode_response_header};

/// Records from this size on are passed on as they lie in the log.
const SHARED_FROM_BYTES: usize = 8 * 1024;

/// Bytes on their way out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    done: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

/// Where a response begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    done: usize,
    tail: usize,
}

/// The answer could not be written in its version: our own mistake, kept from the peer.
#[derive(Debug)]
pub(super) struct Unencodable;

/// A body written piece by piece, before its length is known.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    /// What is being written.
    pub(super) tail: BytesMut,
    len: usize,
}

impl Pieces {
    /// Adds records: copied where they are small, else shared with the log.
    pub(super) fn put_records(&mut self, records: &Bytes) {
        if records.len() < SHARED_FROM_BYTES {
            self.tail.put_slice(records);
            return;
        }
        let before = self.tail.split().freeze();
        self.len += before.len() + records.len();
        self.done.push(before);
        self.done.push(records.clone());
    }

    fn finish(mut self) -> (Vec<Bytes>, usize) {
        self.len += self.tail.len();
        self.done.push(self.tail.freeze());
        (self.done, self.len)
    }
}

impl Outbox {
    /// Adds a response of typed structs.
    pub(super) fn typed<R: Encodable>(
        &mut self,
        to: &RequestHeader<'_>,
        body: &R,
    ) -> Result<(), Unencodable> {
        let start = self.tail.len();
        self.tail.put_i32(0);
        encode_response_header(&mut self.tail, to.api_key, to.api_version, to.correlation_id);
        if body.encode(&mut self.tail, to.api_version).is_err() {
            self.tail.truncate(start);
            return Err(Unencodable);
        }
        let length = self.tail.len() - start - 4;
        self.tail[start..start + 4].copy_from_slice(&(length as i32).to_be_bytes());
        self.len += length + 4;
        Ok(())
    }

    /// Adds a response whose body was written in pieces.
    pub(super) fn pieces(&mut self, to: &RequestHeader<'_>, body: Pieces) {
        let (pieces, body_len) = body.finish();
        let start = self.tail.len();
        self.tail.put_i32(0);
        encode_response_header(&mut self.tail, to.api_key, to.api_version, to.correlation_id);
        let length = self.tail.len() - start - 4 + body_len;
        self.tail[start..start + 4].copy_from_slice(&(length as i32).to_be_bytes());
        self.len += length + 4;
        for piece in pieces {
            if piece.len() < SHARED_FROM_BYTES {
                self.tail.put_slice(&piece);
            } else {
                self.done.push_back(self.tail.split().freeze());
                self.done.push_back(piece);
            }
        }
    }

    /// Where the next response will begin.
    pub(super) fn mark(&self) -> Mark {
        Mark { done: self.done.len(), tail: self.tail.len() }
    }

    /// Adds the response that began there once more (a bug). One that holds shared records stays.
    pub(super) fn repeat(&mut self, mark: Mark) {
        if mark.done == self.done.len() && mark.tail < self.tail.len() {
            let frame = self.tail[mark.tail..].to_vec();
            self.len += frame.len();
            self.tail.put_slice(&frame);
        }
    }

    /// Adds bytes to the response that began there (a bug). One that holds shared records stays.
    pub(super) fn lengthen(&mut self, mark: Mark, stray: &[u8]) {
        if mark.done == self.done.len() && mark.tail < self.tail.len() {
            self.tail.put_slice(stray);
            self.len += stray.len();
            let length = (self.tail.len() - mark.tail - 4) as i32;
            self.tail[mark.tail..mark.tail + 4].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes to write next, empty where all is written.
    pub(super) fn front(&mut self) -> &[u8] {
        while self.done.front().is_some_and(Bytes::is_empty) {
            self.done.pop_front();
        }
        self.done.front().map_or(&self.tail[..], |piece| &piece[..])
    }

    /// Notes that the first `n` bytes of [`Outbox::front`] are written.
    pub(super) fn written(&mut self, n: usize) {
        self.len -= n;
        match self.done.front_mut() {
            Some(piece) => piece.advance(n),
            None => self.tail.advance(n),
        }
        if self.len == 0 && self.tail.capacity() > 4 * 1024 {
            self.tail = BytesMut::new();
        }
    }
}
