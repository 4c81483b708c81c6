//! Counts what is found, and keeps the cases that will be shown.
//!
//! Every kind has an order among its cases, so that those kept are the same however the work was
//! spread over threads.

/// What the queue checks find, cycles aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Kind {
    PhantomRead,
    InconsistentOffsets,
    ZombieWrite,
    LostWrite,
    Duplicate,
    DuplicateNonzero,
    G1a,
    G1b,
    PrecommittedRead,
    IntNonmonotonicSend,
    NonmonotonicSend,
    IntNonmonotonicPoll,
    IntPollSkip,
    NonmonotonicPoll,
    PollSkip,
    IntSendSkip,
    Unseen,
}

impl Kind {
    pub(super) const ALL: [Self; 17] = [
        Self::PhantomRead,
        Self::InconsistentOffsets,
        Self::ZombieWrite,
        Self::LostWrite,
        Self::Duplicate,
        Self::DuplicateNonzero,
        Self::G1a,
        Self::G1b,
        Self::PrecommittedRead,
        Self::IntNonmonotonicSend,
        Self::NonmonotonicSend,
        Self::IntNonmonotonicPoll,
        Self::IntPollSkip,
        Self::NonmonotonicPoll,
        Self::PollSkip,
        Self::IntSendSkip,
        Self::Unseen,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PhantomRead => "phantom-read",
            Self::InconsistentOffsets => "inconsistent-offsets",
            Self::ZombieWrite => "zombie-write",
            Self::LostWrite => "lost-write",
            Self::Duplicate => "duplicate",
            Self::DuplicateNonzero => "duplicate-nonzero",
            Self::G1a => "G1a",
            Self::G1b => "G1b",
            Self::PrecommittedRead => "precommitted-read",
            Self::IntNonmonotonicSend => "int-nonmonotonic-send",
            Self::NonmonotonicSend => "nonmonotonic-send",
            Self::IntNonmonotonicPoll => "int-nonmonotonic-poll",
            Self::IntPollSkip => "int-poll-skip",
            Self::NonmonotonicPoll => "nonmonotonic-poll",
            Self::PollSkip => "poll-skip",
            Self::IntSendSkip => "int-send-skip",
            Self::Unseen => "unseen",
        }
    }
}

/// One finding, small enough to be kept by the million. What `from` and `to` are is the kind's
/// business: values or indexes of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    /// Where it comes among its kind, smallest first.
    pub(super) order: i64,
    pub(super) row: u32,
    pub(super) key: u32,
    pub(super) earlier_row: u32,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// The findings of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) hits: Vec<Hit>,
    max: usize,
}

impl Tally {
    /// Keeps at least the first `max` of what will be found.
    pub(super) fn keeping(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    pub(super) fn push(&mut self, hit: Hit) {
        self.count += 1;
        self.hits.push(hit);
        // Sorted out now and then, so that memory is bounded and the cost of a hit constant.
        if self.hits.len() >= self.max.saturating_mul(2).max(64) {
            self.cut();
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.hits.extend(other.hits);
    }

    fn cut(&mut self) {
        if self.max < self.hits.len() {
            self.hits.select_nth_unstable(self.max);
            self.hits.truncate(self.max);
        }
    }

    /// Leaves what is shown, in order.
    pub(super) fn finish(&mut self, shown_max: usize) {
        self.hits.sort_unstable();
        self.hits.truncate(shown_max);
    }
}

/// The findings of all kinds.
#[derive(Debug, Clone)]
pub(super) struct Tallies(Vec<Tally>);

impl Tallies {
    /// Keeps as many of each kind as `max` says.
    pub(super) fn new(max: impl Fn(Kind) -> usize) -> Self {
        Self(Kind::ALL.map(|kind| Tally::keeping(max(kind))).into())
    }

    pub(super) fn push(&mut self, kind: Kind, hit: Hit) {
        self.0[kind as usize].push(hit);
    }

    pub(super) fn of(&mut self, kind: Kind) -> &mut Tally {
        &mut self.0[kind as usize]
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            mine.merge(theirs);
        }
    }
}
