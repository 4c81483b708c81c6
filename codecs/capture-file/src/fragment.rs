//! Puts fragments of IP packets together.
//!
//! Bounded: so many packets are kept unfinished, the oldest gives way. The bytes that came first
//! win where fragments overlap.

use std::collections::VecDeque;
use std::net::IpAddr;

/// Unfinished packets that are kept.
const PACKETS_MAX: usize = 64;
/// Largest payload of an IP packet.
const PAYLOAD_BYTES_MAX: usize = 65_535;
/// Holes that one packet may have at a time.
const PIECES_MAX: usize = 256;

/// Where a fragment belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub target: IpAddr,
    /// What the fragments of one packet have in common.
    pub identification: u32,
    /// Where in the packet's payload it stands.
    pub byte_offset: usize,
    /// Whether others follow it.
    pub more: bool,
}

/// The fragments of packets that are not whole.
#[derive(Debug, Default)]
pub struct Fragments {
    unfinished: VecDeque<Unfinished>,
    whole: Vec<u8>,
    given_up: u64,
}

#[derive(Debug)]
struct Unfinished {
    source: IpAddr,
    target: IpAddr,
    identification: u32,
    payload: Vec<u8>,
    /// What is there, as ranges in order that do not touch.
    pieces: Vec<(usize, usize)>,
    length: Option<usize>,
}

impl Fragments {
    /// Adds one fragment; the payload of its packet where that is whole with it.
    pub fn add(&mut self, fragment: &Fragment, bytes: &[u8]) -> Option<&[u8]> {
        let end = fragment.byte_offset + bytes.len();
        if end > PAYLOAD_BYTES_MAX || bytes.is_empty() {
            return None;
        }
        let at = self.place_of(fragment);
        let packet = &mut self.unfinished[at];
        packet.add(fragment.byte_offset, bytes);
        if !fragment.more {
            packet.length.get_or_insert(end);
        }
        if packet.length.is_none_or(|length| packet.pieces != [(0, length)]) {
            return None;
        }
        self.whole = self.unfinished.remove(at)?.payload;
        Some(&self.whole)
    }

    /// Packets that were given up because too many were unfinished.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    fn place_of(&mut self, f: &Fragment) -> usize {
        let same = |u: &Unfinished| {
            (u.source, u.target, u.identification) == (f.source, f.target, f.identification)
        };
        if let Some(at) = self.unfinished.iter().position(same) {
            return at;
        }
        if self.unfinished.len() == PACKETS_MAX {
            self.unfinished.pop_front();
            self.given_up += 1;
        }
        self.unfinished.push_back(Unfinished {
            source: f.source,
            target: f.target,
            identification: f.identification,
            payload: Vec::new(),
            pieces: Vec::new(),
            length: None,
        });
        self.unfinished.len() - 1
    }
}

impl Unfinished {
    /// Fills what is missing between the pieces that are there, and joins them.
    fn add(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if self.pieces.len() >= PIECES_MAX {
            return;
        }
        if self.payload.len() < end {
            self.payload.resize(end, 0);
        }
        let mut at = start;
        let mut joined = (start, end);
        let mut kept = Vec::with_capacity(self.pieces.len() + 1);
        for &(from, to) in &self.pieces {
            if to < start || from > end {
                kept.push((from, to));
                continue;
            }
            if at < from {
                self.payload[at..from].copy_from_slice(&bytes[at - start..from - start]);
            }
            at = at.max(to);
            joined = (joined.0.min(from), joined.1.max(to));
        }
        if at < end {
            self.payload[at..end].copy_from_slice(&bytes[at - start..]);
        }
        kept.push(joined);
        kept.sort_unstable();
        self.pieces = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[(usize, &str, bool)], expected: Option<&str>) {
        let mut fragments = Fragments::default();
        let mut whole = None;
        for &(byte_offset, bytes, more) in pieces {
            let address = IpAddr::from([10, 0, 0, 1]);
            let fragment =
                Fragment { source: address, target: address, identification: 7, byte_offset, more };
            whole = fragments.add(&fragment, bytes.as_bytes()).map(<[u8]>::to_vec);
        }
        assert_eq!(whole.as_deref(), expected.map(str::as_bytes));
    }

    #[test]
    fn fragments_join_in_any_order() {
        check(&[(0, "abcd", true), (4, "ef", false)], Some("abcdef"));
        check(&[(4, "ef", false), (0, "abcd", true)], Some("abcdef"));
        check(&[(4, "ef", true), (6, "gh", false), (0, "abcd", true)], Some("abcdefgh"));
        check(&[(0, "abcd", true), (6, "gh", false)], None);
        check(&[(0, "abcd", true), (4, "ef", true)], None);
    }

    #[test]
    fn the_first_bytes_win_where_fragments_overlap() {
        check(&[(2, "CD", true), (0, "abxxef", false)], Some("abCDef"));
        check(&[(0, "abcd", true), (2, "xxef", false)], Some("abcdef"));
    }

    #[test]
    fn unfinished_packets_are_bounded() {
        let mut fragments = Fragments::default();
        for identification in 0..1_000 {
            let address = IpAddr::from([10, 0, 0, 1]);
            let fragment = Fragment {
                source: address,
                target: address,
                identification,
                byte_offset: 60_000,
                more: true,
            };
            assert!(fragments.add(&fragment, &[1; 8]).is_none());
        }
        assert_eq!(fragments.unfinished.len(), PACKETS_MAX);
        assert_eq!(fragments.given_up(), 1_000 - PACKETS_MAX as u64);
    }
}
