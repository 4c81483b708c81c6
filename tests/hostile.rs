//! A broker that answers rubbish, a hundred thousand times: the client names what was wrong, and
//! neither panics, nor hangs beyond the request timeout, nor takes memory on the broker's word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use fencepost::client::cluster::{CoordinatorOf, Metadata, TopicPartition, find_coordinator};
use fencepost::client::connection::{Conduct, Connection, Fate};
use fencepost::client::fetch::{self, IsolationLevel, Limits, Session};
use fencepost::client::offsets::{At, fetch_offsets, list_offsets};
use fencepost::client::producer::{self, Acks, PartitionWrite};
use fencepost::client::transaction::{self, Owner};
use fencepost::client::transport::{Opened, Opening};
use fencepost::client::{Connector, Versions};
use fencepost::history::tap::NoTap;
use fencepost::run::clock;
use fencepost::world::Chance;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Encodable;
use kafka_wire::ids::{ProducerEpoch, ProducerId};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const ROUNDS: u32 = 100_000;

/// Connects to nothing but what it is handed.
struct Nowhere;

impl Connector for Nowhere {
    fn connect<'a>(&'a self, _: &'a str) -> Opening<'a> {
        Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) })
    }
}

/// How an answer is made wrong.
fn spoil(answer: &mut BytesMut, random: &mut ChaCha8Rng) {
    match random.random_range(0..7) {
        0 => {
            for _ in 0..random.random_range(1..4) {
                if !answer.is_empty() {
                    let at = random.random_range(0..answer.len());
                    answer[at] = random.random();
                }
            }
        }
        1 => answer.truncate(random.random_range(0..=answer.len())),
        2 => answer.put_slice(&random.random::<[u8; 7]>()),
        // A count or length of the largest kind somewhere.
        3 if answer.len() >= 4 => {
            let at = random.random_range(0..=answer.len() - 4);
            answer[at..at + 4].copy_from_slice(&0x7fff_ffffu32.to_be_bytes());
        }
        4 => {
            let length = random.random_range(0..64);
            answer.clear();
            answer.extend((0..length).map(|_| random.random::<u8>()));
        }
        5 if answer.len() >= 5 => {
            let at = random.random_range(0..=answer.len() - 5);
            answer[at..at + 5].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        }
        _ => {}
    }
}

/// A whole, well-formed body of an answer to a request of that kind.
fn well_formed(api_key: i16, version: i16) -> BytesMut {
    let mut body = BytesMut::new();
    macro_rules! encode {
        ($($key:literal $type:ty),*) => {
            match api_key {
                $($key => <$type>::default().encode(&mut body, version).expect("it encodes"),)*
                _ => {}
            }
        };
    }
    encode!(
        0 ProduceResponse, 1 FetchResponse, 2 ListOffsetsResponse, 3 MetadataResponse,
        9 OffsetFetchResponse, 10 FindCoordinatorResponse, 18 ApiVersionsResponse,
        22 InitProducerIdResponse, 26 EndTxnResponse
    );
    body
}

