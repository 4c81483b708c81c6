//! A conversation as its TOML file says it.
//!
//! The structs are the format, one field a key; `docs/SCENARIOS.md` explains it by example.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// Which requests the clients of a conversation speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// KIP-98: partitions are added by request, the epoch stays (EndTxn ≤ 4, Produce ≤ 11).
    Old,
    /// KIP-890: the first write adds the partition, each end raises the epoch (EndTxn 5).
    New,
}

impl Style {
    /// Its name in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

/// Which brokers and clients an expectation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    /// Old style; the broker checks nothing before it appends (before 3.6).
    Unverified,
    /// Old style; a leader asks the coordinator before it appends (KIP-890, from 3.6).
    Verified,
    /// Old style on a broker whose `transaction.version` is 2.
    OldOnTv2,
    /// New style, `transaction.version` 2 (from 4.0).
    Tv2,
}

impl Column {
    /// All, as tables show them.
    pub const ALL: [Self; 4] = [Self::Unverified, Self::Verified, Self::OldOnTv2, Self::Tv2];

    /// The name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Verified => "verified",
            Self::OldOnTv2 => "old_on_tv2",
            Self::Tv2 => "tv2",
        }
    }
}

/// One conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// What it is called on the command line.
    pub name: String,
    /// In a few words.
    pub title: String,
    /// What it proves, in a few sentences.
    pub proves: String,
    /// The KIP or issue it comes from.
    pub source: String,
    /// The styles it can be held in; the first is the one to begin with.
    pub styles: Vec<Style>,
    /// How clients react to what they did not expect.
    #[serde(default, skip_serializing_if = "is_default")]
    pub client: Reaction,
    /// Nodes the cluster must have.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub nodes: u16,
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// Topics with their numbers of partitions.
    pub topics: BTreeMap<String, i32>,
    /// Producers with their transactional ids; an empty one is an idempotent producer's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub producers: BTreeMap<String, String>,
    /// Properties of the Kafka brokers that are started for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kafka: BTreeMap<String, String>,
    /// Programs of other people, with their commands: a word of a command may have `{bootstrap}`,
    /// `{files}`, names of this run and words of `with`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, Vec<String>>,
    /// Words that commands may have, and what they are unless the command line says otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, String>,
    /// Files that programs find in `{files}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Anomalies expected, by column. A column that is not there is not known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expected: BTreeMap<Column, Vec<String>>,
}

pub(super) fn one() -> u16 {
    1
}

fn is_one(n: &u16) -> bool {
    *n == 1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How clients react to an answer nobody expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reaction {
    /// They do not: every step is said as it stands.
    #[default]
    Exact,
    /// As Kafka's own client: retry, abort, or begin anew, by the table of phrases.
    Careful,
}

/// One step. Exactly one of the first eleven says what it does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Sends a request of that API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// Sends a request again that an earlier step named, byte for byte but its correlation id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
    /// Lets a held request arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Awaits the answer to a request that was not awaited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#await: Option<String>,
    /// Closes every connection of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<String>,
    /// Waits until something is so: `ended p`, `state p Ongoing`, `stable t-0`, `moved leader t-0`,
    /// `ready`, `time 100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
    /// Does something to a broker: `kill`, `start`, `pause` or `resume`, and to whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Reads a whole partition: `t-0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
    /// Gives the proxy a rule; `as` says how it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Takes the rule of that name away, which ends what it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lift: Option<String>,
    /// Runs a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,

    /// Only in that style.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style: Option<Style>,
    /// The producer it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The transaction its client means it for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// A name for the request and its answer, for later steps.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which version is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Which connection it goes over; opened when first named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Where that leads: `bootstrap`, `leader t-0`, `transaction p`, `group g`, `node 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// A partition: `t-0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Records to send, or that a read must find.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// The sequence of the first record; without it, the producer's next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Stated>,
    /// The producer id to state; without it, the producer's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer_id: Option<Stated>,
    /// The producer epoch to state; without it, the producer's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer_epoch: Option<Stated>,
    /// Whether an end is a commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<bool>,
    /// A group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// An offset to commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Fields to say in place of the phrase's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<toml::Table>,
    /// The body, in hexadecimal, in place of any fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// `read_committed` (which is the default) or `read_uncommitted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,

    /// Where a read begins: an offset, or a reference to one that was acknowledged. `values` are
    /// what must be there then, whatever comes behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Stated>,
    /// Reads once from every offset with each of these limits of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Vec<i32>>,

    /// All but the last byte of the frame is sent; `release` sends that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// The broker answers and its client never hears it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lose: bool,
    /// The next step does not wait for the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unawaited: bool,
    /// It goes to the broker itself, past the proxy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// What a program must have said, in this order, when it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<Vec<String>>,
    /// The error codes its answer may have, or the exit codes of a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// What fields of the answer must be, by path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<toml::Table>,
    /// Error codes at which it is sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<Vec<i16>>,
    /// How long it may go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// Why, for whoever reads the chart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A version, or one for each style.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Version {
    /// Whatever the style.
    Always(i16),
    /// One for each.
    Each {
        /// In the old style.
        old: i16,
        /// In the new style.
        new: i16,
    },
}

