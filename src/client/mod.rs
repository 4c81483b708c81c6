//! Speaks Kafka, one attempt at a time.
//!
//! * [`transport`]: how a connection's bytes travel (TCP in use, in-memory streams in tests).
//! * [`connection`]: one connection: many requests in flight, each answer paired, each fate named.
//! * [`typed`]: typed requests over a connection, answers guarded by the schema walker.
//! * [`versions`]: what a broker says it speaks, and which version of an API we then choose.
//! * [`cluster`]: metadata and coordinators, as values.
//! * [`producer`]: producer id, epoch and sequences as explicit state; InitProducerId; Produce.
//! * [`transaction`]: the requests of a transaction, versions 1 and 2 (KIP-98, KIP-890).
//! * [`fetch`]: Fetch with and without sessions.
//! * [`read`]: the records a consumer is shown: without aborted ranges and control batches.
//! * [`offsets`]: ListOffsets, OffsetFetch, OffsetCommit.
//! * [`group`]: JoinGroup and what follows it, and the heartbeats of KIP-848.
//! * [`admin`]: CreateTopics and what else a test must arrange.
//!
//! Producer id, epoch and sequence are arguments everywhere: the caller may lie.
//!
//! Never: retries, caches or downgrades silently.

pub mod admin;
pub mod cluster;
pub mod connection;
pub mod fetch;
pub mod group;
pub mod offsets;
pub mod producer;
pub mod read;
pub mod transaction;
pub mod transport;
pub mod typed;
pub mod versions;

pub use connection::{Conduct, Connection, Fate, Frame, Response};
pub use transport::{Connector, Tcp, Transport};
pub use versions::Versions;
