//! What clients learn from the answers they heard, and what careful ones do about others.

use kafka_wire::ApiKey;
use kafka_wire::schema::{self, Direction, Limits};

use super::meaning::Now;
use super::talk::{Spoken, Stop, Talk};
use crate::client::{Fate, Frame};
use crate::history::outcome::{Attempt, End};
use crate::scenario::answer::Came;
use crate::scenario::conversation::{Expect, Reaction, Step};
use crate::scenario::phrase::{self, Remedy};
use crate::scenario::progress::{self, Stuck};
use crate::scenario::value::{self};

impl Talk<'_, '_> {
    /// Tells the operations what a client knows of an attempt.
    pub(super) fn told(&mut self, spoken: &Spoken, step: &Step, came: &Came) {
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
    pub(super) fn keep(&mut self, step: &Step, mut spoken: Spoken, came: Option<&Came>) {
        if let Some(name) = &step.name {
            spoken.came = came.cloned();
            self.spoken.insert(name.clone(), spoken);
        }
    }

    /// The transaction of a step begins here, as its client means it.
    pub(super) fn begins(&mut self, at: usize, step: &Step) {
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
    pub(super) fn sequence(&mut self, step: &Step, api: &str) -> Result<Option<i32>, Stop> {
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
    pub(super) fn learn(&mut self, step: &Step, api: &str, came: &Came, sequence: Option<i32>) {
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
    pub(super) fn judge_answer(&mut self, at: usize, step: &Step, came: &Came) {
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
        let somebody_is_hurt = self.last_hurt.is_some() || self.network_is_hurt;
        if *came == Came::Nothing(Fate::TimedOut) && !somebody_is_hurt {
            let why = format!(
                "Step {number}: {what} got no answer in time, though its connection is alive and \
                 nobody hurt the broker."
            );
            self.never.push(Stuck { name: progress::UNANSWERED, why });
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
    pub(super) async fn react(
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
    pub(super) async fn begin_anew(&mut self, at: usize, step: &Step) -> Result<(), Stop> {
        let by = step.by.as_deref();
        for remedy in phrase::remedy_steps(Remedy::Restart, self.ground.style, by, None) {
            if let Some(api) = remedy.send.clone() {
                self.send(at, &remedy, &api).await?;
            }
        }
        Ok(())
    }

    /// Whether another producer of the conversation has the same transactional id.
    pub(super) fn is_shared(&self, step: &Step) -> bool {
        let id = |by: &String| self.producers.get(by).and_then(|p| p.transactional_id.clone());
        let own = step.by.as_ref().and_then(id);
        let of = |name: &&String| Some(*name) != step.by.as_ref() && id(name) == own;
        own.is_some() && self.producers.keys().filter(of).count() > 0
    }
}

/// The producer epoch an EndTxn names.
fn epoch_in(frame: &Frame) -> Option<i16> {
    let layout = schema::layout(frame.api_key, Direction::Request, frame.api_version)?;
    let decoded = layout.decode(&frame.body, Limits::default());
    i16::try_from(decoded.fields.field("producer_epoch")?.as_int()?).ok()
}
