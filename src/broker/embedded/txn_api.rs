//! Answers what producers ask of the transaction coordinator.
//!
//! Which error code is which version's: PRODUCER_FENCED came with InitProducerId 4, and with
//! version 2 of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn; before, it is
//! INVALID_PRODUCER_EPOCH.

use std::sync::Arc;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use kafka_wire::ErrorCode;

use super::bug::Bug;
use super::call::{Answer, Call};
use super::cluster::{Cluster, OFFSETS_TOPIC, PartitionKey, TRANSACTIONS_TOPIC, TopicRef};
use super::log::Marker;
use super::node::Node;
use super::outbox::Outbox;
use super::transaction::{Enlist, Identity};

/// PRODUCER_FENCED, or what it was called before `since`.
fn fenced_since(error: ErrorCode, version: i16, since: i16) -> ErrorCode {
    if error == ErrorCode::PRODUCER_FENCED && version < since {
        ErrorCode::INVALID_PRODUCER_EPOCH
    } else {
        error
    }
}

/// Refuses where this node does not coordinate the id.
fn coordinates(cluster: &mut Cluster, node: &Node, id: &str) -> Result<(), ErrorCode> {
    match cluster.coordinator(TRANSACTIONS_TOPIC, id) == node.node_id {
        true => Ok(()),
        false => Err(ErrorCode::NOT_COORDINATOR),
    }
}

/// Answers InitProducerId.
pub(super) fn init_producer_id(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<InitProducerIdRequest>() else { return Answer::Close };
    let mut response = InitProducerIdResponse::default();
    match init(node, &request, call.version()) {
        Ok(identity) => {
            response.producer_id = ProducerId(identity.producer_id);
            response.producer_epoch = identity.producer_epoch;
        }
        Err(error) => {
            response.error_code = fenced_since(error, call.version(), 4).0;
            response.producer_id = ProducerId(-1);
            response.producer_epoch = -1;
        }
    }
    // An ongoing transaction may have been given its end.
    node.shared.work.notify_one();
    call.reply(out, &response)
}

fn init(node: &Node, request: &InitProducerIdRequest, version: i16) -> Result<Identity, ErrorCode> {
    let own = Identity {
        producer_id: if version >= 3 { request.producer_id.0 } else { -1 },
        producer_epoch: if version >= 3 { request.producer_epoch } else { -1 },
    };
    if (own.producer_id == -1) != (own.producer_epoch == -1) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let mut cluster = node.lock();
    let Some(id) = &request.transactional_id else {
        let producer_id = cluster.transactions.fresh_producer_id();
        return Ok(Identity { producer_id, producer_epoch: 0 });
    };
    if id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    coordinates(&mut cluster, node, id)?;
    let timeout_ms = request.transaction_timeout_ms;
    if !(1..=node.config().transaction_max_timeout_ms).contains(&timeout_ms) {
        return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
    }
    let own = (own.producer_id != -1).then_some(own);
    let identity = cluster.transactions.init(id, timeout_ms, own, node.now_ms())?;
    Ok(given(&mut cluster, identity, own.is_none()))
}

/// What a producer is told that it is: what it is, but for a bug.
fn given(cluster: &mut Cluster, identity: Identity, is_new: bool) -> Identity {
    let others = cluster.mischief.given.first().copied();
    if let (true, Some((producer_id, producer_epoch))) = (is_new, others)
        && producer_id != identity.producer_id
        && cluster.mischief.rolls(Bug::ReuseProducerId, 3)
    {
        return Identity { producer_id, producer_epoch };
    }
    if cluster.mischief.is(Bug::ReuseProducerId) && cluster.mischief.given.is_empty() {
        cluster.mischief.given.push((identity.producer_id, identity.producer_epoch));
    }
    identity
}

