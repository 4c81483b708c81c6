//! The bugs that can be planted in the broker, one row each: what proves the judge.
//!
//! A broker without a bug takes no path of this table: [`Mischief::rolls`] answers no before it
//! draws, and the logs are told at their birth how they may lie ([`Lies`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use kafka_wire::batch::{BatchHeader, BatchIter, Compression, Scratch};
use kafka_wire::ids::{ProducerEpoch, ProducerId, Sequence};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

macro_rules! bugs {
    ($($variant:ident $name:literal
        does $does:literal
        provoked by $provoked:literal
        must [$($must:literal)*] $(and [$($also:literal)*])? may [$($may:literal)*])*) => {
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

            /// Anomalies that must be reported besides, every one.
            #[must_use]
            pub fn also(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($($also),*)?]),* }
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
        must ["lost-write" "unseen"] and ["P1-ack-not-in-log"]
        may ["torn-transaction" "poll-skip" "int-poll-skip" "L7-aborted-data-exposed"
             "L9-record-changed"]
    LoseLastWrite "lose-last-write"
        does "never shows the last batch of a partition"
        provoked by ""
        must ["unseen"] may ["P1-ack-not-in-log"]
    DeliverAborted "deliver-aborted"
        does "leaves the aborted transactions out of read_committed answers"
        provoked by "intended aborts"
        must ["G1a"] and ["L7-aborted-data-exposed"] may []
    DuplicateOnRetry "duplicate-on-retry"
        does "closes some connections between append and answer, and appends the retry again"
        provoked by ""
        must ["duplicate"] and ["P2-duplicate-appended"]
        may ["duplicate-nonzero" "nonmonotonic-poll" "int-nonmonotonic-poll" "poll-skip"
             "int-poll-skip" "L3-sequence-broken" "P1-ack-not-in-log"]
    AcceptZombie "accept-zombie"
        does "appends what a fenced producer sends"
        provoked by "a transactional id used again while the old client still sends"
        must ["P3-zombie-accepted"]
        may ["G1a" "duplicate" "duplicate-nonzero" "L3-sequence-broken" "L4-epoch-decreases"
             "L5-transaction-unclosed" "unseen"]
    LateEndTxnDecidesNext "late-end-txn-decides-next"
        does "withholds some EndTxn and lets the copy decide the next transaction"
        provoked by ""
        must ["G1a" "lost-write"] and ["P6-marker-decides-other"]
        may ["unseen" "torn-transaction" "precommitted-read" "poll-skip" "int-poll-skip"
             "P5-outcome-not-honoured" "L5-transaction-unclosed" "L6-stable-offset-wrong"
             "L7-aborted-data-exposed" "P8-offsets-not-atomic"]
    OffsetZeroAck "offset-zero-ack"
        does "acknowledges some batches at offset 0"
        provoked by ""
        must ["inconsistent-offsets"] and ["P1-ack-not-in-log"]
        may ["duplicate" "duplicate-nonzero" "poll-skip" "int-poll-skip" "P1-ack-not-in-log"]
    TornCommit "torn-commit"
        does "commits a transaction in all its partitions but one"
        provoked by "transactions over two partitions"
        must ["torn-transaction" "lost-write"] and ["P5-outcome-not-honoured"]
        may ["unseen" "torn-transaction" "poll-skip" "int-poll-skip"]
    ReorderInPartition "reorder-in-partition"
        does "puts a batch behind the one that was sent after it"
        provoked by "pipelined sends"
        must ["nonmonotonic-send" "int-nonmonotonic-send"]
        may ["nonmonotonic-poll" "int-nonmonotonic-poll" "L3-sequence-broken" "P1-ack-not-in-log"]
    LsoPastOpenTxn "lso-past-open-txn"
        does "lets the last stable offset run past open transactions"
        provoked by "aborts, slow commits"
        must ["G1a"]
        may ["G1c" "G1c-realtime" "G1c-process" "precommitted-read" "poll-skip" "int-poll-skip"
             "L6-stable-offset-wrong" "L7-aborted-data-exposed"]
    ChangeRecord "change-record"
        does "gives another value when a record is read again"
        provoked by ""
        must ["inconsistent-offsets"] and ["L9-record-changed"]
        may ["phantom-read" "lost-write" "torn-transaction" "unseen" "poll-skip" "int-poll-skip"
             "P1-ack-not-in-log"]
    RewindGroup "rewind-group"
        does "tells a group the offset before the one that it committed last"
        provoked by "groups that commit after each poll"
        must ["nonmonotonic-poll"] and ["G3-offset-lost" "consumer-offset-regression"]
        may ["int-nonmonotonic-poll"]
    SkipOnFetch "skip-on-fetch"
        does "leaves a batch out of the middle of an answer"
        provoked by ""
        must ["poll-skip" "int-poll-skip" "lost-write"] and ["L9-record-changed"]
        may ["unseen" "torn-transaction" "P1-ack-not-in-log" "L7-aborted-data-exposed"
             "L5-transaction-unclosed"]
    StepBackOnFetch "step-back-on-fetch"
        does "answers some requests of a fetch session from before the offset that they ask for"
        provoked by ""
        must ["nonmonotonic-poll"] may []
    AckBeforeAppend "ack-before-append"
        does "acknowledges what it keeps only a little later, and forgets it when it is killed"
        provoked by "a restart"
        must ["lost-write" "unseen"] and ["P1-ack-not-in-log"]
        may ["torn-transaction" "poll-skip" "int-poll-skip" "L5-transaction-unclosed"
             "L7-aborted-data-exposed" "L3-sequence-broken" "L9-record-changed"]
    InventRecord "invent-record"
        does "appends records that nobody sent"
        provoked by ""
        must ["phantom-read"] may []
    AppendRefused "append-refused"
        does "tells a fenced producer that it is, and appends its batch all the same"
        provoked by "a transactional id used again while the old client still sends"
        must ["zombie-write"]
        may ["G1a" "L3-sequence-broken" "L4-epoch-decreases" "L5-transaction-unclosed"
             "L7-aborted-data-exposed" "unseen" "L6-stable-offset-wrong"]
    HangTransaction "hang-transaction"
        does "forgets some transactions: neither EndTxn nor their timeout ends them"
        provoked by ""
        must ["hanging-transaction"] may ["unseen" "P7-timeout-not-enforced"]
    OverlapOffsets "overlap-offsets"
        does "gives some batches the last offset of the batch before them"
        provoked by ""
        must ["L1-offsets-overlap"]
        may ["P1-ack-not-in-log" "L9-record-changed" "inconsistent-offsets" "lost-write"
             "torn-transaction" "unseen" "duplicate" "poll-skip" "int-poll-skip"
             "nonmonotonic-poll" "int-nonmonotonic-poll" "G1a" "precommitted-read"
             "L3-sequence-broken" "L7-aborted-data-exposed"
             "L5-transaction-unclosed"]
    CorruptBatch "corrupt-batch"
        does "answers some batches with a checksum that does not fit"
        provoked by ""
        must ["L2-batch-corrupt"] may []
    RenumberSequence "renumber-sequence"
        does "writes some batches down with another sequence than they were sent with"
        provoked by ""
        must ["L3-sequence-broken"] may ["P1-ack-not-in-log"]
    WriteOldEpoch "write-old-epoch"
        does "writes some batches down with the producer epoch before theirs"
        provoked by ""
        must ["L4-epoch-decreases"]
        may ["L3-sequence-broken" "L5-transaction-unclosed" "P1-ack-not-in-log"]
    LoseMarker "lose-commit-marker"
        does "commits some transactions without writing their marker to the log"
        provoked by ""
        must ["L5-transaction-unclosed"] may []
    WatermarkGoesBack "watermark-goes-back"
        does "answers a high watermark below one it has answered before"
        provoked by ""
        must ["L6-stable-offset-wrong"] may []
    LeaderEpochGoesBack "leader-epoch-goes-back"
        does "writes some batches down under a leader epoch that comes later"
        provoked by ""
        must ["L8-leader-epoch-decreases"] may []
    ReuseProducerId "reuse-producer-id"
        does "gives some producers the producer id and epoch of another"
        provoked by ""
        must ["P4-producer-id-reused"] may ["P1-ack-not-in-log" "P3-zombie-accepted"]
    DropTxnOffsets "drop-transaction-offsets"
        does "commits some transactions without their consumer offsets"
        provoked by "groups"
        must ["P8-offsets-not-atomic"]
        may ["consumer-offset-regression" "G3-offset-lost" "G4-not-exactly-once"]
    SharePartition "share-partition"
        does "tells two members of a group the assignment of one"
        provoked by "groups"
        must ["G1-partition-shared"] may ["G4-not-exactly-once"]
    AcceptStaleCommit "accept-stale-commit"
        does "takes offsets from members that a rebalance has left behind"
        provoked by "groups, and rebalances that wait for nobody"
        must ["G2-stale-commit-accepted"] may ["G3-offset-lost" "P8-offsets-not-atomic"]
    AnswerTwice "answer-twice"
        does "sends some responses twice"
        provoked by ""
        must ["W1-response-unpaired"] may []
    StrayBytes "stray-bytes"
        does "leaves bytes behind the last field of some responses"
        provoked by ""
        must ["W2-body-malformed"] may []
    InventError "invent-error"
        does "answers some Produce with an error code that does not exist"
        provoked by ""
        must ["W3-error-unknown"] may []
    RefuseAnnounced "refuse-announced"
        does "announces a version of Fetch and refuses it now and then"
        provoked by ""
        must ["W4-version-unserved"] may []
}

