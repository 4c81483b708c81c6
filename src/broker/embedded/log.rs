//! Turns accepted record batches into one partition's log: offsets, transactions, what readers see.
//!
//! A batch is kept as it came; only `base_offset` and `partition_leader_epoch` are patched, which
//! its checksum does not cover. All replicas are one memory, so the high watermark is the end.
//!
//! Never: checks what a client may do ([`super::produce`]); reads a clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::bug::{Lies, invented};
use super::producer_state::{Incoming, ProducerState, Verifying};

/// Where `partition_leader_epoch` stands in a batch; `base_offset` is at its beginning (KIP-98).
const LEADER_EPOCH_AT: usize = 12;

/// One batch as it lies in the log.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) max_timestamp: i64,
    pub(super) leader_epoch: i32,
    pub(super) bytes: Bytes,
}

/// A transaction that ended in an abort marker and had data here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) producer_id: i64,
    pub(super) first_offset: i64,
    pub(super) last_offset: i64,
}

/// What a read of the log gave.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// Whole batches, the last one perhaps cut, as Kafka cuts it at `max_bytes`.
    pub(super) records: Vec<Bytes>,
    pub(super) bytes: usize,
    /// The first offset after what was given.
    pub(super) end_offset: i64,
}

/// Offsets left free (a bug).
#[derive(Debug, Clone, Copy)]
struct Gap {
    base_offset: i64,
    offsets: i64,
    producer_id: i64,
}

/// Whether a batch is a control batch, by its attributes.
fn is_control(batch: &[u8]) -> bool {
    const ATTRIBUTES_LOW_AT: usize = 22;
    batch.get(ATTRIBUTES_LOW_AT).is_some_and(|low| low & 0x20 != 0)
}

/// What is to be appended: the batch and what its header says.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) bytes: BytesMut,
    pub(super) last_offset_delta: i32,
    pub(super) max_timestamp: i64,
    /// Absent for a producer without idempotence.
    pub(super) producer: Option<(i64, Incoming)>,
}

/// One partition's log.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    pub(super) batches: VecDeque<Stored>,
    pub(super) log_start_offset: i64,
    pub(super) log_end_offset: i64,
    pub(super) bytes: u64,
    /// Looked up, never walked where order matters: see [`PartitionLog::producers_in_order`].
    pub(super) producers: FxHashMap<i64, ProducerState>,
    pub(super) verifying: FxHashMap<i64, Verifying>,
    /// Open transactions by their first offset.
    ongoing: BTreeMap<i64, i64>,
    aborted: VecDeque<Aborted>,
    /// How readers are deceived, where a bug is planted.
    pub(super) lies: Lies,
    /// What is kept by now, where keeping lags behind (a bug).
    kept_to: i64,
    /// How far the log was read, where that leads to a wrong (a bug).
    pub(super) read_to: i64,
    /// Offsets left free for a batch that is to come (a bug).
    gap: Option<Gap>,
    /// Where each leader epoch began.
    leader_epochs: Vec<(i32, i64)>,
    waiting: Vec<Arc<Notify>>,
}

impl PartitionLog {
    /// An empty log that deceives its readers in that way; by default in none.
    pub(super) fn that_lies(lies: Lies) -> Self {
        Self { lies, ..Self::default() }
    }

    /// The first offset no reader may see.
    pub(super) fn high_watermark(&self) -> i64 {
        let mut end = self.log_end_offset;
        if self.lies.hide_last {
            let data = |batch: &&Stored| !is_control(&batch.bytes);
            end = self.batches.iter().rev().find(data).map_or(end, |last| last.base_offset);
        }
        if self.lies.keeps_late {
            end = end.min(self.kept_to);
        }
        self.gap.map_or(end, |gap| end.min(gap.base_offset)).max(self.log_start_offset)
    }

    /// The first offset a read_committed reader may not see.
    pub(super) fn last_stable_offset(&self) -> i64 {
        let high_watermark = self.high_watermark();
        match self.ongoing.keys().next() {
            Some(&first) if !self.lies.no_stable => {
                first.max(self.log_start_offset).min(high_watermark)
            }
            _ => high_watermark,
        }
    }

