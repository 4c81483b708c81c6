//! Takes exchanges as they become whole and hands on what they say.

use std::net::SocketAddr;

use kafka_wire::batch::Scratch;
use kafka_wire::schema::{self, Direction as Way, FieldKind, Flow, Limits, Lookup};
use kafka_wire::{ApiKey, DecodeError, DecodeErrorKind, ErrorCode};
use rustc_hash::FxHashMap;

use super::coordination;
use super::fact::{Deed, Ending, Fact, Moment, Seen};
use super::fetch::{self, FetchAsked, Reading, Sessions};
use super::names::Names;
use super::produce::{self, ProduceAsked};
use crate::history::tap::{Connection, Direction};
use crate::history::wire::{
    ConnectionFacts, ConnectionSummary, Exchange, ExchangeSink, Extent, Outcome, Request,
    RequestFacts, Response, Span, StreamTrouble,
};

/// Different error codes kept of one response.
const ERRORS_MAX: usize = 8;

/// Takes facts in the order in which exchanges become whole.
pub trait FactTaker {
    /// A connection that speaks Kafka; comes before any fact of it.
    fn connection(&mut self, _facts: &ConnectionFacts) {}
    /// An exchange.
    fn fact(&mut self, fact: Fact);
    /// A response whose request is not here.
    fn stray(&mut self, _seen: &Seen) {}
    /// Something is wrong with a stream.
    fn trouble(&mut self, _trouble: &StreamTrouble) {}
    /// Nothing more comes of that connection, whatever it spoke; so many of its bytes were whole
    /// messages.
    fn closed(&mut self, _summary: &ConnectionSummary, _explained_bytes: u64) {}
}

/// What facts are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct FactOptions {
    /// Whether the hash of each single record is.
    pub keep_records: bool,
}

/// Makes facts of exchanges.
pub struct FactSink<T> {
    taker: T,
    options: FactOptions,
    names: Names,
    scratch: Scratch,
    sessions: Sessions,
    brokers: FxHashMap<Connection, SocketAddr>,
    /// Bytes of whole messages.
    explained: FxHashMap<Connection, u64>,
    error_codes: FxHashMap<(ApiKey, i16), Option<Lookup>>,
}

/// What is kept of a request until its response is there.
#[derive(Debug)]
pub struct Kept(Option<Box<KeptBody>>);

#[derive(Debug)]
enum KeptBody {
    Produce(ProduceAsked),
    Fetch(FetchAsked),
    Small(schema::Fields),
}

impl<T: FactTaker> FactSink<T> {
    /// Hands facts to that taker.
    pub fn new(taker: T, options: FactOptions) -> Self {
        Self {
            taker,
            options,
            names: Names::default(),
            scratch: Scratch::new(),
            sessions: Sessions::default(),
            brokers: FxHashMap::default(),
            explained: FxHashMap::default(),
            error_codes: FxHashMap::default(),
        }
    }

    /// The taker, with all it took.
    pub fn finish(self) -> T {
        self.taker
    }

    /// Whether a response decodes; and in which version, which is 0 where the broker does not
    /// know the version of an ApiVersions request (KIP-511).
    fn walk_response(
        &self,
        request: &RequestFacts,
        response: &Response<'_>,
    ) -> (i16, bool, Option<DecodeError>) {
        let RequestFacts { api_key, api_version: version, .. } = *request;
        if let Some(error) = &response.header_error {
            return (version, true, Some(error.clone()));
        }
        let guard = |version| {
            let layout = schema::layout(api_key, Way::Response, version)?;
            Some(layout.guard(response.body(), Limits::NONE))
        };
        let unsupported = || {
            let body = response.body();
            let code = body.first_chunk::<2>().map(|code| i16::from_be_bytes(*code));
            api_key == ApiKey::API_VERSIONS
                && code == Some(ErrorCode::UNSUPPORTED_VERSION.0)
                && matches!(guard(0), Some(Ok(())))
        };
        match guard(version) {
            _ if unsupported() => (0, true, None),
            Some(result) => (version, true, result.err().filter(|error| !is_odd_only(error))),
            None => (version, false, None),
        }
    }

