//! Answers Produce: checks each batch, lets transactions in, appends.
//!
//! A transactional batch is let in when its partition belongs to the producer's transaction. Up to
//! version 11 the coordinator is asked whether it does (KIP-890, first part); from 12 on the
//! partition is enlisted on the way, before the batch itself is looked at (second part). While the
//! markers of the transaction before are being written, a Produce of version 12 waits a moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;
use tokio::sync::Notify;

use super::batch_check::{Candidate, Refusal, check};
use super::bug::Bug;
use super::call::{Answer, Call, Later, Occasion};
use super::cluster::{Cluster, PartitionKey, TopicRef};
use super::log::Append;
use super::node::Node;
use super::outbox::Outbox;
use super::transaction::Enlist;

/// From this version on the broker enlists what is produced to.
const ENLISTS_FROM: i16 = 12;
/// From this version on TRANSACTION_ABORTABLE may be answered.
const ABORTABLE_FROM: i16 = 11;

/// An error code that no version of the protocol has.
const NO_ERROR_CODE: i16 = 1_234;

/// One partition of a request: what to append, or why not.
#[derive(Clone)]
struct Part {
    topic: usize,
    index: i32,
    candidate: Result<Candidate, Refusal>,
}

/// What a partition is answered.
#[derive(Clone, Copy)]
struct Outcome {
    base_offset: i64,
    log_append_time_ms: i64,
    log_start_offset: i64,
}

type Judged = Result<Outcome, Refusal>;

/// The request, its batches checked.
struct Produce {
    call: Call,
    request: ProduceRequest,
    parts: Vec<Part>,
    signal: Arc<Notify>,
}

/// Answers Produce.
pub(super) fn produce(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(mut request) = call.decode::<ProduceRequest>() else { return Answer::Close };
    let (version, now_ms) = (call.version(), node.now_ms());
    let mut parts = Vec::new();
    for (topic, data) in request.topic_data.iter_mut().enumerate() {
        for partition in &mut data.partition_data {
            // Checked before the lock is taken: this is where the time goes.
            let records = partition.records.take();
            let candidate = check(version, records.as_ref(), now_ms);
            parts.push(Part { topic, index: partition.index, candidate });
        }
    }
    let produce = Produce { call, request, parts, signal: Arc::new(Notify::new()) };
    match produce.attempt(node, out, false) {
        Some(answer) => answer,
        None => produce.later(node),
    }
}

impl Produce {
    /// Waits for the markers of the transaction before.
    fn later(self, node: &Arc<Node>) -> Answer {
        let wait_ns = node.config().add_partitions_retry_ms.saturating_mul(1_000_000);
        Answer::Later(Later {
            signal: self.signal.clone(),
            deadline_ns: Some(node.clock().now_ns().saturating_add(wait_ns)),
            resume: Box::new(move |node, out, occasion| {
                self.attempt(node, out, occasion == Occasion::Deadline)
            }),
        })
    }

    /// Answers, or gives nothing where it should wait and may.
    fn attempt(&self, node: &Arc<Node>, out: &mut Outbox, last: bool) -> Option<Answer> {
        let mut cluster = node.lock();
        if !matches!(self.request.acks, -1..=1) {
            let refused = Err(ErrorCode::INVALID_REQUIRED_ACKS.into());
            return Some(self.answer(&cluster, out, &vec![refused; self.parts.len()]));
        }
        let mut judged: Vec<Result<PartitionKey, Refusal>> =
            self.parts.iter().map(|part| self.locate(&cluster, node, part)).collect();
        if self.let_in(&mut cluster, node, &mut judged) && !last {
            return None;
        }
        let outcomes: Vec<Judged> = self
            .parts
            .iter()
            .zip(judged)
            .map(|(part, key)| append(&mut cluster, node, key?, part.candidate.as_ref()))
            .collect();
        if let Some(wrong) = self.make_mischief(&mut cluster, node, &outcomes) {
            return Some(wrong);
        }
        Some(self.answer(&cluster, out, &outcomes))
    }

