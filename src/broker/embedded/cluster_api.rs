//! Answers what a client asks first: ApiVersions, Metadata, DescribeCluster, FindCoordinator.

use std::sync::Arc;

use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, DescribeClusterRequest,
    DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest,
    MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::{ApiKey, ErrorCode};

use super::api::SERVED;
use super::call::{Answer, Call};
use super::cluster::{Cluster, OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Topic, TopicRef};
use super::config::TransactionVersion;
use super::node::Node;
use super::outbox::Outbox;
use super::topic_api::is_legal_name;

/// Every operation there is on the cluster, and on a topic, as bits: who asks may do all.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// Features with the levels that are known and the level in force: those of Kafka 4.3.
pub(super) fn features(version: TransactionVersion) -> [(&'static str, i16, i16); 4] {
    let transaction = match version {
        TransactionVersion::One => 1,
        TransactionVersion::Two => 2,
    };
    [
        ("group.version", 1, 1),
        ("kraft.version", 1, 1),
        ("metadata.version", 30, 30),
        ("transaction.version", 2, transaction),
    ]
}

/// Answers ApiVersions.
pub(super) fn api_versions(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<ApiVersionsRequest>() else { return Answer::Close };
    let mut response = ApiVersionsResponse::default();
    let named = |text: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(text.chars().next()) && edge(text.chars().last()) && text.chars().all(inner)
    };
    let introduced =
        named(&request.client_software_name) && named(&request.client_software_version);
    if call.version() >= 3 && !introduced {
        response.error_code = ErrorCode::INVALID_REQUEST.0;
        return call.reply(out, &response);
    }
    response.api_keys = SERVED.iter().map(|s| api_version(s.api_key, s.min, s.max)).collect();
    if call.version() >= 3 {
        for (name, known, level) in features(node.config().transaction_version) {
            let mut supported = SupportedFeatureKey::default();
            supported.name = StrBytes::from_static_str(name);
            // A lowest version of 0 cannot be told to clients before version 4.
            supported.min_version = if call.version() >= 4 { 0 } else { 1 };
            supported.max_version = known;
            if name == "metadata.version" {
                supported.min_version = 7;
            }
            response.supported_features.push(supported);
            let mut finalized = FinalizedFeatureKey::default();
            finalized.name = StrBytes::from_static_str(name);
            finalized.min_version_level = level;
            finalized.max_version_level = level;
            response.finalized_features.push(finalized);
        }
        response.finalized_features_epoch = 1;
    }
    call.reply(out, &response)
}

/// Answers an ApiVersions of a version nobody knows: in version 0, with the range (KIP-511).
pub(super) fn api_versions_unsupported(mut call: Call, out: &mut Outbox) -> Answer {
    call.header.api_version = 0;
    let mut response = ApiVersionsResponse::default();
    response.error_code = ErrorCode::UNSUPPORTED_VERSION.0;
    response.api_keys = SERVED
        .iter()
        .filter(|served| served.api_key == ApiKey::API_VERSIONS)
        .map(|served| api_version(served.api_key, served.min, served.max))
        .collect();
    call.reply(out, &response)
}

fn api_version(api_key: ApiKey, min: i16, max: i16) -> ApiVersion {
    let mut version = ApiVersion::default();
    (version.api_key, version.min_version, version.max_version) = (api_key.0, min, max);
    version
}

