//! What clients were told about the ends of their transactions.
//!
//! Which EndTxn decides a batch is known where the batch was acknowledged, and the first EndTxn of
//! the same producer id and epoch after that acknowledgement was answered with success, with none
//! overlapping the produce request. Until EndTxn v5, which gives each transaction an epoch of its own
//! (KIP-890), an EndTxn that was not captured may have come in between: there, the connection to the
//! coordinator must have been followed without a hole since before the batch was sent.

use rustc_hash::{FxHashMap, FxHashSet};

use super::log::{Body, Kind};
use super::mark::Mark;
use super::stage::Stage;
use crate::history::Connection;
use crate::history::facts::topics::{Cluster, Topics};
use crate::history::facts::{Deed, Fact};

/// Ends remembered, of all producers.
const ENDS_MAX: usize = 500_000;
/// Ends before a batch among which one that is still under way is looked for, and epochs after it.
const LOOK_BACK: usize = 64;
/// Connections to coordinators that are followed, one for each producer epoch.
const FOLLOWED_MAX: usize = 200_000;
/// Since this version of EndTxn an epoch is one transaction.
const EPOCH_EACH_VERSION: i16 = 5;

/// An EndTxn request and its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) committed: bool,
    pub(super) error: Option<i16>,
    pub(super) mark: Mark,
    /// Whether no other transaction has its epoch.
    is_only: bool,
}

/// All that is known of transactions from what coordinators said.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// By producer id and epoch; those that certainly decided nothing left out.
    ends: FxHashMap<(Cluster, i64, i16), Vec<End>>,
    end_count: usize,
    timeouts: FxHashMap<(Cluster, i64), i32>,
    /// The first exchange of a producer epoch with its coordinator, by connection.
    followed: FxHashMap<(Cluster, i64, i16, u64), Mark>,
    /// Connections of which something is missing.
    hurt: FxHashSet<u64>,
    /// Producer epochs whose transactions an administrator aborted.
    administered: FxHashSet<(Cluster, i64, i16)>,
}

