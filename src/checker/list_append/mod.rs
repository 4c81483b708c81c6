//! Judges list-append histories: transactions that append to lists and read them whole.
//!
//! The analysis is Elle's: [`lists`] finds each list's order, [`local`] what needs no cycle,
//! [`edges`] the dependencies, and the census of cycles is the one that queue histories use.
//! [`models`] says what of it the expected consistency model forbids; only that is reported, the
//! rest is an observation.
//!
//! Never: searches for a cycle with a limit of time. Where Elle's limit decided, ours is exact.

mod edges;
mod judge;
mod lists;
mod local;
mod models;

pub(super) use judge::check;
