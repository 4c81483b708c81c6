//! A capture once more, with what the checker found as comments on the packets that prove it.
//!
//! Packet tools show the comments beside the packets: a verdict is then read where it happened.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use capture_file::pcapng::Notes;
use capture_file::write::{self, PacketBlock};
use capture_file::{CaptureReader, LinkType, Packet};

use crate::checker::Verdict;

/// Comments on one packet: a packet may prove a thousand things.
const COMMENTS_MAX: usize = 16;
/// Bytes that are written at a time.
const WRITE_BYTES: usize = 256 * 1024;

/// Copies captures of any kind to one pcapng file, merged by time, with a comment on each packet
/// that a case of the verdict on them names; says how many packets have one.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn annotate(captures: &[PathBuf], verdict: &Verdict, to: &Path) -> io::Result<u64> {
    let comments = comments(verdict);
    let open = |path: &PathBuf| CaptureReader::new(BufReader::new(File::open(path)?));
    let mut readers = captures.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut copy = Copy::new(BufWriter::new(File::create(to)?), captures);
    let mut annotated = 0;
    loop {
        let mut next: Option<(u64, usize)> = None;
        for (file, reader) in readers.iter_mut().enumerate() {
            // Looking ahead reads what stands before the packet: the secrets that open it.
            let time_ns = reader.peek_time_ns()?;
            copy.secrets(file, reader.notes());
            let earlier = time_ns.filter(|time| next.is_none_or(|(least, _)| *time < least));
            next = earlier.map(|time| (time, file)).or(next);
        }
        let Some((_, file)) = next else { break };
        let Some(packet) = readers[file].next_packet()? else { break };
        let of = (u16::try_from(file).unwrap_or(u16::MAX), packet.number);
        let found = comments.get(&of).map_or(&[][..], Vec::as_slice);
        annotated += u64::from(!found.is_empty());
        copy.packet(file, &packet, found)?;
    }
    copy.finish()?;
    Ok(annotated)
}

/// What is said of each packet, by the capture it is in and its number there.
fn comments(verdict: &Verdict) -> BTreeMap<(u16, u64), Vec<String>> {
    let mut comments: BTreeMap<(u16, u64), Vec<String>> = BTreeMap::new();
    for (name, found) in &verdict.anomalies {
        for case in &found.cases {
            for packet in case.packets() {
                let said = comments.entry(packet).or_default();
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
    /// Its interfaces: one for each number and link type of an old file.
    interfaces: Vec<(usize, u32, LinkType)>,
    /// What the old files are called, where there are several.
    names: Vec<String>,
    /// How many secrets were copied of each.
    secrets: Vec<usize>,
}

impl<W: Write> Copy<W> {
    fn new(out: W, captures: &[PathBuf]) -> Self {
        let mut blocks = Vec::new();
        write::section_header(&mut blocks, concat!("fencepost ", env!("CARGO_PKG_VERSION")));
        let name = |path: &PathBuf| match captures.len() {
            1 => String::new(),
            _ => format!("{}: ", path.file_name().unwrap_or_default().to_string_lossy()),
        };
        let names = captures.iter().map(name).collect();
        Self { out, blocks, interfaces: Vec::new(), names, secrets: vec![0; captures.len()] }
    }

    /// Copies secrets that were not yet.
    fn secrets(&mut self, file: usize, notes: Option<&Notes>) {
        let Some(notes) = notes else { return };
        for (kind, secret) in &notes.secrets[self.secrets[file]..] {
            write::secrets(&mut self.blocks, *kind, secret);
        }
        self.secrets[file] = notes.secrets.len();
    }

    fn packet(&mut self, file: usize, packet: &Packet<'_>, found: &[String]) -> io::Result<()> {
        let this = (file, packet.interface, packet.link_type);
        let known = self.interfaces.iter().position(|known| *known == this);
        let interface = known.unwrap_or_else(|| {
            self.interfaces.push(this);
            let name = format!("{}interface {}", self.names[file], packet.interface);
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
