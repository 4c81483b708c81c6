//! What exchanges prove of operations, each by a scene that shows it and by ones that come near.

use kafka_wire::ApiKey;

use super::scene::*;
use crate::checker::wire::WireFound;
use crate::history::facts::{BatchFacts, Deed, Fetched, Topic};

/// The operations' names that a scene shows.
fn found(tell: impl FnOnce(&mut Scene)) -> WireFound {
    let mut scene = Scene::new();
    tell(&mut scene);
    let found = scene.finish();
    for case in found.operations.values().flat_map(|found| &found.cases) {
        assert!(!case.frames.is_empty() && !case.exchanges.is_empty(), "{case:?}");
        assert!(case.field("topic").is_some() && case.explanation.len() > 60, "{case:?}");
    }
    found
}

fn shows(name: &str, tell: impl FnOnce(&mut Scene)) {
    shows_all(&[name], tell);
}

fn shows_all(expected: &[&str], tell: impl FnOnce(&mut Scene)) {
    let found = found(tell);
    let names: Vec<&String> = found.operations.keys().collect();
    assert_eq!(names, expected, "{:#?}", found.operations);
    assert!(expected.iter().all(|name| found.stats.checks[*name].checked > 0));
}

fn nearly(tell: impl FnOnce(&mut Scene)) {
    let found = found(tell);
    assert!(found.operations.is_empty(), "{:#?}", found.operations);
}

fn changed(mut batch: BatchFacts, change: impl FnOnce(&mut BatchFacts)) -> BatchFacts {
    change(&mut batch);
    batch
}

/// A log of single records, of which two have the contents of the first.
fn copied(second: BatchFacts) -> Fetched {
    let others = (1..9).map(|n| plain((8, 0), n, n as i32 - 1, 1));
    let second = changed(second, |batch| batch.content = plain(P, 0, 0, 1).content);
    read(std::iter::once(plain(P, 0, 0, 1)).chain(others).chain([second]).collect())
}

#[test]
fn a_duplicate_is_one_sequence_at_two_offsets_however_far_apart() {
    shows("duplicate", |scene| scene.fetch(copied(plain(P, 9, 0, 1))));
}

#[test]
fn equal_records_alone_are_no_duplicate() {
    // Of another sequence, epoch, producer; of none; of another moment.
    let others = [
        plain(P, 9, 1, 1),
        plain((P.0, 1), 9, 0, 1),
        plain((7, 0), 9, 0, 1),
        plain((-1, -1), 9, -1, 1),
        changed(plain(P, 9, 0, 1), |batch| batch.header.max_timestamp = 5),
    ];
    for other in others {
        nearly(|scene| scene.fetch(copied(other)));
    }
}

#[test]
fn a_producer_that_was_forgotten_with_its_records_may_begin_anew() {
    nearly(|scene| {
        scene.fetch(read(vec![plain(P, 0, 0, 1)]));
        let mut later = read(vec![plain(P, 9, 0, 1)]);
        later.log_start_offset = 9;
        scene.fetch(later);
    });
}

#[test]
fn a_topic_created_anew_holds_no_duplicates_of_the_old_one() {
    nearly(|scene| {
        for (id, base) in [(1, 0), (2, 7)] {
            let mut fetched = read(vec![plain(P, base, 0, 1)]);
            fetched.topic = Topic::Id([id; 16]);
            scene.fetch(fetched);
        }
    });
}

#[test]
fn an_aborted_read_is_one_that_the_aborted_list_does_not_hide() {
    for hides in [false, true] {
        let tell = |scene: &mut Scene| {
            let mut fetched = read(vec![data(P, 0, 0, 1), marker(P, 1, false)]);
            fetched.aborted = if hides { vec![(P.0, 0)] } else { vec![] };
            scene.fetch(fetched);
        };
        if hides { nearly(tell) } else { shows("G1a", tell) }
    }
}

#[test]
fn what_a_consumer_of_all_records_reads_is_no_aborted_read() {
    nearly(|scene| {
        let fetched = read(vec![data(P, 0, 0, 1), marker(P, 1, false)]);
        scene.exchange(ApiKey::FETCH, 12, fetch(false, vec![fetched]));
    });
}

#[test]
fn records_of_a_transaction_acknowledged_as_aborted_are_not_to_be_read() {
    for committed in [false, true] {
        let tell = |scene: &mut Scene| {
            scene.init(P);
            scene.produce(data(P, 0, 0, 1), (0, 0));
            scene.end(P, committed);
            scene.fetch(read(vec![data(P, 0, 0, 1), marker(P, 1, true)]));
        };
        if committed { nearly(tell) } else { shows("G1a", tell) }
    }
}

