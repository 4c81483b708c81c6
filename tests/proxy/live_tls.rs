//! TLS against real Kafka, where `FENCEPOST_LIVE` is set: a listener with TLS and one without, and
//! proxies that add TLS, take it off, or have it on both sides.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fencepost::broker::kafka::{Settings, Version, cache_folder};
use fencepost::broker::{Cluster, Kafka};
use fencepost::world::Chance;

use crate::kafka::{Serving, said, test_through};
use crate::tls::Authority;

/// A broker with listeners of both kinds, ended with this value.
struct Broker {
    process: Child,
    plain: String,
    secure: String,
}

impl Broker {
    fn start(jars: &Path, folder: &Path, authority: &Authority) -> Self {
        let identity = authority.sign("broker.pem", "localhost", |_| {});
        let ports: Vec<u16> = {
            let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
        };
        let [plain, secure, controller] = ports[..] else { unreachable!() };
        let lines = [
            "process.roles=broker,controller".to_owned(),
            "node.id=1".to_owned(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!(
                "listeners=PLAINTEXT://127.0.0.1:{plain},SSL://localhost:{secure},\
                 CONTROLLER://127.0.0.1:{controller}"
            ),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT"
                .to_owned(),
            "controller.listener.names=CONTROLLER".to_owned(),
            "inter.broker.listener.name=PLAINTEXT".to_owned(),
            format!("log.dirs={}", folder.join("data").display()),
            "offsets.topic.replication.factor=1".to_owned(),
            "transaction.state.log.replication.factor=1".to_owned(),
            "transaction.state.log.min.isr=1".to_owned(),
            "transaction.state.log.num.partitions=5".to_owned(),
            "offsets.topic.num.partitions=5".to_owned(),
            "group.initial.rebalance.delay.ms=0".to_owned(),
            "log.cleaner.dedupe.buffer.size=2097152".to_owned(),
            "ssl.keystore.type=PEM".to_owned(),
            format!("ssl.keystore.location={}", identity.display()),
            "ssl.truststore.type=PEM".to_owned(),
            format!("ssl.truststore.location={}", authority.file("ca.pem").display()),
            // Whoever comes by TLS has to show a certificate too.
            "ssl.client.auth=required".to_owned(),
        ];
        let properties = folder.join("server.properties");
        fs::write(&properties, lines.join("\n")).unwrap();
        let java = |main: &[&str]| {
            let mut java = Command::new("java");
            java.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
            java.arg(jars).args(main).arg(&properties).stdout(Stdio::null());
            java
        };
        let format = ["kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c"];
        assert!(java(&format).stderr(Stdio::null()).status().unwrap().success());
        let mut process = java(&["kafka.Kafka"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        // What it logs goes there.
        let is_up = |line: &Result<String, _>| {
            line.as_ref().is_ok_and(|line| line.contains("Kafka Server started"))
        };
        assert!(lines.any(|line| is_up(&line)), "Kafka starts");
        // It must not be stopped by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let (plain, secure) = (format!("127.0.0.1:{plain}"), format!("localhost:{secure}"));
        Self { process, plain, secure }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A whole run: producers, transactions, consumers, groups.
fn is_valid(servers: &str, flags: &[&str], folder: &Path, what: &str) {
    let more = [&["--sub-via", "assign,subscribe", "--time-limit", "3"][..], flags].concat();
    let output = test_through(servers, folder, &more);
    assert_eq!(output.status.code(), Some(0), "{what}: {}", said(&output));
}

#[tokio::test]
async fn runs_on_real_kafka_are_valid_with_tls_on_either_side_and_on_both() {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return;
    }
    for version in [Version::new(3, 9, 1), Version::new(4, 3, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache_folder(|name| std::env::var_os(name)).expect("a folder for the cache");
        let settings =
            Settings { version, ..Settings::new(folder.path().to_owned(), cache.clone()) };
        Kafka::new(settings, &Chance::from_seed(7)).unwrap().provision().await.unwrap();
        let jars = cache.join(format!("kafka-{version}")).join("libs/*");
        let authority = Authority::new("the authority");
        let broker = Broker::start(&jars, folder.path(), &authority);
        let identity = authority.sign("proxy.pem", "127.0.0.1", |_| {});
        let (ca, identity) = (authority.file("ca.pem"), identity.display().to_string());
        let ca = ca.display().to_string();
        let outward = ["--tls-ca", &ca, "--tls-cert", &identity];
        let inward = ["--listen-tls-cert", &identity, "--listen-tls-client-ca", &ca];
        let start = |servers: &str, flags: &[&str]| {
            Serving::start(&[&["proxy", "--bootstrap-server", servers], flags].concat())
        };

        is_valid(&broker.secure, &outward, folder.path(), "TLS toward the broker");
        // A client with TLS is a proxy that adds it.
        for (behind, flags) in [(&broker.plain, &[][..]), (&broker.secure, &outward)] {
            let takes = start(behind, &[&inward, flags].concat());
            let client = start(&takes.servers, &outward);
            is_valid(&client.servers, &[], folder.path(), "TLS toward the client");
            let heard = client.end();
            assert!(heard.contains("through 1 listener"), "{heard}");
        }
    }
}
