//! Turns what proves an anomaly into words, and cycles into Graphviz's language; `picture` draws
//! them.
//!
//! Never: decides what an anomaly is.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::history::columns::Op;
use crate::history::{EventType, History, KeyId, Process, Value};

/// A key as results write it: a number where it is one, a string without a second pair of quotes.
pub(super) fn key_json(history: &History, key: KeyId) -> Json {
    name_json(history.key_name(key))
}

/// A value as results write it.
pub(super) fn value_json(history: &History, value: Value) -> Json {
    if value.0 >= Value::INTERNED_MIN {
        name_json(&history.value_name(value))
    } else {
        json!(value.0)
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

/// A process as results write it.
pub(super) fn process_json(process: &Process) -> Json {
    match process {
        Process::Client(number) => json!(number),
        Process::Named(name) => json!(&**name),
    }
}

/// A process in words. One that the history does not name was given a negative number.
pub(super) fn process_words(process: &Process) -> String {
    match process {
        Process::Client(number) if *number < 0 => "a process without a name".to_owned(),
        Process::Client(number) => format!("process {number}"),
        Process::Named(name) => format!("process {name}"),
    }
}

/// An operation in words: its index and whose it is.
pub(super) fn operation(op: &Op<'_>, history: &History) -> String {
    format!("operation {} of {}", op.index(), process_words(history.process(op.process())))
}

/// What an operation's error says, in brackets and short; nothing where it has none.
pub(super) fn error_words(op: &Op<'_>) -> String {
    const MAX: usize = 90;
    let Some(error) = op.error() else { return String::new() };
    // Jepsen writes down what a transaction tried, as a map; most ended by intent.
    if error.contains(":intentional-abort") {
        return " (it was aborted on purpose)".to_owned();
    }
    let error: String = error.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let short: String = error.chars().take(MAX).collect();
    let more = if short.len() < error.len() { "…" } else { "" };
    format!(" (its error: {short}{more})")
}

/// A moment in words.
pub(super) fn moment(ns: u64) -> String {
    format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1_000)
}

/// What became of an operation, in words.
pub(super) fn outcome(op: &Op<'_>) -> &'static str {
    match op.kind() {
        EventType::Ok => "succeeded",
        EventType::Fail => "failed",
        EventType::Info | EventType::Invoke => "ended undecided",
    }
}

/// A short list in words: the first few and how many more.
pub(super) fn list(items: &[Json]) -> String {
    words(items.iter().map(ToString::to_string), items.len())
}

/// The same of words, of which there are `count`.
pub(super) fn words(items: impl Iterator<Item = String>, count: usize) -> String {
    const MAX: usize = 6;
    let mut said: Vec<String> = items.take(MAX).collect();
    if count > MAX {
        said.push(format!("{} more", count - MAX));
    }
    match said.as_slice() {
        [] => "nothing".into(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// An operation of a cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleOperation {
    /// Its index in the history.
    pub index: u64,
    /// Its process, in words.
    pub process: String,
    /// How it ended.
    pub ending: EventType,
    /// What it did that matters here.
    pub summary: Vec<String>,
}

/// An edge of a cycle, from one operation to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleEdge {
    /// `ww`, `wr`, `rw`, `realtime` or `process`.
    pub kind: &'static str,
    /// Why it is there, in a few words.
    pub label: String,
    /// Why it is there, in a sentence.
    pub because: String,
    /// The same for machines: `type`, `key`, `value`, `value'`.
    pub step: Json,
}

/// A cycle: operations, and the edge that leads from each to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// The anomaly.
    pub name: &'static str,
    /// The operations, in order.
    pub operations: Vec<CycleOperation>,
    /// The edge from each operation to the next; the last leads to the first.
    pub edges: Vec<CycleEdge>,
}

impl Cycle {
    /// Why this is a contradiction, in a few sentences.
    #[must_use]
    pub fn explain(&self, is_shortest: bool) -> String {
        const STEPS_MAX: usize = 4;
        let mut said = String::new();
        let count = self.edges.len();
        for (place, edge) in self.edges.iter().take(STEPS_MAX).enumerate() {
            let is_last = place + 1 == count;
            let opening = if is_last && place > 0 { "However, " } else { "" };
            let because = &edge.because;
            let ending = if is_last { ": a contradiction." } else { ". " };
            let _ = write!(said, "{opening}{because}{ending}");
        }
        if count > STEPS_MAX {
            let rest = count - STEPS_MAX;
            let _ = write!(
                said,
                "So it goes on over {rest} more edges back to T1: every one of these operations \
                 comes before itself, a contradiction."
            );
        }
        if !is_shortest {
            said.push_str(" (The component is large; a shorter cycle may be in it.)");
        }
        said
    }

    /// The cycle for Graphviz.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut dot = String::from(
            "digraph cycle {\n  \
             node [shape=box, style=\"rounded,filled\", fillcolor=\"#f6f7f9\", penwidth=1.5, \
             fontname=\"Helvetica\", fontsize=12];\n  \
             edge [penwidth=1.5, fontname=\"Helvetica\", fontsize=11];\n",
        );
        for (place, op) in self.operations.iter().enumerate() {
            // `\\l` ends a line and puts it to the left.
            let label: String =
                self.lines(place, op).iter().map(|line| dot_text(line) + "\\l").collect();
            let color = ending_color(op.ending);
            let _ = writeln!(dot, "  t{} [label=\"{label}\", color=\"{color}\"];", place + 1);
        }
        for (place, edge) in self.edges.iter().enumerate() {
            let next = (place + 1) % self.operations.len() + 1;
            // A space before it keeps it off the line.
            let label = dot_text(&format!(" {} {}", edge.kind, edge.label));
            let color = color(edge.kind);
            let _ = writeln!(
                dot,
                "  t{} -> t{next} [label=\"{label}\", color=\"{color}\", fontcolor=\"{color}\"];",
                place + 1
            );
        }
        dot.push_str("}\n");
        dot
    }

    pub(super) fn lines(&self, place: usize, op: &CycleOperation) -> Vec<String> {
        let ending = if op.ending == EventType::Invoke { "never ended" } else { op.ending.name() };
        let title = format!("T{} · operation {} · {} · {ending}", place + 1, op.index, op.process);
        std::iter::once(title).chain(op.summary.iter().cloned()).collect()
    }
}

/// The color of a kind of edge, readable on white.
pub(super) fn color(kind: &str) -> &'static str {
    match kind {
        "ww" => "#b3261e",
        "wr" => "#1b5e9b",
        "rw" => "#7b3fa0",
        "realtime" => "#5f6368",
        _ => "#2e7d32",
    }
}

/// The color of how an operation ended: as Jepsen's pictures have it, dark enough for a line.
pub(super) fn ending_color(ending: EventType) -> &'static str {
    match ending {
        EventType::Ok => "#0058ad",
        EventType::Fail => "#a50053",
        EventType::Info | EventType::Invoke => "#ac6e00",
    }
}

fn dot_text(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().map(plain).collect();
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
