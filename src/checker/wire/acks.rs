//! P1 and P2: what producers are told about their batches.
//!
//! P1 needs to have seen: a batch acknowledged with acks=all, and a fetch of its offset (or another
//! acknowledgement, or a high watermark, that excludes it). P2: one batch of an idempotent producer
//! sent twice and answered twice, or standing in the log twice.
//!
//! Not checked: acknowledgements with acks=1, which a change of leader may undo; keyed records
//! missing from a stretch that was read, which compaction may have removed; batches re-sent after
//! more than [`RECENT`] others.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use serde_json::json;

use super::identity::Identity;
use super::invariant::Invariant::{L2, P1, P2};
use super::log::{Ack, Batch, Body, Garbled, Kind, Log, Refused};
use super::mark::Mark;
use super::operations::{self, Named, Parts, is_fenced};
use super::stage::Stage;
use super::transactions::Transactions;
use crate::history::facts::topics::{Cluster, LogId};
use crate::history::facts::{Fact, Produced, Seen, Topic};

/// Batches remembered of one producer and partition.
const RECENT: usize = 16;
/// Producers and partitions remembered.
const PRODUCERS_MAX: usize = 100_000;
/// A log that ends below an acknowledged offset must have been asked so much later.
const SETTLED_NS: u64 = 1_000_000_000;
/// After so long a broker may have forgotten a producer, which then counts anew.
const FORGOTTEN_NS: u64 = 12 * 3_600_000_000_000;
/// As the protocol says it.
const ACKS_ALL: i16 = -1;

/// A batch that was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    body: Body,
    acked: Option<i64>,
    mark: Mark,
}

/// Watches produce requests and their answers.
#[derive(Debug, Default)]
pub(super) struct Acks {
    recent: FxHashMap<(LogId, i64), VecDeque<Sent>>,
}

impl Acks {
    /// A partition of a produce request; says whether its batch was sent before.
    pub(super) fn produced(
        &mut self,
        stage: &mut Stage,
        fact: &Fact,
        acks: i16,
        log: LogId,
        produced: &Produced,
    ) -> Option<Mark> {
        // Brokers take one batch a partition.
        let [batch] = &produced.batches[..] else { return None };
        if batch.header.magic < 2 {
            return None;
        }
        if let Some(error) = &batch.corrupt {
            swallowed(stage, fact, log, produced, error);
        }
        if batch.unreadable || batch.corrupt.is_some() {
            return None;
        }
        let body = Body::of(batch);
        let acked = match produced.answer {
            Some((0, base, _)) if base >= 0 => Some(base),
            _ => None,
        };
        let by_name = matches!(produced.topic, Topic::Name(_));
        if let Some((error, _, log_start)) = produced.answer {
            let known = stage.logs.of(log);
            known.log_start = known.log_start.max(log_start);
            if is_fenced(error) {
                let refused = Refused { body, by_name, mark: Mark::of(&fact.seen) };
                stage.logs.refuse(log, refused);
            }
        }
        let resent = self.resent(stage, &fact.seen, (log, by_name), body, acked);
        let Some(base) = acked.filter(|_| acks == ACKS_ALL) else { return resent.first };
        if resent.contradicted {
            return resent.first;
        }
        let mark = Mark::of(&fact.seen);
        let ack = Ack { base, body, by_name, mark, first: resent.first.unwrap_or(mark) };
        stage.logs.put_ack(log, ack);
        resent.first
    }

    fn resent(
        &mut self,
        stage: &mut Stage,
        seen: &Seen,
        (log, by_name): (LogId, bool),
        body: Body,
        acked: Option<i64>,
    ) -> Resent {
        if body.producer_id < 0 || body.sequence < 0 {
            return Resent::default();
        }
        let key = (log, body.producer_id);
        if self.recent.len() >= PRODUCERS_MAX && !self.recent.contains_key(&key) {
            self.recent.clear();
        }
        let recent = self.recent.entry(key).or_default();
        let mark = Mark::of(seen);
        let Some(before) = recent.iter_mut().find(|sent| sent.body.is_same(&body)) else {
            if recent.len() >= RECENT {
                recent.pop_front();
            }
            recent.push_back(Sent { body, acked, mark });
            return Resent::default();
        };
        let first = Some(before.mark);
        let (Some(old), Some(new)) = (before.acked, acked) else {
            before.acked = before.acked.or(acked);
            return Resent { first, contradicted: false };
        };
        let contradicted = old != new;
        let marks = [before.mark, mark];
        if contradicted {
            two_copies(stage, (log, by_name), (&body, old, new), &marks);
        } else {
            stage.ledger.held(P2);
        }
        Resent { first, contradicted }
    }
}

