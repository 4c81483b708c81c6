//! What a test must arrange: topics.

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest};
use kafka_wire::ErrorCode;

use super::cluster::topic_name;
use super::connection::{Connection, Fate};

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions; −1 for the broker's default (since v4).
    pub partitions: i32,
    /// How many replicas; −1 for the broker's default (since v4).
    pub replication_factor: i16,
}

/// Creates topics; each has its own error code, in the order asked for. TOPIC_ALREADY_EXISTS is
/// an answer like any other.
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn create_topics(
    connection: &Connection,
    api_version: i16,
    topics: &[NewTopic<'_>],
    timeout_ms: i32,
) -> Result<Vec<ErrorCode>, Fate> {
    let topics = topics
        .iter()
        .map(|topic| {
            CreatableTopic::default()
                .with_name(topic_name(topic.name))
                .with_num_partitions(topic.partitions)
                .with_replication_factor(topic.replication_factor)
        })
        .collect();
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(timeout_ms);
    let answer = connection.call(&request, api_version).await?;
    Ok(answer.topics.iter().map(|topic| ErrorCode(topic.error_code)).collect())
}

/// A broker's id as requests carry it.
#[must_use]
pub fn broker_id(node: kafka_wire::ids::NodeId) -> BrokerId {
    BrokerId(node.0)
}
