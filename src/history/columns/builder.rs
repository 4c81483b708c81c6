//! Makes a [`History`] of events in the order of their text.
//!
//! Pairs each completion with the invocation its process has open. An invocation's
//! micro-operations are kept only while it is open, unless its completion says nothing of a value.

use std::sync::Arc;

use crate::history::event::{Event, EventType, Function, Process};
use crate::history::observation::{Observations, Oddity};

use super::cells::{Bases, Detail, MopCell, NO_INDEX, Row};
use super::chunk::{Chunk, EventCell, FUNCTIONS, Marks, NONE};
use super::names::{Name, Names};
use super::runs;
use super::view::{History, KeyId, Value};

/// How many pushed events make a chunk.
const PUSHED_MAX: usize = 1024;

/// Makes a [`History`] of events in file order.
#[derive(Debug)]
pub struct Builder {
    history: History,
    processes: Names,
    functions: Names,
    errors: Names,
    extra_names: Names,
    interned: Names,
    observations: Observations,
    /// By process.
    open: Vec<Option<Open>>,
    /// Processes that invoked something in the chunk being taken.
    touched: Vec<u32>,
    /// Invocations whose process went on without completing them.
    left_open: Vec<Open>,
    /// The process of an open invocation that named none.
    anonymous: Option<u32>,
    anonymous_count: i64,
    chunk_number: u64,
    events: u64,
    last_index: Option<u64>,
    pushed: Chunk,
}

/// An invocation that has not completed.
#[derive(Debug)]
struct Open {
    cell: EventCell,
    /// Where its chunk's arrays end for it; meaningless once `kept`.
    end: Marks,
    chunk_number: u64,
    order: u64,
    kept: Option<Box<Kept>>,
}

/// What an open invocation says, saved from a chunk that goes away.
#[derive(Debug)]
struct Kept {
    mops: Vec<MopCell>,
    bound: Vec<KeyId>,
    extras: Vec<(u32, Box<str>)>,
}

