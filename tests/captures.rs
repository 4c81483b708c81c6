//! Captures of real clients, held against what is independently known of them.
//!
//! On by environment: `FENCEPOST_CAPTURES` names a folder of `NAME.pcap` or `NAME.pcapng` files
//! with a `NAME.truth.json` each (connections, counts of requests and responses, one row a
//! message). In a capture that lost packets finding less is allowed, inventing is not.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use capture_file::{CaptureReader, LinkType};
use fencepost::capture::{Assembler, AssemblerOptions, read_captures};
use fencepost::history::wire::{
    ConnectionFacts, ConnectionSummary, Exchange, ExchangeSink, Extent, Outcome, PacketNumber,
    Protocol, Request, RequestFacts,
};
use serde_json::{Value, json};

#[derive(Default)]
struct Seen {
    summaries: Vec<ConnectionSummary>,
    /// By connection and place in it.
    messages: BTreeMap<(u64, u64), Value>,
    requests: BTreeMap<String, u64>,
    responses: BTreeMap<String, u64>,
}

fn row(request: &RequestFacts) -> Value {
    let client_id = request.client_id.as_ref().map(|id| String::from_utf8_lossy(id));
    json!([
        request.connection.0,
        request.api_key.0,
        request.api_version,
        request.correlation_id.0,
        client_id,
        request.span.first_packet.number,
        request.span.last_packet.number,
        null,
        null,
        request.span.bytes,
        null
    ])
}

impl ExchangeSink for Seen {
    type Kept = ();

    fn request(&mut self, request: &Request<'_>) {
        let facts = request.facts;
        assert_eq!(facts.header_error, None);
        if facts.extent != Extent::Torn {
            let name = format!("{}/{}", facts.api_key.0, facts.api_version);
            *self.requests.entry(name).or_default() += 1;
            self.messages.insert((facts.connection.0, facts.index), row(facts));
        }
    }

    fn exchange(&mut self, exchange: Exchange<'_, ()>) {
        let Outcome::Answered(response) = exchange.outcome else { return };
        let facts = exchange.request;
        if response.extent == Extent::Torn {
            return;
        }
        let name = format!("{}/{}", facts.api_key.0, facts.api_version);
        *self.responses.entry(name).or_default() += 1;
        if let Some(row) = self.messages.get_mut(&(facts.connection.0, facts.index)) {
            row[7] = json!(response.span.first_packet.number);
            row[8] = json!(response.span.last_packet.number);
            row[10] = json!(response.span.bytes);
        }
    }

    fn closed(&mut self, summary: &ConnectionSummary) {
        self.summaries.push(*summary);
    }
}

fn connection(summary: &ConnectionSummary) -> Value {
    let protocol = match summary.protocol {
        Protocol::Tls => "tls",
        // The truth calls a connection without a byte what its neighbours are.
        _ => "kafka",
    };
    let [client, broker] = summary.directions;
    json!({
        "id": summary.facts.connection.0,
        "client": summary.facts.client.to_string(),
        "server": summary.facts.broker.to_string(),
        "protocol": protocol,
        "syn": summary.syn,
        "fin": summary.fin,
        "rst": summary.rst,
        "first_frame": summary.facts.first_packet.number,
        "last_frame": summary.last_packet.number,
        "bytes": [client.bytes, broker.bytes],
        "gaps": [client.gaps, broker.gaps],
        "requests": summary.requests,
        "responses": summary.responses,
        "unanswered": summary.unanswered,
        "responses_without_request": summary.responses_without_request,
    })
}

fn differences(capture: &Path, truth: &Value) -> Vec<String> {
    let file = File::open(capture).unwrap();
    let (mut seen, summary) =
        read_captures(vec![file], AssemblerOptions::default(), Seen::default()).unwrap();
    seen.summaries.sort_by_key(|s| s.facts.connection);
    let mut differences = Vec::new();
    let mut compare = |what: &str, found: &Value, expected: &Value| {
        if found != expected {
            differences.push(format!("{what}: found {found}, expected {expected}"));
        }
    };
    compare("packets", &json!(summary.packets.packets), &truth["packets"]);
    let cut = truth["file"]["error"].is_string();
    compare("damage", &json!(!summary.files[0].damages.is_empty()), &json!(cut));
    compare("requests", &json!(seen.requests), &truth["requests"]);
    compare("responses", &json!(seen.responses), &truth["responses"]);
    let expected = truth["connections"].as_array().unwrap();
    compare("connections", &json!(seen.summaries.len()), &json!(expected.len()));
    for (summary, expected) in seen.summaries.iter().zip(expected) {
        for (name, found) in connection(summary).as_object().unwrap() {
            let what = format!("connection {} {name}", summary.facts.connection.0);
            compare(&what, found, &expected[name]);
        }
    }
    let expected = truth["messages"].as_array().unwrap();
    compare("messages", &json!(seen.messages.len()), &json!(expected.len()));
    for (found, expected) in seen.messages.values().zip(expected) {
        compare("message", found, expected);
    }
    differences
}

fn captures() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("FENCEPOST_CAPTURES") else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "pcap" || e == "pcapng"));
    files.sort();
    files
}

