//! Turns the bytes that came in on one side into what goes out on the other.
//!
//! Bytes of frames that nothing is done to leave as ranges of the input, so that they are written
//! from where they were read. The start of every frame is looked at: API, version, correlation id.
//!
//! Never: reads or writes a socket.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use kafka_wire::header::{RequestHeader, decode_response_header};
use kafka_wire::ids::CorrelationId;
use tokio::sync::mpsc;

use super::doors::Door;
use super::errand::Errand;
use super::lane::{About, Lane, State};
use super::naming::naming;
use super::outbox::{Piece, Throttle};
use super::rule::topics::telling;
use super::rule::{Decision, Fired, Interest, Phase, Seen, Wants};
use super::server::Shared;
use super::talk::{Answer, Asked, Head, Request, Talk, request_head, response_head};
use super::tally::Meter;
use crate::history::tap::{Connection, Direction};

/// How much more of a header that came in pieces is looked at each time.
const CARRY_BYTES: usize = 64;
/// A frame this long is worth moving without reading it.
const BULK_BYTES: usize = 64 * 1024;

/// The bytes of one connection.
pub(super) struct Flow {
    pub(super) shared: Arc<Shared>,
    pub(super) door: Arc<Door>,
    pub(super) connection: Connection,
    pub(super) meter: Arc<Meter>,
    pub(super) errands: mpsc::Sender<Errand>,
    pub(super) lanes: [Lane; 2],
    pub(super) talk: Talk,
    /// Set where a rule throttles a direction.
    pub(super) throttles: [Option<Throttle>; 2],
    /// A rule ends the client's side, and the broker's lives on.
    pub(super) drops_client: bool,
}

/// Where in the input the flow is: what is before `run` was handed on.
struct Cursor<'i> {
    input: &'i [u8],
    at: usize,
    run: usize,
}

impl Cursor<'_> {
    /// Hands on what passes so far.
    fn flush(&mut self, pieces: &mut Vec<Piece>) {
        if self.at > self.run {
            pieces.push(Piece::Run(self.run..self.at));
        }
        self.run = self.at;
    }

    /// Goes on by so many bytes, or as far as there are some; they pass.
    fn pass(&mut self, bytes: usize) -> usize {
        let count = bytes.min(self.input.len() - self.at);
        self.at += count;
        count
    }

    /// As [`Cursor::pass`], but they do not pass.
    fn take(&mut self, bytes: usize, pieces: &mut Vec<Piece>) -> Range<usize> {
        self.flush(pieces);
        let from = self.at;
        self.pass(bytes);
        self.run = self.at;
        from..self.at
    }
}

/// The header of a frame of either direction.
#[derive(Clone, Copy)]
enum Peeked {
    Request(Request),
    Response(CorrelationId),
}

fn peek(direction: Direction, bytes: &[u8]) -> Head<Peeked> {
    match direction {
        Direction::Request => request_head(bytes).map(Peeked::Request),
        Direction::Response => response_head(bytes).map(Peeked::Response),
    }
}

impl Flow {
    pub(super) fn lane(&mut self, direction: Direction) -> &mut Lane {
        &mut self.lanes[direction as usize]
    }

    /// Takes in bytes until there are no more or a gate closes; says how many it took.
    pub(super) fn feed(
        &mut self,
        direction: Direction,
        input: &[u8],
        interest: &Interest,
        pieces: &mut Vec<Piece>,
    ) -> usize {
        // What was read while the hole opened is behind it too.
        self.fell_into_hole(direction);
        let mut cursor = Cursor { input, at: 0, run: 0 };
        loop {
            self.answer_ourselves(direction, &mut cursor, pieces);
            let lane = &mut self.lanes[direction as usize];
            if cursor.at == input.len() || lane.gate.is_some() || lane.is_over {
                break;
            }
            match &mut lane.state {
                State::Head => self.head(direction, &mut cursor, interest, pieces),
                State::Pass { left, .. } => {
                    *left -= cursor.pass(*left);
                    if *left == 0 {
                        self.pass_ended(direction, &mut cursor, pieces);
                    }
                }
                State::Discard { left } => {
                    *left -= cursor.take(*left, pieces).len();
                    if *left == 0 {
                        lane.state = State::Head;
                    }
                }
                State::Gather { bytes, left, .. } => {
                    let taken = cursor.take(*left, pieces);
                    *left -= taken.len();
                    bytes.extend_from_slice(&input[taken]);
                    if *left == 0 {
                        self.gathered(direction, interest, pieces);
                    }
                }
                State::Lost => drop(cursor.pass(usize::MAX)),
            }
        }
        cursor.flush(pieces);
        cursor.at
    }

