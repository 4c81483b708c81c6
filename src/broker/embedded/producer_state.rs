//! Turns the batches of one producer id in one partition into a verdict: append, duplicate, refuse.
//!
//! The rules are Kafka's: the last five batches are remembered, a sequence continues the one
//! before or starts at 0 with a new epoch, an older epoch is refused (KIP-98, KIP-360, KIP-890).
//!
//! Never: touches the log; knows which transaction a batch belongs to beyond its first offset.

use kafka_wire::ErrorCode;
use kafka_wire::ids::Sequence;

/// How many batches are remembered for duplicates.
const WINDOW: usize = 5;

/// One remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeenBatch {
    pub(super) base_sequence: i32,
    pub(super) last_sequence: i32,
    pub(super) base_offset: i64,
    pub(super) timestamp: i64,
}

/// What a partition knows of a producer id.
#[derive(Debug, Clone)]
pub(super) struct ProducerState {
    /// −1 until the first batch or marker.
    pub(super) producer_epoch: i16,
    /// −1 until the first marker.
    pub(super) coordinator_epoch: i32,
    pub(super) last_timestamp: i64,
    pub(super) txn_first_offset: Option<i64>,
    seen: [Option<SeenBatch>; WINDOW],
}

/// A transactional batch whose enlistment was asked for and that is not appended yet (KIP-890).
#[derive(Debug, Clone, Copy)]
pub(super) struct Verifying {
    pub(super) producer_epoch: i16,
    pub(super) lowest_sequence: i32,
    /// Asked by a client that lets the broker enlist (Produce 12 on).
    pub(super) enlists: bool,
}

/// What matters of a batch here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming {
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
    pub(super) record_count: u32,
    pub(super) transactional: bool,
}

impl Incoming {
    fn last_sequence(&self) -> i32 {
        Sequence(self.base_sequence).advance(self.record_count.saturating_sub(1)).0
    }
}

impl Default for ProducerState {
    fn default() -> Self {
        Self {
            producer_epoch: -1,
            coordinator_epoch: -1,
            last_timestamp: -1,
            txn_first_offset: None,
            seen: [None; WINDOW],
        }
    }
}

impl ProducerState {
    /// Whether this producer has an open transaction here in that epoch.
    pub(super) fn has_ongoing(&self, producer_epoch: i16) -> bool {
        self.txn_first_offset.is_some() && self.producer_epoch == producer_epoch
    }

    /// The remembered batch of the same epoch and the same first and last sequence.
    pub(super) fn duplicate_of(&self, batch: &Incoming) -> Option<SeenBatch> {
        if batch.producer_epoch != self.producer_epoch {
            return None;
        }
        self.seen.iter().flatten().copied().find(|seen| {
            seen.base_sequence == batch.base_sequence && seen.last_sequence == batch.last_sequence()
        })
    }

    /// Whether the batch may be appended.
    pub(super) fn check(
        &self,
        batch: &Incoming,
        verifying: Option<&Verifying>,
    ) -> Result<(), ErrorCode> {
        if batch.producer_epoch < self.producer_epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        self.check_sequence(batch, verifying)?;
        if self.txn_first_offset.is_some() && !batch.transactional {
            return Err(ErrorCode::INVALID_TXN_STATE);
        }
        Ok(())
    }

    fn check_sequence(
        &self,
        batch: &Incoming,
        verifying: Option<&Verifying>,
    ) -> Result<(), ErrorCode> {
        let first = batch.base_sequence;
        if let Some(verifying) = verifying
            && ((verifying.enlists && first != 0) || first > verifying.lowest_sequence)
        {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        let in_order = if self.producer_epoch == -1 {
            // Nothing is known: whatever was here may have been deleted, so any start is taken.
            true
        } else if batch.producer_epoch == self.producer_epoch {
            match self.last_sequence() {
                -1 => first == 0,
                last => first == Sequence(last).advance(1).0,
            }
        } else {
            first == 0
        };
        if in_order { Ok(()) } else { Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) }
    }

    /// Notes an appended batch.
    pub(super) fn appended(&mut self, batch: &Incoming, base_offset: i64, timestamp: i64) {
        self.enter_epoch(batch.producer_epoch);
        self.seen.rotate_left(1);
        self.seen[WINDOW - 1] = Some(SeenBatch {
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset,
            timestamp,
        });
        self.last_timestamp = timestamp;
        if batch.transactional && self.txn_first_offset.is_none() {
            self.txn_first_offset = Some(base_offset);
        }
    }

    /// Notes a marker; returns the first offset of the transaction it ended, if it had data here.
    pub(super) fn ended(
        &mut self,
        producer_epoch: i16,
        coordinator_epoch: i32,
        timestamp: i64,
    ) -> Option<i64> {
        self.enter_epoch(producer_epoch);
        self.coordinator_epoch = coordinator_epoch;
        self.last_timestamp = timestamp;
        self.txn_first_offset.take()
    }

    /// The last sequence of the current epoch, −1 where it has none.
    pub(super) fn last_sequence(&self) -> i32 {
        self.seen[WINDOW - 1].map_or(-1, |seen| seen.last_sequence)
    }

    fn enter_epoch(&mut self, producer_epoch: i16) {
        if producer_epoch != self.producer_epoch {
            self.producer_epoch = producer_epoch;
            self.seen = [None; WINDOW];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies `epoch:first+count` steps and says what became of the last.
    fn check(steps: &str, expected: &str) {
        let mut state = ProducerState::default();
        let mut offset = 100;
        let mut last = String::new();
        for step in steps.split(' ') {
            let (producer_epoch, rest) = step.split_once(':').unwrap();
            let (first, count) = rest.split_once('+').unwrap();
            let batch = Incoming {
                producer_epoch: producer_epoch.parse().unwrap(),
                base_sequence: first.parse().unwrap(),
                record_count: count.parse().unwrap(),
                transactional: false,
            };
            last = match state.duplicate_of(&batch) {
                Some(seen) => format!("duplicate of {}", seen.base_offset),
                None => match state.check(&batch, None) {
                    Ok(()) => {
                        state.appended(&batch, offset, 0);
                        offset += i64::from(batch.record_count);
                        "appended".into()
                    }
                    Err(error) => error.0.to_string(),
                },
            };
        }
        assert_eq!(last, expected, "{steps}");
    }

    #[test]
    fn sequences_continue_repeat_or_are_refused() {
        check("0:0+1 0:1+1", "appended");
        check("0:0+1 0:2+1", "45");
        check("0:0+1 0:0+1", "duplicate of 100");
        check("0:0+1 0:1+1 0:2+1 0:3+1 0:4+1 0:0+1", "duplicate of 100");
        check("0:0+1 0:1+1 0:2+1 0:3+1 0:4+1 0:5+1 0:0+1", "45");
        check("0:0+1 0:0+2", "45");
        check("0:7+1", "appended");
        check("0:0+1 1:0+1", "appended");
        check("0:0+1 1:1+1", "45");
        check("1:0+1 0:1+1", "47");
        check("0:2147483647+1 0:0+1", "appended");
        check("0:2147483646+3 0:1+1", "appended");
        check("0:2147483646+3 0:2147483646+3", "duplicate of 100");
    }
}