    fn explain(&mut self, connection: Connection, span: &Span, extent: Extent) {
        if extent != Extent::Torn {
            *self.explained.entry(connection).or_default() += span.bytes as u64;
        }
    }

    /// The error codes of a response other than 0.
    fn errors(&mut self, api_key: ApiKey, version: i16, body: &[u8]) -> Vec<i16> {
        let lookup = self.error_codes.entry((api_key, version));
        let lookup = lookup.or_insert_with(|| error_code_lookup(api_key, version));
        let mut errors = Vec::new();
        if let Some(lookup) = lookup {
            lookup.read(body, |hit| {
                let code = hit.value.as_int().unwrap_or(0) as i16;
                if code != 0 && errors.len() < ERRORS_MAX && !errors.contains(&code) {
                    errors.push(code);
                }
                Flow::Continue(())
            });
        }
        errors
    }

    fn answered(
        &mut self,
        request: &RequestFacts,
        kept: Kept,
        response: &Response<'_>,
    ) -> Answered {
        let mut answered = Answered::default();
        let is_whole = response.extent == Extent::Whole;
        let version = if is_whole {
            let (version, walked, malformed) = self.walk_response(request, response);
            (answered.walked, answered.malformed) = (walked, malformed);
            version
        } else {
            request.api_version
        };
        let api_key = request.api_key;
        let body =
            (is_whole && answered.walked && answered.malformed.is_none()).then(|| response.body());
        if let Some(body) = body {
            answered.errors = self.errors(api_key, version, body);
        }
        answered.deed = self.deed(request, version, kept, body);
        answered
    }

    fn deed(
        &mut self,
        request: &RequestFacts,
        version: i16,
        kept: Kept,
        body: Option<&[u8]>,
    ) -> Deed {
        match kept.0.map(|kept| *kept) {
            None => Deed::Other,
            Some(KeptBody::Produce(mut asked)) => {
                if let Some(body) = body {
                    produce::response(version, body, &mut self.names, &mut asked.partitions);
                }
                let ProduceAsked { transactional, acks, partitions } = asked;
                Deed::Produce { transactional, acks, partitions }
            }
            Some(KeptBody::Fetch(mut asked)) => {
                let broker = self.brokers.get(&request.connection);
                let (Some(body), Some(&broker)) = (body, broker) else { return Deed::Other };
                let mut reading = Reading {
                    names: &mut self.names,
                    scratch: &mut self.scratch,
                    sessions: &mut self.sessions,
                    broker,
                    connection: request.connection,
                    keep_records: self.options.keep_records,
                };
                let partitions = fetch::response(version, body, &mut asked, &mut reading);
                let FetchAsked { read_committed, by_consumer, .. } = asked;
                partitions.map_or(Deed::Other, |partitions| Deed::Fetch {
                    read_committed,
                    by_consumer,
                    partitions,
                })
            }
            Some(KeptBody::Small(fields)) => {
                let api_key = request.api_key;
                let answer =
                    body.and_then(|body| coordination::tree(api_key, Way::Response, version, body));
                let asked = (api_key, request.api_version);
                coordination::deed(asked, &fields, answer.as_ref(), &mut self.names)
            }
        }
    }
}

#[derive(Default)]
struct Answered {
    deed: Deed,
    errors: Vec<i16>,
    walked: bool,
    malformed: Option<DecodeError>,
}

/// Readers pass over tags out of order and read nulls everywhere; only bytes that no reader
/// understands, or that are left over, break the message.
fn is_odd_only(error: &DecodeError) -> bool {
    matches!(error.kind, DecodeErrorKind::TagOrder(_) | DecodeErrorKind::TooLargeInMemory { .. })
}

