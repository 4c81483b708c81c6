//! Recorded conversations through every shape a capture can give them, and back to exchanges.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use capture_file::conversation::{Conversation, Frame};
use capture_file::write::{self, PacketBlock};
use capture_file::{LinkType, Side};
use fencepost::capture::{
    Assembler, AssemblerOptions, CaptureFiles, CaptureSummary, PcapngTap, read_captures,
};
use fencepost::history::wire::{
    ConnectionSummary, Exchange, ExchangeSink, Extent, Outcome, PacketNumber, Protocol, Request,
    Response, Span, StreamTrouble, StreamTroubleKind, Unanswered,
};
use fencepost::history::{Connection, Direction, Tap};
use kafka_wire::ApiKey;
use proptest::prelude::*;

/// A frame with its prefix.
fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes(), body].concat()
}

/// A request of client "cli" with the body's bytes, as they are.
fn request(api_key: ApiKey, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let head = [&api_key.0.to_be_bytes()[..], &version.to_be_bytes()].concat();
    frame(&[&head[..], &correlation_id.to_be_bytes(), b"\0\x03cli", body].concat())
}

fn response(correlation_id: i32, body: &[u8]) -> Vec<u8> {
    frame(&[&correlation_id.to_be_bytes()[..], body].concat())
}

/// Produce v3 without a transactional id.
fn produce(correlation_id: i32, acks: i16, records: usize) -> Vec<u8> {
    let mut body = vec![0xff, 0xff];
    body.extend(acks.to_be_bytes());
    body.extend([0, 0, 0x75, 0x30, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0]);
    body.extend((records as i32).to_be_bytes());
    body.extend(vec![0xab; records]);
    request(ApiKey::PRODUCE, 3, correlation_id, &body)
}

fn metadata(correlation_id: i32) -> Vec<u8> {
    request(ApiKey::METADATA, 1, correlation_id, &[0xff; 4])
}

fn metadata_answer(correlation_id: i32) -> Vec<u8> {
    response(correlation_id, &[0; 12])
}

/// Everything a sink is told, as short lines.
#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    summaries: BTreeMap<u64, ConnectionSummary>,
}

impl ExchangeSink for Lines {
    type Kept = usize;

    fn request(&mut self, request: &Request<'_>) -> usize {
        request.body().len()
    }

    fn exchange(&mut self, exchange: Exchange<'_, usize>) {
        let Exchange { request, kept, outcome } = exchange;
        let torn = if request.extent == Extent::Torn { " torn" } else { "" };
        let outcome = match outcome {
            Outcome::Answered(r) if r.extent == Extent::Torn => "torn".to_owned(),
            Outcome::Answered(r) => r.body().len().to_string(),
            Outcome::NoneDue => "none due".to_owned(),
            Outcome::Unanswered(Unanswered::TooMany) => "too many".to_owned(),
            Outcome::Unanswered(why) => format!("{why:?}"),
        };
        let (c, id) = (request.connection.0, request.correlation_id);
        self.lines.push(format!("{c} {} {id} {kept}{torn}: {outcome}", request.api_key));
    }

    fn response_without_request(&mut self, connection: Connection, response: &Response<'_>) {
        self.lines.push(format!("{} orphan {}", connection.0, response.correlation_id));
    }

    fn sasl_token(&mut self, c: Connection, direction: Direction, _: &Span, token: &[u8]) {
        let token = String::from_utf8_lossy(token).into_owned();
        self.lines.push(format!("{} {direction:?} token {token:?}", c.0));
    }

    fn trouble(&mut self, trouble: &StreamTrouble) {
        self.lines.push(format!("{} {:?}", trouble.connection.0, trouble.kind));
    }

    fn closed(&mut self, summary: &ConnectionSummary) {
        self.summaries.insert(summary.facts.connection.0, *summary);
    }
}

const CLIENT: &str = "127.0.0.1:40000";
const BROKER: &str = "127.0.0.1:9092";

/// The packets of one conversation.
struct Talk {
    conversation: Conversation,
    packets: Vec<Vec<u8>>,
}

impl Talk {
    fn new(client: &str, broker: &str, number: u64) -> Self {
        let (client, broker) = (client.parse().unwrap(), broker.parse().unwrap());
        let conversation = Conversation::new(client, broker, number);
        let mut talk = Self { conversation, packets: Vec::new() };
        talk.with(|c, emit| c.open(emit));
        talk
    }

