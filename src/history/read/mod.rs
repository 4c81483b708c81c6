//! Turns the text of a history, in EDN or JSON lines, into columns.
//!
//! * [`read_history`]: the whole of it.
//! * `notation`, `edn`, `json`: pieces of either notation; `text`: any value as text.
//! * `grammar`: events out of pieces; `blocks`, `threads`: many at once.
//!
//! Never: opens a file; stops at what is merely odd.

mod blocks;
mod edn;
pub(super) mod grammar;
pub(super) mod json;
pub(super) mod notation;
pub(super) mod text;
mod threads;

use std::io::{self, Read};
use std::num::NonZeroUsize;

use flate2::read::MultiGzDecoder;
use thiserror::Error;

use self::blocks::{BLOCK_BYTES, Blocks};
use self::threads::read_blocks;
use super::columns::History;
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
    read_in_blocks(source, format, threads, BLOCK_BYTES)
}

fn read_in_blocks(
    mut source: impl Read + Send,
    format: Format,
    threads: NonZeroUsize,
    block_bytes: usize,
) -> Result<Recorded, ReadError> {
    let mut head = Vec::new();
    source.by_ref().take(2).read_to_end(&mut head)?;
    let zipped = head == [0x1f, 0x8b];
    let source = io::Cursor::new(head).chain(source);
    let source: Box<dyn Read + Send + '_> = match zipped {
        true => Box::new(MultiGzDecoder::new(source)),
        false => Box::new(source),
    };
    let mut blocks = Blocks::new(source, block_bytes);
    let format = blocks.begin(format);
    let (builder, mut stopped, mut blocks) = read_blocks(blocks, format, threads);
    let bytes = blocks.bytes();
    let (history, mut observations) = builder.finish_with_observations();
    if let Some(error) = blocks.take_failure().filter(|_| stopped.is_none()) {
        if history.is_empty() {
            return Err(error.into());
        }
        stopped = Some(Stopped { byte_offset: bytes, reason: error.to_string() });
    }
    match stopped {
        Some(stopped) if history.is_empty() => return Err(ReadError::Malformed(stopped)),
        None if history.is_empty() && observations.of(Oddity::NotAnEvent).count > 0 => {
            let byte_offset = observations.of(Oddity::NotAnEvent).byte_offset;
            let reason = "nothing in it is an event".to_owned();
            return Err(ReadError::Malformed(Stopped { byte_offset, reason }));
        }
        None if blocks.is_cut_off() && observations.of(Oddity::CutOff).count == 0 => {
            observations.add(Oddity::CutOff, bytes);
        }
        _ => {}
    }
    Ok(Recorded { history, observations, stopped, format, bytes })
}

#[cfg(test)]
mod tests;
