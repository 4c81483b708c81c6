//! What can be done to a frame, and whether a network could have done it.

use std::time::Duration;

use kafka_wire::ErrorCode;

/// What a rule does to a frame that it is about.
///
/// Bytes of one direction of one connection never overtake each other, except where an action
/// says so: what comes behind a held frame waits with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Keeps the frame, and what comes behind it, until it is released, the rule is removed, or
    /// the time is over. A client that meanwhile closes its side does not take the frame back:
    /// the broker's side lives, and the frame arrives when it is due.
    Hold {
        /// How long at most; absent means until released.
        until: Option<Duration>,
    },
    /// Keeps the frame, and what comes behind it, for a time.
    Delay {
        /// At least this long.
        by: Duration,
        /// And up to this much longer, drawn for each frame.
        jitter: Duration,
    },
    /// Does not forward the frame: the request was never heard, or the response is lost.
    Drop,
    /// Forwards the frame once more.
    Duplicate(Duplicate),
    /// Lets so many later frames of the same direction of the same connection overtake the frame.
    Reorder {
        /// How many, at least one.
        behind: u32,
    },
    /// Ends the connection.
    Cut(Cut),
    /// From this frame on nothing passes in the direction, on any connection of the broker: what
    /// comes is kept as long as back-pressure allows, and passes when the rule ends.
    BlackHole {
        /// How long; absent means until the rule is removed or released.
        lasts: Option<Duration>,
        /// Both directions of the broker's connections instead of the frame's own.
        both: bool,
    },
    /// From this frame on the direction of this connection passes no more than so many bytes a
    /// second, until the rule is removed.
    Throttle {
        /// Bytes a second, at least one.
        bytes_per_s: u64,
    },
    /// Forwards the frame in pieces, each a segment of its own.
    Slice {
        /// Their sizes in bytes, each at least one; the last is used again until nothing is left.
        sizes: Vec<u32>,
        /// How long it waits between two pieces.
        pause: Duration,
    },
    /// Alters bytes of the frame: [`super::forge::altered`] does it.
    Mutate(Vec<Alteration>),
    /// Answers the request itself, and does not forward it: [`super::forge::answer`] makes the
    /// answer.
    Respond(Forgery),
}

/// When and where a frame comes once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// How long after the first; zero means right behind it.
    pub after: Duration,
    /// Over a new connection to the same broker, whose answers nobody gets. Requests only.
    pub elsewhere: bool,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both sides are closed in order. Bytes of the frame up to `at` still pass.
    Close {
        /// How many bytes of the frame, its length prefix counted.
        at: u32,
    },
    /// Both sides are reset. Bytes of the frame up to `at` still pass.
    Reset {
        /// How many bytes of the frame, its length prefix counted.
        at: u32,
    },
    /// The side the frame was going to hears no more (FIN) and may still speak.
    HalfClose {
        /// How many bytes of the frame, its length prefix counted.
        at: u32,
    },
    /// What a dying network path does: the client's side is reset at once, the broker's side
    /// lives, and the request is delivered there later. Answers go nowhere. Requests only.
    DeliverLater {
        /// How much later.
        after: Duration,
    },
}

/// One alteration of a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Alteration {
    /// Another value for a field, at a schema path with or without indexes; without them for all.
    Set {
        /// Such as `topic_data[0].partition_data.index`.
        path: String,
        /// As text; what it means depends on the field's type.
        value: String,
    },
    /// One bit of the body is flipped.
    Flip(Where),
    /// So many bytes less at the end; the length prefix says so too.
    Truncate(u32),
    /// So many zero bytes more at the end; the length prefix says so too.
    Extend(u32),
    /// The correlation id becomes another, by so much.
    CorrelationId(i32),
    /// The length prefix says so much more than there is.
    Length(i32),
    /// The CRC of the first record batch is wrong.
    Crc,
}

/// Where in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// At a place drawn for each frame.
    Anywhere,
    /// At that bit, counted from the body's first; behind its end, at none.
    Bit(u32),
}

/// An answer of our own.
#[derive(Debug, Clone, PartialEq)]
pub struct Forgery {
    /// The error code in every place the response has for one.
    pub error: ErrorCode,
    /// Values of other fields, by schema path, as text.
    pub set: Vec<(String, String)>,
}

/// Whether a network and the machines on it can do what an action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// TCP and machines really do it: what a broker then gets wrong is the broker's fault.
    Network,
    /// Nobody but an adversary does it: anomalies are not bad for the broker.
    Forgery,
}

impl Class {
    /// The name in a history.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Forgery => "forgery",
        }
    }
}

impl Action {
    /// Whether a network does this.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Hold { .. }
            | Self::Delay { .. }
            | Self::Cut(_)
            | Self::BlackHole { .. }
            | Self::Throttle { .. }
            | Self::Slice { .. } => Class::Network,
            Self::Drop
            | Self::Duplicate(_)
            | Self::Reorder { .. }
            | Self::Mutate(_)
            | Self::Respond(_) => Class::Forgery,
        }
    }

    /// The word a rule begins with; a drop's names its direction too.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "hold",
            Self::Delay { .. } => "delay",
            Self::Drop => "drop",
            Self::Duplicate(_) => "duplicate",
            Self::Reorder { .. } => "reorder",
            Self::Cut(_) => "cut",
            Self::BlackHole { .. } => "black-hole",
            Self::Throttle { .. } => "throttle",
            Self::Slice { .. } => "slice",
            Self::Mutate(_) => "mutate",
            Self::Respond(_) => "respond",
        }
    }
}