    fn with(&mut self, what: impl FnOnce(&mut Conversation, &mut dyn FnMut(Frame<'_>))) {
        let Self { conversation, packets } = self;
        what(conversation, &mut |f| packets.push([f.headers, f.payload].concat()));
    }

    fn asks(&mut self, bytes: &[u8]) {
        self.with(|c, emit| c.data(Side::Client, bytes, emit));
    }

    fn answers(&mut self, bytes: &[u8]) {
        self.with(|c, emit| c.data(Side::Server, bytes, emit));
    }

    fn closes(mut self) -> Vec<Vec<u8>> {
        self.with(|c, emit| c.close(Side::Client, emit));
        self.packets
    }
}

fn assemble(link_type: LinkType, packets: &[Vec<u8>]) -> Lines {
    let mut assembler = Assembler::new(Lines::default(), AssemblerOptions::default());
    for (n, packet) in packets.iter().enumerate() {
        let number = PacketNumber { file: 0, number: n as u64 + 1 };
        assembler.packet(link_type, packet, packet.len() as u32, number, n as u64 * 1_000_000);
    }
    assembler.finish().0
}

/// A conversation with pipelining, requests without answers and large bodies.
fn busy(client: &str, broker: &str) -> Vec<Vec<u8>> {
    let mut talk = Talk::new(client, broker, 1);
    talk.asks(&[metadata(1), produce(2, 0, 10), produce(3, 1, 200_000), metadata(4)].concat());
    talk.answers(&[metadata_answer(1), response(3, &[7; 150_000])].concat());
    talk.answers(&metadata_answer(4));
    talk.asks(&metadata(5));
    talk.closes()
}

const BUSY: [&str; 5] = [
    "0 Metadata 1 4: 12",
    "0 Produce 2 37: none due",
    "0 Produce 3 200027: 150000",
    "0 Metadata 4 4: 12",
    "0 Metadata 5 4: Closed",
];

/// The lines without their order: acks=0 is told before what is still waiting.
fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_by_key(|l| l.split(' ').nth(2).map(str::to_owned));
    lines
}

#[test]
fn every_kind_of_answer_is_told() {
    let lines = assemble(LinkType::ETHERNET, &busy(CLIENT, BROKER));
    assert_eq!(sorted(lines.lines), BUSY);
    let summary = lines.summaries[&0];
    assert_eq!((summary.requests, summary.responses, summary.unanswered), (5, 3, 1));
    assert!(summary.syn && summary.fin && !summary.rst);
    assert_eq!(summary.facts.client.to_string(), CLIENT);
}

#[test]
fn every_link_type_gives_the_same_exchanges() {
    let v4 = busy(CLIENT, BROKER);
    let v6 = busy("[::1]:40000", "[::1]:9092");
    let with = |head: &[u8], packets: &[Vec<u8>]| {
        packets.iter().map(|p| [head, &p[14..]].concat()).collect::<Vec<_>>()
    };
    let vlan = [&[2; 12][..], &[0x81, 0, 0, 5, 0x08, 0]].concat();
    let double_vlan = [&[2; 12][..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x86, 0xdd]].concat();
    let sll = [&[0; 14][..], &[0x08, 0]].concat();
    let sll2 = [&[0x86, 0xdd][..], &[0; 18]].concat();
    for (link_type, packets) in [
        (LinkType::ETHERNET, v4.clone()),
        (LinkType::ETHERNET, v6.clone()),
        (LinkType::ETHERNET, with(&vlan, &v4)),
        (LinkType::ETHERNET, with(&double_vlan, &v6)),
        (LinkType::LINUX_SLL, with(&sll, &v4)),
        (LinkType::LINUX_SLL2, with(&sll2, &v6)),
        (LinkType::RAW, with(&[], &v4)),
        (LinkType::RAW, with(&[], &v6)),
        (LinkType::IPV4, with(&[], &v4)),
        (LinkType::NULL, with(&[2, 0, 0, 0], &v4)),
        (LinkType::NULL, with(&[0, 0, 0, 30], &v6)),
        (LinkType::LOOP, with(&[0, 0, 0, 2], &v4)),
    ] {
        assert_eq!(sorted(assemble(link_type, &packets).lines), BUSY, "{link_type:?}");
    }
}

/// Cuts the payload of an IP packet into fragments of that many bytes.
fn fragments(packet: &[u8], bytes: usize, number: u16) -> Vec<Vec<u8>> {
    let v6 = packet[0] >> 4 == 6;
    let (header, payload) = packet.split_at(if v6 { 40 } else { 20 });
    let count = payload.len().div_ceil(bytes);
    let pieces = payload.chunks(bytes).enumerate().map(|(i, piece)| {
        let mut header = header.to_vec();
        let more = i + 1 < count;
        let offset = (i * bytes / 8) as u16;
        if v6 {
            // A hop-by-hop header before the fragment header.
            header[4..6].copy_from_slice(&(piece.len() as u16 + 16).to_be_bytes());
            header[6] = 0;
            header.extend([44, 0, 1, 4, 0, 0, 0, 0]);
            header.extend([6, 0]);
            header.extend((offset << 3 | u16::from(more)).to_be_bytes());
            header.extend(u32::from(number).to_be_bytes());
        } else {
            header[2..4].copy_from_slice(&(piece.len() as u16 + 20).to_be_bytes());
            header[4..6].copy_from_slice(&number.to_be_bytes());
            header[6..8].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
        }
        [&header, piece].concat()
    });
    pieces.collect()
}

#[test]
fn fragments_are_put_together() {
    for packets in [busy(CLIENT, BROKER), busy("[::1]:40000", "[::1]:9092")] {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        for (n, packet) in packets.iter().enumerate() {
            pieces.extend(fragments(&packet[14..], 1480, n as u16));
        }
        assert!(pieces.len() > 200);
        assert_eq!(sorted(assemble(LinkType::RAW, &pieces).lines), BUSY);
        // Each packet's fragments the other way round.
        pieces.clear();
        for (n, packet) in packets.iter().enumerate() {
            pieces.extend(fragments(&packet[14..], 1480, n as u16).into_iter().rev());
        }
        assert_eq!(sorted(assemble(LinkType::RAW, &pieces).lines), BUSY);
    }
}

#[test]
fn tokens_without_headers_are_told_apart_from_requests() {
    let mut talk = Talk::new(CLIENT, BROKER, 1);
    talk.asks(&request(ApiKey::SASL_HANDSHAKE, 0, 1, b"\0\x0dSCRAM-SHA-256"));
    talk.answers(&response(1, &[0, 0, 0, 0, 0, 0]));
    talk.asks(&frame(b"n,,n=user,r=abc"));
    talk.answers(&frame(b"r=abcdef,s=salt,i=4096"));
    talk.asks(&frame(b"c=biws,p=proof"));
    talk.answers(&frame(b"v=signature"));
    talk.asks(&metadata(2));
    talk.answers(&metadata_answer(2));
    let lines = assemble(LinkType::ETHERNET, &talk.closes());
    assert_eq!(
        lines.lines,
        [
            "0 SaslHandshake 1 15: 6",
            "0 Request token \"n,,n=user,r=abc\"",
            "0 Response token \"r=abcdef,s=salt,i=4096\"",
            "0 Request token \"c=biws,p=proof\"",
            "0 Response token \"v=signature\"",
            "0 Metadata 2 4: 12",
        ]
    );
    assert_eq!(lines.summaries[&0].sasl_tokens, 4);
}

#[test]
fn lost_packets_are_named_and_the_rest_is_found() {
    let mut talk = Talk::new(CLIENT, BROKER, 1);
    for id in 1..=5 {
        talk.asks(&metadata(id));
        talk.answers(&metadata_answer(id));
    }
    let packets = talk.closes();
    // Packets 3 and 4 are the first request and response, and so on.
    let without = |lost: &[usize]| {
        let kept = packets.iter().enumerate().filter(|(n, _)| !lost.contains(n));
        assemble(LinkType::ETHERNET, &kept.map(|(_, p)| p.clone()).collect::<Vec<_>>())
    };
    let lines = without(&[5]);
    assert_eq!(
        sorted(lines.lines),
        [
            "0 Gap { bytes: 21 }",
            "0 Metadata 1 4: 12",
            "0 orphan 2",
            "0 Metadata 3 4: 12",
            "0 Metadata 4 4: 12",
            "0 Metadata 5 4: 12",
        ]
        .map(String::from)
        .to_vec()
        .tap_sorted()
    );
    let lines = without(&[6]);
    assert!(lines.lines.contains(&"0 Metadata 2 4: Overtaken".into()), "{:?}", lines.lines);
    let summary = lines.summaries[&0];
    assert_eq!((summary.requests, summary.responses, summary.unanswered), (5, 4, 1));
    assert_eq!(summary.directions[1].gaps, 1);
}

trait TapSorted {
    fn tap_sorted(self) -> Self;
}

impl TapSorted for Vec<String> {
    fn tap_sorted(self) -> Self {
        sorted(self)
    }
}

#[test]
fn a_response_seen_before_its_request_is_still_its_answer() {
    let mut packets = busy(CLIENT, BROKER);
    // The whole request direction up to here comes after the first response packets.
    let moved: Vec<_> = packets.splice(3..4, []).collect();
    packets.splice(8..8, moved);
    assert_eq!(sorted(assemble(LinkType::ETHERNET, &packets).lines), BUSY);
}

#[test]
fn overlapping_segments_out_of_order_fill_each_others_holes() {
    let mut talk = Talk::new(CLIENT, BROKER, 1);
    let question = produce(1, 1, 60);
    talk.asks(&question);
    let whole = talk.packets.pop().unwrap();
    // Parts of the one segment, as ranges of its payload: out of order and overlapping.
    let part = |from: usize, to: usize| {
        let mut packet = whole[..54].to_vec();
        let sequence = u32::from_be_bytes(packet[38..42].try_into().unwrap());
        packet[38..42].copy_from_slice(&sequence.wrapping_add(from as u32).to_be_bytes());
        packet[16..18].copy_from_slice(&((40 + to - from) as u16).to_be_bytes());
        packet.extend(&question[from..to]);
        packet
    };
    let end = question.len();
    for (from, to) in [(20, 30), (40, 50), (15, 60), (25, 45), (end - 9, end), (1, end), (0, 2)] {
        talk.packets.push(part(from, to));
    }
    talk.answers(&response(1, b"done"));
    let lines = assemble(LinkType::ETHERNET, &talk.closes());
    assert_eq!(lines.lines, ["0 Produce 1 87: 4"]);
    let client = lines.summaries[&0].directions[0];
    assert_eq!((client.bytes as usize, client.gaps, client.differing_overlaps), (end, 0, 0));
}

#[test]
fn the_same_ports_used_again_are_another_connection() {
    let mut packets = busy(CLIENT, BROKER);
    let mut second = Talk::new(CLIENT, BROKER, 2);
    second.asks(&metadata(9));
    second.answers(&metadata_answer(9));
    packets.extend(second.closes());
    let lines = assemble(LinkType::ETHERNET, &packets);
    assert!(lines.lines.contains(&"1 Metadata 9 4: 12".into()));
    assert_eq!(lines.summaries.len(), 2);
}

#[test]
fn bytes_that_come_again_as_others_are_named_and_the_first_are_taken() {
    let mut talk = Talk::new(CLIENT, BROKER, 1);
    talk.asks(&metadata(1));
    let mut other = talk.packets[3].clone();
    *other.last_mut().unwrap() = 0x55;
    talk.packets.push(other);
    talk.answers(&metadata_answer(1));
    let lines = assemble(LinkType::ETHERNET, &talk.closes());
    assert_eq!(lines.lines, ["0 OverlapDiffers", "0 Metadata 1 4: 12"]);
}

#[test]
fn what_is_not_kafka_is_named_and_not_read() {
    let mut tls = Talk::new(CLIENT, BROKER, 1);
    tls.asks(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on");
    tls.answers(b"\x16\x03\x03\x00\x5a and so on");
    let mut packets = tls.closes();
    let mut http = Talk::new("127.0.0.1:40001", "127.0.0.1:80", 2);
    http.asks(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n");
    http.answers(b"HTTP/1.1 200 OK\r\n\r\n");
    packets.extend(http.closes());
    let lines = assemble(LinkType::ETHERNET, &packets);
    assert_eq!(lines.lines, Vec::<String>::new());
    assert_eq!(lines.summaries[&0].protocol, Protocol::Tls);
    assert_eq!(lines.summaries[&1].protocol, Protocol::Other);
}

#[test]
fn hostile_streams_cost_little_and_end() {
    let mut talk = Talk::new(CLIENT, BROKER, 1);
    talk.asks(&metadata(1));
    // A segment 2^31 bytes ahead, one 2^31 behind, and one that overlaps everything.
    for distance in [1 << 31, (1 << 31) - 1, 1 << 30, 0x8000_0001, 3] {
        let mut wild = talk.packets[3].clone();
        let at = 14 + 20 + 4;
        let sequence = u32::from_be_bytes(wild[at..at + 4].try_into().unwrap());
        wild[at..at + 4].copy_from_slice(&sequence.wrapping_add(distance).to_be_bytes());
        talk.packets.push(wild);
    }
    talk.answers(&metadata_answer(1));
    talk.asks(&metadata(2));
    talk.answers(&metadata_answer(2));
    let mut packets = talk.closes();
    // Half-open connections from everywhere.
    for n in 0..100_000u32 {
        let client = SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 1024 + (n >> 16) as u16));
        let mut c = Conversation::new(client, BROKER.parse().unwrap(), u64::from(n));
        let mut first = None;
        c.open(&mut |f| {
            first.get_or_insert_with(|| f.headers.to_vec());
        });
        packets.push(first.unwrap());
    }
    let lines = assemble(LinkType::ETHERNET, &packets);
    assert!(lines.lines.contains(&"0 Metadata 1 4: 12".into()), "{:?}", lines.lines);
    assert_eq!(lines.summaries.len(), 100_001);
}

#[test]
fn memory_for_frames_is_bounded() {
    let options = AssemblerOptions { gathered_bytes_max: 100_000, ..Default::default() };
    let mut assembler = Assembler::new(Lines::default(), options);
    for (n, packet) in busy(CLIENT, BROKER).iter().enumerate() {
        let number = PacketNumber { file: 0, number: n as u64 };
        assembler.packet(LinkType::ETHERNET, packet, packet.len() as u32, number, 0);
    }
    let lines = assembler.finish().0.lines;
    assert!(lines.contains(&format!("0 {:?}", StreamTroubleKind::Limited)));
    assert!(lines.iter().any(|l| l.starts_with("0 Produce 3 ")), "{lines:?}");
    assert!(lines.contains(&"0 Metadata 4 4: 12".into()), "{lines:?}");
}

/// Files in memory that can be looked at after they were written.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Vec<Vec<u8>>>>);

impl Shelf {
    fn open(&self) -> Box<dyn FnMut(u32) -> io::Result<Box<dyn Write + Send>> + Send> {
        let shelf = self.clone();
        Box::new(move |number| {
            shelf.0.lock().unwrap().push(Vec::new());
            Ok(Box::new(ShelfFile(shelf.clone(), number as usize)))
        })
    }

