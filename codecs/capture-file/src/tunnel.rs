//! Finds the packet inside a packet: IP in IP, GRE, ERSPAN, VXLAN and Geneve.
//!
//! Overlays of containers and mirrored ports look like this from outside. Where a capture has the
//! packet inside as well, both are segments of one connection, and the second is one sent again.

use etherparse::IpNumber;

use crate::unread::Unread;

/// What an IP packet carries.
pub(crate) enum Inside {
    /// IP, from this byte of the payload on.
    Ip(usize),
    /// An Ethernet frame.
    Ethernet(usize),
    /// Nothing that is looked for.
    Other,
    /// What may be a packet.
    Unread(Unread),
}

const GRE: IpNumber = IpNumber(47);
const ESP: IpNumber = IpNumber(50);
const IPCOMP: IpNumber = IpNumber(108);
const L2TP: IpNumber = IpNumber(115);

const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;
/// Ethernet in a tunnel.
const BRIDGED: u16 = 0x6558;
const ERSPAN: u16 = 0x88be;
const ERSPAN_3: u16 = 0x22eb;

const UDP_HEADER_BYTES: usize = 8;
/// The port of the standard, and the one Linux had before it, which flannel keeps.
const VXLAN: [u16; 2] = [4789, 8472];
const GENEVE: u16 = 6081;

/// Whether it may be a tunnel at all, so that its fragments are worth keeping.
pub(crate) fn is_tunnel(protocol: IpNumber) -> bool {
    [IpNumber::IPV4, IpNumber::IPV6, GRE].contains(&protocol)
}

/// Finds what an IP packet carries that is no TCP; absent where its heads do not fit.
pub(crate) fn inside(protocol: IpNumber, payload: &[u8]) -> Option<Inside> {
    match protocol {
        IpNumber::IPV4 | IpNumber::IPV6 => Some(Inside::Ip(0)),
        GRE => gre(payload),
        IpNumber::UDP => Some(udp(payload)),
        ESP | IPCOMP | L2TP => Some(Inside::Unread(Unread::Protocol(protocol.0))),
        _ => Some(Inside::Other),
    }
}

fn gre(payload: &[u8]) -> Option<Inside> {
    let head = payload.first_chunk::<4>()?;
    let (flags, kind) = (head[0], u16::from_be_bytes([head[2], head[3]]));
    // Another version is what PPTP has; routes in the head are long gone.
    if head[1] & 7 != 0 || flags & 0x40 != 0 {
        return Some(Inside::Unread(Unread::Tunnelled(kind)));
    }
    // Checksum, key and sequence number, as the flags say.
    let optional = [0x80, 0x20, 0x10].iter().filter(|&&flag| flags & flag != 0).count();
    let at = 4 + 4 * optional;
    Some(match kind {
        // Without a sequence number it is the first kind, which has no head of its own.
        ERSPAN if flags & 0x10 == 0 => Inside::Ethernet(at),
        ERSPAN => Inside::Ethernet(at + 8),
        ERSPAN_3 => {
            let more = payload.get(at + 11)? & 1;
            Inside::Ethernet(at + 12 + 8 * usize::from(more))
        }
        kind => of_type(kind, at),
    })
}

fn udp(payload: &[u8]) -> Inside {
    let Some((head, [first, second, kind @ ..])) = payload.split_first_chunk::<UDP_HEADER_BYTES>()
    else {
        return Inside::Other;
    };
    let port = u16::from_be_bytes([head[2], head[3]]);
    match kind.first_chunk::<2>() {
        // The flag says that a network is named, as it always is.
        _ if VXLAN.contains(&port) && first & 8 != 0 => Inside::Ethernet(UDP_HEADER_BYTES + 8),
        Some(kind) if port == GENEVE && first >> 6 == 0 && second & 0x80 == 0 => {
            let options = usize::from(first & 0x3f) * 4;
            of_type(u16::from_be_bytes(*kind), UDP_HEADER_BYTES + 8 + options)
        }
        _ => Inside::Other,
    }
}

fn of_type(kind: u16, at: usize) -> Inside {
    match kind {
        ETHER_IPV4 | ETHER_IPV6 => Inside::Ip(at),
        BRIDGED => Inside::Ethernet(at),
        kind => Inside::Unread(Unread::Tunnelled(kind)),
    }
}
