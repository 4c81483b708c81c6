//! Turns the cases of a verdict into text, JSON and pictures, each whole: what it is about, why it
//! is an anomaly, the steps of its cycle, and every operation that takes part.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value as Json, json};

use super::query::lens::{Focus, Lens};
use super::query::operation;
use super::query::table::{COLUMNS, flow};
use super::text::exchange_words;
use crate::checker::anomaly::find_anomaly;
use crate::checker::{Case, Found, Verdict};
use crate::history::History;

/// One case of those a verdict shows.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The anomaly.
    pub name: &'a str,
    /// All of it that was found.
    pub found: &'a Found,
    /// Which case, from 1.
    pub number: usize,
    case: &'a Case,
}

/// A case of a verdict, if it shows so many.
#[must_use]
pub fn find<'a>(verdict: &'a Verdict, name: &str, number: usize) -> Option<Shown<'a>> {
    let (name, found) = verdict.anomalies.get_key_value(name)?;
    let case = found.cases.get(number.checked_sub(1)?)?;
    Some(Shown { name, found, number, case })
}

/// The files that explain a verdict, by name: `NAME.txt` with every case shown, and for every
/// cycle `NAME-N.svg` and `NAME-N.dot`.
#[must_use]
pub fn files(history: &History, verdict: &Verdict) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let rows = rows(history, verdict.anomalies.values().flat_map(|found| &found.cases));
    for (name, found) in &verdict.anomalies {
        let mut text = format!("{name}: {} found, {} shown", found.count, found.cases.len());
        text.push_str(if found.bad { ", bad\n" } else { ", not bad here\n" });
        if let Some(row) = find_anomaly(name) {
            text.push_str(&flow("", 0, row.meaning));
        }
        for (number, case) in (1..).zip(&found.cases) {
            let shown = Shown { name, found, number, case };
            let _ = write!(text, "\n{name} {number}\n\n");
            text.push_str(&shown.body(history, &rows, false));
            if let Some((dot, svg)) = shown.pictures() {
                files.push((format!("{name}-{number}.dot"), dot));
                files.push((format!("{name}-{number}.svg"), svg));
            }
        }
        files.push((format!("{name}.txt"), text));
    }
    files
}

