//! Cycles by closures: a class is a set of operations that all reach each other.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Edges(pub(crate) Vec<(&'static str, usize, usize)>);

impl Edges {
    pub(crate) fn add(&mut self, kind: &'static str, from: Option<usize>, to: Option<usize>) {
        if let (Some(from), Some(to)) = (from, to)
            && from != to
        {
            self.0.push((kind, from, to));
        }
    }

    pub(crate) fn without(&self, kind: &str) -> Self {
        Self(self.0.iter().filter(|edge| edge.0 != kind).copied().collect())
    }

    /// Who leads to whom.
    pub(crate) fn closure(&self, len: usize, kinds: &[&str]) -> Vec<Vec<bool>> {
        let mut leads = vec![vec![false; len]; len];
        for (kind, from, to) in &self.0 {
            leads[*from][*to] |= kinds.contains(kind);
        }
        for via in 0..len {
            for from in 0..len {
                for to in 0..len {
                    leads[from][to] |= leads[from][via] && leads[via][to];
                }
            }
        }
        leads
    }

    /// Operations that lead to each other.
    pub(crate) fn classes(&self, len: usize, kinds: &[&str]) -> BTreeSet<Vec<usize>> {
        let leads = self.closure(len, kinds);
        (0..len)
            .map(|a| (0..len).filter(|&b| leads[a][b] && leads[b][a]).collect())
            .filter(|class: &Vec<usize>| class.len() > 1)
            .collect()
    }
}

pub(crate) type CycleType<'a> = (&'static str, &'a [&'static str], &'a [&'static str]);

/// Of each type the number of classes that have one, and whether it is the strongest anywhere.
pub(crate) fn census(
    graph: &Edges,
    len: usize,
    all: &[&str],
    types: &[CycleType<'_>],
) -> BTreeMap<&'static str, (u64, bool)> {
    let mut found: BTreeMap<&'static str, Vec<Vec<usize>>> = BTreeMap::new();
    for (name, kinds, required) in types {
        let has = |class: &Vec<usize>| {
            required.iter().all(|kind| {
                let inside =
                    |e: &(&str, usize, usize)| class.contains(&e.1) && class.contains(&e.2);
                graph.0.iter().any(|edge| edge.0 == *kind && inside(edge))
            })
        };
        found.insert(name, graph.classes(len, kinds).into_iter().filter(has).collect());
    }
    let whole = graph.classes(len, all);
    let group = |class: &Vec<usize>| whole.iter().position(|w| w.contains(&class[0]));
    let stronger = |name: &str| match name {
        "G1c" => &["G0"][..],
        "G0-realtime" => &["G0"],
        "G1c-realtime" => &["G0", "G1c", "G0-realtime"],
        _ => &[],
    };
    let is_told = |name: &str, class: &Vec<usize>| {
        !stronger(name)
            .iter()
            .filter_map(|s| found.get(s))
            .flatten()
            .any(|s| group(s) == group(class))
    };
    types
        .iter()
        .map(|(name, _, _)| {
            let classes = &found[name];
            (*name, (classes.len() as u64, classes.iter().any(|class| is_told(name, class))))
        })
        .collect()
}
