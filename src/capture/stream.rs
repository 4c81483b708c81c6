//! One direction of a TCP connection: segments in any order into bytes in theirs.
//!
//! Positions are sequence numbers extended to 64 bits; their low half is what the packets say.
//! Where bytes come twice the first are taken. What comes too early is held; who holds how long,
//! and when a hole is given up, is decided by the [connection](super::connection).
//!
//! Never: delivers a byte twice, holds more than its bounds.

use std::collections::BTreeMap;

use crate::history::wire::{DirectionCounts, PacketNumber};

/// Where the positions of a stream begin: far from 0, so that what came before the first packet
/// has a place too.
const POSITION_BASE: u64 = 1 << 40;
/// Farthest that an acknowledgement is believed to be ahead of what was seen.
const ACKNOWLEDGED_AHEAD_MAX: u64 = 64 * 1024 * 1024;
/// Bytes that may have gone by before a SYN that came late.
const SYN_LATE_BYTES: u64 = 64 * 1024;
/// Farther than this from where a stream is nothing of it is believed to be: most holes of a capture
/// are smaller, and a number of another connection is hardly ever nearer.
const FAR_BYTES: u64 = 64 * 1024 * 1024;
/// What a held piece costs beside its bytes.
const PIECE_COST: usize = 128;
/// Delivered bytes that are kept to compare retransmissions with.
const RECENT_BYTES_MAX: usize = 1_024;

/// What is known of the packet that some bytes came in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    pub(super) packet: PacketNumber,
    pub(super) time_ns: u64,
    /// What the packet acknowledged, as a position of the other direction; 0 for nothing.
    pub(super) acknowledged: u64,
}

/// Whether it is known where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Nothing of it was seen.
    None,
    /// It was seen in its middle; what came first may still come.
    Provisional,
    /// `next` is where it is.
    Fixed,
}

/// Bytes that wait for those before them.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) data: Vec<u8>,
    /// Bytes it had on the wire, `data` and what the capture cut off.
    pub(super) length: u64,
    pub(super) mark: Mark,
    /// Whether it begins where a segment began.
    pub(super) segment_start: bool,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) anchor: Anchor,
    /// The position of the byte that is delivered next.
    pub(super) next: u64,
    held: BTreeMap<u64, Piece>,
    held_cost: usize,
    /// The highest position the peer acknowledged.
    pub(super) acknowledged: u64,
    /// Where the direction ends.
    pub(super) fin_at: Option<u64>,
    pub(super) counts: DirectionCounts,
    /// Where the stream begins, if its SYN or the answer to it was seen.
    beginning: Option<u64>,
    last_was_gap: bool,
    recent: Recent,
}

