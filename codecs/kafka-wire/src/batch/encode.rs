//! Records into one batch of magic 2, into a buffer of the caller's, right unless told otherwise.
//!
//! Whatever a batch states can be overruled ([`StatedInBatch`], [`StatedInRecord`]): the lie is
//! written, lengths and the CRC around it still fit, unless they are overruled too. One call makes
//! one batch, whatever the sequence.
//!
//! ```
//! use kafka_wire::batch::{BatchBuilder, BatchIter, NewRecord, Scratch, StatedInBatch};
//! use kafka_wire::ids::{ProducerEpoch, ProducerId, Sequence};
//!
//! let builder = BatchBuilder {
//!     producer_id: ProducerId(4000),
//!     producer_epoch: ProducerEpoch(0),
//!     base_sequence: Sequence(0),
//!     stated: StatedInBatch { record_count: Some(7), ..Default::default() },
//!     ..Default::default()
//! };
//! let mut scratch = Scratch::new();
//! let mut field = bytes::BytesMut::new();
//! builder.encode([NewRecord::of(b"one")], &mut scratch, &mut field);
//!
//! let batch = BatchIter::new(&field).next().unwrap().unwrap();
//! let errors = batch.check(&mut scratch);
//! assert_eq!(errors[0].to_string(), "7 stated, 1 found at byte 57 (batches[0].record_count)");
//! assert_eq!(errors.len(), 1);
//! ```

use std::ops::Range;

use bytes::BytesMut;

use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

use super::attributes::{Attributes, Compression};
use super::compression::Scratch;
use super::header::{
    BATCH_HEADER_BYTES, BatchHeader, LENGTH_PREFIX_BYTES, NO_TIMESTAMP, crc_v2, position,
};
use super::record::Header;
use super::varint::{encoded_bytes, put, zigzag};

mod sealed {
    pub trait Sealed {}
    impl Sealed for Vec<u8> {}
    impl Sealed for bytes::BytesMut {}
}

/// A buffer that grows and whose written part can be written again: `Vec<u8>` or `BytesMut`.
pub trait Output: sealed::Sealed + AsMut<[u8]> + AsRef<[u8]> {
    /// Writes at the end.
    fn extend(&mut self, bytes: &[u8]);
    /// Forgets what is behind `length`.
    fn cut(&mut self, length: usize);
}

impl Output for Vec<u8> {
    #[inline(always)]
    fn extend(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn cut(&mut self, length: usize) {
        self.truncate(length);
    }
}

impl Output for BytesMut {
    #[inline(always)]
    fn extend(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn cut(&mut self, length: usize) {
        self.truncate(length);
    }
}

/// What a batch is to say. The default is a batch that is neither compressed nor idempotent, with
/// offsets from 0.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    /// Offset of the first record; a producer writes 0.
    pub base_offset: Offset,
    /// A producer writes −1.
    pub partition_leader_epoch: LeaderEpoch,
    /// Codec, which is applied, timestamp type and flags.
    pub attributes: Attributes,
    /// What timestamps are counted from; by default the first record's.
    pub base_timestamp: Option<i64>,
    /// Who writes.
    pub producer_id: ProducerId,
    /// Which incarnation of it.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record.
    pub base_sequence: Sequence,
    /// Bytes to write after the last record (before compression).
    pub trailing_bytes: Vec<u8>,
    /// What to state in place of what is so.
    pub stated: StatedInBatch,
}

/// What a batch's header is to state in place of what is so; `None` is the truth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatedInBatch {
    /// Bytes that follow the length.
    pub batch_length: Option<i32>,
    /// Version of the format; the layout stays that of magic 2.
    pub magic: Option<i8>,
    /// CRC-32C.
    pub crc: Option<u32>,
    /// Attributes, the codec too.
    pub attributes: Option<Attributes>,
    /// Offset of the last record, less the base.
    pub last_offset_delta: Option<i32>,
    /// What timestamps are counted from, without counting from it.
    pub base_timestamp: Option<i64>,
    /// Greatest timestamp.
    pub max_timestamp: Option<i64>,
    /// Number of records.
    pub record_count: Option<i32>,
}

/// A record to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// Timestamp, not its delta.
    pub timestamp: i64,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: &'a [Header<'a>],
    /// What to state in place of what is so.
    pub stated: Option<&'a StatedInRecord>,
}

/// What a record is to state in place of what is so; `None` is the truth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatedInRecord {
    /// Bytes that follow the length.
    pub length: Option<i32>,
    /// Reserved bits.
    pub attributes: Option<i8>,
    /// Timestamp, less the base.
    pub timestamp_delta: Option<i64>,
    /// Offset, less the base; later records count on from it.
    pub offset_delta: Option<i32>,
    /// Bytes of the key.
    pub key_length: Option<i32>,
    /// Bytes of the value.
    pub value_length: Option<i32>,
    /// Number of headers.
    pub header_count: Option<i32>,
}

