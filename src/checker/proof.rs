//! Turns exchanges into what proves the anomalies of operations: the Produce that carried a value
//! and what it was answered, the EndTxn that decided it, the Fetch that returned it or passed it
//! over.
//!
//! Only what the cases shown are about is looked for, while the capture is read anyway. A value
//! is known by its record: without a key or headers, eight bytes, as our workload and Jepsen's
//! write it, in the partition that is its key.
//!
//! Never: decides anything; keeps an exchange that no case is about.
//! Not checked: keys and values that are no numbers; topics not named `tN`, whatever stands before.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use serde_json::Value as Json;

use super::anomaly::find_anomaly;
use super::verdict::{Case, ExchangeName, Verdict};
use crate::history::Connection;
use crate::history::facts::batch::hash_of_bare_record;
use crate::history::facts::topics::{LogId, Topics};
use crate::history::facts::{Deed, Fact, Fetched, Moment, Produced, Seen};
use crate::history::wire::ConnectionFacts;

/// Values that are looked for.
const VALUES_MAX: usize = 2_000;
/// Values of one case.
const VALUES_OF_CASE_MAX: usize = 8;
/// Exchanges told of one kind and value.
const TOLD_MAX: usize = 3;

/// Keys as the workload makes them: two a topic.
const KEYS_A_TOPIC: u64 = 2;

/// Looks for the exchanges behind the cases of a verdict.
#[derive(Debug, Default)]
pub struct Proofs {
    values: Vec<Sought>,
    /// Which of them a partition may hold, by topic number, partition and hash of the record.
    by_record: BTreeMap<(u64, i32), BTreeMap<u64, usize>>,
    /// What stands before the number of the topics: other runs may be in the same capture.
    prefix: Option<String>,
    topics: Topics,
    /// The partition of each log that is looked at.
    logs: FxHashMap<LogId, Option<(u64, i32)>>,
    connections: FxHashMap<Connection, (SocketAddr, SocketAddr)>,
    /// Values of transactions that are not known to have ended, by producer id and epoch.
    open: FxHashMap<(i64, i16), Vec<usize>>,
    began_ns: Option<u64>,
}

/// A value that is looked for, and where it was seen.
#[derive(Debug)]
struct Sought {
    key: u64,
    value: i64,
    acknowledged: Option<i64>,
    sent: Vec<Line>,
    ended: Vec<Line>,
    fetched: Vec<(i64, Line)>,
    passed: Option<Line>,
}

/// An exchange and what it says.
#[derive(Debug, Clone)]
struct Line {
    seen: Seen,
    said: String,
}