    /// What is known of that producer id; a fresh state where nothing is.
    pub(super) fn has_ongoing(&self, producer_id: i64, producer_epoch: i16) -> bool {
        self.producers.get(&producer_id).is_some_and(|p| p.has_ongoing(producer_epoch))
    }

    /// Producers by their id.
    #[allow(clippy::disallowed_methods)] // Sorted before anyone sees it.
    pub(super) fn producers_in_order(&self) -> Vec<(i64, &ProducerState)> {
        let mut all: Vec<_> = self.producers.iter().map(|(&id, state)| (id, state)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Notes that a transactional batch asks to be let in (KIP-890).
    pub(super) fn note_verifying(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
        enlists: bool,
    ) {
        let fresh = Verifying { producer_epoch, lowest_sequence: base_sequence, enlists };
        let entry = self.verifying.entry(producer_id).or_insert(fresh);
        if producer_epoch > entry.producer_epoch {
            *entry = fresh;
        } else {
            entry.lowest_sequence = entry.lowest_sequence.min(base_sequence);
        }
    }

    /// Appends a checked batch and returns its base offset.
    pub(super) fn append(&mut self, append: Append, leader_epoch: i32) -> i64 {
        let base_offset = self.log_end_offset;
        let Append { mut bytes, last_offset_delta, max_timestamp, producer } = append;
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&leader_epoch.to_be_bytes());
        if let Some((producer_id, incoming)) = producer {
            let state = self.producers.entry(producer_id).or_default();
            state.appended(&incoming, base_offset, max_timestamp);
            if let Some(first) = state.txn_first_offset {
                self.ongoing.insert(first, producer_id);
            }
            if incoming.transactional {
                self.verifying.remove(&producer_id);
            }
        }
        self.push(Stored {
            base_offset,
            last_offset: base_offset + i64::from(last_offset_delta),
            max_timestamp,
            leader_epoch,
            bytes: bytes.freeze(),
        });
        base_offset
    }

    /// Opens a transaction of that producer without a record: what enlisting an offsets partition
    /// amounts to here.
    pub(super) fn open_transaction(&mut self, producer_id: i64, producer_epoch: i16) {
        let first = self.log_end_offset;
        let state = self.producers.entry(producer_id).or_default();
        if state.txn_first_offset.is_none() {
            state.ended(producer_epoch, state.coordinator_epoch, state.last_timestamp);
            state.txn_first_offset = Some(first);
        }
        self.verifying.remove(&producer_id);
    }

    /// Writes a marker: ends the producer's transaction here, if it has one.
    pub(super) fn append_marker(&mut self, marker: &Marker, leader_epoch: i32) -> i64 {
        let base_offset = self.log_end_offset;
        let mut bytes = marker.encode();
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&leader_epoch.to_be_bytes());
        let state = self.producers.entry(marker.producer_id).or_default();
        let first = state.ended(marker.producer_epoch, marker.coordinator_epoch, marker.timestamp);
        if let Some(first_offset) = first {
            self.ongoing.remove(&first_offset);
            if !marker.commit {
                self.aborted.push_back(Aborted {
                    producer_id: marker.producer_id,
                    first_offset,
                    last_offset: base_offset,
                });
            }
        }
        self.verifying.remove(&marker.producer_id);
        self.push(Stored {
            base_offset,
            last_offset: base_offset,
            max_timestamp: marker.timestamp,
            leader_epoch,
            bytes: bytes.freeze(),
        });
        base_offset
    }

    /// Forgets the last batch; its offsets stay used (a bug).
    pub(super) fn lose_last(&mut self) -> u64 {
        let lost = self.batches.pop_back().map_or(0, |batch| batch.bytes.len() as u64);
        self.bytes -= lost;
        lost
    }

    /// The next batch begins at the last offset of the last one (a bug).
    pub(super) fn give_last_offset_again(&mut self) {
        self.log_end_offset -= 1;
    }

    /// The last batch says that it was written under that leader epoch (a bug).
    pub(super) fn age_last(&mut self, leader_epoch: i32) {
        if let Some(last) = self.batches.back_mut() {
            let mut bytes = BytesMut::from(&last.bytes[..]);
            bytes[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4]
                .copy_from_slice(&leader_epoch.to_be_bytes());
            last.bytes = bytes.freeze();
        }
    }

