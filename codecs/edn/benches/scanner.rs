//! How fast tokens are pulled out of what Jepsen writes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use edn::Scanner;

/// About a megabyte of lines as a queue workload writes them.
fn history() -> String {
    let mut text = String::new();
    let mut index = 0;
    while text.len() < 1 << 20 {
        let polled: Vec<_> =
            (0..index % 16).map(|i| format!("[{} {}]", index + i, i + 1)).collect();
        let polled = polled.join(" ");
        text.push_str(&format!(
            "{{:index {index}, :time {}, :type :invoke, :process {}, :f :txn, :value [[:send 3 {index}] [:poll]]}}\n\
             {{:index {}, :time {}, :type :ok, :process {}, :f :txn, :value [[:send 3 [{index} {index}]] [:poll {{3 [{polled}]}}]]}}\n",
            index * 123_457,
            index % 10,
            index + 1,
            index * 123_457 + 9_999,
            index % 10,
        ));
        index += 2;
    }
    text
}

fn scanner(criterion: &mut Criterion) {
    let text = history();
    let mut group = criterion.benchmark_group("edn");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("pull every token", |bencher| {
        bencher.iter(|| {
            let mut scanner = Scanner::new(black_box(text.as_bytes()));
            let mut tokens = 0_u64;
            while scanner.pull().expect("EDN").is_some() {
                tokens += 1;
            }
            tokens
        });
    });
    group.bench_function("pull, pairs at once", |bencher| {
        bencher.iter(|| {
            let mut scanner = Scanner::new(black_box(text.as_bytes()));
            let mut sum = 0_i64;
            loop {
                while let Some((offset, value)) = scanner.integer_pair() {
                    sum = sum.wrapping_add(offset ^ value);
                }
                if scanner.pull().expect("EDN").is_none() {
                    return sum;
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, scanner);
criterion_main!(benches);