    /// The last byte of a frame passed.
    fn pass_ended(&mut self, way: Direction, cursor: &mut Cursor<'_>, pieces: &mut Vec<Piece>) {
        let lane = self.lane(way);
        let state = std::mem::replace(&mut lane.state, State::Head);
        let end = if let State::Pass { then, .. } = state { then } else { None };
        if end.is_none() && lane.overtaken.is_empty() {
            return;
        }
        cursor.flush(pieces);
        match end {
            Some(end) => self.end(way, end, pieces),
            None => self.overtook(way, pieces),
        }
    }

    /// The last byte of a gathered frame came.
    fn gathered(&mut self, way: Direction, interest: &Interest, pieces: &mut Vec<Piece>) {
        let state = std::mem::replace(&mut self.lane(way).state, State::Head);
        if let State::Gather { about, bytes, .. } = state {
            self.whole(way, about, Cow::Owned(bytes), interest, pieces);
        }
    }

    /// Reads the start of a frame and decides how the rest of it goes.
    fn head(
        &mut self,
        way: Direction,
        cursor: &mut Cursor<'_>,
        interest: &Interest,
        pieces: &mut Vec<Piece>,
    ) {
        let rest = &cursor.input[cursor.at..];
        let carry = &self.lanes[way as usize].carry;
        match peek(way, if carry.is_empty() { rest } else { carry }) {
            Head::Frame(total, peeked) => self.begin(way, total, peeked, cursor, interest, pieces),
            Head::More(limit) => {
                let missing = limit.saturating_sub(carry.len()).min(CARRY_BYTES);
                let taken = cursor.take(missing, pieces);
                self.lane(way).carry.extend_from_slice(&cursor.input[taken]);
            }
            Head::Lost(length) => {
                self.tell_tap(way, &format!("length {length}: frames cannot be told apart"));
                self.lane(way).state = State::Lost;
                self.pass_carry(way, pieces);
            }
        }
    }

    /// A frame begins whose header is known.
    fn begin(
        &mut self,
        way: Direction,
        total: usize,
        peeked: Option<Peeked>,
        cursor: &mut Cursor<'_>,
        interest: &Interest,
        pieces: &mut Vec<Piece>,
    ) {
        let rest = &cursor.input[cursor.at..];
        self.meter.frame(way);
        let Some(about) = self.understand(way, total, peeked) else {
            // The broker answers what the client did not ask.
            let carried = std::mem::take(&mut self.lane(way).carry).len();
            self.lane(way).state = State::Discard { left: total - carried };
            return self.settle(way, interest, pieces);
        };
        let wants = self.wants(way, &about, interest);
        let must_see = wants != Wants::Nothing || self.names(way, &about);
        let carried = self.lane(way).carry.len();
        if must_see && total > self.shared.limits.gathered_bytes_max {
            return self.large(way, about, total, wants, pieces);
        }
        if !must_see {
            self.pass_carry(way, pieces);
            self.goes(way, about);
            self.lane(way).state = State::Pass { left: total - carried, then: None };
            self.lane(way).is_bulky = total >= BULK_BYTES;
        } else if carried == 0 && rest.len() >= total {
            // It is all here: no copy is made unless it changes.
            cursor.flush(pieces);
            cursor.at += total;
            let frame = Cow::Borrowed(&rest[..total]);
            if !self.whole(way, about, frame, interest, pieces) {
                cursor.run = cursor.at;
            }
            return;
        } else {
            let bytes = std::mem::take(&mut self.lane(way).carry);
            self.lane(way).state = State::Gather { about, bytes, left: total - carried };
        }
        self.settle(way, interest, pieces);
    }

    /// Begins a large frame of which only the first bytes were looked at and none was taken; says
    /// whether it is one. Nothing has happened where it is not.
    pub(super) fn foresee(
        &mut self,
        way: Direction,
        start: &[u8],
        interest: &Interest,
        pieces: &mut Vec<Piece>,
    ) -> bool {
        match peek(way, start) {
            Head::Frame(total @ BULK_BYTES.., peeked) => {
                let mut nothing = Cursor { input: &[], at: 0, run: 0 };
                self.begin(way, total, peeked, &mut nothing, interest, pieces);
                true
            }
            _ => false,
        }
    }

    /// How many bytes pass yet that nobody needs to see.
    pub(super) fn unseen(&self, way: Direction) -> Option<usize> {
        match self.lanes[way as usize].state {
            State::Pass { left, then: None } => Some(left),
            _ => None,
        }
    }

    /// So many of them passed.
    pub(super) fn passed_unseen(&mut self, way: Direction, count: usize, pieces: &mut Vec<Piece>) {
        let mut nothing = Cursor { input: &[], at: 0, run: 0 };
        if let State::Pass { left, .. } = &mut self.lane(way).state {
            *left -= count;
            if *left == 0 {
                self.pass_ended(way, &mut nothing, pieces);
            }
        }
    }

