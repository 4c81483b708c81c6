//! Frames of the two directions of one connection into exchanges.
//!
//! Responses are paired by the one [`Correlator`]. A Produce with acks=0 asks for no response.
//! After SaslHandshake v0 come tokens without any header, until a frame is a request again
//! (KIP-43; with v1 tokens travel in SaslAuthenticate, KIP-152).
//!
//! Never: looks into a body further than to the `acks` of a Produce.

use std::sync::Arc;

use kafka_wire::ApiKey;
use kafka_wire::correlator::{Correlator, Paired};
use kafka_wire::frame::FRAME_BYTES_MAX;
use kafka_wire::header::{RequestHeader, decode_response_header, produce_acks};
use kafka_wire::ids::CorrelationId;
use kafka_wire::schema::{self, Limits};

use crate::history::tap::{Connection, Direction};
use crate::history::wire::{
    Exchange, ExchangeSink, Extent, Outcome, Request, RequestFacts, Response, Span, StreamTrouble,
    StreamTroubleKind, Unanswered,
};

use super::framer::{FrameTaker, FrameView, Plausible};
use super::stream::Mark;

/// Requests that may wait on one connection; brokers and clients are far below.
const WAITING_MAX: usize = 10_000;
/// Requests that may wait on all connections together.
const WAITING_ALL_MAX: usize = 250_000;
/// Buffers that are kept for the next frame, and the largest that is.
const BUFFERS_MAX: usize = 32;
const BUFFER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of a request's head up to the length of the client id, with the prefix.
const REQUEST_HEAD_BYTES: usize = 14;
/// How far correlation ids of one connection may jump where evidence is wanted.
const CORRELATION_NEAR: i32 = 10_000;

/// Memory that all connections share.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes of frames that are being gathered.
    gathered_bytes: usize,
    gathered_bytes_max: usize,
    /// Requests that wait for their response.
    waiting: usize,
    /// Buffers to gather in.
    buffers: Vec<Vec<u8>>,
}

impl Budget {
    pub(super) fn new(gathered_bytes_max: usize) -> Self {
        Self { gathered_bytes: 0, gathered_bytes_max, waiting: 0, buffers: Vec::new() }
    }
}

/// What waits on a connection.
#[derive(Debug)]
pub(super) struct Pairing<K> {
    waiting: Correlator<(RequestFacts, K)>,
    client_id: Option<Arc<[u8]>>,
    last_request: Option<CorrelationId>,
    sasl: Sasl,
    pub(super) counts: Counts,
}

/// Counts of a connection's messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) frames: u64,
    pub(super) requests: u64,
    pub(super) responses: u64,
    pub(super) torn: [u64; 2],
    pub(super) unanswered: u64,
    pub(super) responses_without_request: u64,
    pub(super) sasl_tokens: u64,
}

/// Where a connection is in SASL without headers. The directions are there at different times:
/// requests may be known to the last before the first response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sasl {
    /// The client's next frame may be a token.
    tokens: bool,
    /// Tokens that were not answered.
    unanswered: u32,
    /// The index of the SaslHandshake before them.
    handshake: u64,
}

impl<K> Pairing<K> {
    pub(super) fn new() -> Self {
        Self {
            waiting: Correlator::new(),
            client_id: None,
            last_request: None,
            sasl: Sasl::default(),
            counts: Counts::default(),
        }
    }

    /// The client id, one copy for all the requests that have the same.
    fn client_id(&mut self, id: &[u8]) -> Arc<[u8]> {
        match &self.client_id {
            Some(known) if known[..] == *id => Arc::clone(known),
            _ => Arc::clone(self.client_id.insert(id.into())),
        }
    }

    /// Whether the broker's next frame answers a token: all requests before those are answered.
    fn answers_a_token(&self) -> bool {
        let Sasl { unanswered, handshake, .. } = self.sasl;
        unanswered > 0
            && self.waiting.oldest().is_none_or(|(_, (facts, _))| facts.index > handshake)
    }

    /// Bytes of the broker are missing: answers to tokens may be among them.
    pub(super) fn lose_answers(&mut self) {
        self.sasl.unanswered = 0;
    }

