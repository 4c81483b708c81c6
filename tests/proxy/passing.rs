//! What no rule is about passes as it is; who names brokers is given our names for them.

use std::net::TcpListener;
use std::thread;

use fencepost::world::Chance;
use kafka_wire::ApiKey;
use kafka_wire::header::decode_response_header;
use kafka_wire::schema::{self, Direction, Fields, Value};
use rand::{Rng, RngExt};

use crate::stage::{Peer, Stage, body, endpoint, request, response};

const NEVER: &str = "hold any request transactional-id=nobody topic=nothing";

/// Frames of known and unknown APIs and versions, with bodies that mostly make no sense.
fn mixed_conversation(seed: u64) -> [Vec<u8>; 2] {
    let mut random = Chance::from_seed(seed).stream("conversation");
    let (mut requests, mut responses) = (Vec::new(), Vec::new());
    for id in 0..400 {
        let api_key = match random.random_range(0..4u8) {
            0 => ApiKey(random.random_range(0..i16::MAX)),
            _ => ApiKey::ALL[random.random_range(0..ApiKey::ALL.len())],
        };
        // Tokens begin after an old handshake: no conversation goes on as this one does.
        let api_key = if api_key == ApiKey::SASL_HANDSHAKE { ApiKey::FETCH } else { api_key };
        let version = random.random_range(-1..20);
        let size = match random.random_range(0..40u8) {
            0 => random.random_range(0..300_000),
            _ => random.random_range(0..300),
        };
        let mut bytes = vec![0; size];
        random.fill_bytes(&mut bytes);
        requests.extend(request(api_key, version, id, &bytes));
        responses.extend(response(api_key, version, id, &bytes));
    }
    [requests, responses]
}

/// Says it in pieces of random sizes.
fn say(peer: &Peer, bytes: &[u8], seed: u64) {
    let mut random = Chance::from_seed(seed).stream("pieces");
    let mut stream = &peer.0;
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = random.random_range(1..=20_000).min(rest.len());
        std::io::Write::write_all(&mut stream, &rest[..size]).unwrap();
        rest = &rest[size..];
    }
}

fn hash(bytes: &[u8]) -> (usize, u64) {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    (bytes.len(), hasher.finish())
}

/// Both halves at once through one connection; says the hashes of what was said and heard.
fn converse(stage: &Stage, [requests, responses]: &[Vec<u8>; 2], seed: u64) {
    let (mut client, mut broker) = stage.connect();
    thread::scope(|scope| {
        let (speaking_client, speaking_broker) =
            (Peer(client.0.try_clone().unwrap()), Peer(broker.0.try_clone().unwrap()));
        scope.spawn(move || say(&speaking_client, requests, seed));
        scope.spawn(move || say(&speaking_broker, responses, seed + 1));
        let asked = scope.spawn(|| broker.read(requests.len()));
        let answered = client.read(responses.len());
        assert_eq!(hash(&asked.join().unwrap()), hash(requests), "seed {seed}");
        assert_eq!(hash(&answered), hash(responses), "seed {seed}");
    });
}

#[test]
fn a_mixed_conversation_passes_byte_by_byte() {
    for seed in 1..=8 {
        let rules = if seed % 2 == 0 { &[NEVER][..] } else { &[] };
        let stage = if seed > 4 { Stage::unwatched(rules, |_| {}) } else { Stage::new(rules) };
        let conversation = mixed_conversation(seed);
        converse(&stage, &conversation, seed);
        let total = stage.proxy.total();
        assert_eq!(total.traffic.bytes, [0, 1].map(|way| conversation[way].len() as u64));
        assert_eq!(total.traffic.frames, [400, 400]);
    }
}

fn metadata(brokers: &[(i32, &TcpListener)]) -> Vec<u8> {
    let brokers = brokers.iter().map(|(id, listener)| {
        let address = listener.local_addr().unwrap();
        let (host, port) = (address.ip().to_string(), i32::from(address.port()));
        Fields::new().with("node_id", *id).with("host", host).with("port", port)
    });
    let brokers: Vec<Fields> = brokers.collect();
    body(ApiKey::METADATA, Direction::Response, 12, &Fields::new().with("brokers", brokers))
}

