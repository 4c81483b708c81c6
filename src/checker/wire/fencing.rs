//! P3 and P4: producer ids, their epochs, and who was fenced.
//!
//! P3 needs to have seen: InitProducerId answered with an epoch, and a later request of a lower
//! epoch of the same producer id. Only a request that came after the answer had left proves
//! anything. P4: two answers with the same producer id and epoch.
//!
//! Not checked: a batch that was sent before the answer and again after it (its answer may be the
//! first one's); EndTxn since v5 sent again (KIP-890 answers it as the first); an epoch handed
//! back to the client that named it (KIP-360); producer ids of answers before the capture.

use std::sync::Arc;

use kafka_wire::ApiKey;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::json;

use super::invariant::Invariant::{P3, P4};
use super::mark::Mark;
use super::stage::Stage;
use crate::history::facts::topics::Cluster;
use crate::history::facts::{Deed, EpochAsked, Fact, Produced};

/// Producer ids remembered.
const PRODUCERS_MAX: usize = 200_000;
/// Answers remembered of one producer id.
const ANSWERS_MAX: usize = 64;

/// An answer of InitProducerId.
#[derive(Debug, Clone)]
struct Given {
    epoch: i16,
    transactional_id: Option<Arc<str>>,
    /// The client named the epoch it had.
    asked_back: bool,
    client_id: Option<Arc<[u8]>>,
    mark: Mark,
}

/// Watches epochs.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    given: FxHashMap<(Cluster, i64), Vec<Given>>,
    ends: FxHashSet<(Cluster, i64, i16, bool)>,
}

impl Fencing {
    pub(super) fn fact(&mut self, stage: &mut Stage, fact: &Fact) {
        let cluster = stage.cluster(&fact.seen);
        match &fact.deed {
            Deed::InitProducerId {
                transactional_id, asked, answer: Some((0, id, epoch)), ..
            } => {
                let given = Given {
                    epoch: *epoch,
                    transactional_id: transactional_id.clone(),
                    asked_back: asked.0 >= 0,
                    client_id: fact.client_id.clone(),
                    mark: Mark::of(&fact.seen),
                };
                self.answered(stage, (cluster, *id), given);
            }
            Deed::AddPartitionsToTxn { asked, errors: Some(errors), .. } if errors.contains(&0) => {
                self.accepted(stage, fact, cluster, asked);
            }
            Deed::AddOffsetsToTxn { asked, error: Some(0), .. } => {
                self.accepted(stage, fact, cluster, asked);
            }
            Deed::TxnOffsetCommit { asked, offsets }
                if offsets.answered && offsets.offsets.iter().any(|offset| offset.error == 0) =>
            {
                self.accepted(stage, fact, cluster, asked);
            }
            Deed::EndTxn { asked, committed, error, next } => {
                if let (Some(0), Some(next)) = (error, next) {
                    bumped(stage, fact, asked, *next);
                }
                let key = (cluster, asked.producer_id, asked.producer_epoch, *committed);
                if self.ends.len() >= PRODUCERS_MAX {
                    self.ends.clear();
                }
                let again = !self.ends.insert(key);
                if again && fact.api_version >= 5 {
                    stage.ledger.unknown(P3);
                } else if *error == Some(0) {
                    self.accepted(stage, fact, cluster, asked);
                }
            }
            _ => {}
        }
    }

