//! Exchanges: one request with its response or its absence, wherever they were seen.
//!
//! Our own client, the proxy and a packet capture all yield exchanges, through one trait,
//! [`ExchangeSink`]. Nothing is kept for the sink: it sees each request when it is whole, says
//! what it wants kept of it, and gets that back with the response. So bodies are borrowed from
//! the stream they came in, and memory is bounded by what waits for its response.
//!
//! Never: judges; keeps an exchange.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use kafka_wire::ids::CorrelationId;
use kafka_wire::{ApiKey, DecodeError};

use super::tap::{Connection, Direction};

/// One packet of one of the files that are read together; counted from 1 in each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PacketNumber {
    /// Which file, from 0.
    pub file: u32,
    /// Which packet of it, as packet tools count.
    pub number: u64,
}

impl fmt::Display for PacketNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file {
            0 => write!(f, "{}", self.number),
            file => write!(f, "{file}:{}", self.number),
        }
    }
}

/// A connection whose two ends are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// Its number: connections are numbered from 0 by their first packet.
    pub connection: Connection,
    /// Who opened it.
    pub client: SocketAddr,
    /// The broker's end.
    pub broker: SocketAddr,
    /// Its first packet.
    pub first_packet: PacketNumber,
    /// When that was, in nanoseconds since 1970.
    pub first_time_ns: u64,
}

/// Where and when a message was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The earliest packet that holds some of it.
    pub first_packet: PacketNumber,
    /// The latest packet that holds some of it.
    pub last_packet: PacketNumber,
    /// When that packet was seen, in nanoseconds since 1970.
    pub time_ns: u64,
    /// Bytes of the message with its length prefix, as it declares them.
    pub bytes: usize,
}

/// How much of a message is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Extent {
    /// All of it.
    #[default]
    Whole,
    /// As much as the sink wanted; the rest was there.
    Enough,
    /// The beginning: memory did not allow more. The rest was there.
    Limited,
    /// The beginning: bytes after it are missing from the capture.
    Torn,
}

/// What stands in the header of a request, and what is known of it beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFacts {
    /// On which connection.
    pub connection: Connection,
    /// How many requests its connection had before it.
    pub index: u64,
    /// Which API.
    pub api_key: ApiKey,
    /// Which version of it.
    pub api_version: i16,
    /// Pairs the response with it.
    pub correlation_id: CorrelationId,
    /// Whatever the client calls itself.
    pub client_id: Option<Arc<[u8]>>,
    /// Where and when.
    pub span: Span,
    /// How much of it is here.
    pub extent: Extent,
    /// What was wrong with its header.
    pub header_error: Option<DecodeError>,
}

/// A request as it came by.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its header.
    pub facts: &'a RequestFacts,
    /// All after the length prefix, as far as `facts.extent` says.
    pub frame: &'a [u8],
    /// Where in `frame` the body begins.
    pub body_at: usize,
}

impl<'a> Request<'a> {
    /// The body, as far as it is here.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.frame.get(self.body_at..).unwrap_or_default()
    }
}

/// A response as it came by.
#[derive(Debug, Clone)]
pub struct Response<'a> {
    /// Where and when.
    pub span: Span,
    /// How much of it is here.
    pub extent: Extent,
    /// Pairs it with its request.
    pub correlation_id: CorrelationId,
    /// All after the length prefix, as far as `extent` says.
    pub frame: &'a [u8],
    /// Where in `frame` the body begins.
    pub body_at: usize,
    /// What was wrong with its header.
    pub header_error: Option<DecodeError>,
}

impl<'a> Response<'a> {
    /// The body, as far as it is here.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.frame.get(self.body_at..).unwrap_or_default()
    }
}

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Outcome<'a> {
    /// It was answered.
    Answered(Response<'a>),
    /// It asked for no answer: Produce with acks=0.
    NoneDue,
    /// It was not answered.
    Unanswered(Unanswered),
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unanswered {
    /// A later request was answered before it: the response is missing from the capture, or the
    /// broker broke the order.
    Overtaken,
    /// The connection was closed or reset first.
    Closed,
    /// The capture ended first.
    CaptureEnded,
    /// So many requests waited on the connection that the oldest were given up.
    TooMany,
}

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Exchange<'a, K> {
    /// The request's header.
    pub request: RequestFacts,
    /// What the sink kept of it.
    pub kept: K,
    /// What became of it.
    pub outcome: Outcome<'a>,
}

impl<K> Exchange<'_, K> {
    /// Nanoseconds from the request's last packet to the response's.
    #[must_use]
    pub fn latency_ns(&self) -> Option<u64> {
        match &self.outcome {
            Outcome::Answered(response) => {
                Some(response.span.time_ns.saturating_sub(self.request.span.time_ns))
            }
            _ => None,
        }
    }
}

