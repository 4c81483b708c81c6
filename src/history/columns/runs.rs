//! Turns the records of one key in one poll into bytes, and back.
//!
//! Consecutive records mostly differ by little, so a run is its first record and then differences:
//! one byte for the offset, one for the value. Runs that do not fit take 32 bits each, and those
//! with unknown offsets or interned values stand whole. A run's head is `key` and `length | form`,
//! 32 bits each, little-endian.

use super::cells::NO_OFFSET;

/// How the records of a run are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Form {
    /// The first in 32 bits each, then differences in 8 bits each.
    Narrow,
    /// The first in 64 bits each, then differences in 8 bits each.
    NarrowFar,
    /// The first in 64 bits each, then differences to it in 32 bits each.
    Medium,
    /// All in 64 bits each.
    Wide,
}

const FORM_SHIFT: u32 = 30;
/// The most records one run can have; longer ones are cut.
pub(crate) const RUN_RECORDS_MAX: usize = (1 << FORM_SHIFT) - 1;
pub(crate) const HEAD_BYTES: usize = 8;

/// A run's head and where its records stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) key: u32,
    pub(crate) form: Form,
    pub(crate) length: u32,
    pub(crate) data: &'a [u8],
}

/// Appends one run; `records` are offsets and values, neither empty nor too long.
pub(crate) fn write(out: &mut Vec<u8>, key: u32, records: &[(i64, i64)]) {
    let form = form_of(records);
    let (offset, value) = records[0];
    let length = records.len() as u32 | (form as u32) << FORM_SHIFT;
    let mut head = [0; HEAD_BYTES + 8];
    for (bytes, word) in head.chunks_exact_mut(4).zip([key, length, offset as u32, value as u32]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    if form == Form::Narrow {
        out.extend_from_slice(&head);
        return write_differences(out, records);
    }
    out.extend_from_slice(&head[..HEAD_BYTES]);
    match form {
        Form::Narrow | Form::NarrowFar => {
            write_whole(out, records[0]);
            write_differences(out, records);
        }
        Form::Medium => {
            write_whole(out, records[0]);
            for record in &records[1..] {
                out.extend_from_slice(&((record.0 - offset) as i32).to_le_bytes());
                out.extend_from_slice(&((record.1 - value) as i32).to_le_bytes());
            }
        }
        Form::Wide => records.iter().for_each(|record| write_whole(out, *record)),
    }
}

fn write_differences(out: &mut Vec<u8>, records: &[(i64, i64)]) {
    let start = out.len();
    out.resize(start + 2 * (records.len() - 1), 0);
    for (bytes, pair) in out[start..].chunks_exact_mut(2).zip(records.windows(2)) {
        bytes[0] = (pair[1].0 - pair[0].0) as u8;
        bytes[1] = (pair[1].1 - pair[0].1) as i8 as u8;
    }
}

fn write_whole(out: &mut Vec<u8>, (offset, value): (i64, i64)) {
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&value.to_le_bytes());
}

fn form_of(records: &[(i64, i64)]) -> Form {
    let plain = |(offset, value): (i64, i64)| {
        (0..1 << 62).contains(&offset) && (0..1 << 62).contains(&value)
    };
    let step = |pair: &[(i64, i64)]| {
        let offset = pair[1].0.wrapping_sub(pair[0].0);
        let value = pair[1].1.wrapping_sub(pair[0].1);
        u8::try_from(offset).is_ok() & i8::try_from(value).is_ok()
    };
    let (offset, value) = records[0];
    let narrow = plain(records[0]) && records.windows(2).fold(true, |all, pair| all & step(pair));
    if narrow && u32::try_from(offset).is_ok() && u32::try_from(value).is_ok() {
        return Form::Narrow;
    }
    if narrow {
        // A value that small steps lead up to 2^62 would look interned.
        let fits = records.iter().all(|record| plain(*record));
        return if fits { Form::NarrowFar } else { Form::Wide };
    }
    let near = |record: &(i64, i64)| {
        plain(*record)
            && i32::try_from(record.0 - offset).is_ok()
            && i32::try_from(record.1 - value).is_ok()
    };
    if plain(records[0]) && records.iter().all(near) { Form::Medium } else { Form::Wide }
}

/// Reads the run at the start of `bytes`; gives it and what follows.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> (Run<'_>, &[u8]) {
    let (head, rest) = bytes.split_at(HEAD_BYTES);
    let key = u32_at(head, 0);
    let second = u32_at(head, 4);
    let length = second & ((1 << FORM_SHIFT) - 1);
    let form = match second >> FORM_SHIFT {
        0 => Form::Narrow,
        1 => Form::NarrowFar,
        2 => Form::Medium,
        _ => Form::Wide,
    };
    let others = length as usize - 1;
    let bytes = match form {
        Form::Narrow => 8 + 2 * others,
        Form::NarrowFar => 16 + 2 * others,
        Form::Medium => 16 + 8 * others,
        Form::Wide => 16 + 16 * others,
    };
    let (data, rest) = rest.split_at(bytes);
    (Run { key, form, length, data }, rest)
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("a run is written whole"))
}

#[inline]
fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(*bytes[at..].first_chunk().expect("a run is written whole"))
}

/// The records of a run, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Records<'a> {
    form: Form,
    left: u32,
    first: (i64, i64),
    now: (i64, i64),
    rest: &'a [u8],
}

