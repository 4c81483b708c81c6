//! Begin, offsets, commit, abort.
//!
//! Under version 1 a partition is added by AddPartitionsToTxn before its first write, under
//! version 2 by that write (KIP-890). An EndTxn without an answer is sent again on a new
//! connection, as real clients do; under version 1 the older copy may then end a later
//! transaction (KAFKA-17754). A commit in doubt is never followed by an abort on our own account.

use std::collections::BTreeSet;

use kafka_wire::ids::{Offset, ProducerEpoch};
use kafka_wire::{ApiKey, ErrorCode};

use super::identity::Producer;
use super::report::TxnReport;
use crate::client::cluster::{CoordinatorOf, TopicPartition};
use crate::client::transaction::{Membership, Owner};
use crate::client::versions::TransactionVersion;
use crate::history::outcome::{self, End, Outcome};
use crate::pipeline::attempt::Attempt;
use crate::pipeline::caller::To;
use crate::pipeline::question::{self, AddOffsets, AddPartitions, CommitInTxn};
use crate::pipeline::trouble::Trouble;

pub(super) const V1: TransactionVersion = TransactionVersion::V1;
pub(super) const V2: TransactionVersion = TransactionVersion::V2;

/// An open transaction.
pub(super) struct Txn {
    producer_epoch: ProducerEpoch,
    /// Partitions added by request (version 1).
    partitions: BTreeSet<TopicPartition>,
    /// Groups added by request (version 1).
    groups: BTreeSet<String>,
    /// Whether the coordinator may know of it.
    pub(super) enlisted: bool,
    /// The ends that are over.
    ends: Vec<End>,
    /// The end that is under way, or was when its caller stopped waiting.
    ending: Option<bool>,
    /// Why nothing but an abort can follow.
    pub(super) must_abort: Option<Trouble>,
    /// Whether sequences are missing, so that version 1 needs a new epoch afterwards.
    pub(super) renew: bool,
}

impl Txn {
    /// What is known of it if nothing more happens.
    pub(super) fn outcome(&self) -> Outcome {
        let known = outcome::transaction(self.producer_epoch.0, &self.ends);
        // An end whose caller stopped waiting may have been decided either way.
        if self.ending == Some(true) && known == Outcome::Fail { Outcome::Info } else { known }
    }
}

impl Producer {
    /// Begins a transaction; nothing is sent.
    ///
    /// # Errors
    /// Where one is open, or the producer is closed or not transactional.
    pub fn begin(&mut self) -> Result<(), Trouble> {
        if let Some(trouble) = &self.closed {
            return Err(trouble.clone());
        }
        if self.txn.is_some() {
            return Err(Trouble::NotNow("a transaction is open"));
        }
        if self.config.transactional_id.is_none() {
            return Err(Trouble::NotNow("there is no transactional id"));
        }
        // The feature may have been raised while we run (KIP-890).
        self.version = match self.config.transaction_version {
            Some(version) => version,
            None => self.caller.cluster.transaction_version(),
        };
        self.txn = Some(Txn {
            producer_epoch: self.state.producer_epoch,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            enlisted: false,
            ends: Vec::new(),
            ending: None,
            must_abort: None,
            renew: false,
        });
        Ok(())
    }

    fn owner(&self) -> Owner {
        self.state.owner().expect("a transaction has a transactional id")
    }

    /// Adds partitions with something to send to the transaction (version 1).
    pub(super) async fn join_partitions(&mut self) {
        let Some(txn) = self.txn.as_mut().filter(|_| self.version == V1) else { return };
        if txn.must_abort.is_some() {
            return;
        }
        let waiting = self.active.iter().map(|at| &self.lanes[*at].partition);
        let new = waiting.filter(|tp| !txn.partitions.contains(*tp)).cloned();
        let new: Vec<TopicPartition> = new.collect();
        if new.is_empty() {
            return;
        }
        txn.enlisted = true;
        let owner = self.owner();
        let api_key = ApiKey::ADD_PARTITIONS_TO_TXN;
        let to = To::Coordinator(CoordinatorOf::Transaction, &owner.transactional_id);
        let add = AddPartitions { owner: &owner, partitions: &new };
        let answer = self.caller.ask(to, V1, &add, &mut self.others).await;
        let Some(txn) = &mut self.txn else { return };
        match answer {
            Ok(ErrorCode::NONE) => txn.partitions.extend(new),
            Ok(code) => self.cannot_go_on(Trouble::Answered { api_key, code }),
            Err(trouble) => self.cannot_go_on(trouble),
        }
    }