/// What a connection turned out to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Kafka's.
    Kafka,
    /// TLS: nothing in it can be read.
    Tls,
    /// Something else; nothing in it was read.
    Other,
    /// Too little was seen to say.
    Unknown,
}

/// Counts of one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirectionCounts {
    /// Bytes of the stream that were captured, each once.
    pub bytes: u64,
    /// Places where bytes are missing.
    pub gaps: u64,
    /// How many bytes are missing there.
    pub gap_bytes: u64,
    /// Segments that held nothing new.
    pub retransmitted_segments: u64,
    /// Times the same bytes came again and were others.
    pub differing_overlaps: u64,
}

/// What came of a connection, once nothing more is expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSummary {
    /// Which.
    pub facts: ConnectionFacts,
    /// What it spoke.
    pub protocol: Protocol,
    /// Its beginning was seen.
    pub syn: bool,
    /// One side ended it in order.
    pub fin: bool,
    /// One side reset it.
    pub rst: bool,
    /// Its last packet.
    pub last_packet: PacketNumber,
    /// When that was.
    pub last_time_ns: u64,
    /// Of the client and of the broker.
    pub directions: [DirectionCounts; 2],
    /// Requests that are here in whole.
    pub requests: u64,
    /// Responses that are here in whole.
    pub responses: u64,
    /// Requests and responses of which bytes are missing.
    pub torn: [u64; 2],
    /// Requests without a response that should have one.
    pub unanswered: u64,
    /// Responses whose request is not here.
    pub responses_without_request: u64,
    /// Tokens of SASL without a header, of both sides (SaslHandshake v0).
    pub sasl_tokens: u64,
}

/// Something wrong with a stream, where it was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamTrouble {
    /// On which connection.
    pub connection: Connection,
    /// In which direction.
    pub direction: Direction,
    /// The packet at which it was noticed.
    pub packet: PacketNumber,
    /// When that packet was seen.
    pub time_ns: u64,
    /// What is wrong.
    pub kind: StreamTroubleKind,
}

/// What can be wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamTroubleKind {
    /// Bytes are missing from the capture.
    Gap {
        /// How many.
        bytes: u64,
    },
    /// A packet was captured without its end.
    Cut {
        /// Bytes it lacks.
        bytes: u64,
    },
    /// The same bytes came again and were others; the first were taken.
    OverlapDiffers,
    /// A length no frame can have.
    BadLength(i32),
    /// Bytes were passed over until a frame could begin again.
    Resynchronised {
        /// How many were passed over.
        bytes: u64,
    },
    /// A frame was too large for the memory there is; its beginning was kept.
    Limited,
    /// The connection was given up because too many are open.
    GivenUp,
}

impl fmt::Display for StreamTroubleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { bytes } => write!(f, "{bytes} bytes are missing from the capture"),
            Self::Cut { bytes } => {
                write!(f, "the packet was captured without its last {bytes} bytes")
            }
            Self::OverlapDiffers => {
                f.write_str("the same bytes came again and were others; the first were taken")
            }
            Self::BadLength(length) => write!(f, "a frame cannot have the length {length}"),
            Self::Resynchronised { bytes } => {
                write!(f, "{bytes} bytes passed over until a frame could begin again")
            }
            Self::Limited => f.write_str("a frame too large for the memory there is"),
            Self::GivenUp => f.write_str("connection given up: too many are open"),
        }
    }
}

/// Takes exchanges as they become whole.
pub trait ExchangeSink {
    /// What is kept of a request until its response is there.
    type Kept;

    /// A connection that speaks Kafka; comes before anything else of it.
    fn connection(&mut self, _facts: &ConnectionFacts) {}

    /// How many bytes of a frame of that API (header included) are worth keeping. What is not
    /// wanted is counted and passed over, which is faster than memory.
    fn frame_bytes_wanted(&mut self, _: Direction, _: ApiKey, _version: i16) -> usize {
        usize::MAX
    }

    /// A request. Requests of one connection come in their order.
    fn request(&mut self, request: &Request<'_>) -> Self::Kept;

    /// A request with what became of it.
    fn exchange(&mut self, exchange: Exchange<'_, Self::Kept>);

    /// A response whose request is not here.
    fn response_without_request(&mut self, _: Connection, _: &Response<'_>) {}

    /// A SASL token without a header (between SaslHandshake v0 and the first request after it).
    fn sasl_token(&mut self, _: Connection, _: Direction, _: &Span, _token: &[u8]) {}

    /// Something is wrong with a stream.
    fn trouble(&mut self, _trouble: &StreamTrouble) {}

    /// Nothing more comes of that connection, whatever it spoke.
    fn closed(&mut self, _summary: &ConnectionSummary) {}
}
