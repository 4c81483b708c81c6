//! A graph in compressed rows: all edges of a vertex stand side by side, each with its kind.
//!
//! The first vertices are operations; behind them stand *barriers*. A barrier is the moment at
//! which one operation completed: that operation leads to it, it leads to the next barrier, and
//! from the last barrier before an operation's invocation an edge leads to that operation. So
//! "completed before the other was invoked" needs three edges an operation, not a square of them.

use super::timeline::NEVER;
use super::window::Windows;
use super::{Timeline, tarjan::NONE};

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

/// An edge between two vertices of one graph, with its kind.
pub(crate) type RawEdge = (u32, u32, u8);

/// How many operations can be told apart in an edge of eight bytes.
pub(crate) const PLACES_MAX: usize = 1 << 29;

/// Edges by the million, in blocks by the earlier of their places.
#[derive(Debug, Clone, Default)]
pub(crate) struct EdgeBlocks(Vec<Block>);

/// The edges of a block.
#[derive(Debug, Clone, Default)]
struct Block {
    /// Those between places that are less than [`SHORT`] apart, which nearly all are: in four bytes,
    /// the earlier place within the block, the distance, whether it leads back, the kind's bit.
    short: Vec<u32>,
    /// The others: both places, and the kind.
    long: Vec<u64>,
}

/// How many places a block has, as a power of two.
const BLOCK_BITS: u32 = 16;
/// How many bits a short edge has for the distance of its places.
const SHORT_BITS: u32 = 32 - BLOCK_BITS - 4;
const SHORT: u32 = 1 << SHORT_BITS;

impl EdgeBlocks {
    /// Adds an edge between places below [`PLACES_MAX`], of one kind.
    pub(crate) fn push(&mut self, (from, to, kind): RawEdge) {
        let (earlier, distance) = (from.min(to), from.abs_diff(to));
        let block = (earlier >> BLOCK_BITS) as usize;
        if block >= self.0.len() {
            self.0.resize_with(block + 1, Block::default);
        }
        let block = &mut self.0[block];
        if distance < SHORT {
            let place = earlier & ((1 << BLOCK_BITS) - 1);
            let rest = u32::from(from > to) << 3 | kind.trailing_zeros();
            debug_assert!(kind.is_power_of_two(), "an edge is of one kind");
            block.short.push(place << (32 - BLOCK_BITS) | distance << 4 | rest);
        } else {
            block.long.push(u64::from(from) << 35 | u64::from(to) << 6 | u64::from(kind));
        }
    }

    /// The edges of which the earlier place may be from `first` up to `end`.
    fn near(&self, (first, end): (u32, u32)) -> impl Iterator<Item = RawEdge> + '_ {
        let last = ((end.saturating_sub(1) >> BLOCK_BITS) as usize + 1).min(self.0.len());
        let begin = ((first >> BLOCK_BITS) as usize).min(last);
        (begin as u32..).zip(&self.0[begin..last]).flat_map(|(number, block)| {
            let short = block.short.iter().map(move |&edge| short_edge(number, edge));
            short.chain(block.long.iter().map(|&edge| {
                ((edge >> 35) as u32, (edge >> 6) as u32 & 0x1fff_ffff, edge as u8 & 0x3f)
            }))
        })
    }
}

/// An edge of a block's short ones.
fn short_edge(block: u32, edge: u32) -> RawEdge {
    let earlier = block << BLOCK_BITS | edge >> (32 - BLOCK_BITS);
    let later = earlier + (edge >> 4 & (SHORT - 1));
    let (from, to) = if edge >> 3 & 1 == 0 { (earlier, later) } else { (later, earlier) };
    (from, to, 1 << (edge & 7))
}

/// A graph in compressed rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    /// Where the edges of each vertex begin; one more at the end.
    starts: Vec<u32>,
    targets: Vec<u32>,
    kinds: Vec<u8>,
    /// All kinds of edges that there are.
    present: u8,
    /// What each operation is called outside; the vertices behind them are barriers.
    pub(crate) names: Vec<u32>,
}

