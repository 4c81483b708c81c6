//! What is known of each send, and of a transaction.

use std::collections::VecDeque;

use kafka_wire::ids::Offset;

use crate::history::outcome::Outcome;
use crate::pipeline::attempt::{Attempt, Came, operation};
use crate::pipeline::trouble::Trouble;

/// Names one send of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub u64);

/// What is known of a send.
#[derive(Debug, Clone, PartialEq)]
pub struct SendReport {
    /// Whether nothing more will be tried or learned. Before that, `outcome` is what will be known
    /// if the process stops now.
    pub settled: bool,
    /// What is known of it.
    pub outcome: Outcome,
    /// Where it was acknowledged, if the broker said so.
    pub offset: Option<Offset>,
    /// Why it is not ok.
    pub error: Option<Trouble>,
    /// Every Produce that carried it.
    pub attempts: Vec<Attempt>,
}

/// What became of a commit, an abort or a commit of offsets.
#[derive(Debug, Clone, PartialEq)]
pub struct TxnReport {
    /// What is known of the *transaction* by now: ok is committed, fail is not and never will be.
    pub outcome: Outcome,
    /// Why the call did not do what it should; none means it did.
    pub error: Option<Trouble>,
    /// Every request of the call.
    pub attempts: Vec<Attempt>,
    /// Nothing but an abort can follow.
    pub must_abort: bool,
    /// Nothing can follow: close this producer and open another.
    pub must_close: bool,
}

/// Something a producer did that an application would not see.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// When, in nanoseconds since the start of the run.
    pub time_ns: u64,
    /// What, in words.
    pub what: String,
}

/// The reports of a producer's sends, by number.
#[derive(Default)]
pub(super) struct Book {
    /// The number of the first report kept.
    first: u64,
    reports: VecDeque<SendReport>,
    unsettled: usize,
}

impl Book {
    /// Opens a report.
    pub(super) fn open(&mut self) -> SendId {
        let id = SendId(self.first + self.reports.len() as u64);
        self.reports.push_back(SendReport {
            settled: false,
            outcome: Outcome::Fail,
            offset: None,
            error: None,
            attempts: Vec::new(),
        });
        self.unsettled += 1;
        id
    }

    pub(super) fn find(&self, id: SendId) -> Option<&SendReport> {
        self.reports.get(usize::try_from(id.0.checked_sub(self.first)?).ok()?)
    }

    fn report(&mut self, id: SendId) -> &mut SendReport {
        let at = (id.0 - self.first) as usize;
        self.reports.get_mut(at).expect("an unsettled send is never forgotten")
    }

    /// How many are not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// A Produce that carries these sends is about to leave.
    pub(super) fn begin_attempt(&mut self, sends: &[SendId], attempt: &Attempt) {
        for id in sends {
            let report = self.report(*id);
            report.attempts.push(attempt.clone());
            report.outcome = operation(&report.attempts);
        }
    }

    /// What came of the last one that carried these sends.
    pub(super) fn end_attempt(&mut self, sends: &[SendId], ended: &Attempt) {
        for id in sends {
            let report = self.report(*id);
            let attempt = report.attempts.last_mut().expect("an attempt was begun");
            debug_assert_eq!(attempt.came, Came::Waiting);
            attempt.clone_from(ended);
            report.outcome = operation(&report.attempts);
        }
    }

    /// Whether some attempt of these sends may have been written.
    pub(super) fn in_doubt(&self, sends: &[SendId]) -> bool {
        let report = sends.first().and_then(|id| self.find(*id));
        report.is_some_and(|report| report.outcome == Outcome::Info)
    }

    /// Nothing more will be tried for these sends. `base_offset` is that of the first.
    pub(super) fn settle(
        &mut self,
        sends: &[SendId],
        base_offset: Option<Offset>,
        error: Option<&Trouble>,
    ) {
        for (i, id) in sends.iter().enumerate() {
            let report = self.report(*id);
            report.settled = true;
            report.offset = base_offset.map(|base| Offset(base.0.saturating_add(i as i64)));
            report.error = error.filter(|_| report.outcome != Outcome::Ok).cloned();
            self.unsettled -= 1;
        }
    }

    /// Forgets settled sends, oldest first, up to the first that is not.
    pub(super) fn forget_settled(&mut self) {
        while self.reports.front().is_some_and(|report| report.settled) {
            self.reports.pop_front();
            self.first += 1;
        }
    }
}
