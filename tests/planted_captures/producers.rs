//! Violations of what producers and transactions are told (P1 to P8), planted.

use kafka_wire::ApiKey;
use kafka_wire::ids::Offset;
use kafka_wire::schema::Value;

use crate::logs::{acknowledged, batches};
use crate::places::{Batch, Fetched, Produced, everywhere, fetched, number, produced};
use crate::talk::{Talk, Way};
use crate::{Mutant, Witness, mutant};

const P1: &str = "P1-ack-not-in-log";
const P3: &str = "P3-zombie-accepted";
const P4: &str = "P4-producer-id-reused";
const P5: &str = "P5-outcome-not-honoured";
const L7: &str = "L7-aborted-data-exposed";
const L3: &str = "L3-sequence-broken";

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("offset-acknowledged-one-too-high", &[P1], &["lost-write"], |talk, nth| {
        let of = read_back(talk).nth(nth)?;
        of.answered(talk, 0, of.base + 1);
        Some(Witness::packets_of(talk, &[of.exchange]))
    }),
    mutant("offset-acknowledged-one-too-low", &[P1], &["lost-write"], |talk, nth| {
        let of = read_back(talk).filter(|of| of.base > 0).nth(nth)?;
        of.answered(talk, 0, of.base - 1);
        Some(Witness::packets_of(talk, &[of.exchange]))
    }),
    mutant("offset-0-acknowledged", &[P1], &["lost-write"], |talk, nth| {
        let of = read_back(talk).filter(|of| of.base > 0).nth(nth)?;
        of.answered(talk, 0, 0);
        Some(Witness::packets_of(talk, &[of.exchange]))
    }),
    mutant("offset-far-beyond-acknowledged", &[P1], &[], |talk, nth| {
        let of = read_back(talk).nth(nth)?;
        of.answered(talk, 0, of.base + 100_000);
        Some(Witness::packets_of(talk, &[of.exchange]))
    }),
    mutant("offset-acknowledged-twice", &[P1], &["lost-write"], |talk, nth| {
        let (one, other) = neighbours(talk).nth(nth)?;
        other.answered(talk, 0, one.base);
        Some(Witness::packets_of(talk, &[one.exchange, other.exchange]))
    }),
    mutant("acknowledged-offsets-overlap", &[P1], &["lost-write"], |talk, nth| {
        let (one, other) = neighbours(talk).filter(|(one, _)| one.batch.count() > 1).nth(nth)?;
        other.answered(talk, 0, one.base + one.batch.count() - 1);
        Some(Witness::packets_of(talk, &[one.exchange, other.exchange]))
    }),
    mutant("acknowledged-offset-goes-back", &[P1], &["lost-write"], |talk, nth| {
        let (one, other) = neighbours(talk).filter(|(one, _)| one.base > 2).nth(nth)?;
        let all = produced(talk);
        let taken = |base: i64| all.iter().any(|p| p.is_of(&one) && p.base == base);
        let base = (1..one.base).rev().find(|base| !taken(*base))?;
        other.answered(talk, 0, base);
        Some(Witness::packets_of(talk, &[one.exchange, other.exchange]))
    }),
    mutant("acknowledged-without-an-offset", &[P1], &[], |talk, nth| {
        let of = first_attempts(talk).nth(nth)?;
        of.answered(talk, 0, -1);
        Some(Witness::packets_of(talk, &[of.exchange]))
    }),
    mutant("gap-accepted", &[L3], &[P1], |talk, nth| {
        let all = produced(talk);
        let is_new = |of: &Produced| {
            let mut others = all.iter().filter(|other| other.exchange < of.exchange);
            !others.any(|other| other.is_of(of) && other.batch.is_write_of(&of.batch))
        };
        let of = refused(talk, &[45]).filter(is_new).nth(nth)?;
        let base = next_base(talk, &of)?;
        of.answered(talk, 0, base);
        Some(Witness::packets_of(talk, &[of.exchange]))
    }),
    mutant("gap-accepted-of-what-was-sent", &[L3], &[P1, "P2-duplicate-appended"], |talk, nth| {
        // The client left a batch out, and the broker did not mind.
        let all = produced(talk);
        let later = all.iter().enumerate().filter(|(at, of)| {
            let before = all[..*at].iter().filter(|b| b.is_of(of) && b.is_acked());
            let before = before.filter(|b| b.batch.producer() == of.batch.producer());
            let last = before.max_by_key(|b| b.base);
            of.is_acked()
                && of.batch.header().base_sequence.0 > 0
                && last.is_some_and(|last| last.base + last.batch.count() == of.base)
        });
        let of = later.map(|(_, of)| of).nth(nth)?.clone();
        let mut batch = of.batch.clone();
        batch.change(|h| h.base_sequence.0 += 50);
        of.sent(talk, batch);
        // What was read back of it would say otherwise.
        for mut place in fetched(talk) {
            if let Some(b) = place.batches.iter_mut().find(|b| b.is_write_of(&of.batch)) {
                b.change(|h| h.base_sequence.0 += 50);
                place.answered(talk, 0);
            }
        }
        Some(Witness::default())
    }),
    mutant("corrupt-batch-accepted", &["L2-batch-corrupt"], &[P1], |talk, nth| {
        let of = refused(talk, &[2]).nth(nth)?;
        let base = next_base(talk, &of)?;
        of.answered(talk, 0, base);
        Some(Witness::packets_of(talk, &[of.exchange]))
    }),
    mutant("corrupt-batch-sent-and-accepted", &["L2-batch-corrupt"], &[P1], |talk, nth| {
        let of = produced(talk).into_iter().filter(Produced::is_acked).nth(nth)?;
        let mut batch = of.batch.clone();
        batch.0[18] ^= 0x40;
        of.sent(talk, batch);
        Some(Witness::packets_of(talk, &[of.exchange]))
    }),
    mutant("retry-answered-with-another-offset", &["P2-duplicate-appended"], &[P1], |talk, nth| {
        let of = retries(talk).nth(nth)?;
        let base = next_base(talk, &of)?;
        of.answered(talk, 0, base);
        Some(Witness::packets_of(talk, &[of.exchange]))
    }),
    mutant("fenced-produce-accepted", &[P3], &[P1], |talk, nth| {
        let of = refused(talk, &[47, 90]).nth(nth)?;
        let base = next_base(talk, &of)?;
        of.answered(talk, 0, base);
        Some(Witness::packets_of(talk, &[of.exchange]))
    }),
    mutant("fenced-transaction-accepted", &[P3], &[P5, "P6-marker-decides-other"], |talk, nth| {
        let apis = [ApiKey::ADD_PARTITIONS_TO_TXN, ApiKey::END_TXN, ApiKey::ADD_OFFSETS_TO_TXN];
        let refused = |at: &usize| {
            let path = error_path(talk, *at);
            matches!(number(talk, *at, Way::Response, &path), 47 | 90)
        };
        let all: Vec<usize> = apis.into_iter().flat_map(|api| talk.of(api)).collect();
        let at = all.into_iter().filter(refused).nth(nth)?;
        let path = error_path(talk, at);
        talk.reply(at, &path, 0);
        Some(Witness::packets_of(talk, &[at]))
    }),
    mutant(
        "old-epoch-accepted",
        &[P3],
        &[P1, P5, L3, "L4-epoch-decreases", "L5-transaction-unclosed", "P2-duplicate-appended"],
        |talk, nth| {
            // A later owner has the id: what comes with the epoch before succeeds.
            let given: Vec<(i64, i64, u64)> = talk
                .of(ApiKey::INIT_PRODUCER_ID)
                .into_iter()
                .map(|at| {
                    let of = |path: &str| number(talk, at, Way::Response, path);
                    (of("producer_id"), of("producer_epoch"), talk.exchanges[at].times[1])
                })
                .collect();
            let all = produced(talk).into_iter().filter(Produced::is_acked);
            let of = all
                .filter(|of| {
                    let header = of.batch.header();
                    given.iter().any(|&(id, epoch, time)| {
                        id == header.producer_id.0
                            && epoch == i64::from(header.producer_epoch.0)
                            && epoch > 0
                            && time < talk.exchanges[of.exchange].times[0]
                    })
                })
                .nth(nth)?;
            let mut batch = of.batch.clone();
            batch.change(|h| h.producer_epoch.0 -= 1);
            of.sent(talk, batch);
            Some(Witness::packets_of(talk, &[of.exchange]))
        },
    ),
    mutant(
        "producer-id-given-twice",
        &[P4],
        &[P3, "P2-duplicate-appended", P1, L3, P5, "P6-marker-decides-other"],
        |talk, nth| {
            let given = given(talk);
            let pairs = given
                .iter()
                .enumerate()
                .flat_map(|(at, one)| given[at + 1..].iter().map(move |other| (*one, *other)));
            let id = |at: usize| number(talk, at, Way::Response, "producer_id");
            let apart = |(one, other): &(usize, usize)| {
                let e = |at: &usize| &talk.exchanges[*at];
                id(*one) != id(*other) && e(one).times[1] < e(other).times[0]
            };
            let (one, other) = pairs.filter(apart).nth(nth)?;
            let (producer, epoch) = (id(one), number(talk, one, Way::Response, "producer_epoch"));
            talk.reply(other, "producer_id", producer);
            talk.reply(other, "producer_epoch", epoch);
            Some(Witness::packets_of(talk, &[one, other]))
        },
    ),
    mutant("epoch-not-bumped", &[P4], &[P3], |talk, nth| {
        let given = given(talk);
        let name = |at: usize| talk.exchanges[at].request.at("transactional_id").cloned();
        let of = |at: usize, field: &str| number(talk, at, Way::Response, field);
        let again = given.iter().enumerate().filter_map(|(nth, &at)| {
            let before = given[..nth]
                .iter()
                .rev()
                .find(|&&b| name(b) == name(at) && name(at).is_some_and(|n| n != Value::Null))?;
            let fresh = number(talk, at, Way::Request, "producer_id") < 0;
            (fresh && of(*before, "producer_id") == of(at, "producer_id")).then_some((*before, at))
        });
        let (before, at) = again.collect::<Vec<_>>().into_iter().nth(nth)?;
        talk.reply(at, "producer_epoch", of(before, "producer_epoch"));
        Some(Witness::packets_of(talk, &[before, at]))
    }),
    mutant("epoch-not-bumped-by-end-txn", &[P4], &[P3], |talk, nth| {
        let ends = talk.of(ApiKey::END_TXN).into_iter().filter(|&at| {
            talk.exchanges[at].version >= 5 && number(talk, at, Way::Response, "error_code") == 0
        });
        let at = ends.collect::<Vec<_>>().into_iter().nth(nth)?;
        let epoch = number(talk, at, Way::Request, "producer_epoch");
        talk.reply(at, "producer_epoch", epoch);
        Some(Witness::packets_of(talk, &[at]))
    }),
    mutant(
        "marker-says-the-other",
        &[P5],
        &[
            L7,
            "G1a",
            "lost-write",
            "torn-transaction",
            "P6-marker-decides-other",
            "L6-stable-offset-wrong",
            "P8-offsets-not-atomic",
        ],
        |talk, nth| {
            let (place, at) = markers(talk).nth(nth)?;
            let base = place.batches[at].base();
            let touched = everywhere(talk, &place, base, |batches, at| {
                batches[at].0[69] ^= 1;
                batches[at].change(|_| {});
            });
            Some(Witness::packets_of(talk, &touched))
        },
    ),
    mutant(
        "end-txn-says-the-other",
        &[P5],
        &[
            "P5-outcome-not-honoured|P8-offsets-not-atomic|G3-offset-lost",
            "consumer-offset-regression",
            L7,
            "G1a",
            "lost-write",
            "torn-transaction",
            "P8-offsets-not-atomic",
            "G3-offset-lost",
        ],
        |talk, nth| {
            let ends = talk.of(ApiKey::END_TXN).into_iter();
            let ok = ends.filter(|&at| number(talk, at, Way::Response, "error_code") == 0);
            let at = ok.collect::<Vec<_>>().into_iter().nth(nth)?;
            let committed = talk.exchanges[at].request.at("committed") == Some(&Value::Bool(true));
            talk.ask(at, "committed", !committed);
            Some(Witness::packets_of(talk, &[at]))
        },
    ),
    mutant(
        "marker-left-out",
        &["L5-transaction-unclosed"],
        &[
            "L5-transaction-unclosed|P5-outcome-not-honoured",
            P5,
            L7,
            "G1a",
            "lost-write",
            "torn-transaction",
            "P6-marker-decides-other",
            "L6-stable-offset-wrong",
            "L9-record-changed",
            "L3-sequence-broken",
        ],
        |talk, nth| {
            let (place, at) = markers(talk).nth(nth)?;
            let base = place.batches[at].base();
            let touched = everywhere(talk, &place, base, |batches, at| drop(batches.remove(at)));
            Some(Witness::packets_of(talk, &touched))
        },
    ),
    mutant("aborted-list-removed", &[L7, "G1a"], &[], |talk, nth| {
        let place = with_aborted(talk).nth(nth)?;
        place.names_aborted(talk, &[]);
        Some(Witness::packets_of(talk, &[place.exchange]))
    }),
    mutant("aborted-entry-removed", &[L7, "G1a"], &[], |talk, nth| {
        let (place, at) = aborted(talk).nth(nth)?;
        let mut left = place.aborted.clone();
        left.remove(at);
        place.names_aborted(talk, &left);
        Some(Witness::packets_of(talk, &[place.exchange]))
    }),
    mutant("aborted-entry-begins-too-late", &[L7, "G1a"], &[], |talk, nth| {
        let (place, at) = aborted(talk).nth(nth)?;
        let mut moved = place.aborted.clone();
        let mut of = place.batches.iter().filter(|b| b.producer() == moved[at].0);
        moved[at].1 = 1 + of.find(|b| b.base() >= moved[at].1)?.last();
        place.names_aborted(talk, &moved);
        Some(Witness::packets_of(talk, &[place.exchange]))
    }),
    mutant("aborted-entry-of-another-producer", &[L7, "G1a"], &[], |talk, nth| {
        let (place, at) = aborted(talk).nth(nth)?;
        let mut changed = place.aborted.clone();
        changed[at].0 += 1_000;
        place.names_aborted(talk, &changed);
        Some(Witness::packets_of(talk, &[place.exchange]))
    }),
    mutant(
        "aborted-list-names-a-committed-transaction",
        &[L7],
        &["lost-write", "torn-transaction"],
        |talk, nth| {
            let all = fetched(talk).into_iter().filter(|p| p.read_committed);
            let sites: Vec<(Fetched, Batch)> = all
                .flat_map(|p| {
                    let decided = |b: &&Batch| {
                        let mut after = p.batches.iter().filter(|m| m.base() > b.base());
                        let marker = after.find(|m| m.is_marker() && m.producer() == b.producer());
                        b.is_transactional_data() && marker.is_some_and(Batch::commits)
                    };
                    let committed: Vec<Batch> = p.batches.iter().filter(decided).cloned().collect();
                    committed.into_iter().map(move |b| (p.clone(), b)).collect::<Vec<_>>()
                })
                .collect();
            let (place, batch) = sites.into_iter().nth(nth)?;
            let mut more = place.aborted.clone();
            more.push((batch.producer(), batch.base()));
            place.names_aborted(talk, &more);
            Some(Witness::packets_of(talk, &[place.exchange]))
        },
    ),
    mutant(
        "fenced-batch-appended",
        &["zombie-write"],
        &["L4-epoch-decreases", "L5-transaction-unclosed", P3],
        |talk, nth| {
            let of =
                refused(talk, &[47, 90]).filter(|of| !of.batch.is_transactional_data()).nth(nth)?;
            let last = acknowledged(talk).next()?.0;
            let (base, mut copy) = (last.high_watermark, of.batch.clone());
            copy.change(|h| h.base_offset = Offset(base));
            let mut any = false;
            for mut place in fetched(talk).into_iter().filter(|p| p.is_of(&last)) {
                if place.batches.last().is_some_and(|b| b.last() + 1 == base) {
                    place.batches.push(copy.clone());
                    place.answered(talk, copy.count());
                    any = true;
                }
            }
            any.then(|| Witness::packets_of(talk, &[of.exchange]))
        },
    ),
    mutant("transaction-hangs", &["P7-timeout-not-enforced"], &[], |talk, nth| {
        // What was read while a transaction was open was read long after.
        let all = fetched(talk).into_iter().filter(|p| p.last_stable_offset < p.high_watermark);
        let place = all.filter(|p| p.last_stable_offset >= 0).nth(nth)?;
        let from = talk.exchanges[place.exchange].times[0];
        talk.delay(from, 3_600_000_000_000);
        Some(Witness::packets_of(talk, &[place.exchange]))
    }),
];

