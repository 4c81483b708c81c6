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
#![allow(clippy::print_stderr, reason = "tests say what they found where asked")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fencepost::broker::embedded::{Bug, TransactionVersion};
use fencepost::capture::PcapngTap;
use fencepost::checker::anomaly::{Premise, find_anomaly};
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

/// The bad names that anybody's traffic can show: those that do not rest on knowing all that was
/// sent and read.
fn shown(verdict: &Verdict) -> BTreeSet<&str> {
    let is_open =
        |name: &&str| find_anomaly(name).is_some_and(|row| row.premise != Premise::ClosedWorld);
    verdict.bad_types.iter().map(String::as_str).filter(is_open).collect()
}

/// A name that one of the two verdicts on a bug has alone, and why.
struct Exception {
    bug: Bug,
    name: &'static str,
    by: By,
}

/// Which verdict has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Operations,
    Packets,
}

#[rustfmt::skip]
const EXCEPTIONS: &[Exception] = &[
    // Packets show who wrote a value, in which place of its sequence; operations show payloads only.
    // One that was written down under another sequence or epoch is another value at its offset.
    Exception { bug: Bug::RenumberSequence, name: "inconsistent-offsets", by: By::Packets },
    Exception { bug: Bug::WriteOldEpoch, name: "inconsistent-offsets", by: By::Packets },
    // The consumer itself asks for the records again, as it was told by its group: G3.
    Exception { bug: Bug::RewindGroup, name: "nonmonotonic-poll", by: By::Operations },
    // The marker that aborts has the epoch that an administrator's has (KIP-664, KIP-890): that it is
    // none of the coordinator's is P6, and nobody promised that it would not come.
    Exception { bug: Bug::LateEndTxnDecidesNext, name: "lost-write", by: By::Operations },
    // Who polled to the end knows that nothing more came. Packets prove it a minute after the
    // timeout of the transaction, which is longer than the run.
    Exception { bug: Bug::HangTransaction, name: "hanging-transaction", by: By::Operations },
];

/// Judges a run folder and its packets alone; what differs, if anything does.
fn difference(folder: &Path, bug: Option<Bug>, what: &str) -> Option<String> {
    let live = judge(&[folder.to_owned()], &Given::default()).unwrap();
    let replayed = judge(&[folder.join("wire.pcapng")], &Given::default()).unwrap();
    if std::env::var_os("FENCEPOST_SHOW").is_some() {
        eprintln!("{what}: live {:?}; packets {:?}", live.bad_types, replayed.bad_types);
    }
    let is_excepted = |name: &str, by: By| {
        let mut exceptions = EXCEPTIONS.iter();
        exceptions.any(|known| Some(known.bug) == bug && known.name == name && known.by == by)
    };
    let but_for = |of: &Verdict, by: By| -> BTreeSet<String> {
        let names = shown(of).into_iter().filter(|name| !is_excepted(name, by));
        names.map(str::to_owned).collect()
    };
    let (expected, found) = (but_for(&live, By::Operations), but_for(&replayed, By::Packets));
    let same =
        broken(&live) == broken(&replayed) && live.wire == replayed.wire && expected == found;
    // What is bad for no other reason than a closed world is passed over in an open one.
    let expected = if expected.is_empty() { Validity::True } else { Validity::False };
    (!same || replayed.valid != expected).then(|| {
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
                wrong.extend(difference(folder.path(), None, &what));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judged_with(bugs: &[Bug]) -> Vec<String> {
    let judged = |&bug: &Bug| {
        let folder = tempfile::tempdir().unwrap();
        run(&world(Some(bug)), 1, folder.path());
        difference(folder.path(), Some(bug), bug.name())
    };
    bugs.iter().filter_map(judged).collect()
}

#[test]
fn every_planted_bug_is_judged_the_same_from_its_packets() {
    let (some, others) = Bug::ALL.split_at(Bug::ALL.len() / 2);
    let wrong = std::thread::scope(|scope| {
        let beside = scope.spawn(|| judged_with(others));
        let mut wrong = judged_with(some);
        wrong.extend(beside.join().unwrap());
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs that go on at a time: each waits more than it works.
const AT_A_TIME: usize = 8;

/// Runs the tool with tcpdump beside; the run folder and its results.
fn run_with_tcpdump(store: &Path, arguments: &[&str]) -> (PathBuf, Value) {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("fencepost"))
        .args([
            "test",
            "--time-limit",
            "1",
            "--final-time-limit",
            "8",
            "--rate",
            "400",
            "--capture",
            "tcpdump",
            "--store",
        ])
        .arg(store)
        .args(arguments)
        .output()
        .unwrap();
    let code = output.status.code().unwrap();
    assert!(code < 2, "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let folder = fs::canonicalize(store.join("latest")).unwrap();
    let results = fs::read(folder.join("results.json")).unwrap();
    (folder, serde_json::from_slice(&results).unwrap())
}

/// How our own capture, tcpdump's and the verdict of a run differ, if they do.
fn difference_to_tcpdump(arguments: &[&str]) -> Option<String> {
    let store = tempfile::tempdir().unwrap();
    let (folder, results) = run_with_tcpdump(store.path(), arguments);
    let read = |name| judge(&[folder.join(name)], &Given::default()).unwrap();
    let [own, tcpdump] = ["wire.pcapng", "tcpdump.pcap"].map(read);
    let is_judged =
        broken(&tcpdump).iter().all(|(name, count)| results["anomalies"][name]["count"] == *count)
            && results["wire"] == serde_json::to_value(&tcpdump.wire).unwrap();
    // Packets pass a little later or earlier than we write them, and order counts only where
    // it is certain: so the same is found, not always as often.
    let exchanges = |verdict: &Verdict| verdict.wire.as_ref().map(|wire| wire.exchanges);
    let same = own.bad_types == tcpdump.bad_types && exchanges(&own) == exchanges(&tcpdump);
    if std::env::var_os("FENCEPOST_SHOW").is_some() {
        let live = results["bad_types"].to_string();
        let (own, tcpdump) = (&own.bad_types, &tcpdump.bad_types);
        eprintln!("{arguments:?}: live {live}; own {own:?}; tcpdump {tcpdump:?}");
    }
    (!is_judged || !same).then(|| {
        let counts = [&own, &tcpdump].map(exchanges);
        format!("{arguments:?}: {:?}, {:?}, {counts:?}", own.bad_types, tcpdump.bad_types)
    })
}

#[test]
fn tcpdump_sees_what_we_record() {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return;
    }
    let modes = [&[][..], &["--no-txn"], &["--old-style"], &["--sub-via", "assign,subscribe"]];
    let mut runs: Vec<Vec<&str>> = modes.iter().map(|mode| mode.to_vec()).collect();
    runs.extend(Bug::ALL.iter().map(|bug| vec!["--bug", bug.name()]));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some(arguments) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            wrong.extend(difference_to_tcpdump(arguments));
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
