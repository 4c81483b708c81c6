//! Draws the edges between operations that one key gives.
//!
//! * `ww`: the writer of a value → the writer of the next value in the version order.
//! * `wr`: the writer of a value → everyone who polled it, whatever became of their operation.
//! * `rw`: an operation that happened and whose polls of the key ended at one index → the writer
//!   of the next index, if that write must have happened. Both places are known from the log, so
//!   it is certain that the reader had everything before the write and not the write itself. It
//!   is *not* certain that the write was there to be seen: a poll is no snapshot, it may stop
//!   early, even inside a transaction. So cycles of such edges are told, and never bad.
//!
//! No edge leads from an operation to itself. Places without a known writer are passed over.

use super::gather::{Fate, Gathered, NO_ROW};
use super::order::{NO_INDEX, Order};
use super::values::Values;
use super::{Examination, numbers};

/// Why one operation depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dependency {
    Ww,
    Wr,
    Rw,
}

/// An edge between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) dependency: Dependency,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// Calls `emit` with each edge of a key, some more than once.
pub(super) fn of_key(
    examination: &Examination<'_, '_>,
    key: usize,
    values: &Values,
    order: &Order,
    ww_deps: bool,
    mut emit: impl FnMut(Edge),
) {
    let mut emit = |dependency, from, to| {
        if from != to && from != NO_ROW && to != NO_ROW {
            emit(Edge { dependency, from, to });
        }
    };
    if ww_deps {
        writes(values, order, &mut emit);
    }
    let gathered: &Gathered<'_> = examination.gathered;
    for runs in gathered.polls(key) {
        let reader = runs[0].row;
        let (mut last_writer, mut last_value) = (NO_ROW, None);
        for value in numbers(values, runs) {
            let writer = values.writer[value as usize];
            if writer != last_writer {
                emit(Dependency::Wr, writer, reader);
                last_writer = writer;
            }
            last_value = Some(value);
        }
        if gathered.rows.fate[reader as usize] == Fate::Ok
            && let Some(writer) = last_value.and_then(|value| next_writer(values, order, value))
            && examination.must_have_happened(writer)
        {
            emit(Dependency::Rw, reader, writer);
        }
    }
}

fn writes(values: &Values, order: &Order, emit: &mut impl FnMut(Dependency, u32, u32)) {
    let mut before = NO_ROW;
    for (index, &value) in (0u32..).zip(&order.values) {
        let writer = values.writer[value as usize];
        if writer == NO_ROW {
            continue;
        }
        // A value that stands in several places has its edge at the last of them.
        if order.index(value) == index {
            emit(Dependency::Ww, before, writer);
        }
        before = writer;
    }
}

/// Who wrote what stands right behind a value.
pub(super) fn next_writer(values: &Values, order: &Order, value: u32) -> Option<u32> {
    let index = order.index(value);
    let next = (index != NO_INDEX).then(|| order.values.get(index as usize + 1))??;
    Some(values.writer[*next as usize]).filter(|&writer| writer != NO_ROW)
}
