//! Measures `fencepost check` from file to verdict, whole processes, on histories that it generates:
//!
//! `measure_check [--runs N] [--large] [--only NAME] [FENCEPOST...]`
//!
//! Several binaries (an old and a new one) take turns on the same file, so that what else the
//! machine does falls on both. Without any, the `fencepost` built beside this example is measured.
//! `--large` adds ten million operations (8 GB of files in the folder for temporary files).

#![allow(unsafe_code, reason = "a child's processor time and memory are told by wait4 alone")]

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fencepost::history::read::Format;
use fencepost::history::simulated::{Plan, Simulation};
use fencepost::history::write::write_event;
use fencepost::world::Chance;

/// A history to measure with, and in how many seconds it is to be judged.
struct Load {
    name: &'static str,
    plan: fn(u64) -> Plan,
    operations: u64,
    asked: Option<f64>,
}

const fn load(
    name: &'static str,
    plan: fn(u64) -> Plan,
    operations: u64,
    asked: Option<f64>,
) -> Load {
    Load { name, plan, operations, asked }
}

const LOADS: [Load; 8] = [
    load("clean.edn", Plan::clean, 100_000, Some(0.12)),
    load("clean.jsonl", Plan::clean, 100_000, None),
    load("clean.edn", Plan::clean, 300_000, Some(0.35)),
    load("clean.edn", Plan::clean, 1_000_000, Some(1.6)),
    load("clean.jsonl", Plan::clean, 1_000_000, Some(1.3)),
    load("faulty.edn", Plan::faulty, 100_000, None),
    load("faulty.edn", Plan::faulty, 1_000_000, None),
    load("knot.edn", Plan::knot, 100_000, Some(2.0)),
];

const LARGE: [Load; 2] = [
    load("clean.edn", Plan::clean, 10_000_000, Some(25.0)),
    load("clean.jsonl", Plan::clean, 10_000_000, None),
];

/// What one process took.
#[derive(Clone, Copy)]
struct Taken {
    wall: f64,
    user: f64,
    system: f64,
    resident_bytes: u64,
    exit: i32,
}

struct Asked {
    runs: usize,
    large: bool,
    only: Option<String>,
    binaries: Vec<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let asked = asked()?;
    let folder = std::env::temp_dir().join(format!("measure-check-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = measure(&asked, &folder);
    std::fs::remove_dir_all(&folder)?;
    measured
}

fn asked() -> Result<Asked, Box<dyn Error>> {
    let mut asked = Asked { runs: 5, large: false, only: None, binaries: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--runs" => asked.runs = value()?.parse()?,
            "--large" => asked.large = true,
            "--only" => asked.only = Some(value()?),
            _ => asked.binaries.push(argument.into()),
        }
    }
    if asked.binaries.is_empty() {
        let own = std::env::current_exe()?;
        let folder = own.parent().and_then(Path::parent).ok_or("this program is in no folder")?;
        asked.binaries.push(folder.join("fencepost"));
    }
    Ok(asked)
}

fn measure(asked: &Asked, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:>12} {:>11} {:>6} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9} {:>5} binary",
        "history",
        "operations",
        "MB",
        "wall s",
        "asked",
        "user s",
        "sys s",
        "RSS MB",
        "ops/s",
        "exit"
    )?;
    let large = LARGE.iter().filter(|_| asked.large);
    let is_asked = |load: &&Load| asked.only.as_ref().is_none_or(|only| load.name.contains(only));
    for load in LOADS.iter().chain(large).filter(is_asked) {
        let file = folder.join(load.name);
        generate(load, &file)?;
        let bytes = std::fs::metadata(&file)?.len();
        for (binary, taken) in asked.binaries.iter().zip(runs(asked, &file)?) {
            writeln!(
                out,
                "{:>12} {:>11} {:>6.0} {:>7.3} {:>7} {:>7.3} {:>7.3} {:>7.0} {:>9.0} {:>5} {}",
                load.name,
                load.operations,
                bytes as f64 / 1e6,
                taken.wall,
                load.asked.map_or_else(String::new, |asked| format!("{asked:.2}")),
                taken.user,
                taken.system,
                taken.resident_bytes as f64 / 1e6,
                load.operations as f64 / taken.wall,
                taken.exit,
                binary.display(),
            )?;
        }
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

fn generate(load: &Load, file: &Path) -> io::Result<()> {
    let format = if load.name.ends_with(".jsonl") { Format::Jsonl } else { Format::Edn };
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    let mut text = Vec::new();
    for event in Simulation::new((load.plan)(load.operations), &Chance::from_seed(1)) {
        text.clear();
        write_event(&event, format, &mut text);
        out.write_all(&text)?;
    }
    out.flush()
}

/// The run of middling wall time of each binary. The first round only warms the page cache.
fn runs(asked: &Asked, file: &Path) -> Result<Vec<Taken>, Box<dyn Error>> {
    let mut taken: Vec<Vec<Taken>> = vec![Vec::new(); asked.binaries.len()];
    for round in 0..=asked.runs.max(1) {
        for (binary, taken) in asked.binaries.iter().zip(&mut taken) {
            let run = run(binary, file)?;
            if round > 0 {
                taken.push(run);
            }
        }
    }
    Ok(taken
        .into_iter()
        .map(|mut taken| {
            taken.sort_by(|a, b| a.wall.total_cmp(&b.wall));
            taken[taken.len() / 2]
        })
        .collect())
}

fn run(binary: &Path, file: &Path) -> Result<Taken, Box<dyn Error>> {
    let mut command = Command::new(binary);
    command.arg("check").arg(file).args(["--output-format", "json"]);
    let began = now();
    let child = command.stdout(Stdio::null()).spawn()?;
    let mut status = 0;
    // SAFETY: a rusage is plain numbers, for which zeros are values.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the process is a child of ours that nobody else waits for; both places outlive the
    // call.
    let waited =
        unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    let wall = began.elapsed().as_secs_f64();
    if waited < 0 || !libc::WIFEXITED(status) {
        return Err(format!("{} did not end by itself", binary.display()).into());
    }
    let seconds = |time: libc::timeval| {
        let micros = Duration::from_micros(time.tv_usec.unsigned_abs());
        time.tv_sec as f64 + micros.as_secs_f64()
    };
    Ok(Taken {
        wall,
        user: seconds(usage.ru_utime),
        system: seconds(usage.ru_stime),
        // Linux counts in KiB.
        resident_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
        exit: libc::WEXITSTATUS(status),
    })
}

#[expect(clippy::disallowed_methods, reason = "a program to measure with")]
fn now() -> Instant {
    Instant::now()
}
