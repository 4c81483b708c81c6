//! The table against the encoders and decoders of the `kafka-protocol` crate.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{self, RequestKind, ResponseKind};
use kafka_wire::ApiKey;
use kafka_wire::schema::{self, Direction, Layout};

use crate::allocations::peak_of;
use crate::name;
use crate::random::Random;

const NOT_IN_CRATE: &str = "not in the crate";

/// A body as the crate understands it.
pub(crate) enum Typed {
    Request(RequestKind),
    Response(ResponseKind),
}

pub(crate) fn decode(layout: &Layout, body: &mut Bytes) -> Result<Typed, String> {
    let message = layout.message();
    let key = message.api_key().ok_or("no API")?;
    let key = messages::ApiKey::try_from(key.0).map_err(|()| NOT_IN_CRATE)?;
    let valid = key.valid_versions();
    if !(valid.min..=valid.max).contains(&layout.version()) {
        return Err(NOT_IN_CRATE.into());
    }
    match message.direction() {
        Some(Direction::Request) => {
            RequestKind::decode(key, body, layout.version()).map(Typed::Request)
        }
        _ => ResponseKind::decode(key, body, layout.version()).map(Typed::Response),
    }
    .map_err(|error| format!("{error:#}"))
}

impl Typed {
    pub(crate) fn encode(&self, version: i16) -> Result<Vec<u8>, String> {
        let mut out = BytesMut::new();
        match self {
            Self::Request(request) => request.encode(&mut out, version),
            Self::Response(response) => response.encode(&mut out, version),
        }
        .map_err(|error| format!("{error:#}"))?;
        Ok(out.to_vec())
    }
}

fn every_api_layout() -> impl Iterator<Item = &'static Layout> {
    crate::every_layout().filter(|layout| layout.message().api_key().is_some())
}

#[test]
fn the_typed_crate_reads_and_writes_the_same_bytes() {
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut same = 0;
    for (n, layout) in every_api_layout().enumerate() {
        match first_refusal(layout, n as u64) {
            Some(why) => skipped.entry(why).or_default().push(name(layout)),
            None => same += 1,
        }
    }
    // Schemas of Kafka 4.1, without what 4.0 dropped and what came later.
    assert_eq!(skipped.remove(NOT_IN_CRATE).map(|layouts| layouts.len()), Some(156));
    // Advertised by the crate, but its structs end one version earlier.
    let refused: Vec<String> = skipped.into_values().flatten().collect();
    assert_eq!(
        refused,
        ["InitProducerIdRequest v6", "OffsetCommitRequest v10", "OffsetFetchRequest v10"]
    );
    assert_eq!(same, 577);
}

/// Why the crate did not read and write some bodies of the layout, if it did not.
fn first_refusal(layout: &Layout, n: u64) -> Option<String> {
    (0..20).find_map(|seed| {
        let tree = Random(n * 100 + seed).tree(layout);
        let body = layout.encode(&tree).unwrap();
        let mut left = Bytes::from(body.clone());
        let again = decode(layout, &mut left).and_then(|typed| {
            assert!(left.is_empty(), "{}: {} bytes left", name(layout), left.len());
            typed.encode(layout.version())
        });
        match again {
            Ok(again) => {
                assert_eq!(again, body, "{} {tree:?}", name(layout));
                None
            }
            Err(why) => Some(why),
        }
    })
}

#[test]
fn the_guard_counts_at_least_what_typed_structs_take() {
    let mut tightest = f64::MAX;
    for (n, layout) in every_api_layout().enumerate() {
        for seed in 0..4 {
            let tree = Random(n as u64 * 100 + seed).tree(layout);
            let body = Bytes::from(layout.encode(&tree).unwrap());
            let walked = layout.walk(&body, schema::Limits::NONE, &mut schema::Ignore);
            let mut left = body.clone();
            let (typed, peak) = peak_of(|| decode(layout, &mut left));
            if typed.is_ok() {
                // Bytes that are shared keep a count of their owners, once a body.
                let allowed = walked.decoded_bytes + 64;
                assert!(peak <= allowed, "{}: {peak} > {allowed}", name(layout));
                if peak > 2000 {
                    tightest = tightest.min(allowed as f64 / peak as f64);
                }
            }
        }
    }
    assert!(tightest < 2.0, "the guard counts {tightest} times too much at best");
}

#[test]
fn a_small_body_of_many_structs_is_refused_before_it_is_built() {
    // 10 MB of topics of one character, wholly valid; as structs some 360 MB.
    let layout = schema::layout(ApiKey::METADATA, Direction::Request, 1).unwrap();
    let mut body = 3_000_000i32.to_be_bytes().to_vec();
    body.extend((0..3_000_000).flat_map(|_| [0, 1, b't']));
    assert_eq!(layout.walk(&body, schema::Limits::NONE, &mut schema::Ignore).complete(), Ok(()));
    let refused = layout.guard(&body, schema::Limits::default()).unwrap_err();
    assert!(matches!(refused.kind, kafka_wire::DecodeErrorKind::TooLargeInMemory { .. }));
    assert_eq!(refused.path, "topics");
}
