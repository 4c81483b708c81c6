//! P8, G3 and G4: what groups committed, and what OffsetFetch returns of it.
//!
//! Needs to have seen: the commits, and for those of transactions the EndTxn that decides them; a
//! fetch of the offset that was sent after the answers. Offsets of a transaction are certainly
//! there only for a fetch that waits for stable ones (KIP-447): markers are written after EndTxn
//! is answered.
//!
//! Taken for granted, and said where it matters: nobody whose requests were not seen sets a group
//! that is empty for a while back to an offset it once had, or deletes its offsets.
//!
//! For P8 that the offset of an aborted transaction is told also: that the partition stayed with the
//! member that committed it, or went to the next one (`members`). Others read the same input again
//! and commit the same offset.
//!
//! Not checked: values nobody was seen to commit, which are a stranger's, but for a group that had a
//! member all the time; groups of which offsets were deleted; topics of one name that were created
//! twice; for G4, commits without a member, as of consumers without a group, and what was processed
//! without commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::json;

use super::invariant::Invariant::{self, G3, G4, P8};
use super::mark::Mark;
use super::members::Members;
use super::stage::Stage;
use super::transactions::Transactions;
use crate::history::facts::topics::Cluster;
use crate::history::facts::{Asked, CLOCKS_DIFFER_NS_MAX, Deed, Fact, Offsets, Topic};

/// Commits and fetches kept, of all groups.
const KEPT_MAX: usize = 300_000;
/// Commits looked at for one fetch.
const LOOK_BACK: usize = 64;

type Key = (Cluster, Arc<str>, Topic, i32);

/// Who a partition belongs to while a generation lasts. A static member may change its id within
/// a generation, and has none here.
#[derive(Debug, Clone)]
struct Owner {
    generation: i32,
    member: Arc<str>,
}

#[derive(Debug, Clone)]
struct Commit {
    offset: i64,
    owner: Option<Owner>,
    /// Whether it was answered without an error.
    accepted: bool,
    /// Producer id and epoch of its transaction.
    transaction: Option<(i64, i16)>,
    mark: Mark,
}

#[derive(Debug, Clone, Copy)]
struct Fetch {
    offset: i64,
    require_stable: bool,
    mark: Mark,
}

#[derive(Debug, Default)]
struct History {
    commits: Vec<Commit>,
    fetches: Vec<Fetch>,
}

/// Watches committed offsets.
#[derive(Debug, Default)]
pub(super) struct CommittedOffsets {
    members: Members,
    histories: FxHashMap<Key, History>,
    kept: usize,
    deleted: FxHashSet<(Cluster, Arc<str>)>,
    /// Something of a connection is missing: perhaps a commit.
    hurt: bool,
}

impl CommittedOffsets {
    pub(super) fn fact(&mut self, stage: &mut Stage, fact: &Fact) {
        let cluster = stage.cluster(&fact.seen);
        self.members.fact(cluster, fact);
        match &fact.deed {
            Deed::OffsetCommit(offsets) => {
                self.commit(cluster, offsets, None, &Mark::of(&fact.seen))
            }
            Deed::TxnOffsetCommit { asked, offsets } => {
                let of = (asked.producer_id, asked.producer_epoch);
                self.commit(cluster, offsets, Some(of), &Mark::of(&fact.seen));
            }
            Deed::OffsetFetch { require_stable, groups } => {
                for (group, offsets) in groups {
                    for of in offsets {
                        let fetch = Fetch {
                            offset: of.offset,
                            require_stable: *require_stable,
                            mark: Mark::of(&fact.seen),
                        };
                        let key = (cluster, Arc::clone(group), of.topic.clone(), of.partition);
                        if let Some(history) = self.history(key) {
                            history.fetches.push(fetch);
                        }
                    }
                }
            }
            Deed::GroupsChanged(groups) => {
                self.deleted.extend(groups.iter().map(|group| (cluster, Arc::clone(group))));
            }
            _ => {}
        }
    }

    /// Something of a connection is missing.
    pub(super) fn hurt(&mut self) {
        self.hurt = true;
    }

    /// Whether something of a connection is missing.
    pub(super) fn is_hurt(&self) -> bool {
        self.hurt
    }

    /// Whether a group certainly had a member all the time between two exchanges.
    fn was_never_empty(&self, key: &Key, from: &Mark, to: &Mark) -> bool {
        !self.hurt && self.members.was_never_empty(&(key.0, Arc::clone(&key.1)), from, to)
    }

