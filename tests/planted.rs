//! Each bug planted in the embedded broker is reported under a name of its *must* column, and no
//! other bad name than those of its row appears. `tests/simulation.rs` shows the other half: no
//! bug, many seeds, nothing found.
//!
//! `PLANTED_SEEDS=20 cargo test --test planted` runs more seeds of each.

#![allow(clippy::print_stderr, reason = "tests say what they found where asked")]

mod support;

use std::time::Duration;

use fencepost::broker::embedded::{Bug, TransactionVersion};
use fencepost::checker::Verdict;
use support::{World, recorded, verdict_of};

fn world(bug: Bug, seed: u64) -> World {
    // Groups take their time: members learn of a rebalance by heartbeats.
    let (time_limit, rate_hz) = match bug.provocation().subscribes {
        true => (Duration::from_secs(4), Some(250.0)),
        false => (Duration::from_secs(1), None),
    };
    World {
        nodes: 1 + (seed % 2) as usize * 2,
        transaction_version: TransactionVersion::Two,
        txn: true,
        bug: Some(bug),
        time_limit,
        rate_hz,
    }
}

fn is_named(verdict: &Verdict, bug: Bug) -> bool {
    let is_found = |name: &str| verdict.types.iter().any(|found| found.as_str() == name);
    bug.must().iter().any(|name| is_found(name)) && bug.also().iter().all(|name| is_found(name))
}

/// Bad names that the row of a bug does not have.
fn others(verdict: &Verdict, bug: Bug) -> Vec<&str> {
    let row = [bug.must(), bug.also(), bug.may_follow()].concat();
    let bad = verdict.bad_types.iter().map(String::as_str);
    bad.filter(|name| !row.contains(name)).collect()
}

/// Runs each bug over so many seeds; says what is wrong.
fn judged(bugs: &[Bug], seeds: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    for &bug in bugs {
        let mut found = 0;
        for seed in 0..seeds {
            let world = world(bug, seed);
            let rec = recorded(&world, seed);
            let verdict = verdict_of(&world, &rec);
            found += u64::from(is_named(&verdict, bug));
            if std::env::var_os("PLANTED_SHOW").is_some() {
                eprintln!(
                    "{} {seed}: {} ok; primary {:?}; bad {:?}; types {:?}",
                    bug.name(),
                    verdict.stats.outcomes.ok,
                    verdict.primary,
                    verdict.bad_types,
                    verdict.types
                );
            }
            let others = others(&verdict, bug);
            if !others.is_empty() {
                wrong.push(format!("{} seed {seed}: also {others:?}", bug.name()));
            }
        }
        // Nine of ten, as chance decides whether a bug bites in a short run.
        if found * 10 < seeds * 9 {
            let (must, also) = (bug.must(), bug.also());
            wrong.push(format!("{}: {found} of {seeds} seeds say {must:?} {also:?}", bug.name()));
        }
    }
    wrong
}

#[test]
fn each_planted_bug_is_reported_under_its_name() {
    let seeds = std::env::var("PLANTED_SEEDS").map_or(2, |n| n.parse().expect("a number"));
    let only = std::env::var("PLANTED_BUG").ok();
    let is_asked = |bug: &&Bug| only.as_ref().is_none_or(|name| name == bug.name());
    let bugs: Vec<Bug> = Bug::ALL.iter().filter(is_asked).copied().collect();
    let (one, other) = bugs.split_at(bugs.len() / 2);
    let wrong = std::thread::scope(|scope| {
        let beside = scope.spawn(|| judged(other, seeds));
        let mut wrong = judged(one, seeds);
        wrong.extend(beside.join().expect("no bug makes the judge panic"));
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
