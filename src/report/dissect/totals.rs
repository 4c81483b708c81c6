//! Counts over all exchanges: by API and version, by client, by connection.
//!
//! Never: renders; keeps an exchange; grows with what is counted beyond stated numbers of rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use hdrhistogram::Histogram;
use kafka_wire::ApiKey;
use kafka_wire::schema::{self, Flow, Lookups};
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde_json::{Value, json};

use super::codes::Codes;
use super::line::Times;
use crate::history::tap::{Connection, Direction};
use crate::history::wire::{
    ConnectionSummary, Exchange, ExchangeSink, Extent, Outcome, Protocol, Request, Response, Span,
    Unanswered,
};

/// Rows of APIs and versions, of clients, of connections; more are counted in the totals only.
const ROWS_MAX: usize = 4_096;
/// Latencies beyond an hour count as one.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Bytes of a client's name that are kept.
const NAME_BYTES_MAX: usize = 256;

/// What is counted.
#[derive(Debug, Clone, Default)]
pub struct TotalsOptions {
    /// Only these APIs, where there are any.
    pub apis: Vec<ApiKey>,
}

/// The sink.
#[derive(Debug)]
pub struct Totals {
    options: TotalsOptions,
    codes: Codes,
    software: Lookups,
    pub(super) apis: BTreeMap<(ApiKey, i16), ApiRow>,
    pub(super) clients: BTreeMap<Client, ClientRow>,
    pub(super) connections: Vec<ConnectionSummary>,
    open: FxHashMap<Connection, OpenConnection>,
    pub(super) sums: Sums,
}

/// One version of one API.
#[derive(Debug)]
pub struct ApiRow {
    /// Requests that are here in whole.
    pub requests: u64,
    /// Responses that are here in whole.
    pub responses: u64,
    /// Requests that have none and should have one.
    pub unanswered: u64,
    /// Bytes of requests and of responses.
    pub bytes: [u64; 2],
    /// Error codes other than 0 and how often each was said; a response may say several.
    pub errors: BTreeMap<i16, u64>,
    /// From the request's last packet to the response's, in microseconds.
    pub latency_us: Histogram<u64>,
}

/// What a client calls itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Client {
    /// In the header of its requests.
    pub client_id: Option<String>,
    /// In ApiVersions, since v3 (KIP-511).
    pub software_name: Option<String>,
    /// In ApiVersions, since v3.
    pub software_version: Option<String>,
}

/// One client.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientRow {
    /// Its connections.
    pub connections: u64,
    /// Its requests.
    pub requests: u64,
}

/// Sums over everything.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Sums {
    /// Requests that are here in whole.
    pub requests: u64,
    /// Responses that are here in whole, and their requests.
    pub responses: u64,
    /// Requests that have none and should have one.
    pub unanswered: u64,
    /// Responses whose request is not here.
    pub responses_without_request: u64,
    /// Requests of which bytes are missing.
    pub torn_requests: u64,
    /// Responses of which bytes are missing.
    pub torn_responses: u64,
    /// Tokens of SASL without a header.
    pub sasl_tokens: u64,
    /// Connections of any kind.
    pub connections: u64,
    /// Those that speak Kafka.
    pub connections_kafka: u64,
    /// Those that speak TLS: nothing in them can be read.
    pub connections_tls: u64,
    /// Those that speak something else.
    pub connections_other: u64,
    /// Those of which too little is here to say.
    pub connections_unknown: u64,
    /// Bytes clients said.
    pub bytes_from_clients: u64,
    /// Bytes brokers said.
    pub bytes_from_brokers: u64,
    /// Places where bytes are missing.
    pub gaps: u64,
    /// How many are.
    pub gap_bytes: u64,
    /// Segments that held nothing new.
    pub retransmitted_segments: u64,
    /// Times the same bytes came again and were others.
    pub differing_overlaps: u64,
    /// When the first connection was first heard of.
    #[serde(skip)]
    pub first_time_ns: Option<u64>,
    /// When the last was last heard of.
    #[serde(skip)]
    pub last_time_ns: u64,
}

/// A connection while it is open.
#[derive(Debug, Default)]
struct OpenConnection {
    client_id: Option<Arc<[u8]>>,
    software: [Option<String>; 2],
    client: Option<Client>,
}

impl Totals {
    /// Counts from zero.
    #[must_use]
    pub fn new(options: TotalsOptions) -> Self {
        let names = ["client_software_name", "client_software_version"];
        let software = Lookups::new(ApiKey::API_VERSIONS, schema::Direction::Request, &names);
        Self {
            options,
            codes: Codes::default(),
            software: software.expect("ApiVersions has had both fields since v3"),
            apis: BTreeMap::new(),
            clients: BTreeMap::new(),
            connections: Vec::new(),
            open: FxHashMap::default(),
            sums: Sums::default(),
        }
    }

    fn is_wanted(&self, api_key: ApiKey) -> bool {
        self.options.apis.is_empty() || self.options.apis.contains(&api_key)
    }

