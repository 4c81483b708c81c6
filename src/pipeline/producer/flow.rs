//! Queued records to the wire, answers to reports.
//!
//! Between deciding to send a batch and having sent it nothing is awaited, so a caller may drop
//! any of these futures and go on later: what left is known to have left.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kafka_wire::ids::NodeId;
use kafka_wire::{ApiKey, ErrorCode};

use super::config::Record;
use super::identity::Producer;
use super::lane::{Lane, Queued};
use super::reaction::{Reaction, reaction};
use super::report::{SendId, SendReport};
use crate::client::cluster::TopicPartition;
use crate::client::connection::Pending;
use crate::client::producer::{Acks, PartitionWrite, Written, produce_frame, written};
use crate::client::{Fate, Response};
use crate::history::outcome::Outcome;
use crate::pipeline::attempt::{Attempt, Came};
use crate::pipeline::policy::nanos;
use crate::pipeline::trouble::Trouble;

/// Sends that may wait for their outcome at once.
const UNSETTLED_MAX: usize = 1 << 20;

/// A Produce in flight.
pub(super) struct Flight {
    pending: Pending,
    attempt: Attempt,
    /// Which batches it carries: lane and number.
    parts: Vec<(usize, u64)>,
}

impl Producer {
    /// Queues a record. Nothing is sent before [`Producer::dispatch`] or [`Producer::settle`].
    pub fn send(&mut self, partition: TopicPartition, record: Record) -> SendId {
        let id = self.book.open();
        if let Err(trouble) = self.takes_sends() {
            self.book.settle(&[id], None, Some(&trouble));
            return id;
        }
        let at = match self.lane_of.get(&partition) {
            Some(at) => *at,
            None => {
                let at = self.lanes.len();
                self.lane_of.insert(partition.clone(), at);
                self.lanes.push(Lane::new(partition));
                at
            }
        };
        let delivery_timeout = nanos(self.config.retry.delivery_timeout);
        let deadline_ns = self.clock.now_ns().saturating_add(delivery_timeout);
        self.lanes[at].queued.push_back(Queued { id, record, deadline_ns });
        self.active.insert(at);
        id
    }

    fn takes_sends(&self) -> Result<(), Trouble> {
        if let Some(trouble) = &self.closed {
            return Err(trouble.clone());
        }
        match (&self.config.transactional_id, &self.txn) {
            (Some(_), None) => Err(Trouble::NotNow("no transaction is open")),
            (_, Some(txn)) if txn.must_abort.is_some() => {
                Err(Trouble::NotNow("the transaction must be aborted"))
            }
            _ if self.book.unsettled() > UNSETTLED_MAX => {
                Err(Trouble::NotNow("too many sends wait for their outcome"))
            }
            _ => Ok(()),
        }
    }

    /// Puts what is queued on the wire, one batch per partition and request, and does not wait for
    /// answers. What `max_in_flight` does not allow goes with a later call.
    ///
    /// It may wait for what must come first: a connection, a leader, and under transactions of
    /// version 1 AddPartitionsToTxn for partitions new to the transaction.
    pub async fn dispatch(&mut self) {
        self.harvest();
        self.pump().await;
    }

    /// Waits until every send has its outcome.
    pub async fn settle(&mut self) {
        loop {
            self.harvest();
            self.expire();
            self.pump().await;
            if self.book.unsettled() == 0 {
                return;
            }
            self.wait().await;
        }
    }

    /// What is known of a send; absent once it was forgotten.
    #[must_use]
    pub fn find_report(&self, id: SendId) -> Option<&SendReport> {
        self.book.find(id)
    }

    /// What is known of a send.
    ///
    /// # Panics
    /// Where it was forgotten already.
    #[must_use]
    pub fn report(&self, id: SendId) -> &SendReport {
        self.book.find(id).expect("the send was not forgotten")
    }

    /// Forgets settled sends up to the first that is not; their reports cannot be asked for any
    /// more.
    pub fn forget_settled(&mut self) {
        self.book.forget_settled();
    }

