//! What the clients of a conversation meant and were told, as operations of a history.
//!
//! A transaction is what its steps call one, whatever epoch the broker gives it: an EndTxn that
//! arrives late belongs to the transaction it was sent for. Its outcome is by what its client was
//! told; an answer nobody awaited any more is none.
//!
//! Never: decides by an answer the client did not hear.

use std::collections::{BTreeMap, BTreeSet};

use super::conversation::{Conversation, Style};
use crate::history::event::{EventType, EventValue, Function, Mop, Process};
use crate::history::outcome::{self, Attempt, End, Outcome};
use crate::history::{Moment, Recorder};

/// Where the processes of readers begin.
const READERS: i64 = 1000;
/// Values that no step sent.
const STRANGE: i64 = 1_000_000;

/// What the numbers of a history stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meanings {
    /// Keys and their partitions.
    pub keys: Vec<(i64, String)>,
    /// Values and what was sent.
    pub values: Vec<(i64, String)>,
}

/// A transaction, or a write outside any.
#[derive(Debug, Default)]
struct Meant {
    process: i64,
    transactional: bool,
    producer_epoch: Option<i16>,
    writes: Vec<Write>,
    ends: Vec<End>,
    begun: bool,
    outcome: Option<Outcome>,
}

/// One Produce step, with every time it was sent.
#[derive(Debug)]
struct Write {
    step: usize,
    key: i64,
    values: Vec<i64>,
    attempts: Vec<Attempt>,
    base_offset: Option<i64>,
}

/// An offset that a transaction committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The group, as the file calls it.
    pub group: String,
    /// The partition, as `t-0`.
    pub partition: String,
    /// The offset.
    pub offset: i64,
    transaction: Option<String>,
    told_ok: bool,
}

/// Records the operations of one conversation.
pub struct Operations<'r> {
    recorder: &'r Recorder,
    keys: Vec<String>,
    values: BTreeMap<String, i64>,
    meant: BTreeMap<String, Meant>,
    of_step: BTreeMap<usize, String>,
    committed: Vec<Committed>,
    readers: i64,
    strange: i64,
}

impl<'r> Operations<'r> {
    /// What a conversation means to do in a style.
    #[must_use]
    pub fn new(conversation: &Conversation, style: Style, recorder: &'r Recorder) -> Self {
        let keys: Vec<String> = conversation.partitions().into_iter().map(|(tp, ..)| tp).collect();
        let mut all = Self {
            recorder,
            keys,
            values: BTreeMap::new(),
            meant: BTreeMap::new(),
            of_step: BTreeMap::new(),
            committed: Vec::new(),
            readers: READERS,
            strange: STRANGE,
        };
        for (at, step) in conversation.steps.iter().enumerate() {
            if !step.is_in(style) {
                continue;
            }
            let name = step.transaction.clone().unwrap_or_else(|| format!("step {}", at + 1));
            let (Some(api), Some(partition)) = (step.send.as_deref(), &step.partition) else {
                if step.transaction.is_some() {
                    all.meant(&name, true);
                    all.of_step.insert(at, name);
                }
                continue;
            };
            if api == "Produce" {
                let key = all.key(partition);
                let texts = step.values.iter().flatten();
                let values = texts.map(|text| all.value(text)).collect();
                let meant = all.meant(&name, step.transaction.is_some());
                let write =
                    Write { step: at, key, values, attempts: Vec::new(), base_offset: None };
                meant.writes.push(write);
                all.of_step.insert(at, name);
            } else if step.transaction.is_some() {
                all.meant(&name, true);
                all.of_step.insert(at, name);
            }
        }
        all
    }

    fn meant(&mut self, name: &str, transactional: bool) -> &mut Meant {
        let process = self.meant.len() as i64;
        self.meant.entry(name.to_owned()).or_insert_with(|| Meant {
            process,
            transactional,
            ..Meant::default()
        })
    }

    fn key(&self, partition: &str) -> i64 {
        self.keys.iter().position(|key| key == partition).map_or(-1, |at| at as i64)
    }

