//! Fetch sessions (KIP-227): what a client asked for last time, so that it need not say it again.

use std::collections::BTreeMap;

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;
use uuid::Uuid;

/// A session unused for this long makes room for a new one.
const EVICTABLE_AFTER_MS: i64 = 120_000;
/// Partitions of one session at most; a client with more goes without a session.
const PARTITIONS_MAX: usize = 10_000;

/// One partition a client wants to read.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: StrBytes,
    pub(super) topic_id: Uuid,
    pub(super) partition: i32,
    pub(super) fetch_offset: i64,
    pub(super) current_leader_epoch: i32,
    pub(super) last_fetched_epoch: i32,
    pub(super) max_bytes: i32,
    /// What the client was told last; absent before the first answer.
    told: Option<(i64, i64)>,
}

impl Wanted {
    fn is_same(&self, other: &Self) -> bool {
        self.partition == other.partition && self.same_topic(&other.name, other.topic_id)
    }

    fn same_topic(&self, name: &StrBytes, topic_id: Uuid) -> bool {
        if topic_id.is_nil() { self.name == *name } else { self.topic_id == topic_id }
    }
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_topic_id: bool,
    used_ms: i64,
    wanted: Vec<Wanted>,
}

/// What a request reads, and in which session.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) wanted: Vec<Wanted>,
    pub(super) session: SessionUse,
}

/// How an answer belongs to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionUse {
    /// None: everything is answered, the session id is 0.
    Without,
    /// A new one is to be made of a full answer.
    New,
    /// An incremental answer: only what has changed.
    Incremental(i32),
}

/// Every session.
#[derive(Debug)]
pub(super) struct FetchSessions {
    sessions: BTreeMap<i32, Session>,
    sessions_max: usize,
    next_id: i32,
}

impl FetchSessions {
    pub(super) fn new(sessions_max: usize) -> Self {
        Self { sessions: BTreeMap::new(), sessions_max, next_id: 1 }
    }

    /// What a request asks to read.
    pub(super) fn plan(
        &mut self,
        request: &FetchRequest,
        version: i16,
        now_ms: i64,
    ) -> Result<Plan, ErrorCode> {
        let asked = wanted(request);
        if request.session_epoch <= 0 {
            self.sessions.remove(&request.session_id);
            let begins = request.session_epoch == 0 && !asked.is_empty();
            let session = if begins { SessionUse::New } else { SessionUse::Without };
            return Ok(Plan { wanted: asked, session });
        }
        let id = request.session_id;
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        let by_topic_id = version >= 13;
        if session.by_topic_id != by_topic_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.update(request, asked);
        session.used_ms = now_ms;
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        if session.wanted.is_empty() {
            self.sessions.remove(&id);
            return Ok(Plan { wanted: Vec::new(), session: SessionUse::Without });
        }
        Ok(Plan { wanted: session.wanted.clone(), session: SessionUse::Incremental(id) })
    }

    /// Makes a session of a full answer; `told` is what it said of each wanted partition. Returns
    /// its id, 0 where there is no room.
    pub(super) fn open(
        &mut self,
        wanted: &[Wanted],
        told: &[Option<(i64, i64)>],
        version: i16,
        now_ms: i64,
    ) -> i32 {
        if wanted.len() > PARTITIONS_MAX || !self.has_room(now_ms) {
            return 0;
        }
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let mut session =
            Session { epoch: 1, by_topic_id: version >= 13, used_ms: now_ms, wanted: Vec::new() };
        for (wanted, told) in wanted.iter().zip(told) {
            session.wanted.push(Wanted { told: *told, ..wanted.clone() });
        }
        self.sessions.insert(id, session);
        id
    }

    fn has_room(&mut self, now_ms: i64) -> bool {
        if self.sessions.len() < self.sessions_max {
            return true;
        }
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used_ms);
        let Some((&id, session)) = oldest else { return false };
        let goes = now_ms.saturating_sub(session.used_ms) > EVICTABLE_AFTER_MS;
        goes && self.sessions.remove(&id).is_some()
    }

    /// Notes what an incremental answer is about to say; returns which partitions it must hold.
    /// Those with records go to the end of the line, so that none starves the others.
    pub(super) fn note(&mut self, id: i32, answers: &[SessionAnswer]) -> Vec<bool> {
        let Some(session) = self.sessions.get_mut(&id) else { return vec![true; answers.len()] };
        if session.wanted.len() != answers.len() {
            return vec![true; answers.len()];
        }
        let mut told = Vec::with_capacity(answers.len());
        let (mut stays, mut moves) = (Vec::new(), Vec::new());
        for (mut wanted, answer) in session.wanted.drain(..).zip(answers) {
            let changed = wanted.told != Some((answer.high_watermark, answer.log_start_offset));
            told.push(answer.has_records || answer.failed || changed);
            // An error is told again until it is gone.
            wanted.told =
                (!answer.failed).then_some((answer.high_watermark, answer.log_start_offset));
            if answer.has_records { moves.push(wanted) } else { stays.push(wanted) }
        }
        stays.append(&mut moves);
        session.wanted = stays;
        told
    }
}

/// What an answer says of one partition, as far as its session cares.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionAnswer {
    pub(super) has_records: bool,
    pub(super) failed: bool,
    pub(super) high_watermark: i64,
    pub(super) log_start_offset: i64,
}

impl Session {
    fn update(&mut self, request: &FetchRequest, asked: Vec<Wanted>) {
        for wanted in asked {
            match self.wanted.iter().position(|known| known.is_same(&wanted)) {
                Some(at) => self.wanted[at] = Wanted { told: self.wanted[at].told, ..wanted },
                None if self.wanted.len() < PARTITIONS_MAX => self.wanted.push(wanted),
                None => {}
            }
        }
        for topic in &request.forgotten_topics_data {
            self.wanted.retain(|known| {
                !(known.same_topic(&topic.topic.0, topic.topic_id)
                    && topic.partitions.contains(&known.partition))
            });
        }
    }
}

fn wanted(request: &FetchRequest) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for topic in &request.topics {
        wanted.extend(topic.partitions.iter().map(|partition| Wanted {
            name: topic.topic.0.clone(),
            topic_id: topic.topic_id,
            partition: partition.partition,
            fetch_offset: partition.fetch_offset,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: partition.partition_max_bytes,
            told: None,
        }));
    }
    wanted
}
