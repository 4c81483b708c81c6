//! A whole operation history in columns.
//!
//! Rows are *operations* (an invocation with its completion), in the order of their completions;
//! those that never completed come last, as `Info`. Micro-operations stand 16 bytes each behind
//! them; records of a poll stand in *runs*, two bytes a record where they can. One run is one
//! key's records in the order they came; a poll may have several runs of one key.
//!
//! A [`History`] is `Sync` and rows are independent: a checker may fold over ranges of rows on
//! several threads.
//!
//! * [`view`]: what a checker reads.
//! * [`builder`]: what makes it: events one by one, or chunks of a text read elsewhere.
//! * `chunk`: one stretch of a text as columns of its own; `cells`, `runs`, `names`: what is in them.
//!
//! Never: judges; knows a notation.

pub mod builder;
mod cells;
pub(crate) mod chunk;
mod names;
mod runs;
pub mod view;

pub use builder::Builder;
pub use view::{History, KeyId, MopRef, Op, PollRef, ProcessId, RunRef, Value};
