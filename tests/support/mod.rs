//! A whole cluster in memory: our client and the embedded broker over streams that cut and delay
//! what they carry, on paused time; and whole runs of the queue on it.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fencepost::broker::embedded::{Bug, Config, Embedded, Provocation, TransactionVersion};
use fencepost::capture::{AssemblerOptions, PcapngTap, read_captures};
use fencepost::checker::wire::WireCheck;
use fencepost::checker::{self, Expectation, SubVia as Bound, Verdict};
use fencepost::client::fetch::IsolationLevel;
use fencepost::client::producer::Acks;
use fencepost::client::transport::{Opened, Opening};
use fencepost::client::{Conduct, Connector};
use fencepost::history::Recorder;
use fencepost::history::facts::{FactOptions, FactSink};
use fencepost::history::read::{Format, read_history};
use fencepost::history::tap::{Connection, Direction, NoTap, Tap};
use fencepost::pipeline::{AutoOffsetReset, Cluster, ClusterConfig, GroupProtocol, RetryPolicy};
use fencepost::run::clock;
use fencepost::workload::{self, Drive, QueueOptions, Stop, SubVia};
use fencepost::world::{Chance, Clock};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::Sleep;

/// How long a segment may take to arrive. Timers have a resolution of a millisecond.
const DELAY_MS_MAX: u64 = 3;

