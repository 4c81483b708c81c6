//! One operation, as JSON in the shape of `history.jsonl`, and as text.
//!
//! Text writes a record as `17@40`: value 17 at offset 40. One that matters ends in `*`.
//!
//! A list of a list-append history is treated as a log whose offsets are the places in the list.

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

use super::lens::{Lens, Record, Sight};
use super::names::{key_json, process_json, process_name, seconds, value_json};
use super::table::flow;
use crate::history::columns::Op;
use crate::history::{EventType, History, KeyId, MopRef, Value};

/// Which way records went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the log: sent or appended.
    In,
    /// From it: polled or read.
    Out,
}

/// Records of one key that one micro-operation moved.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The key.
    pub key: KeyId,
    /// Which way.
    pub way: Way,
    /// The records, in order.
    pub records: Vec<Record>,
}

/// What a micro-operation moved; absent for one of which nothing came back.
#[must_use]
pub fn moved(mop: MopRef<'_>) -> Option<Vec<Moved>> {
    let sent = |key, record| Some(vec![Moved { key, way: Way::In, records: vec![record] }]);
    match mop {
        MopRef::Send { key, value, offset } => sent(key, (offset, value)),
        MopRef::Append { key, value } => sent(key, (None, value)),
        MopRef::Poll(poll) if !poll.ran() => None,
        MopRef::Poll(poll) => {
            let moved = |run: crate::history::columns::RunRef<'_>| Moved {
                key: run.key,
                way: Way::Out,
                records: run.records().collect(),
            };
            Some(poll.runs().map(moved).collect())
        }
        MopRef::Read { key, values } => {
            let records = (0..).map(Some).zip(values?.iter().copied()).collect();
            Some(vec![Moved { key, way: Way::Out, records }])
        }
    }
}

/// All records an operation moved.
pub fn all_moved<'a>(op: &Op<'a>) -> impl Iterator<Item = Moved> + use<'a> {
    op.mops().filter_map(moved).flatten()
}

/// An operation as a JSON object.
#[must_use]
pub fn json(history: &History, op: &Op<'_>, lens: &Lens) -> Json {
    let mut object = Map::new();
    object.insert("index".into(), json!(op.index()));
    object.insert("invoked".into(), json!(op.invoke_index()));
    object.insert("time".into(), json!(op.complete_ns()));
    object.insert("invoked_time".into(), json!(op.invoke_ns()));
    object.insert("type".into(), json!(op.kind().name()));
    object.insert("process".into(), process_json(history, op));
    object.insert("f".into(), json!(op.function().name()));
    let value = if op.mops().len() > 0 {
        Json::Array(op.mops().filter_map(|mop| mop_json(history, mop, lens)).collect())
    } else if !op.bound_keys().is_empty() {
        op.bound_keys().iter().map(|key| key_json(history, *key)).collect()
    } else {
        op.extra("value").map_or(Json::Null, extra_json)
    };
    object.insert("value".into(), value);
    if let Some(error) = op.error() {
        object.insert("error".into(), json!(error));
    }
    if op.ends_process() {
        object.insert("end_process".into(), json!(true));
    }
    for (name, text) in op.extras().filter(|(name, _)| *name != "value") {
        object.entry(name).or_insert_with(|| extra_json(text));
    }
    Json::Object(object)
}

