//! A capture into the requests that are said again, each with the answer it had.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;

use bytes::Bytes;
use kafka_wire::ApiKey;
use kafka_wire::ids::CorrelationId;
use kafka_wire::schema::{self, Limits, Value};

use super::ReplayError;
use crate::capture::{AssemblerOptions, read_captures};
use crate::history::tap::{Connection, Direction};
use crate::history::wire::{
    ConnectionFacts, Exchange, ExchangeSink, Extent, Outcome, PacketNumber, Request, Span,
};

/// Which requests of a capture are wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Connections, as `client-broker` or by the client's port; all without.
    pub connections: Vec<String>,
    /// APIs; all without.
    pub apis: Vec<ApiKey>,
    /// Ports of brokers; without, every connection that begins as Kafka does.
    pub ports: Vec<u16>,
    /// Bytes of requests and responses that are kept at most.
    pub bytes_max: usize,
}

/// One request of a capture.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) connection: Connection,
    pub(super) api_key: ApiKey,
    pub(super) api_version: i16,
    pub(super) correlation_id: CorrelationId,
    pub(super) packet: PacketNumber,
    pub(super) time_ns: u64,
    /// All after the length prefix.
    pub(super) frame: Bytes,
    pub(super) body_at: usize,
    pub(super) answer: Answer,
}

/// What a capture shows of the answer.
#[derive(Debug, Clone, Default)]
pub(super) enum Answer {
    /// None: the connection or the capture ended, or it is not whole.
    #[default]
    Unknown,
    /// None was asked for.
    NoneDue,
    /// Its body, and when it had come.
    Whole(Bytes, u64),
}

/// What a capture holds for replaying.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) connections: BTreeMap<u64, (SocketAddr, SocketAddr)>,
    /// In the order in which they were said.
    pub(super) said: Vec<Said>,
    /// Requests of which bytes are missing.
    pub(super) torn: u64,
    /// Requests that brokers send to each other.
    pub(super) of_brokers: u64,
}

impl Recording {
    /// Topics that Metadata answers show, and how many partitions each had.
    pub(super) fn topics(&self) -> BTreeMap<String, usize> {
        let mut topics = BTreeMap::new();
        for said in self.said.iter().filter(|said| said.api_key == ApiKey::METADATA) {
            let Answer::Whole(body, _) = &said.answer else { continue };
            let response = schema::Direction::Response;
            let Some(layout) = schema::layout(said.api_key, response, said.api_version) else {
                continue;
            };
            let answer = layout.decode(body, Limits::default()).fields;
            let listed = answer.field("topics").and_then(Value::as_array).unwrap_or_default();
            for topic in listed.iter().filter_map(Value::as_struct) {
                let name = topic.field("name").and_then(Value::as_str);
                let partitions = topic.field("partitions").and_then(Value::as_array);
                let internal = topic.field("is_internal") == Some(&Value::Bool(true));
                if let (Some(name), Some([_, ..]), false) = (name, partitions, internal) {
                    let count = partitions.map_or(0, <[Value]>::len);
                    topics.insert(name.to_owned(), count);
                }
            }
        }
        topics
    }
}

/// Reads captures.
pub(super) fn read(
    files: Vec<(String, Box<dyn Read>)>,
    wanted: &Wanted,
) -> Result<Recording, ReplayError> {
    let (names, files): (Vec<_>, Vec<_>) = files.into_iter().unzip();
    let options = AssemblerOptions { ports: wanted.ports.clone(), ..AssemblerOptions::default() };
    let keeper = Keeper { wanted, recording: Recording::default(), bytes: 0 };
    let (keeper, summary) = read_captures(files, options, keeper).map_err(ReplayError::Read)?;
    let mut empty = names.into_iter().zip(&summary.files).filter(|(_, file)| file.packets == 0);
    if let Some((name, damage)) = empty.find_map(|(name, file)| Some((name, file.damages.first()?)))
    {
        return Err(ReplayError::Unreadable { name, reason: damage.to_string() });
    }
    if keeper.bytes > wanted.bytes_max {
        return Err(ReplayError::TooMuch { bytes_max: wanted.bytes_max });
    }
    let mut recording = keeper.recording;
    recording.said.sort_by_key(|said| said.time_ns);
    Ok(recording)
}

