//! What a broker says it speaks, and which version of an API we then choose.
//!
//! Whether transactions are of version 2 is read from the *finalized* features (KIP-890), never
//! from the versions alone: a 4.x broker serves EndTxn 5 while `transaction.version` is 1.

use std::collections::BTreeMap;

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::{ApiKey, ErrorCode};

use super::connection::{Connection, Fate};

/// The versions we speak well: what the typed structs can express and this client understands.
/// The crate's own ranges are wider than its encoders (OffsetCommit 10, OffsetFetch 10 and
/// InitProducerId 6 fail), and Produce 13 and OffsetCommit 10 need topic ids.
const OURS: &[(ApiKey, i16, i16)] = &[
    (ApiKey::PRODUCE, 3, 12),
    (ApiKey::FETCH, 4, 17),
    (ApiKey::LIST_OFFSETS, 1, 10),
    (ApiKey::METADATA, 1, 12),
    (ApiKey::OFFSET_COMMIT, 2, 9),
    (ApiKey::OFFSET_FETCH, 2, 9),
    (ApiKey::FIND_COORDINATOR, 0, 6),
    (ApiKey::JOIN_GROUP, 0, 9),
    (ApiKey::HEARTBEAT, 0, 4),
    (ApiKey::LEAVE_GROUP, 0, 5),
    (ApiKey::SYNC_GROUP, 0, 5),
    (ApiKey::API_VERSIONS, 0, 4),
    (ApiKey::CREATE_TOPICS, 2, 7),
    (ApiKey::DELETE_TOPICS, 1, 6),
    (ApiKey::DELETE_RECORDS, 0, 2),
    (ApiKey::INIT_PRODUCER_ID, 0, 5),
    (ApiKey::OFFSET_FOR_LEADER_EPOCH, 2, 4),
    (ApiKey::ADD_PARTITIONS_TO_TXN, 0, 3),
    (ApiKey::ADD_OFFSETS_TO_TXN, 0, 4),
    (ApiKey::END_TXN, 0, 5),
    (ApiKey::TXN_OFFSET_COMMIT, 0, 5),
    (ApiKey::DESCRIBE_CLUSTER, 0, 1),
    (ApiKey::DESCRIBE_PRODUCERS, 0, 0),
    (ApiKey::DESCRIBE_TRANSACTIONS, 0, 0),
    (ApiKey::LIST_TRANSACTIONS, 0, 1),
    (ApiKey::CONSUMER_GROUP_HEARTBEAT, 0, 1),
];

/// The last versions that mean transactions of version 1 (KIP-890, "old style").
const OLD_STYLE_MAX: &[(ApiKey, i16)] =
    &[(ApiKey::PRODUCE, 11), (ApiKey::END_TXN, 4), (ApiKey::TXN_OFFSET_COMMIT, 4)];

/// What one broker advertises.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    ranges: BTreeMap<ApiKey, (i16, i16)>,
    finalized_features: BTreeMap<String, i16>,
    /// The error the broker answered with; 0 is none.
    pub error: ErrorCode,
}