impl<'a> NewRecord<'a> {
    /// A record with a value and nothing else, at time 0.
    #[must_use]
    pub fn of(value: &'a [u8]) -> Self {
        Self { value: Some(value), ..Self::default() }
    }
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self {
            base_offset: Offset(0),
            partition_leader_epoch: LeaderEpoch(-1),
            attributes: Attributes::default(),
            base_timestamp: None,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            trailing_bytes: Vec::new(),
            stated: StatedInBatch::default(),
        }
    }
}

impl BatchBuilder {
    /// Writes one batch behind what `out` holds; returns where it stands there.
    pub fn encode<'r>(
        &self,
        records: impl IntoIterator<Item = NewRecord<'r>>,
        scratch: &mut Scratch,
        out: &mut impl Output,
    ) -> Range<usize> {
        let mut writer = self.begin(out);
        for record in records {
            writer.append(&record);
        }
        writer.finish(scratch)
    }

    /// Begins a batch behind what `out` holds, for records that come one by one.
    pub fn begin<'o, O: Output>(&'o self, out: &'o mut O) -> BatchWriter<'o, O> {
        let start = out.as_ref().len();
        out.extend(&[0; BATCH_HEADER_BYTES]);
        BatchWriter {
            builder: self,
            out,
            start,
            base_timestamp: self.base_timestamp,
            max_timestamp: NO_TIMESTAMP,
            next_offset_delta: 0,
            record_count: 0,
        }
    }

    /// Writes a batch around bytes that stand for its records already, compressed where the
    /// attributes say so. It states no records unless told what to state.
    pub fn encode_payload(&self, payload: &[u8], out: &mut impl Output) -> Range<usize> {
        let writer = self.begin(out);
        writer.out.extend(payload);
        writer.seal()
    }

    fn header(&self, written: &BatchWriter<'_, impl Output>, batch_length: i32) -> BatchHeader {
        let stated = &self.stated;
        let base_timestamp = written.base_timestamp.unwrap_or(NO_TIMESTAMP);
        let last_offset_delta = written.next_offset_delta.wrapping_sub(1).max(0);
        BatchHeader {
            base_offset: self.base_offset,
            batch_length: stated.batch_length.unwrap_or(batch_length),
            partition_leader_epoch: self.partition_leader_epoch,
            magic: stated.magic.unwrap_or(2),
            crc: 0,
            attributes: stated.attributes.unwrap_or(self.attributes),
            last_offset_delta: stated.last_offset_delta.unwrap_or(last_offset_delta),
            base_timestamp: stated.base_timestamp.unwrap_or(base_timestamp),
            max_timestamp: stated.max_timestamp.unwrap_or(written.max_timestamp),
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: stated.record_count.unwrap_or(written.record_count),
        }
    }
}

/// A batch under way: records go straight into the output, the header when all are there.
#[derive(Debug)]
pub struct BatchWriter<'o, O: Output> {
    builder: &'o BatchBuilder,
    out: &'o mut O,
    start: usize,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    next_offset_delta: i32,
    record_count: i32,
}

