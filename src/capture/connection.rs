//! One TCP connection: segments of both directions into exchanges.
//!
//! Which end is the client is told by SYN, by a known port or broker, or by who says something
//! that is a request. Packets may come in any order, so two things are waited for, within bounds:
//! bytes with a hole before them, and a response whose packet acknowledges more of the request
//! direction than was seen of it. How long, is `patience`'s to say.

use std::net::SocketAddr;

use capture_file::segment::Segment;

use crate::history::tap;
use crate::history::tap::Direction;
use crate::history::wire::{
    ConnectionFacts, ConnectionSummary, ExchangeSink, PacketNumber, Protocol, StreamTrouble,
    StreamTroubleKind, Unanswered,
};

use super::framer::Framer;
use super::pairing::{Budget, Pairing, Taker};
use super::patience::{Hole, Patience};
use super::sniff::{Early, says_a_request};
use super::stream::{Anchor, Mark, Piece, Placed, Stream};

/// Packets of a connection after which its beginning is no longer waited for.
const SETTLE_PACKETS: u64 = 16;
/// Bytes held after which its beginning is no longer waited for.
const SETTLE_BYTES: usize = 256 * 1024;

/// What a connection works with that is not its own.
pub(super) struct Context<'a, S: ExchangeSink> {
    pub(super) sink: &'a mut S,
    pub(super) budget: &'a mut Budget,
}

/// What is known of an address before anything is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repute {
    /// Nothing.
    Unknown,
    /// A broker was seen there, or the caller says so.
    Broker,
}

/// One connection. Its ends are numbered in the order of their addresses until it is known which
/// is the client's.
#[derive(Debug)]
pub(super) struct TcpConnection<K> {
    pub(super) number: tap::Connection,
    ends: [SocketAddr; 2],
    repute: [Repute; 2],
    client: Option<usize>,
    streams: [Stream; 2],
    framers: [Framer; 2],
    pairing: Pairing<K>,
    protocol: Protocol,
    early: Early,
    /// The beginnings of both directions are no longer waited for.
    settled: bool,
    patience: Patience,
    packets: u64,
    first: (PacketNumber, u64),
    last: (PacketNumber, u64),
    syn: bool,
    fin: bool,
    pub(super) rst: bool,
}

impl<K> TcpConnection<K> {
    pub(super) fn new(
        number: tap::Connection,
        ends: [SocketAddr; 2],
        repute: [Repute; 2],
        first: (PacketNumber, u64),
    ) -> Self {
        let client = match repute {
            [Repute::Unknown, Repute::Broker] => Some(0),
            [Repute::Broker, Repute::Unknown] => Some(1),
            _ => None,
        };
        Self {
            number,
            ends,
            repute,
            client,
            streams: [Stream::new(), Stream::new()],
            framers: [Framer::new(), Framer::new()],
            pairing: Pairing::new(),
            protocol: Protocol::Unknown,
            early: Early::default(),
            settled: false,
            patience: Patience::default(),
            packets: 0,
            first,
            last: first,
            syn: false,
            fin: false,
            rst: false,
        }
    }

    /// Whether a segment can hardly be of this connection: it is far from it, or a SYN of another.
    pub(super) fn is_strange(&self, end: usize, segment: &Segment<'_>) -> bool {
        let Segment { flags, sequence, payload_bytes, .. } = *segment;
        let stream = &self.streams[end];
        if flags.rst {
            return false;
        }
        if flags.syn {
            return stream.is_begun_anew_by(sequence.wrapping_add(1));
        }
        let says_something = payload_bytes > 0 || flags.fin;
        says_something && stream.is_strange(sequence, payload_bytes.into(), self.is_closed())
    }

    /// Both directions were ended, or the connection was reset.
    pub(super) fn is_closed(&self) -> bool {
        self.rst || self.streams.iter().all(|s| s.fin_at.is_some())
    }

    /// Which end the client is, as far as is known.
    pub(super) fn client(&self) -> Option<usize> {
        self.client
    }

    /// Whether its SYN was seen.
    pub(super) fn is_begun(&self) -> bool {
        self.syn
    }

    /// Where the broker is, once that is certain.
    pub(super) fn certain_broker(&self) -> Option<SocketAddr> {
        let certain = self.protocol == Protocol::Kafka && self.pairing.counts.responses > 0;
        self.client.filter(|_| certain).map(|client| self.ends[1 - client])
    }

