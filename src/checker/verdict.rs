//! What was found, in the order people and machines read it.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value as Json;

use super::anomaly::{ANOMALIES, find_anomaly, rank};

/// Whether a history keeps to what was expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Nothing bad was found.
    True,
    /// Something bad was found.
    False,
    /// Nothing could be judged.
    Unknown,
}

impl Serialize for Validity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::True => serializer.serialize_bool(true),
            Self::False => serializer.serialize_bool(false),
            Self::Unknown => serializer.serialize_str("unknown"),
        }
    }
}

/// An exchange named by connection and correlation id.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExchangeName {
    /// `client-broker`, as `dissect` writes it.
    pub connection: String,
    /// The id of request and response.
    pub correlation_id: i32,
    /// When its request was seen, in nanoseconds since 1970; 0 where that is not known.
    #[serde(skip)]
    pub time_ns: u64,
}

/// One example of an anomaly, with its proof.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// What it is about: key, value, offset and so on, by name, in the order to show them.
    pub fields: Vec<(&'static str, Json)>,
    /// The operations that prove it, by index.
    pub operations: Vec<u64>,
    /// The exchanges that prove it, where the history has them.
    pub exchanges: Vec<ExchangeName>,
    /// The packets that prove it, by number from 1.
    pub frames: Vec<u64>,
    /// Of each of them the capture it is in, counted from 0.
    pub frame_files: Vec<u16>,
    /// What those exchanges said, in words, where operations show it.
    pub wire: Vec<String>,
    /// Why it is one, in two to six sentences.
    pub explanation: String,
    /// For a cycle, the operations and edges to draw.
    pub cycle: Option<super::explain::Cycle>,
}

impl Case {
    /// The packets that prove it: the capture each is in, and its number there.
    pub fn packets(&self) -> impl Iterator<Item = (u16, u64)> {
        let files = self.frame_files.iter().copied().chain(std::iter::repeat(0));
        files.zip(self.frames.iter().copied())
    }

    /// The field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Json> {
        self.fields.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

impl Serialize for Case {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("operations", &self.operations)?;
        if !self.exchanges.is_empty() {
            map.serialize_entry("exchanges", &self.exchanges)?;
        }
        if !self.frames.is_empty() {
            map.serialize_entry("frames", &self.frames)?;
        }
        // Where all is in one capture, nobody needs to be told.
        if self.frame_files.iter().any(|file| *file != 0) {
            map.serialize_entry("frame_files", &self.frame_files)?;
        }
        if !self.wire.is_empty() {
            map.serialize_entry("wire", &self.wire)?;
        }
        map.serialize_entry("explanation", &self.explanation)?;
        map.end()
    }
}

/// All that was found under one name.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Found {
    /// How many there are, whatever is shown.
    pub count: u64,
    /// Whether they make the history invalid.
    pub bad: bool,
    /// Those shown.
    pub cases: Vec<Case>,
}

/// A primary anomaly and what was found only because of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Group {
    /// The cause.
    pub primary: String,
    /// The rest.
    pub consequences: Vec<String>,
}

/// How many operations there were, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcomes {
    /// All.
    pub operations: u64,
    /// That happened.
    pub ok: u64,
    /// That did not.
    pub fail: u64,
    /// That may have.
    pub info: u64,
}

/// What the history was made of.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Stats {
    /// Operations of clients.
    #[serde(flatten)]
    pub outcomes: Outcomes,
    /// Keys.
    pub keys: u64,
    /// The same by what they do.
    pub by_f: BTreeMap<String, Outcomes>,
    /// The poll that was furthest behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_realtime_lag: Option<Lag>,
}

/// How far behind a poll was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Lag {
    /// When the poll was invoked, in nanoseconds.
    pub time: u64,
    /// Whose it was.
    pub process: Json,
    /// Of which key.
    pub key: Json,
    /// For how long, at least, the log had held more than the process had read.
    pub lag: u64,
}

/// How often an invariant could be checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Checks {
    /// How often it was.
    pub checked: u64,
    /// How often something it needs was not in the input.
    pub could_not: u64,
}

/// What the exchanges of the input amounted to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct WireStats {
    /// Requests with their responses.
    pub exchanges: u64,
    /// Connections.
    pub connections: u64,
    /// Bytes that no frame explains.
    pub undecoded_bytes: u64,
    /// Places where bytes are missing.
    pub gaps: u64,
    /// How often each invariant was checked, by name.
    pub checks: BTreeMap<&'static str, Checks>,
}

/// What is wrong with a file, which was judged as far as it goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FileDamage {
    /// Which file.
    pub path: String,
    /// What is wrong.
    pub error: String,
    /// Where, in the uncompressed file.
    pub byte_offset: u64,
}

/// How long it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Elapsed {
    /// Reading.
    pub read: f64,
    /// Judging.
    pub check: f64,
}

