//! Reads what was recorded, from any file, and has it checked.
//!
//! A live run is judged by this path too: from its files, not from memory.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::merge;
use super::nemesis;
use super::packets::{self, Packets, Source};
use super::plan::Plan;
use super::record::{RecordError, RunRecord};
use crate::broker::Facts;

use crate::checker::proof::Proofs;
use crate::checker::{
    self, ConsistencyModel, Elapsed, Expectation, Isolation, SubVia, Verdict, Workload, World,
};
use crate::history::read::{Format, ReadError, Recorded, read_history};
use crate::history::write::write_history;
use crate::history::{Function, History, MopRef};
use crate::report::cases;
use crate::workload;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// One JSON event a line.
    Jsonl,
    /// Jepsen's.
    Edn,
    /// Packets.
    Packets,
}

/// What the caller asks for; absent means what the files say, or the default.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Whether consumers were bound by assign, and by subscribe.
    pub sub_via: Option<(bool, bool)>,
    /// Whether write-write edges are inferred.
    pub ww_deps: Option<bool>,
    /// Anomalies that are reported and not bad.
    pub ignore: Vec<String>,
    /// Cases shown of each type; 0 is all.
    pub anomalies_max: Option<usize>,
    /// Cases shown of each type at least, whatever a run folder's plan says.
    pub anomalies_min: usize,
    /// `queue` or `list-append`.
    pub workload: Option<String>,
    /// What a list-append history is held to.
    pub consistency_model: Option<String>,
    /// `read_committed` or `read_uncommitted`.
    pub isolation_level: Option<String>,
    /// The notation of the files; absent means by their first bytes.
    pub format: Option<Notation>,
}

