//! Turns a packet into the TCP segment it carries: link, IP and TCP headers, borrowed.
//!
//! Ethernet with any number of VLAN tags, MPLS labels or PPPoE, Linux cooked 1 and 2, loopback, raw IP; IPv4 with
//! fragments, IPv6 with extension headers and fragments. A packet that claims more than was
//! captured keeps both lengths; one whose headers do not fit is broken, and says where.
//!
//! Not checked: checksums (a sender's network card fills them in after the capture point).

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpAuthHeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice,
    Ipv6RawExtHeaderSlice, SingleVlanHeaderSlice, TcpHeaderSlice,
};

use crate::LinkType;
use crate::fragment::{Fragment, Fragments};

/// A segment of a TCP connection.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub target: SocketAddr,
    /// Number of the first byte (or of SYN).
    pub sequence: u32,
    /// Number of the byte the sender waits for; meaningless without the flag.
    pub acknowledgement: u32,
    /// SYN, FIN, RST, ACK.
    pub flags: Flags,
    /// What was captured of the payload.
    pub payload: &'a [u8],
    /// Bytes the payload had on the wire; more than `payload` has where the capture cut it.
    pub payload_bytes: u32,
}

/// The flags of a segment that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Begins a connection.
    pub syn: bool,
    /// Ends a direction.
    pub fin: bool,
    /// Ends the connection.
    pub rst: bool,
    /// The acknowledgement is meant.
    pub ack: bool,
}

/// What a packet turned out to be.
#[derive(Debug, Clone, Copy)]
pub enum Dissected<'a> {
    /// A segment of TCP.
    Tcp(Segment<'a>),
    /// A piece of an IP packet that is not whole yet.
    Fragment,
    /// Another protocol, or a link type that is not known.
    Other,
    /// Headers that do not fit in what was captured, or contradict themselves.
    Broken(&'static str),
}

/// The IP packet found in a packet.
struct Ip<'a> {
    source: IpAddr,
    target: IpAddr,
    protocol: IpNumber,
    payload: &'a [u8],
    /// Bytes the payload had on the wire.
    payload_bytes: usize,
    fragment: Option<FragmentHead>,
}

const BROKEN_LINK: &str = "link header longer than the packet";
const BROKEN_IP: &str = "IP header that does not fit the packet";
const BROKEN_TCP: &str = "TCP header that does not fit the packet";

/// Dissects one packet. A fragment is kept in `fragments` until its packet is whole.
pub fn dissect<'a>(
    link_type: LinkType,
    data: &'a [u8],
    wire_bytes: u32,
    fragments: &'a mut Fragments,
) -> Dissected<'a> {
    let Some(network) = network(link_type, data) else { return Dissected::Broken(BROKEN_LINK) };
    let Network::Ip(at) = network else { return Dissected::Other };
    let bytes = &data[at..];
    let wire = (wire_bytes as usize).max(data.len()) - at;
    let ip = match bytes.first().map(|first| first >> 4) {
        Some(4) => ipv4(bytes, wire),
        Some(6) => ipv6(bytes, wire),
        _ => None,
    };
    let Some(ip) = ip else { return Dissected::Broken(BROKEN_IP) };
    let Some((identification, byte_offset, more)) = ip.fragment else { return tcp(&ip) };
    if ![IpNumber::TCP, IpNumber::IPV6_DESTINATION_OPTIONS].contains(&ip.protocol) {
        return Dissected::Other;
    }
    if ip.payload.len() < ip.payload_bytes {
        return Dissected::Broken("a fragment that was not captured whole");
    }
    let (source, target, protocol) = (ip.source, ip.target, ip.protocol);
    let fragment = Fragment { source, target, identification, byte_offset, more };
    let Some(whole) = fragments.add(&fragment, ip.payload) else { return Dissected::Fragment };
    // Options for the destination may stand in the part that was fragmented.
    let (mut protocol, mut at, mut inner) = (protocol, 0, None);
    if extensions(&mut protocol, whole, &mut at, &mut inner).is_none() {
        return Dissected::Broken(BROKEN_IP);
    }
    let payload = &whole[at..];
    let payload_bytes = payload.len();
    tcp(&Ip { source, target, protocol, payload, payload_bytes, fragment: None })
}

/// What follows the link header.
enum Network {
    /// IP, from this byte on.
    Ip(usize),
    Other,
}

const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and the number QinQ had before it.
const ETHER_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const ETHER_MPLS: [u16; 2] = [0x8847, 0x8848];
const ETHER_PPPOE: u16 = 0x8864;

/// Finds the IP header; absent where the link header does not fit.
fn network(link_type: LinkType, data: &[u8]) -> Option<Network> {
    match link_type {
        LinkType::ETHERNET => ether(data, 12, 14),
        LinkType::LINUX_SLL => ether(data, 14, 16),
        LinkType::LINUX_SLL2 => ether(data, 0, 20),
        LinkType::NULL | LinkType::LOOP => {
            let family = data.first_chunk::<4>()?;
            // IPv4 is 2 everywhere; IPv6 is 10, 24, 28 or 30, as the system likes. The byte order
            // is the capturing machine's.
            let family = u32::from_le_bytes(*family).min(u32::from_be_bytes(*family));
            Some(match family {
                2 | 10 | 24 | 28 | 30 => Network::Ip(4),
                _ => Network::Other,
            })
        }
        LinkType::RAW | LinkType::RAW_BSD | LinkType::RAW_OLD | LinkType::IPV4 | LinkType::IPV6 => {
            Some(Network::Ip(0))
        }
        _ => Some(Network::Other),
    }
}

