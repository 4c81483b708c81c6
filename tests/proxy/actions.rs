//! Each action, on connections whose both ends the test holds.

use std::time::{Duration, Instant};

use kafka_wire::schema::{self, Fields};
use kafka_wire::{ApiKey, ErrorCode};

use crate::stage::{
    Peer, Stage, body, end_txn, ended_txn, heartbeat, heartbeat_answer, lives, response,
};

#[test]
fn a_held_request_waits_with_what_comes_behind_it_until_it_is_released() {
    let stage = Stage::new(&["hold EndTxn request transactional-id=t nth=1 name=h"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&[heartbeat(1), end_txn(2, "t"), heartbeat(3)].concat());
    broker.hears(&heartbeat(1));
    assert_eq!(stage.act(), "h: hold EndTxn request");
    assert!(broker.is_silent());
    broker.send(&heartbeat_answer(1));
    client.hears(&heartbeat_answer(1));
    let (mut other_client, mut other_broker) = stage.connect();
    lives((&mut other_client, &mut other_broker), 7);
    assert_eq!(stage.proxy.rules().list()[0].lasting, 1);
    assert!(stage.proxy.rules().release("h"));
    broker.hears(&end_txn(2, "t"));
    broker.hears(&heartbeat(3));
    assert_eq!(stage.act(), "h: hold EndTxn request: over");
    // The second of its kind is not meant.
    client.send(&end_txn(4, "t"));
    broker.hears(&end_txn(4, "t"));
}

#[test]
fn a_client_that_gives_up_does_not_take_a_held_request_back() {
    let stage = Stage::new(&["hold EndTxn request name=h"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&end_txn(1, "t"));
    stage.act();
    drop(client);
    assert!(broker.is_silent());
    stage.proxy.rules().remove("h");
    broker.hears(&end_txn(1, "t"));
    // It is answered before it is told that nobody listens.
    assert!(broker.is_silent());
    broker.send(&ended_txn(1));
    assert_eq!(broker.rest(), (vec![], false));
}

#[test]
fn a_delayed_response_comes_by_itself_and_not_before_its_time() {
    let stage = Stage::new(&["delay EndTxn response by=20ms jitter=10ms"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&end_txn(1, "t"));
    broker.hears(&end_txn(1, "t"));
    let begin = Instant::now();
    broker.send(&ended_txn(1));
    client.hears(&ended_txn(1));
    assert!(begin.elapsed() >= Duration::from_millis(20));
    assert_eq!(stage.act(), "rule-1: delay EndTxn response");
    assert_eq!(stage.act(), "rule-1: delay EndTxn response: over");
}

#[test]
fn what_is_dropped_never_comes() {
    let stage = Stage::new(&["drop-request EndTxn nth=1", "drop-response EndTxn nth=1"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&[end_txn(1, "t"), end_txn(2, "t"), end_txn(3, "t")].concat());
    broker.hears(&end_txn(2, "t"));
    broker.hears(&end_txn(3, "t"));
    broker.send(&[ended_txn(2), ended_txn(3)].concat());
    client.hears(&ended_txn(3));
    assert_eq!(stage.act(), "rule-1: drop EndTxn request");
    assert_eq!(stage.act(), "rule-2: drop EndTxn response");
}

#[test]
fn a_duplicate_is_heard_twice_and_answered_once() {
    for (rule, is_late) in
        [("duplicate EndTxn times=1", false), ("duplicate EndTxn after=5ms times=1", true)]
    {
        let stage = Stage::new(&[rule]);
        let (mut client, mut broker) = stage.connect();
        client.send(&end_txn(1, "t"));
        broker.hears(&end_txn(1, "t"));
        broker.hears(&end_txn(1, "t"));
        broker.send(&[ended_txn(1), ended_txn(1)].concat());
        client.hears(&ended_txn(1));
        lives((&mut client, &mut broker), 2);
        stage.act();
        if is_late {
            assert_eq!(stage.act(), "rule-1: duplicate EndTxn request: over");
        }
    }
}

#[test]
fn a_duplicate_may_come_over_a_connection_of_its_own() {
    let stage = Stage::new(&["duplicate EndTxn on=new-connection times=1"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&end_txn(1, "t"));
    broker.hears(&end_txn(1, "t"));
    let mut other = Peer::accept(&stage.broker);
    other.hears(&end_txn(1, "t"));
    other.send(&ended_txn(1));
    lives((&mut client, &mut broker), 2);
}

#[test]
fn a_reordered_request_comes_behind_those_it_let_pass() {
    let stage = Stage::new(&["reorder EndTxn behind=2 times=1"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&end_txn(1, "t"));
    assert_eq!(stage.act(), "rule-1: reorder EndTxn request");
    client.send(&[heartbeat(2), heartbeat(3), heartbeat(4)].concat());
    for frame in [heartbeat(2), heartbeat(3), end_txn(1, "t"), heartbeat(4)] {
        broker.hears(&frame);
    }
}

#[test]
fn a_cut_ends_the_connection_at_its_byte() {
    for (how, is_reset) in [("close", false), ("reset", true)] {
        for at in [0, 1, 4, 9, end_txn(1, "t").len()] {
            let stage = Stage::new(&[&format!("cut EndTxn how={how} at={at}")]);
            let (mut client, mut broker) = stage.connect();
            client.send(&heartbeat(1));
            broker.hears(&heartbeat(1));
            client.send(&end_txn(2, "t"));
            let (heard, was_reset) = broker.rest();
            // What is on its way when a reset comes may be lost with it.
            assert!(end_txn(2, "t")[..at].starts_with(&heard), "{how} at {at}");
            assert!(is_reset || heard.len() == at, "{how} at {at}: {}", heard.len());
            assert_eq!(was_reset, is_reset, "{how} at {at}");
            assert_eq!(client.rest(), (vec![], is_reset), "{how} at {at}");
        }
    }
}

#[test]
fn after_a_half_close_the_other_way_still_speaks() {
    let stage = Stage::new(&["cut EndTxn how=half-close at=6"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&[heartbeat(1), end_txn(2, "t")].concat());
    broker.hears(&heartbeat(1));
    assert_eq!(broker.rest(), (end_txn(2, "t")[..6].to_vec(), false));
    broker.send(&heartbeat_answer(1));
    client.hears(&heartbeat_answer(1));
    drop(broker);
    assert_eq!(client.rest(), (vec![], false));
}

#[test]
fn a_request_is_delivered_after_its_client_was_cut_off() {
    let stage = Stage::new(&["cut EndTxn deliver-after=1h name=c"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&end_txn(1, "t"));
    assert_eq!(client.rest(), (vec![], true));
    assert!(broker.is_silent());
    let (mut again, mut other) = stage.connect();
    lives((&mut again, &mut other), 2);
    assert!(stage.proxy.rules().release("c"));
    broker.hears(&end_txn(1, "t"));
    broker.send(&ended_txn(1));
    assert_eq!(broker.rest(), (vec![], false));
    let told = stage.told.all();
    assert!(told.contains(&"0 reset by Response".to_owned()), "{told:?}");
}

#[test]
fn nothing_passes_a_black_hole_before_it_ends() {
    let stage = Stage::new(&["black-hole EndTxn request name=b"]);
    let (mut client, mut broker) = stage.connect();
    let (mut other_client, mut other_broker) = stage.connect();
    lives((&mut other_client, &mut other_broker), 1);
    client.send(&end_txn(1, "t"));
    assert_eq!(stage.act(), "b: black-hole EndTxn request");
    other_client.send(&heartbeat(2));
    // The other way is open.
    other_broker.send(&heartbeat_answer(3));
    other_client.hears(&heartbeat_answer(3));
    assert!(broker.is_silent() && other_broker.is_silent());
    stage.proxy.rules().remove("b");
    broker.hears(&end_txn(1, "t"));
    other_broker.hears(&heartbeat(2));
    lives((&mut other_client, &mut other_broker), 4);
}

#[test]
fn a_throttled_direction_takes_its_time_until_the_rule_is_gone() {
    let stage = Stage::new(&["throttle Heartbeat request rate=100000 name=t"]);
    let (mut client, mut broker) = stage.connect();
    let frames = heartbeat(1).repeat(10_000 / heartbeat(1).len());
    let begin = Instant::now();
    client.send(&frames);
    assert_eq!(broker.read(frames.len()), frames);
    // The first portion goes at once: a twentieth of a second's bytes.
    assert!(begin.elapsed() >= Duration::from_millis(40), "{:?}", begin.elapsed());
    stage.proxy.rules().remove("t");
    lives((&mut client, &mut broker), 2);
    assert_eq!(stage.act(), "t: throttle Heartbeat request");
    assert_eq!(stage.act(), "t: throttle Heartbeat request: over");
}

#[test]
fn a_sliced_frame_arrives_whole() {
    let stage = Stage::new(&["slice EndTxn sizes=1,7,5 pause=1ms"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&[end_txn(1, "t"), heartbeat(2)].concat());
    broker.hears(&end_txn(1, "t"));
    broker.hears(&heartbeat(2));
    assert_eq!(stage.act(), "rule-1: slice EndTxn request");
    let told = stage.told.all();
    assert!(told.iter().any(|text| text.contains("slice")), "{told:?}");
}

#[test]
fn a_frame_is_altered_as_the_rule_says() {
    let original = end_txn(1, "t");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = original.clone();
        change(&mut frame);
        frame
    };
    let longer = |frame: &mut Vec<u8>, by: i32| {
        let length = i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) + by;
        frame[..4].copy_from_slice(&length.to_be_bytes());
    };
    let cases: [(&str, Vec<u8>); 4] = [
        ("correlation-id=+2", changed(&|frame| frame[11] = 3)),
        ("length=+3", changed(&|frame| longer(frame, 3))),
        (
            "truncate=2",
            changed(&|frame| {
                frame.truncate(frame.len() - 2);
                longer(frame, -2);
            }),
        ),
        (
            "extend=3",
            changed(&|frame| {
                frame.extend([0; 3]);
                longer(frame, 3);
            }),
        ),
    ];
    for (alteration, expected) in cases {
        let stage = Stage::new(&[&format!("mutate EndTxn {alteration}")]);
        let (mut client, mut broker) = stage.connect();
        client.send(&original);
        assert_eq!(broker.read(expected.len()), expected, "{alteration}");
    }
    let stage = Stage::new(&["mutate EndTxn set.transactional_id=other"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&original);
    broker.hears(&end_txn(1, "other"));
}

#[test]
fn an_answer_of_our_own_comes_in_its_turn() {
    let stage = Stage::new(&["respond EndTxn error=CONCURRENT_TRANSACTIONS"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&[heartbeat(1), end_txn(2, "t"), heartbeat(3)].concat());
    broker.hears(&heartbeat(1));
    broker.hears(&heartbeat(3));
    assert!(client.is_silent());
    broker.send(&heartbeat_answer(1));
    client.hears(&heartbeat_answer(1));
    let error = Fields::new().with("error_code", ErrorCode::CONCURRENT_TRANSACTIONS.0);
    let answer = body(ApiKey::END_TXN, schema::Direction::Response, 3, &error);
    client.hears(&response(ApiKey::END_TXN, 3, 2, &answer));
    broker.send(&heartbeat_answer(3));
    client.hears(&heartbeat_answer(3));
}

#[test]
fn the_record_says_what_was_done_behind_the_bytes_it_was_done_to() {
    let stage = Stage::new(&["drop-request EndTxn name=d"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&end_txn(1, "t"));
    stage.act();
    lives((&mut client, &mut broker), 2);
    drop(client);
    broker.rest();
    drop(broker);
    stage.proxy.stop();
    let expected = [
        "0 opened".to_owned(),
        format!("0 Request {}", end_txn(1, "t").len()),
        "0 Request d: drop EndTxn request".to_owned(),
        format!("0 Request {}", heartbeat(2).len()),
        format!("0 Response {}", heartbeat_answer(2).len()),
        "0 closed by Request".to_owned(),
    ];
    assert_eq!(stage.told.all(), expected);
}
