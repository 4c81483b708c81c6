//! A group of the classic protocol: members join, one leads, all get their part.
//!
//! The states and their transitions are Kafka's; whoever waits for a join or a sync has a
//! [`Mailbox`] in which the answer is put.
//!
//! Never: looks into what members say to each other, but for the topics they subscribe to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kafka_wire::ErrorCode;
use tokio::sync::Notify;

/// How long a member may take to join that was never heard of after its first request.
const NEW_MEMBER_TIMEOUT_MS: i64 = 300_000;

/// Where the answer to a waiting request is put.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    slot: Arc<Mutex<Option<T>>>,
    pub(super) signal: Arc<Notify>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone(), signal: self.signal.clone() }
    }
}

impl<T> Mailbox<T> {
    pub(super) fn new() -> Self {
        Self { slot: Arc::default(), signal: Arc::default() }
    }

    fn put(self, value: T) {
        *self.slot.lock().expect("nothing panics in here") = Some(value);
        self.signal.notify_one();
    }

    pub(super) fn take(&self) -> Option<T> {
        self.slot.lock().expect("nothing panics in here").take()
    }
}

/// What a join is answered.
#[derive(Debug, Clone)]
pub(super) struct Joined {
    pub(super) error: ErrorCode,
    pub(super) generation_id: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    pub(super) leader: String,
    pub(super) member_id: String,
    pub(super) skip_assignment: bool,
    /// For the leader alone: member id, instance id, metadata.
    pub(super) members: Vec<(String, Option<String>, Bytes)>,
}

