//! Totals as the tables a person reads.
//!
//! Never: counts.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::text::grouped;
use super::line::Times;
use super::totals::{ApiRow, Sums, Totals, error_name, protocol_name};
use crate::history::wire::ConnectionSummary;

/// Connections that are shown.
const CONNECTIONS_SHOWN: usize = 40;

/// All tables, with an empty line between them.
#[must_use]
pub fn render(totals: &Totals) -> String {
    let mut out = String::new();
    sums(&mut out, &totals.sums);
    table(&mut out, API_COLUMNS, totals.apis.iter().map(|(key, row)| api(*key, row)));
    let clients = totals.clients.iter().map(|(client, row)| {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".into());
        vec![
            name(&client.client_id),
            name(&client.software_name),
            name(&client.software_version),
            grouped(row.connections),
            grouped(row.requests),
        ]
    });
    table(&mut out, CLIENT_COLUMNS, clients);
    let mut connections: Vec<&ConnectionSummary> = totals.connections.iter().collect();
    connections.sort_by_key(|summary| summary.facts.connection);
    let shown = connections.iter().take(CONNECTIONS_SHOWN).map(|summary| connection(summary));
    table(&mut out, CONNECTION_COLUMNS, shown);
    let more = totals.sums.connections.saturating_sub(CONNECTIONS_SHOWN as u64);
    if more > 0 {
        line(&mut out, format_args!("and {} connections more", grouped(more)));
    }
    out
}

/// A column's name, and whether it holds numbers, which stand to the right.
type Column = (&'static str, bool);

const API_COLUMNS: &[Column] = &[
    ("api", false),
    ("version", true),
    ("requests", true),
    ("responses", true),
    ("unanswered", true),
    ("request bytes", true),
    ("response bytes", true),
    ("p50 µs", true),
    ("p99 µs", true),
    ("max µs", true),
    ("errors", false),
];

const CLIENT_COLUMNS: &[Column] = &[
    ("client_id", false),
    ("software", false),
    ("version", false),
    ("connections", true),
    ("requests", true),
];

const CONNECTION_COLUMNS: &[Column] = &[
    ("connection", false),
    ("protocol", false),
    ("requests", true),
    ("responses", true),
    ("client bytes", true),
    ("broker bytes", true),
    ("gaps", true),
    ("missing", true),
    ("end", false),
];

fn sums(out: &mut String, sums: &Sums) {
    if let Some(first) = sums.first_time_ns {
        let mut times = Times::default();
        let mut text = String::new();
        times.write(&mut text, first);
        text.push_str(" to ");
        times.write(&mut text, sums.last_time_ns);
        let seconds = sums.last_time_ns.saturating_sub(first) as f64 / 1e9;
        line(out, format_args!("{text} ({seconds:.3} s)"));
    }
    let counts = [
        ("requests", sums.requests),
        ("responses", sums.responses),
        ("unanswered", sums.unanswered),
        ("responses without request", sums.responses_without_request),
        ("torn requests", sums.torn_requests),
        ("torn responses", sums.torn_responses),
        ("SASL tokens without header", sums.sasl_tokens),
    ];
    let (always, rare) = counts.split_at(2);
    let mut text: Vec<String> = always.iter().map(|(name, n)| counted(name, *n)).collect();
    text.extend(rare.iter().filter(|(_, n)| *n > 0).map(|(name, n)| counted(name, *n)));
    line(out, format_args!("{}", text.join(", ")));
    let kinds = [
        ("Kafka", sums.connections_kafka),
        ("TLS (cannot be read)", sums.connections_tls),
        ("other", sums.connections_other),
        ("unknown", sums.connections_unknown),
    ];
    let kinds = kinds.iter().filter(|(_, n)| *n > 0).map(|(name, n)| counted(name, *n));
    let kinds: Vec<String> = kinds.collect();
    line(out, format_args!("connections {}: {}", grouped(sums.connections), kinds.join(", ")));
    line(
        out,
        format_args!(
            "bytes {} from clients, {} from brokers; {} gaps with {} bytes; \
             {} segments sent again, {} with other bytes",
            grouped(sums.bytes_from_clients),
            grouped(sums.bytes_from_brokers),
            grouped(sums.gaps),
            grouped(sums.gap_bytes),
            grouped(sums.retransmitted_segments),
            grouped(sums.differing_overlaps),
        ),
    );
}

fn counted(name: &str, count: u64) -> String {
    format!("{name} {}", grouped(count))
}

fn api((api_key, version): (kafka_wire::ApiKey, i16), row: &ApiRow) -> Vec<String> {
    let mut cells = vec![api_key.to_string(), version.to_string()];
    let [request_bytes, response_bytes] = row.bytes;
    let numbers = [row.requests, row.responses, row.unanswered, request_bytes, response_bytes];
    cells.extend(numbers.map(grouped));
    match row.latencies_us() {
        Some(latencies) => cells.extend(latencies.map(grouped)),
        None => cells.extend(["-", "-", "-"].map(str::to_owned)),
    }
    cells.push(errors(&row.errors));
    cells
}

/// The most frequent first.
fn errors(errors: &BTreeMap<i16, u64>) -> String {
    let mut errors: Vec<(i16, u64)> = errors.iter().map(|(code, count)| (*code, *count)).collect();
    errors.sort_by_key(|(code, count)| (u64::MAX - count, *code));
    let errors: Vec<String> =
        errors.iter().map(|(code, count)| counted(&error_name(*code), *count)).collect();
    errors.join(", ")
}

fn connection(summary: &ConnectionSummary) -> Vec<String> {
    let [client, broker] = summary.directions;
    let end = match (summary.rst, summary.fin) {
        (true, _) => "reset",
        (false, true) => "closed",
        (false, false) => "open",
    };
    vec![
        format!("{}-{}", summary.facts.client, summary.facts.broker),
        protocol_name(summary.protocol).to_owned(),
        grouped(summary.requests),
        grouped(summary.responses),
        grouped(client.bytes),
        grouped(broker.bytes),
        grouped(client.gaps + broker.gaps),
        grouped(client.gap_bytes + broker.gap_bytes),
        end.to_owned(),
    ]
}

/// A table with its columns as wide as they need be; none where there is no row.
fn table(out: &mut String, columns: &[Column], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> =
        rows.map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    if rows.is_empty() {
        return;
    }
    let head: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let all = || std::iter::once(&head).chain(&rows);
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    out.push('\n');
    for row in all() {
        let mut text = String::new();
        for ((cell, (_, is_number)), &width) in row.iter().zip(columns).zip(&widths) {
            match is_number {
                true => write!(text, "{cell:>width$}  "),
                false => write!(text, "{cell:<width$}  "),
            }
            .expect("a String takes every write");
        }
        line(out, format_args!("{}", text.trim_end()));
    }
}

/// Names come from strangers: what could move the cursor is replaced.
fn plain(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes every write");
}
