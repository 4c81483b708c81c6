//! The few questions that tell whether a cluster is ready, over one connection each.
//!
//! An open port is not enough: a broker listens seconds before it can take a transaction. *Ready*
//! is: Metadata lists every node, each of them serves, InitProducerId with a transactional id
//! answers without an error, and so does a group coordinator.
//!
//! The versions asked are old ones that every broker serves and that fit on a page; answers are
//! read by hand, field by field, so that no broker can crash the tool.
//!
//! Never: creates a topic, joins a group, retries (who asks again is [`wait_until_ready`] alone).

mod body;
mod connection;
mod question;
mod wait;

pub use connection::Connection;
pub use question::{ApiVersions, NotYet, api_versions};
pub use wait::{Readiness, wait_until_ready};
