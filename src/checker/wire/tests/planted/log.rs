//! L1 to L5, L8 and L9: what stands in a log.

use kafka_wire::{ApiKey, DecodeError, DecodeErrorKind};

use super::super::scene::*;
use super::{P_FIRST, changed, check};
use crate::checker::wire::Invariant;

#[test]
fn l1_two_batches_of_one_answer_claim_an_offset() {
    check(Invariant::L1, |scene, broken| {
        let second = if broken { 1 } else { 2 };
        scene.fetch(read(vec![plain((-1, -1), 0, -1, 2), plain((-1, -1), second, -1, 1)]));
    });
}

#[test]
fn l2_a_batch_does_not_match_its_checksum() {
    check(Invariant::L2, |scene, broken| {
        let kind = DecodeErrorKind::Checksum { stored: 1, computed: 2 };
        let error = DecodeError { byte_offset: 17, path: "batches[0].crc".into(), kind };
        let corrupt = changed(plain((-1, -1), 0, -1, 1), |batch| {
            batch.corrupt = broken.then_some(error);
            batch.unreadable = true;
        });
        scene.fetch(read(vec![corrupt]));
    });
}

#[test]
fn l3_a_sequence_is_missing_from_the_log() {
    check(Invariant::L3, |scene, broken| {
        // Where an offset is missing too, the batch between may have been compacted away.
        let next = if broken { 2 } else { 3 };
        scene.fetch(read(vec![plain(P, 0, 0, 2), plain(P, next, 3, 1)]));
    });
}

#[test]
fn l3_sequences_wrap_and_begin_again_with_an_epoch() {
    let mut scene = Scene::new();
    let last = i32::MAX - 1;
    let batches = vec![plain(P, 0, last, 3), plain(P, 3, 1, 1), plain((9, 1), 4, 0, 1)];
    scene.fetch(read(batches));
    assert_eq!(scene.names(), [""; 0]);
    let mut scene = Scene::new();
    scene.fetch(read(vec![plain(P, 0, 0, 1), plain((9, 1), 1, 1, 1)]));
    assert_eq!(scene.names(), [Invariant::L3.name()]);
}

#[test]
fn l4_an_epoch_goes_down_along_the_log() {
    check(Invariant::L4, |scene, broken| {
        let epochs = if broken { (1, 0) } else { (0, 1) };
        scene.fetch(read(vec![plain((9, epochs.0), 0, 0, 1), plain((9, epochs.1), 1, 0, 1)]));
    });
}

#[test]
fn l5_a_transaction_begins_before_the_marker_of_the_one_before_it() {
    check(Invariant::L5, |scene, broken| {
        let between = if broken { plain((-1, -1), 1, -1, 1) } else { marker((9, 1), 1, true) };
        let last = marker((9, 1), 3, true);
        let mut fetched = read(vec![data(P, 0, 0, 1), between, data((9, 1), 2, 0, 1), last]);
        fetched.last_stable_offset = -1;
        scene.fetch(fetched);
    });
}

#[test]
fn l5_a_decided_transaction_has_no_marker_though_the_log_was_read_to_its_end_long_after() {
    check(Invariant::L5, |scene, broken| {
        scene.init(P);
        scene.produce(data(P, 1, 0, 1), (0, 1));
        scene.end(P, true);
        // Markers are written after the answer, by a coordinator in trouble long after.
        scene.pass_s(if broken { 100 } else { 40 });
        let mut fetched = read(vec![marker((8, 0), 0, true), data(P, 1, 0, 1)]);
        fetched.last_stable_offset = -1;
        scene.fetch(fetched);
    });
}

#[test]
fn l8_the_leader_epoch_goes_down_along_the_log() {
    check(Invariant::L8, |scene, broken| {
        let of = |base, epoch| {
            changed(plain((-1, -1), base, -1, 1), |batch| {
                batch.header.partition_leader_epoch.0 = epoch;
            })
        };
        let epochs = if broken { (3, 2) } else { (3, -1) };
        scene.fetch(read(vec![of(0, epochs.0), of(1, epochs.1), of(2, 3)]));
    });
}

#[test]
fn l9_an_offset_is_returned_twice_with_different_records() {
    check(Invariant::L9, |scene, broken| {
        scene.fetch(read(vec![plain((-1, -1), 0, -1, 2)]));
        let other = changed(plain((-1, -1), 0, -1, 2), |batch| {
            batch.content ^= 1;
            // Fewer records in the same place: compaction.
            batch.header.record_count = if broken { 2 } else { 1 };
        });
        scene.fetch(read(vec![other]));
    });
}

