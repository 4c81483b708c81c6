//! Turns each frame that comes by into a decision: what a list of rules does to it, if anything.
//!
//! The first rule that fires wins; the others still count the frame. All chance comes from one
//! stream for each rule and connection, so that a seed and the frames of a connection decide alike
//! every time; only `nth` counts over all connections.
//!
//! Never: does what it decides.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_wire::ApiKey;
use kafka_wire::ids::{CorrelationId, NodeId};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::board::Ticket;
use super::fit::{self, Misfit};
use super::reader::{FIELDS_MAX, Reader, half};
use super::topics::{TopicId, Topics};
use super::{Action, Alteration, Cut, Match, Rule, Where};
use crate::history::tap::{Connection, Direction};
use crate::world::Chance;

/// A rule among those of a run; numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u64);

/// How much of a frame the rules need to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Wants {
    /// Nothing: it passes.
    #[default]
    Nothing,
    /// Its header.
    Header,
    /// All of it.
    Body,
}

/// A frame as the rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Which broker it goes to or comes from.
    pub broker: NodeId,
    /// On which connection.
    pub connection: Connection,
    /// Which way.
    pub direction: Direction,
    /// Which API; a response's is its request's.
    pub api_key: ApiKey,
    /// Which version; a response's is its request's.
    pub api_version: i16,
    /// Pairs request and response.
    pub correlation_id: CorrelationId,
    /// Of a request, whatever the client calls itself.
    pub client_id: Option<&'a [u8]>,
    /// What follows the header, where [`Wants::Body`] was asked for.
    pub body: Option<&'a [u8]>,
    /// Of a response, what its request's decision said to remember.
    pub request: Option<&'a Remembered>,
}

/// What is to be done about a frame.
#[derive(Debug, Default)]
pub struct Decision {
    /// The action, if there is one.
    pub fired: Option<Fired>,
    /// Of a request, what to hand back with its response.
    pub remembered: Option<Remembered>,
}

/// Rules about responses whose conditions a request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered(Box<[RuleId]>);

/// A rule fired: do this.
#[derive(Debug, Clone)]
pub struct Fired {
    /// Which rule, and its state when it fired; [`super::Board::until_ended`] takes it.
    pub ticket: Ticket,
    /// The rule.
    pub rule: Arc<Rule>,
    /// A number drawn for this frame.
    pub draw: u64,
    /// About which broker.
    pub broker: NodeId,
    /// About which connection.
    pub connection: Connection,
    /// About which direction.
    pub direction: Direction,
    /// About which API.
    pub api_key: ApiKey,
    /// About which version.
    pub api_version: i16,
    /// About which exchange.
    pub correlation_id: CorrelationId,
}

impl Fired {
    /// How long to wait: of a delay with its jitter, of a hold, black hole or later delivery at
    /// most; absent where only the rule's end ends it, or nothing waits.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match &self.rule.action {
            Action::Hold { until } => *until,
            Action::Delay { by, jitter } => {
                let span = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX);
                // The upper half of the product is the draw scaled to the span.
                let part = (u128::from(self.draw) * u128::from(span)) >> 64;
                Some(by.saturating_add(Duration::from_nanos(part as u64)))
            }
            Action::BlackHole { lasts, .. } => *lasts,
            Action::Duplicate(duplicate) => Some(duplicate.after),
            Action::Cut(Cut::DeliverLater { after }) => Some(*after),
            _ => None,
        }
    }
}

impl Fired {
    /// Whether the action begins and ends rather than being done at once.
    #[must_use]
    pub fn lasts(&self) -> bool {
        match &self.rule.action {
            Action::Hold { .. }
            | Action::Delay { .. }
            | Action::BlackHole { .. }
            | Action::Throttle { .. }
            | Action::Cut(Cut::DeliverLater { .. })
            | Action::Reorder { .. } => true,
            Action::Duplicate(duplicate) => !duplicate.after.is_zero(),
            _ => false,
        }
    }
}

impl fmt::Display for Fired {
    /// `late-end: hold EndTxn request`: what captures and histories say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, half) = (&self.rule, half(self.direction));
        write!(f, "{}: {} {} {half}", rule.name, rule.action.verb(), self.api_key)
    }
}

/// A list of rules with what they have seen so far.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Entry>,
    chance: Chance,
    next_id: u64,
    connections: BTreeMap<Connection, Streams>,
    topics: Topics,
}

