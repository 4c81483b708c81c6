//! Programs of operations that make anomalies visible.
//!
//! Never: knows the faults.
