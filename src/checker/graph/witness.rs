//! Finds a short cycle of a type, to be shown.
//!
//! That there is one is known before. The search is breadth first, from every edge that the type
//! asks for, and never looks further than the best cycle so far; so the cycle is a shortest one,
//! unless the component is so large that the search was cut off after a fixed number of steps.
//! If nothing was found by then, the labels that showed that there is a cycle name an edge of one,
//! and the shortest cycle through that edge is taken.

use std::collections::VecDeque;

use super::rows::{Graph, PROCESS, RT, RW, WR, WW};
use super::types::{closing, mask, time_kind};
use crate::checker::anomaly::{Rw, Shape};

/// A cycle: each operation with the kind of the edge that leads on from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Witness {
    /// Operations by the graph's names for them.
    pub(crate) steps: Vec<(u32, u8)>,
    /// Whether no shorter cycle of the type is in the same component.
    pub(crate) is_shortest: bool,
}

/// How many edges a search may follow.
const STEPS_MAX: u64 = 3_000_000;

/// What a walk remembers: bits.
const SEEN_WR: u8 = 1;
const SEEN_TIME: u8 = 2;
const AFTER_RW: u8 = 4;
const STATES: usize = 8;

/// A short cycle of a type in a graph that is one component.
pub(crate) fn find(part: &Graph, shape: Shape) -> Option<Witness> {
    let mut search = Search::of(part, shape);
    let mut best: Option<Vec<(u32, u8)>> = None;
    for anchor in search.anchors() {
        let limit = best.as_ref().map_or(u32::MAX, |best| best.len() as u32 - 1);
        if limit < 2 || search.steps > STEPS_MAX {
            break;
        }
        best = search.from(anchor, limit).or(best);
    }
    if best.is_none() && search.steps > STEPS_MAX {
        let (from, to) = closing(part, shape)?;
        best = search.from(Anchor { from, to, kind: RW }, u32::MAX);
    }
    let is_shortest = search.steps <= STEPS_MAX || best.as_ref().is_some_and(|b| b.len() == 2);
    let mut steps = best?;
    let first = (0..steps.len()).min_by_key(|&n| steps[n].0)?;
    steps.rotate_left(first);
    Some(Witness { steps, is_shortest })
}

/// The parts whose cycles are compared by length: the smallest ones, and the largest.
pub(crate) const COMPARED: usize = 8;

/// A cycle of each part, in the order in which cases are numbered: first the shortest of those
/// compared, then part by part. The number of a case does not depend on how many are asked for, as
/// long as at least [`COMPARED`] parts and the largest are kept.
pub(crate) fn in_order(parts: &[Graph], shape: Shape) -> Vec<Witness> {
    let (head, rest) = match parts.split_last() {
        Some((largest, others)) if others.len() > COMPARED => {
            let (front, rest) = others.split_at(COMPARED);
            (front.iter().chain([largest]).collect::<Vec<_>>(), rest)
        }
        _ => (parts.iter().collect(), &[][..]),
    };
    let mut found: Vec<Witness> = head.iter().filter_map(|part| find(part, shape)).collect();
    found.sort_by_key(|witness| (witness.steps.len(), witness.clone()));
    found.extend(rest.iter().filter_map(|part| find(part, shape)));
    let mut seen: Vec<Witness> = Vec::new();
    for witness in found {
        if !seen.contains(&witness) {
            seen.push(witness);
        }
    }
    seen
}

struct Search<'g> {
    part: &'g Graph,
    shape: Shape,
    steps: u64,
    /// For each vertex and state: the anchor that reached it last, from where, and how far.
    reached: Vec<(u32, u32, u32)>,
    round: u32,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    from: u32,
    to: u32,
    kind: u8,
}

impl<'g> Search<'g> {
    fn of(part: &'g Graph, shape: Shape) -> Self {
        let reached = vec![(0, 0, 0); part.len() * STATES];
        Self { part, shape, steps: 0, reached, round: 0 }
    }

