//! What can be asked of the queue workload.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::fetch::IsolationLevel;
use crate::client::producer::Acks;
use crate::pipeline::{AutoOffsetReset, GroupProtocol, RetryPolicy};

/// How a consumer is bound to partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubVia {
    /// By hand.
    Assign,
    /// Through its group.
    Subscribe,
}

/// Everything the queue workload depends on; the same options, seed and answers give the same
/// operations.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueOptions {
    /// How many processes at a time.
    pub concurrency: u32,
    /// How long the main phase lasts.
    pub time_limit: Duration,
    /// How long the final polls may last.
    pub final_time_limit: Duration,
    /// Operations a second over all processes; absent means as fast as answers come.
    pub rate_hz: Option<f64>,
    /// Whether operations are transactions.
    pub txn: bool,
    /// Chance of an intended abort before each micro-operation and once before the commit.
    pub abort_p: f64,
    /// Chance that an operation is replaced by an assign or subscribe.
    pub sub_p: f64,
    /// The ways to bind a consumer.
    pub sub_via: Vec<SubVia>,
    /// Values sent to one key before another takes its place.
    pub max_writes_per_key: u32,
    /// How many keys are written at a time.
    pub active_keys: u32,
    /// How often a process crashes on purpose; absent means never.
    pub crash_interval: Option<Duration>,
    /// Whether a process that crashes is followed by one with its transactional id, and sends what
    /// it held only then.
    pub zombies: bool,
    /// How long a poll of the main phase waits for records.
    pub poll_wait: Duration,
    /// How many processes read everything back at the end.
    pub final_readers: u32,
    /// Whether each send waits for its own acknowledgement, as Jepsen's client does.
    pub one_in_flight: bool,
    /// What the names of topics, transactional ids and groups begin with.
    pub prefix: String,
    /// Which records are shown.
    pub isolation: IsolationLevel,
    /// Who must acknowledge a write.
    pub acks: Acks,
    /// Whether batches carry sequences.
    pub idempotence: bool,
    /// Where a consumer without a committed offset begins.
    pub auto_offset_reset: AutoOffsetReset,
    /// Which protocol consumers that subscribe speak.
    pub group_protocol: GroupProtocol,
    /// How long and how often clients try.
    pub retry: RetryPolicy,
    /// Whether consumers commit on their own.
    pub auto_commit: bool,
    /// When the coordinator gives up a transaction.
    pub transaction_timeout_ms: i32,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn options() -> QueueOptions {
        QueueOptions {
            concurrency: 10,
            time_limit: Duration::from_secs(10),
            final_time_limit: Duration::from_secs(20),
            rate_hz: None,
            txn: true,
            abort_p: 0.1,
            sub_p: 1.0 / 64.0,
            sub_via: vec![SubVia::Assign],
            max_writes_per_key: 1024,
            active_keys: 10,
            crash_interval: None,
            zombies: false,
            poll_wait: Duration::ZERO,
            final_readers: 2,
            one_in_flight: false,
            prefix: String::new(),
            isolation: IsolationLevel::ReadCommitted,
            acks: Acks::All,
            idempotence: true,
            auto_offset_reset: AutoOffsetReset::Earliest,
            group_protocol: GroupProtocol::Classic,
            retry: RetryPolicy::default(),
            auto_commit: false,
            transaction_timeout_ms: 1000,
        }
    }
}
