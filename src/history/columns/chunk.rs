//! One stretch of a history as columns of its own, with names numbered from 0.
//!
//! Readers on several threads fill chunks; the one [`Builder`](super::Builder) takes them in the
//! order of the text. A chunk is emptied and used again, so that its memory stays warm.

use crate::history::event::{EventType, EventValue, Function, Mop, Process};
use crate::history::observation::{Observations, Oddity};

use super::cells::{MopCell, MopKind, NO_INDEX, NO_OFFSET};
use super::names::{Name, Names};
use super::runs::{self, RUN_RECORDS_MAX};
use super::view::Value;

/// No name: no process, no error.
pub(crate) const NONE: u32 = u32::MAX;

/// The functions with a number of their own; any other is a text behind them.
pub(crate) const FUNCTIONS: [Function; 7] = [
    Function::Send,
    Function::Poll,
    Function::Txn,
    Function::Assign,
    Function::Subscribe,
    Function::Crash,
    Function::DebugTopicPartitions,
];
pub(crate) const TXN: u32 = 2;

/// One event; where its micro-operations, keys and extras begin, the event before it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventCell {
    pub(crate) index: u64,
    pub(crate) time_ns: u64,
    pub(crate) byte_offset: u64,
    pub(crate) marks: Marks,
    pub(crate) process: u32,
    pub(crate) function: u32,
    pub(crate) error: u32,
    pub(crate) event_type: EventType,
    pub(crate) end_process: bool,
    /// Whether it says nothing of a value.
    pub(crate) value_nil: bool,
}

/// How full the arenas are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks {
    pub(crate) mops: u32,
    pub(crate) bound: u32,
    pub(crate) extras: u32,
}

/// A stretch of a history.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) events: Vec<EventCell>,
    pub(crate) mops: Vec<MopCell>,
    pub(crate) wide: Vec<(i64, i64)>,
    pub(crate) polled: Vec<u8>,
    /// Where in `polled` each run begins.
    pub(crate) heads: Vec<usize>,
    pub(crate) lists: Vec<Value>,
    pub(crate) bound: Vec<u32>,
    pub(crate) extras: Vec<(u32, Box<str>)>,
    pub(crate) keys: Names,
    pub(crate) processes: Names,
    pub(crate) functions: Names,
    pub(crate) errors: Names,
    pub(crate) extra_names: Names,
    pub(crate) interned: Names,
    pub(crate) observations: Observations,
    /// A run's records before they are packed.
    records: Vec<(i64, i64)>,
    run_key: u32,
    poll_at: usize,
    poll_runs: u32,
}

/// How full everything is, to go back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    mops: usize,
    wide: usize,
    polled: usize,
    heads: usize,
    lists: usize,
    bound: usize,
    extras: usize,
}

impl Chunk {
    /// Empties it; what its arenas have grown to is kept.
    pub(crate) fn clear(&mut self) {
        self.events.clear();
        self.mops.clear();
        self.wide.clear();
        self.polled.clear();
        self.heads.clear();
        self.lists.clear();
        self.bound.clear();
        self.extras.clear();
        for names in [
            &mut self.keys,
            &mut self.processes,
            &mut self.functions,
            &mut self.errors,
            &mut self.extra_names,
            &mut self.interned,
        ] {
            names.clear();
        }
        self.observations = Observations::default();
        self.records.clear();
    }

    /// An event that says nothing yet.
    pub(crate) fn event(&self, byte_offset: u64) -> EventCell {
        EventCell {
            index: NO_INDEX,
            time_ns: 0,
            byte_offset,
            marks: Marks {
                mops: self.mops.len() as u32,
                bound: self.bound.len() as u32,
                extras: self.extras.len() as u32,
            },
            process: NONE,
            function: TXN,
            error: NONE,
            event_type: EventType::Info,
            end_process: false,
            value_nil: true,
        }
    }

    /// Where the arenas end now, for an event that is given up half-way.
    pub(crate) fn fill(&self) -> Fill {
        Fill {
            mops: self.mops.len(),
            wide: self.wide.len(),
            polled: self.polled.len(),
            heads: self.heads.len(),
            lists: self.lists.len(),
            bound: self.bound.len(),
            extras: self.extras.len(),
        }
    }

    /// Takes back what was added since.
    pub(crate) fn truncate(&mut self, fill: Fill) {
        self.mops.truncate(fill.mops);
        self.wide.truncate(fill.wide);
        self.polled.truncate(fill.polled);
        self.heads.truncate(fill.heads);
        self.lists.truncate(fill.lists);
        self.bound.truncate(fill.bound);
        self.extras.truncate(fill.extras);
        self.records.clear();
    }

    /// Where the arenas of an event end.
    #[inline]
    pub(crate) fn end_of(&self, event: usize) -> Marks {
        match self.events.get(event + 1) {
            Some(next) => next.marks,
            None => Marks {
                mops: self.mops.len() as u32,
                bound: self.bound.len() as u32,
                extras: self.extras.len() as u32,
            },
        }
    }

    pub(crate) fn function(&mut self, name: &str) -> u32 {
        let known = FUNCTIONS.iter().position(|function| function.name() == name);
        match known {
            Some(known) => known as u32,
            None => FUNCTIONS.len() as u32 + self.functions.text(name),
        }
    }

    #[inline]
    pub(crate) fn function_name(&self, function: u32) -> &str {
        match FUNCTIONS.get(function as usize) {
            Some(known) => known.name(),
            None => match &self.functions.all()[function as usize - FUNCTIONS.len()] {
                Name::Text(name) => name,
                Name::Integer(_) => "",
            },
        }
    }

