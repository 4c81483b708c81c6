//! Judges exchanges: what a correct broker keeps, whatever the client does.
//!
//! Facts come by once, in the order in which exchanges become whole, from a live run, a proxy or a
//! capture alike. Each check is a module that says what it needs to have seen: where the facts do
//! not show enough it counts that it could not check, and never guesses. Orders between
//! connections are used only where a request came after an answer had left.
//!
//! * [`Invariant`]: what is looked for; `docs/WIRE.md` says each in full.
//! * `framing` (W1–W4, with the table `errors`), `fencing` (P3, P4), `acks` (P1, P2), `reading` (L1, L2, L9), `stable` (L6),
//!   `groups` (G1, G2) and `offsets` (P8, G3, G4) watch facts as they come by.
//! * `sequences` (L3, P1) holds acknowledgements against each other where nobody read the log back.
//! * `walk` (L3, L4, L5, L8) and `outcome` (P5–P7, L7) go along the logs at the end; `operations`,
//!   with `reads` and `zombies`, says what that proves of operations, by the names of histories.
//! * `log`, `transactions` and `members` hold what is known, `identity` whether what was said by a
//!   topic's name was said of one log; `ledger` what was found; `in_order` puts facts of
//!   connections that were understood late where they belong.
//!
//! Memory is bounded: what is remembered of producers, groups, logs and offsets has an end each,
//! and what had to go is counted as not checked.
//!
//! Never: sees bytes; takes an order for certain that is not.

mod acks;
mod errors;
mod fencing;
mod framing;
mod groups;
mod identity;
mod in_order;
mod invariant;
mod ledger;
mod log;
mod mark;
mod members;
mod offsets;
mod operations;
mod outcome;
mod reading;
mod reads;
mod sequences;
mod stable;
mod stage;
mod transactions;
mod walk;
mod zombies;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use invariant::Invariant;

use self::acks::Acks;
use self::fencing::Fencing;
use self::framing::Framing;
use self::groups::Groups;
use self::in_order::InOrder;
use self::ledger::Books;
use self::offsets::CommittedOffsets;
use self::operations::Parts;
use self::stable::Stable;
use self::stage::Stage;
use self::transactions::Transactions;
use super::verdict::{Found, WireStats};
use crate::history::facts::topics::LogId;
use crate::history::facts::{Deed, Fact, FactTaker, Fetched, Produced, Seen};
use crate::history::wire::{ConnectionFacts, ConnectionSummary, Protocol, StreamTrouble};

/// What came of judging exchanges.
#[derive(Debug)]
pub struct WireFound {
    /// What was found, by name.
    pub anomalies: BTreeMap<String, Found>,
    /// What the logs prove of operations, for whoever has no history of them.
    pub operations: BTreeMap<String, Found>,
    /// What was not seen, in words.
    pub unseen: Option<String>,
    /// Topics whose names may have meant two of them: what was said of them by name contradicts
    /// itself.
    pub doubtful: BTreeSet<Arc<str>>,
    /// Counts.
    pub stats: WireStats,
    /// Whether anything could be checked.
    pub judged: bool,
}

/// Judges exchanges as they come by.
#[derive(Debug)]
pub struct WireCheck {
    stage: Stage,
    framing: Framing,
    fencing: Fencing,
    acks: Acks,
    stable: Stable,
    transactions: Transactions,
    groups: Groups,
    offsets: CommittedOffsets,
    stats: WireStats,
    tls_connections: u64,
    in_order: InOrder,
}

impl WireCheck {
    /// Keeps so many cases of each invariant; 0 is all.
    #[must_use]
    pub fn new(cases_max: usize) -> Self {
        Self {
            stage: Stage::new(cases_max),
            framing: Framing::default(),
            fencing: Fencing::default(),
            acks: Acks::default(),
            stable: Stable::default(),
            transactions: Transactions::default(),
            groups: Groups::default(),
            offsets: CommittedOffsets::default(),
            stats: WireStats::default(),
            tls_connections: 0,
            in_order: InOrder::default(),
        }
    }

    /// Connections in which nothing can be read because they are encrypted.
    #[must_use]
    pub fn tls_connections(&self) -> u64 {
        self.tls_connections
    }

