//! A brute-force twin of the checker: the definitions, written down as plainly as they go, must
//! say the same of every small history.
//!
//! Exhaustive: all queue histories of up to three operations (two in debug builds) out of an
//! alphabet of 36, by one process or two, each also with its first operation open to the end.
//! Above that, random ones of three to nine operations; and random list-append histories, for the
//! types of their cycles.

mod cycles;
mod lists;
#[path = "../notation/mod.rs"]
mod notation;
mod queue;

use fencepost::checker::{Expectation, check_on};
use notation::{TestOp, edn, operations, parse};
use queue::{Counts, queue_twin};

#[track_caller]
fn compare(ops: &[TestOp]) {
    let history = parse(&edn(ops));
    for ww_deps in [false, true] {
        let expected = Expectation { ww_deps, ..Expectation::default() };
        let verdict = check_on(1, &history, &expected);
        let fast: Counts = verdict
            .anomalies
            .iter()
            .filter(|(name, _)| *name != "hanging-transaction")
            .map(|(name, found)| (name.clone(), found.count))
            .collect();
        assert_eq!(fast, queue_twin(ops, ww_deps), "ww-deps {ww_deps} of\n{}", edn(ops));
        for (name, found) in &verdict.anomalies {
            assert!(!found.cases.is_empty(), "{name} without a case");
            for case in &found.cases {
                assert!(!case.explanation.is_empty(), "{name} without an explanation");
            }
        }
    }
}

/// What one operation may be, in the notation, without its process.
const ALPHABET: &[&str] = &[
    "s a1",
    "s a1@0",
    "s a1@1",
    "s a2",
    "s a2@0",
    "s a2@1",
    "s a1@0 a2@1",
    "s a2@0 a1@1",
    "s a3@2",
    "s? a1@0",
    "s? a2@1",
    "s? a1@0 a2@1",
    "s? a1@1 b1@0",
    "s! a1@0",
    "s! a2@1",
    "s~ a1@0",
    "p",
    "p a1@0",
    "p a1@1",
    "p a2@1",
    "p a1",
    "p a3@2",
    "p a1@0 a2@1",
    "p a1@0 ; a2@1",
    "p a2@1 a1@0",
    "p a1@0 a3@2",
    "p b1@0",
    "p! a1@0",
    "p? a2@1",
    "p! a1@0 a3@2",
    "t s a1@0 ; p a1@0",
    "t p a2@1 ; s a1@0",
    "t s a2@1 ; p a1@0",
    "as a",
    "as b",
    "su! b",
];

/// All sequences of so many operations, by two processes in turn or by one.
fn all(length: usize, mut each: impl FnMut(&[TestOp])) {
    let total = ALPHABET.len().pow(length as u32);
    for number in 0..total {
        let mut rest = number;
        let mut words = Vec::new();
        for _ in 0..length {
            words.push(ALPHABET[rest % ALPHABET.len()]);
            rest /= ALPHABET.len();
        }
        for pattern in ["000", "011", "010"] {
            let processes: Vec<u32> = pattern.chars().filter_map(|c| c.to_digit(10)).collect();
            let items = words.iter().zip(&processes).map(|(word, process)| {
                // A process whose operation never ends does nothing more.
                let process = if word.contains('~') { process + 5 } else { *process };
                format!("{process} {word}")
            });
            let text = items.collect::<Vec<_>>().join(" | ");
            each(&operations(&text));
            if pattern == "011" && length > 1 {
                // The first operation is invoked first and ends last.
                let mut items: Vec<&str> = text.split(" | ").collect();
                let first = items.remove(0);
                let process = first.split(' ').next().expect("a process");
                each(&operations(&format!("{process} begin | {} | {first}", items.join(" | "))));
            }
        }
    }
}

#[test]
fn all_small_queue_histories_are_judged_as_the_definitions_say() {
    let length = if cfg!(debug_assertions) { 2 } else { 3 };
    for length in 1..=length {
        all(length, compare);
    }
}

/// A generator good enough to draw test histories; fixed for ever by its seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        ((self.0 >> 33) as usize) % end
    }
}

#[test]
fn random_queue_histories_are_judged_as_the_definitions_say() {
    let mut draw = Draw(7);
    let rounds = if cfg!(debug_assertions) { 1_500 } else { 60_000 };
    for _ in 0..rounds {
        let count = 3 + draw.below(7);
        let mut open: Vec<usize> = Vec::new();
        let mut items: Vec<String> = Vec::new();
        for n in 0..count {
            let mut process = draw.below(3);
            let word = random_operation(&mut draw);
            if word.contains('~') {
                process = 10 + n;
            } else if draw.below(3) == 0 && !open.contains(&process) {
                open.push(process);
                items.push(format!("{process} begin"));
                continue;
            }
            open.retain(|p| *p != process);
            items.push(format!("{process} {word}"));
        }
        for process in open {
            let mut word = random_operation(&mut draw);
            while word.contains('~') {
                word = random_operation(&mut draw);
            }
            items.push(format!("{process} {word}"));
        }
        compare(&operations(&items.join(" | ")));
    }
}

fn random_operation(draw: &mut Draw) -> String {
    let outcome = ["", "", "", "", "!", "?", "~"][draw.below(7)];
    let record = |draw: &mut Draw, key: &str| {
        let value = 1 + draw.below(5);
        // Mostly in order, sometimes not, sometimes unknown.
        match draw.below(8) {
            0 => format!("{key}{value}"),
            1 => format!("{key}{value}@{}", draw.below(6)),
            _ => format!("{key}{value}@{}", value - 1),
        }
    };
    let records = |draw: &mut Draw| {
        let count = draw.below(4);
        let key = ["a", "a", "b"][draw.below(3)];
        (0..count).map(|_| record(draw, key)).collect::<Vec<_>>().join(" ")
    };
    match draw.below(8) {
        0..=2 => format!("s{outcome} {} {}", record(draw, "a"), records(draw)),
        3..=4 => format!("p{outcome} {} ; {}", records(draw), records(draw)),
        5..=6 => {
            format!("t{outcome} s {} ; p {} ; s {}", records(draw), records(draw), records(draw))
        }
        _ => format!("as{} {}", outcome.replace('~', ""), ["a", "b", "a b"][draw.below(3)]),
    }
}

// Lists.
