//! Which log a message means: one topic created twice is two logs.
//!
//! Messages name topics by name or by id; Metadata says which id a name has. A name is taken for
//! the id it had last. Where a name had several ids, or the topic was seen to go, what was said by
//! name alone may mean either log and proves nothing.
//!
//! A topic is of a cluster; where two clusters turn out to be one (`clusters`), so do their topics.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use kafka_wire::ErrorCode;
use rustc_hash::FxHashMap;

pub use super::clusters::Cluster;
use super::clusters::{Clusters, Joined, Node};
use super::fact::{Deed, Fact, Topic};

/// Logs that are kept apart.
const LOGS_MAX: usize = 400_000;

/// A partition of one incarnation of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub(crate) u32);

#[derive(Debug)]
struct Incarnation {
    cluster: Cluster,
    name: Option<(Cluster, Arc<str>)>,
    id: Option<[u8; 16]>,
    used: bool,
    /// When somebody first and last asked what the topic's name means, and it was this topic.
    confirmed_ns: Option<(u64, u64)>,
    /// When it was first written to or read.
    first_used_ns: u64,
    /// The partitions that have a log.
    logs: Vec<i32>,
}

#[derive(Debug, Default)]
struct Named {
    incarnation: u32,
    /// Whether the name means another topic than it once did.
    changed: bool,
}

/// All topics and logs.
#[derive(Debug, Default)]
pub struct Topics {
    incarnations: Vec<Incarnation>,
    of_cluster: FxHashMap<Cluster, Vec<u32>>,
    by_name: FxHashMap<(Cluster, Arc<str>), Named>,
    by_id: FxHashMap<(Cluster, [u8; 16]), u32>,
    /// The cluster in which an id was seen first.
    homes: FxHashMap<[u8; 16], Cluster>,
    logs: FxHashMap<(u32, i32), LogId>,
    log_names: Vec<(u32, i32)>,
    clusters: Clusters,
    doubtful: BTreeSet<Arc<str>>,
}

impl Topics {
    /// What an exchange with a broker says of topics and clusters.
    pub fn learn(&mut self, fact: &Fact, broker: Option<SocketAddr>) {
        let cluster = self.clusters.meet(broker);
        match &fact.deed {
            Deed::Nodes { cluster_id, nodes } => {
                self.learn_nodes(broker, cluster_id.as_ref(), nodes);
            }
            Deed::Metadata { cluster_id, nodes, topics } => {
                self.learn_nodes(broker, cluster_id.as_ref(), nodes);
                for (error, name, id) in topics {
                    if let Some(id) = id {
                        self.meet_topic(self.cluster(broker), *id);
                    }
                    let cluster = self.cluster(broker);
                    let Some(name) = name else { continue };
                    match id {
                        _ if is_unknown(*error) => self.forget(cluster, &Topic::Name(name.clone())),
                        Some(id) => {
                            self.learn_id(cluster, name, *id);
                            self.confirm((cluster, *id), fact.seen.request.time_ns);
                        }
                        None => {}
                    }
                }
            }
            Deed::TopicsChanged(topics) => {
                // A connection that began before the capture is understood late: what it says may be
                // of a time before the topic was used.
                let answered = fact.seen.response.map_or(u64::MAX, |at| at.time_ns);
                for topic in topics {
                    let known = self.known(cluster, topic);
                    let used = known.map(|known| self.incarnations[known as usize].first_used_ns);
                    if used.is_none_or(|used| used == u64::MAX || used <= answered) {
                        self.forget(cluster, topic);
                    }
                }
            }
            Deed::Produce { partitions, .. } => {
                let told = || partitions.iter().filter_map(|of| Some((&of.topic, of.answer?.0)));
                self.named(broker, told, fact.seen.request.time_ns);
            }
            Deed::Fetch { partitions, .. } => {
                let told = || partitions.iter().map(|of| (&of.topic, of.error));
                self.named(broker, told, fact.seen.request.time_ns);
            }
            _ => {}
        }
    }

    fn learn_nodes(&mut self, broker: Option<SocketAddr>, id: Option<&Arc<str>>, nodes: &[Node]) {
        let Some(broker) = broker else { return };
        for joined in self.clusters.learn(broker, id, nodes) {
            self.merge(joined);
        }
    }

