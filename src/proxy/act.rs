//! Does to a frame what a rule says.
//!
//! Never: decides whether; that was [`super::rule`].

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::errand::{Errand, Hole};
use super::flow::Flow;
use super::lane::{About, Gate, KEPT_FRAMES_MAX, Late, Overtaken, State, until_over};
use super::outbox::{End, Piece, Throttle};
use super::rule::forge::{Message, altered, answer};
use super::rule::{Action, Alteration, Cut, Duplicate, Fired, Forgery, Phase, Wants};
use super::talk::{Answer, Head, request_head};
use crate::history::tap::Direction;

impl Flow {
    /// Does it to a whole frame.
    pub(super) fn act(
        &mut self,
        way: Direction,
        fired: Fired,
        about: About,
        frame: Vec<u8>,
        pieces: &mut Vec<Piece>,
    ) {
        let rule = fired.rule.clone();
        match &rule.action {
            Action::Hold { .. } | Action::Delay { .. } => self.hold(way, fired, about, frame),
            Action::Drop => self.tell(&fired, Phase::Began, ""),
            Action::Duplicate(duplicate) => {
                self.duplicate(way, fired, *duplicate, about, frame, pieces);
            }
            Action::Reorder { behind } => self.reorder(way, fired, *behind, about, frame, pieces),
            Action::Cut(cut) => self.cut(way, &fired, *cut, about, frame, pieces),
            Action::BlackHole { both, .. } => {
                self.open_hole(way, &fired, *both);
                self.close_gate(way, None, Some((about, frame)), fired.wait(), fired.ticket);
            }
            Action::Throttle { bytes_per_s } => {
                self.throttle(way, fired, *bytes_per_s);
                self.emit(way, about, frame, pieces);
            }
            Action::Slice { sizes, pause } => {
                self.tell(&fired, Phase::Began, "");
                self.goes(way, about);
                slice(&frame, sizes, *pause, pieces);
                self.overtook(way, pieces);
            }
            Action::Mutate(alterations) => {
                self.mutate(way, &fired, alterations, about, &frame, pieces);
            }
            Action::Respond(forgery) => self.respond(way, &fired, forgery, about, frame, pieces),
        }
    }

    /// Does it to a frame that is too large to be gathered, as far as that is possible.
    pub(super) fn large(
        &mut self,
        way: Direction,
        mut about: About,
        total: usize,
        wants: Wants,
        pieces: &mut Vec<Piece>,
    ) {
        let fired = match wants {
            Wants::Nothing => None,
            _ => self.decide(way, &mut about, &[], Wants::Header),
        };
        let carry = std::mem::take(&mut self.lane(way).carry);
        let left = total - carry.len();
        self.lane(way).state = State::Pass { left, then: None };
        let Some(fired) = fired else {
            self.goes(way, about);
            return pieces.push(Piece::Own(carry));
        };
        let rule = fired.rule.clone();
        match &rule.action {
            // What came of it waits, and so does the rest: nobody reads it.
            Action::Hold { .. } | Action::Delay { .. } => self.hold(way, fired, about, carry),
            Action::Drop => {
                self.tell(&fired, Phase::Began, "");
                self.lane(way).state = State::Discard { left };
            }
            Action::BlackHole { both, .. } => {
                self.open_hole(way, &fired, *both);
                self.close_gate(way, None, Some((about, carry)), fired.wait(), fired.ticket);
            }
            Action::Throttle { bytes_per_s } => {
                self.throttle(way, fired, *bytes_per_s);
                self.goes(way, about);
                pieces.push(Piece::Own(carry));
            }
            Action::Cut(cut) if !matches!(cut, Cut::DeliverLater { .. }) => {
                self.tell(&fired, Phase::Began, "");
                self.cut_within(way, *cut, about, (carry, total), pieces);
            }
            _ => {
                self.tell(&fired, Phase::Began, "not done: the frame is too large to be kept");
                self.goes(way, about);
                pieces.push(Piece::Own(carry));
            }
        }
    }

    fn hold(&mut self, way: Direction, fired: Fired, about: About, frame: Vec<u8>) {
        self.tell(&fired, Phase::Began, "");
        let (wait, ticket) = (fired.wait(), fired.ticket);
        self.close_gate(way, Some(fired), Some((about, frame)), wait, ticket);
    }