impl Graph {
    /// A graph of `names.len()` operations and some barriers.
    pub(crate) fn new(names: Vec<u32>, barriers: usize, edges: &[RawEdge]) -> Self {
        let len = names.len() + barriers;
        let mut starts = vec![0u32; len + 1];
        let mut present = 0;
        for &(from, _, kind) in edges {
            starts[from as usize + 1] += 1;
            present |= kind;
        }
        for vertex in 0..len {
            let end = starts[vertex].checked_add(starts[vertex + 1]);
            starts[vertex + 1] = end.expect("a window has fewer than 2^32 edges");
        }
        let count = starts[len] as usize;
        let mut next = starts.clone();
        let (mut targets, mut kinds) = (vec![0; count], vec![0; count]);
        for &(from, to, kind) in edges {
            let place = next[from as usize] as usize;
            next[from as usize] += 1;
            targets[place] = to;
            kinds[place] = kind;
        }
        Self { starts, targets, kinds, present, names }
    }

    /// Puts each vertex's edges in order.
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

    /// The windows of a stretch of a timeline, with those edges that stand inside one of them, and
    /// with realtime order between the places that take part in it.
    pub(crate) fn of_stretch(
        timeline: &Timeline<'_>,
        (first, end): (u32, u32),
        windows: &Windows,
        edges: &[&EdgeBlocks],
        takes_part: impl Fn(u32) -> bool,
    ) -> Self {
        let names: Vec<u32> = windows.places((first, end)).collect();
        let mut vertex = vec![NONE; (end - first) as usize];
        for (number, &place) in (0u32..).zip(&names) {
            vertex[(place - first) as usize] = number;
        }
        let (barriers, mut all) = barriers(timeline, &names, takes_part);
        edges.iter().flat_map(|blocks| blocks.near((first, end))).for_each(|(from, to, kind)| {
            let earlier = from.min(to);
            if earlier >= first && earlier < end && windows.hold(from, to) {
                let vertex = |place: u32| vertex[(place - first) as usize];
                all.push((vertex(from), vertex(to), kind));
            }
        });
        Self::new(names, barriers, &all)
    }

    /// The same graph with more edges; each vertex's edges are in order.
    pub(crate) fn with_edges(&self, more: impl IntoIterator<Item = RawEdge>) -> Self {
        let edges: Vec<RawEdge> = self.all_edges().chain(more).collect();
        let mut graph = Self::new(self.names.clone(), self.len() - self.names.len(), &edges);
        graph.sort_rows();
        graph
    }

