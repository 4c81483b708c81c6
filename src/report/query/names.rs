//! Turns keys, values and processes as people type them into those of a history, and back into
//! text and JSON.
//!
//! An integer is typed as it is. Any other name is typed as the history writes it in EDN
//! (`:apple`), a string also without its quotes.

use serde_json::{Value as Json, json};

use crate::history::columns::Op;
use crate::history::{History, KeyId, Process, Value};

/// The key of that name.
#[must_use]
pub fn find_key(history: &History, typed: &str) -> Option<KeyId> {
    history.find_key(typed).or_else(|| history.find_key(&quoted(typed)))
}

/// The value of that name. An integer always is one, whether or not anyone sent it.
#[must_use]
pub fn find_value(history: &History, typed: &str) -> Option<Value> {
    match typed.parse() {
        Ok(integer) if integer < Value::INTERNED_MIN => Some(Value(integer)),
        _ => history.find_value(typed).or_else(|| history.find_value(&quoted(typed))),
    }
}

fn quoted(typed: &str) -> String {
    Json::from(typed).to_string()
}

/// What somebody who asked for a key that is not there should know.
#[must_use]
pub fn no_such_key(history: &History, typed: &str) -> String {
    const SHOWN_MAX: usize = 12;
    let mut names: Vec<&str> = (0..history.key_count())
        .map(|key| history.key_name(KeyId(u32::try_from(key).expect("keys are numbered by u32"))))
        .collect();
    if names.is_empty() {
        return format!("no key {typed}: this history has no keys");
    }
    names.sort_by_key(|name| (name.parse::<i64>().unwrap_or(i64::MAX), *name));
    let more = if names.len() > SHOWN_MAX { ", …" } else { "" };
    let count = names.len();
    names.truncate(SHOWN_MAX);
    format!("no key {typed}: this history's {count} keys are {}{more}", names.join(", "))
}

/// A key as answers write it: a number where it is one.
#[must_use]
pub fn key_json(history: &History, key: KeyId) -> Json {
    name_json(history.key_name(key))
}

/// A value as answers write it.
#[must_use]
pub fn value_json(history: &History, value: Value) -> Json {
    if value.0 < Value::INTERNED_MIN {
        json!(value.0)
    } else {
        name_json(&history.value_name(value))
    }
}

fn name_json(name: &str) -> Json {
    if let Ok(number) = name.parse::<i64>() {
        return json!(number);
    }
    match serde_json::from_str(name) {
        Ok(Json::String(text)) => json!(text),
        _ => json!(name),
    }
}

/// A process as answers write it.
#[must_use]
pub fn process_json(history: &History, op: &Op<'_>) -> Json {
    match history.process(op.process()) {
        Process::Client(number) => json!(number),
        Process::Named(name) => json!(&**name),
    }
}

/// A process as text.
#[must_use]
pub fn process_name(history: &History, op: &Op<'_>) -> String {
    match history.process(op.process()) {
        Process::Client(number) => number.to_string(),
        Process::Named(name) => name.to_string(),
    }
}

/// Nanoseconds since the start of the run as seconds: `12.003412`.
#[must_use]
pub fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns / 1_000 % 1_000_000)
}
