//! Which log a message means: one topic created twice is two logs.
//!
//! Messages name topics by name or by id; Metadata says which id a name has. A name is taken for
//! the id it had last. Where a name had several ids, or the topic was seen to go, what was said by
//! name alone may mean either log and proves nothing.
//!
//! Clusters are told apart by the cluster id that Metadata gives for a broker's address.

use std::net::SocketAddr;
use std::sync::Arc;

use kafka_wire::ErrorCode;
use rustc_hash::FxHashMap;

use super::fact::{Deed, Fact, Topic};

/// Logs that are kept apart.
const LOGS_MAX: usize = 400_000;

/// A partition of one incarnation of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub(crate) u32);

/// A cluster, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cluster(u32);

#[derive(Debug)]
struct Incarnation {
    cluster: Cluster,
    name: Option<(Cluster, Arc<str>)>,
    id: Option<[u8; 16]>,
    used: bool,
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
    by_name: FxHashMap<(Cluster, Arc<str>), Named>,
    by_id: FxHashMap<[u8; 16], u32>,
    logs: FxHashMap<(u32, i32), LogId>,
    log_names: Vec<(u32, i32)>,
    clusters: FxHashMap<Arc<str>, Cluster>,
    brokers: FxHashMap<SocketAddr, Cluster>,
}

impl Topics {
    /// What an exchange with a broker says of topics and clusters.
    pub fn learn(&mut self, fact: &Fact, broker: Option<SocketAddr>) {
        match &fact.deed {
            Deed::Metadata { cluster_id, topics } => {
                if let (Some(id), Some(broker)) = (cluster_id, broker) {
                    self.learn_cluster(broker, id);
                }
                let cluster = self.cluster(broker);
                for (error, name, id) in topics {
                    let Some(name) = name else { continue };
                    match id {
                        _ if is_unknown(*error) => self.forget(cluster, &Topic::Name(name.clone())),
                        Some(id) => self.learn_id(cluster, name, *id),
                        None => {}
                    }
                }
            }
            Deed::TopicsChanged(topics) => {
                let cluster = self.cluster(broker);
                for topic in topics {
                    self.forget(cluster, topic);
                }
            }
            Deed::Produce { partitions, .. } => {
                let cluster = self.cluster(broker);
                for of in partitions.iter().filter(|of| of.answer.is_some_and(|a| is_unknown(a.0)))
                {
                    self.forget(cluster, &of.topic);
                }
            }
            Deed::Fetch { partitions, .. } => {
                let cluster = self.cluster(broker);
                for of in partitions.iter().filter(|of| is_unknown(of.error)) {
                    self.forget(cluster, &of.topic);
                }
            }
            _ => {}
        }
    }

    /// The cluster of a broker. An address of which nothing is known is of the first.
    #[must_use]
    pub fn cluster(&self, broker: Option<SocketAddr>) -> Cluster {
        broker.and_then(|broker| self.brokers.get(&broker)).copied().unwrap_or_default()
    }

    /// Metadata names the cluster of a broker.
    fn learn_cluster(&mut self, broker: SocketAddr, id: &Arc<str>) {
        let next = Cluster(self.clusters.len() as u32);
        let cluster = *self.clusters.entry(Arc::clone(id)).or_insert(next);
        self.brokers.insert(broker, cluster);
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
        Some(log)
    }

    fn incarnation(&mut self, cluster: Cluster, topic: &Topic) -> u32 {
        let known = match topic {
            Topic::Id(id) => self.by_id.get(id).copied(),
            Topic::Name(name) => {
                self.by_name.get(&(cluster, Arc::clone(name))).map(|named| named.incarnation)
            }
        };
        if let Some(known) = known {
            return known;
        }
        let new = self.incarnations.len() as u32;
        let (name, id) = match topic {
            Topic::Id(id) => {
                self.by_id.insert(*id, new);
                (None, Some(*id))
            }
            Topic::Name(name) => {
                let named = Named { incarnation: new, changed: false };
                self.by_name.insert((cluster, Arc::clone(name)), named);
                (Some((cluster, Arc::clone(name))), None)
            }
        };
        self.incarnations.push(Incarnation { cluster, name, id, used: false });
        new
    }

    /// Metadata says that a name has an id.
    fn learn_id(&mut self, cluster: Cluster, name: &Arc<str>, id: [u8; 16]) {
        let key = (cluster, Arc::clone(name));
        let known = self.by_name.get(&key).map(|named| named.incarnation);
        let known_id = known.and_then(|known| self.incarnations[known as usize].id);
        if known_id == Some(id) {
            return;
        }
        let by_id = self.by_id.get(&id).copied();
        let target = match (known, known_id, by_id) {
            // The first id of a name that was used before it was known.
            (Some(known), None, None) => {
                self.incarnations[known as usize].id = Some(id);
                self.by_id.insert(id, known);
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
        self.incarnations.push(Incarnation { cluster, name, id: None, used: false });
        self.by_name.insert(key, Named { incarnation: new, changed: true });
    }

    /// Whether what was said of a log by name certainly means that log.
    #[must_use]
    pub fn is_certain_by_name(&self, log: LogId) -> bool {
        let (incarnation, _) = self.log_names[log.0 as usize];
        let name = self.incarnations[incarnation as usize].name.as_ref();
        !name.and_then(|name| self.by_name.get(name)).is_some_and(|named| named.changed)
    }

    /// The cluster a log is in.
    #[must_use]
    pub fn cluster_of(&self, log: LogId) -> Cluster {
        let (incarnation, _) = self.log_names[log.0 as usize];
        self.incarnations[incarnation as usize].cluster
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
        !self.by_name.get(&(cluster, Arc::clone(name))).is_some_and(|named| named.changed)
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
    fn creating_a_topic_nobody_used_changes_nothing() {
        let mut topics = Topics::default();
        topics.forget(C, &Topic::named("t"));
        topics.learn_id(C, &"t".into(), [1; 16]);
        topics.forget(C, &Topic::named("t"));
        let log = topics.log(C, &Topic::named("t"), 0).unwrap();
        assert!(topics.is_certain_by_name(log));
    }
}
