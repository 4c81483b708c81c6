//! How fast a body is walked: what hot paths read with, beside the typed crate's decoder.
#![allow(missing_docs, clippy::unwrap_used)] // Criterion's macros; a bench may stop.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::messages::{self, RequestKind, ResponseKind};
use kafka_wire::ApiKey;
use kafka_wire::schema::{
    self, Direction, Fields, Flow, Ignore, Layout, Limits, Place, Scalar, Value, Visitor,
};

/// Adds up what it sees, so that no value goes unread.
#[derive(Default)]
struct Sum(i64, u64);

impl Visitor<'_> for Sum {
    fn value(&mut self, _: &Place<'_>, value: Scalar<'_>) -> Flow {
        self.0 = self.0.wrapping_add(value.as_int().unwrap_or(1));
        self.1 += 1;
        Flow::Continue(())
    }
}

fn produce(layout: &Layout, records: usize) -> Vec<u8> {
    let partition =
        |index: i32| Fields::new().with("index", index).with("records", vec![7u8; records]);
    let partitions: Vec<Fields> = (0..10).map(partition).collect();
    let topic = Fields::new().with("name", "orders").with("partition_data", partitions);
    layout.encode(&Fields::new().with("acks", -1).with("topic_data", vec![topic])).unwrap()
}

fn metadata(layout: &Layout) -> Vec<u8> {
    let partition = |index: i32| {
        let nodes = vec![1, 2, 3];
        Fields::new()
            .with("partition_index", index)
            .with("leader_id", 1)
            .with("replica_nodes", nodes.clone())
            .with("isr_nodes", nodes)
    };
    let topic = |n: i32| {
        Fields::new()
            .with("name", format!("topic-{n}"))
            .with("partitions", (0..6).map(partition).collect::<Vec<_>>())
    };
    let topics: Vec<Fields> = (0..200).map(topic).collect();
    layout.encode(&Fields::new().with("topics", topics).with("cluster_id", Value::Null)).unwrap()
}

fn produce_bodies(criterion: &mut Criterion) {
    let layout = schema::layout(ApiKey::PRODUCE, Direction::Request, 9).unwrap();
    let lookup = layout
        .lookup(&[
            "transactional_id",
            "acks",
            "topic_data.name",
            "topic_data.partition_data.index",
            "topic_data.partition_data.records",
        ])
        .unwrap();
    for records in [200, 16_384] {
        let body = produce(layout, records);
        let mut group =
            criterion.benchmark_group(format!("produce of 10 partitions, {records} bytes each"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("lookup", |b| {
            b.iter(|| {
                let mut sum = 0;
                lookup.read(black_box(&body), |hit| {
                    sum += hit.value.as_bytes().map_or(1, <[u8]>::len);
                    Flow::Continue(())
                });
                sum
            });
        });
        group.bench_function("walk", |b| {
            b.iter(|| {
                let mut sum = Sum::default();
                layout.walk(black_box(&body), Limits::NONE, &mut sum);
                sum.0
            });
        });
        group.bench_function("guard", |b| {
            b.iter(|| layout.guard(black_box(&body), Limits::default()).unwrap());
        });
        let body = Bytes::from(body);
        group.bench_function("kafka-protocol", |b| {
            b.iter(|| {
                RequestKind::decode(messages::ApiKey::Produce, &mut body.clone(), 9).unwrap()
            });
        });
        group.finish();
    }
}

fn metadata_bodies(criterion: &mut Criterion) {
    let layout = schema::layout(ApiKey::METADATA, Direction::Response, 9).unwrap();
    let body = metadata(layout);
    let mut sum = Sum::default();
    layout.walk(&body, Limits::NONE, &mut sum);
    let mut group = criterion.benchmark_group(format!("metadata, {} bytes, per field", body.len()));
    group.throughput(Throughput::Elements(sum.1));
    group.bench_function("walk", |b| {
        b.iter(|| {
            let mut sum = Sum::default();
            layout.walk(black_box(&body), Limits::NONE, &mut sum);
            sum.0
        });
    });
    group.bench_function("guard", |b| {
        b.iter(|| layout.guard(black_box(&body), Limits::default()).unwrap());
    });
    group.bench_function("ignore", |b| {
        b.iter(|| layout.walk(black_box(&body), Limits::NONE, &mut Ignore));
    });
    let lookup = layout.lookup(&["topics.partitions.error_code"]).unwrap();
    group.bench_function("lookup of one field", |b| {
        b.iter(|| {
            let mut sum = 0;
            lookup.read(black_box(&body), |hit| {
                sum += hit.value.as_int().unwrap_or(0);
                Flow::Continue(())
            });
            sum
        });
    });
    group.bench_function("tree", |b| {
        b.iter(|| layout.decode(black_box(&body), Limits::default()));
    });
    let tree = layout.decode(&body, Limits::default()).fields;
    group.bench_function("tree to body", |b| b.iter(|| layout.encode(black_box(&tree)).unwrap()));
    let mut json = String::new();
    group.bench_function("json", |b| {
        b.iter(|| {
            json.clear();
            layout.write_json(black_box(&body), &mut json, |_, _| Ok(())).unwrap();
        });
    });
    let body = Bytes::from(body);
    group.bench_function("kafka-protocol", |b| {
        b.iter(|| ResponseKind::decode(messages::ApiKey::Metadata, &mut body.clone(), 9).unwrap());
    });
    group.finish();
}

criterion_group!(benches, produce_bodies, metadata_bodies);
criterion_main!(benches);
