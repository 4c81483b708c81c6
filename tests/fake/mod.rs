//! A scripted broker over in-memory streams: one node, one topic `t` with one partition, sequences
//! checked as Kafka checks them, transactions without markers, and misfortune on request.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fencepost::client::Conduct;
use fencepost::client::transport::{Connector, Opened, Opening};
use fencepost::client::versions::TransactionVersion;
use fencepost::history::tap::NoTap;
use fencepost::pipeline::{Cluster, ClusterConfig, RetryPolicy};
use fencepost::world::Clock;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{self, BrokerId, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_wire::ApiKey;
use kafka_wire::batch::{BatchHeader, BatchIter, Scratch, rewrite_header};
use kafka_wire::header::{RequestHeader, encode_response_header};
use kafka_wire::ids::Offset;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is served.
    Serve,
    /// It is answered with this code, and nothing is done.
    Refuse(i16),
    /// It is served, and the connection closed before the answer.
    LoseAnswer,
    /// The connection is closed before it is served.
    LoseRequest,
    /// It is served, and the connection never answers again.
    Silence,
}

/// A batch in the log, and its values.
struct Entry {
    bytes: Bytes,
    sequence: i32,
    values: Vec<String>,
}

/// What the leader knows of a producer id.
#[derive(Default)]
struct Known {
    epoch: i16,
    next: i32,
    /// Base sequence and offset of the last batches.
    last: VecDeque<(i32, i64)>,
}

#[derive(Default)]
struct State {
    log: Vec<Entry>,
    /// Base sequences of all batches that came, served or not.
    came: Vec<i32>,
    known: BTreeMap<i64, Known>,
    /// Producer id and epoch of the transactional id.
    owner: Option<(i64, i16)>,
    next_producer_id: i64,
    connections: usize,
    refuses: bool,
    produces: VecDeque<Step>,
    ends: VecDeque<Step>,
    adds: VecDeque<Step>,
}

impl State {
    fn end_offset(&self) -> i64 {
        self.log.iter().map(|entry| entry.values.len() as i64).sum()
    }
}

/// The broker. Dropping it ends its connections.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    grown: Arc<Notify>,
    tasks: Arc<Mutex<JoinSet<()>>>,
    version: TransactionVersion,
}

impl Connector for Fake {
    fn connect<'a>(&'a self, _: &'a str) -> Opening<'a> {
        Box::pin(async move {
            if self.state().refuses {
                return Err(std::io::ErrorKind::ConnectionRefused.into());
            }
            self.state().connections += 1;
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let fake = self.clone();
            self.tasks.lock().unwrap().spawn(async move { fake.converse(theirs).await });
            let address = SocketAddr::from(([127, 0, 0, 1], 9));
            Ok(Opened { transport: Box::new(ours), client: address, broker: address })
        })
    }
}

