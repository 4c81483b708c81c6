//! How a producer behaves, and what it is given to send.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::batch::Compression;

use crate::client::producer::Acks;
use crate::client::versions::TransactionVersion;
use crate::pipeline::policy::RetryPolicy;

/// How a producer behaves.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// `client_id` of its requests; none means that of the cluster's conduct.
    pub client_id: Option<String>,
    /// Transactions under this id; none means no transactions.
    pub transactional_id: Option<String>,
    /// Who must acknowledge a write.
    pub acks: Acks,
    /// Whether batches carry sequences (`enable.idempotence`); transactions need it, and it needs
    /// acks=all.
    pub idempotence: bool,
    /// When the coordinator aborts a transaction left alone.
    pub transaction_timeout: Duration,
    /// How batches are compressed.
    pub compression: Compression,
    /// A batch is cut before it grows beyond this; one record may.
    pub batch_bytes_max: usize,
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
            client_id: None,
            transactional_id: None,
            acks: Acks::All,
            idempotence: true,
            transaction_timeout: Duration::from_secs(60),
            compression: Compression::None,
            batch_bytes_max: 900_000,
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
    /// Milliseconds since 1970; absent means when its batch was made.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record with a value and nothing else.
    #[must_use]
    pub fn of(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// Bytes it takes in a batch, at most.
    pub(super) fn bytes_max(&self) -> usize {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        length(&self.key) + length(&self.value) + 40
    }
}
