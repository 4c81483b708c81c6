//! Captures of real clients, judged, and the verdicts held against what is truly wrong in them.
//!
//! On by environment, as `captures.rs`: `FENCEPOST_CAPTURES` names a folder of captures with a
//! `NAME.truth.json` each, whose `anomalies` say what is wrong. In a capture that lost packets
//! finding less is allowed, inventing is not.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stderr, reason = "tests say what they pass over")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fencepost::checker::Validity;
use fencepost::run::judge::{Given, judge};
use serde_json::Value;

/// What the truth calls an anomaly, and what it is found as: the invariant that is broken, and the
/// name that operations have for it.
const NAMES: &[(&str, &[&str])] = &[
    ("aborted-data-delivered", &["G1a", "L7-aborted-data-exposed"]),
    ("fenced-produce-succeeded", &["P3-zombie-accepted"]),
];

fn captures() -> Vec<(PathBuf, Value)> {
    let Some(folder) = std::env::var_os("FENCEPOST_CAPTURES") else { return Vec::new() };
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e != "json" && e != "md")).collect();
    files.sort();
    let truth = |path: &Path| -> Value {
        let text = std::fs::read(path.with_extension("truth.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    files.into_iter().map(|path| (path.clone(), truth(&path))).collect()
}

#[test]
fn captures_are_found_to_be_what_they_are() {
    let captures = captures();
    if captures.is_empty() {
        eprintln!("FENCEPOST_CAPTURES is not set: nothing was judged");
    }
    let mut differences = Vec::new();
    for (path, truth) in captures {
        let verdict = judge(std::slice::from_ref(&path), &Given::default()).unwrap();
        let found: BTreeSet<&str> = verdict.bad_types.iter().map(String::as_str).collect();
        let anomalies = truth["anomalies"].as_array().unwrap();
        let kinds = anomalies.iter().map(|anomaly| anomaly["kind"].as_str().unwrap());
        // A kind that the table does not have is found where anything is.
        let name = |kind: &str| NAMES.iter().find(|(k, _)| *k == kind).map(|(_, name)| *name);
        let unnamed = kinds.clone().any(|kind| name(kind).is_none());
        let expected: BTreeSet<&str> = kinds.filter_map(name).flatten().copied().collect();
        let lossy = truth["lossy"] == true;
        let agrees = match (lossy, unnamed) {
            (true, false) => found.is_subset(&expected),
            (true, true) => true,
            (false, true) => !found.is_empty() && found.is_superset(&expected),
            (false, false) => found == expected,
        };
        let is_readable = truth["requests"].as_object().is_some_and(|all| !all.is_empty());
        let says_so = is_readable == (verdict.valid != Validity::Unknown);
        let damaged = truth["file"]["error"].is_string() == verdict.file.is_some();
        if !(agrees && says_so && damaged) {
            differences.push(format!(
                "{}: {:?} {found:?}, expected {expected:?}; file {:?}",
                path.display(),
                verdict.valid,
                verdict.file
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
