//! What networks, cards and programs that capture do to segments.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::packets::{ACK, FIN, RST, SYN, Seg};

/// Numbers that look random, from a fixed beginning.
pub(crate) fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// Every segment becomes several, or none.
pub(crate) fn each(segs: &[Seg], change: impl FnMut(&Seg) -> Vec<Seg>) -> Vec<Seg> {
    segs.iter().flat_map(change).collect()
}

/// The part of a segment's payload from one place to another.
pub(crate) fn part(seg: &Seg, from: usize, to: usize) -> Seg {
    let last = to == seg.payload.len();
    Seg {
        seq: seg.seq.wrapping_add(from as u32 + u32::from(seg.is(SYN) && from > 0)),
        flags: seg.flags & if last { 0xff } else { !FIN } & if from > 0 { !SYN } else { 0xff },
        payload: seg.payload[from..to].to_vec(),
        ..seg.clone()
    }
}

/// Cut into segments of that many bytes.
pub(crate) fn small(segs: &[Seg], bytes: usize) -> Vec<Seg> {
    each(segs, |seg| {
        let count = seg.payload.len().div_ceil(bytes).max(1);
        (0..count)
            .map(|n| part(seg, n * bytes, (n * bytes + bytes).min(seg.payload.len())))
            .collect()
    })
}

/// What follows without an answer between is one segment, however large.
pub(crate) fn joined(segs: &[Seg]) -> Vec<Seg> {
    let mut out: Vec<Seg> = Vec::new();
    let mut last: BTreeMap<[SocketAddr; 2], usize> = BTreeMap::new();
    for seg in segs {
        if seg.payload.is_empty() && !seg.is(SYN | FIN | RST) {
            continue; // Acknowledgements would stand between.
        }
        if let Some(&at) = last.get(&seg.ends())
            && out[at].from == seg.from
            && !out[at].is(SYN)
            && out[at].end() == seg.seq
        {
            out[at].payload.extend(&seg.payload);
            out[at].flags |= seg.flags;
            out[at].ack = seg.ack;
            continue;
        }
        last.insert(seg.ends(), out.len());
        out.push(seg.clone());
    }
    out
}

/// Each packet up to so many places later; the times stay its own, as where several processors
/// capture.
pub(crate) fn shuffled(segs: &[Seg], distance: u64, seed: u64) -> Vec<Seg> {
    let mut random = numbers(seed);
    let mut places: Vec<(u64, &Seg)> =
        segs.iter().enumerate().map(|(at, seg)| (at as u64 + random(distance), seg)).collect();
    places.sort_by_key(|(place, _)| *place);
    places.into_iter().map(|(_, seg)| seg.clone()).collect()
}

/// One direction of every connection so many packets later, as where two cards capture.
pub(crate) fn delayed(segs: &[Seg], client: bool, places: usize) -> Vec<Seg> {
    let clients = clients(segs);
    let late = |seg: &Seg| clients.contains(&(seg.from, seg.to)) == client;
    let place = |at: usize, seg: &Seg| 2 * (at + if late(seg) { places } else { 0 });
    let mut placed: Vec<(usize, &Seg)> =
        segs.iter().enumerate().map(|(at, seg)| (place(at, seg), seg)).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, seg)| seg.clone()).collect()
}

/// Before each segment with data, a SYN (of a broker, its answer) from before this connection, so
/// far from where it is; `challenged` where the peer says that it is none of this connection, and
/// `spoken` where something old follows it.
pub(crate) fn old_syn(segs: &[Seg], distance: u32, challenged: bool, spoken: bool) -> Vec<Seg> {
    let clients = clients(segs);
    each(segs, |seg| {
        if seg.payload.is_empty() || seg.is(SYN) {
            return vec![seg.clone()];
        }
        let of_client = clients.contains(&(seg.from, seg.to));
        let seq = seg.seq.wrapping_add(distance);
        let flags = if of_client { SYN } else { SYN | ACK };
        let ack = if of_client { 0 } else { seg.ack.wrapping_add(distance) };
        let mut all = vec![Seg { seq, ack, flags, payload: vec![], ..seg.clone() }];
        if challenged {
            let ends = Seg { from: seg.to, to: seg.from, ..seg.clone() };
            all.push(Seg { seq: seg.ack, ack: seg.seq, flags: ACK, payload: vec![], ..ends });
        }
        if spoken {
            all.push(Seg { seq: seq.wrapping_add(1), payload: vec![7; 30], ..seg.clone() });
        }
        all.push(seg.clone());
        all
    })
}

