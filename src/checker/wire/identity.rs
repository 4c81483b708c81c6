//! Whether what contradicts itself was said of one log.
//!
//! A name may mean another topic at any moment: deleted and created anew by somebody who was not
//! captured. A contradiction between what was said by name is a broken promise only where the log
//! is known to have been one from the one moment to the other: an id was confirmed before and after;
//! a batch of an idempotent producer was there before and after; or there was no time. Otherwise the
//! name is doubtful, and nothing said by it counts.

use super::log::Log;
use super::mark::{AT_ONCE_NS, Mark};
use crate::history::facts::topics::{LogId, Topics};

/// The stretches of time in each of which a log was certainly one.
#[derive(Debug)]
pub(super) struct Identity {
    /// In order, apart from each other.
    spans_ns: Vec<(u64, u64)>,
}

impl Identity {
    pub(super) fn of(log: &Log) -> Self {
        let idempotent = log.batches.iter().filter(|batch| batch.body.producer_id >= 0);
        let mut spans: Vec<(u64, u64)> = idempotent
            .map(|batch| {
                let read_ns = batch.mark.request().time_ns;
                let ack = log.ack_at(batch.base).filter(|ack| ack.body.is_same(&batch.body));
                let sent_ns = ack.map_or(read_ns, |ack| ack.mark.request().time_ns);
                (sent_ns.min(read_ns), batch.last_read_ns.max(sent_ns))
            })
            .collect();
        spans.sort_unstable();
        // Spans that share a moment are of one log.
        let mut spans_ns: Vec<(u64, u64)> = Vec::new();
        for (from, to) in spans {
            match spans_ns.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                _ => spans_ns.push((from, to)),
            }
        }
        Self { spans_ns }
    }

    /// Whether the log was one from the first of the exchanges to the last.
    pub(super) fn is_one(&self, topics: &Topics, log: LogId, marks: &[Mark]) -> bool {
        let ns = marks.iter().map(|mark| mark.request().time_ns);
        let (Some(from), Some(to)) = (ns.clone().min(), ns.max()) else { return true };
        let next = self.spans_ns.partition_point(|(first, _)| *first <= from);
        let is_one_clock = marks.iter().all(|mark| mark.is_of_one_clock_with(&marks[0]));
        is_one_clock && to - from < AT_ONCE_NS
            || topics.is_confirmed(log, from, to)
            || next.checked_sub(1).is_some_and(|span| to <= self.spans_ns[span].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_share_a_moment_are_one() {
        let identity = Identity { spans_ns: vec![(1, 5), (1_000_000_009, 2_000_000_000)] };
        let mut topics = Topics::default();
        let topic = crate::history::facts::Topic::named("t");
        let cluster = topics.cluster(None);
        let log = topics.log(cluster, &topic, 0).unwrap();
        let marks = |from: u64, to: u64| [Mark::at_ns(from), Mark::at_ns(to)];
        assert!(identity.is_one(&topics, log, &marks(1_000_000_009, 1_900_000_000)));
        assert!(!identity.is_one(&topics, log, &marks(5, 1_900_000_000)));
        assert!(identity.is_one(&topics, log, &marks(6, 500_000_005)));
        assert!(!identity.is_one(&topics, log, &marks(6, 500_000_006)));
    }
}
