//! Violations of the log as consumers read it (L1 to L9), planted.

use kafka_wire::ids::{LeaderEpoch, Offset, ProducerEpoch, Sequence};

use crate::places::{Batch, Fetched, everywhere, fetched, produced};
use crate::talk::Talk;
use crate::{Mutant, Witness, mutant};

const P1: &str = "P1-ack-not-in-log";
const L3: &str = "L3-sequence-broken";
const L9: &str = "L9-record-changed";

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("batch-overlaps-the-one-before", &["L1-offsets-overlap"], &[L9], |talk, nth| {
        let (place, at) = batches(talk).filter(|(_, at)| *at > 0).nth(nth)?;
        let base = place.batches[at - 1].last();
        Some(changed(talk, &place, at, |b| b.change(|h| h.base_offset = Offset(base))))
    }),
    mutant("batch-delivered-twice-in-a-row", &["L1-offsets-overlap"], &[], |talk, nth| {
        let (mut place, at) = batches(talk).nth(nth)?;
        place.batches.insert(at, place.batches[at].clone());
        place.answered(talk, 0);
        Some(Witness::packets_of(talk, &[place.exchange]))
    }),
    mutant("batches-in-wrong-order", &["L1-offsets-overlap"], &[], |talk, nth| {
        let (mut place, at) = batches(talk).filter(|(_, at)| *at > 0).nth(nth)?;
        place.batches.swap(at, at - 1);
        place.answered(talk, 0);
        Some(Witness::packets_of(talk, &[place.exchange]))
    }),
    mutant("checksum-wrong", &["L2-batch-corrupt"], &[], |talk, nth| {
        let (place, at) = batches(talk).nth(nth)?;
        Some(changed(talk, &place, at, |b| b.0[17] ^= 0x10))
    }),
    mutant("record-damaged", &["L2-batch-corrupt"], &[], |talk, nth| {
        let (place, at) = batches(talk).nth(nth)?;
        let damage = |b: &mut Batch| {
            let at = b.0.len() - 2;
            b.0[at] ^= 4;
        };
        Some(changed(talk, &place, at, damage))
    }),
    mutant(
        "record-count-wrong",
        &["L2-batch-corrupt"],
        &["L1-offsets-overlap", P1],
        |talk, nth| {
            let (place, at) =
                batches(talk).filter(|(p, at)| p.batches[*at].count() > 1).nth(nth)?;
            let change = |b: &mut Batch| b.change(|h| h.record_count += 1);
            Some(changed(talk, &place, at, change))
        },
    ),
    mutant(
        "last-offset-delta-too-small",
        &["L1-offsets-overlap"],
        &["L2-batch-corrupt", P1],
        |talk, nth| {
            let (place, at) =
                batches(talk).filter(|(p, at)| p.batches[*at].count() > 1).nth(nth)?;
            let change = |b: &mut Batch| b.change(|h| h.last_offset_delta -= 1);
            Some(changed(talk, &place, at, change))
        },
    ),
    mutant("sequence-skips", &[L3], &[P1, "L2-batch-corrupt"], |talk, nth| {
        // Everywhere, from some batch on, up to the end of that epoch.
        let (place, at) = later_of_producer(talk, false).nth(nth)?;
        let whole = place.batches[at].clone();
        let mut touched = Vec::new();
        for mut other in fetched(talk).into_iter().filter(|other| other.is_of(&place)) {
            let mut any = false;
            for batch in &mut other.batches {
                let is_later = batch.base() >= whole.base()
                    && batch.producer() == whole.producer()
                    && batch.header().producer_epoch == whole.header().producer_epoch
                    && !batch.is_marker();
                if is_later {
                    batch.change(|h| h.base_sequence = Sequence(h.base_sequence.0 + 7));
                    any = true;
                }
            }
            if any {
                other.answered(talk, 0);
                touched.push(other.exchange);
            }
        }
        Some(Witness::packets_of(talk, &touched))
    }),
    mutant(
        "sequence-falls-back",
        &[L3],
        &["L3-sequence-broken|P2-duplicate-appended", P1],
        |talk, nth| {
            let (place, at) = later_of_producer(talk, false).nth(nth)?;
            Some(changed(talk, &place, at, |b| b.change(|h| h.base_sequence = Sequence(0))))
        },
    ),
    mutant("epoch-lowered", &["L4-epoch-decreases"], &[P1, L3], |talk, nth| {
        let (place, at) = later_of_producer(talk, true)
            .filter(|(p, at)| p.batches[*at].header().producer_epoch.0 > 0)
            .nth(nth)?;
        let change =
            |b: &mut Batch| b.change(|h| h.producer_epoch = ProducerEpoch(h.producer_epoch.0 - 1));
        Some(changed(talk, &place, at, change))
    }),
    mutant("leader-epoch-lowered", &["L8-leader-epoch-decreases"], &[], |talk, nth| {
        // All before it are of a later one.
        let (place, at) = batches(talk).filter(|(_, at)| *at > 0).nth(nth)?;
        let base = place.batches[at].base();
        let mut touched = Vec::new();
        for mut other in fetched(talk).into_iter().filter(|other| other.is_of(&place)) {
            for batch in other.batches.iter_mut().filter(|batch| batch.base() < base) {
                batch.change(|h| h.partition_leader_epoch = LeaderEpoch(9));
            }
            other.answered(talk, 0);
            touched.push(other.exchange);
        }
        Some(Witness::packets_of(talk, &touched))
    }),
    mutant("record-changed-in-one-answer", &[L9], &[P1], |talk, nth| {
        let (mut place, at) = batches_read_twice(talk).nth(nth)?;
        place.batches[at].change_record();
        place.answered(talk, 0);
        Some(Witness::packets_of(talk, &[place.exchange]))
    }),
    mutant("record-changed-in-every-answer", &[P1], &[L9, "lost-write"], |talk, nth| {
        let (place, at) = acknowledged(talk).nth(nth)?;
        Some(changed(talk, &place, at, Batch::change_record))
    }),
    mutant("batch-left-out-once", &[L9], &[], |talk, nth| {
        let (mut place, at) = batches_read_twice(talk)
            .filter(|(p, at)| *at > 0 && *at + 1 < p.batches.len() && !p.batches[*at].is_marker())
            .nth(nth)?;
        place.batches.remove(at);
        place.answered(talk, 0);
        Some(Witness::packets_of(talk, &[place.exchange]))
    }),
    mutant("batch-lost", &[P1, "lost-write"], &["torn-transaction", L3, L9], |talk, nth| {
        let (place, at) = acknowledged(talk)
            .filter(|(p, at)| p.batches[*at + 1..].iter().any(|b| !b.is_marker()))
            .nth(nth)?;
        let base = place.batches[at].base();
        let touched = everywhere(talk, &place, base, |batches, at| drop(batches.remove(at)));
        Some(Witness::packets_of(talk, &touched))
    }),
    mutant(
        "batch-appended-twice",
        &["duplicate"],
        &["duplicate-nonzero", "P2-duplicate-appended", L3, "L6-stable-offset-wrong"],
        |talk, nth| {
            let (place, at) = batches(talk)
                .filter(|(p, at)| {
                    let batch = &p.batches[*at];
                    let last = p.batches.last().unwrap().last();
                    batch.header().base_sequence.0 >= 0
                        && !batch.is_transactional_data()
                        && last + 1 == p.high_watermark
                })
                .nth(nth)?;
            let (base, copy) = (place.high_watermark, place.batches[at].clone());
            let mut touched = Vec::new();
            for mut other in fetched(talk).into_iter().filter(|other| other.is_of(&place)) {
                if other.batches.last().is_some_and(|last| last.last() + 1 == base) {
                    let mut copy = copy.clone();
                    let count = copy.count();
                    copy.change(|h| h.base_offset = Offset(base));
                    other.batches.push(copy);
                    other.answered(talk, count);
                    touched.push(other.exchange);
                }
            }
            Some(Witness::packets_of(talk, &touched))
        },
    ),
    mutant(
        "high-watermark-back",
        &["L6-stable-offset-wrong"],
        &["L7-aborted-data-exposed", P1],
        |talk, nth| {
            let (_, later) = answered_twice(talk).filter(|(_, l)| l.high_watermark > 1).nth(nth)?;
            let lower = later.high_watermark - 1;
            later.reply(talk, "high_watermark", lower);
            if later.last_stable_offset > lower {
                later.reply(talk, "last_stable_offset", lower);
            }
            Some(Witness::packets_of(talk, &[later.exchange]))
        },
    ),
    mutant(
        "last-stable-offset-back",
        &["L6-stable-offset-wrong"],
        &["L7-aborted-data-exposed"],
        |talk, nth| {
            let (_, later) =
                answered_twice(talk).filter(|(_, l)| l.last_stable_offset > 1).nth(nth)?;
            later.reply(talk, "last_stable_offset", later.last_stable_offset - 1);
            Some(Witness::packets_of(talk, &[later.exchange]))
        },
    ),
    mutant(
        "last-stable-offset-beyond-high-watermark",
        &["L6-stable-offset-wrong"],
        &["L7-aborted-data-exposed"],
        |talk, nth| {
            let (first, _) = answered_twice(talk).nth(nth)?;
            first.reply(talk, "last_stable_offset", first.high_watermark + 3);
            Some(Witness::packets_of(talk, &[first.exchange]))
        },
    ),
    mutant(
        "last-stable-offset-beyond-high-watermark-always",
        &["L6-stable-offset-wrong"],
        &["L7-aborted-data-exposed"],
        |talk, nth| {
            let (first, _) = answered_twice(talk).nth(nth)?;
            let mut touched = Vec::new();
            for other in fetched(talk).into_iter().filter(|other| other.is_of(&first)) {
                other.reply(talk, "last_stable_offset", other.high_watermark + 3);
                touched.push(other.exchange);
            }
            Some(Witness::packets_of(talk, &touched))
        },
    ),
    mutant(
        "records-beyond-last-stable-offset",
        &["L7-aborted-data-exposed"],
        &["L6-stable-offset-wrong"],
        |talk, nth| {
            let (first, _) = answered_twice(talk)
                .filter(|(f, _)| f.read_committed && f.batches.len() > 1 && f.batches[0].base() > 0)
                .nth(nth)?;
            let last = first.batches.last().unwrap().base();
            for other in fetched(talk).into_iter().filter(|o| o.is_of(&first)) {
                other.reply(talk, "last_stable_offset", last.min(other.last_stable_offset));
            }
            Some(Witness::packets_of(talk, &[first.exchange]))
        },
    ),
];