    /// Whether anything is in flight.
    pub(super) fn flying(&self) -> bool {
        self.flights.values().any(|flights| !flights.is_empty())
    }

    /// Sends what may be sent now.
    pub(super) async fn pump(&mut self) {
        self.cut();
        if let Some(why) = self.renew.clone() {
            if self.flying() {
                return;
            }
            self.renew_identity(&why).await;
        }
        if !self.stale.is_empty() {
            let topics: Vec<Arc<str>> = std::mem::take(&mut self.stale).into_iter().collect();
            // Where nobody answers, batches wait and are tried again.
            drop(self.caller.cluster.refresh(&topics, &mut self.others).await);
        }
        self.join_partitions().await;
        loop {
            let plan = self.plan();
            if plan.is_empty() {
                return;
            }
            for (node, lanes) in plan {
                match self.links.to(node, &mut self.others).await {
                    Ok(_) => self.launch(node, &lanes),
                    Err(trouble) => self.not_sent(node, &lanes, &trouble),
                }
            }
        }
    }

    fn cut(&mut self) {
        let now_ms = self.clock.unix_ms();
        let Self { active, lanes, state, config, next_number, scratch, .. } = self;
        for at in active.iter() {
            lanes[*at].cut(state, config, now_ms, (&mut *next_number, scratch));
        }
    }

    /// Lanes whose next batch may leave now, by leader.
    fn plan(&mut self) -> BTreeMap<NodeId, Vec<usize>> {
        let mut plan: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        if self.active.is_empty() || self.renew.is_some() {
            return plan;
        }
        let now_ns = self.clock.now_ns();
        let metadata = self.caller.cluster.metadata();
        for at in &self.active {
            let lane = &mut self.lanes[*at];
            let Some(i) = lane.ready(now_ns) else { continue };
            match metadata.leader(&lane.partition) {
                Some(node) => {
                    let in_flight = self.flights.get(&node).map_or(0, VecDeque::len);
                    if in_flight < self.config.max_in_flight.max(1) {
                        plan.entry(node).or_default().push(*at);
                    }
                }
                None => {
                    self.stale.insert(lane.partition.topic.clone());
                    let wait = nanos(self.config.retry.backoff(1));
                    lane.batches[i].not_before_ns = now_ns.saturating_add(wait);
                }
            }
        }
        plan
    }

    /// One Produce with the next batch of each lane.
    fn launch(&mut self, node: NodeId, lanes: &[usize]) {
        let now_ns = self.clock.now_ns();
        let mut parts = Vec::with_capacity(lanes.len());
        let mut writes = Vec::with_capacity(lanes.len());
        for at in lanes {
            let lane = &mut self.lanes[*at];
            let Some(i) = lane.ready(now_ns) else { continue };
            let batch = &lane.batches[i];
            parts.push((*at, batch.number));
            let partition = lane.partition.clone();
            writes.push(PartitionWrite { partition, records: batch.records.clone() });
        }
        let acks = self.config.acks;
        let sent = self.links.opened(node).ok_or(Trouble::NotNow("the connection ended"));
        let sent = sent.and_then(|link| {
            let version = link.version(ApiKey::PRODUCE, self.version)?;
            Ok((link, version))
        });
        let (link, version) = match sent {
            Ok(found) => found,
            Err(trouble) => return self.not_sent(node, lanes, &trouble),
        };
        let timeout_ms = self.config.retry.request_timeout.as_millis().min(i32::MAX as u128) as i32;
        let id = self.config.transactional_id.as_deref();
        let sent = produce_frame(version, id, (acks, timeout_ms), &writes)
            .and_then(|frame| link.connection.try_send(frame));
        let attempt = Attempt::begun(ApiKey::PRODUCE, version, node, now_ns);
        let attempt = Attempt { acks: Some(acks), ..attempt };
        for (at, number) in &parts {
            self.attempt_begins(*at, *number, &attempt);
        }
        match sent {
            Ok(pending) => {
                if let Some(txn) = &mut self.txn {
                    txn.enlisted = true;
                }
                let flight = Flight { pending, attempt, parts };
                self.flights.entry(node).or_default().push_back(flight);
            }
            Err(fate) => {
                self.links.close(node);
                self.flight_failed(parts, attempt, &fate);
            }
        }
    }