    fn close_gate(
        &mut self,
        way: Direction,
        fired: Option<Fired>,
        frame: Option<(About, Vec<u8>)>,
        wait: Option<Duration>,
        ticket: super::rule::Ticket,
    ) {
        let until = wait.map(|wait| Instant::now() + wait);
        let waiting = until_over(&self.shared.board, ticket, until);
        let lane = self.lane(way);
        lane.was_held = true;
        lane.gate = Some(Gate { waiting, fired, frame });
    }

    /// Lets go what is due: a gate that may open, frames that come late. Says whether something
    /// changed.
    pub(super) fn tend(
        &mut self,
        way: Direction,
        context: &mut Context<'_>,
        pieces: &mut Vec<Piece>,
    ) -> bool {
        let mut changed = false;
        let lane = self.lane(way);
        if let Some(gate) = &mut lane.gate {
            if gate.waiting.as_mut().poll(context).is_pending() {
                return false;
            }
            let gate = lane.gate.take();
            self.open_gate(way, gate, pieces);
            changed = true;
        } else if self.fell_into_hole(way) {
            return true;
        }
        while self.lane(way).is_between_frames() {
            let Some(late) = self.lane(way).late.front_mut() else { break };
            if late.due.as_mut().poll(context).is_pending() {
                break;
            }
            let late = self.lane(way).late.pop_front().expect("one is at the front");
            self.tell(&late.fired, Phase::Ended, "");
            self.emit_copy(way, late.about, late.bytes, pieces);
            changed = true;
        }
        changed
    }

    /// Whether a black hole over the broker has closed the gate just now.
    pub(super) fn fell_into_hole(&mut self, way: Direction) -> bool {
        if self.lane(way).gate.is_some() {
            return false;
        }
        let hole = self.shared.holes.over(&self.door, way);
        let Some(hole) = hole.filter(|hole| !self.shared.board.has_ended(hole.ticket)) else {
            return false;
        };
        self.close_gate(way, None, None, hole.wait(), hole.ticket);
        true
    }

    fn open_gate(&mut self, way: Direction, gate: Option<Gate>, pieces: &mut Vec<Piece>) {
        let Some(Gate { fired, frame, .. }) = gate else { return };
        if let Some(fired) = fired {
            self.tell(&fired, Phase::Ended, "");
        }
        let Some((about, bytes)) = frame else { return };
        // Of a frame too large to be gathered only the beginning was kept: the rest follows.
        let is_whole = self.lane(way).is_between_frames();
        self.goes(way, about);
        pieces.push(Piece::Own(bytes));
        if is_whole {
            self.overtook(way, pieces);
        }
    }

    fn duplicate(
        &mut self,
        way: Direction,
        fired: Fired,
        Duplicate { after, elsewhere }: Duplicate,
        about: About,
        frame: Vec<u8>,
        pieces: &mut Vec<Piece>,
    ) {
        let copy = About { request: about.request, remembered: None };
        if elsewhere {
            let (door, bytes) = (self.door.clone(), frame.clone());
            let errand = Errand::Deliver { door, bytes, after, fired: fired.clone() };
            self.tell(&fired, Phase::Began, "");
            if self.errands.try_send(errand).is_err() {
                self.tell(&fired, Phase::Ended, "not done: too many");
            }
            return self.emit(way, about, frame, pieces);
        }
        if after.is_zero() {
            self.tell(&fired, Phase::Began, "");
            let bytes = frame.clone();
            self.emit(way, about, frame, pieces);
            return self.emit_copy(way, copy, bytes, pieces);
        }
        self.tell(&fired, Phase::Began, "");
        if self.may_keep(way, frame.len()) {
            let bytes = frame.clone();
            self.emit(way, about, frame, pieces);
            let due = Box::pin(tokio::time::sleep(after));
            self.lane(way).late.push_back(Late { due, fired, about: copy, bytes });
        } else {
            self.tell(&fired, Phase::Ended, "not done: too much is kept already");
            self.emit(way, about, frame, pieces);
        }
    }

