//! Writes one JSON object a line for each exchange, in the order of the requests.
//!
//! A request's body is text by the time its response comes; the line is put together then, and
//! held until those before it are written. Where headers are all that is asked for, nothing is
//! kept of a request but its place, and nothing is allocated for a line.
//!
//! Never: reads a capture; holds more text than [`super::order::HELD_BYTES_MAX`] twice over.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;

use kafka_wire::ApiKey;
use kafka_wire::schema::{write_json_bytes, write_json_text};
use rustc_hash::FxHashMap;

use super::bodies::Bodies;
use super::codes::Codes;
use super::line::{Times, write_integer};
use super::names::TopicNames;
use super::order::{HELD_BYTES_MAX, Order};
use super::sessions::{self, Sessions};
use super::window::Window;
use crate::history::tap::{Connection, Direction};
use crate::history::wire::{
    ConnectionFacts, ConnectionSummary, Exchange, ExchangeSink, Extent, Outcome, Protocol, Request,
    RequestFacts, Response, Span, StreamTrouble, StreamTroubleKind, Unanswered,
};

/// Which lines are wanted, and how much of them.
#[derive(Debug, Clone, Default)]
pub struct LineOptions {
    /// Only these APIs, where there are any.
    pub apis: Vec<ApiKey>,
    /// Only exchanges with an error code in the response or with something wrong.
    pub errors_only: bool,
    /// No bodies.
    pub headers: bool,
    /// What there is of messages of which bytes are missing, too.
    pub torn: bool,
    /// Names of the files, where there are several.
    pub files: Vec<String>,
    /// Each line is written as soon as it is ready.
    pub at_once: bool,
    /// Packets of this time or later pass now, while somebody looks on: no line waits longer for an
    /// earlier request than [`LIVE_WAIT_NS`].
    pub live_from_ns: Option<u64>,
}

/// Capture time for which lines wait for an earlier request while packets pass.
const LIVE_WAIT_NS: u64 = 1_000_000_000;

/// What is not in the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineCounts {
    /// Requests that are here in whole or, where asked for, in part.
    pub requests: u64,
    /// Lines written.
    pub lines: u64,
    /// Requests and responses of which bytes are missing.
    pub torn: [u64; 2],
    /// Responses whose request is not here.
    pub responses_without_request: u64,
    /// Tokens of SASL without a header.
    pub sasl_tokens: u64,
    /// Connections that speak TLS.
    pub tls: u64,
    /// Connections that speak something else.
    pub other: u64,
    /// Connections of which one side alone was captured, and what it says is no request.
    pub one_sided: u64,
    /// Frames whose lengths cannot be.
    pub bad_lengths: u64,
    /// Places where bytes are missing, and how many bytes.
    pub gaps: [u64; 2],
    /// Times that lines were written out of order, because too many were held.
    pub out_of_order: u64,
}

/// The sink.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    options: LineOptions,
    files: Vec<String>,
    connections: FxHashMap<Connection, Talk>,
    sessions: Sessions,
    /// Requests with bodies that wait for their responses, by place.
    waiting: BTreeMap<u64, (RequestFacts, Body)>,
    order: Order,
    bodies: Bodies,
    codes: Codes,
    times: Times,
    window: Window,
    /// Bytes of requests that wait for their responses.
    waiting_bytes: usize,
    /// The time of the last message.
    now_ns: u64,
    counts: LineCounts,
    failed: Option<io::Error>,
    /// Troubles of streams, in words, where somebody listens.
    on_trouble: Option<fn(&StreamTrouble)>,
}

/// A connection.
#[derive(Debug)]
struct Talk {
    ends: String,
    broker: SocketAddr,
    /// Its broker said something.
    is_answered: bool,
}

/// What is kept of a request.
#[derive(Debug)]
pub struct Kept {
    place: u64,
    key: u64,
    is_shown: bool,
    body: Body,
    /// Its body is kept with those that wait.
    is_waiting: bool,
}

/// The body of a request, as text.
#[derive(Debug, Default)]
struct Body {
    key: u64,
    text: String,
    errors: Vec<String>,
    session: Option<Box<sessions::Asked>>,
}

impl<W: Write> Lines<W> {
    /// Writes lines to `out`.
    pub fn new(out: W, options: LineOptions) -> Self {
        let files = options.files.iter().map(|name| json_text(name)).collect();
        Self {
            out,
            options,
            files,
            connections: FxHashMap::default(),
            sessions: Sessions::default(),
            waiting: BTreeMap::new(),
            order: Order::default(),
            bodies: Bodies::default(),
            codes: Codes::default(),
            times: Times::default(),
            window: Window::default(),
            waiting_bytes: 0,
            now_ns: 0,
            counts: LineCounts::default(),
            failed: None,
            on_trouble: None,
        }
    }

