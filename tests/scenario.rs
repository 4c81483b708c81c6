//! Scenarios and sweeps with the embedded broker in both transaction versions, from outside: what
//! `fencepost scenario` prints, writes and exits with. With `FENCEPOST_LIVE` also with real
//! brokers: `FENCEPOST_LIVE=3.9.1,4.3.0` starts those versions.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value as Json;
use tempfile::TempDir;

/// A run of the tool in a store of its own: exit code, standard output, standard error.
fn fencepost(store: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("fencepost").unwrap();
    let output = command.args(arguments).arg("--store").arg(store).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What one scenario comes to: exit code and results.
fn results(arguments: &[&str]) -> (i32, Json) {
    let store = TempDir::new().unwrap();
    let all: Vec<&str> =
        [&["scenario", "run"][..], arguments, &["--output-format", "json"]].concat();
    let (exit, out, err) = fencepost(store.path(), &all);
    let json = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}\n{out}\n{err}"));
    (exit, json)
}

/// Holds a scenario with the embedded broker: its style, the broker's transaction.version, and the
/// anomalies that make it invalid.
fn check(name: &str, style: &str, transaction_version: u8, bad: &[&str]) {
    let property = format!("transaction.version={transaction_version}");
    let (exit, results) = results(&[name, "--style", style, "--broker-property", &property]);
    let what = format!("{name} {style} {property}\n{results:#}");
    assert_eq!(results["scenario"]["broken"], Json::Null, "{what}");
    assert_eq!(results["bad_types"], serde_json::json!(bad), "{what}");
    assert_eq!(exit, i32::from(!bad.is_empty()), "{what}");
    assert_eq!(results["scenario"]["surprises"], serde_json::json!([]), "{what}");
}

#[test]
fn a_delayed_commit_is_caught_under_version_one_and_refused_under_version_two() {
    check("S1", "old", 1, &["G1a"]);
    check("S1", "old", 2, &["G1a"]);
    check("S1", "new", 2, &[]);
}

#[test]
fn a_delayed_abort_loses_an_acknowledged_record_under_version_one_only() {
    check("S2", "old", 1, &["lost-write", "torn-transaction", "unseen"]);
    check("S2", "new", 2, &[]);
}

#[test]
fn a_delayed_produce_is_refused_where_leaders_verify() {
    check("S5", "old", 1, &[]);
    check("S5", "new", 2, &[]);
}

#[test]
fn the_text_has_chart_facts_verdict_and_folder_and_the_folder_is_judged_the_same() {
    let store = TempDir::new().unwrap();
    let (exit, out, _) = fencepost(store.path(), &["scenario", "run", "s1", "--style", "old"]);
    assert_eq!(exit, 1);
    for part in [
        "column old_on_tv2",
        "held back but for its last byte",
        "EndTxn 4 commit epoch 0 (T1), arrives",
        "transaction.version=2",
        "expected in column old_on_tv2: G1a; so it is",
        "valid: false   G1a 1 (bad)",
    ] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    let folder = out.lines().rev().nth(1).unwrap();
    for name in ["plan.toml", "scenario.toml", "chart.txt", "results.json", "wire.pcapng"] {
        assert!(Path::new(folder).join(name).is_file(), "{name} is not in {folder}");
    }
    let mut check = Command::cargo_bin("fencepost").unwrap();
    let again = check.args(["check", folder]).output().unwrap();
    let again = String::from_utf8(again.stdout).unwrap();
    assert!(again.trim_end().ends_with("valid: false   G1a 1 (bad)"), "{again}");
    let written = format!("{folder}/scenario.toml");
    let (exit, ..) = fencepost(store.path(), &["scenario", "run", &written, "--style", "old"]);
    assert_eq!(exit, 1, "a scenario that was written can be run");
}

