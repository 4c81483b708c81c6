//! Batches of 1,000 records of 100 bytes, ours beside kafka-protocol's.
//!
//! Times are per batch of 1,000 records: a microsecond a batch is a nanosecond a record.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use kafka_wire::batch::{BatchBuilder, BatchIter, Header, NewRecord, Scratch};

const RECORDS: usize = 1_000;
const VALUE: [u8; 100] = [b'v'; 100];
const TIME: i64 = 1_700_000_000_000;

fn headers(count: usize) -> Vec<Header<'static>> {
    let two = [
        Header { key: b"trace-id", value: Some(b"0123456789abcdef") },
        Header { key: b"source", value: Some(b"bench") },
    ];
    two[..count].to_vec()
}

fn new_records<'a>(headers: &'a [Header<'a>]) -> impl Iterator<Item = NewRecord<'a>> {
    (0..RECORDS).map(move |i| NewRecord {
        timestamp: TIME + (i / 10) as i64,
        headers,
        ..NewRecord::of(&VALUE)
    })
}

fn batch(headers: &[Header<'_>]) -> Bytes {
    let mut out = BytesMut::new();
    BatchBuilder::default().encode(new_records(headers), &mut Scratch::new(), &mut out);
    out.freeze()
}

fn their_records(headers: usize) -> Vec<Record> {
    let their_headers: IndexMap<StrBytes, Option<Bytes>> = self::headers(headers)
        .into_iter()
        .map(|header| {
            let key = StrBytes::from_string(header.key_text().unwrap().to_owned());
            (key, header.value.map(Bytes::from_static))
        })
        .collect();
    let record = |i: usize| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: i as i64,
        // Any other and the encoder makes a batch of every record.
        sequence: i as i32,
        timestamp: TIME + (i / 10) as i64,
        key: None,
        value: Some(Bytes::from_static(&VALUE)),
        headers: their_headers.clone(),
    };
    (0..RECORDS).map(record).collect()
}

fn decode(c: &mut Criterion) {
    for count in [0, 2] {
        let field = batch(&headers(count));
        let mut group = c.benchmark_group(format!("decode_{count}_headers"));
        group.throughput(Throughput::Elements(RECORDS as u64));
        group.bench_function("ours", |b| {
            let mut scratch = Scratch::new();
            b.iter(|| {
                let batch = BatchIter::new(black_box(&field)).next().unwrap().unwrap();
                batch.check_crc().unwrap();
                let mut bytes = 0usize;
                let mut records = batch.records(&mut scratch);
                for record in records.by_ref() {
                    bytes += record.value.unwrap().len() + record.offset.0 as usize;
                    for header in record.headers {
                        bytes += header.key.len() + header.value.unwrap().len();
                    }
                    bytes += record.timestamp as usize + record.key.map_or(0, <[u8]>::len);
                }
                assert!(records.errors().is_empty());
                bytes
            });
        });
        group.bench_function("kafka-protocol", |b| {
            b.iter(|| {
                let set = RecordBatchDecoder::decode(&mut black_box(field.clone())).unwrap();
                assert_eq!(set.records.len(), RECORDS);
                set
            });
        });
        group.finish();
    }
}

fn encode(c: &mut Criterion) {
    for count in [0, 2] {
        let mut group = c.benchmark_group(format!("encode_{count}_headers"));
        group.throughput(Throughput::Elements(RECORDS as u64));
        let headers = headers(count);
        group.bench_function("ours", |b| {
            let mut scratch = Scratch::new();
            let mut out = BytesMut::new();
            b.iter(|| {
                out.clear();
                let records = new_records(black_box(&headers));
                BatchBuilder::default().encode(records, &mut scratch, &mut out)
            });
        });
        group.bench_function("kafka-protocol", |b| {
            let records = their_records(count);
            let options = RecordEncodeOptions { version: 2, compression: Compression::None };
            let mut out = BytesMut::new();
            b.iter(|| {
                out.clear();
                RecordBatchEncoder::encode(&mut out, black_box(&records), &options).unwrap();
            });
        });
        group.finish();
    }
}

fn index(c: &mut Criterion) {
    let field: Vec<u8> = batch(&[]).repeat(100);
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Bytes(field.len() as u64));
    group.bench_function("headers", |b| {
        b.iter(|| BatchIter::new(black_box(&field)).map(|b| b.unwrap().header.crc).max());
    });
    group.bench_function("headers and CRC", |b| {
        b.iter(|| {
            BatchIter::new(black_box(&field)).all(|batch| batch.unwrap().check_crc().is_ok())
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = decode, encode, index
}
criterion_main!(benches);
