//! One connection: two sockets, and what flows between them.
//!
//! A single task polls both. What is read goes into the worker's buffer, is cut into frames where
//! it lies, and is written from there; only what the other side does not take now is copied.
//!
//! Never: reads from a side while something waits to be written to the other.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::doors::Door;
use super::errand::Errand;
use super::flow::Flow;
use super::lane::Lane;
use super::outbox::{End, Outbox, Piece, Written};
use super::pipe::Pipe;
use super::rule::{Board, Interest, Phase};
use super::server::Shared;
use super::talk::Talk;
use super::tally::Meter;
use super::transport::Side;
use crate::history::tap::{Connection, Direction};

/// Bytes read at once.
pub(super) const BUFFER_BYTES: usize = 256 * 1024;
/// Turns of a connection before others have theirs.
const TURNS_MAX: usize = 8;

const WAYS: [Direction; 2] = [Direction::Request, Direction::Response];
const CLIENT: usize = 0;

/// What the connections of a worker share.
pub(super) struct Scratch {
    buffer: Box<[u8]>,
    /// Absent before the first large frame, and where the system has none.
    pub(super) pipe: Option<Pipe>,
    pub(super) pieces: Vec<Piece>,
    /// What the rules ask of frames, as of that revision.
    pub(super) interest: Interest,
    revision: Option<u64>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        let interest = Interest::default();
        Self { buffer, pipe: None, pieces: Vec::new(), interest, revision: None }
    }

    /// Learns of new rules. Whoever makes one and then sends a frame expects it to be seen: this is
    /// asked after bytes came, and before they are looked at.
    pub(super) fn refresh(&mut self, board: &Board) {
        let revision = board.revision();
        if self.revision != Some(revision) {
            self.interest = board.interest();
            self.revision = Some(revision);
        }
    }
}

/// One connection, done when both of its sides are.
pub(super) struct Link {
    pub(super) flow: Flow,
    /// The client and the broker; absent when gone.
    pub(super) ends: [Option<Box<dyn Side>>; 2],
    /// Whether that end will say nothing more.
    heard_all: [bool; 2],
    /// Whether that end was told that nothing more comes.
    told_all: [bool; 2],
    /// By direction, as all that follows.
    pub(super) outboxes: [Outbox; 2],
    /// What came behind a frame that is kept back.
    parked: [Vec<u8>; 2],
    scratch: Arc<Mutex<Scratch>>,
    linger: Option<Pin<Box<Sleep>>>,
    cut: Option<End>,
    /// Whether that end went by reset.
    were_reset: [bool; 2],
    /// Whose end closed first.
    closed_by: Option<Direction>,
    is_closed: bool,
}

impl Link {
    pub(super) fn new(
        shared: Arc<Shared>,
        door: Arc<Door>,
        (connection, meter): (Connection, Arc<Meter>),
        errands: mpsc::Sender<Errand>,
        [client, broker]: [Box<dyn Side>; 2],
        scratch: Arc<Mutex<Scratch>>,
    ) -> Self {
        let flow = Flow {
            shared,
            door,
            connection,
            meter,
            errands,
            lanes: [Lane::new(), Lane::new()],
            talk: Talk::new(),
            throttles: [None, None],
            drops_client: false,
        };
        Self {
            flow,
            ends: [Some(client), Some(broker)],
            heard_all: [false; 2],
            told_all: [false; 2],
            outboxes: Default::default(),
            parked: Default::default(),
            scratch,
            linger: None,
            cut: None,
            were_reset: [false; 2],
            closed_by: None,
            is_closed: false,
        }
    }

    /// Moves what can be moved one way; says whether anything did.
    fn pump(&mut self, way: Direction, context: &mut Context<'_>, scratch: &mut Scratch) -> bool {
        let lane = way as usize;
        if let Some(sink) = &mut self.ends[1 - lane]
            && sink.poll_settled(context).is_pending()
        {
            return false;
        }
        let mut moved = self.write_out(way, context);
        if self.cut.is_some() || !self.outboxes[lane].is_empty() {
            return moved;
        }
        moved |= self.flow.tend(way, context, &mut scratch.pieces);
        self.hand_on(way, &[], context, &mut scratch.pieces);
        if !self.parked[lane].is_empty() || self.flow.is_own_answer_due(way) {
            let parked = std::mem::take(&mut self.parked[lane]);
            let before = parked.len();
            self.take_in(way, &parked, context, &scratch.interest, &mut scratch.pieces);
            moved |= self.parked[lane].len() != before || before == 0;
        }
        if self.is_kept_back(way) {
            return moved;
        }
        moved
            | if self.heard_all[lane] {
                self.end(way, context, scratch)
            } else {
                self.read(way, context, scratch)
            }
    }

    /// Whether something must happen before more can be taken in.
    fn is_kept_back(&mut self, way: Direction) -> bool {
        let (lane, outbox) = (way as usize, &self.outboxes[way as usize]);
        !outbox.is_empty()
            || !self.parked[lane].is_empty()
            || self.flow.lane(way).gate.is_some()
            || self.flow.lane(way).is_over
            || self.cut.is_some()
    }