pub(crate) const LEGAL: &[Mutant] = &[
    mutant("retry-answered-as-duplicate", &[], &[], |talk, nth| {
        let of = retries(talk).nth(nth)?;
        of.answered(talk, 46, -1);
        Some(Witness::default())
    }),
    mutant("refused-with-another-error", &[], &[], |talk, nth| {
        let of = refused(talk, &[2, 45, 47, 90]).nth(nth)?;
        of.answered(talk, 6, -1);
        Some(Witness::default())
    }),
    mutant("epoch-bumped-by-more", &[], &[], |talk, nth| {
        let given = given(talk);
        let at = *given.iter().rev().nth(nth)?;
        let of = |field: &str| number(talk, at, Way::Response, field);
        let (id, epoch) = (of("producer_id"), of("producer_epoch"));
        if produced(talk).iter().any(|p| p.batch.producer() == id) {
            return None;
        }
        talk.reply(at, "producer_epoch", epoch + 3);
        Some(Witness::default())
    }),
    mutant("aborted-list-in-another-order", &[], &[], |talk, nth| {
        let place = with_aborted(talk).filter(|p| p.aborted.len() > 1).nth(nth)?;
        let mut turned = place.aborted.clone();
        turned.reverse();
        place.names_aborted(talk, &turned);
        Some(Witness::default())
    }),
    mutant("aborted-list-names-more-than-it-must", &[], &[], |talk, nth| {
        let place = with_aborted(talk).nth(nth)?;
        let mut more = place.aborted.clone();
        more.push((more[0].0, place.batches.last()?.last() + 50));
        place.names_aborted(talk, &more);
        Some(Witness::default())
    }),
    mutant("acks-1-not-in-the-log", &[], &[], |talk, nth| {
        // A change of leader may undo what acks=1 was told. Not so with producer ids.
        let (place, at) =
            acknowledged(talk).filter(|(p, at)| *at + 1 == p.batches.len()).nth(nth)?;
        let base = place.batches[at].base();
        let of = produced(talk).into_iter().find(|p| p.batch.is_write_of(&place.batches[at]))?;
        everywhere(talk, &place, base, |batches, at| drop(batches.remove(at)));
        talk.ask(of.exchange, "acks", 1);
        Some(Witness::default())
    }),
    mutant("acknowledged-and-not-read-again", &[], &[], |talk, nth| {
        let of = produced(talk).into_iter().filter(Produced::is_acked).nth(nth)?;
        for mut place in fetched(talk) {
            if let Some(at) = place.batches.iter().position(|b| b.is_write_of(&of.batch)) {
                place.batches.truncate(at);
                place.answered(talk, 0);
            }
        }
        Some(Witness::default())
    }),
];

