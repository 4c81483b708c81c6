//! P5, P6 and P7, and of L5, L6 and L7 what needs the fate of a transaction: what clients were told
//! beside what the log says.
//!
//! Needs to have seen: the batch acknowledged, the EndTxn that decides it answered with success,
//! and its marker in the log. A marker in the log and what a coordinator says need no order in
//! time to contradict each other. That a transaction was open when something was answered is
//! certain where its EndTxn was sent only afterwards, and nobody else had ended it: a marker that is
//! there then, or an abort, may be a timeout's or a new owner's.
//!
//! Not checked: transactions whose EndTxn was not answered, or overlaps the batch; markers of
//! administrators; offsets below the start of the log, at which the last stable offset stays where
//! records of an open transaction are deleted.

use rustc_hash::FxHashMap;
use serde_json::json;

use super::invariant::Invariant::{L5, L6, L7, L9, P5, P6, P7};
use super::log::{Ack, Batch, Kind};
use super::mark::Mark;
use super::operations::Named;
use super::stable::{Runs, Stable};
use super::stage::Stage;
use super::transactions::{End, Transactions};
use super::walk::{self, Fate};
use crate::history::facts::topics::{Cluster, LogId};

/// A coordinator looks for transactions that are too old every ten seconds, and may be busy.
const TIMEOUT_SLACK_NS: u64 = 60_000_000_000;
/// Markers are written after EndTxn is answered. A coordinator whose request for them is not
/// answered says it again after `request.timeout.ms`, which is 30 s, and leaders change meanwhile.
const MARKERS_WRITTEN_NS: u64 = 90_000_000_000;

/// Judges a log whose fates are known.
pub(super) fn judge(
    stage: &mut Stage,
    id: LogId,
    cluster: Cluster,
    fates: &[Fate],
    transactions: &Transactions,
    stable: &Stable,
) {
    let runs = stable.runs(id);
    let mut first_of: FxHashMap<usize, (Batch, Mark)> = FxHashMap::default();
    for fate in fates {
        let log = stage.logs.of(id);
        let (batch, marker) = (log.batches[fate.batch], log.batches[fate.marker]);
        let hidden = log.hidden.get(&batch.base).copied();
        shown(stage, id, &batch, &marker, hidden);
        let ack = stage.certain_ack(id, &batch);
        let of = (cluster, batch.body.producer_id);
        let asked = ack.and_then(|ack| {
            transactions.asked_of(of, batch.body.producer_epoch, &ack.mark).map(|end| (ack, end))
        });
        let found = asked.filter(|(_, (end, _))| end.error == Some(0));
        if let Some((ack, (end, _))) = asked.filter(|_| fate.is_first(stage.logs.of(id)))
            && !early(stage, id, &batch, end)
            && found.is_some()
        {
            passed(stage, id, (&batch, &marker), (&ack, end), &runs);
        }
        let found = found.filter(|(_, (end, _))| {
            !transactions.is_by_administrator(of, (&batch.body, &marker.body), end)
        });
        let Some((ack, (end, stale))) = found else {
            stage.ledger.unknown(P5);
            stage.ledger.unknown(P6);
            continue;
        };
        decided(stage, id, (&batch, &marker), (&ack, end, stale));
        match first_of.get(&fate.marker) {
            Some(&(first, first_end))
                if first_end != end.mark && first_end.is_before(&ack.mark) =>
            {
                run_together(stage, id, (&first, &first_end), (&batch, &marker));
            }
            Some(_) => {}
            None => drop(first_of.insert(fate.marker, (batch, end.mark))),
        }
    }
    let decided: FxHashMap<usize, usize> =
        fates.iter().map(|fate| (fate.batch, fate.marker)).collect();
    left_out(stage, id, &decided);
    for fate in fates {
        if !fate.is_first(stage.logs.of(id)) {
            continue;
        }
        let batch = stage.logs.of(id).batches[fate.batch];
        let ack = stage.certain_ack(id, &batch);
        let of = (cluster, batch.body.producer_id);
        let timeout_ms = transactions.timeout_ms(of);
        late(stage, id, &batch, ack, timeout_ms, &runs);
    }
    open(stage, id, cluster, &decided, transactions, &runs);
    stuck(stage, id, &decided, &runs);
}

