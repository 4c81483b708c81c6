//! Looks once at what one operation polled of one key.
//!
//! Nearly all of it is *plain*: values that stand one behind the other in the version order, each
//! with a known writer that did not fail and is not the reader. Of a plain strand the first and the
//! last value say everything that the checks ask.

use super::gather::{Gathered, NO_ROW, Polled};
use super::order::{NO_INDEX, Order};
use super::values::{SENT_FAIL, SENT_TWICE, Values};

/// What one operation polled of one key. Used again for one operation after the other.
#[derive(Debug, Default)]
pub(super) struct Strand {
    /// The numbers of the values, in the order they came.
    pub(super) numbers: Vec<u32>,
    /// The highest offset among them, -1 if none is known.
    pub(super) highest: i64,
    pub(super) is_plain: bool,
    /// The last row that sent one of them; none if there is one without a writer.
    pub(super) last_writer: u32,
}

impl Strand {
    /// Looks at an operation's runs.
    pub(super) fn look(
        &mut self,
        gathered: &Gathered<'_>,
        values: &Values,
        order: &Order,
        runs: &[Polled],
    ) {
        let reader = runs[0].row;
        let numbers = &mut self.numbers;
        numbers.clear();
        let (mut highest, mut is_plain, mut next, mut last_writer) = (-1, true, None, 0);
        gathered.each_record(runs, |offset, value| {
            let number = values.number(value);
            let index = order.index(number);
            let writer = values.writer[number as usize];
            let is_odd = values.flags[number as usize] & (SENT_FAIL | SENT_TWICE) != 0;
            let follows = next.is_none_or(|next| next == index) && index != NO_INDEX;
            is_plain &= follows & !is_odd & (writer != reader) & (writer != NO_ROW);
            next = Some(index.wrapping_add(1));
            highest = offset.unwrap_or(-1).max(highest);
            last_writer = writer.max(last_writer);
            numbers.push(number);
        });
        (self.highest, self.is_plain, self.last_writer) = (highest, is_plain, last_writer);
    }
}
