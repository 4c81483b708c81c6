//! TLS toward clients, toward brokers, and who does not speak it as it should.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use fencepost::proxy::trouble::Listener;
use fencepost::proxy::{BrokerTls, ListenTls, Plan, TlsError};
use kafka_wire::ApiKey;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use crate::kafka::{Serving, said, test_through};
use crate::stage::{
    Peer, Stage, end_txn, endpoint, heartbeat, heartbeat_answer, request, response,
};

/// Seconds since 1970: within what rcgen's certificates hold.
const NOW_S: i64 = 1_795_428_900;

/// An authority, and a folder with what it signed.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a certificate and its key into one file.
    pub(crate) fn sign(
        &self,
        file: &str,
        host: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> PathBuf {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = self.file(file);
        fs::write(&path, certificate.pem() + &key.serialize_pem()).unwrap();
        path
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file("ca.pem")).unwrap()).unwrap();
        roots
    }

    /// A client of tests, with a certificate or without.
    fn client(&self, stream: TcpStream, identity: Option<&PathBuf>) -> Inside {
        let config = ClientConfig::builder().with_root_certificates(self.roots());
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(file) => {
                let (chain, key) = identity_of(file);
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        Inside(Box::new(StreamOwned::new(session, stream)))
    }

    /// A broker of tests that shows what is in the file.
    fn broker(&self, stream: TcpStream, identity: &PathBuf, asks: bool) -> Inside {
        let config = ServerConfig::builder();
        let config = match asks {
            false => config.with_no_client_auth(),
            true => {
                let verifier = WebPkiClientVerifier::builder(Arc::new(self.roots())).build();
                config.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let (chain, key) = identity_of(identity);
        let config = Arc::new(config.with_single_cert(chain, key).unwrap());
        let session = ServerConnection::new(config).unwrap();
        Inside(Box::new(StreamOwned::new(session, stream)))
    }
}

fn identity_of(file: &PathBuf) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_file(file).unwrap())
}

/// Both ways of one end, TLS or not.
trait Stream: Read + Write + Send {
    /// Says that nothing more comes.
    fn end(&mut self);
}

impl Stream for TcpStream {
    fn end(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        self.flush().unwrap();
        self.sock.end();
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        self.flush().unwrap();
        self.sock.end();
    }
}

/// One end of a connection; what it says and hears is what is inside.
struct Inside(Box<dyn Stream>);

impl Inside {
    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[track_caller]
    fn hears(&mut self, frame: &[u8]) {
        assert_eq!(self.read(frame.len()), frame);
    }

    /// What comes until the end, and how it ends where that is not in order.
    fn rest(&mut self) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut bytes = Vec::new();
        let ended = self.0.read_to_end(&mut bytes).err().map(|error| error.kind());
        (bytes, ended)
    }
}

/// A proxy with TLS on one side, the other or both, and the ends of its connections.
struct Secured {
    stage: Stage,
    authority: Authority,
    identity: PathBuf,
    sides: Sides,
    troubles: Receiver<String>,
}

/// Toward whom TLS is spoken, and whether those have to show a certificate.
#[derive(Debug, Clone, Copy, Default)]
struct Sides {
    client: bool,
    broker: bool,
    mutual: bool,
}

impl Secured {
    fn new(sides: Sides, rules: &[&str], change: impl FnOnce(&mut Plan)) -> Self {
        let authority = Authority::new("the authority");
        let identity = authority.sign("identity.pem", "127.0.0.1", |_| {});
        let (tell, troubles) = channel();
        let ca = authority.file("ca.pem");
        let stage = Stage::planned(rules, |plan| {
            let listener = move |trouble: &_| drop(tell.send(format!("{trouble}")));
            plan.troubles = Listener::new(listener);
            let cert = sides.mutual.then(|| identity.clone());
            let tls = BrokerTls { ca: Some(ca.clone()), cert, ..BrokerTls::default() };
            plan.tls.toward_brokers = sides.broker.then(|| tls.read(NOW_S).unwrap());
            let client_ca = sides.mutual.then_some(ca);
            let tls = ListenTls { cert: identity.clone(), key: None, client_ca };
            plan.tls.toward_clients = sides.client.then(|| tls.read(NOW_S).unwrap());
            change(plan);
        });
        Self { stage, authority, identity, sides, troubles }
    }

    fn client(&self) -> Inside {
        let stream = Peer::connect(&self.stage.proxy.bootstrap()).0;
        match self.sides.client {
            false => Inside(Box::new(stream)),
            true => {
                let identity = self.sides.mutual.then_some(&self.identity);
                self.authority.client(stream, identity)
            }
        }
    }

