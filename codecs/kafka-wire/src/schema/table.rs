//! Turns `messages.txt` into the table of every message: names, versions, fields, header versions.
//!
//! The text is parsed once, at first use, into a few flat vectors; names stay slices of it. A
//! message has one or more definitions, newest first, because newer Kafkas lose old versions
//! (KIP-896) that older brokers still speak.
//!
//! Never: sees a body.

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use super::layout::Layout;
use crate::api::ApiKey;

/// The file the generator in `examples/schema_table.rs` writes.
const MESSAGES: &str = include_str!("messages.txt");

/// Which half of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From client to broker.
    Request,
    /// From broker to client.
    Response,
}

/// Versions from `min` to `max`, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
}

impl VersionRange {
    /// Whether the range holds the version.
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    fn parse(text: &str) -> Self {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        Self { min: number(min), max: number(max) }
    }
}

/// What a field, or an element of an array field, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// One byte, 0 or 1.
    Bool,
    /// Signed, one byte.
    Int8,
    /// Signed, two bytes.
    Int16,
    /// Unsigned, two bytes.
    Uint16,
    /// Signed, four bytes.
    Int32,
    /// Unsigned, four bytes.
    Uint32,
    /// Signed, eight bytes.
    Int64,
    /// IEEE 754 double.
    Float64,
    /// Sixteen bytes.
    Uuid,
    /// Text behind its length.
    String,
    /// Bytes behind their length.
    Bytes,
    /// Record batches behind their length in bytes.
    Records,
    /// Fields of its own.
    Struct,
}

impl FieldKind {
    fn parse(name: &str) -> Self {
        match name {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "uint16" => Self::Uint16,
            "int32" => Self::Int32,
            "uint32" => Self::Uint32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ => Self::Struct,
        }
    }

    /// Bytes on the wire, absent for what carries its own length.
    #[must_use]
    pub const fn fixed_bytes(self) -> Option<u32> {
        match self {
            Self::Bool | Self::Int8 => Some(1),
            Self::Int16 | Self::Uint16 => Some(2),
            Self::Int32 | Self::Uint32 => Some(4),
            Self::Int64 | Self::Float64 => Some(8),
            Self::Uuid => Some(16),
            Self::String | Self::Bytes | Self::Records | Self::Struct => None,
        }
    }
}

/// A field as Kafka's definition has it, over all versions.
#[derive(Debug, Clone)]
pub struct FieldDefinition {
    /// The protocol's name, in snake case.
    pub name: &'static str,
    /// The protocol's name of the type, `[]` before it for an array.
    pub type_name: &'static str,
    /// What it is, or what its elements are.
    pub kind: FieldKind,
    /// Whether it is an array.
    pub array: bool,
    /// Versions that have it.
    pub versions: VersionRange,
    /// Versions in which it may be null.
    pub nullable: Option<VersionRange>,
    /// Its tag where it is a tagged field (KIP-482).
    pub tag: Option<u32>,
    /// What an absent one stands for, where that is not zero, false or empty.
    pub default: Option<&'static str>,
    /// Whether Kafka drops it silently from versions that lack it.
    pub ignorable: bool,
    /// Whether it is part of the key of its struct.
    pub map_key: bool,
    /// What its value names: `topicName`, `brokerId`, `groupId`, `transactionalId`, …
    pub entity: Option<&'static str>,
    /// How many structs it lies in.
    pub(super) depth: u8,
}

/// The fields of a message for a range of its versions.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The versions it is good for.
    pub versions: VersionRange,
    /// The first flexible version among them.
    pub flexible_since: Option<i16>,
    /// Whether the newest of them may still change.
    pub latest_unstable: bool,
    /// The jar it comes from, such as `kafka-clients-4.4.0`.
    pub source: &'static str,
    /// In the order of the file, each struct before its fields.
    pub(super) fields: Vec<FieldDefinition>,
}

/// A message: one direction of an API, or data outside of both.
#[derive(Debug)]
pub struct Message {
    name: &'static str,
    api_key: Option<ApiKey>,
    direction: Option<Direction>,
    versions: VersionRange,
    flexible_since: Option<i16>,
    listeners: &'static str,
    definitions: Vec<Definition>,
    /// By version, each made at first use.
    layouts: Box<[OnceLock<Option<Box<Layout>>>]>,
}

impl Message {
    /// The protocol's name: `ProduceRequest`, `ConsumerProtocolSubscription`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The API it belongs to; for records of the internal topics absent.
    #[must_use]
    pub fn api_key(&self) -> Option<ApiKey> {
        self.api_key
    }

