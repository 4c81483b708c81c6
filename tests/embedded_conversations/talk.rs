//! The steps of a conversation: text into requests, answers into text.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
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
pub(super) struct Talk {
    pub(super) stream: TcpStream,
    next: i32,
    /// Distinguishes this conversation's names.
    suffix: String,
    /// Producer ids in order of appearance.
    letters: Vec<i64>,
    members: Vec<StrBytes>,
    session_id: i32,
    topic_ids: BTreeMap<String, uuid::Uuid>,
    retried: Instant,
    /// Sent behind the last field of every request.
    behind: Vec<u8>,
}

fn text(value: &str) -> StrBytes {
    StrBytes::from(value.to_owned())
}

impl Talk {
    pub(super) fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let suffix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().to_string();
        Self {
            stream,
            next: 0,
            suffix,
            letters: Vec::new(),
            members: Vec::new(),
            session_id: 0,
            topic_ids: BTreeMap::new(),
            retried: Instant::now(),
            behind: Vec::new(),
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
        frame.extend_from_slice(&self.behind);
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
    pub(super) fn find_coordinators(&mut self) {
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
            for partition in 0..4 {
                while self.list(&name, partition, 0) != (0, 0) {}
            }
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
    pub(super) fn step(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, args) = (words[0], &words[1..]);
        let digits = verb.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let name = verb.trim_end_matches(|c: char| c.is_ascii_digit());
        let version: i16 = digits.parse().unwrap_or(0);
        match name {
            "behind" => {
                self.behind = args[0].as_bytes().to_vec();
                self.behind.len().to_string()
            }
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
            "join" => self.join(version, args),
            "sync" => self.sync(version, args),
            "heartbeat" => {
                let request = HeartbeatRequest::default()
                    .with_group_id(GroupId(self.name(args[0])))
                    .with_member_id(self.member(args[1]))
                    .with_generation_id(args[2].parse().unwrap());
                self.ask(version, &request).unwrap().error_code.to_string()
            }
            "leave" => {
                let member = MemberIdentity::default().with_member_id(self.member(args[1]));
                let request = LeaveGroupRequest::default()
                    .with_group_id(GroupId(self.name(args[0])))
                    .with_members(vec![member]);
                let response = self.ask(version, &request).unwrap();
                let each: Vec<_> =
                    response.members.iter().map(|m| m.error_code.to_string()).collect();
                format!("{} {}", response.error_code, each.join(" ")).trim_end().to_owned()
            }
            "commit" => self.commit(version, args),
            "beat" => self.beat(version, args),
            "describe" => {
                let request =
                    DescribeGroupsRequest::default().with_groups(vec![GroupId(self.name(args[0]))]);
                let response = self.ask(version, &request).unwrap();
                let group = &response.groups[0];
                format!("{} {} {}", group.error_code, &*group.group_state, group.members.len())
            }
            "delete" => {
                let request = DeleteGroupsRequest::default()
                    .with_groups_names(vec![GroupId(self.name(args[0]))]);
                self.ask(version, &request).unwrap().results[0].error_code.to_string()
            }
            "fetch" => self.fetch(version, args),
            "offsetsfor" => self.list_offsets(version, args),
            "endofepoch" => self.end_of_epoch(version, args),
            "deleterecords" => {
                let (topic, _, partition) = self.partition(args[0]);
                let asked = DeleteRecordsPartition::default()
                    .with_partition_index(partition)
                    .with_offset(args[1].parse().unwrap());
                let topic =
                    DeleteRecordsTopic::default().with_name(topic).with_partitions(vec![asked]);
                let request =
                    DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
                let response = self.ask(version, &request).unwrap();
                let answer = &response.topics[0].partitions[0];
                format!("{} {}", answer.error_code, answer.low_watermark)
            }
            "configure" => {
                let (topic, _, _) = self.partition(args[0]);
                let (name, value) = args[1].split_once('=').unwrap();
                let config =
                    AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
                let resource = AlterConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(topic.0)
                    .with_configs(vec![config]);
                let request =
                    IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
                self.ask(version, &request).unwrap().responses[0].error_code.to_string()
            }
            "metadata" => {
                let name = self.name(args[0]);
                self.topic_ids.insert(args[0].to_owned(), uuid::Uuid::nil());
                let topic = metadata_request::MetadataRequestTopic::default()
                    .with_name(Some(TopicName(name)));
                let request = MetadataRequest::default()
                    .with_topics(Some(vec![topic]))
                    .with_allow_auto_topic_creation(true);
                self.ask(version, &request).unwrap().topics[0].error_code.to_string()
            }
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

    /// Members are named by small letters in order of appearance; `-` is none yet.
    fn member(&self, named: &str) -> StrBytes {
        match named.chars().next() {
            Some(letter @ 'a'..='z') if named.len() == 1 => {
                self.members[(letter as u8 - b'a') as usize].clone()
            }
            _ if named == "-" => StrBytes::default(),
            _ => text(named),
        }
    }

    fn member_letter(&mut self, member_id: &StrBytes) -> String {
        if member_id.is_empty() {
            return "-".into();
        }
        let at = self.members.iter().position(|known| known == member_id);
        let at = at.unwrap_or_else(|| {
            self.members.push(member_id.clone());
            self.members.len() - 1
        });
        char::from(b'a' + at as u8).to_string()
    }

    /// `join5 g a [session]`: error, generation, member, leader, members told of.
    fn join(&mut self, version: i16, args: &[&str]) -> String {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(self.name(args[0])))
            .with_member_id(self.member(args[1]))
            .with_session_timeout_ms(args.get(2).map_or(10_000, |ms| ms.parse().unwrap()))
            .with_rebalance_timeout_ms(10_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let response = self.ask(version, &request).unwrap();
        let member = self.member_letter(&response.member_id);
        let leader = self.member_letter(&response.leader);
        let (error, generation) = (response.error_code, response.generation_id);
        format!("{error} {generation} {member} {leader} {}", response.members.len())
    }

    fn sync(&mut self, version: i16, args: &[&str]) -> String {
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(self.member(args[1]))
            .with_assignment(Bytes::from_static(b"all"));
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(self.name(args[0])))
            .with_member_id(self.member(args[1]))
            .with_generation_id(args[2].parse().unwrap())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text(args.get(3).unwrap_or(&"range"))))
            .with_assignments(vec![assignment]);
        let response = self.ask(version, &request).unwrap();
        let assignment = String::from_utf8_lossy(&response.assignment).into_owned();
        format!("{} {assignment}", response.error_code).trim_end().to_owned()
    }

