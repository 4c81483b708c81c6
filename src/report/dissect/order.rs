//! Lines that are ready before it is their turn, held back until it is.
//!
//! Requests take places in their order; a line is written once all before it are. So that one
//! request without an answer cannot hold back a whole capture, what is held is bounded: beyond
//! that, everything ready is written, and whoever still waits is written whenever it is ready.
//!
//! Never: writes; looks into a line.

use std::collections::VecDeque;

/// Bytes of lines that are held back.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Places that are held.
const PLACES_MAX: usize = 1 << 20;
/// Buffers that are kept for the next line, and the largest that is.
const BUFFERS_MAX: usize = 256;
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What is known of a request's line.
#[derive(Debug)]
enum Place {
    /// It will come.
    Waiting,
    /// It never will.
    Passed,
    /// It is here.
    Ready(String),
}

/// The lines from the first that is not yet written.
#[derive(Debug, Default)]
pub struct Order {
    /// The number of the first place.
    first: u64,
    places: VecDeque<Place>,
    held_bytes: usize,
    buffers: Vec<String>,
    /// Times the order was given up.
    given_up: u64,
}

impl Order {
    /// Takes the next place; its number, from 0.
    pub fn begin(&mut self) -> u64 {
        self.places.push_back(Place::Waiting);
        self.first + self.places.len() as u64 - 1
    }

    /// Takes the next place for a line that never comes.
    pub fn skip(&mut self) -> u64 {
        let number = self.begin();
        self.pass(number);
        number
    }

    /// Whether a line may be written now: all before it are, or the order was given up.
    #[must_use]
    pub fn is_due(&self, number: u64) -> bool {
        number <= self.first
    }

    /// A line was written, or is none: its place is free.
    pub fn pass(&mut self, number: u64) {
        self.put(number, Place::Passed);
    }

    /// Holds a line until it is due.
    pub fn hold(&mut self, number: u64, line: String) {
        self.held_bytes += line.len();
        self.put(number, Place::Ready(line));
    }

    fn put(&mut self, number: u64, place: Place) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(taken) = index.and_then(|index| self.places.get_mut(index)) {
            *taken = place;
        }
    }

    /// Appends the lines that are due now.
    pub fn drain(&mut self, out: &mut String) {
        while let Some(Place::Passed | Place::Ready(_)) = self.places.front() {
            if let Some(Place::Ready(line)) = self.places.pop_front() {
                self.append(out, line);
            }
            self.first += 1;
        }
    }

    /// Whether more is held than may be.
    #[must_use]
    pub fn is_full(&self, waiting_bytes: usize) -> bool {
        self.held_bytes + waiting_bytes > HELD_BYTES_MAX || self.places.len() > PLACES_MAX
    }

    /// Appends everything that is ready; whoever still waits is due at any time from now on.
    pub fn give_up(&mut self, out: &mut String) {
        let waited = self.places.iter().any(|place| matches!(place, Place::Ready(_)));
        self.given_up += u64::from(waited);
        for place in std::mem::take(&mut self.places) {
            self.first += 1;
            if let Place::Ready(line) = place {
                self.append(out, line);
            }
        }
    }

    /// How often lines were written out of order.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    fn append(&mut self, out: &mut String, line: String) {
        self.held_bytes -= line.len();
        out.push_str(&line);
        self.recycle(line);
    }

    /// An empty buffer for a line.
    pub fn buffer(&mut self) -> String {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes back a buffer that is no longer needed.
    pub fn recycle(&mut self, mut buffer: String) {
        let capacity = buffer.capacity();
        if capacity > 0 && capacity <= BUFFER_BYTES_MAX && self.buffers.len() < BUFFERS_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finishes places in the order given; what was written after each.
    fn check(places: u64, finished: &[u64], expected: &[&str]) {
        let mut order = Order::default();
        for number in 0..places {
            assert_eq!(order.begin(), number);
        }
        let mut out = String::new();
        for (number, expected) in finished.iter().zip(expected) {
            if order.is_due(*number) {
                out.push_str(&number.to_string());
                order.pass(*number);
            } else {
                order.hold(*number, number.to_string());
            }
            order.drain(&mut out);
            assert_eq!(out, *expected);
        }
        assert_eq!(order.held_bytes, 0);
    }

    #[test]
    fn lines_wait_for_those_before_them() {
        check(4, &[0, 1, 2, 3], &["0", "01", "012", "0123"]);
        check(4, &[3, 1, 0, 2], &["", "", "01", "0123"]);
    }

    #[test]
    fn a_line_that_never_comes_holds_nobody_back() {
        let mut order = Order::default();
        let (first, second) = (order.skip(), order.begin());
        let mut out = String::new();
        order.drain(&mut out);
        assert_eq!((first, order.is_due(second)), (0, true));
    }

    #[test]
    fn more_than_may_be_held_is_written_out_of_order() {
        let mut order = Order::default();
        let (first, second, third) = (order.begin(), order.begin(), order.begin());
        order.hold(second, "b".repeat(HELD_BYTES_MAX));
        assert!(!order.is_full(0) && order.is_full(1));
        let mut out = String::new();
        order.give_up(&mut out);
        assert_eq!((out.len(), order.given_up()), (HELD_BYTES_MAX, 1));
        assert!(order.is_due(first) && order.is_due(third));
        order.pass(first);
        let fourth = order.begin();
        assert_eq!((fourth, order.is_due(fourth)), (3, true));
    }
}
