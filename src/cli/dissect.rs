//! `fencepost dissect FILE...`: captures as JSON lines, one exchange a line; or a single message.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use kafka_wire::ApiKey;

use super::{Exit, Manner, OutputFormat, Usage, outlive_the_writer, print, say};
use crate::capture::{AssemblerOptions, CaptureSummary, FileSummary, read_captures};
use crate::history::wire::StreamTrouble;
use crate::report::dissect::frame::{self, Meant};
use crate::report::dissect::{LineCounts, LineOptions, Lines, Totals, TotalsOptions, tables};
use crate::report::text::grouped;
use crate::run::clock;

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fencepost dissect run.pcapng\n  \
    fencepost dissect --errors-only --api Produce,EndTxn run.pcap.gz\n  \
    fencepost dissect --stats broker1.pcap broker2.pcap\n  \
    tcpdump -U -i lo -w - port 9092 | fencepost dissect --headers -\n  \
    echo '00000012 0012 0000 00000001 0008 70726f6475636572' | fencepost dissect -\n  \
    fencepost dissect --api Heartbeat --api-version 0 response.bin\n\n\
    Several files are one capture, merged by time. What is not in the lines (responses whose \
    request is not here, TLS, gaps) is said on standard error at the end.")]
pub(crate) struct DissectArguments {
    /// Files of packets, pcap or pcapng, plain, .gz or .zst; or one message, as bytes or
    /// hexadecimal digits; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only these APIs, by name or key.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    api: Vec<String>,
    /// The version of a single message without a request: --api says which.
    #[arg(long, value_name = "N", requires = "api", conflicts_with = "stats")]
    api_version: Option<i16>,
    /// Only exchanges with an error code in the response or with something wrong.
    #[arg(long, conflicts_with = "stats")]
    errors_only: bool,
    /// No bodies: `request` and `response` are {}.
    #[arg(long, conflicts_with = "stats")]
    headers: bool,
    /// What there is of messages of which bytes are missing, too.
    #[arg(long, conflicts_with = "stats")]
    torn: bool,
    /// Tables over all exchanges instead: APIs, versions, errors, latencies, clients, connections.
    #[arg(long)]
    stats: bool,
    /// Ports of brokers; without it every connection that begins as Kafka does.
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    port: Vec<u16>,
}

/// Reads, prints, says what was not whole.
pub(crate) fn dissect(arguments: &DissectArguments, manner: Manner) -> anyhow::Result<Exit> {
    let apis = apis(&arguments.api)?;
    let _outliving = outlive_the_writer(&arguments.files)?;
    let sources = Sources::open(&arguments.files)?;
    let api_key = apis.first().copied();
    let meant = api_key.zip(arguments.api_version);
    let meant = meant.map(|(api_key, api_version)| Meant { api_key, api_version });
    if let Some(lines) = sources.single_message(meant)? {
        print(lines.trim_end());
        return Ok(Exit::Valid);
    }
    let options = AssemblerOptions { ports: arguments.port.clone(), ..AssemblerOptions::default() };
    let summary = if arguments.stats {
        let totals = Totals::new(TotalsOptions { apis });
        let (totals, summary) = read_captures(sources.readers(), options, totals)?;
        print_totals(&totals, &summary, &sources, manner)?;
        summary
    } else {
        let names = || sources.names.iter().map(|name| name.display().to_string()).collect();
        let several = sources.names.len() > 1;
        let line_options = LineOptions {
            apis,
            errors_only: arguments.errors_only,
            headers: arguments.headers,
            torn: arguments.torn,
            files: if several { names() } else { Vec::new() },
            at_once: sources.is_live,
            live_from_ns: sources.is_live.then(|| clock::real().unix_ns().saturating_sub(LIVE_NS)),
        };
        let out = Output { out: io::stdout().lock(), is_closed: Rc::clone(&sources.is_closed) };
        let mut lines = Lines::new(out, line_options);
        if manner.verbose {
            lines = lines.telling(tell);
        }
        let (lines, summary) = read_captures(sources.readers(), options, lines)?;
        match lines.finish() {
            Ok(counts) => say_counts(&counts, arguments.torn),
            // Nobody wants the rest.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Valid),
            Err(error) => return Err(anyhow::Error::new(error).context("standard output")),
        }
        summary
    };
    Ok(sources.say_damages(&summary, manner))
}

