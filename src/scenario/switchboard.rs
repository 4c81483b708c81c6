//! Named connections to whoever leads or coordinates.
//!
//! A connection is opened when it is first named, and again where it has ended. Who leads or
//! coordinates is asked for once a conversation, and anew after a fault or an answer that says
//! that somebody else does.
//!
//! Never: sends a request of a step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_wire::ErrorCode;
use kafka_wire::ids::NodeId;

use super::way_in::WayIn;
use crate::client::cluster::{CoordinatorOf, Metadata, TopicPartition, find_coordinator};
use crate::client::{Conduct, Connection, Fate};

/// How long somebody may be looked for.
const LOOKED_FOR: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Connections for what the interpreter asks itself: they go past a proxy.
const OWN: [&str; 3] = ["questions", "reader", "owner"];
/// Versions every broker since 3.7 speaks.
const FIND_COORDINATOR: i16 = 4;
const METADATA: i16 = 12;

/// Whom something is said to, as conversations write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// Any broker.
    Bootstrap,
    /// The leader of a partition, or of the step's.
    Leader(Option<String>),
    /// The coordinator of a producer's transactional id, or of the step's producer.
    Transaction(Option<String>),
    /// The coordinator of a group, or of the step's.
    Group(Option<String>),
    /// A node by its number.
    Node(i32),
    /// The node the last fault was done to.
    Hurt,
}

impl Party {
    /// Reads `bootstrap`, `leader t-0`, `transaction p`, `group g`, `node 1` or `hurt`.
    ///
    /// # Errors
    /// Where it is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, of) = text.split_once(' ').map_or((text, None), |(kind, of)| (kind, Some(of)));
        let of_name = of.map(str::to_owned);
        match (kind, of) {
            ("bootstrap", None) => Ok(Self::Bootstrap),
            ("hurt", None) => Ok(Self::Hurt),
            ("leader", _) => Ok(Self::Leader(of_name)),
            ("transaction", _) => Ok(Self::Transaction(of_name)),
            ("group", _) => Ok(Self::Group(of_name)),
            ("node", Some(number)) if number.parse::<i32>().is_ok() => {
                Ok(Self::Node(number.parse().expect("just parsed")))
            }
            _ => Err(format!(
                "{text}: expected bootstrap, leader t-0, transaction p, group g, node 1 or hurt"
            )),
        }
    }
}

/// Somebody who can be looked for, by the names of this run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// Any broker.
    Anyone,
    /// The leader of a partition.
    Leader(TopicPartition),
    /// The coordinator of a transactional id.
    Transaction(String),
    /// The coordinator of a group.
    Group(String),
    /// A node.
    Node(i32),
}

/// Why nobody was reached.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoWay {
    /// No connection.
    #[error("{0}")]
    Fate(#[from] Fate),
    /// Nobody answers to that.
    #[error("nobody is {whom} after {} s: {last}", LOOKED_FOR.as_secs())]
    Nobody {
        /// Who was looked for.
        whom: String,
        /// The last answer.
        last: String,
    },
}

/// A node with its address.
pub type Found = (NodeId, String);

/// The connections of one conversation.
pub struct Switchboard {
    /// How they behave.
    pub conduct: Conduct,
    bootstrap: Vec<String>,
    way_in: Option<Arc<WayIn>>,
    open: BTreeMap<(String, String), Arc<Connection>>,
    known: BTreeMap<Whom, Found>,
    /// Addresses of nodes that are hurt: nobody is asked there who leads.
    avoided: BTreeSet<String>,
    next_correlation: i32,
}

impl Switchboard {
    /// None yet.
    #[must_use]
    pub fn new(conduct: Conduct, bootstrap: Vec<String>) -> Self {
        Self {
            conduct,
            bootstrap,
            way_in: None,
            open: BTreeMap::new(),
            known: BTreeMap::new(),
            avoided: BTreeSet::new(),
            next_correlation: 0,
        }
    }

    /// The same, but what clients say goes through a proxy.
    #[must_use]
    pub fn through(self, way_in: Option<Arc<WayIn>>) -> Self {
        Self { way_in, ..self }
    }

    /// The next correlation id: one for each request of the conversation, so that a chart and a
    /// capture name each by its number.
    pub fn correlation(&mut self) -> i32 {
        self.next_correlation += 1;
        self.next_correlation
    }

