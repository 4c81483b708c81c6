//! The pcapng format: sections of blocks, in either byte order.
//!
//! Packets come in enhanced, simple and obsolete packet blocks; interfaces have a resolution and
//! an offset of time; names, secrets and comments are kept beside the packets. Other blocks are
//! passed over. Reference: draft-ietf-opsawg-pcapng.

use std::net::IpAddr;

use crate::LinkType;
use crate::packet::{Options, Order};
use crate::read::{BLOCK_BYTES_MAX, Found, Next};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const NAME_RESOLUTION: u32 = 4;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 0x0a;
const CUSTOM: u32 = 0x0bad;

/// Interfaces of one section that are kept: a bound on memory, far above any real file.
const INTERFACES_MAX: usize = 65_536;
/// Bounds on what is kept beside the packets.
const NAMES_MAX: usize = 4_096;
const SECRETS_BYTES_MAX: usize = 16 * 1024 * 1024;
const COMMENTS_MAX: usize = 1_000;
const TEXT_BYTES_MAX: usize = 256;
/// Interfaces of one section whose drops are counted.
const DROPPED_MAX: usize = 64;

/// Whether the bytes begin a section.
pub(crate) fn is_section_header(bytes: &[u8]) -> bool {
    bytes.starts_with(&SECTION_HEADER.to_le_bytes())
        && section_order(bytes).is_some_and(|order| order.u32_at(bytes, 4) >= 28)
}

fn section_order(bytes: &[u8]) -> Option<Order> {
    match bytes.get(8..12)? {
        [0x4d, 0x3c, 0x2b, 0x1a] => Some(Order::Little),
        [0x1a, 0x2b, 0x3c, 0x4d] => Some(Order::Big),
        _ => None,
    }
}

/// What a file says beside its packets; bounded, the first of each kind.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// Names of addresses.
    pub names: Vec<(IpAddr, String)>,
    /// Secrets, each with its kind as the file numbers it.
    pub secrets: Vec<(u32, Vec<u8>)>,
    /// Comments on sections and interfaces.
    pub comments: Vec<String>,
    /// Packets that passed and were not captured, as far as the capturing program says.
    pub dropped: u64,
}

#[derive(Debug, Clone)]
struct Interface {
    link_type: LinkType,
    snapshot_bytes: u32,
    ticks: Ticks,
    offset_ns: i64,
    name: Option<String>,
}

/// How the ticks of an interface become nanoseconds.
#[derive(Debug, Clone, Copy)]
enum Ticks {
    /// So many nanoseconds each.
    Nanoseconds(u64),
    /// So many ticks to the nanosecond.
    ANanosecond(u128),
    /// Two to this power to the second.
    Binary(u32),
}

impl Ticks {
    /// From the value of `if_tsresol`: a power of ten, or with the highest bit of two.
    fn from_option(value: u8) -> Self {
        match value {
            0..=9 => Self::Nanoseconds(10u64.pow(9 - u32::from(value))),
            10..=38 => Self::ANanosecond(10u128.pow(u32::from(value) - 9)),
            39..=0x7f => Self::ANanosecond(u128::MAX),
            _ => Self::Binary(u32::from(value & 0x7f)),
        }
    }

    fn nanoseconds(self, ticks: u64) -> u64 {
        match self {
            Self::Nanoseconds(each) => ticks.saturating_mul(each),
            Self::ANanosecond(ticks_each) => (u128::from(ticks) / ticks_each) as u64,
            Self::Binary(power) => {
                // Below 2^94, so a shift by up to 127 loses only what is below a nanosecond.
                let nanoseconds = (u128::from(ticks) * 1_000_000_000) >> power;
                u64::try_from(nanoseconds).unwrap_or(u64::MAX)
            }
        }
    }
}

/// The section that is being read.
#[derive(Debug, Default)]
pub(crate) struct Section {
    order: Order,
    interfaces: Vec<Interface>,
    last_time_ns: u64,
    notes: Notes,
    /// Packets dropped so far, by interface: programs repeat their counts as they grow.
    dropped: Vec<(u32, u64)>,
    secrets_bytes: usize,
    damage: Option<&'static str>,
}

impl Section {
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    pub(crate) fn interface_name(&self, interface: u32) -> Option<&str> {
        self.interfaces.get(interface as usize)?.name.as_deref()
    }

