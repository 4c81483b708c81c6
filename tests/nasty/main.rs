//! One conversation in every form a capture can give it: the form must not change what was said.
//!
//! The conversations are those of `corpus/captures`; with `FENCEPOST_CAPTURES` set also those of
//! real clients in that folder. Each case changes the segments, or how they are packed, and says
//! what must come of it: the same exchanges and the same verdict, or fewer exchanges, none of them
//! invented and none accused.

#![allow(clippy::unwrap_used, reason = "tests")]

mod changes;
mod files;
mod packets;
mod talks;
mod wireshark;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

use changes::{
    again, among_others, both_open, delayed, each, ended_with_data, fast_open, followed, joined,
    keep_alive, numbers, old_reset, old_syn, one_side, part, preceded, renumbered, reset, shuffled,
    small, three_brokers, translated, without,
};
use fencepost::capture::{AssemblerOptions, CaptureSummary, read_captures};
use fencepost::history::wire::{
    ConnectionFacts, ConnectionSummary, Exchange, ExchangeSink, Extent, Outcome, Request, Span,
};
use fencepost::history::{Connection, Direction};
use fencepost::run::judge::{Given, judge};
use files::{Classic, Clock, NANOSECONDS, Ng, Order, gzip, pcap, zstd};
use packets::{
    ACK, FIN, Ip, Link, Pieces, RST, SYN, Seg, Tunnel, Wire, fragments, packets, segments,
};

/// What a reading of a capture found.
#[derive(Debug, Default)]
struct Found {
    ports: BTreeMap<u64, String>,
    clients: BTreeMap<u64, u16>,
    /// Ports, API, correlation id and a sum of the bytes of request and response.
    exchanges: Vec<String>,
    messages: Messages,
    summaries: Vec<ConnectionSummary>,
}

/// Whole messages with a header: the client's port, the correlation id and whether it is a response.
type Messages = BTreeSet<(u16, i32, bool)>;

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl ExchangeSink for Found {
    type Kept = u64;

    fn connection(&mut self, facts: &ConnectionFacts) {
        let ports = format!("{}-{}", facts.client.port(), facts.broker.port());
        self.ports.insert(facts.connection.0, ports);
        self.clients.insert(facts.connection.0, facts.client.port());
    }

    fn request(&mut self, request: &Request<'_>) -> u64 {
        let facts = request.facts;
        if facts.extent == Extent::Whole {
            let port = self.clients[&facts.connection.0];
            self.messages.insert((port, facts.correlation_id.0, false));
        }
        sum(request.frame)
    }

    fn exchange(&mut self, exchange: Exchange<'_, u64>) {
        let facts = &exchange.request;
        if let Outcome::Answered(response) = &exchange.outcome
            && response.extent == Extent::Whole
        {
            let port = self.clients[&facts.connection.0];
            self.messages.insert((port, facts.correlation_id.0, true));
        }
        let answer = match &exchange.outcome {
            Outcome::NoneDue => 0,
            Outcome::Answered(response) if response.extent == Extent::Whole => sum(response.frame),
            _ => return,
        };
        if facts.extent == Extent::Whole {
            let (ports, id) = (&self.ports[&facts.connection.0], facts.correlation_id);
            let (api, kept) = (facts.api_key, exchange.kept);
            self.exchanges.push(format!("{ports} {api} {id} {kept:x} {answer:x}"));
        }
    }

    fn sasl_token(&mut self, c: Connection, way: Direction, _: &Span, token: &[u8]) {
        self.exchanges.push(format!("{} {way:?} token {:x}", self.ports[&c.0], sum(token)));
    }

    fn closed(&mut self, summary: &ConnectionSummary) {
        self.summaries.push(*summary);
    }
}

impl Found {
    fn gaps(&self) -> u64 {
        self.summaries.iter().flat_map(|s| s.directions).map(|d| d.gaps).sum()
    }

    fn differing(&self) -> u64 {
        self.summaries.iter().flat_map(|s| s.directions).map(|d| d.differing_overlaps).sum()
    }
}