    fn read(&self) -> (Lines, CaptureSummary) {
        let files = self.0.lock().unwrap().clone();
        let files = files.iter().map(|f| &f[..]).collect();
        read_captures(files, AssemblerOptions::default(), Lines::default()).unwrap()
    }
}

struct ShelfFile(Shelf, usize);

impl Write for ShelfFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().unwrap()[self.1].extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Many threads, a connection each, so many exchanges.
fn record(tap: &PcapngTap, threads: u64, exchanges: i32) {
    let clock = AtomicU64::new(0);
    let tick = &|| clock.fetch_add(1, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for n in 0..threads {
            scope.spawn(move || {
                let connection = Connection(n);
                let client = SocketAddr::from(([127, 0, 0, 1], 40_000 + n as u16));
                tap.opened(connection, client, BROKER.parse().unwrap(), tick());
                for id in 1..=exchanges {
                    tap.bytes(connection, Direction::Request, tick(), &metadata(id));
                    tap.action(connection, Direction::Request, tick(), "held");
                    tap.bytes(connection, Direction::Response, tick(), &metadata_answer(id));
                }
                tap.closed(connection, Direction::Response, tick());
            });
        }
    });
}

#[test]
fn what_many_threads_record_is_read_back_whole() {
    for file_bytes_max in [u64::MAX, 20_000] {
        let shelf = Shelf::default();
        let tap = PcapngTap::new(shelf.open(), file_bytes_max).unwrap();
        record(&tap, 8, 50);
        let recorded = tap.finish().unwrap();
        let (lines, summary) = shelf.read();
        assert_eq!(lines.lines.len(), 8 * 50);
        assert!(lines.lines.iter().all(|l| l.ends_with("4: 12")));
        assert_eq!(recorded.packets, summary.packets.packets);
        assert_eq!(recorded.files as usize, summary.files.len());
        assert_eq!(recorded.bytes, summary.files.iter().map(|f| f.bytes).sum::<u64>());
        assert_eq!(summary.files.len() > 5, file_bytes_max < u64::MAX);
        assert!(summary.files.iter().all(|f| f.damages.is_empty()));
    }
}

