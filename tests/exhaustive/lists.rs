//! The definitions of cycles among operations on lists.

use std::collections::BTreeSet;

use fencepost::checker::{ConsistencyModel, Expectation, Workload, check_on};

use super::Draw;
use super::cycles::Edges;
use super::notation::{Outcome, TestMop, TestOp, edn, operations, parse};

type Lists = Vec<TestOp>;

/// Elle's cycles on lists, by closures. Returns the types told in some component.
fn list_twin(ops: &Lists, time: Option<&'static str>) -> BTreeSet<String> {
    let mut ordered: Vec<&TestOp> = ops.iter().filter(|op| op.outcome != Outcome::Fail).collect();
    ordered.sort_by_key(|op| (op.completed.is_none(), op.completed, op.invoked));
    let len = ordered.len();
    let mut graph = Edges::default();
    for key in 0..3 {
        list_edges(&ordered, key, &mut graph);
    }
    for a in 0..len {
        let Some(end) = ordered[a].completed.filter(|_| ordered[a].outcome == Outcome::Ok) else {
            continue;
        };
        let later = |b: &usize| end < ordered[*b].invoked;
        if time == Some("realtime") {
            (0..len).filter(later).for_each(|b| graph.add("time", Some(a), Some(b)));
        }
        if time == Some("process") {
            let same = |b: &usize| {
                ordered[*b].process == ordered[a].process && ordered[*b].outcome == Outcome::Ok
            };
            (0..len).filter(later).filter(same).for_each(|b| graph.add("time", Some(a), Some(b)));
        }
    }
    let mut told = BTreeSet::new();
    for class in graph.classes(len, &["ww", "wr", "rw", "time"]) {
        let has = types_in(&graph, &class);
        for (rank, name) in &has {
            let is_implied = has.iter().any(|(strong, _)| {
                let has_rw = |rank: &(u8, u8)| rank.0 > 1;
                strong != rank
                    && has_rw(strong) == has_rw(rank)
                    && strong.0 <= rank.0
                    && strong.1 <= rank.1
            });
            if !is_implied {
                let suffix =
                    if rank.1 == 1 { format!("-{}", time.unwrap_or("")) } else { String::new() };
                told.insert(format!("{name}{suffix}"));
            }
        }
    }
    told
}

fn list_edges(ops: &[&TestOp], key: i64, graph: &mut Edges) {
    let reads = |op: &TestOp| -> Vec<Vec<i64>> {
        let is_known = op.outcome == Outcome::Ok || op.outcome == Outcome::Info;
        let mops = op.mops.iter().filter(|_| is_known);
        mops.filter_map(|mop| match mop {
            TestMop::Read { key: k, values } if *k == key => Some(values.clone()),
            _ => None,
        })
        .collect()
    };
    let appends = |op: &TestOp| -> Vec<i64> {
        let mops = op.mops.iter();
        mops.filter_map(|mop| match mop {
            TestMop::Append { key: k, value } if *k == key => Some(*value),
            _ => None,
        })
        .collect()
    };
    let longest = ops.iter().flat_map(|op| reads(op)).max_by_key(Vec::len).unwrap_or_default();
    let all: Vec<i64> = ops.iter().flat_map(|op| appends(op)).collect();
    let order = if longest.is_empty() && all.len() == 1 { all } else { longest };
    let writer = |value: i64| (0..ops.len()).rev().find(|n| appends(ops[*n]).contains(&value));
    for (n, op) in ops.iter().enumerate() {
        for value in appends(op) {
            let place = order.iter().position(|v| *v == value).unwrap_or(order.len());
            let before = order[..place].last().copied();
            graph.add("ww", before.and_then(writer), Some(n));
            for (reader, other) in ops.iter().enumerate() {
                if reads(other).iter().any(|values| values.last().copied() == before) {
                    graph.add("rw", Some(reader), Some(n));
                }
            }
        }
        for values in reads(op) {
            graph.add("wr", values.last().copied().and_then(writer), Some(n));
        }
    }
}

/// The types of cycles inside a class: (family, whether over an edge of time) and name.
fn types_in(graph: &Edges, class: &[usize]) -> Vec<((u8, u8), &'static str)> {
    let inside: Vec<_> = graph
        .0
        .iter()
        .filter(|edge| class.contains(&edge.1) && class.contains(&edge.2))
        .copied()
        .collect();
    let mut found = Vec::new();
    for (family, name) in
        ["G0", "G1c", "G-single-item", "G-nonadjacent-item", "G2-item"].iter().enumerate()
    {
        for timed in 0..2 {
            if has_walk(&inside, family, timed == 1) {
                found.push(((family as u8, timed as u8), *name));
            }
        }
    }
    found
}

