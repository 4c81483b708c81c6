//! L6, and of L7 what lies above the last stable offset: the ends a broker states.
//!
//! That high watermark and last stable offset never go back needs two answers on one connection
//! under one leader epoch, the second request sent after the first answer. A broker reads the two and
//! the records one after the other, while others write: that the last stable offset is beyond the
//! high watermark, or records beyond the last stable offset, proves something only where the next
//! answer of the same leader shows that they still are. Where the last stable offset should be is worked out
//! from the log (see `walk`), over the runs of equal values kept here.
//!
//! Not checked: replicas; answers without a leader epoch (before Fetch 9) for going back.

use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use serde_json::json;

use super::invariant::Invariant::{L6, L7};
use super::mark::Mark;
use super::stage::Stage;
use crate::history::facts::topics::LogId;
use crate::history::facts::{Fact, Fetched, Topic};

/// Logs and brokers watched.
const WATCHED_MAX: usize = 100_000;
/// Runs kept of all logs.
const RUNS_MAX: usize = 200_000;

/// What a broker said of a log.
#[derive(Debug, Clone, Copy)]
struct Ends {
    high_watermark: i64,
    last_stable_offset: i64,
    leader_epoch: Option<i32>,
    /// The offset of the first record at or above the last stable offset.
    above: Option<i64>,
    by_name: bool,
    mark: Mark,
}

/// Answers in a row that state one last stable offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) last_stable_offset: i64,
    /// The high watermark of the first of them.
    pub(super) high_watermark: i64,
    pub(super) first: Mark,
    pub(super) last: Mark,
}

/// Watches the ends of logs.
#[derive(Debug, Default)]
pub(super) struct Stable {
    ends: FxHashMap<(LogId, SocketAddr), Ends>,
    runs: FxHashMap<LogId, Vec<Run>>,
    run_count: usize,
}

impl Stable {
    /// A partition of a fetch that a consumer made and that has no error.
    pub(super) fn fetched(
        &mut self,
        stage: &mut Stage,
        fact: &Fact,
        log: LogId,
        fetched: &Fetched,
        read_committed: bool,
    ) {
        let Some(broker) = stage.ledger.broker(fact.seen.connection.0) else { return };
        if fetched.high_watermark < 0 {
            return;
        }
        let above = fetched.batches.iter().map(|batch| batch.header.base_offset.0);
        let is_bounded = read_committed && fetched.last_stable_offset >= 0;
        let now = Ends {
            high_watermark: fetched.high_watermark,
            last_stable_offset: fetched.last_stable_offset,
            leader_epoch: fetched.leader_epoch,
            above: above.filter(|_| is_bounded).find(|&base| base >= fetched.last_stable_offset),
            by_name: matches!(fetched.topic, Topic::Name(_)),
            mark: Mark::of(&fact.seen),
        };
        self.run(log, &now);
        if self.ends.len() >= WATCHED_MAX && !self.ends.contains_key(&(log, broker)) {
            self.ends.clear();
        }
        match self.ends.insert((log, broker), now) {
            Some(before) if before.mark.is_before(&now.mark) => {
                beside(stage, log, &before, &now);
            }
            Some(before) => self.keep_later(log, broker, before, now, stage),
            None => {}
        }
    }

    /// Two answers of which neither was over before the other began: the later stays.
    fn keep_later(
        &mut self,
        log: LogId,
        broker: SocketAddr,
        before: Ends,
        now: Ends,
        stage: &mut Stage,
    ) {
        stage.ledger.unknown(L6);
        let answered = |ends: &Ends| ends.mark.response().map(|at| at.time_ns);
        if answered(&before) > answered(&now) {
            self.ends.insert((log, broker), before);
        }
    }

    fn run(&mut self, log: LogId, now: &Ends) {
        if now.last_stable_offset < 0 {
            return;
        }
        let runs = self.runs.entry(log).or_default();
        match runs.last_mut() {
            Some(run) if run.last_stable_offset == now.last_stable_offset => run.last = now.mark,
            _ if self.run_count >= RUNS_MAX => {}
            _ => {
                self.run_count += 1;
                runs.push(Run {
                    last_stable_offset: now.last_stable_offset,
                    high_watermark: now.high_watermark,
                    first: now.mark,
                    last: now.mark,
                });
            }
        }
    }

