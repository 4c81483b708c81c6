//! Which anomaly forbids which consistency model.
//!
//! Two tables: what one anomaly also is a case of, and what each model implies and forbids. The
//! facts are those of Adya (1999), Cerone, Bernardi and Gotsman (2015), Bailis et al. (2013) and
//! Daudjee and Salem (2006), as Elle puts them together. Names that stand for families of
//! anomalies (`G1`, `G2`) and are never found themselves are in the tables too.

use crate::checker::expectation::ConsistencyModel;

/// Each anomaly with those it is a case of.
const IS_CASE_OF: &[(&str, &[&str])] = &[
    ("G0", &["G1c", "G0-process"]),
    ("G0-process", &["G1c-process", "G0-realtime"]),
    ("G0-realtime", &["G1c-realtime"]),
    ("G1a", &["G1"]),
    ("G1b", &["G1"]),
    ("G1c", &["G1", "G1c-process"]),
    ("G1c-process", &["G1c-realtime", "G1-process"]),
    ("G1c-realtime", &["G1-realtime"]),
    ("G1", &["G1-process"]),
    ("G1-process", &["G1-realtime"]),
    ("G-single-item", &["G-single-item-process", "G-nonadjacent-item"]),
    ("G-single-item-process", &["G-single-item-realtime", "G-nonadjacent-item-process"]),
    ("G-single-item-realtime", &["G-nonadjacent-item-realtime"]),
    // Every G-single-item is a G-single; no operation here reads by predicate.
    ("G-single-item", &["G-single"]),
    ("G-single", &["G-nonadjacent"]),
    ("G-nonadjacent-item", &["G-nonadjacent", "G2-item", "G-nonadjacent-item-process"]),
    (
        "G-nonadjacent-item-process",
        &["G-nonadjacent-process", "G2-item-process", "G-nonadjacent-item-realtime"],
    ),
    ("G-nonadjacent-item-realtime", &["G2-item-realtime", "G-nonadjacent-realtime"]),
    ("G-nonadjacent", &["G2", "G-nonadjacent-process"]),
    ("G-nonadjacent-process", &["G2-process", "G-nonadjacent-realtime"]),
    ("G-nonadjacent-realtime", &["G2-realtime"]),
    ("G2", &["G2-process"]),
    ("G2-item", &["G2", "G2-item-process"]),
    ("G2-item-process", &["G2-process", "G2-item-realtime"]),
    ("G2-item-realtime", &["G2-realtime"]),
    ("G2-process", &["G2-realtime"]),
    ("incompatible-order", &["G1a"]),
    ("future-read", &["G1c"]),
    ("dirty-update", &["G1a"]),
    ("lost-update", &["G2-item"]),
];

/// A consistency model: the weaker models it implies, and what it forbids beyond them.
struct Model {
    name: &'static str,
    aliases: &'static [&'static str],
    implies: &'static [&'static str],
    forbids: &'static [&'static str],
}

const fn model(
    name: &'static str,
    aliases: &'static [&'static str],
    implies: &'static [&'static str],
    forbids: &'static [&'static str],
) -> Model {
    Model { name, aliases, implies, forbids }
}

/// The models, the strongest first.
#[rustfmt::skip]
const MODELS: &[Model] = &[
    model("strict-serializable", &["strong-serializable", "PL-SS"],
        &["serializable", "linearizable", "snapshot-isolation", "strong-snapshot-isolation",
          "strong-session-serializable", "session-serializable"],
        &["G1", "G1c-realtime", "G2-realtime"]),
    model("strong-session-serializable", &[],
        &["serializable", "strong-session-snapshot-isolation"], &["G1-process", "G2-process"]),
    model("strong-snapshot-isolation", &[],
        &["strong-session-snapshot-isolation", "strong-read-committed"],
        &["internal", "G1-realtime", "G-nonadjacent-realtime"]),
    model("strong-session-snapshot-isolation", &[],
        &["snapshot-isolation", "strong-session-read-committed"],
        &["internal", "G1-process", "G-nonadjacent-process"]),
    model("serializable", &["conflict-serializable", "PL-3"],
        &["repeatable-read", "update-serializable", "snapshot-isolation", "view-serializable"],
        &["G1", "G2", "internal"]),
    model("session-serializable", &[], &["1SR"], &[]),
    model("1SR", &[], &[], &[]),
    model("view-serializable", &[], &[], &[]),
    model("update-serializable", &["PL-3U"], &["forward-consistent-view"], &["G1"]),
    model("repeatable-read", &["PL-2.99"],
        &["cursor-stability", "monotonic-atomic-view"], &["G1", "G2-item", "lost-update"]),
    model("snapshot-isolation", &["PL-SI"],
        &["forward-consistent-view", "monotonic-atomic-view", "monotonic-snapshot-read",
          "parallel-snapshot-isolation", "prefix"],
        &["internal", "G1", "G-nonadjacent"]),
    model("parallel-snapshot-isolation", &[], &["causal-cerone", "update-atomic"],
        &["internal", "G1a"]),
    model("prefix", &[], &["causal-cerone"], &["internal", "G1a"]),
    model("causal-cerone", &[], &["read-atomic"], &["internal", "G1a"]),
    model("update-atomic", &[], &["read-atomic"], &["lost-update"]),
    model("read-atomic", &[], &["monotonic-atomic-view"], &["internal", "G1a", "future-read"]),
    model("forward-consistent-view", &["PL-FCV"], &["consistent-view"], &["G1"]),
    model("consistent-view", &["PL-2+"], &["cursor-stability", "monotonic-view"],
        &["G1", "G-single"]),
    model("cursor-stability", &["PL-CS"], &["read-committed"], &["G1", "lost-update"]),
    model("monotonic-view", &["PL-2L"], &["read-committed"], &["G1"]),
    model("monotonic-snapshot-read", &["PL-MSR"], &["read-committed"], &["G1"]),
    model("monotonic-atomic-view", &[], &["read-committed"], &[]),
    model("strong-read-committed", &["strong-PL-2"],
        &["strong-session-read-committed", "strong-read-uncommitted"], &["G1c-realtime"]),
    model("strong-session-read-committed", &["strong-session-PL-2"],
        &["read-committed", "strong-session-read-uncommitted"], &["G1c-process"]),
    model("read-committed", &["PL-2"], &["read-uncommitted"], &["G1"]),
    model("strong-read-uncommitted", &["strong-PL-1"], &["strong-session-read-uncommitted"],
        &["G0-realtime"]),
    model("strong-session-read-uncommitted", &["strong-session-PL-1"], &["read-uncommitted"],
        &["G0-process"]),
    model("read-uncommitted", &["PL-1"], &[], &["G0", "duplicate-elements"]),
    model("linearizable", &[], &["sequential"], &[]),
    model("sequential", &[], &["causal"], &[]),
    model("causal", &[], &["writes-follow-reads", "PRAM"], &[]),
    model("PRAM", &[], &["monotonic-reads", "monotonic-writes", "read-your-writes"], &[]),
    model("writes-follow-reads", &[], &[], &[]),
    model("monotonic-reads", &[], &[], &[]),
    model("monotonic-writes", &[], &[], &[]),
    model("read-your-writes", &[], &[], &[]),
];

