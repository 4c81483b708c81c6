//! Verdicts for people and machines.
//!
//! * [`text`]: the summary a person reads at the end of a run or a check.
//!
//! Never: computes a verdict.

pub mod text;
