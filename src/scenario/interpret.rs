//! Holds a conversation with a broker: step after step, as the file says it.
//!
//! Requests go out as the schema walker encodes them; a held one leaves but for its last byte. What
//! producers learn (producer ids, epochs, sequences) they learn from answers their client heard.
//!
//! Never: says anything a step, or the remedy of a careful client, does not say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::header::RequestHeader;
use kafka_wire::ids::{CorrelationId, NodeId};
use kafka_wire::schema::{self, Direction, Fields, Limits, Value};
use kafka_wire::{ApiKey, ErrorCode};
use tokio::time::{Instant, sleep, timeout};

use super::answer::Came;
use super::chart::{Arrow, Line};
use super::conversation::{Act, Conversation, Expect, Reaction, Stated, Step, Style};
use super::ground::Ground;
use super::operations::{Meanings, Operations};
use super::phrase::{self, Phrase, Remedy};
use super::progress::{self, Stuck};
use super::read::{Whole, read_from, whole};
use super::steps::{Deed, Fault, Until};
use super::switchboard::{NoWay, Party, Switchboard, Whom};
use super::value::{self, BatchSaid, Meaning};
use crate::broker::Cluster;
use crate::client::cluster::TopicPartition;
use crate::client::connection::{Pending, Rubbish};
use crate::client::fetch::IsolationLevel;
use crate::client::offsets::fetch_offsets;
use crate::client::{Connection, Fate, Frame};
use crate::history::outcome::{Attempt, End};

/// How long a request is sent again at most.
const RETRIED_WITHIN: Duration = Duration::from_secs(15);
/// How long a wait takes at most.
const WAITED_WITHIN: Duration = Duration::from_secs(10);
/// Before something is said or asked again; requests wait longer from time to time.
const PAUSE: Duration = Duration::from_millis(3);
const PAUSE_MAX: Duration = Duration::from_millis(48);
const OFFSET_FETCH: i16 = 7;

/// What a conversation came to.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// Every line of its chart.
    pub lines: Vec<Line>,
    /// Answers that were not expected.
    pub surprises: Vec<String>,
    /// Why it could not be held to its end.
    pub broken: Option<String>,
    /// What does not go on.
    pub stuck: Vec<Stuck>,
    /// Offsets of groups that no committed transaction explains.
    pub offsets: Vec<Stuck>,
    /// What the keys and values of its history stand for.
    pub names: Meanings,
}

/// Holds a conversation, asks whether everything goes on, and reads everything back.
pub async fn hold(conversation: &Conversation, ground: &Ground<'_>, board: Switchboard) -> Held {
    let mut talk = Talk::new(conversation, ground, board);
    let said = talk.say_everything().await;
    talk.heal().await;
    talk.never_awaited();
    talk.operations.close();
    let ended = match said {
        Ok(()) => talk.look_back().await.map_err(|way| way.to_string()),
        Err(why) => Err(why),
    };
    talk.held.broken = ended.err();
    talk.held.stuck.append(&mut talk.unanswered);
    talk.held.names = talk.operations.names();
    talk.held
}

/// A producer as its client knows it.
#[derive(Debug, Clone, Default)]
struct Producer {
    transactional_id: Option<String>,
    id: Option<i64>,
    epoch: Option<i16>,
    /// By partition: producer id and epoch, and the sequence that comes next.
    next: BTreeMap<String, (i64, i16, i32)>,
    stopped: bool,
}

/// A request that was said, for those who speak of it later.
struct Spoken {
    step: usize,
    frame: Frame,
    whom: Whom,
    words: String,
    held: Option<(Arc<Connection>, CorrelationId, Bytes)>,
    pending: Option<(Pending, i32)>,
    came: Option<Came>,
}

/// A conversation while it is held.
struct Talk<'c, 'g> {
    conversation: &'c Conversation,
    ground: &'c Ground<'g>,
    board: Switchboard,
    operations: Operations<'c>,
    producers: BTreeMap<String, Producer>,
    spoken: BTreeMap<String, Spoken>,
    /// Transactions whose rest is left out.
    abandoned: BTreeSet<String>,
    /// Transactions their clients have open, with their transactional ids.
    open: BTreeMap<String, String>,
    over: BTreeSet<String>,
    hurt: BTreeSet<NodeId>,
    last_hurt: Option<NodeId>,
    began_ns: u64,
    unanswered: Vec<Stuck>,
    held: Held,
}

/// Why a step could not be taken.
type Stop = String;

impl<'c, 'g> Talk<'c, 'g> {
    fn new(conversation: &'c Conversation, ground: &'c Ground<'g>, board: Switchboard) -> Self {
        let producer = |(name, id): (&String, &String)| {
            let transactional_id = (!id.is_empty()).then(|| ground.names.of(id));
            (name.clone(), Producer { transactional_id, ..Producer::default() })
        };
        Self {
            conversation,
            ground,
            operations: Operations::new(conversation, ground.style, ground.recorder),
            producers: conversation.producers.iter().map(producer).collect(),
            spoken: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            open: BTreeMap::new(),
            over: BTreeSet::new(),
            hurt: BTreeSet::new(),
            last_hurt: None,
            began_ns: board.conduct.clock.now_ns(),
            board,
            unanswered: Vec::new(),
            held: Held::default(),
        }
    }

    async fn say_everything(&mut self) -> Result<(), Stop> {
        for (at, step) in self.conversation.steps.iter().enumerate() {
            if !step.is_in(self.ground.style) {
                continue;
            }
            self.step(at, step).await.map_err(|why| format!("step {}: {why}", at + 1))?;
        }
        Ok(())
    }

    async fn step(&mut self, at: usize, step: &Step) -> Result<(), Stop> {
        match step.act()? {
            Act::Send(_) | Act::Again(_) if self.is_left_out(step) => Ok(()),
            Act::Send(api) => {
                let came = self.send(at, step, api).await?;
                self.react(at, step, api, came).await
            }
            Act::Again(name) => match self.spoken.contains_key(name) {
                true => self.again(at, step, name).await,
                // What was to be said again was left out.
                false => Ok(()),
            },
            Act::Release(name) => self.release(at, step, name).await,
            Act::Await(name) => self.answer_of(at, step, name).await,
            Act::Close(name) => {
                let closed = self.board.close(name);
                self.note(Some(at), format!("{closed} connections named {name} are closed"));
                Ok(())
            }
            Act::Wait(until) => self.wait(at, step, until).await,
            Act::Fault(fault) => self.fault(at, fault).await,
            Act::Read(partition) => self.read(at, step, partition).await,
        }
    }

