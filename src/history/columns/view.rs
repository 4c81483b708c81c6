//! What a checker reads of a history: cheap views into the columns.

use std::sync::Arc;

use crate::history::event::{EventType, Function, Process};

use super::cells::{Detail, MopCell, MopKind, Row};
use super::names::{Name, Names};
use super::runs;

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
    bytes: &'a [u8],
    runs: u32,
    ran: bool,
}

impl<'a> PollRef<'a> {
    /// The runs, in the order the poll gave them.
    #[inline]
    pub fn runs(self) -> impl ExactSizeIterator<Item = RunRef<'a>> {
        Runs { bytes: self.bytes, left: self.runs }
    }

    /// Whether it came back, be it with nothing.
    #[must_use]
    pub fn ran(self) -> bool {
        self.ran
    }
}

struct Runs<'a> {
    bytes: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Runs<'a> {
    type Item = RunRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<RunRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (run, rest) = runs::read(self.bytes);
        self.bytes = rest;
        Some(RunRef { key: KeyId(run.key), run })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Runs<'_> {}

/// One key's records in one poll; there is at least one.
#[derive(Debug, Clone, Copy)]
pub struct RunRef<'a> {
    /// The partition.
    pub key: KeyId,
    run: runs::Run<'a>,
}

impl<'a> RunRef<'a> {
    /// Offsets (absent where the history gives none) and values, in the order they came.
    /// `for_each` and `fold` are faster than a loop.
    #[inline]
    pub fn records(self) -> impl ExactSizeIterator<Item = (Option<i64>, Value)> + 'a {
        self.run.records().map(|(offset, value)| (runs::offset(offset), Value(value)))
    }

    /// The first record, at no cost.
    #[inline]
    #[must_use]
    pub fn first(self) -> (Option<i64>, Value) {
        let (offset, value) = self.run.first();
        (runs::offset(offset), Value(value))
    }
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
    pub(super) rows: Vec<Row>,
    pub(super) details: Vec<Detail>,
    pub(super) mops: Vec<MopCell>,
    pub(super) wide: Vec<(i64, i64)>,
    pub(super) polled: Vec<u8>,
    pub(super) lists: Vec<Value>,
    pub(super) bound: Vec<KeyId>,
    pub(super) extras: Vec<(u32, Box<str>)>,
    pub(super) keys: Names,
    pub(super) key_names: Vec<Box<str>>,
    pub(super) processes: Vec<Process>,
    pub(super) functions: Vec<Function>,
    pub(super) errors: Vec<Arc<str>>,
    pub(super) extra_names: Vec<Arc<str>>,
    pub(super) interned: Vec<Arc<str>>,
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
        self.key_names.len()
    }

    /// A key as the history writes it.
    #[must_use]
    pub fn key_name(&self, key: KeyId) -> &str {
        &self.key_names[key.0 as usize]
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

    /// The key of a name as [`Self::key_name`] gives it.
    #[must_use]
    pub fn find_key(&self, name: &str) -> Option<KeyId> {
        let integer = name.parse().ok().map(Name::Integer);
        let found = integer.and_then(|name| self.keys.find(&name));
        found.or_else(|| self.keys.find(&Name::Text(name.into()))).map(KeyId)
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

    /// The value, other than an integer, of a name as [`Self::value_name`] gives it. Looks at
    /// every such value there is.
    #[must_use]
    pub fn find_value(&self, name: &str) -> Option<Value> {
        let place = self.interned.iter().position(|interned| &**interned == name)?;
        Some(Value(Value::INTERNED_MIN + place as i64))
    }

    /// Where a run of this history stands: eight bytes to find it again by.
    #[inline]
    pub(crate) fn run_place(&self, run: RunRef<'_>) -> u64 {
        let data = run.run.data.as_ptr() as usize - self.polled.as_ptr() as usize;
        (data - runs::HEAD_BYTES) as u64
    }

    /// The run at a place that [`Self::run_place`] gave.
    #[inline]
    pub(crate) fn run_at(&self, place: u64) -> RunRef<'_> {
        let (run, _) = runs::read(&self.polled[place as usize..]);
        RunRef { key: KeyId(run.key), run }
    }

    /// How many micro-operations, over all operations.
    #[must_use]
    pub fn mop_count(&self) -> usize {
        self.mops.len()
    }

    /// How many bytes the columns take, without what names take.
    #[must_use]
    pub fn column_bytes(&self) -> usize {
        size_of_val(&*self.rows)
            + size_of_val(&*self.details)
            + size_of_val(&*self.mops)
            + size_of_val(&*self.wide)
            + self.polled.len()
            + size_of_val(&*self.lists)
            + size_of_val(&*self.bound)
            + size_of_val(&*self.extras)
    }

    #[inline]
    fn mop<'a>(&'a self, cell: &MopCell) -> MopRef<'a> {
        let key = KeyId(cell.key);
        match cell.kind() {
            MopKind::Acked => MopRef::Send {
                key,
                value: Value(cell.value.into()),
                offset: Some(cell.rest() as i64),
            },
            MopKind::Ran | MopKind::Bare => {
                MopRef::Send { key, value: Value(cell.value.into()), offset: None }
            }
            MopKind::Wide => {
                let (value, offset) = self.wide[cell.rest() as usize];
                MopRef::Send { key, value: Value(value), offset: runs::offset(offset) }
            }
            MopKind::Polled => {
                let bytes = &self.polled[cell.rest() as usize..];
                MopRef::Poll(PollRef { bytes, runs: cell.key, ran: true })
            }
            MopKind::Poll => MopRef::Poll(PollRef { bytes: &[], runs: 0, ran: false }),
            MopKind::Append => MopRef::Append { key, value: Value(cell.value.into()) },
            MopKind::AppendWide => {
                MopRef::Append { key, value: Value(self.wide[cell.rest() as usize].0) }
            }
            MopKind::Read => {
                let start = cell.rest() as usize;
                MopRef::Read { key, values: Some(&self.lists[start..start + cell.value as usize]) }
            }
            MopKind::ReadUnknown => MopRef::Read { key, values: None },
        }
    }
}

