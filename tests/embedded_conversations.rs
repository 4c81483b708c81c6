//! Conversations with the embedded broker, each with the answers Apache Kafka 4.3.0 gives.
//!
//! A conversation is text: one request a line, `->`, the answer. The same text is held against a
//! real broker when `FENCEPOST_LIVE` names its address (`host:port`); that is how the answers were
//! found. Producer ids are letters in order of appearance, topics and ids are fresh each time.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use fencepost::broker::embedded::{Config, Embedded, TransactionVersion};
use fencepost::world::{Chance, Clock};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Request, StrBytes};
use kafka_wire::ApiKey;
use kafka_wire::batch::{Attributes, BatchBuilder, BatchIter, NewRecord, Scratch};
use kafka_wire::header::{RequestHeader, decode_response_header};
use kafka_wire::ids::{CorrelationId, ProducerEpoch, ProducerId, Sequence};

/// One connection, one request at a time.
struct Talk {
    stream: TcpStream,
    next: i32,
    /// Distinguishes this conversation's names.
    suffix: String,
    /// Producer ids in order of appearance.
    letters: Vec<i64>,
    topic_ids: BTreeMap<String, uuid::Uuid>,
    retried: Instant,
}

fn text(value: &str) -> StrBytes {
    StrBytes::from(value.to_owned())
}

