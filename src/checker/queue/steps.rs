//! Explains the edges of a cycle: which value of which key, or which moments, order two
//! operations.

use serde_json::{Value as Json, json};

use super::Analysis;
use super::edges::next_writer;
use super::order::NO_INDEX;
use crate::checker::anomaly::Anomaly;
use crate::checker::explain::{
    Cycle, CycleEdge, CycleOperation, key_json, moment, process_words, value_json,
};
use crate::checker::graph::{PROCESS, RT, RW, WR, WW, witness::Witness};
use crate::checker::verdict::Case;
use crate::history::columns::Op;
use crate::history::{KeyId, MopRef, Value};

/// A cycle as a case.
pub(super) fn case(
    analysis: &Analysis<'_>,
    row: &Anomaly,
    witness: &Witness,
    excuse: Option<&str>,
) -> Case {
    let rows: Vec<u32> = witness.steps.iter().map(|&(n, _)| analysis.timeline.row(n)).collect();
    let count = rows.len();
    let mut operations: Vec<CycleOperation> =
        rows.iter().map(|&row| describe(&analysis.history.op(row as usize), analysis)).collect();
    let mut edges = Vec::new();
    for (place, &(_, kind)) in witness.steps.iter().enumerate() {
        let next = (place + 1) % count;
        let names = (format!("T{}", place + 1), format!("T{}", next + 1));
        let edge = Explainer { analysis, names, from: rows[place], to: rows[next] }.edge(kind);
        operations[place].summary.extend(edge.1);
        operations[next].summary.extend(edge.2);
        edges.push(edge.0);
    }
    for op in &mut operations {
        let mut told = Vec::new();
        for line in op.summary.drain(..) {
            if !told.contains(&line) {
                told.push(line);
            }
        }
        op.summary = told;
    }
    let mut indexes: Vec<u64> = operations.iter().map(|op| op.index).collect();
    let cycle = Cycle { name: row.name, operations, edges };
    let mut walk = indexes.clone();
    walk.extend(indexes.first().copied());
    let steps: Vec<&Json> = cycle.edges.iter().map(|edge| &edge.step).collect();
    let fields = vec![("type", json!(row.name)), ("cycle", json!(walk)), ("steps", json!(steps))];
    let mut explanation = cycle.explain(witness.is_shortest);
    if let Some(excuse) = excuse {
        explanation.push(' ');
        explanation.push_str(excuse);
    }
    indexes.sort_unstable();
    indexes.dedup();
    Case { fields, operations: indexes, explanation, cycle: Some(cycle), ..Case::default() }
}

fn describe(op: &Op<'_>, analysis: &Analysis<'_>) -> CycleOperation {
    let process = process_words(analysis.history.process(op.process()));
    CycleOperation { index: op.index(), process, ending: op.kind(), summary: Vec::new() }
}

/// An edge, and what its two operations did.
type Explained = (CycleEdge, Option<String>, Option<String>);

struct Explainer<'a, 'h> {
    analysis: &'a Analysis<'h>,
    names: (String, String),
    from: u32,
    to: u32,
}

