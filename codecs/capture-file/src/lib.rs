//! Packet captures to TCP segments and back.
//!
//! * [`read`]: a pcap or pcapng file, compressed or not, to its [`packet`]s.
//! * [`segment`]: a packet to the TCP segment it carries, behind its `link` and through `tunnel`s;
//!   [`fragment`]s of IP packets put together; [`unread`], what cannot be followed.
//! * [`conversation`]: the bytes of a connection to Ethernet, IP and TCP frames.
//! * [`write`](mod@write): frames to the blocks of a pcapng file.
//!
//! Never: opens a file or a socket, reads a clock, keeps a packet, allocates by a number that the
//! bytes of the file do not yet justify.

pub mod conversation;
pub mod fragment;
mod link;
pub mod packet;
mod pcap;
pub mod pcapng;
pub mod read;
pub mod segment;
mod tunnel;
pub mod unread;
mod window;
pub mod write;

pub use packet::{Damage, DamageKind, Packet};
pub use read::CaptureReader;
pub use unread::Unread;
pub use window::Compression;

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Who opened it.
    Client,
    /// Who was there to be found.
    Server,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// 0 for the client, 1 for the server: its place in a pair.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What the bytes of a packet begin with, by its registered number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: the address family in the byte order of the machine that captured.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP, with or without address and control.
    pub const PPP: Self = Self(9);
    /// Raw IP, as OpenBSD numbers it.
    pub const RAW_BSD: Self = Self(12);
    /// Raw IP, as old files number it.
    pub const RAW_OLD: Self = Self(14);
    /// Raw IP, version by its first four bits.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: the address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture, version 1.
    pub const LINUX_SLL: Self = Self(113);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// What Linux's netfilter logs.
    pub const NFLOG: Self = Self(239);
    /// Any of Apple's interfaces, with a head that says which.
    pub const PKTAP: Self = Self(258);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}
