//! A consumer: opening, assignment, seeking.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_wire::batch::Scratch;
use kafka_wire::ids::Offset;

use super::config::{ConsumerConfig, Start};
use super::poll::PollReport;
use super::sessions::Leaders;
use super::slots::{Slot, Slots};
use crate::client::cluster::TopicPartition;
use crate::client::transaction::Membership;
use crate::pipeline::attempt::Attempt;
use crate::pipeline::caller::Caller;
use crate::pipeline::cluster::Cluster;
use crate::pipeline::group::{Change, Member, Rebalance};
use crate::pipeline::links::Links;
use crate::pipeline::policy::RetryPolicy;
use crate::pipeline::trouble::{OpenFailed, Trouble};
use crate::world::Clock;

/// A consumer. Dropping it closes its connections.
pub struct Consumer {
    pub(super) config: ConsumerConfig,
    pub(super) cluster: Cluster,
    pub(super) clock: Clock,
    /// To leaders, for fetching alone: a long poll keeps a connection busy.
    pub(super) links: Links,
    /// To coordinators and for everything else, with the stated policy.
    pub(super) caller: Caller,
    /// The same, one attempt at a time: what a poll needs.
    pub(super) once: Caller,
    pub(super) slots: Slots,
    pub(super) leaders: Leaders,
    /// Topics whose leaders must be asked for again.
    pub(super) stale: BTreeSet<Arc<str>>,
    /// Partitions read on since the last poll returned.
    pub(super) moved: Vec<TopicPartition>,
    /// What the next poll returns.
    pub(super) ready: PollReport,
    pub(super) scratch: Scratch,
    pub(super) committed_at_ns: u64,
    pub(super) member: Option<Member>,
    /// What happened to partitions of members that have left.
    rebalances: Vec<Rebalance>,
    partitions: Vec<TopicPartition>,
}

impl Consumer {
    /// Opens one; nothing is asked yet.
    ///
    /// # Errors
    /// None as long as nothing is asked.
    #[allow(clippy::unused_async)] // As a producer is opened; subscribing may ask one day.
    pub async fn open(cluster: &Cluster, config: ConsumerConfig) -> Result<Self, OpenFailed> {
        let client_id = config.client_id.as_deref();
        let once = RetryPolicy { retries: Some(0), ..config.retry };
        Ok(Self {
            clock: cluster.clock().clone(),
            cluster: cluster.clone(),
            links: Links::new(cluster, config.retry, client_id),
            caller: Caller::new(cluster, config.retry, client_id),
            once: Caller::new(cluster, once, client_id),
            slots: Slots::default(),
            leaders: Leaders::new(config.sessions),
            stale: BTreeSet::new(),
            moved: Vec::new(),
            ready: PollReport::default(),
            scratch: Scratch::new(),
            committed_at_ns: cluster.clock().now_ns(),
            member: None,
            rebalances: Vec::new(),
            partitions: Vec::new(),
            config,
        })
    }

    /// Reads these partitions from now on and no others. Records of other partitions that wait to
    /// be polled are dropped. A subscription ends without a word to the group: see
    /// [`Consumer::unsubscribe`].
    pub fn assign(&mut self, partitions: &[TopicPartition], start: Start) {
        if let Some(member) = self.member.take() {
            self.rebalances.extend(member.log);
        }
        self.read_these(partitions, start);
    }

    /// Reads what the group gives it of these topics, from the committed offsets on. Joining goes
    /// on in polls.
    ///
    /// # Errors
    /// Where there is no group.
    pub fn subscribe(&mut self, topics: &[Arc<str>]) -> Result<(), Trouble> {
        let group_id = self.config.group_id.clone().ok_or(Trouble::NotNow("there is no group"))?;
        if let Some(member) = &mut self.member {
            member.resubscribe(topics.to_vec());
            return Ok(());
        }
        self.read_these(&[], Start::Committed);
        let client_id = self.config.client_id.as_deref();
        let who = (self.config.retry, client_id);
        let config = self.config.group.clone();
        self.member = Some(Member::new(&self.cluster, who, &group_id, config, topics.to_vec()));
        Ok(())
    }