    /// Tells somebody of every trouble with a stream.
    #[must_use]
    pub fn telling(mut self, on_trouble: fn(&StreamTrouble)) -> Self {
        self.on_trouble = Some(on_trouble);
        self
    }

    /// Writes what is left and says what was not in the lines.
    ///
    /// # Errors
    /// The first failure to write; a closed pipe is one.
    pub fn finish(mut self) -> io::Result<LineCounts> {
        self.order.give_up(&mut self.window);
        self.write_out(true);
        if self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
        self.failed.map_or(Ok(self.counts), Err)
    }

    fn is_wanted(&self, api_key: ApiKey) -> bool {
        self.options.apis.is_empty() || self.options.apis.contains(&api_key)
    }

    fn write_out(&mut self, all: bool) {
        let Self { window, out, failed, .. } = self;
        let write = |lines: &str| {
            if failed.is_none() && !lines.is_empty() {
                *failed = out.write_all(lines.as_bytes()).err();
            }
        };
        if all { window.all(write) } else { window.first_half(write) }
    }

    /// Where so much is held that it must go on, it does.
    fn bound(&mut self) {
        if self.order.is_full(self.waiting_bytes) || self.is_late() {
            self.order.give_up(&mut self.window);
            self.counts.out_of_order = self.order.given_up();
        }
        if self.options.at_once {
            self.write_out(true);
        } else if self.window.is_full() {
            self.write_out(false);
        }
    }

    /// Whether somebody who looks on has waited for a line long enough.
    fn is_late(&self) -> bool {
        let live = self.options.live_from_ns.is_some_and(|from_ns| self.now_ns >= from_ns);
        // Where packets may pass now, times are the keys.
        live && self.order.oldest().is_some_and(|key| self.now_ns > key + LIVE_WAIT_NS)
    }

    /// Appends a line without its number, or nothing where it is not wanted.
    fn line(&mut self, out: &mut String, exchange: &mut Exchange<'_, Body>) {
        let start = out.len();
        let latency_ns = exchange.latency_ns();
        let session = exchange.kept.session.take().and_then(|asked| self.session(exchange, *asked));
        let exchange = &*exchange;
        let Exchange { request, kept, outcome } = exchange;
        self.head(out, request);
        self.frames(out, request, outcome);
        let latency_ns = latency_ns.filter(|_| self.shown(outcome).is_some());
        out.push_str(",\"latency_us\":");
        match latency_ns {
            // A quotient by a thousand fits.
            Some(latency_ns) => write_integer(out, (latency_ns / 1_000) as i64),
            None => out.push_str("null"),
        }
        out.push_str(",\"request\":");
        match (session, kept.text.strip_suffix('}')) {
            (Some(partitions), Some(fields)) => {
                let comma = if fields.len() > 1 { "," } else { "" };
                write!(out, "{fields}{comma}\"session_topics\":{partitions}}}")
                    .expect("a String takes every write");
            }
            _ => out.push_str(if kept.text.is_empty() { "{}" } else { &kept.text }),
        }
        out.push_str(",\"response\":");
        let wrong = self.response(out, exchange);
        if self.options.errors_only && !wrong {
            return out.truncate(start);
        }
        out.push_str("}\n");
        self.counts.lines += 1;
    }

    /// What a Fetch asks for that goes on with a session.
    fn session(&mut self, exchange: &Exchange<'_, Body>, asked: sessions::Asked) -> Option<String> {
        let Outcome::Answered(response) = &exchange.outcome else { return None };
        let broker = self.connections.get(&exchange.request.connection)?.broker;
        self.sessions.answered(broker, asked, exchange.request.api_version, response.body())
    }

    /// From the time to the client id.
    fn head(&mut self, out: &mut String, request: &RequestFacts) {
        out.push_str(",\"time\":\"");
        self.times.write(out, request.span.time_ns);
        out.push_str("\",\"connection\":\"");
        out.push_str(self.connections.get(&request.connection).map_or("", |talk| &talk.ends));
        out.push_str("\",\"api\":\"");
        match request.api_key.name() {
            Some(name) => out.push_str(name),
            None => write!(out, "{}", request.api_key).expect("a String takes every write"),
        }
        out.push_str("\",\"api_key\":");
        write_integer(out, request.api_key.0.into());
        out.push_str(",\"api_version\":");
        write_integer(out, request.api_version.into());
        out.push_str(",\"correlation_id\":");
        write_integer(out, request.correlation_id.0.into());
        out.push_str(",\"client_id\":");
        match &request.client_id {
            Some(id) => write_json_bytes(out, id).expect("a String takes every write"),
            None => out.push_str("null"),
        }
    }

