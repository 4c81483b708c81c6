//! Turns what Fetch answered for one partition into the records a consumer is shown.
//!
//! A broker sends whole batches, those of aborted transactions too, and says which transactions
//! were aborted; the filter of `read_committed` is the client's (KIP-98). Control batches are
//! never shown, but offsets go on behind them.
//!
//! Not checked: that the list of aborted transactions is right, and order and gaps of offsets (L1,
//! L7: the wire checker sees to them).

use bytes::Bytes;
use kafka_wire::DecodeErrorKind;
use kafka_wire::batch::{Batch, BatchIter, ControlRecord, ControlType, Scratch};
use kafka_wire::ids::{Offset, ProducerId};

use super::fetch::{FetchedPartition, IsolationLevel};

/// A record as an application gets it: its offset and its value.
pub type Shown = (Offset, Option<Bytes>);

/// What one partition of one answer brought.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Read {
    /// The records, in order.
    pub records: Vec<Shown>,
    /// Where to read on.
    pub next_offset: Offset,
    /// What was wrong with the bytes, in words.
    pub problems: Vec<String>,
    /// Whether reading stopped at a batch that is damaged or does not frame; it is still in front
    /// of `next_offset`.
    pub stopped: bool,
}

/// Reads an answer from an offset on.
///
/// A batch whose CRC is wrong is not passed over: it may be whole when it is fetched again. What
/// the broker sent at or above its own last stable offset is shown, as any client does, and noted.
#[must_use]
pub fn read(
    fetched: &FetchedPartition,
    from: Offset,
    isolation: IsolationLevel,
    scratch: &mut Scratch,
) -> Read {
    let mut read = Read { next_offset: from, ..Read::default() };
    let mut aborted = Aborted::of(fetched, isolation);
    for batch in BatchIter::new(&fetched.records) {
        let batch = match batch {
            Ok(batch) => batch,
            // The last batch may be cut (KIP-74); a first one that is cut never gets whole.
            Err(error) if matches!(error.kind, DecodeErrorKind::Truncated { .. }) => {
                if read.next_offset == from {
                    read.stop(format!("first batch is cut: {error}"));
                }
                return read;
            }
            Err(error) => {
                read.stop(error.to_string());
                return read;
            }
        };
        if let Err(error) = batch.check_crc() {
            read.stop(error.to_string());
            return read;
        }
        if aborted.shows(&batch, scratch) {
            read.note_beyond_stable(&batch, fetched, isolation);
            read.take(&batch, &fetched.records, from, scratch);
        }
        let after = Offset(batch.header.last_offset().0.saturating_add(1));
        read.next_offset = read.next_offset.max(after);
    }
    read
}

impl Read {
    fn stop(&mut self, problem: String) {
        self.problems.push(problem);
        self.stopped = true;
    }

    fn note_beyond_stable(
        &mut self,
        batch: &Batch<'_>,
        fetched: &FetchedPartition,
        isolation: IsolationLevel,
    ) {
        let stable = fetched.last_stable_offset;
        let beyond = stable.0 >= 0 && batch.header.last_offset() >= stable;
        if isolation == IsolationLevel::ReadCommitted && beyond {
            let base = batch.header.base_offset;
            let what = format!("batch at {base} reaches the last stable offset {stable} (L7)");
            self.problems.push(what);
        }
    }

    fn take(&mut self, batch: &Batch<'_>, field: &Bytes, from: Offset, scratch: &mut Scratch) {
        let problems = match batch.plain_records() {
            Some(mut plain) => {
                let records = plain.by_ref().filter(|record| record.offset >= from);
                let shown =
                    records.map(|r| (r.offset, r.value.map(|value| field.slice_ref(value))));
                self.records.extend(shown);
                plain.finish()
            }
            None => {
                let mut records = batch.records(scratch);
                let from_on = records.by_ref().filter(|record| record.offset >= from);
                let shown = from_on.map(|r| (r.offset, r.value.map(Bytes::copy_from_slice)));
                self.records.extend(shown);
                records.finish()
            }
        };
        self.problems.extend(problems.iter().map(ToString::to_string));
    }
}