/// What a run must do for a bug to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Provocation {
    /// Consumers join groups.
    pub subscribes: bool,
    /// Nothing is a transaction.
    pub without_txn: bool,
    /// Crashed processes come back as zombies.
    pub zombies: bool,
    /// The nodes are killed and started again half-way.
    pub restart: bool,
    /// Seconds for the final polls, where they could not end of themselves.
    pub final_time_limit_s: Option<u32>,
}

impl Bug {
    /// What a run must do for it to show.
    #[must_use]
    pub fn provocation(self) -> Provocation {
        let none = Provocation::default();
        match self {
            Self::RewindGroup => Provocation { subscribes: true, without_txn: true, ..none },
            Self::DropTxnOffsets | Self::SharePartition | Self::AcceptStaleCommit => {
                Provocation { subscribes: true, ..none }
            }
            Self::AcceptZombie | Self::AppendRefused => Provocation { zombies: true, ..none },
            Self::AckBeforeAppend => Provocation { restart: true, ..none },
            // Nothing behind a transaction that hangs is ever read.
            Self::HangTransaction => Provocation { final_time_limit_s: Some(5), ..none },
            _ => none,
        }
    }

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
    /// Producer ids and epochs that were given out.
    pub(super) given: Vec<(i64, i16)>,
}

