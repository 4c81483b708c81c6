//! What of the cluster's state goes into the journal, and how it comes back.

use std::collections::BTreeMap;

use bytes::BytesMut;
use kafka_protocol::protocol::StrBytes;
use kafka_wire::batch::{BatchHeader, BatchIter, ControlRecord, ControlType, Scratch};
use uuid::Uuid;

use super::cluster::{Cluster, PartitionKey, TopicRef};
use super::journal::{Event, Journal, KeptTransaction};
use super::log::{Append, Marker};
use super::producer_state::Incoming;
use super::server::StartError;
use super::transaction::{Transaction, TxnState};

impl Cluster {
    /// Restores what the directory's journal holds and goes on writing there.
    pub(super) fn keep_in(&mut self, directory: &std::path::Path) -> Result<(), StartError> {
        let mut known = false;
        let journal = Journal::open(directory, |event, batch| {
            known = true;
            self.restore(event, &batch);
        })
        .map_err(StartError::Data)?;
        self.journal = Some(journal);
        self.transactions.touch = true;
        self.groups.touch = true;
        self.transactions.resume();
        if !known {
            self.keep(&Event::Cluster { id: self.cluster_id.to_string() }, b"");
        }
        Ok(())
    }

    /// Writes a change to the journal, where there is one.
    pub(super) fn keep(&mut self, event: &Event, batch: &[u8]) {
        if let Some(journal) = &mut self.journal {
            journal.write(event, batch);
        }
    }

    pub(super) fn topic_text(&self, slot: usize) -> String {
        self.topic(slot).map(|topic| topic.id.to_string()).unwrap_or_default()
    }

    /// Writes the last batch of a partition.
    pub(super) fn keep_last_batch(&mut self, key: PartitionKey) {
        if self.journal.is_none() {
            return;
        }
        let last = self.partition(key).and_then(|partition| partition.log.batches.back().cloned());
        if let Some(last) = last {
            let (topic, partition) = (self.topic_text(key.topic), key.partition);
            let event = Event::Batch { topic, partition, base_offset: last.base_offset };
            self.keep(&event, &last.bytes);
        }
    }

