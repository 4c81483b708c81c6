//! What a client waits for before it goes on: partitions that have leaders, coordinators that have
//! loaded what they keep.
//!
//! The client that was recorded met a cluster at work; a new one is not as far. Where a coordinator
//! answers that it is not there yet or busy, and the recorded one did not, the request is said
//! again, as every client does it. Nothing else is: a repeated Produce would be another experiment.

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
const EARLY: [ErrorCode; 4] = [
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ErrorCode::NOT_COORDINATOR,
    ErrorCode::CONCURRENT_TRANSACTIONS,
];

/// Whether a coordinator was asked too early, which it had not been in the capture.
pub(super) fn is_early(said: &Said, recorded: &Bytes, answered: &Bytes) -> bool {
    let response = schema::Direction::Response;
    let layout = schema::layout(said.api_key, response, said.api_version);
    let (Some(layout), true) = (layout, COORDINATED.contains(&said.api_key)) else { return false };
    let early = |body: &Bytes| has_early(&layout.decode(body, Limits::default()).fields);
    early(answered) && !early(recorded)
}

fn has_early(fields: &Fields) -> bool {
    fields.iter().any(|(name, value)| is_in(name, value))
}

fn is_in(name: &str, value: &Value) -> bool {
    match value {
        Value::Struct(fields) => has_early(fields),
        Value::Array(elements) => elements.iter().any(|element| is_in(name, element)),
        Value::Int(code) if name.ends_with("error_code") => {
            EARLY.iter().any(|early| i64::from(early.0) == *code)
        }
        _ => false,
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
        if !has_error(&answer.fields) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn has_error(fields: &Fields) -> bool {
    fields.iter().any(|(name, value)| match value {
        Value::Struct(fields) => has_error(fields),
        Value::Array(elements) => elements.iter().filter_map(Value::as_struct).any(has_error),
        Value::Int(code) => name == "error_code" && *code != 0,
        _ => false,
    })
}
