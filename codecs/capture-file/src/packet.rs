//! One packet of a capture file, borrowed from the reader's window; and what was wrong with a file.

use std::fmt;

use crate::LinkType;

/// One packet.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Counted from 1 over the whole file, as packet tools count.
    pub number: u64,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// What `data` begins with.
    pub link_type: LinkType,
    /// Number of the interface in its section; 0 in a file without interfaces.
    pub interface: u32,
    /// What was captured.
    pub data: &'a [u8],
    /// Bytes the packet had on the wire.
    pub wire_bytes: u32,
    pub(crate) options: Options<'a>,
}

impl<'a> Packet<'a> {
    /// The comments on it.
    pub fn comments(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.options.filter(|(code, _)| *code == 1).map(|(_, value)| value)
    }
}

/// The options at the end of a pcapng block; a broken one ends them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) order: Order,
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head = self.bytes.first_chunk::<4>()?;
        let code = self.order.u16([head[0], head[1]]);
        let length = usize::from(self.order.u16([head[2], head[3]]));
        let value = self.bytes.get(4..4 + length)?;
        if code == 0 {
            return None;
        }
        self.bytes = self.bytes.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        Some((code, value))
    }
}

/// Byte order of a file or section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Least significant byte first.
    #[default]
    Little,
    /// Most significant byte first.
    Big,
}

impl Order {
    pub(crate) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(crate) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// The number at `at`, or 0 where the bytes end before it.
    pub(crate) fn u32_at(self, bytes: &[u8], at: usize) -> u32 {
        bytes.get(at..).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| self.u32(*b))
    }

    /// The number at `at`, or 0 where the bytes end before it.
    pub(crate) fn u16_at(self, bytes: &[u8], at: usize) -> u16 {
        bytes.get(at..).and_then(|b| b.first_chunk::<2>()).map_or(0, |b| self.u16(*b))
    }
}

/// Something wrong with a capture file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Place in the uncompressed file.
    pub byte_offset: u64,
    /// What was wrong.
    pub kind: DamageKind,
}

/// What was wrong with a capture file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DamageKind {
    /// The file has no bytes at all.
    Empty,
    /// It does not begin as a capture file does; what it seems to be.
    NotACapture(Option<&'static str>),
    /// The file ends inside a packet or block.
    Incomplete {
        /// Bytes it would have needed, as far as known.
        needed: u64,
        /// Bytes that are there.
        available: u64,
    },
    /// A packet or block head that cannot be; this many bytes were passed over to find the next.
    Skipped {
        /// What cannot be.
        why: &'static str,
        /// Bytes passed over.
        bytes: u64,
    },
    /// A block whose inside is wrong; it was passed over.
    Block(&'static str),
    /// Compressed data that does not decompress; nothing after it can be read.
    Compression(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.byte_offset)?;
        match &self.kind {
            DamageKind::Empty => f.write_str("the file is empty"),
            DamageKind::NotACapture(None) => f.write_str("neither pcap nor pcapng"),
            DamageKind::NotACapture(Some(what)) => write!(f, "neither pcap nor pcapng ({what})"),
            DamageKind::Incomplete { needed, available } => {
                write!(
                    f,
                    "the file ends inside a packet ({needed} bytes needed, {available} there)"
                )
            }
            DamageKind::Skipped { why, bytes } => write!(f, "{why}; {bytes} bytes passed over"),
            DamageKind::Block(why) => f.write_str(why),
            DamageKind::Compression(why) => write!(f, "compressed data: {why}"),
        }
    }
}