/// Batches of two transactions, one of which had ended before the other was written to, stand before
/// one marker. Compaction keeps a marker as long as records of its transaction are there.
fn run_together(
    stage: &mut Stage,
    id: LogId,
    (first, end): (&Batch, &Mark),
    (batch, marker): (&Batch, &Batch),
) {
    let explanation = format!(
        "EndTxn was answered for {} before the batch at offset {} was sent, and the log has no \
         marker between the two: that at offset {} closes both transactions.",
        transaction(stage, id, first),
        batch.base,
        marker.base
    );
    let fields = producer_fields(stage, id, batch);
    stage.ledger.broken(L5, fields, &[*end, first.mark, marker.mark], explanation);
}

/// Committed records that one answer had and another had not.
fn left_out(stage: &mut Stage, id: LogId, decided: &FxHashMap<usize, usize>) {
    for (base, mark) in std::mem::take(&mut stage.logs.of(id).doubtful) {
        let log = stage.logs.of(id);
        let at = log.index_of(base);
        let marker = at.and_then(|at| decided.get(&at)).map(|&marker| log.batches[marker]);
        let (Some(at), Some(marker)) = (at, marker.filter(|m| m.body.kind == Kind::Commit)) else {
            stage.ledger.unknown(L9);
            continue;
        };
        let batch = log.batches[at];
        let explanation = format!(
            "Some answers return the batch of {}, others go past it without it. The marker at \
             offset {} says that it was committed.",
            transaction(stage, id, &batch),
            marker.base
        );
        let fields = producer_fields(stage, id, &batch);
        let of = (id, batch.by_name);
        stage.broken(L9, of, fields, &[batch.mark, mark], explanation);
    }
}

/// Where a batch stands and whose it is.
pub(super) fn producer_fields(
    stage: &Stage,
    id: LogId,
    batch: &Batch,
) -> Vec<(&'static str, serde_json::Value)> {
    let mut fields = stage.place(id, batch.base);
    fields.extend([
        ("producer_id", json!(batch.body.producer_id)),
        ("producer_epoch", json!(batch.body.producer_epoch)),
    ]);
    fields
}

fn transaction(stage: &Stage, id: LogId, batch: &Batch) -> String {
    format!(
        "the transaction of producer {} epoch {} with the batch at offset {} of {}",
        batch.body.producer_id,
        batch.body.producer_epoch,
        batch.base,
        stage.words(id)
    )
}

fn ended(committed: bool) -> &'static str {
    if committed { "committed" } else { "aborted" }
}

/// Whether consumers of committed records were handed what the marker says.
fn shown(stage: &mut Stage, id: LogId, batch: &Batch, marker: &Batch, hidden: Option<Mark>) {
    let committed = marker.body.kind == Kind::Commit;
    let what = transaction(stage, id, batch);
    let fields = producer_fields(stage, id, batch);
    let wrong = match (committed, batch.delivered, hidden) {
        (false, true, _) => Some((
            batch.mark,
            format!(
                "A read_committed fetch returned the records of {what}, and its aborted list does \
                 not name it. The marker at offset {} says that it was aborted.",
                marker.base
            ),
        )),
        (true, _, Some(hidden)) => Some((
            hidden,
            format!(
                "The aborted list of a read_committed fetch hides {what}. The marker at offset {} \
                 says that it was committed.",
                marker.base
            ),
        )),
        _ => None,
    };
    match wrong {
        Some((mark, why)) => stage.ledger.broken(L7, fields, &[mark, marker.mark], why),
        None if batch.delivered || hidden.is_some() => stage.ledger.held(L7),
        None => {}
    }
}

