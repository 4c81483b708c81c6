//! A producer as applications have one: batches, several requests in flight, retries, transactions.
//!
//! * [`config`](ProducerConfig): how it behaves; what it is given to send.
//! * [`report`](SendReport): what is known of each send and of a transaction.
//! * `lane`: the batches of one partition in the order of their sequences.
//! * `reaction`: what an error code asks of a producer, as one table.
//! * `flow`: queued records to the wire, answers to reports.
//! * `identity`: producer id and epoch: opened, and replaced where sequences were lost.
//! * `transaction`: begin, offsets, commit, abort.
//!
//! A batch keeps its sequence through all retries. Where a batch is given up, what may have been
//! written is never sent under another sequence: it is reported as in doubt. The rest goes on
//! under a new producer id or epoch, which is noted ([`Producer::take_notes`]).
//!
//! Without idempotence and with more than one request in flight, a retry may put batches of a
//! partition in another order and twice, as with every Kafka client.
//!
//! Never: sends a batch under another sequence while it may have been written; sleeps past the
//! delivery timeout.

mod config;
mod flow;
mod identity;
mod lane;
mod reaction;
mod report;
mod transaction;

pub use config::{ProducerConfig, Record};
pub use identity::Producer;
pub use report::{Note, SendId, SendReport, TxnReport};
