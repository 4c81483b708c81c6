//! The requests of a transaction, versions 1 and 2, each one attempt.
//!
//! Version 1 (KIP-98): AddPartitionsToTxn before the first write to a partition, AddOffsetsToTxn
//! before TxnOffsetCommit, EndTxn ≤ 4. Version 2 (KIP-890): the first write adds the partition,
//! EndTxn 5 answers the producer id and epoch of the next transaction. Which requests are sent is
//! the caller's choice: nothing here checks that they make sense together.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    self, AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, GroupId,
    TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;
use kafka_wire::ids::{GenerationId, Offset, ProducerEpoch, ProducerId};

use super::cluster::{TopicPartition, topic_name};
use super::connection::{Connection, Fate};

/// Who does a transaction: three arguments of every request of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The transactional id.
    pub transactional_id: String,
    /// The producer id.
    pub producer_id: ProducerId,
    /// The producer epoch.
    pub producer_epoch: ProducerEpoch,
}

impl Owner {
    fn id(&self) -> TransactionalId {
        TransactionalId(StrBytes::from_string(self.transactional_id.clone()))
    }

    fn producer(&self) -> messages::ProducerId {
        messages::ProducerId(self.producer_id.0)
    }
}

/// Adds partitions to the transaction (version 1). Clients speak up to v3; the first error of any
/// partition is the answer, the others then say OPERATION_NOT_ATTEMPTED.
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn add_partitions(
    connection: &Connection,
    api_version: i16,
    owner: &Owner,
    partitions: &[TopicPartition],
) -> Result<ErrorCode, Fate> {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for tp in partitions {
        match topics.iter_mut().find(|t| t.name.0.as_str() == &*tp.topic) {
            Some(topic) => topic.partitions.push(tp.partition),
            None => topics.push(
                AddPartitionsToTxnTopic::default()
                    .with_name(topic_name(&tp.topic))
                    .with_partitions(vec![tp.partition]),
            ),
        }
    }
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(owner.id())
        .with_v3_and_below_producer_id(owner.producer())
        .with_v3_and_below_producer_epoch(owner.producer_epoch.0)
        .with_v3_and_below_topics(topics);
    let answer = connection.call(&request, api_version).await?;
    let mut errors = answer
        .results_by_topic_v3_and_below
        .iter()
        .flat_map(|topic| &topic.results_by_partition)
        .map(|partition| ErrorCode(partition.partition_error_code))
        .filter(|error| !error.is_none())
        .collect::<Vec<_>>();
    errors.sort_by_key(|error| *error == ErrorCode::OPERATION_NOT_ATTEMPTED);
    Ok(errors.first().copied().unwrap_or(ErrorCode::NONE))
}

/// Adds the group's offsets partition to the transaction (version 1).
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn add_offsets(
    connection: &Connection,
    api_version: i16,
    owner: &Owner,
    group_id: &str,
) -> Result<ErrorCode, Fate> {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(owner.id())
        .with_producer_id(owner.producer())
        .with_producer_epoch(owner.producer_epoch.0)
        .with_group_id(GroupId(StrBytes::from_string(group_id.to_owned())));
    Ok(ErrorCode(connection.call(&request, api_version).await?.error_code))
}

/// Who commits offsets in a group: nobody in particular for consumers that assign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group_id: String,
    /// The generation, or the member epoch of a KIP-848 group; −1 outside any.
    pub generation_id: GenerationId,
    /// The member; empty outside any.
    pub member_id: String,
    /// The static member's instance.
    pub group_instance_id: Option<String>,
}

impl Membership {
    /// A consumer that assigns its partitions by hand.
    #[must_use]
    pub fn outside(group_id: &str) -> Self {
        Self {
            group_id: group_id.to_owned(),
            generation_id: GenerationId(-1),
            member_id: String::new(),
            group_instance_id: None,
        }
    }
}

/// Commits offsets within the transaction; the answer is the first error of any partition.
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn commit_offsets(
    connection: &Connection,
    api_version: i16,
    owner: &Owner,
    membership: &Membership,
    offsets: &[(TopicPartition, Offset)],
) -> Result<ErrorCode, Fate> {
    let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
    for (tp, offset) in offsets {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(tp.partition)
            .with_committed_offset(offset.0);
        match topics.iter_mut().find(|t| t.name.0.as_str() == &*tp.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(
                TxnOffsetCommitRequestTopic::default()
                    .with_name(topic_name(&tp.topic))
                    .with_partitions(vec![partition]),
            ),
        }
    }
    let mut request = TxnOffsetCommitRequest::default()
        .with_transactional_id(owner.id())
        .with_group_id(GroupId(StrBytes::from_string(membership.group_id.clone())))
        .with_producer_id(owner.producer())
        .with_producer_epoch(owner.producer_epoch.0)
        .with_topics(topics);
    if api_version >= 3 {
        request.generation_id = membership.generation_id.0;
        request.member_id = StrBytes::from_string(membership.member_id.clone());
        request.group_instance_id = membership.group_instance_id.clone().map(StrBytes::from_string);
    }
    let answer = connection.call(&request, api_version).await?;
    let mut errors = answer.topics.iter().flat_map(|topic| &topic.partitions);
    Ok(errors.find(|p| p.error_code != 0).map_or(ErrorCode::NONE, |p| ErrorCode(p.error_code)))
}

/// What EndTxn answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The error; none means *decided*, not that the markers are written.
    pub error: ErrorCode,
    /// Producer id and epoch of the next transaction (since v5, and only where there is no
    /// error: failed answers carry −1 and −1).
    pub next: Option<(ProducerId, ProducerEpoch)>,
}

/// Ends the transaction.
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn end(
    connection: &Connection,
    api_version: i16,
    owner: &Owner,
    commit: bool,
) -> Result<Ended, Fate> {
    let request = EndTxnRequest::default()
        .with_transactional_id(owner.id())
        .with_producer_id(owner.producer())
        .with_producer_epoch(owner.producer_epoch.0)
        .with_committed(commit);
    let answer = connection.call(&request, api_version).await?;
    let error = ErrorCode(answer.error_code);
    let next = (api_version >= 5 && error.is_none())
        .then_some((ProducerId(answer.producer_id.0), ProducerEpoch(answer.producer_epoch)));
    Ok(Ended { error, next })
}
