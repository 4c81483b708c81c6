//! Packets of an interface as they pass, from the kernel's ring.
//!
//! The kernel filters, stamps and writes packets into a ring of blocks that is mapped into this
//! process (`PACKET_RX_RING`, TPACKET_V3); what finds the ring full is dropped and counted.
//! Packets begin with their IP header. On loopback, where each packet passes twice, one is taken.
//!
//! Never: sends; opens the socket (it is handed in, made by [`packet_socket`]).

#![allow(unsafe_code)] // A packet socket's ring has no safe interface: options, map and layout.

use std::ffi::CString;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use capture_file::LinkType;
use capture_file::write::{self, PacketBlock};
use libc::{c_int, c_void};

use super::filter::{self, Loopback};
use super::recorder::{CaptureFiles, Recorded};

/// What the packets of a [`LiveCapture`] begin with.
pub const LIVE_LINK_TYPE: LinkType = LinkType::RAW;

const BLOCK_BYTES: usize = 1024 * 1024;
/// The kernel hands over a block that is not full after this time.
const BLOCK_MS_MAX: u32 = 50;

/// Why packets cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The process may not.
    #[error(
        "capturing packets needs CAP_NET_RAW (run as root, or `setcap cap_net_raw+ep` on the \
         program); without it, `fencepost proxy --capture` records what passes through it"
    )]
    NotPermitted,
    /// There is no such interface.
    #[error("there is no interface {0:?}")]
    NoInterface(String),
    /// The kernel refused.
    #[error("packet socket: {step}")]
    Kernel {
        /// What was asked of it.
        step: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// What is captured.
#[derive(Debug, Clone)]
pub struct LiveOptions {
    /// The interface's name; every interface where absent.
    pub interface: Option<String>,
    /// Ports of brokers; TCP over any port where there are none.
    pub ports: Vec<u16>,
    /// Size of the ring, rounded up to whole blocks of a mebibyte.
    pub ring_bytes: usize,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self { interface: None, ports: Vec::new(), ring_bytes: 64 * BLOCK_BYTES }
    }
}

/// A packet as it passed; it begins with its IP header.
#[derive(Debug, Clone, Copy)]
pub struct LivePacket<'a> {
    /// Nanoseconds since 1970, as the kernel stamped it.
    pub time_ns: u64,
    /// What was captured.
    pub data: &'a [u8],
    /// Bytes it had.
    pub wire_bytes: u32,
}

/// Counts of a live capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveCounts {
    /// Packets that passed the filter.
    pub received: u64,
    /// Those of them that found the ring full and are missing.
    pub dropped: u64,
}

/// A capture of an interface.
#[derive(Debug)]
pub struct LiveCapture {
    socket: OwnedFd,
    ring: Ring,
    /// The block that is handed over next.
    next_block: usize,
    counts: LiveCounts,
}

/// A socket that sees packets, not bound to an interface yet.
///
/// # Errors
/// Where the process may not, or the kernel refuses.
pub fn packet_socket() -> Result<OwnedFd, LiveError> {
    // SAFETY: no pointers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket >= 0 {
        // SAFETY: the kernel just gave it to us alone.
        return Ok(unsafe { OwnedFd::from_raw_fd(socket) });
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::PermissionDenied => Err(LiveError::NotPermitted),
        source => Err(LiveError::Kernel { step: "opening it", source }),
    }
}

