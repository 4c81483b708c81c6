//! What a step says, with its references resolved, as a field tree.
//!
//! A string that begins with `$` is a reference: `$by.epoch`, `$topic`, `$records`, a producer's
//! `$p.id`, a name's `$topic.t`, or a field of an earlier answer, `$late.topics[0].error_code`;
//! `+1` or `-1` behind it counts on. `$$` begins a string that begins with `$`.

use bytes::Bytes;
use kafka_wire::batch::{Attributes, BatchBuilder, NewRecord, Scratch};
use kafka_wire::ids::{ProducerEpoch, ProducerId, Sequence};
use kafka_wire::schema::{Fields, Value};

use super::conversation::{Conversation, Stated, Step};
use super::phrase::Phrase;

/// What references stand for.
pub trait Meaning {
    /// The value of a reference, without its `$`.
    ///
    /// # Errors
    /// Where there is no such thing, or not yet.
    fn of(&self, reference: &str) -> Result<Value, String>;
}

/// The body of a step, by the phrase and what the step says in its place.
///
/// # Errors
/// Where a reference stands for nothing, or TOML says what no field can hold.
pub fn fields(
    step: &Step,
    phrase: Option<&Phrase>,
    meaning: &dyn Meaning,
) -> Result<Fields, String> {
    let mut all = Fields::new();
    let own = step.fields.iter().flatten();
    let is_own = |name: &str| step.fields.as_ref().is_some_and(|own| own.contains_key(name));
    let phrased = phrase.iter().flat_map(|phrase| &phrase.fields);
    for (name, value) in phrased.filter(|(name, _)| !is_own(name)).chain(own) {
        let value = value_of(value, meaning).map_err(|why| format!("{name}: {why}"))?;
        all.set(name.clone(), value);
    }
    Ok(all)
}

/// A TOML value as a field's.
///
/// # Errors
/// As [`fields`].
pub fn value_of(value: &toml::Value, meaning: &dyn Meaning) -> Result<Value, String> {
    Ok(match value {
        toml::Value::Boolean(value) => Value::Bool(*value),
        toml::Value::Integer(value) => Value::Int(*value),
        toml::Value::Float(value) => Value::Float(*value),
        toml::Value::String(text) => match text.strip_prefix('$') {
            None => Value::String(text.clone()),
            Some(rest) if rest.starts_with('$') => Value::String(rest.to_owned()),
            Some(reference) => referred(reference, meaning)?,
        },
        toml::Value::Array(values) => {
            let values = values.iter().map(|value| value_of(value, meaning));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => special(table).unwrap_or_else(|| {
            let mut fields = Fields::new();
            for (name, value) in table {
                fields.set(name.clone(), value_of(value, meaning)?);
            }
            Ok(Value::Struct(fields))
        })?,
        toml::Value::Datetime(_) => return Err("no field holds a date".into()),
    })
}

/// `{ null = true }` and `{ hex = "00ff" }` say what TOML has no words for.
fn special(table: &toml::Table) -> Option<Result<Value, String>> {
    let (name, value) = table.iter().next().filter(|_| table.len() == 1)?;
    match (name.as_str(), value) {
        ("null", toml::Value::Boolean(true)) => Some(Ok(Value::Null)),
        ("hex", toml::Value::String(digits)) => {
            Some(hexadecimal(digits).map(|bytes| Value::Bytes(Bytes::from(bytes))))
        }
        _ => None,
    }
}

/// A reference, and what is to be added to it.
fn referred(reference: &str, meaning: &dyn Meaning) -> Result<Value, String> {
    let counted = reference.rfind(['+', '-']).filter(|&at| {
        let digits = &reference[at + 1..];
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    let Some(at) = counted else { return meaning.of(reference) };
    let by: i64 = reference[at..].parse().map_err(|_| format!("${reference}: too large"))?;
    match meaning.of(&reference[..at])? {
        Value::Int(value) => Ok(Value::Int(value.wrapping_add(by))),
        _ => Err(format!("${reference}: only numbers can be added to")),
    }
}

/// A number that is stated, or the one it stands in place of.
///
/// # Errors
/// Where a reference stands for no number.
pub fn stated(stated: Option<&Stated>, or: i64, meaning: &dyn Meaning) -> Result<i64, String> {
    match stated {
        None => Ok(or),
        Some(Stated::Number(number)) => Ok(*number),
        Some(Stated::Reference(text)) => {
            let reference = text
                .strip_prefix('$')
                .ok_or("expected a number or a reference such as $p.epoch")?;
            referred(reference, meaning)?.as_int().ok_or_else(|| format!("{text} is no number"))
        }
    }
}

/// Who writes a batch, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSaid<'v> {
    /// The producer id; −1 for none.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The first record's sequence.
    pub base_sequence: i32,
    /// Whether it is part of a transaction.
    pub transactional: bool,
    /// The records' values.
    pub values: &'v [String],
    /// Their time.
    pub unix_ms: i64,
}

/// Encodes a batch.
#[must_use]
pub fn records(said: &BatchSaid<'_>) -> Bytes {
    let builder = BatchBuilder {
        producer_id: ProducerId(said.producer_id),
        producer_epoch: ProducerEpoch(said.producer_epoch),
        base_sequence: Sequence(said.base_sequence),
        attributes: Attributes::default().with_transactional(said.transactional),
        ..BatchBuilder::default()
    };
    let mut out = Vec::new();
    let records = said
        .values
        .iter()
        .map(|value| NewRecord { timestamp: said.unix_ms, ..NewRecord::of(value.as_bytes()) });
    builder.encode(records, &mut Scratch::new(), &mut out);
    Bytes::from(out)
}

/// Bytes written as hexadecimal digits, blanks between them.
///
/// # Errors
/// Where they are not.
pub fn hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0);
    let digits = digits.ok_or("expected pairs of hexadecimal digits")?;
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// What references stand for before anything was said: enough to see whether a field is there and
/// of the right type. A field that refers to an answer is left out.
struct Dry<'c> {
    conversation: &'c Conversation,
    step: &'c Step,
}

