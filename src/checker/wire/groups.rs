//! G1 and G2: who belongs to a group, and who may commit for it.
//!
//! G1 needs to have seen: the assignments of two members in one generation, and that of the leader,
//! who makes them; in the protocol of KIP-848, which the broker assigns itself, two assignments at
//! one member epoch. G2: an answer of JoinGroup with a later generation, or the answer to a member
//! that left, before the commit came.
//!
//! Not checked: groups that are none of consumers; commits without a member; member epochs that
//! are merely old, which newer brokers accept while the partition stays with the member
//! (KIP-1251).

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::json;

use super::invariant::Invariant::{G1, G2};
use super::mark::Mark;
use super::stage::Stage;
use crate::history::facts::topics::Cluster;
use crate::history::facts::{Asked, Deed, Fact, Offsets, Topic};

/// Groups and generations remembered.
const GROUPS_MAX: usize = 50_000;
/// Answers remembered of one group.
const ANSWERS_MAX: usize = 64;
/// A generation does not last for two assignments so far apart to be of one: the group may have
/// been deleted and begun anew.
const GENERATION_NS: u64 = 300_000_000_000;

type GroupId = (Cluster, Arc<str>);

#[derive(Debug)]
struct Assignment {
    member: Arc<str>,
    instance: Option<Arc<str>>,
    partitions: Vec<(Topic, i32)>,
    mark: Mark,
}

#[derive(Debug, Default)]
struct Generation {
    assignments: Vec<Assignment>,
    leader_seen: bool,
    shared_by_leader: bool,
}

#[derive(Debug)]
struct Joined {
    generation: i32,
    member: Arc<str>,
    instance: Option<Arc<str>>,
    mark: Mark,
}

#[derive(Debug, Default)]
struct Group {
    is_consumer: bool,
    joined: Vec<Joined>,
    left: FxHashMap<Arc<str>, Mark>,
    /// By generation, of the classic protocol.
    generations: BTreeMap<i32, Generation>,
    /// By member epoch (KIP-848).
    epochs: BTreeMap<i32, Vec<Assignment>>,
}

/// Watches groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: FxHashMap<GroupId, Group>,
}

impl Groups {
    pub(super) fn fact(&mut self, stage: &mut Stage, fact: &Fact) {
        let cluster = stage.cluster(&fact.seen);
        let mark = Mark::of(&fact.seen);
        match &fact.deed {
            Deed::JoinGroup {
                group,
                instance,
                is_consumer,
                answer: Some((0, generation, member)),
            } => {
                let joined = Joined {
                    generation: *generation,
                    member: Arc::clone(member),
                    instance: instance.clone(),
                    mark,
                };
                let group = self.group((cluster, Arc::clone(group)));
                group.is_consumer = *is_consumer;
                group.joined(stage, joined);
            }
            Deed::SyncGroup {
                member,
                assigns,
                shared_by_leader,
                answer: Some((0, partitions)),
            } => {
                let group = self.group((cluster, Arc::clone(&member.group)));
                let generation = group.generations.entry(member.generation).or_default();
                generation.shared_by_leader |= shared_by_leader;
                generation.leader_seen |= *assigns;
                generation.assignments.push(assignment(member, partitions, mark));
                if group.generations.len() > ANSWERS_MAX {
                    group.generations.pop_first();
                    stage.ledger.unknown(G1);
                }
            }
            Deed::LeaveGroup { group, members, error: Some(0) } => {
                let group = self.group((cluster, Arc::clone(group)));
                group.left.extend(members.iter().map(|member| (Arc::clone(member), mark)));
            }
            Deed::ConsumerGroupHeartbeat { member, answer: Some((0, epoch, id)), assigned } => {
                self.heartbeat(stage, (cluster, member), (*epoch, id.as_ref()), assigned, mark);
            }
            Deed::OffsetCommit(offsets) => self.commit(stage, cluster, offsets, mark),
            Deed::TxnOffsetCommit { offsets, .. } => self.commit(stage, cluster, offsets, mark),
            Deed::GroupsChanged(groups) => {
                for group in groups {
                    self.groups.remove(&(cluster, Arc::clone(group)));
                }
            }
            _ => {}
        }
    }

