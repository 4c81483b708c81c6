//! One direction of a connection: where in a frame it is, and what is kept back.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::{Instant, Sleep};

use super::outbox::End;
use super::rule::{Board, Fired, Remembered, Ticket};
use super::talk::Request;

/// Frames that may be kept back to come later, for each direction.
pub(super) const KEPT_FRAMES_MAX: usize = 64;

/// Something that is waited for.
pub(super) type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a frame is about: a request's own header, or for a response that of its request.
#[derive(Debug, Default)]
pub(super) struct About {
    /// Absent for SASL tokens, for what answers nothing and for what is too short.
    pub(super) request: Option<Request>,
    pub(super) remembered: Option<Remembered>,
}

/// Where in a frame the lane is.
#[derive(Debug)]
pub(super) enum State {
    /// Between two frames, or in the header of one.
    Head,
    /// So many bytes of the frame still pass, and then perhaps comes the end of it all.
    Pass { left: usize, then: Option<End> },
    /// So many bytes of the frame are not forwarded.
    Discard { left: usize },
    /// The frame is gathered; so many bytes are missing.
    Gather { about: About, bytes: Vec<u8>, left: usize },
    /// Where frames begin is not known any more: everything passes.
    Lost,
}

/// Nothing passes before it opens.
pub(super) struct Gate {
    pub(super) waiting: Waiting,
    /// What closed it, to say when it opens.
    pub(super) fired: Option<Fired>,
    /// The frame, or the beginning of it, that goes first then.
    pub(super) frame: Option<(About, Vec<u8>)>,
}

/// A frame that comes once more.
pub(super) struct Late {
    pub(super) due: Pin<Box<Sleep>>,
    pub(super) fired: Fired,
    pub(super) about: About,
    pub(super) bytes: Vec<u8>,
}

/// A frame that others overtake.
pub(super) struct Overtaken {
    pub(super) by: u32,
    pub(super) fired: Fired,
    pub(super) about: About,
    pub(super) bytes: Vec<u8>,
}

/// One direction.
pub(super) struct Lane {
    pub(super) state: State,
    /// The beginning of a header that came in pieces.
    pub(super) carry: Vec<u8>,
    pub(super) gate: Option<Gate>,
    pub(super) late: VecDeque<Late>,
    pub(super) overtaken: Vec<Overtaken>,
    /// Nothing passes any more.
    pub(super) is_over: bool,
    /// A rule kept something back: what comes of it is waited for a little at the end.
    pub(super) was_held: bool,
    /// The last frame that passed was a large one: so may be the next.
    pub(super) is_bulky: bool,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            state: State::Head,
            carry: Vec::new(),
            gate: None,
            late: VecDeque::new(),
            overtaken: Vec::new(),
            is_over: false,
            was_held: false,
            is_bulky: false,
        }
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Head) && self.carry.is_empty()
    }

    /// How many bytes are kept back to come later.
    pub(super) fn bytes_kept(&self) -> usize {
        let late = self.late.iter().map(|late| late.bytes.len());
        late.chain(self.overtaken.iter().map(|frame| frame.bytes.len())).sum()
    }
}

/// Waits until what fired is to last no longer, or until its time is over.
pub(super) fn until_over(board: &Arc<Board>, ticket: Ticket, until: Option<Instant>) -> Waiting {
    let board = board.clone();
    Box::pin(async move {
        let ended = board.until_ended(ticket);
        match until {
            None => ended.await,
            Some(until) => tokio::select! {
                () = ended => {}
                () = tokio::time::sleep_until(until) => {}
            },
        }
    })
}
