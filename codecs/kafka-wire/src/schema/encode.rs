//! Turns a field tree into a body: what the tree leaves out takes the protocol's default.
//!
//! Whatever the tree says wrongly is an error that names the field, unless it is said in
//! [`Value::Raw`]. A tagged field is written if the tree names it, also with its default.
//!
//! Never: drops a field that the version does not have.

use std::fmt;

use super::FieldKind;
use super::layout::{Field, FieldId, Layout};
use super::text::uuid_from_text;
use super::tree::{Fields, Value};

/// Why a tree is no body of that version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeError {
    /// The field.
    pub path: String,
    /// What is wrong with it.
    pub kind: EncodeErrorKind,
}

/// What is wrong with a field of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodeErrorKind {
    /// The message has no such field in that version.
    NotInVersion {
        /// The message.
        message: &'static str,
        /// The version.
        version: i16,
    },
    /// The value is none of the field's type.
    WrongType {
        /// The field's type in the protocol's words.
        expected: &'static str,
    },
    /// The integer does not fit into the field's type.
    OutOfRange {
        /// The field's type in the protocol's words.
        expected: &'static str,
        /// The integer.
        value: i64,
    },
    /// Null in a field that is never null in that version.
    NotNullable,
    /// More bytes or elements than the length before them can count.
    TooLong(usize),
    /// Tagged fields in a version that has none.
    NotFlexible,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.kind {
            EncodeErrorKind::NotInVersion { message, version } => {
                write!(f, "{message} v{version} has no field {path}")
            }
            EncodeErrorKind::WrongType { expected } => {
                write!(f, "{path} must be of type {expected}")
            }
            EncodeErrorKind::OutOfRange { expected, value } => {
                write!(f, "{path} is of type {expected}, {value} does not fit")
            }
            EncodeErrorKind::NotNullable => write!(f, "{path} cannot be null in this version"),
            EncodeErrorKind::TooLong(length) => write!(f, "{path} is too long: {length}"),
            EncodeErrorKind::NotFlexible => {
                write!(f, "{path} cannot have tagged fields in this version")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

type Encoded = Result<(), EncodeError>;

impl Layout {
    /// Encodes a body.
    ///
    /// # Errors
    /// Where the tree names a field that the version lacks, or says what the field cannot hold.
    ///
    /// ```
    /// use kafka_wire::{ApiKey, schema::{self, Direction, Fields}};
    /// let layout = schema::layout(ApiKey::END_TXN, Direction::Request, 0).unwrap();
    /// let request = Fields::new().with("transactional_id", "t").with("committed", true);
    /// let body = layout.encode(&request).unwrap();
    /// assert_eq!(body, [0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    ///
    /// let wrong = layout.encode(&Fields::new().with("commited", true)).unwrap_err();
    /// assert_eq!(wrong.to_string(), "EndTxnRequest v0 has no field commited");
    /// ```
    pub fn encode(&self, fields: &Fields) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        self.encode_into(fields, &mut out)?;
        Ok(out)
    }

    /// Encodes a body behind what the buffer holds.
    ///
    /// # Errors
    /// As [`Self::encode`]; the buffer then holds a part of the body.
    pub fn encode_into(&self, fields: &Fields, out: &mut Vec<u8>) -> Encoded {
        Encoder { layout: self, out }.fields(self.top.clone(), fields).map_err(|error| *error)
    }

    /// Encodes the value of one field, with the length before it, as it stands in a body.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_field(&self, id: FieldId, value: &Value) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        let mut encoder = Encoder { layout: self, out: &mut out };
        encoder.field(self.field(id), value).map_err(|error| *error)?;
        Ok(out)
    }

    /// The same for one element of an array.
    pub(super) fn encode_element(
        &self,
        id: FieldId,
        value: &Value,
    ) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        let mut encoder = Encoder { layout: self, out: &mut out };
        encoder.element(self.field(id), value).map_err(|error| *error)?;
        Ok(out)
    }

    /// A tree of every field of the version but tagged ones, each with its default.
    #[must_use]
    pub fn defaults(&self) -> Fields {
        self.struct_default(self.top.clone())
    }

    /// The default of a field: an absent one means this.
    #[must_use]
    pub fn default_of(&self, id: FieldId) -> Value {
        self.field_default(self.field(id))
    }

    fn struct_default(&self, fields: std::ops::Range<u16>) -> Fields {
        let mut defaults = Fields::new();
        for id in fields {
            let field = self.field(FieldId(id));
            if field.tag().is_none() {
                defaults.push(field.name(), self.field_default(field));
            }
        }
        defaults
    }

    fn field_default(&self, field: &Field) -> Value {
        let default = field.definition().default;
        match (field.is_array(), field.kind()) {
            // "null" is said of all versions, but in the older ones null may not be legal.
            _ if default == Some("null") && field.is_nullable() => Value::Null,
            (true, _) => Value::Array(Vec::new()),
            (false, FieldKind::Struct) => {
                Value::Struct(self.struct_default(field.children.clone()))
            }
            (false, FieldKind::Bool) => Value::Bool(default == Some("true")),
            (false, FieldKind::Float64) => Value::Float(number(default)),
            (false, FieldKind::Uuid) => Value::Uuid([0; 16]),
            (false, FieldKind::String) => {
                Value::String(default.filter(|&text| text != "null").unwrap_or_default().to_owned())
            }
            (false, FieldKind::Bytes | FieldKind::Records) => Value::Bytes(bytes::Bytes::new()),
            (false, _) => Value::Int(number(default)),
        }
    }
}

