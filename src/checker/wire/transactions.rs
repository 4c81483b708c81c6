//! What clients were told about the ends of their transactions.
//!
//! Which EndTxn decides a batch is known where the batch was acknowledged, and the first EndTxn of
//! the same producer id and epoch after that acknowledgement was answered with success, with none
//! overlapping the produce request.

use rustc_hash::FxHashMap;

use super::mark::Mark;
use super::stage::Stage;
use crate::history::facts::topics::Cluster;
use crate::history::facts::{Deed, Fact};

/// Ends remembered, of all producers.
const ENDS_MAX: usize = 500_000;
/// Ends before a batch among which one that is still under way is looked for.
const LOOK_BACK: usize = 64;

/// An EndTxn request and its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) committed: bool,
    pub(super) error: Option<i16>,
    pub(super) mark: Mark,
}

/// All that is known of transactions from what coordinators said.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// By producer id and epoch; those that certainly decided nothing left out.
    ends: FxHashMap<(Cluster, i64, i16), Vec<End>>,
    end_count: usize,
    timeouts: FxHashMap<(Cluster, i64), (i32, i32)>,
}

impl Transactions {
    pub(super) fn fact(&mut self, stage: &Stage, fact: &Fact) {
        let cluster = stage.cluster(&fact.seen);
        match &fact.deed {
            Deed::EndTxn { asked, committed, error, .. } if self.end_count < ENDS_MAX => {
                if is_undecided(*error) {
                    return;
                }
                self.end_count += 1;
                let of = (cluster, asked.producer_id, asked.producer_epoch);
                self.ends.entry(of).or_default().push(End {
                    committed: *committed,
                    error: *error,
                    mark: Mark::of(&fact.seen),
                });
            }
            Deed::InitProducerId { timeout_ms, answer: Some((0, producer_id, _)), .. }
                if self.timeouts.len() < ENDS_MAX =>
            {
                let (least, most) =
                    self.timeouts.entry((cluster, *producer_id)).or_insert((*timeout_ms, 0));
                *least = (*least).min(*timeout_ms);
                *most = (*most).max(*timeout_ms);
            }
            _ => {}
        }
    }

    /// Puts every producer's ends in the order of their requests.
    #[expect(
        clippy::disallowed_methods,
        reason = "each is changed alone: the order reaches nothing"
    )]
    pub(super) fn sort(&mut self) {
        for ends in self.ends.values_mut() {
            ends.sort_by_key(|end| end.mark.request().time_ns);
        }
    }

    /// After how long the coordinator may abort, and after how long it must, where clients said
    /// so: the owners of a producer id may differ.
    pub(super) fn timeout_ms(&self, of: (Cluster, i64)) -> Option<(i32, i32)> {
        self.timeouts.get(&of).copied()
    }

    /// The EndTxn that decides what was acknowledged in that exchange, and one that was sent for
    /// an earlier transaction and may have come in between.
    pub(super) fn end_of(
        &self,
        of: (Cluster, i64),
        epoch: i16,
        acked: &Mark,
    ) -> Option<(&End, Option<&End>)> {
        let ends = self.ends.get(&(of.0, of.1, epoch))?;
        let sent_before = acked.request().time_ns;
        let after = ends.partition_point(|end| end.mark.request().time_ns < sent_before);
        let mut stale = None;
        for (index, end) in ends.iter().enumerate().skip(after.saturating_sub(LOOK_BACK)) {
            if end.mark.is_before(acked) {
                continue;
            }
            if acked.is_before(&end.mark) {
                return (end.error == Some(0)).then_some((end, stale));
            }
            // It was under way together with the batch. It was meant for an earlier transaction
            // where the same was sent again and answered before the batch was sent.
            let again = |other: &&End| other.error == Some(0) && other.mark.is_before(acked);
            ends[index + 1..].iter().take(LOOK_BACK).find(again)?;
            stale = Some(end);
        }
        None
    }
}

/// Whether the coordinator certainly did nothing: it was another, loading, or busy.
fn is_undecided(error: Option<i16>) -> bool {
    matches!(error, Some(14 | 15 | 16 | 51))
}