/// A chunk's numbers for names, as the history's.
struct Renames {
    keys: Vec<u32>,
    processes: Vec<u32>,
    functions: Vec<u32>,
    errors: Vec<u32>,
    extra_names: Vec<u32>,
    bases: Bases,
    /// Where in the whole text the chunk begins.
    byte_offset: u64,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let mut functions = Names::default();
        for function in &FUNCTIONS {
            functions.text(function.name());
        }
        Self {
            history: History::default(),
            processes: Names::default(),
            functions,
            errors: Names::default(),
            extra_names: Names::default(),
            interned: Names::default(),
            observations: Observations::default(),
            open: Vec::new(),
            touched: Vec::new(),
            left_open: Vec::new(),
            anonymous: None,
            anonymous_count: 0,
            chunk_number: 0,
            events: 0,
            last_index: None,
            pushed: Chunk::default(),
        }
    }

    /// Takes the next event. Observations name it by its number among all events, from 0.
    pub fn push(&mut self, event: Event) {
        let number = self.events + self.pushed.events.len() as u64;
        self.pushed.push(&event, number);
        if self.pushed.events.len() >= PUSHED_MAX {
            self.take_pushed();
        }
    }

    /// All there is.
    #[must_use]
    pub fn finish(self) -> History {
        self.finish_with_observations().0
    }

    /// All there is, and what was odd about it.
    #[must_use]
    pub fn finish_with_observations(mut self) -> (History, Observations) {
        self.take_pushed();
        let mut left = std::mem::take(&mut self.left_open);
        left.extend(std::mem::take(&mut self.open).into_iter().flatten());
        left.sort_by_key(|open| open.order);
        for open in left {
            if self.is_client(open.cell.process) {
                self.observations.add(Oddity::NeverCompleted, open.cell.byte_offset);
            }
            self.never_completed(open);
        }
        let (mut history, observations) = (self.history, self.observations);
        history.key_names = history.keys.all().iter().map(key_name).collect();
        history.processes = self.processes.all().iter().map(process).collect();
        history.functions = texts(&self.functions).map(Function::from_name).collect();
        history.errors = texts(&self.errors).map(Arc::from).collect();
        history.extra_names = texts(&self.extra_names).map(Arc::from).collect();
        history.interned = texts(&self.interned).map(Arc::from).collect();
        (history, observations)
    }

    fn take_pushed(&mut self) {
        let mut chunk = std::mem::take(&mut self.pushed);
        self.absorb(&mut chunk, 0);
        chunk.clear();
        self.pushed = chunk;
    }

    /// Takes the next stretch of a history, which begins at `byte_offset` of the whole text.
    pub(crate) fn absorb(&mut self, chunk: &mut Chunk, byte_offset: u64) {
        self.chunk_number += 1;
        self.observations.absorb(&chunk.observations, byte_offset);
        let renames = self.take_arenas(chunk, byte_offset);
        for number in 0..chunk.events.len() {
            let end = chunk.end_of(number);
            self.event(chunk.events[number], end, chunk, &renames);
        }
        for process in std::mem::take(&mut self.touched) {
            if let Some(open) = self.open[process as usize].as_mut() {
                open.keep(chunk, &renames, self.chunk_number);
            }
        }
        self.events += chunk.events.len() as u64;
    }

    /// Moves everything behind the events over, and finds the history's numbers for names.
    fn take_arenas(&mut self, chunk: &mut Chunk, byte_offset: u64) -> Renames {
        let history = &mut self.history;
        let keys: Vec<_> = chunk.keys.all().iter().map(|name| history.keys.of(name)).collect();
        let all = |from: &Names, into: &mut Names| -> Vec<u32> {
            from.all().iter().map(|name| into.of(name)).collect()
        };
        let functions =
            (0..FUNCTIONS.len() as u32).chain(all(&chunk.functions, &mut self.functions)).collect();
        let interned = all(&chunk.interned, &mut self.interned);
        if !interned.is_empty() {
            rename_values(chunk, &interned);
        }
        let bases = Bases {
            polled: history.polled.len() as u64,
            wide: history.wide.len() as u64,
            lists: history.lists.len() as u64,
        };
        runs::rename_keys(&mut chunk.polled, &chunk.heads, &keys);
        history.polled.extend_from_slice(&chunk.polled);
        history.wide.extend_from_slice(&chunk.wide);
        history.lists.extend_from_slice(&chunk.lists);
        Renames {
            keys,
            processes: all(&chunk.processes, &mut self.processes),
            functions,
            errors: all(&chunk.errors, &mut self.errors),
            extra_names: all(&chunk.extra_names, &mut self.extra_names),
            bases,
            byte_offset,
        }
    }

    fn event(&mut self, mut cell: EventCell, end: Marks, chunk: &mut Chunk, renames: &Renames) {
        cell.byte_offset += renames.byte_offset;
        cell.function = renames.functions[cell.function as usize];
        cell.process = match cell.process {
            NONE => self.anonymous_process(cell.event_type),
            process => renames.processes[process as usize],
        };
        if cell.error != NONE {
            cell.error = renames.errors[cell.error as usize];
        }
        self.number(&mut cell);
        let process = cell.process as usize;
        if self.open.len() <= process {
            self.open.resize_with(process + 1, || None);
        }
        if cell.event_type == EventType::Invoke {
            let open = Open {
                cell,
                end,
                chunk_number: self.chunk_number,
                order: cell.byte_offset,
                kept: None,
            };
            if let Some(mut before) = self.open[process].replace(open) {
                self.observations.add(Oddity::ProcessOverlaps, cell.byte_offset);
                before.keep(chunk, renames, self.chunk_number);
                self.left_open.push(before);
            }
            self.touched.push(cell.process);
        } else {
            let invocation = self.open[process].take();
            if invocation.is_none() && self.is_client(cell.process) {
                self.observations.add(Oddity::CompletionWithoutInvocation, cell.byte_offset);
            }
            self.completed(cell, end, invocation, chunk, renames);
        }
    }

    /// Gives an event without an index its position, and sees that indices ascend.
    fn number(&mut self, cell: &mut EventCell) {
        if cell.index == NO_INDEX {
            cell.index = self.last_index.map_or(0, |last| last.saturating_add(1));
        }
        if self.last_index.is_some_and(|last| cell.index <= last) {
            self.observations.add(Oddity::IndexOutOfOrder, cell.byte_offset);
        }
        self.last_index = Some(cell.index);
    }

    fn anonymous_process(&mut self, event_type: EventType) -> u32 {
        let open = self.anonymous.take();
        if event_type != EventType::Invoke
            && let Some(process) = open
        {
            return process;
        }
        self.anonymous_count += 1;
        let process = self.processes.integer(-self.anonymous_count);
        if event_type == EventType::Invoke {
            self.anonymous = Some(process);
        }
        process
    }

    fn is_client(&self, process: u32) -> bool {
        matches!(self.processes.all()[process as usize], Name::Integer(_))
    }

    fn completed(
        &mut self,
        cell: EventCell,
        end: Marks,
        invocation: Option<Open>,
        chunk: &mut Chunk,
        renames: &Renames,
    ) {
        let mops_start = self.history.mops.len() as u64;
        let bound_start = self.history.bound.len() as u64;
        let extras_start = self.history.extras.len() as u64;
        let borrowed = invocation.as_ref().filter(|_| cell.value_nil);
        match borrowed.map(|open| (open, open.kept.as_deref())) {
            Some((_, Some(kept))) => {
                self.history.mops.extend_from_slice(&kept.mops);
                self.history.bound.extend_from_slice(&kept.bound);
            }
            Some((open, None)) => self.copy(chunk, open.cell.marks, open.end, renames),
            None => self.copy(chunk, cell.marks, end, renames),
        }
        for (name, text) in &mut chunk.extras[cell.marks.extras as usize..end.extras as usize] {
            let name = renames.extra_names[*name as usize];
            self.history.extras.push((name, std::mem::take(text)));
        }
        let flags = Row::COMPLETED | if cell.end_process { Row::ENDS_PROCESS } else { 0 };
        let invoked = invocation.map(|open| (open.cell.index, open.cell.time_ns));
        self.row(cell, flags, invoked, (mops_start, bound_start, extras_start));
    }

    fn never_completed(&mut self, open: Open) {
        let starts = (
            self.history.mops.len() as u64,
            self.history.bound.len() as u64,
            self.history.extras.len() as u64,
        );
        let kept = open.kept.expect("what is open is kept when its chunk goes away");
        self.history.mops.extend(kept.mops);
        self.history.bound.extend(kept.bound);
        self.history.extras.extend(kept.extras);
        let mut cell = open.cell;
        cell.event_type = EventType::Info;
        self.row(cell, 0, Some((cell.index, cell.time_ns)), starts);
    }

    /// Copies an event's micro-operations and keys from its chunk.
    #[inline]
    fn copy(&mut self, chunk: &Chunk, start: Marks, end: Marks, renames: &Renames) {
        let mops = &chunk.mops[start.mops as usize..end.mops as usize];
        self.history.mops.extend(mops.iter().map(|mop| mop.moved(&renames.keys, renames.bases)));
        let bound = &chunk.bound[start.bound as usize..end.bound as usize];
        self.history.bound.extend(bound.iter().map(|key| KeyId(renames.keys[*key as usize])));
    }

    fn row(
        &mut self,
        cell: EventCell,
        flags: u8,
        invoked: Option<(u64, u64)>,
        (mops, bound, extras): (u64, u64, u64),
    ) {
        let history = &mut self.history;
        let (invoke_index, invoke_ns) = invoked.unwrap_or((cell.index, cell.time_ns));
        let back = cell.index.checked_sub(invoke_index).and_then(|b| u32::try_from(b).ok());
        let took = cell.time_ns.checked_sub(invoke_ns).and_then(|t| u32::try_from(t).ok());
        let function = u16::try_from(cell.function).unwrap_or(u16::MAX);
        let detail = Detail {
            invoke_index,
            invoke_ns,
            bound: (bound, (history.bound.len() as u64 - bound) as u32),
            extras: (extras, (history.extras.len() as u64 - extras) as u32),
            error: (cell.error != NONE).then_some(cell.error),
            function: cell.function,
        };
        let wide = back.is_none() || took.is_none();
        let needed = wide
            || detail.bound.1 > 0
            || detail.extras.1 > 0
            || detail.error.is_some()
            || function == u16::MAX;
        let flags = flags
            | if invoked.is_some() { Row::INVOKED } else { 0 }
            | if wide { Row::WIDE } else { 0 }
            | if matches!(self.processes.all()[cell.process as usize], Name::Integer(_)) {
                Row::IS_CLIENT
            } else {
                0
            };
        let mut row = Row::new(cell.event_type, flags, mops);
        row.index = cell.index;
        row.complete_ns = cell.time_ns;
        row.back = back.unwrap_or(0);
        row.took_ns = took.unwrap_or(0);
        row.process = cell.process;
        row.function = function;
        if needed {
            history.details.push(detail);
            row.detail = u32::try_from(history.details.len()).expect("fewer than 2^32 details");
        }
        history.rows.push(row);
    }
}

