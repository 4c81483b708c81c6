//! A whole operation history in columns.
//!
//! Rows are *operations* (an invocation with its completion), in the order of their completions;
//! those that never completed come last, as `Info`. Micro-operations and records stand in flat
//! arenas behind them. Records of a poll stand in *runs*: one run is one key's records in the
//! order they came.
//!
//! Never: judges; knows a notation (JSON lines and EDN are read elsewhere into a [`Builder`]).

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::event::{Event, EventType, EventValue, Function, Mop, Process};

/// A key, dense from 0 in order of first appearance; [`History::key_name`] has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

/// A process, dense from 0 in order of first appearance; [`History::process`] has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

/// A value. Integers below [`Value::INTERNED_MIN`] stand for themselves; any other value is
/// interned and [`History::value_name`] has its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub i64);

impl Value {
    /// The first number that stands for an interned value.
    pub const INTERNED_MIN: i64 = 1 << 62;
}

/// One micro-operation of an operation.
#[derive(Debug, Clone, Copy)]
pub enum MopRef<'a> {
    /// A value sent to a key.
    Send {
        /// The partition.
        key: KeyId,
        /// What was sent.
        value: Value,
        /// Where it was acknowledged, if that is known.
        offset: Option<i64>,
    },
    /// A poll that came back.
    Poll(PollRef<'a>),
    /// A value appended to a list (list-append histories).
    Append {
        /// The list.
        key: KeyId,
        /// What was appended.
        value: Value,
    },
    /// A list read whole (list-append histories); absent where the read never came back.
    Read {
        /// The list.
        key: KeyId,
        /// What it held.
        values: Option<&'a [Value]>,
    },
}

/// A poll's records, run by run.
#[derive(Debug, Clone, Copy)]
pub struct PollRef<'a> {
    runs: &'a [RunCell],
    history: &'a History,
}

impl<'a> PollRef<'a> {
    /// The runs, in the order the poll gave them.
    pub fn runs(self) -> impl ExactSizeIterator<Item = RunRef<'a>> {
        self.runs.iter().map(move |cell| RunRef {
            key: cell.key,
            records: &self.history.records[cell.start as usize..cell.end as usize],
        })
    }
}

/// One key's records in one poll.
#[derive(Debug, Clone, Copy)]
pub struct RunRef<'a> {
    /// The partition.
    pub key: KeyId,
    records: &'a [(i64, Value)],
}

impl<'a> RunRef<'a> {
    /// Offsets (absent where the history gives none) and values, in the order they came.
    pub fn records(self) -> impl ExactSizeIterator<Item = (Option<i64>, Value)> + 'a {
        self.records.iter().map(|&(offset, value)| ((offset != NO_OFFSET).then_some(offset), value))
    }
}

const NO_OFFSET: i64 = i64::MIN;

#[derive(Debug, Clone, Copy)]
struct RunCell {
    key: KeyId,
    start: u64,
    end: u64,
}

#[derive(Debug, Clone, Copy)]
enum MopCell {
    Send { key: KeyId, value: Value, offset: i64 },
    Poll { start: u64, end: u64 },
    Append { key: KeyId, value: Value },
    Read { key: KeyId, start: u64, end: u64, known: bool },
}

/// One operation, as a cheap view.
#[derive(Debug, Clone, Copy)]
pub struct Op<'a> {
    history: &'a History,
    /// The row.
    pub row: usize,
}

/// A whole history.
#[derive(Debug, Default)]
pub struct History {
    rows: Vec<Row>,
    mops: Vec<MopCell>,
    runs: Vec<RunCell>,
    records: Vec<(i64, Value)>,
    list_values: Vec<Value>,
    bound_keys: Vec<KeyId>,
    keys: Vec<Arc<str>>,
    processes: Vec<Process>,
    functions: Vec<Function>,
    errors: Vec<Arc<str>>,
    interned: Vec<Arc<str>>,
}

#[derive(Debug, Clone)]
struct Row {
    invoke_index: Option<u64>,
    complete_index: Option<u64>,
    invoke_ns: u64,
    complete_ns: u64,
    kind: EventType,
    process: ProcessId,
    function: u32,
    error: Option<u32>,
    mops: (u64, u64),
    bound: (u64, u64),
    extra: Vec<(String, String)>,
}

