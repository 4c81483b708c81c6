//! Connections to brokers by node, each knowing what its broker speaks.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::ids::NodeId;
use kafka_wire::{ApiKey, ErrorCode};

use super::attempt::{Attempt, Came, recorded};
use super::cluster::Cluster;
use super::policy::RetryPolicy;
use super::trouble::Trouble;
use crate::client::versions::{TransactionVersion, Versions};
use crate::client::{Conduct, Connection};

/// The version ApiVersions is asked at first: it brings the finalized features.
const API_VERSIONS: i16 = 3;

/// An open connection, and what its broker speaks.
pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) connection: Connection,
    pub(crate) versions: Arc<Versions>,
}

impl Link {
    /// Connects; asks for versions unless the broker's are known already.
    pub(crate) async fn open(
        cluster: &Cluster,
        conduct: &Conduct,
        node: NodeId,
        address: &str,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Self, Trouble> {
        let clock = cluster.clock();
        let api_key = ApiKey::API_VERSIONS;
        let connection = Connection::open(conduct, address).await.map_err(|fate| {
            // Shows as an ApiVersions that was not sent.
            let came = Came::from(&fate);
            let attempt = Attempt::begun(api_key, API_VERSIONS, node, clock.now_ns());
            attempts.push(Attempt { came: came.clone(), ..attempt });
            Trouble::Unanswered { api_key, came }
        })?;
        if let Some(versions) = cluster.versions(Some(node)) {
            return Ok(Self { node, connection, versions });
        }
        let mut asked = API_VERSIONS;
        loop {
            let call = Versions::ask(&connection, asked);
            let to = (api_key, asked, node);
            let versions = recorded(attempts, clock, to, call, |v: &Versions| v.error)
                .await
                .map_err(|came| Trouble::Unanswered { api_key, came })?;
            match versions.error {
                ErrorCode::NONE => {
                    let versions = Arc::new(versions);
                    cluster.learn_versions(node, &versions);
                    return Ok(Self { node, connection, versions });
                }
                // A broker older than that answers so in version 0 (KIP-511): asked again there.
                ErrorCode::UNSUPPORTED_VERSION if asked > 0 => asked = 0,
                code => return Err(Trouble::Answered { api_key, code }),
            }
        }
    }

    /// The version to speak.
    pub(crate) fn version(
        &self,
        api_key: ApiKey,
        transactions: TransactionVersion,
    ) -> Result<i16, Trouble> {
        self.versions.choose(api_key, transactions).ok_or(Trouble::NoVersion(api_key))
    }
}

/// One connection for each broker this client talks to.
pub(crate) struct Links {
    cluster: Cluster,
    conduct: Conduct,
    links: BTreeMap<NodeId, Link>,
}

impl Links {
    pub(crate) fn new(cluster: &Cluster, policy: RetryPolicy, client_id: Option<&str>) -> Self {
        let conduct = cluster.config().conduct.with_request_timeout(policy.request_timeout);
        let conduct = match client_id {
            Some(client_id) => conduct.with_client_id(client_id),
            None => conduct,
        };
        Self { cluster: cluster.clone(), conduct, links: BTreeMap::new() }
    }

    /// The connection to a broker where one is open.
    pub(crate) fn opened(&self, node: NodeId) -> Option<&Link> {
        self.links.get(&node).filter(|link| link.connection.is_alive())
    }

    /// The connection to a broker, opened where there is none.
    pub(crate) async fn to(
        &mut self,
        node: NodeId,
        attempts: &mut Vec<Attempt>,
    ) -> Result<&Link, Trouble> {
        if self.opened(node).is_none() {
            self.close(node);
            let address = self.cluster.address(node).ok_or_else(|| Trouble::Unanswered {
                api_key: ApiKey::METADATA,
                came: Came::NotSent(format!("node {node} has no known address").into()),
            })?;
            let link = Link::open(&self.cluster, &self.conduct, node, &address, attempts).await?;
            self.links.insert(node, link);
        }
        Ok(self.links.get(&node).expect("opened above"))
    }

    /// The connection to any broker: one that is open, else the first that opens.
    pub(crate) async fn any(&mut self, attempts: &mut Vec<Attempt>) -> Result<NodeId, Trouble> {
        if let Some(link) = self.links.values().find(|link| link.connection.is_alive()) {
            return Ok(link.node);
        }
        let brokers: Vec<_> = self.cluster.metadata().brokers.keys().copied().collect();
        let mut trouble = Trouble::NotNow("no broker is known");
        for node in brokers {
            match self.to(node, attempts).await {
                Ok(_) => return Ok(node),
                Err(other) => trouble = other,
            }
        }
        Err(trouble)
    }

    /// Closes a connection; what was unanswered on it is lost. The broker may come back as another
    /// version, so what it speaks is forgotten.
    pub(crate) fn close(&mut self, node: NodeId) {
        if self.links.remove(&node).is_some() {
            self.cluster.forget_versions(node);
        }
    }
}
