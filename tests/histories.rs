//! Histories judged by others before: our verdicts agree with theirs.
//!
//! `FENCEPOST_HISTORIES` names a folder of Jepsen's Kafka histories with its verdicts
//! (`NAME.edn.gz`, `NAME.verdict.json`), `FENCEPOST_ELLE_HISTORIES` one of Elle's list-append
//! histories. Where they are not set, only the corpus is judged.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use fencepost::checker::{
    ConsistencyModel, Expectation, SubVia, Validity, Verdict, Workload, check, check_on,
};
use fencepost::history::History;
use fencepost::history::read::{Format, read_history};
use serde_json::Value as Json;

/// The verdict on a history of the corpus, as its `.expected` file has it: for each way to look at
/// it what was found, then the first case of each type in words.
fn told(path: &Path) -> String {
    let history = read(path);
    let is_lists = path.to_str().is_some_and(|path| path.contains("list-append"));
    let mut text = String::new();
    let mut add = |title: &str, verdict: &Verdict| {
        let found = verdict.anomalies.iter().map(|(name, found)| {
            format!(" {name} {}{}", found.count, if found.bad { " (bad)" } else { "" })
        });
        let found = found.collect::<Vec<_>>().join(",");
        text.push_str(&format!("{title}: {:?}{found}\n", verdict.valid));
    };
    let first = if is_lists {
        let mut first = None;
        for name in ["strict-serializable", "serializable", "snapshot-isolation", "read-committed"]
        {
            let consistency_model = ConsistencyModel::find(name).expect("a model");
            let workload = Workload::ListAppend;
            let expected = Expectation { workload, consistency_model, ..Expectation::default() };
            let verdict = check(&history, &expected);
            add(name, &verdict);
            first.get_or_insert(verdict);
        }
        first.expect("there are models")
    } else {
        for (way, sub_via) in [("assign", SubVia::ASSIGN), ("subscribe", SubVia::SUBSCRIBE)] {
            for ww_deps in [true, false] {
                let expected = Expectation { ww_deps, sub_via, ..Expectation::default() };
                let title = format!("{way}, ww-deps {ww_deps}");
                add(&title, &check(&history, &expected));
            }
        }
        check(&history, &Expectation::default())
    };
    for group in &first.groups {
        text.push_str(&format!("\n{} <- {}\n", group.primary, group.consequences.join(", ")));
    }
    for (name, found) in &first.anomalies {
        text.push_str(&format!("\n{name}: {}\n", found.cases[0].explanation));
    }
    text
}

/// `FENCEPOST_BLESS=1` writes what is found as what is expected; read the difference before it is
/// committed.
#[test]
fn the_corpus_is_judged_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/histories");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_str().is_some_and(|path| path.contains(".edn")));
    files.sort();
    assert!(files.len() >= 10, "the corpus is there");
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected =
            path.with_file_name(name.split(".edn").next().unwrap().to_owned() + ".expected");
        let told = told(&path);
        if std::env::var_os("FENCEPOST_BLESS").is_some() {
            fs::write(&expected, &told).unwrap();
        }
        assert_eq!(told, fs::read_to_string(&expected).unwrap_or_default(), "{path:?}");
    }
}

fn read(path: &Path) -> History {
    let file = File::open(path).expect("the history can be opened");
    read_history(file, Format::Auto, NonZeroUsize::MIN).expect("it can be read").history
}

/// The files of a folder named by the environment, each with the verdict on it.
fn judged_elsewhere(variable: &str) -> Vec<(PathBuf, Json)> {
    let Ok(folder) = std::env::var(variable) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.split(".edn").next()?.to_owned();
            let verdict = path.with_file_name(format!("{name}.verdict.json"));
            if !path.to_str()?.contains(".edn") || !verdict.exists() {
                return None;
            }
            Some((path, serde_json::from_slice(&fs::read(verdict).unwrap()).unwrap()))
        })
        .collect()
}

/// Types that Jepsen has and we have not: they say that some cycle exists, or that a limit of the
/// tool was reached.
fn is_ours_too(name: &str) -> bool {
    !name.ends_with("-cycle-exists") && name != "cycle-search-timeout"
}

/// Types that we have and Jepsen has not.
const BEYOND: &[&str] = &[
    "duplicate-nonzero",
    "phantom-read",
    "torn-transaction",
    "zombie-write",
    "hanging-transaction",
    "G1b",
    "G-single",
    "G2-item",
];

