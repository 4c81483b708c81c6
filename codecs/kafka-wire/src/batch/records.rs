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
use super::varint::{Cursor, VARINT_BYTES_MAX, VARLONG_BYTES_MAX, Wanted, why_not};

const VARINT: Wanted = Wanted::Integer(VARINT_BYTES_MAX);
const VARLONG: Wanted = Wanted::Integer(VARLONG_BYTES_MAX);

/// Faults kept of one batch; a hostile batch of a megabyte could hold a hundred thousand.
pub const OBSERVATIONS_MAX: usize = 64;

/// Smallest record: a length, and six bytes that each say zero or null.
const RECORD_BYTES_MIN: usize = 7;

/// The records of one batch in order; faults are kept beside them.
///
/// [`Records::errors`] is complete once the iterator has ended, [`Records::finish`] ends it.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    batch: Batch<'a>,
    cursor: Cursor<'a>,
    /// Where the cursor's bytes begin in the field; 0 where they were decompressed.
    origin: usize,
    decompressed: bool,
    as_produced: bool,
    /// The declared count, or no end where that is negative.
    expected: usize,
    /// How many of them are still to visit.
    remaining: usize,
    /// Fixed where the broker set the timestamps.
    log_append_time: Option<i64>,
    offset_delta_last: i32,
    timestamp_max: i64,
    /// Whether every record so far was understood, so that totals mean something.
    totals: bool,
    ended: bool,
    message_set: Option<MessageSet<'a>>,
    errors: Vec<DecodeError>,
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

    #[inline(never)]
    fn odd_offset(&mut self, left: usize, before: i32, delta: i32) -> Offset {
        if delta <= before {
            let kind = DecodeErrorKind::Invalid("offset not above the one before");
            self.observe_left(left, "offset_delta", kind);
        } else if self.as_produced && delta != before + 1 {
            let kind = DecodeErrorKind::Invalid("gap in the offsets");
            self.observe_left(left, "offset_delta", kind);
        }
        let base = self.batch.header.base_offset.0;
        Offset(base.checked_add(delta.into()).unwrap_or_else(|| {
            let kind = DecodeErrorKind::Invalid("offset beyond 64 bits");
            self.observe_left(left, "offset_delta", kind);
            base.saturating_add(delta.into())
        }))
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

    #[cold]
    #[inline(never)]
    fn observe_header_count(&mut self, left: usize, count: i32) {
        let count = i64::from(count);
        let kind = if count < 0 {
            DecodeErrorKind::NegativeLength(count)
        } else {
            DecodeErrorKind::CountImpossible(count)
        };
        self.observe_left(left, "headers", kind);
    }

    #[cold]
    #[inline(never)]
    fn observe_oddities(
        &mut self,
        start: usize,
        body_length: usize,
        attributes: i8,
        padded_at: usize,
    ) {
        let body_start = self.cursor.at() - body_length;
        if attributes != 0 {
            let kind = DecodeErrorKind::Invalid("reserved bits are set");
            self.observe(body_start, "attributes", kind);
        }
        let padded = "variable-length integer longer than it need be";
        if self.cursor.padded_at() == start {
            self.observe(start, "length", DecodeErrorKind::Invalid(padded));
        }
        if let Some(at) = body_start.checked_add(padded_at) {
            self.observe(at, "", DecodeErrorKind::Invalid(padded));
        }
    }

    /// The totals of the header against what the records add up to.
    #[cold]
    #[inline(never)]
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) || !self.totals {
            return;
        }
        if !self.count_is_right() {
            return;
        }
        let header = self.batch.header;
        let stated = i64::from(header.last_offset_delta);
        // Compaction removes records and leaves the delta, so a log's may be above the last record.
        let found = i64::from(self.offset_delta_last);
        if found > stated || self.as_produced && stated != self.visited() as i64 - 1 {
            let found = if self.as_produced { self.visited() as i64 - 1 } else { found };
            let kind = DecodeErrorKind::Mismatch { stated, found };
            self.observe_header(position::LAST_OFFSET_DELTA, "last_offset_delta", kind);
        }
        let (stated, found) = (header.max_timestamp, self.timestamp_max);
        if self.log_append_time.is_none() && self.visited() > 0 && stated != found {
            let kind = DecodeErrorKind::Mismatch { stated, found };
            self.observe_header(position::MAX_TIMESTAMP, "max_timestamp", kind);
        }
    }

    /// Whether there are as many records as stated; where not, no other total can be right.
    fn count_is_right(&mut self) -> bool {
        if self.batch.header.record_count < 0 {
            return true;
        }
        let found = self.visited() + self.uncounted_records().unwrap_or(0);
        if found != self.expected {
            let (stated, found) = (self.expected as i64, found as i64);
            let kind = DecodeErrorKind::Mismatch { stated, found };
            self.observe_header(position::RECORD_COUNT, "record_count", kind);
            return false;
        }
        if self.cursor.left() > 0 {
            let kind = DecodeErrorKind::TrailingBytes(self.cursor.left());
            let byte_offset = self.origin + self.cursor.at();
            let path = format!("batches[{}]{}", self.batch.index, self.inside());
            self.push(DecodeError { byte_offset, path, kind });
        }
        true
    }

    /// How many records the bytes after the last counted one are; absent where they are none.
    fn uncounted_records(&self) -> Option<usize> {
        let mut cursor = self.cursor.clone();
        let mut records = 0;
        while cursor.left() > 0 {
            let length = usize::try_from(cursor.varint()?).ok()?;
            let body = cursor.take(length)?;
            if body.len() < RECORD_BYTES_MIN - 1 {
                return None;
            }
            records += 1;
        }
        Some(records)
    }

    #[cold]
    #[inline(never)]
    fn end_negative<T>(&mut self, at: usize, length: i32) -> Option<T> {
        self.end_by(at, DecodeErrorKind::NegativeLength(length.into()))
    }

    #[cold]
    #[inline(never)]
    fn end_at<T>(&mut self, at: usize, wanted: Wanted) -> Option<T> {
        self.end_by(at, why_not(self.cursor.left(), wanted))
    }

    fn end_by<T>(&mut self, at: usize, kind: DecodeErrorKind) -> Option<T> {
        self.ended = true;
        self.cursor = Cursor::new(&[]);
        // After a fault of the decompression the bytes end anywhere: that was said already.
        let cut_by_decompression =
            !self.totals && self.decompressed && matches!(kind, DecodeErrorKind::Truncated { .. });
        if !cut_by_decompression {
            self.observe(at, "length", kind);
        }
        None
    }

    /// A fault of an integer, with so much of the record left before it.
    #[cold]
    #[inline(never)]
    fn lose<T>(&mut self, left: usize, field: &str, wanted: Wanted) -> Option<T> {
        self.observe_left(left, field, why_not(left, wanted));
        None
    }

    /// A fault of bytes, with so much of the record left before and behind their length.
    #[cold]
    #[inline(never)]
    fn lose_bytes<T>(
        &mut self,
        left: usize,
        left_behind: usize,
        field: &str,
        length: usize,
    ) -> Option<T> {
        self.observe_left(left, field, why_not(left_behind, Wanted::Bytes(length)));
        None
    }

    /// A fault of the record before the cursor, with so much of it left.
    #[cold]
    #[inline(never)]
    fn observe_left(&mut self, left: usize, field: &str, kind: DecodeErrorKind) {
        self.observe(self.cursor.at() - left, field, kind);
    }

    /// A fault of the record being visited, at a position in the bytes of the records.
    #[cold]
    #[inline(never)]
    fn observe(&mut self, at: usize, field: &str, kind: DecodeErrorKind) {
        let dot = if field.is_empty() { "" } else { "." };
        let (index, inside, record) = (self.batch.index, self.inside(), self.visited());
        let path = format!("batches[{index}]{inside}.records[{record}]{dot}{field}");
        self.push(DecodeError { byte_offset: self.origin + at, path, kind });
    }

    fn observe_header(&mut self, at: usize, field: &str, kind: DecodeErrorKind) {
        self.push(self.batch.fault(at, field, kind));
    }

    fn push(&mut self, error: DecodeError) {
        match self.errors.len() {
            OBSERVATIONS_MAX.. => {}
            n if n + 1 == OBSERVATIONS_MAX => {
                let kind = DecodeErrorKind::Invalid("more is wrong here than is kept");
                self.errors.push(DecodeError { kind, ..error });
            }
            _ => self.errors.push(error),
        }
    }

    fn inside(&self) -> &'static str {
        if self.decompressed { ".decompressed" } else { "" }
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
