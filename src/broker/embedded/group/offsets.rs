//! Offsets of groups: committed, committed within transactions, fetched, deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;

use super::super::bug::Bug;
use super::super::call::{Answer, Call};
use super::super::cluster::{Cluster, OFFSETS_TOPIC, TopicRef};
use super::super::journal::{Event, KeptOffset};
use super::super::node::Node;
use super::super::outbox::Outbox;
use super::super::transaction::Enlist;
use super::{Group, Groups, Members, coordinates};

/// `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;

/// A committed offset.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: StrBytes,
    /// Which commit it is, of all in the order they came in.
    nth: u64,
    /// The offset that it replaced, −1 if none: what a bug goes back to.
    before: i64,
}

impl Committed {
    fn kept(&self) -> KeptOffset {
        KeptOffset {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.to_string(),
        }
    }
}

impl From<KeptOffset> for Committed {
    fn from(kept: KeptOffset) -> Self {
        let metadata = StrBytes::from(kept.metadata);
        Self { offset: kept.offset, leader_epoch: kept.leader_epoch, metadata, nth: 0, before: -1 }
    }
}

fn kept(group: &str, place: &Place, committed: Option<&Committed>) -> Event {
    Event::Offset {
        group: group.to_owned(),
        topic: place.0.clone(),
        partition: place.1,
        committed: committed.map(Committed::kept),
    }
}

/// Partition of a topic by name: offsets outlive what they point to.
type Place = (String, i32);

/// What a group has committed.
#[derive(Debug, Default)]
pub(super) struct GroupOffsets {
    committed: BTreeMap<Place, Committed>,
    /// By producer id, until a marker decides.
    pending: BTreeMap<i64, BTreeMap<Place, Committed>>,
}

impl GroupOffsets {
    fn put(&mut self, place: Place, mut committed: Committed) {
        let known = self.committed.get(&place);
        committed.before = known.map_or(-1, |known| match known.offset {
            same if same == committed.offset => known.before,
            other => other,
        });
        self.committed.insert(place, committed);
    }

    fn is_pending(&self, place: &Place) -> bool {
        self.pending.values().any(|offsets| offsets.contains_key(place))
    }
}

impl Groups {
    /// Ends what a transaction has committed.
    pub(crate) fn end_transaction(&mut self, producer_id: i64, commit: bool) {
        for id in self.in_transactions.remove(&producer_id).unwrap_or_default() {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            let pending = group.offsets.pending.remove(&producer_id).unwrap_or_default();
            for (place, committed) in pending.into_iter().filter(|_| commit) {
                // As in Kafka the last to come in stays, whichever transaction ends first.
                let is_newer = |known: &Committed| known.nth > committed.nth;
                if group.offsets.committed.get(&place).is_some_and(is_newer) {
                    continue;
                }
                if self.touch {
                    self.touched.push(kept(&id, &place, Some(&committed)));
                }
                group.offsets.put(place, committed);
            }
            if self.touch {
                self.touched.push(Event::Decided { producer_id });
            }
        }
    }

    fn commit(&mut self, id: &str, place: Place, committed: Committed) {
        let committed = self.numbered(committed);
        if self.touch {
            self.touched.push(kept(id, &place, Some(&committed)));
        }
        self.make(id).offsets.put(place, committed);
    }

    /// The offset before the last one committed for a place, −1 where none is known.
    fn before(&self, id: &str, place: &Place) -> i64 {
        let group = self.groups.get(id);
        group.and_then(|group| group.offsets.committed.get(place)).map_or(-1, |c| c.before)
    }

    fn numbered(&mut self, committed: Committed) -> Committed {
        self.commits += 1;
        Committed { nth: self.commits, ..committed }
    }

    fn commit_later(&mut self, id: &str, producer_id: i64, place: Place, committed: Committed) {
        let committed = self.numbered(committed);
        if self.touch {
            self.touched.push(Event::Pending {
                group: id.to_owned(),
                topic: place.0.clone(),
                partition: place.1,
                producer_id,
                committed: committed.kept(),
            });
        }
        let group = self.make(id);
        group.offsets.pending.entry(producer_id).or_default().insert(place, committed);
        self.in_transactions.entry(producer_id).or_default().insert(id.to_owned());
    }

