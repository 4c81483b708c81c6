//! Who certainly was in a group, and to whom a partition belonged, as far as members were answered.
//!
//! Nobody but members commits for a group that has some, and of those only the owner of a partition.
//! Both protocols count up when a member comes or goes: where no number is left out between two
//! owners that were seen, there was no third.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::mark::Mark;
use crate::history::facts::topics::Cluster;
use crate::history::facts::{Asked, Deed, Fact, Offsets, Topic};

/// Groups of which the members are followed.
const GROUPS_MAX: usize = 20_000;
/// Members followed of one group.
const LIVES_MAX: usize = 256;
/// Assignments remembered of one group.
const TENURES_MAX: usize = 256;
/// Brokers let no member be silent for less before they give its partitions away
/// (`group.min.session.timeout.ms`, six seconds).
const SESSION_NS: u64 = 5_000_000_000;

type GroupId = (Cluster, Arc<str>);

/// How long a member certainly was in its group.
#[derive(Debug)]
struct Life {
    member: Arc<str>,
    /// When it was first answered as a member, and last asked something that was.
    times_ns: (u64, u64),
    over: bool,
}

/// An assignment, of a generation or, in the protocol of KIP-848, a member epoch.
#[derive(Debug)]
struct Tenure {
    generation: i32,
    /// Member epochs go on while the assignment stays.
    last_generation: i32,
    member: Arc<str>,
    partitions: Vec<(Topic, i32)>,
    /// When it was answered, and when its member last asked something that was answered.
    times_ns: (u64, u64),
    /// When its member asked to leave.
    left_ns: Option<u64>,
}

#[derive(Debug, Default)]
struct Group {
    lives: Vec<Life>,
    tenures: Vec<Tenure>,
    /// The file it was seen in.
    file: Option<u32>,
    /// It was seen in several: their clocks may differ, and nothing is known of it.
    has_many_clocks: bool,
}

/// Watches the members of groups.
#[derive(Debug, Default)]
pub(super) struct Members {
    groups: FxHashMap<GroupId, Group>,
}

impl Members {
    pub(super) fn fact(&mut self, cluster: Cluster, fact: &Fact) {
        let Some(response) = fact.seen.response else { return };
        let (answered, file) = (response.time_ns, response.packet.file);
        let times_ns = (answered, fact.seen.request.time_ns);
        match &fact.deed {
            Deed::JoinGroup { group, answer: Some((0, _, member)), .. } => {
                self.group(cluster, group, file).live(member, times_ns);
            }
            Deed::SyncGroup { member, answer: Some((0, partitions)), .. } => {
                let group = self.group(cluster, &member.group, file);
                group.assigned(member.generation, &member.member, partitions, answered);
            }
            Deed::LeaveGroup { group, members, .. } => {
                let group = self.group(cluster, group, file);
                members.iter().for_each(|member| group.leave(member, times_ns.1));
            }
            Deed::ConsumerGroupHeartbeat { member, answer: Some((0, epoch, id)), assigned } => {
                let id = id.as_ref().unwrap_or(&member.member);
                let group = self.group(cluster, &member.group, file);
                if member.generation <= 0 {
                    // It leaves, or begins anew.
                    group.leave(id, times_ns.1);
                }
                if member.generation < 0 {
                    return;
                }
                group.live(id, times_ns);
                match assigned {
                    Some(partitions) => group.assigned(*epoch, id, partitions, answered),
                    None => group.used(id, *epoch, times_ns.1),
                }
            }
            Deed::OffsetCommit(offsets) => self.commit(cluster, offsets, times_ns, file),
            Deed::TxnOffsetCommit { offsets, .. } => {
                self.commit(cluster, offsets, times_ns, file);
            }
            Deed::GroupsChanged(groups) => {
                for group in groups {
                    self.group(cluster, group, file).tenures.clear();
                }
            }
            _ => {}
        }
    }

    fn commit(&mut self, cluster: Cluster, offsets: &Offsets, times_ns: (u64, u64), file: u32) {
        let Asked { group, generation, member, .. } = &offsets.member;
        let is_accepted = offsets.answered && offsets.offsets.iter().any(|of| of.error == 0);
        if *generation >= 0 && is_accepted {
            let group = self.group(cluster, group, file);
            group.live(member, times_ns);
            group.used(member, *generation, times_ns.1);
        }
    }

