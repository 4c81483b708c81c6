//! Takes operations as they happen and writes each as a line of `history.jsonl`.
//!
//! Index and time are given here, under one lock, so that the file's order is the order of
//! events. Each event is one write to the sink before the operation goes on: a run that is killed
//! can be checked up to its last complete event.
//!
//! Never: opens the file it writes to; keeps what it has written.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::event::{Event, EventType, EventValue, Function, Process};
use super::read::Format;
use super::write;
use crate::world::Clock;

/// Records the operations of one run.
pub struct Recorder {
    clock: Clock,
    state: Mutex<State>,
    tallies: [AtomicU64; 4],
    failed: AtomicBool,
}

struct State {
    next_index: u64,
    line: Vec<u8>,
    sink: Box<dyn Write + Send>,
    error: Option<io::Error>,
}

/// How many events of each type there were so far, without the nemesis' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tallies {
    /// Operations begun.
    pub invoked: u64,
    /// Operations that happened.
    pub ok: u64,
    /// Operations that definitely did not.
    pub fail: u64,
    /// Operations nobody knows of.
    pub info: u64,
}

/// One event without what the recorder gives it.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Which moment.
    pub event_type: EventType,
    /// Whose.
    pub process: Process,
    /// What it does.
    pub function: Function,
    /// With what.
    pub value: EventValue,
    /// Why it did not go well.
    pub error: Option<String>,
    /// Whether the process ends.
    pub end_process: bool,
    /// More facts, as pairs of a name and JSON text.
    pub extra: Vec<(String, String)>,
}

impl Moment {
    /// The beginning of an operation.
    #[must_use]
    pub fn invoke(process: Process, function: Function, value: EventValue) -> Self {
        let event_type = EventType::Invoke;
        Self {
            event_type,
            process,
            function,
            value,
            error: None,
            end_process: false,
            extra: Vec::new(),
        }
    }

    /// The end of the same operation.
    #[must_use]
    pub fn completion(&self, event_type: EventType, value: EventValue) -> Self {
        Self { event_type, value, ..self.clone() }
    }
}

impl Recorder {
    /// Writes to `sink`, times by `clock`.
    #[must_use]
    pub fn new(clock: Clock, sink: Box<dyn Write + Send>) -> Self {
        let state = State { next_index: 0, line: Vec::new(), sink, error: None };
        Self {
            clock,
            state: Mutex::new(state),
            tallies: Default::default(),
            failed: AtomicBool::new(false),
        }
    }

    /// Records an event and returns its index. After a failed write nothing more is written:
    /// what stands in the file stays a whole prefix of the history.
    pub fn record(&self, moment: Moment) -> u64 {
        let client = matches!(moment.process, Process::Client(_));
        let event_type = moment.event_type;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event {
            index: state.next_index,
            time_ns: self.clock.now_ns(),
            event_type,
            process: moment.process,
            function: moment.function,
            value: moment.value,
            error: moment.error,
            end_process: moment.end_process,
            extra: moment.extra,
        };
        state.next_index += 1;
        if state.error.is_none() {
            let State { line, sink, error, .. } = &mut *state;
            line.clear();
            write::write_event(&event, Format::Jsonl, line);
            if let Err(failure) = sink.write_all(line) {
                *error = Some(failure);
                self.failed.store(true, Ordering::Release);
            }
            if line.capacity() > 1 << 20 {
                *line = Vec::new();
            }
        }
        drop(state);
        if client {
            self.tallies[event_type as usize].fetch_add(1, Ordering::Relaxed);
        }
        event.index
    }

    /// The counts so far.
    #[must_use]
    pub fn tallies(&self) -> Tallies {
        let at = |t: EventType| self.tallies[t as usize].load(Ordering::Relaxed);
        Tallies {
            invoked: at(EventType::Invoke),
            ok: at(EventType::Ok),
            fail: at(EventType::Fail),
            info: at(EventType::Info),
        }
    }

    /// Whether writing has failed: the workload should end then.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Flushes the sink and hands out the first write error there was.
    ///
    /// # Errors
    /// The first failure to write, or the failure to flush.
    pub fn finish(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.error.take() {
            Some(error) => Err(error),
            None => state.sink.flush(),
        }
    }
}
