//! What an incremental Fetch asks for without saying so: the partitions of its session (KIP-227).
//!
//! Never: keeps more sessions or partitions than its bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::LazyLock;

use kafka_wire::ApiKey;
use kafka_wire::schema::{Direction, Flow, Lookups, Scalar, write_json_bytes, write_uuid};
use rustc_hash::FxHashMap;

/// Sessions that are remembered.
const SESSIONS_MAX: usize = 4_096;
/// Partitions of all sessions that are remembered, each time it was named.
const PARTITIONS_MAX: usize = 262_144;

static REQUEST: LazyLock<Lookups> = LazyLock::new(|| {
    let paths = [
        "session_id",
        "session_epoch",
        "topics.topic",
        "topics.topic_id",
        "topics.partitions.partition",
        "forgotten_topics_data.topic",
        "forgotten_topics_data.topic_id",
        "forgotten_topics_data.partitions",
    ];
    Lookups::new(ApiKey::FETCH, Direction::Request, &paths).expect("the table has these fields")
});

static RESPONSE: LazyLock<Lookups> = LazyLock::new(|| {
    let paths = ["error_code", "session_id"];
    Lookups::new(ApiKey::FETCH, Direction::Response, &paths).expect("the table has these fields")
});

/// A topic as a field of JSON: `"topic":"t"` or `"topic_id":"..."`.
type Topic = String;
type Partitions = BTreeMap<Topic, BTreeSet<i64>>;

/// What a Fetch says of its session.
#[derive(Debug, Default)]
pub struct Asked {
    session_id: i64,
    session_epoch: i64,
    added: Partitions,
    forgotten: Vec<(Topic, i64)>,
}

/// Reads a request; absent where no session is asked for.
#[must_use]
pub fn asked(version: i16, body: &[u8]) -> Option<Asked> {
    let mut asked = Asked { session_epoch: -1, ..Asked::default() };
    let mut topic = Topic::new();
    let walked = REQUEST.at(version)?.read(body, |hit| {
        match (hit.slot, hit.value) {
            (0, Scalar::Int(id)) => asked.session_id = id,
            (1, Scalar::Int(epoch)) => asked.session_epoch = epoch,
            (2 | 5, Scalar::String(name)) => {
                topic.clear();
                topic.push_str("\"topic\":");
                write_json_bytes(&mut topic, name).expect("a String takes every write");
            }
            (3 | 6, Scalar::Uuid(id)) => {
                topic.clear();
                topic.push_str("\"topic_id\":\"");
                write_uuid(&mut topic, id).expect("a String takes every write");
                topic.push('"');
            }
            (4, Scalar::Int(index)) => {
                asked.added.entry(topic.clone()).or_default().insert(index);
            }
            (7, Scalar::Int(index)) => asked.forgotten.push((topic.clone(), index)),
            _ => {}
        }
        Flow::Continue(())
    });
    (walked.stopped.is_none() && asked.session_epoch >= 0).then_some(asked)
}

/// The partitions of sessions, by broker and session id.
#[derive(Debug, Default)]
pub struct Sessions {
    /// With the epoch of the request that comes next.
    known: FxHashMap<(SocketAddr, i64), (i64, Partitions)>,
    partitions: usize,
}

impl Sessions {
    /// Learns from an answered request; the partitions of its session, as JSON, where the request
    /// goes on with one that is known.
    pub fn answered(
        &mut self,
        broker: SocketAddr,
        asked: Asked,
        version: i16,
        body: &[u8],
    ) -> Option<String> {
        let (mut error, mut session_id) = (0, 0);
        RESPONSE.at(version)?.read(body, |hit| {
            let value = hit.value.as_int().unwrap_or_default();
            *(if hit.slot == 0 { &mut error } else { &mut session_id }) = value;
            Flow::Continue(())
        });
        if error != 0 {
            self.known.remove(&(broker, asked.session_id));
            return None;
        }
        self.partitions += asked.added.values().map(BTreeSet::len).sum::<usize>();
        if self.known.len() >= SESSIONS_MAX || self.partitions > PARTITIONS_MAX {
            self.known.clear();
            self.partitions = 0;
        }
        if asked.session_epoch == 0 {
            if session_id != 0 {
                self.known.insert((broker, session_id), (1, asked.added));
            }
            return None;
        }
        let key = (broker, asked.session_id);
        let (next, known) = self.known.get_mut(&key)?;
        if *next != asked.session_epoch {
            // A request in between was not seen, and what it added and forgot is not known.
            self.known.remove(&key);
            return None;
        }
        *next = if asked.session_epoch == i64::from(i32::MAX) { 1 } else { *next + 1 };
        for (topic, partition) in &asked.forgotten {
            if let Some(partitions) = known.get_mut(topic) {
                partitions.remove(partition);
            }
        }
        for (topic, partitions) in asked.added {
            known.entry(topic).or_default().extend(partitions);
        }
        known.retain(|_, partitions| !partitions.is_empty());
        Some(json(known))
    }
}

fn json(partitions: &Partitions) -> String {
    let mut out = String::from("[");
    for (topic, partitions) in partitions {
        let comma = if out.len() > 1 { "," } else { "" };
        write!(out, "{comma}{{{topic},\"partitions\":[").expect("a String takes every write");
        for (at, partition) in partitions.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(out, "{comma}{partition}").expect("a String takes every write");
        }
        out.push_str("]}");
    }
    out.push(']');
    out
}
