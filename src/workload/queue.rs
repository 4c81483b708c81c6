//! Drives the queue workload: its main phase, and the final polls.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use super::final_polls::Reader;
use super::generator::{Generator, Key};
use super::options::QueueOptions;
use super::process::Actor;
use crate::client::cluster::TopicPartition;
use crate::history::Recorder;
use crate::pipeline::Cluster;
use crate::world::{Chance, Clock};

/// How much of a run should end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stop {
    /// Nothing.
    #[default]
    Nothing,
    /// The main phase; what was written is still read back.
    Main,
    /// The final polls too.
    FinalPolls,
}

/// Everything the processes of one run share.
pub struct Drive {
    /// What is asked of the workload.
    pub options: QueueOptions,
    /// The brokers, as applications see them.
    pub cluster: Arc<Cluster>,
    /// Who takes the operations.
    pub recorder: Arc<Recorder>,
    /// What time it is.
    pub clock: Clock,
    /// Where chance comes from.
    pub chance: Chance,
    /// How much of the run should end before its time.
    pub stop: watch::Receiver<Stop>,
    pub(super) generator: Mutex<Generator>,
    pub(super) next_transactional_id: AtomicU64,
    /// Topics that are known to exist.
    made: RwLock<BTreeSet<Arc<str>>>,
}

impl Drive {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(
        options: QueueOptions,
        cluster: Arc<Cluster>,
        recorder: Arc<Recorder>,
        (clock, chance): (Clock, Chance),
        stop: watch::Receiver<Stop>,
    ) -> Arc<Self> {
        let generator = Mutex::new(Generator::new(&options, &chance));
        Arc::new(Self {
            options,
            cluster,
            recorder,
            clock,
            chance,
            stop,
            generator,
            next_transactional_id: AtomicU64::new(0),
            made: RwLock::default(),
        })
    }

    /// The partition a key is: two keys share a topic, as in Jepsen's tests.
    #[must_use]
    pub fn partition(&self, key: Key) -> TopicPartition {
        TopicPartition {
            topic: format!("{}t{}", self.options.prefix, key / 2).into(),
            partition: (key % 2) as i32,
        }
    }

    /// The key a partition is; absent for partitions that are none of ours.
    #[must_use]
    pub fn key(&self, partition: &TopicPartition) -> Option<Key> {
        let number = partition.topic.strip_prefix(self.options.prefix.as_str())?;
        let topic: Key = number.strip_prefix('t')?.parse().ok()?;
        Some(topic * 2 + Key::from(partition.partition))
    }

    pub(super) fn with_generator<T>(&self, ask: impl FnOnce(&mut Generator) -> T) -> T {
        ask(&mut self.generator.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a topic is known to exist.
    pub(super) fn is_made(&self, topic: &str) -> bool {
        self.made.read().unwrap_or_else(PoisonError::into_inner).contains(topic)
    }

    pub(super) fn note_made(&self, topic: &Arc<str>) {
        self.made.write().unwrap_or_else(PoisonError::into_inner).insert(topic.clone());
    }

    /// Whether a phase should end: told to, or what is done can no longer be recorded.
    pub(super) fn is_over(&self, phase: Stop) -> bool {
        *self.stop.borrow() >= phase || self.recorder.has_failed()
    }
}

/// The main phase: all processes, until the time limit.
pub async fn drive(drive: &Arc<Drive>) {
    let deadline = tokio::time::Instant::now() + drive.options.time_limit;
    // A process in the middle of an operation ends it by its own timeouts.
    let slots = 0..drive.options.concurrency;
    together(slots.map(|slot| Actor::new(drive.clone(), slot, deadline).run())).await;
}

/// Reads everything back, several readers one beside the other, each all keys.
pub async fn read_back(drive: &Arc<Drive>) {
    let numbers = 0..drive.options.final_readers;
    together(numbers.map(|number| Reader::new(drive.clone(), number).run())).await;
}

/// Runs actors side by side on this thread until all have ended. One thread is enough: what they
/// do is wait for answers.
async fn together<F: Future<Output = ()> + 'static>(actors: impl Iterator<Item = F>) {
    let local = LocalSet::new();
    let mut running = JoinSet::new();
    for actor in actors {
        running.spawn_local_on(actor, &local);
    }
    local
        .run_until(async {
            while let Some(ended) = running.join_next().await {
                ended.expect("an actor does not panic");
            }
        })
        .await;
}

/// How long a failed attempt to open a client waits before the next.
pub(super) const REOPEN_PAUSE: Duration = Duration::from_millis(500);
