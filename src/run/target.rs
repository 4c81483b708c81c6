//! Whom the next fault is done to: nodes by chance, or whoever leads or coordinates just now.
//!
//! Never: does the fault.

use std::sync::Arc;
use std::time::Duration;

use kafka_wire::ids::NodeId;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::broker::Cluster;
use crate::client::cluster::Metadata;
use crate::client::{Conduct, Connection, Tcp};
use crate::history::tap::NoTap;
use crate::world::Clock;

/// What a plan can name.
pub const TARGETS: &[&str] = &["one", "majority", "all", "leader", "coordinator"];

const METADATA: i16 = 12;
/// How long a broker may take to say who leads.
const ASKED: Duration = Duration::from_secs(2);
/// Whose leaders are coordinators: of transactions, and of groups.
const COORDINATED: [&str; 2] = ["__transaction_state", "__consumer_offsets"];

/// The nodes that a target means at this moment. Where nobody says who leads, any one node.
pub async fn choose(
    target: &str,
    brokers: &dyn Cluster,
    clock: &Clock,
    chance: &mut ChaCha8Rng,
) -> Vec<NodeId> {
    let mut nodes: Vec<_> = brokers.nodes().iter().map(|node| node.node_id).collect();
    if matches!(target, "leader" | "coordinator") {
        let leaders = leaders(target == "coordinator", brokers, clock).await;
        if !leaders.is_empty() {
            return vec![leaders[chance.random_range(0..leaders.len())]];
        }
    }
    let count = match target {
        "all" => nodes.len(),
        "majority" => nodes.len() / 2 + 1,
        _ => 1,
    };
    while nodes.len() > count {
        nodes.remove(chance.random_range(0..nodes.len()));
    }
    nodes
}

/// Who leads each partition: of the internal topics, whose leaders coordinate, or of all others.
async fn leaders(coordinate: bool, brokers: &dyn Cluster, clock: &Clock) -> Vec<NodeId> {
    let conduct = Conduct::new(Arc::new(Tcp::default()), Arc::new(NoTap), clock.clone())
        .with_request_timeout(ASKED);
    for node in brokers.nodes() {
        let ask = async {
            let connection = Connection::open(&conduct, &node.to_string()).await?;
            Metadata::ask(&connection, METADATA, None).await
        };
        // A node that is hurt says nothing; the next one may.
        if let Ok(Ok(metadata)) = tokio::time::timeout(ASKED, ask).await {
            return of_metadata(coordinate, &metadata);
        }
    }
    Vec::new()
}

fn of_metadata(coordinate: bool, metadata: &Metadata) -> Vec<NodeId> {
    let topics = metadata.topics.iter();
    let meant = topics.filter(|(name, _)| match coordinate {
        true => COORDINATED.contains(&&***name),
        false => !name.starts_with("__"),
    });
    meant
        .flat_map(|(_, topic)| topic.partitions.values().filter_map(|leader| leader.node))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::cluster::{Leader, Topic};
    use kafka_wire::ErrorCode;
    use kafka_wire::ids::LeaderEpoch;

    #[test]
    fn leaders_of_internal_topics_coordinate_and_the_others_lead() {
        let led = |nodes: &[Option<i32>]| Topic {
            partitions: (0..)
                .zip(nodes)
                .map(|(partition, node)| {
                    let node = node.map(NodeId);
                    let error = ErrorCode::NONE;
                    (partition, Leader { node, leader_epoch: LeaderEpoch(0), error })
                })
                .collect(),
            id: uuid::Uuid::nil(),
            error: ErrorCode::NONE,
        };
        let metadata = Metadata {
            topics: [
                ("__transaction_state".into(), led(&[Some(1), None])),
                ("t".into(), led(&[Some(2), Some(3)])),
            ]
            .into(),
            ..Metadata::default()
        };
        assert_eq!(of_metadata(true, &metadata), [NodeId(1)]);
        assert_eq!(of_metadata(false, &metadata), [NodeId(2), NodeId(3)]);
    }
}
