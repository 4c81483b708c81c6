//! The system under test: provisioned, started, killed, paused, cut off; or the embedded reference broker.
//!
//! Never: knows the workload.
