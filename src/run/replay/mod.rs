//! The requests of a capture, said again to a broker, and the answers held against the recorded
//! ones: how an incident becomes a reproducer.
//!
//! Requests go out as the bytes they were, each on a connection of its own client, in the order of
//! the capture: a request waits for every answer that the client had when it said it. Names that
//! brokers give (`names`) are put in the place of the recorded ones, unless that is not wanted.
//!
//! A coordinator that is not ready yet is asked again, as the client would have (`readiness`).
//!
//! Not replayed: what brokers ask each other; when connections were closed; SASL tokens without a header (SaslHandshake v0).

mod compare;
mod names;
mod readiness;
mod recording;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::schema::{self, Fields, Limits, Value};
use kafka_wire::{ApiKey, ErrorCode};
use serde::Serialize;

pub use compare::{Difference, NOT_COMPARED};
pub use recording::Wanted;

use self::names::Names;
use self::readiness::{Readiness, readiness};
use self::recording::{Answer, Recording, Said};
use crate::client::connection::{Connection, Fate, Frame, Pending};
use crate::client::{Conduct, Tcp};
use crate::history::tap::Tap;
use crate::world::Clock;

/// The version that topics are created with: the brokers' own replication factor can be asked for,
/// and every broker since 2.4 has it.
const TOPICS_VERSION: i16 = 5;

/// How requests are said again.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where brokers are, until a Metadata answer tells more.
    pub bootstrap: Vec<String>,
    /// Whether names that brokers give are put in the place of the recorded ones.
    pub renamed: bool,
    /// Whether the topics that the capture's Metadata answers show are created first.
    pub creates_topics: bool,
    /// Whether requests go out at the times they did.
    pub paced: bool,
    /// Fields that are not compared, beside [`NOT_COMPARED`].
    pub ignored: Vec<String>,
    /// How long an answer may take.
    pub request_timeout: Duration,
}

/// What came of one request.
#[derive(Debug, Clone, Serialize)]
pub struct Replayed {
    /// Its number among those that were said, from 1.
    pub n: u64,
    /// Its recorded connection.
    pub connection: String,
    /// Its API.
    pub api: String,
    /// The version of it.
    pub api_version: i16,
    /// Its correlation id.
    pub correlation_id: i32,
    /// The packet that holds its last byte.
    pub frame: String,
    /// Whether names in it were replaced.
    pub renamed: bool,
    /// How often it was said again because a coordinator was not ready.
    #[serde(skip_serializing_if = "is_zero")]
    pub again: u32,
    /// Why no answer came, where none did and one was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<String>,
    /// Where the new answer differs from the recorded one.
    pub differences: Vec<Difference>,
}

impl Replayed {
    /// Whether the answer was as recorded, as far as it can be said.
    #[must_use]
    pub fn is_alike(&self) -> bool {
        self.unanswered.is_none() && self.differences.is_empty()
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What came of a replay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// Requests that were said.
    pub requests: u64,
    /// On so many connections.
    pub connections: u64,
    /// Answers that could be held against a recorded one.
    pub compared: u64,
    /// Of these, and of answers that did not come: those that differ.
    pub different: u64,
    /// Requests in which names were replaced.
    pub renamed: u64,
    /// Requests of which bytes are missing: left out.
    pub torn: u64,
    /// Requests that brokers send, to each other: left out.
    pub of_brokers: u64,
}

/// Why a capture could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The capture could not be read.
    #[error("cannot read the capture")]
    Read(#[source] io::Error),
    /// A file is no capture, or nothing of it could be read.
    #[error("nothing could be read of {name}: {reason}")]
    Unreadable {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// More than memory is given for.
    #[error(
        "more than {bytes_max} bytes of requests and answers: name connections (--connection) or \
         APIs (--api)"
    )]
    TooMuch {
        /// How much is kept.
        bytes_max: usize,
    },
    /// Nothing to say.
    #[error("the capture holds no whole request of those that are wanted")]
    Nothing,
    /// A broker could not be reached.
    #[error("{address}: {fate}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        fate: Fate,
    },
}

/// Says the wanted requests of captures, each with its name, again; `told` hears of each as its answer is in.
///
/// # Errors
/// Where nothing of the capture can be read or no broker be reached. Answers that differ are none.
pub async fn replay(
    files: Vec<(String, Box<dyn Read>)>,
    wanted: &Wanted,
    options: &Options,
    (clock, tap): (&Clock, Arc<dyn Tap>),
    mut told: impl FnMut(&Replayed),
) -> Result<Total, ReplayError> {
    let recording = recording::read(files, wanted)?;
    if recording.said.is_empty() {
        return Err(ReplayError::Nothing);
    }
    let conduct = Conduct::new(Arc::new(Tcp::default()), tap, clock.clone())
        .with_request_timeout(options.request_timeout);
    let mut speaker = Speaker {
        options,
        recording: &recording,
        conduct,
        connections: BTreeMap::new(),
        names: Names::default(),
        waiting: Vec::new(),
        total: Total { torn: recording.torn, of_brokers: recording.of_brokers, ..Total::default() },
    };
    if options.creates_topics {
        speaker.create_topics().await?;
    }
    let begun = tokio::time::Instant::now();
    let first_ns = recording.said[0].time_ns;
    for (index, said) in recording.said.iter().enumerate() {
        speaker.hear_until(said.time_ns, &mut told).await;
        if options.paced {
            let since = Duration::from_nanos(said.time_ns.saturating_sub(first_ns));
            tokio::time::sleep_until(begun + since).await;
        }
        speaker.say(index).await?;
    }
    speaker.hear_until(u64::MAX, &mut told).await;
    Ok(speaker.total)
}

