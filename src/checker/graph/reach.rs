//! Answers whether one vertex leads to another, for many pairs at once, without a search for each.
//!
//! The components of the graph, in topological order, are covered with *chains*: paths along which
//! every component leads to the next, as the writers along a key's version order do. Whoever
//! leads to a place in a chain leads to all behind it; so for each component it is enough to
//! know, chain by chain, the first place it leads to. These labels are computed for sixteen
//! chains in one pass, and only over the stretch of components between the pairs asked for.

use super::rows::Graph;
use super::tarjan::Components;

/// How many chains one pass labels.
const LANES: usize = 16;

/// The first of some pairs of vertices of which the one leads to the other over the edges in
/// `mask`; `inner` are the components of these edges.
pub(crate) fn find_path(
    graph: &Graph,
    mask: u8,
    inner: &Components,
    pairs: &[(u32, u32)],
) -> Option<usize> {
    let component = |vertex: u32| inner.of[vertex as usize];
    if let Some(place) = pairs.iter().position(|&(from, to)| component(from) == component(to)) {
        return Some(place);
    }
    let search = Labels { graph, mask, inner, chains: Chains::of(graph, mask, inner) };
    // Components lead to components with smaller numbers only.
    let mut open: Vec<usize> =
        (0..pairs.len()).filter(|&n| component(pairs[n].0) > component(pairs[n].1)).collect();
    open.sort_by_key(|&n| (component(pairs[n].1), component(pairs[n].0), n));
    let mut found: Option<usize> = None;
    let mut rest = &open[..];
    while !rest.is_empty() {
        let (batch, lanes) = search.batch(pairs, rest);
        rest = &rest[batch..];
        let hit = search.run(pairs, &open[open.len() - rest.len() - batch..][..batch], &lanes);
        found = [found, hit].into_iter().flatten().min();
        if found.is_some() {
            break;
        }
    }
    found
}

/// A cover of the components with paths.
struct Chains {
    chain: Vec<u32>,
    place: Vec<u32>,
}

impl Chains {
    fn of(graph: &Graph, mask: u8, inner: &Components) -> Self {
        let len = inner.len();
        let mut chains = Self { chain: vec![u32::MAX; len], place: vec![0; len] };
        let mut count = 0;
        for head in (0..len).rev() {
            if chains.chain[head] != u32::MAX {
                continue;
            }
            let (mut at, mut place) = (head, 0);
            loop {
                chains.chain[at] = count;
                chains.place[at] = place;
                place += 1;
                let free = |&next: &usize| chains.chain[next] == u32::MAX;
                match successors(graph, mask, inner, at).filter(free).max() {
                    Some(next) => at = next,
                    None => break,
                }
            }
            count += 1;
        }
        chains
    }
}

fn successors<'a>(
    graph: &'a Graph,
    mask: u8,
    inner: &'a Components,
    component: usize,
) -> impl Iterator<Item = usize> + 'a {
    inner
        .members(component)
        .iter()
        .flat_map(move |&vertex| graph.edges(vertex, mask))
        .map(|(target, _)| inner.of[target as usize] as usize)
        .filter(move |&target| target != component)
}

struct Labels<'a> {
    graph: &'a Graph,
    mask: u8,
    inner: &'a Components,
    chains: Chains,
}

impl Labels<'_> {
    fn component(&self, vertex: u32) -> usize {
        self.inner.of[vertex as usize] as usize
    }

    /// How many of the pairs the next pass answers, and the chains it labels.
    fn batch(&self, pairs: &[(u32, u32)], open: &[usize]) -> (usize, Vec<u32>) {
        let mut lanes: Vec<u32> = Vec::with_capacity(LANES);
        for (count, &pair) in open.iter().enumerate() {
            let chain = self.chains.chain[self.component(pairs[pair].1)];
            if lanes.contains(&chain) {
                continue;
            }
            if lanes.len() == LANES {
                return (count, lanes);
            }
            lanes.push(chain);
        }
        (open.len(), lanes)
    }

    /// The first of the pairs in `batch` that are joined.
    fn run(&self, pairs: &[(u32, u32)], batch: &[usize], lanes: &[u32]) -> Option<usize> {
        let lowest = batch.iter().map(|&n| self.component(pairs[n].1)).min()?;
        let highest = batch.iter().map(|&n| self.component(pairs[n].0)).max()?;
        let mut labels = vec![[u32::MAX; LANES]; highest - lowest + 1];
        for component in lowest..=highest {
            let mut label = [u32::MAX; LANES];
            for next in successors(self.graph, self.mask, self.inner, component) {
                if next >= lowest {
                    for (mine, theirs) in label.iter_mut().zip(labels[next - lowest]) {
                        *mine = theirs.min(*mine);
                    }
                }
            }
            let chain = self.chains.chain[component];
            if let Some(lane) = lanes.iter().position(|&lane| lane == chain) {
                label[lane] = self.chains.place[component].min(label[lane]);
            }
            labels[component - lowest] = label;
        }
        let is_joined = |&&pair: &&usize| {
            let (from, to) = (self.component(pairs[pair].0), self.component(pairs[pair].1));
            let lane = lanes.iter().position(|&lane| lane == self.chains.chain[to]);
            lane.is_some_and(|lane| labels[from - lowest][lane] <= self.chains.place[to])
        };
        batch.iter().filter(is_joined).min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::{WR, WW};
    use super::super::tarjan::components;
    use super::*;

    /// The plain answer.
    fn leads(edges: &[(u32, u32, u8)], from: u32, to: u32) -> bool {
        let (mut seen, mut open) = (vec![from], vec![from]);
        while let Some(vertex) = open.pop() {
            if vertex == to {
                return true;
            }
            for &(a, b, _) in edges {
                if a == vertex && !seen.contains(&b) {
                    seen.push(b);
                    open.push(b);
                }
            }
        }
        false
    }

    #[test]
    fn labels_agree_with_a_plain_search_on_random_graphs() {
        let mut state = 1u64;
        let mut draw = |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
            ((state >> 33) as u32) % below
        };
        for round in 0..400 {
            let len = 2 + round % 40;
            let kinds = [WW, WR];
            let edges: Vec<_> = (0..draw(2 * len + 1))
                .map(|_| (draw(len), draw(len), kinds[draw(2) as usize]))
                .filter(|&(from, to, _)| from != to)
                .collect();
            let graph = Graph::new((0..len).collect(), 0, &edges);
            let inner = components(&graph, WW | WR);
            for from in 0..len {
                for to in 0..len {
                    let found = find_path(&graph, WW | WR, &inner, &[(from, to)]).is_some();
                    assert_eq!(found, leads(&edges, from, to), "{from} to {to} in {edges:?}");
                }
            }
            let pairs: Vec<_> = (0..60).map(|_| (draw(len), draw(len))).collect();
            let any = pairs.iter().any(|&(from, to)| leads(&edges, from, to));
            let found = find_path(&graph, WW | WR, &inner, &pairs);
            assert_eq!(found.is_some(), any);
            if let Some(pair) = found {
                assert!(leads(&edges, pairs[pair].0, pairs[pair].1));
            }
        }
    }
}
