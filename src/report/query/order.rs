//! A key's log as the history shows it: what stands at each offset, who wrote it, who read it.
//!
//! A place *counts* in the version order if anybody polled it, or if its writer succeeded, or was
//! undecided and another value of its was read. The index counts the offsets that count: it is
//! the `index` of the checker's cases.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value as Json, json};

use super::names::{key_json, process_json, process_name, value_json};
use super::operation::{Way, all_moved};
use super::table::{Align, COLUMNS, Table};
use crate::history::{EventType, History, KeyId, Value};

/// Readers named of each place.
const READERS_MAX: usize = 3;

/// One value at one offset.
#[derive(Debug, Default)]
struct Cell {
    /// Operations that had it acknowledged there.
    acknowledged: Vec<usize>,
    readers: usize,
    readers_ok: usize,
    first_readers: Vec<usize>,
    last_reader: Option<usize>,
}

/// One row of the answer.
#[derive(Debug)]
struct Place {
    offset: Option<i64>,
    index: Option<usize>,
    value: Value,
    writers: Vec<usize>,
    cell: Cell,
    /// What is odd about it.
    notes: Vec<String>,
}

/// A key's version order.
#[derive(Debug)]
pub struct Order<'h> {
    history: &'h History,
    key: KeyId,
    places: Vec<Place>,
}

/// The order of a key.
#[must_use]
pub fn find(history: &History, key: KeyId) -> Order<'_> {
    let seen = Seen::of(history, key);
    let committed = committed(history, &seen);
    let counts = |(offset, _): &(Option<i64>, Value), cell: &Cell| {
        let happened = |&row: &usize| match history.op(row).kind() {
            EventType::Ok => true,
            EventType::Fail => false,
            EventType::Info | EventType::Invoke => committed.contains(&row),
        };
        offset.is_some() && (cell.readers > 0 || cell.acknowledged.iter().any(happened))
    };
    let mut at_offset: BTreeMap<i64, usize> = BTreeMap::new();
    let mut of_value: FxHashMap<Value, Vec<i64>> = FxHashMap::default();
    for (&(offset, value), _) in seen.cells.iter().filter(|(at, cell)| counts(at, cell)) {
        let offset = offset.expect("only a known place counts");
        *at_offset.entry(offset).or_default() += 1;
        of_value.entry(value).or_default().push(offset);
    }
    let index_of: FxHashMap<i64, usize> = at_offset.keys().copied().zip(0..).collect();
    let mut places: Vec<Place> = Vec::with_capacity(seen.cells.len());
    for (at, cell) in seen.cells {
        let (offset, value) = at;
        let writers = seen.writers.get(&value).cloned().unwrap_or_default();
        let is_counted = counts(&at, &cell);
        let index = offset.filter(|_| is_counted).map(|offset| index_of[&offset]);
        let mut place = Place { offset, index, value, writers, cell, notes: Vec::new() };
        let beside = offset.filter(|_| is_counted).map_or(0, |offset| at_offset[&offset]);
        place.note(history, beside, of_value.get(&value).map_or(&[], Vec::as_slice));
        places.push(place);
    }
    places.sort_by_key(|place| (place.offset.is_none(), place.offset));
    Order { history, key, places }
}

/// What a history shows of one key.
#[derive(Default)]
struct Seen {
    cells: BTreeMap<(Option<i64>, Value), Cell>,
    writers: BTreeMap<Value, Vec<usize>>,
}

impl Seen {
    fn of(history: &History, key: KeyId) -> Self {
        let mut seen = Self::default();
        for op in history.ops() {
            for moved in all_moved(&op).filter(|moved| moved.key == key) {
                for (offset, value) in moved.records {
                    match moved.way {
                        Way::In => seen.sent(op.row, offset, value),
                        Way::Out => {
                            let cell = seen.cells.entry((offset, value)).or_default();
                            cell.read(op.row, op.kind() == EventType::Ok);
                        }
                    }
                }
            }
        }
        let mut placed: FxHashSet<Value> = FxHashSet::default();
        placed.extend(seen.cells.keys().map(|(_, value)| *value));
        let unplaced: Vec<Value> =
            seen.writers.keys().copied().filter(|value| !placed.contains(value)).collect();
        for value in unplaced {
            seen.cells.insert((None, value), Cell::default());
        }
        seen
    }

    fn sent(&mut self, row: usize, offset: Option<i64>, value: Value) {
        let writers = self.writers.entry(value).or_default();
        if writers.last() != Some(&row) {
            writers.push(row);
        }
        if offset.is_some() {
            self.cells.entry((offset, value)).or_default().acknowledged.push(row);
        }
    }
}

impl Cell {
    fn read(&mut self, row: usize, is_ok: bool) {
        if self.last_reader.replace(row) == Some(row) {
            return;
        }
        self.readers += 1;
        self.readers_ok += usize::from(is_ok);
        if self.first_readers.len() < READERS_MAX {
            self.first_readers.push(row);
        }
    }
}