    fn attempt_begins(&mut self, at: usize, number: u64, attempt: &Attempt) {
        let lane = &mut self.lanes[at];
        let i = lane.position(number).expect("a batch that leaves is in its lane");
        let batch = &mut lane.batches[i];
        batch.in_flight = true;
        batch.tries += 1;
        self.book.begin_attempt(&batch.sends, attempt);
    }

    /// The next batch of each lane could not leave.
    fn not_sent(&mut self, node: NodeId, lanes: &[usize], trouble: &Trouble) {
        let now_ns = self.clock.now_ns();
        let came = Came::NotSent(trouble.to_string().into());
        for at in lanes {
            let Some(i) = self.lanes[*at].ready(now_ns) else { continue };
            let number = self.lanes[*at].batches[i].number;
            let attempt = Attempt::begun(ApiKey::PRODUCE, -1, node, now_ns);
            let attempt = Attempt { acks: Some(self.config.acks), ..attempt };
            self.attempt_begins(*at, number, &attempt);
            self.ended(*at, number, Attempt { came: came.clone(), ..attempt }, None);
        }
    }

    /// Takes answers that are there, and requests that timed out.
    pub(super) fn harvest(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready((node, answer)) = self.poll_arrived(&mut cx) {
            self.arrived(node, answer);
        }
        let now_ns = self.clock.now_ns();
        let late = self.flights.iter().find_map(|(node, flights)| {
            let front = flights.front()?;
            (front.pending.deadline_ns() <= now_ns).then_some(*node)
        });
        if let Some(node) = late {
            self.arrived(node, Err(Fate::TimedOut));
        }
    }

    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<(NodeId, Result<Response, Fate>)> {
        for (node, flights) in &mut self.flights {
            let Some(front) = flights.front_mut() else { continue };
            if let Poll::Ready(answer) = front.pending.poll_answer(cx) {
                return Poll::Ready((*node, answer));
            }
        }
        Poll::Pending
    }

    /// Waits for an answer, or until there is something else to do.
    pub(super) async fn wait(&mut self) {
        let now_ns = self.clock.now_ns();
        let lanes = self.active.iter().filter_map(|at| self.lanes[*at].wakes_ns(now_ns));
        let answers = self.flights.values().filter_map(VecDeque::front);
        let answers = answers.map(|flight| flight.pending.deadline_ns());
        let backoff = now_ns.saturating_add(nanos(self.config.retry.backoff_min));
        let wake_ns = lanes.chain(answers).min().unwrap_or(backoff);
        let left = Duration::from_nanos(wake_ns.saturating_sub(now_ns).max(1));
        let arrived = std::future::poll_fn(|cx| self.poll_arrived(cx));
        // An answer is taken in the same breath as it is seen: nothing is lost if we are dropped.
        if let Ok((node, answer)) = tokio::time::timeout(left, arrived).await {
            self.arrived(node, answer);
        }
    }

    /// The oldest request to a broker ended.
    fn arrived(&mut self, node: NodeId, answer: Result<Response, Fate>) {
        let flights = self.flights.get_mut(&node);
        if let Some(flight) = flights.and_then(VecDeque::pop_front) {
            self.landed(node, flight, answer);
        }
    }

    fn landed(&mut self, node: NodeId, flight: Flight, answer: Result<Response, Fate>) {
        let Flight { mut attempt, parts, .. } = flight;
        let version = attempt.api_version;
        let answers = answer.and_then(|response| {
            attempt.sent_ns = response.sent_ns;
            if attempt.acks == Some(Acks::None) {
                attempt.came = Came::Unasked;
                return Ok(Vec::new());
            }
            attempt.received_ns = Some(response.received_ns);
            written(response, version)
        });
        match answers {
            Ok(answers) => self.flight_ended(&parts, &attempt, &answers),
            Err(fate) => self.lost(node, parts, attempt, &fate),
        }
    }

