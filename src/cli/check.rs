//! `fencepost check FILE...`: judges what was recorded.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::{Exit, Manner, OutputFormat, Usage, outlive_the_writer, print, say};
use crate::checker::Validity;
use crate::report::text;
use crate::run::annotate::annotate;
use crate::run::judge::{self, Given};

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fencepost check store/latest\n  \
    fencepost check history.edn.gz --no-ww-deps\n  \
    fencepost check run1.pcapng --output-format json\n  \
    fencepost check run1.pcapng --annotate shown.pcapng && wireshark shown.pcapng\n\n\
    Several files are one history, merged by time; processes of different files stay apart. A folder is a run folder: what it asks for is taken from its \
    plan.toml, other flags change it. `-` is standard input.")]
pub(crate) struct CheckArguments {
    /// Run folders, history.jsonl, history.edn (.gz too), .pcap, .pcapng, or `-`.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    expected: ExpectedArguments,
    /// Write the captures once more, as one, with what is found as comments on the packets that prove it.
    #[arg(long, value_name = "OUT.pcapng")]
    annotate: Option<PathBuf>,
    /// Cases shown of each type; 0 is all.
    #[arg(long, value_name = "N")]
    anomalies_max: Option<usize>,
}

/// What a history is held to, and how it is written.
#[derive(Debug, Args)]
pub(crate) struct ExpectedArguments {
    /// Ways consumers were bound: assign, subscribe.
    #[arg(long, value_name = "WAY,...", value_delimiter = ',')]
    sub_via: Vec<SubViaArgument>,
    /// Infer write-write edges from offsets (the default).
    #[arg(long, overrides_with = "no_ww_deps")]
    ww_deps: bool,
    /// Do not.
    #[arg(long, overrides_with = "ww_deps")]
    no_ww_deps: bool,
    /// Anomalies that are reported and not bad.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    ignore_queue_errors: Vec<String>,
    /// queue or list-append; without it, what the file says, else queue.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// What a list-append history is held to.
    #[arg(long, value_name = "NAME")]
    consistency_model: Option<String>,
    /// read_committed or read_uncommitted.
    #[arg(long, value_name = "LEVEL")]
    isolation_level: Option<String>,
    /// The notation of the files.
    #[arg(long, value_enum, default_value = "auto")]
    format: FormatArgument,
}

/// How a consumer was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SubViaArgument {
    Assign,
    Subscribe,
}

/// The notation of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArgument {
    /// By its first bytes.
    Auto,
    /// One JSON event a line.
    Jsonl,
    /// Jepsen's.
    Edn,
    /// Packets.
    Pcap,
}

impl ExpectedArguments {
    /// The same for the judge.
    pub(crate) fn given(&self) -> Given {
        let has = |way| self.sub_via.contains(&way);
        Given {
            sub_via: (!self.sub_via.is_empty())
                .then(|| (has(SubViaArgument::Assign), has(SubViaArgument::Subscribe))),
            ww_deps: (self.ww_deps || self.no_ww_deps).then_some(!self.no_ww_deps),
            ignore: self.ignore_queue_errors.clone(),
            workload: self.workload.clone(),
            consistency_model: self.consistency_model.clone(),
            isolation_level: self.isolation_level.clone(),
            format: match self.format {
                FormatArgument::Auto => None,
                FormatArgument::Jsonl => Some(judge::Notation::Jsonl),
                FormatArgument::Edn => Some(judge::Notation::Edn),
                FormatArgument::Pcap => Some(judge::Notation::Packets),
            },
            anomalies_max: None,
            anomalies_min: 0,
        }
    }
}

/// Reads, checks, prints.
pub(crate) fn check(arguments: &CheckArguments, manner: Manner) -> anyhow::Result<Exit> {
    let given = Given { anomalies_max: arguments.anomalies_max, ..arguments.expected.given() };
    if let Some(to) = &arguments.annotate
        && !can_be_annotated(&arguments.files, to)
    {
        return Err(Usage(
            "--annotate: expected captures that are files, and another file to write".into(),
        )
        .into());
    }
    let _outliving = outlive_the_writer(&arguments.files)?;
    let (verdict, history) = judge::judge_and_keep(&arguments.files, &given)?;
    // The process is about to end; to give a large history back piece by piece is work for nothing.
    std::mem::forget(history);
    match manner.format {
        OutputFormat::Json => print(&serde_json::to_string_pretty(&verdict)?),
        OutputFormat::Text => print(text::summary(&verdict).trim_end()),
    }
    if let Some(to) = &arguments.annotate {
        let packets = annotate(&arguments.files, &verdict, to)
            .with_context(|| format!("cannot annotate into {}", to.display()))?;
        say(&format!("{packets} packets have comments in {}", to.display()));
    }
    Ok(exit(verdict.valid))
}

/// Files that can be read again, and none of which is to be written.
fn can_be_annotated(files: &[PathBuf], to: &Path) -> bool {
    let same = |file: &PathBuf| file.canonicalize().ok() == to.canonicalize().ok();
    files.iter().all(|file| file.is_file() && !(to.exists() && same(file)))
}

/// The exit code of a verdict.
pub(crate) fn exit(valid: Validity) -> Exit {
    match valid {
        Validity::True => Exit::Valid,
        Validity::False => Exit::Invalid,
        Validity::Unknown => Exit::Unknown,
    }
}
