//! Turns a layout into the flat list of steps that the walker takes over a body.
//!
//! One layout has several programs: one that announces every field, one that announces none but
//! enters every one (the guard), and one for each choice of fields that someone looks up. What
//! nobody wants is merged: a run of fixed-size fields is one step.
//!
//! Never: sees a body.

use std::ops::Range;

use super::layout::{Field, FieldId, Layout};
use super::table::FieldKind;

/// What one step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    /// `argument` bytes that nobody wants.
    Skip,
    /// Text or bytes behind a length of two, four, or as many bytes as it takes.
    Short,
    Long,
    Compact,
    /// An array: of structs walked by the steps from `argument`, or of values by that one step.
    Array,
    ArrayCompact,
    /// An array whose elements of `argument` bytes nobody wants.
    Packed,
    PackedCompact,
    /// A struct whose fields are walked by the steps from `argument`.
    Struct,
    /// The same behind a byte that says whether it is there.
    NullableStruct,
    /// The tagged fields of a struct, by the table `argument`.
    Tags,
    /// The end of a tagged field.
    TagEnd,
    /// The end of a struct's fields.
    End,
}

/// The field is announced.
pub(super) const WANTED: u8 = 1;
/// Null is legal.
pub(super) const NULLABLE: u8 = 2;
/// Text.
pub(super) const STRING: u8 = 4;
/// Record batches.
pub(super) const RECORDS: u8 = 8;
/// An element of an array of anything but structs.
pub(super) const ELEMENT: u8 = 16;
/// An array of structs.
pub(super) const STRUCTS: u8 = 32;

/// One step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Op {
    pub(super) code: Code,
    pub(super) flags: u8,
    pub(super) field: u16,
    pub(super) argument: u32,
}

/// What to do with a tag: known ones have their steps, or none where nobody wants them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    pub(super) tag: u32,
    pub(super) field: u16,
    pub(super) body: Option<u16>,
}

/// All steps of a body.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) ops: Vec<Op>,
    pub(super) tags: Vec<Vec<Tag>>,
}

/// Which fields a program announces and enters.
struct Choice<'a> {
    wanted: &'a dyn Fn(u16) -> bool,
    every_tag: bool,
}

impl Program {
    pub(super) fn full(layout: &Layout) -> Self {
        Self::compile(layout, &Choice { wanted: &|_| true, every_tag: true })
    }

    pub(super) fn strict(layout: &Layout) -> Self {
        Self::compile(layout, &Choice { wanted: &|_| false, every_tag: true })
    }

    /// A program that announces some of the fields, their structs and arrays not.
    pub(super) fn selected(layout: &Layout, wanted: &dyn Fn(u16) -> bool) -> Self {
        Self::compile(layout, &Choice { wanted, every_tag: false })
    }

    fn compile(layout: &Layout, choice: &Choice<'_>) -> Self {
        let mut program = Self::default();
        program.fields(layout, choice, layout.top.clone());
        program
    }

    /// The steps of a struct's fields, an `End`, then the bodies they refer to.
    fn fields(&mut self, layout: &Layout, choice: &Choice<'_>, fields: Range<u16>) -> u32 {
        let start = self.ops.len();
        let mut bodies = Vec::new();
        let (mut tags, mut tagged) = (Vec::new(), Vec::new());
        for id in fields {
            let field = layout.field(FieldId(id));
            if let Some(tag) = field.tag() {
                let enter = choice.every_tag || Self::touches(layout, choice, id);
                tags.push(Tag { tag, field: id, body: None });
                tagged.push(enter.then_some(id));
            } else if self.field(layout, choice, id, start) {
                bodies.push((self.ops.len() - 1, id));
            }
        }
        if layout.is_flexible() {
            self.op(Code::Tags, 0, super::layout::ROOT, self.tags.len() as u32);
            self.tags.push(tags);
        }
        let table = self.tags.len().wrapping_sub(1);
        self.op(Code::End, 0, super::layout::ROOT, 0);
        for (op, id) in bodies {
            self.ops[op].argument = self.body(layout, choice, id);
        }
        for (slot, id) in tagged.into_iter().enumerate() {
            let Some(id) = id else { continue };
            let body = self.ops.len();
            let needs_body = self.field(layout, choice, id, body);
            self.op(Code::TagEnd, 0, id, 0);
            self.tags[table][slot].body = Some(body as u16);
            if needs_body {
                self.ops[body].argument = self.body(layout, choice, id);
            }
        }
        start as u32
    }