impl Fake {
    /// Starts it and connects a cluster to it.
    pub(crate) async fn start(version: TransactionVersion) -> (Self, Cluster) {
        let fake =
            Self { state: Arc::default(), grown: Arc::default(), tasks: Arc::default(), version };
        let begun = tokio::time::Instant::now();
        let clock = Clock::new(1, move || begun.elapsed().as_nanos() as u64);
        let config = ClusterConfig {
            bootstrap: vec!["fake:9".into()],
            conduct: Conduct::new(Arc::new(fake.clone()), Arc::new(NoTap), clock),
            retry: RetryPolicy::default(),
            partitions: 1,
            replication_factor: 1,
            force_transaction_version: None,
        };
        let cluster = Cluster::connect(config).await.unwrap();
        cluster.ensure_topic(&"t".into(), &mut Vec::new()).await.unwrap();
        assert_eq!(cluster.transaction_version(), version);
        (fake, cluster)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What becomes of the next Produce requests.
    pub(crate) fn script(&self, steps: &[Step]) {
        self.state().produces = steps.iter().copied().collect();
    }

    /// What becomes of the next EndTxn requests.
    pub(crate) fn script_ends(&self, steps: &[Step]) {
        self.state().ends = steps.iter().copied().collect();
    }

    /// What becomes of the next AddPartitionsToTxn requests.
    pub(crate) fn script_adds(&self, steps: &[Step]) {
        self.state().adds = steps.iter().copied().collect();
    }

    /// Whether connections may be opened; those that are open are closed.
    pub(crate) fn accept(&self, accept: bool) {
        self.state().refuses = !accept;
        self.tasks.lock().unwrap().abort_all();
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.state().connections
    }

    /// The values of the log in order.
    pub(crate) fn log(&self) -> String {
        let state = self.state();
        let values = state.log.iter().flat_map(|entry| entry.values.iter().map(String::as_str));
        values.collect::<Vec<_>>().join(" ")
    }

    /// Waits until the log is that.
    pub(crate) async fn until_log(&self, log: &str) {
        while self.log() != log {
            self.grown.notified().await;
        }
    }

    /// Base sequences of all batches that came.
    pub(crate) fn sequences(&self) -> Vec<i32> {
        self.state().came.clone()
    }

    async fn converse(&self, mut stream: DuplexStream) {
        while let Ok(length) = stream.read_i32().await {
            let mut frame = vec![0; length as usize];
            if stream.read_exact(&mut frame).await.is_err() {
                return;
            }
            let (header, at) = RequestHeader::decode(&frame).unwrap();
            let (key, version) = (header.api_key, header.api_version);
            let step = self.step(key);
            let mut body = Bytes::copy_from_slice(&frame[at..]);
            if step == Step::LoseRequest {
                return;
            }
            let answer = self.serve(key, version, &mut body, step).await;
            match step {
                Step::LoseAnswer => return,
                Step::Silence => std::future::pending().await,
                _ => {}
            }
            let Some(answer) = answer else { continue };
            let mut out = BytesMut::new();
            encode_response_header(&mut out, key, version, header.correlation_id);
            out.extend_from_slice(&answer);
            stream.write_i32(out.len() as i32).await.unwrap();
            if stream.write_all(&out).await.is_err() {
                return;
            }
        }
    }

    fn step(&self, key: ApiKey) -> Step {
        let mut state = self.state();
        let script = match key {
            ApiKey::PRODUCE => &mut state.produces,
            ApiKey::END_TXN => &mut state.ends,
            ApiKey::ADD_PARTITIONS_TO_TXN => &mut state.adds,
            _ => return Step::Serve,
        };
        script.pop_front().unwrap_or(Step::Serve)
    }

    /// Serves a request; absent where it wants no answer.
    async fn serve(
        &self,
        key: ApiKey,
        version: i16,
        body: &mut Bytes,
        step: Step,
    ) -> Option<BytesMut> {
        Some(match key {
            ApiKey::API_VERSIONS => encode(&self.api_versions(), version),
            ApiKey::METADATA => encode(&metadata(), version),
            ApiKey::FIND_COORDINATOR => {
                let mut answer = messages::FindCoordinatorResponse::default();
                (answer.node_id, answer.host, answer.port) = (BrokerId(1), text("fake"), 9);
                encode(&answer, version)
            }
            ApiKey::INIT_PRODUCER_ID => encode(&self.init(decode(body, version)), version),
            ApiKey::ADD_PARTITIONS_TO_TXN => add_partitions(&decode(body, version), version, step),
            ApiKey::END_TXN => encode(&self.end(&decode(body, version), version, step), version),
            ApiKey::PRODUCE => return self.produce(&decode(body, version), version, step),
            ApiKey::LIST_OFFSETS => encode(&self.offsets(&decode(body, version)), version),
            ApiKey::FETCH => encode(&self.fetch(decode(body, version)).await, version),
            other => panic!("the fake broker was asked {other}"),
        })
    }

    fn api_versions(&self) -> messages::ApiVersionsResponse {
        let two = self.version == TransactionVersion::V2;
        let ranges = [
            (ApiKey::API_VERSIONS, 3),
            (ApiKey::METADATA, 9),
            (ApiKey::FIND_COORDINATOR, 3),
            (ApiKey::INIT_PRODUCER_ID, 4),
            (ApiKey::ADD_PARTITIONS_TO_TXN, 3),
            (ApiKey::END_TXN, if two { 5 } else { 4 }),
            (ApiKey::PRODUCE, if two { 12 } else { 11 }),
            (ApiKey::LIST_OFFSETS, 6),
            (ApiKey::FETCH, 12),
        ];
        let range = |(key, max): (ApiKey, i16)| {
            ApiVersion::default().with_api_key(key.0).with_max_version(max)
        };
        let feature = FinalizedFeatureKey::default()
            .with_name(text("transaction.version"))
            .with_max_version_level(if two { 2 } else { 1 });
        messages::ApiVersionsResponse::default()
            .with_api_keys(ranges.into_iter().map(range).collect())
            .with_finalized_features(vec![feature])
    }

    fn init(&self, request: messages::InitProducerIdRequest) -> messages::InitProducerIdResponse {
        let mut state = self.state();
        let (id, epoch) = match (&request.transactional_id, state.owner) {
            (Some(_), Some((id, epoch))) => (id, epoch + 1),
            _ => {
                state.next_producer_id += 1;
                (state.next_producer_id, 0)
            }
        };
        if request.transactional_id.is_some() {
            state.owner = Some((id, epoch));
        }
        messages::InitProducerIdResponse::default()
            .with_producer_id(messages::ProducerId(id))
            .with_producer_epoch(epoch)
    }

    fn end(
        &self,
        request: &messages::EndTxnRequest,
        version: i16,
        step: Step,
    ) -> messages::EndTxnResponse {
        let answer = messages::EndTxnResponse::default();
        if let Step::Refuse(code) = step {
            return answer.with_error_code(code);
        }
        if version < 5 {
            return answer;
        }
        let (id, epoch) = (request.producer_id, request.producer_epoch + 1);
        self.state().owner = Some((id.0, epoch));
        answer.with_producer_id(id).with_producer_epoch(epoch)
    }

    fn produce(
        &self,
        request: &messages::ProduceRequest,
        version: i16,
        step: Step,
    ) -> Option<BytesMut> {
        let records = request.topic_data[0].partition_data[0].records.clone().unwrap();
        let batch = BatchIter::new(&records).next().unwrap().unwrap();
        assert!(batch.check_produced(&mut Scratch::new()).is_empty());
        self.state().came.push(batch.header.base_sequence.0);
        let result = match step {
            Step::Refuse(code) => Err(code),
            _ => self.append(&batch.header, &records),
        };
        self.grown.notify_waiters();
        let mut answer = PartitionProduceResponse::default().with_base_offset(-1);
        match result {
            Ok(offset) => answer.base_offset = offset,
            Err(code) => answer.error_code = code,
        }
        let topic = TopicProduceResponse::default()
            .with_name(topic_name())
            .with_partition_responses(vec![answer]);
        let answer = messages::ProduceResponse::default().with_responses(vec![topic]);
        (request.acks != 0).then(|| encode(&answer, version))
    }

    /// Kafka's rules: no state takes any sequence; another epoch begins at 0; a duplicate of one
    /// of the last five is answered again.
    fn append(&self, header: &BatchHeader, records: &Bytes) -> Result<i64, i16> {
        let mut state = self.state();
        let at = state.end_offset();
        let (id, epoch, sequence) =
            (header.producer_id.0, header.producer_epoch.0, header.base_sequence.0);
        if id >= 0 {
            let fresh = !state.known.contains_key(&id);
            let known = state.known.entry(id).or_default();
            if let Some((_, offset)) =
                known.last.iter().find(|(s, _)| *s == sequence && known.epoch == epoch)
            {
                return Ok(*offset);
            }
            match epoch.cmp(&known.epoch) {
                std::cmp::Ordering::Less => return Err(47),
                std::cmp::Ordering::Greater if sequence != 0 => return Err(45),
                std::cmp::Ordering::Equal if !fresh && sequence != known.next => return Err(45),
                _ => {}
            }
            if epoch > known.epoch {
                known.last.clear();
            }
            known.epoch = epoch;
            known.next = sequence + header.record_count;
            known.last.push_back((sequence, at));
            if known.last.len() > 5 {
                known.last.pop_front();
            }
        }
        let mut bytes = records.to_vec();
        rewrite_header(&mut bytes, &BatchHeader { base_offset: Offset(at), ..*header });
        let bytes = Bytes::from(bytes);
        let batch = BatchIter::new(&bytes).next().unwrap().unwrap();
        let values = batch
            .records(&mut Scratch::new())
            .map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap())
            .collect();
        state.log.push(Entry { bytes: bytes.clone(), sequence, values });
        debug_assert_eq!(state.log.last().unwrap().sequence, sequence);
        Ok(at)
    }