    /// Whether a request begins so. Where all of it is here it must decode; where it is not, it
    /// must begin with its packet and follow from the requests before it.
    fn plausible_request(&self, bytes: &[u8], at_segment_start: bool) -> Plausible {
        let head = match RequestHead::read(bytes) {
            Ok(head) => head,
            Err(plausible) => return plausible,
        };
        let near = self.last_request.is_none_or(|last| {
            let ahead = head.correlation_id.0.wrapping_sub(last.0);
            (1..=CORRELATION_NEAR).contains(&ahead)
        });
        let same_client = match (&self.client_id, head.client_id) {
            (Some(known), Some(this)) => known[..] == *this,
            (None, Some(this)) => !this.is_empty(),
            (_, None) => false,
        };
        let evident = match head.frame(bytes) {
            Some(frame) => (same_client || near && at_segment_start) && request_decodes(frame),
            None => (same_client || near) && at_segment_start,
        };
        if evident { Plausible::Yes } else { Plausible::No }
    }

    /// Whether a response begins so. One that is waited for must decode and begin or end with its
    /// packet (a body of zeros holds any number of small responses); any other must fill it.
    fn plausible_response(&self, bytes: &[u8], at_segment_start: bool) -> Plausible {
        let Some(head) = bytes.first_chunk::<8>() else { return Plausible::NeedMore };
        let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let id = CorrelationId(i32::from_be_bytes([head[4], head[5], head[6], head[7]]));
        if !(4..=FRAME_BYTES_MAX as i32).contains(&length) {
            return Plausible::No;
        }
        let frame = bytes.get(4..4 + length as usize);
        let fits = length as usize + 4 == bytes.len();
        let evident = match (self.waiting.find(id), frame) {
            (Some((facts, _)), Some(frame)) => {
                (at_segment_start || fits) && response_decodes(frame, facts)
            }
            (Some(_), None) => at_segment_start,
            (None, _) => {
                let before = self.last_request.map(|last| last.0.wrapping_sub(id.0));
                let near = before.is_none_or(|before| (0..=CORRELATION_NEAR).contains(&before));
                at_segment_start && near && fits
            }
        };
        if evident { Plausible::Yes } else { Plausible::No }
    }
}

/// Whether a frame is a request without anything missing or left over.
pub(super) fn request_decodes(frame: &[u8]) -> bool {
    let Ok((header, body_at)) = RequestHeader::decode(frame) else { return false };
    let RequestHeader { api_key, api_version, .. } = header;
    let layout = schema::layout(api_key, schema::Direction::Request, api_version);
    layout.is_some_and(|layout| layout.guard(&frame[body_at..], Limits::NONE).is_ok())
}

/// Whether a frame is the response to that request without anything missing or left over.
fn response_decodes(frame: &[u8], request: &RequestFacts) -> bool {
    let RequestFacts { api_key, api_version, .. } = *request;
    let Ok((_, body_at)) = decode_response_header(frame, api_key, api_version) else {
        return false;
    };
    let layout = schema::layout(api_key, schema::Direction::Response, api_version);
    layout.is_some_and(|layout| layout.guard(&frame[body_at..], Limits::NONE).is_ok())
}

/// The head of what may be a request.
pub(super) struct RequestHead<'a> {
    length: usize,
    pub(super) correlation_id: CorrelationId,
    /// Text, or absent.
    pub(super) client_id: Option<&'a [u8]>,
}

impl<'a> RequestHead<'a> {
    /// The frame after its prefix, where all of it is here.
    pub(super) fn frame(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(4..4 + self.length)
    }

    /// Reads the head of a frame, prefix included, where it can be one of a request.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Plausible> {
        let Some(head) = bytes.first_chunk::<REQUEST_HEAD_BYTES>() else {
            let early = bytes.first_chunk::<8>().is_none_or(known_api);
            return Err(if early { Plausible::NeedMore } else { Plausible::No });
        };
        let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let length_can_be = (10..=FRAME_BYTES_MAX as i32).contains(&length);
        if !length_can_be || !known_api(&[0, 0, 0, 0, head[4], head[5], head[6], head[7]]) {
            return Err(Plausible::No);
        }
        let id = CorrelationId(i32::from_be_bytes([head[8], head[9], head[10], head[11]]));
        let client_id = match i16::from_be_bytes([head[12], head[13]]) {
            -1 => None,
            client_bytes if client_bytes < 0 || i32::from(client_bytes) + 10 > length => {
                return Err(Plausible::No);
            }
            client_bytes => {
                let end = REQUEST_HEAD_BYTES + client_bytes as usize;
                let here = &bytes[REQUEST_HEAD_BYTES..end.min(bytes.len())];
                if !here.iter().all(|byte| (0x20..0x7f).contains(byte)) {
                    return Err(Plausible::No);
                }
                Some(bytes.get(REQUEST_HEAD_BYTES..end).ok_or(Plausible::NeedMore)?)
            }
        };
        Ok(Self { length: length as usize, correlation_id: id, client_id })
    }
}