    fn flight_ended(&mut self, parts: &[(usize, u64)], attempt: &Attempt, answers: &[Written]) {
        for (at, number) in parts {
            let mut attempt = attempt.clone();
            let mut offset = None;
            if attempt.came == Came::Waiting {
                let partition = &self.lanes[*at].partition;
                match answers.iter().find(|answer| answer.partition == *partition) {
                    Some(answer) => {
                        attempt.came = Came::Answered(answer.error);
                        offset = answer.base_offset;
                    }
                    None => attempt.came = Came::Broken("the answer leaves it out".into()),
                }
            }
            self.ended(*at, *number, attempt, offset);
        }
    }

    /// A request and with it its connection are lost: so are the others in flight on it, unless
    /// their answers are here already.
    fn lost(&mut self, node: NodeId, parts: Vec<(usize, u64)>, attempt: Attempt, fate: &Fate) {
        self.links.close(node);
        let others = self.flights.remove(&node).unwrap_or_default();
        self.flight_failed(parts, attempt, fate);
        let mut cx = Context::from_waker(Waker::noop());
        for mut flight in others {
            let why = format!("closed after an earlier request: {fate}");
            let answer = match flight.pending.poll_answer(&mut cx) {
                Poll::Ready(answer) => answer,
                Poll::Pending => Err(Fate::Lost { why }),
            };
            self.landed(node, flight, answer);
        }
    }

    fn flight_failed(&mut self, parts: Vec<(usize, u64)>, attempt: Attempt, fate: &Fate) {
        let attempt = Attempt { came: Came::from(fate), ..attempt };
        for (at, number) in parts {
            self.ended(at, number, attempt.clone(), None);
        }
    }

    /// One attempt of one batch ended.
    fn ended(
        &mut self,
        at: usize,
        number: u64,
        attempt: Attempt,
        offset: Option<kafka_wire::ids::Offset>,
    ) {
        let lane = &mut self.lanes[at];
        let Some(i) = lane.position(number) else { return };
        let batch = &mut lane.batches[i];
        batch.in_flight = false;
        self.book.end_attempt(&batch.sends, &attempt);
        let reaction = match &attempt.came {
            Came::Answered(code) => reaction(*code),
            Came::Unasked => Reaction::Done,
            _ => Reaction::AgainElsewhere,
        };
        let trouble = trouble_of(&attempt);
        match reaction {
            Reaction::Done => {
                self.book.settle(&batch.sends, offset, Some(&trouble));
                lane.batches.remove(i);
                lane.known = true;
                self.tidy(at);
            }
            Reaction::Again => self.again(at, i, &attempt),
            Reaction::AgainElsewhere => {
                self.stale.insert(lane.partition.topic.clone());
                self.again(at, i, &attempt);
            }
            // An earlier batch is on its way again: this one follows it.
            Reaction::Gap if i > 0 => self.again(at, i, &attempt),
            Reaction::Gap => self.gap(at, i, &trouble),
            Reaction::StaleEpoch if self.txn.is_none() => {
                self.renew.get_or_insert_with(|| trouble.to_string());
                self.give_up(at, i, &trouble);
            }
            // Under version 2 only another owner can have raised the epoch.
            Reaction::StaleEpoch if self.version == super::transaction::V2 => {
                self.give_up(at, i, &trouble);
                self.close(trouble);
            }
            Reaction::StaleEpoch | Reaction::Refused => self.give_up(at, i, &trouble),
            Reaction::Fenced => {
                self.give_up(at, i, &trouble);
                self.close(trouble);
            }
        }
    }

