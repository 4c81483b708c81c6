//! L3, L4, L5 and L8, and what became of each transactional batch: a walk along each log.
//!
//! Needs to have seen: the log, as fetches returned it. What rests on nothing standing between two
//! batches (L3, L5, the fate of a batch) is checked only where that stretch was read without a
//! hole; L3 also only where no offset of it is missing, so that nothing was compacted away.
//!
//! Not checked: sequences after twelve hours of silence, when a broker may have forgotten the
//! producer; transactions whose marker is not in the stretch that was read, unless the log was
//! read to its end 90 seconds after the coordinator had said that it is decided.

use rustc_hash::FxHashMap;
use serde_json::json;

use super::identity::Identity;
use super::invariant::Invariant::{self, L3, L4, L5, L8, P2};
use super::log::{Batch, Body, Kind, Log};
use super::mark::Mark;
use super::stage::Stage;
use crate::history::facts::topics::LogId;

/// Batches of a producer among which a second copy is looked for.
const RECENT: usize = 5;
/// After so long a broker may have forgotten a producer (`producer.id.expiration.ms` is a day).
const FORGOTTEN_MS: u64 = 12 * 3_600_000;

/// What became of a transactional batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate {
    /// The batch, by its place in the log.
    pub(super) batch: usize,
    /// The offset of the first batch of its transaction in this log, where that is known.
    pub(super) begins: i64,
    /// The place of the marker that decided it.
    pub(super) marker: usize,
}

impl Fate {
    /// Whether the batch is the first of its transaction in this log.
    pub(super) fn is_first(&self, log: &Log) -> bool {
        log.batches[self.batch].base == self.begins
    }
}

/// What is known of a producer at one place of the walk.
#[derive(Debug, Clone, Default)]
struct Producer {
    /// The place of its last batch.
    at: usize,
    epoch: i16,
    /// The sequence that follows; absent where no data of this epoch was seen.
    next_sequence: Option<i32>,
    /// Data without a marker, by place.
    open: Vec<usize>,
    recent: Vec<(i64, Body)>,
    last: Option<Mark>,
    timestamp_ms: i64,
}

/// A break found while a log cannot be changed.
struct Broken {
    invariant: Invariant,
    offset: i64,
    marks: Vec<Mark>,
    why: String,
}

/// Walks along a log; returns what became of its transactional batches.
pub(super) fn walk(stage: &mut Stage, id: LogId) -> Vec<Fate> {
    let certain_by_name = stage.topics.is_certain_by_name(id);
    let Stage { ledger, topics, logs, .. } = stage;
    let log = &*logs.of(id);
    let mut walk = Walk {
        log,
        shows_markers: log.batches.iter().any(|batch| batch.body.kind.is_marker()),
        producers: FxHashMap::default(),
        hole_at: 0,
        missing_at: 0,
        fates: Vec::new(),
        found: Vec::new(),
    };
    let mut leader: Option<&Batch> = None;
    let mut previous: Option<&Batch> = None;
    for (at, batch) in log.batches.iter().enumerate() {
        if !certain_by_name && batch.by_name {
            // Two logs of one name may be mixed here.
            ledger.unknown(L8);
            previous = None;
            walk.producers.clear();
            continue;
        }
        if previous.is_some_and(|previous| !log.is_covered(previous.base, batch.last)) {
            walk.hole_at = at;
        } else if previous.is_some_and(|previous| previous.last + 1 != batch.base) {
            walk.missing_at = at;
        }
        match leader {
            Some(leader) if batch.leader_epoch >= 0 && batch.leader_epoch < leader.leader_epoch => {
                walk.found.push(Broken {
                    invariant: L8,
                    offset: batch.base,
                    marks: vec![leader.mark, batch.mark],
                    why: format!(
                        "the batch at offset {} is of leader epoch {}, the one at {} of {}: a \
                         later place in the log, written under an earlier leader.",
                        leader.base, leader.leader_epoch, batch.base, batch.leader_epoch
                    ),
                });
            }
            _ => ledger.held(L8),
        }
        leader = leader.filter(|l| l.leader_epoch > batch.leader_epoch).or(Some(batch));
        if batch.body.producer_id >= 0 {
            let counts = walk.producer(at, batch);
            for (invariant, is_checked) in counts {
                if is_checked { ledger.held(invariant) } else { ledger.unknown(invariant) }
            }
        }
        previous = Some(batch);
    }
    let Walk { fates, mut found, .. } = walk;
    if !found.is_empty() && log.batches.iter().any(|batch| batch.by_name) {
        let identity = Identity::of(log);
        let is_one = |broken: &Broken| identity.is_one(topics, id, &broken.marks);
        let count = found.len();
        found.retain(is_one);
        if found.len() < count {
            topics.doubt(id);
        }
    }
    for Broken { invariant, offset, marks, why } in found {
        let explanation = format!("In {}, {why}", stage.words(id));
        let fields = stage.place(id, offset);
        stage.ledger.broken(invariant, fields, &marks, explanation);
    }
    fates
}

