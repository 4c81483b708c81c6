//! Histories made of a simulated broker, for benches and tests.
//!
//! Clients run transactions of sends and polls against logs in memory, interleaved micro-operation
//! by micro-operation; transactions abort, time out and crash; consumers read committed records
//! and rewind when their transaction fails. A plan without faults makes a history that is clean by
//! construction. With faults, each is put in under the name a checker should find, and counted.
//!
//! Never: keeps more than the partitions still read, so that ten million operations can be made.
//! Not simulated: subscriptions, several records a send, time-outs of transactions.

mod log;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::event::{Event, EventType, EventValue, Function, Mop, Process};
use crate::world::Chance;
use log::{Fate, Log};

/// What history to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How many operations, before the polls at the end.
    pub operations: u64,
    /// How many clients.
    pub clients: u32,
    /// How many partitions are written at a time.
    pub active_keys: u32,
    /// How many values a partition gets before another takes its place.
    pub writes_per_key: u32,
    /// The most micro-operations of one operation.
    pub mops_max: u32,
    /// The most records of one poll.
    pub poll_records_max: usize,
    /// How likely an operation aborts on purpose.
    pub abort_p: f64,
    /// How likely the end of an operation stays unknown.
    pub info_p: f64,
    /// How likely a client crashes instead of its next operation.
    pub crash_p: f64,
    /// How likely an acknowledgement lacks its offset.
    pub missing_offset_p: f64,
    /// How likely each fault is put in where it could be.
    pub fault_p: f64,
}

impl Plan {
    /// 10 clients, 1 to 4 micro-operations, 8 active keys, 1,024 writes a key; nothing wrong.
    #[must_use]
    pub fn clean(operations: u64) -> Self {
        Self {
            operations,
            clients: 10,
            active_keys: 8,
            writes_per_key: 1024,
            mops_max: 4,
            poll_records_max: 500,
            abort_p: 0.05,
            info_p: 0.002,
            crash_p: 0.001,
            missing_offset_p: 0.0005,
            fault_p: 0.0,
        }
    }

    /// The same with faults, about one of each kind in ten thousand operations.
    #[must_use]
    pub fn faulty(operations: u64) -> Self {
        Self { fault_p: 0.0001, ..Self::clean(operations) }
    }

    /// 30 clients on 2 keys: nearly all operations are in one component.
    #[must_use]
    pub fn knot(operations: u64) -> Self {
        Self { clients: 30, active_keys: 2, writes_per_key: u32::MAX, ..Self::clean(operations) }
    }
}

/// The faults that can be put in, by the names of what they cause.
pub const FAULTS: [&str; 7] = [
    "lost-write",
    "duplicate",
    "G1a",
    "poll-skip",
    "nonmonotonic-poll",
    "inconsistent-offsets",
    "precommitted-read",
];

#[derive(Debug, Clone, Copy)]
enum Fault {
    LostWrite,
    Duplicate,
    AbortedRead,
    PollSkip,
    NonmonotonicPoll,
    InconsistentOffsets,
    PrecommittedRead,
}

/// A history in the making: its events, in order.
#[derive(Debug)]
pub struct Simulation {
    plan: Plan,
    rng: ChaCha8Rng,
    clients: Vec<Client>,
    /// Who goes on when.
    agenda: BinaryHeap<Reverse<(u64, u64, usize)>>,
    turns: u64,
    logs: BTreeMap<i64, Log>,
    /// Partitions being written, each with its last value.
    active: Vec<(i64, i64)>,
    next_key: i64,
    transactions: u64,
    begun: u64,
    events: VecDeque<Event>,
    emitted: u64,
    injected: [u64; FAULTS.len()],
}

#[derive(Debug)]
struct Client {
    process: i64,
    /// Next offset of each assigned partition.
    positions: BTreeMap<i64, i64>,
    /// The newest partition when it last assigned.
    knows_keys_below: i64,
    doing: Option<Doing>,
    done: bool,
}

/// An operation that was invoked.
#[derive(Debug)]
struct Doing {
    function: Function,
    value: EventValue,
    /// The next micro-operation.
    next: usize,
    transaction: u64,
    /// Records appended: partition and place.
    appended: Vec<(i64, usize)>,
    before: BTreeMap<i64, i64>,
}

