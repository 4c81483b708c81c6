//! The table of everything that is looked for.
//!
//! One row an anomaly: its published name, what it means, when it makes a history invalid, what
//! must be true of the history for the check to mean anything, who looks for it, and what else
//! usually follows from it. The order of the rows is the order of causes: of several anomalies
//! found together, the first in this table is the primary one.
//!
//! Not checked: external send skips; predicates (no operation of either workload has one).

use super::expectation::{Expectation, Isolation, World};

/// When an anomaly makes a history invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// Always.
    Always,
    /// Unless the consumers were asked to read uncommitted records.
    UnlessReadUncommitted,
    /// Only where consumers were bound by hand: a group may move a partition between two polls.
    AssignOnly,
    /// Only where no write-write edges are drawn from offsets: Kafka isolates no writes, so cycles
    /// that need such an edge are its normal behaviour. A cycle without one stays bad.
    WithoutWwDeps,
    /// Never: worth knowing, but normal.
    Never,
    /// If the consistency model expected of the history forbids it.
    ByModel,
}

/// What must be true of a history for a check to mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Premise {
    /// We sent everything there is, every value is unique within its key, and somebody read to
    /// the end.
    ClosedWorld,
    /// Judged by operations the same as [`ClosedWorld`](Self::ClosedWorld) asks for; of the traffic
    /// of strangers where the log itself proves it, as exchanges show it.
    ClosedWorldOrLog,
    /// None: it holds for any traffic, also that of strangers.
    OpenWorld,
}

/// Who looks for an anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The check of queue histories.
    Queue,
    /// The check of list-append histories.
    ListAppend,
    /// Both.
    Both,
    /// The check of exchanges.
    Wire,
}

impl Source {
    /// Whether queue histories are searched for it.
    #[must_use]
    pub fn is_queue(self) -> bool {
        matches!(self, Self::Queue | Self::Both)
    }

    /// Whether list-append histories are searched for it.
    #[must_use]
    pub fn is_list_append(self) -> bool {
        matches!(self, Self::ListAppend | Self::Both)
    }
}

/// How anti-dependencies (rw edges) may stand in a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rw {
    /// Not at all.
    None,
    /// Exactly one.
    One,
    /// Never two in a row.
    Nonadjacent,
    /// Anyhow, but at least one.
    Any,
}

/// An order of time that a cycle type adds to the data dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeOrder {
    /// The order in which one process did things.
    Process,
    /// One operation completed before the other was invoked.
    Realtime,
}

/// Which edges a cycle type allows and which it asks for. Write-write edges are always allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Write-read edges are allowed (and, where there are no rw edges, one is asked for).
    pub wr: bool,
    /// Read-write edges.
    pub rw: Rw,
    /// Edges of an order of time are allowed and one is asked for.
    pub time: Option<TimeOrder>,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Anomaly {
    /// The published name.
    pub name: &'static str,
    /// What it means, for people.
    pub meaning: &'static str,
    /// When it makes a history invalid.
    pub bad: Bad,
    /// What it rests on.
    pub premise: Premise,
    /// Who looks for it.
    pub source: Source,
    /// For a cycle type, its edges.
    pub shape: Option<Shape>,
    /// How many cases are shown unless something else is asked for; 0 is all.
    pub shown: usize,
    /// What may be found only because of this one.
    pub consequences: &'static [&'static str],
}

impl Anomaly {
    /// Whether it makes a queue history invalid under that expectation. (`pure`: a case was found
    /// that rests on no write-write edge.)
    #[must_use]
    pub fn is_bad(&self, expected: &Expectation, pure: bool) -> bool {
        if expected.ignore.contains(self.name) {
            return false;
        }
        match self.bad {
            Bad::Always => true,
            Bad::UnlessReadUncommitted => expected.isolation == Isolation::ReadCommitted,
            Bad::AssignOnly => !expected.sub_via.subscribe,
            Bad::WithoutWwDeps => {
                !expected.ww_deps || (pure && expected.isolation == Isolation::ReadCommitted)
            }
            Bad::Never | Bad::ByModel => false,
        }
    }

