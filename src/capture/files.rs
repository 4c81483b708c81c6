//! Capture files, one or several merged by time, into exchanges.

use std::io::{self, Read};

use capture_file::{CaptureReader, Damage};

use crate::history::wire::{ExchangeSink, PacketNumber};

use super::assembler::{Assembler, AssemblerOptions, PacketCounts};

/// What came of reading capture files, beside the exchanges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaptureSummary {
    /// Counts of packets over all files.
    pub packets: PacketCounts,
    /// Of each file.
    pub files: Vec<FileSummary>,
}

/// What came of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileSummary {
    /// Packets in it.
    pub packets: u64,
    /// Its bytes, uncompressed.
    pub bytes: u64,
    /// What is wrong with it: the first thousand.
    pub damages: Vec<Damage>,
    /// How many more are.
    pub damages_more: u64,
    /// Packets that are missing, as the program that captured says.
    pub dropped: u64,
}

/// Reads files that are opened already, merged by the time of their packets; each may still be
/// written to, and is read to where it ends now.
///
/// # Errors
/// Where reading fails. What is wrong with a file's bytes is in the summary.
pub fn read_captures<R: Read, S: ExchangeSink>(
    files: Vec<R>,
    options: AssemblerOptions,
    sink: S,
) -> io::Result<(S, CaptureSummary)> {
    let mut readers = files.into_iter().map(CaptureReader::new).collect::<io::Result<Vec<_>>>()?;
    let mut assembler = Assembler::new(sink, options);
    while let Some(file) = earliest(&mut readers)? {
        let only = readers.len() == 1;
        while let Some(packet) = readers[file].next_packet()? {
            // There are fewer files than file descriptors.
            let number = PacketNumber { file: file as u32, number: packet.number };
            let (link_type, data) = (packet.link_type, packet.data);
            assembler.packet(link_type, data, packet.wire_bytes, number, packet.time_ns);
            if !only {
                break;
            }
        }
    }
    let (sink, packets) = assembler.finish();
    let files = readers
        .iter()
        .map(|reader| FileSummary {
            packets: reader.packets(),
            bytes: reader.byte_offset(),
            damages: reader.damages().to_vec(),
            damages_more: reader.damages_more(),
            dropped: reader.notes().map_or(0, |notes| notes.dropped),
        })
        .collect();
    Ok((sink, CaptureSummary { packets, files }))
}

/// The file whose next packet is the earliest; the first of them where times are equal.
fn earliest<R: Read>(readers: &mut [CaptureReader<R>]) -> io::Result<Option<usize>> {
    let mut earliest = None;
    for (file, reader) in readers.iter_mut().enumerate() {
        if let Some(time_ns) = reader.peek_time_ns()?
            && earliest.is_none_or(|(time, _)| time_ns < time)
        {
            earliest = Some((time_ns, file));
        }
    }
    Ok(earliest.map(|(_, file)| file))
}
