//! Metadata and coordinators, as values: asked for once, never kept behind the caller's back.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;
use kafka_wire::ids::{LeaderEpoch, NodeId};
use uuid::Uuid;

use super::connection::{Connection, Fate};

/// A partition by topic name and number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The number of the partition in it.
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Who leads a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The leader; absent where there is none at the moment.
    pub node: Option<NodeId>,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
    /// The partition's error.
    pub error: ErrorCode,
}

/// A topic as Metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id; nil where the version has none.
    pub id: Uuid,
    /// The topic's error.
    pub error: ErrorCode,
    /// Its partitions by number.
    pub partitions: BTreeMap<i32, Leader>,
}

/// One answer to Metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Address `host:port` of each broker.
    pub brokers: BTreeMap<NodeId, String>,
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The controller, as far as the cluster tells.
    pub controller: Option<NodeId>,
    /// Topics by name.
    pub topics: BTreeMap<Arc<str>, Topic>,
}

impl Metadata {
    /// Asks for some topics, or for all (`None`). Topics are not created by asking.
    ///
    /// # Errors
    /// What became of it where no answer that decodes came.
    pub async fn ask(
        connection: &Connection,
        api_version: i16,
        topics: Option<&[Arc<str>]>,
    ) -> Result<Self, Fate> {
        let topics = topics.map(|topics| {
            topics
                .iter()
                .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))))
                .collect()
        });
        // Before v4 the field does not exist, and must have its default to be encodable.
        let request = MetadataRequest::default()
            .with_topics(topics)
            .with_allow_auto_topic_creation(api_version < 4);
        Ok(Self::of(connection.call(&request, api_version).await?))
    }

    /// Reads an answer.
    #[must_use]
    pub fn of(answer: MetadataResponse) -> Self {
        let brokers = answer.brokers.iter();
        Self {
            brokers: brokers
                .map(|b| (NodeId(b.node_id.0), format!("{}:{}", b.host.as_str(), b.port)))
                .collect(),
            cluster_id: answer.cluster_id.map(|id| id.to_string()),
            controller: (answer.controller_id.0 >= 0).then_some(NodeId(answer.controller_id.0)),
            topics: answer
                .topics
                .into_iter()
                .filter_map(|topic| {
                    let name: Arc<str> = topic.name?.0.as_str().into();
                    let partitions = topic.partitions.iter().map(|p| {
                        let leader = Leader {
                            node: (p.leader_id.0 >= 0).then_some(NodeId(p.leader_id.0)),
                            leader_epoch: LeaderEpoch(p.leader_epoch),
                            error: ErrorCode(p.error_code),
                        };
                        (p.partition_index, leader)
                    });
                    let partitions = partitions.collect();
                    let error = ErrorCode(topic.error_code);
                    Some((name, Topic { id: topic.topic_id, error, partitions }))
                })
                .collect(),
        }
    }

    /// Who leads a partition; absent where the answer does not say.
    #[must_use]
    pub fn leader(&self, of: &TopicPartition) -> Option<NodeId> {
        self.topics.get(&of.topic)?.partitions.get(&of.partition)?.node
    }
}

/// What a coordinator coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoordinatorOf {
    /// A group, by its id.
    Group,
    /// A transactional producer, by its transactional id.
    Transaction,
}

/// Where a coordinator is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// The node.
    pub node: NodeId,
    /// Its address `host:port`.
    pub address: String,
}

/// Asks who coordinates a group or a transactional id. First use creates an internal topic: the
/// answer is then COORDINATOR_NOT_AVAILABLE a few times.
///
/// # Errors
/// What became of it where no answer that decodes came; the error code is the inner result.
pub async fn find_coordinator(
    connection: &Connection,
    api_version: i16,
    of: CoordinatorOf,
    key: &str,
) -> Result<Result<Coordinator, ErrorCode>, Fate> {
    let key = StrBytes::from_string(key.to_owned());
    let mut request = FindCoordinatorRequest::default();
    if api_version >= 1 {
        request.key_type = (of == CoordinatorOf::Transaction).into();
    }
    if api_version >= 4 {
        request.coordinator_keys = vec![key];
    } else {
        request.key = key;
    }
    let answer = connection.call(&request, api_version).await?;
    let (error, node, host, port) = match answer.coordinators.into_iter().next() {
        Some(c) => (c.error_code, c.node_id, c.host, c.port),
        None => (answer.error_code, answer.node_id, answer.host, answer.port),
    };
    Ok(ErrorCode(error).ok().map(|()| Coordinator {
        node: NodeId(node.0),
        address: format!("{}:{port}", host.as_str()),
    }))
}

/// A topic's name as requests carry it.
#[must_use]
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