    /// What was wrong inside the last block that was no packet.
    pub(crate) fn take_damage(&mut self) -> Option<&'static str> {
        self.damage.take()
    }

    pub(crate) fn next(&mut self, bytes: &[u8]) -> Next {
        if bytes.len() < 12 {
            return Next::Need(12);
        }
        let Some((kind, order, length)) = self.block_head(bytes) else {
            return Next::Broken("a block with an impossible length");
        };
        if bytes.len() < length {
            return Next::Need(length);
        }
        if order.u32_at(bytes, length - 4) as usize != length {
            return Next::Broken("a block whose two lengths differ");
        }
        let body = &bytes[8..length - 4];
        match kind {
            ENHANCED_PACKET => self.enhanced(body, length),
            SECTION_HEADER => self.begin(order, body, length),
            SIMPLE_PACKET => self.simple(body, length),
            OBSOLETE_PACKET => self.obsolete(body, length),
            _ => {
                self.other(kind, body);
                Next::Other(length)
            }
        }
    }

    /// Kind, byte order and length of the block that begins here, where they can be.
    fn block_head(&self, bytes: &[u8]) -> Option<(u32, Order, usize)> {
        let kind = self.order.u32_at(bytes, 0);
        let order = if kind == SECTION_HEADER { section_order(bytes)? } else { self.order };
        let length = order.u32_at(bytes, 4) as usize;
        let can_be = (12..=BLOCK_BYTES_MAX).contains(&length) && length.is_multiple_of(4);
        can_be.then_some((kind, order, length))
    }

    fn begin(&mut self, order: Order, body: &[u8], length: usize) -> Next {
        self.order = order;
        self.interfaces.clear();
        self.dropped.clear();
        self.comments(body.get(16..).unwrap_or_default());
        Next::Other(length)
    }

    fn enhanced(&mut self, body: &[u8], length: usize) -> Next {
        let Some(head) = body.first_chunk::<20>() else {
            return self.bad(length, "a packet block without room for its head");
        };
        let interface = self.order.u32_at(head, 0);
        let ticks =
            u64::from(self.order.u32_at(head, 4)) << 32 | u64::from(self.order.u32_at(head, 8));
        let captured = self.order.u32_at(head, 12) as usize;
        let wire = self.order.u32_at(head, 16);
        self.found(interface, Some(ticks), captured, wire, 20, body.len(), length)
    }

    fn obsolete(&mut self, body: &[u8], length: usize) -> Next {
        let Some(head) = body.first_chunk::<20>() else {
            return self.bad(length, "a packet block without room for its head");
        };
        let interface = u32::from(self.order.u16_at(head, 0));
        let ticks =
            u64::from(self.order.u32_at(head, 4)) << 32 | u64::from(self.order.u32_at(head, 8));
        let captured = self.order.u32_at(head, 12) as usize;
        let wire = self.order.u32_at(head, 16);
        self.found(interface, Some(ticks), captured, wire, 20, body.len(), length)
    }

    /// A simple packet has no time: it gets the last packet's.
    fn simple(&mut self, body: &[u8], length: usize) -> Next {
        let Some(head) = body.first_chunk::<4>() else {
            return self.bad(length, "a packet block without room for its head");
        };
        let wire = self.order.u32(*head);
        let snapshot = self.interfaces.first().map_or(0, |i| i.snapshot_bytes);
        let snapshot = if snapshot == 0 { u32::MAX } else { snapshot };
        let captured = (wire.min(snapshot) as usize).min(body.len() - 4);
        self.found(0, None, captured, wire, 4, body.len(), length)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of three kinds of block")]
    fn found(
        &mut self,
        interface: u32,
        ticks: Option<u64>,
        captured: usize,
        wire_bytes: u32,
        head_bytes: usize,
        body_bytes: usize,
        block_bytes: usize,
    ) -> Next {
        if captured > body_bytes - head_bytes {
            return self.bad(block_bytes, "a packet longer than its block");
        }
        let Some(described) = self.interfaces.get(interface as usize) else {
            return self.bad(block_bytes, "a packet of an interface that was not described");
        };
        if let Some(ticks) = ticks {
            let nanoseconds = described.ticks.nanoseconds(ticks);
            self.last_time_ns = nanoseconds.saturating_add_signed(described.offset_ns);
        }
        let data = 8 + head_bytes..8 + head_bytes + captured;
        let options = (8 + head_bytes + captured.next_multiple_of(4)).min(8 + body_bytes);
        Next::Packet(Found {
            time_ns: self.last_time_ns,
            link_type: described.link_type,
            interface,
            wire_bytes: wire_bytes.max(captured as u32),
            data,
            options: options..8 + body_bytes,
            block_bytes,
        })
    }

    fn bad(&mut self, length: usize, why: &'static str) -> Next {
        self.damage = Some(why);
        Next::Other(length)
    }

    fn other(&mut self, kind: u32, body: &[u8]) {
        match kind {
            INTERFACE_DESCRIPTION => self.interface(body),
            NAME_RESOLUTION => self.names(body),
            DECRYPTION_SECRETS => self.secrets(body),
            INTERFACE_STATISTICS => self.statistics(body),
            _ => {}
        }
    }

    fn interface(&mut self, body: &[u8]) {
        if body.len() < 8 || self.interfaces.len() == INTERFACES_MAX {
            self.damage = Some("an interface that cannot be described");
            return;
        }
        let mut interface = Interface {
            link_type: LinkType(self.order.u16_at(body, 0)),
            snapshot_bytes: self.order.u32_at(body, 4),
            ticks: Ticks::from_option(6),
            offset_ns: 0,
            name: None,
        };
        for (code, value) in (Options { bytes: &body[8..], order: self.order }) {
            match (code, value) {
                (2, name) => interface.name = Some(text(name)),
                (9, [resolution]) => interface.ticks = Ticks::from_option(*resolution),
                (14, offset) => {
                    if let Some(bytes) = offset.first_chunk::<8>() {
                        let seconds = match self.order {
                            Order::Little => i64::from_le_bytes(*bytes),
                            Order::Big => i64::from_be_bytes(*bytes),
                        };
                        interface.offset_ns = seconds.saturating_mul(1_000_000_000);
                    }
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        self.comments(&body[8..]);
    }

    fn names(&mut self, body: &[u8]) {
        let records = Options { bytes: body, order: self.order };
        for (code, value) in records {
            let (address, names) = match (code, value.first_chunk::<4>(), value.first_chunk::<16>())
            {
                (1, Some(v4), _) => (IpAddr::from(*v4), &value[4..]),
                (2, _, Some(v6)) => (IpAddr::from(*v6), &value[16..]),
                _ => continue,
            };
            for name in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
                if self.notes.names.len() < NAMES_MAX {
                    self.notes.names.push((address, text(name)));
                }
            }
        }
    }

    fn secrets(&mut self, body: &[u8]) {
        let length = self.order.u32_at(body, 4) as usize;
        match body.get(8..).and_then(|rest| rest.get(..length)) {
            Some(secret) if self.secrets_bytes + length <= SECRETS_BYTES_MAX => {
                self.secrets_bytes += length + 64;
                self.notes.secrets.push((self.order.u32_at(body, 0), secret.to_vec()));
            }
            Some(_) => self.damage = Some("more secrets than are kept"),
            None => self.damage = Some("secrets longer than their block"),
        }
    }

    /// Packets that the interface or the system dropped; the counts of one interface only grow.
    fn statistics(&mut self, body: &[u8]) {
        let interface = self.order.u32_at(body, 0);
        let mut dropped = 0;
        let options = body.get(12..).unwrap_or_default();
        for (code, value) in (Options { bytes: options, order: self.order }) {
            if let (5 | 7, Some(bytes)) = (code, value.first_chunk::<8>()) {
                let count = match self.order {
                    Order::Little => u64::from_le_bytes(*bytes),
                    Order::Big => u64::from_be_bytes(*bytes),
                };
                dropped = count.saturating_add(dropped);
            }
        }
        let room = self.dropped.len() < DROPPED_MAX;
        let before = match self.dropped.iter_mut().find(|(known, _)| *known == interface) {
            Some((_, count)) => std::mem::replace(count, dropped.max(*count)),
            None if room => {
                self.dropped.push((interface, dropped));
                0
            }
            None => return,
        };
        let more = dropped.saturating_sub(before);
        self.notes.dropped = self.notes.dropped.saturating_add(more);
    }

    fn comments(&mut self, options: &[u8]) {
        for (code, value) in (Options { bytes: options, order: self.order }) {
            if code == 1 && self.notes.comments.len() < COMMENTS_MAX {
                self.notes.comments.push(text(value));
            }
        }
    }

    /// Whether a block can begin here: a kind that is known, and lengths that agree.
    pub(crate) fn plausible(&self, bytes: &[u8], more: bool) -> bool {
        let Some((kind, order, length)) = self.block_head(bytes) else { return false };
        let known = matches!(
            kind,
            SECTION_HEADER
                | INTERFACE_DESCRIPTION
                | OBSOLETE_PACKET
                | SIMPLE_PACKET
                | NAME_RESOLUTION
                | INTERFACE_STATISTICS
                | ENHANCED_PACKET
                | DECRYPTION_SECRETS
                | CUSTOM
        );
        known
            && if length <= bytes.len() {
                order.u32_at(bytes, length - 4) as usize == length
            } else {
                more && length >= 16 && kind == ENHANCED_PACKET
            }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]).into_owned()
}
