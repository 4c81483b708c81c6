//! One member of a group: joining, syncing, hearing what it may have.
//!
//! Joining a classic group waits for all other members, so its requests outlive the poll that
//! sent them: each call goes on where the last one stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ids::GenerationId;
use kafka_wire::{ApiKey, ErrorCode};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::assignor::{Subscriber, assign};
use super::config::{Assignor, GroupConfig, GroupProtocol, Rebalance, RebalanceKind};
use super::heart::{ConsumerBeat, Heard, Heart};
use crate::client::cluster::{CoordinatorOf, TopicPartition};
use crate::client::connection::Pending;
use crate::client::group::{self, Beat, Join, Joined};
use crate::client::transaction::Membership;
use crate::client::versions::TransactionVersion;
use crate::client::{Connection, Fate, Response};
use crate::pipeline::attempt::{Attempt, Came};
use crate::pipeline::caller::{Caller, To};
use crate::pipeline::cluster::Cluster;
use crate::pipeline::policy::RetryPolicy;
use crate::pipeline::question::Question;
use crate::pipeline::trouble::Trouble;
use crate::world::Clock;

const V2: TransactionVersion = TransactionVersion::V2;

/// What became of the member's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// It reads these now and no others.
    Reads(Vec<TopicPartition>),
}

/// A request of the classic protocol that is in flight.
struct Outstanding {
    pending: Pending,
    attempt: Attempt,
}

/// Where a classic member stands.
enum Standing {
    Out,
    Joining(Outstanding),
    Syncing(Outstanding),
    In,
}

/// One member. Dropping it ends its heartbeats; the group finds out by the session timeout.
pub(crate) struct Member {
    config: GroupConfig,
    cluster: Cluster,
    clock: Clock,
    /// For JoinGroup and SyncGroup, which take as long as the slowest member.
    caller: Caller,
    heart: Heart,
    _beating: JoinSet<()>,
    topics: Vec<Arc<str>>,
    owned: Vec<TopicPartition>,
    standing: Standing,
    protocol: String,
    not_before_ns: u64,
    failures: u32,
    pub(crate) log: Vec<Rebalance>,
    pub(crate) noted: Vec<String>,
}

struct Leave<'a>(&'a Membership);

impl Question for Leave<'_> {
    type Answer = ErrorCode;
    const API_KEY: ApiKey = ApiKey::LEAVE_GROUP;

    async fn put(&self, connection: &Connection, version: i16) -> Result<ErrorCode, Fate> {
        group::leave(connection, version, self.0).await
    }

    fn code(answer: &ErrorCode) -> ErrorCode {
        *answer
    }
}

impl Member {
    pub(crate) fn new(
        cluster: &Cluster,
        (policy, client_id): (RetryPolicy, Option<&str>),
        group_id: &str,
        config: GroupConfig,
        topics: Vec<Arc<str>>,
    ) -> Self {
        let once = RetryPolicy { retries: Some(0), ..policy };
        // A join is answered when the last member has joined, or has taken too long.
        let patient = RetryPolicy {
            request_timeout: config.rebalance_timeout + policy.request_timeout,
            ..once
        };
        let mut membership = Membership::outside(group_id);
        membership.group_instance_id.clone_from(&config.group_instance_id);
        if config.protocol == GroupProtocol::Consumer {
            // Since v1 of the heartbeat members name themselves (KIP-1082).
            membership.generation_id = GenerationId(0);
            membership.member_id = cluster.next_member_id(client_id);
        }
        let heart = Heart::new(Heard {
            membership,
            topics: topics.clone(),
            owned: Vec::new(),
            target: None,
            full: true,
            beats: config.protocol == GroupProtocol::Consumer,
            rejoin: false,
            lost: None,
            interval: config.heartbeat_interval,
            attempts: Vec::new(),
            attempts_dropped: 0,
        });
        if config.protocol == GroupProtocol::Consumer {
            heart.bell.notify_one();
        }
        let mut beating = JoinSet::new();
        let beats = Caller::new(cluster, once, client_id);
        beating.spawn(heart.clone().beat(beats, config.clone()));
        Self {
            clock: cluster.clock().clone(),
            caller: Caller::new(cluster, patient, client_id),
            cluster: cluster.clone(),
            config,
            heart,
            _beating: beating,
            topics,
            owned: Vec::new(),
            standing: Standing::Out,
            protocol: String::new(),
            not_before_ns: 0,
            failures: 0,
            log: Vec::new(),
            noted: Vec::new(),
        }
    }

