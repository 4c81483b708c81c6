//! An idempotent or transactional producer as explicit state, and its requests, each one attempt.
//!
//! The state is plain data the caller may read, set and break: a wrong epoch or a sequence used
//! twice is how brokers are tested.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{self, InitProducerIdRequest, ProduceRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;
use kafka_wire::ids::{NodeId, Offset, ProducerEpoch, ProducerId, Sequence};

use super::cluster::{TopicPartition, topic_name};
use super::connection::{Connection, Fate, Frame, Response};
use super::typed;

/// Who a producer is and where its sequences stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducerState {
    /// Its transactional id, if it has one.
    pub transactional_id: Option<String>,
    /// Its producer id; [`ProducerId::NONE`] for a producer that is not idempotent.
    pub producer_id: ProducerId,
    /// Its producer epoch.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the next record of each partition; absent means 0.
    pub next_sequence: BTreeMap<TopicPartition, Sequence>,
}

impl ProducerState {
    /// Neither idempotent nor transactional.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            ..Self::default()
        }
    }

    /// Whether batches carry sequences.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.producer_id != ProducerId::NONE
    }

    /// Takes the sequences of the next `records` of a partition.
    pub fn take_sequences(&mut self, partition: &TopicPartition, records: u32) -> Sequence {
        if !self.is_idempotent() {
            return Sequence::NONE;
        }
        match self.next_sequence.get_mut(partition) {
            Some(next) => {
                let base = *next;
                *next = base.advance(records);
                base
            }
            None => {
                self.next_sequence.insert(partition.clone(), Sequence(0).advance(records));
                Sequence(0)
            }
        }
    }

    /// Becomes another incarnation: sequences begin at 0 again where anything changed.
    pub fn become_next(&mut self, producer_id: ProducerId, producer_epoch: ProducerEpoch) {
        if (producer_id, producer_epoch) != (self.producer_id, self.producer_epoch) {
            self.producer_id = producer_id;
            self.producer_epoch = producer_epoch;
            self.next_sequence.clear();
        }
    }

    /// As the requests of a transaction name it; absent without a transactional id.
    #[must_use]
    pub fn owner(&self) -> Option<super::transaction::Owner> {
        Some(super::transaction::Owner {
            transactional_id: self.transactional_id.clone()?,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
        })
    }
}

/// Asks for a producer id and epoch. With a transactional id it fences every earlier owner and
/// aborts what it left open; with its own producer id and epoch (since v3, KIP-360) it asks for a
/// higher epoch of the same producer id.
///
/// # Errors
/// What became of it where no answer that decodes came; the error code is the inner result.
pub async fn init_producer_id(
    connection: &Connection,
    api_version: i16,
    transactional_id: Option<&str>,
    transaction_timeout_ms: i32,
    current: Option<(ProducerId, ProducerEpoch)>,
) -> Result<Result<(ProducerId, ProducerEpoch), ErrorCode>, Fate> {
    let transactional_id =
        transactional_id.map(|id| TransactionalId(StrBytes::from_string(id.to_owned())));
    let mut request = InitProducerIdRequest::default()
        .with_transactional_id(transactional_id)
        .with_transaction_timeout_ms(transaction_timeout_ms);
    if let (Some((producer_id, producer_epoch)), true) = (current, api_version >= 3) {
        request.producer_id = messages::ProducerId(producer_id.0);
        request.producer_epoch = producer_epoch.0;
    }
    let answer = connection.call(&request, api_version).await?;
    Ok(ErrorCode(answer.error_code)
        .ok()
        .map(|()| (ProducerId(answer.producer_id.0), ProducerEpoch(answer.producer_epoch))))
}

/// Who must acknowledge a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acks {
    /// Nobody: there is no response.
    None,
    /// The leader.
    Leader,
    /// All in-sync replicas.
    All,
}

