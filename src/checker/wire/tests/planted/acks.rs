//! P1: acknowledgements beside the log.

use super::super::scene::*;
use super::{changed, check};
use crate::checker::wire::Invariant;

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
