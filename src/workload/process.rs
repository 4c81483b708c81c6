//! One process of the queue: a producer and a consumer, and one operation after the other.
//!
//! After an operation of unknown outcome the process ends and another takes its slot, with new
//! clients: what the old ones still have under way can then hurt nobody but the history.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::generator::{Generator, Intent, Key, Step};
use super::options::SubVia;
use super::queue::{Drive, REOPEN_PAUSE, Stop};
use crate::client::cluster::TopicPartition;
use crate::history::Moment;
use crate::history::event::{EventType, EventValue, Function, Mop, Process};
use crate::history::outcome::Outcome;
use crate::pipeline::GroupConfig;
use crate::pipeline::{Consumer, ConsumerConfig, Producer, ProducerConfig, Record, SendId, Start};
use kafka_wire::ids::Offset;

/// One slot, and the process that holds it at the moment.
pub(super) struct Actor {
    drive: Arc<Drive>,
    process: i64,
    deadline: Instant,
    clients: Option<Clients>,
    random: ChaCha8Rng,
    next_crash: Option<Instant>,
    slot: u32,
}

/// What one process speaks with.
pub(super) struct Clients {
    pub(super) producer: Producer,
    pub(super) consumer: Consumer,
    bound: bool,
}

/// What came of an operation.
struct Completion {
    event_type: EventType,
    error: Option<String>,
    end_process: bool,
}

impl Completion {
    fn ok() -> Self {
        Self { event_type: EventType::Ok, error: None, end_process: false }
    }

    fn fail(error: impl Into<String>) -> Self {
        Self { event_type: EventType::Fail, error: Some(error.into()), end_process: false }
    }

    fn info(error: impl Into<String>) -> Self {
        Self { event_type: EventType::Info, error: Some(error.into()), end_process: true }
    }

    fn ending(self) -> Self {
        Self { end_process: true, ..self }
    }
}

impl Actor {
    pub(super) fn new(drive: Arc<Drive>, slot: u32, deadline: Instant) -> Self {
        let mut random = drive.chance.stream(&format!("queue/process/{slot}"));
        let next_crash = drive
            .options
            .crash_interval
            .map(|interval| Instant::now() + interval.mul_f64(random.random_range(0.0..2.0)));
        Self { drive, process: i64::from(slot), deadline, clients: None, random, next_crash, slot }
    }

