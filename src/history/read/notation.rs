//! What the two notations of a history have in common: pieces, pulled one by one.

use std::borrow::Cow;

/// How deep values may stand inside each other.
pub(crate) const DEPTH_MAX: usize = edn::DEPTH_MAX;

/// A piece of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece<'a> {
    /// The text ends here.
    End,
    Nil,
    Bool(bool),
    Integer(i64),
    /// A keyword without its colon. In JSON: a string that begins with a colon.
    Word(&'a str),
    /// A string.
    Text(Cow<'a, str>),
    /// Any other scalar, as written: a float, a ratio, a symbol, a character.
    Other(&'a str),
    /// A tag; what it tags follows.
    Tag(&'a str),
    /// A vector, list, set or array begins.
    Seq,
    /// A map or object begins; names and values follow in turn.
    Map,
    /// The innermost `Seq` or `Map` ends.
    Close,
}

/// A text that is not in its notation, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Where, in the bytes scanned.
    pub(crate) byte_offset: usize,
    /// Whether the text only ends too early.
    pub(crate) cut_off: bool,
    /// What is wrong, in words.
    pub(crate) reason: Box<str>,
}

/// A scanner of one of the notations.
pub(crate) trait Notation<'a>: Sized {
    /// Whether a map's names are strings where other notations have integers.
    const NAMES_ARE_STRINGS: bool;

    /// Before the first piece at or behind a byte offset.
    fn starting_at(bytes: &'a [u8], byte_offset: usize) -> Self;
    /// Where the next piece begins.
    fn byte_offset(&mut self) -> usize;
    /// How many `Seq` and `Map` are open.
    fn depth(&self) -> usize;
    /// The next piece.
    fn piece(&mut self) -> Result<Piece<'a>, Malformed>;

    // What is common has a way of its own. Each of these takes nothing where something else is
    // next; `piece` says then what it is.

    /// Two integers, if a `Seq` of just these is next.
    fn pair(&mut self) -> Option<(i64, i64)>;
    /// An integer.
    fn integer(&mut self) -> Option<i64>;
    /// An integer that is the name of a map's entry.
    fn integer_name(&mut self) -> Option<i64>;
    /// A map's name of one plain word; not yet known to be UTF-8.
    fn name(&mut self) -> Option<&'a [u8]>;
    /// A keyword, or in JSON a string without escapes; not yet known to be UTF-8.
    fn word(&mut self) -> Option<&'a [u8]>;
    /// One of the brackets `[`, `]`, `{` and `}`.
    fn take(&mut self, bracket: u8) -> bool;

    /// Passes over the rest of what a piece began.
    fn finish(&mut self, piece: &Piece<'a>) -> Result<(), Malformed> {
        match piece {
            Piece::Seq | Piece::Map => self.leave(self.depth() - 1),
            Piece::Tag(_) => {
                let mut next = self.piece()?;
                while matches!(next, Piece::Tag(_)) {
                    next = self.piece()?;
                }
                if matches!(next, Piece::Seq | Piece::Map) {
                    self.leave(self.depth() - 1)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Passes over everything until no more than `depth` collections are open.
    fn leave(&mut self, depth: usize) -> Result<(), Malformed> {
        while self.depth() > depth {
            self.piece()?;
        }
        Ok(())
    }
}
