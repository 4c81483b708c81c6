//! What waits to be written to one side: bytes, pauses between them, and how it all ends.
//!
//! Never: reads more because there is room; the lane stops reading while anything waits.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::rule::Fired;
use super::transport::Side;

/// A piece that a lane hands over, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes of the input as they are.
    Run(std::ops::Range<usize>),
    /// Bytes of our own.
    Own(Vec<u8>),
    /// Bytes that are a segment of their own.
    Segment(Vec<u8>),
    /// Nothing for so long.
    Pause(Duration),
    /// The end.
    End(End),
}

/// How a rule ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides in order.
    Close,
    /// Both sides by reset.
    Reset,
    /// The side that is written to hears no more.
    HalfClose,
}

#[derive(Debug)]
enum Waiting {
    Bytes { bytes: Vec<u8>, at: usize, is_segment: bool },
    Pause(Duration),
    Pausing(Pin<Box<Sleep>>),
    End(End),
}

/// Bytes a second that may be written, while a rule lasts.
#[derive(Debug)]
pub(super) struct Throttle {
    pub(super) fired: Fired,
    bytes_per_s: u64,
    next: Pin<Box<Sleep>>,
}

impl Throttle {
    pub(super) fn new(fired: Fired, bytes_per_s: u64) -> Self {
        let next = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { fired, bytes_per_s: bytes_per_s.max(1), next }
    }

    /// How many bytes at once: those of a twentieth of a second.
    fn portion(&self) -> usize {
        usize::try_from(self.bytes_per_s / 20).unwrap_or(usize::MAX).max(1)
    }

    fn wrote(&mut self, bytes: usize) {
        let wait = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        let from = self.next.deadline().max(Instant::now());
        self.next.as_mut().reset(from + wait);
    }
}

/// What came of a try to write.
pub(super) enum Written {
    /// Nothing waits any more.
    Dry,
    /// It ends.
    End(End),
    /// The other side is not there any more; whether it said so by reset.
    Gone { by_reset: bool },
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets all of it, but not a connection's end.
    pub(super) fn clear(&mut self) {
        self.waiting.retain(|waiting| matches!(waiting, Waiting::End(_)));
    }

    pub(super) fn push_bytes(&mut self, more: &[u8]) {
        match self.waiting.back_mut() {
            Some(Waiting::Bytes { bytes, is_segment: false, .. }) => bytes.extend_from_slice(more),
            _ if more.is_empty() => {}
            _ => self.push(more.to_vec(), false),
        }
    }

    /// Whether it was a segment makes a difference only to what is written together with it.
    pub(super) fn push(&mut self, bytes: Vec<u8>, is_segment: bool) {
        if !bytes.is_empty() {
            self.waiting.push_back(Waiting::Bytes { bytes, at: 0, is_segment });
        }
    }

    pub(super) fn push_pause(&mut self, pause: Duration) {
        self.waiting.push_back(Waiting::Pause(pause));
    }

    pub(super) fn push_end(&mut self, end: End) {
        self.waiting.push_back(Waiting::End(end));
    }

    /// Writes what can be written now; `tell` is given what went. Where there is no side any
    /// more, bytes are forgotten in their turn.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        side: Option<&mut (dyn Side + 'static)>,
        throttle: &mut Option<Throttle>,
        tell: &mut dyn FnMut(&[u8]),
    ) -> Poll<Written> {
        let (waiting, mut side) = (&mut self.waiting, side);
        loop {
            match waiting.front_mut() {
                None => {
                    waiting.shrink_to(4);
                    return Poll::Ready(Written::Dry);
                }
                Some(Waiting::End(end)) => {
                    let end = *end;
                    waiting.pop_front();
                    return Poll::Ready(Written::End(end));
                }
                Some(Waiting::Pause(pause)) => {
                    let sleep = Box::pin(tokio::time::sleep(*pause));
                    waiting[0] = Waiting::Pausing(sleep);
                }
                Some(Waiting::Pausing(sleep)) => {
                    ready!(sleep.as_mut().poll(context));
                    waiting.pop_front();
                }
                Some(Waiting::Bytes { bytes, at, .. }) => {
                    let Some(side) = side.as_deref_mut() else {
                        waiting.pop_front();
                        continue;
                    };
                    let mut part = &bytes[*at..];
                    if let Some(throttle) = throttle {
                        ready!(throttle.next.as_mut().poll(context));
                        part = &part[..part.len().min(throttle.portion())];
                    }
                    let count = match ready!(Pin::new(side).poll_write(context, part)) {
                        Ok(count @ 1..) => count,
                        Ok(_) => return Poll::Ready(Written::Gone { by_reset: false }),
                        Err(error) => {
                            let by_reset = error.kind() == ErrorKind::ConnectionReset;
                            return Poll::Ready(Written::Gone { by_reset });
                        }
                    };
                    tell(&part[..count]);
                    if let Some(throttle) = throttle {
                        throttle.wrote(count);
                    }
                    *at += count;
                    if *at == bytes.len() {
                        waiting.pop_front();
                    }
                }
            }
        }
    }
}