    /// Nothing but an abort can follow, or nothing at all.
    fn cannot_go_on(&mut self, trouble: Trouble) {
        match trouble.code() {
            // From a coordinator both say that there is a newer owner (since 2.7: 90 alone).
            Some(
                ErrorCode::INVALID_PRODUCER_EPOCH
                | ErrorCode::PRODUCER_FENCED
                | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                | ErrorCode::INVALID_TXN_STATE
                | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | ErrorCode::UNSUPPORTED_VERSION,
            ) => self.close(trouble),
            _ => {
                if let Some(txn) = &mut self.txn {
                    txn.must_abort.get_or_insert(trouble);
                }
                self.drop_unsent(&Trouble::NotNow("the transaction must be aborted"));
            }
        }
    }

    /// Commits offsets within the transaction (`sendOffsetsToTransaction`): AddOffsetsToTxn under
    /// version 1, then TxnOffsetCommit to the group's coordinator.
    pub async fn send_offsets(
        &mut self,
        membership: &Membership,
        offsets: &[(TopicPartition, Offset)],
    ) -> TxnReport {
        let at = self.others.len();
        let error = match self.may_go_on() {
            Ok(()) => self.try_offsets(membership, offsets).await.err(),
            Err(trouble) => Some(trouble),
        };
        if let Some(trouble) = &error
            && !matches!(trouble, Trouble::NotNow(_))
        {
            self.cannot_go_on(trouble.clone());
        }
        self.txn_report(at, error)
    }

    fn may_go_on(&self) -> Result<(), Trouble> {
        if let Some(trouble) = &self.closed {
            return Err(trouble.clone());
        }
        let txn = self.txn.as_ref().ok_or(Trouble::NotNow("no transaction is open"))?;
        match &txn.must_abort {
            Some(_) => Err(Trouble::NotNow("the transaction must be aborted")),
            None => Ok(()),
        }
    }

    async fn try_offsets(
        &mut self,
        membership: &Membership,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), Trouble> {
        let owner = self.owner();
        let group_id = membership.group_id.as_str();
        let known = self.txn.as_ref().is_some_and(|txn| txn.groups.contains(group_id));
        if let Some(txn) = &mut self.txn {
            txn.enlisted = true;
        }
        if self.version == V1 && !known {
            let api_key = ApiKey::ADD_OFFSETS_TO_TXN;
            let to = To::Coordinator(CoordinatorOf::Transaction, &owner.transactional_id);
            let add = AddOffsets { owner: &owner, group_id };
            let code = self.caller.ask(to, V1, &add, &mut self.others).await?;
            code.ok().map_err(|code| Trouble::Answered { api_key, code })?;
            if let Some(txn) = &mut self.txn {
                txn.groups.insert(group_id.to_owned());
            }
        }
        let api_key = ApiKey::TXN_OFFSET_COMMIT;
        let to = To::Coordinator(CoordinatorOf::Group, group_id);
        let commit = CommitInTxn { owner: &owner, membership, offsets };
        let code = self.caller.ask(to, self.version, &commit, &mut self.others).await?;
        code.ok().map_err(|code| Trouble::Answered { api_key, code })
    }

    /// Settles all sends and commits. Where a send was not acknowledged nothing is committed: an
    /// abort must follow.
    pub async fn commit(&mut self) -> TxnReport {
        let at = self.others.len();
        if let Err(trouble) = self.may_go_on() {
            return self.txn_report(at, Some(trouble));
        }
        self.settle().await;
        if let Err(trouble) = self.may_go_on() {
            let error = self.closed.clone().or(self.must_abort()).unwrap_or(trouble);
            return self.txn_report(at, Some(error));
        }
        self.end(true, at).await
    }

    /// Gives up what is queued, waits for what is in flight, and aborts.
    pub async fn abort(&mut self) -> TxnReport {
        let at = self.others.len();
        let Some(txn) = &mut self.txn else {
            let trouble = self.closed.clone().unwrap_or(Trouble::NotNow("no transaction is open"));
            return self.txn_report(at, Some(trouble));
        };
        let why = Trouble::NotNow("the transaction is aborted");
        if txn.must_abort.is_none() {
            txn.must_abort = Some(why.clone());
        }
        if self.book.unsettled() > 0 {
            self.txn.as_mut().expect("it is open").renew = true;
        }
        self.drop_unsent(&why);
        self.settle().await;
        if let Some(trouble) = self.closed.clone() {
            return self.txn_report(at, Some(trouble));
        }
        self.end(false, at).await
    }

