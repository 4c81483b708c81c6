//! Finds the IP header behind what a link puts before it.
//!
//! Ethernet with any number of VLAN tags, MPLS labels, PPPoE or SNAP; Linux cooked 1 and 2; loopback;
//! PPP; what NFLOG and Apple's PKTAP write; raw IP.

use etherparse::SingleVlanHeaderSlice;

use crate::LinkType;
use crate::unread::Unread;

/// What follows the link header.
pub(crate) enum Network {
    /// IP, from this byte on.
    Ip(usize),
    /// Nothing that carries TCP.
    Other,
    /// What may carry it.
    Unread(Unread),
}

const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and the number QinQ had before it.
const ETHER_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const ETHER_MPLS: [u16; 2] = [0x8847, 0x8848];
const ETHER_PPPOE: u16 = 0x8864;
/// From here on it is a type; below, a length or what Linux calls its own.
const ETHER_TYPES: u16 = 0x0600;
/// The SNAP header of what an Ethernet type would say.
const SNAP: [u8; 6] = [0xaa, 0xaa, 3, 0, 0, 0];
/// Neighbours, clocks, loops, logins: what links say among themselves.
const ETHER_HOUSEKEEPING: [u16; 11] =
    [0x0806, 0x0842, 0x8035, 0x8809, 0x8863, 0x888e, 0x88cc, 0x88e1, 0x88f7, 0x8902, 0x9000];

/// Finds the IP header; absent where the link header does not fit.
pub(crate) fn network(link_type: LinkType, data: &[u8]) -> Option<Network> {
    match link_type {
        LinkType::ETHERNET => ether(data, 12, 14),
        LinkType::LINUX_SLL => ether(data, 14, 16),
        LinkType::LINUX_SLL2 => ether(data, 0, 20),
        LinkType::NULL | LinkType::LOOP => {
            let family = data.first_chunk::<4>()?;
            // The byte order is the capturing machine's.
            let family = u32::from_le_bytes(*family).min(u32::from_be_bytes(*family));
            Some(of_family(family, 4))
        }
        LinkType::RAW | LinkType::RAW_BSD | LinkType::RAW_OLD | LinkType::IPV4 | LinkType::IPV6 => {
            Some(Network::Ip(0))
        }
        LinkType::PPP => {
            // With or without address and control.
            let at = if data.starts_with(&[0xff, 3]) { 2 } else { 0 };
            ppp(data, at)
        }
        LinkType::NFLOG => nflog(data),
        LinkType::PKTAP => pktap(data),
        LinkType(other) => Some(Network::Unread(Unread::LinkType(other))),
    }
}

/// IPv4 is 2 everywhere; IPv6 is 10, 23, 24, 28 or 30, as the system likes.
fn of_family(family: u32, at: usize) -> Network {
    match family {
        2 | 10 | 23 | 24 | 28 | 30 => Network::Ip(at),
        _ => Network::Other,
    }
}

/// Follows an Ethernet type through VLAN tags.
pub(crate) fn ether(data: &[u8], type_at: usize, end: usize) -> Option<Network> {
    let mut kind = u16_at(data, type_at)?;
    let mut at = end;
    while ETHER_VLAN.contains(&kind) {
        let tag = SingleVlanHeaderSlice::from_slice(data.get(at..)?).ok()?;
        kind = tag.ether_type().0;
        at += tag.slice().len();
    }
    if data.len() < at {
        return None;
    }
    if kind < ETHER_TYPES && data[at..].starts_with(&SNAP) {
        (kind, at) = (u16_at(data, at + 6)?, at + 8);
    }
    if ETHER_MPLS.contains(&kind) {
        return labelled(data, at);
    }
    Some(match kind {
        ETHER_IPV4 | ETHER_IPV6 => Network::Ip(at),
        ETHER_PPPOE => return ppp(data, at + 6),
        ..ETHER_TYPES => Network::Other,
        kind if ETHER_HOUSEKEEPING.contains(&kind) => Network::Other,
        kind => Network::Unread(Unread::EtherType(kind)),
    })
}

/// Follows MPLS labels to the last; what it labels says only by its first byte what it is.
fn labelled(data: &[u8], mut at: usize) -> Option<Network> {
    loop {
        let label = data.get(at..)?.first_chunk::<4>()?;
        at += 4;
        if label[2] & 1 != 0 {
            break;
        }
    }
    Some(match data.get(at)? >> 4 {
        4 | 6 => Network::Ip(at),
        _ => Network::Unread(Unread::LabelledOther),
    })
}

/// IPv4 and IPv6 as PPP numbers them; the rest sets the link up.
fn ppp(data: &[u8], at: usize) -> Option<Network> {
    Some(match data.get(at..at + 2)? {
        [0, 0x21 | 0x57] => Network::Ip(at + 2),
        _ => Network::Other,
    })
}

/// The packet is one of the values that follow a family and a version, in the order of the machine.
fn nflog(data: &[u8]) -> Option<Network> {
    const PAYLOAD: u16 = 9;
    let family = *data.first()?;
    let mut at = 4;
    loop {
        let head = data.get(at..)?.first_chunk::<4>()?;
        let (mut length, mut kind) =
            (u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
        // Which kinds there are tells the order.
        if kind > 0xff {
            (length, kind) = (length.swap_bytes(), kind.swap_bytes());
        }
        if kind == PAYLOAD {
            return Some(of_family(family.into(), at + 4));
        }
        // At least its own head, so this ends.
        at += usize::from(length.max(4)).next_multiple_of(4);
    }
}

/// A head that says its length and what link type follows.
fn pktap(data: &[u8]) -> Option<Network> {
    let head = data.first_chunk::<12>()?;
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (length, link_type) = (number(0) as usize, LinkType(number(8) as u16));
    if link_type == LinkType::PKTAP || length < 12 {
        return Some(Network::Other);
    }
    let inside = network(link_type, data.get(length..)?)?;
    Some(match inside {
        Network::Ip(at) => Network::Ip(length + at),
        other => other,
    })
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*data.get(at..)?.first_chunk()?))
}
