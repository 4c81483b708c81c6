//! A conversation with brokers, told in facts: each exchange is over before the next begins,
//! unless the test says otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use kafka_wire::ApiKey;
use kafka_wire::batch::{Attributes, BatchHeader, ControlType};
use kafka_wire::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::checker::wire::{WireCheck, WireFound};
use crate::history::Connection;
use crate::history::facts::clusters::Node;
use crate::history::facts::{
    Asked, BatchFacts, Deed, Ending, EpochAsked, Fact, FactTaker, Fetched, Moment, Offsets,
    PartitionOffset, Produced, Seen, Topic,
};
use crate::history::tap::Direction;
use crate::history::wire::{
    ConnectionFacts, ConnectionSummary, DirectionCounts, PacketNumber, Protocol, StreamTrouble,
    StreamTroubleKind,
};

/// The producer most scenes have.
pub(super) const P: (i64, i16) = (9, 0);
const MS: u64 = 1_000_000;

/// A conversation as it goes on.
pub(super) struct Scene {
    check: WireCheck,
    packet: u64,
    time_ns: u64,
    correlation_id: i32,
    connection: Connection,
    syn: bool,
}

/// A connection to another broker than all others.
pub(super) const ELSEWHERE: u64 = 4;
const CONNECTIONS: u64 = 5;

/// An exchange whose answer comes later.
pub(super) struct Held {
    seen: Seen,
}

impl Scene {
    pub(super) fn new() -> Self {
        let mut check = WireCheck::new(0);
        for connection in 0..CONNECTIONS {
            let client: SocketAddr = ([127, 0, 0, 1], 40_000 + connection as u16).into();
            check.connection(&facts(connection, client));
        }
        let (time_ns, connection) = (1_700_000_000_000_000_000, Connection(0));
        Self { check, packet: 0, time_ns, correlation_id: 0, connection, syn: true }
    }

    /// What follows is said on that connection.
    pub(super) fn on(&mut self, connection: u64) -> &mut Self {
        self.connection = Connection(connection);
        self
    }

    fn now(&mut self) -> Moment {
        self.packet += 1;
        self.time_ns += MS;
        Moment { packet: PacketNumber { file: 0, number: self.packet }, time_ns: self.time_ns }
    }

    /// The connections were there before the capture.
    pub(super) fn begins_before(&mut self) {
        self.syn = false;
    }

    /// Time passes.
    pub(super) fn pass_s(&mut self, seconds: u64) {
        self.time_ns += seconds * 1_000_000_000;
    }

    /// A request is sent.
    pub(super) fn send(&mut self) -> Held {
        self.correlation_id += 1;
        let (correlation_id, request) = (self.correlation_id, self.now());
        let connection = self.connection;
        Held { seen: Seen { connection, correlation_id, request, response: None } }
    }

    /// It is answered.
    pub(super) fn answer(&mut self, held: Held, api_key: ApiKey, version: i16, deed: Deed) {
        let response = Some(self.now());
        self.check.fact(fact(Seen { response, ..held.seen }, api_key, version, deed));
    }

    /// It is answered, and that is told later.
    pub(super) fn answered(&mut self, held: Held) -> Held {
        Held { seen: Seen { response: Some(self.now()), ..held.seen } }
    }

    /// An exchange is told as it is.
    pub(super) fn tell(&mut self, held: Held, api_key: ApiKey, version: i16, deed: Deed) {
        self.check.fact(fact(held.seen, api_key, version, deed));
    }

    /// It is never answered.
    pub(super) fn lose(&mut self, held: Held, api_key: ApiKey, version: i16, deed: Deed) {
        self.check.fact(fact(held.seen, api_key, version, deed));
    }

    /// A request and its answer.
    pub(super) fn exchange(&mut self, api_key: ApiKey, version: i16, deed: Deed) {
        let held = self.send();
        self.answer(held, api_key, version, deed);
    }

    /// Any other fact.
    pub(super) fn fact(&mut self, change: impl FnOnce(&mut Fact)) {
        let held = self.send();
        let response = Some(self.now());
        let mut fact = fact(Seen { response, ..held.seen }, ApiKey::HEARTBEAT, 4, Deed::Other);
        change(&mut fact);
        self.check.fact(fact);
    }