impl Talk {
    fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let suffix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().to_string();
        Self {
            stream,
            next: 0,
            suffix,
            letters: Vec::new(),
            topic_ids: BTreeMap::new(),
            retried: Instant::now(),
        }
    }

    fn ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.next += 1;
        let header = RequestHeader {
            api_key: ApiKey(R::KEY),
            api_version: version,
            correlation_id: CorrelationId(self.next),
            client_id: Some(b"conversation"),
        };
        let mut frame = BytesMut::new();
        header.encode(&mut frame);
        request.encode(&mut frame, version).unwrap();
        self.stream.write_all(&(frame.len() as i32).to_be_bytes()).ok()?;
        self.stream.write_all(&frame).ok()?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut body = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).ok()?;
        let (_, at) = decode_response_header(&body, header.api_key, version).unwrap();
        let mut body = Bytes::from(body).split_off(at);
        Some(R::Response::decode(&mut body, version).unwrap())
    }

    fn name(&self, name: &str) -> StrBytes {
        if name == "-" { StrBytes::default() } else { text(&format!("{name}-{}", self.suffix)) }
    }

    /// A real broker makes its internal topics when a coordinator is first looked for.
    fn find_coordinators(&mut self) {
        for key_type in [0, 1] {
            let request = FindCoordinatorRequest::default()
                .with_key_type(key_type)
                .with_coordinator_keys(vec![text("any")]);
            while self.ask(4, &request).unwrap().coordinators[0].error_code != 0 {}
        }
    }

    /// `p0` is partition 0 of topic p, made when first named.
    fn partition(&mut self, named: &str) -> (TopicName, uuid::Uuid, i32) {
        let (topic, partition) = named.split_at(named.len() - 1);
        let name = self.name(topic);
        if !self.topic_ids.contains_key(topic) {
            let mut creatable = CreatableTopic::default();
            creatable.name = TopicName(name.clone());
            (creatable.num_partitions, creatable.replication_factor) = (4, 1);
            let request =
                CreateTopicsRequest::default().with_topics(vec![creatable]).with_timeout_ms(5000);
            let response = self.ask(7, &request).unwrap();
            self.topic_ids.insert(topic.to_owned(), response.topics[0].topic_id);
            // A real broker takes a moment to lead.
            while self.list(&name, 0, 0) != (0, 0) {}
        }
        (TopicName(name), self.topic_ids[topic], partition.parse().unwrap())
    }

    fn list(&mut self, name: &StrBytes, partition: i32, isolation: i8) -> (i16, i64) {
        let mut asked = ListOffsetsPartition::default();
        (asked.partition_index, asked.timestamp) = (partition, -1);
        let topic = ListOffsetsTopic::default()
            .with_name(TopicName(name.clone()))
            .with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(isolation)
            .with_topics(vec![topic]);
        let response = self.ask(7, &request).unwrap();
        let answer = &response.topics[0].partitions[0];
        (answer.error_code, answer.offset)
    }

    fn letter(&mut self, producer_id: i64) -> String {
        if producer_id < 0 {
            return producer_id.to_string();
        }
        let at = self.letters.iter().position(|known| *known == producer_id);
        let at = at.unwrap_or_else(|| {
            self.letters.push(producer_id);
            self.letters.len() - 1
        });
        char::from(b'A' + at as u8).to_string()
    }

    fn producer(&self, named: &str) -> i64 {
        match named.chars().next() {
            Some(letter @ 'A'..='Z') => self.letters[(letter as u8 - b'A') as usize],
            _ => named.parse().unwrap(),
        }
    }

    /// One step: its answer as text.
    fn step(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, args) = (words[0], &words[1..]);
        let digits = verb.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let name = verb.trim_end_matches(|c: char| c.is_ascii_digit());
        let version: i16 = digits.parse().unwrap_or(0);
        match name {
            "init" => self.init(version, args),
            "add" => self.add(version, args),
            "addoffsets" => {
                let request = AddOffsetsToTxnRequest::default()
                    .with_transactional_id(TransactionalId(self.name(args[0])))
                    .with_producer_id(self.producer(args[1]).into())
                    .with_producer_epoch(args[2].parse().unwrap())
                    .with_group_id(GroupId(self.name(args[3])));
                self.ask(version, &request).map_or("closed".into(), |r| r.error_code.to_string())
            }
            "produce" => self.produce(version, args),
            "offsets" => self.txn_offsets(version, args),
            "committed" => self.offset_fetch(args),
            "end" => self.end(version, args),
            "state" => self.state(args),
            "latest" => {
                let (topic, _, partition) = self.partition(args[0]);
                let (_, stable) = self.list(&topic.0, partition, 1);
                let (_, high) = self.list(&topic.0, partition, 0);
                format!("{stable} {high}")
            }
            "read" => self.read(version, args),
            _ => panic!("no such verb: {verb}"),
        }
    }

    fn init(&mut self, version: i16, args: &[&str]) -> String {
        let mut request = InitProducerIdRequest::default();
        request.transactional_id = (args[0] != "none").then(|| TransactionalId(self.name(args[0])));
        request.transaction_timeout_ms = 60_000;
        for arg in &args[1..] {
            match arg.split_once('=').unwrap() {
                ("timeout", ms) => request.transaction_timeout_ms = ms.parse().unwrap(),
                ("own", own) => {
                    let (id, epoch) = own.split_once(':').unwrap();
                    request.producer_id = self.producer(id).into();
                    request.producer_epoch = epoch.parse().unwrap();
                }
                _ => panic!("{arg}"),
            }
        }
        let Some(response) = self.ask(version, &request) else { return "closed".into() };
        let letter = self.letter(response.producer_id.0);
        format!("{} {letter} {}", response.error_code, response.producer_epoch)
    }

    fn add(&mut self, version: i16, args: &[&str]) -> String {
        let (topic, _, partition) = self.partition(args[3]);
        let topic =
            AddPartitionsToTxnTopic::default().with_name(topic).with_partitions(vec![partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(self.name(args[0])))
            .with_v3_and_below_producer_id(self.producer(args[1]).into())
            .with_v3_and_below_producer_epoch(args[2].parse().unwrap())
            .with_v3_and_below_topics(vec![topic]);
        let response = self.ask(version, &request).unwrap();
        let result = &response.results_by_topic_v3_and_below[0].results_by_partition[0];
        result.partition_error_code.to_string()
    }

    /// `produce12 tx A 0 p0 5+2`: two records from sequence 5 on.
    fn produce(&mut self, version: i16, args: &[&str]) -> String {
        let (topic, topic_id, partition) = self.partition(args[3]);
        let (first, count) = args[4].split_once('+').unwrap();
        let builder = BatchBuilder {
            attributes: Attributes::default().with_transactional(args[0] != "-"),
            producer_id: ProducerId(self.producer(args[1])),
            producer_epoch: ProducerEpoch(args[2].parse().unwrap()),
            base_sequence: Sequence(first.parse().unwrap()),
            ..BatchBuilder::default()
        };
        let mut records = Vec::new();
        let count: usize = count.parse().unwrap();
        // An old timestamp would make a real broker roll the segment, and cut reads there.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let record = NewRecord { timestamp: now, ..NewRecord::of(b"value") };
        let values = vec![record; count];
        builder.encode(values, &mut Scratch::new(), &mut records);
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(Bytes::from(records)));
        let mut topic_data = TopicProduceData::default().with_partition_data(vec![data]);
        if version >= 13 {
            topic_data.topic_id = topic_id;
        } else {
            topic_data.name = topic;
        }
        let mut request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(5000)
            .with_topic_data(vec![topic_data]);
        request.transactional_id = (args[0] != "-").then(|| TransactionalId(self.name(args[0])));
        let Some(response) = self.ask(version, &request) else { return "closed".into() };
        let answer = &response.responses[0].partition_responses[0];
        match answer.error_code {
            0 => format!("0 @{}", answer.base_offset),
            error => error.to_string(),
        }
    }

    fn txn_offsets(&mut self, version: i16, args: &[&str]) -> String {
        let (topic, _, partition) = self.partition(args[4]);
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(args[5].parse().unwrap());
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic)
            .with_partitions(vec![partition]);
        let mut request = TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(self.name(args[0])))
            .with_producer_id(self.producer(args[1]).into())
            .with_producer_epoch(args[2].parse().unwrap())
            .with_group_id(GroupId(self.name(args[3])))
            .with_topics(vec![topic]);
        request.generation_id = -1;
        let response = self.ask(version, &request).unwrap();
        response.topics[0].partitions[0].error_code.to_string()
    }

    /// `committed g p0 [stable]`: what OffsetFetch says.
    fn offset_fetch(&mut self, args: &[&str]) -> String {
        let (topic, _, partition) = self.partition(args[1]);
        let topic = OffsetFetchRequestTopics::default()
            .with_name(topic)
            .with_partition_indexes(vec![partition]);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(self.name(args[0])))
            .with_member_epoch(-1)
            .with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default()
            .with_groups(vec![group])
            .with_require_stable(args.get(2) == Some(&"stable"));
        let response = self.ask(8, &request).unwrap();
        let group = &response.groups[0];
        if group.error_code != 0 {
            return format!("group {}", group.error_code);
        }
        let answer = &group.topics[0].partitions[0];
        format!("{} {}", answer.error_code, answer.committed_offset)
    }

    fn end(&mut self, version: i16, args: &[&str]) -> String {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(self.name(args[0])))
            .with_producer_id(self.producer(args[1]).into())
            .with_producer_epoch(args[2].parse().unwrap())
            .with_committed(args[3] == "commit");
        let Some(response) = self.ask(version, &request) else { return "closed".into() };
        match (version, response.error_code) {
            (5.., 0) => {
                let letter = self.letter(response.producer_id.0);
                format!("0 {letter} {}", response.producer_epoch)
            }
            (_, error) => error.to_string(),
        }
    }

    /// `state tx`: waits for the markers and says where the transaction stands.
    fn state(&mut self, args: &[&str]) -> String {
        let request = DescribeTransactionsRequest::default()
            .with_transactional_ids(vec![TransactionalId(self.name(args[0]))]);
        let response = self.ask(0, &request).unwrap();
        let state = &response.transaction_states[0];
        if state.error_code != 0 {
            return state.error_code.to_string();
        }
        let letter = self.letter(state.producer_id.0);
        format!("{} {letter} {}", &*state.transaction_state, state.producer_epoch)
    }

    /// `read p0 committed|all`: batches as `offsets:producer/epoch`, markers as C and A, then the
    /// list of aborted transactions.
    fn read(&mut self, version: i16, args: &[&str]) -> String {
        let version = if version == 0 { 12 } else { version };
        let (topic, topic_id, partition) = self.partition(args[0]);
        let mut asked = FetchPartition::default();
        (asked.partition, asked.partition_max_bytes) = (partition, 1 << 20);
        let mut fetch_topic = FetchTopic::default().with_partitions(vec![asked]);
        if version >= 13 {
            fetch_topic.topic_id = topic_id;
        } else {
            fetch_topic.topic = topic;
        }
        let mut request = FetchRequest::default().with_topics(vec![fetch_topic]);
        request.replica_id = BrokerId(-1);
        (request.max_wait_ms, request.min_bytes, request.max_bytes) = (0, 0, 1 << 20);
        request.isolation_level = i8::from(args[1] == "committed");
        let response = self.ask(version, &request).unwrap();
        let answer = &response.responses[0].partitions[0];
        let mut said = Vec::new();
        let records = answer.records.clone().unwrap_or_default();
        for batch in BatchIter::new(&records) {
            let header = batch.unwrap().header;
            let letter = self.letter(header.producer_id.0);
            let (first, last) = (header.base_offset.0, header.last_offset().0);
            let kind = match header.is_control() {
                true => "!",
                false => "",
            };
            said.push(format!("{first}-{last}{kind}:{letter}/{}", header.producer_epoch.0));
        }
        for aborted in answer.aborted_transactions.iter().flatten() {
            let letter = self.letter(aborted.producer_id.0);
            said.push(format!("aborted:{letter}@{}", aborted.first_offset));
        }
        format!("{} {}", answer.error_code, said.join(" ")).trim_end().to_owned()
    }
}

