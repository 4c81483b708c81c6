//! `zombie-write`, and `G1a` of fenced producers: what became of batches that came after the fence.
//!
//! Needs to have seen: InitProducerId answered with a higher epoch; the batch sent after that
//! answer, accepted or refused; the batch in the log, where consumers read it; and that it stands
//! behind the fence. Its place shows that where something that was written later stands before it.
//! So does what follows: a transaction of the old epoch ends with a marker of its own, and the
//! next of that producer id in a log that was read without a hole would be that marker.
//!
//! Not checked: logs that show no markers, for what follows.

use rustc_hash::FxHashMap;

use super::fencing::Fencing;
use super::log::{Batch, Body, Kind, Log, Refused};
use super::mark::Mark;
use super::operations::{Named, batch_fields};
use super::stage::Stage;
use super::transactions::Transactions;
use super::walk::Fate;
use crate::history::facts::topics::{Cluster, LogId};

/// Judges a log of which it is known what became of its transactional batches.
pub(super) fn judge(
    stage: &mut Stage,
    (id, cluster): (LogId, Cluster),
    fates: &[Fate],
    (transactions, fencing): (&Transactions, &Fencing),
) {
    let refused = std::mem::take(&mut stage.logs.of(id).refused);
    let log = stage.logs.of(id);
    let kind = |fate: &Fate| log.batches[fate.marker].body.kind;
    let decided: FxHashMap<i64, Kind> =
        fates.iter().map(|fate| (log.batches[fate.batch].base, kind(fate))).collect();
    let next = Next::of(log);
    for refused in refused {
        zombie(stage, (id, cluster), &refused, (&decided, &next), fencing);
    }
    for at in 0..stage.logs.of(id).batches.len() {
        let batch = stage.logs.of(id).batches[at];
        let is_read = batch.delivered && batch.body.kind == Kind::Transactional;
        if is_read && decided.get(&batch.base) != Some(&Kind::Abort) {
            accepted(stage, (id, cluster), at, &next, (transactions, fencing));
        }
    }
}

/// What follows each batch of a log of the same producer id, by place.
struct Next(Vec<Option<usize>>);

impl Next {
    fn of(log: &Log) -> Self {
        let mut next = vec![None; log.batches.len()];
        let mut following: FxHashMap<i64, usize> = FxHashMap::default();
        if log.batches.iter().any(|batch| batch.body.kind.is_marker()) {
            for (at, batch) in log.batches.iter().enumerate().rev() {
                next[at] = following.insert(batch.body.producer_id, at);
            }
        }
        Self(next)
    }

    /// What shows that no marker of its own closes a transactional batch: the next of its producer
    /// id is of an epoch that was given out to fence it, and nothing in between is unknown.
    fn beyond(&self, log: &Log, at: usize, fence: i16) -> Option<Batch> {
        let (batch, next) = (&log.batches[at], &log.batches[self.0[at]?]);
        let is_known = log.is_covered(batch.base, next.base);
        (is_known && next.body.producer_epoch >= fence).then_some(*next)
    }
}

/// A batch that a consumer of committed records was handed, though it was sent when its producer
/// had been fenced, and nobody ended its transaction.
fn accepted(
    stage: &mut Stage,
    (id, cluster): (LogId, Cluster),
    at: usize,
    next: &Next,
    (transactions, fencing): (&Transactions, &Fencing),
) {
    let batch = stage.logs.of(id).batches[at];
    let Body { producer_id, producer_epoch, count, .. } = batch.body;
    let of = (cluster, producer_id);
    if fencing.fences(of, producer_epoch).next().is_none() {
        return;
    }
    let Some(ack) = stage.certain_ack(id, &batch) else { return };
    let mut fences = fencing.fences(of, producer_epoch);
    let Some((fence, fenced)) = fences.find(|(_, fence)| fence.is_before(&ack.first)) else {
        return;
    };
    if transactions.may_be_committed(of, producer_epoch, &ack.first) {
        return stage.ledger.operation_unknown(Named::AbortedRead);
    }
    let Some(next) = next.beyond(stage.logs.of(id), at, fence) else {
        return stage.ledger.operation_unknown(Named::AbortedRead);
    };
    let explanation = format!(
        "A read_committed fetch returned the {count} records of producer {producer_id} epoch \
         {producer_epoch} at offset {} of {}. They were sent after InitProducerId had given out \
         epoch {fence}, which ends whatever was open, and nobody committed them: the next of that \
         producer is of epoch {}, at offset {}.",
        batch.base,
        stage.words(id),
        next.body.producer_epoch,
        next.base,
    );
    let fields = batch_fields(stage, id, &batch);
    let marks = [fenced, ack.mark, batch.mark, next.mark];
    stage.ledger.operation(Named::AbortedRead, fields, &marks, explanation);
}

