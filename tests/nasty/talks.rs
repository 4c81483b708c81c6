//! A conversation with what those of the corpus lack: SASL of both kinds, acks=0, pipelines.

use std::net::SocketAddr;

use kafka_wire::batch::{BatchBuilder, NewRecord, Scratch};
use kafka_wire::ids::Offset;

use super::packets::{ACK, FIN, SYN, Seg};

/// What the two sides of a connection say, in turn: who, and what.
type Said = Vec<(Side, Vec<u8>)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Broker,
}
use Side::{Broker, Client};

fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as i32).to_be_bytes(), &body[..]].concat()
}

/// A request with header version 1.
fn request(api: u8, version: u8, id: i32, body: &[u8]) -> Vec<u8> {
    frame(&[&[0, api, 0, version], &id.to_be_bytes(), b"\0\x05nasty", body])
}

fn response(id: i32, body: &[u8]) -> Vec<u8> {
    frame(&[&id.to_be_bytes(), body])
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_be_bytes(), bytes].concat()
}

/// Metadata 1 of all topics, and the answer of a cluster without any.
fn metadata(id: i32) -> [Vec<u8>; 2] {
    [request(3, 1, id, &[0xff; 4]), response(id, &[0; 12])]
}

/// Produce 3 of one record to a partition, and the answer.
fn produce(id: i32, acks: i16, partition: i32, offset: i64) -> [Vec<u8>; 2] {
    let mut batch = Vec::new();
    let builder = BatchBuilder { base_offset: Offset(0), ..BatchBuilder::default() };
    let value = vec![b'a' + id as u8 % 26; 40 + 60 * (id as usize % 9)];
    builder.encode([NewRecord::of(&value)], &mut Scratch::new(), &mut batch);
    let head = [&[0xff, 0xff][..], &acks.to_be_bytes(), &[0, 0, 0x75, 0x30]].concat();
    let topic = b"\0\0\0\x01\0\x05talks\0\0\0\x01";
    let partition = partition.to_be_bytes();
    let asked = [&head, &topic[..], &partition, &bytes(&batch)].concat();
    let answer =
        [&topic[..], &partition, &[0, 0], &offset.to_be_bytes(), &[0xff; 8], &[0; 4]].concat();
    [request(0, 3, id, &asked), response(id, &answer)]
}

/// SaslHandshake, and the broker's list of mechanisms.
fn handshake(version: u8, id: i32, mechanism: &str) -> [Vec<u8>; 2] {
    let name = [&[0, mechanism.len() as u8], mechanism.as_bytes()].concat();
    [request(17, version, id, &name), response(id, &[&[0, 0, 0, 0, 0, 1][..], &name].concat())]
}

/// SaslAuthenticate 0.
fn authenticate(id: i32, token: &[u8], answer: &[u8]) -> [Vec<u8>; 2] {
    let answer = [&[0, 0, 0xff, 0xff][..], &bytes(answer)].concat();
    [request(36, 0, id, &bytes(token)), response(id, &answer)]
}

fn one_by_one(said: &mut Said, exchanges: impl IntoIterator<Item = [Vec<u8>; 2]>) {
    for [asked, answer] in exchanges {
        said.extend([(Client, asked), (Broker, answer)]);
    }
}

/// Requests in flight together, some without an answer, over and over.
fn work(said: &mut Said, partition: i32) {
    let (mut id, mut offset) = (10, 0);
    let mut next = |acks: i16| {
        (id, offset) = (id + 1, offset + 1);
        produce(id, acks, partition, offset - 1)
    };
    for round in 0..5 {
        let [first, second, third, fourth] = [1, 0, -1, 1].map(&mut next);
        let [asked, told] = metadata(1_000 + round);
        let [unanswered, _] = next(0);
        said.push((Client, [&first[0][..], &second[0], &third[0][..20]].concat()));
        said.push((Client, [&third[0][20..], &asked, &unanswered].concat()));
        said.push((Broker, first[1].clone()));
        said.push((Client, fourth[0].clone()));
        said.push((Broker, [&third[1][..], &told, &fourth[1][..9]].concat()));
        said.push((Client, next(0)[0].clone()));
        said.push((Broker, fourth[1][9..].to_vec()));
        said.push((Client, next(0)[0].clone()));
        one_by_one(said, [metadata(2_000 + round)]);
    }
}

/// Four connections to one broker at a time: tokens without headers of PLAIN and of SCRAM,
/// SaslAuthenticate, and none; then all of them work.
pub(crate) fn sasl_and_pipelines() -> Vec<Seg> {
    let mut talks: [Said; 4] = Default::default();
    one_by_one(&mut talks[0], [handshake(0, 1, "PLAIN"), [frame(&[b"\0me\0secret"]), frame(&[])]]);
    let scram = [
        [frame(&[b"n,,n=me,r=abc"]), frame(&[b"r=abcdef,s=c2FsdA==,i=4096"])],
        [frame(&[b"c=biws,r=abcdef,p=cHJvb2Y="]), frame(&[b"v=c2ln"])],
    ];
    one_by_one(&mut talks[1], [handshake(0, 1, "SCRAM-SHA-256")]);
    one_by_one(&mut talks[1], scram);
    one_by_one(&mut talks[2], [handshake(1, 1, "SCRAM-SHA-512")]);
    one_by_one(
        &mut talks[2],
        [authenticate(2, b"n,,n=me,r=abc", b"r=abcdef"), authenticate(3, b"c=biws", b"v=c2ln")],
    );
    let mut lines: Vec<Vec<(Side, u8, Vec<u8>)>> = Vec::new();
    for (partition, mut said) in (0..).zip(talks) {
        work(&mut said, partition);
        let mut line = vec![(Client, SYN, vec![]), (Broker, SYN | ACK, vec![])];
        line.push((Client, ACK, vec![]));
        line.extend(said.into_iter().map(|(side, bytes)| (side, ACK, bytes)));
        line.extend([(Client, FIN | ACK, vec![]), (Broker, FIN | ACK, vec![])]);
        line.push((Client, ACK, vec![]));
        lines.push(line);
    }
    interleaved(&lines)
}

/// The connections' segments, one of each in turn, a millisecond between.
fn interleaved(lines: &[Vec<(Side, u8, Vec<u8>)>]) -> Vec<Seg> {
    let broker: SocketAddr = ([10, 0, 0, 9], 9092).into();
    let mut next = [[0u32; 2]; 4];
    let mut segs = Vec::new();
    let longest = lines.iter().map(Vec::len).max().unwrap_or_default();
    for turn in 0..longest {
        for (number, line) in lines.iter().enumerate() {
            let Some((side, flags, payload)) = line.get(turn) else { continue };
            let client: SocketAddr = ([10, 0, 0, 1 + number as u8], 40_000 + number as u16).into();
            let me = *side as usize;
            if flags & SYN != 0 {
                next[number][me] = 0x1234_5678 * (2 * number + me + 1) as u32;
            }
            let ends = [client, broker];
            let seg = Seg {
                time_ns: 1_700_000_000_000_000_000 + segs.len() as u64 * 1_000_000,
                from: ends[me],
                to: ends[1 - me],
                seq: next[number][me],
                ack: if flags & ACK == 0 { 0 } else { next[number][1 - me] },
                flags: *flags,
                payload: payload.clone(),
            };
            next[number][me] = seg.end();
            segs.push(seg);
        }
    }
    segs
}
