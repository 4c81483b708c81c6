//! One batch into its records, and everything the records show to be wrong.
//!
//! A fault inside one record loses that record and no other: its length says where the next one
//! begins. A fault of that length ends the batch.

use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::Offset;

use super::attributes::{Compression, TimestampType};
use super::compression::Scratch;
use super::header::position;
use super::iter::Batch;
use super::message_set::MessageSet;
use super::record::{Headers, Record};
use super::varint::{Cursor, VARINT_BYTES_MAX, VARLONG_BYTES_MAX, Wanted};

const VARINT: Wanted = Wanted::Integer(VARINT_BYTES_MAX);
const VARLONG: Wanted = Wanted::Integer(VARLONG_BYTES_MAX);

/// Faults kept of one batch; a hostile batch of a megabyte could hold a hundred thousand.
pub const OBSERVATIONS_MAX: usize = 64;

/// Smallest record: a length, and six bytes that each say zero or null.
pub(super) const RECORD_BYTES_MIN: usize = 7;

/// The records of one batch in order; faults are kept beside them.
///
/// [`Records::errors`] is complete once the iterator has ended, [`Records::finish`] ends it.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    pub(super) batch: Batch<'a>,
    pub(super) cursor: Cursor<'a>,
    /// Where the cursor's bytes begin in the field; 0 where they were decompressed.
    pub(super) origin: usize,
    pub(super) decompressed: bool,
    pub(super) as_produced: bool,
    /// The declared count, or no end where that is negative.
    pub(super) expected: usize,
    /// How many of them are still to visit.
    pub(super) remaining: usize,
    /// Fixed where the broker set the timestamps.
    pub(super) log_append_time: Option<i64>,
    pub(super) offset_delta_last: i32,
    pub(super) timestamp_max: i64,
    /// Whether every record so far was understood, so that totals mean something.
    pub(super) totals: bool,
    pub(super) ended: bool,
    pub(super) message_set: Option<MessageSet<'a>>,
    pub(super) errors: Vec<DecodeError>,
}

impl<'a> Records<'a> {
    pub(super) fn of<'f: 'a>(batch: &Batch<'f>, scratch: &'a mut Scratch) -> Self {
        if let Some(records) = Self::plain(batch) {
            return records;
        }
        let mut errors = Vec::new();
        let compressed = match batch.header.magic {
            2 => Some(batch.payload()),
            _ => super::message_set::wrapped(batch, &mut errors),
        };
        let compression = batch.header.compression();
        let (bytes, fault) = scratch.decompress(compression, compressed.unwrap_or_default());
        let mut records = Self::over(batch, bytes, 0);
        records.decompressed = true;
        records.errors = errors;
        if let Some(kind) = fault.filter(|_| compressed.is_some()) {
            records.errors.push(batch.fault(
                batch.bytes.len() - batch.payload().len(),
                "records",
                kind,
            ));
            records.totals = false;
        }
        if batch.header.magic < 2 {
            records.message_set = Some(MessageSet::wrapped_in(batch, bytes));
        }
        records
    }

    pub(super) fn plain(batch: &Batch<'a>) -> Option<Self> {
        if batch.header.compression() != Compression::None {
            return None;
        }
        let payload = batch.payload();
        let origin = batch.byte_offset + batch.bytes.len() - payload.len();
        let mut records = Self::over(batch, payload, origin);
        if batch.header.magic < 2 {
            records.message_set = Some(MessageSet::one(batch));
        }
        Some(records)
    }

    fn over(batch: &Batch<'a>, bytes: &'a [u8], origin: usize) -> Self {
        let header = &batch.header;
        let log_append_time = (header.timestamp_type() == TimestampType::LogAppendTime)
            .then_some(header.max_timestamp);
        let (bytes, expected) = match usize::try_from(header.record_count) {
            // Messages are visited through the message set.
            _ if header.magic < 2 => (&[][..], usize::MAX),
            Ok(count) => (bytes, count),
            Err(_) => (bytes, usize::MAX),
        };
        let mut records = Self {
            batch: *batch,
            cursor: Cursor::new(bytes),
            origin,
            decompressed: false,
            as_produced: false,
            expected,
            remaining: expected,
            log_append_time,
            offset_delta_last: -1,
            timestamp_max: i64::MIN,
            totals: true,
            ended: false,
            message_set: None,
            errors: Vec::new(),
        };
        if header.record_count < 0 && header.magic >= 2 {
            let kind = DecodeErrorKind::NegativeLength(header.record_count.into());
            records.observe_header(position::RECORD_COUNT, "record_count", kind);
        }
        records
    }

