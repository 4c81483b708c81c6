//! The partitions a consumer reads and where it stands in each.

use std::collections::BTreeMap;

use kafka_wire::ids::{LeaderEpoch, NodeId, Offset};
use rustc_hash::FxHashMap;
use uuid::Uuid;

use super::config::Start;
use crate::client::cluster::TopicPartition;
use crate::client::offsets::At;

/// What a partition waits for before it can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: `fetch_offset` holds.
    Nothing,
    /// The group's committed offset.
    Committed,
    /// An offset of the log.
    Offset(At),
    /// A seek: it is out of range and nothing says where to go.
    Seek,
}

impl From<Start> for Needs {
    fn from(start: Start) -> Self {
        match start {
            Start::Committed => Self::Committed,
            Start::Beginning => Self::Offset(At::Earliest),
            Start::End => Self::Offset(At::Latest),
        }
    }
}

/// One partition.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) partition: TopicPartition,
    pub(super) needs: Needs,
    /// Where the next fetch reads on.
    pub(super) fetch_offset: Offset,
    /// What the application has not been given yet; behind `fetch_offset` while records wait.
    pub(super) position: Option<Offset>,
    /// Where it is fetched from at the moment.
    pub(super) leader: Option<NodeId>,
    /// As the metadata named it.
    pub(super) leader_epoch: LeaderEpoch,
    /// As the metadata named it.
    pub(super) topic_id: Uuid,
    /// Not before this time, in nanoseconds since the start of the run.
    pub(super) not_before_ns: u64,
    /// Failures in a row.
    pub(super) failures: u32,
}

impl Slot {
    fn new(partition: TopicPartition, start: Start) -> Self {
        Self {
            partition,
            needs: start.into(),
            fetch_offset: Offset(-1),
            position: None,
            leader: None,
            leader_epoch: LeaderEpoch(-1),
            topic_id: Uuid::nil(),
            not_before_ns: 0,
            failures: 0,
        }
    }

    /// Reads on from there.
    pub(super) fn stand(&mut self, at: Offset) {
        self.needs = Needs::Nothing;
        self.fetch_offset = at;
        self.position = Some(at);
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    at: FxHashMap<TopicPartition, usize>,
}

impl Slots {
    pub(super) fn all(&self) -> &[Slot] {
        &self.all
    }

    pub(super) fn all_mut(&mut self) -> &mut [Slot] {
        &mut self.all
    }

    pub(super) fn find(&self, partition: &TopicPartition) -> Option<&Slot> {
        self.at.get(partition).map(|at| &self.all[*at])
    }

    pub(super) fn find_mut(&mut self, partition: &TopicPartition) -> Option<&mut Slot> {
        self.at.get(partition).map(|at| &mut self.all[*at])
    }

    /// Replaces the partitions, in the order given; returns those that are gone. One that stays
    /// keeps its slot where `start` is [`Start::Committed`].
    pub(super) fn replace(&mut self, partitions: &[TopicPartition], start: Start) -> Vec<Slot> {
        let mut before: BTreeMap<TopicPartition, Slot> =
            self.all.drain(..).map(|slot| (slot.partition.clone(), slot)).collect();
        self.at.clear();
        for partition in partitions {
            if self.at.contains_key(partition) {
                continue;
            }
            let kept = before.remove(partition).map(|slot| match start {
                Start::Committed => slot,
                _ => Slot { needs: start.into(), position: None, ..slot },
            });
            let slot = kept.unwrap_or_else(|| Slot::new(partition.clone(), start));
            self.at.insert(partition.clone(), self.all.len());
            self.all.push(slot);
        }
        before.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    #[test]
    fn a_partition_that_stays_keeps_its_position_unless_told_otherwise() {
        let mut slots = Slots::default();
        slots.replace(&[tp(0), tp(1)], Start::Committed);
        slots.find_mut(&tp(1)).unwrap().stand(Offset(7));
        let gone = slots.replace(&[tp(2), tp(1), tp(1)], Start::Committed);
        assert_eq!(gone.iter().map(|slot| slot.partition.clone()).collect::<Vec<_>>(), [tp(0)]);
        assert_eq!(slots.find(&tp(1)).unwrap().position, Some(Offset(7)));
        assert_eq!(slots.find(&tp(2)).unwrap().needs, Needs::Committed);
        assert_eq!(slots.all().len(), 2);
        slots.replace(&[tp(1)], Start::Beginning);
        assert_eq!(slots.find(&tp(1)).unwrap().needs, Needs::Offset(At::Earliest));
        assert!(slots.find(&tp(2)).is_none());
    }
}