/// What is known of a batch that was sent before.
#[derive(Debug, Default)]
struct Resent {
    first: Option<Mark>,
    contradicted: bool,
}

fn two_copies(
    stage: &mut Stage,
    (log, by_name): (LogId, bool),
    (body, old, new): (&Body, i64, i64),
    marks: &[Mark],
) {
    if stage.logs.of(log).log_start > old.min(new) {
        return stage.ledger.unknown(P2);
    }
    let mut fields = stage.place(log, new);
    fields.extend([
        ("first_offset", json!(old)),
        ("producer_id", json!(body.producer_id)),
        ("producer_epoch", json!(body.producer_epoch)),
        ("base_sequence", json!(body.sequence)),
    ]);
    let explanation = format!(
        "The batch of producer {} epoch {} with sequence {} was sent to {} twice and answered with \
         offset {old} the first time and {new} the second. A batch that is in the log already is \
         answered with the offset it has, or as a duplicate.",
        body.producer_id,
        body.producer_epoch,
        body.sequence,
        stage.words(log)
    );
    stage.broken(P2, (log, by_name), fields, marks, explanation);
}

/// A batch came whole with a wrong checksum, and was acknowledged.
fn swallowed(
    stage: &mut Stage,
    fact: &Fact,
    log: LogId,
    produced: &Produced,
    error: &kafka_wire::DecodeError,
) {
    let Some((0, base, _)) = produced.answer else { return };
    if !error.path.ends_with("crc") {
        return;
    }
    let mut fields = stage.place(log, base);
    fields.push(("error", json!(error.to_string())));
    let explanation = format!(
        "A batch sent to {} is corrupt: {error}. It was acknowledged with offset {base}: a broker \
         refuses it (CORRUPT_MESSAGE), so that no log ever holds it.",
        stage.words(log)
    );
    stage.ledger.broken_by(L2, fields, &fact.seen, explanation);
}

