//! A capture of which parts are missing is found to be no worse than the whole.
//!
//! Packets are lost, the beginning or the end is missing, one direction or some connections were
//! not captured, packets are cut, or stand in two files: whatever is left of a clean capture is
//! clean. Of a capture that shows a bug, a part shows what the whole shows, or what else that bug
//! may show.
//!
//! A few seeds on the captures of the corpus; with `FENCEPOST_CAPTURES` (a folder as in
//! `captures.rs`) also on those, and with `FENCEPOST_SEEDS` on as many seeds as that says. What
//! alarms is left in the folder that `FENCEPOST_KEEP` names.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stderr, reason = "tests say what they found")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use capture_file::fragment::Fragments;
use capture_file::segment::{Dissected, dissect};
use capture_file::write::{self, PacketBlock};
use capture_file::{CaptureReader, LinkType};
use fencepost::broker::embedded::Bug;
use fencepost::checker::{Validity, Verdict};
use fencepost::run::judge::{Given, judge};

/// A packet, and where it came from and went to.
#[derive(Debug, Clone)]
struct Kept {
    link_type: LinkType,
    data: Vec<u8>,
    wire_bytes: u32,
    time_ns: u64,
    ends: Option<(SocketAddr, SocketAddr)>,
    has_payload: bool,
}

impl Kept {
    /// The same of both directions of a connection.
    fn connection(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.ends.map(|(one, other)| (one.min(other), one.max(other)))
    }
}

fn read(capture: &Path) -> Vec<Kept> {
    let mut reader = CaptureReader::new(File::open(capture).unwrap()).unwrap();
    let mut fragments = Fragments::default();
    let mut packets = Vec::new();
    while let Ok(Some(packet)) = reader.next_packet() {
        let dissected = dissect(packet.link_type, packet.data, packet.wire_bytes, &mut fragments);
        let (ends, has_payload) = match dissected {
            Dissected::Tcp(segment) => {
                (Some((segment.source, segment.target)), !segment.payload.is_empty())
            }
            _ => (None, true),
        };
        packets.push(Kept {
            link_type: packet.link_type,
            data: packet.data.to_vec(),
            wire_bytes: packet.wire_bytes,
            time_ns: packet.time_ns,
            ends,
            has_payload,
        });
    }
    packets
}

fn write<'a>(to: &Path, packets: impl IntoIterator<Item = &'a Kept>) {
    let mut out = Vec::new();
    write::section_header(&mut out, "fencepost");
    let mut link_types: Vec<LinkType> = Vec::new();
    for kept in packets {
        let known = link_types.iter().position(|known| *known == kept.link_type);
        let interface = known.unwrap_or_else(|| {
            link_types.push(kept.link_type);
            write::interface(&mut out, kept.link_type, "part");
            link_types.len() - 1
        });
        let block = PacketBlock {
            interface: interface as u32,
            time_ns: kept.time_ns,
            headers: &kept.data,
            payload: &[],
            comments: &[],
        };
        write::cut_packet(&mut out, &block, kept.wire_bytes);
    }
    fs::write(to, out).unwrap();
}

/// Numbers that look random, from a fixed beginning.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below.max(1)
    }
}

/// A way to lose a part of a capture: what is left, as one file or two.
type Loss = fn(&[Kept], &mut Random) -> Vec<Vec<Kept>>;