impl History {
    /// How many operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The operation of a row.
    #[must_use]
    pub fn op(&self, row: usize) -> Op<'_> {
        Op { history: self, row }
    }

    /// All operations, in the order of their completions.
    pub fn ops(&self) -> impl ExactSizeIterator<Item = Op<'_>> + DoubleEndedIterator {
        (0..self.len()).map(|row| self.op(row))
    }

    /// How many keys.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// A key as the history writes it.
    #[must_use]
    pub fn key_name(&self, key: KeyId) -> &str {
        &self.keys[key.0 as usize]
    }

    /// How many processes.
    #[must_use]
    pub fn process_count(&self) -> usize {
        self.processes.len()
    }

    /// A process as the history writes it.
    #[must_use]
    pub fn process(&self, process: ProcessId) -> &Process {
        &self.processes[process.0 as usize]
    }

    /// A value as the history writes it.
    #[must_use]
    pub fn value_name(&self, value: Value) -> String {
        if value.0 >= Value::INTERNED_MIN {
            self.interned[(value.0 - Value::INTERNED_MIN) as usize].to_string()
        } else {
            value.0.to_string()
        }
    }
}

impl<'a> Op<'a> {
    fn cell(&self) -> &'a Row {
        &self.history.rows[self.row]
    }

    /// The index of the event that stands for the operation: its completion, or its invocation
    /// where it never completed.
    #[must_use]
    pub fn index(&self) -> u64 {
        let row = self.cell();
        row.complete_index.or(row.invoke_index).expect("an operation has at least one event")
    }

    /// The index of its invocation; absent where the history has none.
    #[must_use]
    pub fn invoke_index(&self) -> Option<u64> {
        self.cell().invoke_index
    }

    /// The index of its completion; absent where it never completed.
    #[must_use]
    pub fn complete_index(&self) -> Option<u64> {
        self.cell().complete_index
    }

    /// When it was invoked, in nanoseconds since the start of the run.
    #[must_use]
    pub fn invoke_ns(&self) -> u64 {
        self.cell().invoke_ns
    }

    /// When it completed (or, never completed, was invoked).
    #[must_use]
    pub fn complete_ns(&self) -> u64 {
        self.cell().complete_ns
    }

    /// `Ok`, `Fail` or `Info`; never `Invoke`.
    #[must_use]
    pub fn kind(&self) -> EventType {
        self.cell().kind
    }

    /// Whose it is.
    #[must_use]
    pub fn process(&self) -> ProcessId {
        self.cell().process
    }

    /// Whether a client did it (not the nemesis or another named process).
    #[must_use]
    pub fn is_client(&self) -> bool {
        matches!(self.history.process(self.process()), Process::Client(_))
    }

    /// What it does.
    #[must_use]
    pub fn function(&self) -> &'a Function {
        &self.history.functions[self.cell().function as usize]
    }

    /// Its error, in words.
    #[must_use]
    pub fn error(&self) -> Option<&'a str> {
        self.cell().error.map(|e| &*self.history.errors[e as usize])
    }

    /// Its micro-operations.
    pub fn mops(&self) -> impl ExactSizeIterator<Item = MopRef<'a>> + DoubleEndedIterator + 'a {
        let history = self.history;
        let (start, end) = self.cell().mops;
        history.mops[start as usize..end as usize].iter().map(move |cell| match *cell {
            MopCell::Send { key, value, offset } => {
                MopRef::Send { key, value, offset: (offset != NO_OFFSET).then_some(offset) }
            }
            MopCell::Poll { start, end } => {
                MopRef::Poll(PollRef { runs: &history.runs[start as usize..end as usize], history })
            }
            MopCell::Append { key, value } => MopRef::Append { key, value },
            MopCell::Read { key, start, end, known } => MopRef::Read {
                key,
                values: known.then(|| &history.list_values[start as usize..end as usize]),
            },
        })
    }

    /// The keys of an assign or subscribe.
    #[must_use]
    pub fn bound_keys(&self) -> &'a [KeyId] {
        let (start, end) = self.cell().bound;
        &self.history.bound_keys[start as usize..end as usize]
    }

    /// A further field of the completion by name, as JSON text.
    #[must_use]
    pub fn extra(&self, name: &str) -> Option<&'a str> {
        self.cell().extra.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str())
    }
}

