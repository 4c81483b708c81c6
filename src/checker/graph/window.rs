//! Finds the stretches of time outside of which no cycle can be.
//!
//! A cycle that spans two moments comes back from the later to the earlier by edges that lead
//! backward; so every moment between them is covered by one. Stretches covered by backward edges
//! are the *windows*; edges from one window to another can be dropped.

use std::sync::atomic::{AtomicU32, Ordering};

/// The backward edges seen so far, as far as windows need them. Several threads may add to it:
/// the latest of places does not depend on who came first.
#[derive(Debug)]
pub(crate) struct Backward {
    /// For each place, the latest place from which an edge leads back to it.
    from: Vec<AtomicU32>,
}

impl Backward {
    /// None yet, among so many places.
    pub(crate) fn new(len: usize) -> Self {
        Self { from: (0..len).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Adds an edge that leads from a later to an earlier place.
    pub(crate) fn add(&self, from: u32, to: u32) {
        self.from[to as usize].fetch_max(from, Ordering::Relaxed);
    }

    /// What either has seen.
    pub(crate) fn and(mut self, other: Self) -> Self {
        for (mine, theirs) in self.from.iter_mut().zip(other.from) {
            let mine = mine.get_mut();
            *mine = theirs.into_inner().max(*mine);
        }
        self
    }

    /// The windows.
    pub(crate) fn windows(&self) -> Windows {
        let mut end_of = vec![0; self.from.len()];
        let mut shards: Vec<(u32, u32)> = Vec::new();
        let mut first = 0;
        while first < self.from.len() {
            let mut end = first + 1;
            let mut node = first;
            while node < end {
                end = end.max(self.from[node].load(Ordering::Relaxed) as usize + 1);
                node += 1;
            }
            if end > first + 1 {
                end_of[first..end].fill(end as u32);
                match shards.last_mut() {
                    // Small windows are looked at together.
                    Some((begin, last)) if end as u32 - *begin <= SHARD => *last = end as u32,
                    _ => shards.push((first as u32, end as u32)),
                }
            }
            first = end;
        }
        Windows { end_of, shards }
    }
}

/// How many operations are looked at together at most, unless one window has more.
const SHARD: u32 = 1 << 16;

/// Stretches of time in which cycles may be.
#[derive(Debug)]
pub(crate) struct Windows {
    /// Where the window of each place ends; 0 for a place in none.
    end_of: Vec<u32>,
    /// First place and end of each group of windows.
    shards: Vec<(u32, u32)>,
}

impl Windows {
    /// Groups of whole windows, in order.
    pub(crate) fn shards(&self) -> &[(u32, u32)] {
        &self.shards
    }

    /// The places of a stretch that are in windows.
    pub(crate) fn places(&self, (first, end): (u32, u32)) -> impl Iterator<Item = u32> + '_ {
        (first..end).filter(|&place| self.end_of[place as usize] != 0)
    }

    /// Whether both ends of an edge are in one window, so that it may be part of a cycle.
    pub(crate) fn hold(&self, from: u32, to: u32) -> bool {
        from.max(to) < self.end_of[from.min(to) as usize]
    }
}