/// One end of a stream that hands out what arrives in pieces of random size, a little later.
struct Segmented {
    inner: DuplexStream,
    random: ChaCha8Rng,
    arriving: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Segmented {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(arriving) = &mut this.arriving {
            ready!(arriving.as_mut().poll(context));
        }
        // Most segments are large: a byte at a time would test little but patience.
        let segment = match this.random.random_range(0..4u8) {
            0 => this.random.random_range(1..=16),
            _ => this.random.random_range(16..=4096),
        };
        let mut bytes = [0; 4096];
        let mut part = ReadBuf::new(&mut bytes[..segment.min(out.remaining())]);
        ready!(Pin::new(&mut this.inner).poll_read(context, &mut part))?;
        out.put_slice(part.filled());
        let delay = Duration::from_millis(this.random.random_range(0..=DELAY_MS_MAX));
        this.arriving = Some(Box::pin(tokio::time::sleep(delay)));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Segmented {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// The embedded broker behind a connector instead of sockets.
pub(crate) struct InMemory {
    broker: Embedded,
    chance: Chance,
    connections: AtomicU64,
    serving: Mutex<JoinSet<()>>,
}

impl InMemory {
    /// A broker of that configuration, its nodes at `node-N:9092`. Inside a runtime.
    pub(crate) fn new(config: Config, clock: Clock, chance: Chance) -> Arc<Self> {
        let advertised: Vec<(String, u16)> =
            (1..=config.nodes).map(|n| (format!("node-{n}"), 9092)).collect();
        let broker = Embedded::without_listeners(config, clock, chance, &advertised);
        Arc::new(Self {
            broker,
            chance,
            connections: AtomicU64::new(0),
            serving: Mutex::new(JoinSet::new()),
        })
    }
}

impl InMemory {
    /// Kills a node with all its connections and starts it again.
    async fn restart(&self, node_id: i32) {
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = JoinSet::new();
        self.broker.kill(node_id);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.broker.restart(node_id).await.expect("no listener to make");
    }
}

impl Connector for InMemory {
    fn connect<'a>(&'a self, address: &'a str) -> Opening<'a> {
        Box::pin(async move {
            let node = address.strip_prefix("node-").and_then(|rest| rest.strip_suffix(":9092"));
            let node_id: i32 =
                node.and_then(|number| number.parse().ok()).ok_or(io::ErrorKind::NotFound)?;
            let number = self.connections.fetch_add(1, Ordering::Relaxed);
            let (ours, theirs) = tokio::io::duplex(16 << 10);
            let end = |inner, side: &str| Segmented {
                inner,
                random: self.chance.stream(&format!("transport/{number}/{side}")),
                arriving: None,
            };
            let served = self.broker.serve(node_id, end(theirs, "broker"));
            let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
            while serving.try_join_next().is_some() {}
            serving.spawn(served);
            let address = |host: u8, port| SocketAddr::from(([10, 0, 0, host], port));
            Ok(Opened {
                transport: Box::new(end(ours, "client")),
                client: address(100, 10_000 + (number % 50_000) as u16),
                broker: address(node_id as u8, 9092),
            })
        })
    }
}

/// A sink whose bytes can be had after the run.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tap for which no two things happen at once: time stands still while there is work, and packets
/// of one moment have no order.
pub(crate) struct Ticking {
    tap: Arc<PcapngTap>,
    last_ns: AtomicU64,
}

impl Ticking {
    pub(crate) fn new(tap: Arc<PcapngTap>) -> Self {
        Self { tap, last_ns: AtomicU64::new(0) }
    }

    fn after(&self, time_ns: u64) -> u64 {
        let last = self.last_ns.load(Ordering::Relaxed);
        let next = time_ns.max(last + 1);
        self.last_ns.store(next, Ordering::Relaxed);
        next
    }
}

impl Tap for Ticking {
    fn opened(&self, which: Connection, client: SocketAddr, broker: SocketAddr, time_ns: u64) {
        self.tap.opened(which, client, broker, self.after(time_ns));
    }

    fn bytes(&self, which: Connection, direction: Direction, time_ns: u64, bytes: &[u8]) {
        self.tap.bytes(which, direction, self.after(time_ns), bytes);
    }

    fn action(&self, which: Connection, direction: Direction, time_ns: u64, action: &str) {
        self.tap.action(which, direction, self.after(time_ns), action);
    }

    fn closed(&self, which: Connection, by: Direction, time_ns: u64) {
        self.tap.closed(which, by, self.after(time_ns));
    }
}

/// What is simulated; everything else follows from the seed.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) nodes: usize,
    pub(crate) transaction_version: TransactionVersion,
    pub(crate) txn: bool,
    pub(crate) bug: Option<Bug>,
    pub(crate) time_limit: Duration,
    pub(crate) rate_hz: Option<f64>,
}

impl World {
    fn provocation(&self) -> Provocation {
        self.bug.map(Bug::provocation).unwrap_or_default()
    }
}

fn options(world: &World, retry: RetryPolicy) -> QueueOptions {
    let provocation = world.provocation();
    let bound = if provocation.subscribes { SubVia::Subscribe } else { SubVia::Assign };
    let final_s = provocation.final_time_limit_s.unwrap_or(60);
    QueueOptions {
        concurrency: 5,
        time_limit: world.time_limit,
        final_time_limit: Duration::from_secs(final_s.into()),
        rate_hz: world.rate_hz,
        txn: world.txn && !provocation.without_txn,
        abort_p: 0.1,
        sub_p: 1.0 / 16.0,
        sub_via: vec![bound],
        max_writes_per_key: 64,
        active_keys: 4,
        // A group waits for members that crashed until their sessions end: longer than a run.
        crash_interval: (!provocation.subscribes).then_some(Duration::from_millis(400)),
        zombies: provocation.zombies,
        poll_wait: Duration::ZERO,
        final_readers: 1,
        one_in_flight: false,
        prefix: String::new(),
        isolation: IsolationLevel::ReadCommitted,
        acks: Acks::All,
        idempotence: true,
        auto_offset_reset: AutoOffsetReset::Earliest,
        group_protocol: GroupProtocol::Classic,
        retry,
        auto_commit: false,
        transaction_timeout_ms: 1000,
    }
}

/// What a run left behind.
pub(crate) struct Run {
    /// Its operations, as they were written.
    pub(crate) history: Vec<u8>,
    /// Its packets, where they were recorded.
    wire: Vec<u8>,
}

impl Run {
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }
}
/// One run: its history as it was written.
pub(crate) fn history(world: &World, seed: u64) -> Vec<u8> {
    history_tapped(world, seed, Arc::new(NoTap))
}

/// One run with everything said and heard.
pub(crate) fn recorded(world: &World, seed: u64) -> Run {
    let kept = Kept::default();
    let open = kept.clone();
    let tap = PcapngTap::new(Box::new(move |_| Ok(Box::new(open.clone()))), u64::MAX);
    let tap = Arc::new(tap.expect("memory takes every write"));
    let ticking = Ticking::new(tap.clone());
    let history = history_tapped(world, seed, Arc::new(ticking));
    tap.finish().expect("memory takes every write");
    let wire = std::mem::take(&mut *kept.0.lock().unwrap_or_else(PoisonError::into_inner));
    Run { history, wire }
}

/// The same; what our client says and hears goes to a tap.
pub(crate) fn history_tapped(world: &World, seed: u64, tap: Arc<dyn Tap>) -> Vec<u8> {
    history_of(world, options(world, RetryPolicy::default()), seed, tap)
}

/// The same with consumers in a group, which come and go.
pub(crate) fn history_of_group(
    world: &World,
    group_protocol: GroupProtocol,
    seed: u64,
    tap: Arc<dyn Tap>,
) -> Vec<u8> {
    let options = QueueOptions {
        sub_p: 0.2,
        sub_via: vec![SubVia::Subscribe],
        crash_interval: None,
        group_protocol,
        ..options(world, RetryPolicy::default())
    };
    history_of(world, options, seed, tap)
}

fn history_of(world: &World, options: QueueOptions, seed: u64, tap: Arc<dyn Tap>) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (clock, chance) = (clock::simulated(), Chance::from_seed(seed));
        let config = Config {
            nodes: world.nodes,
            transaction_version: world.transaction_version,
            auto_create_topics: false,
            bug: world.bug,
            ..Config::default()
        };
        let broker = InMemory::new(config, clock.clone(), chance);
        let retry = options.retry;
        let cluster = Cluster::connect(ClusterConfig {
            bootstrap: vec!["node-1:9092".into()],
            conduct: Conduct::new(broker.clone(), tap, clock.clone()),
            retry,
            partitions: 2,
            replication_factor: -1,
            force_transaction_version: None,
        })
        .await
        .expect("the broker answers");
        let kept = Kept::default();
        let recorder = Arc::new(Recorder::new(clock.clone(), Box::new(kept.clone())));
        let (_stop, stopped) = tokio::sync::watch::channel(Stop::Nothing);
        let drive = Drive::new(options, Arc::new(cluster), recorder, (clock, chance), stopped);
        let restart = async {
            if world.provocation().restart {
                tokio::time::sleep(world.time_limit / 2).await;
                broker.restart(1).await;
            }
        };
        tokio::join!(workload::drive(&drive), restart);
        workload::read_back(&drive).await;
        drop(drive);
        std::mem::take(&mut *kept.0.lock().unwrap_or_else(PoisonError::into_inner))
    })
}

/// The verdict on operations and packets together, as a run of the tool has it.
pub(crate) fn verdict_of(world: &World, run: &Run) -> Verdict {
    let sub_via = if world.provocation().subscribes { Bound::SUBSCRIBE } else { Bound::ASSIGN };
    let expected = Expectation { sub_via, ..Expectation::default() };
    let mut verdict = judge(&run.history, &expected);
    let sink = FactSink::new(WireCheck::new(8), FactOptions { keep_records: false });
    let read: Box<dyn io::BufRead + Send> = Box::new(io::Cursor::new(run.wire.clone()));
    let (sink, _) = read_captures(vec![read], AssemblerOptions::default(), sink)
        .expect("our own capture reads");
    verdict.add_wire(sink.finish().finish());
    verdict
}

fn judge(history: &[u8], expected: &Expectation) -> Verdict {
    let recorded =
        read_history(history, Format::Jsonl, NonZeroUsize::MIN).expect("our own history reads");
    assert!(recorded.stopped.is_none());
    checker::check_on(1, &recorded.history, expected)
}