/// Answers AddPartitionsToTxn: versions 0 to 3 are a client's, later ones carry several
/// transactions, each to be enlisted or only verified (KIP-890).
pub(super) fn add_partitions_to_txn(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<AddPartitionsToTxnRequest>() else { return Answer::Close };
    let mut response = AddPartitionsToTxnResponse::default();
    if call.version() <= 3 {
        let enlist = Enlist {
            transactional_id: &request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id.0,
            producer_epoch: request.v3_and_below_producer_epoch,
        };
        let topics = &request.v3_and_below_topics;
        response.results_by_topic_v3_and_below =
            add_partitions(node, &enlist, topics, false, call.version());
    } else {
        for transaction in &request.transactions {
            let enlist = Enlist {
                transactional_id: &transaction.transactional_id,
                producer_id: transaction.producer_id.0,
                producer_epoch: transaction.producer_epoch,
            };
            let mut result = AddPartitionsToTxnResult::default();
            result.transactional_id = transaction.transactional_id.clone();
            let only = transaction.verify_only;
            result.topic_results =
                add_partitions(node, &enlist, &transaction.topics, only, call.version());
            response.results_by_transaction.push(result);
        }
    }
    call.reply(out, &response)
}

/// Enlists or verifies the partitions of one transaction: all of them, or none where one is
/// unknown.
fn add_partitions(
    node: &Node,
    enlist: &Enlist<'_>,
    topics: &[AddPartitionsToTxnTopic],
    verify_only: bool,
    version: i16,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut cluster = node.lock();
    let named =
        || topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, *p)));
    let found: Vec<Result<PartitionKey, ErrorCode>> = named()
        .map(|(topic, partition)| cluster.find_partition(TopicRef::Name(&topic.name), partition))
        .collect();
    let keys: Option<Vec<PartitionKey>> = found.iter().map(|key| key.ok()).collect();
    let answers = match keys {
        // Some are unknown: those are told so, the others were not attempted.
        None => found
            .iter()
            .map(|key| key.err().unwrap_or(ErrorCode::OPERATION_NOT_ATTEMPTED))
            .collect(),
        Some(keys) => match permitted(&mut cluster, node, enlist) {
            Err(error) => vec![error; keys.len()],
            Ok(()) if verify_only => cluster.transactions.verify(enlist, &keys),
            Ok(()) => {
                let bumping = version >= 5;
                let added = cluster.transactions.enlist(enlist, &keys, bumping, node.now_ms());
                vec![added.err().unwrap_or(ErrorCode::NONE); keys.len()]
            }
        },
    };
    let mut answers = answers.into_iter();
    topics
        .iter()
        .map(|topic| {
            let mut result = AddPartitionsToTxnTopicResult::default();
            result.name = topic.name.clone();
            result.results_by_partition = topic
                .partitions
                .iter()
                .zip(answers.by_ref())
                .map(|(&partition, error)| {
                    let mut result = AddPartitionsToTxnPartitionResult::default();
                    result.partition_index = partition;
                    result.partition_error_code = fenced_since(error, version, 2).0;
                    result
                })
                .collect();
            result
        })
        .collect()
}

/// What is asked before the state of a transaction is.
fn permitted(cluster: &mut Cluster, node: &Node, enlist: &Enlist<'_>) -> Result<(), ErrorCode> {
    if enlist.transactional_id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    coordinates(cluster, node, enlist.transactional_id)
}

/// Answers AddOffsetsToTxn: the group's offsets partition joins the transaction.
pub(super) fn add_offsets_to_txn(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<AddOffsetsToTxnRequest>() else { return Answer::Close };
    let enlist = Enlist {
        transactional_id: &request.transactional_id,
        producer_id: request.producer_id.0,
        producer_epoch: request.producer_epoch,
    };
    let mut cluster = node.lock();
    let added = permitted(&mut cluster, node, &enlist).and_then(|()| {
        let key = cluster.internal_partition(OFFSETS_TOPIC, &request.group_id);
        cluster.transactions.enlist(&enlist, &[key], false, node.now_ms())
    });
    let mut response = AddOffsetsToTxnResponse::default();
    let error = added.err().unwrap_or(ErrorCode::NONE);
    response.error_code = fenced_since(error, call.version(), 2).0;
    call.reply(out, &response)
}

