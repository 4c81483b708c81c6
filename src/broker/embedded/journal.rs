//! Turns accepted changes into a file of frames, and the file back into the state at the start.
//!
//! A frame is its length, the length of an event in JSON, the event, the bytes of a batch where
//! there is one, and a checksum of it all. Replay ends at the first frame that is not whole: what a
//! killed process was writing was not yet answered.
//!
//! Not kept: members of groups, fetch sessions, and the time a transaction has been open (after a
//! restart its timeout counts from its beginning as written).

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Largest frame believed: the largest request, and then some.
const FRAME_BYTES_MAX: u32 = 128 * 1024 * 1024;

/// One change. Topics by the text of their id: slots are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    /// The cluster's id: the first event of a file.
    Cluster {
        id: String,
    },
    Topic {
        id: String,
        name: String,
        replication_factor: i16,
        configs: Vec<(String, String)>,
    },
    Partitions {
        topic: String,
        count: i32,
    },
    Configs {
        topic: String,
        configs: Vec<(String, String)>,
    },
    Deleted {
        topic: String,
    },
    /// A batch, data or marker; it follows the event.
    Batch {
        topic: String,
        partition: i32,
        base_offset: i64,
    },
    LogStart {
        topic: String,
        partition: i32,
        offset: i64,
    },
    ProducerId {
        next: i64,
    },
    Transaction {
        id: String,
        transaction: KeptTransaction,
    },
    /// A committed offset, or none any more.
    Offset {
        group: String,
        topic: String,
        partition: i32,
        committed: Option<KeptOffset>,
    },
    /// An offset that waits for a marker.
    Pending {
        group: String,
        topic: String,
        partition: i32,
        producer_id: i64,
        committed: KeptOffset,
    },
    /// A transaction's offsets are decided; what was committed follows as [`Event::Offset`].
    Decided {
        producer_id: i64,
    },
}

/// A transactional id as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptTransaction {
    pub(super) producer_ids: [i64; 3],
    pub(super) producer_epochs: [i16; 2],
    pub(super) timeout_ms: i32,
    pub(super) state: String,
    pub(super) partitions: Vec<(String, i32)>,
    pub(super) start_ms: i64,
    pub(super) update_ms: i64,
    pub(super) bumping: bool,
}

/// A committed offset as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptOffset {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: String,
}

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// A write that failed: nothing more is written, and the broker says so when asked.
    pub(super) broken: Option<io::ErrorKind>,
}

impl Journal {
    /// Opens the journal of a directory, and hands out what it holds.
    ///
    /// # Errors
    /// Where the directory or the file cannot be had.
    pub(super) fn open(
        directory: &Path,
        mut replay: impl FnMut(Event, Vec<u8>),
    ) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join("journal");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut whole = 0;
        let mut reader = BufReader::new(&mut file);
        while let Some((event, batch, bytes)) = read_frame(&mut reader) {
            replay(event, batch);
            whole += bytes;
        }
        drop(reader);
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        Ok(Self { file, broken: None })
    }

    /// Writes one change, before it is answered.
    pub(super) fn write(&mut self, event: &Event, batch: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        let event = serde_json::to_vec(event).expect("an event is plain data");
        let mut frame = Vec::with_capacity(event.len() + batch.len() + 12);
        frame.extend(((event.len() + batch.len() + 8) as u32).to_be_bytes());
        frame.extend((event.len() as u32).to_be_bytes());
        frame.extend(event);
        frame.extend(batch);
        let crc = checksum(&frame[4..]);
        frame.extend(crc.to_be_bytes());
        if let Err(error) = self.file.write_all(&frame) {
            self.broken = Some(error.kind());
        }
    }
}

/// One whole frame with its length in the file, absent where there is none.
fn read_frame(reader: &mut impl Read) -> Option<(Event, Vec<u8>, u64)> {
    let mut length = [0; 4];
    reader.read_exact(&mut length).ok()?;
    let length = u32::from_be_bytes(length);
    if !(8..=FRAME_BYTES_MAX).contains(&length) {
        return None;
    }
    let mut frame = Vec::new();
    // Grows with what is there, not with what the length says.
    reader.take(length.into()).read_to_end(&mut frame).ok()?;
    let (body, crc) = frame.split_last_chunk::<4>()?;
    if body.len() + 4 != length as usize || checksum(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (event_bytes, rest) = body.split_first_chunk::<4>()?;
    let event_bytes = u32::from_be_bytes(*event_bytes) as usize;
    let event = serde_json::from_slice(rest.get(..event_bytes)?).ok()?;
    Some((event, rest.get(event_bytes..)?.to_vec(), u64::from(length) + 4))
}

/// FNV-1a over the bytes: enough to tell a torn frame from a whole one.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_up_to_the_first_torn_frame() {
        let directory = tempfile::tempdir().unwrap();
        let event = |next| Event::ProducerId { next };
        let mut journal = Journal::open(directory.path(), |_, _| panic!("it is new")).unwrap();
        journal.write(&event(1), b"");
        journal.write(&event(2), b"batch");
        journal.write(&event(3), b"");
        let path = directory.path().join("journal");
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let mut seen = Vec::new();
            let mut again =
                Journal::open(directory.path(), |event, batch| seen.push((event, batch))).unwrap();
            assert!(seen.len() < 3);
            again.write(&event(9), b"");
            let mut after = Vec::new();
            Journal::open(directory.path(), |event, batch| after.push((event, batch))).unwrap();
            seen.push((event(9), Vec::new()));
            assert_eq!(after, seen, "cut at {cut}");
        }
    }
}
