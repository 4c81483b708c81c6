//! Turns one line into a rule, and a rule into the line that means it.
//!
//! `hold EndTxn request transactional-id=t1 nth=2 for=5s`: what is done, to which APIs, which half
//! of the exchange, and pairs of a key and a value in any order. `docs/RULES.md` has the grammar.

use std::fmt;
use std::str::FromStr;

use super::action::{Action, Alteration, Cut, Where};
use super::draft::{Draft, Position, RuleError, Word};
use super::words::{duration_text, quoted};
use super::{Match, Rule};
use crate::history::tap::Direction;

/// Characters a rule may have.
const LINE_MAX: usize = 64 << 10;

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        parse(text, Position { line: 1, column: 1 })
    }
}

/// Reads a rule that begins at a place of a larger text.
pub(super) fn parse(text: &str, at: Position) -> Result<Rule, RuleError> {
    if text.len() > LINE_MAX {
        return Err(RuleError { at, reason: format!("a rule has at most {LINE_MAX} bytes") });
    }
    draft(text, at)?.rule()
}

fn draft(text: &str, at: Position) -> Result<Draft, RuleError> {
    let mut lexer = Lexer { rest: text, at };
    let Some(Token::Word(verb)) = lexer.next()? else {
        let reason = "expected what is done first, such as hold EndTxn for=5s".to_owned();
        return Err(RuleError { at, reason });
    };
    let mut draft = Draft { verb, apis: None, direction: None, pairs: Vec::new() };
    while let Some(token) = lexer.next()? {
        match token {
            Token::Pair(key, value) => draft.pairs.push((key, value)),
            Token::Word(word) if matches!(word.text.as_str(), "request" | "response" | "both") => {
                if draft.direction.is_some() {
                    return Err(word.wrong("one direction only"));
                }
                draft.direction = Some(word);
            }
            Token::Word(word) if draft.apis.is_none() && draft.pairs.is_empty() => {
                draft.apis = Some(word);
            }
            Token::Word(word) => {
                return Err(word.wrong("KEY=VALUE; several APIs have commas between"));
            }
        }
    }
    Ok(draft)
}

enum Token {
    Word(Word),
    Pair(Word, Word),
}

struct Lexer<'t> {
    rest: &'t str,
    at: Position,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<Option<Token>, RuleError> {
        while self.rest.starts_with(char::is_whitespace) {
            self.bump();
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = self.at;
        let mut text = String::new();
        while let Some(c) = self.rest.chars().next().filter(|c| !c.is_whitespace()) {
            self.bump();
            if c == '=' && !text.is_empty() {
                let key = Word { text, at };
                return Ok(Some(Token::Pair(key, self.value()?)));
            }
            text.push(c);
        }
        Ok(Some(Token::Word(Word { text, at })))
    }

    /// Bare up to the next blank, or in quotes.
    fn value(&mut self) -> Result<Word, RuleError> {
        let at = self.at;
        let mut text = String::new();
        if !self.rest.starts_with('"') {
            while let Some(c) = self.rest.chars().next().filter(|c| !c.is_whitespace()) {
                text.push(c);
                self.bump();
            }
            return match text.is_empty() {
                true => Err(RuleError { at, reason: "expected a value behind =".to_owned() }),
                false => Ok(Word { text, at }),
            };
        }
        self.bump();
        loop {
            let open = || RuleError { at, reason: "the quote is never closed".to_owned() };
            match self.bump().ok_or_else(open)? {
                '"' => break,
                '\\' => {
                    let place = self.at;
                    text.push(match self.bump().ok_or_else(open)? {
                        c @ ('"' | '\\') => c,
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        c => {
                            let reason = format!("found \\{c}, expected \\\" \\\\ \\n \\r or \\t");
                            return Err(RuleError { at: place, reason });
                        }
                    });
                }
                c => text.push(c),
            }
        }
        if self.rest.starts_with(|c: char| !c.is_whitespace()) {
            let reason = "expected a blank behind the closing quote".to_owned();
            return Err(RuleError { at: self.at, reason });
        }
        Ok(Word { text, at })
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        match c {
            '\n' => self.at = Position { line: self.at.line + 1, column: 1 },
            _ => self.at.column += 1,
        }
        Some(c)
    }
}

impl fmt::Display for Rule {
    /// The line that means the rule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (when, action) = (&self.when, &self.action);
        let half = match when.direction {
            Direction::Request => "request",
            Direction::Response => "response",
        };
        let names: Vec<String> = when.apis.iter().map(ToString::to_string).collect();
        let names = if names.is_empty() { "any".to_owned() } else { names.join(",") };
        match action {
            Action::Drop => write!(f, "drop-{half} {names}")?,
            Action::Respond(_) => write!(f, "respond {names}")?,
            Action::BlackHole { both: true, .. } => write!(f, "black-hole {names} both")?,
            _ => write!(f, "{} {names} {half}", action.verb())?,
        }
        conditions(f, when)?;
        options(f, action)?;
        let implied = matches!(action, Action::BlackHole { .. }).then_some(1);
        pair(f, "times", self.times.filter(|times| Some(*times) != implied))?;
        pair(f, "name", Some(&self.name).filter(|name| !name.is_empty()))
    }
}