    /// A response that no request asked for.
    pub(super) fn stray(&mut self, correlation_id: i32) {
        let at = self.now();
        let connection = Connection(0);
        self.check.stray(&Seen { connection, correlation_id, request: at, response: Some(at) });
    }

    /// Bytes are missing from the capture.
    pub(super) fn gap(&mut self) {
        let at = self.now();
        self.check.trouble(&StreamTrouble {
            connection: Connection(0),
            direction: Direction::Response,
            packet: at.packet,
            time_ns: at.time_ns,
            kind: StreamTroubleKind::Gap { bytes: 1 },
        });
    }

    pub(super) fn init(&mut self, (id, epoch): (i64, i16)) {
        self.exchange(ApiKey::INIT_PRODUCER_ID, 5, init("x", (-1, -1), (id, epoch)));
    }

    pub(super) fn produce(&mut self, batch: BatchFacts, answer: (i16, i64)) {
        self.exchange(ApiKey::PRODUCE, 11, produce(batch, answer));
    }

    pub(super) fn end(&mut self, of: (i64, i16), committed: bool) {
        self.exchange(ApiKey::END_TXN, 4, end(of, committed, Some(0)));
    }

    pub(super) fn fetch(&mut self, fetched: Fetched) {
        self.exchange(ApiKey::FETCH, 12, fetch(true, vec![fetched]));
    }

    /// The names of what was found.
    pub(super) fn names(self) -> Vec<String> {
        self.finish().anomalies.into_keys().collect()
    }

    pub(super) fn finish(mut self) -> WireFound {
        for connection in 0..CONNECTIONS {
            let client: SocketAddr = ([127, 0, 0, 1], 40_000 + connection as u16).into();
            self.check.closed(
                &ConnectionSummary {
                    facts: facts(connection, client),
                    protocol: Protocol::Kafka,
                    syn: self.syn,
                    fin: true,
                    rst: false,
                    last_packet: PacketNumber::default(),
                    last_time_ns: 0,
                    directions: [DirectionCounts::default(); 2],
                    requests: 0,
                    responses: 0,
                    torn: [0, 0],
                    unanswered: 0,
                    responses_without_request: 0,
                    sasl_tokens: 0,
                },
                0,
            );
        }
        self.check.finish()
    }
}

/// The broker of a connection.
fn broker(connection: u64) -> SocketAddr {
    let last = if connection == ELSEWHERE { 2 } else { 1 };
    ([127, 0, 0, last], 9092).into()
}

/// Nodes as a broker names them: those of both, or only its own.
pub(super) fn nodes(connections: &[u64]) -> Vec<Node> {
    let node = |&connection: &u64| {
        let broker = broker(connection);
        let (host, port) = (broker.ip().to_string().into(), broker.port());
        Node { id: connection as i32, host, port }
    };
    connections.iter().map(node).collect()
}

fn facts(connection: u64, client: SocketAddr) -> ConnectionFacts {
    ConnectionFacts {
        connection: Connection(connection),
        client,
        broker: broker(connection),
        first_packet: PacketNumber::default(),
        first_time_ns: 0,
    }
}

fn fact(seen: Seen, api_key: ApiKey, api_version: i16, deed: Deed) -> Fact {
    Fact {
        seen,
        api_key,
        api_version,
        client_id: None,
        ending: if seen.response.is_some() {
            Ending::Answered
        } else {
            Ending::Unanswered(crate::history::wire::Unanswered::Closed)
        },
        errors: Vec::new(),
        response_walked: true,
        malformed: None,
        deed,
    }
}

fn text(text: &str) -> Arc<str> {
    text.into()
}

pub(super) fn topic() -> Topic {
    Topic::named("t")
}

pub(super) fn init(id: &str, asked: (i64, i16), (producer_id, epoch): (i64, i16)) -> Deed {
    Deed::InitProducerId {
        transactional_id: Some(text(id)),
        timeout_ms: 1_000,
        asked,
        answer: Some((0, producer_id, epoch)),
    }
}

pub(super) fn end((id, epoch): (i64, i16), committed: bool, error: Option<i16>) -> Deed {
    Deed::EndTxn { asked: asked(id, epoch), committed, error, next: None }
}