#[test]
fn files_that_rotate_are_no_larger_than_they_may_be() {
    let mut blocks = Vec::new();
    for packet in busy(CLIENT, BROKER) {
        let (headers, time_ns) = (&packet[..], 1);
        let block = PacketBlock { interface: 0, time_ns, headers, payload: &[], comments: &[] };
        write::packet(&mut blocks, &block);
    }
    let shelf = Shelf::default();
    let mut files = CaptureFiles::new(shelf.open(), 1_000, LinkType::ETHERNET, "lo").unwrap();
    files.write(&blocks).unwrap();
    let (_, summary) = shelf.read();
    assert_eq!(summary.packets.packets as usize, busy(CLIENT, BROKER).len());
    assert!(summary.files.iter().all(|file| file.damages.is_empty()));
    let head = shelf.0.lock().unwrap().iter().map(Vec::len).min().unwrap().min(200);
    for (file, read) in shelf.0.lock().unwrap().iter().zip(&summary.files) {
        assert!(file.len() <= 1_000 + head || read.packets == 1, "{}", file.len());
    }
    assert!(summary.files.len() > 4);
}

#[test]
fn a_failure_to_write_is_told_at_the_end() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let tap = PcapngTap::new(Box::new(|_| Ok(Box::new(Full(2_000)))), u64::MAX).unwrap();
    record(&tap, 2, 50);
    assert_eq!(tap.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
}

