//! Live control of a running proxy over HTTP, in toxiproxy's manner: list, add, remove, release,
//! reset, metrics.
//!
//! * [`api`]: one request into one reply, no socket in sight.
//! * [`metrics`]: counts in Prometheus' text format.
//! * [`server`]: the listener.
//!
//! Never: listens unless asked to; takes a body larger than [`server::BODY_BYTES_MAX`]; answers a
//! web page of another origin.

pub mod api;
pub mod metrics;
pub mod server;

pub use server::{Control, serve};