    /// How it names itself when it commits offsets.
    pub(crate) fn membership(&self) -> Membership {
        self.heart.heard().membership.clone()
    }

    pub(crate) fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    /// Subscribes to other topics.
    pub(crate) fn resubscribe(&mut self, topics: Vec<Arc<str>>) {
        if topics == self.topics {
            return;
        }
        self.topics.clone_from(&topics);
        let mut heard = self.heart.heard();
        heard.topics = topics;
        match self.config.protocol {
            GroupProtocol::Classic => heard.rejoin = true,
            GroupProtocol::Consumer => {
                heard.full = true;
                self.heart.bell.notify_one();
            }
        }
    }

    /// Heartbeats made since last asked, and how many more there were.
    pub(crate) fn take_attempts(&self, into: &mut Vec<Attempt>) -> u64 {
        let mut heard = self.heart.heard();
        into.append(&mut heard.attempts);
        std::mem::take(&mut heard.attempts_dropped)
    }

    /// Whether nothing is under way.
    pub(crate) fn is_stable(&self) -> bool {
        let heard = self.heart.heard();
        let calm = !heard.rejoin && heard.lost.is_none() && heard.target.is_none();
        match self.config.protocol {
            GroupProtocol::Classic => calm && matches!(self.standing, Standing::In),
            GroupProtocol::Consumer => calm && heard.membership.generation_id.0 > 0,
        }
    }

    /// Goes on with whatever is under way, at most until then.
    pub(crate) async fn go_on(&mut self, until_ns: u64, attempts: &mut Vec<Attempt>) -> Change {
        match self.config.protocol {
            GroupProtocol::Classic => self.go_on_classic(until_ns, attempts).await,
            GroupProtocol::Consumer => self.go_on_consumer(attempts).await,
        }
    }

    fn log(&mut self, kind: RebalanceKind, partitions: Vec<TopicPartition>) {
        if !partitions.is_empty() {
            self.log.push(Rebalance { kind, partitions });
        }
    }

    // The classic protocol.

    async fn go_on_classic(&mut self, until_ns: u64, attempts: &mut Vec<Attempt>) -> Change {
        let mut change = self.give_up_classic();
        loop {
            let now_ns = self.clock.now_ns();
            match &mut self.standing {
                Standing::In => return change,
                Standing::Out if self.not_before_ns > now_ns => return change,
                Standing::Out => {
                    if let Err(trouble) = self.join(attempts).await {
                        self.fail(&trouble.to_string());
                    }
                }
                Standing::Joining(outstanding) | Standing::Syncing(outstanding) => {
                    let left = Duration::from_nanos(until_ns.saturating_sub(now_ns));
                    let answer = tokio::time::timeout(left, outstanding.pending.wait()).await;
                    // Not yet: the request stays in flight for the next poll.
                    let Ok(answer) = answer else { return change };
                    match std::mem::replace(&mut self.standing, Standing::Out) {
                        Standing::Joining(it) => self.joined(it.attempt, answer, attempts).await,
                        Standing::Syncing(it) => {
                            if let Some(assigned) = self.synced(it.attempt, answer, attempts) {
                                change = Change::Reads(assigned);
                            }
                        }
                        _ => unreachable!("one of both was just seen"),
                    }
                }
            }
        }
    }

    /// Gives everything up where the group wants us to join again, or has forgotten us.
    fn give_up_classic(&mut self) -> Change {
        let (rejoin, lost) = {
            let mut heard = self.heart.heard();
            (std::mem::take(&mut heard.rejoin), heard.lost.take())
        };
        if !rejoin && lost.is_none() || !matches!(self.standing, Standing::In) {
            return Change::None;
        }
        if let Some(code) = lost {
            self.forget_membership(code);
        }
        self.heart.heard().beats = false;
        self.standing = Standing::Out;
        let owned = std::mem::take(&mut self.owned);
        self.log(if lost.is_some() { RebalanceKind::Lost } else { RebalanceKind::Revoked }, owned);
        Change::Reads(Vec::new())
    }