impl Simulation {
    /// At the beginning.
    #[must_use]
    pub fn new(plan: Plan, chance: &Chance) -> Self {
        let mut simulation = Self {
            rng: chance.stream("simulated-history"),
            clients: Vec::new(),
            agenda: BinaryHeap::new(),
            turns: 0,
            logs: BTreeMap::new(),
            active: Vec::new(),
            next_key: 0,
            transactions: 0,
            begun: 0,
            events: VecDeque::new(),
            emitted: 0,
            injected: [0; FAULTS.len()],
            plan,
        };
        for _ in 0..simulation.plan.active_keys.max(1) {
            let key = simulation.new_key();
            simulation.active.push((key, 0));
        }
        for client in 0..simulation.plan.clients.max(1) {
            simulation.clients.push(Client {
                process: client.into(),
                positions: BTreeMap::new(),
                knows_keys_below: 0,
                doing: None,
                done: false,
            });
            simulation.later(0, client as usize);
        }
        simulation
    }

    /// How often each of [`FAULTS`] was put in so far.
    pub fn injected(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        FAULTS.into_iter().zip(self.injected)
    }

    fn new_key(&mut self) -> i64 {
        let key = self.next_key;
        self.next_key += 1;
        self.logs.insert(key, Log::default());
        key
    }

    /// A client goes on some tenths of a millisecond from now.
    fn later(&mut self, now: u64, client: usize) {
        let time = now + self.rng.random_range(20_000..400_000);
        self.turns += 1;
        self.agenda.push(Reverse((time, self.turns, client)));
    }

    fn emit(&mut self, now: u64, client: usize, event_type: EventType, doing: &Doing) {
        self.events.push_back(Event {
            index: self.emitted,
            time_ns: now,
            event_type,
            process: Process::Client(self.clients[client].process),
            function: doing.function.clone(),
            value: doing.value.clone(),
            error: None,
            end_process: false,
            extra: Vec::new(),
        });
        self.emitted += 1;
    }

    fn turn(&mut self, now: u64, client: usize) {
        match self.clients[client].doing.take() {
            None => self.begin(now, client),
            Some(doing) => self.go_on(now, client, doing),
        }
    }

    fn begin(&mut self, now: u64, client: usize) {
        self.retire_read_up_keys(client);
        let over = self.begun >= self.plan.operations;
        let doing = if self.clients[client].knows_keys_below < self.next_key {
            self.plan_assign(client)
        } else if over && self.has_read_everything(client) {
            self.clients[client].done = true;
            return;
        } else if !over && self.rng.random_bool(self.plan.crash_p) {
            return self.crash(now, client);
        } else {
            self.plan_transaction(client, over)
        };
        self.begun += 1;
        self.emit(now, client, EventType::Invoke, &doing);
        self.clients[client].doing = Some(doing);
        self.later(now, client);
    }

    /// Forgets partitions no longer written that this client has read up, and altogether those
    /// that all clients have.
    fn retire_read_up_keys(&mut self, client: usize) {
        let active = &self.active;
        let logs = &self.logs;
        let positions = &mut self.clients[client].positions;
        let finished = |key: i64, position: i64| {
            !active.iter().any(|(active, _)| *active == key) && logs[&key].is_read_up(position)
        };
        positions.retain(|key, position| !finished(*key, *position));
        if self.logs.len() > 4 * active.len() {
            let clients = &self.clients;
            self.logs.retain(|key, log| {
                active.iter().any(|(active, _)| active == key)
                    || log.awaited > 0
                    || clients.iter().any(|c| {
                        c.knows_keys_below <= *key
                            || c.positions.contains_key(key)
                            || c.doing.as_ref().is_some_and(|d| d.before.contains_key(key))
                    })
            });
        }
    }

    fn has_read_everything(&self, client: usize) -> bool {
        let mut positions = self.clients[client].positions.iter();
        positions.all(|(key, position)| self.logs[key].is_read_up(*position))
    }

    fn plan_assign(&mut self, client: usize) -> Doing {
        let mut keys: Vec<i64> = self.clients[client].positions.keys().copied().collect();
        let knows = self.clients[client].knows_keys_below;
        keys.extend(self.logs.range(knows..).map(|(key, _)| *key));
        self.doing(client, Function::Assign, EventValue::Keys(keys))
    }

    fn doing(&mut self, client: usize, function: Function, value: EventValue) -> Doing {
        self.transactions += 1;
        Doing {
            function,
            value,
            next: 0,
            transaction: self.transactions,
            appended: Vec::new(),
            before: self.clients[client].positions.clone(),
        }
    }

