//! Answers what is asked about offsets of a log: ListOffsets, OffsetForLeaderEpoch, DeleteRecords.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use kafka_wire::ErrorCode;
use kafka_wire::batch::{BatchIter, Scratch};

use super::call::{Answer, Call};
use super::cluster::{Cluster, Partition, TopicRef};
use super::fetch::check_epoch;
use super::log::PartitionLog;
use super::node::Node;
use super::outbox::Outbox;

/// The special timestamps of ListOffsets.
mod timestamp {
    pub(super) const LATEST: i64 = -1;
    pub(super) const EARLIEST: i64 = -2;
    /// KIP-734, since version 7.
    pub(super) const MAX: i64 = -3;
    /// KIP-405, since version 8: without tiers the same as earliest.
    pub(super) const EARLIEST_LOCAL: i64 = -4;
    /// KIP-1005, since version 9: without tiers there is none.
    pub(super) const LATEST_TIERED: i64 = -5;
}

/// An offset, the timestamp there and the leader epoch it was written under.
type Found = (i64, i64, i32);
const NOT_FOUND: Found = (-1, -1, -1);

/// Answers ListOffsets.
pub(super) fn list_offsets(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<ListOffsetsRequest>() else { return Answer::Close };
    let committed_only = request.isolation_level == 1;
    let mut asked = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let pair = (&topic.name, partition.partition_index);
            if !asked.insert(pair) {
                twice.insert(pair);
            }
        }
    }
    let cluster = node.lock();
    let mut response = ListOffsetsResponse::default();
    for topic in &request.topics {
        let mut result = ListOffsetsTopicResponse::default();
        result.name = topic.name.clone();
        for partition in &topic.partitions {
            let name = TopicRef::Name(&topic.name);
            let found = if twice.contains(&(&topic.name, partition.partition_index)) {
                Err(ErrorCode::INVALID_REQUEST)
            } else {
                look_up(&cluster, node, name, partition, call.version(), committed_only)
            };
            let mut answer = ListOffsetsPartitionResponse::default();
            answer.partition_index = partition.partition_index;
            let (offset, timestamp, leader_epoch) = found.unwrap_or(NOT_FOUND);
            (answer.offset, answer.timestamp) = (offset, timestamp);
            if call.version() >= 4 {
                answer.leader_epoch = leader_epoch;
            }
            answer.error_code = found.err().unwrap_or(ErrorCode::NONE).0;
            result.partitions.push(answer);
        }
        response.topics.push(result);
    }
    drop(cluster);
    call.reply(out, &response)
}

