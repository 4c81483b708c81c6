//! Counts the cycles of a whole history, type by type, and keeps the components whose cycles
//! will be shown.

use rustc_hash::FxHashMap;

use super::rows::{EdgeBlocks, Graph, RT, RawEdge, WR, WW};
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

/// One way of looking at the edges: which there are, and which types to look for.
pub(crate) struct View<'a> {
    /// The edges between places.
    pub(crate) edges: Vec<&'a EdgeBlocks>,
    /// Where cycles may be.
    pub(crate) windows: &'a Windows,
    /// The kinds of edges that make up the whole graph.
    pub(crate) mask: u8,
    /// Whether the types are looked for a second time without write-write edges.
    pub(crate) again_without_ww: bool,
    /// The types to look for.
    pub(crate) types: Vec<&'static Anomaly>,
}

/// The write-read edges that were not drawn, since others imply them: for a place, the places of
/// those whose writes it read. May name more than there are undrawn.
pub(crate) type Implied<'a> = dyn Fn(u32, &mut Vec<u32>) + Sync + 'a;

/// What a census is taken of.
pub(crate) struct Census<'a> {
    /// The order of operations.
    pub(crate) timeline: &'a Timeline<'a>,
    /// Whether a place takes part in realtime order.
    pub(crate) realtime: &'a (dyn Fn(u32) -> bool + Sync),
    /// What was not drawn. Every such edge that leads back in time *is* drawn.
    pub(crate) implied: &'a Implied<'a>,
    /// How many parts to keep of each type.
    pub(crate) parts_max: usize,
}

/// What a view shows, type by type.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// With all its edges.
    pub(crate) counts: Vec<Count>,
    /// Without write-write edges, where that was asked for.
    pub(crate) without_ww: Vec<Count>,
}

impl Census<'_> {
    /// Takes it, once for each view.
    pub(crate) fn take(&self, views: &[View<'_>], threads: usize) -> Vec<Taken> {
        let mut shards: Vec<(usize, (u32, u32))> = Vec::new();
        for (place, view) in views.iter().enumerate() {
            shards.extend(view.windows.shards().iter().map(|&stretch| (place, stretch)));
        }
        // Large ones first, so that no thread is left with one at the end.
        shards.sort_by_key(|&(view, (first, end))| (std::cmp::Reverse(end - first), view, first));
        let start = || Vec::<(usize, Taken)>::new();
        let parts = fold(threads, shards.len(), start, |done, shard| {
            let (view, stretch) = shards[shard];
            done.push((shard, self.shard(stretch, &views[view])));
        });
        let mut parts: Vec<_> = parts.into_iter().flatten().collect();
        parts.sort_by_key(|&(shard, _)| (shards[shard].0, shards[shard].1.0));
        let mut total: Vec<Taken> = views.iter().map(nothing).collect();
        for (shard, taken) in parts {
            let total = &mut total[shards[shard].0];
            self.add(&mut total.counts, taken.counts);
            self.add(&mut total.without_ww, taken.without_ww);
        }
        for count in total.iter_mut().flat_map(|t| t.counts.iter_mut().chain(&mut t.without_ww)) {
            count.parts.iter_mut().for_each(|part| *part = self.whole(part));
        }
        total
    }

    fn add(&self, total: &mut [Count], counts: Vec<Count>) {
        for (total, count) in total.iter_mut().zip(counts) {
            total.components += count.components;
            total.is_told |= count.is_told;
            total.parts.extend(count.parts);
            self.keep(&mut total.parts);
        }
    }

    fn shard(&self, stretch: (u32, u32), view: &View<'_>) -> Taken {
        let has_realtime = view.mask & RT != 0;
        let takes_part = |place| has_realtime && (self.realtime)(place);
        let graph =
            Graph::of_stretch(self.timeline, stretch, view.windows, &view.edges, takes_part);
        let mut taken = nothing(view);
        let cyclic = Cyclic::of(&graph, view.mask);
        if cyclic.vertices.is_empty() {
            return taken;
        }
        taken.counts = self.classify(&cyclic.part, &cyclic.components, &view.types);
        if view.again_without_ww {
            let bare = self.without_ww(&cyclic, view.mask & !WW);
            let cyclic = Cyclic::of(&bare, view.mask & !WW);
            if !cyclic.vertices.is_empty() {
                taken.without_ww = self.classify(&cyclic.part, &cyclic.components, &view.types);
            }
        }
        taken
    }

    /// What of some components can be cyclic without write-write edges: those in which a
    /// write-read edge leads back in time.
    fn without_ww(&self, cyclic: &Cyclic, mask: u8) -> Graph {
        let (part, components) = (&cyclic.part, &cyclic.components);
        let mut leads_back = vec![false; components.len()];
        for (from, to, kind) in part.all_edges() {
            // Operations are numbered in the order of time.
            if kind & WR != 0 && from > to {
                leads_back[components.of[from as usize] as usize] = true;
            }
        }
        let vertices: Vec<u32> = (0..part.len() as u32)
            .filter(|&vertex| leads_back[components.of[vertex as usize] as usize])
            .collect();
        let bare = part.part_between(&vertices, mask, |from, to| components.joins(from, to));
        let component = |vertex: u32| components.of[vertices[vertex as usize] as usize];
        let implied = self.implied_in(&bare);
        bare.with_edges(implied.into_iter().filter(|&(a, b, _)| component(a) == component(b)))
    }

    /// The same part with the edges that were not drawn.
    fn whole(&self, part: &Graph) -> Graph {
        part.with_edges(self.implied_in(part))
    }

    fn implied_in(&self, graph: &Graph) -> Vec<RawEdge> {
        let mut edges = Vec::new();
        let mut writers = Vec::new();
        for (reader, &place) in (0u32..).zip(&graph.names) {
            writers.clear();
            (self.implied)(place, &mut writers);
            writers.sort_unstable();
            writers.dedup();
            let vertex = |place: &u32| graph.names.binary_search(place).ok();
            let found = writers.iter().filter_map(vertex);
            edges.extend(found.map(|writer| (writer as u32, reader, WR)));
        }
        edges
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
        if parts.len() > self.parts_max.saturating_add(1) {
            let largest = parts.pop();
            parts.truncate(self.parts_max);
            parts.extend(largest);
        }
    }
}

/// The components of a graph that have more than one vertex.
struct Cyclic {
    /// Their vertices, in order.
    vertices: Vec<u32>,
    /// The graph of them, without the edges between them: nothing that follows needs those.
    part: Graph,
    components: Components,
}

impl Cyclic {
    fn of(graph: &Graph, mask: u8) -> Self {
        let components = components(graph, mask);
        let mut vertices: Vec<u32> = components.cyclic().flatten().copied().collect();
        vertices.sort_unstable();
        let part = graph.part_between(&vertices, mask, |from, to| components.joins(from, to));
        Self { components: components.of_part(&vertices), part, vertices }
    }
}

fn nothing(view: &View<'_>) -> Taken {
    let counts = vec![Count::default(); view.types.len()];
    Taken { without_ww: counts.clone(), counts }
}

/// Whether a component that has the types in `present` has one that implies a type.
fn is_implied(types: &[&'static Anomaly], weak: usize, present: u64) -> bool {
    (0..types.len()).any(|strong| {
        let has = present & 1 << strong != 0;
        let (Some(a), Some(b)) = (types[strong].shape, types[weak].shape) else { return false };
        has && strong != weak && implies(a, b)
    })
}
