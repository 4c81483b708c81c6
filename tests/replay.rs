//! What was recorded of one broker is said again to another, which answers the same; and where it
//! does not, the field is named.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn fencepost(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fencepost"));
    command.args(arguments).env("NO_COLOR", "1");
    command
}

/// A broker that is gone with the test.
struct Broker(Child, String);

impl Broker {
    fn start(more: &[&str]) -> Self {
        Self::start_other(&[&["embedded"], more].concat())
    }

    fn start_other(what: &[&str]) -> Self {
        let mut command = fencepost(&["broker"]);
        let mut child = command.args(what).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("bootstrap.servers=").unwrap().to_owned();
        Self(child, address)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The packets of a conversation held with an embedded broker.
fn recorded(scenario: &str, store: &Path) -> PathBuf {
    recorded_with(&["--broker", "embedded"], scenario, store)
}

fn recorded_with(broker: &[&str], scenario: &str, store: &Path) -> PathBuf {
    let mut run = fencepost(&["scenario", "run", scenario]);
    run.args(broker).arg("--store");
    assert!(run.arg(store).output().unwrap().status.success());
    let only = |folder: &Path| {
        let mut entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| !path.ends_with("latest")).unwrap()
    };
    only(&only(store)).join("wire.pcapng")
}

/// Replays; the exit code and what was printed.
fn replayed(capture: &Path, broker: &Broker, more: &[&str]) -> (i32, String) {
    let mut run = fencepost(&["replay", "--bootstrap-server", &broker.1]);
    let output = run.arg(capture).args(more).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_conversation_is_answered_alike_by_a_broker_of_the_same_kind_under_other_names() {
    let store = tempfile::tempdir().unwrap();
    let capture = recorded("S12", store.path());
    let broker = Broker::start(&[]);
    // Somebody else has taken the first producer id, so that all of them are others.
    let mut before = fencepost(&["scenario", "run", "S1", "--store"]);
    before.arg(store.path().join("other")).args(["--bootstrap-server", &broker.1]);
    assert!(before.output().unwrap().status.success());

    let (exit, out) = replayed(&capture, &broker, &["--create-topics"]);
    assert_eq!(exit, 0, "{out}");
    assert!(!out.contains(" 0 of them with new names"), "{out}");
    assert!(out.contains(" 0 differ"), "{out}");
}

#[test]
fn what_is_answered_otherwise_is_named_by_its_field() {
    let store = tempfile::tempdir().unwrap();
    let capture = recorded("S1", store.path());
    let broker = Broker::start(&[]);
    let (exit, out) = replayed(&capture, &broker, &[]);
    assert_eq!(exit, 1, "{out}");
    let field = "responses[0].partition_responses[0].error_code: recorded \"NONE (0)\", answered \
                 \"UNKNOWN_TOPIC_OR_PARTITION (3)\"";
    assert!(out.contains(field), "{out}");
}

#[test]
fn a_file_that_is_no_capture_and_a_broker_that_is_not_there_are_told() {
    let store = tempfile::tempdir().unwrap();
    let none = store.path().join("none.pcapng");
    std::fs::write(&none, b"no capture").unwrap();
    let run = |file: &Path| {
        let mut run = fencepost(&["replay", "--bootstrap-server", "127.0.0.1:1"]);
        let output = run.arg(file).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (exit, error) = run(&none);
    assert!(exit == 255 && error.contains("none.pcapng: at byte 0"), "{exit} {error}");
    let (exit, error) = run(&recorded("S1", store.path().join("runs").as_path()));
    assert!(exit == 255 && error.contains("127.0.0.1:1"), "{exit} {error}");
}

#[test]
fn a_conversation_with_apache_kafka_is_answered_alike_by_another_of_its_version() {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return;
    }
    for version in ["3.9.1", "4.3.0"] {
        let store = tempfile::tempdir().unwrap();
        let kafka = ["--broker", "kafka", "--broker-version", version];
        let capture = recorded_with(&kafka, "S12", store.path());
        let broker = Broker::start_other(&["kafka", "--broker-version", version]);
        let (exit, out) = replayed(&capture, &broker, &["--create-topics"]);
        assert_eq!(exit, 0, "{version}: {out}");
    }
}
