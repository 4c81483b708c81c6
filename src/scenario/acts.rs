//! What a step does: one of a closed set.

use super::conversation::{Step, Style};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act<'s> {
    /// Sends a request of an API.
    Send(&'s str),
    /// Sends one again.
    Again(&'s str),
    /// Lets one arrive.
    Release(&'s str),
    /// Awaits an answer, or the end of a program.
    Await(&'s str),
    /// Closes connections.
    Close(&'s str),
    /// Waits until something is so.
    Wait(&'s str),
    /// Does something to a broker.
    Fault(&'s str),
    /// Reads a partition.
    Read(&'s str),
    /// Gives the proxy a rule.
    Rule(&'s str),
    /// Takes one away.
    Lift(&'s str),
    /// Runs a program.
    Run(&'s str),
}

const ALL: &str = "send, again, release, await, close, wait, fault, read, rule, lift, run";

impl Step {
    /// What it does.
    ///
    /// # Errors
    /// Where it does nothing, or more than one thing.
    pub fn act(&self) -> Result<Act<'_>, String> {
        let all = [
            self.send.as_deref().map(Act::Send),
            self.again.as_deref().map(Act::Again),
            self.release.as_deref().map(Act::Release),
            self.r#await.as_deref().map(Act::Await),
            self.close.as_deref().map(Act::Close),
            self.wait.as_deref().map(Act::Wait),
            self.fault.as_deref().map(Act::Fault),
            self.read.as_deref().map(Act::Read),
            self.rule.as_deref().map(Act::Rule),
            self.lift.as_deref().map(Act::Lift),
            self.run.as_deref().map(Act::Run),
        ];
        let mut said = all.into_iter().flatten();
        match (said.next(), said.next()) {
            (Some(act), None) => Ok(act),
            (None, _) => Err(format!("expected one of {ALL}")),
            (Some(_), Some(_)) => Err(format!("a step does one thing: it says two of {ALL}")),
        }
    }

    /// Whether it is said in a style.
    #[must_use]
    pub fn is_in(&self, style: Style) -> bool {
        self.style.is_none_or(|only| only == style)
    }
}
