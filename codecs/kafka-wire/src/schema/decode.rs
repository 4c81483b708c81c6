//! Turns a body into a field tree, as far as it goes.
//!
//! What the tree cannot say in values it says raw: a boolean of 2, a length in more bytes than it
//! needs. So an encoded tree gives the same bytes again, unless [`Decoded::exact`] is false.
//!
//! Never: builds a tree larger than the limit.

use bytes::Bytes;

use super::FieldKind;
use super::layout::{Field, Layout};
use super::place::Place;
use super::tree::{Fields, Value};
use super::walk::{Flow, Limits, Scalar, Visitor, Walked};
use crate::error::DecodeErrorKind;

/// A body as a tree, and how the walk over it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// What was understood: everything before the place where the walk stopped.
    pub fields: Fields,
    /// How the walk ended. Where the tree grew beyond the limit, that is what stopped it.
    pub walked: Walked,
    /// Whether encoding the tree gives the bytes that were walked again. Counts and sizes in more
    /// bytes than they need, and tags out of order, are not kept.
    pub exact: bool,
}

impl Layout {
    /// Decodes a body into a tree.
    ///
    /// ```
    /// use kafka_wire::{ApiKey, schema::{self, Direction, Limits, Value}};
    /// let layout = schema::layout(ApiKey::HEARTBEAT, Direction::Response, 0).unwrap();
    /// let decoded = layout.decode(&[0, 27, 9], Limits::default());
    /// assert_eq!(decoded.fields.field("error_code"), Some(&Value::Int(27)));
    /// assert_eq!(decoded.walked.left_over, 1);
    /// ```
    #[must_use]
    pub fn decode(&self, body: &[u8], limits: Limits) -> Decoded {
        let mut builder = Builder {
            body,
            flexible: self.is_flexible(),
            open: vec![Open::Struct(Fields::new())],
            left: limits.decoded_bytes_max,
            too_large: None,
            exact: true,
            long_varints: 0,
        };
        // The tree has its own account: what typed structs would take is not what it takes.
        let mut walked = self.walk(body, Limits::NONE, &mut builder);
        if let Some((byte_offset, path)) = builder.too_large.take() {
            let kind = DecodeErrorKind::TooLargeInMemory { bytes: limits.decoded_bytes_max };
            walked.interrupted = false;
            walked.stopped = Some(crate::DecodeError { byte_offset, path, kind });
        }
        // What was open when the walk stopped is closed as it is.
        while builder.open.len() > 1 {
            builder.exact = false;
            builder.close();
        }
        let fields = match builder.open.pop() {
            Some(Open::Struct(fields)) => fields,
            _ => Fields::new(),
        };
        let exact = builder.exact
            && walked.odd.is_none()
            && walked.stopped.is_none()
            && walked.long_varints == builder.long_varints;
        Decoded { fields, walked, exact }
    }
}

/// A struct or array whose end is still to come.
enum Open {
    Struct(Fields),
    Array(&'static str, Vec<Value>),
    /// A struct that is a field, with the field's name.
    Field(&'static str, Fields),
}

struct Builder<'b> {
    body: &'b [u8],
    flexible: bool,
    open: Vec<Open>,
    left: u64,
    too_large: Option<(usize, String)>,
    exact: bool,
    /// Over-long lengths that are kept, because the whole field is kept raw.
    long_varints: u64,
}

impl Builder<'_> {
    /// Whether the tree may grow by a value and that many bytes.
    fn afford(&mut self, place: &Place<'_>, bytes: usize) -> Flow {
        let cost = (size_of::<(std::borrow::Cow<'static, str>, Value)>() + bytes) as u64;
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Flow::Continue(())
            }
            None => {
                self.too_large = Some((place.range().start, place.path().to_string()));
                Flow::Break(())
            }
        }
    }

