//! What is known of each log: the batches that consumers were given, the stretches they were read
//! without a hole, and what producers were told.
//!
//! Batches and acknowledgements are kept by offset, some eighty bytes each, up to a number over
//! all logs; beyond it the lowest offsets of the log at hand go and are not judged.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use kafka_wire::batch::ControlType;

use super::mark::{AT_ONCE_NS, Mark};
use crate::history::facts::BatchFacts;
use crate::history::facts::topics::LogId;

/// Batches kept of all logs.
pub(super) const BATCHES_MAX: usize = 800_000;
/// Acknowledgements kept of all logs.
pub(super) const ACKS_MAX: usize = 500_000;
/// Doubtful batches remembered of one log.
pub(super) const DOUBTFUL_MAX: usize = 256;
/// Answers remembered of one log.
const ANSWERS_MAX: usize = 32;
/// Batches kept from consumers that are remembered, in all logs.
const HIDDEN_MAX: usize = 200_000;
/// Acknowledgements with the offsets of others that are remembered of one log.
const DISOWNED_MAX: usize = 4_096;
/// Offsets of one log at which another batch was read than before.
pub(super) const REPLACED_MAX: usize = 10_000;
/// Leaders of one log that are remembered.
const REIGNS_MAX: usize = 16;
/// Batches of fenced producers that are remembered, in all logs.
const REFUSED_MAX: usize = 50_000;

/// What a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records outside of transactions.
    Plain,
    /// Records of a transaction.
    Transactional,
    /// A commit marker.
    Commit,
    /// An abort marker.
    Abort,
    /// Another control batch.
    Control,
}

impl Kind {
    pub(super) fn of(batch: &BatchFacts) -> Self {
        match batch.control {
            Some(ControlType::Commit) => Self::Commit,
            Some(ControlType::Abort) => Self::Abort,
            _ if batch.header.is_control() => Self::Control,
            _ if batch.header.is_transactional() => Self::Transactional,
            _ => Self::Plain,
        }
    }

    pub(super) fn is_marker(self) -> bool {
        matches!(self, Self::Commit | Self::Abort)
    }

    pub(super) fn is_data(self) -> bool {
        matches!(self, Self::Plain | Self::Transactional)
    }
}

/// A batch, without its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) producer_id: i64,
    pub(super) content: u64,
    pub(super) sequence: i32,
    pub(super) count: i32,
    pub(super) producer_epoch: i16,
    pub(super) kind: Kind,
    pub(super) keyed: bool,
    /// See [`BatchFacts::keys`].
    pub(super) keys: u32,
    pub(super) lasting_keys: u32,
}

impl Body {
    pub(super) fn of(batch: &BatchFacts) -> Self {
        Self {
            producer_id: batch.header.producer_id.0,
            content: batch.content,
            sequence: batch.header.base_sequence.0,
            count: batch.header.record_count,
            producer_epoch: batch.header.producer_epoch.0,
            kind: Kind::of(batch),
            keyed: batch.keyed,
            keys: batch.keys,
            lasting_keys: batch.lasting_keys,
        }
    }

    /// Whether both are the same batch: the same records of the same producer in the same place
    /// of its sequence.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.is_same_write(other) && self.content == other.content
    }

    /// Whether it holds a record without a key. What compaction left without records says nothing.
    fn is_unkeyed(&self) -> bool {
        self.kind.is_data() && self.count > 0 && !self.keyed
    }

    /// What tells batches apart: equal of two that are the same.
    pub(super) fn identity(&self) -> (i64, i16, i32, i32, u64) {
        (self.producer_id, self.producer_epoch, self.sequence, self.count, self.content)
    }

    /// Whether both are one place in a producer's sequence.
    pub(super) fn is_same_write(&self, other: &Self) -> bool {
        (self.producer_id, self.producer_epoch, self.sequence, self.count)
            == (other.producer_id, other.producer_epoch, other.sequence, other.count)
    }
}

/// A batch that a consumer was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    pub(super) base: i64,
    pub(super) last: i64,
    pub(super) body: Body,
    pub(super) leader_epoch: i32,
    /// Its greatest timestamp, in milliseconds.
    pub(super) timestamp_ms: i64,
    /// Said of the topic by name.
    pub(super) by_name: bool,
    /// A consumer of committed records was given its records, in the exchange of the mark.
    pub(super) delivered: bool,
    /// The first exchange it was seen in.
    pub(super) mark: Mark,
    /// When it was asked for last.
    pub(super) last_read_ns: u64,
}

/// A batch that a producer was told is in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    pub(super) base: i64,
    pub(super) body: Body,
    pub(super) by_name: bool,
    pub(super) mark: Mark,
    /// The exchange in which the batch was first sent, which may be an earlier one.
    pub(super) first: Mark,
}

