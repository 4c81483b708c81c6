//! Where things stand in what was said: batches in Produce and Fetch, offsets of groups.

use kafka_wire::ApiKey;
use kafka_wire::batch::{BatchHeader, reseal, rewrite_header};
use kafka_wire::schema::{Fields, Value};

use crate::talk::{Talk, Way, bytes};

/// A batch as its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch(pub(crate) Vec<u8>);

impl Batch {
    pub(crate) fn header(&self) -> BatchHeader {
        BatchHeader::decode(&self.0).unwrap()
    }

    pub(crate) fn base(&self) -> i64 {
        self.header().base_offset.0
    }

    pub(crate) fn last(&self) -> i64 {
        self.header().last_offset().0
    }

    pub(crate) fn count(&self) -> i64 {
        self.last() - self.base() + 1
    }

    pub(crate) fn producer(&self) -> i64 {
        self.header().producer_id.0
    }

    pub(crate) fn is_marker(&self) -> bool {
        self.header().is_control()
    }

    pub(crate) fn is_transactional_data(&self) -> bool {
        self.header().is_transactional() && !self.is_marker()
    }

    /// Whether a marker commits.
    pub(crate) fn commits(&self) -> bool {
        // Length, attributes, times, offset, key length, version, type.
        self.is_marker() && self.0[69] == 1
    }

    /// Whether both are one write of one idempotent producer.
    pub(crate) fn is_write_of(&self, other: &Self) -> bool {
        let (one, other) = (self.header(), other.header());
        let key = |h: &BatchHeader| (h.producer_id, h.producer_epoch, h.base_sequence);
        one.producer_id.0 >= 0 && one.base_sequence.0 >= 0 && key(&one) == key(&other)
    }

    /// Changes the header and makes the checksum right again.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut BatchHeader)) {
        let mut header = self.header();
        change(&mut header);
        rewrite_header(&mut self.0, &header);
        reseal(&mut self.0);
    }

    /// Changes a byte of its records, from the end, and makes the checksum right again.
    pub(crate) fn change_record(&mut self) {
        // The last byte is the number of headers of the last record.
        let at = self.0.len() - 2;
        self.0[at] ^= 1;
        reseal(&mut self.0);
    }
}

/// The batches of a field, and what stands behind them.
pub(crate) fn split(mut field: &[u8]) -> (Vec<Batch>, Vec<u8>) {
    let mut batches = Vec::new();
    while field.len() > 61 && field[16] == 2 {
        let length = 12 + u32::from_be_bytes([field[8], field[9], field[10], field[11]]) as usize;
        let Some((batch, rest)) = field.split_at_checked(length) else { break };
        batches.push(Batch(batch.to_vec()));
        field = rest;
    }
    (batches, field.to_vec())
}

fn array<'f>(fields: &'f Fields, name: &str) -> &'f [Value] {
    fields.field(name).and_then(Value::as_array).unwrap_or_default()
}

fn int(fields: &Fields, name: &str) -> i64 {
    fields.field(name).and_then(Value::as_int).unwrap_or(-1)
}

/// The name or the id of a topic.
fn topic(fields: &Fields) -> Value {
    let names = ["topic_id", "name", "topic"];
    names.iter().find_map(|name| fields.field(name)).cloned().unwrap_or(Value::Null)
}

/// A partition of a Produce that was answered, with one batch.
#[derive(Debug, Clone)]
pub(crate) struct Produced {
    pub(crate) exchange: usize,
    pub(crate) topic: Value,
    pub(crate) partition: i64,
    /// Where its batch and its answer stand.
    records: String,
    pub(crate) answer: String,
    pub(crate) batch: Batch,
    pub(crate) error: i64,
    pub(crate) base: i64,
    pub(crate) acks: i64,
}

