//! Turns the offsets seen of one key into its version order.
//!
//! An offset names one value for ever; two values at one offset are reported, and one of them
//! stands for the place. Gaps are legal: control batches and compacted records occupy offsets
//! that no poll returns. So a value's *index* counts the known offsets below its own.
//!
//! Never: allocates by an offset. A log whose offsets begin at three billion costs what its
//! records cost.

use super::gather::{Fate, Gathered};
use super::values::Values;
use crate::history::Value;

/// An index that is not known.
pub(super) const NO_INDEX: u32 = u32::MAX;

/// Values that stand at one offset.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) index: u32,
    pub(super) values: Vec<u32>,
}

/// A value that stands at several offsets.
#[derive(Debug)]
pub(super) struct Duplicate {
    pub(super) value: u32,
    pub(super) offsets: Vec<i64>,
}

/// The version order of one key.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The value at each index.
    pub(super) values: Vec<u32>,
    /// The offset of each index.
    pub(super) offsets: Vec<i64>,
    /// The index of each value: the last one where it has several; none where another value
    /// stands for its place.
    pub(super) index: Vec<u32>,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) duplicates: Vec<Duplicate>,
    /// First and last index of each value, where conflicts or duplicates make them differ from
    /// `index`.
    spread: Option<(Vec<u32>, Vec<u32>)>,
}

impl Order {
    /// The order of a key. `committed` says of a row that its sends must have happened.
    pub(super) fn of(
        gathered: &Gathered<'_>,
        key: usize,
        values: &Values,
        committed: impl Fn(u32) -> bool,
    ) -> Self {
        let places = places(gathered, key, values, committed);
        let mut order = Self { index: vec![NO_INDEX; values.len()], ..Self::default() };
        for group in places.chunk_by(|a, b| a.0 == b.0) {
            order.take(values, group);
        }
        order.find_spread(&places);
        order
    }

    fn take(&mut self, values: &Values, group: &[(i64, u32)]) {
        let index = self.values.len() as u32;
        let mut pick = group[0].1;
        if group.len() > 1 {
            pick = group
                .iter()
                .map(|&(_, value)| value)
                .min_by_key(|&value| hash_set_place(values.value(value)))
                .expect("a group has members");
            let values = group.iter().map(|&(_, value)| value).collect();
            self.conflicts.push(Conflict { index, values });
        }
        self.values.push(pick);
        self.offsets.push(group[0].0);
        self.index[pick as usize] = index;
    }

    fn find_spread(&mut self, places: &[(i64, u32)]) {
        let mut times = vec![0u8; self.index.len()];
        for &(_, value) in places {
            let times = &mut times[value as usize];
            *times = times.saturating_add(1);
        }
        let mut repeated: Vec<(u32, i64)> = places
            .iter()
            .filter(|&&(_, value)| times[value as usize] > 1)
            .map(|&(offset, value)| (value, offset))
            .collect();
        if repeated.is_empty() && self.conflicts.is_empty() {
            return;
        }
        repeated.sort_unstable();
        for same in repeated.chunk_by(|a, b| a.0 == b.0) {
            let offsets = same.iter().map(|&(_, offset)| offset).collect();
            self.duplicates.push(Duplicate { value: same[0].0, offsets });
        }
        let mut first = vec![NO_INDEX; self.index.len()];
        let mut last = first.clone();
        for (index, group) in (0u32..).zip(places.chunk_by(|a, b| a.0 == b.0)) {
            for &(_, value) in group {
                let first = &mut first[value as usize];
                *first = index.min(*first);
                last[value as usize] = index;
            }
        }
        self.spread = Some((first, last));
    }

    /// Whether every offset has one value and every value one offset, so that the writers of the
    /// key form one chain.
    pub(super) fn is_plain(&self) -> bool {
        self.spread.is_none()
    }

    /// The index of a value, if it is known.
    pub(super) fn index(&self, value: u32) -> u32 {
        self.index[value as usize]
    }

    /// The first index at which a value stands, also where another stands for its place.
    pub(super) fn first(&self, value: u32) -> u32 {
        self.spread.as_ref().map_or(&self.index, |(first, _)| first)[value as usize]
    }

    /// The last such index.
    pub(super) fn last(&self, value: u32) -> u32 {
        self.spread.as_ref().map_or(&self.index, |(_, last)| last)[value as usize]
    }
}

/// All known places of a key's values, by offset: from polls of every outcome, since pollers must
/// always return safe data, and from acknowledged sends that must have happened.
fn places(
    gathered: &Gathered<'_>,
    key: usize,
    values: &Values,
    committed: impl Fn(u32) -> bool,
) -> Vec<(i64, u32)> {
    let mut sent_at: Vec<(i64, u32)> = Vec::new();
    for sends in gathered.sends(key) {
        let row = sends[0].row;
        let known = match gathered.rows.fate(row) {
            Fate::Ok => true,
            Fate::Info => committed(row),
            Fate::Fail | Fate::Other => false,
        };
        for sent in sends.iter().filter(|_| known) {
            let Some(offset) = sent.offset() else { continue };
            let number = values.number(sent.value);
            if values.polled_at(number) != Some(offset) {
                sent_at.push((offset, number));
            }
        }
    }
    let mut places: Vec<(i64, u32)> = (0..values.len() as u32)
        .filter_map(|number| Some((values.polled_at(number)?, number)))
        .chain(values.polled_also_at.iter().copied())
        .chain(sent_at)
        .collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// Where a value comes in a Clojure hash set of its like. Of several values at one offset any
/// fixed choice would do to stand for the place; this one is Jepsen's, so that the verdicts can
/// be compared case by case.
fn hash_set_place(value: Value) -> ([u32; 7], i64) {
    let hash = murmur3(value.0);
    let digit = |n: u32| if n == 6 { hash >> 30 } else { hash >> (5 * n) & 31 };
    (std::array::from_fn(|n| digit(n as u32)), value.0)
}

fn murmur3(input: i64) -> u32 {
    if input == 0 {
        return 0;
    }
    let scramble =
        |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mix = |hash: u32, word: u32| {
        (hash ^ scramble(word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    };
    let mut hash = mix(mix(0, input as u32), (input >> 32) as u32) ^ 8;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}
