//! The kernel's filter for TCP over given ports, as classic BPF over packets that begin with IP.
//!
//! Later fragments and IPv6 extension headers pass: what they carry is not at a fixed place. The
//! assembler looks at ports again.

/// More ports than this and the jumps would be too far: every TCP packet passes then.
const PORTS_MAX: usize = 40;
/// Bytes of a packet that pass.
const SNAPSHOT_BYTES: u32 = 262_144;

const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF_AFTER_X: u16 = 0x48;
const X_IPV4_HEADER: u16 = 0xb1;
const SHIFT_RIGHT: u16 = 0x74;
const IF_EQUAL: u16 = 0x15;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where the kernel keeps whether a packet comes or goes, for filters to load.
const PACKET_TYPE: u32 = 0xffff_f004;
const PACKET_OUTGOING: u32 = 4;
/// Where it keeps the number of the interface.
const INTERFACE_INDEX: u32 = 0xffff_f008;

const TCP: u32 = 6;

/// On loopback every packet goes out and comes in: which interface it is, if it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loopback {
    /// It is not.
    Absent,
    /// It is all that is looked at.
    Alone,
    /// It has this number among all.
    Among(u32),
}

/// One instruction as the kernel takes it: code, jump if true, jump if false, constant.
pub(super) type Instruction = (u16, u8, u8, u32);

/// Where a jump goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    Pass,
    Drop,
    /// The place that has this number.
    Label(u8),
}

const V6: u8 = 0;
const V6_EXTENDED: u8 = 1;
const ONCE: u8 = 2;

#[derive(Default)]
struct Program {
    code: Vec<(u16, To, To, u32)>,
    labels: [usize; 3],
}

impl Program {
    fn load(&mut self, code: u16, constant: u32) {
        self.code.push((code, To::Next, To::Next, constant));
    }

    fn jump(&mut self, code: u16, constant: u32, if_true: To, if_false: To) {
        self.code.push((code, if_true, if_false, constant));
    }

    fn label(&mut self, label: u8) {
        self.labels[usize::from(label)] = self.code.len();
    }

    /// Passes what has one of the ports at either place; drops the rest.
    fn ports(&mut self, load: u16, source_at: u32, ports: &[u16]) {
        for at in [source_at, source_at + 2] {
            self.load(load, at);
            for &port in ports {
                self.jump(IF_EQUAL, port.into(), To::Pass, To::Next);
            }
        }
        self.load(RETURN, 0);
    }

    fn finish(mut self) -> Vec<Instruction> {
        let pass = self.code.len();
        self.load(RETURN, SNAPSHOT_BYTES);
        self.load(RETURN, 0);
        let places = self.labels;
        let jump = |from: usize, to: To| {
            let target = match to {
                To::Next => from + 1,
                To::Pass => pass,
                To::Drop => pass + 1,
                To::Label(label) => places[usize::from(label)],
            };
            u8::try_from(target - from - 1).expect("a filter for PORTS_MAX ports is short")
        };
        let resolve = |(at, &(code, if_true, if_false, constant)): (usize, &(u16, To, To, u32))| {
            (code, jump(at, if_true), jump(at, if_false), constant)
        };
        self.code.iter().enumerate().map(resolve).collect()
    }
}

