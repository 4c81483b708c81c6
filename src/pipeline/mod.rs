//! Producer and consumer as applications have them, on one wire client.
//!
//! * [`cluster`]: what all processes of a run share: addresses, metadata, versions, topics.
//! * [`producer`]: batches, several requests in flight, retries with the same sequences,
//!   transactions of version 1 and 2.
//! * [`consumer`]: assignment by hand or by group, fetch sessions, positions, committed offsets.
//! * [`group`]: membership of groups, classic and of KIP-848.
//! * [`policy`]: the stated retry policy.
//! * [`attempt`]: every request made, with what came of it.
//!
//! What an error makes a client do is what the Java client and franz-go do; what an attempt means
//! is decided in `history/outcome.rs` alone.
//!
//! Never: hides an attempt; says that something happened or did not when that is in doubt.

pub mod attempt;
mod caller;
pub mod cluster;
pub mod consumer;
pub mod group;
mod links;
pub mod policy;
pub mod producer;
mod question;
mod trouble;

pub use attempt::{Attempt, Came};
pub use cluster::{Cluster, ClusterConfig};
pub use consumer::{AutoOffsetReset, Consumer, ConsumerConfig, PollReport, Start};
pub use group::{GroupConfig, GroupProtocol, Rebalance, RebalanceKind};
pub use policy::RetryPolicy;
pub use producer::{Producer, ProducerConfig, Record, SendId, SendReport, TxnReport};
pub use trouble::{OpenFailed, Trouble};
