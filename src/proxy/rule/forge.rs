//! Turns a frame into an altered one, and a request into an answer of our own.
//!
//! Fields are found with the schema walker and every other byte is kept. An answer takes topics,
//! partitions and ids from the request, so that a client finds its error where it looks for it.
//!
//! Never: sends anything; fails as a whole: what could not be done is said, the rest is done.

use std::borrow::Cow;

use kafka_wire::ids::CorrelationId;
use kafka_wire::schema::{self, Field, FieldId, FieldKind, Fields, Hit, Layout, Scalar, Value};
use kafka_wire::{ApiKey, ErrorCode};

use super::action::{Alteration, Forgery, Where};
use super::condition::integer;
use super::reader::of_schema;
use crate::history::tap::Direction;

/// Bytes of the length prefix.
const PREFIX: usize = 4;
/// Where the CRC of a record batch of magic 2 stands in it.
const BATCH_CRC_AT: usize = 17;

/// A whole frame.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Which way.
    pub direction: Direction,
    /// Which API; a response's is its request's.
    pub api_key: ApiKey,
    /// Which version; a response's is its request's.
    pub api_version: i16,
    /// All of it, the length prefix included.
    pub frame: &'a [u8],
    /// Where in `frame` the body begins.
    pub body_at: usize,
}

/// A frame that was altered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Altered {
    /// All of it, the length prefix included.
    pub frame: Vec<u8>,
    /// What could not be done, in words.
    pub troubles: Vec<String>,
}

/// The frame with every alteration made, in an order that lets each be seen on the wire: fields
/// and batches first, then bytes, then what stands before the body.
#[must_use]
pub fn altered(alterations: &[Alteration], message: &Message<'_>, draw: u64) -> Altered {
    let (head, body) = message.frame.split_at(message.body_at.min(message.frame.len()));
    let (mut head, mut body) = (head.to_vec(), body.to_vec());
    let mut troubles = Vec::new();
    for alteration in alterations {
        let done = match alteration {
            Alteration::Set { path, value } => set(message, &body, path, value),
            Alteration::Crc => wrong_crc(message, &body),
            _ => continue,
        };
        match done {
            Ok(done) => body = done,
            Err(trouble) => troubles.push(trouble),
        }
    }
    for alteration in alterations {
        bytes(alteration, &mut body, draw);
    }
    let length = (head.len() + body.len()).saturating_sub(PREFIX);
    let mut length = i32::try_from(length).unwrap_or(i32::MAX);
    for alteration in alterations {
        match alteration {
            Alteration::Length(more) => length = length.wrapping_add(*more),
            Alteration::CorrelationId(more) => correlation_id(message.direction, &mut head, *more),
            _ => {}
        }
    }
    if let Some(prefix) = head.first_chunk_mut::<PREFIX>() {
        *prefix = length.to_be_bytes();
    }
    head.extend_from_slice(&body);
    Altered { frame: head, troubles }
}

/// What is done to the bytes of a body without looking at them.
fn bytes(alteration: &Alteration, body: &mut Vec<u8>, draw: u64) {
    match *alteration {
        Alteration::Flip(place) => {
            let bit = match place {
                Where::Bit(bit) => u64::from(bit),
                Where::Anywhere => draw.checked_rem(body.len() as u64 * 8).unwrap_or(0),
            };
            if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| body.get_mut(at)) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Alteration::Truncate(less) => body.truncate(body.len().saturating_sub(less as usize)),
        // The parser bounds how much.
        Alteration::Extend(more) => body.resize(body.len() + more as usize, 0),
        _ => {}
    }
}

fn correlation_id(direction: Direction, head: &mut [u8], more: i32) {
    let at = match direction {
        Direction::Request => PREFIX + 4,
        Direction::Response => PREFIX,
    };
    if let Some(bytes) = head.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *bytes = i32::from_be_bytes(*bytes).wrapping_add(more).to_be_bytes();
    }
}

