//! How a consumer behaves.

use std::time::Duration;

use crate::client::fetch::{IsolationLevel, Limits};
use crate::client::offsets::At;
use crate::pipeline::group::GroupConfig;
use crate::pipeline::policy::RetryPolicy;

/// Where to begin when there is no committed offset, or it is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AutoOffsetReset {
    /// At the log start offset.
    Earliest,
    /// At the end.
    Latest,
    /// Nowhere: an error.
    None,
}

impl AutoOffsetReset {
    pub(super) fn at(self) -> Option<At> {
        match self {
            Self::Earliest => Some(At::Earliest),
            Self::Latest => Some(At::Latest),
            Self::None => None,
        }
    }
}

/// How a consumer behaves.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// `client_id` of its requests; none means that of the cluster's conduct.
    pub client_id: Option<String>,
    /// Its group, for committed offsets and subscriptions.
    pub group_id: Option<String>,
    /// How it is a member of its group, where it subscribes.
    pub group: GroupConfig,
    /// Which records it is shown.
    pub isolation: IsolationLevel,
    /// Where to begin when nothing else says.
    pub auto_offset_reset: AutoOffsetReset,
    /// Commit positions in a poll when the interval has passed.
    pub enable_auto_commit: bool,
    /// How often.
    pub auto_commit_interval: Duration,
    /// Limits of one Fetch.
    pub limits: Limits,
    /// Incremental fetch sessions (KIP-227).
    pub sessions: bool,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            client_id: None,
            group_id: None,
            group: GroupConfig::default(),
            isolation: IsolationLevel::ReadCommitted,
            auto_offset_reset: AutoOffsetReset::Earliest,
            enable_auto_commit: false,
            auto_commit_interval: Duration::from_secs(5),
            limits: Limits::default(),
            sessions: true,
            retry: RetryPolicy::default(),
        }
    }
}

/// Where an assigned partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// Where it stands, if it was assigned before; else at the group's committed offset; else by
    /// `auto_offset_reset`.
    Committed,
    /// At the log start offset.
    Beginning,
    /// At the end.
    End,
}
