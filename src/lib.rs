//! Fencepost tests brokers that speak the Kafka protocol.
//!
//! Data flows one way: who speaks or listens ([`client`], [`capture`]) yields bytes;
//! the `kafka-wire` codec makes exchanges of them; [`history`] holds what happened; [`checker`]
//! says what must not have; [`report`] tells people and machines. [`run`] is the only room that
//! makes a clock, draws chance or opens a file. `docs/ARCHITECTURE.md` has the whole map.

pub mod broker;
pub mod capture;
pub mod checker;
pub mod cli;
pub mod client;
pub mod history;
pub mod pipeline;
pub mod proxy;
pub mod report;
pub mod run;
pub mod scenario;
pub mod workload;
pub mod world;