/// What a rule draws on a connection, and whether a lasting action of it is in force there.
type Streams = BTreeMap<RuleId, Stream>;

#[derive(Debug)]
struct Stream {
    chance: ChaCha8Rng,
    lasts: bool,
}

/// A rule with its readers and counts.
#[derive(Debug)]
struct Entry {
    id: RuleId,
    rule: Arc<Rule>,
    readers: BTreeMap<ApiKey, Readers>,
    /// How many frames matched all but `nth` and `probability`.
    matched: u64,
    fired: u64,
    releases: u64,
}

#[derive(Debug)]
struct Readers {
    request: Option<Reader>,
    response: Option<Reader>,
}

/// What one rule asks of frames.
#[derive(Debug, Clone)]
struct Asked {
    rule: Arc<Rule>,
    /// Empty where any will do.
    apis: Vec<ApiKey>,
    request: Wants,
    response: Wants,
}

/// What the rules of a moment ask of frames: a value that a worker keeps and reads without a lock.
#[derive(Debug, Clone, Default)]
pub struct Interest {
    asked: Vec<Asked>,
}

impl Interest {
    /// How much of a frame the rules need to see.
    #[must_use]
    pub fn wants(
        &self,
        direction: Direction,
        broker: NodeId,
        connection: Connection,
        api_key: ApiKey,
        version: i16,
    ) -> Wants {
        let wants = |asked: &Asked| {
            let when = &asked.rule.when;
            let is = (asked.apis.is_empty() || asked.apis.contains(&api_key))
                && when.versions.is_none_or(|versions| versions.contains(version))
                && when.broker.is_none_or(|wanted| wanted == broker)
                && when.connection.is_none_or(|wanted| wanted == connection);
            match direction {
                _ if !is => Wants::Nothing,
                Direction::Request => asked.request,
                Direction::Response => asked.response,
            }
        };
        self.asked.iter().map(wants).max().unwrap_or_default()
    }

    /// Whether no frame is asked for at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}

impl Rules {
    /// None yet; chance is theirs to draw from.
    #[must_use]
    pub fn new(chance: Chance) -> Self {
        let (rules, connections) = (Vec::new(), BTreeMap::new());
        Self { rules, chance, next_id: 0, connections, topics: Topics::default() }
    }

    /// Whether a rule can apply at all.
    ///
    /// # Errors
    /// Where no frame can ever be what it asks for.
    pub fn check(rule: &Rule) -> Result<(), Misfit> {
        checked(rule).map(drop)
    }

    /// Adds a rule behind the others. One without a name gets `rule-1` and so on.
    ///
    /// # Errors
    /// In words, where it can never apply, or another has its name.
    pub fn add(&mut self, mut rule: Rule) -> Result<RuleId, String> {
        let id = RuleId(self.next_id);
        if rule.name.is_empty() {
            let free = |name: &String| self.find(name).is_none();
            let names = (1..).map(|n| format!("rule-{n}"));
            rule.name = names.into_iter().find(free).expect("one of endless names is free");
        }
        if self.find(&rule.name).is_some() {
            return Err(format!("there is a rule named {} already", rule.name));
        }
        let readers = checked(&rule).map_err(|misfit| misfit.reason)?;
        self.next_id += 1;
        let rule = Arc::new(rule);
        self.rules.push(Entry { id, rule, readers, matched: 0, fired: 0, releases: 0 });
        Ok(id)
    }

    /// Takes a rule away; what it does ends.
    pub fn remove(&mut self, id: RuleId) {
        self.rules.retain(|entry| entry.id != id);
        self.connections.values_mut().for_each(|streams| drop(streams.remove(&id)));
    }

    /// The rule of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<RuleId> {
        self.rules.iter().find(|entry| entry.rule.name == name).map(|entry| entry.id)
    }

    /// Lets go what a rule holds at this moment; it holds what comes later.
    pub fn release(&mut self, id: RuleId) {
        for entry in self.rules.iter_mut().filter(|entry| entry.id == id) {
            entry.releases += 1;
        }
    }

    /// Every rule in order: its id, itself, how many frames it matched, how often it fired.
    pub fn iter(&self) -> impl Iterator<Item = (RuleId, &Arc<Rule>, u64, u64)> {
        self.rules.iter().map(|entry| (entry.id, &entry.rule, entry.matched, entry.fired))
    }

