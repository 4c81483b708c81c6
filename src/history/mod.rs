//! What happened: operations, and the bytes they were made of.
//!
//! * [`event`]: one invocation or completion of an operation, as the recorder writes it.
//! * [`columns`]: a whole operation history in columns, as the checker reads it.
//! * [`facts`]: exchanges decoded once into what they say.
//! * [`observation`]: what is odd about a history, though it could be read.
//! * [`outcome`]: what an error code or a connection's fate makes of an attempt.
//! * [`read`]: columns out of the text of a history, in EDN or JSON lines.
//! * [`wire`]: exchanges, as every place that sees bytes yields them.
//! * [`rebuild`]: operations out of exchanges.
//! * [`simulated`]: histories made of a simulated broker, for benches and tests.
//! * [`tap`]: where bytes said and heard, and the actions of rules, are written as they happen.
//! * [`mod@write`]: the other way.
//!
//! Never: judges; opens a file or a socket.

pub mod columns;
pub mod event;
pub mod facts;
pub mod observation;
pub mod outcome;
pub mod read;
pub mod rebuild;
pub mod recorder;
pub mod simulated;
pub mod tap;
pub mod wire;
pub mod write;

pub use columns::{History, KeyId, MopRef, Value};
pub use event::{Event, EventType, Function, Mop, Process};
pub use recorder::{Moment, Recorder};
pub use tap::{Connection, Direction, Tap};