impl Proofs {
    /// Looks for what the cases shown are about; absent where no operation shows an anomaly.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Option<Self> {
        let mut proofs = Self::default();
        for case in cases(verdict) {
            for (key, value) in about(case) {
                proofs.seek(key, value);
            }
        }
        (!proofs.values.is_empty()).then_some(proofs)
    }

    fn seek(&mut self, key: u64, value: i64) {
        let partition = (key / KEYS_A_TOPIC, (key % KEYS_A_TOPIC) as i32);
        let hash = hash_of_bare_record(&value.to_be_bytes());
        let of_partition = self.by_record.entry(partition).or_default();
        if self.values.len() >= VALUES_MAX || of_partition.contains_key(&hash) {
            return;
        }
        of_partition.insert(hash, self.values.len());
        self.values.push(Sought {
            key,
            value,
            acknowledged: None,
            sent: Vec::new(),
            ended: Vec::new(),
            fetched: Vec::new(),
            passed: None,
        });
    }

    /// A connection, before anything of it.
    pub fn connection(&mut self, facts: &ConnectionFacts) {
        self.began_ns.get_or_insert(facts.first_time_ns);
        self.connections.insert(facts.connection, (facts.client, facts.broker));
    }

    /// The next fact.
    pub fn fact(&mut self, fact: &Fact) {
        let broker = self.connections.get(&fact.seen.connection).map(|(_, broker)| *broker);
        self.topics.learn(fact, broker);
        match &fact.deed {
            Deed::Produce { partitions, .. } => {
                for produced in partitions {
                    self.produced(fact, broker, produced);
                }
            }
            Deed::Fetch { read_committed, by_consumer: true, partitions } => {
                for fetched in partitions.iter().filter(|fetched| !fetched.batches.is_empty()) {
                    self.fetched(fact, broker, fetched, *read_committed);
                }
            }
            Deed::EndTxn { asked, committed, error, .. } => {
                let of = (asked.producer_id, asked.producer_epoch);
                let Some(values) = self.open.get(&of) else { return };
                let what = if *committed { "commit" } else { "abort" };
                let answer = answer_words(*error);
                for &value in values {
                    let said = format!("asked to {what} it and was answered {answer}");
                    push(&mut self.values[value].ended, Line { seen: fact.seen, said });
                }
                if *error == Some(0) {
                    self.open.remove(&of);
                }
            }
            _ => {}
        }
    }

    /// Which partition of the workload a message means, if any.
    fn partition(
        &mut self,
        broker: Option<SocketAddr>,
        topic: &crate::history::facts::Topic,
        partition: i32,
    ) -> Option<(u64, i32)> {
        let cluster = self.topics.cluster(broker);
        let log = self.topics.log(cluster, topic, partition)?;
        if let Some(known) = self.logs.get(&log) {
            return *known;
        }
        let (name, partition) = self.topics.names(log);
        let split = name.rfind('t')?;
        let number = name[split + 1..].parse().ok()?;
        let found = self.by_record.contains_key(&(number, partition));
        // The first topics of the workload's form decide which run this is about.
        let is_ours =
            found && *self.prefix.get_or_insert(name[..split].to_owned()) == name[..split];
        let known = is_ours.then_some((number, partition));
        self.logs.insert(log, known);
        known
    }

    fn produced(&mut self, fact: &Fact, broker: Option<SocketAddr>, produced: &Produced) {
        let of = self.partition(broker, &produced.topic, produced.partition);
        let Some(sought) = of.and_then(|of| self.by_record.get(&of)) else { return };
        for batch in &produced.batches {
            for &(at, hash) in &batch.records {
                let Some(&number) = sought.get(&hash) else { continue };
                let value = &mut self.values[number];
                let answer = match produced.answer {
                    Some((0, base, _)) => {
                        // Offsets of a request count from the batch's own first.
                        let offset = base + (at - batch.header.base_offset.0);
                        value.acknowledged = Some(offset);
                        format!("with offset {offset}")
                    }
                    answer => answer_words(answer.map(|(error, ..)| error)),
                };
                let said = format!("carried it and was answered {answer}");
                push(&mut value.sent, Line { seen: fact.seen, said });
                if batch.header.is_transactional() {
                    let of = (batch.header.producer_id.0, batch.header.producer_epoch.0);
                    self.open.entry(of).or_default().push(number);
                }
            }
        }
    }

    fn fetched(
        &mut self,
        fact: &Fact,
        broker: Option<SocketAddr>,
        fetched: &Fetched,
        read_committed: bool,
    ) {
        let of = self.partition(broker, &fetched.topic, fetched.partition);
        let Some(sought) = of.and_then(|of| self.by_record.get(&of)) else { return };
        let handed = if read_committed { fetched.handed_on() } else { Vec::new() };
        let mut here: Vec<usize> = Vec::new();
        for (place, batch) in fetched.batches.iter().enumerate() {
            for &(offset, hash) in &batch.records {
                let Some(&number) = sought.get(&hash) else { continue };
                here.push(number);
                let value = &mut self.values[number];
                if value.fetched.iter().any(|(known, _)| *known == offset) {
                    continue;
                }
                let hidden = match handed.get(place) {
                    Some(Some(false)) => ", among what it says was aborted",
                    _ => "",
                };
                let said = format!("returned it at offset {offset}{hidden}");
                if value.fetched.len() < TOLD_MAX {
                    value.fetched.push((offset, Line { seen: fact.seen, said }));
                }
            }
        }
        let offsets = fetched.batches.first().zip(fetched.batches.last());
        let Some((first, last)) = offsets else { return };
        let (first, last) = (first.header.base_offset.0, last.header.last_offset().0);
        for &number in sought.values() {
            let value = &mut self.values[number];
            let is_passed = value.passed.is_none()
                && value.acknowledged.is_some_and(|offset| first <= offset && offset <= last)
                && !here.contains(&number);
            if is_passed {
                let said = format!("returned offsets {first} to {last} without it");
                value.passed = Some(Line { seen: fact.seen, said });
            }
        }
    }

    /// Tells the cases of the verdict what was found.
    pub fn add_to(self, verdict: &mut Verdict) {
        for (name, found) in &mut verdict.anomalies {
            if find_anomaly(name).is_some_and(|row| row.source.is_queue()) {
                found.cases.iter_mut().for_each(|case| self.tell(case));
            }
        }
    }

    fn tell(&self, case: &mut Case) {
        for (key, value) in about(case) {
            let partition = (key / KEYS_A_TOPIC, (key % KEYS_A_TOPIC) as i32);
            let hash = hash_of_bare_record(&value.to_be_bytes());
            let of_partition = self.by_record.get(&partition);
            let Some(&number) = of_partition.and_then(|sought| sought.get(&hash)) else { continue };
            let Sought { key, value, sent, ended, fetched, passed, .. } = &self.values[number];
            if sent.is_empty() {
                case.wire.push(format!("{value} for key {key}: no Produce here carried it."));
            }
            let of = |api, lines: &[Line]| lines.iter().map(|line| (api, line.clone())).collect();
            let mut told: Vec<(&str, Line)> = of("Produce", sent);
            told.extend::<Vec<_>>(of("EndTxn", ended));
            let returns: Vec<Line> = fetched.iter().map(|(_, line)| line.clone()).collect();
            told.extend::<Vec<_>>(of("Fetch", &returns));
            told.extend(passed.iter().map(|line| ("Fetch", line.clone())));
            for (api, line) in told {
                case.wire.push(format!("{value} for key {key}: {}.", self.words(api, &line)));
                self.name(case, &line.seen);
            }
            if fetched.is_empty() {
                case.wire.push(format!("{value} for key {key}: no Fetch here returned it."));
            }
        }
    }

    fn words(&self, api: &str, line: &Line) -> String {
        let Seen { connection, correlation_id, request, response } = &line.seen;
        let began = self.began_ns.unwrap_or(0);
        let at = super::explain::moment(request.time_ns.saturating_sub(began));
        let frames = match response {
            Some(Moment { packet, .. }) => format!("frames {} and {packet}", request.packet),
            None => format!("frame {}", request.packet),
        };
        let on = self.connection_name(*connection);
        format!("{api} {correlation_id} of {on} ({frames}, {at}) {}", line.said)
    }

    fn connection_name(&self, connection: Connection) -> String {
        match self.connections.get(&connection) {
            Some((client, broker)) => format!("{client}-{broker}"),
            None => connection.0.to_string(),
        }
    }

    fn name(&self, case: &mut Case, seen: &Seen) {
        let name = ExchangeName {
            connection: self.connection_name(seen.connection),
            correlation_id: seen.correlation_id,
            time_ns: seen.request.time_ns,
        };
        if !case.exchanges.contains(&name) {
            case.exchanges.push(name);
        }
        for moment in [Some(seen.request), seen.response].into_iter().flatten() {
            let (number, file) = (moment.packet.number, moment.packet.file);
            let file = u16::try_from(file).unwrap_or(u16::MAX);
            if !case.packets().any(|known| known == (file, number)) {
                case.frames.push(number);
                case.frame_files.push(file);
            }
        }
    }
}

