//! The walker itself: runs a program over bytes.
//!
//! It has a stack of a fixed size and makes no text but the words of an error. A declared count
//! bounds a loop each turn of which consumes at least one byte, so a walk takes no more steps than
//! a small multiple of the body's length. It adds up the memory that typed structs would take.
//!
//! Never: recurses, allocates by a declared count.

use super::layout::{Field, FieldId, Layout, ROOT};
use super::place::{Frame, Kind, NO_FRAME, Place};
use super::program::{Code, ELEMENT, NULLABLE, Op, Program, RECORDS, STRING, STRUCTS, WANTED};
use super::walk::{Flow, Limits, Scalar, Visitor, Walked};
use crate::error::{DecodeError, DecodeErrorKind};

/// Structs, arrays and tagged fields around a field, at most; the table's deepest has six.
pub(super) const DEPTH_MAX: usize = 8;
/// Memory of the first unknown tagged field of a struct: a leaf of a `BTreeMap`, room for eleven.
const UNKNOWN_TAG_MEMORY: u64 = 416;
/// Memory of each further one in leaves half full.
const UNKNOWN_TAG_MEMORY_NEXT: u64 = 80;

/// Why a run ends.
enum End {
    Done,
    Interrupted,
    Stopped(Box<DecodeError>),
}

type Step<T> = Result<T, End>;

/// Runs a program over a body. A strict run stops at what is odd and at text that is not UTF-8.
pub(super) fn run<'b, V: Visitor<'b>, const STRICT: bool>(
    layout: &Layout,
    program: &Program,
    body: &'b [u8],
    limits: Limits,
    visitor: &mut V,
) -> Walked {
    let mut machine = Machine::<STRICT> {
        layout,
        ops: &program.ops,
        program,
        body,
        limits,
        frames: [NO_FRAME; DEPTH_MAX],
        depth: 0,
        at: 0,
        end: body.len(),
        pc: 0,
        decoded_bytes: u64::from(layout.memory),
        long_varints: 0,
        odd: None,
    };
    let end = loop {
        if let Err(end) = machine.step(visitor) {
            break end;
        }
    };
    let (stopped, interrupted) = match end {
        End::Done => (None, false),
        End::Interrupted => (None, true),
        End::Stopped(error) => (Some(*error), false),
    };
    Walked {
        end: machine.at,
        left_over: body.len() - machine.at,
        stopped,
        odd: machine.odd,
        interrupted,
        decoded_bytes: machine.decoded_bytes,
        long_varints: machine.long_varints,
    }
}

struct Machine<'w, 'b, const STRICT: bool> {
    layout: &'w Layout,
    ops: &'w [Op],
    program: &'w Program,
    body: &'b [u8],
    limits: Limits,
    frames: [Frame; DEPTH_MAX],
    depth: usize,
    at: usize,
    /// Where the bytes end: the body's end, inside a tagged field that field's.
    end: usize,
    pc: usize,
    decoded_bytes: u64,
    long_varints: u64,
    odd: Option<DecodeError>,
}