/// Holds every acknowledgement against the log as it was read.
pub(super) fn finish(stage: &mut Stage, transactions: &Transactions, parts: &mut Parts) {
    let Stage { ledger, topics, logs, unseen, .. } = stage;
    let mut broken = Vec::new();
    let mut verified: Vec<Ack> = Vec::new();
    let mut cut_off = Vec::new();
    let mut doubtful = Vec::new();
    for (id, log) in logs.all() {
        let uncertain = !topics.is_certain_by_name(id);
        let cluster = topics.cluster_of(id);
        let mut places: Option<FxHashMap<_, usize>> = None;
        // Another place of the same batch, if it stands anywhere in what was read.
        let mut place_of = |ack: &Ack| {
            let all = || log.batches.iter().enumerate();
            let by_identity =
                || all().rev().map(|(at, batch)| (batch.body.identity(), at)).collect();
            let places = places.get_or_insert_with(by_identity);
            places.get(&ack.body.identity()).map(|&at| log.batches[at])
        };
        let mut behind: Option<Vec<u32>> = None;
        let mut identity: Option<Identity> = None;
        let mut is_one = |marks: &[Mark]| {
            identity.get_or_insert_with(|| Identity::of(log)).is_one(topics, id, marks)
        };
        verified.clear();
        let first_broken = broken.len();
        let disowned = log.disowned.iter().map(|ack| (ack, true));
        for (ack, is_disowned) in log.acks.iter().map(|ack| (ack, false)).chain(disowned) {
            let mut judged = match log.batch_around(ack.base) {
                Some(batch) if uncertain && (ack.by_name || batch.by_name) => Judged::Unknown,
                Some(batch) => beside(ack, batch),
                None if uncertain && ack.by_name => Judged::Unknown,
                None if let Some(mark) = garbled(ack, log, uncertain) => {
                    let why = "What was read there is that batch with records that cannot be read.";
                    Judged::Broken(mark, why.to_owned())
                }
                // A broker may leave aborted records out for consumers of committed ones.
                None if !is_to_be_read(ack, cluster, transactions) => Judged::Unknown,
                None => absent(ack, log, &mut behind, |connection| ledger.broker(connection)),
            };
            if let Judged::Unknown = judged
                && !uncertain
                && ack.body.sequence >= 0
                && ack.base >= log.log_start
                && let Some(other) = place_of(ack)
                && other.base >= log.log_start
                && ack.mark.ns_apart(&other.mark) < FORGOTTEN_NS
            {
                let why = format!("It was read at offset {}.", other.base);
                judged = Judged::Replaced(other.mark, why);
            }
            if let Judged::Broken(mark, _) | Judged::Skipped(mark, _) | Judged::Replaced(mark, _) =
                &judged
                && ack.by_name
                && !is_one(&[ack.mark, *mark])
                && place_of(ack).is_none_or(|_| ack.body.producer_id < 0)
                && !is_of_producer(log, ack)
            {
                // Its topic may have been deleted, and created anew.
                judged = Judged::Unknown;
                doubtful.push(id);
            }
            match judged {
                // That two were given the offset was said when it was.
                Judged::Held | Judged::Unknown if is_disowned => continue,
                Judged::Held => {
                    verified.push(*ack);
                    ledger.held(P1);
                    let replaced = log.replaced.get(&ack.base).filter(|other| {
                        other.is_later()
                            && (!ack.by_name || !uncertain && is_one(&[ack.mark, other.mark]))
                            && is_to_be_read(ack, cluster, transactions)
                    });
                    if let Some(replaced) = replaced {
                        cut_off.push((id, *ack, *replaced));
                        continue;
                    }
                    // Of transactions it takes the marker.
                    if ack.body.kind == Kind::Plain {
                        ledger.operation_held(Named::LostWrite);
                    }
                    continue;
                }
                Judged::Unknown => ledger.unknown(P1),
                Judged::Broken(mark, why) => {
                    broken.push((id, *ack, mark, why, Place::Unknown, is_disowned));
                    continue;
                }
                Judged::Skipped(mark, why) | Judged::Replaced(mark, why) => {
                    // It may stand elsewhere, and the offset be wrong.
                    let place = match place_of(ack) {
                        Some(other) => Place::At(other),
                        None if log.is_clear(ack.base)
                            && is_to_be_read(ack, cluster, transactions) =>
                        {
                            Place::Nowhere
                        }
                        None => Place::Unknown,
                    };
                    broken.push((id, *ack, mark, why, place, is_disowned));
                    continue;
                }
            }
            ledger.operation_unknown(Named::LostWrite);
            unseen.acknowledged += u64::from(log.stretch(ack.base).is_none());
        }
        if broken.len() > first_broken {
            let reach = Reach::of(&verified);
            for (_, ack, _, _, place, _) in &mut broken[first_broken..] {
                if matches!(place, Place::Nowhere) && !reach.is_all_read(ack, log) {
                    *place = Place::Unknown;
                }
            }
        }
    }
    ledger.unknown_times(P1, logs.forgotten[1]);
    doubtful.into_iter().for_each(|log| topics.doubt(log));
    for (id, ack, replaced) in cut_off {
        let why = format!(
            "It was there under leader epoch {}; what stands there since is another batch, written \
             under leader epoch {}.",
            replaced.old_epoch, replaced.new_epoch
        );
        operations::lost(stage, id, &ack, replaced.mark, &why);
    }
    for (id, ack, mark, why, place, is_disowned) in broken {
        match place {
            Place::Nowhere => {
                let cluster = stage.topics.cluster_of(id);
                operations::lost(stage, id, &ack, mark, &why);
                parts.absent((id, cluster), &ack, mark, transactions);
            }
            Place::At(other) => operations::misplaced(stage, id, &ack, &other),
            Place::Unknown => {}
        }
        if is_disowned {
            continue;
        }
        let mut fields = stage.place(id, ack.base);
        fields.extend([
            ("producer_id", json!(ack.body.producer_id)),
            ("producer_epoch", json!(ack.body.producer_epoch)),
            ("base_sequence", json!(ack.body.sequence)),
        ]);
        let explanation = format!(
            "A batch of {} records (producer {} epoch {} sequence {}) was acknowledged with offset \
             {} of {}, acks=all. {why}",
            ack.body.count,
            ack.body.producer_id,
            ack.body.producer_epoch,
            ack.body.sequence,
            ack.base,
            stage.words(id),
        );
        stage.ledger.broken(P1, fields, &[ack.mark, mark], explanation);
    }
}

