//! How often and how long a pipeline tries: values, stated and printed.

use std::fmt;
use std::time::Duration;

use super::trouble::Trouble;
use crate::world::Clock;

/// When to try again, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// From the call of an application to its outcome (`delivery.timeout.ms`, `max.block.ms`).
    pub delivery_timeout: Duration,
    /// From a request to its answer (`request.timeout.ms`).
    pub request_timeout: Duration,
    /// Attempts after the first; none means as many as the delivery timeout allows.
    pub retries: Option<u32>,
    /// The first wait before another attempt (`retry.backoff.ms`); it doubles each time.
    pub backoff_min: Duration,
    /// The longest wait (`retry.backoff.max.ms`).
    pub backoff_max: Duration,
}

/// First wait after CONCURRENT_TRANSACTIONS, which is ordinary right after an EndTxn (the Java
/// client's figure).
pub(crate) const CONCURRENT_TRANSACTIONS_BACKOFF: Duration = Duration::from_millis(20);

impl Default for RetryPolicy {
    /// Jepsen's timeouts for Kafka clients (10 s and 3 s), the Java client's waits.
    fn default() -> Self {
        Self {
            delivery_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(3),
            retries: None,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
        }
    }
}

impl RetryPolicy {
    /// The wait before attempt `n + 1` where `n` attempts were made. There is no jitter: the same
    /// seed must give the same run.
    #[must_use]
    pub fn backoff(&self, attempts: u32) -> Duration {
        doubled(self.backoff_min, attempts, self.backoff_max)
    }

    /// The same after CONCURRENT_TRANSACTIONS.
    #[must_use]
    pub fn backoff_concurrent(&self, attempts: u32) -> Duration {
        let first = self.backoff_min.min(CONCURRENT_TRANSACTIONS_BACKOFF);
        doubled(first, attempts, self.backoff_max)
    }

    /// Whether another attempt is allowed after `attempts` of them.
    #[must_use]
    pub fn allows(&self, attempts: u32) -> bool {
        self.retries.is_none_or(|retries| attempts <= retries)
    }
}

/// One thing being tried: how often so far, and until when.
pub(crate) struct Retry {
    policy: RetryPolicy,
    clock: Clock,
    deadline_ns: u64,
    attempts: u32,
}

impl Retry {
    pub(crate) fn begin(policy: RetryPolicy, clock: &Clock) -> Self {
        let deadline_ns = clock.now_ns().saturating_add(nanos(policy.delivery_timeout));
        Self { policy, clock: clock.clone(), deadline_ns, attempts: 0 }
    }

    /// Waits before the next attempt, or gives up with what went wrong last.
    pub(crate) async fn pause(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        self.attempts += 1;
        self.sleep(self.policy.backoff(self.attempts), trouble).await
    }

    /// The same where a short wait will do: CONCURRENT_TRANSACTIONS, a topic just made.
    pub(crate) async fn pause_short(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        self.attempts += 1;
        self.sleep(self.policy.backoff_concurrent(self.attempts), trouble).await
    }

    async fn sleep(&self, wait: Duration, trouble: Trouble) -> Result<(), Trouble> {
        let past = self.clock.now_ns().saturating_add(nanos(wait)) >= self.deadline_ns;
        if past || !self.policy.allows(self.attempts) {
            return Err(trouble);
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// A duration in nanoseconds, held at the end of the range.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn doubled(first: Duration, attempts: u32, max: Duration) -> Duration {
    first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(max)
}

impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retries = self.retries.map_or("as many as fit".to_owned(), |n| n.to_string());
        write!(
            f,
            "delivery timeout {:?}, request timeout {:?}, retries {retries}, backoff {:?} to {:?}",
            self.delivery_timeout, self.request_timeout, self.backoff_min, self.backoff_max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = RetryPolicy::default();
        let waits: Vec<_> = (1..=6).map(|n| policy.backoff(n).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(policy.backoff_concurrent(1).as_millis(), 20);
        assert_eq!(policy.backoff(u32::MAX), policy.backoff_max);
    }

    #[test]
    fn retries_are_counted_after_the_first_attempt() {
        let policy = RetryPolicy { retries: Some(1), ..Default::default() };
        assert!(policy.allows(1));
        assert!(!policy.allows(2));
        assert!(RetryPolicy::default().allows(1_000_000));
    }
}
