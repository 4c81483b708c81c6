//! Answers DescribeConfigs and IncrementalAlterConfigs for topics, and shows a few of a broker's.
//!
//! Only `message.timestamp.type` and `max.message.bytes` change what the broker does; the other
//! names are kept and given back.

use std::sync::Arc;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;

use super::call::{Answer, Call};
use super::cluster::{Cluster, TopicRef};
use super::journal::Event;
use super::node::Node;
use super::outbox::Outbox;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// What a topic may be configured with, and the defaults of Kafka 4.3.
pub(super) const TOPIC_CONFIGS: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("delete.retention.ms", "86400000"),
    ("file.delete.delay.ms", "60000"),
    ("flush.messages", "9223372036854775807"),
    ("flush.ms", "9223372036854775807"),
    ("index.interval.bytes", "4096"),
    ("local.retention.bytes", "-2"),
    ("local.retention.ms", "-2"),
    ("max.compaction.lag.ms", "9223372036854775807"),
    ("max.message.bytes", "1048588"),
    ("message.timestamp.after.max.ms", "3600000"),
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("message.timestamp.type", "CreateTime"),
    ("min.cleanable.dirty.ratio", "0.5"),
    ("min.compaction.lag.ms", "0"),
    ("min.insync.replicas", "1"),
    ("preallocate", "false"),
    ("retention.bytes", "-1"),
    ("retention.ms", "604800000"),
    ("segment.bytes", "1073741824"),
    ("segment.index.bytes", "10485760"),
    ("segment.jitter.ms", "0"),
    ("segment.ms", "604800000"),
    ("unclean.leader.election.enable", "false"),
];

/// Whether a topic may have that setting.
pub(super) fn check_topic_config(
    name: &str,
    value: Option<&str>,
) -> Result<(), (ErrorCode, &'static str)> {
    let known = TOPIC_CONFIGS.iter().find(|(known, _)| *known == name);
    let (Some((_, default)), Some(value)) = (known, value) else {
        return Err((ErrorCode::INVALID_CONFIG, "no such setting, or no value"));
    };
    let fits = match name {
        "message.timestamp.type" => matches!(value, "CreateTime" | "LogAppendTime"),
        "cleanup.policy" => {
            value.split(',').all(|policy| matches!(policy.trim(), "delete" | "compact"))
        }
        _ if default.parse::<i64>().is_ok() => value.trim().parse::<i64>().is_ok(),
        _ => true,
    };
    if fits { Ok(()) } else { Err((ErrorCode::INVALID_CONFIG, "not a value of that setting")) }
}

/// Answers DescribeConfigs.
pub(super) fn describe_configs(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<DescribeConfigsRequest>() else { return Answer::Close };
    let cluster = node.lock();
    let mut response = DescribeConfigsResponse::default();
    for resource in &request.resources {
        let mut result = DescribeConfigsResult::default();
        result.resource_type = resource.resource_type;
        result.resource_name = resource.resource_name.clone();
        match settings(&cluster, node, resource) {
            Ok(settings) => {
                result.error_message = Some(StrBytes::default());
                result.configs = settings
                    .into_iter()
                    .filter(|config| is_asked(resource, &config.name))
                    .collect();
            }
            Err(error) => {
                result.error_code = error.0;
                result.error_message = Some(StrBytes::default());
            }
        }
        response.results.push(result);
    }
    drop(cluster);
    call.reply(out, &response)
}

fn is_asked(resource: &DescribeConfigsResource, name: &StrBytes) -> bool {
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.contains(name),
        _ => true,
    }
}

fn settings(
    cluster: &Cluster,
    node: &Node,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, ErrorCode> {
    const SET_FOR_TOPIC: i8 = 1;
    const STATIC: i8 = 4;
    const DEFAULT: i8 = 5;
    match resource.resource_type {
        TOPIC => {
            let slot = cluster
                .find_topic(TopicRef::Name(&resource.resource_name))
                .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
            let set = &cluster.topic(slot).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.configs;
            let all = TOPIC_CONFIGS.iter().map(|(name, default)| match set.get(*name) {
                Some(value) => setting(name, value, SET_FOR_TOPIC),
                None => setting(name, default, DEFAULT),
            });
            Ok(all.collect())
        }
        BROKER => {
            let config = node.config();
            Ok(vec![
                setting(
                    "auto.create.topics.enable",
                    &config.auto_create_topics.to_string(),
                    STATIC,
                ),
                setting("message.max.bytes", &config.message_max_bytes.to_string(), STATIC),
                setting("node.id", &node.node_id.to_string(), STATIC),
                setting("num.partitions", &config.num_partitions.to_string(), STATIC),
                setting(
                    "transaction.max.timeout.ms",
                    &config.transaction_max_timeout_ms.to_string(),
                    STATIC,
                ),
            ])
        }
        _ => Err(ErrorCode::INVALID_REQUEST),
    }
}

fn setting(name: &'static str, value: &str, source: i8) -> DescribeConfigsResourceResult {
    const STRING: i8 = 2;
    let mut result = DescribeConfigsResourceResult::default();
    result.name = StrBytes::from_static_str(name);
    result.value = Some(StrBytes::from(value.to_owned()));
    result.config_source = source;
    result.config_type = STRING;
    result
}

/// Answers IncrementalAlterConfigs.
pub(super) fn incremental_alter_configs(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<IncrementalAlterConfigsRequest>() else {
        return Answer::Close;
    };
    let mut cluster = node.lock();
    let mut response = IncrementalAlterConfigsResponse::default();
    for resource in &request.resources {
        let mut result = AlterConfigsResourceResponse::default();
        result.resource_type = resource.resource_type;
        result.resource_name = resource.resource_name.clone();
        if let Err((error, message)) = alter(&mut cluster, resource, request.validate_only) {
            result.error_code = error.0;
            result.error_message = Some(StrBytes::from_static_str(message));
        }
        response.responses.push(result);
    }
    drop(cluster);
    call.reply(out, &response)
}

fn alter(
    cluster: &mut Cluster,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), (ErrorCode, &'static str)> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    if resource.resource_type != TOPIC {
        return Err((ErrorCode::INVALID_REQUEST, "only topics can be configured"));
    }
    let unknown = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no topic of that name");
    let slot = cluster.find_topic(TopicRef::Name(&resource.resource_name)).ok_or(unknown)?;
    let mut configs = cluster.topic(slot).ok_or(unknown)?.configs.clone();
    for config in &resource.configs {
        match config.config_operation {
            SET => {
                check_topic_config(&config.name, config.value.as_deref())?;
                let value = config.value.as_deref().unwrap_or_default();
                configs.insert(config.name.to_string(), value.to_owned());
            }
            DELETE => drop(configs.remove(&*config.name)),
            _ => return Err((ErrorCode::INVALID_REQUEST, "only set and delete are served")),
        }
    }
    if validate_only {
        return Ok(());
    }
    let kept = configs.clone().into_iter().collect();
    cluster.keep(&Event::Configs { topic: cluster.topic_text(slot), configs: kept }, b"");
    if let Some(topic) = cluster.topic_mut(slot) {
        topic.configs = configs;
    }
    Ok(())
}