fn error_path(talk: &Talk, at: usize) -> String {
    let response = talk.exchanges[at].response.as_ref().unwrap();
    let paths = [
        "error_code",
        "results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code",
        "topics[0].partitions[0].error_code",
    ];
    let found = paths
        .into_iter()
        .find(|path| response.at(path).is_some_and(|value| value.as_int().is_some()));
    found.unwrap_or("error_code").to_owned()
}

/// Acknowledged batches that were read back.
fn read_back(talk: &Talk) -> impl Iterator<Item = Produced> + use<> {
    let read: Vec<(i64, Batch)> = batches(talk)
        .map(|(place, at)| (place.batches[at].base(), place.batches[at].clone()))
        .collect();
    produced(talk).into_iter().filter(|of| of.is_acked()).filter(move |of| {
        read.iter().any(|(base, batch)| of.base == *base && of.batch.is_write_of(batch))
    })
}

/// Two acknowledged batches of one partition, the second sent when the first was answered.
fn neighbours(talk: &Talk) -> impl Iterator<Item = (Produced, Produced)> + use<> {
    let all: Vec<Produced> = produced(talk).into_iter().filter(Produced::is_acked).collect();
    let exchanges = talk.exchanges.clone();
    all.clone().into_iter().enumerate().filter_map(move |(at, one)| {
        let e = &exchanges[one.exchange];
        let next = all[at + 1..].iter().find(|other| {
            let o = &exchanges[other.exchange];
            other.is_of(&one)
                && o.connection == e.connection
                && e.times[1] < o.times[0]
                && other.base > one.base
        })?;
        Some((one, next.clone()))
    })
}

