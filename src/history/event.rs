//! One invocation or completion of an operation, as the recorder writes it.
//!
//! The vocabulary is Jepsen's (jepsen.tests.kafka): an operation is invoked with what it intends
//! and completed with what came of it. `Ok` happened, `Fail` definitely did not, `Info` may have.

use std::sync::Arc;

/// Which moment of an operation an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EventType {
    /// It began.
    Invoke,
    /// It happened.
    Ok,
    /// It definitely did not happen.
    Fail,
    /// It may or may not have happened, or may yet.
    Info,
}

impl EventType {
    /// The name in a history.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }
}

/// One logical single-threaded actor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// A client of the workload.
    Client(i64),
    /// Anything named: `nemesis` injects and heals faults.
    Named(Arc<str>),
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// Sends only.
    Send,
    /// Polls only.
    Poll,
    /// Sends and polls, in a transaction or not.
    Txn,
    /// Binds a consumer to partitions by hand.
    Assign,
    /// Binds a consumer to topics through its group.
    Subscribe,
    /// Ends a client without warning.
    Crash,
    /// Looks at the offsets of partitions, before the final polls.
    DebugTopicPartitions,
    /// Any other, by name: a fault, or another tool's operation.
    Other(Arc<str>),
}

impl Function {
    /// The name in a history.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Send => "send",
            Self::Poll => "poll",
            Self::Txn => "txn",
            Self::Assign => "assign",
            Self::Subscribe => "subscribe",
            Self::Crash => "crash",
            Self::DebugTopicPartitions => "debug-topic-partitions",
            Self::Other(name) => name,
        }
    }

    /// The function of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "send" => Self::Send,
            "poll" => Self::Poll,
            "txn" => Self::Txn,
            "assign" => Self::Assign,
            "subscribe" => Self::Subscribe,
            "crash" => Self::Crash,
            "debug-topic-partitions" => Self::DebugTopicPartitions,
            other => Self::Other(other.into()),
        }
    }
}

/// What a poll brought: per key, offsets and values in the order the consumer got them.
pub type PolledRecords = Vec<(i64, Vec<(i64, i64)>)>;

/// One micro-operation, with what is known of it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mop {
    /// A value sent to a key; the offset is there once it was acknowledged with one.
    Send {
        /// The partition, as the checker sees it.
        key: i64,
        /// Unique within its key.
        value: i64,
        /// Where it was acknowledged; absent before that, or where the broker gave none.
        offset: Option<i64>,
        /// Whether a completion says `[offset value]` (run) or the bare value (never run).
        run: bool,
    },
    /// A poll; the records are there once it completed: per key, offsets and values in the order
    /// the consumer got them.
    Poll {
        /// What came back; absent before completion.
        records: Option<PolledRecords>,
    },
}

/// The value of an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EventValue {
    /// Nothing.
    #[default]
    Nil,
    /// Micro-operations of a send, poll or txn.
    Mops(Vec<Mop>),
    /// Keys of an assign or subscribe.
    Keys(Vec<i64>),
    /// Anything else, as JSON text.
    Json(String),
}

/// One event of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Position in the history, dense from 0.
    pub index: u64,
    /// Nanoseconds since the start of the run.
    pub time_ns: u64,
    /// Which moment.
    pub event_type: EventType,
    /// Whose.
    pub process: Process,
    /// What it does.
    pub function: Function,
    /// With what.
    pub value: EventValue,
    /// Why it did not go well, in words; absent where it did.
    pub error: Option<String>,
    /// Whether the process ends with this event, whatever its type.
    pub end_process: bool,
    /// More facts as pairs of a name and JSON text (`seek_to_beginning`, `poll_ms`,
    /// `rebalance_log`, …).
    pub extra: Vec<(String, String)>,
}