const LOSSES: &[(&str, Loss)] = &[
    ("some packets", |packets, random| {
        let of = [200, 50, 10, 4][random.below(4)];
        one(packets, |_| random.below(of) > 0)
    }),
    ("the beginning", |packets, random| {
        let from = random.below(packets.len());
        vec![packets[from..].to_vec()]
    }),
    ("beginning and end", |packets, random| {
        let from = random.below(packets.len());
        let to = from + random.below(packets.len() - from);
        vec![packets[from..to].to_vec()]
    }),
    ("stretches", |packets, random| {
        let mut left = packets.to_vec();
        for _ in 0..1 + random.below(4) {
            let from = random.below(left.len());
            let to = (from + random.below(1 + left.len() / 8)).min(left.len());
            left.drain(from..to);
        }
        vec![left]
    }),
    ("one direction", |packets, random| {
        // Of all connections, or of some.
        let forth = random.below(2) == 0;
        let of = 1 + random.below(3);
        let ports = brokers(packets);
        let chosen = connections(packets);
        let chosen: BTreeSet<_> = chosen.into_iter().filter(|_| random.below(of) == 0).collect();
        one(packets, |kept| {
            let Some(((_, target), connection)) = kept.ends.zip(kept.connection()) else {
                return true;
            };
            !chosen.contains(&connection) || ports.contains(&target.port()) == forth
        })
    }),
    ("connections", |packets, random| {
        let chosen = connections(packets);
        let chosen: BTreeSet<_> = chosen.into_iter().filter(|_| random.below(2) == 0).collect();
        one(packets, |kept| kept.connection().is_none_or(|of| chosen.contains(&of)))
    }),
    ("ends of packets", |packets, random| {
        let snaplen = [68, 96, 128, 256, 1024][random.below(5)];
        let mut left = packets.to_vec();
        left.iter_mut().for_each(|kept| kept.data.truncate(snaplen));
        vec![left]
    }),
    ("packets without payload", |packets, _| one(packets, |kept| kept.has_payload)),
    ("nothing, in two files", |packets, random| {
        let by_connection = random.below(2) == 0;
        let chosen = connections(packets);
        let chosen: BTreeSet<_> = chosen.into_iter().filter(|_| random.below(2) == 0).collect();
        let is_first = |kept: &Kept, random: &mut Random| match by_connection {
            true => kept.connection().is_some_and(|of| chosen.contains(&of)),
            false => random.below(2) == 0,
        };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for kept in packets {
            if is_first(kept, random) { &mut first } else { &mut second }.push(kept.clone());
        }
        vec![first, second]
    }),
    ("one clock, in two files", |packets, random| {
        let chosen = connections(packets);
        let chosen: BTreeSet<_> = chosen.into_iter().filter(|_| random.below(2) == 0).collect();
        let is_first = |kept: &&Kept| kept.connection().is_some_and(|of| chosen.contains(&of));
        let (first, second): (Vec<&Kept>, Vec<&Kept>) = packets.iter().partition(is_first);
        let skew_ns = skew_ns(random);
        let second = second.into_iter().map(|kept| later(kept, skew_ns)).collect();
        vec![first.into_iter().cloned().collect(), second]
    }),
    ("anything, and all of it twice, of two clocks", |packets, random| {
        let skew_ns = skew_ns(random);
        vec![packets.to_vec(), packets.iter().map(|kept| later(kept, skew_ns)).collect()]
    }),
    ("order", |packets, random| {
        let mut left = packets.to_vec();
        for at in 1..left.len() {
            let before = at.saturating_sub(random.below(4));
            if random.below(8) == 0 {
                left.swap(at, before);
            }
        }
        vec![left]
    }),
    ("the beginning, some packets, in two files", |packets, random| {
        let from = random.below(packets.len());
        let mut files = vec![Vec::new(), Vec::new()];
        for kept in &packets[from..] {
            if random.below(40) > 0 {
                files[random.below(2)].push(kept.clone());
            }
        }
        files
    }),
];

/// How much later one clock is than another.
fn skew_ns(random: &mut Random) -> u64 {
    [1_000_000, 50_000_000, 1_000_000_000, 9_000_000_000][random.below(4)]
}

fn later(kept: &Kept, by_ns: u64) -> Kept {
    Kept { time_ns: kept.time_ns + by_ns, ..kept.clone() }
}

fn one(packets: &[Kept], is_left: impl FnMut(&&Kept) -> bool) -> Vec<Vec<Kept>> {
    vec![packets.iter().filter(is_left).cloned().collect()]
}

fn connections(packets: &[Kept]) -> BTreeSet<(SocketAddr, SocketAddr)> {
    packets.iter().filter_map(Kept::connection).collect()
}

/// The ports that most packets of a connection have in common: the brokers'.
fn brokers(packets: &[Kept]) -> BTreeSet<u16> {
    let mut peers: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
    for (one, other) in connections(packets) {
        peers.entry(one.port()).or_default().insert(other.port());
        peers.entry(other.port()).or_default().insert(one.port());
    }
    let most = peers.values().map(BTreeSet::len).max().unwrap_or(0);
    peers.into_iter().filter(|(_, of)| of.len() == most).map(|(port, _)| port).collect()
}

fn judged(files: &[PathBuf]) -> Option<Verdict> {
    judge(files, &Given::default()).ok()
}

/// What may be found in a part of a capture.
fn allowed(capture: &Path, whole: &Verdict) -> BTreeSet<String> {
    let mut allowed: BTreeSet<String> = whole.bad_types.iter().cloned().collect();
    let name = capture.file_name().unwrap().to_string_lossy();
    let bug = Bug::ALL.iter().find(|bug| name.starts_with(&format!("bug-{}.", bug.name())));
    if let Some(bug) = bug {
        let names = bug.must().iter().chain(bug.also()).chain(bug.may_follow());
        allowed.extend(names.map(|name| (*name).to_owned()));
    }
    allowed
}

