//! Draws what the processes of the queue do: operations over ten keys at a time, each written a
//! bounded number of times.
//!
//! The latest key is chosen half of the time, the one before it a quarter, and so on: some keys
//! are contended, some nearly idle. Values of a key count from 1, so (key, value) is unique.
//!
//! Never: sees an answer, except which offsets are known (so that old keys are not forgotten).

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::options::{QueueOptions, SubVia};
use crate::world::Chance;

/// A key: the topic partition as the checker sees it.
pub type Key = i64;

/// What a micro-operation intends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send the value to the key.
    Send {
        /// The key.
        key: Key,
        /// The value.
        value: i64,
    },
    /// Poll what the consumer is bound to.
    Poll,
}

/// What an operation intends.
#[derive(Debug, Clone, PartialEq)]
pub enum Intent {
    /// Micro-operations; the coin says whether consecutive sends share a batch, the aborts before
    /// which micro-operation the whole is given up on purpose (the length: before the commit).
    Steps {
        /// What is done.
        steps: Vec<Step>,
        /// Whether sends next to each other go out together.
        batched: bool,
        /// Where it is given up on purpose.
        abort_at: Option<usize>,
    },
    /// Bind the consumer to these keys.
    Bind {
        /// How.
        via: SubVia,
        /// To what.
        keys: Vec<Key>,
    },
    /// End the client without warning.
    Crash,
}

/// The shared source of operations.
#[derive(Debug)]
pub struct Generator {
    random: ChaCha8Rng,
    active: Vec<ActiveKey>,
    next_key: Key,
    /// Operations drawn for a process whose turn an assign took.
    kept: BTreeMap<u32, Intent>,
    sent: BTreeMap<Key, i64>,
    polled: BTreeMap<Key, i64>,
    txn: bool,
    abort_p: f64,
    sub_p: f64,
    sub_via: Vec<SubVia>,
    max_writes_per_key: u32,
}

#[derive(Debug, Clone, Copy)]
struct ActiveKey {
    key: Key,
    next_value: i64,
    budget: u32,
}

/// The longest transaction, in micro-operations.
const TXN_LENGTH_MAX: usize = 4;

impl Generator {
    /// Draws from the stream `queue`.
    #[must_use]
    pub fn new(options: &QueueOptions, chance: &Chance) -> Self {
        let mut generator = Self {
            random: chance.stream("queue"),
            active: Vec::new(),
            next_key: 0,
            kept: BTreeMap::new(),
            sent: BTreeMap::new(),
            polled: BTreeMap::new(),
            txn: options.txn,
            abort_p: if options.txn { options.abort_p } else { 0.0 },
            sub_p: options.sub_p,
            sub_via: options.sub_via.clone(),
            max_writes_per_key: options.max_writes_per_key.max(1),
        };
        for _ in 0..options.active_keys.max(1) {
            let key = generator.new_key();
            generator.active.push(key);
        }
        generator
    }

    /// What a process does next. A process with nothing bound yet binds first: polls of an
    /// unbound consumer say nothing.
    pub fn next(&mut self, process: u32, bound: bool) -> Intent {
        let intent = match self.kept.remove(&process) {
            Some(kept) => return kept,
            None => self.steps(),
        };
        if bound && !self.random.random_bool(self.sub_p.clamp(0.0, 1.0)) {
            return intent;
        }
        let bind = self.bind(&intent);
        self.kept.insert(process, intent);
        bind
    }

    /// One value for one key, outside any operation.
    pub fn one_send(&mut self) -> (Key, i64) {
        match self.send() {
            Step::Send { key, value } => (key, value),
            Step::Poll => unreachable!("a send was asked for"),
        }
    }

