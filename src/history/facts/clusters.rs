//! Which brokers are of one cluster.
//!
//! A broker is an address, and each begins as a cluster of its own: two clusters in one capture
//! have topics of the same names, producer ids and groups that have nothing to do with each other.
//! Clusters become one where something says so that cannot be true of two:
//!
//! * a broker names the address of another, in Metadata, DescribeCluster or FindCoordinator;
//! * two brokers give one cluster id and one node of the same id, host and port. The cluster id
//!   alone says nothing: images of containers are used with the one they bring;
//! * both know one topic id (KIP-516).
//!
//! Where two cluster ids contradict, nothing joins. Taking one cluster for two loses findings, as
//! a capture of one broker's port alone would; taking two for one would invent them.
//!
//! Not checked: what a host name resolves to; a broker that is another from one packet to the next
//! at the same address, until it says its cluster id.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Addresses and nodes that are remembered; of more, each is of no cluster that is known.
const BROKERS_MAX: usize = 200_000;

/// A cluster, by number. The first is that of brokers of which nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cluster(pub(super) u32);

/// A broker as another names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its id.
    pub id: i32,
    /// Where it is to be reached: a name or an address.
    pub host: Arc<str>,
    /// And its port.
    pub port: u16,
}

impl Node {
    /// Its address, where its host is one.
    fn address(&self) -> Option<SocketAddr> {
        Some((self.host.parse::<IpAddr>().ok()?, self.port).into())
    }

    /// Whether it means whoever reads it, not one machine.
    fn is_local(&self) -> bool {
        let address = self.address().map(|address| address.ip());
        &*self.host == "localhost"
            || address.is_some_and(|ip| ip.is_loopback() || ip.is_unspecified())
    }
}

/// Two clusters that turned out to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) kept: Cluster,
    pub(super) gone: Cluster,
}

#[derive(Debug)]
struct World {
    /// What it was joined to; itself where nothing was.
    parent: Cluster,
    id: Option<Arc<str>>,
    brokers: u32,
}

/// The clusters of all brokers.
#[derive(Debug)]
pub(super) struct Clusters {
    worlds: Vec<World>,
    brokers: FxHashMap<SocketAddr, Cluster>,
    /// By cluster id.
    nodes: FxHashMap<(Arc<str>, Node), Cluster>,
}

impl Default for Clusters {
    fn default() -> Self {
        let nobody = World { parent: Cluster(0), id: None, brokers: 0 };
        let (brokers, nodes) = (FxHashMap::default(), FxHashMap::default());
        Self { worlds: vec![nobody], brokers, nodes }
    }
}

impl Clusters {
    /// The cluster of a broker.
    pub(super) fn of(&self, broker: Option<SocketAddr>) -> Cluster {
        let known = broker.and_then(|broker| self.brokers.get(&broker));
        known.map_or(Cluster(0), |&known| self.root(known))
    }

    /// What a cluster is now known as.
    pub(super) fn root(&self, mut cluster: Cluster) -> Cluster {
        while self.worlds[cluster.0 as usize].parent != cluster {
            cluster = self.worlds[cluster.0 as usize].parent;
        }
        cluster
    }

    /// The cluster of a broker, which is a new one where the broker is.
    pub(super) fn meet(&mut self, broker: Option<SocketAddr>) -> Cluster {
        match broker {
            Some(new) if !self.brokers.contains_key(&new) && self.brokers.len() < BROKERS_MAX => {
                self.found(new)
            }
            known => self.of(known),
        }
    }

    fn found(&mut self, broker: SocketAddr) -> Cluster {
        let cluster = Cluster(self.worlds.len() as u32);
        self.worlds.push(World { parent: cluster, id: None, brokers: 1 });
        self.brokers.insert(broker, cluster);
        cluster
    }

    /// A broker says of which cluster it is, and names nodes of it.
    pub(super) fn learn(
        &mut self,
        broker: SocketAddr,
        id: Option<&Arc<str>>,
        nodes: &[Node],
    ) -> Vec<Joined> {
        let mut own = self.meet(Some(broker));
        if own == Cluster(0) {
            return Vec::new();
        }
        if let Some(id) = id {
            match &self.worlds[own.0 as usize].id {
                // Another broker has the address now.
                Some(other) if other != id => own = self.found(broker),
                _ => {}
            }
            self.worlds[own.0 as usize].id = Some(Arc::clone(id));
        }
        let mut joined = Vec::new();
        let usable = |node: &&Node| broker.ip().is_loopback() || !node.is_local();
        for node in nodes.iter().filter(usable) {
            if let Some(address) = node.address() {
                match self.brokers.get(&address) {
                    Some(&other) => joined.extend(self.join(own, other)),
                    None if self.brokers.len() < BROKERS_MAX => {
                        self.brokers.insert(address, own);
                    }
                    None => {}
                }
            }
            let Some(id) = id else { continue };
            let name = (Arc::clone(id), node.clone());
            match self.nodes.get(&name) {
                Some(&other) => joined.extend(self.join(own, other)),
                None if self.nodes.len() < BROKERS_MAX => {
                    self.nodes.insert(name, own);
                }
                None => {}
            }
        }
        joined
    }