    /// Why it does not make a queue history invalid, where it does not, for people.
    #[must_use]
    pub fn excuse(&self, expected: &Expectation, pure: bool) -> Option<&'static str> {
        if self.is_bad(expected, pure) {
            return None;
        }
        if expected.ignore.contains(self.name) {
            return Some("It is not held against the broker: it was to be ignored.");
        }
        match self.bad {
            Bad::UnlessReadUncommitted => Some(
                "It is not held against the broker: consumers asked for read_uncommitted, and so \
                 for records of any transaction.",
            ),
            Bad::AssignOnly => Some(
                "It is not held against the broker: consumers subscribed, and a group may move a \
                 partition from one to another between two polls.",
            ),
            Bad::WithoutWwDeps if expected.isolation == Isolation::ReadUncommitted => Some(
                "It is not held against the broker: consumers asked for read_uncommitted, and \
                 were shown writes before they were decided.",
            ),
            Bad::WithoutWwDeps => Some(
                "It is not held against the broker: the cycle needs the order in which writes \
                 stand in a log (ww), and Kafka keeps no transaction's writes apart from those of \
                 others. A cycle without such an edge would be.",
            ),
            Bad::Never => self.tolerated(),
            Bad::Always | Bad::ByModel => None,
        }
    }

    /// Why Kafka promises nothing else.
    fn tolerated(&self) -> Option<&'static str> {
        Some(match self.shape {
            Some(Shape { rw: Rw::None, .. }) => {
                "It is not held against the broker: Kafka isolates no writes, so those of \
                 transactions that run at one time may stand in a log in any order."
            }
            Some(_) => {
                "It is not held against the broker: a poll is no snapshot and may stop anywhere, \
                 so what it missed it may have missed by rights."
            }
            None if self.name == "int-send-skip" => {
                "It is not held against the broker: other producers may write in between."
            }
            None => return None,
        })
    }

    /// Whether operations of that world show it.
    #[must_use]
    pub fn is_judged_in(&self, world: World) -> bool {
        world == World::Closed || self.premise == Premise::OpenWorld
    }
}

/// The row of a name.
#[must_use]
pub fn find_anomaly(name: &str) -> Option<&'static Anomaly> {
    ANOMALIES.iter().find(|row| row.name == name)
}

/// Where a name stands in the order of causes; unknown names come last.
#[must_use]
pub fn rank(name: &str) -> usize {
    ANOMALIES.iter().position(|row| row.name == name).unwrap_or(ANOMALIES.len())
}

/// What follows where records went missing from a log or stand in it wrongly.
const SEQUENCE: &[&str] = &[
    "int-poll-skip",
    "int-nonmonotonic-poll",
    "poll-skip",
    "nonmonotonic-poll",
    "int-nonmonotonic-send",
    "nonmonotonic-send",
    "int-send-skip",
];

/// What follows where an offset has held two records.
const OVERWRITTEN: &[&str] = &[
    "P1-ack-not-in-log",
    "L5-transaction-unclosed",
    "L7-aborted-data-exposed",
    "phantom-read",
    "inconsistent-offsets",
    "torn-transaction",
    "lost-write",
    "duplicate",
    "duplicate-nonzero",
    "G1a",
    "int-nonmonotonic-poll",
    "int-poll-skip",
    "nonmonotonic-poll",
    "poll-skip",
    "unseen",
];

/// What follows where a transaction ended in another way than its client was told.
const MISJUDGED: &[&str] = &[
    "P5-outcome-not-honoured",
    "L5-transaction-unclosed",
    "L6-stable-offset-wrong",
    "L7-aborted-data-exposed",
    "P8-offsets-not-atomic",
    "torn-transaction",
    "lost-write",
    "G1a",
    "precommitted-read",
    "unseen",
    "int-poll-skip",
    "poll-skip",
];

