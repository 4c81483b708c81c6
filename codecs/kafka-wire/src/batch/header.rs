//! The first bytes of a batch as fields, and back.
//!
//! Magic 2 has 61 bytes of header. The first 17 stand at the same places in messages of magic 0
//! and 1, whose offset, size and CRC are shown as `base_offset`, `batch_length` and `crc`.
//!
//! ```
//! use kafka_wire::batch::{BatchHeader, reseal, rewrite_header};
//! use kafka_wire::ids::{LeaderEpoch, Offset};
//! # use kafka_wire::batch::{BatchBuilder, BatchIter, NewRecord, Scratch};
//! # let mut batch = Vec::new();
//! # BatchBuilder::default().encode([NewRecord::of(b"v")], &mut Scratch::new(), &mut batch);
//! // What a broker does with a batch it appends: neither field is under the CRC.
//! let mut header = BatchHeader::decode(&batch).expect("whole header");
//! header.base_offset = Offset(42);
//! header.partition_leader_epoch = LeaderEpoch(3);
//! rewrite_header(&mut batch, &header);
//! // What a broker does in addition where it changes what is under the CRC.
//! header.max_timestamp = 1_700_000_000_000;
//! rewrite_header(&mut batch, &header);
//! reseal(&mut batch);
//! # BatchIter::new(&batch).next().unwrap().unwrap().check_crc().unwrap();
//! ```

use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

use super::attributes::{Attributes, Compression, TimestampType};

/// Bytes of the header of a batch of magic 2.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes before those that `batch_length` counts, the same in every magic.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// What stands for no timestamp.
pub const NO_TIMESTAMP: i64 = -1;

/// Positions of the fields of magic 2.
pub(super) mod position {
    pub(crate) const BATCH_LENGTH: usize = 8;
    pub(crate) const PARTITION_LEADER_EPOCH: usize = 12;
    pub(crate) const MAGIC: usize = 16;
    pub(crate) const CRC: usize = 17;
    pub(crate) const ATTRIBUTES: usize = 21;
    pub(crate) const LAST_OFFSET_DELTA: usize = 23;
    pub(crate) const BASE_TIMESTAMP: usize = 27;
    pub(crate) const MAX_TIMESTAMP: usize = 35;
    pub(crate) const PRODUCER_ID: usize = 43;
    pub(crate) const PRODUCER_EPOCH: usize = 51;
    pub(crate) const BASE_SEQUENCE: usize = 53;
    pub(crate) const RECORD_COUNT: usize = 57;
    /// In messages of magic 0 and 1.
    pub(crate) const MESSAGE_CRC: usize = 12;
    /// In messages of magic 0 and 1.
    pub(crate) const MESSAGE_ATTRIBUTES: usize = 17;
    /// In messages of magic 1.
    pub(crate) const MESSAGE_TIMESTAMP: usize = 18;
}

