//! Which topic an id names, learnt from responses that say both (KIP-516).
//!
//! Since Produce 13 and Fetch 13 requests name topics by id only; whoever asks for a topic by its
//! name has asked for its metadata before, or has made it.
//!
//! Never: asks a broker; grows beyond a bound: what was learnt first is forgotten first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;

use kafka_wire::ApiKey;
use kafka_wire::schema::{self, Direction, FieldId, FieldKind, Flow, Layout, Lookups, Scalar};

/// Ids that are remembered; a cluster has seldom more topics.
const TOPICS_MAX: usize = 100_000;

/// The id of a topic.
pub type TopicId = [u8; 16];

/// The names of topic ids.
#[derive(Debug, Default)]
pub struct Topics {
    names: BTreeMap<TopicId, Box<[u8]>>,
    /// In the order in which they were learnt.
    learnt: VecDeque<TopicId>,
}

impl Topics {
    /// Takes in what an id names.
    pub fn learn(&mut self, id: TopicId, name: &[u8]) {
        if self.names.insert(id, name.into()).is_some() {
            return;
        }
        self.learnt.push_back(id);
        if self.learnt.len() > TOPICS_MAX {
            let oldest = self.learnt.pop_front();
            oldest.map(|id| self.names.remove(&id));
        }
    }

    /// What an id names, where that was learnt.
    #[must_use]
    pub fn name(&self, id: &TopicId) -> Option<&[u8]> {
        self.names.get(id).map(|name| &**name)
    }
}

/// Where responses of one API say both.
#[derive(Debug)]
pub struct Telling {
    lookups: Lookups,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Id,
    Name,
}

/// Where an API's responses say the ids and the names of topics; absent where none does.
#[must_use]
pub fn telling(api_key: ApiKey) -> Option<&'static Telling> {
    static TABLE: OnceLock<Vec<Option<Telling>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let keys = ApiKey::ALL.last().map_or(0, |last| last.0);
        (0..=keys).map(|key| Telling::of(ApiKey(key))).collect()
    });
    table.get(usize::try_from(api_key.0).ok()?)?.as_ref()
}

impl Telling {
    fn of(api_key: ApiKey) -> Option<Self> {
        let message = schema::message(api_key, Direction::Response)?;
        let versions = message.versions();
        let mut places = BTreeMap::new();
        for layout in (versions.min..=versions.max).filter_map(|version| message.layout(version)) {
            add_pairs(layout, None, &mut places);
        }
        let paths: Vec<&str> = places.keys().map(String::as_str).collect();
        let lookups = Lookups::new(api_key, Direction::Response, &paths).ok()?;
        let parts = places.into_values().collect::<Vec<_>>();
        (!parts.is_empty()).then_some(Self { lookups, parts })
    }

    /// Whether responses of that version can say both.
    #[must_use]
    pub fn is_possible(&self, version: i16) -> bool {
        let Some(lookup) = self.lookups.at(version) else { return false };
        let has = |(slot, part): (usize, &Part)| *part == Part::Id && lookup.field(slot).is_some();
        self.parts.iter().enumerate().any(has)
    }

    /// Every id of a body with its name.
    #[must_use]
    pub fn read(&self, body: &[u8], version: i16) -> Vec<(TopicId, Vec<u8>)> {
        let Some(lookup) = self.lookups.at(version) else { return Vec::new() };
        let mut found = Vec::new();
        let (mut id, mut name) = (None, None);
        lookup.read(body, |hit| {
            let place: Vec<_> = hit.place.indexes().collect();
            match (self.parts[hit.slot], hit.value) {
                (Part::Id, Scalar::Uuid(uuid)) => id = Some((place, *uuid)),
                (Part::Name, value) => {
                    name = value.as_bytes().map(|name| (place, name.to_vec()));
                }
                _ => {}
            }
            // Which of the two stands first is not the same everywhere.
            let is_pair = |id: &(Vec<_>, TopicId), name: &(Vec<_>, Vec<u8>)| id.0 == name.0;
            if id.as_ref().zip(name.as_ref()).is_some_and(|(id, name)| is_pair(id, name)) {
                let pair = id.take().zip(name.take()).map(|((_, id), (_, name))| (id, name));
                found.extend(pair.filter(|(id, name)| *id != [0; 16] && !name.is_empty()));
            }
            Flow::Continue(())
        });
        found
    }
}

/// The paths of ids and names that stand in one struct.
fn add_pairs(layout: &'static Layout, of: Option<FieldId>, places: &mut BTreeMap<String, Part>) {
    let fields: Vec<_> = match of {
        None => layout.fields().collect(),
        Some(of) => layout.children(of).collect(),
    };
    let id = fields.iter().find(|(_, field)| {
        field.name() == "topic_id" && field.kind() == FieldKind::Uuid && !field.is_array()
    });
    let name = fields.iter().find(|(_, field)| {
        field.definition().entity == Some("topicName")
            && field.kind() == FieldKind::String
            && !field.is_array()
    });
    if let (Some((id, _)), Some((name, _))) = (id, name) {
        places.insert(layout.path(*id), Part::Id);
        places.insert(layout.path(*name), Part::Name);
    }
    for (field, _) in fields.iter().filter(|(id, _)| layout.children(*id).len() > 0) {
        add_pairs(layout, Some(*field), places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::schema::{Fields, Value};

    #[test]
    fn every_response_that_says_both_is_read() {
        let telling: Vec<ApiKey> =
            ApiKey::ALL.iter().copied().filter(|key| telling(*key).is_some()).collect();
        for api_key in [ApiKey::METADATA, ApiKey::CREATE_TOPICS, ApiKey::CONSUMER_GROUP_DESCRIBE] {
            assert!(telling.contains(&api_key), "{telling:?}");
        }
        assert!(!telling.contains(&ApiKey::PRODUCE) && !telling.contains(&ApiKey::FETCH));
    }

    #[test]
    fn an_id_is_told_with_its_name_where_the_version_has_both() {
        let topic = |name: &str, id: u8| {
            Fields::new().with("name", name).with("topic_id", Value::Uuid([id; 16]))
        };
        for (api_key, first) in [(ApiKey::METADATA, 10), (ApiKey::CREATE_TOPICS, 7)] {
            let told = telling(api_key).expect("it says both");
            for version in schema::versions(api_key).expect("in the table") {
                assert_eq!(told.is_possible(version), version >= first, "{api_key} {version}");
                let layout = schema::layout(api_key, Direction::Response, version);
                let layout = layout.expect("in the table");
                let mut topics = vec![topic("a", 1), topic("b", 2), topic("none", 0)];
                if version < first {
                    topics = vec![Fields::new().with("name", "a")];
                }
                let body = layout.encode(&Fields::new().with("topics", topics));
                let pairs = told.read(&body.expect("it encodes"), version);
                let expected = vec![([1; 16], b"a".to_vec()), ([2; 16], b"b".to_vec())];
                assert_eq!(pairs, if version < first { vec![] } else { expected });
            }
        }
    }

    #[test]
    fn what_was_learnt_first_is_forgotten_first() {
        let mut topics = Topics::default();
        for n in 0..=TOPICS_MAX as u128 {
            topics.learn(n.to_be_bytes(), b"t");
            topics.learn(n.to_be_bytes(), b"renamed");
        }
        assert_eq!(topics.name(&0_u128.to_be_bytes()), None);
        assert_eq!(topics.name(&1_u128.to_be_bytes()), Some(&b"renamed"[..]));
        assert_eq!(topics.names.len(), TOPICS_MAX);
    }
}