    /// `commit8 g a 1 p0 5`.
    fn commit(&mut self, version: i16, args: &[&str]) -> String {
        let (topic, _, partition) = self.partition(args[3]);
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(args[4].parse().unwrap());
        let topic =
            OffsetCommitRequestTopic::default().with_name(topic).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(self.name(args[0])))
            .with_member_id(self.member(args[1]))
            .with_generation_id_or_member_epoch(args[2].parse().unwrap())
            .with_topics(vec![topic]);
        let response = self.ask(version, &request).unwrap();
        response.topics[0].partitions[0].error_code.to_string()
    }

    /// `beat1 g a 0 p [owned partitions]`: error, member epoch, partitions assigned.
    fn beat(&mut self, version: i16, args: &[&str]) -> String {
        let (topic, topic_id, _) = self.partition(&format!("{}0", args[3]));
        let epoch: i32 = args[2].parse().unwrap();
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(self.name(args[0])))
            .with_member_id(self.member(args[1]))
            .with_member_epoch(epoch);
        if epoch == 0 {
            request.rebalance_timeout_ms = 10_000;
            request.subscribed_topic_names = Some(vec![topic]);
            request.topic_partitions = Some(Vec::new());
        } else if let Some(owned) = args.get(4) {
            let partitions = owned.chars().filter_map(|c| c.to_digit(10)).map(|p| p as i32);
            let topic = consumer_group_heartbeat_request::TopicPartitions::default()
                .with_topic_id(topic_id)
                .with_partitions(partitions.collect());
            request.topic_partitions = Some(vec![topic]);
        }
        let response = self.ask(version, &request).unwrap();
        let assigned = response.assignment.as_ref().map_or("same".to_owned(), |assignment| {
            let mut all: Vec<i32> = assignment
                .topic_partitions
                .iter()
                .flat_map(|topic| topic.partitions.clone())
                .collect();
            all.sort_unstable();
            format!("{all:?}")
        });
        if response.error_code == 0 {
            let member_id = response.member_id.clone().unwrap_or_default();
            self.member_letter(&member_id);
        }
        format!("{} {} {assigned}", response.error_code, response.member_epoch)
    }

    /// `fetch12 S 1 p0@3 p1@0`: session (s for the one given), epoch, what to read from where. Says the error,
    /// whether there is a session, and of each partition told: error, bytes or not.
    fn fetch(&mut self, version: i16, args: &[&str]) -> String {
        let mut request = FetchRequest::default();
        request.replica_id = BrokerId(-1);
        request.session_id = match args[0] {
            "s" => self.session_id,
            id => id.parse().unwrap(),
        };
        request.session_epoch = args[1].parse().unwrap();
        (request.max_wait_ms, request.min_bytes, request.max_bytes) = (0, 0, 1 << 20);
        for arg in &args[2..] {
            if let Some(forgotten) = arg.strip_prefix('!') {
                let (topic, topic_id, partition) = self.partition(forgotten);
                let mut forgotten = ForgottenTopic::default().with_partitions(vec![partition]);
                if version >= 13 {
                    forgotten.topic_id = topic_id
                } else {
                    forgotten.topic = topic
                }
                request.forgotten_topics_data.push(forgotten);
                continue;
            }
            let (named, offset) = arg.split_once('@').unwrap();
            let (offset, leader_epoch) = offset.split_once('/').unwrap_or((offset, "-1"));
            let (topic, topic_id, partition) = self.partition(named);
            let asked = FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(offset.parse().unwrap())
                .with_current_leader_epoch(leader_epoch.parse().unwrap())
                .with_partition_max_bytes(1 << 20);
            let mut topics = FetchTopic::default().with_partitions(vec![asked]);
            if version >= 13 {
                topics.topic_id = topic_id
            } else {
                topics.topic = topic
            }
            request.topics.push(topics);
        }
        let response = self.ask(version, &request).unwrap();
        if response.session_id > 0 {
            self.session_id = response.session_id;
        }
        let session = if response.session_id > 0 { "session" } else { "none" };
        let mut said = vec![format!("{} {session}", response.error_code)];
        for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let full = partition.records.as_ref().is_some_and(|records| !records.is_empty());
            let records = if full { "records" } else { "empty" };
            let (index, error) = (partition.partition_index, partition.error_code);
            said.push(format!("{index}:{error}:{records}:{}", partition.high_watermark));
        }
        said.join(" ")
    }

    /// `offsetsfor7 p0 -1`: error, offset, leader epoch.
    fn list_offsets(&mut self, version: i16, args: &[&str]) -> String {
        let (topic, _, partition) = self.partition(args[0]);
        let mut asked = ListOffsetsPartition::default().with_partition_index(partition);
        asked.timestamp = args[1].parse().unwrap();
        asked.current_leader_epoch = args.get(2).map_or(-1, |epoch| epoch.parse().unwrap());
        let topic = ListOffsetsTopic::default().with_name(topic).with_partitions(vec![asked]);
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let response = self.ask(version, &request).unwrap();
        let answer = &response.topics[0].partitions[0];
        format!("{} {} {}", answer.error_code, answer.offset, answer.leader_epoch)
    }

    /// `endofepoch4 p0 0 [current]`: error, leader epoch, end offset.
    fn end_of_epoch(&mut self, version: i16, args: &[&str]) -> String {
        let (topic, _, partition) = self.partition(args[0]);
        let asked = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_leader_epoch(args[1].parse().unwrap())
            .with_current_leader_epoch(args.get(2).map_or(-1, |epoch| epoch.parse().unwrap()));
        let topic = OffsetForLeaderTopic::default().with_topic(topic).with_partitions(vec![asked]);
        let request = OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        let response = self.ask(version, &request).unwrap();
        let answer = &response.topics[0].partitions[0];
        format!("{} {} {}", answer.error_code, answer.leader_epoch, answer.end_offset)
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
pub(super) fn run(address: &str, conversation: &str) -> Result<(), String> {
    let mut talk = Talk::to(address);
    talk.find_coordinators();
    hold(&mut talk, conversation)
}

/// Goes on with a conversation. A step whose answer is given as `~ X` is repeated until it is X.
#[allow(clippy::print_stdout)] // What a conversation of one's own is for.
pub(super) fn hold(talk: &mut Talk, conversation: &str) -> Result<(), String> {
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
