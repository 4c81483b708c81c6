//! Turns a body into the same body with some of its fields replaced, every other byte kept.
//!
//! A field's length stands in the field itself, so that most edits are a cut and a paste. Two
//! things around a field count it: the tagged fields it is in, by bytes, and its array, by
//! elements; both are written anew.
//!
//! Never: re-encodes what was not asked for, so that the rest of a malformed body stays malformed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::encode::{EncodeError, EncodeErrorKind, put_uvarint};
use super::layout::{FieldId, Layout};
use super::lookup::{Hit, Lookup};
use super::place::Place;
use super::tree::Value;
use super::walk::{Flow, Limits, Scalar, Visitor, Walked};

/// What to do to a field or an element.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// Another value; [`Value::Raw`] for bytes as they are.
    Set(Value),
    /// The element once more, behind itself.
    Repeat,
    /// The element not at all.
    Remove,
}

/// Why an edit is impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditError {
    /// The body, as far as it could be walked, has no such field or element.
    NotFound(String),
    /// Only elements of arrays can be repeated and removed.
    NoElement(String),
    /// The field cannot hold the value.
    Encode(EncodeError),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(path) => write!(f, "the body has no {path}"),
            Self::NoElement(path) => write!(f, "{path} is no element of an array"),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EditError {}

/// An edited body.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// The bytes.
    pub body: Vec<u8>,
    /// How many fields were replaced.
    pub count: usize,
    /// How the walk over the old body ended; behind that place nothing was replaced.
    pub walked: Walked,
}

impl Layout {
    /// Edits the field or element at a path such as `topics[2].partitions[0].error_code`.
    ///
    /// # Errors
    /// Where the body has nothing at the path, or the value is none of the field's.
    ///
    /// ```
    /// use kafka_wire::{ApiKey, schema::{self, Direction, Edit}};
    /// let layout = schema::layout(ApiKey::LIST_GROUPS, Direction::Response, 0).unwrap();
    /// let body = [0, 0, 0, 0, 0, 1, 0, 1, b'g', 0, 0];
    /// let edited = layout.edit(&body, "groups[0].group_id", &Edit::Set("xyz".into())).unwrap();
    /// assert_eq!(edited, [0, 0, 0, 0, 0, 1, 0, 3, b'x', b'y', b'z', 0, 0]);
    /// let edited = layout.edit(&body, "groups[0]", &Edit::Remove).unwrap();
    /// assert_eq!(edited, [0, 0, 0, 0, 0, 0]);
    /// ```
    pub fn edit(&self, body: &[u8], path: &str, edit: &Edit) -> Result<Vec<u8>, EditError> {
        let not_found = || EditError::NotFound(path.to_owned());
        let target = Target::parse(self, path).ok_or_else(not_found)?;
        let mut finder = Finder { target: &target, found: None };
        self.walk(body, Limits::NONE, &mut finder);
        let found = finder.found.ok_or_else(not_found)?;
        let mut splices = Splices { sizes: found.sizes, ..Splices::default() };
        let old = &body[found.range.clone()];
        let count = match (edit, &found.array) {
            (Edit::Set(value), _) => {
                let encoded = match target.element {
                    true => self.encode_element(target.field, value),
                    false => self.encode_field(target.field, value),
                };
                splices.replace(found.range, encoded.map_err(EditError::Encode)?);
                None
            }
            (Edit::Repeat, Some((_, count))) => {
                splices.replace(found.range, [old, old].concat());
                Some(count + 1)
            }
            (Edit::Remove, Some((_, count))) => {
                splices.replace(found.range, Vec::new());
                Some(count - 1)
            }
            (_, None) => return Err(EditError::NoElement(path.to_owned())),
        };
        if let (Some(count), Some((at, _))) = (count, found.array) {
            splices.replace(at, self.count_bytes(count));
        }
        splices.apply(body).map_err(EditError::Encode)
    }

    /// The count of an array as it stands before the elements.
    fn count_bytes(&self, count: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.is_flexible() {
            put_uvarint(&mut bytes, count.saturating_add(1));
        } else {
            bytes.extend_from_slice(&count.to_be_bytes());
        }
        bytes
    }
}

