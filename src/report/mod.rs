//! Verdicts for people and machines.
//!
//! * [`cases`]: every case of an anomaly whole, with the operations that prove it.
//! * [`dissect`]: exchanges as JSON lines, or as tables over all of them.
//! * [`query`]: questions about a history.
//! * [`text`]: the summary a person reads at the end of a run or a check.
//!
//! Never: computes a verdict.

pub mod cases;
pub mod dissect;
pub mod query;
pub mod text;
