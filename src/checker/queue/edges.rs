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
//!
//! Of the `wr` edges into a reader of successive values, all but the last follow from it and the
//! `ww` edges between the writers: whoever reaches the reader by one of them reaches it by the last
//! writer too, which then stands in every component that holds both. They are *implied*, and drawn
//! only where they lead back in time; [`written_before`] has them all for who needs them.

use super::gather::{Fate, NO_ROW};
use super::order::{NO_INDEX, Order};
use super::strand::Strand;
use super::values::Values;
use super::{Analysis, Examination};
use crate::checker::graph::{RW, WR, WW};
use crate::history::MopRef;

/// Why one operation depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dependency {
    Ww,
    Wr,
    Rw,
}

impl Dependency {
    /// The kind of edge that a graph has for it.
    pub(super) fn kind(self) -> u8 {
        match self {
            Self::Ww => WW,
            Self::Wr => WR,
            Self::Rw => RW,
        }
    }
}

/// An edge between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) dependency: Dependency,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// One key whose edges are drawn.
pub(super) struct Drawing<'a, 'h> {
    pub(super) examination: &'a Examination<'a, 'h>,
    pub(super) values: &'a Values,
    pub(super) order: &'a Order,
    pub(super) ww_deps: bool,
}

impl Drawing<'_, '_> {
    /// The edges between the key's writers.
    pub(super) fn writes(&self, mut emit: impl FnMut(Edge)) {
        if !self.ww_deps {
            return;
        }
        writes(self.values, self.order, &mut |dependency, from, to| {
            draw(dependency, from, to, &mut emit);
        });
    }

    /// The edges that one operation's polls give, but for those that are implied.
    pub(super) fn polls(&self, reader: u32, strand: &Strand, mut emit: impl FnMut(Edge)) {
        let numbers = &strand.numbers;
        let mut last_writer = NO_ROW;
        let is_chain = strand.is_plain && self.ww_deps && self.order.is_plain();
        let implied = if is_chain { numbers.len().saturating_sub(1) } else { 0 };
        let timeline = self.examination.timeline;
        let place = timeline.node(reader);
        let happened = self.examination.gathered.rows.fate(reader) == Fate::Ok;
        // Mostly no writer needs a look to be before the reader.
        let are_before = happened && timeline.is_surely_before(strand.last_writer, reader);
        let first = if are_before { implied } else { 0 };
        for (count, &value) in numbers.iter().enumerate().skip(first) {
            let writer = self.values.writer[value as usize];
            let is_drawn = count >= implied || timeline.node(writer) > place;
            if writer != last_writer && is_drawn {
                draw(Dependency::Wr, writer, reader, &mut emit);
                last_writer = writer;
            }
        }
        let next = numbers.last().and_then(|&last| next_writer(self.values, self.order, last));
        if happened && let Some(writer) = next.filter(|&w| self.examination.must_have_happened(w)) {
            draw(Dependency::Rw, reader, writer, &mut emit);
        }
    }
}

fn draw(dependency: Dependency, from: u32, to: u32, emit: &mut impl FnMut(Edge)) {
    if from != to && from != NO_ROW && to != NO_ROW {
        emit(Edge { dependency, from, to });
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

/// The rows that wrote what a row polled, each as often as it did, without itself.
pub(super) fn written_before(analysis: &Analysis<'_>, reader: u32, mut each: impl FnMut(u32)) {
    if analysis.gathered.rows.fate(reader) == Fate::Other {
        return;
    }
    for mop in analysis.history.op(reader as usize).mops() {
        let MopRef::Poll(poll) = mop else { continue };
        for run in poll.runs() {
            let values = &analysis.keys[run.key.0 as usize].values;
            run.records().for_each(|(_, value)| {
                let writer = values.writer[values.number(value) as usize];
                if writer != NO_ROW && writer != reader {
                    each(writer);
                }
            });
        }
    }
}

/// Who wrote what stands right behind a value.
pub(super) fn next_writer(values: &Values, order: &Order, value: u32) -> Option<u32> {
    let index = order.index(value);
    let next = (index != NO_INDEX).then(|| order.values.get(index as usize + 1))??;
    Some(values.writer[*next as usize]).filter(|&writer| writer != NO_ROW)
}
