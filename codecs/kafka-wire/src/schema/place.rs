//! Turns the walker's stack into a place: field, indexes, byte range, and a path when written.
//!
//! Never: makes text before someone asks for it.

use std::fmt;
use std::ops::Range;

use super::layout::{Field, FieldId, Layout, ROOT};

/// Where the walk is: which field, in which elements of which arrays, at which bytes.
///
/// It borrows the walker's stack; nothing of it is text until someone asks for the path.
#[derive(Clone, Copy)]
pub struct Place<'w> {
    pub(super) layout: &'w Layout,
    pub(super) frames: &'w [Frame],
    pub(super) field: u16,
    /// Whether it is an element of the array that the innermost frame walks.
    pub(super) element: bool,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl<'w> Place<'w> {
    /// The field, absent for the body itself.
    #[must_use]
    pub fn id(&self) -> Option<FieldId> {
        (self.field != ROOT).then_some(FieldId(self.field))
    }

    /// The field, absent for the body itself.
    #[must_use]
    pub fn field(&self) -> Option<&'w Field> {
        self.id().map(|id| self.layout.field(id))
    }

    /// The field's name, empty for the body itself.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.field().map_or("", Field::name)
    }

    /// Whether it is an element of an array rather than a field.
    #[must_use]
    pub fn is_element(&self) -> bool {
        self.element
    }

    /// The bytes it takes, with the length before them; at the beginning of an array or struct
    /// the bytes up to its first element or field.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The index in the n-th array around it, counted from the outermost.
    #[must_use]
    pub fn index(&self, n: usize) -> Option<u32> {
        self.indexes().nth(n)
    }

    /// The indexes in the arrays around it, outermost first.
    pub fn indexes(&self) -> impl Iterator<Item = u32> + use<'w> {
        self.frames.iter().filter(|frame| frame.kind == Kind::Array).map(|frame| frame.index)
    }

    /// The sizes of the tagged fields around it, outermost first: where each size stands in the
    /// bytes, and where the bytes it counts begin.
    pub(super) fn sizes(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> + use<'w> {
        let tagged = self.frames.iter().filter(|frame| frame.kind == Kind::TaggedField);
        tagged.map(|frame| (frame.start, frame.element_start))
    }

    /// The count of the array whose element it is: where it stands in the bytes, and how many.
    pub(super) fn array(&self) -> Option<(Range<usize>, u32)> {
        let frame = self.frames.last().filter(|frame| frame.kind == Kind::Array)?;
        Some((frame.start..frame.outer, frame.count))
    }

    /// The path, which is text only when written: `topics[2].partitions[0].records`.
    #[must_use]
    pub fn path(&self) -> Path<'w> {
        Path(*self)
    }
}

/// A path that is rendered when written.
#[derive(Clone, Copy)]
pub struct Path<'w>(Place<'w>);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.0;
        let mut dot = "";
        for frame in place.frames {
            let name = place.layout.fields.get(usize::from(frame.field)).map_or("", Field::name);
            match frame.kind {
                Kind::Array => write!(f, "{dot}{name}[{}]", frame.index)?,
                Kind::Struct => write!(f, "{dot}{name}")?,
                Kind::Tags | Kind::TaggedField => continue,
            }
            dot = ".";
        }
        match place.name() {
            name if !name.is_empty() && !place.element => write!(f, "{dot}{name}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a frame of the stack stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Array,
    Struct,
    /// The list of tagged fields of a struct.
    Tags,
    /// One of them.
    TaggedField,
}

/// Something entered and not yet left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) field: u16,
    /// The step to go on with afterwards.
    pub(super) resume: u16,
    /// The first step of an element; the table of tags.
    pub(super) body: u16,
    pub(super) index: u32,
    pub(super) count: u32,
    pub(super) start: usize,
    /// Where the element at hand began; of a tagged field, its value.
    pub(super) element_start: usize,
    /// Where the bytes end once it is left; of a list of tags, the last tag plus
    /// one; of an array, where its count ends.
    pub(super) outer: usize,
}

pub(super) const NO_FRAME: Frame = Frame {
    kind: Kind::Struct,
    flags: 0,
    field: ROOT,
    resume: 0,
    body: 0,
    index: 0,
    count: 0,
    start: 0,
    element_start: 0,
    outer: 0,
};
