//! Turns bytes into tokens, one pull at a time.

use crate::error::{Error, ErrorKind};
use crate::integer::{integer, short_pair};
use crate::token::{Number, Shape, Text, Token, octal_digits, simple_escape};

/// How many collections may stand inside each other.
pub const DEPTH_MAX: usize = 256;

const BLANK: u8 = 1;
/// Ends a number, keyword, symbol or character: blank, bracket, quote or semicolon.
const ENDS: u8 = 2;

/// What a byte can mean between and inside tokens.
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let blanks = b" ,\n\r\t\x0b\x0c";
    let mut i = 0;
    while i < blanks.len() {
        class[blanks[i] as usize] = BLANK | ENDS;
        i += 1;
    }
    let ends = b"()[]{}\";";
    let mut i = 0;
    while i < ends.len() {
        class[ends[i] as usize] = ENDS;
        i += 1;
    }
    class
};

/// Pulls tokens out of bytes.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// The closing bracket each open collection waits for.
    closers: [u8; DEPTH_MAX],
}

impl<'a> Scanner<'a> {
    /// Before the first token of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::starting_at(bytes, 0)
    }

    /// Before the first token at or behind a byte offset; offsets still count from the start.
    #[must_use]
    pub fn starting_at(bytes: &'a [u8], byte_offset: usize) -> Self {
        Self { bytes, at: byte_offset.min(bytes.len()), depth: 0, closers: [0; DEPTH_MAX] }
    }

    /// The bytes scanned.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where the next token, or blanks before it, begin.
    #[inline]
    #[must_use]
    pub fn byte_offset(&self) -> usize {
        self.at
    }

    /// How many collections are open.
    #[inline]
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The first byte of the next token (or of a discarded form), blanks and comments skipped;
    /// absent at the end.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if CLASS[byte as usize] & BLANK != 0 {
                self.at += 1;
            } else if byte == b';' {
                self.skip_comment();
            } else {
                return Some(byte);
            }
        }
    }

    #[cold]
    fn skip_comment(&mut self) {
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    }

    /// The next token; absent at the end of the text.
    #[inline]
    pub fn pull(&mut self) -> Result<Option<Token<'a>>, Error> {
        loop {
            let Some(byte) = self.peek() else { return self.end() };
            let token = match byte {
                b'0'..=b'9' | b'-' | b'+' => self.number_or_symbol()?,
                b':' => {
                    self.at += 1;
                    Token::Keyword(self.word()?)
                }
                b'[' => self.open(Shape::Vector, b']')?,
                b'{' => self.open(Shape::Map, b'}')?,
                b']' | b'}' | b')' => self.close(byte)?,
                b'(' => self.open(Shape::List, b')')?,
                b'"' => {
                    self.at += 1;
                    Token::String(self.string()?)
                }
                b'#' => match self.dispatch()? {
                    Some(token) => token,
                    None => continue,
                },
                b'\\' => self.character()?,
                _ => self.symbol()?,
            };
            return Ok(Some(token));
        }
    }

    /// The name of a keyword, if one is next, as bytes not yet known to be UTF-8; else nothing is
    /// taken.
    #[inline]
    pub fn keyword(&mut self) -> Option<&'a [u8]> {
        if self.peek()? != b':' {
            return None;
        }
        let rest = &self.bytes[self.at + 1..];
        let length = word_length(rest);
        self.at += 1 + length;
        Some(&rest[..length])
    }

    /// Takes a bracket, one of `[`, `]`, `{` and `}`, if just that is next and may stand there.
    #[inline]
    pub fn take(&mut self, bracket: u8) -> bool {
        if self.peek() != Some(bracket) {
            return false;
        }
        match bracket {
            b'[' => self.open(Shape::Vector, b']').is_ok(),
            b'{' => self.open(Shape::Map, b'}').is_ok(),
            _ => self.close(bracket).is_ok(),
        }
    }

    /// An integer, if a plain one is next; else nothing is taken.
    #[inline]
    pub fn integer(&mut self) -> Option<i64> {
        self.peek()?;
        let (value, end) = self.integer_at(self.at)?;
        self.at = end;
        Some(value)
    }

    /// The numbers of `[40 1]`, if just such a vector is next; else nothing is taken.
    #[inline]
    pub fn integer_pair(&mut self) -> Option<(i64, i64)> {
        if self.peek()? != b'[' {
            return None;
        }
        if let Some((first, second, length)) = short_pair(&self.bytes[self.at..]) {
            self.at += length;
            return Some((first, second));
        }
        let (first, length) = integer(&self.bytes[self.at + 1..])?;
        let middle = self.at + 1 + length;
        if *self.bytes.get(middle)? != b' ' {
            return None;
        }
        let (second, length) = integer(&self.bytes[middle + 1..])?;
        let end = middle + 1 + length;
        if *self.bytes.get(end)? != b']' {
            return None;
        }
        self.at = end + 1;
        Some((first, second))
    }

    #[inline]
    fn integer_at(&self, at: usize) -> Option<(i64, usize)> {
        let (value, length) = integer(self.bytes.get(at..)?)?;
        let end = at + length;
        let ended = self.bytes.get(end).is_none_or(|b| CLASS[*b as usize] & ENDS != 0);
        ended.then_some((value, end))
    }

    /// Passes over the next form and gives its bytes; absent at the end of the text and before
    /// a closing bracket.
    pub fn skip_form(&mut self) -> Result<Option<&'a [u8]>, Error> {
        let Some(byte) = self.peek() else { return Ok(None) };
        if matches!(byte, b']' | b'}' | b')') {
            return Ok(None);
        }
        let start = self.at;
        let depth = self.depth;
        loop {
            match self.pull()? {
                None => return Err(self.error(self.at, ErrorKind::UnexpectedEnd)),
                Some(Token::Tag(_)) => {}
                Some(_) if self.depth < depth => {
                    return Err(
                        self.error(self.at - 1, ErrorKind::WrongCloser(self.bytes[self.at - 1]))
                    );
                }
                Some(_) if self.depth == depth => return Ok(Some(&self.bytes[start..self.at])),
                Some(_) => {}
            }
        }
    }

    fn end(&self) -> Result<Option<Token<'a>>, Error> {
        if self.depth == 0 {
            return Ok(None);
        }
        Err(self.error(self.at, ErrorKind::UnexpectedEnd))
    }

    #[inline]
    fn open(&mut self, shape: Shape, closer: u8) -> Result<Token<'a>, Error> {
        let Some(slot) = self.closers.get_mut(self.depth) else {
            return Err(self.error(self.at, ErrorKind::TooDeep));
        };
        *slot = closer;
        self.depth += 1;
        self.at += 1;
        Ok(Token::Open(shape))
    }

    #[inline]
    fn close(&mut self, byte: u8) -> Result<Token<'a>, Error> {
        if self.depth == 0 || self.closers[self.depth - 1] != byte {
            return Err(self.error(self.at, ErrorKind::WrongCloser(byte)));
        }
        self.depth -= 1;
        self.at += 1;
        Ok(Token::Close)
    }

    /// Everything up to the next blank, bracket, quote or semicolon.
    #[inline]
    fn word(&mut self) -> Result<&'a str, Error> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let length = rest.iter().position(|b| CLASS[*b as usize] & ENDS != 0).unwrap_or(rest.len());
        self.at = start + length;
        self.utf8(start, &rest[..length])
    }

    #[inline]
    fn utf8(&self, start: usize, bytes: &'a [u8]) -> Result<&'a str, Error> {
        std::str::from_utf8(bytes)
            .map_err(|e| self.error(start + e.valid_up_to(), ErrorKind::NotUtf8))
    }

    #[inline]
    fn number_or_symbol(&mut self) -> Result<Token<'a>, Error> {
        if let Some((value, end)) = self.integer_at(self.at) {
            self.at = end;
            return Ok(Token::Integer(value));
        }
        self.odd_number_or_symbol()
    }

    #[cold]
    fn odd_number_or_symbol(&mut self) -> Result<Token<'a>, Error> {
        let start = self.at;
        let text = self.word()?;
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !unsigned.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Token::Symbol(text));
        }
        number(text, unsigned).ok_or_else(|| self.error(start, ErrorKind::BadNumber))
    }

    fn symbol(&mut self) -> Result<Token<'a>, Error> {
        Ok(match self.word()? {
            "nil" => Token::Nil,
            "true" => Token::Bool(true),
            "false" => Token::Bool(false),
            other => Token::Symbol(other),
        })
    }

    /// A string's contents, its opening quote already behind us.
    fn string(&mut self) -> Result<Text<'a>, Error> {
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(length) = rest.iter().position(|b| matches!(b, b'"' | b'\\')) else {
                return Err(self.error(self.bytes.len(), ErrorKind::UnexpectedEnd));
            };
            self.at += length + 1;
            if rest[length] == b'"' {
                let raw = self.utf8(start, &self.bytes[start..self.at - 1])?;
                return Ok(Text { raw, escaped });
            }
            escaped = true;
            self.escape()?;
        }
    }

    /// The rest of an escape, its backslash already behind us.
    fn escape(&mut self) -> Result<(), Error> {
        let rest = &self.bytes[self.at..];
        let Some(&first) = rest.first() else {
            return Err(self.error(self.at, ErrorKind::UnexpectedEnd));
        };
        let length = match first {
            b'u' if rest.len() < 5 => {
                return Err(self.error(self.bytes.len(), ErrorKind::UnexpectedEnd));
            }
            b'u' if rest[1..5].iter().all(u8::is_ascii_hexdigit) => 5,
            b'0'..=b'7' => octal_digits(rest),
            other if simple_escape(other as char).is_some() => 1,
            _ => return Err(self.error(self.at - 1, ErrorKind::BadEscape)),
        };
        self.at += length;
        Ok(())
    }

    /// What begins with `#`; absent where that was a discarded form.
    fn dispatch(&mut self) -> Result<Option<Token<'a>>, Error> {
        let start = self.at;
        let Some(&byte) = self.bytes.get(start + 1) else {
            return Err(self.error(self.bytes.len(), ErrorKind::UnexpectedEnd));
        };
        self.at += 1;
        match byte {
            b'{' => self.open(Shape::Set, b'}').map(Some),
            b'_' => {
                self.at += 1;
                self.discard()?;
                Ok(None)
            }
            b'#' => {
                self.at += 1;
                let name = self.word()?;
                let known = matches!(name, "Inf" | "-Inf" | "NaN");
                let text = self.utf8(start, &self.bytes[start..self.at])?;
                let error = self.error(start, ErrorKind::BadDispatch(b'#'));
                if known { Ok(Some(Token::Number(Number::Float, text))) } else { Err(error) }
            }
            b'"' => {
                self.at += 1;
                self.pattern().map(Some)
            }
            _ if CLASS[byte as usize] & ENDS != 0 => {
                Err(self.error(start, ErrorKind::BadDispatch(byte)))
            }
            _ => {
                let name = self.word()?;
                match self.peek() {
                    None => Err(self.error(self.at, ErrorKind::UnexpectedEnd)),
                    Some(close @ (b']' | b'}' | b')')) => {
                        Err(self.error(self.at, ErrorKind::WrongCloser(close)))
                    }
                    Some(_) => Ok(Some(Token::Tag(name))),
                }
            }
        }
    }

    /// Passes over one form, and one more for each further discard before it or behind its tag.
    /// Inside a collection discards need no thought: all of it goes.
    fn discard(&mut self) -> Result<(), Error> {
        let depth = self.depth;
        let mut owed = 1_usize;
        while owed > 0 {
            if self.peek().is_none() {
                return Err(self.error(self.at, ErrorKind::UnexpectedEnd));
            }
            let start = self.at;
            if self.bytes[start..].starts_with(b"#_") {
                self.at += 2;
                owed += usize::from(self.depth == depth);
                continue;
            }
            match self.pull()? {
                Some(Token::Tag(_)) | None => {}
                Some(_) if self.depth < depth => {
                    let closer = self.bytes[self.at - 1];
                    return Err(self.error(self.at - 1, ErrorKind::WrongCloser(closer)));
                }
                Some(_) => owed -= usize::from(self.depth == depth),
            }
        }
        Ok(())
    }

    fn pattern(&mut self) -> Result<Token<'a>, Error> {
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(self.error(self.bytes.len(), ErrorKind::UnexpectedEnd)),
                Some(b'\\') => self.at += 2,
                Some(b'"') => break,
                Some(_) => self.at += 1,
            }
        }
        let raw = self.utf8(start, &self.bytes[start..self.at])?;
        self.at += 1;
        Ok(Token::Pattern(raw))
    }

    fn character(&mut self) -> Result<Token<'a>, Error> {
        let start = self.at;
        // The first character may be anything, a bracket or a blank too.
        let rest = &self.bytes[start + 1..];
        let width = match rest.first() {
            None => return Err(self.error(self.bytes.len(), ErrorKind::UnexpectedEnd)),
            Some(0..0x80) => 1,
            Some(0x80..0xe0) => 2,
            Some(0xe0..0xf0) => 3,
            Some(_) => 4,
        };
        if width > rest.len() {
            return Err(self.error(self.bytes.len(), ErrorKind::UnexpectedEnd));
        }
        self.at = start + 1 + width;
        self.word()?;
        let name = self.utf8(start + 1, &self.bytes[start + 1..self.at])?;
        match character(name) {
            Some(c) => Ok(Token::Char(c)),
            None => Err(self.error(start, ErrorKind::BadCharacter)),
        }
    }

    #[cold]
    fn error(&self, byte_offset: usize, kind: ErrorKind) -> Error {
        Error { byte_offset, kind }
    }
}