    /// A broker is asked about topics, and answers with those errors.
    fn named<'f, I: Iterator<Item = (&'f Topic, i16)>>(
        &mut self,
        broker: Option<SocketAddr>,
        told: impl Fn() -> I,
        asked_ns: u64,
    ) {
        for (topic, _) in told() {
            let incarnation = self.incarnation(self.cluster(broker), topic);
            let first_used_ns = &mut self.incarnations[incarnation as usize].first_used_ns;
            *first_used_ns = asked_ns.min(*first_used_ns);
        }
        for (topic, _) in told().filter(|(_, error)| *error == 0) {
            // Whoever knows the id of a topic is of its cluster.
            if let Topic::Id(id) = topic {
                let cluster = self.cluster(broker);
                self.meet_topic(cluster, *id);
                self.confirm_last((cluster, *id), asked_ns);
            }
        }
        gone(told).for_each(|topic| self.forget(self.cluster(broker), topic));
    }

    /// A topic's id is known in a cluster: another that knows it is the same cluster.
    fn meet_topic(&mut self, cluster: Cluster, id: [u8; 16]) {
        // The first hundred ids are the same in every cluster: those of its own metadata.
        if id[..15] == [0; 15] {
            return;
        }
        let home = *self.homes.entry(id).or_insert(cluster);
        if home != cluster
            && let Some(joined) = self.clusters.join(home, cluster)
        {
            self.merge(joined);
        }
    }

    /// The cluster of a broker.
    #[must_use]
    pub fn cluster(&self, broker: Option<SocketAddr>) -> Cluster {
        self.clusters.of(broker)
    }

    /// What a cluster is known as by now: it may have turned out to be one with another.
    #[must_use]
    pub fn cluster_now(&self, cluster: Cluster) -> Cluster {
        self.clusters.root(cluster)
    }

    /// Two clusters are one: so are their topics of one name, and the partitions of these.
    fn merge(&mut self, Joined { kept, gone }: Joined) {
        let of_gone = self.of_cluster.remove(&gone).unwrap_or_default();
        for &moved in &of_gone {
            let Incarnation { id, name, .. } = &mut self.incarnations[moved as usize];
            if let Some(id) = *id
                && let Some(by_id) = self.by_id.remove(&(gone, id))
            {
                self.by_id.entry((kept, id)).or_insert(by_id);
            }
            let Some((cluster, text)) = name else { continue };
            *cluster = kept;
            let key = (kept, Arc::clone(text));
            let Some(was) = self.by_name.remove(&(gone, Arc::clone(text))) else { continue };
            match self.by_name.get_mut(&key) {
                None => {
                    self.by_name.insert(key, was);
                }
                Some(known) => {
                    known.changed |= was.changed;
                    let known = known.incarnation;
                    self.unite(known, was.incarnation, &key);
                }
            }
        }
        self.of_cluster.entry(kept).or_default().extend(of_gone);
    }

    /// One name had two incarnations in what turned out to be one cluster.
    fn unite(&mut self, known: u32, other: u32, key: &(Cluster, Arc<str>)) {
        let [id, other_id] = [known, other].map(|of| self.incarnations[of as usize].id);
        if id.is_some() && other_id.is_some() {
            if id != other_id
                && let Some(named) = self.by_name.get_mut(key)
            {
                named.changed = true;
            }
            return;
        }
        if let Some(other_id) = other_id {
            self.incarnations[known as usize].id = Some(other_id);
            self.by_id.insert((key.0, other_id), known);
        }
        self.incarnations[known as usize].used |= self.incarnations[other as usize].used;
        let logs = std::mem::take(&mut self.incarnations[other as usize].logs);
        for partition in logs {
            // Where both were used, two stretches of time stay two logs.
            let is_free = !self.logs.contains_key(&(known, partition));
            if let (true, Some(log)) = (is_free, self.logs.remove(&(other, partition))) {
                self.log_names[log.0 as usize] = (known, partition);
                self.logs.insert((known, partition), log);
                self.incarnations[known as usize].logs.push(partition);
            }
        }
    }

    /// The log of a partition; absent where there are too many to keep apart.
    pub fn log(&mut self, cluster: Cluster, topic: &Topic, partition: i32) -> Option<LogId> {
        let incarnation = self.incarnation(cluster, topic);
        self.incarnations[incarnation as usize].used = true;
        if let Some(&log) = self.logs.get(&(incarnation, partition)) {
            return Some(log);
        }
        if self.log_names.len() >= LOGS_MAX {
            return None;
        }
        let log = LogId(self.log_names.len() as u32);
        self.log_names.push((incarnation, partition));
        self.logs.insert((incarnation, partition), log);
        self.incarnations[incarnation as usize].logs.push(partition);
        Some(log)
    }

    fn known(&self, cluster: Cluster, topic: &Topic) -> Option<u32> {
        match topic {
            Topic::Id(id) => self.by_id.get(&(cluster, *id)).copied(),
            Topic::Name(name) => {
                self.by_name.get(&(cluster, Arc::clone(name))).map(|named| named.incarnation)
            }
        }
    }

    fn incarnation(&mut self, cluster: Cluster, topic: &Topic) -> u32 {
        if let Some(known) = self.known(cluster, topic) {
            return known;
        }
        let new = self.incarnations.len() as u32;
        let (name, id) = match topic {
            Topic::Id(id) => {
                self.by_id.insert((cluster, *id), new);
                (None, Some(*id))
            }
            Topic::Name(name) => {
                let named = Named { incarnation: new, changed: false };
                self.by_name.insert((cluster, Arc::clone(name)), named);
                (Some((cluster, Arc::clone(name))), None)
            }
        };
        self.push(cluster, name, id);
        new
    }

    fn push(&mut self, cluster: Cluster, name: Option<(Cluster, Arc<str>)>, id: Option<[u8; 16]>) {
        let new = self.incarnations.len() as u32;
        self.of_cluster.entry(cluster).or_default().push(new);
        let logs = Vec::new();
        self.incarnations.push(Incarnation {
            cluster,
            name,
            id,
            used: false,
            confirmed_ns: None,
            first_used_ns: u64::MAX,
            logs,
        });
    }

    /// Metadata says that a name has an id.
    fn learn_id(&mut self, cluster: Cluster, name: &Arc<str>, id: [u8; 16]) {
        let key = (cluster, Arc::clone(name));
        let known = self.by_name.get(&key).map(|named| named.incarnation);
        let known_id = known.and_then(|known| self.incarnations[known as usize].id);
        if known_id == Some(id) {
            return;
        }
        let by_id = self.by_id.get(&(cluster, id)).copied();
        let target = match (known, known_id, by_id) {
            // The first id of a name that was used before it was known.
            (Some(known), None, None) => {
                self.incarnations[known as usize].id = Some(id);
                self.by_id.insert((cluster, id), known);
                known
            }
            (_, _, Some(by_id)) => by_id,
            _ => self.incarnation(cluster, &Topic::Id(id)),
        };
        self.incarnations[target as usize].name.get_or_insert_with(|| key.clone());
        let named = self.by_name.entry(key).or_default();
        named.changed |= known.is_some_and(|known| known != target);
        named.incarnation = target;
    }

    /// Who speaks of a topic by its id says that it is there, not what its name means.
    fn confirm_last(&mut self, topic: (Cluster, [u8; 16]), asked_ns: u64) {
        if let Some(&incarnation) = self.by_id.get(&topic)
            && let Some((_, last)) = &mut self.incarnations[incarnation as usize].confirmed_ns
        {
            *last = asked_ns.max(*last);
        }
    }

    fn confirm(&mut self, topic: (Cluster, [u8; 16]), asked_ns: u64) {
        if let Some(&incarnation) = self.by_id.get(&topic) {
            let confirmed_ns = &mut self.incarnations[incarnation as usize].confirmed_ns;
            let (first, last) = confirmed_ns.unwrap_or((asked_ns, asked_ns));
            *confirmed_ns = Some((first.min(asked_ns), last.max(asked_ns)));
        }
    }

    /// A topic was created or deleted, or a broker does not know it: what is said of it by name
    /// from here on may mean another log.
    fn forget(&mut self, cluster: Cluster, topic: &Topic) {
        let Topic::Name(name) = topic else { return };
        let key = (cluster, Arc::clone(name));
        let Some(named) = self.by_name.get(&key) else { return };
        if !self.incarnations[named.incarnation as usize].used {
            return;
        }
        let new = self.incarnations.len() as u32;
        let name = Some(key.clone());
        self.push(cluster, name, None);
        self.by_name.insert(key, Named { incarnation: new, changed: true });
    }

    /// What was said of a log by name contradicts itself: it may have been said of two.
    pub fn doubt(&mut self, log: LogId) {
        let (incarnation, _) = self.log_names[log.0 as usize];
        if let Some(name) = &self.incarnations[incarnation as usize].name
            && let Some(named) = self.by_name.get_mut(name)
        {
            named.changed = true;
            self.doubtful.insert(Arc::clone(&name.1));
        }
    }

    /// The names that were doubted, of any cluster.
    #[must_use]
    pub fn doubtful(&self) -> &BTreeSet<Arc<str>> {
        &self.doubtful
    }

    /// Whether what was said of a log by name certainly means that log.
    #[must_use]
    pub fn is_certain_by_name(&self, log: LogId) -> bool {
        let (incarnation, _) = self.log_names[log.0 as usize];
        let name = self.incarnations[incarnation as usize].name.as_ref();
        !name.and_then(|name| self.by_name.get(name)).is_some_and(|named| named.changed)
    }

    /// Whether the topic's name meant this one before the one moment and after the other.
    #[must_use]
    pub fn is_confirmed(&self, log: LogId, from_ns: u64, to_ns: u64) -> bool {
        let (incarnation, _) = self.log_names[log.0 as usize];
        let confirmed = self.incarnations[incarnation as usize].confirmed_ns;
        confirmed.is_some_and(|(first, last)| first < from_ns && to_ns < last)
    }

    /// The cluster a log is in.
    #[must_use]
    pub fn cluster_of(&self, log: LogId) -> Cluster {
        let (incarnation, _) = self.log_names[log.0 as usize];
        self.cluster_now(self.incarnations[incarnation as usize].cluster)
    }

    /// How many logs there are.
    #[must_use]
    pub fn log_count(&self) -> u32 {
        self.log_names.len() as u32
    }

    /// Whether a topic's name ever meant two topics.
    #[must_use]
    pub fn is_certain_name(&self, cluster: Cluster, topic: &Topic) -> bool {
        let Topic::Name(name) = topic else { return true };
        let key = (self.cluster_now(cluster), Arc::clone(name));
        !self.by_name.get(&key).is_some_and(|named| named.changed)
    }

    /// The topic of a log as people know it, and the partition.
    #[must_use]
    pub fn names(&self, log: LogId) -> (String, i32) {
        let (incarnation, partition) = self.log_names[log.0 as usize];
        let Incarnation { name, id, .. } = &self.incarnations[incarnation as usize];
        let topic = match (name, id) {
            (Some((_, name)), _) => name.to_string(),
            (None, Some(id)) => Topic::Id(*id).to_string(),
            (None, None) => String::new(),
        };
        (topic, partition)
    }
}