    fn must_abort(&self) -> Option<Trouble> {
        self.txn.as_ref().and_then(|txn| txn.must_abort.clone())
    }

    /// EndTxn, until it is answered with something that stands.
    async fn end(&mut self, commit: bool, at: usize) -> TxnReport {
        let enlisted = self.txn.as_mut().is_some_and(|txn| {
            txn.ending = txn.enlisted.then_some(commit);
            txn.enlisted
        });
        if !enlisted {
            // Nobody knows of it: as in the Java client, nothing is sent.
            let outcome = if commit { Outcome::Ok } else { Outcome::Fail };
            if self.txn.take().is_some_and(|txn| txn.renew) {
                // Sequences were taken and never left. Version 2 begins each transaction at 0.
                match self.version {
                    TransactionVersion::V2 => self.state.next_sequence.clear(),
                    TransactionVersion::V1 => self.txn_ended(None, true),
                }
                self.renew_epoch().await;
            }
            return TxnReport { outcome, ..self.txn_report(at, None) };
        }
        let owner = self.owner();
        let api_key = ApiKey::END_TXN;
        let begun = self.others.len();
        let to = To::Coordinator(CoordinatorOf::Transaction, &owner.transactional_id);
        let end = question::End { owner: &owner, commit };
        let answer = self.caller.ask(to, self.version, &end, &mut self.others).await;
        self.note_ends(commit, begun);
        let error = match answer {
            Ok(ended) if ended.error.is_none() => {
                let outcome = self.txn.take().map_or(Outcome::Info, |txn| {
                    let renew = txn.renew;
                    let outcome = txn.outcome();
                    self.txn_ended(ended.next, renew);
                    outcome
                });
                self.renew_epoch().await;
                let report = self.txn_report(at, None);
                return TxnReport { outcome, ..report };
            }
            Ok(ended) => Trouble::Answered { api_key, code: ended.error },
            Err(trouble) => trouble,
        };
        match error.code() {
            Some(ErrorCode::TRANSACTION_ABORTABLE) if commit => self.cannot_go_on(error.clone()),
            // Everything else leaves nothing to do for this producer: fenced, refused, or a
            // decision that nobody knows.
            _ => self.close(error.clone()),
        }
        self.txn_report(at, Some(error))
    }

    fn note_ends(&mut self, commit: bool, begun: usize) {
        let Some(txn) = &mut self.txn else { return };
        let attempts = self.others[begun..].iter().filter(|a| a.api_key == ApiKey::END_TXN);
        txn.ends.extend(attempts.map(|attempt: &Attempt| End {
            commit,
            producer_epoch: txn.producer_epoch.0,
            fate: attempt.came.fate(),
            api_version: attempt.api_version,
        }));
        txn.ending = None;
    }

    fn txn_ended(
        &mut self,
        next: Option<(kafka_wire::ids::ProducerId, ProducerEpoch)>,
        renew: bool,
    ) {
        match next {
            // Version 2: the epoch of the next transaction, sequences from 0 (KIP-890).
            Some((producer_id, producer_epoch)) => {
                self.become_next(producer_id, producer_epoch);
            }
            None if renew => {
                self.renew = Some("sequences are missing after an abort (KIP-360)".to_owned());
            }
            None => {}
        }
    }

    /// Version 1: asks for the next epoch of the same producer id where sequences are missing.
    async fn renew_epoch(&mut self) {
        let Some(why) = self.renew.take() else { return };
        let before = (self.state.producer_id, self.state.producer_epoch);
        match self.init(Some(before)).await {
            Ok((producer_id, producer_epoch)) => {
                self.become_next(producer_id, producer_epoch);
                self.note_identity(before, &why);
            }
            Err(trouble) => self.close(trouble),
        }
    }

    fn txn_report(&mut self, at: usize, error: Option<Trouble>) -> TxnReport {
        TxnReport {
            outcome: self.txn.as_ref().map_or(Outcome::Fail, Txn::outcome),
            error,
            attempts: self.others.split_off(at.min(self.others.len())),
            must_abort: self.closed.is_none() && self.must_abort().is_some(),
            must_close: self.closed.is_some(),
        }
    }
}