    fn broker(&self) -> Inside {
        let stream = Peer::accept(&self.stage.broker).0;
        match self.sides.broker {
            false => Inside(Box::new(stream)),
            true => self.authority.broker(stream, &self.identity, self.sides.mutual),
        }
    }

    /// Two ends between which an exchange went.
    fn connect(&self) -> (Inside, Inside) {
        let mut client = self.client();
        client.send(&heartbeat(0));
        let mut broker = self.broker();
        broker.hears(&heartbeat(0));
        broker.send(&heartbeat_answer(0));
        client.hears(&heartbeat_answer(0));
        (client, broker)
    }

    #[track_caller]
    fn hears_of(&self, expected: &str) {
        let told = self.troubles.recv_timeout(Duration::from_secs(30)).expect(expected);
        assert!(told.contains(expected), "{told:?}, not {expected:?}");
    }
}

const EVERY_WAY: [Sides; 4] = [
    Sides { client: true, broker: false, mutual: false },
    Sides { client: false, broker: true, mutual: false },
    Sides { client: true, broker: true, mutual: false },
    Sides { client: true, broker: true, mutual: true },
];

#[test]
fn what_is_said_inside_tls_passes_byte_by_byte_and_is_recorded_as_it_was_meant() {
    for sides in EVERY_WAY {
        let secured = Secured::new(sides, &[], |_| {});
        let (mut client, mut broker) = secured.connect();
        let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let asked = request(ApiKey::PRODUCE, 9, 7, &body);
        let answer = response(ApiKey::PRODUCE, 9, 7, &body);
        thread::scope(|scope| {
            let heard = scope.spawn(|| {
                assert!(broker.read(asked.len()) == asked, "{sides:?}");
                broker.send(&answer);
                broker
            });
            client.send(&asked);
            assert!(client.read(answer.len()) == answer, "{sides:?}");
            drop(heard.join().unwrap());
        });
        assert_eq!(client.rest(), (vec![], None), "{sides:?}");
        drop(client);
        let frames = secured.stage.proxy.total().traffic.frames;
        assert_eq!(frames, [2, 2], "{sides:?}");
        let told = secured.stage.told.all();
        assert_eq!(told[..2], ["0 opened".to_owned(), format!("0 Request {}", heartbeat(0).len())]);
    }
}

#[test]
fn rules_do_inside_tls_what_they_do_without() {
    for sides in EVERY_WAY {
        let rules = ["hold EndTxn request nth=1 name=h", "cut EndTxn request nth=2 at=6"];
        let secured = Secured::new(sides, &rules, |_| {});
        let (mut client, mut broker) = secured.connect();
        client.send(&[end_txn(1, "t"), heartbeat(2)].concat());
        assert_eq!(secured.stage.act(), "h: hold EndTxn request");
        assert!(secured.stage.proxy.rules().release("h"));
        broker.hears(&end_txn(1, "t"));
        broker.hears(&heartbeat(2));
        client.send(&end_txn(3, "t"));
        assert_eq!(broker.rest(), (end_txn(3, "t")[..6].to_vec(), None), "{sides:?}");
        assert_eq!(client.rest(), (vec![], None), "{sides:?}");
    }
}

#[test]
fn who_said_all_inside_tls_still_hears() {
    for sides in EVERY_WAY {
        let secured = Secured::new(sides, &[], |_| {});
        let (mut client, mut broker) = secured.connect();
        client.send(&heartbeat(1));
        client.0.end();
        assert_eq!(broker.rest(), (heartbeat(1), None), "{sides:?}");
        broker.send(&heartbeat_answer(1));
        broker.0.end();
        assert_eq!(client.rest(), (heartbeat_answer(1), None), "{sides:?}");
    }
}

#[test]
fn a_side_that_takes_nothing_in_stops_the_other_and_loses_nothing() {
    for sides in EVERY_WAY {
        let secured = Secured::new(sides, &[], |_| {});
        let (mut client, mut broker) = secured.connect();
        let (mut other, mut other_broker) = secured.connect();
        let frames = request(ApiKey::PRODUCE, 9, 1, &[7; 100_000]).repeat(200);
        thread::scope(|scope| {
            let speaking = scope.spawn(|| {
                client.send(&frames);
                client.0.end();
            });
            // Others are served whatever this one waits for.
            for id in 1..20 {
                other.send(&heartbeat(id));
                other_broker.hears(&heartbeat(id));
                other_broker.send(&heartbeat_answer(id));
                other.hears(&heartbeat_answer(id));
            }
            let (heard, ended) = broker.rest();
            assert!(heard == frames && ended.is_none(), "{sides:?}: {}", heard.len());
            speaking.join().unwrap();
        });
    }
}

