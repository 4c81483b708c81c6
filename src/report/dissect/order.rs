//! Lines that are ready before it is their turn, held back until it is.
//!
//! Requests take places in their order; a line goes on once all before it have. So that one
//! request without an answer cannot hold back a whole capture, what is held is bounded: beyond
//! that, everything ready goes on, and whoever still waits does whenever it is ready.
//!
//! Never: writes; looks into a line.

use std::collections::VecDeque;

use super::window::Window;

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
    /// Each with its key for [`Window`].
    places: VecDeque<(u64, Place)>,
    held_bytes: usize,
    buffers: Vec<String>,
    /// Times the order was given up.
    given_up: u64,
}

impl Order {
    /// Takes the next place; its number, from 0.
    pub fn begin(&mut self, key: u64) -> u64 {
        self.places.push_back((key, Place::Waiting));
        self.first + self.places.len() as u64 - 1
    }

    /// Takes the next place for a line that never comes.
    pub fn skip(&mut self, key: u64, window: &mut Window) {
        if self.places.is_empty() {
            self.first += 1;
            return window.push(key);
        }
        self.places.push_back((key, Place::Passed));
    }

    /// Whether a line may go on now: all before it have, or the order was given up.
    #[must_use]
    pub fn is_due(&self, number: u64) -> bool {
        number <= self.first
    }

    /// A line that is due went on: its place is gone.
    pub fn gone(&mut self, number: u64) {
        if number == self.first && self.places.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Holds a line until it is due.
    pub fn hold(&mut self, number: u64, line: String) {
        self.held_bytes += line.len();
        self.put(number, Place::Ready(line));
    }

    fn put(&mut self, number: u64, place: Place) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some((_, taken)) = index.and_then(|index| self.places.get_mut(index)) {
            *taken = place;
        }
    }

    /// Hands on the lines that are due now.
    pub fn drain(&mut self, window: &mut Window) {
        while let Some((_, Place::Passed | Place::Ready(_))) = self.places.front() {
            if let Some((key, place)) = self.places.pop_front() {
                self.hand_on(key, place, window);
            }
        }
    }

    /// Whether more is held than may be.
    #[must_use]
    pub fn is_full(&self, waiting_bytes: usize) -> bool {
        self.held_bytes + waiting_bytes > HELD_BYTES_MAX || self.places.len() > PLACES_MAX
    }

    /// The key of the first that is waited for.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.places.front().map(|(key, _)| *key)
    }

    /// Hands on everything that is ready; whoever still waits is due at any time from now on.
    pub fn give_up(&mut self, window: &mut Window) {
        let is_ready = |(_, place): &(u64, Place)| matches!(place, Place::Ready(_));
        self.given_up += u64::from(self.places.iter().any(is_ready));
        for (key, place) in std::mem::take(&mut self.places) {
            self.hand_on(key, place, window);
        }
    }

    fn hand_on(&mut self, key: u64, place: Place, window: &mut Window) {
        self.first += 1;
        match place {
            Place::Waiting => {}
            Place::Passed => window.push(key),
            Place::Ready(line) => {
                self.held_bytes -= line.len();
                window.text().push_str(&line);
                window.push(key);
                self.recycle(line);
            }
        }
    }

    /// How often lines were written out of order.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
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

    fn written(window: &mut Window) -> String {
        let mut out = String::new();
        window.all(|lines| out.push_str(lines));
        out.replace("{\"n\":", " ")
    }

    /// Finishes places in the order given; what went on after each.
    fn check(places: u64, finished: &[u64], expected: &[&str]) {
        let (mut order, mut window) = (Order::default(), Window::default());
        for number in 0..places {
            assert_eq!(order.begin(number), number);
        }
        for (number, expected) in finished.iter().zip(expected) {
            if order.is_due(*number) {
                window.text().push_str(&format!(":{number}"));
                window.push(*number);
                order.gone(*number);
            } else {
                order.hold(*number, format!(":{number}"));
            }
            order.drain(&mut window);
            assert_eq!(written(&mut window), *expected);
        }
        assert_eq!(order.held_bytes, 0);
    }

    #[test]
    fn lines_wait_for_those_before_them() {
        check(4, &[0, 1, 2, 3], &[" 1:0", " 2:1", " 3:2", " 4:3"]);
        check(4, &[3, 1, 0, 2], &["", "", " 1:0 2:1", " 3:2 4:3"]);
    }

    #[test]
    fn a_line_that_never_comes_holds_nobody_back() {
        let (mut order, mut window) = (Order::default(), Window::default());
        order.skip(0, &mut window);
        let second = order.begin(1);
        assert!(order.is_due(second));
        order.skip(2, &mut window);
        let fourth = order.begin(3);
        assert!(!order.is_due(fourth));
        order.gone(second);
        order.drain(&mut window);
        assert!(order.is_due(fourth));
    }

    #[test]
    fn more_than_may_be_held_goes_on_out_of_order() {
        let (mut order, mut window) = (Order::default(), Window::default());
        let (first, second, third) = (order.begin(0), order.begin(1), order.begin(2));
        order.hold(second, "b".repeat(HELD_BYTES_MAX));
        assert!(!order.is_full(0) && order.is_full(1));
        order.give_up(&mut window);
        assert_eq!((window.text().len(), order.given_up()), (HELD_BYTES_MAX, 1));
        assert!(order.is_due(first) && order.is_due(third));
        order.gone(first);
        let fourth = order.begin(3);
        assert_eq!((fourth, order.is_due(fourth)), (3, true));
    }
}
