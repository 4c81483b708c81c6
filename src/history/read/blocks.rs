//! Cuts a stream of text into blocks of whole events, without understanding them.
//!
//! Where events stand one to a line (or over several, indented), a block ends before a line that
//! begins an event. Where all stand in one vector, brackets are counted, and the vector's own are
//! blanked, so that both look the same to whoever reads the blocks.

use std::io::{self, Read};

use super::Format;

/// How much is read at a time: so little that it stays in a core's own cache.
pub(crate) const BLOCK_BYTES: usize = 1 << 18;
/// The most one event may take.
const EVENT_BYTES_MAX: usize = 1 << 30;

/// A stream of text, block by block.
pub(crate) struct Blocks<R> {
    source: R,
    /// Text read beyond the end of the last block.
    rest: Vec<u8>,
    byte_offset: u64,
    brackets: Option<Brackets>,
    /// Why no more can be read.
    failed: Option<io::Error>,
    ended: bool,
    block_bytes: usize,
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where in the whole text it begins.
    pub(crate) byte_offset: u64,
    /// Whether nothing follows.
    pub(crate) last: bool,
}

impl<R: Read> Blocks<R> {
    /// Before the first block of `source`.
    pub(crate) fn new(source: R, block_bytes: usize) -> Self {
        Self {
            source,
            rest: Vec::new(),
            byte_offset: 0,
            brackets: None,
            failed: None,
            ended: false,
            block_bytes,
        }
    }

    /// Looks at the first bytes: how is this history written, and are its events in one vector?
    pub(crate) fn begin(&mut self, format: Format) -> Format {
        let mut rest = std::mem::take(&mut self.rest);
        self.fill(&mut rest);
        let format = if format == Format::Auto { sniff(&rest) } else { format };
        if matches!(first_byte(&rest), Some(b'[' | b'(')) {
            self.brackets = Some(Brackets::new(format));
        }
        self.rest = rest;
        format
    }

    /// Puts the next block into `text`; absent at the end.
    pub(crate) fn next(&mut self, text: &mut Vec<u8>) -> Option<Block> {
        text.clear();
        text.append(&mut self.rest);
        let byte_offset = self.byte_offset;
        let mut seen = 0;
        let end = loop {
            if !self.ended && text.len() < self.block_bytes.max(seen + 1) {
                self.fill(text);
            }
            if let Some(brackets) = &mut self.brackets {
                brackets.look(&mut text[seen..], seen);
            }
            if self.ended {
                break text.len();
            }
            let end = match &self.brackets {
                Some(brackets) => brackets.event_end,
                None => last_event_line(&text[seen.saturating_sub(1)..])
                    .map_or(0, |end| end + seen.saturating_sub(1)),
            };
            if end > 0 {
                break end;
            }
            seen = text.len();
            if seen > EVENT_BYTES_MAX {
                self.ended = true;
                self.failed = Some(io::Error::other("an event of more than 1 GiB"));
            }
        };
        self.rest.extend_from_slice(&text[end..]);
        text.truncate(end);
        if let Some(brackets) = &mut self.brackets {
            brackets.event_end = 0;
            // What is left over has been looked at already, and is looked at again.
            brackets.rewind();
        }
        self.byte_offset += end as u64;
        (end > 0).then_some(Block { byte_offset, last: self.ended && self.rest.is_empty() })
    }

    /// Whether the vector around all events, if there is one, was still open at the end.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.brackets.as_ref().is_some_and(|brackets| brackets.base > 0)
    }

    /// Why reading stopped before the end, if it did.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// How much text there was.
    pub(crate) fn bytes(&self) -> u64 {
        self.byte_offset
    }

    /// Reads another block's worth onto the end of `text`.
    fn fill(&mut self, text: &mut Vec<u8>) {
        let wanted = self.block_bytes as u64;
        match self.source.by_ref().take(wanted).read_to_end(text) {
            Ok(read) => self.ended = (read as u64) < wanted,
            Err(error) => {
                self.failed = Some(error);
                self.ended = true;
            }
        }
    }
}

/// JSON if the first name in it is a string.
fn sniff(bytes: &[u8]) -> Format {
    let mut significant = bytes.iter().filter(|b| !b.is_ascii_whitespace() && **b != b'[');
    match (significant.next(), significant.next()) {
        (Some(b'{'), Some(b'"')) => Format::Jsonl,
        _ => Format::Edn,
    }
}

/// The first byte that is neither blank nor in a comment.
fn first_byte(bytes: &[u8]) -> Option<u8> {
    bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| line.trim_ascii_start().first().copied())
        .find(|b| *b != b';')
}