impl Versions {
    /// Asks a broker at a version of ApiVersions of the caller's choice. A broker that does not
    /// speak that version answers UNSUPPORTED_VERSION in the form of version 0 (KIP-511), which
    /// is an answer like any other: whether to ask again lower is the caller's decision.
    ///
    /// # Errors
    /// What became of it where no answer that decodes came.
    pub async fn ask(connection: &Connection, api_version: i16) -> Result<Self, Fate> {
        // KIP-511: brokers refuse other characters with INVALID_REQUEST.
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("fencepost"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let frame = super::typed::encode(&request, api_version)?;
        let answer = connection.exchange(frame).await?;
        let refused = answer.body.starts_with(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
        let decode_as = if refused { 0 } else { api_version };
        super::typed::typed_answer::<ApiVersionsRequest>(answer, decode_as).map(|r| Self::of(&r))
    }

    /// Reads an answer.
    #[must_use]
    pub fn of(answer: &ApiVersionsResponse) -> Self {
        Self {
            ranges: answer
                .api_keys
                .iter()
                .map(|api| (ApiKey(api.api_key), (api.min_version, api.max_version)))
                .collect(),
            finalized_features: answer
                .finalized_features
                .iter()
                .map(|f| (f.name.to_string(), f.max_version_level))
                .collect(),
            error: ErrorCode(answer.error_code),
        }
    }

    /// The range the broker advertises; absent where it does not serve the API.
    #[must_use]
    pub fn advertised(&self, api_key: ApiKey) -> Option<(i16, i16)> {
        self.ranges.get(&api_key).copied()
    }

    /// The level of a finalized feature; absent where the broker names none.
    #[must_use]
    pub fn finalized_feature(&self, name: &str) -> Option<i16> {
        self.finalized_features.get(name).copied()
    }

    /// All finalized features with their levels.
    pub fn finalized_features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.finalized_features.iter().map(|(name, level)| (name.as_str(), *level))
    }

    /// Which transactions are in force.
    #[must_use]
    pub fn transaction_version(&self) -> TransactionVersion {
        if self.finalized_feature("transaction.version").unwrap_or(0) >= 2 {
            TransactionVersion::V2
        } else {
            TransactionVersion::V1
        }
    }

    /// The highest version both sides speak, transactions being of the version given; absent
    /// where there is none.
    #[must_use]
    pub fn choose(&self, api_key: ApiKey, transactions: TransactionVersion) -> Option<i16> {
        let (min, max) = self.advertised(api_key)?;
        let &(_, our_min, our_max) = OURS.iter().find(|(key, ..)| *key == api_key)?;
        let old_style = OLD_STYLE_MAX.iter().find(|(key, _)| *key == api_key);
        let our_max = match (transactions, old_style) {
            (TransactionVersion::V1, Some(&(_, last))) => our_max.min(last),
            _ => our_max,
        };
        let version = max.min(our_max);
        (version >= min.max(our_min)).then_some(version)
    }
}

/// How a client conducts its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionVersion {
    /// KIP-98: partitions are added by request, the epoch stays from one transaction to the next.
    V1,
    /// KIP-890: partitions are added by the first write, each end raises the epoch.
    V2,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(ranges: &[(ApiKey, i16, i16)], transaction_version: Option<i16>) -> Versions {
        Versions {
            ranges: ranges.iter().map(|&(key, min, max)| (key, (min, max))).collect(),
            finalized_features: transaction_version
                .map(|level| ("transaction.version".to_owned(), level))
                .into_iter()
                .collect(),
            error: ErrorCode::NONE,
        }
    }

    #[test]
    fn the_finalized_feature_decides_the_transaction_version() {
        let v = |level| versions(&[(ApiKey::END_TXN, 0, 5)], level).transaction_version();
        assert_eq!(v(None), TransactionVersion::V1);
        assert_eq!(v(Some(1)), TransactionVersion::V1);
        assert_eq!(v(Some(2)), TransactionVersion::V2);
    }

    #[test]
    fn versions_are_the_highest_both_speak() {
        let broker = versions(
            &[(ApiKey::PRODUCE, 0, 13), (ApiKey::END_TXN, 0, 5), (ApiKey::FETCH, 20, 21)],
            Some(2),
        );
        let choose = |key, txn| broker.choose(key, txn);
        assert_eq!(choose(ApiKey::PRODUCE, TransactionVersion::V2), Some(12));
        assert_eq!(choose(ApiKey::PRODUCE, TransactionVersion::V1), Some(11));
        assert_eq!(choose(ApiKey::END_TXN, TransactionVersion::V1), Some(4));
        assert_eq!(choose(ApiKey::FETCH, TransactionVersion::V2), None);
        assert_eq!(choose(ApiKey::METADATA, TransactionVersion::V2), None);
    }
}