/// The judgement of one history.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Verdict {
    /// Whether it keeps to what was expected.
    pub valid: Validity,
    /// The first cause.
    pub primary: Option<String>,
    /// The types that make it invalid, sorted.
    pub bad_types: Vec<String>,
    /// All types found, sorted.
    pub types: Vec<String>,
    /// What was found, by name.
    pub anomalies: BTreeMap<String, Found>,
    /// Causes with their consequences, the first cause first.
    pub groups: Vec<Group>,
    /// What the history was made of.
    pub stats: Stats,
    /// Oddities of the history, and what a reader of the verdict should know.
    pub observations: Vec<String>,
    /// The first file that is damaged or cut off, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileDamage>,
    /// The exchanges, where the input had any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<WireStats>,
    /// How long it took, where anyone measured.
    #[serde(skip_serializing_if = "Option::is_none", rename = "elapsed_s")]
    pub elapsed: Option<Elapsed>,
}

impl Verdict {
    /// The verdict on what was found. `judged` says whether anything could be.
    #[must_use]
    pub fn new(
        anomalies: BTreeMap<String, Found>,
        stats: Stats,
        observations: Vec<String>,
        judged: bool,
    ) -> Self {
        let mut verdict = Self {
            valid: if judged { Validity::True } else { Validity::Unknown },
            primary: None,
            bad_types: Vec::new(),
            types: Vec::new(),
            anomalies,
            groups: Vec::new(),
            stats,
            observations,
            file: None,
            wire: None,
            elapsed: None,
        };
        verdict.conclude();
        verdict
    }

    /// Adds what another check found, and concludes anew.
    pub fn merge(&mut self, found: impl IntoIterator<Item = (String, Found)>) {
        for (name, more) in found {
            let all = self.anomalies.entry(name).or_default();
            all.count += more.count;
            all.bad |= more.bad;
            all.cases.extend(more.cases);
        }
        if self.valid == Validity::Unknown && !self.anomalies.is_empty() {
            self.valid = Validity::True;
        }
        self.conclude();
    }

    /// Adds what the exchanges show, and concludes anew.
    pub fn add_wire(&mut self, wire: super::wire::WireFound) {
        if wire.judged && self.valid == Validity::Unknown {
            self.valid = Validity::True;
        }
        self.wire = Some(wire.stats);
        self.merge(wire.anomalies);
    }

    /// Takes back what nothing else bears out, for the reason given.
    pub fn withdraw(&mut self, name: &str, reason: String) {
        if self.anomalies.remove(name).is_some() {
            self.observations.push(reason);
            self.valid = Validity::Unknown;
            self.conclude();
        }
    }

    /// Holds nothing of what was found against the brokers, for the reason given.
    pub fn pardon(&mut self, reason: String) {
        self.observations.push(reason);
        self.anomalies.values_mut().for_each(|found| found.bad = false);
        if self.valid == Validity::False {
            self.valid = Validity::True;
        }
        self.conclude();
    }

    fn conclude(&mut self) {
        self.anomalies.retain(|_, found| found.count > 0);
        self.types = self.anomalies.keys().cloned().collect();
        self.bad_types =
            self.anomalies.iter().filter(|(_, f)| f.bad).map(|(name, _)| name.clone()).collect();
        if !self.bad_types.is_empty() {
            self.valid = Validity::False;
        }
        self.primary = self.bad_types.iter().min_by_key(|name| rank(name)).cloned();
        self.groups = groups(&self.anomalies);
    }
}

/// Puts every type under the first cause that can explain all that is shown of it: one whose row
/// names it as a consequence and whose cases share a place with its own. Operations name places by
/// key, exchanges by topic and partition; where the two meet, no place is asked for.
fn groups(anomalies: &BTreeMap<String, Found>) -> Vec<Group> {
    let mut order: Vec<&String> = anomalies.keys().collect();
    order.sort_by_key(|name| (!anomalies[*name].bad, rank(name)));
    let mut groups: Vec<Group> = Vec::new();
    for name in order {
        let under = groups.iter_mut().find(|group| {
            let (cause, found) = (&anomalies[&group.primary], &anomalies[name]);
            let can = find_anomaly(&group.primary)
                .is_some_and(|row| row.consequences.contains(&name.as_str()));
            can && !is_normal_beside(cause, name, found) && may_be_of(cause, found)
        });
        match under {
            Some(group) => group.consequences.push(name.clone()),
            None => groups.push(Group { primary: name.clone(), consequences: Vec::new() }),
        }
    }
    debug_assert!(groups.len() <= ANOMALIES.len() + anomalies.len());
    groups
}

/// Whether a cycle is of the kind that brokers without fault show too: it then says nothing of a
/// cause that is a fault.
fn is_normal_beside(cause: &Found, name: &str, found: &Found) -> bool {
    cause.bad && !found.bad && find_anomaly(name).is_some_and(|row| row.shape.is_some())
}

/// Whether two findings share a place, as far as their cases name places in the same way.
fn may_be_of(cause: &Found, found: &Found) -> bool {
    let key = |case: &Case| Some(case.field("key")?.to_string());
    let partition = |case: &Case| {
        Some(format!("{}-{}", case.field("topic")?.as_str()?, case.field("partition")?))
    };
    shares(cause, found, key).or_else(|| shares(cause, found, partition)).unwrap_or(true)
}

/// The same for one way to name places; absent where one of the two does not use it.
fn shares(a: &Found, b: &Found, place: impl Fn(&Case) -> Option<String>) -> Option<bool> {
    let of = |found: &Found| found.cases.iter().filter_map(&place).collect::<BTreeSet<String>>();
    let (a, b) = (of(a), of(b));
    (!a.is_empty() && !b.is_empty()).then(|| !a.is_disjoint(&b))
}
