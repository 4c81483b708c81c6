//! Turns words with their places, from either notation, into a rule.
//!
//! Both notations say the same pairs of a key and a value; this is the one place that knows what
//! they mean. An error names line and column of the word it is about, and what was expected there.
//!
//! Never: accepts a word that has no meaning, or a rule that can never apply.

use std::fmt;
use std::time::Duration;

use kafka_wire::ids::{NodeId, ProducerEpoch, ProducerId};
use kafka_wire::{ApiKey, ErrorCode};

use super::action::{Action, Alteration, Cut, Duplicate, Forgery, Where};
use super::condition::{FieldIs, Match, Pattern};
use super::rules::Rules;
use super::{Rule, words};
use crate::history::tap::{Connection, Direction};

/// Bytes an alteration may add, and pieces a slice may name.
const EXTEND_MAX: u32 = 1 << 20;
const PIECES_MAX: usize = 64;

/// Where a word stands; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// What is wrong with a rule, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// Where.
    pub at: Position,
    /// What was found, and what was expected.
    pub reason: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.at.line, self.at.column, self.reason)
    }
}

impl std::error::Error for RuleError {}

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) at: Position,
}

impl Word {
    pub(super) fn wrong(&self, expected: impl fmt::Display) -> RuleError {
        RuleError { at: self.at, reason: format!("found {:?}, expected {expected}", self.text) }
    }
}

/// A rule in words.
#[derive(Debug)]
pub(super) struct Draft {
    /// What is done.
    pub(super) verb: Word,
    /// The APIs, with commas between, or `any`.
    pub(super) apis: Option<Word>,
    /// `request`, `response`, and of a black hole `both`.
    pub(super) direction: Option<Word>,
    /// All the rest.
    pub(super) pairs: Vec<(Word, Word)>,
}

/// What rules begin with.
pub(super) const VERBS: &[&str] = &[
    "hold",
    "delay",
    "drop-request",
    "drop-response",
    "duplicate",
    "reorder",
    "cut",
    "black-hole",
    "throttle",
    "slice",
    "mutate",
    "respond",
];

/// Keys that any rule may have; `request.PATH` and `response.PATH` beside them.
const CONDITIONS: &[&str] = &[
    "name",
    "version",
    "client-id",
    "transactional-id",
    "producer-id",
    "producer-epoch",
    "group",
    "topic",
    "partition",
    "nth",
    "connection",
    "broker",
    "probability",
    "times",
];

/// Keys that belong to a verb; `set.PATH` beside them for `mutate` and `respond`.
fn options(verb: &str) -> &'static [&'static str] {
    match verb {
        "hold" | "black-hole" => &["for"],
        "delay" => &["by", "jitter"],
        "duplicate" => &["after", "on"],
        "reorder" => &["behind"],
        "cut" => &["how", "at", "deliver-after"],
        "throttle" => &["rate"],
        "slice" => &["sizes", "pause"],
        "mutate" => &["flip", "truncate", "extend", "correlation-id", "length", "crc"],
        "respond" => &["error"],
        _ => &[],
    }
}

impl Draft {
    /// The rule the words mean.
    pub(super) fn rule(&self) -> Result<Rule, RuleError> {
        let verb = self.verb.text.as_str();
        if !VERBS.contains(&verb) {
            let near = words::nearest(verb, VERBS.iter().copied());
            let near = near.map(|near| format!("{near}? One of ")).unwrap_or_default();
            return Err(self.verb.wrong(format_args!("{near}{}", VERBS.join(", "))));
        }
        self.only_known_keys()?;
        let (direction, both) = self.direction()?;
        let mut when = Match::any(direction);
        when.apis = self.apis()?;
        let (mut name, mut times) = (String::new(), None);
        for (key, value) in &self.pairs {
            match key.text.as_str() {
                "name" => name = one_word(value)?,
                "times" => times = Some(above_zero(value)?),
                _ => condition(&mut when, key, value)?,
            }
        }
        let action = self.action(both)?;
        if matches!(action, Action::BlackHole { .. }) {
            // One that began again with each frame would have no end.
            times = times.or(Some(1));
        }
        let rule = Rule { name, when, action, times };
        Rules::check(&rule).map_err(|misfit| {
            let about = self.pairs.iter().find(|(key, _)| key.text == misfit.key);
            let apis = self.apis.as_ref().filter(|_| misfit.key == "api");
            let at = about.map(|(key, _)| key).or(apis).unwrap_or(&self.verb).at;
            RuleError { at, reason: misfit.reason }
        })?;
        Ok(rule)
    }

