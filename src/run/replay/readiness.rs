//! What a client waits for before it goes on: partitions that have leaders, coordinators that have
//! loaded what they keep.
//!
//! The client that was recorded met a cluster at work; a new one is not as far. Where a coordinator
//! answers that it is not there yet or busy, and the recorded one did not, the request is said
//! again, as every client does it. So is a Produce of which nothing was written because the transaction
//! before it is still being ended; any other would be another experiment.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::schema::{self, Fields, Limits, Value};
use kafka_wire::{ApiKey, ErrorCode};

use super::recording::Said;
use crate::client::connection::{Connection, Fate, Frame};

/// Between two times.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// So often at most: ten seconds.
pub(super) const AGAIN_MAX: u32 = 200;
/// So often until partitions have leaders; other brokers' never have them here.
const LEADERS_MAX: u32 = 60;

/// A version of ListOffsets that every broker has and that names no leader epoch.
const LIST_OFFSETS_VERSION: i16 = 3;

/// Whose requests a coordinator answers.
const COORDINATED: &[ApiKey] = &[
    ApiKey::FIND_COORDINATOR,
    ApiKey::INIT_PRODUCER_ID,
    ApiKey::ADD_PARTITIONS_TO_TXN,
    ApiKey::ADD_OFFSETS_TO_TXN,
    ApiKey::END_TXN,
    ApiKey::TXN_OFFSET_COMMIT,
    ApiKey::OFFSET_COMMIT,
    ApiKey::OFFSET_FETCH,
    ApiKey::JOIN_GROUP,
    ApiKey::SYNC_GROUP,
    ApiKey::HEARTBEAT,
    ApiKey::CONSUMER_GROUP_HEARTBEAT,
];

/// What it answers while it is not ready, or still writes the end of a transaction.
const EARLY: [ErrorCode; 5] = [
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ErrorCode::NOT_COORDINATOR,
    ErrorCode::CONCURRENT_TRANSACTIONS,
    ErrorCode::UNSTABLE_OFFSET_COMMIT,
];

/// How a new answer stands to the recorded one, as far as readiness goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Both alike.
    Same,
    /// Asked too early, which the recorded one was not: to be asked again.
    Early,
    /// The recorded one was asked too early, and the client asked again; there is no difference to
    /// tell.
    Later,
}

pub(super) fn readiness(said: &Said, recorded: &Bytes, answered: &Bytes) -> Readiness {
    let response = schema::Direction::Response;
    let Some(layout) = schema::layout(said.api_key, response, said.api_version) else {
        return Readiness::Same;
    };
    let is_early = |body: &Bytes| {
        let mut codes = Vec::new();
        error_codes(&layout.decode(body, Limits::default()).fields, &mut codes);
        let is_early = |code: &i64| EARLY.iter().any(|early| i64::from(early.0) == *code);
        match said.api_key {
            // The last transaction is still being ended, and nothing was written (KIP-890).
            ApiKey::PRODUCE => {
                let busy = i64::from(ErrorCode::CONCURRENT_TRANSACTIONS.0);
                !codes.is_empty() && codes.iter().all(|code| *code == busy)
            }
            api_key => COORDINATED.contains(&api_key) && codes.iter().any(is_early),
        }
    };
    match (is_early(recorded), is_early(answered)) {
        (false, true) => Readiness::Early,
        (true, false) => Readiness::Later,
        _ => Readiness::Same,
    }
}

fn error_codes(fields: &Fields, codes: &mut Vec<i64>) {
    for (name, value) in fields.iter() {
        match value {
            Value::Struct(fields) => error_codes(fields, codes),
            Value::Array(elements) => {
                elements.iter().filter_map(Value::as_struct).for_each(|f| error_codes(f, codes));
            }
            Value::Int(code) if name.ends_with("error_code") => codes.push(*code),
            _ => {}
        }
    }
}

/// Waits until a broker answers for partitions of topics that were just created. Partitions that
/// other brokers lead are theirs to answer for; after a while, whatever is not there is left to
/// show in the answers.
pub(super) async fn wait_for_leaders(
    connection: &Connection,
    topics: &[(String, usize)],
) -> Result<(), Fate> {
    let partition =
        |index: usize| Fields::new().with("partition_index", index as i64).with("timestamp", -1);
    let topics: Vec<Fields> = topics
        .iter()
        .map(|(name, count)| {
            let partitions: Vec<Fields> = (0..*count).map(partition).collect();
            Fields::new().with("name", name.clone()).with("partitions", partitions)
        })
        .collect();
    let request = Fields::new().with("replica_id", -1).with("topics", topics);
    let layout = |way| {
        schema::layout(ApiKey::LIST_OFFSETS, way, LIST_OFFSETS_VERSION)
            .expect("the table has ListOffsets")
    };
    let body = layout(schema::Direction::Request).encode(&request);
    let body: Bytes = body.expect("these fields are ListOffsets'").into();
    for _ in 0..LEADERS_MAX {
        let frame = Frame {
            api_key: ApiKey::LIST_OFFSETS,
            api_version: LIST_OFFSETS_VERSION,
            body: body.clone(),
            answered: true,
        };
        let response = connection.exchange(frame).await?;
        let answer = layout(schema::Direction::Response).decode(&response.body, Limits::default());
        let mut codes = Vec::new();
        error_codes(&answer.fields, &mut codes);
        if codes.iter().all(|code| *code == 0) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
