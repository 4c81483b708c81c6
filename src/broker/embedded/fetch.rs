//! Answers Fetch: reads logs, waits for enough, respects sessions and isolation levels.
//!
//! The body of the answer is written by hand: records go from the log to the socket uncopied.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::FetchRequest;
use kafka_wire::ErrorCode;
use tokio::sync::Notify;

use super::bug::Bug;
use super::call::{Answer, Call, Later, Occasion};
use super::cluster::{Cluster, Partition, PartitionKey, TopicRef};
use super::fetch_session::{Plan, SessionAnswer, SessionUse, Wanted};
use super::log::{Aborted, Slice};
use super::node::Node;
use super::outbox::{Outbox, Pieces};

/// What is read of one partition.
struct Read {
    error: ErrorCode,
    high_watermark: i64,
    last_stable_offset: i64,
    log_start_offset: i64,
    aborted: Option<Vec<Aborted>>,
    slice: Slice,
    /// Leader id and epoch, where another node leads (KIP-951).
    current_leader: Option<(i32, i32)>,
    /// Where the client's log left the leader's (KIP-595).
    diverging: Option<(i32, i64)>,
    /// Whether this answer cannot wait.
    urgent: bool,
}

impl Read {
    fn failed(error: ErrorCode) -> Self {
        Self {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted: None,
            slice: Slice::default(),
            current_leader: None,
            diverging: None,
            urgent: true,
        }
    }
}

struct Fetch {
    call: Call,
    plan: Plan,
    min_bytes: usize,
    max_bytes: usize,
    committed_only: bool,
    follower: bool,
    signal: Arc<Notify>,
}

/// Answers Fetch.
pub(super) fn fetch(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<FetchRequest>() else { return Answer::Close };
    let planned = {
        let mut cluster = node.lock();
        match cluster.mischief.rolls(Bug::RefuseAnnounced, 50) {
            true => Err(ErrorCode::UNSUPPORTED_VERSION),
            false => {
                let plan = cluster.fetch_sessions.plan(&request, call.version(), node.now_ms());
                plan.map(|plan| step_back(&mut cluster, plan))
            }
        }
    };
    let plan = match planned {
        Ok(plan) => plan,
        Err(error) => {
            let mut body = Pieces::default();
            put_head(&mut body.tail, call.version(), error, 0);
            put_array_len(&mut body.tail, call.version(), 0);
            put_no_tags(&mut body.tail, call.version());
            return call.reply_pieces(out, body);
        }
    };
    let max_bytes = request.max_bytes.min(node.config().fetch_max_bytes);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let replica = if call.version() >= 15 {
        request.replica_state.replica_id.0
    } else {
        request.replica_id.0
    };
    let fetch = Fetch {
        plan,
        min_bytes: usize::try_from(request.min_bytes.min(max_bytes)).unwrap_or(0),
        max_bytes: usize::try_from(max_bytes).unwrap_or(0),
        committed_only: request.isolation_level == 1,
        follower: replica >= 0,
        signal: Arc::new(Notify::new()),
        call,
    };
    if let Some(answer) = fetch.attempt(node, out, wait.is_zero()) {
        return answer;
    }
    let deadline_ns = node.clock().now_ns().saturating_add(wait.as_nanos() as u64);
    Answer::Later(Later {
        signal: fetch.signal.clone(),
        deadline_ns: Some(deadline_ns),
        resume: Box::new(move |node, out, occasion| {
            fetch.attempt(node, out, occasion == Occasion::Deadline)
        }),
    })
}

/// What a broker with a bug makes of the positions of a session.
fn step_back(cluster: &mut Cluster, mut plan: Plan) -> Plan {
    let goes_on = matches!(plan.session, SessionUse::Incremental(_));
    if goes_on && cluster.mischief.rolls(Bug::StepBackOnFetch, 10) {
        for wanted in plan.wanted.iter_mut().filter(|wanted| wanted.fetch_offset > 0) {
            wanted.fetch_offset -= 1;
        }
    }
    plan
}

