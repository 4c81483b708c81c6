//! Produce, read with compiled lookups.

use std::sync::LazyLock;

use kafka_wire::ApiKey;
use kafka_wire::batch::Scratch;
use kafka_wire::schema::{Direction, Flow, Lookups, Scalar};

use super::batch::batches_of;
use super::fact::{Produced, Topic};
use super::names::Names;

static REQUEST: LazyLock<Lookups> = LazyLock::new(|| {
    Lookups::new(
        ApiKey::PRODUCE,
        Direction::Request,
        &[
            "transactional_id",
            "acks",
            "topic_data.name",
            "topic_data.topic_id",
            "topic_data.partition_data.index",
            "topic_data.partition_data.records",
        ],
    )
    .expect("the table has these fields")
});

static RESPONSE: LazyLock<Lookups> = LazyLock::new(|| {
    Lookups::new(
        ApiKey::PRODUCE,
        Direction::Response,
        &[
            "responses.name",
            "responses.topic_id",
            "responses.partition_responses.index",
            "responses.partition_responses.error_code",
            "responses.partition_responses.base_offset",
            "responses.partition_responses.log_start_offset",
        ],
    )
    .expect("the table has these fields")
});

/// A Produce request.
#[derive(Debug)]
pub(super) struct ProduceAsked {
    pub(super) transactional: bool,
    pub(super) acks: i16,
    pub(super) partitions: Vec<Produced>,
}

/// Reads a request; absent where it does not decode.
pub(super) fn request(
    version: i16,
    body: &[u8],
    names: &mut Names,
    scratch: &mut Scratch,
    keep_records: bool,
) -> Option<ProduceAsked> {
    let mut asked = ProduceAsked { transactional: false, acks: 0, partitions: Vec::new() };
    let mut topic = Topic::default();
    let mut partition = 0;
    let walked = REQUEST.at(version)?.read(body, |hit| {
        match (hit.slot, hit.value) {
            (0, value) => asked.transactional = value != Scalar::Null,
            (1, Scalar::Int(acks)) => asked.acks = acks as i16,
            (2, Scalar::String(name)) => topic = Topic::Name(names.of(name)),
            (3, Scalar::Uuid(id)) => topic = Topic::Id(*id),
            (4, Scalar::Int(index)) => partition = index as i32,
            (5, value) => {
                let field = value.as_bytes().unwrap_or_default();
                let (batches, _) = batches_of(field, scratch, keep_records);
                let topic = topic.clone();
                asked.partitions.push(Produced { topic, partition, batches, answer: None });
            }
            _ => {}
        }
        Flow::Continue(())
    });
    walked.stopped.is_none().then_some(asked)
}

/// Reads a response into the partitions of its request.
pub(super) fn response(version: i16, body: &[u8], names: &mut Names, asked: &mut [Produced]) {
    let mut topic = Topic::default();
    let (mut partition, mut error, mut base) = (0, 0, -1);
    let mut at = 0;
    let Some(lookup) = RESPONSE.at(version) else { return };
    let has_log_start = lookup.field(5).is_some();
    let mut answer = |topic: &Topic, partition: i32, answer| {
        // Brokers answer in the order of the request, or nearly so.
        let is_it = |p: &Produced| p.partition == partition && p.topic == *topic;
        let found = (0..asked.len()).map(|i| (at + i) % asked.len()).find(|&i| is_it(&asked[i]));
        if let Some(found) = found {
            asked[found].answer = Some(answer);
            at = found + 1;
        }
    };
    lookup.read(body, |hit| {
        match (hit.slot, hit.value) {
            (0, Scalar::String(name)) => topic = Topic::Name(names.of(name)),
            (1, Scalar::Uuid(id)) => topic = Topic::Id(*id),
            (2, Scalar::Int(index)) => partition = index as i32,
            (3, Scalar::Int(code)) => error = code as i16,
            (4, Scalar::Int(offset)) => {
                base = offset;
                if !has_log_start {
                    answer(&topic, partition, (error, base, -1));
                }
            }
            (5, Scalar::Int(start)) => answer(&topic, partition, (error, base, start)),
            _ => {}
        }
        Flow::Continue(())
    });
}