    /// Takes back what a journal held.
    pub(crate) fn restore(&mut self, event: Event) {
        match event {
            Event::Offset { group, topic, partition, committed } => {
                let committed = committed.map(|kept| self.numbered(kept.into()));
                let offsets = &mut self.make(&group).offsets;
                match committed {
                    Some(committed) => {
                        offsets.committed.insert((topic, partition), committed);
                    }
                    None => drop(offsets.committed.remove(&(topic, partition))),
                }
            }
            Event::Pending { group, topic, partition, producer_id, committed } => {
                self.commit_later(&group, producer_id, (topic, partition), committed.into());
            }
            Event::Decided { producer_id } => self.end_transaction(producer_id, false),
            _ => {}
        }
    }

    /// Forgets the offsets of a deleted topic.
    pub(crate) fn forget_topic(&mut self, name: &str) {
        for group in self.groups.values_mut() {
            group.offsets.committed.retain(|(topic, _), _| topic != name);
            for pending in group.offsets.pending.values_mut() {
                pending.retain(|(topic, _), _| topic != name);
            }
        }
    }
}

/// Who commits, as far as groups care.
struct Committer<'a> {
    member_id: &'a str,
    instance_id: Option<&'a str>,
    generation_or_epoch: i32,
    transactional: bool,
    version: i16,
    /// A bug: whoever a rebalance left behind may commit.
    may_be_stale: bool,
}

impl Committer<'_> {
    fn passes(&self, verdict: Result<(), ErrorCode>) -> Result<(), ErrorCode> {
        let is_stale =
            matches!(verdict, Err(ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID));
        if self.may_be_stale && is_stale { Ok(()) } else { verdict }
    }
}

/// The group to commit to, if the committer may.
fn group_for<'a>(
    groups: &'a mut Groups,
    group_id: &str,
    who: &Committer<'_>,
    now_ms: i64,
) -> Result<&'a mut Group, ErrorCode> {
    if !groups.groups.contains_key(group_id) {
        if who.generation_or_epoch >= 0 {
            // From version 9 on the error is one that both protocols know.
            let modern = !who.transactional && who.version >= 9;
            return Err(if modern {
                ErrorCode::GROUP_ID_NOT_FOUND
            } else {
                ErrorCode::ILLEGAL_GENERATION
            });
        }
        groups.make(group_id);
    }
    let group = groups.groups.get_mut(group_id).expect("it is there by now");
    match &mut group.members {
        Members::Classic(classic) => who.passes(classic.may_commit(
            who.member_id,
            who.instance_id,
            who.generation_or_epoch,
            who.transactional,
            now_ms,
        ))?,
        Members::Consumer(consumer) => consumer.may_commit(
            who.member_id,
            who.generation_or_epoch,
            who.transactional,
            who.version,
        )?,
    }
    Ok(group)
}