impl Ack {
    /// The offset behind its records.
    pub(super) fn end(&self) -> i64 {
        self.base.saturating_add(self.body.count.max(1).into())
    }
}

/// A batch whose producer was told that it is fenced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    pub(super) body: Body,
    pub(super) by_name: bool,
    pub(super) mark: Mark,
}

/// A batch that was read and makes no sense.
#[derive(Debug, Clone, Copy)]
pub(super) struct Garbled {
    pub(super) base: i64,
    pub(super) body: Body,
    pub(super) by_name: bool,
    pub(super) mark: Mark,
}

/// What became of something put among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It is new.
    New,
    /// It was there already.
    Same,
    /// The same number of records at the same offset, and others.
    Differs(usize),
    /// Two acknowledgements cannot both be true: they share an offset.
    Overlaps(usize),
    /// It overlaps others in a way that may have a harmless reason: compaction, other batches.
    Unclear,
}

/// One log.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) batches: VecDeque<Batch>,
    pub(super) acks: VecDeque<Ack>,
    /// Acknowledgements with offsets that others had been given.
    pub(super) disowned: Vec<Ack>,
    /// Each of them with the other.
    pub(super) collisions: Vec<[Ack; 2]>,
    /// Stretches read without a hole, both ends included, in order.
    covered: Vec<(i64, i64)>,
    /// The last answers that had records: first and last offset, and which.
    answers: VecDeque<(i64, i64, Mark)>,
    /// The highest log start offset that was said.
    pub(super) log_start: i64,
    /// The last high watermark that a consumer was told.
    pub(super) end: Option<(i64, Mark)>,
    /// Transactional batches that one answer had and another, which went past them, had not.
    pub(super) doubtful: Vec<(i64, Mark)>,
    /// Batches that were kept from a consumer of committed records, by offset.
    pub(super) hidden: BTreeMap<i64, Mark>,
    /// Batches of fenced producers.
    pub(super) refused: Vec<Refused>,
    /// The lowest and the highest offset of answers that contradict themselves or others: what
    /// they held is not all kept.
    murky: Option<(i64, i64)>,
    /// Where another batch was read than before, by offset.
    pub(super) replaced: BTreeMap<i64, Replaced>,
    /// Leaders that consumers were answered by.
    pub(super) reigns: Vec<Reign>,
    /// Whether it took records without a key: then it is not compacted.
    takes_unkeyed: bool,
    /// Batches with a right checksum of which the records cannot be read.
    pub(super) garbled: Vec<Garbled>,
}

/// A broker that leads a partition without a break, as far as its answers show it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reign {
    pub(super) broker: SocketAddr,
    /// The leader epoch that it was held to.
    leader_epoch: Option<i32>,
    /// Where it was held to none, the connection on which it refused nothing in between.
    connection: u64,
    pub(super) since: Mark,
    /// The high watermark it stated last, and when.
    pub(super) end: (i64, Mark),
}

/// What was read where another batch had been.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replaced {
    /// The leader epoch of the batch that was read first.
    pub(super) old_epoch: i32,
    /// That of the other.
    pub(super) new_epoch: i32,
    pub(super) mark: Mark,
}

impl Replaced {
    /// Whether a later leader wrote it: the log had been cut off before.
    pub(super) fn is_later(&self) -> bool {
        self.old_epoch >= 0 && self.new_epoch > self.old_epoch
    }
}

impl Log {
    /// A consumer was answered with a high watermark, or with an error.
    pub(super) fn answered(
        &mut self,
        broker: SocketAddr,
        leader_epoch: Option<i32>,
        end: Option<i64>,
        mark: Mark,
    ) {
        let connection = mark.connection();
        let is_it = |reign: &Reign| {
            reign.broker == broker
                && reign.leader_epoch == leader_epoch
                && (leader_epoch.is_some() || reign.connection == connection)
        };
        let known = self.reigns.iter().position(is_it);
        match (known, end) {
            (Some(at), Some(end)) => {
                let reign = &mut self.reigns[at];
                if reign.end.1.is_before(&mark) {
                    reign.end = (end, mark);
                }
            }
            (Some(at), None) => drop(self.reigns.remove(at)),
            (None, Some(end)) => {
                if self.reigns.len() >= REIGNS_MAX {
                    self.reigns.remove(0);
                }
                let end = (end, mark);
                self.reigns.push(Reign { broker, leader_epoch, connection, since: mark, end });
            }
            (None, None) => {}
        }
    }

    /// Whether records before that offset, and not it, may have been deleted: the last stable
    /// offset stays there while a transaction is open that began before.
    pub(super) fn is_start(&self, offset: i64) -> bool {
        self.log_start > 0 && offset <= self.log_start
    }

