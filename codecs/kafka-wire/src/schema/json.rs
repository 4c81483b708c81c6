//! Turns a body into JSON as it is walked.
//!
//! Text and bytes are strings where they are UTF-8, else `{"base64": "…"}`; null stays null; a UUID
//! is as Kafka prints it; a tagged field that the table does not know is `"unknown_tag_7"`. Record
//! batches are the caller's to render. A body that stops halfway still gives valid JSON.
//!
//! Never: builds a tree.

use std::fmt::{self, Write};

use super::layout::Layout;
use super::place::Place;
use super::text::{write_base64, write_uuid};
use super::walk::{Flow, Limits, Scalar, Visitor, Walked};

impl Layout {
    /// Writes a body as a JSON object; `records` writes the value of each field of record batches.
    ///
    /// # Errors
    /// As the writer. What is wrong with the body is in the answer.
    ///
    /// ```
    /// use kafka_wire::{ApiKey, schema::{self, Direction}};
    /// let layout = schema::layout(ApiKey::JOIN_GROUP, Direction::Response, 0).unwrap();
    /// let body = [0, 0, 0, 0, 0, 1, 0, 1, b'p', 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'm', 0, 0, 0, 1, 255];
    /// let mut json = String::new();
    /// let walked = layout.write_json(&body, &mut json, |_, _| Ok(())).unwrap();
    /// assert!(walked.complete().is_ok());
    /// assert_eq!(json, concat!(
    ///     r#"{"error_code":0,"generation_id":1,"protocol_name":"p","leader":"","member_id":"","#,
    ///     r#""members":[{"member_id":"m","metadata":{"base64":"/w=="}}]}"#,
    /// ));
    /// ```
    pub fn write_json<W: Write>(
        &self,
        body: &[u8],
        out: &mut W,
        records: impl FnMut(&mut W, &[u8]) -> fmt::Result,
    ) -> Result<Walked, fmt::Error> {
        out.write_char('{')?;
        let mut writer =
            Writer { out, records, open: vec![Open { close: '}', empty: true }], failed: false };
        let walked = self.walk(body, Limits::NONE, &mut writer);
        if writer.failed {
            return Err(fmt::Error);
        }
        while let Some(open) = writer.open.pop() {
            writer.out.write_char(open.close)?;
        }
        Ok(walked)
    }
}

/// Writes bytes as a JSON string where they are UTF-8, else as `{"base64": "…"}`.
///
/// # Errors
/// As the writer.
pub fn write_json_bytes(out: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    match std::str::from_utf8(bytes) {
        Ok(text) => write_json_text(out, text),
        Err(_) => {
            out.write_str("{\"base64\":\"")?;
            write_base64(out, bytes)?;
            out.write_str("\"}")
        }
    }
}

/// Writes text as a JSON string.
///
/// # Errors
/// As the writer.
pub fn write_json_text(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    let mut rest = text;
    while let Some(at) = rest.find(|c| matches!(c, '"' | '\\' | '\0'..='\x1f')) {
        out.write_str(&rest[..at])?;
        match rest.as_bytes()[at] {
            byte @ (b'"' | b'\\') => write!(out, "\\{}", char::from(byte))?,
            b'\n' => out.write_str("\\n")?,
            b'\r' => out.write_str("\\r")?,
            b'\t' => out.write_str("\\t")?,
            byte => write!(out, "\\u{byte:04x}")?,
        }
        rest = &rest[at + 1..];
    }
    out.write_str(rest)?;
    out.write_char('"')
}

/// An object or array not yet closed.
struct Open {
    close: char,
    empty: bool,
}

struct Writer<'o, W, R> {
    out: &'o mut W,
    records: R,
    open: Vec<Open>,
    failed: bool,
}

impl<W: Write, R: FnMut(&mut W, &[u8]) -> fmt::Result> Writer<'_, W, R> {
    /// The comma and the name before a value.
    fn lead(&mut self, place: &Place<'_>) -> fmt::Result {
        self.comma()?;
        if place.is_element() { Ok(()) } else { write!(self.out, "\"{}\":", place.name()) }
    }

    fn comma(&mut self) -> fmt::Result {
        match self.open.last_mut() {
            Some(open) if open.empty => {
                open.empty = false;
                Ok(())
            }
            _ => self.out.write_char(','),
        }
    }

    fn scalar(&mut self, value: Scalar<'_>) -> fmt::Result {
        match value {
            Scalar::Null => self.out.write_str("null"),
            Scalar::Bool(value) => write!(self.out, "{value}"),
            Scalar::Int(value) => write!(self.out, "{value}"),
            // Debug keeps the point of 1.0; JSON has neither infinities nor NaN.
            Scalar::Float(value) if value.is_finite() => write!(self.out, "{value:?}"),
            Scalar::Float(value) => write!(self.out, "\"{value}\""),
            Scalar::Uuid(bytes) => {
                self.out.write_char('"')?;
                write_uuid(self.out, bytes)?;
                self.out.write_char('"')
            }
            Scalar::String(bytes) | Scalar::Bytes(bytes) => write_json_bytes(self.out, bytes),
            Scalar::Records(bytes) => (self.records)(self.out, bytes),
        }
    }

    fn begin(&mut self, place: &Place<'_>, open: char, close: char) -> fmt::Result {
        self.lead(place)?;
        self.open.push(Open { close, empty: true });
        self.out.write_char(open)
    }

    fn end(&mut self) -> fmt::Result {
        self.open.pop().map_or(Ok(()), |open| self.out.write_char(open.close))
    }

    fn flow(&mut self, result: fmt::Result) -> Flow {
        self.failed |= result.is_err();
        if result.is_ok() { Flow::Continue(()) } else { Flow::Break(()) }
    }
}

impl<'b, W: Write, R: FnMut(&mut W, &[u8]) -> fmt::Result> Visitor<'b> for Writer<'_, W, R> {
    fn value(&mut self, place: &Place<'_>, value: Scalar<'b>) -> Flow {
        let result = self.lead(place).and_then(|()| self.scalar(value));
        self.flow(result)
    }

    fn array_begin(&mut self, place: &Place<'_>, _count: u32) -> Flow {
        let result = self.begin(place, '[', ']');
        self.flow(result)
    }

    fn array_end(&mut self, _: &Place<'_>) -> Flow {
        let result = self.end();
        self.flow(result)
    }

    fn struct_begin(&mut self, place: &Place<'_>) -> Flow {
        let result = self.begin(place, '{', '}');
        self.flow(result)
    }

    fn struct_end(&mut self, _: &Place<'_>) -> Flow {
        let result = self.end();
        self.flow(result)
    }

    fn unknown_tag(&mut self, _: &Place<'_>, tag: u32, bytes: &'b [u8]) -> Flow {
        let result = self
            .comma()
            .and_then(|()| write!(self.out, "\"unknown_tag_{tag}\":"))
            .and_then(|()| write_json_bytes(self.out, bytes));
        self.flow(result)
    }
}
