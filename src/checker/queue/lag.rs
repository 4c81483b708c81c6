//! How far behind was the poll that was furthest behind?
//!
//! For each poll that succeeded and each key its process holds: the time from when the log is
//! known to have held more than the process had read, until the poll was invoked. A process holds
//! the keys it assigned, from before the first offset, and those it has polled or sent to; a
//! subscription lets go of all.
//!
//! As long as a process stays where it is in a key, its lag only grows; so only its last poll
//! before it moves needs a look, and the whole costs no more than the records.
//!
//! Never: makes a history invalid.

use super::gather::{Fate, Gathered, RowFacts, Sent};
use crate::checker::explain::{key_json, process_json};
use crate::checker::verdict::Lag;
use crate::history::columns::ProcessId;
use crate::history::{EventType, Function, History, KeyId};

/// The end of a history.
const END: u32 = u32::MAX;

/// Where a process is in the key at hand, and since which row.
#[derive(Debug, Clone, Copy)]
struct Held {
    key: u32,
    offset: i64,
    since: u32,
    /// How often the process had bound its consumer by then.
    binds: u32,
}

/// A lag, so that the worst is the greatest; of equals the first.
type Worst = (u64, std::cmp::Reverse<(u64, u32, u32)>);

/// The search for the worst lag, one of these a thread.
#[derive(Debug)]
pub(super) struct LagSearch {
    held: Vec<Held>,
    touched: Vec<u32>,
    /// Offsets that set a new record in the key at hand, each with the time it was known.
    growth: Vec<(i64, u64)>,
    worst: Option<Worst>,
}

impl LagSearch {
    pub(super) fn new(processes: usize) -> Self {
        let nowhere = Held { key: END, offset: 0, since: 0, binds: 0 };
        Self {
            held: vec![nowhere; processes],
            touched: Vec::new(),
            growth: Vec::new(),
            worst: None,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.worst = self.worst.max(other.worst);
    }

    /// What was found.
    pub(super) fn finish(&self, history: &History) -> Option<Lag> {
        let (lag, std::cmp::Reverse((time, process, key))) = self.worst?;
        let process = process_json(history.process(ProcessId(process)));
        Some(Lag { time, process, key: key_json(history, KeyId(key)), lag })
    }

    /// Goes through one key. `polled` has the highest offset that each operation polled of it.
    pub(super) fn key(&mut self, gathered: &Gathered<'_>, key: u32, polled: &[(u32, i64)]) {
        self.growth.clear();
        self.touched.clear();
        let mut polled = polled.iter().copied().peekable();
        let sent = gathered.sends(key as usize).filter_map(|sends| {
            let highest = sends.iter().filter_map(Sent::offset).max();
            highest.map(|offset| (sends[0].row, offset.max(0)))
        });
        let mut sent = sent.peekable();
        let mut bound = gathered.assigned(key as usize).peekable();
        loop {
            let reached = match (polled.peek(), sent.peek()) {
                (Some(poll), Some(send)) if send < poll => sent.next(),
                (Some(_), _) => polled.next(),
                (None, _) => sent.next(),
            };
            let until = reached.map_or(END, |(row, _)| row);
            while let Some((row, process)) = bound.next_if(|&(row, _)| row <= until) {
                self.bind(gathered, key, row, process);
            }
            let Some((row, offset)) = reached else { break };
            self.reach(gathered, key, row, offset);
        }
        for process in std::mem::take(&mut self.touched) {
            self.settle(gathered, key, process, END);
            if let Some(held) = self.held(key, process) {
                self.judge(gathered, process, held, END);
            }
        }
    }

    fn held(&self, key: u32, process: u32) -> Option<Held> {
        Some(self.held[process as usize]).filter(|held| held.key == key)
    }

    fn hold(&mut self, process: u32, held: Held) {
        self.held[process as usize] = held;
        self.touched.push(process);
    }

    fn bind(&mut self, gathered: &Gathered<'_>, key: u32, row: u32, process: u32) {
        self.settle(gathered, key, process, row);
        if self.held(key, process).is_none() {
            let binds = gathered.rows.facts(row).binds;
            self.hold(process, Held { key, offset: -1, since: row, binds });
        }
    }

    fn reach(&mut self, gathered: &Gathered<'_>, key: u32, row: u32, offset: i64) {
        let RowFacts { process, binds, fate, is_poll, is_complete } = *gathered.rows.facts(row);
        if fate == Fate::Fail || !is_complete {
            return;
        }
        if self.growth.last().is_none_or(|&(highest, _)| offset > highest) {
            self.growth.push((offset, gathered.history.op(row as usize).complete_ns()));
        }
        if fate != Fate::Ok || !is_poll {
            return;
        }
        self.settle(gathered, key, process, row);
        match self.held(key, process) {
            Some(held) if held.offset >= offset => {}
            Some(held) => {
                self.judge(gathered, process, held, row);
                self.held[process as usize] = Held { key, offset, since: row, binds };
            }
            None => self.hold(process, Held { key, offset, since: row, binds }),
        }
    }

    /// Lets go of a key if a binding before `row` did.
    fn settle(&mut self, gathered: &Gathered<'_>, key: u32, process: u32, row: u32) {
        let Some(held) = self.held(key, process) else { return };
        let binds = match row {
            END => gathered.rows.binds_of(process),
            row => gathered.rows.facts(row).binds,
        };
        if binds == held.binds {
            return;
        }
        let history = gathered.history;
        let lets_go = |&&bind: &&u32| {
            let op = history.op(bind as usize);
            let keeps = *op.function() == Function::Assign && op.bound_keys().contains(&KeyId(key));
            op.kind() == EventType::Ok && !keeps
        };
        let mut binds = gathered.rows.binds_between(process, held.since, row).iter();
        if let Some(&bind) = binds.find(lets_go) {
            self.judge(gathered, process, held, bind);
            self.held[process as usize].key = END;
        }
    }

    /// Looks at the last poll of a process from when it came to a place until it left it.
    fn judge(&mut self, gathered: &Gathered<'_>, process: u32, held: Held, until: u32) {
        let Some(next) = held.offset.checked_add(1) else { return };
        // The process is not far behind in general, so look from the end.
        let newer = self.growth.iter().rev().take_while(|&&(highest, _)| highest >= next);
        let Some(&(_, known)) = newer.last() else { return };
        let now = until.min(gathered.history.len() as u32 - 1);
        let longest = gathered.history.op(now as usize).complete_ns().saturating_sub(known);
        if until != END && self.worst.is_some_and(|(worst, _)| longest < worst) {
            return;
        }
        let Some(row) = gathered.rows.last_poll(process, held.since, until) else { return };
        let invoked = gathered.history.op(row as usize).invoke_ns();
        let lag = invoked.saturating_sub(known);
        let found = (lag, std::cmp::Reverse((invoked, process, held.key)));
        self.worst = self.worst.max(Some(found));
    }
}
