//! Why a text is no EDN, and where.

use std::fmt;

/// Bytes that are no EDN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// Where in the scanned bytes, from 0.
    pub byte_offset: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text ends inside a value.
    UnexpectedEnd,
    /// A closing bracket that closes nothing, or not what was opened.
    WrongCloser(u8),
    /// More brackets inside each other than [`crate::DEPTH_MAX`].
    TooDeep,
    /// A string's backslash with something unknown behind it.
    BadEscape,
    /// A number that is none.
    BadNumber,
    /// A backslash that names no character.
    BadCharacter,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// A `#` with something unknown behind it.
    BadDispatch(u8),
}

impl Error {
    /// Whether the text may only have been cut off: more bytes could make it whole.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.kind == ErrorKind::UnexpectedEnd
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.byte_offset, self.kind)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedEnd => f.write_str("the text ends inside a value"),
            Self::WrongCloser(byte) => {
                write!(f, "'{}' closes nothing that is open", byte.escape_ascii())
            }
            Self::TooDeep => write!(f, "more than {} brackets deep", crate::DEPTH_MAX),
            Self::BadEscape => f.write_str("a string has an unknown escape"),
            Self::BadNumber => f.write_str("not a number"),
            Self::BadCharacter => f.write_str("not a character's name"),
            Self::NotUtf8 => f.write_str("not UTF-8"),
            Self::BadDispatch(byte) => write!(f, "'#{}' means nothing", byte.escape_ascii()),
        }
    }
}

impl std::error::Error for Error {}
