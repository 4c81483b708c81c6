//! A capture once more, with what the checker found as comments on the packets that prove it.
//!
//! Packet tools show the comments beside the packets: a verdict is then read where it happened.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use capture_file::pcapng::Notes;
use capture_file::write::{self, PacketBlock};
use capture_file::{CaptureReader, LinkType, Packet};

use crate::checker::Verdict;

/// Comments on one packet: a packet may prove a thousand things.
const COMMENTS_MAX: usize = 16;
/// Bytes that are written at a time.
const WRITE_BYTES: usize = 256 * 1024;

/// Copies a capture of any kind to a pcapng file, with a comment on each packet that a case of the
/// verdict names; says how many packets have one.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn annotate(capture: &Path, verdict: &Verdict, to: &Path) -> io::Result<u64> {
    let comments = comments(verdict);
    let mut reader = CaptureReader::new(BufReader::new(File::open(capture)?))?;
    let mut copy = Copy::new(BufWriter::new(File::create(to)?));
    let mut annotated = 0;
    loop {
        // Looking ahead reads what stands before the packet: the secrets that open it.
        if reader.peek_time_ns()?.is_none() {
            break;
        }
        copy.secrets(reader.notes());
        let Some(packet) = reader.next_packet()? else { break };
        let found = comments.get(&packet.number).map_or(&[][..], Vec::as_slice);
        annotated += u64::from(!found.is_empty());
        copy.packet(&packet, found)?;
    }
    copy.finish()?;
    Ok(annotated)
}

/// What is said of each packet.
fn comments(verdict: &Verdict) -> BTreeMap<u64, Vec<String>> {
    let mut comments: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (name, found) in &verdict.anomalies {
        for case in &found.cases {
            for frame in &case.frames {
                let said = comments.entry(*frame).or_default();
                if said.len() < COMMENTS_MAX {
                    said.push(format!("fencepost: {name}: {}", case.explanation));
                }
            }
        }
    }
    comments
}

/// The new file.
struct Copy<W> {
    out: W,
    blocks: Vec<u8>,
    /// Its interfaces: one for each number and link type of the old file.
    interfaces: Vec<(u32, LinkType)>,
    secrets: usize,
}

impl<W: Write> Copy<W> {
    fn new(out: W) -> Self {
        let mut blocks = Vec::new();
        write::section_header(&mut blocks, concat!("fencepost ", env!("CARGO_PKG_VERSION")));
        Self { out, blocks, interfaces: Vec::new(), secrets: 0 }
    }

    /// Copies secrets that were not yet.
    fn secrets(&mut self, notes: Option<&Notes>) {
        let Some(notes) = notes else { return };
        for (kind, secret) in &notes.secrets[self.secrets..] {
            write::secrets(&mut self.blocks, *kind, secret);
        }
        self.secrets = notes.secrets.len();
    }

    fn packet(&mut self, packet: &Packet<'_>, found: &[String]) -> io::Result<()> {
        let is_same = |known: &(u32, LinkType)| *known == (packet.interface, packet.link_type);
        let known = self.interfaces.iter().position(is_same);
        let interface = known.unwrap_or_else(|| {
            self.interfaces.push((packet.interface, packet.link_type));
            let name = format!("interface {}", packet.interface);
            write::interface(&mut self.blocks, packet.link_type, &name);
            self.interfaces.len() - 1
        });
        let old = packet.comments().map(|comment| String::from_utf8_lossy(comment).into_owned());
        let comments: Vec<String> = old.chain(found.iter().cloned()).collect();
        let block = PacketBlock {
            interface: interface as u32,
            time_ns: packet.time_ns,
            headers: packet.data,
            payload: &[],
            comments: &comments,
        };
        write::cut_packet(&mut self.blocks, &block, packet.wire_bytes);
        if self.blocks.len() > WRITE_BYTES {
            self.out.write_all(&self.blocks)?;
            self.blocks.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&self.blocks)?;
        self.out.flush()
    }
}
