//! Answers what administrators ask about producers and transactions (KIP-664).

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::describe_transactions_response::{
    TopicData, TransactionState as Described,
};
use kafka_protocol::messages::list_transactions_response::TransactionState as Listed;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest,
    DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse, ProducerId,
    TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;

use super::call::{Answer, Call};
use super::cluster::{Cluster, TRANSACTIONS_TOPIC, TopicRef};
use super::node::Node;
use super::outbox::Outbox;
use super::transaction::{Transaction, TxnState};

/// Answers DescribeProducers.
pub(super) fn describe_producers(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<DescribeProducersRequest>() else { return Answer::Close };
    let cluster = node.lock();
    let mut response = DescribeProducersResponse::default();
    for topic in &request.topics {
        let mut result = TopicResponse::default();
        result.name = topic.name.clone();
        for &index in &topic.partition_indexes {
            let mut partition = PartitionResponse::default();
            partition.partition_index = index;
            match cluster.find_led(TopicRef::Name(&topic.name), index, node.node_id) {
                Ok(key) => partition.active_producers = producers(&cluster, key),
                Err(error) => partition.error_code = error.0,
            }
            result.partitions.push(partition);
        }
        response.topics.push(result);
    }
    drop(cluster);
    call.reply(out, &response)
}

fn producers(cluster: &Cluster, key: super::cluster::PartitionKey) -> Vec<ProducerState> {
    let Some(partition) = cluster.partition(key) else { return Vec::new() };
    let of = |(producer_id, known): (i64, &super::producer_state::ProducerState)| {
        let mut state = ProducerState::default();
        state.producer_id = ProducerId(producer_id);
        state.producer_epoch = known.producer_epoch.into();
        state.last_sequence = known.last_sequence();
        state.last_timestamp = known.last_timestamp;
        state.coordinator_epoch = known.coordinator_epoch;
        state.current_txn_start_offset = known.txn_first_offset.unwrap_or(-1);
        state
    };
    partition.log.producers_in_order().into_iter().map(of).collect()
}

/// Answers DescribeTransactions.
pub(super) fn describe_transactions(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<DescribeTransactionsRequest>() else { return Answer::Close };
    let mut cluster = node.lock();
    let mut response = DescribeTransactionsResponse::default();
    for id in &request.transactional_ids {
        let coordinated = cluster.coordinator(TRANSACTIONS_TOPIC, id) == node.node_id;
        let mut state = Described::default();
        state.transactional_id = id.clone();
        match cluster.transactions.by_id.get(&***id) {
            _ if id.is_empty() => state.error_code = ErrorCode::INVALID_REQUEST.0,
            _ if !coordinated => state.error_code = ErrorCode::NOT_COORDINATOR.0,
            Some(txn) => describe(&cluster, txn, &mut state),
            None => state.error_code = ErrorCode::TRANSACTIONAL_ID_NOT_FOUND.0,
        }
        response.transaction_states.push(state);
    }
    drop(cluster);
    call.reply(out, &response)
}

fn describe(cluster: &Cluster, txn: &Transaction, state: &mut Described) {
    state.transaction_state = StrBytes::from_static_str(txn.state.name());
    state.transaction_timeout_ms = txn.timeout_ms;
    state.transaction_start_time_ms = txn.start_ms;
    state.producer_id = ProducerId(txn.producer_id);
    state.producer_epoch = txn.producer_epoch;
    let mut topics: BTreeMap<StrBytes, Vec<i32>> = BTreeMap::new();
    for key in &txn.partitions {
        if let Some(topic) = cluster.topic(key.topic) {
            topics.entry(topic.name.clone()).or_default().push(key.partition);
        }
    }
    for (name, partitions) in topics {
        let mut topic = TopicData::default();
        topic.topic = TopicName(name);
        topic.partitions = partitions;
        state.topics.push(topic);
    }
}

/// Answers ListTransactions: those this node coordinates.
pub(super) fn list_transactions(node: &Arc<Node>, call: Call, out: &mut Outbox) -> Answer {
    let Some(request) = call.decode::<ListTransactionsRequest>() else { return Answer::Close };
    let mut response = ListTransactionsResponse::default();
    if request.transactional_id_pattern.as_deref().is_some_and(|pattern| !pattern.is_empty()) {
        // Patterns (KIP-1152) are not served: better no list than one that ignores them.
        response.error_code = ErrorCode::INVALID_REGULAR_EXPRESSION.0;
        return call.reply(out, &response);
    }
    let unknown = |name: &&StrBytes| !TxnState::NAMES.contains(&&***name);
    response.unknown_state_filters =
        request.state_filters.iter().filter(unknown).cloned().collect();
    let now_ms = node.now_ms();
    let mut cluster = node.lock();
    let ids: Vec<String> = cluster.transactions.by_id.keys().cloned().collect();
    for id in ids {
        if cluster.coordinator(TRANSACTIONS_TOPIC, &id) != node.node_id {
            continue;
        }
        let Some(txn) = cluster.transactions.by_id.get(&id) else { continue };
        let producer_id = ProducerId(txn.producer_id);
        let filtered = (!request.state_filters.is_empty()
            && !request.state_filters.iter().any(|name| **name == *txn.state.name()))
            || (!request.producer_id_filters.is_empty()
                && !request.producer_id_filters.contains(&producer_id))
            || (call.version() >= 1
                && request.duration_filter >= 0
                && (txn.start_ms < 0 || now_ms - txn.start_ms <= request.duration_filter));
        if filtered {
            continue;
        }
        let mut listed = Listed::default();
        listed.transactional_id = TransactionalId(StrBytes::from(id));
        listed.producer_id = producer_id;
        listed.transaction_state = StrBytes::from_static_str(txn.state.name());
        response.transaction_states.push(listed);
    }
    drop(cluster);
    call.reply(out, &response)
}
