//! Zigzag variable-length integers and length-prefixed bytes, read from a slice with a position.
//!
//! Records use the variable-length integers of Protocol Buffers: seven bits a byte, lowest first,
//! at most five bytes for 32 bits and ten for 64. Padded ones are read as Kafka reads them, and
//! remembered.

use crate::error::DecodeErrorKind;

/// A position in a slice.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    /// Never beyond the end of `bytes`.
    at: usize,
    /// Where the first integer stands that is longer than it need be; `usize::MAX` for none.
    padded_at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, padded_at: usize::MAX }
    }

    #[inline(always)]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline(always)]
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline(always)]
    pub(super) fn is_padded(&self) -> bool {
        self.padded_at != usize::MAX
    }

    pub(super) fn padded_at(&self) -> usize {
        self.padded_at
    }

    /// The bytes from here on.
    #[inline(always)]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The bytes from `start` to here.
    #[inline(always)]
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    #[inline(always)]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeErrorKind> {
        // `at` is within the slice, so the first cut cannot miss.
        match self.bytes.get(self.at..).and_then(|rest| rest.get(..length)) {
            Some(taken) => {
                self.at += length;
                Ok(taken)
            }
            None => Err(self.truncated(length)),
        }
    }

    #[inline(always)]
    pub(super) fn byte(&mut self) -> Result<u8, DecodeErrorKind> {
        match self.bytes.get(self.at) {
            Some(&byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => Err(self.truncated(1)),
        }
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<i32, DecodeErrorKind> {
        let zigzag = self.unsigned::<5>()? as u32;
        Ok((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
    }

    #[inline(always)]
    pub(super) fn varlong(&mut self) -> Result<i64, DecodeErrorKind> {
        let zigzag = self.unsigned::<10>()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// One and two bytes, which is nearly all there are, stand here; the rest is a call.
    #[inline(always)]
    fn unsigned<const BYTES_MAX: usize>(&mut self) -> Result<u64, DecodeErrorKind> {
        match self.bytes.get(self.at..) {
            Some(&[a, ..]) if a < 0x80 => {
                self.at += 1;
                Ok(u64::from(a))
            }
            Some(&[a, b, ..]) if b < 0x80 && b != 0 => {
                self.at += 2;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.unsigned_long::<BYTES_MAX>(),
        }
    }

    #[inline(never)]
    fn unsigned_long<const BYTES_MAX: usize>(&mut self) -> Result<u64, DecodeErrorKind> {
        let mut value = 0u64;
        for i in 0..BYTES_MAX {
            let Some(&byte) = self.bytes.get(self.at + i) else {
                return Err(self.truncated(i + 1));
            };
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                let spare_bits = if BYTES_MAX == 5 { 32 - 28 } else { 64 - 63 };
                let beyond = i + 1 == BYTES_MAX && byte >> spare_bits != 0;
                if (i > 0 && byte == 0 || beyond) && !self.is_padded() {
                    self.padded_at = self.at;
                }
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(DecodeErrorKind::VarintTooLong)
    }

    #[cold]
    fn truncated(&self, needed: usize) -> DecodeErrorKind {
        DecodeErrorKind::Truncated { needed, available: self.left() }
    }
}

/// Zigzag: small numbers of either sign become small numbers.
#[inline(always)]
pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// Bytes a number takes, after [`zigzag`].
#[inline(always)]
pub(super) fn encoded_bytes(zigzag: u64) -> usize {
    // 9/64 of the bits, rounded up, is a seventh rounded up for every count up to 64.
    let bits = 64 - (zigzag | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// Writes a number at `at` of a scratch array; returns where it ends. The array has room for ten.
#[inline(always)]
pub(super) fn put(out: &mut [u8; 32], at: usize, value: i64) -> usize {
    let mut rest = zigzag(value);
    let mut at = at;
    while rest >= 0x80 {
        // The mask is never at work; it shows that no index is out of bounds.
        out[at & 31] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    out[at & 31] = rest as u8;
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(value: i64) {
        let mut out = [0; 32];
        let end = put(&mut out, 0, value);
        assert_eq!(end, encoded_bytes(zigzag(value)), "{value}");
        let mut cursor = Cursor::new(&out[..end]);
        assert_eq!(cursor.varlong(), Ok(value));
        assert!(!cursor.is_padded() && cursor.left() == 0);
        if let Ok(value) = i32::try_from(value) {
            let mut cursor = Cursor::new(&out[..end]);
            assert_eq!(cursor.varint(), Ok(value));
            assert!(!cursor.is_padded());
        }
    }

    #[test]
    fn every_length_round_trips() {
        for shift in 0..63 {
            for near in -2..=2 {
                round_trip((1 << shift) + near);
                round_trip(-(1i64 << shift) + near);
            }
        }
        for value in [0, i64::MIN, i64::MAX, i32::MIN.into(), i32::MAX.into()] {
            round_trip(value);
        }
    }

    #[test]
    fn padded_integers_are_read_and_remembered() {
        for bytes in [&[0x82, 0x00][..], &[0x82, 0x80, 0x80, 0x80, 0x00]] {
            let mut cursor = Cursor::new(bytes);
            assert_eq!(cursor.varint(), Ok(1));
            assert_eq!((cursor.left(), cursor.padded_at()), (0, 0));
        }
        let mut cursor = Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]);
        assert_eq!(cursor.varint(), Ok(i32::MIN));
        assert!(cursor.is_padded(), "a thirty-third bit");
    }

    #[test]
    fn too_long_and_cut_off_are_told_apart() {
        assert_eq!(Cursor::new(&[0xff; 6]).varint(), Err(DecodeErrorKind::VarintTooLong));
        assert_eq!(Cursor::new(&[0xff; 11]).varlong(), Err(DecodeErrorKind::VarintTooLong));
        let cut = DecodeErrorKind::Truncated { needed: 4, available: 3 };
        assert_eq!(Cursor::new(&[0xff; 3]).varint(), Err(cut));
    }
}
