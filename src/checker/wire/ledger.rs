//! What was found, how often each invariant could be checked, and how witnesses are named.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use serde_json::Value as Json;

use super::super::verdict::{Case, Checks, ExchangeName, Found};
use super::invariant::Invariant;
use super::mark::Mark;
use super::operations::Named;
use crate::history::Connection;
use crate::history::facts::Seen;

/// Connections that are known by their ends.
const CONNECTIONS_MAX: usize = 500_000;
/// Cases kept of one invariant where all are asked for.
const CASES_MAX: usize = 10_000;

/// One invariant's counts and cases.
#[derive(Debug, Default)]
struct Tally {
    checked: u64,
    could_not: u64,
    broken: u64,
    cases: Vec<Case>,
}

/// Collects what the checks find.
#[derive(Debug)]
pub(super) struct Ledger {
    tallies: [Tally; Invariant::COUNT],
    /// What has a name of its own beside the invariant that it breaks.
    regressions: Tally,
    /// Fetch sessions that were taken back.
    steps_back: Tally,
    /// What operations would show, by its name there.
    operations: [Tally; Named::ALL.len()],
    connections: FxHashMap<u64, (SocketAddr, SocketAddr)>,
    cases_max: usize,
}

impl Ledger {
    /// Keeps so many cases of each invariant; 0 is all.
    pub(super) fn new(cases_max: usize) -> Self {
        let cases_max = if cases_max == 0 { CASES_MAX } else { cases_max.min(CASES_MAX) };
        let tallies = std::array::from_fn(|_| Tally::default());
        Self {
            tallies,
            regressions: Tally::default(),
            steps_back: Tally::default(),
            operations: std::array::from_fn(|_| Tally::default()),
            connections: FxHashMap::default(),
            cases_max,
        }
    }

    pub(super) fn name_connection(
        &mut self,
        connection: Connection,
        client: SocketAddr,
        broker: SocketAddr,
    ) {
        if self.connections.len() < CONNECTIONS_MAX {
            self.connections.insert(connection.0, (client, broker));
        }
    }

    /// The broker's end of a connection.
    pub(super) fn broker(&self, connection: u64) -> Option<SocketAddr> {
        self.connections.get(&connection).map(|(_, broker)| *broker)
    }

    /// It could be checked once more, and held.
    pub(super) fn held(&mut self, invariant: Invariant) {
        self.tallies[invariant as usize].checked += 1;
    }

    /// It could not be checked once more.
    pub(super) fn unknown(&mut self, invariant: Invariant) {
        self.tallies[invariant as usize].could_not += 1;
    }

    /// The same so many times.
    pub(super) fn unknown_times(&mut self, invariant: Invariant, times: u64) {
        self.tallies[invariant as usize].could_not += times;
    }

