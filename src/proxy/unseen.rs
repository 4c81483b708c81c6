//! The part of a connection that nobody looks at: large frames, from socket to socket.
//!
//! Behind a large frame the start of the next one is peeked at. Where that is as large, and no rule
//! and no tap wants its bytes, they are moved within the kernel; else they are read like all others.
//!
//! Never: moves what a throttle, a tap or a rule is to see.

use std::io::ErrorKind;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::link::{BUFFER_BYTES, Link, Scratch};
use super::pipe::Pipe;
use crate::history::tap::Direction;

/// Bytes of a frame that are looked at before it is moved as a whole.
const START_BYTES: usize = 256;

impl Link {
    /// Moves what of a large frame nobody needs to see from socket to socket, and says as
    /// [`Link::pump`] whether it did; absent where what comes is to be read.
    pub(super) fn move_unseen(
        &mut self,
        way: Direction,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Option<bool> {
        let (source, sink) = (way as usize, 1 - way as usize);
        let Self { flow, ends, .. } = self;
        let is_seen = flow.shared.tap.is_some() || flow.throttles[source].is_some();
        if is_seen || !flow.lane(way).is_bulky {
            return None;
        }
        let from = ends[source].as_ref()?.socket()?;
        let to = ends[sink].as_ref()?.socket()?;
        if flow.lane(way).is_between_frames() {
            let mut start = [0; START_BYTES];
            let mut start = ReadBuf::new(&mut start);
            match from.poll_peek(context, &mut start) {
                Poll::Pending => return Some(false),
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return None,
                Poll::Ready(Err(error)) => {
                    self.broke(source, error.kind());
                    return Some(true);
                }
            }
            scratch.refresh(&flow.shared.board);
            if flow.foresee(way, start.filled(), &scratch.interest, &mut scratch.pieces) {
                // What a rule does to it comes first.
                self.hand_on(way, &[], context, &mut scratch.pieces);
                return Some(true);
            }
        }
        let Scratch { pipe, pieces, .. } = scratch;
        let limit = flow.unseen(way)?.min(BUFFER_BYTES);
        if pipe.is_none() {
            *pipe = Pipe::new().ok();
        }
        let filled = pipe.as_ref()?.poll_fill(context, from, limit);
        match filled {
            Poll::Pending => return Some(false),
            Poll::Ready(Ok(0)) => self.heard_last(way),
            Poll::Ready(Ok(count)) => {
                flow.meter.bytes(way, count);
                match pipe.as_mut()?.drain(context, to, count) {
                    Ok(rest) => self.outboxes[source].push(rest, false),
                    Err(error) => {
                        *pipe = None;
                        self.broke(sink, error.kind());
                    }
                }
                self.flow.passed_unseen(way, count, pieces);
                self.hand_on(way, &[], context, pieces);
            }
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::InvalidInput => {
                // This system does not move bytes between these: they are read.
                flow.lane(way).is_bulky = false;
                return None;
            }
            Poll::Ready(Err(error)) => self.broke(source, error.kind()),
        }
        Some(true)
    }
}
