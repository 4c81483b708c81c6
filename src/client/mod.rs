//! Speaks Kafka, one attempt at a time; producer id, epoch and sequence are arguments.
//!
//! Never: retries, caches or downgrades silently.
