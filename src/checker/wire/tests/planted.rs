//! One violation of each invariant, and beside it the legal thing that looks most like it.

use kafka_wire::{ApiKey, DecodeError, DecodeErrorKind};

use super::scene::*;
use crate::checker::wire::Invariant;
use crate::history::facts::{BatchFacts, Deed, Ending};
use crate::history::wire::Unanswered;

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

const P_FIRST: (i64, i64) = (P.0, 0);

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
fn p1_another_batch_stands_at_an_acknowledged_offset() {
    check(Invariant::P1, |scene, broken| {
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        let there = if broken { plain((8, 0), 0, 0, 1) } else { plain(P, 0, 0, 1) };
        scene.fetch(read(vec![there]));
    });
}

#[test]
fn p1_nothing_stands_at_an_acknowledged_offset() {
    check(Invariant::P1, |scene, broken| {
        // What has a key may have been compacted away, but for what takes records without one.
        let keyed = |batch| changed(batch, |batch| batch.keyed = !broken);
        scene.produce(keyed(plain(P, 0, 0, 1)), (0, 1));
        let around = [plain((8, 0), 0, 0, 1), plain((8, 0), 2, 1, 1)];
        scene.fetch(read(around.map(keyed).to_vec()));
    });
}

#[test]
fn p1_a_record_is_missing_whose_key_no_later_one_has() {
    check(Invariant::P1, |scene, broken| {
        let keyed = |batch, key: u32| {
            changed(batch, |batch| {
                batch.keyed = true;
                (batch.keys, batch.lasting_keys) = (1 << key, 1 << key);
            })
        };
        scene.produce(keyed(plain(P, 0, 0, 1), 4), (0, 1));
        let later = if broken { 5 } else { 4 };
        let around = [keyed(plain((8, 0), 0, 0, 1), 4), keyed(plain((8, 0), 2, 1, 1), later)];
        let mut answer = read(around.to_vec());
        answer.high_watermark = 3;
        scene.fetch(answer);
    });
}

/// What one leader says of the end of a log that it acknowledged an offset of; whether the log was
/// read from it before, under that epoch.
fn ends(scene: &mut Scene, epochs: [Option<i32>; 2], end: i64, connection: u64) {
    let fetch = |scene: &mut Scene, epoch: Option<i32>, end: i64| {
        let mut fetched = read(vec![]);
        fetched.leader_epoch = epoch;
        (fetched.high_watermark, fetched.last_stable_offset) = (end, end);
        scene.fetch(fetched);
    };
    scene.produce(plain((8, 0), 0, 0, 1), (0, 0));
    fetch(scene, epochs[0], 7);
    scene.produce(plain(P, 0, 0, 1), (0, 7));
    scene.pass_s(5);
    scene.on(connection);
    fetch(scene, epochs[1], end);
    // The topic is the same: the batch before stays where it is.
    let mut before = read(vec![plain((8, 0), 0, 0, 1)]);
    before.leader_epoch = epochs[1];
    (before.high_watermark, before.last_stable_offset) = (end, end);
    scene.fetch(before);
}

#[test]
fn p1_the_log_ends_below_an_acknowledged_offset() {
    check(Invariant::P1, |scene, broken| {
        ends(scene, [Some(3), Some(3)], if broken { 7 } else { 8 }, 1);
    });
    check(Invariant::P1, |scene, broken| ends(scene, [None, None], if broken { 7 } else { 8 }, 0));
    // A leader that has just been elected may say less for a while; so may another.
    for (epochs, connection) in [
        ([Some(2), Some(3)], 0),
        ([Some(2), None], 0),
        ([None, None], 1),
        ([Some(3); 2], ELSEWHERE),
    ] {
        let mut scene = Scene::new();
        ends(&mut scene, epochs, 7, connection);
        assert_eq!(scene.names(), [""; 0], "{epochs:?}");
    }
}

#[test]
fn p1_two_batches_are_acknowledged_with_one_offset() {
    check(Invariant::P1, |scene, broken| {
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        scene.produce(plain((8, 0), 0, 0, 1), (0, if broken { 0 } else { 1 }));
        // The topic was not created anew: the log goes on where it would.
        scene.produce(plain((8, 0), 0, 1, 1), (0, 2));
    });
    // Of a topic that has a name alone two may have been meant.
    check(Invariant::P1, |scene, broken| {
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        scene.pass_s(5);
        scene.produce(plain((8, 0), 0, 0, 1), (0, 0));
        scene.produce(plain((8, 0), 0, 1, 1), (0, if broken { 2 } else { 1 }));
    });
}

