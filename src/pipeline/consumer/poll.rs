//! Fetches out, answers in, records to the application.
//!
//! Answers are taken into the consumer as they come and given to the application when a poll
//! returns: a poll that is dropped loses nothing. Each leader has one Fetch in flight at most;
//! one that outlives its poll is kept for the next.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kafka_wire::ids::NodeId;
use kafka_wire::{ApiKey, ErrorCode};

use super::assign::Consumer;
use super::sessions::Outstanding;
use super::slots::Needs;
use crate::client::cluster::TopicPartition;
use crate::client::fetch::{self, FetchedPartition, Limits, Position};
use crate::client::read::{Shown, read};
use crate::client::typed;
use crate::client::versions::TransactionVersion;
use crate::client::{Fate, Response};
use crate::pipeline::attempt::{Attempt, Came};
use crate::pipeline::policy::nanos;
use crate::pipeline::trouble::Trouble;

/// What one poll brought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PollReport {
    /// Records per partition in the order the broker has them: offset and value.
    pub records: Vec<(TopicPartition, Vec<Shown>)>,
    /// Why some partition brought nothing, where that is more than silence.
    pub error: Option<Trouble>,
    /// What was seen and dealt with, in words: bad batches, resets, sessions begun again, leaders
    /// that moved.
    pub noted: Vec<String>,
    /// Requests that ended since the last poll returned.
    pub attempts: Vec<Attempt>,
}

impl Consumer {
    /// Brings records: at once where some wait already, else as soon as an answer brings any, else
    /// after `max_wait`. With a wait of zero: one round trip to each leader and back, or until the
    /// first brings any.
    ///
    /// The first poll of a partition finds its position, which takes a round trip or two more.
    /// Without an answer a poll of zero takes the request timeout.
    pub async fn poll(&mut self, max_wait: Duration) -> PollReport {
        self.auto_commit().await;
        let deadline_ns = self.clock.now_ns().saturating_add(nanos(max_wait));
        self.rebalance(deadline_ns).await;
        self.harvest();
        let mut asked = false;
        while self.ready.records.is_empty() {
            if !(asked && max_wait.is_zero()) {
                self.prepare().await;
                self.request_all(deadline_ns).await;
                asked = true;
            }
            let left = deadline_ns.saturating_sub(self.clock.now_ns());
            match (self.leaders.any_outstanding(), max_wait.is_zero()) {
                (true, true) => self.wait(u64::MAX).await,
                (true, false) if left > 0 => self.wait(deadline_ns).await,
                (false, false) if left > 0 && self.waits_for_something() => {
                    let backoff = nanos(self.config.retry.backoff_min).min(left);
                    tokio::time::sleep(Duration::from_nanos(backoff)).await;
                }
                _ => break,
            }
            if !max_wait.is_zero() {
                self.rebalance(deadline_ns).await;
            }
        }
        self.harvest();
        self.deliver()
    }

    fn waits_for_something(&self) -> bool {
        self.member.is_some() || !self.slots.all().is_empty()
    }

    fn deliver(&mut self) -> PollReport {
        for tp in self.moved.drain(..) {
            if let Some(slot) = self.slots.find_mut(&tp)
                && slot.needs == Needs::Nothing
            {
                slot.position = Some(slot.fetch_offset);
            }
        }
        std::mem::take(&mut self.ready)
    }

    /// Commits positions where the interval has passed (`enable.auto.commit`).
    async fn auto_commit(&mut self) {
        let interval = nanos(self.config.auto_commit_interval);
        let due = self.committed_at_ns.saturating_add(interval) <= self.clock.now_ns();
        if self.config.enable_auto_commit && due && self.config.group_id.is_some() {
            self.auto_commit_now().await;
        }
    }

    pub(super) async fn auto_commit_now(&mut self) {
        let mut attempts = std::mem::take(&mut self.ready.attempts);
        if let Err(trouble) = self.commit_positions(&mut attempts).await {
            self.ready.noted.push(format!("auto-commit: {trouble}"));
        }
        self.ready.attempts = attempts;
    }