    /// Writes what requests have changed of transactions and offsets.
    pub(super) fn keep_touched(&mut self) {
        if self.journal.is_none() {
            return;
        }
        for event in std::mem::take(&mut self.groups.touched) {
            self.keep(&event, b"");
        }
        let mut touched = std::mem::take(&mut self.transactions.touched);
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            let Some(transaction) = self.transactions.by_id.get(&id) else { continue };
            let transaction = self.kept(transaction);
            self.keep(&Event::Transaction { id, transaction }, b"");
        }
        if let Some(next) = self.transactions.producer_ids_touched() {
            self.keep(&Event::ProducerId { next }, b"");
        }
    }

    fn kept(&self, txn: &Transaction) -> KeptTransaction {
        KeptTransaction {
            producer_ids: [txn.producer_id, txn.previous_producer_id, txn.next_producer_id],
            producer_epochs: [txn.producer_epoch, txn.last_producer_epoch],
            timeout_ms: txn.timeout_ms,
            state: txn.state.name().to_owned(),
            partitions: txn
                .partitions
                .iter()
                .map(|key| (self.topic_text(key.topic), key.partition))
                .collect(),
            start_ms: txn.start_ms,
            update_ms: txn.update_ms,
            bumping: txn.bumping,
        }
    }

    fn slot_of(&self, topic: &str) -> Option<usize> {
        self.find_topic(TopicRef::Id(Uuid::parse_str(topic).ok()?))
    }

    fn restore(&mut self, event: Event, batch: &[u8]) {
        match event {
            Event::Cluster { id } => self.cluster_id = StrBytes::from(id),
            Event::Topic { id, name, replication_factor, configs } => {
                if let Ok(id) = Uuid::parse_str(&id) {
                    let configs: BTreeMap<_, _> = configs.into_iter().collect();
                    let name = StrBytes::from(name);
                    self.create_topic_with_id(&name, id, 0, replication_factor, configs);
                }
            }
            Event::Partitions { topic, count } => {
                if let Some(slot) = self.slot_of(&topic) {
                    self.add_partitions(slot, count);
                }
            }
            Event::Configs { topic, configs } => {
                let slot = self.slot_of(&topic);
                if let Some(topic) = slot.and_then(|slot| self.topic_mut(slot)) {
                    topic.configs = configs.into_iter().collect();
                }
            }
            Event::Deleted { topic } => {
                if let Some(slot) = self.slot_of(&topic) {
                    self.delete_topic(slot);
                }
            }
            Event::Batch { topic, partition, base_offset } => {
                if let Some(topic) = self.slot_of(&topic) {
                    self.restore_batch(PartitionKey { topic, partition }, base_offset, batch);
                }
            }
            Event::LogStart { topic, partition, offset } => {
                if let Some(topic) = self.slot_of(&topic) {
                    self.delete_before(PartitionKey { topic, partition }, offset);
                }
            }
            Event::ProducerId { next } => self.transactions.producer_id_seen(next - 1),
            Event::Transaction { id, transaction } => self.restore_transaction(id, &transaction),
            other => self.groups.restore(other),
        }
    }

    fn restore_batch(&mut self, key: PartitionKey, base_offset: i64, batch: &[u8]) {
        let Some(header) = BatchHeader::decode(batch) else { return };
        if let Some(partition) = self.partition_mut(key) {
            partition.log.log_end_offset = base_offset;
            partition.leader_epoch = partition.leader_epoch.max(header.partition_leader_epoch.0);
        }
        if header.is_control() {
            if let Some(commit) = marker_commits(batch) {
                let marker = Marker {
                    producer_id: header.producer_id.0,
                    producer_epoch: header.producer_epoch.0,
                    commit,
                    coordinator_epoch: 0,
                    timestamp: header.max_timestamp,
                };
                self.append_marker(key, &marker);
            }
            return;
        }
        let incoming = Incoming {
            producer_epoch: header.producer_epoch.0,
            base_sequence: header.base_sequence.0,
            record_count: u32::try_from(header.record_count).unwrap_or(0),
            transactional: header.is_transactional(),
        };
        let producer = (header.producer_id.0 > -1).then_some((header.producer_id.0, incoming));
        let append = Append {
            bytes: BytesMut::from(batch),
            last_offset_delta: header.last_offset_delta,
            max_timestamp: header.max_timestamp,
            producer,
        };
        self.append(key, append);
    }

    fn restore_transaction(&mut self, id: String, kept: &KeptTransaction) {
        let Some(state) = TxnState::from_name(&kept.state) else { return };
        let [producer_id, previous_producer_id, next_producer_id] = kept.producer_ids;
        let [producer_epoch, last_producer_epoch] = kept.producer_epochs;
        let mut txn = Transaction::new(producer_id, kept.timeout_ms, kept.update_ms);
        txn.previous_producer_id = previous_producer_id;
        txn.next_producer_id = next_producer_id;
        (txn.producer_epoch, txn.last_producer_epoch) = (producer_epoch, last_producer_epoch);
        (txn.state, txn.start_ms, txn.bumping) = (state, kept.start_ms, kept.bumping);
        let key = |(topic, partition): &(String, i32)| {
            Some(PartitionKey { topic: self.slot_of(topic)?, partition: *partition })
        };
        txn.partitions = kept.partitions.iter().filter_map(key).collect();
        self.transactions.producer_id_seen(producer_id.max(next_producer_id));
        self.transactions.by_id.insert(id, txn);
    }
}

/// Whether a marker commits, absent where the batch holds none.
fn marker_commits(batch: &[u8]) -> Option<bool> {
    let batch = BatchIter::new(batch).next()?.ok()?;
    let mut scratch = Scratch::new();
    let key = batch.records(&mut scratch).next()?.key?;
    Some(ControlRecord::decode(key).ok()?.control_type == ControlType::Commit)
}