    fn value(&mut self, text: &str) -> i64 {
        let next = self.values.len() as i64 + 1;
        *self.values.entry(text.to_owned()).or_insert(next)
    }

    /// What the numbers of the history stand for.
    #[must_use]
    pub fn names(&self) -> Meanings {
        let keys = (0..).zip(self.keys.iter().cloned()).collect();
        let mut values: Vec<(i64, String)> =
            self.values.iter().map(|(text, number)| (*number, text.clone())).collect();
        values.sort();
        Meanings { keys, values }
    }

    /// A step of a transaction, or a write, is about to be said.
    pub fn begins(&mut self, step: usize, producer_epoch: Option<i16>) {
        let Some(meant) = self.of_step.get(&step).and_then(|name| self.meant.get_mut(name)) else {
            return;
        };
        meant.producer_epoch = meant.producer_epoch.or(producer_epoch);
        if !meant.begun && !meant.writes.is_empty() {
            meant.begun = true;
            self.recorder.record(moment(meant, EventType::Invoke));
        }
    }

    /// A Produce step was sent and this came of it, as far as its client knows. Answers which
    /// attempt it is.
    pub fn attempted(&mut self, step: usize, attempt: Attempt, base_offset: Option<i64>) {
        let Some(meant) = self.of_step.get(&step).and_then(|name| self.meant.get_mut(name)) else {
            return;
        };
        if let Some(write) = meant.writes.iter_mut().find(|write| write.step == step) {
            write.attempts.push(attempt);
            write.base_offset = write.base_offset.or(base_offset.filter(|base| *base >= 0));
        }
        if !meant.transactional {
            let name = self.of_step[&step].clone();
            self.settle(&name, false);
        }
    }

    /// An EndTxn of a transaction was sent and this came of it, as far as its client knows.
    pub fn ended(&mut self, transaction: &str, end: End) {
        let Some(meant) = self.meant.get_mut(transaction) else { return };
        meant.producer_epoch.get_or_insert(end.producer_epoch);
        meant.ends.push(end);
        let told = outcome::attempt(&Attempt {
            api_key: kafka_wire::ApiKey::END_TXN,
            api_version: end.api_version,
            acks: None,
            fate: end.fate,
        });
        if told.0 == Outcome::Ok {
            self.settle(transaction, false);
        }
    }

    /// A TxnOffsetCommit was sent; `told_ok` where its client was told that it succeeded.
    pub fn offset(
        &mut self,
        (group, partition): (&str, &str),
        offset: i64,
        transaction: Option<&str>,
        told_ok: bool,
    ) {
        let known = self.committed.iter_mut().find(|known| {
            known.group == group
                && known.partition == partition
                && known.offset == offset
                && known.transaction.as_deref() == transaction
        });
        match known {
            Some(known) => known.told_ok |= told_ok,
            None => self.committed.push(Committed {
                group: group.to_owned(),
                partition: partition.to_owned(),
                offset,
                transaction: transaction.map(str::to_owned),
                told_ok,
            }),
        }
    }

    /// Completes everything that is still open: nobody does anything about it any more.
    pub fn close(&mut self) {
        let names: Vec<String> = self.meant.keys().cloned().collect();
        for name in names {
            self.settle(&name, true);
        }
    }

    /// Completes an operation; `at_last` also where its outcome may still change.
    fn settle(&mut self, name: &str, at_last: bool) {
        let Some(meant) = self.meant.get_mut(name).filter(|meant| meant.outcome.is_none()) else {
            return;
        };
        let known = meant.known();
        if !at_last && !meant.transactional && known != Outcome::Ok {
            return;
        }
        meant.outcome = Some(known);
        if !meant.begun {
            return;
        }
        let mut completion = moment(meant, known.into());
        completion.end_process = known == Outcome::Info;
        self.recorder.record(completion);
        // A write that was refused inside a transaction that was committed all the same.
        if meant.transactional && known == Outcome::Ok {
            let refused = meant.writes.iter().filter(|w| w.known() != Outcome::Ok);
            for (number, write) in (0..).zip(refused) {
                let process = Process::Client(meant.process + 100 * (number + 1));
                let mops = EventValue::Mops(write.mops(false));
                let invoke = Moment::invoke(process, Function::Send, mops.clone());
                let ended = invoke.completion(write.known().into(), mops);
                self.recorder.record(invoke);
                self.recorder.record(ended);
            }
        }
    }