/// Answers EndTxn: decided when answered, the markers follow.
pub(super) fn end_txn(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<EndTxnRequest>() else { return Answer::Close };
    let enlist = Enlist {
        transactional_id: &request.transactional_id,
        producer_id: request.producer_id.0,
        producer_epoch: request.producer_epoch,
    };
    let bumping = call.version() >= 5;
    let ended = {
        let mut cluster = node.lock();
        if bumping
            && !cluster.mischief.withheld.contains_key(enlist.transactional_id)
            && cluster.mischief.rolls(Bug::LateEndTxnDecidesNext, 20)
        {
            let withheld = (enlist.producer_epoch, request.committed);
            cluster.mischief.withheld.insert(enlist.transactional_id.to_owned(), withheld);
            return Answer::Close;
        }
        let forgets = request.committed && cluster.mischief.rolls(Bug::HangTransaction, 20);
        let id = enlist.transactional_id;
        if cluster.transactions.hang(id, enlist.producer_epoch, forgets) {
            Err(ErrorCode::UNKNOWN_SERVER_ERROR)
        } else {
            permitted(&mut cluster, node, &enlist).and_then(|()| {
                cluster.transactions.end(&enlist, request.committed, bumping, node.now_ms())
            })
        }
    };
    let mut response = EndTxnResponse::default();
    match ended {
        Ok(identity) if bumping => {
            response.producer_id = ProducerId(identity.producer_id);
            response.producer_epoch = identity.producer_epoch;
        }
        Ok(_) => {}
        Err(error) => response.error_code = fenced_since(error, call.version(), 2).0,
    }
    node.shared.work.notify_one();
    call.reply(out, &response)
}

/// Answers WriteTxnMarkers, which administrators send to end a hanging transaction (KIP-664).
pub(super) fn write_txn_markers(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<WriteTxnMarkersRequest>() else { return Answer::Close };
    let mut cluster = node.lock();
    let mut response = WriteTxnMarkersResponse::default();
    for asked in &request.markers {
        let marker = Marker {
            producer_id: asked.producer_id.0,
            producer_epoch: asked.producer_epoch,
            commit: asked.transaction_result,
            coordinator_epoch: asked.coordinator_epoch,
            timestamp: node.now_ms(),
        };
        let mut result = WritableTxnMarkerResult::default();
        result.producer_id = asked.producer_id;
        for topic in &asked.topics {
            let mut of_topic = WritableTxnMarkerTopicResult::default();
            of_topic.name = topic.name.clone();
            for &partition in &topic.partition_indexes {
                let name = TopicRef::Name(&topic.name);
                let written = cluster
                    .find_led(name, partition, node.node_id)
                    .and_then(|key| write_marker(&mut cluster, key, &marker));
                let mut of_partition = WritableTxnMarkerPartitionResult::default();
                of_partition.partition_index = partition;
                of_partition.error_code = written.err().unwrap_or(ErrorCode::NONE).0;
                of_topic.partitions.push(of_partition);
            }
            result.topics.push(of_topic);
        }
        response.markers.push(result);
    }
    call.reply(out, &response)
}

/// Writes one marker where its epochs are not behind.
fn write_marker(
    cluster: &mut Cluster,
    key: PartitionKey,
    marker: &Marker,
) -> Result<(), ErrorCode> {
    let partition = cluster.partition(key).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if let Some(state) = partition.log.producers.get(&marker.producer_id) {
        if marker.producer_epoch < state.producer_epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if marker.coordinator_epoch < state.coordinator_epoch {
            return Err(ErrorCode::TRANSACTION_COORDINATOR_FENCED);
        }
    }
    cluster.append_marker(key, marker);
    Ok(())
}