impl<'a> Op<'a> {
    #[inline]
    fn cell(&self) -> &'a Row {
        &self.history.rows[self.row]
    }

    #[inline]
    fn detail(&self) -> Option<&'a Detail> {
        let place = self.cell().detail.checked_sub(1)?;
        Some(&self.history.details[place as usize])
    }

    fn wide(&self) -> Option<&'a Detail> {
        self.detail().filter(|_| self.cell().is(Row::WIDE))
    }

    /// The index of the event that stands for the operation: its completion, or its invocation
    /// where it never completed.
    #[inline]
    #[must_use]
    pub fn index(&self) -> u64 {
        self.cell().index
    }

    /// The index of its invocation; absent where the history has none.
    #[inline]
    #[must_use]
    pub fn invoke_index(&self) -> Option<u64> {
        let row = self.cell();
        let index = || self.wide().map_or(row.index - u64::from(row.back), |d| d.invoke_index);
        row.is(Row::INVOKED).then(index)
    }

    /// The index of its completion; absent where it never completed.
    #[inline]
    #[must_use]
    pub fn complete_index(&self) -> Option<u64> {
        let row = self.cell();
        row.is(Row::COMPLETED).then_some(row.index)
    }

    /// When it was invoked, in nanoseconds since the start of the run; 0 where the history has no
    /// times.
    #[inline]
    #[must_use]
    pub fn invoke_ns(&self) -> u64 {
        let row = self.cell();
        self.wide().map_or(row.complete_ns - u64::from(row.took_ns), |detail| detail.invoke_ns)
    }

    /// When it completed (or, never completed, was invoked).
    #[inline]
    #[must_use]
    pub fn complete_ns(&self) -> u64 {
        self.cell().complete_ns
    }

    /// `Ok`, `Fail` or `Info`; never `Invoke`.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> EventType {
        self.cell().kind()
    }

    /// Whose it is.
    #[inline]
    #[must_use]
    pub fn process(&self) -> ProcessId {
        ProcessId(self.cell().process)
    }

    /// Whether a client did it (not the nemesis or another named process).
    #[inline]
    #[must_use]
    pub fn is_client(&self) -> bool {
        self.cell().is(Row::IS_CLIENT)
    }

    /// Whether its process ends with it, whatever its type.
    #[must_use]
    pub fn ends_process(&self) -> bool {
        self.cell().is(Row::ENDS_PROCESS)
    }

    /// What it does.
    #[inline]
    #[must_use]
    pub fn function(&self) -> &'a Function {
        let row = self.cell();
        let function = match self.detail() {
            Some(detail) if row.function == u16::MAX => detail.function,
            _ => row.function.into(),
        };
        &self.history.functions[function as usize]
    }

    /// Its error, in words: a text as it is, anything else as EDN.
    #[must_use]
    pub fn error(&self) -> Option<&'a str> {
        self.detail()?.error.map(|error| &*self.history.errors[error as usize])
    }

    /// Its micro-operations.
    #[inline]
    pub fn mops(
        &self,
    ) -> impl ExactSizeIterator<Item = MopRef<'a>> + DoubleEndedIterator + use<'a> {
        let history = self.history;
        let start = self.cell().mops();
        let end = history.rows.get(self.row + 1).map_or(history.mops.len(), Row::mops);
        history.mops[start..end].iter().map(move |cell| history.mop(cell))
    }

    /// The keys of an assign or subscribe.
    #[must_use]
    pub fn bound_keys(&self) -> &'a [KeyId] {
        let (start, count) = self.detail().map_or((0, 0), |detail| detail.bound);
        &self.history.bound[start as usize..start as usize + count as usize]
    }

    /// The further fields of the completion (or, never completed, of the invocation): names, and
    /// values as JSON text. A value that is neither micro-operations nor keys is one of them,
    /// named `value`.
    pub fn extras(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + use<'a> {
        let history = self.history;
        let (start, count) = self.detail().map_or((0, 0), |detail| detail.extras);
        history.extras[start as usize..start as usize + count as usize]
            .iter()
            .map(|(name, text)| (&*history.extra_names[*name as usize], &**text))
    }

    /// A further field by name, as JSON text.
    #[must_use]
    pub fn extra(&self, name: &str) -> Option<&'a str> {
        self.extras().find(|(n, _)| *n == name).map(|(_, text)| text)
    }
}
