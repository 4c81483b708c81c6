//! Every row of the table of anomalies is proved: a history or an exchange that it catches, one
//! that comes near and shows nothing of the name, and what `docs/CHECKER.md` says of planted bugs.
//!
//! A row without all of these fails here. What a history shows beside the row's own name stands
//! in the row: it cannot be without it.

mod notation;

use std::collections::{BTreeMap, BTreeSet};

use fencepost::broker::embedded::Bug;
use fencepost::checker::anomaly::{ANOMALIES, Anomaly, Source, find_anomaly};
use fencepost::checker::wire::Invariant;
use fencepost::checker::{ConsistencyModel, Expectation, Workload, check};
use notation::history;

/// What proves a row.
struct Proof {
    name: &'static str,
    /// A history that shows it.
    shows: &'static str,
    /// What it shows besides.
    beside: &'static [&'static str],
    /// A history that comes near, and what it shows instead.
    near: &'static str,
    instead: &'static [&'static str],
}

const fn proof(
    name: &'static str,
    shows: &'static str,
    beside: &'static [&'static str],
    near: &'static str,
    instead: &'static [&'static str],
) -> Proof {
    Proof { name, shows, beside, near, instead }
}

#[rustfmt::skip]
const QUEUE: &[Proof] = &[
    proof("phantom-read", "0 s a1@0 | 1 p a1@0 a9@1", &[], "0 s a1@0 | 0 s? a9 | 1 p a1@0 a9@1", &[]),
    proof("zombie-write", FENCED, &["G1a"], "0 s! a1@0 | 1 p a1@0", &["G1a"]),
    proof("inconsistent-offsets", "0 s a1@0 | 1 p a1@0 | 0 s? a2@0 | 2 p a2@0", &[],
        "0 s a1@0 | 1 p a1@0 | 0 s! a2@0 | 2 p a1@0", &[]),
    proof("torn-transaction", "0 s? a1@0 b1@0 | 1 s b2@1 | 2 p a1@0 | 2 p b2@1", &["lost-write"],
        "0 s? a1@0 b1@0 | 1 s b2@1 | 2 p a1@0 | 2 p b1@0 b2@1", &[]),
    proof("lost-write", "0 s a1@0 | 0 s a2@1 | 1 p a2@1", &["unseen"],
        "0 s? a1@0 | 0 s a2@1 | 1 p a2@1", &[]),
    proof("duplicate", "0 s a1@0 | 1 p a1@3", &[], "0 s a1@3 | 1 p a1@3 | 2 p a1@3", &[]),
    proof("duplicate-nonzero", "0 s a1@1 | 1 p a1@3", &["duplicate"],
        "0 s a1@0 | 1 p a1@3", &["duplicate"]),
    proof("G1a", "0 s! a1@0 | 1 p a1@0", &[], "0 s? a1@0 | 1 p a1@0", &[]),
    proof("precommitted-read", "0 t s a1@0 ; p a1@0 | 1 s b1@0 | 1 p b1@0", &[],
        "0 s a1@0 | 0 t p a1@0 ; s a2@1 | 1 p a2@1", &[]),
    proof("hanging-transaction",
        "1 as a | 0 s a1@0 | 1 p a1@0 | 0 s? a2@1 | 2 s a3@2 | 1 p", &["unseen"],
        "1 as a | 0 s a1@0 | 1 p a1@0 | 0 s? a2@1 | 2 s a3@2 | 1 p a2@1 a3@2", &[]),
    proof("G1b", "0 s a1@0 a2@1 | 1 p a1@0 | 2 p a1@0 a2@1", &["G-single"],
        "0 s a1@0 a2@1 | 1 p a1@0 a2@1 | 2 p a1@0 a2@1", &[]),
    proof("int-nonmonotonic-send", "0 s a2@2 a1@1 | 5 p a1@1 a2@2", &["G1b"],
        "0 s a1@1 a2@2 | 5 p a1@1 a2@2", &[]),
    // Whose earlier send stands later has also written against the order of time.
    proof("nonmonotonic-send", "0 s a2@2 | 0 s a1@1 | 5 p a1@1 a2@2", &["G0-realtime"],
        "0 s a2@2 | 0 as b | 0 s a1@1 | 5 p a1@1 a2@2", &["G0-realtime"]),
    proof("int-nonmonotonic-poll", "9 s a1@1 | 8 p a1@1 | 0 p a1@1 a1@1", &[],
        "9 s a1@1 | 9 s a2@2 | 8 p a1@1 a2@2 | 0 p a1@1 ; a2@2", &[]),
    proof("int-poll-skip", "9 s a1@1 a2@2 a3@3 | 8 p a1@1 a2@2 a3@3 | 0 p a1@1 a3@3", &[],
        "9 s a1@1 a2@2 a3@5 | 8 p a1@1 a2@2 a3@5 | 0 p a2@2 a3@5", &[]),
    proof("nonmonotonic-poll", "9 s a1@1 | 9 s a2@2 | 8 p a1@1 a2@2 | 0 p a2@2 | 0 p a1@1", &[],
        "9 s a1@1 | 9 s a2@2 | 8 p a1@1 a2@2 | 0 p a2@2 | 1 p a1@1", &[]),
    proof("poll-skip", "9 s a1@1 a2@2 a3@3 | 8 p a1@1 a2@2 a3@3 | 0 p a1@1 | 0 p a3@3", &["G-single", "G1b"],
        "9 s a1@1 a2@2 a3@3 | 8 p a1@1 a2@2 a3@3 | 0 p a1@1 | 0 as b | 0 p a3@3", &["G-single", "G1b"]),
    proof("unseen", "0 s a1@0 | 1 p | 0 s a2@1 | 1 p a1@0", &[],
        "0 s a1@0 | 1 p | 0 s? a2@1 | 1 p a1@0", &[]),
    proof("G1c", "0 begin | 1 begin | 0 t s a1@0 ; p b1@0 | 1 t s b1@0 ; p a1@0", &[],
        "0 begin | 1 begin | 0 t s a1@0 ; p | 1 t s b1@0 ; p a1@0 | 2 p b1@0", &[]),
    // Where invocations are missing, only the order within a process is known.
    proof("G1c-process", READ_THEN_SENT, &[], READ_THEN_SENT_BY_ANOTHER, &[]),
    proof("G1c-realtime", "0 p a1@0 | 1 s a1@0", &[], "0 begin | 1 s a1@0 | 0 p a1@0", &[]),
    proof("G0", "0 begin | 1 s a2@1 b1@0 | 0 s a1@0 b2@1 | 2 p a1@0 a2@1 b1@0 b2@1", &[],
        "0 begin | 1 s a2@1 b2@1 | 0 s a1@0 b1@0 | 2 p a1@0 a2@1 b1@0 b2@1", &[]),
    proof("G0-process", SENT_BACKWARDS, &[], SENT_BACKWARDS_BY_TWO, &[]),
    proof("G0-realtime", "0 s a2@2 | 1 s a1@1 | 5 p a1@1 a2@2", &[],
        "1 begin | 0 s a2@2 | 1 s a1@1 | 5 p a1@1 a2@2", &[]),
    proof("G-single", "0 s a1@0 | 1 begin | 0 s a2@1 b1@0 | 1 p a1@0 b1@0 | 2 p a2@1", &[],
        "0 s a1@0 | 1 begin | 0 s a2@1 b1@0 | 1 p a1@0 | 2 p a2@1 b1@0", &[]),
    proof("G2-item",
        "0 s a1@0 b1@0 | 1 s a2@1 | 2 s b2@1 | 3 p a1@0 a2@1 b1@0 | 4 p a1@0 b1@0 b2@1", &[],
        "0 s a1@0 b1@0 | 1 s a2@1 | 2 s b2@1 | 3 p a1@0 a2@1 b1@0 | 4 p a1@0 a2@1 b1@0 b2@1", &[]),
    proof("empty-transaction-graph", "0 as a", &[], "0 p | 1 p", &[]),
    proof("int-send-skip", "0 begin | 1 s a2@2 | 0 s a1@1 a3@3 | 5 p a1@1 a2@2 a3@3", &["G0"],
        "0 begin | 1 s a2@1 | 0 s a1@2 a3@3 | 5 p a2@1 a1@2 a3@3", &[]),
];