    /// The response, where it is one to show.
    fn shown<'e, 'a>(&self, outcome: &'e Outcome<'a>) -> Option<&'e Response<'a>> {
        match outcome {
            Outcome::Answered(response) if response.extent != Extent::Torn || self.options.torn => {
                Some(response)
            }
            _ => None,
        }
    }

    fn frames(&self, out: &mut String, request: &RequestFacts, outcome: &Outcome<'_>) {
        let packets = [
            Some(request.span.last_packet),
            self.shown(outcome).map(|response| response.span.last_packet),
        ];
        out.push_str(",\"frames\":[");
        for (index, packet) in packets.iter().flatten().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            write_integer(out, packet.number as i64);
        }
        out.push(']');
        if self.files.is_empty() {
            return;
        }
        out.push_str(",\"files\":[");
        for (index, packet) in packets.iter().flatten().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            let name = self.files.get(packet.file as usize).map_or("null", String::as_str);
            out.push_str(name);
        }
        out.push(']');
    }

    /// The response and the errors; whether something is wrong or refused.
    fn response(&mut self, out: &mut String, exchange: &Exchange<'_, Body>) -> bool {
        let Exchange { request, kept, outcome } = exchange;
        let mut errors = Vec::new();
        let mut wrong = false;
        match self.shown(outcome) {
            None => out.push_str("null"),
            Some(response) => {
                if self.options.headers {
                    out.push_str("{}");
                    let error = response.header_error.as_ref();
                    errors.extend(error.map(|error| format!("response header: {error}")));
                } else {
                    self.bodies.response(request, response, out, &mut errors);
                }
                if self.options.errors_only {
                    let (key, version) = (request.api_key, request.api_version);
                    self.codes.each(key, version, response.body(), |_| wrong = true);
                }
            }
        }
        match outcome {
            Outcome::Answered(response) if self.shown(outcome).is_none() => {
                let (here, all) = (response.frame.len(), response.span.bytes.saturating_sub(4));
                errors.push(format!(
                    "response: {here} of {all} bytes are here: the rest is missing from the capture"
                ));
            }
            Outcome::Unanswered(Unanswered::Overtaken) => {
                errors.push("response: not here, and a later request was answered".into());
            }
            Outcome::Unanswered(Unanswered::TooMany) => {
                errors.push("response: not waited for, so many requests wait".into());
            }
            Outcome::Unanswered(Unanswered::Closed) => wrong = true,
            _ => {}
        }
        out.push_str(",\"errors\":[");
        let mut comma = "";
        for error in kept.errors.iter().chain(&errors) {
            out.push_str(comma);
            write_json_text(out, error).expect("a String takes every write");
            comma = ",";
        }
        out.push(']');
        wrong || !comma.is_empty()
    }

    /// The body and the errors of a request.
    fn keep(&mut self, request: &Request<'_>, key: u64) -> Body {
        let facts = request.facts;
        let mut body = Body { key, ..Body::default() };
        if self.options.headers {
            let error = facts.header_error.as_ref();
            body.errors.extend(error.map(|error| format!("request header: {error}")));
            return body;
        }
        body.text = self.order.buffer();
        self.bodies.request(request, &mut body.text, &mut body.errors);
        if facts.api_key == ApiKey::FETCH && facts.extent != Extent::Torn {
            body.session = sessions::asked(facts.api_version, request.body()).map(Box::new);
        }
        self.waiting_bytes += body.text.len();
        self.bound();
        if self.waiting_bytes > HELD_BYTES_MAX {
            self.hand_on_unanswered();
        }
        if self.waiting_bytes > HELD_BYTES_MAX {
            self.waiting_bytes -= body.text.len();
            body.errors.push(format!(
                "request: not shown: requests of {HELD_BYTES_MAX} bytes of text wait for responses"
            ));
            body.text = String::new();
        }
        body
    }

    /// Writes what waits on connections whose broker says nothing at all: where only one side was
    /// captured no response will come.
    fn hand_on_unanswered(&mut self) {
        let connections = &self.connections;
        let is_silent = |facts: &RequestFacts| {
            connections.get(&facts.connection).is_some_and(|talk| !talk.is_answered)
        };
        let silent: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, (facts, _))| is_silent(facts))
            .map(|(place, _)| *place)
            .collect();
        for place in silent {
            if let Some((request, kept)) = self.waiting.remove(&place) {
                let outcome = Outcome::Unanswered(Unanswered::TooMany);
                self.write_line(place, Exchange { request, kept, outcome });
            }
        }
        self.bound();
    }

    /// A broker answered: its connection is no longer silent, and topics may be named.
    fn heard(&mut self, request: &RequestFacts, response: &Response<'_>) {
        if let Some(talk) = self.connections.get_mut(&request.connection) {
            talk.is_answered = true;
        }
        if response.extent == Extent::Whole {
            let (api_key, version) = (request.api_key, request.api_version);
            self.window.names().learn(api_key, version, response.body());
        }
    }

    fn write_line(&mut self, place: u64, mut exchange: Exchange<'_, Body>) {
        let key = exchange.kept.key;
        let is_due = self.order.is_due(place);
        let mut out = if is_due { std::mem::take(self.window.text()) } else { self.order.buffer() };
        self.line(&mut out, &mut exchange);
        let text = std::mem::take(&mut exchange.kept.text);
        self.waiting_bytes -= text.len();
        self.order.recycle(text);
        if is_due {
            *self.window.text() = out;
            self.window.push(key);
            self.order.gone(place);
            self.order.drain(&mut self.window);
        } else {
            self.order.hold(place, out);
        }
    }
}

