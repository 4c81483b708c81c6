//! `fencepost replay`: a capture's requests said again to a broker, answers compared.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::dissect::apis;
use super::{Exit, Manner, OutputFormat, Usage, print, say};
use crate::history::tap::NoTap;
use crate::report::text::grouped;
use crate::run::replay::{self, Options, ReplayError, Replayed, Total, Wanted};
use crate::run::{clock, story};

/// Bytes of requests and answers that are kept.
const BYTES_MAX: usize = 1 << 30;

/// Which recorded names give way to those that the new broker gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Remap {
    /// Producer ids and epochs, topic ids, member ids, fetch sessions, addresses of brokers.
    Ids,
    /// None: every byte as it was.
    None,
}

/// When requests go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pace {
    /// As soon as the answers are there that the client had by then.
    Fast,
    /// Not before the times at which they did.
    Original,
}

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fencepost replay incident.pcapng --create-topics --bootstrap-server 127.0.0.1:9092\n  \
    fencepost replay run.pcapng --connection 50112 --remap none --bootstrap-server 127.0.0.1:9092\n  \
    fencepost replay run.pcapng --api InitProducerId,Produce,EndTxn --bootstrap-server …\n\n\
    Requests keep their bytes and their order; each waits for the answers that its client had by \
    then. Exit code 1 where an answer differs. Not compared: throttle_time_ms, \
    log_append_time_ms, cluster_id, host, port, session_id, current_leader, leader_epoch, \
    error_message, finalized_features_epoch, and what --ignore names; of records, producers, leader epochs and seals.")]
pub(crate) struct ReplayArguments {
    /// Files of packets, pcap or pcapng, plain, .gz or .zst; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to say it. Other brokers of the capture are found by its Metadata answers.
    #[arg(long, required = true, value_name = "HOST:PORT,...", value_delimiter = ',')]
    bootstrap_server: Vec<String>,
    /// Only these connections: `client-broker` as dissect prints it, or the client's port.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    connection: Vec<String>,
    /// Only these APIs, by name or key.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    api: Vec<String>,
    /// Ports of brokers in the capture; without it every connection that begins as Kafka does.
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    port: Vec<u16>,
    /// Which recorded names give way to those that the new broker gives.
    #[arg(long, value_enum, default_value = "ids")]
    remap: Remap,
    /// Create the topics that the capture's Metadata answers show before anything is said, and wait
    /// until their partitions have leaders.
    #[arg(long)]
    create_topics: bool,
    /// When requests go out.
    #[arg(long, value_enum, default_value = "fast")]
    pace: Pace,
    /// Fields that are not compared.
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',')]
    ignore: Vec<String>,
    /// How long an answer may take.
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    request_timeout_ms: u64,
}

/// Says everything again and tells where answers differ.
pub(crate) fn replay(arguments: &ReplayArguments, manner: Manner) -> anyhow::Result<Exit> {
    let wanted = Wanted {
        connections: arguments.connection.clone(),
        apis: apis(&arguments.api)?,
        ports: arguments.port.clone(),
        bytes_max: BYTES_MAX,
    };
    let options = Options {
        bootstrap: arguments.bootstrap_server.clone(),
        renamed: arguments.remap == Remap::Ids,
        creates_topics: arguments.create_topics,
        paced: arguments.pace == Pace::Original,
        ignored: arguments.ignore.clone(),
        request_timeout: Duration::from_millis(arguments.request_timeout_ms),
    };
    let open = |path: &PathBuf| -> anyhow::Result<(String, Box<dyn Read>)> {
        let name = path.display().to_string();
        if path == Path::new("-") {
            return Ok((name, Box::new(std::io::stdin())));
        }
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        Ok((name, Box::new(file)))
    };
    let readers = arguments.files.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let clock = clock::real();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = |replayed: &Replayed| tell(replayed, manner);
    let total = runtime.block_on(async {
        let work = replay::replay(readers, &wanted, &options, (&clock, Arc::new(NoTap)), told);
        tokio::select! {
            total = work => total.map(Some),
            () = story::until_told_to_end() => Ok(None),
        }
    });
    match total {
        Ok(Some(total)) => Ok(sum_up(&total, manner)?),
        Ok(None) => {
            say("interrupted: the rest was not said");
            Ok(Exit::Unknown)
        }
        Err(error @ ReplayError::Nothing) => Err(Usage(error.to_string()).into()),
        Err(error) => Err(error.into()),
    }
}

/// An answer that differs; in JSON and where asked for more, every one.
fn tell(replayed: &Replayed, manner: Manner) {
    if manner.format == OutputFormat::Json {
        print(&serde_json::to_string(replayed).unwrap_or_default());
        return;
    }
    let Replayed { n, connection, api, api_version, correlation_id, frame, .. } = replayed;
    let what =
        format!("{n} {api} v{api_version} correlation {correlation_id} frame {frame} {connection}");
    if replayed.is_alike() {
        return manner.detail(&format!("{what}: as recorded"));
    }
    print(&what);
    if let Some(why) = &replayed.unanswered {
        print(&format!("  answered in the capture; now: {why}"));
    }
    for difference in &replayed.differences {
        let (recorded, answered) = (&difference.recorded, &difference.answered);
        print(&format!("  {}: recorded {recorded}, answered {answered}", difference.path));
    }
}

fn sum_up(total: &Total, manner: Manner) -> anyhow::Result<Exit> {
    if manner.format == OutputFormat::Json {
        print(&serde_json::to_string(&serde_json::json!({ "total": total }))?);
    } else {
        print(&format!(
            "{} requests said on {} connections, {} of them with new names; {} answers compared, {} \
             differ",
            grouped(total.requests),
            total.connections,
            grouped(total.renamed),
            grouped(total.compared),
            grouped(total.different)
        ));
    }
    if total.of_brokers > 0 {
        say(&format!("{} requests left out: brokers sent them", grouped(total.of_brokers)));
    }
    if total.torn > 0 {
        say(&format!("{} requests left out: bytes of them are missing", grouped(total.torn)));
    }
    Ok(match (total.compared, total.different) {
        (0, _) => Exit::Unknown,
        (_, 0) => Exit::Valid,
        _ => Exit::Invalid,
    })
}
