//! The listeners: one for each broker, opened as brokers become known.
//!
//! A *door* is a listener and the broker behind it. A broker keeps its door when its address
//! changes, so that clients find it where they found it before. An address that is one of our own
//! stays as it is: a broker may advertise the proxy itself.
//!
//! Never: accepts a connection.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_wire::ids::NodeId;
use socket2::{Domain, Socket, Type};
use tokio::sync::Notify;

use super::endpoint::Endpoint;
use super::naming::Named;

/// Ports that are tried for one door where they are counted up.
const PORTS_TRIED_MAX: u16 = 100;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// The node id of a broker that was not named yet.
const UNNAMED: i32 = -1;

/// Where the proxy listens and what it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address of every door.
    pub address: IpAddr,
    /// The port of the first door, the others count up from it; 0 takes free ones.
    pub port: u16,
    /// The host that clients are told; absent means the address.
    pub advertised_host: Option<String>,
    /// How many doors there may be: each broker that a response names gets one.
    pub doors_max: usize,
}

impl Default for Listen {
    fn default() -> Self {
        let address = IpAddr::from([127, 0, 0, 1]);
        Self { address, port: 0, advertised_host: None, doors_max: 1024 }
    }
}

/// A listener and the broker behind it.
#[derive(Debug)]
pub struct Door {
    /// What clients are told.
    pub(super) advertised: Endpoint,
    broker: Mutex<Endpoint>,
    /// Where it was last reached.
    reached: Mutex<Option<SocketAddr>>,
    node_id: AtomicI32,
}

impl Door {
    /// Where its broker is.
    #[must_use]
    pub fn broker(&self) -> Endpoint {
        lock(&self.broker).clone()
    }

    /// Where clients find it.
    #[must_use]
    pub fn advertised(&self) -> &Endpoint {
        &self.advertised
    }

    /// Which broker it is; -1 until a response has named it.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId(self.node_id.load(Ordering::Relaxed))
    }

    fn is_of(&self, broker: &Endpoint, node_id: i32) -> bool {
        let own = self.node_id.load(Ordering::Relaxed);
        (own == UNNAMED || node_id == UNNAMED || own == node_id)
            && (*lock(&self.broker) == *broker || self.was_reached_at(broker))
    }

    /// Notes where its broker was reached: what one calls by a name another calls by its address.
    pub(super) fn reached(&self, at: SocketAddr) {
        *lock(&self.reached) = Some(at);
    }

    fn was_reached_at(&self, broker: &Endpoint) -> bool {
        let address = broker.host.parse().map(|host| SocketAddr::new(host, broker.port));
        address.is_ok_and(|address| *lock(&self.reached) == Some(address))
    }
}

/// A door that was opened and not yet accepted at.
pub(super) type Opened = (TcpListener, Arc<Door>);

/// All doors.
#[derive(Debug)]
pub(super) struct Doors {
    listen: Listen,
    state: Mutex<State>,
    /// Told when a door was opened.
    pub(super) more: Notify,
}

#[derive(Debug, Default)]
struct State {
    doors: Vec<Arc<Door>>,
    by_node: BTreeMap<i32, Arc<Door>>,
    opened: Vec<Opened>,
}

impl Doors {
    pub(super) fn new(listen: Listen) -> Self {
        Self { listen, state: Mutex::default(), more: Notify::new() }
    }

    /// Every door, in the order of their opening.
    pub(super) fn all(&self) -> Vec<Arc<Door>> {
        lock(&self.state).doors.clone()
    }

    /// Those opened since the last call.
    pub(super) fn opened(&self) -> Vec<Opened> {
        std::mem::take(&mut lock(&self.state).opened)
    }

    /// Opens the door of a broker that the user named.
    ///
    /// # Errors
    /// Where no port can be had.
    pub(super) fn open(&self, broker: Endpoint) -> io::Result<Arc<Door>> {
        self.open_in(&mut lock(&self.state), broker, UNNAMED)
    }

    /// What to call what a response names: its door, opened now if need be. Absent where it has
    /// none and cannot get one; then its name stays as it is.
    pub(super) fn instead(&self, named: Named, address: &Endpoint) -> Option<Endpoint> {
        let node_id = match named {
            Named::Broker(NodeId(id)) => id,
            Named::Address => UNNAMED,
        };
        let mut state = lock(&self.state);
        let own = state.doors.iter().find(|door| door.advertised == *address).cloned();
        if let Some(door) = state.by_node.get(&node_id) {
            if own.is_none() {
                // It moved: who connects from now on is taken to where it is now.
                lock(&door.broker).clone_from(address);
            }
            return Some(door.advertised.clone());
        }
        let known =
            own.or_else(|| state.doors.iter().find(|door| door.is_of(address, node_id)).cloned());
        let door = match known {
            Some(door) => door,
            None => self.open_in(&mut state, address.clone(), node_id).ok()?,
        };
        if node_id != UNNAMED {
            door.node_id.store(node_id, Ordering::Relaxed);
            state.by_node.insert(node_id, door.clone());
        }
        Some(door.advertised.clone())
    }

