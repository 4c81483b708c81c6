//! Draws the edges between transactions on lists, and explains them.
//!
//! * `ww`: the appender of a value → the appender of the next.
//! * `wr`: the appender of the last value of a read → the reader.
//! * `rw`: whoever read a list as it was right before a value → the appender of that value.
//! * `process`: from each transaction that happened to the next one of its process.
//!
//! A value that nobody read comes after all that was read of its list. No edge leads from a
//! transaction to itself, and failed ones have none.

use rustc_hash::FxHashMap;
use serde_json::{Value as Json, json};

use super::lists::{List, is_transaction, seen};
use crate::checker::anomaly::Anomaly;
use crate::checker::explain::{
    Cycle, CycleEdge, CycleOperation, key_json, moment, process_words, value_json,
};
use crate::checker::graph::{PROCESS, RW, RawEdge, Timeline, WR, WW, witness::Witness};
use crate::checker::verdict::Case;
use crate::history::columns::Op;
use crate::history::{EventType, History, KeyId, MopRef, Value};

/// Who read a list in which version: after which value.
type Readers = FxHashMap<(KeyId, Option<Value>), Vec<u32>>;

/// All edges, between rows.
pub(super) fn of(history: &History, lists: &[List<'_>], with_process: bool) -> Vec<RawEdge> {
    let readers = readers(lists);
    let mut edges: Vec<RawEdge> = Vec::new();
    let mut before: Vec<Option<u32>> = vec![None; history.process_count()];
    for op in history.ops().filter(is_transaction).filter(|op| op.kind() != EventType::Fail) {
        let row = op.row as u32;
        let from = edges.len();
        for mop in op.mops() {
            match mop {
                MopRef::Append { key, value } => {
                    let list = &lists[key.0 as usize];
                    let earlier = list.before(value);
                    let writer = earlier.and_then(|value| list.writers.get(&value));
                    edges.extend(writer.map(|&writer| (writer, row, WW)));
                    let readers = readers.get(&(key, earlier));
                    edges.extend(readers.into_iter().flatten().map(|&reader| (reader, row, RW)));
                }
                MopRef::Read { key, values } => {
                    let last = seen(&op, values).and_then(<[Value]>::last);
                    let writer = last.and_then(|value| lists[key.0 as usize].writers.get(value));
                    edges.extend(writer.map(|&writer| (writer, row, WR)));
                }
                _ => {}
            }
        }
        let mut kept = from;
        for place in from..edges.len() {
            if edges[place].0 != edges[place].1 {
                edges[kept] = edges[place];
                kept += 1;
            }
        }
        edges.truncate(kept);
        if with_process && op.kind() == EventType::Ok {
            let before = &mut before[op.process().0 as usize];
            edges.extend(before.replace(row).map(|earlier| (earlier, row, PROCESS)));
        }
    }
    edges
}

fn readers(lists: &[List<'_>]) -> Readers {
    let mut readers = Readers::default();
    for (key, list) in (0u32..).map(KeyId).zip(lists) {
        for read in &list.reads {
            let rows = readers.entry((key, read.values.last().copied())).or_default();
            if rows.last() != Some(&read.row) {
                rows.push(read.row);
            }
        }
    }
    readers
}

/// A cycle as a case.
pub(super) fn case(
    history: &History,
    lists: &[List<'_>],
    timeline: &Timeline<'_>,
    row: &Anomaly,
    witness: &Witness,
) -> Case {
    let ops: Vec<Op<'_>> =
        witness.steps.iter().map(|&(node, _)| history.op(timeline.row(node) as usize)).collect();
    let explained: Vec<(CycleEdge, Option<KeyId>)> = (0..ops.len())
        .map(|place| {
            let next = (place + 1) % ops.len();
            let names = (format!("T{}", place + 1), format!("T{}", next + 1));
            Explainer { history, lists, names, from: ops[place], to: ops[next] }
                .edge(witness.steps[place].1)
        })
        .collect();
    // Of each operation, what it did to the keys that its two edges speak of.
    let operations = (0..ops.len())
        .map(|place| {
            let before = (place + ops.len() - 1) % ops.len();
            let keys: Vec<KeyId> =
                [place, before].iter().filter_map(|&edge| explained[edge].1).collect();
            describe(history, &ops[place], &keys)
        })
        .collect();
    let edges = explained.into_iter().map(|(edge, _)| edge).collect();
    let cycle = Cycle { name: row.name, operations, edges };
    let mut indexes: Vec<u64> = ops.iter().map(Op::index).collect();
    let mut walk = indexes.clone();
    walk.extend(indexes.first().copied());
    let steps: Vec<&Json> = cycle.edges.iter().map(|edge| &edge.step).collect();
    let fields = vec![("type", json!(row.name)), ("cycle", json!(walk)), ("steps", json!(steps))];
    let explanation = cycle.explain(witness.is_shortest);
    indexes.sort_unstable();
    indexes.dedup();
    Case { fields, operations: indexes, explanation, cycle: Some(cycle), ..Case::default() }
}

fn describe(history: &History, op: &Op<'_>, keys: &[KeyId]) -> CycleOperation {
    const MOPS_MAX: usize = 6;
    let process = process_words(history.process(op.process()));
    let mut summary: Vec<String> = op
        .mops()
        .filter_map(|mop| match mop {
            MopRef::Append { key, value } if keys.contains(&key) => {
                let (key, value) = (key_json(history, key), value_json(history, value));
                Some(format!("appended {value} to key {key}"))
            }
            MopRef::Read { key, values } if keys.contains(&key) => {
                let values = seen(op, values)?;
                let key = key_json(history, key);
                let said = match values.last() {
                    None => "was empty".to_owned(),
                    Some(&last) => format!("ended with {}", value_json(history, last)),
                };
                Some(format!("read key {key}: it {said}"))
            }
            _ => None,
        })
        .collect();
    if summary.len() > MOPS_MAX {
        let more = summary.len() - MOPS_MAX + 1;
        summary.truncate(MOPS_MAX - 1);
        summary.push(format!("… and {more} more of these keys"));
    }
    CycleOperation { index: op.index(), process, ending: op.kind(), summary }
}

struct Explainer<'a, 'h> {
    history: &'h History,
    lists: &'a [List<'h>],
    names: (String, String),
    from: Op<'h>,
    to: Op<'h>,
}

impl Explainer<'_, '_> {
    fn edge(&self, kind: u8) -> (CycleEdge, Option<KeyId>) {
        let found = match kind {
            WW => self.write_write(),
            WR => self.write_read(),
            RW => self.read_write(),
            _ => Some(self.in_time(if kind == PROCESS { "process" } else { "realtime" })),
        };
        found.expect("every edge of the graph has a reason")
    }

    fn json(&self, key: KeyId, value: Option<Value>) -> (Json, Json) {
        let value = value.map_or(Json::Null, |value| value_json(self.history, value));
        (key_json(self.history, key), value)
    }

    fn list(&self, key: KeyId) -> &List<'_> {
        &self.lists[key.0 as usize]
    }

    fn write_write(&self) -> Option<(CycleEdge, Option<KeyId>)> {
        let (key, before, after) = self.to.mops().find_map(|mop| {
            let MopRef::Append { key, value } = mop else { return None };
            let before = self.list(key).before(value)?;
            let writer = *self.list(key).writers.get(&before)?;
            (writer as usize == self.from.row).then_some((key, before, value))
        })?;
        let of = key;
        let ((key, before), (_, after)) =
            (self.json(key, Some(before)), self.json(key, Some(after)));
        let (t1, t2) = (&self.names.0, &self.names.1);
        let edge = CycleEdge {
            kind: "ww",
            label: format!("key {key}: {before}, {after}"),
            because: format!("{t1} appended {before} to key {key} before {t2} appended {after}"),
            step: json!({"type": "ww", "key": key, "value": before, "value'": after}),
        };
        Some((edge, Some(of)))
    }

    fn write_read(&self) -> Option<(CycleEdge, Option<KeyId>)> {
        let (key, value) = self.to.mops().find_map(|mop| {
            let MopRef::Read { key, values } = mop else { return None };
            let value = *seen(&self.to, values)?.last()?;
            let writer = *self.list(key).writers.get(&value)?;
            (writer as usize == self.from.row).then_some((key, value))
        })?;
        let of = key;
        let (key, value) = self.json(key, Some(value));
        let (t1, t2) = (&self.names.0, &self.names.1);
        let edge = CycleEdge {
            kind: "wr",
            label: format!("key {key}: {value}"),
            because: format!("{t1} appended {value} to key {key}, which {t2} read"),
            step: json!({"type": "wr", "key": key, "value": value}),
        };
        Some((edge, Some(of)))
    }

    fn read_write(&self) -> Option<(CycleEdge, Option<KeyId>)> {
        let (key, before, after) = self.to.mops().find_map(|mop| {
            let MopRef::Append { key, value } = mop else { return None };
            let before = self.list(key).before(value);
            let mut reads = self.from.mops();
            let missed = reads.any(|mop| match mop {
                MopRef::Read { key: read, values } if read == key => {
                    seen(&self.from, values).is_some_and(|v| v.last().copied() == before)
                }
                _ => false,
            });
            missed.then_some((key, before, value))
        })?;
        let of = key;
        let ((key, before), (_, after)) = (self.json(key, before), self.json(key, Some(after)));
        let (t1, t2) = (&self.names.0, &self.names.1);
        let version =
            if before.is_null() { "as empty".to_owned() } else { format!("up to {before}") };
        let edge = CycleEdge {
            kind: "rw",
            label: match before {
                Json::Null => format!("key {key}: empty, not {after}"),
                ref before => format!("key {key}: {before}, not {after}"),
            },
            because: format!("{t1} read key {key} {version}, without {after}, which {t2} appended"),
            step: json!({"type": "rw", "key": key, "value": before, "value'": after}),
        };
        Some((edge, Some(of)))
    }

    fn in_time(&self, kind: &'static str) -> (CycleEdge, Option<KeyId>) {
        let (t1, t2) = (&self.names.0, &self.names.1);
        let end = self.from.index();
        let begin = self.to.invoke_index().unwrap_or_else(|| self.to.index());
        let edge = CycleEdge {
            kind,
            label: format!("{end} before {begin}"),
            because: format!(
                "{t1} completed (event {end}, {}) before {t2} began (event {begin}, {})",
                moment(self.from.complete_ns()),
                moment(self.to.invoke_ns())
            ),
            step: json!({"type": kind, "completed": end, "invoked": begin}),
        };
        (edge, None)
    }
}
