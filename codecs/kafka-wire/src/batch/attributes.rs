//! The attributes of a batch: codec, timestamp type and flags in one 16-bit number.
//!
//! ```
//! use kafka_wire::batch::{Attributes, Compression};
//!
//! let attributes = Attributes::default().with_compression(Compression::Zstd).with_transactional(true);
//! assert_eq!(attributes, Attributes(0b1_0100));
//! assert_eq!(Attributes(7).compression(), Compression::Unknown(7));
//! ```

/// How the records of a batch are compressed: bits 0 to 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of the xerial library; raw snappy is understood too.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
    /// A number no codec has: 5 to 7.
    Unknown(u8),
}

impl Compression {
    /// The four codecs there are.
    pub const CODECS: [Self; 4] = [Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of a number; only its lowest three bits count.
    #[must_use]
    pub fn from_bits(bits: i16) -> Self {
        match bits & 0x07 {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            n => Self::Unknown(n as u8),
        }
    }

    /// The number of the codec.
    #[must_use]
    pub fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
            Self::Unknown(n) => i16::from(n) & 0x07,
        }
    }
}

/// Who set the timestamps of a batch: bit 3 (KIP-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer; each record has its own.
    #[default]
    CreateTime,
    /// The broker; every record has the batch's `max_timestamp`.
    LogAppendTime,
}

/// The attributes as they stand on the wire, unknown bits included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

impl Attributes {
    /// Bits that mean nothing yet; Kafka writes zeros.
    pub const RESERVED: i16 = !0x7f;

    /// Bits 0 to 2.
    #[must_use]
    pub fn compression(self) -> Compression {
        Compression::from_bits(self.0)
    }

    /// Bit 3.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Bit 4: part of a transaction (KIP-98).
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// Bit 5: written by a broker for brokers and clients, never shown to applications (KIP-98).
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Bit 6: `base_timestamp` holds the time from which tombstones may go (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }

    /// The same with another codec.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !0x07 | compression.bits())
    }

    /// The same with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime)
    }

    /// The same, part of a transaction or not.
    #[must_use]
    pub fn with_transactional(self, on: bool) -> Self {
        self.with(TRANSACTIONAL, on)
    }

    /// The same, a control batch or not.
    #[must_use]
    pub fn with_control(self, on: bool) -> Self {
        self.with(CONTROL, on)
    }

    /// The same, with a delete horizon or not.
    #[must_use]
    pub fn with_delete_horizon(self, on: bool) -> Self {
        self.with(DELETE_HORIZON, on)
    }

    fn with(self, bit: i16, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}