/// Runs a conversation from its beginning.
fn run(address: &str, conversation: &str) -> Result<(), String> {
    let mut talk = Talk::to(address);
    talk.find_coordinators();
    hold(&mut talk, conversation)
}

/// Goes on with a conversation. A step whose answer is given as `~ X` is repeated until it is X.
fn hold(talk: &mut Talk, conversation: &str) -> Result<(), String> {
    for line in conversation.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        let (ask, expected) = line.split_once("->").unwrap_or((line, "?"));
        let expected = expected.trim();
        let (until, expected) = match expected.strip_prefix('~') {
            Some(rest) => (true, rest.trim()),
            None => (false, expected),
        };
        talk.retried = Instant::now();
        loop {
            let said = talk.step(ask);
            let code = said.split(' ').next().unwrap_or_default();
            let warming = matches!(code, "14" | "15" | "16" | "51") || said == "group 14";
            if expected == "?" && !warming {
                println!("{ask} -> {said}");
                break;
            }
            if said == expected {
                break;
            }
            if !(warming || until) || talk.retried.elapsed().as_secs() > 10 {
                return Err(format!("{ask} -> {said}, not {expected}"));
            }
            std::thread::yield_now();
        }
    }
    Ok(())
}

fn clock() -> Clock {
    let origin = Instant::now();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    Clock::new(unix, move || origin.elapsed().as_nanos() as u64)
}