#[test]
fn p1_two_batches_are_acknowledged_with_offsets_that_overlap() {
    check(Invariant::P1, |scene, broken| {
        scene.produce(plain(P, 0, 0, 4), (0, 0));
        scene.produce(plain((8, 0), 0, 0, 2), (0, if broken { 3 } else { 4 }));
        scene.produce(plain((8, 0), 0, 2, 1), (0, 6));
    });
}

#[test]
fn p1_an_acknowledged_offset_is_below_that_of_a_batch_sent_before() {
    check(Invariant::P1, |scene, broken| {
        scene.produce(plain((-1, -1), 0, -1, 1), (0, 7));
        // On another connection nothing says that there was one leader.
        scene.on(u64::from(!broken)).produce(plain((-1, -1), 0, -1, 1), (0, 3));
        scene.on(0).produce(plain((-1, -1), 0, -1, 1), (0, 9));
    });
}

#[test]
fn p1_a_batch_stands_elsewhere_than_was_said() {
    check(Invariant::P1, |scene, broken| {
        scene.produce(plain(P, 0, 0, 2), (0, if broken { 1 } else { 0 }));
        scene.fetch(read(vec![plain(P, 0, 0, 2)]));
    });
}

#[test]
fn p1_a_batch_is_read_that_makes_no_sense_any_more() {
    check(Invariant::P1, |scene, broken| {
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        let other = if broken { P } else { (8, 0) };
        scene.fetch(read(vec![changed(plain(other, 0, 0, 1), |batch| batch.unreadable = true)]));
    });
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

#[test]
fn p4_the_next_transaction_is_given_the_epoch_of_the_last() {
    check(Invariant::P4, |scene, broken| {
        let mut deed = end(P, true, Some(0));
        if let Deed::EndTxn { next, .. } = &mut deed {
            *next = Some((P.0, if broken { P.1 } else { P.1 + 1 }));
        }
        scene.exchange(ApiKey::END_TXN, 5, deed);
    });
}

#[test]
fn g3_an_offset_is_told_that_nobody_committed() {
    check_with(Invariant::G3, &["consumer-offset-regression"], |scene, broken| {
        scene.exchange(ApiKey::JOIN_GROUP, 9, joined(1, "a"));
        scene.exchange(ApiKey::OFFSET_COMMIT, 7, Deed::OffsetCommit(offsets(1, "a", 9)));
        scene.exchange(ApiKey::OFFSET_FETCH, 5, offset_fetched(4, false));
        if broken {
            // Without a member in between, an administrator may have set it.
            scene.exchange(ApiKey::OFFSET_COMMIT, 7, Deed::OffsetCommit(offsets(1, "a", 9)));
        }
    });
}

#[test]
fn p2_a_batch_sent_again_gets_another_offset() {
    check(Invariant::P2, |scene, broken| {
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        scene.produce(plain(P, 0, 0, 1), (0, if broken { 1 } else { 0 }));
        scene.produce(plain(P, 0, 0, 1), (46, -1));
    });
}

#[test]
fn p2_a_batch_stands_in_the_log_twice() {
    check(Invariant::P2, |scene, broken| {
        // The same records from a client without idempotence are the client's doing.
        let of = if broken { P } else { (-1, -1) };
        let sequence = if broken { 0 } else { -1 };
        scene.fetch(read(vec![plain(of, 0, sequence, 1), plain(of, 1, sequence, 1)]));
    });
}

#[test]
fn p3_a_fenced_producer_is_told_that_its_batch_was_written() {
    check(Invariant::P3, |scene, broken| {
        scene.init(P);
        let early = scene.send();
        scene.init((9, 2));
        let late = scene.send();
        // Sent before the fence, it may have been written before the fence.
        let sent = if broken { late } else { early };
        scene.answer(sent, ApiKey::PRODUCE, 11, produce(data(P, 0, 0, 1), (0, 0)));
    });
}

#[test]
fn p3_a_fenced_producer_begins_and_ends_transactions() {
    for deed in [
        end(P, true, Some(0)),
        Deed::AddPartitionsToTxn {
            asked: asked(P.0, P.1),
            partitions: vec![],
            errors: Some(vec![0]),
        },
        Deed::AddOffsetsToTxn { asked: asked(P.0, P.1), group: "g".into(), error: Some(0) },
        txn_offsets(P, 1),
    ] {
        check(Invariant::P3, |scene, broken| {
            scene.init(P);
            let early = scene.send();
            scene.init((9, 1));
            let late = scene.send();
            let sent = if broken { late } else { early };
            scene.answer(sent, ApiKey::END_TXN, 4, deed.clone());
        });
    }
}

#[test]
fn p4_two_producers_are_given_one_epoch() {
    check(Invariant::P4, |scene, broken| {
        scene.init(P);
        let (id, asked) = if broken { ("y", (-1, -1)) } else { ("x", P) };
        scene.exchange(ApiKey::INIT_PRODUCER_ID, 5, init(id, asked, P));
    });
}

#[test]
fn p5_a_transaction_acknowledged_as_committed_is_aborted() {
    check(Invariant::P5, |scene, broken| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 0));
        // Without an answer nobody promised anything.
        let held = scene.send();
        match broken {
            true => scene.answer(held, ApiKey::END_TXN, 4, end(P, true, Some(0))),
            false => scene.lose(held, ApiKey::END_TXN, 4, end(P, true, None)),
        }
        let mut fetched = read(vec![data(P, 0, 0, 1), marker((9, 1), 1, false)]);
        fetched.aborted = vec![P_FIRST];
        scene.fetch(fetched);
    });
}