fn is_cycle(name: &str) -> bool {
    ["G0", "G1c"].iter().any(|family| name.starts_with(family))
}

/// Everything in which our verdict and Jepsen's differ.
fn differences(verdict: &Verdict, all: &Json, ww_deps: bool, sub_via: &str) -> Vec<String> {
    let mut said = Vec::new();
    let theirs = &all[format!("ww-deps-{ww_deps}")];
    let strings = |json: &Json| -> BTreeSet<String> {
        let names = json.as_array().into_iter().flatten().filter_map(Json::as_str);
        names.filter(|name| is_ours_too(name)).map(str::to_owned).collect()
    };
    let mine = |names: &[String]| -> BTreeSet<String> {
        names.iter().filter(|name| !BEYOND.contains(&name.as_str())).cloned().collect()
    };
    // Jepsen lets G1c pass where there are ww edges, also a G1c without one; we do not.
    let pure: BTreeSet<String> = strings(&all["ww-deps-false"]["error-types"])
        .into_iter()
        .filter(|name| name.starts_with("G1c"))
        .collect();
    let types: BTreeSet<String> = strings(&theirs["error-types"]).union(&pure).cloned().collect();
    if mine(&verdict.types) != types {
        said.push(format!("types {:?}, theirs {types:?}", verdict.types));
    }
    for (name, count) in theirs["counts"].as_object().into_iter().flatten() {
        let ours = verdict.anomalies.get(name).map_or(0, |found| found.count);
        if is_ours_too(name) && !is_cycle(name) && Some(ours) != count.as_u64() {
            said.push(format!("{name}: {ours}, theirs {count}"));
        }
    }
    let judged = &theirs[format!("sub-via-{sub_via}")];
    let bad: BTreeSet<String> = strings(&judged["bad-error-types"]).union(&pure).cloned().collect();
    if mine(&verdict.bad_types) != bad {
        said.push(format!("bad {:?}, theirs {bad:?}", verdict.bad_types));
    }
    let valid = judged["valid?"] == true && pure.is_empty();
    if valid != (verdict.valid == Validity::True) {
        said.push(format!("valid {:?}, theirs {}", verdict.valid, judged["valid?"]));
    }
    let lag = serde_json::to_value(&verdict.stats.worst_realtime_lag).unwrap();
    if lag != theirs["worst-realtime-lag"] {
        said.push(format!("lag {lag}, theirs {}", theirs["worst-realtime-lag"]));
    }
    said
}

#[test]
fn verdicts_agree_with_jepsen() {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, theirs) in judged_elsewhere("FENCEPOST_HISTORIES") {
        let history = read(&path);
        for ww_deps in [false, true] {
            for (name, sub_via) in [("assign", SubVia::ASSIGN), ("subscribe", SubVia::SUBSCRIBE)] {
                let expected = Expectation { ww_deps, sub_via, ..Expectation::default() };
                let verdict = check(&history, &expected);
                let found = differences(&verdict, &theirs, ww_deps, name);
                if !found.is_empty() {
                    all.insert(format!("{path:?} ww-deps {ww_deps} {name}"), found);
                }
                assert_eq!(
                    serde_json::to_string(&check_on(1, &history, &expected)).unwrap(),
                    serde_json::to_string(&check_on(3, &history, &expected)).unwrap(),
                    "the verdict depends on the number of threads"
                );
            }
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn verdicts_agree_with_elle() {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (path, theirs) in judged_elsewhere("FENCEPOST_ELLE_HISTORIES") {
        let history = read(&path);
        for (name, theirs) in theirs.as_object().into_iter().flatten() {
            let Some(consistency_model) = ConsistencyModel::find(name) else { continue };
            let expected = Expectation {
                workload: Workload::ListAppend,
                consistency_model,
                ..Expectation::default()
            };
            let verdict = check(&history, &expected);
            let types = theirs["anomaly-types"].as_array().into_iter().flatten();
            let types: Vec<&str> = types.filter_map(Json::as_str).collect();
            let valid = theirs["valid?"] == true;
            // Where Elle ran out of time it only says that some cycle exists.
            let undecided = types.contains(&"cycle-search-timeout");
            let same = undecided || types == verdict.types;
            if !same || valid != (verdict.valid == Validity::True) {
                all.insert(
                    format!("{path:?} {name}"),
                    format!("{:?}, theirs {types:?}", verdict.types),
                );
            } else if undecided {
                eprintln!("{path:?} {name}: {:?}, theirs {types:?}", verdict.types);
            }
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}
