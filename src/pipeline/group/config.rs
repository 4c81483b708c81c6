//! How a member of a group behaves, and what it did to its partitions.

use std::time::Duration;

use crate::client::cluster::TopicPartition;

/// Which protocol a member speaks (`group.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupProtocol {
    /// JoinGroup and SyncGroup: a member assigns.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848): the broker assigns.
    Consumer,
}

/// Who gets which partition in a classic group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Assignor {
    /// Per topic, neighbouring partitions; named and done as in other clients.
    Range,
    /// As many as possible stay where they are; known to our own members only.
    Sticky,
}

/// How a member behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// Which protocol it speaks.
    pub protocol: GroupProtocol,
    /// Who assigns what, in a classic group.
    pub assignor: Assignor,
    /// A static member's name (`group.instance.id`, KIP-345).
    pub group_instance_id: Option<String>,
    /// Without a heartbeat for so long it is out. Classic only: the broker decides in KIP-848.
    pub session_timeout: Duration,
    /// How often it says that it is there. Classic only.
    pub heartbeat_interval: Duration,
    /// How long members may take to join again (`max.poll.interval.ms`).
    pub rebalance_timeout: Duration,
}

impl Default for GroupConfig {
    /// Jepsen's session timeout and heartbeats.
    fn default() -> Self {
        Self {
            protocol: GroupProtocol::Classic,
            assignor: Assignor::Range,
            group_instance_id: None,
            session_timeout: Duration::from_secs(6),
            heartbeat_interval: Duration::from_millis(300),
            rebalance_timeout: Duration::from_secs(10),
        }
    }
}

/// What happened to partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RebalanceKind {
    /// They are ours.
    Assigned,
    /// We gave them up.
    Revoked,
    /// They were taken away: the group had forgotten us.
    Lost,
}

impl RebalanceKind {
    /// The name in a history.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Revoked => "revoked",
            Self::Lost => "lost",
        }
    }
}

/// One entry of a rebalance log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebalance {
    /// What happened.
    pub kind: RebalanceKind,
    /// To which partitions.
    pub partitions: Vec<TopicPartition>,
}