fn read(file: &[u8]) -> (Found, CaptureSummary) {
    let (mut found, summary) =
        read_captures(vec![file], AssemblerOptions::default(), Found::default()).unwrap();
    found.exchanges.sort();
    (found, summary)
}

/// The verdict in short: validity, and each anomaly with its count.
fn verdict(folder: &Path, file: &[u8]) -> String {
    let path = folder.join("capture");
    fs::write(&path, file).unwrap();
    let verdict = match judge(&[path], &Given::default()) {
        Ok(verdict) => verdict,
        Err(error) => return format!("not judged: {error:?}"),
    };
    let counts: Vec<String> =
        verdict.anomalies.iter().map(|(name, found)| format!("{name} {}", found.count)).collect();
    counts.join(", ")
}

/// What must come of a case.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// The same exchanges, the same verdict, no gap.
    Same,
    /// The same, and that bytes came again as others is noted.
    Overlaps,
    /// The same, and the file is called damaged.
    Damaged,
    /// Each exchange twice.
    Twice,
    /// Fewer, but so many of a hundred at least.
    Some(usize),
    /// Fewer, so many of a hundred at least, and gaps are named.
    Gaps(usize),
}

/// What the cases are made of.
struct Base {
    segs: Vec<Seg>,
    folder: tempfile::TempDir,
    exchanges: Vec<String>,
    verdict: String,
    wrong: Vec<String>,
    /// Every form of which nothing is missing, with the messages found in it, where somebody else
    /// shall read them too.
    forms: Option<Vec<(String, Vec<u8>, Messages)>>,
}

impl Base {
    fn new(segs: Vec<Seg>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = plain(&ethernet(&segs));
        let exchanges = read(&file).0.exchanges;
        let verdict = verdict(folder.path(), &file);
        Self { segs, folder, exchanges, verdict, wrong: Vec::new(), forms: None }
    }

    fn segs(&mut self, name: &str, segs: &[Seg], expected: Expected) {
        self.packets(name, &ethernet(segs), expected);
    }

    fn packets(&mut self, name: &str, packets: &[Wire], expected: Expected) {
        self.file(name, &plain(packets), expected);
    }

    fn file(&mut self, name: &str, file: &[u8], expected: Expected) {
        let (found, summary) = read(file);
        if let (Some(forms), Expected::Same) = (&mut self.forms, expected) {
            forms.push((name.to_owned(), file.to_vec(), found.messages.clone()));
        }
        let verdict = verdict(self.folder.path(), file);
        let all = self.exchanges.len();
        let here = found.exchanges.len();
        let mut faults = Vec::new();
        let invented: Vec<&String> =
            found.exchanges.iter().filter(|e| self.exchanges.binary_search(e).is_err()).collect();
        if !invented.is_empty() {
            faults.push(format!("{} invented, such as {}", invented.len(), invented[0]));
        }
        let least = match expected {
            Expected::Same | Expected::Overlaps | Expected::Damaged => all,
            Expected::Twice => 2 * all,
            Expected::Some(percent) | Expected::Gaps(percent) => (all * percent).div_ceil(100),
        };
        if here < least || (here > all && !matches!(expected, Expected::Twice)) {
            faults.push(format!("{here} exchanges instead of {least}"));
        }
        let gaps = found.gaps();
        let named = matches!(expected, Expected::Gaps(_));
        let free = matches!(expected, Expected::Some(_));
        if (gaps > 0) != named && !free {
            faults.push(format!("{gaps} gaps"));
        }
        if (found.differing() > 0) != matches!(expected, Expected::Overlaps) {
            faults.push(format!("{} overlaps that differ", found.differing()));
        }
        let damages: Vec<String> = summary.files[0].damages.iter().map(|d| d.to_string()).collect();
        if damages.is_empty() == matches!(expected, Expected::Damaged) {
            faults.push(format!("damages: {damages:?}"));
        }
        if summary.packets.broken > 0 {
            faults.push(format!("broken: {:?}", summary.packets.broken_packets[0]));
        }
        let judged = match expected {
            Expected::Same | Expected::Overlaps | Expected::Damaged => verdict == self.verdict,
            // The same said twice is no conversation that could be.
            Expected::Twice => true,
            // What is not here proves nothing.
            Expected::Some(_) | Expected::Gaps(_) => verdict.is_empty() || !self.verdict.is_empty(),
        };
        if !judged {
            faults.push(format!("judged as {verdict:?} instead of {:?}", self.verdict));
        }
        if !faults.is_empty() {
            self.wrong.push(format!("{name}: {}", faults.join("; ")));
        }
    }
}

