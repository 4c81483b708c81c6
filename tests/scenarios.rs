//! Every scenario of the library that the embedded broker can show, in each style and transaction
//! version, from outside: what comes of it is what its file expects. With `FENCEPOST_LIVE` (as in
//! `FENCEPOST_LIVE=3.9.1,4.3.0`) also with real Kafka.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value as Json;
use tempfile::TempDir;

/// Those that need one node and no fault.
const ONE_NODE: &[&str] =
    &["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S15", "S18"];
/// Those in which the network is at fault, through the proxy.
const NETWORK: &[&str] = &["S1-cut", "S2-cut", "S25", "S26"];
/// Those in which a node of three is killed.
const KILLED: &[&str] = &["S12-leader-killed", "S13", "S16", "S19"];
/// Those in which a node is paused: a broker in the tool's own process cannot be.
const PAUSED: &[&str] = &["S13-paused", "S14", "S16-paused", "S17", "S19-paused"];
/// Those in which other people's clients take part: with real Kafka only, and librdkafka where
/// `FENCEPOST_PYTHON` is an interpreter that has confluent-kafka.
const STRANGERS: &[&str] = &["S17-java", "S17-librdkafka", "S18-java", "S18-librdkafka"];

fn run(store: &Path, arguments: &[&str]) -> Vec<Json> {
    let mut command = Command::cargo_bin("fencepost").unwrap();
    command.args(["scenario", "run", "--output-format", "json", "--store"]).arg(store);
    let output = command.args(arguments).output().unwrap();
    let all = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    let all: Result<Vec<Json>, _> = all.collect();
    let err = String::from_utf8_lossy(&output.stderr);
    all.unwrap_or_else(|error| {
        panic!("{error}\n{}\n{err}", String::from_utf8_lossy(&output.stdout))
    })
}

/// The anomalies a file expects in a column.
fn expected(results: &Json) -> Vec<&str> {
    let expected = results["scenario"]["expected"].as_array();
    let expected = expected.unwrap_or_else(|| panic!("nothing is expected of {results:#}"));
    expected.iter().map(|name| name.as_str().unwrap()).collect()
}

/// Holds scenarios with one broker, and compares what comes of each with its file.
fn check(names: &[&str], style: &str, column: &str, broker: &[&str]) {
    let store = TempDir::new().unwrap();
    let all = run(store.path(), &[names, &["--style", style], broker].concat());
    assert_eq!(all.len(), names.len(), "{broker:?}");
    for (name, results) in names.iter().zip(&all) {
        let scenario = &results["scenario"];
        let found = results["bad_types"].to_string();
        println!("{name} {style} {broker:?}: {found}");
        let what = format!("{name} {style} {broker:?}\n{results:#}");
        assert_eq!(scenario["name"], *name, "{what}");
        assert_eq!(scenario["column"], column, "{what}");
        assert_eq!(scenario["broken"], Json::Null, "{what}");
        assert_eq!(scenario["surprises"], serde_json::json!([]), "{what}");
        let expected = expected(results);
        if expected.is_empty() {
            assert_eq!(found, "[]", "{what}");
        }
        for anomaly in expected {
            assert!(found.contains(&format!("{anomaly:?}")), "no {anomaly} in {what}");
        }
    }
}

#[test]
fn version_one_shows_what_it_is_expected_to() {
    let all = [ONE_NODE, NETWORK].concat();
    check(&all, "old", "verified", &["--broker-property", "transaction.version=1"]);
}

#[test]
fn old_clients_of_version_two_meet_version_one() {
    let all = [ONE_NODE, NETWORK].concat();
    check(&all, "old", "old_on_tv2", &["--broker-property", "transaction.version=2"]);
}

#[test]
fn version_two_shows_nothing() {
    let all = [ONE_NODE, NETWORK].concat();
    check(&all, "new", "tv2", &["--broker-property", "transaction.version=2"]);
}

#[test]
fn what_is_acknowledged_stays_when_nodes_are_killed() {
    for (style, column, version) in
        [("old", "verified", 1), ("old", "old_on_tv2", 2), ("new", "tv2", 2)]
    {
        let property = format!("transaction.version={version}");
        check(KILLED, style, column, &["--broker-property", &property]);
    }
}

#[test]
fn a_coordinator_may_be_killed_at_every_step() {
    check(&["S16-every"], "new", "tv2", &["--broker-property", "transaction.version=2"]);
}

#[test]
fn every_scenario_is_in_one_of_the_tables_or_was_found_by_a_sweep() {
    let mut command = Command::cargo_bin("fencepost").unwrap();
    let output = command.args(["scenario", "list", "--output-format", "json"]).output().unwrap();
    let listed: Json = serde_json::from_slice(&output.stdout).unwrap();
    for scenario in listed["scenarios"].as_array().unwrap() {
        let name = scenario["name"].as_str().unwrap();
        let number: u32 = name[1..].split('-').next().unwrap().parse().unwrap();
        let is_here =
            [ONE_NODE, NETWORK, KILLED, &["S16-every"], PAUSED, STRANGERS].concat().contains(&name);
        assert!(is_here || number >= 20, "{name} is never run");
    }
    let numbers: Vec<String> = (1..20).map(|number| format!("S{number}")).collect();
    for name in numbers {
        let all = listed["scenarios"].as_array().unwrap();
        assert!(all.iter().any(|scenario| scenario["name"] == *name), "{name} is not listed");
    }
}

#[test]
fn a_broker_that_cannot_be_paused_makes_the_outcome_unknown() {
    let store = TempDir::new().unwrap();
    let mut command = Command::cargo_bin("fencepost").unwrap();
    command.args(["scenario", "run", "S17", "--store"]).arg(store.path());
    let output = command.output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{out}");
    assert!(out.contains("could not be held to its end"), "{out}");
}

fn check_strangers(column: &str, kafka: &[&str]) {
    check(&["S17-java", "S18-java"], "old", column, kafka);
    if let Ok(python) = std::env::var("FENCEPOST_PYTHON") {
        let python = format!("python={python}");
        let with = [kafka, &["--with", &python]].concat();
        check(&["S17-librdkafka", "S18-librdkafka"], "old", column, &with);
    }
}

#[test]
fn real_kafka_shows_what_each_file_expects() {
    let live = std::env::var("FENCEPOST_LIVE").unwrap_or_default();
    let versions = live.split(',').filter(|text| text.contains('.') && !text.contains(':'));
    for version in versions {
        let kafka = ["--broker", "kafka", "--broker-version", version];
        let with = |property: &'static str| [&kafka[..], &["--broker-property", property]].concat();
        let faults =
            [KILLED, &["S13-paused", "S16-every", "S14", "S16-paused", "S19-paused"]].concat();
        let one_node = [ONE_NODE, NETWORK].concat();
        if version.starts_with('3') {
            check(&[&one_node[..], &["S17"]].concat(), "old", "verified", &kafka);
            check_strangers("verified", &kafka);
            let unverified = with("transaction.partition.verification.enable=false");
            check(&one_node, "old", "unverified", &unverified);
            check(&faults, "old", "verified", &kafka);
        } else {
            let version_one = with("transaction.version=1");
            check(&one_node, "old", "verified", &version_one);
            check(&one_node, "old", "old_on_tv2", &kafka);
            check(&["S17"], "old", "old_on_tv2", &kafka);
            check_strangers("old_on_tv2", &kafka);
            check(&one_node, "new", "tv2", &kafka);
            check(&faults, "new", "tv2", &kafka);
        }
    }
}
