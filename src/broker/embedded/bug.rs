//! The bugs that can be planted in the broker, one row each: what proves the judge.
//!
//! A broker without a bug takes no path of this table.

/// What the broker does wrong on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {}
