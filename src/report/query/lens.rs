//! Which records of an operation are shown, and which are pointed at.
//!
//! A poll may return thousands of records, of which two matter.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;
use serde_json::Value as Json;

use super::names::{find_key, find_value};
use crate::checker::Case;
use crate::history::{History, KeyId, Value};

/// A record: its offset, where that is known, and its value.
pub type Record = (Option<i64>, Value);

/// The records that matter.
#[derive(Debug, Clone, Default)]
pub struct Focus {
    values: FxHashSet<(KeyId, Value)>,
    offsets: FxHashSet<(KeyId, i64)>,
    /// Offsets that records which matter are known to have, also where they were not read.
    near: BTreeSet<(KeyId, i64)>,
}

impl Focus {
    /// Adds a value of a key.
    pub fn add_value(&mut self, key: KeyId, value: Value) {
        self.values.insert((key, value));
    }

    /// Adds an offset of a key.
    pub fn add_offset(&mut self, key: KeyId, offset: i64) {
        self.offsets.insert((key, offset));
    }

    /// Adds the neighbourhood of a record, where that matters.
    pub fn add_near(&mut self, key: KeyId, record: Record) {
        if let (true, Some(offset)) = (self.is_on(key, record), record.0) {
            self.near.insert((key, offset));
        }
    }

    fn is_near(&self, key: KeyId, (offset, _): Record) -> bool {
        let Some(offset) = offset else { return false };
        let reach = NEAR as i64;
        let range = (key, offset.saturating_sub(reach))..=(key, offset.saturating_add(reach));
        self.near.range(range).next().is_some()
    }

    /// What a case of an anomaly is about, by the names its fields have.
    #[must_use]
    pub fn of_case(history: &History, case: &Case) -> Self {
        let mut focus = Self::default();
        let fields = case.fields.iter().map(|(name, field)| (*name, field));
        focus.add_fields(history, fields);
        // Pairs of a key and a value.
        let pairs = ["missing", "read"].map(|name| case.field(name));
        for pair in pairs.into_iter().flatten().filter_map(Json::as_array) {
            let inner = pair.iter().filter_map(Json::as_array);
            for pair in inner.chain([pair]) {
                if let [key, value] = pair.as_slice() {
                    focus.add_fields(history, [("key", key), ("value", value)].into_iter());
                }
            }
        }
        if let Some(Json::Array(steps)) = case.field("steps") {
            for step in steps.iter().filter_map(Json::as_object) {
                focus.add_fields(history, step.iter().map(|(name, field)| (name.as_str(), field)));
            }
        }
        focus
    }

    fn add_fields<'a>(
        &mut self,
        history: &History,
        fields: impl Iterator<Item = (&'a str, &'a Json)> + Clone,
    ) {
        let key = fields.clone().find(|(name, _)| *name == "key").map(|(_, key)| key);
        let Some(key) = key.and_then(|key| find_key(history, &typed(key))) else { return };
        for (name, field) in fields {
            let each = match field {
                Json::Array(items) => items.as_slice(),
                one => std::slice::from_ref(one),
            };
            match name {
                "value" | "value'" | "values" | "skipped" => {
                    let values = each.iter().filter_map(|item| find_value(history, &typed(item)));
                    self.values.extend(values.map(|value| (key, value)));
                }
                "offset" | "offsets" => {
                    self.offsets.extend(each.iter().filter_map(Json::as_i64).map(|at| (key, at)));
                }
                _ => {}
            }
        }
    }

    /// Whether a record matters.
    #[must_use]
    pub fn is_on(&self, key: KeyId, (offset, value): Record) -> bool {
        self.values.contains(&(key, value))
            || offset.is_some_and(|offset| self.offsets.contains(&(key, offset)))
    }

    /// Whether nothing does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.offsets.is_empty()
    }
}

/// A JSON name as one would type it.
fn typed(name: &Json) -> String {
    name.as_str().map_or_else(|| name.to_string(), str::to_owned)
}