impl ConsistencyModel {
    /// The model of a name, also one of Adya's (`PL-3`).
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        find(name).map(|model| Self(model.name))
    }

    /// The names of all models, the strongest first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MODELS.iter().map(|model| model.name)
    }
}

fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name || model.aliases.contains(&name))
}

/// Everything that is reached from `start`, itself included.
fn closure(
    start: &[&'static str],
    next: impl Fn(&'static str) -> Vec<&'static str>,
) -> Vec<&'static str> {
    let mut seen = start.to_vec();
    let mut place = 0;
    while let Some(&at) = seen.get(place) {
        place += 1;
        for name in next(at) {
            if !seen.contains(&name) {
                seen.push(name);
            }
        }
    }
    seen
}

/// All anomalies that must not occur under a model.
pub(super) fn forbidden(model: &ConsistencyModel) -> Vec<&'static str> {
    let implied = closure(&[model.name()], |name| {
        find(name).map_or_else(Vec::new, |model| model.implies.to_vec())
    });
    let direct: Vec<&'static str> =
        implied.iter().filter_map(|name| find(name)).flat_map(|m| m.forbids).copied().collect();
    closure(&direct, |weak| {
        let cases = IS_CASE_OF.iter().filter(|(_, of)| of.contains(&weak));
        cases.map(|&(strong, _)| strong).collect()
    })
}

/// The weakest models that a history with these anomalies cannot keep to.
pub(super) fn ruled_out(anomalies: &[&str]) -> Vec<&'static str> {
    let is_out = |model: &&Model| {
        let forbidden = forbidden(&ConsistencyModel(model.name));
        anomalies.iter().any(|name| forbidden.contains(name))
    };
    let out: Vec<&Model> = MODELS.iter().filter(is_out).collect();
    let is_weakest = |model: &&&Model| {
        let implied = closure(model.implies, |name| {
            find(name).map_or_else(Vec::new, |model| model.implies.to_vec())
        });
        !out.iter().any(|other| implied.contains(&other.name))
    };
    let mut names: Vec<&'static str> = out.iter().filter(is_weakest).map(|m| m.name).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(model: &str, is_forbidden: &[&str], is_allowed: &[&str]) {
        let forbidden = forbidden(&ConsistencyModel::find(model).expect("a model"));
        for name in is_forbidden {
            assert!(forbidden.contains(name), "{model} should forbid {name}");
        }
        for name in is_allowed {
            assert!(!forbidden.contains(name), "{model} should allow {name}");
        }
    }

    #[test]
    fn stronger_models_forbid_more() {
        check("read-uncommitted", &["G0", "duplicate-elements"], &["G1a", "G1c", "internal"]);
        check(
            "read-committed",
            &["G0", "G1a", "G1b", "G1c", "dirty-update", "incompatible-order", "future-read"],
            &["internal", "lost-update", "G-single-item", "G1c-realtime"],
        );
        check(
            "snapshot-isolation",
            &["internal", "lost-update", "G-single-item", "G-nonadjacent-item"],
            &["G2-item", "G-single-item-process", "G0-realtime"],
        );
        check("serializable", &["G2-item"], &["G2-item-process", "G-single-item-realtime"]);
        check(
            "strong-session-serializable",
            &["G2-item-process", "G1c-process", "G-single-item-process"],
            &["G2-item-realtime", "G0-realtime"],
        );
        check("PL-SS", &["G2-item-realtime", "G0-realtime", "G2-item-process"], &[]);
    }

    #[test]
    fn every_name_in_the_tables_is_known() {
        for model in MODELS {
            for name in model.implies {
                assert!(find(name).is_some_and(|m| m.name == *name), "{name} is no model");
            }
        }
    }

    #[test]
    fn the_weakest_models_ruled_out_are_named() {
        assert_eq!(ruled_out(&["G-single-item"]), ["consistent-view", "repeatable-read"]);
        assert_eq!(ruled_out(&["G2-item"]), ["repeatable-read"]);
        assert_eq!(ruled_out(&["G0"]), ["read-uncommitted"]);
    }
}