    /// Whether the client of a step has given its transaction up, or has stopped.
    fn is_left_out(&self, step: &Step) -> bool {
        let abandoned = step.transaction.as_ref().is_some_and(|t| self.abandoned.contains(t));
        let by = step.by.as_ref().and_then(|by| self.producers.get(by));
        abandoned || by.is_some_and(|producer| producer.stopped)
    }

    /// Says a request; answers what came of it where its client heard.
    async fn send(&mut self, at: usize, step: &Step, api: &str) -> Result<Option<Came>, Stop> {
        let phrase = phrase::phrase(api);
        let (mut first, mut pause) = (true, PAUSE);
        let deadline =
            Instant::now() + step.within_ms.map_or(RETRIED_WITHIN, Duration::from_millis);
        let sequence = self.sequence(step, api)?;
        loop {
            let spoken = self.speak(at, step, api, phrase, sequence)?;
            if first {
                self.begins(at, step);
            }
            first = false;
            let came = self.convey(at, step, spoken).await?;
            let Some(came) = came else { return Ok(None) };
            if step.lose
                || !self.is_to_be_retried(step, phrase, &came)
                || Instant::now() >= deadline
            {
                if step.lose {
                    return Ok(None);
                }
                self.learn(step, api, &came, sequence);
                self.judge_answer(at, step, &came);
                return Ok(Some(came));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn is_to_be_retried(&mut self, step: &Step, phrase: Option<&Phrase>, came: &Came) -> bool {
        let Some(code) = came.code() else { return false };
        let phrased = phrase.map_or(&[][..], |phrase| &phrase.retry_on);
        let codes = step.retry_on.as_deref().unwrap_or(phrased);
        let moved = [
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ];
        if moved.contains(&ErrorCode(code)) {
            self.board.forget();
        }
        codes.contains(&code)
    }

    /// Builds a request and says where it goes.
    fn speak(
        &mut self,
        at: usize,
        step: &Step,
        api: &str,
        phrase: Option<&Phrase>,
        sequence: Option<i32>,
    ) -> Result<Spoken, Stop> {
        let style = self.ground.style;
        let api_key = ApiKey::from_name(api).ok_or_else(|| format!("no API is called {api}"))?;
        let version = match (step.version, phrase) {
            (Some(version), _) => version.of(style),
            (None, Some(phrase)) => self.ground.phrase_version(api_key, phrase.version.of(style)),
            (None, None) => return Err(format!("{api} needs a version")),
        };
        let body = match &step.raw {
            Some(raw) => value::hexadecimal(raw)?,
            None => {
                let layout = schema::layout(api_key, Direction::Request, version)
                    .ok_or_else(|| format!("{api} has no version {version}"))?;
                let meaning = Now { talk: self, step, sequence };
                let fields = value::fields(step, phrase, &meaning)?;
                layout.encode(&fields).map_err(|error| error.to_string())?
            }
        };
        let whom = self.whom(step, phrase)?;
        let answered = !(api_key == ApiKey::PRODUCE && body_asks_nothing(&body, version));
        let frame = Frame { api_key, api_version: version, body: body.into(), answered };
        let words = self.words(step, api, version, sequence);
        Ok(Spoken { step: at, frame, whom, words, held: None, pending: None, came: None })
    }

    /// Sends what was built, as the step says it: at once, held back, or without awaiting.
    async fn convey(
        &mut self,
        at: usize,
        step: &Step,
        mut spoken: Spoken,
    ) -> Result<Option<Came>, Stop> {
        let name = step.on.as_deref().unwrap_or("main");
        let (node, address) = self.board.find(&spoken.whom).await.map_err(|way| way.to_string())?;
        let correlation = CorrelationId(self.board.correlation());
        let line = self.line(at, step, name, node, &spoken.words);
        let connection = match self.board.connection(name, &address).await {
            Ok(connection) => connection,
            Err(NoWay::Fate(fate)) => {
                let came = Came::Nothing(fate);
                self.held.lines.push(Line { came: came.brief(), ..line });
                self.told(&spoken, step, &came);
                self.keep(step, spoken, Some(&came));
                return Ok(Some(came));
            }
            Err(way) => return Err(way.to_string()),
        };
        if step.hold {
            let bytes = whole_frame(&spoken.frame, correlation, &self.board.conduct.client_id);
            let (most, last) = bytes.split_at(bytes.len() - 1);
            let sent = connection.send_raw(Bytes::copy_from_slice(most), None).await;
            let came = "held back but for its last byte".to_owned();
            if let Err(fate) = sent {
                return Err(format!("the request to be held did not leave: {fate}"));
            }
            self.held.lines.push(Line { arrow: Arrow::Held, came, ..line });
            self.told(&spoken, step, &Came::Nothing(Fate::TimedOut));
            spoken.held = Some((connection, correlation, Bytes::copy_from_slice(last)));
            self.keep(step, spoken, None);
            return Ok(None);
        }
        let pending = connection.send_as(spoken.frame.clone(), correlation).await;
        if step.unawaited {
            self.held.lines.push(Line { came: "(not awaited)".into(), ..line });
            spoken.pending = pending.ok().map(|pending| (pending, node.0));
            self.keep(step, spoken, None);
            return Ok(None);
        }
        let came = match pending {
            Ok(pending) => self.hear(step, pending, &spoken.frame).await,
            Err(fate) => Came::Nothing(fate),
        };
        let arrow = if step.lose { Arrow::Lost } else { Arrow::Sent };
        let brief = match step.lose {
            true => format!("{}, which its client never hears", came.brief()),
            false => came.brief(),
        };
        self.held.lines.push(Line { arrow, came: brief, ..line });
        let lost = Came::Nothing(Fate::Lost { why: "the answer got lost".into() });
        self.told(&spoken, step, if step.lose { &lost } else { &came });
        self.keep(step, spoken, Some(&came));
        Ok(Some(came))
    }

    async fn hear(&self, step: &Step, mut pending: Pending, frame: &Frame) -> Came {
        let within = step.within_ms.map(Duration::from_millis);
        let heard = match within {
            None => pending.wait().await,
            Some(within) => timeout(within, pending.wait()).await.unwrap_or(Err(Fate::TimedOut)),
        };
        decoded(heard.map(|response| response.body), frame)
    }

    /// Tells the operations what a client knows of an attempt.
    fn told(&mut self, spoken: &Spoken, step: &Step, came: &Came) {
        let meant = &self.conversation.steps.get(spoken.step).cloned().unwrap_or_default();
        let original = if step.send.is_some() { step } else { meant };
        let (api_key, api_version) = (spoken.frame.api_key, spoken.frame.api_version);
        let fate = came.fate();
        match api_key {
            ApiKey::PRODUCE => {
                let attempt = Attempt { api_key, api_version, acks: Some(-1), fate };
                self.operations.attempted(spoken.step, attempt, came.number("base_offset"));
            }
            ApiKey::END_TXN => {
                let epoch = epoch_in(&spoken.frame);
                let end = End {
                    commit: original.committed.unwrap_or(false),
                    producer_epoch: epoch.unwrap_or(-1),
                    fate,
                    api_version,
                };
                if let Some(transaction) = &original.transaction {
                    self.operations.ended(transaction, end);
                    if came.code() == Some(0) {
                        self.open.remove(transaction);
                        self.over.insert(transaction.clone());
                    }
                }
            }
            ApiKey::TXN_OFFSET_COMMIT => {
                if let (Some(group), Some(partition), Some(offset)) =
                    (&original.group, &original.partition, original.offset)
                {
                    let told_ok = came.code() == Some(0);
                    let transaction = original.transaction.as_deref();
                    self.operations.offset((group, partition), offset, transaction, told_ok);
                }
            }
            ApiKey::INIT_PRODUCER_ID if came.code() == Some(0) => {
                let by = original.by.as_ref().and_then(|by| self.producers.get(by));
                if let Some(id) = by.and_then(|producer| producer.transactional_id.clone()) {
                    let ended: Vec<String> = self
                        .open
                        .iter()
                        .filter(|(_, of)| **of == id)
                        .map(|(name, _)| name.clone())
                        .collect();
                    for name in ended {
                        self.open.remove(&name);
                        self.over.insert(name);
                    }
                }
            }
            _ => {}
        }
    }

    /// Keeps what was said for later steps.
    fn keep(&mut self, step: &Step, mut spoken: Spoken, came: Option<&Came>) {
        if let Some(name) = &step.name {
            spoken.came = came.cloned();
            self.spoken.insert(name.clone(), spoken);
        }
    }

    /// The transaction of a step begins here, as its client means it.
    fn begins(&mut self, at: usize, step: &Step) {
        let by = step.by.as_ref().and_then(|by| self.producers.get(by));
        let epoch = by.and_then(|producer| producer.epoch);
        let id = by.and_then(|producer| producer.transactional_id.clone());
        if let (Some(transaction), Some(id)) = (&step.transaction, id)
            && !self.over.contains(transaction)
        {
            self.open.insert(transaction.clone(), id);
        }
        self.operations.begins(at, epoch);
    }

    /// The sequence a Produce step goes out with: the producer's next.
    fn sequence(&mut self, step: &Step, api: &str) -> Result<Option<i32>, Stop> {
        if api != "Produce" || step.raw.is_some() {
            return Ok(None);
        }
        let (Some(by), Some(partition)) = (&step.by, &step.partition) else { return Ok(Some(-1)) };
        let producer = self.producers.get(by).ok_or_else(|| format!("no producer {by}"))?;
        let (Some(id), Some(epoch)) = (producer.id, producer.epoch) else { return Ok(Some(-1)) };
        let next = match producer.next.get(partition) {
            Some(&(of, at, next)) if (of, at) == (id, epoch) => next,
            _ => 0,
        };
        let meaning = Now { talk: self, step, sequence: None };
        let stated = value::stated(step.sequence.as_ref(), next.into(), &meaning)?;
        let count = step.values.as_ref().map_or(0, Vec::len);
        let base = i32::try_from(stated).unwrap_or(-1);
        if let Some(producer) = self.producers.get_mut(by) {
            let after = (i64::from(base) + count as i64) & i64::from(i32::MAX);
            producer.next.insert(partition.clone(), (id, epoch, after as i32));
        }
        Ok(Some(base))
    }

    /// What a producer learns from an answer its client heard.
    fn learn(&mut self, step: &Step, api: &str, came: &Came, sequence: Option<i32>) {
        let Some(by) = &step.by else { return };
        let Some(producer) = self.producers.get_mut(by) else { return };
        let (id, epoch) = (came.number("producer_id"), came.number("producer_epoch"));
        match (api, came.code()) {
            ("InitProducerId" | "EndTxn", Some(0)) => {
                if let (Some(id), Some(epoch)) = (id, epoch)
                    && id >= 0
                    && epoch >= 0
                {
                    producer.id = Some(id);
                    producer.epoch = i16::try_from(epoch).ok();
                }
            }
            // A batch that was refused has used no sequence.
            ("Produce", Some(code)) if code != 0 && code != 46 => {
                let of = step.partition.as_ref().and_then(|tp| producer.next.get_mut(tp));
                if let (Some((.., next)), Some(base)) = (of, sequence.filter(|base| *base >= 0)) {
                    *next = base;
                }
            }
            _ => {}
        }
    }

    /// Compares an answer with what was expected of it.
    fn judge_answer(&mut self, at: usize, step: &Step, came: &Came) {
        let number = at + 1;
        let what = step.send.as_deref().unwrap_or("the request");
        if let Some(expect) = &step.expect {
            let as_expected = match came.code() {
                Some(code) => expect.allows(self.ground.column, code),
                None => matches!(expect, Expect::Any(codes) if codes.is_empty()),
            };
            if !as_expected {
                let text =
                    format!("step {number}: {what} came to {}, not {expect:?}", came.brief());
                self.held.surprises.push(text);
            }
        }
        if *came == Came::Nothing(Fate::TimedOut) && self.last_hurt.is_none() {
            let why = format!(
                "Step {number}: {what} got no answer in time, though its connection is alive and \
                 nobody hurt the broker."
            );
            self.unanswered.push(Stuck { name: progress::UNANSWERED, why });
        }
        let Came::Answer(fields) = came else { return };
        let mut wrong = Vec::new();
        for (path, expected) in step.answer.iter().flatten() {
            let meaning = Now { talk: self, step, sequence: None };
            let expected = value::value_of(expected, &meaning);
            if fields.at(path) != expected.as_ref().ok() {
                let text =
                    format!("step {number}: {path} is {:?}, not {expected:?}", fields.at(path));
                wrong.push(text);
            }
        }
        self.held.surprises.extend(wrong);
    }

    /// What a careful client does about an answer it cannot use.
    async fn react(
        &mut self,
        at: usize,
        step: &Step,
        api: &str,
        came: Option<Came>,
    ) -> Result<(), Stop> {
        if self.conversation.client == Reaction::Exact || step.by.is_none() {
            return Ok(());
        }
        let (Some(came), Some(phrase)) = (came, phrase::phrase(api)) else { return Ok(()) };
        let remedy = match came.code() {
            Some(code) => phrase.remedy(code, self.ground.style),
            None => phrase.gave_up,
        };
        let Some(mut remedy) = remedy else { return Ok(()) };
        if step.transaction.is_none() && remedy == Remedy::Abort {
            remedy = Remedy::Restart;
        }
        let fenced = matches!(came.code(), Some(47 | 90));
        if fenced && self.is_shared(step) {
            remedy = Remedy::Stop;
        }
        self.abandoned.extend(step.transaction.clone());
        let by = step.by.as_deref();
        if remedy == Remedy::Stop {
            self.note(Some(at), format!("{} stops: somebody else has its id", by.unwrap_or("")));
            if let Some(producer) = by.and_then(|by| self.producers.get_mut(by)) {
                producer.stopped = true;
            }
            return Ok(());
        }
        let steps =
            phrase::remedy_steps(remedy, self.ground.style, by, step.transaction.as_deref());
        for remedy_step in steps {
            let Some(api) = remedy_step.send.clone() else { continue };
            let came = self.send(at, &remedy_step, &api).await?;
            let code = came.and_then(|came| came.code());
            if code.is_none_or(|code| code != 0) && api != "InitProducerId" {
                return self.begin_anew(at, step).await;
            }
            if code.is_some_and(|code| matches!(code, 47 | 90)) && self.is_shared(step) {
                if let Some(producer) = by.and_then(|by| self.producers.get_mut(by)) {
                    producer.stopped = true;
                }
                return Ok(());
            }
            if code.is_none_or(|code| code != 0) && remedy != Remedy::Restart {
                return self.begin_anew(at, step).await;
            }
        }
        Ok(())
    }

    /// The last thing a client can do.
    async fn begin_anew(&mut self, at: usize, step: &Step) -> Result<(), Stop> {
        let by = step.by.as_deref();
        for remedy in phrase::remedy_steps(Remedy::Restart, self.ground.style, by, None) {
            if let Some(api) = remedy.send.clone() {
                self.send(at, &remedy, &api).await?;
            }
        }
        Ok(())
    }

    /// Whether another producer of the conversation has the same transactional id.
    fn is_shared(&self, step: &Step) -> bool {
        let id = |by: &String| self.producers.get(by).and_then(|p| p.transactional_id.clone());
        let own = step.by.as_ref().and_then(id);
        let of = |name: &&String| Some(*name) != step.by.as_ref() && id(name) == own;
        own.is_some() && self.producers.keys().filter(of).count() > 0
    }

    async fn again(&mut self, at: usize, step: &Step, name: &str) -> Result<(), Stop> {
        let spoken = &self.spoken[name];
        let (original, api) = (spoken.step, spoken.frame.api_key.to_string());
        let meant = self.conversation.steps[original].clone();
        let phrase = phrase::phrase(&api);
        let deadline =
            Instant::now() + step.within_ms.map_or(RETRIED_WITHIN, Duration::from_millis);
        loop {
            let spoken = &self.spoken[name];
            let copy = Spoken {
                step: original,
                frame: spoken.frame.clone(),
                whom: spoken.whom.clone(),
                words: format!("{}, again", spoken.words.trim_end_matches(", again")),
                held: None,
                pending: None,
                came: None,
            };
            let Some(came) = self.convey(at, step, copy).await? else { return Ok(()) };
            if step.lose {
                return Ok(());
            }
            if self.is_to_be_retried(step, phrase, &came) && Instant::now() < deadline {
                sleep(PAUSE).await;
                continue;
            }
            self.learn(&meant, &api, &came, None);
            self.judge_answer(at, step, &came);
            return self.react(at, &meant, &api, Some(came)).await;
        }
    }

    async fn release(&mut self, at: usize, step: &Step, name: &str) -> Result<(), Stop> {
        // A request that was left out cannot arrive.
        let Some(spoken) = self.spoken.get_mut(name) else { return Ok(()) };
        let Some((connection, correlation, last)) = spoken.held.take() else {
            return Err(format!("{name} is not held"));
        };
        let (frame, words, whom) =
            (spoken.frame.clone(), spoken.words.clone(), spoken.whom.clone());
        let meant = self.conversation.steps[spoken.step].clone();
        let node = self.board.find(&whom).await.map_or(NodeId(-1), |(node, _)| node);
        let on = meant.on.as_deref().unwrap_or("main");
        let mut line = self.line(at, &meant, on, node, &format!("{words}, arrives"));
        line.arrow = Arrow::Released;
        let expects = Some((frame.api_key, frame.api_version, correlation));
        let came = match connection.send_raw(last, expects).await {
            Ok(pending) if step.unawaited => {
                line.came = "(not awaited)".into();
                self.held.lines.push(line);
                if let Some(spoken) = self.spoken.get_mut(name) {
                    spoken.pending = Some((pending, node.0));
                }
                return Ok(());
            }
            Ok(pending) => self.hear(step, pending, &frame).await,
            Err(fate) => Came::Nothing(fate),
        };
        line.came = came.brief();
        self.held.lines.push(line);
        self.judge_answer(at, step, &came);
        if let Some(spoken) = self.spoken.get_mut(name) {
            spoken.came = Some(came);
        }
        Ok(())
    }

    async fn answer_of(&mut self, at: usize, step: &Step, name: &str) -> Result<(), Stop> {
        let Some(spoken) = self.spoken.get_mut(name) else { return Ok(()) };
        let Some((pending, node)) = spoken.pending.take() else {
            return Err(format!("nothing of {name} is to be awaited"));
        };
        let (frame, words, original) = (spoken.frame.clone(), spoken.words.clone(), spoken.step);
        let meant = self.conversation.steps[original].clone();
        let came = self.hear(step, pending, &frame).await;
        let on = meant.on.as_deref().unwrap_or("main");
        let line = self.line(at, &meant, on, NodeId(node), &format!("{words}, awaited"));
        self.held.lines.push(Line { came: came.brief(), ..line });
        let api = frame.api_key.to_string();
        if !meant.hold {
            if let Some(spoken) = self.spoken.remove(name) {
                self.told(&spoken, &meant, &came);
                self.spoken.insert(name.to_owned(), Spoken { came: Some(came.clone()), ..spoken });
            }
            self.learn(&meant, &api, &came, None);
        }
        self.judge_answer(at, step, &came);
        if meant.hold { Ok(()) } else { self.react(at, &meant, &api, Some(came)).await }
    }

    /// Requests whose answers nobody awaited: for all their clients know, they may have been
    /// served.
    fn never_awaited(&mut self) {
        let open: Vec<String> = self
            .spoken
            .iter()
            .filter(|(_, spoken)| spoken.pending.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in open {
            if let Some(spoken) = self.spoken.remove(&name) {
                let meant = self.conversation.steps[spoken.step].clone();
                if !meant.hold {
                    self.told(&spoken, &meant, &Came::Nothing(Fate::TimedOut));
                }
            }
        }
    }

    async fn wait(&mut self, at: usize, step: &Step, until: &str) -> Result<(), Stop> {
        let until = Until::parse(self.conversation, until)?;
        let deadline = Instant::now() + step.within_ms.map_or(WAITED_WITHIN, Duration::from_millis);
        let began = Instant::now();
        let text = step.wait.clone().unwrap_or_default();
        loop {
            let (is_so, seen) = self.is_so(&until).await?;
            if is_so {
                let ms = began.elapsed().as_millis();
                self.note(Some(at), format!("waits until {text}: {seen}, after {ms} ms"));
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.note(Some(at), format!("waits in vain until {text}: {seen}"));
                let number = at + 1;
                self.held.surprises.push(format!("step {number}: {text} is never so: {seen}"));
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    async fn is_so(&mut self, until: &Until) -> Result<(bool, String), Stop> {
        let words = |way: NoWay| way.to_string();
        match until {
            Until::Time(ms) => {
                sleep(Duration::from_millis(*ms)).await;
                Ok((true, "time has passed".into()))
            }
            Until::Moved(party) => {
                let whom = self.party(party, &Step::default())?;
                self.board.forget();
                let (node, _) = self.board.find(&whom).await.map_err(words)?;
                let has_moved = self.last_hurt != Some(node);
                if !has_moved {
                    sleep(Duration::from_millis(50)).await;
                }
                Ok((has_moved, format!("node {node}")))
            }
            Until::Ready => {
                let cluster = self.ground.cluster.ok_or("readiness needs brokers")?;
                let facts = cluster.ready().await.map_err(|error| error.to_string())?;
                self.board.forget();
                Ok((true, facts.to_string()))
            }
            Until::Stable(partition) => {
                let (topic, number) = self.conversation.partition(partition)?;
                let tp = self.ground.partition(topic, number);
                let all = whole(&mut self.board, &tp, IsolationLevel::ReadCommitted).await;
                let all = all.map_err(words)?;
                let seen = format!("{} of {}", all.last_stable_offset, all.high_watermark);
                Ok((all.is_stable(), seen))
            }
            Until::Ended(name) | Until::State(name, _) => {
                let id = self.producers.get(name).and_then(|p| p.transactional_id.clone());
                let id = id.ok_or_else(|| format!("{name} has no transactional id"))?;
                let state = progress::state(&mut self.board, &id).await.map_err(words)?;
                let now = state.unwrap_or_else(|error| error.to_string());
                let is_so = match until {
                    Until::State(_, wanted) => *wanted == now,
                    _ => progress::is_over(&now),
                };
                Ok((is_so, now))
            }
        }
    }

    async fn fault(&mut self, at: usize, fault: &str) -> Result<(), Stop> {
        let fault = Fault::parse(fault)?;
        let cluster = self.ground.cluster.filter(|cluster| cluster.is_ours());
        let cluster = cluster.ok_or("faults need brokers of our own: --broker")?;
        let party = fault.party.as_ref().unwrap_or(&Party::Hurt);
        let whom = self.party(party, &Step::default())?;
        let (node, address) = match (&whom, self.last_hurt) {
            (Whom::Node(number), _) => (NodeId(*number), self.address(cluster, *number)),
            _ => self.board.find(&whom).await.map_err(|way| way.to_string())?,
        };
        let (done, what) = match fault.deed {
            Deed::Kill => (cluster.kill(node).await, "killed"),
            Deed::Start => (cluster.start(node).await, "started"),
            Deed::Pause => (cluster.pause(node).await, "paused"),
            Deed::Resume => (cluster.resume(node).await, "resumed"),
        };
        done.map_err(|error| error.to_string())?;
        match fault.deed {
            Deed::Kill | Deed::Pause => drop(self.hurt.insert(node)),
            Deed::Start | Deed::Resume => drop(self.hurt.remove(&node)),
        }
        self.last_hurt = Some(node);
        self.board.avoid(&address, self.hurt.contains(&node));
        self.board.forget();
        // Nobody tells the address of a node that does not answer.
        self.board.know(Whom::Node(node.0), (node, address));
        self.note(Some(at), format!("node {node} is {what}"));
        Ok(())
    }

    fn address(&self, cluster: &dyn Cluster, number: i32) -> String {
        let nodes = cluster.nodes();
        let node = nodes.iter().find(|node| node.node_id.0 == number);
        node.map(ToString::to_string).unwrap_or_default()
    }

    /// Starts and resumes what is still hurt.
    async fn heal(&mut self) {
        let Some(cluster) = self.ground.cluster else { return };
        let hurt = std::mem::take(&mut self.hurt);
        for node in &hurt {
            // One of the two applies; the other is refused.
            drop(cluster.resume(*node).await);
            drop(cluster.start(*node).await);
            let address = self.address(cluster, node.0);
            self.board.avoid(&address, false);
            self.note(None, format!("node {node} is healed"));
        }
        if !hurt.is_empty() {
            drop(cluster.ready().await);
            self.board.forget();
        }
    }

    async fn read(&mut self, at: usize, step: &Step, partition: &str) -> Result<(), Stop> {
        let isolation = match step.isolation.as_deref() {
            None | Some("read_committed") => IsolationLevel::ReadCommitted,
            Some("read_uncommitted") => IsolationLevel::ReadUncommitted,
            Some(other) => return Err(format!("isolation {other}")),
        };
        let (topic, number) = self.conversation.partition(partition)?;
        let tp = self.ground.partition(topic, number);
        if let Some(from) = &step.from {
            return self.read_there(at, step, &tp, from).await;
        }
        let all = whole(&mut self.board, &tp, isolation).await.map_err(|way| way.to_string())?;
        if let Some(limits) = &step.max_bytes {
            self.read_everywhere(at, &tp, isolation, (&all, limits)).await?;
        }
        let values = all.values();
        if isolation == IsolationLevel::ReadCommitted {
            self.operations.read(partition, &all.records);
        }
        self.note_read(Some(at), partition, isolation, &all);
        if let Some(expected) = &step.values
            && *expected != values
        {
            let number = at + 1;
            let text = format!("step {number}: {partition} holds {values:?}, not {expected:?}");
            self.held.surprises.push(text);
        }
        Ok(())
    }

    /// Reads what was acknowledged where it was acknowledged.
    async fn read_there(
        &mut self,
        at: usize,
        step: &Step,
        tp: &TopicPartition,
        from: &Stated,
    ) -> Result<(), Stop> {
        let meaning = Now { talk: self, step, sequence: None };
        let from = value::stated(Some(from), 0, &meaning)?;
        let everything = IsolationLevel::ReadUncommitted;
        let count = step.values.as_ref().map_or(0, Vec::len);
        let deadline = Instant::now() + step.within_ms.map_or(WAITED_WITHIN, Duration::from_millis);
        let there = loop {
            let there = read_from(&mut self.board, tp, everything, (from, None)).await;
            let there = there.map_err(|way| way.to_string())?;
            // The high watermark of a new leader follows its replicas.
            if there.records.len() >= count || Instant::now() >= deadline {
                break there;
            }
            sleep(PAUSE).await;
        };
        let (number, partition) = (at + 1, step.read.as_deref().unwrap_or_default());
        let expected = (from..).zip(step.values.iter().flatten());
        for (offset, value) in expected {
            let found = there.records.iter().find(|(of, _)| *of == offset);
            let found = found.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
            let said = found.clone().map_or("nothing".to_owned(), |found| format!("{found:?}"));
            self.note(Some(at), format!("{partition} holds {said} at offset {offset}"));
            if found.as_ref() != Some(value) {
                let text = format!(
                    "step {number}: {partition} holds {said} at offset {offset}, where {value:?} \
                     was acknowledged"
                );
                self.held.surprises.push(text);
            }
        }
        Ok(())
    }

    /// Reads from every offset with every limit, and compares what is shown with one read of the
    /// whole.
    async fn read_everywhere(
        &mut self,
        at: usize,
        tp: &TopicPartition,
        isolation: IsolationLevel,
        (all, limits): (&Whole, &[i32]),
    ) -> Result<(), Stop> {
        let mut reads = 0;
        for from in 0..=all.last_stable_offset {
            for &bytes_max in limits {
                let from_there = (from, Some(bytes_max));
                let shown = read_from(&mut self.board, tp, isolation, from_there).await;
                let shown = shown.map_err(|way| way.to_string())?.records;
                let expected = all.records.iter().filter(|(offset, _)| *offset >= from);
                reads += 1;
                if !shown.iter().eq(expected) {
                    let offsets: Vec<i64> = shown.iter().map(|(offset, _)| *offset).collect();
                    let number = at + 1;
                    self.held.surprises.push(format!(
                        "step {number}: read from offset {from} with {bytes_max} bytes shows \
                         offsets {offsets:?}, not what one read of the whole shows"
                    ));
                }
            }
        }
        self.note(
            Some(at),
            format!("{reads} reads, from each offset with each of {limits:?} bytes"),
        );
        Ok(())
    }

    fn note_read(
        &mut self,
        at: Option<usize>,
        partition: &str,
        isolation: IsolationLevel,
        all: &super::read::Whole,
    ) {
        let records: Vec<String> = all
            .records
            .iter()
            .map(|(offset, value)| format!("{}@{offset}", String::from_utf8_lossy(value)))
            .collect();
        let level = match isolation {
            IsolationLevel::ReadCommitted => "read_committed",
            IsolationLevel::ReadUncommitted => "read_uncommitted",
        };
        self.note(
            at,
            format!(
                "{partition} {level}: [{}], stable {} of {}",
                records.join(" "),
                all.last_stable_offset,
                all.high_watermark
            ),
        );
    }

    /// Asks whether everything goes on, and reads everything back.
    async fn look_back(&mut self) -> Result<(), NoWay> {
        let left_open: BTreeSet<String> = self.open.values().cloned().collect();
        self.held.stuck =
            progress::judge(&mut self.board, self.conversation, self.ground, &left_open).await?;
        for isolation in [IsolationLevel::ReadCommitted, IsolationLevel::ReadUncommitted] {
            for (name, topic, number) in self.conversation.partitions() {
                let tp = self.ground.partition(&topic, number);
                let all = whole(&mut self.board, &tp, isolation).await?;
                if isolation == IsolationLevel::ReadCommitted {
                    self.operations.read(&name, &all.records);
                }
                self.note_read(None, &name, isolation, &all);
            }
        }
        for (group, partition) in self.operations.groups() {
            self.look_at_offset(&group, &partition).await?;
        }
        Ok(())
    }

    async fn look_at_offset(&mut self, group: &str, partition: &str) -> Result<(), NoWay> {
        let Ok((topic, number)) = self.conversation.partition(partition) else { return Ok(()) };
        let (tp, id) = (self.ground.partition(topic, number), self.ground.names.of(group));
        let deadline = Instant::now() + WAITED_WITHIN;
        let whom = Whom::Group(id.clone());
        let at = loop {
            let (_, address) = self.board.find(&whom).await?;
            let connection = self.board.connection("reader", &address).await?;
            let wanted = [tp.clone()];
            let answer = fetch_offsets(&connection, OFFSET_FETCH, &id, true, &wanted).await?;
            let answer = answer.and_then(|all| all.get(&tp).copied().unwrap_or(Ok((-1).into())));
            match answer {
                Ok(offset) => break Ok(offset.0),
                Err(error) if Instant::now() >= deadline => break Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        };
        let (may, must_not) = self.operations.offsets(group, partition);
        let (name, said) = match at {
            Err(error) => ("P8-offsets-not-atomic", format!("cannot be fetched: {error}")),
            Ok(at) => {
                self.note(None, format!("group {group} is at {at} in {partition}"));
                if may.contains(&at) {
                    return Ok(());
                }
                match must_not.contains(&at) {
                    true => ("P8-offsets-not-atomic", format!("{at}, of an aborted transaction")),
                    false => ("G3-offset-lost", at.to_string()),
                }
            }
        };
        let why = format!(
            "The offset of group {group} in {partition} is {said}. By what its clients were told \
             it is {may:?}."
        );
        self.held.offsets.push(Stuck { name, why });
        Ok(())
    }

    fn whom(&self, step: &Step, phrase: Option<&Phrase>) -> Result<Whom, Stop> {
        let to = step.to.as_deref().or(phrase.map(|phrase| phrase.to.as_str()));
        self.party(&Party::parse(to.ok_or("nobody is named")?)?, step)
    }

    fn party(&self, party: &Party, step: &Step) -> Result<Whom, Stop> {
        let or = |named: &Option<String>, own: &Option<String>, what: &str| {
            named.clone().or_else(|| own.clone()).ok_or_else(|| format!("{what} is not named"))
        };
        Ok(match party {
            Party::Bootstrap => Whom::Anyone,
            Party::Node(number) => Whom::Node(*number),
            Party::Hurt => Whom::Node(self.last_hurt.ok_or("no fault before says whom")?.0),
            Party::Leader(of) => {
                let partition = or(of, &step.partition, "the partition")?;
                let (topic, number) = self.conversation.partition(&partition)?;
                Whom::Leader(self.ground.partition(topic, number))
            }
            Party::Group(of) => {
                Whom::Group(self.ground.names.of(&or(of, &step.group, "the group")?))
            }
            Party::Transaction(of) => {
                let by = or(of, &step.by, "the producer")?;
                let producer =
                    self.producers.get(&by).ok_or_else(|| format!("no producer {by}"))?;
                match &producer.transactional_id {
                    Some(id) => Whom::Transaction(id.clone()),
                    // An idempotent producer's id may come from anybody.
                    None => Whom::Anyone,
                }
            }
        })
    }

    /// A request in a few words.
    fn words(&self, step: &Step, api: &str, version: i16, sequence: Option<i32>) -> String {
        let mut words = format!("{api} {version}");
        let mut add = |text: String| {
            words.push(' ');
            words.push_str(&text);
        };
        match step.committed {
            Some(true) => add("commit".into()),
            Some(false) => add("abort".into()),
            None => {}
        }
        if let Some(group) = &step.group {
            add(format!("group {group}"));
        }
        if let Some(partition) = &step.partition {
            add(partition.clone());
        }
        if let Some(values) = &step.values {
            add(values.join(" "));
        }
        if let Some(offset) = step.offset {
            add(format!("offset {offset}"));
        }
        let by = step.by.as_ref().and_then(|by| self.producers.get(by));
        if let Some(epoch) = by.and_then(|producer| producer.epoch) {
            add(format!("epoch {epoch}"));
        }
        if let Some(sequence) = sequence.filter(|sequence| *sequence >= 0) {
            add(format!("sequence {sequence}"));
        }
        if let Some(transaction) = &step.transaction {
            add(format!("({transaction})"));
        }
        words
    }

    fn at_ns(&self) -> u64 {
        self.board.conduct.clock.now_ns().saturating_sub(self.began_ns)
    }

    fn line(&self, at: usize, step: &Step, connection: &str, node: NodeId, said: &str) -> Line {
        Line {
            at_ns: self.at_ns(),
            step: Some(at + 1),
            who: step.by.clone().unwrap_or_default(),
            connection: connection.to_owned(),
            node: node.0,
            arrow: Arrow::Sent,
            said: said.to_owned(),
            came: String::new(),
        }
    }

    fn note(&mut self, at: Option<usize>, text: String) {
        let line = Line {
            at_ns: self.at_ns(),
            step: at.map(|at| at + 1),
            who: String::new(),
            connection: String::new(),
            node: -1,
            arrow: Arrow::Note,
            said: text,
            came: String::new(),
        };
        self.held.lines.push(line);
    }
}

/// What references stand for at a moment of a conversation.
struct Now<'t, 'c, 'g> {
    talk: &'t Talk<'c, 'g>,
    step: &'t Step,
    sequence: Option<i32>,
}

impl Now<'_, '_, '_> {
    fn partition(&self) -> Result<(String, i32), String> {
        let text = self.step.partition.as_deref().ok_or("the step names no partition")?;
        let (topic, number) = self.talk.conversation.partition(text)?;
        Ok((self.talk.ground.names.of(topic), number))
    }

    fn of_producer(&self, producer: &Producer, field: &str) -> Result<Value, String> {
        let unknown = || format!("its {field} is not known: InitProducerId comes first");
        match field {
            "id" => producer.id.map(Value::Int).ok_or_else(unknown),
            "epoch" => producer.epoch.map(Value::from).ok_or_else(unknown),
            "transactional_id" => Ok(producer.transactional_id.clone().into()),
            other => Err(format!("a producer has id, epoch and transactional_id, no {other}")),
        }
    }

    fn batch(&self) -> Result<Value, String> {
        let by = self.step.by.as_ref().and_then(|by| self.talk.producers.get(by));
        let own_id = by.and_then(|producer| producer.id).unwrap_or(-1);
        let own_epoch = by.and_then(|producer| producer.epoch).map_or(-1, i64::from);
        let said = BatchSaid {
            producer_id: value::stated(self.step.producer_id.as_ref(), own_id, self)?,
            producer_epoch: value::stated(self.step.producer_epoch.as_ref(), own_epoch, self)?
                as i16,
            base_sequence: self.sequence.unwrap_or(-1),
            transactional: by.is_some_and(|producer| producer.transactional_id.is_some()),
            values: self.step.values.as_deref().unwrap_or_default(),
            unix_ms: self.talk.board.conduct.clock.unix_ms(),
        };
        Ok(Value::Bytes(value::records(&said)))
    }
}

impl Meaning for Now<'_, '_, '_> {
    fn of(&self, reference: &str) -> Result<Value, String> {
        let missing = |what: &str| format!("${reference}: the step says no {what}");
        let (first, rest) = reference.split_once('.').unwrap_or((reference, ""));
        let step = self.step;
        match (first, rest) {
            ("by", "id") if step.producer_id.is_some() => {
                value::stated(step.producer_id.as_ref(), -1, self).map(Value::Int)
            }
            ("by", "epoch") if step.producer_epoch.is_some() => {
                value::stated(step.producer_epoch.as_ref(), -1, self).map(Value::Int)
            }
            ("by", field) => {
                let by = step.by.as_ref().and_then(|by| self.talk.producers.get(by));
                self.of_producer(by.ok_or_else(|| missing("by"))?, field)
            }
            ("topic", "") => Ok(self.partition()?.0.into()),
            ("topic", name) => Ok(self.talk.ground.names.of(name).into()),
            ("partition", "") => Ok(self.partition()?.1.into()),
            ("records", "") => self.batch(),
            ("group", "") => {
                let group = step.group.as_ref().ok_or_else(|| missing("group"))?;
                Ok(self.talk.ground.names.of(group).into())
            }
            ("group", name) => Ok(self.talk.ground.names.of(name).into()),
            ("offset", "") => step.offset.map(Value::Int).ok_or_else(|| missing("offset")),
            ("committed", "") => {
                step.committed.map(Value::Bool).ok_or_else(|| missing("committed"))
            }
            (name, field) => {
                if let Some(producer) = self.talk.producers.get(name) {
                    return self.of_producer(producer, field);
                }
                let spoken = self.talk.spoken.get(name);
                let came = spoken.and_then(|spoken| spoken.came.as_ref());
                match came {
                    Some(Came::Answer(fields)) => fields
                        .at(field)
                        .cloned()
                        .ok_or_else(|| format!("the answer to {name} has no {field}")),
                    _ => Err(format!("${reference}: {name} was not answered")),
                }
            }
        }
    }
}

/// A whole frame, as a connection would send it.
fn whole_frame(
    frame: &Frame,
    correlation_id: CorrelationId,
    client_id: &Option<Arc<str>>,
) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let client_id = client_id.as_deref().map(str::as_bytes);
    let (api_key, api_version) = (frame.api_key, frame.api_version);
    RequestHeader { api_key, api_version, correlation_id, client_id }.encode(&mut out);
    out.put_slice(&frame.body);
    let length = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// An answer as a field tree.
fn decoded(heard: Result<Bytes, Fate>, frame: &Frame) -> Came {
    let body = match heard {
        Ok(body) => body,
        Err(fate) => return Came::Nothing(fate),
    };
    if !frame.answered {
        return Came::Answer(Fields::new());
    }
    let Some(layout) = schema::layout(frame.api_key, Direction::Response, frame.api_version) else {
        return Came::Answer(Fields::new());
    };
    let decoded = layout.decode(&body, Limits::default());
    match decoded.walked.clone().complete() {
        Ok(()) => Came::Answer(decoded.fields),
        Err(error) => Came::Nothing(Fate::Broken(Rubbish::Body(error))),
    }
}

/// Whether a Produce asks for no answer: its `acks` are 0.
fn body_asks_nothing(body: &[u8], version: i16) -> bool {
    let layout = schema::layout(ApiKey::PRODUCE, Direction::Request, version);
    let decoded = layout.map(|layout| layout.decode(body, Limits::default()));
    decoded.is_some_and(|decoded| decoded.fields.field("acks") == Some(&Value::Int(0)))
}

/// The producer epoch an EndTxn names.
fn epoch_in(frame: &Frame) -> Option<i16> {
    let layout = schema::layout(frame.api_key, Direction::Request, frame.api_version)?;
    let decoded = layout.decode(&frame.body, Limits::default());
    i16::try_from(decoded.fields.field("producer_epoch")?.as_int()?).ok()
}

/// The style a conversation is held in, where nobody says which: the newest it has that the broker
/// serves.
#[must_use]
pub fn style_for(conversation: &Conversation, is_tv2: bool) -> Style {
    let newest = conversation.styles.contains(&Style::New) && is_tv2;
    if newest { Style::New } else { conversation.styles[0] }
}
