//! Hostile input to the embedded broker: every API in every version, well-formed but senseless,
//! mutated, or noise. Each gets an answer or a closed connection, and others are not disturbed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "tests")]

use bytes::{BufMut, Bytes};
use fencepost::broker::embedded::{Config, Embedded};
use fencepost::world::{Chance, Clock};
use kafka_wire::ApiKey;
use kafka_wire::batch::{Attributes, BatchBuilder, NewRecord, Scratch};
use kafka_wire::header::RequestHeader;
use kafka_wire::ids::{CorrelationId, ProducerEpoch, ProducerId, Sequence};
use kafka_wire::schema::{self, Direction, FieldId, FieldKind, Fields, Layout, Value};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;

/// Inputs of one run; `FENCEPOST_HOSTILE_INPUTS` asks for more.
const INPUTS: u32 = 20_000;
/// Every so many inputs an innocent connection must still be served.
const INNOCENT_EVERY: u32 = 500;

fn layouts() -> Vec<&'static Layout> {
    let of = |&key: &ApiKey| {
        let versions = schema::versions(key).unwrap_or(0..=0);
        versions.filter_map(move |version| schema::layout(key, Direction::Request, version))
    };
    ApiKey::ALL.iter().flat_map(of).collect()
}

/// A value for a field: names and ids from a small pool, so that requests meet each other's traces.
fn value(rng: &mut ChaCha8Rng, layout: &Layout, id: FieldId) -> Value {
    let field = layout.field(id);
    if field.is_nullable() && rng.random_ratio(1, 4) {
        return Value::Null;
    }
    if field.is_array() {
        let count = rng.random_range(0..3);
        return Value::Array((0..count).map(|_| element(rng, layout, id)).collect());
    }
    element(rng, layout, id)
}

fn element(rng: &mut ChaCha8Rng, layout: &Layout, id: FieldId) -> Value {
    const INTS: [i64; 12] = [0, 0, 1, 1, 2, 3, -1, -2, 5, 100, 60_000, i64::MAX];
    const TEXTS: [&str; 7] = ["t", "u", "tx", "g", "", "range", "consumer"];
    let int = INTS[rng.random_range(0..INTS.len())];
    match layout.field(id).kind() {
        FieldKind::Bool => Value::Bool(rng.random()),
        FieldKind::Int8 => Value::Int((int as i8).into()),
        FieldKind::Int16 => Value::Int((int as i16).into()),
        FieldKind::Uint16 => Value::Int((int as u16).into()),
        FieldKind::Int32 => Value::Int((int as i32).into()),
        FieldKind::Uint32 => Value::Int((int as u32).into()),
        FieldKind::Int64 => Value::Int(int),
        FieldKind::Float64 => Value::Float(int as f64),
        FieldKind::Uuid => Value::Uuid([rng.random_range(0..2); 16]),
        FieldKind::String => Value::String(TEXTS[rng.random_range(0..TEXTS.len())].to_owned()),
        FieldKind::Bytes => Value::Bytes(noise(rng, 12)),
        FieldKind::Records => Value::Bytes(records(rng)),
        FieldKind::Struct => Value::Struct(fields(rng, layout, layout.children(id).collect())),
    }
}

fn fields(rng: &mut ChaCha8Rng, layout: &Layout, ids: Vec<(FieldId, &schema::Field)>) -> Fields {
    ids.into_iter().fold(Fields::new(), |fields, (id, field)| {
        fields.with(field.name(), value(rng, layout, id))
    })
}

fn noise(rng: &mut ChaCha8Rng, bytes_max: usize) -> Bytes {
    let mut bytes = vec![0; rng.random_range(0..=bytes_max)];
    rng.fill_bytes(&mut bytes);
    Bytes::from(bytes)
}

/// A batch that is right in most respects.
fn records(rng: &mut ChaCha8Rng) -> Bytes {
    let builder = BatchBuilder {
        attributes: Attributes(if rng.random() { 0 } else { rng.random_range(0..64) }),
        producer_id: ProducerId(rng.random_range(-2..4)),
        producer_epoch: ProducerEpoch(rng.random_range(-1..3)),
        base_sequence: Sequence(rng.random_range(-1..3)),
        ..BatchBuilder::default()
    };
    let mut field = Vec::new();
    let count = rng.random_range(0..3);
    builder.encode(vec![NewRecord::of(b"v"); count], &mut Scratch::new(), &mut field);
    if rng.random_ratio(1, 5) {
        mutate(rng, &mut field);
    }
    if rng.random_ratio(1, 2) {
        kafka_wire::batch::reseal(&mut field);
    }
    Bytes::from(field)
}