    /// Appends a batch that nobody sent, made of the last one (a bug).
    pub(super) fn invent(&mut self, leader_epoch: i32) {
        let last = self.batches.back();
        let made = last.and_then(|last| Some((invented(&last.bytes)?, last.max_timestamp)));
        if let Some((bytes, max_timestamp)) = made {
            let append = Append { bytes, last_offset_delta: 0, max_timestamp, producer: None };
            self.append(append, leader_epoch);
        }
    }

    /// Ends a producer's transaction without a marker in the log (a bug).
    pub(super) fn end_without_marker(&mut self, marker: &Marker) {
        let state = self.producers.entry(marker.producer_id).or_default();
        let first = state.ended(marker.producer_epoch, marker.coordinator_epoch, marker.timestamp);
        if let Some(first) = first {
            self.ongoing.remove(&first);
        }
        self.verifying.remove(&marker.producer_id);
        self.wake();
    }

    /// Keeps what was acknowledged (a bug keeps late). Returns whether anything was new.
    pub(super) fn keep(&mut self) -> bool {
        let new = self.lies.keeps_late && self.kept_to < self.log_end_offset;
        if new {
            self.kept_to = self.log_end_offset;
            self.wake();
        }
        new
    }

    /// Forgets what was acknowledged and not kept. Returns the bytes lost.
    pub(super) fn forget_unkept(&mut self) -> u64 {
        let mut lost = 0;
        while self.lies.keeps_late
            && self.batches.back().is_some_and(|batch| batch.base_offset >= self.kept_to)
        {
            lost += self.lose_last();
        }
        lost
    }

    /// Leaves offsets free for the batch after the next one, as large as that (a bug).
    pub(super) fn leave_gap(&mut self, producer_id: i64, offsets: i64) {
        self.gap = Some(Gap { base_offset: self.log_end_offset, offsets, producer_id });
        self.log_end_offset += offsets;
    }

    /// Whether a gap is open.
    pub(super) fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// Gives up a gap that nothing fills.
    pub(super) fn close_gap(&mut self) {
        if self.gap.take().is_some() {
            self.wake();
        }
    }

    /// Appends into the gap where the batch fits it; gives it back where it does not.
    pub(super) fn fill_gap(&mut self, append: Append, leader_epoch: i32) -> Result<i64, Append> {
        let fits = |gap: &Gap| {
            append.producer.is_some_and(|(id, _)| id == gap.producer_id)
                && i64::from(append.last_offset_delta) + 1 == gap.offsets
        };
        let Some(gap) = self.gap.take().filter(fits) else {
            self.close_gap();
            return Err(append);
        };
        let end = self.log_end_offset;
        self.log_end_offset = gap.base_offset;
        let base_offset = self.append(append, leader_epoch);
        self.log_end_offset = end;
        if let Some(late) = self.batches.pop_back() {
            let at = self.batches.partition_point(|batch| batch.base_offset < base_offset);
            self.batches.insert(at, late);
        }
        Ok(base_offset)
    }

    fn push(&mut self, stored: Stored) {
        if self.leader_epochs.last().is_none_or(|(epoch, _)| *epoch < stored.leader_epoch) {
            self.leader_epochs.push((stored.leader_epoch, stored.base_offset));
        }
        self.bytes += stored.bytes.len() as u64;
        self.log_end_offset = stored.last_offset + 1;
        self.batches.push_back(stored);
        self.wake();
    }

