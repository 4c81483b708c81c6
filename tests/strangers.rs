//! Other people's clients against the embedded broker: what they send comes back as they sent it.
//!
//! On where `FENCEPOST_LIVE` is set. A client that cannot be had here (no interpreter, no registry)
//! is passed over and said so; one that is there must pass. What each does is in the driver
//! programs beside this file; `docs/STRANGERS.md` has those that are run by hand.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use fencepost::broker::kafka::{Settings, Version, cache_folder};
use fencepost::broker::{Cluster, Kafka};
use fencepost::world::Chance;

const PYTHON_PACKAGES: &[&str] =
    &["confluent-kafka==2.16.1", "aiokafka==0.14.0", "kafka-python==3.0.12", "cramjam==2.14.0"];
const PYTHON_DRIVERS: &[&str] = &["librdkafka.py", "aio_kafka.py", "kafka_python.py"];
/// Packages of a format each, without which kafka-python does not compress.
const PYTHON_CODECS: &[&str] = &["python-snappy==0.7.3", "lz4==4.4.5", "zstandard==0.25.0"];

/// The embedded broker as the tool starts it, ended with this value.
struct Broker {
    process: Child,
    servers: String,
    arguments: String,
    /// What a proxy stands in front of.
    behind: Option<Box<Broker>>,
}

impl Broker {
    fn start(arguments: &[&str]) -> Self {
        Self::serve(&[&["broker", "embedded"], arguments].concat())
    }

    /// A proxy in front of it, which delays frames and tears them into pieces.
    fn proxied(self) -> Self {
        let rules = [
            "delay any request by=1ms jitter=20ms probability=0.1",
            "delay any response by=1ms jitter=20ms probability=0.1",
            "slice any response sizes=1,3,40 pause=1ms probability=0.01",
        ];
        let base = ["proxy", "--seed", "7", "--bootstrap-server", &self.servers];
        let rules = rules.into_iter().flat_map(|rule| ["--rule", rule]);
        let mut proxy = Self::serve(&base.into_iter().chain(rules).collect::<Vec<_>>());
        proxy.behind = Some(Box::new(self));
        proxy
    }

