//! Operations out of facts: what clients sent and read, in the vocabulary of histories.
//!
//! A key is a log: a partition of one incarnation of a topic. What was said of a topic by name is
//! left out where the name meant two topics. A value stands for a record: a hash of its
//! contents, and of an idempotent producer its producer id, epoch and sequence too, so that equal
//! contents sent twice are two values, and one batch in two places is one.
//!
//! An exchange is an operation: a Produce request one of sends, a Fetch answer one of a poll.
//! Sends of a transaction are one operation with its EndTxn. Offsets are those of acknowledgements
//! with acks=all; what a consumer of committed records passes over is not read.
//!
//! The world is open: strangers may have sent, and nobody read to the end. What is kept has a
//! limit, beyond which the rest is not rebuilt.
//!
//! Never: judges.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use rustc_hash::FxHasher;

use super::columns::{Builder, History, Value};
use super::event::{Event, EventType, EventValue, Function, Mop, Process};
use super::facts::topics::{Cluster, LogId, Topics};
use super::facts::{BatchFacts, Deed, Fact, Fetched, Produced, Seen};

/// Records that are rebuilt.
const RECORDS_MAX: u64 = 1_000_000;
/// Transactions that are open at a time.
const OPEN_MAX: usize = 10_000;
const ACKS_ALL: i16 = -1;

type Producer = (Cluster, i64, i16);

/// Makes operations of facts.
#[derive(Debug, Default)]
pub struct Rebuild {
    topics: Topics,
    operations: Vec<Operation>,
    open: BTreeMap<Producer, Open>,
    records: u64,
    left_out: u64,
}

/// An operation; its keys are numbers of logs.
#[derive(Debug)]
struct Operation {
    function: Function,
    times_ns: (u64, u64),
    outcome: EventType,
    mops: Vec<Mop>,
}

/// A transaction that has not ended.
#[derive(Debug)]
struct Open {
    began_ns: u64,
    sends: Vec<Mop>,
}

impl Rebuild {
    /// Takes the next fact.
    pub fn fact(&mut self, fact: &Fact, broker: Option<SocketAddr>) {
        self.topics.learn(fact, broker);
        let cluster = self.topics.cluster(broker);
        match &fact.deed {
            Deed::Produce { acks, partitions, .. } => {
                self.produced(&fact.seen, cluster, *acks, partitions);
            }
            Deed::Fetch { read_committed, by_consumer: true, partitions } => {
                self.fetched(&fact.seen, cluster, *read_committed, partitions);
            }
            Deed::EndTxn { asked, committed, error, .. } => {
                let of = (cluster, asked.producer_id, asked.producer_epoch);
                let outcome = match (error, committed) {
                    (Some(0), true) => EventType::Ok,
                    (Some(0), false) => EventType::Fail,
                    _ => EventType::Info,
                };
                if let Some(open) = self.open.remove(&of) {
                    let ended = fact.seen.response.unwrap_or(fact.seen.request).time_ns;
                    self.operation(Function::Txn, (open.began_ns, ended), outcome, open.sends);
                }
            }
            _ => {}
        }
    }

    /// All there is but for what was said of topics by names that are doubtful; and how many records
    /// were beyond the limit.
    #[must_use]
    pub fn finish(mut self, doubtful: &BTreeSet<Arc<str>>) -> (History, u64) {
        let open = std::mem::take(&mut self.open);
        for (_, open) in open {
            let times = (open.began_ns, open.began_ns);
            self.operation(Function::Txn, times, EventType::Info, open.sends);
        }
        let certain = (0..self.topics.log_count()).map(LogId);
        let is_certain = |log: LogId| {
            self.topics.is_certain_by_name(log) && !doubtful.contains(&*self.topics.names(log).0)
        };
        let certain: Vec<bool> = certain.map(is_certain).collect();
        let is_certain = |key: &i64| certain[*key as usize];
        let mut builder = Builder::new();
        let zero = self.operations.iter().map(|operation| operation.times_ns.0).min().unwrap_or(0);
        for (number, mut operation) in (0..).zip(self.operations) {
            for mop in &mut operation.mops {
                if let Mop::Poll { records: Some(records) } = mop {
                    records.retain(|(key, _)| is_certain(key));
                }
            }
            operation.mops.retain(|mop| match mop {
                Mop::Send { key, .. } => is_certain(key),
                Mop::Poll { records } => records.as_ref().is_none_or(|all| !all.is_empty()),
            });
            if !operation.mops.is_empty() {
                push(&mut builder, number, zero, operation);
            }
        }
        (builder.finish(), self.left_out)
    }

    fn has_room_for(&mut self, batches: &[BatchFacts]) -> bool {
        let count: u64 = batches.iter().map(|batch| batch.records.len() as u64).sum();
        let fits = self.records + count <= RECORDS_MAX;
        if fits {
            self.records += count
        } else {
            self.left_out += count
        }
        fits
    }