const FENCED: &str = "{:index 0, :type :invoke, :process 0, :f :send, :value [[:send 0 1]]}
    {:index 1, :type :fail, :process 0, :f :send, :value [[:send 0 [0 1]]], :error :producer-fenced}
    {:index 2, :type :invoke, :process 1, :f :poll, :value [[:poll]]}
    {:index 3, :type :ok, :process 1, :f :poll, :value [[:poll {0 [[0 1]]}]]}";
const READ_THEN_SENT: &str =
    "{:index 0, :type :ok, :process 0, :f :poll, :value [[:poll {0 [[0 1]]}]]}
    {:index 1, :type :ok, :process 0, :f :send, :value [[:send 0 [0 1]]]}";
const READ_THEN_SENT_BY_ANOTHER: &str =
    "{:index 0, :type :ok, :process 0, :f :poll, :value [[:poll {0 [[0 1]]}]]}
    {:index 1, :type :ok, :process 1, :f :send, :value [[:send 0 [0 1]]]}";
const SENT_BACKWARDS: &str = "{:index 0, :type :ok, :process 0, :f :send, :value [[:send 0 [1 1]]]}
    {:index 1, :type :ok, :process 0, :f :assign, :value [7]}
    {:index 2, :type :ok, :process 0, :f :send, :value [[:send 0 [0 2]]]}
    {:index 3, :type :ok, :process 1, :f :poll, :value [[:poll {0 [[0 2] [1 1]]}]]}";
