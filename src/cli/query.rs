//! `fencepost query FILE QUESTION`: what a history says, without judging it, and any case of an
//! anomaly whole.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value as Json, json};

use super::check::ExpectedArguments;
use super::{Exit, Manner, OutputFormat, Usage, print, say};
use crate::checker::Verdict;
use crate::checker::anomaly::ANOMALIES;
use crate::checker::wire::Invariant;
use crate::history::{EventType, History, KeyId, Value};
use crate::report::cases;
use crate::report::query::around::{self, Place};
use crate::report::query::names::{find_key, find_value, no_such_key};
use crate::report::query::ops::{self, Wanted};
use crate::report::query::order;
use crate::report::query::table::flow;
use crate::run::judge::{self, Given, Opened};

/// Rows of a text table unless something else is asked for.
const ROWS_MAX: usize = 100;

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fencepost query store/latest explain\n  \
    fencepost query store/latest explain lost-write 1\n  \
    fencepost query store/latest ops --key 0 --type fail\n  \
    fencepost query store/latest around --key 0 --offset 0 -n 3\n  \
    fencepost query store/latest order --key 0 --output-format json\n\n\
    An answer with nothing in it is an answer: the exit code is 0.")]
pub(crate) struct QueryArguments {
    /// A run folder, history.jsonl, history.edn (.gz too), or `-`; to explain, also a capture.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// The operations that moved a key, value or offset, are of a process, or ended so.
    Ops(OpsArguments),
    /// What operations sent and read around one place of a key's log.
    Around(AroundArguments),
    /// A key's version order: offsets, values, writers, readers.
    Order(OrderArguments),
    /// A case of an anomaly whole; without a name, what there is to explain.
    Explain(Box<ExplainArguments>),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fencepost query store/latest ops --key 0 --value 1\n  \
    fencepost query store/latest ops --process 1 --type info --function txn --limit 5\n\n\
    A record is written VALUE@OFFSET. Key, value and offset are asked of one record together.")]
struct OpsArguments {
    /// That sent to or polled this key (or bound it, where no value or offset is asked for).
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,
    /// That moved this value.
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    value: Option<String>,
    /// That moved a record at this offset.
    #[arg(long, value_name = "OFFSET", allow_negative_numbers = true)]
    offset: Option<i64>,
    /// Of this process: a number, or a name as nemesis.
    #[arg(long, value_name = "PROCESS", allow_hyphen_values = true)]
    process: Option<String>,
    /// That ended so.
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<KindArgument>,
    /// That do this: send, poll, txn, assign, subscribe, crash or any other name.
    #[arg(long, short = 'f', value_name = "NAME")]
    function: Option<String>,
    #[command(flatten)]
    rows: RowsArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindArgument {
    Ok,
    Fail,
    Info,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fencepost query store/latest around --key 0 --offset 0\n  \
    fencepost query store/latest around --key 0 --value 1 -n 5\n\n\
    Every completion that touched the key there, trimmed to it: an operation a row, an offset a\n\
    column, s17 where 17 was sent, r17 where it was read.")]
struct AroundArguments {
    /// The key.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: String,
    /// Around this offset.
    #[arg(
        long,
        value_name = "OFFSET",
        allow_negative_numbers = true,
        required_unless_present = "value",
        conflicts_with = "value"
    )]
    offset: Option<i64>,
    /// Around every place of this value.
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    value: Option<String>,
    /// How far: offsets to either side (and, around a value, records of the same poll).
    #[arg(short = 'n', long = "neighbours", value_name = "N", default_value_t = 3)]
    reach: usize,
    #[command(flatten)]
    rows: RowsArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fencepost query store/latest order --key 0 --limit 20\n\n\
    INDEX counts the offsets that hold a record; cases of anomalies name places by it. WRITER and\n\
    READERS are operations by index.")]
struct OrderArguments {
    /// The key.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: String,
    #[command(flatten)]
    rows: RowsArguments,
}

/// How much of an answer is written.
#[derive(Debug, Args)]
struct RowsArguments {
    /// Rows at most; 0 is all. Without it, 100 as text and all as JSON.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Cut no row of text at 100 columns.
    #[arg(long)]
    wide: bool,
}

impl RowsArguments {
    fn max(&self, manner: Manner) -> usize {
        match (self.limit, manner.format) {
            (Some(0), _) | (None, OutputFormat::Json) => usize::MAX,
            (Some(limit), _) => limit,
            (None, OutputFormat::Text) => ROWS_MAX,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fencepost query store/latest explain\n  \
    fencepost query store/latest explain G1c 1 --svg cycle.svg\n\n\
    The history is judged first: a run folder's by its plan.toml, any by the flags given.")]
struct ExplainArguments {
    /// The anomaly, as `check` names it; without it, all that were found are listed.
    #[arg(value_name = "ANOMALY")]
    anomaly: Option<String>,
    /// Which case, from 1.
    #[arg(value_name = "N", default_value_t = 1)]
    number: usize,
    /// Leave out no record of a long poll and no operation of a long cycle.
    #[arg(long)]
    full: bool,
    /// Write a cycle here for Graphviz.
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
    /// Write a cycle here as a picture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    expected: ExpectedArguments,
}

/// Reads, looks, prints.
pub(crate) fn query(arguments: &QueryArguments, manner: Manner) -> anyhow::Result<Exit> {
    let files = std::slice::from_ref(&arguments.file);
    match &arguments.question {
        Question::Ops(asked) => ops(&open(files)?, asked, manner)?,
        Question::Around(asked) => around(&open(files)?, asked, manner)?,
        Question::Order(asked) => order(&open(files)?, asked, manner)?,
        Question::Explain(asked) => explain(files, asked, manner)?,
    }
    Ok(Exit::Valid)
}

fn open(files: &[PathBuf]) -> anyhow::Result<History> {
    let opened = judge::open(files, &Given::default())?;
    warn(&opened);
    Ok(opened.recorded.history)
}

/// Says what of a file could not be read.
fn warn(opened: &Opened) {
    if let Some(stopped) = &opened.recorded.stopped {
        let file = opened.file.display();
        say(&format!("{file}: read up to byte {}: {}", stopped.byte_offset, stopped.reason));
    }
}

fn ops(history: &History, asked: &OpsArguments, manner: Manner) -> anyhow::Result<()> {
    let Some((key, value)) = record(history, asked.key.as_deref(), asked.value.as_deref()) else {
        return nothing(manner);
    };
    let kind = asked.kind.map(|kind| match kind {
        KindArgument::Ok => EventType::Ok,
        KindArgument::Fail => EventType::Fail,
        KindArgument::Info => EventType::Info,
    });
    let wanted = Wanted {
        key,
        value,
        offset: asked.offset,
        process: asked.process.clone(),
        kind,
        function: asked.function.clone(),
    };
    let mut found = ops::find(history, &wanted);
    let count = found.len();
    found.truncate(asked.rows.max(manner));
    let text = |wide| found.text(wide);
    answer(manner, (found.len(), count), "operation", text, found.objects(), asked.rows.wide)
}

fn around(history: &History, asked: &AroundArguments, manner: Manner) -> anyhow::Result<()> {
    let Some((Some(key), value)) = record(history, Some(&asked.key), asked.value.as_deref()) else {
        return nothing(manner);
    };
    let place = match (asked.offset, value) {
        (Some(offset), _) => Place::Offset(offset),
        (None, Some(value)) => Place::Value(value),
        (None, None) => return Err(Usage("around: --offset or --value".into()).into()),
    };
    let mut found = around::find(history, key, place, asked.reach);
    let count = found.operations.len();
    found.operations.truncate(asked.rows.max(manner));
    let shown = found.operations.len();
    let text = |wide| found.text(wide);
    let objects = found.operations.objects();
    answer(manner, (shown, count), "operation", text, objects, asked.rows.wide)
}

fn order(history: &History, asked: &OrderArguments, manner: Manner) -> anyhow::Result<()> {
    let Some((Some(key), _)) = record(history, Some(&asked.key), None) else {
        return nothing(manner);
    };
    let mut found = order::find(history, key);
    let count = found.len();
    found.truncate(asked.rows.max(manner));
    let text = |wide| found.text(wide);
    answer(manner, (found.len(), count), "place", text, found.objects(), asked.rows.wide)
}

/// Key and value by name; nothing, and a word why, where the history has no such key or value.
fn record(
    history: &History,
    key: Option<&str>,
    value: Option<&str>,
) -> Option<(Option<KeyId>, Option<Value>)> {
    let found_key = key.map(|key| find_key(history, key));
    if let (Some(None), Some(key)) = (found_key, key) {
        say(&no_such_key(history, key));
        return None;
    }
    let found_value = value.map(|value| find_value(history, value));
    if let (Some(None), Some(value)) = (found_value, value) {
        say(&format!("no value {value} in this history"));
        return None;
    }
    Some((found_key.flatten(), found_value.flatten()))
}

/// The empty answer.
fn nothing(manner: Manner) -> anyhow::Result<()> {
    if manner.format == OutputFormat::Json {
        print("[]");
    }
    Ok(())
}

/// Prints what was found, and says on standard error what of it is not shown.
fn answer(
    manner: Manner,
    (shown, count): (usize, usize),
    what: &str,
    text: impl Fn(bool) -> String,
    objects: impl Iterator<Item = Json>,
    is_wide: bool,
) -> anyhow::Result<()> {
    if count == 0 {
        say(&format!("no {what} is like that"));
        return nothing(manner);
    }
    match manner.format {
        OutputFormat::Text => print(text(is_wide).trim_end()),
        OutputFormat::Json => print_array(objects)?,
    }
    if shown < count {
        say(&format!("{shown} of {count} {what}s; --limit 0 shows all"));
    }
    Ok(())
}

/// An array, an object a line. A closed pipe ends the output, not the program.
fn print_array(objects: impl Iterator<Item = Json>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let write = || -> io::Result<()> {
        out.write_all(b"[")?;
        for (place, object) in objects.enumerate() {
            out.write_all(if place == 0 { b"\n" } else { b",\n" })?;
            serde_json::to_writer(&mut out, &object)?;
        }
        out.write_all(b"\n]\n")?;
        out.flush()
    };
    match write() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn explain(files: &[PathBuf], asked: &ExplainArguments, manner: Manner) -> anyhow::Result<()> {
    let name = asked.anomaly.as_deref().map(anomaly_name).transpose()?;
    if asked.number == 0 {
        return Err(Usage("explain: cases are counted from 1".into()).into());
    }
    let given = Given { anomalies_min: asked.number, ..asked.expected.given() };
    let (verdict, opened) = judge::judge_and_keep(files, &given)?;
    opened.iter().for_each(warn);
    let history = &opened.map_or_else(History::default, |opened| opened.recorded.history);
    let Some(name) = name else { return list(&verdict, manner) };
    let Some(case) = cases::find(&verdict, name, asked.number) else {
        say(&absent(&verdict, name, asked.number));
        return nothing(manner);
    };
    match manner.format {
        OutputFormat::Text => print(case.text(history, asked.full).trim_end()),
        OutputFormat::Json => print_array(std::iter::once(case.object(history)))?,
    }
    match case.pictures() {
        Some((dot, svg)) => {
            picture(asked.dot.as_deref(), &dot)?;
            picture(asked.svg.as_deref(), &svg)?;
        }
        None if asked.dot.is_some() || asked.svg.is_some() => {
            say(&format!("{name} is no cycle: there is nothing to draw"));
        }
        None => {}
    }
    Ok(())
}

fn picture(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// An anomaly by the name that was typed, in whatever case, or by the number of an invariant.
fn anomaly_name(typed: &str) -> anyhow::Result<&'static str> {
    let is_number = |name: &str| {
        name.split_once('-').is_some_and(|(number, _)| number.eq_ignore_ascii_case(typed))
    };
    let numbered = Invariant::ALL.iter().map(|each| each.name()).find(|name| is_number(name));
    let exact = ANOMALIES.iter().find(|row| row.name == typed);
    let row = exact
        .or_else(|| ANOMALIES.iter().find(|r| r.name.eq_ignore_ascii_case(typed)))
        .or_else(|| ANOMALIES.iter().find(|r| Some(r.name) == numbered));
    row.map(|row| row.name).ok_or_else(|| {
        let mut names = String::new();
        for row in ANOMALIES {
            names.push_str("\n  ");
            names.push_str(row.name);
        }
        Usage(format!("{typed} is no anomaly; expected one of{names}")).into()
    })
}

/// What somebody who asked for a case that is not there should know.
fn absent(verdict: &Verdict, name: &str, number: usize) -> String {
    if let Some(found) = verdict.anomalies.get(name) {
        let shown = found.cases.len();
        return match found.count {
            count if count > shown as u64 => format!(
                "no case {number} of {name}: {count} were counted, and {shown} can be shown"
            ),
            1 => format!("no case {number} of {name}: there is one"),
            count => format!("no case {number} of {name}: there are {count}"),
        };
    }
    let allowed = verdict
        .observations
        .iter()
        .find(|said| said.starts_with("allowed under") && says(said, name));
    match (allowed, verdict.types.as_slice()) {
        (Some(allowed), _) => format!("no {name} is held against this history: {allowed}"),
        (None, []) => format!("no {name} in this history, nor any other anomaly"),
        (None, types) => format!("no {name} in this history, but {}", types.join(", ")),
    }
}

fn says(sentence: &str, name: &str) -> bool {
    sentence.split([' ', ',']).any(|word| word == name)
}

/// All anomalies found, causes first.
fn list(verdict: &Verdict, manner: Manner) -> anyhow::Result<()> {
    let found: Vec<_> =
        ANOMALIES.iter().filter_map(|row| Some((row, verdict.anomalies.get(row.name)?))).collect();
    if found.is_empty() {
        say("no anomaly in this history");
        return nothing(manner);
    }
    if manner.format == OutputFormat::Json {
        return print_array(found.into_iter().map(|(row, found)| {
            json!({"anomaly": row.name, "count": found.count, "bad": found.bad,
                "shown": found.cases.len(), "meaning": row.meaning})
        }));
    }
    let width = found.iter().map(|(row, _)| row.name.len()).max().unwrap_or(0);
    let mut text = format!("{:<width$}  COUNT  BAD  MEANING\n", "ANOMALY");
    for (row, found) in found {
        let bad = if found.bad { "bad" } else { "" };
        let first = format!("{:<width$}  {:>5}  {bad:<3}  ", row.name, found.count);
        text.push_str(&flow(&first, first.chars().count(), row.meaning));
    }
    print(text.trim_end());
    Ok(())
}