    fn forget_membership(&mut self, code: ErrorCode) {
        self.noted.push(format!("the group has forgotten us: {code}"));
        let mut heard = self.heart.heard();
        heard.membership.generation_id = GenerationId(-1);
        if code != ErrorCode::ILLEGAL_GENERATION {
            heard.membership.member_id = String::new();
        }
    }

    fn fail(&mut self, why: &str) {
        self.noted.push(format!("group: {why}"));
        self.failures = self.failures.saturating_add(1);
        let wait = crate::pipeline::policy::nanos(self.caller.policy.backoff(self.failures));
        self.not_before_ns = self.clock.now_ns().saturating_add(wait);
        self.standing = Standing::Out;
    }

    async fn join(&mut self, attempts: &mut Vec<Attempt>) -> Result<(), Trouble> {
        let api_key = ApiKey::JOIN_GROUP;
        let membership = self.membership();
        let subscription = group::encode_subscription(&self.topics, &self.owned);
        let name = match self.config.assignor {
            Assignor::Range => "range",
            Assignor::Sticky => "fencepost-sticky",
        };
        let node = self.caller.group_coordinator(&membership.group_id, attempts).await?;
        let link = self.caller.links.to(node, attempts).await?;
        let version = link.version(api_key, V2)?;
        let millis = |duration: Duration| duration.as_millis().min(i32::MAX as u128) as i32;
        let frame = group::join_frame(
            version,
            &Join {
                membership: &membership,
                session_timeout_ms: millis(self.config.session_timeout),
                rebalance_timeout_ms: millis(self.config.rebalance_timeout),
                protocols: &[(name, subscription)],
            },
        );
        let attempt = Attempt::begun(api_key, version, node, self.clock.now_ns());
        let sent = frame.and_then(|frame| link.connection.try_send(frame));
        let pending =
            sent.map_err(|fate| Trouble::Unanswered { api_key, came: Came::from(&fate) })?;
        self.standing = Standing::Joining(Outstanding { pending, attempt });
        Ok(())
    }

    /// Keeps an attempt that ended; the error code of its answer, or nothing.
    fn ended(
        &mut self,
        mut attempt: Attempt,
        came: Result<(ErrorCode, u64), Fate>,
        attempts: &mut Vec<Attempt>,
    ) -> Option<ErrorCode> {
        let code = match came {
            Ok((code, received_ns)) => {
                attempt.came = Came::Answered(code);
                attempt.received_ns = Some(received_ns);
                Some(code)
            }
            Err(fate) => {
                attempt.came = Came::from(&fate);
                self.caller.links.close(attempt.node);
                let group_id = self.membership().group_id;
                self.caller.forget_coordinator(CoordinatorOf::Group, &group_id);
                None
            }
        };
        attempts.push(attempt);
        code
    }

    async fn joined(
        &mut self,
        attempt: Attempt,
        answer: Result<Response, Fate>,
        attempts: &mut Vec<Attempt>,
    ) {
        let (version, node) = (attempt.api_version, attempt.node);
        let answer = answer.and_then(|response| {
            let received_ns = response.received_ns;
            group::joined(response, version).map(|joined| (joined, received_ns))
        });
        let came = answer.as_ref().map(|(joined, at)| (joined.error, *at)).map_err(Clone::clone);
        let code = self.ended(attempt, came, attempts);
        let (Some(code), Ok((joined, _))) = (code, answer) else {
            return self.fail("JoinGroup was not answered");
        };
        match code {
            ErrorCode::NONE => {}
            // KIP-394: join again with the name just given.
            ErrorCode::MEMBER_ID_REQUIRED => {
                self.heart.heard().membership.member_id = joined.member_id;
                return;
            }
            code => return self.refused(code),
        }
        {
            let mut heard = self.heart.heard();
            heard.membership.generation_id = joined.generation_id;
            heard.membership.member_id.clone_from(&joined.member_id);
            heard.rejoin = false;
            heard.lost = None;
            // From here on the session counts.
            heard.beats = true;
        }
        self.protocol = joined.protocol.clone().unwrap_or_default();
        if let Err(trouble) = self.sync(&joined, node, attempts).await {
            self.fail(&trouble.to_string());
        }
    }

