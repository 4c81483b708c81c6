//! Record batches as compact facts: the header, whether it is whole, a hash of what it holds.
//!
//! Two batches of equal `content` hold the same keys, values and headers in the same order,
//! however they are compressed and stamped.

use std::hash::Hasher;

use kafka_wire::batch::{Batch, BatchHeader, BatchIter, ControlRecord, ControlType, Scratch};
use kafka_wire::{DecodeError, DecodeErrorKind};
use rustc_hash::FxHasher;

/// One batch.
#[derive(Debug, Clone)]
pub struct BatchFacts {
    /// As it stands on the wire.
    pub header: BatchHeader,
    /// A hash of its records.
    pub content: u64,
    /// Whether every record has a key, so that compaction may remove them. A compacted topic takes no
    /// record without one.
    pub keyed: bool,
    /// A bit for each key, by a hash of it.
    pub keys: u32,
    /// The same of the keys that compaction only takes away for a later record of the key: none
    /// where a record has no value, for that may go by itself.
    pub lasting_keys: u32,
    /// Of a control batch, which kind.
    pub control: Option<ControlType>,
    /// The first thing that a log must not hold: a wrong checksum or count.
    pub corrupt: Option<DecodeError>,
    /// Offsets of records that do not increase or leave the range the header states.
    pub disordered: Option<DecodeError>,
    /// Records that could not be read although the checksum is right.
    pub unreadable: bool,
    /// Of each record, offset and hash, where they were asked for.
    pub records: Vec<(i64, u64)>,
}

impl BatchFacts {
    /// Reads a batch.
    pub fn of(batch: &Batch<'_>, scratch: &mut Scratch, keep_records: bool) -> Self {
        let mut facts = Self {
            header: batch.header,
            content: 0,
            keyed: batch.header.record_count > 0,
            keys: 0,
            lasting_keys: 0,
            control: None,
            corrupt: batch.check_crc().err(),
            disordered: None,
            unreadable: false,
            records: Vec::new(),
        };
        let mut all = FxHasher::default();
        let mut has_tombstone = false;
        let mut records = batch.records(scratch);
        for record in records.by_ref() {
            let mut one = begin_hash(record.key, record.value);
            for header in record.headers {
                one.write_usize(header.key.len());
                one.write(header.key);
                one.write_i64(header.value.map_or(-1, |value| value.len() as i64));
                one.write(header.value.unwrap_or_default());
            }
            let hash = one.finish();
            all.write_u64(hash);
            match record.key {
                Some(key) => facts.keys |= 1 << (hash_of_key(key) >> 59),
                None => facts.keyed = false,
            }
            has_tombstone |= record.value.is_none();
            if batch.header.is_control() && facts.control.is_none() {
                let key = record.key.unwrap_or_default();
                facts.control = ControlRecord::decode(key).ok().map(|key| key.control_type);
            }
            if keep_records {
                facts.records.push((record.offset.0, hash));
            }
        }
        facts.content = all.finish();
        facts.lasting_keys = if has_tombstone { 0 } else { facts.keys };
        for error in records.finish() {
            facts.sort_in(error);
        }
        facts
    }

    fn sort_in(&mut self, error: DecodeError) {
        let field = error.path.rsplit('.').next().unwrap_or_default();
        match (&error.kind, field) {
            (DecodeErrorKind::Mismatch { .. }, "max_timestamp") => {}
            (DecodeErrorKind::Mismatch { .. }, "record_count") => {
                self.corrupt.get_or_insert(error);
            }
            (_, "offset_delta" | "last_offset_delta") => {
                self.disordered.get_or_insert(error);
            }
            // Reserved bits and long integers are odd and harmless.
            (DecodeErrorKind::Invalid(_), _) => {}
            _ => self.unreadable = true,
        }
    }

    /// Whether it decides a transaction, and how.
    #[must_use]
    pub fn marker(&self) -> Option<ControlType> {
        let decides = |kind: &ControlType| matches!(kind, ControlType::Abort | ControlType::Commit);
        self.control.filter(decides)
    }

    /// Whether it holds records of a transaction.
    #[must_use]
    pub fn is_transactional_data(&self) -> bool {
        self.header.is_transactional() && !self.header.is_control()
    }
}

/// The hash of a record begins with its key and value; headers follow.
fn begin_hash(key: Option<&[u8]>, value: Option<&[u8]>) -> FxHasher {
    let mut hasher = FxHasher::default();
    for bytes in [key, value] {
        hasher.write_i64(bytes.map_or(-1, |bytes| bytes.len() as i64));
        hasher.write(bytes.unwrap_or_default());
    }
    hasher
}

fn hash_of_key(key: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(key);
    hasher.finish()
}

/// What [`BatchFacts::records`] says of a record that has a value only.
#[must_use]
pub fn hash_of_bare_record(value: &[u8]) -> u64 {
    begin_hash(None, Some(value)).finish()
}

/// The batches of a records field, and whether something between them could not be read. What is
/// cut off at the end is no fault (KIP-74).
pub(super) fn batches_of(
    field: &[u8],
    scratch: &mut Scratch,
    keep_records: bool,
) -> (Vec<BatchFacts>, bool) {
    let mut batches = Vec::new();
    let mut unreadable = false;
    for batch in BatchIter::new(field) {
        match batch {
            Ok(batch) => batches.push(BatchFacts::of(&batch, scratch, keep_records)),
            Err(error) => {
                unreadable |= !matches!(error.kind, DecodeErrorKind::Truncated { .. });
            }
        }
    }
    (batches, unreadable)
}
