//! Reads everything back at the end: new clients, every key from its beginning, until each
//! partition is read to the end it had when the reading began.
//!
//! Transactions that clients left open hold the last stable offset back; the coordinator aborts
//! them after their timeout, and the polls go on until it has, or the time limit is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::generator::Key;
use super::process::{Clients, open, value_of};
use super::queue::{Drive, REOPEN_PAUSE, Stop};
use kafka_wire::ids::Offset;

use crate::client::cluster::TopicPartition;
use crate::client::offsets::Answers;
use crate::history::Moment;
use crate::history::event::{EventType, EventValue, Function, Mop, Process};
use crate::pipeline::Start;

/// How long one of the final polls waits for records.
const POLL_WAIT: Duration = Duration::from_millis(1000);

/// One reader: a process of its own.
pub(super) struct Reader {
    drive: Arc<Drive>,
    process: i64,
    deadline: Instant,
}

impl Reader {
    pub(super) fn new(drive: Arc<Drive>, number: u32) -> Self {
        let deadline = Instant::now() + drive.options.final_time_limit;
        // Far from the numbers of the main phase's processes, and stable.
        let process = 1_000_000_000 + i64::from(number);
        Self { drive, process, deadline }
    }

    pub(super) async fn run(mut self) {
        let keys: Vec<Key> = self.drive.with_generator(|generator| generator.keys().collect());
        while !self.is_over() {
            if self.read_all(&keys).await {
                return;
            }
            self.process += i64::from(self.drive.options.final_readers);
            tokio::time::sleep(REOPEN_PAUSE).await;
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline || self.drive.is_over(Stop::FinalPolls)
    }

    /// One attempt with new clients; answers whether everything was read.
    async fn read_all(&mut self, keys: &[Key]) -> bool {
        let Ok(mut clients) = open(&self.drive).await else { return false };
        let existing = self.existing(keys).await;
        let Some(mut ends) = self.ends(&mut clients, &existing).await else { return false };
        self.assign(&mut clients, &existing);
        let mut left = self.targets(&ends);
        while !self.is_over() {
            left.retain(|(tp, end)| clients.consumer.position(tp).is_none_or(|at| at.0 < *end));
            if left.is_empty() {
                // A transaction of unknown outcome may have been committed in the meantime.
                match self.ends(&mut clients, &existing).await {
                    Some(now) if now == ends => return true,
                    Some(now) => ends = now,
                    None => return false,
                }
                left = self.targets(&ends);
            } else if !self.poll(&mut clients).await {
                return false;
            }
        }
        false
    }

    /// Where each partition must be read to: to its end, and past all that is known to be there
    /// (the last stable offset may still stand before it).
    fn targets(&self, ends: &[(TopicPartition, i64)]) -> Vec<(TopicPartition, i64)> {
        self.drive.with_generator(|generator| {
            let known = generator.known_offsets();
            let target = |(tp, end): &(TopicPartition, i64)| {
                let sent = self.drive.key(tp).and_then(|key| known.get(&key));
                (tp.clone(), sent.map_or(*end, |offset| *end.max(&(offset + 1))))
            };
            ends.iter().map(target).filter(|(_, end)| *end > 0).collect()
        })
    }

    /// The keys whose topic was ever made.
    async fn existing(&self, keys: &[Key]) -> Vec<Key> {
        let made = |key: &&Key| self.drive.is_made(&self.drive.partition(**key).topic);
        keys.iter().filter(made).copied().collect()
    }

    /// The end of every partition, as an operation of the history.
    async fn ends(
        &self,
        clients: &mut Clients,
        keys: &[Key],
    ) -> Option<Vec<(TopicPartition, i64)>> {
        let invoked = Moment::invoke(
            Process::Client(self.process),
            Function::DebugTopicPartitions,
            EventValue::Keys(keys.to_vec()),
        );
        self.drive.recorder.record(invoked.clone());
        let partitions: Vec<TopicPartition> =
            keys.iter().map(|key| self.drive.partition(*key)).collect();
        let ends = clients.consumer.end_offsets(&partitions, &mut Vec::new()).await;
        let ends = ends.map_err(|trouble| trouble.to_string()).and_then(all_known);
        let completion = match &ends {
            Ok(ends) => {
                let fields: Vec<String> = ends
                    .iter()
                    .filter_map(|(tp, end)| {
                        self.drive.key(tp).map(|key| format!("\"{key}\":{{\"offset\":{end}}}"))
                    })
                    .collect();
                let value = EventValue::Json(format!("{{{}}}", fields.join(",")));
                invoked.completion(EventType::Ok, value)
            }
            Err(error) => {
                let mut failed = invoked.completion(EventType::Fail, invoked.value.clone());
                failed.error = Some(error.clone());
                failed
            }
        };
        self.drive.recorder.record(completion);
        ends.ok()
    }

    fn assign(&self, clients: &mut Clients, keys: &[Key]) {
        let value = EventValue::Keys(keys.to_vec());
        let process = Process::Client(self.process);
        let mut invoked = Moment::invoke(process, Function::Assign, value.clone());
        invoked.extra.push(("seek_to_beginning".into(), "true".into()));
        self.drive.recorder.record(invoked.clone());
        let partitions: Vec<TopicPartition> =
            keys.iter().map(|key| self.drive.partition(*key)).collect();
        clients.consumer.assign(&partitions, Start::Beginning);
        self.drive.recorder.record(invoked.completion(EventType::Ok, value));
    }

    async fn poll(&self, clients: &mut Clients) -> bool {
        let value = EventValue::Mops(vec![Mop::Poll { records: None }]);
        let process = Process::Client(self.process);
        let mut invoked = Moment::invoke(process, Function::Poll, value);
        invoked.extra.push(("poll_ms".into(), POLL_WAIT.as_millis().to_string()));
        self.drive.recorder.record(invoked.clone());
        let polled = clients.consumer.poll(POLL_WAIT).await;
        let records = polled
            .records
            .iter()
            .filter_map(|(tp, run)| {
                let run =
                    run.iter().map(|(at, value)| (at.0, value_of(value.as_deref()))).collect();
                self.drive.key(tp).map(|key| (key, run))
            })
            .collect();
        let value = EventValue::Mops(vec![Mop::Poll { records: Some(records) }]);
        let event_type = if polled.error.is_none() { EventType::Ok } else { EventType::Fail };
        let mut completion = invoked.completion(event_type, value);
        completion.error = polled.error.as_ref().map(ToString::to_string);
        self.drive.recorder.record(completion);
        polled.error.is_none()
    }
}

/// Every partition's end, or the first error.
fn all_known(ends: Answers<Offset>) -> Result<Vec<(TopicPartition, i64)>, String> {
    ends.into_iter()
        .map(|(tp, end)| match end {
            Ok(end) => Ok((tp, end.0)),
            Err(code) => Err(format!("{tp}: {code}")),
        })
        .collect()
}
