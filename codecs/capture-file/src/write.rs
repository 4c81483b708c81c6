//! Appends the blocks of a pcapng file to a buffer.
//!
//! Each function appends one whole block, little-endian, and nothing else: whoever owns the file
//! writes the buffer out when it likes. Time stamps are nanoseconds (`if_tsresol` = 9).
//!
//! Reference: draft-ietf-opsawg-pcapng.

use crate::LinkType;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 0x0a;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const SHB_USER_APPLICATION: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;

/// Secrets in the form of an `SSLKEYLOGFILE`, as a block of secrets names them.
pub const SECRETS_TLS_KEY_LOG: u32 = 0x544c_534b;

/// Begins a section of unknown length, with the name of who writes it.
pub fn section_header(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION_HEADER, |out| {
        out.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        out.extend_from_slice(&1u16.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        text_option(out, SHB_USER_APPLICATION, application);
        option(out, OPT_END, &[]);
    });
}

/// Describes the next interface of the section; the first is number 0.
pub fn interface(out: &mut Vec<u8>, link_type: LinkType, name: &str) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend_from_slice(&link_type.0.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes()); // No snapshot length.
        text_option(out, IF_NAME, name);
        option(out, IF_TSRESOL, &[9]);
        option(out, OPT_END, &[]);
    });
}

/// One packet in two parts, with the comments people shall read beside it.
#[derive(Debug, Clone, Copy)]
pub struct PacketBlock<'a> {
    /// Number of the interface in its section.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// The beginning of the packet.
    pub headers: &'a [u8],
    /// The rest of it.
    pub payload: &'a [u8],
    /// Any number of comments.
    pub comments: &'a [String],
}

/// Appends one packet that is here in whole.
pub fn packet(out: &mut Vec<u8>, packet: &PacketBlock<'_>) {
    cut_packet(out, packet, 0);
}

/// Appends one packet that had so many bytes on the wire; fewer than are here means as many.
pub fn cut_packet(out: &mut Vec<u8>, packet: &PacketBlock<'_>, wire_bytes: u32) {
    // A packet never has 4 GiB.
    let length = (packet.headers.len() + packet.payload.len()) as u32;
    block(out, ENHANCED_PACKET, |out| {
        out.extend_from_slice(&packet.interface.to_le_bytes());
        out.extend_from_slice(&((packet.time_ns >> 32) as u32).to_le_bytes());
        out.extend_from_slice(&(packet.time_ns as u32).to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&wire_bytes.max(length).to_le_bytes());
        out.extend_from_slice(packet.headers);
        out.extend_from_slice(packet.payload);
        pad(out, length as usize);
        if !packet.comments.is_empty() {
            packet.comments.iter().for_each(|c| text_option(out, OPT_COMMENT, c));
            option(out, OPT_END, &[]);
        }
    });
}

/// Says how many packets an interface received, and how many of them are missing.
pub fn statistics(out: &mut Vec<u8>, interface: u32, time_ns: u64, received: u64, dropped: u64) {
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend_from_slice(&interface.to_le_bytes());
        out.extend_from_slice(&((time_ns >> 32) as u32).to_le_bytes());
        out.extend_from_slice(&(time_ns as u32).to_le_bytes());
        option(out, ISB_IFRECV, &received.to_le_bytes());
        option(out, ISB_IFDROP, &dropped.to_le_bytes());
        option(out, OPT_END, &[]);
    });
}

/// Appends secrets that open the packets after them.
pub fn secrets(out: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
    block(out, DECRYPTION_SECRETS, |out| {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
        pad(out, bytes.len());
    });
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = (out.len() + 4 - start) as u32;
    out.extend_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
}

/// Text longer than an option can hold is cut at a character.
fn text_option(out: &mut Vec<u8>, code: u16, text: &str) {
    let end = text.floor_char_boundary(usize::from(u16::MAX).min(text.len()));
    option(out, code, &text.as_bytes()[..end]);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

fn pad(out: &mut Vec<u8>, written: usize) {
    out.extend_from_slice(&[0; 3][..written.wrapping_neg() % 4]);
}
