//! LZ4 frames, as Java clients (independent blocks) and others (linked ones) write them.
//!
//! The frame is read here, block by block into one buffer, because a frame's descriptor may ask
//! for blocks of 4 MiB that never come: room is made for what a block's bytes can stand for.
//!
//! Not checked: content size, where the descriptor states one.

use std::io::Write;

use lz4_flex::block::{DecompressError, decompress_into_with_dict};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use crate::error::DecodeErrorKind;

use super::compression::TOO_LARGE;

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// A byte more of a match's length stands for at most this many bytes.
const RATIO_MAX: usize = 255;
/// How far back a linked block reaches.
const WINDOW_BYTES: usize = 64 * 1024;

/// What a frame's descriptor says, as far as it matters here.
struct Descriptor {
    block_bytes_max: usize,
    linked_blocks: bool,
    block_checksums: bool,
    content_checksum: bool,
}

pub(super) fn decompress(
    bytes: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeErrorKind> {
    let mut rest = bytes;
    let descriptor = descriptor(&mut rest)?;
    loop {
        let size = word(&mut rest)?;
        if size == 0 {
            break;
        }
        let length = (size & 0x7fff_ffff) as usize;
        let block = rest.get(..length).ok_or(cut_off())?;
        rest = &rest[length..];
        if descriptor.block_checksums && word(&mut rest)? != XxHash32::oneshot(0, block) {
            return Err(DecodeErrorKind::Compression("checksum of an LZ4 block"));
        }
        if size & 0x8000_0000 != 0 {
            if length > descriptor.block_bytes_max {
                return Err(DecodeErrorKind::Compression("LZ4 block above its frame's size"));
            }
            if length > limit.saturating_sub(out.len()) {
                return Err(TOO_LARGE);
            }
            out.extend_from_slice(block);
        } else {
            decompress_block(block, &descriptor, limit, out)?;
        }
    }
    if descriptor.content_checksum && word(&mut rest)? != XxHash32::oneshot(0, out) {
        return Err(DecodeErrorKind::Compression("checksum of an LZ4 frame"));
    }
    match rest.len() {
        0 => Ok(()),
        _ => Err(DecodeErrorKind::Compression("bytes after the LZ4 frame")),
    }
}

/// Whether the frame's blocks lean on those before them, which the Java implementation cannot read.
pub(super) fn has_linked_blocks(frame: &[u8]) -> bool {
    descriptor(&mut &*frame).is_ok_and(|descriptor| descriptor.linked_blocks)
}

fn decompress_block(
    block: &[u8],
    descriptor: &Descriptor,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeErrorKind> {
    let start = out.len();
    let left = limit.saturating_sub(start);
    let room = descriptor.block_bytes_max.min(block.len().saturating_mul(RATIO_MAX)).min(left);
    out.resize(start + room, 0);
    let (before, into) = out.split_at_mut(start);
    let window =
        if descriptor.linked_blocks { &before[start.saturating_sub(WINDOW_BYTES)..] } else { &[] };
    let written = decompress_into_with_dict(block, into, window);
    out.truncate(start + written.as_ref().copied().unwrap_or(0));
    match written {
        Ok(_) => Ok(()),
        Err(DecompressError::OutputTooSmall { .. }) if room == left => Err(TOO_LARGE),
        Err(_) => Err(DecodeErrorKind::Compression("broken LZ4 block")),
    }
}

fn descriptor(rest: &mut &[u8]) -> Result<Descriptor, DecodeErrorKind> {
    const NOT_LZ4: DecodeErrorKind = DecodeErrorKind::Compression("not an LZ4 frame");
    let frame = *rest;
    let after_magic = frame.strip_prefix(&MAGIC).ok_or(NOT_LZ4)?;
    let &[flags, sizes] = after_magic.first_chunk().ok_or(cut_off())?;
    // A content size of eight bytes (bit 3) and a dictionary's id of four (bit 0) may follow.
    let length = 2 + if flags & 0x08 == 0 { 0 } else { 8 } + if flags & 0x01 == 0 { 0 } else { 4 };
    let &checksum = after_magic.get(length).ok_or(cut_off())?;
    let check = |bytes: &[u8]| (XxHash32::oneshot(0, bytes) >> 8) as u8 == checksum;
    // Clients of magic 0 summed the frame's magic too (KAFKA-3160).
    if !check(&after_magic[..length]) && !check(&frame[..MAGIC.len() + length]) {
        return Err(DecodeErrorKind::Compression("checksum of an LZ4 frame's descriptor"));
    }
    let block_bytes_max = match sizes >> 4 & 0x07 {
        code @ 4..=7 => 1 << (8 + 2 * code),
        _ => return Err(NOT_LZ4),
    };
    if flags >> 6 != 1 || flags & 0x01 != 0 {
        return Err(NOT_LZ4);
    }
    *rest = &after_magic[length + 1..];
    Ok(Descriptor {
        block_bytes_max,
        linked_blocks: flags & 0x20 == 0,
        block_checksums: flags & 0x10 != 0,
        content_checksum: flags & 0x04 != 0,
    })
}

fn word(rest: &mut &[u8]) -> Result<u32, DecodeErrorKind> {
    let (word, after) = rest.split_first_chunk().ok_or(cut_off())?;
    *rest = after;
    Ok(u32::from_le_bytes(*word))
}

fn cut_off() -> DecodeErrorKind {
    DecodeErrorKind::Compression("LZ4 frame cut off")
}

/// One frame of independent blocks of 64 KiB without checksums, as the Java client writes it.
pub(super) fn compress(bytes: &[u8], out: impl Write) {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(bytes).expect("memory takes every write");
    encoder.finish().expect("memory takes every write");
}
