//! Makes a capture of idempotent producers and consumers, as large as asked, to measure with.
//!
//! `cargo run --release --example make_capture -- FILE MEGABYTES [RECORD_BYTES RECORDS CODEC PAIRS]`
//!
//! Each pair of a producer and a consumer has a topic of its own. All say their frames at the same
//! time, a segment of each in turn.

#![allow(clippy::print_stderr, reason = "an example talks to its user")]
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

/// What is said at once.
const SEGMENT_BYTES: usize = 60_000;

/// A frame, who says it and which way it goes.
type Said = (Connection, Direction, Vec<u8>);

struct Talk {
    tap: PcapngTap,
    time_ns: u64,
    correlation_id: i32,
}

impl Talk {
    /// The frames of an exchange.
    fn exchange(
        &mut self,
        on: Connection,
        (api_key, version): (ApiKey, i16),
        request: &Fields,
        answer: &Fields,
    ) -> [Said; 2] {
        let body = |way, fields| schema::layout(api_key, way, version).unwrap().encode(fields);
        self.correlation_id += 1;
        let id = self.correlation_id.to_be_bytes();
        // Neither version is flexible: headers 1 and 0.
        let head = [&api_key.0.to_be_bytes()[..], &version.to_be_bytes(), &id, &[0, 1, b'c']];
        let request = [head.concat(), body(Way::Request, request).unwrap()].concat();
        let answer = [id.to_vec(), body(Way::Response, answer).unwrap()].concat();
        [(Direction::Request, request), (Direction::Response, answer)].map(|(way, frame)| {
            let length = (frame.len() as u32).to_be_bytes();
            (on, way, [&length[..], &frame].concat())
        })
    }

    /// All of them at the same time.
    fn say(&mut self, frames: &[Said]) {
        let longest = frames.iter().map(|(_, _, bytes)| bytes.len()).max().unwrap_or_default();
        for from in (0..longest).step_by(SEGMENT_BYTES) {
            for (on, way, bytes) in frames.iter().filter(|(_, _, bytes)| bytes.len() > from) {
                self.time_ns += 1_000;
                let to = bytes.len().min(from + SEGMENT_BYTES);
                self.tap.bytes(*on, *way, self.time_ns, &bytes[from..to]);
            }
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
    let pairs = number(5, 1) as u64;
    let file = File::create(&arguments[0]).unwrap();
    let mut file = Some(file);
    let open = Box::new(move |_| Ok(Box::new(file.take().unwrap()) as Box<_>));
    let tap = PcapngTap::new(open, u64::MAX).unwrap();
    for connection in 0..2 * pairs {
        let port = 40_000 + connection as u16;
        let (client, broker) = (([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 9092).into());
        tap.opened(Connection(connection), client, broker, 1_700_000_000_000_000_000);
    }
    let mut talk = Talk { tap, time_ns: 1_700_000_000_000_000_000, correlation_id: 0 };
    let mut scratch = Scratch::new();
    let (mut written, mut offset) = (0, 0);
    while written < megabytes * 1_000_000 {
        let values: Vec<Vec<u8>> = (0..records)
            .map(|at| format!("{:020}", offset + at as i64).into_bytes().repeat(record_bytes / 20))
            .collect();
        let mut rounds: [Vec<Said>; 4] = Default::default();
        for pair in 0..pairs {
            let name = if pair == 0 { "t".to_owned() } else { format!("t{pair}") };
            let mut batch = Vec::new();
            let builder = BatchBuilder {
                attributes: Attributes::default().with_compression(compression),
                producer_id: ProducerId(7 + pair as i64),
                producer_epoch: ProducerEpoch(0),
                base_sequence: Sequence((offset & 0x7fff_ffff) as i32),
                ..BatchBuilder::default()
            };
            let new = values.iter().map(|value| NewRecord::of(value));
            builder.encode(new, &mut scratch, &mut batch);
            let partition = Fields::new().with("index", 0).with("records", batch.clone());
            let topic = Fields::new().with("name", &*name).with("partition_data", vec![partition]);
            let told = Fields::new().with("index", 0).with("base_offset", offset);
            let answer = Fields::new().with("name", &*name).with("partition_responses", vec![told]);
            let request = one("topic_data", topic).with("acks", -1_i16);
            let (on, api) = (Connection(2 * pair), (ApiKey::PRODUCE, 7));
            let produce = talk.exchange(on, api, &request, &one("responses", answer));
            let mut header: BatchHeader = BatchIter::new(&batch).next().unwrap().unwrap().header;
            header.base_offset = Offset(offset);
            rewrite_header(&mut batch, &header);
            written += 2 * batch.len();
            let wanted = Fields::new().with("partition", 0).with("fetch_offset", offset);
            let topic = Fields::new().with("topic", &*name).with("partitions", vec![wanted]);
            let end = offset + records as i64;
            let partition = Fields::new()
                .with("partition_index", 0)
                .with("high_watermark", end)
                .with("last_stable_offset", end)
                .with("records", batch);
            let answer = Fields::new().with("topic", &*name).with("partitions", vec![partition]);
            let request = one("topics", topic).with("replica_id", -1).with("session_epoch", -1);
            let (on, api) = (Connection(2 * pair + 1), (ApiKey::FETCH, 11));
            let fetch = talk.exchange(on, api, &request, &one("responses", answer));
            for (round, said) in rounds.iter_mut().zip(produce.into_iter().chain(fetch)) {
                round.push(said);
            }
        }
        offset += records as i64;
        rounds.iter().for_each(|round| talk.say(round));
    }
    talk.tap.finish().unwrap();
    eprintln!("{offset} records of each producer in {}", arguments[0]);
}
