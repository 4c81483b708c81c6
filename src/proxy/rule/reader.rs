//! Turns the conditions of a rule into a few fields of a body, and a body into yes or no.
//!
//! Which field holds a transactional id, a group or a topic is read from the schema table, so that
//! a new API is understood as soon as the table has it. Paths are resolved once; reading allocates
//! nothing.
//!
//! Never: guesses where a body cannot be walked: what was not found does not match.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::ApiKey;
use kafka_wire::batch::{BatchHeader, BatchIter};
use kafka_wire::schema::{
    self, Field, FieldId, FieldKind, Flow, Hit, Layout, Lookups, Scalar, VersionRange,
};

use super::condition::{Match, Versions, is_uuid};
use super::fit::Misfit;
use super::topics::Topics;
use crate::history::tap::Direction;

/// Arrays around a field, at most, that a topic and its partitions are told apart by.
const INDEXES: usize = 4;

/// What is asked of a field that is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    TransactionalId,
    ProducerId,
    ProducerEpoch,
    Group,
    Topic,
    Partition,
    /// One of [`Match::fields`].
    Field(usize),
}

/// A condition that a body must meet; the bit it sets.
#[derive(Debug, Clone, Copy)]
struct Bit(u32);

impl Bit {
    const TRANSACTIONAL_ID: Self = Self(0);
    const PRODUCER_ID: Self = Self(1);
    const PRODUCER_EPOCH: Self = Self(2);
    const GROUP: Self = Self(3);
    const TOPIC: Self = Self(4);
    const FIELDS: u32 = 5;

    fn mask(self) -> u32 {
        1 << self.0
    }
}

/// Conditions on fields that one rule may have at most: what a mask has bits for.
pub(super) const FIELDS_MAX: usize = 32 - Bit::FIELDS as usize;

/// Reads what a rule asks of the bodies of one API in one direction.
#[derive(Debug)]
pub struct Reader {
    lookups: Lookups,
    /// By slot.
    asks: Vec<Vec<Ask>>,
    needed: u32,
}

impl Reader {
    /// What a rule asks of the bodies of an API in one direction; absent where it asks nothing.
    ///
    /// # Errors
    /// In words, where no version that is meant has a field for a condition.
    pub fn new(when: &Match, api_key: ApiKey, of: Direction) -> Result<Option<Self>, Misfit> {
        let mut paths: BTreeMap<String, Vec<Ask>> = BTreeMap::new();
        let mut needed = 0;
        for (ask, bit, key) in asked(when, of) {
            let found = paths_of(api_key, of, &ask, when);
            if !found.iter().any(|path| in_versions(api_key, of, path, when.versions)) {
                let which = versions_meant(when.versions);
                let half = half(of);
                let reason = format!("{api_key} {half}{which} has no {}", what(&key));
                return Err(Misfit::new(key, reason));
            }
            found.into_iter().for_each(|path| paths.entry(path).or_default().push(ask));
            needed |= bit.mask();
        }
        if paths.is_empty() {
            return Ok(None);
        }
        let names: Vec<&str> = paths.keys().map(String::as_str).collect();
        let lookups = Lookups::new(api_key, of_schema(of), &names)
            .map_err(|error| Misfit::new("", error.to_string()))?;
        Ok(Some(Self { lookups, asks: paths.into_values().collect(), needed }))
    }

    /// Whether a body of that version meets every condition, where its topic ids name these.
    #[must_use]
    pub fn matches(&self, when: &Match, topics: &Topics, version: i16, body: &[u8]) -> bool {
        let Some(lookup) = self.lookups.at(version) else { return false };
        let mut met = Met { when, topics, bits: 0, topic: None };
        lookup.read(body, |hit| {
            self.asks[hit.slot].iter().for_each(|ask| met.look(*ask, &hit));
            if met.bits & self.needed == self.needed {
                return Flow::Break(());
            }
            Flow::Continue(())
        });
        met.bits & self.needed == self.needed
    }
}

/// What a body has met so far.
struct Met<'m> {
    when: &'m Match,
    topics: &'m Topics,
    bits: u32,
    /// Where the last topic that fits stands.
    topic: Option<[Option<u32>; INDEXES]>,
}

