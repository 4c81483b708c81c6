//! Packets in files of every form, each byte written here.

use std::io::Write;

use super::packets::Wire;

/// How numbers stand in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, number: u16) -> [u8; 2] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    fn u32(self, number: u32) -> [u8; 4] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    fn u64(self, number: u64) -> [u8; 8] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }
}

/// The three heads a packet of the classic format may have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Classic {
    Micro,
    Nano,
    /// Kuznetzov's patch of old: eight bytes more a packet.
    Patched,
}

pub(crate) fn pcap(packets: &[Wire], order: Order, classic: Classic) -> Vec<u8> {
    let (magic, fraction_ns) = match classic {
        Classic::Micro => (0xa1b2_c3d4, 1_000),
        Classic::Nano => (0xa1b2_3c4d, 1),
        Classic::Patched => (0xa1b2_cd34, 1_000),
    };
    let link = packets.first().map_or(1, |p| p.link.0);
    let mut out = order.u32(magic).to_vec();
    out.extend([order.u16(2), order.u16(4)].concat());
    out.extend([0, 0, 65_535, u32::from(link)].map(|n| order.u32(n)).concat());
    for packet in packets {
        let seconds = (packet.time_ns / 1_000_000_000) as u32;
        let fraction = (packet.time_ns % 1_000_000_000) as u32 / fraction_ns;
        let lengths = [packet.data.len() as u32, packet.wire_bytes as u32];
        out.extend([seconds, fraction, lengths[0], lengths[1]].map(|n| order.u32(n)).concat());
        if matches!(classic, Classic::Patched) {
            out.extend([0; 8]);
        }
        out.extend(&packet.data);
    }
    out
}

/// A pcapng file as it grows.
pub(crate) struct Ng {
    pub(crate) out: Vec<u8>,
    order: Order,
}

/// How an interface counts time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// The option's value; `None` leaves it out.
    pub(crate) resolution: Option<u8>,
    /// Seconds that are left out of each time stamp.
    pub(crate) offset: i64,
}

pub(crate) const NANOSECONDS: Clock = Clock { resolution: Some(9), offset: 0 };

impl Clock {
    fn ticks(self, time_ns: u64) -> u64 {
        let time = (i128::from(time_ns) - i128::from(self.offset) * 1_000_000_000) as u128;
        let ticks = match self.resolution.unwrap_or(6) {
            binary @ 0x80.. => (time << (binary & 0x7f)).div_ceil(1_000_000_000),
            decimal @ 0..=9 => time / 10u128.pow(9 - u32::from(decimal)),
            decimal => time * 10u128.pow(u32::from(decimal) - 9),
        };
        ticks as u64
    }
}

impl Ng {
    pub(crate) fn new(order: Order) -> Self {
        let mut ng = Self { out: Vec::new(), order };
        ng.section(order);
        ng
    }

    pub(crate) fn section(&mut self, order: Order) {
        self.order = order;
        let mut body = order.u32(0x1a2b_3c4d).to_vec();
        body.extend([order.u16(1), order.u16(0)].concat());
        body.extend(order.u64(u64::MAX));
        body.extend(self.option(1, "a section".as_bytes()));
        body.extend(self.option(0, &[]));
        self.block(0x0a0d_0d0a, &body);
    }

    fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut out = [self.order.u16(code), self.order.u16(value.len() as u16)].concat();
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    pub(crate) fn block(&mut self, kind: u32, body: &[u8]) {
        let padded = body.len().next_multiple_of(4);
        let length = self.order.u32(padded as u32 + 12);
        self.out.extend(self.order.u32(kind));
        self.out.extend(length);
        self.out.extend(body);
        self.out.extend(vec![0; padded - body.len()]);
        self.out.extend(length);
    }

    pub(crate) fn interface(&mut self, link: u16, clock: Clock) {
        let mut body = [self.order.u16(link), self.order.u16(0)].concat();
        body.extend(self.order.u32(0));
        body.extend(self.option(2, b"eth7"));
        if let Some(resolution) = clock.resolution {
            body.extend(self.option(9, &[resolution]));
        }
        if clock.offset != 0 {
            body.extend(self.option(14, &self.order.u64(clock.offset as u64)));
        }
        body.extend(self.option(0, &[]));
        self.block(1, &body);
    }

    fn padded(&self, data: &[u8]) -> Vec<u8> {
        let mut data = data.to_vec();
        data.resize(data.len().next_multiple_of(4), 0);
        data
    }

    pub(crate) fn enhanced(&mut self, interface: u32, clock: Clock, packet: &Wire, comment: bool) {
        let ticks = clock.ticks(packet.time_ns);
        let lengths = [packet.data.len() as u32, packet.wire_bytes as u32];
        let head = [interface, (ticks >> 32) as u32, ticks as u32, lengths[0], lengths[1]];
        let mut body = head.map(|n| self.order.u32(n)).concat();
        body.extend(self.padded(&packet.data));
        if comment {
            body.extend(self.option(1, "look here \u{fc}".as_bytes()));
            body.extend(self.option(2, &self.order.u32(1)));
            body.extend(self.option(0x0bad, b"\0\0\0\0custom"));
            body.extend(self.option(0, &[]));
        }
        self.block(6, &body);
    }

    pub(crate) fn obsolete(&mut self, clock: Clock, packet: &Wire) {
        let ticks = clock.ticks(packet.time_ns);
        let mut body = [self.order.u16(0), self.order.u16(3)].concat();
        let lengths = [packet.data.len() as u32, packet.wire_bytes as u32];
        let head = [(ticks >> 32) as u32, ticks as u32, lengths[0], lengths[1]];
        body.extend(head.map(|n| self.order.u32(n)).concat());
        body.extend(self.padded(&packet.data));
        self.block(2, &body);
    }

    pub(crate) fn simple(&mut self, packet: &Wire) {
        let mut body = self.order.u32(packet.wire_bytes as u32).to_vec();
        body.extend(self.padded(&packet.data));
        self.block(3, &body);
    }

    /// One of each block that is no packet.
    pub(crate) fn others(&mut self) {
        let mut names = self.option(1, b"\x0a\0\0\x01broker-1\0broker\0");
        names.extend(self.option(0, &[]));
        self.block(4, &names);
        let mut statistics = [0u32; 3].map(|n| self.order.u32(n)).concat();
        statistics.extend(self.option(4, &self.order.u64(1_000)));
        statistics.extend(self.option(0, &[]));
        self.block(5, &statistics);
        let mut secrets = [0x544c_534b, 21u32].map(|n| self.order.u32(n)).concat();
        secrets.extend(b"CLIENT_RANDOM 00 11\n\n");
        self.block(10, &secrets);
        let mut custom = self.order.u32(32_473).to_vec();
        custom.extend(b"whatever");
        self.block(0x0bad, &custom);
        self.block(0x4000_0bad, &custom);
        self.block(9, b"{\"a journal\": 1}");
        self.block(0x1234_5678, &[7; 300]);
        self.block(0x7fff_0001, &[]);
    }
}

pub(crate) fn gzip(members: &[&[u8]]) -> Vec<u8> {
    let member = |bytes: &&[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    };
    members.iter().flat_map(member).collect()
}

pub(crate) fn zstd(frames: &[&[u8]]) -> Vec<u8> {
    frames.iter().flat_map(|bytes| zstd::encode_all(*bytes, 1).unwrap()).collect()
}
