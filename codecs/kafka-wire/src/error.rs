//! What can be wrong with bytes: data about the peer, an observation, never a panic.

use std::fmt;

/// One thing wrong with some bytes: where, in which field, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Position in the buffer that was being decoded.
    pub byte_offset: usize,
    /// The field, as a path of protocol names such as `topics[2].partitions[0].records`.
    pub path: String,
    /// What was wrong.
    pub kind: DecodeErrorKind,
}

/// What was wrong with some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The field needs more bytes than there are.
    Truncated {
        /// Bytes the field needs.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// A length or count below what the field allows.
    NegativeLength(i64),
    /// A null where the version does not allow one.
    UnexpectedNull,
    /// A variable-length integer of more bytes than its type can have.
    VarintTooLong,
    /// A string that is not UTF-8.
    NotUtf8,
    /// Bytes after the last field.
    TrailingBytes(usize),
    /// Tags of tagged fields not in strictly increasing order.
    TagOrder(u32),
    /// A checksum that does not match.
    Checksum {
        /// What the bytes say.
        stored: u32,
        /// What the bytes add up to.
        computed: u32,
    },
    /// A declared count that the bytes cannot hold.
    CountImpossible(i64),
    /// A number in one place that disagrees with what the rest of the bytes say.
    Mismatch {
        /// What the field says.
        stated: i64,
        /// What the bytes add up to.
        found: i64,
    },
    /// Compressed data that does not decompress, or to more than the limit.
    Compression(&'static str),
    /// The message or version is not in the table.
    UnknownMessage,
    /// A typed decode would take more memory than the limit.
    TooLargeInMemory {
        /// Bytes of memory it would take, as far as counted.
        bytes: u64,
    },
    /// Anything else, in words.
    Invalid(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind, self.byte_offset)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, " ({})", self.path) }
    }
}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, available } => {
                write!(f, "truncated: {needed} bytes needed, {available} there")
            }
            Self::NegativeLength(n) => write!(f, "negative length {n}"),
            Self::UnexpectedNull => write!(f, "null in a field that is never null"),
            Self::VarintTooLong => write!(f, "variable-length integer too long"),
            Self::NotUtf8 => write!(f, "string is not UTF-8"),
            Self::TrailingBytes(n) => write!(f, "{n} bytes left over"),
            Self::TagOrder(tag) => write!(f, "tag {tag} out of order"),
            Self::Checksum { stored, computed } => {
                write!(f, "checksum {stored:08x} stored, {computed:08x} computed")
            }
            Self::CountImpossible(n) => write!(f, "count {n} cannot fit in the bytes left"),
            Self::Mismatch { stated, found } => write!(f, "{stated} stated, {found} found"),
            Self::Compression(what) => write!(f, "compressed data: {what}"),
            Self::UnknownMessage => write!(f, "message or version not in the schema table"),
            Self::TooLargeInMemory { bytes } => {
                write!(f, "would take at least {bytes} bytes of memory decoded")
            }
            Self::Invalid(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for DecodeError {}
