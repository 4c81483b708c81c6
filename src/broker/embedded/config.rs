//! What an embedded broker is told before it starts; the names are Kafka's own where Kafka has one.

use super::bug::Bug;

/// The transaction version a cluster has finalized (KIP-890).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionVersion {
    /// Clients enlist partitions themselves; the epoch stays from one transaction to the next.
    One,
    /// Produce enlists; every end of a transaction bumps the epoch.
    Two,
}

/// Settings of an embedded broker. Those that Kafka knows keep Kafka's name and default, unless
/// the field says otherwise.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many nodes Metadata lists. Default 1.
    pub nodes: usize,
    /// `transaction.version`, finalized. Default 2.
    pub transaction_version: TransactionVersion,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `num.partitions` of topics created on demand.
    pub num_partitions: i32,
    /// `message.max.bytes`: the largest batch.
    pub message_max_bytes: usize,
    /// `socket.request.max.bytes`: the largest frame.
    pub frame_bytes_max: usize,
    /// `transaction.max.timeout.ms`.
    pub transaction_max_timeout_ms: i32,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: how often timed-out
    /// transactions are looked for. Default 1,000, where Kafka has 10,000.
    pub transaction_scan_interval_ms: u64,
    /// `add.partitions.to.txn.retry.backoff.max.ms`: how long a Produce of version 12 waits for
    /// the markers of the transaction before.
    pub add_partitions_retry_ms: u64,
    /// How long after EndTxn the markers are written. Default 0: as soon as the answer is on its
    /// way, yet never before it.
    pub marker_delay_ms: u64,
    /// `group.initial.rebalance.delay.ms`. Default 0, where Kafka has 3,000.
    pub group_initial_rebalance_delay_ms: u64,
    /// `group.min.session.timeout.ms`. Default 1,000, where Kafka has 6,000.
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout_ms: i32,
    /// `group.consumer.session.timeout.ms` of KIP-848 groups.
    pub consumer_session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms` of KIP-848 groups. Default 1,000, where Kafka has
    /// 5,000.
    pub consumer_heartbeat_interval_ms: i32,
    /// All records of all partitions together; beyond it the oldest go and log starts move on.
    /// Kafka has no such setting. Default 1 GiB.
    pub log_bytes_max: u64,
    /// Most bytes of one Fetch answer: `fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions_max: usize,
    /// Most connections at once over all nodes; further ones are closed at once.
    pub connections_max: usize,
    /// The planted bug, if any. `None` is the reference.
    pub bug: Option<Bug>,
    /// A log of everything that must survive a restart, replayed at the next start.
    pub data_dir: Option<std::path::PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: 1,
            transaction_version: TransactionVersion::Two,
            auto_create_topics: true,
            num_partitions: 1,
            message_max_bytes: 1_048_588,
            frame_bytes_max: kafka_wire::frame::FRAME_BYTES_MAX,
            transaction_max_timeout_ms: 900_000,
            transaction_scan_interval_ms: 1_000,
            add_partitions_retry_ms: 100,
            marker_delay_ms: 0,
            group_initial_rebalance_delay_ms: 0,
            group_min_session_timeout_ms: 1_000,
            group_max_session_timeout_ms: 1_800_000,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 1_000,
            log_bytes_max: 1 << 30,
            fetch_max_bytes: 57_671_680,
            fetch_sessions_max: 1_000,
            connections_max: 20_000,
            bug: None,
            data_dir: None,
        }
    }
}
