//! Cycles among operations, found without a clock.
//!
//! Whether a cycle of some type exists is never searched for: it is read off the strongly
//! connected components of the edges that the type allows ([`tarjan`]), of a product of vertices
//! with what the type asks for, or off labels along chains ([`reach`]). Only the examples that are
//! shown are searched for ([`witness`]). Most operations need not even be looked at: a cycle must
//! lead back in time somewhere, so it lies inside a stretch of time that backward edges cover
//! ([`window`]).
//!
//! Never: knows a key or a value; stops because of a time limit.

pub(super) mod census;
pub(super) mod reach;
pub(super) mod rows;
pub(super) mod tarjan;
pub(super) mod timeline;
pub(super) mod types;
pub(super) mod window;
pub(super) mod witness;

pub(super) use census::{Census, Count, View};
pub(super) use rows::{EdgeBlocks, PLACES_MAX, PROCESS, RT, RW, RawEdge, WR, WW};
pub(super) use timeline::Timeline;
pub(super) use window::Backward;
