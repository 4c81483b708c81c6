//! The requests of a consumer group, classic and of KIP-848, each one attempt.
//!
//! What members tell each other through the classic protocol (subscriptions, assignments) is read
//! and written here too; the broker does not look into it.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as Owned;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_wire::ErrorCode;
use kafka_wire::ids::GenerationId;
use kafka_wire::schema;
use uuid::Uuid;

use super::cluster::{TopicPartition, topic_name};
use super::connection::{Connection, Fate, Frame, Response};
use super::offsets::by_topic;
use super::transaction::Membership;
use super::typed;

/// The protocol type of consumers.
const CONSUMER: &str = "consumer";
/// Subscriptions and assignments as written: with owned partitions (KIP-429).
const MEMBER_VERSION: i16 = 1;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(membership: &Membership) -> GroupId {
    GroupId(text(&membership.group_id))
}

/// What a member says when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join<'a> {
    /// Who it is; an empty member id asks for one.
    pub membership: &'a Membership,
    /// Without a heartbeat for so long it is out.
    pub session_timeout_ms: i32,
    /// So long may members take to join again. Since v1.
    pub rebalance_timeout_ms: i32,
    /// Assignors it knows, the preferred first, each with its subscription.
    pub protocols: &'a [(&'static str, Bytes)],
}

/// What JoinGroup answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its error; with MEMBER_ID_REQUIRED (KIP-394) there is a member id all the same.
    pub error: ErrorCode,
    /// The generation.
    pub generation_id: GenerationId,
    /// The assignor all members know.
    pub protocol: Option<String>,
    /// The member that assigns.
    pub leader: String,
    /// Who we are.
    pub member_id: String,
    /// All members with their subscriptions, for the leader only.
    pub members: Vec<(String, Bytes)>,
}

/// Encodes a JoinGroup.
///
/// # Errors
/// [`Fate::NotSent`] where the version cannot express it.
pub fn join_frame(api_version: i16, join: &Join<'_>) -> Result<Frame, Fate> {
    let protocols = join.protocols.iter().map(|(name, metadata)| {
        JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(name))
            .with_metadata(metadata.clone())
    });
    let mut request = JoinGroupRequest::default()
        .with_group_id(group(join.membership))
        .with_session_timeout_ms(join.session_timeout_ms)
        .with_member_id(text(&join.membership.member_id))
        .with_protocol_type(StrBytes::from_static_str(CONSUMER))
        .with_protocols(protocols.collect());
    if api_version >= 1 {
        request.rebalance_timeout_ms = join.rebalance_timeout_ms;
    }
    if api_version >= 5 {
        request.group_instance_id = join.membership.group_instance_id.as_deref().map(text);
    }
    typed::encode(&request, api_version)
}

/// Reads the answer to a JoinGroup.
///
/// # Errors
/// [`Fate::Broken`] where it does not decode.
pub fn joined(response: Response, api_version: i16) -> Result<Joined, Fate> {
    let answer = typed::typed_answer::<JoinGroupRequest>(response, api_version)?;
    Ok(Joined {
        error: ErrorCode(answer.error_code),
        generation_id: GenerationId(answer.generation_id),
        protocol: answer.protocol_name.map(|name| name.to_string()),
        leader: answer.leader.to_string(),
        member_id: answer.member_id.to_string(),
        members: answer
            .members
            .into_iter()
            .map(|member| (member.member_id.to_string(), member.metadata))
            .collect(),
    })
}

/// Encodes a SyncGroup; only the leader has assignments to give.
///
/// # Errors
/// [`Fate::NotSent`] where the version cannot express it.
pub fn sync_frame(
    api_version: i16,
    membership: &Membership,
    protocol: &str,
    assignments: &[(String, Bytes)],
) -> Result<Frame, Fate> {
    let assignments = assignments.iter().map(|(member_id, assignment)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member_id))
            .with_assignment(assignment.clone())
    });
    let mut request = SyncGroupRequest::default()
        .with_group_id(group(membership))
        .with_generation_id(membership.generation_id.0)
        .with_member_id(text(&membership.member_id))
        .with_assignments(assignments.collect());
    if api_version >= 3 {
        request.group_instance_id = membership.group_instance_id.as_deref().map(text);
    }
    if api_version >= 5 {
        request.protocol_type = Some(StrBytes::from_static_str(CONSUMER));
        request.protocol_name = Some(text(protocol));
    }
    typed::encode(&request, api_version)
}