fn ethernet(segs: &[Seg]) -> Vec<Wire> {
    packets(segs, Ip::V4, Link::Ethernet)
}

fn plain(packets: &[Wire]) -> Vec<u8> {
    pcap(packets, Order::Little, Classic::Nano)
}

fn links(base: &mut Base) {
    let segs = base.segs.clone();
    let le = |family: u32| family.to_le_bytes();
    for (ip, link) in [
        (Ip::V4Options, Link::Ethernet),
        (Ip::V4NoLength, Link::Ethernet),
        (Ip::V6, Link::Ethernet),
        (Ip::V6Headers, Link::Ethernet),
        (Ip::V6Jumbo, Link::Ethernet),
        (Ip::V4, Link::Vlan(&[0x8100])),
        (Ip::V6, Link::Vlan(&[0x88a8, 0x8100])),
        (Ip::V4, Link::Vlan(&[0x9100, 0x8100, 0x8100])),
        (Ip::V4, Link::Mpls),
        (Ip::V6, Link::Mpls),
        (Ip::V4, Link::Pppoe),
        (Ip::V6, Link::Pppoe),
        (Ip::V4, Link::Sll),
        (Ip::V6, Link::Sll),
        (Ip::V4, Link::Sll2),
        (Ip::V6, Link::Sll2),
        (Ip::V4, Link::Null(le(2), le(30))),
        (Ip::V6, Link::Null(le(2), le(24))),
        (Ip::V6, Link::Null(le(2), 28u32.to_be_bytes())),
        (Ip::V6, Link::Null(le(2), 10u32.to_be_bytes())),
        (Ip::V4, Link::Null(2u32.to_be_bytes(), le(30))),
        (Ip::V4, Link::Loop),
        (Ip::V6, Link::Loop),
        (Ip::V4, Link::Raw(12)),
        (Ip::V6, Link::Raw(14)),
        (Ip::V4, Link::Raw(101)),
        (Ip::V6, Link::Raw(101)),
        (Ip::V4, Link::Raw(228)),
        (Ip::V6, Link::Raw(229)),
        (Ip::V6, Link::Null(le(2), le(23))),
        (Ip::V4, Link::Snap),
        (Ip::V4, Link::Ppp(&[])),
        (Ip::V6, Link::Ppp(&[0xff, 3])),
        (Ip::V4, Link::Nflog),
        (Ip::V6, Link::Nflog),
        (Ip::V4, Link::Pktap),
        (Ip::V4, Link::In(Tunnel::Ip)),
        (Ip::V6, Link::In(Tunnel::Ip)),
        (Ip::V4, Link::In(Tunnel::Gre)),
        (Ip::V6, Link::In(Tunnel::GreBridged)),
        (Ip::V4, Link::In(Tunnel::Erspan(1))),
        (Ip::V4, Link::In(Tunnel::Erspan(2))),
        (Ip::V4, Link::In(Tunnel::Erspan(3))),
        (Ip::V4, Link::In(Tunnel::Vxlan(4789))),
        (Ip::V6, Link::In(Tunnel::Vxlan(8472))),
        (Ip::V4, Link::In(Tunnel::Geneve(0, true))),
        (Ip::V6, Link::In(Tunnel::Geneve(3, false))),
        (Ip::V4, Link::In(Tunnel::Three)),
    ] {
        let packets = packets(&segs, ip, link);
        base.packets(&format!("{link:?} {ip:?}"), &packets, Expected::Same);
    }
    for v6 in [false, true] {
        for (pieces, expected) in [
            (Pieces::InOrder, Expected::Same),
            (Pieces::Reversed, Expected::Same),
            (Pieces::Overlapping, Expected::Same),
            (Pieces::OptionsInside, Expected::Same),
            (Pieces::Missing, Expected::Gaps(60)),
        ] {
            let packets = fragments(&segs, v6, pieces);
            base.packets(&format!("fragments v6={v6} {pieces:?}"), &packets, expected);
        }
    }
    // Where every interface is captured, a packet is there as it goes in and as it comes out: of
    // a tunnel, of a VLAN, of a container.
    let twice = [Link::In(Tunnel::Vxlan(4789)), Link::Raw(101)];
    let twice = twice.map(|link| packets::packets(&segs, Ip::V4, link));
    let [first, second] = twice;
    let both: Vec<Wire> = first.into_iter().zip(second).flat_map(|(a, b)| [a, b]).collect();
    base.packets("inside and outside of a tunnel", &both, Expected::Same);
    // A frame check sequence behind the packet, and padding up to the shortest frame there is.
    let mut padded = ethernet(&segs);
    for packet in &mut padded {
        packet.data.resize(packet.data.len().max(60) + 4, 0x55);
        packet.wire_bytes = packet.data.len();
    }
    base.packets("padded", &padded, Expected::Same);
}