/// A request whose answer is to come.
struct Waiting {
    index: usize,
    n: u64,
    renamed: bool,
    /// As it went out.
    bytes: Bytes,
    pending: Result<Pending, Fate>,
}

struct Speaker<'r> {
    options: &'r Options,
    recording: &'r Recording,
    conduct: Conduct,
    connections: BTreeMap<u64, Connection>,
    names: Names,
    waiting: Vec<Waiting>,
    total: Total,
}

impl Speaker<'_> {
    async fn say(&mut self, index: usize) -> Result<(), ReplayError> {
        let said = &self.recording.said[index];
        self.total.requests += 1;
        let n = self.total.requests;
        if !self.connections.contains_key(&said.connection.0) {
            let connection = self.open(said).await?;
            self.connections.insert(said.connection.0, connection);
            self.total.connections += 1;
        }
        let renamed = self.options.renamed.then(|| self.body_renamed(said)).flatten();
        self.total.renamed += u64::from(renamed.is_some());
        let is_renamed = renamed.is_some();
        let bytes = framed(said, renamed);
        let pending = self.send(said, bytes.clone()).await;
        if !matches!(said.answer, Answer::NoneDue) {
            self.waiting.push(Waiting { index, n, renamed: is_renamed, bytes, pending });
        }
        Ok(())
    }

    async fn send(&self, said: &Said, bytes: Bytes) -> Result<Pending, Fate> {
        let due = !matches!(said.answer, Answer::NoneDue);
        let expects = due.then_some((said.api_key, said.api_version, said.correlation_id));
        self.connections[&said.connection.0].send_raw(bytes, expects).await
    }

    /// Creates what recorded Metadata answers show, with as many partitions. What is there already
    /// stays as it is; what cannot be created shows in the answers.
    async fn create_topics(&self) -> Result<(), ReplayError> {
        let topics: Vec<Fields> = self
            .recording
            .topics()
            .into_iter()
            .map(|(name, partitions)| {
                Fields::new()
                    .with("name", name)
                    .with("num_partitions", partitions as i64)
                    .with("replication_factor", -1)
            })
            .collect();
        let request = Fields::new().with("topics", topics).with("timeout_ms", 10_000);
        let layout =
            schema::layout(ApiKey::CREATE_TOPICS, schema::Direction::Request, TOPICS_VERSION)
                .expect("the table has CreateTopics");
        let body = layout.encode(&request).expect("these fields are CreateTopics'");
        let address = self.options.bootstrap.first().map(String::as_str).unwrap_or_default();
        let unreachable = |fate| ReplayError::Unreachable { address: address.to_owned(), fate };
        let connection = Connection::open(&self.conduct, address).await.map_err(unreachable)?;
        let frame = Frame {
            api_key: ApiKey::CREATE_TOPICS,
            api_version: TOPICS_VERSION,
            body: body.into(),
            answered: true,
        };
        connection.exchange(frame).await.map_err(unreachable)?;
        let partitions: Vec<(String, usize)> = self.recording.topics().into_iter().collect();
        readiness::wait_for_leaders(&connection, &partitions).await.map_err(unreachable)
    }

    async fn open(&self, said: &Said) -> Result<Connection, ReplayError> {
        let recorded = self.recording.connections.get(&said.connection.0);
        let known = recorded.and_then(|(_, broker)| self.names.broker(*broker));
        let address = known.or(self.options.bootstrap.first().map(String::as_str));
        let address = address.unwrap_or_default();
        let opened = Connection::open(&self.conduct, address).await;
        opened.map_err(|fate| ReplayError::Unreachable { address: address.to_owned(), fate })
    }

    /// The body with new names, where it has any that are known.
    fn body_renamed(&self, said: &Said) -> Option<Vec<u8>> {
        let layout = schema::layout(said.api_key, schema::Direction::Request, said.api_version)?;
        let mut decoded = layout.decode(said.frame.get(said.body_at..)?, Limits::default());
        let whole = decoded.exact && decoded.walked.left_over == 0;
        (whole && self.names.apply(&mut decoded.fields))
            .then(|| layout.encode(&decoded.fields))?
            .ok()
    }

    /// Waits for the answers that had come by a time of the capture, in their order.
    async fn hear_until(&mut self, time_ns: u64, told: &mut impl FnMut(&Replayed)) {
        let had_come = |waiting: &Waiting| match self.recording.said[waiting.index].answer {
            Answer::Whole(_, at) => at <= time_ns,
            Answer::Unknown | Answer::NoneDue => time_ns == u64::MAX,
        };
        let (mut due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(had_come);
        self.waiting = later;
        due.sort_by_key(|waiting| match self.recording.said[waiting.index].answer {
            Answer::Whole(_, at) => at,
            Answer::Unknown | Answer::NoneDue => u64::MAX,
        });
        for waiting in due {
            let replayed = self.hear(waiting).await;
            told(&replayed);
        }
    }

    async fn hear(&mut self, waiting: Waiting) -> Replayed {
        let said = &self.recording.said[waiting.index];
        let ends = self.recording.connections.get(&said.connection.0);
        let mut replayed = Replayed {
            n: waiting.n,
            connection: ends.map(|(c, b)| format!("{c}-{b}")).unwrap_or_default(),
            api: said.api_key.to_string(),
            api_version: said.api_version,
            correlation_id: said.correlation_id.0,
            frame: said.packet.to_string(),
            renamed: waiting.renamed,
            again: 0,
            unanswered: None,
            differences: Vec::new(),
        };
        let Answer::Whole(recorded, _) = &said.answer else { return replayed };
        self.total.compared += 1;
        let mut pending = waiting.pending;
        let answered = loop {
            let answered = match pending {
                Ok(pending) => pending.answer().await,
                Err(fate) => Err(fate),
            };
            let is_early = |body: &Bytes| readiness(said, recorded, body) == Readiness::Early;
            if replayed.again >= readiness::AGAIN_MAX
                || !answered.as_ref().is_ok_and(|response| is_early(&response.body))
            {
                break answered;
            }
            replayed.again += 1;
            tokio::time::sleep(readiness::PAUSE).await;
            pending = self.send(said, waiting.bytes.clone()).await;
        };
        match answered {
            Ok(response) if readiness(said, recorded, &response.body) == Readiness::Later => {}
            Ok(response) => replayed.differences = self.compare(said, recorded, &response.body),
            Err(fate) => replayed.unanswered = Some(fate.to_string()),
        }
        self.total.different += u64::from(!replayed.is_alike());
        replayed
    }

    fn compare(&mut self, said: &Said, recorded: &Bytes, answered: &Bytes) -> Vec<Difference> {
        let response = schema::Direction::Response;
        let Some(layout) = schema::layout(said.api_key, response, said.api_version) else {
            return bytes_differ(recorded, answered);
        };
        let decode = |body: &Bytes| layout.decode(body, Limits::default());
        let (mut old, mut new) = (decode(recorded), decode(answered));
        if old.walked.stopped.is_some() || new.walked.stopped.is_some() {
            return bytes_differ(recorded, answered);
        }
        if self.options.renamed {
            self.names.learn(&old.fields, &new.fields);
            self.names.apply(&mut old.fields);
        }
        name_errors(&mut old.fields);
        name_errors(&mut new.fields);
        compare::differences(&old.fields, &new.fields, &self.options.ignored)
    }
}

