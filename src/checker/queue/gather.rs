//! Turns a history's rows into what each key was sent and what was polled of it, in row order.
//!
//! Never: copies a record. A poll's records stay where the history has them.

use rustc_hash::FxHashMap;

use crate::checker::threads::stretches;
use crate::history::{EventType, Function, History, KeyId, MopRef, Value};

/// A row that is none.
pub(super) const NO_ROW: u32 = u32::MAX;

/// What became of a row, as far as the checks of this room care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not a client's send, poll or txn.
    Other,
    Ok,
    Fail,
    Info,
}

/// An offset that is not known. (The columns of a history use the same number for it.)
const NO_OFFSET: i64 = i64::MIN;

/// One value sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) row: u32,
    pub(super) value: Value,
    offset: i64,
}

impl Sent {
    /// Where it was acknowledged, if that is known.
    pub(super) fn offset(&self) -> Option<i64> {
        Some(self.offset).filter(|&offset| offset != NO_OFFSET)
    }
}

/// One run of polled records, by its place in the history. (Packed, as there are millions.)
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
pub(super) struct Polled {
    pub(super) row: u32,
    run: u64,
}

/// What a row is, as far as a walk through one key asks: few bytes, since every key asks again.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowFacts {
    pub(super) process: u32,
    /// How often the process had bound its consumer before or with this row.
    pub(super) binds: u32,
    pub(super) fate: Fate,
    /// Whether it polled: it is a client's poll or txn.
    pub(super) is_poll: bool,
    pub(super) is_complete: bool,
}

/// What rows are.
#[derive(Debug, Default)]
pub(super) struct Rows {
    facts: Vec<RowFacts>,
    /// The rows in which each process bound its consumer, in order.
    binds: Vec<Vec<u32>>,
    /// The rows in which each process polled and succeeded, in order.
    polls: Vec<Vec<u32>>,
    /// The keys that a rebalance took or gave while a row was under way.
    rebalanced: FxHashMap<u32, Vec<KeyId>>,
}

/// A history sorted by key.
#[derive(Debug)]
pub(super) struct Gathered<'h> {
    pub(super) history: &'h History,
    pub(super) rows: Rows,
    parts: Vec<Part>,
}

/// One stretch of rows.
#[derive(Debug, Default)]
struct Part {
    facts: Vec<RowFacts>,
    binds: Vec<(u32, u32)>,
    rebalanced: Vec<(u32, Vec<KeyId>)>,
    polls: Vec<(u32, u32)>,
    assigned: Vec<Vec<(u32, u32)>>,
    sent: Vec<Vec<Sent>>,
    polled: Vec<Vec<Polled>>,
}

impl<'h> Gathered<'h> {
    /// Sorts a history by key.
    pub(super) fn of(history: &'h History, threads: usize) -> Self {
        assert!(history.len() < NO_ROW as usize, "a history has fewer than 2^32 operations");
        let mut parts = stretches(threads, history.len(), |rows| Part::of(history, rows));
        let of_processes = vec![Vec::new(); history.process_count()];
        let mut rows = Rows { binds: of_processes.clone(), polls: of_processes, ..Rows::default() };
        for part in &mut parts {
            if rows.facts.is_empty() {
                rows.facts = std::mem::take(&mut part.facts);
            } else {
                rows.facts.append(&mut part.facts);
            }
            for (row, process) in part.binds.drain(..) {
                rows.binds[process as usize].push(row);
            }
            for (row, process) in part.polls.drain(..) {
                rows.polls[process as usize].push(row);
            }
            rows.rebalanced.extend(part.rebalanced.drain(..));
        }
        rows.count_binds();
        Self { history, rows, parts }
    }

    /// The sends to a key, one operation after the other.
    pub(super) fn sends(&self, key: usize) -> impl Iterator<Item = &[Sent]> {
        self.parts.iter().flat_map(move |p| p.sent[key].chunk_by(|a, b| a.row == b.row))
    }

    /// The runs polled of a key, one operation after the other.
    pub(super) fn polls(&self, key: usize) -> impl Iterator<Item = &[Polled]> {
        self.parts.iter().flat_map(move |p| p.polled[key].chunk_by(|a, b| a.row == b.row))
    }

    /// The records of one operation's runs, in order.
    pub(super) fn records(&self, runs: &[Polled]) -> impl Iterator<Item = (Option<i64>, Value)> {
        runs.iter().flat_map(|polled| self.history.run_at(polled.run).records())
    }

    /// The same, fast.
    pub(super) fn each_record(&self, runs: &[Polled], mut each: impl FnMut(Option<i64>, Value)) {
        for polled in runs {
            let records = self.history.run_at(polled.run).records();
            records.for_each(|(offset, value)| each(offset, value));
        }
    }

    /// The rows in which a key was assigned, each with its process.
    pub(super) fn assigned(&self, key: usize) -> impl Iterator<Item = (u32, u32)> {
        self.parts.iter().flat_map(move |p| p.assigned[key].iter().copied())
    }

    /// How much there is to do for a key.
    pub(super) fn weight(&self, key: usize) -> usize {
        self.parts.iter().map(|p| p.sent[key].len() + p.polled[key].len()).sum()
    }
}

impl Rows {
    /// Puts in how often each row's process had bound its consumer; a bind has a 1 so far.
    fn count_binds(&mut self) {
        if self.binds.iter().all(Vec::is_empty) {
            return;
        }
        let mut at = vec![0u32; self.binds.len()];
        for row in &mut self.facts {
            let binds = &mut at[row.process as usize];
            *binds += row.binds;
            row.binds = *binds;
        }
    }

