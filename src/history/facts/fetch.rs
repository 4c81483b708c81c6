//! Fetch, read with compiled lookups; what incremental fetches leave out is remembered (KIP-227).

use std::net::SocketAddr;
use std::sync::LazyLock;

use kafka_wire::ApiKey;
use kafka_wire::batch::Scratch;
use kafka_wire::schema::{Direction, Flow, Lookups, Scalar};
use rustc_hash::FxHashMap;

use super::batch::batches_of;
use super::fact::{Fetched, Topic};
use super::names::Names;
use crate::history::tap::Connection;

/// Fetch sessions that are remembered.
const SESSIONS_MAX: usize = 4_096;
/// Partitions of all sessions that are remembered.
const PARTITIONS_MAX: usize = 262_144;

static REQUEST: LazyLock<Lookups> = LazyLock::new(|| {
    Lookups::new(
        ApiKey::FETCH,
        Direction::Request,
        &[
            "replica_id",
            "replica_state.replica_id",
            "isolation_level",
            "session_id",
            "session_epoch",
            "topics.topic",
            "topics.topic_id",
            "topics.partitions.partition",
            "topics.partitions.current_leader_epoch",
            "topics.partitions.fetch_offset",
            "forgotten_topics_data.topic",
            "forgotten_topics_data.topic_id",
            "forgotten_topics_data.partitions",
        ],
    )
    .expect("the table has these fields")
});

static RESPONSE: LazyLock<Lookups> = LazyLock::new(|| {
    Lookups::new(
        ApiKey::FETCH,
        Direction::Response,
        &[
            "error_code",
            "session_id",
            "responses.topic",
            "responses.topic_id",
            "responses.partitions.partition_index",
            "responses.partitions.error_code",
            "responses.partitions.high_watermark",
            "responses.partitions.last_stable_offset",
            "responses.partitions.log_start_offset",
            "responses.partitions.aborted_transactions.producer_id",
            "responses.partitions.aborted_transactions.first_offset",
            "responses.partitions.records",
        ],
    )
    .expect("the table has these fields")
});

type Partition = (Topic, i32);

/// From where a partition is fetched, and the leader epoch the broker is held to.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    offset: i64,
    leader_epoch: i32,
    /// The last offset that was returned on the connection at hand; −1 for none.
    returned: i64,
}

/// A Fetch request.
#[derive(Debug)]
pub(super) struct FetchAsked {
    pub(super) read_committed: bool,
    pub(super) by_consumer: bool,
    session_id: i32,
    session_epoch: i32,
    partitions: FxHashMap<Partition, Wanted>,
    forgotten: Vec<Partition>,
}

/// Reads a request; absent where it does not decode.
pub(super) fn request(version: i16, body: &[u8], names: &mut Names) -> Option<FetchAsked> {
    let mut asked = FetchAsked {
        read_committed: false,
        by_consumer: true,
        session_id: 0,
        session_epoch: -1,
        partitions: FxHashMap::default(),
        forgotten: Vec::new(),
    };
    let mut topic = Topic::default();
    let (mut partition, mut leader_epoch) = (0, -1);
    let walked = REQUEST.at(version)?.read(body, |hit| {
        match (hit.slot, hit.value) {
            (0 | 1, Scalar::Int(replica)) => asked.by_consumer = replica == -1,
            (2, Scalar::Int(level)) => asked.read_committed = level == 1,
            (3, Scalar::Int(id)) => asked.session_id = id as i32,
            (4, Scalar::Int(epoch)) => asked.session_epoch = epoch as i32,
            (5 | 10, Scalar::String(name)) => topic = Topic::Name(names.of(name)),
            (6 | 11, Scalar::Uuid(id)) => topic = Topic::Id(*id),
            (7, Scalar::Int(index)) => (partition, leader_epoch) = (index as i32, -1),
            (8, Scalar::Int(epoch)) => leader_epoch = epoch as i32,
            (9, Scalar::Int(offset)) => {
                asked.partitions.insert(
                    (topic.clone(), partition),
                    Wanted { offset, leader_epoch, returned: -1 },
                );
            }
            (12, Scalar::Int(index)) => asked.forgotten.push((topic.clone(), index as i32)),
            _ => {}
        }
        Flow::Continue(())
    });
    walked.stopped.is_none().then_some(asked)
}

/// A fetch session, as far as its requests were seen.
#[derive(Debug, Default)]
struct Session {
    /// The epoch of the last request that was answered.
    epoch: i32,
    /// On which connection that was.
    connection: Connection,
    partitions: FxHashMap<Partition, Wanted>,
}

impl Session {
    /// Whether a request is the next one: where others came in between, consumers have moved on.
    fn is_next(&self, epoch: i32) -> bool {
        let next = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        epoch == next
    }

    /// Nothing is known of what it returned.
    #[expect(
        clippy::disallowed_methods,
        reason = "each is changed alone: the order reaches nothing"
    )]
    fn return_nothing(&mut self) {
        self.partitions.values_mut().for_each(|wanted| wanted.returned = -1);
    }
}

/// Fetch sessions, by broker and session id.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    known: FxHashMap<(SocketAddr, i32), Session>,
    partitions: usize,
}