    /// How often each rule was released, which [`Ticket`]s are compared with.
    pub(super) fn releases(&self) -> BTreeMap<RuleId, u64> {
        self.rules.iter().map(|entry| (entry.id, entry.releases)).collect()
    }

    /// What the rules ask of frames at this moment.
    #[must_use]
    pub fn interest(&self) -> Interest {
        let live = self.rules.iter().filter(|entry| !entry.is_spent());
        Interest { asked: live.map(Entry::asked).collect() }
    }

    /// How much of a frame the rules need to see.
    #[must_use]
    pub fn wants(
        &self,
        direction: Direction,
        broker: NodeId,
        connection: Connection,
        api_key: ApiKey,
        version: i16,
    ) -> Wants {
        self.interest().wants(direction, broker, connection, api_key, version)
    }

    /// Decides about a frame. Frames of one connection and direction come in order.
    pub fn decide(&mut self, seen: &Seen<'_>) -> Decision {
        let mut decision = Decision::default();
        let mut remembered = Vec::new();
        for entry in &mut self.rules {
            if entry.is_spent() || !entry.fits_header(seen) {
                continue;
            }
            let about = entry.rule.when.direction;
            if seen.direction == Direction::Request && about == Direction::Response {
                if entry.needs_request() && entry.fits_request(seen, &self.topics) {
                    remembered.push(entry.id);
                }
                continue;
            }
            if about != seen.direction || !entry.fits(seen, &self.topics) {
                continue;
            }
            entry.matched += 1;
            let streams = self.connections.entry(seen.connection);
            let draw = entry.draw(seen, || streams.or_default(), &self.chance);
            if let Some(draw) = draw.filter(|_| decision.fired.is_none()) {
                entry.fired += 1;
                decision.fired = Some(entry.fire(seen, draw));
            }
        }
        if !remembered.is_empty() {
            decision.remembered = Some(Remembered(remembered.into()));
        }
        decision
    }

    /// Takes in which topic an id names: later frames may say the id alone.
    pub fn learn(&mut self, id: TopicId, name: &[u8]) {
        self.topics.learn(id, name);
    }

    /// Forgets a connection that is over.
    pub fn closed(&mut self, connection: Connection) {
        self.connections.remove(&connection);
    }
}

impl Entry {
    /// Whether it has fired as often as it may.
    fn is_spent(&self) -> bool {
        self.rule.times.is_some_and(|times| self.fired >= times)
    }

    fn asked(&self) -> Asked {
        let reads = |side: fn(&Readers) -> &Option<Reader>| {
            if self.readers.values().any(|readers| side(readers).is_some()) {
                Wants::Body
            } else {
                Wants::Header
            }
        };
        let (of_request, of_response) = (reads(|r| &r.request), reads(|r| &r.response));
        let (request, response) = match self.rule.when.direction {
            Direction::Request => (of_request, Wants::Nothing),
            Direction::Response if self.needs_request() => (of_request, of_response),
            Direction::Response => (Wants::Nothing, of_response),
        };
        let apis = match self.is_about_any() {
            true => Vec::new(),
            false => self.readers.keys().copied().collect(),
        };
        Asked { rule: self.rule.clone(), apis, request, response }
    }

    /// Whether frames of APIs nobody knows are meant too.
    fn is_about_any(&self) -> bool {
        self.readers.is_empty()
    }

    /// Whether a rule about responses asks something that only the request knows.
    fn needs_request(&self) -> bool {
        self.rule.when.client_id.is_some()
            || self.readers.values().any(|readers| readers.request.is_some())
    }

    fn fits_header(&self, seen: &Seen<'_>) -> bool {
        let when = &self.rule.when;
        (self.is_about_any() || self.readers.contains_key(&seen.api_key))
            && when.versions.is_none_or(|versions| versions.contains(seen.api_version))
            && when.broker.is_none_or(|broker| broker == seen.broker)
            && when.connection.is_none_or(|connection| connection == seen.connection)
    }

    /// Whether a request meets what the rule asks of requests.
    fn fits_request(&self, seen: &Seen<'_>, topics: &Topics) -> bool {
        let when = &self.rule.when;
        let client = when.client_id.as_ref();
        client.is_none_or(|pattern| pattern.matches(seen.client_id.unwrap_or_default()))
            && self.fits_body(seen, topics, |readers| readers.request.as_ref())
    }

