//! JSON as pieces.
//!
//! Strict but for two things: texts may follow each other with or without a comma, so that lines
//! and the elements of one big array look the same; and control characters in strings pass.

use std::borrow::Cow;

use super::notation::{DEPTH_MAX, Malformed, Notation, Piece};

/// Pulls pieces out of JSON.
#[derive(Debug, Clone)]
pub(crate) struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// The closing bracket each open collection waits for.
    closers: [u8; DEPTH_MAX],
    state: State,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first of a collection, or its end.
    First,
    /// The value of a name.
    Value,
    /// A comma and another, or the end.
    Next,
}

impl<'a> Json<'a> {
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    #[cold]
    fn malformed(&self, byte_offset: usize, reason: &str) -> Malformed {
        let cut_off = byte_offset >= self.bytes.len();
        let reason = if cut_off { "the text ends inside a value" } else { reason };
        Malformed { byte_offset, cut_off, reason: reason.into() }
    }

    #[inline]
    fn open(&mut self, closer: u8) -> Result<(), Malformed> {
        let Some(slot) = self.closers.get_mut(self.depth) else {
            return Err(Malformed {
                byte_offset: self.at,
                cut_off: false,
                reason: format!("more than {DEPTH_MAX} brackets deep").into(),
            });
        };
        *slot = closer;
        self.depth += 1;
        self.at += 1;
        self.state = State::First;
        Ok(())
    }

    #[inline]
    fn in_object(&self) -> bool {
        self.depth > 0 && self.closers[self.depth - 1] == b'}'
    }

    /// A name with its colon.
    fn name(&mut self) -> Result<Piece<'a>, Malformed> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed(self.at, "a name in quotes was expected"));
        }
        let name = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.malformed(self.at, "a colon was expected"));
        }
        self.at += 1;
        self.state = State::Value;
        Ok(Piece::Text(name))
    }

    #[inline]
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let start = self.at + 1;
        let rest = &self.bytes[start..];
        let end = rest.iter().position(|b| matches!(b, b'"' | b'\\'));
        match end {
            Some(end) if rest[end] == b'"' => {
                self.at = start + end + 1;
                self.utf8(start, &rest[..end]).map(Cow::Borrowed)
            }
            Some(_) => self.escaped_string(start).map(Cow::Owned),
            None => Err(self.malformed(self.bytes.len(), "")),
        }
    }

    #[inline]
    fn utf8(&self, start: usize, bytes: &'a [u8]) -> Result<&'a str, Malformed> {
        std::str::from_utf8(bytes).map_err(|e| self.malformed(start + e.valid_up_to(), "not UTF-8"))
    }

    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<String, Malformed> {
        let mut text = String::new();
        let mut units: Vec<u16> = Vec::new();
        let mut at = start;
        loop {
            let rest = &self.bytes[at..];
            let Some(plain) = rest.iter().position(|b| matches!(b, b'"' | b'\\')) else {
                return Err(self.malformed(self.bytes.len(), ""));
            };
            let next = rest.get(plain + 1).copied();
            if plain > 0 || rest[plain] == b'"' || next != Some(b'u') {
                text.push_str(&String::from_utf16_lossy(&units));
                units.clear();
            }
            text.push_str(self.utf8(at, &rest[..plain])?);
            at += plain + 1;
            if rest[plain] == b'"' {
                self.at = at;
                return Ok(text);
            }
            at += 1;
            match next {
                Some(b'"' | b'\\' | b'/') => text.push(next.unwrap_or(b'/').into()),
                Some(b'n') => text.push('\n'),
                Some(b't') => text.push('\t'),
                Some(b'r') => text.push('\r'),
                Some(b'b') => text.push('\u{8}'),
                Some(b'f') => text.push('\u{c}'),
                Some(b'u') => {
                    let Some(hex) = self.bytes.get(at..at + 4) else {
                        return Err(self.malformed(self.bytes.len(), ""));
                    };
                    let hex = std::str::from_utf8(hex).ok().filter(|h| !h.starts_with('+'));
                    let unit = hex.and_then(|h| u16::from_str_radix(h, 16).ok());
                    units.push(unit.ok_or_else(|| self.malformed(at, "an unknown escape"))?);
                    at += 4;
                }
                _ => return Err(self.malformed(at - 1, "an unknown escape")),
            }
        }
    }

    fn scalar(&mut self) -> Result<Piece<'a>, Malformed> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let length = rest.iter().position(|b| !plain(b)).unwrap_or(rest.len());
        let word = self.utf8(start, &rest[..length])?;
        let piece = match word {
            "null" => Piece::Nil,
            "true" => Piece::Bool(true),
            "false" => Piece::Bool(false),
            _ => {
                let digits = word.strip_prefix('-').unwrap_or(word);
                let octal =
                    digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
                let begins = digits.starts_with(|c: char| c.is_ascii_digit());
                let letters =
                    word.bytes().any(|b| b.is_ascii_alphabetic() && !matches!(b, b'e' | b'E'));
                if !begins || octal || letters || word.parse::<f64>().is_err() {
                    let at = if length == rest.len() { self.bytes.len() } else { start };
                    return Err(self.malformed(at, "no JSON value"));
                }
                Piece::Other(word)
            }
        };
        self.at += length;
        Ok(piece)
    }

    #[inline]
    fn value(&mut self, byte: u8) -> Result<Piece<'a>, Malformed> {
        let piece = match byte {
            b'[' => return self.open(b']').map(|()| Piece::Seq),
            b'{' => return self.open(b'}').map(|()| Piece::Map),
            b'"' => match self.string()? {
                Cow::Borrowed(text) => match text.strip_prefix(':') {
                    Some(word) => Piece::Word(word),
                    None => Piece::Text(Cow::Borrowed(text)),
                },
                owned => Piece::Text(owned),
            },
            _ => match self.integer_at(self.at) {
                Some((integer, end)) => {
                    self.at = end;
                    Piece::Integer(integer)
                }
                None => self.scalar()?,
            },
        };
        self.state = State::Next;
        Ok(piece)
    }

    #[inline]
    fn integer_at(&self, at: usize) -> Option<(i64, usize)> {
        let (value, length) = edn::integer(self.bytes.get(at..)?)?;
        let end = at + length;
        let goes_on = matches!(self.bytes.get(end), Some(b'.' | b'e' | b'E' | b'0'..=b'9'));
        (!goes_on).then_some((value, end))
    }
}

