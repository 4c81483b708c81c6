//! Compares what was sent to one key with what was read of it: lost, unseen, aborted, phantom,
//! doubled and contradictory values.
//!
//! A write *must have happened* if its operation is ok, or undecided and one of its values was
//! read by an operation that is ok: either the whole of it happened or nothing.
//!
//! Not checked: values behind the last index that anybody read (they may yet be read; `unseen`
//! names them).

use super::gather::{Fate, Gathered, NO_ROW};
use super::order::{NO_INDEX, Order};
use super::strand::Strand;
use super::tally::{Hit, Kind, Tallies};
use super::values::{INTERMEDIATE, READ, READ_OK, SENT_FAIL, SENT_OK, SENT_TWICE, Values};

/// One key under examination.
pub(super) struct Truth<'a, 'h> {
    pub(super) gathered: &'a Gathered<'h>,
    pub(super) key: u32,
    pub(super) values: &'a Values,
    pub(super) order: &'a Order,
}

impl Truth<'_, '_> {
    /// Reports everything that needs no walk over the polls. `committed` says of an undecided row
    /// that its sends must have happened.
    pub(super) fn find(&self, committed: impl Fn(u32) -> bool, found: &mut Tallies) {
        self.find_conflicts(found);
        self.find_lost(committed, found);
        for value in 0..self.values.len() as u32 {
            let hit = self.hit(0, self.values.writer[value as usize], value, NO_INDEX);
            if self.values.has(value, SENT_OK) && !self.values.has(value, READ_OK) {
                found.push(Kind::Unseen, hit);
            }
            if self.values.has(value, READ) && hit.row == NO_ROW {
                found.push(Kind::PhantomRead, hit);
            }
            if self.values.has(value, SENT_FAIL | READ_OK) && self.is_fenced(hit.row) {
                found.push(Kind::ZombieWrite, hit);
            }
        }
    }

    fn find_conflicts(&self, found: &mut Tallies) {
        for (place, conflict) in (0u32..).zip(&self.order.conflicts) {
            let hit = self.hit(conflict.values.len() as i64, NO_ROW, place, conflict.index);
            found.push(Kind::InconsistentOffsets, hit);
        }
        for (place, duplicate) in (0u32..).zip(&self.order.duplicates) {
            let hit = self.hit(duplicate.offsets.len() as i64, NO_ROW, place, duplicate.value);
            found.push(Kind::Duplicate, hit);
            if duplicate.offsets.iter().filter(|&&offset| offset != 0).count() > 1 {
                found.push(Kind::DuplicateNonzero, hit);
            }
        }
    }

    /// Somebody read up to `bound`; so what stands at or before it had to be read as well.
    fn find_lost(&self, committed: impl Fn(u32) -> bool, found: &mut Tallies) {
        let Some(bound) = self.bound() else { return };
        let newest_send = self.newest_send(bound);
        for value in 0..self.values.len() as u32 {
            let writer = self.values.writer[value as usize];
            if self.values.has(value, READ_OK) || writer == NO_ROW {
                continue;
            }
            let last = self.order.last(value);
            let is_behind = if last == NO_INDEX {
                self.values.has(value, SENT_OK) && self.is_older(writer, newest_send)
            } else {
                last <= bound
            };
            let must = match self.gathered.rows.fate(writer) {
                Fate::Ok => true,
                Fate::Info => committed(writer),
                Fate::Fail | Fate::Other => false,
            };
            if is_behind && must {
                found.push(Kind::LostWrite, self.hit(0, writer, value, bound));
            }
        }
    }

    /// The highest index known to have been read: of every value read, the first place it has.
    pub(super) fn bound(&self) -> Option<u32> {
        (0..self.values.len() as u32)
            .filter(|&value| self.values.has(value, READ_OK))
            .map(|value| self.order.first(value))
            .filter(|&index| index != NO_INDEX)
            .max()
    }

    /// When the last send began of those whose value stands at or before `bound`, as an index in
    /// the history. A write acknowledged before that, with whatever offset, stands before it in
    /// the log. (Jepsen leaves such a write out where its acknowledgement had no offset.)
    fn newest_send(&self, bound: u32) -> Option<u64> {
        let unplaced = |value: u32| {
            self.values.has(value, SENT_OK)
                && !self.values.has(value, READ_OK)
                && self.order.last(value) == NO_INDEX
        };
        // Rare, and the answer costs a look at every operation that sent to the key.
        (0..self.values.len() as u32).find(|&value| unplaced(value))?;
        self.order.values[..=bound as usize]
            .iter()
            .map(|&value| self.values.writer[value as usize])
            .filter(|&writer| writer != NO_ROW)
            .filter_map(|writer| self.gathered.history.op(writer as usize).invoke_index())
            .max()
    }

    fn is_older(&self, writer: u32, newest_send: Option<u64>) -> bool {
        let completed = self.gathered.history.op(writer as usize).complete_index();
        matches!((completed, newest_send), (Some(end), Some(begin)) if end < begin)
    }

    /// Whether an operation failed because its producer was fenced.
    fn is_fenced(&self, row: u32) -> bool {
        row != NO_ROW
            && self.gathered.history.op(row as usize).error().is_some_and(|error| {
                let error = error.to_ascii_lowercase();
                ["fenced", "invalid-producer-epoch", "invalid_producer_epoch"]
                    .iter()
                    .any(|word| error.contains(word))
            })
    }

    /// Reports what one operation read that it should not have. `committed` says of any row that
    /// its sends happened.
    pub(super) fn read(
        &self,
        row: u32,
        strand: &Strand,
        committed: impl Fn(u32) -> bool,
        found: &mut Tallies,
    ) {
        let ok = self.gathered.rows.fate(row) == Fate::Ok;
        let mut own = false;
        let odd = if strand.is_plain { &[][..] } else { &strand.numbers };
        for &value in odd {
            let writer = self.values.writer[value as usize];
            if ok && self.values.has(value, SENT_FAIL) {
                found.push(Kind::G1a, Hit { earlier_row: writer, ..self.hit(0, row, value, 0) });
            }
            let sent_it =
                writer == row || (self.values.has(value, SENT_TWICE) && self.sent_by(row, value));
            if sent_it && !std::mem::replace(&mut own, true) {
                found.push(Kind::PrecommittedRead, self.hit(0, row, value, 0));
            }
        }
        let last = strand.numbers.last().copied();
        if let Some(value) = last.filter(|&value| ok && self.values.has(value, INTERMEDIATE)) {
            let writer = self.values.writer[value as usize];
            if writer != row && committed(writer) {
                found.push(Kind::G1b, Hit { earlier_row: writer, ..self.hit(0, row, value, 0) });
            }
        }
    }

    fn sent_by(&self, row: u32, value: u32) -> bool {
        let value = self.values.value(value);
        self.gathered.sends(self.key as usize).flatten().any(|s| s.row == row && s.value == value)
    }

    fn hit(&self, order: i64, row: u32, from: u32, to: u32) -> Hit {
        Hit { order, row, key: self.key, earlier_row: NO_ROW, from, to }
    }
}
