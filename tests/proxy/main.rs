//! The proxy between sockets that the tests hold, and between real clients and brokers.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod actions;
mod bulk;
mod hostile;
mod kafka;
mod live_tls;
mod passing;
mod stage;
mod tls;
