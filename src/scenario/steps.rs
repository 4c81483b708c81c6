//! The small languages inside steps, and a conversation written back as TOML.

use std::fmt::Write as _;

use super::conversation::{Conversation, Step};
use super::switchboard::Party;

/// What a step waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Until {
    /// The coordinator says that a producer's transaction has ended, markers and all.
    Ended(String),
    /// The coordinator says that it is in that state.
    State(String, String),
    /// Nothing of a partition waits for a transaction.
    Stable(String),
    /// Somebody else leads or coordinates than the node the last fault was done to.
    Moved(Party),
    /// Every node serves.
    Ready,
    /// Milliseconds.
    Time(u64),
    /// A rule has fired.
    Fired(String),
    /// A program has said a line.
    Says(String, String),
}

impl Until {
    /// Reads `ended p`, `state p Ongoing`, `stable t-0`, `moved leader t-0`, `ready`, `fired RULE`,
    /// `says PROGRAM LINE` or `time 100`.
    ///
    /// # Errors
    /// Where it is none of these.
    pub(super) fn parse(conversation: &Conversation, text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(' ').collect();
        let producer = |name: &str| match conversation.producers.contains_key(name) {
            true => Ok(name.to_owned()),
            false => Err(format!("no producer {name} under [producers]")),
        };
        match words[..] {
            ["ended", name] => Ok(Self::Ended(producer(name)?)),
            ["state", name, state] => Ok(Self::State(producer(name)?, state.to_owned())),
            ["stable", partition] => {
                conversation.partition(partition)?;
                Ok(Self::Stable(partition.to_owned()))
            }
            ["moved", ..] => {
                let party = Party::parse(text.trim_start_matches("moved "))?;
                Ok(Self::Moved(party))
            }
            ["ready"] => Ok(Self::Ready),
            ["fired", name] => Ok(Self::Fired(name.to_owned())),
            ["says", program, _, ..] => match conversation.programs.contains_key(program) {
                true => {
                    let line = text.splitn(3, ' ').nth(2).unwrap_or_default();
                    Ok(Self::Says(program.to_owned(), line.to_owned()))
                }
                false => Err(format!("no program {program} under [programs]")),
            },
            ["time", ms] => match ms.parse() {
                Ok(ms) if ms <= 60_000 => Ok(Self::Time(ms)),
                _ => Err(format!("time {ms}: expected milliseconds, at most 60000")),
            },
            _ => Err(format!(
                "{text}: expected ended p, state p Ongoing, stable t-0, moved leader t-0, ready, \
                 fired RULE, says PROGRAM LINE or time 100"
            )),
        }
    }
}

/// What a step does to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Ends it at once.
    Kill,
    /// Starts it again.
    Start,
    /// Freezes it.
    Pause,
    /// Lets it go on.
    Resume,
}

/// A deed and whom it is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// What.
    pub(super) deed: Deed,
    /// Whom; absent where it is the node that was killed or paused last.
    pub(super) party: Option<Party>,
}

impl Fault {
    /// Reads `kill leader t-0`; without a party it is the node that was killed or paused last.
    ///
    /// # Errors
    /// Where it is no fault.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (deed, of) = text.split_once(' ').map_or((text, None), |(deed, of)| (deed, Some(of)));
        let deed = match deed {
            "kill" => Deed::Kill,
            "start" => Deed::Start,
            "pause" => Deed::Pause,
            "resume" => Deed::Resume,
            other => return Err(format!("{other}: expected kill, start, pause or resume")),
        };
        Ok(Self { deed, party: of.map(Party::parse).transpose()? })
    }
}

/// Writes a conversation as people write one: a step a line.
pub(super) fn to_toml(conversation: &Conversation) -> String {
    let mut out = String::new();
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut line = |name: &str, value: String| {
        writeln!(out, "{name} = {value}").expect("a String takes every write");
    };
    line("name", text(&conversation.name));
    line("title", text(&conversation.title));
    line("proves", text(&conversation.proves));
    line("source", text(&conversation.source));
    let styles: Vec<String> = conversation.styles.iter().map(|style| text(style.name())).collect();
    line("styles", format!("[{}]", styles.join(", ")));
    if conversation.client == super::conversation::Reaction::Careful {
        line("client", text("careful"));
    }
    if conversation.nodes != 1 {
        line("nodes", conversation.nodes.to_string());
    }
    out.push_str("\nsteps = [\n");
    for step in &conversation.steps {
        writeln!(out, "  {},", inline(step)).expect("a String takes every write");
    }
    out.push_str("]\n\n[topics]\n");
    for (name, count) in &conversation.topics {
        writeln!(out, "{name} = {count}").expect("a String takes every write");
    }
    if !conversation.producers.is_empty() {
        out.push_str("\n[producers]\n");
    }
    for (name, id) in &conversation.producers {
        writeln!(out, "{name} = {}", text(id)).expect("a String takes every write");
    }
    if !conversation.kafka.is_empty() {
        out.push_str("\n[kafka]\n");
    }
    for (name, value) in &conversation.kafka {
        writeln!(out, "{} = {}", text(name), text(value)).expect("a String takes every write");
    }
    if !conversation.programs.is_empty() {
        out.push_str("\n[programs]\n");
    }
    for (name, command) in &conversation.programs {
        let words: Vec<String> = command.iter().map(|word| text(word)).collect();
        writeln!(out, "{} = [{}]", text(name), words.join(", "))
            .expect("a String takes every write");
    }
    for (table, entries) in [("with", &conversation.with), ("files", &conversation.files)] {
        if !entries.is_empty() {
            writeln!(out, "\n[{table}]").expect("a String takes every write");
        }
        for (name, value) in entries {
            writeln!(out, "{} = {}", text(name), text(value)).expect("a String takes every write");
        }
    }
    if !conversation.expected.is_empty() {
        out.push_str("\n[expected]\n");
    }
    for (column, names) in &conversation.expected {
        let names: Vec<String> = names.iter().map(|name| text(name)).collect();
        writeln!(out, "{} = [{}]", column.name(), names.join(", "))
            .expect("a String takes every write");
    }
    out
}

/// A step as an inline table.
pub(super) fn inline(step: &Step) -> String {
    let value = toml::Value::try_from(step).expect("a step has only what TOML can express");
    value.to_string()
}
