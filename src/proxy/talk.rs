//! The frames of one connection understood as far as their headers: what each asks, what each
//! answers.
//!
//! Paired by the one [`Correlator`]. After SaslHandshake v0 come tokens without any header, until a
//! frame is a request again (KIP-43; since v1 they travel in SaslAuthenticate, KIP-152).
//!
//! Never: needs a body further than to the `acks` of a Produce.

use kafka_wire::ApiKey;
use kafka_wire::correlator::{Correlator, Paired};
use kafka_wire::frame::FRAME_BYTES_MAX;
use kafka_wire::header::{RequestHeader, produce_acks};
use kafka_wire::ids::CorrelationId;
use kafka_wire::schema;

use super::rule::Remembered;

/// Requests that may wait for their answers; the oldest is forgotten beyond them.
const WAITING_MAX: usize = 10_000;
/// A header that is longer is not waited for.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request's header up to the length of the client id, with the prefix.
const REQUEST_BYTES_MIN: usize = 14;

/// What the bytes at the start of a frame tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head<T> {
    /// More of them are needed, but never more than so many from the start.
    More(usize),
    /// A negative length: where the next frame begins cannot be known.
    Lost(i32),
    /// A frame of so many bytes, the prefix counted; its header, where it can have one.
    Frame(usize, Option<T>),
}

impl<T> Head<T> {
    pub(super) fn map<U>(self, what: impl FnOnce(T) -> U) -> Head<U> {
        match self {
            Self::More(limit) => Head::More(limit),
            Self::Lost(length) => Head::Lost(length),
            Self::Frame(total, header) => Head::Frame(total, header.map(what)),
        }
    }
}

/// The header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) api_key: ApiKey,
    pub(super) api_version: i16,
    pub(super) correlation_id: CorrelationId,
    /// False for a Produce with acks=0.
    pub(super) is_answered: bool,
}

/// Reads the start of a request, prefix first.
pub(super) fn request_head(bytes: &[u8]) -> Head<Request> {
    let (total, frame) = match split(bytes) {
        Ok(split) => split,
        Err(head) => return head,
    };
    let is_whole = frame.len() + 4 == total;
    let Some((api_key, api_version, correlation_id)) = RequestHeader::peek(frame) else {
        return if is_whole { Head::Frame(total, None) } else { Head::More(total) };
    };
    let mut request = Request { api_key, api_version, correlation_id, is_answered: true };
    if api_key == ApiKey::PRODUCE {
        let header = RequestHeader::decode(frame).ok();
        match header.and_then(|(_, body_at)| produce_acks(&frame[body_at..], api_version)) {
            // What is no Kafka may stop here and wait for an answer: it is not kept waiting.
            None if !is_whole && frame.len() < HEAD_BYTES_MAX && total <= FRAME_BYTES_MAX => {
                return Head::More(total);
            }
            acks => request.is_answered = acks != Some(0),
        }
    }
    Head::Frame(total, Some(request))
}

/// Reads the start of a response, prefix first.
pub(super) fn response_head(bytes: &[u8]) -> Head<CorrelationId> {
    match split(bytes) {
        Err(head) => head,
        Ok((total, frame)) => match frame.first_chunk::<4>() {
            Some(id) => Head::Frame(total, Some(CorrelationId(i32::from_be_bytes(*id)))),
            None if total < 8 => Head::Frame(total, None),
            None => Head::More(8),
        },
    }
}

/// The length of a frame with its prefix, and what there is of it without.
fn split<T>(bytes: &[u8]) -> Result<(usize, &[u8]), Head<T>> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else { return Err(Head::More(4)) };
    let length = i32::from_be_bytes(*prefix);
    // However long it says it is: the bytes go through as they come, nothing is allocated for it.
    let frame = usize::try_from(length).map_err(|_| Head::Lost(length))?;
    Ok((frame + 4, &rest[..rest.len().min(frame)]))
}

/// A request that waits, as its answer will need it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) remembered: Option<Remembered>,
    pub(super) answer: Answer,
}