/// Every field of a batch's header, as it stands on the wire.
///
/// A message of magic 0 or 1 fills what it has. The rest says "none": −1 for ids, sequence and
/// epochs, `last_offset_delta` 0, `record_count` 1, or −1 for a compressed one, which does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record (a compacted batch may not hold it any more).
    pub base_offset: Offset,
    /// Bytes that follow this field.
    pub batch_length: i32,
    /// Leader epoch in which the broker appended the batch; not under the CRC.
    pub partition_leader_epoch: LeaderEpoch,
    /// Version of the format.
    pub magic: i8,
    /// CRC-32C of everything after it; in magic 0 and 1 CRC-32.
    pub crc: u32,
    /// Codec, timestamp type, flags.
    pub attributes: Attributes,
    /// Offset of the last record, less `base_offset`; stays when compaction removes that record.
    pub last_offset_delta: i32,
    /// What the timestamps of the records are counted from.
    pub base_timestamp: i64,
    /// The greatest timestamp of the records, or the time of appending.
    pub max_timestamp: i64,
    /// Who wrote it, −1 if neither idempotent nor transactional.
    pub producer_id: ProducerId,
    /// Which incarnation of it.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record.
    pub base_sequence: Sequence,
    /// How many records there are, or so it says.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; absent where it is not whole or of no magic known.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match *bytes.get(position::MAGIC)? {
            2 => Some(Self::decode_v2(bytes.first_chunk()?)),
            0 | 1 => Self::decode_message(bytes),
            _ => None,
        }
    }

    /// Bytes the smallest batch of a magic has; absent where the magic is unknown.
    pub(super) fn bytes_min(magic: u8) -> Option<usize> {
        match magic {
            0 => Some(26),
            1 => Some(34),
            2 => Some(BATCH_HEADER_BYTES),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn decode_v2(b: &[u8; BATCH_HEADER_BYTES]) -> Self {
        Self {
            base_offset: Offset(i64_at(b, 0)),
            batch_length: i32_at(b, position::BATCH_LENGTH),
            partition_leader_epoch: LeaderEpoch(i32_at(b, position::PARTITION_LEADER_EPOCH)),
            magic: b[position::MAGIC] as i8,
            crc: i32_at(b, position::CRC) as u32,
            attributes: Attributes(i16_at(b, position::ATTRIBUTES)),
            last_offset_delta: i32_at(b, position::LAST_OFFSET_DELTA),
            base_timestamp: i64_at(b, position::BASE_TIMESTAMP),
            max_timestamp: i64_at(b, position::MAX_TIMESTAMP),
            producer_id: ProducerId(i64_at(b, position::PRODUCER_ID)),
            producer_epoch: ProducerEpoch(i16_at(b, position::PRODUCER_EPOCH)),
            base_sequence: Sequence(i32_at(b, position::BASE_SEQUENCE)),
            record_count: i32_at(b, position::RECORD_COUNT),
        }
    }

    fn decode_message(bytes: &[u8]) -> Option<Self> {
        let start: &[u8; 18] = bytes.first_chunk()?;
        let magic = start[position::MAGIC] as i8;
        // Only the low byte is there; of it only codec and timestamp type mean something.
        let attributes = Attributes(i16::from(start[position::MESSAGE_ATTRIBUTES]));
        let timestamp = match magic {
            0 => NO_TIMESTAMP,
            _ => i64_at(bytes.first_chunk::<26>()?, position::MESSAGE_TIMESTAMP),
        };
        let compressed = attributes.compression() != Compression::None;
        Some(Self {
            base_offset: Offset(i64_at(start, 0)),
            batch_length: i32_at(start, position::BATCH_LENGTH),
            partition_leader_epoch: LeaderEpoch(-1),
            magic,
            crc: i32_at(start, position::MESSAGE_CRC) as u32,
            attributes,
            last_offset_delta: 0,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            record_count: if compressed { -1 } else { 1 },
        })
    }

    /// Writes the header in the layout of magic 2, whatever `magic` says.
    #[must_use]
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut b = [0; BATCH_HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.base_offset.0.to_be_bytes());
        put(position::BATCH_LENGTH, &self.batch_length.to_be_bytes());
        put(position::PARTITION_LEADER_EPOCH, &self.partition_leader_epoch.0.to_be_bytes());
        put(position::MAGIC, &self.magic.to_be_bytes());
        put(position::CRC, &self.crc.to_be_bytes());
        put(position::ATTRIBUTES, &self.attributes.0.to_be_bytes());
        put(position::LAST_OFFSET_DELTA, &self.last_offset_delta.to_be_bytes());
        put(position::BASE_TIMESTAMP, &self.base_timestamp.to_be_bytes());
        put(position::MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes());
        put(position::PRODUCER_ID, &self.producer_id.0.to_be_bytes());
        put(position::PRODUCER_EPOCH, &self.producer_epoch.0.to_be_bytes());
        put(position::BASE_SEQUENCE, &self.base_sequence.0.to_be_bytes());
        put(position::RECORD_COUNT, &self.record_count.to_be_bytes());
        b
    }

    /// How the records are compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.attributes.compression()
    }

    /// Who set the timestamps; magic 0 has none.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.magic == 0 { TimestampType::CreateTime } else { self.attributes.timestamp_type() }
    }

    /// Part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.magic >= 2 && self.attributes.is_transactional()
    }

    /// A control batch.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.magic >= 2 && self.attributes.is_control()
    }

    /// The time from which tombstones and markers in it may go (KIP-534).
    #[must_use]
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.magic >= 2 && self.attributes.has_delete_horizon()).then_some(self.base_timestamp)
    }

    /// Offset of the last record, held at the end of the range where it would leave it.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(self.last_offset_delta.into()))
    }

    /// Sequence of the last record; none where there is no base sequence.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        match u32::try_from(self.last_offset_delta) {
            Ok(delta) if self.base_sequence.0 >= 0 => self.base_sequence.advance(delta),
            _ => Sequence::NONE,
        }
    }
}

/// Writes a header over that of the batch of magic 2 in `batch`; the CRC is written as given.
/// Returns whether there was room.
pub fn rewrite_header(batch: &mut [u8], header: &BatchHeader) -> bool {
    let Some(start) = batch.first_chunk_mut() else { return false };
    *start = header.encode();
    true
}

/// Computes and writes the CRC of the one batch of magic 2 that `batch` holds; returns it, or
/// nothing where the header is not whole.
pub fn reseal(batch: &mut [u8]) -> Option<u32> {
    let crc = crc_v2(batch.get(..).filter(|bytes| bytes.len() >= BATCH_HEADER_BYTES)?);
    batch.get_mut(position::CRC..position::ATTRIBUTES)?.copy_from_slice(&crc.to_be_bytes());
    Some(crc)
}

/// CRC-32C over everything after the CRC. The leader epoch stands before it: a broker sets that.
pub(super) fn crc_v2(batch: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(batch.get(position::ATTRIBUTES..).unwrap_or_default())
}

/// CRC-32 over everything after the CRC of a message of magic 0 or 1.
pub(super) fn crc_message(message: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(message.get(position::MAGIC..).unwrap_or_default());
    crc.sum()
}

fn i64_at<const N: usize>(b: &[u8; N], at: usize) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&b[at..at + 8]);
    i64::from_be_bytes(bytes)
}

fn i32_at<const N: usize>(b: &[u8; N], at: usize) -> i32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&b[at..at + 4]);
    i32::from_be_bytes(bytes)
}

fn i16_at<const N: usize>(b: &[u8; N], at: usize) -> i16 {
    i16::from_be_bytes([b[at], b[at + 1]])
}