/// The APIs of names and keys.
pub(super) fn apis(names: &[String]) -> Result<Vec<ApiKey>, Usage> {
    let api = |name: &String| {
        let key = name.parse().ok().map(ApiKey);
        key.or_else(|| ApiKey::from_name(name)).ok_or_else(|| {
            Usage(format!("--api {name}: expected names of the protocol guide such as Produce"))
        })
    };
    names.iter().map(api).collect()
}

fn tell(trouble: &StreamTrouble) {
    let packet = trouble.packet;
    say(&format!("connection {}, packet {packet}: {}", trouble.connection.0, trouble.kind));
}

/// Says what the lines do not show.
fn say_counts(counts: &LineCounts, torn_shown: bool) {
    let note = |count: u64, text: &str| {
        if count > 0 {
            say(&format!("{} {text}", grouped(count)));
        }
    };
    note(counts.responses_without_request, "responses whose request is not here: not shown");
    note(counts.sasl_tokens, "SASL tokens without a header: not shown");
    let [requests, responses] = counts.torn;
    if !torn_shown {
        note(requests, "requests of which bytes are missing: not shown (--torn shows the rest)");
        note(responses, "responses of which bytes are missing: not shown (--torn shows the rest)");
    }
    note(counts.tls, "connections speak TLS: nothing in them can be read");
    note(counts.other, "connections speak something else");
    note(
        counts.one_sided,
        "connections of which one side alone was captured show no request: not shown",
    );
    note(
        counts.bad_lengths,
        "lengths of frames cannot be: what follows was searched for the next (--verbose tells where)",
    );
    let [gaps, bytes] = counts.gaps;
    note(gaps, &format!("gaps: {} bytes are missing from the capture", grouped(bytes)));
    note(counts.out_of_order, "times so much waited for a response that lines are out of order");
}