#[test]
fn a_client_that_does_not_speak_tls_as_it_should_is_told_of_and_the_others_go_on() {
    let sides = Sides { client: true, broker: false, mutual: true };
    let secured = Secured::new(sides, &[], |_| {});
    let (mut client, mut broker) = secured.connect();
    let stranger = || Peer::connect(&secured.stage.proxy.bootstrap());

    let mut plain = stranger();
    plain.send(&heartbeat(1));
    // Not one byte: an alert would be the length of a frame to it.
    assert!(plain.rest().0.is_empty());
    secured.hears_of("client at 127.0.0.1: it speaks Kafka without TLS");

    let mut http = stranger();
    http.send(b"GET / HTTP/1.1\r\n\r\n");
    http.rest();
    secured.hears_of("what it says is no TLS: it begins with byte 0x47");

    drop(stranger());
    secured.hears_of("it ended in the middle of the TLS handshake");

    let mut unknown = secured.authority.client(stranger().0, None);
    assert!(unknown.0.write_all(&heartbeat(1)).is_err() || unknown.rest().1.is_some());
    secured.hears_of("it shows no certificate, and has to");

    let other = Authority::new("another");
    let identity = other.sign("identity.pem", "client", |_| {});
    let mut unknown = secured.authority.client(stranger().0, Some(&identity));
    assert!(unknown.0.write_all(&heartbeat(1)).is_err() || unknown.rest().1.is_some());
    secured.hears_of("its certificate is signed by no authority that is known here");

    let mut wary = other.client(stranger().0, None);
    assert!(wary.0.write_all(&heartbeat(1)).is_err());
    secured.hears_of("it does not know the authority that signed our certificate");

    assert_eq!(secured.stage.proxy.total().handshakes_failed, 6);
    client.send(&heartbeat(9));
    broker.hears(&heartbeat(9));
}

#[test]
fn a_broker_that_does_not_speak_tls_as_it_should_is_told_of_by_its_name() {
    let sides = Sides { client: false, broker: true, mutual: false };
    let secured = Secured::new(sides, &[], |_| {});
    let (mut client, mut broker) = secured.connect();
    let address = format!("broker {}: ", endpoint(&secured.stage.broker));
    let hears_of = |expected: &str| secured.hears_of(&format!("{address}{expected}"));
    let stranger = || {
        let client = Peer::connect(&secured.stage.proxy.bootstrap());
        (client, Peer::accept(&secured.stage.broker))
    };

    let (mut at_plain, plain) = stranger();
    drop(plain);
    assert!(at_plain.rest().0.is_empty());
    hears_of("it ended in the middle of the TLS handshake, as listeners without TLS do");

    let (mut at_plain, mut plain) = stranger();
    plain.send(&heartbeat_answer(1));
    assert!(at_plain.rest().0.is_empty());
    hears_of("what it says is no TLS");

    let (authority, other) = (&secured.authority, Authority::new("another"));
    let past = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    };
    let cases = [
        (
            other.sign("unknown.pem", "127.0.0.1", |_| {}),
            "its certificate is signed by no authority that is known here",
        ),
        (authority.sign("past.pem", "127.0.0.1", past), "its certificate has expired"),
        (authority.sign("other.pem", "kafka-1", |_| {}), "its certificate is not for"),
    ];
    for (identity, expected) in cases {
        let (mut client, at_broker) = stranger();
        assert!(authority.broker(at_broker.0, &identity, false).rest().1.is_some());
        assert!(client.rest().0.is_empty());
        hears_of(expected);
    }

    // In TLS 1.3 it says so after the handshake.
    let (mut client_of_asking, at_broker) = stranger();
    assert!(authority.broker(at_broker.0, &secured.identity, true).rest().1.is_some());
    assert!(client_of_asking.rest().0.is_empty());
    hears_of("it wants a certificate of ours");

    let total = secured.stage.proxy.total();
    assert_eq!((total.handshakes_failed, total.unreachable), (5, 0));
    client.send(&heartbeat(9));
    broker.hears(&heartbeat(9));
}

