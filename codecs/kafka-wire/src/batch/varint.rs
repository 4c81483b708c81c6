//! Zigzag variable-length integers and length-prefixed bytes, read from a slice with a position.
//!
//! Records use the variable-length integers of Protocol Buffers: seven bits a byte, lowest first,
//! at most five bytes for 32 bits and ten for 64. Padded ones are read as Kafka reads them, and
//! remembered.

use crate::error::DecodeErrorKind;

/// What is left of a slice.
///
/// Reading answers `None` where it cannot, and then has not moved: why not is worked out by
/// [`why_not`], off the path of the millions that can be read.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    length: usize,
    /// Where the first integer stands that is longer than it need be; `usize::MAX` for none.
    padded_at: usize,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, length: bytes.len(), padded_at: usize::MAX }
    }

    #[inline(always)]
    pub(super) fn at(&self) -> usize {
        self.length - self.rest.len()
    }

    #[inline(always)]
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline(always)]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    pub(super) fn is_padded(&self) -> bool {
        self.padded_at != usize::MAX
    }

    pub(super) fn padded_at(&self) -> usize {
        self.padded_at
    }

    pub(super) fn forget_padded(&mut self) {
        self.padded_at = usize::MAX;
    }

    #[inline(always)]
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline(always)]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Option<i32> {
        let zigzag = self.unsigned::<VARINT_BYTES_MAX>()? as u32;
        Some((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
    }

    #[inline(always)]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let zigzag = self.unsigned::<VARLONG_BYTES_MAX>()?;
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// One and two bytes, which is nearly all there are, stand here; the rest is a call.
    #[inline(always)]
    fn unsigned<const BYTES_MAX: usize>(&mut self) -> Option<u64> {
        match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                Some(u64::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 && b != 0 => {
                self.rest = rest;
                Some(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => {
                let long = unsigned_long::<BYTES_MAX>(self.rest)?;
                if long.is_padded {
                    self.padded_at = self.padded_at.min(self.at());
                }
                self.rest = self.rest.get(long.length..)?;
                Some(long.value)
            }
        }
    }

    /// Bytes with their length before them, where that is neither negative nor above 63.
    #[inline(always)]
    pub(super) fn short_bytes(&mut self) -> Option<&'a [u8]> {
        match *self.rest {
            [length, ref rest @ ..] if length & 0x81 == 0 => {
                let (taken, rest) = rest.split_at_checked(usize::from(length >> 1))?;
                self.rest = rest;
                Some(taken)
            }
            _ => None,
        }
    }
}

/// What could not be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// So many bytes.
    Bytes(usize),
    /// An integer of so many bytes at most.
    Integer(usize),
}

/// Why what was wanted could not be read where so many bytes are left. Takes no cursor, so that
/// cursors can live in registers.
#[cold]
pub(super) fn why_not(available: usize, wanted: Wanted) -> DecodeErrorKind {
    match wanted {
        Wanted::Bytes(needed) => DecodeErrorKind::Truncated { needed, available },
        Wanted::Integer(bytes_max) if available < bytes_max => {
            DecodeErrorKind::Truncated { needed: available + 1, available }
        }
        Wanted::Integer(_) => DecodeErrorKind::VarintTooLong,
    }
}

/// Bytes of the longest integer of 32 bits.
pub(super) const VARINT_BYTES_MAX: usize = 5;
/// Bytes of the longest integer of 64 bits.
pub(super) const VARLONG_BYTES_MAX: usize = 10;

struct Long {
    value: u64,
    length: usize,
    is_padded: bool,
}

#[inline(never)]
fn unsigned_long<const BYTES_MAX: usize>(bytes: &[u8]) -> Option<Long> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            let bits_in_last = if BYTES_MAX == VARINT_BYTES_MAX { 32 - 28 } else { 64 - 63 };
            let beyond = i + 1 == BYTES_MAX && byte >> bits_in_last != 0;
            return Some(Long { value, length: i + 1, is_padded: i > 0 && byte == 0 || beyond });
        }
    }
    None
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
        assert_eq!(cursor.varlong(), Some(value));
        assert!(!cursor.is_padded() && cursor.left() == 0);
        if let Ok(value) = i32::try_from(value) {
            let mut cursor = Cursor::new(&out[..end]);
            assert_eq!(cursor.varint(), Some(value));
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
            assert_eq!(cursor.varint(), Some(1));
            assert_eq!((cursor.left(), cursor.padded_at()), (0, 0));
        }
        let mut cursor = Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]);
        assert_eq!(cursor.varint(), Some(i32::MIN));
        assert!(cursor.is_padded(), "a thirty-third bit");
    }

    #[test]
    fn too_long_and_cut_off_are_told_apart() {
        let long = Cursor::new(&[0xff; 11]);
        assert_eq!(long.clone().varint(), None);
        assert_eq!(long.clone().varlong(), None);
        let why = why_not(long.left(), Wanted::Integer(VARLONG_BYTES_MAX));
        assert_eq!(why, DecodeErrorKind::VarintTooLong);
        let cut = Cursor::new(&[0xff; 3]);
        assert_eq!(cut.clone().varint(), None);
        let why = why_not(cut.left(), Wanted::Integer(VARINT_BYTES_MAX));
        assert_eq!(why, DecodeErrorKind::Truncated { needed: 4, available: 3 });
    }
}
