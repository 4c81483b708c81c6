//! Real brokers: started, asked, hurt, stopped. On where `FENCEPOST_LIVE` is set; Java and Maven,
//! or jars already in the cache, are then expected to be there.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fencepost::broker::kafka::{Settings, Version, cache_folder};
use fencepost::broker::{BrokerError, Cluster, External, Facts, Kafka, bring_up, tear_down};
use fencepost::world::Chance;
use kafka_wire::ids::NodeId;

/// Those every change is tried on; `FENCEPOST_LIVE=3.7.2,4.0.0` names others.
const VERSIONS: &[Version] = &[Version::new(3, 9, 1), Version::new(4, 3, 0)];

/// The releases to try, none where live tests are off.
fn versions() -> Vec<Version> {
    match std::env::var("FENCEPOST_LIVE") {
        Err(_) => Vec::new(),
        Ok(text) if text.contains('.') => {
            text.split(',').map(|version| version.parse().unwrap()).collect()
        }
        Ok(_) => VERSIONS.to_vec(),
    }
}

fn settings(version: Version, nodes: u16, folder: &Path) -> Settings {
    let cache = cache_folder(|name| std::env::var_os(name)).expect("a folder for the cache");
    Settings { version, nodes, ..Settings::new(folder.to_owned(), cache) }
}

fn properties(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn kafka(settings: Settings) -> Kafka {
    Kafka::new(settings, &Chance::from_seed(7)).unwrap()
}

/// Brings a cluster up, saying how long each part took.
async fn up(cluster: &Kafka) -> Facts {
    let start = Instant::now();
    cluster.provision().await.unwrap();
    let provisioned = start.elapsed();
    let facts = bring_up(cluster).await.unwrap();
    let ready = start.elapsed() - provisioned;
    eprintln!("{facts}: provisioned and formatted {provisioned:.2?}, ready {ready:.2?}");
    facts
}

#[tokio::test]
async fn a_node_is_ready_says_what_it_is_and_comes_back_from_every_fault() {
    for version in versions() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = kafka(settings(version, 1, folder.path()));
        let facts = up(&cluster).await;
        eprintln!("{:?}", facts.finalized_features);
        assert_eq!(facts.software, format!("Apache Kafka {version}"));
        assert_eq!(facts.nodes, cluster.nodes());
        let transaction_version = if version < Version::new(4, 0, 0) { 0 } else { 2 };
        assert_eq!(facts.transaction_version(), transaction_version);

        let external = External::new(&cluster.bootstrap(), true, Duration::from_secs(20)).unwrap();
        let seen = bring_up(&external).await.unwrap();
        eprintln!("from outside: {seen}");
        assert_eq!(seen.nodes, cluster.nodes());
        let line = format!("{}.{}", version.major, version.minor);
        assert!(seen.software.ends_with(&line), "{}", seen.software);

        let node = NodeId(1);
        let start = Instant::now();
        cluster.kill(node).await.unwrap();
        cluster.kill(node).await.unwrap();
        let dead = cluster.ready().await.expect_err("its process is gone");
        assert!(matches!(dead, BrokerError::Died { .. }), "{dead}");
        assert!(cluster.pause(node).await.is_err(), "the dead cannot be frozen");
        cluster.start(node).await.unwrap();
        assert_eq!(cluster.ready().await.unwrap(), facts);
        eprintln!("killed and back in {:.2?}", start.elapsed());

        cluster.pause(node).await.unwrap();
        let silent = External::new(&cluster.bootstrap(), true, Duration::from_millis(300)).unwrap();
        let error = silent.ready().await.expect_err("it is frozen");
        assert!(matches!(error, BrokerError::TimedOut { .. }), "{error}");
        cluster.resume(node).await.unwrap();
        assert_eq!(cluster.ready().await.unwrap(), facts);

        let start = Instant::now();
        tear_down(&cluster).await.unwrap();
        eprintln!("stopped in {:.2?}", start.elapsed());
        let log = std::fs::read_to_string(&cluster.logs()[0]).unwrap();
        assert!(log.contains("Kafka Server started"), "{log}");
    }
}

