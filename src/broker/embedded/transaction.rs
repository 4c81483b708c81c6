//! The transaction coordinator: each transactional id's state, and what each request makes of it.
//!
//! Both versions of KIP-890 live here. *Bumping* requests (EndTxn 5, Produce 12, TxnOffsetCommit
//! 5) follow version 2: every end of a transaction raises the epoch. The others follow version 1.
//! Which one it is goes by the request, as in Kafka; the cluster's own `transaction.version`
//! matters where the broker itself ends a transaction.
//!
//! Never: writes a marker or touches a log; what is to be written is handed out as [`Ending`]s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kafka_wire::ErrorCode;
use tokio::sync::Notify;

use super::cluster::PartitionKey;

/// The last epoch a client may ever be given: 32767 is kept for the last marker.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// Where a transactional id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TxnState {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl TxnState {
    /// Kafka's name, as DescribeTransactions and ListTransactions have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// Every name a state filter may have, those included that are never seen here.
    pub(super) const NAMES: [&'static str; 8] = [
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "Dead",
        "PrepareEpochFence",
    ];

    /// The state of a name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Empty,
            Self::Ongoing,
            Self::PrepareCommit,
            Self::PrepareAbort,
            Self::CompleteCommit,
            Self::CompleteAbort,
        ];
        all.into_iter().find(|state| state.name() == name)
    }

    fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// One transactional id.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub(super) producer_id: i64,
    /// The producer id before the last change of it, −1 if it never changed.
    pub(super) previous_producer_id: i64,
    /// The producer id that follows when the markers are written, −1 if none.
    pub(super) next_producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) last_producer_epoch: i16,
    pub(super) timeout_ms: i32,
    pub(super) state: TxnState,
    pub(super) partitions: BTreeSet<PartitionKey>,
    /// −1 outside of a transaction.
    pub(super) start_ms: i64,
    pub(super) update_ms: i64,
    /// The client of the last transaction let the broker enlist and bump (version 2).
    pub(super) bumping: bool,
    /// A bug has decided it; what its owner decides is accepted without effect.
    decided_wrongly: bool,
    /// A bug has forgotten it: nothing ends it.
    hangs: bool,
    waiting: Vec<Arc<Notify>>,
}

/// Who asks for partitions to be let in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Enlist<'a> {
    pub(super) transactional_id: &'a str,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
}

/// A decided transaction whose markers are to be written.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) commit: bool,
    pub(super) partitions: BTreeSet<PartitionKey>,
}

/// The producer id and epoch a client goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
}

/// Every transactional id of the cluster.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    pub(super) by_id: BTreeMap<String, Transaction>,
    next_producer_id: i64,
    /// Decided, markers not yet written, oldest first.
    decided: VecDeque<String>,
    /// Whether `transaction.version` is 2.
    pub(super) two: bool,
    /// Whether changes are noted for a journal.
    pub(super) touch: bool,
    /// What has changed since the journal was last written.
    pub(super) touched: Vec<String>,
    producer_ids_kept: i64,
}

impl Transactions {
    /// A producer id never given before.
    pub(super) fn fresh_producer_id(&mut self) -> i64 {
        let producer_id = self.next_producer_id;
        self.next_producer_id += 1;
        producer_id
    }

    /// Notes a change for the journal.
    fn touch(&mut self, id: &str) {
        if self.touch {
            self.touched.push(id.to_owned());
        }
    }

    /// The next producer id, if some were given since this was last asked.
    pub(super) fn producer_ids_touched(&mut self) -> Option<i64> {
        let next = self.next_producer_id;
        (std::mem::replace(&mut self.producer_ids_kept, next) != next).then_some(next)
    }

    /// After a restart: what was decided still wants its markers.
    pub(super) fn resume(&mut self) {
        let decided = self.by_id.iter().filter(|(_, txn)| txn.state.is_prepared());
        self.decided = decided.map(|(id, _)| id.clone()).collect();
    }

    /// Makes sure no producer id up to this one is ever given again.
    pub(super) fn producer_id_seen(&mut self, producer_id: i64) {
        self.next_producer_id = self.next_producer_id.max(producer_id.saturating_add(1));
    }