#[test]
fn a_lost_write_was_acknowledged_and_read_past() {
    shows("lost-write", |scene| {
        scene.produce(plain(P, 0, 0, 1), (0, 1));
        scene.fetch(read(vec![plain((8, 0), 0, 0, 1), plain((8, 0), 2, 1, 1)]));
    });
}

#[test]
fn a_write_is_not_lost_where_its_absence_has_a_reason() {
    let around = || read(vec![plain((8, 0), 0, 0, 1), plain((8, 0), 2, 1, 1)]);
    // Compaction took it.
    nearly(|scene| {
        let keyed = |batch| changed(batch, |batch| batch.keyed = true);
        scene.produce(keyed(plain(P, 0, 0, 1)), (0, 1));
        let mut later = around();
        later.batches = later.batches.into_iter().map(keyed).collect();
        scene.fetch(later);
    });
    // Retention, or somebody who deletes records, took it.
    nearly(|scene| {
        scene.produce(plain(P, 0, 0, 1), (0, 1));
        let mut later = around();
        later.log_start_offset = 2;
        scene.fetch(later);
    });
    // Nobody read past it.
    nearly(|scene| {
        scene.produce(plain(P, 0, 0, 1), (0, 3));
        scene.fetch(around());
    });
    // The consumer began behind it.
    nearly(|scene| {
        scene.produce(plain(P, 0, 0, 1), (0, 1));
        scene.fetch(read(vec![plain((8, 0), 2, 1, 1)]));
    });
    // Its transaction was aborted, and left out.
    nearly(|scene| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 1));
        scene.end(P, false);
        scene.fetch(around());
    });
    // It was acknowledged by the leader alone.
    nearly(|scene| {
        let mut deed = produce(plain(P, 0, 0, 1), (0, 1));
        if let Deed::Produce { acks, .. } = &mut deed {
            *acks = 1;
        }
        scene.exchange(ApiKey::PRODUCE, 11, deed);
        scene.fetch(around());
    });
    // What is read in its place are the same records, written down as of another sequence.
    nearly(|scene| {
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        scene.fetch(read(vec![changed(plain(P, 0, 7, 1), |batch| {
            batch.content = plain(P, 0, 0, 1).content;
        })]));
    });
    // One answer of two has something else in its place.
    nearly(|scene| {
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        scene.fetch(read(vec![plain((8, 0), 0, 5, 1)]));
        scene.fetch(read(vec![plain(P, 0, 0, 1)]));
    });
}

#[test]
fn a_write_is_lost_where_another_stands_or_only_its_marker_follows() {
    shows("lost-write", |scene| {
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        scene.fetch(read(vec![plain((8, 0), 0, 5, 1)]));
    });
    shows("lost-write", |scene| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 1));
        scene.end(P, true);
        scene.fetch(read(vec![plain((8, 0), 0, 0, 1), marker(P, 2, true)]));
    });
}

#[test]
fn a_write_is_lost_that_the_aborted_list_of_every_answer_hides() {
    for [committed, handed] in [[true, false], [true, true], [false, false]] {
        let tell = |scene: &mut Scene| {
            scene.init(P);
            scene.produce(data(P, 0, 0, 1), (0, 0));
            scene.end(P, committed);
            let mut fetched = read(vec![data(P, 0, 0, 1), plain((8, 0), 1, 0, 1)]);
            if handed {
                scene.fetch(fetched.clone());
            }
            fetched.aborted = vec![(P.0, 0)];
            scene.fetch(fetched);
        };
        if committed && !handed { shows("lost-write", tell) } else { nearly(tell) }
    }
}