pub(crate) const LEGAL: &[Mutant] = &[
    mutant("leader-epoch-raised", &[], &[], |talk, nth| {
        let (place, at) = batches(talk).nth(nth)?;
        let base = place.batches[at].base();
        for mut other in fetched(talk).into_iter().filter(|other| other.is_of(&place)) {
            for batch in other.batches.iter_mut().filter(|batch| batch.base() >= base) {
                batch.change(|h| {
                    h.partition_leader_epoch = LeaderEpoch(h.partition_leader_epoch.0 + 3)
                });
            }
            other.answered(talk, 0);
        }
        Some(Witness::default())
    }),
    mutant("last-batch-cut-off", &[], &[], |talk, nth| {
        let mut place = fetched(talk).into_iter().filter(|p| p.batches.len() > 1).nth(nth)?;
        let last = place.batches.last_mut().unwrap();
        let half = last.0.len() / 2;
        last.0.truncate(half);
        let whole: Vec<u8> = place.batches.iter().flat_map(|b| b.0.clone()).collect();
        place.reply(talk, "records", crate::talk::bytes(whole));
        Some(Witness::default())
    }),
    mutant("begins-later", &[], &[], |talk, nth| {
        // The batches before were deleted: the log starts behind them.
        let place = fetched(talk).into_iter().filter(|p| p.batches.len() > 2).nth(nth)?;
        let start = place.batches[1].base();
        for mut other in fetched(talk).into_iter().filter(|other| other.is_of(&place)) {
            let path = format!("{}.log_start_offset", other.path);
            if !talk.reply(other.exchange, &path, start) {
                return None;
            }
            other.batches.retain(|batch| batch.base() >= start);
            other.aborted.retain(|(_, first)| *first >= start);
            other.answered(talk, 0);
            let aborted = other.aborted.clone();
            if !aborted.is_empty() {
                other.names_aborted(talk, &aborted);
            }
        }
        Some(Witness::default())
    }),
    mutant("time-of-appending", &[], &[], |talk, nth| {
        // A topic with message.timestamp.type=LogAppendTime.
        let place = fetched(talk).into_iter().filter(|p| !p.batches.is_empty()).nth(nth)?;
        for mut other in fetched(talk).into_iter().filter(|other| other.is_of(&place)) {
            for batch in other.batches.iter_mut().filter(|batch| !batch.is_marker()) {
                batch.change(|h| {
                    h.attributes.0 |= 8;
                    h.max_timestamp += 5_000;
                });
            }
            other.answered(talk, 0);
        }
        Some(Witness::default())
    }),
    mutant("high-watermark-higher", &[], &[], |talk, nth| {
        // A stranger has written since.
        let all = fetched(talk);
        let last = |p: &&Fetched| {
            all.iter().rev().find(|o| o.is_of(p)).is_some_and(|l| l.exchange == p.exchange)
        };
        let place = all.iter().filter(last).nth(nth)?.clone();
        place.reply(talk, "high_watermark", place.high_watermark + 40);
        Some(Witness::default())
    }),
];