/// Where the operations of cases stand in the history, by index.
fn rows<'a>(history: &History, cases: impl IntoIterator<Item = &'a Case>) -> BTreeMap<u64, usize> {
    let mut wanted: Vec<u64> =
        cases.into_iter().flat_map(|case| case.operations.iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let is_wanted = |index: &u64| wanted.binary_search(index).is_ok();
    history.ops().map(|op| (op.index(), op.row)).filter(|(index, _)| is_wanted(index)).collect()
}

impl Shown<'_> {
    /// The case as text. `is_whole` leaves out no record of a long poll, and no operation.
    #[must_use]
    pub fn text(&self, history: &History, is_whole: bool) -> String {
        let bad = if self.found.bad { "bad" } else { "not bad here" };
        let mut text = format!("{} {} of {} ({bad})\n", self.name, self.number, self.found.count);
        if let Some(row) = find_anomaly(self.name) {
            text.push_str(&flow("", 0, row.meaning));
        }
        text.push('\n');
        text.push_str(&self.body(history, &rows(history, [self.case]), is_whole));
        text
    }

    fn body(&self, history: &History, rows: &BTreeMap<u64, usize>, is_whole: bool) -> String {
        let mut text = String::new();
        for paragraph in self.case.explanation.lines() {
            text.push_str(&flow("  ", 2, paragraph));
        }
        self.fields(&mut text, is_whole);
        self.steps(&mut text, is_whole);
        self.proof(&mut text);
        self.operations(&mut text, history, rows, is_whole);
        text
    }

    fn fields(&self, text: &mut String, is_whole: bool) {
        // A cycle's fields are told by its steps.
        let is_told = |name: &str| self.case.cycle.is_some() && matches!(name, "steps" | "type");
        let fields: Vec<_> = self.case.fields.iter().filter(|(name, _)| !is_told(name)).collect();
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        if !fields.is_empty() {
            text.push('\n');
        }
        for (name, field) in fields {
            let first = format!("  {name:<width$}  ");
            text.push_str(&flow(&first, width + 4, &field_words(field, is_whole)));
        }
    }

    fn steps(&self, text: &mut String, is_whole: bool) {
        let Some(cycle) = &self.case.cycle else { return };
        let count = cycle.edges.len();
        let max = if is_whole { count } else { OPERATIONS_MAX };
        text.push_str("\nsteps\n");
        for (place, edge) in cycle.edges.iter().enumerate().take(max) {
            let next = (place + 1) % count + 1;
            let first = format!("  T{} -> T{next}  {:<8} ", place + 1, edge.kind);
            text.push_str(&flow(&first, first.chars().count(), &edge.because));
        }
        more(text, count, max, "steps");
    }

    fn proof(&self, text: &mut String) {
        if !self.case.wire.is_empty() {
            text.push_str("\non the wire\n");
            for said in &self.case.wire {
                text.push_str(&flow("  ", 4, said));
            }
            return;
        }
        if !self.case.exchanges.is_empty() {
            text.push_str("\nexchanges\n");
        }
        for exchange in &self.case.exchanges {
            let _ = writeln!(text, "  {}", exchange_words(exchange));
        }
        if !self.case.frames.is_empty() {
            let frames: Vec<String> = self.case.frames.iter().map(u64::to_string).collect();
            text.push('\n');
            text.push_str(&flow("frames  ", 8, &frames.join(" ")));
        }
    }

    fn operations(
        &self,
        text: &mut String,
        history: &History,
        rows: &BTreeMap<u64, usize>,
        is_whole: bool,
    ) {
        // A cycle's operations in its order, under the names its steps give them.
        let named: Vec<(String, u64)> = match &self.case.cycle {
            Some(cycle) => (1..)
                .zip(&cycle.operations)
                .map(|(number, op)| (format!("T{number}  "), op.index))
                .collect(),
            None => self.case.operations.iter().map(|&index| (String::new(), index)).collect(),
        };
        if named.is_empty() {
            return;
        }
        let mut focus = Focus::of_case(history, self.case);
        let own = self.case.operations.iter().filter_map(|index| rows.get(index));
        for moved in own.flat_map(|&row| operation::all_moved(&history.op(row))) {
            moved.records.iter().for_each(|&record| focus.add_near(moved.key, record));
        }
        let lens = if is_whole { Lens::everything(focus) } else { Lens::ends(focus) };
        let max = if is_whole { named.len() } else { OPERATIONS_MAX };
        text.push_str("\noperations (17@40 is value 17 at offset 40; * is what this is about)\n");
        for (name, index) in named.iter().take(max) {
            let title = format!("  {name}");
            match rows.get(index) {
                Some(&row) => {
                    let op = history.op(row);
                    text.push_str(&operation::text(history, &op, &lens, &title));
                }
                None => {
                    let _ = writeln!(text, "{title}operation {index}, not in this history");
                }
            }
        }
        more(text, named.len(), max, "operations");
    }

    /// The case as JSON: as in `results.json`, with the anomaly, which case it is, and under
    /// `history` its operations whole.
    #[must_use]
    pub fn object(&self, history: &History) -> Json {
        let rows = rows(history, [self.case]);
        let lens = Lens::everything(Focus::default());
        let whole = |index: &u64| {
            let row = *rows.get(index)?;
            Some(operation::json(history, &history.op(row), &lens))
        };
        let mut object = json!({
            "anomaly": self.name,
            "number": self.number,
            "count": self.found.count,
            "bad": self.found.bad,
            "meaning": find_anomaly(self.name).map(|row| row.meaning),
        });
        object["case"] = serde_json::to_value(self.case).expect("a case is JSON");
        object["history"] = self.case.operations.iter().filter_map(whole).collect();
        object
    }

    /// For a cycle, how Graphviz draws it and how we do.
    #[must_use]
    pub fn pictures(&self) -> Option<(String, String)> {
        self.case.cycle.as_ref().map(|cycle| (cycle.to_dot(), cycle.to_svg()))
    }
}

/// Operations and steps shown unless all are asked for.
const OPERATIONS_MAX: usize = 24;

fn more(text: &mut String, count: usize, max: usize, what: &str) {
    if count > max {
        let _ = writeln!(text, "  … {} more {what}", count - max);
    }
}

/// A field's value; of a long list, as much as fits on two lines.
fn field_words(field: &Json, is_whole: bool) -> String {
    let Json::Array(items) = field else { return field.to_string() };
    let words: Vec<String> = items.iter().map(Json::to_string).collect();
    let mut chars = 0;
    let fits = |word: &&String| {
        chars += word.chars().count() + 1;
        is_whole || chars < 2 * COLUMNS - 40
    };
    let shown: Vec<&String> = words.iter().take_while(fits).collect();
    let rest = words.len() - shown.len();
    let shown: Vec<&str> = shown.into_iter().map(String::as_str).collect();
    let rest = if rest > 0 { format!(" … {rest} more") } else { String::new() };
    format!("{}{rest}", shown.join(" "))
}
