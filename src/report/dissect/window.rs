//! The last lines before they are written, so that those which come late still stand in their place.
//!
//! Lines come here in the order in which their requests were understood. That is the order of
//! their packets, but for connections of which it took long to say what they speak (a start in
//! mid-stream) or whose packets waited for a hole to be filled. Lines get their numbers when they
//! are written.
//!
//! Never: writes; holds more than [`WINDOW_BYTES`] and one line.

use super::line::write_integer;
use super::names::TopicNames;

/// Bytes of lines that are kept until they are sorted and the first half of them is written.
pub const WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// Bytes that are handed out at a time.
const WRITE_BYTES: usize = 64 * 1024;
/// Lines, and places of lines that are not wanted.
const LINES_MAX: usize = 1 << 18;

/// The lines and their keys.
#[derive(Debug, Default)]
pub struct Window {
    text: String,
    lines: Vec<Line>,
    is_unsorted: bool,
    written: u64,
    names: TopicNames,
}

/// One line; without a byte it is one that is not wanted, but counts.
#[derive(Debug, Clone, Copy)]
struct Line {
    key: u64,
    start: usize,
    end: usize,
}

impl Window {
    /// Where the next line is put together: all of it from `,` behind its number to the line break.
    pub fn text(&mut self) -> &mut String {
        &mut self.text
    }

    /// The names that lines get when they are written.
    pub fn names(&mut self) -> &mut TopicNames {
        &mut self.names
    }

    /// What was appended to the text since the last line is a line.
    pub fn push(&mut self, key: u64) {
        let end = self.text.len();
        let (before, start) = self.lines.last().map_or((0, 0), |line| (line.key, line.end));
        self.is_unsorted |= key < before;
        self.lines.push(Line { key, start, end });
    }

    /// Whether some of it must be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.text.len() > WINDOW_BYTES || self.lines.len() > LINES_MAX
    }

    /// Hands out the first half of the lines in the order of their keys, many at a time.
    pub fn first_half(&mut self, write: impl FnMut(&str)) {
        self.take(self.lines.len().div_ceil(2), write);
    }

    /// Hands out all of them.
    pub fn all(&mut self, write: impl FnMut(&str)) {
        self.take(self.lines.len(), write);
    }

    fn take(&mut self, count: usize, mut write: impl FnMut(&str)) {
        if std::mem::take(&mut self.is_unsorted) {
            self.lines.sort_by_key(|line| line.key);
        }
        let mut out = String::new();
        for line in self.lines.drain(..count) {
            self.written += 1;
            if line.start < line.end {
                out.push_str("{\"n\":");
                // No capture has so many requests that the number would not fit.
                write_integer(&mut out, self.written as i64);
                self.names.write(&self.text[line.start..line.end], &mut out);
            }
            if out.len() >= WRITE_BYTES {
                write(&out);
                out.clear();
            }
        }
        write(&out);
        self.keep_rest();
    }

    /// Moves what is left to the beginning.
    fn keep_rest(&mut self) {
        let rest = self.lines.iter().map(|line| line.end - line.start).sum();
        let mut text = String::with_capacity(rest);
        for line in &mut self.lines {
            let start = text.len();
            text.push_str(&self.text[line.start..line.end]);
            (line.start, line.end) = (start, text.len());
        }
        self.text = text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &[u64], halves: usize, expected: &str) {
        let mut window = Window::default();
        let mut out = String::new();
        for key in keys {
            // Odd ones are not wanted.
            if key % 2 == 0 {
                window.text().push_str(&format!(":{key} "));
            }
            window.push(*key);
        }
        let mut write = |lines: &str| out.push_str(lines);
        for _ in 0..halves {
            window.first_half(&mut write);
        }
        window.all(&mut write);
        assert_eq!(out.replace("{\"n\":", ""), expected);
    }

    #[test]
    fn lines_that_come_late_stand_in_their_place() {
        check(&[2, 4, 6, 8], 0, "1:2 2:4 3:6 4:8 ");
        check(&[6, 2, 4, 8], 0, "1:2 2:4 3:6 4:8 ");
        check(&[6, 2, 4, 8, 0], 2, "1:0 2:2 3:4 4:6 5:8 ");
    }

    #[test]
    fn lines_that_are_not_wanted_have_their_numbers() {
        check(&[2, 3, 5, 8], 1, "1:2 4:8 ");
        check(&[8, 1, 2], 0, "2:2 3:8 ");
    }
}
