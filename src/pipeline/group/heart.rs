//! Heartbeats, from a task of the member's own.
//!
//! The task ends with the member. It shares what it hears through one lock, never held across a
//! wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_wire::ids::GenerationId;
use kafka_wire::{ApiKey, ErrorCode};
use tokio::sync::Notify;
use uuid::Uuid;

use super::config::{GroupConfig, GroupProtocol};
use crate::client::cluster::CoordinatorOf;
use crate::client::group::{self, Beat, Beaten};
use crate::client::transaction::Membership;
use crate::client::versions::TransactionVersion;
use crate::client::{Connection, Fate};
use crate::pipeline::attempt::Attempt;
use crate::pipeline::caller::{Caller, To};
use crate::pipeline::question::Question;

/// Attempts kept until the member asks for them; of more, the oldest are counted only.
const ATTEMPTS_MAX: usize = 4096;

/// What the member and its heartbeats share.
pub(super) struct Heard {
    pub(super) membership: Membership,
    pub(super) topics: Vec<Arc<str>>,
    /// What the member has, by topic id (KIP-848).
    pub(super) owned: Vec<(Uuid, Vec<i32>)>,
    /// What it may have, by topic id (KIP-848); absent until it is told.
    pub(super) target: Option<Vec<(Uuid, Vec<i32>)>>,
    /// Whether the next heartbeat says everything (KIP-848).
    pub(super) full: bool,
    /// Whether heartbeats are due at all.
    pub(super) beats: bool,
    /// The group wants members to join again.
    pub(super) rejoin: bool,
    /// The group does not know us any more, and why.
    pub(super) lost: Option<ErrorCode>,
    pub(super) interval: Duration,
    pub(super) attempts: Vec<Attempt>,
    pub(super) attempts_dropped: u64,
}

/// The shared part, and a bell to have the next heartbeat at once.
#[derive(Clone)]
pub(super) struct Heart {
    heard: Arc<Mutex<Heard>>,
    pub(super) bell: Arc<Notify>,
}

/// One heartbeat of either protocol.
struct ClassicBeat<'a>(&'a Membership);

impl Question for ClassicBeat<'_> {
    type Answer = ErrorCode;
    const API_KEY: ApiKey = ApiKey::HEARTBEAT;

    async fn put(&self, connection: &Connection, version: i16) -> Result<ErrorCode, Fate> {
        group::heartbeat(connection, version, self.0).await
    }

    fn code(answer: &ErrorCode) -> ErrorCode {
        *answer
    }
}

/// One heartbeat of KIP-848.
pub(super) struct ConsumerBeat<'a>(pub(super) Beat<'a>);

impl Question for ConsumerBeat<'_> {
    type Answer = Beaten;
    const API_KEY: ApiKey = ApiKey::CONSUMER_GROUP_HEARTBEAT;

    async fn put(&self, connection: &Connection, version: i16) -> Result<Beaten, Fate> {
        group::consumer_heartbeat(connection, version, &self.0).await
    }

    fn code(answer: &Beaten) -> ErrorCode {
        answer.error
    }
}

impl Heart {
    pub(super) fn new(heard: Heard) -> Self {
        Self { heard: Arc::new(Mutex::new(heard)), bell: Arc::default() }
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Beats until the task is ended. `caller` makes one attempt at a time.
    pub(super) async fn beat(self, mut caller: Caller, config: GroupConfig) {
        loop {
            let (interval, beats) = {
                let heard = self.heard();
                (heard.interval, heard.beats)
            };
            // The bell ends the wait early; without it the interval does.
            drop(tokio::time::timeout(interval, self.bell.notified()).await);
            if !beats && !self.heard().beats {
                continue;
            }
            match config.protocol {
                GroupProtocol::Classic => self.classic(&mut caller).await,
                GroupProtocol::Consumer => self.consumer(&mut caller, &config).await,
            }
        }
    }

    fn keep(&self, attempts: Vec<Attempt>) {
        let mut heard = self.heard();
        heard.attempts.extend(attempts);
        let over = heard.attempts.len().saturating_sub(ATTEMPTS_MAX);
        heard.attempts.drain(..over);
        heard.attempts_dropped += over as u64;
    }

    async fn classic(&self, caller: &mut Caller) {
        let membership = self.heard().membership.clone();
        let to = To::Coordinator(CoordinatorOf::Group, &membership.group_id);
        let mut attempts = Vec::new();
        let question = ClassicBeat(&membership);
        let answer = caller.ask(to, TransactionVersion::V2, &question, &mut attempts).await;
        self.keep(attempts);
        let mut heard = self.heard();
        // An answer to an earlier generation says nothing of this one.
        if heard.membership != membership {
            return;
        }
        match answer {
            Ok(ErrorCode::REBALANCE_IN_PROGRESS) => heard.rejoin = true,
            Ok(
                code @ (ErrorCode::UNKNOWN_MEMBER_ID
                | ErrorCode::ILLEGAL_GENERATION
                | ErrorCode::FENCED_INSTANCE_ID),
            ) => heard.lost = Some(code),
            // Unanswered: the next one will show.
            Ok(_) | Err(_) => {}
        }
    }

    async fn consumer(&self, caller: &mut Caller, config: &GroupConfig) {
        let (membership, topics, owned, full) = {
            let heard = self.heard();
            (heard.membership.clone(), heard.topics.clone(), heard.owned.clone(), heard.full)
        };
        let to = To::Coordinator(CoordinatorOf::Group, &membership.group_id);
        let timeout_ms = config.rebalance_timeout.as_millis().min(i32::MAX as u128) as i32;
        let joins = membership.generation_id == GenerationId(0);
        let question = ConsumerBeat(Beat {
            membership: &membership,
            rebalance_timeout_ms: full.then_some(timeout_ms),
            topics: full.then_some(&topics[..]),
            // One that joins has nothing; the broker insists on hearing that.
            owned: Some(if joins { &[] } else { &owned[..] }),
        });
        let mut attempts = Vec::new();
        let answer = caller.ask(to, TransactionVersion::V2, &question, &mut attempts).await;
        self.keep(attempts);
        let mut heard = self.heard();
        if heard.membership != membership {
            return;
        }
        match answer {
            Ok(beaten) if beaten.error.is_none() => {
                heard.full = false;
                if let Some(member_id) = beaten.member_id {
                    heard.membership.member_id = member_id;
                }
                heard.membership.generation_id = beaten.member_epoch;
                let interval_ms = u64::try_from(beaten.heartbeat_interval_ms).unwrap_or(0);
                heard.interval = Duration::from_millis(interval_ms.clamp(10, 60_000));
                if let Some(assignment) = beaten.assignment {
                    heard.target = Some(assignment);
                }
            }
            Ok(beaten) => heard.lost = Some(beaten.error),
            // It may have been heard or not: say everything next time.
            Err(_) => heard.full = true,
        }
    }
}
