//! One connection to a broker: many requests in flight, each answer paired, each fate named.
//!
//! A task of its own writes what is queued and reads what comes, so that a caller who stops
//! waiting neither tears a frame nor loses another's answer. The queue is bounded: a caller who
//! is faster than the broker waits.
//!
//! Never: opens itself again; sends anything twice; decodes a body.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_wire::correlator::{Correlator, Paired};
use kafka_wire::frame::{self, Scan};
use kafka_wire::header::{RequestHeader, decode_response_header};
use kafka_wire::ids::CorrelationId;
use kafka_wire::{ApiKey, DecodeError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::transport::{Connector, Opened, Transport};
use crate::history::tap::{self, Direction, Tap};
use crate::world::Clock;

/// Requests that may wait in the queue of one connection before a caller must wait.
const QUEUE_REQUESTS_MAX: usize = 1024;
/// Bytes that may wait to be written before no more are taken from the queue.
const WRITE_BUFFER_BYTES_MAX: usize = 1 << 20;
/// Read buffer a connection starts with; it grows by what has arrived, never by what is declared.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// How our client behaves on every connection it opens: values, not environment.
#[derive(Clone)]
pub struct Conduct {
    /// How streams are opened.
    pub connector: Arc<dyn Connector>,
    /// Who takes what is said and heard.
    pub tap: Arc<dyn Tap>,
    /// What time it is.
    pub clock: Clock,
    /// `client_id` of every request.
    pub client_id: Option<Arc<str>>,
    /// How long an answer may take (`request.timeout.ms`).
    pub request_timeout: Duration,
    /// The largest response taken.
    pub frame_bytes_max: usize,
    next_connection: Arc<AtomicU64>,
}

impl Conduct {
    /// Conduct with a request timeout of 30 s and Kafka's own frame limit.
    pub fn new(connector: Arc<dyn Connector>, tap: Arc<dyn Tap>, clock: Clock) -> Self {
        Self {
            connector,
            tap,
            clock,
            client_id: Some("fencepost".into()),
            request_timeout: Duration::from_secs(30),
            frame_bytes_max: frame::FRAME_BYTES_MAX,
            next_connection: Arc::new(AtomicU64::new(0)),
        }
    }

    /// The same, as another client.
    #[must_use]
    pub fn with_client_id(&self, client_id: &str) -> Self {
        Self { client_id: Some(client_id.into()), ..self.clone() }
    }

    /// The same, with another request timeout.
    #[must_use]
    pub fn with_request_timeout(&self, request_timeout: Duration) -> Self {
        Self { request_timeout, ..self.clone() }
    }
}

/// What an attempt came to where it was not answered by a body that decodes.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// No byte of the request left: the connection could not be opened, or had ended before.
    NotSent {
        /// Why, in words.
        why: String,
    },
    /// The request left, wholly or partly, and the connection ended before its answer.
    Lost {
        /// Why, in words.
        why: String,
    },
    /// The request left and no answer came in time. The connection may still bring it.
    TimedOut,
    /// An answer came that breaks the protocol.
    Broken(Rubbish),
}

/// How an answer broke the protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Rubbish {
    /// A frame of a length no frame can have (W1).
    BadLength(i32),
    /// A correlation id no waiting request has (W1).
    WrongCorrelation {
        /// The oldest waiting request's.
        expected: Option<CorrelationId>,
        /// The answer's.
        answered: CorrelationId,
    },
    /// A body that does not decode, or not wholly (W2).
    Body(DecodeError),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent { why } => write!(f, "not sent: {why}"),
            Self::Lost { why } => write!(f, "connection lost before the answer: {why}"),
            Self::TimedOut => write!(f, "no answer within the request timeout"),
            Self::Broken(Rubbish::BadLength(n)) => write!(f, "answer of impossible length {n}"),
            Self::Broken(Rubbish::WrongCorrelation { expected: Some(e), answered }) => {
                write!(f, "answer with correlation id {answered}, expected {e}")
            }
            Self::Broken(Rubbish::WrongCorrelation { expected: None, answered }) => {
                write!(f, "answer with correlation id {answered} that nobody asked for")
            }
            Self::Broken(Rubbish::Body(error)) => write!(f, "answer does not decode: {error}"),
        }
    }
}

impl std::error::Error for Fate {}

/// One request as it goes out.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Which API.
    pub api_key: ApiKey,
    /// Which version; nothing checks that it exists.
    pub api_version: i16,
    /// The body.
    pub body: Bytes,
    /// Whether the broker will answer (all but Produce with acks=0).
    pub answered: bool,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The body, without its header.
    pub body: Bytes,
    /// When the request was handed to the transport, in nanoseconds since the start of the run.
    pub sent_ns: u64,
    /// When the last byte of the answer had been read.
    pub received_ns: u64,
}