    /// Sends a Fetch to each leader that has none in flight.
    async fn request_all(&mut self, deadline_ns: u64) {
        let idle = self
            .leaders
            .all
            .iter()
            .filter(|(_, leader)| leader.outstanding.is_none() && !leader.wants_nothing());
        let idle: Vec<NodeId> = idle.map(|(node, _)| *node).collect();
        for node in idle {
            if let Err(trouble) = self.links.to(node, &mut self.ready.attempts).await {
                self.leader_lost(node);
                self.ready.error = Some(trouble);
            } else {
                self.request(node, deadline_ns);
            }
        }
    }

    fn request(&mut self, node: NodeId, deadline_ns: u64) {
        let now_ns = self.clock.now_ns();
        // Rounded up: an answer that comes at once because less than a millisecond is left would
        // be asked for again and again. A wait beyond the request timeout would be lost.
        let left_ms = deadline_ns.saturating_sub(now_ns).div_ceil(1_000_000);
        let longest_ms = self.config.retry.request_timeout.as_millis() as u64 / 2;
        let left_ms = i32::try_from(left_ms.min(longest_ms)).unwrap_or(i32::MAX);
        let limits = self.config.limits;
        let limits = Limits { max_wait_ms: limits.max_wait_ms.min(left_ms), ..limits };
        let isolation = self.config.isolation;
        let api_key = ApiKey::FETCH;
        let Some(link) = self.links.opened(node) else { return };
        let leader = self.leaders.leader(node);
        let version = match link.version(api_key, TransactionVersion::V2) {
            Ok(version) => leader.version_max(version),
            Err(trouble) => {
                self.ready.error = Some(trouble);
                return;
            }
        };
        let request = leader.request(version, isolation, limits);
        let attempt = Attempt::begun(api_key, version, node, now_ns);
        let sent =
            typed::encode(&request, version).and_then(|frame| link.connection.try_send(frame));
        match sent {
            Ok(pending) => leader.outstanding = Some(Outstanding { pending, attempt }),
            Err(fate) => self.lost(node, attempt, &fate),
        }
    }

    /// Takes answers that are there, and requests that timed out.
    fn harvest(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready((node, answer)) = self.poll_arrived(&mut cx) {
            self.arrived(node, answer);
        }
    }

