//! What every system under test can be asked to do, so that a run treats them alike.

use std::fmt;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;

use kafka_wire::ids::NodeId;

use super::{BrokerError, Facts};

/// Something a cluster does, boxed so that the trait is object-safe.
pub type Step<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T, BrokerError>> + Send + 'a>>;

/// One broker of a cluster, and where clients reach it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Its `node_id` in Metadata.
    pub node_id: NodeId,
    /// The host it advertises.
    pub host: String,
    /// The port it advertises.
    pub port: u16,
}

impl fmt::Display for Node {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A system under test. Shared by the workload's addresses, the nemesis and the recorder, so every
/// method takes `&self`; steps on one node exclude each other, steps on different nodes do not.
pub trait Cluster: Send + Sync {
    /// Its brokers. Of an external cluster: those named by the user until [`Cluster::ready`] has
    /// asked it, those it lists from then on.
    fn nodes(&self) -> Vec<Node>;

    /// Whether its processes are ours to start and to hurt. Where not, only [`Cluster::nodes`],
    /// [`Cluster::ready`] and [`Cluster::logs`] do anything; the other steps are refused.
    fn is_ours(&self) -> bool;

    /// Gets what starting needs: programs, configuration, formatted storage.
    fn provision(&self) -> Step<'_>;

    /// Starts a node that does not run; one that runs already is left alone.
    fn start(&self, node_id: NodeId) -> Step<'_>;

    /// Waits until every node serves, and with them metadata, transactions and groups.
    fn ready(&self) -> Step<'_, Facts>;

    /// Ends a node in good order, and by force where that takes too long.
    fn stop(&self, node_id: NodeId) -> Step<'_>;

    /// Ends a node at once, as a power cut ends its process.
    fn kill(&self, node_id: NodeId) -> Step<'_>;

    /// Freezes a node: its sockets stay open and nobody answers.
    fn pause(&self, node_id: NodeId) -> Step<'_>;

    /// Lets a frozen node go on.
    fn resume(&self, node_id: NodeId) -> Step<'_>;

    /// The files its nodes log into.
    fn logs(&self) -> Vec<PathBuf>;

    /// All addresses, as clients take them: `host:port,host:port`.
    fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes().iter().map(Node::to_string).collect();
        addresses.join(",")
    }
}

/// Provisions a cluster, starts all of it and waits until it is ready. Of a cluster that is not
/// ours, only the last.
///
/// # Errors
/// Where a node does not start or does not become ready; what was started still runs then.
pub async fn bring_up(cluster: &dyn Cluster) -> Result<Facts, BrokerError> {
    if cluster.is_ours() {
        cluster.provision().await?;
        all(cluster.nodes().iter().map(|node| cluster.start(node.node_id)).collect()).await?;
    }
    cluster.ready().await
}

/// Stops every node of a cluster that is ours.
///
/// # Errors
/// Where a node could not be stopped; the others are stopped all the same.
pub async fn tear_down(cluster: &dyn Cluster) -> Result<(), BrokerError> {
    if !cluster.is_ours() {
        return Ok(());
    }
    all(cluster.nodes().iter().map(|node| cluster.stop(node.node_id)).collect()).await
}

/// Takes all steps at the same time, waits for every one, and answers the first error.
pub(crate) async fn all(steps: Vec<Step<'_>>) -> Result<(), BrokerError> {
    let mut steps: Vec<Option<Step<'_>>> = steps.into_iter().map(Some).collect();
    let mut first_error = None;
    poll_fn(|context| {
        for slot in &mut steps {
            let Some(step) = slot else { continue };
            if let Poll::Ready(result) = step.as_mut().poll(context) {
                *slot = None;
                if let Err(error) = result {
                    first_error.get_or_insert(error);
                }
            }
        }
        if steps.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    first_error.map_or(Ok(()), Err)
}

/// Waits for the first of several futures and drops the others; for ever where there is none.
pub(crate) async fn first<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> T {
    poll_fn(|context| {
        let ready = |poll: Poll<T>| if poll.is_ready() { Some(poll) } else { None };
        let mut polls = futures.iter_mut().map(|future| future.as_mut().poll(context));
        polls.find_map(ready).unwrap_or(Poll::Pending)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_clients_take_them() {
        let node = |host: &str| Node { node_id: NodeId(1), host: host.into(), port: 9092 };
        assert_eq!(node("127.0.0.1").to_string(), "127.0.0.1:9092");
        assert_eq!(node("::1").to_string(), "[::1]:9092");
    }

    #[tokio::test]
    async fn all_steps_are_taken_and_the_first_error_is_answered() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let refused = |doing: &'static str| BrokerError::Refused {
            who: "it".into(),
            doing,
            reason: "no".into(),
        };
        let waits: Step<'_> = Box::pin(async {
            receiver.await.expect("the later step sends");
            Err(refused("second"))
        });
        let fails: Step<'_> = Box::pin(async { Err(refused("first")) });
        let sends: Step<'_> = Box::pin(async {
            sender.send(()).expect("the earlier step waits");
            Ok(())
        });
        let error = all(vec![waits, fails, sends]).await.expect_err("two of three fail");
        assert!(matches!(error, BrokerError::Refused { doing: "first", .. }));
    }
}