const SENT_BACKWARDS_BY_TWO: &str =
    "{:index 0, :type :ok, :process 0, :f :send, :value [[:send 0 [1 1]]]}
    {:index 2, :type :ok, :process 2, :f :send, :value [[:send 0 [0 2]]]}
    {:index 3, :type :ok, :process 1, :f :poll, :value [[:poll {0 [[0 2] [1 1]]}]]}";

/// The rows of lists are looked for under a model that forbids them.
struct ListProof {
    model: &'static str,
    proof: Proof,
}

const fn list(
    name: &'static str,
    model: &'static str,
    shows: &'static str,
    beside: &'static [&'static str],
    near: &'static str,
    instead: &'static [&'static str],
) -> ListProof {
    ListProof { model, proof: proof(name, shows, beside, near, instead) }
}

const STRICT: &str = "strict-serializable";
const SESSION: &str = "strong-session-serializable";

#[rustfmt::skip]
const LISTS: &[ListProof] = &[
    list("G1a", STRICT, "0 l! +a1 | 1 l +b1 | 1 l a:1 b:1", &[], "0 l? +a1 | 1 l a:1", &[]),
    list("duplicate-elements", "read-uncommitted", "0 l +a1 | 1 l a:1,1", &[],
        "0 l +a1 | 1 l a:1 a:1", &[]),
    list("incompatible-order", "read-committed", "0 l +a1 | 1 l +a2 | 2 l a:1,2 | 3 l a:2", &[],
        "0 l +a1 | 1 l +a2 | 2 l a:1,2 | 3 l a:1", &[]),
    list("internal", STRICT, "0 l +a1 a: | 1 l +b1 | 1 l b:1", &[], "0 l a: +a1 a:1 | 1 l a:1", &[]),
    list("future-read", STRICT, "0 l a:1 +a1 | 1 l +b1 | 1 l b:1", &[], "0 l +a1 a:1 | 1 l a:1", &[]),
    list("dirty-update", STRICT, "0 l! +a1 | 1 l +a2 | 2 l a:1,2", &["G1a"],
        "0 l? +a1 | 1 l +a2 | 2 l a:1,2", &[]),
    list("lost-update", "repeatable-read", "0 begin | 1 begin | 0 l a: +a1 | 1 l a: +a2 | 2 l a:1,2",
        &["G-single-item"], "0 begin | 1 begin | 0 l a: +a1 | 1 l a:1 +a2 | 2 l a:1,2", &[]),
    list("G1b", STRICT, "0 l +a1 +a2 | 1 l a:1 | 2 l a:1,2", &["G-single-item"],
        "0 l +a1 +a2 | 1 l a:1,2 | 2 l a:1,2", &[]),
    list("G1c", STRICT, "0 begin | 1 begin | 0 l +a1 b:1 | 1 l +b1 a:1", &[],
        "0 begin | 1 begin | 0 l +a1 b: | 1 l +b1 a:1", &[]),
    list("G1c-process", SESSION, "0 l a:1 | 0 l +a1", &[], "0 l a:1 | 1 l +a1", &[]),
    list("G1c-realtime", STRICT, "0 l a:1 | 1 l +a1", &[], "1 begin | 0 l a:1 | 1 l +a1", &[]),
    list("G0", "read-uncommitted", "0 begin | 1 l +a2 +b1 | 0 l +a1 +b2 | 2 l a:1,2 b:1,2", &[],
        "0 begin | 1 l +a2 +b2 | 0 l +a1 +b1 | 2 l a:1,2 b:1,2", &[]),
    list("G0-process", SESSION, "0 l +a2 | 0 l +a1 | 1 l a:1,2", &[],
        "0 l +a2 | 2 l +a1 | 1 l a:1,2", &[]),
    list("G0-realtime", STRICT, "0 l +a2 | 2 l +a1 | 1 l a:1,2", &[],
        "2 begin | 0 l +a2 | 2 l +a1 | 1 l a:1,2", &[]),
    list("G-single-item", STRICT, "0 begin | 1 l +a1 +b1 | 0 l a: b:1 | 2 l a:1", &[],
        "0 begin | 1 l +a1 +b1 | 0 l a: b: | 2 l a:1", &[]),
    list("G-single-item-process", SESSION, "0 l +a1 | 0 l a:", &[], "0 l +a1 | 1 l a:", &[]),
    list("G-single-item-realtime", STRICT, "0 l +a1 | 1 l a:", &[], "1 begin | 0 l +a1 | 1 l a:", &[]),
    list("G-nonadjacent-item", "snapshot-isolation",
        "0 begin | 1 begin | 2 begin | 3 begin | 0 l +a1 | 1 l +b1 | 2 l a:1 b: | 3 l a: b:1", &[],
        "0 begin | 1 begin | 2 begin | 3 begin | 0 l +a1 | 1 l +b1 | 2 l a:1 b: | 3 l a:1 b:1", &[]),
    list("G-nonadjacent-item-process", SESSION, "0 l +a1 | 1 l +b1 | 0 l b: | 1 l a:", &[],
        "0 l +a1 | 1 l +b1 | 0 l b: | 2 l a:", &[]),
    list("G-nonadjacent-item-realtime", STRICT,
        "0 begin | 2 begin | 1 l +b1 | 3 l a: | 2 l a:1 b: | 0 l +a1", &[],
        "0 begin | 2 begin | 1 l +b1 | 3 l a:1 | 2 l a:1 b: | 0 l +a1", &[]),
    list("G2-item", "serializable", "0 begin | 1 begin | 0 l a: +b1 | 1 l b: +a1 | 2 l a:1 b:1", &[],
        "0 begin | 1 begin | 0 l a: +b1 | 1 l b:1 +a1 | 2 l a:1 b:1", &[]),
    list("G2-item-process", SESSION, "1 begin | 0 l +b1 | 0 l a: | 1 l b: +a1", &[],
        "1 begin | 0 l +b1 | 2 l a: | 1 l b: +a1", &[]),
    list("G2-item-realtime", STRICT, "1 begin | 0 l +b1 | 2 l a: | 1 l b: +a1", &[],
        "1 begin | 2 begin | 0 l +b1 | 2 l a: | 1 l b: +a1", &[]),
    list("empty-transaction-graph", STRICT, "0 l +a1", &[], "0 l +a1 | 1 l a:1", &[]),
];

