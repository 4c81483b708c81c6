//! What a rule began on one connection and a worker sees to apart from it: a frame delivered over
//! a connection of its own, the end of a black hole.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::doors::Door;
use super::lane::until_over;
use super::opening::to_broker;
use super::rule::{Fired, Phase, Ticket};
use super::server::Shared;
use crate::history::tap::{Connection, Direction};

/// How long answers that nobody gets are read, so that the broker is not cut off in the middle.
const LISTENED: Duration = Duration::from_secs(5);

/// Something to be done apart.
#[derive(Debug)]
pub(super) enum Errand {
    /// Bytes are delivered over a connection of their own.
    Deliver { door: Arc<Door>, bytes: Vec<u8>, after: Duration, fired: Fired },
    /// A black hole passes again when it is time.
    EndHole { id: u64, fired: Fired, until: Option<Instant> },
}

impl Errand {
    pub(super) async fn run(self, shared: Arc<Shared>) {
        match self {
            Self::EndHole { id, fired, until } => {
                until_over(&shared.board, fired.ticket, until).await;
                shared.holes.remove(id);
                shared.board.acted(&fired, Phase::Ended, "");
            }
            Self::Deliver { door, bytes, after, fired } => {
                tokio::time::sleep(after).await;
                let done = deliver(&shared, &door, fired.connection, &bytes).await;
                let detail = done.err().map(|error| error.to_string()).unwrap_or_default();
                if fired.lasts() {
                    shared.board.acted(&fired, Phase::Ended, &detail);
                }
            }
        }
    }
}

async fn deliver(
    shared: &Shared,
    door: &Door,
    of: Connection,
    bytes: &[u8],
) -> std::io::Result<()> {
    let (mut stream, _) = to_broker(door, shared, of).await?;
    stream.write_all(bytes).await?;
    stream.flush().await?;
    let mut nowhere = tokio::io::sink();
    let listen = tokio::io::copy(&mut stream, &mut nowhere);
    // Whether it answers in time or not, it was delivered.
    drop(tokio::time::timeout(LISTENED, listen).await);
    Ok(())
}

/// A broker of which nothing passes.
#[derive(Debug, Clone)]
pub(super) struct Hole {
    pub(super) door: Arc<Door>,
    /// Absent means both.
    pub(super) way: Option<Direction>,
    pub(super) ticket: Ticket,
    pub(super) until: Option<Instant>,
}

impl Hole {
    /// How much longer.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

/// All black holes of the moment.
#[derive(Debug, Default)]
pub(super) struct Holes {
    any: AtomicBool,
    next: AtomicU64,
    list: Mutex<Vec<(u64, Hole)>>,
}

impl Holes {
    /// Adds one and says its number.
    pub(super) fn add(&self, hole: Hole) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().push((id, hole));
        self.any.store(true, Ordering::Release);
        id
    }

    pub(super) fn remove(&self, id: u64) {
        let mut list = self.lock();
        list.retain(|(other, _)| *other != id);
        self.any.store(!list.is_empty(), Ordering::Release);
    }

    /// One over this direction of this broker.
    pub(super) fn over(&self, door: &Arc<Door>, way: Direction) -> Option<Hole> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let is_over = |hole: &&Hole| {
            Arc::ptr_eq(&hole.door, door)
                && hole.way.is_none_or(|holed| holed == way)
                && hole.until.is_none_or(|until| until > Instant::now())
        };
        self.lock().iter().map(|(_, hole)| hole).find(is_over).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Hole)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
