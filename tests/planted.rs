//! Each bug planted in the embedded broker is reported under a name of its *must* column, and no
//! other bad name than those of its row appears. `tests/simulation.rs` shows the other half: no
//! bug, many seeds, nothing found.
//!
//! `PLANTED_SEEDS=20 cargo test --test planted` runs more seeds of each.

mod support;

use std::process::Command;
use std::time::Duration;

use fencepost::broker::embedded::{Bug, TransactionVersion};
use fencepost::checker::Verdict;
use support::{World, history, verdict};

/// Bugs that this simulation cannot bring out: they take the wire history of a run, or consumers
/// that subscribe. Whole runs of the tool show them.
const BY_WHOLE_RUNS: &[Bug] = &[Bug::AcceptZombie, Bug::RewindGroup];

fn world(bug: Bug, seed: u64) -> World {
    World {
        nodes: 1 + (seed % 2) as usize * 2,
        transaction_version: TransactionVersion::Two,
        txn: true,
        bug: Some(bug),
        time_limit: Duration::from_millis(1500),
    }
}

fn named(verdict: &Verdict, names: &[&str]) -> bool {
    verdict.types.iter().any(|found| names.contains(&found.as_str()))
}

#[test]
fn each_planted_bug_is_reported_under_its_name() {
    let seeds = std::env::var("PLANTED_SEEDS").map_or(2, |n| n.parse().expect("a number"));
    let mut wrong = Vec::new();
    for &bug in Bug::ALL.iter().filter(|bug| !BY_WHOLE_RUNS.contains(bug)) {
        let mut found = 0;
        for seed in 0..seeds {
            let verdict = verdict(&history(&world(bug, seed), seed));
            found += u64::from(named(&verdict, bug.must()));
            let allowed = |name: &&String| {
                !bug.must().contains(&name.as_str()) && !bug.may_follow().contains(&name.as_str())
            };
            let others: Vec<&String> = verdict.bad_types.iter().filter(allowed).collect();
            if !others.is_empty() {
                wrong.push(format!("{} seed {seed}: also {others:?}", bug.name()));
            }
        }
        // Nine of ten, as chance decides whether a bug bites in a short run.
        if found * 10 < seeds * 9 {
            wrong.push(format!("{}: {found} of {seeds} seeds say {:?}", bug.name(), bug.must()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bugs_of_the_wire_and_of_groups_are_reported_by_whole_runs() {
    for bug in BY_WHOLE_RUNS {
        let store = tempfile::tempdir().expect("a folder");
        let output = Command::new(assert_cmd::cargo::cargo_bin!("fencepost"))
            .args(["test", "--time-limit", "4", "--final-time-limit", "10", "--bug", bug.name()])
            .args(["--output-format", "json", "--store"])
            .arg(store.path())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let verdict: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let names = |of: &str| -> Vec<String> {
            let list = verdict[of].as_array().expect("a list").iter();
            list.filter_map(|name| name.as_str().map(ToOwned::to_owned)).collect()
        };
        let types = names("types");
        assert!(types.iter().any(|t| bug.must().contains(&t.as_str())), "{bug:?}: {types:?}");
        let is_allowed = |t: &&String| {
            bug.must().contains(&t.as_str()) || bug.may_follow().contains(&t.as_str())
        };
        let bad = names("bad_types");
        assert!(bad.iter().all(|name| is_allowed(&name)), "{bug:?}: {bad:?}");
    }
}