const fn row(
    name: &'static str,
    source: Source,
    bad: Bad,
    premise: Premise,
    shown: usize,
    consequences: &'static [&'static str],
    meaning: &'static str,
) -> Anomaly {
    Anomaly { name, meaning, bad, premise, source, shape: None, shown, consequences }
}

const fn wire(
    name: &'static str,
    consequences: &'static [&'static str],
    meaning: &'static str,
) -> Anomaly {
    row(name, Source::Wire, Bad::Always, Premise::OpenWorld, 8, consequences, meaning)
}

const fn cycle(
    name: &'static str,
    source: Source,
    bad: Bad,
    shape: Shape,
    meaning: &'static str,
) -> Anomaly {
    let shape = Some(shape);
    let premise = Premise::ClosedWorld;
    Anomaly { name, meaning, bad, premise, source, shape, shown: 8, consequences: &[] }
}

const fn shape(wr: bool, rw: Rw, time: Option<TimeOrder>) -> Shape {
    Shape { wr, rw, time }
}

const PROCESS: Option<TimeOrder> = Some(TimeOrder::Process);
const REALTIME: Option<TimeOrder> = Some(TimeOrder::Realtime);

use Bad::{Always, AssignOnly, ByModel, Never, UnlessReadUncommitted, WithoutWwDeps};
use Premise::{ClosedWorld, ClosedWorldOrLog, OpenWorld};
use Source::{Both, ListAppend, Queue};