impl Mischief {
    pub(super) fn new(bug: Option<Bug>, dice: ChaCha8Rng) -> Self {
        Self { bug, dice, withheld: BTreeMap::new(), to_repeat: BTreeSet::new(), given: Vec::new() }
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

/// A batch as a broker with a bug writes it down: with another header, sealed anew.
pub(super) fn rewrite(batch: &mut BytesMut, change: impl FnOnce(&mut BatchHeader)) {
    let Some(mut header) = BatchIter::new(batch).next().and_then(Result::ok).map(|b| b.header)
    else {
        return;
    };
    change(&mut header);
    kafka_wire::batch::rewrite_header(batch, &header);
    kafka_wire::batch::reseal(batch);
}

/// A batch of one record like this one, whose value nobody sent and no producer stands behind.
pub(super) fn invented(batch: &Bytes) -> Option<BytesMut> {
    let changed = with_other_value(batch);
    let mut invented = BytesMut::from(&changed[..]);
    rewrite(&mut invented, |header| {
        header.attributes = header.attributes.with_transactional(false);
        header.producer_id = ProducerId(-1);
        header.producer_epoch = ProducerEpoch(-1);
        header.base_sequence = Sequence(-1);
    });
    (changed != *batch).then_some(invented)
}

/// The same batch with a checksum that does not fit.
pub(super) fn with_wrong_checksum(batch: &Bytes) -> Bytes {
    const CHECKSUM_AT: usize = 17;
    let mut changed = BytesMut::from(&batch[..]);
    if let Some(byte) = changed.get_mut(CHECKSUM_AT) {
        *byte ^= 0x55;
    }
    changed.freeze()
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
