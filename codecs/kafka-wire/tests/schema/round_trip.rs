//! Trees to bytes and back, and what is read in other ways agrees with it.

use std::fmt::Write as _;

use kafka_wire::ApiKey;
use kafka_wire::schema::{
    self, Direction, FieldId, FieldKind, Fields, Flow, Layout, Limits, Place, Scalar, Value,
    Visitor,
};

use crate::random::Random;
use crate::{every_layout, name};

const TREES_PER_LAYOUT: u64 = 8;

fn every_tree(mut check: impl FnMut(&'static Layout, &Fields, &[u8])) {
    for (n, layout) in every_layout().enumerate() {
        for seed in 0..TREES_PER_LAYOUT {
            let tree = Random(n as u64 * 1000 + seed).tree(layout);
            let body = layout.encode(&tree).unwrap_or_else(|e| panic!("{}: {e}", name(layout)));
            check(layout, &tree, &body);
        }
    }
}

#[test]
fn every_message_of_every_version_round_trips() {
    let mut layouts = 0;
    every_tree(|layout, tree, body| {
        layouts += 1;
        let decoded = layout.decode(body, Limits::default());
        assert_eq!(decoded.walked.clone().complete(), Ok(()), "{}", name(layout));
        assert_eq!(&decoded.fields, tree, "{}", name(layout));
        assert!(decoded.exact);
        assert_eq!(layout.encode(&decoded.fields).unwrap(), body);
    });
    assert!(layouts > 700 * TREES_PER_LAYOUT, "{layouts} trees");
}

#[test]
fn the_guard_passes_what_was_encoded() {
    every_tree(|layout, _, body| {
        let message = layout.message();
        match message.api_key().zip(message.direction()) {
            Some((key, direction)) => {
                let passed = schema::guard(key, layout.version(), direction, body);
                assert_eq!(passed, Ok(()), "{}", name(layout));
            }
            None => assert_eq!(layout.guard(body, Limits::default()), Ok(()), "{}", name(layout)),
        }
    });
}

#[test]
fn every_body_cut_anywhere_stops_there_and_keeps_what_came_before() {
    for (n, layout) in every_layout().enumerate() {
        let tree = Random(n as u64).tree(layout);
        let body = layout.encode(&tree).unwrap();
        let step = body.len() / 64 + 1;
        for end in (0..body.len()).step_by(step) {
            let decoded = layout.decode(&body[..end], Limits::default());
            let stopped = decoded.walked.stopped.unwrap_or_else(|| panic!("{}", name(layout)));
            assert!(stopped.byte_offset <= end && decoded.walked.end <= end);
            assert!(!stopped.path.is_empty());
            assert!(layout.guard(&body[..end], Limits::default()).is_err());
        }
    }
}

#[test]
fn defaults_fill_what_a_tree_leaves_out() {
    for layout in every_layout() {
        let empty = layout.encode(&Fields::new()).unwrap();
        assert_eq!(layout.encode(&layout.defaults()).unwrap(), empty, "{}", name(layout));
        assert_eq!(layout.guard(&empty, Limits::default()), Ok(()), "{}", name(layout));
    }
    let layout = schema::layout(ApiKey::FETCH, Direction::Request, 12).unwrap();
    let defaults = layout.defaults();
    assert_eq!(defaults.field("max_bytes"), Some(&Value::Int(0x7fff_ffff)));
    assert_eq!(defaults.field("session_epoch"), Some(&Value::Int(-1)));
    assert_eq!(defaults.field("rack_id"), Some(&Value::String(String::new())));
    assert_eq!(layout.default_of(layout.find("cluster_id").unwrap()), Value::Null);
}

#[test]
fn json_is_valid_and_says_what_the_tree_says() {
    every_tree(|layout, tree, body| {
        let mut json = String::new();
        layout.write_json(body, &mut json, schema::write_json_bytes).unwrap();
        let parsed: serde_json::Value =
            serde_json::from_str(&json).unwrap_or_else(|e| panic!("{}: {e}\n{json}", name(layout)));
        assert_same(&parsed, &Value::Struct(tree.clone()), layout);
        // A body cut in the middle is still JSON.
        let mut half = String::new();
        layout.write_json(&body[..body.len() / 2], &mut half, |out, _| out.write_str("0")).unwrap();
        serde_json::from_str::<serde_json::Value>(&half).unwrap();
    });
}

fn assert_same(json: &serde_json::Value, value: &Value, layout: &Layout) {
    match value {
        Value::Null => assert!(json.is_null()),
        Value::Bool(value) => assert_eq!(json, value),
        Value::Int(value) => assert_eq!(json, value),
        Value::Float(value) => assert_eq!(json.as_f64(), Some(*value)),
        Value::String(text) => assert_eq!(json, text),
        Value::Uuid(_) => assert_eq!(json.as_str().unwrap().len(), 22),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => assert_eq!(json, text),
            Err(_) => assert!(json["base64"].is_string()),
        },
        Value::Array(elements) => {
            assert_eq!(json.as_array().unwrap().len(), elements.len());
            for (json, element) in json.as_array().unwrap().iter().zip(elements) {
                assert_same(json, element, layout);
            }
        }
        Value::Struct(fields) => {
            let tags = fields.unknown_tags();
            assert_eq!(json.as_object().unwrap().len(), fields.iter().len() + tags.len());
            for (name, value) in fields.iter() {
                assert_same(&json[name], value, layout);
            }
            for (tag, _) in tags {
                assert!(!json[format!("unknown_tag_{tag}")].is_null());
            }
        }
        Value::Raw(_) => panic!("{}: raw", name(layout)),
    }
}