    /// What a broker with a bug does after an append.
    fn make_mischief(
        &self,
        cluster: &mut Cluster,
        node: &Node,
        outcomes: &[Judged],
    ) -> Option<Answer> {
        if outcomes.iter().any(Result::is_err) {
            return None;
        }
        if let Some(id) = self.request.transactional_id.as_ref().map(|id| id.0.as_str())
            && let Some(&(producer_epoch, commit)) = cluster.mischief.withheld.get(id)
            && cluster.transactions.decide_wrongly(id, producer_epoch, commit, node.now_ms())
        {
            cluster.mischief.withheld.remove(id);
            super::background::write_markers(cluster, node.now_ms());
        }
        if cluster.mischief.rolls(Bug::DuplicateOnRetry, 50) {
            for candidate in self.parts.iter().filter_map(|part| part.candidate.as_ref().ok()) {
                let Some(producer_id) = candidate.producer_id() else { continue };
                let incoming = candidate.incoming();
                let identity = (producer_id, incoming.producer_epoch, incoming.base_sequence);
                cluster.mischief.to_repeat.insert(identity);
            }
            return Some(Answer::Close);
        }
        None
    }

    fn topic_ref(&self, topic: usize) -> TopicRef<'_> {
        let data = &self.request.topic_data[topic];
        if self.call.version() >= 13 {
            TopicRef::Id(data.topic_id)
        } else {
            TopicRef::Name(&data.name)
        }
    }

    fn locate(&self, cluster: &Cluster, node: &Node, part: &Part) -> Result<PartitionKey, Refusal> {
        let key = cluster.find_partition(self.topic_ref(part.topic), part.index)?;
        if let Err(refusal) = &part.candidate {
            return Err(*refusal);
        }
        if cluster.topic(key.topic).is_some_and(super::cluster::Topic::is_internal) {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION.into());
        }
        Ok(cluster.find_led(self.topic_ref(part.topic), part.index, node.node_id)?)
    }

    /// Asks the coordinator for the transactional batches. Returns whether it should be asked
    /// again: the transaction before is still being ended.
    fn let_in(
        &self,
        cluster: &mut Cluster,
        node: &Arc<Node>,
        judged: &mut [Result<PartitionKey, Refusal>],
    ) -> bool {
        let enlists = self.call.version() >= ENLISTS_FROM;
        let mut asking: BTreeMap<(i64, i16), Vec<(usize, PartitionKey)>> = BTreeMap::new();
        for (at, part) in self.parts.iter().enumerate() {
            let (Ok(key), Ok(candidate)) = (&judged[at], &part.candidate) else { continue };
            if !candidate.header.is_transactional() {
                continue;
            }
            let incoming = candidate.incoming();
            let producer_id = candidate.header.producer_id.0;
            let Some(partition) = cluster.partition_mut(*key) else { continue };
            if !partition.log.has_ongoing(producer_id, incoming.producer_epoch) {
                partition.log.note_verifying(
                    producer_id,
                    incoming.producer_epoch,
                    incoming.base_sequence,
                    enlists,
                );
                asking.entry((producer_id, incoming.producer_epoch)).or_default().push((at, *key));
            }
        }
        let id = self.request.transactional_id.as_deref().map_or("", |id| id);
        let mut again = false;
        for ((producer_id, producer_epoch), parts) in asking {
            let keys: Vec<_> = parts.iter().map(|(_, key)| *key).collect();
            let enlist = Enlist { transactional_id: id, producer_id, producer_epoch };
            let answers = if id.is_empty() {
                vec![ErrorCode::INVALID_TXN_STATE; keys.len()]
            } else if enlists {
                let answer = cluster.transactions.enlist(&enlist, &keys, true, node.now_ms());
                vec![answer.err().unwrap_or(ErrorCode::NONE); keys.len()]
            } else {
                cluster.transactions.verify(&enlist, &keys)
            };
            for ((at, key), error) in parts.iter().zip(answers) {
                if error == ErrorCode::CONCURRENT_TRANSACTIONS && enlists {
                    again |= cluster.transactions.wait(id, &self.signal);
                }
                let is_fenced = error == ErrorCode::PRODUCER_FENCED;
                let let_pass = is_fenced && cluster.mischief.is(Bug::AcceptZombie);
                if let (true, Ok(candidate)) = (is_fenced, &self.parts[*at].candidate)
                    && cluster.mischief.is(Bug::AppendRefused)
                {
                    // The answer is what it should be; only the log is not.
                    append_untracked(cluster, node, *key, candidate, false).ok();
                }
                if !error.is_none() && !let_pass {
                    judged[*at] = Err(self.translated(error).into());
                }
            }
        }
        again
    }

    /// What a producer of that version is told for an answer of the coordinator.
    fn translated(&self, error: ErrorCode) -> ErrorCode {
        match error {
            ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
            ErrorCode::TRANSACTION_ABORTABLE if self.call.version() < ABORTABLE_FROM => {
                ErrorCode::INVALID_TXN_STATE
            }
            ErrorCode::CONCURRENT_TRANSACTIONS if self.call.version() < ENLISTS_FROM => {
                ErrorCode::NOT_ENOUGH_REPLICAS
            }
            other => other,
        }
    }

    fn answer(&self, cluster: &Cluster, out: &mut Outbox, outcomes: &[Judged]) -> Answer {
        if self.request.acks == 0 {
            let failed = outcomes.iter().any(Result::is_err);
            return if failed { Answer::Close } else { Answer::Silent };
        }
        let mut response = ProduceResponse::default();
        let mut hints = BTreeMap::new();
        for data in &self.request.topic_data {
            let mut topic = TopicProduceResponse::default();
            topic.name = data.name.clone();
            topic.topic_id = data.topic_id;
            response.responses.push(topic);
        }
        for (part, outcome) in self.parts.iter().zip(outcomes) {
            let mut partition = self.partition_response(part.index, outcome);
            if partition.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER.0 {
                self.hint_leader(cluster, part, &mut partition, &mut hints);
            }
            response.responses[part.topic].partition_responses.push(partition);
        }
        if self.call.version() >= 10 {
            response.node_endpoints = hints.into_values().collect();
        }
        self.call.reply(out, &response)
    }

    fn partition_response(&self, index: i32, outcome: &Judged) -> PartitionProduceResponse {
        let mut partition = PartitionProduceResponse::default();
        partition.index = index;
        match outcome {
            Ok(outcome) => {
                partition.base_offset = outcome.base_offset;
                partition.log_append_time_ms = outcome.log_append_time_ms;
                partition.log_start_offset = outcome.log_start_offset;
            }
            Err(refusal) => {
                partition.error_code = refusal.error.0;
                partition.base_offset = -1;
                partition.log_append_time_ms = -1;
                partition.log_start_offset = -1;
                if self.call.version() >= 8 {
                    partition.error_message = refusal.message.map(StrBytes::from_static_str);
                }
            }
        }
        partition
    }

    /// Says who leads instead (KIP-951).
    fn hint_leader(
        &self,
        cluster: &Cluster,
        part: &Part,
        partition: &mut PartitionProduceResponse,
        hints: &mut BTreeMap<i32, NodeEndpoint>,
    ) {
        if self.call.version() < 10 {
            return;
        }
        let Ok(key) = cluster.find_partition(self.topic_ref(part.topic), part.index) else {
            return;
        };
        let Some(found) = cluster.partition(key) else { return };
        let mut leader = LeaderIdAndEpoch::default();
        leader.leader_id = BrokerId(found.leader);
        leader.leader_epoch = found.leader_epoch;
        partition.current_leader = leader;
        if let Some(info) = cluster.node(found.leader) {
            let mut endpoint = NodeEndpoint::default();
            endpoint.node_id = BrokerId(info.node_id);
            endpoint.host = info.host.clone();
            endpoint.port = info.port;
            hints.insert(info.node_id, endpoint);
        }
    }
}