/// Reads one request and answers it badly; then goes on or closes.
async fn hostile(mut io: DuplexStream, mut random: ChaCha8Rng) {
    let mut prefix = [0; 4];
    if io.read_exact(&mut prefix).await.is_err() {
        return;
    }
    let mut request = vec![0; i32::from_be_bytes(prefix) as usize];
    if io.read_exact(&mut request).await.is_err() {
        return;
    }
    let api_key = i16::from_be_bytes([request[0], request[1]]);
    let version = i16::from_be_bytes([request[2], request[3]]);
    let mut answer = BytesMut::new();
    let flexible =
        kafka_wire::schema::response_header_version(kafka_wire::ApiKey(api_key), version);
    if random.random_bool(0.9) {
        answer.put_slice(&request[4..8]);
    } else {
        answer.put_i32(random.random());
    }
    if flexible == Some(1) {
        answer.put_u8(0);
    }
    let head = answer.len();
    let mut body = well_formed(api_key, version);
    spoil(&mut body, &mut random);
    answer.put_slice(&body);
    if random.random_bool(0.05) {
        answer.truncate(random.random_range(0..=head));
    }
    let length = match random.random_range(0..20) {
        0 => -1,
        1 => i32::MAX,
        2 => random.random(),
        3 => answer.len() as i32 + random.random_range(1..100),
        _ => answer.len() as i32,
    };
    // Whether the client has gone by then is its own affair.
    if io.write_all(&length.to_be_bytes()).await.is_ok()
        && io.write_all(&answer).await.is_ok()
        && random.random_bool(0.5)
    {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

/// One question, drawn at random; what comes back does not matter, only that it comes.
async fn ask(connection: &Connection, random: &mut ChaCha8Rng) -> Result<(), Fate> {
    let partition = TopicPartition { topic: "t".into(), partition: 0 };
    let owner = Owner {
        transactional_id: "x".into(),
        producer_id: ProducerId(1),
        producer_epoch: ProducerEpoch(0),
    };
    let version = |low: i16, high: i16, random: &mut ChaCha8Rng| random.random_range(low..=high);
    match random.random_range(0..9) {
        0 => Versions::ask(connection, version(0, 4, random)).await.map(drop),
        1 => Metadata::ask(connection, version(1, 12, random), None).await.map(drop),
        2 => {
            let v = version(0, 6, random);
            find_coordinator(connection, v, CoordinatorOf::Transaction, "x").await.map(drop)
        }
        3 => producer::init_producer_id(connection, version(0, 5, random), Some("x"), 1000, None)
            .await
            .map(drop),
        4 => transaction::end(connection, version(0, 5, random), &owner, true).await.map(drop),
        5 => {
            let v = version(2, 9, random);
            fetch_offsets(connection, v, "g", true, &[partition]).await.map(drop)
        }
        6 => {
            let (v, level) = (version(1, 10, random), IsolationLevel::ReadCommitted);
            list_offsets(connection, v, level, At::Latest, &[partition]).await.map(drop)
        }
        7 => {
            let v = version(3, 12, random);
            let write = PartitionWrite { partition, records: Bytes::from_static(b"batch") };
            let frame = producer::produce_frame(v, None, (Acks::All, 1000), &[write])?;
            let response = connection.exchange(frame).await?;
            producer::written(response, v).map(drop)
        }
        _ => {
            let v = version(4, 12, random);
            let wanted = [].into();
            let limits = Limits::default();
            let request = Session::off().request(v, IsolationLevel::ReadCommitted, limits, &wanted);
            let response = fetch::send(connection, v, &request).await?.answer().await?;
            fetch::fetched(response, v, |_| None).map(drop)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rubbish_is_named_a_hundred_thousand_times() {
    let chance = Chance::from_seed(0x5eed);
    let mut random = chance.stream("hostile/client");
    let mut brokers = tokio::task::JoinSet::new();
    let conduct = Conduct::new(Arc::new(Nowhere), Arc::new(NoTap), clock::simulated())
        .with_request_timeout(Duration::from_secs(3));
    let (mut fine, mut broken, mut lost, mut timed_out) = (0u32, 0u32, 0u32, 0u32);
    for round in 0..ROUNDS {
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        brokers.spawn(hostile(theirs, chance.stream(&format!("hostile/{round}"))));
        let address: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let opened = Opened { transport: Box::new(ours), client: address, broker: address };
        let connection = Connection::over(&conduct, "nowhere:1", opened);
        let begin = tokio::time::Instant::now();
        match ask(&connection, &mut random).await {
            Ok(()) => fine += 1,
            Err(Fate::Broken(_)) => broken += 1,
            Err(Fate::Lost { .. }) => lost += 1,
            Err(Fate::TimedOut) => timed_out += 1,
            Err(Fate::NotSent { why }) => panic!("round {round}: not sent: {why}"),
        }
        assert!(begin.elapsed() <= Duration::from_secs(3), "round {round} hung");
        drop(connection);
        while brokers.try_join_next().is_some() {}
    }
    // All kinds of ends were met, or the broker is not hostile enough.
    for count in [fine, broken, lost, timed_out] {
        assert!(count > ROUNDS / 100, "{fine} {broken} {lost} {timed_out}");
    }
}
