//! Packets to exchanges and exchanges to packets.
//!
//! * [`recorder`]: what our own client or proxy said and heard, into a pcapng file as it happens.
//!
//! Never: interprets what it carries.

pub mod recorder;

pub use recorder::PcapngTap;