    /// One operation after the other until the time is over.
    pub(super) async fn run(mut self) {
        while !self.is_over() {
            self.pace().await;
            let intent = self.intent();
            let Some(mut clients) = self.clients().await else {
                tokio::time::sleep(REOPEN_PAUSE).await;
                continue;
            };
            let end = match intent {
                Intent::Crash if self.drive.options.zombies && self.drive.options.txn => {
                    self.clients = self.haunt(clients).await;
                    continue;
                }
                Intent::Crash => self.crash(),
                Intent::Bind { via, keys } => self.bind(&mut clients, via, &keys).await,
                Intent::Steps { steps, batched, abort_at } => {
                    self.operation(&mut clients, &steps, batched, abort_at).await
                }
            };
            if end {
                self.process += i64::from(self.drive.options.concurrency);
            } else {
                self.clients = Some(clients);
            }
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline || self.drive.is_over(Stop::Main)
    }

    /// Waits for this process' share of the rate.
    async fn pace(&mut self) {
        if let Some(rate) = self.drive.options.rate_hz.filter(|rate| *rate > 0.0) {
            let mean = f64::from(self.drive.options.concurrency) / rate;
            let pause = Duration::from_secs_f64(mean * self.random.random_range(0.0..2.0));
            tokio::time::sleep_until((Instant::now() + pause).min(self.deadline)).await;
        } else {
            // With an in-memory transport nothing else may ever make this task wait.
            tokio::task::yield_now().await;
        }
    }

    fn intent(&mut self) -> Intent {
        let now = Instant::now();
        let due = self.next_crash.is_some_and(|at| now >= at);
        if let (true, Some(interval)) = (due, self.drive.options.crash_interval) {
            self.next_crash = Some(now + interval.mul_f64(self.random.random_range(0.0..2.0)));
            return Intent::Crash;
        }
        let bound = self.clients.as_ref().is_some_and(|clients| clients.bound);
        self.drive.with_generator(|generator| generator.next(self.slot, bound))
    }

    /// The clients of this process; absent where they could not be opened, which is recorded.
    async fn clients(&mut self) -> Option<Clients> {
        if let Some(clients) = self.clients.take() {
            return Some(clients);
        }
        match open(&self.drive).await {
            Ok(clients) => Some(clients),
            Err(error) => {
                let invoked =
                    Moment::invoke(self.name(), Function::Other("open".into()), EventValue::Nil);
                self.drive.recorder.record(invoked.clone());
                let mut failed = invoked.completion(EventType::Fail, EventValue::Nil);
                failed.error = Some(format!("no client: {error}"));
                self.drive.recorder.record(failed);
                None
            }
        }
    }

    fn name(&self) -> Process {
        Process::Client(self.process)
    }

    fn crash(&mut self) -> bool {
        let invoked = Moment::invoke(self.name(), Function::Crash, EventValue::Nil);
        self.drive.recorder.record(invoked.clone());
        self.drive.recorder.record(invoked.completion(EventType::Info, EventValue::Nil));
        true
    }

    /// Ends the process in the middle of a transaction, lets a successor take its transactional
    /// id, and only then sends what the old client still held. It must be refused: the successor
    /// has fenced it (KIP-98). No commit of it ever leaves, so the operation has failed whatever
    /// becomes of the write.
    async fn haunt(&mut self, mut old: Clients) -> Option<Clients> {
        let transactional_id = old.producer.state().transactional_id.clone()?;
        let (key, value) = self.drive.with_generator(Generator::one_send);
        let partition = self.drive.partition(key);
        if ensure(&self.drive, &partition.topic).await.is_err() || old.producer.begin().is_err() {
            return None;
        }
        let mut mops = vec![Mop::Send { key, value, offset: None, run: true }];
        let invoked = Moment::invoke(self.name(), Function::Send, EventValue::Mops(mops.clone()));
        self.drive.recorder.record(invoked.clone());
        let held = old.producer.send(partition, Record::of(value.to_be_bytes().to_vec()));
        self.process += i64::from(self.drive.options.concurrency);
        let successor = open_as(&self.drive, Some(transactional_id)).await.ok();
        old.producer.settle().await;
        let report = old.producer.report(held);
        if let Mop::Send { offset, .. } = &mut mops[0] {
            *offset = report.offset.map(|offset| offset.0);
        }
        let mut completion = invoked.completion(EventType::Fail, EventValue::Mops(mops));
        completion.error = Some(match &report.error {
            Some(error) => format!("crashed before its commit; held write: {error}"),
            None => "crashed before its commit; held write was accepted".into(),
        });
        completion.end_process = true;
        self.drive.recorder.record(completion);
        successor
    }

    async fn bind(&mut self, clients: &mut Clients, via: SubVia, keys: &[Key]) -> bool {
        let function = match via {
            SubVia::Assign => Function::Assign,
            SubVia::Subscribe => Function::Subscribe,
        };
        let value = EventValue::Keys(keys.to_vec());
        let invoked = Moment::invoke(self.name(), function, value.clone());
        self.drive.recorder.record(invoked.clone());
        let bound = bind(&self.drive, clients, via, keys).await;
        let mut completion = match &bound {
            Ok(()) => invoked.completion(EventType::Ok, value),
            Err(_) => invoked.completion(EventType::Fail, value),
        };
        clients.bound = bound.is_ok();
        completion.error = bound.err();
        self.drive.recorder.record(completion);
        false
    }

    /// Does one send, poll or txn and records it; answers whether the process ends.
    async fn operation(
        &mut self,
        clients: &mut Clients,
        steps: &[Step],
        batched: bool,
        abort_at: Option<usize>,
    ) -> bool {
        let mut work = Work::new(&self.drive, steps, batched);
        let invoked = Moment::invoke(self.name(), function(steps), work.value());
        self.drive.recorder.record(invoked.clone());
        let done = if self.drive.options.txn {
            work.transaction(clients, abort_at).await
        } else {
            work.plain(clients).await
        };
        let mut completion = invoked.completion(done.event_type, work.value());
        completion.error = done.error;
        completion.end_process = done.end_process;
        if let Some(log) = rebalance_log(&self.drive, clients) {
            completion.extra.push(("rebalance_log".into(), log));
        }
        work.note(done.event_type);
        if done.event_type != EventType::Ok && !done.end_process {
            work.rewind(clients);
        }
        self.drive.recorder.record(completion);
        done.end_process || done.event_type == EventType::Info
    }
}

/// `send`, `poll` or `txn`, by what an operation has.
fn function(steps: &[Step]) -> Function {
    if steps.iter().all(|step| matches!(step, Step::Send { .. })) {
        Function::Send
    } else if steps.iter().all(|step| matches!(step, Step::Poll)) {
        Function::Poll
    } else {
        Function::Txn
    }
}

/// Opens a producer with a transactional id nobody had before, and a consumer.
pub(super) async fn open(drive: &Drive) -> Result<Clients, String> {
    let number = drive.next_transactional_id.fetch_add(1, Ordering::Relaxed);
    let transactional_id = drive.options.txn.then(|| format!("{}jt{number}", drive.options.prefix));
    open_as(drive, transactional_id).await
}

/// The same with a transactional id of the caller's choice.
async fn open_as(drive: &Drive, transactional_id: Option<String>) -> Result<Clients, String> {
    let options = &drive.options;
    let producer = ProducerConfig {
        transactional_id,
        acks: options.acks,
        idempotence: options.idempotence,
        transaction_timeout: Duration::from_millis(options.transaction_timeout_ms.max(0) as u64),
        retry: options.retry,
        transaction_version: None,
        ..ProducerConfig::default()
    };
    let consumer = ConsumerConfig {
        group_id: Some(format!("{}group", options.prefix)),
        isolation: options.isolation,
        auto_offset_reset: options.auto_offset_reset,
        enable_auto_commit: options.auto_commit,
        group: GroupConfig { protocol: options.group_protocol, ..GroupConfig::default() },
        retry: options.retry,
        ..ConsumerConfig::default()
    };
    Ok(Clients {
        producer: Producer::open(&drive.cluster, producer).await.map_err(|e| e.to_string())?,
        consumer: Consumer::open(&drive.cluster, consumer).await.map_err(|e| e.to_string())?,
        bound: false,
    })
}

async fn bind(
    drive: &Drive,
    clients: &mut Clients,
    via: SubVia,
    keys: &[Key],
) -> Result<(), String> {
    let partitions: Vec<TopicPartition> = keys.iter().map(|key| drive.partition(*key)).collect();
    let mut topics: Vec<Arc<str>> = partitions.iter().map(|tp| tp.topic.clone()).collect();
    topics.dedup();
    for topic in &topics {
        ensure(drive, topic).await?;
    }
    match via {
        SubVia::Assign => clients.consumer.assign(&partitions, Start::Committed),
        SubVia::Subscribe => {
            return clients.consumer.subscribe(&topics).map_err(|trouble| trouble.to_string());
        }
    }
    Ok(())
}

/// Makes a topic where there is none yet.
async fn ensure(drive: &Drive, topic: &Arc<str>) -> Result<(), String> {
    if drive.is_made(topic) {
        return Ok(());
    }
    // The attempts are in the wire history; an operation names only the trouble they came to.
    let made = drive.cluster.ensure_topic(topic, &mut Vec::new()).await;
    made.map_err(|trouble| format!("cannot create topic {topic}: {trouble}"))?;
    drive.note_made(topic);
    Ok(())
}

/// What its group did to the consumer while an operation was under way, as Jepsen writes it;
/// absent where that is nothing.
fn rebalance_log(drive: &Drive, clients: &mut Clients) -> Option<String> {
    let log = clients.consumer.take_rebalance_log();
    let entries: Vec<String> = log
        .iter()
        .map(|entry| {
            let keys: Vec<String> = entry
                .partitions
                .iter()
                .filter_map(|tp| drive.key(tp).map(|key| key.to_string()))
                .collect();
            format!("{{\"type\":\"{}\",\"keys\":[{}]}}", entry.kind.name(), keys.join(","))
        })
        .collect();
    (!entries.is_empty()).then(|| format!("[{}]", entries.join(",")))
}

/// An operation under way: what is known of each micro-operation so far.
struct Work<'a> {
    drive: &'a Drive,
    batched: bool,
    mops: Vec<Mop>,
    sent: Vec<(usize, SendId)>,
    /// First offset polled and offset after the last, by partition, in order of first poll.
    polled: Vec<(TopicPartition, i64, i64)>,
}

