//! A cluster that already runs: nothing is provisioned, started or hurt.
//!
//! Asking whether it is ready creates what those questions create on any cluster: the internal
//! topics of the coordinators where they were never used, and, with transactions, one
//! transactional id named `fencepost-probe`. No topic, no group.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kafka_wire::ids::NodeId;

use super::probe::{Readiness, wait_until_ready};
use super::{BrokerError, Cluster, Facts, Node, Step};

/// The cluster behind `--bootstrap-server`.
#[derive(Debug)]
pub struct External {
    who: String,
    bootstrap: Vec<Node>,
    /// As Metadata listed them, once asked.
    listed: Mutex<Option<Vec<Node>>>,
    readiness: Readiness,
}

impl External {
    /// The cluster at `HOST:PORT,HOST:PORT`. `transactions` says whether the run will use them.
    ///
    /// # Errors
    /// Where an address has no host or no port.
    pub fn new(
        bootstrap_server: &str,
        transactions: bool,
        timeout: Duration,
    ) -> Result<Self, BrokerError> {
        let addresses = bootstrap_server.split(',').map(str::trim).filter(|text| !text.is_empty());
        let bootstrap = addresses.map(parse_address).collect::<Result<Vec<_>, _>>()?;
        if bootstrap.is_empty() {
            return Err(bad_address(bootstrap_server));
        }
        Ok(Self {
            who: format!("the cluster at {bootstrap_server}"),
            bootstrap,
            listed: Mutex::new(None),
            readiness: Readiness { nodes_expected: None, transactions, timeout },
        })
    }

    fn refuse(&self, doing: &'static str) -> Step<'_> {
        let reason = "it was already running and is not ours".to_owned();
        let refused = BrokerError::Refused { who: self.who.clone(), doing, reason };
        Box::pin(async move { Err(refused) })
    }
}

/// `host:port` or `[v6]:port`. Which node it is, only Metadata knows: until then it is -1.
fn parse_address(text: &str) -> Result<Node, BrokerError> {
    let parsed = text.rsplit_once(':').and_then(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // Colons without brackets do not tell where the port begins.
        let host = bare.or_else(|| (!host.contains(':')).then_some(host))?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty()).then(|| Node { node_id: NodeId(-1), host: host.to_owned(), port })
    });
    parsed.ok_or_else(|| bad_address(text))
}

fn bad_address(text: &str) -> BrokerError {
    BrokerError::Refused {
        who: "--bootstrap-server".into(),
        doing: "be understood",
        reason: format!("{text:?} is not HOST:PORT,HOST:PORT"),
    }
}

impl Cluster for External {
    fn nodes(&self) -> Vec<Node> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.as_ref().unwrap_or(&self.bootstrap).clone()
    }

    fn is_ours(&self) -> bool {
        false
    }

    fn provision(&self) -> Step<'_> {
        self.refuse("be provisioned")
    }

    fn start(&self, _: NodeId) -> Step<'_> {
        self.refuse("be started")
    }

    fn ready(&self) -> Step<'_, Facts> {
        Box::pin(async move {
            let facts = wait_until_ready(&self.who, &self.bootstrap, &self.readiness).await?;
            *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts.nodes.clone());
            Ok(facts)
        })
    }

    fn stop(&self, _: NodeId) -> Step<'_> {
        self.refuse("be stopped")
    }

    fn kill(&self, _: NodeId) -> Step<'_> {
        self.refuse("be killed")
    }

    fn pause(&self, _: NodeId) -> Step<'_> {
        self.refuse("be paused")
    }

    fn resume(&self, _: NodeId) -> Step<'_> {
        self.refuse("be resumed")
    }

    fn logs(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        External::new(text, true, Duration::from_secs(1)).ok().map(|cluster| cluster.bootstrap())
    }

    #[test]
    fn addresses_are_taken_as_clients_write_them() {
        assert_eq!(parse("a:1, b:2"), Some("a:1,b:2".into()));
        assert_eq!(parse("[::1]:9092"), Some("[::1]:9092".into()));
        for bad in ["", "a", "a:", ":1", "a:0", "a:65536", "::1:9092", "a:1,b"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_not_ours_is_not_hurt() {
        let cluster = External::new("a:1", true, Duration::from_secs(1)).expect("an address");
        let error = cluster.kill(NodeId(1)).await.expect_err("refused");
        assert_eq!(
            error.to_string(),
            "the cluster at a:1 could not be killed: it was already running and is not ours"
        );
    }
}
