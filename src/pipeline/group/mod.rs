//! Membership of a consumer group, classic or of KIP-848.
//!
//! * [`config`](GroupConfig): how a member behaves; the [`Rebalance`] log.
//! * `assignor`: who gets which partition, where a member assigns (range, sticky).
//! * `member`: one member: joining, syncing, hearing what it may have.
//! * `heart`: heartbeats, from a task of the member's own.
//!
//! A classic member gives everything up before it joins again (eager); one of KIP-848 gives up
//! what it may not have any more and says so in a heartbeat of its own.
//!
//! Never: keeps a partition it was told to give up; heartbeats for a member that was dropped.
//! Not checked: that no partition has two owners (G1: the checker sees to that).

mod assignor;
mod config;
mod heart;
mod member;

pub use config::{Assignor, GroupConfig, GroupProtocol, Rebalance, RebalanceKind};
pub(crate) use member::{Change, Member};
