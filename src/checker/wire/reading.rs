//! L1, L2 and L9, and `nonmonotonic-poll`: what a fetch returns, by itself and beside what other
//! fetches returned.
//!
//! `nonmonotonic-poll` needs a fetch session of which every request was seen, on one connection.
//! L1 and L2 need one response. L9 needs to have seen one offset twice. What replicas fetch is
//! held to L1 and L2 only: above the high watermark it may be truncated again.
//!
//! Not checked: message sets of magic 0 and 1; batches that were cut otherwise than before
//! (compaction, or a broker that puts batches together); records that do not decompress although
//! their checksum is right, which the producer may have sent so.

use serde_json::json;

use super::invariant::Invariant::{L1, L2, L9};
use super::log::{Batch, Body, DOUBTFUL_MAX, Garbled, Kind, Put, REPLACED_MAX, Replaced};
use super::mark::Mark;
use super::stage::Stage;
use crate::history::facts::topics::LogId;
use crate::history::facts::{BatchFacts, Fact, Fetched, Topic};

/// A partition of a fetch: checked by itself, and put into the log.
pub(super) fn fetched(
    stage: &mut Stage,
    fact: &Fact,
    log: LogId,
    fetched: &Fetched,
    by_consumer: bool,
    handed: &[Option<bool>],
) {
    let mark = Mark::of(&fact.seen);
    alone(stage, log, fetched, &mark);
    if let Some(broker) = stage.ledger.broker(mark.connection()).filter(|_| by_consumer) {
        let end = (fetched.error == 0).then_some(fetched.high_watermark);
        stage.logs.of(log).answered(broker, fetched.leader_epoch, end, mark);
    }
    if !by_consumer || fetched.error != 0 {
        return;
    }
    let by_name = matches!(fetched.topic, Topic::Name(_));
    let known = stage.logs.of(log);
    known.log_start = known.log_start.max(fetched.log_start_offset);
    if known.end.is_none_or(|(_, last)| last.is_before(&mark)) {
        known.end = Some((fetched.high_watermark, mark));
    }
    let in_order = fetched
        .batches
        .windows(2)
        .all(|pair| pair[0].header.last_offset() < pair[1].header.base_offset);
    if !in_order {
        let ends = |batch: &BatchFacts| (batch.header.base_offset.0, batch.header.last_offset().0);
        let known = stage.logs.of(log);
        fetched.batches.iter().map(ends).for_each(|(from, to)| known.blur(from, to));
        return;
    }
    went_back(stage, log, fetched, by_name, mark);
    left_out(stage, log, fetched, by_name, mark);
    let mut is_whole = !fetched.unreadable;
    for (batch, &handed) in fetched.batches.iter().zip(handed) {
        if batch.header.magic < 2 || batch.corrupt.is_some() || batch.unreadable {
            let (from, to) = (batch.header.base_offset.0, batch.header.last_offset().0);
            stage.logs.of(log).blur(from, to);
            is_whole = false;
            if batch.header.magic >= 2 && batch.corrupt.is_none() {
                garbled(stage, log, batch, by_name, mark);
            }
            continue;
        }
        put(stage, log, batch, by_name, handed, mark);
    }
    if let (true, Some(first), Some(last)) =
        (is_whole, fetched.batches.first(), fetched.batches.last())
    {
        let begins = fetched.fetch_offset.unwrap_or(i64::MAX).min(first.header.base_offset.0);
        stage.logs.of(log).went_through(begins, last.header.last_offset().0, mark);
    }
}

fn put(
    stage: &mut Stage,
    log: LogId,
    batch: &BatchFacts,
    by_name: bool,
    handed: Option<bool>,
    mark: Mark,
) {
    let new = Batch {
        base: batch.header.base_offset.0,
        last: batch.header.last_offset().0,
        body: Body::of(batch),
        leader_epoch: batch.header.partition_leader_epoch.0,
        timestamp_ms: batch.header.max_timestamp,
        by_name,
        delivered: handed == Some(true),
        mark,
        last_read_ns: mark.request().time_ns,
    };
    if handed == Some(false) {
        stage.logs.hide(log, new.base, mark);
    }
    let was_read = stage.logs.of(log).is_covered(new.base, new.last);
    match stage.logs.put_batch(log, new) {
        Put::New if was_read => appeared(stage, log, &new),
        Put::New => {
            let garbled =
                stage.logs.of(log).garbled.iter().find(|garbled| {
                    garbled.base == new.base && garbled.body.is_same_write(&new.body)
                });
            if let Some(&Garbled { by_name, mark, .. }) = garbled {
                let of = (log, by_name || new.by_name);
                became_garbled(stage, of, new.base, [mark, new.mark]);
            }
        }
        Put::Same => stage.ledger.held(L9),
        Put::Unclear | Put::Overlaps(_) => {
            stage.logs.of(log).blur(new.base, new.last);
            stage.ledger.unknown(L9);
        }
        Put::Differs(at) => {
            stage.logs.of(log).blur(new.base, new.last);
            changed(stage, log, at, &new);
        }
    }
}