/// A body with another value in every field that a path means.
fn set(message: &Message<'_>, body: &[u8], path: &str, text: &str) -> Result<Vec<u8>, String> {
    let layout = layout_of(message.api_key, message.direction, message.api_version)?;
    let lookup = layout.lookup(&[&without_indexes(path)]).map_err(|error| error.to_string())?;
    let id = lookup.field(0).ok_or_else(|| {
        format!("{} v{} has no field {path}", layout.message().name(), layout.version())
    })?;
    let wanted = indexes(layout, path);
    let value = value_of(layout.field(id).kind(), path, text)?;
    let is_meant = |hit: &Hit<'_, '_>| {
        let found = hit.place.indexes();
        wanted.iter().zip(found).all(|(wanted, index)| wanted.is_none_or(|i| i == index))
    };
    let edited = lookup.rewrite(body, |hit| is_meant(&hit).then(|| value.clone()));
    let edited = edited.map_err(|error| error.to_string())?;
    match edited.count {
        0 => Err(format!("the body has no {path}")),
        _ => Ok(edited.body),
    }
}

/// The value of a field as a person writes it.
///
/// # Errors
/// In words, where the text is none of the field's type.
pub(super) fn value_of(kind: FieldKind, path: &str, text: &str) -> Result<Value, String> {
    let wrong = |what| format!("{path} takes {what}, not {text}");
    Ok(match kind {
        _ if text == "null" => Value::Null,
        FieldKind::Bool => Value::Bool(text.parse().map_err(|_| wrong("true or false"))?),
        FieldKind::Float64 => Value::Float(text.parse().map_err(|_| wrong("a number"))?),
        FieldKind::String | FieldKind::Uuid => Value::String(text.to_owned()),
        FieldKind::Bytes | FieldKind::Records => Value::Bytes(text.as_bytes().to_vec().into()),
        FieldKind::Struct => return Err(format!("{path} is no value")),
        _ => Value::Int(integer(path, text).ok_or_else(|| wrong("a number"))?),
    })
}

/// A body whose first record batch has another CRC than its bytes.
fn wrong_crc(message: &Message<'_>, body: &[u8]) -> Result<Vec<u8>, String> {
    let layout = layout_of(message.api_key, message.direction, message.api_version)?;
    let names: Vec<String> = fields_of(layout)
        .into_iter()
        .filter(|(_, field)| field.kind() == FieldKind::Records)
        .map(|(id, _)| layout.path(id))
        .collect();
    let paths: Vec<&str> = names.iter().map(String::as_str).collect();
    let none = || format!("{} has no record batch", layout.message().name());
    let lookup = layout.lookup(&paths).map_err(|_| none())?;
    let mut at = None;
    lookup.read(body, |hit| {
        if let Scalar::Records(records) = hit.value
            && records.len() > BATCH_CRC_AT + 4
        {
            at = Some(hit.place.range().end - records.len() + BATCH_CRC_AT);
            return schema::Flow::Break(());
        }
        schema::Flow::Continue(())
    });
    let mut body = body.to_vec();
    let byte = at.and_then(|at| body.get_mut(at)).ok_or_else(none)?;
    *byte ^= 0x55;
    Ok(body)
}

/// The frame of an answer to a request, its length prefix included.
///
/// # Errors
/// In words, where the table does not know the version, or a value is none of its field's.
pub fn answer(
    forgery: &Forgery,
    request: &Message<'_>,
    correlation_id: CorrelationId,
) -> Result<Vec<u8>, String> {
    let (api_key, version) = (request.api_key, request.api_version);
    let asked = layout_of(api_key, Direction::Request, version)?;
    let layout = layout_of(api_key, Direction::Response, version)?;
    let request_body = request.frame.get(request.body_at..).unwrap_or_default();
    let asked = asked.decode(request_body, schema::Limits::default()).fields;
    let fields = mirror(layout, layout.fields().collect(), &asked, forgery.error);
    let body = layout.encode(&fields).map_err(|error| error.to_string())?;
    let mut head = vec![0; PREFIX];
    head.extend_from_slice(&correlation_id.0.to_be_bytes());
    if schema::response_header_version(api_key, version) == Some(1) {
        head.push(0);
    }
    let body_at = head.len();
    head.extend_from_slice(&body);
    let message = Message {
        direction: Direction::Response,
        api_key,
        api_version: version,
        frame: &head,
        body_at,
    };
    let set = forgery.set.iter();
    let set: Vec<Alteration> = set
        .map(|(path, value)| Alteration::Set { path: path.clone(), value: value.clone() })
        .collect();
    let Altered { frame, troubles } = altered(&set, &message, 0);
    match troubles.into_iter().next() {
        Some(trouble) => Err(trouble),
        None => Ok(frame),
    }
}