/// Holds a conversation with the embedded broker, and with a real one where there is one.
fn check(transaction_version: TransactionVersion, conversation: &str) {
    if let (Ok(address), TransactionVersion::Two) =
        (std::env::var("FENCEPOST_LIVE"), transaction_version)
    {
        if let Err(difference) = run(&address, conversation) {
            panic!("Kafka: {difference}");
        }
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = Config { transaction_version, ..Config::default() };
    let broker = runtime.block_on(Embedded::start(config, clock(), Chance::from_seed(7))).unwrap();
    if let Err(difference) = run(&broker.bootstrap_servers(), conversation) {
        panic!("embedded: {difference}");
    }
}

/// To find out what a real broker says: a conversation from `FENCEPOST_CONVERSATION`, printed.
#[test]
fn a_conversation_of_ones_own_is_printed() {
    let Ok(path) = std::env::var("FENCEPOST_CONVERSATION") else { return };
    let conversation = std::fs::read_to_string(path).unwrap();
    for part in conversation.split("\n\n") {
        println!("----");
        if let Ok(address) = std::env::var("FENCEPOST_LIVE") {
            run(&address, part).unwrap();
        } else {
            check(TransactionVersion::Two, part);
        }
    }
}

#[test]
fn transactions_of_version_two_bump_the_epoch_at_every_end() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         produce12 tx A 0 p0 1+2 -> 0 @1
         latest p0 -> 0 3
         end5 tx A 0 commit -> 0 A 1
         state tx -> ~ CompleteCommit A 1
         latest p0 -> 4 4
         end5 tx A 0 commit -> 0 A 1
         end5 tx A 0 abort -> 48
         produce12 tx A 1 p0 0+1 -> 0 @4
         end5 tx A 0 commit -> 90
         end5 tx A 1 abort -> 0 A 2
         state tx -> ~ CompleteAbort A 2
         end5 tx A 2 commit -> 48
         end5 tx A 2 abort -> 0 A 3
         read p0 committed -> 0 0-0:A/0 1-2:A/0 3-3!:A/1 4-4:A/1 5-5!:A/2 aborted:A@4",
    );
}

#[test]
fn old_style_transactions_keep_their_epoch_and_repeat_their_answers() {
    check(
        TransactionVersion::Two,
        "init5 old -> 0 A 0
         add3 old A 0 p0 -> 0
         produce11 old A 0 p0 0+1 -> 0 @0
         end4 old A 0 commit -> 0
         state old -> ~ CompleteCommit A 0
         add3 old A 0 p0 -> 0
         produce11 old A 0 p0 1+1 -> 0 @2
         end4 old A 0 commit -> 0
         end4 old A 0 abort -> 48
         state old -> CompleteCommit A 0
         latest p0 -> 4 4
         end4 old A 0 abort -> 48
         read p0 all -> 0 0-0:A/0 1-1!:A/0 2-2:A/0 3-3!:A/0",
    );
}