/// Whether an answer of a fetch session returns what the session had returned before, and what its
/// client has moved on from: a request said so, and none took it back (KIP-227). A batch that holds
/// the position may begin below it; one that ends below it is before it.
fn went_back(stage: &mut Stage, log: LogId, fetched: &Fetched, by_name: bool, mark: Mark) {
    let (Some(position), Some(returned_to)) = (fetched.fetch_offset, fetched.returned_to) else {
        return stage.ledger.goes_somewhere();
    };
    // Message sets of old clients are made anew of what is in the log.
    if fetched.batches.iter().any(|batch| batch.header.magic < 2) {
        return stage.ledger.goes_somewhere();
    }
    let lasts = fetched.batches.iter().map(|batch| batch.header.last_offset().0);
    let Some(last) = lasts.filter(|last| *last < position && *last <= returned_to).max() else {
        return stage.ledger.goes_on();
    };
    if by_name && !stage.topics.is_certain_by_name(log) {
        return stage.ledger.goes_somewhere();
    }
    let explanation = format!(
        "A fetch session that had returned the offsets of {} up to {returned_to}, and was told to \
         read on from {position}, returned a batch once more that ends at {last}. Its client did \
         not ask to go back.",
        stage.words(log)
    );
    let mut fields = stage.place(log, last);
    fields.push(("fetch_offset", json!(position)));
    stage.ledger.went_back(fields, &[mark], explanation);
}

/// A batch of which the records cannot be read: what its producer had sent is held against it.
fn garbled(stage: &mut Stage, log: LogId, batch: &BatchFacts, by_name: bool, mark: Mark) {
    let (base, body) = (batch.header.base_offset.0, Body::of(batch));
    let known = stage.logs.of(log);
    if known.garbled.len() < DOUBTFUL_MAX {
        known.garbled.push(Garbled { base, body, by_name, mark });
    }
    let readable = known.index_of(base).map(|at| known.batches[at]);
    if let Some(readable) = readable.filter(|readable| readable.body.is_same_write(&body)) {
        let of = (log, by_name || readable.by_name);
        became_garbled(stage, of, base, [readable.mark, mark]);
    }
}

/// One answer has a batch with records that can be read, another with some that cannot.
fn became_garbled(stage: &mut Stage, of: (LogId, bool), base: i64, marks: [Mark; 2]) {
    let explanation = format!(
        "The batch at offset {base} of {} was returned twice, once with records that can be read and \
         once with such that cannot, each time under a right checksum.",
        stage.words(of.0)
    );
    let fields = stage.place(of.0, base);
    stage.broken(L9, of, fields, &marks, explanation);
}

/// Batches that another answer had and this one, which goes past them, has not. What has a key may
/// have been compacted away since; aborted records may be left out for consumers of committed
/// ones, which only the end of the transaction tells.
fn left_out(stage: &mut Stage, log: LogId, fetched: &Fetched, by_name: bool, mark: Mark) {
    let (Some(first), Some(last)) = (fetched.batches.first(), fetched.batches.last()) else {
        return;
    };
    if fetched.unreadable {
        return;
    }
    let known = stage.logs.of(log);
    let missing = known.batches_between(first.header.base_offset.0, last.header.base_offset.0);
    let missing =
        missing.filter(|batch| batch.body.kind.is_data() && !known.may_be_compacted(&batch.body));
    let is_here = |base: i64| {
        fetched.batches.binary_search_by_key(&base, |batch| batch.header.base_offset.0).is_ok()
    };
    let around = |batch: &Batch| {
        let at = fetched.batches.partition_point(|b| b.header.base_offset.0 <= batch.base);
        at > 0 && fetched.batches[at - 1].header.last_offset().0 >= batch.base
    };
    let Some(gone) = missing.copied().find(|batch| !is_here(batch.base) && !around(batch)) else {
        return;
    };
    if gone.base < known.log_start {
        return stage.ledger.unknown(L9);
    }
    if gone.body.kind == Kind::Transactional {
        return doubt(stage, log, gone.base, mark);
    }
    let explanation = format!(
        "The batch at offset {} of {} was returned once; a later answer goes past it without it.",
        gone.base,
        stage.words(log)
    );
    let fields = stage.place(log, gone.base);
    let of = (log, by_name || gone.by_name);
    stage.broken(L9, of, fields, &[gone.mark, mark], explanation);
}

