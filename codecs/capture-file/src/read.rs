//! Turns a pcap or pcapng file into its packets, one after the other, borrowed.
//!
//! A damaged file is read as far as it can be: what was wrong is kept with its place in the file,
//! the damaged part is passed over, and the rest is read. A file that ends inside a packet may be
//! one that is still being written.
//!
//! Never: copies a packet; holds more than one block and a table of interfaces.

use std::io::{self, Read};

use crate::packet::{Damage, DamageKind, Options, Order, Packet};
use crate::window::{Compression, Window};
use crate::{LinkType, pcap, pcapng};

/// Largest packet or block that is believed.
pub const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Damages kept; more are counted only.
const DAMAGES_MAX: usize = 1_000;

/// Reads packets from a capture file of any kind this crate knows.
pub struct CaptureReader<R: Read> {
    pub(crate) window: Window<R>,
    format: Format,
    packets: u64,
    pub(crate) damages: Vec<Damage>,
    damages_more: u64,
    ended: bool,
    peeked: Option<Found>,
}

enum Format {
    Pcap(pcap::Head),
    Pcapng(Box<pcapng::Section>),
    None,
}

impl Format {
    /// What the bytes begin as.
    fn of(bytes: &[u8]) -> Self {
        if pcapng::is_section_header(bytes) {
            return Self::Pcapng(Box::default());
        }
        pcap::Head::decode(bytes).map_or(Self::None, Self::Pcap)
    }
}

/// What people take for a capture, or have captures in, by how it begins.
const FOREIGN: [(&[u8], &str); 12] = [
    (b"\xfd7zXZ\0", "compressed with xz: decompress it first"),
    (b"BZh", "compressed with bzip2: decompress it first"),
    (b"\x04\x22\x4d\x18", "compressed with lz4: decompress it first"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (b"snoop\0\0\0", "a snoop file: editcap makes pcapng of it"),
    (b"GMBU", "a file of Microsoft's Network Monitor: editcap makes pcapng of it"),
    (b"RTSS", "a file of Microsoft's Network Monitor: editcap makes pcapng of it"),
    (b"\x1c\0\x01\xac", "a file of Ixia: editcap makes pcapng of it"),
    (b"\xac\x01\0\x1c", "a file of Ixia: editcap makes pcapng of it"),
    (b"{", "JSON?"),
    (b"[", "JSON?"),
];

fn foreign(bytes: &[u8]) -> Option<&'static str> {
    FOREIGN.iter().find(|(begins, _)| bytes.starts_with(begins)).map(|(_, what)| *what)
}

/// Where a packet stands in the window, and what is known of it.
pub(crate) struct Found {
    pub(crate) time_ns: u64,
    pub(crate) link_type: LinkType,
    pub(crate) interface: u32,
    pub(crate) wire_bytes: u32,
    /// Its bytes, from the beginning of the window.
    pub(crate) data: std::ops::Range<usize>,
    /// Its options, from the beginning of the window.
    pub(crate) options: std::ops::Range<usize>,
    /// Bytes of the whole block.
    pub(crate) block_bytes: usize,
}

/// What the window begins with.
pub(crate) enum Next {
    Packet(Found),
    /// Something else of that many bytes.
    Other(usize),
    /// More bytes are needed to say.
    Need(usize),
    /// Nothing that can be.
    Broken(&'static str),
}

impl<R: Read> CaptureReader<R> {
    /// Looks at the beginning of the file. A file that is none of ours has no packets, and a
    /// damage that says so.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn new(read: R) -> io::Result<Self> {
        let mut window = Window::new(read)?;
        let whole_head = window.need(pcap::HEAD_BYTES)?;
        let format = Format::of(window.bytes());
        let mut reader = Self {
            window,
            format,
            packets: 0,
            damages: Vec::new(),
            damages_more: 0,
            ended: false,
            peeked: None,
        };
        match reader.format {
            Format::Pcap(_) if whole_head => reader.window.consume(pcap::HEAD_BYTES),
            Format::Pcapng(_) => {}
            Format::Pcap(_) | Format::None => reader.refuse(),
        }
        Ok(reader)
    }

    fn refuse(&mut self) {
        self.take_compression_damage();
        let available = self.window.bytes().len() as u64;
        let begins = pcap::begins_as_capture(self.window.bytes());
        self.damage(match available {
            0 => DamageKind::Empty,
            1..24 if begins => DamageKind::Incomplete { needed: 24, available },
            _ => DamageKind::NotACapture(foreign(self.window.bytes())),
        });
        self.format = Format::None;
        self.ended = true;
    }

