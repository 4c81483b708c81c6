//! Turns one connection's bytes into requests, and answers into bytes: one task, one at a time.
//!
//! As in Kafka, the next request of a connection is looked at when the one before is answered, so
//! answers leave in order and a peer that does not read stops being read. At rest a connection
//! holds no buffer.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use kafka_wire::frame::{Scan, scan};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::call::{Answer, Later, Occasion};
use super::node::Node;
use super::outbox::Outbox;

/// Answers leave when this much waits, though more requests are at hand.
const FLUSH_BYTES: usize = 256 * 1024;
const CHUNK_BYTES_MIN: usize = 1024;
const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// What is read ahead at most while a request waits for its answer.
const READ_AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Why a connection ends. Neither is anybody's error.
enum Ended {
    /// The peer went, or sent what no frame can be.
    ByPeer,
    /// The broker closes it, as Kafka answers what it does not understand.
    ByBroker,
}

struct Connection<IO> {
    io: IO,
    inbox: BytesMut,
    outbox: Outbox,
    chunk_bytes: usize,
}

/// Serves one connection until either side ends it.
pub(super) async fn serve<IO>(node: Arc<Node>, io: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection {
        io,
        inbox: BytesMut::new(),
        outbox: Outbox::default(),
        chunk_bytes: CHUNK_BYTES_MIN,
    };
    if let Err(Ended::ByBroker) = connection.run(&node).await {
        // What was answered before still goes out; whether it arrives is the peer's affair.
        let _ = connection.flush().await;
        let _ = connection.io.shutdown().await;
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    async fn run(&mut self, node: &Arc<Node>) -> Result<(), Ended> {
        loop {
            while let Some(frame) = self.next_frame(node.config().frame_bytes_max)? {
                match node.call(frame, &mut self.outbox) {
                    Answer::Sent | Answer::Silent => {}
                    Answer::Close => return Err(Ended::ByBroker),
                    Answer::Later(later) => self.wait(node, later).await?,
                }
                if self.outbox.len() >= FLUSH_BYTES {
                    self.flush().await?;
                }
            }
            self.flush().await?;
            self.fill(node.config().frame_bytes_max).await?;
        }
    }

    fn next_frame(&mut self, frame_bytes_max: usize) -> Result<Option<bytes::Bytes>, Ended> {
        match scan(&self.inbox, frame_bytes_max) {
            Scan::Frame { end } => {
                let mut frame = self.inbox.split_to(end).freeze();
                frame.advance(4);
                Ok(Some(frame))
            }
            Scan::Incomplete { .. } => Ok(None),
            Scan::BadLength(_) => Err(Ended::ByBroker),
        }
    }

    /// Waits until the answer is there, time is up, or the peer is gone.
    async fn wait(&mut self, node: &Arc<Node>, mut later: Later) -> Result<(), Ended> {
        self.flush().await?;
        loop {
            let occasion = {
                let now = node.clock().now_ns();
                let left = later.deadline_ns.map(|at| Duration::from_nanos(at.saturating_sub(now)));
                let signal = later.signal.clone();
                let room = self.inbox.len() < READ_AHEAD_BYTES_MAX;
                tokio::select! {
                    biased;
                    () = signal.notified() => Occasion::Signal,
                    () = sleep_or_never(left) => Occasion::Deadline,
                    ended = self.read_ahead(), if room => { ended?; continue }
                }
            };
            match (later.resume)(node, &mut self.outbox, occasion) {
                None => {}
                Some(Answer::Close) => return Err(Ended::ByBroker),
                Some(Answer::Later(next)) => later = next,
                Some(Answer::Sent | Answer::Silent) => return Ok(()),
            }
        }
    }

    async fn read_ahead(&mut self) -> Result<(), Ended> {
        self.inbox.reserve(CHUNK_BYTES_MIN);
        match self.io.read_buf(&mut self.inbox).await {
            Ok(0) | Err(_) => Err(Ended::ByPeer),
            Ok(_) => Ok(()),
        }
    }

    /// Reads what is there, at least one byte. Room grows with what has come, never with what is
    /// only announced, and is given back while nothing comes.
    async fn fill(&mut self, frame_bytes_max: usize) -> Result<(), Ended> {
        let announced = match scan(&self.inbox, frame_bytes_max) {
            Scan::Incomplete { needed } => needed.saturating_sub(self.inbox.len()),
            _ => 0,
        };
        let room = self.chunk_bytes.max(announced.min(self.inbox.len()));
        let Self { io, inbox, .. } = self;
        let read = std::future::poll_fn(|cx| {
            inbox.reserve(room);
            let polled = pin!(io.read_buf(inbox)).poll(cx);
            if polled.is_pending() && inbox.is_empty() {
                *inbox = BytesMut::new();
            }
            match polled {
                Poll::Ready(Ok(n)) => Poll::Ready(n),
                Poll::Ready(Err(_)) => Poll::Ready(0),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        if read == 0 {
            return Err(Ended::ByPeer);
        }
        if read >= self.chunk_bytes {
            self.chunk_bytes = (self.chunk_bytes * 2).min(CHUNK_BYTES_MAX);
        } else if read < self.chunk_bytes / 8 {
            self.chunk_bytes = (self.chunk_bytes / 2).max(CHUNK_BYTES_MIN);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        while self.outbox.len() > 0 {
            match self.io.write(self.outbox.front()).await {
                Ok(0) | Err(_) => return Err(Ended::ByPeer),
                Ok(n) => self.outbox.written(n),
            }
        }
        // Transports with a buffer of their own want to be told.
        self.io.flush().await.map_err(|_| Ended::ByPeer)
    }
}

async fn sleep_or_never(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}