    /// The runs of a log.
    pub(super) fn runs(&self, log: LogId) -> Runs<'_> {
        let all = self.runs.get(&log).map_or(&[][..], Vec::as_slice);
        let mut runs = Runs { all, by_offset: FxHashMap::default(), rising: Vec::new() };
        for run in all {
            runs.by_offset.entry(run.last_stable_offset).or_insert(run);
            let highest = runs.rising.last().map(|last| last.last_stable_offset);
            if highest.is_none_or(|highest| highest < run.last_stable_offset) {
                runs.rising.push(run);
            }
        }
        runs
    }
}

/// The runs of a log, to be looked up.
#[derive(Debug)]
pub(super) struct Runs<'r> {
    /// In the order they were seen.
    pub(super) all: &'r [Run],
    by_offset: FxHashMap<i64, &'r Run>,
    /// Those above all before them.
    rising: Vec<&'r Run>,
}

impl Runs<'_> {
    /// The first run at an offset.
    pub(super) fn at(&self, offset: i64) -> Option<&Run> {
        self.by_offset.get(&offset).copied()
    }

    /// The first run beyond an offset.
    pub(super) fn beyond(&self, offset: i64) -> Option<&Run> {
        let at = self.rising.partition_point(|run| run.last_stable_offset <= offset);
        self.rising.get(at).copied()
    }
}

/// Two answers of one broker, the second asked for after the first had come.
fn beside(stage: &mut Stage, log: LogId, before: &Ends, now: &Ends) {
    let of = (log, before.by_name || now.by_name);
    // A broker that starts anew closes its connections, and may begin with a lower one.
    let is_one_connection = before.mark.connection() == now.mark.connection();
    let is_one_leader = before.leader_epoch.is_some() && before.leader_epoch == now.leader_epoch;
    if is_one_connection && is_one_leader {
        let pairs = [
            ("high watermark", before.high_watermark, now.high_watermark),
            ("last stable offset", before.last_stable_offset, now.last_stable_offset),
        ];
        for (what, old, new) in pairs {
            if new >= 0 && new < old {
                let explanation = format!(
                    "The {what} of {} went from {old} back to {new} under leader epoch {}.",
                    stage.words(log),
                    before.leader_epoch.unwrap_or_default()
                );
                let fields = stage.place(log, new);
                stage.broken(L6, of, fields, &[before.mark, now.mark], explanation);
                return;
            }
        }
        stage.ledger.held(L6);
    }
    let is_one_reign = is_one_leader || is_one_connection;
    if before.last_stable_offset > before.high_watermark {
        if !is_one_reign || now.high_watermark >= before.last_stable_offset {
            return stage.ledger.unknown(L6);
        }
        let explanation = format!(
            "The last stable offset of {} was said to be {}, beyond the high watermark {}, which \
             was {} when it was asked for again.",
            stage.words(log),
            before.last_stable_offset,
            before.high_watermark,
            now.high_watermark
        );
        let fields = stage.place(log, before.last_stable_offset);
        stage.broken(L6, of, fields, &[before.mark, now.mark], explanation);
    } else if let Some(offset) = before.above {
        // The high watermark passes a marker a moment before the last stable offset does.
        if !is_one_reign || !(0..=offset).contains(&now.last_stable_offset) {
            return stage.ledger.unknown(L7);
        }
        let mut fields = stage.place(log, offset);
        fields.push(("last_stable_offset", json!(before.last_stable_offset)));
        let explanation = format!(
            "A read_committed fetch of {} returned the record at offset {offset}, though it says \
             that nothing from {} on is stable; asked for again it was {}.",
            stage.words(log),
            before.last_stable_offset,
            now.last_stable_offset
        );
        stage.broken(L7, of, fields, &[before.mark, now.mark], explanation);
    } else if before.above.is_none() && before.last_stable_offset >= 0 {
        stage.ledger.held(L6);
    }
}
