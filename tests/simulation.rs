//! Whole runs on paused time: client, pipeline and embedded broker over in-memory streams that
//! cut and delay what they carry. The same seed gives the same history, byte for byte; without a
//! planted bug every seed is valid.
//!
//! `SIMULATION_SEEDS=1000 cargo test --test simulation` runs more seeds, `SIMULATION_SEED=n` begins
//! at another (a commit's hash, in CI).

mod support;

use std::time::Duration;

use fencepost::broker::embedded::TransactionVersion;
use fencepost::checker::Validity;
use support::{World, history, recorded, verdict_of};

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
        bug: None,
        time_limit: Duration::from_millis(500),
        rate_hz: None,
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
        let world = world_of(seed);
        let verdict = verdict_of(&world, &recorded(&world, seed));
        operations += verdict.stats.outcomes.ok;
        assert_eq!(verdict.valid, Validity::True, "seed {seed}: {:?}", verdict.bad_types);
        assert!(verdict.stats.outcomes.ok > 20, "seed {seed} did nothing");
    }
    assert!(operations > 0);
}