/// Error codes by their names.
fn name_errors(fields: &mut Fields) {
    for (name, value) in fields.iter_mut() {
        name_errors_in(name == "error_code", value);
    }
}

fn name_errors_in(is_error: bool, value: &mut Value) {
    match value {
        Value::Struct(fields) => name_errors(fields),
        Value::Array(elements) => elements.iter_mut().for_each(|e| name_errors_in(is_error, e)),
        Value::Int(code) if is_error => {
            let code = ErrorCode::from(i16::try_from(*code).unwrap_or(-1));
            *value = Value::String(code.to_string());
        }
        _ => {}
    }
}

/// Two bodies that cannot be decoded.
fn bytes_differ(recorded: &Bytes, answered: &Bytes) -> Vec<Difference> {
    let told = |bytes: &Bytes| format!("{} bytes that do not decode", bytes.len()).into();
    let difference =
        Difference { path: "body".to_owned(), recorded: told(recorded), answered: told(answered) };
    if recorded == answered { Vec::new() } else { vec![difference] }
}

/// The request as it goes out: its own bytes, with another body where there is one.
fn framed(said: &Said, body: Option<Vec<u8>>) -> Bytes {
    let (header, own) = said.frame.split_at(said.body_at.min(said.frame.len()));
    let body = body.as_deref().unwrap_or(own);
    let length = header.len() + body.len();
    let mut out = BytesMut::with_capacity(4 + length);
    // What was read from a frame fits one.
    out.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
    out.extend_from_slice(header);
    out.extend_from_slice(body);
    out.freeze()
}