fn order(base: &mut Base) {
    let segs = base.segs.clone();
    base.segs("small segments", &small(&segs, 11), Expected::Same);
    base.segs("medium segments", &small(&segs, 536), Expected::Same);
    base.segs("joined segments", &joined(&segs), Expected::Same);
    for seed in 0..3 {
        base.segs("shuffled a little", &shuffled(&segs, 3, seed), Expected::Same);
        base.segs("shuffled", &shuffled(&segs, 8, seed), Expected::Same);
        let pieces = shuffled(&small(&segs, 40), 12, seed);
        base.segs("small and shuffled", &pieces, Expected::Same);
    }
    base.segs("twice", &each(&segs, |s| vec![s.clone(), s.clone()]), Expected::Same);
    let mut late = segs.clone();
    late.extend(segs.iter().filter(|s| !s.is(SYN)).cloned());
    base.segs("old duplicates at the end", &late, Expected::Same);
    let reaching = preceded(&segs, |s| part(s, 0, s.payload.len().div_ceil(2)));
    base.segs("sent again with more behind", &reaching, Expected::Same);
    let spoilt = followed(&segs, |mut s| {
        s.payload.iter_mut().for_each(|byte| *byte ^= 0xff);
        s
    });
    base.segs("sent again as other bytes", &spoilt, Expected::Overlaps);
    let shuffled_spoilt = shuffled(&small(&segs, 200), 4, 1);
    base.segs("medium and shuffled", &shuffled_spoilt, Expected::Same);
    let wrapped = renumbered(&segs, |n| u32::MAX - 100 - 37 * n);
    base.segs("numbers that wrap", &wrapped, Expected::Same);
    base.segs("numbers that wrap, shuffled", &shuffled(&wrapped, 8, 5), Expected::Same);
    let half = renumbered(&segs, |n| (i32::MAX as u32) - 100 - 37 * n);
    base.segs("numbers that change sign", &half, Expected::Same);
    let marked = each(&segs, |s| vec![Seg { flags: s.flags | 0xe8, ..s.clone() }]);
    base.segs("urgent, congested", &marked, Expected::Same);
    base.segs("keep-alives", &preceded(&segs, |s| keep_alive(s, 0)), Expected::Same);
    base.segs("keep-alives of a byte", &preceded(&segs, |s| keep_alive(s, 1)), Expected::Same);
    let probes = preceded(&segs, |s| part(s, 0, 1));
    base.segs("window probes", &probes, Expected::Same);
    for (client, places) in [(true, 3), (true, 12), (true, 40), (false, 3), (false, 40)] {
        let delayed = delayed(&segs, client, places);
        base.segs(&format!("delayed by {places}, client={client}"), &delayed, Expected::Same);
    }
}

