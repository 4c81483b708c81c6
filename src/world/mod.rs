//! The clock and the named streams of chance, as plain values passed in.
//!
//! Every room that needs the time or a random number takes a [`Clock`] or a [`Chance`] as an
//! argument. With the same seed and paused time, a run repeats byte for byte.
//!
//! Never: is made anywhere but in `run/` (and tests).

mod chance;
mod clock;

pub use chance::Chance;
pub use clock::Clock;