#[test]
fn p6_a_delayed_commit_decides_the_next_transaction() {
    check(Invariant::P6, |scene, broken| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 0));
        let delayed = scene.send();
        scene.end(P, true);
        scene.produce(data(P, 2, 1, 1), (0, 2));
        scene.answer(delayed, ApiKey::END_TXN, 4, end(P, true, Some(0)));
        scene.end(P, false);
        let mut batches = vec![data(P, 0, 0, 1), marker(P, 1, true), data(P, 2, 1, 1)];
        batches.push(marker(P, 3, broken));
        let mut fetched = read(batches);
        fetched.aborted = if broken { vec![] } else { vec![(P.0, 2)] };
        scene.fetch(fetched);
    });
}

#[test]
fn p6_a_commit_marker_is_there_before_its_end_was_sent() {
    check(Invariant::P6, |scene, broken| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 0));
        let before = scene.send();
        let mut fetched = read(vec![data(P, 0, 0, 1), marker(P, 1, true)]);
        fetched.last_stable_offset = -1;
        scene.fetch(fetched);
        let after = scene.send();
        let sent = if broken { after } else { before };
        scene.answer(sent, ApiKey::END_TXN, 4, end(P, true, Some(0)));
    });
}

#[test]
fn p7_a_transaction_stays_open_beyond_its_timeout() {
    check(Invariant::P7, |scene, broken| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 0));
        scene.pass_s(if broken { 120 } else { 10 });
        let mut fetched = read(vec![data(P, 0, 0, 1)]);
        fetched.last_stable_offset = 0;
        fetched.batches.clear();
        scene.fetch(fetched);
        scene.exchange(
            ApiKey::FETCH,
            12,
            fetch(false, vec![read(vec![data(P, 0, 0, 1)])].map_lso(0)),
        );
    });
}

/// Sets the last stable offset of what was fetched.
trait MapLso {
    fn map_lso(self, last_stable_offset: i64) -> Self;
}

impl MapLso for Vec<crate::history::facts::Fetched> {
    fn map_lso(mut self, last_stable_offset: i64) -> Self {
        for fetched in &mut self {
            fetched.last_stable_offset = last_stable_offset;
        }
        self
    }
}

#[test]
fn p8_the_offset_of_an_aborted_transaction_is_visible() {
    check(Invariant::P8, |scene, broken| {
        scene.init(P);
        scene.exchange(ApiKey::JOIN_GROUP, 5, joined(1, "a"));
        scene.exchange(ApiKey::SYNC_GROUP, 3, synced(1, "a", true, &[0]));
        scene.exchange(ApiKey::OFFSET_COMMIT, 8, Deed::OffsetCommit(offsets(1, "a", 5)));
        commit_in_transaction(scene, (1, "a"), 9);
        scene.end(P, false);
        scene.exchange(ApiKey::OFFSET_FETCH, 7, offset_fetched(if broken { 9 } else { 5 }, true));
    });
}

#[test]
fn p8_the_only_offset_is_that_of_an_aborted_transaction() {
    check(Invariant::P8, |scene, broken| {
        scene.init(P);
        scene.exchange(ApiKey::JOIN_GROUP, 5, joined(1, "a"));
        scene.exchange(ApiKey::SYNC_GROUP, 3, synced(1, "a", true, &[0]));
        scene.exchange(ApiKey::OFFSET_FETCH, 7, offset_fetched(-1, true));
        commit_in_transaction(scene, (1, "a"), 9);
        scene.end(P, false);
        scene.exchange(ApiKey::OFFSET_FETCH, 7, offset_fetched(if broken { 9 } else { -1 }, true));
    });
}

