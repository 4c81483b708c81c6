//! Turns reads and appends into one version order for each list.
//!
//! A list grows only at its end, so every read names all its earlier versions; the longest read is
//! the order. A list that nobody read with anything in it, and to which exactly one value was
//! appended, has an order too. Operations that definitely failed take no part.

use rustc_hash::FxHashMap;

use crate::history::columns::Op;
use crate::history::{EventType, History, MopRef, Value};

/// One read of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read<'h> {
    pub(super) row: u32,
    pub(super) values: &'h [Value],
}

/// What is known of one list.
#[derive(Debug, Default)]
pub(super) struct List<'h> {
    /// Its reads by operations that did not fail, in row order.
    pub(super) reads: Vec<Read<'h>>,
    /// Its values in order.
    pub(super) order: Vec<Value>,
    index: FxHashMap<Value, u32>,
    /// Who appended each value, if they did not fail.
    pub(super) writers: FxHashMap<Value, u32>,
    /// Who appended it and failed.
    pub(super) failed: FxHashMap<Value, u32>,
    /// Who appended it and then more.
    pub(super) intermediate: FxHashMap<Value, u32>,
    appended: Option<Value>,
    appends: usize,
    /// Values appended more than once.
    pub(super) repeated: usize,
    /// Two reads of which neither can have come before the other.
    pub(super) incompatible: Option<(Read<'h>, Read<'h>)>,
}

/// Whether an operation is a client's on lists.
pub(super) fn is_transaction(op: &Op<'_>) -> bool {
    op.is_client()
        && op.mops().any(|mop| matches!(mop, MopRef::Append { .. } | MopRef::Read { .. }))
}

/// What a read saw: a read that happened and says nothing saw the empty list.
pub(super) fn seen<'h>(op: &Op<'h>, values: Option<&'h [Value]>) -> Option<&'h [Value]> {
    if op.kind() == EventType::Ok { Some(values.unwrap_or_default()) } else { values }
}

/// All lists of a history.
pub(super) fn of(history: &History) -> Vec<List<'_>> {
    let mut lists: Vec<List<'_>> = (0..history.key_count()).map(|_| List::default()).collect();
    let mut last: Vec<(usize, Value)> = Vec::new();
    for op in history.ops().filter(is_transaction) {
        let row = op.row as u32;
        let failed = op.kind() == EventType::Fail;
        last.clear();
        for mop in op.mops() {
            match mop {
                MopRef::Append { key, value } => {
                    let key = key.0 as usize;
                    lists[key].append(row, value, failed);
                    let earlier = last.iter_mut().find(|(k, _)| *k == key);
                    if let Some((_, before)) = earlier {
                        lists[key].intermediate.insert(std::mem::replace(before, value), row);
                    } else {
                        last.push((key, value));
                    }
                }
                MopRef::Read { key, values } if !failed => {
                    if let Some(values) = seen(&op, values) {
                        lists[key.0 as usize].reads.push(Read { row, values });
                    }
                }
                _ => {}
            }
        }
    }
    lists.iter_mut().for_each(List::put_in_order);
    lists
}

impl<'h> List<'h> {
    fn append(&mut self, row: u32, value: Value, failed: bool) {
        if self.failed.contains_key(&value) || self.writers.contains_key(&value) {
            self.repeated += 1;
        }
        if failed {
            self.failed.insert(value, row);
            return;
        }
        self.appends += 1;
        self.appended = Some(value);
        self.writers.insert(value, row);
    }

    fn put_in_order(&mut self) {
        let mut by_length: Vec<Read<'h>> =
            self.reads.iter().filter(|read| !read.values.is_empty()).copied().collect();
        by_length.sort_by_key(|read| read.values.len());
        self.incompatible = by_length
            .windows(2)
            .find(|pair| !pair[1].values.starts_with(pair[0].values))
            .map(|pair| (pair[0], pair[1]));
        match (by_length.last(), self.appended) {
            (Some(longest), _) => {
                for &value in longest.values {
                    let next = self.order.len() as u32;
                    self.index.entry(value).or_insert_with(|| {
                        self.order.push(value);
                        next
                    });
                }
            }
            (None, Some(only)) if self.appends == 1 => {
                self.order.push(only);
                self.index.insert(only, 0);
            }
            _ => {}
        }
    }

    /// The value that stood last right before a value was appended: none if the list was empty.
    /// A value that nobody read came after all that anybody read.
    pub(super) fn before(&self, value: Value) -> Option<Value> {
        match self.index.get(&value) {
            Some(&index) => index.checked_sub(1).map(|before| self.order[before as usize]),
            None => self.order.last().copied(),
        }
    }
}