impl Acks {
    /// As requests carry it.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// What a partition is sent in one Produce: the bytes of its record batch (brokers take exactly
/// one since v3), whatever they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionWrite {
    /// The partition.
    pub partition: TopicPartition,
    /// The encoded batch.
    pub records: Bytes,
}

/// Encodes one Produce request (v3 to v12).
///
/// # Errors
/// [`Fate::NotSent`] where the version cannot express it.
pub fn produce_frame(
    api_version: i16,
    transactional_id: Option<&str>,
    (acks, timeout_ms): (Acks, i32),
    writes: &[PartitionWrite],
) -> Result<Frame, Fate> {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for write in writes {
        let data = PartitionProduceData::default()
            .with_index(write.partition.partition)
            .with_records(Some(write.records.clone()));
        match topics.iter_mut().find(|t| t.name.0.as_str() == &*write.partition.topic) {
            Some(topic) => topic.partition_data.push(data),
            None => topics.push(
                TopicProduceData::default()
                    .with_name(topic_name(&write.partition.topic))
                    .with_partition_data(vec![data]),
            ),
        }
    }
    let transactional_id =
        transactional_id.map(|id| TransactionalId(StrBytes::from_string(id.to_owned())));
    let request = ProduceRequest::default()
        .with_transactional_id(transactional_id)
        .with_acks(acks.code())
        .with_timeout_ms(timeout_ms)
        .with_topic_data(topics);
    let mut frame = typed::encode(&request, api_version)?;
    frame.answered = acks != Acks::None;
    Ok(frame)
}

/// What Produce answered for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The partition.
    pub partition: TopicPartition,
    /// Its error.
    pub error: ErrorCode,
    /// The offset of the batch's first record; absent where the broker gave none (−1).
    pub base_offset: Option<Offset>,
    /// The log start offset. Since v5.
    pub log_start_offset: Offset,
    /// The broker's own words. Since v8.
    pub message: Option<Arc<str>>,
    /// Who leads now, where the broker knows better. Since v10.
    pub current_leader: Option<NodeId>,
}

/// Reads the answer to a Produce request.
///
/// # Errors
/// [`Fate::Broken`] where it does not decode.
pub fn written(response: Response, api_version: i16) -> Result<Vec<Written>, Fate> {
    let answer = typed::typed_answer::<ProduceRequest>(response, api_version)?;
    let mut all = Vec::new();
    for topic in &answer.responses {
        let name: Arc<str> = topic.name.0.as_str().into();
        all.extend(topic.partition_responses.iter().map(|p| Written {
            partition: TopicPartition { topic: name.clone(), partition: p.index },
            error: ErrorCode(p.error_code),
            base_offset: (p.base_offset >= 0).then_some(Offset(p.base_offset)),
            log_start_offset: Offset(p.log_start_offset),
            message: p.error_message.as_ref().map(|m| m.as_str().into()),
            current_leader:
                (p.current_leader.leader_id.0 >= 0).then_some(NodeId(p.current_leader.leader_id.0)),
        }));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    #[test]
    fn sequences_count_per_partition_and_restart_with_the_epoch() {
        let mut state = ProducerState { producer_id: ProducerId(5), ..Default::default() };
        assert_eq!(state.take_sequences(&partition(0), 3), Sequence(0));
        assert_eq!(state.take_sequences(&partition(0), 1), Sequence(3));
        assert_eq!(state.take_sequences(&partition(1), 1), Sequence(0));
        state.become_next(ProducerId(5), ProducerEpoch(0));
        assert_eq!(state.take_sequences(&partition(0), 1), Sequence(4));
        state.become_next(ProducerId(5), ProducerEpoch(1));
        assert_eq!(state.take_sequences(&partition(0), 1), Sequence(0));
    }

    #[test]
    fn a_plain_producer_has_no_sequences() {
        let mut state = ProducerState::plain();
        assert_eq!(state.take_sequences(&partition(0), 3), Sequence::NONE);
        assert!(state.next_sequence.is_empty());
    }
}