impl Joined {
    pub(super) fn refused(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation_id: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

/// What a sync is answered.
#[derive(Debug, Clone)]
pub(super) struct Synced {
    pub(super) error: ErrorCode,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    pub(super) assignment: Bytes,
}

impl Synced {
    pub(super) fn refused(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

/// A request to join.
#[derive(Debug, Clone)]
pub(super) struct Join {
    pub(super) member_id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) protocol_type: String,
    pub(super) protocols: Vec<(String, Bytes)>,
    /// From version 4 on a new member is told its id first (KIP-394).
    pub(super) knows_id_first: bool,
    /// From version 9 on a leader may be told not to assign (KIP-814).
    pub(super) may_skip: bool,
}

/// A request to sync.
#[derive(Debug, Clone)]
pub(super) struct Sync {
    pub(super) member_id: String,
    pub(super) instance_id: Option<String>,
    pub(super) generation_id: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    pub(super) assignments: Vec<(String, Bytes)>,
}

/// An answer now or in the mailbox.
pub(super) enum Reply<T> {
    Now(T),
    Later(Mailbox<T>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
    protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    /// Joined for the first time and not yet part of a generation.
    is_new: bool,
    deadline_ms: i64,
    joining: Option<Mailbox<Joined>>,
    syncing: Option<Mailbox<Synced>>,
    /// In order of joining: the first leads.
    joined_nth: u64,
}

/// For so long a rebalance waits for members where it is hasty (a bug).
const HASTE_MS: i32 = 20;

/// The group.
#[derive(Debug)]
pub(super) struct Classic {
    state: State,
    pub(super) generation_id: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Told their id, not yet joined with it: until when.
    pending: BTreeMap<String, i64>,
    /// When the phase of a rebalance that is under way ends at the latest.
    phase_ends_ms: i64,
    next_nth: u64,
    /// A bug: rebalances do not wait for members.
    pub(super) is_hasty: bool,
}

impl Default for Classic {
    fn default() -> Self {
        Self {
            state: State::Empty,
            generation_id: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            phase_ends_ms: i64::MAX,
            next_nth: 0,
            is_hasty: false,
        }
    }
}

impl Classic {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    /// What a member said under the protocol in force.
    pub(super) fn metadata_of(&self, member: &Member) -> Bytes {
        let chosen = self.protocol_name.as_deref();
        let found = member.protocols.iter().find(|(name, _)| Some(name.as_str()) == chosen);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Whether a member subscribes to the topic, as far as its metadata can be read.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
            && self.members.values().any(|member| {
                subscription(&self.metadata_of(member))
                    .is_none_or(|topics| topics.iter().any(|known| known == topic))
            })
    }

    // Who a request is from.

    fn static_member(&self, instance_id: &str) -> Option<String> {
        let mut members = self.members.iter();
        let same =
            |(_, member): &(&String, &Member)| member.instance_id.as_deref() == Some(instance_id);
        members.find(same).map(|(id, _)| id.clone())
    }

    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            return match self.static_member(instance_id) {
                None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if current != member_id => Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => Ok(()),
            };
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// Whether offsets may be committed; a commit counts as a sign of life.
    pub(super) fn may_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation_id: i32,
        transactional: bool,
        now_ms: i64,
    ) -> Result<(), ErrorCode> {
        if generation_id < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation_id >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation_id != self.generation_id {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
            if !transactional && self.state == State::CompletingRebalance {
                return Err(ErrorCode::REBALANCE_IN_PROGRESS);
            }
            self.alive(member_id, now_ms);
        } else if !transactional && self.state != State::Empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        Ok(())
    }

    fn alive(&mut self, member_id: &str, now_ms: i64) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.deadline_ms = now_ms.saturating_add(member.session_timeout_ms.into());
        }
    }

    // Joining.

    /// JoinGroup; `fresh_id` is used where the member is new.
    pub(super) fn join(&mut self, join: Join, fresh_id: String, now_ms: i64) -> Reply<Joined> {
        if !self.supports(&join) {
            let error = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
            return Reply::Now(Joined::refused(error, &join.member_id));
        }
        if join.member_id.is_empty() {
            return self.join_unknown(join, fresh_id, now_ms);
        }
        if self.pending.contains_key(&join.member_id) && join.instance_id.is_none() {
            return self.add(join.member_id.clone(), join, now_ms);
        }
        if let Err(error) = self.check_member(&join.member_id, join.instance_id.as_deref()) {
            return Reply::Now(Joined::refused(error, &join.member_id));
        }
        self.rejoin(join, now_ms)
    }

    fn supports(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        let has = |member: &Member, name: &String| {
            member.protocols.iter().any(|(known, _)| known == name)
        };
        self.protocol_type.as_deref() == Some(&join.protocol_type)
            && join
                .protocols
                .iter()
                .any(|(name, _)| self.members.values().all(|member| has(member, name)))
    }

    fn join_unknown(&mut self, join: Join, fresh_id: String, now_ms: i64) -> Reply<Joined> {
        if let Some(instance_id) = &join.instance_id {
            return match self.static_member(instance_id) {
                Some(old_id) => self.replace_static(old_id, join, fresh_id, now_ms),
                None => self.add(fresh_id, join, now_ms),
            };
        }
        if join.knows_id_first {
            let until = now_ms.saturating_add(join.session_timeout_ms.into());
            self.pending.insert(fresh_id.clone(), until);
            return Reply::Now(Joined::refused(ErrorCode::MEMBER_ID_REQUIRED, &fresh_id));
        }
        self.add(fresh_id, join, now_ms)
    }

    fn add(&mut self, member_id: String, join: Join, now_ms: i64) -> Reply<Joined> {
        self.pending.remove(&member_id);
        let mailbox = Mailbox::new();
        self.protocol_type = Some(join.protocol_type);
        self.members.insert(
            member_id,
            Member {
                instance_id: join.instance_id,
                client_id: join.client_id,
                session_timeout_ms: join.session_timeout_ms,
                rebalance_timeout_ms: join.rebalance_timeout_ms,
                protocols: join.protocols,
                assignment: Bytes::new(),
                is_new: true,
                deadline_ms: now_ms.saturating_add(NEW_MEMBER_TIMEOUT_MS),
                joining: Some(mailbox.clone()),
                syncing: None,
                joined_nth: self.next_nth,
            },
        );
        self.next_nth += 1;
        self.rebalance(now_ms);
        Reply::Later(mailbox)
    }

    /// A static member that comes back under a new member id; the old one is fenced (KIP-345).
    fn replace_static(
        &mut self,
        old_id: String,
        join: Join,
        fresh_id: String,
        now_ms: i64,
    ) -> Reply<Joined> {
        let mut member = self.members.remove(&old_id).expect("it was just looked up");
        if let Some(joining) = member.joining.take() {
            joining.put(Joined::refused(ErrorCode::FENCED_INSTANCE_ID, &old_id));
        }
        if let Some(syncing) = member.syncing.take() {
            syncing.put(Synced::refused(ErrorCode::FENCED_INSTANCE_ID));
        }
        if self.leader.as_ref() == Some(&old_id) {
            self.leader = Some(fresh_id.clone());
        }
        let same = member.protocols == join.protocols;
        let may_skip = join.may_skip;
        self.members.insert(fresh_id.clone(), member);
        self.update(&fresh_id, &join, now_ms);
        if self.state == State::Stable && same {
            let mut joined = self.joined(&fresh_id);
            let leads = self.leader.as_ref() == Some(&fresh_id);
            if leads && may_skip {
                joined.skip_assignment = true;
            } else if leads {
                // An older leader would assign anew: it is told the old leader leads.
                joined.leader = old_id;
                joined.members.clear();
            }
            return Reply::Now(joined);
        }
        self.join_again(&fresh_id, now_ms)
    }

    fn rejoin(&mut self, join: Join, now_ms: i64) -> Reply<Joined> {
        let member_id = join.member_id.clone();
        let same = self.members.get(&member_id).is_some_and(|m| m.protocols == join.protocols);
        let leads = self.leader.as_ref() == Some(&member_id);
        match self.state {
            State::Empty => Reply::Now(Joined::refused(ErrorCode::UNKNOWN_MEMBER_ID, &member_id)),
            State::CompletingRebalance if same => {
                self.alive(&member_id, now_ms);
                Reply::Now(self.joined(&member_id))
            }
            State::Stable if same && !leads => {
                self.alive(&member_id, now_ms);
                Reply::Now(self.joined(&member_id))
            }
            _ => {
                self.update(&member_id, &join, now_ms);
                self.join_again(&member_id, now_ms)
            }
        }
    }

    fn update(&mut self, member_id: &str, join: &Join, now_ms: i64) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.protocols = join.protocols.clone();
            member.client_id = join.client_id.clone();
            member.session_timeout_ms = join.session_timeout_ms;
            member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        }
        self.alive(member_id, now_ms);
    }

    fn join_again(&mut self, member_id: &str, now_ms: i64) -> Reply<Joined> {
        let mailbox = Mailbox::new();
        if let Some(member) = self.members.get_mut(member_id) {
            member.joining = Some(mailbox.clone());
        }
        self.rebalance(now_ms);
        Reply::Later(mailbox)
    }

    /// Begins a rebalance, or goes on with the one under way.
    fn rebalance(&mut self, now_ms: i64) {
        if self.state == State::CompletingRebalance {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
                if let Some(syncing) = member.syncing.take() {
                    syncing.put(Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS));
                }
            }
        }
        if self.state != State::PreparingRebalance {
            self.state = State::PreparingRebalance;
            let longest = self.members.values().map(|m| m.rebalance_timeout_ms).max();
            let wait_ms = longest.unwrap_or(0).min(if self.is_hasty { HASTE_MS } else { i32::MAX });
            self.phase_ends_ms = now_ms.saturating_add(wait_ms.into());
        }
        self.complete_join_if_all(now_ms);
    }

    fn complete_join_if_all(&mut self, now_ms: i64) {
        let all = self.members.values().all(|member| member.joining.is_some());
        if self.state == State::PreparingRebalance && all && self.pending.is_empty() {
            self.complete_join(now_ms);
        }
    }

    /// Ends the joining phase: who did not join is out, but for static members.
    fn complete_join(&mut self, now_ms: i64) {
        self.members.retain(|_, member| member.joining.is_some() || member.instance_id.is_some());
        self.generation_id += 1;
        if self.members.is_empty() {
            (self.state, self.protocol_name, self.leader) = (State::Empty, None, None);
            self.phase_ends_ms = i64::MAX;
            return;
        }
        self.protocol_name = Some(self.vote());
        let leads = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leads.is_none_or(|leader| leader.joining.is_none()) {
            let joining = self.members.iter().filter(|(_, member)| member.joining.is_some());
            let first = joining.min_by_key(|(_, member)| member.joined_nth);
            self.leader = first.map(|(id, _)| id.clone());
        }
        self.state = State::CompletingRebalance;
        let longest = self.members.values().map(|m| m.rebalance_timeout_ms).max();
        self.phase_ends_ms = now_ms.saturating_add(longest.unwrap_or(0).into());
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            self.alive(&id, now_ms);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                member.assignment = Bytes::new();
                if let Some(joining) = member.joining.take() {
                    joining.put(joined);
                }
            }
        }
    }

    /// The protocol all support that most prefer.
    fn vote(&self) -> String {
        let supported = |name: &str| {
            self.members.values().all(|m| m.protocols.iter().any(|(known, _)| known == name))
        };
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().find(|(name, _)| supported(name));
            if let Some((name, _)) = choice {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.iter().max_by_key(|(_, votes)| **votes);
        most.map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    }

    fn joined(&self, member_id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let members = if leader == member_id {
            let all = self.members.iter();
            all.map(|(id, m)| (id.clone(), m.instance_id.clone(), self.metadata_of(m))).collect()
        } else {
            Vec::new()
        };
        Joined {
            error: ErrorCode::NONE,
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader,
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members,
        }
    }

    // Syncing, living, leaving.

    /// SyncGroup.
    pub(super) fn sync(&mut self, sync: Sync, now_ms: i64) -> Reply<Synced> {
        if let Err(error) = self.check_sync(&sync) {
            return Reply::Now(Synced::refused(error));
        }
        match self.state {
            State::Empty => Reply::Now(Synced::refused(ErrorCode::UNKNOWN_MEMBER_ID)),
            State::PreparingRebalance => {
                Reply::Now(Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS))
            }
            State::Stable => {
                self.alive(&sync.member_id, now_ms);
                Reply::Now(self.synced(&sync.member_id))
            }
            State::CompletingRebalance => {
                let mailbox = Mailbox::new();
                if let Some(member) = self.members.get_mut(&sync.member_id) {
                    member.syncing = Some(mailbox.clone());
                }
                if self.leader.as_ref() == Some(&sync.member_id) {
                    self.assign(sync.assignments, now_ms);
                }
                Reply::Later(mailbox)
            }
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        self.check_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation_id != self.generation_id {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let agrees = |said: &Option<String>, known: &Option<String>| {
            said.is_none() || known.is_none() || said == known
        };
        if !agrees(&sync.protocol_type, &self.protocol_type)
            || !agrees(&sync.protocol_name, &self.protocol_name)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        Ok(())
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now_ms: i64) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        self.state = State::Stable;
        self.phase_ends_ms = i64::MAX;
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            self.alive(&id, now_ms);
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignments.remove(&id).unwrap_or_default();
            }
            let synced = self.synced(&id);
            if let Some(syncing) = self.members.get_mut(&id).and_then(|m| m.syncing.take()) {
                syncing.put(synced);
            }
        }
    }

    fn synced(&self, member_id: &str) -> Synced {
        Synced {
            error: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// Heartbeat.
    pub(super) fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation_id: i32,
        now_ms: i64,
    ) -> Result<(), ErrorCode> {
        self.check_member(member_id, instance_id)?;
        if generation_id != self.generation_id {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        self.alive(member_id, now_ms);
        match self.state {
            State::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// LeaveGroup of one member. A static one may leave by its instance id alone.
    pub(super) fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now_ms: i64,
    ) -> Result<(), ErrorCode> {
        let by_instance = instance_id.and_then(|instance_id| self.static_member(instance_id));
        let leaving = match (instance_id, by_instance) {
            (Some(_), None) => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            (Some(_), Some(current)) if member_id.is_empty() || current == member_id => current,
            (Some(_), Some(_)) => return Err(ErrorCode::FENCED_INSTANCE_ID),
            (None, _) => member_id.to_owned(),
        };
        if self.pending.remove(&leaving).is_some() {
            self.complete_join_if_all(now_ms);
            return Ok(());
        }
        if !self.members.contains_key(&leaving) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.remove(&leaving, now_ms);
        Ok(())
    }

    fn remove(&mut self, member_id: &str, now_ms: i64) {
        let Some(mut member) = self.members.remove(member_id) else { return };
        if let Some(joining) = member.joining.take() {
            joining.put(Joined::refused(ErrorCode::UNKNOWN_MEMBER_ID, member_id));
        }
        if let Some(syncing) = member.syncing.take() {
            syncing.put(Synced::refused(ErrorCode::UNKNOWN_MEMBER_ID));
        }
        if self.leader.as_deref() == Some(member_id) {
            self.leader = None;
        }
        match self.state {
            State::Empty => {}
            State::Stable | State::CompletingRebalance => self.rebalance(now_ms),
            State::PreparingRebalance => self.complete_join_if_all(now_ms),
        }
    }

    /// Ends sessions and phases whose time is up.
    pub(super) fn tick(&mut self, now_ms: i64) {
        let before = self.pending.len();
        self.pending.retain(|_, until| *until > now_ms);
        if self.pending.len() < before {
            self.complete_join_if_all(now_ms);
        }
        // Who waits for an answer lives; a new member has its own, longer time.
        let is_gone = |member: &Member| {
            let waits = member.joining.is_some() || member.syncing.is_some();
            member.deadline_ms <= now_ms && (member.is_new || !waits)
        };
        let gone = self.members.iter().filter(|(_, member)| is_gone(member));
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove(&id, now_ms);
        }
        if now_ms < self.phase_ends_ms {
            return;
        }
        match self.state {
            State::PreparingRebalance => {
                self.pending.clear();
                self.complete_join(now_ms);
            }
            State::CompletingRebalance => {
                let late = self.members.iter().filter(|(_, m)| m.syncing.is_none());
                let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
                self.phase_ends_ms = i64::MAX;
                for id in late {
                    self.remove(&id, now_ms);
                }
            }
            State::Empty | State::Stable => self.phase_ends_ms = i64::MAX,
        }
    }
}

/// The topics of a consumer's subscription, its first field in every version; absent where the
/// metadata cannot be read.
fn subscription(metadata: &[u8]) -> Option<Vec<String>> {
    let (count, mut rest) = metadata.get(2..)?.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        topics.push(String::from_utf8_lossy(after.get(..length)?).into_owned());
        rest = &after[length..];
    }
    Some(topics)
}