/// A filter for TCP over these ports, or over all where there are none. Of loopback's packets the
/// outgoing copies are dropped.
pub(super) fn tcp_over(ports: &[u16], loopback: Loopback) -> Vec<Instruction> {
    let ports = if ports.len() > PORTS_MAX { &[] } else { ports };
    let accept = if ports.is_empty() { To::Pass } else { To::Next };
    let mut p = Program::default();
    if let Loopback::Among(index) = loopback {
        p.load(LOAD_WORD, INTERFACE_INDEX);
        p.jump(IF_EQUAL, index, To::Next, To::Label(ONCE));
    }
    if loopback != Loopback::Absent {
        p.load(LOAD_WORD, PACKET_TYPE);
        p.jump(IF_EQUAL, PACKET_OUTGOING, To::Drop, To::Next);
    }
    p.label(ONCE);
    p.load(LOAD_BYTE, 0);
    p.load(SHIFT_RIGHT, 4);
    p.jump(IF_EQUAL, 4, To::Next, To::Label(V6));
    p.load(LOAD_BYTE, 9);
    p.jump(IF_EQUAL, TCP, accept, To::Drop);
    p.load(LOAD_HALF, 6);
    p.jump(IF_ANY_BIT, 0x1fff, To::Pass, To::Next);
    p.load(X_IPV4_HEADER, 0);
    p.ports(LOAD_HALF_AFTER_X, 0, ports);
    p.label(V6);
    p.jump(IF_EQUAL, 6, To::Next, To::Drop);
    p.load(LOAD_BYTE, 6);
    p.jump(IF_EQUAL, TCP, accept, To::Label(V6_EXTENDED));
    p.ports(LOAD_HALF, 40, ports);
    p.label(V6_EXTENDED);
    for extension in [0, 43, 44] {
        p.jump(IF_EQUAL, extension, To::Pass, To::Next);
    }
    p.jump(IF_EQUAL, 60, To::Pass, To::Drop);
    p.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do, for the instructions that are used here.
    fn passes(program: &[Instruction], packet: &[u8], outgoing: bool) -> bool {
        passes_at(program, packet, outgoing, 1)
    }

    fn passes_at(program: &[Instruction], packet: &[u8], outgoing: bool, index: u32) -> bool {
        let (mut at, mut a, mut x) = (0, 0u32, 0usize);
        loop {
            let (code, if_true, if_false, k) = program[at];
            let half = |i: usize| u32::from(u16::from_be_bytes([packet[i], packet[i + 1]]));
            let mut jump = 0;
            match code {
                LOAD_WORD if k == INTERFACE_INDEX => a = index,
                LOAD_WORD => a = if outgoing { PACKET_OUTGOING } else { 0 },
                LOAD_BYTE => a = packet[k as usize].into(),
                LOAD_HALF => a = half(k as usize),
                LOAD_HALF_AFTER_X => a = half(x + k as usize),
                X_IPV4_HEADER => x = usize::from(packet[0] & 15) * 4,
                SHIFT_RIGHT => a >>= k,
                IF_EQUAL => jump = if a == k { if_true } else { if_false },
                IF_ANY_BIT => jump = if a & k != 0 { if_true } else { if_false },
                _ => return k > 0,
            }
            at += 1 + usize::from(jump);
        }
    }

    fn v4(protocol: u8, fragment: u8, source: u8, target: u8) -> Vec<u8> {
        let mut packet = vec![0x46; 24];
        packet.splice(6..10, [0, fragment, 64, protocol]);
        packet.extend([0, source, 0, target]);
        packet
    }

    fn v6(next: u8, source: u8, target: u8) -> Vec<u8> {
        let mut packet = vec![0x60; 40];
        packet[6] = next;
        packet.extend([0, source, 0, target]);
        packet
    }

    #[test]
    fn only_tcp_over_the_ports_passes() {
        for ports in [vec![92], (60..=99).collect()] {
            let program = tcp_over(&ports, Loopback::Alone);
            for (packet, expected) in [
                (v4(6, 0, 92, 1), true),
                (v4(6, 0, 1, 92), true),
                (v4(6, 0, 1, 2), false),
                (v4(6, 5, 1, 2), true),
                (v4(17, 0, 92, 1), false),
                (v6(6, 92, 1), true),
                (v6(6, 1, 92), true),
                (v6(6, 1, 2), false),
                (v6(17, 92, 1), false),
                (v6(44, 1, 2), true),
                (v6(60, 1, 2), true),
            ] {
                assert_eq!(passes(&program, &packet, false), expected, "{packet:?}");
                assert!(!passes(&program, &packet, true));
            }
        }
    }

    #[test]
    fn among_all_interfaces_only_loopback_is_seen_once() {
        let program = tcp_over(&[92], Loopback::Among(7));
        for (outgoing, index, expected) in
            [(true, 7, false), (false, 7, true), (true, 2, true), (false, 2, true)]
        {
            assert_eq!(passes_at(&program, &v4(6, 0, 92, 1), outgoing, index), expected);
        }
    }

    #[test]
    fn without_ports_all_tcp_passes() {
        for ports in [vec![], (0..100).collect()] {
            let program = tcp_over(&ports, Loopback::Absent);
            assert!(passes(&program, &v4(6, 0, 1, 2), true));
            assert!(passes(&program, &v6(6, 1, 2), false));
            assert!(!passes(&program, &v4(17, 0, 1, 2), false));
        }
    }
}