/// Acknowledged batches of producers that got their id in the capture, sent once.
fn first_attempts(talk: &Talk) -> impl Iterator<Item = Produced> + use<> {
    let ids: Vec<i64> =
        given(talk).into_iter().map(|at| number(talk, at, Way::Response, "producer_id")).collect();
    let all = produced(talk);
    all.clone().into_iter().filter(move |of| {
        let copies = all.iter().filter(|other| other.batch.is_write_of(&of.batch)).count();
        of.is_acked() && copies == 1 && ids.contains(&of.batch.producer())
    })
}

fn refused(talk: &Talk, errors: &'static [i64]) -> impl Iterator<Item = Produced> + use<> {
    produced(talk).into_iter().filter(move |of| errors.contains(&of.error))
}

/// Batches sent again after they were acknowledged, and acknowledged again.
fn retries(talk: &Talk) -> impl Iterator<Item = Produced> + use<> {
    let all = produced(talk);
    all.clone().into_iter().enumerate().filter_map(move |(at, of)| {
        let before = all[..at]
            .iter()
            .any(|b| b.is_of(&of) && b.batch.is_write_of(&of.batch) && b.is_acked());
        (before && of.is_acked()).then_some(of)
    })
}

/// The offset behind everything that was acknowledged before in that partition.
fn next_base(talk: &Talk, of: &Produced) -> Option<i64> {
    let all = produced(talk);
    let before = all.iter().filter(|p| p.is_of(of) && p.is_acked() && p.exchange < of.exchange);
    before.map(|p| p.base + p.batch.count()).max()
}

