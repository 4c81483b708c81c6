//! Reads a conversation's file.
//!
//! What the types cannot say is checked then, and an error names file, line, column and what was
//! expected.
//!
//! Not checked: that the steps make sense together. A client may say anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;

use super::acts::Act;
use super::conversation::{BadConversation, Column, Conversation, Reaction, Step, Style, one};
use super::{network, phrase};

/// The file with the places of what is checked after reading.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    title: String,
    proves: String,
    source: String,
    #[serde(default = "old_style")]
    styles: Spanned<Vec<Style>>,
    #[serde(default)]
    client: Reaction,
    #[serde(default = "one")]
    nodes: u16,
    steps: Vec<Spanned<Step>>,
    #[serde(default)]
    topics: BTreeMap<String, Spanned<i32>>,
    #[serde(default)]
    producers: BTreeMap<String, String>,
    #[serde(default)]
    kafka: BTreeMap<String, String>,
    #[serde(default)]
    programs: BTreeMap<String, Spanned<Vec<String>>>,
    #[serde(default)]
    with: BTreeMap<String, String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    expected: BTreeMap<Column, Vec<String>>,
}

fn old_style() -> Spanned<Vec<Style>> {
    Spanned::new(0..0, vec![Style::Old])
}

const NAME: &str = "a name begins with a letter or digit and has letters, digits, - _ and . only";

/// Whether a text can name a conversation, a program or a file: it stays in its folder.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

impl Conversation {
    /// Reads a conversation; `file` is named in errors.
    ///
    /// # Errors
    /// Where it is not TOML, has keys or values it cannot have, or a step says nothing that can be
    /// said.
    pub fn parse(file: &str, text: &str) -> Result<Self, BadConversation> {
        let bad = |byte_offset: usize, reason: String| {
            let before = &text[..byte_offset.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            BadConversation { file: file.to_owned(), line, column, reason }
        };
        let read: File = toml::from_str(text).map_err(|error| {
            bad(error.span().map_or(0, |span| span.start), error.message().trim().to_owned())
        })?;
        if read.styles.get_ref().is_empty() {
            return Err(bad(read.styles.span().start, "expected at least one style".into()));
        }
        if let Some((name, count)) =
            read.topics.iter().find(|(_, n)| !(1..=100).contains(n.get_ref()))
        {
            let reason =
                format!("topic {name} has {} partitions: expected 1 to 100", count.get_ref());
            return Err(bad(count.span().start, reason));
        }
        if !is_name(read.name.get_ref()) {
            return Err(bad(read.name.span().start, NAME.to_owned()));
        }
        let (places, steps): (Vec<usize>, Vec<Step>) =
            read.steps.into_iter().map(|step| (step.span().start, step.into_inner())).unzip();
        let conversation = Self {
            name: read.name.into_inner(),
            title: read.title,
            proves: read.proves,
            source: read.source,
            styles: read.styles.into_inner(),
            client: read.client,
            nodes: read.nodes,
            steps,
            topics: read.topics.into_iter().map(|(k, v)| (k, v.into_inner())).collect(),
            producers: read.producers,
            kafka: read.kafka,
            programs: read.programs.iter().map(|(k, v)| (k.clone(), v.get_ref().clone())).collect(),
            with: read.with,
            files: read.files,
            expected: read.expected,
        };
        for name in conversation.files.keys().chain(conversation.programs.keys()) {
            if !is_name(name) {
                return Err(bad(0, format!("{name}: {NAME}")));
            }
        }
        for (name, command) in &read.programs {
            network::check_program(&conversation, command.get_ref())
                .map_err(|reason| bad(command.span().start, format!("program {name}: {reason}")))?;
        }
        conversation.check().map_err(|(step, reason)| {
            bad(places.get(step).copied().unwrap_or(0), format!("step {}: {reason}", step + 1))
        })?;
        Ok(conversation)
    }

    /// Checks every step; the error names the step by its place.
    fn check(&self) -> Result<(), (usize, String)> {
        let mut named: BTreeSet<&str> = BTreeSet::new();
        let mut held: BTreeMap<&str, usize> = BTreeMap::new();
        let mut rules: BTreeSet<&str> = BTreeSet::new();
        let mut running: BTreeSet<&str> = BTreeSet::new();
        for (at, step) in self.steps.iter().enumerate() {
            let wrong = |reason: String| (at, reason);
            let act = step.act().map_err(wrong)?;
            if let Some(by) = &step.by
                && !self.producers.contains_key(by)
            {
                return Err(wrong(format!("no producer {by} under [producers]")));
            }
            if let Some(partition) = &step.partition {
                self.partition(partition).map_err(wrong)?;
            }
            match act {
                Act::Send(api) => {
                    for &style in self.styles.iter().filter(|style| step.is_in(**style)) {
                        phrase::check(self, step, api, style).map_err(wrong)?;
                    }
                }
                Act::Rule(text) => {
                    network::check_rule(self, text).map_err(wrong)?;
                    let name = step.name.as_deref().unwrap_or_default();
                    if !network::is_rule_name(name) || !rules.insert(name) {
                        return Err(wrong(
                            "a rule needs a name of its own, in letters, digits and -: as = \"…\""
                                .into(),
                        ));
                    }
                }
                Act::Lift(name) if !rules.remove(name) => {
                    return Err(wrong(format!("no rule is called {name} at this step")));
                }
                Act::Run(name) => {
                    if !self.programs.contains_key(name) {
                        return Err(wrong(format!("no program {name} under [programs]")));
                    }
                    if step.unawaited {
                        running.insert(name);
                    }
                }
                Act::Await(name) if running.remove(name) => {}
                Act::Again(name) | Act::Await(name) if !named.contains(name) => {
                    return Err(wrong(format!("no earlier step is called {name}")));
                }
                Act::Release(name) if held.remove(name).is_none() => {
                    return Err(wrong(format!("no earlier step holds {name}")));
                }
                Act::Read(partition) => drop(self.partition(partition).map_err(wrong)?),
                Act::Wait(until) => drop(super::steps::Until::parse(self, until).map_err(wrong)?),
                Act::Fault(fault) => drop(super::steps::Fault::parse(fault).map_err(wrong)?),
                _ => {}
            }
            if let Some(to) = &step.to {
                super::switchboard::Party::parse(to).map_err(wrong)?;
            }
            if let Some(name) = step.name.as_ref().filter(|_| step.rule.is_none()) {
                named.insert(name);
            }
            if step.hold {
                let name = step.name.as_deref().ok_or_else(|| {
                    wrong("a request that is held needs a name: as = \"…\"".into())
                })?;
                held.insert(name, at);
            }
        }
        self.check_values()
    }

    /// Values must tell records apart.
    fn check_values(&self) -> Result<(), (usize, String)> {
        for &style in &self.styles {
            let mut sent = BTreeSet::new();
            for (at, step) in self.steps.iter().enumerate() {
                let is_send = step.send.is_some() && step.is_in(style);
                let (true, Some(partition), Some(values)) =
                    (is_send, &step.partition, &step.values)
                else {
                    continue;
                };
                for value in values {
                    if !sent.insert((partition, value)) {
                        let text = format!(
                            "{value:?} is sent to {partition} twice: use again, or another value"
                        );
                        return Err((at, text));
                    }
                }
            }
        }
        Ok(())
    }
}
