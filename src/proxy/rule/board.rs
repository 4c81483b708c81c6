//! The rules of a running proxy, shared by its workers and its control.
//!
//! A worker keeps an [`Interest`] and asks for a new one when [`Board::revision`] has changed: one
//! atomic load for each read. Only frames that some rule asks for take the lock.
//!
//! Never: decides when rules come and go; reads a clock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::rules::{Decision, Fired, Interest, RuleId, Rules, Seen};
use super::topics::TopicId;
use super::{Class, Rule};
use crate::history::tap::Connection;

/// A rule and its state when it fired: whether what it did is still to last can be asked with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub(super) rule: RuleId,
    pub(super) releases: u64,
}

/// Which moment of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It was done, or began.
    Began,
    /// What had begun is over: a held frame went on, a black hole passes again.
    Ended,
}

/// An action that was taken.
#[derive(Debug)]
pub struct Act<'a> {
    /// Which rule, about which frame.
    pub fired: &'a Fired,
    /// Which moment.
    pub phase: Phase,
    /// What the engine has to add, in a few words; may be empty.
    pub detail: &'a str,
}

/// A rule as control and summaries show it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Which.
    pub id: RuleId,
    /// The rule.
    pub rule: Arc<Rule>,
    /// How many frames matched all but `nth` and `probability`.
    pub matched: u64,
    /// How often it fired.
    pub fired: u64,
    /// How many of its actions have begun and not ended: held frames, black holes.
    pub lasting: u64,
}

type Watcher = Box<dyn Fn(&Act<'_>) + Send + Sync>;

/// The rules of a running proxy.
pub struct Board {
    rules: Mutex<State>,
    revision: AtomicU64,
    /// How often each rule that there is was released.
    releases: watch::Sender<BTreeMap<RuleId, u64>>,
    watcher: Watcher,
}

struct State {
    rules: Rules,
    lasting: BTreeMap<RuleId, u64>,
    /// Rules that were taken away and had fired, by class.
    gone: BTreeMap<Class, u64>,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl Board {
    /// Rules that tell nobody what they do.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self::watched(rules, |_| {})
    }

    /// Rules whose every action `watcher` is told of, from whichever thread takes it.
    #[must_use]
    pub fn watched(rules: Rules, watcher: impl Fn(&Act<'_>) + Send + Sync + 'static) -> Self {
        let releases = watch::Sender::new(rules.releases());
        let state = State { rules, lasting: BTreeMap::new(), gone: BTreeMap::new() };
        Self {
            rules: Mutex::new(state),
            revision: AtomicU64::new(0),
            releases,
            watcher: Box::new(watcher),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever [`Board::interest`] may have.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// What the rules ask of frames at this moment.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.state().rules.interest()
    }

    /// Decides about a frame that the interest asks for.
    pub fn decide(&self, seen: &Seen<'_>) -> Decision {
        self.state().rules.decide(seen)
    }

    /// Takes in which topics ids name.
    pub fn learn(&self, topics: &[(TopicId, Vec<u8>)]) {
        let mut state = self.state();
        topics.iter().for_each(|(id, name)| state.rules.learn(*id, name));
    }

    /// Forgets a connection that is over.
    pub fn closed(&self, connection: Connection) {
        self.state().rules.closed(connection);
    }

    /// Whether what fired with this ticket is to last no longer: the rule was released or is gone.
    #[must_use]
    pub fn has_ended(&self, ticket: Ticket) -> bool {
        is_over(&self.releases.borrow(), ticket)
    }

    /// Waits until what fired with this ticket is to last no longer.
    pub async fn until_ended(&self, ticket: Ticket) {
        let mut releases = self.releases.subscribe();
        // The sender is ours: it cannot be gone.
        drop(releases.wait_for(|releases| is_over(releases, ticket)).await);
    }

    /// The engine says what it did. Each [`Phase::Began`] of something that lasts is followed by
    /// its [`Phase::Ended`], unless the proxy ends first.
    pub fn acted(&self, fired: &Fired, phase: Phase, detail: &str) {
        let lasts = fired.lasts();
        if lasts {
            let mut state = self.state();
            let lasting = state.lasting.entry(fired.ticket.rule).or_default();
            *lasting = match phase {
                Phase::Began => *lasting + 1,
                Phase::Ended => lasting.saturating_sub(1),
            };
            if *lasting == 0 {
                state.lasting.remove(&fired.ticket.rule);
            }
        }
        (self.watcher)(&Act { fired, phase, detail });
    }

    /// Every rule in order.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let state = self.state();
        let listed = |(id, rule, matched, fired): (RuleId, &Arc<Rule>, u64, u64)| Listed {
            id,
            rule: rule.clone(),
            matched,
            fired,
            lasting: state.lasting.get(&id).copied().unwrap_or(0),
        };
        state.rules.iter().map(listed).collect()
    }

    /// How many actions have begun and not ended, those of rules that are gone included.
    #[must_use]
    pub fn lasting(&self) -> u64 {
        self.state().lasting.values().sum()
    }

    /// How often a rule of the class fired, those that are gone included.
    #[must_use]
    pub fn fired(&self, class: Class) -> u64 {
        let state = self.state();
        let live = state.rules.iter().filter(|(_, rule, ..)| rule.action.class() == class);
        let live: u64 = live.map(|(.., fired)| fired).sum();
        live + state.gone.get(&class).copied().unwrap_or(0)
    }

    /// Adds a rule behind the others and returns its name.
    ///
    /// # Errors
    /// As [`Rules::add`].
    pub fn add(&self, rule: Rule) -> Result<String, String> {
        let mut state = self.state();
        let id = state.rules.add(rule)?;
        let name = state.rules.iter().find(|(other, ..)| *other == id);
        let name = name.map(|(_, rule, ..)| rule.name.clone()).unwrap_or_default();
        self.changed(&state.rules);
        Ok(name)
    }

    /// Takes a rule away and ends what it does; whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let mut state = self.state();
        let Some(id) = state.rules.find(name) else { return false };
        state.take_away(id);
        self.changed(&state.rules);
        true
    }

    /// Ends what a rule does at this moment, and keeps the rule; whether there was one.
    pub fn release(&self, name: &str) -> bool {
        let mut state = self.state();
        let Some(id) = state.rules.find(name) else { return false };
        state.rules.release(id);
        self.changed(&state.rules);
        true
    }

    /// Takes every rule away and ends what they do.
    pub fn reset(&self) {
        let mut state = self.state();
        let all: Vec<RuleId> = state.rules.iter().map(|(id, ..)| id).collect();
        all.into_iter().for_each(|id| state.take_away(id));
        self.changed(&state.rules);
    }

    fn changed(&self, rules: &Rules) {
        self.releases.send_replace(rules.releases());
        self.revision.fetch_add(1, Ordering::Release);
    }
}

impl State {
    fn take_away(&mut self, id: RuleId) {
        let fired = self.rules.iter().find(|(other, ..)| *other == id);
        if let Some((class, fired)) = fired.map(|(_, rule, _, n)| (rule.action.class(), n)) {
            *self.gone.entry(class).or_default() += fired;
        }
        self.rules.remove(id);
    }
}

fn is_over(releases: &BTreeMap<RuleId, u64>, ticket: Ticket) -> bool {
    releases.get(&ticket.rule) != Some(&ticket.releases)
}