/// Follows an Ethernet type through VLAN tags.
fn ether(data: &[u8], type_at: usize, end: usize) -> Option<Network> {
    let mut kind = u16::from_be_bytes(*data.get(type_at..)?.first_chunk()?);
    let mut at = end;
    while ETHER_VLAN.contains(&kind) {
        let tag = SingleVlanHeaderSlice::from_slice(data.get(at..)?).ok()?;
        kind = tag.ether_type().0;
        at += tag.slice().len();
    }
    if data.len() < at {
        return None;
    }
    if ETHER_MPLS.contains(&kind) {
        return labelled(data, at);
    }
    Some(match kind {
        ETHER_IPV4 | ETHER_IPV6 => Network::Ip(at),
        ETHER_PPPOE => match data.get(at + 6..at + 8)? {
            // IPv4 and IPv6, as PPP numbers them.
            [0, 0x21 | 0x57] => Network::Ip(at + 8),
            _ => Network::Other,
        },
        _ => Network::Other,
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
        _ => Network::Other,
    })
}

fn ipv4(bytes: &[u8], wire: usize) -> Option<Ip<'_>> {
    let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
    let header_bytes = header.slice().len();
    // A length of zero is a packet the network card was to cut up: it has what is there.
    let total = match usize::from(header.total_len()) {
        0 => wire,
        total if total >= header_bytes => total.min(wire),
        _ => return None,
    };
    let fragment = header.is_fragmenting_payload().then(|| {
        let byte_offset = usize::from(header.fragments_offset().value()) * 8;
        (header.identification().into(), byte_offset, header.more_fragments())
    });
    Some(Ip {
        source: header.source_addr().into(),
        target: header.destination_addr().into(),
        protocol: header.protocol(),
        payload: &bytes[header_bytes..total.min(bytes.len())],
        payload_bytes: total - header_bytes,
        fragment,
    })
}

fn ipv6(bytes: &[u8], wire: usize) -> Option<Ip<'_>> {
    let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
    let mut at = header.slice().len();
    let total = match usize::from(header.payload_length()) {
        0 => wire,
        payload => (at + payload).min(wire),
    };
    let captured = &bytes[..total.min(bytes.len())];
    let (mut protocol, mut fragment) = (header.next_header(), None);
    extensions(&mut protocol, captured, &mut at, &mut fragment)?;
    Some(Ip {
        source: header.source_addr().into(),
        target: header.destination_addr().into(),
        protocol,
        payload: captured.get(at..)?,
        payload_bytes: total.checked_sub(at)?,
        fragment,
    })
}

/// Identification, place and whether more follows.
type FragmentHead = (u32, usize, bool);

/// Follows the headers between IPv6 and what it carries, up to the first of a fragment.
fn extensions(
    protocol: &mut IpNumber,
    bytes: &[u8],
    at: &mut usize,
    fragment: &mut Option<FragmentHead>,
) -> Option<()> {
    // Each takes at least eight bytes, so this ends with the packet.
    while fragment.is_none() {
        let rest = || bytes.get(*at..);
        match *protocol {
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_DESTINATION_OPTIONS => {
                let extension = Ipv6RawExtHeaderSlice::from_slice(rest()?).ok()?;
                *protocol = extension.next_header();
                *at += extension.slice().len();
            }
            IpNumber::AUTHENTICATION_HEADER => {
                let extension = IpAuthHeaderSlice::from_slice(rest()?).ok()?;
                *protocol = extension.next_header();
                *at += extension.slice().len();
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let extension = Ipv6FragmentHeaderSlice::from_slice(rest()?).ok()?;
                *protocol = extension.next_header();
                *at += extension.slice().len();
                if extension.is_fragmenting_payload() {
                    let byte_offset = usize::from(extension.fragment_offset().value()) * 8;
                    let more = extension.more_fragments();
                    *fragment = Some((extension.identification(), byte_offset, more));
                }
            }
            _ => break,
        }
    }
    Some(())
}

fn tcp<'a>(ip: &Ip<'a>) -> Dissected<'a> {
    if ip.protocol != IpNumber::TCP {
        return Dissected::Other;
    }
    let Ok(header) = TcpHeaderSlice::from_slice(ip.payload) else {
        return Dissected::Broken(BROKEN_TCP);
    };
    let header_bytes = header.slice().len();
    Dissected::Tcp(Segment {
        source: SocketAddr::new(ip.source, header.source_port()),
        target: SocketAddr::new(ip.target, header.destination_port()),
        sequence: header.sequence_number(),
        acknowledgement: header.acknowledgment_number(),
        flags: Flags { syn: header.syn(), fin: header.fin(), rst: header.rst(), ack: header.ack() },
        payload: &ip.payload[header_bytes..],
        // A packet has at most 4 GiB, as its head in the file says.
        payload_bytes: (ip.payload_bytes - header_bytes) as u32,
    })
}