    /// Request or response; absent for data.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        self.direction
    }

    /// All versions the table knows.
    #[must_use]
    pub fn versions(&self) -> VersionRange {
        self.versions
    }

    /// The newest version that will not change any more, absent where all may.
    #[must_use]
    pub fn latest_stable(&self) -> Option<i16> {
        let latest = self.versions.max;
        let stable = if self.is_unstable(latest) { latest - 1 } else { latest };
        (stable >= self.versions.min && !self.is_unstable(stable)).then_some(stable)
    }

    /// Whether the version may still change.
    #[must_use]
    pub fn is_unstable(&self, version: i16) -> bool {
        self.definition(version).is_some_and(|d| d.latest_unstable && d.versions.max == version)
    }

    /// Whether the version has tagged fields and compact lengths (KIP-482).
    #[must_use]
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible_since.is_some_and(|since| version >= since)
    }

    /// The listeners that serve the API: `broker`, `controller`, `zkBroker`, with commas between.
    #[must_use]
    pub fn listeners(&self) -> &'static str {
        self.listeners
    }

    /// The definition that is good for the version.
    #[must_use]
    pub fn definition(&self, version: i16) -> Option<&Definition> {
        self.definitions.iter().find(|d| d.versions.contains(version))
    }

    /// Which field follows which in the version, absent where the table does not know it.
    #[must_use]
    pub fn layout(&'static self, version: i16) -> Option<&'static Layout> {
        let index = usize::try_from(version.checked_sub(self.versions.min)?).ok()?;
        let layout = self.layouts.get(index)?;
        layout.get_or_init(|| Layout::compile(self, version).map(Box::new)).as_deref()
    }

    /// Every definition, newest first.
    #[must_use]
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }
}

/// The table, and ways into it.
struct Table {
    messages: Vec<Message>,
    /// By API key and direction, an index into `messages`.
    by_api: Vec<[Option<u16>; 2]>,
    sources: Vec<&'static str>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::parse(MESSAGES))
}

impl Table {
    fn parse(text: &'static str) -> Self {
        let mut table = Self { messages: Vec::new(), by_api: Vec::new(), sources: Vec::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with(' ') {
                let fields = table.messages.last_mut().map(|m| m.definitions.as_mut_slice());
                if let Some([.., definition]) = fields {
                    definition.field(line);
                }
            } else if let Some(source) = line.strip_prefix("source ") {
                table.sources.push(source.split_once(' ').map_or(source, |(_, name)| name));
            } else {
                table.message(line);
            }
        }
        for (index, message) in table.messages.iter_mut().enumerate() {
            let VersionRange { min, max } = message.versions;
            message.layouts = (min..=max).map(|_| OnceLock::new()).collect();
            let (Some(key), Some(direction)) = (message.api_key, message.direction) else {
                continue;
            };
            let key = key.0 as usize;
            if table.by_api.len() <= key {
                table.by_api.resize(key + 1, [None; 2]);
            }
            table.by_api[key][direction as usize] = Some(index as u16);
        }
        table
    }

    /// `kind key name versions [flexible=V+] [unstable] [on=LISTENERS] from=SOURCE`
    fn message(&mut self, line: &'static str) {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (kind, key, name) = (next(), next(), next());
        let mut definition = Definition {
            versions: VersionRange::parse(next()),
            flexible_since: None,
            latest_unstable: false,
            source: "",
            fields: Vec::new(),
        };
        let mut listeners = "";
        for word in words {
            match word.split_once('=') {
                Some(("flexible", since)) => {
                    definition.flexible_since = Some(number(since.trim_end_matches('+')));
                }
                Some(("on", on)) => listeners = on,
                Some(("from", source)) => {
                    definition.source = self.sources.get(number(source) as usize).unwrap_or(&"");
                }
                _ => definition.latest_unstable |= word == "unstable",
            }
        }
        match self.messages.last_mut() {
            Some(message) if message.name == name => message.add(definition),
            _ => self.messages.push(Message {
                name,
                api_key: (kind != "data").then(|| ApiKey(number(key))),
                direction: match kind {
                    "request" => Some(Direction::Request),
                    "response" => Some(Direction::Response),
                    _ => None,
                },
                versions: definition.versions,
                flexible_since: definition.flexible_since,
                listeners,
                definitions: vec![definition],
                layouts: Box::default(),
            }),
        }
    }
}

