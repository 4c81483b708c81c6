//! Counts the cycles of a whole history, type by type, and keeps the components whose cycles
//! will be shown.

use rustc_hash::FxHashMap;

use super::rows::{EdgeBlocks, Graph};
use super::tarjan::{Components, components};
use super::timeline::Timeline;
use super::types::{find, implies};
use super::window::Windows;
use crate::checker::anomaly::Anomaly;
use crate::checker::threads::fold;

/// What was found of one type.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count {
    /// How many components (of the edges the type allows) contain one.
    pub(crate) components: u64,
    /// Whether some component of the whole graph has one and none that implies it.
    pub(crate) is_told: bool,
    /// Components to look for examples in, the smallest first.
    pub(crate) parts: Vec<Graph>,
}

/// One way of looking at the edges: which kinds there are, and which types to look for.
pub(crate) struct View {
    /// The kinds of edges that make up the whole graph.
    pub(crate) mask: u8,
    /// The types to look for.
    pub(crate) types: Vec<&'static Anomaly>,
    /// Whether only what the view before this one found cyclic needs to be looked at.
    pub(crate) narrows: bool,
}

/// What a census is taken of.
pub(crate) struct Census<'a> {
    /// The order of operations.
    pub(crate) timeline: &'a Timeline,
    /// Where cycles may be.
    pub(crate) windows: &'a Windows,
    /// Whether a place takes part in realtime order.
    pub(crate) realtime: &'a (dyn Fn(u32) -> bool + Sync),
    /// How many parts to keep of each type.
    pub(crate) parts_max: usize,
}

impl Census<'_> {
    /// Takes it, once for each view, of edges between places.
    pub(crate) fn take(
        &self,
        edges: &[EdgeBlocks],
        views: &[View],
        threads: usize,
    ) -> Vec<Vec<Count>> {
        let shards = self.windows.shards();
        let start = || Vec::<(usize, Vec<Vec<Count>>)>::new();
        let parts = fold(threads, shards.len(), start, |done, shard| {
            done.push((shard, self.shard(shards[shard], edges, views)));
        });
        let mut parts: Vec<_> = parts.into_iter().flatten().collect();
        parts.sort_by_key(|&(shard, _)| shard);
        let mut total = nothing(views);
        for (_, of_shard) in parts {
            let pairs = total.iter_mut().flatten().zip(of_shard.into_iter().flatten());
            for (total, count) in pairs {
                total.components += count.components;
                total.is_told |= count.is_told;
                total.parts.extend(count.parts);
                self.keep(&mut total.parts);
            }
        }
        total
    }

    fn shard(&self, stretch: (u32, u32), edges: &[EdgeBlocks], views: &[View]) -> Vec<Vec<Count>> {
        let is_inside = |from, to| self.windows.hold(from, to);
        let graph = Graph::of_stretch(self.timeline, stretch, edges, is_inside, self.realtime);
        let mut found = nothing(views);
        let mut before: Option<Graph> = None;
        for (view, found) in views.iter().zip(&mut found) {
            let whole =
                if view.narrows { before.take().unwrap_or_default() } else { Graph::default() };
            let whole = if view.narrows { &whole } else { &graph };
            let components = components(whole, view.mask);
            let mut cyclic: Vec<u32> = components.cyclic().flatten().copied().collect();
            cyclic.sort_unstable();
            // Edges between components are left behind: nothing that follows needs them.
            let joins = |from, to| components.joins(from, to);
            let part = whole.part_between(&cyclic, view.mask, joins);
            if !cyclic.is_empty() {
                *found = self.classify(&part, &components.of_part(&cyclic), &view.types);
            }
            before = Some(part);
        }
        found
    }

    /// Says what each component of the whole graph has.
    fn classify(
        &self,
        graph: &Graph,
        whole: &Components,
        types: &[&'static Anomaly],
    ) -> Vec<Count> {
        let group = |vertex: u32| whole.of[vertex as usize];
        let found: Vec<Vec<Vec<u32>>> = types
            .iter()
            .map(|row| row.shape.map_or_else(Vec::new, |shape| find(graph, whole, shape)))
            .collect();
        let mut present: FxHashMap<u32, u64> = FxHashMap::default();
        for (place, sets) in found.iter().enumerate() {
            for set in sets {
                *present.entry(group(set[0])).or_default() |= 1 << place;
            }
        }
        let count = |(place, mut sets): (usize, Vec<Vec<u32>>)| {
            let components = sets.len() as u64;
            sets.retain(|set| !is_implied(types, place, present[&group(set[0])]));
            sets.sort_by_cached_key(|set| (set.len(), set.iter().min().copied()));
            let is_told = !sets.is_empty();
            let (front, back) = sets.split_at(sets.len().min(self.parts_max));
            let chosen = front.iter().chain(back.last());
            let parts = chosen.map(|set| graph.part(set)).collect();
            Count { components, is_told, parts }
        };
        found.into_iter().enumerate().map(count).collect()
    }

    fn keep(&self, parts: &mut Vec<Graph>) {
        parts.sort_by_key(|part| (part.names.len(), part.names.first().copied()));
        if parts.len() > self.parts_max + 1 {
            let largest = parts.pop();
            parts.truncate(self.parts_max);
            parts.extend(largest);
        }
    }
}

fn nothing(views: &[View]) -> Vec<Vec<Count>> {
    views.iter().map(|view| vec![Count::default(); view.types.len()]).collect()
}

/// Whether a component that has the types in `present` has one that implies a type.
fn is_implied(types: &[&'static Anomaly], weak: usize, present: u64) -> bool {
    (0..types.len()).any(|strong| {
        let has = present & 1 << strong != 0;
        let (Some(a), Some(b)) = (types[strong].shape, types[weak].shape) else { return false };
        has && strong != weak && implies(a, b)
    })
}
