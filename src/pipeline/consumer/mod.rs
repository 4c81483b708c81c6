//! A consumer as applications have one: positions, fetch sessions, committed offsets.
//!
//! * [`config`](ConsumerConfig): how it behaves.
//! * `slots`: the partitions it reads and where it stands in each.
//! * `sessions`: what is fetched from each leader, told in changes (KIP-227).
//! * [`assign`](Consumer): opening, assignment, seeking.
//! * `poll`: fetches out, answers in, records to the application.
//! * `start`: where to begin: committed offsets, resets.
//! * `offsets`: committing, and asking for offsets.
//!
//! Where a broker answers with an error, the reaction is a stated one and shows in the report:
//! leaders are asked for again, sessions begun again, positions reset by the stated policy.
//!
//! Never: loses records because a poll was dropped; shows an answer to a position that was left;
//! passes over a batch with a bad CRC.
//! Not checked: truncation after a change of leader (OffsetForLeaderEpoch is not asked).

mod assign;
mod config;
mod offsets;
mod poll;
mod sessions;
mod slots;
mod start;

pub use assign::Consumer;
pub use config::{AutoOffsetReset, ConsumerConfig, Start};
pub use poll::PollReport;
