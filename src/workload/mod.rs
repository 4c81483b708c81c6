//! Programs of operations that make anomalies visible.
//!
//! * [`queue`]: sends and polls over partitions that come and go, in transactions or not
//!   (jepsen.tests.kafka); what it does is drawn by [`generator`], done by [`process`], and read
//!   back whole at the end by [`final_polls`].
//!
//! Never: knows the faults.

pub mod final_polls;
pub mod generator;
pub mod options;
pub mod process;
pub mod queue;

pub use options::{QueueOptions, SubVia};
pub use queue::{Drive, Stop, drive, read_back};
