//! Captures and the capture of a run folder, read and held to the invariants of the wire.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use rustc_hash::FxHashMap;

use crate::capture::{AssemblerOptions, CaptureSummary, read_captures};
use crate::checker::anomaly::find_anomaly;
use crate::checker::proof::Proofs;
use crate::checker::wire::{WireCheck, WireFound};
use crate::checker::{Expectation, FileDamage, Verdict, World};
use crate::history::facts::{Fact, FactOptions, FactSink, FactTaker, Seen};
use crate::history::rebuild::Rebuild;
use crate::history::wire::{ConnectionFacts, ConnectionSummary, Protocol, StreamTrouble};
use crate::history::{Connection, History};

use super::listen::numbered_file;
use super::plan::Plan;
use super::tcpdump;

/// Bytes that are looked at to tell what a file is.
const PEEKED_BYTES: usize = 1 << 16;
/// How captures begin: pcap of micro- and nanoseconds and with the longer heads of old in both
/// byte orders, pcapng, zstd (which no history is written in).
const MAGICS: [[u8; 4]; 8] = [
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xcd, 0x34],
    [0x34, 0xcd, 0xb2, 0xa1],
    [0x0a, 0x0d, 0x0d, 0x0a],
    [0x28, 0xb5, 0x2f, 0xfd],
];
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// A frame of zstd to skip, behind the lowest four bits of its first byte: some tools begin so.
const ZSTD_SKIPPED: [u8; 3] = [0x2a, 0x4d, 0x18];
const PACKED: [&str; 5] = [".gz", ".zst", ".xz", ".bz2", ".lz4"];
const NAMES: [&str; 3] = [".pcap", ".pcapng", ".cap"];

/// A file that was opened and looked into.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) read: Box<dyn BufRead + Send>,
    pub(super) is_capture: bool,
}

impl Source {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let read: Box<dyn Read + Send> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path)?)
        };
        let (head, rest) = peek(read)?;
        // Who was to write into the pipe wrote nothing: that is no history in which nothing happened.
        let is_capture = is_capture(&head)
            || is_named_capture(path)
            || (head.is_empty() && path == Path::new("-"));
        let read = BufReader::with_capacity(PEEKED_BYTES, Cursor::new(head).chain(rest));
        let read: Box<dyn BufRead + Send> = Box::new(read);
        Ok(Self { path: path.to_owned(), read, is_capture })
    }
}

/// Reads what tells a capture, and no more: who writes it may be slow.
fn peek(mut read: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut head = Vec::new();
    let mut wanted = 4;
    loop {
        let missing = (wanted - head.len()) as u64;
        let ended = (read.by_ref().take(missing).read_to_end(&mut head)? as u64) < missing;
        // Of a packed file as much as unpacks to its first bytes.
        let tells = !head.starts_with(&GZIP) || unpacked(&head).is_some();
        if ended || tells || wanted >= PEEKED_BYTES {
            return Ok((head, read));
        }
        wanted *= 2;
    }
}

/// The first bytes of what gzip packed.
fn unpacked(bytes: &[u8]) -> Option<[u8; 4]> {
    let mut inside = [0; 4];
    GzDecoder::new(bytes).read_exact(&mut inside).is_ok().then_some(inside)
}

fn is_capture(bytes: &[u8]) -> bool {
    let begins = |bytes: &[u8]| MAGICS.iter().any(|magic| bytes.starts_with(magic));
    if !bytes.starts_with(&GZIP) {
        let skips = matches!(bytes, [0x50..=0x5f, rest @ ..] if rest.starts_with(&ZSTD_SKIPPED));
        return skips || begins(bytes);
    }
    unpacked(bytes).is_some_and(|inside| begins(&inside))
}

fn is_named_capture(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let name = name.unwrap_or_default();
    // Those that are not unpacked here are named for what they are.
    let plain = PACKED.iter().fold(name.as_str(), |name, end| name.trim_end_matches(end));
    NAMES.iter().any(|end| plain.ends_with(end))
}

/// The capture that a run folder is judged by: tcpdump's where it was asked for, else our own.
/// Where a proxy stands between, tcpdump hears what it made of what clients said: a request that
/// came late looks as if its client had said it late.
pub(super) fn of_folder(folder: &Path, plan: &Plan) -> Vec<PathBuf> {
    let tcpdump = folder.join(tcpdump::FILE);
    match tcpdump.is_file() && !plan.has_proxy() {
        true => vec![tcpdump],
        false => own_of_folder(folder),
    }
}

