//! Any bytes as a capture file, plain or compressed, down to its TCP segments.

#![no_main]

use capture_file::CaptureReader;
use capture_file::fragment::Fragments;
use capture_file::segment::{Dissected, dissect};
use libfuzzer_sys::fuzz_target;

/// A few compressed bytes can stand for gigabytes; so much of them is read.
const UNCOMPRESSED_BYTES_MAX: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = CaptureReader::new(bytes).expect("memory can be read");
    let mut fragments = Fragments::default();
    while let Some(packet) = reader.next_packet().expect("memory can be read") {
        let comments = packet.comments().map(<[u8]>::len).sum::<usize>();
        let captured = packet.data.len();
        let dissected =
            dissect(packet.link_type, packet.data, packet.wire_bytes, &mut fragments);
        if let Dissected::Tcp(segment) = dissected {
            assert!(segment.payload.len() <= segment.payload_bytes as usize);
        }
        assert!(comments + captured <= capture_file::read::BLOCK_BYTES_MAX);
        if reader.byte_offset() > UNCOMPRESSED_BYTES_MAX {
            break;
        }
    }
});
