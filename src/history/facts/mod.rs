//! Exchanges decoded once into facts: what was asked and answered, in the protocol's words.
//!
//! * [`fact`]: the words: [`Fact`], its [`Deed`] and their parts.
//! * [`batch`]: record batches as compact facts: header, checksum, a hash of what they hold.
//! * [`FactSink`]: takes exchanges, hands facts to a [`FactTaker`].
//! * `produce`, `fetch`: the bulk of all traffic, read with compiled lookups; fetch sessions.
//! * [`clusters`], [`topics`]: which brokers are of one cluster, which log a message means.
//! * `coordination`: everything small, read as field trees.
//!
//! Never: judges; keeps a record; builds typed structs.

pub mod batch;
pub mod clusters;
mod coordination;
pub mod fact;
mod fetch;
mod names;
mod produce;
mod sink;
pub mod topics;

pub use batch::BatchFacts;
pub(crate) use fact::CLOCKS_DIFFER_NS_MAX;
pub use fact::{
    Asked, Deed, Ending, EpochAsked, Fact, Fetched, Moment, Offsets, PartitionOffset, Produced,
    Seen, Topic,
};
pub use names::Names;
pub use sink::{FactOptions, FactSink, FactTaker};
