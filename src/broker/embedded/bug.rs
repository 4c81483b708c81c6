//! The bugs that can be planted in the broker, one row each: what proves the judge.
//!
//! A broker without a bug takes no path of this table: [`Mischief::rolls`] answers no before it
//! draws, and the logs are told at their birth how they may lie ([`Lies`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use kafka_wire::batch::{BatchIter, Compression, Scratch};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

macro_rules! bugs {
    ($($variant:ident $name:literal
        does $does:literal
        provoked by $provoked:literal
        must [$($must:literal)*] may [$($may:literal)*])*) => {
        /// What the broker does wrong on request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $(
                #[doc = $does]
                $variant,
            )*
        }

        impl Bug {
            /// Every bug, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What the broker does wrong.
            #[must_use]
            pub fn does(self) -> &'static str {
                match self { $(Self::$variant => $does),* }
            }

            /// What brings it out: the broker itself where this is empty.
            #[must_use]
            pub fn provoked_by(self) -> &'static str {
                match self { $(Self::$variant => $provoked),* }
            }

            /// Anomalies of which at least one must be reported.
            #[must_use]
            pub fn must(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($must),*]),* }
            }

            /// Anomalies that may be reported besides.
            #[must_use]
            pub fn may_follow(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($may),*]),* }
            }
        }
    };
}

bugs! {
    LoseAckedWrite "lose-acked-write"
        does "acknowledges a batch, gives it offsets, and does not keep it"
        provoked by ""
        must ["lost-write" "unseen"] may ["torn-transaction" "poll-skip" "int-poll-skip"]
    LoseLastWrite "lose-last-write"
        does "never shows the last batch of a partition"
        provoked by ""
        must ["unseen"] may []
    DeliverAborted "deliver-aborted"
        does "leaves the aborted transactions out of read_committed answers"
        provoked by "intended aborts"
        must ["G1a"] may []
    DuplicateOnRetry "duplicate-on-retry"
        does "closes some connections between append and answer, and appends the retry again"
        provoked by ""
        must ["duplicate"] may ["duplicate-nonzero" "nonmonotonic-poll" "int-nonmonotonic-poll" "poll-skip" "int-poll-skip"]
    AcceptZombie "accept-zombie"
        does "appends what a fenced producer sends"
        provoked by "a transactional id used again while the old client still sends"
        must ["P3-zombie-accepted"]
        may ["G1a" "duplicate" "duplicate-nonzero" "L3-sequence-broken" "L4-epoch-decreases" "L5-transaction-unclosed" "unseen"]
    LateEndTxnDecidesNext "late-end-txn-decides-next"
        does "withholds some EndTxn and lets the copy decide the next transaction"
        provoked by ""
        must ["G1a" "lost-write"] may ["unseen" "torn-transaction" "precommitted-read" "poll-skip" "int-poll-skip"]
    OffsetZeroAck "offset-zero-ack"
        does "acknowledges some batches at offset 0"
        provoked by ""
        must ["inconsistent-offsets"]
        may ["duplicate" "duplicate-nonzero" "poll-skip" "int-poll-skip" "P1-ack-not-in-log"]
    TornCommit "torn-commit"
        does "commits a transaction in all its partitions but one"
        provoked by "transactions over two partitions"
        must ["lost-write"] may ["unseen" "torn-transaction" "poll-skip" "int-poll-skip"]
    ReorderInPartition "reorder-in-partition"
        does "puts a batch behind the one that was sent after it"
        provoked by "pipelined sends"
        must ["nonmonotonic-send" "int-nonmonotonic-send"]
        may ["nonmonotonic-poll" "int-nonmonotonic-poll"]
    LsoPastOpenTxn "lso-past-open-txn"
        does "lets the last stable offset run past open transactions"
        provoked by "aborts, slow commits"
        must ["G1a"] may ["G1c" "G1c-realtime" "G1c-process" "precommitted-read" "poll-skip" "int-poll-skip"]
    ChangeRecord "change-record"
        does "gives another value when a record is read again"
        provoked by ""
        must ["inconsistent-offsets"]
        may ["phantom-read" "lost-write" "torn-transaction" "unseen" "poll-skip" "int-poll-skip"]
    RewindGroup "rewind-group"
        does "tells a group an older offset than it committed"
        provoked by "groups"
        must ["nonmonotonic-poll"] may ["int-nonmonotonic-poll" "G3-offset-lost" "P8-offsets-not-atomic" "G4-not-exactly-once"]
    SkipOnFetch "skip-on-fetch"
        does "leaves a batch out of the middle of an answer"
        provoked by ""
        must ["poll-skip" "int-poll-skip" "lost-write"] may ["unseen"]
    AckBeforeAppend "ack-before-append"
        does "acknowledges what it keeps only a little later, and forgets it when it is killed"
        provoked by "a restart"
        must ["lost-write" "unseen"] may ["torn-transaction" "poll-skip" "int-poll-skip"]
}

