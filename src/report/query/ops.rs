//! Operations by what they did: keys, values and offsets they moved, whose they are, how they
//! ended.

use serde_json::Value as Json;

use super::lens::{Focus, Lens};
use super::names::{process_name, seconds};
use super::operation::{self, all_moved};
use super::table::{Align, COLUMNS, Table};
use crate::history::columns::Op;
use crate::history::{EventType, History, KeyId, Value};

/// What is asked of an operation; absent is no matter. Key, value and offset are asked of one
/// record together.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// It moved records of this key, or (where nothing else is asked of a record) bound it.
    pub key: Option<KeyId>,
    /// It moved this value.
    pub value: Option<Value>,
    /// It moved a record at this offset.
    pub offset: Option<i64>,
    /// It is of this process.
    pub process: Option<String>,
    /// It ended so.
    pub kind: Option<EventType>,
    /// It is of this function.
    pub function: Option<String>,
}

impl Wanted {
    fn takes(&self, history: &History, op: &Op<'_>) -> bool {
        self.kind.is_none_or(|kind| kind == op.kind())
            && self.function.as_deref().is_none_or(|name| name == op.function().name())
            && self.process.as_ref().is_none_or(|name| *name == process_name(history, op))
            && self.takes_records(op)
    }

    fn takes_records(&self, op: &Op<'_>) -> bool {
        let binds = |key: KeyId| op.bound_keys().contains(&key);
        match (self.key, self.value, self.offset) {
            (None, None, None) => true,
            (Some(key), None, None) if binds(key) => true,
            _ => all_moved(op).filter(|moved| self.key.is_none_or(|key| key == moved.key)).any(
                |moved| {
                    moved.records.iter().any(|&(offset, value)| {
                        self.value.is_none_or(|wanted| wanted == value)
                            && self.offset.is_none_or(|wanted| Some(wanted) == offset)
                    })
                },
            ),
        }
    }

    /// The records asked for, where that says which.
    fn focus(&self) -> Focus {
        let mut focus = Focus::default();
        let Some(key) = self.key else { return focus };
        match (self.value, self.offset) {
            (Some(value), _) => focus.add_value(key, value),
            (None, Some(offset)) => focus.add_offset(key, offset),
            (None, None) => {}
        }
        focus
    }
}

/// Operations, and how to look at them.
#[derive(Debug)]
pub struct Operations<'h> {
    pub(super) history: &'h History,
    pub(super) rows: Vec<usize>,
    pub(super) lens: Lens,
}

/// The operations that are as wanted, by index.
#[must_use]
pub fn find<'h>(history: &'h History, wanted: &Wanted) -> Operations<'h> {
    let found = history.ops().filter(|op| wanted.takes(history, op));
    let mut rows: Vec<usize> = found.map(|op| op.row).collect();
    rows.sort_by_key(|&row| history.op(row).index());
    Operations { history, rows, lens: Lens::ends(wanted.focus()) }
}

impl Operations<'_> {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Leaves only the first so many.
    pub fn truncate(&mut self, max: usize) {
        self.rows.truncate(max);
    }

    /// One object an operation, with all it did that the question is about.
    pub fn objects(&self) -> impl Iterator<Item = Json> {
        self.rows
            .iter()
            .map(|&row| operation::json(self.history, &self.history.op(row), &self.lens))
    }

    /// One row an operation. `is_wide` cuts nothing.
    #[must_use]
    pub fn text(&self, is_wide: bool) -> String {
        let headings = [
            ("INDEX", Align::Right),
            ("INVOKED", Align::Right),
            ("TIME", Align::Right),
            ("PROCESS", Align::Right),
            ("TYPE", Align::Left),
            ("F", Align::Left),
            ("ERROR", Align::Left),
            ("VALUE", Align::Left),
        ];
        let mut table = Table::new(headings.map(|(name, align)| (name.into(), align)).to_vec());
        let lens = if is_wide { self.lens.whole() } else { self.lens.clone() };
        for &row in &self.rows {
            let op = self.history.op(row);
            table.push(vec![
                op.index().to_string(),
                op.invoke_index().map_or_else(String::new, |index| index.to_string()),
                seconds(op.complete_ns()),
                process_name(self.history, &op),
                op.kind().name().into(),
                op.function().name().into(),
                error(&op, is_wide),
                operation::summary(self.history, &op, &lens),
            ]);
        }
        table.drop_empty_columns();
        table.render((!is_wide).then_some(COLUMNS))
    }
}

/// An operation's error, short enough to leave room for what it did.
fn error(op: &Op<'_>, is_wide: bool) -> String {
    const CHARS_MAX: usize = 24;
    let error = op.error().unwrap_or_default();
    if is_wide || error.chars().count() <= CHARS_MAX {
        return error.into();
    }
    error.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}
