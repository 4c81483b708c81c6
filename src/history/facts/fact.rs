//! What was asked and answered, in the protocol's words.

use std::fmt;
use std::sync::Arc;

use kafka_wire::batch::ControlType;
use kafka_wire::{ApiKey, DecodeError};

use super::batch::BatchFacts;
use super::clusters::Node;
use crate::history::tap::Connection;
use crate::history::wire::{PacketNumber, Unanswered};

/// Clocks of two capture files may differ by this much, in nanoseconds.
pub(crate) const CLOCKS_DIFFER_NS_MAX: u64 = 10_000_000_000;

/// When something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// In which packet.
    pub packet: PacketNumber,
    /// When that packet was seen, in nanoseconds since 1970.
    pub time_ns: u64,
}

impl Moment {
    /// By which moments are put in order: by time, then by packet.
    #[must_use]
    pub fn order(self) -> impl Ord {
        (self.time_ns, self.packet)
    }

    /// Whether this certainly was before the other: an answer that left before the request came
    /// cannot be later than what the broker did with the request. Packets of two files have two
    /// clocks; packets of one file may stand in an order other than that of their times, and then
    /// nothing is certain.
    #[must_use]
    pub fn is_before(self, other: Self) -> bool {
        if self.packet.file == other.packet.file {
            self.time_ns < other.time_ns && self.packet.number < other.packet.number
        } else {
            self.time_ns.saturating_add(CLOCKS_DIFFER_NS_MAX) < other.time_ns
        }
    }
}

/// Where an exchange was seen: what a witness names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// On which connection.
    pub connection: Connection,
    /// The id of request and response.
    pub correlation_id: i32,
    /// When the last byte of the request was seen.
    pub request: Moment,
    /// When the last byte of the response was seen; absent where there is none.
    pub response: Option<Moment>,
}

impl Seen {
    /// Whether this exchange was over before the other's request was whole.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        self.response.is_some_and(|response| response.is_before(other.request))
    }
}

/// A topic as a message names it: by name, or since Produce 13 and Fetch 13 by its id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// By name.
    Name(Arc<str>),
    /// By id (KIP-516): a topic created anew has another.
    Id([u8; 16]),
}

impl Topic {
    /// A topic by name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::Name(name.into())
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => kafka_wire::schema::write_uuid(f, id),
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What became of a request, beside its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was answered.
    Answered,
    /// It asked for no answer.
    NoneDue,
    /// It was not answered.
    Unanswered(Unanswered),
}

/// One exchange, decoded.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Where it was seen.
    pub seen: Seen,
    /// Which API.
    pub api_key: ApiKey,
    /// Which version of it.
    pub api_version: i16,
    /// Whatever the client calls itself.
    pub client_id: Option<Arc<[u8]>>,
    /// What became of it.
    pub ending: Ending,
    /// Error codes of the response other than 0, each once, the first few.
    pub errors: Vec<i16>,
    /// Whether the response was here in whole and its layout known.
    pub response_walked: bool,
    /// Why the response does not decode, where it does not.
    pub malformed: Option<DecodeError>,
    /// What was asked and answered.
    pub deed: Deed,
}

/// A topic of Metadata: its error, name and id.
pub type NamedTopic = (i16, Option<Arc<str>>, Option<[u8; 16]>);

