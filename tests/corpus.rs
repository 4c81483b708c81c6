//! Every capture in `corpus/captures` is judged as its `.expected` says; several files of one name,
//! `NAME+1` and so on, as one.
//!
//! With `FENCEPOST_RECORD` set the captures are recorded anew, with the verdicts they have now.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capture_file::write::{self, PacketBlock};
use capture_file::{CaptureReader, LinkType};
use fencepost::broker::embedded::{Bug, TransactionVersion};
use fencepost::capture::PcapngTap;
use fencepost::history::{Connection, Direction, Tap};
use fencepost::pipeline::GroupProtocol;
use fencepost::run::annotate::annotate;
use fencepost::run::judge::{Given, judge};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use support::{Ticking, World, history_of_group, history_tapped};

const BUGS: &[Bug] = &[
    Bug::DeliverAborted,
    Bug::DuplicateOnRetry,
    Bug::OffsetZeroAck,
    Bug::TornCommit,
    Bug::LsoPastOpenTxn,
    Bug::ChangeRecord,
    Bug::SkipOnFetch,
    Bug::AppendRefused,
    Bug::AcceptZombie,
    Bug::LoseAckedWrite,
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/captures")
}

/// What of a verdict is expected again.
fn said(files: &[PathBuf]) -> Value {
    let verdict = judge(files, &Given::default()).unwrap();
    let counts = verdict.anomalies.iter().map(|(name, found)| (name.clone(), json!(found.count)));
    let wire = verdict.wire.unwrap();
    json!({
        "valid": verdict.valid,
        "bad_types": verdict.bad_types,
        "anomalies": counts.collect::<serde_json::Map<_, _>>(),
        "exchanges": wire.exchanges,
        "connections": wire.connections,
        "undecoded_bytes": wire.undecoded_bytes,
        "gaps": wire.gaps,
    })
}

#[test]
fn every_capture_of_the_corpus_is_judged_as_it_should_be() {
    if std::env::var_os("FENCEPOST_RECORD").is_some() {
        record_all();
    }
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut captures: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for file in files.filter(|path| path.extension().is_some_and(|e| e == "gz")) {
        captures.entry(expected_file(&file)).or_default().push(file);
    }
    assert!(captures.len() > BUGS.len(), "{} captures", captures.len());
    assert!(captures.values().any(|files| files.len() > 1));
    for (expected, files) in &mut captures {
        files.sort();
        let text = fs::read(expected).unwrap();
        let expected_again: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(said(files), expected_again, "{}", expected.display());
    }
}

#[test]
fn findings_become_comments_on_the_packets_that_prove_them() {
    let capture = folder().join("bug-deliver-aborted.pcapng.gz");
    let verdict = judge(std::slice::from_ref(&capture), &Given::default()).unwrap();
    let cases = verdict.anomalies.values().flat_map(|found| &found.cases);
    let named: BTreeSet<u64> = cases.flat_map(|case| case.frames.iter().copied()).collect();
    assert!(!named.is_empty());

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("annotated.pcapng");
    assert_eq!(
        annotate(std::slice::from_ref(&capture), &verdict, &copy).unwrap(),
        named.len() as u64
    );
    assert_eq!(said(std::slice::from_ref(&copy)), said(&[capture]));
    let mut reader = CaptureReader::new(File::open(&copy).unwrap()).unwrap();
    let mut commented = BTreeSet::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        if packet.comments().any(|comment| comment.starts_with(b"fencepost: L7-")) {
            commented.insert(packet.number);
        }
    }
    assert!(!commented.is_empty() && commented.is_subset(&named));
}