    fn read(&mut self, way: Direction, context: &mut Context<'_>, scratch: &mut Scratch) -> bool {
        if let Some(moved) = self.move_unseen(way, context, scratch) {
            return moved;
        }
        let source = way as usize;
        let Some(side) = &mut self.ends[source] else { return false };
        let mut buffer = ReadBuf::new(&mut scratch.buffer);
        let read = Pin::new(side).poll_read(context, &mut buffer);
        let count = buffer.filled().len();
        match read {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if count > 0 => {}
            Poll::Ready(Ok(())) => self.heard_last(way),
            Poll::Ready(Err(error)) => self.broke(source, error.kind()),
        }
        if count == 0 {
            return true;
        }
        let flow = &self.flow;
        flow.meter.bytes(way, count);
        if way == Direction::Request
            && let Some(tap) = &flow.shared.tap
        {
            let now = flow.shared.clock.unix_ns();
            tap.bytes(flow.connection, way, now, &scratch.buffer[..count]);
        }
        scratch.refresh(&self.flow.shared.board);
        let Scratch { buffer, pieces, interest, .. } = scratch;
        self.take_in(way, &buffer[..count], context, interest, pieces);
        true
    }

    fn take_in(
        &mut self,
        way: Direction,
        input: &[u8],
        context: &mut Context<'_>,
        interest: &Interest,
        pieces: &mut Vec<Piece>,
    ) {
        let taken = self.flow.feed(way, input, interest, pieces);
        self.hand_on(way, input, context, pieces);
        if taken < input.len() && !self.flow.lane(way).is_over {
            self.parked[way as usize] = input[taken..].to_vec();
        }
        if std::mem::take(&mut self.flow.drops_client) {
            if let Some(client) = &self.ends[CLIENT] {
                client.end_by_reset();
            }
            self.closed_by.get_or_insert(Direction::Response);
            self.tell_closed(true);
            self.lost(CLIENT);
        }
    }

    /// Writes pieces, or keeps for later what cannot be written now.
    pub(super) fn hand_on(
        &mut self,
        way: Direction,
        input: &[u8],
        context: &mut Context<'_>,
        pieces: &mut Vec<Piece>,
    ) {
        for piece in pieces.drain(..) {
            match piece {
                Piece::Run(range) => self.write(way, &input[range], context),
                Piece::Own(bytes) => self.write(way, &bytes, context),
                Piece::Segment(bytes) => self.outboxes[way as usize].push(bytes, true),
                Piece::Pause(pause) => self.outboxes[way as usize].push_pause(pause),
                Piece::End(end) => self.outboxes[way as usize].push_end(end),
            }
        }
    }

    fn write(&mut self, way: Direction, bytes: &[u8], context: &mut Context<'_>) {
        let (lane, sink, mut rest) = (way as usize, 1 - way as usize, bytes);
        let may_pass = self.outboxes[lane].is_empty() && self.flow.throttles[lane].is_none();
        while may_pass && !rest.is_empty() {
            let Some(side) = &mut self.ends[sink] else { return };
            match Pin::new(side).poll_write(context, rest) {
                Poll::Pending => break,
                Poll::Ready(Ok(count @ 1..)) => {
                    self.tell_written(way, &rest[..count]);
                    rest = &rest[count..];
                }
                Poll::Ready(Ok(_)) => return self.lost(sink),
                Poll::Ready(Err(error)) => return self.broke(sink, error.kind()),
            }
        }
        if self.ends[sink].is_some() {
            self.outboxes[lane].push_bytes(rest);
        }
    }

    /// Writes what waits; says whether anything changed.
    fn write_out(&mut self, way: Direction, context: &mut Context<'_>) -> bool {
        let (lane, sink) = (way as usize, 1 - way as usize);
        self.end_throttle(way);
        let mut moved = false;
        while !self.outboxes[lane].is_empty() {
            let Self { flow, outboxes, ends, .. } = self;
            let tap = flow.shared.tap.as_ref().filter(|_| way == Direction::Response);
            let (clock, connection) = (&flow.shared.clock, flow.connection);
            let mut tell = |bytes: &[u8]| {
                if let Some(tap) = tap {
                    tap.bytes(connection, way, clock.unix_ns(), bytes);
                }
            };
            let throttle = &mut flow.throttles[lane];
            let side = ends[sink].as_deref_mut();
            match outboxes[lane].poll_write(context, side, throttle, &mut tell) {
                Poll::Pending => break,
                Poll::Ready(Written::Dry) => {}
                Poll::Ready(Written::Gone { by_reset }) => {
                    self.were_reset[sink] = by_reset;
                    self.lost(sink);
                }
                Poll::Ready(Written::End(End::HalfClose)) => self.tell_last(way, context),
                Poll::Ready(Written::End(end)) => {
                    self.cut = Some(end);
                    return true;
                }
            }
            moved = true;
        }
        moved
    }

