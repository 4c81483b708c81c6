//! Turns any `Read`, compressed or not, into a window over its bytes that moves forward.
//!
//! The window grows only as bytes arrive, whatever length somebody declared.

use std::io::{self, BufReader, Cursor, Read};

/// Bytes a window grows to by itself: large enough for few reads, small enough to stay in the cache.
const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes it begins with: a small file pays for little.
const WINDOW_BYTES_MIN: usize = 4 * 1024;
/// Largest window a zstd frame may ask for, as a power of two: what `zstd` itself allows.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Where the bytes come from.
enum Source<R: Read> {
    Plain(Prefixed<R>),
    Gzip(Box<flate2::read::MultiGzDecoder<Prefixed<R>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Prefixed<R>>>>),
}

/// The few bytes that were looked at, and the rest.
type Prefixed<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, any number of members.
    Gzip,
    /// zstd, any number of frames.
    Zstd,
}

/// A window over the uncompressed bytes.
pub(crate) struct Window<R: Read> {
    source: Source<R>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Place of `buffer[0]` in the stream.
    base: u64,
    /// What a decompressor said when it gave up: the bytes are damaged, not the reading of them.
    damage: Option<String>,
}

impl<R: Read> Window<R> {
    pub(crate) fn new(mut read: R) -> io::Result<Self> {
        let mut magic = Vec::new();
        (&mut read).take(4).read_to_end(&mut magic)?;
        let compression = match magic[..] {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // A frame, or one to skip before it, which some tools write.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Compression::Zstd,
            _ => Compression::None,
        };
        let prefixed = Cursor::new(magic).chain(read);
        let source = match compression {
            Compression::None => Source::Plain(prefixed),
            Compression::Gzip => {
                Source::Gzip(Box::new(flate2::read::MultiGzDecoder::new(prefixed)))
            }
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::new(prefixed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Source::Zstd(Box::new(decoder))
            }
        };
        let buffer = vec![0; WINDOW_BYTES_MIN];
        Ok(Self { source, buffer, start: 0, end: 0, base: 0, damage: None })
    }

    pub(crate) fn compression(&self) -> Compression {
        match self.source {
            Source::Plain(_) => Compression::None,
            Source::Gzip(_) => Compression::Gzip,
            Source::Zstd(_) => Compression::Zstd,
        }
    }

    /// The bytes that are here.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Place of the first of [`Window::bytes`] in the uncompressed stream.
    pub(crate) fn byte_offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Why the stream ended early, where a decompressor gave up.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Undoes the last [`Window::consume`] of that many bytes.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.start -= bytes;
    }

    /// Consumes that many bytes, all of which must be here, and shows them.
    pub(crate) fn take(&mut self, bytes: usize) -> &[u8] {
        let from = self.start;
        self.consume(bytes);
        &self.buffer[from..self.start]
    }

    /// Reads until `bytes` are here; `false` where the stream ends before.
    pub(crate) fn need(&mut self, bytes: usize) -> io::Result<bool> {
        while self.end - self.start < bytes {
            if self.buffer.len() - self.start < bytes {
                self.make_room(bytes);
            }
            if self.read_more()? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn make_room(&mut self, bytes: usize) {
        let was_full = self.end == self.buffer.len();
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        // Half full of what arrived before it may double: a declared length alone costs nothing.
        if self.buffer.len() < bytes && self.end * 2 >= self.buffer.len() {
            let larger = self.buffer.len() * 2;
            self.buffer.resize(larger, 0);
        } else if was_full && self.buffer.len() < WINDOW_BYTES {
            self.buffer.resize((self.buffer.len() * 4).min(WINDOW_BYTES), 0);
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        if self.damage.is_some() {
            return Ok(0);
        }
        let room = &mut self.buffer[self.end..];
        let read = loop {
            let result = match &mut self.source {
                Source::Plain(read) => read.read(room),
                Source::Gzip(read) => read.read(room),
                Source::Zstd(read) => read.read(room),
            };
            match result {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(self.source, Source::Plain(_)) => return Err(error),
                Err(error) => {
                    self.damage = Some(error.to_string());
                    break 0;
                }
            }
        };
        self.end += read;
        Ok(read)
    }
}
