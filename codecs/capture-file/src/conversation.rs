//! Turns the bytes two programs said to each other into Ethernet, IP and TCP frames.
//!
//! Where a program records its own connections there are no packets, only bytes. A
//! [`Conversation`] invents the packets around them: handshake, data in segments, acknowledgements,
//! close. Sequence numbers, acknowledgements, windows and checksums are those of a connection
//! without loss, so that a packet tool follows it without a complaint.
//!
//! Not here: time stamps, files (see [`crate::write`]).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::Side;

/// Most payload of one segment: the largest that fits IPv4 and IPv6 both, a multiple of four.
pub const SEGMENT_BYTES_MAX: usize = 65_472;

/// Unacknowledged bytes after which the receiver acknowledges without being asked; far below the
/// announced window, which a packet tool would otherwise call full.
const IN_FLIGHT_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// The window every frame announces, times 2^14 by the option of the handshake: one gibibyte.
const WINDOW: u16 = 65_535;
const WINDOW_SHIFT: u8 = 14;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

const HEADERS_BYTES_MAX: usize = 14 + 40 + 20 + 8;

/// One synthesised frame: its headers, and the payload that follows them.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Ethernet, IP and TCP headers.
    pub headers: &'a [u8],
    /// What the segment carries.
    pub payload: &'a [u8],
}

/// One TCP connection as it would look on the wire.
#[derive(Debug, Clone)]
pub struct Conversation {
    client: SocketAddr,
    server: SocketAddr,
    /// Next sequence number of the client and of the server.
    next: [u32; 2],
    /// What the peer of the client and of the server last acknowledged of it.
    acknowledged: [u32; 2],
    closed: bool,
}

impl Conversation {
    /// A conversation that has not begun. `number` makes its initial sequence numbers, so that
    /// two connections over the same ports are told apart.
    #[must_use]
    pub fn new(client: SocketAddr, server: SocketAddr, number: u64) -> Self {
        let (client, server) = same_family(client, server);
        let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let next = [(mixed >> 32) as u32, mixed as u32];
        Self { client, server, next, acknowledged: next, closed: false }
    }

