//! Rules of the proxy and programs of other people, as steps of a conversation.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::talk::{Stop, Talk};
use crate::proxy::rule::Rule;
use crate::scenario::chart::{Arrow, Line};
use crate::scenario::conversation::Step;
use crate::scenario::network::{Word, cut};
use crate::scenario::program::{self, CANNOT_RUN, Program};
use crate::scenario::progress::{MISBEHAVES, NEVER_ENDS, Stuck};

/// How long a program may take where its step does not say.
const ENDED_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at what programs say.
const LISTENED: Duration = Duration::from_millis(20);
/// Lines of its output that are shown where it failed.
const LAST_LINES: usize = 5;

impl Talk<'_, '_> {
    /// A text with its words in braces as they are in this run.
    async fn filled(&mut self, text: &str) -> Result<String, Stop> {
        let (found, rest) = cut(self.conversation, text)?;
        let mut filled = String::new();
        for (before, word) in found {
            filled.push_str(before);
            filled.push_str(&self.word(&word).await?);
        }
        filled.push_str(rest);
        Ok(filled)
    }

    async fn word(&mut self, word: &Word) -> Result<String, Stop> {
        let names = &self.ground.names;
        Ok(match word {
            Word::Topic(name) | Word::Group(name) => names.of(name),
            Word::Id(producer) => {
                let id = self.producers.get(producer).and_then(|p| p.transactional_id.clone());
                id.ok_or_else(|| format!("{producer} has no transactional id"))?
            }
            Word::Node(party) => {
                let whom = self.party(party, &Step::default())?;
                let found = self.board.find(&whom).await;
                found.map_err(|way| way.to_string())?.0.to_string()
            }
            Word::Bootstrap => match &self.ground.way_in {
                Some(way_in) => way_in.bootstrap(),
                None => self.ground.bootstrap.join(","),
            },
            Word::Files => self.ground.folder.display().to_string(),
            Word::With(word) => {
                let said = self.ground.words.get(word).or(self.conversation.with.get(word));
                said.cloned().unwrap_or_default()
            }
        })
    }

    pub(super) async fn rule(&mut self, at: usize, step: &Step, text: &str) -> Result<(), Stop> {
        let filled = self.filled(text).await?;
        let mut rule: Rule = filled.parse().map_err(|error| format!("rule {filled:?}: {error}"))?;
        rule.name = step.name.clone().unwrap_or_default();
        let way_in = self.ground.way_in.as_ref().ok_or("a rule needs a proxy")?;
        let name = way_in.rules().add(rule)?;
        self.network_is_hurt = true;
        self.note(Some(at), format!("rule {name}: {filled}"));
        Ok(())
    }

    pub(super) async fn lift(&mut self, at: usize, name: &str) -> Result<(), Stop> {
        let way_in = self.ground.way_in.clone().ok_or("a rule needs a proxy")?;
        self.note(Some(at), format!("rule {name} is lifted"));
        self.idle(name);
        way_in.rules().remove(name);
        way_in.settle().await;
        Ok(())
    }

    /// A rule that never fired shows nothing.
    fn idle(&mut self, name: &str) {
        let fired = self.ground.way_in.as_ref().and_then(|way_in| way_in.fired(name));
        if fired == Some(0) {
            self.held.surprises.push(format!("rule {name} never fired"));
        }
    }

    /// Takes every rule away and ends every program.
    pub(super) async fn end_strangers(&mut self) {
        self.listen();
        for (name, mut program) in std::mem::take(&mut self.programs) {
            if program.status().is_none() {
                self.note(None, format!("{name} still runs, and is ended"));
            }
            self.held.programs.insert(name, program.said().to_owned());
        }
        let Some(way_in) = self.ground.way_in.clone() else { return };
        for listed in way_in.rules().list() {
            self.idle(&listed.rule.name);
        }
        way_in.rules().reset();
        way_in.settle().await;
        self.listen();
        self.held.forged = way_in.forged();
    }

    pub(super) async fn run(&mut self, at: usize, step: &Step, name: &str) -> Result<(), Stop> {
        let mut command = Vec::new();
        for word in self.conversation.programs.get(name).into_iter().flatten() {
            command.push(self.filled(word).await?);
        }
        let program = Program::start(self.ground.folder, name, &command).await?;
        self.programs.insert(name.to_owned(), program);
        self.note(Some(at), format!("{name} runs: {}", command.join(" ")));
        match step.unawaited {
            true => Ok(()),
            false => self.end_of(at, step, name).await,
        }
    }

