//! W1 to W4: requests and responses.

use kafka_wire::{ApiKey, DecodeError, DecodeErrorKind};

use super::super::scene::*;
use super::check;
use crate::checker::wire::Invariant;
use crate::history::facts::{Deed, Ending};
use crate::history::wire::Unanswered;

#[test]
fn w1_a_response_belongs_to_no_request() {
    check(Invariant::W1, |scene, broken| {
        scene.fact(|_| {});
        scene.stray(99);
        if broken {
            // The connection goes on: no byte is missing.
            scene.fact(|_| {});
        }
    });
}

#[test]
fn w1_silence_at_the_end_of_a_connection_is_not_judged() {
    let mut scene = Scene::new();
    scene.fact(|_| {});
    for why in [Unanswered::Closed, Unanswered::CaptureEnded, Unanswered::TooMany] {
        scene.fact(|fact| fact.ending = Ending::Unanswered(why));
    }
    let found = scene.finish();
    assert!(found.anomalies.is_empty(), "{:#?}", found.anomalies);
    assert_eq!(found.stats.checks[Invariant::W1.name()].could_not, 3);
}

#[test]
fn w1_a_request_is_overtaken() {
    check(Invariant::W1, |scene, broken| {
        if !broken {
            scene.gap();
        }
        scene.fact(|_| {});
        scene.fact(|fact| fact.ending = Ending::Unanswered(Unanswered::Overtaken));
        scene.fact(|_| {});
    });
}

#[test]
fn w2_where_messages_begin_in_mid_stream_is_a_guess_until_one_is_understood() {
    for [begins, understood] in [[true, false], [false, true], [false, false]] {
        let mut scene = Scene::new();
        if !begins {
            scene.begins_before();
        }
        if understood {
            scene.fact(|_| {});
        }
        let kind = DecodeErrorKind::TrailingBytes(3);
        let error = DecodeError { byte_offset: 6, path: String::new(), kind };
        scene.fact(|fact| fact.malformed = Some(error));
        let names = if begins || understood { vec![Invariant::W2.name()] } else { vec![] };
        assert_eq!(scene.names(), names, "{begins} {understood}");
    }
}

#[test]
fn w2_a_response_has_bytes_left_over() {
    check(Invariant::W2, |scene, broken| {
        let kind = DecodeErrorKind::TrailingBytes(3);
        let error = DecodeError { byte_offset: 6, path: String::new(), kind };
        scene.fact(|fact| {
            fact.malformed = broken.then_some(error);
            // A version that the table does not know says nothing.
            fact.response_walked = broken;
        });
    });
}

#[test]
fn w3_an_error_code_does_not_exist() {
    let cases = [
        ((12, 4, 999), (12, 4, 27)),
        ((0, 9, 120), (0, 11, 120)),
        // A member of a group is nothing that Metadata knows of; a sequence nothing that Fetch does.
        ((3, 9, 25), (8, 9, 25)),
        ((1, 12, 45), (0, 9, 45)),
    ];
    for (broken_by, legal) in cases {
        check(Invariant::W3, |scene, broken| {
            let (key, version, code) = if broken { broken_by } else { legal };
            scene.fact(|fact| {
                (fact.api_key, fact.api_version) = (ApiKey(key), version);
                fact.errors = vec![code];
            });
        });
    }
}

#[test]
fn w4_an_announced_version_is_refused() {
    check(Invariant::W4, |scene, broken| {
        let highest = if broken { 12 } else { 11 };
        let announced = Deed::ApiVersions(vec![(1, 4, highest)]);
        scene.exchange(ApiKey::API_VERSIONS, 3, announced);
        scene.fact(|fact| {
            (fact.api_key, fact.api_version) = (ApiKey::FETCH, 12);
            fact.errors = vec![35];
        });
    });
}
