//! What brokers name by themselves (producer ids, topic ids, member ids, fetch sessions, their own
//! addresses): what the recorded answers said, and what the new ones say in its place.
//!
//! Learnt from pairs of answers: the same field at the same place names the same thing. Elements of
//! arrays are the same where what identifies them is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use kafka_wire::batch::{BatchIter, reseal, rewrite_header};
use kafka_wire::ids::{ProducerEpoch, ProducerId};
use kafka_wire::schema::{Fields, Value};
use rustc_hash::FxHashMap;

/// Recorded names and the new ones.
#[derive(Debug, Default)]
pub(super) struct Names {
    producers: FxHashMap<(i64, i64), (i64, i64)>,
    /// The same where no epoch stands beside the id.
    producer_ids: FxHashMap<i64, i64>,
    uuids: FxHashMap<[u8; 16], [u8; 16]>,
    texts: FxHashMap<String, String>,
    /// Generations, and epochs of members, by the recorded member.
    generations: FxHashMap<(String, i64), i64>,
    sessions: FxHashMap<i64, i64>,
    brokers: BTreeMap<(String, i64), String>,
}

/// Fields that say which element of an array a struct is, the first that is there.
const IDENTITIES: &[&str] = &[
    "name",
    "topic",
    "topic_name",
    "topic_id",
    "group_id",
    "key",
    "transactional_id",
    "node_id",
    "partition_index",
    "partition",
    "index",
    "api_key",
    "resource_name",
];

/// How producers are named, id and epoch. AddPartitionsToTxn has its own names until v3 (KIP-890).
const PRODUCERS: [[&str; 2]; 2] = [
    ["producer_id", "producer_epoch"],
    ["v3_and_below_producer_id", "v3_and_below_producer_epoch"],
];

/// What the generation of a member is called, and since KIP-848 its epoch.
const GENERATIONS: [&str; 3] = ["generation_id", "generation_id_or_member_epoch", "member_epoch"];

/// Which element of `among` is the same as the one at `index` of its own array.
pub(super) fn twin<'v>(element: &Value, index: usize, among: &'v [Value]) -> Option<&'v Value> {
    let identity = element.as_struct().and_then(identity);
    match identity {
        None => among.get(index),
        Some((name, value)) => among.iter().find(|other| {
            other.as_struct().and_then(|other| other.field(name)).is_some_and(|v| v == value)
        }),
    }
}

fn identity(fields: &Fields) -> Option<(&'static str, &Value)> {
    let named = |name: &&'static str| Some((*name, fields.field(name)?));
    IDENTITIES.iter().filter_map(named).find(|(_, value)| {
        !matches!(value, Value::Null)
            && **value != Value::Uuid([0; 16])
            && value.as_str() != Some("")
    })
}

impl Names {
    /// Learns from a recorded answer and the new one.
    pub(super) fn learn(&mut self, recorded: &Fields, answered: &Fields) {
        let int = |fields: &Fields, name| fields.field(name).and_then(Value::as_int);
        let pair = |name| Some((int(recorded, name)?, int(answered, name)?));
        if let (Some(ids), Some(epochs)) = (pair("producer_id"), pair("producer_epoch"))
            && ids.0 >= 0
            && ids.1 >= 0
        {
            self.producers.insert((ids.0, epochs.0), (ids.1, epochs.1));
            self.producer_ids.insert(ids.0, ids.1);
        }
        let member = recorded.field("member_id").and_then(Value::as_str);
        let generation = pair("generation_id").or_else(|| pair("member_epoch"));
        if let (Some(member), Some((old, new))) = (member, generation)
            && old >= 0
            && new >= 0
        {
            self.generations.insert((member.to_owned(), old), new);
        }
        if let Some((old, new)) = pair("session_id")
            && old != 0
        {
            self.sessions.insert(old, new);
        }
        for name in ["member_id", "leader"] {
            let text = |fields: &Fields| fields.field(name)?.as_str().map(str::to_owned);
            if let (Some(old), Some(new)) = (text(recorded), text(answered))
                && !old.is_empty()
            {
                self.texts.insert(old, new);
            }
        }
        if let (Some(Value::Uuid(old)), Some(Value::Uuid(new))) =
            (recorded.field("topic_id"), answered.field("topic_id"))
            && *old != [0; 16]
        {
            self.uuids.insert(*old, *new);
        }
        let address = |fields: &Fields| {
            Some((fields.field("host")?.as_str()?.to_owned(), int(fields, "port")?))
        };
        if let (Some(old), Some((host, port))) = (address(recorded), address(answered)) {
            self.brokers.insert(old, format!("{host}:{port}"));
        }
        for (name, value) in recorded.iter() {
            match (value, answered.field(name)) {
                (Value::Struct(old), Some(Value::Struct(new))) => self.learn(old, new),
                (Value::Array(old), Some(Value::Array(new))) => self.learn_elements(old, new),
                _ => {}
            }
        }
    }

    fn learn_elements(&mut self, recorded: &[Value], answered: &[Value]) {
        for (index, element) in recorded.iter().enumerate() {
            let other = twin(element, index, answered);
            if let (Value::Struct(old), Some(Value::Struct(new))) = (element, other) {
                self.learn(old, new);
            }
        }
    }

    /// Where the broker of a recorded connection is now, as far as is known.
    pub(super) fn broker(&self, recorded: SocketAddr) -> Option<&str> {
        let port = i64::from(recorded.port());
        let exact = self.brokers.get(&(recorded.ip().to_string(), port));
        let by_port = || self.brokers.iter().find(|((_, p), _)| *p == port).map(|(_, new)| new);
        exact.or_else(by_port).map(String::as_str)
    }

