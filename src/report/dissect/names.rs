//! Names of topics beside their ids (KIP-516), as far as the capture says them.
//!
//! Names are learned from answers that have both, of Metadata, CreateTopics and others, and put
//! into lines when these are written: a Metadata answer that comes a little later still helps.
//!
//! Never: guesses; forgets a name, or learns more than its bound.

use kafka_wire::ApiKey;
use kafka_wire::schema::{self, Direction, FieldKind, Flow, Layout, Lookup, write_uuid};
use rustc_hash::FxHashMap;

/// Topics whose names are remembered.
const NAMES_MAX: usize = 65_536;
/// Longest name of a topic that Kafka allows.
const NAME_BYTES_MAX: usize = 249;
/// Bytes of a topic id as text.
const ID_BYTES: usize = 22;
const ID_FIELD: &str = "\"topic_id\":\"";

/// The names, by id as text.
#[derive(Debug, Default)]
pub struct TopicNames {
    names: FxHashMap<String, String>,
    lookups: FxHashMap<(ApiKey, i16), Option<Lookup>>,
}

impl TopicNames {
    /// Whether answers of that API may name topics.
    #[must_use]
    pub fn teaches(api_key: ApiKey) -> bool {
        [ApiKey::METADATA, ApiKey::CREATE_TOPICS, ApiKey::DELETE_TOPICS].contains(&api_key)
            || api_key == ApiKey::DESCRIBE_TOPIC_PARTITIONS
    }

    /// Learns from an answer.
    pub fn learn(&mut self, api_key: ApiKey, version: i16, body: &[u8]) {
        if !Self::teaches(api_key) {
            return;
        }
        let Self { names, lookups } = self;
        let lookup = lookups.entry((api_key, version)).or_insert_with(|| {
            let layout = schema::layout(api_key, Direction::Response, version)?;
            let path = path_of_topic(layout)?;
            layout.lookup(&[&format!("{path}.name"), &format!("{path}.topic_id")]).ok()
        });
        let Some(lookup) = lookup else { return };
        // In every version the name comes before the id.
        let mut name = None;
        lookup.read(body, |hit| {
            if hit.slot == 0 {
                name = hit.value.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok());
            } else if let (schema::Scalar::Uuid(id), Some(name)) = (hit.value, name.take())
                && (1..=NAME_BYTES_MAX).contains(&name.len())
                && *id != [0; 16]
                && names.len() < NAMES_MAX
            {
                let mut text = String::with_capacity(ID_BYTES);
                write_uuid(&mut text, id).expect("a String takes every write");
                names.entry(text).or_insert_with(|| name.to_owned());
            }
            Flow::Continue(())
        });
    }

    /// Appends a line, with names beside the ids that have none.
    pub fn write(&self, line: &str, out: &mut String) {
        if self.names.is_empty() {
            return out.push_str(line);
        }
        let mut rest = line;
        while let Some(at) = rest.find(ID_FIELD) {
            let value = at + ID_FIELD.len();
            let end = value + ID_BYTES + 1;
            let (Some(id), Some(after)) = (rest.get(value..end - 1), rest.get(end..)) else {
                break;
            };
            out.push_str(&rest[..end]);
            if let Some(name) = self.names.get(id)
                && !is_named(&rest[..at], after)
            {
                out.push_str(",\"topic_name\":");
                schema::write_json_text(out, name).expect("a String takes every write");
            }
            rest = after;
        }
        out.push_str(rest);
    }
}

/// Whether the field before or after an id says the name already.
fn is_named(before: &str, after: &str) -> bool {
    let is_string_of = |before: &str| {
        let value = before.strip_suffix("\",").and_then(|b| b.rfind('"').map(|at| &b[..at]));
        value.is_some_and(|key| key.ends_with("\"name\":"))
    };
    after.starts_with(",\"topic_name\":")
        || after.starts_with(",\"name\":\"")
        || is_string_of(before)
}

/// The structure that has both a name and an id.
fn path_of_topic(layout: &Layout) -> Option<String> {
    let (id, _) = layout.fields().find(|(id, _)| {
        let has = |name: &str| layout.children(*id).any(|(_, field)| field.name() == name);
        let ids = |kind| layout.children(*id).any(|(_, field)| field.kind() == kind);
        has("name") && has("topic_id") && ids(FieldKind::Uuid)
    })?;
    Some(layout.path(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "bYF53O89SvSq6fS4K8hPQw";

    fn check(line: &str, expected: &str) {
        let mut names = TopicNames::default();
        names.names.insert(ID.into(), "t".into());
        let mut out = String::new();
        names.write(&line.replace("ID", ID), &mut out);
        assert_eq!(out, expected.replace("ID", ID));
    }

    #[test]
    fn ids_get_their_names_where_none_stands_beside_them() {
        check(
            "{\"topic_id\":\"ID\",\"partitions\":[]}",
            "{\"topic_id\":\"ID\",\"topic_name\":\"t\",\"partitions\":[]}",
        );
        check(
            "{\"topic_id\":\"ID\"},{\"topic_id\":\"AAAAAAAAAAAAAAAAAAAAAA\"}",
            "{\"topic_id\":\"ID\",\"topic_name\":\"t\"},{\"topic_id\":\"AAAAAAAAAAAAAAAAAAAAAA\"}",
        );
        for same in [
            "{\"name\":\"t\",\"topic_id\":\"ID\"}",
            "{\"topic_id\":\"ID\",\"topic_name\":\"t\"}",
            "{\"topic_id\":\"ID\",\"name\":\"t\"}",
            "{\"value\":\"\\\"topic_id\\\":\\\"ID\\\"\"}",
            "{\"topic_id\":\"short\"}",
            "{}",
        ] {
            check(same, same);
        }
    }

    #[test]
    fn names_are_learned_from_metadata() {
        let layout = schema::layout(ApiKey::METADATA, Direction::Response, 12).unwrap();
        let topic = schema::Fields::new().with("name", "t").with("topic_id", ID);
        let body = layout.encode(&schema::Fields::new().with("topics", vec![topic])).unwrap();
        let mut names = TopicNames::default();
        names.learn(ApiKey::METADATA, 12, &body);
        names.learn(ApiKey::METADATA, 1, &body);
        assert_eq!(names.names.get(ID).map(String::as_str), Some("t"));
    }
}
