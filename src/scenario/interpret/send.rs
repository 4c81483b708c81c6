//! Requests on their way: said, held back, said again, let go, awaited.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::header::RequestHeader;
use kafka_wire::ids::{CorrelationId, NodeId};
use kafka_wire::schema::{self, Direction, Fields, Limits, Value};
use kafka_wire::{ApiKey, ErrorCode};
use tokio::time::{Instant, sleep, timeout};

use super::meaning::Now;
use super::talk::{Spoken, Stop, Talk};
use super::{PAUSE, PAUSE_MAX, RETRIED_WITHIN};
use crate::client::connection::{Pending, Rubbish};
use crate::client::{Fate, Frame};
use crate::scenario::answer::Came;
use crate::scenario::chart::{Arrow, Line};
use crate::scenario::conversation::Step;
use crate::scenario::phrase::{self, Phrase};
use crate::scenario::switchboard::NoWay;
use crate::scenario::value;

impl Talk<'_, '_> {
    /// Says a request; answers what came of it where its client heard.
    pub(super) async fn send(
        &mut self,
        at: usize,
        step: &Step,
        api: &str,
    ) -> Result<Option<Came>, Stop> {
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

    pub(super) fn is_to_be_retried(
        &mut self,
        step: &Step,
        phrase: Option<&Phrase>,
        came: &Came,
    ) -> bool {
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
    pub(super) fn speak(
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
    pub(super) async fn convey(
        &mut self,
        at: usize,
        step: &Step,
        mut spoken: Spoken,
    ) -> Result<Option<Came>, Stop> {
        let name = step.on.as_deref().unwrap_or("main");
        let (node, address) = self.board.find(&spoken.whom).await.map_err(|way| way.to_string())?;
        let correlation = CorrelationId(self.board.correlation());
        let line = self.line(at, step, name, node, &spoken.words);
        let connection = match step.direct {
            true => self.board.direct(name, &address).await,
            false => self.board.connection(name, &address).await,
        };
        let connection = match connection {
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

    pub(super) async fn hear(&self, step: &Step, mut pending: Pending, frame: &Frame) -> Came {
        let within = step.within_ms.map(Duration::from_millis);
        let heard = match within {
            None => pending.wait().await,
            Some(within) => timeout(within, pending.wait()).await.unwrap_or(Err(Fate::TimedOut)),
        };
        decoded(heard.map(|response| response.body), frame)
    }

    pub(super) async fn again(&mut self, at: usize, step: &Step, name: &str) -> Result<(), Stop> {
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

    pub(super) async fn release(&mut self, at: usize, step: &Step, name: &str) -> Result<(), Stop> {
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

    pub(super) async fn answer_of(
        &mut self,
        at: usize,
        step: &Step,
        name: &str,
    ) -> Result<(), Stop> {
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
    pub(super) fn never_awaited(&mut self) {
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