    /// The handshake.
    pub fn open(&mut self, emit: &mut dyn FnMut(Frame<'_>)) {
        self.segment(Side::Client, SYN, &[], emit);
        self.segment(Side::Server, SYN | ACK, &[], emit);
        self.segment(Side::Client, ACK, &[], emit);
    }

    /// Bytes said by one side, as many segments as they need.
    pub fn data(&mut self, from: Side, bytes: &[u8], emit: &mut dyn FnMut(Frame<'_>)) {
        if self.closed {
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.in_flight(from) > IN_FLIGHT_BYTES_MAX {
                self.segment(from.other(), ACK, &[], emit);
            }
            let (now, later) = rest.split_at(rest.len().min(SEGMENT_BYTES_MAX));
            let push = if later.is_empty() { PSH } else { 0 };
            self.segment(from, ACK | push, now, emit);
            rest = later;
        }
    }

    /// An acknowledgement without data by one side; `false`, and nothing, where it has nothing new
    /// to acknowledge (a packet tool would call it a duplicate).
    pub fn acknowledge(&mut self, from: Side, emit: &mut dyn FnMut(Frame<'_>)) -> bool {
        let new = self.in_flight(from.other()) > 0 && !self.closed;
        if new {
            self.segment(from, ACK, &[], emit);
        }
        new
    }

    /// An orderly close that `by` began.
    pub fn close(&mut self, by: Side, emit: &mut dyn FnMut(Frame<'_>)) {
        if !self.closed {
            self.segment(by, FIN | ACK, &[], emit);
            self.segment(by.other(), FIN | ACK, &[], emit);
            self.segment(by, ACK, &[], emit);
            self.closed = true;
        }
    }

    /// A reset by one side.
    pub fn reset(&mut self, by: Side, emit: &mut dyn FnMut(Frame<'_>)) {
        if !self.closed {
            self.segment(by, RST | ACK, &[], emit);
            self.closed = true;
        }
    }

    fn in_flight(&self, from: Side) -> u32 {
        self.next[from.index()].wrapping_sub(self.acknowledged[from.index()])
    }

    fn segment(&mut self, from: Side, flags: u8, payload: &[u8], emit: &mut dyn FnMut(Frame<'_>)) {
        let (me, peer) = (from.index(), from.other().index());
        let acknowledgement = if flags & ACK != 0 { self.next[peer] } else { 0 };
        let mut buffer = [0u8; HEADERS_BYTES_MAX];
        let end = self.headers(&mut buffer, from, flags, acknowledgement, payload);
        emit(Frame { headers: &buffer[..end], payload });
        if flags & ACK != 0 {
            self.acknowledged[peer] = self.next[peer];
        }
        let phantom = u32::from(flags & (SYN | FIN) != 0);
        // A segment has at most SEGMENT_BYTES_MAX bytes.
        self.next[me] = self.next[me].wrapping_add(payload.len() as u32 + phantom);
    }

    fn headers(
        &self,
        buffer: &mut [u8; HEADERS_BYTES_MAX],
        from: Side,
        flags: u8,
        acknowledgement: u32,
        payload: &[u8],
    ) -> usize {
        let (source, target) = match from {
            Side::Client => (self.client, self.server),
            Side::Server => (self.server, self.client),
        };
        // Locally administered addresses, one for each side.
        buffer[0] = 2;
        buffer[5] = 2 - from.index() as u8;
        buffer[6] = 2;
        buffer[11] = 1 + from.index() as u8;
        let options: &[u8] = if flags & SYN != 0 { &SYN_OPTIONS } else { &[] };
        let tcp_bytes = 20 + options.len();
        let length = (tcp_bytes + payload.len()) as u16;
        let (tcp_at, pseudo) = ip_header(buffer, source.ip(), target.ip(), length);

        let tcp = &mut buffer[tcp_at..tcp_at + tcp_bytes];
        tcp[0..2].copy_from_slice(&source.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&target.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&self.next[from.index()].to_be_bytes());
        tcp[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
        tcp[12] = ((tcp_bytes / 4) as u8) << 4;
        tcp[13] = flags;
        tcp[14..16].copy_from_slice(&WINDOW.to_be_bytes());
        tcp[20..].copy_from_slice(options);
        let checksum = fold(pseudo + sum(tcp) + sum(payload));
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        tcp_at + tcp_bytes
    }
}

/// Maximum segment size, no-operation, window scale.
const SYN_OPTIONS: [u8; 8] = {
    let size = (SEGMENT_BYTES_MAX as u16).to_be_bytes();
    [2, 4, size[0], size[1], 1, 3, 3, WINDOW_SHIFT]
};

/// Writes the Ethernet type and the IP header; returns where TCP begins and the sum of the pseudo
/// header.
fn ip_header(
    buffer: &mut [u8; HEADERS_BYTES_MAX],
    source: IpAddr,
    target: IpAddr,
    tcp_bytes: u16,
) -> (usize, u64) {
    const TCP: u8 = 6;
    let (addresses, end) = match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            buffer[12..14].copy_from_slice(&[0x08, 0x00]);
            let ip = &mut buffer[14..34];
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&(20 + tcp_bytes).to_be_bytes());
            ip[6] = 0x40; // Never to be fragmented.
            ip[8] = 64;
            ip[9] = TCP;
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..20].copy_from_slice(&target.octets());
            let checksum = fold(sum(ip));
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            (26..34, 34)
        }
        _ => {
            buffer[12..14].copy_from_slice(&[0x86, 0xdd]);
            let ip = &mut buffer[14..54];
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&tcp_bytes.to_be_bytes());
            ip[6] = TCP;
            ip[7] = 64;
            ip[8..24].copy_from_slice(&as_v6(source).octets());
            ip[24..40].copy_from_slice(&as_v6(target).octets());
            (22..54, 54)
        }
    };
    (end, sum(&buffer[addresses]) + u64::from(TCP) + u64::from(tcp_bytes))
}

fn same_family(client: SocketAddr, server: SocketAddr) -> (SocketAddr, SocketAddr) {
    if client.is_ipv4() == server.is_ipv4() {
        return (client, server);
    }
    let mapped = |a: SocketAddr| SocketAddr::new(as_v6(a.ip()).into(), a.port());
    (mapped(client), mapped(server))
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Adds up 16-bit words in network order (RFC 1071), an odd last byte padded with zero. Four
/// accumulators let the processor add in parallel; the total of a segment stays far below 2^64.
fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [0u64; 4];
    let mut chunks = bytes.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(4)) {
            *lane += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let mut pairs = chunks.remainder().chunks_exact(2);
    for pair in &mut pairs {
        total += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    total + pairs.remainder().first().map_or(0, |&odd| u64::from(odd) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    /// Runs a conversation and says of each frame: side, flags, relative sequence number and
    /// acknowledgement, length; checksums are checked on the way.
    fn told(client: &str, server: &str, talk: impl FnOnce(&mut Conversation, &mut Vec<Vec<u8>>)) {
        let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
        let mut conversation = Conversation::new(client, server, 7);
        let mut frames = Vec::new();
        talk(&mut conversation, &mut frames);
        for frame in &frames {
            let sliced = SlicedPacket::from_ethernet(frame).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("not TCP") };
            match sliced.net {
                Some(NetSlice::Ipv4(ip)) => {
                    let header = ip.header();
                    assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
                    assert_eq!(
                        tcp.checksum(),
                        tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap()
                    );
                }
                Some(NetSlice::Ipv6(ip)) => {
                    let header = ip.header();
                    assert_eq!(
                        tcp.checksum(),
                        tcp.calc_checksum_ipv6(header.source(), header.destination()).unwrap()
                    );
                }
                _ => panic!("not IP"),
            }
        }
    }

    fn whole(client: &str, server: &str) {
        told(client, server, |conversation, frames| {
            let mut emit = |f: Frame<'_>| frames.push([f.headers, f.payload].concat());
            conversation.open(&mut emit);
            conversation.data(Side::Client, &vec![0xa5; 200_001], &mut emit);
            assert!(conversation.acknowledge(Side::Server, &mut emit));
            assert!(!conversation.acknowledge(Side::Server, &mut emit));
            conversation.data(Side::Server, b"odd", &mut emit);
            conversation.close(Side::Server, &mut emit);
            conversation.data(Side::Server, b"too late", &mut emit);
            assert_eq!(frames.len(), 3 + 4 + 1 + 1 + 3);
        });
    }

    #[test]
    fn every_checksum_of_a_conversation_is_right() {
        whole("127.0.0.1:50000", "127.0.0.1:9092");
        whole("[::1]:50000", "[fe80::2]:9092");
        whole("127.0.0.1:50000", "[::1]:9092");
    }

    #[test]
    fn sequence_numbers_follow_the_bytes() {
        let mut c = Conversation::new(([1, 1, 1, 1], 5).into(), ([1, 1, 1, 2], 6).into(), 0);
        let start = c.next;
        let mut last = Vec::new();
        let mut emit = |f: Frame<'_>| last = f.headers.to_vec();
        c.open(&mut emit);
        c.data(Side::Client, &[1; 10], &mut emit);
        c.data(Side::Server, &[1; 20], &mut emit);
        c.reset(Side::Client, &mut emit);
        assert_eq!(last[34 + 13], RST | ACK);
        assert_eq!(last[34 + 4..34 + 8], (start[0].wrapping_add(11)).to_be_bytes());
        assert_eq!(last[34 + 8..34 + 12], (start[1].wrapping_add(21)).to_be_bytes());
    }
}
