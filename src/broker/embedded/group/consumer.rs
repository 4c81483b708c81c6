//! A group of the consumer protocol (KIP-848): the broker assigns, heartbeats carry everything.
//!
//! Each change of members, subscriptions or topics raises the group epoch and makes a new target
//! assignment at once. A member moves towards its target heartbeat by heartbeat: it gives back
//! what it has too much, then takes the new epoch, then gets what others have given back.
//!
//! Never: assigns by racks; knows topics but by id and number of partitions.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::ErrorCode;
use uuid::Uuid;

/// A partition by the id of its topic.
pub(super) type Owned = (Uuid, i32);

/// How partitions are dealt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }
}

/// One member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) rack_id: Option<String>,
    pub(super) client_id: String,
    pub(super) member_epoch: i32,
    previous_epoch: i32,
    pub(super) subscribed: BTreeSet<String>,
    assignor: Option<Assignor>,
    rebalance_timeout_ms: i32,
    session_ends_ms: i64,
    /// When it must have given back what it was asked for.
    revocation_ends_ms: i64,
    pub(super) assigned: BTreeSet<Owned>,
    revoking: BTreeSet<Owned>,
    pub(super) target: BTreeSet<Owned>,
}

/// A heartbeat, its topics still by name.
#[derive(Debug, Clone)]
pub(super) struct Heartbeat {
    pub(super) member_id: String,
    pub(super) member_epoch: i32,
    pub(super) instance_id: Option<String>,
    pub(super) rack_id: Option<String>,
    pub(super) client_id: String,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) subscribed: Option<BTreeSet<String>>,
    pub(super) assignor: Option<Assignor>,
    pub(super) owned: Option<BTreeSet<Owned>>,
}

/// What a heartbeat is answered: the epoch, and the assignment where it is news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) member_epoch: i32,
    pub(super) assignment: Option<BTreeSet<Owned>>,
}

/// Topics by name: id and number of partitions.
pub(super) type Topics = BTreeMap<String, (Uuid, i32)>;

/// The group.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) group_epoch: i32,
    pub(super) assignment_epoch: i32,
    pub(super) members: BTreeMap<String, Member>,
    /// The topics as the last target saw them.
    seen: Topics,
    session_timeout_ms: i64,
}

impl Default for Consumer {
    /// Kafka's groups begin at epoch 1, so that the first member gets 2.
    fn default() -> Self {
        Self {
            group_epoch: 1,
            assignment_epoch: 0,
            members: BTreeMap::new(),
            seen: Topics::new(),
            session_timeout_ms: 0,
        }
    }
}