    fn plan_transaction(&mut self, client: usize, only_polls: bool) -> Doing {
        let length = if only_polls { 1 } else { self.rng.random_range(1..=self.plan.mops_max) };
        let mut mops = Vec::with_capacity(length as usize);
        for _ in 0..length {
            if only_polls || self.rng.random_bool(0.5) {
                mops.push(Mop::Poll { records: None });
            } else {
                let (key, value) = self.plan_send();
                mops.push(Mop::Send { key, value, offset: None, run: false });
            }
        }
        let sends = mops.iter().filter(|mop| matches!(mop, Mop::Send { .. })).count();
        let function = match sends {
            0 => Function::Poll,
            _ if sends == mops.len() => Function::Send,
            _ => Function::Txn,
        };
        self.doing(client, function, EventValue::Mops(mops))
    }

    /// The next value of a partition; the last active one is as likely as all others together.
    fn plan_send(&mut self) -> (i64, i64) {
        let mut slot = self.active.len() - 1;
        while slot > 0 && self.rng.random_bool(0.5) {
            slot -= 1;
        }
        let (key, value) = &mut self.active[slot];
        *value += 1;
        let planned = (*key, *value);
        if let Some(log) = self.logs.get_mut(&planned.0) {
            log.awaited += 1;
        }
        if planned.1 >= i64::from(self.plan.writes_per_key) {
            let fresh = self.new_key();
            self.active[slot] = (fresh, 0);
        }
        planned
    }

    fn crash(&mut self, now: u64, client: usize) {
        let doing = self.doing(client, Function::Crash, EventValue::Nil);
        self.begun += 1;
        self.emit(now, client, EventType::Invoke, &doing);
        self.emit(now + 1_000, client, EventType::Info, &doing);
        self.next_process(client);
        self.later(now + 1_000, client);
    }

    /// The client's thread goes on as a new process, from where its group had committed.
    fn next_process(&mut self, client: usize) {
        let clients = self.clients.len() as i64;
        let client = &mut self.clients[client];
        client.process += clients;
        client.knows_keys_below = client.knows_keys_below.min(self.next_key - 1);
    }

    fn go_on(&mut self, now: u64, client: usize, mut doing: Doing) {
        if let EventValue::Keys(keys) = &doing.value {
            for key in keys {
                self.clients[client].positions.entry(*key).or_insert(0);
            }
            let newest = keys.iter().max().map_or(0, |key| key + 1);
            self.clients[client].knows_keys_below = newest;
            self.emit(now, client, EventType::Ok, &doing);
            return self.later(now, client);
        }
        let EventValue::Mops(mops) = &mut doing.value else { return };
        if doing.next < mops.len() && !self.rng.random_bool(self.plan.abort_p / 4.0) {
            let mut mop = mops[doing.next].clone();
            self.run(client, &mut mop, &mut doing);
            if let EventValue::Mops(mops) = &mut doing.value {
                mops[doing.next] = mop;
            }
            doing.next += 1;
            self.clients[client].doing = Some(doing);
            return self.later(now, client);
        }
        let abort = doing.next < mops.len() || self.rng.random_bool(self.plan.abort_p / 4.0);
        self.complete(now, client, doing, abort);
        self.later(now, client);
    }

    fn run(&mut self, client: usize, mop: &mut Mop, doing: &mut Doing) {
        match mop {
            Mop::Send { key, value, offset, run } => {
                *run = true;
                *offset = Some(self.send(*key, *value, doing));
                if self.rng.random_bool(self.plan.missing_offset_p) {
                    *offset = None;
                }
            }
            Mop::Poll { records } => *records = Some(self.poll(client, doing)),
        }
    }

    fn send(&mut self, key: i64, value: i64, doing: &mut Doing) -> i64 {
        let fault = self.fault(1.0);
        let log = self.logs.get_mut(&key).expect("a partition with a planned send is kept");
        log.awaited -= 1;
        if fault && let Some(offset) = log.overwrite_last(value) {
            self.injected[Fault::InconsistentOffsets as usize] += 1;
            return offset;
        }
        let (entry, offset) = log.append(doing.transaction, value);
        doing.appended.push((key, entry));
        offset
    }