    /// Whether compaction may take such a batch: what has keys, and what it has left without records.
    pub(super) fn may_be_compacted(&self, body: &Body) -> bool {
        body.count == 0 || body.keyed && !self.takes_unkeyed
    }

    /// Of each batch, the keys of all that are behind it, and none for behind the last.
    pub(super) fn keys_behind(&self) -> Vec<u32> {
        let mut keys = 0;
        let behind = self.batches.iter().rev().map(|batch| {
            let behind = keys;
            keys |= batch.body.keys;
            behind
        });
        let mut behind: Vec<u32> = behind.collect();
        behind.reverse();
        behind
    }

    /// Whether all offsets from one to the other were read, in one stretch.
    pub(super) fn is_covered(&self, from: i64, to: i64) -> bool {
        self.stretch(from).is_some_and(|(_, end)| to <= end)
    }

    /// The stretch around an offset.
    pub(super) fn stretch(&self, offset: i64) -> Option<(i64, i64)> {
        let after = self.covered.partition_point(|&(start, _)| start <= offset);
        let stretch = *self.covered[..after].last()?;
        (offset <= stretch.1).then_some(stretch)
    }

    /// A stretch was read without a hole.
    pub(super) fn cover(&mut self, from: i64, to: i64) {
        if let Some(last) = self.covered.last_mut()
            && last.0 <= from
            && from <= last.1.saturating_add(1)
        {
            last.1 = last.1.max(to);
            return;
        }
        let first = self.covered.partition_point(|&(_, end)| end.saturating_add(1) < from);
        let after = self.covered.partition_point(|&(start, _)| start <= to.saturating_add(1));
        if first >= after {
            self.covered.insert(first, (from, to));
            return;
        }
        let merged = (self.covered[first].0.min(from), self.covered[after - 1].1.max(to));
        self.covered[first] = merged;
        self.covered.drain(first + 1..after);
    }

    /// Not all of what was returned between two offsets is kept.
    pub(super) fn blur(&mut self, from: i64, to: i64) {
        let (least, most) = self.murky.unwrap_or((from, to));
        self.murky = Some((least.min(from), most.max(to)));
    }

    /// Whether all that was returned of an offset is kept.
    pub(super) fn is_clear(&self, offset: i64) -> bool {
        self.murky.is_none_or(|(from, to)| offset < from || to < offset)
    }

    /// An answer had all of a stretch.
    pub(super) fn went_through(&mut self, from: i64, to: i64, mark: Mark) {
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back((from, to, mark));
        self.cover(from, to);
    }

    /// Whether a stretch was read while a batch was still there, as far as the last answers tell; of
    /// a log that is not compacted it is as well whenever it was.
    pub(super) fn was_read_beside(&self, batch: &Batch, (mut from, to): (i64, i64)) -> bool {
        let until_ns = batch.last_read_ns.saturating_add(AT_ONCE_NS);
        let early = self.answers.iter().filter(|(.., mark)| mark.request().time_ns <= until_ns);
        let mut read: Vec<(i64, i64)> = match self.takes_unkeyed {
            true => return true,
            false => early.map(|(from, to, _)| (*from, *to)).collect(),
        };
        read.sort_unstable();
        for (first, last) in read {
            if first <= from {
                from = from.max(last.saturating_add(1));
            }
        }
        from > to
    }

    /// An answer that went past an offset, if it was one of the last.
    pub(super) fn went_past(&self, offset: i64) -> Option<Mark> {
        let mut answers = self.answers.iter();
        let past = answers.find(|(from, to, _)| (*from..=*to).contains(&offset));
        past.map(|(_, _, mark)| *mark)
    }

    /// Puts a batch among the others.
    pub(super) fn put_batch(&mut self, batch: Batch) -> Put {
        self.takes_unkeyed |= batch.body.is_unkeyed();
        let at = self.batches.partition_point(|known| known.base < batch.base);
        if let Some(known) = self.batches.get(at)
            && known.base == batch.base
        {
            let known_body = known.body;
            return if known.last == batch.last && known_body.is_same(&batch.body) {
                let last_read_ns = known.last_read_ns.max(batch.last_read_ns);
                self.batches[at].last_read_ns = last_read_ns;
                if batch.delivered && !self.batches[at].delivered {
                    self.batches[at].delivered = true;
                    self.batches[at].mark = batch.mark;
                }
                Put::Same
            } else if known.last == batch.last && known_body.count == batch.body.count {
                Put::Differs(at)
            } else {
                Put::Unclear
            };
        }
        let overlaps = at > 0 && self.batches[at - 1].last >= batch.base
            || self.batches.get(at).is_some_and(|next| next.base <= batch.last);
        if overlaps {
            return Put::Unclear;
        }
        self.batches.insert(at, batch);
        Put::New
    }

