//! Cycles among the operations of a queue history.
//!
//! Two graphs are looked at. The first is Jepsen's: write-write and write-read edges, and realtime
//! order; what it has is judged. The second adds anti-dependencies and leaves time out; what it
//! has is told and never bad (`docs/CHECKER.md` says why).
//!
//! Where a component has a type and another that implies it, only the stronger is told there, as
//! Elle does. Process order is looked at only where realtime order is not known, that is for
//! operations whose invocation the history lacks: everywhere else it is part of realtime order.

use std::collections::BTreeMap;

use super::edges::{Dependency, written_before};
use super::{Analysis, steps};
use crate::checker::anomaly::{ANOMALIES, Anomaly, Bad, Rw};
use crate::checker::expectation::Expectation;
use crate::checker::graph::timeline::is_vertex;
use crate::checker::graph::{
    Backward, Census, Count, EdgeBlocks, PROCESS, RT, RW, View, WR, WW, witness,
};
use crate::checker::verdict::{Case, Found};

/// What was found.
pub(super) struct Cycles {
    pub(super) anomalies: BTreeMap<String, Found>,
    pub(super) observations: Vec<String>,
}

/// The edges that lead back in time, whoever drew them.
pub(super) struct LeadBack {
    dependencies: Backward,
    anti: Backward,
}

impl LeadBack {
    /// None yet, among so many places.
    pub(super) fn new(len: usize) -> Self {
        Self { dependencies: Backward::new(len), anti: Backward::new(len) }
    }
}

/// The edges between operations.
pub(super) struct Drawn {
    /// Write-write and write-read edges, in as many pieces as threads drew.
    dependencies: Vec<EdgeBlocks>,
    /// Anti-dependencies, likewise.
    anti: Vec<EdgeBlocks>,
    /// Whether there is any that is not an anti-dependency.
    any: bool,
}

impl Drawn {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            dependencies: vec![EdgeBlocks::default()],
            anti: vec![EdgeBlocks::default()],
            any: false,
        }
    }

    /// Adds an edge between places.
    #[inline]
    pub(super) fn add(&mut self, from: u32, to: u32, dependency: Dependency, back: &LeadBack) {
        let (edges, backward) = match dependency {
            Dependency::Rw => (&mut self.anti, &back.anti),
            Dependency::Ww | Dependency::Wr => {
                self.any = true;
                (&mut self.dependencies, &back.dependencies)
            }
        };
        if from > to {
            backward.add(from, to);
        }
        edges[0].push((from, to, dependency.kind()));
    }

    /// Adds what another thread drew.
    pub(super) fn merge(&mut self, other: Self) {
        self.dependencies.extend(other.dependencies);
        self.anti.extend(other.anti);
        self.any |= other.any;
    }
}

/// Looks for cycles of every type.
pub(super) fn find(
    analysis: &Analysis<'_>,
    expected: &Expectation,
    threads: usize,
    (drawn, back): (Drawn, LeadBack),
) -> Cycles {
    let mut search = Search {
        analysis,
        expected,
        threads,
        cycles: Cycles { anomalies: BTreeMap::new(), observations: Vec::new() },
    };
    let any_edge = search.run(drawn, back);
    if !any_edge {
        let row = ANOMALIES.iter().find(|row| row.name == "empty-transaction-graph");
        let bad = row.is_some_and(|row| row.is_bad(expected, false));
        let explanation = "No value that was sent was polled by another operation, no two \
            operations sent to one key, and none completed before another began. Nothing can be \
            learned from such a history; a test that did nothing must not pass.";
        let case = Case { explanation: explanation.into(), ..Case::default() };
        let found = Found { count: 1, bad, cases: vec![case] };
        search.cycles.anomalies.insert("empty-transaction-graph".into(), found);
    }
    search.cycles
}

struct Search<'a, 'h> {
    analysis: &'a Analysis<'h>,
    expected: &'a Expectation,
    threads: usize,
    cycles: Cycles,
}