    /// A request once more: the client asked once and hears one answer.
    fn emit_copy(&mut self, way: Direction, about: About, bytes: Vec<u8>, pieces: &mut Vec<Piece>) {
        if let (Direction::Request, Some(request)) = (way, about.request) {
            self.talk.sent(request, None, Answer::Swallowed);
        }
        pieces.push(Piece::Own(bytes));
    }

    fn may_keep(&self, way: Direction, bytes: usize) -> bool {
        let lane = &self.lanes[way as usize];
        lane.late.len() + lane.overtaken.len() < KEPT_FRAMES_MAX
            && lane.bytes_kept() + bytes <= self.shared.limits.gathered_bytes_max
    }

    fn reorder(
        &mut self,
        way: Direction,
        fired: Fired,
        behind: u32,
        about: About,
        bytes: Vec<u8>,
        pieces: &mut Vec<Piece>,
    ) {
        self.tell(&fired, Phase::Began, "");
        if self.may_keep(way, bytes.len()) {
            let overtaken = Overtaken { by: behind.max(1), fired, about, bytes };
            self.lane(way).overtaken.push(overtaken);
        } else {
            self.tell(&fired, Phase::Ended, "not done: too much is kept already");
            self.emit(way, about, bytes, pieces);
        }
    }

    /// A frame passed: those it overtook are one nearer to their turn.
    pub(super) fn overtook(&mut self, way: Direction, pieces: &mut Vec<Piece>) {
        let lane = self.lane(way);
        if lane.overtaken.is_empty() {
            return;
        }
        lane.overtaken.iter_mut().for_each(|overtaken| overtaken.by -= 1);
        let due = lane.overtaken.extract_if(.., |overtaken| overtaken.by == 0).collect();
        self.go(way, due, pieces);
    }

    /// Nothing comes that could overtake them.
    pub(super) fn let_overtaken_go(&mut self, way: Direction, pieces: &mut Vec<Piece>) {
        let all = std::mem::take(&mut self.lane(way).overtaken);
        self.go(way, all, pieces);
    }

    fn go(&mut self, way: Direction, frames: Vec<Overtaken>, pieces: &mut Vec<Piece>) {
        for Overtaken { fired, about, bytes, .. } in frames {
            self.tell(&fired, Phase::Ended, "");
            self.goes(way, about);
            pieces.push(Piece::Own(bytes));
        }
    }

    fn cut(
        &mut self,
        way: Direction,
        fired: &Fired,
        cut: Cut,
        about: About,
        frame: Vec<u8>,
        pieces: &mut Vec<Piece>,
    ) {
        self.tell(fired, Phase::Began, "");
        if let Cut::DeliverLater { .. } = cut {
            self.drops_client = true;
            let (wait, ticket) = (fired.wait(), fired.ticket);
            let frame = Some((about, frame));
            return self.close_gate(way, Some(fired.clone()), frame, wait, ticket);
        }
        let total = frame.len();
        self.cut_within(way, cut, about, (frame, total), pieces);
    }