/// Reads the answer to a SyncGroup: the error and what this member is assigned.
///
/// # Errors
/// [`Fate::Broken`] where it does not decode.
pub fn synced(response: Response, api_version: i16) -> Result<(ErrorCode, Bytes), Fate> {
    let answer = typed::typed_answer::<SyncGroupRequest>(response, api_version)?;
    Ok((ErrorCode(answer.error_code), answer.assignment))
}

/// Says that a member of a classic group is there.
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn heartbeat(
    connection: &Connection,
    api_version: i16,
    membership: &Membership,
) -> Result<ErrorCode, Fate> {
    let mut request = HeartbeatRequest::default()
        .with_group_id(group(membership))
        .with_generation_id(membership.generation_id.0)
        .with_member_id(text(&membership.member_id));
    if api_version >= 3 {
        request.group_instance_id = membership.group_instance_id.as_deref().map(text);
    }
    Ok(ErrorCode(connection.call(&request, api_version).await?.error_code))
}

/// Leaves a classic group.
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn leave(
    connection: &Connection,
    api_version: i16,
    membership: &Membership,
) -> Result<ErrorCode, Fate> {
    let mut request = LeaveGroupRequest::default().with_group_id(group(membership));
    if api_version >= 3 {
        let member = MemberIdentity::default()
            .with_member_id(text(&membership.member_id))
            .with_group_instance_id(membership.group_instance_id.as_deref().map(text));
        request.members = vec![member];
    } else {
        request.member_id = text(&membership.member_id);
    }
    let answer = connection.call(&request, api_version).await?;
    let of_member = answer.members.first().map_or(0, |member| member.error_code);
    Ok(ErrorCode(if answer.error_code == 0 { of_member } else { answer.error_code }))
}

/// What a member of a KIP-848 group says; what is absent has not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat<'a> {
    /// Who it is; the member epoch stands as its generation: 0 joins, −1 leaves, −2 leaves for a
    /// while (static members).
    pub membership: &'a Membership,
    /// So long may it take to give partitions up.
    pub rebalance_timeout_ms: Option<i32>,
    /// What it subscribes to.
    pub topics: Option<&'a [std::sync::Arc<str>]>,
    /// What it has, by topic id.
    pub owned: Option<&'a [(Uuid, Vec<i32>)]>,
}

/// What ConsumerGroupHeartbeat answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beaten {
    /// Its error.
    pub error: ErrorCode,
    /// Who we are, where the broker gives the name (v0).
    pub member_id: Option<String>,
    /// The member epoch from now on.
    pub member_epoch: GenerationId,
    /// When the next one is due.
    pub heartbeat_interval_ms: i32,
    /// What the member may have, by topic id; absent where that has not changed.
    pub assignment: Option<Vec<(Uuid, Vec<i32>)>>,
}

/// Says that a member of a KIP-848 group is there, and hears what it may have.
///
/// # Errors
/// What became of it where no answer that decodes came.
pub async fn consumer_heartbeat(
    connection: &Connection,
    api_version: i16,
    beat: &Beat<'_>,
) -> Result<Beaten, Fate> {
    let partitions = |(topic_id, partitions): &(Uuid, Vec<i32>)| {
        TopicPartitions::default().with_topic_id(*topic_id).with_partitions(partitions.clone())
    };
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(beat.membership))
        .with_member_id(text(&beat.membership.member_id))
        .with_member_epoch(beat.membership.generation_id.0)
        .with_instance_id(beat.membership.group_instance_id.as_deref().map(text))
        .with_rebalance_timeout_ms(beat.rebalance_timeout_ms.unwrap_or(-1))
        .with_subscribed_topic_names(
            beat.topics.map(|topics| topics.iter().map(|topic| topic_name(topic)).collect()),
        )
        .with_topic_partitions(beat.owned.map(|owned| owned.iter().map(partitions).collect()));
    let answer = connection.call(&request, api_version).await?;
    Ok(Beaten {
        error: ErrorCode(answer.error_code),
        member_id: answer.member_id.map(|id| id.to_string()),
        member_epoch: GenerationId(answer.member_epoch),
        heartbeat_interval_ms: answer.heartbeat_interval_ms,
        assignment: answer.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.into_iter();
            topics.map(|topic| (topic.topic_id, topic.partitions)).collect()
        }),
    })
}