pub(super) fn asked(producer_id: i64, producer_epoch: i16) -> EpochAsked {
    EpochAsked { transactional_id: text("x"), producer_id, producer_epoch }
}

pub(super) fn produce(batch: BatchFacts, (error, base): (i16, i64)) -> Deed {
    let answer = Some((error, base, 0));
    let produced = Produced { topic: topic(), partition: 0, batches: vec![batch], answer };
    Deed::Produce { transactional: true, acks: -1, partitions: vec![produced] }
}

pub(super) fn fetch(read_committed: bool, partitions: Vec<Fetched>) -> Deed {
    Deed::Fetch { read_committed, by_consumer: true, partitions }
}

/// What a fetch returned that asked from the first of these batches on; the log ends after them.
pub(super) fn read(batches: Vec<BatchFacts>) -> Fetched {
    let end = batches.last().map_or(0, |batch| batch.header.last_offset().0 + 1);
    Fetched {
        topic: topic(),
        partition: 0,
        fetch_offset: batches.first().map(|batch| batch.header.base_offset.0),
        leader_epoch: Some(0),
        returned_to: None,
        error: 0,
        high_watermark: end,
        last_stable_offset: end,
        log_start_offset: 0,
        aborted: Vec::new(),
        batches,
        unreadable: false,
    }
}

/// A batch of `count` records of a transaction.
pub(super) fn data((id, epoch): (i64, i16), base: i64, sequence: i32, count: i32) -> BatchFacts {
    BatchFacts {
        header: BatchHeader {
            base_offset: Offset(base),
            batch_length: 100,
            partition_leader_epoch: LeaderEpoch(0),
            magic: 2,
            crc: 0,
            attributes: Attributes(1 << 4),
            last_offset_delta: count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
            record_count: count,
        },
        content: (sequence as u64) << 8 | count as u64,
        keyed: false,
        keys: 0,
        lasting_keys: 0,
        control: None,
        corrupt: None,
        disordered: None,
        unreadable: false,
        records: Vec::new(),
    }
}

/// The same of no transaction.
pub(super) fn plain(of: (i64, i16), base: i64, sequence: i32, count: i32) -> BatchFacts {
    let mut batch = data(of, base, sequence, count);
    batch.header.attributes = Attributes(0);
    batch
}

/// A marker.
pub(super) fn marker((id, epoch): (i64, i16), base: i64, committed: bool) -> BatchFacts {
    let mut batch = data((id, epoch), base, -1, 1);
    batch.header.attributes = Attributes(1 << 4 | 1 << 5);
    batch.control = Some(if committed { ControlType::Commit } else { ControlType::Abort });
    batch
}

pub(super) fn member(generation: i32, member: &str) -> Asked {
    Asked { group: text("g"), generation, member: text(member), instance: None }
}

pub(super) fn joined(generation: i32, member: &str) -> Deed {
    Deed::JoinGroup {
        group: text("g"),
        instance: None,
        is_consumer: true,
        answer: Some((0, generation, text(member))),
    }
}

pub(super) fn synced(generation: i32, name: &str, leads: bool, partitions: &[i32]) -> Deed {
    let partitions = partitions.iter().map(|&partition| (topic(), partition)).collect();
    Deed::SyncGroup {
        member: member(generation, name),
        assigns: leads,
        shared_by_leader: false,
        answer: Some((0, partitions)),
    }
}

pub(super) fn offsets(generation: i32, name: &str, offset: i64) -> Offsets {
    let offset = PartitionOffset { topic: topic(), partition: 0, offset, error: 0 };
    Offsets { member: member(generation, name), offsets: vec![offset], answered: true }
}

pub(super) fn offset_fetched(offset: i64, require_stable: bool) -> Deed {
    let offset = PartitionOffset { topic: topic(), partition: 0, offset, error: 0 };
    Deed::OffsetFetch { require_stable, groups: vec![(text("g"), vec![offset])] }
}

pub(super) fn txn_offsets((id, epoch): (i64, i16), offset: i64) -> Deed {
    Deed::TxnOffsetCommit { asked: asked(id, epoch), offsets: offsets(-1, "", offset) }
}
