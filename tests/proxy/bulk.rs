//! Large frames that nobody looks at go from socket to socket, and nothing else changes.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use kafka_wire::ApiKey;
use socket2::SockRef;

use crate::stage::{Peer, Stage, heartbeat, lives, request, response};

const LARGE: usize = 300_000;

/// A frame's body in which every stretch differs from every other.
fn body(bytes: usize, id: i32) -> Vec<u8> {
    (0..bytes).map(|at| ((at * 7919) >> 8) as u8 ^ at as u8 ^ id as u8).collect()
}

fn produce(bytes: usize, id: i32) -> Vec<u8> {
    // Version, transactional id and acks are those of a real one, so that an answer is expected.
    let start = [&[0xff, 0xff, 0xff, 0xff][..], &[0, 0, 0, 9]].concat();
    request(ApiKey::PRODUCE, 8, id, &[start, body(bytes, id)].concat())
}

fn answer(bytes: usize, id: i32) -> Vec<u8> {
    response(ApiKey::PRODUCE, 8, id, &body(bytes, id))
}

fn say(stream: &TcpStream, frames: &[Vec<u8>]) {
    let mut stream = stream;
    frames.iter().for_each(|frame| stream.write_all(frame).unwrap());
}

/// Large frames and small ones between them.
fn sizes(count: i32) -> impl Iterator<Item = (usize, i32)> {
    (0..count).map(|id| (if id % 4 == 3 { 40 } else { LARGE + id as usize * 1000 }, id))
}

/// All of it both ways at once.
fn converse((mut client, mut broker): (Peer, Peer)) {
    let requests: Vec<_> = sizes(12).map(|(size, id)| produce(size, id)).collect();
    let answers: Vec<_> = sizes(12).map(|(size, id)| answer(size, id)).collect();
    let (to_proxy, from_broker) = (client.0.try_clone().unwrap(), broker.0.try_clone().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| say(&to_proxy, &requests));
        scope.spawn(|| {
            for (asked, answer) in requests.iter().zip(&answers) {
                assert!(broker.frame() == *asked, "a request changed on its way");
                say(&from_broker, std::slice::from_ref(answer));
            }
        });
        for answer in &answers {
            assert!(client.frame() == *answer, "a response changed on its way");
        }
    });
    lives((&mut client, &mut broker), 99);
}

#[test]
fn large_frames_pass_byte_by_byte_whoever_watches() {
    for stage in [Stage::new(&[]), Stage::unwatched(&[], |_| {})] {
        converse(stage.connect());
        assert_eq!(stage.proxy.total().traffic.frames, [13, 13]);
    }
}

#[test]
fn connections_of_one_worker_do_not_mix() {
    let stage = Stage::unwatched(&[], |plan| plan.workers = 1);
    let connections: Vec<_> = (0..4).map(|_| stage.connect()).collect();
    thread::scope(|scope| {
        for ends in connections {
            scope.spawn(move || converse(ends));
        }
    });
    assert_eq!(stage.proxy.total().traffic.frames, [4 * 13, 4 * 13]);
}

#[test]
fn a_frame_that_is_torn_arrives_as_far_as_it_came() {
    let stage = Stage::unwatched(&[], |_| {});
    let (mut client, mut broker) = stage.connect();
    let (whole, torn) = (produce(LARGE, 1), produce(LARGE, 2));
    thread::scope(|scope| {
        scope.spawn(move || {
            client.send(&whole);
            client.send(&torn[..LARGE / 2]);
        });
        assert!(broker.frame() == produce(LARGE, 1));
        assert!(broker.rest() == (produce(LARGE, 2)[..LARGE / 2].to_vec(), false));
    });
}

#[test]
fn a_broker_that_goes_in_mid_frame_takes_its_client_only() {
    let stage = Stage::unwatched(&[], |plan| plan.workers = 1);
    let (mut other, mut at_other) = stage.connect();
    let (client, mut broker) = stage.connect();
    thread::scope(|scope| {
        scope.spawn(|| {
            // It fails when it hears of the end, which may be late.
            let mut stream = &client.0;
            while stream.write_all(&produce(LARGE, 1)).is_ok() {}
        });
        broker.frame();
        broker.read(LARGE / 2);
        drop(broker);
    });
    lives((&mut other, &mut at_other), 5);
}

#[test]
fn rules_see_large_frames_behind_large_frames() {
    let rules =
        ["hold Produce request nth=3 for=1ms", "cut Produce request nth=5 how=close at=70000"];
    let stage = Stage::unwatched(&rules, |_| {});
    let (mut client, mut broker) = stage.connect();
    thread::scope(|scope| {
        scope.spawn(move || {
            for id in 1..=5 {
                client.send(&produce(LARGE, id));
                client.send(&heartbeat(100 + id));
            }
        });
        for id in 1..=4 {
            assert!(broker.frame() == produce(LARGE, id), "{id}");
            broker.hears(&heartbeat(100 + id));
        }
        assert_eq!(broker.read(70_000), produce(LARGE, 5)[..70_000]);
        assert!(broker.rest().0.is_empty());
    });
    assert_eq!(stage.act(), "rule-1: hold Produce request");
}

#[test]
fn a_rule_that_comes_later_sees_what_begins_later() {
    let stage = Stage::unwatched(&[], |_| {});
    let (mut client, mut broker) = stage.connect();
    let mut pass = |id: i32| {
        thread::scope(|scope| {
            scope.spawn(|| client.send(&produce(LARGE, id)));
            assert!(broker.frame() == produce(LARGE, id));
        });
    };
    pass(1);
    pass(2);
    stage.proxy.rules().add("cut Produce request how=close at=9".parse().unwrap()).unwrap();
    let Peer(stream) = &client;
    say(stream, &[produce(300, 3)]);
    assert_eq!(broker.rest().0.len(), 9);
}

#[test]
fn a_reset_in_mid_frame_is_handed_on() {
    for by_client in [true, false] {
        let stage = Stage::unwatched(&[], |_| {});
        let (mut client, mut broker) = stage.connect();
        for id in 1..=2 {
            let (whole, torn) = (produce(LARGE, id), answer(LARGE, id));
            thread::scope(|scope| {
                scope.spawn(|| client.send(&whole));
                assert!(broker.frame() == whole);
            });
            let end = if id == 2 && !by_client { LARGE / 2 } else { torn.len() };
            thread::scope(|scope| {
                scope.spawn(|| broker.send(&torn[..end]));
                assert!(client.read(end) == torn[..end]);
            });
        }
        if by_client {
            client.send(&produce(LARGE, 3)[..LARGE / 2]);
            broker.read(LARGE / 2);
        }
        let (gone, mut other) = if by_client { (client, broker) } else { (broker, client) };
        SockRef::from(&gone.0).set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        assert_eq!(other.rest(), (vec![], true), "{by_client}");
    }
}