fn mutate(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = [0, 0x7f, 0x80, 0xff][rng.random_range(0..4)],
            2 => bytes.truncate(at),
            _ => bytes.insert(at, rng.random()),
        }
    }
}

/// One frame: mostly a decodable body, sometimes damaged, sometimes noise.
fn frame(rng: &mut ChaCha8Rng, layouts: &[&'static Layout]) -> Vec<u8> {
    let layout = layouts[rng.random_range(0..layouts.len())];
    let header = RequestHeader {
        api_key: layout.message().api_key().unwrap_or_default(),
        api_version: layout.version(),
        correlation_id: CorrelationId(7),
        client_id: Some(b"hostile"),
    };
    let mut frame = Vec::new();
    header.encode(&mut frame);
    let ids: Vec<_> = layout.fields().filter(|(_, field)| field.tag().is_none()).collect();
    let ids = ids.into_iter().filter(|(id, _)| !layout.path(*id).contains(['.', '[']));
    let body = fields(rng, layout, ids.collect());
    match layout.encode(&body) {
        Ok(body) => frame.extend(body),
        Err(_) => frame.extend(noise(rng, 64)),
    }
    match rng.random_range(0..10) {
        0..3 => mutate(rng, &mut frame),
        3 => frame = noise(rng, 80).into(),
        _ => {}
    }
    let mut framed = Vec::new();
    let length = match rng.random_ratio(1, 50) {
        true => rng.random(),
        false => frame.len() as i32,
    };
    framed.put_i32(length);
    framed.extend(frame);
    framed
}

async fn innocent(stream: &mut DuplexStream) {
    // ApiVersions 0, correlation id 5, no client id.
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 5, 0xff, 0xff];
    stream.write_all(&request).await.unwrap();
    let length = stream.read_i32().await.unwrap();
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..6], [0, 0, 0, 5, 0, 0], "the innocent is answered as ever");
}

/// Sends one frame on a connection of its own and reads until the broker is done with it.
async fn send(broker: &Embedded, connections: &mut JoinSet<()>, frame: &[u8]) -> Vec<u8> {
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    connections.spawn(broker.serve(1, theirs));
    // The broker may close before all is written.
    let _ = ours.write_all(frame).await;
    let _ = ours.shutdown().await;
    let mut answer = Vec::new();
    let _ = ours.read_to_end(&mut answer).await;
    if let Some(length) = answer.first_chunk::<4>() {
        assert_eq!(i32::from_be_bytes(*length) as usize, answer.len() - 4, "one whole answer");
    }
    connections.join_next().await.unwrap().expect("no connection panics");
    answer
}

/// Sends so many frames of a seed, with an innocent connection in between; returns the answers.
async fn send_all(inputs: u32, seed: u64, mut heard: impl FnMut(&[u8])) {
    let chance = Chance::from_seed(seed);
    let origin = tokio::time::Instant::now();
    let clock = Clock::new(1_795_000_000_000_000_000, move || origin.elapsed().as_nanos() as u64);
    let config = Config { log_bytes_max: 1 << 20, ..Config::default() };
    let nodes = [("a".to_owned(), 1), ("b".to_owned(), 2)];
    let broker = Embedded::without_listeners(config, clock, chance, &nodes);
    let mut rng = chance.stream("hostile frames");
    let layouts = layouts();
    let (mut standing, theirs) = tokio::io::duplex(64 * 1024);
    let mut standing_task = JoinSet::new();
    standing_task.spawn(broker.serve(1, theirs));
    let mut connections = JoinSet::new();
    for input in 0..inputs {
        let frame = frame(&mut rng, &layouts);
        heard(&send(&broker, &mut connections, &frame).await);
        if input % INNOCENT_EVERY == 0 {
            innocent(&mut standing).await;
        }
    }
    innocent(&mut standing).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_comes_is_answered_or_closed_and_others_are_not_disturbed() {
    let inputs = std::env::var("FENCEPOST_HOSTILE_INPUTS").map_or(INPUTS, |n| n.parse().unwrap());
    let mut answered = 0;
    send_all(inputs, 20_261_123, |answer| answered += u32::from(!answer.is_empty())).await;
    // The frames are not all nonsense, or nothing behind the decoder was tried.
    assert!(answered > inputs / 5, "{answered} of {inputs} answered");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_answers_byte_for_byte() {
    let mut first = Vec::new();
    send_all(2_000, 5, |answer| first.push(answer.to_vec())).await;
    let mut second = Vec::new();
    send_all(2_000, 5, |answer| second.push(answer.to_vec())).await;
    assert!(first == second, "some answer differs");
}