fn beginnings_and_ends(base: &mut Base) {
    let segs = base.segs.clone();
    let no_handshake = without(&segs, |_, s| s.is(SYN));
    base.segs("no handshakes", &no_handshake, Expected::Same);
    let no_close = without(&segs, |_, s| s.is(FIN | RST) && s.payload.is_empty());
    base.segs("no ends", &no_close, Expected::Same);
    let data_alone = without(&segs, |_, s| s.payload.is_empty());
    base.segs("data alone", &data_alone, Expected::Some(100));
    let no_answer = without(&segs, |_, s| s.is(SYN) && s.is(ACK));
    base.segs("no answers to SYN", &no_answer, Expected::Same);
    let no_first = without(&segs, |_, s| s.is(SYN) && !s.is(ACK));
    base.segs("no SYN but its answer", &no_first, Expected::Same);
    let twice = each(&segs, |s| vec![s.clone(); 1 + usize::from(s.is(SYN))]);
    base.segs("SYN twice", &twice, Expected::Same);
    base.segs("both open", &both_open(&segs), Expected::Same);
    base.segs("fast open", &fast_open(&segs), Expected::Same);
    base.segs("resets", &reset(&segs), Expected::Same);
    base.segs("ends with data", &ended_with_data(&segs), Expected::Same);
    let kept_alive = preceded(&no_handshake, |s| keep_alive(s, 0));
    base.segs("keep-alives in mid-stream", &kept_alive, Expected::Same);
    let kept_alive = preceded(&no_handshake, |s| keep_alive(s, 1));
    base.segs("keep-alives of a byte in mid-stream", &kept_alive, Expected::Same);
    for start in 1..10 {
        let later = &segs[segs.len() * start / 10..];
        base.segs(&format!("from {start}0 %"), later, Expected::Some(0));
    }
    base.segs("clients alone", &one_side(&segs, true), Expected::Some(0));
    base.segs("brokers alone", &one_side(&segs, false), Expected::Some(0));
    base.segs("three brokers", &three_brokers(&segs), Expected::Same);
    base.segs("among others", &among_others(&segs), Expected::Same);
    let begun: BTreeSet<_> = segs.iter().filter(|s| s.is(SYN)).map(Seg::ends).collect();
    if segs.iter().any(|s| !begun.contains(&s.ends())) {
        return; // What was there before the capture cannot begin again.
    }
    // Numbers as systems choose them.
    let chosen = renumbered(&segs, |n| 0x3456_789a_u32.wrapping_mul(2 * n + 1));
    for of_clients in [true, false] {
        let all = translated(&chosen, of_clients);
        base.segs(&format!("addresses translated, of_clients={of_clients}"), &all, Expected::Same);
    }
    for distance in [3, 100_000, 50_000u32.wrapping_neg(), 0x5123_4567, 0xa123_4567] {
        for challenged in [false, true] {
            let all = old_syn(&segs, distance, challenged, false);
            let name = format!("old SYN {distance:#x} away, challenged={challenged}");
            base.segs(&name, &all, Expected::Same);
        }
    }
    for distance in [0x5123_4567, 0xa123_4567] {
        let all = old_syn(&segs, distance, true, true);
        base.segs("old SYN and what followed it", &all, Expected::Same);
        base.segs("old resets", &old_reset(&segs, distance), Expected::Same);
    }
    for (name, first) in
        [("ports again", segs.clone()), ("ports again without ends", no_close.clone())]
    {
        // Of one client numbers grow with time, a million in four seconds.
        for distance in [150_000, 1_000_000, 16_000_000] {
            let all = [first.clone(), again(&segs, distance)].concat();
            base.segs(&format!("{name}, {distance} on"), &all, Expected::Twice);
            let unanswered = without(&segs, |_, s| s.is(SYN) && s.is(ACK));
            let all = [first.clone(), again(&unanswered, distance)].concat();
            base.segs(&format!("{name}, {distance} on, unanswered"), &all, Expected::Twice);
        }
        for distance in [0x5123_4567, 0xa123_4567] {
            let all = [first.clone(), again(&segs, distance)].concat();
            base.segs(name, &all, Expected::Twice);
            let all = [first.clone(), again(&no_handshake, distance)].concat();
            base.segs(&format!("{name} and without SYN"), &all, Expected::Twice);
        }
    }
    let all = [reset(&segs), again(&no_handshake, 0x7123_4567)].concat();
    base.segs("ports again after resets, without SYN", &all, Expected::Twice);
}

