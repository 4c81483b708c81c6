//! What may carry TCP and is not read, by name: it is counted, never passed over in silence.

use std::fmt;

/// One way to carry packets that this crate cannot follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unread {
    /// A link type.
    LinkType(u16),
    /// An Ethernet type.
    EtherType(u16),
    /// MPLS labels before something that is not IP.
    LabelledOther,
    /// A protocol of IP.
    Protocol(u8),
    /// What a tunnel says it carries, as an Ethernet type.
    Tunnelled(u16),
    /// Tunnels in tunnels, deeper than they are followed.
    TooDeep,
}

/// Those that people meet.
const LINK_TYPES: [(u16, &str); 12] = [
    (6, "Token Ring"),
    (8, "SLIP"),
    (50, "PPP over serial lines"),
    (104, "Cisco HDLC"),
    (105, "IEEE 802.11"),
    (107, "Frame Relay"),
    (117, "OpenBSD's packet filter log"),
    (127, "IEEE 802.11 with radiotap"),
    (189, "USB"),
    (220, "USB"),
    (253, "netlink"),
    (272, "Bluetooth"),
];
const ETHER_TYPES: [(u16, &str); 7] = [
    (0x22f3, "TRILL"),
    (0x4305, "batman-adv"),
    (0x88e5, "MACsec, encrypted"),
    (0x88e7, "802.1ah"),
    (0x8903, "FabricPath"),
    (0x8926, "VN-Tag"),
    (0x894f, "NSH"),
];
const PROTOCOLS: [(u8, &str); 3] = [(50, "IPsec ESP, encrypted"), (108, "IPComp"), (115, "L2TP")];

fn name<N: PartialEq>(names: &[(N, &'static str)], number: N) -> &'static str {
    names.iter().find(|(known, _)| *known == number).map_or("no name known", |(_, name)| name)
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LinkType(n) => write!(f, "link type {n} ({})", name(&LINK_TYPES, n)),
            Self::EtherType(n) => write!(f, "Ethernet type {n:#06x} ({})", name(&ETHER_TYPES, n)),
            Self::LabelledOther => f.write_str("MPLS that labels no IP"),
            Self::Protocol(n) => write!(f, "IP protocol {n} ({})", name(&PROTOCOLS, n)),
            Self::Tunnelled(n) => write!(f, "a tunnel for Ethernet type {n:#06x}"),
            Self::TooDeep => f.write_str("tunnels in tunnels in tunnels"),
        }
    }
}
