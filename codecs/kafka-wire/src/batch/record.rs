//! One record as a view into bytes, and its headers, visited one by one.

use crate::ids::Offset;

use super::varint::Cursor;

/// One record, borrowed from the records field or from the scratch it was decompressed into.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// `base_offset` of the batch plus the record's delta.
    pub offset: Offset,
    /// The record's timestamp, or the batch's where the broker set it.
    pub timestamp: i64,
    /// Key; null and empty differ.
    pub key: Option<&'a [u8]>,
    /// Value; null is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers. Always empty in magic 0 and 1.
    pub headers: Headers<'a>,
    /// Where the record begins: in the field, or in the decompressed bytes.
    pub byte_offset: usize,
    /// Bytes of it with its length.
    pub byte_length: usize,
    /// Reserved; Kafka writes 0.
    pub attributes: i8,
}

/// The headers of a record in order: keys may repeat, values may be null, keys need not be UTF-8.
///
/// They were found whole when the record was, so visiting them cannot fail.
///
/// ```
/// # use kafka_wire::batch::{BatchBuilder, BatchIter, Header, NewRecord, Scratch};
/// # let mut scratch = Scratch::new();
/// # let mut field = Vec::new();
/// let headers = [Header { key: b"k", value: None }, Header { key: b"k", value: Some(b"2") }];
/// let record = NewRecord { headers: &headers, ..NewRecord::of(b"v") };
/// BatchBuilder::default().encode([record], &mut scratch, &mut field);
/// let batch = BatchIter::new(&field).next().unwrap().unwrap();
/// let record = batch.records(&mut scratch).next().unwrap();
/// assert!(record.headers.eq(headers));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    left: u32,
}

/// One header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its key; UTF-8 says the protocol, but not every producer.
    pub key: &'a [u8],
    /// Its value; null and empty differ.
    pub value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// The key as text, where it is.
    #[must_use]
    pub fn key_text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.key).ok()
    }
}

impl<'a> Headers<'a> {
    /// `bytes` hold `count` headers that were visited already.
    #[inline(always)]
    pub(super) fn visited(bytes: &'a [u8], count: u32) -> Self {
        Self { bytes, left: count }
    }

    /// How many are left to visit.
    #[must_use]
    pub fn count_left(&self) -> usize {
        self.left as usize
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    #[inline]
    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut cursor = Cursor::new(self.bytes);
        if let (Some(key), Some(value)) = (cursor.short_bytes(), cursor.short_bytes()) {
            self.bytes = cursor.rest();
            return Some(Header { key, value: Some(value) });
        }
        let (header, rest) = long_header(self.bytes)?;
        self.bytes = rest;
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

/// A header of any length, and what is behind it.
#[inline(never)]
fn long_header(bytes: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let mut cursor = Cursor::new(bytes);
    let key_length = usize::try_from(cursor.varint()?).ok()?;
    let key = cursor.take(key_length)?;
    // A negative length was an observation when the record was found; it reads as null.
    let value = match usize::try_from(cursor.varint()?) {
        Ok(length) => Some(cursor.take(length)?),
        Err(_) => None,
    };
    Some((Header { key, value }, cursor.rest()))
}
