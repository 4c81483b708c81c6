//! Answers ConsumerGroupHeartbeat and ConsumerGroupDescribe (KIP-848).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::consumer_group_describe_response as described;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;

use super::super::call::{Answer, Call};
use super::super::cluster::{Cluster, TopicRef};
use super::super::node::Node;
use super::super::outbox::Outbox;
use super::consumer::{Assignor, Beat, Consumer, Heartbeat, Owned, Topics};
use super::{Members, coordinates};

/// Why a heartbeat is refused.
type Refused = (ErrorCode, &'static str);

/// Answers ConsumerGroupHeartbeat.
pub(crate) fn heartbeat(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<ConsumerGroupHeartbeatRequest>() else {
        return Answer::Close;
    };
    let mut response = ConsumerGroupHeartbeatResponse::default();
    let mut cluster = node.lock();
    let mut member_id = request.member_id.to_string();
    if call.version() == 0 && member_id.is_empty() && request.member_epoch == 0 {
        member_id = cluster.fresh_uuid().to_string();
    }
    match beat(&mut cluster, node, &request, &call, &member_id) {
        Ok(beat) => {
            response.member_id = Some(StrBytes::from(member_id));
            response.member_epoch = beat.member_epoch;
            response.heartbeat_interval_ms = match beat.member_epoch {
                ..0 => 0,
                _ => node.config().consumer_heartbeat_interval_ms,
            };
            response.assignment = beat.assignment.as_ref().map(assignment);
        }
        Err((error, message)) => {
            response.error_code = error.0;
            response.error_message = Some(StrBytes::from_static_str(message));
        }
    }
    drop(cluster);
    node.shared.work.notify_one();
    call.reply(out, &response)
}

fn assignment(owned: &BTreeSet<Owned>) -> Assignment {
    let mut by_topic: BTreeMap<uuid::Uuid, Vec<i32>> = BTreeMap::new();
    for &(topic_id, partition) in owned {
        by_topic.entry(topic_id).or_default().push(partition);
    }
    let topics = by_topic.into_iter().map(|(topic_id, partitions)| {
        let mut topic = TopicPartitions::default();
        topic.topic_id = topic_id;
        topic.partitions = partitions;
        topic
    });
    let mut assignment = Assignment::default();
    assignment.topic_partitions = topics.collect();
    assignment
}

fn beat(
    cluster: &mut Cluster,
    node: &Node,
    request: &ConsumerGroupHeartbeatRequest,
    call: &Call,
    member_id: &str,
) -> Result<Beat, Refused> {
    check(request, member_id)?;
    coordinates(cluster, node, &request.group_id).map_err(|error| (error, ""))?;
    let assignor = match request.server_assignor.as_deref() {
        None => None,
        Some(name) => {
            let unknown = (ErrorCode::UNSUPPORTED_ASSIGNOR, "no such assignor");
            Some(Assignor::from_name(name).ok_or(unknown)?)
        }
    };
    let heartbeat = Heartbeat {
        member_id: member_id.to_owned(),
        member_epoch: request.member_epoch,
        instance_id: request.instance_id.as_ref().map(ToString::to_string),
        rack_id: request.rack_id.as_ref().map(ToString::to_string),
        client_id: String::from_utf8_lossy(&call.client_id).into_owned(),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        subscribed: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(|name| name.0.to_string()).collect()),
        assignor,
        owned: request.topic_partitions.as_ref().map(|topics| {
            let of = |topic: &kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions| {
                let id = topic.topic_id;
                topic.partitions.iter().map(move |&p| (id, p)).collect::<Vec<_>>()
            };
            topics.iter().flat_map(of).collect()
        }),
    };
    let topics: Topics = cluster
        .topics()
        .map(|topic| (topic.name.to_string(), (topic.id, topic.partitions.len() as i32)))
        .collect();
    let consumer = consumer(cluster, &request.group_id, request.member_epoch == 0)?;
    let result = if request.member_epoch < 0 {
        consumer.leave(&heartbeat)
    } else {
        let session_timeout_ms = node.config().consumer_session_timeout_ms.into();
        consumer.heartbeat(heartbeat, &topics, session_timeout_ms, node.now_ms())
    };
    result.map_err(|error| (error, "the member and its epoch do not fit the group"))
}

