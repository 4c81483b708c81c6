//! W1 to W4: whether requests and responses keep to the form of the protocol.
//!
//! W1 needs to have seen: a connection without a hole; a response without a request proves
//! something only where the capture goes on with that connection, or the id was answered already; a
//! request that was overtaken, only where a response had been heard before it.
//! W2: a whole response of a version the table knows, on a connection whose beginning was captured
//! or of which one response was understood before. W3: its error codes. W4: what the same
//! broker announced.
//!
//! Not checked: requests that do not decode (a client may send anything); error codes that many
//! APIs share, and those of APIs that clients seldom use; APIs and versions newer than the table; silence. A broker
//! may close a connection in place of an answer: it is shut down, it does not know a version or does
//! not understand a request, acks=0 failed before it, a session of SASL is over. It may also take its
//! time: no answer has a deadline. Only who answers a later request has passed the earlier one over.

use std::net::SocketAddr;

use kafka_wire::{ApiKey, ErrorCode};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::json;

use super::errors::{is_of, is_possible};
use super::invariant::Invariant::{W1, W2, W3, W4};
use super::mark::Mark;
use super::stage::Stage;
use crate::history::Connection;
use crate::history::facts::{Deed, Ending, Fact, Moment, Seen};
use crate::history::wire::{
    ConnectionFacts, ConnectionSummary, Protocol, StreamTrouble, Unanswered,
};

/// Strays kept of one connection until it closes.
const STRAYS_MAX: usize = 64;
/// Correlation ids remembered of one connection.
const ANSWERED_MAX: usize = 256;

#[derive(Debug, Default)]
struct Conversation {
    /// Bytes are missing, or were passed over.
    hurt: bool,
    exchanges: u64,
    /// Exchanges that were answered.
    kept: u64,
    answered: FxHashSet<i32>,
    /// When the first response was heard, or none yet.
    heard: Option<Moment>,
    /// A response without a request, the whole exchanges before it, and whether its id was answered.
    strays: Vec<(Mark, u64, bool)>,
    overtaken: Vec<Mark>,
    /// Exchanges whose bodies decoded.
    sound: u64,
    /// Responses that do not decode, before any that did.
    unsound: Vec<Unsound>,
}

/// A response that does not decode.
#[derive(Debug)]
struct Unsound {
    fields: Vec<(&'static str, serde_json::Value)>,
    mark: Mark,
    explanation: String,
}

/// Watches the form of messages.
#[derive(Debug, Default)]
pub(super) struct Framing {
    conversations: FxHashMap<Connection, Conversation>,
    announced: FxHashMap<SocketAddr, FxHashMap<i16, (i16, i16)>>,
}

impl Framing {
    pub(super) fn connection(&mut self, facts: &ConnectionFacts) {
        self.conversations.insert(facts.connection, Conversation::default());
    }

    pub(super) fn trouble(&mut self, trouble: &StreamTrouble) {
        self.conversations.entry(trouble.connection).or_default().hurt = true;
    }

    pub(super) fn stray(&mut self, seen: &Seen) {
        let conversation = self.conversations.entry(seen.connection).or_default();
        if conversation.strays.len() < STRAYS_MAX {
            let repeated = conversation.answered.contains(&seen.correlation_id);
            conversation.strays.push((Mark::of(seen), conversation.kept, repeated));
        }
        conversation.heard = conversation.heard.or(seen.response);
    }

    pub(super) fn fact(&mut self, stage: &mut Stage, fact: &Fact) {
        let conversation = self.conversations.entry(fact.seen.connection).or_default();
        conversation.exchanges += 1;
        match fact.ending {
            // It shows nothing of what the broker says, nor whether that is all of this capture.
            Ending::NoneDue => {}
            Ending::Answered => {
                conversation.kept += 1;
                conversation.heard = conversation.heard.or(fact.seen.response);
                if conversation.answered.len() >= ANSWERED_MAX {
                    conversation.answered.clear();
                }
                conversation.answered.insert(fact.seen.correlation_id);
            }
            Ending::Unanswered(Unanswered::Overtaken) => {
                conversation.overtaken.push(Mark::of(&fact.seen));
            }
            Ending::Unanswered(_) => {}
        }
        if fact.ending == Ending::Answered {
            body(stage, fact, conversation);
            errors(stage, fact);
            self.version(stage, fact);
        }
    }

    fn version(&mut self, stage: &mut Stage, fact: &Fact) {
        let Some(broker) = stage.ledger.broker(fact.seen.connection.0) else { return };
        let announced = self.announced.entry(broker).or_default();
        if is_core(fact) {
            let served = announced.get(&fact.api_key.0).copied();
            let is_announced = |(min, max)| (min..=max).contains(&fact.api_version);
            match served.filter(|_| fact.response_walked) {
                Some((min, max)) if is_announced((min, max)) => {
                    if fact.errors.contains(&ErrorCode::UNSUPPORTED_VERSION.0) {
                        let explanation = format!(
                            "The broker announced {} in versions {min} to {max}, and answers \
                             version {} with UNSUPPORTED_VERSION.",
                            fact.api_key, fact.api_version
                        );
                        stage.ledger.broken_by(W4, api(fact), &fact.seen, explanation);
                    } else {
                        stage.ledger.held(W4);
                    }
                }
                _ => stage.ledger.unknown(W4),
            }
        }
        if let Deed::ApiVersions(keys) = &fact.deed
            && !keys.is_empty()
        {
            *announced = keys.iter().map(|&(key, min, max)| (key, (min, max))).collect();
        }
    }