    fn produced(&mut self, seen: &Seen, cluster: Cluster, acks: i16, partitions: &[Produced]) {
        for produced in partitions {
            if !self.has_room_for(&produced.batches) {
                continue;
            }
            let log = self.topics.log(cluster, &produced.topic, produced.partition);
            let Some(key) = log.map(|log| i64::from(log.0)) else { continue };
            let (outcome, base) = match produced.answer {
                Some((0, base, _)) => {
                    (EventType::Ok, (acks == ACKS_ALL && base >= 0).then_some(base))
                }
                // Whether an error means that nothing was written is not for here to say.
                _ => (EventType::Info, None),
            };
            for batch in &produced.batches {
                let sends = batch.records.iter().map(|&(offset, content)| Mop::Send {
                    key,
                    value: value(batch, offset, content),
                    offset: base.map(|base| base + (offset - batch.header.base_offset.0)),
                    run: true,
                });
                let sends: Vec<Mop> = sends.collect();
                let ended = seen.response.unwrap_or(seen.request).time_ns;
                if batch.is_transactional_data() {
                    let header = &batch.header;
                    let of = (cluster, header.producer_id.0, header.producer_epoch.0);
                    self.join(of, seen.request.time_ns, sends);
                } else {
                    let times = (seen.request.time_ns, ended);
                    self.operation(Function::Send, times, outcome, sends);
                }
            }
        }
    }

    fn join(&mut self, of: Producer, began_ns: u64, sends: Vec<Mop>) {
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(&of) {
            return;
        }
        let open = self.open.entry(of).or_insert_with(|| Open { began_ns, sends: Vec::new() });
        open.sends.extend(sends);
    }

    fn fetched(
        &mut self,
        seen: &Seen,
        cluster: Cluster,
        read_committed: bool,
        partitions: &[Fetched],
    ) {
        let mut records = Vec::new();
        for fetched in partitions.iter().filter(|fetched| fetched.error == 0) {
            if !self.has_room_for(&fetched.batches) {
                continue;
            }
            let handed = handed_on(fetched, read_committed);
            let mut of_key = Vec::new();
            let batches = fetched.batches.iter().zip(handed);
            // No client takes records from a batch with a wrong checksum.
            let batches = batches.filter(|(batch, handed)| *handed && batch.corrupt.is_none());
            for (batch, _) in batches {
                let wanted = batch
                    .records
                    .iter()
                    .filter(|(offset, _)| fetched.fetch_offset.is_none_or(|from| *offset >= from));
                let read = wanted.map(|&(offset, content)| (offset, value(batch, offset, content)));
                of_key.extend(read);
            }
            let log = self.topics.log(cluster, &fetched.topic, fetched.partition);
            if let (false, Some(log)) = (of_key.is_empty(), log) {
                records.push((i64::from(log.0), of_key));
            }
        }
        if let (false, Some(response)) = (records.is_empty(), seen.response) {
            let times = (seen.request.time_ns, response.time_ns);
            let poll = Mop::Poll { records: Some(records) };
            self.operation(Function::Poll, times, EventType::Ok, vec![poll]);
        }
    }

    fn operation(
        &mut self,
        function: Function,
        times_ns: (u64, u64),
        outcome: EventType,
        mops: Vec<Mop>,
    ) {
        self.operations.push(Operation { function, times_ns, outcome, mops });
    }
}

/// Writes an operation as its two events.
fn push(builder: &mut Builder, number: u64, zero: u64, operation: Operation) {
    let Operation { function, times_ns: (began_ns, ended_ns), outcome, mops } = operation;
    let invoked = mops.iter().map(|mop| match mop {
        Mop::Send { key, value, .. } => {
            Mop::Send { key: *key, value: *value, offset: None, run: false }
        }
        Mop::Poll { .. } => Mop::Poll { records: None },
    });
    let invoked = EventValue::Mops(invoked.collect());
    let ended = EventValue::Mops(mops);
    let events = [(EventType::Invoke, began_ns, invoked), (outcome, ended_ns, ended)];
    for (at, (event_type, time_ns, value)) in (0..).zip(events) {
        builder.push(Event {
            index: number * 2 + at,
            time_ns: time_ns.saturating_sub(zero),
            event_type,
            // Nothing is known of the order in which an application meant its requests: each is
            // a process of its own.
            process: Process::Client(number as i64),
            function: function.clone(),
            value,
            error: None,
            end_process: false,
            extra: Vec::new(),
        });
    }
}

/// The identity of a record: below the values that are names. Its sequence is counted by offsets:
/// compaction takes records out of a batch and leaves the numbers of the others.
fn value(batch: &BatchFacts, offset: i64, content: u64) -> i64 {
    let mut hasher = FxHasher::default();
    content.hash(&mut hasher);
    if batch.header.base_sequence.0 >= 0 {
        let header = &batch.header;
        (header.producer_id.0, header.producer_epoch.0).hash(&mut hasher);
        let at = offset.wrapping_sub(header.base_offset.0);
        i64::from(header.base_sequence.0).wrapping_add(at).hash(&mut hasher);
    }
    (hasher.finish() as i64) & (Value::INTERNED_MIN - 1)
}