/// Whether only brokers and controllers ask so. (Fetch of replicas is told by its body, and does no
/// harm.) AddPartitionsToTxn is theirs since v4: they verify transactions with it (KIP-890).
fn is_of_brokers(api_key: ApiKey, version: i16) -> bool {
    match api_key {
        ApiKey::ADD_PARTITIONS_TO_TXN => version >= 4,
        ApiKey::WRITE_TXN_MARKERS => true,
        // LeaderAndIsr to ControlledShutdown, and the quorum of controllers.
        ApiKey(4..=7 | 52..=54 | 56 | 58 | 59 | 62 | 63 | 67 | 70 | 73 | 82) => true,
        _ => false,
    }
}

struct Keeper<'w> {
    wanted: &'w Wanted,
    recording: Recording,
    bytes: usize,
}

impl Keeper<'_> {
    fn wants(&self, request: &Request<'_>) -> bool {
        let Wanted { connections, apis, .. } = self.wanted;
        let of = self.recording.connections.get(&request.facts.connection.0);
        let named = of.is_some_and(|(client, broker)| {
            let (whole, port) = (format!("{client}-{broker}"), client.port().to_string());
            connections.iter().any(|name| *name == whole || *name == port)
        });
        (connections.is_empty() || named)
            && (apis.is_empty() || apis.contains(&request.facts.api_key))
    }

    /// Counts bytes; nothing more is kept once there are too many.
    fn has_room(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes <= self.wanted.bytes_max
    }
}

impl ExchangeSink for Keeper<'_> {
    /// Where the request stands in the recording.
    type Kept = Option<usize>;

    fn connection(&mut self, facts: &ConnectionFacts) {
        self.recording.connections.insert(facts.connection.0, (facts.client, facts.broker));
    }

    fn frame_bytes_wanted(&mut self, _: Direction, api_key: ApiKey, _: i16) -> usize {
        let apis = &self.wanted.apis;
        if apis.is_empty() || apis.contains(&api_key) { usize::MAX } else { 64 }
    }

    fn request(&mut self, request: &Request<'_>) -> Option<usize> {
        if !self.wants(request) {
            return None;
        }
        let facts = request.facts;
        if is_of_brokers(facts.api_key, facts.api_version) {
            self.recording.of_brokers += 1;
            return None;
        }
        if facts.extent != Extent::Whole || facts.header_error.is_some() {
            self.recording.torn += 1;
            return None;
        }
        if !self.has_room(request.frame.len()) {
            return None;
        }
        let Span { last_packet, time_ns, .. } = facts.span;
        self.recording.said.push(Said {
            connection: facts.connection,
            api_key: facts.api_key,
            api_version: facts.api_version,
            correlation_id: facts.correlation_id,
            packet: last_packet,
            time_ns,
            frame: Bytes::copy_from_slice(request.frame),
            body_at: request.body_at,
            answer: Answer::Unknown,
        });
        Some(self.recording.said.len() - 1)
    }

    fn exchange(&mut self, exchange: Exchange<'_, Option<usize>>) {
        let Some(at) = exchange.kept else { return };
        let answer = match &exchange.outcome {
            Outcome::NoneDue => Answer::NoneDue,
            Outcome::Answered(response) if response.extent == Extent::Whole => {
                let body = response.frame.get(response.body_at..).unwrap_or_default();
                if !self.has_room(body.len()) {
                    return;
                }
                Answer::Whole(Bytes::copy_from_slice(body), response.span.time_ns)
            }
            Outcome::Answered(_) | Outcome::Unanswered(_) => return,
        };
        self.recording.said[at].answer = answer;
    }
}
