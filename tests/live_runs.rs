//! Whole runs of the tool on real Kafka: healthy brokers are found healthy, live and from every
//! file a run leaves behind. On where `FENCEPOST_LIVE` is set, as in `tests/live.rs`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output};

fn versions() -> Vec<String> {
    match std::env::var("FENCEPOST_LIVE") {
        Err(_) => Vec::new(),
        Ok(text) if text.contains('.') => text.split(',').map(ToOwned::to_owned).collect(),
        Ok(_) => vec!["3.9.1".into(), "4.3.0".into()],
    }
}

fn fencepost(arguments: &[&str]) -> Output {
    Command::new(assert_cmd::cargo::cargo_bin!("fencepost")).args(arguments).output().unwrap()
}

/// Says how a run ended, and that it ended well.
fn valid(output: &Output, what: &str) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{what}\n{said}\n{error}");
    let last = said.trim_end().lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("valid: true"), "{what}: {said}");
    eprintln!("{what}: {last}");
    said
}

#[test]
fn healthy_brokers_are_found_healthy_live_and_from_every_file() {
    for version in versions() {
        for more in [&[][..], &["--no-txn"], &["--sub-via", "assign,subscribe"], &["--zombies"]] {
            let store = tempfile::tempdir().unwrap();
            let place = store.path().to_str().unwrap();
            let kafka = ["--broker", "kafka", "--broker-version", &version];
            let base = ["test", "--time-limit", "5", "--store", place];
            let arguments: Vec<&str> = base.iter().chain(&kafka).chain(more).copied().collect();
            let said = valid(&fencepost(&arguments), &arguments[5..].join(" "));
            let folder = PathBuf::from(said.trim_end().lines().rev().nth(1).unwrap());
            for name in ["", "history.jsonl", "history.edn", "wire.pcapng"] {
                let file = folder.join(name);
                let way = ["check", "--sub-via", "assign,subscribe"];
                let check = [&way[..], &[file.to_str().unwrap()]].concat();
                valid(&fencepost(&check), &format!("  {name}"));
            }
        }
    }
}

/// An old client on a new broker, and transactions of version 1 where the broker has them.
#[test]
fn transactions_of_version_one_are_found_healthy_too() {
    for version in versions().iter().filter(|version| !version.starts_with('3')) {
        for more in [&["--old-style"][..], &["--broker-property", "transaction.version=1"]] {
            let store = tempfile::tempdir().unwrap();
            let place = store.path().to_str().unwrap();
            let kafka = ["--broker", "kafka", "--broker-version", version];
            let base = ["test", "--time-limit", "5", "--store", place];
            let arguments: Vec<&str> = base.iter().chain(&kafka).chain(more).copied().collect();
            valid(&fencepost(&arguments), &arguments[5..].join(" "));
        }
    }
}