    fn only_known_keys(&self) -> Result<(), RuleError> {
        let verb = self.verb.text.as_str();
        let own = options(verb);
        let sets = matches!(verb, "mutate" | "respond");
        for (index, (key, _)) in self.pairs.iter().enumerate() {
            let text = key.text.as_str();
            let is_path = |prefix: &str| text.strip_prefix(prefix).is_some_and(|p| !p.is_empty());
            let known = CONDITIONS.contains(&text)
                || own.contains(&text)
                || is_path("request.")
                || is_path("response.")
                || sets && is_path("set.");
            if !known {
                let set = if sets { ", set.PATH" } else { "" };
                let near = words::nearest(text, own.iter().chain(CONDITIONS).copied());
                let near = near.map(|near| format!("{near}? ")).unwrap_or_default();
                let own = own.iter().map(|key| format!("{key}, ")).collect::<String>();
                return Err(key.wrong(format_args!(
                    "{near}A {verb} rule takes {own}{}, request.PATH, response.PATH{set}",
                    CONDITIONS.join(", ")
                )));
            }
            let repeats = matches!(text, "flip" | "crc") && verb == "mutate";
            if !repeats && self.pairs[..index].iter().any(|(other, _)| other.text == text) {
                return Err(RuleError { at: key.at, reason: format!("{text} stands twice") });
            }
        }
        Ok(())
    }

    /// Which half of the exchange, and whether both.
    fn direction(&self) -> Result<(Direction, bool), RuleError> {
        let implied = match self.verb.text.as_str() {
            "drop-request" | "respond" => Some(Direction::Request),
            "drop-response" => Some(Direction::Response),
            _ => None,
        };
        let Some(word) = &self.direction else {
            return Ok((implied.unwrap_or(Direction::Request), false));
        };
        let (direction, both) = match word.text.as_str() {
            "request" => (Direction::Request, false),
            "response" => (Direction::Response, false),
            "both" if self.verb.text == "black-hole" => (Direction::Request, true),
            "both" => return Err(word.wrong("request or response: only black-hole takes both")),
            _ => return Err(word.wrong("request or response")),
        };
        if implied.is_some_and(|implied| implied != direction) {
            let reason = format!("{} is not about a {}", self.verb.text, word.text);
            return Err(RuleError { at: word.at, reason });
        }
        Ok((direction, both))
    }

    fn apis(&self) -> Result<Vec<ApiKey>, RuleError> {
        let Some(word) = self.apis.as_ref().filter(|word| word.text != "any") else {
            return Ok(Vec::new());
        };
        let mut apis = Vec::new();
        for name in word.text.split(',') {
            let key = ApiKey::from_name(name).ok_or_else(|| {
                let names = ApiKey::ALL.iter().filter_map(|key| key.name());
                let near = words::nearest(name, names).unwrap_or("EndTxn");
                let reason = format!("no API is called {name:?}, expected one such as {near}");
                RuleError { at: word.at, reason }
            })?;
            if !apis.contains(&key) {
                apis.push(key);
            }
        }
        Ok(apis)
    }

    fn value(&self, key: &str) -> Option<&Word> {
        self.pairs.iter().find(|(word, _)| word.text == key).map(|(_, value)| value)
    }

    /// A key's value, read by `read`; absent where the key is.
    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, RuleError> {
        let Some(word) = self.value(key) else { return Ok(None) };
        read(&word.text).map(Some).ok_or_else(|| word.wrong(expected))
    }

    fn time(&self, key: &str) -> Result<Option<Duration>, RuleError> {
        self.read(key, "a time such as 5s, 100ms or 2m", words::duration)
    }

