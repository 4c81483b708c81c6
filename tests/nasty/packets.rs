//! TCP segments taken out of a capture, and put back into packets of any shape.
//!
//! Not here: checksums; nobody who reads captures looks at them, for network cards fill them in
//! after the point of capture.

use std::net::{IpAddr, SocketAddr};

use capture_file::fragment::Fragments;
use capture_file::segment::{Dissected, dissect};
use capture_file::{CaptureReader, LinkType};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// One segment.
#[derive(Debug, Clone)]
pub(crate) struct Seg {
    pub(crate) time_ns: u64,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

impl Seg {
    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The connection it belongs to, whoever says it.
    pub(crate) fn ends(&self) -> [SocketAddr; 2] {
        let mut ends = [self.from, self.to];
        ends.sort();
        ends
    }

    /// The number after its last byte.
    pub(crate) fn end(&self) -> u32 {
        let phantom = u32::from(self.is(SYN)) + u32::from(self.is(FIN));
        self.seq.wrapping_add(self.payload.len() as u32 + phantom)
    }
}

/// The segments of a capture; its first packets alone where that is enough.
pub(crate) fn segments(capture: &[u8], packets_max: usize) -> Vec<Seg> {
    let mut reader = CaptureReader::new(capture).unwrap();
    let mut fragments = Fragments::default();
    let mut segments = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        let found = dissect(packet.link_type, packet.data, packet.wire_bytes, &mut fragments);
        if let Dissected::Tcp(s) = found {
            let flags = u8::from(s.flags.fin)
                | u8::from(s.flags.syn) << 1
                | u8::from(s.flags.rst) << 2
                | u8::from(s.flags.ack) << 4;
            segments.push(Seg {
                time_ns: packet.time_ns,
                from: s.source,
                to: s.target,
                seq: s.sequence,
                ack: s.acknowledgement,
                flags,
                payload: s.payload.to_vec(),
            });
        }
        if segments.len() == packets_max {
            break;
        }
    }
    segments
}

/// One packet as it stands in a file.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) time_ns: u64,
    pub(crate) link: LinkType,
    pub(crate) data: Vec<u8>,
    pub(crate) wire_bytes: usize,
}

/// Which IP the segments travel in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ip {
    V4,
    /// With eight bytes of options.
    V4Options,
    /// A total length of zero, as a card shows that will cut the packet up itself.
    V4NoLength,
    V6,
    /// Hop-by-hop, routing, destination options, authentication and an atomic fragment header.
    V6Headers,
    /// A jumbogram: the length is in a hop-by-hop option.
    V6Jumbo,
}

impl Ip {
    fn is_v6(self) -> bool {
        matches!(self, Self::V6 | Self::V6Headers | Self::V6Jumbo)
    }
}

/// What stands before IP.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Link {
    Ethernet,
    /// Tags, outermost first.
    Vlan(&'static [u16]),
    /// Two labels.
    Mpls,
    Pppoe,
    Sll,
    Sll2,
    /// Bytes of the address family; for IPv4 and IPv6.
    Null([u8; 4], [u8; 4]),
    Loop,
    Raw(u16),
    /// Ethernet with a length in the place of the type.
    Snap,
    Ppp(&'static [u8]),
    Nflog,
    Pktap,
    /// In a tunnel between other machines.
    In(Tunnel),
}

fn tcp(seg: &Seg) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(seg.from.port().to_be_bytes());
    out.extend(seg.to.port().to_be_bytes());
    out.extend(seg.seq.to_be_bytes());
    out.extend(seg.ack.to_be_bytes());
    // Two no-operations and a time stamp, as Linux has them.
    out.extend([0x80, seg.flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    out.extend(&seg.payload);
    out
}

fn v6_of(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
        }
    }
}

fn v4_of(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => v6.octets().last_chunk().copied().unwrap(),
    }
}