/// Whether bytes 4 to 7 name an API and a version of it that exist.
fn known_api(head: &[u8; 8]) -> bool {
    let key = ApiKey(i16::from_be_bytes([head[4], head[5]]));
    let version = i16::from_be_bytes([head[6], head[7]]);
    schema::request_header_version(key, version).is_some()
}

/// Takes the frames of one direction of a connection and makes exchanges of them.
pub(super) struct Taker<'a, S: ExchangeSink> {
    pub(super) connection: Connection,
    pub(super) direction: Direction,
    pub(super) pairing: &'a mut Pairing<S::Kept>,
    pub(super) sink: &'a mut S,
    pub(super) budget: &'a mut Budget,
}

impl<S: ExchangeSink> FrameTaker for Taker<'_, S> {
    fn wanted(&mut self, head: &[u8]) -> usize {
        let api = match self.direction {
            Direction::Request => RequestHeader::peek(head).map(|(key, version, _)| (key, version)),
            Direction::Response => correlation_id(head)
                .and_then(|id| self.pairing.waiting.find(id))
                .map(|(facts, _)| (facts.api_key, facts.api_version)),
        };
        api.map_or(usize::MAX, |(key, version)| {
            self.sink.frame_bytes_wanted(self.direction, key, version)
        })
    }

    fn frame(&mut self, frame: FrameView<'_>) {
        self.pairing.counts.frames += 1;
        match self.direction {
            Direction::Request => self.request(&frame),
            Direction::Response => self.response(&frame),
        }
    }

    fn trouble(&mut self, mark: Mark, kind: StreamTroubleKind) {
        self.sink.trouble(&StreamTrouble {
            connection: self.connection,
            direction: self.direction,
            packet: mark.packet,
            time_ns: mark.time_ns,
            kind,
        });
    }

    fn plausible(&self, bytes: &[u8], at_segment_start: bool) -> Plausible {
        match self.direction {
            Direction::Request => self.pairing.plausible_request(bytes, at_segment_start),
            Direction::Response => self.pairing.plausible_response(bytes, at_segment_start),
        }
    }

    fn reserve(&mut self, bytes: usize) -> bool {
        let fits = self.budget.gathered_bytes + bytes <= self.budget.gathered_bytes_max;
        self.budget.gathered_bytes += if fits { bytes } else { 0 };
        fits
    }

    fn release(&mut self, bytes: usize) {
        self.budget.gathered_bytes -= bytes;
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.budget.buffers.pop().unwrap_or_default()
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.budget.buffers.len() < BUFFERS_MAX && buffer.capacity() <= BUFFER_BYTES_MAX {
            buffer.clear();
            self.budget.buffers.push(buffer);
        }
    }
}