    fn add(&mut self, name: &'static str, value: Value) {
        match self.open.last_mut() {
            Some(Open::Struct(fields) | Open::Field(_, fields)) => fields.push(name, value),
            Some(Open::Array(_, elements)) => elements.push(value),
            None => {}
        }
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Open::Struct(fields)) => self.add("", Value::Struct(fields)),
            Some(Open::Field(name, fields)) => self.add(name, Value::Struct(fields)),
            Some(Open::Array(name, elements)) => self.add(name, Value::Array(elements)),
            None => {}
        }
    }

    /// A value in the tree's words, or raw where its bytes are not the ones those would give.
    fn value_of(&mut self, place: &Place<'_>, value: Scalar<'_>) -> Value {
        let raw = &self.body[place.range()];
        let plain = match value {
            Scalar::Bool(_) => raw[0] <= 1,
            Scalar::Null => self.null_is_plain(place, raw),
            Scalar::String(bytes) | Scalar::Bytes(bytes) | Scalar::Records(bytes) => {
                !self.flexible || raw.len() == bytes.len() + uvarint_bytes(bytes.len() + 1)
            }
            _ => true,
        };
        if !plain {
            let long = match value {
                Scalar::Bool(_) => false,
                // A null where none belongs, or a flag of another value, may be of one byte.
                Scalar::Null => raw.len() > 1,
                _ => true,
            };
            self.long_varints += u64::from(self.flexible && long);
            return Value::Raw(Bytes::copy_from_slice(raw));
        }
        match value {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Int(value) => Value::Int(value),
            Scalar::Float(value) => Value::Float(value),
            Scalar::Uuid(bytes) => Value::Uuid(*bytes),
            Scalar::String(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Value::String(text.to_owned()),
                Err(_) => Value::Bytes(Bytes::copy_from_slice(bytes)),
            },
            Scalar::Bytes(bytes) | Scalar::Records(bytes) => {
                Value::Bytes(Bytes::copy_from_slice(bytes))
            }
        }
    }

    /// A null where none belongs, or written as no encoder writes it, stays raw.
    fn null_is_plain(&self, place: &Place<'_>, raw: &[u8]) -> bool {
        let Some(field) = place.field() else { return false };
        let nullable = field.is_nullable() && !place.is_element();
        let is_struct = field.kind() == FieldKind::Struct && !field.is_array();
        nullable && if is_struct { raw == [0xff] } else { !self.flexible || raw == [0] }
    }

    /// Counts and flags in front of what follows must be as an encoder writes them.
    fn check_front(&mut self, place: &Place<'_>, plain: &[u8]) {
        self.exact &= self.body.get(place.range()).is_some_and(|raw| raw == plain);
    }
}

/// Bytes an unsigned variable-length integer takes.
fn uvarint_bytes(value: usize) -> usize {
    (usize::BITS - value.leading_zeros()).div_ceil(7).max(1) as usize
}

impl<'b> Visitor<'b> for Builder<'_> {
    fn value(&mut self, place: &Place<'_>, value: Scalar<'b>) -> Flow {
        self.afford(place, value.as_bytes().map_or(0, <[u8]>::len))?;
        let value = self.value_of(place, value);
        self.add(place.name(), value);
        Flow::Continue(())
    }

    fn array_begin(&mut self, place: &Place<'_>, _count: u32) -> Flow {
        self.afford(place, 0)?;
        self.open.push(Open::Array(place.name(), Vec::new()));
        Flow::Continue(())
    }

    fn array_end(&mut self, _: &Place<'_>) -> Flow {
        self.close();
        Flow::Continue(())
    }

    fn struct_begin(&mut self, place: &Place<'_>) -> Flow {
        self.afford(place, 0)?;
        if place.is_element() {
            self.open.push(Open::Struct(Fields::new()));
            return Flow::Continue(());
        }
        if place.field().is_some_and(Field::is_nullable) {
            self.check_front(place, &[1]);
        }
        self.open.push(Open::Field(place.name(), Fields::new()));
        Flow::Continue(())
    }

    fn struct_end(&mut self, _: &Place<'_>) -> Flow {
        self.close();
        Flow::Continue(())
    }

    fn unknown_tag(&mut self, place: &Place<'_>, tag: u32, bytes: &'b [u8]) -> Flow {
        self.afford(place, bytes.len())?;
        if let Some(Open::Struct(fields) | Open::Field(_, fields)) = self.open.last_mut() {
            fields.add_unknown_tag(tag, Bytes::copy_from_slice(bytes));
        }
        Flow::Continue(())
    }
}