/// Asks for metadata, has it answered so, and says which addresses the client hears.
fn ask(client: &mut Peer, broker: &mut Peer, answer: &[u8], id: i32) -> Vec<String> {
    let asked = body(ApiKey::METADATA, Direction::Request, 12, &Fields::new());
    client.send(&request(ApiKey::METADATA, 12, id, &asked));
    broker.hears(&request(ApiKey::METADATA, 12, id, &asked));
    broker.send(&response(ApiKey::METADATA, 12, id, answer));
    addresses(&client.frame())
}

fn addresses(frame: &[u8]) -> Vec<String> {
    let (_, at) = decode_response_header(&frame[4..], ApiKey::METADATA, 12).unwrap();
    let layout = schema::layout(ApiKey::METADATA, Direction::Response, 12).unwrap();
    let fields = layout.decode(&frame[4 + at..], schema::Limits::NONE).fields;
    let at = |nth: usize, name: &str| fields.at(&format!("brokers[{nth}].{name}")).cloned();
    let address = |nth| {
        let (host, port) = (at(nth, "host")?, at(nth, "port").as_ref().and_then(Value::as_int)?);
        Some(format!("{}:{port}", host.as_str()?))
    };
    (0..).map_while(address).collect()
}

#[test]
fn every_broker_gets_a_door_and_who_moves_is_followed() {
    let stage = Stage::new(&[]);
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut client, mut broker) = stage.connect();
    let answer = metadata(&[(1, &stage.broker), (2, &second)]);
    let named = ask(&mut client, &mut broker, &answer, 1);
    assert_eq!(named[0], stage.proxy.bootstrap());
    assert_ne!(named[1], endpoint(&second).to_string());

    let mut other = Peer::connect(&named[1]);
    let mut at_second = Peer::accept(&second);
    crate::stage::lives((&mut other, &mut at_second), 5);

    let moved = TcpListener::bind("127.0.0.1:0").unwrap();
    let answer = metadata(&[(1, &stage.broker), (2, &moved)]);
    assert_eq!(ask(&mut client, &mut broker, &answer, 2), named);
    let mut other = Peer::connect(&named[1]);
    crate::stage::lives((&mut other, &mut Peer::accept(&moved)), 6);
}

#[test]
fn requests_that_are_not_answered_do_not_shift_the_answers() {
    let stage = Stage::new(&[]);
    let (mut client, mut broker) = stage.connect();
    for acks in [0, 1] {
        let produce = Fields::new().with("acks", acks);
        let produce = body(ApiKey::PRODUCE, Direction::Request, 9, &produce);
        client.send(&request(ApiKey::PRODUCE, 9, 1, &produce));
        broker.frame();
    }
    broker.send(&response(ApiKey::PRODUCE, 9, 1, &[]));
    client.frame();
    let answer = metadata(&[(1, &stage.broker)]);
    assert_eq!(ask(&mut client, &mut broker, &answer, 2), [stage.proxy.bootstrap()]);
}

#[test]
fn after_tokens_without_headers_names_are_rewritten_again() {
    let stage = Stage::new(&[]);
    let (mut client, mut broker) = stage.connect();
    let handshake = request(ApiKey::SASL_HANDSHAKE, 0, 1, b"\0\x05PLAIN");
    client.send(&handshake);
    broker.hears(&handshake);
    let answer = response(ApiKey::SASL_HANDSHAKE, 0, 1, &[0; 6]);
    broker.send(&answer);
    client.hears(&answer);
    let token = [&[0, 0, 0, 12][..], b"\0user\0secret"].concat();
    client.send(&token);
    broker.hears(&token);
    broker.send(&[0, 0, 0, 0]);
    client.hears(&[0, 0, 0, 0]);
    let answer = metadata(&[(1, &stage.broker)]);
    assert_eq!(ask(&mut client, &mut broker, &answer, 2), [stage.proxy.bootstrap()]);
}

#[test]
fn a_frame_too_large_to_be_gathered_is_cut_all_the_same() {
    let rule = "cut Produce request how=close at=700";
    let stage = Stage::planned(&[rule], |plan| plan.limits.gathered_bytes_max = 100);
    let (mut client, mut broker) = stage.connect();
    let large = request(ApiKey::PRODUCE, 9, 3, &[7; 1000]);
    client.send(&large[..300]);
    assert_eq!(broker.read(300), large[..300]);
    client.send(&large[300..700]);
    assert_eq!(broker.rest(), (large[300..700].to_vec(), false));
}

