//! A records field into batches, one after the other, without visiting a record.

use std::ops::Range;

use crate::error::{DecodeError, DecodeErrorKind};

use super::attributes::{Attributes, Compression};
use super::compression::Scratch;
use super::header::position;
use super::header::{BATCH_HEADER_BYTES, BatchHeader, LENGTH_PREFIX_BYTES, crc_message, crc_v2};
use super::lz4;
use super::records::Records;

/// The batches of a records field.
///
/// An item is a batch, or what is wrong where a batch should be. A batch whose length makes sense
/// is passed over and the next one looked at; where it makes none, the iteration ends and
/// [`BatchIter::remainder`] holds the rest. The last batch of a Fetch response may be cut off
/// (KIP-74): that is [`DecodeErrorKind::Truncated`], which no other fault of an item is.
#[derive(Debug, Clone)]
pub struct BatchIter<'a> {
    field: &'a [u8],
    at: usize,
    index: usize,
    ended: bool,
}

/// One whole batch, or one message of magic 0 or 1, with its header read and nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Its header.
    pub header: BatchHeader,
    /// Its place among the batches of the field.
    pub index: usize,
    /// Where it begins in the field.
    pub byte_offset: usize,
    /// All of it, header included.
    pub bytes: &'a [u8],
}

impl<'a> BatchIter<'a> {
    /// Starts at the first batch of a records field.
    #[must_use]
    pub fn new(field: &'a [u8]) -> Self {
        Self { field, at: 0, index: 0, ended: false }
    }

    /// The bytes no item stands for yet: after the end, what is cut off or beyond reading.
    #[must_use]
    pub fn remainder(&self) -> &'a [u8] {
        self.field.get(self.at..).unwrap_or_default()
    }

    #[cold]
    fn end(&mut self, byte_offset: usize, field: &str, kind: DecodeErrorKind) -> DecodeError {
        self.ended = true;
        fault(self.index, byte_offset, field, kind)
    }

    #[cold]
    fn pass(&mut self, end: usize, byte_offset: usize, what: &'static str) -> DecodeError {
        let fault = fault(self.index, byte_offset, "", DecodeErrorKind::Invalid(what));
        self.at = end;
        self.index += 1;
        fault
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Result<Batch<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let rest = self.remainder();
        if rest.is_empty() || self.ended {
            return None;
        }
        let available = rest.len();
        let Some(prefix) = rest.first_chunk::<LENGTH_PREFIX_BYTES>() else {
            let kind = DecodeErrorKind::Truncated { needed: LENGTH_PREFIX_BYTES, available };
            return Some(Err(self.end(start, "", kind)));
        };
        let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        let Ok(length_bytes) = usize::try_from(length) else {
            let kind = DecodeErrorKind::NegativeLength(length.into());
            return Some(Err(self.end(start + position::BATCH_LENGTH, "batch_length", kind)));
        };
        let needed = LENGTH_PREFIX_BYTES + length_bytes;
        let Some(bytes) = rest.get(..needed) else {
            let kind = DecodeErrorKind::Truncated { needed, available };
            return Some(Err(self.end(start, "", kind)));
        };
        let end = start + needed;
        let Some(&magic) = bytes.get(position::MAGIC) else {
            return Some(Err(self.pass(end, start, "batch too short for a magic")));
        };
        let Some(bytes_min) = BatchHeader::bytes_min(magic) else {
            return Some(Err(self.pass(end, start + position::MAGIC, "unknown magic")));
        };
        if needed < bytes_min {
            return Some(Err(self.pass(end, start, "batch shorter than its header")));
        }
        let header = match bytes.first_chunk() {
            Some(chunk) if magic == 2 => BatchHeader::decode_v2(chunk),
            _ => BatchHeader::decode(bytes).expect("a header of that size was just seen"),
        };
        let batch = Batch { header, index: self.index, byte_offset: start, bytes };
        self.at = end;
        self.index += 1;
        Some(Ok(batch))
    }
}

impl<'a> Batch<'a> {
    /// Where it stands in the field.
    #[must_use]
    pub fn byte_range(&self) -> Range<usize> {
        self.byte_offset..self.byte_offset + self.bytes.len()
    }