    fn group(&mut self, id: GroupId) -> &mut Group {
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&id) {
            self.groups.clear();
        }
        self.groups.entry(id).or_default()
    }

    fn heartbeat(
        &mut self,
        stage: &mut Stage,
        (cluster, member): (Cluster, &Asked),
        (epoch, id): (i32, Option<&Arc<str>>),
        assigned: &Option<Vec<(Topic, i32)>>,
        mark: Mark,
    ) {
        let group = self.group((cluster, Arc::clone(&member.group)));
        let id = id.unwrap_or(&member.member);
        if member.generation < 0 {
            group.left.insert(Arc::clone(id), mark);
            for assignments in group.epochs.values_mut() {
                assignments.retain(|assignment| assignment.member != *id);
            }
            return;
        }
        group.left.remove(id);
        let Some(partitions) = assigned else { return };
        let new = Assignment { member: Arc::clone(id), ..assignment(member, partitions, mark) };
        let at_epoch = group.epochs.entry(epoch).or_default();
        at_epoch.retain(|assignment| assignment.member != new.member);
        match at_epoch.iter().find_map(|other| shared(other, &new).map(|p| (other.mark, p))) {
            Some((other, partition)) => {
                two_owners(stage, &member.group, epoch, &partition, &[other, mark]);
            }
            None if at_epoch.is_empty() => stage.ledger.unknown(G1),
            None => stage.ledger.held(G1),
        }
        at_epoch.push(new);
        if group.epochs.len() > ANSWERS_MAX {
            group.epochs.pop_first();
        }
    }

    fn commit(&mut self, stage: &mut Stage, cluster: Cluster, offsets: &Offsets, mark: Mark) {
        let member = &offsets.member;
        let accepted = offsets.answered && offsets.offsets.iter().any(|offset| offset.error == 0);
        if !accepted || member.generation < 0 || member.member.is_empty() {
            return;
        }
        let Some(group) = self.groups.get(&(cluster, Arc::clone(&member.group))) else {
            return stage.ledger.unknown(G2);
        };
        let why = group.is_stale(member, &mark);
        match why {
            Some((by, why)) => {
                let fields = vec![
                    ("group", json!(&*member.group)),
                    ("member", json!(&*member.member)),
                    ("generation", json!(member.generation)),
                ];
                let explanation = format!(
                    "{} of group {} committed offsets in generation {}, and was told that they \
                     are committed. {why}",
                    &*member.member, &*member.group, member.generation
                );
                stage.ledger.broken(G2, fields, &[by, mark], explanation);
            }
            None if group.joined.is_empty() => stage.ledger.unknown(G2),
            None => stage.ledger.held(G2),
        }
    }

    /// Judges what is left.
    #[expect(clippy::disallowed_methods, reason = "sorted before anything is done with it")]
    pub(super) fn finish(&mut self, stage: &mut Stage) {
        let mut groups: Vec<_> = self.groups.drain().collect();
        groups.sort_by(|(one, _), (other, _)| one.cmp(other));
        for ((_, name), group) in groups {
            for (number, generation) in &group.generations {
                if group.is_consumer {
                    judge(stage, &name, *number, generation);
                }
            }
        }
    }
}

fn assignment(member: &Asked, partitions: &[(Topic, i32)], mark: Mark) -> Assignment {
    Assignment {
        member: Arc::clone(&member.member),
        instance: member.instance.clone(),
        partitions: partitions.to_vec(),
        mark,
    }
}

impl Group {
    fn joined(&mut self, stage: &mut Stage, joined: Joined) {
        if self.joined.last().is_some_and(|last| joined.generation < last.generation) {
            // The group began anew.
            self.joined.clear();
            self.generations.clear();
            stage.ledger.unknown(G1);
        }
        self.left.remove(&joined.member);
        if self.joined.len() >= ANSWERS_MAX {
            self.joined.remove(0);
        }
        self.joined.push(joined);
    }

    /// Why a commit of that member should have been refused, and the exchange that shows it.
    fn is_stale(&self, member: &Asked, mark: &Mark) -> Option<(Mark, String)> {
        let left = self.left.get(&member.member).filter(|left| left.is_before(mark));
        if let Some(left) = left {
            return Some((*left, "It had left the group before.".to_owned()));
        }
        let later = self
            .joined
            .iter()
            .find(|joined| joined.generation > member.generation && joined.mark.is_before(mark));
        if let Some(joined) = later {
            let why = format!("The group had begun generation {} before.", joined.generation);
            return Some((joined.mark, why));
        }
        let instance = member.instance.as_ref()?;
        let own = self.joined.iter().position(|joined| joined.member == member.member)?;
        let heir = self.joined[own + 1..].iter().find(|joined| {
            joined.instance.as_ref() == Some(instance)
                && joined.member != member.member
                && joined.mark.is_before(mark)
        })?;
        let why = format!("Its instance {instance} had joined as {} before.", heir.member);
        Some((heir.mark, why))
    }
}

/// Whether two assignments are of two members, which one static member begun anew is not, and
/// near enough in time to be of one generation.
fn are_two(one: &Assignment, other: &Assignment) -> bool {
    let is_one =
        one.member == other.member || one.instance.is_some() && one.instance == other.instance;
    let ns = |mark: &Mark| mark.request().time_ns;
    !is_one && ns(&one.mark).abs_diff(ns(&other.mark)) <= GENERATION_NS
}

/// A partition that two assignments have.
fn shared(one: &Assignment, other: &Assignment) -> Option<(Topic, i32)> {
    if !are_two(one, other) {
        return None;
    }
    let own: FxHashSet<&(Topic, i32)> = one.partitions.iter().collect();
    other.partitions.iter().find(|partition| own.contains(partition)).cloned()
}

fn judge(stage: &mut Stage, group: &str, number: i32, generation: &Generation) {
    let Generation { assignments, leader_seen, shared_by_leader } = generation;
    if assignments.len() < 2 || !leader_seen || *shared_by_leader {
        return stage.ledger.unknown(G1);
    }
    let mut owners: FxHashMap<&(Topic, i32), &Assignment> = FxHashMap::default();
    let mut sound = true;
    for one in assignments {
        for partition in &one.partitions {
            let owner = *owners.entry(partition).or_insert(one);
            if are_two(owner, one) {
                two_owners(stage, group, number, partition, &[owner.mark, one.mark]);
                sound = false;
                break;
            }
        }
    }
    if sound {
        stage.ledger.held(G1);
    }
}

fn two_owners(
    stage: &mut Stage,
    group: &str,
    generation: i32,
    (topic, partition): &(Topic, i32),
    marks: &[Mark],
) {
    let fields = vec![
        ("group", json!(group)),
        ("generation", json!(generation)),
        ("topic", json!(topic.to_string())),
        ("partition", json!(partition)),
    ];
    let explanation = format!(
        "In generation {generation} of group {group}, two members were both assigned \
         {topic}-{partition}."
    );
    stage.ledger.broken(G1, fields, marks, explanation);
}
