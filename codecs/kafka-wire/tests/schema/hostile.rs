//! Bytes that nobody should send: nothing panics, nothing runs long, nothing allocates much.

use std::fmt::Write as _;

use bytes::Bytes;
use kafka_wire::schema::{
    self, Direction, Edit, Flow, Layout, Limits, Place, Scalar, Value, Visitor,
};
use kafka_wire::{ApiKey, DecodeErrorKind};

use crate::allocations::peak_of;
use crate::random::Random;
use crate::{every_layout, name, typed};

fn refused(key: ApiKey, version: i16, direction: Direction, hex: &str) -> DecodeErrorKind {
    let hex: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
    let body: Vec<u8> = hex
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let (result, peak) = peak_of(|| schema::guard(key, version, direction, &body));
    assert!(peak < 1000, "{peak} bytes to refuse {} bytes", body.len());
    result.unwrap_err().kind
}

/// What makes the typed crate ask for hundreds of gigabytes and abort.
#[test]
fn the_guard_refuses_what_aborts_the_typed_crate() {
    let count = |kind| match kind {
        DecodeErrorKind::CountImpossible(count) => count,
        other => panic!("{other:?}"),
    };
    let (request, response) = (Direction::Request, Direction::Response);
    assert_eq!(count(refused(ApiKey::METADATA, 0, request, "7fffffff")), 0x7fff_ffff);
    assert_eq!(count(refused(ApiKey::API_VERSIONS, 3, response, "0000 ffffffff0f")), 0xffff_fffe);
    assert_eq!(
        count(refused(ApiKey::FETCH, 15, response, "00000000 0000 00000000 ffffffff0f")),
        0xffff_fffe
    );
    assert_eq!(
        count(refused(ApiKey::PRODUCE, 9, request, "00 ffff 00007530 ffffffff0f")),
        0xffff_fffe
    );
}

#[test]
fn the_guard_refuses_what_the_typed_crate_reads_differently() {
    let (request, response) = (Direction::Request, Direction::Response);
    // An integer of six bytes: the crate stops after five and goes on in the middle.
    let long = refused(ApiKey::METADATA, 9, request, "8080808080 00 00 00 00 00");
    assert_eq!(long, DecodeErrorKind::VarintTooLong);
    // finalized_features_epoch in nine bytes, of which the crate reads eight.
    let api_versions = "0000 01 00000000 01 01 09 0000000000000001 00";
    let longer = refused(ApiKey::API_VERSIONS, 3, response, api_versions);
    assert_eq!(longer, DecodeErrorKind::TrailingBytes(1));
    let api_versions = "0000 01 00000000 01 01 07 00000000000001 00";
    let shorter = refused(ApiKey::API_VERSIONS, 3, response, api_versions);
    assert_eq!(shorter, DecodeErrorKind::Truncated { needed: 8, available: 7 });
    // The same tag twice.
    let twice = refused(ApiKey::END_TXN, 3, response, "00000000 0000 02 0900 0900");
    assert_eq!(twice, DecodeErrorKind::TagOrder(9));
    // Tags that nobody can have sent.
    let many = refused(ApiKey::END_TXN, 3, response, "00000000 0000 ffffffff0f 00");
    assert_eq!(many, DecodeErrorKind::CountImpossible(0xffff_ffff));
    let left = refused(ApiKey::END_TXN, 3, response, "00000000 0000 00 00");
    assert_eq!(left, DecodeErrorKind::TrailingBytes(1));
    let null = refused(ApiKey::END_TXN, 0, request, "ffff 0000000000000000 0000 00");
    assert_eq!(null, DecodeErrorKind::UnexpectedNull);
    let negative = refused(ApiKey::END_TXN, 0, request, "fffe 0000000000000000 0000 00");
    assert_eq!(negative, DecodeErrorKind::NegativeLength(-2));
    let text = refused(ApiKey::END_TXN, 0, request, "0001ff 0000000000000000 0000 00");
    assert_eq!(text, DecodeErrorKind::NotUtf8);
    assert_eq!(refused(ApiKey(99), 0, request, ""), DecodeErrorKind::UnknownMessage);
    assert_eq!(refused(ApiKey::FETCH, 99, request, ""), DecodeErrorKind::UnknownMessage);
}