impl<'a> Notation<'a> for Json<'a> {
    const NAMES_ARE_STRINGS: bool = true;

    fn starting_at(bytes: &'a [u8], byte_offset: usize) -> Self {
        let at = byte_offset.min(bytes.len());
        Self { bytes, at, depth: 0, closers: [0; DEPTH_MAX], state: State::First }
    }

    #[inline]
    fn byte_offset(&mut self) -> usize {
        // A comma before the piece belongs to what came before it.
        if self.peek() == Some(b',') && self.state == State::Next && !self.in_object() {
            self.at += 1;
            self.state = State::Value;
            self.peek();
        }
        self.at
    }

    #[inline]
    fn depth(&self) -> usize {
        self.depth
    }

    #[inline]
    fn piece(&mut self) -> Result<Piece<'a>, Malformed> {
        let Some(mut byte) = self.peek() else {
            return if self.depth == 0 { Ok(Piece::End) } else { Err(self.malformed(self.at, "")) };
        };
        if self.depth == 0 {
            if byte == b',' {
                self.at += 1;
                match self.peek() {
                    Some(next) => byte = next,
                    None => return Ok(Piece::End),
                }
            }
            return self.value(byte);
        }
        if self.state == State::Value {
            return self.value(byte);
        }
        if byte == self.closers[self.depth - 1] {
            self.depth -= 1;
            self.at += 1;
            self.state = State::Next;
            return Ok(Piece::Close);
        }
        if self.state == State::Next {
            if byte != b',' {
                return Err(self.malformed(self.at, "a comma or a closing bracket was expected"));
            }
            self.at += 1;
            byte = match self.peek() {
                Some(byte) => byte,
                None => return Err(self.malformed(self.at, "")),
            };
        }
        if self.in_object() { self.name() } else { self.value(byte) }
    }

    #[inline]
    fn pair(&mut self) -> Option<(i64, i64)> {
        let at = self.next_value()?;
        if *self.bytes.get(at)? != b'[' {
            return None;
        }
        let (first, length) = edn::integer(&self.bytes[at + 1..])?;
        let mut middle = at + 1 + length;
        if *self.bytes.get(middle)? != b',' {
            return None;
        }
        middle += 1 + usize::from(self.bytes.get(middle + 1) == Some(&b' '));
        let (second, length) = edn::integer(&self.bytes[middle..])?;
        let end = middle + length;
        if *self.bytes.get(end)? != b']' {
            return None;
        }
        self.at = end + 1;
        self.state = State::Next;
        Some((first, second))
    }

    #[inline]
    fn integer(&mut self) -> Option<i64> {
        let at = self.next_value()?;
        let (integer, end) = self.integer_at(at)?;
        self.at = end;
        self.state = State::Next;
        Some(integer)
    }

    #[inline]
    fn integer_name(&mut self) -> Option<i64> {
        let start = self.next_name()?;
        let (integer, length) = edn::integer(&self.bytes[start..])?;
        let end = start + length;
        self.end_name(end)?;
        Some(integer)
    }

    #[inline]
    fn name(&mut self) -> Option<&'a [u8]> {
        let start = self.next_name()?;
        let rest = &self.bytes[start..];
        let length = plain_length(rest)?;
        self.end_name(start + length)?;
        Some(&rest[..length])
    }

    #[inline]
    fn word(&mut self) -> Option<&'a [u8]> {
        let at = self.next_value()?;
        if *self.bytes.get(at)? != b'"' {
            return None;
        }
        let rest = &self.bytes[at + 1..];
        let length = plain_length(rest)?;
        self.at = at + length + 2;
        self.state = State::Next;
        Some(&rest[..length])
    }

    #[inline]
    fn take(&mut self, bracket: u8) -> bool {
        if matches!(bracket, b']' | b'}') {
            let closes = self.peek() == Some(bracket)
                && self.depth > 0
                && self.closers[self.depth - 1] == bracket
                && self.state != State::Value;
            if closes {
                self.depth -= 1;
                self.at += 1;
                self.state = State::Next;
            }
            return closes;
        }
        let Some(at) = self.next_value().filter(|at| self.bytes.get(*at) == Some(&bracket)) else {
            return false;
        };
        let before = std::mem::replace(&mut self.at, at);
        let opened = self.open(bracket + 2).is_ok();
        if !opened {
            self.at = before;
        }
        opened
    }
}

