//! Everything small, read as field trees: producer ids, transactions, groups, offsets, metadata.

use std::sync::Arc;

use kafka_wire::ApiKey;
use kafka_wire::schema::{self, Direction, Fields, Limits, Value};
use rustc_hash::FxHashSet;

use super::clusters::Node;
use super::fact::{Asked, Deed, EpochAsked, Offsets, PartitionOffset, Topic};
use super::names::Names;

/// Whether an API is read here.
pub(super) fn is_read(api_key: ApiKey) -> bool {
    matches!(
        api_key,
        ApiKey::METADATA
            | ApiKey::DESCRIBE_CLUSTER
            | ApiKey::FIND_COORDINATOR
            | ApiKey::OFFSET_COMMIT
            | ApiKey::OFFSET_FETCH
            | ApiKey::JOIN_GROUP
            | ApiKey::LEAVE_GROUP
            | ApiKey::SYNC_GROUP
            | ApiKey::API_VERSIONS
            | ApiKey::CREATE_TOPICS
            | ApiKey::DELETE_TOPICS
            | ApiKey::INIT_PRODUCER_ID
            | ApiKey::ADD_PARTITIONS_TO_TXN
            | ApiKey::ADD_OFFSETS_TO_TXN
            | ApiKey::END_TXN
            | ApiKey::WRITE_TXN_MARKERS
            | ApiKey::TXN_OFFSET_COMMIT
            | ApiKey::DELETE_GROUPS
            | ApiKey::OFFSET_DELETE
            | ApiKey::CONSUMER_GROUP_HEARTBEAT
    )
}

/// A body as a tree; absent where it does not decode to its end.
pub(super) fn tree(
    api_key: ApiKey,
    direction: Direction,
    version: i16,
    body: &[u8],
) -> Option<Fields> {
    let decoded = schema::layout(api_key, direction, version)?.decode(body, Limits::default());
    decoded.walked.stopped.is_none().then_some(decoded.fields)
}

/// A request, with its response where there is one.
pub(super) fn deed(
    (api_key, version): (ApiKey, i16),
    request: &Fields,
    response: Option<&Fields>,
    names: &mut Names,
) -> Deed {
    let mut read = Reader { names };
    let deed = match api_key {
        ApiKey::METADATA => response.map(|response| read.metadata(response)),
        ApiKey::DESCRIBE_CLUSTER | ApiKey::FIND_COORDINATOR => {
            response.map(|response| read.nodes_told(response))
        }
        ApiKey::API_VERSIONS => response.map(api_versions),
        ApiKey::CREATE_TOPICS => response.map(|r| read.topics_changed(r, "topics")),
        ApiKey::DELETE_TOPICS => response.map(|r| read.topics_changed(r, "responses")),
        ApiKey::DELETE_GROUPS | ApiKey::OFFSET_DELETE => Some(read.groups_changed(request)),
        ApiKey::INIT_PRODUCER_ID => Some(read.init_producer_id(request, response)),
        ApiKey::ADD_PARTITIONS_TO_TXN if version <= 3 => {
            Some(read.add_partitions(request, response))
        }
        ApiKey::ADD_OFFSETS_TO_TXN => Some(Deed::AddOffsetsToTxn {
            asked: read.epoch_asked(request, ""),
            group: read.text(request, "group_id"),
            error: response.map(error),
        }),
        ApiKey::END_TXN => Some(read.end_txn(request, response, version)),
        ApiKey::WRITE_TXN_MARKERS => Some(write_txn_markers(request)),
        ApiKey::TXN_OFFSET_COMMIT => Some(Deed::TxnOffsetCommit {
            asked: read.epoch_asked(request, ""),
            offsets: read.offsets(request, response),
        }),
        ApiKey::OFFSET_COMMIT => Some(Deed::OffsetCommit(read.offsets(request, response))),
        ApiKey::OFFSET_FETCH => response.map(|response| read.offset_fetch(request, response)),
        ApiKey::JOIN_GROUP => Some(read.join_group(request, response)),
        ApiKey::SYNC_GROUP => Some(read.sync_group(request, response)),
        ApiKey::LEAVE_GROUP => Some(read.leave_group(request, response)),
        ApiKey::CONSUMER_GROUP_HEARTBEAT => Some(read.heartbeat(request, response)),
        _ => None,
    };
    deed.unwrap_or(Deed::Other)
}

fn int(fields: &Fields, name: &str, absent: i64) -> i64 {
    fields.field(name).and_then(Value::as_int).unwrap_or(absent)
}