fn losses(base: &mut Base) {
    let segs = base.segs.clone();
    let lost = |every: usize, at: usize| {
        without(&segs, |n, s| n % every == at && !s.payload.is_empty() && !s.is(SYN))
    };
    for at in 0..3 {
        base.segs("every 40th lost", &lost(40, at), Expected::Some(80));
        base.segs("every 7th lost", &lost(7, at), Expected::Gaps(10));
    }
    let wild = followed(&segs, |s| Seg { seq: s.seq.wrapping_add(1 << 31), ..s });
    base.segs("2^31 ahead", &wild, Expected::Some(90));
    for snapshot in [68, 96, 128, 200, 1_000] {
        let mut cut = ethernet(&segs);
        cut.iter_mut().for_each(|p| p.data.truncate(snapshot));
        base.packets(&format!("cut at {snapshot}"), &cut, Expected::Some(0));
    }
    let mut random = numbers(7);
    let mut half = Vec::new();
    for seg in &segs {
        if random(2) == 0 {
            half.push(seg.clone());
        }
    }
    base.segs("half of it lost", &half, Expected::Some(0));
}

fn classic_files(base: &mut Base) {
    let packets = ethernet(&base.segs.clone());
    for order in [Order::Little, Order::Big] {
        for classic in [Classic::Micro, Classic::Nano, Classic::Patched] {
            let file = pcap(&packets, order, classic);
            base.file(&format!("pcap {order:?} {classic:?}"), &file, Expected::Same);
        }
    }
    let file = plain(&packets);
    let (first, second) = file.split_at(file.len() / 3);
    base.file("gzip", &gzip(&[&file]), Expected::Same);
    base.file("gzip of members", &gzip(&[first, &[], second]), Expected::Same);
    base.file("zstd", &zstd(&[&file]), Expected::Same);
    base.file("zstd of frames", &zstd(&[first, &[], second]), Expected::Same);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(&[&file])].concat();
    base.file("zstd after a frame to skip", &skippable, Expected::Same);
    let padded = [&gzip(&[&file])[..], &[0; 512]].concat();
    base.file("gzip with zeros behind", &padded, Expected::Damaged);
    let more = |compressed: Vec<u8>| [&compressed[..], b"trailing rubbish"].concat();
    base.file("gzip with rubbish behind", &more(gzip(&[&file])), Expected::Damaged);
    base.file("zstd with rubbish behind", &more(zstd(&[&file])), Expected::Damaged);
    for (name, compressed) in [("gzip", gzip(&[first, second])), ("zstd", zstd(&[first, second]))] {
        let cut = &compressed[..compressed.len() * 9 / 10];
        let (found, summary) = read(cut);
        let here = found.exchanges.len() * 100 / base.exchanges.len().max(1);
        if summary.files[0].damages.is_empty() || here == 0 {
            base.wrong.push(format!("{name} cut off: {here} %, {:?}", summary.files[0].damages));
        }
    }
    // Files put one behind the other, as `cat` does.
    let (first, second) = packets.split_at(packets.len() / 3);
    let ng = |packets: &[Wire]| {
        let mut ng = Ng::new(Order::Big);
        ng.interface(1, NANOSECONDS);
        packets.iter().for_each(|packet| ng.enhanced(0, NANOSECONDS, packet, false));
        ng.out
    };
    let big = pcap(second, Order::Big, Classic::Micro);
    base.file("pcap behind pcap", &[plain(first), big].concat(), Expected::Same);
    base.file("pcapng behind pcap", &[plain(first), ng(second)].concat(), Expected::Same);
    base.file("pcap behind pcapng", &[ng(first), plain(second)].concat(), Expected::Same);
    let packed = [gzip(&[&plain(first)]), gzip(&[&ng(second)])].concat();
    base.file("packed files one behind the other", &packed, Expected::Same);
    // A packet that says it is longer than any, in the middle of the others.
    let mut broken = plain(&packets[..packets.len() / 2]);
    broken.extend([9; 8]);
    broken.extend([0xff; 8]);
    broken.extend(&plain(&packets[packets.len() / 2..])[24..]);
    base.file("a packet of 4 GiB", &broken, Expected::Damaged);
}

