//! A proxy between a client and a broker that are both the test's own: plain sockets, read with a
//! time limit that only a failure reaches.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fencepost::history::tap::{Connection, Direction, Tap};
use fencepost::proxy::rule::{Board, Phase, Rules};
use fencepost::proxy::{self, Plan, Proxy};
use fencepost::run::clock;
use fencepost::world::Chance;
use kafka_wire::ApiKey;
use kafka_wire::header::{RequestHeader, encode_response_header};
use kafka_wire::ids::CorrelationId;
use kafka_wire::schema::{self, Fields};

/// Reached by failures only.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) broker: TcpListener,
    acts: Receiver<String>,
    pub(crate) told: Arc<Told>,
}

impl Stage {
    pub(crate) fn new(rules: &[&str]) -> Self {
        Self::planned(rules, |_| {})
    }

    pub(crate) fn planned(rules: &[&str], change: impl FnOnce(&mut Plan)) -> Self {
        Self::tapped(rules, change, true)
    }

    /// Without a tap, which is shown every byte: what nobody looks at may go unseen.
    pub(crate) fn unwatched(rules: &[&str], change: impl FnOnce(&mut Plan)) -> Self {
        Self::tapped(rules, change, false)
    }

    fn tapped(rules: &[&str], change: impl FnOnce(&mut Plan), is_tapped: bool) -> Self {
        let broker = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut list = Rules::new(Chance::from_seed(7));
        for text in rules {
            list.add(text.parse().unwrap()).unwrap();
        }
        let (act, acts) = channel();
        let board = Board::watched(list, move |done| {
            let over = if done.phase == Phase::Ended { ": over" } else { "" };
            let text = format!("{}{over} {}", done.fired, done.detail);
            drop(act.send(text.trim_end().to_owned()));
        });
        let mut plan = Plan::to(vec![endpoint(&broker)]);
        change(&mut plan);
        let told = Arc::new(Told::default());
        let tap = is_tapped.then(|| told.clone() as Arc<dyn Tap>);
        let proxy = proxy::start(plan, Arc::new(board), tap, clock::real()).unwrap();
        Self { proxy, broker, acts, told }
    }

    /// A client and the broker's end of its connection.
    pub(crate) fn connect(&self) -> (Peer, Peer) {
        let client = Peer::connect(&self.proxy.bootstrap());
        (client, Peer::accept(&self.broker))
    }

    /// What a rule does next, in words.
    pub(crate) fn act(&self) -> String {
        self.acts.recv_timeout(PATIENCE).expect("a rule does something")
    }
}

pub(crate) fn endpoint(listener: &TcpListener) -> proxy::Endpoint {
    listener.local_addr().unwrap().to_string().parse().unwrap()
}

/// One end of a connection.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub(crate) fn connect(address: &str) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn accept(listener: &TcpListener) -> Self {
        Self::new(listener.accept().unwrap().0)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads a frame, and gives it with its length prefix.
    pub(crate) fn frame(&mut self) -> Vec<u8> {
        let mut frame = self.read(4);
        let length = i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
        frame.extend(self.read(usize::try_from(length).unwrap()));
        frame
    }

    #[track_caller]
    pub(crate) fn hears(&mut self, frame: &[u8]) {
        assert_eq!(self.frame(), frame);
    }

    /// What comes until the other end ends, and whether that was by reset.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let ended = self.0.read_to_end(&mut bytes).map_err(|error| error.kind());
        match ended {
            Ok(_) => (bytes, false),
            Err(io::ErrorKind::ConnectionReset) => (bytes, true),
            Err(kind) => panic!("{kind}"),
        }
    }

    /// Nothing came so far. It cannot fail by chance: what is late is not seen.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let peeked = self.0.peek(&mut [0]).map_err(|error| error.kind());
        self.0.set_nonblocking(false).unwrap();
        peeked == Err(io::ErrorKind::WouldBlock)
    }
}

/// What a tap was told, a word each.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<String>>);

impl Told {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

impl Tap for Told {
    fn opened(&self, connection: Connection, _: SocketAddr, _: SocketAddr, _: u64) {
        self.note(format!("{} opened", connection.0));
    }

    fn bytes(&self, connection: Connection, way: Direction, _: u64, bytes: &[u8]) {
        self.note(format!("{} {way:?} {}", connection.0, bytes.len()));
    }

    fn action(&self, connection: Connection, way: Direction, _: u64, action: &str) {
        self.note(format!("{} {way:?} {action}", connection.0));
    }

    fn closed(&self, connection: Connection, by: Direction, _: u64) {
        self.note(format!("{} closed by {by:?}", connection.0));
    }

    fn reset(&self, connection: Connection, by: Direction, _: u64) {
        self.note(format!("{} reset by {by:?}", connection.0));
    }
}

fn framed(header: impl FnOnce(&mut Vec<u8>), body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    header(&mut frame);
    frame.extend_from_slice(body);
    let length = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// A request's frame around a body.
pub(crate) fn request(api_key: ApiKey, api_version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let correlation_id = CorrelationId(id);
    let header = RequestHeader { api_key, api_version, correlation_id, client_id: Some(b"stage") };
    framed(|frame| header.encode(frame), body)
}

/// A response's frame around a body.
pub(crate) fn response(api_key: ApiKey, api_version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let id = CorrelationId(id);
    framed(|frame| encode_response_header(frame, api_key, api_version, id), body)
}

/// A body of the schema's, whatever is not said being its default.
pub(crate) fn body(
    api_key: ApiKey,
    of: schema::Direction,
    version: i16,
    fields: &Fields,
) -> Vec<u8> {
    schema::layout(api_key, of, version).unwrap().encode(fields).unwrap()
}

/// An EndTxn of version 3, to which a rule may apply.
pub(crate) fn end_txn(id: i32, transactional_id: &str) -> Vec<u8> {
    let fields = Fields::new().with("transactional_id", transactional_id).with("committed", true);
    let body = body(ApiKey::END_TXN, schema::Direction::Request, 3, &fields);
    request(ApiKey::END_TXN, 3, id, &body)
}

/// The answer to it.
pub(crate) fn ended_txn(id: i32) -> Vec<u8> {
    let body = body(ApiKey::END_TXN, schema::Direction::Response, 3, &Fields::new());
    response(ApiKey::END_TXN, 3, id, &body)
}

/// A request that no rule of these tests is about.
pub(crate) fn heartbeat(id: i32) -> Vec<u8> {
    let body = body(ApiKey::HEARTBEAT, schema::Direction::Request, 4, &Fields::new());
    request(ApiKey::HEARTBEAT, 4, id, &body)
}

/// The answer to it.
pub(crate) fn heartbeat_answer(id: i32) -> Vec<u8> {
    let body = body(ApiKey::HEARTBEAT, schema::Direction::Response, 4, &Fields::new());
    response(ApiKey::HEARTBEAT, 4, id, &body)
}

/// One exchange through a connection shows that it lives.
#[track_caller]
pub(crate) fn lives((client, broker): (&mut Peer, &mut Peer), id: i32) {
    client.send(&heartbeat(id));
    broker.hears(&heartbeat(id));
    broker.send(&heartbeat_answer(id));
    client.hears(&heartbeat_answer(id));
}