/// Our own capture: `wire.pcapng`, then `wire.1.pcapng` and so on.
pub(super) fn own_of_folder(folder: &Path) -> Vec<PathBuf> {
    let first = folder.join("wire.pcapng");
    let files = (0..).map(|number| numbered_file(&first, number));
    files.take_while(|path| path.is_file()).collect()
}

/// What was found in captures.
pub(super) struct Packets {
    found: WireFound,
    /// What proves the anomalies of operations, where they were looked for.
    proofs: Option<Proofs>,
    /// The operations, where they were asked for.
    pub(super) history: History,
    left_out: u64,
    tls_connections: u64,
    silent: Silent,
    summary: CaptureSummary,
    paths: Vec<PathBuf>,
}

/// Connections that yielded nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Silent {
    /// They speak something else.
    other: u64,
    /// One side alone was captured, and what it says is no request.
    one_sided: u64,
}

impl Silent {
    fn count(&mut self, summary: &ConnectionSummary) {
        let said = summary.directions.map(|direction| direction.bytes > 0);
        match (summary.protocol, said) {
            (Protocol::Other | Protocol::Unknown, [true, false] | [false, true]) => {
                self.one_sided += 1;
            }
            (Protocol::Other, _) => self.other += 1,
            _ => {}
        }
    }
}

/// Judges facts, and rebuilds operations of them where there is no other history.
struct Taker {
    check: WireCheck,
    rebuild: Option<Rebuild>,
    proofs: Option<Proofs>,
    brokers: FxHashMap<Connection, SocketAddr>,
    silent: Silent,
}

impl FactTaker for Taker {
    fn connection(&mut self, facts: &ConnectionFacts) {
        if self.rebuild.is_some() {
            self.brokers.insert(facts.connection, facts.broker);
        }
        if let Some(proofs) = &mut self.proofs {
            proofs.connection(facts);
        }
        self.check.connection(facts);
    }

    fn fact(&mut self, fact: Fact) {
        if let Some(rebuild) = &mut self.rebuild {
            rebuild.fact(&fact, self.brokers.get(&fact.seen.connection).copied());
        }
        if let Some(proofs) = &mut self.proofs {
            proofs.fact(&fact);
        }
        self.check.fact(fact);
    }

    fn stray(&mut self, seen: &Seen) {
        self.check.stray(seen);
    }

    fn trouble(&mut self, trouble: &StreamTrouble) {
        self.check.trouble(trouble);
    }

    fn closed(&mut self, summary: &ConnectionSummary, explained_bytes: u64) {
        self.brokers.remove(&summary.facts.connection);
        self.silent.count(summary);
        self.check.closed(summary, explained_bytes);
    }
}

/// Reads captures as one, merged by time, and holds them to the invariants. Operations are rebuilt
/// where that is asked for, and what proves the anomalies of other operations is looked for.
///
/// # Errors
/// Where reading fails. What is wrong with the bytes of a file is in the summary.
pub(super) fn check(
    sources: Vec<Source>,
    expected: &Expectation,
    rebuild: bool,
    proofs: Option<Proofs>,
) -> io::Result<Packets> {
    let paths = sources.iter().map(|source| source.path.clone()).collect();
    let keep_records = rebuild || proofs.is_some();
    let taker = Taker {
        check: WireCheck::new(expected.cases_max(CASES)),
        rebuild: rebuild.then(Rebuild::default),
        proofs,
        brokers: FxHashMap::default(),
        silent: Silent::default(),
    };
    let sink = FactSink::new(taker, FactOptions { keep_records });
    let reads = sources.into_iter().map(|source| source.read).collect();
    let (sink, summary) = read_captures(reads, AssemblerOptions::default(), sink)?;
    let Taker { check, rebuild, proofs, silent, .. } = sink.finish();
    let tls_connections = check.tls_connections();
    let found = check.finish();
    let rebuilt = rebuild.map(|rebuild| rebuild.finish(&found.doubtful));
    let (history, left_out) = rebuilt.unwrap_or_default();
    Ok(Packets { found, proofs, history, left_out, tls_connections, silent, summary, paths })
}

