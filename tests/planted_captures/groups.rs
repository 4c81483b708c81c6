//! Violations of groups (G1 to G3) and of offsets in transactions (P8), planted.

use kafka_wire::ApiKey;
use kafka_wire::schema::Value;

use crate::places::{GroupOffset, number, offsets_committed, offsets_told};
use crate::talk::{Talk, Way};
use crate::{Mutant, Witness, mutant};

const G3: &str = "G3-offset-lost";
const P8: &str = "P8-offsets-not-atomic";
const BACK: &str = "consumer-offset-regression";

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("older-offset-told", &[G3, BACK], &[], |talk, nth| {
        let (commit, told) = committed_and_told(talk, 1).nth(nth)?;
        talk.reply(told.exchange, &format!("{}.committed_offset", told.path), commit.offset - 1);
        Some(Witness::packets_of(talk, &[commit.exchange, told.exchange]))
    }),
    mutant("first-committed-offset-told", &[G3, BACK], &[], |talk, nth| {
        let (commit, told) = committed_and_told(talk, 1).nth(nth)?;
        let all = offsets_committed(talk, ApiKey::OFFSET_COMMIT).into_iter();
        let older = all.filter(|c| same(c, &commit) && c.offset < commit.offset && c.error == 0);
        let older = older.min_by_key(|c| c.offset)?;
        talk.reply(told.exchange, &format!("{}.committed_offset", told.path), older.offset);
        Some(Witness::packets_of(talk, &[commit.exchange, told.exchange]))
    }),
    mutant("no-offset-told", &[G3], &[], |talk, nth| {
        let (commit, told) = committed_and_told(talk, 0).nth(nth)?;
        talk.reply(told.exchange, &format!("{}.committed_offset", told.path), -1);
        Some(Witness::packets_of(talk, &[commit.exchange, told.exchange]))
    }),
    mutant(
        "aborted-offset-told",
        &[P8],
        &["P8-offsets-not-atomic|P5-outcome-not-honoured", "G1a", "L7-aborted-data-exposed"],
        |talk, nth| {
            // The transaction that brought the offset turns out to be aborted.
            let told = offsets_told(talk);
            let commits = offsets_committed(talk, ApiKey::TXN_OFFSET_COMMIT).into_iter();
            let sites: Vec<_> = commits
                .filter_map(|commit| {
                    let (e, own) = (&talk.exchanges[commit.exchange], commit.error == 0);
                    let told = told.iter().find(|t| {
                        same(t, &commit)
                            && t.offset == commit.offset
                            && talk.exchanges[t.exchange].times[0] > e.times[1]
                    })?;
                    let of = |at: usize, path: &str| number(talk, at, Way::Request, path);
                    let end = talk.of(ApiKey::END_TXN).into_iter().find(|&end| {
                        talk.exchanges[end].times[0] > e.times[1]
                            && of(end, "producer_id") == of(commit.exchange, "producer_id")
                            && of(end, "producer_epoch") == of(commit.exchange, "producer_epoch")
                    })?;
                    own.then_some((commit, told.clone(), end))
                })
                .collect();
            let (commit, told, end) = sites.into_iter().nth(nth)?;
            talk.ask(end, "committed", false);
            Some(Witness::packets_of(talk, &[commit.exchange, told.exchange, end]))
        },
    ),
    mutant("stale-generation-accepted", &["G2-stale-commit-accepted"], &[G3, BACK], |talk, nth| {
        let joined = talk.of(ApiKey::JOIN_GROUP);
        let commits = talk.of(ApiKey::OFFSET_COMMIT).into_iter().filter(|&at| {
            let generation = number(talk, at, Way::Request, "generation_id_or_member_epoch");
            number(talk, at, Way::Response, "topics[0].partitions[0].error_code") == 0
                && generation > 0
                && joined.iter().any(|&join| {
                    talk.exchanges[join].times[1] < talk.exchanges[at].times[0]
                        && number(talk, join, Way::Response, "generation_id") == generation
                        && text(talk, join, "group_id") == text(talk, at, "group_id")
                })
        });
        let at = commits.collect::<Vec<_>>().into_iter().nth(nth)?;
        let generation = number(talk, at, Way::Request, "generation_id_or_member_epoch");
        talk.ask(at, "generation_id_or_member_epoch", generation - 1);
        Some(Witness::packets_of(talk, &[at]))
    }),
    mutant(
        "refused-commit-accepted",
        &["G2-stale-commit-accepted"],
        &[G3, BACK, P8, "P3-zombie-accepted", "G4-not-exactly-once"],
        |talk, nth| {
            let all = [ApiKey::OFFSET_COMMIT, ApiKey::TXN_OFFSET_COMMIT].into_iter();
            let all: Vec<GroupOffset> = all.flat_map(|api| offsets_committed(talk, api)).collect();
            let stale = |c: &GroupOffset| matches!(c.error, 22 | 25 | 82 | 110 | 113);
            let of = all.into_iter().filter(stale).nth(nth)?;
            let path = |t: usize, p: usize| format!("topics[{t}].partitions[{p}].error_code");
            for (t, p) in (0..8).flat_map(|t| (0..8).map(move |p| (t, p))) {
                talk.reply(of.exchange, &path(t, p), 0);
            }
            Some(Witness::packets_of(talk, &[of.exchange]))
        },
    ),
    mutant("partition-of-two-members", &["G1-partition-shared"], &[], |talk, nth| {
        let sync = talk.of(ApiKey::SYNC_GROUP);
        let of = |at: usize| {
            let bytes = talk.exchanges[at].response.as_ref().unwrap().at("assignment");
            bytes.and_then(Value::as_bytes).unwrap_or_default().to_vec()
        };
        let pairs = sync.iter().flat_map(|&one| sync.iter().map(move |&other| (one, other)));
        let same = |at: usize, other: usize| {
            let generation = |at| number(talk, at, Way::Request, "generation_id");
            generation(at) == generation(other)
                && text(talk, at, "group_id") == text(talk, other, "group_id")
                && text(talk, at, "member_id") < text(talk, other, "member_id")
        };
        let pairs = pairs.filter(|&(one, other)| same(one, other) && of(one).len() > 10);
        let pairs: Vec<_> = pairs.filter(|&(one, other)| of(one) != of(other)).collect();
        let (one, other) = pairs.into_iter().nth(nth)?;
        let bytes = of(one);
        talk.reply(other, "assignment", crate::talk::bytes(bytes));
        Some(Witness::packets_of(talk, &[one, other]))
    }),
    mutant("partition-of-two-members-848", &["G1-partition-shared"], &[], |talk, nth| {
        let beats = talk.of(ApiKey::CONSUMER_GROUP_HEARTBEAT);
        let assigned = |at: usize| talk.exchanges[at].response.as_ref()?.at("assignment").cloned();
        let epoch = |at: usize| number(talk, at, Way::Response, "member_epoch");
        let told: Vec<usize> = beats
            .into_iter()
            .filter(|&at| matches!(assigned(at), Some(Value::Struct(_))))
            .collect();
        let member = |at: usize| {
            let told = talk.exchanges[at].response.as_ref().unwrap().at("member_id").cloned();
            let asked = talk.exchanges[at].request.at("member_id").cloned();
            told.filter(|v| *v != Value::Null).or(asked)
        };
        let pairs = told
            .iter()
            .enumerate()
            .flat_map(|(n, &one)| told[n + 1..].iter().map(move |&other| (one, other)));
        let apart = pairs.filter(|&(one, other)| {
            let topics = assigned(one).unwrap();
            let some = topics.as_struct().unwrap().at("topic_partitions[0].partitions[0]");
            member(one) != member(other)
                && epoch(one) == epoch(other)
                && epoch(one) > 0
                && some.is_some()
                && assigned(one) != assigned(other)
                && text(talk, one, "group_id") == text(talk, other, "group_id")
        });
        let (one, other) = apart.collect::<Vec<_>>().into_iter().nth(nth)?;
        let of = assigned(one).unwrap();
        talk.reply(other, "assignment", of);
        Some(Witness::packets_of(talk, &[one, other]))
    }),
    mutant("partition-not-yet-given-up-848", &["G1-partition-shared"], &[], |talk, nth| {
        // A member joins and is given what another has had since, without that other's having
        // been told to give it up.
        let beats = talk.of(ApiKey::CONSUMER_GROUP_HEARTBEAT);
        let assigned = |at: usize| talk.exchanges[at].response.as_ref()?.at("assignment").cloned();
        let member = |at: usize| {
            let told = talk.exchanges[at].response.as_ref().unwrap().at("member_id").cloned();
            let asked = talk.exchanges[at].request.at("member_id").cloned();
            told.filter(|v| *v != Value::Null).or(asked)
        };
        let is_told = |at: usize| matches!(assigned(at), Some(Value::Struct(_)));
        let pairs = beats.iter().enumerate().filter_map(|(n, &other)| {
            let first = is_told(other)
                && !beats[..n].iter().any(|&b| member(b) == member(other) && is_told(b));
            let one = beats[..n].iter().rev().find(|&&one| {
                is_told(one)
                    && member(one) != member(other)
                    && text(talk, one, "group_id") == text(talk, other, "group_id")
                    && assigned(one)
                        .unwrap()
                        .as_struct()
                        .unwrap()
                        .at("topic_partitions[0].partitions[0]")
                        .is_some()
            })?;
            first.then_some((*one, other))
        });
        let (one, other) = pairs.collect::<Vec<_>>().into_iter().nth(nth)?;
        let of = assigned(one).unwrap();
        talk.reply(other, "assignment", of);
        Some(Witness::packets_of(talk, &[other]))
    }),
];

