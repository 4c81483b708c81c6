//! A consumer as applications have one.
//!
//! Never: returns a record twice without being told to (seek, assign, reset).

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ids::Offset;

use super::attempt::Attempt;
use super::cluster::Cluster;
use super::policy::RetryPolicy;
use super::trouble::{OpenFailed, Trouble};
use crate::client::cluster::TopicPartition;
use crate::client::fetch::{IsolationLevel, Limits};
use crate::client::offsets::Answers;
use crate::client::transaction::Membership;

/// Where to begin when there is no committed offset, or it is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AutoOffsetReset {
    /// At the log start offset.
    Earliest,
    /// At the end.
    Latest,
    /// Nowhere: an error.
    None,
}

/// How a consumer behaves.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Its group, for committed offsets and subscriptions.
    pub group_id: Option<String>,
    /// Which records it is shown.
    pub isolation: IsolationLevel,
    /// Where to begin when nothing else says.
    pub auto_offset_reset: AutoOffsetReset,
    /// Commit positions now and then.
    pub enable_auto_commit: bool,
    /// How often.
    pub auto_commit_interval: Duration,
    /// Limits of one Fetch.
    pub limits: Limits,
    /// Incremental fetch sessions (KIP-227).
    pub sessions: bool,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group_id: None,
            isolation: IsolationLevel::ReadCommitted,
            auto_offset_reset: AutoOffsetReset::Earliest,
            enable_auto_commit: false,
            auto_commit_interval: Duration::from_secs(5),
            limits: Limits::default(),
            sessions: true,
            retry: RetryPolicy::default(),
        }
    }
}

/// Where an assigned partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// At the group's committed offset, else by `auto_offset_reset`.
    Committed,
    /// At the log start offset.
    Beginning,
    /// At the end.
    End,
}

/// What one poll brought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PollReport {
    /// Records per partition in the order the broker has them: offset and value.
    pub records: Vec<(TopicPartition, Vec<(Offset, Option<Bytes>)>)>,
    /// Why some partition brought nothing, where that is more than silence.
    pub error: Option<Trouble>,
    /// What was seen and dealt with, in words: bad batches, resets, sessions begun again.
    pub noted: Vec<String>,
    /// Requests that ended during the poll.
    pub attempts: Vec<Attempt>,
}

/// A consumer.
pub struct Consumer {
    assigned: Vec<TopicPartition>,
}

impl Consumer {
    /// Opens one; nothing is asked yet.
    ///
    /// # Errors
    /// None yet.
    pub async fn open(cluster: &Cluster, config: ConsumerConfig) -> Result<Self, OpenFailed> {
        let _ = (cluster, config);
        Ok(Self { assigned: Vec::new() })
    }

    /// Reads these partitions from now on and no others. Partitions it had already keep their
    /// position where `start` is [`Start::Committed`] (as Java's `assign` does).
    pub fn assign(&mut self, partitions: &[TopicPartition], start: Start) {
        let _ = start;
        self.assigned = partitions.to_vec();
    }

    /// The partitions it reads.
    #[must_use]
    pub fn assignment(&self) -> &[TopicPartition] {
        &self.assigned
    }

    /// Reads a partition from this offset on. Returns whether it is assigned.
    pub fn seek(&mut self, partition: &TopicPartition, to: Offset) -> bool {
        let _ = to;
        self.assigned.contains(partition)
    }

    /// Brings records: at once where some are buffered, else as soon as an answer brings any, else
    /// after `max_wait`. With a wait of zero: one round trip to each leader and back.
    pub async fn poll(&mut self, max_wait: Duration) -> PollReport {
        let _ = max_wait;
        PollReport::default()
    }

    /// The next offset of a partition, where it is known.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let _ = partition;
        None
    }

    /// How it names itself when it commits.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        None
    }

    /// Commits offsets to the group, with retries.
    ///
    /// # Errors
    /// Where no answer came, or the group refuses; codes of partitions are in the answers.
    pub async fn commit(
        &mut self,
        offsets: &[(TopicPartition, Offset)],
        attempts: &mut Vec<Attempt>,
    ) -> Result<Answers<()>, Trouble> {
        let _ = (offsets, attempts);
        Ok(Answers::new())
    }

    /// The group's committed offsets; −1 where there is none.
    ///
    /// # Errors
    /// Where no answer came, or the group refuses.
    pub async fn committed(
        &mut self,
        partitions: &[TopicPartition],
        attempts: &mut Vec<Attempt>,
    ) -> Result<Answers<Offset>, Trouble> {
        let _ = (partitions, attempts);
        Ok(Answers::new())
    }

    /// The end of partitions: last stable offset under `read_committed`, else high watermark.
    ///
    /// # Errors
    /// Where no answer came.
    pub async fn end_offsets(
        &mut self,
        partitions: &[TopicPartition],
        attempts: &mut Vec<Attempt>,
    ) -> Result<Answers<Offset>, Trouble> {
        let _ = (partitions, attempts);
        Ok(Answers::new())
    }
}