#[test]
fn comments_find_their_packets_in_several_captures() {
    let names = ["bug-torn-commit", "bug-deliver-aborted"];
    let captures = names.map(capture_file);
    let verdict = judge(&captures, &Given::default()).unwrap();
    let cases = verdict.anomalies.values().flat_map(|found| &found.cases);
    let named: BTreeSet<(u16, u64)> = cases.flat_map(|case| case.packets()).collect();
    assert!([0, 1].iter().all(|file| named.iter().any(|(of, _)| of == file)), "{named:?}");

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("annotated.pcapng");
    assert_eq!(annotate(&captures, &verdict, &copy).unwrap(), named.len() as u64);
    // The packets that have comments are those that were named, by what they hold.
    let mut expected = Vec::new();
    for (file, capture) in captures.iter().enumerate() {
        let mut reader = CaptureReader::new(File::open(capture).unwrap()).unwrap();
        while let Some(packet) = reader.next_packet().unwrap() {
            if named.contains(&(file as u16, packet.number)) {
                expected.push((packet.time_ns, packet.data.to_vec()));
            }
        }
    }
    let mut found = Vec::new();
    let (mut reader, mut last_ns) = (CaptureReader::new(File::open(&copy).unwrap()).unwrap(), 0);
    while let Some(packet) = reader.next_packet().unwrap() {
        assert!(packet.time_ns >= last_ns, "packet {} is not in order", packet.number);
        last_ns = packet.time_ns;
        if packet.comments().any(|comment| comment.starts_with(b"fencepost: ")) {
            found.push((packet.time_ns, packet.data.to_vec()));
        }
    }
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

fn capture_file(name: &str) -> PathBuf {
    folder().join(format!("{name}.pcapng.gz"))
}

fn expected_file(capture: &Path) -> PathBuf {
    let name = capture.file_name().unwrap().to_string_lossy();
    let name = name.split(['+', '.']).next().unwrap();
    folder().join(format!("{name}.expected"))
}

fn record_all() {
    let world = |bug| World {
        nodes: 1,
        transaction_version: TransactionVersion::Two,
        txn: true,
        bug,
        time_limit: Duration::from_millis(150),
        rate_hz: None,
    };
    let clean = recorded(&world(None), 1);
    let old_style = World { transaction_version: TransactionVersion::One, ..world(None) };
    keep("clean-old-style", &recorded(&old_style, 2));
    keep("clean-no-txn", &recorded(&World { txn: false, ..world(None) }, 3));
    for &bug in BUGS {
        keep(&format!("bug-{}", bug.name()), &recorded(&world(Some(bug)), 1));
    }
    keep("mid-stream", &copied(&clean, |number, data| vec![data; usize::from(number > 400)]));
    keep("lossy", &copied(&clean, |number, data| vec![data; usize::from(number % 40 != 0)]));
    keep("snaplen", &copied(&clean, |_, data| vec![&data[..data.len().min(128)]]));
    keep("twice", &copied(&clean, |_, data| vec![data, data]));
    for (name, protocol) in
        [("group-classic", GroupProtocol::Classic), ("group-consumer", GroupProtocol::Consumer)]
    {
        let world = World { txn: false, time_limit: Duration::from_millis(400), ..world(None) };
        let run = |tap| drop(history_of_group(&world, protocol, 4, Arc::new(Ticking::new(tap))));
        keep(name, &tapped(run));
    }
    let stale =
        World { time_limit: Duration::from_millis(400), ..world(Some(Bug::AcceptStaleCommit)) };
    keep("bug-accept-stale-commit", &recorded(&stale, 2));
    let part = |chosen: &dyn Fn(u64, &[u8]) -> bool| {
        copied(&clean, |number, data| vec![data; usize::from(chosen(number, data))])
    };
    // Two points of capture, each with the connections of every other client's port.
    let is_even = |data: &[u8]| (data[35] ^ data[37] ^ (9092u16 as u8)) & 1 == 0;
    keep_all("two-points", &[part(&|_, data| is_even(data)), part(&|_, data| !is_even(data))]);
    keep_all(
        "rotated",
        &[part(&|n, _| n < 300), part(&|n, _| (300..550).contains(&n)), part(&|n, _| n >= 550)],
    );
    keep("clean-new-style", &clean);
    keep("tls", &tls());
}

/// A file in memory.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tapped(talk: impl FnOnce(Arc<PcapngTap>)) -> Vec<u8> {
    let kept = Kept::default();
    let file = kept.clone();
    let open = Box::new(move |_| Ok(Box::new(file.clone()) as Box<_>));
    let tap = Arc::new(PcapngTap::new(open, u64::MAX).unwrap());
    talk(tap.clone());
    tap.finish().unwrap();
    std::mem::take(&mut *kept.0.lock().unwrap())
}

fn recorded(world: &World, seed: u64) -> Vec<u8> {
    tapped(|tap| drop(history_tapped(world, seed, Arc::new(Ticking::new(tap)))))
}

/// The beginning of a handshake of TLS 1.2, and bytes that look like chance.
fn tls() -> Vec<u8> {
    tapped(|tap| {
        let connection = Connection(0);
        let (client, broker) = ("10.0.0.1:40000".parse(), "10.0.0.2:9093".parse());
        tap.opened(connection, client.unwrap(), broker.unwrap(), 1_000_000_000);
        for (turn, direction) in
            [Direction::Request, Direction::Response].iter().cycle().take(8).enumerate()
        {
            let kind = if turn < 2 { 0x16 } else { 0x17 };
            let mut record = vec![kind, 3, 3, 0, 200];
            record.extend((0..200u32).map(|n| (n * 167 + turn as u32 * 31) as u8));
            tap.bytes(connection, *direction, 1_000_000_000 + turn as u64, &record);
        }
        tap.closed(connection, Direction::Request, 2_000_000_000);
    })
}

/// A capture with other packets in place of each: those `choose` makes of it.
fn copied<'a>(
    capture: &'a [u8],
    choose: impl for<'p> Fn(u64, &'p [u8]) -> Vec<&'p [u8]> + 'a,
) -> Vec<u8> {
    let mut out = Vec::new();
    write::section_header(&mut out, "fencepost");
    write::interface(&mut out, LinkType::ETHERNET, "copied");
    let mut reader = CaptureReader::new(capture).unwrap();
    while let Some(packet) = reader.next_packet().unwrap() {
        for data in choose(packet.number, packet.data) {
            let block = PacketBlock {
                interface: 0,
                time_ns: packet.time_ns,
                headers: data,
                payload: &[],
                comments: &[],
            };
            write::cut_packet(&mut out, &block, packet.wire_bytes);
        }
    }
    out
}

fn keep(name: &str, capture: &[u8]) {
    keep_files(&[folder().join(format!("{name}.pcapng.gz"))], &[capture]);
}

/// Files that are one capture.
fn keep_all(name: &str, captures: &[Vec<u8>]) {
    let path = |number| folder().join(format!("{name}+{number}.pcapng.gz"));
    let paths: Vec<PathBuf> = (1..=captures.len()).map(path).collect();
    let captures: Vec<&[u8]> = captures.iter().map(Vec::as_slice).collect();
    keep_files(&paths, &captures);
}

fn keep_files(paths: &[PathBuf], captures: &[&[u8]]) {
    for (path, capture) in paths.iter().zip(captures) {
        let mut file = GzEncoder::new(File::create(path).unwrap(), Compression::best());
        file.write_all(capture).unwrap();
        file.finish().unwrap();
    }
    let expected = serde_json::to_string_pretty(&said(paths)).unwrap() + "\n";
    fs::write(expected_file(&paths[0]), expected).unwrap();
}