    /// The steps of an array's element or of a struct that is a field itself.
    fn body(&mut self, layout: &Layout, choice: &Choice<'_>, id: u16) -> u32 {
        let field = layout.field(FieldId(id));
        if field.kind() == FieldKind::Struct {
            return self.fields(layout, choice, field.children.clone());
        }
        let start = self.ops.len();
        let wanted = if (choice.wanted)(id) { WANTED } else { 0 };
        self.value(layout, field, id, wanted | ELEMENT);
        start as u32
    }

    /// The step of a field; says whether it refers to a body that is still to be made.
    fn field(&mut self, layout: &Layout, choice: &Choice<'_>, id: u16, start: usize) -> bool {
        let field = layout.field(FieldId(id));
        let mut flags = if (choice.wanted)(id) { WANTED } else { 0 };
        let touched = Self::touches(layout, choice, id);
        if let (false, true, Some(bytes)) = (touched, field.is_plain(), field.bytes_fixed) {
            self.skip(id, bytes, start);
            return false;
        }
        if field.is_nullable() {
            flags |= NULLABLE;
        }
        let code = match (field.is_array(), field.kind()) {
            (true, kind) => {
                if kind == FieldKind::Struct {
                    flags |= STRUCTS;
                }
                match (field.bytes_fixed, layout.is_flexible()) {
                    (Some(bytes), flexible) if !touched => {
                        let code = if flexible { Code::PackedCompact } else { Code::Packed };
                        self.op(code, flags, id, bytes);
                        return false;
                    }
                    (_, true) => Code::ArrayCompact,
                    (_, false) => Code::Array,
                }
            }
            (false, FieldKind::Struct) if field.is_nullable() => Code::NullableStruct,
            (false, FieldKind::Struct) => Code::Struct,
            (false, _) => {
                self.value(layout, field, id, flags);
                return false;
            }
        };
        self.op(code, flags, id, 0);
        true
    }

    /// The step of a value that is no array and no struct.
    fn value(&mut self, layout: &Layout, field: &Field, id: u16, mut flags: u8) {
        let code = match field.kind() {
            FieldKind::Bool => Code::Bool,
            FieldKind::Int8 => Code::Int8,
            FieldKind::Int16 => Code::Int16,
            FieldKind::Uint16 => Code::Uint16,
            FieldKind::Int32 => Code::Int32,
            FieldKind::Uint32 => Code::Uint32,
            FieldKind::Int64 => Code::Int64,
            FieldKind::Float64 => Code::Float64,
            FieldKind::Uuid => Code::Uuid,
            FieldKind::String | FieldKind::Bytes | FieldKind::Records | FieldKind::Struct => {
                match field.kind() {
                    FieldKind::String => flags |= STRING,
                    FieldKind::Records => flags |= RECORDS,
                    _ => {}
                }
                match (layout.is_flexible(), field.kind()) {
                    (true, _) => Code::Compact,
                    (false, FieldKind::String) => Code::Short,
                    (false, _) => Code::Long,
                }
            }
        };
        self.op(code, flags, id, 0);
    }

    /// Bytes nobody wants, added to those before them in the same struct.
    fn skip(&mut self, id: u16, bytes: u32, start: usize) {
        match self.ops[start..].last_mut() {
            Some(op) if op.code == Code::Skip => op.argument += bytes,
            _ => self.op(Code::Skip, 0, id, bytes),
        }
    }

    fn op(&mut self, code: Code, flags: u8, field: u16, argument: u32) {
        self.ops.push(Op { code, flags, field, argument });
    }

    /// Whether the field or one inside of it is announced.
    fn touches(layout: &Layout, choice: &Choice<'_>, id: u16) -> bool {
        (choice.wanted)(id)
            || layout.field(FieldId(id)).children.clone().any(|c| Self::touches(layout, choice, c))
    }
}
