//! Any bytes as segments of a few connections, through the reassembly into judged exchanges.

#![no_main]

use capture_file::LinkType;
use fencepost::capture::{Assembler, AssemblerOptions};
use fencepost::checker::wire::WireCheck;
use fencepost::history::facts::{Fact, FactOptions, FactSink, FactTaker, Seen};
use fencepost::history::wire::{ConnectionFacts, ConnectionSummary, PacketNumber, StreamTrouble};
use libfuzzer_sys::fuzz_target;

struct Taker(WireCheck);

impl FactTaker for Taker {
    fn connection(&mut self, facts: &ConnectionFacts) {
        self.0.connection(facts);
    }
    fn fact(&mut self, fact: Fact) {
        self.0.fact(fact);
    }
    fn stray(&mut self, seen: &Seen) {
        self.0.stray(seen);
    }
    fn trouble(&mut self, trouble: &StreamTrouble) {
        self.0.trouble(trouble);
    }
    fn closed(&mut self, summary: &ConnectionSummary, explained_bytes: u64) {
        self.0.closed(summary, explained_bytes);
    }
}

/// An IPv4 packet between one of four clients and a broker.
fn packet(out: &mut Vec<u8>, kind: u8, sequence: u32, acknowledged: u32, payload: &[u8]) {
    let to_broker = kind & 4 == 0;
    let client = 40_000 + u16::from(kind & 3);
    let ports = if to_broker { [client, 9092] } else { [9092, client] };
    out.clear();
    out.extend([0x45, 0]);
    out.extend((40 + payload.len() as u16).to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let hosts: [u8; 2] = if to_broker { [1, 2] } else { [2, 1] };
    hosts.iter().for_each(|&host| out.extend([10, 0, 0, host]));
    ports.iter().for_each(|port| out.extend(port.to_be_bytes()));
    out.extend(sequence.to_be_bytes());
    out.extend(acknowledged.to_be_bytes());
    out.extend([0x50, kind >> 3, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(payload);
}

fuzz_target!(|bytes: &[u8]| {
    let check = Taker(WireCheck::new(8));
    let sink = FactSink::new(check, FactOptions { keep_records: true });
    let mut assembler = Assembler::new(sink, AssemblerOptions::default());
    // Where each direction of each connection stands: most segments follow each other.
    let mut next = [0u32; 8];
    let (mut rest, mut number, mut buffer) = (bytes, 0, Vec::new());
    while let [kind, step, jump, length, more @ ..] = rest {
        let (payload, later) = more.split_at(usize::from(*length).min(more.len()));
        let way = usize::from(kind & 7);
        // A step of 0 is in order; the others are back, ahead, or far away.
        let from = match step {
            0..0x80 => next[way],
            0x80..0xc0 => next[way].wrapping_sub(u32::from(*jump)),
            0xc0..0xf0 => next[way].wrapping_add(u32::from(*jump)),
            _ => next[way].wrapping_add(u32::from(*jump) << 24),
        };
        packet(&mut buffer, *kind, from, next[way ^ 4], payload);
        number += 1;
        let number = PacketNumber { file: 0, number };
        let cut = buffer.len() as u32 + u32::from(step & 0x1f == 0x1f);
        let time_ns = number.number * 1_000_000 * u64::from(step & 15);
        assembler.packet(LinkType::RAW, &buffer, cut, number, time_ns);
        next[way] = from.wrapping_add(payload.len() as u32 + u32::from(kind >> 3 & 3 != 0));
        rest = later;
    }
    let (sink, counts) = assembler.finish();
    assert_eq!(counts.packets, number);
    let Taker(check) = sink.finish();
    let _ = check.finish();
});
