//! What the first bytes of a connection say it speaks, kept until that is known.

use crate::history::wire::Protocol;

use super::framer::Plausible;
use super::pairing::{RequestHead, request_decodes};
use super::stream::Mark;

/// Most that is kept while it is not known what a connection speaks.
const EARLY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of each direction that are looked at.
const HEAD_BYTES: usize = 512;

/// What was said in pieces: in which packet, whether a segment begins with it, and what.
type Said = Vec<(Mark, bool, Vec<u8>)>;

/// What the two ends said before it is known what they speak.
#[derive(Debug, Default)]
pub(super) struct Early {
    said: [Said; 2],
    bytes: usize,
}

impl Early {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps what one end says; whether that is all that is kept.
    pub(super) fn is_full_with(
        &mut self,
        end: usize,
        data: &[u8],
        mark: Mark,
        start: bool,
    ) -> bool {
        self.said[end].push((mark, start, data.to_vec()));
        self.bytes += data.len();
        self.bytes > EARLY_BYTES_MAX
    }

    pub(super) fn into_said(self) -> [Said; 2] {
        self.said
    }

    fn head(&self, end: usize) -> Vec<u8> {
        let bytes = self.said[end].iter().flat_map(|(_, _, bytes)| bytes);
        bytes.copied().take(HEAD_BYTES).collect()
    }

    /// What is spoken, where that can be told: `certain` where a broker is known to be there,
    /// `full` where more will not be waited for.
    pub(super) fn protocol(
        &self,
        client: usize,
        from_beginning: bool,
        certain: bool,
        full: bool,
    ) -> Option<Protocol> {
        let starts =
            self.said[client].iter().any(|(_, start, bytes)| *start && says_a_request(bytes));
        match sniff(&self.head(client), &self.head(1 - client), from_beginning) {
            Sniffed::Kafka => Some(Protocol::Kafka),
            Sniffed::Tls => Some(Protocol::Tls),
            Sniffed::Other | Sniffed::Unknown if starts || (certain && full) => {
                Some(Protocol::Kafka)
            }
            Sniffed::Other if certain => Some(Protocol::Kafka),
            Sniffed::Other => Some(Protocol::Other),
            Sniffed::Unknown if full => Some(Protocol::Other),
            Sniffed::Unknown => None,
        }
    }
}

/// What a connection speaks, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sniffed {
    /// Kafka's protocol.
    Kafka,
    /// TLS.
    Tls,
    /// None of them.
    Other,
    /// More bytes would tell.
    Unknown,
}

/// Looks at the first bytes of the client and of the broker; `from_beginning` where they are the
/// first of the connection.
pub(super) fn sniff(client: &[u8], broker: &[u8], from_beginning: bool) -> Sniffed {
    if is_tls(client) || is_tls(broker) {
        return Sniffed::Tls;
    }
    match RequestHead::read(client) {
        Ok(head) if is_named(&head) => Sniffed::Kafka,
        Ok(head) => match head.frame(client) {
            Some(frame) if !request_decodes(frame) => other_or_answered(&head, broker),
            _ => Sniffed::Kafka,
        },
        Err(Plausible::No) if from_beginning => Sniffed::Other,
        Err(_) => Sniffed::Unknown,
    }
}

fn is_named(head: &RequestHead<'_>) -> bool {
    head.client_id.is_some_and(|id| !id.is_empty())
}

/// A client that names itself with no byte and says nothing that decodes may speak another protocol
/// of lengths and numbers (to ZooKeeper a connection begins as Produce v0 would, with zeros). An
/// answer with its correlation id is one of Kafka's.
fn other_or_answered(head: &RequestHead<'_>, broker: &[u8]) -> Sniffed {
    let id = head.correlation_id.0;
    match broker.get(4..8) {
        None => Sniffed::Unknown,
        Some(answered) if id != 0 && answered == id.to_be_bytes() => Sniffed::Kafka,
        Some(_) => Sniffed::Other,
    }
}

/// Whether a segment begins with a request whose client names itself: a response may look like a
/// request without.
pub(super) fn says_a_request(bytes: &[u8]) -> bool {
    RequestHead::read(bytes).is_ok_and(|head| head.client_id.is_none_or(|id| !id.is_empty()))
}

/// A TLS record: handshake, alert, change of cipher or data, of version 3.x. As a frame's length
/// it would be 330 MB or more, which no frame has.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x17, 3, 0..=4, high, ..] if *high <= 0x48)
}