/// A batch whose deciding EndTxn is known beside its marker.
fn decided(
    stage: &mut Stage,
    id: LogId,
    (batch, marker): (&Batch, &Batch),
    (ack, end, stale): (&Ack, &End, Option<&End>),
) {
    let committed = marker.body.kind == Kind::Commit;
    let what = transaction(stage, id, batch);
    let fields = producer_fields(stage, id, batch);
    let early_commit = committed && marker.mark.is_before(&end.mark);
    if let Some(stale) =
        stale.filter(|stale| stale.committed == committed && end.committed != committed)
    {
        let explanation = format!(
            "EndTxn answered that {what} is {}, and it is {} by the marker at offset {}. An EndTxn \
             sent for an earlier transaction of that producer was still under way: it decided this \
             one.",
            ended(end.committed),
            ended(committed),
            marker.base
        );
        let marks = [ack.mark, stale.mark, end.mark, marker.mark];
        return stage.ledger.broken(P6, fields, &marks, explanation);
    }
    if early_commit {
        let explanation = format!(
            "The commit marker at offset {} decides {what}; it was read before the client sent the \
             EndTxn of that transaction. Only an EndTxn of another can have written it.",
            marker.base
        );
        return stage.ledger.broken(P6, fields, &[ack.mark, marker.mark, end.mark], explanation);
    }
    stage.ledger.held(P6);
    if end.committed == committed {
        return stage.ledger.held(P5);
    }
    let explanation = format!(
        "EndTxn answered that {what} is {}. The marker at offset {} says {}.",
        ended(end.committed),
        marker.base,
        ended(committed)
    );
    stage.ledger.broken(P5, fields, &[ack.mark, end.mark, marker.mark], explanation);
}

/// Whether a read_committed fetch returned a batch whose EndTxn was sent only afterwards. An abort
/// may come without one, of a timeout, a new owner, an administrator; nobody hands that on.
fn early(stage: &mut Stage, id: LogId, batch: &Batch, end: &End) -> bool {
    let is_early = batch.delivered && batch.mark.is_before(&end.mark);
    if is_early {
        let explanation = format!(
            "A read_committed fetch returned the records of {} before the client had sent EndTxn: \
             they were not decided.",
            transaction(stage, id, batch)
        );
        let fields = producer_fields(stage, id, batch);
        stage.ledger.broken(L7, fields, &[batch.mark, end.mark], explanation);
    }
    is_early
}

/// Whether a last stable offset went past the first batch of a transaction, and not past its
/// marker, before EndTxn was sent: no matter who ended it then, it was open.
fn passed(
    stage: &mut Stage,
    id: LogId,
    (batch, marker): (&Batch, &Batch),
    (ack, end): (&Ack, &End),
    runs: &Runs<'_>,
) {
    let is_there = batch.base >= stage.logs.of(id).log_start;
    let Some(run) = runs.beyond(batch.base).filter(|_| is_there) else {
        return stage.ledger.unknown(L6);
    };
    if run.last_stable_offset > marker.base {
        return stage.ledger.held(L6);
    }
    // Before the batch was acknowledged another may have stood there, until a log was cut off.
    let is_between = |said: &&Mark| ack.mark.is_before(said) && said.is_before(&end.mark);
    let Some(said) = [&run.first, &run.last].into_iter().find(is_between) else {
        return stage.ledger.unknown(L6);
    };
    let explanation = format!(
        "The last stable offset was {} while {} was open: its EndTxn was sent only later, and its \
         marker stands at {}.",
        run.last_stable_offset,
        transaction(stage, id, batch),
        marker.base
    );
    let fields = producer_fields(stage, id, batch);
    stage.ledger.broken(L6, fields, &[ack.mark, *said, end.mark], explanation);
}

/// Transactional batches without a marker.
fn open(
    stage: &mut Stage,
    id: LogId,
    cluster: Cluster,
    decided: &FxHashMap<usize, usize>,
    transactions: &Transactions,
    runs: &Runs<'_>,
) {
    let log = stage.logs.of(id);
    let mut last_of: FxHashMap<i64, usize> = FxHashMap::default();
    let mut open: Vec<(usize, Batch)> = Vec::new();
    for (at, batch) in log.batches.iter().enumerate() {
        last_of.insert(batch.body.producer_id, at);
        if batch.body.kind == Kind::Transactional
            && batch.body.count > 0
            && !decided.contains_key(&at)
        {
            open.push((at, *batch));
        }
    }
    // Some brokers show no markers at all.
    let shows_markers = log.batches.iter().any(|batch| batch.body.kind.is_marker());
    let log_end = log.end;
    for (at, batch) in open {
        let ack = stage.certain_ack(id, &batch);
        let of = (cluster, batch.body.producer_id);
        late(stage, id, &batch, ack, transactions.timeout_ms(of), runs);
        let end = ack.and_then(|ack| transactions.end_of(of, batch.body.producer_epoch, &ack.mark));
        let is_last = shows_markers && last_of.get(&batch.body.producer_id) == Some(&at);
        let log = stage.logs.of(id);
        let read_to_end = log_end
            .filter(|&(end, _)| is_last && end > batch.base && log.is_covered(batch.base, end - 1));
        match (end, read_to_end) {
            (Some((end, _)), Some((_, read)))
                if end.mark.ns_until(&read) >= MARKERS_WRITTEN_NS && end.mark.is_before(&read) =>
            {
                walk::unclosed(stage, id, &batch, &end.mark);
            }
            _ => stage.ledger.unknown(L5),
        }
    }
}