#[test]
fn a_handshake_has_its_time() {
    for sides in [EVERY_WAY[0], EVERY_WAY[1]] {
        let time = Duration::from_millis(20);
        let secured = Secured::new(sides, &[], |plan| plan.limits.handshake_timeout = time);
        let mut client = Peer::connect(&secured.stage.proxy.bootstrap());
        assert_eq!(client.rest(), (vec![], false));
        secured.hears_of("no TLS handshake within 20ms");
    }
}

#[test]
fn a_broker_may_have_another_name_a_certificate_of_its_own_or_any_at_all() {
    let authority = Authority::new("the authority");
    let named = authority.sign("named.pem", "kafka-1", |_| {});
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let own = authority.file("own.pem");
    fs::write(&own, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
    let server_name = Some("kafka-1".to_owned());
    let cases = [
        (
            &named,
            BrokerTls { ca: Some(authority.file("ca.pem")), server_name, ..Default::default() },
        ),
        (&own, BrokerTls { ca: Some(own.clone()), ..Default::default() }),
        (&named, BrokerTls { insecure: true, ..Default::default() }),
    ];
    for (identity, tls) in cases {
        let toward_brokers = Some(tls.read(NOW_S).unwrap());
        let stage = Stage::planned(&[], |plan| plan.tls.toward_brokers = toward_brokers);
        let mut client = Peer::connect(&stage.proxy.bootstrap());
        let at_broker = Peer::accept(&stage.broker).0;
        let mut broker = authority.broker(at_broker, identity, false);
        client.send(&heartbeat(1));
        broker.hears(&heartbeat(1));
    }
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_named() {
    let authority = Authority::new("the authority");
    let good = authority.sign("good.pem", "localhost", |_| {});
    let other = authority.sign("other.pem", "localhost", |_| {});
    let past = authority.sign("past.pem", "localhost", |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let write = |name: &str, bytes: &[u8]| {
        fs::write(authority.file(name), bytes).unwrap();
        authority.file(name)
    };
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases: [(PathBuf, Option<PathBuf>, &str); 11] = [
        (authority.file("none.pem"), None, "none.pem: No such file"),
        (write("empty", b""), None, "empty: no certificate in it; it is empty"),
        (write("text", b"hello"), None, "text: no certificate in it; it is no PEM"),
        (write("store.jks", b"\xfe\xed\xfe\xed\0"), None, "Java keystore"),
        (write("store.p12", b"\x30\x82\x01\x02"), None, "PKCS#12"),
        (write("torn.pem", torn.as_bytes()), None, "the PEM in it is damaged"),
        (write("garbled.pem", garbled.as_bytes()), Some(good.clone()), "garbled.pem: "),
        (authority.file("ca.pem"), None, "ca.pem: no private key in it"),
        (good.clone(), Some(write("locked.pem", locked.as_bytes())), "key is encrypted"),
        (good.clone(), Some(other), "other.pem does not fit the certificate in "),
        (past, None, "past.pem: its certificate has expired: 2002-01-01 00:00:00 UTC"),
    ];
    for (cert, key, expected) in cases {
        let toward_clients = ListenTls { cert: cert.clone(), key: key.clone(), client_ca: None };
        let toward_brokers = BrokerTls {
            ca: Some(authority.file("ca.pem")),
            cert: Some(cert),
            key,
            ..BrokerTls::default()
        };
        let errors = [toward_clients.read(NOW_S).err(), toward_brokers.read(NOW_S).err()];
        for error in errors {
            let text = chain(&error.expect(expected));
            assert!(text.contains(expected), "{text}");
        }
    }
    let tls = BrokerTls { ca: Some(write("text", b"hello")), ..BrokerTls::default() };
    assert!(chain(&tls.read(NOW_S).unwrap_err()).contains("text: no certificate in it"));
    let name = Some("no host".to_owned());
    let tls = BrokerTls { server_name: name, insecure: true, ..BrokerTls::default() };
    assert!(chain(&tls.read(NOW_S).unwrap_err()).contains("\"no host\" is neither"));
}

fn chain(error: &TlsError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[test]
fn a_run_on_a_cluster_with_tls_is_valid() {
    let authority = Authority::new("the authority");
    let identity = authority.sign("identity.pem", "127.0.0.1", |_| {}).display().to_string();
    let ca = authority.file("ca.pem").display().to_string();
    let broker = Serving::start(&["broker", "embedded"]);
    let arguments = ["proxy", "--bootstrap-server", &broker.servers];
    let cluster = Serving::start(&[&arguments[..], &["--listen-tls-cert", &identity]].concat());
    let more = ["--time-limit", "1", "--tls-ca", &ca];
    let output = test_through(&cluster.servers, authority.folder.path(), &more);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}