fn extra_json(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

fn mop_json(history: &History, mop: MopRef<'_>, lens: &Lens) -> Option<Json> {
    let seen = moved(mop).map(|moved| visible(moved, lens));
    if lens.leaves_out() && seen.as_ref().is_none_or(Vec::is_empty) {
        return None;
    }
    let record = |&(offset, value): &Record| json!([offset, value_json(history, value)]);
    Some(match mop {
        MopRef::Send { key, value, offset: None } => {
            json!(["send", key_json(history, key), value_json(history, value)])
        }
        MopRef::Send { key, value, offset } => {
            json!(["send", key_json(history, key), record(&(offset, value))])
        }
        MopRef::Append { key, value } => {
            json!(["append", key_json(history, key), value_json(history, value)])
        }
        MopRef::Read { key, .. } => {
            let value = |record: &Record| value_json(history, record.1);
            let values = seen.map(|seen| {
                seen.iter().flat_map(|moved| &moved.records).map(value).collect::<Vec<_>>()
            });
            json!(["r", key_json(history, key), values])
        }
        MopRef::Poll(_) => match seen {
            None => json!(["poll"]),
            Some(seen) => {
                let mut keys: Map<String, Json> = Map::new();
                for moved in seen {
                    let name = match key_json(history, moved.key) {
                        Json::String(text) => text,
                        other => other.to_string(),
                    };
                    let records = keys.entry(name).or_insert_with(|| json!([]));
                    let records = records.as_array_mut().expect("only arrays are put in");
                    records.extend(moved.records.iter().map(record));
                }
                json!(["poll", keys])
            }
        },
    })
}

/// What a lens leaves of what was moved.
fn visible(moved: Vec<Moved>, lens: &Lens) -> Vec<Moved> {
    if !lens.leaves_out() {
        return moved;
    }
    let trim = |mut moved: Moved| {
        let sights = lens.sights(moved.key, &moved.records);
        let mut sights = sights.into_iter();
        moved.records.retain(|_| sights.next() != Some(Sight::Hidden));
        moved
    };
    moved.into_iter().map(trim).filter(|moved| !moved.records.is_empty()).collect()
}

/// What an operation did, on one line.
#[must_use]
pub fn summary(history: &History, op: &Op<'_>, lens: &Lens) -> String {
    let (names, words) = words(history, op, lens);
    let parts: Vec<String> =
        names.iter().zip(&words).map(|(name, words)| format!("{name} {words}")).collect();
    parts.join("  ").trim().to_owned()
}

/// An operation over several lines, each indented by two more than `indent`.
#[must_use]
pub fn text(history: &History, op: &Op<'_>, lens: &Lens, title: &str) -> String {
    let mut out = format!(
        "{title}operation {}, process {}, {}, {}",
        op.index(),
        process_name(history, op),
        op.function().name(),
        outcome(op),
    );
    let timed = op.invoke_ns() + op.complete_ns() > 0;
    let at = |ns| if timed { format!(" at {} s", seconds(ns)) } else { String::new() };
    let (begin, end) = (at(op.invoke_ns()), at(op.complete_ns()));
    let written = match (op.invoke_index(), op.complete_index()) {
        (Some(_), None) => write!(out, "; invoked{begin}"),
        (None, _) => write!(out, "; completed{end}, never seen to begin"),
        (Some(index), Some(_)) if timed => {
            write!(out, "; invoked as {index}{begin}, completed{end}")
        }
        (Some(index), Some(_)) => write!(out, "; invoked as {index}"),
    };
    written.expect("a String takes every write");
    out.push('\n');
    let (names, words) = words(history, op, lens);
    for (name, words) in names.iter().zip(&words) {
        let first = format!("    {name} ");
        out.push_str(&flow(&first, first.chars().count(), words));
    }
    if let Some(error) = op.error() {
        out.push_str(&flow("    error: ", 11, error));
    }
    if op.ends_process() {
        out.push_str("    its process ended with it\n");
    }
    out
}

/// What became of an operation.
#[must_use]
pub fn outcome(op: &Op<'_>) -> &'static str {
    match (op.kind(), op.complete_index()) {
        (EventType::Invoke | EventType::Info, None) => "never completed",
        (kind, _) => kind.name(),
    }
}

/// Micro-operations (or keys bound) in words: what each is, and with what.
fn words(history: &History, op: &Op<'_>, lens: &Lens) -> (Vec<String>, Vec<String>) {
    if op.mops().len() > 0 {
        let is_ok = op.kind() == EventType::Ok;
        return op.mops().filter_map(|mop| mop_words(history, mop, is_ok, lens)).unzip();
    }
    if !op.bound_keys().is_empty() {
        let keys: Vec<&str> = op.bound_keys().iter().map(|key| history.key_name(*key)).collect();
        return (vec!["keys".into()], vec![keys.join(" ")]);
    }
    op.extra("value").map(|text| ("value".to_owned(), text.to_owned())).into_iter().unzip()
}

fn mop_words(
    history: &History,
    mop: MopRef<'_>,
    is_ok: bool,
    lens: &Lens,
) -> Option<(String, String)> {
    let name = match mop {
        MopRef::Send { .. } => "send",
        MopRef::Append { .. } => "append",
        MopRef::Poll(_) => "poll",
        MopRef::Read { .. } => "read",
    };
    let is_list = matches!(mop, MopRef::Append { .. } | MopRef::Read { .. });
    let Some(moved) = moved(mop) else {
        // A read that succeeded and says nothing saw the empty list.
        let words = match mop {
            MopRef::Read { key, .. } if is_ok => format!("{}[]", history.key_name(key)),
            MopRef::Read { key, .. } => format!("{} ?", history.key_name(key)),
            _ => "?".into(),
        };
        return (!lens.leaves_out()).then(|| (name.into(), words));
    };
    let mut said: Vec<String> = Vec::new();
    for Moved { key, way, records } in &moved {
        let sights = lens.sights(*key, records);
        if lens.leaves_out() && sights.iter().all(|sight| *sight == Sight::Hidden) {
            continue;
        }
        let key = history.key_name(*key);
        let records = records_words(history, records, &sights, is_list);
        said.push(match way {
            Way::In => format!("{key} {records}"),
            Way::Out => format!("{key}[{records}]"),
        });
    }
    if said.is_empty() {
        return (!lens.leaves_out()).then(|| (name.into(), "nothing".into()));
    }
    Some((name.into(), said.join(" ")))
}

fn records_words(history: &History, records: &[Record], sights: &[Sight], is_list: bool) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut hidden = 0;
    let gap = |hidden: &mut usize, words: &mut Vec<String>| {
        if *hidden > 0 {
            words.push(format!("…{hidden}…"));
            *hidden = 0;
        }
    };
    for (&record, sight) in records.iter().zip(sights) {
        if *sight == Sight::Hidden {
            hidden += 1;
            continue;
        }
        gap(&mut hidden, &mut words);
        let mark = if *sight == Sight::Marked { "*" } else { "" };
        let (offset, value) = if is_list { (None, record.1) } else { record };
        words.push(format!("{}{mark}", record_words(history, offset, value)));
    }
    gap(&mut hidden, &mut words);
    words.join(" ")
}

fn record_words(history: &History, offset: Option<i64>, value: Value) -> String {
    let name = history.value_name(value);
    offset.map_or_else(|| name.clone(), |offset| format!("{name}@{offset}"))
}
