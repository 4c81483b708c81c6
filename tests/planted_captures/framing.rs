//! Violations of the framing (W1 to W4), planted.

use kafka_wire::ApiKey;
use kafka_wire::schema::{Fields, Value};

use crate::places::number;
use crate::talk::{Talk, Way};
use crate::{Mutant, Witness, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("correlation-id-changed", &["W1-response-unpaired"], &[], |talk, nth| {
        let at = inner(talk).nth(nth)?;
        let mut frame = talk.frame(at, Way::Response);
        frame[4] ^= 0x40;
        talk.put(at, Way::Response, frame);
        Some(Witness::packets_of(talk, &[at]))
    }),
    mutant("response-left-out", &["W1-response-unpaired"], &[], |talk, nth| {
        let at = inner(talk).nth(nth)?;
        let witness = talk.packets_of(at)[..1].to_vec();
        talk.silence(at, Way::Response);
        Some(Witness(witness))
    }),
    mutant("response-said-twice", &["W1-response-unpaired"], &[], |talk, nth| {
        let at = inner(talk).nth(nth)?;
        let frame = talk.frame(at, Way::Response);
        talk.put(at, Way::Response, [&frame[..], &frame].concat());
        Some(Witness(talk.packets_of(at)[1..].to_vec()))
    }),
    mutant("responses-in-wrong-order", &["W1-response-unpaired"], &[], |talk, nth| {
        let (one, other) = pipelined(talk).nth(nth)?;
        let (first, second) = (talk.frame(one, Way::Response), talk.frame(other, Way::Response));
        talk.put(one, Way::Response, second);
        talk.put(other, Way::Response, first);
        Some(Witness(talk.packets_of(one)[..1].to_vec()))
    }),
    mutant("acks-0-answered", &["W1-response-unpaired"], &[], |talk, nth| {
        let all: Vec<usize> = inner(talk).collect();
        let at =
            all.into_iter().filter(|&at| talk.exchanges[at].api == ApiKey::PRODUCE).nth(nth)?;
        talk.ask(at, "acks", 0);
        Some(Witness(talk.packets_of(at)[1..].to_vec()))
    }),
    mutant("body-cut-off", &["W2-body-malformed"], &[], |talk, nth| {
        let at = with_body(talk).nth(nth)?;
        let mut frame = talk.frame(at, Way::Response);
        frame.pop();
        let length = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        talk.put(at, Way::Response, frame);
        Some(Witness::packets_of(talk, &[at]))
    }),
    mutant("bytes-left-over", &["W2-body-malformed"], &[], |talk, nth| {
        let at = with_body(talk).nth(nth)?;
        let mut frame = talk.frame(at, Way::Response);
        frame.extend([0; 3]);
        let length = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        talk.put(at, Way::Response, frame);
        Some(Witness::packets_of(talk, &[at]))
    }),
    mutant(
        "answered-in-another-version",
        &["W2-body-malformed"],
        &["W3-error-unknown"],
        |talk, nth| {
            // As a broker that took a flexible version for one that is not.
            let flexible = with_body(talk).filter(|&at| {
                let e = &talk.exchanges[at];
                kafka_wire::schema::is_flexible(e.api, e.version) == Some(true)
                    && e.api != ApiKey::API_VERSIONS
            });
            let at = flexible.collect::<Vec<_>>().into_iter().nth(nth)?;
            let mut frame = talk.frame(at, Way::Response);
            frame.remove(8);
            let length = frame.len() as u32 - 4;
            frame[..4].copy_from_slice(&length.to_be_bytes());
            talk.put(at, Way::Response, frame);
            Some(Witness::packets_of(talk, &[at]))
        },
    ),
    mutant("error-that-does-not-exist", &["W3-error-unknown"], &[], |talk, nth| {
        let (at, path) = errors(talk).into_iter().nth(nth)?;
        talk.reply(at, &path, 9_999);
        Some(Witness::packets_of(talk, &[at]))
    }),
    mutant("error-of-another-matter", &["W3-error-unknown"], &[], |talk, nth| {
        let of = |at: usize| match talk.exchanges[at].api {
            ApiKey::PRODUCE | ApiKey::FETCH | ApiKey::METADATA | ApiKey::INIT_PRODUCER_ID => {
                Some(27)
            }
            ApiKey::OFFSET_FETCH | ApiKey::HEARTBEAT | ApiKey::JOIN_GROUP => Some(45),
            _ => None,
        };
        let all = errors(talk).into_iter();
        let (at, path, error) =
            all.filter_map(|(at, path)| of(at).map(|error| (at, path, error))).nth(nth)?;
        talk.reply(at, &path, error);
        Some(Witness::packets_of(talk, &[at]))
    }),
    mutant("announced-version-refused", &["W4-version-unserved"], &[], |talk, nth| {
        let announced: Vec<usize> = talk.of(ApiKey::API_VERSIONS);
        let of = |at: usize| {
            let e = &talk.exchanges[at];
            let served = [
                ApiKey::PRODUCE,
                ApiKey::FETCH,
                ApiKey::METADATA,
                ApiKey::INIT_PRODUCER_ID,
                ApiKey::END_TXN,
                ApiKey::OFFSET_COMMIT,
                ApiKey::OFFSET_FETCH,
            ];
            served.contains(&e.api)
                && announced.iter().any(|&a| {
                    let a = &talk.exchanges[a];
                    let ok = a.response.as_ref().unwrap().at("error_code");
                    a.broker == e.broker && a.times[1] < e.times[0] && ok == Some(&Value::Int(0))
                })
        };
        let (at, path) = errors(talk).into_iter().filter(|(at, _)| of(*at)).nth(nth)?;
        talk.reply(at, &path, 35);
        Some(Witness::packets_of(talk, &[at]))
    }),
];