#[test]
fn what_is_odd_does_not_end_a_walk() {
    let layout = schema::layout(ApiKey::END_TXN, Direction::Response, 3).unwrap();
    let body = [0, 0, 0, 0, 0, 0, 2, 9, 0, 9, 0];
    let walked = layout.walk(&body, Limits::default(), &mut schema::Ignore);
    assert_eq!((walked.left_over, walked.stopped.clone()), (0, None));
    assert_eq!(walked.complete().unwrap_err().kind, DecodeErrorKind::TagOrder(9));
    let layout = schema::layout(ApiKey::END_TXN, Direction::Request, 0).unwrap();
    let body = [0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let walked = layout.walk(&body, Limits::default(), &mut schema::Ignore);
    assert_eq!(
        walked.odd.unwrap().to_string(),
        "null in a field that is never null at byte 0 (transactional_id)"
    );
}

#[derive(Default)]
struct Count(u64);

impl Visitor<'_> for Count {
    fn value(&mut self, _: &Place<'_>, _: Scalar<'_>) -> Flow {
        self.0 += 1;
        Flow::Continue(())
    }
    fn array_begin(&mut self, _: &Place<'_>, _: u32) -> Flow {
        self.0 += 1;
        Flow::Continue(())
    }
    fn struct_begin(&mut self, _: &Place<'_>) -> Flow {
        self.0 += 1;
        Flow::Continue(())
    }
    fn unknown_tag(&mut self, _: &Place<'_>, _: u32, _: &[u8]) -> Flow {
        self.0 += 1;
        Flow::Continue(())
    }
}

/// Everything there is to do with a body.
fn try_everything(layout: &'static Layout, body: &[u8], paths: &[&str]) {
    let mut count = Count::default();
    let (walked, peak) = peak_of(|| layout.walk(body, Limits::NONE, &mut count));
    assert!(peak < 1000, "{}: a walk allocated {peak} bytes", name(layout));
    // Each field takes a byte, and so does each element of an array; structs add one each.
    assert!(count.0 <= 4 * body.len() as u64 + 8, "{}: {} steps", name(layout), count.0);
    assert_eq!(walked.end + walked.left_over, body.len());

    let limits = Limits { decoded_bytes_max: 1 << 20 };
    let (guarded, peak) = peak_of(|| layout.guard(body, limits));
    assert!(peak < 1000, "{}: the guard allocated {peak} bytes", name(layout));
    if guarded.is_ok() {
        assert_eq!(walked.clone().complete(), Ok(()), "{}", name(layout));
        let mut left = Bytes::copy_from_slice(body);
        let (typed, peak) = peak_of(|| typed::decode(layout, &mut left));
        assert!(peak <= walked.decoded_bytes + 8192, "{}: {peak} bytes", name(layout));
        drop(typed);
    }

    let (decoded, peak) = peak_of(|| layout.decode(body, limits));
    assert!(peak < 4 << 20, "{}: a tree of {peak} bytes", name(layout));
    if decoded.exact {
        let again = layout.encode(&decoded.fields).unwrap();
        assert_eq!(again, body[..walked.end], "{}", name(layout));
    }
    let mut json = String::new();
    layout.write_json(body, &mut json, |out, _| out.write_str("0")).unwrap();
    serde_json::from_str::<serde_json::Value>(&json).unwrap();

    let lookup = layout.lookup(paths).unwrap();
    let edited = lookup
        .rewrite(body, |hit| Some(Value::Raw(Bytes::copy_from_slice(&body[hit.place.range()]))));
    assert_eq!(edited.unwrap().body, body, "{}", name(layout));
    for path in paths {
        let _ = layout.edit(body, path, &Edit::Set(Value::Null));
    }
}

#[test]
fn mutated_bodies_neither_panic_nor_run_away() {
    for (n, layout) in every_layout().enumerate() {
        let mut random = Random(n as u64);
        let paths: Vec<String> = layout
            .fields()
            .filter(|(id, _)| layout.children(*id).len() == 0)
            .map(|(id, _)| layout.path(id))
            .collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        for _ in 0..4 {
            let body = layout.encode(&random.tree(layout)).unwrap();
            for _ in 0..40 {
                let mut body = body.clone();
                mutate(&mut body, &mut random);
                try_everything(layout, &body, &paths);
            }
        }
        let noise: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        try_everything(layout, &noise, &paths);
    }
}

fn mutate(body: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(body.len() + 1);
        match random.below(6) {
            0 => body.truncate(at),
            1 => body.insert(at, random.next() as u8),
            2 if at < body.len() => drop(body.remove(at)),
            3 if at + 4 <= body.len() => {
                body[at..at + 4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
            }
            4 if at + 5 <= body.len() => {
                body[at..at + 5].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
            }
            _ if at < body.len() => body[at] = random.next() as u8,
            _ => body.push(0),
        }
    }
}

/// Found by fuzzing: nulls where none belong were counted as if they made up for a length that is
/// longer than it need be, and the tree was called exact.
#[test]
fn a_tree_that_encodes_otherwise_is_not_called_exact() {
    const BODY: [u8; 22] = [
        0x80, 0x00, 0x80, 0x80, 0x80, 0xcc, 0x00, 0x80, 0x00, 0x80, 0x01, 0x11, 0x80, 0xcc, 0x00,
        0x80, 0x00, 0x80, 0x01, 0x00, 0x80, 0x00,
    ];
    let layout = schema::layout(ApiKey(0x4c), Direction::Response, 0).expect("a layout");
    let decoded = layout.decode(&BODY, Limits::default());
    let end = decoded.walked.end;
    let again = layout.encode(&decoded.fields).expect("a tree that was decoded encodes");
    assert!(again != BODY[..end], "the body is one that encodes otherwise");
    assert!(!decoded.exact);
}