/// A subscription as members of classic groups tell it.
#[must_use]
pub fn encode_subscription(topics: &[std::sync::Arc<str>], owned: &[TopicPartition]) -> Bytes {
    let owned = by_topic(owned).into_iter().map(|(topic, partitions)| {
        Owned::default().with_topic(topic_name(topic)).with_partitions(partitions)
    });
    let subscription = ConsumerProtocolSubscription::default()
        .with_topics(topics.iter().map(|topic| text(topic)).collect())
        .with_owned_partitions(owned.collect());
    encode_member(&subscription)
}

/// Reads topics and owned partitions of a subscription; absent where it does not decode.
#[must_use]
pub fn decode_subscription(bytes: &Bytes) -> Option<(Vec<String>, Vec<TopicPartition>)> {
    let subscription: ConsumerProtocolSubscription =
        decode_member("ConsumerProtocolSubscription", bytes)?;
    let topics = subscription.topics.iter().map(ToString::to_string).collect();
    let owned = subscription.owned_partitions.iter();
    let owned = owned.flat_map(|owned| partitions(owned.topic.0.as_str(), &owned.partitions));
    Some((topics, owned.collect()))
}

/// An assignment as the leader of a classic group tells it.
#[must_use]
pub fn encode_assignment(assigned: &[TopicPartition]) -> Bytes {
    let assigned = by_topic(assigned).into_iter().map(|(topic, partitions)| {
        Assigned::default().with_topic(topic_name(topic)).with_partitions(partitions)
    });
    encode_member(
        &ConsumerProtocolAssignment::default().with_assigned_partitions(assigned.collect()),
    )
}

/// Reads an assignment; no bytes are no partitions. Absent where it does not decode.
#[must_use]
pub fn decode_assignment(bytes: &Bytes) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let assignment: ConsumerProtocolAssignment =
        decode_member("ConsumerProtocolAssignment", bytes)?;
    let assigned = assignment.assigned_partitions.iter();
    let assigned = assigned.flat_map(|topic| partitions(topic.topic.0.as_str(), &topic.partitions));
    Some(assigned.collect())
}

fn partitions(topic: &str, numbers: &[i32]) -> Vec<TopicPartition> {
    let topic: std::sync::Arc<str> = topic.into();
    let partition =
        |partition: &i32| TopicPartition { topic: topic.clone(), partition: *partition };
    numbers.iter().map(partition).collect()
}

fn encode_member(message: &impl Encodable) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(MEMBER_VERSION);
    message.encode(&mut out, MEMBER_VERSION).expect("the version expresses what was set");
    out.freeze()
}

/// Reads what another member wrote, at its own version, once the walker has passed it.
fn decode_member<M: Decodable>(name: &str, bytes: &Bytes) -> Option<M> {
    let version = i16::from_be_bytes(*bytes.first_chunk()?);
    let mut body = bytes.slice(2..);
    let layout = schema::data_message(name)?.layout(version)?;
    layout.guard(&body, schema::Limits::default()).ok()?;
    M::decode(&mut body, version).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    #[test]
    fn subscriptions_and_assignments_come_back_as_they_went_in() {
        let topics: [Arc<str>; 2] = ["a".into(), "b".into()];
        let owned = [tp("a", 0), tp("a", 3), tp("b", 1)];
        let bytes = encode_subscription(&topics, &owned);
        let expected = (vec!["a".to_owned(), "b".to_owned()], owned.to_vec());
        assert_eq!(decode_subscription(&bytes), Some(expected));
        assert_eq!(decode_assignment(&encode_assignment(&owned)), Some(owned.to_vec()));
        assert_eq!(decode_assignment(&Bytes::new()), Some(Vec::new()));
    }

    #[test]
    fn what_another_member_says_cannot_harm() {
        for bytes in [&[0u8, 0][..], &[0, 1, 0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0, 0, 0, 0]] {
            assert_eq!(decode_subscription(&Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
    }
}
