//! Fetch with and without sessions (KIP-227), each one attempt.
//!
//! A session is explicit state: the caller may begin one, go on with it, or break it.
//!
//! Not checked: that a broker answers only what was asked; the wire checker sees to that.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use kafka_wire::ErrorCode;
use kafka_wire::ids::{LeaderEpoch, NodeId, Offset, ProducerId};
use uuid::Uuid;

use super::cluster::{TopicPartition, topic_name};
use super::connection::{Connection, Fate, Pending, Response};
use super::typed;

/// Which records a consumer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IsolationLevel {
    /// All up to the high watermark.
    ReadUncommitted,
    /// Those of committed transactions up to the last stable offset (KIP-98).
    ReadCommitted,
}

impl IsolationLevel {
    /// As requests carry it.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// Where to read on in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next offset wanted.
    pub fetch_offset: Offset,
    /// The leader epoch the metadata named; −1 for none. Since v9.
    pub leader_epoch: LeaderEpoch,
    /// The topic's id. Since v13 it stands in place of the name.
    pub topic_id: Uuid,
}

/// Limits of one Fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long the broker may wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// How much must be there for an answer before that.
    pub min_bytes: i32,
    /// How much the answer may hold; its first batch is whole all the same.
    pub max_bytes: i32,
    /// How much of one partition.
    pub partition_max_bytes: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_wait_ms: 500, min_bytes: 1, max_bytes: 50 << 20, partition_max_bytes: 1 << 20 }
    }
}

/// A fetch session as the client keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// The broker's id for it; 0 is none yet.
    pub id: i32,
    /// The epoch of the next request: 0 asks for a new session, −1 for none at all.
    pub epoch: i32,
    /// What the broker remembers of it.
    pub known: BTreeMap<TopicPartition, Position>,
}

impl Session {
    /// No session: each request names everything.
    #[must_use]
    pub fn off() -> Self {
        Self { id: 0, epoch: -1, known: BTreeMap::new() }
    }

    /// Asks for a session with the next request.
    #[must_use]
    pub fn fresh() -> Self {
        Self::default()
    }

    /// Builds the next request of the session: only what changed, where there is one.
    #[must_use]
    pub fn request(
        &mut self,
        api_version: i16,
        isolation: IsolationLevel,
        limits: Limits,
        wanted: &BTreeMap<TopicPartition, Position>,
    ) -> FetchRequest {
        let incremental = self.epoch > 0;
        let news = wanted
            .iter()
            .filter(|(tp, position)| !incremental || self.known.get(tp) != Some(position));
        let mut request = self.naming(api_version, isolation, limits, news);
        if incremental {
            let gone = self.known.iter().filter(|(tp, _)| !wanted.contains_key(tp));
            forget(&mut request, api_version, gone);
        }
        self.known.clone_from(wanted);
        request
    }

    /// The same for a caller who knows what changed: partitions with their new positions, and
    /// partitions to forget. Only for a session that goes on.
    #[must_use]
    pub fn request_changes(
        &mut self,
        api_version: i16,
        isolation: IsolationLevel,
        limits: Limits,
        changed: &[(TopicPartition, Position)],
        forgotten: &[TopicPartition],
    ) -> FetchRequest {
        let news = changed.iter().map(|(tp, position)| (tp, position));
        let mut request = self.naming(api_version, isolation, limits, news);
        for tp in forgotten {
            if let Some(position) = self.known.remove(tp) {
                forget(&mut request, api_version, [(tp, &position)]);
            }
        }
        for (tp, position) in changed {
            match self.known.get_mut(tp) {
                Some(known) => *known = *position,
                None => drop(self.known.insert(tp.clone(), *position)),
            }
        }
        request
    }

    /// A request of this session that names partitions.
    fn naming<'a>(
        &self,
        api_version: i16,
        isolation: IsolationLevel,
        limits: Limits,
        partitions: impl Iterator<Item = (&'a TopicPartition, &'a Position)>,
    ) -> FetchRequest {
        let mut request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(limits.max_wait_ms)
            .with_min_bytes(limits.min_bytes)
            .with_max_bytes(limits.max_bytes)
            .with_isolation_level(isolation.code());
        if api_version >= 7 {
            request.session_id = self.id;
            request.session_epoch = self.epoch;
        }
        for (tp, position) in partitions {
            let mut partition = FetchPartition::default()
                .with_partition(tp.partition)
                .with_fetch_offset(position.fetch_offset.0)
                .with_partition_max_bytes(limits.partition_max_bytes);
            if api_version >= 9 {
                partition.current_leader_epoch = position.leader_epoch.0;
            }
            let known = request.topics.iter_mut();
            match known.rev().find(|t| is_topic(api_version, t, tp, position)) {
                Some(topic) => topic.partitions.push(partition),
                None => {
                    let topic = FetchTopic::default().with_partitions(vec![partition]);
                    request.topics.push(if api_version >= 13 {
                        topic.with_topic_id(position.topic_id)
                    } else {
                        topic.with_topic(topic_name(&tp.topic))
                    });
                }
            }
        }
        request
    }

    /// Takes note of an answer: the session goes on, begins, or is gone.
    pub fn answered(&mut self, error: ErrorCode, session_id: i32) {
        if self.epoch < 0 {
            return;
        }
        if error.is_none() && session_id != 0 {
            self.id = session_id;
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        } else if error.is_none() {
            // The broker keeps no session for us; what was asked is still what it answers.
            (self.id, self.epoch) = (0, 0);
        } else {
            *self = Self::fresh();
        }
    }
}

