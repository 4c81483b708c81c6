//! The definitions of queue anomalies, each as plain as it goes.

use std::collections::{BTreeMap, BTreeSet};

use super::cycles::{Edges, census};
use super::notation::{Outcome, TestMop, TestOp};

pub(crate) type Counts = BTreeMap<String, u64>;

/// One value in one place of one operation.
type Record = (i64, Option<i64>, i64);

fn is_read_write(op: &TestOp) -> bool {
    ["send", "poll", "txn"].contains(&op.function)
}

fn sent(op: &TestOp) -> Vec<Record> {
    let sends = op.mops.iter().filter_map(|mop| match mop {
        TestMop::Send { key, value, offset } => {
            // An operation that never completed says only what it meant to send.
            let known = offset.filter(|_| op.outcome != Outcome::Never);
            Some((*key, known, *value))
        }
        _ => None,
    });
    sends.collect()
}

fn polled(op: &TestOp) -> Vec<Record> {
    if op.outcome == Outcome::Never {
        return Vec::new();
    }
    let polls = op.mops.iter().filter_map(|mop| match mop {
        TestMop::Poll(records) => {
            // A poll's answer is a map: key by key.
            let mut records = records.clone();
            records.sort_by_key(|record| record.0);
            Some(records)
        }
        _ => None,
    });
    polls.flatten().collect()
}

fn of_key(records: Vec<Record>, key: i64) -> Vec<i64> {
    records.into_iter().filter(|record| record.0 == key).map(|record| record.2).collect()
}

fn is_undecided(op: &TestOp) -> bool {
    matches!(op.outcome, Outcome::Info | Outcome::Never)
}

struct Twin<'a> {
    ops: Vec<&'a TestOp>,
    keys: BTreeSet<i64>,
    counts: Counts,
    torn: BTreeSet<usize>,
}

/// The queue verdict on operations in the order of their completions, those without one last.
pub(crate) fn queue_twin(ops: &[TestOp], ww_deps: bool) -> Counts {
    let mut ordered: Vec<&TestOp> = ops.iter().collect();
    ordered.sort_by_key(|op| (op.completed.is_none(), op.completed, op.invoked));
    let mut keys = BTreeSet::new();
    for op in &ordered {
        keys.extend(sent(op).iter().chain(&polled(op)).map(|record| record.0));
    }
    let mut twin = Twin { ops: ordered, keys, counts: Counts::new(), torn: BTreeSet::new() };
    for key in twin.keys.clone() {
        twin.key(key);
    }
    let torn = twin.torn.len() as u64;
    twin.add("torn-transaction", torn);
    twin.precommitted();
    twin.cycles(ww_deps);
    twin.counts.retain(|_, count| *count > 0);
    twin.counts
}