    /// It was checked, and does not hold.
    pub(super) fn broken(
        &mut self,
        invariant: Invariant,
        fields: Vec<(&'static str, Json)>,
        marks: &[Mark],
        explanation: String,
    ) {
        let tally = &mut self.tallies[invariant as usize];
        tally.checked += 1;
        tally.broken += 1;
        if tally.cases.len() < self.cases_max {
            let case = self.case(fields, marks, explanation);
            self.tallies[invariant as usize].cases.push(case);
        }
    }

    /// A group's committed offset went back.
    pub(super) fn regressed(
        &mut self,
        fields: Vec<(&'static str, Json)>,
        marks: &[Mark],
        explanation: String,
    ) {
        self.regressions.broken += 1;
        if self.regressions.cases.len() < self.cases_max {
            let case = self.case(fields, marks, explanation);
            self.regressions.cases.push(case);
        }
    }

    /// An answer to a fetch session goes on where the session is.
    pub(super) fn goes_on(&mut self) {
        self.steps_back.checked += 1;
    }

    /// It cannot be said where the session is.
    pub(super) fn goes_somewhere(&mut self) {
        self.steps_back.could_not += 1;
    }

    /// An answer takes a fetch session back.
    pub(super) fn went_back(
        &mut self,
        fields: Vec<(&'static str, Json)>,
        marks: &[Mark],
        explanation: String,
    ) {
        self.steps_back.checked += 1;
        self.steps_back.broken += 1;
        if self.steps_back.cases.len() < self.cases_max {
            let case = self.case(fields, marks, explanation);
            self.steps_back.cases.push(case);
        }
    }

    /// One operation, or one record of one, is as it should be.
    pub(super) fn operation_held(&mut self, named: Named) {
        self.operations[named as usize].checked += 1;
    }

    /// Of one it cannot be said.
    pub(super) fn operation_unknown(&mut self, named: Named) {
        self.operations[named as usize].could_not += 1;
    }

    /// What operations would show under that name.
    pub(super) fn operation(
        &mut self,
        named: Named,
        fields: Vec<(&'static str, Json)>,
        marks: &[Mark],
        explanation: String,
    ) {
        let tally = &mut self.operations[named as usize];
        tally.checked += 1;
        tally.broken += 1;
        if tally.cases.len() < self.cases_max {
            let case = self.case(fields, marks, explanation);
            self.operations[named as usize].cases.push(case);
        }
    }

    fn case(&self, fields: Vec<(&'static str, Json)>, marks: &[Mark], explanation: String) -> Case {
        let mut case = Case { fields, explanation, ..Case::default() };
        for mark in marks {
            let connection = match self.connections.get(&mark.connection()) {
                Some((client, broker)) => format!("{client}-{broker}"),
                None => mark.connection().to_string(),
            };
            let (correlation_id, time_ns) = (mark.correlation_id(), mark.request().time_ns);
            let name = ExchangeName { connection, correlation_id, time_ns };
            if !case.exchanges.contains(&name) {
                case.exchanges.push(name);
            }
            for (file, frame) in mark.packets() {
                if !case.packets().any(|known| known == (file, frame)) {
                    case.frames.push(frame);
                    case.frame_files.push(file);
                }
            }
        }
        case
    }

    /// The same about one exchange.
    pub(super) fn broken_by(
        &mut self,
        invariant: Invariant,
        fields: Vec<(&'static str, Json)>,
        seen: &Seen,
        explanation: String,
    ) {
        self.broken(invariant, fields, &[Mark::of(seen)], explanation);
    }

    pub(super) fn is_anything_checked(&self) -> bool {
        self.tallies.iter().any(|tally| tally.checked > 0)
    }

    /// Everything found, what operations would show, and the counts of every check.
    pub(super) fn finish(self) -> Books {
        let mut books = Books::default();
        for (invariant, tally) in Invariant::ALL.into_iter().zip(self.tallies) {
            tally.enter(invariant.name(), &mut books.found, &mut books.checks);
        }
        for (named, tally) in Named::ALL.into_iter().zip(self.operations) {
            tally.enter(named.name(), &mut books.operations, &mut books.checks);
        }
        self.steps_back.enter("nonmonotonic-poll", &mut books.found, &mut books.checks);
        let Tally { broken, cases, .. } = self.regressions;
        if broken > 0 {
            let found = Found { count: broken, bad: true, cases };
            books.found.insert("consumer-offset-regression".to_owned(), found);
        }
        books
    }
}

/// What a ledger amounts to.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) found: BTreeMap<String, Found>,
    pub(super) operations: BTreeMap<String, Found>,
    pub(super) checks: BTreeMap<&'static str, Checks>,
}

impl Tally {
    fn enter(
        self,
        name: &'static str,
        found: &mut BTreeMap<String, Found>,
        checks: &mut BTreeMap<&'static str, Checks>,
    ) {
        let Self { checked, could_not, broken, cases } = self;
        checks.insert(name, Checks { checked, could_not });
        if broken > 0 {
            found.insert(name.to_owned(), Found { count: broken, bad: true, cases });
        }
    }
}