    /// Takes one segment.
    pub(super) fn segment<S: ExchangeSink<Kept = K>>(
        &mut self,
        end: usize,
        segment: &Segment<'_>,
        packet: PacketNumber,
        time_ns: u64,
        cx: &mut Context<'_, S>,
    ) {
        self.packets += 1;
        if packet.file != self.last.0.file || packet.number > self.last.0.number {
            self.last = (packet, time_ns);
        }
        let sequence = self.begin(end, segment);
        let acknowledged = match segment.flags {
            flags if flags.ack && !flags.rst => {
                self.streams[1 - end].acknowledge(segment.acknowledgement)
            }
            _ => 0,
        };
        let mark = Mark { packet, time_ns, acknowledged };
        let length = u64::from(segment.payload_bytes);
        if segment.flags.fin {
            self.fin = true;
            let at = self.streams[end].position(sequence) + length;
            self.streams[end].fin_at.get_or_insert(at);
        }
        self.rst |= segment.flags.rst && self.streams[end].may_be_reset_at(sequence);
        if length > 0 && !segment.flags.rst {
            self.payload(end, sequence, segment.payload, length, mark, cx);
        }
        self.streams[end].pass_fin();
        if !self.settled {
            self.settle(cx);
        }
        if self.streams.iter().any(|s| s.first_held().is_some()) {
            self.pump(cx);
            self.wait(time_ns, cx);
        }
    }

    /// Learns from a segment's head where the directions begin and who is the client; returns the
    /// sequence number of its first byte.
    fn begin(&mut self, end: usize, segment: &Segment<'_>) -> u32 {
        let first_byte = segment.sequence.wrapping_add(u32::from(segment.flags.syn));
        if segment.flags.rst {
            return first_byte;
        }
        if segment.flags.syn {
            self.syn = true;
            self.client = Some(if segment.flags.ack { 1 - end } else { end });
            self.streams[end].anchor(first_byte);
            if segment.flags.ack {
                self.streams[1 - end].anchor(segment.acknowledgement);
            }
            return first_byte;
        }
        if self.streams[end].anchor != Anchor::Fixed {
            self.streams[end].anchor_no_later(first_byte);
        }
        // The client's first acknowledgement is the broker's first byte.
        let other = &mut self.streams[1 - end];
        if self.syn && other.anchor != Anchor::Fixed && segment.flags.ack && !self.settled {
            other.anchor_no_later(segment.acknowledgement);
        }
        first_byte
    }

    fn payload<S: ExchangeSink<Kept = K>>(
        &mut self,
        end: usize,
        sequence: u32,
        payload: &[u8],
        length: u64,
        mark: Mark,
        cx: &mut Context<'_, S>,
    ) {
        let direct = self.client.is_some() && self.may_deliver(end, mark);
        let stream = &mut self.streams[end];
        let position = stream.position(sequence);
        let differing = stream.counts.differing_overlaps;
        let placed = stream.place(position, payload, length, mark, direct);
        if stream.counts.differing_overlaps > differing {
            self.trouble(end, mark, StreamTroubleKind::OverlapDiffers, cx);
        }
        if let Placed::Next(data, cut) = placed {
            self.deliver(end, data, cut, mark, true, cx);
        }
    }

    /// A response waits until the request direction is where the responder saw it.
    fn may_deliver(&self, end: usize, mark: Mark) -> bool {
        let Some(client) = self.client else { return false };
        let requests = &self.streams[client];
        end == client || requests.anchor == Anchor::None || {
            let known = requests.next + self.unseen_end(client);
            mark.acknowledged <= known && requests.anchor == Anchor::Fixed
        }
    }

    /// 1 where one number more than is known may be acknowledged without a byte missing: a FIN that
    /// was not captured takes one, and no request is that short.
    fn unseen_end(&self, client: usize) -> u64 {
        let stream = &self.streams[client];
        u64::from(stream.fin_at.is_none() && self.framers[client].is_between())
    }

    /// Ends the wait for the beginnings once it was long enough.
    fn settle<S: ExchangeSink<Kept = K>>(&mut self, cx: &mut Context<'_, S>) {
        let fixed = self.streams.iter().all(|s| s.anchor == Anchor::Fixed);
        let held: usize = self.streams.iter().map(Stream::held_cost).sum();
        if fixed || self.packets >= SETTLE_PACKETS || held >= SETTLE_BYTES {
            self.settle_now();
            self.pump(cx);
        }
    }

    fn settle_now(&mut self) {
        self.settled = true;
        self.streams.iter_mut().for_each(Stream::settle);
        let client = self.client.unwrap_or_else(|| self.guess_client());
        self.client = Some(client);
        if !self.syn {
            self.framers.iter_mut().for_each(Framer::search);
        } else {
            // One of them was seen from its beginning; the other too if its SYN was.
            for end in [0, 1] {
                if !self.streams[end].is_from_beginning() {
                    self.framers[end].search();
                }
            }
        }
    }

