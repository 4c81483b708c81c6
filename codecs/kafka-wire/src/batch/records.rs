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
    /// How many to visit: the declared count, unless that is negative.
    expected: usize,
    visited: usize,
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
        let mut records = Self {
            batch: *batch,
            cursor: Cursor::new(bytes),
            origin,
            decompressed: false,
            as_produced: false,
            expected: usize::try_from(header.record_count).unwrap_or(usize::MAX),
            visited: 0,
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
        self.visited
    }

    /// No loop here, so that the record is put together where the caller wants it.
    #[inline(always)]
    fn next_record(&mut self) -> Option<Record<'a>> {
        let (start, body) = self.next_body()?;
        let record = self.record(start, body);
        self.visited += 1;
        if record.is_some() { record } else { self.next_after_fault() }
    }

    #[cold]
    #[inline(never)]
    fn next_after_fault(&mut self) -> Option<Record<'a>> {
        loop {
            self.totals = false;
            let (start, body) = self.next_body()?;
            let record = self.record(start, body);
            self.visited += 1;
            if record.is_some() {
                return record;
            }
        }
    }

    /// Where the next record begins, and what follows its length; the cursor is behind it then.
    #[inline(always)]
    fn next_body(&mut self) -> Option<(usize, &'a [u8])> {
        if self.visited >= self.expected || self.cursor.left() == 0 || self.ended {
            self.end();
            return None;
        }
        let start = self.cursor.at();
        let Some(length) = self.cursor.varint() else {
            return self.end_at(start, self.cursor.why_not(VARINT));
        };
        let Ok(length) = usize::try_from(length) else {
            return self.end_at(start, DecodeErrorKind::NegativeLength(length.into()));
        };
        match self.cursor.take(length) {
            Some(body) => Some((start, body)),
            None => self.end_at(start, self.cursor.why_not(Wanted::Bytes(length))),
        }
    }

    /// The fields of a record: attributes, timestamp and offset deltas, key, value, headers.
    #[inline(always)]
    fn record(&mut self, start: usize, body: &'a [u8]) -> Option<Record<'a>> {
        let body_start = self.cursor.at() - body.len();
        let mut cursor = Cursor::new(body);
        let Some(attributes) = cursor.byte() else {
            return self.lose(body_start, "attributes", cursor.why_not(Wanted::Bytes(1)));
        };
        let at = body_start + cursor.at();
        let Some(timestamp_delta) = cursor.varlong() else {
            return self.lose(at, "timestamp_delta", cursor.why_not(VARLONG));
        };
        let timestamp = self.timestamp(at, timestamp_delta);
        let at = body_start + cursor.at();
        let Some(offset_delta) = cursor.varint() else {
            return self.lose(at, "offset_delta", cursor.why_not(VARINT));
        };
        let offset = self.offset(at, offset_delta);
        let key = self.bytes(&mut cursor, body_start, "key")?;
        let value = self.bytes(&mut cursor, body_start, "value")?;
        let headers = self.headers(&mut cursor, body_start);
        let attributes = attributes as i8;
        if attributes != 0 || cursor.is_padded() || self.cursor.is_padded() {
            self.observe_oddities(start, body_start, attributes, cursor.padded_at());
        }
        Some(Record {
            offset,
            timestamp,
            key,
            value,
            headers,
            byte_offset: self.origin + start,
            byte_length: body_start + body.len() - start,
            attributes,
        })
    }

    #[inline(always)]
    fn timestamp(&mut self, at: usize, delta: i64) -> i64 {
        let base = self.batch.header.base_timestamp;
        let Some(timestamp) = base.checked_add(delta) else {
            let kind = DecodeErrorKind::Invalid("timestamp beyond 64 bits");
            self.observe(at, "timestamp_delta", kind);
            return base.saturating_add(delta);
        };
        self.timestamp_max = self.timestamp_max.max(timestamp);
        self.log_append_time.unwrap_or(timestamp)
    }

    #[inline(always)]
    fn offset(&mut self, at: usize, delta: i32) -> Offset {
        let before = self.offset_delta_last;
        if delta <= before {
            let kind = DecodeErrorKind::Invalid("offset not above the one before");
            self.observe(at, "offset_delta", kind);
        } else if self.as_produced && delta != before + 1 {
            self.observe(at, "offset_delta", DecodeErrorKind::Invalid("gap in the offsets"));
        }
        self.offset_delta_last = delta;
        let base = self.batch.header.base_offset.0;
        Offset(base.checked_add(delta.into()).unwrap_or_else(|| {
            let kind = DecodeErrorKind::Invalid("offset beyond 64 bits");
            self.observe(at, "offset_delta", kind);
            base.saturating_add(delta.into())
        }))
    }

    /// A key or value; every negative length reads as null, as Kafka reads it, but only −1 says so.
    #[inline(always)]
    fn bytes(
        &mut self,
        cursor: &mut Cursor<'a>,
        body_start: usize,
        field: &'static str,
    ) -> Option<Option<&'a [u8]>> {
        let at = body_start + cursor.at();
        let Some(length) = cursor.varint() else {
            return self.lose(at, field, cursor.why_not(VARINT));
        };
        if let Ok(length) = usize::try_from(length) {
            return match cursor.take(length) {
                Some(bytes) => Some(Some(bytes)),
                None => self.lose(at, field, cursor.why_not(Wanted::Bytes(length))),
            };
        }
        if length < -1 {
            self.observe(at, field, DecodeErrorKind::NegativeLength(length.into()));
        }
        Some(None)
    }

    /// The headers and the end of the record; what is understood of them is kept.
    #[inline(always)]
    fn headers(&mut self, cursor: &mut Cursor<'a>, body_start: usize) -> Headers<'a> {
        let at = body_start + cursor.at();
        let Some(count) = cursor.varint() else {
            self.observe(at, "headers", cursor.why_not(VARINT));
            return Headers::default();
        };
        let bytes = cursor.rest();
        let count = match u32::try_from(count) {
            Ok(count) if count as usize <= cursor.left() / 2 => count,
            Ok(_) => {
                self.observe(at, "headers", DecodeErrorKind::CountImpossible(count.into()));
                return Headers::default();
            }
            Err(_) => {
                self.observe(at, "headers", DecodeErrorKind::NegativeLength(count.into()));
                return Headers::default();
            }
        };
        for understood in 0..count {
            if self.header(cursor, body_start, understood).is_none() {
                return Headers::visited(bytes, understood);
            }
        }
        if cursor.left() > 0 {
            let kind = DecodeErrorKind::TrailingBytes(cursor.left());
            self.observe(body_start + cursor.at(), "", kind);
        }
        Headers::visited(bytes, count)
    }

    #[inline(always)]
    fn header(&mut self, cursor: &mut Cursor<'a>, body_start: usize, index: u32) -> Option<()> {
        let at = body_start + cursor.at();
        let Some(length) = cursor.varint() else {
            return self.lose_header(at, index, "key", cursor.why_not(VARINT));
        };
        let Ok(length) = usize::try_from(length) else {
            let kind = DecodeErrorKind::NegativeLength(length.into());
            return self.lose_header(at, index, "key", kind);
        };
        if cursor.take(length).is_none() {
            let kind = cursor.why_not(Wanted::Bytes(length));
            return self.lose_header(at, index, "key", kind);
        }
        let at = body_start + cursor.at();
        let Some(length) = cursor.varint() else {
            return self.lose_header(at, index, "value", cursor.why_not(VARINT));
        };
        if let Ok(length) = usize::try_from(length) {
            if cursor.take(length).is_none() {
                let kind = cursor.why_not(Wanted::Bytes(length));
                return self.lose_header(at, index, "value", kind);
            }
        } else if length < -1 {
            let kind = DecodeErrorKind::NegativeLength(length.into());
            let _: Option<()> = self.lose_header(at, index, "value", kind);
        }
        Some(())
    }

    #[cold]
    #[inline(never)]
    fn lose_header(
        &mut self,
        at: usize,
        index: u32,
        field: &str,
        kind: DecodeErrorKind,
    ) -> Option<()> {
        self.lose(at, &format!("headers[{index}].{field}"), kind)
    }

    #[cold]
    #[inline(never)]
    fn observe_oddities(
        &mut self,
        start: usize,
        body_start: usize,
        attributes: i8,
        padded_at: usize,
    ) {
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
        if found > stated || self.as_produced && stated != self.visited as i64 - 1 {
            let found = if self.as_produced { self.visited as i64 - 1 } else { found };
            let kind = DecodeErrorKind::Mismatch { stated, found };
            self.observe_header(position::LAST_OFFSET_DELTA, "last_offset_delta", kind);
        }
        let (stated, found) = (header.max_timestamp, self.timestamp_max);
        if self.log_append_time.is_none() && self.visited > 0 && stated != found {
            let kind = DecodeErrorKind::Mismatch { stated, found };
            self.observe_header(position::MAX_TIMESTAMP, "max_timestamp", kind);
        }
    }

    /// Whether there are as many records as stated; where not, no other total can be right.
    fn count_is_right(&mut self) -> bool {
        if self.batch.header.record_count < 0 {
            return true;
        }
        let found = self.visited + self.uncounted_records().unwrap_or(0);
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
    fn end_at<T>(&mut self, at: usize, kind: DecodeErrorKind) -> Option<T> {
        self.ended = true;
        // After a fault of the decompression the bytes end anywhere: that was said already.
        let cut_by_decompression =
            !self.totals && self.decompressed && matches!(kind, DecodeErrorKind::Truncated { .. });
        if !cut_by_decompression {
            self.observe(at, "length", kind);
        }
        None
    }

    #[cold]
    #[inline(never)]
    fn lose<T>(&mut self, at: usize, field: &str, kind: DecodeErrorKind) -> Option<T> {
        self.observe(at, field, kind);
        None
    }

    /// A fault of the record being visited, at a position in the bytes of the records.
    #[cold]
    #[inline(never)]
    fn observe(&mut self, at: usize, field: &str, kind: DecodeErrorKind) {
        let dot = if field.is_empty() { "" } else { "." };
        let (index, inside, record) = (self.batch.index, self.inside(), self.visited);
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
        self.visited += usize::from(message.is_some());
        self.message_set = Some(set);
        message
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        if self.message_set.is_some() { self.next_message() } else { self.next_record() }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.expected.min(1 + self.cursor.left() / RECORD_BYTES_MIN)))
    }
}
