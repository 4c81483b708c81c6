//! Which error codes an API may answer with, and since which of its versions: the table of W3.
//!
//! A row is a matter that errors speak of and the APIs that have to do with it. Only what no broker
//! has a reason to say is left out of a row; codes that are in none any API may answer.
//!
//! Not checked: APIs that are not in [`CORE`].

use kafka_wire::{ApiKey, ErrorCode};

/// The APIs whose errors are looked at one by one.
const CORE: &[ApiKey] = &[
    ApiKey::PRODUCE,
    ApiKey::FETCH,
    ApiKey::LIST_OFFSETS,
    ApiKey::METADATA,
    ApiKey::OFFSET_COMMIT,
    ApiKey::OFFSET_FETCH,
    ApiKey::FIND_COORDINATOR,
    ApiKey::JOIN_GROUP,
    ApiKey::HEARTBEAT,
    ApiKey::LEAVE_GROUP,
    ApiKey::SYNC_GROUP,
    ApiKey::INIT_PRODUCER_ID,
    ApiKey::ADD_PARTITIONS_TO_TXN,
    ApiKey::ADD_OFFSETS_TO_TXN,
    ApiKey::END_TXN,
    ApiKey::TXN_OFFSET_COMMIT,
];

/// Who speaks of members of groups.
const OF_GROUPS: &[ApiKey] = &[
    ApiKey::OFFSET_COMMIT,
    ApiKey::OFFSET_FETCH,
    ApiKey::JOIN_GROUP,
    ApiKey::HEARTBEAT,
    ApiKey::LEAVE_GROUP,
    ApiKey::SYNC_GROUP,
    ApiKey::TXN_OFFSET_COMMIT,
];

/// Who names a group.
const NAMING_GROUPS: &[ApiKey] = &[
    ApiKey::OFFSET_COMMIT,
    ApiKey::OFFSET_FETCH,
    ApiKey::FIND_COORDINATOR,
    ApiKey::JOIN_GROUP,
    ApiKey::HEARTBEAT,
    ApiKey::LEAVE_GROUP,
    ApiKey::SYNC_GROUP,
    ApiKey::ADD_OFFSETS_TO_TXN,
    ApiKey::TXN_OFFSET_COMMIT,
];

/// Who speaks of producers and their transactions.
const OF_PRODUCERS: &[ApiKey] = &[
    ApiKey::PRODUCE,
    ApiKey::OFFSET_COMMIT,
    ApiKey::FIND_COORDINATOR,
    ApiKey::INIT_PRODUCER_ID,
    ApiKey::ADD_PARTITIONS_TO_TXN,
    ApiKey::ADD_OFFSETS_TO_TXN,
    ApiKey::END_TXN,
    ApiKey::TXN_OFFSET_COMMIT,
];

/// Who writes to a log, if only to that of a coordinator.
const WRITING: &[ApiKey] = &[
    ApiKey::PRODUCE,
    ApiKey::OFFSET_COMMIT,
    ApiKey::JOIN_GROUP,
    ApiKey::LEAVE_GROUP,
    ApiKey::SYNC_GROUP,
    ApiKey::INIT_PRODUCER_ID,
    ApiKey::ADD_PARTITIONS_TO_TXN,
    ApiKey::ADD_OFFSETS_TO_TXN,
    ApiKey::END_TXN,
    ApiKey::TXN_OFFSET_COMMIT,
];

/// Errors of one matter, by the APIs of [`CORE`] that may speak of it.
const MATTERS: &[(&[ErrorCode], &[ApiKey])] = &[
    (
        &[
            ErrorCode::ILLEGAL_GENERATION,
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::INVALID_SESSION_TIMEOUT,
            ErrorCode::REBALANCE_IN_PROGRESS,
            ErrorCode::MEMBER_ID_REQUIRED,
            ErrorCode::GROUP_MAX_SIZE_REACHED,
            ErrorCode::FENCED_INSTANCE_ID,
            ErrorCode::FENCED_MEMBER_EPOCH,
            ErrorCode::STALE_MEMBER_EPOCH,
            ErrorCode::GROUP_ID_NOT_FOUND,
        ],
        OF_GROUPS,
    ),
    (&[ErrorCode::INVALID_GROUP_ID, ErrorCode::GROUP_AUTHORIZATION_FAILED], NAMING_GROUPS),
    (&[ErrorCode::UNSTABLE_OFFSET_COMMIT], &[ApiKey::OFFSET_FETCH]),
    (
        &[ErrorCode::OFFSET_METADATA_TOO_LARGE, ErrorCode::INVALID_COMMIT_OFFSET_SIZE],
        &[ApiKey::OFFSET_COMMIT, ApiKey::TXN_OFFSET_COMMIT],
    ),
    (
        &[
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            ErrorCode::INVALID_FETCH_SESSION_EPOCH,
            ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
            ErrorCode::OFFSET_MOVED_TO_TIERED_STORAGE,
        ],
        &[ApiKey::FETCH],
    ),
    (
        &[ErrorCode::OFFSET_OUT_OF_RANGE, ErrorCode::OFFSET_NOT_AVAILABLE],
        &[ApiKey::FETCH, ApiKey::LIST_OFFSETS],
    ),
    (
        &[ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::DUPLICATE_SEQUENCE_NUMBER],
        &[ApiKey::PRODUCE, ApiKey::TXN_OFFSET_COMMIT],
    ),
    (
        &[
            ErrorCode::INVALID_PRODUCER_EPOCH,
            ErrorCode::INVALID_TXN_STATE,
            ErrorCode::INVALID_PRODUCER_ID_MAPPING,
            ErrorCode::CONCURRENT_TRANSACTIONS,
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            ErrorCode::UNKNOWN_PRODUCER_ID,
            ErrorCode::PRODUCER_FENCED,
            ErrorCode::TRANSACTION_ABORTABLE,
        ],
        OF_PRODUCERS,
    ),
    (&[ErrorCode::INVALID_TRANSACTION_TIMEOUT], &[ApiKey::INIT_PRODUCER_ID]),
    (&[ErrorCode::INVALID_REQUIRED_ACKS], &[ApiKey::PRODUCE]),
    (&[ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND], WRITING),
    // Metadata may have created a topic.
    (
        &[
            ErrorCode::TOPIC_ALREADY_EXISTS,
            ErrorCode::INVALID_PARTITIONS,
            ErrorCode::INVALID_REPLICATION_FACTOR,
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        ],
        &[ApiKey::METADATA],
    ),
    (&[ErrorCode::NON_EMPTY_GROUP, ErrorCode::UNSUPPORTED_SASL_MECHANISM], &[]),
];

