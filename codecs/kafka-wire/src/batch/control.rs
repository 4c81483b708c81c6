//! What the records of control batches say: which kind, and for a marker whose coordinator.
//!
//! ```
//! use kafka_wire::batch::{ControlRecord, ControlType, EndTxnMarker};
//!
//! let record = ControlRecord { version: 0, control_type: ControlType::Commit };
//! assert_eq!(record.encode(), [0, 0, 0, 1]);
//! assert_eq!(ControlRecord::decode(&[0, 0, 0, 0]).unwrap().control_type, ControlType::Abort);
//! let marker = EndTxnMarker::decode(&[0, 0, 0, 0, 0, 7]).unwrap();
//! assert_eq!(marker.coordinator_epoch, 7);
//! ```

use crate::error::DecodeErrorKind;

/// What a control record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// Abort marker: the transaction's records were never there.
    Abort,
    /// Commit marker: the transaction's records are there.
    Commit,
    /// Another: 2 leader change, 3 and 4 snapshot header and footer, 5 KRaft version, 6 KRaft
    /// voters; a reader of records passes over them, known or not.
    Other(i16),
}

impl ControlType {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(code) => code,
        }
    }
}

/// The key of a control record (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecord {
    /// Version of the key.
    pub version: i16,
    /// Which kind.
    pub control_type: ControlType,
}

impl ControlRecord {
    /// Reads a key; later versions may be longer, so what follows the four bytes is passed over.
    ///
    /// # Errors
    /// Where the key is shorter, or the version is negative.
    pub fn decode(key: &[u8]) -> Result<Self, DecodeErrorKind> {
        let Some(&[a, b, c, d]) = key.first_chunk() else {
            return Err(DecodeErrorKind::Truncated { needed: 4, available: key.len() });
        };
        let version = version_of(a, b)?;
        let control_type = match i16::from_be_bytes([c, d]) {
            0 => ControlType::Abort,
            1 => ControlType::Commit,
            code => ControlType::Other(code),
        };
        Ok(Self { version, control_type })
    }

    /// Writes the key.
    #[must_use]
    pub fn encode(&self) -> [u8; 4] {
        let [a, b] = self.version.to_be_bytes();
        let [c, d] = self.control_type.code().to_be_bytes();
        [a, b, c, d]
    }
}

/// The value of a commit or abort marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Version of the value.
    pub version: i16,
    /// Epoch of the transaction coordinator that ended the transaction.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads a value; later versions may be longer, so what follows the six bytes is passed over.
    ///
    /// # Errors
    /// Where the value is shorter, or the version is negative.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeErrorKind> {
        let Some(&[a, b, c, d, e, f]) = value.first_chunk() else {
            return Err(DecodeErrorKind::Truncated { needed: 6, available: value.len() });
        };
        let version = version_of(a, b)?;
        Ok(Self { version, coordinator_epoch: i32::from_be_bytes([c, d, e, f]) })
    }

    /// Writes the value.
    #[must_use]
    pub fn encode(&self) -> [u8; 6] {
        let [a, b] = self.version.to_be_bytes();
        let [c, d, e, f] = self.coordinator_epoch.to_be_bytes();
        [a, b, c, d, e, f]
    }
}

fn version_of(a: u8, b: u8) -> Result<i16, DecodeErrorKind> {
    match i16::from_be_bytes([a, b]) {
        version if version < 0 => Err(DecodeErrorKind::Invalid("negative version")),
        version => Ok(version),
    }
}
