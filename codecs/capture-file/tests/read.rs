//! Every kind of capture file, whole, damaged, packed and half written, read back.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::io::{Read, Write};

use capture_file::conversation::{Conversation, Frame};
use capture_file::fragment::Fragments;
use capture_file::segment::{Dissected, dissect};
use capture_file::write::{self, PacketBlock};
use capture_file::{CaptureReader, Compression, DamageKind, LinkType, Side};
use proptest::prelude::*;

const TIME_NS: u64 = 1_700_000_000_123_456_789;

fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let (client, server) = (([127, 0, 0, 1], 40_000).into(), ([127, 0, 0, 1], 9092).into());
    let mut conversation = Conversation::new(client, server, 1);
    let mut emit = |f: Frame<'_>| frames.push([f.headers, f.payload].concat());
    conversation.open(&mut emit);
    conversation.data(Side::Client, &vec![7; 100_000], &mut emit);
    conversation.data(Side::Server, b"odd", &mut emit);
    conversation.close(Side::Client, &mut emit);
    frames
}

fn pcapng() -> Vec<u8> {
    let mut out = Vec::new();
    write::section_header(&mut out, "test");
    write::interface(&mut out, LinkType::ETHERNET, "broker 1");
    write::secrets(&mut out, write::SECRETS_TLS_KEY_LOG, b"CLIENT_RANDOM");
    for (i, frame) in frames().iter().enumerate() {
        let (headers, payload) = frame.split_at(20);
        let comments = if i == 2 { vec!["held".to_owned(), "dropped".to_owned()] } else { vec![] };
        let time_ns = TIME_NS + i as u64;
        write::packet(
            &mut out,
            &PacketBlock { interface: 0, time_ns, headers, payload, comments: &comments },
        );
    }
    out
}

fn pcap(big: bool, nanoseconds: bool) -> Vec<u8> {
    let n = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let h = |v: u16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let magic = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut out = n(magic).to_vec();
    out.extend([h(2), h(4)].concat());
    out.extend([n(0), n(0), n(262_144), n(1)].concat());
    for frame in frames() {
        let fraction = if nanoseconds { 123_456_789 } else { 123_456 };
        let length = frame.len() as u32;
        out.extend([n(1_700_000_000), n(fraction), n(length), n(length)].concat());
        out.extend(frame);
    }
    out
}

/// Reads a file in chunks of an odd size and says what came of it.
fn read(file: &[u8]) -> (Vec<Vec<u8>>, Vec<u64>, Vec<DamageKind>) {
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = buffer.len().min(1021);
            self.0.read(&mut buffer[..length])
        }
    }
    let mut reader = CaptureReader::new(Slow(file)).unwrap();
    let (mut packets, mut times) = (Vec::new(), Vec::new());
    while let Some(packet) = reader.next_packet().unwrap() {
        assert_eq!(packet.number, packets.len() as u64 + 1);
        packets.push(packet.data.to_vec());
        times.push(packet.time_ns);
    }
    (packets, times, reader.damages().iter().map(|d| d.kind.clone()).collect())
}

#[test]
fn pcap_of_both_byte_orders_and_resolutions_reads_back() {
    for (big, nanoseconds) in [(false, false), (false, true), (true, false), (true, true)] {
        let (packets, times, damages) = read(&pcap(big, nanoseconds));
        assert_eq!(packets, frames());
        assert_eq!(times[0], if nanoseconds { TIME_NS } else { TIME_NS - 789 });
        assert_eq!(damages, []);
    }
}

#[test]
fn pcapng_reads_back_with_comments_names_and_secrets() {
    let file = pcapng();
    let (packets, times, damages) = read(&file);
    assert_eq!((packets, damages), (frames(), vec![]));
    assert_eq!(times, (0..times.len() as u64).map(|i| TIME_NS + i).collect::<Vec<_>>());

    let mut reader = CaptureReader::new(&file[..]).unwrap();
    let mut comments = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        comments.extend(packet.comments().map(|c| (packet.number, c.to_vec())));
    }
    assert_eq!(comments, [(3, b"held".to_vec()), (3, b"dropped".to_vec())]);
    assert_eq!(reader.interface_name(0), Some("broker 1"));
    let secrets = [(write::SECRETS_TLS_KEY_LOG, b"CLIENT_RANDOM".to_vec())];
    assert_eq!(reader.notes().unwrap().secrets, secrets);
}

