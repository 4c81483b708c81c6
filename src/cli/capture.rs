//! `fencepost capture`: packets of an interface into a pcapng file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use super::{Exit, Manner, OutputFormat, Usage, print, say};
use crate::capture::LiveOptions;
use crate::report::text::grouped;
use crate::run::listen::{Heard, Listen, listen, numbered_file};
use crate::run::{clock, story};

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fencepost capture --interface lo --port 9092\n  \
    fencepost capture --interface eth0 --port 9092,9093 --write kafka.pcapng \
    --file-bytes-max 1073741824 --files-max 8\n  \
    fencepost capture --interface lo --port 9092 --write - | fencepost check -\n\n\
    Ctrl-C ends it with a summary. It needs CAP_NET_RAW: run it as root, or give the program the \
    right with `setcap cap_net_raw+ep`. Without it, `fencepost proxy --capture` records what \
    passes through it.")]
pub(crate) struct CaptureArguments {
    /// Which interface; without it, all of them.
    #[arg(long, short, value_name = "NAME")]
    interface: Option<String>,
    /// Ports of brokers; without it, TCP over any port.
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    port: Vec<u16>,
    /// The pcapng file; `-` is standard output. Without it, capture-TIME.pcapng.
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Bytes of one file before the next, FILE.1.pcapng and so on, begins.
    #[arg(long, value_name = "N")]
    file_bytes_max: Option<u64>,
    /// Files that are kept: the oldest are removed.
    #[arg(long, value_name = "N", requires = "file_bytes_max")]
    files_max: Option<u32>,
    /// Seconds after which it ends by itself.
    #[arg(long, value_name = "S")]
    time_limit: Option<f64>,
    /// Mebibytes that packets may wait in, in the kernel, before some are dropped.
    #[arg(long, value_name = "MB", default_value_t = 64)]
    ring_mb: u16,
}

impl CaptureArguments {
    fn plan(&self) -> Result<Listen, Usage> {
        let file = self.write.clone().unwrap_or_else(|| {
            format!("capture-{}.pcapng", clock::stamp(clock::real().unix_ns())).into()
        });
        if file == Path::new("-") && self.file_bytes_max.is_some() {
            let text = "--file-bytes-max: standard output is one file";
            return Err(Usage(text.into()));
        }
        if self.files_max == Some(0) {
            return Err(Usage("--files-max: expected at least 1".into()));
        }
        let time_limit = match self.time_limit.map(Duration::try_from_secs_f64) {
            None => None,
            Some(Ok(limit)) => Some(limit),
            Some(Err(_)) => {
                return Err(Usage("--time-limit: expected seconds, not negative".into()));
            }
        };
        Ok(Listen {
            live: LiveOptions {
                interface: self.interface.clone().filter(|name| name != "any"),
                ports: self.port.clone(),
                ring_bytes: usize::from(self.ring_mb) << 20,
            },
            file,
            file_bytes_max: self.file_bytes_max.unwrap_or(u64::MAX),
            files_max: self.files_max,
            time_limit,
        })
    }
}

/// Captures until Ctrl-C, and says what came of it.
pub(crate) fn capture(arguments: &CaptureArguments, manner: Manner) -> anyhow::Result<Exit> {
    let asked = arguments.plan()?;
    let told_to_end = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let heard = std::thread::scope(|scope| {
        let (done, until_done) = tokio::sync::oneshot::channel::<()>();
        let listener = scope.spawn(|| {
            let heard = listen(&asked, &told_to_end, || began(&asked), shown(manner));
            drop(done);
            heard
        });
        runtime.block_on(async {
            tokio::select! {
                () = story::until_told_to_end() => {}
                // It is never sent to: dropped when the capture ends by itself.
                _ = until_done => {}
            }
        });
        told_to_end.store(true, Ordering::Relaxed);
        listener.join().expect("the listener does not panic")
    });
    tell(&asked, heard?, manner)?;
    Ok(Exit::Valid)
}

fn began(asked: &Listen) {
    let interface = asked.live.interface.as_deref().unwrap_or("every interface");
    let ports: Vec<String> = asked.live.ports.iter().map(ToString::to_string).collect();
    let ports = if ports.is_empty() { "any port".into() } else { ports.join(", ") };
    say(&format!("capturing TCP over {ports} on {interface} into {}", asked.file.display()));
}

/// Redraws a line on a terminal once a second.
fn shown(manner: Manner) -> impl FnMut(Heard, Duration) {
    let mut seconds = 0;
    move |heard, elapsed| {
        if manner.live && elapsed.as_secs() > seconds {
            seconds = elapsed.as_secs();
            let text = format!("\r{} s: {}\x1b[K", seconds, in_words(heard));
            drop(std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()));
        }
    }
}

fn in_words(heard: Heard) -> String {
    let Heard { counts, recorded } = heard;
    format!(
        "{} packets, {} bytes, {} dropped by the kernel",
        grouped(recorded.packets),
        grouped(recorded.bytes),
        grouped(counts.dropped),
    )
}

fn tell(asked: &Listen, heard: Heard, manner: Manner) -> anyhow::Result<()> {
    let to_stdout = asked.file == Path::new("-");
    let kept = asked.files_max.unwrap_or(u32::MAX).min(heard.recorded.files);
    let files = (heard.recorded.files - kept..heard.recorded.files)
        .map(|number| numbered_file(&asked.file, number).display().to_string());
    let files: Vec<String> = files.collect();
    if manner.live {
        say("");
    }
    let text = match manner.format {
        OutputFormat::Text => format!("{}: {}", in_words(heard), files.join(" ")),
        OutputFormat::Json => serde_json::to_string(&serde_json::json!({
            "packets": heard.recorded.packets,
            "bytes": heard.recorded.bytes,
            "received": heard.counts.received,
            "dropped": heard.counts.dropped,
            "files": files,
        }))?,
    };
    if to_stdout {
        say(&text)
    } else {
        print(&text)
    }
    if heard.counts.dropped > 0 {
        say("packets are missing: a larger --ring-mb, fewer ports or a faster disk helps");
    }
    Ok(())
}