    /// Ends the connection at a byte of a frame of which there may be only the beginning.
    fn cut_within(
        &mut self,
        way: Direction,
        cut: Cut,
        about: About,
        (mut frame, total): (Vec<u8>, usize),
        pieces: &mut Vec<Piece>,
    ) {
        let (at, end) = match cut {
            Cut::Close { at } => (at, End::Close),
            Cut::Reset { at } => (at, End::Reset),
            Cut::HalfClose { at } => (at, End::HalfClose),
            Cut::DeliverLater { .. } => return,
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(total);
        if at == total {
            self.goes(way, about);
        }
        frame.truncate(at);
        let left = at - frame.len();
        pieces.push(Piece::Own(frame));
        match left {
            0 => self.end(way, end, pieces),
            left => self.lane(way).state = State::Pass { left, then: Some(end) },
        }
    }

    pub(super) fn end(&mut self, way: Direction, end: End, pieces: &mut Vec<Piece>) {
        self.lane(way).is_over = true;
        pieces.push(Piece::End(end));
    }

    fn open_hole(&mut self, way: Direction, fired: &Fired, both: bool) {
        let until = fired.wait().map(|wait| Instant::now() + wait);
        let way = (!both).then_some(way);
        let hole = Hole { door: self.door.clone(), way, ticket: fired.ticket, until };
        // Who hears that it began can rely on it.
        let id = self.shared.holes.add(hole);
        self.tell(fired, Phase::Began, "");
        let errand = Errand::EndHole { id, fired: fired.clone(), until };
        if self.errands.try_send(errand).is_err() {
            self.shared.holes.remove(id);
            self.tell(fired, Phase::Ended, "not done: too many");
        }
    }

    fn throttle(&mut self, way: Direction, fired: Fired, bytes_per_s: u64) {
        self.tell(&fired, Phase::Began, "");
        let old = self.throttles[way as usize].replace(Throttle::new(fired, bytes_per_s));
        if let Some(old) = old {
            self.tell(&old.fired, Phase::Ended, "");
        }
    }

    fn mutate(
        &mut self,
        way: Direction,
        fired: &Fired,
        alterations: &[Alteration],
        about: About,
        frame: &[u8],
        pieces: &mut Vec<Piece>,
    ) {
        let Some(message) = self.message(way, &about, frame) else {
            self.tell(fired, Phase::Began, "not done: its header cannot be read");
            return self.emit(way, about, frame.to_vec(), pieces);
        };
        let new = altered(alterations, &message, fired.draw);
        self.tell(fired, Phase::Began, &new.troubles.join("; "));
        let about = match (way, request_head(&new.frame)) {
            // The broker answers what it hears, not what was said.
            (Direction::Request, Head::Frame(_, Some(request))) => {
                About { request: Some(request), ..about }
            }
            _ => about,
        };
        self.emit(way, about, new.frame, pieces);
    }

    fn message<'f>(&self, way: Direction, about: &About, frame: &'f [u8]) -> Option<Message<'f>> {
        let request = about.request?;
        let (_, body_at) = self.header(way, request, frame.get(4..)?);
        Some(Message {
            direction: way,
            api_key: request.api_key,
            api_version: request.api_version,
            frame,
            body_at: body_at? + 4,
        })
    }

    fn respond(
        &mut self,
        way: Direction,
        fired: &Fired,
        forgery: &Forgery,
        about: About,
        frame: Vec<u8>,
        pieces: &mut Vec<Piece>,
    ) {
        let made = self.message(way, &about, &frame).ok_or("its header cannot be read".to_owned());
        let made = made.and_then(|message| answer(forgery, &message, fired.correlation_id));
        match (made, about.request) {
            (Ok(answer), Some(request)) => {
                self.tell(fired, Phase::Began, "");
                self.talk.sent(request, None, Answer::Ours(answer));
            }
            (made, _) => {
                let why = made.err().unwrap_or_default();
                self.tell(fired, Phase::Began, &format!("not done: {why}"));
                self.emit(way, about, frame, pieces);
            }
        }
    }

    /// What a rule began and nothing will end: the connection is over.
    pub(super) fn let_go(&mut self) {
        for way in [Direction::Request, Direction::Response] {
            let throttle = self.throttles[way as usize].take().map(|throttle| throttle.fired);
            let lane = self.lane(way);
            let gate = lane.gate.take().and_then(|gate| gate.fired);
            let late = std::mem::take(&mut lane.late).into_iter().map(|late| late.fired);
            let overtaken = std::mem::take(&mut lane.overtaken).into_iter();
            let overtaken = overtaken.map(|overtaken| overtaken.fired);
            let began: Vec<Fired> =
                throttle.into_iter().chain(gate).chain(late).chain(overtaken).collect();
            for fired in began {
                self.tell(&fired, Phase::Ended, "the connection is over");
            }
        }
    }
}

/// A frame in segments of these sizes, the last of them used again.
fn slice(frame: &[u8], sizes: &[u32], pause: Duration, pieces: &mut Vec<Piece>) {
    let mut sizes = sizes.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX).max(1));
    let (mut rest, mut size) = (frame, usize::MAX);
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size);
        let (segment, behind) = rest.split_at(size.min(rest.len()));
        pieces.push(Piece::Segment(segment.to_vec()));
        rest = behind;
        if !rest.is_empty() && !pause.is_zero() {
            pieces.push(Piece::Pause(pause));
        }
    }
}