    /// Nothing more comes of a connection.
    pub(super) fn closed(&mut self, stage: &mut Stage, summary: &ConnectionSummary) {
        let Some(conversation) = self.conversations.remove(&summary.facts.connection) else {
            return;
        };
        if summary.protocol != Protocol::Kafka {
            return;
        }
        let gaps = summary.directions.iter().any(|direction| direction.gaps > 0);
        let hurt = conversation.hurt || gaps || summary.torn != [0, 0];
        // Where a message begins in the middle of a stream is a guess until one was understood.
        for Unsound { fields, mark, explanation } in conversation.unsound {
            match summary.syn {
                true => stage.ledger.broken(W2, fields, &[mark], explanation),
                false => stage.ledger.unknown(W2),
            }
        }
        for &(mark, before, repeated) in &conversation.strays {
            let goes_on = before > 0 && conversation.kept > before;
            if hurt || !repeated && !goes_on {
                stage.ledger.unknown(W1);
                continue;
            }
            let explanation = format!(
                "A response with correlation id {} came on a connection that has no request of \
                 that id waiting, and of which no byte is missing.",
                mark.correlation_id()
            );
            stage.ledger.broken(W1, correlation(&mark), &[mark], explanation);
        }
        for mark in &conversation.overtaken {
            // Of what came before the first response that was captured nothing can be missed.
            let is_heard = conversation.heard.is_some_and(|heard| heard.is_before(mark.request()));
            if hurt || !is_heard {
                stage.ledger.unknown(W1);
                continue;
            }
            let explanation = format!(
                "The request with correlation id {} was not answered, though a later one on its \
                 connection was; no byte is missing. Responses come in the order of the requests.",
                mark.correlation_id()
            );
            stage.ledger.broken(W1, correlation(mark), &[*mark], explanation);
        }
        let Conversation { exchanges, kept, overtaken, .. } = conversation;
        let unanswered = exchanges - kept - overtaken.len() as u64;
        stage.ledger.unknown_times(W1, unanswered + if hurt { kept } else { 0 });
        if !hurt {
            (0..kept).for_each(|_| stage.ledger.held(W1));
        }
    }
}

fn correlation(mark: &Mark) -> Vec<(&'static str, serde_json::Value)> {
    vec![("correlation_id", json!(mark.correlation_id()))]
}

fn api(fact: &Fact) -> Vec<(&'static str, serde_json::Value)> {
    vec![("api", json!(fact.api_key.to_string())), ("api_version", json!(fact.api_version))]
}

fn body(stage: &mut Stage, fact: &Fact, conversation: &mut Conversation) {
    match &fact.malformed {
        Some(error) if !conversation.hurt => {
            let mut fields = api(fact);
            fields.push(("error", json!(error.to_string())));
            let explanation = format!(
                "The response does not decode as {} version {}, the version of its request: \
                 {error}.",
                fact.api_key, fact.api_version
            );
            let mark = Mark::of(&fact.seen);
            if conversation.sound > 0 {
                stage.ledger.broken(W2, fields, &[mark], explanation);
            } else if conversation.unsound.len() < STRAYS_MAX {
                conversation.unsound.push(Unsound { fields, mark, explanation });
            } else {
                stage.ledger.unknown(W2);
            }
        }
        None if fact.response_walked => {
            conversation.sound += 1;
            stage.ledger.held(W2);
        }
        _ => stage.ledger.unknown(W2),
    }
}

fn errors(stage: &mut Stage, fact: &Fact) {
    if !fact.response_walked || fact.malformed.is_some() {
        return stage.ledger.unknown(W3);
    }
    let Some(&code) = fact
        .errors
        .iter()
        .find(|&&code| !is_possible(fact.api_key, fact.api_version, ErrorCode(code)))
    else {
        return stage.ledger.held(W3);
    };
    let mut fields = api(fact);
    fields.push(("error_code", json!(code)));
    let explanation = match ErrorCode(code).name() {
        None => format!("{} was answered with error {code}, which no protocol has.", fact.api_key),
        Some(name) if !is_of(fact.api_key, ErrorCode(code)) => format!(
            "{} was answered with {name} ({code}), which says nothing about {}: no broker answers \
             it so.",
            fact.api_key, fact.api_key
        ),
        Some(name) => format!(
            "{} version {} was answered with {name} ({code}), which came with a later version: a \
             client of this one cannot know it.",
            fact.api_key, fact.api_version
        ),
    };
    stage.ledger.broken_by(W3, fields, &fact.seen, explanation);
}

/// Whether UNSUPPORTED_VERSION can mean nothing but the version: elsewhere it is also said of
/// features that are off. Kafka 4 announces Produce from 0 on and does not serve what is below 3.
fn is_core(fact: &Fact) -> bool {
    match fact.api_key {
        ApiKey::PRODUCE => fact.api_version >= 3,
        ApiKey::INIT_PRODUCER_ID => fact.api_version < 6,
        // Since v4 brokers ask it of each other.
        ApiKey::ADD_PARTITIONS_TO_TXN => fact.api_version < 4,
        // LIST_OFFSETS is not here: it is answered so where a timestamp needs a later version.
        ApiKey::FETCH
        | ApiKey::METADATA
        | ApiKey::JOIN_GROUP
        | ApiKey::TXN_OFFSET_COMMIT
        | ApiKey::OFFSET_COMMIT
        | ApiKey::OFFSET_FETCH
        | ApiKey::HEARTBEAT
        | ApiKey::LEAVE_GROUP
        | ApiKey::SYNC_GROUP
        | ApiKey::API_VERSIONS
        | ApiKey::ADD_OFFSETS_TO_TXN
        | ApiKey::END_TXN
        | ApiKey::OFFSET_FOR_LEADER_EPOCH
        | ApiKey::SASL_HANDSHAKE
        | ApiKey::DESCRIBE_GROUPS
        | ApiKey::DELETE_TOPICS => true,
        _ => false,
    }
}
