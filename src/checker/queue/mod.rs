//! Judges queue histories: sends and polls.
//!
//! In this order: sort by key ([`gather`]); number the values ([`values`]); decide which undecided
//! operations must have happened; put each key's values in order by offset ([`order`]); compare
//! sent with read ([`truth`]), follow each process ([`sequence`]), draw the edges between
//! operations ([`edges`]) and look for cycles among them; say it in words ([`cases`]).
//!
//! Never: looks at two keys together but through operations.

mod beyond;
mod cases;
mod cycles;
mod edges;
mod gather;
mod judge;
mod lag;
mod order;
mod sequence;
mod steps;
mod strand;
mod tally;
mod truth;
mod values;

pub(super) use judge::check;
use judge::{Analysis, Examination, Key};
