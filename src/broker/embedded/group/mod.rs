//! Consumer groups: the classic protocol, KIP-848, and the offsets both commit.
//!
//! Never: reads records; knows why an offset is committed.

/// Every group of the cluster.
#[derive(Debug, Default)]
pub(super) struct Groups;
