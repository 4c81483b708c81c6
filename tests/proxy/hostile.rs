//! Clients and brokers that send rubbish, stop in the middle or never read: the others go on.

use std::io::{ErrorKind, Write};
use std::net::TcpListener;

use kafka_wire::ApiKey;

use crate::stage::{Peer, Stage, endpoint, heartbeat, lives, request};

#[test]
fn whatever_one_connection_says_the_others_go_on() {
    let rubbish: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n",
        &[0xff; 100],
        &[0; 64],
        &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 9, 0, 0, 0, 1],
        &heartbeat(1)[..7],
        &[0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 2, 0, 18, 0, 0],
    ];
    let stage = Stage::new(&["hold any request transactional-id=nobody"]);
    let (mut client, mut broker) = stage.connect();
    let mut kept = Vec::new();
    for (nth, bytes) in rubbish.into_iter().enumerate() {
        for from_client in [true, false] {
            let (mut bad_client, mut bad_broker) = stage.connect();
            let (from, to) = match from_client {
                true => (&mut bad_client, &mut bad_broker),
                false => (&mut bad_broker, &mut bad_client),
            };
            from.send(bytes);
            from.0.shutdown(std::net::Shutdown::Write).unwrap();
            // What cannot be understood passes all the same.
            assert_eq!(to.rest(), (bytes.to_vec(), false), "{nth} {from_client}");
            lives((&mut client, &mut broker), nth as i32);
            kept.push((bad_client, bad_broker));
        }
    }
}

#[test]
fn what_is_no_kafka_is_not_kept_waiting_for_more_of_it() {
    // The beginnings of a ClientHello of TLS, of an HTTP request, and of a frame of an API nobody
    // knows, whose client id is longer than what came of it.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x7e; 300]].concat();
    let unknown = [0, 0, 2, 0, 0x7f, 1, 0, 1, 0, 0, 0, 5, 1, 0, b'a'];
    for bytes in [&hello[..], b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n", &unknown] {
        let stage = Stage::new(&[]);
        let (mut client, mut broker) = stage.connect();
        client.send(bytes);
        assert_eq!(broker.read(bytes.len()), bytes);
        broker.send(&[0x16, 3, 3, 0, 9, 8]);
        drop(broker);
        assert_eq!(client.rest().0, [0x16, 3, 3, 0, 9, 8]);
    }
}

#[test]
fn a_side_that_never_reads_stops_its_own_client_only() {
    stops_its_own_client_only(&Stage::new(&[]));
    // Unseen bytes stop as those do that a tap is shown.
    stops_its_own_client_only(&Stage::unwatched(&[], |_| {}));
}

fn stops_its_own_client_only(stage: &Stage) {
    let (client, mut deaf) = stage.connect();
    let (mut other_client, mut other_broker) = stage.connect();
    let frame = request(ApiKey::PRODUCE, 9, 1, &[7; 100_000]);
    client.0.set_nonblocking(true).unwrap();
    let mut said = Vec::new();
    // Full is when nothing more is taken after the others had their turn, several times.
    let mut refusals = 0;
    while refusals < 20 {
        let from = said.len() % frame.len();
        match (&client.0).write(&frame[from..]) {
            Ok(count) => {
                said.extend_from_slice(&frame[from..from + count]);
                refusals = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                lives((&mut other_client, &mut other_broker), 1);
                refusals += 1;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(said.len() < 256 << 20, "the proxy takes in without end");
    }
    let heard = deaf.read(said.len());
    assert!(heard == said, "the {} bytes that went in come out", said.len());
}

#[test]
fn a_broker_that_is_not_there_is_a_closed_connection() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = endpoint(&gone);
    drop(gone);
    let stage = Stage::planned(&[], |plan| plan.bootstrap.push(address));
    let bootstrap = stage.proxy.bootstrap();
    let mut addresses = bootstrap.split(',');
    let living = addresses.next().unwrap();
    let mut client = Peer::connect(addresses.next().unwrap());
    assert!(client.rest().0.is_empty());
    let mut client = Peer::connect(living);
    lives((&mut client, &mut Peer::accept(&stage.broker)), 1);
    assert_eq!(stage.proxy.stop().unreachable, 1);
}

#[test]
fn a_proxy_that_stops_leaves_nothing_open() {
    let stage = Stage::new(&["hold EndTxn request"]);
    let (mut client, mut broker) = stage.connect();
    client.send(&crate::stage::end_txn(1, "t"));
    stage.act();
    let total = stage.proxy.stop();
    assert_eq!((total.connections, total.traffic.frames), (1, [1, 0]));
    assert!(broker.rest().0.is_empty());
    assert!(client.rest().0.is_empty());
}