    /// Whether nobody who was not seen can have committed the same offset again: what is read
    /// again after an abort is the same.
    fn is_of_nobody_else(
        &self,
        key: &Key,
        commit: &Commit,
        fetch: &Fetch,
        history: &History,
    ) -> bool {
        let is_certain = !self.hurt && commit.mark.is_of_one_clock_with(&fetch.mark);
        let Some(owner) = commit.owner.as_ref().filter(|_| is_certain) else { return false };
        let asked_ns = fetch.mark.request().time_ns;
        let is_first_since = |since_ns: u64| {
            let ns = history.fetches.iter().map(|of| of.mark.request().time_ns);
            since_ns <= asked_ns && !ns.into_iter().any(|ns| (since_ns..asked_ns).contains(&ns))
        };
        self.members.is_still_of(
            &(key.0, Arc::clone(&key.1)),
            (&key.2, key.3),
            (owner.generation, &owner.member),
            &fetch.mark,
            is_first_since,
        )
    }

    /// Whether the owner of the partition had been told another offset before it committed.
    fn was_told_other(&self, key: &Key, commit: &Commit, fetch: &Fetch, history: &History) -> bool {
        let group = (key.0, Arc::clone(&key.1));
        let since = commit.owner.as_ref().and_then(|owner| {
            self.members.owns_since(&group, (&key.2, key.3), owner.generation, &owner.member)
        });
        since.is_some_and(|since_ns| {
            history.fetches.iter().any(|told| {
                told.offset != fetch.offset
                    && told.mark.request().time_ns >= since_ns
                    && told.mark.is_before(&commit.mark)
            })
        })
    }

    fn commit(
        &mut self,
        cluster: Cluster,
        offsets: &Offsets,
        transaction: Option<(i64, i16)>,
        mark: &Mark,
    ) {
        let Asked { generation, member, instance, .. } = &offsets.member;
        let is_owner = *generation >= 0 && !member.is_empty() && instance.is_none();
        for of in &offsets.offsets {
            let owner = Owner { generation: *generation, member: Arc::clone(member) };
            let owner = is_owner.then_some(owner);
            let group = Arc::clone(&offsets.member.group);
            let key = (cluster, group, of.topic.clone(), of.partition);
            let accepted = offsets.answered && of.error == 0;
            let commit = Commit { offset: of.offset, owner, accepted, transaction, mark: *mark };
            if let Some(history) = self.history(key) {
                history.commits.push(commit);
            }
        }
    }

    fn history(&mut self, key: Key) -> Option<&mut History> {
        self.kept += 1;
        (self.kept <= KEPT_MAX).then(|| self.histories.entry(key).or_default())
    }

    /// Says what else could explain it, where something could.
    fn unless_set_back(&self, key: &Key, [from, to]: [&Mark; 2], why: String) -> String {
        if self.was_never_empty(key, from, to) {
            return why;
        }
        format!(
            "{why} (while a group is empty, an administrator may set it back too: none was seen to)"
        )
    }

    /// Judges everything.
    #[expect(clippy::disallowed_methods, reason = "sorted before anything is done with it")]
    pub(super) fn finish(&mut self, stage: &mut Stage, transactions: &Transactions) {
        // What brokers of one cluster said is put together.
        let now = |cluster| stage.topics.cluster_now(cluster);
        self.members.settle(now);
        let mut histories: BTreeMap<Key, History> = BTreeMap::new();
        for ((cluster, group, topic, partition), of) in self.histories.drain() {
            let all = histories.entry((now(cluster), group, topic, partition)).or_default();
            all.commits.extend(of.commits);
            all.fetches.extend(of.fetches);
        }
        let deleted = self.deleted.drain().map(|(cluster, group)| (now(cluster), group));
        let deleted: FxHashSet<_> = deleted.collect();
        for (key, mut history) in histories {
            let (cluster, group, topic, _) = &key;
            let is_certain = stage.topics.is_certain_name(*cluster, topic)
                && !deleted.contains(&(*cluster, Arc::clone(group)));
            if !is_certain {
                stage.ledger.unknown_times(G3, history.fetches.len() as u64);
                continue;
            }
            history.commits.sort_by_key(|commit| commit.mark.request().order());
            history.fetches.sort_by_key(|fetch| fetch.mark.request().order());
            judge(stage, self, &key, &history, transactions);
            repeated(stage, &key, &history, transactions);
        }
        stage.ledger.unknown_times(G3, self.kept.saturating_sub(KEPT_MAX) as u64);
    }
}

/// When a commit can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visible {
    /// It certainly is.
    Yes,
    /// It may be.
    Perhaps,
    /// Its transaction was aborted.
    Never,
}

