//! What is fetched from each leader, told in changes (KIP-227).
//!
//! Between polls nothing is rebuilt: a partition that brought nothing costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::FetchRequest;
use kafka_wire::ErrorCode;
use kafka_wire::ids::{NodeId, Offset};
use rustc_hash::FxHashMap;
use uuid::Uuid;

use crate::client::cluster::TopicPartition;
use crate::client::connection::Pending;
use crate::client::fetch::{IsolationLevel, Limits, Position, Session};
use crate::pipeline::attempt::Attempt;

/// A Fetch in flight.
pub(super) struct Outstanding {
    pub(super) pending: Pending,
    pub(super) attempt: Attempt,
}

/// What is fetched from one leader.
pub(super) struct Leader {
    session: Session,
    wanted: BTreeMap<TopicPartition, Position>,
    changed: Vec<TopicPartition>,
    forgotten: Vec<TopicPartition>,
    /// Sessions refused in a row.
    refused: u32,
    pub(super) outstanding: Option<Outstanding>,
}

impl Leader {
    fn new(sessions: bool) -> Self {
        Self {
            session: if sessions { Session::fresh() } else { Session::off() },
            wanted: BTreeMap::new(),
            changed: Vec::new(),
            forgotten: Vec::new(),
            refused: 0,
            outstanding: None,
        }
    }

    pub(super) fn wants_nothing(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Partitions fetched from it.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.wanted.keys()
    }

    /// Fetches a partition from there on.
    pub(super) fn want(&mut self, tp: &TopicPartition, position: Position) {
        match self.wanted.get_mut(tp) {
            Some(known) if *known == position => return,
            Some(known) => *known = position,
            None => drop(self.wanted.insert(tp.clone(), position)),
        }
        if self.session.epoch > 0 {
            self.changed.push(tp.clone());
            self.forgotten.retain(|forgotten| forgotten != tp);
        }
    }

    /// Fetches a partition no more.
    pub(super) fn forget(&mut self, tp: &TopicPartition) {
        if self.wanted.remove(tp).is_some() && self.session.epoch > 0 {
            self.changed.retain(|changed| changed != tp);
            self.forgotten.push(tp.clone());
        }
    }

    /// The highest version that can say what is wanted: topics without an id have a name.
    pub(super) fn version_max(&self, version: i16) -> i16 {
        let nameless = |position: &Position| position.topic_id.is_nil();
        if version >= 13 && self.wanted.values().any(nameless) { 12 } else { version }
    }

    /// The next request.
    pub(super) fn request(
        &mut self,
        version: i16,
        isolation: IsolationLevel,
        limits: Limits,
    ) -> FetchRequest {
        if self.session.epoch <= 0 {
            self.changed.clear();
            self.forgotten.clear();
            return self.session.request(version, isolation, limits, &self.wanted);
        }
        self.changed.sort_unstable();
        self.changed.dedup();
        let changed: Vec<_> = self
            .changed
            .drain(..)
            .filter_map(|tp| self.wanted.get(&tp).map(|position| (tp, *position)))
            .collect();
        let request =
            self.session.request_changes(version, isolation, limits, &changed, &self.forgotten);
        self.forgotten.clear();
        request
    }

    /// The offset the last request asked a partition for.
    pub(super) fn asked(&self, tp: &TopicPartition) -> Option<Offset> {
        self.session.known.get(tp).map(|position| position.fetch_offset)
    }

    /// Takes note of an answer; returns whether a session was lost by it.
    pub(super) fn answered(&mut self, error: ErrorCode, session_id: i32) -> bool {
        let had = self.session.epoch > 0;
        self.session.answered(error, session_id);
        self.refused = if error.is_none() { 0 } else { self.refused + 1 };
        had && self.session.epoch == 0
    }

    /// Whether a session that was refused should begin again at once: not the second time.
    pub(super) fn begins_again(&self) -> bool {
        self.refused == 1
    }

    /// The connection is gone, and the session with it as far as we know.
    pub(super) fn lost(&mut self) {
        self.outstanding = None;
        if self.session.epoch >= 0 {
            self.session = Session::fresh();
        }
    }
}

/// All leaders fetched from.
pub(super) struct Leaders {
    pub(super) all: BTreeMap<NodeId, Leader>,
    names: FxHashMap<Uuid, Arc<str>>,
    sessions: bool,
}

impl Leaders {
    pub(super) fn new(sessions: bool) -> Self {
        Self { all: BTreeMap::new(), names: FxHashMap::default(), sessions }
    }

    pub(super) fn leader(&mut self, node: NodeId) -> &mut Leader {
        self.all.entry(node).or_insert_with(|| Leader::new(self.sessions))
    }

    /// Remembers a topic's name, for answers that have its id only.
    pub(super) fn learn_name(&mut self, id: Uuid, name: &Arc<str>) {
        if !id.is_nil() && !self.names.contains_key(&id) {
            self.names.insert(id, name.clone());
        }
    }

    pub(super) fn name(&self, id: Uuid) -> Option<Arc<str>> {
        self.names.get(&id).cloned()
    }

    pub(super) fn any_outstanding(&self) -> bool {
        self.all.values().any(|leader| leader.outstanding.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::ids::LeaderEpoch;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    fn at(offset: i64) -> Position {
        Position {
            fetch_offset: Offset(offset),
            leader_epoch: LeaderEpoch(0),
            topic_id: Uuid::from_u128(7),
        }
    }

    /// How many partitions a request names and forgets.
    fn next(leader: &mut Leader) -> (usize, usize) {
        let limits = Limits::default();
        let request = leader.request(13, IsolationLevel::ReadCommitted, limits);
        let named = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let forgotten = request.forgotten_topics_data.iter().map(|t| t.partitions.len()).sum();
        (named, forgotten)
    }

    #[test]
    fn a_session_is_told_what_changed_and_begins_again_when_lost() {
        let mut leader = Leader::new(true);
        leader.want(&tp(0), at(0));
        leader.want(&tp(1), at(0));
        assert_eq!(next(&mut leader), (2, 0));
        leader.answered(ErrorCode::NONE, 5);
        assert_eq!(next(&mut leader), (0, 0));
        leader.answered(ErrorCode::NONE, 5);
        leader.want(&tp(1), at(3));
        leader.want(&tp(1), at(4));
        leader.forget(&tp(0));
        assert_eq!(leader.asked(&tp(1)), Some(Offset(0)));
        assert_eq!(next(&mut leader), (1, 1));
        assert_eq!(leader.asked(&tp(1)), Some(Offset(4)));
        assert!(leader.answered(ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0));
        assert_eq!(next(&mut leader), (1, 0));
    }

    #[test]
    fn a_partition_forgotten_and_wanted_again_is_named_not_forgotten() {
        let mut leader = Leader::new(true);
        leader.want(&tp(0), at(0));
        next(&mut leader);
        leader.answered(ErrorCode::NONE, 5);
        leader.forget(&tp(0));
        leader.want(&tp(0), at(9));
        assert_eq!(next(&mut leader), (1, 0));
    }

    #[test]
    fn without_sessions_everything_is_named_each_time() {
        let mut leader = Leader::new(false);
        leader.want(&tp(0), at(0));
        for _ in 0..2 {
            assert_eq!(next(&mut leader), (1, 0));
            assert!(!leader.answered(ErrorCode::NONE, 0));
        }
    }
}