    /// Who says something that is a request; else who has the higher port, as clients do.
    fn guess_client(&self) -> usize {
        let says = [0, 1].map(|end| self.streams[end].held_starts().any(says_a_request));
        match says {
            [true, false] => 0,
            [false, true] => 1,
            _ => usize::from(self.ends[1].port() > self.ends[0].port()),
        }
    }

    /// Delivers all that is held and next.
    fn pump<S: ExchangeSink<Kept = K>>(&mut self, cx: &mut Context<'_, S>) {
        let Some(client) = self.client else { return };
        loop {
            let mut delivered = false;
            for end in [client, 1 - client] {
                while let Some((_, mark)) = self.streams[end].first_held()
                    && self.may_deliver(end, mark)
                    && let Some(piece) = self.streams[end].take_next()
                {
                    self.deliver_piece(end, &piece, cx);
                    delivered = true;
                }
                self.streams[end].pass_fin();
            }
            if !delivered {
                return;
            }
        }
    }

    fn deliver_piece<S: ExchangeSink<Kept = K>>(
        &mut self,
        end: usize,
        piece: &Piece,
        cx: &mut Context<'_, S>,
    ) {
        let cut = piece.length - piece.data.len() as u64;
        self.deliver(end, &piece.data, cut, piece.mark, piece.segment_start, cx);
    }

    /// The hole that is waited for.
    fn hole(&self) -> Option<Hole> {
        let client = self.client?;
        let of = |end: usize| {
            let stream = &self.streams[end];
            let (to, mark) = stream.first_held()?;
            let acknowledged = stream.acknowledged >= to;
            (to > stream.next).then_some(Hole { end, to, acknowledged, mark })
        };
        of(client).or_else(|| {
            let requests = &self.streams[client];
            let (at, mark) = self.streams[1 - client].first_held()?;
            if at > self.streams[1 - client].next {
                return of(1 - client);
            }
            // The responder has requests that are not here.
            (mark.acknowledged > requests.next + self.unseen_end(client)).then_some(Hole {
                end: client,
                to: mark.acknowledged,
                acknowledged: true,
                mark,
            })
        })
    }

    /// Gives up the holes that were waited for long enough.
    fn wait<S: ExchangeSink<Kept = K>>(&mut self, time_ns: u64, cx: &mut Context<'_, S>) {
        while self.settled
            && let Some(hole) = self.hole()
        {
            let held = self.streams.iter().map(Stream::held_cost).sum();
            let at = self.streams[hole.end].next;
            if !self.patience.ends(&hole, at, (self.packets, time_ns), held) {
                return;
            }
            self.give_up(hole, cx);
        }
        self.patience = Patience::default();
    }

    /// Whether something is waited for, and time may end that.
    pub(super) fn waits(&self) -> bool {
        self.patience.is_tried()
    }

    /// What it costs to hold what is held.
    pub(super) fn held_cost(&self) -> usize {
        self.streams.iter().map(Stream::held_cost).sum::<usize>() + self.early.bytes()
    }

    /// Looks whether what is waited for was waited for long enough.
    pub(super) fn look_at_clock<S: ExchangeSink<Kept = K>>(
        &mut self,
        time_ns: u64,
        cx: &mut Context<'_, S>,
    ) {
        self.wait(time_ns, cx);
    }

    /// Waits for nothing any longer.
    pub(super) fn give_up_all<S: ExchangeSink<Kept = K>>(&mut self, cx: &mut Context<'_, S>) {
        if !self.settled {
            self.settle_now();
        }
        self.pump(cx);
        while let Some(hole) = self.hole() {
            self.give_up(hole, cx);
        }
        self.patience = Patience::default();
        if self.protocol == Protocol::Unknown && self.early.bytes() > 0 {
            self.decide(true, cx);
        }
    }

    fn give_up<S: ExchangeSink<Kept = K>>(&mut self, hole: Hole, cx: &mut Context<'_, S>) {
        let bytes = self.streams[hole.end].skip_to(hole.to);
        self.trouble(hole.end, hole.mark, StreamTroubleKind::Gap { bytes }, cx);
        self.gap(hole.end, bytes, hole.mark, cx);
        self.pump(cx);
    }

    fn gap<S: ExchangeSink<Kept = K>>(
        &mut self,
        end: usize,
        bytes: u64,
        mark: Mark,
        cx: &mut Context<'_, S>,
    ) {
        if self.client != Some(end) {
            self.pairing.lose_answers();
        }
        if self.protocol == Protocol::Kafka {
            let (framer, mut taker) = self.taker(end, cx);
            framer.gap(bytes, mark, &mut taker);
        } else {
            self.framers[end].search();
        }
    }

