//! The embedded broker as a system under test: a thread of its own with its own runtime, so that
//! client and broker have a core each.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

use kafka_wire::ids::NodeId;
use tokio::sync::{mpsc, oneshot};

use super::embedded::{Config, Embedded, StartError};
use super::{BrokerError, Cluster, Facts, LogTail, Node, Step};
use crate::world::{Chance, Clock};

const WHO: &str = "the embedded broker";

/// The embedded broker.
pub struct InProcess {
    config: Config,
    clock: Clock,
    chance: Chance,
    running: Mutex<Option<Running>>,
}

/// The thread and what it said when it was up.
struct Running {
    commands: mpsc::Sender<Command>,
    nodes: Vec<Node>,
    facts: Facts,
}

enum Command {
    Kill(NodeId, oneshot::Sender<()>),
    Start(NodeId, oneshot::Sender<Result<(), StartError>>),
}

impl InProcess {
    /// A broker of that configuration; nothing listens yet.
    #[must_use]
    pub fn new(config: Config, clock: Clock, chance: Chance) -> Self {
        Self { config, clock, chance, running: Mutex::new(None) }
    }

    fn with_running<T>(&self, ask: impl FnOnce(&Running) -> T) -> Option<T> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(ask)
    }

    async fn launch(&self) -> Result<(), BrokerError> {
        if self.with_running(|_| ()).is_some() {
            return Ok(());
        }
        let (config, clock, chance) = (self.config.clone(), self.clock.clone(), self.chance);
        let (up, is_up) = oneshot::channel();
        let (commands, queue) = mpsc::channel(16);
        thread::Builder::new()
            .name("embedded-broker".into())
            .spawn(move || live(config, clock, chance, up, queue))
            .map_err(|error| died("start", error.to_string()))?;
        let (nodes, facts) = is_up
            .await
            .map_err(|_| died("start", "its thread ended".into()))?
            .map_err(|error| died("start", with_source(&error)))?;
        let running = Running { commands, nodes, facts };
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(())
    }

    async fn command<T>(
        &self,
        doing: &'static str,
        make: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, BrokerError> {
        let gone = || died(doing, "it does not run".into());
        let commands = self.with_running(|r| r.commands.clone()).ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        commands.send(make(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

fn died(doing: &'static str, status: String) -> BrokerError {
    BrokerError::Died { who: WHO.into(), doing, status, log: LogTail::default() }
}

/// An error with what caused it: the thread's own error cannot be kept as a source.
fn with_source(error: &StartError) -> String {
    let (StartError::Listen(source) | StartError::Data(source)) = error;
    format!("{error}: {source}")
}

type Up = oneshot::Sender<Result<(Vec<Node>, Facts), StartError>>;

/// The broker's thread: ends when nobody can command it any more.
fn live(config: Config, clock: Clock, chance: Chance, up: Up, mut queue: mpsc::Receiver<Command>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has what a runtime takes");
    runtime.block_on(async move {
        let broker = match Embedded::start(config, clock, chance).await {
            Ok(broker) => broker,
            Err(error) => {
                drop(up.send(Err(error)));
                return;
            }
        };
        let nodes = nodes(&broker);
        let facts = facts(&broker, &nodes);
        drop(up.send(Ok((nodes, facts))));
        let mut dead = BTreeSet::new();
        while let Some(command) = queue.recv().await {
            match command {
                Command::Kill(node, done) => {
                    broker.kill(node.0);
                    dead.insert(node);
                    // Whoever asked may have stopped waiting.
                    done.send(()).ok();
                }
                Command::Start(node, done) => {
                    let started =
                        if dead.remove(&node) { broker.restart(node.0).await } else { Ok(()) };
                    drop(done.send(started));
                }
            }
        }
    });
}

fn nodes(broker: &Embedded) -> Vec<Node> {
    let numbered = broker.addresses().into_iter().zip(1..);
    numbered
        .map(|(address, number)| Node {
            node_id: NodeId(number),
            host: address.ip().to_string(),
            port: address.port(),
        })
        .collect()
}

fn facts(broker: &Embedded, nodes: &[Node]) -> Facts {
    let features = broker.features().into_iter().filter(|(_, level)| *level > 0);
    Facts {
        software: format!("embedded broker, as Apache Kafka {}", broker.version()),
        finalized_features: features.map(|(name, level)| (name.to_owned(), level)).collect(),
        nodes: nodes.to_vec(),
        ..Facts::default()
    }
}

impl Cluster for InProcess {
    fn nodes(&self) -> Vec<Node> {
        self.with_running(|running| running.nodes.clone()).unwrap_or_default()
    }

    fn is_ours(&self) -> bool {
        true
    }

    /// Its listeners are made here: only then are its addresses known.
    fn provision(&self) -> Step<'_> {
        Box::pin(self.launch())
    }

    fn start(&self, node_id: NodeId) -> Step<'_> {
        Box::pin(async move {
            let started = self.command("start", |reply| Command::Start(node_id, reply)).await?;
            started.map_err(|error| died("start", with_source(&error)))
        })
    }

    fn ready(&self) -> Step<'_, Facts> {
        Box::pin(async {
            let facts = self.with_running(|running| running.facts.clone());
            facts.ok_or_else(|| died("become ready", "it does not run".into()))
        })
    }

    fn stop(&self, node_id: NodeId) -> Step<'_> {
        self.kill(node_id)
    }

    fn kill(&self, node_id: NodeId) -> Step<'_> {
        Box::pin(self.command("end", move |reply| Command::Kill(node_id, reply)))
    }

    fn pause(&self, _: NodeId) -> Step<'_> {
        Box::pin(async { Err(refused("pause")) })
    }

    fn resume(&self, _: NodeId) -> Step<'_> {
        Box::pin(async { Err(refused("resume")) })
    }

    fn logs(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

fn refused(doing: &'static str) -> BrokerError {
    let reason = "it lives in this process".to_owned();
    BrokerError::Refused { who: WHO.into(), doing, reason }
}