/// Whether the producer's sequence shows that the log is the one it wrote to: the batch at that
/// offset has the sequence it sent there, or the next one stands right behind it.
fn is_of_producer(log: &Log, ack: &Ack) -> bool {
    let Body { producer_id, producer_epoch, sequence, count, .. } = ack.body;
    let at = |offset| log.index_of(offset).map(|at| &log.batches[at].body);
    let next = sequence.wrapping_add(count) & 0x7fff_ffff;
    let follows = |body: &Body| {
        (body.producer_id, body.producer_epoch, body.sequence)
            == (producer_id, producer_epoch, next)
    };
    producer_id >= 0
        && sequence >= 0
        && (at(ack.base).is_some_and(|body| body.is_same_write(&ack.body))
            || at(ack.end()).is_some_and(follows))
}

/// The exchange in which a batch that was readable when it was sent was read, and is not any more.
fn garbled(ack: &Ack, log: &Log, uncertain: bool) -> Option<Mark> {
    let is_it = |g: &&Garbled| {
        g.base == ack.base
            && g.body.is_same_write(&ack.body)
            && ack.body.sequence >= 0
            && !(uncertain && (g.by_name || ack.by_name))
    };
    log.garbled.iter().find(is_it).map(|garbled| garbled.mark)
}

fn is_to_be_read(ack: &Ack, cluster: Cluster, transactions: &Transactions) -> bool {
    let Body { kind, producer_id, producer_epoch, .. } = ack.body;
    let end = || transactions.end_of((cluster, producer_id), producer_epoch, &ack.mark);
    kind != Kind::Transactional || end().is_some_and(|(end, _)| end.committed)
}

/// Between which offsets a batch can stand: what was acknowledged before it was sent stands before
/// it, what was sent after it was acknowledged behind.
struct Reach<'a> {
    /// Acknowledged batches that stand where they should, by when that was said; with each the one
    /// of the highest offset up to there.
    answered: Vec<(&'a Ack, &'a Ack)>,
    /// The same by when they were sent, the last first; with each the one of the lowest.
    sent: Vec<(&'a Ack, &'a Ack)>,
}

/// Acknowledgements looked at for one whose order in time is certain.
const LOOKED_AT: usize = 64;

impl<'a> Reach<'a> {
    fn of(verified: &'a [Ack]) -> Self {
        let answered_ns = |ack: &Ack| ack.mark.response().map_or(u64::MAX, |at| at.time_ns);
        let mut answered: Vec<(&Ack, &Ack)> = verified.iter().map(|ack| (ack, ack)).collect();
        let mut sent = answered.clone();
        answered.sort_by_key(|(ack, _)| answered_ns(ack));
        sent.sort_by_key(|(ack, _)| std::cmp::Reverse(ack.first.request().time_ns));
        for at in 1..answered.len() {
            let ((_, best), (_, before)) = (answered[at], answered[at - 1]);
            answered[at].1 = if before.base > best.base { before } else { best };
            let ((_, best), (_, before)) = (sent[at], sent[at - 1]);
            sent[at].1 = if before.base < best.base { before } else { best };
        }
        Self { answered, sent }
    }

