//! Packets to exchanges and exchanges to packets.
//!
//! * [`files`]: capture files, merged by time, into exchanges.
//! * [`assembler`]: packets of many connections into exchanges; under it `connection` (one TCP
//!   connection), `stream` (one direction of it, in order), `framer` (bytes to frames), `pairing`
//!   (frames to exchanges), `sniff` (what is spoken at all), `patience` (how long a hole is waited
//!   for), `strangers` (ports used again) and `translated` (one connection under two addresses).
//! * [`live`]: packets of an interface as they pass; `filter`, which of them the kernel lets pass.
//! * [`recorder`]: what our own client or proxy said and heard, into a pcapng file as it happens.
//!
//! Never: interprets what it carries.

pub mod assembler;
mod connection;
pub mod files;
mod filter;
mod framer;
pub mod live;
mod pairing;
mod patience;
pub mod recorder;
mod sniff;
mod strangers;
mod stream;
mod translated;

pub use assembler::{Assembler, AssemblerOptions, PacketCounts};
pub use files::{CaptureSummary, FileSummary, read_captures};
pub use live::{LiveCapture, LiveCounts, LiveError, LiveOptions, LivePacket};
pub use recorder::{CaptureFiles, PcapngTap, Recorded};