impl<'a> Json<'a> {
    /// Where the next value begins, if a value may come; blanks and the comma before it are looked
    /// past but not taken.
    #[inline]
    fn next_value(&mut self) -> Option<usize> {
        let byte = self.peek()?;
        match self.state {
            State::Value => Some(self.at),
            State::First if !self.in_object() => Some(self.at),
            State::Next if byte == b',' && !self.in_object() => {
                Some(self.behind_blank(self.at + 1))
            }
            _ => None,
        }
    }

    /// Where the text of the next name begins, behind its quote.
    #[inline]
    fn next_name(&mut self) -> Option<usize> {
        let byte = self.peek()?;
        if !self.in_object() {
            return None;
        }
        let at = match self.state {
            State::First => self.at,
            State::Next if byte == b',' => self.behind_blank(self.at + 1),
            _ => return None,
        };
        (*self.bytes.get(at)? == b'"').then_some(at + 1)
    }

    /// Takes a name whose closing quote is at `end`, and its colon.
    #[inline]
    fn end_name(&mut self, end: usize) -> Option<()> {
        if self.bytes.get(end..end + 2)? != b"\":" {
            return None;
        }
        self.at = end + 2;
        self.state = State::Value;
        Some(())
    }

    /// One blank is common behind commas; more are left to `piece`.
    #[inline]
    fn behind_blank(&self, at: usize) -> usize {
        at + usize::from(self.bytes.get(at) == Some(&b' '))
    }
}

/// How long a string without escapes is; `bytes` begin behind its quote.
#[inline]
fn plain_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|b| matches!(b, b'"' | b'\\'))?;
    (bytes[end] == b'"').then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Result<String, Malformed> {
        let mut json = Json::starting_at(text.as_bytes(), 0);
        let mut all = String::new();
        loop {
            match json.piece()? {
                Piece::End => return Ok(all),
                Piece::Text(text) => all.push_str(&format!("{text:?} ")),
                piece => all.push_str(&format!("{piece:?} ")),
            }
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(pieces(text).expect(text).trim(), expected, "{text}");
    }

    fn check_error(text: &str, byte_offset: usize, cut_off: bool) {
        let error = pieces(text).expect_err(text);
        assert_eq!((error.byte_offset, error.cut_off), (byte_offset, cut_off), "{text} {error:?}");
    }

    #[test]
    fn values_of_every_kind_are_pieces() {
        check(
            "[1,-2, 1.5e3 ,null,true,\"a\"]",
            "Seq Integer(1) Integer(-2) Other(\"1.5e3\") Nil Bool(true) \"a\" Close",
        );
        check("{\"a\":{},\"b\":[[]]}", "Map \"a\" Map Close \"b\" Seq Seq Close Close Close");
        check(r#""a\"\u00e9\ud83d\ude00\n" ":kw""#, "\"a\\\"é😀\\n\" Word(\"kw\")");
        check("1\n{}\n,{}", "Integer(1) Map Close Map Close");
        check(
            "9223372036854775808 0 -0.5",
            "Other(\"9223372036854775808\") Integer(0) Other(\"-0.5\")",
        );
    }

    #[test]
    fn what_is_no_json_is_refused_where_it_stands() {
        check_error("[1 2]", 3, false);
        check_error("[1,]", 3, false);
        check_error("{\"a\" 1}", 5, false);
        check_error("{1:2}", 1, false);
        check_error("[01] ", 1, false);
        check_error("[nan] ", 1, false);
        check_error("[0x10] ", 2, false);
        check_error("[}", 1, false);
        check_error("\"a\\q\"", 3, false);
        for text in ["[1,", "{\"a\":", "{\"a", "[tr", "\"a\\u12", "[{}"] {
            check_error(text, text.len(), true);
        }
        assert!(!pieces(&"[".repeat(DEPTH_MAX + 1)).expect_err("too deep").cut_off);
    }

    #[test]
    fn pairs_are_taken_only_whole() {
        let mut json = Json::starting_at(b"[[1,2],[3, 4], [5,6],[7,8,9],[null,1]]", 0);
        json.piece().expect("the outer array");
        assert_eq!(
            [json.pair(), json.pair(), json.pair()],
            [Some((1, 2)), Some((3, 4)), Some((5, 6))]
        );
        assert_eq!(json.pair(), None);
        assert_eq!((json.piece(), json.piece()), (Ok(Piece::Seq), Ok(Piece::Integer(7))));
    }
}
