//! Each invariant: a planted violation that it alone names, and a near miss that it passes.

mod clusters;
mod operations;
mod planted;
mod scene;
mod traps;