/// Topics that an answer does not know. Where it knows another partition of the topic, the topic is
/// there, and has fewer partitions than somebody thought.
fn gone<'f, I: Iterator<Item = (&'f Topic, i16)>>(
    told: impl Fn() -> I,
) -> impl Iterator<Item = &'f Topic> {
    let unknown = told().filter(|(_, error)| is_unknown(*error));
    unknown
        .map(|(topic, _)| topic)
        .filter(move |topic| told().all(|(other, error)| other != *topic || is_unknown(error)))
}

fn is_unknown(error: i16) -> bool {
    error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: Cluster = Cluster(0);

    #[test]
    fn a_name_and_its_id_are_one_log() {
        let mut topics = Topics::default();
        let name = Topic::named("t");
        let by_name = topics.log(C, &name, 0).unwrap();
        topics.learn_id(C, &"t".into(), [1; 16]);
        assert_eq!(topics.log(C, &Topic::Id([1; 16]), 0), Some(by_name));
        assert_eq!(topics.log(C, &name, 0), Some(by_name));
        assert!(topics.is_certain_by_name(by_name));
    }

    #[test]
    fn a_topic_created_anew_is_another_log_and_makes_its_name_uncertain() {
        let mut topics = Topics::default();
        topics.learn_id(C, &"t".into(), [1; 16]);
        let old = topics.log(C, &Topic::named("t"), 0).unwrap();
        topics.learn_id(C, &"t".into(), [2; 16]);
        let new = topics.log(C, &Topic::named("t"), 0).unwrap();
        assert_ne!(old, new);
        assert!(!topics.is_certain_by_name(old) && !topics.is_certain_by_name(new));
    }

    #[test]
    fn a_partition_too_many_is_no_topic_that_is_gone() {
        let (t, u) = (Topic::named("t"), Topic::named("u"));
        let told = [(&t, 0), (&t, 3), (&u, 3)];
        assert_eq!(gone(|| told.into_iter()).collect::<Vec<_>>(), [&u]);
    }

    #[test]
    fn creating_a_topic_nobody_used_changes_nothing() {
        let mut topics = Topics::default();
        topics.forget(C, &Topic::named("t"));
        topics.learn_id(C, &"t".into(), [1; 16]);
        topics.forget(C, &Topic::named("t"));
        let log = topics.log(C, &Topic::named("t"), 0).unwrap();
        assert!(topics.is_certain_by_name(log));
    }
}