    /// Answers that gave out a higher epoch of a producer id.
    pub(super) fn fences(
        &self,
        of: (Cluster, i64),
        epoch: i16,
    ) -> impl Iterator<Item = (i16, Mark)> + '_ {
        let given = self.given.get(&of).map_or(&[][..], Vec::as_slice);
        given.iter().filter(move |given| given.epoch > epoch).map(|given| (given.epoch, given.mark))
    }

    fn accepted(&self, stage: &mut Stage, fact: &Fact, cluster: Cluster, asked: &EpochAsked) {
        let of = (cluster, asked.producer_id);
        self.succeeded(stage, fact, of, asked.producer_epoch, None);
    }

    /// A partition of a produce request that succeeded; `sent_before` is the first exchange of
    /// the same batch.
    pub(super) fn produced(
        &self,
        stage: &mut Stage,
        fact: &Fact,
        produced: &Produced,
        sent_before: Option<Mark>,
    ) {
        let cluster = stage.cluster(&fact.seen);
        if !matches!(produced.answer, Some((0, ..))) {
            return;
        }
        for batch in produced.batches.iter().filter(|batch| batch.header.producer_id.0 >= 0) {
            let of = (cluster, batch.header.producer_id.0);
            self.succeeded(stage, fact, of, batch.header.producer_epoch.0, sent_before);
        }
    }

    fn succeeded(
        &self,
        stage: &mut Stage,
        fact: &Fact,
        of: (Cluster, i64),
        epoch: i16,
        sent_before: Option<Mark>,
    ) {
        let Some(given) = self.given.get(&of) else {
            stage.unseen.producer(of);
            return stage.ledger.unknown(P3);
        };
        let mark = Mark::of(&fact.seen);
        let higher = || given.iter().filter(|given| given.epoch > epoch);
        let Some(fence) = higher().find(|given| given.mark.is_before(&mark)) else {
            return match higher().next() {
                Some(_) => stage.ledger.unknown(P3),
                None => stage.ledger.held(P3),
            };
        };
        if sent_before.is_some_and(|first| !fence.mark.is_before(&first)) {
            return stage.ledger.unknown(P3);
        }
        let fields = vec![
            ("api", json!(fact.api_key.to_string())),
            ("producer_id", json!(of.1)),
            ("producer_epoch", json!(epoch)),
            ("fenced_by_epoch", json!(fence.epoch)),
        ];
        let explanation = format!(
            "InitProducerId was answered with producer {} epoch {}. After that answer, {} came \
             with epoch {epoch} of the same producer, and succeeded. A fenced producer must be \
             refused.",
            of.1, fence.epoch, fact.api_key
        );
        let marks = [fence.mark, mark];
        stage.ledger.broken(P3, fields, &marks, explanation);
    }

    fn answered(&mut self, stage: &mut Stage, of: (Cluster, i64), given: Given) {
        if self.given.len() >= PRODUCERS_MAX && !self.given.contains_key(&of) {
            self.given.clear();
        }
        let all = self.given.entry(of).or_default();
        match all.iter().find(|other| other.epoch == given.epoch) {
            None => stage.ledger.held(P4),
            Some(other) if is_same_holder(other, &given) || is_relayed(other, &given) => {
                stage.ledger.unknown(P4);
            }
            Some(other) => {
                let name = |given: &Given| match &given.transactional_id {
                    Some(id) => format!("transactional id {id}"),
                    None => "no transactional id".to_owned(),
                };
                let explanation = format!(
                    "InitProducerId was answered with producer {} epoch {} twice: for {}, and for \
                     {}. Two producers now write as one.",
                    of.1,
                    given.epoch,
                    name(other),
                    name(&given)
                );
                let fields = vec![
                    ("api", json!(ApiKey::INIT_PRODUCER_ID.to_string())),
                    ("producer_id", json!(of.1)),
                    ("producer_epoch", json!(given.epoch)),
                ];
                stage.ledger.broken(P4, fields, &[other.mark, given.mark], explanation);
            }
        }
        if all.len() >= ANSWERS_MAX {
            all.remove(0);
        }
        all.push(given);
    }
}

/// Since EndTxn 5 its answer gives the epoch of the next transaction, which is another (KIP-890).
fn bumped(stage: &mut Stage, fact: &Fact, asked: &EpochAsked, next: (i64, i16)) {
    let EpochAsked { producer_id, producer_epoch, .. } = asked;
    if next != (*producer_id, *producer_epoch) {
        return stage.ledger.held(P4);
    }
    let fields = vec![
        ("api", json!(fact.api_key.to_string())),
        ("producer_id", json!(producer_id)),
        ("producer_epoch", json!(producer_epoch)),
    ];
    let explanation = format!(
        "EndTxn of producer {producer_id} epoch {producer_epoch} was answered with the same producer \
         id and epoch for the next transaction, which must have one of its own: late requests of \
         this transaction now count as the next one's."
    );
    stage.ledger.broken_by(P4, fields, &fact.seen, explanation);
}

/// A client that names the epoch it has may be given the same one again: a lost answer, or one
/// that needed no bump.
fn is_same_holder(one: &Given, other: &Given) -> bool {
    one.transactional_id == other.transactional_id
        && one.transactional_id.is_some()
        && (one.asked_back || other.asked_back)
}

/// One exchange seen on both sides of something that stands between client and broker: the inner
/// one happens within the outer.
fn is_relayed(one: &Given, other: &Given) -> bool {
    let within = |inner: &Given, outer: &Given| {
        outer.mark.request().time_ns <= inner.mark.request().time_ns
            && inner.mark.response().map(|at| at.time_ns)
                <= outer.mark.response().map(|at| at.time_ns)
    };
    let is_one_clock = one.mark.is_of_one_clock_with(&other.mark);
    let is_between = |one: &Given, other: &Given| one.mark.is_before(&other.mark);
    one.client_id == other.client_id
        && one.mark.connection() != other.mark.connection()
        && match is_one_clock {
            true => within(one, other) || within(other, one),
            false => !is_between(one, other) && !is_between(other, one),
        }
}
