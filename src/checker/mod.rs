//! What must not have happened: history in, verdict and witnesses out.
//!
//! * [`anomaly`]: the table of everything that is looked for.
//! * [`Expectation`]: what a history is held to.
//! * [`check`]: the judgement of an operation history, [`Verdict`].
//! * [`explain`]: cycles as words and pictures.
//! * [`proof`]: the exchanges behind what operations show.
//! * [`wire`]: the judgement of exchanges, by the invariants of the protocol.
//!
//! Never: sees a socket, a clock; lets a limit of time, memory or cases decide a verdict.

pub mod anomaly;
mod expectation;
pub mod explain;
mod graph;
mod list_append;
mod picture;
pub mod proof;
mod queue;
mod stats;
mod threads;
mod verdict;
pub mod wire;

use std::thread::available_parallelism;

pub use expectation::{ConsistencyModel, Expectation, Isolation, SubVia, Workload, World};
pub use verdict::{
    Case, Checks, Elapsed, ExchangeName, FileDamage, Found, Group, Lag, Outcomes, Stats, Validity,
    Verdict, WireStats,
};

use crate::history::History;

/// Judges a history. The verdict does not depend on how many processors there are.
#[must_use]
pub fn check(history: &History, expected: &Expectation) -> Verdict {
    check_on(available_parallelism().map_or(1, usize::from), history, expected)
}

/// The same on so many threads.
#[must_use]
pub fn check_on(threads: usize, history: &History, expected: &Expectation) -> Verdict {
    let mut stats = stats::of(history);
    // Of an open world the exchanges say whether anything could be judged.
    let judged = expected.world == World::Closed;
    match expected.workload {
        Workload::Queue => {
            let found = queue::check(history, expected, threads);
            stats.worst_realtime_lag = found.worst_realtime_lag;
            Verdict::new(found.anomalies, stats, found.observations, judged)
        }
        Workload::ListAppend => {
            let found = list_append::check(history, expected, threads);
            Verdict::new(found.anomalies, stats, found.observations, found.judged)
        }
    }
}
