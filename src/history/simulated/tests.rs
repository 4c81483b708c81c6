use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn events(plan: Plan, seed: u64) -> Vec<Event> {
    Simulation::new(plan, &Chance::from_seed(seed)).collect()
}

/// What is wrong with a history, by naive reading of the definitions.
fn wrongs(events: &[Event]) -> BTreeSet<&'static str> {
    let mut wrong = BTreeSet::new();
    let mut log: BTreeMap<(i64, i64), BTreeSet<i64>> = BTreeMap::new();
    let mut failed = BTreeSet::new();
    let mut acked = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for event in events.iter().filter(|event| event.event_type != EventType::Invoke) {
        let EventValue::Mops(mops) = &event.value else { continue };
        let ok = event.event_type == EventType::Ok;
        for mop in mops {
            match mop {
                Mop::Send { key, value, .. } if event.event_type == EventType::Fail => {
                    failed.insert((*key, *value));
                }
                Mop::Send { key, value, offset, .. } if ok => {
                    acked.insert((*key, *value));
                    offset.map(|offset| log.entry((*key, offset)).or_default().insert(*value));
                }
                Mop::Poll { records: Some(runs) } => {
                    for (key, records) in runs {
                        for (offset, value) in records {
                            log.entry((*key, *offset)).or_default().insert(*value);
                            if ok {
                                seen.insert((*key, *value));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }
    let mut places: BTreeMap<(i64, i64), usize> = BTreeMap::new();
    for ((key, _), values) in &log {
        wrong.extend((values.len() > 1).then_some("inconsistent-offsets"));
        for value in values {
            *places.entry((*key, *value)).or_default() += 1;
        }
    }
    wrong.extend(places.values().any(|places| *places > 1).then_some("duplicate"));
    wrong.extend((!seen.is_disjoint(&failed)).then_some("G1a"));
    wrong.extend((!acked.is_subset(&seen)).then_some("unseen"));
    let offsets: BTreeSet<_> = log.keys().copied().collect();
    sequences(events, &offsets, &mut wrong);
    wrong
}

/// Each process must read each partition record by record.
fn sequences(events: &[Event], offsets: &BTreeSet<(i64, i64)>, wrong: &mut BTreeSet<&'static str>) {
    let mut last: BTreeMap<(Process, i64), i64> = BTreeMap::new();
    for event in events.iter().filter(|event| event.event_type != EventType::Invoke) {
        let EventValue::Mops(mops) = &event.value else { continue };
        let mut now = last.clone();
        let mut sent = BTreeSet::new();
        for mop in mops {
            match mop {
                Mop::Send { key, value, .. } => {
                    sent.insert((*key, *value));
                }
                Mop::Poll { records } => {
                    for (key, records) in records.iter().flatten() {
                        for (offset, value) in records {
                            if sent.contains(&(*key, *value)) {
                                wrong.insert("precommitted-read");
                            }
                            let before = now.insert((event.process.clone(), *key), *offset);
                            let Some(before) = before else { continue };
                            if *offset <= before {
                                wrong.insert("nonmonotonic-poll");
                            } else if offsets
                                .range((*key, before + 1)..(*key, *offset))
                                .next()
                                .is_some()
                            {
                                wrong.insert("poll-skip");
                            }
                        }
                    }
                }
            }
        }
        if event.event_type == EventType::Ok {
            last = now;
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_history() {
    assert_eq!(events(Plan::faulty(500), 3), events(Plan::faulty(500), 3));
    assert_ne!(events(Plan::clean(500), 3), events(Plan::clean(500), 4));
}

#[test]
fn clean_plans_make_clean_histories() {
    for seed in 0..4 {
        let small = Plan { writes_per_key: 16, abort_p: 0.2, info_p: 0.05, ..Plan::clean(1_500) };
        let knot = Plan { crash_p: 0.02, ..Plan::knot(400) };
        for plan in [small, knot, Plan::clean(1_000)] {
            let events = events(plan.clone(), seed);
            assert_eq!(wrongs(&events), BTreeSet::new(), "{plan:?} {seed}");
            let types: BTreeSet<_> = events.iter().map(|event| event.event_type).collect();
            assert_eq!(types.len(), 4, "{plan:?} {seed}");
        }
    }
}

#[test]
fn each_fault_shows_under_its_name() {
    let plan = Plan { fault_p: 0.005, writes_per_key: 64, ..Plan::clean(4_000) };
    let mut simulation = Simulation::new(plan, &Chance::from_seed(1));
    let events: Vec<_> = simulation.by_ref().collect();
    let wrongs = wrongs(&events);
    for (fault, count) in simulation.injected() {
        assert!(count > 0, "{fault} was never put in");
        let shown = if fault == "lost-write" { "unseen" } else { fault };
        assert!(wrongs.contains(shown), "{fault} does not show: {wrongs:?}");
    }
}

#[test]
fn partitions_take_turns_and_old_ones_are_forgotten() {
    let plan = Plan { writes_per_key: 32, ..Plan::clean(4_000) };
    let mut simulation = Simulation::new(plan, &Chance::from_seed(2));
    let mut most = 0;
    while simulation.next().is_some() {
        most = most.max(simulation.logs.len());
    }
    assert!(simulation.next_key > 100, "{} keys", simulation.next_key);
    assert!(most < 60, "{most} logs kept");
}
