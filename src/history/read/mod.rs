//! Turns the text of a history, in EDN or JSON lines, into columns.
//!
//! * [`read_history`]: the whole of it.
//! * `notation`, `edn`, `json`: pieces of either notation; `text`: any value as text.
//! * `grammar`: events out of pieces.
//!
//! Never: opens a file; stops at what is merely odd.

mod edn;
pub(super) mod grammar;
pub(super) mod json;
pub(super) mod notation;
pub(super) mod text;

use std::io::{BufRead, BufReader, Read};
use std::num::NonZeroUsize;

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

use self::grammar::Grammar;
use self::json::Json;
use self::notation::Malformed;
use super::columns::chunk::Chunk;
use super::columns::{Builder, History};
use super::observation::{Observations, Oddity};

/// How a history is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Whichever its first bytes show.
    #[default]
    Auto,
    /// One JSON object a line.
    Jsonl,
    /// Jepsen's: EDN maps, one a line or not, or one vector of them.
    Edn,
}

/// A history as read.
#[derive(Debug)]
pub struct Recorded {
    /// What happened.
    pub history: History,
    /// What was odd about it.
    pub observations: Observations,
    /// Where reading had to stop, if before the end; `history` is what stands before it.
    pub stopped: Option<Stopped>,
    /// How it was written.
    pub format: Format,
    /// How many bytes of (decompressed) text there were.
    pub bytes: u64,
}

/// A place in a history where nothing could be made of the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("byte {byte_offset}: {reason}")]
pub struct Stopped {
    /// Which byte of the (decompressed) text, from 0.
    pub byte_offset: u64,
    /// Why, in words.
    pub reason: String,
}

/// A history of which nothing could be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Its bytes could not be had.
    #[error("the history cannot be read")]
    Io(#[from] std::io::Error),
    /// It is neither EDN nor JSON from its first event on.
    #[error("no history")]
    Malformed(#[source] Stopped),
}

/// Reads a history to its end, or as far as it goes; gzip is seen by its first bytes.
///
/// The result does not depend on the number of threads.
pub fn read_history(
    source: impl Read + Send,
    format: Format,
    threads: NonZeroUsize,
) -> Result<Recorded, ReadError> {
    let _ = threads;
    let mut source = BufReader::with_capacity(1 << 16, source);
    let mut bytes = Vec::new();
    if source.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(source).read_to_end(&mut bytes)?;
    } else {
        source.read_to_end(&mut bytes)?;
    }
    let format = match format {
        Format::Auto => sniff(&bytes),
        format => format,
    };
    let mut chunk = Chunk::default();
    let result = match format {
        Format::Jsonl => Grammar::<Json>::new(&bytes, &mut chunk).read_all(),
        _ => Grammar::<::edn::Scanner>::new(&bytes, &mut chunk).read_all(),
    };
    let mut stopped = None;
    match result {
        Ok(()) => {}
        Err(Malformed { byte_offset, cut_off: true, .. }) if !chunk.events.is_empty() => {
            chunk.odd(Oddity::CutOff, byte_offset as u64);
        }
        Err(error) => {
            let place =
                Stopped { byte_offset: error.byte_offset as u64, reason: error.reason.clone() };
            if chunk.events.is_empty() {
                return Err(ReadError::Malformed(place));
            }
            stopped = Some(place);
        }
    }
    let mut builder = Builder::new();
    builder.absorb(&mut chunk, 0);
    let (history, observations) = builder.finish_with_observations();
    Ok(Recorded { history, observations, stopped, format, bytes: bytes.len() as u64 })
}

/// JSON if the first name in it is a string.
fn sniff(bytes: &[u8]) -> Format {
    let mut significant = bytes.iter().filter(|b| !b.is_ascii_whitespace() && **b != b'[');
    match (significant.next(), significant.next()) {
        (Some(b'{'), Some(b'"')) => Format::Jsonl,
        _ => Format::Edn,
    }
}
