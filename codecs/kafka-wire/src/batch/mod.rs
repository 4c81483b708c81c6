//! Turns the records field of Produce and Fetch into batches and records, and back.
//!
//! * [`BatchIter`]: a records field into batches; headers only, no record is visited. This is the
//!   index-only path: a header costs nanoseconds, [`Batch::check_crc`] as much as the bytes.
//! * [`Batch::records`]: one batch into records, decompressed where it must be, borrowed from the
//!   field where it need not. Headers of a record are visited lazily.
//! * [`Batch::check`]: everything wrong with one batch.
//! * [`BatchBuilder`]: records into a batch, right by default and wrong wherever asked.
//! * [`rewrite_header`] and [`reseal`]: a batch changed in place, as brokers and proxies do.
//! * [`ControlRecord`] and [`EndTxnMarker`]: what control batches hold.
//! * Message sets of magic 0 and 1 are read through the same views (and not written).
//!
//! Nothing fails as a whole: iterators yield what was understood and keep what was wrong as
//! [`DecodeError`](crate::DecodeError)s. `byte_offset` counts from the start of the records field;
//! in a path with `.decompressed` it counts in the decompressed bytes of that batch. Paths begin
//! with `batches[i]`.
//!
//! ```
//! use kafka_wire::batch::{BatchBuilder, BatchIter, NewRecord, Scratch};
//!
//! let mut scratch = Scratch::new();
//! let mut field = Vec::new();
//! let records = [NewRecord::of(b"a"), NewRecord::of(b"b")];
//! BatchBuilder::default().encode(records, &mut scratch, &mut field);
//!
//! for batch in BatchIter::new(&field) {
//!     let batch = batch.expect("framed");
//!     batch.check_crc().expect("untouched");
//!     let mut records = batch.records(&mut scratch);
//!     let values: Vec<_> = records.by_ref().map(|record| record.value).collect();
//!     assert_eq!(values, [Some(&b"a"[..]), Some(b"b")]);
//!     assert_eq!(records.finish(), []);
//! }
//! ```
//!
//! Never: allocates by a declared count or length, panics on any bytes, decompresses beyond the
//! limit of its [`Scratch`].

mod attributes;
mod compression;
mod control;
mod encode;
mod faults;
mod header;
mod iter;
mod lz4;
mod message_set;
mod record;
mod records;
mod snappy;
mod varint;

pub use attributes::{Attributes, Compression, TimestampType};
pub use compression::{DECOMPRESSED_BYTES_MAX, Scratch};
pub use control::{ControlRecord, ControlType, EndTxnMarker};
pub use encode::{BatchBuilder, BatchWriter, NewRecord, Output, StatedInBatch, StatedInRecord};
pub use header::{
    BATCH_HEADER_BYTES, BatchHeader, LENGTH_PREFIX_BYTES, NO_TIMESTAMP, reseal, rewrite_header,
};
pub use iter::{Batch, BatchIter};
pub use record::{Header, Headers, Record};
pub use records::{OBSERVATIONS_MAX, Records};