    /// Reads from `offset` up to `end_offset`. With `at_least_one` the first batch comes whole
    /// however large it is; otherwise nothing comes where the first would be cut.
    pub(super) fn read(
        &self,
        offset: i64,
        end_offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Slice {
        let mut slice = Slice { end_offset: offset, ..Slice::default() };
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        for batch in self.batches.range(first..) {
            if batch.base_offset >= end_offset {
                break;
            }
            let left = max_bytes.saturating_sub(slice.bytes);
            let whole = left >= batch.bytes.len() || (slice.bytes == 0 && at_least_one);
            if !whole && (slice.bytes == 0 || left == 0) {
                break;
            }
            let taken = if whole { batch.bytes.clone() } else { batch.bytes.slice(..left) };
            slice.bytes += taken.len();
            slice.records.push(taken);
            slice.end_offset = batch.last_offset + 1;
            if !whole {
                break;
            }
        }
        slice
    }

    /// The aborted transactions that overlap an answer of the offsets `from` to before `to`.
    pub(super) fn aborted_between(&self, from: i64, to: i64) -> Vec<Aborted> {
        let first = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        self.aborted.range(first..).filter(|aborted| aborted.first_offset < to).copied().collect()
    }

    /// Asks to be woken at the next append or move of the log start.
    pub(super) fn wait(&mut self, signal: &Arc<Notify>) {
        if self.waiting.len() >= 8 && self.waiting.len().is_power_of_two() {
            // Who gave up waiting holds its signal no more.
            self.waiting.retain(|waiting| Arc::strong_count(waiting) > 1);
        }
        if !self.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, signal)) {
            self.waiting.push(signal.clone());
        }
    }

    /// Wakes all who wait.
    pub(super) fn wake(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.notify_one();
        }
    }

    /// Moves the log start on; what lies wholly before it goes. Returns the bytes set free.
    pub(super) fn delete_before(&mut self, offset: i64) -> u64 {
        let offset = offset.min(self.log_end_offset);
        if offset <= self.log_start_offset {
            return 0;
        }
        self.log_start_offset = offset;
        let mut freed = 0;
        while self.batches.front().is_some_and(|batch| batch.last_offset < offset) {
            let gone = self.batches.pop_front().expect("it was just seen");
            freed += gone.bytes.len() as u64;
        }
        while self.aborted.front().is_some_and(|aborted| aborted.last_offset < offset) {
            self.aborted.pop_front();
        }
        self.bytes -= freed;
        self.wake();
        freed
    }

    /// The latest leader epoch not above `leader_epoch` and where the next one begins, as
    /// OffsetForLeaderEpoch answers; absent where none is known.
    pub(super) fn end_of_epoch(&self, leader_epoch: i32, current: i32) -> Option<(i32, i64)> {
        if leader_epoch == current {
            return Some((current, self.log_end_offset));
        }
        let after = self.leader_epochs.partition_point(|(epoch, _)| *epoch <= leader_epoch);
        let end = self.leader_epochs.get(after).map(|(_, start)| *start);
        match (after.checked_sub(1).map(|at| self.leader_epochs[at].0), end) {
            // A later epoch than any written: only the current leader could know it.
            (_, None) => None,
            (Some(epoch), Some(end)) => Some((epoch, end)),
            (None, Some(end)) => Some((leader_epoch, end)),
        }
    }

    /// The leader epoch under which `offset` was written.
    pub(super) fn epoch_at(&self, offset: i64) -> Option<i32> {
        let after = self.leader_epochs.partition_point(|(_, start)| *start <= offset);
        self.leader_epochs.get(after.checked_sub(1)?).map(|(epoch, _)| *epoch)
    }
}

/// A control batch that ends a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marker {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) commit: bool,
    pub(super) coordinator_epoch: i32,
    pub(super) timestamp: i64,
}

impl Marker {
    /// The batch, base offset and leader epoch still 0.
    fn encode(&self) -> BytesMut {
        const TRANSACTIONAL_AND_CONTROL: i16 = 0x30;
        let mut b = BytesMut::with_capacity(78);
        b.put_i64(0);
        b.put_i32(66); // What follows.
        b.put_i32(0);
        b.put_i8(2); // Magic.
        b.put_u32(0); // The checksum: sealed below.
        b.put_i16(TRANSACTIONAL_AND_CONTROL);
        b.put_i32(0);
        b.put_i64(self.timestamp);
        b.put_i64(self.timestamp);
        b.put_i64(self.producer_id);
        b.put_i16(self.producer_epoch);
        b.put_i32(-1);
        b.put_i32(1);
        // One record: length 16, no attributes, deltas 0, key of 4 bytes, value of 6, no headers.
        b.put_slice(&[0x20, 0, 0, 0, 0x08]);
        b.put_i16(0);
        b.put_i16(i16::from(self.commit));
        b.put_u8(0x0c);
        b.put_i16(0);
        b.put_i32(self.coordinator_epoch);
        b.put_u8(0);
        kafka_wire::batch::reseal(&mut b);
        b
    }
}