/// How a record is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Not.
    Hidden,
    /// As one of many.
    Shown,
    /// As one that matters.
    Marked,
}

/// A neighbourhood in one key's log.
#[derive(Debug, Clone)]
pub struct Window {
    /// The key.
    pub key: KeyId,
    /// Offsets, first and last.
    pub ranges: Vec<(i64, i64)>,
    /// A value, and with it its neighbours in each poll.
    pub value: Option<Value>,
    /// How many neighbours.
    pub reach: usize,
}

/// What is shown.
#[derive(Debug, Clone)]
enum Show {
    Everything,
    Ends,
    Only(Window),
}

/// Shows records.
#[derive(Debug, Clone)]
pub struct Lens {
    focus: Focus,
    show: Show,
}

/// Records shown of a run of any length.
const SHORT: usize = 12;
/// Neighbours shown of a record that matters.
const NEAR: usize = 3;

impl Lens {
    /// Shows every record.
    #[must_use]
    pub fn everything(focus: Focus) -> Self {
        Self { focus, show: Show::Everything }
    }

    /// Shows short runs whole, and of longer ones their ends and what is near the records that
    /// matter.
    #[must_use]
    pub fn ends(focus: Focus) -> Self {
        Self { focus, show: Show::Ends }
    }

    /// Shows a neighbourhood only; micro-operations with nothing in it are left out.
    #[must_use]
    pub fn only(window: Window, focus: Focus) -> Self {
        Self { focus, show: Show::Only(window) }
    }

    /// The same without leaving out the middle of long runs.
    #[must_use]
    pub fn whole(&self) -> Self {
        match self.show {
            Show::Ends => Self::everything(self.focus.clone()),
            _ => self.clone(),
        }
    }

    /// Whether micro-operations of which nothing is shown are left out.
    #[must_use]
    pub fn leaves_out(&self) -> bool {
        matches!(self.show, Show::Only(_))
    }

    /// How each record of a run is seen.
    #[must_use]
    pub fn sights(&self, key: KeyId, records: &[Record]) -> Vec<Sight> {
        let mark = |record: &Record| match self.focus.is_on(key, *record) {
            true => Sight::Marked,
            false => Sight::Shown,
        };
        let mut sights: Vec<Sight> = records.iter().map(mark).collect();
        match &self.show {
            Show::Everything => {}
            Show::Ends if records.len() <= SHORT => {}
            Show::Ends => {
                let last = records.len() - 1;
                let marked: Vec<bool> = sights.iter().map(|s| *s == Sight::Marked).collect();
                let ends = |place: usize| place < NEAR || place + NEAR > last;
                let near = |place: usize| self.focus.is_near(key, records[place]);
                hide(&mut sights, |place| {
                    ends(place) || near(place) || is_near(&marked, place, NEAR)
                });
            }
            Show::Only(window) if window.key != key => sights.fill(Sight::Hidden),
            Show::Only(window) => {
                let is_value: Vec<bool> =
                    records.iter().map(|record| Some(record.1) == window.value).collect();
                let in_range = |place: usize| {
                    let Some(offset) = records[place].0 else { return false };
                    window.ranges.iter().any(|&(first, last)| first <= offset && offset <= last)
                };
                hide(&mut sights, |place| {
                    in_range(place) || is_near(&is_value, place, window.reach)
                });
            }
        }
        sights
    }
}

fn is_near(marked: &[bool], place: usize, reach: usize) -> bool {
    let end = place.saturating_add(reach).saturating_add(1).min(marked.len());
    marked[place.saturating_sub(reach)..end].contains(&true)
}

fn hide(sights: &mut [Sight], is_shown: impl Fn(usize) -> bool) {
    for (place, sight) in sights.iter_mut().enumerate() {
        if !is_shown(place) {
            *sight = Sight::Hidden;
        }
    }
}