/// What is wrong with a heartbeat by itself.
fn check(request: &ConsumerGroupHeartbeatRequest, member_id: &str) -> Result<(), Refused> {
    let invalid = |message| Err((ErrorCode::INVALID_REQUEST, message));
    if request.group_id.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if member_id.is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.member_epoch < -2 {
        return invalid("MemberEpoch is invalid.");
    }
    if request.instance_id.as_ref().is_some_and(|instance_id| instance_id.is_empty()) {
        return invalid("InstanceId can't be empty.");
    }
    if request.subscribed_topic_regex.as_ref().is_some_and(|regex| !regex.is_empty()) {
        return invalid("Subscriptions by regular expression are not served here.");
    }
    if request.member_epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.as_ref().is_none_or(Vec::is_empty) {
            return invalid("SubscribedTopicNames must be set in first request.");
        }
    }
    Ok(())
}

fn consumer<'a>(
    cluster: &'a mut Cluster,
    group_id: &str,
    joins: bool,
) -> Result<&'a mut Consumer, Refused> {
    if !joins && !cluster.groups.groups.contains_key(group_id) {
        return Err((ErrorCode::GROUP_ID_NOT_FOUND, "there is no such group"));
    }
    let group = cluster.groups.make(group_id);
    if let Members::Classic(classic) = &group.members {
        if classic.has_members() || !joins {
            return Err((ErrorCode::GROUP_ID_NOT_FOUND, "the group is not a consumer group"));
        }
        group.members = Members::Consumer(Consumer::default());
    }
    match &mut group.members {
        Members::Consumer(consumer) => Ok(consumer),
        Members::Classic(_) => Err((ErrorCode::GROUP_ID_NOT_FOUND, "not a consumer group")),
    }
}

/// Answers ConsumerGroupDescribe.
pub(crate) fn describe(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<ConsumerGroupDescribeRequest>() else {
        return Answer::Close;
    };
    let mut response = ConsumerGroupDescribeResponse::default();
    let mut cluster = node.lock();
    for group_id in &request.group_ids {
        let mut group = described::DescribedGroup::default();
        group.group_id = group_id.clone();
        let coordinated = coordinates(&mut cluster, node, group_id);
        match cluster.groups.groups.get(&***group_id).map(|group| &group.members) {
            _ if coordinated.is_err() => group.error_code = ErrorCode::NOT_COORDINATOR.0,
            Some(Members::Consumer(consumer)) => {
                describe_group(&cluster, consumer, call.version(), &mut group);
            }
            _ => {
                group.error_code = ErrorCode::GROUP_ID_NOT_FOUND.0;
                group.error_message = Some(StrBytes::from_static_str("not a consumer group"));
            }
        }
        response.groups.push(group);
    }
    drop(cluster);
    call.reply(out, &response)
}

fn describe_group(
    cluster: &Cluster,
    consumer: &Consumer,
    version: i16,
    group: &mut described::DescribedGroup,
) {
    group.group_state = StrBytes::from_static_str(consumer.state_name());
    group.group_epoch = consumer.group_epoch;
    group.assignment_epoch = consumer.assignment_epoch;
    group.assignor_name = StrBytes::from_static_str(consumer.assignor().name());
    for (id, known) in &consumer.members {
        let mut member = described::Member::default();
        member.member_id = StrBytes::from(id.clone());
        member.instance_id = known.instance_id.clone().map(StrBytes::from);
        member.rack_id = known.rack_id.clone().map(StrBytes::from);
        member.member_epoch = known.member_epoch;
        member.client_id = StrBytes::from(known.client_id.clone());
        member.client_host = StrBytes::from_static_str("/127.0.0.1");
        let named = |name: &String| TopicName(StrBytes::from(name.clone()));
        member.subscribed_topic_names = known.subscribed.iter().map(named).collect();
        member.assignment = described_assignment(cluster, &known.assigned);
        member.target_assignment = described_assignment(cluster, &known.target);
        if version >= 1 {
            member.member_type = 1;
        }
        group.members.push(member);
    }
}

fn described_assignment(cluster: &Cluster, owned: &BTreeSet<Owned>) -> described::Assignment {
    let mut result = described::Assignment::default();
    for topic in assignment(owned).topic_partitions {
        let mut named = described::TopicPartitions::default();
        named.topic_id = topic.topic_id;
        let found = cluster.find_topic(TopicRef::Id(topic.topic_id));
        if let Some(known) = found.and_then(|slot| cluster.topic(slot)) {
            named.topic_name = TopicName(known.name.clone());
        }
        named.partitions = topic.partitions;
        result.topic_partitions.push(named);
    }
    result
}