/// Whose answer a request gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The broker's.
    Theirs,
    /// The broker's, and the client is not to hear it: it asked only once.
    Swallowed,
    /// Ours: a whole frame.
    Ours(Vec<u8>),
}

/// Where a connection is in SASL without headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sasl {
    Headers,
    Tokens { unanswered: u32 },
}

/// One connection's exchanges.
#[derive(Debug)]
pub(super) struct Talk {
    waiting: Correlator<Asked>,
    sasl: Sasl,
}

impl Talk {
    pub(super) fn new() -> Self {
        Self { waiting: Correlator::new(), sasl: Sasl::Headers }
    }

    /// Whether a frame of the client is a token without a header.
    pub(super) fn is_token(&mut self, total: usize, request: Option<&Request>) -> bool {
        let Sasl::Tokens { unanswered } = self.sasl else { return false };
        let is_request = total >= REQUEST_BYTES_MIN
            && request.is_some_and(|request| {
                let versions = schema::versions(request.api_key);
                versions.is_some_and(|versions| versions.contains(&request.api_version))
            });
        self.sasl = match is_request {
            true => Sasl::Headers,
            false => Sasl::Tokens { unanswered: unanswered.saturating_add(1) },
        };
        !is_request
    }

    /// Notes a request that goes to the broker, or that we answer.
    pub(super) fn sent(
        &mut self,
        request: Request,
        remembered: Option<Remembered>,
        answer: Answer,
    ) {
        if !request.is_answered {
            return;
        }
        if request.api_key == ApiKey::SASL_HANDSHAKE && request.api_version == 0 {
            self.sasl = Sasl::Tokens { unanswered: 0 };
        }
        self.waiting.request(request.correlation_id, Asked { request, remembered, answer });
        if self.waiting.len() > WAITING_MAX {
            let oldest = self.waiting.oldest().map(|(id, _)| *id);
            oldest.map(|id| self.waiting.response(id));
        }
    }

    /// What a response answers; absent where it answers nothing, or is a token.
    pub(super) fn answered(&mut self, correlation_id: Option<CorrelationId>) -> Option<Asked> {
        if let Sasl::Tokens { unanswered: unanswered @ 1.. } = self.sasl
            && self.waiting.is_empty()
        {
            self.sasl = Sasl::Tokens { unanswered: unanswered - 1 };
            return None;
        }
        match self.waiting.response(correlation_id?) {
            Paired::Next(answered) | Paired::Skipped { answered, .. } => Some(answered),
            Paired::Unpaired => None,
        }
    }

    /// Whether it is an answer of our own that comes next.
    pub(super) fn is_own_answer_next(&self) -> bool {
        self.waiting.oldest().is_some_and(|(_, asked)| matches!(asked.answer, Answer::Ours(_)))
    }

    /// Our own answer, where it is that one's turn.
    pub(super) fn own_answer(&mut self) -> Option<Vec<u8>> {
        let (id, asked) = self.waiting.oldest()?;
        if !matches!(asked.answer, Answer::Ours(_)) {
            return None;
        }
        match self.waiting.response(*id) {
            Paired::Next(Asked { answer: Answer::Ours(frame), .. }) => Some(frame),
            _ => None,
        }
    }

    /// Whether a request waits for its answer.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::schema::{Direction, Fields};

    fn request(api_key: ApiKey, version: i16, client_id: &[u8], body: &Fields) -> Vec<u8> {
        let mut frame = vec![0; 4];
        let header = RequestHeader {
            api_key,
            api_version: version,
            correlation_id: CorrelationId(9),
            client_id: Some(client_id),
        };
        header.encode(&mut frame);
        let layout = schema::layout(api_key, Direction::Request, version).expect("in the table");
        frame.extend_from_slice(&layout.encode(body).expect("it encodes"));
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame
    }