impl Met<'_> {
    fn look(&mut self, ask: Ask, hit: &Hit<'_, '_>) {
        let (when, value) = (self.when, hit.value);
        if let (Ask::ProducerId | Ask::ProducerEpoch, Scalar::Records(records)) = (ask, value) {
            return self.batches(records);
        }
        let text = |pattern: &Option<super::Pattern>| {
            let is = |bytes| pattern.as_ref().is_some_and(|pattern| pattern.matches(bytes));
            value.as_bytes().is_some_and(is)
        };
        let met = match ask {
            Ask::TransactionalId => text(&when.transactional_id).then_some(Bit::TRANSACTIONAL_ID),
            Ask::Group => text(&when.group).then_some(Bit::GROUP),
            Ask::ProducerId => {
                (value.as_int() == when.producer_id.map(|id| id.0)).then_some(Bit::PRODUCER_ID)
            }
            Ask::ProducerEpoch => {
                let wanted = when.producer_epoch.map(|epoch| i64::from(epoch.0));
                (value.as_int() == wanted).then_some(Bit::PRODUCER_EPOCH)
            }
            Ask::Topic => {
                let topic = when.topic.as_ref();
                let fits = match value {
                    Scalar::Uuid(id) => topic.is_some_and(|topic| {
                        let name = self.topics.name(id);
                        is_uuid(&topic.0, id) || name.is_some_and(|name| topic.matches(name))
                    }),
                    _ => text(&when.topic),
                };
                self.topic = fits.then(|| indexes(hit));
                (fits && when.partition.is_none()).then_some(Bit::TOPIC)
            }
            Ask::Partition => {
                let of_topic = when.topic.is_none()
                    || self.topic.is_some_and(|topic| is_within(&topic, &indexes(hit)));
                let fits = value.as_int() == when.partition.map(i64::from);
                (fits && of_topic).then_some(Bit::TOPIC)
            }
            Ask::Field(index) => {
                let fits = when.fields.get(index).is_some_and(|field| field.matches(value));
                fits.then_some(Bit(Bit::FIELDS + index as u32))
            }
        };
        self.bits |= met.map_or(0, Bit::mask);
    }

    /// One batch with the producer id and the epoch that are asked for.
    fn batches(&mut self, records: &[u8]) {
        let fits = |header: &BatchHeader| {
            self.when.producer_id.is_none_or(|id| id == header.producer_id)
                && self.when.producer_epoch.is_none_or(|epoch| epoch == header.producer_epoch)
        };
        if BatchIter::new(records).flatten().any(|batch| fits(&batch.header)) {
            self.bits |= Bit::PRODUCER_ID.mask() | Bit::PRODUCER_EPOCH.mask();
        }
    }
}

fn indexes(hit: &Hit<'_, '_>) -> [Option<u32>; INDEXES] {
    let mut indexes = [None; INDEXES];
    for (to, index) in indexes.iter_mut().zip(hit.place.indexes()) {
        *to = Some(index);
    }
    indexes
}

fn is_within(outer: &[Option<u32>], inner: &[Option<u32>]) -> bool {
    outer.iter().zip(inner).all(|(outer, inner)| outer.is_none() || outer == inner)
}

/// What a condition's key means, in words.
fn what(key: &str) -> String {
    match key.split_once('.') {
        Some((_, path)) => format!("field {path}"),
        None => key.replace('-', " "),
    }
}

