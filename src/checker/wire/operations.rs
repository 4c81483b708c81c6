//! What logs and exchanges prove of operations, by the names that histories use: `duplicate`,
//! `duplicate-nonzero`, `G1a`, `precommitted-read`, `lost-write`, `torn-transaction`,
//! `zombie-write` and `hanging-transaction`.
//!
//! An operation history of strangers says little: others may have written, consumers may begin
//! anywhere, and what was not captured was not seen. The logs do not depend on that. So where all
//! that is known is a capture, each of these names rests on a stretch of a log that was read.
//!
//! * `duplicate`: one batch of an idempotent producer at two offsets: the same producer id, epoch,
//!   sequence and records. Equal records alone are none. It stands in the log twice, or stands at
//!   another offset than the one it was acknowledged with, and not there.
//! * `G1a`: a consumer of committed records was handed those of a transaction whose marker aborts
//!   it, of one that EndTxn said is aborted, or of a fenced producer and of no transaction that
//!   anybody ended. What its aborted list names it was not handed.
//! * `precommitted-read`: handed so before the EndTxn that commits them was sent.
//! * `lost-write`: acknowledged with acks=all, and not in the stretch that was read around its
//!   offset, nor anywhere else; or acknowledged as committed and aborted by its marker, or hidden by
//!   the aborted list of every answer.
//! * `torn-transaction`: acknowledged as committed; in one partition so, in another lost.
//! * `zombie-write`: refused because its producer was fenced, in the log all the same, and behind
//!   what was written after the fence, or closed by no marker of its own.
//! * `hanging-transaction`: `P7`, with acknowledged records behind it.
//!
//! Needs to have seen: what `acks`, `walk` and `outcome` need.
//!
//! Not checked: records without a producer id, of which two may be equal (`duplicate`); keyed
//! records (`lost-write`), which compaction takes; what begins below the start of the log.

use std::collections::BTreeSet;

use kafka_wire::ErrorCode;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::json;

use super::fencing::Fencing;
use super::log::{Ack, Batch, Body, Kind, Log};
use super::mark::Mark;
use super::outcome::producer_fields;
use super::stage::Stage;
use super::transactions::{End, Transactions};
use super::walk::Fate;
use super::{reads, zombies};
use crate::history::facts::topics::{Cluster, LogId};

/// Transactions of which parts are remembered.
const TRANSACTIONS_MAX: usize = 200_000;
/// Sequences repeat after so many records.
const SEQUENCES: i64 = 1 << 31;

macro_rules! named {
    ($($id:ident $name:literal)*) => {
        /// A name of operation histories.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub(super) enum Named {
            $($id,)*
        }

        impl Named {
            pub(super) const ALL: [Self; [$($name),*].len()] = [$(Self::$id),*];

            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$id => $name,)*
                }
            }
        }
    };
}

named! {
    Duplicate "duplicate"
    DuplicateNonzero "duplicate-nonzero"
    AbortedRead "G1a"
    PrecommittedRead "precommitted-read"
    LostWrite "lost-write"
    TornTransaction "torn-transaction"
    ZombieWrite "zombie-write"
    HangingTransaction "hanging-transaction"
}

/// Whether an answer to Produce says that its producer was fenced.
pub(super) fn is_fenced(error: i16) -> bool {
    matches!(ErrorCode(error), ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED)
}

/// A transaction: its producer, and when the EndTxn that decides it was sent.
pub(super) type TransactionId = (Cluster, i64, i16, u64);

/// A part of a transaction: where it stands, and the exchanges that show what became of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) log: LogId,
    pub(super) offset: i64,
    pub(super) marks: [Mark; 2],
}

/// The parts of transactions that were acknowledged as committed.
#[derive(Debug, Default)]
pub(super) struct Parts {
    there: FxHashMap<TransactionId, Part>,
    missing: Vec<(TransactionId, Part)>,
}

impl Parts {
    pub(super) fn id(
        (cluster, producer_id): (Cluster, i64),
        epoch: i16,
        end: &End,
    ) -> TransactionId {
        (cluster, producer_id, epoch, end.mark.request().time_ns)
    }

    fn committed(&mut self, id: TransactionId, part: Part) {
        if self.there.len() < TRANSACTIONS_MAX {
            self.there.entry(id).or_insert(part);
        }
    }

    pub(super) fn lost(&mut self, id: TransactionId, part: Part) {
        if self.missing.len() < TRANSACTIONS_MAX {
            self.missing.push((id, part));
        }
    }