    /// Every key ever drawn, oldest first.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        0..self.next_key
    }

    /// Notes that an offset of a key is known to be written.
    pub fn note_sent(&mut self, key: Key, offset: i64) {
        let known = self.sent.entry(key).or_insert(offset);
        *known = offset.max(*known);
    }

    /// Notes that an offset of a key was polled.
    pub fn note_polled(&mut self, key: Key, offset: i64) {
        let known = self.polled.entry(key).or_insert(offset);
        *known = offset.max(*known);
        self.note_sent(key, offset);
    }

    /// The highest offset known to be written of each key.
    #[must_use]
    pub fn known_offsets(&self) -> &BTreeMap<Key, i64> {
        &self.sent
    }

    fn new_key(&mut self) -> ActiveKey {
        let key = self.next_key;
        self.next_key += 1;
        ActiveKey { key, next_value: 1, budget: self.max_writes_per_key }
    }

    fn steps(&mut self) -> Intent {
        let length = if self.txn { self.random.random_range(1..=TXN_LENGTH_MAX) } else { 1 };
        let mut steps = Vec::with_capacity(length);
        let mut abort_at = None;
        for at in 0..=length {
            if abort_at.is_none() && self.random.random_bool(self.abort_p.clamp(0.0, 1.0)) {
                abort_at = Some(at);
            }
            if at < length {
                let step = if self.random.random_bool(0.5) { self.send() } else { Step::Poll };
                steps.push(step);
            }
        }
        Intent::Steps { steps, batched: self.random.random_bool(0.5), abort_at }
    }

    fn send(&mut self) -> Step {
        let slot = self.slot();
        let active = &mut self.active[slot];
        let step = Step::Send { key: active.key, value: active.next_value };
        active.next_value += 1;
        active.budget -= 1;
        if active.budget == 0 {
            self.active[slot] = self.new_key();
        }
        step
    }

    /// A slot, the last with chance 1/2, the one before with 1/4, …
    fn slot(&mut self) -> usize {
        let last = self.active.len() - 1;
        let mut slot = last;
        while slot > 0 && self.random.random_bool(0.5) {
            slot -= 1;
        }
        slot
    }

    /// Binds to the keys the pending operation touches, to what is active, and, one time in
    /// three, to every key of which more is written than polled.
    fn bind(&mut self, pending: &Intent) -> Intent {
        let mut keys: Vec<Key> = Vec::new();
        if let Intent::Steps { steps, .. } = pending {
            keys.extend(steps.iter().filter_map(|step| match step {
                Step::Send { key, .. } => Some(*key),
                Step::Poll => None,
            }));
        }
        for _ in 0..self.random.random_range(1..=3) {
            let slot = self.slot();
            keys.push(self.active[slot].key);
        }
        if self.random.random_bool(1.0 / 3.0) {
            let unseen = self.sent.iter().filter(|(key, sent)| self.polled.get(key) < Some(sent));
            keys.extend(unseen.map(|(key, _)| *key));
        }
        keys.sort_unstable();
        keys.dedup();
        let via = match self.sub_via.as_slice() {
            [] => SubVia::Assign,
            several => several[self.random.random_range(0..several.len())],
        };
        Intent::Bind { via, keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::options::tests::options;

    fn drawn(seed: u64, count: usize) -> Vec<Intent> {
        let mut generator = Generator::new(&options(), &Chance::from_seed(seed));
        (0..count).map(|_| generator.next(0, true)).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        assert_eq!(drawn(5, 500), drawn(5, 500));
        assert_ne!(drawn(5, 500), drawn(6, 500));
    }

    #[test]
    fn values_of_a_key_are_unique_and_keys_rotate() {
        let mut seen = std::collections::BTreeSet::new();
        for intent in drawn(1, 20_000) {
            if let Intent::Steps { steps, .. } = intent {
                for step in steps {
                    if let Step::Send { key, value } = step {
                        assert!(seen.insert((key, value)), "{key} {value} twice");
                    }
                }
            }
        }
        let keys = seen.iter().map(|(key, _)| *key).collect::<std::collections::BTreeSet<_>>();
        assert!(keys.len() > 20, "{} keys", keys.len());
        let most = keys.iter().map(|k| seen.iter().filter(|(key, _)| key == k).count()).max();
        assert_eq!(most, Some(1024));
    }

    #[test]
    fn an_unbound_process_binds_first_and_then_does_what_it_meant_to() {
        let mut generator = Generator::new(&options(), &Chance::from_seed(3));
        assert!(matches!(generator.next(0, false), Intent::Bind { .. }));
        assert!(matches!(generator.next(0, false), Intent::Steps { .. }));
    }

    #[test]
    fn keys_with_unseen_records_are_bound_again() {
        let mut generator = Generator::new(&options(), &Chance::from_seed(3));
        generator.note_sent(0, 10);
        generator.note_polled(1, 4);
        generator.active.iter_mut().for_each(|active| active.key += 100);
        let pending = Intent::Steps { steps: vec![], batched: false, abort_at: None };
        let bound = (0..60).map(|_| generator.bind(&pending)).collect::<Vec<_>>();
        let with = |key| {
            let has = |i: &&Intent| matches!(i, Intent::Bind { keys, .. } if keys.contains(&key));
            bound.iter().filter(has).count()
        };
        assert!((5..50).contains(&with(0)), "{}", with(0));
        assert_eq!(with(1), 0, "all of key 1 was polled");
    }
}