    /// Tries a batch again later, where the policy and the state of the producer allow it.
    fn again(&mut self, at: usize, i: usize, attempt: &Attempt) {
        let now_ns = self.clock.now_ns();
        let batch = &mut self.lanes[at].batches[i];
        let policy = &self.config.retry;
        let wait = match attempt.came.code() {
            Some(ErrorCode::CONCURRENT_TRANSACTIONS) => policy.backoff_concurrent(batch.tries),
            _ => policy.backoff(batch.tries),
        };
        batch.not_before_ns = now_ns.saturating_add(nanos(wait));
        let ends = self.closed.is_some()
            || self.txn.as_ref().is_some_and(|txn| txn.must_abort.is_some())
            || batch.not_before_ns >= batch.deadline_ns
            || !policy.allows(batch.tries);
        if ends {
            self.give_up(at, i, &trouble_of(attempt));
        }
    }

    /// The broker lacks what came before the first batch of a lane. Everything before it was
    /// acknowledged or given up: either the broker lost it, or a batch given up left the gap.
    fn gap(&mut self, at: usize, i: usize, trouble: &Trouble) {
        let doubtful = self.book.in_doubt(&self.lanes[at].batches[i].sends);
        if doubtful
            || self.txn.is_some()
            || !self.config.retry.allows(self.lanes[at].batches[i].tries)
        {
            return self.give_up(at, i, trouble);
        }
        self.renew.get_or_insert_with(|| format!("{} {trouble}", self.lanes[at].partition));
    }

    /// Gives a batch up. Its sequences are missing from then on, where others follow it or where
    /// it may have been written.
    fn give_up(&mut self, at: usize, i: usize, trouble: &Trouble) {
        let lane = &mut self.lanes[at];
        let Some(batch) = lane.batches.remove(i) else { return };
        self.book.settle(&batch.sends, None, Some(trouble));
        let written = batch.sends.first().and_then(|id| self.book.find(*id));
        let definite = written.is_some_and(|report| report.outcome == Outcome::Fail);
        if let Some(txn) = &mut self.txn {
            txn.renew = true;
            if txn.must_abort.is_none() {
                txn.must_abort = Some(trouble.clone());
                self.drop_unsent(&Trouble::NotNow("another send of the transaction failed"));
            }
        } else if self.state.is_idempotent() && self.closed.is_none() {
            if definite && i == lane.batches.len() {
                self.state.next_sequence.insert(lane.partition.clone(), batch.base_sequence);
            } else {
                let why = format!("a batch for {} was given up: {trouble}", lane.partition);
                self.renew.get_or_insert(why);
            }
        }
        self.tidy(at);
    }

    /// Settles everything that is not in flight.
    pub(super) fn drop_unsent(&mut self, why: &Trouble) {
        for at in self.active.clone() {
            let lane = &mut self.lanes[at];
            for queued in lane.queued.drain(..) {
                self.book.settle(&[queued.id], None, Some(why));
            }
            let book = &mut self.book;
            lane.batches.retain(|batch| {
                if !batch.in_flight {
                    book.settle(&batch.sends, None, Some(why));
                }
                batch.in_flight
            });
            self.tidy(at);
        }
    }

    /// Gives up what has waited too long.
    pub(super) fn expire(&mut self) {
        let now_ns = self.clock.now_ns();
        for at in self.active.clone() {
            let late = |lane: &Lane| {
                lane.batches.iter().position(|b| !b.in_flight && b.deadline_ns <= now_ns)
            };
            while let Some(i) = late(&self.lanes[at]) {
                let lane = &self.lanes[at];
                let first = lane.batches[i].sends.first();
                let report = first.and_then(|id| self.book.find(*id));
                let last = report.and_then(|report| report.attempts.last());
                let none = || Trouble::NoLeader(lane.partition.to_string().into());
                let trouble = last.map_or_else(none, trouble_of);
                self.give_up(at, i, &trouble);
            }
        }
    }

    fn tidy(&mut self, at: usize) {
        if self.lanes[at].is_empty() {
            self.active.remove(&at);
        }
    }
}

fn trouble_of(attempt: &Attempt) -> Trouble {
    let api_key = attempt.api_key;
    match &attempt.came {
        Came::Answered(code) => Trouble::Answered { api_key, code: *code },
        came => Trouble::Unanswered { api_key, came: came.clone() },
    }
}
