//! Judges a list-append history, step by step.

use std::collections::BTreeMap;

use super::{edges, lists, local, models};
use crate::checker::anomaly::{ANOMALIES, Anomaly, TimeOrder, find_anomaly};
use crate::checker::expectation::Expectation;
use crate::checker::graph::{
    Backward, Census, EdgeBlocks, PROCESS, RT, RW, RawEdge, Timeline, View, WR, WW, witness,
};
use crate::checker::verdict::{Case, Found};
use crate::history::{EventType, History};

/// What was found in a list-append history.
pub(crate) struct Outcome {
    pub(crate) anomalies: BTreeMap<String, Found>,
    pub(crate) observations: Vec<String>,
    /// Whether anything could be judged: a history without any dependency shows nothing.
    pub(crate) judged: bool,
}

/// Judges a list-append history.
pub(crate) fn check(history: &History, expected: &Expectation, threads: usize) -> Outcome {
    let lists = lists::of(history);
    let forbidden = models::forbidden(&expected.consistency_model);
    let mut report =
        Report { expected, forbidden: &forbidden, found: BTreeMap::new(), allowed: Vec::new() };
    for (name, cases) in local::find(history, &lists) {
        report.take(name, cases.len() as u64, cases);
    }
    let search = Search { history, lists: &lists, timeline: Timeline::of(history), threads };
    let has_edge = search.cycles(time_order(&forbidden), &mut report);
    let Report { found, allowed, .. } = report;
    let mut anomalies = found;
    let mut observations = observe(&lists);
    if !allowed.is_empty() {
        let name = expected.consistency_model.name();
        observations.push(format!("allowed under {name}: {}", allowed.join(", ")));
    }
    let names: Vec<&str> = anomalies.keys().map(String::as_str).collect();
    let out = models::ruled_out(&names);
    if !out.is_empty() {
        observations.push(format!("ruled out: {} and everything stronger", out.join(", ")));
    }
    if !has_edge {
        let explanation = "No transaction depends on any other: nothing can be learned from such a \
            history. It is neither right nor wrong.";
        let case = Case { explanation: explanation.into(), ..Case::default() };
        let found = Found { count: 1, bad: false, cases: vec![case] };
        anomalies.insert("empty-transaction-graph".into(), found);
    }
    Outcome { anomalies, observations, judged: has_edge }
}

/// The order of time that a model asks for. Realtime order holds process order.
fn time_order(forbidden: &[&str]) -> Option<TimeOrder> {
    let asks = |suffix: &str| forbidden.iter().any(|name| name.ends_with(suffix));
    if asks("-realtime") {
        Some(TimeOrder::Realtime)
    } else if asks("-process") {
        Some(TimeOrder::Process)
    } else {
        None
    }
}

/// What is found, sorted by whether the model forbids it.
struct Report<'a> {
    expected: &'a Expectation,
    forbidden: &'a [&'static str],
    found: BTreeMap<String, Found>,
    allowed: Vec<String>,
}

impl Report<'_> {
    fn take(&mut self, name: &str, count: u64, mut cases: Vec<Case>) {
        if !self.forbidden.contains(&name) {
            self.allowed.push(format!("{name} {count}"));
            return;
        }
        let shown = find_anomaly(name).map_or(0, |row| row.shown);
        cases.truncate(self.expected.cases_max(shown));
        let bad = !self.expected.ignore.contains(name);
        self.found.insert(name.to_owned(), Found { count, bad, cases });
    }
}

struct Search<'a, 'h> {
    history: &'h History,
    lists: &'a [lists::List<'h>],
    timeline: Timeline<'h>,
    threads: usize,
}

impl Search<'_, '_> {
    /// Reports cycles; says whether there is any edge at all.
    fn cycles(&self, time: Option<TimeOrder>, report: &mut Report<'_>) -> bool {
        let all = edges::of(self.history, self.lists, time == Some(TimeOrder::Process));
        let places =
            |&(from, to, kind): &RawEdge| (self.timeline.node(from), self.timeline.node(to), kind);
        let backward = Backward::new(self.history.len());
        for (from, to, _) in all.iter().map(places).filter(|&(from, to, _)| from > to) {
            backward.add(from, to);
        }
        let windows = backward.windows();
        let mut edges = EdgeBlocks::default();
        all.iter().map(places).for_each(|edge| edges.push(edge));
        let is_in_time = |row: &&Anomaly| {
            row.shape.is_some_and(|shape| shape.time.is_none() || shape.time == time)
        };
        let types: Vec<&'static Anomaly> =
            ANOMALIES.iter().filter(|row| row.source.is_list_append()).filter(is_in_time).collect();
        let wants_realtime = time == Some(TimeOrder::Realtime);
        let takes_part = |node: u32| {
            let op = self.history.op(self.timeline.row(node) as usize);
            wants_realtime && op.kind() != EventType::Fail && lists::is_transaction(&op)
        };
        let census = Census {
            timeline: &self.timeline,
            realtime: &takes_part,
            parts_max: report.expected.cases_max(8).max(witness::COMPARED),
            implied: &|_, _| (),
        };
        let view = View {
            edges: vec![&edges],
            windows: &windows,
            mask: WW | WR | RW | RT | PROCESS,
            again_without_ww: false,
            types: types.clone(),
        };
        let taken = census.take(&[view], self.threads);
        for (row, count) in types.iter().zip(taken.into_iter().flat_map(|taken| taken.counts)) {
            if count.is_told {
                let shape = row.shape.expect("only cycle types are counted");
                let found = witness::in_order(&count.parts, shape);
                let explain =
                    |witness| edges::case(self.history, self.lists, &self.timeline, row, witness);
                let cases = found.iter().map(explain).collect();
                report.take(row.name, count.components, cases);
            }
        }
        !all.is_empty() || (wants_realtime && self.has_realtime_order())
    }

    /// Whether some transaction completed before another was invoked that completed as well.
    fn has_realtime_order(&self) -> bool {
        let transactions = || self.history.ops().filter(lists::is_transaction);
        let completed = transactions().filter(|op| op.kind() == EventType::Ok);
        let first_end = completed.filter_map(|op| op.complete_index()).min();
        let begun = transactions().filter(|op| op.complete_index().is_some());
        let last_begin = begun.filter_map(|op| op.invoke_index()).max();
        matches!((first_end, last_begin), (Some(end), Some(begin)) if end < begin)
    }
}

fn observe(lists: &[lists::List<'_>]) -> Vec<String> {
    let mut said = Vec::new();
    let repeated: usize = lists.iter().map(|list| list.repeated).sum();
    if repeated > 0 {
        said.push(format!(
            "{repeated} appends repeat a value of their list; the last appender is taken to be \
             the writer, and anomalies of these values may not be real"
        ));
    }
    let unknown: usize = lists
        .iter()
        .map(|list| {
            let is_known =
                |value| list.writers.contains_key(value) || list.failed.contains_key(value);
            list.order.iter().filter(|value| !is_known(*value)).count()
        })
        .sum();
    if unknown > 0 {
        said.push(format!("{unknown} elements were read that nobody appended"));
    }
    said
}
