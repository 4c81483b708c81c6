//! Turns a message's definition into the layout of one version: which field follows which.
//!
//! A layout is a flat list of fields in wire order, each struct's fields side by side, tagged ones
//! last by tag. It is made at first use and kept for ever; the hot loops run over the programs
//! that [`super::program`] makes of it.
//!
//! Never: sees a body.

use std::ops::Range;

use super::program::Program;
use super::table::{self, Definition, Direction, FieldDefinition, FieldKind, Message};
use crate::api::ApiKey;

/// A field of a layout, by its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldId(pub(super) u16);

/// Stands for the body itself, which is no field.
pub(super) const ROOT: u16 = u16::MAX;

/// A field as one version has it.
#[derive(Debug)]
pub struct Field {
    definition: &'static FieldDefinition,
    nullable: bool,
    pub(super) parent: u16,
    pub(super) children: Range<u16>,
    /// Fewest bytes the field, or an element of the array, can take.
    pub(super) bytes_min: u32,
    /// Bytes the field, or an element of the array, takes where that is always the same.
    pub(super) bytes_fixed: Option<u32>,
    /// Bytes of memory an element takes in typed structs.
    pub(super) memory: u32,
}

impl Field {
    /// The protocol's name, in snake case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.definition.name
    }

    /// What it is, or what its elements are.
    #[must_use]
    pub fn kind(&self) -> FieldKind {
        self.definition.kind
    }

    /// Whether it is an array.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.definition.array
    }

    /// Whether it may be null in this version.
    #[must_use]
    pub fn is_nullable(&self) -> bool {
        self.nullable
    }

    /// Its tag where it is a tagged field.
    #[must_use]
    pub fn tag(&self) -> Option<u32> {
        self.definition.tag
    }

    /// What Kafka says of it over all versions.
    #[must_use]
    pub fn definition(&self) -> &'static FieldDefinition {
        self.definition
    }
}

/// One message at one version.
///
/// ```
/// use kafka_wire::{ApiKey, schema::{self, Direction}};
/// let layout = schema::layout(ApiKey::END_TXN, Direction::Request, 5).unwrap();
/// let names: Vec<_> = layout.fields().map(|(_, field)| field.name()).collect();
/// assert_eq!(names, ["transactional_id", "producer_id", "producer_epoch", "committed"]);
/// ```
#[derive(Debug)]
pub struct Layout {
    message: &'static Message,
    version: i16,
    flexible: bool,
    pub(super) fields: Vec<Field>,
    pub(super) top: Range<u16>,
    /// Bytes of memory the message itself takes in typed structs.
    pub(super) memory: u32,
    /// Announces every field.
    pub(super) full: Program,
    /// Announces none but enters every one.
    pub(super) strict: Program,
}

/// The layout of an API's request or response at a version, absent where the table does not know
/// it.
#[must_use]
pub fn layout(api_key: ApiKey, direction: Direction, version: i16) -> Option<&'static Layout> {
    table::message(api_key, direction)?.layout(version)
}

impl Layout {
    /// The message it belongs to.
    #[must_use]
    pub fn message(&self) -> &'static Message {
        self.message
    }

    /// The version it is of.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether it has tagged fields and compact lengths.
    #[must_use]
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// The fields of the body itself.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (FieldId, &Field)> {
        self.range(self.top.clone())
    }

    /// The fields of a struct, or of each struct of an array; none for anything else.
    pub fn children(&self, of: FieldId) -> impl ExactSizeIterator<Item = (FieldId, &Field)> {
        self.range(self.field(of).children.clone())
    }

    /// The field of that place.
    ///
    /// # Panics
    /// If the id comes from another layout and is not in this one.
    #[must_use]
    pub fn field(&self, id: FieldId) -> &Field {
        &self.fields[usize::from(id.0)]
    }

    /// The field of a path of names without indexes, such as `topics.partitions.error_code`.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<FieldId> {
        let mut children = self.top.clone();
        let mut found = None;
        for name in path.split('.') {
            let (id, field) = self.range(children).find(|(_, field)| field.name() == name)?;
            children = field.children.clone();
            found = Some(id);
        }
        found
    }

    /// The path of a field, without indexes.
    #[must_use]
    pub fn path(&self, id: FieldId) -> String {
        let field = self.field(id);
        match field.parent {
            ROOT => field.name().to_owned(),
            parent => format!("{}.{}", self.path(FieldId(parent)), field.name()),
        }
    }

    fn range(&self, range: Range<u16>) -> impl ExactSizeIterator<Item = (FieldId, &Field)> {
        range.map(|id| (FieldId(id), &self.fields[usize::from(id)]))
    }

    pub(super) fn compile(message: &'static Message, version: i16) -> Option<Self> {
        let definition = message.definition(version)?;
        let flexible = definition.flexible_since.is_some_and(|since| version >= since);
        let mut layout = Self {
            message,
            version,
            flexible,
            fields: Vec::new(),
            top: 0..0,
            memory: memory(definition, None),
            full: Program::default(),
            strict: Program::default(),
        };
        layout.top = layout.add(definition, None, ROOT);
        layout.full = Program::full(&layout);
        layout.strict = Program::strict(&layout);
        Some(layout)
    }

    /// Adds the fields of a struct side by side, then those of the structs among them.
    fn add(
        &mut self,
        definition: &'static Definition,
        of: Option<usize>,
        parent: u16,
    ) -> Range<u16> {
        let mut here: Vec<_> = children(definition, of)
            .filter(|(_, field)| field.versions.contains(self.version))
            .collect();
        here.sort_by_key(|(_, field)| field.tag.map_or(-1, i64::from));
        let start = self.fields.len();
        for (index, field) in &here {
            self.fields.push(Field {
                definition: field,
                nullable: field.nullable.is_some_and(|n| n.contains(self.version)),
                parent,
                children: 0..0,
                bytes_min: 0,
                bytes_fixed: None,
                memory: match field.kind {
                    FieldKind::Struct => memory(definition, Some(*index)),
                    kind => memory_of(kind),
                },
            });
        }
        let range = start as u16..self.fields.len() as u16;
        for (id, (index, field)) in range.clone().zip(here) {
            if field.kind == FieldKind::Struct {
                let children = self.add(definition, Some(index), id);
                self.fields[usize::from(id)].children = children;
            }
            let (bytes_min, bytes_fixed) = self.element_bytes(usize::from(id));
            let field = &mut self.fields[usize::from(id)];
            (field.bytes_min, field.bytes_fixed) = (bytes_min, bytes_fixed);
        }
        range
    }

    /// The fewest bytes of a field's value or element, and the exact number where there is one.
    fn element_bytes(&self, id: usize) -> (u32, Option<u32>) {
        let field = &self.fields[id];
        match field.kind() {
            FieldKind::Struct => {
                let (mut least, mut exact) =
                    (u32::from(self.flexible), (!self.flexible).then_some(0));
                for (_, child) in self.range(field.children.clone()) {
                    if child.tag().is_some() {
                        continue;
                    }
                    least += self.field_bytes_min(child);
                    let fixed = child.bytes_fixed.filter(|_| child.is_plain());
                    exact = exact.zip(fixed).map(|(sum, bytes)| sum + bytes);
                }
                (least, exact)
            }
            FieldKind::String if !self.flexible => (2, None),
            FieldKind::Bytes | FieldKind::Records if !self.flexible => (4, None),
            kind => (kind.fixed_bytes().unwrap_or(1), kind.fixed_bytes()),
        }
    }

    /// The fewest bytes of a field, where an array can be empty and a struct null.
    fn field_bytes_min(&self, field: &Field) -> u32 {
        match (field.is_array(), field.kind(), field.nullable) {
            (true, ..) => {
                if self.flexible {
                    1
                } else {
                    4
                }
            }
            (false, FieldKind::Struct, true) => 1,
            _ => field.bytes_min,
        }
    }
}