impl Fetch {
    fn attempt(&self, node: &Arc<Node>, out: &mut Outbox, last: bool) -> Option<Answer> {
        let mut cluster = node.lock();
        let mut reads = Vec::with_capacity(self.plan.wanted.len());
        let (mut bytes, mut urgent, mut interesting) = (0, false, false);
        for wanted in &self.plan.wanted {
            let left = self.max_bytes.saturating_sub(bytes);
            let read = self.read(&cluster, node, wanted, left, bytes == 0);
            bytes += read.slice.bytes;
            interesting |= read.error.is_none() || read.urgent;
            urgent |= read.urgent;
            reads.push(read);
        }
        if bytes >= self.min_bytes || urgent || last || !interesting {
            self.misread(&mut cluster, &mut reads);
            return Some(self.answer(node, &mut cluster, out, reads));
        }
        for wanted in &self.plan.wanted {
            if let Ok(key) = cluster.find_partition(self.topic_ref(wanted), wanted.partition)
                && let Some(partition) = cluster.partition_mut(key)
            {
                partition.log.wait(&self.signal);
            }
        }
        None
    }

    /// What a broker with a bug does to an answer.
    fn misread(&self, cluster: &mut Cluster, reads: &mut [Read]) {
        for (wanted, read) in self.plan.wanted.iter().zip(reads) {
            if read.slice.records.is_empty() {
                if read.high_watermark > 0 && cluster.mischief.rolls(Bug::WatermarkGoesBack, 4) {
                    read.high_watermark -= 1;
                    read.last_stable_offset = read.last_stable_offset.min(read.high_watermark);
                }
                continue;
            }
            if cluster.mischief.rolls(Bug::CorruptBatch, 20)
                && let Some(first) = read.slice.records.first_mut()
            {
                *first = super::bug::with_wrong_checksum(first);
            }
            if cluster.mischief.is(Bug::DeliverAborted) {
                read.aborted = read.aborted.take().map(|_| Vec::new());
            }
            if read.slice.records.len() > 2 && cluster.mischief.rolls(Bug::SkipOnFetch, 10) {
                let skipped = read.slice.records.remove(1);
                read.slice.bytes -= skipped.len();
            }
            if cluster.mischief.is(Bug::ChangeRecord) {
                self.change(cluster, wanted, &mut read.slice);
            }
        }
    }

    /// Gives another value for a record that was read before.
    fn change(&self, cluster: &mut Cluster, wanted: &Wanted, slice: &mut Slice) {
        let Ok(key) = cluster.find_partition(self.topic_ref(wanted), wanted.partition) else {
            return;
        };
        let bites = cluster.mischief.rolls(Bug::ChangeRecord, 4);
        let Some(partition) = cluster.partition_mut(key) else { return };
        let again = wanted.fetch_offset < partition.log.read_to;
        partition.log.read_to = partition.log.read_to.max(slice.end_offset);
        if let (true, true, Some(first)) = (bites, again, slice.records.first_mut()) {
            *first = super::bug::with_other_value(first);
        }
    }

