//! Says which types of cycles a graph has, and where.
//!
//! A cycle is a closed walk. One of some type exists in a component of the edges that the type
//! allows if each kind of edge it asks for stands inside that component; where anti-dependencies
//! are limited, in a component of the product of vertices with what the limit remembers, or if a
//! path leads back from the head of an anti-dependency to its tail.

use super::reach::find_path;
use super::rows::{Graph, PROCESS, RT, RW, RawEdge, WR, WW};
use super::tarjan::{Components, components};
use crate::checker::anomaly::{Rw, Shape, TimeOrder};

/// The kinds of edges that a type allows.
pub(crate) fn mask(shape: Shape) -> u8 {
    let wr = if shape.wr { WR } else { 0 };
    let rw = if shape.rw == Rw::None { 0 } else { RW };
    WW | wr | rw | time_kind(shape)
}

/// The kind of edge of a type's order of time; none where it has none.
pub(super) fn time_kind(shape: Shape) -> u8 {
    match shape.time {
        None => 0,
        Some(TimeOrder::Process) => PROCESS,
        Some(TimeOrder::Realtime) => RT,
    }
}

/// The kinds of edges without which there is no cycle of a type.
fn asks_for(shape: Shape) -> impl Iterator<Item = u8> {
    let data = match shape {
        Shape { rw: Rw::None, wr: false, .. } => WW,
        Shape { rw: Rw::None, wr: true, .. } => WR,
        _ => RW,
    };
    std::iter::once(data).chain(Some(time_kind(shape)).filter(|&kind| kind != 0))
}

/// Whether every cycle of one type is, in essence, one of another as well. Of types so related
/// only the first is told where a component has both.
pub(crate) fn implies(strong: Shape, weak: Shape) -> bool {
    let family = |shape: Shape| match (shape.rw, shape.wr) {
        (Rw::None, false) => (0, 0),
        (Rw::None, true) => (0, 1),
        (Rw::One, _) => (1, 0),
        (Rw::Nonadjacent, _) => (1, 1),
        (Rw::Any, _) => (1, 2),
    };
    let time = |shape: Shape| match shape.time {
        None => 0,
        Some(TimeOrder::Process) => 1,
        Some(TimeOrder::Realtime) => 2,
    };
    let (strong_family, weak_family) = (family(strong), family(weak));
    strong_family.0 == weak_family.0
        && strong_family.1 <= weak_family.1
        && time(strong) <= time(weak)
}

/// The components, of the edges a type allows, that contain a cycle of it. `whole` are those of
/// all edges.
pub(crate) fn find(graph: &Graph, whole: &Components, shape: Shape) -> Vec<Vec<u32>> {
    if asks_for(shape).any(|kind| graph.kinds_present() & kind == 0) {
        return Vec::new();
    }
    let own;
    let allowed = if graph.kinds_present() & !mask(shape) == 0 {
        whole
    } else {
        own = components(graph, mask(shape));
        &own
    };
    let mut has = Has::of(graph, allowed, shape);
    has.rw_as_asked(graph, allowed, shape);
    (0..allowed.len())
        .filter(|&n| allowed.members(n).len() > 1 && has.all(n, shape))
        .map(|n| allowed.members(n).to_vec())
        .collect()
}

/// What each component contains.
struct Has {
    wr: Vec<bool>,
    time: Vec<bool>,
    rw: Vec<bool>,
}

impl Has {
    fn of(graph: &Graph, allowed: &Components, shape: Shape) -> Self {
        let none = vec![false; allowed.len()];
        let mut has = Self { wr: none.clone(), time: none.clone(), rw: none };
        let mask = mask(shape);
        for component in 0..allowed.len() {
            let members = allowed.members(component);
            let inside = |from: u32| {
                let joined =
                    graph.edges(from, mask).filter(move |&(to, _)| allowed.joins(from, to));
                joined.fold(0, |kinds, (_, kind)| kinds | kind)
            };
            // Of one vertex alone nothing will be asked.
            if members.len() > 1 {
                let kinds = members.iter().fold(0, |kinds, &from| kinds | inside(from));
                has.wr[component] = kinds & WR != 0;
                has.rw[component] = kinds & RW != 0;
                has.time[component] = kinds & (RT | PROCESS) != 0;
            }
        }
        has
    }

    fn all(&self, component: usize, shape: Shape) -> bool {
        let wr = !shape.wr || shape.rw != Rw::None || self.wr[component];
        let rw = shape.rw == Rw::None || self.rw[component];
        let time = shape.time.is_none() || self.time[component];
        wr && rw && time
    }

    /// Leaves only those components whose anti-dependencies stand as the type asks.
    fn rw_as_asked(&mut self, graph: &Graph, allowed: &Components, shape: Shape) {
        let asked = match shape.rw {
            Rw::None | Rw::Any => return,
            Rw::One => Self::one,
            Rw::Nonadjacent => Self::nonadjacent,
        };
        let inner = components(graph, mask(shape) & !RW);
        for component in 0..allowed.len() {
            if self.rw[component] && (shape.time.is_none() || self.time[component]) {
                self.rw[component] = asked(graph, allowed, &inner, component, shape);
            }
        }
    }