/// InitProducerId that was answered with an id.
fn given(talk: &Talk) -> Vec<usize> {
    let all = talk.of(ApiKey::INIT_PRODUCER_ID).into_iter();
    all.filter(|&at| number(talk, at, Way::Response, "error_code") == 0).collect()
}

/// Markers of transactions whose batches were acknowledged, in answers that have both.
fn markers(talk: &Talk) -> impl Iterator<Item = (Fetched, usize)> + use<> {
    let acks: Vec<Produced> = produced(talk).into_iter().filter(Produced::is_acked).collect();
    let mut seen = Vec::new();
    batches(talk).filter(move |(place, at)| {
        let marker = &place.batches[*at];
        let decided = place.batches[..*at]
            .iter()
            .rev()
            .take_while(|b| !(b.is_marker() && b.producer() == marker.producer()));
        let mut decided = decided.filter(|b| b.producer() == marker.producer());
        let key = (place.topic.clone(), place.partition, marker.base());
        let is_new = !seen.contains(&key);
        let found = marker.is_marker()
            && is_new
            && decided.any(|b| acks.iter().any(|ack| ack.batch.is_write_of(b)));
        if found {
            seen.push(key);
        }
        found
    })
}

fn with_aborted(talk: &Talk) -> impl Iterator<Item = Fetched> + use<> {
    fetched(talk).into_iter().filter(|p| {
        p.read_committed
            && p.aborted.iter().any(|(id, first)| {
                p.batches
                    .iter()
                    .any(|b| b.producer() == *id && b.base() >= *first && b.is_transactional_data())
            })
    })
}

/// Entries of aborted lists that hide records of the same answer.
fn aborted(talk: &Talk) -> impl Iterator<Item = (Fetched, usize)> + use<> {
    with_aborted(talk).flat_map(|p| {
        let hides = |at: &usize| {
            let (id, first) = p.aborted[*at];
            let mut of = p.batches.iter().filter(|b| b.producer() == id && b.last() >= first);
            of.next().is_some_and(Batch::is_transactional_data)
        };
        let all: Vec<usize> = (0..p.aborted.len()).filter(hides).collect();
        all.into_iter().map(move |at| (p.clone(), at))
    })
}