    fn row(&mut self, api_key: ApiKey, version: i16) -> Option<&mut ApiRow> {
        let key = (api_key, version);
        if self.apis.len() >= ROWS_MAX && !self.apis.contains_key(&key) {
            return None;
        }
        Some(self.apis.entry(key).or_insert_with(ApiRow::new))
    }

    /// What a client says of its software.
    fn learn_software(&mut self, request: &Request<'_>) {
        let Some(lookup) = self.software.at(request.facts.api_version) else { return };
        let mut software = [None, None];
        lookup.read(request.body(), |hit| {
            software[hit.slot] = hit.value.as_bytes().map(name);
            Flow::Continue(())
        });
        let open = self.open.entry(request.facts.connection).or_default();
        if software.iter().any(Option::is_some) && open.software != software {
            open.software = software;
            open.client = None;
        }
    }

    fn count_client(&mut self, request: &Request<'_>) {
        let open = self.open.entry(request.facts.connection).or_default();
        let client_id = &request.facts.client_id;
        let same = match (&open.client_id, client_id) {
            (Some(known), Some(this)) => Arc::ptr_eq(known, this),
            (known, this) => known.is_none() && this.is_none(),
        };
        let mut is_new = false;
        if !same || open.client.is_none() {
            open.client_id.clone_from(client_id);
            let [software_name, software_version] = open.software.clone();
            let client_id = client_id.as_deref().map(name);
            open.client = Some(Client { client_id, software_name, software_version });
            is_new = true;
        }
        let Some(client) = &open.client else { return };
        if let Some(row) = self.clients.get_mut(client) {
            row.requests += 1;
            row.connections += u64::from(is_new);
        } else if self.clients.len() < ROWS_MAX {
            self.clients.insert(client.clone(), ClientRow { connections: 1, requests: 1 });
        }
    }

    /// Everything, for machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let apis: Vec<Value> = self.apis.iter().map(|(key, row)| row.to_json(*key)).collect();
        let clients = self.clients.iter().map(|(client, row)| {
            let mut value = json!(client);
            value["connections"] = row.connections.into();
            value["requests"] = row.requests.into();
            value
        });
        let connections = self.connections.iter().map(connection_json);
        let mut times = Times::default();
        let mut time = |time_ns| {
            let mut text = String::new();
            times.write(&mut text, time_ns);
            text
        };
        json!({
            "first_time": self.sums.first_time_ns.map(&mut time),
            "last_time": self.sums.first_time_ns.map(|_| time(self.sums.last_time_ns)),
            "totals": self.sums,
            "apis": apis,
            "clients": clients.collect::<Vec<_>>(),
            "connections": connections.collect::<Vec<_>>(),
        })
    }
}

/// A client's name as text, its beginning.
fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(NAME_BYTES_MAX)]).into_owned()
}

impl ApiRow {
    fn new() -> Self {
        Self {
            requests: 0,
            responses: 0,
            unanswered: 0,
            bytes: [0; 2],
            errors: BTreeMap::new(),
            latency_us: Histogram::new(3).expect("three digits are allowed"),
        }
    }

    /// The latency at 50 % and 99 %, and the longest; absent where nothing was answered.
    #[must_use]
    pub fn latencies_us(&self) -> Option<[u64; 3]> {
        let at = |quantile| self.latency_us.value_at_quantile(quantile);
        let any = !self.latency_us.is_empty();
        any.then(|| [at(0.5), at(0.99), self.latency_us.max()])
    }

    fn to_json(&self, (api_key, version): (ApiKey, i16)) -> Value {
        let errors: serde_json::Map<String, Value> =
            self.errors.iter().map(|(code, count)| (error_name(*code), json!(count))).collect();
        let latency_us =
            self.latencies_us().map(|[p50, p99, max]| json!({"p50": p50, "p99": p99, "max": max}));
        json!({
            "api": api_key.to_string(),
            "api_key": api_key.0,
            "api_version": version,
            "requests": self.requests,
            "responses": self.responses,
            "unanswered": self.unanswered,
            "request_bytes": self.bytes[0],
            "response_bytes": self.bytes[1],
            "errors": errors,
            "latency_us": latency_us,
        })
    }
}

/// The protocol's name of a code, or its number.
#[must_use]
pub fn error_name(code: i16) -> String {
    let code = kafka_wire::ErrorCode(code);
    code.name().map_or_else(|| code.0.to_string(), str::to_owned)
}

/// The name of what a connection speaks.
#[must_use]
pub fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Kafka => "kafka",
        Protocol::Tls => "tls",
        Protocol::Other => "other",
        Protocol::Unknown => "unknown",
    }
}

