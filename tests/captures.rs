//! Captures of real clients, held against what is independently known of them.
//!
//! On by environment: `FENCEPOST_CAPTURES` names a folder of `NAME.pcap` or `NAME.pcapng` files
//! with a `NAME.truth.json` each (connections, counts of requests and responses, one row a
//! message). In a capture that lost packets finding less is allowed, inventing is not.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use fencepost::capture::{AssemblerOptions, read_captures};
use fencepost::history::wire::{
    ConnectionSummary, Exchange, ExchangeSink, Extent, Outcome, Protocol, Request, RequestFacts,
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

#[test]
fn captures_of_real_clients_agree_with_what_is_known_of_them() {
    let Some(folder) = std::env::var_os("FENCEPOST_CAPTURES") else { return };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "pcap" || e == "pcapng"));
    files.sort();
    let mut wrong = String::new();
    for file in &files {
        let truth = std::fs::read(file.with_extension("truth.json")).unwrap();
        let differences = differences(file, &serde_json::from_slice(&truth).unwrap());
        if !differences.is_empty() {
            let shown = &differences[..differences.len().min(12)];
            wrong += &format!("{}:\n  {}\n", file.display(), shown.join("\n  "));
        }
    }
    assert!(!files.is_empty() && wrong.is_empty(), "{} files\n{wrong}", files.len());
}