    /// Waits for a program's end, and judges how it came.
    pub(super) async fn end_of(&mut self, at: usize, step: &Step, name: &str) -> Result<(), Stop> {
        let within = step.within_ms.map_or(ENDED_WITHIN, Duration::from_millis);
        let deadline = Instant::now() + within;
        let exit = self.programs.get(name).ok_or_else(|| format!("{name} does not run"))?.exit();
        let status = loop {
            self.listen();
            match timeout(LISTENED, exit.clone().wait()).await {
                Ok(status) => break Some(status),
                Err(_) if Instant::now() >= deadline => break None,
                Err(_) => {}
            }
        };
        self.listen();
        let Some(mut program) = self.programs.remove(name) else { return Ok(()) };
        let (said, lines) = (program.said().to_owned(), program.lines());
        drop(program);
        let last = last_lines(&said);
        self.held.programs.insert(name.to_owned(), said);
        let number = at + 1;
        let Some(status) = status else {
            let s = within.as_secs_f64();
            self.note(Some(at), format!("{name} has not ended after {s} s, and is killed"));
            let why =
                format!("Step {number}: {name} has not ended after {s} s. Its last words: {last}");
            self.never.push(Stuck { name: NEVER_ENDS, why });
            return Ok(());
        };
        self.note(Some(at), format!("{name} ends: {status}"));
        let code = status.code().unwrap_or(-1);
        if code == CANNOT_RUN {
            return Err(format!("{name} cannot run here: {last}"));
        }
        let is_expected = match &step.expect {
            Some(expect) => {
                i16::try_from(code).is_ok_and(|code| expect.allows(self.ground.column, code))
            }
            None => code == 0,
        };
        let mut why = String::new();
        if !is_expected {
            write!(why, "Step {number}: {name} ended with {status}. Its last words: {last} ")
                .expect("a String takes every write");
        }
        if let Some(missing) = program::missing(&lines, step.says.as_deref().unwrap_or_default()) {
            write!(
                why,
                "Step {number}: {name} did not say {missing:?} where it should. It said {lines:?}."
            )
            .expect("a String takes every write");
        }
        if !why.is_empty() {
            self.never.push(Stuck { name: MISBEHAVES, why: why.trim_end().to_owned() });
        }
        Ok(())
    }

    /// Waits until a program has said a line, or has ended.
    pub(super) fn has_said(&mut self, name: &str, line: &str) -> Result<(bool, String), Stop> {
        let program = self.programs.get_mut(name).ok_or_else(|| format!("{name} does not run"))?;
        // Asked first: what it said as it ended is read then.
        let ended = program.status();
        let has = program.lines().iter().any(|said| said == line);
        match (has, ended) {
            (false, Some(status)) if status.code() == Some(CANNOT_RUN) => {
                Err(format!("{name} cannot run here: {}", last_lines(program.said())))
            }
            (false, Some(status)) => {
                let last = last_lines(program.said());
                Err(format!("{name} ended with {status} before it said {line:?}: {last}"))
            }
            _ => Ok((has, if has { "it has" } else { "it has not" }.to_owned())),
        }
    }

    pub(super) async fn has_fired(&mut self, name: &str) -> Result<(bool, String), Stop> {
        let way_in = self.ground.way_in.as_ref().ok_or("a rule needs a proxy")?;
        let fired = way_in.fired(name).ok_or_else(|| format!("there is no rule {name} now"))?;
        if fired == 0 {
            sleep(LISTENED / 10).await;
        }
        Ok((fired > 0, format!("{fired} times")))
    }

    /// Puts into the chart what rules did and programs said meanwhile.
    pub(super) fn listen(&mut self) {
        let now = self.at_ns();
        let mut news = Vec::new();
        if let Some(way_in) = &self.ground.way_in {
            let acts = way_in.done().into_iter();
            let ago = |ns: u64| ns.saturating_sub(self.began_ns);
            news.extend(acts.map(|(ns, text)| (ago(ns), "proxy".to_owned(), text)));
        }
        for (name, program) in &mut self.programs {
            news.extend(program.news().into_iter().map(|line| (now, name.clone(), line)));
        }
        for (at_ns, who, said) in news {
            let later = self.held.lines.iter().rev().take_while(|line| line.at_ns > at_ns).count();
            let line = Line {
                at_ns,
                step: None,
                who,
                connection: String::new(),
                node: -1,
                arrow: Arrow::Note,
                said,
                came: String::new(),
            };
            let place = self.held.lines.len() - later;
            self.held.lines.insert(place, line);
        }
    }
}

/// The last lines of an output, on one.
fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    match lines.is_empty() {
        true => "none".to_owned(),
        false => lines[from..].join(" / "),
    }
}