impl LiveCapture {
    /// Begins to capture.
    ///
    /// # Errors
    /// Where there is no such interface, or the kernel refuses.
    pub fn new(socket: OwnedFd, options: &LiveOptions) -> Result<Self, LiveError> {
        let index = match &options.interface {
            Some(name) => interface_index(name)?,
            None => 0,
        };
        let loopback = match interface_index("lo") {
            Ok(lo) if lo == index => Loopback::Alone,
            Ok(lo) if index == 0 => Loopback::Among(lo.unsigned_abs()),
            _ => Loopback::Absent,
        };
        attach_filter(&socket, &filter::tcp_over(&options.ports, loopback))?;
        set(&socket, libc::PACKET_VERSION, &TPACKET_V3, "choosing TPACKET_V3")?;
        let blocks = options.ring_bytes.div_ceil(BLOCK_BYTES).max(2);
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_BYTES as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: 2_048,
            tp_frame_nr: (blocks * BLOCK_BYTES / 2_048) as u32,
            tp_retire_blk_tov: BLOCK_MS_MAX,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::PACKET_RX_RING, &request, "making its ring")?;
        let ring = Ring::map(&socket, blocks)?;
        bind(&socket, index)?;
        Ok(Self { socket, ring, next_block: 0, counts: LiveCounts::default() })
    }

    /// Waits up to `wait_ms` for packets and hands over what is there; returns how many. None is
    /// no end: nothing passed for so long.
    ///
    /// # Errors
    /// Where waiting fails: the interface is gone, for example.
    pub fn next_packets(
        &mut self,
        wait_ms: u32,
        mut take: impl FnMut(LivePacket<'_>),
    ) -> io::Result<u64> {
        if !self.ring.is_ready(self.next_block) {
            let wait_ms = c_int::try_from(wait_ms).unwrap_or(c_int::MAX);
            wait_for(&self.socket, wait_ms)?;
        }
        let mut packets = 0;
        // One turn at most: a busy interface must not keep the caller from what else it does.
        for _ in 0..self.ring.blocks {
            if !self.ring.is_ready(self.next_block) {
                break;
            }
            packets += self.ring.packets_of(self.next_block, &mut take);
            self.ring.give_back(self.next_block);
            self.next_block = (self.next_block + 1) % self.ring.blocks;
        }
        Ok(packets)
    }

    /// What passed and what was dropped so far.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn counts(&mut self) -> io::Result<LiveCounts> {
        // SAFETY: plain numbers, for which zero is a value.
        let mut new: libc::tpacket_stats_v3 = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `new`, which has as many.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut new).cast::<c_void>(),
                &raw mut length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // The kernel counts anew after each question, drops included in what was received.
        self.counts.received += u64::from(new.tp_packets);
        self.counts.dropped += u64::from(new.tp_drops);
        Ok(self.counts)
    }

    /// Writes what passes into pcapng files until `goes_on` says no; it is told what was received
    /// and dropped, after each handful of packets and every `wait_ms`.
    ///
    /// # Errors
    /// Where waiting or writing fails.
    pub fn record(
        &mut self,
        files: &mut CaptureFiles,
        wait_ms: u32,
        mut goes_on: impl FnMut(LiveCounts, Recorded) -> bool,
    ) -> io::Result<LiveCounts> {
        let mut blocks = Vec::with_capacity(2 * WRITE_BYTES);
        let mut last_time_ns = 0;
        while goes_on(self.counts()?, files.recorded()) {
            let mut failed = Ok(());
            self.next_packets(wait_ms, |packet| {
                let LivePacket { time_ns, data, wire_bytes } = packet;
                last_time_ns = time_ns;
                let block = PacketBlock {
                    interface: 0,
                    time_ns,
                    headers: data,
                    payload: &[],
                    comments: &[],
                };
                write::cut_packet(&mut blocks, &block, wire_bytes);
                files.count_packet();
                if blocks.len() >= WRITE_BYTES && failed.is_ok() {
                    failed = files.write(&blocks);
                    blocks.clear();
                }
            })?;
            failed.and_then(|()| files.write(&blocks))?;
            blocks.clear();
        }
        let counts = self.counts()?;
        write::statistics(&mut blocks, 0, last_time_ns, counts.received, counts.dropped);
        files.write(&blocks)?;
        Ok(counts)
    }
}

/// Bytes that are written at a time.
const WRITE_BYTES: usize = 1024 * 1024;

const TPACKET_V3: c_int = 2;

fn kernel(step: &'static str) -> LiveError {
    LiveError::Kernel { step, source: io::Error::last_os_error() }
}

fn interface_index(name: &str) -> Result<c_int, LiveError> {
    let none = || LiveError::NoInterface(name.to_owned());
    let text = CString::new(name).map_err(|_| none())?;
    // SAFETY: `text` ends with a zero byte and lives through the call.
    let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
    c_int::try_from(index).ok().filter(|&index| index > 0).ok_or_else(none)
}

fn set<T>(socket: &OwnedFd, option: c_int, value: &T, step: &'static str) -> Result<(), LiveError> {
    set_at(socket, libc::SOL_PACKET, option, value, step)
}

fn set_at<T>(
    socket: &OwnedFd,
    level: c_int,
    option: c_int,
    value: &T,
    step: &'static str,
) -> Result<(), LiveError> {
    let length = size_of::<T>() as libc::socklen_t;
    let value = (&raw const *value).cast::<c_void>();
    // SAFETY: `value` points to `length` bytes that live through the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) };
    if result < 0 { Err(kernel(step)) } else { Ok(()) }
}

