//! What a scanner yields.

use std::borrow::Cow;

/// One token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// `nil`.
    Nil,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number that an `i64` holds, however written, without the suffix `N`.
    Integer(i64),
    /// Any other number, as written.
    Number(Number, &'a str),
    /// `\a`, `\newline`, `\u0041`.
    Char(char),
    /// A string.
    String(Text<'a>),
    /// `#"…"`, as Clojure prints patterns; backslashes stand for themselves.
    Pattern(&'a str),
    /// `:name` or `:namespace/name`, without the colon.
    Keyword(&'a str),
    /// A symbol.
    Symbol(&'a str),
    /// `#tag`; its value follows. `#:namespace` (of a map) keeps its colon.
    Tag(&'a str),
    /// A collection begins.
    Open(Shape),
    /// The innermost collection ends.
    Close,
}

/// Kinds of numbers that are no [`Token::Integer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// `1N`, or digits beyond an `i64`.
    BigInteger,
    /// `1.5`, `1e9`, `##Inf`, `##NaN`.
    Float,
    /// `1.5M`.
    Decimal,
    /// `1/3`.
    Ratio,
}

/// Kinds of collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `( )`
    List,
    /// `[ ]`
    Vector,
    /// `{ }`
    Map,
    /// `#{ }`
    Set,
}

/// A string as it stands between its quotes. Its escapes have been looked at and are sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    pub(crate) raw: &'a str,
    pub(crate) escaped: bool,
}

impl<'a> Text<'a> {
    /// What it says. Half of a surrogate pair becomes U+FFFD.
    #[must_use]
    pub fn decode(self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }

    /// As it stands between its quotes.
    #[must_use]
    pub fn raw(self) -> &'a str {
        self.raw
    }
}

fn unescape(raw: &str) -> String {
    let mut units = Vec::new();
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        flush_units(&mut units, &mut out, at > 0);
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let first = escape.chars().next().unwrap_or('\\');
        let mut used = first.len_utf8();
        match first {
            'u' => {
                used = escape.len().min(5);
                let unit = escape.get(1..used).and_then(|hex| u16::from_str_radix(hex, 16).ok());
                units.push(unit.unwrap_or(0xfffd));
            }
            '0'..='7' => {
                flush_units(&mut units, &mut out, true);
                used = octal_digits(escape.as_bytes());
                let code = u32::from_str_radix(&escape[..used], 8).unwrap_or(0xfffd);
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            other => {
                flush_units(&mut units, &mut out, true);
                out.push(simple_escape(other).unwrap_or(other));
            }
        }
        rest = &escape[used..];
    }
    flush_units(&mut units, &mut out, true);
    out.push_str(rest);
    out
}

/// Code units gathered so far become characters, unless another may still follow.
fn flush_units(units: &mut Vec<u16>, out: &mut String, now: bool) {
    if now && !units.is_empty() {
        out.push_str(&String::from_utf16_lossy(units));
        units.clear();
    }
}

/// How many octal digits, up to three, begin the bytes.
pub(crate) fn octal_digits(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count()
}

pub(crate) fn simple_escape(after_backslash: char) -> Option<char> {
    Some(match after_backslash {
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        '\\' | '"' => after_backslash,
        _ => return None,
    })
}