/// Header bytes, and everything after them.
fn ip(seg: &Seg, ip: Ip) -> (Vec<u8>, Vec<u8>) {
    let payload = tcp(seg);
    if !ip.is_v6() {
        let options: &[u8] =
            if matches!(ip, Ip::V4Options) { &[0x94, 4, 0, 0, 1, 1, 1, 0] } else { &[] };
        let header_bytes = 20 + options.len();
        let length = (header_bytes + payload.len()) as u16;
        let length = if matches!(ip, Ip::V4NoLength) { 0 } else { length };
        let mut header = vec![0x40 | (header_bytes / 4) as u8, 0];
        header.extend(length.to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        header.extend(v4_of(seg.from.ip()));
        header.extend(v4_of(seg.to.ip()));
        header.extend(options);
        return (header, payload);
    }
    let (next, extensions): (u8, Vec<u8>) = match ip {
        Ip::V6Headers => {
            let mut all = vec![43, 0, 1, 4, 0, 0, 0, 0]; // Hop by hop, padded.
            all.extend([60, 0, 0, 0, 0, 0, 0, 0]); // Routing without a segment left.
            all.extend([51, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // Destination options.
            all.extend([
                44, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
            ]);
            all.extend([6, 0, 0, 0, 0, 0, 0, 9]); // All of it is the first fragment.
            (0, all)
        }
        Ip::V6Jumbo => {
            let mut all = vec![6, 0, 0xc2, 4];
            all.extend((payload.len() as u32 + 8).to_be_bytes());
            (0, all)
        }
        _ => (6, Vec::new()),
    };
    let length =
        if matches!(ip, Ip::V6Jumbo) { 0 } else { (extensions.len() + payload.len()) as u16 };
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(length.to_be_bytes());
    header.extend([next, 64]);
    header.extend(v6_of(seg.from.ip()));
    header.extend(v6_of(seg.to.ip()));
    (header, [extensions, payload].concat())
}

fn link(link: Link, v6: bool, packet: &[u8]) -> (LinkType, Vec<u8>) {
    let kind: u16 = if v6 { 0x86dd } else { 0x0800 };
    let ethernet =
        |between: &[u8], kind: u16| [&[2; 12][..], between, &kind.to_be_bytes(), packet].concat();
    match link {
        Link::Ethernet => (LinkType::ETHERNET, ethernet(&[], kind)),
        Link::Vlan(tags) => {
            let tags: Vec<u8> =
                tags.iter().flat_map(|tag| [(tag >> 8) as u8, *tag as u8, 0, 7]).collect();
            (LinkType::ETHERNET, ethernet(&tags, kind))
        }
        Link::Mpls => {
            let labels = [&[0x88, 0x47, 0, 1, 0x10, 64, 0, 1, 0x11, 64][..], packet].concat();
            (LinkType::ETHERNET, [&[2; 12][..], &labels].concat())
        }
        Link::Pppoe => {
            let protocol = if v6 { 0x57 } else { 0x21 };
            let length = ((packet.len() + 2) as u16).to_be_bytes();
            let head = [0x88, 0x64, 0x11, 0, 0, 9, length[0], length[1], 0, protocol];
            (LinkType::ETHERNET, [&[2; 12][..], &head, packet].concat())
        }
        Link::Sll => (LinkType::LINUX_SLL, [&[0; 14][..], &kind.to_be_bytes(), packet].concat()),
        Link::Sll2 => (LinkType::LINUX_SLL2, [&kind.to_be_bytes()[..], &[0; 18], packet].concat()),
        Link::Null(v4_family, v6_family) => {
            let family = if v6 { v6_family } else { v4_family };
            (LinkType::NULL, [&family[..], packet].concat())
        }
        Link::Loop => (LinkType::LOOP, [&[0, 0, 0, if v6 { 30 } else { 2 }][..], packet].concat()),
        Link::Raw(number) => (LinkType(number), packet.to_vec()),
        Link::Snap => {
            // What is longer than a length may say is a trailer to some.
            let length = ((packet.len() + 8) as u16).min(1_500).to_be_bytes();
            let head = [length, [0xaa, 0xaa], [3, 0], [0, 0], kind.to_be_bytes()].concat();
            (LinkType::ETHERNET, [&[2; 12][..], &head, packet].concat())
        }
        Link::Ppp(head) => {
            let protocol = [0, if v6 { 0x57 } else { 0x21 }];
            (LinkType::PPP, [head, &protocol, packet].concat())
        }
        Link::Nflog => {
            let head = [if v6 { 10 } else { 2 }, 0, 0, 5, 8, 0, 1, 0, 8, 0, 0, 1, 6, 0, 10, 0];
            let prefix = [b'x', 0, 0, 0];
            let length = (packet.len() as u16 + 4).to_le_bytes();
            let head = [&head[..], &prefix, &length, &[9, 0]].concat();
            (LinkType::NFLOG, [&head[..], packet].concat())
        }
        Link::Pktap => {
            let mut head = [0; 108];
            (head[0], head[4], head[8]) = (108, 1, 1);
            (LinkType::PKTAP, [&head[..], &ethernet(&[], kind)].concat())
        }
        Link::In(tunnel) => {
            let (protocol, inside) = tunnelled(tunnel, v6, packet);
            (LinkType::RAW, outer(protocol, &inside))
        }
    }
}

/// What packets travel in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tunnel {
    Ip,
    /// GRE with a key and a sequence number.
    Gre,
    GreBridged,
    Erspan(u8),
    /// To that port.
    Vxlan(u16),
    /// With that many words of options; with the packet itself or an Ethernet frame.
    Geneve(u8, bool),
    /// VXLAN in IP in GRE.
    Three,
}

/// What a tunnel has between its own IP header and the packet, and the protocol of it.
fn tunnelled(tunnel: Tunnel, v6: bool, packet: &[u8]) -> (u8, Vec<u8>) {
    let kind: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
    let frame = [&[4; 12][..], &kind, packet].concat();
    let udp = |port: u16, inside: Vec<u8>| {
        let length = (inside.len() + 8) as u16;
        let head = [[0xc0, 0xde], port.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
        (17, [head, inside].concat())
    };
    match tunnel {
        Tunnel::Ip => (if v6 { 41 } else { 4 }, packet.to_vec()),
        Tunnel::Gre => (47, [&[0x30, 0][..], &kind, &[0, 0, 0, 7, 0, 0, 0, 9], packet].concat()),
        Tunnel::GreBridged => (47, [&[0, 0, 0x65, 0x58][..], &frame].concat()),
        Tunnel::Erspan(1) => (47, [&[0, 0, 0x88, 0xbe][..], &frame].concat()),
        Tunnel::Erspan(2) => {
            let head = [&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1][..], &[0x10, 0, 0, 1, 0, 0, 0, 0]];
            (47, [&head.concat(), &frame[..]].concat())
        }
        Tunnel::Erspan(_) => {
            let head = [&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20][..], &[0; 10], &[1], &[5; 8]];
            (47, [&head.concat(), &frame[..]].concat())
        }
        Tunnel::Vxlan(port) => udp(port, [&[8, 0, 0, 0, 0, 0, 42, 0][..], &frame].concat()),
        Tunnel::Geneve(words, bridged) => {
            let kind = if bridged { [0x65, 0x58] } else { kind };
            let head = [&[words, 0][..], &kind, &[0, 0, 42, 0], &vec![6; usize::from(words) * 4]];
            udp(6081, [&head.concat()[..], if bridged { &frame } else { packet }].concat())
        }
        Tunnel::Three => {
            let (protocol, inside) = tunnelled(Tunnel::Vxlan(4789), v6, packet);
            let inside = outer(protocol, &inside);
            (47, [&[0, 0, 8, 0][..], &outer(4, &inside)].concat())
        }
    }
}

/// The IPv4 packet of a tunnel.
fn outer(protocol: u8, inside: &[u8]) -> Vec<u8> {
    let length = ((inside.len() + 20) as u16).to_be_bytes();
    let head = [0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
    [&head[..], &[192, 168, 0, 1, 192, 168, 0, 2], inside].concat()
}

/// Packets of segments.
pub(crate) fn packets(segments: &[Seg], how: Ip, below: Link) -> Vec<Wire> {
    let packet = |seg: &Seg| {
        let (header, rest) = ip(seg, how);
        let (link, data) = link(below, how.is_v6(), &[header, rest].concat());
        Wire { time_ns: seg.time_ns, link, wire_bytes: data.len(), data }
    };
    segments.iter().map(packet).collect()
}

/// How fragments of a packet follow each other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pieces {
    InOrder,
    Reversed,
    /// Each is said twice, and reaches into the next.
    Overlapping,
    /// Now and then one is missing.
    Missing,
    /// In IPv6, destination options stand in the fragmented part.
    OptionsInside,
}

/// Packets of segments, those that are large in fragments.
pub(crate) fn fragments(segments: &[Seg], v6: bool, pieces: Pieces) -> Vec<Wire> {
    let (mut out, mut large) = (Vec::new(), 0);
    for (number, seg) in segments.iter().enumerate() {
        let (header, mut rest) = ip(seg, if v6 { Ip::V6 } else { Ip::V4 });
        let mut protocol = 6;
        if matches!(pieces, Pieces::OptionsInside) && v6 {
            rest.splice(..0, [6, 0, 1, 4, 0, 0, 0, 0]);
            protocol = 60;
        }
        let mut parts = Vec::new();
        let overlap = if matches!(pieces, Pieces::Overlapping) { 16 } else { 0 };
        let count = rest.len().div_ceil(64);
        for at in 0..count {
            let end = (at * 64 + 64 + overlap).min(rest.len());
            let more = end < rest.len();
            let part = &rest[at * 64..end];
            parts.push(fragment(&header, part, at * 8, more, number as u32, v6, protocol));
            if !more {
                break;
            }
        }
        match pieces {
            Pieces::Reversed => parts.reverse(),
            Pieces::Overlapping => {
                parts = parts.iter().flat_map(|p| [p.clone(), p.clone()]).collect()
            }
            Pieces::Missing if parts.len() > 2 => {
                large += 1;
                if large % 8 == 0 {
                    parts.remove(1);
                }
            }
            _ => {}
        }
        out.extend(parts.into_iter().map(|data| Wire {
            time_ns: seg.time_ns,
            link: LinkType::RAW,
            wire_bytes: data.len(),
            data,
        }));
    }
    out
}

fn fragment(
    header: &[u8],
    part: &[u8],
    eighths: usize,
    more: bool,
    number: u32,
    v6: bool,
    protocol: u8,
) -> Vec<u8> {
    let mut header = header.to_vec();
    if v6 {
        header[4..6].copy_from_slice(&(part.len() as u16 + 8).to_be_bytes());
        header[6] = 44;
        header.extend([protocol, 0]);
        header.extend(((eighths as u16) << 3 | u16::from(more)).to_be_bytes());
        header.extend(number.to_be_bytes());
    } else {
        header[2..4].copy_from_slice(&(part.len() as u16 + 20).to_be_bytes());
        header[4..6].copy_from_slice(&(number as u16).to_be_bytes());
        header[6..8].copy_from_slice(&(eighths as u16 | u16::from(more) << 13).to_be_bytes());
    }
    [&header, part].concat()
}
