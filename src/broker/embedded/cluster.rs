//! The one state of all nodes: topics, logs, transactions, groups, and who leads what.
//!
//! All of it lies behind one lock, taken for a request at a time. Replicas are not modelled: what
//! one node has appended all have, and a node that dies hands its partitions to the next one.
//!
//! Never: waits; reads a clock (time comes with the call).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;
use uuid::Uuid;

use super::bug::{Bug, Lies, Mischief};
use super::config::Config;
use super::fetch_session::FetchSessions;
use super::group::Groups;
use super::journal::{Event, Journal};
use super::log::{Append, Marker, PartitionLog};
use super::transaction::Transactions;

/// Partitions of the two internal topics: what ids are spread over.
const INTERNAL_PARTITIONS: i32 = 5;
/// The topic whose partitions' leaders coordinate groups.
pub(super) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic whose partitions' leaders coordinate transactions.
pub(super) const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// A partition, by the slot of its topic. Slots are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PartitionKey {
    pub(super) topic: usize,
    pub(super) partition: i32,
}

/// One node as others see it.
#[derive(Debug, Clone)]
pub(super) struct NodeInfo {
    pub(super) node_id: i32,
    pub(super) host: StrBytes,
    pub(super) port: i32,
    pub(super) alive: bool,
}

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: StrBytes,
    pub(super) id: Uuid,
    pub(super) replication_factor: i16,
    pub(super) configs: BTreeMap<String, String>,
    pub(super) partitions: Vec<Partition>,
}

impl Topic {
    pub(super) fn is_internal(&self) -> bool {
        matches!(&*self.name, OFFSETS_TOPIC | TRANSACTIONS_TOPIC)
    }
}

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// In order of preference; the first living one leads.
    pub(super) replicas: Vec<i32>,
    /// −1 where no replica lives.
    pub(super) leader: i32,
    pub(super) leader_epoch: i32,
    pub(super) log: PartitionLog,
}

/// How a request names a topic.
#[derive(Debug, Clone, Copy)]
pub(super) enum TopicRef<'a> {
    Name(&'a str),
    Id(Uuid),
}

/// The state.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) cluster_id: StrBytes,
    pub(super) nodes: Vec<NodeInfo>,
    topics: Vec<Option<Topic>>,
    by_name: BTreeMap<String, usize>,
    by_id: BTreeMap<Uuid, usize>,
    pub(super) transactions: Transactions,
    pub(super) groups: Groups,
    pub(super) fetch_sessions: FetchSessions,
    log_bytes: u64,
    log_bytes_max: u64,
    /// One entry a batch, oldest first: what retention takes next.
    oldest: VecDeque<PartitionKey>,
    pub(super) mischief: Mischief,
    pub(super) journal: Option<Journal>,
    ids: rand_chacha::ChaCha8Rng,
}

impl Cluster {
    pub(super) fn new(config: &Config, chance: &crate::world::Chance) -> Self {
        let mut ids = chance.stream("embedded broker: ids");
        let cluster_id = fresh_uuid(&mut ids).simple().to_string();
        Self {
            cluster_id: StrBytes::from(cluster_id[..22].to_owned()),
            nodes: Vec::new(),
            topics: Vec::new(),
            by_name: BTreeMap::new(),
            by_id: BTreeMap::new(),
            transactions: Transactions::default(),
            groups: Groups::default(),
            fetch_sessions: FetchSessions::new(config.fetch_sessions_max),
            log_bytes: 0,
            log_bytes_max: config.log_bytes_max,
            oldest: VecDeque::new(),
            journal: None,
            mischief: Mischief::new(config.bug, chance.stream("embedded broker: bug")),
            ids,
        }
    }

    /// A number drawn from the broker's own stream of chance.
    pub(super) fn fresh_uuid(&mut self) -> Uuid {
        fresh_uuid(&mut self.ids)
    }

    // Topics.