fn print_totals(
    totals: &Totals,
    summary: &CaptureSummary,
    sources: &Sources,
    manner: Manner,
) -> anyhow::Result<()> {
    let packets = &summary.packets;
    if manner.format == OutputFormat::Json {
        let mut value = totals.to_json();
        value["packets"] = serde_json::json!({
            "packets": packets.packets,
            "tcp": packets.tcp,
            "other": packets.other,
            "fragments": packets.fragments,
            "broken": packets.broken,
            "unread": packets.unread.iter().map(|(what, n)| (what.to_string(), (*n).into()))
                .collect::<serde_json::Map<_, _>>(),
        });
        let files = sources.names.iter().zip(&summary.files).map(|(name, file)| {
            serde_json::json!({
                "file": name.display().to_string(),
                "packets": file.packets,
                "bytes": file.bytes,
                "damages": file.damages.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        value["files"] = files.collect();
        print(&serde_json::to_string_pretty(&value)?);
        return Ok(());
    }
    for (name, file) in sources.names.iter().zip(&summary.files) {
        let (packets, bytes) = (grouped(file.packets), grouped(file.bytes));
        print(&format!("{}: {packets} packets, {bytes} bytes", name.display()));
    }
    print(&format!(
        "packets {}: {} of TCP, {} other, {} broken",
        grouped(packets.packets),
        grouped(packets.tcp),
        grouped(packets.other + packets.fragments),
        grouped(packets.broken),
    ));
    print(tables::render(totals).trim_end());
    Ok(())
}

/// Packets that are no older when reading begins pass now.
const LIVE_NS: u64 = 60_000_000_000;

/// Bytes of a single message, or its digits, that are read.
const MESSAGE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Whether a file begins as those of packets do, packed or not, or is empty.
fn begins_as_capture(bytes: &[u8]) -> bool {
    match bytes {
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] | [0xa1, 0xb2, 0xcd, 0x34] => true,
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] | [0x34, 0xcd, 0xb2, 0xa1] => true,
        [0x0a, 0x0d, 0x0d, 0x0a] => true,
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => true,
        _ => bytes.is_empty(),
    }
}

/// The files, and what becomes of them while they are read.
struct Sources {
    names: Vec<PathBuf>,
    files: RefCell<Vec<Box<dyn Read>>>,
    /// Nobody reads the output any more: the files end here.
    is_closed: Rc<Cell<bool>>,
    failures: Rc<RefCell<Vec<Option<io::Error>>>>,
    /// Not all of them are files on a disk: packets may come as they happen.
    is_live: bool,
}

impl Sources {
    fn open(names: &[PathBuf]) -> anyhow::Result<Self> {
        let is_stdin = |name: &&PathBuf| name.as_path() == Path::new("-");
        if names.iter().filter(is_stdin).count() > 1 {
            return Err(Usage("standard input can be read only once".into()).into());
        }
        let mut is_live = false;
        let open = |name: &PathBuf| -> anyhow::Result<Box<dyn Read>> {
            // Not through a buffer: what a slow writer said is read when it was said.
            let file = if is_stdin(&name) {
                io::stdin().as_fd().try_clone_to_owned().map(File::from)
            } else {
                File::open(name)
            };
            let file = file
                .map_err(|error| anyhow::Error::new(error).context(name.display().to_string()))?;
            is_live |= !file.metadata().is_ok_and(|data| data.is_file());
            Ok(Box::new(file))
        };
        let files = names.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            names: names.to_vec(),
            files: RefCell::new(files),
            is_closed: Rc::default(),
            failures: Rc::new(RefCell::new(names.iter().map(|_| None).collect())),
            is_live,
        })
    }

    /// The lines of the only file, where that is no capture but a message; whatever was read of it
    /// is there to be read again.
    fn single_message(&self, meant: Option<Meant>) -> anyhow::Result<Option<String>> {
        let mut files = self.files.borrow_mut();
        let [file] = &mut files[..] else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = |file: &mut Box<dyn Read>, most: u64, bytes: &mut Vec<u8>| {
            let read = file.take(most).read_to_end(bytes);
            read.map_err(|error| {
                anyhow::Error::new(error).context(self.names[0].display().to_string())
            })
        };
        read(file, 4, &mut bytes)?;
        let mut lines = None;
        if !begins_as_capture(&bytes) {
            read(file, MESSAGE_BYTES_MAX, &mut bytes)?;
            lines = frame::lines(&bytes, meant);
        }
        let rest = std::mem::replace(file, Box::new(io::empty()));
        *file = Box::new(io::Cursor::new(bytes).chain(rest));
        Ok(lines)
    }

    fn readers(&self) -> Vec<Source> {
        let files = std::mem::take(&mut *self.files.borrow_mut());
        let source = |(index, file)| Source {
            file,
            index,
            is_closed: Rc::clone(&self.is_closed),
            failures: Rc::clone(&self.failures),
        };
        files.into_iter().enumerate().map(source).collect()
    }

    /// Says what is wrong with the files; failed where of one of them nothing could be read.
    fn say_damages(&self, summary: &CaptureSummary, manner: Manner) -> Exit {
        let mut exit = Exit::Valid;
        let failures = self.failures.borrow();
        for ((name, file), failure) in self.names.iter().zip(&summary.files).zip(failures.iter()) {
            let name = name.display();
            let FileSummary { packets, bytes, damages, damages_more, dropped } = file;
            let damaged = failure.is_some() || !damages.is_empty();
            let read_as_far = if *packets == 0 && damaged {
                exit = Exit::Failed;
                "error: nothing could be read of "
            } else {
                ""
            };
            if let Some(error) = failure {
                say(&format!("{read_as_far}{name}: at byte {bytes}: {error}"));
                continue;
            }
            let shown = if manner.verbose { damages.len() } else { 1 };
            for damage in damages.iter().take(shown) {
                say(&format!("{read_as_far}{name}: {damage}"));
            }
            if *dropped > 0 {
                say(&format!("{name}: {} packets passed and were not captured", grouped(*dropped)));
            }
            let more = damages.len().saturating_sub(shown) as u64 + damages_more;
            if more > 0 {
                say(&format!("{name}: {} places more are damaged", grouped(more)));
            }
        }
        for (what, packets) in &summary.packets.unread {
            say(&format!("{} packets are not read: {what}", grouped(*packets)));
        }
        if summary.packets.broken > 0 {
            say(&format!("{} packets are broken", grouped(summary.packets.broken)));
            if manner.verbose {
                for (number, why) in &summary.packets.broken_packets {
                    say(&format!("packet {number}: {why}"));
                }
            }
        }
        exit
    }
}

/// A file that ends where reading fails or nobody wants more, so that what came before is kept.
struct Source {
    file: Box<dyn Read>,
    index: usize,
    is_closed: Rc<Cell<bool>>,
    failures: Rc<RefCell<Vec<Option<io::Error>>>>,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_closed.get() {
            return Ok(0);
        }
        match self.file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failures.borrow_mut()[self.index] = Some(error);
                Ok(0)
            }
            read => read,
        }
    }
}

/// Standard output, which says to the sources when it can take no more.
struct Output<W> {
    out: W,
    is_closed: Rc<Cell<bool>>,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        if let Err(error) = &written {
            self.is_closed.set(error.kind() != io::ErrorKind::Interrupted);
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