    fn poll(&mut self, client: usize, doing: &Doing) -> Vec<(i64, Vec<(i64, i64)>)> {
        let first = doing.next == 0;
        let skip = first && self.fault(1.0);
        let back = first && self.fault(1.0);
        let precommitted = self.fault(4.0);
        let mut left = self.plan.poll_records_max;
        let mut polled = Vec::new();
        let mut put_in = None;
        for (key, position) in &mut self.clients[client].positions {
            let log = &self.logs[key];
            let mut from = *position;
            if put_in.is_none()
                && back
                && let Some((offset, _)) = log.read_back(from).nth(1)
            {
                put_in = Some(Fault::NonmonotonicPoll);
                from = offset;
            }
            let mut records: Vec<_> = log.read(from).take(left).collect();
            if put_in.is_none() && skip && *position > 0 && records.len() > 1 {
                put_in = Some(Fault::PollSkip);
                records.remove(0);
            }
            if put_in.is_none()
                && precommitted
                && let Some(own) = own_next(log, *key, from, doing)
            {
                put_in = Some(Fault::PrecommittedRead);
                records.push(own);
            }
            if let Some((offset, _)) = records.last() {
                *position = offset + 1;
                left -= records.len().min(left);
                polled.push((*key, records));
            }
        }
        if let Some(fault) = put_in {
            self.injected[fault as usize] += 1;
        }
        polled
    }

    fn complete(&mut self, now: u64, client: usize, doing: Doing, abort: bool) {
        let unknown = self.rng.random_bool(self.plan.info_p);
        let commit = !abort && (!unknown || self.rng.random_bool(0.5));
        self.end_transaction(&doing, commit);
        if let EventValue::Mops(mops) = &doing.value {
            for mop in &mops[doing.next..] {
                if let Mop::Send { key, .. } = mop
                    && let Some(log) = self.logs.get_mut(key)
                {
                    log.awaited -= 1;
                }
            }
        }
        let (event_type, error) = match (unknown, abort) {
            (true, _) => (EventType::Info, Some(":timeout")),
            (false, true) => (EventType::Fail, Some(ABORTED)),
            (false, false) => (EventType::Ok, None),
        };
        self.emit(now, client, event_type, &doing);
        if let Some(event) = self.events.back_mut() {
            event.error = error.map(str::to_owned);
            event.end_process = unknown;
        }
        if event_type != EventType::Ok {
            self.clients[client].positions = doing.before;
        }
        if unknown {
            self.next_process(client);
        }
    }

    fn end_transaction(&mut self, doing: &Doing, commit: bool) {
        let one = doing.appended.first().copied();
        let lost = commit && one.is_some() && self.fault(1.0);
        let twice = commit && one.is_some() && !lost && self.fault(1.0);
        let exposed = !commit && one.is_some() && self.fault(20.0);
        let fate = if commit || exposed { Fate::Committed } else { Fate::Aborted };
        for (key, entry) in &doing.appended {
            self.log(*key).decide(*entry, fate);
        }
        for (key, _) in &doing.appended {
            self.log(*key).mark(doing.transaction);
        }
        let Some((key, entry)) = one else { return };
        if lost {
            self.log(key).decide(entry, Fate::Aborted);
            self.injected[Fault::LostWrite as usize] += 1;
        }
        if twice {
            let (_, value) = self.log(key).entry(entry);
            self.log(key).push(value, Fate::Committed);
            self.injected[Fault::Duplicate as usize] += 1;
        }
        self.injected[Fault::AbortedRead as usize] += u64::from(exposed);
    }

    fn log(&mut self, key: i64) -> &mut Log {
        self.logs.get_mut(&key).expect("a partition with an open transaction is kept")
    }

    /// Whether to put a fault in now; not so late that nobody could notice. Where there is rarely
    /// a chance to, the odds are better by `weight`.
    fn fault(&mut self, weight: f64) -> bool {
        let p = (self.plan.fault_p * weight).min(1.0);
        p > 0.0 && self.begun * 10 < self.plan.operations * 9 && self.rng.random_bool(p)
    }
}

const ABORTED: &str = "{:type :abort, :abort-ok? true, :tried-commit? false, :definite? true, \
                       :body-error {:type :intentional-abort}}";

/// A record of the client's own open transaction, if it is the next of its partition.
fn own_next(log: &Log, key: i64, from: i64, doing: &Doing) -> Option<(i64, i64)> {
    let (_, entry) = *doing.appended.iter().find(|(appended, _)| *appended == key)?;
    let own = log.entry(entry);
    let next = log.last_stable_offset() == own.0 && own.0 >= from;
    (next && log.read(from).next().is_none()).then_some(own)
}

impl Iterator for Simulation {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let Reverse((now, _, client)) = self.agenda.pop()?;
            self.turn(now, client);
        }
    }
}

#[cfg(test)]
mod tests;