/// Makes a [`History`] of events in file order.
#[derive(Debug, Default)]
pub struct Builder {
    history: History,
    keys: FxHashMap<String, KeyId>,
    processes: FxHashMap<Process, ProcessId>,
    open: FxHashMap<ProcessId, Event>,
}

impl Builder {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next event.
    pub fn push(&mut self, event: Event) {
        let process = self.process_id(&event.process);
        if event.event_type == EventType::Invoke {
            self.open.insert(process, event);
        } else {
            let invocation = self.open.remove(&process);
            self.row(process, invocation, Some(event));
        }
    }

    /// All there is.
    #[must_use]
    pub fn finish(mut self) -> History {
        let mut open: Vec<_> = self.open.drain().collect();
        open.sort_by_key(|(_, event)| event.index);
        for (process, event) in open {
            self.row(process, Some(event), None);
        }
        self.history
    }

    fn process_id(&mut self, process: &Process) -> ProcessId {
        if let Some(&id) = self.processes.get(process) {
            return id;
        }
        let id = ProcessId(self.history.processes.len() as u32);
        self.history.processes.push(process.clone());
        self.processes.insert(process.clone(), id);
        id
    }

    fn key_id(&mut self, key: i64) -> KeyId {
        let name = key.to_string();
        if let Some(&id) = self.keys.get(&name) {
            return id;
        }
        let id = KeyId(self.history.keys.len() as u32);
        self.history.keys.push(name.as_str().into());
        self.keys.insert(name, id);
        id
    }

    fn row(&mut self, process: ProcessId, invoke: Option<Event>, complete: Option<Event>) {
        let said = complete.as_ref().or(invoke.as_ref()).expect("one of the two is there");
        let function = said.function.clone();
        let value = match &said.value {
            EventValue::Nil => invoke.as_ref().map(|e| e.value.clone()).unwrap_or_default(),
            value => value.clone(),
        };
        let mops_start = self.history.mops.len() as u64;
        let bound_start = self.history.bound_keys.len() as u64;
        match value {
            EventValue::Mops(mops) => mops.into_iter().for_each(|mop| self.mop(mop)),
            EventValue::Keys(keys) => {
                for key in keys {
                    let key = self.key_id(key);
                    self.history.bound_keys.push(key);
                }
            }
            EventValue::Nil | EventValue::Json(_) => {}
        }
        let history = &mut self.history;
        let function = match history.functions.iter().position(|f| *f == function) {
            Some(at) => at,
            None => {
                history.functions.push(function);
                history.functions.len() - 1
            }
        };
        let error = complete.as_ref().and_then(|e| e.error.as_deref()).map(|text| {
            history.errors.push(text.into());
            history.errors.len() as u32 - 1
        });
        history.rows.push(Row {
            invoke_index: invoke.as_ref().map(|e| e.index),
            complete_index: complete.as_ref().map(|e| e.index),
            invoke_ns: invoke.as_ref().or(complete.as_ref()).map_or(0, |e| e.time_ns),
            complete_ns: complete.as_ref().or(invoke.as_ref()).map_or(0, |e| e.time_ns),
            kind: complete.as_ref().map_or(EventType::Info, |e| e.event_type),
            process,
            function: function as u32,
            error,
            mops: (mops_start, history.mops.len() as u64),
            bound: (bound_start, history.bound_keys.len() as u64),
            extra: complete.map(|e| e.extra).unwrap_or_default(),
        });
    }

    fn mop(&mut self, mop: Mop) {
        let cell = match mop {
            Mop::Send { key, value, offset, run: _ } => MopCell::Send {
                key: self.key_id(key),
                value: Value(value),
                offset: offset.unwrap_or(NO_OFFSET),
            },
            Mop::Poll { records } => {
                let start = self.history.runs.len() as u64;
                for (key, records) in records.into_iter().flatten() {
                    let key = self.key_id(key);
                    let first = self.history.records.len() as u64;
                    let records = records.into_iter().map(|(offset, value)| (offset, Value(value)));
                    self.history.records.extend(records);
                    let end = self.history.records.len() as u64;
                    self.history.runs.push(RunCell { key, start: first, end });
                }
                MopCell::Poll { start, end: self.history.runs.len() as u64 }
            }
        };
        self.history.mops.push(cell);
    }
}