/// Cases of each invariant shown unless something else is asked for.
const CASES: usize = 8;

impl Packets {
    /// The first file of which nothing could be read, and why.
    pub(super) fn unreadable(&self) -> Option<(&Path, String)> {
        let files = self.paths.iter().zip(&self.summary.files);
        let mut unreadable = files.filter(|(_, file)| file.packets == 0);
        unreadable.find_map(|(path, file)| Some((&**path, file.damages.first()?.to_string())))
    }

    /// How what was found differs from what another capture of the same run shows, if it does.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let found = |packets: &Self| -> Vec<String> {
            let counts = packets.found.anomalies.iter();
            counts.map(|(name, found)| format!("{name} {}", found.count)).collect()
        };
        let exchanges = [self, other].map(|packets| packets.found.stats.exchanges);
        let [these, those] = [found(self), found(other)].map(|found| found.join(", "));
        (exchanges[0] != exchanges[1] || these != those).then(|| {
            let [n, m] = exchanges;
            format!("{n} exchanges [{these}] against {m} exchanges [{those}]")
        })
    }

    /// Adds to a verdict what was found.
    pub(super) fn add_to(self, verdict: &mut Verdict, expected: &Expectation) {
        let Self { mut found, proofs, left_out, tls_connections, silent, summary, paths, .. } =
            self;
        if expected.world == World::Open {
            // Rebuilt operations know topics by name alone; exchanges know when one was created anew.
            let is_borne_out = found.anomalies.keys().any(|name| name.starts_with(['L', 'P']));
            if !is_borne_out {
                let reason = "two values at one offset, perhaps of a topic that was created anew";
                verdict.withdraw("inconsistent-offsets", reason.to_owned());
            }
            // There is no other history that would show them.
            found.anomalies.append(&mut found.operations);
            verdict.observations.extend(found.unseen.take());
        }
        for (name, found) in &mut found.anomalies {
            found.bad = find_anomaly(name).is_none_or(|row| row.is_bad(expected, false));
        }
        for (path, file) in paths.iter().zip(&summary.files) {
            for damage in &file.damages {
                let text = format!("{}: {damage}", path.display());
                verdict.observations.push(text);
            }
            if file.dropped > 0 {
                let (path, dropped) = (path.display(), file.dropped);
                let text = format!("{path}: {dropped} packets passed and were not captured");
                verdict.observations.push(text);
            }
            if let (Some(damage), None) = (file.damages.first(), &verdict.file) {
                verdict.file = Some(FileDamage {
                    path: path.display().to_string(),
                    error: damage.to_string(),
                    byte_offset: damage.byte_offset,
                });
            }
        }
        if left_out > 0 {
            let text = format!(
                "{left_out} records are beyond what operations are rebuilt of: those were checked \
                 on the records before them, the invariants of the wire on all"
            );
            verdict.observations.push(text);
        }
        if tls_connections > 0 {
            let text = format!("{tls_connections} connections speak TLS: nothing in them was read");
            verdict.observations.push(text);
        }
        if silent.other > 0 {
            let text = format!("{} connections speak something else than Kafka", silent.other);
            verdict.observations.push(text);
        }
        if silent.one_sided > 0 {
            let text = format!(
                "{} connections of which one side alone was captured show no request",
                silent.one_sided
            );
            verdict.observations.push(text);
        }
        for (what, packets) in &summary.packets.unread {
            let text = format!("{packets} packets are not read: {what}");
            verdict.observations.push(text);
        }
        if summary.packets.broken > 0 {
            let text = format!("{} packets have headers that do not fit", summary.packets.broken);
            verdict.observations.push(text);
        }
        // The cases of operations, before those of the wire join them.
        if let Some(proofs) = proofs {
            proofs.add_to(verdict);
        }
        verdict.add_wire(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_told_by_their_first_bytes_or_their_names() {
        assert!(is_capture(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0]));
        assert!(!is_capture(b"{\"index\":0}") && !is_capture(&[]));
        assert!(
            is_named_capture(Path::new("a/b.PCAPNG.gz")) && is_named_capture(Path::new("x.cap"))
        );
        assert!(!is_named_capture(Path::new("history.jsonl.gz")));
    }
}