/// Every partition of every Produce, in the order of the requests.
pub(crate) fn produced(talk: &Talk) -> Vec<Produced> {
    let mut all = Vec::new();
    for exchange in talk.of(ApiKey::PRODUCE) {
        let request = &talk.exchanges[exchange].request;
        let response = talk.exchanges[exchange].response.as_ref().unwrap();
        for (t, of) in array(request, "topic_data").iter().filter_map(Value::as_struct).enumerate()
        {
            let answers = array(response, "responses").iter().filter_map(Value::as_struct);
            let Some((at, answer)) = answers.enumerate().find(|(_, a)| topic(a) == topic(of))
            else {
                continue;
            };
            let partitions = array(of, "partition_data").iter().filter_map(Value::as_struct);
            for (p, asked) in partitions.enumerate() {
                let told = array(answer, "partition_responses").iter().filter_map(Value::as_struct);
                let told = told.enumerate().find(|(_, a)| int(a, "index") == int(asked, "index"));
                let records = asked.field("records").and_then(Value::as_bytes).unwrap_or_default();
                let (batches, _) = split(records);
                if let (Some((nth, told)), [batch]) = (told, &batches[..]) {
                    all.push(Produced {
                        exchange,
                        topic: topic(of),
                        partition: int(asked, "index"),
                        records: format!("topic_data[{t}].partition_data[{p}].records"),
                        answer: format!("responses[{at}].partition_responses[{nth}]"),
                        batch: batch.clone(),
                        error: int(told, "error_code"),
                        base: int(told, "base_offset"),
                        acks: int(request, "acks"),
                    });
                }
            }
        }
    }
    all
}

impl Produced {
    pub(crate) fn is_acked(&self) -> bool {
        self.error == 0 && self.base >= 0 && self.acks == -1
    }

    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (&self.topic, self.partition) == (&other.topic, other.partition)
    }

    pub(crate) fn answered(&self, talk: &mut Talk, error: i64, base: i64) {
        talk.reply(self.exchange, &format!("{}.error_code", self.answer), error);
        talk.reply(self.exchange, &format!("{}.base_offset", self.answer), base);
    }

    /// Sends another batch instead.
    pub(crate) fn sent(&self, talk: &mut Talk, batch: Batch) {
        talk.ask(self.exchange, &self.records, bytes(batch.0));
    }
}

/// A partition of a Fetch answer.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) exchange: usize,
    pub(crate) topic: Value,
    pub(crate) partition: i64,
    pub(crate) path: String,
    pub(crate) batches: Vec<Batch>,
    rest: Vec<u8>,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) aborted: Vec<(i64, i64)>,
    pub(crate) read_committed: bool,
}

/// Every partition of every Fetch answer to a consumer.
pub(crate) fn fetched(talk: &Talk) -> Vec<Fetched> {
    let mut all = Vec::new();
    for exchange in talk.of(ApiKey::FETCH) {
        let request = &talk.exchanges[exchange].request;
        let response = talk.exchanges[exchange].response.as_ref().unwrap();
        for (t, of) in array(response, "responses").iter().filter_map(Value::as_struct).enumerate()
        {
            let partitions = array(of, "partitions").iter().filter_map(Value::as_struct);
            for (p, told) in partitions.enumerate().filter(|(_, p)| int(p, "error_code") == 0) {
                let records = told.field("records").and_then(Value::as_bytes).unwrap_or_default();
                let (batches, rest) = split(records);
                let aborted = array(told, "aborted_transactions").iter();
                let aborted = aborted
                    .filter_map(Value::as_struct)
                    .map(|a| (int(a, "producer_id"), int(a, "first_offset")));
                all.push(Fetched {
                    exchange,
                    topic: topic(of),
                    partition: int(told, "partition_index"),
                    path: format!("responses[{t}].partitions[{p}]"),
                    batches,
                    rest,
                    high_watermark: int(told, "high_watermark"),
                    last_stable_offset: int(told, "last_stable_offset"),
                    aborted: aborted.collect(),
                    read_committed: int(request, "isolation_level") == 1,
                });
            }
        }
    }
    all
}

impl Fetched {
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (&self.topic, self.partition) == (&other.topic, other.partition)
    }

    pub(crate) fn reply(&self, talk: &mut Talk, field: &str, value: impl Into<Value>) {
        assert!(talk.reply(self.exchange, &format!("{}.{field}", self.path), value), "{field}");
    }

    /// Answers with its batches, and so many more offsets, as they are now.
    pub(crate) fn answered(&self, talk: &mut Talk, more: i64) {
        let all = self.batches.iter().flat_map(|batch| &batch.0).chain(&self.rest);
        let records: Vec<u8> = all.copied().collect();
        self.reply(talk, "records", bytes(records));
        if more > 0 {
            self.reply(talk, "high_watermark", self.high_watermark + more);
            self.reply(talk, "last_stable_offset", self.last_stable_offset + more);
        }
    }

    pub(crate) fn names_aborted(&self, talk: &mut Talk, aborted: &[(i64, i64)]) {
        let entry = |&(producer_id, first_offset): &(i64, i64)| {
            let fields = Fields::new().with("producer_id", producer_id);
            Value::Struct(fields.with("first_offset", first_offset))
        };
        let entries: Vec<Value> = aborted.iter().map(entry).collect();
        self.reply(talk, "aborted_transactions", Value::Array(entries));
    }
}