/// Whether an API may speak of what an error is about.
pub(super) fn is_of(api_key: ApiKey, code: ErrorCode) -> bool {
    let matter = MATTERS.iter().find(|(codes, _)| codes.contains(&code));
    !CORE.contains(&api_key) || matter.is_none_or(|(_, apis)| apis.contains(&api_key))
}

/// Whether an API may return an error in that version.
pub(super) fn is_possible(api_key: ApiKey, version: i16, code: ErrorCode) -> bool {
    code.name().is_some() && version >= since(api_key, code) && is_of(api_key, code)
}

/// The first version of an API that has an error.
fn since(api_key: ApiKey, code: ErrorCode) -> i16 {
    match (code, api_key) {
        // KIP-890.
        (ErrorCode::TRANSACTION_ABORTABLE, ApiKey::PRODUCE) => 11,
        (ErrorCode::TRANSACTION_ABORTABLE, ApiKey::INIT_PRODUCER_ID) => 5,
        (ErrorCode::TRANSACTION_ABORTABLE, ApiKey::FIND_COORDINATOR) => 5,
        (ErrorCode::TRANSACTION_ABORTABLE, ApiKey::END_TXN | ApiKey::ADD_OFFSETS_TO_TXN) => 4,
        (ErrorCode::TRANSACTION_ABORTABLE, ApiKey::TXN_OFFSET_COMMIT) => 4,
        // KIP-588.
        (ErrorCode::PRODUCER_FENCED, ApiKey::END_TXN | ApiKey::ADD_OFFSETS_TO_TXN) => 2,
        (ErrorCode::PRODUCER_FENCED, ApiKey::ADD_PARTITIONS_TO_TXN) => 2,
        (ErrorCode::PRODUCER_FENCED, ApiKey::INIT_PRODUCER_ID) => 4,
        // KIP-516: these name topics by id.
        (ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::INCONSISTENT_TOPIC_ID, ApiKey::FETCH) => 13,
        // Java goes back to 12 where it lacks a topic's id, in the session it had begun with ids.
        (ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR, ApiKey::FETCH) => 7,
        (ErrorCode::UNKNOWN_TOPIC_ID, ApiKey::PRODUCE) => 13,
        // KIP-848.
        (ErrorCode::STALE_MEMBER_EPOCH, ApiKey::OFFSET_COMMIT | ApiKey::OFFSET_FETCH) => 9,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_is_of_two_matters() {
        let all: Vec<ErrorCode> =
            MATTERS.iter().flat_map(|(codes, _)| codes.iter().copied()).collect();
        for (at, code) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(code), "{code} stands twice");
        }
    }

    #[test]
    fn matters_are_told_by_who_has_to_do_with_them() {
        let core = |apis: &[ApiKey]| apis.iter().all(|api| CORE.contains(api));
        for (codes, apis) in MATTERS {
            assert!(core(apis), "{codes:?}");
            for code in codes.iter() {
                let silent = CORE.iter().filter(|api| !apis.contains(api));
                silent.for_each(|api| assert!(!is_possible(*api, i16::MAX, *code)));
                apis.iter().for_each(|api| assert!(is_possible(*api, i16::MAX, *code)));
            }
        }
        assert!(is_possible(ApiKey::FETCH, 13, ErrorCode::UNKNOWN_TOPIC_ID));
        assert!(!is_possible(ApiKey::FETCH, 12, ErrorCode::UNKNOWN_TOPIC_ID));
        assert!(is_possible(ApiKey::FETCH, 12, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR));
        assert!(!is_possible(ApiKey::FETCH, 6, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR));
        // What any API may say, and APIs that are not looked at.
        assert!(is_possible(ApiKey::FETCH, 4, ErrorCode::UNKNOWN_SERVER_ERROR));
        assert!(is_possible(ApiKey::DELETE_TOPICS, 4, ErrorCode::ILLEGAL_GENERATION));
    }
}