fn pair(f: &mut fmt::Formatter<'_>, key: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {key}={}", quoted(&value)))
}

fn conditions(f: &mut fmt::Formatter<'_>, when: &Match) -> fmt::Result {
    pair(f, "version", when.versions)?;
    pair(f, "client-id", when.client_id.as_ref().map(|pattern| &pattern.0))?;
    pair(f, "transactional-id", when.transactional_id.as_ref().map(|pattern| &pattern.0))?;
    pair(f, "producer-id", when.producer_id)?;
    pair(f, "producer-epoch", when.producer_epoch)?;
    pair(f, "group", when.group.as_ref().map(|pattern| &pattern.0))?;
    pair(f, "topic", when.topic.as_ref().map(|pattern| &pattern.0))?;
    pair(f, "partition", when.partition)?;
    for field in &when.fields {
        let of = match field.of {
            Direction::Request => "request",
            Direction::Response => "response",
        };
        pair(f, &format!("{of}.{}", field.path), Some(&field.value.0))?;
    }
    pair(f, "connection", when.connection.map(|connection| connection.0))?;
    pair(f, "broker", when.broker)?;
    pair(f, "nth", when.nth)?;
    pair(f, "probability", when.probability)
}

fn options(f: &mut fmt::Formatter<'_>, action: &Action) -> fmt::Result {
    match action {
        Action::Hold { until: lasts } | Action::BlackHole { lasts, .. } => {
            pair(f, "for", lasts.map(duration_text))
        }
        Action::Delay { by, jitter } => {
            pair(f, "by", Some(duration_text(*by)))?;
            pair(f, "jitter", (!jitter.is_zero()).then(|| duration_text(*jitter)))
        }
        Action::Drop => Ok(()),
        Action::Duplicate(duplicate) => {
            let after = duplicate.after;
            pair(f, "after", (!after.is_zero()).then(|| duration_text(after)))?;
            pair(f, "on", duplicate.elsewhere.then_some("new-connection"))
        }
        Action::Reorder { behind } => pair(f, "behind", Some(behind)),
        Action::Cut(Cut::DeliverLater { after }) => {
            pair(f, "deliver-after", Some(duration_text(*after)))
        }
        Action::Cut(Cut::Close { at }) => cut(f, "close", *at),
        Action::Cut(Cut::Reset { at }) => cut(f, "reset", *at),
        Action::Cut(Cut::HalfClose { at }) => cut(f, "half-close", *at),
        Action::Throttle { bytes_per_s } => pair(f, "rate", Some(bytes_per_s)),
        Action::Slice { sizes, pause } => {
            let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            pair(f, "sizes", Some(sizes.join(",")))?;
            pair(f, "pause", (!pause.is_zero()).then(|| duration_text(*pause)))
        }
        Action::Mutate(alterations) => alterations.iter().try_for_each(|one| alteration(f, one)),
        Action::Respond(forgery) => {
            match forgery.error.name() {
                Some(name) => pair(f, "error", Some(name))?,
                None => pair(f, "error", Some(forgery.error.0))?,
            }
            let mut set = forgery.set.iter();
            set.try_for_each(|(path, value)| pair(f, &format!("set.{path}"), Some(value)))
        }
    }
}

fn cut(f: &mut fmt::Formatter<'_>, how: &str, at: u32) -> fmt::Result {
    pair(f, "how", Some(how))?;
    pair(f, "at", (at > 0).then_some(at))
}

fn alteration(f: &mut fmt::Formatter<'_>, alteration: &Alteration) -> fmt::Result {
    match alteration {
        Alteration::Set { path, value } => pair(f, &format!("set.{path}"), Some(value)),
        Alteration::Flip(Where::Anywhere) => pair(f, "flip", Some("any")),
        Alteration::Flip(Where::Bit(bit)) => pair(f, "flip", Some(bit)),
        Alteration::Truncate(less) => pair(f, "truncate", Some(less)),
        Alteration::Extend(more) => pair(f, "extend", Some(more)),
        Alteration::CorrelationId(more) => pair(f, "correlation-id", Some(format!("{more:+}"))),
        Alteration::Length(more) => pair(f, "length", Some(format!("{more:+}"))),
        Alteration::Crc => pair(f, "crc", Some("wrong")),
    }
}