    fn group(&mut self, cluster: Cluster, name: &Arc<str>, file: u32) -> &mut Group {
        let id = (cluster, Arc::clone(name));
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&id) {
            self.groups.clear();
        }
        let group = self.groups.entry(id).or_default();
        group.has_many_clocks |= *group.file.get_or_insert(file) != file;
        group
    }

    /// Brokers that turned out to be of one cluster have the groups of one.
    pub(super) fn settle(&mut self, now: impl Fn(Cluster) -> Cluster) {
        for ((cluster, name), of) in std::mem::take(&mut self.groups) {
            let all = self.groups.entry((now(cluster), name)).or_default();
            let is_of_one = all.file.is_none_or(|file| Some(file) == of.file);
            all.has_many_clocks |= of.has_many_clocks || !is_of_one;
            all.file = of.file;
            all.lives.extend(of.lives);
            all.tenures.extend(of.tenures);
            all.tenures.sort_by_key(|tenure| tenure.times_ns.0);
        }
    }

    fn certain(&self, of: &GroupId) -> Option<&Group> {
        self.groups.get(of).filter(|group| !group.has_many_clocks)
    }

    /// Whether a group had a member all the time from the end of one exchange to that of another.
    pub(super) fn was_never_empty(&self, of: &GroupId, from: &Mark, to: &Mark) -> bool {
        let (Some(from), Some(to)) = (from.response(), to.response()) else { return false };
        let lives = self.certain(of).map_or(&[][..], |group| &group.lives[..]);
        lives.iter().any(|Life { times_ns: (first, last), .. }| {
            *first <= from.time_ns && to.time_ns <= *last
        })
    }

    /// When a member was told that a partition is its own in that generation.
    pub(super) fn owns_since(
        &self,
        of: &GroupId,
        partition: (&Topic, i32),
        generation: i32,
        member: &str,
    ) -> Option<u64> {
        let tenures = self.certain(of).map_or(&[][..], |group| &group.tenures[..]);
        let is_it = |tenure: &&Tenure| {
            (tenure.generation..=tenure.last_generation).contains(&generation)
                && *tenure.member == *member
                && tenure.has(partition)
        };
        tenures.iter().find(is_it).map(|tenure| tenure.times_ns.0)
    }

    /// Whether nobody but the member that committed in a generation can have committed for the
    /// partition before that fetch was answered: the partition is still the member's, or was given
    /// to the next one a moment ago, which fetches the offset before it does anything.
    pub(super) fn is_still_of(
        &self,
        of: &GroupId,
        partition: (&Topic, i32),
        (generation, member): (i32, &str),
        fetch: &Mark,
        is_first_since: impl Fn(u64) -> bool,
    ) -> bool {
        let Some(answered) = fetch.response() else { return false };
        let tenures = self.certain(of).map_or(&[][..], |group| &group.tenures[..]);
        let tenures = tenures.iter().filter(|tenure| tenure.times_ns.0 <= answered.time_ns);
        let mut owner: Option<&Tenure> = None;
        let mut is_handed_over = false;
        for tenure in tenures.filter(|tenure| tenure.last_generation >= generation) {
            let has = tenure.has(partition);
            owner = match owner {
                None if *tenure.member == *member && has => Some(tenure),
                Some(owner) if owner.member == tenure.member && has => Some(tenure),
                Some(owner) if owner.member == tenure.member => return false,
                Some(owner) if has && !is_handed_over && tenure.follows(owner) => {
                    is_handed_over = true;
                    Some(tenure)
                }
                _ if has => return false,
                unchanged => unchanged,
            };
        }
        let Some(owner) = owner else { return false };
        let is_recent = |at_ns: u64| at_ns + SESSION_NS >= answered.time_ns;
        match is_handed_over {
            false => {
                owner.left_ns.is_none_or(|left| left > answered.time_ns)
                    && is_recent(owner.times_ns.1)
            }
            true => is_recent(owner.times_ns.0) && is_first_since(owner.times_ns.0),
        }
    }
}

impl Tenure {
    /// Whether nobody had the partitions in between: a group that is empty for a while counts up too.
    fn follows(&self, owner: &Self) -> bool {
        let apart = i64::from(self.generation) - i64::from(owner.last_generation);
        apart == 1 || apart == 2 && owner.left_ns.is_some_and(|left| left < self.times_ns.0)
    }

    fn has(&self, (topic, partition): (&Topic, i32)) -> bool {
        self.partitions.iter().any(|(of, number)| of == topic && *number == partition)
    }
}

impl Group {
    fn live(&mut self, member: &Arc<str>, times_ns: (u64, u64)) {
        let is_full = self.lives.len() >= LIVES_MAX;
        let own = self.lives.iter_mut().rev().find(|life| life.member == *member && !life.over);
        match own {
            Some(life) => life.times_ns.1 = life.times_ns.1.max(times_ns.1),
            None if is_full => {}
            None => {
                self.lives.push(Life { member: Arc::clone(member), times_ns, over: false });
            }
        }
    }

    fn leave(&mut self, member: &Arc<str>, at_ns: u64) {
        let own = self.lives.iter_mut().rev().find(|life| life.member == *member && !life.over);
        if let Some(life) = own {
            life.over = true;
        }
        let of_member = |tenure: &&mut Tenure| tenure.member == *member;
        let stays = self.tenures.iter_mut().filter(of_member);
        stays.for_each(|tenure| tenure.left_ns = tenure.left_ns.or(Some(at_ns)));
    }

    fn assigned(
        &mut self,
        generation: i32,
        member: &Arc<str>,
        partitions: &[(Topic, i32)],
        answered_ns: u64,
    ) {
        if self.tenures.len() >= TENURES_MAX {
            self.tenures.remove(0);
        }
        self.tenures.push(Tenure {
            generation,
            last_generation: generation,
            member: Arc::clone(member),
            partitions: partitions.to_vec(),
            times_ns: (answered_ns, answered_ns),
            left_ns: None,
        });
    }

    /// A member asked something that was answered, in that generation.
    fn used(&mut self, member: &Arc<str>, generation: i32, at_ns: u64) {
        let newest = self.tenures.iter_mut().rev().find(|tenure| tenure.member == *member);
        if let Some(tenure) = newest.filter(|tenure| tenure.generation <= generation) {
            tenure.last_generation = tenure.last_generation.max(generation);
            tenure.times_ns.1 = tenure.times_ns.1.max(at_ns);
        }
    }
}
