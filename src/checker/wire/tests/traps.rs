//! Legal conversations that look wrong: none of them may be named.

use kafka_wire::ApiKey;

use super::scene::*;
use crate::checker::wire::Invariant;
use crate::history::facts::{Deed, Ending, Topic};
use crate::history::wire::Unanswered;

fn clean(tell: impl FnOnce(&mut Scene)) {
    let mut scene = Scene::new();
    tell(&mut scene);
    let found = scene.finish();
    assert!(found.anomalies.is_empty(), "{:#?}", found.anomalies);
}

fn metadata(id: u8) -> Deed {
    let topic = (0, Some("t".into()), Some([id; 16]));
    Deed::Metadata { cluster_id: None, nodes: Vec::new(), topics: vec![topic] }
}

#[test]
fn offsets_repeat_after_a_topic_is_created_anew() {
    clean(|scene| {
        scene.exchange(ApiKey::METADATA, 12, metadata(1));
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        scene.fetch(read(vec![plain(P, 0, 0, 1)]));
        // By name alone, the first acknowledgement comes before the new id is known.
        scene.produce(plain((8, 0), 0, 0, 1), (0, 0));
        scene.fetch(read(vec![plain((8, 0), 0, 0, 1)]));
        scene.exchange(ApiKey::METADATA, 12, metadata(2));
        scene.produce(plain((8, 0), 0, 1, 1), (0, 0));
    });
}

#[test]
fn a_coordinator_may_abort_before_its_client_does() {
    clean(|scene| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 0));
        // Another partition was written to long before: the timeout counts from there.
        let mut fetched = read(vec![data(P, 0, 0, 1), marker((P.0, P.1 + 1), 1, false)]);
        fetched.aborted = vec![(P.0, 0)];
        scene.fetch(fetched);
        scene.end(P, false);
    });
}

/// An administrator aborts a transaction that its producer then commits, by a marker of its epoch;
/// whether the request for it was seen, and whether the coordinator's has the next (KIP-890).
fn administrator(scene: &mut Scene, client_id: Option<&[u8]>, end_version: i16) {
    scene.init(P);
    scene.produce(data(P, 0, 0, 1), (0, 0));
    if let Some(client_id) = client_id {
        scene.fact(|fact| {
            fact.client_id = Some(client_id.into());
            fact.deed = Deed::WriteTxnMarkers(vec![(P.0, P.1, false)]);
        });
    }
    scene.exchange(ApiKey::END_TXN, end_version, end(P, true, Some(0)));
    let mut fetched = read(vec![data(P, 0, 0, 1), marker(P, 1, false)]);
    fetched.aborted = vec![(P.0, 0)];
    scene.fetch(fetched);
}

#[test]
fn an_administrator_may_abort_what_its_producer_commits() {
    clean(|scene| administrator(scene, Some(b"adminclient-1"), 4));
    clean(|scene| administrator(scene, None, 5));
    for client_id in [None, Some(&b"broker-1-txn-marker-sender"[..])] {
        let mut scene = Scene::new();
        administrator(&mut scene, client_id, 4);
        let found = scene.finish();
        assert!(found.anomalies.keys().eq([Invariant::P5.name()]), "{:#?}", found.anomalies);
        assert!(found.operations.keys().eq(["lost-write"]), "{:#?}", found.operations);
    }
}

#[test]
fn the_last_stable_offset_stays_at_the_start_of_a_log_whose_open_transaction_was_deleted() {
    for log_start in [0, 2] {
        let mut scene = Scene::new();
        let batches = [marker((8, 0), 1, true), data(P, 2, 3, 1), marker(P, 3, true)];
        for _ in 0..2 {
            let mut fetched = read(batches.to_vec());
            (fetched.last_stable_offset, fetched.log_start_offset) = (2, log_start);
            scene.fetch(fetched);
        }
        let stuck = if log_start == 0 { vec![Invariant::L6.name().to_owned()] } else { vec![] };
        let names = scene.names();
        assert_eq!(
            names.contains(&Invariant::L6.name().to_owned()),
            !stuck.is_empty(),
            "{names:?}"
        );
    }
}

#[test]
fn topics_of_two_ids_are_two_logs() {
    clean(|scene| {
        for id in [1, 2] {
            let mut fetched = read(vec![plain((i64::from(id), 0), 0, 0, 1)]);
            fetched.topic = Topic::Id([id; 16]);
            scene.fetch(fetched);
        }
    });
}