/// Whether the last stable offset stayed at a transaction beyond its timeout.
fn late(
    stage: &mut Stage,
    id: LogId,
    batch: &Batch,
    ack: Option<Ack>,
    timeout_ms: Option<i32>,
    runs: &Runs<'_>,
) {
    // Where records of an open transaction are deleted, it waits at the start of the log.
    let run = runs.at(batch.base).filter(|_| !stage.logs.of(id).is_start(batch.base));
    let (Some(ack), Some(timeout_ms), Some(run)) = (ack, timeout_ms, run) else {
        return stage.ledger.unknown(P7);
    };
    let allowed = u64::try_from(timeout_ms).unwrap_or(0) * 1_000_000 + TIMEOUT_SLACK_NS;
    let stayed = ack.mark.ns_until(&run.last);
    if stayed <= allowed {
        return stage.ledger.held(P7);
    }
    let explanation = format!(
        "{} s after {} began, the last stable offset still waits for it. Its timeout is {timeout_ms} \
         ms; the coordinator should have aborted it.",
        stayed / 1_000_000_000,
        transaction(stage, id, batch)
    );
    let fields = producer_fields(stage, id, batch);
    // What was acknowledged behind it before it was asked for again cannot be read.
    let behind = stage
        .logs
        .of(id)
        .acks
        .iter()
        .find(|behind| behind.base > batch.base && behind.mark.is_before(&run.last));
    if let Some(behind) = behind.copied() {
        let explanation = format!(
            "{explanation} What was acknowledged behind it, at offset {} and on, cannot be read.",
            behind.base
        );
        let marks = [ack.mark, behind.mark, run.last];
        stage.ledger.operation(Named::HangingTransaction, fields.clone(), &marks, explanation);
    }
    stage.ledger.broken(P7, fields, &[ack.mark, run.last], explanation);
}

/// Whether a last stable offset below the high watermark stands at the beginning of an open
/// transaction. Two answers, one after the other, must state it: between reading the two numbers
/// a broker may have moved on.
fn stuck(stage: &mut Stage, id: LogId, decided: &FxHashMap<usize, usize>, runs: &Runs<'_>) {
    let certain = stage.topics.is_certain_by_name(id);
    for run in runs.all.iter().filter(|run| run.last_stable_offset < run.high_watermark) {
        let log = stage.logs.of(id);
        let at = log.index_of(run.last_stable_offset);
        let why = at.filter(|_| run.first.is_before(&run.last)).and_then(|at| {
            let batch = log.batches[at];
            // What is open may have begun before the start of the log, where it then stands.
            if !certain && batch.by_name || log.is_start(batch.base) {
                return None;
            }
            let why = match batch.body.kind {
                Kind::Transactional => {
                    let marker = log.batches[*decided.get(&at)?].base;
                    if marker >= run.high_watermark {
                        return Some(None);
                    }
                    format!("the transaction there ended with the marker at {marker}")
                }
                Kind::Plain => "the batch there is of no transaction".to_owned(),
                _ => "a marker stands there".to_owned(),
            };
            Some(Some((batch, why)))
        });
        match why {
            None => stage.ledger.unknown(L6),
            Some(None) => stage.ledger.held(L6),
            Some(Some((batch, why))) => {
                let explanation = format!(
                    "The last stable offset of {} stays at {}, though the high watermark is {} \
                     and {why}: consumers of committed records wait for nothing.",
                    stage.words(id),
                    run.last_stable_offset,
                    run.high_watermark
                );
                let fields = producer_fields(stage, id, &batch);
                let marks = [run.first, run.last, batch.mark];
                stage.ledger.broken(L6, fields, &marks, explanation);
            }
        }
    }
}
