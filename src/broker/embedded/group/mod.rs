//! Consumer groups: the classic protocol, KIP-848, and the offsets both commit.
//!
//! * [`offsets`]: OffsetCommit, OffsetFetch, OffsetDelete, TxnOffsetCommit.
//! * [`classic`] and [`classic_api`]: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//! * [`consumer`] and [`consumer_api`]: ConsumerGroupHeartbeat, ConsumerGroupDescribe (KIP-848).
//! * [`admin_api`]: ListGroups, DescribeGroups, DeleteGroups.
//!
//! Not served: regular expressions as a subscription, groups that change from one protocol to the
//! other while they have members.
//!
//! Never: reads records; knows why an offset is committed.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::ErrorCode;

use super::cluster::{Cluster, OFFSETS_TOPIC};
use super::journal::Event;
use super::node::Node;
use classic::Classic;
use consumer::Consumer;
use offsets::GroupOffsets;

pub(super) mod admin_api;
mod classic;
pub(super) mod classic_api;
mod consumer;
pub(super) mod consumer_api;
pub(super) mod offsets;

/// Which protocol the members of a group speak.
#[derive(Debug)]
enum Members {
    Classic(Classic),
    Consumer(Consumer),
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    members: Members,
    offsets: GroupOffsets,
}

impl Default for Group {
    fn default() -> Self {
        Self { members: Members::Classic(Classic::default()), offsets: GroupOffsets::default() }
    }
}

impl Group {
    fn is_empty(&self) -> bool {
        match &self.members {
            Members::Classic(classic) => classic.is_empty(),
            Members::Consumer(consumer) => consumer.is_empty(),
        }
    }

    fn state_name(&self) -> &'static str {
        match &self.members {
            Members::Classic(classic) => classic.state_name(),
            Members::Consumer(consumer) => consumer.state_name(),
        }
    }

    fn type_name(&self) -> &'static str {
        match &self.members {
            Members::Classic(_) => "classic",
            Members::Consumer(_) => "consumer",
        }
    }
}

/// Every group of the cluster.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<String, Group>,
    /// Which groups have offsets in the open transaction of a producer id.
    in_transactions: BTreeMap<i64, BTreeSet<String>>,
    /// Offsets that were committed, in transactions or not.
    commits: u64,
    /// Whether changes are noted for a journal.
    pub(super) touch: bool,
    /// What has changed since the journal was last written.
    pub(super) touched: Vec<Event>,
}

impl Groups {
    /// The group, made if it is not there.
    fn make(&mut self, id: &str) -> &mut Group {
        self.groups.entry(id.to_owned()).or_default()
    }

    /// Whether anything here waits for a time.
    pub(super) fn has_timers(&self) -> bool {
        self.groups.values().any(|group| !group.is_empty())
    }

    /// Ends sessions and rebalances whose time is up.
    pub(super) fn tick(&mut self, now_ms: i64) {
        for group in self.groups.values_mut() {
            match &mut group.members {
                Members::Classic(classic) => classic.tick(now_ms),
                Members::Consumer(consumer) => consumer.tick(now_ms),
            }
        }
    }
}

/// Refuses where the group has no name or this node does not coordinate it.
fn coordinates(cluster: &mut Cluster, node: &Node, group_id: &str) -> Result<(), ErrorCode> {
    if cluster.coordinator(OFFSETS_TOPIC, group_id) == node.node_id {
        Ok(())
    } else {
        Err(ErrorCode::NOT_COORDINATOR)
    }
}