impl Open {
    /// Saves what it says from its chunk, if that is the chunk at hand.
    fn keep(&mut self, chunk: &mut Chunk, renames: &Renames, chunk_number: u64) {
        if self.kept.is_some() || self.chunk_number != chunk_number {
            return;
        }
        let (start, end) = (self.cell.marks, self.end);
        let mops = &chunk.mops[start.mops as usize..end.mops as usize];
        let bound = &chunk.bound[start.bound as usize..end.bound as usize];
        let extras = &mut chunk.extras[start.extras as usize..end.extras as usize];
        self.kept = Some(Box::new(Kept {
            mops: mops.iter().map(|mop| mop.moved(&renames.keys, renames.bases)).collect(),
            bound: bound.iter().map(|key| KeyId(renames.keys[*key as usize])).collect(),
            extras: extras
                .iter_mut()
                .map(|(name, text)| (renames.extra_names[*name as usize], std::mem::take(text)))
                .collect(),
        }));
    }
}

/// Gives a chunk's interned values the history's numbers.
fn rename_values(chunk: &mut Chunk, interned: &[u32]) {
    let rename = |value: i64| {
        if value < Value::INTERNED_MIN {
            return value;
        }
        let local = (value - Value::INTERNED_MIN) as usize;
        Value::INTERNED_MIN + i64::from(interned[local])
    };
    chunk.wide.iter_mut().for_each(|(value, _)| *value = rename(*value));
    chunk.lists.iter_mut().for_each(|value| value.0 = rename(value.0));
    runs::rename_values(&mut chunk.polled, &chunk.heads, rename);
}

fn texts(names: &Names) -> impl Iterator<Item = &str> {
    names.all().iter().map(|name| match name {
        Name::Text(text) => &**text,
        Name::Integer(_) => "",
    })
}

fn process(name: &Name) -> Process {
    match name {
        Name::Integer(number) => Process::Client(*number),
        Name::Text(text) => Process::Named((&**text).into()),
    }
}

fn key_name(name: &Name) -> Box<str> {
    match name {
        Name::Integer(number) => number.to_string().into(),
        Name::Text(text) => text.clone(),
    }
}