    /// The topics it subscribes to.
    #[must_use]
    pub fn subscription(&self) -> &[Arc<str>] {
        self.member.as_ref().map_or(&[], Member::topics)
    }

    /// Leaves its group, if it is in one. Positions are not committed.
    ///
    /// # Errors
    /// Where the group did not say that we are out.
    pub async fn unsubscribe(&mut self, attempts: &mut Vec<Attempt>) -> Result<(), Trouble> {
        let Some(member) = self.member.take() else { return Ok(()) };
        self.read_these(&[], Start::Committed);
        let (log, left) = member.leave(attempts).await;
        self.rebalances.extend(log);
        left
    }

    /// What happened to its partitions since last asked, in order.
    pub fn take_rebalance_log(&mut self) -> Vec<Rebalance> {
        let mut log = std::mem::take(&mut self.rebalances);
        if let Some(member) = &mut self.member {
            log.append(&mut member.log);
        }
        log
    }

    /// Goes on with joining, and takes what the group gives and takes away.
    pub(super) async fn rebalance(&mut self, until_ns: u64) {
        let stable = self.member.as_ref().is_none_or(Member::is_stable);
        if !stable && self.config.enable_auto_commit && !self.partitions.is_empty() {
            // Before partitions are given up, as in the Java client.
            self.auto_commit_now().await;
        }
        let Some(member) = &mut self.member else { return };
        let change = match stable {
            true => Change::None,
            false => member.go_on(until_ns, &mut self.ready.attempts).await,
        };
        let dropped = member.take_attempts(&mut self.ready.attempts);
        self.ready.noted.append(&mut member.noted);
        if dropped > 0 {
            self.ready.noted.push(format!("{dropped} heartbeats were not kept"));
        }
        if let Change::Reads(partitions) = change {
            self.read_these(&partitions, Start::Committed);
        }
    }

    fn read_these(&mut self, partitions: &[TopicPartition], start: Start) {
        for mut slot in self.slots.replace(partitions, start) {
            unbind(&mut self.leaders, &mut slot);
        }
        if start != Start::Committed {
            self.ready.records.clear();
            for slot in self.slots.all_mut() {
                unbind(&mut self.leaders, slot);
            }
        }
        let Self { ready, slots, .. } = self;
        ready.records.retain(|(tp, _)| slots.find(tp).is_some());
        self.partitions = partitions.to_vec();
    }

    /// The partitions it reads.
    #[must_use]
    pub fn assignment(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Reads a partition from this offset on. Returns whether it is assigned.
    pub fn seek(&mut self, partition: &TopicPartition, to: Offset) -> bool {
        let Some(slot) = self.slots.find_mut(partition) else { return false };
        unbind(&mut self.leaders, slot);
        slot.stand(to);
        self.ready.records.retain(|(tp, _)| tp != partition);
        true
    }

    /// The offset of the next record of a partition, where it is known.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.slots.find(partition).and_then(|slot| slot.position)
    }

    /// Where it stands in all partitions it has a position in.
    #[must_use]
    pub fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        let slots = self.slots.all().iter();
        slots.filter_map(|slot| Some((slot.partition.clone(), slot.position?))).collect()
    }

    /// How it names itself when it commits offsets; absent without a group.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        match &self.member {
            Some(member) => Some(member.membership()),
            None => self.config.group_id.as_deref().map(Membership::outside),
        }
    }
}

/// Fetches a partition no more, until it is bound to its leader again.
fn unbind(leaders: &mut Leaders, slot: &mut Slot) {
    if let Some(node) = slot.leader.take() {
        leaders.leader(node).forget(&slot.partition);
    }
}