fn commit_in_transaction(scene: &mut Scene, (generation, member): (i32, &str), offset: i64) {
    let offsets = offsets(generation, member, offset);
    let commit = Deed::TxnOffsetCommit { asked: asked(P.0, P.1), offsets };
    scene.exchange(ApiKey::TXN_OFFSET_COMMIT, 3, commit);
}

#[test]
fn p8_the_offset_of_a_committed_transaction_is_not_visible() {
    check_with(Invariant::P8, &["consumer-offset-regression"], |scene, broken| {
        scene.init(P);
        scene.exchange(ApiKey::OFFSET_COMMIT, 8, Deed::OffsetCommit(offsets(-1, "", 5)));
        scene.exchange(ApiKey::TXN_OFFSET_COMMIT, 3, txn_offsets(P, 9));
        scene.end(P, true);
        // Who does not wait for stable offsets may come before the marker.
        scene.exchange(ApiKey::OFFSET_FETCH, 7, offset_fetched(5, broken));
    });
}

#[test]
fn g1_two_members_have_one_partition_in_one_generation() {
    check(Invariant::G1, |scene, broken| {
        scene.exchange(ApiKey::JOIN_GROUP, 5, joined(1, "a"));
        scene.exchange(ApiKey::JOIN_GROUP, 5, joined(1, "b"));
        scene.exchange(ApiKey::SYNC_GROUP, 3, synced(1, "a", true, &[0, 1]));
        scene.exchange(ApiKey::SYNC_GROUP, 3, synced(1, "b", false, &[2]));
        scene.exchange(ApiKey::JOIN_GROUP, 5, joined(2, "b"));
        let generation = if broken { 1 } else { 2 };
        scene.exchange(ApiKey::SYNC_GROUP, 3, synced(generation, "b", true, &[1, 2]));
    });
}

#[test]
fn g1_two_members_have_one_partition_at_one_member_epoch() {
    check(Invariant::G1, |scene, broken| {
        for (name, epoch) in [("a", 3), ("b", if broken { 3 } else { 4 })] {
            scene.exchange(
                ApiKey::CONSUMER_GROUP_HEARTBEAT,
                1,
                Deed::ConsumerGroupHeartbeat {
                    member: member(epoch - 1, name),
                    answer: Some((0, epoch, Some(name.into()))),
                    assigned: Some(vec![(topic(), 0)]),
                },
            );
        }
    });
}

#[test]
fn g2_a_commit_of_an_old_generation_is_accepted() {
    check(Invariant::G2, |scene, broken| {
        scene.exchange(ApiKey::JOIN_GROUP, 5, joined(1, "a"));
        let early = scene.send();
        scene.exchange(ApiKey::JOIN_GROUP, 5, joined(2, "b"));
        let late = scene.send();
        let sent = if broken { late } else { early };
        scene.answer(sent, ApiKey::OFFSET_COMMIT, 7, Deed::OffsetCommit(offsets(1, "a", 5)));
    });
}

#[test]
fn g2_a_member_that_left_commits() {
    check(Invariant::G2, |scene, broken| {
        scene.exchange(ApiKey::JOIN_GROUP, 5, joined(1, "a"));
        let left = |error| Deed::LeaveGroup {
            group: "g".into(),
            members: vec!["a".into()],
            error: Some(error),
        };
        scene.exchange(ApiKey::LEAVE_GROUP, 3, left(if broken { 0 } else { 25 }));
        scene.exchange(ApiKey::OFFSET_COMMIT, 7, Deed::OffsetCommit(offsets(1, "a", 5)));
    });
}

#[test]
fn g3_a_committed_offset_is_gone() {
    // An offset that is gone altogether sends the reader to its reset policy, not back.
    let beside: &[&str] = &["consumer-offset-regression"];
    for (lost, beside) in [(-1, &[][..]), (3, beside)] {
        check_with(Invariant::G3, beside, |scene, broken| {
            scene.exchange(ApiKey::OFFSET_COMMIT, 7, Deed::OffsetCommit(offsets(-1, "", 3)));
            let early = scene.send();
            scene.exchange(ApiKey::OFFSET_COMMIT, 7, Deed::OffsetCommit(offsets(-1, "", 5)));
            let late = scene.send();
            let sent = if broken { late } else { early };
            let fetched = offset_fetched(if broken { lost } else { 3 }, false);
            scene.answer(sent, ApiKey::OFFSET_FETCH, 5, fetched);
        });
    }
}

