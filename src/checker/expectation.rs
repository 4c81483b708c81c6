//! What a history is expected to keep to.

use std::collections::BTreeSet;

/// Which kind of history it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Workload {
    /// Sends and polls.
    #[default]
    Queue,
    /// Appends to and reads of whole lists.
    ListAppend,
}

/// The ways consumers were bound to partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubVia {
    /// By hand.
    pub assign: bool,
    /// Through a group.
    pub subscribe: bool,
}

impl SubVia {
    /// By hand only.
    pub const ASSIGN: Self = Self { assign: true, subscribe: false };
    /// Through a group only.
    pub const SUBSCRIBE: Self = Self { assign: false, subscribe: true };
}

/// What consumers asked to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Committed records only.
    #[default]
    ReadCommitted,
    /// All records.
    ReadUncommitted,
}

/// Whether the history holds all that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum World {
    /// Everything was sent by the operations of the history, values are unique, and somebody
    /// read to the end.
    #[default]
    Closed,
    /// Strangers may have sent, and nobody promised anything.
    Open,
}

/// A consistency model that a list-append history may be held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyModel(pub(super) &'static str);

impl ConsistencyModel {
    /// Strict serializability, the default.
    pub const STRICT_SERIALIZABLE: Self = Self("strict-serializable");

    /// The name, as Elle writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0
    }
}

/// What a history is expected to keep to, and how much of what is found is shown.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Which kind of history it is.
    pub workload: Workload,
    /// How consumers were bound.
    pub sub_via: SubVia,
    /// Whether offsets give write-write edges.
    pub ww_deps: bool,
    /// What consumers asked to see.
    pub isolation: Isolation,
    /// Anomalies that do not make the history invalid.
    pub ignore: BTreeSet<String>,
    /// How many cases of each type are shown: absent, as many as the table says; 0, all.
    pub anomalies_max: Option<usize>,
    /// Whether the history holds all that was sent.
    pub world: World,
    /// The model a list-append history is held to.
    pub consistency_model: ConsistencyModel,
}

impl Default for Expectation {
    fn default() -> Self {
        Self {
            workload: Workload::default(),
            sub_via: SubVia::ASSIGN,
            ww_deps: true,
            isolation: Isolation::default(),
            ignore: BTreeSet::new(),
            anomalies_max: None,
            world: World::default(),
            consistency_model: ConsistencyModel::STRICT_SERIALIZABLE,
        }
    }
}

impl Expectation {
    /// How many cases of a type are shown, where the table says `shown` (0: all).
    #[must_use]
    pub fn cases_max(&self, shown: usize) -> usize {
        match self.anomalies_max.unwrap_or(shown) {
            0 => usize::MAX,
            max => max,
        }
    }
}
