//! The command line: what was typed, and which room does it.
//!
//! Exit codes are Jepsen's: 0 valid, 1 invalid, 2 unknown, 254 wrong arguments, 255 the tool
//! itself failed. Results go to standard output, diagnostics to standard error.
//!
//! Never: holds protocol or checking logic.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::run::judge::JudgeError;

mod broker;
mod capture;
mod check;
mod dissect;
mod proxy;
mod query;
mod replay;
mod scenario;
mod test;
mod tls;

/// The exit code of a process that Ctrl-C ended, as shells know it.
const INTERRUPTED: i32 = 130;

/// The exit codes, as Jepsen's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything judged is as it should be.
    Valid,
    /// Something is not.
    Invalid,
    /// Nothing at all could be judged.
    Unknown,
    /// The arguments make no sense.
    Usage,
    /// The tool itself failed.
    Failed,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Invalid => 1,
            Self::Unknown => 2,
            Self::Usage => 254,
            Self::Failed => 255,
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Test brokers that speak the Kafka protocol: drive them, record every byte, judge what happened.
#[derive(Debug, Parser)]
#[command(name = "fencepost", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 valid, 1 invalid, 2 unknown, 254 wrong arguments, \
    255 the tool failed.\n\nStart here:\n  fencepost test                   \
    a run of 60 s on the embedded broker, and its verdict\n  fencepost test --broker kafka    \
    the same on real Apache Kafka (needs Java and Maven)\n  fencepost check store/latest     \
    judge a run folder again")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value = "text")]
    output_format: OutputFormat,
    /// More about what is being done, on standard error.
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One run: brokers, workload, final polls, verdict, run folder.
    Test(Box<test::TestArguments>),
    /// Judge what was recorded: run folders, history.jsonl, history.edn, pcap and pcapng files.
    Check(check::CheckArguments),
    /// Questions about a history: operations, what is around an offset, a key's order, any anomaly.
    Query(query::QueryArguments),
    /// Packets from an interface into a pcapng file, until Ctrl-C.
    Capture(capture::CaptureArguments),
    /// A capture as JSON lines, one exchange a line.
    Dissect(dissect::DissectArguments),
    /// A capture's requests said again to a broker, answers compared.
    Replay(replay::ReplayArguments),
    /// Stand between any client and any cluster: watch, record, hold, cut, forge.
    Proxy(proxy::ProxyArguments),
    /// Scripted conversations: hold one request, and see what the broker makes of it.
    Scenario(scenario::ScenarioArguments),
    /// Start a broker and leave it running for others until Ctrl-C.
    Broker(broker::BrokerArguments),
}

/// How to speak to whoever started the tool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) format: OutputFormat,
    pub(crate) verbose: bool,
    /// Whether standard error is a terminal that may be redrawn.
    pub(crate) live: bool,
}

impl Manner {
    /// Says something about what is being done, where that was asked for.
    pub(crate) fn detail(self, text: &str) {
        if self.verbose {
            say(text);
        }
    }
}

/// Where a file is standard input, the first Ctrl-C is meant for whoever writes it (`tcpdump -w - |
/// fencepost check -`): the input ends, and what it held is told. The second ends this process.
pub(crate) fn outlive_the_writer(files: &[PathBuf]) -> anyhow::Result<Option<Runtime>> {
    let is_piped = files.iter().any(|file| file.as_path() == Path::new("-"))
        && !std::io::stdin().is_terminal();
    if !is_piped {
        return Ok(None);
    }
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let interrupts = runtime.block_on(async { signal(SignalKind::interrupt()) });
    let mut interrupts = interrupts.context("cannot hear signals")?;
    runtime.spawn(async move {
        interrupts.recv().await;
        say("until the input ends; Ctrl-C again to give up");
        interrupts.recv().await;
        std::process::exit(INTERRUPTED);
    });
    Ok(Some(runtime))
}

/// A line on standard error. Nobody listening there is no reason to fail.
pub(crate) fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// A line on standard output. A closed pipe ends the output, not the run.
pub(crate) fn print(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// Does what the arguments say.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let told = !error.use_stderr();
            drop(error.print());
            return ExitCode::from(if told { 0 } else { Exit::Usage.code() });
        }
    };
    let manner = Manner {
        format: arguments.output_format,
        verbose: arguments.verbose,
        live: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let done = match arguments.command {
        Command::Test(arguments) => test::test(&arguments, manner),
        Command::Check(arguments) => check::check(&arguments, manner),
        Command::Query(arguments) => query::query(&arguments, manner),
        Command::Capture(arguments) => capture::capture(&arguments, manner),
        Command::Dissect(arguments) => dissect::dissect(&arguments, manner),
        Command::Replay(arguments) => replay::replay(&arguments, manner),
        Command::Proxy(arguments) => proxy::proxy(&arguments, manner),
        Command::Scenario(arguments) => scenario::scenario(&arguments, manner),
        Command::Broker(arguments) => broker::broker(&arguments, manner),
    };
    let exit = done.unwrap_or_else(|error| {
        let asked = error.downcast_ref::<JudgeError>();
        if error.is::<Usage>() || asked.is_some_and(|asked| matches!(asked, JudgeError::Given(_))) {
            say(&format!("error: {error}"));
            return Exit::Usage;
        }
        say(&format!("error: {error:#}"));
        Exit::Failed
    });
    ExitCode::from(exit.code())
}

/// Arguments that parse and make no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);