    /// Asks in addition what a broker asks of a batch it is to append (see
    /// [`Batch::check_produced`]). To be said before the first record.
    #[must_use]
    pub fn as_produced(mut self) -> Self {
        self.as_produced = true;
        self
    }

    /// What is wrong, as far as visited.
    #[must_use]
    pub fn errors(&self) -> &[DecodeError] {
        &self.errors
    }

    /// Visits what is left and returns everything that is wrong.
    #[must_use]
    pub fn finish(mut self) -> Vec<DecodeError> {
        self.by_ref().for_each(drop);
        self.errors
    }

    /// How many records were visited, those that were not understood included.
    #[must_use]
    pub fn visited(&self) -> usize {
        self.expected - self.remaining
    }

    /// No loop here, so that the record is put together where the caller wants it.
    #[inline(always)]
    fn next_record(&mut self) -> Option<Record<'a>> {
        if self.remaining == 0 || self.cursor.left() == 0 {
            return apart(self.next_at_end());
        }
        let (start, body) = self.next_body()?;
        let record = self.record(start, body);
        self.remaining -= 1;
        if record.is_some() { record } else { apart(self.next_after_fault()) }
    }

    /// No record of magic 2 is left: the end, or a message set, which never had any.
    #[cold]
    #[inline(never)]
    fn next_at_end(&mut self) -> Option<Record<'a>> {
        match self.message_set {
            Some(_) => self.next_message(),
            None => {
                self.end();
                None
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn next_after_fault(&mut self) -> Option<Record<'a>> {
        loop {
            self.totals = false;
            if self.remaining == 0 || self.cursor.left() == 0 {
                return self.next_at_end();
            }
            let (start, body) = self.next_body()?;
            let record = self.record(start, body);
            self.remaining -= 1;
            if record.is_some() {
                return record;
            }
        }
    }

    /// Where the next record begins, and what follows its length; the cursor is behind it then.
    #[inline(always)]
    fn next_body(&mut self) -> Option<(usize, &'a [u8])> {
        let start = self.cursor.at();
        let Some(length) = self.cursor.varint() else {
            return self.end_at(start, VARINT);
        };
        let Ok(length_bytes) = usize::try_from(length) else {
            return self.end_negative(start, length);
        };
        match self.cursor.take(length_bytes) {
            Some(body) => Some((start, body)),
            None => self.end_at(start, Wanted::Bytes(length_bytes)),
        }
    }

    /// The fields of a record: attributes, timestamp and offset deltas, key, value, headers.
    ///
    /// Faults are placed by how much of the record was left, so that no position is counted for
    /// the records that have none.
    #[inline(always)]
    fn record(&mut self, start: usize, body: &'a [u8]) -> Option<Record<'a>> {
        let mut cursor = Cursor::new(body);
        let Some(attributes) = cursor.byte() else {
            return self.lose(0, "attributes", Wanted::Bytes(1));
        };
        let left = cursor.left();
        let Some(timestamp_delta) = cursor.varlong() else {
            return self.lose(left, "timestamp_delta", VARLONG);
        };
        let timestamp = self.timestamp(left, timestamp_delta);
        let left = cursor.left();
        let Some(offset_delta) = cursor.varint() else {
            return self.lose(left, "offset_delta", VARINT);
        };
        let offset = self.offset(left, offset_delta);
        let key = self.bytes(&mut cursor, "key")?;
        let value = self.bytes(&mut cursor, "value")?;
        let headers = self.headers(&mut cursor);
        let attributes = attributes as i8;
        if attributes != 0 || cursor.is_padded() | self.cursor.is_padded() {
            self.observe_oddities(start, body.len(), attributes, cursor.padded_at());
        }
        Some(Record {
            offset,
            timestamp,
            key,
            value,
            headers,
            byte_offset: self.origin + start,
            byte_length: self.cursor.at() - start,
            attributes,
        })
    }

    #[inline(always)]
    fn timestamp(&mut self, left: usize, delta: i64) -> i64 {
        let base = self.batch.header.base_timestamp;
        let Some(timestamp) = base.checked_add(delta) else {
            let kind = DecodeErrorKind::Invalid("timestamp beyond 64 bits");
            self.observe_left(left, "timestamp_delta", kind);
            return base.saturating_add(delta);
        };
        self.timestamp_max = self.timestamp_max.max(timestamp);
        self.log_append_time.unwrap_or(timestamp)
    }

    #[inline(always)]
    fn offset(&mut self, left: usize, delta: i32) -> Offset {
        let before = self.offset_delta_last;
        self.offset_delta_last = delta;
        // Nearly every record: one further than the one before, and not past the end of the range.
        match self.batch.header.base_offset.0.checked_add(delta.into()) {
            Some(offset) if delta.wrapping_sub(before) == 1 && delta >= 0 => Offset(offset),
            _ => self.odd_offset(left, before, delta),
        }
    }

    /// A key or value; every negative length reads as null, as Kafka reads it, but only −1 says so.
    #[inline(always)]
    fn bytes(&mut self, cursor: &mut Cursor<'a>, field: &'static str) -> Option<Option<&'a [u8]>> {
        let left = cursor.left();
        let Some(length) = cursor.varint() else {
            return self.lose(left, field, VARINT);
        };
        if let Ok(length) = usize::try_from(length) {
            return match cursor.take(length) {
                Some(bytes) => Some(Some(bytes)),
                None => self.lose_bytes(left, cursor.left(), field, length),
            };
        }
        if length < -1 {
            self.observe_left(left, field, DecodeErrorKind::NegativeLength(length.into()));
        }
        Some(None)
    }

    /// The headers and the end of the record; what is understood of them is kept.
    #[inline(always)]
    fn headers(&mut self, cursor: &mut Cursor<'a>) -> Headers<'a> {
        let left = cursor.left();
        let Some(count) = cursor.varint() else {
            let _: Option<()> = self.lose(left, "headers", VARINT);
            return Headers::default();
        };
        let bytes = cursor.rest();
        // A header has two bytes at least.
        let Some(count) = u32::try_from(count).ok().filter(|&n| n as usize <= bytes.len() / 2)
        else {
            self.observe_header_count(left, count);
            return Headers::default();
        };
        for understood in 0..count {
            match self.header(cursor, understood) {
                Some(after) => *cursor = after,
                None => return Headers::visited(bytes, understood),
            }
        }
        if cursor.left() > 0 {
            let kind = DecodeErrorKind::TrailingBytes(cursor.left());
            self.observe_left(cursor.left(), "", kind);
        }
        Headers::visited(bytes, count)
    }

    /// Passes over a header: where both lengths are short, which is nearly always, without a call.
    #[inline(always)]
    fn header(&mut self, cursor: &Cursor<'a>, index: u32) -> Option<Cursor<'a>> {
        let mut quick = cursor.clone();
        if quick.short_bytes().is_some() && quick.short_bytes().is_some() {
            return Some(quick);
        }
        self.long_header(cursor.clone(), index)
    }

    #[inline(never)]
    fn long_header(&mut self, mut cursor: Cursor<'a>, index: u32) -> Option<Cursor<'a>> {
        for field in ["key", "value"] {
            let left = cursor.left();
            let path = |field| format!("headers[{index}].{field}");
            let Some(length) = cursor.varint() else {
                return self.lose(left, &path(field), VARINT);
            };
            if let Ok(length) = usize::try_from(length) {
                if cursor.take(length).is_none() {
                    return self.lose_bytes(left, cursor.left(), &path(field), length);
                }
            } else if field == "key" || length < -1 {
                let kind = DecodeErrorKind::NegativeLength(length.into());
                self.observe_left(left, &path(field), kind);
                if field == "key" {
                    return None;
                }
            }
        }
        Some(cursor)
    }

    #[inline(never)]
    fn next_message(&mut self) -> Option<Record<'a>> {
        let mut set = self.message_set.take()?;
        let message = set.next(&mut |at, field, kind| self.observe(at, field, kind));
        self.remaining -= usize::from(message.is_some());
        self.message_set = Some(set);
        message
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        self.next_record()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = self.remaining.min(1 + self.cursor.left() / RECORD_BYTES_MIN);
        (0, self.message_set.is_none().then_some(most))
    }
}

/// The same record, field by field. Records that come back from a call are in memory; without this
/// the compiler puts those that do not into the same memory, and reads them back from there.
#[inline(always)]
fn apart(record: Option<Record<'_>>) -> Option<Record<'_>> {
    let Record { offset, timestamp, key, value, headers, byte_offset, byte_length, attributes } =
        record?;
    Some(Record { offset, timestamp, key, value, headers, byte_offset, byte_length, attributes })
}