/// Answers Metadata; creates topics on demand where that is on and asked for.
pub(super) fn metadata(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<MetadataRequest>() else { return Answer::Close };
    let version = call.version();
    let mut response = MetadataResponse::default();
    let mut cluster = node.lock();
    let all = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && version == 0,
    };
    if all {
        response.topics = cluster.topics().map(|t| known_topic(&cluster, t, version)).collect();
    }
    let creates = node.config().auto_create_topics && request.allow_auto_topic_creation;
    for asked in request.topics.iter().flatten() {
        let topic = match &asked.name {
            Some(name) if asked.topic_id.is_nil() => {
                named_topic(&mut cluster, node, &name.0, creates, version)
            }
            name => match cluster.find_topic(TopicRef::Id(asked.topic_id)) {
                Some(slot) => cluster.topic(slot).map(|t| known_topic(&cluster, t, version)),
                None => {
                    let mut topic = MetadataResponseTopic::default();
                    topic.error_code = ErrorCode::UNKNOWN_TOPIC_ID.0;
                    topic.topic_id = asked.topic_id;
                    let nameless = if version >= 12 { None } else { Some(TopicName::default()) };
                    topic.name = name.clone().or(nameless);
                    Some(topic)
                }
            },
        };
        response.topics.extend(topic);
    }
    if request.include_topic_authorized_operations && version >= 8 {
        for topic in &mut response.topics {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    if request.include_cluster_authorized_operations && (8..=10).contains(&version) {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    for info in cluster.nodes.iter().filter(|info| info.alive) {
        let mut broker = MetadataResponseBroker::default();
        broker.node_id = BrokerId(info.node_id);
        broker.host = info.host.clone();
        broker.port = info.port;
        response.brokers.push(broker);
    }
    response.controller_id = BrokerId(node.node_id);
    response.cluster_id = (version >= 2).then(|| cluster.cluster_id.clone());
    drop(cluster);
    call.reply(out, &response)
}

fn named_topic(
    cluster: &mut Cluster,
    node: &Node,
    name: &StrBytes,
    creates: bool,
    version: i16,
) -> Option<MetadataResponseTopic> {
    if cluster.find_topic(TopicRef::Name(name)).is_none() {
        let mut topic = MetadataResponseTopic::default();
        topic.name = Some(TopicName(name.clone()));
        if !is_legal_name(name) {
            topic.error_code = ErrorCode::INVALID_TOPIC_EXCEPTION.0;
            return Some(topic);
        }
        if !creates {
            topic.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
            return Some(topic);
        }
        if matches!(&**name, OFFSETS_TOPIC | TRANSACTIONS_TOPIC) {
            cluster.coordinator(
                if &**name == OFFSETS_TOPIC { OFFSETS_TOPIC } else { TRANSACTIONS_TOPIC },
                "",
            );
        } else {
            let factor = cluster.nodes.len().min(3) as i16;
            let partitions = node.config().num_partitions;
            cluster.create_topic(name, partitions, factor, std::collections::BTreeMap::new());
        }
    }
    let slot = cluster.find_topic(TopicRef::Name(name))?;
    cluster.topic(slot).map(|topic| known_topic(cluster, topic, version))
}

fn known_topic(cluster: &Cluster, topic: &Topic, version: i16) -> MetadataResponseTopic {
    let mut answer = MetadataResponseTopic::default();
    answer.name = Some(TopicName(topic.name.clone()));
    if version >= 10 {
        answer.topic_id = topic.id;
    }
    answer.is_internal = version >= 1 && topic.is_internal();
    for (index, partition) in topic.partitions.iter().enumerate() {
        let mut of = MetadataResponsePartition::default();
        of.partition_index = index as i32;
        of.leader_id = BrokerId(partition.leader);
        if partition.leader == -1 {
            of.error_code = ErrorCode::LEADER_NOT_AVAILABLE.0;
        }
        of.leader_epoch = if version >= 7 { partition.leader_epoch } else { -1 };
        of.replica_nodes = partition.replicas.iter().map(|&id| BrokerId(id)).collect();
        let alive = |id: &i32| cluster.node(*id).is_some_and(|node| node.alive);
        let (living, dead): (Vec<i32>, Vec<i32>) =
            partition.replicas.iter().partition(|id| alive(id));
        of.isr_nodes = living.into_iter().map(BrokerId).collect();
        if version >= 5 {
            of.offline_replicas = dead.into_iter().map(BrokerId).collect();
        }
        answer.partitions.push(of);
    }
    answer
}

/// Answers DescribeCluster (KIP-700).
pub(super) fn describe_cluster(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<DescribeClusterRequest>() else { return Answer::Close };
    let mut response = DescribeClusterResponse::default();
    let cluster = node.lock();
    if call.version() >= 1 && request.endpoint_type != 1 {
        let mismatch = request.endpoint_type == 2;
        let error = if mismatch {
            ErrorCode::MISMATCHED_ENDPOINT_TYPE
        } else {
            ErrorCode::UNSUPPORTED_ENDPOINT_TYPE
        };
        response.error_code = error.0;
        return call.reply(out, &response);
    }
    response.cluster_id = cluster.cluster_id.clone();
    response.controller_id = BrokerId(node.node_id);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    for info in &cluster.nodes {
        if !info.alive && !request.include_fenced_brokers {
            continue;
        }
        let mut broker = DescribeClusterBroker::default();
        broker.broker_id = BrokerId(info.node_id);
        broker.host = info.host.clone();
        broker.port = info.port;
        broker.is_fenced = call.version() >= 2 && !info.alive;
        response.brokers.push(broker);
    }
    drop(cluster);
    call.reply(out, &response)
}

/// Answers FindCoordinator, one key or many (KIP-699).
pub(super) fn find_coordinator(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<FindCoordinatorRequest>() else { return Answer::Close };
    let mut response = FindCoordinatorResponse::default();
    let mut cluster = node.lock();
    if call.version() >= 4 {
        for key in &request.coordinator_keys {
            response.coordinators.push(coordinator(&mut cluster, request.key_type, key));
        }
    } else {
        let found = coordinator(&mut cluster, request.key_type, &request.key);
        response.error_code = found.error_code;
        if call.version() >= 1 {
            response.error_message = found.error_message;
        }
        response.node_id = found.node_id;
        response.host = found.host;
        response.port = found.port;
    }
    drop(cluster);
    call.reply(out, &response)
}

fn coordinator(cluster: &mut Cluster, key_type: i8, key: &StrBytes) -> Coordinator {
    let mut found = Coordinator::default();
    found.key = key.clone();
    (found.node_id, found.port) = (BrokerId(-1), -1);
    let topic = match key_type {
        0 => OFFSETS_TOPIC,
        1 => TRANSACTIONS_TOPIC,
        _ => {
            found.error_code = ErrorCode::INVALID_REQUEST.0;
            return found;
        }
    };
    let node_id = cluster.coordinator(topic, key);
    match cluster.node(node_id) {
        Some(info) => {
            found.node_id = BrokerId(info.node_id);
            found.host = info.host.clone();
            found.port = info.port;
        }
        None => found.error_code = ErrorCode::COORDINATOR_NOT_AVAILABLE.0,
    }
    found
}