impl Version {
    /// The version in a style.
    #[must_use]
    pub fn of(self, style: Style) -> i16 {
        match (self, style) {
            (Self::Always(version), _) => version,
            (Self::Each { old, .. }, Style::Old) => old,
            (Self::Each { new, .. }, Style::New) => new,
        }
    }
}

/// A number, or a reference to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stated {
    /// A number.
    Number(i64),
    /// A reference such as `$init.producer_epoch`.
    Reference(String),
}

/// Error codes, or those of each column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Expect {
    /// One.
    One(i16),
    /// Any of these.
    Any(Vec<i16>),
    /// By column; one that is not there expects nothing.
    Columns(BTreeMap<Column, Codes>),
}

/// One error code or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Codes {
    /// One.
    One(i16),
    /// Any of these.
    Any(Vec<i16>),
}

impl Expect {
    /// Whether a code is expected in a column.
    #[must_use]
    pub fn allows(&self, column: Column, code: i16) -> bool {
        match self {
            Self::One(one) => *one == code,
            Self::Any(any) => any.contains(&code),
            Self::Columns(columns) => match columns.get(&column) {
                None => true,
                Some(Codes::One(one)) => *one == code,
                Some(Codes::Any(any)) => any.contains(&code),
            },
        }
    }
}

/// What is wrong with a conversation's file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BadConversation {
    /// Where it was read from.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub reason: String,
}

impl fmt::Display for BadConversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.reason)
    }
}

impl Conversation {
    /// As a file that [`Self::parse`] takes.
    #[must_use]
    pub fn to_toml(&self) -> String {
        super::steps::to_toml(self)
    }

    /// Topic and number of a partition written `t-0`.
    ///
    /// # Errors
    /// Where there is no such partition.
    pub fn partition<'a>(&self, text: &'a str) -> Result<(&'a str, i32), String> {
        let none = || format!("no partition {text}: expected TOPIC-NUMBER of one under [topics]");
        let (topic, number) = text.rsplit_once('-').ok_or_else(none)?;
        let number: i32 = number.parse().map_err(|_| none())?;
        let count = self.topics.get(topic).ok_or_else(none)?;
        if (0..*count).contains(&number) { Ok((topic, number)) } else { Err(none()) }
    }

    /// Every partition, as `t-0`.
    #[must_use]
    pub fn partitions(&self) -> Vec<(String, String, i32)> {
        let of = |(topic, count): (&String, &i32)| {
            let topic = topic.clone();
            (0..*count).map(move |n| (format!("{topic}-{n}"), topic.clone(), n)).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of).collect()
    }

    /// Whether a step hurts a broker, which others would feel.
    #[must_use]
    pub fn hurts_brokers(&self) -> bool {
        self.steps.iter().any(|step| step.fault.is_some())
    }

    /// Whether there is a proxy before the brokers while it is held.
    #[must_use]
    pub fn needs_proxy(&self) -> bool {
        !self.programs.is_empty() || self.steps.iter().any(|step| step.rule.is_some())
    }

    /// Groups that steps name.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<&str> {
        self.steps.iter().filter_map(|step| step.group.as_deref()).collect()
    }
}