impl<'h> Explainer<'_, 'h> {
    fn edge(&self, kind: u8) -> Explained {
        let found = match kind {
            WW => self.write_write(),
            WR => self.write_read(),
            RW => self.read_write(),
            RT => Some(self.realtime("realtime")),
            PROCESS => Some(self.realtime("process")),
            _ => None,
        };
        found.expect("every edge of the graph has a reason")
    }

    fn op(&self, row: u32) -> Op<'h> {
        self.analysis.history.op(row as usize)
    }

    /// The values an operation sent, with the key's understanding of each.
    fn sends(&self, row: u32) -> Vec<(KeyId, Value, u32)> {
        let op = self.op(row);
        let sends = op.mops().filter_map(|mop| match mop {
            MopRef::Send { key, value, .. } => {
                let number = self.analysis.keys[key.0 as usize].values.number(value);
                Some((key, value, number))
            }
            _ => None,
        });
        sends.collect()
    }

    fn json(&self, key: KeyId, number: u32) -> (Json, Json) {
        let value = self.analysis.keys[key.0 as usize].values.value(number);
        (key_json(self.analysis.history, key), value_json(self.analysis.history, value))
    }

    /// At which offset a value stands, in words.
    fn at(&self, key: KeyId, number: u32) -> String {
        let order = &self.analysis.keys[key.0 as usize].order;
        match order.index(number) {
            NO_INDEX => String::new(),
            index => format!(" at offset {}", order.offsets[index as usize]),
        }
    }

    fn write_write(&self) -> Option<Explained> {
        let (key, before, after) =
            self.sends(self.to).into_iter().find_map(|(key, _, number)| {
                let of_key = &self.analysis.keys[key.0 as usize];
                let index = of_key.order.index(number);
                let earlier = of_key.order.values.get(..index as usize)?;
                let known = |&&v: &&u32| of_key.values.writer[v as usize] != super::gather::NO_ROW;
                let before = *earlier.iter().rev().find(known)?;
                let joined = of_key.values.writer[before as usize] == self.from
                    && of_key.values.writer[number as usize] == self.to;
                joined.then_some((key, before, number))
            })?;
        let (key_json, first) = self.json(key, before);
        let (_, second) = self.json(key, after);
        let (t1, t2) = (&self.names.0, &self.names.1);
        let because = format!(
            "{t1} sent {first} to key {key_json}{} right before {t2} sent {second}{}",
            self.at(key, before),
            self.at(key, after)
        );
        let step = json!({"type": "ww", "key": key_json, "value": first, "value'": second});
        let label = format!("key {key_json}: {first}, {second}");
        Some((
            CycleEdge { kind: "ww", label, because, step },
            Some(format!("sent {first} to key {key_json}")),
            Some(format!("sent {second} to key {key_json}")),
        ))
    }

    /// A value of one operation that the other polled.
    fn polled(&self, writer: u32, reader: u32) -> Option<(KeyId, u32)> {
        self.op(reader).mops().find_map(|mop| {
            let MopRef::Poll(poll) = mop else { return None };
            poll.runs().find_map(|run| {
                let values = &self.analysis.keys[run.key.0 as usize].values;
                let mut numbers = run.records().map(|(_, value)| values.number(value));
                let number = numbers.find(|&n| values.writer[n as usize] == writer)?;
                Some((run.key, number))
            })
        })
    }

    fn write_read(&self) -> Option<Explained> {
        let (key, number) = self.polled(self.from, self.to)?;
        let (key_json, value) = self.json(key, number);
        let (t1, t2) = (&self.names.0, &self.names.1);
        let because = format!(
            "{t1} sent {value} to key {key_json}{}, which {t2} polled",
            self.at(key, number)
        );
        let step = json!({"type": "wr", "key": key_json, "value": value});
        let label = format!("key {key_json}: {value}");
        Some((
            CycleEdge { kind: "wr", label, because, step },
            Some(format!("sent {value} to key {key_json}")),
            Some(format!("polled {value} of key {key_json}")),
        ))
    }

    fn read_write(&self) -> Option<Explained> {
        let (key, last, next) = self.last_reads().into_iter().find_map(|(key, last)| {
            let of_key = &self.analysis.keys[key.0 as usize];
            let writer = next_writer(&of_key.values, &of_key.order, last)?;
            let next = of_key.order.values[of_key.order.index(last) as usize + 1];
            (writer == self.to).then_some((key, last, next))
        })?;
        let (key_json, first) = self.json(key, last);
        let (_, second) = self.json(key, next);
        let (t1, t2) = (&self.names.0, &self.names.1);
        let because = format!(
            "{t1} polled key {key_json} up to {first}{} and so missed {second}{}, which {t2} sent",
            self.at(key, last),
            self.at(key, next)
        );
        let step = json!({"type": "rw", "key": key_json, "value": first, "value'": second});
        let label = format!("key {key_json}: {first}, not {second}");
        Some((
            CycleEdge { kind: "rw", label, because, step },
            Some(format!("polled key {key_json} up to {first}")),
            Some(format!("sent {second} to key {key_json}")),
        ))
    }

    /// The last value an operation polled of each key.
    fn last_reads(&self) -> Vec<(KeyId, u32)> {
        let mut last: Vec<(KeyId, u32)> = Vec::new();
        for mop in self.op(self.from).mops() {
            let MopRef::Poll(poll) = mop else { continue };
            for run in poll.runs() {
                let values = &self.analysis.keys[run.key.0 as usize].values;
                let Some((_, value)) = run.records().last() else { continue };
                last.retain(|&(key, _)| key != run.key);
                last.push((run.key, values.number(value)));
            }
        }
        last
    }

    fn realtime(&self, kind: &'static str) -> Explained {
        let (first, second) = (self.op(self.from), self.op(self.to));
        let (t1, t2) = (&self.names.0, &self.names.1);
        let end = first.index();
        let begin = second.invoke_index().unwrap_or_else(|| second.index());
        let same = if first.process() == second.process() { ", of the same process," } else { "" };
        let because = format!(
            "{t1} completed (event {end}, {}) before {t2}{same} began (event {begin}, {})",
            moment(first.complete_ns()),
            moment(second.invoke_ns())
        );
        let step = json!({"type": kind, "completed": end, "invoked": begin});
        let label = format!("{end} before {begin}");
        (CycleEdge { kind, label, because, step }, None, None)
    }
}
