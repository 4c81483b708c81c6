//! ListOffsets, OffsetFetch and OffsetCommit, each one attempt.

use std::collections::BTreeMap;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    BrokerId, GroupId, ListOffsetsRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;
use kafka_wire::ids::Offset;

use super::cluster::{TopicPartition, topic_name};
use super::connection::{Connection, Fate};
use super::fetch::IsolationLevel;
use super::transaction::Membership;

/// Which offset ListOffsets is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The log start offset.
    Earliest,
    /// The high watermark, or the last stable offset under `read_committed`.
    Latest,
    /// The first record at or after a time, in milliseconds since 1970.
    Time(i64),
}

impl At {
    fn timestamp(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::Time(ms) => ms,
        }
    }
}

/// An offset or an error for each partition asked about.
pub type Answers<T> = BTreeMap<TopicPartition, Result<T, ErrorCode>>;

/// Groups partitions by topic, in order of first appearance.
pub(crate) fn by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> Vec<(&'a str, Vec<i32>)> {
    let mut topics: Vec<(&str, Vec<i32>)> = Vec::new();
    for tp in partitions {
        match topics.iter_mut().find(|(name, _)| *name == &*tp.topic) {
            Some((_, partitions)) => partitions.push(tp.partition),
            None => topics.push((&tp.topic, vec![tp.partition])),
        }
    }
    topics
}

/// Asks a leader for offsets of its partitions.
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn list_offsets(
    connection: &Connection,
    api_version: i16,
    isolation: IsolationLevel,
    at: At,
    partitions: &[TopicPartition],
) -> Result<Answers<Offset>, Fate> {
    let topics = by_topic(partitions).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|partition| {
            ListOffsetsPartition::default()
                .with_partition_index(partition)
                .with_timestamp(at.timestamp())
        });
        ListOffsetsTopic::default()
            .with_name(topic_name(name))
            .with_partitions(partitions.collect())
    });
    let mut request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
    if api_version >= 2 {
        request.isolation_level = isolation.code();
    }
    let answer = connection.call(&request, api_version).await?;
    let mut answers = Answers::new();
    for topic in &answer.topics {
        for p in &topic.partitions {
            let tp = TopicPartition {
                topic: topic.name.0.as_str().into(),
                partition: p.partition_index,
            };
            answers.insert(tp, ErrorCode(p.error_code).ok().map(|()| Offset(p.offset)));
        }
    }
    Ok(answers)
}

/// Asks a group coordinator for committed offsets; `Offset(-1)` is none. With `require_stable`
/// (since v7) an offset in an open transaction answers UNSTABLE_OFFSET_COMMIT (KIP-447).
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn fetch_offsets(
    connection: &Connection,
    api_version: i16,
    group_id: &str,
    require_stable: bool,
    partitions: &[TopicPartition],
) -> Result<Result<Answers<Offset>, ErrorCode>, Fate> {
    let group_id = GroupId(StrBytes::from_string(group_id.to_owned()));
    let topics = by_topic(partitions);
    let mut request = OffsetFetchRequest::default();
    if api_version >= 7 {
        request.require_stable = require_stable;
    }
    if api_version >= 8 {
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetFetchRequestTopics::default()
                .with_name(topic_name(name))
                .with_partition_indexes(partitions)
        });
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(group_id)
            .with_topics(Some(topics.collect()));
        request.groups = vec![group];
    } else {
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetFetchRequestTopic::default()
                .with_name(topic_name(name))
                .with_partition_indexes(partitions)
        });
        request.group_id = group_id;
        request.topics = Some(topics.collect());
    }
    let answer = connection.call(&request, api_version).await?;
    let mut answers = Answers::new();
    let mut take = |topic: &str, partition: i32, error: i16, offset: i64| {
        let tp = TopicPartition { topic: topic.into(), partition };
        answers.insert(tp, ErrorCode(error).ok().map(|()| Offset(offset)));
    };
    let mut error = ErrorCode(answer.error_code);
    for topic in &answer.topics {
        for p in &topic.partitions {
            take(topic.name.0.as_str(), p.partition_index, p.error_code, p.committed_offset);
        }
    }
    for group in &answer.groups {
        error = ErrorCode(group.error_code);
        for topic in &group.topics {
            for p in &topic.partitions {
                take(topic.name.0.as_str(), p.partition_index, p.error_code, p.committed_offset);
            }
        }
    }
    Ok(error.ok().map(|()| answers))
}

/// Commits offsets outside any transaction.
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn commit_offsets(
    connection: &Connection,
    api_version: i16,
    membership: &Membership,
    offsets: &[(TopicPartition, Offset)],
) -> Result<Answers<()>, Fate> {
    let topics = by_topic(offsets.iter().map(|(tp, _)| tp)).into_iter().map(|(name, _)| {
        let partitions = offsets.iter().filter(|(tp, _)| &*tp.topic == name).map(|(tp, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(tp.partition)
                .with_committed_offset(offset.0)
        });
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(name))
            .with_partitions(partitions.collect())
    });
    let mut request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(membership.group_id.clone())))
        .with_generation_id_or_member_epoch(membership.generation_id.0)
        .with_member_id(StrBytes::from_string(membership.member_id.clone()))
        .with_topics(topics.collect());
    if api_version >= 7 {
        request.group_instance_id = membership.group_instance_id.clone().map(StrBytes::from_string);
    }
    let answer = connection.call(&request, api_version).await?;
    let mut answers = Answers::new();
    for topic in &answer.topics {
        for p in &topic.partitions {
            let tp = TopicPartition {
                topic: topic.name.0.as_str().into(),
                partition: p.partition_index,
            };
            answers.insert(tp, ErrorCode(p.error_code).ok());
        }
    }
    Ok(answers)
}