    /// The next packet; `None` at the end of the file. Asked again there, it looks whether the
    /// file has grown.
    ///
    /// # Errors
    /// Where reading fails. What is wrong with the bytes is no error, see
    /// [`CaptureReader::damages`].
    pub fn next_packet(&mut self) -> io::Result<Option<Packet<'_>>> {
        let found = match self.peeked.take() {
            Some(found) => Some(found),
            None => self.find_packet()?,
        };
        Ok(found.map(|found| self.packet(found)))
    }

    /// The time of the next packet, in nanoseconds since 1970; the packet stays the next.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn peek_time_ns(&mut self) -> io::Result<Option<u64>> {
        if self.peeked.is_none() {
            self.peeked = self.find_packet()?;
        }
        Ok(self.peeked.as_ref().map(|found| found.time_ns))
    }

    /// Goes forward to the next packet.
    fn find_packet(&mut self) -> io::Result<Option<Found>> {
        loop {
            let next = match &mut self.format {
                Format::Pcap(head) => head.next(self.window.bytes()),
                Format::Pcapng(section) => section.next(self.window.bytes()),
                Format::None => return Ok(None),
            };
            match next {
                Next::Packet(found) => return Ok(Some(found)),
                Next::Other(bytes) => {
                    self.take_block_damage();
                    self.window.consume(bytes);
                }
                Next::Need(bytes) => {
                    if !self.window.need(bytes)? && !self.go_on_after(bytes)? {
                        return Ok(None);
                    }
                }
                Next::Broken(why) => {
                    if !self.goes_on_as_another()? && !self.pass_over(why)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn packet(&mut self, found: Found) -> Packet<'_> {
        self.packets += 1;
        let order = match &self.format {
            Format::Pcapng(section) => section.order(),
            _ => Order::Little,
        };
        let number = self.packets;
        let block = self.window.take(found.block_bytes);
        Packet {
            number,
            time_ns: found.time_ns,
            link_type: found.link_type,
            interface: found.interface,
            data: &block[found.data],
            wire_bytes: found.wire_bytes,
            options: Options { bytes: &block[found.options], order },
        }
    }

    /// Packets so far.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Uncompressed bytes read so far.
    #[must_use]
    pub fn byte_offset(&self) -> u64 {
        self.window.byte_offset()
    }

    /// What was wrong so far: the first thousand, in order.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// How many more damages there were than are kept.
    #[must_use]
    pub fn damages_more(&self) -> u64 {
        self.damages_more
    }

    /// How the file is packed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.window.compression()
    }

    /// The name of an interface of the current section.
    #[must_use]
    pub fn interface_name(&self, interface: u32) -> Option<&str> {
        match &self.format {
            Format::Pcapng(section) => section.interface_name(interface),
            _ => None,
        }
    }

    /// Secrets, names and comments of the file so far; absent in a file that has no place for
    /// them.
    #[must_use]
    pub fn notes(&self) -> Option<&pcapng::Notes> {
        match &self.format {
            Format::Pcapng(section) => Some(section.notes()),
            _ => None,
        }
    }

    fn damage(&mut self, kind: DamageKind) {
        let byte_offset = self.window.byte_offset();
        self.damage_at(byte_offset, kind);
    }

    fn damage_at(&mut self, byte_offset: u64, kind: DamageKind) {
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push(Damage { byte_offset, kind });
        } else {
            self.damages_more += 1;
        }
    }

    fn take_compression_damage(&mut self) {
        if let Some(why) = self.window.damage() {
            let why = why.to_owned();
            self.damage(DamageKind::Compression(why));
        }
    }

    fn take_block_damage(&mut self) {
        if let Format::Pcapng(section) = &mut self.format
            && let Some(why) = section.take_damage()
        {
            self.damage(DamageKind::Block(why));
        }
    }

    /// Whether another capture was put behind the one so far, and is read now.
    fn goes_on_as_another(&mut self) -> io::Result<bool> {
        let bytes = self.window.bytes();
        let begins = pcapng::is_section_header(bytes) || pcap::begins_another(bytes);
        if !begins || !self.window.need(pcap::HEAD_BYTES)? {
            return Ok(false);
        }
        let format = Format::of(self.window.bytes());
        match format {
            Format::None => return Ok(false),
            Format::Pcap(_) => self.window.consume(pcap::HEAD_BYTES),
            // A section goes on with the next by itself.
            Format::Pcapng(_) if matches!(self.format, Format::Pcapng(_)) => return Ok(false),
            Format::Pcapng(_) => {}
        }
        self.format = format;
        Ok(true)
    }

    /// The file ends inside a packet or block that says it needs so many bytes: either it is cut
    /// off here, or the length is a lie and the next packet stands in what is there.
    fn go_on_after(&mut self, needed: usize) -> io::Result<bool> {
        let here = self.window.bytes().len();
        let lie = !self.ended && here > HEAD_BYTES_MAX && {
            self.window.consume(1);
            let found = self.find_head(false);
            self.window.give_back(1);
            found.is_some()
        };
        if lie {
            return self.pass_over("a length beyond the end of the file");
        }
        self.end(needed);
        Ok(false)
    }

    /// Notes, once, how the file ended.
    fn end(&mut self, needed: usize) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.take_compression_damage();
        let available = self.window.bytes().len();
        if available > 0 {
            let (needed, available) = (needed as u64, available as u64);
            self.damage(DamageKind::Incomplete { needed, available });
        }
    }

    /// Goes forward to the next place where a packet or block can begin; `false` where the file
    /// ends before one.
    fn pass_over(&mut self, why: &'static str) -> io::Result<bool> {
        let start = self.window.byte_offset();
        self.window.consume(1);
        let found = loop {
            let more = self.window.need(SEARCH_BYTES)?;
            let here = self.window.bytes().len();
            if let Some(bytes) = self.find_head(more) {
                self.window.consume(bytes);
                break true;
            }
            if !more {
                self.window.consume(here);
                self.ended = true;
                break false;
            }
            // All but what could be the beginning of a head.
            self.window.consume(here - HEAD_BYTES_MAX);
        };
        let bytes = self.window.byte_offset() - start;
        self.damage_at(start, DamageKind::Skipped { why, bytes });
        Ok(found)
    }

    /// Where in the window the first plausible head stands; `more` says that bytes follow it.
    fn find_head(&self, more: bool) -> Option<usize> {
        let bytes = self.window.bytes();
        let end = if more { bytes.len() - HEAD_BYTES_MAX } else { bytes.len() };
        (0..end).find(|&at| match &self.format {
            Format::Pcap(head) => head.plausible(&bytes[at..], more),
            Format::Pcapng(section) => section.plausible(&bytes[at..], more),
            Format::None => false,
        })
    }
}

/// Bytes wanted at hand when looking for the next head after damage.
const SEARCH_BYTES: usize = 128 * 1024;
/// Most bytes a head has that is looked for.
const HEAD_BYTES_MAX: usize = 32;