    /// Puts new names in place of recorded ones; whether any was there.
    pub(super) fn apply(&self, fields: &mut Fields) -> bool {
        let mut changed = false;
        for [id_name, epoch_name] in PRODUCERS {
            let int = |name| fields.field(name).and_then(Value::as_int);
            let (id, epoch) = (int(id_name), int(epoch_name));
            let (producer, alone) = (id.zip(epoch), id.filter(|_| epoch.is_none()));
            if let Some(&(id, epoch)) = producer.and_then(|key| self.producers.get(&key)) {
                changed |= Some((id, epoch)) != producer;
                fields.set(id_name, id);
                fields.set(epoch_name, epoch);
            }
            if let Some(&id) = alone.and_then(|id| self.producer_ids.get(&id)) {
                changed |= Some(id) != alone;
                fields.set(id_name, id);
            }
        }
        // The recorded member names its generation: this comes before its own name is replaced.
        let member = fields.field("member_id").and_then(Value::as_str).map(str::to_owned);
        for name in GENERATIONS {
            let old = fields.field(name).and_then(Value::as_int);
            let new = member.clone().zip(old).and_then(|key| self.generations.get(&key));
            if let Some(&new) = new {
                changed |= Some(new) != old;
                fields.set(name, new);
            }
        }
        for (name, value) in fields.iter_mut() {
            changed |= self.apply_to(name, value);
        }
        changed
    }

    fn apply_to(&self, name: &str, value: &mut Value) -> bool {
        let new = match (name, &mut *value) {
            (_, Value::Struct(fields)) => return self.apply(fields),
            (_, Value::Array(elements)) => {
                return elements
                    .iter_mut()
                    .fold(false, |changed, element| self.apply_to(name, element) | changed);
            }
            (_, Value::Uuid(uuid)) => self.uuids.get(uuid).map(|new| Value::Uuid(*new)),
            ("session_id", Value::Int(session)) => {
                self.sessions.get(session).map(|new| Value::Int(*new))
            }
            ("member_id" | "leader" | "consumer_id", Value::String(text)) => {
                self.texts.get(text.as_str()).map(|new| Value::String(new.clone()))
            }
            ("records", Value::Bytes(bytes)) => self.records(bytes).map(Value::Bytes),
            _ => None,
        };
        match new {
            Some(new) if new != *value => {
                *value = new;
                true
            }
            _ => false,
        }
    }

    /// Batches of recorded producers under their new names, sealed anew.
    fn records(&self, bytes: &Bytes) -> Option<Bytes> {
        let mut out: Option<BytesMut> = None;
        for batch in BatchIter::new(bytes).flatten() {
            let mut header = batch.header;
            let key = (header.producer_id.0, i64::from(header.producer_epoch.0));
            let Some(&(id, epoch)) = self.producers.get(&key).filter(|_| header.magic == 2) else {
                continue;
            };
            header.producer_id = ProducerId(id);
            header.producer_epoch = ProducerEpoch(i16::try_from(epoch).ok()?);
            let was_sound = batch.check_crc().is_ok();
            let out = out.get_or_insert_with(|| BytesMut::from(&bytes[..]));
            let place = out.get_mut(batch.byte_offset..)?.get_mut(..batch.bytes.len())?;
            // A batch that was damaged stays so.
            if rewrite_header(place, &header) && was_sound {
                reseal(place);
            }
        }
        out.map(BytesMut::freeze)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt() -> Names {
        let topic = |name: &str, id: u8| {
            Fields::new().with("name", name).with("topic_id", Value::Uuid([id; 16]))
        };
        let mut names = Names::default();
        names.learn(
            &Fields::new().with("producer_id", 5).with("producer_epoch", 0),
            &Fields::new().with("producer_id", 900).with("producer_epoch", 2),
        );
        names.learn(
            &Fields::new().with("topics", vec![topic("a", 1), topic("b", 2)]),
            &Fields::new().with("topics", vec![topic("b", 20), topic("a", 10)]),
        );
        names
    }

    #[test]
    fn names_are_learnt_where_the_same_thing_is_named() {
        let mut request = Fields::new()
            .with("producer_id", 5)
            .with("producer_epoch", 0)
            .with("topics", vec![Fields::new().with("topic_id", Value::Uuid([2; 16]))]);
        assert!(learnt().apply(&mut request));
        assert_eq!(request.at("producer_id"), Some(&Value::Int(900)));
        assert_eq!(request.at("producer_epoch"), Some(&Value::Int(2)));
        assert_eq!(request.at("topics[0].topic_id"), Some(&Value::Uuid([20; 16])));

        let mut old_style = Fields::new()
            .with("v3_and_below_producer_id", 5)
            .with("v3_and_below_producer_epoch", 0);
        assert!(learnt().apply(&mut old_style));
        assert_eq!(old_style.at("v3_and_below_producer_id"), Some(&Value::Int(900)));
    }

    #[test]
    fn a_member_names_its_generation() {
        let member = |id: &str, generation: i64| {
            Fields::new().with("generation_id", generation).with("member_id", id)
        };
        let mut names = Names::default();
        names.learn(&member("a-1", 1), &member("a-9", 4));
        let mut request = member("a-1", 1);
        assert!(names.apply(&mut request));
        assert_eq!(request, member("a-9", 4));
        // Of another generation nothing is known.
        let mut request = member("a-1", 2);
        assert!(names.apply(&mut request));
        assert_eq!(request, member("a-9", 2));
    }

    #[test]
    fn what_nobody_named_stays_as_it_is() {
        let request = Fields::new()
            .with("producer_id", 6)
            .with("producer_epoch", 0)
            .with("topic_id", Value::Uuid([7; 16]));
        let mut same = request.clone();
        assert!(!learnt().apply(&mut same));
        assert_eq!(same, request);
    }
}
