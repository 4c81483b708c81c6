//! Stands between any client and the brokers, and misbehaves on request.
//!
//! * [`rule`]: which frames something is done to, and what.
//!
//! Never: decides *when* to misbehave.

pub mod rule;