/// The undecided writers of a key of which some value, of any key, was read by an operation that
/// succeeded: all of each happened.
fn committed(history: &History, seen: &Seen) -> FxHashSet<usize> {
    let mut undecided: FxHashMap<(KeyId, Value), usize> = FxHashMap::default();
    let mut rows: FxHashSet<usize> = FxHashSet::default();
    for &row in seen.writers.values().flatten() {
        let op = history.op(row);
        if op.kind() == EventType::Info && rows.insert(row) {
            let sent = all_moved(&op).filter(|moved| moved.way == Way::In);
            for moved in sent {
                undecided.extend(moved.records.iter().map(|record| ((moved.key, record.1), row)));
            }
        }
    }
    let mut committed = FxHashSet::default();
    if undecided.is_empty() {
        return committed;
    }
    for op in history.ops().filter(|op| op.kind() == EventType::Ok) {
        for moved in all_moved(&op).filter(|moved| moved.way == Way::Out) {
            let read = moved.records.iter().filter_map(|r| undecided.get(&(moved.key, r.1)));
            committed.extend(read.copied());
        }
    }
    committed
}

impl Place {
    fn note(&mut self, history: &History, values_here: usize, offsets: &[i64]) {
        if values_here > 1 {
            self.notes.push(format!("one of {values_here} here"));
        }
        let elsewhere: Vec<String> = offsets
            .iter()
            .filter(|&&offset| self.index.is_some() && Some(offset) != self.offset)
            .take(READERS_MAX)
            .map(i64::to_string)
            .collect();
        if !elsewhere.is_empty() {
            self.notes.push(format!("also at {}", elsewhere.join(", ")));
        }
        if self.writers.is_empty() {
            self.notes.push("nobody sent it".into());
        }
        if self.offset.is_some() && self.index.is_none() {
            let failed = self.writers.iter().all(|&row| history.op(row).kind() == EventType::Fail);
            let why = if failed { "failed" } else { "undecided, unread" };
            self.notes.push(format!("not counted: {why}"));
        }
    }
}

impl Order<'_> {
    /// How many rows the answer has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Leaves only the first so many.
    pub fn truncate(&mut self, max: usize) {
        self.places.truncate(max);
    }

    /// One object a value at an offset; values of which no offset is known stand at the end.
    pub fn objects(&self) -> impl Iterator<Item = Json> {
        self.places.iter().map(|place| self.object(place))
    }

    fn object(&self, place: &Place) -> Json {
        let index = |&row: &usize| self.history.op(row).index();
        let writer = |&row: &usize| {
            let op = self.history.op(row);
            json!({
                "index": op.index(),
                "process": process_json(self.history, &op),
                "type": op.kind().name(),
                "acknowledged": place.cell.acknowledged.contains(&row),
            })
        };
        json!({
            "key": key_json(self.history, self.key),
            "offset": place.offset,
            "index": place.index,
            "value": value_json(self.history, place.value),
            "writers": place.writers.iter().map(writer).collect::<Vec<_>>(),
            "readers": place.cell.readers,
            "readers_ok": place.cell.readers_ok,
            "first_readers": place.cell.first_readers.iter().map(index).collect::<Vec<_>>(),
            "notes": place.notes,
        })
    }

    /// One row a value at an offset. `is_wide` cuts nothing.
    #[must_use]
    pub fn text(&self, is_wide: bool) -> String {
        let headings = [
            ("OFFSET", Align::Right),
            ("INDEX", Align::Right),
            ("VALUE", Align::Right),
            ("WRITER", Align::Right),
            ("PROCESS", Align::Right),
            ("OUTCOME", Align::Left),
            ("READERS", Align::Right),
            ("READ BY", Align::Left),
            ("NOTE", Align::Left),
        ];
        let mut table = Table::new(headings.map(|(name, align)| (name.into(), align)).to_vec());
        for place in &self.places {
            table.push(self.cells(place));
        }
        table.drop_empty_columns();
        table.render((!is_wide).then_some(COLUMNS))
    }

    fn cells(&self, place: &Place) -> Vec<String> {
        let unknown = || "-".to_owned();
        let writer = place.writers.first().map(|&row| self.history.op(row));
        let more = place.writers.len().saturating_sub(1);
        let more = if more > 0 { format!(" +{more}") } else { String::new() };
        let (readers, ok) = (place.cell.readers, place.cell.readers_ok);
        let first: Vec<String> = place
            .cell
            .first_readers
            .iter()
            .map(|&row| self.history.op(row).index().to_string())
            .collect();
        vec![
            place.offset.map_or_else(unknown, |offset| offset.to_string()),
            place.index.map_or_else(unknown, |index| index.to_string()),
            self.history.value_name(place.value),
            writer.as_ref().map_or_else(unknown, |op| format!("{}{more}", op.index())),
            writer.as_ref().map_or_else(unknown, |op| process_name(self.history, op)),
            writer.as_ref().map_or_else(unknown, |op| op.kind().name().into()),
            if ok == readers { readers.to_string() } else { format!("{ok} ok of {readers}") },
            first.join(" "),
            place.notes.join("; "),
        ]
    }
}