fn visible(commit: &Commit, fetch: &Fetch, of: Cluster, transactions: &Transactions) -> Visible {
    let Some((producer_id, epoch)) = commit.transaction else {
        let is_there = commit.accepted && commit.mark.is_before(&fetch.mark);
        return if is_there { Visible::Yes } else { Visible::Perhaps };
    };
    let end = transactions.end_of((of, producer_id), epoch, &commit.mark);
    match end {
        Some((end, None)) if !end.committed => Visible::Never,
        Some((end, None)) if commit.accepted && end.mark.is_before(&fetch.mark) => {
            if fetch.require_stable { Visible::Yes } else { Visible::Perhaps }
        }
        _ => Visible::Perhaps,
    }
}

/// Whether what was committed is known of every transaction that its producer has committed since,
/// up to the fetch.
fn is_all_of_it(
    of: Cluster,
    aborted: &Commit,
    fetch: &Fetch,
    history: &History,
    transactions: &Transactions,
) -> bool {
    let Some((producer_id, epoch)) = aborted.transaction else { return true };
    let committed = transactions.committed_since((of, producer_id), epoch, &aborted.mark);
    let mut until_fetch = committed.filter(|(_, end)| !fetch.mark.is_before(&end.mark));
    until_fetch.all(|(epoch, end)| {
        history.commits.iter().any(|commit| {
            commit.transaction == Some((producer_id, epoch))
                && aborted.mark.is_before(&commit.mark)
                && commit.mark.is_before(&end.mark)
        })
    })
}

/// The commit, the end of its transaction, and the fetch.
fn shown_by(commit: &Commit, fetch: &Fetch, of: Cluster, transactions: &Transactions) -> Vec<Mark> {
    let end = commit.transaction.and_then(|(producer_id, epoch)| {
        transactions.end_of((of, producer_id), epoch, &commit.mark)
    });
    let end = end.map(|(end, _)| end.mark);
    [Some(commit.mark), end, Some(fetch.mark)].into_iter().flatten().collect()
}

fn judge(
    stage: &mut Stage,
    all: &CommittedOffsets,
    key: &Key,
    history: &History,
    transactions: &Transactions,
) {
    for (nth, fetch) in history.fetches.iter().enumerate() {
        // What was sent after the fetch was answered cannot be in the answer.
        let last_ns = fetch
            .mark
            .response()
            .map_or(u64::MAX, |at| at.time_ns.saturating_add(CLOCKS_DIFFER_NS_MAX));
        let near =
            history.commits.partition_point(|commit| commit.mark.request().time_ns <= last_ns);
        let before = history.commits[..near].iter().rev();
        let before = before.filter(|commit| !fetch.mark.is_before(&commit.mark)).take(LOOK_BACK);
        let mut commits: Vec<&Commit> = before.collect();
        commits.reverse();
        let visible: Vec<Visible> =
            commits.iter().map(|commit| visible(commit, fetch, key.0, transactions)).collect();
        let last = (0..commits.len()).rev().find(|&at| visible[at] == Visible::Yes);
        let is_allowed = |at: usize| {
            let superseded = (at + 1..commits.len()).any(|later| {
                visible[later] == Visible::Yes && commits[at].mark.is_before(&commits[later].mark)
            });
            visible[at] != Visible::Never && !superseded
        };
        let is_value = |at: &usize| commits[*at].offset == fetch.offset;
        let invariant = match last {
            Some(last) if commits[last].transaction.is_none() => G3,
            _ => P8,
        };
        if (0..commits.len()).filter(is_value).any(is_allowed) {
            match last {
                Some(_) => stage.ledger.held(invariant),
                None => stage.ledger.unknown(invariant),
            }
            continue;
        }
        let others = (0..commits.len()).filter(is_value);
        let aborted = others.clone().find(|&at| visible[at] == Visible::Never);
        let superseded = others.clone().find(|&at| visible[at] != Visible::Never);
        match (last, aborted, superseded) {
            (last, Some(aborted), None)
                if (last.is_some()
                    || all.was_told_other(key, commits[aborted], fetch, history))
                    && all.is_of_nobody_else(key, commits[aborted], fetch, history)
                    && is_all_of_it(key.0, commits[aborted], fetch, history, transactions) =>
            {
                let marks = shown_by(commits[aborted], fetch, key.0, transactions);
                let why = "that is the offset of a transaction that was aborted";
                lost(stage, key, (P8, fetch), &marks, why);
            }
            (Some(last), _, Some(_)) => {
                let marks = shown_by(commits[last], fetch, key.0, transactions);
                let why = format!("{} had been committed since", commits[last].offset);
                let why = all.unless_set_back(key, [&commits[last].mark, &fetch.mark], why);
                // What was told once is no matter of its transaction any more.
                let was_told = |earlier: &&Fetch| {
                    earlier.offset == commits[last].offset
                        && commits[last].mark.is_before(&earlier.mark)
                        && earlier.mark.is_before(&fetch.mark)
                };
                let told = history.fetches[..nth].iter().rev().take(LOOK_BACK).find(was_told);
                let invariant = if told.is_some() { G3 } else { invariant };
                lost(stage, key, (invariant, fetch), &marks, &why);
                if (0..commits[last].offset).contains(&fetch.offset) {
                    regressed(stage, key, (commits[last], fetch));
                }
            }
            // What deleted it may be what is missing.
            (Some(last), None, None) if fetch.offset < 0 && !all.hurt => {
                let marks = shown_by(commits[last], fetch, key.0, transactions);
                let why = format!("{} had been committed", commits[last].offset);
                let why = all.unless_set_back(key, [&commits[last].mark, &fetch.mark], why);
                lost(stage, key, (invariant, fetch), &marks, &why);
            }
            (Some(last), None, None)
                if invariant == G3
                    && fetch.offset < commits[last].offset
                    && all.was_never_empty(key, &commits[last].mark, &fetch.mark) =>
            {
                let marks = [commits[last].mark, fetch.mark];
                let why = format!(
                    "{} had been committed, and {} by nobody; the group was never empty in between, \
                     so that no administrator could set it back",
                    commits[last].offset, fetch.offset
                );
                lost(stage, key, (G3, fetch), &marks, &why);
                regressed(stage, key, (commits[last], fetch));
            }
            _ => stage.ledger.unknown(invariant),
        }
    }
}

