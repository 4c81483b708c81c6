//! A whole cluster in memory: our client and the embedded broker over streams that cut and delay
//! what they carry, on paused time.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fencepost::broker::embedded::{Config, Embedded};
use fencepost::client::Connector;
use fencepost::client::transport::{Opened, Opening};
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
