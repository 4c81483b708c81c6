//! Bodies of requests and responses as JSON objects, and in words what is wrong with them.
//!
//! Never: keeps a body; writes more text than a line may have.

use std::fmt;

use kafka_wire::batch::Scratch;
use kafka_wire::schema::{
    self, Direction, Flow, Layout, Limits, Place, Scalar, Visitor, write_json_bytes,
};
use kafka_wire::{ApiKey, DecodeError, DecodeErrorKind};

use super::batches::write_batches;
use super::codes::version_answered;
use crate::history::wire::{Extent, Request, RequestFacts, Response};

/// Bytes of text one body may become: a few bytes can stand for gigabytes.
pub const BODY_TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Errors that are kept of one message.
const ERRORS_MAX: usize = 64;

/// The end of a buffer that may only grow so far.
#[derive(Debug)]
pub struct Text<'o> {
    out: &'o mut String,
    end_max: usize,
}

impl<'o> Text<'o> {
    /// Appends at most so many bytes.
    pub fn new(out: &'o mut String, bytes_max: usize) -> Self {
        let end_max = out.len().saturating_add(bytes_max);
        Self { out, end_max }
    }
}

impl fmt::Write for Text<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.end_max - self.out.len() {
            return Err(fmt::Error);
        }
        self.out.push_str(text);
        Ok(())
    }
}

/// Renders bodies; keeps the buffers that decompression needs.
#[derive(Debug, Default)]
pub struct Bodies {
    scratch: Scratch,
}

/// One body, as far as it is here.
struct Body<'b> {
    direction: Direction,
    api_key: ApiKey,
    version: i16,
    bytes: &'b [u8],
    extent: Extent,
    /// Bytes of the frame that are here, and that there were.
    frame_bytes: (usize, usize),
}

impl Bodies {
    /// Appends a request's body.
    pub fn request(&mut self, request: &Request<'_>, out: &mut String, errors: &mut Vec<String>) {
        let facts = request.facts;
        if let Some(error) = &facts.header_error {
            errors.push(format!("request header: {error}"));
        }
        let body = Body {
            direction: Direction::Request,
            api_key: facts.api_key,
            version: facts.api_version,
            bytes: request.body(),
            extent: facts.extent,
            frame_bytes: (request.frame.len(), facts.span.bytes.saturating_sub(4)),
        };
        self.body(&body, facts.header_error.is_some(), out, errors);
    }

    /// Appends a response's body.
    pub fn response(
        &mut self,
        request: &RequestFacts,
        response: &Response<'_>,
        out: &mut String,
        errors: &mut Vec<String>,
    ) {
        if let Some(error) = &response.header_error {
            errors.push(format!("response header: {error}"));
        }
        let bytes = response.body();
        let body = Body {
            direction: Direction::Response,
            api_key: request.api_key,
            version: version_answered(request.api_key, request.api_version, bytes),
            bytes,
            extent: response.extent,
            frame_bytes: (response.frame.len(), response.span.bytes.saturating_sub(4)),
        };
        self.body(&body, response.header_error.is_some(), out, errors);
    }

    fn body(
        &mut self,
        body: &Body<'_>,
        no_header: bool,
        out: &mut String,
        errors: &mut Vec<String>,
    ) {
        let start = out.len();
        let written = match schema::layout(body.api_key, body.direction, body.version) {
            _ if no_header => Err(fmt::Error),
            Some(layout) => self.fields(body, layout, out, errors),
            None => undecoded(body, out, errors),
        };
        if written.is_err() {
            out.truncate(start);
            out.push_str("{}");
            if !no_header {
                let text = format!("more than {BODY_TEXT_BYTES_MAX} bytes of text: not shown");
                errors.push(body.says(text));
            }
        }
        if let Some(why) = body.incomplete() {
            errors.push(why);
        }
        name_generation(body, out, start);
    }