struct Walk<'l> {
    log: &'l Log,
    /// Some brokers show no markers at all.
    shows_markers: bool,
    producers: FxHashMap<i64, Producer>,
    /// The last place before which it is not known what stands there.
    hole_at: usize,
    /// The last before which offsets are missing though everything was read: compacted, perhaps.
    missing_at: usize,
    fates: Vec<Fate>,
    found: Vec<Broken>,
}

impl Walk<'_> {
    /// Whether a batch of a transaction and a later one have no marker between them that is not here
    /// any more. Compaction takes a marker after all of its transaction; but the batch may have been
    /// read before, and what is behind it only afterwards.
    fn has_no_marker_between(&self, batch: usize, later: usize) -> bool {
        let batches = &self.log.batches;
        if batch >= self.missing_at {
            return true;
        }
        let between = (batches[batch].last + 1, batches[later].base - 1);
        self.log.was_read_beside(&batches[batch], between)
    }

    fn broken(&mut self, invariant: Invariant, at: usize, before: Option<Mark>, why: String) {
        let batch = &self.log.batches[at];
        let marks = before.into_iter().chain([batch.mark]).collect();
        self.found.push(Broken { invariant, offset: batch.base, marks, why });
    }

    /// A batch of a producer. Returns which invariants held, and which could not be checked.
    fn producer(&mut self, at: usize, batch: &Batch) -> Vec<(Invariant, bool)> {
        let mut counts = Vec::new();
        let id = batch.body.producer_id;
        let mut state = self.producers.remove(&id).unwrap_or_else(|| Producer {
            epoch: batch.body.producer_epoch,
            ..Producer::default()
        });
        if state.at < self.hole_at {
            state.open.clear();
        }
        if state.at < self.hole_at.max(self.missing_at) {
            state.next_sequence = None;
        }
        state.at = at;
        let epoch = batch.body.producer_epoch;
        if epoch < state.epoch {
            let why = format!(
                "producer {id} writes with epoch {epoch} at offset {}, behind its own epoch {}.",
                batch.base, state.epoch
            );
            self.broken(L4, at, state.last, why);
        } else {
            counts.push((L4, state.last.is_some()));
        }
        if batch.body.kind.is_marker() {
            self.marker(at, &mut state);
            counts.push((L5, true));
        } else if batch.body.kind.is_data() && batch.body.sequence >= 0 {
            self.data(at, batch, &mut state, &mut counts);
        }
        if epoch > state.epoch {
            state.epoch = epoch;
            // A marker of a new epoch (KIP-890, or a fenced transaction) begins it.
            if batch.body.kind.is_marker() {
                state.next_sequence = state.next_sequence.map(|_| 0);
            }
        }
        state.last = Some(batch.mark);
        self.producers.insert(id, state);
        counts
    }

    fn marker(&mut self, at: usize, state: &mut Producer) {
        if !state.open.iter().all(|&batch| self.has_no_marker_between(batch, at)) {
            return state.open.clear();
        }
        let begins = state.open.first().map_or(0, |&first| self.log.batches[first].base);
        for batch in state.open.drain(..) {
            self.fates.push(Fate { batch, begins, marker: at });
        }
    }

    fn data(
        &mut self,
        at: usize,
        batch: &Batch,
        state: &mut Producer,
        counts: &mut Vec<(Invariant, bool)>,
    ) {
        let Body { producer_id: id, producer_epoch: epoch, sequence, .. } = batch.body;
        // A producer that was forgotten with what it had written may count from 0 again.
        let known = state.recent.iter().filter(|(base, _)| *base >= self.log.log_start);
        let copy = known.copied().find(|(_, body)| body.is_same(&batch.body));
        if state.recent.last().is_some_and(|(base, _)| *base < self.log.log_start) {
            state.next_sequence = None;
        }
        let is_new_epoch = epoch > state.epoch;
        if batch.timestamp_ms.abs_diff(state.timestamp_ms) > FORGOTTEN_MS {
            state.next_sequence = None;
        }
        state.timestamp_ms = batch.timestamp_ms;
        let expected =
            if is_new_epoch { state.next_sequence.map(|_| 0) } else { state.next_sequence };
        match (copy, expected) {
            (Some((first, _)), _) => {
                let why = format!(
                    "the batch of producer {id} epoch {epoch} with sequence {sequence} stands at \
                     offset {first} and again at {}.",
                    batch.base
                );
                self.broken(P2, at, state.last, why);
            }
            (None, Some(expected)) if expected != sequence && epoch >= state.epoch => {
                let why = format!(
                    "producer {id} epoch {epoch} writes sequence {sequence} at offset {}, where \
                     {expected} follows: records are lost or doubled.",
                    batch.base
                );
                self.broken(L3, at, state.last, why);
            }
            (None, expected) => counts.push((L3, expected.is_some())),
        }
        // Compaction leaves a producer's last batch without records, and may take its marker.
        if batch.body.kind == Kind::Transactional && batch.body.count > 0 {
            let is_torn = |open: &usize| {
                self.shows_markers
                    && self.log.batches[*open].body.producer_epoch < epoch
                    && self.has_no_marker_between(*open, at)
            };
            if let Some(open) = state.open.first().copied().filter(is_torn) {
                let open = self.log.batches[open];
                let why = format!(
                    "producer {id} begins a transaction with epoch {epoch} at offset {}, while \
                     that of epoch {} at offset {} has no marker yet.",
                    batch.base, open.body.producer_epoch, open.base
                );
                self.broken(L5, at, Some(open.mark), why);
                state.open.clear();
            }
            state.open.push(at);
        }
        let after = (i64::from(sequence) + (batch.last - batch.base) + 1) & 0x7fff_ffff;
        state.next_sequence = Some(after as i32);
        if state.recent.len() >= RECENT {
            state.recent.remove(0);
        }
        state.recent.push((batch.base, batch.body));
    }
}

/// A transaction that was said to be decided, and has no marker though the log was read to its
/// end long after.
pub(super) fn unclosed(stage: &mut Stage, id: LogId, batch: &Batch, end: &Mark) {
    let mut fields = stage.place(id, batch.base);
    fields.push(("producer_id", json!(batch.body.producer_id)));
    let explanation = format!(
        "In {}, the batch of producer {} epoch {} at offset {} is followed by no marker of its \
         producer up to the end of the log, which was read more than 90 seconds after EndTxn was \
         answered with success: the transaction hangs.",
        stage.words(id),
        batch.body.producer_id,
        batch.body.producer_epoch,
        batch.base
    );
    stage.ledger.broken(L5, fields, &[batch.mark, *end], explanation);
}