fn fields(key: &Key, offset: i64) -> Vec<(&'static str, serde_json::Value)> {
    let (_, group, topic, partition) = key;
    vec![
        ("group", json!(&**group)),
        ("topic", json!(topic.to_string())),
        ("partition", json!(partition)),
        ("offset", json!(offset)),
    ]
}

fn lost(
    stage: &mut Stage,
    key: &Key,
    (invariant, fetch): (Invariant, &Fetch),
    marks: &[Mark],
    why: &str,
) {
    let (_, group, topic, partition) = key;
    let explanation = format!(
        "OffsetFetch of group {group} returned {} for {topic}-{partition}; {why}.",
        fetch.offset
    );
    stage.ledger.broken(invariant, fields(key, fetch.offset), marks, explanation);
}

/// The same for whoever reads operations: the group goes back and reads records again.
fn regressed(stage: &mut Stage, key: &Key, (last, fetch): (&Commit, &Fetch)) {
    let (_, group, topic, partition) = key;
    let explanation = format!(
        "Group {group} had committed {} for {topic}-{partition}, and was told {} afterwards: whoever \
         takes the partition over reads {} records again.",
        last.offset,
        fetch.offset,
        last.offset - fetch.offset
    );
    let marks = [last.mark, fetch.mark];
    stage.ledger.regressed(fields(key, fetch.offset), &marks, explanation);
}

/// G4: in one generation a partition belongs to one member, so two members of one generation that
/// commit the same stretch in committed transactions have both processed it.
fn repeated(stage: &mut Stage, key: &Key, history: &History, transactions: &Transactions) {
    let mut committed: Vec<(&Commit, Mark)> = Vec::new();
    for commit in &history.commits {
        let Some((producer_id, epoch)) = commit.transaction else { continue };
        let end = transactions.end_of((key.0, producer_id), epoch, &commit.mark);
        let (Some((end, None)), true, Some(owner)) = (end, commit.accepted, &commit.owner) else {
            stage.ledger.unknown(G4);
            continue;
        };
        if !end.committed {
            continue;
        }
        let again = committed.iter().rev().take(LOOK_BACK).find(|(first, end)| {
            let is_other = first.owner.as_ref().is_some_and(|first| {
                first.generation == owner.generation && first.member != owner.member
            });
            is_other && first.offset >= commit.offset && end.is_before(&commit.mark)
        });
        match again {
            Some((first, _)) => twice(stage, key, first, commit),
            None => stage.ledger.held(G4),
        }
        committed.push((commit, end.mark));
    }
}

fn twice(stage: &mut Stage, key: &Key, first: &Commit, again: &Commit) {
    let (_, group, topic, partition) = key;
    let member = |commit: &Commit| {
        commit.owner.as_ref().map_or_else(String::new, |owner| owner.member.to_string())
    };
    let explanation = format!(
        "In one generation of group {group}, member {} committed offset {} of {topic}-{partition} \
         in a committed transaction, and after that member {} committed {}: the input before that \
         was processed twice.",
        member(first),
        first.offset,
        member(again),
        again.offset
    );
    stage.ledger.broken(G4, fields(key, again.offset), &[first.mark, again.mark], explanation);
}
