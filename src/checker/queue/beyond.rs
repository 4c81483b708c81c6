//! Anomalies that Jepsen has no name for: torn transactions, and transactions that never end.
//!
//! Each needs a whole operation, so it is put together here from what the keys have shown.
//!
//! Not checked: whether a transaction hangs that nothing was acknowledged behind; consumer
//! offsets, which operations do not show (the check of exchanges does).

use std::collections::BTreeMap;

use serde_json::json;

use super::Analysis;
use super::gather::Fate;
use super::order::NO_INDEX;
use super::tally::Hit;
use super::values::{READ_OK, SENT_OK};
use crate::checker::anomaly::find_anomaly;
use crate::checker::expectation::Expectation;
use crate::checker::explain::{key_json, operation, outcome, value_json, words};
use crate::checker::verdict::{Case, Found};
use crate::history::{KeyId, MopRef, Value};

/// Both, from the writes known to be lost.
pub(super) fn find(
    analysis: &Analysis<'_>,
    expected: &Expectation,
    lost: &[Hit],
) -> BTreeMap<String, Found> {
    let mut anomalies = BTreeMap::new();
    let mut report = |name: &str, mut cases: Vec<Case>| {
        let row = find_anomaly(name).expect("both names are in the table");
        if cases.is_empty() {
            return;
        }
        let count = cases.len() as u64;
        cases.truncate(expected.cases_max(row.shown));
        let bad = row.is_bad(expected, false);
        anomalies.insert(name.to_owned(), Found { count, bad, cases });
    };
    report("torn-transaction", torn(analysis, lost));
    report("hanging-transaction", hanging(analysis));
    anomalies
}

/// A lost write whose operation has another value that was read: part of the operation can be
/// seen, part cannot, and readers went past both.
fn torn(analysis: &Analysis<'_>, lost: &[Hit]) -> Vec<Case> {
    let mut lost: Vec<(u32, u32, u32)> = lost.iter().map(|h| (h.row, h.key, h.from)).collect();
    lost.sort_unstable();
    lost.dedup();
    lost.chunk_by(|a, b| a.0 == b.0).filter_map(|of_row| torn_case(analysis, of_row)).collect()
}

fn torn_case(analysis: &Analysis<'_>, lost: &[(u32, u32, u32)]) -> Option<Case> {
    let history = analysis.history;
    let op = history.op(lost[0].0 as usize);
    let read: Vec<(KeyId, Value)> = op
        .mops()
        .filter_map(|mop| {
            let MopRef::Send { key, value, .. } = mop else { return None };
            let values = &analysis.keys[key.0 as usize].values;
            values.has(values.number(value), READ_OK).then_some((key, value))
        })
        .collect();
    let &(first_key, first_value) = read.first()?;
    let reader = first_ok_reader(analysis, first_key, first_value)?;
    let missing = lost
        .iter()
        .map(|&(_, key, number)| (KeyId(key), analysis.keys[key as usize].values.value(number)));
    let missing: Vec<(KeyId, Value)> = missing.collect();
    let name =
        |&(key, value): &(KeyId, Value)| (key_json(history, key), value_json(history, value));
    let say = |part: &[(KeyId, Value)], preposition: &str| {
        let said = part.iter().map(|record| {
            let of_key = &analysis.keys[record.0.0 as usize];
            let at = match of_key.order.first(of_key.values.number(record.1)) {
                NO_INDEX => String::new(),
                index => format!(" (offset {})", of_key.order.offsets[index as usize]),
            };
            let (key, value) = name(record);
            format!("{value} {preposition} key {key}{at}")
        });
        words(said, part.len())
    };
    let sent: Vec<(KeyId, Value)> = read.iter().chain(&missing).copied().collect();
    let explanation = format!(
        "T1, {}, sent {} in one transaction and {}. One part of it was read, {}: T2, {}, polled {}. \
         However, no operation that succeeded ever polled the other part, {}, though readers went \
         past: T1 is torn.",
        operation(&op, history),
        say(&sent, "to"),
        outcome(&op),
        say(&read, "of"),
        operation(&history.op(reader as usize), history),
        name(&read[0]).1,
        say(&missing, "of"),
    );
    let names = |part: &[(KeyId, Value)]| part.iter().map(name).collect::<Vec<_>>();
    let fields = vec![
        ("key", name(&missing[0]).0),
        ("value", name(&missing[0]).1),
        ("missing", json!(names(&missing))),
        ("read", json!(names(&read))),
        ("writer", json!(op.index())),
        ("reader", json!(history.op(reader as usize).index())),
    ];
    let operations = vec![op.index(), history.op(reader as usize).index()];
    Some(Case { fields, operations, explanation, ..Case::default() })
}