    fn end_throttle(&mut self, way: Direction) {
        let throttle = &mut self.flow.throttles[way as usize];
        let board = &self.flow.shared.board;
        if let Some(over) = throttle.take_if(|throttle| board.has_ended(throttle.fired.ticket)) {
            self.flow.tell(&over.fired, Phase::Ended, "");
        }
    }

    fn tell_written(&self, way: Direction, bytes: &[u8]) {
        if let Some(tap) = self.flow.shared.tap.as_ref().filter(|_| way == Direction::Response) {
            tap.bytes(self.flow.connection, way, self.flow.shared.clock.unix_ns(), bytes);
        }
    }

    /// An end said its last.
    pub(super) fn heard_last(&mut self, way: Direction) {
        self.heard_all[way as usize] = true;
        self.closed_by.get_or_insert(way);
    }

    /// An end failed.
    pub(super) fn broke(&mut self, end: usize, how: ErrorKind) {
        self.were_reset[end] = how == ErrorKind::ConnectionReset;
        self.lost(end);
    }

    /// An end is not there any more.
    fn lost(&mut self, end: usize) {
        self.closed_by.get_or_insert(WAYS[end]);
        self.ends[end] = None;
        self.heard_all[end] = true;
        self.told_all[end] = true;
        self.outboxes[1 - end].clear();
        if end == CLIENT {
            self.tell_closed(self.were_reset[CLIENT]);
        }
    }

    /// Nothing more comes from one end: the other is told when all that came is with it.
    fn end(&mut self, way: Direction, context: &mut Context<'_>, scratch: &mut Scratch) -> bool {
        let sink = 1 - way as usize;
        if self.told_all[sink] {
            return false;
        }
        self.flow.source_ended(way, &mut scratch.pieces);
        if !scratch.pieces.is_empty() {
            self.hand_on(way, &[], context, &mut scratch.pieces);
            return true;
        }
        let lane = self.flow.lane(way);
        if !lane.late.is_empty() {
            return false;
        }
        // What was kept back until its client had given up is answered before the broker is told
        // that nobody listens: a request that arrives with the end of its connection may be
        // thrown away with it.
        let lingers = way == Direction::Request && lane.was_held && self.flow.talk.waits();
        if lingers && !self.heard_all[sink] {
            let linger = self.flow.shared.limits.linger;
            let sleep = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(linger)));
            if sleep.as_mut().poll(context).is_pending() {
                return false;
            }
        }
        self.tell_last(way, context);
        true
    }

    /// Tells the end that a direction leads to that nothing more comes: by reset where that is how
    /// it was learnt.
    fn tell_last(&mut self, way: Direction, context: &mut Context<'_>) {
        let (source, sink) = (way as usize, 1 - way as usize);
        self.told_all[sink] = true;
        if self.were_reset[source] {
            if let Some(side) = &self.ends[sink] {
                side.end_by_reset();
            }
            self.were_reset[sink] = true;
            return self.lost(sink);
        }
        if let Some(side) = &mut self.ends[sink] {
            // A socket's is done at once; of one that fails nothing more is to be told.
            drop(Pin::new(side).poll_shutdown(context));
        }
    }

    /// Whether nothing is to be moved any more.
    fn is_over(&self) -> bool {
        self.cut.is_some() || self.told_all == [true; 2]
    }

    /// Ready when both sides took their leave, where their transport has such a thing.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut is_pending = false;
        if self.cut != Some(End::Reset) {
            for side in self.ends.iter_mut().flatten() {
                is_pending |= side.poll_left(context).is_pending();
            }
        }
        if is_pending { Poll::Pending } else { Poll::Ready(()) }
    }

    fn tell_closed(&mut self, is_reset: bool) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        let (shared, connection) = (&self.flow.shared, self.flow.connection);
        if let Some(tap) = &shared.tap {
            let (by, now) = (self.closed_by.unwrap_or(Direction::Response), shared.clock.unix_ns());
            match is_reset {
                true => tap.reset(connection, by, now),
                false => tap.closed(connection, by, now),
            }
        }
    }
}

impl Future for Link {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let scratch = this.scratch.clone();
        let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
        scratch.refresh(&this.flow.shared.board);
        for _ in 0..TURNS_MAX {
            if this.is_over() {
                return this.poll_left(context);
            }
            let mut moved = false;
            for way in WAYS {
                moved |= this.pump(way, context, &mut scratch);
            }
            if !moved && !this.is_over() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.cut == Some(End::Reset) {
            self.ends.iter().flatten().for_each(|side| side.end_by_reset());
        }
        self.tell_closed(self.cut == Some(End::Reset));
        self.flow.let_go();
        self.flow.shared.board.closed(self.flow.connection);
        self.flow.shared.tally.closed(self.flow.connection);
    }
}