#[inline]
fn word_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| CLASS[*b as usize] & ENDS != 0).unwrap_or(bytes.len())
}

/// A number that is no plain decimal integer; `unsigned` is `text` without its sign.
fn number<'a>(text: &'a str, unsigned: &'a str) -> Option<Token<'a>> {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let negative = text.starts_with('-');
    let whole = |magnitude: Option<i128>| {
        let value = magnitude.map(|m| if negative { -m } else { m })?;
        i64::try_from(value).ok().map(Token::Integer)
    };
    if let Some(big) = unsigned.strip_suffix('N').filter(|big| digits(big)) {
        let kept = Token::Number(Number::BigInteger, text);
        return Some(whole(big.parse().ok()).unwrap_or(kept));
    }
    if let Some(hex) = unsigned.strip_prefix("0x").or(unsigned.strip_prefix("0X")) {
        return radix(text, hex, 16, whole);
    }
    if digits(unsigned) {
        let octal = unsigned.len() > 1 && unsigned.starts_with('0');
        return radix(text, unsigned, if octal { 8 } else { 10 }, whole);
    }
    if let Some((base, rest)) = unsigned.split_once(['r', 'R']) {
        let base = base.parse().ok().filter(|base| (2..=36).contains(base))?;
        return radix(text, rest, base, whole);
    }
    if let Some((above, below)) = unsigned.split_once('/') {
        return (digits(above) && digits(below)).then_some(Token::Number(Number::Ratio, text));
    }
    let (float, kind) = match unsigned.strip_suffix('M') {
        Some(float) => (float, Number::Decimal),
        None => (unsigned, Number::Float),
    };
    let plain = float.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    (plain && float.parse::<f64>().is_ok()).then_some(Token::Number(kind, text))
}