impl Message {
    /// An older definition behind the newer ones.
    fn add(&mut self, older: Definition) {
        self.versions.min = self.versions.min.min(older.versions.min);
        self.versions.max = self.versions.max.max(older.versions.max);
        self.flexible_since = self.flexible_since.into_iter().chain(older.flexible_since).min();
        self.definitions.push(older);
    }
}

impl Definition {
    /// `field type [versions] [?nullable] [@tag] [=default] [!] [key] [#entity]`
    fn field(&mut self, line: &'static str) {
        let text = line.trim_start_matches(' ');
        let depth = (line.len() - text.len() - 1) as u8;
        let mut words = text.split(' ');
        let name = words.next().unwrap_or_default();
        let type_name = words.next().unwrap_or_default();
        let parent = self.fields.iter().rev().find(|field| field.depth < depth);
        let mut field = FieldDefinition {
            name,
            type_name,
            kind: FieldKind::parse(type_name.trim_start_matches("[]")),
            array: type_name.starts_with("[]"),
            versions: parent.map_or(self.versions, |parent| parent.versions),
            nullable: None,
            tag: None,
            default: None,
            ignorable: false,
            map_key: false,
            entity: None,
            depth,
        };
        for word in words {
            match word.split_at_checked(1) {
                Some(("?", "")) => field.nullable = Some(field.versions),
                Some(("?", versions)) => field.nullable = Some(VersionRange::parse(versions)),
                Some(("@", tag)) => field.tag = tag.parse().ok(),
                Some(("=", default)) => field.default = Some(default),
                Some(("#", entity)) => field.entity = Some(entity),
                Some(("!", "")) => field.ignorable = true,
                Some(("k", "ey")) => field.map_key = true,
                _ => field.versions = VersionRange::parse(word),
            }
        }
        self.fields.push(field);
    }
}

/// A number of the file, which the generator wrote and the tests below check.
fn number(text: &str) -> i16 {
    text.parse().unwrap_or(-1)
}

/// The message of an API in one direction, absent where the table does not know the API.
#[must_use]
pub fn message(api_key: ApiKey, direction: Direction) -> Option<&'static Message> {
    let table = table();
    let index = table.by_api.get(usize::try_from(api_key.0).ok()?)?[direction as usize]?;
    table.messages.get(usize::from(index))
}

/// The message of that name outside of requests and responses: what groups put into their opaque
/// bytes, what control records and the records of the internal topics hold.
#[must_use]
pub fn data_message(name: &str) -> Option<&'static Message> {
    let messages = &table().messages;
    let data = &messages[messages.partition_point(|message| message.direction.is_some())..];
    data.binary_search_by_key(&name, |message| message.name).ok().map(|index| &data[index])
}

/// Every message: requests and responses by API key, then data by name.
pub fn messages() -> impl Iterator<Item = &'static Message> {
    table().messages.iter()
}

/// The jars the table comes from, newest first.
#[must_use]
pub fn sources() -> &'static [&'static str] {
    &table().sources
}

/// All versions of an API that the table knows.
///
/// ```
/// use kafka_wire::{ApiKey, schema};
/// assert_eq!(schema::versions(ApiKey::PRODUCE), Some(0..=13));
/// assert_eq!(schema::latest_stable(ApiKey::INIT_PRODUCER_ID), Some(5));
/// ```
#[must_use]
pub fn versions(api_key: ApiKey) -> Option<RangeInclusive<i16>> {
    let VersionRange { min, max } = message(api_key, Direction::Request)?.versions;
    Some(min..=max)
}

/// The newest version of an API that will not change any more.
#[must_use]
pub fn latest_stable(api_key: ApiKey) -> Option<i16> {
    message(api_key, Direction::Request)?.latest_stable()
}

/// Whether the version of an API has tagged fields and compact lengths (KIP-482); absent where
/// the table does not know the API. Versions newer than the table count as its newest.
#[must_use]
pub fn is_flexible(api_key: ApiKey, version: i16) -> Option<bool> {
    Some(message(api_key, Direction::Request)?.is_flexible(version))
}