/// Which producers' batches belong to aborted transactions at this point of the answer.
struct Aborted {
    /// Aborted transactions not yet begun, the first of them last.
    ahead: Vec<(ProducerId, Offset)>,
    open: Vec<ProducerId>,
}

impl Aborted {
    fn of(fetched: &FetchedPartition, isolation: IsolationLevel) -> Self {
        let mut ahead = match isolation {
            IsolationLevel::ReadCommitted => fetched.aborted_transactions.clone(),
            IsolationLevel::ReadUncommitted => Vec::new(),
        };
        ahead.sort_unstable_by_key(|(_, first_offset)| std::cmp::Reverse(*first_offset));
        Self { ahead, open: Vec::new() }
    }

    /// Takes the next batch of the answer; says whether its records are shown.
    fn shows(&mut self, batch: &Batch<'_>, scratch: &mut Scratch) -> bool {
        let header = &batch.header;
        while self.ahead.last().is_some_and(|(_, first)| *first <= header.last_offset()) {
            self.open.extend(self.ahead.pop().map(|(producer_id, _)| producer_id));
        }
        if header.is_control() {
            if !self.open.is_empty() && is_abort_marker(batch, scratch) {
                self.open.retain(|producer_id| *producer_id != header.producer_id);
            }
            return false;
        }
        !(header.is_transactional() && self.open.contains(&header.producer_id))
    }
}

