//! Answers JoinGroup, SyncGroup, Heartbeat and LeaveGroup.

use std::sync::Arc;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;

use super::super::bug::Bug;
use super::super::call::{Answer, Call, Later};
use super::super::cluster::Cluster;
use super::super::node::Node;
use super::super::outbox::Outbox;
use super::classic::{Classic, Join, Joined, Reply, Sync, Synced};
use super::{Members, coordinates};

/// The classic group of that name, if it is one.
fn classic<'a>(
    cluster: &'a mut Cluster,
    node: &Node,
    group_id: &str,
) -> Result<&'a mut Classic, ErrorCode> {
    if group_id.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    coordinates(cluster, node, group_id)?;
    let group = cluster.groups.groups.get_mut(group_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
    match &mut group.members {
        Members::Classic(classic) => Ok(classic),
        Members::Consumer(_) => Err(ErrorCode::UNKNOWN_MEMBER_ID),
    }
}

/// Answers what is in the mailbox, now or when something is.
fn answer<T: Send + 'static>(
    out: &mut Outbox,
    reply: Reply<T>,
    say: impl Fn(&mut Outbox, T) -> Answer + Send + 'static,
) -> Answer {
    match reply {
        Reply::Now(value) => say(out, value),
        Reply::Later(mailbox) => {
            if let Some(value) = mailbox.take() {
                return say(out, value);
            }
            Answer::Later(Later {
                signal: mailbox.signal.clone(),
                deadline_ns: None,
                resume: Box::new(move |_, out, _| mailbox.take().map(|value| say(out, value))),
            })
        }
    }
}

/// Answers JoinGroup.
pub(crate) fn join_group(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<JoinGroupRequest>() else { return Answer::Close };
    let version = call.version();
    let client_id = String::from_utf8_lossy(&call.client_id).into_owned();
    let join = Join {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        client_id: client_id.clone(),
        session_timeout_ms: request.session_timeout_ms,
        // Version 0 has no rebalance timeout: the session's counts.
        rebalance_timeout_ms: match version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .iter()
            .map(|protocol| (protocol.name.to_string(), protocol.metadata.clone()))
            .collect(),
        knows_id_first: version >= 4,
        may_skip: version >= 9,
    };
    let reply = {
        let mut cluster = node.lock();
        let prefix = join.instance_id.clone().unwrap_or(client_id);
        let fresh_id = format!("{prefix}-{}", cluster.fresh_uuid());
        let member_id = join.member_id.clone();
        join_in(&mut cluster, node, &request.group_id, join, fresh_id)
            .unwrap_or_else(|error| Reply::Now(Joined::refused(error, &member_id)))
    };
    node.shared.work.notify_one();
    answer(out, reply, move |out, joined| call.reply(out, &join_response(version, joined)))
}

