//! What went through: bytes and frames, of each connection and of all.
//!
//! Never: takes a lock where bytes pass.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_wire::ids::NodeId;

use super::doors::Door;
use crate::history::tap::{Connection, Direction};

/// Bytes and frames of the two directions, requests first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes that came in.
    pub bytes: [u64; 2],
    /// Frames whose start was seen.
    pub frames: [u64; 2],
}

impl Traffic {
    fn add(&mut self, other: Self) {
        for way in 0..2 {
            self.bytes[way] += other.bytes[way];
            self.frames[way] += other.frames[way];
        }
    }
}

/// What goes through one open connection.
#[derive(Debug)]
pub(super) struct Meter {
    client: SocketAddr,
    door: Arc<Door>,
    bytes: [AtomicU64; 2],
    frames: [AtomicU64; 2],
}

impl Meter {
    pub(super) fn bytes(&self, direction: Direction, count: usize) {
        self.bytes[direction as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn frame(&self, direction: Direction) {
        self.frames[direction as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn traffic(&self) -> Traffic {
        let load = |pair: &[AtomicU64; 2]| [0, 1].map(|way| pair[way].load(Ordering::Relaxed));
        Traffic { bytes: load(&self.bytes), frames: load(&self.frames) }
    }
}

/// An open connection, for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its number in histories and captures.
    pub connection: Connection,
    /// The client's end.
    pub client: SocketAddr,
    /// Which broker; -1 until a response has named it.
    pub broker: NodeId,
    /// What went through it.
    pub traffic: Traffic,
}

/// What went through everything so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    /// Connections that were opened.
    pub connections: u64,
    /// Of them, those whose broker could not be reached.
    pub unreachable: u64,
    /// Of them, those whose client or broker did not shake hands for TLS.
    pub handshakes_failed: u64,
    /// Open at this moment.
    pub open: u64,
    /// What went through them.
    pub traffic: Traffic,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Tally {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: Total,
    open: BTreeMap<Connection, Arc<Meter>>,
}

impl Tally {
    pub(super) fn opened(
        &self,
        connection: Connection,
        client: SocketAddr,
        door: Arc<Door>,
    ) -> Arc<Meter> {
        let (bytes, frames) = (Default::default(), Default::default());
        let meter = Arc::new(Meter { client, door, bytes, frames });
        let mut state = self.lock();
        state.total.connections += 1;
        state.open.insert(connection, meter.clone());
        meter
    }

    pub(super) fn closed(&self, connection: Connection) {
        let mut state = self.lock();
        if let Some(meter) = state.open.remove(&connection) {
            state.total.traffic.add(meter.traffic());
        }
    }

    pub(super) fn unreachable(&self) {
        self.lock().total.unreachable += 1;
    }

    pub(super) fn handshake_failed(&self) {
        self.lock().total.handshakes_failed += 1;
    }

    pub(super) fn open(&self) -> Vec<Open> {
        let open = |(&connection, meter): (&Connection, &Arc<Meter>)| Open {
            connection,
            client: meter.client,
            broker: meter.door.node_id(),
            traffic: meter.traffic(),
        };
        self.lock().open.iter().map(open).collect()
    }

    pub(super) fn total(&self) -> Total {
        let state = self.lock();
        let mut total = state.total;
        total.open = state.open.len() as u64;
        state.open.values().for_each(|meter| total.traffic.add(meter.traffic()));
        total
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
