//! Rows and micro-operations, packed.
//!
//! What fits is packed; what does not (a value beyond 32 bits, an operation of more than four
//! seconds) stands whole in a side table, so that nothing is out of range.

use crate::history::event::EventType;

/// Stands for an absent offset.
pub(crate) const NO_OFFSET: i64 = i64::MIN;
/// Stands for an absent index.
pub(crate) const NO_INDEX: u64 = u64::MAX;

const KIND_SHIFT: u32 = 60;
const REST_MASK: u64 = (1 << KIND_SHIFT) - 1;

/// What a packed micro-operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MopKind {
    /// A send that was acknowledged with an offset.
    Acked,
    /// A send that ran, its offset unknown.
    Ran,
    /// A send that did not run.
    Bare,
    /// A send whose value or offset does not fit: in the side table.
    Wide,
    /// A poll that came back; `key` counts its runs.
    Polled,
    /// A poll that did not run.
    Poll,
    /// An append.
    Append,
    /// An append whose value does not fit: in the side table.
    AppendWide,
    /// A read that came back; `value` counts what it read.
    Read,
    /// A read that did not.
    ReadUnknown,
}

const KINDS: [MopKind; 10] = [
    MopKind::Acked,
    MopKind::Ran,
    MopKind::Bare,
    MopKind::Wide,
    MopKind::Polled,
    MopKind::Poll,
    MopKind::Append,
    MopKind::AppendWide,
    MopKind::Read,
    MopKind::ReadUnknown,
];

/// One micro-operation in 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MopCell {
    pub(crate) key: u32,
    pub(crate) value: u32,
    /// The kind in the upper four bits; an offset or a place in an arena below.
    rest: u64,
}

impl MopCell {
    #[inline]
    pub(crate) fn new(kind: MopKind, key: u32, value: u32, rest: u64) -> Self {
        assert!(rest <= REST_MASK, "an arena has fewer than 2^60 bytes");
        Self { key, value, rest: (kind as u64) << KIND_SHIFT | rest }
    }

    /// A send in place, if it fits there.
    #[inline]
    pub(crate) fn send(key: u32, value: i64, offset: i64, ran: bool) -> Option<Self> {
        let value = u32::try_from(value).ok()?;
        let kind = match (offset, ran) {
            (NO_OFFSET, true) => MopKind::Ran,
            (NO_OFFSET, false) => MopKind::Bare,
            _ => MopKind::Acked,
        };
        let rest = if offset == NO_OFFSET { 0 } else { u64::try_from(offset).ok()? };
        (rest <= REST_MASK).then(|| Self::new(kind, key, value, rest))
    }

    #[inline]
    pub(crate) fn kind(self) -> MopKind {
        KINDS[(self.rest >> KIND_SHIFT) as usize]
    }

    #[inline]
    pub(crate) fn rest(self) -> u64 {
        self.rest & REST_MASK
    }

    /// The same micro-operation in arenas that begin elsewhere, its key named otherwise.
    #[inline]
    pub(crate) fn moved(mut self, keys: &[u32], bases: Bases) -> Self {
        let base = match self.kind() {
            MopKind::Polled => bases.polled,
            MopKind::Wide | MopKind::AppendWide => bases.wide,
            MopKind::Read => bases.lists,
            _ => 0,
        };
        if !matches!(self.kind(), MopKind::Polled | MopKind::Poll) {
            self.key = keys[self.key as usize];
        }
        self.rest += base;
        self
    }
}

/// Where a chunk's arenas come to stand in the history's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bases {
    pub(crate) polled: u64,
    pub(crate) wide: u64,
    pub(crate) lists: u64,
}

/// What the side table holds of one operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Detail {
    pub(crate) invoke_index: u64,
    pub(crate) invoke_ns: u64,
    pub(crate) bound: (u64, u32),
    pub(crate) extras: (u64, u32),
    pub(crate) error: Option<u32>,
    pub(crate) function: u32,
}

/// One operation in 40 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The completion's index, or the invocation's where there is no completion.
    pub(crate) index: u64,
    pub(crate) complete_ns: u64,
    /// How far the invocation's index lies before the completion's.
    pub(crate) back: u32,
    pub(crate) took_ns: u32,
    pub(crate) process: u32,
    /// 1 + place in the side table, or 0.
    pub(crate) detail: u32,
    mops_low: u32,
    pub(crate) function: u16,
    mops_high: u8,
    /// The type in two bits, then flags.
    bits: u8,
}

impl Row {
    /// The invocation is in the side table.
    pub(crate) const WIDE: u8 = 4;
    pub(crate) const INVOKED: u8 = 8;
    pub(crate) const COMPLETED: u8 = 16;
    pub(crate) const ENDS_PROCESS: u8 = 32;
    pub(crate) const IS_CLIENT: u8 = 64;

    pub(crate) fn new(kind: EventType, flags: u8, mops: u64) -> Self {
        let mops_high = u8::try_from(mops >> 32).expect("fewer than 2^40 micro-operations");
        Self {
            index: 0,
            complete_ns: 0,
            back: 0,
            took_ns: 0,
            process: 0,
            detail: 0,
            mops_low: mops as u32,
            function: 0,
            mops_high,
            bits: kind as u8 | flags,
        }
    }

    #[inline]
    pub(crate) fn mops(&self) -> usize {
        (u64::from(self.mops_high) << 32 | u64::from(self.mops_low)) as usize
    }

    #[inline]
    pub(crate) fn kind(&self) -> EventType {
        match self.bits & 3 {
            0 => EventType::Invoke,
            1 => EventType::Ok,
            2 => EventType::Fail,
            _ => EventType::Info,
        }
    }

    #[inline]
    pub(crate) fn is(&self, flag: u8) -> bool {
        self.bits & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_40_bytes_and_a_micro_operation_16() {
        assert_eq!((size_of::<Row>(), size_of::<MopCell>()), (40, 16));
    }

    #[test]
    fn packed_sends_give_back_what_they_were_made_of() {
        let cell = MopCell::send(3, u32::MAX.into(), (1 << 60) - 1, true).unwrap();
        assert_eq!((cell.kind(), cell.key, cell.value), (MopKind::Acked, 3, u32::MAX));
        assert_eq!(cell.rest(), (1 << 60) - 1);
        assert_eq!(MopCell::send(3, 1, NO_OFFSET, true).unwrap().kind(), MopKind::Ran);
        assert_eq!(MopCell::send(3, 1, NO_OFFSET, false).unwrap().kind(), MopKind::Bare);
        for (value, offset) in [(-1, 0), (1 << 32, 0), (0, -1), (0, 1 << 60)] {
            assert_eq!(MopCell::send(3, value, offset, true), None, "{value} {offset}");
        }
    }
}
