//! Which frames a rule is about.

use std::fmt;

use kafka_wire::ApiKey;
use kafka_wire::ids::{NodeId, ProducerEpoch, ProducerId};
use kafka_wire::schema::{self, Scalar};

use crate::history::tap::{Connection, Direction};

/// Which frames a rule is about; what is absent matches any.
///
/// A response is matched by the fields of its request, except for conditions that name
/// fields of the response itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The APIs; empty means any.
    pub apis: Vec<ApiKey>,
    /// Their versions.
    pub versions: Option<Versions>,
    /// Which half of the exchange.
    pub direction: Direction,
    /// The client id of the header.
    pub client_id: Option<Pattern>,
    /// The transactional id of the request.
    pub transactional_id: Option<Pattern>,
    /// The producer id of the request or of one of its record batches.
    pub producer_id: Option<ProducerId>,
    /// The producer epoch of the request or of one of its record batches.
    pub producer_epoch: Option<ProducerEpoch>,
    /// The group of the request.
    pub group: Option<Pattern>,
    /// A topic of the request, by name or by id as Kafka prints it.
    pub topic: Option<Pattern>,
    /// A partition of the request; with `topic`, of that topic.
    pub partition: Option<i32>,
    /// Any other fields.
    pub fields: Vec<FieldIs>,
    /// Which of the frames that match all the rest, counted from 1 over all connections.
    pub nth: Option<Nth>,
    /// The connection, as histories and captures number them.
    pub connection: Option<Connection>,
    /// The broker.
    pub broker: Option<NodeId>,
    /// The chance that a frame that matches all the rest is meant.
    pub probability: Option<f64>,
}

impl Match {
    /// Any frame of one direction.
    #[must_use]
    pub fn any(direction: Direction) -> Self {
        Self {
            apis: Vec::new(),
            versions: None,
            direction,
            client_id: None,
            transactional_id: None,
            producer_id: None,
            producer_epoch: None,
            group: None,
            topic: None,
            partition: None,
            fields: Vec::new(),
            nth: None,
            connection: None,
            broker: None,
            probability: None,
        }
    }
}

/// Versions from one to another, both inclusive; absent means without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: Option<i16>,
    /// The newest.
    pub max: Option<i16>,
}

impl Versions {
    /// Whether a version is among them.
    #[must_use]
    pub fn contains(self, version: i16) -> bool {
        self.min.is_none_or(|min| min <= version) && self.max.is_none_or(|max| version <= max)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_range(f, self.min, self.max)
    }
}

/// `3`, `3-4`, `3-` or `-4`.
fn write_range<T: fmt::Display + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    first: Option<T>,
    last: Option<T>,
) -> fmt::Result {
    if first == last {
        return first.map_or(Ok(()), |only| write!(f, "{only}"));
    }
    first.map_or(Ok(()), |first| write!(f, "{first}"))?;
    f.write_str("-")?;
    last.map_or(Ok(()), |last| write!(f, "{last}"))
}

/// Which of several, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nth {
    /// The first that is meant.
    pub first: u64,
    /// The last; absent means all from the first on.
    pub last: Option<u64>,
}

impl Nth {
    /// Whether the n-th is meant.
    #[must_use]
    pub fn contains(self, n: u64) -> bool {
        self.first <= n && self.last.is_none_or(|last| n <= last)
    }
}

impl fmt::Display for Nth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_range(f, Some(self.first), self.last)
    }
}

/// Text in which `*` stands for any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(pub String);

impl Pattern {
    /// Whether the text fits. Linear in the text for each star.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let mut parts = self.0.as_bytes().split(|&byte| byte == b'*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match find(rest, part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).position(|window| window == part)
}

/// A field that has a value.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldIs {
    /// Of the request or of its response; a response's only where the rule is about responses.
    pub of: Direction,
    /// A schema path without indexes, such as `topics.partitions.error_code`; one element that
    /// fits is enough.
    pub path: String,
    /// The value as a person writes it: a number, `true`, `null`, a UUID, an error's name, text.
    pub value: Pattern,
}

impl FieldIs {
    /// Whether a value of the wire is the one meant.
    #[must_use]
    pub fn matches(&self, value: Scalar<'_>) -> bool {
        let text = self.value.0.as_str();
        match value {
            Scalar::Null => text == "null",
            Scalar::Bool(is) => text == if is { "true" } else { "false" },
            Scalar::Int(is) => integer(&self.path, text) == Some(is),
            Scalar::Float(is) => text.parse() == Ok(is),
            Scalar::Uuid(is) => is_uuid(text, is),
            Scalar::String(is) | Scalar::Bytes(is) => self.value.matches(is),
            Scalar::Records(_) => false,
        }
    }
}

/// A number as a person writes it into a field: an error code may go by its name.
pub(crate) fn integer(path: &str, text: &str) -> Option<i64> {
    let named = path.ends_with("error_code").then(|| kafka_wire::ErrorCode::from_name(text));
    match named.flatten() {
        Some(code) => Some(code.0.into()),
        None => text.parse().ok(),
    }
}

/// Whether the text is how Kafka prints the UUID; nothing is allocated.
pub(crate) fn is_uuid(text: &str, uuid: &[u8; 16]) -> bool {
    struct Compare<'t>(&'t [u8]);
    impl std::fmt::Write for Compare<'_> {
        fn write_str(&mut self, part: &str) -> std::fmt::Result {
            self.0 = self.0.strip_prefix(part.as_bytes()).ok_or(std::fmt::Error)?;
            Ok(())
        }
    }
    let mut compare = Compare(text.as_bytes());
    schema::write_uuid(&mut compare, uuid).is_ok() && compare.0.is_empty()
}