#[test]
fn a_timeout_aborts_and_the_late_end_is_told_by_its_epoch() {
    check(
        TransactionVersion::Two,
        "init5 tx timeout=1000 -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         state tx -> ~ CompleteAbort A 1
         end5 tx A 0 commit -> 48
         end5 tx A 0 abort -> 0 A 1
         end5 tx A 1 abort -> 0 A 2
         init5 tx own=A:1 -> 0 A 2
         init5 tx own=A:0 -> 90 -1 -1
         read p0 all -> 0 0-0:A/0 1-1!:A/1",
    );
}

#[test]
fn a_producer_that_says_who_it_is_goes_on_after_a_timeout() {
    check(
        TransactionVersion::Two,
        "init5 tx timeout=1000 -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         state tx -> ~ CompleteAbort A 1
         init5 tx own=A:0 -> 0 A 1
         init5 tx own=A:1 -> 0 A 2
         init5 tx own=A:0 -> 90 -1 -1
         init5 tx own=A:1 -> 0 A 2",
    );
}

#[test]
fn a_second_init_fences_aborts_and_skips_an_epoch() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         init5 tx -> ~ 0 A 2
         read p0 all -> 0 0-0:A/0 1-1!:A/1
         produce12 tx A 0 p0 1+1 -> 47
         produce12 tx A 1 p0 0+1 -> 47
         produce12 tx A 2 p0 1+1 -> 45
         produce12 tx A 2 p0 0+1 -> 0 @2
         produce12 tx A 2 p0 0+1 -> 0 @2
         produce12 tx A 2 p0 2+1 -> 45
         produce12 tx A 2 p1 5+1 -> 45
         state tx -> Ongoing A 2
         end5 tx A 2 commit -> 0 A 3
         state tx -> ~ CompleteCommit A 3
         read p1 all -> 0 0-0!:A/3",
    );
}

#[test]
fn styles_may_be_mixed_and_each_request_goes_by_its_own_version() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         add3 tx A 0 p0 -> 0
         end5 tx A 0 commit -> 0 A 1
         state tx -> ~ CompleteCommit A 1
         add3 tx A 0 p0 -> 90
         add3 tx A 1 p0 -> 0
         produce12 tx A 1 p0 0+1 -> 0 @1
         produce11 tx A 1 p1 0+1 -> 120
         end4 tx A 1 abort -> 0
         state tx -> ~ CompleteAbort A 1
         produce11 tx A 1 p0 1+1 -> 120
         produce10 tx A 1 p0 1+1 -> 48
         produce12 tx A 1 p0 1+1 -> 0 @3
         produce12 tx A 1 p0 0+1 -> 0 @1
         end5 tx A 1 commit -> 0 A 2
         state tx -> ~ CompleteCommit A 2
         read p0 all -> 0 0-0!:A/1 1-1:A/1 2-2!:A/1 3-3:A/1 4-4!:A/2",
    );
}

#[test]
fn offsets_in_transactions_show_when_the_marker_is_there() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         offsets5 tx A 0 g p0 7 -> 0
         committed g p0 -> 0 -1
         committed g p0 stable -> 88 -1
         end5 tx A 0 commit -> 0 A 1
         state tx -> ~ CompleteCommit A 1
         committed g p0 -> 0 7
         offsets5 tx A 0 g p0 9 -> 47
         offsets5 tx A 1 g p0 11 -> 0
         end5 tx A 1 abort -> 0 A 2
         state tx -> ~ CompleteAbort A 2
         committed g p0 -> 0 7
         addoffsets4 tx A 2 g -> 0
         offsets4 tx A 2 g p0 12 -> 0
         end4 tx A 2 commit -> 0
         state tx -> ~ CompleteCommit A 2
         committed g p0 -> 0 12
         offsets4 tx A 2 g p0 13 -> 120
         offsets3 tx A 2 g p0 13 -> 48
         addoffsets4 tx A 1 g -> 90
         addoffsets1 tx A 1 g -> 47",
    );
}