/// Everything that is looked for, causes before consequences.
#[rustfmt::skip]
pub const ANOMALIES: &[Anomaly] = &[
    // What the exchanges prove comes first: it is the nearest to the cause. Of it, first what a
    // client is told that it is, then what the log holds, then what became of transactions, then
    // what readers and groups were told.
    wire("W1-response-unpaired", &[], "A response belongs to no request."),
    wire("W2-body-malformed", &[], "A body does not follow the schema of its API and version."),
    wire("P4-producer-id-reused",
        &["P3-zombie-accepted", "zombie-write", "P2-duplicate-appended", "L4-epoch-decreases",
          "L3-sequence-broken", "P1-ack-not-in-log", "P5-outcome-not-honoured",
          "L5-transaction-unclosed", "lost-write", "unseen"],
        "One producer id and epoch was given out twice."),
    wire("P3-zombie-accepted",
        &["zombie-write", "P2-duplicate-appended", "L4-epoch-decreases", "L3-sequence-broken",
          "P1-ack-not-in-log", "P5-outcome-not-honoured", "L5-transaction-unclosed",
          "L6-stable-offset-wrong", "L7-aborted-data-exposed", "duplicate", "duplicate-nonzero",
          "G1a", "unseen"],
        "A write of a fenced producer was accepted."),
    row("zombie-write", Queue, Always, ClosedWorldOrLog, 0,
        &["L4-epoch-decreases", "L3-sequence-broken", "L5-transaction-unclosed",
          "L6-stable-offset-wrong", "L7-aborted-data-exposed", "G1a", "unseen"],
        "A value whose sender was told that it is fenced was read all the same."),
    wire("G1-partition-shared", &["G4-not-exactly-once", "duplicate"],
        "Two members of one group held a partition at once."),
    wire("G2-stale-commit-accepted",
        &["P8-offsets-not-atomic", "G3-offset-lost", "consumer-offset-regression",
          "G4-not-exactly-once", "nonmonotonic-poll"],
        "An offset commit of an old generation was accepted."),
    wire("L2-batch-corrupt", &["L9-record-changed", "P1-ack-not-in-log", "phantom-read",
          "inconsistent-offsets", "lost-write", "unseen"],
        "A record batch does not match its own checksum, count or length."),
    wire("L8-leader-epoch-decreases", &["L1-offsets-overlap", "L9-record-changed",
          "L3-sequence-broken", "P1-ack-not-in-log", "inconsistent-offsets", "lost-write", "unseen"],
        "The leader epoch goes down along the log."),
    wire("L1-offsets-overlap", OVERWRITTEN,
        "Two record batches of one partition claim the same offsets."),
    wire("L9-record-changed", OVERWRITTEN,
        "One offset was fetched with two different contents."),
    wire("P2-duplicate-appended",
        &["L3-sequence-broken", "duplicate", "duplicate-nonzero", "int-nonmonotonic-send",
          "nonmonotonic-send", "int-nonmonotonic-poll", "int-poll-skip", "nonmonotonic-poll",
          "poll-skip"],
        "One batch of an idempotent producer stands in the log twice."),
    wire("L4-epoch-decreases",
        &["L3-sequence-broken", "P1-ack-not-in-log", "P5-outcome-not-honoured",
          "L5-transaction-unclosed", "L7-aborted-data-exposed"],
        "A producer's epoch goes down along the log."),
    wire("L3-sequence-broken",
        &["P1-ack-not-in-log", "lost-write", "unseen", "torn-transaction", "duplicate",
          "int-nonmonotonic-send", "nonmonotonic-send", "int-nonmonotonic-poll",
          "nonmonotonic-poll", "int-poll-skip", "poll-skip"],
        "A producer's sequence numbers in the log skip or repeat."),
    wire("P1-ack-not-in-log",
        &["L5-transaction-unclosed", "L7-aborted-data-exposed", "inconsistent-offsets",
          "torn-transaction", "lost-write", "duplicate", "duplicate-nonzero", "unseen",
          "int-poll-skip", "int-nonmonotonic-poll", "poll-skip", "nonmonotonic-poll",
          "int-nonmonotonic-send", "nonmonotonic-send"],
        "An acknowledged record is not at the offset it was acknowledged with."),
    wire("P6-marker-decides-other", MISJUDGED, "The marker of one transaction ended another."),
    wire("P5-outcome-not-honoured", MISJUDGED,
        "A transaction acknowledged as committed or aborted ended the other way."),
    wire("L5-transaction-unclosed",
        &["L6-stable-offset-wrong", "L7-aborted-data-exposed", "P7-timeout-not-enforced",
          "torn-transaction", "lost-write", "G1a", "hanging-transaction", "unseen"],
        "A transaction's records stand in the log without a marker."),
    wire("L6-stable-offset-wrong",
        &["L7-aborted-data-exposed", "G1a", "precommitted-read", "int-poll-skip", "poll-skip",
          "G1c", "G1c-process", "G1c-realtime", "hanging-transaction", "unseen"],
        "The last stable offset is not where the first open transaction begins."),
    wire("L7-aborted-data-exposed",
        &["lost-write", "G1a", "precommitted-read", "int-poll-skip", "poll-skip", "G1c",
          "G1c-process", "G1c-realtime"],
        "A read_committed fetch let records of an aborted or open transaction through, or held \
         committed ones back."),
    wire("P7-timeout-not-enforced", &["hanging-transaction", "unseen"],
        "A transaction stayed open past its timeout."),
    wire("P8-offsets-not-atomic",
        &["G3-offset-lost", "consumer-offset-regression", "G4-not-exactly-once",
          "nonmonotonic-poll"],
        "A transaction's records and its consumer offsets ended differently."),
    wire("G3-offset-lost",
        &["consumer-offset-regression", "G4-not-exactly-once", "nonmonotonic-poll"],
        "A committed group offset was gone or lower afterwards."),
    wire("consumer-offset-regression", &["G4-not-exactly-once", "nonmonotonic-poll"],
        "A group's committed offset went back without anyone asking for it."),
    wire("G4-not-exactly-once", &[], "A consume-transform-produce step took effect twice or never."),
    wire("W3-error-unknown", &[], "An error code that the protocol does not have, or not there."),
    wire("W4-version-unserved", &[], "A version that the broker had announced was refused."),

    // What was read or is in the log, and should not be.
    row("phantom-read", Queue, Always, ClosedWorld, 0, SEQUENCE,
        "A poll returned a value that nobody ever sent to that key."),
    row("inconsistent-offsets", Queue, Always, OpenWorld, 32,
        &["torn-transaction", "lost-write", "unseen", "duplicate", "int-poll-skip", "poll-skip",
          "int-nonmonotonic-poll", "nonmonotonic-poll", "int-nonmonotonic-send", "nonmonotonic-send"],
        "Two or more values stand at one offset of a log."),
    row("torn-transaction", Queue, Always, ClosedWorldOrLog, 0,
        &["lost-write", "unseen", "int-poll-skip", "poll-skip"],
        "Part of a committed or undecided transaction was read, part was not, and readers went \
         past both offsets."),
    row("lost-write", Queue, Always, ClosedWorldOrLog, 0, &["unseen", "int-poll-skip", "poll-skip"],
        "A write that must have happened was never read, though readers went past its offset."),
    row("duplicate", Queue, Always, ClosedWorldOrLog, 32,
        &["duplicate-nonzero", "int-poll-skip", "int-nonmonotonic-poll", "poll-skip",
          "nonmonotonic-poll", "int-nonmonotonic-send", "nonmonotonic-send"],
        "One value stands at two or more offsets of a log."),
    row("duplicate-nonzero", Queue, Always, ClosedWorldOrLog, 32, &[],
        "A duplicate with at least two offsets other than 0, which a bogus offset 0 in an \
         acknowledgement cannot explain."),
    row("G1a", Both, UnlessReadUncommitted, ClosedWorldOrLog, 0, &["int-poll-skip", "poll-skip"],
        "An operation read a value whose writer definitely failed."),
    row("precommitted-read", Queue, UnlessReadUncommitted, ClosedWorldOrLog, 0, &[],
        "An operation polled a value that it had itself sent."),
    row("hanging-transaction", Queue, Always, ClosedWorldOrLog, 0, &["unseen"],
        "Acknowledged records stay unreadable behind the record of a transaction that never ended."),

    // Lists.
    row("duplicate-elements", ListAppend, ByModel, ClosedWorld, 0, &["incompatible-order"],
        "A read of a list holds one element twice."),
    row("incompatible-order", ListAppend, ByModel, ClosedWorld, 0, &[],
        "Two reads of one list cannot come from one order of appends."),
    row("internal", ListAppend, ByModel, ClosedWorld, 0, &[],
        "A transaction's read contradicts its own earlier reads or appends."),
    row("future-read", ListAppend, ByModel, ClosedWorld, 0, &[],
        "A transaction read an element that it appends only later."),
    row("dirty-update", ListAppend, ByModel, ClosedWorld, 0, &[],
        "A committed append stands after the append of an aborted transaction."),
    row("lost-update", ListAppend, ByModel, ClosedWorld, 0, &["G2-item"],
        "Two transactions read the same version of a list and both appended to it."),
    row("G1b", Both, Never, ClosedWorld, 8, &[],
        "An operation read a version that its writer had already gone beyond."),

    // Sequences.
    row("int-nonmonotonic-send", Queue, Always, ClosedWorld, 8, &["nonmonotonic-send"],
        "Within one operation, a later send to a key has a lower place in the log."),
    row("nonmonotonic-send", Queue, Always, ClosedWorld, 8, &[],
        "A process's later send to a key has a lower place in the log."),
    row("int-nonmonotonic-poll", Queue, Always, ClosedWorld, 8, &[],
        "Within one operation, polls of a key went back or repeated a record."),
    row("int-poll-skip", Queue, Always, ClosedWorld, 8, &[],
        "Within one operation, polls of a key skipped records known to be in the log."),
    row("nonmonotonic-poll", Queue, AssignOnly, ClosedWorldOrLog, 8, &[],
        "A process's later poll of a key went back or repeated a record."),
    row("poll-skip", Queue, AssignOnly, ClosedWorld, 8, &[],
        "A process's later poll of a key skipped records known to be in the log."),
    row("unseen", Queue, Always, ClosedWorld, 32, &[],
        "An acknowledged value was never read by the end of the history."),

    // Cycles, the worst first.
    cycle("G1c", Both, WithoutWwDeps, shape(true, Rw::None, None),
        "Information flows in a circle: a cycle of write-write and write-read edges."),
    cycle("G1c-process", Both, WithoutWwDeps, shape(true, Rw::None, PROCESS),
        "A G1c cycle closed by the order of one process's operations."),
    cycle("G1c-realtime", Both, WithoutWwDeps, shape(true, Rw::None, REALTIME),
        "A G1c cycle closed by one operation completing before another was invoked."),
    cycle("G0", Both, Never, shape(false, Rw::None, None),
        "Writes interleave in a circle: a cycle of write-write edges."),
    cycle("G0-process", Both, Never, shape(false, Rw::None, PROCESS),
        "A G0 cycle closed by the order of one process's operations."),
    cycle("G0-realtime", Both, Never, shape(false, Rw::None, REALTIME),
        "A G0 cycle closed by one operation completing before another was invoked."),
    cycle("G-single", Queue, Never, shape(true, Rw::One, None),
        "A cycle with exactly one anti-dependency: an operation that missed a record saw what \
         came after it."),
    cycle("G-single-item", ListAppend, ByModel, shape(true, Rw::One, None),
        "A cycle with exactly one anti-dependency."),
    cycle("G-single-item-process", ListAppend, ByModel, shape(true, Rw::One, PROCESS),
        "A G-single-item cycle closed by the order of one process's operations."),
    cycle("G-single-item-realtime", ListAppend, ByModel, shape(true, Rw::One, REALTIME),
        "A G-single-item cycle closed by one operation completing before another was invoked."),
    cycle("G-nonadjacent-item", ListAppend, ByModel, shape(true, Rw::Nonadjacent, None),
        "A cycle with anti-dependencies of which no two follow each other."),
    cycle("G-nonadjacent-item-process", ListAppend, ByModel, shape(true, Rw::Nonadjacent, PROCESS),
        "A G-nonadjacent-item cycle closed by the order of one process's operations."),
    cycle("G-nonadjacent-item-realtime", ListAppend, ByModel,
        shape(true, Rw::Nonadjacent, REALTIME),
        "A G-nonadjacent-item cycle closed by one operation completing before another was invoked."),
    cycle("G2-item", Both, Never, shape(true, Rw::Any, None),
        "A cycle with anti-dependencies."),
    cycle("G2-item-process", ListAppend, ByModel, shape(true, Rw::Any, PROCESS),
        "A G2-item cycle closed by the order of one process's operations."),
    cycle("G2-item-realtime", ListAppend, ByModel, shape(true, Rw::Any, REALTIME),
        "A G2-item cycle closed by one operation completing before another was invoked."),

    row("empty-transaction-graph", Both, Always, ClosedWorld, 1, &[],
        "No operation depends on any other: a test that did nothing."),
    row("int-send-skip", Queue, Never, ClosedWorld, 8, &[],
        "Within one operation, records of others stand between two sends to a key."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_consequences_come_later() {
        for (place, row) in ANOMALIES.iter().enumerate() {
            assert_eq!(rank(row.name), place, "{} stands twice", row.name);
            for consequence in row.consequences.iter().filter(|name| **name != row.name) {
                assert!(rank(consequence) > place, "{consequence} before {}", row.name);
                assert!(rank(consequence) < ANOMALIES.len(), "{consequence} has no row");
            }
        }
    }
}