impl Sessions {
    /// Completes an answered request with what its session knows, and remembers it.
    fn complete(
        &mut self,
        (broker, connection): (SocketAddr, Connection),
        asked: &mut FetchAsked,
        answered_id: i32,
    ) {
        if asked.session_id != 0 && asked.session_epoch > 0 {
            let Some(session) = self.known.get_mut(&(broker, asked.session_id)) else { return };
            let before = session.partitions.len();
            if !session.is_next(asked.session_epoch) {
                session.partitions.clear();
            }
            session.epoch = asked.session_epoch;
            if session.connection != connection {
                session.connection = connection;
                session.return_nothing();
            }
            for partition in &asked.forgotten {
                session.partitions.remove(partition);
            }
            for (partition, wanted) in &asked.partitions {
                let before = session.partitions.get(partition).map_or(-1, |w| w.returned);
                let wanted = Wanted { returned: before, ..*wanted };
                session.partitions.insert(partition.clone(), wanted);
            }
            self.partitions = self.partitions + session.partitions.len() - before;
            return;
        }
        self.forget(broker, asked.session_id);
        if answered_id != 0 {
            if self.known.len() >= SESSIONS_MAX
                || self.partitions + asked.partitions.len() > PARTITIONS_MAX
            {
                self.known.clear();
                self.partitions = 0;
            }
            self.forget(broker, answered_id);
            self.partitions += asked.partitions.len();
            let session = Session { epoch: 0, connection, partitions: asked.partitions.clone() };
            self.known.insert((broker, answered_id), session);
        }
    }

    fn forget(&mut self, broker: SocketAddr, id: i32) {
        if let Some(gone) = self.known.remove(&(broker, id)) {
            self.partitions -= gone.partitions.len();
        }
    }

    /// What a session had returned of a partition before it returned these batches.
    fn returned(&mut self, of: (SocketAddr, i32), fetched: &Fetched) -> Option<i64> {
        let partition = (fetched.topic.clone(), fetched.partition);
        let wanted = self.known.get_mut(&of)?.partitions.get_mut(&partition)?;
        let last = fetched.batches.iter().map(|batch| batch.header.last_offset().0).max();
        let before = wanted.returned;
        wanted.returned = before.max(last.unwrap_or(-1));
        Some(before)
    }

    fn find(&self, broker: SocketAddr, asked: &FetchAsked, of: &Partition) -> Option<Wanted> {
        let in_session = || self.known.get(&(broker, asked.session_id))?.partitions.get(of);
        asked.partitions.get(of).or_else(in_session).copied()
    }
}

/// What reading a response needs.
pub(super) struct Reading<'a> {
    pub(super) names: &'a mut Names,
    pub(super) scratch: &'a mut Scratch,
    pub(super) sessions: &'a mut Sessions,
    pub(super) broker: SocketAddr,
    pub(super) connection: Connection,
    pub(super) keep_records: bool,
}

/// Reads a response; absent where it does not decode.
pub(super) fn response(
    version: i16,
    body: &[u8],
    asked: &mut FetchAsked,
    reading: &mut Reading<'_>,
) -> Option<Vec<Fetched>> {
    let mut partitions = Vec::new();
    let (mut topic, mut now) = (Topic::default(), Fetched::default());
    let (mut failed, mut session_id, mut aborted) = (false, 0, 0);
    let (names, scratch, keep_records) =
        (&mut *reading.names, &mut *reading.scratch, reading.keep_records);
    let walked = RESPONSE.at(version)?.read(body, |hit| {
        match (hit.slot, hit.value) {
            (0, Scalar::Int(code)) => failed = code != 0,
            (1, Scalar::Int(id)) => session_id = id as i32,
            (2, Scalar::String(name)) => topic = Topic::Name(names.of(name)),
            (3, Scalar::Uuid(id)) => topic = Topic::Id(*id),
            (4, Scalar::Int(index)) => {
                now = Fetched {
                    topic: topic.clone(),
                    partition: index as i32,
                    last_stable_offset: -1,
                    log_start_offset: -1,
                    ..Fetched::default()
                };
            }
            (5, Scalar::Int(code)) => now.error = code as i16,
            (6, Scalar::Int(offset)) => now.high_watermark = offset,
            (7, Scalar::Int(offset)) => now.last_stable_offset = offset,
            (8, Scalar::Int(offset)) => now.log_start_offset = offset,
            (9, Scalar::Int(producer_id)) => aborted = producer_id,
            (10, Scalar::Int(first)) => now.aborted.push((aborted, first)),
            (11, value) => {
                let field = value.as_bytes().unwrap_or_default();
                (now.batches, now.unreadable) = batches_of(field, scratch, keep_records);
                partitions.push(std::mem::take(&mut now));
            }
            _ => {}
        }
        Flow::Continue(())
    });
    if walked.stopped.is_some() || failed {
        return None;
    }
    reading.sessions.complete((reading.broker, reading.connection), asked, session_id);
    let goes_on = asked.session_id != 0 && asked.session_epoch > 0;
    let session = if goes_on { asked.session_id } else { session_id };
    for fetched in &mut partitions {
        fetched.returned_to = reading.sessions.returned((reading.broker, session), fetched);
        let of = (fetched.topic.clone(), fetched.partition);
        if let Some(wanted) = reading.sessions.find(reading.broker, asked, &of) {
            fetched.fetch_offset = Some(wanted.offset);
            fetched.leader_epoch = (wanted.leader_epoch >= 0).then_some(wanted.leader_epoch);
        }
    }
    Some(partitions)
}