impl<'a> Work<'a> {
    fn new(drive: &'a Drive, steps: &[Step], batched: bool) -> Self {
        let mops = steps
            .iter()
            .map(|step| match *step {
                Step::Send { key, value } => Mop::Send { key, value, offset: None, run: false },
                Step::Poll => Mop::Poll { records: None },
            })
            .collect();
        Self { drive, batched, mops, sent: Vec::new(), polled: Vec::new() }
    }

    fn value(&self) -> EventValue {
        EventValue::Mops(self.mops.clone())
    }

    /// Sends and polls outside any transaction.
    async fn plain(&mut self, clients: &mut Clients) -> Completion {
        let stepped = self.steps(clients, None).await;
        let settled = self.settle(clients).await;
        match stepped.and(settled) {
            Ok(()) => {
                self.commit_positions(clients).await;
                Completion::ok()
            }
            // Another send of it may have happened: then nobody can say that nothing did.
            Err(Broken::Definite(error)) if self.any_sent() => {
                Completion { end_process: false, ..Completion::info(error) }
            }
            Err(Broken::Definite(error)) => Completion::fail(error),
            Err(Broken::Unknown(error)) => Completion::info(error),
            Err(Broken::Intended) => unreachable!("only transactions are given up on purpose"),
        }
    }

