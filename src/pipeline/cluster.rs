//! What all processes of a run share: addresses, metadata, versions, topics.
//!
//! Nothing is refreshed on its own: each refresh is a call, made on an error that names it, and
//! its requests go to the attempts of whoever called.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kafka_wire::ids::NodeId;
use kafka_wire::{ApiKey, ErrorCode};

use super::attempt::{Attempt, Came, recorded};
use super::links::Link;
use super::policy::{Retry, RetryPolicy};
use super::trouble::{OpenFailed, Trouble};
use crate::client::Conduct;
use crate::client::admin::{self, NewTopic};
use crate::client::cluster::{Metadata, TopicPartition};
use crate::client::versions::{TransactionVersion, Versions};
use crate::world::Clock;

/// What a cluster is reached by, and how topics are made.
#[derive(Clone)]
pub struct ClusterConfig {
    /// Addresses `host:port`.
    pub bootstrap: Vec<String>,
    /// How connections behave; its request timeout is replaced by that of each retry policy.
    pub conduct: Conduct,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Partitions of topics made on first use.
    pub partitions: i32,
    /// Replicas of topics made on first use; −1 for the broker's default.
    pub replication_factor: i16,
    /// Conduct transactions of this version whatever the broker offers: version 1 makes an
    /// old-style client.
    pub force_transaction_version: Option<TransactionVersion>,
}

/// One cluster as all processes of a run see it. Clones share.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClusterConfig,
    metadata: RwLock<Arc<Metadata>>,
    heard: Mutex<Heard>,
    /// The connection metadata is asked over, and which address to try next when it is lost.
    control: tokio::sync::Mutex<Control>,
    /// How many refreshes have begun.
    refreshes: AtomicU64,
    /// How many members of KIP-848 groups have named themselves.
    members: AtomicU64,
}

/// What brokers said they speak.
#[derive(Default)]
struct Heard {
    versions: BTreeMap<NodeId, Arc<Versions>>,
    last: Option<Arc<Versions>>,
}

#[derive(Default)]
struct Control {
    link: Option<Link>,
    next: usize,
    last: Option<Refresh>,
}

/// A refresh that is over.
struct Refresh {
    number: u64,
    topics: BTreeSet<Arc<str>>,
    ended: Result<(), Trouble>,
}

/// An address of the bootstrap list has no id yet.
pub(crate) const BOOTSTRAP: NodeId = NodeId(-1);

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("bootstrap", &self.shared.config.bootstrap).finish()
    }
}

impl Cluster {
    /// Asks the first address that answers what it speaks and who is there.
    ///
    /// # Errors
    /// Where none answers within the delivery timeout.
    pub async fn connect(mut config: ClusterConfig) -> Result<Self, OpenFailed> {
        config.conduct = config.conduct.with_request_timeout(config.retry.request_timeout);
        let cluster = Self {
            shared: Arc::new(Shared {
                config,
                metadata: RwLock::default(),
                heard: Mutex::default(),
                control: tokio::sync::Mutex::default(),
                refreshes: AtomicU64::new(0),
                members: AtomicU64::new(0),
            }),
        };
        let mut attempts = Vec::new();
        match cluster.refresh_until_answered(&[], &mut attempts).await {
            Ok(()) => Ok(cluster),
            Err(trouble) => Err(OpenFailed { trouble, attempts }),
        }
    }

    /// As it was configured.
    #[must_use]
    pub fn config(&self) -> &ClusterConfig {
        &self.shared.config
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.config.conduct.clock
    }

