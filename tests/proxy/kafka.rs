//! Whole runs through `fencepost proxy`: producers, transactions, consumers and groups stay behind
//! it, and what it recorded is judged like any other record.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn fencepost(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fencepost"));
    command.args(arguments).env("NO_COLOR", "1");
    command
}

/// A part of the tool that says where it listens, ended with this value.
pub(crate) struct Serving {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
    pub(crate) servers: String,
}

impl Serving {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut process =
            fencepost(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let servers = line.trim_end().strip_prefix("bootstrap.servers=").expect(&line).to_owned();
        Self { process, said, servers }
    }

    /// Tells it to end, and says what it says then.
    pub(crate) fn end(mut self) -> String {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut text = String::new();
        self.said.read_to_string(&mut text).unwrap();
        assert!(self.process.wait().unwrap().success());
        text
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn test_through(servers: &str, store: &Path, more: &[&str]) -> Output {
    let base = ["test", "--bootstrap-server", servers, "--store"];
    fencepost(&base).arg(store).args(more).output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

#[test]
fn a_run_through_the_proxy_is_valid_and_so_is_its_capture_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("proxied.pcapng");
    let broker = Serving::start(&["broker", "embedded", "--nodes", "3"]);
    let mut proxy = Serving::start(&[
        "proxy",
        "--bootstrap-server",
        &broker.servers,
        "--capture",
        capture.to_str().unwrap(),
    ]);
    let output = test_through(&proxy.servers, folder.path(), &["--time-limit", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    proxy.process.kill().unwrap();
    proxy.process.wait().unwrap();
    let judged = fencepost(&["check"]).arg(&capture).output().unwrap();
    assert_eq!(judged.status.code(), Some(0), "{}", said(&judged));
}

#[test]
fn rules_are_counted_and_those_that_never_fired_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Serving::start(&["broker", "embedded"]);
    let rules = ["delay EndTxn by=1ms nth=1 name=short", "drop-request Vote name=idle"];
    let proxy = Serving::start(&[
        "proxy",
        "--bootstrap-server",
        &broker.servers,
        "--rule",
        rules[0],
        "--rule",
        rules[1],
    ]);
    let output = test_through(
        &proxy.servers,
        folder.path(),
        &["--time-limit", "2", "--sub-via", "subscribe"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let summary = proxy.end();
    assert!(summary.contains("short: fired once"), "{summary}");
    assert!(summary.contains("idle: never fired"), "{summary}");
    assert!(!summary.contains("a forgery fired"), "{summary}");
}

/// Real Kafka, three nodes, where `FENCEPOST_LIVE` is set: its leaders and coordinators are spread,
/// so that a client that left the proxy would be seen by the frames that are missing.
#[test]
fn runs_on_real_kafka_stay_behind_the_proxy() {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return;
    }
    let kafka = ["broker", "kafka", "--version", "4.3.0", "--nodes", "3"];
    let broker = Serving::start(&kafka);
    let delays = [
        "--rule",
        "delay any request by=1ms jitter=20ms probability=0.05",
        "--rule",
        "delay any response by=1ms jitter=20ms probability=0.05",
    ];
    for rules in [&[][..], &delays] {
        let folder = tempfile::tempdir().unwrap();
        let capture = folder.path().join("proxied.pcapng");
        let file = ["--capture", capture.to_str().unwrap()];
        // One bootstrap address: the others are known from responses alone.
        let first = broker.servers.split(',').next().unwrap();
        let base = ["proxy", "--bootstrap-server", first];
        let proxy = Serving::start(&[&base[..], &file, rules].concat());
        let more = ["--sub-via", "assign,subscribe", "--time-limit", "5"];
        let output = test_through(&proxy.servers, folder.path(), &more);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let summary = proxy.end();
        assert!(summary.contains("through 3 listeners"), "{summary}");
        let check = ["check", "--sub-via", "assign,subscribe"];
        let judged = fencepost(&check).arg(&capture).output().unwrap();
        assert_eq!(judged.status.code(), Some(0), "{}", said(&judged));
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_listens() {
    let cases: [(&[&str], &str); 5] = [
        (&[], "--bootstrap-server"),
        (&["--bootstrap-server", "nowhere"], "HOST:PORT"),
        (&["--bootstrap-server", "h:1", "--listen", "0.0.0.0:0"], "--expose"),
        (&["--bootstrap-server", "h:1", "--rule", "hodl EndTxn"], "column 1"),
        (&["--bootstrap-server", "h:1", "--rule", "hold Vote version=99"], "versions"),
    ];
    for (arguments, says) in cases {
        let output = fencepost(&["proxy"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(254), "{arguments:?}");
        assert!(said(&output).contains(says), "{arguments:?}: {}", said(&output));
    }
}