fn error(fields: &Fields) -> i16 {
    int(fields, "error_code", 0) as i16
}

fn flag(fields: &Fields, name: &str) -> bool {
    fields.field(name) == Some(&Value::Bool(true))
}

/// The structs of an array, none where it is null or absent.
fn structs<'f>(fields: &'f Fields, name: &str) -> impl Iterator<Item = &'f Fields> {
    let elements = fields.field(name).and_then(Value::as_array).unwrap_or_default();
    elements.iter().filter_map(Value::as_struct)
}

/// The integers of an array.
fn ints<'f>(fields: &'f Fields, name: &str) -> impl Iterator<Item = i32> + use<'f> {
    let elements = fields.field(name).and_then(Value::as_array).unwrap_or_default();
    elements.iter().filter_map(|value| value.as_int().map(|value| value as i32))
}

fn api_versions(response: &Fields) -> Deed {
    let row = |key: &Fields| {
        let of = |name| int(key, name, -1) as i16;
        (of("api_key"), of("min_version"), of("max_version"))
    };
    Deed::ApiVersions(match error(response) {
        0 => structs(response, "api_keys").map(row).collect(),
        _ => Vec::new(),
    })
}

fn write_txn_markers(request: &Fields) -> Deed {
    let marker = |fields: &Fields| {
        let epoch = int(fields, "producer_epoch", -1) as i16;
        (int(fields, "producer_id", -1), epoch, flag(fields, "transaction_result"))
    };
    Deed::WriteTxnMarkers(structs(request, "markers").map(marker).collect())
}

struct Reader<'n> {
    names: &'n mut Names,
}

