//! How far behind was the poll that was furthest behind?
//!
//! For each poll that succeeded and each key its process holds: the time from when the log is
//! known to have held more than the process had read, until the poll was invoked.
//!
//! Never: makes a history invalid.

use rustc_hash::FxHashMap;

use super::Analysis;
use crate::checker::explain::{key_json, process_json};
use crate::checker::graph::timeline::is_vertex;
use crate::checker::verdict::Lag;
use crate::history::columns::Op;
use crate::history::{EventType, Function, KeyId, MopRef};

/// When the log of a key was first known to reach an offset: offsets that set a new record, each
/// with the time at which it did.
#[derive(Debug, Default)]
struct Growth(Vec<(i64, u64)>);

impl Growth {
    fn grow(&mut self, offset: i64, time: u64) {
        if self.0.last().is_none_or(|&(highest, _)| offset > highest) {
            self.0.push((offset, time));
        }
    }

    /// When the log was known to reach an offset.
    fn reached(&self, offset: i64) -> Option<u64> {
        let place = self.0.partition_point(|&(highest, _)| highest < offset);
        self.0.get(place).map(|&(_, time)| time)
    }
}

/// The worst lag of a history.
pub(super) fn worst(analysis: &Analysis<'_>, _threads: usize) -> Option<Lag> {
    let history = analysis.history;
    let mut growth: Vec<Growth> = (0..history.key_count()).map(|_| Growth::default()).collect();
    let mut offsets: Vec<(KeyId, i64)> = Vec::new();
    for op in history.ops().filter(|op| op.complete_index().is_some()) {
        reached(&op, &mut offsets);
        for &(key, offset) in &offsets {
            growth[key.0 as usize].grow(offset, op.complete_ns());
        }
    }
    let mut worst: Option<(u64, u64, u32, KeyId)> = None;
    let mut held: FxHashMap<u32, FxHashMap<KeyId, i64>> = FxHashMap::default();
    for op in history.ops().filter(|op| op.is_client() && op.kind() == EventType::Ok) {
        let holds = held.entry(op.process().0).or_default();
        match op.function() {
            Function::Assign => {
                let bound = op.bound_keys();
                let before = std::mem::take(holds);
                let kept = |key: &KeyId| before.get(key).copied().unwrap_or(-1);
                *holds = bound.iter().map(|key| (*key, kept(key))).collect();
            }
            Function::Subscribe => holds.clear(),
            Function::Poll | Function::Txn => {
                reached(&op, &mut offsets);
                for &(key, offset) in &offsets {
                    let known = holds.entry(key).or_insert(offset);
                    *known = offset.max(*known);
                }
                for (&key, &offset) in holds.iter() {
                    let next = offset.checked_add(1);
                    let since = next.and_then(|next| growth[key.0 as usize].reached(next));
                    let lag = since.map_or(0, |since| op.invoke_ns().saturating_sub(since));
                    let found = (lag, op.invoke_ns(), op.process().0, key);
                    // The first of equals, so that the order of a map does not matter.
                    let is_worse = worst.is_none_or(|w| {
                        lag > w.0 || (lag == w.0 && (found.1, found.2, found.3) < (w.1, w.2, w.3))
                    });
                    if is_worse {
                        worst = Some(found);
                    }
                }
            }
            _ => {}
        }
    }
    let (lag, time, process, key) = worst?;
    let process = history.process(crate::history::columns::ProcessId(process));
    Some(Lag { time, process: process_json(process), key: key_json(history, key), lag })
}

/// The highest offset an operation sent to or polled from each key.
fn reached(op: &Op<'_>, offsets: &mut Vec<(KeyId, i64)>) {
    offsets.clear();
    if !is_vertex(op) || op.kind() == EventType::Fail {
        return;
    }
    let mut take =
        |key: KeyId, offset: i64| match offsets.iter_mut().find(|(known, _)| *known == key) {
            Some((_, highest)) => *highest = offset.max(*highest),
            None => offsets.push((key, offset)),
        };
    for mop in op.mops() {
        match mop {
            MopRef::Send { key, offset: Some(offset), .. } => take(key, offset.max(0)),
            MopRef::Poll(poll) => {
                for run in poll.runs() {
                    let highest = run.records().filter_map(|(offset, _)| offset).max();
                    take(run.key, highest.unwrap_or(-1));
                }
            }
            _ => {}
        }
    }
}
