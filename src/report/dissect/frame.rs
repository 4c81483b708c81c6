//! Single messages, without a capture around them: bytes, or their digits, into lines.
//!
//! A request says itself what it is; a response is read as the answer to the request before it, or
//! as the API and version that the caller names. The length prefix may be there or not.
//!
//! Never: takes bytes for a message that do not decode, but where the caller says what they are.

use kafka_wire::ApiKey;
use kafka_wire::frame::{FRAME_BYTES_MAX, Scan, scan};
use kafka_wire::header::{RequestHeader, decode_response_header};
use kafka_wire::ids::CorrelationId;
use kafka_wire::schema::{self, Direction, Layout, Limits, write_json_bytes};

use super::bodies::Bodies;
use super::codes::version_answered;
use super::line::write_integer;
use crate::history::tap::Connection;
use crate::history::wire::{Extent, Request, RequestFacts, Response, Span};

/// Messages that are read of one input.
const MESSAGES_MAX: usize = 10_000;

/// What the caller says the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meant {
    /// Which API.
    pub api_key: ApiKey,
    /// In which version.
    pub api_version: i16,
}

/// The lines of an input that is one message, or some in a row; absent where it is none.
#[must_use]
pub fn lines(input: &[u8], meant: Option<Meant>) -> Option<String> {
    let digits = digits(input);
    let readings = digits.as_deref().into_iter().chain([input]);
    let mut bodies = Bodies::default();
    readings.filter(|bytes| !bytes.is_empty()).find_map(|bytes| in_a_row(bytes, meant, &mut bodies))
}

/// The bytes of hexadecimal digits, with whatever tools put between them.
fn digits(input: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(input).ok()?;
    let text = text.replace("0x", " ").replace("\\x", " ");
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, ':' | ',' | '-' | '[' | ']'))
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let byte = |pair: &[u32]| (pair[0] << 4 | pair[1]) as u8;
    digits.len().is_multiple_of(2).then(|| digits.chunks_exact(2).map(byte).collect())
}

/// Frames with their prefixes, or one without.
fn frames(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut frames, mut rest) = (Vec::new(), bytes);
    while let Scan::Frame { end } = scan(rest, FRAME_BYTES_MAX)
        && frames.len() < MESSAGES_MAX
    {
        frames.push(&rest[4..end]);
        rest = &rest[end..];
    }
    if rest.is_empty() && frames.iter().all(|frame| frame.len() >= 4) { frames } else { Vec::new() }
}

fn in_a_row(bytes: &[u8], meant: Option<Meant>, bodies: &mut Bodies) -> Option<String> {
    let with_prefix = frames(bytes);
    let found = (!with_prefix.is_empty()).then(|| all(&with_prefix, meant, bodies)).flatten();
    found.or_else(|| all(&[bytes], meant, bodies)).or_else(|| body_alone(bytes, meant?, bodies))
}

fn layout(meant: Meant, direction: Direction) -> Option<&'static Layout> {
    schema::layout(meant.api_key, direction, meant.api_version)
}

fn decodes(meant: Meant, direction: Direction, body: &[u8]) -> bool {
    layout(meant, direction).is_some_and(|layout| layout.guard(body, Limits::NONE).is_ok())
}

/// Requests, each with the response that follows it, or one response of what was meant.
fn all(frames: &[&[u8]], meant: Option<Meant>, bodies: &mut Bodies) -> Option<String> {
    let mut out = String::new();
    let (mut number, mut at) = (0, 0);
    while at < frames.len() {
        let frame = frames[at];
        let request = request(frame, meant);
        let what = request
            .as_ref()
            .map(|(header, _)| Meant { api_key: header.api_key, api_version: header.api_version });
        let asked = request.as_ref().map(|(header, _)| header.correlation_id);
        at += usize::from(request.is_some());
        let answer = frames.get(at).and_then(|frame| response(frame, what.or(meant)?, asked));
        at += usize::from(answer.is_some());
        let what = what.or(meant.filter(|_| answer.is_some()))?;
        number += 1;
        line(&mut out, number, what, (request, frame), answer, bodies);
    }
    Some(out)
}