fn pcapng_files(base: &mut Base) {
    let packets = ethernet(&base.segs.clone());
    let clocks = [
        NANOSECONDS,
        Clock { resolution: None, offset: 0 },
        Clock { resolution: Some(6), offset: 1_000_000 },
        Clock { resolution: Some(0x80 | 30), offset: -3_600 },
        Clock { resolution: Some(12), offset: (packets[0].time_ns / 1_000_000_000) as i64 },
    ];
    for order in [Order::Little, Order::Big] {
        let mut ng = Ng::new(order);
        clocks.iter().for_each(|clock| ng.interface(1, *clock));
        for (at, packet) in packets.iter().enumerate() {
            if at % 50 == 0 {
                ng.others();
            }
            let number = at % clocks.len();
            ng.enhanced(number as u32, clocks[number], packet, at % 3 == 0);
        }
        base.file(&format!("interfaces {order:?}"), &ng.out, Expected::Same);

        let mut ng = Ng::new(order);
        ng.interface(1, NANOSECONDS);
        packets.iter().for_each(|packet| ng.obsolete(NANOSECONDS, packet));
        base.file(&format!("obsolete packets {order:?}"), &ng.out, Expected::Same);

        let mut ng = Ng::new(order);
        ng.interface(1, NANOSECONDS);
        for (at, packet) in packets.iter().enumerate() {
            // A simple packet has no time.
            if at % 5 == 1 { ng.simple(packet) } else { ng.enhanced(0, NANOSECONDS, packet, false) }
        }
        let (found, summary) = read(&ng.out);
        if found.exchanges != base.exchanges || !summary.files[0].damages.is_empty() {
            base.wrong.push(format!("simple packets {order:?}: {}", found.exchanges.len()));
        }
    }
    let mut ng = Ng::new(Order::Big);
    let mut order = Order::Big;
    ng.interface(1, NANOSECONDS);
    for (at, packet) in packets.iter().enumerate() {
        if at % 60 == 59 {
            order = if matches!(order, Order::Big) { Order::Little } else { Order::Big };
            ng.section(order);
            // Another interface first: numbers begin anew with the section.
            ng.interface(113, clocks[1]);
            ng.interface(1, NANOSECONDS);
        }
        ng.enhanced(u32::from(at >= 59), NANOSECONDS, packet, false);
    }
    base.file("sections of both orders", &ng.out, Expected::Same);

    let mixed: Vec<Vec<Wire>> = [Link::Ethernet, Link::Sll, Link::Sll2, Link::Raw(101)]
        .map(|link| packets::packets(&base.segs.clone(), Ip::V4, link))
        .to_vec();
    let mut ng = Ng::new(Order::Little);
    mixed.iter().for_each(|packets| ng.interface(packets[0].link.0, NANOSECONDS));
    for at in 0..packets.len() {
        let number = at % mixed.len();
        ng.enhanced(number as u32, NANOSECONDS, &mixed[number][at], false);
    }
    base.file("interfaces of four link types", &ng.out, Expected::Same);

    // Lengths that lie, between good blocks.
    let mut ng = Ng::new(Order::Little);
    ng.interface(1, NANOSECONDS);
    for (at, packet) in packets.iter().enumerate() {
        ng.enhanced(0, NANOSECONDS, packet, false);
        match at {
            20 => ng.out.extend([6, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3, 4]),
            30 => ng.out.extend([0; 8]),
            40 => ng.out.extend([6, 0, 0, 0, 16, 0, 0, 0, 1, 2, 3, 4, 20, 0, 0, 0]),
            50 => ng.enhanced(77, NANOSECONDS, packet, false),
            60 => ng.block(6, &[0; 8]),
            70 => ng.block(1, &[0; 4]),
            _ => {}
        }
    }
    base.file("blocks that lie", &ng.out, Expected::Damaged);
}