/// What was asked and answered, for the APIs that anyone looks into. An answer that is not here
/// is absent; so is one that does not decode.
#[derive(Debug, Clone, Default)]
pub enum Deed {
    /// Any other API, or one whose request is not here in whole.
    #[default]
    Other,
    /// Produce.
    Produce {
        /// Whether a transactional id was named.
        transactional: bool,
        /// 0, 1 or −1 for all.
        acks: i16,
        /// One entry a partition of the request.
        partitions: Vec<Produced>,
    },
    /// Fetch, where it was answered without an error of the whole.
    Fetch {
        /// Whether only committed records were asked for.
        read_committed: bool,
        /// Whether a consumer asked; replicas read past the high watermark.
        by_consumer: bool,
        /// One entry a partition of the response.
        partitions: Vec<Fetched>,
    },
    /// InitProducerId.
    InitProducerId {
        /// Whose.
        transactional_id: Option<Arc<str>>,
        /// After how long the coordinator may abort.
        timeout_ms: i32,
        /// The producer id and epoch the client says it has; −1 for none.
        asked: (i64, i16),
        /// Error, producer id and epoch.
        answer: Option<(i16, i64, i16)>,
    },
    /// AddPartitionsToTxn as clients send it (until v3).
    AddPartitionsToTxn {
        /// Who asks.
        asked: EpochAsked,
        /// The partitions.
        partitions: Vec<(Topic, i32)>,
        /// Errors of the partitions.
        errors: Option<Vec<i16>>,
    },
    /// AddOffsetsToTxn.
    AddOffsetsToTxn {
        /// Who asks.
        asked: EpochAsked,
        /// The group.
        group: Arc<str>,
        /// The error.
        error: Option<i16>,
    },
    /// EndTxn.
    EndTxn {
        /// Who asks.
        asked: EpochAsked,
        /// To commit rather than abort.
        committed: bool,
        /// The error.
        error: Option<i16>,
        /// The producer id and epoch of the next transaction. Since v5 (KIP-890).
        next: Option<(i64, i16)>,
    },
    /// WriteTxnMarkers, of a coordinator or an administrator: producer id, epoch, and whether to
    /// commit.
    WriteTxnMarkers(Vec<(i64, i16, bool)>),
    /// TxnOffsetCommit.
    TxnOffsetCommit {
        /// Who asks.
        asked: EpochAsked,
        /// The offsets.
        offsets: Offsets,
    },
    /// OffsetCommit.
    OffsetCommit(Offsets),
    /// OffsetFetch, one entry a group.
    OffsetFetch {
        /// Whether offsets of open transactions are to be waited for (KIP-447).
        require_stable: bool,
        /// What was answered, without what has an error.
        groups: Vec<(Arc<str>, Vec<PartitionOffset>)>,
    },
    /// JoinGroup.
    JoinGroup {
        /// The group.
        group: Arc<str>,
        /// Of a static member.
        instance: Option<Arc<str>>,
        /// Whether it is a group of consumers; others (Connect) assign other things.
        is_consumer: bool,
        /// Error, generation, member id.
        answer: Option<(i16, i32, Arc<str>)>,
    },
    /// SyncGroup.
    SyncGroup {
        /// Who asks.
        member: Asked,
        /// Whether the request brings the assignments of all: it is the leader's.
        assigns: bool,
        /// Whether the leader's own request gives one partition twice.
        shared_by_leader: bool,
        /// Error and the partitions of the member, where it is a consumer.
        answer: Option<(i16, Vec<(Topic, i32)>)>,
    },
    /// LeaveGroup: the members that left.
    LeaveGroup {
        /// The group.
        group: Arc<str>,
        /// Their ids.
        members: Vec<Arc<str>>,
        /// The error.
        error: Option<i16>,
    },
    /// ConsumerGroupHeartbeat (KIP-848).
    ConsumerGroupHeartbeat {
        /// Who asks, with the member epoch as generation.
        member: Asked,
        /// Error, member epoch, member id.
        answer: Option<(i16, i32, Option<Arc<str>>)>,
        /// The partitions the answer assigns; absent where it says nothing of them.
        assigned: Option<Vec<(Topic, i32)>>,
    },
    /// Metadata.
    Metadata {
        /// Which cluster. Since v2.
        cluster_id: Option<Arc<str>>,
        /// Its brokers.
        nodes: Vec<Node>,
        /// Error, name, id.
        topics: Vec<NamedTopic>,
    },
    /// DescribeCluster or FindCoordinator: nodes of the broker's own cluster.
    Nodes {
        /// Which cluster; FindCoordinator does not say.
        cluster_id: Option<Arc<str>>,
        /// Some of its nodes.
        nodes: Vec<Node>,
    },
    /// ApiVersions: key, lowest and highest version.
    ApiVersions(Vec<(i16, i16, i16)>),
    /// CreateTopics or DeleteTopics: the topics it succeeded for.
    TopicsChanged(Vec<Topic>),
    /// DeleteGroups or OffsetDelete: the groups of which offsets are gone.
    GroupsChanged(Vec<Arc<str>>),
}