/// Stands for a value nobody knows yet.
const UNKNOWN: &str = "\u{0}unknown";

impl Meaning for Dry<'_> {
    fn of(&self, reference: &str) -> Result<Value, String> {
        let needs = |there: bool, key: &str| {
            if there { Ok(()) } else { Err(format!("${reference} needs {key} in the step")) }
        };
        let (first, rest) = reference.split_once('.').unwrap_or((reference, ""));
        match (first, rest) {
            ("by", _) => needs(self.step.by.is_some(), "by = \"a producer\"")?,
            ("topic" | "partition", "") => {
                needs(self.step.partition.is_some(), "partition = \"t-0\"")?;
            }
            ("records", _) => {
                needs(self.step.partition.is_some(), "partition = \"t-0\"")?;
                needs(self.step.values.is_some(), "values = [\"…\"]")?;
            }
            ("group", "") => needs(self.step.group.is_some(), "group = \"g\"")?,
            ("offset", _) => needs(self.step.offset.is_some(), "offset = N")?,
            ("committed", _) => needs(self.step.committed.is_some(), "committed = true or false")?,
            _ => {}
        }
        match (first, rest) {
            ("topic" | "group", _) | (_, "transactional_id") => Ok(Value::String(String::new())),
            ("partition" | "offset", _) | (_, "id" | "epoch") => Ok(Value::Int(0)),
            ("records", _) => Ok(Value::Bytes(Bytes::new())),
            ("committed", _) => Ok(Value::Bool(false)),
            _ => {
                let is_named = |step: &Step| step.name.as_deref() == Some(first);
                if !self.conversation.steps.iter().any(is_named) {
                    return Err(format!("${reference}: no step is called {first}"));
                }
                Ok(Value::String(UNKNOWN.into()))
            }
        }
    }
}

/// The body of a step as far as it is known before anything was said.
pub(super) fn dry_fields(
    conversation: &Conversation,
    step: &Step,
    phrase: Option<&Phrase>,
) -> Result<Fields, String> {
    let mut fields = fields(step, phrase, &Dry { conversation, step })?;
    forget_unknown(&mut fields);
    Ok(fields)
}

fn forget_unknown(fields: &mut Fields) {
    let is_unknown = |value: &Value| value.as_str() == Some(UNKNOWN);
    let unknown: Vec<String> = fields
        .iter()
        .filter(|(_, value)| match value {
            Value::Array(elements) => elements.iter().any(is_unknown),
            value => is_unknown(value),
        })
        .map(|(name, _)| name.to_owned())
        .collect();
    for name in unknown {
        fields.remove(&name);
    }
    for (_, value) in fields.iter_mut() {
        match value {
            Value::Struct(inner) => forget_unknown(inner),
            Value::Array(elements) => {
                for element in elements {
                    if let Value::Struct(inner) = element {
                        forget_unknown(inner);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Known;

    impl Meaning for Known {
        fn of(&self, reference: &str) -> Result<Value, String> {
            match reference {
                "p.epoch" => Ok(Value::Int(4)),
                "topic" => Ok(Value::String("t-77".into())),
                other => Err(format!("no ${other}")),
            }
        }
    }

    fn check(toml: &str, expected: Result<Value, &str>) {
        let table: toml::Table = toml::from_str(&format!("v = {toml}")).unwrap();
        assert_eq!(value_of(&table["v"], &Known), expected.map_err(str::to_owned), "{toml}");
    }

    #[test]
    fn strings_with_a_dollar_are_references_and_can_be_counted_on_from() {
        check("'$p.epoch'", Ok(Value::Int(4)));
        check("'$p.epoch+2'", Ok(Value::Int(6)));
        check("'$p.epoch-1'", Ok(Value::Int(3)));
        check("'$$5'", Ok(Value::String("$5".into())));
        check("'$topic+1'", Err("$topic+1: only numbers can be added to"));
        check("'$nobody'", Err("no $nobody"));
        check("{ null = true }", Ok(Value::Null));
        check("{ hex = '00 ff' }", Ok(Value::Bytes(Bytes::from_static(&[0, 255]))));
        check("{ hex = '0' }", Err("expected pairs of hexadecimal digits"));
        let inner = Fields::new().with("a", Value::Int(5));
        check("[{ a = '$p.epoch+1' }]", Ok(Value::Array(vec![Value::Struct(inner)])));
    }
}