impl Transactions {
    pub(super) fn fact(&mut self, stage: &Stage, fact: &Fact) {
        let cluster = stage.cluster(&fact.seen);
        self.follow(cluster, fact);
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
                    is_only: fact.api_version >= EPOCH_EACH_VERSION,
                });
            }
            Deed::InitProducerId { timeout_ms, answer: Some((0, producer_id, _)), .. }
                if self.timeouts.len() < ENDS_MAX =>
            {
                let most = self.timeouts.entry((cluster, *producer_id)).or_default();
                *most = (*most).max(*timeout_ms);
            }
            Deed::WriteTxnMarkers(markers)
                if !is_coordinator(fact.client_id.as_deref())
                    && self.administered.len() < ENDS_MAX =>
            {
                let aborted = markers.iter().filter(|(.., committed)| !committed);
                self.administered.extend(aborted.map(|&(id, epoch, _)| (cluster, id, epoch)));
            }
            _ => {}
        }
    }

    /// Whether the marker of a batch is none of its coordinator's: an administrator was seen to
    /// abort the transaction, or it lacks the epoch that the coordinator gives markers (KIP-890).
    pub(super) fn is_by_administrator(
        &self,
        of: (Cluster, i64),
        (batch, marker): (&Body, &Body),
        end: &End,
    ) -> bool {
        let epoch = batch.producer_epoch;
        marker.kind == Kind::Abort
            && (self.administered.contains(&(of.0, of.1, epoch))
                || end.is_only && marker.producer_epoch == epoch)
    }

    fn follow(&mut self, cluster: Cluster, fact: &Fact) {
        let (producer_id, epoch) = match &fact.deed {
            Deed::InitProducerId {
                transactional_id: Some(_),
                answer: Some((0, id, epoch)),
                ..
            } => (*id, *epoch),
            Deed::AddPartitionsToTxn { asked, .. }
            | Deed::AddOffsetsToTxn { asked, .. }
            | Deed::EndTxn { asked, .. } => (asked.producer_id, asked.producer_epoch),
            _ => return,
        };
        let mark = Mark::of(&fact.seen);
        if self.followed.len() < FOLLOWED_MAX && mark.response().is_some() {
            let key = (cluster, producer_id, epoch, mark.connection());
            self.followed.entry(key).or_insert(mark);
        }
    }

    /// Something of a connection is missing.
    pub(super) fn hurt(&mut self, connection: Connection) {
        if self.hurt.len() < FOLLOWED_MAX {
            self.hurt.insert(connection.0);
        } else {
            // Beyond that nothing is certain.
            self.followed.clear();
        }
    }

    /// Whether every EndTxn from before that exchange up to `end` is known.
    fn is_followed(&self, of: (Cluster, i64), epoch: i16, acked: &Mark, end: &End) -> bool {
        let connection = end.mark.connection();
        let since = self.followed.get(&(of.0, of.1, epoch, connection));
        end.is_only
            || !self.hurt.contains(&connection) && since.is_some_and(|since| since.is_before(acked))
    }

    /// Nothing more is learnt: what was told by brokers that turned out to be of one cluster is put
    /// together, and every producer's ends in the order of their requests.
    #[expect(
        clippy::disallowed_methods,
        reason = "sorted, or put together alike in any order: the order reaches nothing"
    )]
    pub(super) fn settle(&mut self, topics: &Topics) {
        let now = |cluster| topics.cluster_now(cluster);
        for ((cluster, id, epoch), ends) in std::mem::take(&mut self.ends) {
            self.ends.entry((now(cluster), id, epoch)).or_default().extend(ends);
        }
        for ends in self.ends.values_mut() {
            ends.sort_by_key(|end| end.mark.request().order());
        }
        let administered = std::mem::take(&mut self.administered).into_iter();
        self.administered
            .extend(administered.map(|(cluster, id, epoch)| (now(cluster), id, epoch)));
        for ((cluster, id), timeout_ms) in std::mem::take(&mut self.timeouts) {
            let most = self.timeouts.entry((now(cluster), id)).or_default();
            *most = (*most).max(timeout_ms);
        }
        for ((cluster, id, epoch, connection), mark) in std::mem::take(&mut self.followed) {
            let first = self.followed.entry((now(cluster), id, epoch, connection)).or_insert(mark);
            if mark.request().order() < first.request().order() {
                *first = mark;
            }
        }
    }

    /// After how long the coordinator must abort, where clients said so: the owners of a producer
    /// id may differ, and the most that one asked for counts.
    pub(super) fn timeout_ms(&self, of: (Cluster, i64)) -> Option<i32> {
        self.timeouts.get(&of).copied()
    }

    /// Whether an EndTxn that may have committed was sent, or answered, since that exchange began.
    pub(super) fn may_be_committed(&self, of: (Cluster, i64), epoch: i16, since: &Mark) -> bool {
        let ends = self.ends.get(&(of.0, of.1, epoch)).map_or(&[][..], Vec::as_slice);
        let may = |end: &End| end.committed && matches!(end.error, None | Some(0));
        ends.iter().any(|end| may(end) && !end.mark.is_before(since))
    }

    /// The EndTxn by which a producer may have committed anything since that exchange began, each
    /// with its epoch: in that one, or in one of the next.
    pub(super) fn committed_since(
        &self,
        of: (Cluster, i64),
        epoch: i16,
        since: &Mark,
    ) -> impl Iterator<Item = (i16, &End)> {
        let epochs = (epoch..=i16::MAX).take(LOOK_BACK);
        epochs.flat_map(move |epoch| {
            let ends = self.ends.get(&(of.0, of.1, epoch)).map_or(&[][..], Vec::as_slice);
            let may = |end: &&End| {
                end.committed && matches!(end.error, None | Some(0)) && !end.mark.is_before(since)
            };
            ends.iter().filter(may).map(move |end| (epoch, end))
        })
    }

    /// The EndTxn that decides what was acknowledged in that exchange, and one that was sent for
    /// an earlier transaction and may have come in between.
    pub(super) fn end_of(
        &self,
        of: (Cluster, i64),
        epoch: i16,
        acked: &Mark,
    ) -> Option<(&End, Option<&End>)> {
        self.asked_of(of, epoch, acked).filter(|(end, _)| end.error == Some(0))
    }

    /// The same, whatever it was answered: what the client wanted of the transaction, and when.
    pub(super) fn asked_of(
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
                return self.is_followed(of, epoch, acked, end).then_some((end, stale));
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

/// Whether a client is the part of Kafka's broker that sends markers. Administrators abort
/// transactions by the same request (KIP-664).
fn is_coordinator(client_id: Option<&[u8]>) -> bool {
    client_id.is_some_and(|id| id.starts_with(b"broker-") && id.ends_with(b"-txn-marker-sender"))
}

/// Whether the coordinator certainly did nothing: it was another, loading, or busy.
fn is_undecided(error: Option<i16>) -> bool {
    matches!(error, Some(14 | 15 | 16 | 51))
}
