//! `G1a`, `precommitted-read` and `lost-write` of transactions: what consumers of committed records
//! were handed beside what became of it.
//!
//! Needs to have seen: the batch handed on, or kept back, in an answer to a consumer of committed
//! records; its marker, or the EndTxn that decides it. What a producer asked for counts, whatever it
//! was answered: nothing else may commit its transaction.
//!
//! Not checked: what consumers of all records were given.

use rustc_hash::FxHashSet;

use super::log::{Ack, Batch, Body, Kind};
use super::mark::Mark;
use super::operations::{Named, Part, Parts, batch_fields};
use super::stage::Stage;
use super::transactions::{End, Transactions};
use super::walk::Fate;
use crate::history::facts::topics::{Cluster, LogId};

/// A batch whose marker is known, that a consumer of committed records may have been handed.
pub(super) fn aborted(
    stage: &mut Stage,
    id: LogId,
    (batch, marker): (&Batch, &Batch),
    end: Option<&End>,
) {
    if !batch.delivered {
        return;
    }
    let (by, why) = match end {
        _ if marker.body.kind == Kind::Abort => {
            (marker.mark, format!("The marker at offset {} aborts them.", marker.base))
        }
        Some(end) if !end.committed && end.error == Some(0) => {
            (end.mark, "EndTxn answered that their transaction is aborted.".to_owned())
        }
        Some(end) if !end.committed => {
            let why = "Their producer asked to abort their transaction, and never to commit it.";
            (end.mark, why.to_owned())
        }
        _ => return stage.ledger.operation_held(Named::AbortedRead),
    };
    let Body { producer_id, producer_epoch, count, .. } = batch.body;
    let explanation = format!(
        "A read_committed fetch returned the {count} records of producer {producer_id} epoch \
         {producer_epoch} at offset {} of {}, below its last stable offset and with nothing in \
         its aborted list that hides them. {why}",
        batch.base,
        stage.words(id),
    );
    let fields = batch_fields(stage, id, batch);
    stage.ledger.operation(Named::AbortedRead, fields, &[batch.mark, by], explanation);
}

/// A transaction was acknowledged as committed; here its marker aborts it.
pub(super) fn lost_to_marker(
    stage: &mut Stage,
    id: LogId,
    (batch, marker): (&Batch, &Batch),
    (ack, end): (&Ack, &End),
) {
    let Body { producer_id, producer_epoch, count, .. } = batch.body;
    let explanation = format!(
        "{count} records of producer {producer_id} epoch {producer_epoch} were acknowledged at \
         offset {} of {}, and EndTxn answered that their transaction is committed. The marker at \
         offset {} aborts them: consumers of committed records pass them over.",
        batch.base,
        stage.words(id),
        marker.base,
    );
    let fields = batch_fields(stage, id, batch);
    let marks = [ack.mark, end.mark, marker.mark];
    stage.ledger.operation(Named::LostWrite, fields, &marks, explanation);
}

/// A committed batch that a consumer of committed records was handed before its end was sent.
pub(super) fn precommitted(stage: &mut Stage, id: LogId, batch: &Batch, (ack, end): (&Ack, &End)) {
    if !batch.delivered {
        return;
    }
    if !batch.mark.is_before(&end.mark) {
        return stage.ledger.operation_held(Named::PrecommittedRead);
    }
    let Body { producer_id, producer_epoch, count, .. } = batch.body;
    let explanation = format!(
        "A read_committed fetch returned the {count} records of producer {producer_id} epoch \
         {producer_epoch} at offset {} of {}, below its last stable offset. The EndTxn that commits \
         them was sent only after that answer.",
        batch.base,
        stage.words(id),
    );
    let fields = batch_fields(stage, id, batch);
    let marks = [ack.mark, batch.mark, end.mark];
    stage.ledger.operation(Named::PrecommittedRead, fields, &marks, explanation);
}

/// The answer that kept a batch from consumers of committed records, where none handed it on.
pub(super) fn hidden(stage: &mut Stage, id: LogId, batch: &Batch) -> Option<Mark> {
    let log = stage.logs.of(id);
    log.hidden.get(&batch.base).copied().filter(|_| !batch.delivered)
}

/// Batches acknowledged as committed that no marker aborts, and that the aborted list of every
/// answer hides.
pub(super) fn lost_to_lists(
    stage: &mut Stage,
    (id, cluster): (LogId, Cluster),
    fates: &[Fate],
    transactions: &Transactions,
    parts: &mut Parts,
) {
    let log = stage.logs.of(id);
    let is_aborted = |fate: &&Fate| log.batches[fate.marker].body.kind == Kind::Abort;
    let aborted = fates.iter().filter(is_aborted).map(|fate| log.batches[fate.batch].base);
    let aborted: FxHashSet<i64> = aborted.collect();
    let is_open = |base: &&i64| !aborted.contains(*base);
    let places = log.hidden.keys().filter(is_open).filter_map(|&base| log.index_of(base));
    let batches: Vec<Batch> = places.map(|at| log.batches[at]).collect();
    for batch in batches.into_iter().filter(|batch| batch.body.kind == Kind::Transactional) {
        let Some(hidden) = hidden(stage, id, &batch) else { continue };
        let Body { producer_id, producer_epoch, count, .. } = batch.body;
        let Some(ack) = stage.certain_ack(id, &batch) else { continue };
        let of = (cluster, producer_id);
        let end = transactions.end_of(of, producer_epoch, &ack.mark).map(|(end, _)| end);
        let Some(end) = end.filter(|end| end.committed) else { continue };
        let part = Part { log: id, offset: batch.base, marks: [end.mark, hidden] };
        parts.lost(Parts::id(of, producer_epoch, end), part);
        let explanation = format!(
            "{count} records of producer {producer_id} epoch {producer_epoch} were acknowledged at \
             offset {} of {}, and EndTxn answered that their transaction is committed. The aborted \
             list of every answer that holds them hides them from consumers of committed records.",
            batch.base,
            stage.words(id),
        );
        let fields = batch_fields(stage, id, &batch);
        let marks = [ack.mark, end.mark, hidden];
        stage.ledger.operation(Named::LostWrite, fields, &marks, explanation);
    }
}
