//! Gives the values of one key dense numbers, and says of each who sent it, what became of that,
//! who read it and where it stands.

use rustc_hash::FxHashMap;

use super::gather::{Fate, Gathered, NO_ROW};
use crate::history::Value;

/// Sent by an operation that happened.
pub(super) const SENT_OK: u8 = 1;
/// Sent by an operation that did not happen.
pub(super) const SENT_FAIL: u8 = 2;
/// Sent by an operation that may have happened.
pub(super) const SENT_INFO: u8 = 4;
/// Read by any operation.
pub(super) const READ: u8 = 8;
/// Read by an operation that happened.
pub(super) const READ_OK: u8 = 16;
/// Sent more than once: the premise that values are unique does not hold.
pub(super) const SENT_TWICE: u8 = 32;
/// Its writer sent another value to the same key afterwards.
pub(super) const INTERMEDIATE: u8 = 64;

/// An offset that is not known. (The columns of a history use the same number for it.)
const NO_OFFSET: i64 = i64::MIN;

/// Finds the dense number of a value: by subtraction where the values sent lie close together,
/// by hashing otherwise.
#[derive(Debug, Default)]
struct Numbering {
    min: i64,
    span: u64,
    rest: FxHashMap<i64, u32>,
    rest_values: Vec<Value>,
}

impl Numbering {
    fn of(sent: impl Iterator<Item = Value>) -> Self {
        let (mut min, mut max, mut count) = (i64::MAX, i64::MIN, 0u64);
        for value in sent {
            (min, max, count) = (min.min(value.0), max.max(value.0), count + 1);
        }
        let span = max.wrapping_sub(min).wrapping_add(1) as u64;
        // A table may have four places for each value sent, never more.
        let dense = count > 0 && max.checked_sub(min).is_some() && span <= 4 * count + 64;
        Self { min, span: if dense { span } else { 0 }, ..Self::default() }
    }

    #[inline]
    fn place(&self, value: Value) -> Option<u32> {
        let place = value.0.wrapping_sub(self.min) as u64;
        (place < self.span).then_some(place as u32)
    }

    #[inline]
    fn find(&self, value: Value) -> Option<u32> {
        self.place(value).or_else(|| self.rest.get(&value.0).copied())
    }

    fn number(&mut self, value: Value) -> u32 {
        if let Some(number) = self.find(value) {
            return number;
        }
        let number = (self.span + self.rest_values.len() as u64) as u32;
        self.rest.insert(value.0, number);
        self.rest_values.push(value);
        number
    }

    fn value(&self, number: u32) -> Value {
        if u64::from(number) < self.span {
            Value(self.min + i64::from(number))
        } else {
            self.rest_values[(u64::from(number) - self.span) as usize]
        }
    }
}

/// The values of one key.
#[derive(Debug, Default)]
pub(super) struct Values {
    numbering: Numbering,
    /// The row that sent each; the last one where several did.
    pub(super) writer: Vec<u32>,
    /// What is known of each.
    pub(super) flags: Vec<u8>,
    /// Where each was first seen by a poll, and where else.
    polled_at: Vec<i64>,
    pub(super) polled_also_at: Vec<(i64, u32)>,
}

impl Values {
    /// Collects the values of a key.
    pub(super) fn of(gathered: &Gathered<'_>, key: usize) -> Self {
        let sent = gathered.sends(key).flatten().map(|s| s.value);
        let mut values = Self { numbering: Numbering::of(sent), ..Self::default() };
        values.grow(values.numbering.span as usize);
        values.take_sends(gathered, key);
        values.take_polls(gathered, key);
        values
    }

    fn grow(&mut self, len: usize) {
        if len > self.writer.len() {
            self.writer.resize(len, NO_ROW);
            self.flags.resize(len, 0);
            self.polled_at.resize(len, NO_OFFSET);
        }
    }

    #[inline]
    fn take(&mut self, value: Value) -> usize {
        match self.numbering.place(value) {
            // There is room for these from the start.
            Some(place) => place as usize,
            None => self.take_odd(value),
        }
    }

    #[cold]
    fn take_odd(&mut self, value: Value) -> usize {
        let number = self.numbering.number(value) as usize;
        self.grow(number + 1);
        number
    }

    fn take_sends(&mut self, gathered: &Gathered<'_>, key: usize) {
        let rows = &gathered.rows;
        for sends in gathered.sends(key) {
            let row = sends[0].row;
            let flag = match rows.fate(row) {
                Fate::Ok => SENT_OK,
                Fate::Fail => SENT_FAIL,
                Fate::Info | Fate::Other => SENT_INFO,
            };
            for (place, sent) in sends.iter().enumerate() {
                let number = self.take(sent.value);
                if self.writer[number] != NO_ROW {
                    self.flags[number] |= SENT_TWICE;
                }
                // Rows without a completion come last; a row with one is the better witness.
                let pending = !rows.facts(row).is_complete;
                if self.writer[number] == NO_ROW || !pending {
                    self.writer[number] = row;
                }
                self.flags[number] |= flag;
                if place + 1 < sends.len() {
                    self.flags[number] |= INTERMEDIATE;
                }
            }
        }
    }

    fn take_polls(&mut self, gathered: &Gathered<'_>, key: usize) {
        for runs in gathered.polls(key) {
            let ok = gathered.rows.fate(runs[0].row) == Fate::Ok;
            let flag = if ok { READ | READ_OK } else { READ };
            gathered.each_record(runs, |offset, value| {
                let number = self.take(value);
                self.flags[number] |= flag;
                let known = &mut self.polled_at[number];
                match offset {
                    Some(offset) if *known == NO_OFFSET => *known = offset,
                    Some(offset) if *known != offset => {
                        self.polled_also_at.push((offset, number as u32));
                    }
                    _ => {}
                }
            });
        }
    }

    /// The number of a value that was sent or polled.
    #[inline]
    pub(super) fn number(&self, value: Value) -> u32 {
        self.numbering.find(value).expect("every value of the key has a number")
    }

    /// Where a value was first seen by a poll.
    pub(super) fn polled_at(&self, number: u32) -> Option<i64> {
        Some(self.polled_at[number as usize]).filter(|&offset| offset != NO_OFFSET)
    }

    /// The value of a number.
    pub(super) fn value(&self, number: u32) -> Value {
        self.numbering.value(number)
    }

    /// How many numbers there are. (Some may stand for values that were never used.)
    pub(super) fn len(&self) -> usize {
        self.writer.len()
    }

    /// Whether a value has all of some flags.
    pub(super) fn has(&self, number: u32, flags: u8) -> bool {
        self.flags[number as usize] & flags == flags
    }
}
