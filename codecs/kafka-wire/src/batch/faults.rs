//! What the records of a batch show to be wrong, worked out off the path of those that are right.
//!
//! The functions here are calls on purpose: the visitor of records stays small, and its cursors in
//! registers.

use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::Offset;

use super::header::position;
use super::records::{OBSERVATIONS_MAX, RECORD_BYTES_MIN, Records};
use super::varint::{Cursor, Wanted, why_not};

impl Records<'_> {
    #[inline(never)]
    pub(super) fn odd_offset(&mut self, left: usize, before: i32, delta: i32) -> Offset {
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

    #[cold]
    #[inline(never)]
    pub(super) fn observe_header_count(&mut self, left: usize, count: i32) {
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
    pub(super) fn observe_oddities(
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
            self.cursor.forget_padded();
        }
        if let Some(at) = body_start.checked_add(padded_at) {
            self.observe(at, "", DecodeErrorKind::Invalid(padded));
        }
    }

    /// The totals of the header against what the records add up to.
    #[cold]
    #[inline(never)]
    pub(super) fn end(&mut self) {
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
    pub(super) fn end_negative<T>(&mut self, at: usize, length: i32) -> Option<T> {
        self.end_by(at, DecodeErrorKind::NegativeLength(length.into()))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn end_at<T>(&mut self, at: usize, wanted: Wanted) -> Option<T> {
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
    pub(super) fn lose<T>(&mut self, left: usize, field: &str, wanted: Wanted) -> Option<T> {
        self.observe_left(left, field, why_not(left, wanted));
        None
    }

    /// A fault of bytes, with so much of the record left before and behind their length.
    #[cold]
    #[inline(never)]
    pub(super) fn lose_bytes<T>(
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
    pub(super) fn observe_left(&mut self, left: usize, field: &str, kind: DecodeErrorKind) {
        self.observe(self.cursor.at() - left, field, kind);
    }

    /// A fault of the record being visited, at a position in the bytes of the records.
    #[cold]
    #[inline(never)]
    pub(super) fn observe(&mut self, at: usize, field: &str, kind: DecodeErrorKind) {
        let dot = if field.is_empty() { "" } else { "." };
        let (index, inside, record) = (self.batch.index, self.inside(), self.visited());
        let path = format!("batches[{index}]{inside}.records[{record}]{dot}{field}");
        self.push(DecodeError { byte_offset: self.origin + at, path, kind });
    }

    pub(super) fn observe_header(&mut self, at: usize, field: &str, kind: DecodeErrorKind) {
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
}