    /// Whether a send is known to be in the log.
    fn any_sent(&self) -> bool {
        self.mops.iter().any(|mop| matches!(mop, Mop::Send { offset: Some(_), .. }))
    }

    /// The same inside one, committed or aborted at the end.
    async fn transaction(&mut self, clients: &mut Clients, abort_at: Option<usize>) -> Completion {
        if let Err(error) = clients.producer.begin() {
            return Completion::fail(format!("begin: {error}")).ending();
        }
        let stepped = self.steps(clients, abort_at).await;
        let settled = self.settle(clients).await;
        let ready = match stepped.and(settled) {
            Ok(()) if abort_at == Some(self.mops.len()) => Err(Broken::Intended),
            Ok(()) => self.commit_offsets(clients).await,
            broken => broken,
        };
        match ready {
            Ok(()) => self.commit(clients).await,
            Err(broken) => self.abort(clients, &broken).await,
        }
    }

    async fn steps(
        &mut self,
        clients: &mut Clients,
        abort_at: Option<usize>,
    ) -> Result<(), Broken> {
        for at in 0..self.mops.len() {
            if abort_at == Some(at) {
                return Err(Broken::Intended);
            }
            match self.mops[at] {
                Mop::Send { key, value, .. } => self.send(clients, at, key, value).await?,
                Mop::Poll { .. } => {
                    clients.producer.dispatch().await;
                    self.poll(clients, at).await?;
                }
            }
        }
        Ok(())
    }

    async fn send(
        &mut self,
        clients: &mut Clients,
        at: usize,
        key: Key,
        value: i64,
    ) -> Result<(), Broken> {
        let partition = self.drive.partition(key);
        ensure(self.drive, &partition.topic).await.map_err(Broken::Definite)?;
        let record = Record::of(value.to_be_bytes().to_vec());
        let id = clients.producer.send(partition, record);
        self.sent.push((at, id));
        if let Mop::Send { run, .. } = &mut self.mops[at] {
            *run = true;
        }
        if self.drive.options.one_in_flight {
            self.settle(clients).await
        } else {
            if !self.batched {
                clients.producer.dispatch().await;
            }
            Ok(())
        }
    }

    async fn poll(&mut self, clients: &mut Clients, at: usize) -> Result<(), Broken> {
        let polled = clients.consumer.poll(self.drive.options.poll_wait).await;
        let mut records = Vec::with_capacity(polled.records.len());
        for (partition, run) in polled.records {
            let Some(key) = self.drive.key(&partition) else { continue };
            let values: Vec<(i64, i64)> =
                run.iter().map(|(offset, value)| (offset.0, value_of(value.as_deref()))).collect();
            if let (Some((first, _)), Some((last, _))) = (values.first(), values.last()) {
                match self.polled.iter_mut().find(|(tp, ..)| *tp == partition) {
                    Some((.., next)) => *next = last + 1,
                    None => self.polled.push((partition, *first, last + 1)),
                }
            }
            records.push((key, values));
        }
        self.mops[at] = Mop::Poll { records: Some(records) };
        match polled.error {
            None => Ok(()),
            Some(error) => Err(Broken::Definite(format!("poll: {error}"))),
        }
    }