    /// All facts came by.
    #[must_use]
    pub fn finish(mut self) -> WireFound {
        while let Some(fact) = self.in_order.pop() {
            self.judge(&fact);
        }
        self.transactions.settle(&self.stage.topics);
        self.stage.settle();
        let mut parts = Parts::default();
        acks::finish(&mut self.stage, &self.transactions, &mut parts);
        sequences::finish(&mut self.stage, !self.offsets.is_hurt());
        for log in (0..self.stage.topics.log_count()).map(LogId) {
            let fates = walk::walk(&mut self.stage, log);
            let cluster = self.stage.topics.cluster_of(log);
            let (transactions, stable) = (&self.transactions, &self.stable);
            outcome::judge(&mut self.stage, log, cluster, &fates, transactions, stable);
            let told = (transactions, &self.fencing);
            operations::judge(&mut self.stage, (log, cluster), &fates, told, &mut parts);
        }
        parts.finish(&mut self.stage);
        self.stage.settle();
        self.groups.finish(&mut self.stage);
        self.offsets.finish(&mut self.stage, &self.transactions);
        let judged = self.stage.ledger.is_anything_checked();
        let unseen = self.stage.unseen.words();
        let Books { found, operations, checks } = self.stage.ledger.finish();
        let stats = WireStats { checks, ..self.stats };
        let doubtful = self.stage.topics.doubtful().clone();
        WireFound { anomalies: found, operations, unseen, doubtful, stats, judged }
    }

    /// The next fact of any connection.
    fn judge(&mut self, fact: &Fact) {
        self.fencing.fact(&mut self.stage, fact);
        self.transactions.fact(&self.stage, fact);
        self.groups.fact(&mut self.stage, fact);
        self.offsets.fact(&mut self.stage, fact);
        match &fact.deed {
            Deed::Produce { acks, partitions, .. } => self.produced(fact, *acks, partitions),
            Deed::Fetch { read_committed, by_consumer, partitions } => {
                self.fetched(fact, *read_committed, *by_consumer, partitions);
            }
            _ => {}
        }
    }

    fn produced(&mut self, fact: &Fact, acks: i16, partitions: &[Produced]) {
        let cluster = self.stage.cluster(&fact.seen);
        for produced in partitions {
            let Some(log) = self.stage.topics.log(cluster, &produced.topic, produced.partition)
            else {
                continue;
            };
            let sent_before = self.acks.produced(&mut self.stage, fact, acks, log, produced);
            self.fencing.produced(&mut self.stage, fact, produced, sent_before);
        }
    }

    fn fetched(&mut self, fact: &Fact, read_committed: bool, by_consumer: bool, of: &[Fetched]) {
        let cluster = self.stage.cluster(&fact.seen);
        for fetched in of {
            let Some(log) = self.stage.topics.log(cluster, &fetched.topic, fetched.partition)
            else {
                continue;
            };
            let handed = match read_committed {
                true => fetched.handed_on(),
                false => vec![None; fetched.batches.len()],
            };
            reading::fetched(&mut self.stage, fact, log, fetched, by_consumer, &handed);
            if by_consumer && fetched.error == 0 {
                self.stable.fetched(&mut self.stage, fact, log, fetched, read_committed);
            }
        }
    }
}

impl FactTaker for WireCheck {
    fn connection(&mut self, facts: &ConnectionFacts) {
        self.stage.ledger.name_connection(facts.connection, facts.client, facts.broker);
        self.framing.connection(facts);
        self.stats.connections += 1;
    }

    fn fact(&mut self, fact: Fact) {
        self.stats.exchanges += 1;
        let broker = self.stage.ledger.broker(fact.seen.connection.0);
        self.stage.topics.learn(&fact, broker);
        self.framing.fact(&mut self.stage, &fact);
        self.in_order.push(fact);
        while let Some(fact) = self.in_order.due() {
            self.judge(&fact);
        }
    }

    fn stray(&mut self, seen: &Seen) {
        self.framing.stray(seen);
    }

    fn trouble(&mut self, trouble: &StreamTrouble) {
        self.framing.trouble(trouble);
        self.transactions.hurt(trouble.connection);
        self.offsets.hurt();
    }

    fn closed(&mut self, summary: &ConnectionSummary, explained_bytes: u64) {
        let bytes: u64 = summary.directions.iter().map(|direction| direction.bytes).sum();
        self.stats.gaps += summary.directions.iter().map(|direction| direction.gaps).sum::<u64>();
        self.stats.undecoded_bytes += bytes.saturating_sub(explained_bytes);
        let unseen = &mut self.stage.unseen;
        match summary.protocol {
            Protocol::Tls => self.tls_connections += 1,
            Protocol::Kafka => {
                unseen.begun_before += u64::from(!summary.syn);
                unseen.responses_alone += summary.responses_without_request;
                unseen.requests_alone += summary.unanswered;
                if summary.responses_without_request > 0 {
                    self.offsets.hurt();
                }
            }
            _ => {}
        }
        let is_whole = summary.directions.iter().all(|direction| direction.gaps == 0);
        if !is_whole || summary.torn != [0, 0] {
            self.transactions.hurt(summary.facts.connection);
            self.offsets.hurt();
        }
        self.framing.closed(&mut self.stage, summary);
    }
}