#[test]
fn identities_are_repeated_bumped_or_refused() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         init5 tx own=A:0 -> 0 A 1
         init5 tx own=A:0 -> 0 A 1
         init5 tx own=A:5 -> 90 -1 -1
         init5 tx own=A:1 -> 0 A 2
         init3 tx own=A:1 -> 0 A 2
         init3 tx own=A:0 -> 47 -1 -1
         init4 tx own=99:0 -> 90 -1 -1
         init5 none -> 0 B 0
         init5 tx timeout=0 -> 50 -1 -1
         init5 tx timeout=900001 -> 50 -1 -1
         init5 - -> 42 -1 -1
         init5 none own=A:0 -> 0 C 0
         end5 none2 A 0 commit -> 49
         add3 none2 A 0 p0 -> 49
         produce12 none2 A 2 p0 0+1 -> 49
         produce11 none2 A 2 p0 0+1 -> 49
         produce12 tx 77777 2 p0 0+1 -> 49
         produce11 tx 77777 2 p0 0+1 -> 49",
    );
}

#[test]
fn idempotence_remembers_five_batches() {
    check(
        TransactionVersion::Two,
        "init5 none -> 0 A 0
         produce12 - A 0 p0 0+1 -> 0 @0
         produce12 - A 0 p0 0+1 -> 0 @0
         produce12 - A 0 p0 0+2 -> 45
         produce12 - A 0 p0 2+1 -> 45
         produce12 - A 0 p0 -1+1 -> 87
         produce12 - A 0 p0 1+1 -> 0 @1
         produce12 - A 0 p0 2+1 -> 0 @2
         produce12 - A 0 p0 3+1 -> 0 @3
         produce12 - A 0 p0 4+1 -> 0 @4
         produce12 - A 0 p0 0+1 -> 0 @0
         produce12 - A 0 p0 5+1 -> 0 @5
         produce12 - A 0 p0 0+1 -> 45
         produce12 - A 1 p0 1+1 -> 45
         produce12 - A 1 p0 0+1 -> 0 @6
         produce12 - A 0 p0 6+1 -> 47
         produce12 - A 0 p1 7+1 -> 0 @0
         produce12 - A 0 p1 7+1 -> 0 @0
         produce13 - A 0 p1 8+1 -> 0 @1
         produce3 - A 0 p1 9+1 -> 0 @2",
    );
}

#[test]
fn a_producer_in_a_transaction_writes_nothing_else() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         produce12 - A 0 p0 1+1 -> 48
         produce12 - A 0 p1 0+1 -> 0 @0
         end5 tx A 0 abort -> 0 A 1
         state tx -> ~ CompleteAbort A 1
         read p0 committed -> 0 0-0:A/0 1-1!:A/1 aborted:A@0
         read13 p0 committed -> 0 0-0:A/0 1-1!:A/1 aborted:A@0
         read4 p0 committed -> 0 0-0:A/0 1-1!:A/1 aborted:A@0
         read18 p0 all -> 0 0-0:A/0 1-1!:A/1",
    );
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = || {
        let data_dir = Some(directory.path().to_owned());
        let config = Config { data_dir, ..Config::default() };
        runtime.block_on(Embedded::start(config, clock(), Chance::from_seed(7))).unwrap()
    };
    let first = start();
    let mut talk = Talk::to(&first.bootstrap_servers());
    let before = "init5 tx -> 0 A 0
        produce12 tx A 0 p0 0+2 -> 0 @0
        offsets5 tx A 0 g p0 7 -> 0
        end5 tx A 0 commit -> 0 A 1
        state tx -> ~ CompleteCommit A 1
        produce12 tx A 1 p0 0+1 -> 0 @3
        offsets5 tx A 1 g p0 9 -> 0
        latest p0 -> 3 4";
    hold(&mut talk, before).unwrap();
    drop(first);
    let second = start();
    talk.stream = TcpStream::connect(second.bootstrap_servers()).unwrap();
    let after = "latest p0 -> 3 4
        committed g p0 -> 0 7
        committed g p0 stable -> 88 -1
        state tx -> Ongoing A 1
        produce12 tx A 1 p0 0+1 -> 0 @3
        produce12 tx A 1 p0 1+1 -> 0 @4
        end5 tx A 1 abort -> 0 A 2
        state tx -> ~ CompleteAbort A 2
        committed g p0 stable -> 0 7
        read p0 committed -> 0 0-1:A/0 2-2!:A/1 3-3:A/1 4-4:A/1 5-5!:A/2 aborted:A@3
        init5 other -> 0 B 0";
    hold(&mut talk, after).unwrap();
}
