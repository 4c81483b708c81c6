//! Compressed records into plain ones and back, within a limit and in buffers used again.
//!
//! A few bytes can stand for gigabytes, and a declared size is whatever its writer likes. So
//! output grows only as decompressed bytes fill it, and stops at the limit.
//!
//! ```
//! use kafka_wire::batch::{Compression, Scratch};
//!
//! let mut scratch = Scratch::with_limit(1024);
//! let mut small = Vec::new();
//! scratch.compress(Compression::Zstd, &[7; 100_000], &mut small);
//! let (plain, fault) = scratch.decompress(Compression::Zstd, &small);
//! assert!(plain.is_empty() && fault.is_some(), "more than the limit");
//! ```

use std::fmt;
use std::io::{Read, Write};

use zstd::zstd_safe;

use crate::error::DecodeErrorKind;

use super::attributes::Compression;
use super::encode::Output;
use super::{lz4, snappy};

/// Most that one batch is decompressed to unless the caller says otherwise.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What is said of output beyond the limit.
pub(super) const TOO_LARGE: DecodeErrorKind =
    DecodeErrorKind::Compression("more than the limit when decompressed");

/// Buffers and codec states used from batch to batch, and the limit of decompression.
///
/// It keeps the largest buffer it needed, at most twice the limit.
pub struct Scratch {
    decompressed_bytes_max: usize,
    decompressed: Vec<u8>,
    /// Records on their way into the compressor.
    pub(super) to_compress: Vec<u8>,
    zstd_in: Option<zstd_safe::DCtx<'static>>,
    zstd_out: Option<zstd_safe::CCtx<'static>>,
    snappy_out: Option<snap::raw::Encoder>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::with_limit(DECOMPRESSED_BYTES_MAX)
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.decompressed_bytes_max;
        f.debug_struct("Scratch").field("decompressed_bytes_max", &limit).finish_non_exhaustive()
    }
}

impl Scratch {
    /// Empty, with the limit [`DECOMPRESSED_BYTES_MAX`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty; a batch that decompresses to more bytes than this is an observation.
    #[must_use]
    pub fn with_limit(decompressed_bytes_max: usize) -> Self {
        Self {
            decompressed_bytes_max,
            decompressed: Vec::new(),
            to_compress: Vec::new(),
            zstd_in: None,
            zstd_out: None,
            snappy_out: None,
        }
    }

    /// Decompresses; returns what was understood, and what was wrong. Nothing counts as understood
    /// beyond the limit, and in Zstandard behind a fault.
    pub fn decompress(
        &mut self,
        compression: Compression,
        bytes: &[u8],
    ) -> (&[u8], Option<DecodeErrorKind>) {
        let limit = self.decompressed_bytes_max;
        self.decompressed.clear();
        let out = &mut self.decompressed;
        let done = match compression {
            Compression::None => read_up_to(limit, bytes, out, ""),
            Compression::Gzip => {
                let reader = flate2::bufread::MultiGzDecoder::new(bytes);
                read_up_to(limit, reader, out, "not whole or not gzip")
            }
            Compression::Snappy => snappy::decompress(bytes, limit, out),
            Compression::Lz4 => lz4::decompress(bytes, limit, out),
            Compression::Zstd => {
                let context = self.zstd_in.get_or_insert_with(zstd_safe::DCtx::create);
                decompress_zstd(context, bytes, limit, out)
            }
            Compression::Unknown(_) => Err(DecodeErrorKind::Compression("unknown codec")),
        };
        if done == Err(TOO_LARGE) {
            out.clear();
        }
        (out, done.err())
    }

    /// Compresses behind what `out` holds, in the form Kafka's own producer writes. An unknown
    /// codec leaves the bytes as they are.
    pub fn compress(&mut self, compression: Compression, bytes: &[u8], out: &mut impl Output) {
        match compression {
            Compression::None | Compression::Unknown(_) => out.extend(bytes),
            Compression::Gzip => {
                let writer = OutputWriter(out);
                let mut encoder = flate2::write::GzEncoder::new(writer, Default::default());
                let done = encoder.write_all(bytes).and_then(|()| encoder.try_finish());
                done.expect("memory takes every write");
            }
            Compression::Snappy => {
                let encoder = self.snappy_out.get_or_insert_with(snap::raw::Encoder::new);
                snappy::compress(encoder, bytes, out);
            }
            Compression::Lz4 => lz4::compress(bytes, OutputWriter(out)),
            Compression::Zstd => {
                let context = self.zstd_out.get_or_insert_with(zstd_safe::CCtx::create);
                let mut packed = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
                let done = context.compress(&mut packed, bytes, zstd_safe::CLEVEL_DEFAULT);
                done.expect("the bound is enough room");
                out.extend(&packed);
            }
        }
    }
}

/// Reads to the end, at most to the limit; what was read before a fault stays.
fn read_up_to(
    limit: usize,
    reader: impl Read,
    out: &mut Vec<u8>,
    fault: &'static str,
) -> Result<(), DecodeErrorKind> {
    let one_more = (limit as u64).saturating_add(1);
    match reader.take(one_more).read_to_end(out) {
        Ok(_) if out.len() > limit => Err(TOO_LARGE),
        Ok(_) => Ok(()),
        Err(_) => Err(DecodeErrorKind::Compression(fault)),
    }
}

/// Decompresses at one go into a buffer that doubles while it is too small.
///
/// Streaming would allocate the window the frame asks for, up to 128 MiB; this way the output is
/// the window. Decompressing again costs no more than the last time did.
fn decompress_zstd(
    context: &mut zstd_safe::DCtx<'static>,
    bytes: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeErrorKind> {
    /// `ZSTD_error_dstSize_tooSmall`, as the library returns it.
    const OUTPUT_TOO_SMALL: usize = 70usize.wrapping_neg();
    let mut room = out.capacity().max(bytes.len().saturating_mul(4)).max(4096).min(limit);
    loop {
        out.clear();
        out.reserve_exact(room);
        // The capacity may be more than was asked for: both are within twice the limit.
        match context.decompress(out, bytes) {
            Ok(_) if out.len() > limit => return Err(TOO_LARGE),
            Ok(_) => return Ok(()),
            Err(OUTPUT_TOO_SMALL) if room >= limit => return Err(TOO_LARGE),
            Err(OUTPUT_TOO_SMALL) => room = room.saturating_mul(2).min(limit),
            Err(_) => {
                out.clear();
                return Err(DecodeErrorKind::Compression("not whole or not Zstandard"));
            }
        }
    }
}

/// An [`Output`] for those who want a [`Write`].
struct OutputWriter<'o, O: Output>(&'o mut O);

impl<O: Output> Write for OutputWriter<'_, O> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