    /// The number that stands for a value that is no integer below 2^62.
    pub(crate) fn intern(&mut self, text: &str) -> i64 {
        Value::INTERNED_MIN + i64::from(self.interned.text(text))
    }

    /// A whole number as a value.
    #[inline]
    pub(crate) fn value(&mut self, integer: i64) -> i64 {
        if integer < Value::INTERNED_MIN { integer } else { self.intern(&integer.to_string()) }
    }

    #[inline]
    pub(crate) fn send(&mut self, key: u32, value: i64, offset: Option<i64>, ran: bool) {
        let offset = offset.unwrap_or(NO_OFFSET);
        let cell = MopCell::send(key, value, offset, ran).unwrap_or_else(|| {
            self.wide.push((value, offset));
            MopCell::new(MopKind::Wide, key, u32::from(ran), self.wide.len() as u64 - 1)
        });
        self.mops.push(cell);
    }

    pub(crate) fn append(&mut self, key: u32, value: i64) {
        let cell = match u32::try_from(value) {
            Ok(value) => MopCell::new(MopKind::Append, key, value, 0),
            Err(_) => {
                self.wide.push((value, NO_OFFSET));
                MopCell::new(MopKind::AppendWide, key, 0, self.wide.len() as u64 - 1)
            }
        };
        self.mops.push(cell);
    }

    /// A read of the list values pushed since `lists` was that long; absent where it never came
    /// back.
    pub(crate) fn read(&mut self, key: u32, since: Option<usize>) {
        let cell = match since {
            Some(start) => {
                let count = (self.lists.len() - start) as u32;
                MopCell::new(MopKind::Read, key, count, start as u64)
            }
            None => MopCell::new(MopKind::ReadUnknown, key, 0, 0),
        };
        self.mops.push(cell);
    }

    pub(crate) fn poll_that_did_not_run(&mut self) {
        self.mops.push(MopCell::new(MopKind::Poll, 0, 0, 0));
    }

    #[inline]
    pub(crate) fn begin_poll(&mut self) {
        self.poll_at = self.polled.len();
        self.poll_runs = 0;
    }

    #[inline]
    pub(crate) fn begin_run(&mut self, key: u32) {
        self.run_key = key;
        self.records.clear();
    }

    #[inline]
    pub(crate) fn record(&mut self, offset: i64, value: i64) {
        self.records.push((offset, value));
    }

    pub(crate) fn record_without_offset(&mut self, offset: Option<i64>, value: i64) {
        self.record(offset.unwrap_or(NO_OFFSET), value);
    }

    pub(crate) fn list_value(&mut self, value: i64) {
        self.lists.push(Value(value));
    }

    #[inline]
    pub(crate) fn end_run(&mut self) {
        for records in self.records.chunks(RUN_RECORDS_MAX) {
            self.heads.push(self.polled.len());
            runs::write(&mut self.polled, self.run_key, records);
            self.poll_runs += 1;
        }
    }

    #[inline]
    pub(crate) fn end_poll(&mut self) {
        let at = self.poll_at as u64;
        self.mops.push(MopCell::new(MopKind::Polled, self.poll_runs, 0, at));
    }

    /// Adds an event that was made, not read.
    pub(crate) fn push(&mut self, event: &crate::history::Event, byte_offset: u64) {
        let mut cell = self.event(byte_offset);
        cell.index = event.index;
        cell.time_ns = event.time_ns;
        cell.event_type = event.event_type;
        cell.end_process = event.end_process;
        cell.process = match &event.process {
            Process::Client(number) => self.processes.integer(*number),
            Process::Named(name) => self.processes.text(name),
        };
        cell.function = self.function(event.function.name());
        cell.error = event.error.as_ref().map_or(NONE, |text| self.errors.text(text));
        cell.value_nil = event.value == EventValue::Nil;
        match &event.value {
            EventValue::Nil => {}
            EventValue::Mops(mops) => mops.iter().for_each(|mop| self.mop(mop)),
            EventValue::Keys(keys) => {
                for key in keys {
                    let key = self.keys.integer(*key);
                    self.bound.push(key);
                }
            }
            EventValue::Json(text) => self.extra("value", text),
        }
        for (name, text) in &event.extra {
            self.extra(name, text);
        }
        self.events.push(cell);
    }

    /// Adds a further field, its value as JSON text.
    pub(crate) fn extra(&mut self, name: &str, text: &str) {
        let name = self.extra_names.text(name);
        self.extras.push((name, text.into()));
    }

    fn mop(&mut self, mop: &Mop) {
        match mop {
            Mop::Send { key, value, offset, run } => {
                let key = self.keys.integer(*key);
                let value = self.value(*value);
                self.send(key, value, *offset, *run || offset.is_some());
            }
            Mop::Poll { records: None } => self.poll_that_did_not_run(),
            Mop::Poll { records: Some(runs) } => {
                self.begin_poll();
                for (key, records) in runs {
                    let key = self.keys.integer(*key);
                    self.begin_run(key);
                    for (offset, value) in records {
                        let value = self.value(*value);
                        self.record(*offset, value);
                    }
                    self.end_run();
                }
                self.end_poll();
            }
        }
    }

    /// Notes an oddity of the event that begins at `byte_offset`.
    #[cold]
    pub(crate) fn odd(&mut self, oddity: Oddity, byte_offset: u64) {
        self.observations.add(oddity, byte_offset);
    }
}