fn attach_filter(socket: &OwnedFd, program: &[filter::Instruction]) -> Result<(), LiveError> {
    let mut program: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let value = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // The kernel copies the program; `program` lives until it has.
    set_at(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &value, "attaching its filter")
}

fn bind(socket: &OwnedFd, index: c_int) -> Result<(), LiveError> {
    // SAFETY: plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    let address = (&raw const address).cast::<libc::sockaddr>();
    // SAFETY: `address` points to `length` bytes that live through the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), address, length) };
    if result < 0 { Err(kernel("binding it to the interface")) } else { Ok(()) }
}

fn wait_for(socket: &OwnedFd, wait_ms: c_int) -> io::Result<()> {
    let mut waited =
        libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN | libc::POLLERR, revents: 0 };
    // SAFETY: one pollfd that lives through the call.
    let result = unsafe { libc::poll(&raw mut waited, 1, wait_ms) };
    match io::Error::last_os_error() {
        error if result < 0 && error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// The ring, mapped.
#[derive(Debug)]
struct Ring {
    start: *mut u8,
    blocks: usize,
}

// SAFETY: the map belongs to this value alone and moves with it.
unsafe impl Send for Ring {}

impl Ring {
    fn map(socket: &OwnedFd, blocks: usize) -> Result<Self, LiveError> {
        // SAFETY: a new map, wherever the kernel likes, of the ring the socket was given.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                blocks * BLOCK_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(kernel("mapping its ring"));
        }
        Ok(Self { start: start.cast(), blocks })
    }

    /// The number by which a block belongs to the kernel or to us.
    fn status(&self, block: usize) -> &AtomicU32 {
        let at = offset_of!(libc::tpacket_block_desc, hdr)
            + offset_of!(libc::tpacket_hdr_v1, block_status);
        // SAFETY: inside the map, aligned to four bytes, and only ever used as an atomic: the
        // kernel writes it beside us.
        unsafe { AtomicU32::from_ptr(self.start.add(block * BLOCK_BYTES + at).cast()) }
    }

    fn is_ready(&self, block: usize) -> bool {
        self.status(block).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    fn give_back(&mut self, block: usize) {
        self.status(block).store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }

    /// Hands over the packets of a block that is ours.
    fn packets_of(&self, block: usize, take: &mut impl FnMut(LivePacket<'_>)) -> u64 {
        // SAFETY: inside the map; while the block is ours the kernel does not write to it, and it
        // stays ours until `give_back`, which needs `&mut self`.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.start.add(block * BLOCK_BYTES), BLOCK_BYTES) };
        let header = offset_of!(libc::tpacket_block_desc, hdr);
        let count = u32_at(bytes, header + offset_of!(libc::tpacket_hdr_v1, num_pkts));
        let first = offset_of!(libc::tpacket_hdr_v1, offset_to_first_pkt);
        let mut at = u32_at(bytes, header + first) as usize;
        for _ in 0..count {
            let Some(packet) = bytes.get(at..) else { break };
            let field = |offset: usize| u32_at(packet, offset);
            let seconds = u64::from(field(offset_of!(libc::tpacket3_hdr, tp_sec)));
            let nanoseconds = u64::from(field(offset_of!(libc::tpacket3_hdr, tp_nsec)));
            let captured = field(offset_of!(libc::tpacket3_hdr, tp_snaplen)) as usize;
            let data_at = usize::from(u16_at(packet, offset_of!(libc::tpacket3_hdr, tp_mac)));
            if let Some(data) = packet.get(data_at..data_at + captured) {
                take(LivePacket {
                    time_ns: seconds * 1_000_000_000 + nanoseconds,
                    data,
                    wire_bytes: field(offset_of!(libc::tpacket3_hdr, tp_len)),
                });
            }
            at += field(offset_of!(libc::tpacket3_hdr, tp_next_offset)) as usize;
        }
        u64::from(count)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the map was made by `map` with this length, and nothing borrows from it.
        unsafe { libc::munmap(self.start.cast(), self.blocks * BLOCK_BYTES) };
    }
}

/// A number of the machine's byte order; 0 outside of the bytes.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_ne_bytes(*b))
}