/// A request that was sent and whose answer can be awaited.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<Result<Response, Fate>>,
    clock: Clock,
    deadline_ns: u64,
    /// The correlation id it went out with.
    pub correlation_id: CorrelationId,
}

impl Pending {
    /// Waits for the answer, at most the request timeout from when it was sent.
    pub async fn answer(mut self) -> Result<Response, Fate> {
        self.wait().await
    }

    /// The same, for a caller who may stop waiting and come back; once it has returned, there is
    /// nothing left to wait for.
    pub async fn wait(&mut self) -> Result<Response, Fate> {
        let left = Duration::from_nanos(self.deadline_ns.saturating_sub(self.clock.now_ns()));
        let answer = std::future::poll_fn(|cx| self.poll_answer(cx));
        tokio::time::timeout(left, answer).await.unwrap_or(Err(Fate::TimedOut))
    }

    /// Looks whether the answer is there. Knows no timeout; must not be asked again once it is.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response, Fate>> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| {
            let closed = || Err(Fate::Lost { why: "connection was closed on our side".into() });
            answer.unwrap_or_else(|_| closed())
        })
    }

    /// When the request times out, in nanoseconds since the start of the run.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }
}

enum Command {
    Request { frame: Frame, correlation_id: CorrelationId, answer: Answer },
    Raw { bytes: Bytes, expects: Option<(ApiKey, i16, CorrelationId)>, answer: Answer },
}

type Answer = oneshot::Sender<Result<Response, Fate>>;

