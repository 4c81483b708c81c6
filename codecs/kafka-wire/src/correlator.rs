//! The only code that pairs a response with its request: client, proxy and capture share it.
//!
//! On one connection responses come in the order of the requests. A Produce with acks=0 has no
//! response and is never waited for. A response with another correlation id than the oldest
//! request's is an observation; where its id matches a later request, the earlier ones count as
//! unanswered (a capture lost them, or a broker broke W1).
//!
//! Never: sees a body; knows what a request asked for.

use std::collections::VecDeque;

use crate::ids::CorrelationId;

/// Requests of one connection that wait for their response, with what the caller keeps of each.
#[derive(Debug, Clone)]
pub struct Correlator<T> {
    waiting: VecDeque<(CorrelationId, T)>,
}

/// What a response turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paired<T> {
    /// It answers the oldest waiting request.
    Next(T),
    /// It answers a later request; those before it, oldest first, were never answered.
    Skipped {
        /// The request it answers.
        answered: T,
        /// The requests that were passed over.
        unanswered: Vec<(CorrelationId, T)>,
    },
    /// It answers none of the waiting requests.
    Unpaired,
}

impl<T> Default for Correlator<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<T> Correlator<T> {
    /// Nothing waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a request that will be answered. One that will not (acks=0) must not be noted.
    pub fn request(&mut self, correlation_id: CorrelationId, kept: T) {
        self.waiting.push_back((correlation_id, kept));
    }

    /// Pairs a response.
    pub fn response(&mut self, correlation_id: CorrelationId) -> Paired<T> {
        match self.waiting.iter().position(|(id, _)| *id == correlation_id) {
            None => Paired::Unpaired,
            Some(0) => Paired::Next(self.waiting.pop_front().expect("one is waiting").1),
            Some(n) => {
                let unanswered = self.waiting.drain(..n).collect();
                let answered = self.waiting.pop_front().expect("position n was waiting").1;
                Paired::Skipped { answered, unanswered }
            }
        }
    }

    /// The oldest waiting request: a client that wants order pairs with this one alone.
    #[must_use]
    pub fn oldest(&self) -> Option<&(CorrelationId, T)> {
        self.waiting.front()
    }

    /// What is kept of the request that a response with this id would answer.
    #[must_use]
    pub fn find(&self, correlation_id: CorrelationId) -> Option<&T> {
        self.waiting.iter().find(|(id, _)| *id == correlation_id).map(|(_, kept)| kept)
    }

    /// How many requests wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All that still wait, oldest first: what a closed connection leaves behind.
    pub fn drain(&mut self) -> impl Iterator<Item = (CorrelationId, T)> + '_ {
        self.waiting.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(ids: &[i32]) -> Correlator<i32> {
        let mut correlator = Correlator::new();
        for &id in ids {
            correlator.request(CorrelationId(id), id * 10);
        }
        correlator
    }

    #[test]
    fn responses_pair_in_order() {
        let mut c = with(&[1, 2]);
        assert_eq!(c.response(CorrelationId(1)), Paired::Next(10));
        assert_eq!(c.response(CorrelationId(2)), Paired::Next(20));
        assert_eq!(c.response(CorrelationId(2)), Paired::Unpaired);
        assert!(c.is_empty());
    }

    #[test]
    fn a_later_answer_leaves_the_earlier_unanswered() {
        let mut c = with(&[1, 2, 3]);
        assert_eq!(
            c.response(CorrelationId(3)),
            Paired::Skipped {
                answered: 30,
                unanswered: vec![(CorrelationId(1), 10), (CorrelationId(2), 20)]
            }
        );
    }

    #[test]
    fn repeated_ids_pair_oldest_first() {
        let mut c = with(&[7, 7]);
        c.waiting[1].1 = 71;
        assert_eq!(c.response(CorrelationId(7)), Paired::Next(70));
        assert_eq!(c.response(CorrelationId(7)), Paired::Next(71));
    }
}
