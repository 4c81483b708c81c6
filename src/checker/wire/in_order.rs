//! Facts in the order of their times, as far as that can be had.
//!
//! A connection that was there before its capture is held back until it is clear who its client
//! is: a few packets, or until the capture ends where it says less. Its exchanges then come after
//! later ones of others, and a check that goes by what it knows so far would look at them too late.
//! So facts wait until many later ones have come.
//!
//! Never: drops a fact; keeps what records hold.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::history::facts::{Deed, Fact};

/// Facts that wait.
const WAITING_MAX: usize = 1_024;

/// Facts that wait for earlier ones.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    waiting: BinaryHeap<Reverse<Waiting>>,
    taken: u64,
}

#[derive(Debug)]
struct Waiting {
    /// When its exchange was over, and how many came before it.
    at: (u64, u64),
    fact: Box<Fact>,
}

impl InOrder {
    /// Takes a fact; returns the earliest where too many wait.
    pub(super) fn push(&mut self, mut fact: Fact) -> Option<Fact> {
        forget_records(&mut fact);
        let over = fact.seen.response.unwrap_or(fact.seen.request);
        self.taken += 1;
        let at = (over.time_ns, self.taken);
        self.waiting.push(Reverse(Waiting { at, fact: Box::new(fact) }));
        if self.waiting.len() > WAITING_MAX { self.pop() } else { None }
    }

    /// The earliest of those that wait.
    pub(super) fn pop(&mut self) -> Option<Fact> {
        self.waiting.pop().map(|Reverse(waiting)| *waiting.fact)
    }
}

/// Batches are known by their contents as a whole.
fn forget_records(fact: &mut Fact) {
    match &mut fact.deed {
        Deed::Produce { partitions, .. } => {
            let batches = partitions.iter_mut().flat_map(|of| &mut of.batches);
            batches.for_each(|batch| batch.records = Vec::new());
        }
        Deed::Fetch { partitions, .. } => {
            let batches = partitions.iter_mut().flat_map(|of| &mut of.batches);
            batches.for_each(|batch| batch.records = Vec::new());
        }
        _ => {}
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