/// Whether a closed walk of a type exists: a plain search over vertices with all that a walk has
/// to remember.
fn has_walk(edges: &[(&'static str, usize, usize)], family: usize, timed: bool) -> bool {
    // Where it is, whether a wr, a time edge was used, how many rw edges (at most 2), and whether
    // the last edge was one.
    type State = (usize, bool, bool, usize, bool);
    let step = |state: &State, edge: &(&str, usize, usize)| -> Option<State> {
        let (at, wr, time, rw, last) = *state;
        if edge.1 != at {
            return None;
        }
        match edge.0 {
            "ww" => Some((edge.2, wr, time, rw, false)),
            "wr" if family > 0 => Some((edge.2, true, time, rw, false)),
            "time" if timed => Some((edge.2, wr, true, rw, false)),
            "rw" if family == 2 && rw == 0 => Some((edge.2, wr, time, 1, true)),
            "rw" if family == 3 && !last => Some((edge.2, wr, time, 2.min(rw + 1), true)),
            "rw" if family == 4 => Some((edge.2, wr, time, 2.min(rw + 1), true)),
            _ => None,
        }
    };
    edges.iter().any(|first| {
        let start: State = (first.1, false, false, 0, false);
        let Some(begun) = step(&start, first) else { return false };
        let (mut seen, mut open) = (BTreeSet::from([begun]), vec![begun]);
        while let Some(state) = open.pop() {
            let (at, wr, time, rw, last) = state;
            let wraps = family != 3 || !(last && first.0 == "rw");
            let data = match family {
                0 => true,
                1 => wr,
                2 => rw == 1,
                _ => rw > 0,
            };
            if at == first.1 && data && (time || !timed) && wraps {
                return true;
            }
            for edge in edges {
                if let Some(next) = step(&state, edge)
                    && seen.insert(next)
                {
                    open.push(next);
                }
            }
        }
        false
    })
}

fn compare_lists(ops: &Lists) {
    let history = parse(&edn(ops));
    for (model, time) in [
        ("strict-serializable", Some("realtime")),
        ("strong-session-serializable", Some("process")),
        ("serializable", None),
    ] {
        let expected = Expectation {
            workload: Workload::ListAppend,
            consistency_model: ConsistencyModel::find(model).expect("a model"),
            ..Expectation::default()
        };
        let verdict = check_on(1, &history, &expected);
        let is_cycle = |name: &&String| {
            ["G0", "G1c", "G-", "G2"].iter().any(|family| name.starts_with(family))
        };
        let fast: BTreeSet<String> = verdict.types.iter().filter(is_cycle).cloned().collect();
        assert_eq!(fast, list_twin(ops, time), "{model} of\n{}", edn(ops));
    }
}

#[test]
fn random_list_histories_have_the_cycles_a_plain_search_finds() {
    let mut draw = Draw(3);
    let rounds = if cfg!(debug_assertions) { 1_500 } else { 40_000 };
    for _ in 0..rounds {
        // Lists that really grew in some order, read more or less rightly.
        let mut lists: Vec<Vec<i64>> = vec![Vec::new(); 3];
        let mut items: Vec<String> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for _ in 0..2 + draw.below(7) {
            let process = draw.below(4);
            if draw.below(3) == 0 && !open.contains(&process) {
                open.push(process);
                items.push(format!("{process} begin"));
                continue;
            }
            open.retain(|p| *p != process);
            items.push(format!("{process} {}", random_lists(&mut draw, &mut lists)));
        }
        for process in open {
            items.push(format!("{process} {}", random_lists(&mut draw, &mut lists)));
        }
        compare_lists(&operations(&items.join(" | ")));
    }
}

fn random_lists(draw: &mut Draw, lists: &mut [Vec<i64>]) -> String {
    let outcome = ["", "", "", "", "?", "!"][draw.below(6)];
    let mut words = Vec::new();
    for _ in 0..1 + draw.below(3) {
        let key = draw.below(3);
        let letter = ["a", "b", "c"][key];
        if draw.below(2) == 0 {
            let value = lists[key].len() as i64 + 1;
            lists[key].push(value);
            words.push(format!("+{letter}{value}"));
        } else {
            let seen = lists[key].len().saturating_sub([0, 0, 1, 2][draw.below(4)]);
            let values: Vec<String> = lists[key][..seen].iter().map(i64::to_string).collect();
            words.push(format!("{letter}:{}", values.join(",")));
        }
    }
    format!("l{outcome} {}", words.join(" "))
}
