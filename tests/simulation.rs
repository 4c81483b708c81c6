//! Whole runs on paused time: client, pipeline and embedded broker over in-memory streams that
//! cut and delay what they carry. The same seed gives the same history, byte for byte; without a
//! planted bug every seed is valid.
//!
//! `SIMULATION_SEEDS=1000 cargo test --test simulation` runs more seeds, `SIMULATION_SEED=n` begins
//! at another (a commit's hash, in CI).

mod support;

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fencepost::broker::embedded::{Config, TransactionVersion};
use fencepost::checker::{self, Expectation, Validity, Verdict};
use fencepost::client::Conduct;
use fencepost::client::fetch::IsolationLevel;
use fencepost::client::producer::Acks;
use fencepost::history::Recorder;
use fencepost::history::read::{Format, read_history};
use fencepost::history::tap::NoTap;
use fencepost::pipeline::{AutoOffsetReset, Cluster, ClusterConfig, RetryPolicy};
use fencepost::run::clock;
use fencepost::workload::{self, Drive, QueueOptions, Stop, SubVia};
use fencepost::world::Chance;
use support::InMemory;

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

/// What is simulated; everything else follows from the seed.
#[derive(Clone)]
struct World {
    nodes: usize,
    transaction_version: TransactionVersion,
    txn: bool,
}

fn options(world: &World, retry: RetryPolicy) -> QueueOptions {
    QueueOptions {
        concurrency: 5,
        time_limit: Duration::from_millis(500),
        final_time_limit: Duration::from_secs(60),
        rate_hz: None,
        txn: world.txn,
        abort_p: 0.1,
        sub_p: 1.0 / 16.0,
        sub_via: vec![SubVia::Assign],
        max_writes_per_key: 64,
        active_keys: 4,
        crash_interval: Some(Duration::from_millis(400)),
        poll_wait: Duration::ZERO,
        final_readers: 1,
        one_in_flight: false,
        prefix: String::new(),
        isolation: IsolationLevel::ReadCommitted,
        acks: Acks::All,
        idempotence: true,
        auto_offset_reset: AutoOffsetReset::Earliest,
        retry,
        auto_commit: false,
        transaction_timeout_ms: 1000,
    }
}

/// One run: its history as it was written.
fn history(world: &World, seed: u64) -> Vec<u8> {
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
            ..Config::default()
        };
        let broker = InMemory::new(config, clock.clone(), chance);
        let retry = RetryPolicy::default();
        let cluster = Cluster::connect(ClusterConfig {
            bootstrap: vec!["node-1:9092".into()],
            conduct: Conduct::new(broker, Arc::new(NoTap), clock.clone()),
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
        let options = options(world, retry);
        let drive = Drive::new(options, Arc::new(cluster), recorder, (clock, chance), stopped);
        workload::drive(&drive).await;
        workload::read_back(&drive).await;
        drop(drive);
        std::mem::take(&mut *kept.0.lock().unwrap_or_else(PoisonError::into_inner))
    })
}

fn verdict(history: &[u8]) -> Verdict {
    let recorded =
        read_history(history, Format::Jsonl, NonZeroUsize::MIN).expect("our own history reads");
    assert!(recorded.observations.is_empty() && recorded.stopped.is_none());
    checker::check_on(1, &recorded.history, &Expectation::default())
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn world_of(seed: u64) -> World {
    World {
        nodes: [1, 3][(seed % 2) as usize],
        transaction_version: match seed / 2 % 2 {
            0 => TransactionVersion::Two,
            _ => TransactionVersion::One,
        },
        txn: seed % 8 != 7,
    }
}

#[test]
fn the_same_seed_gives_the_same_history_byte_for_byte() {
    for seed in [1, 2, 3, 7] {
        let (first, second) = (history(&world_of(seed), seed), history(&world_of(seed), seed));
        assert!(first.len() > 5_000, "seed {seed}: {} bytes", first.len());
        assert!(first == second, "seed {seed} did not repeat");
    }
    assert!(history(&world_of(1), 1) != history(&world_of(1), 9), "the seed changes nothing");
}

#[test]
fn every_seed_is_valid() {
    let begin = number("SIMULATION_SEED", 0);
    let mut operations = 0;
    for seed in begin..begin + number("SIMULATION_SEEDS", 16) {
        let verdict = verdict(&history(&world_of(seed), seed));
        operations += verdict.stats.outcomes.ok;
        assert_eq!(verdict.valid, Validity::True, "seed {seed}: {:?}", verdict.bad_types);
        assert!(verdict.stats.outcomes.ok > 20, "seed {seed} did nothing");
    }
    assert!(operations > 0);
}
