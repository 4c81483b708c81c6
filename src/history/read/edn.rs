//! EDN as pieces.

use edn::{Error, Scanner, Shape, Token};

use super::notation::{Malformed, Notation, Piece};

impl From<Error> for Malformed {
    fn from(error: Error) -> Self {
        Self {
            byte_offset: error.byte_offset,
            cut_off: error.is_cut_off(),
            reason: error.kind.to_string().into(),
        }
    }
}

impl<'a> Notation<'a> for Scanner<'a> {
    const NAMES_ARE_STRINGS: bool = false;

    fn starting_at(bytes: &'a [u8], byte_offset: usize) -> Self {
        Scanner::starting_at(bytes, byte_offset)
    }

    #[inline]
    fn byte_offset(&mut self) -> usize {
        self.peek();
        Scanner::byte_offset(self)
    }

    #[inline]
    fn depth(&self) -> usize {
        Scanner::depth(self)
    }

    #[inline]
    fn piece(&mut self) -> Result<Piece<'a>, Malformed> {
        let start = Notation::byte_offset(self);
        let Some(token) = self.pull()? else { return Ok(Piece::End) };
        Ok(match token {
            Token::Integer(integer) => Piece::Integer(integer),
            Token::Keyword(name) => Piece::Word(name),
            Token::Open(Shape::Map) => Piece::Map,
            Token::Open(_) => Piece::Seq,
            Token::Close => Piece::Close,
            Token::Nil => Piece::Nil,
            Token::Bool(bool) => Piece::Bool(bool),
            Token::String(text) => Piece::Text(text.decode()),
            Token::Tag(name) => Piece::Tag(name),
            Token::Number(_, text) | Token::Symbol(text) => Piece::Other(text),
            Token::Char(_) | Token::Pattern(_) => Piece::Other(form(self, start)),
        })
    }

    #[inline]
    fn pair(&mut self) -> Option<(i64, i64)> {
        self.integer_pair()
    }

    #[inline]
    fn integer(&mut self) -> Option<i64> {
        Scanner::integer(self)
    }

    #[inline]
    fn integer_name(&mut self) -> Option<i64> {
        Scanner::integer(self)
    }

    #[inline]
    fn name(&mut self) -> Option<&'a [u8]> {
        self.keyword()
    }

    #[inline]
    fn word(&mut self) -> Option<&'a [u8]> {
        self.keyword()
    }

    #[inline]
    fn take(&mut self, bracket: u8) -> bool {
        Scanner::take(self, bracket)
    }
}

/// The bytes between an offset and the next token.
fn form<'a>(scanner: &Scanner<'a>, start: usize) -> &'a str {
    let bytes = &scanner.bytes()[start..scanner.byte_offset()];
    std::str::from_utf8(bytes).expect("the scanner has looked at each character")
}