    /// What follows the header: records of magic 2, compressed where the header says so. In a
    /// message of magic 0 or 1, its key and value with their lengths.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        let start = match self.header.magic {
            0 => 18,
            1 => 26,
            _ => BATCH_HEADER_BYTES,
        };
        self.bytes.get(start..).unwrap_or_default()
    }

    /// Whether it is of LZ4 frames with linked blocks: read here, but not by Kafka itself, whose
    /// reader takes independent blocks only.
    #[must_use]
    pub fn has_linked_lz4_blocks(&self) -> bool {
        self.header.compression() == Compression::Lz4 && lz4::has_linked_blocks(self.payload())
    }

    /// The CRC the bytes add up to.
    #[must_use]
    pub fn computed_crc(&self) -> u32 {
        if self.header.magic < 2 { crc_message(self.bytes) } else { crc_v2(self.bytes) }
    }

    /// Compares the CRC in the header with the one the bytes add up to.
    ///
    /// # Errors
    /// Where they differ.
    #[inline]
    pub fn check_crc(&self) -> Result<(), DecodeError> {
        let (stored, computed) = (self.header.crc, self.computed_crc());
        if stored == computed {
            return Ok(());
        }
        let at = if self.header.magic < 2 { position::MESSAGE_CRC } else { position::CRC };
        Err(self.fault(at, "crc", DecodeErrorKind::Checksum { stored, computed }))
    }

    /// Visits the records, decompressed into `scratch` where they are compressed.
    ///
    /// Where they do not decompress, what did before the fault is visited and the fault kept; the
    /// CRC is not looked at.
    #[must_use]
    pub fn records<'s>(&self, scratch: &'s mut Scratch) -> Records<'s>
    where
        'a: 's,
    {
        Records::of(self, scratch)
    }

    /// Visits records that are not compressed, for as long as the field lives. Absent where they
    /// are compressed.
    #[must_use]
    pub fn plain_records(&self) -> Option<Records<'a>> {
        Records::plain(self)
    }

    /// Everything wrong with a batch as a log holds it: reserved bits, CRC, records.
    ///
    /// Not checked: what only a producer must keep ([`Batch::check_produced`]); what the numbers
    /// mean beside those of other batches.
    #[must_use]
    pub fn check(&self, scratch: &mut Scratch) -> Vec<DecodeError> {
        let mut errors = self.check_outside();
        errors.extend(self.records(scratch).finish());
        errors
    }

    /// Like [`Batch::check`], and what a broker asks of a batch it is to append: offsets without
    /// gaps from 0, and no more or less of them than records.
    #[must_use]
    pub fn check_produced(&self, scratch: &mut Scratch) -> Vec<DecodeError> {
        let mut errors = self.check_outside();
        errors.extend(self.records(scratch).as_produced().finish());
        errors
    }

    fn check_outside(&self) -> Vec<DecodeError> {
        let mut errors = Vec::new();
        let (at, reserved) = match self.header.magic {
            0 => (position::MESSAGE_ATTRIBUTES, !0x07),
            1 => (position::MESSAGE_ATTRIBUTES, !0x0f),
            _ => (position::ATTRIBUTES, Attributes::RESERVED),
        };
        if self.header.attributes.0 & reserved != 0 {
            let kind = DecodeErrorKind::Invalid("reserved bits are set");
            errors.push(self.fault(at, "attributes", kind));
        }
        errors.extend(self.check_crc().err());
        errors
    }

    /// A fault of this batch, at a position within it.
    #[cold]
    pub(super) fn fault(&self, at: usize, field: &str, kind: DecodeErrorKind) -> DecodeError {
        fault(self.index, self.byte_offset + at, field, kind)
    }
}

fn fault(index: usize, byte_offset: usize, field: &str, kind: DecodeErrorKind) -> DecodeError {
    let dot = if field.is_empty() { "" } else { "." };
    DecodeError { byte_offset, path: format!("batches[{index}]{dot}{field}"), kind }
}
