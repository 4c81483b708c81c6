//! The classic pcap format: one head, then packets, each with a head of its own.
//!
//! Two byte orders, micro- or nanoseconds, and the longer packet heads of a patched libpcap of
//! old, all told apart by the magic number.

use crate::LinkType;
use crate::packet::Order;
use crate::read::{BLOCK_BYTES_MAX, Found, Next};

/// Bytes of the head of a file.
pub(crate) const HEAD_BYTES: usize = 24;

/// What libpcap takes as the largest snapshot whatever a file says.
const SNAPSHOT_BYTES_MAX: usize = 262_144;
/// How far the times of neighbouring packets may be apart when a head is looked for.
const TIME_SECONDS_NEAR: u64 = 7 * 24 * 3600;

/// The only one there ever was since 1998.
const MAJOR_VERSION: u16 = 2;
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const PATCHED: u32 = 0xa1b2_cd34;

/// What the head of a file says.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    order: Order,
    nanoseconds_a_fraction: u64,
    packet_head_bytes: usize,
    link_type: LinkType,
    captured_bytes_max: usize,
    last_time_ns: u64,
}

/// Whether the bytes begin with a magic number of this format or of pcapng.
pub(crate) fn begins_as_capture(bytes: &[u8]) -> bool {
    crate::pcapng::is_section_header(bytes)
        || bytes.first_chunk::<4>().is_some_and(|magic| order_of(*magic).is_some())
}

/// Whether a file of this format was put behind what came before.
pub(crate) fn begins_another(bytes: &[u8]) -> bool {
    let order = bytes.first_chunk::<4>().and_then(|magic| order_of(*magic));
    order.is_some_and(|(order, _)| order.u16_at(bytes, 4) == MAJOR_VERSION)
}

fn order_of(magic: [u8; 4]) -> Option<(Order, u32)> {
    [Order::Little, Order::Big]
        .map(|order| (order, order.u32(magic)))
        .into_iter()
        .find(|(_, magic)| [MICROSECONDS, NANOSECONDS, PATCHED].contains(magic))
}

impl Head {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (order, magic) = order_of(*bytes.first_chunk::<4>()?)?;
        let snapshot = order.u32_at(bytes, 16) as usize;
        Some(Self {
            order,
            nanoseconds_a_fraction: if magic == NANOSECONDS { 1 } else { 1_000 },
            packet_head_bytes: if magic == PATCHED { 24 } else { 16 },
            // The upper half has flags about frame check sequences.
            link_type: LinkType(order.u32_at(bytes, 20) as u16),
            captured_bytes_max: snapshot.clamp(SNAPSHOT_BYTES_MAX, BLOCK_BYTES_MAX),
            last_time_ns: 0,
        })
    }

    pub(crate) fn next(&mut self, bytes: &[u8]) -> Next {
        let head_bytes = self.packet_head_bytes;
        if bytes.len() < head_bytes {
            return Next::Need(head_bytes);
        }
        let captured = self.order.u32_at(bytes, 8) as usize;
        if captured > self.captured_bytes_max {
            return Next::Broken("a packet longer than the file's snapshot length");
        }
        // Where another file was put behind this one, its time zone stands here.
        if captured == 0 && begins_another(bytes) {
            return Next::Broken("the head of a file");
        }
        let fraction = u64::from(self.order.u32_at(bytes, 4));
        if fraction >= 1_000_000_000 {
            return Next::Broken("a time that is none");
        }
        let block_bytes = head_bytes + captured;
        if bytes.len() < block_bytes {
            return Next::Need(block_bytes);
        }
        let seconds = u64::from(self.order.u32_at(bytes, 0));
        self.last_time_ns = seconds * 1_000_000_000 + fraction * self.nanoseconds_a_fraction;
        Next::Packet(Found {
            time_ns: self.last_time_ns,
            link_type: self.link_type,
            interface: 0,
            wire_bytes: self.order.u32_at(bytes, 12).max(captured as u32),
            data: head_bytes..block_bytes,
            options: block_bytes..block_bytes,
            block_bytes,
        })
    }

    /// Whether a packet can begin here: its head can be, and so can the next one's.
    pub(crate) fn plausible(&self, bytes: &[u8], more: bool) -> bool {
        let Some(next) = self.plausible_head(bytes) else { return false };
        match bytes.get(next..) {
            Some(rest) if rest.len() >= self.packet_head_bytes => {
                self.plausible_head(rest).is_some()
            }
            Some(rest) => more || rest.is_empty(),
            None => more,
        }
    }

    /// Where the next head would be.
    fn plausible_head(&self, bytes: &[u8]) -> Option<usize> {
        if bytes.len() < self.packet_head_bytes {
            return None;
        }
        let captured = self.order.u32_at(bytes, 8);
        let wire = self.order.u32_at(bytes, 12);
        let fraction = u64::from(self.order.u32_at(bytes, 4)) * self.nanoseconds_a_fraction;
        let seconds = u64::from(self.order.u32_at(bytes, 0));
        let last = self.last_time_ns / 1_000_000_000;
        let near = last == 0 || seconds.abs_diff(last) < TIME_SECONDS_NEAR;
        let can_be = (1..=self.captured_bytes_max as u32).contains(&captured)
            && (captured..=BLOCK_BYTES_MAX as u32).contains(&wire)
            && fraction < 1_000_000_000
            && near;
        can_be.then_some(self.packet_head_bytes + captured as usize)
    }
}