    /// An acknowledged batch of a transaction is not in its log.
    pub(super) fn absent(
        &mut self,
        (log, cluster): (LogId, Cluster),
        ack: &Ack,
        seen: Mark,
        transactions: &Transactions,
    ) {
        let Body { kind, producer_id, producer_epoch, .. } = ack.body;
        let of = (cluster, producer_id);
        if kind != Kind::Transactional {
            return;
        }
        if let Some((end, _)) = transactions.end_of(of, producer_epoch, &ack.mark) {
            let part = Part { log, offset: ack.base, marks: [ack.mark, seen] };
            self.lost(Self::id(of, producer_epoch, end), part);
        }
    }

    /// Holds the parts of each transaction against each other.
    pub(super) fn finish(self, stage: &mut Stage) {
        let torn: BTreeSet<TransactionId> = self.missing.iter().map(|(id, _)| *id).collect();
        let whole = self.there.len() - torn.iter().filter(|id| self.there.contains_key(id)).count();
        (0..whole).for_each(|_| stage.ledger.operation_held(Named::TornTransaction));
        let mut told = FxHashSet::default();
        for (id, missing) in &self.missing {
            let Some(there) = self.there.get(id) else {
                stage.ledger.operation_unknown(Named::TornTransaction);
                continue;
            };
            if !told.insert(*id) {
                continue;
            }
            let (_, producer_id, epoch, _) = *id;
            let explanation = format!(
                "EndTxn answered that a transaction of producer {producer_id} epoch {epoch} is \
                 committed. Its batch at offset {} of {} is; the one acknowledged at offset {} of \
                 {} is not there for consumers of committed records, though the log was read past \
                 it.",
                there.offset,
                stage.words(there.log),
                missing.offset,
                stage.words(missing.log),
            );
            let mut fields = stage.place(missing.log, missing.offset);
            fields.extend([("producer_id", json!(producer_id)), ("producer_epoch", json!(epoch))]);
            let marks = [missing.marks, there.marks].concat();
            stage.ledger.operation(Named::TornTransaction, fields, &marks, explanation);
        }
    }
}

/// Judges a log of which it is known what became of its transactional batches.
pub(super) fn judge(
    stage: &mut Stage,
    (id, cluster): (LogId, Cluster),
    fates: &[Fate],
    (transactions, fencing): (&Transactions, &Fencing),
    parts: &mut Parts,
) {
    duplicates(stage, id);
    for fate in fates {
        let log = stage.logs.of(id);
        let (batch, marker) = (log.batches[fate.batch], log.batches[fate.marker]);
        let ack = stage.certain_ack(id, &batch);
        let of = (cluster, batch.body.producer_id);
        let epoch = batch.body.producer_epoch;
        let asked = ack
            .and_then(|ack| transactions.asked_of(of, epoch, &ack.mark).map(|(end, _)| (ack, end)));
        reads::aborted(stage, id, (&batch, &marker), asked.map(|(_, end)| end));
        let is_committed = |(_, end): &(_, &End)| end.committed && end.error == Some(0);
        let Some((ack, end)) = asked.filter(is_committed) else { continue };
        if transactions.is_by_administrator(of, (&batch.body, &marker.body), end) {
            stage.ledger.operation_unknown(Named::LostWrite);
            continue;
        }
        let (transaction, offset) = (Parts::id(of, epoch, end), batch.base);
        if marker.body.kind == Kind::Commit {
            reads::precommitted(stage, id, &batch, (&ack, end));
            if reads::hidden(stage, id, &batch).is_some() {
                // It is lost as what has no marker is.
                continue;
            }
            let part = Part { log: id, offset, marks: [ack.mark, marker.mark] };
            parts.committed(transaction, part);
            stage.ledger.operation_held(Named::LostWrite);
        } else {
            parts.lost(transaction, Part { log: id, offset, marks: [end.mark, marker.mark] });
            reads::lost_to_marker(stage, id, (&batch, &marker), (&ack, end));
        }
    }
    reads::lost_to_lists(stage, (id, cluster), fates, transactions, parts);
    zombies::judge(stage, (id, cluster), fates, (transactions, fencing));
}

pub(super) fn batch_fields(
    stage: &Stage,
    id: LogId,
    batch: &Batch,
) -> Vec<(&'static str, serde_json::Value)> {
    let mut fields = producer_fields(stage, id, batch);
    fields.push(("base_sequence", json!(batch.body.sequence)));
    fields
}

