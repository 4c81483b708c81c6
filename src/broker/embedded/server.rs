//! Nodes with their listeners: started, stopped, killed, started again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use kafka_protocol::protocol::StrBytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::cluster::{Cluster, NodeInfo};
use super::config::{Config, TransactionVersion};
use super::node::{Node, Shared};
use super::{background, cluster_api, connection};
use crate::world::{Chance, Clock};

/// Why the broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No port to listen on.
    #[error("the embedded broker cannot listen on loopback")]
    Listen(#[source] io::Error),
    /// The data directory cannot be used.
    #[error("the embedded broker cannot use its data directory")]
    Data(#[source] io::Error),
}

/// A running broker of one or more nodes. Dropped, it is gone, connections and all.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    nodes: Vec<Listening>,
    /// Owns the background work.
    _background: JoinSet<()>,
}

/// A node and what runs for it.
#[derive(Debug)]
struct Listening {
    node: Arc<Node>,
    address: Option<SocketAddr>,
    /// The accept loop, which owns the tasks of its connections.
    tasks: Mutex<JoinSet<()>>,
}

impl Embedded {
    /// Starts the broker with one loopback port a node.
    ///
    /// # Errors
    /// Where the kernel gives no port, or the data directory cannot be used.
    pub async fn start(config: Config, clock: Clock, chance: Chance) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for _ in 0..config.nodes.max(1) {
            let listener =
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(StartError::Listen)?;
            listeners.push(listener);
        }
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::Listen)?;
        let advertised: Vec<_> =
            addresses.iter().map(|address| (address.ip().to_string(), address.port())).collect();
        let mut broker = Self::without_listeners(config, clock, chance, &advertised);
        if let Some(directory) = broker.shared.config.data_dir.clone() {
            broker.shared.lock().keep_in(&directory)?;
        }
        for ((listening, listener), address) in
            broker.nodes.iter_mut().zip(listeners).zip(addresses)
        {
            listening.address = Some(address);
            listening.accept(listener);
        }
        Ok(broker)
    }

    /// Makes the broker without a socket: one node for each address, which Metadata lists as it
    /// is. Whoever connects is handed to [`Embedded::serve`]. To be called inside a runtime.
    #[must_use]
    pub fn without_listeners(
        config: Config,
        clock: Clock,
        chance: Chance,
        advertised: &[(String, u16)],
    ) -> Self {
        let mut cluster = Cluster::new(&config, &chance);
        cluster.transactions.two = config.transaction_version == TransactionVersion::Two;
        for (nth, (host, port)) in advertised.iter().enumerate() {
            cluster.nodes.push(NodeInfo {
                node_id: nth as i32 + 1,
                host: StrBytes::from(host.clone()),
                port: i32::from(*port),
                alive: true,
            });
        }
        let node_ids: Vec<i32> = cluster.nodes.iter().map(|node| node.node_id).collect();
        let shared = Arc::new(Shared::new(config, clock, cluster));
        let nodes = node_ids
            .into_iter()
            .map(|node_id| Listening {
                node: Arc::new(Node { node_id, shared: shared.clone() }),
                address: None,
                tasks: Mutex::new(JoinSet::new()),
            })
            .collect();
        let mut background = JoinSet::new();
        background.spawn(background::work(shared.clone()));
        Self { shared, nodes, _background: background }
    }

    /// Where the nodes listen, by node id from 1.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().filter_map(|listening| listening.address).collect()
    }

    /// `host:port,...` of all nodes.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        let all: Vec<_> = self.addresses().iter().map(ToString::to_string).collect();
        all.join(",")
    }

    /// The version it behaves like.
    #[must_use]
    pub fn version(&self) -> &'static str {
        "4.3.0"
    }

    /// Finalized features and their levels, as ApiVersions tells them.
    #[must_use]
    pub fn features(&self) -> Vec<(&'static str, i16)> {
        cluster_api::features(self.shared.config.transaction_version)
            .map(|(name, _, level)| (name, level))
            .to_vec()
    }

    /// Serves one connection to a node until either side ends it, over any byte stream.
    pub fn serve<IO>(
        &self,
        node_id: i32,
        io: IO,
    ) -> impl Future<Output = ()> + Send + 'static + use<IO>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let node = self.find(node_id).map(|listening| listening.node.clone());
        async move {
            if let Some(node) = node
                && let Some(_admitted) = node.shared.admit()
            {
                connection::serve(node, io).await;
            }
        }
    }

    /// Kills a node: its connections break, its port is closed, others take over what it led.
    pub fn kill(&self, node_id: i32) {
        if let Some(listening) = self.find(node_id) {
            *listening.tasks.lock().expect("no task panics in here") = JoinSet::new();
            let mut cluster = self.shared.lock();
            cluster.forget_unkept(node_id);
            cluster.set_alive(node_id, false);
        }
    }

    /// Starts a killed node again, at its old address. Without listeners it only lives again.
    ///
    /// # Errors
    /// Where the port is taken by now.
    pub async fn restart(&self, node_id: i32) -> Result<(), StartError> {
        let Some(listening) = self.find(node_id) else { return Ok(()) };
        if let Some(address) = listening.address {
            let listener = TcpListener::bind(address).await.map_err(StartError::Listen)?;
            listening.accept(listener);
        }
        self.shared.lock().set_alive(node_id, true);
        Ok(())
    }

    fn find(&self, node_id: i32) -> Option<&Listening> {
        self.nodes.iter().find(|listening| listening.node.node_id == node_id)
    }
}

impl Listening {
    fn accept(&self, listener: TcpListener) {
        let node = self.node.clone();
        self.tasks.lock().expect("no task panics in here").spawn(accept(node, listener));
    }
}

/// Accepts connections for a node and owns their tasks.
async fn accept(node: Arc<Node>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        // A connection that broke before it was accepted, or no descriptor left: go on.
        let Ok((stream, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        let Some(admitted) = node.shared.admit() else { continue };
        let _ = stream.set_nodelay(true);
        let node = node.clone();
        connections.spawn(async move {
            let _admitted = admitted;
            connection::serve(node, stream).await;
        });
    }
}