/// Where a segment stands.
pub(super) enum Placed<'a> {
    /// It is next: these bytes of it, and so many that the capture cut off.
    Next(&'a [u8], u64),
    /// It waits for others.
    Held,
    /// It has nothing new.
    Old,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            anchor: Anchor::None,
            next: POSITION_BASE,
            held: BTreeMap::new(),
            held_cost: 0,
            acknowledged: 0,
            fin_at: None,
            counts: DirectionCounts::default(),
            beginning: None,
            last_was_gap: false,
            recent: Recent::default(),
        }
    }

    /// The position of a sequence number: the one nearest to where the stream is.
    pub(super) fn position(&self, sequence: u32) -> u64 {
        if self.anchor == Anchor::None {
            return POSITION_BASE + u64::from(sequence);
        }
        let ahead = sequence.wrapping_sub(self.next as u32) as i32;
        self.next.wrapping_add_signed(i64::from(ahead))
    }

    /// Learns where the stream begins.
    pub(super) fn anchor(&mut self, sequence: u32) {
        let position = self.position(sequence);
        self.beginning.get_or_insert(position);
        if self.anchor != Anchor::Fixed {
            self.next = position;
            self.anchor = Anchor::Fixed;
        }
    }

    /// Whether the first byte delivered is the first of the connection.
    pub(super) fn is_from_beginning(&self) -> bool {
        self.beginning.is_some()
    }

    /// Whether a SYN whose first byte would have this number begins another connection.
    pub(super) fn is_begun_anew_by(&self, first_byte: u32) -> bool {
        let position = self.position(first_byte);
        match (self.beginning, self.anchor) {
            (Some(beginning), _) => beginning != position,
            (None, Anchor::None) => false,
            // In a stream seen from its middle the SYN may have come late, by a few packets.
            (None, _) => position > self.next || self.next - position > SYN_LATE_BYTES,
        }
    }

    /// Whether bytes at that number can hardly be of this stream; `ended` says that nothing more
    /// of it is expected.
    pub(super) fn is_strange(&self, sequence: u32, length: u64, ended: bool) -> bool {
        if self.anchor == Anchor::None {
            return false;
        }
        let position = self.position(sequence);
        let after_end = || self.fin_at.is_some_and(|at| position > at);
        let before = || self.beginning.is_some_and(|at| position + length < at);
        position.abs_diff(self.next) > FAR_BYTES || ended && (after_end() || before())
    }

    /// Whether a reset with this number can be of this stream, and is no old one (RFC 5961).
    pub(super) fn may_be_reset_at(&self, sequence: u32) -> bool {
        self.anchor == Anchor::None || self.position(sequence).abs_diff(self.next) <= FAR_BYTES
    }

    /// Sees a sequence number in the middle of a stream: it begins there or before.
    pub(super) fn anchor_no_later(&mut self, sequence: u32) {
        let position = self.position(sequence);
        match self.anchor {
            Anchor::None => (self.next, self.anchor) = (position, Anchor::Provisional),
            Anchor::Provisional => self.next = self.next.min(position),
            Anchor::Fixed => {}
        }
    }

    /// Nothing before `next` is waited for any longer.
    pub(super) fn settle(&mut self) {
        if self.anchor == Anchor::Provisional {
            self.anchor = Anchor::Fixed;
            // A keep-alive without a byte names the number before the next.
            if self.held.first_key_value().is_some_and(|(&at, _)| at == self.next + 1) {
                self.next += 1;
            }
        }
    }

    /// Notes what the peer acknowledged; returns the position, or 0 where it cannot be believed.
    pub(super) fn acknowledge(&mut self, sequence: u32) -> u64 {
        if self.anchor == Anchor::None {
            return 0;
        }
        let position = self.position(sequence);
        if position > self.next + ACKNOWLEDGED_AHEAD_MAX {
            return 0;
        }
        self.acknowledged = self.acknowledged.max(position);
        position
    }

    /// Takes a segment; `direct` allows it to be delivered at once where it is next.
    pub(super) fn place<'a>(
        &mut self,
        position: u64,
        payload: &'a [u8],
        length: u64,
        mark: Mark,
        direct: bool,
    ) -> Placed<'a> {
        let end = position + length;
        let fixed = self.anchor == Anchor::Fixed;
        if fixed && position < self.next {
            self.compare_with_delivered(position, payload);
        }
        if fixed && end <= self.next {
            // A keep-alive repeats at most the last byte.
            self.counts.retransmitted_segments += u64::from(length > 1);
            return Placed::Old;
        }
        let next_up = fixed && position <= self.next;
        if direct && next_up && self.held.first_key_value().is_none_or(|(&at, _)| at >= end) {
            let skip = ((self.next - position) as usize).min(payload.len());
            let (data, length) = (&payload[skip..], end - self.next);
            let cut = length - data.len() as u64;
            self.delivered(data, length);
            return Placed::Next(data, cut);
        }
        self.hold(position, payload, length, mark)
    }

    fn hold<'a>(&mut self, position: u64, payload: &[u8], length: u64, mark: Mark) -> Placed<'a> {
        let end = position + length;
        let mut at = if self.anchor == Anchor::Fixed { position.max(self.next) } else { position };
        let mut new = false;
        self.drop_single_bytes(position, payload, length);
        // The piece before, and all that begin inside, are already here: fill what is between.
        let before = self.held.range(..=at).next_back().map(|(&start, _)| start);
        let inside: Vec<u64> =
            before.into_iter().chain(self.held.range(at + 1..end).map(|(&s, _)| s)).collect();
        for start in inside {
            let piece = &self.held[&start];
            let stop = start + piece.length;
            if stop <= at {
                continue;
            }
            // The byte of a keep-alive is any.
            if payload.len() > 1
                && piece.data.len() > 1
                && differs(start, &piece.data, position, payload)
            {
                self.counts.differing_overlaps += 1;
            }
            if at < start {
                self.keep(at, start.min(end), position, payload, mark);
                new = true;
            }
            at = at.max(stop);
        }
        if at < end {
            self.keep(at, end, position, payload, mark);
            new = true;
        }
        if new {
            Placed::Held
        } else {
            self.counts.retransmitted_segments += 1;
            Placed::Old
        }
    }

    /// A single byte that waits may be a keep-alive's, which is any: a segment that covers it is
    /// taken instead.
    fn drop_single_bytes(&mut self, position: u64, payload: &[u8], length: u64) {
        if payload.len() < 2 || self.held.is_empty() {
            return;
        }
        let single = |(&at, piece): (&u64, &Piece)| (piece.length == 1).then_some(at);
        let covered: Vec<u64> =
            self.held.range(position..position + length).filter_map(single).collect();
        for at in covered {
            if let Some(piece) = self.held.remove(&at) {
                self.held_cost -= piece.data.len() + PIECE_COST;
            }
        }
    }

    /// Holds the part of a segment from one position to another.
    fn keep(&mut self, from: u64, to: u64, position: u64, payload: &[u8], mark: Mark) {
        let bound = |at: u64| ((at - position) as usize).min(payload.len());
        let data = payload[bound(from)..bound(to)].to_vec();
        self.held_cost += data.len() + PIECE_COST;
        let segment_start = from == position;
        self.held.insert(from, Piece { data, length: to - from, mark, segment_start });
    }

    /// What it costs to hold what is held.
    pub(super) fn held_cost(&self) -> usize {
        self.held_cost
    }

    /// The position and mark of the first piece that is held.
    pub(super) fn first_held(&self) -> Option<(u64, Mark)> {
        self.held.first_key_value().map(|(&at, piece)| (at, piece.mark))
    }

    /// The bytes of the first pieces that are held, where segments begin.
    pub(super) fn held_starts(&self) -> impl Iterator<Item = &[u8]> {
        self.held.values().filter(|p| p.segment_start && !p.data.is_empty()).map(|p| &p.data[..])
    }

    /// Takes the first piece out where it is next.
    pub(super) fn take_next(&mut self) -> Option<Piece> {
        let entry = self.held.first_entry()?;
        if self.anchor != Anchor::Fixed || *entry.key() > self.next {
            return None;
        }
        let (position, mut piece) = entry.remove_entry();
        self.held_cost -= piece.data.len() + PIECE_COST;
        let skip = (self.next - position).min(piece.length);
        if skip > 0 {
            piece.data.drain(..(skip as usize).min(piece.data.len()));
            piece.length -= skip;
        }
        self.delivered(&piece.data, piece.length);
        Some(piece)
    }

    /// Gives up all bytes before a position; returns how many there are.
    pub(super) fn skip_to(&mut self, position: u64) -> u64 {
        let bytes = position.saturating_sub(self.next);
        self.next = self.next.max(position);
        self.count_gap(bytes);
        bytes
    }

    fn count_gap(&mut self, bytes: u64) {
        if bytes > 0 {
            self.counts.gaps += u64::from(!self.last_was_gap);
            self.counts.gap_bytes += bytes;
            self.last_was_gap = true;
        }
    }

    fn delivered(&mut self, data: &[u8], length: u64) {
        self.counts.bytes += data.len() as u64;
        if !data.is_empty() {
            self.last_was_gap = false;
            self.recent.push(self.next, data);
        }
        self.count_gap(length - data.len() as u64);
        self.next += length;
    }

    /// Counts the sequence number that FIN takes once all before it is there.
    pub(super) fn pass_fin(&mut self) {
        if self.fin_at == Some(self.next) {
            self.next += 1;
        }
    }

    fn compare_with_delivered(&mut self, position: u64, payload: &[u8]) {
        let Recent { start, bytes } = &self.recent;
        if payload.len() > 1 && differs(*start, bytes, position, payload) {
            self.counts.differing_overlaps += 1;
        }
    }
}

/// Whether two runs of bytes differ where they overlap.
fn differs(a_at: u64, a: &[u8], b_at: u64, b: &[u8]) -> bool {
    let from = a_at.max(b_at);
    let to = (a_at + a.len() as u64).min(b_at + b.len() as u64);
    from < to
        && a[(from - a_at) as usize..(to - a_at) as usize]
            != b[(from - b_at) as usize..(to - b_at) as usize]
}

/// The last bytes that were delivered, a few.
#[derive(Debug, Default)]
struct Recent {
    start: u64,
    bytes: Vec<u8>,
}

impl Recent {
    fn push(&mut self, position: u64, data: &[u8]) {
        let data_at = data.len().saturating_sub(RECENT_BYTES_MAX);
        let data = &data[data_at..];
        let adjoins = self.start + self.bytes.len() as u64 == position + data_at as u64;
        if !adjoins || self.bytes.len() + data.len() > 2 * RECENT_BYTES_MAX {
            self.bytes.clear();
        }
        if self.bytes.is_empty() {
            self.start = position + data_at as u64;
        }
        self.bytes.extend_from_slice(data);
    }
}
