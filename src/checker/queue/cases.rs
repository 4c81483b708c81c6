//! Puts what was tallied into words: fields as Jepsen names them, the operations, and why it is
//! an anomaly.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::Analysis;
use super::gather::NO_ROW;
use super::order::NO_INDEX;
use super::tally::{Hit, Kind, Tallies};
use super::values::READ_OK;
use crate::checker::anomaly::find_anomaly;
use crate::checker::expectation::Expectation;
use crate::checker::explain::{
    error_words, key_json, list, moment, operation, outcome, value_json,
};
use crate::checker::verdict::{Case, Found};
use crate::history::columns::Op;
use crate::history::{KeyId, Value};

/// Offsets of one duplicate whose operations are told.
const OFFSETS_TOLD_MAX: usize = 16;

/// All kinds of which something was found.
pub(super) fn of(
    analysis: &Analysis<'_>,
    expected: &Expectation,
    tallies: &mut Tallies,
) -> BTreeMap<String, Found> {
    let mut anomalies = BTreeMap::new();
    for kind in Kind::ALL {
        let row = find_anomaly(kind.name()).expect("every kind has a row in the table");
        let tally = tallies.of(kind);
        if kind == Kind::PrecommittedRead {
            // An operation is counted once, however many of its values it read.
            tally.hits.sort_unstable();
            tally.hits.dedup_by_key(|hit| hit.row);
            tally.count = tally.hits.len() as u64;
        }
        tally.finish(expected.cases_max(row.shown));
        if tally.count == 0 {
            continue;
        }
        let mut cases: Vec<Case> = tally.hits.iter().map(|hit| case(analysis, kind, hit)).collect();
        if let Some(excuse) = row.excuse(expected, false) {
            for case in &mut cases {
                case.explanation.push(' ');
                case.explanation.push_str(excuse);
            }
        }
        let found = Found { count: tally.count, bad: row.is_bad(expected, false), cases };
        anomalies.insert(kind.name().to_owned(), found);
    }
    anomalies
}

/// One case of a kind.
pub(super) fn case(analysis: &Analysis<'_>, kind: Kind, hit: &Hit) -> Case {
    let teller = Teller { analysis, hit, key: KeyId(hit.key) };
    match kind {
        Kind::PhantomRead => teller.phantom(),
        Kind::InconsistentOffsets => teller.conflict(),
        Kind::ZombieWrite => teller.zombie(),
        Kind::LostWrite => teller.lost(),
        Kind::Duplicate | Kind::DuplicateNonzero => teller.duplicate(),
        Kind::G1a => teller.aborted(),
        Kind::G1b => teller.intermediate(),
        Kind::PrecommittedRead => teller.precommitted(),
        Kind::IntNonmonotonicSend => teller.inside("sent", false),
        Kind::IntSendSkip => teller.inside("sent", true),
        Kind::IntNonmonotonicPoll => teller.inside("polled", false),
        Kind::IntPollSkip => teller.inside("polled", true),
        Kind::NonmonotonicSend => teller.across("sent", false),
        Kind::NonmonotonicPoll => teller.across("polled", false),
        Kind::PollSkip => teller.across("polled", true),
        Kind::Unseen => teller.unseen(),
    }
}

struct Teller<'a, 'h> {
    analysis: &'a Analysis<'h>,
    hit: &'a Hit,
    key: KeyId,
}

