//! A run is judged the same live and from its packets alone, in every mode of the workload and
//! with every planted bug.
//!
//! A live run is judged from its folder: operations and packets. A capture of the same run holds
//! the packets only. What the packets show by themselves, the invariants of the wire, must be
//! found equally often in both, and a healthy run must be found healthy in both.
//!
//! With `FENCEPOST_LIVE` set, where the process has CAP_NET_RAW and tcpdump is installed, real
//! tcpdump records runs over real sockets, and its file is held against our own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fencepost::broker::embedded::{Bug, TransactionVersion};
use fencepost::capture::PcapngTap;
use fencepost::checker::{Validity, Verdict, wire::Invariant};
use fencepost::run::Plan;
use fencepost::run::judge::{Given, judge};
use serde_json::Value;
use support::{Ticking, World, history_tapped};

/// Runs a world and leaves behind what a run folder has.
fn run(world: &World, seed: u64, folder: &Path) {
    let wire = folder.join("wire.pcapng");
    let open = Box::new(move |_| Ok(Box::new(File::create(&wire)?) as Box<_>));
    let tap = Arc::new(PcapngTap::new(open, u64::MAX).unwrap());
    let history = history_tapped(world, seed, Arc::new(Ticking::new(tap.clone())));
    tap.finish().unwrap();
    fs::write(folder.join("history.jsonl"), history).unwrap();
    fs::write(folder.join("plan.toml"), Plan::default().to_toml()).unwrap();
}

/// How often each invariant of the wire was found broken.
fn broken(verdict: &Verdict) -> BTreeMap<String, u64> {
    let of_wire = |name: &str| Invariant::ALL.iter().any(|invariant| invariant.name() == name);
    let found = verdict.anomalies.iter().filter(|(name, _)| of_wire(name));
    found.map(|(name, found)| (name.clone(), found.count)).collect()
}

/// What logs prove of operations, whoever reads them.
const OPERATIONS: &[&str] = &[
    "duplicate",
    "G1a",
    "inconsistent-offsets",
    "lost-write",
    "torn-transaction",
    "zombie-write",
    "consumer-offset-regression",
];

/// The names of [`OPERATIONS`] that a verdict has.
fn shown(verdict: &Verdict) -> BTreeSet<&str> {
    let names = verdict.bad_types.iter().map(String::as_str);
    names.filter(|name| OPERATIONS.contains(name)).collect()
}

/// Judges a run folder and its packets alone; what differs, if anything does.
fn difference(folder: &Path, what: &str) -> Option<String> {
    let live = judge(&[folder.to_owned()], &Given::default()).unwrap();
    let replayed = judge(&[folder.join("wire.pcapng")], &Given::default()).unwrap();
    let same = broken(&live) == broken(&replayed) && live.wire == replayed.wire;
    // What only the operations show may be missing from an open world; nothing may be invented.
    let invented = live.valid == Validity::True && replayed.valid != Validity::True;
    let lost = !broken(&live).is_empty() && replayed.valid != Validity::False;
    // Values are told apart by who wrote them too, so one that was written down under another
    // sequence or epoch is another: operations show payloads only.
    let (live_shown, replayed_shown) = (shown(&live), shown(&replayed));
    let mut beyond = replayed_shown.difference(&live_shown);
    let invented = invented || beyond.any(|name| *name != "inconsistent-offsets");
    (!same || invented || lost).then(|| {
        format!(
            "{what}: live {:?} {:?}, replayed {:?} {:?}",
            live.valid, live.bad_types, replayed.valid, replayed.bad_types
        )
    })
}

fn world(bug: Option<Bug>) -> World {
    World {
        nodes: 1,
        transaction_version: TransactionVersion::Two,
        txn: true,
        bug,
        time_limit: Duration::from_millis(500),
        rate_hz: None,
    }
}

#[test]
fn every_mode_of_the_workload_is_judged_the_same_from_its_packets() {
    let mut wrong = Vec::new();
    for (seed, transaction_version) in
        [TransactionVersion::One, TransactionVersion::Two].into_iter().enumerate()
    {
        for txn in [false, true] {
            for nodes in [1, 3] {
                let folder = tempfile::tempdir().unwrap();
                let world = World { nodes, transaction_version, txn, ..world(None) };
                run(&world, seed as u64, folder.path());
                let what = format!("{transaction_version:?}, txn {txn}, {nodes} nodes");
                wrong.extend(difference(folder.path(), &what));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_planted_bug_is_judged_the_same_from_its_packets() {
    let mut wrong = Vec::new();
    let mut on_the_wire = 0;
    let mut operations = BTreeSet::new();
    for &bug in Bug::ALL {
        let folder = tempfile::tempdir().unwrap();
        run(&world(Some(bug)), 1, folder.path());
        wrong.extend(difference(folder.path(), bug.name()));
        let found = judge(&[folder.path().join("wire.pcapng")], &Given::default()).unwrap();
        on_the_wire += u64::from(!broken(&found).is_empty());
        operations.extend(shown(&found).into_iter().map(str::to_owned));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Most bugs break an invariant of the wire, or this test would compare nothing.
    assert!(on_the_wire * 2 > Bug::ALL.len() as u64, "{on_the_wire} of {}", Bug::ALL.len());
    // And logs prove what operations would show.
    for name in ["duplicate", "G1a", "lost-write", "torn-transaction"] {
        assert!(operations.contains(name), "{name} is not in {operations:?}");
    }
}

/// Runs the tool with tcpdump beside; the run folder and its results.
fn run_with_tcpdump(store: &Path, arguments: &[&str]) -> (PathBuf, Value) {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("fencepost"))
        .args(["test", "--time-limit", "2", "--capture", "tcpdump", "--store"])
        .arg(store)
        .args(arguments)
        .output()
        .unwrap();
    let code = output.status.code().unwrap();
    assert!(code < 2, "{}", String::from_utf8_lossy(&output.stderr));
    let folder = fs::canonicalize(store.join("latest")).unwrap();
    let results = fs::read(folder.join("results.json")).unwrap();
    (folder, serde_json::from_slice(&results).unwrap())
}

#[test]
fn tcpdump_sees_what_we_record() {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return;
    }
    let modes = [&[][..], &["--no-txn"], &["--old-style"], &["--sub-via", "assign,subscribe"]];
    let mut runs: Vec<Vec<&str>> = modes.iter().map(|mode| mode.to_vec()).collect();
    runs.extend(Bug::ALL.iter().map(|bug| vec!["--bug", bug.name()]));
    let mut wrong = Vec::new();
    for arguments in runs {
        let store = tempfile::tempdir().unwrap();
        let (folder, results) = run_with_tcpdump(store.path(), &arguments);
        let read = |name| judge(&[folder.join(name)], &Given::default()).unwrap();
        let [own, tcpdump] = ["wire.pcapng", "tcpdump.pcap"].map(read);
        let is_judged = broken(&tcpdump)
            .iter()
            .all(|(name, count)| results["anomalies"][name]["count"] == *count)
            && results["wire"] == serde_json::to_value(&tcpdump.wire).unwrap();
        // Packets pass a little later or earlier than we write them, and order counts only where
        // it is certain: so the same is found, not always as often.
        let exchanges = |verdict: &Verdict| verdict.wire.as_ref().map(|wire| wire.exchanges);
        let same = broken(&own).keys().eq(broken(&tcpdump).keys())
            && exchanges(&own) == exchanges(&tcpdump);
        if !is_judged || !same {
            wrong.push(format!("{arguments:?}: {:?}, {:?}", broken(&own), broken(&tcpdump)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