    fn offsets(&self, request: &messages::ListOffsetsRequest) -> messages::ListOffsetsResponse {
        let latest = request.topics[0].partitions[0].timestamp == -1;
        let offset = if latest { self.state().end_offset() } else { 0 };
        let partition = ListOffsetsPartitionResponse::default().with_offset(offset);
        let topic = ListOffsetsTopicResponse::default()
            .with_name(topic_name())
            .with_partitions(vec![partition]);
        messages::ListOffsetsResponse::default().with_topics(vec![topic])
    }

    async fn fetch(&self, request: messages::FetchRequest) -> messages::FetchResponse {
        let from = request.topics[0].partitions[0].fetch_offset;
        let wait = Duration::from_millis(request.max_wait_ms as u64);
        let deadline = tokio::time::Instant::now() + wait;
        while self.state().end_offset() <= from {
            let grown = self.grown.notified();
            if tokio::time::timeout_at(deadline, grown).await.is_err() {
                break;
            }
        }
        let state = self.state();
        let mut records = BytesMut::new();
        let mut at = 0;
        for entry in &state.log {
            at += entry.values.len() as i64;
            if at > from {
                records.extend_from_slice(&entry.bytes);
            }
        }
        let partition = PartitionData::default()
            .with_high_watermark(at)
            .with_last_stable_offset(at)
            .with_records(Some(records.freeze()));
        let topic = FetchableTopicResponse::default()
            .with_topic(topic_name())
            .with_partitions(vec![partition]);
        messages::FetchResponse::default().with_responses(vec![topic])
    }
}

fn metadata() -> messages::MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(text("fake"))
        .with_port(9);
    let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(1));
    let topic = MetadataResponseTopic::default()
        .with_name(Some(topic_name()))
        .with_partitions(vec![partition]);
    messages::MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic])
}

fn add_partitions(
    request: &messages::AddPartitionsToTxnRequest,
    version: i16,
    step: Step,
) -> BytesMut {
    use messages::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
    };
    let code = match step {
        Step::Refuse(code) => code,
        _ => 0,
    };
    let topics = request.v3_and_below_topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|index| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(code)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    let answer = messages::AddPartitionsToTxnResponse::default()
        .with_results_by_topic_v3_and_below(topics.collect());
    encode(&answer, version)
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic_name() -> TopicName {
    TopicName(text("t"))
}

fn decode<M: Decodable>(body: &mut Bytes, version: i16) -> M {
    let message = M::decode(body, version).unwrap();
    assert!(!body.has_remaining(), "a request of ours has bytes left over");
    message
}

fn encode(message: &impl Encodable, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).unwrap();
    out
}