/// An open connection. Dropping it closes it; queued requests that never left are `NotSent`.
pub struct Connection {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
    next_correlation: AtomicI32,
    alive: Arc<AtomicBool>,
    clock: Clock,
    request_timeout: Duration,
    id: tap::Connection,
    address: String,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).field("to", &self.address).finish()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Opens a connection to `host:port`.
    ///
    /// # Errors
    /// Where the transport cannot be opened; nothing was sent then.
    pub async fn open(conduct: &Conduct, address: &str) -> Result<Self, Fate> {
        let opened = conduct.connector.connect(address).await.map_err(|error| Fate::NotSent {
            why: format!("cannot connect to {address}: {error}"),
        })?;
        Ok(Self::over(conduct, address, opened))
    }

    /// Takes a stream that is open already.
    #[must_use]
    pub fn over(conduct: &Conduct, address: &str, opened: Opened) -> Self {
        let id = tap::Connection(conduct.next_connection.fetch_add(1, Ordering::Relaxed));
        let Opened { transport, client, broker } = opened;
        conduct.tap.opened(id, client, broker, conduct.clock.unix_ns());
        let (commands, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let alive = Arc::new(AtomicBool::new(true));
        let wire = Wire {
            conduct: conduct.clone(),
            id,
            alive: alive.clone(),
            waiting: Correlator::new(),
            out: BytesMut::new(),
            input: BytesMut::new(),
            closed_by: Direction::Request,
        };
        // Owned by the connection, which ends it when dropped.
        #[allow(clippy::disallowed_methods)]
        let task = tokio::spawn(wire.run(transport, queue));
        Self {
            commands,
            task,
            next_correlation: AtomicI32::new(0),
            alive,
            clock: conduct.clock.clone(),
            request_timeout: conduct.request_timeout,
            id,
            address: address.to_owned(),
        }
    }

    /// Its number within the run, as the capture knows it.
    #[must_use]
    pub fn id(&self) -> tap::Connection {
        self.id
    }

    /// Where it leads.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it has not ended yet, as far as is known.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Sends a request and returns at once; the answer can be awaited or let go.
    ///
    /// # Errors
    /// [`Fate::NotSent`] where the connection has ended.
    pub async fn send(&self, frame: Frame) -> Result<Pending, Fate> {
        let correlation_id = CorrelationId(self.next_correlation.fetch_add(1, Ordering::Relaxed));
        self.send_as(frame, correlation_id).await
    }

    /// Sends a request under a correlation id of the caller's choice.
    ///
    /// # Errors
    /// [`Fate::NotSent`] where the connection has ended.
    pub async fn send_as(
        &self,
        frame: Frame,
        correlation_id: CorrelationId,
    ) -> Result<Pending, Fate> {
        let (answer, receiver) = oneshot::channel();
        self.queue(Command::Request { frame, correlation_id, answer }).await?;
        Ok(self.pending(receiver, correlation_id))
    }

    /// Sends a request without waiting for room in the queue, so that nothing can come between
    /// deciding to send it and having done so.
    ///
    /// # Errors
    /// [`Fate::NotSent`] where the connection has ended or its queue is full.
    pub fn try_send(&self, frame: Frame) -> Result<Pending, Fate> {
        let correlation_id = CorrelationId(self.next_correlation.fetch_add(1, Ordering::Relaxed));
        let (answer, receiver) = oneshot::channel();
        let command = Command::Request { frame, correlation_id, answer };
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => self.ended(),
            mpsc::error::TrySendError::Full(_) => Fate::NotSent {
                why: format!("{QUEUE_REQUESTS_MAX} requests wait for {} already", self.address),
            },
        })?;
        Ok(self.pending(receiver, correlation_id))
    }

    /// Sends bytes as they are: part of a frame, two frames, rubbish. `expects` says which answer
    /// they will bring, if any.
    ///
    /// # Errors
    /// [`Fate::NotSent`] where the connection has ended.
    pub async fn send_raw(
        &self,
        bytes: Bytes,
        expects: Option<(ApiKey, i16, CorrelationId)>,
    ) -> Result<Pending, Fate> {
        let (answer, receiver) = oneshot::channel();
        self.queue(Command::Raw { bytes, expects, answer }).await?;
        Ok(self.pending(receiver, expects.map_or(CorrelationId(-1), |(_, _, id)| id)))
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// What became of it where no answer came.
    pub async fn exchange(&self, frame: Frame) -> Result<Response, Fate> {
        self.send(frame).await?.answer().await
    }

    async fn queue(&self, command: Command) -> Result<(), Fate> {
        self.commands.send(command).await.map_err(|_| self.ended())
    }

    fn ended(&self) -> Fate {
        Fate::NotSent { why: format!("the connection to {} had ended", self.address) }
    }

    fn pending(
        &self,
        answer: oneshot::Receiver<Result<Response, Fate>>,
        correlation_id: CorrelationId,
    ) -> Pending {
        let timeout_ns = u64::try_from(self.request_timeout.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = self.clock.now_ns().saturating_add(timeout_ns);
        Pending { answer, clock: self.clock.clone(), deadline_ns, correlation_id }
    }
}

/// A request whose answer is awaited.
struct Waiting {
    api_key: ApiKey,
    api_version: i16,
    sent_ns: u64,
    answer: Answer,
}

/// The task's side of a connection.
struct Wire {
    conduct: Conduct,
    id: tap::Connection,
    alive: Arc<AtomicBool>,
    waiting: Correlator<Waiting>,
    out: BytesMut,
    input: BytesMut,
    closed_by: Direction,
}

impl Wire {
    async fn run(mut self, transport: Box<dyn Transport>, mut queue: mpsc::Receiver<Command>) {
        let fate = self.talk(transport, &mut queue).await;
        self.end(&fate);
        queue.close();
        while let Ok(command) = queue.try_recv() {
            let (Command::Request { answer, .. } | Command::Raw { answer, .. }) = command;
            // The caller may have stopped waiting, which is theirs to choose.
            drop(answer.send(Err(Fate::NotSent { why: fate.to_string() })));
        }
    }

    /// Writes and reads until something ends the connection; returns what.
    async fn talk(
        &mut self,
        transport: Box<dyn Transport>,
        queue: &mut mpsc::Receiver<Command>,
    ) -> Fate {
        let (mut read_half, mut write_half) = tokio::io::split(transport);
        let mut commands = Vec::with_capacity(16);
        loop {
            if self.input.capacity() - self.input.len() < READ_BUFFER_BYTES {
                self.input.reserve(READ_BUFFER_BYTES.max(self.input.len().min(1 << 20)));
            }
            tokio::select! {
                // What waits to be written goes first, then answers, then new requests.
                biased;
                wrote = write_half.write(&self.out), if !self.out.is_empty() => match wrote {
                    Ok(n) => self.wrote(n),
                    Err(error) => return self.broke(&error),
                },
                read = read_half.read_buf(&mut self.input) => match read {
                    Ok(0) => {
                        self.closed_by = Direction::Response;
                        return Fate::Lost { why: "closed by the broker".into() };
                    }
                    Ok(n) => {
                        let heard = &self.input[self.input.len() - n..];
                        let now = self.conduct.clock.unix_ns();
                        self.conduct.tap.bytes(self.id, Direction::Response, now, heard);
                        if let Err(rubbish) = self.take_frames() {
                            return Fate::Broken(rubbish);
                        }
                    }
                    Err(error) => return self.broke(&error),
                },
                n = queue.recv_many(&mut commands, 16), if self.out.len() < WRITE_BUFFER_BYTES_MAX => {
                    if n == 0 {
                        return Fate::Lost { why: "closed on our side".into() };
                    }
                    commands.drain(..).for_each(|command| self.put(command));
                }
            }
        }
    }

    fn broke(&mut self, error: &io::Error) -> Fate {
        self.closed_by = Direction::Response;
        Fate::Lost { why: error.to_string() }
    }

    fn wrote(&mut self, n: usize) {
        let now = self.conduct.clock.unix_ns();
        self.conduct.tap.bytes(self.id, Direction::Request, now, &self.out[..n]);
        self.out.advance(n);
    }

    /// Puts a request behind what waits to be written.
    fn put(&mut self, command: Command) {
        let sent_ns = self.conduct.clock.now_ns();
        match command {
            Command::Request { frame, correlation_id, answer } => {
                let Frame { api_key, api_version, body, answered } = frame;
                let client_id = self.conduct.client_id.as_deref().map(str::as_bytes);
                let at = self.out.len();
                self.out.put_i32(0);
                RequestHeader { api_key, api_version, correlation_id, client_id }
                    .encode(&mut self.out);
                self.out.put_slice(&body);
                let length = (self.out.len() - at - 4) as i32;
                self.out[at..at + 4].copy_from_slice(&length.to_be_bytes());
                if answered {
                    let waiting = Waiting { api_key, api_version, sent_ns, answer };
                    self.waiting.request(correlation_id, waiting);
                } else {
                    let response = Response { body: Bytes::new(), sent_ns, received_ns: sent_ns };
                    drop(answer.send(Ok(response)));
                }
            }
            Command::Raw { bytes, expects, answer } => {
                self.out.put_slice(&bytes);
                if let Some((api_key, api_version, correlation_id)) = expects {
                    let waiting = Waiting { api_key, api_version, sent_ns, answer };
                    self.waiting.request(correlation_id, waiting);
                } else {
                    let response = Response { body: Bytes::new(), sent_ns, received_ns: sent_ns };
                    drop(answer.send(Ok(response)));
                }
            }
        }
    }

    /// Takes whole frames from what was read and hands each to whom it answers.
    fn take_frames(&mut self) -> Result<(), Rubbish> {
        loop {
            match frame::scan(&self.input, self.conduct.frame_bytes_max) {
                Scan::Incomplete { .. } => return Ok(()),
                Scan::BadLength(length) => return Err(Rubbish::BadLength(length)),
                Scan::Frame { end } => {
                    let mut frame = self.input.split_to(end).freeze();
                    frame.advance(4);
                    self.take_answer(frame)?;
                }
            }
        }
    }

    fn take_answer(&mut self, mut frame: Bytes) -> Result<(), Rubbish> {
        let Some(id) = frame.first_chunk::<4>() else {
            return Err(Rubbish::Body(DecodeError {
                byte_offset: 0,
                path: "response_header".into(),
                kind: kafka_wire::DecodeErrorKind::Truncated { needed: 4, available: frame.len() },
            }));
        };
        let answered = CorrelationId(i32::from_be_bytes(*id));
        let expected = self.waiting.oldest().map(|(id, _)| *id);
        // Answers come in the order of the requests (W1): only the oldest can be meant.
        if expected != Some(answered) {
            return Err(Rubbish::WrongCorrelation { expected, answered });
        }
        let Paired::Next(waiting) = self.waiting.response(answered) else {
            unreachable!("the oldest waiting request has this correlation id");
        };
        let header = decode_response_header(&frame, waiting.api_key, waiting.api_version);
        let answer = match header {
            Ok((_, length)) => {
                frame.advance(length);
                let received_ns = self.conduct.clock.now_ns();
                Ok(Response { body: frame, sent_ns: waiting.sent_ns, received_ns })
            }
            Err(error) => Err(Fate::Broken(Rubbish::Body(error))),
        };
        drop(waiting.answer.send(answer));
        Ok(())
    }

    /// Tells all who wait that the connection has ended.
    fn end(&mut self, fate: &Fate) {
        self.alive.store(false, Ordering::Release);
        for (_, waiting) in self.waiting.drain() {
            drop(waiting.answer.send(Err(fate.clone())));
        }
    }
}

impl Drop for Wire {
    /// Also when the task is aborted because its connection was dropped.
    fn drop(&mut self) {
        self.alive.store(false, Ordering::Release);
        self.conduct.tap.closed(self.id, self.closed_by, self.conduct.clock.unix_ns());
    }
}