    /// Every topic by name.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values().filter_map(|&slot| self.topics[slot].as_ref())
    }

    pub(super) fn find_topic(&self, topic: TopicRef<'_>) -> Option<usize> {
        match topic {
            TopicRef::Name(name) => self.by_name.get(name).copied(),
            TopicRef::Id(id) => self.by_id.get(&id).copied(),
        }
    }

    pub(super) fn topic(&self, slot: usize) -> Option<&Topic> {
        self.topics.get(slot)?.as_ref()
    }

    pub(super) fn topic_mut(&mut self, slot: usize) -> Option<&mut Topic> {
        self.topics.get_mut(slot)?.as_mut()
    }

    pub(super) fn partition(&self, key: PartitionKey) -> Option<&Partition> {
        self.topic(key.topic)?.partitions.get(usize::try_from(key.partition).ok()?)
    }

    pub(super) fn partition_mut(&mut self, key: PartitionKey) -> Option<&mut Partition> {
        let partition = usize::try_from(key.partition).ok()?;
        self.topic_mut(key.topic)?.partitions.get_mut(partition)
    }

    /// The partition of a request, or the error a request for it gets.
    pub(super) fn find_partition(
        &self,
        topic: TopicRef<'_>,
        partition: i32,
    ) -> Result<PartitionKey, ErrorCode> {
        let unknown = match topic {
            TopicRef::Name(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            TopicRef::Id(_) => ErrorCode::UNKNOWN_TOPIC_ID,
        };
        let key = PartitionKey { topic: self.find_topic(topic).ok_or(unknown)?, partition };
        match self.partition(key) {
            Some(_) => Ok(key),
            None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        }
    }

    /// As [`Cluster::find_partition`], and the node must lead it.
    pub(super) fn find_led(
        &self,
        topic: TopicRef<'_>,
        partition: i32,
        node_id: i32,
    ) -> Result<PartitionKey, ErrorCode> {
        let key = self.find_partition(topic, partition)?;
        let leads = self.partition(key).is_some_and(|found| found.leader == node_id);
        if leads { Ok(key) } else { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) }
    }

    /// Adds a topic; the name must be free.
    pub(super) fn create_topic(
        &mut self,
        name: &StrBytes,
        partitions: i32,
        replication_factor: i16,
        configs: BTreeMap<String, String>,
    ) -> usize {
        let id = self.fresh_uuid();
        self.create_topic_with_id(name, id, partitions, replication_factor, configs)
    }

    pub(super) fn create_topic_with_id(
        &mut self,
        name: &StrBytes,
        id: Uuid,
        partitions: i32,
        replication_factor: i16,
        configs: BTreeMap<String, String>,
    ) -> usize {
        let slot = self.topics.len();
        let topic =
            Topic { name: name.clone(), id, replication_factor, configs, partitions: Vec::new() };
        let event = Event::Topic {
            id: id.to_string(),
            name: name.to_string(),
            replication_factor,
            configs: topic.configs.clone().into_iter().collect(),
        };
        self.keep(&event, b"");
        self.topics.push(Some(topic));
        self.by_name.insert(name.to_string(), slot);
        self.by_id.insert(id, slot);
        self.add_partitions(slot, partitions);
        slot
    }

    /// Grows a topic to that many partitions.
    pub(super) fn add_partitions(&mut self, slot: usize, count: i32) {
        let Some(topic) = self.topics.get(slot).and_then(Option::as_ref) else { return };
        let from = topic.partitions.len();
        let spread = if topic.is_internal() { 0 } else { slot };
        let factor = usize::try_from(topic.replication_factor).unwrap_or(1).max(1);
        let internal = topic.is_internal();
        let lies = if internal { Lies::default() } else { self.mischief.lies() };
        let added: Vec<_> = (from..usize::try_from(count).unwrap_or(0))
            .map(|partition| {
                let replicas: Vec<i32> = (0..factor.min(self.nodes.len()))
                    .map(|nth| self.nodes[(spread + partition + nth) % self.nodes.len()].node_id)
                    .collect();
                let leader = self.first_alive(&replicas);
                let log = PartitionLog::that_lies(lies);
                Partition { replicas, leader, leader_epoch: 0, log }
            })
            .collect();
        if let Some(topic) = self.topic_mut(slot) {
            topic.partitions.extend(added);
        }
        if count > 0 {
            let topic = self.topic_text(slot);
            self.keep(&Event::Partitions { topic, count }, b"");
        }
    }

    /// Removes a topic and wakes who waits for its partitions.
    pub(super) fn delete_topic(&mut self, slot: usize) {
        let Some(mut topic) = self.topics.get_mut(slot).and_then(Option::take) else { return };
        self.keep(&Event::Deleted { topic: topic.id.to_string() }, b"");
        self.by_name.remove(&*topic.name);
        self.by_id.remove(&topic.id);
        for partition in &mut topic.partitions {
            self.log_bytes -= partition.log.bytes;
            partition.log.wake();
        }
        self.oldest.retain(|key| key.topic != slot);
        self.transactions.forget_topic(slot);
        self.groups.forget_topic(&topic.name);
    }

    // Leaders and coordinators.

    pub(super) fn node(&self, node_id: i32) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.node_id == node_id)
    }

    fn first_alive(&self, replicas: &[i32]) -> i32 {
        let alive = |id: &&i32| self.node(**id).is_some_and(|node| node.alive);
        replicas.iter().find(alive).copied().unwrap_or(-1)
    }

    /// Notes that a node came or went; partitions change hands under a new leader epoch.
    pub(super) fn set_alive(&mut self, node_id: i32, alive: bool) {
        for node in self.nodes.iter_mut().filter(|node| node.node_id == node_id) {
            node.alive = alive;
        }
        let living: BTreeSet<i32> =
            self.nodes.iter().filter(|node| node.alive).map(|node| node.node_id).collect();
        for partition in self.topics.iter_mut().flatten().flat_map(|topic| &mut topic.partitions) {
            let keeps = living.contains(&partition.leader);
            let next = partition.replicas.iter().find(|id| living.contains(id)).copied();
            if !keeps && partition.leader != next.unwrap_or(-1) {
                partition.leader = next.unwrap_or(-1);
                partition.leader_epoch += 1;
                partition.log.wake();
            }
        }
    }

    /// The partition of an internal topic that an id belongs to: Java's string hash, as Kafka.
    pub(super) fn internal_partition(&mut self, topic: &'static str, id: &str) -> PartitionKey {
        let slot = match self.find_topic(TopicRef::Name(topic)) {
            Some(slot) => slot,
            None => {
                let factor = i16::try_from(self.nodes.len().min(3)).expect("at most three");
                let name = StrBytes::from_static_str(topic);
                self.create_topic(&name, INTERNAL_PARTITIONS, factor, BTreeMap::new())
            }
        };
        let partition = (java_hash(id) & i32::MAX) % INTERNAL_PARTITIONS;
        PartitionKey { topic: slot, partition }
    }

    /// The node that coordinates an id, −1 where none does.
    pub(super) fn coordinator(&mut self, topic: &'static str, id: &str) -> i32 {
        let key = self.internal_partition(topic, id);
        self.partition(key).map_or(-1, |partition| partition.leader)
    }

    // Logs.

    /// Appends a checked batch and lets retention take what is too much.
    pub(super) fn append(&mut self, key: PartitionKey, append: Append) -> Option<i64> {
        let bytes = append.bytes.len() as u64;
        let (loses, overtakes) = (
            self.mischief.rolls(Bug::LoseAckedWrite, 50),
            self.mischief.rolls(Bug::ReorderInPartition, 3),
        );
        let (invents, overlaps, ages) = (
            append.last_offset_delta == 0 && self.mischief.rolls(Bug::InventRecord, 50),
            self.mischief.rolls(Bug::OverlapOffsets, 50),
            self.mischief.rolls(Bug::LeaderEpochGoesBack, 50),
        );
        let partition = self.partition_mut(key)?;
        let epoch = partition.leader_epoch;
        let mut append = append;
        if partition.log.has_gap() {
            match partition.log.fill_gap(append, epoch) {
                Ok(base_offset) => {
                    self.appended(key, bytes);
                    return Some(base_offset);
                }
                Err(back) => append = back,
            }
        } else if let (true, Some((producer_id, batch))) = (overtakes, append.producer)
            && (!batch.transactional
                || partition.log.has_ongoing(producer_id, batch.producer_epoch))
        {
            partition.log.leave_gap(producer_id, i64::from(append.last_offset_delta) + 1);
        }
        let base_offset = partition.log.append(append, epoch);
        if overlaps {
            partition.log.give_last_offset_again();
        }
        if ages {
            partition.log.age_last(epoch + 1);
        }
        if invents {
            partition.log.invent(epoch);
        }
        self.keep_last_batch(key);
        let log = self.partition_mut(key).map(|partition| &mut partition.log);
        let lost = log.filter(|_| loses).map_or(0, PartitionLog::lose_last);
        self.appended(key, bytes);
        self.log_bytes -= lost;
        Some(base_offset)
    }

    /// Does what a broker with a bug does a little later. Returns whether there may be more.
    pub(super) fn make_mischief(&mut self) -> bool {
        if !(self.mischief.is(Bug::AckBeforeAppend) || self.mischief.is(Bug::ReorderInPartition)) {
            return false;
        }
        for partition in self.topics.iter_mut().flatten().flat_map(|topic| &mut topic.partitions) {
            partition.log.keep();
            partition.log.close_gap();
        }
        true
    }

    /// A node is killed: what it had acknowledged and not kept is gone, where that is its bug.
    pub(super) fn forget_unkept(&mut self, node_id: i32) {
        let partitions = self.topics.iter_mut().flatten().flat_map(|topic| &mut topic.partitions);
        let led = partitions.filter(|partition| partition.leader == node_id);
        let lost: u64 = led.map(|partition| partition.log.forget_unkept()).sum();
        self.log_bytes -= lost;
    }

    /// Writes a marker.
    pub(super) fn append_marker(&mut self, key: PartitionKey, marker: &Marker) -> Option<i64> {
        let partition = self.partition_mut(key)?;
        let epoch = partition.leader_epoch;
        let before = partition.log.bytes;
        partition.log.close_gap();
        let base_offset = partition.log.append_marker(marker, epoch);
        let bytes = partition.log.bytes - before;
        self.keep_last_batch(key);
        self.appended(key, bytes);
        Some(base_offset)
    }

    fn appended(&mut self, key: PartitionKey, bytes: u64) {
        self.log_bytes += bytes;
        self.oldest.push_back(key);
        while self.log_bytes > self.log_bytes_max {
            let Some(key) = self.oldest.pop_front() else { break };
            let Some(partition) = self.partition_mut(key) else { continue };
            let Some(first) = partition.log.batches.front() else { continue };
            let freed = partition.log.delete_before(first.last_offset + 1);
            self.log_bytes -= freed;
        }
    }

    /// Deletes records before an offset, as DeleteRecords asks.
    pub(super) fn delete_before(&mut self, key: PartitionKey, offset: i64) {
        if let Some(partition) = self.partition_mut(key) {
            let freed = partition.log.delete_before(offset);
            self.log_bytes -= freed;
            let (topic, partition) = (self.topic_text(key.topic), key.partition);
            self.keep(&Event::LogStart { topic, partition, offset }, b"");
        }
    }
}

/// A random UUID of version 4 that Kafka would draw: never one that begins with a dash in base64.
fn fresh_uuid(ids: &mut rand_chacha::ChaCha8Rng) -> Uuid {
    use rand::Rng;
    loop {
        let mut bytes = [0; 16];
        ids.fill_bytes(&mut bytes);
        if bytes[0] >> 2 != 0x3e {
            return uuid::Builder::from_random_bytes(bytes).into_uuid();
        }
    }
}

/// `String.hashCode` of Java: over UTF-16 units.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}