#[test]
fn captures_of_real_clients_agree_with_what_is_known_of_them() {
    let files = captures();
    let mut wrong = String::new();
    for file in &files {
        let truth = std::fs::read(file.with_extension("truth.json")).unwrap();
        let differences = differences(file, &serde_json::from_slice(&truth).unwrap());
        if !differences.is_empty() {
            let shown = &differences[..differences.len().min(12)];
            wrong += &format!("{}:\n  {}\n", file.display(), shown.join("\n  "));
        }
    }
    assert!(wrong.is_empty(), "{} files\n{wrong}", files.len());
}

/// A packet: link type, bytes, bytes on the wire, time.
type Kept = (LinkType, Vec<u8>, u32, u64);

fn packets(capture: &Path) -> Vec<Kept> {
    let mut reader = CaptureReader::new(File::open(capture).unwrap()).unwrap();
    let mut packets = Vec::new();
    while let Some(p) = reader.next_packet().unwrap() {
        packets.push((p.link_type, p.data.to_vec(), p.wire_bytes, p.time_ns));
    }
    packets
}

/// Every whole exchange as text that does not depend on packet numbers.
#[derive(Default)]
struct Exchanges {
    ends: BTreeMap<u64, String>,
    /// Requests alone, and requests with their responses.
    messages: Vec<String>,
}

impl ExchangeSink for Exchanges {
    type Kept = Vec<u8>;

    fn connection(&mut self, facts: &ConnectionFacts) {
        self.ends.insert(facts.connection.0, format!("{}-{}", facts.client, facts.broker));
    }

    fn request(&mut self, request: &Request<'_>) -> Vec<u8> {
        request.frame.to_vec()
    }

    fn exchange(&mut self, exchange: Exchange<'_, Vec<u8>>) {
        let facts = &exchange.request;
        if facts.extent != Extent::Whole {
            return;
        }
        let request = format!(
            "{} {:?} {} {:?}",
            self.ends[&facts.connection.0], facts.api_key, facts.correlation_id, exchange.kept
        );
        if let Outcome::Answered(response) = exchange.outcome
            && response.extent == Extent::Whole
        {
            self.messages.push(format!("{request} {:?}", response.frame));
        }
        self.messages.push(request);
    }
}

fn exchanges<'a>(packets: impl IntoIterator<Item = &'a Kept>) -> Exchanges {
    let mut assembler = Assembler::new(Exchanges::default(), AssemblerOptions::default());
    for (number, (link_type, data, wire, time)) in packets.into_iter().enumerate() {
        let number = PacketNumber { file: 0, number: number as u64 + 1 };
        assembler.packet(*link_type, data, *wire, number, *time);
    }
    assembler.finish().0
}

/// Numbers that look random, from a fixed beginning.
fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

#[test]
fn exchanges_of_a_damaged_capture_are_exchanges_of_the_whole_one() {
    // Found and all, by kind of damage.
    let mut totals: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for file in captures() {
        let packets = packets(&file);
        let whole = exchanges(&packets).messages;
        let mut check = |what: &'static str, some: &[&Kept], must_find: bool| {
            let part = exchanges(some.iter().copied()).messages;
            for message in &part {
                assert!(whole.contains(message), "{file:?} {what}: {message}");
            }
            if must_find {
                assert_eq!(part.len(), whole.len(), "{file:?} {what}");
            }
            let total = totals.entry(what).or_default();
            *total = (total.0 + part.len(), total.1 + whole.len());
        };
        for seed in 0..20 {
            let mut random = numbers(seed);
            let kept: Vec<&Kept> = packets.iter().filter(|_| random(50) > 0).collect();
            check("2 % lost", &kept, false);
            let kept: Vec<&Kept> = packets.iter().filter(|_| random(5) > 0).collect();
            check("20 % lost", &kept, false);
            let start = random(packets.len() as u64) as usize;
            check("starts in the middle", &packets.iter().skip(start).collect::<Vec<_>>(), false);
            check("ends early", &packets.iter().take(start).collect::<Vec<_>>(), false);
            let mut places: Vec<(u64, &Kept)> =
                packets.iter().enumerate().map(|(i, p)| (i as u64 + random(7), p)).collect();
            places.sort_by_key(|(place, _)| *place);
            let moved: Vec<&Kept> = places.into_iter().map(|(_, p)| p).collect();
            check("out of order", &moved, true);
            let twice: Vec<&Kept> =
                packets.iter().flat_map(|p| vec![p; 1 + random(2) as usize]).collect();
            check("twice", &twice, true);
        }
        for snapshot in [96, 200, 400] {
            let cut: Vec<Kept> = packets
                .iter()
                .map(|(l, data, wire, t)| {
                    (*l, data[..data.len().min(snapshot)].to_vec(), *wire, *t)
                })
                .collect();
            check("cut", &cut.iter().collect::<Vec<_>>(), false);
        }
    }
    // Most of what is not lost is found: a message and its answer need three packets or more.
    for (what, least) in [("2 % lost", 90), ("20 % lost", 45), ("cut", 30)] {
        if let Some(&(found, all)) = totals.get(what) {
            assert!(found * 100 >= all * least, "{totals:?}");
        }
    }
}
