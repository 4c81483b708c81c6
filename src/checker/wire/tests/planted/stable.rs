//! L6 and L7: what consumers of committed records are told.

use kafka_wire::ApiKey;

use super::super::scene::*;
use super::{P_FIRST, check};
use crate::checker::wire::Invariant;

#[test]
fn l6_the_high_watermark_goes_back_under_one_leader() {
    check(Invariant::L6, |scene, broken| {
        let mut second = read(vec![plain((-1, -1), 0, -1, 1)]);
        scene.fetch(read(vec![plain((-1, -1), 0, -1, 1), plain((-1, -1), 1, -1, 1)]));
        second.leader_epoch = Some(if broken { 0 } else { 1 });
        scene.fetch(second);
    });
}

#[test]
fn l6_the_last_stable_offset_is_beyond_the_high_watermark() {
    check(Invariant::L6, |scene, broken| {
        let mut first = read(vec![plain((-1, -1), 0, -1, 1)]);
        first.last_stable_offset = 2;
        let mut second = read(vec![plain((-1, -1), 0, -1, 1)]);
        // A broker reads the two numbers one after the other: the log may have grown between.
        second.high_watermark = if broken { 1 } else { 3 };
        second.last_stable_offset = second.high_watermark.max(2);
        second.leader_epoch = None;
        scene.fetch(first);
        scene.fetch(second);
    });
}

#[test]
fn l6_the_last_stable_offset_passes_an_open_transaction() {
    check(Invariant::L6, |scene, broken| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 0));
        let mut early = read(vec![]);
        (early.high_watermark, early.last_stable_offset) = (1, if broken { 1 } else { 0 });
        scene.fetch(early);
        scene.end(P, true);
        scene.fetch(read(vec![data(P, 0, 0, 1), marker(P, 1, true)]));
    });
}

#[test]
fn l6_the_last_stable_offset_stays_at_a_transaction_that_ended() {
    check(Invariant::L6, |scene, broken| {
        scene.fetch(read(vec![data(P, 0, 0, 1), marker(P, 1, true)]));
        for _ in 0..2 {
            let mut stuck = read(vec![]);
            stuck.leader_epoch = None;
            (stuck.high_watermark, stuck.last_stable_offset) = (if broken { 2 } else { 1 }, 0);
            scene.fetch(stuck);
        }
    });
}

#[test]
fn l7_the_aborted_list_does_not_name_an_aborted_transaction() {
    check(Invariant::L7, |scene, broken| {
        let mut fetched = read(vec![data(P, 0, 0, 1), marker(P, 1, false)]);
        fetched.aborted = if broken { vec![] } else { vec![P_FIRST] };
        scene.fetch(fetched);
    });
}

#[test]
fn l7_the_aborted_list_hides_a_committed_transaction() {
    check(Invariant::L7, |scene, broken| {
        let aborted = [data(P, 0, 0, 1), marker(P, 1, false)];
        let committed = [data(P, 2, 1, 1), marker(P, 3, true)];
        let mut fetched = read([aborted, committed].concat());
        // A list may name what begins after the answer.
        fetched.aborted = vec![P_FIRST, (P.0, if broken { 2 } else { 9 })];
        scene.fetch(fetched);
    });
}

#[test]
fn l7_a_fetch_returns_what_lies_above_its_own_last_stable_offset() {
    check(Invariant::L7, |scene, broken| {
        let mut first = read(vec![data(P, 0, 0, 1)]);
        first.last_stable_offset = 0;
        scene.fetch(first);
        let mut second = read(vec![]);
        // The marker's own place may have been there already, and not yet be stable.
        (second.high_watermark, second.last_stable_offset) = (1, if broken { 0 } else { 1 });
        scene.fetch(second);
    });
}

#[test]
fn l7_records_are_returned_before_their_transaction_is_decided() {
    check(Invariant::L7, |scene, broken| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 0));
        let held = scene.send();
        if broken {
            scene.fetch(read(vec![data(P, 0, 0, 1)]));
            let held = scene.send();
            scene.answer(held, ApiKey::END_TXN, 4, end(P, true, Some(0)));
        } else {
            // The fetch is answered while EndTxn is under way.
            scene.fetch(read(vec![data(P, 0, 0, 1)]));
            scene.answer(held, ApiKey::END_TXN, 4, end(P, true, Some(0)));
        }
        scene.fetch(read(vec![data(P, 0, 0, 1), marker(P, 1, true)]));
    });
}

#[test]
fn l7_a_transaction_that_was_to_be_aborted_is_committed_and_the_abort_refused() {
    for commit_was_sent in [false, true] {
        let mut scene = Scene::new();
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 0));
        if commit_was_sent {
            // Nobody knows what became of it: it may well have committed.
            let held = scene.send();
            scene.answer(held, ApiKey::END_TXN, 4, end(P, true, None));
        }
        scene.fetch(read(vec![data(P, 0, 0, 1), marker(P, 1, true)]));
        let held = scene.send();
        scene.answer(held, ApiKey::END_TXN, 4, end(P, false, Some(48)));
        let found = scene.finish();
        let names = [found.anomalies.into_keys(), found.operations.into_keys()];
        let names: Vec<String> = names.into_iter().flatten().collect();
        let wanted: &[&str] =
            if commit_was_sent { &[] } else { &["L7-aborted-data-exposed", "G1a"] };
        assert_eq!(names, wanted);
    }
}
