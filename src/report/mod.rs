//! Verdicts for people and machines.
//!
//! Never: computes a verdict.