/// What a walk announces, as text.
#[derive(Default)]
struct Values(Vec<(FieldId, String)>);

impl Visitor<'_> for Values {
    fn value(&mut self, place: &Place<'_>, value: Scalar<'_>) -> Flow {
        let says = format!("{} {:?} {value:?}", place.path(), place.range());
        self.0.push((place.id().unwrap(), says));
        Flow::Continue(())
    }
}

fn values_of(layout: &Layout) -> Vec<FieldId> {
    (0..u16::MAX)
        .scan(layout.fields().map(|(id, _)| id).collect::<Vec<_>>(), |open, _| {
            let id = open.pop()?;
            open.extend(layout.children(id).map(|(id, _)| id));
            Some(id)
        })
        .filter(|id| layout.field(*id).kind() != FieldKind::Struct)
        .collect()
}

#[test]
fn a_lookup_finds_what_a_walk_announces() {
    every_tree(|layout, tree, body| {
        let mut all = Values::default();
        assert_eq!(layout.walk(body, Limits::NONE, &mut all).complete(), Ok(()));
        let mut random = Random(body.len() as u64);
        let wanted: Vec<FieldId> =
            values_of(layout).into_iter().filter(|_| random.one_in(3)).collect();
        let paths: Vec<String> = wanted.iter().map(|id| layout.path(*id)).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let lookup = layout.lookup(&paths).unwrap();
        let mut found = Vec::new();
        let walked = lookup.read(body, |hit| {
            assert_eq!(lookup.field(hit.slot), hit.place.id());
            let says = format!("{} {:?} {:?}", hit.place.path(), hit.place.range(), hit.value);
            found.push((wanted[hit.slot], says));
            Flow::Continue(())
        });
        assert_eq!(walked.complete(), Ok(()), "{}", name(layout));
        all.0.retain(|(id, _)| wanted.contains(id));
        assert_eq!(found, all.0, "{} {tree:?}", name(layout));
    });
}

#[test]
fn a_path_of_no_version_is_refused_and_one_of_another_version_is_absent() {
    let layout = schema::layout(ApiKey::METADATA, Direction::Response, 1).unwrap();
    assert!(layout.lookup(&["topics.topic_id"]).unwrap().field(0).is_none());
    let refused = layout.lookup(&["topics.topic_ids"]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "MetadataResponse has no field topics.topic_ids in any version"
    );
    assert!(layout.lookup(&["topics"]).is_err(), "a struct is no value");
}

#[test]
fn a_wrong_tree_is_an_error_that_names_the_field() {
    let layout = schema::layout(ApiKey::PRODUCE, Direction::Request, 3).unwrap();
    let partition = Fields::new().with("index", 0);
    let topic = |partition: Fields| {
        let topic = Fields::new().with("partition_data", vec![partition]);
        Fields::new().with("topic_data", vec![topic])
    };
    let check = |tree: Fields, expected: &str| {
        assert_eq!(layout.encode(&tree).unwrap_err().to_string(), expected);
    };
    let at = "topic_data[0].partition_data[0]";
    check(
        topic(partition.clone().with("indx", 1)),
        &format!("ProduceRequest v3 has no field {at}.indx"),
    );
    check(
        topic(Fields::new().with("index", 1i64 << 40)),
        &format!("{at}.index is of type int32, 1099511627776 does not fit"),
    );
    check(
        topic(partition.clone().with("records", 1)),
        &format!("{at}.records must be of type records"),
    );
    check(
        topic(Fields::new().with("index", Value::Null)),
        &format!("{at}.index cannot be null in this version"),
    );
    check(
        Fields::new().with("topic_data", vec!["t"]),
        "topic_data[0] must be of type []TopicProduceData",
    );
    check(
        Fields::new().with("transactional_id", "x".repeat(40_000)),
        "transactional_id is too long: 40000",
    );
    let mut tagged = partition.clone();
    tagged.add_unknown_tag(1, vec![1]);
    check(topic(tagged), &format!("{at} cannot have tagged fields in this version"));
}

#[test]
fn raw_values_say_what_no_encoder_would() {
    let layout = schema::layout(ApiKey::METADATA, Direction::Request, 9).unwrap();
    let raw = |bytes: &[u8]| Value::Raw(bytes::Bytes::copy_from_slice(bytes));
    let tree = Fields::new()
        .with("topics", raw(&[0xff, 0xff, 0xff, 0xff, 0x0f]))
        .with("allow_auto_topic_creation", raw(&[2]));
    let body = layout.encode(&tree).unwrap();
    assert_eq!(body, [0xff, 0xff, 0xff, 0xff, 0x0f, 2, 0, 0, 0]);
}

#[test]
fn bytes_that_no_encoder_would_write_are_kept_raw_or_said_to_be_lost() {
    let layout = schema::layout(ApiKey::METADATA, Direction::Request, 9).unwrap();
    // A topic name behind a length of two bytes, and a boolean of 7.
    let decoded = layout.decode(&[2, 0x82, 0, b't', 0, 7, 0, 0, 0], Limits::default());
    assert_eq!(decoded.walked.clone().complete(), Ok(()));
    assert_eq!(decoded.walked.long_varints, 1);
    assert!(decoded.exact);
    assert_eq!(layout.encode(&decoded.fields).unwrap(), [2, 0x82, 0, b't', 0, 7, 0, 0, 0]);
    // A count of two bytes has no words in a tree.
    let decoded = layout.decode(&[0x82, 0, 2, b't', 0, 0, 0, 0, 0], Limits::default());
    assert_eq!(decoded.walked.clone().complete(), Ok(()));
    assert!(!decoded.exact);
}