    fn open_in(
        &self,
        state: &mut MutexGuard<'_, State>,
        broker: Endpoint,
        node_id: i32,
    ) -> io::Result<Arc<Door>> {
        let nth = state.doors.len();
        if nth >= self.listen.doors_max {
            return Err(io::Error::other(format!("there are {nth} listeners already")));
        }
        let (listener, port) = self.bind(nth)?;
        let host = &self.listen.advertised_host;
        let host = host.clone().unwrap_or_else(|| self.listen.address.to_string());
        let door = Arc::new(Door {
            advertised: Endpoint { host, port },
            broker: Mutex::new(broker),
            reached: Mutex::default(),
            node_id: AtomicI32::new(node_id),
        });
        state.doors.push(door.clone());
        state.opened.push((listener, door.clone()));
        self.more.notify_one();
        Ok(door)
    }

    /// Listens at the n-th port, or at the next one that is free.
    fn bind(&self, nth: usize) -> io::Result<(TcpListener, u16)> {
        let Listen { address, port, .. } = self.listen;
        if port == 0 {
            return bind(SocketAddr::new(address, 0));
        }
        let first = u16::try_from(nth).ok().and_then(|nth| port.checked_add(nth));
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for port in first.into_iter().flat_map(|first| first..first.saturating_add(PORTS_TRIED_MAX))
        {
            match bind(SocketAddr::new(address, port)) {
                Ok(bound) => return Ok(bound),
                // The first is where the user said: nowhere else.
                Err(error) if nth == 0 => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn bind(address: SocketAddr) -> io::Result<(TcpListener, u16)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("HOST:PORT")
    }

    fn broker(doors: &Doors, id: i32, address: &str) -> Endpoint {
        doors.instead(Named::Broker(NodeId(id)), &endpoint(address)).expect("a door")
    }

    #[test]
    fn a_broker_keeps_its_door_and_another_gets_its_own() {
        let doors = Doors::new(Listen::default());
        let bootstrap = doors.open(endpoint("a:1")).expect("a port");
        assert_eq!(broker(&doors, 1, "a:1"), *bootstrap.advertised());
        assert_eq!(bootstrap.node_id(), NodeId(1));
        let second = broker(&doors, 2, "b:1");
        assert_ne!(second, *bootstrap.advertised());
        assert_eq!(broker(&doors, 2, "b:1"), second);
        assert_eq!(doors.all().len(), 2);
        assert_eq!(doors.opened().len(), 2);
        assert_eq!(doors.opened().len(), 0);
    }

    #[test]
    fn who_moves_is_followed_and_leaves_its_address_to_others() {
        let doors = Doors::new(Listen::default());
        let bootstrap = doors.open(endpoint("a:1")).expect("a port");
        let first = broker(&doors, 1, "a:1");
        assert_eq!(broker(&doors, 1, "a:2"), first);
        assert_eq!(bootstrap.broker(), endpoint("a:2"));
        assert_ne!(broker(&doors, 2, "a:1"), first);
    }

    #[test]
    fn our_own_address_stays_as_it_is() {
        let doors = Doors::new(Listen::default());
        let bootstrap = doors.open(endpoint("a:1")).expect("a port");
        let own = bootstrap.advertised().to_string();
        assert_eq!(broker(&doors, 1, &own), *bootstrap.advertised());
        assert_eq!(broker(&doors, 1, &own), *bootstrap.advertised());
        assert_eq!(bootstrap.broker(), endpoint("a:1"));
        assert_eq!(bootstrap.node_id(), NodeId(1));
    }

    #[test]
    fn a_controller_is_known_by_its_address_alone() {
        let doors = Doors::new(Listen::default());
        doors.open(endpoint("a:1")).expect("a port");
        let first = broker(&doors, 1, "a:1");
        let controller = doors.instead(Named::Address, &endpoint("a:9")).expect("a door");
        assert_ne!(controller, first);
        assert_eq!(doors.instead(Named::Address, &endpoint("a:9")), Some(controller));
        assert_eq!(broker(&doors, 1, "a:1"), first);
    }

    #[test]
    fn who_was_reached_at_the_address_that_is_named_is_who_is_meant() {
        let doors = Doors::new(Listen::default());
        let bootstrap = doors.open(endpoint("localhost:9")).expect("a port");
        bootstrap.reached("127.0.0.1:9".parse().expect("an address"));
        assert_ne!(broker(&doors, 2, "127.0.0.2:9"), *bootstrap.advertised());
        assert_eq!(broker(&doors, 1, "127.0.0.1:9"), *bootstrap.advertised());
        assert_eq!(bootstrap.node_id(), NodeId(1));
    }

    #[test]
    fn there_are_no_more_doors_than_allowed() {
        let doors = Doors::new(Listen { doors_max: 2, ..Listen::default() });
        doors.open(endpoint("a:1")).expect("a port");
        broker(&doors, 2, "b:1");
        assert_eq!(doors.instead(Named::Broker(NodeId(3)), &endpoint("c:1")), None);
    }
}