fn push(lines: &mut Vec<Line>, line: Line) {
    if lines.len() < TOLD_MAX {
        lines.push(line);
    }
}

fn answer_words(error: Option<i16>) -> String {
    match error {
        None => "by nothing".into(),
        Some(0) => "without an error".into(),
        Some(error) => format!("with error {}", kafka_wire::ErrorCode(error)),
    }
}

/// The cases that operations show.
fn cases(verdict: &Verdict) -> impl Iterator<Item = &Case> {
    let is_ours = |name: &str| find_anomaly(name).is_some_and(|row| row.source.is_queue());
    let found = verdict.anomalies.iter().filter(move |(name, _)| is_ours(name));
    found.flat_map(|(_, found)| &found.cases)
}

/// The keys and values a case is about.
fn about(case: &Case) -> Vec<(u64, i64)> {
    let mut about = Vec::new();
    let mut add = |key: Option<&Json>, value: &Json| {
        if let (Some(key), Some(value)) = (key.and_then(Json::as_u64), value.as_i64())
            && about.len() < VALUES_OF_CASE_MAX
            && !about.contains(&(key, value))
        {
            about.push((key, value));
        }
    };
    for name in ["value", "values", "skipped"] {
        match case.field(name) {
            Some(Json::Array(values)) => {
                values.iter().for_each(|value| add(case.field("key"), value));
            }
            Some(value) => add(case.field("key"), value),
            None => {}
        }
    }
    for step in case.cycle.iter().flat_map(|cycle| &cycle.edges).map(|edge| &edge.step) {
        for name in ["value", "value'"] {
            add(step.get("key"), &step[name]);
        }
    }
    about
}
