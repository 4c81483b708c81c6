//! Captures of brokers that answered honestly, changed to what a bad one would have answered.
//!
//! Each mutant changes some messages of a capture and says under which names that must be found,
//! and which may come of it besides; the packets of the change must be among those a witness names.
//! Next to them stand changes that are legal and must show nothing. Lengths, checksums of batches
//! and TCP sequence numbers are made right again, so that nothing but the broker is wrong.
//!
//! On the captures of the corpus; with `FENCEPOST_CAPTURES` also on those of that folder, and with
//! `FENCEPOST_SITES` in as many places of each as that says.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stderr, reason = "tests say what they found")]

mod framing;
mod groups;
mod logs;
mod places;
mod producers;
mod talk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use fencepost::checker::Verdict;
use fencepost::run::judge::{Given, judge};
use talk::Talk;

/// Packets of which a witness must name at least one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness(pub(crate) Vec<u64>);

impl Witness {
    /// Those of exchanges.
    pub(crate) fn packets_of(talk: &Talk, exchanges: &[usize]) -> Self {
        Self(exchanges.iter().flat_map(|&exchange| talk.packets_of(exchange)).collect())
    }
}

/// Changes a capture at the nth place it can be; nothing where there are no more.
type Plant = fn(&mut Talk, usize) -> Option<Witness>;

/// A change to a capture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mutant {
    name: &'static str,
    /// All of these must be found; none where it is legal.
    must: &'static [&'static str],
    /// These may be; where one begins with a name of those above and `|`, one of them must be.
    may: &'static [&'static str],
    plant: Plant,
}

pub(crate) const fn mutant(
    name: &'static str,
    must: &'static [&'static str],
    may: &'static [&'static str],
    plant: Plant,
) -> Mutant {
    Mutant { name, must, may, plant }
}

/// What came of a mutant in all places of all captures.
#[derive(Debug, Default)]
struct Tally {
    found: usize,
    /// Places where nothing was found.
    missed: Vec<String>,
    /// Places where something else was, or packets are not named.
    wrong: Vec<String>,
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

fn bytes_of(capture: &Path) -> Vec<u8> {
    let bytes = fs::read(capture).unwrap();
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes;
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
    plain
}

fn judged(talk: &Talk, file: &Path) -> Verdict {
    fs::write(file, talk.write()).unwrap();
    let given = Given { anomalies_max: Some(0), ..Given::default() };
    judge(&[file.to_owned()], &given).unwrap()
}

/// Plants everything in every capture, in so many places of each.
fn plant(captures: &[PathBuf], sites: usize) -> BTreeMap<&'static str, Tally> {
    let tables = [framing::MUTANTS, logs::MUTANTS, producers::MUTANTS, groups::MUTANTS];
    let legal = [framing::LEGAL, logs::LEGAL, producers::LEGAL, groups::LEGAL];
    let only = std::env::var("FENCEPOST_MUTANT").ok();
    let all: Vec<&Mutant> = tables.into_iter().chain(legal).flatten().collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("planted.pcapng");
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for capture in captures {
        let name = capture.file_name().unwrap().to_string_lossy().into_owned();
        let Some(whole) = Talk::read(&bytes_of(capture)) else { continue };
        let before = judged(&whole, &file);
        assert!(before.bad_types.is_empty(), "{name} unchanged: {:?}", before.bad_types);
        for mutant in all.iter().filter(|m| only.as_ref().is_none_or(|only| m.name == only)) {
            let tally = tallies.entry(mutant.name).or_default();
            for site in 0..sites {
                let mut talk = whole.clone();
                let Some(witness) = (mutant.plant)(&mut talk, site) else { break };
                let verdict = judged(&talk, &file);
                tally.enter(mutant, &format!("{name} #{site}"), &verdict, &witness);
                if let (Some(keep), true) = (std::env::var_os("FENCEPOST_KEEP"), site == 0) {
                    let kept = Path::new(&keep).join(format!("{}-{name}.pcapng", mutant.name));
                    fs::copy(&file, kept).unwrap();
                }
            }
        }
    }
    tallies
}