/// A producer as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochAsked {
    /// Its transactional id.
    pub transactional_id: Arc<str>,
    /// Its producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
}

/// A member of a group as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The group.
    pub group: Arc<str>,
    /// The generation, or the member epoch.
    pub generation: i32,
    /// The member.
    pub member: Arc<str>,
    /// Of a static member.
    pub instance: Option<Arc<str>>,
}

/// Offsets that a request commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets {
    /// Who asks.
    pub member: Asked,
    /// What for.
    pub offsets: Vec<PartitionOffset>,
    /// Whether there was an answer.
    pub answered: bool,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOffset {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The offset; −1 where a group has none.
    pub offset: i64,
    /// What the answer says; 0 where there is none.
    pub error: i16,
}

/// One partition of a Produce request.
#[derive(Debug, Clone)]
pub struct Produced {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// Its batches.
    pub batches: Vec<BatchFacts>,
    /// Error, base offset, log start offset.
    pub answer: Option<(i16, i64, i64)>,
}

/// One partition of a Fetch response.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// From where; absent where the request that said so is not here.
    pub fetch_offset: Option<i64>,
    /// The leader epoch that the request held the broker to; absent where it named none.
    pub leader_epoch: Option<i32>,
    /// The last offset that the fetch session had returned before, −1 for none; absent where it is no
    /// session, or one of which not every request was seen (KIP-227).
    pub returned_to: Option<i64>,
    /// The error.
    pub error: i16,
    /// The high watermark.
    pub high_watermark: i64,
    /// The last stable offset; −1 where it is not said.
    pub last_stable_offset: i64,
    /// The log start offset; −1 where it is not said.
    pub log_start_offset: i64,
    /// Producer id and first offset of each aborted transaction.
    pub aborted: Vec<(i64, i64)>,
    /// The whole batches.
    pub batches: Vec<BatchFacts>,
    /// Whether something in between could not be read as a batch.
    pub unreadable: bool,
}

impl Fetched {
    /// Of each transactional batch of an answer to a consumer of committed records, whether the
    /// consumer hands its records on: it passes over those of the producers that the aborted list
    /// names, from the first offset of the aborted transaction up to the abort marker (KIP-98).
    /// Nothing is said of other batches, and of those at or above the last stable offset, which
    /// were not decided yet.
    #[must_use]
    pub fn handed_on(&self) -> Vec<Option<bool>> {
        let mut aborted = self.aborted.clone();
        aborted.sort_by_key(|&(_, first)| first);
        let mut aborted = aborted.into_iter().peekable();
        let mut hidden: Vec<i64> = Vec::new();
        let mut handed = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            let last = batch.header.last_offset().0;
            while let Some((producer_id, _)) = aborted.next_if(|&(_, first)| first <= last) {
                hidden.push(producer_id);
            }
            let producer_id = batch.header.producer_id.0;
            if batch.control == Some(ControlType::Abort) {
                hidden.retain(|&id| id != producer_id);
            }
            let is_decided = batch.is_transactional_data()
                && batch.header.base_offset.0 < self.last_stable_offset;
            handed.push(is_decided.then(|| !hidden.contains(&producer_id)));
        }
        handed
    }
}

impl Default for Topic {
    fn default() -> Self {
        Self::Id([0; 16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_two_files_are_in_order_only_where_their_clocks_cannot_explain_it() {
        let at = |file: u32, number: u64, time_ns: u64| Moment {
            packet: PacketNumber { file, number },
            time_ns,
        };
        let first = at(0, 1, 5);
        for (other, is_later) in [
            (at(0, 2, 6), true),
            // Packets of one file that are not in the order of their times.
            (at(0, 2, 5), false),
            (at(0, 1, 6), false),
            (at(1, 1, 5 + CLOCKS_DIFFER_NS_MAX), false),
            (at(1, 1, 6 + CLOCKS_DIFFER_NS_MAX), true),
            (at(1, 9, 5 + 9_000_000_000), false),
        ] {
            assert_eq!(first.is_before(other), is_later, "{other:?}");
            assert!(!other.is_before(first), "{other:?}");
        }
    }
}