    /// Whether every offset at which the batch can stand was read.
    fn is_all_read(&self, ack: &Ack, log: &Log) -> bool {
        let sent_ns = ack.first.request().time_ns;
        let Some(answered) = ack.mark.response() else { return false };
        let earlier = self.answered.partition_point(|(other, _)| {
            other.mark.response().is_some_and(|at| at.time_ns < sent_ns)
        });
        let later = self
            .sent
            .partition_point(|(other, _)| other.first.request().time_ns > answered.time_ns);
        let before = self.answered[..earlier].iter().rev().take(LOOKED_AT);
        let before = before.map(|(_, best)| best).find(|best| best.mark.is_before(&ack.first));
        let behind = self.sent[..later].iter().rev().take(LOOKED_AT);
        let behind = behind.map(|(_, best)| best).find(|best| ack.mark.is_before(&best.first));
        let behind = behind.map(|best| best.base);
        let end = log.end.filter(|(_, told)| ack.mark.is_before(told)).map(|(end, _)| end);
        let from = before.map_or(log.log_start, |best| best.base + 1);
        match behind.into_iter().chain(end).min() {
            Some(to) => from >= to || log.is_covered(from, to - 1),
            None => false,
        }
    }
}

enum Judged {
    Held,
    Unknown,
    Broken(Mark, String),
    /// Readers went past its offset, and it is not there.
    Skipped(Mark, String),
    /// Another write stands there.
    Replaced(Mark, String),
}

/// Where a batch stands that is not where it was said to be.
enum Place {
    Unknown,
    /// Nowhere in what was read.
    Nowhere,
    At(Batch),
}

/// An acknowledgement beside the batch that was read at its offset.
fn beside(ack: &Ack, batch: &Batch) -> Judged {
    if batch.base != ack.base {
        // Brokers that put batches together write them at other bases.
        return Judged::Unknown;
    }
    let (there, told) = (&batch.body, &ack.body);
    if there.is_same(told) {
        return Judged::Held;
    }
    if there.count < told.count && there.is_same_write(&Body { count: there.count, ..*told }) {
        // Compaction took some of its records.
        return Judged::Unknown;
    }
    let why = format!(
        "What was read there is another batch: {} records, producer {} epoch {} sequence {}.",
        there.count, there.producer_id, there.producer_epoch, there.sequence
    );
    let are_there = there.content == told.content;
    if are_there || there.is_same_write(told) || there.count < told.count || told.keyed {
        return Judged::Broken(batch.mark, why);
    }
    Judged::Replaced(batch.mark, why)
}

/// Whether a record has a key that no later one has, in a log that was read to its end: compaction
/// keeps such a record.
fn is_lasting(ack: &Ack, log: &Log, keys_behind: u32) -> bool {
    let read_to_end = log.end.is_some_and(|(end, _)| log.is_covered(ack.base, end - 1));
    read_to_end && ack.body.lasting_keys & !keys_behind != 0
}

/// An acknowledgement of which no batch was read.
fn absent(
    ack: &Ack,
    log: &Log,
    keys_behind: &mut Option<Vec<u32>>,
    broker: impl Fn(u64) -> Option<std::net::SocketAddr>,
) -> Judged {
    if ack.base < log.log_start {
        return Judged::Unknown;
    }
    if let Some((from, to)) = log.stretch(ack.base) {
        // What was read from there on begins above it.
        let after = log.batches.partition_point(|batch| batch.base <= ack.base);
        return match log.batches.get(after) {
            Some(next)
                if next.base <= to
                    && (!log.may_be_compacted(&ack.body) || {
                        let behind = keys_behind.get_or_insert_with(|| log.keys_behind());
                        is_lasting(ack, log, next.body.keys | behind[after])
                    }) =>
            {
                let why = format!(
                    "The log was read from {from} to {to} without a hole, and nothing is there."
                );
                Judged::Skipped(next.mark, why)
            }
            _ => Judged::Unknown,
        };
    }
    // A leader that has just been elected may say less for a while than the one before it.
    let led = broker(ack.mark.connection());
    let later = log.reigns.iter().find(|reign| {
        let (end, mark) = &reign.end;
        Some(reign.broker) == led
            && reign.since.is_before(&ack.mark)
            && *end <= ack.base
            && ack.mark.is_before(mark)
            && ack.mark.ns_until(mark) >= SETTLED_NS
    });
    match later.map(|reign| reign.end) {
        Some((end, mark)) => {
            let why = format!(
                "Later the same broker, which led the partition since before, says that its log \
                 ends at {end}."
            );
            Judged::Broken(mark, why)
        }
        None => Judged::Unknown,
    }
}
