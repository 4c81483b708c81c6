//! Judges a queue history, step by step.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::cycles::{Drawn, LeadBack};
use super::edges::{Drawing, Edge};
use super::gather::{Fate, Gathered};
use super::lag::LagSearch;
use super::order::Order;
use super::sequence::{Positions, Sequence};
use super::strand::Strand;
use super::tally::{Kind, Tallies};
use super::truth::Truth;
use super::values::{READ_OK, SENT_INFO, Values};
use super::{beyond, cases, cycles, values};
use crate::checker::anomaly::{Bad, find_anomaly};
use crate::checker::expectation::{Expectation, World};
use crate::checker::explain::process_words;
use crate::checker::graph::Timeline;
use crate::checker::threads::fold;
use crate::checker::verdict::{Found, Lag};
use crate::history::columns::ProcessId;
use crate::history::{Function, History, Process};

/// What was found in a queue history.
pub(crate) struct Outcome {
    pub(crate) anomalies: BTreeMap<String, Found>,
    pub(crate) observations: Vec<String>,
    pub(crate) worst_realtime_lag: Option<Lag>,
}

/// One key, understood.
#[derive(Debug, Default)]
pub(super) struct Key {
    pub(super) values: Values,
    pub(super) order: Order,
}

/// A history, understood.
pub(super) struct Analysis<'h> {
    pub(super) history: &'h History,
    pub(super) gathered: Gathered<'h>,
    pub(super) keys: Vec<Key>,
    /// The undecided rows that must have happened.
    pub(super) committed: Vec<bool>,
    pub(super) timeline: Timeline<'h>,
}

/// Judges a queue history.
pub(crate) fn check(history: &History, expected: &Expectation, threads: usize) -> Outcome {
    let (analysis, mut total, back) = analyse(history, expected, threads);
    let tallies = &mut total.tallies;
    let worst_realtime_lag = total.lag.finish(history);
    let mut observations = Vec::new();
    let mut anomalies = beyond::find(&analysis, expected, &tallies.of(Kind::LostWrite).hits);
    anomalies.extend(cases::of(&analysis, expected, tallies));
    // Strangers' operations may be missing from any cycle, and they may send what they like.
    if expected.world == World::Closed {
        let cycles = cycles::find(&analysis, expected, threads, (total.drawn, back));
        anomalies.extend(cycles.anomalies);
        observations.extend(cycles.observations);
        observations.extend(observe(&analysis));
        observations.extend(rebalanced(history, &anomalies));
    }
    anomalies
        .retain(|name, _| find_anomaly(name).is_none_or(|row| row.is_judged_in(expected.world)));
    Outcome { anomalies, observations, worst_realtime_lag }
}

fn analyse<'h>(
    history: &'h History,
    expected: &Expectation,
    threads: usize,
) -> (Analysis<'h>, Examined, LeadBack) {
    // The order of operations is made beside; it needs one thread.
    let (gathered, timeline) = thread::scope(|scope| {
        let beside = (threads > 1).then(|| scope.spawn(|| Timeline::of(history)));
        let gathered = Gathered::of(history, threads);
        let timeline =
            beside.map(|beside| beside.join().expect("a checking thread does not panic"));
        (gathered, timeline.unwrap_or_else(|| Timeline::of(history)))
    });
    let mut by_weight: Vec<usize> = (0..history.key_count()).collect();
    by_weight.sort_by_key(|&key| std::cmp::Reverse(gathered.weight(key)));

    let committed: Vec<AtomicBool> =
        (0..gathered.rows.len()).map(|_| AtomicBool::new(false)).collect();
    let numbered = fold(threads, by_weight.len(), Vec::new, |done, item| {
        let key = by_weight[item];
        let values = Values::of(&gathered, key);
        mark_committed(&gathered, key, &values, &committed);
        done.push((key, values));
    });
    let mut values: Vec<Values> = by_weight.iter().map(|_| Values::default()).collect();
    for (key, of_key) in numbered.into_iter().flatten() {
        values[key] = of_key;
    }
    let committed: Vec<bool> = committed.into_iter().map(AtomicBool::into_inner).collect();

    let back = LeadBack::new(history.len());
    let examine = Examination {
        gathered: &gathered,
        committed: &committed,
        timeline: &timeline,
        back: &back,
    };
    let start = || Examined::new(history, expected);
    let examined = fold(threads, by_weight.len(), start, |state, item| {
        let key = by_weight[item];
        let order = examine.key(state, key, &values[key], expected.ww_deps);
        state.orders.push((key, order));
    });
    let mut orders: Vec<Order> = values.iter().map(|_| Order::default()).collect();
    let mut total = start();
    for part in examined {
        total.tallies.merge(part.tallies);
        total.drawn.merge(part.drawn);
        total.lag.merge(&part.lag);
        for (key, order) in part.orders {
            orders[key] = order;
        }
    }
    let keys =
        values.into_iter().zip(orders).map(|(values, order)| Key { values, order }).collect();
    (Analysis { history, gathered, keys, committed, timeline }, total, back)
}

/// Marks the undecided rows of which a value was read: all of each must have happened.
fn mark_committed(gathered: &Gathered<'_>, key: usize, values: &Values, marks: &[AtomicBool]) {
    if values.flags.iter().all(|flags| flags & SENT_INFO == 0) {
        return;
    }
    for sends in gathered.sends(key) {
        let row = sends[0].row as usize;
        let is_read = |value| values.has(values.number(value), READ_OK);
        if gathered.rows.fate(sends[0].row) == Fate::Info && sends.iter().any(|s| is_read(s.value))
        {
            marks[row].store(true, Ordering::Relaxed);
        }
    }
}

