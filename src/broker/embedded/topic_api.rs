//! Answers CreateTopics, DeleteTopics and CreatePartitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;

use super::call::{Answer, Call};
use super::cluster::{Cluster, TopicRef};
use super::config_api::{TOPIC_CONFIGS, check_topic_config};
use super::node::Node;
use super::outbox::Outbox;

/// Partitions of one topic at most: what a request says is not what is allocated.
const PARTITIONS_MAX: i32 = 10_000;

/// Why a request for a topic is refused.
type Refused = (ErrorCode, &'static str);

/// Whether a topic may have that name.
pub(super) fn is_legal_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(legal)
}

/// Answers CreateTopics.
pub(super) fn create_topics(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<CreateTopicsRequest>() else { return Answer::Close };
    let mut cluster = node.lock();
    let mut response = CreateTopicsResponse::default();
    let mut times = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_insert(0) += 1;
    }
    for topic in &request.topics {
        let twice = times.get(&topic.name).is_some_and(|times| *times > 1);
        if twice && response.topics.iter().any(|result| result.name == topic.name) {
            continue;
        }
        let planned = if twice {
            Err((ErrorCode::INVALID_REQUEST, "the topic is named twice"))
        } else {
            plan(&cluster, node, topic)
        };
        let mut result = CreatableTopicResult::default();
        result.name = topic.name.clone();
        (result.num_partitions, result.replication_factor) = (-1, -1);
        match planned {
            Ok(plan) => create(&mut cluster, topic, plan, &request, call.version(), &mut result),
            Err((error, message)) => {
                result.error_code = error.0;
                result.error_message = Some(StrBytes::from_static_str(message));
            }
        }
        response.topics.push(result);
    }
    drop(cluster);
    call.reply(out, &response)
}

struct Plan {
    partitions: i32,
    replication_factor: i16,
    configs: BTreeMap<String, String>,
}

fn plan(cluster: &Cluster, node: &Node, topic: &CreatableTopic) -> Result<Plan, Refused> {
    if !is_legal_name(&topic.name) {
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, "the name is not a legal topic name"));
    }
    if cluster.find_topic(TopicRef::Name(&topic.name)).is_some() {
        return Err((ErrorCode::TOPIC_ALREADY_EXISTS, "a topic of that name exists"));
    }
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let value = config.value.as_deref();
        check_topic_config(&config.name, value)?;
        configs.insert(config.name.to_string(), value.unwrap_or_default().to_owned());
    }
    if !topic.assignments.is_empty() {
        return assigned(cluster, topic, configs);
    }
    let partitions = if topic.num_partitions == -1 {
        node.config().num_partitions
    } else {
        topic.num_partitions
    };
    if !(1..=PARTITIONS_MAX).contains(&partitions) {
        return Err((ErrorCode::INVALID_PARTITIONS, "the number of partitions is out of range"));
    }
    let living = cluster.nodes.iter().filter(|node| node.alive).count() as i16;
    let replication_factor =
        if topic.replication_factor == -1 { living.min(3) } else { topic.replication_factor };
    if !(1..=living).contains(&replication_factor) {
        let message = "the replication factor must be at least 1, at most the number of brokers";
        return Err((ErrorCode::INVALID_REPLICATION_FACTOR, message));
    }
    Ok(Plan { partitions, replication_factor, configs })
}

/// A topic whose replicas the client chose; which they are is not kept.
fn assigned(
    cluster: &Cluster,
    topic: &CreatableTopic,
    configs: BTreeMap<String, String>,
) -> Result<Plan, Refused> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "counts and assignments exclude each other";
        return Err((ErrorCode::INVALID_REQUEST, message));
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let consecutive = indexes.iter().enumerate().all(|(n, index)| n as i32 == *index);
    let factor = topic.assignments.first().map_or(0, |first| first.broker_ids.len());
    let sound = topic.assignments.iter().all(|assignment| {
        assignment.broker_ids.len() == factor
            && assignment.broker_ids.iter().all(|id| cluster.node(id.0).is_some())
    });
    if !consecutive || factor == 0 || !sound || indexes.len() > PARTITIONS_MAX as usize {
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, "the assignment does not add up"));
    }
    Ok(Plan { partitions: indexes.len() as i32, replication_factor: factor as i16, configs })
}