/// A big-endian section with an interface of that resolution and offset, and one packet of each
/// kind of block.
fn big_section(resolution: u8, offset_seconds: i64, ticks: u64) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let length = (body.len() as u32 + 12).to_be_bytes();
        [&kind.to_be_bytes(), &length, body, &length].concat()
    };
    let section = [
        &0x1a2b_3c4d_u32.to_be_bytes()[..],
        &[0, 1, 0, 0],
        &[0xff; 8],
        &[0, 1, 0, 5],
        b"hello\0\0\0",
        &[0, 0, 0, 0],
    ]
    .concat();
    let interface = [
        &[0, 101, 0, 0, 0, 0, 0, 0][..],
        &[0, 9, 0, 1, resolution, 0, 0, 0],
        &[0, 14, 0, 8],
        &offset_seconds.to_be_bytes(),
    ]
    .concat();
    let (high, low) = ((ticks >> 32) as u32, ticks as u32);
    let sizes = [&high.to_be_bytes()[..], &low.to_be_bytes(), &[0, 0, 0, 3, 0, 0, 0, 9]].concat();
    [
        block(0x0a0d_0d0a, &section),
        block(1, &interface),
        block(6, &[&[0, 0, 0, 0][..], &sizes, b"abc\0"].concat()),
        block(2, &[&[0, 0, 0, 5][..], &sizes, b"def\0"].concat()),
        block(3, b"\0\0\0\x03ghi\0"),
        block(0x4242, b"unknown "),
    ]
    .concat()
}

#[test]
fn every_resolution_and_offset_of_time_is_followed() {
    for (resolution, ticks, expected) in [
        (0, 1_700_000_000, 1_700_000_000_000_000_000),
        (3, 1_700_000_000_123, 1_700_000_000_123_000_000),
        (6, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (9, TIME_NS, TIME_NS),
        (12, TIME_NS, TIME_NS / 1000),
        (0x80 | 10, 1024 + 512, 1_500_000_000),
        (0xff, u64::MAX, 0),
        (0x7f, u64::MAX, 0),
    ] {
        let (packets, times, damages) = read(&big_section(resolution, 0, ticks));
        assert_eq!(packets, [b"abc", b"def", b"ghi"]);
        assert_eq!((times, damages), (vec![expected; 3], vec![]), "resolution {resolution}");
    }
    assert_eq!(read(&big_section(9, 5, 7)).1, [5_000_000_007; 3]);
    assert_eq!(read(&big_section(9, i64::MIN, 7)).1, [0; 3]);
}

#[test]
fn sections_of_both_byte_orders_follow_each_other() {
    let file = [pcapng(), big_section(9, 0, 7), pcapng()].concat();
    let (packets, _, damages) = read(&file);
    assert_eq!((packets.len(), damages), (2 * frames().len() + 3, vec![]));
}

#[test]
fn packed_files_read_as_the_plain_ones() {
    for file in [pcap(false, true), pcapng()] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&file).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&file[..], 1).unwrap();
        for (packed, kind) in [(&gzip, Compression::Gzip), (&zstd, Compression::Zstd)] {
            assert_eq!(read(packed), read(&file));
            assert_eq!(CaptureReader::new(&packed[..]).unwrap().compression(), kind);
            let (packets, _, damages) = read(&packed[..packed.len() - 9]);
            assert!(packets.len() < frames().len() + 1);
            assert!(matches!(damages[0], DamageKind::Compression(_)), "{damages:?}");
        }
    }
}