/// A batch of a fenced producer, refused: whether it stands behind what came after the fence.
fn zombie(
    stage: &mut Stage,
    (id, cluster): (LogId, Cluster),
    refused: &Refused,
    (decided, next): (&FxHashMap<i64, Kind>, &Next),
    fencing: &Fencing,
) {
    let certain = stage.topics.is_certain_by_name(id);
    let log = stage.logs.of(id);
    let found = log.batches.iter().position(|batch| batch.body.is_same(&refused.body));
    let found = found.map(|at| (at, log.batches[at]));
    let is_certain = |batch: &Batch| certain || !batch.by_name && !refused.by_name;
    let Some((at, batch)) = found.filter(|(_, batch)| is_certain(batch)) else {
        return stage.ledger.operation_unknown(Named::ZombieWrite);
    };
    let is_seen = batch.delivered
        || batch.body.kind == Kind::Plain
        || decided.get(&batch.base) == Some(&Kind::Commit);
    if !is_seen {
        // An append of the old epoch that was under way may stay, if it is aborted.
        return stage.ledger.operation_held(Named::ZombieWrite);
    }
    let proof = behind_the_fence(log, cluster, &batch, fencing)
        .or_else(|| unclosed(log, (cluster, at), refused, next, fencing));
    let Some((proof, why)) = proof else {
        return stage.ledger.operation_unknown(Named::ZombieWrite);
    };
    let Body { producer_id, producer_epoch, .. } = batch.body;
    let explanation = format!(
        "Producer {producer_id} epoch {producer_epoch} was told that it is fenced and that its \
         batch was refused. The batch stands at offset {} of {}, where consumers read it. {why}",
        batch.base,
        stage.words(id),
    );
    let fields = batch_fields(stage, id, &batch);
    let marks: Vec<Mark> = [refused.mark, batch.mark].into_iter().chain(proof).collect();
    if batch.delivered && decided.get(&batch.base) != Some(&Kind::Abort) {
        // Who was told that a write failed may say so.
        let (fields, explanation) = (fields.clone(), explanation.clone());
        stage.ledger.operation(Named::AbortedRead, fields, &marks, explanation);
    }
    stage.ledger.operation(Named::ZombieWrite, fields, &marks, explanation);
}

/// What follows a batch that was refused after the fence, where that shows that nothing of its own
/// epoch ever closed it.
fn unclosed(
    log: &Log,
    (cluster, at): (Cluster, usize),
    refused: &Refused,
    next: &Next,
    fencing: &Fencing,
) -> Option<(Vec<Mark>, String)> {
    let Body { producer_id, producer_epoch, kind, .. } = refused.body;
    let mut fences = fencing.fences((cluster, producer_id), producer_epoch);
    let (fence, fenced) = fences.find(|(_, fence)| fence.is_before(&refused.mark))?;
    let next = next.beyond(log, at, fence).filter(|_| kind == Kind::Transactional)?;
    let why = format!(
        "The next of that producer is of epoch {}, at offset {}: no marker of its own ever closed \
         it.",
        next.body.producer_epoch, next.base
    );
    Some((vec![fenced, next.mark], why))
}

/// What shows that a batch was appended after its producer had been fenced: a batch of a higher
/// epoch before it, or one that was sent after the answer that gave out a higher epoch.
fn behind_the_fence(
    log: &Log,
    cluster: Cluster,
    batch: &Batch,
    fencing: &Fencing,
) -> Option<(Vec<Mark>, String)> {
    let Body { producer_id, producer_epoch, .. } = batch.body;
    let before = log.batches.iter().take_while(|other| other.base < batch.base);
    let heir = before.into_iter().find(|other| {
        other.body.producer_id == producer_id && other.body.producer_epoch > producer_epoch
    });
    if let Some(heir) = heir {
        let epoch = heir.body.producer_epoch;
        let why =
            format!("Epoch {epoch} of that producer wrote before it, at offset {}.", heir.base);
        return Some((vec![heir.mark], why));
    }
    let fences = fencing.fences((cluster, producer_id), producer_epoch);
    let mut acks = log.acks.iter().take_while(|ack| ack.base < batch.base);
    let fences: Vec<(i16, Mark)> = fences.collect();
    acks.find_map(|ack| {
        let (epoch, fence) = fences.iter().find(|(_, fence)| fence.is_before(&ack.first))?;
        let why = format!(
            "It was appended behind offset {}, which was written after InitProducerId had given \
             out epoch {epoch}.",
            ack.base
        );
        Some((vec![*fence, ack.mark], why))
    })
}
