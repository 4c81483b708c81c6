//! The batches of one partition in the order of their sequences.
//!
//! Batches leave in order, several in flight. Once one must be sent again, those behind it wait
//! and then go one at a time, until all that were in flight with it are through: so the order
//! holds through retries.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use kafka_wire::batch::{
    Attributes, BatchBuilder, BatchHeader, NewRecord, Scratch, reseal, rewrite_header,
};
use kafka_wire::ids::Sequence;

use super::config::{ProducerConfig, Record};
use super::report::SendId;
use crate::client::cluster::TopicPartition;
use crate::client::producer::ProducerState;

/// A record that waits to be put in a batch.
pub(super) struct Queued {
    pub(super) id: SendId,
    pub(super) record: Record,
    pub(super) deadline_ns: u64,
}

/// One batch, until it is settled.
pub(super) struct Batch {
    /// Unique within the producer.
    pub(super) number: u64,
    pub(super) sends: Vec<SendId>,
    pub(super) records: Bytes,
    pub(super) base_sequence: Sequence,
    /// How often it was tried.
    pub(super) tries: u32,
    pub(super) in_flight: bool,
    pub(super) not_before_ns: u64,
    pub(super) deadline_ns: u64,
}

/// One partition as a producer sees it.
pub(super) struct Lane {
    pub(super) partition: TopicPartition,
    pub(super) queued: VecDeque<Queued>,
    pub(super) batches: VecDeque<Batch>,
    /// Whether the leader has acknowledged a batch of this producer id. Before that it takes a
    /// batch of any sequence as the first (KAFKA-14359): a second one in flight could overtake the
    /// first, which then never gets in. So the first goes alone, as franz-go does it.
    pub(super) known: bool,
}

