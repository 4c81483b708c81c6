//! What time it is, as a value.

use std::fmt;
use std::sync::Arc;

/// Nanoseconds since the start of the run, and the wall-clock time of that start.
///
/// Time never goes back and is not touched by clock faults on this machine's brokers.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> u64 + Send + Sync>,
    origin_unix_ns: u64,
}

impl Clock {
    /// A clock that reads nanoseconds since its origin from `now`; `origin_unix_ns` is the
    /// wall-clock time of that origin.
    pub fn new(origin_unix_ns: u64, now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), origin_unix_ns }
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        (self.now)()
    }

    /// Nanoseconds since 1970, as packets and records are stamped.
    #[must_use]
    pub fn unix_ns(&self) -> u64 {
        self.origin_unix_ns.saturating_add(self.now_ns())
    }

    /// Milliseconds since 1970, as record timestamps have them.
    #[must_use]
    pub fn unix_ms(&self) -> i64 {
        (self.unix_ns() / 1_000_000) as i64
    }

    /// Wall-clock time of the origin.
    #[must_use]
    pub fn origin_unix_ns(&self) -> u64 {
        self.origin_unix_ns
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now_ns", &self.now_ns()).finish_non_exhaustive()
    }
}
