//! Random trees of any layout, the same for the same seed.

use kafka_wire::schema::{Field, FieldId, FieldKind, Fields, Layout, Value};

/// SplitMix64: tests need numbers that differ, not good ones.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    /// A tree with every field but some of the tagged ones, which are never at their defaults.
    pub(crate) fn tree(&mut self, layout: &Layout) -> Fields {
        let fields: Vec<_> = layout.fields().map(|(id, _)| id).collect();
        self.fields(layout, &fields)
    }

    fn fields(&mut self, layout: &Layout, ids: &[FieldId]) -> Fields {
        let mut fields = Fields::new();
        for &id in ids {
            let field = layout.field(id);
            if field.tag().is_some() && self.one_in(2) {
                continue;
            }
            let value = self.value(layout, id);
            if field.tag().is_none() || value != layout.default_of(id) {
                fields.set(field.name(), value);
            }
        }
        if layout.is_flexible() && self.one_in(4) {
            for tag in 0..self.below(3) as u32 {
                let bytes = self.bytes();
                fields.add_unknown_tag(100 + tag * 1000, bytes);
            }
        }
        fields
    }

    pub(crate) fn value(&mut self, layout: &Layout, id: FieldId) -> Value {
        let field = layout.field(id);
        if field.is_nullable() && self.one_in(4) {
            return Value::Null;
        }
        if !field.is_array() {
            return self.element(layout, id, field);
        }
        let count = if self.one_in(50) { 130 } else { self.below(4) };
        // Long arrays of structs within long arrays of structs make bodies of megabytes.
        let count = if field.kind() == FieldKind::Struct { count.min(4) } else { count };
        Value::Array((0..count).map(|_| self.element(layout, id, field)).collect())
    }

    pub(crate) fn element(&mut self, layout: &Layout, id: FieldId, field: &Field) -> Value {
        match field.kind() {
            FieldKind::Bool => Value::Bool(self.one_in(2)),
            FieldKind::Int8 => Value::Int((self.next() as i8).into()),
            FieldKind::Int16 => Value::Int((self.next() as i16).into()),
            FieldKind::Uint16 => Value::Int((self.next() as u16).into()),
            FieldKind::Int32 => Value::Int((self.next() as i32).into()),
            FieldKind::Uint32 => Value::Int((self.next() as u32).into()),
            FieldKind::Int64 => Value::Int(self.next() as i64),
            FieldKind::Float64 => Value::Float(self.next() as i32 as f64 / 16.0),
            FieldKind::Uuid => {
                let half = self.next().to_be_bytes();
                Value::Uuid([half, half].concat().try_into().unwrap())
            }
            FieldKind::String => Value::String(self.text()),
            FieldKind::Bytes | FieldKind::Records => Value::Bytes(self.bytes().into()),
            FieldKind::Struct => {
                let children: Vec<_> = layout.children(id).map(|(id, _)| id).collect();
                Value::Struct(self.fields(layout, &children))
            }
        }
    }

    fn text(&mut self) -> String {
        let length = if self.one_in(30) { 200 } else { self.below(12) };
        (0..length)
            .map(|_| ['a', 'Z', '0', '.', '_', '"', '\n', 'é', '\u{1f980}'][self.below(9)])
            .collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = if self.one_in(30) { 300 } else { self.below(20) };
        (0..length).map(|_| self.next() as u8).collect()
    }
}