pub(crate) const LEGAL: &[Mutant] = &[
    mutant("offset-that-a-stranger-committed", &[], &[], |talk, nth| {
        let (commit, told) = committed_and_told(talk, 0).nth(nth)?;
        talk.reply(told.exchange, &format!("{}.committed_offset", told.path), commit.offset + 77);
        Some(Witness::default())
    }),
    mutant("offset-not-told-for-an-error", &[], &[], |talk, nth| {
        let (_, told) = committed_and_told(talk, 0).nth(nth)?;
        talk.reply(told.exchange, &format!("{}.committed_offset", told.path), -1);
        talk.reply(told.exchange, &format!("{}.error_code", told.path), 88);
        Some(Witness::default())
    }),
    mutant("commit-of-nobody", &[], &[], |talk, nth| {
        // As an administrator resets the offsets of an empty group.
        let (commit, told) = committed_and_told(talk, 1).nth(nth)?;
        let path = format!("{}.committed_offset", commit.path);
        talk.ask(commit.exchange, &path, commit.offset - 1);
        talk.ask(commit.exchange, "generation_id_or_member_epoch", -1);
        talk.ask(commit.exchange, "member_id", "");
        for other in offsets_told(talk).into_iter().filter(|t| same(t, &told)) {
            if other.offset == commit.offset {
                talk.reply(
                    other.exchange,
                    &format!("{}.committed_offset", other.path),
                    commit.offset - 1,
                );
            }
        }
        Some(Witness::default())
    }),
    mutant("commit-refused", &[], &[], |talk, nth| {
        let all = offsets_committed(talk, ApiKey::OFFSET_COMMIT);
        let of = all.into_iter().filter(|c| c.error == 0).nth(nth)?;
        let path = format!("{}.error_code", of.path);
        talk.reply(of.exchange, &path, 22).then(Witness::default)
    }),
];

fn text(talk: &Talk, exchange: usize, path: &str) -> String {
    let value = talk.exchanges[exchange].request.at(path);
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn same(one: &GroupOffset, other: &GroupOffset) -> bool {
    (&one.group, &one.topic, one.partition) == (&other.group, &other.topic, other.partition)
}

/// The last commit of a partition before an answer of OffsetFetch that tells it.
fn committed_and_told(
    talk: &Talk,
    least: i64,
) -> impl Iterator<Item = (GroupOffset, GroupOffset)> + use<> {
    let commits = offsets_committed(talk, ApiKey::OFFSET_COMMIT);
    let exchanges = talk.exchanges.clone();
    offsets_told(talk).into_iter().filter_map(move |told| {
        let before = commits.iter().rev().find(|commit| {
            same(commit, &told)
                && commit.error == 0
                && exchanges[commit.exchange].times[1] < exchanges[told.exchange].times[0]
        })?;
        (told.offset == before.offset && before.offset >= least).then(|| (before.clone(), told))
    })
}