impl<W: Write> ExchangeSink for Lines<W> {
    type Kept = Kept;

    fn connection(&mut self, facts: &ConnectionFacts) {
        let ends = format!("{}-{}", facts.client, facts.broker);
        let talk = Talk { ends, broker: facts.broker, is_answered: false };
        self.connections.insert(facts.connection, talk);
    }

    fn frame_bytes_wanted(&mut self, direction: Direction, api_key: ApiKey, _: i16) -> usize {
        let bodies =
            !self.options.headers || self.options.errors_only && direction == Direction::Response;
        let names = !self.options.headers
            && direction == Direction::Response
            && TopicNames::teaches(api_key);
        if names || bodies && self.is_wanted(api_key) { usize::MAX } else { 0 }
    }

    fn request(&mut self, request: &Request<'_>) -> Kept {
        let span = &request.facts.span;
        // Packets of several files are in the order of their times.
        let by_time = !self.files.is_empty() || self.options.live_from_ns.is_some();
        let key = if by_time { span.time_ns } else { span.last_packet.number };
        self.now_ns = self.now_ns.max(span.time_ns);
        let torn = request.facts.extent == Extent::Torn;
        let counts = !torn || self.options.torn;
        let is_shown = counts && self.is_wanted(request.facts.api_key);
        self.counts.torn[0] += u64::from(torn);
        self.counts.requests += u64::from(counts);
        if !is_shown {
            if counts {
                self.order.skip(key, &mut self.window);
                self.bound();
            }
            return Kept { place: 0, key, is_shown, body: Body::default(), is_waiting: false };
        }
        let place = self.order.begin(key);
        let mut body = self.keep(request, key);
        let is_waiting = !body.text.is_empty();
        if is_waiting {
            self.waiting.insert(place, (request.facts.clone(), std::mem::take(&mut body)));
        }
        Kept { place, key, is_shown, body, is_waiting }
    }

    fn exchange(&mut self, exchange: Exchange<'_, Kept>) {
        let Exchange { request, kept, outcome } = exchange;
        if let Outcome::Answered(response) = &outcome {
            self.counts.torn[1] += u64::from(response.extent == Extent::Torn);
            self.now_ns = self.now_ns.max(response.span.time_ns);
            if !self.options.headers {
                self.heard(&request, response);
            }
        }
        if !kept.is_shown {
            return;
        }
        let Kept { place, key, mut body, is_waiting, .. } = kept;
        if is_waiting {
            // What was written already is told by its line.
            let Some((_, waited)) = self.waiting.remove(&place) else { return };
            body = waited;
        }
        body.key = key;
        self.write_line(place, Exchange { request, kept: body, outcome });
        self.bound();
    }

    fn response_without_request(&mut self, _: Connection, response: &Response<'_>) {
        self.counts.responses_without_request += u64::from(response.extent != Extent::Torn);
    }

    fn sasl_token(&mut self, _: Connection, _: Direction, _: &Span, _: &[u8]) {
        self.counts.sasl_tokens += 1;
    }

    fn trouble(&mut self, trouble: &StreamTrouble) {
        match trouble.kind {
            StreamTroubleKind::Gap { bytes } => {
                self.counts.gaps[0] += 1;
                self.counts.gaps[1] += bytes;
            }
            StreamTroubleKind::BadLength(_) => self.counts.bad_lengths += 1,
            _ => {}
        }
        if let Some(tell) = self.on_trouble {
            tell(trouble);
        }
    }

    fn closed(&mut self, summary: &ConnectionSummary) {
        self.connections.remove(&summary.facts.connection);
        self.counts.tls += u64::from(summary.protocol == Protocol::Tls);
        let said = summary.directions.map(|direction| direction.bytes > 0);
        match (summary.protocol, said) {
            (Protocol::Other | Protocol::Unknown, [true, false] | [false, true]) => {
                self.counts.one_sided += 1;
            }
            (Protocol::Other, _) => self.counts.other += 1,
            _ => {}
        }
    }
}

fn json_text(text: &str) -> String {
    let mut out = String::new();
    write_json_text(&mut out, text).expect("a String takes every write");
    out
}
