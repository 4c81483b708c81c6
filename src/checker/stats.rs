//! Counts what a history is made of.

use std::collections::BTreeMap;

use super::verdict::{Outcomes, Stats};
use crate::history::{EventType, Function, History};

/// The counts of a history.
pub(super) fn of(history: &History) -> Stats {
    let mut by_f: Vec<(&Function, Outcomes)> = Vec::new();
    for op in history.ops().filter(|op| op.is_client()) {
        let function = op.function();
        let place = by_f.iter().position(|(known, _)| std::ptr::eq(*known, function));
        let place = place.or_else(|| by_f.iter().position(|(known, _)| *known == function));
        let place = place.unwrap_or_else(|| {
            by_f.push((function, Outcomes::default()));
            by_f.len() - 1
        });
        let of_f = &mut by_f[place].1;
        of_f.operations += 1;
        match op.kind() {
            EventType::Ok => of_f.ok += 1,
            EventType::Fail => of_f.fail += 1,
            EventType::Info | EventType::Invoke => of_f.info += 1,
        }
    }
    let mut outcomes = Outcomes::default();
    for (_, of_f) in &by_f {
        outcomes.operations += of_f.operations;
        outcomes.ok += of_f.ok;
        outcomes.fail += of_f.fail;
        outcomes.info += of_f.info;
    }
    let by_f: BTreeMap<String, Outcomes> =
        by_f.into_iter().map(|(function, of_f)| (function.name().to_owned(), of_f)).collect();
    let keys = history.key_count() as u64;
    Stats { outcomes, keys, by_f, worst_realtime_lag: None }
}
