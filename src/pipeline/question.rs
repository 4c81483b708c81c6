//! Requests to coordinators as values: what is asked, and what error code an answer carries.

use std::future::Future;

use kafka_wire::ids::{Offset, ProducerEpoch, ProducerId};
use kafka_wire::{ApiKey, ErrorCode};

use crate::client::cluster::TopicPartition;
use crate::client::offsets::{self, Answers};
use crate::client::producer::init_producer_id;
use crate::client::transaction::{self, Ended, Membership, Owner};
use crate::client::{Connection, Fate};

/// A request that may be made several times.
pub(crate) trait Question: Sync {
    /// What comes back where something does.
    type Answer: Send;

    /// Which API.
    const API_KEY: ApiKey;

    /// Makes one attempt.
    fn put(
        &self,
        connection: &Connection,
        api_version: i16,
    ) -> impl Future<Output = Result<Self::Answer, Fate>> + Send;

    /// The error code that decides whether to ask again.
    fn code(answer: &Self::Answer) -> ErrorCode;
}

/// The first error of any partition.
pub(crate) fn first_error<T>(answers: &Answers<T>) -> ErrorCode {
    answers.values().find_map(|answer| answer.as_ref().err().copied()).unwrap_or(ErrorCode::NONE)
}

/// InitProducerId.
pub(crate) struct Init<'a> {
    pub(crate) transactional_id: Option<&'a str>,
    pub(crate) transaction_timeout_ms: i32,
    pub(crate) current: Option<(ProducerId, ProducerEpoch)>,
}

impl Question for Init<'_> {
    type Answer = Result<(ProducerId, ProducerEpoch), ErrorCode>;
    const API_KEY: ApiKey = ApiKey::INIT_PRODUCER_ID;

    async fn put(&self, connection: &Connection, version: i16) -> Result<Self::Answer, Fate> {
        let Self { transactional_id: id, transaction_timeout_ms: timeout_ms, current } = *self;
        init_producer_id(connection, version, id, timeout_ms, current).await
    }

    fn code(answer: &Self::Answer) -> ErrorCode {
        answer.err().unwrap_or(ErrorCode::NONE)
    }
}

/// AddPartitionsToTxn.
pub(crate) struct AddPartitions<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) partitions: &'a [TopicPartition],
}

impl Question for AddPartitions<'_> {
    type Answer = ErrorCode;
    const API_KEY: ApiKey = ApiKey::ADD_PARTITIONS_TO_TXN;

    async fn put(&self, connection: &Connection, version: i16) -> Result<ErrorCode, Fate> {
        transaction::add_partitions(connection, version, self.owner, self.partitions).await
    }

    fn code(answer: &ErrorCode) -> ErrorCode {
        *answer
    }
}

/// AddOffsetsToTxn.
pub(crate) struct AddOffsets<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) group_id: &'a str,
}

impl Question for AddOffsets<'_> {
    type Answer = ErrorCode;
    const API_KEY: ApiKey = ApiKey::ADD_OFFSETS_TO_TXN;

    async fn put(&self, connection: &Connection, version: i16) -> Result<ErrorCode, Fate> {
        transaction::add_offsets(connection, version, self.owner, self.group_id).await
    }

    fn code(answer: &ErrorCode) -> ErrorCode {
        *answer
    }
}

/// TxnOffsetCommit.
pub(crate) struct CommitInTxn<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) membership: &'a Membership,
    pub(crate) offsets: &'a [(TopicPartition, Offset)],
}

impl Question for CommitInTxn<'_> {
    type Answer = ErrorCode;
    const API_KEY: ApiKey = ApiKey::TXN_OFFSET_COMMIT;

    async fn put(&self, connection: &Connection, version: i16) -> Result<ErrorCode, Fate> {
        let Self { owner, membership, offsets } = *self;
        transaction::commit_offsets(connection, version, owner, membership, offsets).await
    }

    fn code(answer: &ErrorCode) -> ErrorCode {
        *answer
    }
}

/// EndTxn.
pub(crate) struct End<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) commit: bool,
}

impl Question for End<'_> {
    type Answer = Ended;
    const API_KEY: ApiKey = ApiKey::END_TXN;

    async fn put(&self, connection: &Connection, version: i16) -> Result<Ended, Fate> {
        transaction::end(connection, version, self.owner, self.commit).await
    }

    fn code(answer: &Ended) -> ErrorCode {
        answer.error
    }
}

/// OffsetFetch.
pub(crate) struct FetchOffsets<'a> {
    pub(crate) group_id: &'a str,
    pub(crate) require_stable: bool,
    pub(crate) partitions: &'a [TopicPartition],
}

impl Question for FetchOffsets<'_> {
    type Answer = Result<Answers<Offset>, ErrorCode>;
    const API_KEY: ApiKey = ApiKey::OFFSET_FETCH;

    async fn put(&self, connection: &Connection, version: i16) -> Result<Self::Answer, Fate> {
        let Self { group_id, require_stable, partitions } = *self;
        offsets::fetch_offsets(connection, version, group_id, require_stable, partitions).await
    }

    fn code(answer: &Self::Answer) -> ErrorCode {
        match answer {
            Ok(answers) => first_error(answers),
            Err(code) => *code,
        }
    }
}

/// OffsetCommit.
pub(crate) struct CommitOffsets<'a> {
    pub(crate) membership: &'a Membership,
    pub(crate) offsets: &'a [(TopicPartition, Offset)],
}

impl Question for CommitOffsets<'_> {
    type Answer = Answers<()>;
    const API_KEY: ApiKey = ApiKey::OFFSET_COMMIT;

    async fn put(&self, connection: &Connection, version: i16) -> Result<Self::Answer, Fate> {
        offsets::commit_offsets(connection, version, self.membership, self.offsets).await
    }

    fn code(answer: &Self::Answer) -> ErrorCode {
        first_error(answer)
    }
}