/// Before each segment with data, a reset of another time.
pub(crate) fn old_reset(segs: &[Seg], distance: u32) -> Vec<Seg> {
    preceded(segs, |seg| {
        let seq = seg.seq.wrapping_add(distance);
        Seg { seq, flags: RST, payload: vec![], ..seg.clone() }
    })
}

/// Each packet as it goes in and as it comes out where addresses are translated: those of the
/// clients, or those of the brokers.
pub(crate) fn translated(segs: &[Seg], of_clients: bool) -> Vec<Seg> {
    let clients = clients(segs);
    let moved = |mut end: SocketAddr| {
        end.set_ip([192, 168, 77, 7].into());
        end
    };
    each(segs, |seg| {
        let from_client = clients.contains(&(seg.from, seg.to));
        let mut copy = seg.clone();
        copy.time_ns += 40_000;
        if from_client == of_clients {
            copy.from = moved(copy.from);
        } else {
            copy.to = moved(copy.to);
        }
        vec![seg.clone(), copy]
    })
}

/// The sequence numbers of every direction begin elsewhere: at `beginning` of its number.
pub(crate) fn renumbered(segs: &[Seg], beginning: impl Fn(u32) -> u32) -> Vec<Seg> {
    let mut shifts: BTreeMap<(SocketAddr, SocketAddr), u32> = BTreeMap::new();
    let mut shift = |from: SocketAddr, to: SocketAddr, first: u32| {
        let number = shifts.len() as u32;
        *shifts.entry((from, to)).or_insert_with(|| beginning(number).wrapping_sub(first))
    };
    each(segs, |seg| {
        let seq = seg.seq.wrapping_add(shift(seg.from, seg.to, seg.seq));
        let there = seg.is(ACK).then(|| shift(seg.to, seg.from, seg.ack));
        let ack = there.map_or(0, |there| seg.ack.wrapping_add(there));
        vec![Seg { seq, ack, ..seg.clone() }]
    })
}

/// After each segment with data, a copy of it changed by `change`.
pub(crate) fn followed(segs: &[Seg], change: impl Fn(Seg) -> Seg) -> Vec<Seg> {
    each(segs, |seg| {
        if seg.payload.len() < 2 || seg.is(SYN | FIN) {
            return vec![seg.clone()];
        }
        vec![seg.clone(), change(seg.clone())]
    })
}

/// Before each segment with data, something made of it.
pub(crate) fn preceded(segs: &[Seg], make: impl Fn(&Seg) -> Seg) -> Vec<Seg> {
    each(segs, |seg| {
        if seg.payload.is_empty() || seg.is(SYN) {
            return vec![seg.clone()];
        }
        vec![make(seg), seg.clone()]
    })
}

/// A keep-alive that could stand before a segment: the byte before it, or none.
pub(crate) fn keep_alive(seg: &Seg, bytes: usize) -> Seg {
    Seg { seq: seg.seq.wrapping_sub(1), payload: vec![0; bytes], flags: ACK, ..seg.clone() }
}

pub(crate) fn without(segs: &[Seg], lost: impl Fn(usize, &Seg) -> bool) -> Vec<Seg> {
    let kept = segs.iter().enumerate().filter(|(at, seg)| !lost(*at, seg));
    kept.map(|(_, seg)| seg.clone()).collect()
}

/// Who sent the first packet of each connection: its client.
fn clients(segs: &[Seg]) -> BTreeSet<(SocketAddr, SocketAddr)> {
    let mut known = BTreeSet::new();
    let new = segs.iter().filter(|seg| known.insert(seg.ends()));
    new.map(|seg| (seg.from, seg.to)).collect()
}