/// Changes a batch in every answer that has it; the exchanges that have.
pub(crate) fn everywhere(
    talk: &mut Talk,
    like: &Fetched,
    base: i64,
    change: impl Fn(&mut Vec<Batch>, usize),
) -> Vec<usize> {
    let mut changed = Vec::new();
    for mut place in fetched(talk) {
        let at = place.batches.iter().position(|batch| batch.base() == base);
        if let Some(at) = at.filter(|_| place.is_of(like)) {
            change(&mut place.batches, at);
            place.answered(talk, 0);
            changed.push(place.exchange);
        }
    }
    changed
}

/// One partition of an OffsetFetch answer or of a commit.
#[derive(Debug, Clone)]
pub(crate) struct GroupOffset {
    pub(crate) exchange: usize,
    pub(crate) group: String,
    pub(crate) topic: Value,
    pub(crate) partition: i64,
    pub(crate) offset: i64,
    pub(crate) path: String,
    pub(crate) error: i64,
}

fn text(fields: &Fields, name: &str) -> String {
    fields.field(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn offsets_in(
    out: &mut Vec<GroupOffset>,
    exchange: usize,
    group: &str,
    (fields, prefix): (&Fields, &str),
) {
    for (t, of) in array(fields, "topics").iter().filter_map(Value::as_struct).enumerate() {
        let partitions = array(of, "partitions").iter().filter_map(Value::as_struct);
        out.extend(partitions.enumerate().map(|(p, told)| GroupOffset {
            exchange,
            group: group.to_owned(),
            topic: topic(of),
            partition: int(told, "partition_index"),
            offset: int(told, "committed_offset"),
            path: format!("{prefix}topics[{t}].partitions[{p}]"),
            error: int(told, "error_code"),
        }));
    }
}

/// What OffsetFetch answered.
pub(crate) fn offsets_told(talk: &Talk) -> Vec<GroupOffset> {
    let mut all = Vec::new();
    for exchange in talk.of(ApiKey::OFFSET_FETCH) {
        let response = talk.exchanges[exchange].response.as_ref().unwrap();
        let group = text(&talk.exchanges[exchange].request, "group_id");
        offsets_in(&mut all, exchange, &group, (response, ""));
        let groups = array(response, "groups").iter().filter_map(Value::as_struct);
        for (g, of) in groups.enumerate() {
            offsets_in(&mut all, exchange, &text(of, "group_id"), (of, &format!("groups[{g}].")));
        }
    }
    all
}

/// What groups committed, with the errors they were answered.
pub(crate) fn offsets_committed(talk: &Talk, api: ApiKey) -> Vec<GroupOffset> {
    let (mut all, mut answers) = (Vec::new(), Vec::new());
    for exchange in talk.of(api) {
        let request = &talk.exchanges[exchange].request;
        let response = talk.exchanges[exchange].response.as_ref().unwrap();
        offsets_in(&mut all, exchange, &text(request, "group_id"), (request, ""));
        offsets_in(&mut answers, exchange, "", (response, ""));
    }
    for of in &mut all {
        let told = answers.iter().find(|a| {
            (a.exchange, &a.topic, a.partition) == (of.exchange, &of.topic, of.partition)
        });
        of.error = told.map_or(-1, |told| told.error);
    }
    all
}

/// An integer of a request or an answer.
pub(crate) fn number(talk: &Talk, exchange: usize, way: Way, path: &str) -> i64 {
    let exchange = &talk.exchanges[exchange];
    let fields = match way {
        Way::Request => Some(&exchange.request),
        Way::Response => exchange.response.as_ref(),
    };
    fields.and_then(|fields| fields.at(path)).and_then(Value::as_int).unwrap_or(-1)
}