impl<O: Output> BatchWriter<'_, O> {
    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.record_count as usize
    }

    /// Bytes so far, header included, before compression.
    #[must_use]
    pub fn byte_length(&self) -> usize {
        self.out.as_ref().len() - self.start
    }

    /// Writes one more record.
    #[inline]
    pub fn append(&mut self, record: &NewRecord<'_>) {
        let base_timestamp = *self.base_timestamp.get_or_insert(record.timestamp);
        self.max_timestamp = if self.record_count == 0 {
            record.timestamp
        } else {
            self.max_timestamp.max(record.timestamp)
        };
        let timestamp_delta = record.timestamp.wrapping_sub(base_timestamp);
        let offset_delta = self.next_offset_delta;
        match record.stated {
            None => self.write_true(record, timestamp_delta, offset_delta),
            Some(stated) => self.write_stated(record, stated, timestamp_delta),
        }
        self.next_offset_delta = self.next_offset_delta.wrapping_add(1);
        self.record_count = self.record_count.wrapping_add(1);
    }

    /// The usual record: everything up to the key is put together on the stack, at most 26 bytes.
    #[inline(always)]
    fn write_true(&mut self, record: &NewRecord<'_>, timestamp_delta: i64, offset_delta: i32) {
        let key_length = record.key.map_or(-1, |key| key.len() as i64);
        let value_length = record.value.map_or(-1, |value| value.len() as i64);
        let length = 1
            + encoded_bytes(zigzag(timestamp_delta))
            + encoded_bytes(zigzag(offset_delta.into()))
            + encoded_bytes(zigzag(key_length))
            + key_length.max(0) as usize
            + encoded_bytes(zigzag(value_length))
            + value_length.max(0) as usize
            + headers_bytes(record.headers);
        let mut front = [0; 32];
        let end = put(&mut front, 0, length as i64);
        let end = put(&mut front, end + 1, timestamp_delta);
        let end = put(&mut front, end, offset_delta.into());
        let end = put(&mut front, end, key_length);
        if let Some(key) = record.key {
            self.out.extend(&front[..end & 31]);
            self.out.extend(key);
            let end = put(&mut front, 0, value_length);
            self.out.extend(&front[..end & 31]);
        } else {
            let end = put(&mut front, end, value_length);
            self.out.extend(&front[..end & 31]);
        }
        self.out.extend(record.value.unwrap_or_default());
        if record.headers.is_empty() {
            self.out.extend(&[0]);
        } else {
            self.headers(record.headers.len() as i64, record.headers);
        }
    }

    #[inline]
    fn headers(&mut self, count: i64, headers: &[Header<'_>]) {
        self.number(count);
        for header in headers {
            self.number(header.key.len() as i64);
            self.out.extend(header.key);
            self.number(header.value.map_or(-1, |value| value.len() as i64));
            self.out.extend(header.value.unwrap_or_default());
        }
    }

    #[inline(always)]
    fn number(&mut self, value: i64) {
        // One byte, which most are, is a store; more are a call.
        if let short @ 0..0x80 = zigzag(value) {
            return self.out.extend(&[short as u8]);
        }
        let mut bytes = [0; 32];
        let end = put(&mut bytes, 0, value);
        self.out.extend(&bytes[..end & 31]);
    }

    /// The body first, and then the length before it.
    #[cold]
    fn write_stated(
        &mut self,
        record: &NewRecord<'_>,
        stated: &StatedInRecord,
        timestamp_delta: i64,
    ) {
        let bytes_length = |stated: Option<i32>, bytes: Option<&[u8]>| match stated {
            Some(length) => length.into(),
            None => bytes.map_or(-1, |bytes| bytes.len() as i64),
        };
        self.next_offset_delta = stated.offset_delta.unwrap_or(self.next_offset_delta);
        let start = self.out.as_ref().len();
        self.out.extend(&stated.attributes.unwrap_or(0).to_be_bytes());
        self.number(stated.timestamp_delta.unwrap_or(timestamp_delta));
        self.number(self.next_offset_delta.into());
        self.number(bytes_length(stated.key_length, record.key));
        self.out.extend(record.key.unwrap_or_default());
        self.number(bytes_length(stated.value_length, record.value));
        self.out.extend(record.value.unwrap_or_default());
        let count = stated.header_count.map_or(record.headers.len() as i64, i64::from);
        self.headers(count, record.headers);

        let body = self.out.as_ref()[start..].to_vec();
        self.out.cut(start);
        self.number(stated.length.map_or(body.len() as i64, i64::from));
        self.out.extend(&body);
    }

    /// Compresses, fills in the header and returns where the batch stands in the output.
    pub fn finish(self, scratch: &mut Scratch) -> Range<usize> {
        self.out.extend(&self.builder.trailing_bytes);
        let compression = self.builder.attributes.compression();
        if !matches!(compression, Compression::None | Compression::Unknown(_)) {
            let records_start = self.start + BATCH_HEADER_BYTES;
            let mut records = std::mem::take(&mut scratch.to_compress);
            records.clear();
            records.extend_from_slice(&self.out.as_ref()[records_start..]);
            self.out.cut(records_start);
            scratch.compress(compression, &records, self.out);
            scratch.to_compress = records;
        }
        self.seal()
    }

    fn seal(self) -> Range<usize> {
        let range = self.start..self.out.as_ref().len();
        // A batch above 2 GiB cannot state its length; what it then states is a lie like any other.
        let batch_length = (range.len() - LENGTH_PREFIX_BYTES) as i32;
        let header = self.builder.header(&self, batch_length);
        let batch = &mut self.out.as_mut()[range.clone()];
        batch[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        let crc = self.builder.stated.crc.unwrap_or_else(|| crc_v2(batch));
        batch[position::CRC..position::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        range
    }
}

#[inline(always)]
fn headers_bytes(headers: &[Header<'_>]) -> usize {
    if headers.is_empty() {
        return 1;
    }
    let mut bytes = encoded_bytes(zigzag(headers.len() as i64));
    for header in headers {
        let value_length = header.value.map_or(-1, |value| value.len() as i64);
        bytes += encoded_bytes(zigzag(header.key.len() as i64)) + header.key.len();
        bytes += encoded_bytes(zigzag(value_length)) + value_length.max(0) as usize;
    }
    bytes
}
