//! One violation of each invariant, and beside it the legal thing that looks most like it.

mod acks;
mod framing;
mod groups;
mod log;
mod producers;
mod stable;

use super::scene::*;
use crate::checker::wire::Invariant;
use crate::history::facts::BatchFacts;

/// Producer id and first offset, as an aborted list names the transaction at the start of the log.
const P_FIRST: (i64, i64) = (P.0, 0);

/// The scene with what breaks the invariant, and with what nearly does.
fn check(invariant: Invariant, tell: impl Fn(&mut Scene, bool)) {
    check_with(invariant, &[], tell);
}

/// The same where the violation has another name beside its invariant's.
fn check_with(invariant: Invariant, beside: &[&str], tell: impl Fn(&mut Scene, bool)) {
    let mut names = vec![invariant.name().to_owned()];
    names.extend(beside.iter().map(|name| (*name).to_owned()));
    for (broken, expected) in [(true, names), (false, vec![])] {
        let mut scene = Scene::new();
        tell(&mut scene, broken);
        let found = scene.finish();
        let names: Vec<String> = found.anomalies.keys().cloned().collect();
        assert_eq!(
            names,
            expected,
            "{} broken: {broken}, {:#?}",
            invariant.name(),
            found.anomalies
        );
        let checked = found.stats.checks[invariant.name()];
        assert!(checked.checked > 0 || !broken, "{}: {checked:?}", invariant.name());
        for case in found.anomalies.values().flat_map(|found| &found.cases) {
            assert!(!case.frames.is_empty() && !case.exchanges.is_empty(), "{case:?}");
            assert!(case.explanation.len() > 40, "{}", case.explanation);
        }
    }
}

fn changed(mut batch: BatchFacts, change: impl FnOnce(&mut BatchFacts)) -> BatchFacts {
    change(&mut batch);
    batch
}