#[test]
fn a_fenced_batch_sent_before_the_fence_may_be_answered_as_the_first_was() {
    clean(|scene| {
        scene.init(P);
        let lost = scene.send();
        scene.lose(lost, ApiKey::PRODUCE, 11, {
            let mut deed = produce(data(P, 0, 0, 1), (0, 0));
            if let Deed::Produce { partitions, .. } = &mut deed {
                partitions[0].answer = None;
            }
            deed
        });
        scene.init((9, 1));
        scene.produce(data(P, 0, 0, 1), (0, 0));
    });
}

#[test]
fn end_txn_of_version_five_sent_again_is_answered_as_the_first() {
    clean(|scene| {
        scene.init(P);
        scene.exchange(ApiKey::END_TXN, 5, end(P, true, Some(0)));
        scene.init((9, 2));
        scene.exchange(ApiKey::END_TXN, 5, end(P, true, Some(0)));
    });
}

#[test]
fn markers_of_transaction_version_two_carry_the_next_epoch_and_sequences_begin_again() {
    clean(|scene| {
        scene.init(P);
        for epoch in 0..3 {
            let base = i64::from(epoch) * 3;
            scene.produce(data((9, epoch), base, 0, 2), (0, base));
            scene.exchange(ApiKey::END_TXN, 5, end((9, epoch), epoch != 1, Some(0)));
        }
        let batches = (0..3).flat_map(|epoch| {
            let base = i64::from(epoch) * 3;
            [data((9, epoch), base, 0, 2), marker((9, epoch + 1), base + 2, epoch != 1)]
        });
        let mut fetched = read(batches.collect());
        fetched.aborted = vec![(9, 3)];
        scene.fetch(fetched);
    });
}

#[test]
fn a_marker_without_records_ends_a_transaction_that_wrote_none_here() {
    clean(|scene| {
        scene.fetch(read(vec![marker(P, 0, true), marker(P, 1, false), data(P, 2, 0, 1)]));
    });
}

#[test]
fn a_transaction_that_timed_out_is_aborted_before_its_end_is_sent() {
    clean(|scene| {
        scene.init(P);
        scene.produce(data(P, 0, 0, 1), (0, 0));
        let mut fetched = read(vec![data(P, 0, 0, 1), marker((9, 1), 1, false)]);
        fetched.aborted = vec![(9, 0)];
        scene.fetch(fetched);
        scene.exchange(ApiKey::END_TXN, 4, end(P, true, Some(90)));
    });
}

#[test]
fn what_replicas_fetch_is_not_the_log_that_consumers_see() {
    clean(|scene| {
        let mut fetched = read(vec![plain(P, 0, 0, 1)]);
        (fetched.high_watermark, fetched.last_stable_offset) = (0, 0);
        let deed =
            Deed::Fetch { read_committed: false, by_consumer: false, partitions: vec![fetched] };
        scene.exchange(ApiKey::FETCH, 12, deed);
        // It was truncated, and another leader wrote something else.
        scene.fetch(read(vec![plain((8, 0), 0, 0, 1)]));
    });
}

#[test]
fn a_refused_batch_is_nowhere() {
    clean(|scene| {
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        scene.produce(plain(P, 0, 5, 1), (45, -1));
        scene.produce(plain(P, 0, 1, 1), (0, 1));
        scene.fetch(read(vec![plain(P, 0, 0, 1), plain(P, 1, 1, 1)]));
    });
}

#[test]
fn acknowledgements_of_the_leader_alone_may_be_undone() {
    clean(|scene| {
        let mut deed = produce(plain(P, 0, 0, 1), (0, 0));
        if let Deed::Produce { acks, .. } = &mut deed {
            *acks = 1;
        }
        scene.exchange(ApiKey::PRODUCE, 11, deed);
        scene.fetch(read(vec![plain((8, 0), 0, 0, 1)]));
    });
}

#[test]
fn a_capture_that_begins_in_mid_stream_proves_little_and_names_nothing() {
    let mut scene = Scene::new();
    scene.stray(17);
    scene.produce(data((9, 4), 0, 70, 1), (0, 70));
    let mut fetched = read(vec![data((9, 4), 70, 70, 1), marker((9, 4), 71, true)]);
    fetched.high_watermark = 90;
    fetched.last_stable_offset = 90;
    scene.fetch(fetched);
    let found = scene.finish();
    assert!(found.anomalies.is_empty(), "{:#?}", found.anomalies);
    assert!(found.judged);
    assert!(found.stats.checks[Invariant::P3.name()].could_not > 0);
    assert!(found.stats.checks[Invariant::W1.name()].could_not > 0);
}

