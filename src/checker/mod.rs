//! What must not have happened: history in, verdict and witnesses out.
//!
//! Never: sees a socket, a clock.