#[test]
fn every_scenario_is_listed_with_what_is_expected() {
    let mut command = Command::cargo_bin("fencepost").unwrap();
    let output = command.args(["scenario", "list"]).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for part in ["S1", "KAFKA-17754", "old style on TV2", "one-partition"] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_line_and_column() {
    let store = TempDir::new().unwrap();
    let head = "name = 'x'\ntitle = ''\nproves = ''\nsource = ''\n";
    let tail = "\n[topics]\nt = 1\n[producers]\np = 'x'\n";
    for (steps, expected) in [
        ("steps = [ { sned = 'EndTxn' } ]", "bad.toml:5:13: unknown field `sned`"),
        ("steps = [ {} ]", "bad.toml:5:11: step 1: expected one of send, again"),
        ("steps = [\n { send = 'Endtxn' } ]", "bad.toml:6:2: step 1: no API is called Endtxn"),
        (
            "steps = [ { send = 'EndTxn', by = 'p' } ]",
            "step 1: committed: $committed needs committed = true or false in the step",
        ),
        (
            "steps = [ { send = 'Heartbeat', group = 'g', fields = { nope = 1 } } ]",
            "HeartbeatRequest v3 has no field nope",
        ),
        (
            "steps = [ { send = 'EndTxn', by = 'p', committed = true, version = 9 } ]",
            "EndTxn has no version 9",
        ),
        ("steps = [ { release = 'late' } ]", "no earlier step holds late"),
        ("steps = [ { read = 't-1' } ]", "no partition t-1"),
        ("steps = [ { wait = 'for rain' } ]", "for rain: expected ended p"),
        ("steps = [ { fault = 'kill everybody' } ]", "everybody: expected bootstrap"),
        ("steps = [ { send = 'EndTxn', by = 'q', committed = true } ]", "no producer q"),
        ("styles = []\nsteps = [ { read = 't-0' } ]", "expected at least one style"),
        ("steps = [", "bad.toml:"),
    ] {
        let file = store.path().join("bad.toml");
        std::fs::write(&file, format!("{head}{steps}{tail}")).unwrap();
        let file = file.to_str().unwrap();
        let (exit, _, err) = fencepost(store.path(), &["scenario", "run", file]);
        assert_eq!(exit, 254, "{steps}: {err}");
        assert!(err.contains(expected), "{steps}: {err}");
    }
    let (exit, _, err) = fencepost(store.path(), &["scenario", "run", "S99"]);
    assert_eq!((exit, err.contains("no scenario is called S99")), (254, true), "{err}");
}

/// Sweeps a conversation and answers its results.
fn sweep(store: &Path, arguments: &[&str]) -> (i32, Json) {
    let all: Vec<&str> =
        [&["scenario", "sweep"][..], arguments, &["--output-format", "json"]].concat();
    let (exit, out, err) = fencepost(store, &all);
    (exit, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}\n{out}\n{err}")))
}

#[test]
fn a_sweep_finds_the_delayed_abort_by_itself_and_writes_what_shows_it() {
    let store = TempDir::new().unwrap();
    let arguments =
        ["abort-commit", "--style", "old", "--broker-property", "transaction.version=1"];
    let (exit, results) = sweep(store.path(), &arguments);
    assert_eq!(exit, 1);
    let all = results["reproducers"].as_array().unwrap();
    let lost = all.iter().find(|found| found["anomalies"].to_string().contains("lost-write"));
    let lost = lost.unwrap_or_else(|| panic!("no lost-write in {results:#}"));
    assert!(lost["title"].as_str().unwrap().contains("EndTxn abort (T1)"), "{lost:#}");
    let file = PathBuf::from(lost["file"].as_str().unwrap());
    let file = file.to_str().unwrap();
    let run = ["scenario", "run", file, "--broker-property", "transaction.version=1"];
    let (exit, out, err) = fencepost(store.path(), &run);
    assert!(exit == 1 && out.contains("lost-write"), "{out}{err}");
}

#[test]
fn a_sweep_of_new_style_requests_finds_nothing() {
    let store = TempDir::new().unwrap();
    let (exit, results) = sweep(store.path(), &["commit-abort", "--style", "new"]);
    assert_eq!(exit, 0, "{results:#}");
    let orders = results["orders"].as_array().unwrap();
    assert!(orders.len() > 60, "{} orders", orders.len());
    assert!(orders.iter().all(|order| order["broken"].is_null()), "{results:#}");
}

/// The versions of Kafka to ask: those named, two where none is, none without `FENCEPOST_LIVE`.
fn live() -> Vec<String> {
    let Ok(live) = std::env::var("FENCEPOST_LIVE") else { return Vec::new() };
    let is_version = |text: &&str| text.contains('.') && !text.contains(':');
    let named: Vec<String> = live.split(',').filter(is_version).map(str::to_owned).collect();
    match live.as_str() {
        "1" => vec!["3.9.1".into(), "4.3.0".into()],
        _ => named,
    }
}

#[test]
fn real_kafka_shows_what_its_column_says() {
    for version in live() {
        let is_new = !version.starts_with('3');
        let styles: &[&str] = if is_new { &["old", "new"] } else { &["old"] };
        for style in styles {
            let store = TempDir::new().unwrap();
            let mut names = vec!["S1", "S2", "S5", "S22", "S23"];
            names.extend((*style == "old").then_some("S20"));
            let mut arguments = vec!["scenario", "run"];
            arguments.extend(&names);
            arguments.extend(["--style", style, "--broker", "kafka", "--broker-version", &version]);
            let (exit, out, err) = fencepost(store.path(), &arguments);
            println!("{version} {style}: exit {exit}");
            let as_expected = out.matches("so it is").count();
            assert_eq!(as_expected, names.len(), "{version} {style}\n{out}\n{err}");
            assert_eq!(exit, i32::from(*style == "old"), "{version} {style}\n{out}\n{err}");
        }
    }
}

#[test]
fn a_sweep_finds_the_delayed_abort_on_real_kafka() {
    for version in live() {
        let store = TempDir::new().unwrap();
        let broker = ["--broker", "kafka", "--broker-version", &version];
        let arguments = [&["abort-commit", "--style", "old"][..], &broker].concat();
        let (exit, results) = sweep(store.path(), &arguments);
        println!("{version}: first found after {} s", results["first_found_s"]);
        let orders = results["orders"].as_array().unwrap();
        let lost =
            orders.iter().find(|order| order["anomalies"].to_string().contains("lost-write"));
        assert!(exit == 1 && lost.is_some(), "{results:#}");
        assert_eq!(lost.unwrap()["held"], "EndTxn abort (T1)");
    }
}