fn request(frame: &[u8], meant: Option<Meant>) -> Option<(RequestHeader<'_>, usize)> {
    let (header, body_at) = RequestHeader::decode(frame).ok()?;
    let Meant { api_key, api_version } =
        Meant { api_key: header.api_key, api_version: header.api_version };
    let is_meant = meant == Some(Meant { api_key, api_version });
    let is_whole = decodes(Meant { api_key, api_version }, Direction::Request, &frame[body_at..]);
    (is_meant || meant.is_none() && is_whole).then_some((header, body_at))
}

fn response(
    frame: &[u8],
    what: Meant,
    asked: Option<CorrelationId>,
) -> Option<(CorrelationId, &[u8], usize)> {
    let Meant { api_key, api_version } = what;
    let (id, body_at) = decode_response_header(frame, api_key, api_version).ok()?;
    let body = &frame[body_at..];
    let read_as = Meant { api_key, api_version: version_answered(api_key, api_version, body) };
    let fits = asked.is_none_or(|asked| asked == id);
    (fits && (asked.is_some() || decodes(read_as, Direction::Response, body)))
        .then_some((id, frame, body_at))
}

/// A body without any header.
fn body_alone(bytes: &[u8], what: Meant, bodies: &mut Bodies) -> Option<String> {
    let direction = [Direction::Request, Direction::Response]
        .into_iter()
        .find(|direction| decodes(what, *direction, bytes))?;
    let mut out = String::new();
    match direction {
        Direction::Request => {
            let header = RequestHeader {
                api_key: what.api_key,
                api_version: what.api_version,
                correlation_id: CorrelationId(0),
                client_id: None,
            };
            line(&mut out, 1, what, (Some((header, 0)), bytes), None, bodies);
        }
        Direction::Response => {
            let answer = Some((CorrelationId(0), bytes, 0));
            line(&mut out, 1, what, (None, bytes), answer, bodies);
        }
    }
    Some(out)
}

fn line(
    out: &mut String,
    number: i64,
    what: Meant,
    (request, frame): (Option<(RequestHeader<'_>, usize)>, &[u8]),
    answer: Option<(CorrelationId, &[u8], usize)>,
    bodies: &mut Bodies,
) {
    let id = request.as_ref().map(|(header, _)| header.correlation_id);
    let id = id.or(answer.map(|(id, ..)| id)).unwrap_or(CorrelationId(0));
    let client_id = request.as_ref().and_then(|(header, _)| header.client_id);
    out.push_str("{\"n\":");
    write_integer(out, number);
    out.push_str(",\"time\":null,\"connection\":null,\"api\":");
    let name = what.api_key.to_string();
    schema::write_json_text(out, &name).expect("a String takes every write");
    out.push_str(",\"api_key\":");
    write_integer(out, what.api_key.0.into());
    out.push_str(",\"api_version\":");
    write_integer(out, what.api_version.into());
    out.push_str(",\"correlation_id\":");
    write_integer(out, id.0.into());
    out.push_str(",\"client_id\":");
    match client_id {
        Some(id) => write_json_bytes(out, id).expect("a String takes every write"),
        None => out.push_str("null"),
    }
    let facts = RequestFacts {
        connection: Connection(0),
        index: 0,
        api_key: what.api_key,
        api_version: what.api_version,
        correlation_id: id,
        client_id: client_id.map(Into::into),
        span: Span::default(),
        extent: Extent::Whole,
        header_error: None,
    };
    let mut errors = Vec::new();
    out.push_str(",\"frames\":[],\"latency_us\":null,\"request\":");
    match request {
        Some((_, body_at)) => {
            bodies.request(&Request { facts: &facts, frame, body_at }, out, &mut errors);
        }
        None => out.push_str("null"),
    }
    out.push_str(",\"response\":");
    match answer {
        Some((correlation_id, frame, body_at)) => {
            let (span, extent) = (Span::default(), Extent::Whole);
            let response =
                Response { span, extent, correlation_id, frame, body_at, header_error: None };
            bodies.response(&facts, &response, out, &mut errors);
        }
        None => out.push_str("null"),
    }
    out.push_str(",\"errors\":[");
    for (at, error) in errors.iter().enumerate() {
        out.push_str(if at > 0 { "," } else { "" });
        schema::write_json_text(out, error).expect("a String takes every write");
    }
    out.push_str("]}\n");
}