impl Reader<'_> {
    fn text(&mut self, fields: &Fields, name: &str) -> Arc<str> {
        self.optional_text(fields, name).unwrap_or_else(|| self.names.of(b""))
    }

    fn optional_text(&mut self, fields: &Fields, name: &str) -> Option<Arc<str>> {
        let bytes = fields.field(name).and_then(Value::as_bytes)?;
        Some(self.names.of(bytes))
    }

    /// A topic of a struct that has its name or its id.
    fn topic(&mut self, fields: &Fields, name: &str) -> Topic {
        match (fields.field("topic_id"), self.optional_text(fields, name)) {
            (_, Some(name)) => Topic::Name(name),
            (Some(Value::Uuid(id)), None) => Topic::Id(*id),
            _ => Topic::default(),
        }
    }

    fn epoch_asked(&mut self, request: &Fields, prefix: &str) -> EpochAsked {
        let of = |name: &str| int(request, &format!("{prefix}{name}"), -1);
        EpochAsked {
            transactional_id: self.text(request, &format!("{prefix}transactional_id")),
            producer_id: of("producer_id"),
            producer_epoch: of("producer_epoch") as i16,
        }
    }

    fn member(&mut self, request: &Fields, epoch: &str, instance: &str) -> Asked {
        Asked {
            group: self.text(request, "group_id"),
            generation: int(request, epoch, -1) as i32,
            member: self.text(request, "member_id"),
            instance: self.optional_text(request, instance),
        }
    }

    fn metadata(&mut self, response: &Fields) -> Deed {
        let topics = structs(response, "topics").map(|topic| {
            let id = match topic.field("topic_id") {
                Some(Value::Uuid(id)) if *id != [0; 16] => Some(*id),
                _ => None,
            };
            (error(topic), self.optional_text(topic, "name"), id)
        });
        let topics = topics.collect();
        let nodes = self.nodes(response, "brokers", "node_id");
        Deed::Metadata { cluster_id: self.optional_text(response, "cluster_id"), nodes, topics }
    }

    /// The nodes of an array.
    fn nodes(&mut self, response: &Fields, array: &str, id: &str) -> Vec<Node> {
        structs(response, array).filter_map(|node| self.node(node, id)).collect()
    }

    fn node(&mut self, fields: &Fields, id: &str) -> Option<Node> {
        let host = self.optional_text(fields, "host")?;
        let port = u16::try_from(int(fields, "port", 0)).ok()?;
        let is_there = error(fields) == 0 && !host.is_empty() && port > 0;
        is_there.then(|| Node { id: int(fields, id, -1) as i32, host, port })
    }

    /// The brokers of DescribeCluster, and the coordinators of FindCoordinator, which is one
    /// until v3.
    fn nodes_told(&mut self, response: &Fields) -> Deed {
        let mut nodes = self.nodes(response, "brokers", "broker_id");
        nodes.extend(self.nodes(response, "coordinators", "node_id"));
        nodes.extend(self.node(response, "node_id"));
        Deed::Nodes { cluster_id: self.optional_text(response, "cluster_id"), nodes }
    }

    fn topics_changed(&mut self, response: &Fields, array: &str) -> Deed {
        let done = structs(response, array).filter(|topic| error(topic) == 0);
        Deed::TopicsChanged(done.map(|topic| self.topic(topic, "name")).collect())
    }

    fn groups_changed(&mut self, request: &Fields) -> Deed {
        let several = request.field("groups_names").and_then(Value::as_array).unwrap_or_default();
        let mut groups: Vec<Arc<str>> =
            several.iter().filter_map(Value::as_bytes).map(|b| self.names.of(b)).collect();
        groups.extend(self.optional_text(request, "group_id"));
        Deed::GroupsChanged(groups)
    }

    fn init_producer_id(&mut self, request: &Fields, response: Option<&Fields>) -> Deed {
        let pair = |f: &Fields| (int(f, "producer_id", -1), int(f, "producer_epoch", -1) as i16);
        Deed::InitProducerId {
            transactional_id: self.optional_text(request, "transactional_id"),
            timeout_ms: int(request, "transaction_timeout_ms", 0) as i32,
            asked: pair(request),
            answer: response.map(|response| {
                let (producer_id, producer_epoch) = pair(response);
                (error(response), producer_id, producer_epoch)
            }),
        }
    }

    fn add_partitions(&mut self, request: &Fields, response: Option<&Fields>) -> Deed {
        let mut partitions = Vec::new();
        for topic in structs(request, "v3_and_below_topics") {
            let name = self.topic(topic, "name");
            partitions.extend(ints(topic, "partitions").map(|index| (name.clone(), index)));
        }
        let errors = response.map(|response| {
            let of_topic = |topic| structs(topic, "results_by_partition");
            structs(response, "results_by_topic_v3_and_below")
                .flat_map(of_topic)
                .map(|result| int(result, "partition_error_code", 0) as i16)
                .collect()
        });
        let asked = self.epoch_asked(request, "v3_and_below_");
        Deed::AddPartitionsToTxn { asked, partitions, errors }
    }

    fn end_txn(&mut self, request: &Fields, response: Option<&Fields>, version: i16) -> Deed {
        let next = response.filter(|r| version >= 5 && error(r) == 0);
        Deed::EndTxn {
            asked: self.epoch_asked(request, ""),
            committed: flag(request, "committed"),
            error: response.map(error),
            next: next.map(|r| (int(r, "producer_id", -1), int(r, "producer_epoch", -1) as i16)),
        }
    }

    fn offsets(&mut self, request: &Fields, response: Option<&Fields>) -> Offsets {
        let mut offsets = Vec::new();
        for topic in structs(request, "topics") {
            let name = self.topic(topic, "name");
            offsets.extend(structs(topic, "partitions").map(|partition| PartitionOffset {
                topic: name.clone(),
                partition: int(partition, "partition_index", -1) as i32,
                offset: int(partition, "committed_offset", -1),
                error: 0,
            }));
        }
        for topic in response.into_iter().flat_map(|response| structs(response, "topics")) {
            let name = self.topic(topic, "name");
            for partition in structs(topic, "partitions") {
                let index = int(partition, "partition_index", -1) as i32;
                let is_it = |of: &&mut PartitionOffset| of.partition == index && of.topic == name;
                if let Some(of) = offsets.iter_mut().find(is_it) {
                    of.error = error(partition);
                }
            }
        }
        Offsets {
            member: self.member(request, "generation_id_or_member_epoch", "group_instance_id"),
            offsets,
            answered: response.is_some(),
        }
    }

    fn offset_fetch(&mut self, request: &Fields, response: &Fields) -> Deed {
        let mut groups = Vec::new();
        if response.field("groups").is_some() {
            for group in structs(response, "groups").filter(|group| error(group) == 0) {
                groups.push((self.text(group, "group_id"), self.fetched_offsets(group)));
            }
        } else if error(response) == 0 {
            groups.push((self.text(request, "group_id"), self.fetched_offsets(response)));
        }
        Deed::OffsetFetch { require_stable: flag(request, "require_stable"), groups }
    }

    fn fetched_offsets(&mut self, of: &Fields) -> Vec<PartitionOffset> {
        let mut offsets = Vec::new();
        for topic in structs(of, "topics") {
            let name = self.topic(topic, "name");
            for partition in structs(topic, "partitions").filter(|p| error(p) == 0) {
                offsets.push(PartitionOffset {
                    topic: name.clone(),
                    partition: int(partition, "partition_index", -1) as i32,
                    offset: int(partition, "committed_offset", -1),
                    error: 0,
                });
            }
        }
        offsets
    }

    fn join_group(&mut self, request: &Fields, response: Option<&Fields>) -> Deed {
        Deed::JoinGroup {
            group: self.text(request, "group_id"),
            instance: self.optional_text(request, "group_instance_id"),
            is_consumer: &*self.text(request, "protocol_type") == "consumer",
            answer: response.map(|response| {
                let generation = int(response, "generation_id", -1) as i32;
                (error(response), generation, self.text(response, "member_id"))
            }),
        }
    }

    fn sync_group(&mut self, request: &Fields, response: Option<&Fields>) -> Deed {
        let assignment = |fields: &Fields, names: &mut Names| {
            let bytes = fields.field("assignment").and_then(Value::as_bytes);
            consumer_assignment(bytes.unwrap_or_default(), names)
        };
        let mut given = FxHashSet::default();
        let mut shared_by_leader = false;
        for member in structs(request, "assignments") {
            for partition in assignment(member, self.names).unwrap_or_default() {
                shared_by_leader |= !given.insert(partition);
            }
        }
        Deed::SyncGroup {
            member: self.member(request, "generation_id", "group_instance_id"),
            assigns: structs(request, "assignments").next().is_some(),
            shared_by_leader,
            answer: response.and_then(|response| {
                let partitions = match error(response) {
                    0 => assignment(response, self.names)?,
                    _ => Vec::new(),
                };
                Some((error(response), partitions))
            }),
        }
    }

    fn leave_group(&mut self, request: &Fields, response: Option<&Fields>) -> Deed {
        let mut members: Vec<Arc<str>> =
            structs(request, "members").map(|member| self.text(member, "member_id")).collect();
        for member in response.into_iter().flat_map(|response| structs(response, "members")) {
            if error(member) != 0 {
                let failed = self.text(member, "member_id");
                members.retain(|member| *member != failed);
            }
        }
        members.extend(self.optional_text(request, "member_id"));
        Deed::LeaveGroup {
            group: self.text(request, "group_id"),
            members,
            error: response.map(error),
        }
    }

    fn heartbeat(&mut self, request: &Fields, response: Option<&Fields>) -> Deed {
        let assigned = response.and_then(|response| {
            let assignment = response.field("assignment")?.as_struct()?;
            let mut partitions = Vec::new();
            for topic in structs(assignment, "topic_partitions") {
                let id = self.topic(topic, "");
                partitions.extend(ints(topic, "partitions").map(|index| (id.clone(), index)));
            }
            Some(partitions)
        });
        Deed::ConsumerGroupHeartbeat {
            member: self.member(request, "member_epoch", "instance_id"),
            answer: response.map(|response| {
                let epoch = int(response, "member_epoch", -1) as i32;
                (error(response), epoch, self.optional_text(response, "member_id"))
            }),
            assigned,
        }
    }
}