#[test]
fn g4_two_members_of_one_generation_commit_the_same_input() {
    check(Invariant::G4, |scene, broken| {
        let commit = |of: (i64, i16), generation, name, offset| {
            let mut deed = txn_offsets(of, offset);
            if let Deed::TxnOffsetCommit { offsets, .. } = &mut deed {
                offsets.member = member(generation, name);
            }
            deed
        };
        scene.init(P);
        scene.init((8, 0));
        scene.exchange(ApiKey::TXN_OFFSET_COMMIT, 3, commit(P, 1, "a", 9));
        scene.end(P, true);
        // In the next generation the partition may have moved.
        let generation = if broken { 1 } else { 2 };
        scene.exchange(ApiKey::TXN_OFFSET_COMMIT, 3, commit((8, 0), generation, "b", 9));
        scene.end((8, 0), true);
    });
}

#[test]
fn w1_a_response_belongs_to_no_request() {
    check(Invariant::W1, |scene, broken| {
        scene.fact(|_| {});
        scene.stray(99);
        if broken {
            // The connection goes on: no byte is missing.
            scene.fact(|_| {});
        }
    });
}

#[test]
fn w1_silence_at_the_end_of_a_connection_is_not_judged() {
    let mut scene = Scene::new();
    scene.fact(|_| {});
    for why in [Unanswered::Closed, Unanswered::CaptureEnded, Unanswered::TooMany] {
        scene.fact(|fact| fact.ending = Ending::Unanswered(why));
    }
    let found = scene.finish();
    assert!(found.anomalies.is_empty(), "{:#?}", found.anomalies);
    assert_eq!(found.stats.checks[Invariant::W1.name()].could_not, 3);
}

#[test]
fn w1_a_request_is_overtaken() {
    check(Invariant::W1, |scene, broken| {
        if !broken {
            scene.gap();
        }
        scene.fact(|_| {});
        scene.fact(|fact| fact.ending = Ending::Unanswered(Unanswered::Overtaken));
        scene.fact(|_| {});
    });
}

#[test]
fn w2_where_messages_begin_in_mid_stream_is_a_guess_until_one_is_understood() {
    for [begins, understood] in [[true, false], [false, true], [false, false]] {
        let mut scene = Scene::new();
        if !begins {
            scene.begins_before();
        }
        if understood {
            scene.fact(|_| {});
        }
        let kind = DecodeErrorKind::TrailingBytes(3);
        let error = DecodeError { byte_offset: 6, path: String::new(), kind };
        scene.fact(|fact| fact.malformed = Some(error));
        let names = if begins || understood { vec![Invariant::W2.name()] } else { vec![] };
        assert_eq!(scene.names(), names, "{begins} {understood}");
    }
}

#[test]
fn w2_a_response_has_bytes_left_over() {
    check(Invariant::W2, |scene, broken| {
        let kind = DecodeErrorKind::TrailingBytes(3);
        let error = DecodeError { byte_offset: 6, path: String::new(), kind };
        scene.fact(|fact| {
            fact.malformed = broken.then_some(error);
            // A version that the table does not know says nothing.
            fact.response_walked = broken;
        });
    });
}

#[test]
fn w3_an_error_code_does_not_exist() {
    let cases = [
        ((12, 4, 999), (12, 4, 27)),
        ((0, 9, 120), (0, 11, 120)),
        // A member of a group is nothing that Metadata knows of; a sequence nothing that Fetch does.
        ((3, 9, 25), (8, 9, 25)),
        ((1, 12, 45), (0, 9, 45)),
    ];
    for (broken_by, legal) in cases {
        check(Invariant::W3, |scene, broken| {
            let (key, version, code) = if broken { broken_by } else { legal };
            scene.fact(|fact| {
                (fact.api_key, fact.api_version) = (ApiKey(key), version);
                fact.errors = vec![code];
            });
        });
    }
}

#[test]
fn w4_an_announced_version_is_refused() {
    check(Invariant::W4, |scene, broken| {
        let highest = if broken { 12 } else { 11 };
        let announced = Deed::ApiVersions(vec![(1, 4, highest)]);
        scene.exchange(ApiKey::API_VERSIONS, 3, announced);
        scene.fact(|fact| {
            (fact.api_key, fact.api_version) = (ApiKey::FETCH, 12);
            fact.errors = vec![35];
        });
    });
}