    /// All kinds of edges that there are.
    pub(super) fn kinds_present(&self) -> u8 {
        self.present
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

    /// The part of the graph between some of its vertices, which keep their order; its edges are in
    /// order too, so that a search in it finds the same whoever drew them first.
    pub(crate) fn part(&self, vertices: &[u32]) -> Self {
        let mut vertices = vertices.to_vec();
        vertices.sort_unstable();
        let mut part = self.part_between(&vertices, u8::MAX, |_, _| true);
        part.sort_rows();
        part
    }

    /// The part between some vertices, given in order, with those edges that are of a kind in
    /// `mask` and join vertices as asked.
    pub(crate) fn part_between(
        &self,
        vertices: &[u32],
        mask: u8,
        joins: impl Fn(u32, u32) -> bool,
    ) -> Self {
        // A table of all vertices, where it is worth it.
        let is_large = vertices.len() > self.len() / 16;
        let mut table = vec![u32::MAX; if is_large { self.len() } else { 0 }];
        if is_large {
            for (new, &old) in (0u32..).zip(vertices) {
                table[old as usize] = new;
            }
        }
        let find = |vertex: u32| match table.get(vertex as usize) {
            Some(&new) => (new != u32::MAX).then_some(new),
            None => vertices.binary_search(&vertex).ok().map(|new| new as u32),
        };
        let operations = vertices.partition_point(|&vertex| !self.is_barrier(vertex));
        let names = vertices[..operations].iter().map(|&v| self.names[v as usize]).collect();
        let mut edges = Vec::new();
        for (from, &vertex) in (0u32..).zip(vertices) {
            for (to, kind) in self.edges(vertex, mask).filter(|&(to, _)| joins(vertex, to)) {
                edges.extend(find(to).map(|to| (from, to, kind)));
            }
        }
        Self::new(names, vertices.len() - operations, &edges)
    }
}

/// The barriers among operations given by their places, in order, and the edges to, between and
/// from them. A barrier stands only where an operation begins before the next one completes.
fn barriers(
    timeline: &Timeline<'_>,
    places: &[u32],
    takes_part: impl Fn(u32) -> bool,
) -> (usize, Vec<RawEdge>) {
    let part: Vec<(u32, u32)> =
        (0u32..).zip(places.iter().copied()).filter(|&(_, place)| takes_part(place)).collect();
    let ends: Vec<(u32, u64)> = part
        .iter()
        .map(|&(vertex, place)| (vertex, timeline.happened(place)))
        .filter(|&(_, end)| end != NEVER)
        .collect();
    // For each operation that begins after some end: how many ends are before.
    let mut begins: Vec<(u32, u32)> = Vec::with_capacity(part.len());
    let mut needed = vec![false; ends.len()];
    let mut near = 0;
    for &(vertex, place) in &part {
        let begin = timeline.invoked(place);
        if begin == NEVER {
            continue;
        }
        near = count_before(&ends, begin, near);
        if near > 0 {
            begins.push((vertex, near as u32 - 1));
            needed[near - 1] = true;
        }
    }
    // Barriers are numbered in order; an end belongs to the next one needed.
    let base = places.len() as u32;
    let mut barrier_of: Vec<u32> = Vec::with_capacity(ends.len());
    let mut count = 0;
    for &needed in &needed {
        barrier_of.push(base + count);
        count += u32::from(needed);
    }
    let mut edges: Vec<RawEdge> = Vec::with_capacity(ends.len() + begins.len() + count as usize);
    let is_there = |barrier: u32| barrier < base + count;
    let all = ends.iter().zip(&barrier_of).filter(|&(_, &barrier)| is_there(barrier));
    edges.extend(all.map(|(&(vertex, _), &barrier)| (vertex, barrier, RT)));
    edges.extend((1..count).map(|n| (base + n - 1, base + n, RT)));
    edges.extend(begins.iter().map(|&(vertex, end)| (barrier_of[end as usize], vertex, RT)));
    (count as usize, edges)
}

/// How many ends are before an event, where the answer is probably near a number.
fn count_before(ends: &[(u32, u64)], event: u64, near: usize) -> usize {
    const STEPS_MAX: usize = 32;
    let mut count = near;
    for _ in 0..STEPS_MAX {
        if count < ends.len() && ends[count].1 < event {
            count += 1;
        } else if count > 0 && ends[count - 1].1 >= event {
            count -= 1;
        } else {
            return count;
        }
    }
    ends.partition_point(|&(_, end)| end < event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_comes_out_of_its_block_as_it_was_put_in() {
        let mut put = Vec::new();
        for place in [0, 1, (1 << BLOCK_BITS) - 1, 1 << BLOCK_BITS, PLACES_MAX as u32 - 1 - SHORT] {
            for distance in [1, 2, SHORT - 1, SHORT] {
                for kind in [WW, WR, RW, RT, PROCESS] {
                    put.push((place, place + distance, kind));
                    put.push((place + distance, place, kind));
                }
            }
        }
        let mut blocks = EdgeBlocks::default();
        put.iter().for_each(|&edge| blocks.push(edge));
        let mut got: Vec<RawEdge> = blocks.near((0, PLACES_MAX as u32)).collect();
        put.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, put);
        let first = blocks.near((0, 1 << BLOCK_BITS));
        assert_eq!(first.count(), put.iter().filter(|e| e.0.min(e.1) >> BLOCK_BITS == 0).count());
    }
}