    /// Two clusters are one, unless their ids contradict.
    pub(super) fn join(&mut self, one: Cluster, other: Cluster) -> Option<Joined> {
        let (one, other) = (self.root(one), self.root(other));
        let [first, second] = [one, other].map(|cluster| &self.worlds[cluster.0 as usize]);
        let contradict = matches!((&first.id, &second.id), (Some(a), Some(b)) if a != b);
        if one == other || contradict || one == Cluster(0) || other == Cluster(0) {
            return None;
        }
        let id = first.id.clone().or_else(|| second.id.clone());
        let brokers = first.brokers + second.brokers;
        // The smaller goes, so that no way to a root is long.
        let (kept, gone) = if first.brokers < second.brokers { (other, one) } else { (one, other) };
        self.worlds[gone.0 as usize].parent = kept;
        let world = &mut self.worlds[kept.0 as usize];
        (world.id, world.brokers) = (id, brokers);
        Some(Joined { kept, gone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn node(id: i32, host: &str, port: u16) -> Node {
        Node { id, host: host.into(), port }
    }

    /// Whether two brokers are of one cluster, after each said what it says.
    fn is_one(said: [(&str, Option<&str>, &[Node]); 2]) -> bool {
        let mut clusters = Clusters::default();
        for (broker, _, _) in said {
            clusters.meet(Some(address(broker)));
        }
        for (broker, id, nodes) in said {
            clusters.learn(address(broker), id.map(Arc::from).as_ref(), nodes);
        }
        let [one, other] = said.map(|(broker, ..)| clusters.of(Some(address(broker))));
        one == other
    }

    #[test]
    fn brokers_of_which_nothing_is_known_are_clusters_of_their_own() {
        assert!(!is_one([("10.0.0.1:9092", None, &[]), ("10.0.0.2:9092", None, &[])]));
    }

    #[test]
    fn a_broker_that_names_the_address_of_another_is_of_its_cluster() {
        let nodes = [node(1, "10.0.0.1", 9092), node(2, "10.0.0.2", 9092)];
        assert!(is_one([("10.0.0.1:9092", None, &nodes), ("10.0.0.2:9092", None, &[])]));
        let id = Some("c");
        assert!(is_one([("10.0.0.1:9092", id, &nodes), ("10.0.0.2:9092", None, &[])]));
        assert!(!is_one([("10.0.0.1:9092", id, &nodes), ("10.0.0.2:9092", Some("d"), &[])]));
        assert!(!is_one([("10.0.0.1:9092", id, &nodes), ("10.0.0.2:9093", None, &[])]));
    }

    #[test]
    fn one_cluster_id_takes_one_node_too() {
        let id = Some("the id that the image brings");
        let [a, b] = [1, 2].map(|host| [node(1, &format!("kafka-{host}"), 9092)]);
        assert!(!is_one([("10.0.0.1:9092", id, &a), ("10.0.0.2:9092", id, &b)]));
        let both = [a[0].clone(), node(2, "kafka-2", 9092)];
        assert!(is_one([("10.0.0.1:9092", id, &both), ("10.0.0.2:9092", id, &both)]));
        assert!(!is_one([("10.0.0.1:9092", None, &both), ("10.0.0.2:9092", None, &both)]));
    }

    #[test]
    fn a_broker_elsewhere_that_calls_itself_localhost_names_nobody() {
        for host in ["localhost", "127.0.0.1"] {
            let nodes = [node(1, host, 9092)];
            let id = Some("the id that the image brings");
            assert!(!is_one([("10.0.0.1:9092", id, &nodes), ("10.0.0.2:9092", id, &nodes)]));
            assert!(!is_one([("10.0.0.1:9092", id, &nodes), ("127.0.0.1:9092", None, &[])]));
        }
        let nodes = [node(2, "127.0.0.2", 9092)];
        assert!(is_one([("127.0.0.1:9092", None, &nodes), ("127.0.0.2:9092", None, &[])]));
    }

    #[test]
    fn an_address_that_changes_its_cluster_id_takes_nobody_along() {
        let mut clusters = Clusters::default();
        let [one, two] = ["10.0.0.1:9092", "10.0.0.2:9092"].map(address);
        let nodes = [node(1, "10.0.0.1", 9092), node(2, "10.0.0.2", 9092)];
        clusters.learn(one, Some(&"c".into()), &nodes);
        let first = clusters.of(Some(one));
        clusters.learn(one, Some(&"d".into()), &nodes);
        assert_ne!(clusters.of(Some(one)), first);
        assert_eq!(clusters.of(Some(two)), first);
    }

    #[test]
    fn of_clusters_joined_in_any_order_there_is_one() {
        let mut clusters = Clusters::default();
        let all: Vec<SocketAddr> = (1..9).map(|n| address(&format!("10.0.0.{n}:9092"))).collect();
        let met: Vec<Cluster> = all.iter().map(|&broker| clusters.meet(Some(broker))).collect();
        for (one, other) in [(0, 1), (2, 3), (1, 3), (7, 6), (5, 6), (4, 7), (7, 0)] {
            assert!(clusters.join(met[one], met[other]).is_some());
        }
        assert!(met.iter().all(|&cluster| clusters.root(cluster) == clusters.root(met[0])));
        assert_eq!(clusters.join(met[2], met[5]), None);
    }
}
