//! Makes a capture of an idempotent producer and a consumer, as large as asked, to measure with.
//!
//! `cargo run --release --example make_capture -- FILE MEGABYTES [RECORD_BYTES RECORDS CODEC]`

#![allow(clippy::print_stdout, reason = "an example talks to its user")]
#![allow(clippy::unwrap_used, reason = "an example stops where it cannot go on")]

use std::fs::File;

use fencepost::capture::PcapngTap;
use fencepost::history::{Connection, Direction, Tap};
use kafka_wire::ApiKey;
use kafka_wire::batch::{
    Attributes, BatchBuilder, Compression, NewRecord, Scratch, rewrite_header,
};
use kafka_wire::batch::{BatchHeader, BatchIter};
use kafka_wire::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use kafka_wire::schema::{self, Direction as Way, Fields};

const PRODUCER: Connection = Connection(0);
const CONSUMER: Connection = Connection(1);

struct Talk {
    tap: PcapngTap,
    time_ns: u64,
    correlation_id: i32,
}

impl Talk {
    fn exchange(&mut self, on: Connection, api: (ApiKey, i16), request: &Fields, answer: &Fields) {
        let (api_key, version) = api;
        let body = |way, fields| schema::layout(api_key, way, version).unwrap().encode(fields);
        self.correlation_id += 1;
        let id = self.correlation_id.to_be_bytes();
        // Neither version is flexible: headers 1 and 0.
        let head = [&api_key.0.to_be_bytes()[..], &version.to_be_bytes(), &id, &[0, 1, b'c']];
        let request = [head.concat(), body(Way::Request, request).unwrap()].concat();
        let answer = [id.to_vec(), body(Way::Response, answer).unwrap()].concat();
        for (way, frame) in [(Direction::Request, request), (Direction::Response, answer)] {
            self.time_ns += 1_000;
            let length = (frame.len() as u32).to_be_bytes();
            self.tap.bytes(on, way, self.time_ns, &[&length[..], &frame].concat());
        }
    }
}

fn one(name: &'static str, inner: Fields) -> Fields {
    Fields::new().with(name, vec![inner])
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, absent: usize| {
        arguments.get(at).map_or(absent, |text: &String| text.parse().unwrap())
    };
    let [megabytes, record_bytes, records] = [number(1, 1_000), number(2, 1_000), number(3, 500)];
    let compression = match arguments.get(4).map(String::as_str) {
        Some("lz4") => Compression::Lz4,
        Some("zstd") => Compression::Zstd,
        Some("snappy") => Compression::Snappy,
        _ => Compression::None,
    };
    let file = File::create(&arguments[0]).unwrap();
    let mut file = Some(file);
    let open = Box::new(move |_| Ok(Box::new(file.take().unwrap()) as Box<_>));
    let tap = PcapngTap::new(open, u64::MAX).unwrap();
    for (connection, port) in [(PRODUCER, 40_000), (CONSUMER, 40_001)] {
        let (client, broker) = (([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 9092).into());
        tap.opened(connection, client, broker, 1_700_000_000_000_000_000);
    }
    let mut talk = Talk { tap, time_ns: 1_700_000_000_000_000_000, correlation_id: 0 };
    let mut scratch = Scratch::new();
    let (mut written, mut offset) = (0, 0);
    while written < megabytes * 1_000_000 {
        let values: Vec<Vec<u8>> = (0..records)
            .map(|at| format!("{:020}", offset + at as i64).into_bytes().repeat(record_bytes / 20))
            .collect();
        let mut batch = Vec::new();
        let builder = BatchBuilder {
            attributes: Attributes::default().with_compression(compression),
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(0),
            base_sequence: Sequence((offset & 0x7fff_ffff) as i32),
            ..BatchBuilder::default()
        };
        builder.encode(values.iter().map(|value| NewRecord::of(value)), &mut scratch, &mut batch);
        let partition = Fields::new().with("index", 0).with("records", batch.clone());
        let topic = Fields::new().with("name", "t").with("partition_data", vec![partition]);
        let told = Fields::new().with("index", 0).with("base_offset", offset);
        let answer = Fields::new().with("name", "t").with("partition_responses", vec![told]);
        let request = one("topic_data", topic).with("acks", -1_i16);
        talk.exchange(PRODUCER, (ApiKey::PRODUCE, 7), &request, &one("responses", answer));
        let mut header: BatchHeader = BatchIter::new(&batch).next().unwrap().unwrap().header;
        header.base_offset = Offset(offset);
        rewrite_header(&mut batch, &header);
        written += 2 * batch.len();
        let wanted = Fields::new().with("partition", 0).with("fetch_offset", offset);
        let topic = Fields::new().with("topic", "t").with("partitions", vec![wanted]);
        offset += records as i64;
        let partition = Fields::new()
            .with("partition_index", 0)
            .with("high_watermark", offset)
            .with("last_stable_offset", offset)
            .with("records", batch);
        let answer = Fields::new().with("topic", "t").with("partitions", vec![partition]);
        let request = one("topics", topic).with("replica_id", -1).with("session_epoch", -1);
        talk.exchange(CONSUMER, (ApiKey::FETCH, 11), &request, &one("responses", answer));
    }
    talk.tap.finish().unwrap();
    println!("{offset} records in {}", arguments[0]);
}