impl Tally {
    fn enter(&mut self, mutant: &Mutant, place: &str, verdict: &Verdict, witness: &Witness) {
        let found: BTreeSet<&str> = verdict.bad_types.iter().map(String::as_str).collect();
        let must: BTreeSet<&str> = mutant.must.iter().copied().collect();
        let may = mutant.may.iter().flat_map(|one_of| one_of.split('|'));
        let mut allowed: BTreeSet<&str> = must.iter().copied().chain(may).collect();
        if allowed.iter().any(|name| name.starts_with(['L', 'P'])) {
            // What a log says twice in two ways operations say too.
            allowed.insert("inconsistent-offsets");
        }
        if allowed.contains("P1-ack-not-in-log") {
            allowed.extend(["duplicate", "duplicate-nonzero", "lost-write", "torn-transaction"]);
        }
        let cases = || verdict.anomalies.values().flat_map(|found| &found.cases);
        let words = || {
            let of = cases().map(|case| case.explanation.clone());
            of.take(3).collect::<Vec<_>>().join(" | ")
        };
        if !found.is_subset(&allowed) {
            self.wrong.push(format!("{place}: {found:?}: {}", words()));
        } else if found.is_empty() && !must.is_empty() {
            self.missed.push(place.to_owned());
        } else if !must.is_empty() && !is_there(mutant, &found) {
            self.wrong.push(format!("{place}: only {found:?}: {}", words()));
        } else if !must.is_empty() {
            let named = |packet: &u64| cases().any(|case| case.frames.contains(packet));
            if witness.0.is_empty() || witness.0.iter().any(named) {
                self.found += 1;
            } else {
                self.wrong.push(format!("{place}: {found:?} without {:?}: {}", witness.0, words()));
            }
        } else {
            self.found += 1;
        }
    }
}

/// Whether all that must be found is, or of what stands in one with `|` something.
fn is_there(mutant: &Mutant, found: &BTreeSet<&str>) -> bool {
    mutant.must.iter().all(|name| {
        let alternatives = mutant.may.iter().filter(|may| may.split('|').next() == Some(*name));
        found.contains(name)
            || alternatives.flat_map(|may| may.split('|')).any(|may| found.contains(may))
    })
}

fn sites() -> Option<usize> {
    std::env::var("FENCEPOST_SITES").ok()?.parse().ok()
}

fn report(tallies: &BTreeMap<&str, Tally>) -> usize {
    let mut wrong = 0;
    for (name, tally) in tallies {
        let Tally { found, missed, wrong: others } = tally;
        eprintln!("{name}: {found} found, {} missed, {} wrong", missed.len(), others.len());
        missed.iter().take(4).for_each(|place| eprintln!("    missed {place}"));
        others.iter().take(6).for_each(|place| eprintln!("    wrong {place}"));
        wrong += others.len();
    }
    wrong
}

/// Captures of the corpus that between them have a place for most of it.
const CORPUS: &[&str] = &["real-librdkafka-process", "real-offsets-reset"];

/// What packets do not prove in at least one of them: success without an offset may be what a retry
/// is answered, and without a leader epoch leadership may have moved away and back.
const MISSED: &[&str] =
    &["acknowledged-without-an-offset", "high-watermark-back", "last-stable-offset-back"];

#[test]
fn what_is_planted_in_captures_of_the_corpus_is_found_under_its_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/captures");
    let file = |name: &&str| folder.join(format!("{name}.pcapng.gz"));
    let files: Vec<PathBuf> = CORPUS.iter().map(file).collect();
    let tallies = plant(&files, sites().unwrap_or(1));
    assert_eq!(report(&tallies), 0);
    if sites().is_none() {
        let missed: Vec<&str> =
            tallies.iter().filter(|(_, t)| !t.missed.is_empty()).map(|(name, _)| *name).collect();
        assert_eq!(missed, MISSED);
    }
    // The rest have no place in these; `FENCEPOST_CAPTURES` names captures that have.
    let found = tallies.values().filter(|tally| tally.found > 0).count();
    assert!(found * 3 > tallies.len() * 2, "{found} of {}", tallies.len());
}

#[test]
fn what_is_planted_in_captures_of_real_clients_is_found_under_its_name() {
    let Some(folder) = std::env::var_os("FENCEPOST_CAPTURES") else { return };
    let mut files = captures(Path::new(&folder));
    // What is wrong already, or not whole.
    files.retain(|file| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        !["p0", "d10", "d18", "s08-midstream.", "s01"].iter().any(|begin| name.starts_with(begin))
    });
    let tallies = plant(&files, sites().unwrap_or(3));
    assert_eq!(report(&tallies), 0);
}
