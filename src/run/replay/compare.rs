//! A recorded answer and the new one, field by field.

use kafka_wire::batch::{Batch, BatchIter};
use kafka_wire::schema::{Fields, Value};
use serde::Serialize;

use super::names::twin;

/// Fields that say when, where or how fast, and not what: they are not compared.
pub const NOT_COMPARED: &[&str] = &[
    "throttle_time_ms",
    "log_append_time_ms",
    "cluster_id",
    "host",
    "port",
    "session_id",
    "current_leader",
    "leader_epoch",
    "error_message",
    "finalized_features_epoch",
];

/// One field in which two answers differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Which, such as `topics[0].partitions[1].error_code`.
    pub path: String,
    /// What the capture holds.
    pub recorded: serde_json::Value,
    /// What was answered now.
    pub answered: serde_json::Value,
}

/// Where two bodies differ.
pub(super) fn differences(
    recorded: &Fields,
    answered: &Fields,
    ignored: &[String],
) -> Vec<Difference> {
    let mut found = Vec::new();
    structs("", recorded, answered, ignored, &mut found);
    found
}

fn structs(
    path: &str,
    recorded: &Fields,
    answered: &Fields,
    ignored: &[String],
    found: &mut Vec<Difference>,
) {
    for (name, value) in recorded.iter() {
        if NOT_COMPARED.contains(&name) || ignored.iter().any(|other| other == name) {
            continue;
        }
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        values(&path, value, answered.field(name), ignored, found);
    }
}

fn values(
    path: &str,
    recorded: &Value,
    answered: Option<&Value>,
    ignored: &[String],
    found: &mut Vec<Difference>,
) {
    match (recorded, answered) {
        (Value::Struct(old), Some(Value::Struct(new))) => structs(path, old, new, ignored, found),
        (Value::Array(old), Some(Value::Array(new))) => {
            if old.len() != new.len() {
                let count = |n: usize| format!("{n} elements").into();
                let (recorded, answered) = (count(old.len()), count(new.len()));
                found.push(Difference { path: path.to_owned(), recorded, answered });
            }
            for (index, element) in old.iter().enumerate() {
                if let Some(other) = twin(element, index, new) {
                    values(&format!("{path}[{index}]"), element, Some(other), ignored, found);
                }
            }
        }
        (Value::Bytes(old), Some(Value::Bytes(new))) if path.ends_with("records") => {
            if let Some((recorded, answered)) = records(old, new) {
                found.push(Difference { path: path.to_owned(), recorded, answered });
            }
        }
        (old, Some(new)) if old == new => {}
        (old, new) => found.push(Difference {
            path: path.to_owned(),
            recorded: json(old),
            answered: new.map_or(serde_json::Value::Null, json),
        }),
    }
}

/// What two fields of records hold, where that differs: leader epochs, producers and seals do not
/// count.
fn records(recorded: &[u8], answered: &[u8]) -> Option<(serde_json::Value, serde_json::Value)> {
    let batches = |bytes| BatchIter::new(bytes).flatten().collect::<Vec<_>>();
    let (old, new) = (batches(recorded), batches(answered));
    let same = |(a, b): (&Batch<'_>, &Batch<'_>)| {
        a.header.base_offset == b.header.base_offset
            && a.header.last_offset_delta == b.header.last_offset_delta
            && a.header.attributes == b.header.attributes
            && a.header.base_sequence == b.header.base_sequence
            && (a.header.is_control() || a.payload() == b.payload())
    };
    if old.len() == new.len() && old.iter().zip(&new).all(same) {
        return None;
    }
    Some((told(&old), told(&new)))
}

fn told(batches: &[Batch<'_>]) -> serde_json::Value {
    let offsets = |batch: &Batch<'_>| {
        format!("{}-{}", batch.header.base_offset.0, batch.header.last_offset().0)
    };
    let ranges: Vec<String> = batches.iter().take(8).map(offsets).collect();
    format!("{} batches: offsets {}", batches.len(), ranges.join(", ")).into()
}

/// A value as JSON; bytes by their number.
fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::String(text) => text.clone().into(),
        Value::Uuid(uuid) => uuid::Uuid::from_bytes(*uuid).to_string().into(),
        Value::Bytes(bytes) | Value::Raw(bytes) => format!("{} bytes", bytes.len()).into(),
        Value::Array(elements) => elements.iter().map(json).collect(),
        Value::Struct(fields) => {
            fields.iter().map(|(name, value)| (name.to_owned(), json(value))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(index: i64, error: i64) -> Fields {
        Fields::new().with("index", index).with("error_code", error).with("throttle_time_ms", error)
    }

    #[test]
    fn elements_are_compared_with_those_of_their_identity() {
        let old = Fields::new().with("partitions", vec![partition(0, 0), partition(1, 47)]);
        let new = Fields::new().with("partitions", vec![partition(1, 90), partition(0, 0)]);
        let found = differences(&old, &new, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, "partitions[1].error_code");
        assert_eq!((&found[0].recorded, &found[0].answered), (&47.into(), &90.into()));
        assert_eq!(differences(&old, &new, &["error_code".to_owned()]), vec![]);
    }

    #[test]
    fn arrays_of_other_lengths_differ() {
        let old = Fields::new().with("partitions", vec![partition(0, 0)]);
        let new = Fields::new().with("partitions", Vec::<Value>::new());
        assert_eq!(differences(&old, &new, &[]).len(), 1);
    }
}
