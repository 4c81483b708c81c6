//! Request headers v1 and v2 (v0 for ControlledShutdown v0), response headers v0 and v1.
//!
//! `client_id` stays a non-compact nullable string in header v2 (KIP-482); ApiVersions answers
//! with response header v0 whatever its version (KIP-511), so that a client can read the
//! rejection of a version it does not know.
//!
//! Which header a version has is a fact of the schema table: [`crate::schema`] is asked.

use bytes::BufMut;

use crate::api::ApiKey;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::CorrelationId;

/// What stands before the body of a request, borrowed from the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// Which API.
    pub api_key: ApiKey,
    /// Which version of it.
    pub api_version: i16,
    /// Pairs the response with it.
    pub correlation_id: CorrelationId,
    /// Whatever the client calls itself; bytes, because a hostile one need not be UTF-8.
    pub client_id: Option<&'a [u8]>,
}

/// The four fixed fields every request header begins with.
pub const REQUEST_HEADER_BYTES_MIN: usize = 8;

impl<'a> RequestHeader<'a> {
    /// Reads a header from the start of a frame and returns it with the length it takes.
    ///
    /// # Errors
    /// Where the frame is too short or a length in it is impossible. The first eight bytes can
    /// then still be had from [`RequestHeader::peek`].
    pub fn decode(frame: &'a [u8]) -> Result<(Self, usize), DecodeError> {
        let (api_key, api_version, correlation_id) = Self::peek(frame)
            .ok_or_else(|| truncated(0, "request_header", REQUEST_HEADER_BYTES_MIN, frame.len()))?;
        let mut header = Self { api_key, api_version, correlation_id, client_id: None };
        let flexible = match crate::schema::request_header_version(api_key, api_version) {
            Some(0) => return Ok((header, REQUEST_HEADER_BYTES_MIN)),
            Some(1) | None => false,
            Some(_) => true,
        };
        let mut at = REQUEST_HEADER_BYTES_MIN;
        let Some(length) = frame.get(at..at + 2) else {
            return Err(truncated(at, "request_header.client_id", 2, frame.len() - at));
        };
        let length = i16::from_be_bytes([length[0], length[1]]);
        at += 2;
        if length >= 0 {
            let length = length as usize;
            let Some(bytes) = frame.get(at..at + length) else {
                return Err(truncated(at, "request_header.client_id", length, frame.len() - at));
            };
            header.client_id = Some(bytes);
            at += length;
        } else if length < -1 {
            return Err(DecodeError {
                byte_offset: at - 2,
                path: "request_header.client_id".into(),
                kind: DecodeErrorKind::NegativeLength(length.into()),
            });
        }
        if flexible {
            at = skip_tagged_fields(frame, at)?;
        }
        Ok((header, at))
    }

    /// The three fields at fixed places, absent where the frame is shorter than eight bytes.
    #[must_use]
    pub fn peek(frame: &[u8]) -> Option<(ApiKey, i16, CorrelationId)> {
        let b = frame.first_chunk::<REQUEST_HEADER_BYTES_MIN>()?;
        Some((
            ApiKey(i16::from_be_bytes([b[0], b[1]])),
            i16::from_be_bytes([b[2], b[3]]),
            CorrelationId(i32::from_be_bytes([b[4], b[5], b[6], b[7]])),
        ))
    }

    /// Writes the header; unknown APIs get header v1, which brokers of any age can read.
    pub fn encode(&self, out: &mut impl BufMut) {
        let version =
            crate::schema::request_header_version(self.api_key, self.api_version).unwrap_or(1);
        out.put_i16(self.api_key.0);
        out.put_i16(self.api_version);
        out.put_i32(self.correlation_id.0);
        if version == 0 {
            return;
        }
        match self.client_id {
            Some(id) => {
                let id = &id[..id.len().min(i16::MAX as usize)];
                out.put_i16(id.len() as i16);
                out.put_slice(id);
            }
            None => out.put_i16(-1),
        }
        if version >= 2 {
            out.put_u8(0);
        }
    }
}

/// Reads the header of a response to a request of that API and version; returns the correlation
/// id and the length the header takes.
///
/// # Errors
/// Where the frame is too short.
pub fn decode_response_header(
    frame: &[u8],
    api_key: ApiKey,
    api_version: i16,
) -> Result<(CorrelationId, usize), DecodeError> {
    let b =
        frame.first_chunk::<4>().ok_or_else(|| truncated(0, "response_header", 4, frame.len()))?;
    let correlation_id = CorrelationId(i32::from_be_bytes(*b));
    let version = crate::schema::response_header_version(api_key, api_version).unwrap_or(0);
    let end = if version >= 1 { skip_tagged_fields(frame, 4)? } else { 4 };
    Ok((correlation_id, end))
}

/// Writes the header of a response.
pub fn encode_response_header(
    out: &mut impl BufMut,
    api_key: ApiKey,
    api_version: i16,
    correlation_id: CorrelationId,
) {
    out.put_i32(correlation_id.0);
    if crate::schema::response_header_version(api_key, api_version).unwrap_or(0) >= 1 {
        out.put_u8(0);
    }
}

/// The `acks` of a Produce request, of which the body's first bytes are enough; a request with
/// acks=0 is never answered. After `transactional_id` since v3, which is compact since v9.
#[must_use]
pub fn produce_acks(body: &[u8], api_version: i16) -> Option<i16> {
    let after_id = match api_version {
        ..3 => 0,
        3..9 => {
            let length = i16::from_be_bytes(*body.first_chunk::<2>()?);
            2 + usize::try_from(length).unwrap_or(0)
        }
        9.. => {
            // A compact length is one more than the length; two bytes reach beyond any real id.
            match *body {
                [length @ 0..0x80, ..] => 1 + usize::from(length).saturating_sub(1),
                [low, high @ 0..0x80, ..] => 1 + (usize::from(low & 0x7f) | usize::from(high) << 7),
                _ => return None,
            }
        }
    };
    Some(i16::from_be_bytes(*body.get(after_id..)?.first_chunk::<2>()?))
}

/// Skips a block of tagged fields (KIP-482) that begins at `at`; returns where it ends.
fn skip_tagged_fields(frame: &[u8], at: usize) -> Result<usize, DecodeError> {
    let (count, mut at) = read_uvarint(frame, at)?;
    for _ in 0..count {
        let (_, after_tag) = read_uvarint(frame, at)?;
        let (size, start) = read_uvarint(frame, after_tag)?;
        let size = size as usize;
        if frame.len() - start < size {
            return Err(truncated(start, "header.tagged_fields", size, frame.len() - start));
        }
        at = start + size;
    }
    Ok(at)
}

fn read_uvarint(frame: &[u8], at: usize) -> Result<(u32, usize), DecodeError> {
    let mut value = 0u32;
    for i in 0..5 {
        let Some(&byte) = frame.get(at + i) else {
            return Err(truncated(at, "header.tagged_fields", i + 1, frame.len() - at));
        };
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok((value, at + i + 1));
        }
    }
    Err(DecodeError {
        byte_offset: at,
        path: "header.tagged_fields".into(),
        kind: DecodeErrorKind::VarintTooLong,
    })
}

fn truncated(at: usize, path: &str, needed: usize, available: usize) -> DecodeError {
    DecodeError {
        byte_offset: at,
        path: path.into(),
        kind: DecodeErrorKind::Truncated { needed, available },
    }
}