    /// The connection of that name to a broker's address, through the proxy where there is one;
    /// opened where there is none alive.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn connection(
        &mut self,
        name: &str,
        address: &str,
    ) -> Result<Arc<Connection>, NoWay> {
        match self.way_in.clone().filter(|_| !OWN.contains(&name)) {
            Some(way_in) => self.opened(name, &way_in.door(address), &way_in.conduct).await,
            None => self.direct(name, address).await,
        }
    }

    /// The same, past any proxy.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn direct(&mut self, name: &str, address: &str) -> Result<Arc<Connection>, NoWay> {
        let conduct = self.conduct.clone();
        self.opened(name, address, &conduct).await
    }

    async fn opened(
        &mut self,
        name: &str,
        address: &str,
        conduct: &Conduct,
    ) -> Result<Arc<Connection>, NoWay> {
        let key = (name.to_owned(), address.to_owned());
        if let Some(connection) = self.open.get(&key).filter(|open| open.is_alive()) {
            return Ok(connection.clone());
        }
        let opened = Arc::new(Connection::open(conduct, address).await?);
        self.open.insert(key, opened.clone());
        Ok(opened)
    }

    /// Closes every connection of that name; answers how many there were.
    pub fn close(&mut self, name: &str) -> usize {
        let before = self.open.len();
        self.open.retain(|(of, _), _| of != name);
        before - self.open.len()
    }

    /// Forgets who leads and coordinates: it may have changed.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Asks nobody at that address who leads and coordinates, or asks there again.
    pub fn avoid(&mut self, address: &str, is_hurt: bool) {
        match is_hurt {
            true => drop(self.avoided.insert(address.to_owned())),
            false => drop(self.avoided.remove(address)),
        }
    }

    /// Takes note of who that is, until everything is forgotten.
    pub fn know(&mut self, whom: Whom, found: Found) {
        self.known.insert(whom, found);
    }

    /// Takes note of who leads the topics of a Metadata answer.
    pub fn note_leaders(&mut self, metadata: &Metadata) {
        for (topic, described) in &metadata.topics {
            for (&partition, leader) in &described.partitions {
                let address = leader.node.and_then(|node| metadata.brokers.get(&node));
                if let (Some(node), Some(address)) = (leader.node, address) {
                    let whom = Whom::Leader(TopicPartition { topic: topic.clone(), partition });
                    self.known.insert(whom, (node, address.clone()));
                }
            }
        }
    }

    /// Who that is, with the address.
    ///
    /// # Errors
    /// Where nobody is found in time.
    pub async fn find(&mut self, whom: &Whom) -> Result<Found, NoWay> {
        if let Some(known) = self.known.get(whom) {
            return Ok(known.clone());
        }
        let deadline = tokio::time::Instant::now() + LOOKED_FOR;
        loop {
            let last = match self.look(whom).await {
                Ok(found) => {
                    self.known.insert(whom.clone(), found.clone());
                    return Ok(found);
                }
                Err(last) => last,
            };
            if tokio::time::Instant::now() >= deadline {
                return Err(NoWay::Nobody { whom: format!("{whom:?}"), last });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One question.
    async fn look(&mut self, whom: &Whom) -> Result<Found, String> {
        let words = |error: ErrorCode| error.to_string();
        let connection = self.anyone().await.map_err(|way| way.to_string())?;
        let coordinator = |of, key: String| {
            let connection = connection.clone();
            async move {
                let found = find_coordinator(&connection, FIND_COORDINATOR, of, &key).await;
                let found = found.map_err(|fate| fate.to_string())?.map_err(words)?;
                Ok((found.node, found.address))
            }
        };
        match whom {
            Whom::Anyone => Ok((NodeId(-1), connection.address().to_owned())),
            Whom::Transaction(id) => coordinator(CoordinatorOf::Transaction, id.clone()).await,
            Whom::Group(id) => coordinator(CoordinatorOf::Group, id.clone()).await,
            Whom::Node(number) => {
                let metadata = Metadata::ask(&connection, METADATA, Some(&[])).await;
                let metadata = metadata.map_err(|fate| fate.to_string())?;
                let address = metadata.brokers.get(&NodeId(*number)).cloned();
                Ok((NodeId(*number), address.ok_or("no such node in Metadata")?))
            }
            Whom::Leader(of) => {
                let topics = [of.topic.clone()];
                let metadata = Metadata::ask(&connection, METADATA, Some(&topics)).await;
                let metadata = metadata.map_err(|fate| fate.to_string())?;
                let node = metadata.leader(of).ok_or("no leader in Metadata")?;
                let address = metadata.brokers.get(&node).cloned();
                Ok((node, address.ok_or("the leader is not listed")?))
            }
        }
    }

    /// A connection to any broker of the bootstrap list.
    async fn anyone(&mut self) -> Result<Arc<Connection>, NoWay> {
        let mut last = NoWay::Nobody { whom: "a broker".into(), last: "no address".into() };
        let asked = self.bootstrap.iter().filter(|address| !self.avoided.contains(*address));
        for address in asked.cloned().collect::<Vec<_>>() {
            match self.connection("questions", &address).await {
                Ok(connection) => return Ok(connection),
                Err(way) => last = way,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_are_named_in_the_words_of_the_protocol() {
        let of = |name: &str| Some(name.to_owned());
        assert_eq!(Party::parse("leader t-0"), Ok(Party::Leader(of("t-0"))));
        assert_eq!(Party::parse("transaction"), Ok(Party::Transaction(None)));
        assert_eq!(Party::parse("node 3"), Ok(Party::Node(3)));
        assert!(Party::parse("node x").is_err() && Party::parse("coordinator").is_err());
    }
}
