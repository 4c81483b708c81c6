//! P2 to P7: producers, fences and transactions.

use kafka_wire::ApiKey;

use super::super::scene::*;
use super::{P_FIRST, check};
use crate::checker::wire::Invariant;
use crate::history::facts::Deed;

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
