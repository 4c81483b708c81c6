//! Why a pipeline could not do what it was asked.

use std::sync::Arc;

use kafka_wire::{ApiKey, ErrorCode};

use super::attempt::{Attempt, Came};

/// Why something was not done, in one value; the attempts say the rest.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// A broker answered with an error that ends the matter.
    #[error("{api_key} answered {code}")]
    Answered {
        /// To which request.
        api_key: ApiKey,
        /// The error.
        code: ErrorCode,
    },
    /// The last attempt was not answered, and no other was allowed.
    #[error("{api_key}: {came}")]
    Unanswered {
        /// Which request.
        api_key: ApiKey,
        /// What came of it.
        came: Came,
    },
    /// The broker and we speak no version of an API in common.
    #[error("no version of {0} that both sides speak")]
    NoVersion(ApiKey),
    /// Nobody leads the partition, as far as is known.
    #[error("no leader known for {0}")]
    NoLeader(Arc<str>),
    /// The client cannot go on, and why.
    #[error("closed: {0}")]
    Closed(Arc<str>),
    /// The call does not fit the state the client is in.
    #[error("not now: {0}")]
    NotNow(&'static str),
}

impl Trouble {
    /// The error code of an answer, where one is the cause.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Answered { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A client that could not be opened.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{trouble}")]
pub struct OpenFailed {
    /// Why.
    pub trouble: Trouble,
    /// What was tried.
    pub attempts: Vec<Attempt>,
}
