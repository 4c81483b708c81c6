//! Facts in the order of their times, as far as that can be had.
//!
//! A connection that was there before its capture is held back until it is clear who its client
//! is: a few packets, or until the capture ends where it says less. Its exchanges then come after
//! later ones of others, and a check that goes by what it knows so far would look at them too late.
//! So facts wait until many later ones have come.
//!
//! Never: drops a fact that is judged; keeps what records hold.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::history::facts::{Deed, Fact};

/// Facts that wait.
const WAITING_MAX: usize = 1_024;
/// What they hold, all together: partitions, batches, offsets.
const HELD_MAX: usize = 32_768;

/// Facts that wait for earlier ones.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    waiting: BinaryHeap<Reverse<Waiting>>,
    held: usize,
    taken: u64,
}

#[derive(Debug)]
struct Waiting {
    /// When its exchange was over, and how many came before it.
    at: (u64, u64),
    fact: Box<Fact>,
}

impl InOrder {
    /// Takes a fact.
    pub(super) fn push(&mut self, mut fact: Fact) {
        // What these say is learnt of at once, and may be much.
        if matches!(fact.deed, Deed::Other | Deed::Metadata { .. } | Deed::ApiVersions(_)) {
            return;
        }
        forget_records(&mut fact);
        self.held += holds(&fact);
        let over = fact.seen.response.unwrap_or(fact.seen.request);
        self.taken += 1;
        let at = (over.time_ns, self.taken);
        self.waiting.push(Reverse(Waiting { at, fact: Box::new(fact) }));
    }

    /// The earliest, where too many wait.
    pub(super) fn due(&mut self) -> Option<Fact> {
        let is_full = self.waiting.len() > WAITING_MAX || self.held > HELD_MAX;
        if is_full { self.pop() } else { None }
    }

    /// The earliest of those that wait.
    pub(super) fn pop(&mut self) -> Option<Fact> {
        let Reverse(Waiting { fact, .. }) = self.waiting.pop()?;
        self.held -= holds(&fact);
        Some(*fact)
    }
}

/// How much a fact holds.
fn holds(fact: &Fact) -> usize {
    match &fact.deed {
        Deed::Produce { partitions, .. } => {
            partitions.iter().map(|of| 1 + of.batches.len()).sum::<usize>()
        }
        Deed::Fetch { partitions, .. } => {
            partitions.iter().map(|of| 1 + of.batches.len() + of.aborted.len()).sum()
        }
        Deed::OffsetCommit(offsets) | Deed::TxnOffsetCommit { offsets, .. } => {
            offsets.offsets.len()
        }
        Deed::OffsetFetch { groups, .. } => groups.iter().map(|(_, of)| 1 + of.len()).sum(),
        Deed::SyncGroup { answer: Some((_, partitions)), .. }
        | Deed::ConsumerGroupHeartbeat { assigned: Some(partitions), .. }
        | Deed::AddPartitionsToTxn { partitions, .. } => partitions.len(),
        _ => 1,
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