/// The topic's `max.message.bytes`, or else the broker's `message.max.bytes`.
fn max_message_bytes(cluster: &Cluster, node: &Node, key: PartitionKey) -> usize {
    let set = cluster.topic(key.topic).and_then(|topic| topic.configs.get("max.message.bytes"));
    let set = set.and_then(|value| value.trim().parse().ok());
    set.unwrap_or(node.config().message_max_bytes)
}

/// Appends one batch that was let in, if the log has nothing against it.
fn append(
    cluster: &mut Cluster,
    node: &Node,
    key: PartitionKey,
    candidate: Result<&Candidate, &Refusal>,
) -> Judged {
    let candidate = candidate.map_err(|refusal| *refusal)?;
    candidate.contents(max_message_bytes(cluster, node, key))?;
    let unknown = Refusal::from(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let stamped = cluster.topic(key.topic).is_some_and(|topic| {
        topic.configs.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime")
    });
    let partition = cluster.partition(key).ok_or(unknown)?;
    let log_start_offset = partition.log.log_start_offset;
    let now_ms = node.now_ms();
    if let Some(producer_id) = candidate.producer_id() {
        let fresh = super::producer_state::ProducerState::default();
        let state = partition.log.producers.get(&producer_id).unwrap_or(&fresh);
        let incoming = candidate.incoming();
        let identity = (producer_id, incoming.producer_epoch, incoming.base_sequence);
        let duplicate = state.duplicate_of(&incoming);
        let verdict = state.check(
            &incoming,
            partition.log.verifying.get(&producer_id).filter(|_| incoming.transactional),
        );
        if duplicate.is_some() && cluster.mischief.to_repeat.contains(&identity) {
            cluster.mischief.to_repeat.remove(&identity);
            return append_untracked(cluster, node, key, candidate, stamped);
        }
        if let Some(seen) = duplicate {
            let log_append_time_ms = if stamped { seen.timestamp } else { -1 };
            return Ok(Outcome {
                base_offset: seen.base_offset,
                log_append_time_ms,
                log_start_offset,
            });
        }
        if verdict == Err(ErrorCode::INVALID_PRODUCER_EPOCH) {
            if cluster.mischief.is(Bug::AcceptZombie) {
                return append_untracked(cluster, node, key, candidate, stamped);
            }
            if cluster.mischief.is(Bug::AppendRefused) {
                append_untracked(cluster, node, key, candidate, stamped)?;
            }
        }
        verdict?;
    }
    let mut append =
        if stamped { candidate.to_append_stamped(now_ms) } else { candidate.to_append() };
    write_down_wrongly(cluster, &mut append);
    let mut base_offset = cluster.append(key, append).ok_or(unknown)?;
    if cluster.mischief.rolls(Bug::OffsetZeroAck, 50) {
        base_offset = 0;
    }
    if cluster.mischief.rolls(Bug::InventError, 50) {
        return Err(ErrorCode(NO_ERROR_CODE).into());
    }
    let log_append_time_ms = if stamped { now_ms } else { -1 };
    Ok(Outcome { base_offset, log_append_time_ms, log_start_offset })
}

/// What a broker with a bug writes instead of what it was sent; it remembers what it was sent.
fn write_down_wrongly(cluster: &mut Cluster, append: &mut Append) {
    let Some((_, sent)) = append.producer else { return };
    if cluster.mischief.rolls(Bug::RenumberSequence, 20) {
        super::bug::rewrite(&mut append.bytes, |header| header.base_sequence.0 += 1_000);
    }
    if sent.producer_epoch > 0 && cluster.mischief.rolls(Bug::WriteOldEpoch, 20) {
        super::bug::rewrite(&mut append.bytes, |header| header.producer_epoch.0 -= 1);
    }
}

/// Appends what no correct broker would, and does not remember it.
fn append_untracked(
    cluster: &mut Cluster,
    node: &Node,
    key: PartitionKey,
    candidate: &Candidate,
    stamped: bool,
) -> Judged {
    let now_ms = node.now_ms();
    let mut append =
        if stamped { candidate.to_append_stamped(now_ms) } else { candidate.to_append() };
    append.producer = None;
    let unknown = Refusal::from(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let base_offset = cluster.append(key, append).ok_or(unknown)?;
    let log_append_time_ms = if stamped { now_ms } else { -1 };
    Ok(Outcome { base_offset, log_append_time_ms, log_start_offset: 0 })
}
