//! What every check of exchanges shares while facts come by.

use serde_json::{Value as Json, json};

use super::ledger::Ledger;
use super::log::Logs;
use super::topics::{Cluster, LogId, Topics};
use crate::history::facts::Seen;

/// The ledger, the topics and the logs.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) ledger: Ledger,
    pub(super) topics: Topics,
    pub(super) logs: Logs,
}

impl Stage {
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