    /// Hands bytes on, in their order.
    fn deliver<S: ExchangeSink<Kept = K>>(
        &mut self,
        end: usize,
        data: &[u8],
        cut: u64,
        mark: Mark,
        segment_start: bool,
        cx: &mut Context<'_, S>,
    ) {
        match self.protocol {
            Protocol::Kafka => {
                let (framer, mut taker) = self.taker(end, cx);
                framer.data(data, mark, segment_start, &mut taker);
            }
            Protocol::Unknown => {
                let full = self.early.is_full_with(end, data, mark, segment_start);
                self.decide(full, cx);
            }
            Protocol::Tls | Protocol::Other => {}
        }
        if cut > 0 {
            self.trouble(end, mark, StreamTroubleKind::Cut { bytes: cut }, cx);
            self.gap(end, cut, mark, cx);
        }
    }

    /// Finds out what is spoken, where that can be told; `full` where more will not be waited for.
    fn decide<S: ExchangeSink<Kept = K>>(&mut self, full: bool, cx: &mut Context<'_, S>) {
        let Some(client) = self.client else { return };
        let from_beginning = self.streams[client].is_from_beginning();
        let certain = self.repute[1 - client] == Repute::Broker;
        let Some(protocol) = self.early.protocol(client, from_beginning, certain, full) else {
            return;
        };
        self.protocol = protocol;
        let early = std::mem::take(&mut self.early).into_said();
        if protocol == Protocol::Kafka {
            cx.sink.connection(&self.facts());
            for end in [client, 1 - client] {
                for (mark, segment_start, data) in &early[end] {
                    self.deliver(end, data, 0, *mark, *segment_start, cx);
                }
            }
        }
    }

    fn trouble<S: ExchangeSink<Kept = K>>(
        &self,
        end: usize,
        mark: Mark,
        kind: StreamTroubleKind,
        cx: &mut Context<'_, S>,
    ) {
        if self.protocol == Protocol::Kafka {
            cx.sink.trouble(&StreamTrouble {
                connection: self.number,
                direction: self.direction(end),
                packet: mark.packet,
                time_ns: mark.time_ns,
                kind,
            });
        }
    }

    fn direction(&self, end: usize) -> Direction {
        if self.client == Some(end) { Direction::Request } else { Direction::Response }
    }

    fn taker<'a, S: ExchangeSink<Kept = K>>(
        &'a mut self,
        end: usize,
        cx: &'a mut Context<'_, S>,
    ) -> (&'a mut Framer, Taker<'a, S>) {
        let direction = self.direction(end);
        let taker = Taker {
            connection: self.number,
            direction,
            pairing: &mut self.pairing,
            sink: cx.sink,
            budget: cx.budget,
        };
        (&mut self.framers[end], taker)
    }

    fn facts(&self) -> ConnectionFacts {
        let client = self.client.unwrap_or_default();
        ConnectionFacts {
            connection: self.number,
            client: self.ends[client],
            broker: self.ends[1 - client],
            first_packet: self.first.0,
            first_time_ns: self.first.1,
        }
    }

    /// Nothing more comes.
    pub(super) fn end<S: ExchangeSink<Kept = K>>(
        &mut self,
        why: Unanswered,
        cx: &mut Context<'_, S>,
    ) {
        self.give_up_all(cx);
        let client = self.client.unwrap_or_default();
        self.give_up_end(client, cx);
        self.give_up_end(1 - client, cx);
        for end in [client, 1 - client] {
            let (framer, mut taker) = self.taker(end, cx);
            framer.end(&mut taker);
        }
        let why = if self.is_closed() { Unanswered::Closed } else { why };
        self.taker(client, cx).1.end(why);
        let counts = self.pairing.counts;
        cx.sink.closed(&ConnectionSummary {
            facts: self.facts(),
            protocol: self.protocol,
            syn: self.syn,
            fin: self.fin,
            rst: self.rst,
            last_packet: self.last.0,
            last_time_ns: self.last.1,
            directions: [client, 1 - client].map(|end| self.streams[end].counts),
            requests: counts.requests,
            responses: counts.responses,
            torn: counts.torn,
            unanswered: counts.unanswered,
            responses_without_request: counts.responses_without_request,
            sasl_tokens: counts.sasl_tokens,
        });
    }

    /// FIN shows that bytes before it are missing.
    fn give_up_end<S: ExchangeSink<Kept = K>>(&mut self, end: usize, cx: &mut Context<'_, S>) {
        let stream = &self.streams[end];
        if let Some(at) = stream.fin_at
            && stream.anchor == Anchor::Fixed
            && at > stream.next
        {
            let (packet, time_ns) = self.last;
            let mark = Mark { packet, time_ns, acknowledged: 0 };
            self.give_up(Hole { end, to: at, acknowledged: true, mark }, cx);
        }
    }
}