impl<S: ExchangeSink> Taker<'_, S> {
    fn request(&mut self, frame: &FrameView<'_>) {
        let torn = frame.extent == Extent::Torn;
        if self.pairing.sasl.tokens {
            if !torn && !is_request(frame.bytes) {
                self.pairing.sasl.unanswered += 1;
                return self.token(frame);
            }
            self.pairing.sasl.tokens = false;
        }
        let Some((api_key, api_version, correlation_id)) = RequestHeader::peek(frame.bytes) else {
            return self.no_header(frame);
        };
        let (client_id, body_at, header_error) = match RequestHeader::decode(frame.bytes) {
            Ok((header, body_at)) => (header.client_id, body_at, None),
            Err(error) => (None, frame.bytes.len(), Some(error)),
        };
        let counts = &mut self.pairing.counts;
        let index = counts.requests + counts.torn[0];
        counts.requests += u64::from(!torn);
        counts.torn[0] += u64::from(torn);
        let facts = RequestFacts {
            connection: self.connection,
            index,
            api_key,
            api_version,
            correlation_id,
            client_id: client_id.map(|id| self.pairing.client_id(id)),
            span: frame.span,
            extent: frame.extent,
            header_error,
        };
        self.pairing.last_request = Some(correlation_id);
        let request = Request { facts: &facts, frame: frame.bytes, body_at };
        let kept = self.sink.request(&request);
        if api_key == ApiKey::PRODUCE && produce_acks(request.body(), api_version) == Some(0) {
            let outcome = Outcome::NoneDue;
            return self.sink.exchange(Exchange { request: facts, kept, outcome });
        }
        if api_key == ApiKey::SASL_HANDSHAKE && api_version == 0 {
            self.pairing.sasl = Sasl { tokens: true, unanswered: 0, handshake: index };
        }
        self.pairing.waiting.request(correlation_id, (facts, kept));
        self.budget.waiting += 1;
        self.give_up_oldest();
    }

    fn response(&mut self, frame: &FrameView<'_>) {
        let torn = frame.extent == Extent::Torn;
        if self.pairing.answers_a_token() {
            self.pairing.sasl.unanswered -= 1;
            return self.token(frame);
        }
        let Some(correlation_id) = correlation_id(frame.bytes) else {
            return self.no_header(frame);
        };
        self.pairing.counts.responses += u64::from(!torn);
        self.pairing.counts.torn[1] += u64::from(torn);
        let mut response = Response {
            span: frame.span,
            extent: frame.extent,
            correlation_id,
            frame: frame.bytes,
            body_at: 4,
            header_error: None,
        };
        let (request, kept) = match self.pairing.waiting.response(correlation_id) {
            Paired::Next(waiting) => {
                self.budget.waiting -= 1;
                waiting
            }
            Paired::Skipped { answered, unanswered } => {
                for (_, waiting) in unanswered {
                    self.unanswered(waiting, Unanswered::Overtaken);
                }
                self.budget.waiting -= 1;
                answered
            }
            Paired::Unpaired => {
                self.pairing.counts.responses_without_request += u64::from(!torn);
                return self.sink.response_without_request(self.connection, &response);
            }
        };
        match decode_response_header(frame.bytes, request.api_key, request.api_version) {
            Ok((_, body_at)) => response.body_at = body_at,
            Err(error) => {
                response.header_error = Some(error);
                response.body_at = frame.bytes.len();
            }
        }
        self.pairing.counts.unanswered += u64::from(torn && request.extent != Extent::Torn);
        self.sink.exchange(Exchange { request, kept, outcome: Outcome::Answered(response) });
    }

    fn token(&mut self, frame: &FrameView<'_>) {
        self.pairing.counts.sasl_tokens += 1;
        self.sink.sasl_token(self.connection, self.direction, &frame.span, frame.bytes);
    }

    /// A frame too short to be a message.
    fn no_header(&mut self, frame: &FrameView<'_>) {
        if frame.extent == Extent::Torn {
            let index = usize::from(self.direction == Direction::Response);
            self.pairing.counts.torn[index] += 1;
            return;
        }
        let Span { last_packet: packet, time_ns, .. } = frame.span;
        // Shorter than eight bytes.
        let kind = StreamTroubleKind::BadLength(frame.bytes.len() as i32);
        self.trouble(Mark { packet, time_ns, acknowledged: 0 }, kind);
    }

    fn unanswered(&mut self, waiting: (RequestFacts, S::Kept), why: Unanswered) {
        self.budget.waiting -= 1;
        self.pairing.counts.unanswered += u64::from(waiting.0.extent != Extent::Torn);
        let (request, kept) = waiting;
        self.sink.exchange(Exchange { request, kept, outcome: Outcome::Unanswered(why) });
    }

    /// Nothing more comes: what waits is unanswered.
    pub(super) fn end(&mut self, why: Unanswered) {
        let waiting: Vec<_> = self.pairing.waiting.drain().collect();
        for (_, waiting) in waiting {
            self.unanswered(waiting, why);
        }
    }

    fn give_up_oldest(&mut self) {
        let here = self.pairing.waiting.len();
        if here > WAITING_MAX || (here > 1 && self.budget.waiting > WAITING_ALL_MAX) {
            let oldest = self.pairing.waiting.oldest().map(|(id, _)| *id);
            if let Some(Paired::Next(waiting)) = oldest.map(|id| self.pairing.waiting.response(id))
            {
                self.unanswered(waiting, Unanswered::TooMany);
            }
        }
    }
}

fn correlation_id(frame: &[u8]) -> Option<CorrelationId> {
    frame.first_chunk::<4>().map(|id| CorrelationId(i32::from_be_bytes(*id)))
}

/// Whether a frame (without its prefix) can be a request, where a SASL token is the alternative.
fn is_request(frame: &[u8]) -> bool {
    // A frame is never larger than FRAME_BYTES_MAX.
    let head = &frame[..frame.len().min(SASL_HEAD_BYTES)];
    let bytes = [&(frame.len() as i32).to_be_bytes(), head].concat();
    matches!(RequestHead::read(&bytes), Ok(_) | Err(Plausible::NeedMore)) && frame.len() >= 10
}

/// Bytes of a frame that decide whether it is a token.
const SASL_HEAD_BYTES: usize = 512;