/// A lookup of every error code of a response; absent where there is none.
fn error_code_lookup(api_key: ApiKey, version: i16) -> Option<Lookup> {
    let layout = schema::layout(api_key, Way::Response, version)?;
    let mut paths = Vec::new();
    let mut open: Vec<_> = layout.fields().map(|(id, _)| id).collect();
    while let Some(id) = open.pop() {
        let field = layout.field(id);
        if field.kind() == FieldKind::Int16 && field.name().ends_with("error_code") {
            paths.push(layout.path(id));
        }
        open.extend(layout.children(id).map(|(id, _)| id));
    }
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    if paths.is_empty() { None } else { layout.lookup(&paths).ok() }
}

fn moment(span: &Span) -> Moment {
    Moment { packet: span.last_packet, time_ns: span.time_ns }
}

impl<T: FactTaker> ExchangeSink for FactSink<T> {
    type Kept = Kept;

    fn connection(&mut self, facts: &ConnectionFacts) {
        self.brokers.insert(facts.connection, facts.broker);
        self.taker.connection(facts);
    }

    fn request(&mut self, request: &Request<'_>) -> Kept {
        let facts = request.facts;
        self.explain(facts.connection, &facts.span, facts.extent);
        if facts.extent != Extent::Whole || facts.header_error.is_some() {
            return Kept(None);
        }
        let (version, body) = (facts.api_version, request.body());
        let kept = match facts.api_key {
            ApiKey::PRODUCE => {
                let keep_records = self.options.keep_records;
                let (names, scratch) = (&mut self.names, &mut self.scratch);
                produce::request(version, body, names, scratch, keep_records).map(KeptBody::Produce)
            }
            ApiKey::FETCH => fetch::request(version, body, &mut self.names).map(KeptBody::Fetch),
            api_key if coordination::is_read(api_key) => {
                coordination::tree(api_key, Way::Request, version, body).map(KeptBody::Small)
            }
            _ => None,
        };
        Kept(kept.map(Box::new))
    }

    fn exchange(&mut self, exchange: Exchange<'_, Kept>) {
        let Exchange { request, kept, outcome } = exchange;
        let (ending, response, answered) = match &outcome {
            Outcome::Answered(response) => {
                self.explain(request.connection, &response.span, response.extent);
                let answered = self.answered(&request, kept, response);
                (Ending::Answered, Some(moment(&response.span)), answered)
            }
            Outcome::NoneDue | Outcome::Unanswered(_) => {
                let ending = match outcome {
                    Outcome::Unanswered(why) => Ending::Unanswered(why),
                    _ => Ending::NoneDue,
                };
                let deed = self.deed(&request, request.api_version, kept, None);
                (ending, None, Answered { deed, ..Answered::default() })
            }
        };
        self.taker.fact(Fact {
            seen: Seen {
                connection: request.connection,
                correlation_id: request.correlation_id.0,
                request: moment(&request.span),
                response,
            },
            api_key: request.api_key,
            api_version: request.api_version,
            client_id: request.client_id,
            ending,
            errors: answered.errors,
            response_walked: answered.walked,
            malformed: answered.malformed,
            deed: answered.deed,
        });
    }

    fn response_without_request(&mut self, connection: Connection, response: &Response<'_>) {
        if response.extent == Extent::Torn {
            return;
        }
        self.explain(connection, &response.span, response.extent);
        let at = moment(&response.span);
        let correlation_id = response.correlation_id.0;
        self.taker.stray(&Seen { connection, correlation_id, request: at, response: Some(at) });
    }

    fn sasl_token(&mut self, connection: Connection, _: Direction, span: &Span, _: &[u8]) {
        self.explain(connection, span, Extent::Whole);
    }

    fn trouble(&mut self, trouble: &StreamTrouble) {
        self.taker.trouble(trouble);
    }

    fn closed(&mut self, summary: &ConnectionSummary) {
        self.brokers.remove(&summary.facts.connection);
        let explained = self.explained.remove(&summary.facts.connection).unwrap_or(0);
        self.taker.closed(summary, explained);
    }
}
