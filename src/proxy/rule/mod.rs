//! Turns what a person wrote into decisions about single frames.
//!
//! * [`condition`]: [`Match`], which frames a rule is about.
//! * [`action`]: [`Action`], what is done to them, and its [`Class`].
//! * [`reader`]: the fields of a body that conditions ask for, found with the schema walker.
//! * [`topics`]: which topic an id names, learnt from responses.
//! * [`rules`]: [`Rules`], what the engine asks about each frame.
//! * [`board`]: [`Board`], the rules of a running proxy, shared by its workers and its control.
//! * [`mod@file`], and `Rule`'s `FromStr` and `Display`: the two notations.
//! * [`forge`]: frames altered, and answers of our own.
//!
//! Never: does what a rule says; opens a socket; reads a clock.

pub mod action;
pub mod board;
pub mod condition;
mod draft;
pub mod file;
mod fit;
pub mod forge;
pub mod reader;
pub mod rules;
mod text;
pub mod topics;
mod words;

pub use action::{Action, Alteration, Class, Cut, Duplicate, Forgery, Where};
pub use board::{Act, Board, Listed, Phase, Ticket};
pub use condition::{FieldIs, Match, Nth, Pattern, Versions};
pub use draft::{Position, RuleError};
pub use fit::Misfit;
pub use rules::{Decision, Fired, Interest, Remembered, RuleId, Rules, Seen, Wants};

/// One rule: what is done to which frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// How it is called in histories and by live control; empty until it is given one.
    pub name: String,
    /// Which frames.
    pub when: Match,
    /// What is done to them.
    pub action: Action,
    /// How often at most; absent means without end.
    pub times: Option<u64>,
}

#[cfg(test)]
mod tests;