/// One batch in two places of a log.
fn duplicates(stage: &mut Stage, id: LogId) {
    let log = stage.logs.of(id);
    let mut places: Vec<(Body, usize)> = Vec::new();
    let mut anonymous = 0u64;
    for (at, batch) in log.batches.iter().enumerate() {
        match batch.body.kind.is_data() {
            true if batch.body.producer_id >= 0 && batch.body.sequence >= 0 => {
                places.push((batch.body, at));
            }
            true => anonymous += 1,
            false => {}
        }
    }
    places.sort_unstable_by_key(|(body, at)| (body.identity(), *at));
    let same = |pair: &[(Body, usize)]| {
        let [(one, first), (other, second)] = pair else { return None };
        let (first, second) = (log.batches[*first], log.batches[*second]);
        (one.is_same(other) && is_one_write(log, &first, &second)).then_some((first, second))
    };
    let twice: Vec<(Batch, Batch)> = places.windows(2).filter_map(same).collect();
    let single = places.len() - twice.len();
    (0..single).for_each(|_| stage.ledger.operation_held(Named::Duplicate));
    (0..anonymous).for_each(|_| stage.ledger.operation_unknown(Named::Duplicate));
    let certain = stage.topics.is_certain_by_name(id);
    for (first, second) in twice {
        if !certain && (first.by_name || second.by_name) {
            stage.ledger.operation_unknown(Named::Duplicate);
            continue;
        }
        let Body { producer_id, producer_epoch, sequence, count, .. } = first.body;
        let explanation = format!(
            "The {count} records that producer {producer_id} epoch {producer_epoch} sent with \
             sequence {sequence} stand at offset {} of {} and again at offset {}. Whoever reads \
             the log is given them twice.",
            first.base,
            stage.words(id),
            second.base,
        );
        let mut fields = batch_fields(stage, id, &first);
        fields.push(("offsets", json!([first.base, second.base])));
        let marks = [first.mark, second.mark];
        twofold(stage, [first.base, second.base], fields, &marks, explanation);
    }
}

/// One batch at two offsets. An acknowledgement with a bogus offset 0 cannot explain two others.
fn twofold(
    stage: &mut Stage,
    offsets: [i64; 2],
    fields: Vec<(&'static str, serde_json::Value)>,
    marks: &[Mark],
    explanation: String,
) {
    if !offsets.contains(&0) {
        let (fields, explanation) = (fields.clone(), explanation.clone());
        stage.ledger.operation(Named::DuplicateNonzero, fields, marks, explanation);
    }
    stage.ledger.operation(Named::Duplicate, fields, marks, explanation);
}

/// An acknowledged batch stands elsewhere, and not at its offset.
pub(super) fn misplaced(stage: &mut Stage, id: LogId, ack: &Ack, place: &Batch) {
    let certain = stage.topics.is_certain_by_name(id);
    let log = stage.logs.of(id);
    let is_one_write = ack.body.producer_id >= 0
        && ack.body.sequence >= 0
        && ack.base.min(place.base) >= log.log_start
        && ack.base.abs_diff(place.base) < SEQUENCES.unsigned_abs()
        && (certain || !ack.by_name && !place.by_name);
    if !is_one_write {
        return stage.ledger.operation_unknown(Named::Duplicate);
    }
    let Body { producer_id, producer_epoch, sequence, count, .. } = ack.body;
    let explanation = format!(
        "The {count} records that producer {producer_id} epoch {producer_epoch} sent with \
         sequence {sequence} were acknowledged at offset {} of {}, where they are not, and were \
         read at offset {}: one write has two places.",
        ack.base,
        stage.words(id),
        place.base,
    );
    let mut fields = batch_fields(stage, id, place);
    fields.push(("offsets", json!([ack.base, place.base])));
    let marks = [ack.mark, place.mark];
    twofold(stage, [ack.base, place.base], fields, &marks, explanation);
}

/// Whether two equal batches come from one write. A producer that was forgotten with the records
/// it had written may count from 0 again (before KIP-360), and sequences wrap; the moment a batch
/// was made at is then another.
fn is_one_write(log: &Log, first: &Batch, second: &Batch) -> bool {
    let distance = second.base.saturating_sub(first.base);
    first.base >= log.log_start && distance < SEQUENCES && first.timestamp_ms == second.timestamp_ms
}

/// An acknowledged batch is neither at its offset nor anywhere else in what was read.
pub(super) fn lost(stage: &mut Stage, id: LogId, ack: &Ack, seen: Mark, why: &str) {
    let Body { producer_id, producer_epoch, count, sequence, .. } = ack.body;
    let explanation = format!(
        "{count} records (producer {producer_id} epoch {producer_epoch} sequence {sequence}) were \
         acknowledged at offset {} of {}, acks=all. {why} Consumers that read on from there never \
         get them.",
        ack.base,
        stage.words(id),
    );
    let mut fields = stage.place(id, ack.base);
    fields.extend([
        ("producer_id", json!(producer_id)),
        ("producer_epoch", json!(producer_epoch)),
        ("base_sequence", json!(sequence)),
    ]);
    stage.ledger.operation(Named::LostWrite, fields, &[ack.mark, seen], explanation);
}
