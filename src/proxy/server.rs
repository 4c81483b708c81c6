//! A running proxy: its listeners, workers and rules.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::doors::{Door, Doors, Listen};
use super::endpoint::Endpoint;
use super::errand::Holes;
use super::rule::Board;
use super::tally::{Open, Tally, Total};
use super::tls::{TowardBrokers, TowardClients};
use super::trouble::Listener;
use super::worker::{self, Hand};
use crate::history::tap::{Connection, Tap};
use crate::world::Clock;

/// What is asked of a proxy.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The brokers to begin with; each gets a listener, in this order.
    pub bootstrap: Vec<Endpoint>,
    /// Where to listen.
    pub listen: Listen,
    /// How many threads serve connections; at least one.
    pub workers: usize,
    /// What it never exceeds.
    pub limits: Limits,
    /// The number of the first connection in histories and captures.
    pub first_connection: Connection,
    /// On which sides TLS is spoken.
    pub tls: Tls,
    /// Who is told of connections that came to nothing.
    pub troubles: Listener,
}

/// On which sides TLS is spoken; absent means plain TCP.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Toward every broker.
    pub toward_brokers: Option<TowardBrokers>,
    /// Toward every client.
    pub toward_clients: Option<TowardClients>,
}

impl Plan {
    /// A proxy in front of these brokers, on free loopback ports.
    #[must_use]
    pub fn to(bootstrap: Vec<Endpoint>) -> Self {
        Self {
            bootstrap,
            listen: Listen::default(),
            workers: 2,
            limits: Limits::default(),
            first_connection: Connection(0),
            tls: Tls::default(),
            troubles: Listener::default(),
        }
    }
}

/// What a proxy never exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest frame that is gathered; larger ones stream through, unseen by rules that need
    /// their body, and with the names of brokers that they may have.
    pub gathered_bytes_max: usize,
    /// How long reaching a broker may take.
    pub connect_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a broker may take to answer what was kept back until its client had gone.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            gathered_bytes_max: 32 * 1024 * 1024,
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(5),
        }
    }
}

/// Why a proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No broker was named.
    #[error("a proxy needs the address of at least one broker")]
    NoBroker,
    /// No port to listen on.
    #[error("the proxy cannot listen on {0}")]
    Listen(String, #[source] io::Error),
    /// The system gives no thread or no event queue.
    #[error("the proxy cannot start a worker")]
    Worker(#[source] io::Error),
}

/// What all workers of a proxy share.
pub(super) struct Shared {
    pub(super) doors: Doors,
    pub(super) board: Arc<Board>,
    pub(super) tap: Option<Arc<dyn Tap>>,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) tally: Tally,
    pub(super) holes: Holes,
    pub(super) tls: Tls,
    pub(super) troubles: Listener,
    next_connection: AtomicU64,
}

impl Shared {
    pub(super) fn next_connection(&self) -> Connection {
        Connection(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }
}

/// A running proxy. Dropped, it is gone, connections and all.
pub struct Proxy {
    shared: Arc<Shared>,
    bootstrap: Vec<Arc<Door>>,
    stopping: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

/// Starts a proxy: it listens when this returns.
///
/// What passes is told to the tap, if there is one, from the client's side: its bytes as they came,
/// and what it was given as that was written. What rules do is told to the tap and to the board's
/// own watcher.
///
/// # Errors
/// Where the system gives no port or no thread.
pub fn start(
    plan: Plan,
    board: Arc<Board>,
    tap: Option<Arc<dyn Tap>>,
    clock: Clock,
) -> Result<Proxy, ProxyError> {
    if plan.bootstrap.is_empty() {
        return Err(ProxyError::NoBroker);
    }
    let at = format!("{}:{}", plan.listen.address, plan.listen.port);
    let shared = Arc::new(Shared {
        doors: Doors::new(plan.listen),
        board,
        tap,
        clock,
        limits: plan.limits,
        tally: Tally::default(),
        holes: Holes::default(),
        tls: plan.tls,
        troubles: plan.troubles,
        next_connection: AtomicU64::new(plan.first_connection.0),
    });
    let open = |broker| shared.doors.open(broker);
    let doors = plan.bootstrap.into_iter().map(open).collect::<io::Result<Vec<_>>>();
    let bootstrap = doors.map_err(|error| ProxyError::Listen(at, error))?;
    let stopping = CancellationToken::new();
    let mut proxy = Proxy { shared, bootstrap, stopping, threads: Vec::new() };
    let (hands, queues): (Vec<Hand>, Vec<_>) =
        (0..plan.workers.max(1)).map(|_| worker::queue()).unzip();
    for (number, queue) in queues.into_iter().enumerate() {
        // The first one accepts for all.
        let hands = if number == 0 { hands.clone() } else { Vec::new() };
        let (shared, stopping) = (proxy.shared.clone(), proxy.stopping.clone());
        let work = worker::start(number, shared, queue, hands, stopping);
        proxy.threads.push(work.map_err(ProxyError::Worker)?);
    }
    Ok(proxy)
}

impl Proxy {
    /// `host:port,...` of the brokers it was started with, as clients take it.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let doors: Vec<_> =
            self.bootstrap.iter().map(|door| door.advertised().to_string()).collect();
        doors.join(",")
    }

    /// Its rules: add, remove, release, reset, list.
    #[must_use]
    pub fn rules(&self) -> &Arc<Board> {
        &self.shared.board
    }

    /// Its listeners and the brokers behind them, in the order of their opening.
    #[must_use]
    pub fn doors(&self) -> Vec<Arc<Door>> {
        self.shared.doors.all()
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> Vec<Open> {
        self.shared.tally.open()
    }

    /// What went through so far.
    #[must_use]
    pub fn total(&self) -> Total {
        self.shared.tally.total()
    }

    /// Closes every listener and connection, and says what went through.
    pub fn stop(mut self) -> Total {
        self.end();
        self.shared.tally.total()
    }

    fn end(&mut self) {
        self.stopping.cancel();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so.
            drop(thread.join());
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("bootstrap", &self.bootstrap()).finish_non_exhaustive()
    }
}
