//! Messages of magic 0 and 1, plain or wrapped in one compressed message, as records.
//!
//! A compressed message's value is a message set of its own. In magic 0 its offsets are absolute;
//! in magic 1 they are relative, and the wrapper's offset is that of its last message (KIP-31).
//!
//! Not checked: what LZ4 frames of magic 0 say in their header checksum, which clients of that
//! time computed wrongly (KAFKA-3160); both sums are taken.

use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::Offset;

use super::attributes::{Compression, TimestampType};
use super::iter::{Batch, BatchIter};
use super::record::{Headers, Record};

/// One plain message, or the messages wrapped in one.
#[derive(Debug, Clone)]
pub(super) struct MessageSet<'a> {
    one: Option<Batch<'a>>,
    wrapped: BatchIter<'a>,
    /// What to add to an offset in a wrapper of magic 1.
    offset_base: i64,
    log_append_time: Option<i64>,
}

/// Where a fault of a message goes: position, field, kind.
type Observe<'o> = dyn FnMut(usize, &str, DecodeErrorKind) + 'o;

impl<'a> MessageSet<'a> {
    pub(super) fn one(message: &Batch<'a>) -> Self {
        // Positions are counted from where the payload begins, as in batches.
        Self {
            one: Some(*message),
            wrapped: BatchIter::new(&[]),
            offset_base: 0,
            log_append_time: None,
        }
    }

    pub(super) fn wrapped_in(wrapper: &Batch<'_>, bytes: &'a [u8]) -> Self {
        let wrapped = BatchIter::new(bytes);
        let header = &wrapper.header;
        let last = wrapped.clone().filter_map(Result::ok).last();
        let last_relative = last.map_or(0, |message| message.header.base_offset.0);
        Self {
            one: None,
            wrapped,
            offset_base: match header.magic {
                0 => 0,
                _ => header.base_offset.0.saturating_sub(last_relative),
            },
            log_append_time: (header.timestamp_type() == TimestampType::LogAppendTime)
                .then_some(header.max_timestamp),
        }
    }

    pub(super) fn next(&mut self, observe: &mut Observe<'_>) -> Option<Record<'a>> {
        if let Some(message) = self.one.take() {
            // The observer counts from the payload; so does the payload's own position here.
            return Some(record(&message, 0, message.byte_offset, observe));
        }
        loop {
            let message = match self.wrapped.next()? {
                Ok(message) => message,
                Err(error) => {
                    observe(error.byte_offset, "", error.kind);
                    continue;
                }
            };
            let start = message.byte_offset;
            if message.header.magic >= 2 || message.header.compression() != Compression::None {
                let kind = DecodeErrorKind::Invalid("batch or compressed message in a message");
                observe(start, "", kind);
                continue;
            }
            if let Err(error) = message.check_crc() {
                observe(error.byte_offset, "crc", error.kind);
            }
            let payload_at = start + message.bytes.len() - message.payload().len();
            let mut record = record(&message, payload_at, start, observe);
            record.offset = Offset(self.offset_base.saturating_add(record.offset.0));
            record.timestamp = self.log_append_time.unwrap_or(record.timestamp);
            return Some(record);
        }
    }
}

/// The compressed bytes in a wrapper's value.
pub(super) fn wrapped<'a>(batch: &Batch<'a>, errors: &mut Vec<DecodeError>) -> Option<&'a [u8]> {
    let before = batch.bytes.len() - batch.payload().len();
    let mut observe = |at: usize, field: &str, kind| errors.push(batch.fault(at, field, kind));
    let (_, value) = key_and_value(batch.payload(), before, &mut observe);
    if value.is_none() {
        observe(before, "value", DecodeErrorKind::UnexpectedNull);
    }
    value
}

fn record<'a>(
    message: &Batch<'a>,
    payload_at: usize,
    byte_offset: usize,
    observe: &mut Observe<'_>,
) -> Record<'a> {
    let (key, value) = key_and_value(message.payload(), payload_at, observe);
    Record {
        offset: message.header.base_offset,
        timestamp: message.header.max_timestamp,
        key,
        value,
        headers: Headers::default(),
        byte_offset,
        byte_length: message.bytes.len(),
        attributes: 0,
    }
}

fn key_and_value<'a>(
    payload: &'a [u8],
    payload_at: usize,
    observe: &mut Observe<'_>,
) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    let mut at = 0;
    let mut field = |name: &str| match nullable_bytes(payload, &mut at) {
        Ok(bytes) => Some(bytes),
        Err(kind) => {
            observe(payload_at + at, name, kind);
            None
        }
    };
    let Some(key) = field("key") else { return (None, None) };
    let Some(value) = field("value") else { return (key, None) };
    if payload.len() > at {
        observe(payload_at + at, "", DecodeErrorKind::TrailingBytes(payload.len() - at));
    }
    (key, value)
}

fn nullable_bytes<'a>(
    payload: &'a [u8],
    at: &mut usize,
) -> Result<Option<&'a [u8]>, DecodeErrorKind> {
    let rest = payload.get(*at..).unwrap_or_default();
    let Some((length, rest)) = rest.split_first_chunk::<4>() else {
        return Err(DecodeErrorKind::Truncated { needed: 4, available: rest.len() });
    };
    let length = i32::from_be_bytes(*length);
    let Ok(length_bytes) = usize::try_from(length) else {
        if length < -1 {
            return Err(DecodeErrorKind::NegativeLength(length.into()));
        }
        *at += 4;
        return Ok(None);
    };
    match rest.get(..length_bytes) {
        Some(bytes) => {
            *at += 4 + length_bytes;
            Ok(Some(bytes))
        }
        None => Err(DecodeErrorKind::Truncated { needed: length_bytes, available: rest.len() }),
    }
}
