//! Turns the records field of a Produce request into a batch that may be appended, or a refusal.
//!
//! The order of the checks is Kafka's, so that a batch wrong in two ways gets Kafka's error.
//!
//! Not checked: sequences and epochs, which need the partition's state ([`super::producer_state`]).

use bytes::{Bytes, BytesMut};
use kafka_wire::ErrorCode;
use kafka_wire::batch::{Batch, BatchHeader, BatchIter, Compression, Scratch, TimestampType};

use super::log::Append;
use super::producer_state::Incoming;

/// `log.message.timestamp.after.max.ms` of Kafka 4: an hour.
const TIMESTAMP_AFTER_MAX_MS: i64 = 3_600_000;

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: ErrorCode,
    pub(super) message: Option<&'static str>,
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self { error, message: None }
    }
}

fn refuse<T>(error: ErrorCode, message: &'static str) -> Result<T, Refusal> {
    Err(Refusal { error, message: Some(message) })
}

/// A batch that is one batch of magic 2, and what there is to say against it later.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) header: BatchHeader,
    bytes: Bytes,
    /// What the log would say; asked only when nothing before it objects.
    contents: Result<i64, Refusal>,
}

impl Candidate {
    pub(super) fn producer_id(&self) -> Option<i64> {
        (self.header.producer_id.0 > -1).then_some(self.header.producer_id.0)
    }

    pub(super) fn incoming(&self) -> Incoming {
        Incoming {
            producer_epoch: self.header.producer_epoch.0,
            base_sequence: self.header.base_sequence.0,
            record_count: u32::try_from(self.header.record_count).unwrap_or(0),
            transactional: self.header.is_transactional(),
        }
    }

    /// The refusal of a log that takes batches up to that size, if it has one.
    pub(super) fn contents(&self, max_message_bytes: usize) -> Result<(), Refusal> {
        // Of the checks of the contents only that of the base offset comes before that of the size.
        if self.header.base_offset.0 == 0 && self.bytes.len() > max_message_bytes {
            return Err(ErrorCode::MESSAGE_TOO_LARGE.into());
        }
        self.contents.map(drop)
    }

    /// What is appended: a copy, so that the connection's buffer is not held by the log.
    pub(super) fn to_append(&self) -> Append {
        Append {
            bytes: BytesMut::from(&self.bytes[..]),
            last_offset_delta: self.header.last_offset_delta,
            max_timestamp: self.contents.unwrap_or(self.header.max_timestamp),
            producer: self.producer_id().map(|producer_id| (producer_id, self.incoming())),
        }
    }

    /// As [`Candidate::to_append`], stamped with the broker's time (`LogAppendTime`).
    pub(super) fn to_append_stamped(&self, now_ms: i64) -> Append {
        let mut append = self.to_append();
        let mut header = self.header;
        header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        header.max_timestamp = now_ms;
        append.max_timestamp = now_ms;
        kafka_wire::batch::rewrite_header(&mut append.bytes, &header);
        kafka_wire::batch::reseal(&mut append.bytes);
        append
    }
}