/// Of each batch, whether the consumer hands its records on.
fn handed_on(fetched: &Fetched, read_committed: bool) -> Vec<bool> {
    let decided = if read_committed { fetched.handed_on() } else { Vec::new() };
    let is_data = |batch: &BatchFacts| !batch.header.is_control();
    let of = |(at, batch): (usize, &BatchFacts)| {
        is_data(batch) && decided.get(at).copied().flatten() != Some(false)
    };
    fetched.batches.iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use kafka_wire::ApiKey;
    use kafka_wire::batch::{Attributes, BatchBuilder, BatchIter, NewRecord, Scratch};
    use kafka_wire::ids::{Offset, ProducerEpoch, ProducerId, Sequence};

    use super::*;
    use crate::history::facts::{Ending, EpochAsked, Moment, Topic};
    use crate::history::wire::PacketNumber;

    fn batch(base: i64, value: &[u8], transactional: bool) -> BatchFacts {
        let builder = BatchBuilder {
            base_offset: Offset(base),
            producer_id: ProducerId(9),
            producer_epoch: ProducerEpoch(0),
            base_sequence: Sequence(0),
            attributes: Attributes::default().with_transactional(transactional),
            ..BatchBuilder::default()
        };
        let (mut field, mut scratch) = (Vec::new(), Scratch::new());
        builder.encode([NewRecord::of(value)], &mut scratch, &mut field);
        let batch = BatchIter::new(&field).next().unwrap().unwrap();
        BatchFacts::of(&batch, &mut scratch, true)
    }

    fn rebuilt(deeds: Vec<Deed>) -> Vec<String> {
        let mut rebuild = Rebuild::default();
        for (number, deed) in (1..).zip(deeds) {
            let packet = PacketNumber { file: 0, number };
            let at = Moment { packet, time_ns: number };
            let fact = Fact {
                seen: Seen { request: at, response: Some(at), ..Seen::default() },
                api_key: ApiKey::PRODUCE,
                api_version: 0,
                client_id: None,
                ending: Ending::Answered,
                errors: Vec::new(),
                response_walked: true,
                malformed: None,
                deed,
            };
            rebuild.fact(&fact, None);
        }
        let (history, left_out) = rebuild.finish(&BTreeSet::new());
        assert_eq!(left_out, 0);
        let said = |op: super::super::columns::Op<'_>| {
            format!("{} {:?} {}", op.function().name(), op.kind(), op.mops().len())
        };
        history.ops().map(said).collect()
    }

    fn produce(batch: BatchFacts, error: i16) -> Deed {
        let answer = Some((error, 0, 0));
        let topic = Topic::named("t");
        let partitions = vec![Produced { topic, partition: 0, batches: vec![batch], answer }];
        Deed::Produce { transactional: false, acks: -1, partitions }
    }

    fn end(committed: bool) -> Deed {
        let asked = EpochAsked { transactional_id: "x".into(), producer_id: 9, producer_epoch: 0 };
        Deed::EndTxn { asked, committed, error: Some(0), next: None }
    }

    #[test]
    fn a_request_is_an_operation_and_so_is_a_transaction() {
        let fetched = Fetched {
            topic: Topic::named("t"),
            last_stable_offset: 1,
            batches: vec![batch(0, b"a", false)],
            ..Fetched::default()
        };
        let deeds = vec![
            produce(batch(0, b"a", false), 0),
            produce(batch(0, b"b", false), 7),
            produce(batch(0, b"c", true), 0),
            produce(batch(0, b"d", true), 0),
            end(true),
            produce(batch(0, b"e", true), 0),
            end(false),
            Deed::Fetch { read_committed: true, by_consumer: true, partitions: vec![fetched] },
        ];
        let expected = ["send Ok 1", "send Info 1", "txn Ok 2", "txn Fail 1", "poll Ok 1"];
        assert_eq!(rebuilt(deeds), expected);
    }

    #[test]
    fn what_a_name_that_meant_two_topics_said_is_left_out() {
        let deeds = vec![
            produce(batch(0, b"a", false), 0),
            Deed::TopicsChanged(vec![Topic::named("t")]),
            produce(batch(0, b"b", false), 0),
        ];
        assert_eq!(rebuilt(deeds), [""; 0]);
    }

    #[test]
    fn one_batch_in_two_places_is_one_value_and_equal_contents_of_two_producers_are_two() {
        let one = batch(0, b"a", false);
        let other_place = batch(7, b"a", false);
        let mut other_producer = batch(0, b"a", false);
        other_producer.header.producer_id = ProducerId(8);
        let of = |batch: &BatchFacts| value(batch, batch.records[0].0, batch.records[0].1);
        assert_eq!(of(&one), of(&other_place));
        assert_ne!(of(&one), of(&other_producer));
    }

    #[test]
    fn a_record_stays_what_it_is_when_compaction_takes_the_one_before_it() {
        let mut whole = batch(5, b"a", false);
        let (offset, content) = whole.records[0];
        whole.records.push((offset + 1, content ^ 1));
        let mut thinned = batch(5, b"a", false);
        thinned.records = vec![whole.records[1]];
        let last = |batch: &BatchFacts| {
            let &(offset, content) = batch.records.last().unwrap();
            value(batch, offset, content)
        };
        assert_eq!(last(&whole), last(&thinned));
    }
}