    /// Ends the frame where its header was all of it.
    fn settle(&mut self, way: Direction, interest: &Interest, pieces: &mut Vec<Piece>) {
        match self.lane(way).state {
            State::Gather { left: 0, .. } => self.gathered(way, interest, pieces),
            State::Pass { left: 0, .. } => {
                let mut nothing = Cursor { input: &[], at: 0, run: 0 };
                self.pass_ended(way, &mut nothing, pieces);
            }
            State::Discard { left: 0 } => self.lane(way).state = State::Head,
            _ => {}
        }
    }

    /// The beginning of the frame, which was kept until its header was whole, goes.
    fn pass_carry(&mut self, way: Direction, pieces: &mut Vec<Piece>) {
        let carry = std::mem::take(&mut self.lane(way).carry);
        if !carry.is_empty() {
            pieces.push(Piece::Own(carry));
        }
    }

    /// What a frame is about; absent where the other side is not to hear it.
    fn understand(
        &mut self,
        way: Direction,
        total: usize,
        peeked: Option<Peeked>,
    ) -> Option<About> {
        match (way, peeked) {
            (Direction::Request, Some(Peeked::Request(request))) => {
                let is_token = self.talk.is_token(total, Some(&request));
                let request = Some(request).filter(|_| !is_token);
                Some(About { request, remembered: None })
            }
            (Direction::Request, _) => {
                self.talk.is_token(total, None);
                Some(About::default())
            }
            (Direction::Response, peeked) => {
                let id = match peeked {
                    Some(Peeked::Response(id)) => Some(id),
                    _ => None,
                };
                match self.talk.answered(id) {
                    None => Some(About::default()),
                    Some(asked) if asked.answer == Answer::Swallowed => None,
                    Some(Asked { request, remembered, .. }) => {
                        Some(About { request: Some(request), remembered })
                    }
                }
            }
        }
    }

    /// How much of a frame the rules want to see.
    fn wants(&self, way: Direction, about: &About, interest: &Interest) -> Wants {
        let Some(request) = about.request.filter(|_| !interest.is_empty()) else {
            return Wants::Nothing;
        };
        let (broker, connection) = (self.door.node_id(), self.connection);
        interest.wants(way, broker, connection, request.api_key, request.api_version)
    }

    /// Whether a frame may say where a broker is, or which topic an id names.
    fn names(&self, way: Direction, about: &About) -> bool {
        let request = about.request.filter(|_| way == Direction::Response);
        request.is_some_and(|Request { api_key, api_version, .. }| {
            naming(api_key).is_some_and(|naming| naming.is_possible(api_version))
                || telling(api_key).is_some_and(|telling| telling.is_possible(api_version))
        })
    }

    /// A whole frame: rules see it, names in it are changed. Says whether it passes as it is, by
    /// whoever has it; else what becomes of it is among the pieces.
    fn whole(
        &mut self,
        way: Direction,
        about: About,
        frame: Cow<'_, [u8]>,
        interest: &Interest,
        pieces: &mut Vec<Piece>,
    ) -> bool {
        let mut about = about;
        let fired = match self.wants(way, &about, interest) {
            Wants::Nothing => None,
            wants => self.decide(way, &mut about, &frame, wants),
        };
        self.learn(way, &about, &frame);
        let frame = match self.renamed(way, &about, &frame) {
            Some(renamed) => Cow::Owned(renamed),
            None => frame,
        };
        match (fired, frame) {
            (Some(fired), frame) => self.act(way, fired, about, frame.into_owned(), pieces),
            (None, Cow::Owned(bytes)) => self.emit(way, about, bytes, pieces),
            (None, Cow::Borrowed(bytes)) if !self.lane(way).overtaken.is_empty() => {
                self.emit(way, about, bytes.to_vec(), pieces);
            }
            (None, Cow::Borrowed(_)) => {
                self.goes(way, about);
                return true;
            }
        }
        false
    }

    /// Asks the rules about a frame, of which there may be only the beginning.
    pub(super) fn decide(
        &self,
        way: Direction,
        about: &mut About,
        frame: &[u8],
        wants: Wants,
    ) -> Option<Fired> {
        let request = about.request?;
        let bytes = frame.get(4..).unwrap_or_default();
        let (client_id, body_at) = self.header(way, request, bytes);
        let seen = Seen {
            broker: self.door.node_id(),
            connection: self.connection,
            direction: way,
            api_key: request.api_key,
            api_version: request.api_version,
            correlation_id: request.correlation_id,
            client_id,
            body: body_at.and_then(|at| bytes.get(at..)).filter(|_| wants == Wants::Body),
            request: about.remembered.as_ref().filter(|_| way == Direction::Response),
        };
        let Decision { fired, remembered } = self.shared.board.decide(&seen);
        if way == Direction::Request {
            about.remembered = remembered;
        }
        fired
    }