/// Looks at a records field as the API layer and then the log would.
pub(super) fn check(
    version: i16,
    field: Option<&Bytes>,
    now_ms: i64,
) -> Result<Candidate, Refusal> {
    let empty = Bytes::new();
    let field = field.unwrap_or(&empty);
    let mut batches = BatchIter::new(field);
    let batch = match batches.next() {
        Some(Ok(batch)) => batch,
        None => return refuse(ErrorCode::INVALID_RECORD, "there must be one record batch"),
        Some(Err(_)) => return unframed(field),
    };
    if batch.header.magic != 2 {
        return refuse(ErrorCode::INVALID_RECORD, "the record batch must be of magic 2");
    }
    if version < 7 && batch.header.compression() == Compression::Zstd {
        return refuse(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce 7 (KIP-110)");
    }
    // A tail that is no whole batch is passed over, as Kafka trims it.
    if batches.next().is_some_and(|next| next.is_ok()) {
        return refuse(ErrorCode::INVALID_RECORD, "there must be one record batch only");
    }
    let contents = contents(&batch, now_ms);
    Ok(Candidate { header: batch.header, bytes: field.slice(batch.byte_range()), contents })
}

/// A field that does not begin with a batch: cut off, it holds none; else it is corrupt.
fn unframed(field: &[u8]) -> Result<Candidate, Refusal> {
    const LENGTH_MIN: i32 = 14;
    const MAGIC_AT: usize = 16;
    let none = refuse(ErrorCode::INVALID_RECORD, "there must be one record batch");
    let Some(length) = field.get(8..12) else { return none };
    if i32::from_be_bytes([length[0], length[1], length[2], length[3]]) < LENGTH_MIN {
        return refuse(ErrorCode::CORRUPT_MESSAGE, "the batch is smaller than any batch");
    }
    match field.get(MAGIC_AT) {
        Some(magic) if *magic > 2 => refuse(ErrorCode::CORRUPT_MESSAGE, "unknown magic"),
        Some(0 | 1) => refuse(ErrorCode::INVALID_RECORD, "the record batch must be of magic 2"),
        _ => none,
    }
}

/// What the log says: the greatest timestamp, or the refusal.
fn contents(batch: &Batch<'_>, now_ms: i64) -> Result<i64, Refusal> {
    let header = &batch.header;
    if header.base_offset.0 != 0 {
        return refuse(ErrorCode::INVALID_RECORD, "the base offset must be 0");
    }
    if batch.check_crc().is_err() {
        return refuse(ErrorCode::CORRUPT_MESSAGE, "the checksum does not match");
    }
    if header.is_control() {
        return refuse(ErrorCode::INVALID_RECORD, "clients may not write control records");
    }
    if header.producer_id.0 > -1 && header.base_sequence.0 < 0 {
        return refuse(ErrorCode::INVALID_RECORD, "negative sequence of an idempotent producer");
    }
    let declared = i64::from(header.record_count);
    if declared <= 0 || i64::from(header.last_offset_delta) + 1 != declared {
        return refuse(ErrorCode::INVALID_RECORD, "record count and offsets do not agree");
    }
    if batch.has_linked_lz4_blocks() {
        // What Kafka 4.3 answers: its reader throws.
        return Err(ErrorCode::UNKNOWN_SERVER_ERROR.into());
    }
    let mut scratch = Scratch::new();
    let mut records = batch.records(&mut scratch);
    let (mut seen, mut max_timestamp) = (0i64, -1);
    for record in records.by_ref() {
        if record.offset.0 != seen {
            return refuse(ErrorCode::INVALID_RECORD, "records must be numbered without a gap");
        }
        if record.timestamp.saturating_sub(now_ms) > TIMESTAMP_AFTER_MAX_MS {
            return refuse(ErrorCode::INVALID_TIMESTAMP, "a timestamp too far in the future");
        }
        seen += 1;
        max_timestamp = record.timestamp.max(max_timestamp);
    }
    if seen != declared || records.visited() as i64 != declared {
        return refuse(ErrorCode::INVALID_RECORD, "a record cannot be read");
    }
    Ok(max_timestamp)
}

#[cfg(test)]
mod tests {
    use kafka_wire::batch::{Attributes, BatchBuilder, NewRecord, reseal};

    use super::*;

    #[test]
    fn lz4_blocks_that_lean_on_others_are_refused_as_kafka_refuses_them() {
        const FLAGS_AT: usize = kafka_wire::batch::BATCH_HEADER_BYTES + 4;
        const CHECKSUM_AT: usize = FLAGS_AT + 2;
        const INDEPENDENT: u8 = 0x20;
        let attributes = Attributes::default().with_compression(Compression::Lz4);
        let builder = BatchBuilder { attributes, ..BatchBuilder::default() };
        let mut bytes = Vec::new();
        builder.encode(vec![NewRecord::of(b"value")], &mut Scratch::new(), &mut bytes);
        let said = |bytes: &mut [u8]| {
            reseal(bytes);
            check(9, Some(&Bytes::copy_from_slice(bytes)), 0).expect("one batch").contents(9_999)
        };
        assert_eq!(said(&mut bytes), Ok(()));
        bytes[FLAGS_AT] ^= INDEPENDENT;
        let corrupt = refuse(ErrorCode::INVALID_RECORD, "a record cannot be read");
        let linked = Err(ErrorCode::UNKNOWN_SERVER_ERROR.into());
        let answers: Vec<_> = (0..=255)
            .map(|checksum| {
                bytes[CHECKSUM_AT] = checksum;
                said(&mut bytes)
            })
            .collect();
        assert_eq!(
            answers.iter().filter(|answer| **answer == linked).count(),
            2,
            "the checksum, and that of old clients"
        );
        assert_eq!(answers.iter().filter(|answer| **answer == corrupt).count(), 254);
    }
}