impl Lookup {
    /// Replaces the fields that were looked up by what `replace` gives for each; none keeps it.
    ///
    /// # Errors
    /// Where a value is none of the field's.
    ///
    /// ```
    /// use kafka_wire::{ApiKey, schema::{self, Direction, Value}};
    /// let layout = schema::layout(ApiKey::FIND_COORDINATOR, Direction::Response, 0).unwrap();
    /// let lookup = layout.lookup(&["host", "port"]).unwrap();
    /// let body = [0, 0, 0, 0, 0, 1, 0, 2, b'k', b'1', 0, 0, 0x23, 0x84];
    /// let edited = lookup.rewrite(&body, |hit| match hit.slot {
    ///     0 => Some(Value::from("localhost")),
    ///     _ => Some(Value::from(7)),
    /// }).unwrap();
    /// assert_eq!(edited.body, *b"\0\0\0\0\0\x01\0\x09localhost\0\0\0\x07");
    /// ```
    pub fn rewrite(
        &self,
        body: &[u8],
        mut replace: impl FnMut(Hit<'_, '_>) -> Option<Value>,
    ) -> Result<Edited, EncodeError> {
        let layout = self.layout();
        let (mut splices, mut failed) = (Splices::default(), None);
        let walked = self.read(body, |hit| {
            let (Some(value), Some(id)) = (replace(hit), hit.place.id()) else {
                return Flow::Continue(());
            };
            let encoded = match hit.place.is_element() {
                true => layout.encode_element(id, &value),
                false => layout.encode_field(id, &value),
            };
            match encoded {
                Ok(bytes) => {
                    splices.sizes.extend(hit.place.sizes());
                    splices.replace(hit.place.range(), bytes);
                    Flow::Continue(())
                }
                Err(mut error) => {
                    error.path = hit.place.path().to_string();
                    failed = Some(error);
                    Flow::Break(())
                }
            }
        });
        match failed {
            Some(error) => Err(error),
            None => {
                let count = splices.replaced.len();
                Ok(Edited { body: splices.apply(body)?, count, walked })
            }
        }
    }
}

/// Byte ranges to replace, by where they begin, and the sizes around them.
#[derive(Default)]
struct Splices {
    replaced: BTreeMap<usize, (usize, Vec<u8>)>,
    /// Where each size stands, and where the bytes it counts begin.
    sizes: BTreeMap<usize, usize>,
}

impl Splices {
    fn replace(&mut self, range: Range<usize>, bytes: Vec<u8>) {
        self.replaced.insert(range.start, (range.end, bytes));
    }

    fn apply(mut self, body: &[u8]) -> Result<Vec<u8>, EncodeError> {
        self.write_sizes(body)?;
        let grown: usize = self.replaced.values().map(|(_, bytes)| bytes.len()).sum();
        let mut out = Vec::with_capacity(body.len() + grown);
        let mut at = 0;
        for (start, (end, bytes)) in self.replaced {
            out.extend_from_slice(&body[at..start]);
            out.extend_from_slice(&bytes);
            at = end;
        }
        out.extend_from_slice(&body[at..]);
        Ok(out)
    }

    /// Innermost first, since a size may itself grow by a byte within the field around it.
    fn write_sizes(&mut self, body: &[u8]) -> Result<(), EncodeError> {
        for (&size_at, &content_at) in std::mem::take(&mut self.sizes).iter().rev() {
            let size = body[size_at..content_at]
                .iter()
                .rev()
                .fold(0u32, |size, byte| size << 7 | u32::from(byte & 0x7f));
            let content = content_at..content_at + size as usize;
            let grown: i64 = self
                .replaced
                .range(content)
                .map(|(start, (end, bytes))| bytes.len() as i64 - (end - start) as i64)
                .sum();
            if grown == 0 {
                continue;
            }
            let new = u32::try_from(i64::from(size) + grown).map_err(|_| EncodeError {
                path: String::new(),
                kind: EncodeErrorKind::TooLong(body.len()),
            })?;
            let mut bytes = Vec::new();
            put_uvarint(&mut bytes, new);
            self.replace(size_at..content_at, bytes);
        }
        Ok(())
    }
}

/// A path with indexes, resolved.
struct Target {
    field: FieldId,
    indexes: Vec<u32>,
    element: bool,
}

impl Target {
    fn parse(layout: &Layout, path: &str) -> Option<Self> {
        let (mut names, mut indexes, mut element) = (String::new(), Vec::new(), false);
        for step in path.split('.') {
            let (name, index) = match step.strip_suffix(']').map(|step| step.split_once('[')) {
                Some(split) => split.map(|(name, index)| (name, Some(index)))?,
                None => (step, None),
            };
            if !names.is_empty() {
                names.push('.');
            }
            names.push_str(name);
            element = index.is_some();
            if let Some(index) = index {
                indexes.push(index.parse().ok()?);
            }
        }
        Some(Self { field: layout.find(&names)?, indexes, element })
    }
}

/// Where the target is, and what around it counts it.
struct Found {
    range: Range<usize>,
    sizes: BTreeMap<usize, usize>,
    /// The count of the array it is an element of: where it stands, and how many.
    array: Option<(Range<usize>, u32)>,
}

struct Finder<'t> {
    target: &'t Target,
    found: Option<Found>,
}

impl Finder<'_> {
    fn visit(&mut self, place: &Place<'_>) -> Flow {
        if place.id() != Some(self.target.field)
            || place.is_element() != self.target.element
            || !place.indexes().eq(self.target.indexes.iter().copied())
        {
            return Flow::Continue(());
        }
        self.found = Some(Found {
            range: place.range(),
            sizes: place.sizes().collect(),
            array: place.array().filter(|_| self.target.element),
        });
        Flow::Break(())
    }
}

impl Visitor<'_> for Finder<'_> {
    fn value(&mut self, place: &Place<'_>, _: Scalar<'_>) -> Flow {
        self.visit(place)
    }

    fn array_end(&mut self, place: &Place<'_>) -> Flow {
        self.visit(place)
    }

    fn struct_end(&mut self, place: &Place<'_>) -> Flow {
        self.visit(place)
    }
}