    /// An error of JoinGroup or SyncGroup.
    fn refused(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::FENCED_INSTANCE_ID => self.forget_membership(code),
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                let group_id = self.membership().group_id;
                self.caller.forget_coordinator(CoordinatorOf::Group, &group_id);
            }
            _ => {}
        }
        match code {
            // The next generation is being formed already: join it at once.
            ErrorCode::REBALANCE_IN_PROGRESS => self.standing = Standing::Out,
            code => self.fail(&code.to_string()),
        }
    }

    async fn sync(
        &mut self,
        joined: &Joined,
        node: kafka_wire::ids::NodeId,
        attempts: &mut Vec<Attempt>,
    ) -> Result<(), Trouble> {
        let api_key = ApiKey::SYNC_GROUP;
        let assignments = match joined.leader == joined.member_id {
            true => self.assignments(joined, attempts).await?,
            false => Vec::new(),
        };
        let link = self.caller.links.to(node, attempts).await?;
        let version = link.version(api_key, V2)?;
        let membership = self.heart.heard().membership.clone();
        let frame = group::sync_frame(version, &membership, &self.protocol, &assignments);
        let attempt = Attempt::begun(api_key, version, node, self.clock.now_ns());
        let sent = frame.and_then(|frame| link.connection.try_send(frame));
        let pending =
            sent.map_err(|fate| Trouble::Unanswered { api_key, came: Came::from(&fate) })?;
        self.standing = Standing::Syncing(Outstanding { pending, attempt });
        Ok(())
    }

    /// Assigns partitions to all members.
    async fn assignments(
        &self,
        joined: &Joined,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Vec<(String, Bytes)>, Trouble> {
        let subscribers: Vec<Subscriber> = joined
            .members
            .iter()
            .map(|(member_id, metadata)| {
                let (topics, owned) = group::decode_subscription(metadata).unwrap_or_default();
                Subscriber { member_id: member_id.clone(), topics, owned }
            })
            .collect();
        let topics: BTreeSet<Arc<str>> =
            subscribers.iter().flat_map(|s| s.topics.iter().map(|t| t.as_str().into())).collect();
        let topics: Vec<Arc<str>> = topics.into_iter().collect();
        self.cluster.refresh(&topics, attempts).await?;
        let metadata = self.cluster.metadata();
        let partitions: BTreeMap<Arc<str>, Vec<i32>> = topics
            .into_iter()
            .filter_map(|name| {
                let topic = metadata.topics.get(&name)?;
                Some((name, topic.partitions.keys().copied().collect()))
            })
            .collect();
        let assigned = assign(self.config.assignor, &subscribers, &partitions);
        let bytes = |theirs: Vec<TopicPartition>| group::encode_assignment(&theirs);
        Ok(assigned.into_iter().map(|(member_id, theirs)| (member_id, bytes(theirs))).collect())
    }

    /// What we may read, where the group says.
    fn synced(
        &mut self,
        attempt: Attempt,
        answer: Result<Response, Fate>,
        attempts: &mut Vec<Attempt>,
    ) -> Option<Vec<TopicPartition>> {
        let version = attempt.api_version;
        let answer = answer.and_then(|response| {
            let received_ns = response.received_ns;
            group::synced(response, version).map(|(code, bytes)| (code, bytes, received_ns))
        });
        let came = answer.as_ref().map(|(code, _, at)| (*code, *at)).map_err(Clone::clone);
        let code = self.ended(attempt, came, attempts);
        let (Some(code), Ok((_, bytes, _))) = (code, answer) else {
            self.fail("SyncGroup was not answered");
            return None;
        };
        if !code.is_none() {
            self.refused(code);
            return None;
        }
        let Some(assigned) = group::decode_assignment(&bytes) else {
            self.fail("the assignment does not decode");
            return None;
        };
        self.standing = Standing::In;
        self.failures = 0;
        self.owned.clone_from(&assigned);
        self.log(RebalanceKind::Assigned, assigned.clone());
        Some(assigned)
    }

    // KIP-848.

    async fn go_on_consumer(&mut self, attempts: &mut Vec<Attempt>) -> Change {
        let (target, lost) = {
            let mut heard = self.heart.heard();
            (heard.target.take(), heard.lost.take())
        };
        if let Some(code) = lost {
            return self.fenced(code);
        }
        let Some(target) = target else { return Change::None };
        let Some(partitions) = self.named(&target, attempts).await else {
            // A topic whose name is not known yet: look again next time.
            self.heart.heard().target.get_or_insert(target);
            return Change::None;
        };
        let before: BTreeSet<TopicPartition> =
            std::mem::take(&mut self.owned).into_iter().collect();
        let after: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
        self.log(RebalanceKind::Revoked, before.difference(&after).cloned().collect());
        self.log(RebalanceKind::Assigned, after.difference(&before).cloned().collect());
        self.owned = after.into_iter().collect();
        // The group waits to hear that the others were given up.
        self.heart.heard().owned = target;
        self.heart.bell.notify_one();
        Change::Reads(self.owned.clone())
    }

    /// The group does not want us as we are: begin again with nothing.
    fn fenced(&mut self, code: ErrorCode) -> Change {
        self.noted.push(format!("the group has forgotten us: {code}"));
        {
            let mut heard = self.heart.heard();
            heard.membership.generation_id = GenerationId(0);
            heard.owned.clear();
            heard.full = true;
            // What the broker refuses for good it refuses again, a little later.
            if matches!(code, ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID) {
                self.heart.bell.notify_one();
            }
        }
        let owned = std::mem::take(&mut self.owned);
        self.log(RebalanceKind::Lost, owned);
        Change::Reads(Vec::new())
    }

    /// Partitions by topic name; absent where a topic id is not known.
    async fn named(
        &self,
        target: &[(Uuid, Vec<i32>)],
        attempts: &mut Vec<Attempt>,
    ) -> Option<Vec<TopicPartition>> {
        for refreshed in [false, true] {
            if refreshed && self.cluster.refresh(&self.topics, attempts).await.is_err() {
                return None;
            }
            let metadata = self.cluster.metadata();
            let name = |id: &Uuid| {
                let known = self.topics.iter().map(|name| (name, metadata.topics.get(name)));
                known
                    .filter(|(_, topic)| topic.is_some_and(|topic| topic.id == *id))
                    .map(|(n, _)| n)
                    .next()
            };
            let named: Option<Vec<_>> =
                target.iter().map(|(id, numbers)| Some((name(id)?.clone(), numbers))).collect();
            if let Some(named) = named {
                let partitions = named.into_iter().flat_map(|(topic, numbers)| {
                    numbers.iter().map(move |partition| TopicPartition {
                        topic: topic.clone(),
                        partition: *partition,
                    })
                });
                return Some(partitions.collect());
            }
        }
        None
    }

    /// Leaves the group; a static member of KIP-848 leaves for a while.
    pub(crate) async fn leave(
        mut self,
        attempts: &mut Vec<Attempt>,
    ) -> (Vec<Rebalance>, Result<(), Trouble>) {
        self._beating.shutdown().await;
        self.take_attempts(attempts);
        let mut membership = self.membership();
        let owned = std::mem::take(&mut self.owned);
        self.log(RebalanceKind::Revoked, owned);
        let to = To::Coordinator(CoordinatorOf::Group, &membership.group_id.clone());
        let api_key;
        let code = match self.config.protocol {
            GroupProtocol::Classic if membership.member_id.is_empty() => return (self.log, Ok(())),
            GroupProtocol::Classic => {
                api_key = ApiKey::LEAVE_GROUP;
                self.caller.ask(to, V2, &Leave(&membership), attempts).await
            }
            GroupProtocol::Consumer => {
                api_key = ApiKey::CONSUMER_GROUP_HEARTBEAT;
                let stays = membership.group_instance_id.is_some();
                membership.generation_id = GenerationId(if stays { -2 } else { -1 });
                let beat = ConsumerBeat(Beat {
                    membership: &membership,
                    rebalance_timeout_ms: None,
                    topics: None,
                    owned: None,
                });
                self.caller.ask(to, V2, &beat, attempts).await.map(|beaten| beaten.error)
            }
        };
        let left =
            code.and_then(|code| code.ok().map_err(|code| Trouble::Answered { api_key, code }));
        (self.log, left)
    }
}
