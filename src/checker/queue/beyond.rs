//! Anomalies that Jepsen has no name for: torn transactions, and transactions that never end.
//!
//! Each needs a whole operation, so it is put together here from what the keys have shown.
//!
//! Not checked: whether a transaction hangs that nothing was acknowledged behind; consumer
//! offsets, which operations do not show (the check of exchanges does).

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::Analysis;
use super::gather::Fate;
use super::order::NO_INDEX;
use super::tally::Hit;
use super::values::{READ_OK, SENT_OK};
use crate::checker::anomaly::find_anomaly;
use crate::checker::expectation::Expectation;
use crate::checker::explain::{key_json, list, operation, outcome, value_json};
use crate::checker::verdict::{Case, Found};
use crate::history::{KeyId, MopRef};

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
    let (key, value, reader) = op.mops().find_map(|mop| {
        let MopRef::Send { key, value, .. } = mop else { return None };
        let values = &analysis.keys[key.0 as usize].values;
        let is_read = values.has(values.number(value), READ_OK);
        is_read.then(|| Some((key, value, first_ok_reader(analysis, key, value)?)))?
    })?;
    let missing: Vec<(Json, Json)> = lost
        .iter()
        .map(|&(_, key, number)| {
            let value = analysis.keys[key as usize].values.value(number);
            (key_json(history, KeyId(key)), value_json(history, value))
        })
        .collect();
    let said: Vec<Json> =
        missing.iter().map(|(key, value)| json!(format!("{value} of key {key}"))).collect();
    let (read_key, read_value) = (key_json(history, key), value_json(history, value));
    let explanation = format!(
        "T1, {}, sent {read_value} to key {read_key} and more, and {}. T2, {}, polled {read_value}, \
         so T1 took effect. However, no operation that succeeded ever polled {}, though readers \
         went past: a part of T1 is there and a part is not.",
        operation(&op, history),
        outcome(&op),
        operation(&history.op(reader as usize), history),
        list(&said).replace('"', "")
    );
    let fields = vec![
        ("key", missing[0].0.clone()),
        ("value", missing[0].1.clone()),
        ("missing", json!(missing)),
        ("read", json!([read_key, read_value])),
        ("writer", json!(op.index())),
        ("reader", json!(history.op(reader as usize).index())),
    ];
    let operations = vec![op.index(), history.op(reader as usize).index()];
    Some(Case { fields, operations, explanation, ..Case::default() })
}

fn first_ok_reader(
    analysis: &Analysis<'_>,
    key: KeyId,
    value: crate::history::Value,
) -> Option<u32> {
    let fate = &analysis.gathered.rows.fate;
    analysis
        .gathered
        .polls(key.0 as usize)
        .filter(|runs| fate[runs[0].row as usize] == Fate::Ok)
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
        .filter(|sent| analysis.gathered.rows.fate[sent.row as usize] == Fate::Info)
        .filter(|sent| !analysis.committed[sent.row as usize])
        .filter_map(|sent| sent.offset.map(|offset| (offset, sent.row)))
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
        gathered.rows.kept(analysis.history, key, bind, row).then_some(row)
    };
    gathered.assigned(key.0 as usize).filter_map(first_after).min().map(|row| row as usize)
}
