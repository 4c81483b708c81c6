//! A body as a field tree: what scenarios say, the fuzzer changes and tests compare.
//!
//! A tree holds only the fields someone named; [`super::encode`] fills in the rest with the
//! protocol's defaults. [`Value::Raw`] stands for any field and is written as it is, so that wrong
//! lengths, wrong nulls and wrong anything can be said.
//!
//! Never: knows a schema.

use std::borrow::Cow;

use bytes::Bytes;

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer of any size.
    Int(i64),
    /// A double.
    Float(f64),
    /// A UUID.
    Uuid([u8; 16]),
    /// Text; also good for bytes, and for a UUID as Kafka prints it.
    String(String),
    /// Bytes; also good for text that is not UTF-8.
    Bytes(Bytes),
    /// Elements of an array.
    Array(Vec<Value>),
    /// Fields of a struct.
    Struct(Fields),
    /// The encoding of the whole field, its length and all, written unchecked.
    Raw(Bytes),
}

/// Named fields of a body or a struct, in the order they were named.
///
/// ```
/// use kafka_wire::schema::{Fields, Value};
/// let request = Fields::new()
///     .with("group_id", "g")
///     .with("topics", vec![Fields::new().with("name", "t").with("partitions", vec![0, 1])]);
/// assert_eq!(request.at("topics[0].partitions[1]"), Some(&Value::Int(1)));
/// assert_eq!(request.at("topics[1]"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields {
    entries: Vec<(Cow<'static, str>, Value)>,
    unknown_tags: Vec<(u32, Bytes)>,
}

impl Fields {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more field, or another value for a field already named.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Names a field; returns the value it had.
    pub fn set(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Value>,
    ) -> Option<Value> {
        let (name, value) = (name.into(), value.into());
        match self.field_mut(&name) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                self.entries.push((name, value));
                None
            }
        }
    }

    /// Unnames a field; returns the value it had.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let index = self.entries.iter().position(|(n, _)| n == name)?;
        Some(self.entries.remove(index).1)
    }

    /// Adds a field whose name is not there yet: what a decoder knows without looking.
    pub(super) fn push(&mut self, name: &'static str, value: Value) {
        self.entries.push((Cow::Borrowed(name), value));
    }

    /// Adds a tagged field that the schema does not know.
    pub fn add_unknown_tag(&mut self, tag: u32, bytes: impl Into<Bytes>) {
        self.unknown_tags.push((tag, bytes.into()));
    }

    /// Tagged fields that the schema does not know.
    #[must_use]
    pub fn unknown_tags(&self) -> &[(u32, Bytes)] {
        &self.unknown_tags
    }

    /// The value of a field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// The value of a field of that name, to be changed.
    #[must_use]
    pub fn field_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.entries.iter_mut().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// The fields in the order they were named.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// The fields, to be changed.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Value)> {
        self.entries.iter_mut().map(|(name, value)| (&**name, value))
    }

    /// Whether no field is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unknown_tags.is_empty()
    }

    /// The value at a path such as `topics[2].partitions[0].records`.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Value> {
        let (name, rest) = first_step(path);
        let mut value = self.field(name)?;
        let mut rest = rest;
        loop {
            (value, rest) = match (value, index(rest)) {
                (value, _) if rest.is_empty() => return Some(value),
                (Value::Array(elements), Some((index, rest))) => (elements.get(index)?, rest),
                (Value::Struct(fields), None) => return fields.at(rest.strip_prefix('.')?),
                _ => return None,
            };
        }
    }

    /// The value at a path, to be changed.
    #[must_use]
    pub fn at_mut(&mut self, path: &str) -> Option<&mut Value> {
        let (name, mut rest) = first_step(path);
        let mut value = self.field_mut(name)?;
        loop {
            (value, rest) = match (value, index(rest)) {
                (value, _) if rest.is_empty() => return Some(value),
                (Value::Array(elements), Some((index, rest))) => (elements.get_mut(index)?, rest),
                (Value::Struct(fields), None) => return fields.at_mut(rest.strip_prefix('.')?),
                _ => return None,
            };
        }
    }
}

/// A path's first name and what follows it.
fn first_step(path: &str) -> (&str, &str) {
    path.split_at(path.find(['.', '[']).unwrap_or(path.len()))
}

/// The index a path goes on with, and what follows it.
fn index(path: &str) -> Option<(usize, &str)> {
    let (digits, rest) = path.strip_prefix('[')?.split_once(']')?;
    Some((digits.parse().ok()?, rest))
}

impl Value {
    /// An integer's value.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(value) = self { Some(*value) } else { None }
    }

    /// Text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The bytes of text or bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::String(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The elements of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(elements) = self { Some(elements) } else { None }
    }

    /// The fields of a struct.
    #[must_use]
    pub fn as_struct(&self) -> Option<&Fields> {
        if let Self::Struct(fields) = self { Some(fields) } else { None }
    }
}

macro_rules! value_from {
    ($($from:ty => $value:ident => $with:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $with
            }
        }
    )*};
}

value_from! {
    bool => v => Self::Bool(v);
    i8 => v => Self::Int(v.into());
    i16 => v => Self::Int(v.into());
    i32 => v => Self::Int(v.into());
    i64 => v => Self::Int(v);
    u16 => v => Self::Int(v.into());
    u32 => v => Self::Int(v.into());
    f64 => v => Self::Float(v);
    [u8; 16] => v => Self::Uuid(v);
    &str => v => Self::String(v.to_owned());
    String => v => Self::String(v);
    Bytes => v => Self::Bytes(v);
    Vec<u8> => v => Self::Bytes(v.into());
    &[u8] => v => Self::Bytes(Bytes::copy_from_slice(v));
    Fields => v => Self::Struct(v);
    Vec<Value> => v => Self::Array(v);
    Vec<Fields> => v => Self::Array(v.into_iter().map(Self::Struct).collect());
    Vec<i32> => v => Self::Array(v.into_iter().map(Self::from).collect());
    Vec<&str> => v => Self::Array(v.into_iter().map(Self::from).collect());
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
