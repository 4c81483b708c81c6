//! G1 to G4 and P8: groups and their offsets.

use kafka_wire::ApiKey;

use super::super::scene::*;
use super::{check, check_with};
use crate::checker::wire::Invariant;
use crate::history::facts::Deed;

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