impl Field {
    /// Whether it takes the bytes of one element: no array, no byte that says whether it is null.
    pub(super) fn is_plain(&self) -> bool {
        !(self.is_array() || self.kind() == FieldKind::Struct && self.nullable)
    }
}

/// The fields of a struct of the definition, or of the message itself, with their indexes.
fn children(
    definition: &'static Definition,
    of: Option<usize>,
) -> impl Iterator<Item = (usize, &'static FieldDefinition)> {
    let (start, depth) = of.map_or((0, 0), |i| (i + 1, definition.fields[i].depth + 1));
    let rest = definition.fields[start..].iter().enumerate();
    rest.take_while(move |(_, field)| field.depth >= depth)
        .filter(move |(_, field)| field.depth == depth)
        .map(move |(i, field)| (start + i, field))
}

/// Bytes of memory of a value outside of structs: what `kafka-protocol` keeps it in, where a
/// string is a `StrBytes` and both are of four words.
const fn memory_of(kind: FieldKind) -> u32 {
    match kind.fixed_bytes() {
        Some(bytes) => bytes,
        None => 32,
    }
}

/// Bytes of memory of a typed struct: all its fields of all versions, which a generated struct
/// has whatever the version, and a map of unknown tagged fields. Rounded up, never down.
fn memory(definition: &'static Definition, of: Option<usize>) -> u32 {
    const MAP: u32 = 24;
    const VEC: u32 = 24;
    let fields = children(definition, of).map(|(index, field)| match (field.array, field.kind) {
        (true, _) => VEC,
        (false, FieldKind::Struct) => 8 + memory(definition, Some(index)),
        (false, kind) => memory_of(kind),
    });
    (fields.sum::<u32>() + MAP).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::super::run::DEPTH_MAX;
    use super::super::table::VersionRange;
    use super::*;

    /// Frames a walk has on its stack inside of these fields.
    fn depth(layout: &Layout, fields: Range<u16>) -> usize {
        let depth = |(id, field): (FieldId, &Field)| {
            let entered = usize::from(field.is_array() || field.kind() == FieldKind::Struct);
            // The list of tagged fields and the one of them.
            let tagged = if field.tag().is_some() { 2 } else { 0 };
            tagged + entered + depth(layout, layout.field(id).children.clone())
        };
        let unknown_tag = usize::from(layout.is_flexible());
        layout.range(fields).map(depth).max().unwrap_or(0).max(unknown_tag)
    }

    #[test]
    fn the_walker_has_a_stack_for_the_deepest_message_and_a_step_for_each_field() {
        let versions = |message: &'static Message| {
            let VersionRange { min, max } = message.versions();
            (min..=max).filter_map(|version| message.layout(version))
        };
        let mut deepest = 0;
        for layout in table::messages().flat_map(versions) {
            deepest = deepest.max(depth(layout, layout.top.clone()));
            for program in [&layout.full, &layout.strict] {
                assert!(program.ops.len() < usize::from(u16::MAX));
            }
            let elements = layout.fields.iter().filter(|field| field.is_array());
            for field in elements {
                assert!(field.bytes_min > 0, "{} {}", layout.message.name(), field.name());
            }
        }
        assert!((2..=DEPTH_MAX).contains(&deepest), "{deepest}");
    }
}
