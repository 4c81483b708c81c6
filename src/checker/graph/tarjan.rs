//! Strongly connected components, by Tarjan's algorithm without recursion.
//!
//! Components come out in reverse topological order: whatever a component leads to came before.

use super::rows::Graph;

/// No component, or not yet.
pub(crate) const NONE: u32 = u32::MAX;

/// The components of a graph.
#[derive(Debug)]
pub(crate) struct Components {
    /// The component of each vertex.
    pub(crate) of: Vec<u32>,
    /// The vertices, component by component.
    members: Vec<u32>,
    /// Where each component's vertices begin; one more at the end.
    starts: Vec<u32>,
}

impl Components {
    /// The same components of a part of the graph, given in order, if there are no edges between
    /// components in it. They come out in no particular order.
    pub(crate) fn of_part(&self, vertices: &[u32]) -> Self {
        let mut number = vec![NONE; self.len()];
        let mut starts: Vec<u32> = vec![0];
        let mut of = Vec::with_capacity(vertices.len());
        for &vertex in vertices {
            let number = &mut number[self.of[vertex as usize] as usize];
            if *number == NONE {
                *number = starts.len() as u32 - 1;
                starts.push(0);
            }
            starts[*number as usize + 1] += 1;
            of.push(*number);
        }
        for component in 1..starts.len() {
            starts[component] += starts[component - 1];
        }
        let mut next = starts.clone();
        let mut members = vec![0; of.len()];
        for (vertex, &component) in (0u32..).zip(&of) {
            members[next[component as usize] as usize] = vertex;
            next[component as usize] += 1;
        }
        Self { of, members, starts }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The vertices of one.
    pub(crate) fn members(&self, component: usize) -> &[u32] {
        &self.members[self.starts[component] as usize..self.starts[component + 1] as usize]
    }

    /// Those with more than one vertex.
    pub(crate) fn cyclic(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|component| self.members(component)).filter(|m| m.len() > 1)
    }

    /// Whether an edge lies inside a component.
    pub(crate) fn joins(&self, from: u32, to: u32) -> bool {
        self.of[from as usize] == self.of[to as usize]
    }
}

/// The components of a graph with only the edges in `mask`.
pub(crate) fn components(graph: &Graph, mask: u8) -> Components {
    let len = graph.len();
    let mut search = Search {
        graph,
        mask,
        state: vec![State::default(); len],
        seen: 0,
        open: Vec::new(),
        path: Vec::new(),
        found: Components { of: vec![NONE; len], members: Vec::new(), starts: vec![0] },
    };
    for vertex in 0..len as u32 {
        if search.state[vertex as usize].seen_as == 0 {
            search.run(vertex);
        }
    }
    search.found
}

/// What is known of a vertex.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The order in which vertices were first seen, from 1; the greatest number once its
    /// component is known.
    seen_as: u32,
    /// The earliest open vertex known to be reachable.
    lowest: u32,
}

struct Search<'g> {
    graph: &'g Graph,
    mask: u8,
    state: Vec<State>,
    seen: u32,
    open: Vec<u32>,
    /// The vertices being looked at, each with its next edge and the end of its edges.
    path: Vec<(u32, u32, u32)>,
    found: Components,
}

impl Search<'_> {
    fn run(&mut self, root: u32) {
        self.enter(root);
        while let Some((vertex, next, end)) = self.path.last_mut() {
            let vertex = *vertex;
            if *next == *end {
                self.leave(vertex);
                continue;
            }
            let (target, kind) = self.graph.edge(*next);
            *next += 1;
            if kind & self.mask == 0 {
                continue;
            }
            let seen_as = self.state[target as usize].seen_as;
            if seen_as == 0 {
                self.enter(target);
            } else {
                let lowest = &mut self.state[vertex as usize].lowest;
                *lowest = seen_as.min(*lowest);
            }
        }
    }

    fn enter(&mut self, vertex: u32) {
        self.seen += 1;
        self.state[vertex as usize] = State { seen_as: self.seen, lowest: self.seen };
        self.open.push(vertex);
        let edges = self.graph.span(vertex);
        self.path.push((vertex, edges.start, edges.end));
    }

    fn leave(&mut self, vertex: u32) {
        self.path.pop();
        let State { seen_as, lowest } = self.state[vertex as usize];
        if let Some(&(above, _, _)) = self.path.last() {
            let above = &mut self.state[above as usize].lowest;
            *above = lowest.min(*above);
        }
        if lowest != seen_as {
            return;
        }
        let component = self.found.len() as u32;
        loop {
            let member = self.open.pop().expect("the root of a component is open");
            self.found.of[member as usize] = component;
            self.state[member as usize].seen_as = u32::MAX;
            self.found.members.push(member);
            if member == vertex {
                break;
            }
        }
        self.found.starts.push(self.found.members.len() as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::{RT, WR, WW};
    use super::*;

    fn check(len: u32, edges: &[(u32, u32, u8)], mask: u8, expected: &[&[u32]]) {
        let graph = Graph::new((0..len).collect(), 0, edges);
        let mut found: Vec<Vec<u32>> =
            components(&graph, mask).cyclic().map(<[u32]>::to_vec).collect();
        found.iter_mut().for_each(|members| members.sort_unstable());
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_cycle_is_one_component_and_its_tail_is_not_in_it() {
        let edges = [(0, 1, WW), (1, 2, WW), (2, 0, WR), (2, 3, WW)];
        check(4, &edges, WW | WR, &[&[0, 1, 2]]);
        check(4, &edges, WW, &[]);
    }

    #[test]
    fn two_cycles_that_share_a_vertex_are_one_component() {
        let edges = [(0, 1, WW), (1, 0, WW), (1, 2, RT), (2, 1, RT), (3, 4, WW), (4, 3, WW)];
        check(5, &edges, u8::MAX, &[&[0, 1, 2], &[3, 4]]);
    }

    #[test]
    fn a_long_path_needs_no_stack() {
        let len = 300_000;
        let edges: Vec<_> = (0..len).map(|v| (v, (v + 1) % len, WW)).collect();
        let all: Vec<u32> = (0..len).collect();
        check(len, &edges, WW, &[&all]);
    }
}