fn connection_json(summary: &ConnectionSummary) -> Value {
    let [client, broker] = summary.directions;
    json!({
        "connection": format!("{}-{}", summary.facts.client, summary.facts.broker),
        "protocol": protocol_name(summary.protocol),
        "syn": summary.syn,
        "fin": summary.fin,
        "rst": summary.rst,
        "first_frame": summary.facts.first_packet.number,
        "last_frame": summary.last_packet.number,
        "requests": summary.requests,
        "responses": summary.responses,
        "unanswered": summary.unanswered,
        "responses_without_request": summary.responses_without_request,
        "torn": summary.torn,
        "sasl_tokens": summary.sasl_tokens,
        "bytes": [client.bytes, broker.bytes],
        "gaps": [client.gaps, broker.gaps],
        "gap_bytes": [client.gap_bytes, broker.gap_bytes],
        "retransmitted_segments": [client.retransmitted_segments, broker.retransmitted_segments],
        "differing_overlaps": [client.differing_overlaps, broker.differing_overlaps],
    })
}

impl ExchangeSink for Totals {
    type Kept = ();

    fn frame_bytes_wanted(&mut self, direction: Direction, api_key: ApiKey, _: i16) -> usize {
        let wanted = match direction {
            Direction::Request => api_key == ApiKey::API_VERSIONS,
            Direction::Response => self.is_wanted(api_key),
        };
        if wanted { usize::MAX } else { 0 }
    }

    fn request(&mut self, request: &Request<'_>) {
        let facts = request.facts;
        if facts.extent == Extent::Torn {
            self.sums.torn_requests += 1;
            return;
        }
        if facts.api_key == ApiKey::API_VERSIONS {
            self.learn_software(request);
        }
        if !self.is_wanted(facts.api_key) {
            return;
        }
        self.count_client(request);
        self.sums.requests += 1;
        if let Some(row) = self.row(facts.api_key, facts.api_version) {
            row.requests += 1;
            row.bytes[0] += facts.span.bytes as u64;
        }
    }

    fn exchange(&mut self, exchange: Exchange<'_, ()>) {
        let latency_ns = exchange.latency_ns();
        let Exchange { request, outcome, .. } = exchange;
        let (key, version) = (request.api_key, request.api_version);
        let whole = |extent| extent != Extent::Torn;
        if !self.is_wanted(key) {
            return;
        }
        match outcome {
            Outcome::NoneDue => {}
            Outcome::Answered(response) if whole(response.extent) && whole(request.extent) => {
                self.sums.responses += 1;
                let mut codes = std::mem::take(&mut self.codes);
                if let Some(row) = self.row(key, version) {
                    row.responses += 1;
                    row.bytes[1] += response.span.bytes as u64;
                    let latency_us = latency_ns.unwrap_or(0) / 1_000;
                    let recorded = row.latency_us.record(latency_us.min(LATENCY_US_MAX));
                    recorded.expect("the histogram grows with its values");
                    codes.each(key, version, response.body(), |code| {
                        *row.errors.entry(code).or_default() += 1;
                    });
                }
                self.codes = codes;
            }
            Outcome::Answered(response) => {
                self.sums.torn_responses += u64::from(!whole(response.extent));
            }
            // Given up because so many waited: it may well be here.
            Outcome::Unanswered(Unanswered::TooMany) => {}
            Outcome::Unanswered(_) if whole(request.extent) => {
                self.sums.unanswered += 1;
                if let Some(row) = self.row(key, version) {
                    row.unanswered += 1;
                }
            }
            Outcome::Unanswered(_) => {}
        }
    }

    fn response_without_request(&mut self, _: Connection, response: &Response<'_>) {
        let torn = response.extent == Extent::Torn;
        self.sums.torn_responses += u64::from(torn);
        self.sums.responses_without_request += u64::from(!torn);
    }

    fn sasl_token(&mut self, _: Connection, _: Direction, _: &Span, _: &[u8]) {
        self.sums.sasl_tokens += 1;
    }

    fn closed(&mut self, summary: &ConnectionSummary) {
        self.open.remove(&summary.facts.connection);
        let sums = &mut self.sums;
        sums.connections += 1;
        *match summary.protocol {
            Protocol::Kafka => &mut sums.connections_kafka,
            Protocol::Tls => &mut sums.connections_tls,
            Protocol::Other => &mut sums.connections_other,
            Protocol::Unknown => &mut sums.connections_unknown,
        } += 1;
        let [client, broker] = summary.directions;
        sums.bytes_from_clients += client.bytes;
        sums.bytes_from_brokers += broker.bytes;
        for direction in summary.directions {
            sums.gaps += direction.gaps;
            sums.gap_bytes += direction.gap_bytes;
            sums.retransmitted_segments += direction.retransmitted_segments;
            sums.differing_overlaps += direction.differing_overlaps;
        }
        let first = summary.facts.first_time_ns;
        sums.first_time_ns = Some(sums.first_time_ns.map_or(first, |known| known.min(first)));
        sums.last_time_ns = sums.last_time_ns.max(summary.last_time_ns);
        if self.connections.len() < ROWS_MAX {
            self.connections.push(*summary);
        }
    }
}