/// Every batch that was fetched.
pub(crate) fn batches(talk: &Talk) -> impl Iterator<Item = (Fetched, usize)> + use<> {
    fetched(talk)
        .into_iter()
        .flat_map(|place| (0..place.batches.len()).map(move |at| (place.clone(), at)))
}

/// Batches that two answers have.
fn batches_read_twice(talk: &Talk) -> impl Iterator<Item = (Fetched, usize)> + use<> {
    let all = fetched(talk);
    batches(talk).filter(move |(place, at)| {
        let base = place.batches[*at].base();
        let others = all.iter().filter(|o| o.exchange != place.exchange && o.is_of(place));
        others.flat_map(|o| &o.batches).any(|batch| batch.base() == base)
    })
}

/// Batches of which another of the same producer stands before, in the same answer with no offset
/// missing in between; with markers or not.
fn later_of_producer(talk: &Talk, markers: bool) -> impl Iterator<Item = (Fetched, usize)> + use<> {
    batches(talk).filter(move |(place, at)| {
        let batch = &place.batches[*at];
        let before = &place.batches[..*at];
        let is_near = |b: &Batch| {
            b.producer() == batch.producer()
                && (markers || !b.is_marker())
                && b.header().producer_epoch == batch.header().producer_epoch
        };
        let first = before.iter().position(is_near);
        let follows = |pair: &[Batch]| pair[0].last() + 1 == pair[1].base();
        batch.producer() >= 0
            && (markers || !batch.is_marker() && batch.header().base_sequence.0 > 0)
            && first.is_some_and(|first| place.batches[first..=*at].windows(2).all(follows))
    })
}

