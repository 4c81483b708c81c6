//! What the error code of a Produce asks of a producer, as the Java client and franz-go react.

use kafka_wire::ErrorCode;

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It is written.
    Done,
    /// The same again, later.
    Again,
    /// Ask who leads now, then the same again.
    AgainElsewhere,
    /// The sequence does not fit what the broker has.
    Gap,
    /// The producer epoch is not the broker's.
    StaleEpoch,
    /// A newer owner of the transactional id is there: the end.
    Fenced,
    /// It will not be taken.
    Refused,
}

const TABLE: &[(ErrorCode, Reaction)] = &[
    (ErrorCode::NONE, Reaction::Done),
    // The broker has it and does not say where.
    (ErrorCode::DUPLICATE_SEQUENCE_NUMBER, Reaction::Done),
    (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Reaction::AgainElsewhere),
    (ErrorCode::LEADER_NOT_AVAILABLE, Reaction::AgainElsewhere),
    (ErrorCode::NOT_LEADER_OR_FOLLOWER, Reaction::AgainElsewhere),
    (ErrorCode::FENCED_LEADER_EPOCH, Reaction::AgainElsewhere),
    (ErrorCode::KAFKA_STORAGE_ERROR, Reaction::AgainElsewhere),
    (ErrorCode::UNKNOWN_TOPIC_ID, Reaction::AgainElsewhere),
    (ErrorCode::LISTENER_NOT_FOUND, Reaction::AgainElsewhere),
    (ErrorCode::NETWORK_EXCEPTION, Reaction::AgainElsewhere),
    (ErrorCode::CORRUPT_MESSAGE, Reaction::Again),
    (ErrorCode::REQUEST_TIMED_OUT, Reaction::Again),
    (ErrorCode::NOT_ENOUGH_REPLICAS, Reaction::Again),
    (ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND, Reaction::Again),
    (ErrorCode::THROTTLING_QUOTA_EXCEEDED, Reaction::Again),
    // Since v12 the broker joins the transaction itself, and may show what it met (KIP-890).
    (ErrorCode::CONCURRENT_TRANSACTIONS, Reaction::Again),
    (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, Reaction::Again),
    (ErrorCode::COORDINATOR_NOT_AVAILABLE, Reaction::Again),
    (ErrorCode::NOT_COORDINATOR, Reaction::Again),
    (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, Reaction::Gap),
    (ErrorCode::UNKNOWN_PRODUCER_ID, Reaction::Gap),
    (ErrorCode::INVALID_PRODUCER_EPOCH, Reaction::StaleEpoch),
    (ErrorCode::PRODUCER_FENCED, Reaction::Fenced),
];

/// The reaction to an error code; what the table does not know is refused.
pub(super) fn reaction(code: ErrorCode) -> Reaction {
    let row = TABLE.iter().find(|(row, _)| *row == code);
    row.map_or(Reaction::Refused, |(_, reaction)| *reaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused_and_nothing_stands_twice() {
        assert_eq!(reaction(ErrorCode(9999)), Reaction::Refused);
        assert_eq!(reaction(ErrorCode::INVALID_TXN_STATE), Reaction::Refused);
        for (i, (code, _)) in TABLE.iter().enumerate() {
            assert!(TABLE[..i].iter().all(|(other, _)| other != code), "{code} stands twice");
        }
    }
}