fn number<T: std::str::FromStr + Default>(text: Option<&str>) -> T {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Boxed, and the path built from the inside out, because errors are rare.
type Step = Result<(), Box<EncodeError>>;

struct Encoder<'l, 'o> {
    layout: &'l Layout,
    out: &'o mut Vec<u8>,
}

impl Encoder<'_, '_> {
    fn fields(&mut self, range: std::ops::Range<u16>, tree: &Fields) -> Step {
        self.reject_strangers(range.clone(), tree)?;
        let mut tagged = Vec::new();
        for id in range {
            let field = self.layout.field(FieldId(id));
            let value = tree.field(field.name());
            match (field.tag(), value) {
                (Some(tag), Some(value)) => tagged.push((tag, Tagged::Known(field, value))),
                (Some(_), None) => {}
                (None, Some(value)) => {
                    self.field(field, value).map_err(|error| within(error, field.name()))?;
                }
                (None, None) => self.field(field, &self.layout.field_default(field))?,
            }
        }
        if !self.layout.is_flexible() {
            return match tree.unknown_tags() {
                [] => Ok(()),
                _ => Err(wrong(EncodeErrorKind::NotFlexible)),
            };
        }
        let unknown = tree.unknown_tags().iter();
        tagged.extend(unknown.map(|(tag, bytes)| (*tag, Tagged::Unknown(bytes))));
        tagged.sort_by_key(|(tag, _)| *tag);
        self.tagged(&tagged)
    }

    fn reject_strangers(&self, range: std::ops::Range<u16>, tree: &Fields) -> Step {
        for (name, _) in tree.iter() {
            let mut fields = range.clone().map(|id| self.layout.field(FieldId(id)));
            if !fields.any(|field| field.name() == name) {
                return Err(Box::new(EncodeError {
                    path: name.to_owned(),
                    kind: EncodeErrorKind::NotInVersion {
                        message: self.layout.message().name(),
                        version: self.layout.version(),
                    },
                }));
            }
        }
        Ok(())
    }

    fn tagged(&mut self, tagged: &[(u32, Tagged<'_>)]) -> Step {
        self.uvarint(tagged.len() as u32);
        for (tag, value) in tagged {
            self.uvarint(*tag);
            let bytes = match value {
                Tagged::Unknown(bytes) => bytes.to_vec(),
                Tagged::Known(field, value) => {
                    let mut out = Vec::new();
                    let mut encoder = Encoder { layout: self.layout, out: &mut out };
                    encoder.field(field, value).map_err(|error| within(error, field.name()))?;
                    out
                }
            };
            let size = u32::try_from(bytes.len());
            self.uvarint(size.map_err(|_| wrong(EncodeErrorKind::TooLong(bytes.len())))?);
            self.out.extend_from_slice(&bytes);
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, value: &Value) -> Step {
        match (field.is_array(), value) {
            (_, Value::Raw(bytes)) => {
                self.out.extend_from_slice(bytes);
                Ok(())
            }
            (_, Value::Null) => self.null(field),
            (true, Value::Array(elements)) => {
                self.count(elements.len())?;
                for (index, element) in elements.iter().enumerate() {
                    self.element(field, element)
                        .map_err(|error| within(error, &format!("[{index}]")))?;
                }
                Ok(())
            }
            (true, _) => Err(wrong_type(field)),
            (false, Value::Struct(_))
                if field.kind() == FieldKind::Struct && field.is_nullable() =>
            {
                self.out.push(1);
                self.element(field, value)
            }
            (false, _) => self.element(field, value),
        }
    }

    fn null(&mut self, field: &Field) -> Step {
        if !field.is_nullable() {
            return Err(wrong(EncodeErrorKind::NotNullable));
        }
        match (field.is_array(), field.kind()) {
            (false, FieldKind::Struct) => self.out.push(0xff),
            _ if self.layout.is_flexible() => self.out.push(0),
            (false, FieldKind::String) => self.out.extend_from_slice(&[0xff; 2]),
            _ => self.out.extend_from_slice(&[0xff; 4]),
        }
        Ok(())
    }

    /// A value without regard to the array it may be in or the null it could be.
    fn element(&mut self, field: &Field, value: &Value) -> Step {
        match (field.kind(), value) {
            (_, Value::Raw(bytes)) => self.out.extend_from_slice(bytes),
            (FieldKind::Struct, Value::Struct(tree)) => {
                return self.fields(field.children.clone(), tree);
            }
            (FieldKind::Bool, Value::Bool(value)) => self.out.push((*value).into()),
            (FieldKind::Float64, Value::Float(value)) => {
                self.out.extend_from_slice(&value.to_be_bytes());
            }
            (FieldKind::Float64, Value::Int(value)) => {
                self.out.extend_from_slice(&(*value as f64).to_be_bytes());
            }
            (FieldKind::Uuid, Value::Uuid(bytes)) => self.out.extend_from_slice(bytes),
            (FieldKind::Uuid, Value::String(text)) => {
                let bytes = uuid_from_text(text).ok_or_else(|| wrong_type(field))?;
                self.out.extend_from_slice(&bytes);
            }
            (FieldKind::String, Value::String(_) | Value::Bytes(_))
            | (FieldKind::Bytes | FieldKind::Records, Value::String(_) | Value::Bytes(_)) => {
                let bytes = value.as_bytes().unwrap_or_default();
                self.length(field, bytes.len())?;
                self.out.extend_from_slice(bytes);
            }
            (_, Value::Int(value)) => return self.int(field, *value),
            (_, Value::Null) => return Err(wrong(EncodeErrorKind::NotNullable)),
            _ => return Err(wrong_type(field)),
        }
        Ok(())
    }

    fn int(&mut self, field: &Field, value: i64) -> Step {
        let fits = match field.kind() {
            FieldKind::Int8 => i8::try_from(value).map(|_| 1),
            FieldKind::Int16 => i16::try_from(value).map(|_| 2),
            FieldKind::Uint16 => u16::try_from(value).map(|_| 2),
            FieldKind::Int32 => i32::try_from(value).map(|_| 4),
            FieldKind::Uint32 => u32::try_from(value).map(|_| 4),
            FieldKind::Int64 => Ok(8),
            _ => return Err(wrong_type(field)),
        };
        let expected = field.definition().type_name.trim_start_matches("[]");
        let bytes: usize =
            fits.map_err(|_| wrong(EncodeErrorKind::OutOfRange { expected, value }))?;
        self.out.extend_from_slice(&value.to_be_bytes()[8 - bytes..]);
        Ok(())
    }

    fn length(&mut self, field: &Field, length: usize) -> Step {
        if self.layout.is_flexible() || field.kind() != FieldKind::String {
            return self.count(length);
        }
        let short = i16::try_from(length).map_err(|_| wrong(EncodeErrorKind::TooLong(length)))?;
        self.out.extend_from_slice(&short.to_be_bytes());
        Ok(())
    }

    fn count(&mut self, count: usize) -> Step {
        let long = i32::try_from(count).map_err(|_| wrong(EncodeErrorKind::TooLong(count)))?;
        if self.layout.is_flexible() {
            self.uvarint(long as u32 + 1);
        } else {
            self.out.extend_from_slice(&long.to_be_bytes());
        }
        Ok(())
    }

    fn uvarint(&mut self, value: u32) {
        put_uvarint(self.out, value);
    }
}

/// A tagged field about to be written.
enum Tagged<'t> {
    Known(&'t Field, &'t Value),
    Unknown(&'t [u8]),
}

/// Writes an unsigned variable-length integer in as few bytes as it takes.
pub(super) fn put_uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn wrong(kind: EncodeErrorKind) -> Box<EncodeError> {
    Box::new(EncodeError { path: String::new(), kind })
}

fn wrong_type(field: &Field) -> Box<EncodeError> {
    wrong(EncodeErrorKind::WrongType { expected: field.definition().type_name })
}

/// Puts a name or index before the path of an error.
fn within(mut error: Box<EncodeError>, step: &str) -> Box<EncodeError> {
    let dot = if error.path.is_empty() || error.path.starts_with('[') { "" } else { "." };
    error.path = format!("{step}{dot}{}", error.path);
    error
}
