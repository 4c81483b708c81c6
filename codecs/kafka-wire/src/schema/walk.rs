//! Visits the bytes of a body, field by field, and says where and why it stopped.
//!
//! What is merely odd (tags out of order, a null where none belongs) is noted and walked past;
//! the guard's strict walk stops at it.
//!
//! Never: decodes record batches, checks that text is UTF-8.

use std::ops::ControlFlow;

use super::layout::Layout;
use super::place::Place;
use super::run::run;
use crate::error::{DecodeError, DecodeErrorKind};

/// What a walk may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory that a typed decode of the body may take.
    pub decoded_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { decoded_bytes_max: 64 << 20 }
    }
}

impl Limits {
    /// No limit, for whoever builds nothing.
    pub const NONE: Self = Self { decoded_bytes_max: u64::MAX };
}

/// A value as it stands in the bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'b> {
    /// A null string, bytes, records, array or struct.
    Null,
    /// Any byte but zero is true.
    Bool(bool),
    /// An integer of any size.
    Int(i64),
    /// A double.
    Float(f64),
    /// A UUID.
    Uuid(&'b [u8; 16]),
    /// Text, not checked to be UTF-8.
    String(&'b [u8]),
    /// Opaque bytes.
    Bytes(&'b [u8]),
    /// Record batches.
    Records(&'b [u8]),
}

impl<'b> Scalar<'b> {
    /// An integer's value.
    #[must_use]
    pub fn as_int(self) -> Option<i64> {
        if let Self::Int(value) = self { Some(value) } else { None }
    }

    /// The bytes of text, bytes or records.
    #[must_use]
    pub fn as_bytes(self) -> Option<&'b [u8]> {
        match self {
            Self::String(bytes) | Self::Bytes(bytes) | Self::Records(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Text, where it is UTF-8.
    #[must_use]
    pub fn as_str(self) -> Option<&'b str> {
        if let Self::String(bytes) = self { std::str::from_utf8(bytes).ok() } else { None }
    }
}

/// Whether to go on.
pub type Flow = ControlFlow<()>;

/// What a walk announces. Every method goes on by default.
#[allow(unused_variables)] // Named for the documentation.
pub trait Visitor<'b> {
    /// A value: a field, an element of an array, or a null of any kind.
    fn value(&mut self, place: &Place<'_>, value: Scalar<'b>) -> Flow {
        Flow::Continue(())
    }
    /// An array before its elements; the count is what the bytes declare.
    fn array_begin(&mut self, place: &Place<'_>, count: u32) -> Flow {
        Flow::Continue(())
    }
    /// An array after its elements.
    fn array_end(&mut self, place: &Place<'_>) -> Flow {
        Flow::Continue(())
    }
    /// A struct, which may be an element of an array, before its fields.
    fn struct_begin(&mut self, place: &Place<'_>) -> Flow {
        Flow::Continue(())
    }
    /// A struct after its fields.
    fn struct_end(&mut self, place: &Place<'_>) -> Flow {
        Flow::Continue(())
    }
    /// A tagged field that the table does not know; the place is the struct it is in.
    fn unknown_tag(&mut self, place: &Place<'_>, tag: u32, bytes: &'b [u8]) -> Flow {
        Flow::Continue(())
    }
}

/// Announced to nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ignore;

impl Visitor<'_> for Ignore {}

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// Bytes understood; the body's length where nothing is left over.
    pub end: usize,
    /// Bytes not understood, or never reached.
    pub left_over: usize,
    /// Why the walk stopped before the end of the message.
    pub stopped: Option<DecodeError>,
    /// The first oddity that did not stop it.
    pub odd: Option<DecodeError>,
    /// Whether the visitor ended it.
    pub interrupted: bool,
    /// Bytes of memory a typed decode of what was walked takes.
    pub decoded_bytes: u64,
    /// Variable-length integers in more bytes than they need, which readers accept.
    pub long_varints: u64,
}

impl Walked {
    /// The first thing wrong with the body: what stopped the walk, else what was odd, else bytes
    /// left over behind the last field.
    ///
    /// # Errors
    /// Where there is such a thing.
    pub fn complete(self) -> Result<(), DecodeError> {
        let trailing = || DecodeError {
            byte_offset: self.end,
            path: String::new(),
            kind: DecodeErrorKind::TrailingBytes(self.left_over),
        };
        let left_over = (self.left_over > 0 && !self.interrupted).then(trailing);
        match self.stopped.or(self.odd).or(left_over) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Layout {
    /// Walks a body and announces every field of it.
    ///
    /// ```
    /// use kafka_wire::{ApiKey, schema::{self, Direction, Flow, Limits, Place, Scalar, Visitor}};
    ///
    /// struct Print(Vec<String>);
    /// impl Visitor<'_> for Print {
    ///     fn value(&mut self, place: &Place<'_>, value: Scalar<'_>) -> Flow {
    ///         self.0.push(format!("{} = {value:?} at {:?}", place.path(), place.range()));
    ///         Flow::Continue(())
    ///     }
    /// }
    ///
    /// let layout = schema::layout(ApiKey::HEARTBEAT, Direction::Response, 1).unwrap();
    /// let mut print = Print(Vec::new());
    /// let walked = layout.walk(&[0, 0, 0, 7, 0, 27], Limits::default(), &mut print);
    /// assert!(walked.complete().is_ok());
    /// assert_eq!(print.0, ["throttle_time_ms = Int(7) at 0..4", "error_code = Int(27) at 4..6"]);
    /// ```
    pub fn walk<'b>(
        &self,
        body: &'b [u8],
        limits: Limits,
        visitor: &mut impl Visitor<'b>,
    ) -> Walked {
        run::<_, false>(self, &self.full, body, limits, visitor)
    }
}
