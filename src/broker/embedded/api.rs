//! The one table of what is served: key, versions, and the function that answers.
//!
//! Versions are those of Kafka 4.3 as far as typed structs exist for them. What is not in the
//! table is not advertised, and closes the connection as Kafka does.

use std::sync::Arc;

use kafka_wire::ApiKey;
use kafka_wire::header::RequestHeader;
use kafka_wire::schema::{self, Direction};
use kafka_wire::{DecodeError, DecodeErrorKind};

use super::call::{Answer, Call};
use super::group::{admin_api, classic_api, consumer_api, offsets};
use super::node::Node;
use super::outbox::Outbox;
use super::{
    cluster_api, config_api, describe_api, fetch, offsets_api, produce, topic_api, txn_api,
};

type Handler = fn(&Arc<Node>, Call, &mut Outbox) -> Answer;

/// One API that is served.
pub(super) struct Served {
    pub(super) api_key: ApiKey,
    pub(super) min: i16,
    pub(super) max: i16,
    handler: Handler,
}

const fn served(api_key: ApiKey, min: i16, max: i16, handler: Handler) -> Served {
    Served { api_key, min, max, handler }
}

/// Every API that is served, by key.
pub(super) const SERVED: &[Served] = &[
    served(ApiKey::PRODUCE, 3, 13, produce::produce),
    served(ApiKey::FETCH, 4, 18, fetch::fetch),
    served(ApiKey::LIST_OFFSETS, 1, 10, offsets_api::list_offsets),
    served(ApiKey::METADATA, 0, 13, cluster_api::metadata),
    served(ApiKey::OFFSET_COMMIT, 2, 9, offsets::offset_commit),
    served(ApiKey::OFFSET_FETCH, 1, 9, offsets::offset_fetch),
    served(ApiKey::FIND_COORDINATOR, 0, 6, cluster_api::find_coordinator),
    served(ApiKey::JOIN_GROUP, 0, 9, classic_api::join_group),
    served(ApiKey::HEARTBEAT, 0, 4, classic_api::heartbeat),
    served(ApiKey::LEAVE_GROUP, 0, 5, classic_api::leave_group),
    served(ApiKey::SYNC_GROUP, 0, 5, classic_api::sync_group),
    served(ApiKey::DESCRIBE_GROUPS, 0, 6, admin_api::describe_groups),
    served(ApiKey::LIST_GROUPS, 0, 5, admin_api::list_groups),
    served(ApiKey::API_VERSIONS, 0, 4, cluster_api::api_versions),
    served(ApiKey::CREATE_TOPICS, 2, 7, topic_api::create_topics),
    served(ApiKey::DELETE_TOPICS, 1, 6, topic_api::delete_topics),
    served(ApiKey::DELETE_RECORDS, 0, 2, offsets_api::delete_records),
    served(ApiKey::INIT_PRODUCER_ID, 0, 5, txn_api::init_producer_id),
    served(ApiKey::OFFSET_FOR_LEADER_EPOCH, 2, 4, offsets_api::offset_for_leader_epoch),
    served(ApiKey::ADD_PARTITIONS_TO_TXN, 0, 5, txn_api::add_partitions_to_txn),
    served(ApiKey::ADD_OFFSETS_TO_TXN, 0, 4, txn_api::add_offsets_to_txn),
    served(ApiKey::END_TXN, 0, 5, txn_api::end_txn),
    served(ApiKey::WRITE_TXN_MARKERS, 1, 1, txn_api::write_txn_markers),
    served(ApiKey::TXN_OFFSET_COMMIT, 0, 5, offsets::txn_offset_commit),
    served(ApiKey::DESCRIBE_CONFIGS, 1, 4, config_api::describe_configs),
    served(ApiKey::CREATE_PARTITIONS, 0, 3, topic_api::create_partitions),
    served(ApiKey::DELETE_GROUPS, 0, 2, admin_api::delete_groups),
    served(ApiKey::INCREMENTAL_ALTER_CONFIGS, 0, 1, config_api::incremental_alter_configs),
    served(ApiKey::OFFSET_DELETE, 0, 0, offsets::offset_delete),
    served(ApiKey::DESCRIBE_CLUSTER, 0, 2, cluster_api::describe_cluster),
    served(ApiKey::DESCRIBE_PRODUCERS, 0, 0, describe_api::describe_producers),
    served(ApiKey::DESCRIBE_TRANSACTIONS, 0, 0, describe_api::describe_transactions),
    served(ApiKey::LIST_TRANSACTIONS, 0, 2, describe_api::list_transactions),
    served(ApiKey::CONSUMER_GROUP_HEARTBEAT, 0, 1, consumer_api::heartbeat),
    served(ApiKey::CONSUMER_GROUP_DESCRIBE, 0, 1, consumer_api::describe),
];

/// Answers a request.
pub(super) fn dispatch(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let header = &call.header;
    let Ok(at) = SERVED.binary_search_by_key(&header.api_key, |served| served.api_key) else {
        return Answer::Close;
    };
    let served = &SERVED[at];
    if (served.min..=served.max).contains(&header.api_version) {
        return (served.handler)(node, call, out);
    }
    if header.api_key == ApiKey::API_VERSIONS {
        return cluster_api::api_versions_unsupported(call, out);
    }
    Answer::Close
}

/// Whether the walker finds the body whole and within its bounds.
///
/// As in Kafka, bytes behind the last field are nobody's business: librdkafka 2.16 leaves three
/// there when it asks for the metadata of all topics in version 9 and later.
pub(super) fn guard(header: &RequestHeader<'_>, body: &[u8]) -> Option<()> {
    match schema::guard(header.api_key, header.api_version, Direction::Request, body) {
        Ok(()) => Some(()),
        // With a path they are inside a tagged field, whose size is then a lie.
        Err(DecodeError { kind: DecodeErrorKind::TrailingBytes(_), path, .. }) => {
            path.is_empty().then_some(())
        }
        Err(_) => None,
    }
}