    /// What must be said is said.
    fn must<T>(&self, key: &str, example: &str, value: Option<T>) -> Result<T, RuleError> {
        value.ok_or_else(|| {
            let reason = format!("{} needs {key}=, such as {key}={example}", self.verb.text);
            RuleError { at: self.verb.at, reason }
        })
    }

    fn action(&self, both: bool) -> Result<Action, RuleError> {
        Ok(match self.verb.text.as_str() {
            "hold" => Action::Hold { until: self.time("for")? },
            "delay" => Action::Delay {
                by: self.must("by", "100ms", self.time("by")?)?,
                jitter: self.time("jitter")?.unwrap_or_default(),
            },
            "duplicate" => Action::Duplicate(Duplicate {
                after: self.time("after")?.unwrap_or_default(),
                elsewhere: self
                    .read("on", "new-connection", |text| (text == "new-connection").then_some(()))?
                    .is_some(),
            }),
            "reorder" => {
                let behind = self.read("behind", "a number from 1", words::digits)?.unwrap_or(1);
                if behind == 0 {
                    return Err(self.value("behind").unwrap_or(&self.verb).wrong("at least 1"));
                }
                Action::Reorder { behind }
            }
            "cut" => Action::Cut(self.cut()?),
            "black-hole" => Action::BlackHole { lasts: self.time("for")?, both },
            "throttle" => {
                let rate = |text: &str| words::size(text).filter(|rate| *rate > 0);
                let expected = "bytes a second, such as 64KiB";
                let rate = self.read("rate", expected, rate)?;
                Action::Throttle { bytes_per_s: self.must("rate", "64KiB", rate)? }
            }
            "slice" => {
                let expected = "up to 64 sizes from 1, such as 1,7,100";
                let sizes = self.read("sizes", expected, pieces)?;
                let sizes = self.must("sizes", "1,7,100", sizes)?;
                Action::Slice { sizes, pause: self.time("pause")?.unwrap_or_default() }
            }
            "mutate" => Action::Mutate(self.alterations()?),
            "respond" => {
                let expected = "an error code, such as NOT_COORDINATOR or 16";
                let error = self.read("error", expected, error_code)?;
                Action::Respond(Forgery {
                    error: self.must("error", "NOT_COORDINATOR", error)?,
                    set: self.sets().map(|(path, value)| (path, value.text.clone())).collect(),
                })
            }
            _ => Action::Drop,
        })
    }

    fn cut(&self) -> Result<Cut, RuleError> {
        let at = self.read("at", "a number of bytes", words::digits)?;
        if let Some(after) = self.time("deliver-after")? {
            for other in ["how", "at"] {
                if let Some(word) = self.value(other) {
                    let reason = format!("{other} does not go with deliver-after");
                    return Err(RuleError { at: word.at, reason });
                }
            }
            return Ok(Cut::DeliverLater { after });
        }
        let at = at.unwrap_or(0);
        let how = self.read("how", "close, reset or half-close", |how| match how {
            "close" => Some(Cut::Close { at }),
            "reset" => Some(Cut::Reset { at }),
            "half-close" => Some(Cut::HalfClose { at }),
            _ => None,
        })?;
        Ok(how.unwrap_or(Cut::Close { at }))
    }

    /// What `set.PATH=VALUE` says.
    fn sets(&self) -> impl Iterator<Item = (String, &Word)> {
        let set = |key: &str| key.strip_prefix("set.").map(str::to_owned);
        self.pairs.iter().filter_map(move |(key, value)| Some((set(&key.text)?, value)))
    }