#[test]
fn an_acknowledgement_with_a_wrong_offset_gives_one_write_two_places() {
    // At its own offset there is another, nothing, or what was acknowledged there before.
    for [acked, other] in [[1, 1], [1, 2], [0, 0]] {
        let names = ["duplicate", "duplicate-nonzero"];
        shows_all(&names[..if acked == 0 { 1 } else { 2 }], |scene| {
            scene.produce(plain((8, 0), 0, 5, 1), (0, 0));
            scene.produce(plain(P, 0, 0, 1), (0, acked));
            let mut batches = vec![plain((8, 0), 0, 5, 1), plain(P, 3, 0, 1)];
            if other > 0 {
                batches.insert(1, plain((8, 0), other, 6, 1));
            }
            scene.fetch(read(batches));
        });
    }
    // Equal records without a producer id are two writes; so are those from before the log began.
    nearly(|scene| {
        scene.produce(plain((-1, -1), 0, -1, 1), (0, 1));
        scene.fetch(read(vec![plain((8, 0), 1, 5, 1), plain((-1, -1), 2, -1, 1)]));
    });
    nearly(|scene| {
        scene.produce(plain(P, 0, 0, 1), (0, 1));
        let mut later = read(vec![plain((8, 0), 1, 5, 1), plain(P, 3, 0, 1)]);
        later.log_start_offset = 3;
        scene.fetch(later);
    });
}

#[test]
fn a_precommitted_read_comes_before_its_end_is_sent() {
    for early in [true, false] {
        let tell = |scene: &mut Scene| {
            scene.init(P);
            scene.produce(data(P, 0, 0, 1), (0, 0));
            let before = scene.send();
            scene.fetch(read(vec![data(P, 0, 0, 1)]));
            let after = scene.send();
            // What is under way while it is read may have been decided by then.
            let sent = if early { after } else { before };
            scene.answer(sent, ApiKey::END_TXN, 4, end(P, true, Some(0)));
            scene.fetch(read(vec![data(P, 0, 0, 1), marker(P, 1, true)]));
        };
        if early { shows("precommitted-read", tell) } else { nearly(tell) }
    }
}

#[test]
fn a_transaction_hangs_where_acknowledged_records_wait_behind_it_beyond_its_timeout() {
    for [is_late, is_behind] in [[true, true], [false, true], [true, false]] {
        let tell = |scene: &mut Scene| {
            scene.init(P);
            scene.produce(data(P, 0, 0, 1), (0, 0));
            if is_behind {
                scene.produce(plain((8, 0), 0, 0, 1), (0, 1));
            }
            scene.pass_s(if is_late { 120 } else { 10 });
            let mut fetched = read(vec![data(P, 0, 0, 1), plain((8, 0), 1, 0, 1)]);
            fetched.last_stable_offset = 0;
            scene.exchange(ApiKey::FETCH, 12, fetch(false, vec![fetched]));
        };
        if is_late && is_behind { shows("hanging-transaction", tell) } else { nearly(tell) }
    }
}

/// A batch of epoch 0, sent after or before epoch 1 was given out, and answered with an error or
/// not; in the log, behind it, what follows.
fn fenced(scene: &mut Scene, late: bool, error: i16, follows: BatchFacts) {
    scene.init(P);
    let early = scene.send();
    scene.init((P.0, 1));
    let sent = if late { scene.send() } else { early };
    let base = if error == 0 { 0 } else { -1 };
    scene.answer(sent, ApiKey::PRODUCE, 11, produce(data(P, 0, 0, 1), (error, base)));
    // Brokers that show no markers are not judged by them.
    scene.fetch(read(vec![data(P, 0, 0, 1), follows, marker((7, 0), 2, true)]));
}

#[test]
fn a_fenced_batch_that_no_marker_of_its_own_closes_and_is_read_is_an_aborted_read() {
    let heirs = || [data((P.0, 1), 1, 0, 1), marker((P.0, 1), 1, true)];
    for heir in heirs() {
        shows("G1a", |scene| fenced(scene, true, 0, heir));
    }
    for heir in heirs() {
        shows_all(&["G1a", "zombie-write"], |scene| fenced(scene, true, 47, heir));
    }
    // It was under way at the fence, or its own marker closes it: it may have been written before.
    for error in [0, 47] {
        for heir in heirs() {
            nearly(|scene| fenced(scene, false, error, heir));
        }
        nearly(|scene| fenced(scene, true, error, marker(P, 1, true)));
        // What stands in between is not known.
        nearly(|scene| {
            fenced(scene, true, error, plain((8, 0), 1, 0, 1));
            scene.fetch(read(vec![marker((P.0, 1), 9, true)]));
        });
    }
    // The old owner is told later that it is committed: that it should not be is for P3 to say.
    shows("precommitted-read", |scene| {
        fenced(scene, true, 0, marker((P.0, 1), 1, true));
        scene.end(P, true);
    });
}

