//! Turns a short notation into operations and histories, for tests.
//!
//! Operations stand one after the other, separated by `|`: a process, what it does, and with what.
//!
//! ```text
//! 0 s a1@0 b2      process 0 sends 1 to key a, acknowledged at offset 0, and 2 to key b
//! 0 s! a1@0        the same, and definitely fails;  s? ends undecided, s~ never ends
//! 1 p a1@0 a2@1    process 1 polls two records in one poll;  p a1@0 ; a2@1  in two
//! 1 t s a1 ; p b1  a transaction that sends and polls
//! 1 as a b         binds its consumer by hand;  su  through a group
//! 0 begin          the next operation of process 0 is invoked here, not right before it ends
//! 0 l +a1 a:1,2    a transaction on lists: appends 1 to a, then reads a as [1 2]
//! ```

#![allow(dead_code)] // Each test file uses its part.

use std::fmt::Write as _;
use std::num::NonZeroUsize;

use fencepost::history::History;
use fencepost::history::read::{Format, read_history};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    Fail,
    Info,
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TestMop {
    Send {
        key: i64,
        value: i64,
        offset: Option<i64>,
    },
    /// Key, offset, value.
    Poll(Vec<(i64, Option<i64>, i64)>),
    Append {
        key: i64,
        value: i64,
    },
    Read {
        key: i64,
        values: Vec<i64>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestOp {
    pub(crate) process: i64,
    pub(crate) function: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) mops: Vec<TestMop>,
    pub(crate) keys: Vec<i64>,
    /// The places of its two events.
    pub(crate) invoked: usize,
    pub(crate) completed: Option<usize>,
}

/// The operations of a text, with the places of their events.
pub(crate) fn operations(text: &str) -> Vec<TestOp> {
    let mut ops: Vec<TestOp> = Vec::new();
    let mut begun: Vec<(i64, usize)> = Vec::new();
    let mut event = 0;
    for item in text.split('|').map(str::trim).filter(|item| !item.is_empty()) {
        let mut words = item.splitn(3, ' ');
        let process: i64 = words.next().expect("a word").parse().expect("a process");
        let what = words.next().expect("what it does");
        let with = words.next().unwrap_or("").trim();
        if what == "begin" {
            begun.push((process, event));
            event += 1;
            continue;
        }
        let mut op = operation(process, what, with);
        op.invoked = match begun.iter().position(|(p, _)| *p == process) {
            Some(place) => begun.remove(place).1,
            None => {
                event += 1;
                event - 1
            }
        };
        if op.outcome != Outcome::Never {
            op.completed = Some(event);
            event += 1;
        }
        ops.push(op);
    }
    assert!(begun.is_empty(), "begun and never ended: {text}");
    ops
}

fn operation(process: i64, what: &str, with: &str) -> TestOp {
    let (what, outcome) = match what.chars().last() {
        Some('!') => (&what[..what.len() - 1], Outcome::Fail),
        Some('?') => (&what[..what.len() - 1], Outcome::Info),
        Some('~') => (&what[..what.len() - 1], Outcome::Never),
        _ => (what, Outcome::Ok),
    };
    let mut op = TestOp {
        process,
        function: "txn",
        outcome,
        mops: Vec::new(),
        keys: Vec::new(),
        invoked: 0,
        completed: None,
    };
    match what {
        "s" => {
            op.function = "send";
            op.mops = sends(with);
        }
        "p" => {
            op.function = "poll";
            op.mops = with.split(';').map(poll).collect();
        }
        "t" => {
            for part in with.split(';').map(str::trim) {
                match part.split_once(' ').unwrap_or((part, "")) {
                    ("s", with) => op.mops.extend(sends(with)),
                    ("p", with) => op.mops.push(poll(with)),
                    other => panic!("{other:?} is no micro-operation"),
                }
            }
        }
        "as" | "su" => {
            op.function = if what == "as" { "assign" } else { "subscribe" };
            op.keys = with.split_whitespace().map(|word| key(word).0).collect();
        }
        "l" => op.mops = with.split_whitespace().map(on_list).collect(),
        other => panic!("nobody can {other}"),
    }
    op
}

fn key(word: &str) -> (i64, &str) {
    let letter = word.chars().next().expect("a key");
    (letter as i64 - 'a' as i64, &word[1..])
}

fn record(word: &str) -> (i64, Option<i64>, i64) {
    let (key, rest) = key(word);
    let (value, offset) = rest.split_once('@').map_or((rest, None), |(v, o)| (v, Some(o)));
    (key, offset.map(|o| o.parse().expect("an offset")), value.parse().expect("a value"))
}

fn sends(with: &str) -> Vec<TestMop> {
    let sends = with.split_whitespace().map(record);
    sends.map(|(key, offset, value)| TestMop::Send { key, value, offset }).collect()
}

fn poll(with: &str) -> TestMop {
    TestMop::Poll(with.split_whitespace().map(record).collect())
}

fn on_list(word: &str) -> TestMop {
    if let Some(rest) = word.strip_prefix('+') {
        let (key, value) = key(rest);
        return TestMop::Append { key, value: value.parse().expect("a value") };
    }
    let (key, values) = key(word);
    let values = values.trim_start_matches(':');
    let values = values.split(',').filter(|v| !v.is_empty());
    TestMop::Read { key, values: values.map(|v| v.parse().expect("a value")).collect() }
}

/// The operations as a history in EDN.
pub(crate) fn edn(ops: &[TestOp]) -> String {
    let mut events: Vec<(usize, String)> = Vec::new();
    for op in ops {
        let line = |index: usize, kind: &str, is_done: bool| {
            let value = value(op, is_done);
            format!(
                "{{:index {index}, :time {index}, :type :{kind}, :process {}, :f :{}, :value {value}}}",
                op.process, op.function
            )
        };
        events.push((op.invoked, line(op.invoked, "invoke", false)));
        if let Some(completed) = op.completed {
            let kind = match op.outcome {
                Outcome::Ok => "ok",
                Outcome::Fail => "fail",
                _ => "info",
            };
            events.push((completed, line(completed, kind, true)));
        }
    }
    events.sort();
    events.into_iter().fold(String::new(), |mut text, (_, line)| {
        text.push_str(&line);
        text.push('\n');
        text
    })
}

fn value(op: &TestOp, is_done: bool) -> String {
    if op.mops.is_empty() {
        return format!("{:?}", op.keys).replace(',', "");
    }
    let mut text = String::from("[");
    for mop in &op.mops {
        match mop {
            TestMop::Send { key, value, .. } if !is_done => {
                let _ = write!(text, "[:send {key} {value}]");
            }
            TestMop::Send { key, value, offset } => {
                let offset = offset.map_or("nil".into(), |offset| offset.to_string());
                let _ = write!(text, "[:send {key} [{offset} {value}]]");
            }
            TestMop::Poll(_) if !is_done => text.push_str("[:poll]"),
            TestMop::Poll(records) => {
                text.push_str("[:poll {");
                let mut keys: Vec<i64> = records.iter().map(|r| r.0).collect();
                keys.sort_unstable();
                keys.dedup();
                for key in keys {
                    let _ = write!(text, "{key} [");
                    for (_, offset, value) in records.iter().filter(|r| r.0 == key) {
                        let offset = offset.map_or("nil".into(), |offset| offset.to_string());
                        let _ = write!(text, "[{offset} {value}]");
                    }
                    text.push_str("] ");
                }
                text.push_str("}]");
            }
            TestMop::Append { key, value } => {
                let _ = write!(text, "[:append {key} {value}]");
            }
            TestMop::Read { key, values } if is_done => {
                let _ = write!(text, "[:r {key} {}]", format!("{values:?}").replace(',', ""));
            }
            TestMop::Read { key, .. } => {
                let _ = write!(text, "[:r {key} nil]");
            }
        }
    }
    text + "]"
}

/// A history in EDN, read.
pub(crate) fn parse(edn: &str) -> History {
    read_history(edn.as_bytes(), Format::Edn, NonZeroUsize::MIN).expect("the text is EDN").history
}

/// The history of a text in the short notation.
pub(crate) fn history(text: &str) -> History {
    parse(&edn(&operations(text)))
}
