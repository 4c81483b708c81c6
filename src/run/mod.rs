//! One run from plan to record: seed, clock, faults in time, files.
//!
//! Never: contains protocol or checking logic.