/// Batches without keys that were acknowledged in the capture.
pub(crate) fn acknowledged(talk: &Talk) -> impl Iterator<Item = (Fetched, usize)> + use<> {
    let acks: Vec<_> = produced(talk).into_iter().filter(|p| p.is_acked()).collect();
    batches(talk).filter(move |(place, at)| {
        let batch = &place.batches[*at];
        acks.iter().any(|ack| ack.batch.is_write_of(batch) && ack.base == batch.base())
    })
}

/// Two answers of one partition, one after the other on one connection, with a leader epoch.
fn answered_twice(talk: &Talk) -> impl Iterator<Item = (Fetched, Fetched)> + use<> {
    let all = fetched(talk);
    let exchanges = talk.exchanges.clone();
    all.clone().into_iter().enumerate().filter_map(move |(at, one)| {
        let e = &exchanges[one.exchange];
        let next = all[at + 1..].iter().find(|other| {
            let o = &exchanges[other.exchange];
            o.connection == e.connection && other.is_of(&one) && e.times[1] < o.times[0]
        })?;
        Some((one, next.clone()))
    })
}

/// Changes one batch in every answer that has it.
fn changed(talk: &mut Talk, place: &Fetched, at: usize, change: impl Fn(&mut Batch)) -> Witness {
    let base = place.batches[at].base();
    let exchanges = everywhere(talk, place, base, |batches, at| change(&mut batches[at]));
    Witness::packets_of(talk, &exchanges)
}
