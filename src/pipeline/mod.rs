//! Producer and consumer as applications have them, with a stated retry policy.
//!
//! Never: hides an attempt.
