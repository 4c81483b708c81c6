//! Follows each process through one key: do its polls and sends go forward, one by one?
//!
//! Two places are compared by their indexes in the version order; where one of them is not known,
//! they are taken to be neighbours. Only polls that happened move a process forward: after a
//! failed or undecided one it must go back. A binding of the consumer that leaves a key out makes
//! its process forget where it was.
//!
//! Not checked: external send skips; keys that a rebalance touched while an operation was under
//! way (inside that operation).

use super::gather::{Fate, Gathered, NO_ROW, Sent};
use super::order::{NO_INDEX, Order};
use super::strand::Strand;
use super::tally::{Hit, Kind, Tallies};
use super::values::Values;
use crate::history::KeyId;

/// Where a process was last in a key.
#[derive(Debug, Clone, Copy)]
struct Last {
    key: u32,
    row: u32,
    index: u32,
    /// How often the process had bound its consumer by then.
    binds: u32,
}

const NOWHERE: Last = Last { key: u32::MAX, row: NO_ROW, index: NO_INDEX, binds: 0 };

/// Where each process was last in the key at hand. One a thread, used for one key after another.
#[derive(Debug)]
pub(super) struct Positions {
    polled: Vec<Last>,
    sent: Vec<Last>,
}

impl Positions {
    pub(super) fn new(processes: usize) -> Self {
        Self { polled: vec![NOWHERE; processes], sent: vec![NOWHERE; processes] }
    }
}

/// One key under examination.
pub(super) struct Sequence<'a, 'h> {
    pub(super) gathered: &'a Gathered<'h>,
    pub(super) key: u32,
    pub(super) values: &'a Values,
    pub(super) order: &'a Order,
}

impl Sequence<'_, '_> {
    /// Examines one operation's polls.
    pub(super) fn polls(&self, row: u32, strand: &Strand, at: &mut Positions, found: &mut Tallies) {
        let facts = self.gathered.rows.facts(row);
        let last = &mut at.polled[facts.process as usize];
        let (Some(&first), Some(&end)) = (strand.numbers.first(), strand.numbers.last()) else {
            return;
        };
        if let Some(from) = self.known(*last, row) {
            let hit = self.hit(row, last.row, from, self.order.index(first));
            self.judge(hit, Kind::PollSkip, Kind::NonmonotonicPoll, found);
        }
        if !strand.is_plain {
            self.inside(row, &strand.numbers, found);
        }
        if facts.fate == Fate::Ok {
            let index = self.order.index(end);
            *last = Last { key: self.key, row, index, binds: facts.binds };
        }
    }

    /// Examines the steps inside one operation's polls.
    fn inside(&self, row: u32, numbers: &[u32], found: &mut Tallies) {
        let rows = &self.gathered.rows;
        for pair in numbers.windows(2) {
            let (here, next) = (self.order.index(pair[0]), self.order.index(pair[1]));
            if next != here.wrapping_add(1) && !rows.is_rebalanced(row, KeyId(self.key)) {
                let hit = self.hit(row, NO_ROW, here, next);
                self.judge(hit, Kind::IntPollSkip, Kind::IntNonmonotonicPoll, found);
            }
        }
    }

    /// Examines one operation's sends.
    pub(super) fn sends(&self, sends: &[Sent], at: &mut Positions, found: &mut Tallies) {
        let row = sends[0].row;
        let index = |sent: &Sent| self.order.index(self.values.number(sent.value));
        let first = index(&sends[0]);
        let mut here = first;
        for sent in &sends[1..] {
            let next = index(sent);
            let hit = self.hit(row, NO_ROW, here, next);
            self.judge(hit, Kind::IntSendSkip, Kind::IntNonmonotonicSend, found);
            here = next;
        }
        let facts = self.gathered.rows.facts(row);
        if facts.fate == Fate::Fail {
            return;
        }
        let last = &mut at.sent[facts.process as usize];
        if let Some(from) = self.known(*last, row)
            && first != NO_INDEX
            && first <= from
        {
            found.push(Kind::NonmonotonicSend, self.hit(row, last.row, from, first));
        }
        *last = Last { key: self.key, row, index: here, binds: facts.binds };
    }

    /// The index a process was last at, if it still holds in a later row.
    fn known(&self, last: Last, row: u32) -> Option<u32> {
        let Gathered { rows, history, .. } = self.gathered;
        let kept = |key| rows.kept(history, key, last.binds, row);
        (last.key == self.key && last.index != NO_INDEX && kept(KeyId(self.key)))
            .then_some(last.index)
    }

    /// A step from one index to another, ordered by how wrong it is: the longest skip, the
    /// furthest way back come first.
    fn hit(&self, row: u32, earlier_row: u32, from: u32, to: u32) -> Hit {
        let order = -i64::from(from.abs_diff(to));
        Hit { order, row, key: self.key, earlier_row, from, to }
    }

    fn judge(&self, hit: Hit, skip: Kind, nonmonotonic: Kind, found: &mut Tallies) {
        if hit.from == NO_INDEX || hit.to == NO_INDEX {
            return;
        }
        if hit.to <= hit.from {
            found.push(nonmonotonic, hit);
        } else if hit.to > hit.from + 1 {
            found.push(skip, hit);
        }
    }
}
