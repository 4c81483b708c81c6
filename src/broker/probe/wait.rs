//! Asks until a cluster is ready or its time is over.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Connection;
use super::question::{self, ApiVersions, KeyType, NotYet, api_versions};
use crate::broker::facts::{Facts, speaks_like};
use crate::broker::{BrokerError, LogTail, Node};

/// What a cluster must do to be ready, and how long it may take.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// How many nodes Metadata must list; where absent, one is enough.
    pub nodes_expected: Option<usize>,
    /// Whether a transactional id is initialised; that leaves an entry in the cluster's
    /// transaction state until it expires.
    pub transactions: bool,
    /// All together.
    pub timeout: Duration,
}

/// One round of questions may take this long before the next begins.
const ROUND_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(25);
/// Both as the id of a group nobody joins and as a transactional id nobody writes with.
const PROBE_ID: &str = "fencepost-probe";

/// Asks until every answer is good. `who` is named in the error.
///
/// # Errors
/// Where that takes longer than [`Readiness::timeout`]; the last answer is in the error.
pub async fn wait_until_ready(
    who: &str,
    bootstrap: &[Node],
    readiness: &Readiness,
) -> Result<Facts, BrokerError> {
    let mut last = "nothing was answered yet".to_owned();
    let answered = timeout(readiness.timeout, async {
        loop {
            for node in bootstrap {
                let silent = || NotYet::Silent { node: node.to_string() };
                let round = timeout(ROUND_TIMEOUT, ask_everything(node, readiness));
                match round.await.unwrap_or_else(|_| Err(silent())) {
                    Ok(facts) => return facts,
                    Err(not_yet) => last = not_yet.to_string(),
                }
            }
            sleep(PAUSE).await;
        }
    });
    let facts = answered.await.ok();
    facts.ok_or_else(|| BrokerError::TimedOut {
        who: who.to_owned(),
        doing: "become ready",
        timeout_s: readiness.timeout.as_secs(),
        last,
        log: LogTail::default(),
    })
}

/// All questions, once.
async fn ask_everything(node: &Node, readiness: &Readiness) -> Result<Facts, NotYet> {
    let versions = api_versions(node).await?;
    let mut connection = Connection::open(node).await?;
    let nodes = question::metadata(&mut connection, &versions).await?;
    let expected = readiness.nodes_expected.unwrap_or(1);
    if nodes.len() < expected {
        return Err(NotYet::Missing { listed: nodes.len(), expected });
    }
    for other in &nodes {
        api_versions(other).await?;
    }
    if readiness.transactions {
        ask_transaction_coordinator(&mut connection, &versions).await?;
    }
    ask_group_coordinator(&mut connection, &versions).await?;
    Ok(Facts {
        software: match speaks_like(&versions.ranges) {
            Some(release) => format!("a broker that speaks like Apache Kafka {release}"),
            None => "an unknown broker".to_owned(),
        },
        finalized_features: versions.finalized_features,
        api_versions: versions.ranges,
        nodes,
    })
}

async fn ask_transaction_coordinator(
    connection: &mut Connection,
    versions: &ApiVersions,
) -> Result<(), NotYet> {
    let transaction_coordinator =
        question::find_coordinator(connection, versions, KeyType::Transaction, PROBE_ID).await?;
    let mut connection = Connection::open(&transaction_coordinator).await?;
    question::init_producer_id(&mut connection, versions, PROBE_ID).await
}

async fn ask_group_coordinator(
    connection: &mut Connection,
    versions: &ApiVersions,
) -> Result<(), NotYet> {
    let group_coordinator =
        question::find_coordinator(connection, versions, KeyType::Group, PROBE_ID).await?;
    let mut connection = Connection::open(&group_coordinator).await?;
    question::heartbeat(&mut connection, versions, PROBE_ID).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::ids::NodeId;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// What a wait of a moment for a broker that answers every request with those bytes ends with.
    async fn last_word(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let broker = async {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut length = [0; 4];
                if stream.read_exact(&mut length).await.is_ok() {
                    let _ = stream.write_all(answer).await;
                }
            }
        };
        let node = Node { node_id: NodeId(1), host: "127.0.0.1".into(), port };
        let timeout = Duration::from_millis(200);
        let readiness = Readiness { nodes_expected: None, transactions: false, timeout };
        let bootstrap = [node];
        let error = tokio::select! {
            result = wait_until_ready("it", &bootstrap, &readiness) => result.expect_err("never"),
            () = broker => unreachable!("it accepts for ever"),
        };
        match error {
            BrokerError::TimedOut { last, .. } => last,
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn rubbish_is_waited_out_and_the_last_of_it_is_told() {
        for (answer, expected) in [
            (&[][..], "broke before the answer to ApiVersions"),
            (&[0xff; 8], "claims a length of -1 bytes"),
            (&[0x7f, 0xff, 0xff, 0xff], "claims a length of 2147483647 bytes"),
            (&[0, 0, 0, 2, 0, 0], "cannot be read"),
            (&[0, 0, 0, 4, 0, 0, 0, 9], "another correlation id"),
            (&[0, 0, 0, 6, 0, 0, 0, 1, 0, 41], "ApiVersions answers NOT_CONTROLLER"),
            (&[0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0x7f, 0xff, 0xff, 0xff], "cannot be read"),
        ] {
            let last = last_word(answer).await;
            assert!(last.contains(expected), "{last} after {answer:?}");
        }
    }
}