/// What a request says of one partition, or why that is refused.
fn said(
    cluster: &Cluster,
    topic: &TopicName,
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<&StrBytes>,
) -> Result<(Place, Committed), ErrorCode> {
    cluster.find_partition(TopicRef::Name(topic), partition)?;
    let metadata = metadata.cloned().unwrap_or_default();
    if metadata.len() > METADATA_BYTES_MAX {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    Ok((
        (topic.to_string(), partition),
        Committed { offset, leader_epoch, metadata, nth: 0, before: -1 },
    ))
}

/// Answers OffsetCommit.
pub(crate) fn offset_commit(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<OffsetCommitRequest>() else { return Answer::Close };
    let who = Committer {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation_or_epoch: request.generation_id_or_member_epoch,
        transactional: false,
        version: call.version(),
        may_be_stale: node.config().bug == Some(Bug::AcceptStaleCommit),
    };
    let now_ms = node.now_ms();
    let mut guard = node.lock();
    let cluster = &mut *guard;
    let allowed = coordinates(cluster, node, &request.group_id)
        .and_then(|()| group_for(&mut cluster.groups, &request.group_id, &who, now_ms).map(drop));
    let mut response = OffsetCommitResponse::default();
    for topic in &request.topics {
        let mut result = OffsetCommitResponseTopic::default();
        result.name = topic.name.clone();
        for asked in &topic.partitions {
            let index = asked.partition_index;
            let (offset, epoch) = (asked.committed_offset, asked.committed_leader_epoch);
            let metadata = asked.committed_metadata.as_ref();
            let committed = allowed
                .and_then(|()| said(cluster, &topic.name, index, offset, epoch, metadata))
                .map(|(place, committed)| {
                    cluster.groups.commit(&request.group_id, place, committed);
                });
            let mut answer = OffsetCommitResponsePartition::default();
            answer.partition_index = index;
            answer.error_code = committed.err().unwrap_or(ErrorCode::NONE).0;
            result.partitions.push(answer);
        }
        response.topics.push(result);
    }
    drop(guard);
    call.reply(out, &response)
}

/// Answers TxnOffsetCommit. From version 5 on the offsets partition is enlisted on the way; up to
/// version 4 it must have been, by AddOffsetsToTxn (KIP-890).
pub(crate) fn txn_offset_commit(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<TxnOffsetCommitRequest>() else { return Answer::Close };
    let mut guard = node.lock();
    let cluster = &mut *guard;
    let allowed = let_in(cluster, node, &request, call.version());
    let mut response = TxnOffsetCommitResponse::default();
    for topic in &request.topics {
        let mut result = TxnOffsetCommitResponseTopic::default();
        result.name = topic.name.clone();
        for asked in &topic.partitions {
            let index = asked.partition_index;
            let (offset, epoch) = (asked.committed_offset, asked.committed_leader_epoch);
            let metadata = asked.committed_metadata.as_ref();
            let committed = allowed
                .and_then(|()| said(cluster, &topic.name, index, offset, epoch, metadata))
                .map(|(place, committed)| {
                    let (id, producer_id) = (&request.group_id, request.producer_id.0);
                    cluster.groups.commit_later(id, producer_id, place, committed);
                });
            let mut answer = TxnOffsetCommitResponsePartition::default();
            answer.partition_index = index;
            answer.error_code = committed.err().unwrap_or(ErrorCode::NONE).0;
            result.partitions.push(answer);
        }
        response.topics.push(result);
    }
    drop(guard);
    call.reply(out, &response)
}

/// Lets a transaction's offsets in: the coordinator of the transaction is asked first, then the
/// group, then the offsets partition's own memory of producers.
fn let_in(
    cluster: &mut Cluster,
    node: &Node,
    request: &TxnOffsetCommitRequest,
    version: i16,
) -> Result<(), ErrorCode> {
    coordinates(cluster, node, &request.group_id)?;
    if request.group_id.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    let (producer_id, producer_epoch) = (request.producer_id.0, request.producer_epoch);
    let key = cluster.internal_partition(OFFSETS_TOPIC, &request.group_id);
    let ongoing = cluster
        .partition(key)
        .is_some_and(|partition| partition.log.has_ongoing(producer_id, producer_epoch));
    if !ongoing {
        let enlist =
            Enlist { transactional_id: &request.transactional_id, producer_id, producer_epoch };
        let transactions = &mut cluster.transactions;
        let error = if version >= 5 {
            transactions.enlist(&enlist, &[key], true, node.now_ms()).err()
        } else {
            transactions.verify(&enlist, &[key]).into_iter().find(|error| !error.is_none())
        };
        match error {
            None => {}
            Some(ErrorCode::PRODUCER_FENCED) => return Err(ErrorCode::INVALID_PRODUCER_EPOCH),
            Some(ErrorCode::TRANSACTION_ABORTABLE) if version < 4 => {
                return Err(ErrorCode::INVALID_TXN_STATE);
            }
            Some(ErrorCode::CONCURRENT_TRANSACTIONS) if version < 5 => {
                return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
            }
            Some(error) => return Err(error),
        }
    }
    let who = Committer {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation_or_epoch: request.generation_id,
        transactional: true,
        version,
        may_be_stale: cluster.mischief.is(Bug::AcceptStaleCommit),
    };
    group_for(&mut cluster.groups, &request.group_id, &who, node.now_ms())?;
    let partition = cluster.partition_mut(key).ok_or(ErrorCode::NOT_COORDINATOR)?;
    let known = partition.log.producers.get(&producer_id);
    if known.is_some_and(|state| producer_epoch < state.producer_epoch) {
        return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
    }
    partition.log.open_transaction(producer_id, producer_epoch);
    Ok(())
}

/// What OffsetFetch says of one partition: error, offset, leader epoch, metadata.
type Told = (i16, i64, i32, StrBytes);

/// Answers OffsetFetch: one group up to version 7, many from 8 on.
pub(crate) fn offset_fetch(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<OffsetFetchRequest>() else { return Answer::Close };
    let version = call.version();
    let stable = version >= 7 && request.require_stable;
    let mut response = OffsetFetchResponse::default();
    let mut guard = node.lock();
    let cluster = &mut *guard;
    if version <= 7 {
        let asked = request.topics.as_ref().map(|topics| {
            topics.iter().map(|t| (t.name.clone(), t.partition_indexes.clone())).collect()
        });
        let allowed = coordinates(cluster, node, &request.group_id);
        let error = allowed.err().unwrap_or(ErrorCode::NONE);
        let told = told(cluster, &request.group_id, asked, stable, error);
        if version >= 2 {
            response.error_code = error.0;
        }
        for (name, partitions) in told {
            let mut topic = OffsetFetchResponseTopic::default();
            topic.name = name;
            topic.partitions =
                partitions.into_iter().map(|(index, told)| early(version, index, told)).collect();
            response.topics.push(topic);
        }
    }
    for asked in &request.groups {
        let topics = asked.topics.as_ref().map(|topics| {
            topics.iter().map(|t| (t.name.clone(), t.partition_indexes.clone())).collect()
        });
        let who = asked.member_id.as_deref().map(|id| (id, asked.member_epoch));
        let allowed = coordinates(cluster, node, &asked.group_id)
            .and_then(|()| may_fetch(&cluster.groups, &asked.group_id, who));
        let mut group = OffsetFetchResponseGroup::default();
        group.group_id = GroupId(asked.group_id.0.clone());
        match allowed {
            Err(error) => group.error_code = error.0,
            Ok(()) => {
                let told = told(cluster, &asked.group_id, topics, stable, ErrorCode::NONE);
                for (name, mut partitions) in told {
                    for (index, told) in &mut partitions {
                        let place = (name.to_string(), *index);
                        let before = cluster.groups.before(&asked.group_id, &place);
                        if (0..told.1).contains(&before)
                            && cluster.mischief.rolls(Bug::RewindGroup, 2)
                        {
                            told.1 = before;
                        }
                    }
                    let mut topic = OffsetFetchResponseTopics::default();
                    topic.name = name;
                    topic.partitions = partitions.into_iter().map(late).collect();
                    group.topics.push(topic);
                }
            }
        }
        response.groups.push(group);
    }
    drop(guard);
    call.reply(out, &response)
}

/// Since version 9 a member of a KIP-848 group says which epoch it is in.
fn may_fetch(groups: &Groups, group_id: &str, who: Option<(&str, i32)>) -> Result<(), ErrorCode> {
    match (groups.groups.get(group_id).map(|group| &group.members), who) {
        (Some(Members::Consumer(consumer)), Some((id, epoch))) if epoch >= 0 => {
            consumer.check_member(id, epoch)
        }
        _ => Ok(()),
    }
}

fn early(version: i16, index: i32, told: Told) -> OffsetFetchResponsePartition {
    let mut answer = OffsetFetchResponsePartition::default();
    answer.partition_index = index;
    let leader_epoch;
    let metadata;
    (answer.error_code, answer.committed_offset, leader_epoch, metadata) = told;
    answer.committed_leader_epoch = if version >= 5 { leader_epoch } else { -1 };
    answer.metadata = Some(metadata);
    answer
}

fn late((index, told): (i32, Told)) -> OffsetFetchResponsePartitions {
    let mut answer = OffsetFetchResponsePartitions::default();
    answer.partition_index = index;
    let metadata;
    (answer.error_code, answer.committed_offset, answer.committed_leader_epoch, metadata) = told;
    answer.metadata = Some(metadata);
    answer
}

/// What a group has committed of the asked partitions, or of all.
fn told(
    cluster: &Cluster,
    group_id: &str,
    asked: Option<Vec<(TopicName, Vec<i32>)>>,
    stable: bool,
    error: ErrorCode,
) -> Vec<(TopicName, Vec<(i32, Told)>)> {
    let offsets = cluster.groups.groups.get(group_id).map(|group| &group.offsets);
    let asked = asked.unwrap_or_else(|| {
        let mut all: BTreeMap<&String, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in offsets.iter().flat_map(|offsets| offsets.committed.keys()) {
            all.entry(topic).or_default().push(*partition);
        }
        let named = |(topic, partitions): (&String, _)| {
            (TopicName(StrBytes::from(topic.clone())), partitions)
        };
        all.into_iter().map(named).collect()
    });
    let tell = |topic: &TopicName, partition: i32| -> Told {
        let place = (topic.to_string(), partition);
        let none = |error: ErrorCode| (error.0, -1, -1, StrBytes::default());
        let Some(offsets) = offsets.filter(|_| error.is_none()) else { return none(error) };
        if stable && offsets.is_pending(&place) {
            return none(ErrorCode::UNSTABLE_OFFSET_COMMIT);
        }
        match offsets.committed.get(&place) {
            Some(found) => (0, found.offset, found.leader_epoch, found.metadata.clone()),
            None => none(ErrorCode::NONE),
        }
    };
    asked
        .into_iter()
        .map(|(topic, partitions)| {
            let told = partitions.iter().map(|&index| (index, tell(&topic, index))).collect();
            (topic, told)
        })
        .collect()
}

/// Answers OffsetDelete (KIP-496).
pub(crate) fn offset_delete(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<OffsetDeleteRequest>() else { return Answer::Close };
    let mut guard = node.lock();
    let cluster = &mut *guard;
    let mut response = OffsetDeleteResponse::default();
    let allowed = coordinates(cluster, node, &request.group_id).and_then(|()| {
        let found = cluster.groups.groups.contains_key(&**request.group_id);
        if found { Ok(()) } else { Err(ErrorCode::GROUP_ID_NOT_FOUND) }
    });
    if let Err(error) = allowed {
        response.error_code = error.0;
        return call.reply(out, &response);
    }
    let mut deleted = Vec::new();
    let group = cluster.groups.make(&request.group_id);
    for topic in &request.topics {
        let mut result = OffsetDeleteResponseTopic::default();
        result.name = topic.name.clone();
        let subscribed = match &group.members {
            Members::Classic(classic) => classic.is_subscribed(&topic.name),
            Members::Consumer(consumer) => consumer.is_subscribed(&topic.name),
        };
        for partition in &topic.partitions {
            let mut answer = OffsetDeleteResponsePartition::default();
            answer.partition_index = partition.partition_index;
            if subscribed {
                answer.error_code = ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC.0;
            } else {
                let place = (topic.name.to_string(), partition.partition_index);
                group.offsets.committed.remove(&place);
                deleted.push(kept(&request.group_id, &place, None));
            }
            result.partitions.push(answer);
        }
        response.topics.push(result);
    }
    if cluster.groups.touch {
        cluster.groups.touched.append(&mut deleted);
    }
    drop(guard);
    call.reply(out, &response)
}