    /// A consumer read a partition from its beginning.
    pub fn read(&mut self, partition: &str, records: &[(i64, Vec<u8>)]) {
        let key = self.key(partition);
        let mut numbered = Vec::with_capacity(records.len());
        for (offset, value) in records {
            let known = std::str::from_utf8(value).ok().and_then(|text| self.values.get(text));
            let number = known.copied().unwrap_or_else(|| {
                self.strange += 1;
                self.strange
            });
            numbered.push((*offset, number));
        }
        let process = Process::Client(self.readers);
        self.readers += 1;
        let asked = EventValue::Mops(vec![Mop::Poll { records: None }]);
        let invoke = Moment::invoke(process, Function::Poll, asked);
        let polled = Mop::Poll { records: Some(vec![(key, numbered)]) };
        let completion = invoke.completion(EventType::Ok, EventValue::Mops(vec![polled]));
        self.recorder.record(invoke);
        self.recorder.record(completion);
    }

    /// Groups and partitions whose offsets were committed.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<(String, String)> {
        let of = |known: &Committed| (known.group.clone(), known.partition.clone());
        self.committed.iter().map(of).collect()
    }

    /// The offsets a group may be at: those of the last transaction that was committed and of any
    /// after it whose outcome nobody knows; −1 is none. And those it must not be at: of
    /// transactions that were aborted.
    #[must_use]
    pub fn offsets(&self, group: &str, partition: &str) -> (BTreeSet<i64>, BTreeSet<i64>) {
        let (mut may, mut must_not) = (BTreeSet::from([-1]), BTreeSet::new());
        let of = |known: &&Committed| known.group == group && known.partition == partition;
        for known in self.committed.iter().filter(of) {
            let meant = known.transaction.as_ref().and_then(|name| self.meant.get(name));
            let outcome = match meant {
                Some(meant) => meant.known(),
                None => Outcome::Info,
            };
            match outcome {
                Outcome::Ok if known.told_ok => may = BTreeSet::from([known.offset]),
                Outcome::Ok | Outcome::Info => drop(may.insert(known.offset)),
                Outcome::Fail => drop(must_not.insert(known.offset)),
            }
        }
        must_not.retain(|offset| !may.contains(offset));
        (may, must_not)
    }
}

impl Meant {
    fn known(&self) -> Outcome {
        if self.transactional {
            outcome::transaction(self.producer_epoch.unwrap_or(-1), &self.ends)
        } else {
            outcome::together(self.writes.iter().map(Write::known))
        }
    }
}

impl Write {
    fn known(&self) -> Outcome {
        outcome::operation(&self.attempts)
    }

    fn mops(&self, with_offsets: bool) -> Vec<Mop> {
        let base = self.base_offset.filter(|_| with_offsets);
        let send = |(at, value): (i64, &i64)| Mop::Send {
            key: self.key,
            value: *value,
            offset: base.map(|base| base + at),
            run: with_offsets,
        };
        (0..).zip(&self.values).map(send).collect()
    }
}

/// An event of an operation: what was meant, or what came of it.
fn moment(meant: &Meant, event_type: EventType) -> Moment {
    let is_completion = event_type != EventType::Invoke;
    let only_ok = event_type == EventType::Ok && meant.transactional;
    let writes = meant.writes.iter().filter(|write| !only_ok || write.known() == Outcome::Ok);
    let mops = writes.flat_map(|write| write.mops(is_completion)).collect();
    let function = if meant.transactional { Function::Txn } else { Function::Send };
    let process = Process::Client(meant.process);
    let invoke = Moment::invoke(process, function, EventValue::Mops(mops));
    Moment { event_type, ..invoke }
}