/// Request header version of an API and version, absent where the table does not know the API.
///
/// A version newer than the table is answered as its newest, as Kafka's brokers do: the header of
/// an ApiVersions request of an unknown version must still be read (KIP-511).
///
/// ```
/// use kafka_wire::{ApiKey, schema};
/// assert_eq!(schema::request_header_version(ApiKey::FETCH, 11), Some(1));
/// assert_eq!(schema::request_header_version(ApiKey::FETCH, 12), Some(2));
/// assert_eq!(schema::request_header_version(ApiKey::CONTROLLED_SHUTDOWN, 0), Some(0));
/// ```
#[must_use]
pub fn request_header_version(api_key: ApiKey, version: i16) -> Option<i16> {
    // ControlledShutdown v0 is the one request from before there was a client id in the header.
    match (api_key, version) {
        (ApiKey::CONTROLLED_SHUTDOWN, 0) => Some(0),
        _ => Some(if is_flexible(api_key, version)? { 2 } else { 1 }),
    }
}

/// Response header version of an API and version, absent where the table does not know the API.
#[must_use]
pub fn response_header_version(api_key: ApiKey, version: i16) -> Option<i16> {
    match api_key {
        // Always v0, so that a client can read the rejection of a version (KIP-511).
        ApiKey::API_VERSIONS => Some(0),
        _ => Some(i16::from(is_flexible(api_key, version)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_key_has_a_request_and_a_response_of_the_same_versions() {
        for &key in ApiKey::ALL {
            let request = message(key, Direction::Request).unwrap();
            let response = message(key, Direction::Response).unwrap();
            assert_eq!(request.name(), format!("{key}Request"));
            assert_eq!(response.name(), format!("{key}Response"));
            assert_eq!(request.versions(), response.versions(), "{key}");
            assert_eq!(request.flexible_since, response.flexible_since, "{key}");
        }
        assert_eq!(table().by_api.len(), ApiKey::ALL.len());
    }

    #[test]
    fn definitions_cover_every_version_once() {
        for message in messages() {
            for version in message.versions.min..=message.versions.max {
                let of = message.definitions.iter().filter(|d| d.versions.contains(version));
                assert_eq!(of.count(), 1, "{} v{version}", message.name);
            }
            assert!(message.versions.min >= 0);
        }
    }

    #[test]
    fn every_line_of_the_file_was_understood() {
        assert_eq!(sources().first(), Some(&"kafka-clients-4.4.0"));
        let fields: usize = messages().flat_map(|m| &m.definitions).map(|d| d.fields.len()).sum();
        assert_eq!(fields, MESSAGES.lines().filter(|line| line.starts_with(' ')).count());
        for definition in messages().flat_map(|message| &message.definitions) {
            assert!(!definition.source.is_empty());
            for field in &definition.fields {
                assert!(field.versions.min >= definition.versions.min, "{field:?}");
                assert!(field.versions.max <= definition.versions.max, "{field:?}");
                let of = field.type_name.trim_start_matches("[]");
                let is_struct = of.starts_with(char::is_uppercase);
                assert_eq!(is_struct, field.kind == FieldKind::Struct, "{field:?}");
                // Nothing of a field is silently negative: that is how a number fails to parse.
                assert!(field.tag.is_none_or(|tag| tag < 100), "{field:?}");
            }
        }
    }

    #[test]
    fn data_messages_are_found_by_name() {
        assert_eq!(data_message("EndTxnMarker").map(Message::name), Some("EndTxnMarker"));
        assert!(data_message("ConsumerProtocolAssignment").is_some());
        assert!(data_message("ProduceRequest").is_none());
    }

    #[test]
    fn header_versions_have_their_two_exceptions() {
        let headers = |api_key, version| {
            (request_header_version(api_key, version), response_header_version(api_key, version))
        };
        assert_eq!(headers(ApiKey::PRODUCE, 8), (Some(1), Some(0)));
        assert_eq!(headers(ApiKey::PRODUCE, 9), (Some(2), Some(1)));
        assert_eq!(headers(ApiKey::API_VERSIONS, 3), (Some(2), Some(0)));
        assert_eq!(headers(ApiKey::API_VERSIONS, 99), (Some(2), Some(0)));
        assert_eq!(headers(ApiKey::CONTROLLED_SHUTDOWN, 0), (Some(0), Some(0)));
        assert_eq!(headers(ApiKey(999), 0), (None, None));
        assert_eq!(headers(ApiKey(-1), 0), (None, None));
    }

    #[test]
    fn unstable_versions_are_known_as_such() {
        assert_eq!(latest_stable(ApiKey::INIT_PRODUCER_ID), Some(5));
        assert_eq!(latest_stable(ApiKey::PRODUCE), Some(13));
        let share_fetch = message(ApiKey::SHARE_FETCH, Direction::Request).unwrap();
        assert!(share_fetch.is_unstable(0) && !share_fetch.is_unstable(1));
    }
}