#[tokio::test]
async fn three_nodes_go_on_without_one_and_take_it_back() {
    for version in versions() {
        let folder = tempfile::tempdir().unwrap();
        let quick = properties(&[
            ("broker.session.timeout.ms", "3000"),
            ("broker.heartbeat.interval.ms", "500"),
        ]);
        let settings = Settings { properties: quick, ..settings(version, 3, folder.path()) };
        let cluster = kafka(settings);
        let facts = up(&cluster).await;
        assert_eq!(facts.nodes, cluster.nodes());
        assert_eq!(facts.nodes.len(), 3);

        cluster.kill(NodeId(2)).await.unwrap();
        let start = Instant::now();
        let others = cluster.nodes()[0].to_string();
        let external = External::new(&others, true, Duration::from_secs(30)).unwrap();
        assert_eq!(external.ready().await.unwrap().nodes.len(), 2);
        eprintln!("two of three serve after {:.2?}", start.elapsed());

        cluster.start(NodeId(2)).await.unwrap();
        assert_eq!(cluster.ready().await.unwrap().nodes.len(), 3);
        eprintln!("three of three serve after {:.2?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_broker_that_cannot_start_says_why() {
    for version in versions() {
        // The first is found when storage is formatted, the second when the broker starts.
        let bad = [("num.network.threads", "none"), ("metric.reporters", "no.such.Reporter")];
        for (key, value) in bad {
            let folder = tempfile::tempdir().unwrap();
            let settings = Settings {
                properties: properties(&[(key, value)]),
                ..settings(version, 1, folder.path())
            };
            let start = Instant::now();
            let error = bring_up(&kafka(settings)).await.expect_err("it cannot start");
            eprintln!("after {:.2?}: {error}\n", start.elapsed());
            let BrokerError::Died { who, log, .. } = &error else { panic!("{error}") };
            assert_eq!(who, &format!("Apache Kafka {version} node 1"));
            assert!(log.to_string().contains(value), "{error}");
        }
    }
}

#[tokio::test]
async fn transactions_are_of_the_version_asked_for() {
    for version in versions() {
        for level in ["0", "1", "2"] {
            let folder = tempfile::tempdir().unwrap();
            let settings = Settings {
                properties: properties(&[("transaction.version", level)]),
                ..settings(version, 1, folder.path())
            };
            let result = bring_up(&kafka(settings)).await;
            if level != "0" && version < Version::new(4, 0, 0) {
                assert!(matches!(result, Err(BrokerError::Refused { .. })), "{result:?}");
            } else {
                assert_eq!(result.unwrap().transaction_version().to_string(), level);
            }
        }
    }
}

/// Not a test of its own: what the next one starts, as the tool whose broker is watched.
#[tokio::test]
async fn helper_that_starts_a_broker_and_waits_for_its_own_death() {
    let Some(folder) = std::env::var_os("FENCEPOST_TEST_DIES") else { return };
    let cluster = kafka(settings(versions()[0], 1, Path::new(&folder)));
    bring_up(&cluster).await.unwrap();
    eprintln!("bootstrap.servers={}", cluster.bootstrap());
    std::future::pending::<()>().await;
}

#[test]
fn a_broker_dies_with_the_tool_even_where_that_is_killed() {
    if versions().is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "helper_that_starts_a_broker_and_waits_for_its_own_death";
    let mut tool = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("FENCEPOST_TEST_DIES", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(tool.stderr.take().unwrap()).lines();
    let bootstrap = said
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("bootstrap.servers=").map(str::to_owned));
    let mut connection = TcpStream::connect(bootstrap.expect("it became ready")).unwrap();
    tool.kill().unwrap();
    tool.wait().unwrap();
    // The broker says nothing unasked: the read ends when its process does.
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ended = std::io::Read::read(&mut connection, &mut [0]);
    let reset = std::io::ErrorKind::ConnectionReset;
    assert!(ended.as_ref().is_ok_and(|n| *n == 0) || ended.is_err_and(|e| e.kind() == reset));
}
