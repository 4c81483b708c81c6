//! Questions about a history: which operations, what is around a place, the order of a key.
//!
//! * [`names`]: keys, values and processes as people type them and as answers write them.
//! * [`lens`]: which records of an operation are shown, and which are pointed at.
//! * [`operation`]: one operation as JSON and as text.
//! * [`ops`]: operations by what they did.
//! * [`around`]: what operations saw and did around one place of a key.
//! * [`order`]: a key's log as the history shows it, with writers and readers.
//! * [`table`]: aligned columns.
//!
//! Never: judges; opens a file.

pub mod around;
pub mod lens;
pub mod names;
pub mod operation;
pub mod ops;
pub mod order;
pub mod table;