fn create(
    cluster: &mut Cluster,
    topic: &CreatableTopic,
    plan: Plan,
    request: &CreateTopicsRequest,
    version: i16,
    result: &mut CreatableTopicResult,
) {
    if version >= 5 {
        result.num_partitions = plan.partitions;
        result.replication_factor = plan.replication_factor;
        let configs = TOPIC_CONFIGS.iter().map(|(name, default)| {
            let mut config = CreatableTopicConfigs::default();
            config.name = StrBytes::from_static_str(name);
            let set = plan.configs.get(*name).cloned();
            config.config_source = if set.is_some() { 1 } else { 5 };
            config.value = Some(set.map_or(StrBytes::from_static_str(default), StrBytes::from));
            config
        });
        result.configs = Some(configs.collect());
    }
    if request.validate_only {
        return;
    }
    let slot =
        cluster.create_topic(&topic.name.0, plan.partitions, plan.replication_factor, plan.configs);
    if version >= 7 {
        result.topic_id = cluster.topic(slot).map_or(uuid::Uuid::nil(), |topic| topic.id);
    }
}

/// Answers DeleteTopics, by name or since version 6 by id.
pub(super) fn delete_topics(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<DeleteTopicsRequest>() else { return Answer::Close };
    let mut cluster = node.lock();
    let mut response = DeleteTopicsResponse::default();
    let by_name = request.topic_names.iter().map(|name| (Some(name.clone()), uuid::Uuid::nil()));
    let by_state = request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id));
    for (name, id) in by_name.chain(by_state) {
        let mut result = DeletableTopicResult::default();
        let reference = match &name {
            Some(name) => TopicRef::Name(name),
            None => TopicRef::Id(id),
        };
        let found = cluster.find_topic(reference);
        result.error_code = match (&name, found) {
            (Some(_), _) if !id.is_nil() => ErrorCode::INVALID_REQUEST.0,
            (_, Some(_)) => 0,
            (Some(_), None) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0,
            (None, None) => ErrorCode::UNKNOWN_TOPIC_ID.0,
        };
        if call.version() >= 6 {
            result.topic_id = id;
        }
        result.name = name;
        if let Some(slot) = found.filter(|_| result.error_code == 0) {
            if let Some(topic) = cluster.topic(slot) {
                result.name = Some(TopicName(topic.name.clone()));
                if call.version() >= 6 {
                    result.topic_id = topic.id;
                }
            }
            cluster.delete_topic(slot);
        }
        response.responses.push(result);
    }
    drop(cluster);
    call.reply(out, &response)
}

/// Answers CreatePartitions.
pub(super) fn create_partitions(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<CreatePartitionsRequest>() else { return Answer::Close };
    let mut cluster = node.lock();
    let mut response = CreatePartitionsResponse::default();
    for topic in &request.topics {
        let mut result = CreatePartitionsTopicResult::default();
        result.name = topic.name.clone();
        match growable(&cluster, topic) {
            Ok(slot) if !request.validate_only => cluster.add_partitions(slot, topic.count),
            Ok(_) => {}
            Err((error, message)) => {
                result.error_code = error.0;
                result.error_message = Some(StrBytes::from_static_str(message));
            }
        }
        response.results.push(result);
    }
    drop(cluster);
    call.reply(out, &response)
}

fn growable(cluster: &Cluster, topic: &CreatePartitionsTopic) -> Result<usize, Refused> {
    let name = TopicRef::Name(&topic.name);
    let slot = cluster
        .find_topic(name)
        .ok_or((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no topic of that name"))?;
    let has = cluster.topic(slot).map_or(0, |topic| topic.partitions.len() as i32);
    if !(has + 1..=PARTITIONS_MAX).contains(&topic.count) {
        return Err((ErrorCode::INVALID_PARTITIONS, "the count must be higher than it is"));
    }
    let added = (topic.count - has) as usize;
    if topic.assignments.as_ref().is_some_and(|assignments| assignments.len() != added) {
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, "one assignment a new partition"));
    }
    Ok(slot)
}