/// A struct of the response with what its counterpart of the request names.
fn mirror(
    layout: &Layout,
    children: Vec<(FieldId, &Field)>,
    asked: &Fields,
    error: ErrorCode,
) -> Fields {
    let mut fields = Fields::new();
    for (id, field) in children {
        let name = field.name();
        if name.ends_with("error_code") && field.kind() == FieldKind::Int16 && !field.is_array() {
            fields.set(name, error.0);
        } else if field.is_array() && field.kind() == FieldKind::Struct {
            let below: Vec<_> = layout.children(id).collect();
            let elements: Vec<Fields> = counterpart(&below, asked)
                .iter()
                .map(|element| mirror(layout, below.clone(), element, error))
                .collect();
            fields.set(name, elements);
        } else if !field.is_array()
            && let Some(value) = known_as(name).iter().find_map(|name| asked.field(name))
        {
            fields.set(name, value.clone());
        }
    }
    fields
}

/// Names under which a request says what a response calls `name`; none for what only brokers know.
fn known_as(name: &str) -> &'static [&'static str] {
    match name {
        "name" => &["name", "topic"],
        "topic" => &["topic", "name"],
        "topic_id" => &["topic_id"],
        "partition_index" | "index" | "partition" => &["partition_index", "index", "partition"],
        "group_id" => &["group_id", "group"],
        "transactional_id" => &["transactional_id"],
        _ => &[],
    }
}

/// The elements of the request's array that names the same things as an array of the response.
fn counterpart<'f>(below: &[(FieldId, &Field)], asked: &'f Fields) -> Vec<Cow<'f, Fields>> {
    let names = || below.iter().flat_map(|(_, field)| known_as(field.name()));
    let struct_fits = |fields: &Fields| names().any(|name| fields.field(name).is_some());
    let is_partition = names().any(|name| *name == "partition_index");
    let element = |value: &'f Value| match value {
        Value::Struct(fields) if struct_fits(fields) => Some(Cow::Borrowed(fields)),
        // AddPartitionsToTxn and OffsetFetch list bare numbers.
        Value::Int(number) if is_partition => {
            Some(Cow::Owned(Fields::new().with("partition_index", *number as i32)))
        }
        _ => None,
    };
    let arrays = asked.iter().filter_map(|(_, value)| value.as_array());
    let found = arrays.map(|array| array.iter().filter_map(element).collect::<Vec<_>>());
    found.into_iter().find(|elements| !elements.is_empty()).unwrap_or_default()
}

fn layout_of(
    api_key: ApiKey,
    direction: Direction,
    version: i16,
) -> Result<&'static Layout, String> {
    let layout = schema::layout(api_key, of_schema(direction), version);
    layout.ok_or_else(|| format!("the schema table has no {api_key} v{version}"))
}

/// A path without its indexes.
pub(super) fn without_indexes(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => plain.push(c),
            _ => {}
        }
    }
    plain
}

/// The index a path names in each of the arrays along it, outermost first.
fn indexes(layout: &Layout, path: &str) -> Vec<Option<u32>> {
    let mut plain = String::new();
    let mut indexes = Vec::new();
    for step in path.split('.') {
        let (name, rest) = step.split_once('[').unwrap_or((step, ""));
        if !plain.is_empty() {
            plain.push('.');
        }
        plain.push_str(name);
        if layout.find(&plain).is_some_and(|id| layout.field(id).is_array()) {
            indexes.push(rest.trim_end_matches(']').parse().ok());
        }
    }
    indexes
}

/// Every field of a layout, structs before their fields.
pub(super) fn fields_of(layout: &Layout) -> Vec<(FieldId, &Field)> {
    let mut fields: Vec<_> = layout.fields().collect();
    let mut at = 0;
    while let Some(&(id, _)) = fields.get(at) {
        fields.extend(layout.children(id));
        at += 1;
    }
    fields
}
