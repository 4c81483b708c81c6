//! Turns a packet into the TCP segment it carries: link, IP and TCP headers, borrowed.
//!
//! What links there are is in `link`, what tunnels in `tunnel`; IPv4 with fragments, IPv6 with
//! extension headers and fragments. A packet that claims more than was captured keeps both
//! lengths; one whose headers do not fit is broken, and says where.
//!
//! Not checked: checksums (a sender's network card fills them in after the capture point).

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpAuthHeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice,
    Ipv6RawExtHeaderSlice, TcpHeaderSlice,
};

use crate::LinkType;
use crate::fragment::{Fragment, Fragments};
use crate::link::{Network, network};
use crate::tunnel::{Inside, inside, is_tunnel};
use crate::unread::Unread;

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
    /// Another protocol.
    Other,
    /// What may carry TCP in a way that is not followed.
    Unread(Unread),
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
const BROKEN_TUNNEL: &str = "a tunnel's header longer than the packet";
const BROKEN_TCP: &str = "TCP header that does not fit the packet";

/// Tunnels that are followed one in the other.
const TUNNELS_MAX: usize = 3;

/// Dissects one packet. A fragment is kept in `fragments` until its packet is whole.
pub fn dissect<'a>(
    link_type: LinkType,
    data: &'a [u8],
    wire_bytes: u32,
    fragments: &'a mut Fragments,
) -> Dissected<'a> {
    let wire = (wire_bytes as usize).max(data.len());
    framed(link_type, data, wire, Some(fragments), TUNNELS_MAX)
}

/// A frame of a link, at the bottom or in so many tunnels less than are followed.
fn framed<'a>(
    link_type: LinkType,
    data: &'a [u8],
    wire: usize,
    fragments: Option<&'a mut Fragments>,
    tunnels: usize,
) -> Dissected<'a> {
    match network(link_type, data) {
        Some(Network::Ip(at)) => packet(&data[at..], wire - at, fragments, tunnels),
        Some(Network::Other) => Dissected::Other,
        Some(Network::Unread(what)) => Dissected::Unread(what),
        None => Dissected::Broken(BROKEN_LINK),
    }
}

/// A packet of IP.
fn packet<'a>(
    bytes: &'a [u8],
    wire: usize,
    fragments: Option<&'a mut Fragments>,
    tunnels: usize,
) -> Dissected<'a> {
    let ip = match bytes.first().map(|first| first >> 4) {
        Some(4) => ipv4(bytes, wire),
        Some(6) => ipv6(bytes, wire),
        _ => None,
    };
    let Some(ip) = ip else { return Dissected::Broken(BROKEN_IP) };
    let Some((identification, byte_offset, more)) = ip.fragment else {
        return carried(&ip, fragments, tunnels);
    };
    let wanted = [IpNumber::TCP, IpNumber::IPV6_DESTINATION_OPTIONS].contains(&ip.protocol)
        || is_tunnel(ip.protocol);
    let Some(fragments) = fragments.filter(|_| wanted) else { return Dissected::Other };
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
    let ip = Ip { source, target, protocol, payload, payload_bytes, fragment: None };
    // A fragment inside has no place any more: the one for whole packets is lent out.
    carried(&ip, None, tunnels)
}

/// What a whole packet of IP carries.
fn carried<'a>(ip: &Ip<'a>, fragments: Option<&'a mut Fragments>, tunnels: usize) -> Dissected<'a> {
    if ip.protocol == IpNumber::TCP {
        return tcp(ip);
    }
    let inside = inside(ip.protocol, ip.payload);
    let (at, is_framed) = match inside {
        Some(Inside::Ip(at)) => (at, false),
        Some(Inside::Ethernet(at)) => (at, true),
        Some(Inside::Other) => return Dissected::Other,
        Some(Inside::Unread(what)) => return Dissected::Unread(what),
        None => return Dissected::Broken(BROKEN_TUNNEL),
    };
    let Some(payload) = ip.payload.get(at..) else { return Dissected::Broken(BROKEN_TUNNEL) };
    let wire = ip.payload_bytes - at;
    match tunnels.checked_sub(1) {
        None => Dissected::Unread(Unread::TooDeep),
        Some(tunnels) if is_framed => framed(LinkType::ETHERNET, payload, wire, fragments, tunnels),
        Some(tunnels) => packet(payload, wire, fragments, tunnels),
    }
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