    fn fields(
        &mut self,
        body: &Body<'_>,
        layout: &Layout,
        out: &mut String,
        errors: &mut Vec<String>,
    ) -> fmt::Result {
        let mut damages: Vec<(usize, DecodeError)> = Vec::new();
        let mut found = Vec::new();
        let scratch = &mut self.scratch;
        let may_be_cut = body.direction == Direction::Response;
        let mut text = Text::new(out, BODY_TEXT_BYTES_MAX);
        let walked = layout.write_json(body.bytes, &mut text, |text, field| {
            let written = write_batches(text, field, may_be_cut, scratch, &mut found);
            let room = ERRORS_MAX.saturating_sub(damages.len());
            // The field is a part of the body: this is where.
            let at = field.as_ptr().addr() - body.bytes.as_ptr().addr();
            damages.extend(found.drain(..).take(room).map(|error| (at, error)));
            written
        })?;
        if let Err(error) = walked.complete() {
            let is_end = matches!(error.kind, DecodeErrorKind::Truncated { .. });
            if !(is_end && body.incomplete().is_some()) {
                errors.push(body.says(error));
            }
        }
        if !damages.is_empty() {
            say_damages(body, layout, &damages, errors);
        }
        Ok(())
    }
}

/// The generation of an OffsetCommit, which may be a member epoch since v9 (KIP-848), has its old
/// name before that, as packet tools show it.
fn name_generation(body: &Body<'_>, out: &mut String, start: usize) {
    const SINCE_V9: &str = "\"generation_id_or_member_epoch\":";
    let is_old = body.api_key == ApiKey::OFFSET_COMMIT && (1..9).contains(&body.version);
    if is_old
        && body.direction == Direction::Request
        && let Some(at) = out[start..].find(SINCE_V9)
    {
        let at = start + at;
        out.replace_range(at..at + SINCE_V9.len(), "\"generation_id\":");
    }
}

/// A body of which nothing is known: its bytes as they are.
fn undecoded(body: &Body<'_>, out: &mut String, errors: &mut Vec<String>) -> fmt::Result {
    errors.push(body.says(format_args!(
        "{}: {} v{}",
        DecodeErrorKind::UnknownMessage,
        body.api_key,
        body.version
    )));
    out.push_str("{\"undecoded\":");
    write_json_bytes(&mut Text::new(out, BODY_TEXT_BYTES_MAX), body.bytes)?;
    out.push('}');
    Ok(())
}

/// What is wrong with batches, each with the path of its field. Paths cost a second walk, which
/// only damage is worth.
fn say_damages(
    body: &Body<'_>,
    layout: &Layout,
    damages: &[(usize, DecodeError)],
    errors: &mut Vec<String>,
) {
    let mut paths = FieldPaths { body: body.bytes, paths: Vec::new() };
    layout.walk(body.bytes, Limits::NONE, &mut paths);
    for (at, error) in damages {
        let mut error = error.clone();
        if !error.path.contains(".decompressed") {
            error.byte_offset += at;
        }
        if let Some((_, path)) = paths.paths.iter().find(|(field_at, _)| field_at == at) {
            error.path = format!("{path}.{}", error.path);
        }
        errors.push(body.says(error));
    }
}

/// Where the records fields of a body are.
struct FieldPaths<'b> {
    body: &'b [u8],
    paths: Vec<(usize, String)>,
}

impl<'b> Visitor<'b> for FieldPaths<'b> {
    fn value(&mut self, place: &Place<'_>, value: Scalar<'b>) -> Flow {
        if let Scalar::Records(field) = value {
            let at = field.as_ptr().addr() - self.body.as_ptr().addr();
            self.paths.push((at, place.path().to_string()));
        }
        Flow::Continue(())
    }
}

impl Body<'_> {
    fn says(&self, what: impl fmt::Display) -> String {
        match self.direction {
            Direction::Request => format!("request: {what}"),
            Direction::Response => format!("response: {what}"),
        }
    }

    fn incomplete(&self) -> Option<String> {
        let (here, all) = self.frame_bytes;
        let why = match self.extent {
            Extent::Whole | Extent::Enough => return None,
            Extent::Limited => "memory did not allow more",
            Extent::Torn => "the rest is missing from the capture",
        };
        Some(self.says(format_args!("{here} of {all} bytes are here: {why}")))
    }
}