/// What one side says alone.
pub(crate) fn one_side(segs: &[Seg], client: bool) -> Vec<Seg> {
    let clients = clients(segs);
    without(segs, |_, seg| clients.contains(&(seg.from, seg.to)) != client)
}

/// The same conversations a minute later, over the same ports with numbers so far from the first.
pub(crate) fn again(segs: &[Seg], distance: u32) -> Vec<Seg> {
    let later_ns = segs.last().map_or(0, |seg| seg.time_ns) - segs[0].time_ns + 60_000_000_000;
    each(segs, |seg| {
        let ack = if seg.is(ACK) { seg.ack.wrapping_add(distance) } else { 0 };
        let (seq, time_ns) = (seg.seq.wrapping_add(distance), seg.time_ns + later_ns);
        vec![Seg { seq, ack, time_ns, ..seg.clone() }]
    })
}

/// The first data of each client travels in its SYN (TCP Fast Open).
pub(crate) fn fast_open(segs: &[Seg]) -> Vec<Seg> {
    let clients = clients(segs);
    let begun: BTreeSet<_> = segs.iter().filter(|seg| seg.is(SYN)).map(Seg::ends).collect();
    let mut first: BTreeMap<(SocketAddr, SocketAddr), Vec<u8>> = BTreeMap::new();
    for seg in segs.iter().filter(|seg| !seg.payload.is_empty() && begun.contains(&seg.ends())) {
        first.entry((seg.from, seg.to)).or_insert_with(|| seg.payload.clone());
    }
    let mut done = BTreeSet::new();
    each(segs, |seg| {
        let way = (seg.from, seg.to);
        let Some(data) = first.get(&way).filter(|_| clients.contains(&way)) else {
            return vec![seg.clone()];
        };
        if seg.is(SYN) {
            vec![Seg { payload: data.clone(), ..seg.clone() }]
        } else if !seg.payload.is_empty() && done.insert(way) {
            vec![]
        } else {
            vec![seg.clone()]
        }
    })
}

/// Both ends open the connection at once.
pub(crate) fn both_open(segs: &[Seg]) -> Vec<Seg> {
    each(segs, |seg| {
        if seg.flags & (SYN | ACK) != SYN | ACK {
            return vec![seg.clone()];
        }
        let theirs = Seg { flags: SYN, ack: 0, ..seg.clone() };
        let ours = Seg {
            from: seg.to,
            to: seg.from,
            seq: seg.ack.wrapping_sub(1),
            ack: seg.seq.wrapping_add(1),
            ..seg.clone()
        };
        vec![theirs, ours, seg.clone()]
    })
}

/// The orderly ends as resets.
pub(crate) fn reset(segs: &[Seg]) -> Vec<Seg> {
    let mut done = BTreeSet::new();
    each(segs, |seg| {
        if !seg.is(FIN) {
            return vec![seg.clone()];
        }
        let first = done.insert(seg.ends());
        let flags = seg.flags & !FIN | if first { RST } else { 0 };
        let data = Seg { flags: seg.flags & !FIN, ..seg.clone() };
        let end = Seg { flags, seq: seg.end().wrapping_sub(1), payload: vec![], ..seg.clone() };
        vec![data, end]
    })
}

/// FIN on the last data, as most systems have it.
pub(crate) fn ended_with_data(segs: &[Seg]) -> Vec<Seg> {
    let mut last: BTreeMap<(SocketAddr, SocketAddr), u32> = BTreeMap::new();
    for seg in segs.iter().filter(|seg| !seg.payload.is_empty()) {
        last.insert((seg.from, seg.to), seg.seq);
    }
    each(segs, |seg| match last.get(&(seg.from, seg.to)) {
        Some(at) if *at == seg.seq && !seg.payload.is_empty() => {
            vec![Seg { flags: seg.flags | FIN, ..seg.clone() }]
        }
        Some(_) if seg.is(FIN) => vec![Seg { flags: ACK, seq: seg.end(), ..seg.clone() }],
        _ => vec![seg.clone()],
    })
}

