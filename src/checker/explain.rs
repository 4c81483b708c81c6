//! Turns what proves an anomaly into words and pictures.
//!
//! Never: decides what an anomaly is.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::history::columns::Op;
use crate::history::{EventType, History, KeyId, Process, Value};

/// A key as results write it: a number where it is one.
pub(super) fn key_json(history: &History, key: KeyId) -> Json {
    let name = history.key_name(key);
    name.parse::<i64>().map_or_else(|_| json!(name), |number| json!(number))
}

/// A value as results write it.
pub(super) fn value_json(history: &History, value: Value) -> Json {
    if value.0 >= Value::INTERNED_MIN { json!(history.value_name(value)) } else { json!(value.0) }
}

/// A process as results write it.
pub(super) fn process_json(process: &Process) -> Json {
    match process {
        Process::Client(number) => json!(number),
        Process::Named(name) => json!(&**name),
    }
}

/// An operation in words: its index, whose it is and what became of it.
pub(super) fn operation(op: &Op<'_>, history: &History) -> String {
    let process = match history.process(op.process()) {
        Process::Client(number) => number.to_string(),
        Process::Named(name) => name.to_string(),
    };
    format!("operation {} of process {process}", op.index())
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
    const MAX: usize = 6;
    let mut said: Vec<String> = items.iter().take(MAX).map(ToString::to_string).collect();
    if items.len() > MAX {
        said.push(format!("{} more", items.len() - MAX));
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
    /// Its process.
    pub process: String,
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
        let mut dot = String::from("digraph cycle {\n  node [shape=box, fontname=sans];\n");
        for (place, op) in self.operations.iter().enumerate() {
            let label: Vec<String> = self.lines(place, op).iter().map(|l| dot_text(l)).collect();
            let _ = writeln!(dot, "  t{} [label=\"{}\"];", place + 1, label.join("\\n"));
        }
        for (place, edge) in self.edges.iter().enumerate() {
            let next = (place + 1) % self.operations.len() + 1;
            let label = dot_text(&format!("{} {}", edge.kind, edge.label));
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

    fn lines(&self, place: usize, op: &CycleOperation) -> Vec<String> {
        let title = format!("T{}  operation {} (process {})", place + 1, op.index, op.process);
        std::iter::once(title).chain(op.summary.iter().cloned()).collect()
    }

    /// The cycle as a picture: operations around a ring, the first at the top.
    #[must_use]
    pub fn to_svg(&self) -> String {
        const SHOWN_MAX: usize = 24;
        let count = self.operations.len().min(SHOWN_MAX);
        let radius = (110.0 + 34.0 * count as f64).min(900.0);
        let (half_width, center) = (radius + 240.0, radius + 90.0);
        let place_of = |place: usize| {
            let angle = std::f64::consts::TAU * place as f64 / count as f64;
            (half_width + radius * angle.sin(), center - radius * angle.cos())
        };
        let mut svg = String::new();
        let (width, height) = (2.0 * half_width, 2.0 * center);
        let _ = write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<title>{}</title>\n<defs>",
            xml_text(self.name)
        );
        for kind in ["ww", "wr", "rw", "realtime", "process"] {
            let _ = write!(
                svg,
                "<marker id=\"{kind}\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" \
                 markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
                 <path d=\"M0 0L10 5L0 10z\" fill=\"{}\"/></marker>",
                color(kind)
            );
        }
        svg.push_str("</defs>\n");
        for place in 0..count {
            let to = place_of((place + 1) % count);
            svg_edge(&mut svg, &self.edges[place], place_of(place), to);
        }
        for place in 0..count {
            let lines = self.lines(place, &self.operations[place]);
            svg_box(&mut svg, &lines, place_of(place));
        }
        if count < self.operations.len() {
            let _ = writeln!(
                svg,
                "<text x=\"{half_width:.0}\" y=\"{center:.0}\" text-anchor=\"middle\">and {} more \
                 operations before T1</text>",
                self.operations.len() - count
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// The color of a kind of edge, readable on white.
fn color(kind: &str) -> &'static str {
    match kind {
        "ww" => "#b3261e",
        "wr" => "#1b5e9b",
        "rw" => "#7b3fa0",
        "realtime" => "#5f6368",
        _ => "#2e7d32",
    }
}

fn svg_edge(svg: &mut String, edge: &CycleEdge, from: (f64, f64), to: (f64, f64)) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx.hypot(dy).max(1.0);
    // Bent to one side, so that the two edges of a cycle of two lie apart.
    let bend = 0.18 * length;
    let middle =
        ((from.0 + to.0) / 2.0 + dy / length * bend, (from.1 + to.1) / 2.0 - dx / length * bend);
    let toward = |end: (f64, f64), margin: f64| {
        let (mx, my) = (middle.0 - end.0, middle.1 - end.1);
        let far = mx.hypot(my).max(1.0);
        (end.0 + mx / far * margin, end.1 + my / far * margin)
    };
    let (start, end) = (toward(from, 42.0), toward(to, 46.0));
    let color = color(edge.kind);
    let text = ((start.0 + 2.0 * middle.0 + end.0) / 4.0, (start.1 + 2.0 * middle.1 + end.1) / 4.0);
    let _ = writeln!(
        svg,
        "<path d=\"M{:.1} {:.1}Q{:.1} {:.1} {:.1} {:.1}\" fill=\"none\" stroke=\"{color}\" \
         stroke-width=\"1.6\" marker-end=\"url(#{})\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" \
         fill=\"{color}\" text-anchor=\"middle\" paint-order=\"stroke\" stroke=\"#fff\" \
         stroke-width=\"4\">{} {}</text>",
        start.0,
        start.1,
        middle.0,
        middle.1,
        end.0,
        end.1,
        edge.kind,
        text.0,
        text.1,
        edge.kind,
        xml_text(&edge.label)
    );
}

fn svg_box(svg: &mut String, lines: &[String], (x, y): (f64, f64)) {
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let (width, height) = (longest as f64 * 7.0 + 20.0, lines.len() as f64 * 17.0 + 12.0);
    let (left, top) = (x - width / 2.0, y - height / 2.0);
    let _ = writeln!(
        svg,
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"6\" \
         fill=\"#fff\" stroke=\"#333\"/>"
    );
    for (place, line) in lines.iter().enumerate() {
        let weight = if place == 0 { " font-weight=\"bold\"" } else { "" };
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\"{weight}>{}</text>",
            top + 20.0 + place as f64 * 17.0,
            xml_text(line)
        );
    }
}

fn dot_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

fn xml_text(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".into(),
            '<' => "&lt;".into(),
            '>' => "&gt;".into(),
            c if c.is_control() => " ".into(),
            c => c.to_string(),
        })
        .collect()
}
