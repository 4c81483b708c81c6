//! Reads histories and says how fast, what they hold and what is odd about them:
//!
//! `read_history THREADS FILE...`

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::time::Instant;

use fencepost::history::columns::{History, MopRef};
use fencepost::history::read::{Format, read_history};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let threads: NonZeroUsize = args.next().unwrap_or_default().parse()?;
    let mut out = io::stdout().lock();
    for path in args {
        let began = now();
        let recorded = read_history(File::open(&path)?, Format::Auto, threads)?;
        let took = began.elapsed().as_secs_f64();
        let history = &recorded.history;
        let began = now();
        let records = records(history);
        let folded = began.elapsed();
        writeln!(
            out,
            "{path}: {} operations, {} micro-operations, {records} records, {} keys, \
             {:.1} MB in columns; read in {took:.3} s, {:.0} MB/s; folded in {folded:?}",
            history.len(),
            history.mop_count(),
            history.key_count(),
            history.column_bytes() as f64 / 1e6,
            recorded.bytes as f64 / 1e6 / took,
        )?;
        for seen in recorded.observations.iter() {
            writeln!(
                out,
                "  {} {} from byte {}",
                seen.oddity.name(),
                seen.count,
                seen.byte_offset
            )?;
        }
        if let Some(stopped) = recorded.stopped {
            writeln!(out, "  stopped at {stopped}")?;
        }
    }
    Ok(())
}

/// How many records were polled, each looked at.
fn records(history: &History) -> u64 {
    let mut records = 0;
    for mop in history.ops().flat_map(|op| op.mops()) {
        if let MopRef::Poll(poll) = mop {
            for run in poll.runs() {
                run.records().for_each(|(offset, _)| records += u64::from(offset.is_some()));
            }
        }
    }
    records
}

#[expect(clippy::disallowed_methods, reason = "a program to measure with")]
fn now() -> Instant {
    Instant::now()
}