    /// Puts an acknowledgement among the others.
    pub(super) fn put_ack(&mut self, ack: Ack) -> Put {
        self.takes_unkeyed |= ack.body.is_unkeyed();
        let at = self.acks.partition_point(|known| known.base < ack.base);
        if let Some(known) = self.acks.get(at).filter(|known| known.base == ack.base) {
            if known.body.is_same(&ack.body) {
                return Put::Same;
            }
            self.disown(at, ack);
            return Put::Differs(at);
        }
        let before = at.checked_sub(1).filter(|&before| ack.base < self.acks[before].end());
        let behind = self.acks.get(at).filter(|known| known.base < ack.end()).map(|_| at);
        if let Some(other) = before.or(behind) {
            self.disown(other, ack);
            return Put::Overlaps(other);
        }
        self.acks.insert(at, ack);
        Put::New
    }

    fn disown(&mut self, other: usize, ack: Ack) {
        if self.disowned.len() < DISOWNED_MAX {
            self.collisions.push([self.acks[other], ack]);
            self.disowned.push(ack);
        }
    }

    /// The place of the batch that begins at an offset.
    pub(super) fn index_of(&self, base: i64) -> Option<usize> {
        let at = self.batches.partition_point(|known| known.base < base);
        self.batches.get(at).filter(|known| known.base == base).map(|_| at)
    }

    /// The batches that begin between two offsets, both left out.
    pub(super) fn batches_between(&self, from: i64, to: i64) -> impl Iterator<Item = &Batch> {
        let first = self.batches.partition_point(|known| known.base <= from);
        self.batches.range(first..).take_while(move |known| known.base < to)
    }

    /// The batch that holds an offset.
    pub(super) fn batch_around(&self, offset: i64) -> Option<&Batch> {
        let after = self.batches.partition_point(|known| known.base <= offset);
        self.batches.get(after.checked_sub(1)?).filter(|known| offset <= known.last)
    }

    /// The acknowledgement of the batch that begins at an offset.
    pub(super) fn ack_at(&self, base: i64) -> Option<&Ack> {
        let at = self.acks.partition_point(|known| known.base < base);
        self.acks.get(at).filter(|known| known.base == base)
    }
}

/// All logs.
#[derive(Debug, Default)]
pub(super) struct Logs {
    logs: Vec<Log>,
    batches: usize,
    acks: usize,
    hidden: usize,
    refused: usize,
    /// Batches and acknowledgements that had to go.
    pub(super) forgotten: [u64; 2],
}

impl Logs {
    pub(super) fn of(&mut self, id: LogId) -> &mut Log {
        let index = id.0 as usize;
        if self.logs.len() <= index {
            self.logs.resize_with(index + 1, Log::default);
        }
        &mut self.logs[index]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (LogId, &Log)> {
        self.logs.iter().enumerate().map(|(index, log)| (LogId(index as u32), log))
    }

    /// Puts a batch into a log.
    pub(super) fn put_batch(&mut self, id: LogId, batch: Batch) -> Put {
        let full = self.batches >= BATCHES_MAX;
        let log = self.of(id);
        let put = log.put_batch(batch);
        if put == Put::New {
            if full && log.batches.pop_front().is_some() {
                self.forgotten[0] += 1;
            } else {
                self.batches += 1;
            }
        }
        put
    }

    /// A batch was kept from a consumer of committed records.
    pub(super) fn hide(&mut self, id: LogId, base: i64, mark: Mark) {
        if self.hidden < HIDDEN_MAX {
            self.hidden += 1;
            self.of(id).hidden.entry(base).or_insert(mark);
        }
    }

    /// A fenced producer's batch was refused.
    pub(super) fn refuse(&mut self, id: LogId, refused: Refused) {
        if self.refused < REFUSED_MAX {
            self.refused += 1;
            self.of(id).refused.push(refused);
        }
    }

    /// Puts an acknowledgement into a log.
    pub(super) fn put_ack(&mut self, id: LogId, ack: Ack) -> Put {
        let full = self.acks >= ACKS_MAX;
        let log = self.of(id);
        let put = log.put_ack(ack);
        if put == Put::New {
            if full && log.acks.pop_front().is_some() {
                self.forgotten[1] += 1;
            } else {
                self.acks += 1;
            }
        }
        put
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_that_touch_are_one() {
        let mut log = Log::default();
        for (from, to) in [(0, 4), (10, 14), (5, 6), (20, 29), (8, 21)] {
            log.cover(from, to);
        }
        assert_eq!(log.covered, [(0, 6), (8, 29)]);
        assert!(log.is_covered(9, 29) && !log.is_covered(6, 8));
        log.cover(7, 7);
        assert_eq!(log.covered, [(0, 29)]);
        log.cover(3, 12);
        assert_eq!(log.covered, [(0, 29)]);
    }
}