    /// The edges of which every cycle of the type has one.
    fn anchors(&self) -> Vec<Anchor> {
        let kind = match self.shape {
            Shape { rw: Rw::One | Rw::Nonadjacent | Rw::Any, .. } => RW,
            Shape { wr: true, .. } => WR,
            Shape { time: Some(_), .. } => time_kind(self.shape),
            _ => WW,
        };
        let edges = self.part.all_edges();
        edges
            .filter(|&(from, _, k)| k & kind != 0 && !self.part.is_barrier(from))
            .map(|(from, to, kind)| Anchor { from, to, kind })
            .collect()
    }

    /// The state after an edge, if the type allows it there.
    fn after(&self, state: u8, kind: u8) -> Option<u8> {
        if kind & RW != 0 {
            match self.shape.rw {
                Rw::None | Rw::One => return None,
                Rw::Nonadjacent if state & AFTER_RW != 0 => return None,
                Rw::Nonadjacent | Rw::Any => {}
            }
            return Some(state | AFTER_RW);
        }
        let wr = if kind & WR != 0 { SEEN_WR } else { 0 };
        let time = if kind & (RT | PROCESS) != 0 { SEEN_TIME } else { 0 };
        Some((state & !AFTER_RW) | wr | time)
    }

    fn is_goal(&self, anchor: Anchor, state: u8) -> bool {
        let time = self.shape.time.is_none() || state & SEEN_TIME != 0;
        let rw = self.shape.rw != Rw::Nonadjacent || anchor.kind & RW == 0 || state & AFTER_RW == 0;
        time && rw
    }

    /// The shortest walk with at most `limit` operations that begins with an anchor and comes back.
    fn from(&mut self, anchor: Anchor, limit: u32) -> Option<Vec<(u32, u8)>> {
        self.round += 1;
        let mut start = self.after(0, anchor.kind & !RW).unwrap_or(0);
        if anchor.kind & RW != 0 {
            start |= AFTER_RW;
        }
        let mask = mask(self.shape);
        let origin = slot(anchor.to, start);
        self.reached[origin as usize] = (self.round, u32::MAX, 1);
        let mut open = VecDeque::from([origin]);
        while let Some(at) = open.pop_front() {
            let (vertex, state) = (at / STATES as u32, (at % STATES as u32) as u8);
            let far = self.reached[at as usize].2;
            if vertex == anchor.from && self.is_goal(anchor, state) {
                return Some(self.walk(anchor, at));
            }
            for (target, kind) in self.part.edges(vertex, mask) {
                self.steps += 1;
                let Some(state) = self.after(state, kind) else { continue };
                // Barriers are moments, not operations: passing one is no step.
                let step = u32::from(!self.part.is_barrier(vertex));
                let next = slot(target, state);
                let known = &mut self.reached[next as usize];
                if far + step > limit || (known.0 == self.round && known.2 <= far + step) {
                    continue;
                }
                *known = (self.round, at, far + step);
                if step == 0 { open.push_front(next) } else { open.push_back(next) }
            }
        }
        None
    }

    /// The operations of a walk found, each with the edge that leads on.
    fn walk(&self, anchor: Anchor, goal: u32) -> Vec<(u32, u8)> {
        let mut slots = vec![goal];
        let mut at = self.reached[goal as usize].1;
        while at != u32::MAX {
            slots.push(at);
            at = self.reached[at as usize].1;
        }
        slots.reverse();
        let name = |vertex: u32| self.part.names[vertex as usize];
        let mut steps = vec![(name(anchor.from), anchor.kind)];
        for pair in slots.windows(2) {
            let (from, to) = (pair[0] / STATES as u32, pair[1] / STATES as u32);
            if self.part.is_barrier(from) {
                continue;
            }
            let state = (pair[0] % STATES as u32) as u8;
            let next = (pair[1] % STATES as u32) as u8;
            let fits =
                |&(target, kind): &(u32, u8)| target == to && self.after(state, kind) == Some(next);
            let (_, kind) = self
                .part
                .edges(from, mask(self.shape))
                .find(fits)
                .expect("a walk follows edges of the graph");
            steps.push((name(from), kind));
        }
        steps
    }
}

fn slot(vertex: u32, state: u8) -> u32 {
    vertex * STATES as u32 + u32::from(state)
}