/// The partitions of an assignment in the form of consumers: a version, topics with partitions,
/// user data. Absent where it is none.
fn consumer_assignment(mut bytes: &[u8], names: &mut Names) -> Option<Vec<(Topic, i32)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut take = |count: usize| {
        let (head, rest) = bytes.split_at_checked(count)?;
        bytes = rest;
        Some(head)
    };
    let version = i16::from_be_bytes(take(2)?.try_into().ok()?);
    if !(0..=16).contains(&version) {
        return None;
    }
    let topics = i32::from_be_bytes(take(4)?.try_into().ok()?);
    let mut partitions = Vec::new();
    for _ in 0..topics {
        let length = i16::from_be_bytes(take(2)?.try_into().ok()?);
        let topic = Topic::Name(names.of(take(usize::try_from(length).ok()?)?));
        let count = i32::from_be_bytes(take(4)?.try_into().ok()?);
        for _ in 0..count {
            let index = i32::from_be_bytes(take(4)?.try_into().ok()?);
            partitions.push((topic.clone(), index));
        }
    }
    Some(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_of_a_consumer_names_its_partitions() {
        let bytes = [0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0];
        let partitions = consumer_assignment(&bytes, &mut Names::default()).unwrap();
        assert_eq!(partitions, [(Topic::named("t"), 0), (Topic::named("t"), 3)]);
    }

    #[test]
    fn counts_beyond_the_bytes_are_no_assignment() {
        let bytes = [0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, b't', 0x7f, 0xff, 0xff, 0xff];
        assert_eq!(consumer_assignment(&bytes, &mut Names::default()), None);
    }
}