/// A whole number in another base than ten, or too big for an `i64`.
fn radix<'a>(
    text: &'a str,
    digits: &str,
    base: u32,
    whole: impl Fn(Option<i128>) -> Option<Token<'a>>,
) -> Option<Token<'a>> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    let kept = Token::Number(Number::BigInteger, text);
    Some(whole(i128::from_str_radix(digits, base).ok()).unwrap_or(kept))
}

fn character(name: &str) -> Option<char> {
    let mut chars = name.chars();
    let first = chars.next()?;
    if chars.as_str().is_empty() {
        return Some(first);
    }
    let code = |digits: &str, base| u32::from_str_radix(digits, base).ok().and_then(char::from_u32);
    match name {
        "newline" => Some('\n'),
        "space" => Some(' '),
        "tab" => Some('\t'),
        "return" => Some('\r'),
        "backspace" => Some('\u{8}'),
        "formfeed" => Some('\u{c}'),
        // Half of a surrogate pair is a Java character, but none of Rust's.
        _ if first == 'u'
            && name.len() == 5
            && chars.as_str().bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            Some(code(chars.as_str(), 16).unwrap_or(char::REPLACEMENT_CHARACTER))
        }
        _ if first == 'o' && name.len() <= 4 => code(chars.as_str(), 8),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