    /// The metadata last heard: topics of several answers, each as last heard.
    #[must_use]
    pub fn metadata(&self) -> Arc<Metadata> {
        self.shared.metadata.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a broker last said it speaks; the last that said so where `node` is absent.
    #[must_use]
    pub fn versions(&self, node: Option<NodeId>) -> Option<Arc<Versions>> {
        let heard = self.heard();
        match node {
            Some(node) => heard.versions.get(&node).cloned(),
            None => heard.last.clone(),
        }
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what a broker says it speaks.
    pub(crate) fn learn_versions(&self, node: NodeId, versions: &Arc<Versions>) {
        let mut heard = self.heard();
        heard.versions.insert(node, versions.clone());
        heard.last = Some(versions.clone());
    }

    /// A connection to a broker was lost: it may come back as another version.
    pub(crate) fn forget_versions(&self, node: NodeId) {
        self.heard().versions.remove(&node);
    }

    /// A name no other member of this run has; with the time, none of another run either.
    pub(crate) fn next_member_id(&self, client_id: Option<&str>) -> String {
        let n = self.shared.members.fetch_add(1, Ordering::Relaxed);
        let client_id = client_id.unwrap_or("fencepost");
        format!("{client_id}-{:x}-{n}", self.clock().unix_ns())
    }

    /// How transactions are conducted: forced, or as the finalized features last heard say.
    #[must_use]
    pub fn transaction_version(&self) -> TransactionVersion {
        self.shared.config.force_transaction_version.unwrap_or_else(|| {
            self.heard().last.as_ref().map_or(TransactionVersion::V1, |v| v.transaction_version())
        })
    }

    /// Who leads a partition, as last heard.
    #[must_use]
    pub fn leader(&self, of: &TopicPartition) -> Option<NodeId> {
        self.metadata().leader(of)
    }

    /// A broker's address, as last heard.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.metadata().brokers.get(&node).cloned()
    }

    /// Makes a topic where there is none yet, and waits until each partition has a leader. A topic
    /// that exists is fine.
    ///
    /// # Errors
    /// Where it could not be made or found within the delivery timeout.
    pub async fn ensure_topic(
        &self,
        topic: &Arc<str>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<(), Trouble> {
        let mut retry = Retry::begin(self.config().retry, self.clock());
        while !self.has_leaders(topic) {
            let trouble = match self.create(topic, attempts).await {
                Err(trouble @ Trouble::Answered { .. }) => return Err(trouble),
                Err(trouble) => trouble,
                Ok(()) => match self.refresh(std::slice::from_ref(topic), attempts).await {
                    Ok(()) if self.has_leaders(topic) => return Ok(()),
                    Ok(()) => Trouble::NoLeader(topic.clone()),
                    Err(trouble) => trouble,
                },
            };
            // A topic just made is led within milliseconds: begin with the short wait.
            retry.pause_short(trouble).await?;
        }
        Ok(())
    }

    fn has_leaders(&self, topic: &str) -> bool {
        let metadata = self.metadata();
        metadata.topics.get(topic).is_some_and(|topic| {
            !topic.partitions.is_empty() && topic.partitions.values().all(|p| p.node.is_some())
        })
    }

    /// One CreateTopics; a topic that exists is fine.
    async fn create(&self, topic: &str, attempts: &mut Vec<Attempt>) -> Result<(), Trouble> {
        let config = self.config();
        let new = NewTopic {
            name: topic,
            partitions: config.partitions,
            replication_factor: config.replication_factor,
        };
        let timeout_ms = config.retry.request_timeout.as_millis().min(i32::MAX as u128) as i32;
        let api_key = ApiKey::CREATE_TOPICS;
        let mut control = self.shared.control.lock().await;
        let link = self.control_link(&mut control, attempts).await?;
        let version = link.version(api_key, TransactionVersion::V2)?;
        let topics = [new];
        let call = admin::create_topics(&link.connection, version, &topics, timeout_ms);
        let code = |codes: &Vec<ErrorCode>| codes.first().copied().unwrap_or(ErrorCode::NONE);
        match recorded(attempts, self.clock(), (api_key, version, link.node), call, code).await {
            Ok(codes) => match codes.first().copied().unwrap_or(ErrorCode::NONE) {
                ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS => Ok(()),
                // Try again, perhaps elsewhere: a broker that does not forward to the controller,
                // or one that has none at the moment.
                code @ (ErrorCode::NOT_CONTROLLER
                | ErrorCode::REQUEST_TIMED_OUT
                | ErrorCode::UNKNOWN_SERVER_ERROR
                | ErrorCode::INVALID_REPLICATION_FACTOR
                | ErrorCode::THROTTLING_QUOTA_EXCEEDED) => {
                    control.link = None;
                    Err(Trouble::Unanswered { api_key, came: Came::Answered(code) })
                }
                code => Err(Trouble::Answered { api_key, code }),
            },
            Err(came) => {
                control.link = None;
                Err(Trouble::Unanswered { api_key, came })
            }
        }
    }

    /// Asks for topics' leaders again, each address once at most. Topics are not made by asking.
    ///
    /// # Errors
    /// Where no broker answers.
    pub async fn refresh(
        &self,
        topics: &[Arc<str>],
        attempts: &mut Vec<Attempt>,
    ) -> Result<(), Trouble> {
        let begun = self.shared.refreshes.load(Ordering::Acquire);
        let mut control = self.shared.control.lock().await;
        // Many clients lose a broker at once. One refresh that began after this call will do for
        // all of them: its requests are among the attempts of whoever made it.
        if let Some(last) = &control.last
            && last.number > begun
            && (last.ended.is_err() || topics.iter().all(|topic| last.topics.contains(topic)))
        {
            return last.ended.clone();
        }
        let number = self.shared.refreshes.fetch_add(1, Ordering::AcqRel) + 1;
        let ended = self.refresh_now(&mut control, topics, attempts).await;
        let topics = topics.iter().cloned().collect();
        control.last = Some(Refresh { number, topics, ended: ended.clone() });
        ended
    }

    async fn refresh_now(
        &self,
        control: &mut Control,
        topics: &[Arc<str>],
        attempts: &mut Vec<Attempt>,
    ) -> Result<(), Trouble> {
        let mut trouble = Trouble::NotNow("no address is known");
        for _ in 0..self.candidates().len() {
            match self.ask_metadata(control, topics, attempts).await {
                Err(other) => trouble = other,
                Ok(()) => return Ok(()),
            }
        }
        Err(trouble)
    }

    async fn ask_metadata(
        &self,
        control: &mut Control,
        topics: &[Arc<str>],
        attempts: &mut Vec<Attempt>,
    ) -> Result<(), Trouble> {
        let api_key = ApiKey::METADATA;
        let link = self.control_link(control, attempts).await?;
        let version = link.version(api_key, TransactionVersion::V2)?;
        let call = Metadata::ask(&link.connection, version, Some(topics));
        let to = (api_key, version, link.node);
        match recorded(attempts, self.clock(), to, call, |_| ErrorCode::NONE).await {
            Ok(answer) => {
                self.merge(answer);
                Ok(())
            }
            Err(came) => {
                control.link = None;
                Err(Trouble::Unanswered { api_key, came })
            }
        }
    }

    /// The same with the retries the policy allows.
    pub(crate) async fn refresh_until_answered(
        &self,
        topics: &[Arc<str>],
        attempts: &mut Vec<Attempt>,
    ) -> Result<(), Trouble> {
        let mut retry = Retry::begin(self.config().retry, self.clock());
        loop {
            match self.refresh(topics, attempts).await {
                Ok(()) => return Ok(()),
                Err(trouble @ Trouble::NoVersion(_)) => return Err(trouble),
                Err(trouble) => retry.pause(trouble).await?,
            }
        }
    }

    /// Brokers as last heard, topics as last heard each.
    fn merge(&self, answer: Metadata) {
        let mut slot = self.shared.metadata.write().unwrap_or_else(PoisonError::into_inner);
        let metadata = Arc::make_mut(&mut slot);
        metadata.brokers = answer.brokers;
        metadata.cluster_id = answer.cluster_id;
        metadata.controller = answer.controller;
        metadata.topics.extend(answer.topics);
    }

    /// Where to ask: brokers as last heard, then the bootstrap list.
    fn candidates(&self) -> Vec<(NodeId, String)> {
        let metadata = self.metadata();
        let known = metadata.brokers.iter().map(|(node, address)| (*node, address.clone()));
        let bootstrap = self.config().bootstrap.iter().map(|a| (BOOTSTRAP, a.clone()));
        known.chain(bootstrap).collect()
    }

    /// The control connection, opened to the next address where there is none.
    async fn control_link<'a>(
        &self,
        control: &'a mut Control,
        attempts: &mut Vec<Attempt>,
    ) -> Result<&'a Link, Trouble> {
        if control.link.as_ref().is_none_or(|link| !link.connection.is_alive()) {
            control.link = None;
            let candidates = self.candidates();
            let next = control.next.checked_rem(candidates.len());
            let (node, address) = next
                .and_then(|next| candidates.get(next))
                .ok_or(Trouble::NotNow("no address is known"))?;
            control.next = control.next.wrapping_add(1);
            let conduct = &self.config().conduct;
            control.link = Some(Link::open(self, conduct, *node, address, attempts).await?);
        }
        Ok(control.link.as_ref().expect("opened above"))
    }
}