    fn one(
        graph: &Graph,
        allowed: &Components,
        inner: &Components,
        component: usize,
        shape: Shape,
    ) -> bool {
        let members = allowed.members(component);
        let edges = || {
            members.iter().flat_map(|&from| {
                let heads = graph.edges(from, RW).filter(move |&(to, _)| allowed.joins(from, to));
                heads.map(move |(to, _)| (from, to))
            })
        };
        if shape.time.is_none() && edges().any(|(from, to)| inner.joins(from, to)) {
            return true;
        }
        // Small components, and small steps in large ones, are answered by looking.
        let near = edges().take(NEAR_EDGES);
        let mut undecided = edges().nth(NEAR_EDGES).is_some();
        if shape.time.is_none() {
            let mut walk = NearWalk::default();
            for (from, to) in near {
                match walk.leads(graph, allowed, mask(shape) & !RW, to, from) {
                    Some(true) => return true,
                    Some(false) => {}
                    None => undecided = true,
                }
            }
            if !undecided {
                return false;
            }
        }
        let part = graph.part(members);
        closing_single(&part, shape).is_some()
    }

    fn nonadjacent(
        graph: &Graph,
        allowed: &Components,
        _: &Components,
        component: usize,
        shape: Shape,
    ) -> bool {
        closing_nonadjacent(&graph.part(allowed.members(component)), shape).is_some()
    }
}

/// How many anti-dependencies of a component are looked at one by one before labels are made.
const NEAR_EDGES: usize = 64;
/// How many vertices such a look may see.
const NEAR_VERTICES: usize = 256;

/// A breadth-first look around.
#[derive(Default)]
struct NearWalk {
    seen: Vec<u32>,
}

impl NearWalk {
    /// Whether `from` leads to `to` inside a component of `allowed`; unknown if too many vertices
    /// lie around.
    fn leads(
        &mut self,
        graph: &Graph,
        allowed: &Components,
        mask: u8,
        from: u32,
        to: u32,
    ) -> Option<bool> {
        self.seen.clear();
        self.seen.push(from);
        let mut next = 0;
        while let Some(&vertex) = self.seen.get(next) {
            next += 1;
            for (target, _) in graph.edges(vertex, mask) {
                if target == to {
                    return Some(true);
                }
                if allowed.joins(vertex, target) && !self.seen.contains(&target) {
                    if self.seen.len() == NEAR_VERTICES {
                        return None;
                    }
                    self.seen.push(target);
                }
            }
        }
        Some(false)
    }
}

/// An anti-dependency that is part of a cycle of a type in a graph, where the type limits
/// anti-dependencies.
pub(super) fn closing(part: &Graph, shape: Shape) -> Option<(u32, u32)> {
    match shape.rw {
        Rw::None | Rw::Any => None,
        Rw::One => closing_single(part, shape),
        Rw::Nonadjacent => closing_nonadjacent(part, shape),
    }
}

/// One that is closed to a cycle with no two adjacent.
fn closing_nonadjacent(part: &Graph, shape: Shape) -> Option<(u32, u32)> {
    let product = after_rw(part, mask(shape));
    let walks = components(&product, u8::MAX);
    let component = |vertex: u32| walks.of[vertex as usize] as usize;
    let inside = || product.all_edges().filter(|&(from, to, _)| walks.joins(from, to));
    let mut has_time = vec![shape.time.is_none(); walks.len()];
    for (from, _, kind) in inside() {
        has_time[component(from)] |= kind & (RT | PROCESS) != 0;
    }
    let (from, to, _) =
        inside().find(|&(from, _, kind)| kind & RW != 0 && has_time[component(from)])?;
    Some((from, to - part.len() as u32))
}

/// One that is closed to a cycle by a path without another, and over an edge of time if one is
/// asked for.
fn closing_single(part: &Graph, shape: Shape) -> Option<(u32, u32)> {
    let heads_and_tails: Vec<(u32, u32)> = part
        .all_edges()
        .filter(|&(_, _, kind)| kind & RW != 0)
        .map(|(from, to, _)| (to, from))
        .collect();
    let mask = mask(shape) & !RW;
    if shape.time.is_none() {
        let inner = components(part, mask);
        let found = find_path(part, mask, &inner, &heads_and_tails)?;
        let (head, tail) = heads_and_tails[found];
        return Some((tail, head));
    }
    // Twice the graph: the second half is where an edge of time has been used.
    let len = part.len() as u32;
    let mut edges: Vec<RawEdge> = Vec::new();
    for (from, to, kind) in part.all_edges().filter(|&(_, _, kind)| kind & mask != 0) {
        let is_time = kind & (RT | PROCESS) != 0;
        edges.push((from, if is_time { to + len } else { to }, kind));
        edges.push((from + len, to + len, kind));
    }
    let product = Graph::new((0..2 * len).collect(), 0, &edges);
    let inner = components(&product, u8::MAX);
    let pairs: Vec<_> = heads_and_tails.iter().map(|&(from, to)| (from, to + len)).collect();
    let found = find_path(&product, u8::MAX, &inner, &pairs)?;
    let (head, tail) = heads_and_tails[found];
    Some((tail, head))
}

/// The product of a graph with whether the last edge was an anti-dependency; from where it was,
/// no other may follow.
fn after_rw(part: &Graph, mask: u8) -> Graph {
    let len = part.len() as u32;
    let mut edges: Vec<RawEdge> = Vec::new();
    for (from, to, kind) in part.all_edges().filter(|&(_, _, kind)| kind & mask != 0) {
        if kind & RW == 0 {
            edges.push((from, to, kind));
            edges.push((from + len, to, kind));
        } else {
            edges.push((from, to + len, kind));
        }
    }
    Graph::new((0..2 * len).collect(), 0, &edges)
}