/// A transaction that is aborted and another that is committed, of one epoch; the first EndTxn was
/// not captured.
fn without_the_first_end(is_followed: bool, hole: bool) -> Vec<String> {
    let mut scene = Scene::new();
    if is_followed {
        scene.init(P);
    }
    scene.produce(data(P, 0, 0, 1), (0, 0));
    if hole {
        scene.gap();
    }
    scene.produce(data(P, 2, 1, 1), (0, 2));
    scene.end(P, true);
    let [first, second] = [data(P, 0, 0, 1), data(P, 2, 1, 1)];
    let mut fetched = read(vec![first, marker(P, 1, false), second, marker(P, 3, true)]);
    fetched.aborted = vec![(P.0, 0)];
    scene.fetch(fetched);
    let found = scene.finish();
    found.anomalies.into_keys().chain(found.operations.into_keys()).collect()
}

#[test]
fn an_end_that_was_not_captured_may_have_come_before_the_one_that_was() {
    assert_eq!(without_the_first_end(false, false), [""; 0]);
    assert_eq!(without_the_first_end(true, true), [""; 0]);
    let p5 = Invariant::P5.name();
    assert_eq!(without_the_first_end(true, false), [p5, "lost-write", "torn-transaction"]);
}

#[test]
fn a_response_may_be_missing_where_none_was_heard_before() {
    let mut scene = Scene::new();
    scene.fact(|fact| fact.ending = Ending::Unanswered(Unanswered::Overtaken));
    scene.fact(|_| {});
    assert_eq!(scene.names(), [""; 0]);
}

#[test]
fn connections_that_are_understood_late_are_judged_in_their_order() {
    let mut scene = Scene::new();
    scene.init(P);
    let fence = scene.send();
    let fenced = scene.answered(fence);
    let sent = scene.send();
    scene.answer(sent, ApiKey::PRODUCE, 11, produce(data(P, 0, 0, 1), (0, 0)));
    scene.tell(fenced, ApiKey::INIT_PRODUCER_ID, 5, init("x", (-1, -1), (P.0, 2)));
    assert_eq!(scene.names(), [Invariant::P3.name()]);
}

#[test]
fn nothing_seen_is_nothing_judged() {
    assert!(!Scene::new().finish().judged);
}

#[test]
fn replicas_are_compacted_each_at_its_own_time() {
    let keyed = |mut batch: crate::history::facts::BatchFacts| {
        batch.keyed = true;
        batch
    };
    clean(|scene| {
        let last = || vec![keyed(data(P, 2, 1, 1)), marker(P, 3, true)];
        scene.fetch(read([vec![keyed(plain((8, 0), 0, 0, 1))], last()].concat()));
        // The next leader still has what the first had compacted away.
        let between = keyed(data(P, 1, 0, 1));
        scene.fetch(read([vec![keyed(plain((8, 0), 0, 0, 1)), between], last()].concat()));
    });
    clean(|scene| {
        let mut left = data(P, 1, 0, 1);
        left.header.record_count = 0;
        let log = |between: &[crate::history::facts::BatchFacts]| {
            [&[plain((8, 0), 0, 0, 1)], between, &[marker(P, 2, true)]].concat()
        };
        scene.fetch(read(log(&[left])));
        scene.fetch(read(log(&[])));
    });
}

#[test]
fn what_compaction_leaves_of_a_transaction_needs_no_marker() {
    for (records, is_torn) in [(0, false), (1, true)] {
        let mut scene = Scene::new();
        let mut left = data(P, 0, 0, 1);
        left.header.record_count = records;
        let next = (P.0, P.1 + 2);
        let other = plain((8, 0), 1, 0, 1);
        scene.fetch(read(vec![left, other, data(next, 2, 0, 1), marker(next, 3, true)]));
        let names = scene.names();
        assert_eq!(names.contains(&Invariant::L5.name().to_owned()), is_torn, "{names:?}");
    }
}

/// The topic may have been created anew in what is missing.
#[test]
fn room_between_acknowledgements_proves_nothing_where_bytes_are_missing() {
    for is_whole in [true, false] {
        let mut scene = Scene::new();
        scene.produce(plain(P, 0, 0, 1), (0, 0));
        scene.pass_s(5);
        if !is_whole {
            scene.gap();
        }
        scene.produce(plain((8, 0), 0, 0, 1), (0, 0));
        scene.produce(plain((8, 0), 0, 1, 1), (0, 2));
        assert_eq!(!scene.names().is_empty(), is_whole);
    }
}

/// So may the request that deleted the offset.
#[test]
fn an_offset_that_is_gone_proves_nothing_where_bytes_are_missing() {
    for is_whole in [true, false] {
        let mut scene = Scene::new();
        scene.exchange(ApiKey::OFFSET_COMMIT, 7, Deed::OffsetCommit(offsets(-1, "", 5)));
        if !is_whole {
            scene.gap();
        }
        let asked = scene.send();
        scene.answer(asked, ApiKey::OFFSET_FETCH, 5, offset_fetched(-1, false));
        assert_eq!(!scene.names().is_empty(), is_whole);
    }
}