    fn alterations(&self) -> Result<Vec<Alteration>, RuleError> {
        let mut alterations = Vec::new();
        for (key, value) in &self.pairs {
            let text = value.text.as_str();
            let read = match key.text.as_str() {
                "flip" if text == "any" => Ok(Alteration::Flip(Where::Anywhere)),
                "flip" => words::digits(text)
                    .map(|bit| Alteration::Flip(Where::Bit(bit)))
                    .ok_or("any or the number of a bit of the body"),
                "truncate" => {
                    words::digits(text).map(Alteration::Truncate).ok_or("a number of bytes")
                }
                "extend" => words::digits(text)
                    .filter(|more| *more <= EXTEND_MAX)
                    .map(Alteration::Extend)
                    .ok_or("a number of bytes up to 1048576"),
                "correlation-id" => words::difference(text)
                    .map(Alteration::CorrelationId)
                    .ok_or("a difference such as +1"),
                "length" => {
                    words::difference(text).map(Alteration::Length).ok_or("a difference such as +4")
                }
                "crc" if text == "wrong" => Ok(Alteration::Crc),
                "crc" => Err("wrong"),
                key => match key.strip_prefix("set.") {
                    Some(path) => {
                        Ok(Alteration::Set { path: path.to_owned(), value: text.to_owned() })
                    }
                    None => continue,
                },
            };
            alterations.push(read.map_err(|expected| value.wrong(expected))?);
        }
        if alterations.is_empty() {
            let reason = "mutate needs what to alter: set.PATH=VALUE, flip=any, truncate=N, \
                          extend=N, correlation-id=+N, length=+N or crc=wrong";
            return Err(RuleError { at: self.verb.at, reason: reason.to_owned() });
        }
        Ok(alterations)
    }
}

/// One condition.
fn condition(when: &mut Match, key: &Word, value: &Word) -> Result<(), RuleError> {
    let pattern = || Some(Pattern(value.text.clone()));
    let number = |expected| value.wrong(expected);
    match key.text.as_str() {
        "version" => {
            let expected = "versions such as 5, 3-4 or 3-";
            when.versions = Some(words::versions(&value.text).ok_or_else(|| number(expected))?);
        }
        "client-id" => when.client_id = pattern(),
        "transactional-id" => when.transactional_id = pattern(),
        "group" => when.group = pattern(),
        "topic" => when.topic = pattern(),
        "producer-id" => when.producer_id = Some(ProducerId(whole(value)?)),
        "producer-epoch" => when.producer_epoch = Some(ProducerEpoch(whole(value)?)),
        "partition" => when.partition = Some(whole(value)?),
        "broker" => when.broker = Some(NodeId(whole(value)?)),
        "connection" => when.connection = Some(Connection(whole(value)?)),
        "nth" => {
            let expected = "which of them, from 1, such as 2, 2-4 or 2-";
            when.nth = Some(words::nth(&value.text).ok_or_else(|| number(expected))?);
        }
        "probability" => {
            let chance = value.text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
            when.probability = Some(chance.ok_or_else(|| number("a chance from 0 to 1"))?);
        }
        path => {
            let field = |of, path: &str| FieldIs {
                of,
                path: path.to_owned(),
                value: Pattern(value.text.clone()),
            };
            if let Some(path) = path.strip_prefix("request.") {
                when.fields.push(field(Direction::Request, path));
            } else if let Some(path) = path.strip_prefix("response.") {
                when.fields.push(field(Direction::Response, path));
            }
        }
    }
    Ok(())
}

fn whole<T: std::str::FromStr>(word: &Word) -> Result<T, RuleError> {
    word.text.parse().map_err(|_| word.wrong("a whole number"))
}

fn above_zero(word: &Word) -> Result<u64, RuleError> {
    words::digits(&word.text).filter(|n| *n > 0).ok_or_else(|| word.wrong("a number from 1"))
}

/// Names stand in paths of the control and in histories.
fn one_word(word: &Word) -> Result<String, RuleError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if word.text.is_empty() || !word.text.chars().all(plain) {
        return Err(word.wrong("a name of letters, digits, -, _ and ."));
    }
    Ok(word.text.clone())
}

fn pieces(text: &str) -> Option<Vec<u32>> {
    let sizes: Option<Vec<u32>> =
        text.split(',').map(|size| words::digits(size.trim()).filter(|n| *n > 0)).collect();
    sizes.filter(|sizes| sizes.len() <= PIECES_MAX)
}

fn error_code(text: &str) -> Option<ErrorCode> {
    ErrorCode::from_name(text).or_else(|| text.parse().ok().map(ErrorCode))
}