fn forget<'a>(
    request: &mut FetchRequest,
    api_version: i16,
    gone: impl IntoIterator<Item = (&'a TopicPartition, &'a Position)>,
) {
    if api_version < 7 {
        return;
    }
    request.forgotten_topics_data.extend(gone.into_iter().map(|(tp, position)| {
        let forgotten = ForgottenTopic::default().with_partitions(vec![tp.partition]);
        if api_version >= 13 {
            forgotten.with_topic_id(position.topic_id)
        } else {
            forgotten.with_topic(topic_name(&tp.topic))
        }
    }));
}

fn is_topic(api_version: i16, topic: &FetchTopic, tp: &TopicPartition, at: &Position) -> bool {
    if api_version >= 13 {
        topic.topic_id == at.topic_id
    } else {
        topic.topic.0.as_str() == &*tp.topic
    }
}

/// What Fetch answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The error of the whole.
    pub error: ErrorCode,
    /// The session the broker keeps; 0 is none.
    pub session_id: i32,
    /// Its partitions; an incremental answer leaves out those without news.
    pub partitions: Vec<FetchedPartition>,
}

/// What Fetch answered for one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// Its error.
    pub error: ErrorCode,
    /// What all in-sync replicas have.
    pub high_watermark: Offset,
    /// Before the first record of any open transaction. Since v4.
    pub last_stable_offset: Offset,
    /// The first offset that is still there. Since v5.
    pub log_start_offset: Offset,
    /// Aborted transactions that overlap the answer (`read_committed` only), as producer id and
    /// first offset.
    pub aborted_transactions: Vec<(ProducerId, Offset)>,
    /// Who leads now, where the broker knows better. Since v12.
    pub current_leader: Option<NodeId>,
    /// Record batches; the last may be cut.
    pub records: Bytes,
}

/// Sends a Fetch and returns at once.
///
/// # Errors
/// [`Fate::NotSent`].
pub async fn send(
    connection: &Connection,
    api_version: i16,
    request: &FetchRequest,
) -> Result<Pending, Fate> {
    connection.send_typed(request, api_version).await
}

/// Reads the answer to a Fetch; `names` resolves topic ids (since v13).
///
/// # Errors
/// [`Fate::Broken`] where it does not decode.
pub fn fetched(
    response: Response,
    api_version: i16,
    names: impl Fn(Uuid) -> Option<Arc<str>>,
) -> Result<Fetched, Fate> {
    let answer: FetchResponse = typed::typed_answer::<FetchRequest>(response, api_version)?;
    let mut partitions = Vec::new();
    for topic in answer.responses {
        let name: Arc<str> = if api_version >= 13 {
            // A topic id nobody asked for is kept under its text, not dropped.
            names(topic.topic_id).unwrap_or_else(|| topic.topic_id.to_string().into())
        } else {
            topic.topic.0.as_str().into()
        };
        partitions.extend(topic.partitions.into_iter().map(|p| {
            FetchedPartition {
                partition: TopicPartition { topic: name.clone(), partition: p.partition_index },
                error: ErrorCode(p.error_code),
                high_watermark: Offset(p.high_watermark),
                last_stable_offset: Offset(p.last_stable_offset),
                log_start_offset: Offset(p.log_start_offset),
                aborted_transactions: p
                    .aborted_transactions
                    .unwrap_or_default()
                    .iter()
                    .map(|a| (ProducerId(a.producer_id.0), Offset(a.first_offset)))
                    .collect(),
                current_leader: (p.current_leader.leader_id.0 >= 0)
                    .then_some(NodeId(p.current_leader.leader_id.0)),
                records: p.records.unwrap_or_default(),
            }
        }));
    }
    let error = ErrorCode(answer.error_code);
    Ok(Fetched { error, session_id: answer.session_id, partitions })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(offsets: &[(i32, i64)]) -> BTreeMap<TopicPartition, Position> {
        let position = |offset| Position {
            fetch_offset: Offset(offset),
            leader_epoch: LeaderEpoch(0),
            topic_id: Uuid::from_u128(7),
        };
        offsets
            .iter()
            .map(|&(partition, offset)| {
                (TopicPartition { topic: "t".into(), partition }, position(offset))
            })
            .collect()
    }

    fn asks(request: &FetchRequest) -> (usize, usize) {
        let asked = request.topics.iter().map(|t| t.partitions.len()).sum();
        let forgotten = request.forgotten_topics_data.iter().map(|t| t.partitions.len()).sum();
        (asked, forgotten)
    }

    #[test]
    fn a_session_names_only_what_changed() {
        let mut session = Session::fresh();
        let mut next = |offsets: &[(i32, i64)]| {
            let level = IsolationLevel::ReadCommitted;
            let request = session.request(13, level, Limits::default(), &wanted(offsets));
            session.answered(ErrorCode::NONE, 9);
            (asks(&request), request.session_id, request.session_epoch)
        };
        assert_eq!(next(&[(0, 0), (1, 0)]), ((2, 0), 0, 0));
        assert_eq!(next(&[(0, 5), (1, 0)]), ((1, 0), 9, 1));
        assert_eq!(next(&[(0, 5)]), ((0, 1), 9, 2));
    }

    #[test]
    fn a_lost_session_begins_again_and_no_session_stays_none() {
        let mut session = Session { id: 9, epoch: 4, known: wanted(&[(0, 1)]) };
        session.answered(ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0);
        assert_eq!(session, Session::fresh());
        let mut off = Session::off();
        off.answered(ErrorCode::NONE, 3);
        assert_eq!((off.id, off.epoch), (0, -1));
    }
}