impl Lane {
    pub(super) fn new(partition: TopicPartition) -> Self {
        Self { partition, queued: VecDeque::new(), batches: VecDeque::new(), known: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.batches.is_empty()
    }

    pub(super) fn position(&self, number: u64) -> Option<usize> {
        self.batches.iter().position(|batch| batch.number == number)
    }

    /// The batch that may leave now.
    pub(super) fn ready(&self, now_ns: u64) -> Option<usize> {
        let next = self.batches.iter().position(|batch| !batch.in_flight)?;
        if next > 0 && !self.known && self.batches[0].base_sequence != Sequence::NONE {
            return None;
        }
        let again = |batch: &Batch| batch.tries > 1 || (batch.tries == 1 && !batch.in_flight);
        if self.batches.iter().any(again) && next > 0 {
            return None;
        }
        // Behind a first batch that is tried again, the others are in flight still.
        if next == 0 && self.batches[0].tries > 0 && self.batches.iter().any(|b| b.in_flight) {
            return None;
        }
        (self.batches[next].not_before_ns <= now_ns).then_some(next)
    }

    /// When there is something to do without an answer having come, after `now_ns`.
    pub(super) fn wakes_ns(&self, now_ns: u64) -> Option<u64> {
        let waiting = self.batches.iter().filter(|batch| !batch.in_flight);
        let times = waiting.flat_map(|batch| [batch.not_before_ns, batch.deadline_ns]);
        times.filter(|time| *time > now_ns).min()
    }

    /// Makes batches of what is queued; sequences are taken now and kept.
    pub(super) fn cut(
        &mut self,
        state: &mut ProducerState,
        config: &ProducerConfig,
        now_ms: i64,
        (next_number, scratch): (&mut u64, &mut Scratch),
    ) {
        while let Some(first) = self.queued.front() {
            let deadline_ns = first.deadline_ns;
            let mut bytes = 0;
            let fits = self.queued.iter().take_while(|queued| {
                bytes += queued.record.bytes_max();
                bytes <= config.batch_bytes_max
            });
            let count = fits.count().max(1);
            let base_sequence = state.take_sequences(&self.partition, count as u32);
            let builder = BatchBuilder {
                attributes: Attributes::default()
                    .with_compression(config.compression)
                    .with_transactional(state.transactional_id.is_some()),
                producer_id: state.producer_id,
                producer_epoch: state.producer_epoch,
                base_sequence,
                ..BatchBuilder::default()
            };
            let mut out = BytesMut::with_capacity(128);
            let records = self.queued.iter().take(count).map(|queued| NewRecord {
                timestamp: queued.record.timestamp_ms.unwrap_or(now_ms),
                key: queued.record.key.as_deref(),
                value: queued.record.value.as_deref(),
                ..NewRecord::default()
            });
            builder.encode(records, scratch, &mut out);
            self.batches.push_back(Batch {
                number: *next_number,
                sends: self.queued.drain(..count).map(|queued| queued.id).collect(),
                records: out.freeze(),
                base_sequence,
                tries: 0,
                in_flight: false,
                not_before_ns: 0,
                deadline_ns,
            });
            *next_number += 1;
        }
    }

    /// Gives every batch another sequence, under the producer id and epoch of now. None of them
    /// may have been written.
    pub(super) fn resequence(&mut self, state: &mut ProducerState) {
        for batch in &mut self.batches {
            assert!(!batch.in_flight, "a batch in flight keeps its sequence");
            let base_sequence = state.take_sequences(&self.partition, batch.sends.len() as u32);
            let mut records = BytesMut::from(&batch.records[..]);
            let header = BatchHeader::decode(&records).expect("a batch of our own has a header");
            let (producer_id, producer_epoch) = (state.producer_id, state.producer_epoch);
            let header = BatchHeader { producer_id, producer_epoch, base_sequence, ..header };
            rewrite_header(&mut records, &header);
            reseal(&mut records);
            batch.records = records.freeze();
            batch.base_sequence = base_sequence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::batch::BatchIter;
    use kafka_wire::ids::{ProducerEpoch, ProducerId};

    /// A lane with one batch for each letter: `n` not tried, `f` in flight for the first time,
    /// `F` in flight again, `r` to be tried again.
    fn lane(batches: &str) -> Lane {
        let mut lane = Lane::new(TopicPartition { topic: "t".into(), partition: 0 });
        lane.known = true;
        for (number, state) in batches.chars().enumerate() {
            lane.batches.push_back(Batch {
                number: number as u64,
                sends: Vec::new(),
                records: Bytes::new(),
                base_sequence: Sequence(number as i32),
                tries: match state {
                    'n' => 0,
                    'F' => 2,
                    _ => 1,
                },
                in_flight: matches!(state, 'f' | 'F'),
                not_before_ns: 5,
                deadline_ns: 50,
            });
        }
        lane
    }

    #[test]
    fn batches_leave_in_order_and_one_at_a_time_once_one_is_tried_again() {
        let ready = |batches: &str| lane(batches).ready(10);
        assert_eq!(ready("n"), Some(0));
        assert_eq!(ready("ffn"), Some(2));
        assert_eq!(ready("ff"), None);
        assert_eq!(ready("rffn"), None, "those behind are in flight still");
        assert_eq!(ready("rrrn"), Some(0));
        assert_eq!(ready("Frrn"), None, "one at a time");
        assert_eq!(ready("frn"), None, "the first is in flight");
        assert_eq!(ready("Fn"), None);
        assert_eq!(lane("n").ready(4), None, "not before its time");
    }

    #[test]
    fn the_first_batch_of_a_producer_id_goes_alone_where_it_has_a_sequence() {
        let mut unknown = Lane { known: false, ..lane("fn") };
        assert_eq!(unknown.ready(10), None);
        unknown.batches.iter_mut().for_each(|batch| batch.base_sequence = Sequence::NONE);
        assert_eq!(unknown.ready(10), Some(1));
    }

    #[test]
    fn a_lane_wakes_for_the_next_try_and_for_the_deadline() {
        assert_eq!(lane("r").wakes_ns(1), Some(5));
        assert_eq!(lane("r").wakes_ns(5), Some(50));
        assert_eq!(lane("f").wakes_ns(1), None);
    }

    #[test]
    fn another_sequence_is_sealed_into_the_batch() {
        let mut lane = Lane::new(TopicPartition { topic: "t".into(), partition: 0 });
        let mut state = ProducerState { producer_id: ProducerId(7), ..Default::default() };
        let mut scratch = Scratch::new();
        let config = ProducerConfig { batch_bytes_max: 100, ..Default::default() };
        for id in 0..3 {
            let record = Record::of(vec![7; 20]);
            lane.queued.push_back(Queued { id: SendId(id), record, deadline_ns: 9 });
        }
        lane.cut(&mut state, &config, 0, (&mut 0, &mut scratch));
        let sequences = |lane: &Lane| {
            let headers = lane.batches.iter().map(|batch| {
                let batch = BatchIter::new(&batch.records).next().unwrap().unwrap();
                batch.check_crc().unwrap();
                let header = batch.header;
                (header.producer_epoch.0, header.base_sequence.0, header.record_count)
            });
            headers.collect::<Vec<_>>()
        };
        assert_eq!(sequences(&lane), [(0, 0, 1), (0, 1, 1), (0, 2, 1)]);
        state.become_next(ProducerId(7), ProducerEpoch(1));
        lane.batches.pop_front();
        lane.resequence(&mut state);
        assert_eq!(sequences(&lane), [(1, 0, 1), (1, 1, 1)]);
    }
}