/// Why files could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder is not that of a run.
    #[error(
        "{path} is not the folder of a run: it has no plan.toml. Name a run's own folder, such as \
         store/latest, or files"
    )]
    NoRun {
        /// Which.
        path: PathBuf,
    },
    /// A file is no history.
    #[error("{path}")]
    History {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// A file is no capture, or nothing of it could be read.
    #[error("{path}: nothing of it can be read: {reason}")]
    Capture {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A run folder's plan makes no sense.
    #[error("{path}: {reason}")]
    Plan {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Given(String),
    /// A result could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Judges files, or a run folder, as one history.
///
/// # Errors
/// Where nothing of a file can be read; a file that is cut off is judged as far as it goes.
pub fn judge(files: &[PathBuf], given: &Given) -> Result<Verdict, JudgeError> {
    judge_and_keep(files, given).map(|(verdict, _)| verdict)
}

/// The same, with the operation history that was judged, if there is one among the files.
///
/// # Errors
/// As [`judge`].
pub fn judge_and_keep(
    files: &[PathBuf],
    given: &Given,
) -> Result<(Verdict, Option<Opened>), JudgeError> {
    let clock = super::clock::real();
    let Inputs { histories, captures, mut expectation } = inputs(files, given)?;
    let recorded = match histories.len() {
        0 => None,
        _ => Some(opened(histories, &mut expectation, given)?),
    };
    let read_ns = clock.now_ns();
    // What operations show is known before the packets are read, which prove it.
    let judged =
        recorded.as_ref().map(|opened| checker::check(&opened.recorded.history, &expectation));
    let packets = read_packets(captures, &expectation, judged.as_ref())?;
    let mut verdict = judged.unwrap_or_else(|| {
        expectation.world = World::Open;
        let none = History::default();
        let history = packets.as_ref().map_or(&none, |packets| &packets.history);
        checker::check(history, &expectation)
    });
    if let Some(packets) = packets {
        packets.add_to(&mut verdict, &expectation);
    }
    let checked_ns = clock.now_ns();
    if let Some(Opened { recorded, file, notes, .. }) = &recorded {
        verdict.observations.extend(notes.iter().cloned());
        finish(&mut verdict, file, recorded);
    }
    verdict.elapsed = Some(elapsed(read_ns, checked_ns));
    Ok((verdict, recorded))
}

/// Files by what they are.
struct Inputs {
    histories: Vec<Source>,
    captures: Vec<Source>,
    expectation: Expectation,
}

/// Opens files and run folders.
fn inputs(files: &[PathBuf], given: &Given) -> Result<Inputs, JudgeError> {
    let mut inputs =
        Inputs { histories: Vec::new(), captures: Vec::new(), expectation: Expectation::default() };
    for path in files {
        let mut paths = vec![path.clone()];
        if path.is_dir() {
            let plan_file = path.join("plan.toml");
            if !plan_file.exists() {
                return Err(JudgeError::NoRun { path: path.clone() });
            }
            let plan = read_plan(&plan_file)?;
            inputs.expectation = expectation_of(&plan);
            paths = vec![path.join("history.jsonl")];
            paths.extend(packets::of_folder(path, &plan));
        }
        for path in paths {
            let source = Source::open(&path)
                .map_err(|source| JudgeError::Read { path: path.clone(), source })?;
            let is_capture = match given.format {
                None => source.is_capture,
                Some(notation) => notation == Notation::Packets,
            };
            if is_capture {
                inputs.captures.push(source);
            } else {
                inputs.histories.push(source);
            }
        }
    }
    apply(&mut inputs.expectation, given)?;
    Ok(inputs)
}

/// Reads the operation histories among the files, as one.
fn opened(
    histories: Vec<Source>,
    expectation: &mut Expectation,
    given: &Given,
) -> Result<Opened, JudgeError> {
    let format = match given.format {
        None | Some(Notation::Packets) => Format::Auto,
        Some(Notation::Jsonl) => Format::Jsonl,
        Some(Notation::Edn) => Format::Edn,
    };
    let read = |Source { path, read, .. }: Source| {
        let recorded = read_history(read, format, threads());
        match recorded {
            Ok(recorded) => Ok((path, recorded)),
            Err(source) => Err(JudgeError::History { path, source }),
        }
    };
    let mut parts = histories.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut notes = Vec::new();
    let (file, recorded) = match parts.len() {
        0 => {
            return Err(JudgeError::Given("there is no operation history among the files".into()));
        }
        1 => parts.remove(0),
        _ => {
            parts.iter().for_each(|(path, part)| notes.extend(oddities(path, part)));
            let (paths, parts): (Vec<PathBuf>, Vec<Recorded>) = parts.into_iter().unzip();
            let merged = merge::merge(&parts, threads());
            (paths[0].clone(), merged.map_err(|error| JudgeError::Given(error.to_string()))?)
        }
    };
    if given.workload.is_none() && is_list_append(&recorded.history) {
        expectation.workload = Workload::ListAppend;
    }
    Ok(Opened { recorded, expectation: expectation.clone(), file, notes })
}

/// Holds captures to the invariants of the wire, and looks in them for what proves the verdict on
/// the operations; absent, there is no other history.
fn read_packets(
    captures: Vec<Source>,
    expectation: &Expectation,
    judged: Option<&Verdict>,
) -> Result<Option<Packets>, JudgeError> {
    let Some(first) = captures.first().map(|source| source.path.clone()) else { return Ok(None) };
    let alone = judged.is_none();
    let proofs = judged.and_then(Proofs::of);
    let packets = packets::check(captures, expectation, alone, proofs)
        .map_err(|source| JudgeError::Read { path: first, source })?;
    match packets.unreadable() {
        Some((path, reason)) if alone => Err(JudgeError::Capture { path: path.to_owned(), reason }),
        _ => Ok(Some(packets)),
    }
}

/// A history that was read, and what it is held to.
#[derive(Debug)]
pub struct Opened {
    /// What was read.
    pub recorded: Recorded,
    /// What its run promised, or the caller asks for.
    pub expectation: Expectation,
    /// Where it stands; the first file where there were several.
    pub file: PathBuf,
    /// What was odd about each file, where there were several.
    pub notes: Vec<String>,
}

/// Reads files, or a run folder, as one history, without judging it.
///
/// # Errors
/// As [`judge`].
pub fn open(files: &[PathBuf], given: &Given) -> Result<Opened, JudgeError> {
    let Inputs { histories, mut expectation, .. } = inputs(files, given)?;
    opened(histories, &mut expectation, given)
}

/// Whether a history speaks of lists: its first micro-operation tells.
fn is_list_append(history: &History) -> bool {
    let first = history.ops().find_map(|op| op.mops().next());
    matches!(first, Some(MopRef::Append { .. } | MopRef::Read { .. }))
}

/// Judges a run that just ended, from its files, and writes the results beside them. `dropped` is
/// how many packets tcpdump says it missed.
///
/// # Errors
/// Where its files cannot be read back or the results not be written.
pub fn judge_run(
    plan: &Plan,
    record: &RunRecord,
    facts: &Facts,
    dropped: u64,
) -> Result<Verdict, JudgeError> {
    let clock = super::clock::real();
    let file = record.history_file();
    let recorded = read(&file, Format::Jsonl)?;
    let read_ns = clock.now_ns();
    let expectation = expectation_of(plan);
    let mut verdict = checker::check(&recorded.history, &expectation);
    let judged = packets::of_folder(record.folder(), plan);
    let own = packets::own_of_folder(record.folder());
    let beside = if judged == own { Vec::new() } else { sources(&own)? };
    let beside = read_packets(beside, &expectation, Some(&verdict))?;
    if let Some(packets) = read_packets(sources(&judged)?, &expectation, Some(&verdict))? {
        if let Some(own) = beside {
            let said = match packets.difference(&own) {
                None => "tcpdump's capture and our own show the same".into(),
                Some(difference) => {
                    format!("tcpdump's capture and our own differ: {difference}")
                }
            };
            verdict.observations.push(said);
        }
        packets.add_to(&mut verdict, &expectation);
    }
    if dropped > 0 {
        verdict.observations.push(format!("tcpdump missed {dropped} packets"));
    }
    let checked_ns = clock.now_ns();
    finish(&mut verdict, &file, &recorded);
    verdict.elapsed = Some(elapsed(read_ns, checked_ns));
    record.write_with("history.edn", |mut out| {
        write_history(&recorded.history, Format::Edn, &mut out)
    })?;
    let mut results = serde_json::to_value(&verdict).expect("a verdict is JSON");
    results["broker"] = serde_json::json!({
        "software": facts.software,
        "finalized_features": facts.finalized_features,
        "transaction_version_in_force": super::story::transaction_version(plan, facts),
        "nodes": facts.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    results["seed"] = plan.seed.into();
    let text = serde_json::to_vec_pretty(&results).expect("JSON is written to memory");
    record.write("results.json", &text)?;
    for (name, text) in cases::files(&recorded.history, &verdict) {
        record.write(&format!("anomalies/{name}"), text.as_bytes())?;
    }
    Ok(verdict)
}

fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, JudgeError> {
    let open = |path: &PathBuf| {
        Source::open(path).map_err(|source| JudgeError::Read { path: path.clone(), source })
    };
    paths.iter().map(open).collect()
}

fn read_plan(path: &Path) -> Result<Plan, JudgeError> {
    let text = fs::read_to_string(path)
        .map_err(|source| JudgeError::Read { path: path.to_owned(), source })?;
    Plan::from_toml(&text)
        .map_err(|error| JudgeError::Plan { path: path.to_owned(), reason: error.to_string() })
}

fn read(path: &Path, format: Format) -> Result<Recorded, JudgeError> {
    let source: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let file = File::open(path)
            .map_err(|source| JudgeError::Read { path: path.to_owned(), source })?;
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    read_history(source, format, threads())
        .map_err(|source| JudgeError::History { path: path.to_owned(), source })
}

/// As many as this machine has cores.
fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// What a run promised to keep to.
fn expectation_of(plan: &Plan) -> Expectation {
    let has = |way| plan.workload.sub_via.contains(&way);
    Expectation {
        sub_via: SubVia {
            assign: has(workload::SubVia::Assign),
            subscribe: has(workload::SubVia::Subscribe),
        },
        ww_deps: plan.check.ww_deps,
        isolation: match plan.client.isolation_level.as_str() {
            "read_uncommitted" => Isolation::ReadUncommitted,
            _ => Isolation::ReadCommitted,
        },
        ignore: plan.check.ignore_queue_errors.iter().cloned().collect(),
        anomalies_max: Some(plan.check.anomalies_max),
        ..Expectation::default()
    }
}

/// What the caller asks for overrules what the files say.
fn apply(expectation: &mut Expectation, given: &Given) -> Result<(), JudgeError> {
    if let Some((assign, subscribe)) = given.sub_via {
        expectation.sub_via = SubVia { assign, subscribe };
    }
    if let Some(ww_deps) = given.ww_deps {
        expectation.ww_deps = ww_deps;
    }
    expectation.ignore.extend(given.ignore.iter().cloned());
    if given.anomalies_max.is_some() {
        expectation.anomalies_max = given.anomalies_max;
    }
    // The table of anomalies shows eight cases of most.
    let max = expectation.anomalies_max.unwrap_or(8);
    if max != 0 && max < given.anomalies_min {
        expectation.anomalies_max = Some(given.anomalies_min);
    }
    match given.workload.as_deref() {
        None => {}
        Some("queue") => expectation.workload = Workload::Queue,
        Some("list-append") => expectation.workload = Workload::ListAppend,
        Some(other) => {
            let text = format!("--workload {other}: expected queue or list-append");
            return Err(JudgeError::Given(text));
        }
    }
    if let Some(name) = &given.consistency_model {
        let found = ConsistencyModel::find(name);
        expectation.consistency_model = found.ok_or_else(|| {
            JudgeError::Given(format!("--consistency-model {name}: no such model"))
        })?;
    }
    match given.isolation_level.as_deref() {
        None => {}
        Some("read_committed") => expectation.isolation = Isolation::ReadCommitted,
        Some("read_uncommitted") => expectation.isolation = Isolation::ReadUncommitted,
        Some(other) => {
            let expected = "expected read_committed or read_uncommitted";
            return Err(JudgeError::Given(format!("--isolation-level {other}: {expected}")));
        }
    }
    Ok(())
}

fn elapsed(read_ns: u64, checked_ns: u64) -> Elapsed {
    let seconds = |ns: u64| ns as f64 / 1e9;
    Elapsed { read: seconds(read_ns), check: seconds(checked_ns - read_ns) }
}

/// What the proxy did in a run: a forgery is nothing a network does, so what brokers made of it is
/// not held against them; and a rule that never fired says nothing about anything.
fn look_at_rules(verdict: &mut Verdict, history: &History) {
    let mut forgeries = 0u64;
    for op in history.ops().filter(|op| !op.is_client()) {
        for (name, text) in op.extras() {
            match name {
                "class" => forgeries += u64::from(text == "\"forgery\""),
                "value" if *op.function() == Function::Other(nemesis::RULES_OVER.into()) => {
                    verdict.observations.extend(idle_rules(text));
                }
                _ => {}
            }
        }
    }
    if forgeries > 0 {
        verdict.pardon(format!(
            "the proxy forged: {forgeries} acts that no network does; nothing is held against the \
             brokers"
        ));
    }
}

/// The rules that never fired, of those that an event lists.
fn idle_rules(text: &str) -> Vec<String> {
    let rules: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
    let idle = rules.iter().filter(|rule| rule["fired"] == 0);
    let tell = |rule: &serde_json::Value| {
        let text = rule["rule"].as_str().unwrap_or_default();
        format!("a rule never fired ({} frames matched): {text}", rule["matched"])
    };
    idle.map(tell).collect()
}

/// Adds to a verdict what reading found out.
fn finish(verdict: &mut Verdict, file: &Path, recorded: &Recorded) {
    look_at_rules(verdict, &recorded.history);
    verdict.observations.extend(oddities(file, recorded));
}

/// What was odd about a file.
fn oddities(file: &Path, recorded: &Recorded) -> Vec<String> {
    let file = file.display();
    let mut oddities = Vec::new();
    for seen in recorded.observations.iter() {
        let (name, count) = (seen.oddity.name(), seen.count);
        oddities.push(format!("{file}: {name} ×{count}, first at byte {}", seen.byte_offset));
    }
    if let Some(stopped) = &recorded.stopped {
        let (at, reason) = (stopped.byte_offset, &stopped.reason);
        oddities.push(format!("{file}: read up to byte {at}: {reason}"));
    }
    oddities
}
