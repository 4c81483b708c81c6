//! What a handler is given and what it gives back: an answer now, later, never, or the door.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable};
use kafka_wire::header::RequestHeader;
use tokio::sync::Notify;

use super::node::Node;
use super::outbox::{Outbox, Pieces};

/// What became of a request.
pub(super) enum Answer {
    /// The response is in the outbox.
    Sent,
    /// There is no response: Produce with acks=0.
    Silent,
    /// The connection is closed without a response, as Kafka does.
    Close,
    /// The response comes later.
    Later(Later),
}

/// Why a waiting request is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Something it waits for has happened.
    Signal,
    /// Its time is up.
    Deadline,
}

/// A request that waits.
pub(super) struct Later {
    /// Notified when there may be an answer.
    pub(super) signal: Arc<Notify>,
    /// When to look at the latest.
    pub(super) deadline_ns: Option<u64>,
    /// Looks again; `None` waits on.
    pub(super) resume: Resume,
}

/// Looks at a waiting request again.
pub(super) type Resume = Box<dyn FnMut(&Arc<Node>, &mut Outbox, Occasion) -> Option<Answer> + Send>;

/// One request, its header read.
#[derive(Clone)]
pub(super) struct Call {
    /// Without the client id, which nobody here asks for but the groups.
    pub(super) header: RequestHeader<'static>,
    pub(super) client_id: Bytes,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn version(&self) -> i16 {
        self.header.api_version
    }

    /// The body as a typed struct; absent where it is not one, whereupon Kafka closes.
    pub(super) fn decode<R: Decodable>(&self) -> Option<R> {
        // No byte reaches the typed decoder that the walker has not visited.
        super::api::guard(&self.header, &self.body)?;
        R::decode(&mut self.body.clone(), self.version()).ok()
    }

    /// Answers with a typed struct.
    pub(super) fn reply<R: Encodable>(&self, out: &mut Outbox, body: &R) -> Answer {
        match out.typed(&self.header, body) {
            Ok(()) => Answer::Sent,
            Err(_) => {
                debug_assert!(false, "no encoding: {:?} {}", self.header.api_key, self.version());
                Answer::Close
            }
        }
    }

    /// Answers with a body written by hand.
    pub(super) fn reply_pieces(&self, out: &mut Outbox, body: Pieces) -> Answer {
        out.pieces(&self.header, body);
        Answer::Sent
    }
}
