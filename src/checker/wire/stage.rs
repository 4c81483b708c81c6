//! What every check of exchanges shares while facts come by.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value as Json, json};

use super::identity::Identity;
use super::invariant::Invariant;
use super::ledger::Ledger;
use super::log::{Ack, Batch, Logs};
use super::mark::Mark;
use crate::history::facts::Seen;
use crate::history::facts::topics::{Cluster, LogId, Topics};

/// What was not seen, though something that was seen speaks of it.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    /// Connections that were there before the capture.
    pub(super) begun_before: u64,
    /// Responses of which the request is not here.
    pub(super) responses_alone: u64,
    /// Requests of which the response is not here.
    pub(super) requests_alone: u64,
    /// Batches that were acknowledged, with offsets that nobody was seen to read past.
    pub(super) acknowledged: u64,
    producers: FxHashSet<(Cluster, i64)>,
}

impl Unseen {
    /// A producer of which it was not seen who got its id.
    pub(super) fn producer(&mut self, of: (Cluster, i64)) {
        if self.producers.len() < PRODUCERS_MAX {
            self.producers.insert(of);
        }
    }

    /// In words, what there is of it.
    pub(super) fn words(&self) -> Option<String> {
        let said = [
            (self.begun_before, "how connections began"),
            (self.responses_alone, "the requests of responses"),
            (self.requests_alone, "the responses to requests"),
            (self.producers.len() as u64, "how producers got their ids"),
            (self.acknowledged, "acknowledged batches read back"),
        ];
        let some = said.into_iter().filter(|(count, _)| *count > 0);
        let some: Vec<String> = some.map(|(count, what)| format!("{what} ({count})")).collect();
        (!some.is_empty()).then(|| format!("not seen: {}", some.join(", ")))
    }
}

/// The ledger, the topics and the logs.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) ledger: Ledger,
    pub(super) topics: Topics,
    pub(super) logs: Logs,
    pub(super) unseen: Unseen,
    /// Breaks that are none if the topic's name turns out to have meant two topics.
    suspicions: Vec<Suspicion>,
}

#[derive(Debug)]
struct Suspicion {
    invariant: Invariant,
    log: LogId,
    fields: Vec<(&'static str, Json)>,
    marks: Vec<Mark>,
    explanation: String,
}

/// Suspicions that are kept; of more, none is named.
const SUSPICIONS_MAX: usize = 20_000;
/// Producers of which it is counted that they were given their id unseen.
const PRODUCERS_MAX: usize = 100_000;

impl Stage {
    pub(super) fn new(cases_max: usize) -> Self {
        Self {
            ledger: Ledger::new(cases_max),
            topics: Topics::default(),
            logs: Logs::default(),
            unseen: Unseen::default(),
            suspicions: Vec::new(),
        }
    }

    /// Something is broken in a log. What rests on the topic's name is named only at the end: a
    /// topic created anew is often known by its other id only later.
    pub(super) fn broken(
        &mut self,
        invariant: Invariant,
        (log, by_name): (LogId, bool),
        fields: Vec<(&'static str, Json)>,
        marks: &[Mark],
        explanation: String,
    ) {
        if !by_name {
            self.ledger.broken(invariant, fields, marks, explanation);
        } else if self.suspicions.len() < SUSPICIONS_MAX && self.topics.is_certain_by_name(log) {
            let marks = marks.to_vec();
            self.suspicions.push(Suspicion { invariant, log, fields, marks, explanation });
        } else {
            self.ledger.unknown(invariant);
        }
    }

    /// No more is learnt of topics.
    pub(super) fn settle(&mut self) {
        let suspicions = std::mem::take(&mut self.suspicions);
        let mut identities: FxHashMap<LogId, Identity> = FxHashMap::default();
        let is_one = |suspicion: &Suspicion| {
            let Suspicion { log, marks, .. } = suspicion;
            let identity =
                identities.entry(*log).or_insert_with(|| Identity::of(self.logs.of(*log)));
            identity.is_one(&self.topics, *log, marks)
        };
        let ones: Vec<bool> = suspicions.iter().map(is_one).collect();
        for (suspicion, is_one) in suspicions.into_iter().zip(ones) {
            let Suspicion { invariant, log, fields, marks, explanation } = suspicion;
            let is_certain = self.topics.is_certain_by_name(log);
            if !is_one {
                self.topics.doubt(log);
            }
            if is_certain && is_one {
                self.ledger.broken(invariant, fields, &marks, explanation);
            } else {
                self.ledger.unknown(invariant);
            }
        }
    }

    /// The cluster an exchange was with.
    pub(super) fn cluster(&self, seen: &Seen) -> Cluster {
        self.topics.cluster(self.ledger.broker(seen.connection.0))
    }

    /// What the producer was told of the batch at its place, if it is that batch.
    pub(super) fn certain_ack(&mut self, id: LogId, batch: &Batch) -> Option<Ack> {
        let certain = self.topics.is_certain_by_name(id);
        let ack = *self.logs.of(id).ack_at(batch.base)?;
        let is_it = ack.body.is_same(&batch.body);
        (is_it && (certain || !ack.by_name && !batch.by_name)).then_some(ack)
    }

    /// Topic, partition and offset, as fields of a case.
    pub(super) fn place(&self, log: LogId, offset: i64) -> Vec<(&'static str, Json)> {
        let (topic, partition) = self.topics.names(log);
        vec![("topic", json!(topic)), ("partition", json!(partition)), ("offset", json!(offset))]
    }

    /// The same in words.
    pub(super) fn words(&self, log: LogId) -> String {
        let (topic, partition) = self.topics.names(log);
        format!("{topic}-{partition}")
    }
}