impl Twin<'_> {
    fn add(&mut self, name: &str, count: u64) {
        *self.counts.entry(name.to_owned()).or_default() += count;
    }

    fn ok_read(&self, key: i64) -> BTreeSet<i64> {
        let ok = self.ops.iter().filter(|op| op.outcome == Outcome::Ok);
        ok.flat_map(|op| of_key(polled(op), key)).collect()
    }

    fn must_have_committed(&self, op: &TestOp) -> bool {
        op.outcome == Outcome::Ok
            || (is_undecided(op)
                && sent(op).iter().any(|(key, _, value)| self.ok_read(*key).contains(value)))
    }

    fn log(&self, key: i64) -> BTreeMap<i64, BTreeSet<i64>> {
        let mut log: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
        for op in &self.ops {
            let sends = if self.must_have_committed(op) { sent(op) } else { Vec::new() };
            for (k, offset, value) in polled(op).into_iter().chain(sends) {
                if let (true, Some(offset)) = (k == key, offset) {
                    log.entry(offset).or_default().insert(value);
                }
            }
        }
        log
    }

    /// The version order: for two values at one offset, which one stands for the place is left to
    /// the checker; histories here have values of which the smaller one does.
    fn order(&self, key: i64) -> Vec<i64> {
        self.log(key).values().map(pick).collect()
    }

    fn index(&self, key: i64, value: i64) -> Option<usize> {
        self.order(key).iter().rposition(|v| *v == value)
    }

    fn writer(&self, key: i64, value: i64) -> Option<usize> {
        let wrote = |op: &&TestOp| sent(op).iter().any(|(k, _, v)| (*k, *v) == (key, value));
        let completed = (0..self.ops.len())
            .rev()
            .find(|&n| self.ops[n].completed.is_some() && wrote(&self.ops[n]));
        // Of those that never completed, the first.
        completed.or_else(|| (0..self.ops.len()).find(|&n| wrote(&self.ops[n])))
    }

    fn key(&mut self, key: i64) {
        let log = self.log(key);
        self.add("inconsistent-offsets", log.values().filter(|v| v.len() > 1).count() as u64);
        let values: BTreeSet<i64> = log.values().flatten().copied().collect();
        for value in &values {
            let offsets: Vec<i64> =
                log.iter().filter(|(_, v)| v.contains(value)).map(|(o, _)| *o).collect();
            self.add("duplicate", u64::from(offsets.len() > 1));
            let nonzero = offsets.iter().filter(|offset| **offset != 0).count();
            self.add("duplicate-nonzero", u64::from(nonzero > 1));
        }
        self.lost(key, &log);
        self.reads(key);
        self.sequences(key);
    }

    fn lost(&mut self, key: i64, log: &BTreeMap<i64, BTreeSet<i64>>) {
        let read = self.ok_read(key);
        let sets: Vec<&BTreeSet<i64>> = log.values().collect();
        let first = |value: i64| sets.iter().position(|set| set.contains(&value));
        let last = |value: i64| sets.iter().rposition(|set| set.contains(&value));
        let acknowledged: BTreeSet<i64> = self
            .ops
            .iter()
            .filter(|op| op.outcome == Outcome::Ok)
            .flat_map(|op| of_key(sent(op), key))
            .collect();
        self.add("unseen", acknowledged.difference(&read).count() as u64);
        let Some(bound) = read.iter().filter_map(|value| first(*value)).max() else { return };
        let all: BTreeSet<i64> = self.ops.iter().flat_map(|op| of_key(sent(op), key)).collect();
        let order = self.order(key);
        for value in all {
            let Some(writer) = self.writer(key, value) else { continue };
            if read.contains(&value) || !self.must_have_committed(self.ops[writer]) {
                continue;
            }
            let is_behind = match last(value) {
                Some(last) => last <= bound,
                None => {
                    let done = self.ops[writer].completed;
                    acknowledged.contains(&value)
                        && order[..=bound].iter().any(|other| {
                            let begun = self.writer(key, *other).map(|n| self.ops[n].invoked);
                            done.is_some() && begun > done
                        })
                }
            };
            if is_behind {
                self.add("lost-write", 1);
                let whole = sent(self.ops[writer]);
                if whole.iter().any(|(k, _, v)| self.ok_read(*k).contains(v)) {
                    self.torn.insert(writer);
                }
            }
        }
    }

    fn reads(&mut self, key: i64) {
        let all: BTreeSet<i64> = self.ops.iter().flat_map(|op| of_key(polled(op), key)).collect();
        let phantoms = all.iter().filter(|value| self.writer(key, **value).is_none()).count();
        self.add("phantom-read", phantoms as u64);
        let failed: BTreeSet<i64> = self
            .ops
            .iter()
            .filter(|op| op.outcome == Outcome::Fail)
            .flat_map(|op| of_key(sent(op), key))
            .collect();
        for n in 0..self.ops.len() {
            let op = self.ops[n];
            let values = of_key(polled(op), key);
            if op.outcome != Outcome::Ok {
                continue;
            }
            self.add("G1a", values.iter().filter(|value| failed.contains(value)).count() as u64);
            let Some(last) = values.last() else { continue };
            let Some(writer) = self.writer(key, *last).filter(|&w| w != n) else { continue };
            let is_passed = self.ops.iter().any(|op| {
                let of_key = of_key(sent(op), key);
                of_key.iter().rev().skip(1).any(|value| value == last)
            });
            if is_passed && self.must_have_committed(self.ops[writer]) {
                self.add("G1b", 1);
            }
        }
    }

    /// The difference of two places, if both are known.
    fn delta(&self, key: i64, from: i64, to: i64) -> i64 {
        match (self.index(key, from), self.index(key, to)) {
            (Some(from), Some(to)) => to as i64 - from as i64,
            _ => 1,
        }
    }

    fn sequences(&mut self, key: i64) {
        let mut last_polled: BTreeMap<i64, i64> = BTreeMap::new();
        let mut last_sent: BTreeMap<i64, i64> = BTreeMap::new();
        for n in 0..self.ops.len() {
            let op = self.ops[n];
            if !is_read_write(op) {
                if op.outcome != Outcome::Fail && !op.keys.contains(&key) {
                    last_polled.remove(&op.process);
                    last_sent.remove(&op.process);
                }
                continue;
            }
            let (polls, sends) = (of_key(polled(op), key), of_key(sent(op), key));
            for pair in polls.windows(2) {
                let delta = self.delta(key, pair[0], pair[1]);
                self.add("int-poll-skip", u64::from(delta > 1));
                self.add("int-nonmonotonic-poll", u64::from(delta < 1));
            }
            for pair in sends.windows(2) {
                let delta = self.delta(key, pair[0], pair[1]);
                self.add("int-send-skip", u64::from(delta > 1));
                self.add("int-nonmonotonic-send", u64::from(delta < 1));
            }
            if let (Some(from), Some(to)) = (last_polled.get(&op.process), polls.first()) {
                let delta = self.delta(key, *from, *to);
                self.add("poll-skip", u64::from(delta > 1));
                self.add("nonmonotonic-poll", u64::from(delta < 1));
            }
            if let (Some(last), Outcome::Ok) = (polls.last(), op.outcome) {
                last_polled.insert(op.process, *last);
            }
            if op.outcome == Outcome::Fail {
                continue;
            }
            if let (Some(from), Some(to)) = (last_sent.get(&op.process), sends.first()) {
                let delta = self.delta(key, *from, *to);
                self.add("nonmonotonic-send", u64::from(delta < 1));
            }
            if let Some(last) = sends.last() {
                last_sent.insert(op.process, *last);
            }
        }
    }

    fn precommitted(&mut self) {
        let own = |op: &&&TestOp| {
            let sends = sent(op);
            polled(op).iter().any(|(k, _, v)| sends.iter().any(|(a, _, b)| (a, b) == (k, v)))
        };
        let count = self.ops.iter().filter(own).count() as u64;
        self.add("precommitted-read", count);
    }

    fn cycles(&mut self, ww_deps: bool) {
        let len = self.ops.len();
        let mut graph = Edges::default();
        for key in self.keys.clone() {
            let order = self.order(key);
            let all: BTreeSet<i64> = self.ops.iter().flat_map(|op| of_key(sent(op), key)).collect();
            for value in all.iter().filter(|_| ww_deps) {
                let (Some(index), Some(writer)) =
                    (self.index(key, *value), self.writer(key, *value))
                else {
                    continue;
                };
                let before = order[..index].iter().rev().find_map(|v| self.writer(key, *v));
                graph.add("ww", before, Some(writer));
            }
            for reader in 0..len {
                let values = of_key(polled(self.ops[reader]), key);
                for value in &values {
                    graph.add("wr", self.writer(key, *value), Some(reader));
                }
                let next = values.last().and_then(|last| self.index(key, *last)).map(|i| i + 1);
                let next = next.and_then(|i| order.get(i)).and_then(|v| self.writer(key, *v));
                if self.ops[reader].outcome == Outcome::Ok
                    && next.is_some_and(|w| self.must_have_committed(self.ops[w]))
                {
                    graph.add("rw", Some(reader), next);
                }
            }
        }
        let is_vertex = |n: usize| is_read_write(self.ops[n]);
        let mut any_time = false;
        for a in (0..len).filter(|n| is_vertex(*n)) {
            for b in (0..len).filter(|n| is_vertex(*n)) {
                let end = self.ops[a].completed.filter(|_| self.ops[a].outcome == Outcome::Ok);
                if end.is_some_and(|end| end < self.ops[b].invoked) {
                    graph.add("realtime", Some(a), Some(b));
                    any_time |= self.ops[b].completed.is_some();
                }
            }
        }
        let any = graph.0.iter().any(|(kind, _, _)| *kind == "ww" || *kind == "wr");
        self.add("empty-transaction-graph", u64::from(!any && !any_time));
        let told = census(
            &graph,
            len,
            &["ww", "wr", "realtime"],
            &[
                ("G0", &["ww"][..], &["ww"][..]),
                ("G1c", &["ww", "wr"], &["wr"]),
                ("G0-realtime", &["ww", "realtime"], &["realtime"]),
                ("G1c-realtime", &["ww", "wr", "realtime"], &["wr", "realtime"]),
            ],
        );
        let pure = census(
            &graph.without("ww"),
            len,
            &["wr", "realtime"],
            &[
                ("G1c", &["wr"][..], &["wr"][..]),
                ("G1c-realtime", &["wr", "realtime"], &["wr", "realtime"]),
            ],
        );
        for (name, (count, is_told)) in told {
            let pure = pure.get(name).filter(|(_, is_told)| ww_deps && *is_told);
            if is_told || pure.is_some() {
                self.add(name, count.max(pure.map_or(0, |(count, _)| *count)));
            }
        }
        self.anti_cycles(&graph, len);
    }

    fn anti_cycles(&mut self, graph: &Edges, len: usize) {
        let inner = graph.closure(len, &["ww", "wr"]);
        let classes = graph.classes(len, &["ww", "wr", "rw"]);
        let (mut single, mut other) = (0, 0);
        let mut only_other = false;
        for class in classes {
            let inside = |edge: &&(&str, usize, usize)| {
                edge.0 == "rw" && class.contains(&edge.1) && class.contains(&edge.2)
            };
            let rw: Vec<_> = graph.0.iter().filter(inside).collect();
            let has_single = rw.iter().any(|(_, a, b)| inner[*b][*a]);
            single += u64::from(has_single);
            other += u64::from(!rw.is_empty());
            only_other |= !rw.is_empty() && !has_single;
        }
        self.add("G-single", single);
        self.add("G2-item", if only_other { other } else { 0 });
    }
}

/// Which of the values at one offset stands for it: the first in a Clojure hash set, which prints
/// `#{1 4 6 3 2 5}`.
fn pick(values: &BTreeSet<i64>) -> i64 {
    const ORDER: [i64; 6] = [1, 4, 6, 3, 2, 5];
    let place = |value: &&i64| ORDER.iter().position(|v| v == *value).unwrap_or(usize::MAX);
    *values.iter().min_by_key(place).expect("a place in the log has a value")
}