/// What is wrong with a proof.
fn wrong(proof: &Proof, expected: &Expectation) -> Vec<String> {
    let mut wrong = Vec::new();
    let with_name = [&[proof.name], proof.beside].concat();
    for (text, must) in [(proof.shows, with_name), (proof.near, proof.instead.to_vec())] {
        let history = if text.starts_with('{') { notation::parse(text) } else { history(text) };
        let found = check(&history, expected).types;
        if found.iter().map(String::as_str).collect::<BTreeSet<_>>()
            != must.iter().copied().collect()
        {
            wrong.push(format!("{}: {found:?} instead of {must:?} in {text}", proof.name));
        }
    }
    wrong
}

fn names(source: impl Fn(Source) -> bool) -> BTreeSet<&'static str> {
    ANOMALIES.iter().filter(|row| source(row.source)).map(|row| row.name).collect()
}

#[test]
fn every_row_of_queues_is_caught_and_has_a_near_miss() {
    assert_eq!(
        QUEUE.iter().map(|proof| proof.name).collect::<BTreeSet<_>>(),
        names(Source::is_queue)
    );
    let wrong: Vec<String> =
        QUEUE.iter().flat_map(|proof| wrong(proof, &Expectation::default())).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_of_lists_is_caught_and_has_a_near_miss() {
    let all: BTreeSet<_> = LISTS.iter().map(|list| list.proof.name).collect();
    assert_eq!(all, names(Source::is_list_append));
    let judged = |list: &ListProof| {
        let expected = Expectation {
            workload: Workload::ListAppend,
            consistency_model: ConsistencyModel::find(list.model).expect("a model"),
            ..Expectation::default()
        };
        wrong(&list.proof, &expected)
    };
    let wrong: Vec<String> = LISTS.iter().flat_map(judged).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The unit tests of the invariants check each on a scene that breaks it and on one that nearly
/// does; here only that none is without.
#[test]
fn every_row_of_the_wire_is_caught_and_has_a_near_miss() {
    let scenes = [
        include_str!("../src/checker/wire/tests/planted/acks.rs"),
        include_str!("../src/checker/wire/tests/planted/framing.rs"),
        include_str!("../src/checker/wire/tests/planted/groups.rs"),
        include_str!("../src/checker/wire/tests/planted/log.rs"),
        include_str!("../src/checker/wire/tests/planted/producers.rs"),
        include_str!("../src/checker/wire/tests/planted/stable.rs"),
    ]
    .concat();
    for row in ANOMALIES.iter().filter(|row| row.source == Source::Wire) {
        let invariant = Invariant::ALL.into_iter().find(|one| one.name() == row.name);
        let told = match invariant {
            Some(invariant) => ["check(", "check_with("]
                .map(|call| format!("{call}Invariant::{invariant:?},"))
                .iter()
                .any(|call| scenes.contains(call)),
            None => scenes.contains(&format!("&[\"{}\"]", row.name)),
        };
        assert!(told, "{} has no scene", row.name);
    }
}

/// The table of `docs/CHECKER.md`: for each name, the bugs said to prove it.
fn documented() -> BTreeMap<String, Vec<String>> {
    let page = include_str!("../docs/CHECKER.md");
    let (_, table) = page.split_once("| anomaly | planted bug |\n").expect("the table is there");
    let quoted = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let mut all = BTreeMap::new();
    for line in table.lines().skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let bugs: Vec<String> =
            quoted(cells[1]).into_iter().filter(|name| Bug::from_name(name).is_some()).collect();
        for name in quoted(cells[0]) {
            all.insert(name, bugs.clone());
        }
    }
    all
}

fn is_told_by(bug: Bug, row: &Anomaly) -> bool {
    [bug.must(), bug.also(), bug.may_follow()].concat().contains(&row.name)
}

#[test]
fn the_page_names_every_row_and_bugs_that_cause_it() {
    let documented = documented();
    for row in ANOMALIES.iter().filter(|row| row.source != Source::ListAppend) {
        // Forms in time stand under the name without them.
        let plain = row.name.trim_end_matches("-process").trim_end_matches("-realtime");
        let bugs = documented.get(row.name).or_else(|| documented.get(plain));
        let bugs = bugs.unwrap_or_else(|| panic!("{} does not stand in docs/CHECKER.md", row.name));
        for name in bugs {
            let bug = Bug::from_name(name).expect("a bug");
            assert!(is_told_by(bug, row), "{name} says nothing of {}", row.name);
        }
    }
    for name in documented.keys() {
        assert!(find_anomaly(name).is_some(), "{name} of docs/CHECKER.md is no row");
    }
}