/// What comes near and is legal.
pub(crate) const LEGAL: &[Mutant] = &[
    mutant("unknown-tagged-field", &[], &[], |talk, nth| {
        let flexible = with_body(talk).filter(|&at| {
            let e = &talk.exchanges[at];
            kafka_wire::schema::is_flexible(e.api, e.version) == Some(true)
        });
        let at = flexible.collect::<Vec<_>>().into_iter().nth(nth)?;
        talk.answer(at).add_unknown_tag(9_000, vec![1, 2, 3]);
        talk.tell(at, Way::Response);
        Some(Witness::default())
    }),
    mutant("throttled", &[], &[], |talk, nth| {
        let all = 0..talk.exchanges.len();
        let throttled = |at: &usize| {
            let response = talk.exchanges[*at].response.as_ref();
            response.is_some_and(|r| r.at("throttle_time_ms").is_some())
        };
        let at = all.filter(throttled).nth(nth)?;
        talk.reply(at, "throttle_time_ms", 5_000);
        Some(Witness::default())
    }),
    mutant("last-request-unanswered", &[], &[], |talk, nth| {
        let last = |at: &usize| {
            let e = &talk.exchanges[*at];
            e.response.is_some()
                && talk
                    .exchanges
                    .iter()
                    .all(|other| other.connection != e.connection || other.times[0] <= e.times[0])
        };
        let at = (0..talk.exchanges.len()).filter(last).nth(nth)?;
        talk.silence(at, Way::Response);
        Some(Witness::default())
    }),
    mutant("range-not-announced-refused", &[], &[], |talk, nth| {
        // UNSUPPORTED_VERSION where ApiVersions had a smaller range.
        let (at, path) = errors(talk)
            .into_iter()
            .filter(|(at, _)| talk.exchanges[*at].api == ApiKey::FETCH)
            .nth(nth)?;
        for announced in talk.of(ApiKey::API_VERSIONS) {
            for key in 0.. {
                let path = |field: &str| format!("api_keys[{key}].{field}");
                match number(talk, announced, Way::Response, &path("api_key")) {
                    1 => drop(talk.reply(announced, &path("max_version"), 4)),
                    -1 if key > 100 => break,
                    _ => {}
                }
            }
        }
        talk.reply(at, &path, 35);
        Some(Witness::default())
    }),
    mutant("error-without-more", &[], &[], |talk, nth| {
        let common = |at: usize| match talk.exchanges[at].api {
            ApiKey::PRODUCE => Some(3),
            ApiKey::FETCH => Some(6),
            ApiKey::METADATA => Some(29),
            ApiKey::OFFSET_FETCH | ApiKey::HEARTBEAT | ApiKey::JOIN_GROUP => Some(16),
            ApiKey::INIT_PRODUCER_ID => Some(51),
            _ => None,
        };
        let all = errors(talk).into_iter();
        let (at, path, error) =
            all.filter_map(|(at, path)| common(at).map(|e| (at, path, e))).nth(nth)?;
        talk.reply(at, &path, error);
        Some(Witness::default())
    }),
];

/// Exchanges that others of their connection surround.
fn inner(talk: &Talk) -> impl Iterator<Item = usize> + use<'_> {
    (0..talk.exchanges.len()).filter(|&at| {
        let e = &talk.exchanges[at];
        let others = || {
            let all = talk.exchanges.iter().filter(|other| other.connection == e.connection);
            all.filter(|other| other.response.is_some())
        };
        e.response.is_some()
            && others().any(|other| other.times[1] < e.times[0])
            && others().any(|other| other.times[0] > e.times[1])
    })
}

/// Two requests that were sent before the first was answered.
fn pipelined(talk: &Talk) -> impl Iterator<Item = (usize, usize)> + use<'_> {
    inner(talk).filter_map(|one| {
        let e = &talk.exchanges[one];
        let next = talk
            .exchanges
            .iter()
            .enumerate()
            .skip(one + 1)
            .find(|(_, other)| other.connection == e.connection && other.response.is_some());
        next.filter(|(_, other)| other.times[0] < e.times[1]).map(|(other, _)| (one, other))
    })
}

/// Exchanges with an answer in this crate's table.
fn with_body(talk: &Talk) -> impl Iterator<Item = usize> + use<'_> {
    (0..talk.exchanges.len()).filter(|&at| talk.exchanges[at].response.is_some())
}

/// Error codes of answers: the exchange, and the path of the first one in it.
fn errors(talk: &Talk) -> Vec<(usize, String)> {
    let all = with_body(talk);
    let found = all.filter_map(|at| {
        let response = talk.exchanges[at].response.as_ref().unwrap();
        first_error(response).map(|path| (at, path))
    });
    found.filter(|(at, _)| talk.exchanges[*at].api != ApiKey::API_VERSIONS).collect()
}

fn first_error(fields: &Fields) -> Option<String> {
    for (name, value) in fields.iter() {
        match value {
            Value::Int(_) if name == "error_code" => return Some(name.to_owned()),
            Value::Array(elements) => {
                let first = elements.first().and_then(Value::as_struct);
                if let Some(path) = first.and_then(first_error) {
                    return Some(format!("{name}[0].{path}"));
                }
            }
            _ => {}
        }
    }
    None
}