/// Where the last line that begins an event begins; the first byte is not looked at.
fn last_event_line(text: &[u8]) -> Option<usize> {
    let mut end = text.len();
    while let Some(newline) = text[..end].iter().rposition(|b| *b == b'\n') {
        if matches!(text.get(newline + 1), Some(b'{' | b'#')) {
            return Some(newline + 1);
        }
        end = newline;
    }
    None
}

/// Counts brackets over blocks.
#[derive(Debug, Clone)]
struct Brackets {
    edn: bool,
    depth: usize,
    /// How deep events stand: in the vector, or behind it.
    base: usize,
    state: Inside,
    /// The end of the last whole event seen in this block.
    event_end: usize,
    at_event_end: (usize, usize, Inside),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    String,
    /// Behind a string's backslash.
    Escape,
    Comment,
    /// Behind a character's backslash.
    Character,
}

impl Brackets {
    fn new(format: Format) -> Self {
        Self {
            edn: format != Format::Jsonl,
            depth: 0,
            base: 0,
            state: Inside::Nothing,
            event_end: 0,
            at_event_end: (0, 0, Inside::Nothing),
        }
    }

    /// Looks at more text, which begins at `start` of its block; blanks the vector's brackets.
    fn look(&mut self, text: &mut [u8], start: usize) {
        if start == 0 {
            self.at_event_end = (self.depth, self.base, self.state);
        }
        for (at, byte) in text.iter_mut().enumerate() {
            self.state = match (self.state, *byte) {
                (Inside::String, b'"') => Inside::Nothing,
                (Inside::String, b'\\') => Inside::Escape,
                (Inside::Escape, _) => Inside::String,
                (Inside::Comment, b'\n') | (Inside::Character, _) => Inside::Nothing,
                (Inside::Nothing, b'"') => Inside::String,
                (Inside::Nothing, b';') if self.edn => Inside::Comment,
                (Inside::Nothing, b'\\') if self.edn => Inside::Character,
                (Inside::Nothing, b'[' | b'{' | b'(') => {
                    if self.depth == 0 && self.base == 0 && *byte != b'{' {
                        *byte = b' ';
                        self.base = 1;
                    }
                    self.depth += 1;
                    Inside::Nothing
                }
                (Inside::Nothing, b']' | b'}' | b')') => {
                    self.close(byte, start + at + 1);
                    Inside::Nothing
                }
                (state, _) => state,
            };
        }
    }

    fn close(&mut self, byte: &mut u8, end: usize) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth < self.base {
            *byte = b' ';
            self.base = 0;
        }
        if self.depth == self.base {
            self.event_end = end;
            self.at_event_end = (self.depth, self.base, Inside::Nothing);
        }
    }

    /// Goes back to the end of the last whole event.
    fn rewind(&mut self) {
        (self.depth, self.base, self.state) = self.at_event_end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way of cutting gives the same text again, cut between events only.
    fn check(text: &str, expected: &str, events: usize) {
        for block_bytes in 1..text.len() + 2 {
            let mut blocks = Blocks::new(text.as_bytes(), block_bytes);
            blocks.begin(Format::Auto);
            let (mut all, mut block, mut count, mut last) = (Vec::new(), Vec::new(), 0, false);
            while let Some(found) = blocks.next(&mut block) {
                assert_eq!(found.byte_offset, all.len() as u64);
                assert!(!last, "nothing follows the last block");
                last = found.last;
                let mut scanner = edn::Scanner::new(&block);
                while scanner.skip_form().expect("blocks hold whole events").is_some() {
                    count += 1;
                }
                all.extend_from_slice(&block);
            }
            assert_eq!(String::from_utf8(all).expect("text"), expected, "{block_bytes}");
            assert_eq!(count, events, "{block_bytes}");
        }
    }

    #[test]
    fn lines_are_cut_before_events() {
        let text = "{:a 1}\n{:b\n 2}\n\n#op{:c 3}\n{:d \"x\\ny\"}\n";
        check(text, text, 4);
        check("{:a 1}", "{:a 1}", 1);
        check("", "", 0);
    }

    #[test]
    fn one_vector_is_cut_between_its_elements() {
        check(
            "[{:a [1 2]} {:b \"]}\\\"\"}\n {:c \\]} ; ]\n {:d 4}]\n",
            " {:a [1 2]} {:b \"]}\\\"\"}\n {:c \\]} ; ]\n {:d 4} \n",
            4,
        );
        check("[{\"a\" [1]},{\"b\" 2}]", " {\"a\" [1]},{\"b\" 2} ", 2);
    }
}