#[test]
fn a_response_too_large_to_be_gathered_passes_as_it_is() {
    let stage = Stage::planned(&[NEVER], |plan| plan.limits.gathered_bytes_max = 100);
    let (mut client, mut broker) = stage.connect();
    let mut answer = metadata(&[(1, &stage.broker)]);
    let named = ask(&mut client, &mut broker, &answer, 1);
    assert_eq!(named, [stage.proxy.bootstrap()]);
    // Bytes behind the end of a message are nobody's business.
    answer.extend([0; 100]);
    let named = ask(&mut client, &mut broker, &answer, 2);
    assert_eq!(named, [endpoint(&stage.broker).to_string()]);
    let large = request(ApiKey::PRODUCE, 9, 3, &[7; 1000]);
    client.send(&large);
    broker.hears(&large);
}

/// The topic that a request names by its id alone, and that a response said the name of.
#[test]
fn a_rule_knows_a_topic_by_its_name_where_requests_have_ids_only() {
    let id = |byte: u8| Value::Uuid([byte; 16]);
    let topic = |name: &str, byte| Fields::new().with("name", name).with("topic_id", id(byte));
    let produce = |byte| {
        let topics = vec![Fields::new().with("topic_id", id(byte))];
        let fields = Fields::new().with("acks", 1).with("topic_data", topics);
        body(ApiKey::PRODUCE, Direction::Request, 13, &fields)
    };
    for (api_key, version) in [(ApiKey::METADATA, 12), (ApiKey::CREATE_TOPICS, 7)] {
        let stage = Stage::new(&["hold Produce request topic=ord* name=h"]);
        let (mut client, mut broker) = stage.connect();
        let asked = body(api_key, Direction::Request, version, &Fields::new());
        client.send(&request(api_key, version, 1, &asked));
        broker.frame();
        let topics = vec![topic("payments", 1), topic("orders", 2)];
        let told = Fields::new().with("topics", topics);
        let told = body(api_key, Direction::Response, version, &told);
        broker.send(&response(api_key, version, 1, &told));
        client.hears(&response(api_key, version, 1, &told));
        // What one connection heard is known on all.
        let (mut client, mut broker) = stage.connect();
        for byte in [1, 3] {
            client.send(&request(ApiKey::PRODUCE, 13, 2, &produce(byte)));
            broker.hears(&request(ApiKey::PRODUCE, 13, 2, &produce(byte)));
        }
        client.send(&request(ApiKey::PRODUCE, 13, 4, &produce(2)));
        assert_eq!(stage.act(), "h: hold Produce request", "{api_key}");
    }
}

#[test]
fn a_rule_knows_a_broker_once_a_response_names_it_whatever_the_user_calls_it() {
    let stage = Stage::planned(&["drop-request Heartbeat broker=1"], |plan| {
        plan.bootstrap[0].host = "localhost".to_owned();
    });
    let (mut client, mut broker) = stage.connect();
    crate::stage::lives((&mut client, &mut broker), 1);
    let answer = metadata(&[(1, &stage.broker)]);
    assert_eq!(ask(&mut client, &mut broker, &answer, 2), [stage.proxy.bootstrap()]);
    client.send(&crate::stage::heartbeat(3));
    assert_eq!(stage.act(), "rule-1: drop Heartbeat request");
}

#[test]
fn a_reset_of_one_side_is_a_reset_of_the_other() {
    for by_client in [true, false] {
        let stage = Stage::new(&[]);
        let (mut client, mut broker) = stage.connect();
        crate::stage::lives((&mut client, &mut broker), 1);
        let (gone, mut other) = if by_client { (client, broker) } else { (broker, client) };
        socket2::SockRef::from(&gone.0).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(gone);
        assert_eq!(other.rest(), (vec![], true), "{by_client}");
        stage.proxy.stop();
        let by = if by_client { "Request" } else { "Response" };
        assert_eq!(stage.told.all().last(), Some(&format!("0 reset by {by}")));
    }
}
