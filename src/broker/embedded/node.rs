//! One node: an identity of its own over the shared state, and the calls its connections make.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use kafka_wire::ApiKey;
use kafka_wire::header::RequestHeader;
use tokio::sync::Notify;

use super::api;
use super::bug::Bug;
use super::call::{Answer, Call};
use super::cluster::Cluster;
use super::config::Config;
use super::outbox::{Mark, Outbox};
use crate::world::Clock;

/// What all nodes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) clock: Clock,
    cluster: Mutex<Cluster>,
    /// Notified when the background has something to do sooner than it knows.
    pub(super) work: Notify,
    pub(super) connections: AtomicUsize,
}

impl Shared {
    pub(super) fn new(config: Config, clock: Clock, cluster: Cluster) -> Self {
        Self {
            config,
            clock,
            cluster: Mutex::new(cluster),
            work: Notify::new(),
            connections: AtomicUsize::new(0),
        }
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        Locked(self.cluster.lock().expect("nothing panics while it holds the state"))
    }

    /// Counts a connection in, unless there are too many.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(self.clone());
        (before < self.config.connections_max).then_some(admitted)
    }
}

/// The state, held. What was changed is in the journal before others see it.
#[derive(Debug)]
pub(super) struct Locked<'a>(MutexGuard<'a, Cluster>);

impl Deref for Locked<'_> {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.keep_touched();
    }
}

/// A counted connection.
#[derive(Debug)]
pub(super) struct Admitted(Arc<Shared>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) node_id: i32,
    pub(super) shared: Arc<Shared>,
}

impl Node {
    pub(super) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.shared.clock.unix_ms()
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        self.shared.lock()
    }

    /// Answers one frame.
    pub(super) fn call(self: &Arc<Self>, frame: Bytes, out: &mut Outbox) -> Answer {
        let Ok((header, body_at)) = RequestHeader::decode(&frame) else {
            return Answer::Close;
        };
        let client_id =
            header.client_id.map_or_else(Bytes::new, |client_id| frame.slice_ref(client_id));
        let header = RequestHeader {
            api_key: header.api_key,
            api_version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: None,
        };
        let call = Call { header, client_id, body: frame.slice(body_at..) };
        if self.config().bug.is_none() || call.header.api_key == ApiKey::API_VERSIONS {
            return api::dispatch(self, call, out);
        }
        let mark = out.mark();
        let answer = api::dispatch(self, call, out);
        if matches!(answer, Answer::Sent) {
            self.garble(out, mark);
        }
        answer
    }

    /// What a broker with a bug does to a response.
    fn garble(&self, out: &mut Outbox, mark: Mark) {
        let (repeats, strays) = {
            let mischief = &mut self.lock().mischief;
            (mischief.rolls(Bug::AnswerTwice, 200), mischief.rolls(Bug::StrayBytes, 200))
        };
        if repeats {
            out.repeat(mark);
        }
        if strays {
            out.lengthen(mark, &[0, 0]);
        }
    }
}