    fn topic_ref<'a>(&self, wanted: &'a Wanted) -> TopicRef<'a> {
        if self.call.version() >= 13 {
            TopicRef::Id(wanted.topic_id)
        } else {
            TopicRef::Name(&wanted.name)
        }
    }

    fn read(
        &self,
        cluster: &Cluster,
        node: &Node,
        wanted: &Wanted,
        left: usize,
        first: bool,
    ) -> Read {
        let key = match cluster.find_partition(self.topic_ref(wanted), wanted.partition) {
            Ok(key) => key,
            // Kafka answers these when it answers; they do not hurry it.
            Err(error) => return Read { urgent: false, ..Read::failed(error) },
        };
        let Some(partition) = cluster.partition(key) else {
            return Read::failed(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        if partition.leader != node.node_id || self.follower {
            let mut read = Read::failed(ErrorCode::NOT_LEADER_OR_FOLLOWER);
            read.current_leader = Some((partition.leader, partition.leader_epoch));
            return read;
        }
        if let Err(error) = check_epoch(wanted.current_leader_epoch, partition.leader_epoch) {
            let mut read = Read::failed(error);
            read.current_leader = Some((partition.leader, partition.leader_epoch));
            return read;
        }
        self.read_led(partition, wanted, left, first, key)
    }

    fn read_led(
        &self,
        partition: &Partition,
        wanted: &Wanted,
        left: usize,
        first: bool,
        _key: PartitionKey,
    ) -> Read {
        let log = &partition.log;
        let (high_watermark, last_stable_offset) = (log.high_watermark(), log.last_stable_offset());
        let mut read = Read {
            error: ErrorCode::NONE,
            high_watermark,
            last_stable_offset,
            log_start_offset: log.log_start_offset,
            aborted: self.committed_only.then(Vec::new),
            slice: Slice::default(),
            current_leader: None,
            diverging: None,
            urgent: false,
        };
        if wanted.last_fetched_epoch >= 0 {
            match diverging(partition, wanted) {
                Ok(None) => {}
                Ok(Some(diverging)) => {
                    return Read { diverging: Some(diverging), urgent: true, ..read };
                }
                Err(error) => return Read::failed(error),
            }
        }
        if !(log.log_start_offset..=log.log_end_offset).contains(&wanted.fetch_offset) {
            return Read::failed(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let end = if self.committed_only { last_stable_offset } else { high_watermark };
        let max_bytes = usize::try_from(wanted.max_bytes).unwrap_or(0).min(left);
        read.slice = log.read(wanted.fetch_offset, end, max_bytes, first);
        if self.committed_only && read.slice.bytes > 0 {
            read.aborted = Some(log.aborted_between(wanted.fetch_offset, read.slice.end_offset));
        }
        read
    }

    fn answer(
        &self,
        node: &Node,
        cluster: &mut Cluster,
        out: &mut Outbox,
        reads: Vec<Read>,
    ) -> Answer {
        let version = self.call.version();
        let (session_id, told) = self.in_session(node, cluster, &reads);
        let mut body = Pieces::default();
        put_head(&mut body.tail, version, ErrorCode::NONE, session_id);
        let answered: Vec<(&Wanted, &Read)> = self
            .plan
            .wanted
            .iter()
            .zip(&reads)
            .zip(told)
            .filter_map(|(pair, told)| told.then_some(pair))
            .collect();
        let topics: Vec<&[(&Wanted, &Read)]> = answered
            .chunk_by(|(a, _), (b, _)| a.topic_id == b.topic_id && a.name == b.name)
            .collect();
        put_array_len(&mut body.tail, version, topics.len());
        for topic in topics {
            if let Some((wanted, _)) = topic.first() {
                put_topic(&mut body.tail, version, wanted);
            }
            put_array_len(&mut body.tail, version, topic.len());
            for (wanted, read) in topic {
                put_partition(&mut body, version, wanted.partition, read);
            }
            put_no_tags(&mut body.tail, version);
        }
        self.put_endpoints(cluster, &mut body.tail, &answered);
        self.call.reply_pieces(out, body)
    }

    /// The session's id, and for each wanted partition whether the answer holds it.
    fn in_session(&self, node: &Node, cluster: &mut Cluster, reads: &[Read]) -> (i32, Vec<bool>) {
        let all = vec![true; reads.len()];
        match self.plan.session {
            SessionUse::Without => (0, all),
            SessionUse::New => {
                let told: Vec<_> = reads
                    .iter()
                    .map(|read| {
                        read.error.is_none().then_some((read.high_watermark, read.log_start_offset))
                    })
                    .collect();
                let sessions = &mut cluster.fetch_sessions;
                let version = self.call.version();
                (sessions.open(&self.plan.wanted, &told, version, node.now_ms()), all)
            }
            SessionUse::Incremental(id) => {
                let answers: Vec<_> = reads
                    .iter()
                    .map(|read| SessionAnswer {
                        has_records: read.slice.bytes > 0,
                        failed: !read.error.is_none() || read.diverging.is_some(),
                        high_watermark: read.high_watermark,
                        log_start_offset: read.log_start_offset,
                    })
                    .collect();
                (id, cluster.fetch_sessions.note(id, &answers))
            }
        }
    }

    /// Ends the body, with the addresses of leaders that were hinted at (KIP-951).
    fn put_endpoints(&self, cluster: &Cluster, b: &mut BytesMut, answered: &[(&Wanted, &Read)]) {
        let version = self.call.version();
        if version < 12 {
            return;
        }
        let mut leaders: Vec<i32> =
            answered.iter().filter_map(|(_, read)| read.current_leader.map(|l| l.0)).collect();
        leaders.sort_unstable();
        leaders.dedup();
        let nodes: Vec<_> = leaders.iter().filter_map(|&id| cluster.node(id)).collect();
        if version < 16 || nodes.is_empty() {
            b.put_u8(0);
            return;
        }
        let mut field = BytesMut::new();
        put_uvarint(&mut field, nodes.len() + 1);
        for node in nodes {
            field.put_i32(node.node_id);
            put_uvarint(&mut field, node.host.len() + 1);
            field.put_slice(node.host.as_bytes());
            field.put_i32(node.port);
            field.put_slice(&[0, 0]); // No rack, no tagged fields.
        }
        b.put_slice(&[1, 0]);
        put_uvarint(b, field.len());
        b.put_slice(&field);
    }
}

/// Whether a client's idea of the leader epoch is behind or ahead (KIP-320). −1 has none.
pub(super) fn check_epoch(asked: i32, current: i32) -> Result<(), ErrorCode> {
    match asked {
        -1 => Ok(()),
        asked if asked < current => Err(ErrorCode::FENCED_LEADER_EPOCH),
        asked if asked > current => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

fn diverging(partition: &Partition, wanted: &Wanted) -> Result<Option<(i32, i64)>, ErrorCode> {
    let end = partition.log.end_of_epoch(wanted.last_fetched_epoch, partition.leader_epoch);
    let (epoch, end_offset) = end.ok_or(ErrorCode::OFFSET_OUT_OF_RANGE)?;
    let diverges = epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset;
    Ok(diverges.then_some((epoch, end_offset)))
}

// The body, field by field.

fn put_head(b: &mut BytesMut, version: i16, error: ErrorCode, session_id: i32) {
    b.put_i32(0); // throttle_time_ms
    if version >= 7 {
        b.put_i16(error.0);
        b.put_i32(session_id);
    }
}

fn put_topic(b: &mut BytesMut, version: i16, wanted: &Wanted) {
    if version >= 13 {
        b.put_slice(wanted.topic_id.as_bytes());
    } else if version >= 12 {
        put_uvarint(b, wanted.name.len() + 1);
        b.put_slice(wanted.name.as_bytes());
    } else {
        b.put_i16(wanted.name.len() as i16);
        b.put_slice(wanted.name.as_bytes());
    }
}

fn put_partition(body: &mut Pieces, version: i16, partition: i32, read: &Read) {
    let b = &mut body.tail;
    b.put_i32(partition);
    b.put_i16(read.error.0);
    b.put_i64(read.high_watermark);
    b.put_i64(read.last_stable_offset);
    if version >= 5 {
        b.put_i64(read.log_start_offset);
    }
    put_aborted(b, version, read.aborted.as_deref());
    if version >= 11 {
        b.put_i32(-1); // preferred_read_replica
    }
    if version >= 12 {
        put_uvarint(b, read.slice.bytes + 1);
    } else {
        b.put_i32(read.slice.bytes as i32);
    }
    for records in &read.slice.records {
        body.put_records(records);
    }
    if version >= 12 {
        put_hints(&mut body.tail, read);
    }
}

fn put_aborted(b: &mut BytesMut, version: i16, aborted: Option<&[Aborted]>) {
    match aborted {
        None if version >= 12 => b.put_u8(0),
        None => b.put_i32(-1),
        Some(aborted) => {
            put_array_len(b, version, aborted.len());
            for transaction in aborted {
                b.put_i64(transaction.producer_id);
                b.put_i64(transaction.first_offset);
                put_no_tags(b, version);
            }
        }
    }
}

/// The tagged fields of a partition: 0 `diverging_epoch`, 1 `current_leader`.
fn put_hints(b: &mut BytesMut, read: &Read) {
    b.put_u8(u8::from(read.diverging.is_some()) + u8::from(read.current_leader.is_some()));
    if let Some((epoch, end_offset)) = read.diverging {
        b.put_slice(&[0, 13]);
        b.put_i32(epoch);
        b.put_i64(end_offset);
        b.put_u8(0);
    }
    if let Some((leader, epoch)) = read.current_leader {
        b.put_slice(&[1, 9]);
        b.put_i32(leader);
        b.put_i32(epoch);
        b.put_u8(0);
    }
}

fn put_array_len(b: &mut BytesMut, version: i16, len: usize) {
    if version >= 12 { put_uvarint(b, len + 1) } else { b.put_i32(len as i32) }
}

fn put_no_tags(b: &mut BytesMut, version: i16) {
    if version >= 12 {
        b.put_u8(0);
    }
}

fn put_uvarint(b: &mut BytesMut, value: usize) {
    let mut left = value as u32;
    while left >= 0x80 {
        b.put_u8((left as u8 & 0x7f) | 0x80);
        left >>= 7;
    }
    b.put_u8(left as u8);
}