fn is_abort_marker(batch: &Batch<'_>, scratch: &mut Scratch) -> bool {
    let first = batch.records(scratch).next();
    let key = first.and_then(|record| record.key.map(ControlRecord::decode));
    matches!(key, Some(Ok(ControlRecord { control_type: ControlType::Abort, .. })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::cluster::TopicPartition;
    use kafka_wire::ErrorCode;
    use kafka_wire::batch::{Attributes, BatchBuilder, Compression, EndTxnMarker, NewRecord};

    /// A log in a short notation, one batch a word: `5ab` are two records of the transaction of
    /// producer 5, `5+` and `5-` its commit and abort markers, `-ab` two records of no transaction.
    fn log(words: &str, compression: Compression) -> Bytes {
        let (mut out, mut scratch, mut next) = (Vec::new(), Scratch::new(), 0);
        for word in words.split_whitespace() {
            let (who, what) = word.split_at(1);
            let producer = who.parse::<i64>().ok();
            let marker = match what {
                "+" => Some(ControlType::Commit),
                "-" => Some(ControlType::Abort),
                _ => None,
            };
            let attributes = Attributes::default()
                .with_transactional(producer.is_some())
                .with_control(marker.is_some());
            let attributes = match marker {
                Some(_) => attributes,
                None => attributes.with_compression(compression),
            };
            let builder = BatchBuilder {
                base_offset: Offset(next),
                attributes,
                producer_id: ProducerId(producer.unwrap_or(-1)),
                ..BatchBuilder::default()
            };
            if let Some(control_type) = marker {
                let key = ControlRecord { version: 0, control_type }.encode();
                let value = EndTxnMarker { version: 0, coordinator_epoch: 0 }.encode();
                let record = NewRecord { key: Some(&key), ..NewRecord::of(&value) };
                builder.encode([record], &mut scratch, &mut out);
                next += 1;
            } else {
                let values = what.as_bytes().chunks(1);
                next += values.len() as i64;
                builder.encode(values.map(NewRecord::of), &mut scratch, &mut out);
            }
        }
        out.into()
    }

    fn answer(records: Bytes, aborted: &[(i64, i64)], stable: i64) -> FetchedPartition {
        let aborted = aborted.iter().map(|&(id, first)| (ProducerId(id), Offset(first)));
        FetchedPartition {
            partition: TopicPartition { topic: "t".into(), partition: 0 },
            error: ErrorCode::NONE,
            high_watermark: Offset(1000),
            last_stable_offset: Offset(stable),
            log_start_offset: Offset(0),
            aborted_transactions: aborted.collect(),
            current_leader: None,
            records,
        }
    }

    fn shown(fetched: &FetchedPartition, from: i64, isolation: IsolationLevel) -> (String, i64) {
        let read = read(fetched, Offset(from), isolation, &mut Scratch::new());
        let text = read.records.iter().map(|(offset, value)| {
            format!("{offset}{} ", String::from_utf8_lossy(value.as_deref().unwrap()))
        });
        (text.collect::<String>().trim_end().to_owned(), read.next_offset.0)
    }

    #[test]
    fn read_committed_hides_aborted_ranges_and_control_batches() {
        let check = |words: &str, aborted: &[(i64, i64)], committed: &str, next: i64| {
            for compression in [Compression::None, Compression::Zstd] {
                let fetched = answer(log(words, compression), aborted, 100);
                let (text, at) = shown(&fetched, 0, IsolationLevel::ReadCommitted);
                assert_eq!((text.as_str(), at), (committed, next), "{words} {aborted:?}");
            }
        };
        check("-ab 5c", &[], "0a 1b 2c", 3);
        check("5a 5-", &[(5, 0)], "", 2);
        check("5a 5+ 5b", &[], "0a 2b", 3);
        // The same producer commits after it aborted.
        check("5a 5- 5b 5+", &[(5, 0)], "2b", 4);
        // Two producers interleave; one aborts.
        check("5a 6b 5c 6+ 5- 5d 5+", &[(5, 0)], "1b 5d", 7);
        // Aborted twice; the list need not be sorted.
        check("5a 5- -x 5b 5-", &[(5, 3), (5, 0)], "2x", 5);
        // A batch outside any transaction is shown, whoever wrote it.
        check("5a -b 5-", &[(5, 0)], "1b", 3);
        // The aborted transaction began before this answer.
        check("5c 5- 5d 5+", &[(5, -7)], "2d", 4);
    }

    #[test]
    fn read_uncommitted_hides_control_batches_only() {
        let fetched = answer(log("5a 5- 5b", Compression::None), &[(5, 0)], 0);
        assert_eq!(shown(&fetched, 0, IsolationLevel::ReadUncommitted), ("0a 2b".to_owned(), 3));
    }

    #[test]
    fn records_before_the_position_are_passed_over() {
        let fetched = answer(log("-abcd", Compression::Gzip), &[], 100);
        let level = IsolationLevel::ReadCommitted;
        assert_eq!(shown(&fetched, 2, level), ("2c 3d".to_owned(), 4));
    }

    #[test]
    fn a_cut_batch_ends_the_answer_and_a_damaged_one_is_not_passed_over() {
        let whole = log("-ab -cd", Compression::None);
        let level = IsolationLevel::ReadCommitted;
        let at = |bytes: &[u8]| {
            let fetched = answer(Bytes::copy_from_slice(bytes), &[], 100);
            let read = read(&fetched, Offset(0), level, &mut Scratch::new());
            (read.records.len(), read.next_offset.0, read.stopped, read.problems.len())
        };
        assert_eq!(at(&whole), (4, 4, false, 0));
        assert_eq!(at(&whole[..whole.len() - 1]), (2, 2, false, 0));
        assert_eq!(at(&whole[..20]), (0, 0, true, 1));
        let mut damaged = whole.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(at(&damaged), (2, 2, true, 1));
    }

    #[test]
    fn what_reaches_the_last_stable_offset_is_shown_and_noted() {
        let fetched = answer(log("-ab 5c", Compression::None), &[], 2);
        let level = IsolationLevel::ReadCommitted;
        let read = read(&fetched, Offset(0), level, &mut Scratch::new());
        assert_eq!((read.records.len(), read.problems.len(), read.stopped), (3, 1, false));
    }
}