impl Consumer {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn state_name(&self) -> &'static str {
        let settled = |member: &Member| {
            member.member_epoch == self.assignment_epoch && member.assigned == member.target
        };
        match self.members.is_empty() {
            true => "Empty",
            false if self.group_epoch > self.assignment_epoch => "Assigning",
            false if self.members.values().all(settled) => "Stable",
            false => "Reconciling",
        }
    }

    pub(super) fn assignor(&self) -> Assignor {
        let mut votes = [0; 2];
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            votes[usize::from(assignor == Assignor::Range)] += 1;
        }
        if votes[1] > votes[0] { Assignor::Range } else { Assignor::Uniform }
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.subscribed.contains(topic))
    }

    /// Whether a member is in that epoch.
    pub(super) fn check_member(&self, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.member_epoch == epoch { Ok(()) } else { Err(ErrorCode::STALE_MEMBER_EPOCH) }
    }

    /// Whether offsets may be committed.
    pub(super) fn may_commit(
        &self,
        member_id: &str,
        epoch: i32,
        transactional: bool,
        version: i16,
    ) -> Result<(), ErrorCode> {
        if epoch < 0 && (self.members.is_empty() || (transactional && member_id.is_empty())) {
            return Ok(());
        }
        if !transactional && version < 9 {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        match self.check_member(member_id, epoch) {
            Err(ErrorCode::STALE_MEMBER_EPOCH) if transactional => {
                Err(ErrorCode::ILLEGAL_GENERATION)
            }
            other => other,
        }
    }

    /// ConsumerGroupHeartbeat of a member that stays or comes.
    pub(super) fn heartbeat(
        &mut self,
        beat: Heartbeat,
        topics: &Topics,
        session_timeout_ms: i64,
        now_ms: i64,
    ) -> Result<Beat, ErrorCode> {
        self.session_timeout_ms = session_timeout_ms;
        let joins = beat.member_epoch == 0;
        if joins {
            self.admit(&beat)?;
        } else {
            self.check_epoch(&beat)?;
        }
        let full = joins || (beat.subscribed.is_some() && beat.owned.is_some());
        let before = self.members.get(&beat.member_id).map(|member| member.assigned.clone());
        let changed = self.update(&beat, now_ms);
        let wanted = self.subscribed_topics(topics);
        if changed || wanted != self.seen {
            self.seen = wanted;
            self.group_epoch += 1;
            self.assign();
        }
        self.reconcile(&beat, now_ms);
        let member = self.members.get(&beat.member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let news = full || before.as_ref() != Some(&member.assigned);
        Ok(Beat {
            member_epoch: member.member_epoch,
            assignment: news.then(|| member.assigned.clone()),
        })
    }

    /// Lets a new member in, or a static one in the place of its former self.
    fn admit(&mut self, beat: &Heartbeat) -> Result<(), ErrorCode> {
        let former = beat.instance_id.as_ref().and_then(|instance_id| {
            let same = |(_, m): &(&String, &Member)| m.instance_id.as_ref() == Some(instance_id);
            self.members.iter().find(same).map(|(id, member)| (id.clone(), member.clone()))
        });
        match former {
            Some((id, _)) if id == beat.member_id => {}
            Some((_, member)) if member.member_epoch != -2 => {
                return Err(ErrorCode::UNRELEASED_INSTANCE_ID);
            }
            Some((id, mut member)) => {
                self.members.remove(&id);
                member.member_epoch = 0;
                self.members.insert(beat.member_id.clone(), member);
            }
            None => {}
        }
        Ok(())
    }

    fn check_epoch(&self, beat: &Heartbeat) -> Result<(), ErrorCode> {
        if let Some(instance_id) = &beat.instance_id {
            let same = |(_, m): &(&String, &Member)| m.instance_id.as_ref() == Some(instance_id);
            match self.members.iter().find(same) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some((id, _)) if *id != beat.member_id => {
                    return Err(ErrorCode::FENCED_INSTANCE_ID);
                }
                Some(_) => {}
            }
        }
        let member = self.members.get(&beat.member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if beat.member_epoch == member.member_epoch {
            return Ok(());
        }
        // The answer that told the new epoch may have been lost.
        let lost = beat.member_epoch == member.previous_epoch
            && beat.owned.as_ref().is_some_and(|owned| owned.is_subset(&member.assigned));
        if lost { Ok(()) } else { Err(ErrorCode::FENCED_MEMBER_EPOCH) }
    }

    /// Takes over what a heartbeat says. Returns whether the group must be assigned anew.
    fn update(&mut self, beat: &Heartbeat, now_ms: i64) -> bool {
        let is_new = !self.members.contains_key(&beat.member_id);
        let member = self.members.entry(beat.member_id.clone()).or_insert_with(|| Member {
            instance_id: beat.instance_id.clone(),
            rack_id: None,
            client_id: beat.client_id.clone(),
            member_epoch: 0,
            previous_epoch: -1,
            subscribed: BTreeSet::new(),
            assignor: None,
            rebalance_timeout_ms: beat.rebalance_timeout_ms,
            session_ends_ms: 0,
            revocation_ends_ms: i64::MAX,
            assigned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            target: BTreeSet::new(),
        });
        member.session_ends_ms = now_ms.saturating_add(self.session_timeout_ms);
        if beat.rebalance_timeout_ms > 0 {
            member.rebalance_timeout_ms = beat.rebalance_timeout_ms;
        }
        if beat.rack_id.is_some() {
            member.rack_id.clone_from(&beat.rack_id);
        }
        let mut changed = is_new;
        if let Some(subscribed) = &beat.subscribed
            && *subscribed != member.subscribed
        {
            member.subscribed = subscribed.clone();
            changed = true;
        }
        if beat.assignor.is_some() && beat.assignor != member.assignor {
            member.assignor = beat.assignor;
            changed = true;
        }
        changed
    }

    fn subscribed_topics(&self, topics: &Topics) -> Topics {
        let named: BTreeSet<&String> =
            self.members.values().flat_map(|member| &member.subscribed).collect();
        let known = |name: &&String| topics.get(*name).map(|topic| ((*name).clone(), *topic));
        named.iter().filter_map(known).collect()
    }

    /// Makes the target of the current group epoch.
    fn assign(&mut self) {
        let assignor = self.assignor();
        let mut targets: BTreeMap<String, BTreeSet<Owned>> =
            self.members.keys().map(|id| (id.clone(), BTreeSet::new())).collect();
        for (name, &(topic_id, partitions)) in &self.seen {
            let subscribers: Vec<&String> = self
                .members
                .iter()
                .filter(|(_, member)| member.subscribed.contains(name))
                .map(|(id, _)| id)
                .collect();
            match assignor {
                Assignor::Range => range(&subscribers, topic_id, partitions, &mut targets),
                Assignor::Uniform => self.uniform(&subscribers, topic_id, partitions, &mut targets),
            }
        }
        for (id, target) in targets {
            if let Some(member) = self.members.get_mut(&id) {
                member.target = target;
            }
        }
        self.assignment_epoch = self.group_epoch;
    }

    /// Deals a topic's partitions so that nobody has two more than another, and who has one keeps
    /// it if that is fair.
    fn uniform(
        &self,
        subscribers: &[&String],
        topic_id: Uuid,
        partitions: i32,
        targets: &mut BTreeMap<String, BTreeSet<Owned>>,
    ) {
        let count = subscribers.len();
        if count == 0 {
            return;
        }
        let total: usize = subscribers.iter().map(|id| targets[*id].len()).sum();
        let fair = (total + partitions as usize).div_ceil(count);
        let mut homeless = Vec::new();
        for partition in 0..partitions {
            let owned = (topic_id, partition);
            let keeper = subscribers.iter().find(|id| {
                let had = self.members.get(**id).is_some_and(|m| m.target.contains(&owned));
                had && targets[**id].len() < fair
            });
            match keeper {
                Some(id) => drop(targets.get_mut(*id).map(|target| target.insert(owned))),
                None => homeless.push(owned),
            }
        }
        for owned in homeless {
            let poorest = subscribers.iter().min_by_key(|id| targets[**id].len());
            if let Some(target) = poorest.and_then(|id| targets.get_mut(*id)) {
                target.insert(owned);
            }
        }
        self.level(subscribers, topic_id, targets);
    }

    /// Takes from the richest for the poorest until they differ by at most one.
    fn level(
        &self,
        subscribers: &[&String],
        topic_id: Uuid,
        targets: &mut BTreeMap<String, BTreeSet<Owned>>,
    ) {
        loop {
            let size = |id: &&&String| targets[**id].len();
            let (Some(richest), Some(poorest)) =
                (subscribers.iter().max_by_key(size), subscribers.iter().min_by_key(size))
            else {
                return;
            };
            if targets[*richest].len() <= targets[*poorest].len() + 1 {
                return;
            }
            let of_topic = |owned: &&Owned| owned.0 == topic_id;
            let Some(moved) = targets[*richest].iter().rev().find(of_topic).copied() else {
                return;
            };
            if let Some(target) = targets.get_mut(*richest) {
                target.remove(&moved);
            }
            if let Some(target) = targets.get_mut(*poorest) {
                target.insert(moved);
            }
        }
    }

    /// Brings one member nearer to its target.
    fn reconcile(&mut self, beat: &Heartbeat, now_ms: i64) {
        let epoch = self.assignment_epoch;
        let taken: BTreeSet<Owned> = self
            .members
            .iter()
            .filter(|(id, _)| **id != beat.member_id)
            .flat_map(|(_, member)| member.assigned.iter().chain(&member.revoking))
            .copied()
            .collect();
        let Some(member) = self.members.get_mut(&beat.member_id) else { return };
        if !member.revoking.is_empty() {
            let given_back =
                beat.owned.as_ref().is_some_and(|owned| owned.is_disjoint(&member.revoking));
            if !given_back {
                return;
            }
            member.revoking.clear();
            member.revocation_ends_ms = i64::MAX;
        }
        let too_much: BTreeSet<Owned> =
            member.assigned.difference(&member.target).copied().collect();
        if !too_much.is_empty() {
            member.assigned.retain(|owned| member.target.contains(owned));
            // A member that joins owns nothing that it could give back.
            if beat.member_epoch != 0 {
                member.revoking = too_much;
                member.revocation_ends_ms =
                    now_ms.saturating_add(member.rebalance_timeout_ms.into());
                return;
            }
        }
        if member.member_epoch != epoch {
            member.previous_epoch = member.member_epoch;
            member.member_epoch = epoch;
        }
        let free = member.target.iter().filter(|owned| !taken.contains(owned)).copied();
        member.assigned.extend(free.collect::<Vec<_>>());
    }

    /// A member goes; a static one may come back (epoch −2).
    pub(super) fn leave(&mut self, beat: &Heartbeat) -> Result<Beat, ErrorCode> {
        let by_instance = beat.instance_id.as_ref().and_then(|instance_id| {
            let same = |(_, m): &(&String, &Member)| m.instance_id.as_ref() == Some(instance_id);
            self.members.iter().find(same).map(|(id, _)| id.clone())
        });
        match (&beat.instance_id, by_instance) {
            (Some(_), None) => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            (Some(_), Some(id)) if id != beat.member_id => {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
            _ => {}
        }
        let member = self.members.get_mut(&beat.member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if beat.member_epoch == -2 {
            member.member_epoch = -2;
            member.revoking.clear();
        } else {
            self.remove(&beat.member_id);
        }
        Ok(Beat { member_epoch: beat.member_epoch, assignment: None })
    }

    fn remove(&mut self, member_id: &str) {
        if self.members.remove(member_id).is_some() {
            self.group_epoch += 1;
            self.assign();
        }
    }

    /// Ends sessions and revocations whose time is up.
    pub(super) fn tick(&mut self, now_ms: i64) {
        let late = |member: &Member| {
            member.session_ends_ms <= now_ms || member.revocation_ends_ms <= now_ms
        };
        let gone = self.members.iter().filter(|(_, member)| late(member));
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove(&id);
        }
    }
}

/// Deals a topic's partitions in runs, as the range assignor does.
fn range(
    subscribers: &[&String],
    topic_id: Uuid,
    partitions: i32,
    targets: &mut BTreeMap<String, BTreeSet<Owned>>,
) {
    let count = subscribers.len() as i32;
    let mut next = 0;
    for (nth, id) in subscribers.iter().enumerate() {
        let share = partitions / count + i32::from((nth as i32) < partitions % count);
        if let Some(target) = targets.get_mut(*id) {
            target.extend((next..next + share).map(|partition| (topic_id, partition)));
        }
        next += share;
    }
}
