//! What operations saw and did around one place of a key's log.
//!
//! The picture is a grid: an operation a row, an offset a column, `s17` where it sent 17 there,
//! `r17` where it read 17 there. A record read past, a value at two places, two values at one
//! place are seen at a glance. Where the grid would be too wide, the operations are listed.

use std::collections::BTreeMap;

use super::lens::{Focus, Lens, Record, Sight, Window};
use super::names::process_name;
use super::operation::{Way, all_moved};
use super::ops::Operations;
use super::table::{Align, COLUMNS, Table};
use crate::history::columns::Op;
use crate::history::{History, KeyId, Value};

/// Which place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// An offset.
    Offset(i64),
    /// Wherever a value is, or was sent to without any offset known.
    Value(Value),
}

/// The operations around a place, and the place.
#[derive(Debug)]
pub struct Around<'h> {
    /// The operations, trimmed to the neighbourhood.
    pub operations: Operations<'h>,
    key: KeyId,
}

/// All completions that touched `key` within `reach` of a place.
#[must_use]
pub fn find(history: &History, key: KeyId, place: Place, reach: usize) -> Around<'_> {
    let mut focus = Focus::default();
    let far = i64::try_from(reach).unwrap_or(i64::MAX);
    let range = |offset: i64| (offset.saturating_sub(far), offset.saturating_add(far));
    let (ranges, value) = match place {
        Place::Offset(offset) => {
            focus.add_offset(key, offset);
            (vec![range(offset)], None)
        }
        Place::Value(value) => {
            focus.add_value(key, value);
            (offsets_of(history, key, value).into_iter().map(range).collect(), Some(value))
        }
    };
    let lens = Lens::only(Window { key, ranges, value, reach }, focus);
    let touches = |op: &Op<'_>| !seen(op, key, &lens).is_empty();
    let mut rows: Vec<usize> = history.ops().filter(touches).map(|op| op.row).collect();
    rows.sort_by_key(|&row| history.op(row).index());
    Around { operations: Operations { history, rows, lens }, key }
}

/// Every offset at which a value was seen or acknowledged.
fn offsets_of(history: &History, key: KeyId, value: Value) -> Vec<i64> {
    let of_key = history.ops().flat_map(|op| all_moved(&op)).filter(|moved| moved.key == key);
    let mut offsets: Vec<i64> = of_key
        .flat_map(|moved| moved.records)
        .filter(|record| record.1 == value)
        .filter_map(|record| record.0)
        .collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// The records of a key that a lens shows of an operation.
fn seen(op: &Op<'_>, key: KeyId, lens: &Lens) -> Vec<(Way, Record, Sight)> {
    let mut all = Vec::new();
    for moved in all_moved(op).filter(|moved| moved.key == key) {
        let sights = lens.sights(key, &moved.records);
        let shown = moved.records.into_iter().zip(sights).filter(|(_, s)| *s != Sight::Hidden);
        all.extend(shown.map(|(record, sight)| (moved.way, record, sight)));
    }
    all
}

impl Around<'_> {
    /// The grid, or where that is too wide (and always if `is_wide` asks for all), a list.
    #[must_use]
    pub fn text(&self, is_wide: bool) -> String {
        let grid = self.grid();
        if is_wide || grid.width() > COLUMNS {
            return self.operations.text(is_wide);
        }
        format!("{}\ns sent, r read, * asked for\n", grid.render(None))
    }

    fn grid(&self) -> Table {
        let Operations { history, rows, lens } = &self.operations;
        let mut by_row = Vec::new();
        let mut columns: BTreeMap<(bool, i64), bool> = BTreeMap::new();
        // Records without an offset stand in a column of their own, behind all others.
        let column = |offset: Option<i64>| (offset.is_none(), offset.unwrap_or_default());
        for &row in rows {
            let op = history.op(row);
            let seen = seen(&op, self.key, lens);
            for (_, (offset, _), sight) in &seen {
                *columns.entry(column(*offset)).or_default() |= *sight == Sight::Marked;
            }
            by_row.push((op, seen));
        }
        let mut headings = vec![
            ("INDEX".into(), Align::Right),
            ("PROCESS".into(), Align::Right),
            ("TYPE".into(), Align::Left),
            ("F".into(), Align::Left),
        ];
        headings.extend(columns.iter().map(|(&(is_unknown, offset), &is_marked)| {
            let name = if is_unknown { "NO OFFSET".into() } else { offset.to_string() };
            (format!("{name}{}", if is_marked { "*" } else { "" }), Align::Left)
        }));
        let mut table = Table::new(headings);
        for (op, seen) in by_row {
            let mut cells = vec![
                op.index().to_string(),
                process_name(history, &op),
                op.kind().name().into(),
                op.function().name().into(),
            ];
            for place in columns.keys() {
                let here = seen.iter().filter(|(_, (offset, _), _)| column(*offset) == *place);
                let here: Vec<String> = here.map(|seen| cell(history, seen)).collect();
                cells.push(here.join(" "));
            }
            table.push(cells);
        }
        table
    }
}

fn cell(history: &History, (way, (_, value), _): &(Way, Record, Sight)) -> String {
    let way = if *way == Way::In { 's' } else { 'r' };
    format!("{way}{}", history.value_name(*value))
}
