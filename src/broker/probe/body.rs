//! Turns the bytes of a response's body into the few fields a probe needs, one after the other.

use kafka_wire::{DecodeError, DecodeErrorKind};

/// Reads fields from the front of a body.
#[derive(Debug, Clone)]
pub(crate) struct Body<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The message, for the path of an error.
    message: &'static str,
}

impl<'a> Body<'a> {
    /// A body that begins at `at` of a frame.
    pub(crate) fn new(message: &'static str, bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, message }
    }

    fn error(&self, field: &str, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { byte_offset: self.at, path: format!("{}.{field}", self.message), kind }
    }

    fn take(&mut self, field: &str, needed: usize) -> Result<&'a [u8], DecodeError> {
        let available = self.bytes.len().saturating_sub(self.at);
        if available < needed {
            return Err(self.error(field, DecodeErrorKind::Truncated { needed, available }));
        }
        let taken = &self.bytes[self.at..self.at + needed];
        self.at += needed;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self, field: &str) -> Result<[u8; N], DecodeError> {
        let taken = self.take(field, N)?;
        Ok(*taken.first_chunk().expect("take gave as many bytes as were asked for"))
    }

    pub(crate) fn int16(&mut self, field: &str) -> Result<i16, DecodeError> {
        self.fixed(field).map(i16::from_be_bytes)
    }

    pub(crate) fn int32(&mut self, field: &str) -> Result<i32, DecodeError> {
        self.fixed(field).map(i32::from_be_bytes)
    }

    pub(crate) fn uvarint(&mut self, field: &str) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed(field)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error(field, DecodeErrorKind::VarintTooLong))
    }

    /// A string with a 16-bit length; null is absent.
    pub(crate) fn string(&mut self, field: &str) -> Result<Option<String>, DecodeError> {
        let length = self.int16(field)?;
        match usize::try_from(length) {
            Ok(length) => self.text(field, length).map(Some),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.error(field, DecodeErrorKind::NegativeLength(length.into()))),
        }
    }

    /// A string with its length plus one as varint; null is empty, no field read here has one.
    pub(crate) fn compact_string(&mut self, field: &str) -> Result<String, DecodeError> {
        let length = self.uvarint(field)?.saturating_sub(1);
        self.text(field, length as usize)
    }

    fn text(&mut self, field: &str, length: usize) -> Result<String, DecodeError> {
        Ok(String::from_utf8_lossy(self.take(field, length)?).into_owned())
    }

    /// The count of an array; null counts as none. The elements are read one by one, so that a
    /// count no bytes stand behind ends at the first element that is not there.
    pub(crate) fn count(&mut self, field: &str) -> Result<u32, DecodeError> {
        let count = self.int32(field)?;
        match u32::try_from(count) {
            Ok(count) => Ok(count),
            Err(_) if count == -1 => Ok(0),
            Err(_) => Err(self.error(field, DecodeErrorKind::NegativeLength(count.into()))),
        }
    }

    /// The count of a compact array.
    pub(crate) fn compact_count(&mut self, field: &str) -> Result<u32, DecodeError> {
        Ok(self.uvarint(field)?.saturating_sub(1))
    }

    /// Visits each tagged field (KIP-482) with its own body.
    pub(crate) fn tagged(
        &mut self,
        mut visit: impl FnMut(u32, Body<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.uvarint("tagged_fields")? {
            let tag = self.uvarint("tag")?;
            let size = self.uvarint("tag_size")? as usize;
            let start = self.at;
            self.take("tagged_field", size)?;
            visit(tag, Body { bytes: &self.bytes[..self.at], at: start, message: self.message })?;
        }
        Ok(())
    }

    /// Passes over tagged fields.
    pub(crate) fn skip_tagged(&mut self) -> Result<(), DecodeError> {
        self.tagged(|_, _| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_and_no_length_reads_past_the_end() {
        let body = |bytes: &'static [u8]| Body::new("X", bytes, 0);
        assert_eq!(body(&[0x7f, 0xff, 0xff, 0xff]).count("n"), Ok(0x7fff_ffff));
        assert!(body(&[0x7f, 0xff, b'a']).string("s").is_err());
        assert!(body(&[0xff, 0xfe]).string("s").is_err());
        assert_eq!(body(&[0xff, 0xff]).string("s"), Ok(None));
        assert!(body(&[0xff, 0xff, 0xff, 0xff, 0x0f]).compact_string("s").is_err());
        assert!(body(&[0x80; 6]).uvarint("u").is_err());
        assert!(body(&[1, 0, 9, 1]).skip_tagged().is_err());
        assert!(Body::new("X", &[], 7).int16("i").is_err());
    }

    #[test]
    fn a_tagged_field_is_read_within_its_size() {
        let mut seen = Vec::new();
        let bytes = [2, 0, 2, 0, 5, 3, 1, 9, 77];
        let mut body = Body::new("X", &bytes, 0);
        body.tagged(|tag, mut field| {
            seen.push((tag, field.int16("f").ok()));
            Ok(())
        })
        .expect("both fields are there");
        assert_eq!(seen, [(0, Some(5)), (3, None)]);
        assert_eq!(body.fixed::<1>("rest"), Ok([77]));
    }
}
