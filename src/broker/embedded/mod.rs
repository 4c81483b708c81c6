//! The embedded reference broker: Apache Kafka 4.3's answers, in this process, in a millisecond.
//!
//! [`Embedded::start`] listens on loopback ports of the kernel's choice; [`Embedded::serve`] takes
//! any byte stream, so that whole clusters run on paused time. Time comes from a
//! [`Clock`](crate::world::Clock) and `tokio::time`, chance from [`Chance`](crate::world::Chance).
//!
//! One state behind one lock holds what all nodes know; a node is a listener with an id. Leaders
//! and coordinators are spread over the nodes, and a node that is asked for what another leads
//! answers as Kafka does.
//!
//! Where it differs from a Kafka that was just started: coordinators are there at once (no 14, 15
//! or 16 at first use), topics on demand are there with the first answer, KIP-848 targets are made
//! at once instead of once a second, markers follow EndTxn within microseconds, and the versions
//! for which there are no typed structs are not advertised (ListOffsets 11, OffsetCommit and
//! OffsetFetch 10). Producer ids and transactional ids do not expire.
//!
//! Not served: replication between nodes (all share one memory), access control, SASL and TLS,
//! quotas, compaction, tiered storage, share and streams groups, delegation tokens, telemetry, log
//! directories, reassignment, elections, DescribeTopicPartitions. Such APIs are not advertised,
//! and close the connection. Subscriptions by regular expression answer INVALID_REQUEST, a pattern
//! in ListTransactions INVALID_REGULAR_EXPRESSION, joining a KIP-848 group that has members by the
//! classic protocol INCONSISTENT_GROUP_PROTOCOL.
//!
//! Never: knows the workload.

mod api;
mod background;
mod batch_check;
mod bug;
mod call;
mod cluster;
mod cluster_api;
mod config;
mod config_api;
mod connection;
mod describe_api;
mod fetch;
mod fetch_session;
mod group;
mod journal;
mod keep;
mod log;
mod node;
mod offsets_api;
mod outbox;
mod produce;
mod producer_state;
mod server;
mod topic_api;
mod transaction;
mod txn_api;

pub use bug::{Bug, Provocation};
pub use config::{Config, TransactionVersion};
pub use server::{Embedded, StartError};