/// What examining keys yields, one of these a thread.
struct Examined {
    tallies: Tallies,
    positions: Positions,
    orders: Vec<(usize, Order)>,
    drawn: Drawn,
    lag: LagSearch,
    strand: Strand,
    polled: Vec<(u32, i64)>,
}

impl Examined {
    fn new(history: &History, expected: &Expectation) -> Self {
        let max = |kind: Kind| match kind {
            // Of these more is made than is shown: the one is counted by operation, the other
            // says which transactions are torn.
            Kind::PrecommittedRead | Kind::LostWrite => usize::MAX,
            _ => expected.cases_max(find_anomaly(kind.name()).map_or(0, |row| row.shown)),
        };
        Self {
            tallies: Tallies::new(max),
            positions: Positions::new(history.process_count()),
            orders: Vec::new(),
            drawn: Drawn::new(),
            lag: LagSearch::new(history.process_count()),
            strand: Strand::default(),
            polled: Vec::new(),
        }
    }
}

/// What is known before keys are put in order.
pub(super) struct Examination<'a, 'h> {
    pub(super) gathered: &'a Gathered<'h>,
    pub(super) committed: &'a [bool],
    pub(super) timeline: &'a Timeline<'h>,
    pub(super) back: &'a LeadBack,
}

impl Examination<'_, '_> {
    /// Whether a row's sends must have happened.
    pub(super) fn must_have_happened(&self, row: u32) -> bool {
        match self.gathered.rows.fate(row) {
            Fate::Ok => true,
            Fate::Info => self.committed[row as usize],
            Fate::Fail | Fate::Other => false,
        }
    }

    fn key(&self, state: &mut Examined, key: usize, values: &Values, ww_deps: bool) -> Order {
        let gathered = self.gathered;
        let committed = |row: u32| self.committed[row as usize];
        let order = Order::of(gathered, key, values, committed);
        let key_id = key as u32;
        let sequence = Sequence { gathered, key: key_id, values, order: &order };
        let truth = Truth { gathered, key: key_id, values, order: &order };
        truth.find(committed, &mut state.tallies);
        for sends in gathered.sends(key) {
            sequence.sends(sends, &mut state.positions, &mut state.tallies);
        }
        let drawing = Drawing { examination: self, values, order: &order, ww_deps };
        let drawn = &mut state.drawn;
        let mut draw = |edge: Edge| {
            let (from, to) = (self.timeline.node(edge.from), self.timeline.node(edge.to));
            drawn.add(from, to, edge.dependency, self.back);
        };
        drawing.writes(&mut draw);
        let strand = &mut state.strand;
        for runs in gathered.polls(key) {
            let row = runs[0].row;
            strand.look(gathered, values, &order, runs);
            state.polled.push((row, strand.highest));
            sequence.polls(row, strand, &mut state.positions, &mut state.tallies);
            let happened = |row| self.must_have_happened(row);
            truth.read(row, strand, happened, &mut state.tallies);
            drawing.polls(row, strand, &mut draw);
        }
        state.lag.key(gathered, key_id, &state.polled);
        state.polled.clear();
        order
    }
}

/// What is held against brokers only because nobody said that consumers subscribed, though they did.
fn rebalanced(history: &History, anomalies: &BTreeMap<String, Found>) -> Option<String> {
    let is_held = |(name, found): (&String, &Found)| {
        found.bad && find_anomaly(name).is_some_and(|row| row.bad == Bad::AssignOnly)
    };
    let names: Vec<&str> =
        anomalies.iter().filter(|&found| is_held(found)).map(|(name, _)| name.as_str()).collect();
    let is_subscribed = || history.ops().any(|op| *op.function() == Function::Subscribe);
    (!names.is_empty() && is_subscribed()).then(|| {
        format!(
            "consumers subscribed: rebalances may be the cause of {}, which `--sub-via subscribe` \
             does not hold against the broker",
            names.join(" and ")
        )
    })
}

/// Oddities that bear on the verdict.
fn observe(analysis: &Analysis<'_>) -> Vec<String> {
    let twice: u64 = analysis
        .keys
        .iter()
        .flat_map(|key| &key.values.flags)
        .filter(|&&flags| flags & values::SENT_TWICE != 0)
        .count() as u64;
    let mut said = Vec::new();
    if twice > 0 {
        said.push(format!(
            "{twice} values were sent more than once to their key; the last sender is taken to \
             be the writer, and anomalies of these values may not be real"
        ));
    }
    said.extend(passed_over(analysis.history));
    said
}

/// Clients have numbers. What is done under a name is not theirs, though it may look so.
fn passed_over(history: &History) -> Option<String> {
    let is_other = |process: ProcessId| matches!(history.process(process), Process::Named(name) if &**name != "nemesis");
    (0..history.process_count() as u32).map(ProcessId).find(|&process| is_other(process))?;
    let mut named = history.ops().filter(|op| is_other(op.process()) && op.mops().len() > 0);
    let first = named.next()?;
    let (name, count) = (process_words(history.process(first.process())), 1 + named.count());
    Some(format!(
        "not judged, as clients have numbers: sends and polls of {name}, and of others with a name; \
         {count} in all"
    ))
}