/// Loses a part of a capture in every way and so many times; what is found that should not be.
fn alarms(capture: &Path, seeds: std::ops::Range<u64>, losses: &[(&str, Loss)]) -> Vec<String> {
    let packets = read(capture);
    let Some(whole) = judged(&[capture.to_owned()]) else { return Vec::new() };
    let allowed = allowed(capture, &whole);
    let folder = tempfile::tempdir().unwrap();
    let mut alarms = Vec::new();
    for seed in seeds {
        for (number, (what, lose)) in losses.iter().enumerate() {
            let mut random = Random(seed * 1_000 + number as u64);
            let parts = lose(&packets, &mut random);
            let mut files = Vec::new();
            for (number, part) in parts.iter().enumerate() {
                let file = folder.path().join(format!("part-{number}.pcapng"));
                write(&file, part);
                files.push(file);
            }
            let Some(verdict) = judged(&files) else { continue };
            let invented = verdict.bad_types.iter().filter(|name| !allowed.contains(*name));
            for name in invented {
                keep(&files, &format!("{}-{number}-{seed}", stem(capture)));
                let case = verdict.anomalies[name].cases.first().map(|case| &case.explanation);
                alarms.push(format!(
                    "{} without {what}, seed {seed}: {name}: {case:?}",
                    capture.display()
                ));
            }
            let checks = verdict.wire.iter().flat_map(|wire| wire.checks.values());
            let is_checked = checks.map(|checks| checks.checked).sum::<u64>() > 0;
            if !is_checked && verdict.valid == Validity::True {
                alarms.push(format!(
                    "{} without {what}, seed {seed}: true of nothing",
                    capture.display()
                ));
            }
        }
    }
    alarms
}

fn stem(capture: &Path) -> String {
    capture.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Leaves files for whoever wants to know why.
fn keep(files: &[PathBuf], name: &str) {
    let Some(folder) = std::env::var_os("FENCEPOST_KEEP").map(PathBuf::from) else { return };
    for (number, file) in files.iter().enumerate() {
        fs::copy(file, folder.join(format!("{name}-{number}.pcapng"))).unwrap();
    }
}

fn captures(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_capture = |path: &PathBuf| {
        path.extension().is_some_and(|end| ["pcap", "pcapng", "gz"].iter().any(|name| end == *name))
    };
    let mut files: Vec<PathBuf> = files.filter(is_capture).collect();
    files.sort();
    files
}

fn seeds() -> Option<u64> {
    std::env::var("FENCEPOST_SEEDS").ok()?.parse().ok()
}

#[test]
fn what_is_left_of_a_capture_of_the_corpus_shows_no_more_than_the_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/captures");
    let mut found = Vec::new();
    for (number, capture) in (0..).zip(captures(&folder)) {
        match seeds() {
            Some(seeds) => found.extend(alarms(&capture, 0..seeds, LOSSES)),
            // Some ways each, every way over some captures.
            None => {
                let ways = (0..4).map(|n| LOSSES[(number + n * 2) % LOSSES.len()]);
                let losses: Vec<_> = ways.collect();
                found.extend(alarms(&capture, 1..2, &losses));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_capture_of_data_alone_shows_what_the_whole_shows() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/captures")];
    folders.extend(std::env::var_os("FENCEPOST_CAPTURES").map(PathBuf::from));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.pcapng");
    let mut wrong = Vec::new();
    for capture in folders.iter().flat_map(|folder| captures(folder)) {
        let Some(whole) = judged(std::slice::from_ref(&capture)) else { continue };
        if whole.bad_types.is_empty() {
            continue;
        }
        write(&data, read(&capture).iter().filter(|kept| kept.has_payload));
        let left = judged(std::slice::from_ref(&data)).unwrap();
        if left.bad_types != whole.bad_types {
            let (whole, left) = (whole.bad_types, left.bad_types);
            wrong.push(format!("{}: {whole:?} {left:?}", capture.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_left_of_a_capture_of_a_real_client_shows_no_more_than_the_whole() {
    let Some(folder) = std::env::var_os("FENCEPOST_CAPTURES") else { return };
    let mut found = Vec::new();
    for capture in captures(Path::new(&folder)) {
        found.extend(alarms(&capture, 0..seeds().unwrap_or(20), LOSSES));
    }
    found.iter().for_each(|alarm| eprintln!("{alarm}"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
