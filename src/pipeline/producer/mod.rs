//! A producer as applications have one.
//!
//! Never: sends a batch under another sequence while it may have been written.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ids::Offset;

use super::attempt::Attempt;
use super::cluster::Cluster;
use super::policy::RetryPolicy;
use super::trouble::{OpenFailed, Trouble};
use crate::client::cluster::TopicPartition;
use crate::client::producer::{Acks, ProducerState};
use crate::client::transaction::Membership;
use crate::client::versions::TransactionVersion;
use crate::history::outcome::Outcome;

/// How a producer behaves.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Transactions under this id; none means no transactions.
    pub transactional_id: Option<String>,
    /// Who must acknowledge a write.
    pub acks: Acks,
    /// Whether batches carry sequences (`enable.idempotence`); transactions need it.
    pub idempotence: bool,
    /// When the coordinator aborts a transaction left alone.
    pub transaction_timeout: Duration,
    /// Requests in flight to one broker; the broker remembers five batches of a producer.
    pub max_in_flight: usize,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Transactions of this version; none means what the cluster has in force.
    pub transaction_version: Option<TransactionVersion>,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            transactional_id: None,
            acks: Acks::All,
            idempotence: true,
            transaction_timeout: Duration::from_secs(60),
            max_in_flight: 5,
            retry: RetryPolicy::default(),
            transaction_version: None,
        }
    }
}

/// A record to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Milliseconds since 1970; absent means now.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record with a value and nothing else.
    #[must_use]
    pub fn of(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }
}

/// Names one send of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub u64);

/// What is known of a send.
#[derive(Debug, Clone, PartialEq)]
pub struct SendReport {
    /// Whether nothing more will be learned or tried. Before that, `outcome` is what would be
    /// known if the process stopped now.
    pub settled: bool,
    /// What is known of it.
    pub outcome: Outcome,
    /// Where it was acknowledged, if the broker said so.
    pub offset: Option<Offset>,
    /// Why it is not ok.
    pub error: Option<Trouble>,
    /// Every Produce that carried it.
    pub attempts: Vec<Attempt>,
}

/// What became of a commit, an abort or a commit of offsets.
#[derive(Debug, Clone, PartialEq)]
pub struct TxnReport {
    /// What is known of the *transaction* by now: ok is committed, fail is not and never will be.
    pub outcome: Outcome,
    /// Why the call did not do what it should; none means it did.
    pub error: Option<Trouble>,
    /// Every request of the call.
    pub attempts: Vec<Attempt>,
    /// Nothing but an abort can follow.
    pub must_abort: bool,
    /// Nothing can follow: close this producer and open another.
    pub must_close: bool,
}

/// Something a producer did that an application would not see.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// When, in nanoseconds since the start of the run.
    pub time_ns: u64,
    /// What.
    pub what: String,
}

/// A producer.
pub struct Producer {
    state: ProducerState,
}

impl Producer {
    /// Opens one: InitProducerId, with the retries the policy allows.
    ///
    /// # Errors
    /// Where no producer id was given.
    pub async fn open(cluster: &Cluster, config: ProducerConfig) -> Result<Self, OpenFailed> {
        let _ = (cluster, config);
        Ok(Self { state: ProducerState::plain() })
    }

    /// Its producer id, producer epoch and next sequences.
    #[must_use]
    pub fn state(&self) -> &ProducerState {
        &self.state
    }

    /// Queues a record. Nothing is sent before [`Producer::dispatch`] or [`Producer::settle`].
    pub fn send(&mut self, partition: TopicPartition, record: Record) -> SendId {
        let _ = (partition, record);
        SendId(0)
    }

    /// Puts what is queued on the wire and does not wait for answers, where `max_in_flight`
    /// allows; the rest goes with a later call.
    pub async fn dispatch(&mut self) {}

    /// Waits until every send has its outcome.
    pub async fn settle(&mut self) {}

    /// What is known of a send.
    ///
    /// # Panics
    /// Where the send was forgotten already.
    #[must_use]
    pub fn report(&self, id: SendId) -> &SendReport {
        panic!("send {id:?} was forgotten")
    }

    /// Forgets all settled sends; their reports cannot be asked for any more.
    pub fn forget_settled(&mut self) {}

    /// What it did unseen, since last asked: epochs raised, sequences begun again.
    pub fn take_notes(&mut self) -> Vec<Note> {
        Vec::new()
    }

    /// Requests made besides Produce and those in reports (metadata, connections, coordinators).
    pub fn take_attempts(&mut self) -> Vec<Attempt> {
        Vec::new()
    }

    /// Why it can do nothing any more; none means it can.
    #[must_use]
    pub fn closed(&self) -> Option<&Trouble> {
        None
    }

    /// Begins a transaction; nothing is sent.
    ///
    /// # Errors
    /// Where one is open, or the producer is closed or not transactional.
    pub fn begin(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    /// Commits offsets within the transaction (`sendOffsetsToTransaction`): AddOffsetsToTxn under
    /// version 1, then TxnOffsetCommit.
    pub async fn send_offsets(
        &mut self,
        membership: &Membership,
        offsets: &[(TopicPartition, Offset)],
    ) -> TxnReport {
        let _ = (membership, offsets);
        self.abort().await
    }

    /// Settles all sends and commits.
    pub async fn commit(&mut self) -> TxnReport {
        self.abort().await
    }

    /// Gives up what is queued, waits for what is in flight, and aborts.
    pub async fn abort(&mut self) -> TxnReport {
        TxnReport {
            outcome: Outcome::Fail,
            error: None,
            attempts: Vec::new(),
            must_abort: false,
            must_close: false,
        }
    }
}
