//! What is odd about a history, though it could be read.
//!
//! Nothing odd is passed over in silence: each kind is counted, with the place of its first case.
//! The list is bounded by the number of kinds.

/// A kind of oddity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Oddity {
    /// An event without an index; it gets its position among the events.
    MissingIndex,
    /// An event whose index is no greater than that of the event before it.
    IndexOutOfOrder,
    /// An event without a time; it gets 0.
    MissingTime,
    /// An event without a process; an invocation and the completion next to it get one to
    /// themselves, numbered downwards from -1.
    MissingProcess,
    /// An event without a function; it counts as `txn`.
    MissingFunction,
    /// A client's completion (`ok`, `fail` or `info`) that no invocation precedes.
    CompletionWithoutInvocation,
    /// A client's invocation that no completion follows; it counts as `info`.
    NeverCompleted,
    /// An invocation by a process that has one open; the earlier one counts as never completed.
    ProcessOverlaps,
    /// A key that is no integer.
    KeyNotInteger,
    /// A value that is no integer below 2^62.
    ValueNotInteger,
    /// A send or a polled record whose offset is null although it ran.
    OffsetMissing,
    /// A `send`, `poll` or `txn` whose value is not micro-operations; it has none.
    ValueUnreadable,
    /// A micro-operation of an unknown kind or shape; left out of its operation.
    MopUnknown,
    /// A tag in front of an event, a key, a value or a micro-operation; what it tags is taken.
    TagIgnored,
    /// A field with a value of the wrong kind (`:time "noon"`); taken as missing.
    FieldUnreadable,
    /// A field that stands twice in one event; the first counts.
    FieldRepeated,
    /// Something that is no event where an event should be; left out.
    NotAnEvent,
    /// The text ends inside its last event; that event is left out.
    CutOff,
}

impl Oddity {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 18] = [
        Self::MissingIndex,
        Self::IndexOutOfOrder,
        Self::MissingTime,
        Self::MissingProcess,
        Self::MissingFunction,
        Self::CompletionWithoutInvocation,
        Self::NeverCompleted,
        Self::ProcessOverlaps,
        Self::KeyNotInteger,
        Self::ValueNotInteger,
        Self::OffsetMissing,
        Self::ValueUnreadable,
        Self::MopUnknown,
        Self::TagIgnored,
        Self::FieldUnreadable,
        Self::FieldRepeated,
        Self::NotAnEvent,
        Self::CutOff,
    ];

    /// The name, for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MissingIndex => "missing-index",
            Self::IndexOutOfOrder => "index-out-of-order",
            Self::MissingTime => "missing-time",
            Self::MissingProcess => "missing-process",
            Self::MissingFunction => "missing-function",
            Self::CompletionWithoutInvocation => "completion-without-invocation",
            Self::NeverCompleted => "never-completed",
            Self::ProcessOverlaps => "process-overlaps",
            Self::KeyNotInteger => "key-not-integer",
            Self::ValueNotInteger => "value-not-integer",
            Self::OffsetMissing => "offset-missing",
            Self::ValueUnreadable => "value-unreadable",
            Self::MopUnknown => "mop-unknown",
            Self::TagIgnored => "tag-ignored",
            Self::FieldUnreadable => "field-unreadable",
            Self::FieldRepeated => "field-repeated",
            Self::NotAnEvent => "not-an-event",
            Self::CutOff => "cut-off",
        }
    }
}

/// One kind of oddity, as often as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// What was odd.
    pub oddity: Oddity,
    /// Where it was first seen: the byte of the (decompressed) text its event begins at.
    pub byte_offset: u64,
    /// How often it was seen.
    pub count: u64,
}

/// Everything odd about a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observations {
    /// Count and first place by kind.
    seen: [(u64, u64); Oddity::ALL.len()],
}

impl Observations {
    /// What was seen, in the order of [`Oddity::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = Observation> + '_ {
        Oddity::ALL.iter().map(|&oddity| self.of(oddity)).filter(|seen| seen.count > 0)
    }

    /// How often and where one kind was seen.
    #[must_use]
    pub fn of(&self, oddity: Oddity) -> Observation {
        let (count, byte_offset) = self.seen[oddity as usize];
        Observation { oddity, byte_offset, count }
    }

    /// Whether nothing was odd.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.iter().all(|(count, _)| *count == 0)
    }

    #[inline]
    pub(crate) fn add(&mut self, oddity: Oddity, byte_offset: u64) {
        let (count, first) = &mut self.seen[oddity as usize];
        *first = if *count == 0 { byte_offset } else { (*first).min(byte_offset) };
        *count += 1;
    }

    /// Takes over what another part of the text showed, which begins at `base`.
    pub(crate) fn absorb(&mut self, other: &Self, base: u64) {
        for (mine, theirs) in self.seen.iter_mut().zip(other.seen) {
            let (count, first) = theirs;
            if count > 0 {
                mine.1 = if mine.0 == 0 { base + first } else { mine.1.min(base + first) };
                mine.0 += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_oddity_stands_at_its_number() {
        for (number, oddity) in Oddity::ALL.iter().enumerate() {
            assert_eq!(*oddity as usize, number);
        }
    }
}
