//! Producer id and epoch: opened, and replaced where sequences were lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kafka_wire::ApiKey;
use kafka_wire::batch::Scratch;
use kafka_wire::ids::{NodeId, ProducerEpoch, ProducerId};
use rustc_hash::FxHashMap;

use super::config::ProducerConfig;
use super::flow::Flight;
use super::lane::Lane;
use super::report::{Book, Note};
use super::transaction::Txn;
use crate::client::cluster::{CoordinatorOf, TopicPartition};
use crate::client::producer::ProducerState;
use crate::client::versions::TransactionVersion;
use crate::history::outcome::Outcome;
use crate::pipeline::attempt::Attempt;
use crate::pipeline::caller::{Caller, To};
use crate::pipeline::cluster::Cluster;
use crate::pipeline::links::Links;
use crate::pipeline::question::Init;
use crate::pipeline::trouble::{OpenFailed, Trouble};
use crate::world::Clock;

/// A producer. Dropping it closes its connections: nothing more is sent.
pub struct Producer {
    pub(super) config: ProducerConfig,
    pub(super) clock: Clock,
    /// To coordinators.
    pub(super) caller: Caller,
    /// To leaders.
    pub(super) links: Links,
    pub(super) state: ProducerState,
    pub(super) version: TransactionVersion,
    pub(super) book: Book,
    pub(super) lanes: Vec<Lane>,
    pub(super) lane_of: FxHashMap<TopicPartition, usize>,
    /// Lanes with something in them.
    pub(super) active: BTreeSet<usize>,
    pub(super) flights: BTreeMap<NodeId, VecDeque<Flight>>,
    pub(super) next_number: u64,
    /// Topics whose leaders must be asked for again.
    pub(super) stale: BTreeSet<std::sync::Arc<str>>,
    pub(super) txn: Option<Txn>,
    /// Why a new producer id is needed before anything else is sent.
    pub(super) renew: Option<String>,
    pub(super) closed: Option<Trouble>,
    pub(super) notes: Vec<Note>,
    /// Requests that are in no report yet.
    pub(super) others: Vec<Attempt>,
    pub(super) scratch: Scratch,
}

impl Producer {
    /// Opens one: InitProducerId where it is idempotent or transactional, with the retries the
    /// policy allows.
    ///
    /// # Errors
    /// Where no producer id was given.
    pub async fn open(cluster: &Cluster, config: ProducerConfig) -> Result<Self, OpenFailed> {
        let client_id = config.client_id.as_deref();
        let mut producer = Self {
            clock: cluster.clock().clone(),
            caller: Caller::new(cluster, config.retry, client_id),
            links: Links::new(cluster, config.retry, client_id),
            state: ProducerState {
                transactional_id: config.transactional_id.clone(),
                ..ProducerState::plain()
            },
            version: config.transaction_version.unwrap_or_else(|| cluster.transaction_version()),
            book: Book::default(),
            lanes: Vec::new(),
            lane_of: FxHashMap::default(),
            active: BTreeSet::new(),
            flights: BTreeMap::new(),
            next_number: 0,
            stale: BTreeSet::new(),
            txn: None,
            renew: None,
            closed: None,
            notes: Vec::new(),
            others: Vec::new(),
            scratch: Scratch::new(),
            config,
        };
        if producer.config.idempotence || producer.config.transactional_id.is_some() {
            match producer.init(None).await {
                Ok((producer_id, producer_epoch)) => {
                    producer.state.become_next(producer_id, producer_epoch);
                }
                Err(trouble) => {
                    return Err(OpenFailed { trouble, attempts: producer.others });
                }
            }
        }
        Ok(producer)
    }