    fn fits(&self, seen: &Seen<'_>, topics: &Topics) -> bool {
        match seen.direction {
            Direction::Request => self.fits_request(seen, topics),
            Direction::Response => {
                let met = |remembered: &Remembered| remembered.0.contains(&self.id);
                (!self.needs_request() || seen.request.is_some_and(met))
                    && self.fits_body(seen, topics, |readers| readers.response.as_ref())
            }
        }
    }

    fn fits_body<'r>(
        &'r self,
        seen: &Seen<'_>,
        topics: &Topics,
        side: impl Fn(&'r Readers) -> Option<&'r Reader>,
    ) -> bool {
        let Some(reader) = self.readers.get(&seen.api_key).and_then(side) else { return true };
        let when: &Match = &self.rule.when;
        seen.body.is_some_and(|body| reader.matches(when, topics, seen.api_version, body))
    }

    /// A number for this frame, or none where it is not meant after all.
    fn draw<'s>(
        &self,
        seen: &Seen<'_>,
        streams: impl FnOnce() -> &'s mut Streams,
        chance: &Chance,
    ) -> Option<u64> {
        let when = &self.rule.when;
        if !when.nth.is_none_or(|nth| nth.contains(self.matched)) {
            return None;
        }
        let lasts = matches!(self.rule.action, Action::Throttle { .. });
        if when.probability.is_none() && !lasts && !draws(&self.rule.action) {
            return Some(0);
        }
        let stream = streams().entry(self.id).or_insert_with(|| {
            let name = format!("rule {} connection {}", self.rule.name, seen.connection.0);
            Stream { chance: chance.stream(&name), lasts: false }
        });
        // What is in force already is not put in force again.
        if stream.lasts {
            return None;
        }
        let unit = (stream.chance.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let draw = stream.chance.next_u64();
        let is_meant = when.probability.is_none_or(|probability| unit < probability);
        stream.lasts = lasts && is_meant;
        is_meant.then_some(draw)
    }

    fn fire(&self, seen: &Seen<'_>, draw: u64) -> Fired {
        Fired {
            ticket: Ticket { rule: self.id, releases: self.releases },
            rule: self.rule.clone(),
            draw,
            broker: seen.broker,
            connection: seen.connection,
            direction: seen.direction,
            api_key: seen.api_key,
            api_version: seen.api_version,
            correlation_id: seen.correlation_id,
        }
    }
}

/// Whether an action needs a number drawn.
fn draws(action: &Action) -> bool {
    match action {
        Action::Delay { jitter, .. } => !jitter.is_zero(),
        Action::Mutate(alterations) => alterations.contains(&Alteration::Flip(Where::Anywhere)),
        _ => false,
    }
}

/// The readers of a rule that can apply.
fn checked(rule: &Rule) -> Result<BTreeMap<ApiKey, Readers>, Misfit> {
    fit::check(rule)?;
    readers(rule)
}

/// The readers of every API a rule is about; none where it is about any frame at all.
fn readers(rule: &Rule) -> Result<BTreeMap<ApiKey, Readers>, Misfit> {
    let when = &rule.when;
    if when.fields.len() > FIELDS_MAX {
        return Err(Misfit::new("", format!("more than {FIELDS_MAX} conditions on fields")));
    }
    let read = |api_key: ApiKey| -> Result<Readers, Misfit> {
        let read = |of| Reader::new(when, api_key, of);
        let response = match when.direction {
            Direction::Request => None,
            Direction::Response => read(Direction::Response)?,
        };
        Ok(Readers { request: read(Direction::Request)?, response })
    };
    if !when.apis.is_empty() {
        return when.apis.iter().map(|&api_key| Ok((api_key, read(api_key)?))).collect();
    }
    let able: BTreeMap<_, _> =
        ApiKey::ALL.iter().filter_map(|&key| Some((key, read(key).ok()?))).collect();
    let asks = |readers: &Readers| readers.request.is_some() || readers.response.is_some();
    match able.values().any(asks) {
        true => Ok(able),
        false if able.is_empty() => {
            Err(Misfit::new("", "no API has all the fields asked for".into()))
        }
        false => Ok(BTreeMap::new()),
    }
}