fn first_ok_reader(analysis: &Analysis<'_>, key: KeyId, value: Value) -> Option<u32> {
    let rows = &analysis.gathered.rows;
    analysis
        .gathered
        .polls(key.0 as usize)
        .filter(|runs| rows.fate(runs[0].row) == Fate::Ok)
        .find(|runs| analysis.gathered.records(runs).any(|(_, v)| v == value))
        .map(|runs| runs[0].row)
}

/// Where nothing was read of a key from some offset on, though records behind it were
/// acknowledged and somebody polled afterwards; and the first record there belongs to an operation
/// that ended undecided.
fn hanging(analysis: &Analysis<'_>) -> Vec<Case> {
    (0..analysis.keys.len()).filter_map(|key| hanging_case(analysis, key)).collect()
}

fn hanging_case(analysis: &Analysis<'_>, key: usize) -> Option<Case> {
    let (values, order) = (&analysis.keys[key].values, &analysis.keys[key].order);
    let read_to = (0..values.len() as u32)
        .filter(|&value| values.has(value, READ_OK) && order.first(value) != NO_INDEX)
        .map(|value| order.offsets[order.first(value) as usize])
        .max();
    let is_behind = |offset: i64| read_to.is_none_or(|bound| offset > bound);
    let unseen: Vec<(i64, u32)> = (0..values.len() as u32)
        .filter(|&value| values.has(value, SENT_OK) && !values.has(value, READ_OK))
        .filter(|&value| order.first(value) != NO_INDEX)
        .map(|value| (order.offsets[order.first(value) as usize], value))
        .filter(|&(offset, _)| is_behind(offset))
        .collect();
    let (first_unseen, _) = *unseen.iter().min()?;
    let (offset, holder) = analysis
        .gathered
        .sends(key)
        .flatten()
        .filter(|sent| analysis.gathered.rows.fate(sent.row) == Fate::Info)
        .filter(|sent| !analysis.committed[sent.row as usize])
        .filter_map(|sent| sent.offset().map(|offset| (offset, sent.row)))
        .filter(|&(offset, _)| is_behind(offset) && offset < first_unseen)
        .min()?;
    let history = analysis.history;
    let last_end = unseen
        .iter()
        .filter_map(|&(_, value)| {
            history.op(values.writer[value as usize] as usize).complete_index()
        })
        .max()?;
    let key = KeyId(key as u32);
    let poll = later_poll(analysis, key, last_end)?;
    let (key_name, op) = (key_json(history, key), history.op(holder as usize));
    let explanation = format!(
        "T1, {}, sent to key {key_name} at offset {offset} and {}. Behind it {} acknowledged \
         records stand, the first at offset {first_unseen}. However, T2, {}, polled after they were \
         acknowledged, and no operation that succeeded ever got past offset {offset}: T1 was never \
         ended, and holds up everything behind it.",
        operation(&op, history),
        outcome(&op),
        unseen.len(),
        operation(&history.op(poll), history)
    );
    let fields = vec![
        ("key", key_name),
        ("offset", json!(offset)),
        ("writer", json!(op.index())),
        ("unseen", json!(unseen.len())),
    ];
    let operations = vec![op.index(), history.op(poll).index()];
    Some(Case { fields, operations, explanation, ..Case::default() })
}

/// The first poll that succeeded, was invoked after some event, and whose process had assigned the
/// key and not bound itself anew since.
fn later_poll(analysis: &Analysis<'_>, key: KeyId, event: u64) -> Option<usize> {
    let gathered = &analysis.gathered;
    let first_after = |(bind, process): (u32, u32)| {
        let polls = gathered.rows.polls_after(process, bind);
        let begins_later = |&row: &u32| {
            let begin = analysis.history.op(row as usize).invoke_index();
            begin.is_none_or(|begin| begin <= event)
        };
        let row = *polls.get(polls.partition_point(begins_later))?;
        let binds = gathered.rows.facts(bind).binds;
        gathered.rows.kept(analysis.history, key, binds, row).then_some(row)
    };
    gathered.assigned(key.0 as usize).filter_map(first_after).min().map(|row| row as usize)
}
