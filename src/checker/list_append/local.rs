//! Anomalies of list-append histories that need no cycle.
//!
//! Counted as Elle counts them: aborted reads by read and element; intermediate reads and
//! duplicates by read; internal and future reads by operation (the first); incompatible orders by
//! list (the first); dirty and lost updates by place.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde_json::{Value as Json, json};

use super::lists::{List, is_transaction, seen};
use crate::checker::explain::{key_json, list, operation, value_json};
use crate::checker::verdict::Case;
use crate::history::columns::Op;
use crate::history::{EventType, History, KeyId, MopRef, Value};

/// Everything found, by name.
pub(super) fn find(history: &History, lists: &[List<'_>]) -> BTreeMap<&'static str, Vec<Case>> {
    let finder = Finder { history, lists };
    let mut found: BTreeMap<&'static str, Vec<Case>> = BTreeMap::new();
    for op in history.ops().filter(is_transaction) {
        if op.kind() == EventType::Ok {
            found.entry("G1a").or_default().extend(finder.aborted(&op));
            found.entry("G1b").or_default().extend(finder.intermediate(&op));
            found.entry("internal").or_default().extend(finder.internal(&op));
            found.entry("future-read").or_default().extend(finder.future(&op));
        }
        if op.kind() != EventType::Fail {
            found.entry("duplicate-elements").or_default().extend(finder.repeated(&op));
        }
    }
    found.insert("incompatible-order", finder.incompatible());
    found.insert("dirty-update", finder.dirty());
    found.insert("lost-update", finder.lost());
    found.retain(|_, cases| !cases.is_empty());
    found
}

struct Finder<'a, 'h> {
    history: &'h History,
    lists: &'a [List<'h>],
}

impl<'h> Finder<'_, 'h> {
    fn list(&self, key: KeyId) -> &List<'h> {
        &self.lists[key.0 as usize]
    }

    fn op(&self, row: u32) -> Op<'h> {
        self.history.op(row as usize)
    }

    fn key(&self, key: KeyId) -> Json {
        key_json(self.history, key)
    }

    fn value(&self, value: Value) -> Json {
        value_json(self.history, value)
    }

    fn values(&self, values: &[Value]) -> Vec<Json> {
        values.iter().map(|&value| self.value(value)).collect()
    }

    fn say(&self, op: &Op<'_>) -> String {
        operation(op, self.history)
    }

    /// What an operation that happened read, list by list.
    fn reads(&self, op: &Op<'h>) -> Vec<(KeyId, &'h [Value])> {
        let reads = op.mops().filter_map(|mop| match mop {
            MopRef::Read { key, values } => Some((key, seen(op, values)?)),
            _ => None,
        });
        reads.collect()
    }

    fn aborted(&self, op: &Op<'h>) -> Vec<Case> {
        let mut cases = Vec::new();
        for (key, values) in self.reads(op) {
            let failed = &self.list(key).failed;
            if failed.is_empty() {
                continue;
            }
            for &value in values {
                let Some(&writer) = failed.get(&value) else { continue };
                let (key, value) = (self.key(key), self.value(value));
                let explanation = format!(
                    "T1, {}, appended {value} to key {key} and definitely failed. However, T2, {}, \
                     which succeeded, read a version of key {key} with {value} in it: an aborted \
                     read.",
                    self.say(&self.op(writer)),
                    self.say(op)
                );
                cases.push(self.pair(key, value, writer, op, explanation));
            }
        }
        cases
    }

    fn pair(&self, key: Json, value: Json, writer: u32, op: &Op<'_>, explanation: String) -> Case {
        let (writer, reader) = (self.op(writer).index(), op.index());
        let fields = vec![
            ("key", key),
            ("value", value),
            ("writer", json!(writer)),
            ("reader", json!(reader)),
        ];
        Case { fields, operations: vec![writer, reader], explanation, ..Case::default() }
    }

    fn intermediate(&self, op: &Op<'h>) -> Vec<Case> {
        let mut cases = Vec::new();
        for (key, values) in self.reads(op) {
            let Some(&last) = values.last() else { continue };
            let Some(&writer) = self.list(key).intermediate.get(&last) else { continue };
            if writer == op.row as u32 {
                continue;
            }
            let (key, value) = (self.key(key), self.value(last));
            let explanation = format!(
                "T1, {}, appended {value} to key {key} and then more. However, T2, {}, read key \
                 {key} as it was right after {value}: a version that T1 never left behind.",
                self.say(&self.op(writer)),
                self.say(op)
            );
            cases.push(self.pair(key, value, writer, op, explanation));
        }
        cases
    }

    fn alone(&self, op: &Op<'_>, key: Json, more: (&'static str, Json), why: String) -> Case {
        let fields = vec![("key", key), more, ("op", json!(op.index()))];
        Case { fields, operations: vec![op.index()], explanation: why, ..Case::default() }
    }

    /// The first read that contradicts what the transaction itself has read or appended.
    fn internal(&self, op: &Op<'h>) -> Option<Case> {
        // What must be at the end of each list, and whether that is all of it.
        let mut known: FxHashMap<KeyId, (Vec<Value>, bool)> = FxHashMap::default();
        for mop in op.mops() {
            match mop {
                MopRef::Append { key, value } => {
                    known.entry(key).or_insert((Vec::new(), false)).0.push(value);
                }
                MopRef::Read { key, values } => {
                    let values = seen(op, values)?;
                    if let Some((end, is_all)) = known.get(&key) {
                        let fits = if *is_all { *end == values } else { values.ends_with(end) };
                        if !fits {
                            let expected = self.values(end);
                            let key = self.key(key);
                            let end = if *is_all { "to be" } else { "to end with" };
                            let why = format!(
                                "T1, {}, read key {key} as {}. However, by its own earlier reads \
                                 and appends it had {end} {}.",
                                self.say(op),
                                list(&self.values(values)),
                                list(&expected)
                            );
                            let more = ("expected", json!(expected));
                            return Some(self.alone(op, key, more, why));
                        }
                    }
                    known.insert(key, (values.to_vec(), true));
                }
                _ => {}
            }
        }
        None
    }

    /// The first element that was read before the same transaction appended it.
    fn future(&self, op: &Op<'h>) -> Option<Case> {
        let mut reads: Vec<(KeyId, &[Value])> = Vec::new();
        for mop in op.mops() {
            match mop {
                MopRef::Append { key, value }
                    if reads.iter().any(|(k, values)| *k == key && values.contains(&value)) =>
                {
                    let (key, value) = (self.key(key), self.value(value));
                    let why = format!(
                        "T1, {}, read {value} in key {key} and appended it only afterwards.",
                        self.say(op)
                    );
                    return Some(self.alone(op, key, ("element", value), why));
                }
                MopRef::Read { key, values } => reads.push((key, seen(op, values)?)),
                _ => {}
            }
        }
        None
    }

    fn repeated(&self, op: &Op<'h>) -> Vec<Case> {
        let mut cases = Vec::new();
        for (key, values) in self.reads(op) {
            // The longest read of a list without repetition speaks for all its beginnings.
            let list_of_key = self.list(key);
            if list_of_key.order.starts_with(values) {
                continue;
            }
            let mut sorted = values.to_vec();
            sorted.sort_unstable();
            let twice: Vec<Value> =
                sorted.chunk_by(|a, b| a == b).filter(|c| c.len() > 1).map(|c| c[0]).collect();
            if twice.is_empty() {
                continue;
            }
            let (key, duplicates) = (self.key(key), self.values(&twice));
            let why = format!(
                "T1, {}, read key {key} with {} in it more than once. Each of these was appended \
                 only once.",
                self.say(op),
                list(&duplicates)
            );
            cases.push(self.alone(op, key, ("duplicates", json!(duplicates)), why));
        }
        cases
    }

    fn incompatible(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (key, list_of_key) in (0u32..).zip(self.lists) {
            let Some((short, long)) = list_of_key.incompatible else { continue };
            let key = self.key(KeyId(key));
            let place = short.values.iter().zip(long.values).take_while(|(a, b)| a == b).count();
            let (t1, t2) = (self.op(short.row), self.op(long.row));
            let at = |values: &[Value]| values.get(place).map_or(Json::Null, |&v| self.value(v));
            let explanation = format!(
                "T1, {}, read key {key} with {} in place {place}. However, T2, {}, read it with {} \
                 there. A list only grows at its end, so these cannot both have been versions of it.",
                self.say(&t1),
                at(short.values),
                self.say(&t2),
                at(long.values)
            );
            let values = json!([self.values(short.values), self.values(long.values)]);
            let operations = vec![t1.index(), t2.index()];
            let fields = vec![("key", key), ("values", values)];
            cases.push(Case { fields, operations, explanation, ..Case::default() });
        }
        cases
    }

    /// Along each list's order: an append that happened, after one that did not.
    fn dirty(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (key, list_of_key) in (0u32..).zip(self.lists) {
            let is_read = list_of_key.reads.iter().any(|read| !read.values.is_empty());
            let mut aborted: Option<(Value, u32)> = None;
            for &value in list_of_key.order.iter().filter(|_| is_read) {
                if let Some(&failed) = list_of_key.failed.get(&value)
                    && !list_of_key.writers.contains_key(&value)
                {
                    aborted.get_or_insert((value, failed));
                    continue;
                }
                let Some(&writer) = list_of_key.writers.get(&value) else { continue };
                if self.op(writer).kind() != EventType::Ok {
                    continue;
                }
                let Some((dirty, failed)) = aborted.take() else { continue };
                let (t1, t2) = (self.op(failed), self.op(writer));
                let key = self.key(KeyId(key));
                let (dirty, value) = (self.value(dirty), self.value(value));
                let explanation = format!(
                    "T1, {}, appended {dirty} to key {key} and definitely failed. However, T2, {}, \
                     which succeeded, appended {value} behind it: an aborted write was built upon.",
                    self.say(&t1),
                    self.say(&t2)
                );
                let fields = vec![("key", key), ("values", json!([dirty, value]))];
                let operations = vec![t1.index(), t2.index()];
                cases.push(Case { fields, operations, explanation, ..Case::default() });
            }
        }
        cases
    }

    /// Two or more transactions that read one version of a list and then appended to it.
    fn lost(&self) -> Vec<Case> {
        let mut readers: BTreeMap<(KeyId, &'h [Value]), Vec<u32>> = BTreeMap::new();
        for op in self.history.ops().filter(is_transaction).filter(|o| o.kind() == EventType::Ok) {
            let mut first: Vec<(KeyId, Option<&'h [Value]>)> = Vec::new();
            for mop in op.mops() {
                match mop {
                    MopRef::Read { key, values } if !first.iter().any(|(k, _)| *k == key) => {
                        first.push((key, seen(&op, values)));
                    }
                    MopRef::Append { key, .. } => {
                        let read = first.iter_mut().find(|(k, _)| *k == key);
                        if let Some(values) = read.and_then(|(_, values)| values.take()) {
                            readers.entry((key, values)).or_default().push(op.row as u32);
                        }
                    }
                    _ => {}
                }
            }
        }
        let mut cases = Vec::new();
        for ((key, values), rows) in readers {
            if rows.len() < 2 {
                continue;
            }
            let operations: Vec<u64> = rows.iter().map(|&row| self.op(row).index()).collect();
            let key = self.key(key);
            let version = list(&self.values(&values[values.len().saturating_sub(1)..]));
            let explanation = format!(
                "T1, {}, and T2, {}, both read key {key} as it was after {version} and both \
                 appended to it. Whichever came second did not see what the first had done.",
                self.say(&self.op(rows[0])),
                self.say(&self.op(rows[1]))
            );
            let fields = vec![
                ("key", key),
                ("value", json!(self.values(values))),
                ("txns", json!(operations)),
            ];
            cases.push(Case { fields, operations, explanation, ..Case::default() });
        }
        cases
    }
}