/// Records without end until it is killed; says after each exchange how many are recorded.
#[test]
fn records_until_killed() {
    let Some(path) = std::env::var_os("FENCEPOST_TEST_RECORD") else { return };
    let open = move |_| Ok(Box::new(std::fs::File::create(&path)?) as Box<dyn Write + Send>);
    let tap = PcapngTap::new(Box::new(open), u64::MAX).unwrap();
    let connection = Connection(0);
    tap.opened(connection, CLIENT.parse().unwrap(), BROKER.parse().unwrap(), 0);
    for id in 1.. {
        tap.bytes(connection, Direction::Request, 0, &produce(id, 1, 100_000));
        tap.bytes(connection, Direction::Response, 0, &response(id, b"done"));
        writeln!(io::stderr(), "recorded {id}").unwrap();
    }
}

#[test]
fn a_killed_recorder_leaves_every_packet_it_was_told() {
    use std::io::BufRead;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wire.pcapng");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "records_until_killed", "--nocapture"])
        .env("FENCEPOST_TEST_RECORD", &path)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let said = io::BufReader::new(child.stderr.take().unwrap());
    let hundredth = said.lines().map(Result::unwrap).find(|l| l == "recorded 100");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(hundredth.is_some());
    let file = std::fs::File::open(&path).unwrap();
    let (lines, _) =
        read_captures(vec![file], AssemblerOptions::default(), Lines::default()).unwrap();
    let answered = lines.lines.iter().filter(|l| l.ends_with(": 4")).count();
    assert!(answered >= 100, "{answered}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_change_to_packets_is_survived(
        changes: Vec<(prop::sample::Index, prop::sample::Index, u8)>,
        moves: Vec<(prop::sample::Index, prop::sample::Index)>,
        cuts: Vec<(prop::sample::Index, prop::sample::Index)>,
    ) {
        let mut talk = Talk::new(CLIENT, BROKER, 1);
        for id in 1..20 {
            talk.asks(&[metadata(id), produce(id + 100, id as i16 % 2, 3_000)].concat());
            talk.answers(&metadata_answer(id));
            talk.answers(&response(id + 100, &[3; 500]));
        }
        let mut packets = talk.closes();
        for (packet, at, byte) in changes {
            let packet = packet.index(packets.len());
            // The headers and the first bytes, where a change does most.
            let at = at.index(packets[packet].len().min(90));
            packets[packet][at] = byte;
        }
        for (from, to) in moves {
            let (from, to) = (from.index(packets.len()), to.index(packets.len()));
            let packet = packets.remove(from);
            packets.insert(to, packet);
        }
        for (packet, at) in cuts {
            let packet = packet.index(packets.len());
            let length = at.index(packets[packet].len().max(1));
            packets[packet].truncate(length);
        }
        assemble(LinkType::ETHERNET, &packets);
    }

    #[test]
    fn any_payloads_are_survived(
        payloads: Vec<(bool, Vec<u8>)>, starts_as_kafka: bool,
    ) {
        let mut talk = Talk::new(CLIENT, BROKER, 1);
        if starts_as_kafka {
            talk.asks(&metadata(1));
        }
        for (client, payload) in payloads {
            talk.with(|c, emit| {
                c.data(if client { Side::Client } else { Side::Server }, &payload, emit);
            });
        }
        assemble(LinkType::ETHERNET, &talk.closes());
    }
}