impl<'a> Run<'a> {
    #[inline]
    pub(crate) fn first(&self) -> (i64, i64) {
        match self.form {
            Form::Narrow => (u32_at(self.data, 0).into(), u32_at(self.data, 4).into()),
            _ => (i64_at(self.data, 0), i64_at(self.data, 8)),
        }
    }

    #[inline]
    pub(crate) fn records(&self) -> Records<'a> {
        let first = self.first();
        let rest = &self.data[if self.form == Form::Narrow { 8 } else { 16 }..];
        Records { form: self.form, left: self.length, first, now: first, rest }
    }
}

impl Records<'_> {
    /// Goes on to the next record, which is not the first.
    #[inline]
    fn step(&mut self) {
        match self.form {
            Form::Narrow | Form::NarrowFar => {
                if let Some((&[offset, value], rest)) = self.rest.split_first_chunk() {
                    self.now.0 += i64::from(offset);
                    self.now.1 += i64::from(value as i8);
                    self.rest = rest;
                }
            }
            Form::Medium => {
                if let Some((bytes, rest)) = self.rest.split_first_chunk::<8>() {
                    self.now.0 = self.first.0 + i64::from(u32_at(bytes, 0) as i32);
                    self.now.1 = self.first.1 + i64::from(u32_at(bytes, 4) as i32);
                    self.rest = rest;
                }
            }
            Form::Wide => {
                if let Some((bytes, rest)) = self.rest.split_first_chunk::<16>() {
                    self.now = (i64_at(bytes, 0), i64_at(bytes, 8));
                    self.rest = rest;
                }
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = (i64, i64);

    #[inline]
    fn next(&mut self) -> Option<(i64, i64)> {
        self.left = self.left.checked_sub(1)?;
        let now = self.now;
        self.step();
        Some(now)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }

    /// What `for_each` and sums run on; the common forms have a loop of their own.
    #[inline]
    fn fold<B, F: FnMut(B, (i64, i64)) -> B>(mut self, init: B, mut f: F) -> B {
        if self.left == 0 {
            return init;
        }
        if !matches!(self.form, Form::Narrow | Form::NarrowFar) {
            let mut all = init;
            for record in &mut self {
                all = f(all, record);
            }
            return all;
        }
        let (mut offset, mut value) = self.now;
        let mut all = f(init, (offset, value));
        for step in self.rest.chunks_exact(2) {
            offset += i64::from(step[0]);
            value += i64::from(step[1] as i8);
            all = f(all, (offset, value));
        }
        all
    }
}

impl ExactSizeIterator for Records<'_> {}

/// Renames the keys of runs that begin at the given places.
pub(crate) fn rename_keys(bytes: &mut [u8], heads: &[usize], keys: &[u32]) {
    for &head in heads {
        let local = u32_at(bytes, head);
        bytes[head..head + 4].copy_from_slice(&keys[local as usize].to_le_bytes());
    }
}

/// Rewrites the values of whole-written runs that begin at the given places.
pub(crate) fn rename_values(bytes: &mut [u8], heads: &[usize], rename: impl Fn(i64) -> i64) {
    for &head in heads {
        let (run, _) = read(&bytes[head..]);
        if run.form != Form::Wide {
            continue;
        }
        let length = run.length as usize;
        for record in 0..length {
            let at = head + HEAD_BYTES + 16 * record + 8;
            let value = rename(i64_at(bytes, at));
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// An offset as others see it.
#[inline]
pub(crate) fn offset(offset: i64) -> Option<i64> {
    (offset != NO_OFFSET).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(records: &[(i64, i64)], form: Form, bytes: usize) {
        let mut out = vec![9];
        write(&mut out, 7, records);
        out.push(9);
        let (run, rest) = read(&out[1..]);
        assert_eq!((run.key, run.form, rest), (7, form, &[9][..]), "{records:?}");
        assert_eq!(run.records().collect::<Vec<_>>(), records);
        let mut folded = Vec::new();
        run.records().for_each(|record| folded.push(record));
        assert_eq!(folded, records);
        let mut skipped = run.records();
        skipped.next();
        assert_eq!(skipped.fold(0, |n, _| n + 1), records.len() - 1);
        assert_eq!(out.len() - 2, HEAD_BYTES + bytes, "{records:?}");
    }

    #[test]
    fn each_run_takes_the_smallest_form_that_holds_it() {
        check(&[(40, 1)], Form::Narrow, 8);
        check(&[(40, 1), (40, 128), (295, 1)], Form::Narrow, 12);
        check(&[(3_000_000_000, 1), (3_000_000_002, 4)], Form::Narrow, 10);
        check(&[(30_000_000_000, 1), (30_000_000_002, 4)], Form::NarrowFar, 18);
        check(&[(40, 1), (39, 2)], Form::Medium, 24);
        check(&[(40, 1), (296, 2)], Form::Medium, 24);
        check(&[(40, 1), (41, 1 << 40)], Form::Wide, 32);
        check(&[(NO_OFFSET, 1), (0, 1)], Form::Wide, 32);
        check(&[(-1, 1)], Form::Wide, 16);
        check(&[(1, 1 << 62)], Form::Wide, 16);
        check(&[(1, (1 << 62) - 1), (2, 1 << 62)], Form::Wide, 32);
        check(&[(i64::MAX, i64::MIN), (i64::MIN, i64::MAX)], Form::Wide, 32);
    }
}
