//! A graph in compressed rows: all edges of a vertex stand side by side, each with its kind.
//!
//! The first vertices are operations; behind them stand *barriers*. A barrier is the moment at
//! which one operation completed: that operation leads to it, it leads to the next barrier, and
//! from the last barrier before an operation's invocation an edge leads to that operation. So
//! "completed before the other was invoked" needs three edges an operation, not a square of them.

use super::Timeline;
use super::timeline::NEVER;

/// Write-write.
pub(crate) const WW: u8 = 1;
/// Write-read.
pub(crate) const WR: u8 = 2;
/// Read-write.
pub(crate) const RW: u8 = 4;
/// Realtime: to, between and from barriers.
pub(crate) const RT: u8 = 8;
/// Process order.
pub(crate) const PROCESS: u8 = 16;

/// An edge between two vertices of one graph.
pub(crate) type RawEdge = (u32, u32, u8);

/// A graph in compressed rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    /// Where the edges of each vertex begin; one more at the end.
    starts: Vec<u32>,
    targets: Vec<u32>,
    kinds: Vec<u8>,
    /// What each operation is called outside; the vertices behind them are barriers.
    pub(crate) names: Vec<u32>,
}

impl Graph {
    /// A graph of `names.len()` operations and some barriers.
    pub(crate) fn new(names: Vec<u32>, barriers: usize, edges: &[RawEdge]) -> Self {
        let len = names.len() + barriers;
        assert!(edges.len() < u32::MAX as usize, "a window has fewer than 2^32 edges");
        let mut starts = vec![0u32; len + 1];
        for &(from, _, _) in edges {
            starts[from as usize + 1] += 1;
        }
        for vertex in 0..len {
            starts[vertex + 1] += starts[vertex];
        }
        let mut next = starts.clone();
        let mut targets = vec![0; edges.len()];
        let mut kinds = vec![0; edges.len()];
        for &(from, to, kind) in edges {
            let place = next[from as usize] as usize;
            next[from as usize] += 1;
            targets[place] = to;
            kinds[place] = kind;
        }
        let mut graph = Self { starts, targets, kinds, names };
        graph.sort_rows();
        graph
    }

    /// Puts each vertex's edges in order, so that nothing depends on who found them first.
    fn sort_rows(&mut self) {
        let mut row: Vec<(u32, u8)> = Vec::new();
        for vertex in 0..self.len() {
            let span = self.starts[vertex] as usize..self.starts[vertex + 1] as usize;
            let (targets, kinds) = (&mut self.targets[span.clone()], &mut self.kinds[span]);
            if targets.is_sorted() && targets.windows(2).all(|pair| pair[0] != pair[1]) {
                continue;
            }
            row.clear();
            row.extend(targets.iter().copied().zip(kinds.iter().copied()));
            row.sort_unstable();
            for (place, &(target, kind)) in row.iter().enumerate() {
                (targets[place], kinds[place]) = (target, kind);
            }
        }
    }

    /// The part of a timeline from `first` to `end`, with those edges between places in it, and
    /// with realtime order if asked for.
    pub(crate) fn of_stretch(
        timeline: &Timeline,
        (first, end): (u32, u32),
        mut edges: Vec<RawEdge>,
        realtime: impl Fn(u32) -> bool,
    ) -> Self {
        for (from, to, _) in &mut edges {
            *from -= first;
            *to -= first;
        }
        let names: Vec<u32> = (first..end).collect();
        let barriers = add_barriers(timeline, &names, &mut edges, realtime);
        Self::new(names, barriers, &edges)
    }

    /// How many vertices there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether a vertex is a barrier.
    pub(crate) fn is_barrier(&self, vertex: u32) -> bool {
        vertex as usize >= self.names.len()
    }

    /// Where the edges of a vertex stand.
    pub(super) fn span(&self, vertex: u32) -> std::ops::Range<u32> {
        self.starts[vertex as usize]..self.starts[vertex as usize + 1]
    }

    /// The edge at a place: target and kind.
    pub(super) fn edge(&self, place: u32) -> (u32, u8) {
        (self.targets[place as usize], self.kinds[place as usize])
    }

    /// Targets and kinds of a vertex's edges of the kinds in `mask`.
    pub(crate) fn edges(&self, vertex: u32, mask: u8) -> impl Iterator<Item = (u32, u8)> + '_ {
        self.span(vertex).map(|place| self.edge(place)).filter(move |&(_, kind)| kind & mask != 0)
    }

    /// All edges.
    pub(crate) fn all_edges(&self) -> impl Iterator<Item = RawEdge> + '_ {
        (0..self.len() as u32)
            .flat_map(|from| self.edges(from, u8::MAX).map(move |(to, kind)| (from, to, kind)))
    }

    /// The part of the graph between some of its vertices, which keep their order.
    pub(crate) fn part(&self, vertices: &[u32]) -> Self {
        self.part_within(vertices, &[])
    }

    /// The same, without edges that lead from one component (by vertex) to another.
    pub(crate) fn part_within(&self, vertices: &[u32], components: &[u32]) -> Self {
        let mut vertices = vertices.to_vec();
        vertices.sort_unstable();
        let find = |vertex: u32| vertices.binary_search(&vertex).ok();
        let component = |vertex: u32| components.get(vertex as usize);
        let operations = vertices.partition_point(|&vertex| !self.is_barrier(vertex));
        let names = vertices[..operations].iter().map(|&v| self.names[v as usize]).collect();
        let mut edges = Vec::new();
        for (from, &vertex) in (0u32..).zip(&vertices) {
            for (to, kind) in self.edges(vertex, u8::MAX) {
                if component(to) == component(vertex)
                    && let Some(to) = find(to)
                {
                    edges.push((from, to as u32, kind));
                }
            }
        }
        Self::new(names, vertices.len() - operations, &edges)
    }
}

/// Adds barriers and their edges for operations given by their places, in order, and says how
/// many barriers there are.
fn add_barriers(
    timeline: &Timeline,
    places: &[u32],
    edges: &mut Vec<RawEdge>,
    takes_part: impl Fn(u32) -> bool,
) -> usize {
    let mut ends: Vec<u64> = Vec::new();
    let base = places.len() as u32;
    for (vertex, &place) in (0u32..).zip(places) {
        let end = timeline.happened(place);
        if end == NEVER || !takes_part(place) {
            continue;
        }
        let barrier = base + ends.len() as u32;
        edges.push((vertex, barrier, RT));
        if barrier > base {
            edges.push((barrier - 1, barrier, RT));
        }
        ends.push(end);
    }
    for (vertex, &place) in (0u32..).zip(places) {
        let begin = timeline.invoked(place);
        if begin == NEVER || !takes_part(place) {
            continue;
        }
        let earlier = ends.partition_point(|&end| end < begin) as u32;
        if earlier > 0 {
            edges.push((base + earlier - 1, vertex, RT));
        }
    }
    ends.len()
}