    /// Waits for every send's outcome and notes the offsets.
    async fn settle(&mut self, clients: &mut Clients) -> Result<(), Broken> {
        clients.producer.settle().await;
        let mut worst = Ok(());
        for (at, id) in self.sent.drain(..) {
            let report = clients.producer.report(id);
            if let Mop::Send { offset, .. } = &mut self.mops[at] {
                *offset = report.offset.map(|offset| offset.0);
            }
            let error =
                || report.error.as_ref().map_or("send failed".into(), |e| format!("send: {e}"));
            match (report.outcome, &worst) {
                (Outcome::Ok, _) => {}
                (Outcome::Fail, Ok(())) => worst = Err(Broken::Definite(error())),
                (Outcome::Fail, _) => {}
                (Outcome::Info, _) => worst = Err(Broken::Unknown(error())),
            }
        }
        clients.producer.forget_settled();
        worst
    }

    async fn commit_offsets(&mut self, clients: &mut Clients) -> Result<(), Broken> {
        if self.polled.is_empty() {
            return Ok(());
        }
        let Some(membership) = clients.consumer.membership() else { return Ok(()) };
        let offsets: Vec<(TopicPartition, Offset)> =
            self.polled.iter().map(|(tp, _, next)| (tp.clone(), Offset(*next))).collect();
        match clients.producer.send_offsets(&membership, &offsets).await.error {
            None => Ok(()),
            Some(error) => Err(Broken::Definite(format!("commit of offsets: {error}"))),
        }
    }

    /// Consumers of a group say how far they have come; the operation happened all the same where
    /// the group does not take it (a rebalance), and polls again what was not committed.
    async fn commit_positions(&mut self, clients: &mut Clients) {
        let subscribes = self.drive.options.sub_via.contains(&SubVia::Subscribe);
        if subscribes && !self.polled.is_empty() && !self.drive.options.auto_commit {
            clients.consumer.commit_positions(&mut Vec::new()).await.ok();
        }
    }

    async fn commit(&mut self, clients: &mut Clients) -> Completion {
        let report = clients.producer.commit().await;
        let error = || match &report.error {
            Some(error) => format!("commit: {error}"),
            None => "commit: not committed".into(),
        };
        let completion = match report.outcome {
            Outcome::Ok => Completion::ok(),
            Outcome::Fail => Completion::fail(error()),
            Outcome::Info => Completion::info(error()),
        };
        if report.must_close { completion.ending() } else { completion }
    }

    /// Gives the transaction up. No commit was tried, so nothing of it can ever be committed by
    /// us: a definite failure, whatever becomes of the abort itself.
    async fn abort(&mut self, clients: &mut Clients, broken: &Broken) -> Completion {
        let report = clients.producer.abort().await;
        let why = match broken {
            Broken::Intended => "aborted on purpose".to_owned(),
            Broken::Definite(error) | Broken::Unknown(error) => error.clone(),
        };
        let completion = Completion::fail(match &report.error {
            None => why,
            Some(error) => format!("{why}; abort: {error}"),
        });
        if report.must_close { completion.ending() } else { completion }
    }

    /// Tells the generator which offsets are known.
    fn note(&self, event_type: EventType) {
        if event_type != EventType::Ok {
            return;
        }
        self.drive.with_generator(|generator| {
            for mop in &self.mops {
                match mop {
                    Mop::Send { key, offset: Some(offset), .. } => {
                        generator.note_sent(*key, *offset)
                    }
                    Mop::Send { .. } => {}
                    Mop::Poll { records } => {
                        for (key, run) in records.iter().flatten() {
                            if let Some((offset, _)) = run.last() {
                                generator.note_polled(*key, *offset);
                            }
                        }
                    }
                }
            }
        });
    }

    /// Puts the consumer back to where the operation began: what it polled was not taken.
    fn rewind(&self, clients: &mut Clients) {
        for (partition, first, _) in &self.polled {
            clients.consumer.seek(partition, Offset(*first));
        }
    }
}

/// Why an operation did not come to its end.
enum Broken {
    /// It was given up on purpose.
    Intended,
    /// Something in it definitely failed.
    Definite(String),
    /// The outcome of something in it is unknown.
    Unknown(String),
}

/// A value as the queue writes it: eight bytes, big-endian. Anything else becomes a number that
/// nobody sent, so that the checker can name it.
pub(super) fn value_of(bytes: Option<&[u8]>) -> i64 {
    let bytes = bytes.unwrap_or_default();
    match bytes.first_chunk::<8>() {
        Some(eight) if bytes.len() == 8 => i64::from_be_bytes(*eight),
        _ => -1 - (bytes.len() as i64),
    }
}