    /// The client id of a request, and where the body of a frame begins, its prefix not counted.
    pub(super) fn header<'f>(
        &self,
        way: Direction,
        request: Request,
        frame: &'f [u8],
    ) -> (Option<&'f [u8]>, Option<usize>) {
        match way {
            Direction::Request => match RequestHeader::decode(frame) {
                Ok((header, body_at)) => (header.client_id, Some(body_at)),
                Err(_) => (None, None),
            },
            Direction::Response => {
                let header = decode_response_header(frame, request.api_key, request.api_version);
                (None, header.ok().map(|(_, body_at)| body_at))
            }
        }
    }

    /// Takes in what a frame says about topics.
    fn learn(&self, way: Direction, about: &About, frame: &[u8]) {
        let Some(request) = about.request.filter(|_| way == Direction::Response) else { return };
        let Some(telling) = telling(request.api_key) else { return };
        let bytes = frame.get(4..).unwrap_or_default();
        if let (_, Some(body_at)) = self.header(way, request, bytes) {
            let told = telling.read(&bytes[body_at..], request.api_version);
            self.shared.board.learn(&told);
        }
    }

    /// The frame with our doors for the brokers it names; absent where it names none.
    fn renamed(&self, way: Direction, about: &About, frame: &[u8]) -> Option<Vec<u8>> {
        let request = about.request.filter(|_| way == Direction::Response)?;
        let naming = naming(request.api_key)?;
        let instead = |named, old: &_| self.shared.doors.instead(named, old);
        let body = frame.get(4..)?;
        let new = naming.rewritten(body, request.api_key, request.api_version, instead)?;
        let mut renamed = i32::try_from(new.len()).ok()?.to_be_bytes().to_vec();
        renamed.extend_from_slice(&new);
        Some(renamed)
    }

    /// A frame begins to go to the other side.
    pub(super) fn goes(&mut self, way: Direction, about: About) {
        if let (Direction::Request, Some(request)) = (way, about.request) {
            self.talk.sent(request, about.remembered, Answer::Theirs);
        }
    }

    /// A frame goes to the other side, and with it those that let it overtake.
    pub(super) fn emit(
        &mut self,
        way: Direction,
        about: About,
        bytes: Vec<u8>,
        pieces: &mut Vec<Piece>,
    ) {
        self.goes(way, about);
        pieces.push(Piece::Own(bytes));
        self.overtook(way, pieces);
    }

    /// Our answers, where it is their turn and no frame is in the middle.
    fn answer_ourselves(
        &mut self,
        way: Direction,
        cursor: &mut Cursor<'_>,
        pieces: &mut Vec<Piece>,
    ) {
        if way != Direction::Response || !self.lane(way).is_between_frames() {
            return;
        }
        while let Some(answer) = self.talk.own_answer() {
            cursor.flush(pieces);
            pieces.push(Piece::Own(answer));
        }
    }

    /// Whether an answer of our own is to go out now.
    pub(super) fn is_own_answer_due(&mut self, way: Direction) -> bool {
        way == Direction::Response
            && self.lane(way).is_between_frames()
            && self.lane(way).gate.is_none()
            && self.talk.is_own_answer_next()
    }

    /// The source of a lane has nothing more: what was kept back goes, torn as it may be.
    pub(super) fn source_ended(&mut self, way: Direction, pieces: &mut Vec<Piece>) {
        let lane = self.lane(way);
        if let State::Gather { bytes, .. } = std::mem::replace(&mut lane.state, State::Head) {
            pieces.push(Piece::Own(bytes));
        }
        self.pass_carry(way, pieces);
        self.let_overtaken_go(way, pieces);
    }

    /// A comment in the capture.
    pub(super) fn tell_tap(&self, way: Direction, text: &str) {
        if let Some(tap) = &self.shared.tap {
            tap.action(self.connection, way, self.shared.clock.unix_ns(), text);
        }
    }

    /// Says what was done, to who keeps the rules and to the capture.
    pub(super) fn tell(&self, fired: &Fired, phase: Phase, detail: &str) {
        self.shared.board.acted(fired, phase, detail);
        let mut text = fired.to_string();
        if phase == Phase::Ended {
            text.push_str(": over");
        }
        if !detail.is_empty() {
            text.push_str(": ");
            text.push_str(detail);
        }
        self.tell_tap(fired.direction, &text);
    }
}