/// Whether an offset is certainly not to be told, and what happened before it was.
type Case<'a> = (bool, &'a dyn Fn(&mut Scene));

/// What is read again after an abort is committed again: by whom was perhaps not captured.
#[test]
fn the_offset_of_an_aborted_transaction_may_have_been_committed_again() {
    let aborted = |scene: &mut Scene| {
        scene.init(P);
        scene.exchange(ApiKey::JOIN_GROUP, 5, joined(1, "a"));
        scene.exchange(ApiKey::SYNC_GROUP, 3, synced(1, "a", true, &[0]));
        scene.exchange(ApiKey::OFFSET_COMMIT, 8, Deed::OffsetCommit(offsets(1, "a", 5)));
        let commit = Deed::TxnOffsetCommit { asked: asked(P.0, P.1), offsets: offsets(1, "a", 9) };
        scene.exchange(ApiKey::TXN_OFFSET_COMMIT, 3, commit);
        scene.end(P, false);
    };
    let next = |scene: &mut Scene, generation: i32| {
        scene.exchange(ApiKey::JOIN_GROUP, 5, joined(generation, "b"));
        scene.exchange(ApiKey::SYNC_GROUP, 3, synced(generation, "b", true, &[0]));
    };
    let told = |scene: &mut Scene| {
        scene.exchange(ApiKey::OFFSET_FETCH, 7, offset_fetched(9, true));
    };
    let cases: [Case<'_>; 7] = [
        (true, &|scene| told(scene)),
        (true, &|scene| {
            told(scene);
            let members = vec!["a".into()];
            let leave = Deed::LeaveGroup { group: "g".into(), members, error: Some(0) };
            scene.exchange(ApiKey::LEAVE_GROUP, 3, leave);
        }),
        // Its session may be over, and the partition another's.
        (false, &|scene| {
            scene.pass_s(30);
            told(scene);
        }),
        // The next owner is told before it does anything.
        (true, &|scene| {
            next(scene, 2);
            told(scene);
        }),
        (false, &|scene| {
            next(scene, 2);
            scene.exchange(ApiKey::OFFSET_FETCH, 7, offset_fetched(5, true));
            told(scene);
        }),
        // There was a generation in between.
        (false, &|scene| {
            next(scene, 3);
            told(scene);
        }),
        // What the same producer committed since was not captured.
        (false, &|scene| {
            scene.end(P, true);
            told(scene);
        }),
    ];
    for (number, (is_shown, then)) in (0..).zip(cases) {
        let mut scene = Scene::new();
        aborted(&mut scene);
        then(&mut scene);
        let names = scene.names();
        assert_eq!(names == [Invariant::P8.name()], is_shown, "{number}: {names:?}");
        assert!(names.is_empty() || is_shown, "{number}: {names:?}");
    }
}

/// Somebody who was not captured may have created it anew in between.
#[test]
fn a_name_may_mean_another_topic_after_a_while() {
    for (seconds, is_there, is_shown) in [(0, false, true), (60, false, false), (60, true, true)] {
        let mut scene = Scene::new();
        scene.produce(plain((8, 0), 0, 0, 1), (0, 0));
        scene.fetch(read(vec![plain((8, 0), 0, 0, 1), plain((8, 0), 1, 1, 1)]));
        scene.pass_s(seconds);
        scene.fetch(read(vec![plain((7, 0), 1, 0, 1)]));
        if is_there {
            scene.fetch(read(vec![plain((8, 0), 0, 0, 1)]));
        }
        let names = scene.names();
        assert_eq!(names.contains(&Invariant::L9.name().to_owned()), is_shown, "{names:?}");
        assert!(is_shown || names.is_empty(), "{names:?}");
    }
}

/// A marker that compaction took since decided what was read before.
#[test]
fn what_was_read_before_a_compaction_has_a_marker_that_is_gone() {
    for seconds in [0, 60] {
        let mut scene = Scene::new();
        let keyed = |base: i64, sequence: i32| {
            let mut batch = data(P, base, sequence, 1);
            batch.keyed = true;
            batch
        };
        scene.fetch(read(vec![keyed(0, 0)]));
        scene.pass_s(seconds);
        let mut later = read(vec![keyed(2, 1), marker(P, 3, false)]);
        later.fetch_offset = Some(1);
        later.aborted = vec![(P.0, 2)];
        scene.fetch(later);
        let names = scene.names();
        assert_eq!(names.is_empty(), seconds > 0, "{names:?}");
    }
}