fn all(segs: Vec<Seg>) -> Vec<String> {
    every_form(Base::new(segs)).wrong
}

fn every_form(mut base: Base) -> Base {
    assert!(!base.exchanges.is_empty());
    links(&mut base);
    order(&mut base);
    beginnings_and_ends(&mut base);
    losses(&mut base);
    classic_files(&mut base);
    pcapng_files(&mut base);
    base
}

#[test]
fn the_form_of_a_capture_does_not_change_what_was_said() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/captures");
    for name in ["clean-old-style", "bug-deliver-aborted"] {
        let file = fs::File::open(corpus.join(format!("{name}.pcapng.gz"))).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        let wrong = all(segments(&bytes, 200));
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn nor_does_it_where_clients_log_in_and_do_not_wait_for_answers() {
    let segs = talks::sasl_and_pipelines();
    let found = read(&plain(&ethernet(&segs))).0;
    // Four connections, five rounds of nine; and six tokens and five exchanges before.
    assert_eq!(found.exchanges.len(), 4 * 5 * 9 + 6 + 5, "{:#?}", found.exchanges);
    let wrong = all(segs);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_cannot_be_followed_is_named() {
    let segs = talks::sasl_and_pipelines();
    let mut packets = ethernet(&segs[..6]);
    packets[0].data[12..14].copy_from_slice(&[0x88, 0xe5]);
    packets[1].data[23] = 50;
    packets[2].data[23] = 47;
    packets[2].data[34..38].copy_from_slice(&[0, 0, 0x12, 0x34]);
    packets[3].data[12..14].copy_from_slice(&[8, 6]);
    let unread = |packets: &[Wire]| -> Vec<String> {
        let unread = read(&plain(packets)).1.packets.unread;
        unread.iter().map(|(what, n)| format!("{n} {what}")).collect()
    };
    assert_eq!(
        unread(&packets),
        [
            "1 Ethernet type 0x88e5 (MACsec, encrypted)",
            "1 IP protocol 50 (IPsec ESP, encrypted)",
            "1 a tunnel for Ethernet type 0x1234",
        ]
    );
    packets.iter_mut().for_each(|packet| packet.link.0 = 127);
    assert_eq!(unread(&packets), ["6 link type 127 (IEEE 802.11 with radiotap)"]);
}

#[test]
fn the_form_of_captures_of_real_clients_does_not_change_what_was_said() {
    let Some(folder) = std::env::var_os("FENCEPOST_CAPTURES") else { return };
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "pcap" || e == "pcapng"));
    files.sort();
    let mut report = String::new();
    for file in files {
        let segs = segments(&fs::read(&file).unwrap(), 4_000);
        let found = read(&plain(&ethernet(&segs))).0;
        let is_clean = found.gaps() == 0 && segs.is_sorted_by_key(|seg| seg.time_ns);
        if found.exchanges.len() < 20 || !is_clean {
            continue;
        }
        let wrong = all(segs);
        if !wrong.is_empty() {
            report += &format!("{}:\n  {}\n", file.display(), wrong.join("\n  "));
        }
    }
    assert!(report.is_empty(), "{report}");
}