    /// Reads a frame byte by byte, giving never more than what was asked for.
    fn read(frame: &[u8]) -> (usize, Head<Request>) {
        for length in 0..=frame.len() {
            match request_head(&frame[..length]) {
                Head::More(limit) => assert!(limit > length && limit <= frame.len()),
                head => return (length, head),
            }
        }
        panic!("the whole frame is not enough");
    }

    #[test]
    fn a_produce_is_read_up_to_its_acks() {
        for version in [3, 8, 9, 12] {
            for acks in [0, 1, -1] {
                let body = Fields::new().with("transactional_id", "t").with("acks", acks);
                let frame = request(ApiKey::PRODUCE, version, b"client", &body);
                let (needed, head) = read(&frame);
                assert!(needed < frame.len(), "{version}");
                let Head::Frame(total, Some(head)) = head else { panic!("{head:?}") };
                assert_eq!((total, head.is_answered), (frame.len(), acks != 0), "{version}");
            }
        }
    }

    #[test]
    fn frames_without_a_header_and_hostile_lengths_are_told_apart() {
        assert_eq!(request_head(&[0, 0, 0, 2, 1, 2]), Head::Frame(6, None));
        assert_eq!(request_head(&[0, 0, 0, 0, 9]), Head::Frame(4, None));
        assert_eq!(request_head(&[0xff; 9]), Head::Lost(-1));
        assert_eq!(response_head(&[0xff; 9]), Head::Lost(-1));
        assert_eq!(response_head(&[0, 0, 0, 3, 1, 2, 3]), Head::Frame(7, None));
        assert_eq!(response_head(&[0, 0, 1, 0, 0, 0]), Head::More(8));
        // The client id says that it is longer than the frame.
        let torn = [0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 5, 0x7f, 0xff];
        assert!(matches!(request_head(&torn), Head::Frame(14, Some(_))));
        let unknown = [0, 0, 0, 10, 0x7f, 0, 0, 1, 0, 0, 0, 5, 0, 0];
        assert!(matches!(request_head(&unknown), Head::Frame(14, Some(_))));
    }

    fn asked(api_key: ApiKey, id: i32) -> Request {
        let correlation_id = CorrelationId(id);
        Request { api_key, api_version: 0, correlation_id, is_answered: true }
    }

    #[test]
    fn tokens_after_an_old_handshake_are_no_messages() {
        let mut talk = Talk::new();
        talk.sent(asked(ApiKey::SASL_HANDSHAKE, 1), None, Answer::Theirs);
        assert!(talk.answered(Some(CorrelationId(1))).is_some());
        let rubbish = Request { api_version: 0x7365, ..asked(ApiKey(0x6e2c), 5) };
        assert!(talk.is_token(30, Some(&rubbish)));
        // Its answer would pair with a request of that id, if it were one.
        assert!(talk.answered(Some(CorrelationId(2))).is_none());
        assert!(talk.is_token(4, None));
        assert!(talk.answered(None).is_none());
        assert!(!talk.is_token(30, Some(&asked(ApiKey::METADATA, 2))));
        assert!(!talk.is_token(30, Some(&rubbish)));
    }

    #[test]
    fn our_answer_comes_in_its_turn() {
        let mut talk = Talk::new();
        talk.sent(asked(ApiKey::METADATA, 1), None, Answer::Theirs);
        talk.sent(asked(ApiKey::METADATA, 2), None, Answer::Ours(vec![7]));
        assert_eq!(talk.own_answer(), None);
        assert!(talk.answered(Some(CorrelationId(1))).is_some());
        assert_eq!(talk.own_answer(), Some(vec![7]));
        assert!(!talk.waits());
    }

    #[test]
    fn requests_that_are_never_answered_do_not_pile_up() {
        let mut talk = Talk::new();
        for id in 0..20_000 {
            talk.sent(asked(ApiKey::METADATA, id), None, Answer::Theirs);
        }
        assert_eq!(talk.waiting.len(), WAITING_MAX);
        assert!(talk.answered(Some(CorrelationId(19_999))).is_some());
    }
}