/// The conditions of a rule on the bodies of one direction, each with its key.
fn asked(when: &Match, of: Direction) -> Vec<(Ask, Bit, String)> {
    let mut asked = Vec::new();
    if of == Direction::Request {
        let named = [
            (when.transactional_id.is_some(), Ask::TransactionalId, Bit::TRANSACTIONAL_ID),
            (when.producer_id.is_some(), Ask::ProducerId, Bit::PRODUCER_ID),
            (when.producer_epoch.is_some(), Ask::ProducerEpoch, Bit::PRODUCER_EPOCH),
            (when.group.is_some(), Ask::Group, Bit::GROUP),
            (when.topic.is_some(), Ask::Topic, Bit::TOPIC),
            (when.partition.is_some(), Ask::Partition, Bit::TOPIC),
        ];
        for (is, ask, bit) in named {
            let key = match ask {
                Ask::TransactionalId => "transactional-id",
                Ask::ProducerId => "producer-id",
                Ask::ProducerEpoch => "producer-epoch",
                Ask::Group => "group",
                Ask::Topic => "topic",
                _ => "partition",
            };
            if is {
                asked.push((ask, bit, key.to_owned()));
            }
        }
    }
    for (index, field) in when.fields.iter().enumerate().take(FIELDS_MAX) {
        if field.of == of {
            let bit = Bit(Bit::FIELDS + index as u32);
            asked.push((Ask::Field(index), bit, format!("{}.{}", half(of), field.path)));
        }
    }
    asked
}

/// The paths under which any version of an API has what is asked for.
fn paths_of(api_key: ApiKey, of: Direction, ask: &Ask, when: &Match) -> BTreeSet<String> {
    if let Ask::Field(index) = ask {
        return when.fields.get(*index).map(|field| field.path.clone()).into_iter().collect();
    }
    let mut paths = BTreeSet::new();
    for layout in layouts(api_key, of) {
        add_paths(layout, layout.fields(), ask, &mut paths);
    }
    paths
}

fn add_paths<'l>(
    layout: &'l Layout,
    fields: impl Iterator<Item = (FieldId, &'l Field)>,
    ask: &Ask,
    paths: &mut BTreeSet<String>,
) {
    for (id, field) in fields {
        if field.kind() == FieldKind::Struct {
            add_paths(
                layout,
                Box::new(layout.children(id)) as Box<dyn Iterator<Item = _>>,
                ask,
                paths,
            );
        } else if holds(field, ask) {
            paths.insert(layout.path(id));
        }
    }
}

/// Whether a field holds what is asked for.
fn holds(field: &Field, ask: &Ask) -> bool {
    let entity = field.definition().entity;
    let name = field.name();
    match (ask, field.kind()) {
        (Ask::TransactionalId, FieldKind::String) => entity == Some("transactionalId"),
        (Ask::ProducerId, FieldKind::Int64) => entity == Some("producerId"),
        (Ask::ProducerEpoch, FieldKind::Int16) => name.ends_with("producer_epoch"),
        // Produce carries both in its batches.
        (Ask::ProducerId | Ask::ProducerEpoch, FieldKind::Records) => true,
        (Ask::Group, FieldKind::String) => entity == Some("groupId"),
        (Ask::Topic, FieldKind::String) => entity == Some("topicName"),
        // Since KIP-516.
        (Ask::Topic, FieldKind::Uuid) => name == "topic_id",
        (Ask::Partition, FieldKind::Int32) => match name {
            "partition_index" | "partition" | "index" => !field.is_array(),
            "partitions" | "partition_indexes" => field.is_array(),
            _ => false,
        },
        _ => false,
    }
}

pub(super) fn layouts(api_key: ApiKey, of: Direction) -> impl Iterator<Item = &'static Layout> {
    let message = schema::message(api_key, of_schema(of));
    message.into_iter().flat_map(|message| {
        let VersionRange { min, max } = message.versions();
        (min..=max).filter_map(move |version| message.layout(version))
    })
}

/// Whether a version that is meant has a field at the path, indexes left out.
pub(super) fn in_versions(
    api_key: ApiKey,
    of: Direction,
    path: &str,
    versions: Option<Versions>,
) -> bool {
    layouts(api_key, of)
        .filter(|layout| versions.is_none_or(|versions| versions.contains(layout.version())))
        .any(|layout| layout.find(path).is_some())
}

/// ` v3-4`, for messages.
pub(super) fn versions_meant(versions: Option<Versions>) -> String {
    versions.map(|versions| format!(" v{versions}")).unwrap_or_default()
}

pub(super) fn half(of: Direction) -> &'static str {
    match of {
        Direction::Request => "request",
        Direction::Response => "response",
    }
}

pub(super) fn of_schema(direction: Direction) -> schema::Direction {
    match direction {
        Direction::Request => schema::Direction::Request,
        Direction::Response => schema::Direction::Response,
    }
}
