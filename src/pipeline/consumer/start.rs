//! Where to begin: committed offsets, resets, leaders. One attempt each; a poll comes again.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_wire::ErrorCode;
use kafka_wire::ids::Offset;

use super::assign::Consumer;
use super::offsets::{committed, leader_moved, listed};
use super::slots::Needs;
use crate::client::cluster::TopicPartition;
use crate::client::fetch::Position;
use crate::client::offsets::{Answers, At};
use crate::pipeline::policy::nanos;
use crate::pipeline::trouble::Trouble;
use kafka_wire::ApiKey;

impl Consumer {
    /// Finds positions and leaders for partitions that have none.
    pub(super) async fn prepare(&mut self) {
        let ready = |slot: &super::slots::Slot| {
            slot.needs == Needs::Nothing && slot.leader.is_some() || slot.needs == Needs::Seek
        };
        if self.slots.all().iter().all(ready) && self.stale.is_empty() {
            return;
        }
        self.find_leaders().await;
        self.find_committed().await;
        self.find_offsets(At::Earliest).await;
        self.find_offsets(At::Latest).await;
        self.bind_leaders();
    }

    /// Partitions whose turn it is, by what they need.
    fn due(&self, needs: Needs) -> Vec<TopicPartition> {
        let now_ns = self.clock.now_ns();
        let slots = self.slots.all().iter();
        let due = slots.filter(|slot| slot.needs == needs && slot.not_before_ns <= now_ns);
        due.map(|slot| slot.partition.clone()).collect()
    }

    /// Asks for leaders that are unknown or known to be wrong.
    async fn find_leaders(&mut self) {
        let now_ns = self.clock.now_ns();
        let metadata = self.cluster.metadata();
        let mut topics: BTreeSet<Arc<str>> = std::mem::take(&mut self.stale);
        let due = self.slots.all().iter().filter(|slot| slot.not_before_ns <= now_ns);
        let unknown = due.filter(|slot| metadata.leader(&slot.partition).is_none());
        let unknown: Vec<TopicPartition> = unknown.map(|slot| slot.partition.clone()).collect();
        topics.extend(unknown.iter().map(|tp| tp.topic.clone()));
        if topics.is_empty() {
            return;
        }
        let topics: Vec<Arc<str>> = topics.into_iter().collect();
        if let Err(trouble) = self.cluster.refresh(&topics, &mut self.ready.attempts).await {
            self.ready.error = Some(trouble);
        }
        // A topic that is not there yet brings nothing; that is no error.
        let metadata = self.cluster.metadata();
        for tp in unknown.iter().filter(|tp| metadata.leader(tp).is_none()) {
            self.fail(tp);
        }
    }

    async fn find_committed(&mut self) {
        let wanted = self.due(Needs::Committed);
        if wanted.is_empty() {
            return;
        }
        let Some(group_id) = self.config.group_id.clone() else {
            wanted.iter().for_each(|tp| self.reset(tp, "there is no group"));
            return;
        };
        let who = (group_id.as_str(), self.config.isolation);
        match committed(&mut self.once, who, &wanted, &mut self.ready.attempts).await {
            Ok(answers) => {
                for tp in &wanted {
                    match answers.get(tp) {
                        Some(Ok(offset)) if offset.0 >= 0 => self.stand(tp, *offset),
                        Some(Ok(_)) => self.reset(tp, "nothing is committed"),
                        Some(Err(code)) => self.failed(tp, ApiKey::OFFSET_FETCH, *code),
                        None => self.fail(tp),
                    }
                }
            }
            Err(trouble) => {
                self.ready.error = Some(trouble);
                wanted.iter().for_each(|tp| self.fail(tp));
            }
        }
    }

    async fn find_offsets(&mut self, at: At) {
        let wanted = self.due(Needs::Offset(at));
        if wanted.is_empty() {
            return;
        }
        let isolation = self.config.isolation;
        let attempts = &mut self.ready.attempts;
        let answers: Result<Answers<Offset>, Trouble> =
            listed(&mut self.once, isolation, at, &wanted, attempts).await;
        match answers {
            Ok(answers) => {
                for tp in &wanted {
                    match answers.get(tp) {
                        Some(Ok(offset)) => self.stand(tp, *offset),
                        Some(Err(ErrorCode::LEADER_NOT_AVAILABLE)) | None => self.fail(tp),
                        Some(Err(code)) => self.failed(tp, ApiKey::LIST_OFFSETS, *code),
                    }
                }
            }
            Err(trouble) => {
                self.ready.error = Some(trouble);
                for tp in &wanted {
                    self.stale.insert(tp.topic.clone());
                    self.fail(tp);
                }
            }
        }
    }

    /// Has partitions with a position fetched from their leaders.
    fn bind_leaders(&mut self) {
        let metadata = self.cluster.metadata();
        let now_ns = self.clock.now_ns();
        for slot in self.slots.all_mut() {
            let tp = &slot.partition;
            if slot.needs != Needs::Nothing || slot.leader.is_some() || slot.not_before_ns > now_ns
            {
                continue;
            }
            let Some(topic) = metadata.topics.get(&tp.topic) else { continue };
            let Some(leader) = topic.partitions.get(&tp.partition) else { continue };
            let Some(node) = leader.node else { continue };
            self.leaders.learn_name(topic.id, &tp.topic);
            slot.leader = Some(node);
            slot.leader_epoch = leader.leader_epoch;
            slot.topic_id = topic.id;
            let position = Position {
                fetch_offset: slot.fetch_offset,
                leader_epoch: leader.leader_epoch,
                topic_id: topic.id,
            };
            self.leaders.leader(node).want(tp, position);
        }
    }

    fn stand(&mut self, tp: &TopicPartition, at: Offset) {
        if let Some(slot) = self.slots.find_mut(tp) {
            slot.failures = 0;
            slot.stand(at);
        }
    }

    /// Begins again where the stated policy says.
    pub(super) fn reset(&mut self, tp: &TopicPartition, why: &str) {
        let policy = self.config.auto_offset_reset;
        let Some(slot) = self.slots.find_mut(tp) else { return };
        slot.position = None;
        slot.needs = policy.at().map_or(Needs::Seek, Needs::Offset);
        self.ready.noted.push(format!("{tp}: {why}, reset {policy:?}"));
        if slot.needs == Needs::Seek {
            let (api_key, code) = (ApiKey::FETCH, ErrorCode::OFFSET_OUT_OF_RANGE);
            self.ready.error = Some(Trouble::Answered { api_key, code });
        }
    }

    /// A partition answered with an error.
    pub(super) fn failed(&mut self, tp: &TopicPartition, api_key: ApiKey, code: ErrorCode) {
        self.ready.noted.push(format!("{tp}: {api_key} answered {code}"));
        if leader_moved(code) {
            self.stale.insert(tp.topic.clone());
        } else {
            self.ready.error = Some(Trouble::Answered { api_key, code });
        }
        self.fail(tp);
    }

    /// Leaves a partition alone for a while.
    pub(super) fn fail(&mut self, tp: &TopicPartition) {
        let now_ns = self.clock.now_ns();
        let Some(slot) = self.slots.find_mut(tp) else { return };
        slot.failures = slot.failures.saturating_add(1);
        let wait = nanos(self.config.retry.backoff(slot.failures));
        slot.not_before_ns = now_ns.saturating_add(wait);
        if let Some(node) = slot.leader.take() {
            self.leaders.leader(node).forget(tp);
        }
    }
}
