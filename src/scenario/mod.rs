//! Conversations as data: exact steps, one interpreter, and sweeps over all their orders.
//!
//! * [`acts`]: what a step can do; [`conversation`]: a conversation as its TOML file says it.
//! * [`library`]: the conversations that come with the tool.
//! * [`phrase`]: how each request is said unless a step says otherwise; data too.
//! * [`value`]: what a step says, with its references resolved, as a field tree.
//! * [`switchboard`]: named connections to whoever leads or coordinates; [`way_in`]: the proxy they
//!   go through where a conversation has rules or other people's programs.
//! * [`interpret`]: holds a conversation with a broker.
//! * [`operations`]: what its clients meant and were told, as operations of a history.
//! * [`sweep`]: every request of a conversation, held and let go after each later step.
//! * [`progress`]: whether transactions end, stable offsets move, a new owner can take over.
//! * [`chart`]: what was said, as a sequence chart in text.
//!
//! Never: makes a random choice; holds a scenario as code.

pub mod acts;
pub mod answer;
pub mod chart;
pub mod conversation;
pub mod ground;
pub mod interpret;
pub mod library;
mod network;
pub mod operations;
mod parse;
pub mod phrase;
mod program;
pub mod progress;
mod read;
mod steps;
pub mod sweep;
pub mod switchboard;
pub mod value;
pub mod way_in;

pub use conversation::{BadConversation, Column, Conversation, Style};
pub use ground::{Ground, Names};
pub use interpret::{Held, hold};
