//! What every check of exchanges shares while facts come by.

use serde_json::{Value as Json, json};

use super::invariant::Invariant;
use super::ledger::Ledger;
use super::log::Logs;
use super::mark::Mark;
use crate::history::facts::Seen;
use crate::history::facts::topics::{Cluster, LogId, Topics};

/// The ledger, the topics and the logs.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) ledger: Ledger,
    pub(super) topics: Topics,
    pub(super) logs: Logs,
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

impl Stage {
    pub(super) fn new(cases_max: usize) -> Self {
        Self {
            ledger: Ledger::new(cases_max),
            topics: Topics::default(),
            logs: Logs::default(),
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
        for suspicion in std::mem::take(&mut self.suspicions) {
            let Suspicion { invariant, log, fields, marks, explanation } = suspicion;
            if self.topics.is_certain_by_name(log) {
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