fn look_up(
    cluster: &Cluster,
    node: &Node,
    topic: TopicRef<'_>,
    asked: &ListOffsetsPartition,
    version: i16,
    committed_only: bool,
) -> Result<Found, ErrorCode> {
    let key = cluster.find_led(topic, asked.partition_index, node.node_id)?;
    let partition = cluster.partition(key).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if version >= 4 {
        check_epoch(asked.current_leader_epoch, partition.leader_epoch)?;
    }
    let served_since = match asked.timestamp {
        timestamp::MAX => 7,
        timestamp::EARLIEST_LOCAL => 8,
        timestamp::LATEST_TIERED => 9,
        special if special < timestamp::LATEST_TIERED => i16::MAX,
        _ => 0,
    };
    if version < served_since {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    Ok(offset_of(partition, asked.timestamp, committed_only))
}

fn offset_of(partition: &Partition, asked: i64, committed_only: bool) -> Found {
    let log = &partition.log;
    let end = if committed_only { log.last_stable_offset() } else { log.high_watermark() };
    match asked {
        timestamp::LATEST => (end, -1, partition.leader_epoch),
        timestamp::EARLIEST | timestamp::EARLIEST_LOCAL => {
            (log.log_start_offset, -1, log.epoch_at(log.log_start_offset).unwrap_or(-1))
        }
        timestamp::LATEST_TIERED => NOT_FOUND,
        timestamp::MAX => {
            let newest = log.batches.iter().map(|batch| batch.max_timestamp).max();
            newest.and_then(|newest| find_by_time(log, newest, end)).unwrap_or(NOT_FOUND)
        }
        at => find_by_time(log, at, end).unwrap_or(NOT_FOUND),
    }
}

/// The first record at or after that time, before `end`.
fn find_by_time(log: &PartitionLog, at: i64, end: i64) -> Option<Found> {
    let mut scratch = Scratch::new();
    for stored in log.batches.iter().filter(|stored| stored.max_timestamp >= at) {
        let batch = BatchIter::new(&stored.bytes).next()?.ok()?;
        let found = batch
            .records(&mut scratch)
            .find(|record| record.timestamp >= at && record.offset.0 >= log.log_start_offset);
        if let Some(record) = found {
            let found = (record.offset.0, record.timestamp, stored.leader_epoch);
            return (record.offset.0 < end).then_some(found);
        }
    }
    None
}

/// Answers OffsetForLeaderEpoch (KIP-320).
pub(super) fn offset_for_leader_epoch(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<OffsetForLeaderEpochRequest>() else { return Answer::Close };
    let cluster = node.lock();
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in &request.topics {
        let mut result = OffsetForLeaderTopicResult::default();
        result.topic = topic.topic.clone();
        for asked in &topic.partitions {
            let mut answer = EpochEndOffset::default();
            answer.partition = asked.partition;
            (answer.leader_epoch, answer.end_offset) = (-1, -1);
            let name = TopicRef::Name(&topic.topic);
            let led = cluster.find_led(name, asked.partition, node.node_id);
            let found = led.and_then(|key| {
                let partition =
                    cluster.partition(key).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
                check_epoch(asked.current_leader_epoch, partition.leader_epoch)?;
                Ok(partition.log.end_of_epoch(asked.leader_epoch, partition.leader_epoch))
            });
            match found {
                Ok(Some(end)) => (answer.leader_epoch, answer.end_offset) = end,
                Ok(None) => {}
                Err(error) => answer.error_code = error.0,
            }
            result.partitions.push(answer);
        }
        response.topics.push(result);
    }
    drop(cluster);
    call.reply(out, &response)
}

/// Answers DeleteRecords: the log start moves on; −1 means to the high watermark.
pub(super) fn delete_records(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<DeleteRecordsRequest>() else { return Answer::Close };
    let mut cluster = node.lock();
    let mut response = DeleteRecordsResponse::default();
    for topic in &request.topics {
        let mut result = DeleteRecordsTopicResult::default();
        result.name = topic.name.clone();
        for asked in &topic.partitions {
            let name = TopicRef::Name(&topic.name);
            let deleted =
                delete_before(&mut cluster, node, name, asked.partition_index, asked.offset);
            let mut answer = DeleteRecordsPartitionResult::default();
            answer.partition_index = asked.partition_index;
            answer.low_watermark = deleted.unwrap_or(-1);
            answer.error_code = deleted.err().unwrap_or(ErrorCode::NONE).0;
            result.partitions.push(answer);
        }
        response.topics.push(result);
    }
    drop(cluster);
    call.reply(out, &response)
}

fn delete_before(
    cluster: &mut Cluster,
    node: &Node,
    topic: TopicRef<'_>,
    partition: i32,
    offset: i64,
) -> Result<i64, ErrorCode> {
    let key = cluster.find_led(topic, partition, node.node_id)?;
    if cluster.topic(key.topic).is_some_and(super::cluster::Topic::is_internal) {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let log = &cluster.partition(key).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.log;
    let until = if offset == -1 { log.log_end_offset } else { offset };
    if !(0..=log.log_end_offset).contains(&until) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    cluster.delete_before(key, until);
    Ok(cluster.partition(key).map_or(-1, |partition| partition.log.log_start_offset))
}