    fn serve(arguments: &[&str]) -> Self {
        let mut process = Command::new(assert_cmd::cargo::cargo_bin!("fencepost"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let servers = BufReader::new(process.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("bootstrap.servers=").map(str::to_owned))
            .expect("it becomes ready");
        Self { process, servers, arguments: arguments.join(" "), behind: None }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        drop(self.behind.take());
    }
}

/// The brokers every client is tried on, none where live tests are off.
fn brokers() -> Vec<Broker> {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return Vec::new();
    }
    // kcat has no other way to make a topic than to ask for it.
    let on_demand = ["--broker-property", "auto.create.topics.enable=true"];
    let each: &[&[&str]] =
        &[&[], &["--nodes", "3"], &["--broker-property", "transaction.version=1"]];
    let start = |arguments: &&[&str]| Broker::start(&[*arguments, &on_demand].concat());
    each.iter().map(start).chain([start(&each[1]).proxied()]).collect()
}

fn driver(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strangers").join(name)
}

/// What a command said, or nothing where there is no such program or it does not succeed.
fn available(command: &mut Command) -> Option<Output> {
    let output = command.output().ok()?;
    output.status.success().then_some(output)
}

/// Runs a driver to its end; every line it printed must be a feature that works, or is not there.
fn pass(broker: &Broker, name: &str, command: &mut Command) {
    let start = Instant::now();
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().filter(|line| line.ends_with(": ok")).count();
    let heading = said.lines().next().unwrap_or_default();
    eprintln!("{heading} on {}: {count} features in {:.1?}", broker.arguments, start.elapsed());
    assert!(output.status.success(), "{name} on {:?}:\n{said}\n{errors}", broker.arguments);
    assert!(count >= 10, "{name} tried too little:\n{said}");
}

#[test]
fn clients_of_python_are_served_as_by_kafka() {
    let brokers = brokers();
    if brokers.is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(_) = available(Command::new("python3").args(["-m", "venv"]).arg(folder.path())) else {
        return eprintln!("passed over: no python3 with venv");
    };
    let python = folder.path().join("bin/python");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:"]);
    install.args(PYTHON_PACKAGES).args(PYTHON_CODECS);
    let Some(_) = available(&mut install) else {
        return eprintln!("passed over: pip does not bring {PYTHON_PACKAGES:?}");
    };
    // Much of their time is waiting, and each has topics of its own: they go side by side.
    std::thread::scope(|scope| {
        for broker in &brokers {
            for name in PYTHON_DRIVERS {
                let mut command = Command::new(&python);
                command.arg(driver(name)).args([&broker.servers, *name]);
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                scope.spawn(move || pass(broker, name, &mut command));
            }
        }
    });
}

#[tokio::test]
async fn clients_of_java_are_served_as_by_kafka() {
    let brokers = brokers();
    if brokers.is_empty() {
        return;
    }
    if available(Command::new("javac").arg("-version")).is_none() {
        return eprintln!("passed over: no javac, without which Java runs no source file");
    }
    for version in [Version::new(3, 9, 1), Version::new(4, 3, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache_folder(|name| std::env::var_os(name)).expect("a folder for the cache");
        let settings =
            Settings { version, ..Settings::new(folder.path().to_owned(), cache.clone()) };
        let kafka = Kafka::new(settings, &Chance::from_seed(7)).unwrap();
        if let Err(error) = kafka.provision().await {
            return eprintln!("passed over: no jars of Kafka {version}: {error}");
        }
        let jars = cache.join(format!("kafka-{version}")).join("libs/*");
        std::thread::scope(|scope| {
            for broker in &brokers {
                let mut command = Command::new("java");
                command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
                command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
                command.arg("-cp").arg(&jars).arg(driver("Stranger.java"));
                command.args([&broker.servers, &format!("java-{version}")]);
                scope.spawn(move || pass(broker, "Stranger.java", &mut command));
            }
        });
    }
}

/// Runs kcat, given what it reads; it must succeed.
fn kcat(broker: &Broker, arguments: &[&str], input: &str) -> String {
    let mut process = Command::new("kcat")
        .args(["-b", &broker.servers])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kcat {arguments:?} on {:?}: {errors}", broker.arguments);
    String::from_utf8(output.stdout).unwrap()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn kcat_is_served_as_by_kafka() {
    let brokers = brokers();
    if !brokers.is_empty() && available(Command::new("kcat").arg("-V")).is_none() {
        return eprintln!("passed over: no kcat");
    }
    let sent: String = (0..500).map(|i| format!("key-{i}:value {i} {}\n", "x".repeat(i))).collect();
    for broker in &brokers {
        for kind in ["none", "gzip", "snappy", "lz4", "zstd"] {
            for acks in ["acks=1", "enable.idempotence=true"] {
                let topic = format!("{kind}-{}", &acks[..4]);
                // Metadata first: one that is not there is made when it is asked for.
                kcat(broker, &["-P", "-t", &topic, "-K", ":", "-z", kind, "-X", acks], &sent);
                let fetch = ["-C", "-t", &topic, "-o", "beginning", "-e", "-q", "-K", ":"];
                let got = kcat(broker, &[&fetch[..], &["-X", "check.crcs=true"]].concat(), "");
                assert_eq!(sorted(&got), sorted(&sent), "{kind} {acks} on {:?}", broker.arguments);
            }
        }
        kcat(broker, &["-P", "-t", "headers", "-H", "a=1", "-H", "b=", "-Z", "-K", ":"], "k:\n");
        let format = "%k %h %S\n";
        let got = kcat(broker, &["-C", "-t", "headers", "-e", "-q", "-f", format], "");
        assert_eq!(got, "k a=1,b= -1\n", "on {:?}", broker.arguments);

        let group = ["-G", "group", "-X", "auto.offset.reset=earliest", "-e", "-q", "none-acks"];
        let got = kcat(broker, &[&group[..], &["-K", ":"]].concat(), "");
        assert_eq!(sorted(&got), sorted(&sent), "on {:?}", broker.arguments);
        let again = kcat(broker, &[&group[..], &["-K", ":"]].concat(), "");
        assert_eq!(again, "", "committed offsets hold on {:?}", broker.arguments);

        let listed = kcat(broker, &["-L"], "");
        assert!(listed.contains("topic \"none-acks\""), "{listed}");
        assert_eq!(kcat(broker, &["-Q", "-t", "headers:0:-1"], ""), "headers [0] offset 1\n");
    }
}
