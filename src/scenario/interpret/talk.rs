//! A conversation while it is held: who is in it, what was said, and which step comes next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::ids::{CorrelationId, NodeId};

use super::Held;
use crate::client::connection::Pending;
use crate::client::{Connection, Frame};
use crate::scenario::acts::Act;
use crate::scenario::answer::Came;
use crate::scenario::chart::{Arrow, Line};
use crate::scenario::conversation::{Conversation, Step};
use crate::scenario::ground::Ground;
use crate::scenario::operations::Operations;
use crate::scenario::phrase::Phrase;
use crate::scenario::program::Program;
use crate::scenario::progress::Stuck;
use crate::scenario::steps::Deed;
use crate::scenario::switchboard::{Party, Switchboard, Whom};

/// A producer as its client knows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Producer {
    pub(super) transactional_id: Option<String>,
    pub(super) id: Option<i64>,
    pub(super) epoch: Option<i16>,
    /// By partition: producer id and epoch, and the sequence that comes next.
    pub(super) next: BTreeMap<String, (i64, i16, i32)>,
    pub(super) stopped: bool,
}

/// A request that was said, for those who speak of it later.
pub(super) struct Spoken {
    pub(super) step: usize,
    pub(super) frame: Frame,
    pub(super) whom: Whom,
    pub(super) words: String,
    pub(super) held: Option<(Arc<Connection>, CorrelationId, Bytes)>,
    pub(super) pending: Option<(Pending, i32)>,
    pub(super) came: Option<Came>,
}

/// A conversation while it is held.
pub(super) struct Talk<'c, 'g> {
    pub(super) conversation: &'c Conversation,
    pub(super) ground: &'c Ground<'g>,
    pub(super) board: Switchboard,
    pub(super) operations: Operations<'c>,
    pub(super) producers: BTreeMap<String, Producer>,
    pub(super) spoken: BTreeMap<String, Spoken>,
    /// Transactions whose rest is left out.
    pub(super) abandoned: BTreeSet<String>,
    /// Transactions their clients have open, with their transactional ids.
    pub(super) open: BTreeMap<String, String>,
    pub(super) over: BTreeSet<String>,
    /// Nodes that something is the matter with, in the order in which it was done.
    pub(super) hurt: Vec<(NodeId, Deed)>,
    pub(super) last_hurt: Option<NodeId>,
    /// Whether there was a rule that may keep answers away.
    pub(super) network_is_hurt: bool,
    /// Programs that run.
    pub(super) programs: BTreeMap<String, Program>,
    pub(super) began_ns: u64,
    pub(super) never: Vec<Stuck>,
    pub(super) held: Held,
}

/// Why a step could not be taken.
pub(super) type Stop = String;

impl<'c, 'g> Talk<'c, 'g> {
    pub(super) fn new(
        conversation: &'c Conversation,
        ground: &'c Ground<'g>,
        board: Switchboard,
    ) -> Self {
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
            hurt: Vec::new(),
            last_hurt: None,
            network_is_hurt: false,
            programs: BTreeMap::new(),
            began_ns: board.conduct.clock.now_ns(),
            board,
            never: Vec::new(),
            held: Held::default(),
        }
    }

    pub(super) async fn say_everything(&mut self) -> Result<(), Stop> {
        for (at, step) in self.conversation.steps.iter().enumerate() {
            if !step.is_in(self.ground.style) {
                continue;
            }
            let said = self.step(at, step).await;
            self.listen();
            said.map_err(|why| format!("step {}: {why}", at + 1))?;
        }
        Ok(())
    }

    pub(super) async fn step(&mut self, at: usize, step: &Step) -> Result<(), Stop> {
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
            Act::Await(name) if self.programs.contains_key(name) => {
                self.end_of(at, step, name).await
            }
            Act::Await(name) => self.answer_of(at, step, name).await,
            Act::Close(name) => {
                let closed = self.board.close(name);
                self.note(Some(at), format!("{closed} connections named {name} are closed"));
                Ok(())
            }
            Act::Wait(until) => self.wait(at, step, until).await,
            Act::Fault(fault) => self.fault(at, fault).await,
            Act::Read(partition) => self.read(at, step, partition).await,
            Act::Rule(text) => self.rule(at, step, text).await,
            Act::Lift(name) => self.lift(at, name).await,
            Act::Run(name) => self.run(at, step, name).await,
        }
    }

    /// Whether the client of a step has given its transaction up, or has stopped.
    pub(super) fn is_left_out(&self, step: &Step) -> bool {
        let abandoned = step.transaction.as_ref().is_some_and(|t| self.abandoned.contains(t));
        let by = step.by.as_ref().and_then(|by| self.producers.get(by));
        abandoned || by.is_some_and(|producer| producer.stopped)
    }
}

impl Talk<'_, '_> {
    pub(super) fn whom(&self, step: &Step, phrase: Option<&Phrase>) -> Result<Whom, Stop> {
        let to = step.to.as_deref().or(phrase.map(|phrase| phrase.to.as_str()));
        self.party(&Party::parse(to.ok_or("nobody is named")?)?, step)
    }

    pub(super) fn party(&self, party: &Party, step: &Step) -> Result<Whom, Stop> {
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
    pub(super) fn words(
        &self,
        step: &Step,
        api: &str,
        version: i16,
        sequence: Option<i32>,
    ) -> String {
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

    pub(super) fn at_ns(&self) -> u64 {
        self.board.conduct.clock.now_ns().saturating_sub(self.began_ns)
    }

    pub(super) fn line(
        &self,
        at: usize,
        step: &Step,
        connection: &str,
        node: NodeId,
        said: &str,
    ) -> Line {
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

    pub(super) fn note(&mut self, at: Option<usize>, text: String) {
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