impl<'b, const STRICT: bool> Machine<'_, 'b, STRICT> {
    #[inline(always)]
    fn step(&mut self, visitor: &mut impl Visitor<'b>) -> Step<()> {
        let op = self.ops[self.pc];
        self.pc += 1;
        match op.code {
            Code::Skip => self.skip(op),
            Code::Array | Code::ArrayCompact => self.array(visitor, op),
            Code::Packed | Code::PackedCompact => self.packed(op),
            Code::Struct | Code::NullableStruct => self.structure(visitor, op),
            Code::Tags => self.tags(visitor, op),
            Code::TagEnd => self.tag_end(visitor, op),
            Code::End => self.leave(visitor),
            _ => self.value(visitor, op),
        }
    }

    /// A value that is neither array nor struct.
    #[inline(always)]
    fn value(&mut self, visitor: &mut impl Visitor<'b>, op: Op) -> Step<()> {
        match op.code {
            Code::Bool => self.fixed::<1>(visitor, op, |b| Scalar::Bool(b[0] != 0)),
            Code::Int8 => self.fixed(visitor, op, |b| Scalar::Int(i8::from_be_bytes(*b).into())),
            Code::Int16 => self.fixed(visitor, op, |b| Scalar::Int(i16::from_be_bytes(*b).into())),
            Code::Uint16 => self.fixed(visitor, op, |b| Scalar::Int(u16::from_be_bytes(*b).into())),
            Code::Int32 => self.fixed(visitor, op, |b| Scalar::Int(i32::from_be_bytes(*b).into())),
            Code::Uint32 => self.fixed(visitor, op, |b| Scalar::Int(u32::from_be_bytes(*b).into())),
            Code::Int64 => self.fixed(visitor, op, |b| Scalar::Int(i64::from_be_bytes(*b))),
            Code::Float64 => self.fixed(visitor, op, |b| Scalar::Float(f64::from_be_bytes(*b))),
            Code::Uuid => self.fixed(visitor, op, Scalar::Uuid),
            _ => self.text(visitor, op),
        }
    }

    #[inline(always)]
    fn fixed<const N: usize>(
        &mut self,
        visitor: &mut impl Visitor<'b>,
        op: Op,
        value: impl FnOnce(&'b [u8; N]) -> Scalar<'b>,
    ) -> Step<()> {
        let start = self.at;
        let Some(bytes) = self.body[start..self.end].first_chunk::<N>() else {
            return Err(self.truncated(op, start, N));
        };
        self.at = start + N;
        self.announce(visitor, op, start, value(bytes))
    }

    #[inline(always)]
    fn announce(
        &self,
        visitor: &mut impl Visitor<'b>,
        op: Op,
        start: usize,
        value: Scalar<'b>,
    ) -> Step<()> {
        if op.flags & WANTED == 0 {
            return Ok(());
        }
        flow(visitor.value(&self.place(op.field, op.flags & ELEMENT != 0, start), value))
    }

    fn skip(&mut self, op: Op) -> Step<()> {
        let bytes = op.argument as usize;
        if self.end - self.at < bytes {
            return Err(self.truncated_run(op));
        }
        self.at += bytes;
        Ok(())
    }

    #[inline]
    fn text(&mut self, visitor: &mut impl Visitor<'b>, op: Op) -> Step<()> {
        let start = self.at;
        let Some(length) = self.length(op)? else {
            self.null(op, start)?;
            return self.announce(visitor, op, start, Scalar::Null);
        };
        if self.end - self.at < length {
            return Err(self.truncated(op, self.at, length));
        }
        let bytes = &self.body[self.at..self.at + length];
        if STRICT && op.flags & STRING != 0 && std::str::from_utf8(bytes).is_err() {
            return Err(self.stop(op, self.at, DecodeErrorKind::NotUtf8));
        }
        self.at += length;
        let value = match op.flags & (STRING | RECORDS) {
            STRING => Scalar::String(bytes),
            RECORDS => Scalar::Records(bytes),
            _ => Scalar::Bytes(bytes),
        };
        self.announce(visitor, op, start, value)
    }

    /// A length or count, none where it says null.
    #[inline]
    fn length(&mut self, op: Op) -> Step<Option<usize>> {
        let start = self.at;
        let length = match op.code {
            Code::Compact | Code::ArrayCompact | Code::PackedCompact => {
                return Ok((self.uvarint(op)? as usize).checked_sub(1));
            }
            Code::Short => match self.body[start..self.end].first_chunk() {
                Some(bytes) => (i32::from(i16::from_be_bytes(*bytes)), 2),
                None => return Err(self.truncated(op, start, 2)),
            },
            _ => match self.body[start..self.end].first_chunk() {
                Some(bytes) => (i32::from_be_bytes(*bytes), 4),
                None => return Err(self.truncated(op, start, 4)),
            },
        };
        if length.0 < -1 {
            let kind = DecodeErrorKind::NegativeLength(length.0.into());
            return Err(self.stop(op, start, kind));
        }
        self.at += length.1;
        Ok(usize::try_from(length.0).ok())
    }

    #[inline]
    fn uvarint(&mut self, op: Op) -> Step<u32> {
        match self.body[self.at..self.end] {
            [byte, ..] if byte < 0x80 => {
                self.at += 1;
                Ok(byte.into())
            }
            _ => self.uvarint_long(op),
        }
    }

    /// Of two to five bytes. The bits beyond the 32nd are dropped, as Kafka and others do.
    fn uvarint_long(&mut self, op: Op) -> Step<u32> {
        let mut value = 0;
        for i in 0..5 {
            let Some(&byte) = self.body[self.at..self.end].get(i) else {
                return Err(self.truncated(op, self.at, i + 1));
            };
            value |= u32::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                self.long_varints += u64::from(byte == 0 || i == 4 && byte > 0x0f);
                return Ok(value);
            }
        }
        Err(self.stop(op, self.at, DecodeErrorKind::VarintTooLong))
    }

    /// A null was read: odd where the version has none.
    #[inline]
    fn null(&mut self, op: Op, start: usize) -> Step<()> {
        if op.flags & NULLABLE != 0 {
            return Ok(());
        }
        self.odd(op, start, DecodeErrorKind::UnexpectedNull)
    }

    /// The count of an array, none where it is null; its memory is added up before its elements.
    fn count(&mut self, op: Op, start: usize) -> Step<Option<u32>> {
        let Some(count) = self.length(op)? else {
            self.null(op, start)?;
            return Ok(None);
        };
        let field = self.layout.field(FieldId(op.field));
        let least = field.bytes_min as usize;
        let room = (self.end - self.at).checked_div(least).unwrap_or(0);
        if count > room && (STRICT || least == 0) {
            let kind = DecodeErrorKind::CountImpossible(count as i64);
            return Err(self.stop(op, start, kind));
        }
        self.decoded(op, start, count.min(room) as u64 * u64::from(field.memory))?;
        Ok(Some(count as u32))
    }

    fn decoded(&mut self, op: Op, start: usize, bytes: u64) -> Step<()> {
        self.decoded_bytes = self.decoded_bytes.saturating_add(bytes);
        if self.decoded_bytes > self.limits.decoded_bytes_max {
            let kind = DecodeErrorKind::TooLargeInMemory { bytes: self.decoded_bytes };
            return Err(self.stop(op, start, kind));
        }
        Ok(())
    }

    #[inline]
    fn array(&mut self, visitor: &mut impl Visitor<'b>, op: Op) -> Step<()> {
        let start = self.at;
        let Some(count) = self.count(op, start)? else {
            return self.announce(visitor, op, start, Scalar::Null);
        };
        let wanted = op.flags & WANTED != 0;
        if wanted {
            flow(visitor.array_begin(&self.place(op.field, false, start), count))?;
            if count == 0 {
                return flow(visitor.array_end(&self.place(op.field, false, start)));
            }
        }
        if count == 0 {
            return Ok(());
        }
        let frame = self.frame(Kind::Array, op, start);
        self.enter(Frame { count, outer: self.at, ..frame });
        if op.flags & STRUCTS != 0 {
            return self.element_begin(visitor);
        }
        self.values(visitor, op, count)
    }

    /// The elements of an array of anything but structs.
    fn values(&mut self, visitor: &mut impl Visitor<'b>, op: Op, count: u32) -> Step<()> {
        let (top, element) = (self.depth - 1, self.ops[op.argument as usize]);
        for index in 0..count {
            self.frames[top].index = index;
            self.value(visitor, element)?;
        }
        self.depth = top;
        if op.flags & WANTED != 0 {
            let start = self.frames[top].start;
            return flow(visitor.array_end(&self.place(op.field, false, start)));
        }
        Ok(())
    }

    /// The struct at hand of the innermost array begins.
    #[inline]
    fn element_begin(&mut self, visitor: &mut impl Visitor<'b>) -> Step<()> {
        let frame = &mut self.frames[self.depth - 1];
        frame.element_start = self.at;
        self.pc = frame.body.into();
        if frame.flags & WANTED != 0 {
            let field = frame.field;
            return flow(visitor.struct_begin(&self.place(field, true, self.at)));
        }
        Ok(())
    }

    /// An array whose elements nobody wants and all take the same bytes.
    fn packed(&mut self, op: Op) -> Step<()> {
        let start = self.at;
        let Some(count) = self.count(op, start)? else { return Ok(()) };
        let bytes = u64::from(count) * u64::from(op.argument);
        if bytes > (self.end - self.at) as u64 {
            let needed = usize::try_from(bytes).unwrap_or(usize::MAX);
            return Err(self.truncated(op, self.at, needed));
        }
        self.at += bytes as usize;
        Ok(())
    }

    fn structure(&mut self, visitor: &mut impl Visitor<'b>, op: Op) -> Step<()> {
        let start = self.at;
        if op.code == Code::NullableStruct {
            let Some(&there) = self.body[start..self.end].first() else {
                return Err(self.truncated(op, start, 1));
            };
            self.at += 1;
            if (there as i8) < 0 {
                return self.announce(visitor, op, start, Scalar::Null);
            }
        }
        let frame = self.frame(Kind::Struct, op, start);
        if op.flags & WANTED != 0 {
            flow(visitor.struct_begin(&self.place(op.field, false, start)))?;
        }
        self.enter(frame);
        self.pc = frame.body.into();
        Ok(())
    }

    /// The end of a struct's fields.
    #[inline]
    fn leave(&mut self, visitor: &mut impl Visitor<'b>) -> Step<()> {
        let Some(top) = self.depth.checked_sub(1) else { return Err(End::Done) };
        let &mut Frame { kind, flags, field, resume, start, element_start, count, .. } =
            &mut self.frames[top];
        let wanted = flags & WANTED != 0;
        if kind == Kind::Array {
            if wanted {
                flow(visitor.struct_end(&self.place(field, true, element_start)))?;
            }
            self.frames[top].index += 1;
            if self.frames[top].index < count {
                return self.element_begin(visitor);
            }
        }
        self.depth = top;
        self.pc = resume.into();
        let place = self.place(field, false, start);
        match (wanted, kind) {
            (false, _) => Ok(()),
            (true, Kind::Array) => flow(visitor.array_end(&place)),
            (true, _) => flow(visitor.struct_end(&place)),
        }
    }

    /// The tagged fields of a struct (KIP-482): nearly always none.
    #[inline]
    fn tags(&mut self, visitor: &mut impl Visitor<'b>, op: Op) -> Step<()> {
        let start = self.at;
        let count = self.uvarint(op)?;
        if count == 0 {
            return Ok(());
        }
        if STRICT && count as usize > (self.end - self.at) / 2 {
            return Err(self.stop(op, start, DecodeErrorKind::CountImpossible(count.into())));
        }
        let frame = self.frame(Kind::Tags, op, start);
        self.enter(Frame { count, ..frame });
        self.next_tag(visitor)
    }

    /// Goes on with the next tagged field, past those that nobody wants.
    fn next_tag(&mut self, visitor: &mut impl Visitor<'b>) -> Step<()> {
        let top = self.depth - 1;
        let op = Op { code: Code::Tags, flags: 0, field: ROOT, argument: 0 };
        while self.frames[top].index < self.frames[top].count {
            let tag_start = self.at;
            let tag = self.uvarint(op)?;
            let size_start = self.at;
            let size = self.uvarint(op)? as usize;
            if self.end - self.at < size {
                return Err(self.truncated(op, self.at, size));
            }
            if u64::from(tag) < self.frames[top].outer as u64 {
                self.odd(op, tag_start, DecodeErrorKind::TagOrder(tag))?;
            }
            self.frames[top].outer = tag as usize + 1;
            self.frames[top].index += 1;
            let known = &self.program.tags[usize::from(self.frames[top].body)];
            match known.iter().find(|known| known.tag == tag) {
                Some(known) => {
                    if let Some(body) = known.body {
                        self.enter(Frame {
                            kind: Kind::TaggedField,
                            field: known.field,
                            start: size_start,
                            element_start: self.at,
                            outer: self.end,
                            ..NO_FRAME
                        });
                        self.end = self.at + size;
                        self.pc = body.into();
                        return Ok(());
                    }
                    self.at += size;
                }
                None => self.unknown_tag(visitor, op, tag, size)?,
            }
        }
        self.depth = top;
        self.pc = self.frames[top].resume.into();
        Ok(())
    }

    fn unknown_tag(
        &mut self,
        visitor: &mut impl Visitor<'b>,
        op: Op,
        tag: u32,
        size: usize,
    ) -> Step<()> {
        // The list itself is announced to nobody, so that its flag is free to say this.
        let seen = std::mem::replace(&mut self.frames[self.depth - 1].flags, WANTED) == WANTED;
        let memory = if seen { UNKNOWN_TAG_MEMORY_NEXT } else { UNKNOWN_TAG_MEMORY };
        let start = self.at;
        self.decoded(op, start, memory)?;
        self.at += size;
        let place = self.place(ROOT, false, start);
        flow(visitor.unknown_tag(&place, tag, &self.body[start..self.at]))
    }

    /// The end of a tagged field: its value must have taken the bytes it declared.
    fn tag_end(&mut self, visitor: &mut impl Visitor<'b>, op: Op) -> Step<()> {
        if self.at != self.end {
            let left = DecodeErrorKind::TrailingBytes(self.end - self.at);
            return Err(self.stop(op, self.at, left));
        }
        self.depth -= 1;
        self.end = self.frames[self.depth].outer;
        self.next_tag(visitor)
    }

    fn frame(&self, kind: Kind, op: Op, start: usize) -> Frame {
        Frame {
            kind,
            flags: op.flags,
            field: op.field,
            resume: self.pc as u16,
            body: op.argument as u16,
            start,
            ..NO_FRAME
        }
    }

    fn enter(&mut self, frame: Frame) {
        self.frames[self.depth] = frame;
        self.depth += 1;
    }

    #[inline(always)]
    fn place(&self, field: u16, element: bool, start: usize) -> Place<'_> {
        let frames = &self.frames[..self.depth];
        Place { layout: self.layout, frames, field, element, start, end: self.at }
    }

    /// Something odd, which ends a strict walk and is otherwise kept if it is the first.
    #[cold]
    fn odd(&mut self, op: Op, at: usize, kind: DecodeErrorKind) -> Step<()> {
        if STRICT {
            return Err(self.stop(op, at, kind));
        }
        if self.odd.is_none() {
            self.odd = Some(self.error(op, at, kind));
        }
        Ok(())
    }

    #[cold]
    fn truncated(&self, op: Op, at: usize, needed: usize) -> End {
        self.stop(op, at, DecodeErrorKind::Truncated { needed, available: self.end - at })
    }

    /// A run of merged fields is cut: finds the one that is.
    #[cold]
    fn truncated_run(&self, op: Op) -> End {
        let (mut at, mut id) = (self.at, op.field);
        let width =
            |id| self.layout.fields.get(usize::from(id)).and_then(|f: &Field| f.bytes_fixed);
        while let Some(bytes) = width(id)
            && bytes as usize <= self.end - at
        {
            at += bytes as usize;
            id += 1;
        }
        let needed = width(id).unwrap_or(op.argument) as usize;
        self.truncated(Op { field: id, ..op }, at, needed)
    }

    #[cold]
    fn stop(&self, op: Op, at: usize, kind: DecodeErrorKind) -> End {
        End::Stopped(Box::new(self.error(op, at, kind)))
    }

    fn error(&self, op: Op, at: usize, kind: DecodeErrorKind) -> DecodeError {
        let mut path = self.place(op.field, op.flags & ELEMENT != 0, at).path().to_string();
        if op.code == Code::Tags {
            path += if path.is_empty() { "tagged_fields" } else { ".tagged_fields" };
        }
        DecodeError { byte_offset: at, path, kind }
    }
}

#[inline(always)]
fn flow(flow: Flow) -> Step<()> {
    match flow {
        Flow::Continue(()) => Ok(()),
        Flow::Break(()) => Err(End::Interrupted),
    }
}
