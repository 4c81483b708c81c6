//! Reads whole partitions: what a consumer is shown, and where the log and what is stable end.

use std::collections::BTreeMap;

use kafka_wire::ErrorCode;
use kafka_wire::batch::Scratch;
use kafka_wire::ids::{LeaderEpoch, Offset};

use super::switchboard::{NoWay, Switchboard, Whom};
use crate::client::Fate;
use crate::client::cluster::TopicPartition;
use crate::client::fetch::{self, IsolationLevel, Limits, Position, Session};
use crate::client::read::read;

const FETCH: i16 = 12;
/// Fetches of one partition before it is taken to have no end.
const ROUNDS_MAX: usize = 200;

/// What a partition holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Whole {
    /// Offsets and values, in order.
    pub(super) records: Vec<(i64, Vec<u8>)>,
    pub(super) last_stable_offset: i64,
    pub(super) high_watermark: i64,
}

impl Whole {
    /// The records' values.
    pub(super) fn values(&self) -> Vec<String> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        self.records.iter().map(|(_, value)| text(value)).collect()
    }

    /// Whether nothing in it waits for a transaction.
    pub(super) fn is_stable(&self) -> bool {
        self.last_stable_offset == self.high_watermark
    }
}

/// Reads a partition from its beginning to its end.
pub(super) async fn whole(
    board: &mut Switchboard,
    partition: &TopicPartition,
    isolation: IsolationLevel,
) -> Result<Whole, NoWay> {
    read_from(board, partition, isolation, (0, None)).await
}

/// Reads a partition from an offset to its end, with a limit of bytes for each answer or none.
pub(super) async fn read_from(
    board: &mut Switchboard,
    partition: &TopicPartition,
    isolation: IsolationLevel,
    (from, bytes_max): (i64, Option<i32>),
) -> Result<Whole, NoWay> {
    let mut whole = Whole::default();
    let mut at = Offset(from);
    let mut limits = Limits { max_wait_ms: 0, min_bytes: 0, ..Limits::default() };
    if let Some(bytes_max) = bytes_max {
        (limits.max_bytes, limits.partition_max_bytes) = (bytes_max, bytes_max);
    }
    for _ in 0..ROUNDS_MAX {
        let (_, address) = board.find(&Whom::Leader(partition.clone())).await?;
        let connection = board.connection("reader", &address).await?;
        let position = Position {
            fetch_offset: at,
            leader_epoch: LeaderEpoch(-1),
            topic_id: Default::default(),
        };
        let wanted = BTreeMap::from([(partition.clone(), position)]);
        let request = Session::off().request(FETCH, isolation, limits, &wanted);
        let response = fetch::send(&connection, FETCH, &request).await?.answer().await?;
        let fetched = fetch::fetched(response, FETCH, |_| None)?;
        let Some(answer) = fetched.partitions.first().filter(|_| fetched.error.is_none()) else {
            let why = format!("Fetch of {partition} answers {}", fetched.error);
            return Err(Fate::NotSent { why }.into());
        };
        if matches!(
            answer.error,
            ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        ) {
            board.forget();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        }
        if !answer.error.is_none() {
            let why = format!("Fetch of {partition} answers {}", answer.error);
            return Err(Fate::NotSent { why }.into());
        }
        whole.last_stable_offset = answer.last_stable_offset.0;
        whole.high_watermark = answer.high_watermark.0;
        let shown = read(answer, at, isolation, &mut Scratch::new());
        let bytes = |value: Option<bytes::Bytes>| value.map_or_else(Vec::new, |v| v.to_vec());
        let records = shown.records.into_iter().map(|(offset, value)| (offset.0, bytes(value)));
        whole.records.extend(records);
        let end = match isolation {
            IsolationLevel::ReadCommitted => whole.last_stable_offset,
            IsolationLevel::ReadUncommitted => whole.high_watermark,
        };
        if shown.next_offset.0 >= end || shown.next_offset == at {
            return Ok(whole);
        }
        at = shown.next_offset;
    }
    Ok(whole)
}