impl<'a, 'h> Teller<'a, 'h> {
    fn op(&self, row: u32) -> Op<'h> {
        self.analysis.history.op(row as usize)
    }

    fn say(&self, row: u32) -> String {
        operation(&self.op(row), self.analysis.history)
    }

    fn key_json(&self) -> Json {
        key_json(self.analysis.history, self.key)
    }

    fn of_key(&self) -> &'a super::Key {
        &self.analysis.keys[self.key.0 as usize]
    }

    fn value(&self, number: u32) -> Value {
        self.of_key().values.value(number)
    }

    fn value_json(&self, number: u32) -> Json {
        value_json(self.analysis.history, self.value(number))
    }

    /// The value that stands at an index, and its offset.
    fn at(&self, index: u32) -> (Json, i64) {
        let order = &self.of_key().order;
        (self.value_json(order.values[index as usize]), order.offsets[index as usize])
    }

    fn index_of(&self, row: u32) -> Json {
        if row == NO_ROW { Json::Null } else { json!(self.op(row).index()) }
    }

    /// The first operation that polled a value, at some offset if one is given.
    fn first_reader(&self, number: u32, offset: Option<i64>) -> Option<u32> {
        let value = self.value(number);
        let fits = |(at, v): (Option<i64>, Value)| v == value && (offset.is_none() || at == offset);
        let gathered = &self.analysis.gathered;
        let mut polls = gathered.polls(self.key.0 as usize);
        polls.find(|runs| gathered.records(runs).any(fits)).map(|runs| runs[0].row)
    }

    /// The operation that sent a value and had it acknowledged at that offset.
    fn acknowledged_at(&self, number: u32, offset: i64) -> Option<u32> {
        let value = self.value(number);
        let mut sends = self.analysis.gathered.sends(self.key.0 as usize).flatten();
        sends.find(|s| s.value == value && s.offset() == Some(offset)).map(|s| s.row)
    }

    fn done(
        &self,
        fields: Vec<(&'static str, Json)>,
        rows: impl IntoIterator<Item = u32>,
        explanation: String,
    ) -> Case {
        let mut all = vec![("key", self.key_json())];
        all.extend(fields);
        let mut operations: Vec<u64> =
            rows.into_iter().filter(|&row| row != NO_ROW).map(|row| self.op(row).index()).collect();
        operations.sort_unstable();
        operations.dedup();
        Case { fields: all, operations, explanation, ..Case::default() }
    }

    fn phantom(&self) -> Case {
        let (key, value) = (self.key_json(), self.value_json(self.hit.from));
        let reader = self.first_reader(self.hit.from, None).unwrap_or(NO_ROW);
        let offset = self.of_key().values.polled_at(self.hit.from);
        let place = offset.map_or(String::new(), |offset| format!(" at offset {offset}"));
        let explanation = format!(
            "T1, {}, polled {value} from key {key}{place}. No operation of this history ever sent \
             {value} to key {key}, in whatever way it ended. The record comes from somewhere else, \
             or it was changed on its way.",
            self.say(reader)
        );
        let fields =
            vec![("value", value), ("offset", json!(offset)), ("reader", self.index_of(reader))];
        self.done(fields, [reader], explanation)
    }

    fn conflict(&self) -> Case {
        let order = &self.of_key().order;
        let conflict = &order.conflicts[self.hit.from as usize];
        let offset = order.offsets[conflict.index as usize];
        let mut numbers = conflict.values.clone();
        numbers.sort_by_key(|&number| self.value(number));
        let mut rows = Vec::new();
        let mut said = Vec::new();
        for &number in &numbers {
            let value = self.value_json(number);
            if let Some(row) = self.acknowledged_at(number, offset) {
                rows.push(row);
                said.push(format!("{} had {value} acknowledged there", self.say(row)));
            }
            if let Some(row) = self.first_reader(number, Some(offset)) {
                rows.push(row);
                said.push(format!("{} polled {value} from there", self.say(row)));
            }
        }
        let values: Vec<Json> = numbers.iter().map(|&n| self.value_json(n)).collect();
        said.truncate(4);
        let explanation = format!(
            "An offset names one record for ever, yet offset {offset} of key {} held {}. \
             In order: {}. One of these records replaced another, or an acknowledgement was wrong.",
            self.key_json(),
            list(&values),
            said.join("; ")
        );
        let fields = vec![
            ("offset", json!(offset)),
            ("index", json!(conflict.index)),
            ("values", json!(values)),
        ];
        self.done(fields, rows, explanation)
    }

    fn zombie(&self) -> Case {
        let (key, value) = (self.key_json(), self.value_json(self.hit.from));
        let reader = self.first_reader(self.hit.from, None).unwrap_or(NO_ROW);
        let error = self.op(self.hit.row).error().unwrap_or_default();
        let explanation = format!(
            "T1, {}, sent {value} to key {key} and was told that its producer is fenced{}. \
             However, T2, {}, polled {value} all the same. A write of a fenced producer took effect.",
            self.say(self.hit.row),
            error_words(&self.op(self.hit.row)),
            self.say(reader)
        );
        let fields = vec![
            ("value", value),
            ("writer", self.index_of(self.hit.row)),
            ("reader", self.index_of(reader)),
            ("error", json!(error)),
        ];
        self.done(fields, [self.hit.row, reader], explanation)
    }

    fn lost(&self) -> Case {
        let order = &self.of_key().order;
        let (key, value) = (self.key_json(), self.value_json(self.hit.from));
        let bound = self.hit.to;
        // Where several values stand at that index, one that was read.
        let values = &self.of_key().values;
        let at_bound = |&value: &u32| values.has(value, READ_OK) && order.first(value) == bound;
        let read = (0..values.len() as u32).find(at_bound).unwrap_or(order.values[bound as usize]);
        let furthest = self.first_reader(read, None).unwrap_or(NO_ROW);
        let index = order.first(self.hit.from);
        let writer = self.op(self.hit.row);
        let place = if index == NO_INDEX {
            " with an acknowledgement that named no offset".to_owned()
        } else {
            format!(" at offset {}", order.offsets[index as usize])
        };
        let next = if index == NO_INDEX { self.newest_writer(bound) } else { NO_ROW };
        // The first that went past: where the place is known, past the place; else past a value
        // that was sent only after this one was acknowledged.
        let is_past = |value: u32| match next {
            NO_ROW => order.first(value) != NO_INDEX && order.first(value) > index,
            next => values.writer[value as usize] == next,
        };
        let (reader, past) = self.first_past(is_past).unwrap_or((furthest, read));
        let (past_value, past_index) = (self.value_json(past), order.first(past));
        let past_at = match past_index {
            NO_INDEX => String::new(),
            index => format!(" from offset {}", order.offsets[index as usize]),
        };
        let behind = if next == NO_ROW {
            format!(
                "T2, {}, was the first to go past it: it polled {past_value}{past_at}",
                self.say(reader)
            )
        } else {
            format!(
                "It was acknowledged before {} began, so {value} stands before {past_value} in \
                 the log; T2, {}, polled {past_value}{past_at}",
                self.say(next),
                self.say(reader)
            )
        };
        let explanation = format!(
            "T1, {}, sent {value} to key {key}{place} and {}. {behind}. However, no operation that \
             succeeded ever polled {value}: the write is lost.",
            self.say(self.hit.row),
            if writer.kind() == crate::history::EventType::Ok {
                "succeeded"
            } else {
                "ended undecided, but another of its values was read, so the whole of it happened"
            },
        );
        let json_index = if index == NO_INDEX { Json::Null } else { json!(index) };
        let offset = (index != NO_INDEX).then(|| order.offsets[index as usize]);
        let fields = vec![
            ("value", value),
            ("offset", json!(offset)),
            ("index", json_index),
            ("max-read-index", json!(bound)),
            ("writer", self.index_of(self.hit.row)),
            ("reader", self.index_of(reader)),
            ("max-read", self.index_of(furthest)),
        ];
        self.done(fields, [self.hit.row, reader], explanation)
    }

    /// The first operation that succeeded and polled a value that is past something, and the first
    /// such value it polled.
    fn first_past(&self, is_past: impl Fn(u32) -> bool) -> Option<(u32, u32)> {
        let (gathered, values) = (&self.analysis.gathered, &self.of_key().values);
        let is_ok = |runs: &&[super::gather::Polled]| {
            gathered.rows.fate(runs[0].row) == super::gather::Fate::Ok
        };
        gathered.polls(self.key.0 as usize).filter(is_ok).find_map(|runs| {
            let mut numbers = gathered.records(runs).map(|(_, value)| values.number(value));
            Some((runs[0].row, numbers.find(|&number| is_past(number))?))
        })
    }

    /// The writer, of the values up to an index, that was invoked last.
    fn newest_writer(&self, bound: u32) -> u32 {
        let of_key = self.of_key();
        let writers = of_key.order.values[..=bound as usize].iter();
        writers
            .map(|&value| of_key.values.writer[value as usize])
            .filter(|&row| row != NO_ROW)
            .max_by_key(|&row| self.op(row).invoke_index())
            .unwrap_or(NO_ROW)
    }

    fn duplicate(&self) -> Case {
        let duplicate = &self.of_key().order.duplicates[self.hit.from as usize];
        let (key, value) = (self.key_json(), self.value_json(duplicate.value));
        let writer = self.of_key().values.writer[duplicate.value as usize];
        let mut rows = vec![writer];
        let mut said = Vec::new();
        // Each is looked for through the whole key.
        for &offset in duplicate.offsets.iter().take(OFFSETS_TOLD_MAX) {
            if let Some(row) = self.acknowledged_at(duplicate.value, offset) {
                rows.push(row);
                said.push(format!("it was acknowledged at {offset}"));
            }
            if let Some(row) = self.first_reader(duplicate.value, Some(offset)) {
                rows.push(row);
                said.push(format!("{} polled it from {offset}", self.say(row)));
            }
        }
        said.truncate(4);
        let offsets: Vec<Json> = duplicate.offsets.iter().map(|offset| json!(offset)).collect();
        let sent = if writer == NO_ROW {
            "Nobody sent".to_owned()
        } else {
            format!("{} sent", capital(&self.say(writer)))
        };
        let explanation = format!(
            "{sent} {value} to key {key} once. However, it stands at offsets {}: {}. The same \
             record was appended more than once, or an acknowledgement named a wrong offset.",
            list(&offsets),
            said.join("; ")
        );
        let fields = vec![
            ("value", value),
            ("count", json!(duplicate.offsets.len())),
            ("offsets", json!(offsets)),
        ];
        self.done(fields, rows, explanation)
    }

    fn aborted(&self) -> Case {
        let (key, value) = (self.key_json(), self.value_json(self.hit.from));
        let writer = self.op(self.hit.earlier_row);
        let error = error_words(&writer);
        let explanation = format!(
            "T1, {}, sent {value} to key {key} and definitely failed{error} at {}. However, T2, \
             {}, which succeeded, polled {value}: an aborted read.",
            self.say(self.hit.earlier_row),
            moment(writer.complete_ns()),
            self.say(self.hit.row)
        );
        let fields = vec![
            ("value", value),
            ("writer", self.index_of(self.hit.earlier_row)),
            ("reader", self.index_of(self.hit.row)),
        ];
        self.done(fields, [self.hit.earlier_row, self.hit.row], explanation)
    }

    fn intermediate(&self) -> Case {
        let (key, value) = (self.key_json(), self.value_json(self.hit.from));
        let explanation = format!(
            "T1, {}, sent {value} to key {key} and then more to the same key. However, {value} is \
             where T2, {}, stopped reading the key: it saw what T1 had itself gone beyond. A poll \
             may stop anywhere, so this is not held against the broker.",
            self.say(self.hit.earlier_row),
            self.say(self.hit.row)
        );
        let fields = vec![
            ("value", value),
            ("writer", self.index_of(self.hit.earlier_row)),
            ("reader", self.index_of(self.hit.row)),
        ];
        self.done(fields, [self.hit.earlier_row, self.hit.row], explanation)
    }

    fn precommitted(&self) -> Case {
        let (key, value) = (self.key_json(), self.value_json(self.hit.from));
        let op = self.op(self.hit.row);
        let explanation = format!(
            "T1, {}, sent {value} to key {key}, polled it back within the same operation and {}. \
             What a transaction sends must be invisible to every consumer, its own included, until \
             it is committed.",
            self.say(self.hit.row),
            outcome(&op)
        );
        let fields = vec![("value", value), ("op", self.index_of(self.hit.row))];
        self.done(fields, [self.hit.row], explanation)
    }

    fn unseen(&self) -> Case {
        let (key, value) = (self.key_json(), self.value_json(self.hit.from));
        let order = &self.of_key().order;
        let index = order.first(self.hit.from);
        let offset = (index != NO_INDEX).then(|| order.offsets[index as usize]);
        let place = offset.map_or(String::new(), |offset| format!(" at offset {offset}"));
        let explanation = format!(
            "T1, {}, sent {value} to key {key}, which was acknowledged{place} at {}. By the end of \
             the history no operation that succeeded had polled it.",
            self.say(self.hit.row),
            moment(self.op(self.hit.row).complete_ns())
        );
        let fields = vec![
            ("value", value),
            ("offset", json!(offset)),
            ("writer", self.index_of(self.hit.row)),
        ];
        self.done(fields, [self.hit.row], explanation)
    }

    fn skipped(&self) -> Vec<Json> {
        // As many as anyone will read; `delta` says how many there are.
        const MAX: u32 = 1_000;
        let end = self.hit.to.min(self.hit.from.saturating_add(1 + MAX));
        (self.hit.from + 1..end).map(|index| self.at(index).0).collect()
    }

    /// A wrong step within one operation.
    fn inside(&self, verb: &str, is_skip: bool) -> Case {
        let key = self.key_json();
        let ((from, from_at), (to, to_at)) = (self.at(self.hit.from), self.at(self.hit.to));
        let mut fields = vec![
            ("values", json!([from, to])),
            ("delta", json!(i64::from(self.hit.to) - i64::from(self.hit.from))),
            ("op", self.index_of(self.hit.row)),
        ];
        let who = self.say(self.hit.row);
        let what = format!(
            "T1, {who}, {verb} {from} (offset {from_at}) and right after it {to} (offset {to_at}), \
             both of key {key}."
        );
        let explanation = if is_skip {
            let skipped = self.skipped();
            let said = stand(&skipped);
            fields.push(("skipped", json!(skipped)));
            format!("{what} However, {said} between them in the log.")
        } else if from == to {
            format!("{what} That is the same record twice.")
        } else {
            format!("{what} However, in the log {to} does not come after {from}.")
        };
        self.done(fields, [self.hit.row], explanation)
    }

    /// A wrong step from one operation of a process to a later one.
    fn across(&self, verb: &str, is_skip: bool) -> Case {
        let key = self.key_json();
        let ((from, from_at), (to, to_at)) = (self.at(self.hit.from), self.at(self.hit.to));
        let rows = [self.hit.earlier_row, self.hit.row];
        let delta = i64::from(self.hit.to) - i64::from(self.hit.from);
        let mut fields =
            vec![("delta", json!(delta)), ("ops", json!(rows.map(|r| self.index_of(r))))];
        let preposition = if verb == "sent" { "to" } else { "of" };
        let what = format!(
            "T1, {}, last {verb} {from} {preposition} key {key} (offset {from_at}). T2, {}, a \
             later one of the same process, first {verb} {to} (offset {to_at}).",
            self.say(rows[0]),
            self.say(rows[1])
        );
        fields.insert(0, ("values", json!([from, to])));
        let explanation = if is_skip {
            let skipped = self.skipped();
            let (said, were) = (stand(&skipped), if skipped.len() == 1 { "was" } else { "were" });
            fields.push(("skipped", json!(skipped)));
            format!("{what} However, {said} between them in the log and {were} passed over.")
        } else {
            let back = if from == to { "the same record again" } else { "further back in the log" };
            format!("{what} However, that is {back}.")
        };
        self.done(fields, rows, explanation)
    }
}

/// `8 stands`, `8 and 9 stand`.
fn stand(values: &[Json]) -> String {
    format!("{} {}", list(values), if values.len() == 1 { "stands" } else { "stand" })
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
