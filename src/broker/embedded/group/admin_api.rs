//! Answers what administrators ask about groups: ListGroups, DescribeGroups, DeleteGroups.

use std::sync::Arc;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;

use super::super::call::{Answer, Call};
use super::super::node::Node;
use super::super::outbox::Outbox;
use super::classic::Classic;
use super::{Group, Members, coordinates};

/// Every operation there is on a group, as bits: who asks may do all.
const GROUP_OPERATIONS: i32 = 0b1_1001_0100_1000;

/// Answers ListGroups: those this node coordinates.
pub(crate) fn list_groups(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<ListGroupsRequest>() else { return Answer::Close };
    let mut response = ListGroupsResponse::default();
    let mut cluster = node.lock();
    let ids: Vec<String> = cluster.groups.groups.keys().cloned().collect();
    for id in ids {
        if coordinates(&mut cluster, node, &id).is_err() {
            continue;
        }
        let Some(group) = cluster.groups.groups.get(&id) else { continue };
        let asked = |filter: &[StrBytes], is: &str| {
            filter.is_empty() || filter.iter().any(|name| name.eq_ignore_ascii_case(is))
        };
        if !asked(&request.states_filter, group.state_name())
            || !asked(&request.types_filter, group.type_name())
        {
            continue;
        }
        let mut listed = ListedGroup::default();
        listed.group_id = GroupId(StrBytes::from(id.clone()));
        listed.protocol_type = protocol_type(group);
        if call.version() >= 4 {
            listed.group_state = StrBytes::from_static_str(group.state_name());
        }
        if call.version() >= 5 {
            listed.group_type = StrBytes::from_static_str(group.type_name());
        }
        response.groups.push(listed);
    }
    drop(cluster);
    call.reply(out, &response)
}

fn protocol_type(group: &Group) -> StrBytes {
    match &group.members {
        Members::Classic(classic) => {
            classic.protocol_type.clone().map(StrBytes::from).unwrap_or_default()
        }
        Members::Consumer(_) => StrBytes::from_static_str("consumer"),
    }
}

/// Answers DescribeGroups, of classic groups.
pub(crate) fn describe_groups(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<DescribeGroupsRequest>() else { return Answer::Close };
    let mut response = DescribeGroupsResponse::default();
    let mut cluster = node.lock();
    for group_id in &request.groups {
        let mut group = DescribedGroup::default();
        group.group_id = group_id.clone();
        let coordinated = coordinates(&mut cluster, node, group_id);
        match cluster.groups.groups.get(&***group_id).map(|group| &group.members) {
            _ if coordinated.is_err() => group.error_code = ErrorCode::NOT_COORDINATOR.0,
            Some(Members::Classic(classic)) => describe(classic, call.version(), &mut group),
            _ => {
                group.group_state = StrBytes::from_static_str("Dead");
                if call.version() >= 6 {
                    group.error_code = ErrorCode::GROUP_ID_NOT_FOUND.0;
                    group.error_message = Some(StrBytes::from_static_str("no such group"));
                }
            }
        }
        if request.include_authorized_operations && call.version() >= 3 {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        response.groups.push(group);
    }
    drop(cluster);
    call.reply(out, &response)
}

fn describe(classic: &Classic, version: i16, group: &mut DescribedGroup) {
    group.group_state = StrBytes::from_static_str(classic.state_name());
    group.protocol_type = classic.protocol_type.clone().map(StrBytes::from).unwrap_or_default();
    group.protocol_data = classic.protocol_name.clone().map(StrBytes::from).unwrap_or_default();
    for (id, known) in classic.members() {
        let mut member = DescribedGroupMember::default();
        member.member_id = StrBytes::from(id.clone());
        if version >= 4 {
            member.group_instance_id = known.instance_id.clone().map(StrBytes::from);
        }
        member.client_id = StrBytes::from(known.client_id.clone());
        member.client_host = StrBytes::from_static_str("/127.0.0.1");
        member.member_metadata = classic.metadata_of(known);
        member.member_assignment = known.assignment.clone();
        group.members.push(member);
    }
}

/// Answers DeleteGroups.
pub(crate) fn delete_groups(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<DeleteGroupsRequest>() else { return Answer::Close };
    let mut response = DeleteGroupsResponse::default();
    let mut cluster = node.lock();
    for group_id in &request.groups_names {
        let mut result = DeletableGroupResult::default();
        result.group_id = group_id.clone();
        let coordinated = coordinates(&mut cluster, node, group_id);
        let found = cluster.groups.groups.get(&***group_id).map(Group::is_empty);
        result.error_code = match (coordinated, found) {
            (Err(error), _) => error.0,
            (Ok(()), None) => ErrorCode::GROUP_ID_NOT_FOUND.0,
            (Ok(()), Some(false)) => ErrorCode::NON_EMPTY_GROUP.0,
            (Ok(()), Some(true)) => {
                cluster.groups.groups.remove(&***group_id);
                0
            }
        };
        response.results.push(result);
    }
    drop(cluster);
    call.reply(out, &response)
}