    /// A Fetch that ended, by an answer or by its timeout.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<(NodeId, Result<Response, Fate>)> {
        let now_ns = self.clock.now_ns();
        for (node, leader) in &mut self.leaders.all {
            let Some(outstanding) = &mut leader.outstanding else { continue };
            if let Poll::Ready(answer) = outstanding.pending.poll_answer(cx) {
                return Poll::Ready((*node, answer));
            }
            if outstanding.pending.deadline_ns() <= now_ns {
                return Poll::Ready((*node, Err(Fate::TimedOut)));
            }
        }
        Poll::Pending
    }

    /// Waits for an answer, at most until then.
    async fn wait(&mut self, until_ns: u64) {
        let outstanding = self.leaders.all.values().filter_map(|l| l.outstanding.as_ref());
        let timeouts = outstanding.map(|outstanding| outstanding.pending.deadline_ns());
        let wake_ns = timeouts.min().unwrap_or(until_ns).min(until_ns);
        let left = Duration::from_nanos(wake_ns.saturating_sub(self.clock.now_ns()));
        let arrived = std::future::poll_fn(|cx| self.poll_arrived(cx));
        // An answer is taken in the same breath as it is seen: nothing is lost if we are dropped.
        if let Ok((node, answer)) = tokio::time::timeout(left, arrived).await {
            self.arrived(node, answer);
        }
        self.harvest();
    }

    fn arrived(&mut self, node: NodeId, answer: Result<Response, Fate>) {
        let Some(outstanding) = self.leaders.leader(node).outstanding.take() else { return };
        let mut attempt = outstanding.attempt;
        let version = attempt.api_version;
        let fetched = answer.and_then(|response| {
            attempt.sent_ns = response.sent_ns;
            attempt.received_ns = Some(response.received_ns);
            fetch::fetched(response, version, |id| self.leaders.name(id))
        });
        match fetched {
            Err(fate) => self.lost(node, attempt, &fate),
            Ok(fetched) => {
                attempt.came = Came::Answered(fetched.error);
                self.ready.attempts.push(attempt);
                if self.leaders.leader(node).answered(fetched.error, fetched.session_id) {
                    let error = fetched.error;
                    self.ready.noted.push(format!("fetch session with node {node} lost: {error}"));
                }
                // After an error of the whole the next request names everything again.
                if fetched.error.is_none() {
                    let partitions = fetched.partitions.into_iter();
                    partitions.for_each(|partition| self.take(node, &partition));
                } else {
                    self.answer_refused(node, fetched.error);
                }
            }
        }
    }

    /// An error of a whole answer. A lost session begins again at once; anything else waits.
    fn answer_refused(&mut self, node: NodeId, code: ErrorCode) {
        let session_lost = matches!(
            code,
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND | ErrorCode::INVALID_FETCH_SESSION_EPOCH
        );
        if session_lost && self.leaders.leader(node).begins_again() {
            return;
        }
        let partitions: Vec<_> = self.leaders.leader(node).partitions().cloned().collect();
        for tp in partitions {
            self.failed(&tp, ApiKey::FETCH, code);
        }
    }

    fn lost(&mut self, node: NodeId, mut attempt: Attempt, fate: &Fate) {
        let (api_key, came) = (attempt.api_key, Came::from(fate));
        attempt.came = came.clone();
        self.ready.attempts.push(attempt);
        self.ready.error = Some(Trouble::Unanswered { api_key, came });
        self.leader_lost(node);
    }

    /// A leader is out of reach: perhaps others lead its partitions by now.
    fn leader_lost(&mut self, node: NodeId) {
        self.links.close(node);
        let leader = self.leaders.leader(node);
        leader.lost();
        let partitions: Vec<_> = leader.partitions().cloned().collect();
        for tp in partitions {
            self.stale.insert(tp.topic.clone());
            self.fail(&tp);
        }
    }

    /// Takes what one partition answered, unless its position was left meanwhile.
    fn take(&mut self, node: NodeId, fetched: &FetchedPartition) {
        let tp = &fetched.partition;
        let asked = self.leaders.leader(node).asked(tp);
        let Some(slot) = self.slots.find_mut(tp) else { return };
        let stands = slot.needs == Needs::Nothing && slot.leader == Some(node);
        if !stands || asked != Some(slot.fetch_offset) {
            return;
        }
        match fetched.error {
            ErrorCode::NONE => self.take_records(node, fetched),
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                let why = format!("offset {} is out of range", slot.fetch_offset);
                slot.leader = None;
                self.leaders.leader(node).forget(tp);
                self.reset(tp, &why);
            }
            code => self.failed(tp, ApiKey::FETCH, code),
        }
    }

    fn take_records(&mut self, node: NodeId, fetched: &FetchedPartition) {
        let tp = &fetched.partition;
        let Some(slot) = self.slots.find_mut(tp) else { return };
        slot.failures = 0;
        if fetched.records.is_empty() {
            return;
        }
        let read = read(fetched, slot.fetch_offset, self.config.isolation, &mut self.scratch);
        if read.next_offset != slot.fetch_offset {
            slot.fetch_offset = read.next_offset;
            let position = Position {
                fetch_offset: slot.fetch_offset,
                leader_epoch: slot.leader_epoch,
                topic_id: slot.topic_id,
            };
            self.leaders.leader(node).want(tp, position);
            self.moved.push(tp.clone());
        }
        self.ready.noted.extend(read.problems.iter().map(|problem| format!("{tp}: {problem}")));
        if read.stopped {
            let came = Came::Broken(read.problems.join("; ").into());
            self.ready.error = Some(Trouble::Unanswered { api_key: ApiKey::FETCH, came });
            self.fail(tp);
        }
        if read.records.is_empty() {
            return;
        }
        match self.ready.records.iter_mut().find(|(other, _)| other == tp) {
            Some((_, records)) => records.extend(read.records),
            None => self.ready.records.push((tp.clone(), read.records)),
        }
    }
}