impl Bug {
    /// The bug of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

/// How a log with a bug deceives its readers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lies {
    /// The high watermark stays before the last batch of data.
    pub(super) hide_last: bool,
    /// The last stable offset is the high watermark.
    pub(super) no_stable: bool,
    /// The high watermark stays before what is not kept yet.
    pub(super) keeps_late: bool,
}

/// The dice of a broker with a bug, and what it remembers to do wrong.
#[derive(Debug)]
pub(super) struct Mischief {
    bug: Option<Bug>,
    dice: ChaCha8Rng,
    /// EndTxn withheld: by transactional id, producer epoch and whether it was a commit.
    pub(super) withheld: BTreeMap<String, (i16, bool)>,
    /// Batches whose retry is appended again: producer id, epoch, base sequence.
    pub(super) to_repeat: BTreeSet<(i64, i16, i32)>,
}

impl Mischief {
    pub(super) fn new(bug: Option<Bug>, dice: ChaCha8Rng) -> Self {
        Self { bug, dice, withheld: BTreeMap::new(), to_repeat: BTreeSet::new() }
    }

    /// Whether that bug is planted.
    pub(super) fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether that bug is planted and bites now: once in so many times.
    pub(super) fn rolls(&mut self, bug: Bug, one_in: u32) -> bool {
        self.is(bug) && self.dice.random_ratio(1, one_in)
    }

    pub(super) fn lies(&self) -> Lies {
        Lies {
            hide_last: self.is(Bug::LoseLastWrite),
            no_stable: self.is(Bug::LsoPastOpenTxn),
            keeps_late: self.is(Bug::AckBeforeAppend),
        }
    }
}

/// The same batch with another value in its first record, sealed anew. Only for batches that are
/// whole and not compressed; others stay.
pub(super) fn with_other_value(batch: &Bytes) -> Bytes {
    let whole = BatchIter::new(batch).next().and_then(Result::ok);
    let Some(found) = whole.filter(|found| found.header.compression() == Compression::None) else {
        return batch.clone();
    };
    let mut scratch = Scratch::new();
    let place = found.records(&mut scratch).next().and_then(|record| {
        let value = record.value.filter(|value| value.len() >= 8)?;
        let record_bytes =
            batch.get(record.byte_offset..record.byte_offset + record.byte_length)?;
        let within = record_bytes.windows(value.len()).rposition(|window| window == value)?;
        Some(record.byte_offset + within)
    });
    let Some(place) = place else { return batch.clone() };
    let mut changed = BytesMut::from(&batch[..]);
    // Far from any value that was sent: a big-endian number grows by a large power of two.
    changed[place + 2] ^= 1;
    kafka_wire::batch::reseal(&mut changed);
    changed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own_and_something_to_be_found_by() {
        let names: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        for bug in Bug::ALL {
            assert_eq!(Bug::from_name(bug.name()), Some(*bug));
            assert!(!bug.must().is_empty(), "{}", bug.name());
        }
    }
}
