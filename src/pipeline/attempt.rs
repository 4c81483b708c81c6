//! Every request a pipeline made, with what came of it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use kafka_wire::ids::NodeId;
use kafka_wire::{ApiKey, ErrorCode};

use crate::client;
use crate::client::producer::Acks;
use crate::history::outcome::{self, Outcome};
use crate::world::Clock;

/// One request and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Which API.
    pub api_key: ApiKey,
    /// At which version.
    pub api_version: i16,
    /// To which broker; −1 is an address of the bootstrap list.
    pub node: NodeId,
    /// `acks` of a Produce; absent elsewhere.
    pub acks: Option<Acks>,
    /// What came of it.
    pub came: Came,
    /// When it was handed to the transport, in nanoseconds since the start of the run.
    pub sent_ns: u64,
    /// When its answer was read; absent where there was none.
    pub received_ns: Option<u64>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// Nothing yet. Where its sender is gone, nothing ever will.
    Waiting,
    /// An answer, with its error code.
    Answered(ErrorCode),
    /// Nothing was asked for (acks=0).
    Unasked,
    /// No byte of it left, and why.
    NotSent(Arc<str>),
    /// The connection ended first, and why.
    Lost(Arc<str>),
    /// No answer within the request timeout.
    TimedOut,
    /// An answer that breaks the protocol, and how.
    Broken(Arc<str>),
}

impl Came {
    /// As the table of outcomes knows it.
    #[must_use]
    pub fn fate(&self) -> outcome::Fate {
        match self {
            Self::Waiting => outcome::Fate::Abandoned,
            Self::Answered(code) => outcome::Fate::Answered(*code),
            Self::Unasked => outcome::Fate::Unasked,
            Self::NotSent(_) => outcome::Fate::NotSent,
            Self::Lost(_) => outcome::Fate::Lost,
            Self::TimedOut => outcome::Fate::TimedOut,
            Self::Broken(_) => outcome::Fate::Broken,
        }
    }

    /// The error code of an answer.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Answered(code) => Some(*code),
            _ => None,
        }
    }
}

impl From<&client::Fate> for Came {
    fn from(fate: &client::Fate) -> Self {
        match fate {
            client::Fate::NotSent { why } => Self::NotSent(why.as_str().into()),
            client::Fate::Lost { why } => Self::Lost(why.as_str().into()),
            client::Fate::TimedOut => Self::TimedOut,
            client::Fate::Broken(_) => Self::Broken(fate.to_string().into()),
        }
    }
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => write!(f, "not answered yet"),
            Self::Answered(code) => write!(f, "{code}"),
            Self::Unasked => write!(f, "sent with acks=0"),
            Self::NotSent(why) => write!(f, "not sent: {why}"),
            Self::Lost(why) => write!(f, "connection lost: {why}"),
            Self::TimedOut => write!(f, "no answer within the request timeout"),
            Self::Broken(how) => write!(f, "{how}"),
        }
    }
}

impl Attempt {
    /// A request about to be sent.
    pub(crate) fn begun(api_key: ApiKey, api_version: i16, node: NodeId, sent_ns: u64) -> Self {
        let came = Came::Waiting;
        Self { api_key, api_version, node, acks: None, came, sent_ns, received_ns: None }
    }

    /// As the table of outcomes knows it.
    #[must_use]
    pub fn seen(&self) -> outcome::Attempt {
        outcome::Attempt {
            api_key: self.api_key,
            api_version: self.api_version,
            acks: self.acks.map(Acks::code),
            fate: self.came.fate(),
        }
    }

    /// What is known of it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        outcome::attempt(&self.seen()).0
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api_key, api_version, node, came, .. } = self;
        write!(f, "{api_key} v{api_version} to node {node}: {came}")
    }
}

/// Makes a request and keeps it among the attempts, from before it leaves: a caller who stops
/// waiting leaves it there as [`Came::Waiting`].
pub(crate) async fn recorded<T>(
    attempts: &mut Vec<Attempt>,
    clock: &Clock,
    (api_key, api_version, node): (ApiKey, i16, NodeId),
    call: impl Future<Output = Result<T, client::Fate>>,
    code: impl FnOnce(&T) -> ErrorCode,
) -> Result<T, Came> {
    let at = attempts.len();
    attempts.push(Attempt::begun(api_key, api_version, node, clock.now_ns()));
    let answer = call.await;
    let attempt = &mut attempts[at];
    match answer {
        Ok(answer) => {
            attempt.came = Came::Answered(code(&answer));
            attempt.received_ns = Some(clock.now_ns());
            Ok(answer)
        }
        Err(fate) => {
            attempt.came = Came::from(&fate);
            Err(attempt.came.clone())
        }
    }
}

/// What is known of an operation made of these attempts.
pub fn operation<'a>(attempts: impl IntoIterator<Item = &'a Attempt>) -> Outcome {
    let seen: Vec<_> = attempts.into_iter().map(Attempt::seen).collect();
    outcome::operation(&seen)
}
