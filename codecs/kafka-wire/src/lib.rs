//! Turns the bytes of the Kafka protocol into values and back.
//!
//! * [`frame`]: a stream of bytes into frames, hostile lengths kept as observations.
//! * [`header`]: request and response headers.
//! * [`correlator`]: the one place that pairs a response with its request.
//! * [`schema`]: the table of every message of Kafka and the walker that visits any body with it.
//! * [`batch`]: record batches of magic 2, both ways, and older message sets.
//! * [`ids`], [`error_code`], [`api`]: the closed sets and the newtypes.
//!
//! Decoding never fails as a whole: it returns what was understood *and* what was wrong.
//!
//! Never: does I/O, reads a clock, allocates by a number that the bytes do not yet justify.

pub mod api;
pub mod batch;
pub mod correlator;
pub mod error;
pub mod error_code;
pub mod frame;
pub mod header;
pub mod ids;
pub mod schema;

pub use api::ApiKey;
pub use error::{DecodeError, DecodeErrorKind};
pub use error_code::ErrorCode;