impl Search<'_, '_> {
    /// Looks at both graphs. Says whether there is any edge at all, anti-dependencies aside.
    fn run(&mut self, drawn: Drawn, back: LeadBack) -> bool {
        let Drawn { mut dependencies, anti, any } = drawn;
        let judged = back.dependencies.windows();
        let told = back.dependencies.and(back.anti).windows();
        let timeline = &self.analysis.timeline;
        let history = self.analysis.history;
        dependencies.push(self.process_order());
        let implied = |place: u32, writers: &mut Vec<u32>| {
            let each = |row| writers.push(timeline.node(row));
            written_before(self.analysis, timeline.row(place), each);
        };
        let census = Census {
            timeline,
            realtime: &|node| is_vertex(&history.op(timeline.row(node) as usize)),
            implied: &implied,
            parts_max: self.expected.cases_max(8).max(witness::COMPARED),
        };
        let views = [
            View {
                edges: dependencies.iter().collect(),
                windows: &judged,
                mask: WW | WR | RT | PROCESS,
                // A cycle that needs no write-write edge is no mere interleaving of writes.
                again_without_ww: self.expected.ww_deps,
                types: rows(|rw| rw == Rw::None),
            },
            View {
                edges: dependencies.iter().chain(&anti).collect(),
                windows: &told,
                mask: WW | WR | RW,
                again_without_ww: false,
                types: rows(|rw| rw != Rw::None),
            },
        ];
        for (view, taken) in views.iter().zip(census.take(&views, self.threads)) {
            let counts = taken.counts.into_iter().zip(taken.without_ww);
            for (row, (count, pure)) in view.types.iter().zip(counts) {
                self.report(row, count, pure);
            }
        }
        any || self.has_realtime_order()
    }

    /// Edges from what a process did to what it did next, where the invocation of the latter is
    /// not known.
    fn process_order(&self) -> EdgeBlocks {
        let history = self.analysis.history;
        let timeline = &self.analysis.timeline;
        let mut edges = EdgeBlocks::default();
        let mut before: Vec<Option<u32>> = vec![None; history.process_count()];
        for op in history.ops().filter(is_vertex) {
            let before = &mut before[op.process().0 as usize];
            let node = timeline.node(op.row as u32);
            if let (None, Some(earlier)) = (op.invoke_index(), *before) {
                edges.push((earlier, node, PROCESS));
            }
            if op.kind() == crate::history::EventType::Ok {
                *before = Some(node);
            }
        }
        edges
    }

    /// Whether some operation completed before another was invoked that completed as well.
    fn has_realtime_order(&self) -> bool {
        let vertices = || self.analysis.history.ops().filter(is_vertex);
        let first_end = vertices()
            .filter(|op| op.kind() == crate::history::EventType::Ok)
            .filter_map(|op| op.complete_index())
            .min();
        let last_begin = vertices()
            .filter(|op| op.complete_index().is_some())
            .filter_map(|op| op.invoke_index())
            .max();
        matches!((first_end, last_begin), (Some(end), Some(begin)) if end < begin)
    }

    fn report(&mut self, row: &'static Anomaly, count: Count, pure: Count) {
        let is_pure = pure.is_told && row.bad == Bad::WithoutWwDeps;
        if !count.is_told && !is_pure {
            if count.components > 0 {
                let (have, each) = match count.components {
                    1 => ("component also has", ""),
                    _ => ("components also have", "each "),
                };
                self.cycles.observations.push(format!(
                    "{} {have} a {} cycle, {each}with a stronger one",
                    count.components, row.name
                ));
            }
            return;
        }
        let max = self.expected.cases_max(row.shown);
        let shape = row.shape.expect("only cycle types are counted here");
        let mut seen: Vec<witness::Witness> = Vec::new();
        let pure_parts = if is_pure { pure.parts.as_slice() } else { &[] };
        for parts in [pure_parts, &count.parts] {
            for witness in witness::in_order(parts, shape) {
                if !seen.contains(&witness) {
                    seen.push(witness);
                }
            }
        }
        seen.truncate(max);
        let bad = row.is_bad(self.expected, is_pure);
        let case = |witness: &witness::Witness| {
            let is_pure = is_pure && witness.steps.iter().all(|&(_, kind)| kind != WW);
            let excuse = row.excuse(self.expected, is_pure);
            steps::case(self.analysis, row, witness, excuse)
        };
        let cases = seen.iter().map(case).collect();
        let count = count.components.max(pure.components);
        self.cycles.anomalies.insert(row.name.into(), Found { count, bad, cases });
    }
}

/// The cycle types of queue histories, those that imply others first.
fn rows(takes: impl Fn(Rw) -> bool) -> Vec<&'static Anomaly> {
    let of_queue = ANOMALIES.iter().filter(|row| row.source.is_queue());
    of_queue.filter(|row| row.shape.is_some_and(|shape| takes(shape.rw))).collect()
}