    /// InitProducerId: of the coordinator where there is a transactional id, else of anyone.
    pub(super) async fn init(
        &mut self,
        current: Option<(ProducerId, ProducerEpoch)>,
    ) -> Result<(ProducerId, ProducerEpoch), Trouble> {
        let id = self.config.transactional_id.as_deref();
        let to = id.map_or(To::Anyone, |id| To::Coordinator(CoordinatorOf::Transaction, id));
        let timeout_ms = self.config.transaction_timeout.as_millis().min(i32::MAX as u128) as i32;
        let init = Init { transactional_id: id, transaction_timeout_ms: timeout_ms, current };
        let api_key = ApiKey::INIT_PRODUCER_ID;
        let answer = self.caller.ask(to, self.version, &init, &mut self.others).await?;
        answer.map_err(|code| Trouble::Answered { api_key, code })
    }

    /// Goes on under a new producer id (not transactional). Nothing is in flight. What may have
    /// been written is given up, as it must not be sent under another sequence.
    pub(super) async fn renew_identity(&mut self, why: &str) {
        let before = (self.state.producer_id, self.state.producer_epoch);
        match self.init(None).await {
            Ok((producer_id, producer_epoch)) => {
                self.renew = None;
                self.become_next(producer_id, producer_epoch);
                self.note_identity(before, why);
                for at in self.active.clone() {
                    self.settle_doubtful(at);
                    self.lanes[at].resequence(&mut self.state);
                }
            }
            Err(trouble) => self.close(trouble),
        }
    }

    /// Goes on as another incarnation; leaders know nothing of another producer id.
    pub(super) fn become_next(&mut self, producer_id: ProducerId, producer_epoch: ProducerEpoch) {
        if producer_id != self.state.producer_id {
            self.lanes.iter_mut().for_each(|lane| lane.known = false);
        }
        self.state.become_next(producer_id, producer_epoch);
    }

    fn settle_doubtful(&mut self, at: usize) {
        let Self { lanes, book, .. } = self;
        lanes[at].batches.retain(|batch| {
            let in_doubt = book.in_doubt(&batch.sends);
            if in_doubt {
                let why = Trouble::NotNow("it may have been written under the old producer id");
                book.settle(&batch.sends, None, Some(&why));
            }
            !in_doubt
        });
    }

    pub(super) fn note_identity(&mut self, before: (ProducerId, ProducerEpoch), why: &str) {
        let now = (self.state.producer_id, self.state.producer_epoch);
        self.note(format!(
            "producer id {} epoch {} is now {} epoch {}: {why}",
            before.0, before.1, now.0, now.1
        ));
    }

    pub(super) fn note(&mut self, what: String) {
        self.notes.push(Note { time_ns: self.clock.now_ns(), what });
    }

    /// Nothing more is sent; what has not left is given up.
    pub(super) fn close(&mut self, trouble: Trouble) {
        if self.closed.is_none() {
            self.note(format!("closed: {trouble}"));
            self.closed = Some(trouble.clone());
        }
        self.drop_unsent(&trouble);
    }

    /// Its producer id, producer epoch and next sequences.
    #[must_use]
    pub fn state(&self) -> &ProducerState {
        &self.state
    }

    /// The same, for whoever wants to break it.
    pub fn state_mut(&mut self) -> &mut ProducerState {
        &mut self.state
    }

    /// How it conducts transactions at the moment.
    #[must_use]
    pub fn transaction_version(&self) -> TransactionVersion {
        self.version
    }

    /// What it did unseen, since last asked: producer ids and epochs replaced, and why.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Requests that are in no report (metadata, connections, InitProducerId), and those of calls
    /// that were dropped before they returned.
    pub fn take_attempts(&mut self) -> Vec<Attempt> {
        std::mem::take(&mut self.others)
    }

    /// Why it can do nothing any more; none means it can.
    #[must_use]
    pub fn closed(&self) -> Option<&Trouble> {
        self.closed.as_ref()
    }

    /// What is known of the open transaction if the process stops now.
    #[must_use]
    pub fn transaction_outcome(&self) -> Option<Outcome> {
        self.txn.as_ref().map(Txn::outcome)
    }
}