#[test]
fn a_file_that_ends_anywhere_gives_what_is_whole() {
    for file in [pcap(false, true), pcap(true, false), pcapng()] {
        let whole = read(&file).0;
        for cut in (0..file.len()).step_by(131).chain(0..100) {
            let (packets, _, damages) = read(&file[..cut]);
            assert_eq!(packets[..], whole[..packets.len()]);
            assert!(damages.len() <= 1, "cut at {cut}: {damages:?}");
        }
    }
    assert_eq!(read(&[]).2, [DamageKind::Empty]);
    assert_eq!(
        read(b"GET / HTTP/1.1\r\nHost: here.example\r\n").2,
        [DamageKind::NotACapture(None)]
    );
}

#[test]
fn a_file_that_grows_is_read_on() {
    use std::sync::Mutex;
    struct Growing<'a>(&'a Mutex<(Vec<u8>, usize)>);
    impl Read for Growing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let (bytes, at) = &mut *self.0.lock().unwrap();
            let read = (&bytes[*at..]).read(buffer)?;
            *at += read;
            Ok(read)
        }
    }
    let file = pcapng();
    let shared = Mutex::new((file[..file.len() - 50].to_vec(), 0));
    let mut reader = CaptureReader::new(Growing(&shared)).unwrap();
    while reader.next_packet().unwrap().is_some() {}
    assert_eq!(reader.packets() as usize, frames().len() - 1);
    shared.lock().unwrap().0.extend(&file[file.len() - 50..]);
    assert!(reader.next_packet().unwrap().is_some());
    assert!(reader.next_packet().unwrap().is_none());
}

#[test]
fn damage_in_the_middle_costs_only_what_it_touches() {
    // The fourth packet's head is overwritten, with values that cannot be and with a giant length.
    for (file, head) in [(pcap(false, true), 24 + 16 * 3 + 62 * 2 + 54), (pcapng(), 0)] {
        let whole = read(&file).0;
        let head = if head > 0 { head } else { block_starts(&file)[3 + 3] };
        for bad in [[0xff; 12], [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0]] {
            let mut damaged = file.clone();
            damaged[head..head + 12].copy_from_slice(&bad);
            let (packets, _, damages) = read(&damaged);
            assert_eq!(packets[..3], whole[..3]);
            assert_eq!(packets[3..], whole[4..]);
            assert!(matches!(damages[..], [DamageKind::Skipped { .. }]), "{damages:?}");
        }
    }
}

fn block_starts(file: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    let mut at = 0;
    while at + 8 <= file.len() {
        at += u32::from_le_bytes(file[at + 4..at + 8].try_into().unwrap()) as usize;
        starts.push(at);
    }
    starts
}

/// Reads everything there is, whatever it is.
fn read_all(file: &[u8]) {
    let mut reader = CaptureReader::new(file).unwrap();
    let mut fragments = Fragments::default();
    while let Some(packet) = reader.next_packet().unwrap() {
        for link_type in [packet.link_type, LinkType::ETHERNET, LinkType::RAW, LinkType::LINUX_SLL2]
        {
            if let Dissected::Tcp(segment) =
                dissect(link_type, packet.data, packet.wire_bytes, &mut fragments)
            {
                assert!(segment.payload.len() <= segment.payload_bytes as usize);
            }
        }
        assert!(packet.comments().count() <= packet.data.len() + file.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes: Vec<u8>, magic in 0..4) {
        let heads = [pcap(false, true), pcap(true, false), pcapng(), big_section(6, 0, 0)];
        read_all(&bytes);
        let head = &heads[magic as usize];
        let head = &head[..head.len().min(48)];
        bytes.splice(..0, head.iter().copied());
        read_all(&bytes);
    }

    #[test]
    fn any_change_to_a_file_is_read_without_a_panic(
        changes: Vec<(prop::sample::Index, u8)>, which in 0..3,
    ) {
        let mut file = match which { 0 => pcap(false, false), 1 => pcapng(), _ => big_section(6, 0, 0) };
        for (index, byte) in changes {
            let at = index.index(file.len().min(600));
            file[at] = byte;
        }
        read_all(&file);
    }
}
