//! How fast whole histories are read into columns, and the columns folded over.

use std::hint::black_box;
use std::num::NonZeroUsize;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fencepost::history::columns::{History, MopRef};
use fencepost::history::read::{Format, read_history};
use fencepost::history::simulated::{Plan, Simulation};
use fencepost::history::write::write_event;
use fencepost::world::Chance;

const OPERATIONS: u64 = 100_000;

fn text(format: Format) -> Vec<u8> {
    let mut text = Vec::new();
    for event in Simulation::new(Plan::clean(OPERATIONS), &Chance::from_seed(1)) {
        write_event(&event, format, &mut text);
    }
    text
}

fn read(text: &[u8], threads: usize) -> History {
    let threads = NonZeroUsize::new(threads).expect("at least one");
    read_history(text, Format::Auto, threads).expect("a history").history
}

/// Looks at every record once, as a checker does.
fn fold(history: &History) -> i64 {
    let mut sum = 0_i64;
    for mop in history.ops().flat_map(|op| op.mops()) {
        match mop {
            MopRef::Send { value, offset, .. } => sum ^= value.0 + offset.unwrap_or(0),
            MopRef::Poll(poll) => poll.runs().for_each(|run| {
                run.records().for_each(|(offset, value)| sum ^= value.0 + offset.unwrap_or(0));
            }),
            MopRef::Append { .. } | MopRef::Read { .. } => {}
        }
    }
    sum
}

fn history(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("history");
    group.sample_size(10);
    for (name, format) in [("edn", Format::Edn), ("jsonl", Format::Jsonl)] {
        let text = text(format);
        group.throughput(Throughput::Bytes(text.len() as u64));
        for threads in [1, 2] {
            group.bench_function(format!("read {name}, {threads} threads"), |bencher| {
                bencher.iter(|| read(black_box(&text), threads).len());
            });
        }
    }
    let columns = read(&text(Format::Edn), 1);
    group.throughput(Throughput::Elements(OPERATIONS));
    group.bench_function("fold over every record", |bencher| {
        bencher.iter(|| fold(black_box(&columns)));
    });
    group.finish();
}

criterion_group!(benches, history);
criterion_main!(benches);