fn join_in(
    cluster: &mut Cluster,
    node: &Node,
    group_id: &str,
    join: Join,
    fresh_id: String,
) -> Result<Reply<Joined>, ErrorCode> {
    if group_id.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    coordinates(cluster, node, group_id)?;
    let config = node.config();
    let sessions = config.group_min_session_timeout_ms..=config.group_max_session_timeout_ms;
    if !sessions.contains(&join.session_timeout_ms) {
        return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
    }
    if !join.member_id.is_empty() && !cluster.groups.groups.contains_key(group_id) {
        return Err(ErrorCode::UNKNOWN_MEMBER_ID);
    }
    let is_hasty = cluster.mischief.is(Bug::AcceptStaleCommit);
    let group = cluster.groups.make(group_id);
    if let Members::Consumer(consumer) = &group.members {
        if !consumer.is_empty() {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        group.members = Members::Classic(Classic::default());
    }
    match &mut group.members {
        Members::Classic(classic) => {
            classic.is_hasty = is_hasty;
            Ok(classic.join(join, fresh_id, node.now_ms()))
        }
        Members::Consumer(_) => Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
    }
}

fn join_response(version: i16, joined: Joined) -> JoinGroupResponse {
    let text = StrBytes::from;
    let mut response = JoinGroupResponse::default();
    response.error_code = joined.error.0;
    response.generation_id = joined.generation_id;
    if version >= 7 {
        response.protocol_type = joined.protocol_type.map(text);
    }
    response.protocol_name = match joined.protocol_name {
        // Null came with version 7.
        None if version < 7 => Some(StrBytes::default()),
        name => name.map(text),
    };
    response.leader = text(joined.leader);
    response.member_id = text(joined.member_id);
    response.skip_assignment = version >= 9 && joined.skip_assignment;
    for (member_id, instance_id, metadata) in joined.members {
        let mut member = JoinGroupResponseMember::default();
        member.member_id = text(member_id);
        if version >= 5 {
            member.group_instance_id = instance_id.map(text);
        }
        member.metadata = metadata;
        response.members.push(member);
    }
    response
}

/// Answers SyncGroup.
pub(crate) fn sync_group(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<SyncGroupRequest>() else { return Answer::Close };
    let version = call.version();
    let owned = |text: &Option<StrBytes>| text.as_ref().map(ToString::to_string);
    let mut sync = Sync {
        member_id: request.member_id.to_string(),
        instance_id: owned(&request.group_instance_id),
        generation_id: request.generation_id,
        protocol_type: owned(&request.protocol_type),
        protocol_name: owned(&request.protocol_name),
        assignments: request
            .assignments
            .iter()
            .map(|assignment| (assignment.member_id.to_string(), assignment.assignment.clone()))
            .collect(),
    };
    let now_ms = node.now_ms();
    let reply = {
        let mut cluster = node.lock();
        // A bug: what was meant for one member is told to another as well.
        if let [first, second, ..] = &mut sync.assignments[..]
            && cluster.mischief.rolls(Bug::SharePartition, 2)
        {
            second.1.clone_from(&first.1);
        }
        match classic(&mut cluster, node, &request.group_id) {
            // From version 5 on both protocol fields are there (KIP-559).
            Ok(_)
                if version >= 5
                    && (sync.protocol_type.is_none() || sync.protocol_name.is_none()) =>
            {
                Reply::Now(Synced::refused(ErrorCode::INCONSISTENT_GROUP_PROTOCOL))
            }
            Ok(classic) => classic.sync(sync, now_ms),
            Err(error) => Reply::Now(Synced::refused(error)),
        }
    };
    answer(out, reply, move |out, synced: Synced| {
        let mut response = SyncGroupResponse::default();
        response.error_code = synced.error.0;
        if version >= 5 {
            response.protocol_type = synced.protocol_type.map(StrBytes::from);
            response.protocol_name = synced.protocol_name.map(StrBytes::from);
        }
        response.assignment = synced.assignment;
        call.reply(out, &response)
    })
}

/// Answers Heartbeat.
pub(crate) fn heartbeat(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<HeartbeatRequest>() else { return Answer::Close };
    let now_ms = node.now_ms();
    let beat = {
        let mut cluster = node.lock();
        classic(&mut cluster, node, &request.group_id).and_then(|classic| {
            let instance_id = request.group_instance_id.as_deref();
            classic.heartbeat(&request.member_id, instance_id, request.generation_id, now_ms)
        })
    };
    let mut response = HeartbeatResponse::default();
    response.error_code = beat.err().unwrap_or(ErrorCode::NONE).0;
    call.reply(out, &response)
}

/// Answers LeaveGroup: one member up to version 2, several from 3 on (KIP-345).
pub(crate) fn leave_group(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<LeaveGroupRequest>() else { return Answer::Close };
    let now_ms = node.now_ms();
    let mut response = LeaveGroupResponse::default();
    let mut cluster = node.lock();
    match classic(&mut cluster, node, &request.group_id) {
        // A group that is not there has no such member: said of each where each has its say.
        Err(error) if call.version() < 3 || error != ErrorCode::UNKNOWN_MEMBER_ID => {
            response.error_code = error.0;
        }
        Err(error) => {
            for leaving in &request.members {
                response.members.push(left(leaving, Err(error)));
            }
        }
        Ok(classic) if call.version() < 3 => {
            let left = classic.leave(&request.member_id, None, now_ms);
            response.error_code = left.err().unwrap_or(ErrorCode::NONE).0;
        }
        Ok(classic) => {
            for leaving in &request.members {
                let instance_id = leaving.group_instance_id.as_deref();
                let result = classic.leave(&leaving.member_id, instance_id, now_ms);
                response.members.push(left(leaving, result));
            }
        }
    }
    drop(cluster);
    call.reply(out, &response)
}

fn left(
    leaving: &kafka_protocol::messages::leave_group_request::MemberIdentity,
    result: Result<(), ErrorCode>,
) -> MemberResponse {
    let mut member = MemberResponse::default();
    member.member_id = leaving.member_id.clone();
    member.group_instance_id = leaving.group_instance_id.clone();
    member.error_code = result.err().unwrap_or(ErrorCode::NONE).0;
    member
}