/// Three brokers, on machines of their own; ports stay.
pub(crate) fn three_brokers(segs: &[Seg]) -> Vec<Seg> {
    let clients: Vec<_> = clients(segs).into_iter().map(|(client, _)| client).collect();
    let moved = |broker: SocketAddr, client: SocketAddr| {
        let number = clients.binary_search(&client).unwrap_or_default() as u8;
        SocketAddr::new([10, 7, 7, 10 + number % 3].into(), broker.port())
    };
    each(segs, |seg| {
        let mut seg = seg.clone();
        if clients.binary_search(&seg.from).is_ok() {
            seg.to = moved(seg.to, seg.from);
        } else {
            seg.from = moved(seg.from, seg.to);
        }
        vec![seg]
    })
}

/// Other conversations between the packets: what each side says in turn, the client first.
pub(crate) fn among_others(segs: &[Seg]) -> Vec<Seg> {
    let zookeeper: &[u8] =
        b"\0\0\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x75\x30\0\0\0\0\0\0\0\0\0\0\0\x10\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let zookeeper_answer: &[u8] =
        b"\0\0\0\x25\0\0\0\0\0\0\x75\x30\x01\0\x02\x03\x04\x05\x06\x07\0\0\0\x10\
        abcdefghijklmnop\0";
    let ping: &[u8] = b"\0\0\0\x08\xff\xff\xff\xfe\0\0\0\x0b";
    let pong: &[u8] = b"\0\0\0\x10\xff\xff\xff\xfe\0\0\0\0\0\0\0\x07\0\0\0\0";
    let talks: [(u16, &[&[u8]]); 8] = [
        (80, &[b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello"]),
        (2181, &[zookeeper, zookeeper_answer, ping, pong, ping, pong]),
        (22, &[b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"SSH-2.0-client\r\n", &[7; 300]]),
        (
            5432,
            &[
                b"\0\0\0\x08\x04\xd2\x16\x2f",
                b"N",
                b"\0\0\0\x3d\0\x03\0\0user\0postgres\0database\0x\0application_name\0psql\0\0",
                b"R\0\0\0\x08\0\0\0\0",
            ],
        ),
        (9042, &[b"\x04\0\0\0\x05\0\0\0\0", b"\x84\0\0\0\x06\0\0\0\x02\0\0"]),
        (443, &[b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"\x16\x03\x03\0\x5a\x02"]),
        (6379, &[b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"]),
        (7000, &[&[0; 600], &[0; 600], &[0, 0, 0, 12, 0, 0, 0, 0, 0, 0], &[0; 40]]),
    ];
    let time_ns = |at: usize| segs[at.min(segs.len() - 1)].time_ns;
    let mut all: Vec<(usize, Seg)> = segs.iter().cloned().enumerate().collect();
    for (number, (port, said)) in talks.iter().enumerate() {
        let ends: [SocketAddr; 2] =
            [([10, 9, 9, 9], 33_000 + number as u16).into(), ([10, 9, 9, 8], *port).into()];
        let (mut next, mut at) = ([1_000u32, 9_000], 3 * number);
        let mut say = |side: usize, flags: u8, payload: &[u8]| {
            let ack = if flags & ACK == 0 { 0 } else { next[1 - side] };
            let (from, to) = (ends[side], ends[1 - side]);
            let seg = Seg {
                time_ns: time_ns(at),
                from,
                to,
                seq: next[side],
                ack,
                flags,
                payload: payload.to_vec(),
            };
            next[side] = seg.end();
            all.push((at, seg));
            at += 7;
        };
        say(0, SYN, b"");
        say(1, SYN | ACK, b"");
        for (turn, payload) in said.iter().enumerate() {
            say(turn % 2, ACK, payload);
        }
        say(0, FIN | ACK, b"");
        say(1, FIN | ACK, b"");
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, seg)| seg).collect()
}