fn in_partition(deed: Deed, index: i32) -> Deed {
    match deed {
        Deed::Produce { transactional, acks, mut partitions } => {
            partitions.iter_mut().for_each(|of| of.partition = index);
            Deed::Produce { transactional, acks, partitions }
        }
        other => other,
    }
}

/// A transaction over two partitions, acknowledged as `committed`; its markers say what they say.
fn over_two(scene: &mut Scene, committed: bool, markers: [bool; 2]) {
    scene.init(P);
    for index in [0, 1] {
        let deed = produce(data(P, 0, 0, 1), (0, 0));
        scene.exchange(ApiKey::PRODUCE, 11, in_partition(deed, index));
    }
    scene.end(P, committed);
    for (index, marked) in [0, 1].into_iter().zip(markers) {
        let mut fetched = read(vec![data(P, 0, 0, 1), marker(P, 1, marked)]);
        fetched.partition = index;
        fetched.aborted = if marked { vec![] } else { vec![(P.0, 0)] };
        scene.fetch(fetched);
    }
}

#[test]
fn a_transaction_is_torn_where_one_part_was_committed_and_another_lost() {
    let found = found(|scene| over_two(scene, true, [true, false]));
    let names: Vec<&String> = found.operations.keys().collect();
    assert_eq!(names, ["lost-write", "torn-transaction"]);
    nearly(|scene| over_two(scene, true, [true, true]));
    nearly(|scene| over_two(scene, false, [false, false]));
}

#[test]
fn a_zombie_write_stands_behind_what_came_after_the_fence() {
    for [is_behind, is_refused] in [[true, true], [false, true], [true, false]] {
        let tell = |scene: &mut Scene| {
            scene.init(P);
            scene.init((P.0, 1));
            scene.produce(plain((8, 0), 0, 0, 1), (0, if is_behind { 0 } else { 1 }));
            let place = i64::from(is_behind);
            // Another error says nothing of a fence.
            scene.produce(plain(P, 0, 0, 1), (if is_refused { 47 } else { 7 }, -1));
            let mut batches = vec![plain((8, 0), 1 - place, 0, 1), plain(P, place, 0, 1)];
            batches.sort_by_key(|batch| batch.header.base_offset.0);
            scene.fetch(read(batches));
        };
        if is_behind && is_refused { shows("zombie-write", tell) } else { nearly(tell) }
    }
}

#[test]
fn one_direction_alone_proves_nothing_and_says_so() {
    let found = found(|scene| {
        for sequence in 0..3 {
            let held = scene.send();
            let mut deed = produce(plain(P, 0, sequence, 1), (0, 0));
            if let Deed::Produce { partitions, .. } = &mut deed {
                partitions[0].answer = None;
            }
            scene.lose(held, ApiKey::PRODUCE, 11, deed);
        }
    });
    assert!(!found.judged && found.anomalies.is_empty(), "{:?}", found.stats.checks);
    assert_eq!(found.stats.checks["W1-response-unpaired"].could_not, 3);
}

/// What was acknowledged and read under leader epoch 3 is another batch in a second answer.
fn replaced(scene: &mut Scene, acks: i16, epoch: i32) {
    let of = |sequence, epoch| {
        changed(plain(P, 0, sequence, 1), |batch| {
            batch.header.partition_leader_epoch = kafka_wire::ids::LeaderEpoch(epoch);
        })
    };
    let Deed::Produce { transactional, partitions, .. } = produce(of(0, -1), (0, 0)) else {
        unreachable!("it is Produce");
    };
    scene.exchange(ApiKey::PRODUCE, 11, Deed::Produce { transactional, acks, partitions });
    for batch in [of(0, 3), of(7, epoch), of(7, epoch)] {
        let mut fetched = read(vec![batch]);
        fetched.leader_epoch = None;
        scene.fetch(fetched);
    }
}

#[test]
fn what_a_later_leader_does_not_have_is_lost() {
    shows("lost-write", |scene| replaced(scene, -1, 5));
    // An earlier leader may answer last; one alone may be wrong; acks=1 promises less.
    nearly(|scene| replaced(scene, -1, 2));
    nearly(|scene| replaced(scene, -1, 3));
    nearly(|scene| replaced(scene, 1, 5));
    for (acks, epoch) in [(-1, 5), (-1, 2), (-1, 3), (1, 5)] {
        let found = found(|scene| replaced(scene, acks, epoch));
        let changed = &found.anomalies["L9-record-changed"].cases[0];
        assert_eq!(changed.explanation.contains("unclean election"), epoch == 5);
    }
}
