//! Requests to coordinators, with the retries a real client makes.

use std::collections::BTreeMap;

use kafka_wire::ids::NodeId;
use kafka_wire::{ApiKey, ErrorCode};

use super::attempt::{Attempt, Came, recorded};
use super::cluster::Cluster;
use super::links::Links;
use super::policy::{Retry, RetryPolicy};
use super::question::Question;
use super::trouble::Trouble;
use crate::client::cluster::{CoordinatorOf, find_coordinator};
use crate::client::versions::TransactionVersion;

/// Who is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To<'a> {
    /// The coordinator of a group or a transactional id.
    Coordinator(CoordinatorOf, &'a str),
    /// Whoever answers.
    Anyone,
}

/// Makes requests one at a time and tries again where that is right.
pub(crate) struct Caller {
    pub(crate) cluster: Cluster,
    pub(crate) links: Links,
    pub(crate) policy: RetryPolicy,
    coordinators: BTreeMap<(CoordinatorOf, String), NodeId>,
}

/// What an error code asks of whoever asked a coordinator.
enum Reaction {
    /// Wait, ask again.
    Again,
    /// The same, soon.
    AgainSoon,
    /// Wait, look for the coordinator again, ask there.
    Elsewhere,
    /// The answer stands.
    Stands,
}

fn reaction(code: ErrorCode) -> Reaction {
    match code {
        ErrorCode::CONCURRENT_TRANSACTIONS => Reaction::AgainSoon,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::UNSTABLE_OFFSET_COMMIT
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::THROTTLING_QUOTA_EXCEEDED => Reaction::Again,
        ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::NOT_COORDINATOR
        | ErrorCode::NETWORK_EXCEPTION => Reaction::Elsewhere,
        _ => Reaction::Stands,
    }
}

impl Caller {
    pub(crate) fn new(cluster: &Cluster, policy: RetryPolicy, client_id: Option<&str>) -> Self {
        Self {
            cluster: cluster.clone(),
            links: Links::new(cluster, policy, client_id),
            policy,
            coordinators: BTreeMap::new(),
        }
    }

    /// The coordinator as last heard, else asked for.
    async fn coordinator(
        &mut self,
        of: CoordinatorOf,
        key: &str,
        attempts: &mut Vec<Attempt>,
    ) -> Result<NodeId, Trouble> {
        if let Some(node) = self.coordinators.get(&(of, key.to_owned())) {
            return Ok(*node);
        }
        let api_key = ApiKey::FIND_COORDINATOR;
        let node = self.links.any(attempts).await?;
        let link = self.links.to(node, attempts).await?;
        let version = link.version(api_key, TransactionVersion::V2)?;
        let call = find_coordinator(&link.connection, version, of, key);
        let code = |answer: &Result<_, ErrorCode>| answer.as_ref().err().copied();
        let code = |answer: &_| code(answer).unwrap_or(ErrorCode::NONE);
        match recorded(attempts, self.cluster.clock(), (api_key, version, node), call, code).await {
            Ok(Ok(coordinator)) => {
                if self.cluster.address(coordinator.node).is_none() {
                    self.cluster.refresh(&[], attempts).await?;
                }
                self.coordinators.insert((of, key.to_owned()), coordinator.node);
                Ok(coordinator.node)
            }
            Ok(Err(code)) if matches!(reaction(code), Reaction::Stands) => {
                Err(Trouble::Answered { api_key, code })
            }
            Ok(Err(code)) => Err(Trouble::Unanswered { api_key, came: Came::Answered(code) }),
            Err(came) => {
                self.links.close(node);
                Err(Trouble::Unanswered { api_key, came })
            }
        }
    }

    /// A group's coordinator, for requests that take their time.
    pub(crate) async fn group_coordinator(
        &mut self,
        group_id: &str,
        attempts: &mut Vec<Attempt>,
    ) -> Result<NodeId, Trouble> {
        self.coordinator(CoordinatorOf::Group, group_id, attempts).await
    }

    /// Forgets where a coordinator was.
    pub(crate) fn forget_coordinator(&mut self, of: CoordinatorOf, key: &str) {
        self.coordinators.remove(&(of, key.to_owned()));
    }

    async fn find(&mut self, to: To<'_>, attempts: &mut Vec<Attempt>) -> Result<NodeId, Trouble> {
        match to {
            To::Coordinator(of, key) => self.coordinator(of, key, attempts).await,
            To::Anyone => self.links.any(attempts).await,
        }
    }

    /// One request until it is answered with something that stands, or the policy gives up. The
    /// answer may carry an error code.
    ///
    /// A request without an answer is made again on a new connection: that is what clients do, and
    /// what lets an older copy arrive later (KAFKA-17754).
    pub(crate) async fn ask<Q: Question>(
        &mut self,
        to: To<'_>,
        transactions: TransactionVersion,
        question: &Q,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Q::Answer, Trouble> {
        let api_key = Q::API_KEY;
        let clock = self.cluster.clock().clone();
        let mut retry = Retry::begin(self.policy, &clock);
        loop {
            let node = match self.find(to, attempts).await {
                Ok(node) => node,
                Err(trouble @ (Trouble::Answered { .. } | Trouble::NoVersion(_))) => {
                    return Err(trouble);
                }
                Err(trouble) => {
                    retry.pause(trouble).await?;
                    continue;
                }
            };
            let link = match self.links.to(node, attempts).await {
                Ok(link) => link,
                Err(trouble) => {
                    self.moved(to, attempts).await;
                    retry.pause(trouble).await?;
                    continue;
                }
            };
            let version = link.version(api_key, transactions)?;
            let call = question.put(&link.connection, version);
            match recorded(attempts, &clock, (api_key, version, node), call, Q::code).await {
                Ok(answer) => {
                    let came = Q::code(&answer);
                    let trouble = Trouble::Answered { api_key, code: came };
                    match reaction(came) {
                        Reaction::Stands => return Ok(answer),
                        Reaction::Again => retry.pause(trouble).await?,
                        Reaction::AgainSoon => retry.pause_short(trouble).await?,
                        Reaction::Elsewhere => {
                            self.moved(to, attempts).await;
                            retry.pause(trouble).await?;
                        }
                    }
                }
                Err(came) => {
                    self.links.close(node);
                    self.moved(to, attempts).await;
                    retry.pause(Trouble::Unanswered { api_key, came }).await?;
                }
            }
        }
    }

    /// A coordinator is no longer where it was; brokers may have come or gone.
    async fn moved(&mut self, to: To<'_>, attempts: &mut Vec<Attempt>) {
        if let To::Coordinator(of, key) = to {
            self.forget_coordinator(of, key);
        }
        // Where nobody answers, the next look-up will say so.
        drop(self.cluster.refresh(&[], attempts).await);
    }
}