fn doubt(stage: &mut Stage, log: LogId, base: i64, mark: Mark) {
    let doubtful = &mut stage.logs.of(log).doubtful;
    if doubtful.len() < DOUBTFUL_MAX && doubtful.iter().all(|(known, _)| *known != base) {
        doubtful.push((base, mark));
    }
}

/// A batch where another answer, which went past its offset, had none.
fn appeared(stage: &mut Stage, log: LogId, new: &Batch) {
    let known = stage.logs.of(log);
    let (past, may_go) = (known.went_past(new.base), known.may_be_compacted(&new.body));
    match new.body.kind {
        // Replicas are compacted each at its own time: a new leader may still have it.
        _ if may_go => return stage.ledger.unknown(L9),
        Kind::Plain => {}
        Kind::Transactional => return doubt(stage, log, new.base, past.unwrap_or(new.mark)),
        _ => return stage.ledger.unknown(L9),
    }
    let explanation = format!(
        "The batch at offset {} of {} stands where an earlier answer that went past it had none.",
        new.base,
        stage.words(log)
    );
    let fields = stage.place(log, new.base);
    let marks: Vec<Mark> = past.into_iter().chain([new.mark]).collect();
    stage.broken(L9, (log, new.by_name), fields, &marks, explanation);
}

fn changed(stage: &mut Stage, log: LogId, at: usize, new: &Batch) {
    let known = stage.logs.of(log);
    let old = known.batches[at];
    let (old_epoch, new_epoch) = (old.leader_epoch, new.leader_epoch);
    let replaced = Replaced { old_epoch, new_epoch, mark: new.mark };
    if known.replaced.len() < REPLACED_MAX {
        known.replaced.entry(new.base).or_insert(replaced);
    }
    let what = |body: &Body| {
        let Body { producer_id, producer_epoch, sequence, content, .. } = body;
        format!(
            "producer {producer_id} epoch {producer_epoch} sequence {sequence} content \
             {content:016x}"
        )
    };
    let words = stage.words(log);
    let place = if new.base == new.last {
        format!("Offset {} of {words} was", new.base)
    } else {
        format!("Offsets {} to {} of {words} were", new.base, new.last)
    };
    let mut explanation = format!(
        "{place} returned twice, and with other records: {}; then {}.",
        what(&old.body),
        what(&new.body)
    );
    if replaced.is_later() {
        explanation.push_str(&format!(
            " The first was written under leader epoch {old_epoch}, the other under {new_epoch}: a \
             later leader did not have what consumers had been given. That is an unclean election, \
             or a replica that lost the end of its log."
        ));
    }
    let fields = stage.place(log, new.base);
    let of = (log, old.by_name || new.by_name);
    stage.broken(L9, of, fields, &[old.mark, new.mark], explanation);
}

/// What one response shows by itself.
fn alone(stage: &mut Stage, log: LogId, fetched: &Fetched, mark: &Mark) {
    let mut before: Option<&BatchFacts> = None;
    for batch in fetched.batches.iter().filter(|batch| batch.header.magic >= 2) {
        let base = batch.header.base_offset.0;
        match &batch.corrupt {
            Some(error) => {
                let mut fields = stage.place(log, base);
                fields.push(("error", json!(error.to_string())));
                let explanation = format!(
                    "The batch at offset {base} of {} is corrupt: {error}.",
                    stage.words(log)
                );
                stage.ledger.broken(L2, fields, &[*mark], explanation);
            }
            None if batch.unreadable => stage.ledger.unknown(L2),
            None => stage.ledger.held(L2),
        }
        let overlap = before.filter(|before| before.header.last_offset().0 >= base);
        let why = match (overlap, &batch.disordered) {
            (Some(before), _) => Some(format!(
                "the batch before it holds the offsets {} to {}",
                before.header.base_offset,
                before.header.last_offset()
            )),
            (None, Some(error)) if batch.corrupt.is_none() => Some(error.to_string()),
            _ => None,
        };
        match why {
            Some(why) => {
                let explanation = format!(
                    "In one answer, the offsets of {} do not increase at the batch of offset \
                     {base}: {why}.",
                    stage.words(log)
                );
                let fields = stage.place(log, base);
                stage.ledger.broken(L1, fields, &[*mark], explanation);
            }
            None => stage.ledger.held(L1),
        }
        before = Some(batch);
    }
}
