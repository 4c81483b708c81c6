//! Snappy blocks, alone or in the framing of the xerial library that Java clients use.
//!
//! The framing is a magic of eight bytes, two versions of four, and blocks with their length
//! before them. librdkafka and others write one raw block instead, so bytes that do not begin with
//! the magic are that. A block states its size decompressed; it is believed only where so few
//! bytes can hold so many.

use crate::error::DecodeErrorKind;

use super::compression::TOO_LARGE;
use super::encode::Output;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version 1, oldest version that reads it 1.
const HEADER_BYTES: usize = 16;
/// What the Java client compresses at a time.
const BLOCK_BYTES: usize = 32 * 1024;
/// The densest element is a copy of 64 bytes in three.
const RATIO_MAX: usize = 64 / 3 + 1;

pub(super) fn decompress(
    bytes: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeErrorKind> {
    if !bytes.starts_with(&MAGIC) {
        return decompress_block(bytes, limit, out);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        // Streams may follow one another, each with its header.
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER_BYTES..).ok_or(cut_off())?;
            continue;
        }
        let (length, after) = rest.split_first_chunk::<4>().ok_or(cut_off())?;
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| DecodeErrorKind::Compression("negative length of a snappy block"))?;
        let block = after.get(..length).ok_or(cut_off())?;
        decompress_block(block, limit, out)?;
        rest = &after[length..];
    }
    Ok(())
}

fn decompress_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), DecodeErrorKind> {
    const BROKEN: DecodeErrorKind = DecodeErrorKind::Compression("not whole or not snappy");
    let declared = snap::raw::decompress_len(block).map_err(|_| BROKEN)?;
    if declared > block.len().saturating_mul(RATIO_MAX) {
        return Err(DecodeErrorKind::Compression("snappy block too short for its declared size"));
    }
    if declared > limit.saturating_sub(out.len()) {
        return Err(TOO_LARGE);
    }
    let start = out.len();
    out.resize(start + declared, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..]);
    out.truncate(start + written.as_ref().copied().unwrap_or(0));
    written.map(drop).map_err(|_| BROKEN)
}

fn cut_off() -> DecodeErrorKind {
    DecodeErrorKind::Compression("snappy framing cut off")
}

pub(super) fn compress(encoder: &mut snap::raw::Encoder, bytes: &[u8], out: &mut impl Output) {
    out.extend(&MAGIC);
    out.extend(&1i32.to_be_bytes());
    out.extend(&1i32.to_be_bytes());
    let mut block = vec![0; snap::raw::max_compress_len(bytes.len().min(BLOCK_BYTES))];
    for chunk in bytes.chunks(BLOCK_BYTES) {
        let length = encoder.compress(chunk, &mut block).expect("the bound is enough room");
        out.extend(&(length as i32).to_be_bytes());
        out.extend(&block[..length]);
    }
}