    /// What a row is.
    #[inline]
    pub(super) fn facts(&self, row: u32) -> &RowFacts {
        &self.facts[row as usize]
    }

    /// What became of a row.
    #[inline]
    pub(super) fn fate(&self, row: u32) -> Fate {
        self.facts(row).fate
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether a process kept that key in every binding after its first so many, up to a row of
    /// its own.
    #[inline]
    pub(super) fn kept(&self, history: &History, key: KeyId, binds: u32, row: u32) -> bool {
        let later = self.facts(row);
        if later.binds == binds {
            return true;
        }
        let between = &self.binds[later.process as usize][binds as usize..later.binds as usize];
        between.iter().all(|&row| history.op(row as usize).bound_keys().contains(&key))
    }

    /// How often a process has bound its consumer in the whole history.
    pub(super) fn binds_of(&self, process: u32) -> u32 {
        self.binds[process as usize].len() as u32
    }

    /// The rows between two in which a process bound its consumer.
    pub(super) fn binds_between(&self, process: u32, after: u32, before: u32) -> &[u32] {
        let binds = &self.binds[process as usize];
        let from = binds.partition_point(|&row| row <= after);
        let to = binds.partition_point(|&row| row < before);
        &binds[from..to.max(from)]
    }

    /// The rows after one in which a process polled and succeeded.
    pub(super) fn polls_after(&self, process: u32, after: u32) -> &[u32] {
        let polls = &self.polls[process as usize];
        &polls[polls.partition_point(|&row| row <= after)..]
    }

    /// The last row from one up to another in which a process polled and succeeded.
    pub(super) fn last_poll(&self, process: u32, from: u32, before: u32) -> Option<u32> {
        let polls = &self.polls[process as usize];
        let place = polls.partition_point(|&row| row < before).checked_sub(1)?;
        Some(polls[place]).filter(|&row| row >= from)
    }

    /// Whether a rebalance touched a key while a row was under way.
    pub(super) fn is_rebalanced(&self, row: u32, key: KeyId) -> bool {
        !self.rebalanced.is_empty()
            && self.rebalanced.get(&row).is_some_and(|keys| keys.contains(&key))
    }
}

impl Part {
    fn of(history: &History, rows: std::ops::Range<usize>) -> Self {
        let keys = history.key_count();
        let mut part = Self {
            facts: Vec::with_capacity(rows.len()),
            assigned: vec![Vec::new(); keys],
            sent: vec![Vec::new(); keys],
            polled: vec![Vec::new(); keys],
            ..Self::default()
        };
        for row in rows {
            part.take(history, row);
        }
        part
    }

    fn take(&mut self, history: &History, row: usize) {
        let op = history.op(row);
        let process = op.process().0;
        let row = row as u32;
        let mut binds = 0;
        let fate = match op.function() {
            _ if !op.is_client() => Fate::Other,
            Function::Send | Function::Poll | Function::Txn => fate_of(op.kind()),
            Function::Assign | Function::Subscribe => {
                if op.kind() != EventType::Fail {
                    self.binds.push((row, process));
                    binds = 1;
                }
                if op.kind() == EventType::Ok && *op.function() == Function::Assign {
                    for key in op.bound_keys() {
                        self.assigned[key.0 as usize].push((row, process));
                    }
                }
                Fate::Other
            }
            _ => Fate::Other,
        };
        let is_poll = fate != Fate::Other && *op.function() != Function::Send;
        let is_complete = op.complete_index().is_some();
        self.facts.push(RowFacts { process, binds, fate, is_poll, is_complete });
        if fate == Fate::Other {
            return;
        }
        if fate == Fate::Ok && is_poll {
            self.polls.push((row, process));
        }
        for mop in op.mops() {
            match mop {
                MopRef::Send { key, value, offset } => {
                    let offset = offset.unwrap_or(NO_OFFSET);
                    self.sent[key.0 as usize].push(Sent { row, value, offset });
                }
                MopRef::Poll(poll) => {
                    for run in poll.runs() {
                        let place = history.run_place(run);
                        self.polled[run.key.0 as usize].push(Polled { row, run: place });
                    }
                }
                MopRef::Append { .. } | MopRef::Read { .. } => {}
            }
        }
        let log = op.extra("rebalance_log").or_else(|| op.extra("rebalance-log"));
        if let Some(text) = log {
            self.rebalanced.push((row, rebalanced_keys(history, text)));
        }
    }
}

fn fate_of(kind: EventType) -> Fate {
    match kind {
        EventType::Ok => Fate::Ok,
        EventType::Fail => Fate::Fail,
        EventType::Info | EventType::Invoke => Fate::Info,
    }
}

/// The keys of a rebalance log, `[{"type": …, "keys": […]}, …]`.
fn rebalanced_keys(history: &History, text: &str) -> Vec<KeyId> {
    let Ok(log) = serde_json::from_str::<serde_json::Value>(text) else { return Vec::new() };
    let entries = log.as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.get("keys").or_else(|| entry.get(":keys"))?.as_array())
        .flatten()
        .map(|key| key.as_str().map_or_else(|| key.to_string(), str::to_owned))
        .collect();
    (0..history.key_count() as u32)
        .map(KeyId)
        .filter(|&key| names.iter().any(|name| name == history.key_name(key)))
        .collect()
}
