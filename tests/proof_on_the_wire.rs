//! What the exchanges of a run say of the anomalies that its operations show.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs::{self, File};
use std::sync::Arc;
use std::time::Duration;

use fencepost::broker::embedded::{Bug, TransactionVersion};
use fencepost::capture::PcapngTap;
use fencepost::checker::Verdict;
use fencepost::run::Plan;
use fencepost::run::judge::{Given, judge};
use support::{World, history_tapped};

/// A run with a bug, judged from its folder.
fn run(bug: Bug, seed: u64) -> Verdict {
    let world = World {
        nodes: 1,
        transaction_version: TransactionVersion::Two,
        txn: true,
        bug: Some(bug),
        time_limit: Duration::from_secs(1),
        rate_hz: None,
    };
    let folder = tempfile::tempdir().unwrap();
    let wire = folder.path().join("wire.pcapng");
    let open = Box::new(move |_| Ok(Box::new(File::create(&wire)?) as Box<_>));
    let tap = Arc::new(PcapngTap::new(open, u64::MAX).unwrap());
    let history = history_tapped(&world, seed, tap.clone());
    tap.finish().unwrap();
    fs::write(folder.path().join("history.jsonl"), history).unwrap();
    fs::write(folder.path().join("plan.toml"), Plan::default().to_toml()).unwrap();
    judge(&[folder.path().to_owned()], &Given::default()).unwrap()
}

/// Runs seeds until a bug bites; the cases of an anomaly then each tell all of that, in order.
fn tells(bug: Bug, anomaly: &str, parts: &[&str]) {
    for seed in 0..20 {
        let verdict = run(bug, seed);
        let Some(found) = verdict.anomalies.get(anomaly) else { continue };
        for case in &found.cases {
            let text = case.wire.join("\n");
            let mut rest = text.as_str();
            for part in parts {
                let at = rest.find(part);
                let at = at.unwrap_or_else(|| panic!("{part} of {anomaly} in {text}"));
                rest = &rest[at + part.len()..];
            }
            // What is said in words is named for machines.
            assert!(!case.exchanges.is_empty() && case.frames.len() > 1, "{case:?}");
            for exchange in &case.exchanges {
                let name = format!("{} of {}", exchange.correlation_id, exchange.connection);
                assert!(text.contains(&name), "{name} in {text}");
            }
        }
        return;
    }
    panic!("{} showed no {anomaly} in 20 seeds", bug.name());
}

#[test]
fn an_aborted_read_names_the_abort_and_the_fetch_that_showed_it() {
    let parts =
        ["Produce", "answered with offset", "EndTxn", "asked to abort", "Fetch", "returned it"];
    tells(Bug::DeliverAborted, "G1a", &parts);
}

#[test]
fn a_lost_write_names_its_acknowledgement_and_that_nothing_returned_it() {
    let parts =
        ["Produce", "answered with offset", "EndTxn", "to commit", "no Fetch here returned it"];
    tells(Bug::LoseAckedWrite, "lost-write", &parts);
}

#[test]
fn a_duplicate_names_both_fetched_offsets() {
    let parts = ["Produce", "Fetch", "returned it at offset", "Fetch", "returned it at offset"];
    tells(Bug::DuplicateOnRetry, "duplicate", &parts);
}

#[test]
fn a_phantom_was_produced_by_nobody() {
    tells(
        Bug::InventRecord,
        "phantom-read",
        &["no Produce here carried it", "Fetch", "returned it"],
    );
}