    /// InitProducerId with a transactional id; `own` is what the client says it is (KIP-360).
    pub(super) fn init(
        &mut self,
        id: &str,
        timeout_ms: i32,
        own: Option<Identity>,
        now_ms: i64,
    ) -> Result<Identity, ErrorCode> {
        if !self.by_id.contains_key(id) {
            let producer_id = self.fresh_producer_id();
            self.by_id.insert(id.to_owned(), Transaction::new(producer_id, timeout_ms, now_ms));
        }
        self.touch(id);
        let txn = self.by_id.get_mut(id).expect("it was just put there");
        if own.is_some_and(|own| !txn.may_continue(own)) {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match txn.state {
            TxnState::PrepareCommit | TxnState::PrepareAbort => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            TxnState::Ongoing => {
                self.fence(id, now_ms);
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            _ => self.restart(id, timeout_ms, own, now_ms),
        }
    }

    /// Gives a transactional id at rest its next epoch, or its next producer id.
    fn restart(
        &mut self,
        id: &str,
        timeout_ms: i32,
        own: Option<Identity>,
        now_ms: i64,
    ) -> Result<Identity, ErrorCode> {
        let txn = self.by_id.get_mut(id).expect("the caller looked it up");
        let own_epoch = own.map(|own| own.producer_epoch);
        let exhausted = txn.producer_epoch >= EPOCH_MAX
            && own_epoch.is_none_or(|own| own == txn.producer_epoch);
        if exhausted {
            let producer_id = self.next_producer_id;
            self.next_producer_id += 1;
            txn.previous_producer_id = txn.producer_id;
            txn.producer_id = producer_id;
            txn.last_producer_epoch = if own.is_some() { txn.producer_epoch } else { -1 };
            txn.producer_epoch = 0;
        } else {
            let bumped = txn.producer_epoch + 1;
            match own_epoch {
                None => (txn.producer_epoch, txn.last_producer_epoch) = (bumped, -1),
                Some(own) if txn.producer_epoch == -1 || own == txn.producer_epoch => {
                    txn.last_producer_epoch = txn.producer_epoch;
                    txn.producer_epoch = bumped;
                }
                // The answer to the same question was lost.
                Some(own) if own == txn.last_producer_epoch => {}
                Some(_) => return Err(ErrorCode::PRODUCER_FENCED),
            }
        }
        txn.state = TxnState::Empty;
        txn.timeout_ms = timeout_ms;
        txn.partitions.clear();
        (txn.start_ms, txn.update_ms) = (-1, now_ms);
        Ok(txn.identity())
    }

    /// AddPartitionsToTxn, and what Produce 12 and TxnOffsetCommit 5 do on the way.
    pub(super) fn enlist(
        &mut self,
        enlist: &Enlist<'_>,
        partitions: &[PartitionKey],
        bumping: bool,
        now_ms: i64,
    ) -> Result<(), ErrorCode> {
        self.touch(enlist.transactional_id);
        let txn = self
            .by_id
            .get_mut(enlist.transactional_id)
            .ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        txn.check_owner(enlist)?;
        if txn.state.is_prepared() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        if txn.state != TxnState::Ongoing {
            txn.state = TxnState::Ongoing;
            txn.start_ms = now_ms;
            txn.partitions.clear();
        } else if partitions.iter().all(|key| txn.partitions.contains(key)) {
            return Ok(());
        }
        txn.partitions.extend(partitions.iter().copied());
        txn.update_ms = now_ms;
        txn.bumping = bumping;
        Ok(())
    }

    /// Whether each partition belongs to the producer's transaction.
    pub(super) fn verify(
        &self,
        enlist: &Enlist<'_>,
        partitions: &[PartitionKey],
    ) -> Vec<ErrorCode> {
        let all = |error| vec![error; partitions.len()];
        let Some(txn) = self.by_id.get(enlist.transactional_id) else {
            return all(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        };
        if let Err(error) = txn.check_owner(enlist) {
            return all(error);
        }
        if txn.state.is_prepared() {
            return all(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let verdict = |key| match txn.partitions.contains(key) {
            true if txn.state == TxnState::Ongoing => ErrorCode::NONE,
            _ => ErrorCode::TRANSACTION_ABORTABLE,
        };
        partitions.iter().map(verdict).collect()
    }

    /// EndTxn. Version 2 answers with the identity of the next transaction.
    pub(super) fn end(
        &mut self,
        enlist: &Enlist<'_>,
        commit: bool,
        bumping: bool,
        now_ms: i64,
    ) -> Result<Identity, ErrorCode> {
        let txn = self
            .by_id
            .get(enlist.transactional_id)
            .ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        let verdict =
            if bumping { txn.end_two(enlist, commit) } else { txn.end_one(enlist, commit) };
        match verdict? {
            Verdict::AlreadyDone => Ok(txn.identity()),
            Verdict::Prepare => Ok(self.prepare(enlist.transactional_id, commit, bumping, now_ms)),
        }
    }

    /// Decides a transaction; its markers are due.
    fn prepare(&mut self, id: &str, commit: bool, bumping: bool, now_ms: i64) -> Identity {
        self.touch(id);
        let exhausted = self.by_id.get(id).is_some_and(|txn| txn.producer_epoch >= EPOCH_MAX);
        let next = if bumping && exhausted { self.fresh_producer_id() } else { -1 };
        let txn = self.by_id.get_mut(id).expect("the caller looked it up");
        txn.state = if commit { TxnState::PrepareCommit } else { TxnState::PrepareAbort };
        txn.update_ms = now_ms;
        txn.bumping = bumping;
        if txn.start_ms < 0 {
            txn.start_ms = now_ms;
        }
        txn.next_producer_id = next;
        txn.decided_wrongly = false;
        if bumping {
            txn.last_producer_epoch = txn.producer_epoch;
            txn.producer_epoch += 1;
        }
        self.decided.push_back(id.to_owned());
        if next == -1 { txn.identity() } else { Identity { producer_id: next, producer_epoch: 0 } }
    }

    /// A bug: ends the open transaction as a withheld EndTxn of the one before says, without a
    /// bump. Returns whether there was one.
    pub(super) fn decide_wrongly(
        &mut self,
        id: &str,
        producer_epoch: i16,
        commit: bool,
        now_ms: i64,
    ) -> bool {
        let Some(txn) = self.by_id.get_mut(id) else { return false };
        if txn.state != TxnState::Ongoing || txn.producer_epoch == producer_epoch {
            return false;
        }
        txn.state = if commit { TxnState::PrepareCommit } else { TxnState::PrepareAbort };
        txn.update_ms = now_ms;
        txn.decided_wrongly = true;
        self.decided.push_back(id.to_owned());
        true
    }

    /// A bug: forgets an open transaction of that epoch. Returns whether there is one, now or since
    /// before.
    pub(super) fn hang(&mut self, id: &str, producer_epoch: i16, now: bool) -> bool {
        let Some(txn) = self.by_id.get_mut(id) else { return false };
        let is_open = txn.state == TxnState::Ongoing && txn.producer_epoch == producer_epoch;
        txn.hangs |= now && is_open;
        txn.hangs
    }

    /// Ends a transaction from the broker's side: its epoch is raised, it is aborted.
    fn fence(&mut self, id: &str, now_ms: i64) {
        self.touch(id);
        let two = self.two;
        let Some(txn) = self.by_id.get_mut(id) else { return };
        let fenced = txn.producer_epoch;
        txn.producer_epoch = fenced.saturating_add(1);
        txn.last_producer_epoch = if two { fenced } else { -1 };
        txn.state = TxnState::PrepareAbort;
        txn.next_producer_id = -1;
        txn.update_ms = now_ms;
        txn.bumping = two;
        self.decided.push_back(id.to_owned());
    }

    /// Aborts what is open for longer than its timeout. Returns whether markers are due.
    pub(super) fn expire(&mut self, now_ms: i64) -> bool {
        let late = |txn: &Transaction| {
            txn.state == TxnState::Ongoing
                && !txn.hangs
                && txn.start_ms.saturating_add(i64::from(txn.timeout_ms)) < now_ms
        };
        let expired: Vec<String> =
            self.by_id.iter().filter(|(_, txn)| late(txn)).map(|(id, _)| id.clone()).collect();
        for id in &expired {
            self.fence(id, now_ms);
        }
        !expired.is_empty()
    }

    /// Whether markers are due.
    pub(super) fn has_decided(&self) -> bool {
        !self.decided.is_empty()
    }

    /// The next transaction whose markers are to be written.
    pub(super) fn next_decided(&mut self) -> Option<(String, Ending)> {
        let id = self.decided.pop_front()?;
        let txn = self.by_id.get(&id)?;
        let ending = Ending {
            producer_id: txn.producer_id,
            producer_epoch: txn.producer_epoch,
            commit: txn.state == TxnState::PrepareCommit,
            partitions: txn.partitions.clone(),
        };
        Some((id, ending))
    }

    /// Notes that all markers are written.
    pub(super) fn complete(&mut self, id: &str, now_ms: i64) {
        self.touch(id);
        let Some(txn) = self.by_id.get_mut(id) else { return };
        txn.state = match txn.state {
            TxnState::PrepareCommit => TxnState::CompleteCommit,
            TxnState::PrepareAbort => TxnState::CompleteAbort,
            other => other,
        };
        if txn.next_producer_id != -1 {
            txn.previous_producer_id = txn.producer_id;
            txn.producer_id = txn.next_producer_id;
            txn.next_producer_id = -1;
            txn.producer_epoch = 0;
        }
        txn.partitions.clear();
        (txn.start_ms, txn.update_ms) = (-1, now_ms);
        for waiting in txn.waiting.drain(..) {
            waiting.notify_one();
        }
    }

    /// Asks to be woken when the markers are written. Returns whether there is anything to wait for.
    pub(super) fn wait(&mut self, id: &str, signal: &Arc<Notify>) -> bool {
        let Some(txn) = self.by_id.get_mut(id) else { return false };
        txn.waiting.retain(|waiting| Arc::strong_count(waiting) > 1);
        txn.waiting.push(signal.clone());
        true
    }

    /// A deleted topic takes part in no transaction any more.
    pub(super) fn forget_topic(&mut self, slot: usize) {
        for txn in self.by_id.values_mut() {
            txn.partitions.retain(|key| key.topic != slot);
        }
    }
}

/// What EndTxn leads to where it is no error.
enum Verdict {
    Prepare,
    /// A repetition of what was answered before.
    AlreadyDone,
}

impl Transaction {
    /// One that was just made, or is being restored.
    pub(super) fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: -1,
            last_producer_epoch: -1,
            timeout_ms,
            state: TxnState::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            update_ms: now_ms,
            bumping: false,
            decided_wrongly: false,
            hangs: false,
            waiting: Vec::new(),
        }
    }

    fn identity(&self) -> Identity {
        Identity { producer_id: self.producer_id, producer_epoch: self.producer_epoch }
    }

    /// Whether a producer that says who it is may go on under this id; its epoch is looked at
    /// later (KIP-360).
    fn may_continue(&self, own: Identity) -> bool {
        self.producer_epoch == -1
            || own.producer_id == self.producer_id
            || (own.producer_id == self.previous_producer_id && own.producer_epoch >= EPOCH_MAX)
    }

    fn check_owner(&self, enlist: &Enlist<'_>) -> Result<(), ErrorCode> {
        if self.producer_id != enlist.producer_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if self.producer_epoch != enlist.producer_epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        Ok(())
    }

    /// EndTxn up to version 4: the epoch says nothing about which transaction is meant, so a late
    /// one decides the next (that is version 1's own flaw).
    fn end_one(&self, enlist: &Enlist<'_>, commit: bool) -> Result<Verdict, ErrorCode> {
        self.check_owner(enlist)?;
        match (self.state, commit) {
            (TxnState::Ongoing, _) => Ok(Verdict::Prepare),
            (TxnState::CompleteCommit, true) | (TxnState::CompleteAbort, false) => {
                Ok(Verdict::AlreadyDone)
            }
            (TxnState::PrepareCommit, true) | (TxnState::PrepareAbort, false) => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// EndTxn from version 5 on: the epoch of the last transaction marks a repetition.
    fn end_two(&self, enlist: &Enlist<'_>, commit: bool) -> Result<Verdict, ErrorCode> {
        let epoch = enlist.producer_epoch;
        let over_the_end = self.previous_producer_id == enlist.producer_id
            && epoch == EPOCH_MAX
            && self.producer_epoch == 0;
        let bumped = self.bumping && i32::from(self.producer_epoch) == i32::from(epoch) + 1;
        if self.producer_id != enlist.producer_id && !over_the_end {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        let valid = match self.state {
            TxnState::Ongoing | TxnState::Empty => epoch == self.producer_epoch,
            TxnState::PrepareCommit | TxnState::PrepareAbort => bumped,
            TxnState::CompleteCommit | TxnState::CompleteAbort => {
                bumped || over_the_end || epoch == self.producer_epoch
            }
        };
        if !valid {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        let again = bumped || over_the_end;
        if self.decided_wrongly && !again && !self.state.is_prepared() {
            return Ok(Verdict::Prepare);
        }
        match (self.state, commit) {
            (TxnState::Ongoing, _) | (TxnState::Empty, false) => Ok(Verdict::Prepare),
            (TxnState::CompleteCommit, true) | (TxnState::CompleteAbort, false) if again => {
                Ok(Verdict::AlreadyDone)
            }
            // An abort without a transaction is fine, and bumps.
            (TxnState::CompleteCommit | TxnState::CompleteAbort, false) if !again => {
                Ok(Verdict::Prepare)
            }
            (TxnState::PrepareCommit, true) | (TxnState::PrepareAbort, false) => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }
}