#[test]
fn l9_a_batch_is_missing_from_a_second_answer() {
    check(Invariant::L9, |scene, broken| {
        let of = |base| changed(plain((-1, -1), base, -1, 1), |batch| batch.keyed = !broken);
        scene.fetch(read(vec![of(0), of(1), of(2)]));
        scene.fetch(read(vec![of(0), of(2)]));
    });
}

#[test]
fn l9_a_committed_batch_is_missing_from_a_second_answer() {
    check(Invariant::L9, |scene, broken| {
        let whole = [data(P, 0, 0, 1), data(P, 1, 1, 1), marker(P, 2, broken)];
        let aborted = if broken { vec![] } else { vec![P_FIRST] };
        let mut first = read(whole.to_vec());
        first.aborted = aborted.clone();
        scene.fetch(first);
        // Aborted records may be left out for consumers of committed ones.
        let mut second = read(vec![whole[0].clone(), whole[2].clone()]);
        second.aborted = aborted;
        scene.fetch(second);
    });
}

#[test]
fn l9_a_batch_appears_where_there_was_none() {
    check(Invariant::L9, |scene, broken| {
        let aborted = [data((8, 0), 2, 1, 1), marker((8, 0), 3, false)];
        let mut first = read([vec![plain(P, 0, 0, 1)], aborted.to_vec()].concat());
        first.aborted = vec![(8, 1)];
        scene.fetch(first);
        // A broker may leave aborted records out for consumers of committed ones.
        let between = if broken { plain((-1, -1), 1, -1, 1) } else { data((8, 0), 1, 0, 1) };
        let mut second = read(vec![plain(P, 0, 0, 1), between]);
        (second.high_watermark, second.last_stable_offset) = (4, 4);
        scene.exchange(ApiKey::FETCH, 12, fetch(false, vec![second]));
    });
}

#[test]
fn a_fetch_session_returns_what_its_client_has_moved_on_from() {
    // Of two batches up to offset 3 that a session had returned; each `(position, first)` is one
    // more answer.
    let again = |position, first, returned_to| {
        let mut fetched = read(vec![plain((-1, -1), first, -1, 2)]);
        fetched.fetch_offset = position;
        fetched.returned_to = returned_to;
        (fetched.high_watermark, fetched.last_stable_offset) = (9, 9);
        fetched
    };
    let names = |fetched: crate::history::facts::Fetched| {
        let mut scene = Scene::new();
        scene.fetch(fetched);
        scene.finish().anomalies.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names(again(Some(4), 2, Some(3))), ["nonmonotonic-poll"]);
    // The batch holds the position; the client went back; it did not move; the session began anew,
    // or not all of it was seen; nobody was given that yet.
    let near = [
        again(Some(3), 2, Some(3)),
        again(Some(0), 0, Some(3)),
        again(Some(2), 2, Some(3)),
        again(Some(4), 2, Some(-1)),
        again(Some(4), 2, None),
        again(None, 2, Some(3)),
        again(Some(9), 4, Some(3)),
    ];
    for fetched in near {
        assert_eq!(names(fetched.clone()), [""; 0], "{fetched:?}");
    }
    // Message sets of old clients are made anew of what is in the log.
    let mut old = again(Some(4), 2, Some(3));
    old.batches[0].header.magic = 1;
    assert_eq!(names(old), [""; 0]);
}

#[test]
fn l2_a_corrupt_batch_is_acknowledged() {
    check(Invariant::L2, |scene, broken| {
        let kind = DecodeErrorKind::Checksum { stored: 1, computed: 2 };
        let error = DecodeError { byte_offset: 17, path: "batches[0].crc".into(), kind };
        let corrupt = changed(plain(P, 0, 0, 1), |batch| batch.corrupt = Some(error));
        scene.produce(corrupt, if broken { (0, 0) } else { (2, -1) });
    });
}

#[test]
fn l3_a_gap_in_the_sequence_is_acknowledged() {
    check(Invariant::L3, |scene, broken| {
        scene.produce(plain(P, 0, 0, 2), (0, 0));
        // What is missing may stand in between.
        scene.produce(plain(P, 0, 7, 1), (0, if broken { 2 } else { 7 }));
    });
}

#[test]
fn l5_two_transactions_have_one_marker() {
    check(Invariant::L5, |scene, broken| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 0));
        scene.end(P, true);
        scene.produce(data(P, 0, 1, 1), (0, 2));
        scene.end(P, true);
        let mut log =
            vec![data(P, 0, 0, 1), marker(P, 1, true), data(P, 2, 1, 1), marker(P, 3, true)];
        if broken {
            log.remove(1);
        }
        scene.fetch(read(log));
    });
}
