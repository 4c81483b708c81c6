//! Rules from both notations, and what they decide about frames.

use std::time::Duration;

use kafka_wire::ApiKey;
use kafka_wire::batch::BATCH_HEADER_BYTES;
use kafka_wire::ids::{CorrelationId, NodeId};
use kafka_wire::schema::{self, Fields};
use proptest::prelude::*;

use super::file::from_toml;
use super::forge::{self, Message};
use super::*;
use crate::history::tap::{Connection, Direction};
use crate::world::Chance;

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn rules(texts: &[&str]) -> Rules {
    let mut rules = Rules::new(Chance::from_seed(7));
    for text in texts {
        rules.add(rule(text)).unwrap();
    }
    rules
}

/// A frame's body in the version that most of these tests speak.
fn body(api_key: ApiKey, of: Direction, version: i16, fields: &Fields) -> Vec<u8> {
    let of = match of {
        Direction::Request => schema::Direction::Request,
        Direction::Response => schema::Direction::Response,
    };
    schema::layout(api_key, of, version).unwrap().encode(fields).unwrap()
}

fn seen(api_key: ApiKey, api_version: i16, body: &[u8]) -> Seen<'_> {
    Seen {
        broker: NodeId(1),
        connection: Connection(0),
        direction: Direction::Request,
        api_key,
        api_version,
        correlation_id: CorrelationId(5),
        client_id: Some(b"java"),
        body: Some(body),
        request: None,
    }
}

fn end_txn(transactional_id: &str, committed: bool) -> Vec<u8> {
    let fields = Fields::new()
        .with("transactional_id", transactional_id)
        .with("producer_id", 7i64)
        .with("producer_epoch", 3i16)
        .with("committed", committed);
    body(ApiKey::END_TXN, Direction::Request, 5, &fields)
}

#[test]
fn the_examples_of_the_documentation_say_the_same_in_both_notations() {
    let text = include_str!("../../../docs/RULES.md");
    let mut examples = 0;
    for example in text.split("```rule\n").skip(1) {
        let (line, rest) = example.split_once("```").unwrap();
        let toml = rest.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
        let from_text = rule(line);
        assert_eq!(from_toml(toml).unwrap_or_else(|error| panic!("{toml}{error}")), [from_text]);
        examples += 1;
    }
    assert!(examples >= 10, "{examples}");
}

#[test]
fn an_error_names_the_place_and_what_was_expected() {
    let cases = [
        ("", "line 1, column 1: expected what is done first"),
        ("hodl EndTxn", "line 1, column 1: found \"hodl\", expected hold? One of hold, delay"),
        (
            "hold EndTnx",
            "line 1, column 6: no API is called \"EndTnx\", expected one such as EndTxn",
        ),
        ("hold EndTxn reply", "line 1, column 13: found \"reply\", expected KEY=VALUE"),
        ("hold EndTxn request response", "line 1, column 21: found \"response\", expected one"),
        ("hold EndTxn both", "line 1, column 13: found \"both\", expected request or response"),
        ("drop-request EndTxn response", "line 1, column 21: drop-request is not about a response"),
        ("hold EndTxn for=5", "line 1, column 17: found \"5\", expected a time such as 5s"),
        ("hold EndTxn fro=5s", "line 1, column 13: found \"fro\", expected for? A hold rule takes"),
        ("hold EndTxn by=5s", "line 1, column 13: found \"by\", expected"),
        ("hold EndTxn for=1s for=2s", "line 1, column 20: for stands twice"),
        ("hold EndTxn for=", "line 1, column 17: expected a value behind ="),
        ("hold\n EndTxn\n  nth=0", "line 3, column 7: found \"0\", expected which of them"),
        ("hold EndTxn client-id=\"x", "line 1, column 23: the quote is never closed"),
        ("hold EndTxn client-id=\"\\x\"", "line 1, column 25: found \\x, expected"),
        ("hold EndTxn client-id=\"a\"b", "line 1, column 26: expected a blank"),
        ("hold EndTxn probability=1.5", "line 1, column 25: found \"1.5\", expected a chance"),
        ("hold EndTxn name=a/b", "line 1, column 18: found \"a/b\", expected a name of letters"),
        ("delay Fetch", "line 1, column 1: delay needs by="),
        ("throttle Fetch rate=0", "line 1, column 21: found \"0\", expected bytes a second"),
        ("slice Fetch sizes=0", "line 1, column 19: found \"0\", expected up to 64 sizes"),
        ("cut EndTxn how=kindly", "line 1, column 16: found \"kindly\", expected close, reset"),
        ("cut EndTxn deliver-after=1s at=3", "line 1, column 32: at does not go with"),
        ("mutate EndTxn", "line 1, column 1: mutate needs what to alter"),
        ("mutate EndTxn length=4", "line 1, column 22: found \"4\", expected a difference"),
        ("respond EndTxn", "line 1, column 1: respond needs error="),
        // What can never apply.
        ("hold EndTxn version=9", "line 1, column 13: EndTxn has the versions 0-5, not v9"),
        ("hold EndTxn group=g", "line 1, column 13: EndTxn request has no group"),
        ("hold TxnOffsetCommit,EndTxn topic=t", "line 1, column 29: EndTxn request has no topic"),
        (
            "hold Produce version=13 request.topic_data.name=t",
            "line 1, column 25: Produce request v13",
        ),
        ("hold EndTxn request.comitted=true", "line 1, column 13: EndTxn request has no field"),
        ("hold EndTxn request.committed=yes", "line 1, column 13: committed takes true or false"),
        ("hold Produce request.topic_data=x", "line 1, column 14: topic_data is no value"),
        (
            "hold EndTxn response.error_code=1",
            "line 1, column 13: response.error_code is not known",
        ),
        ("hold Produce client-id=x response.responses.index=q", "line 1, column 26: response"),
        (
            "cut EndTxn response deliver-after=1s",
            "line 1, column 21: deliver-after is for requests",
        ),
        ("duplicate Fetch response on=new-connection", "line 1, column 26: on is for requests"),
        (
            "mutate EndTxn set.producer_epoch=many",
            "line 1, column 15: producer_epoch takes a number",
        ),
        ("mutate EndTxn set.group_id=g", "line 1, column 15: EndTxn request has no field group_id"),
        ("mutate any set.group_id=g", "line 1, column 8: mutate needs to know which API"),
        ("respond any error=1", "line 1, column 9: respond needs to know which API"),
        ("respond SaslHandshake,PushTelemetry error=nonsense", "line 1, column 43: found"),
        ("hold any transactional-id=x group=y request.nothing=1", "no API has all the fields"),
    ];
    let wrong = cases.iter().filter_map(|(text, expected)| {
        let error = text.parse::<Rule>().map_or_else(|e| e.to_string(), |rule| rule.to_string());
        (!error.contains(expected)).then(|| format!("{text}\n  {error}\n  {expected}\n"))
    });
    let wrong: String = wrong.collect();
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_file_with_errors_names_line_and_column() {
    let cases = [
        (
            "[[rule]]\naction = \"hold\"\napi = \"EndTxn\"\nfor = 5\n",
            "line 4, column 7: found \"5\"",
        ),
        (
            "[[rule]]\naction = \"hold\"\nfro = \"5s\"\n",
            "line 3, column 1: found \"fro\", expected for?",
        ),
        ("[[rule]]\napi = \"EndTxn\"\n", "line 1, column 1: the rule has no action"),
        ("[[rules]]\n", "line 1, column 3: found \"rules\", expected [[rule]]"),
        ("rule = 3\n", "line 1, column 8: expected [[rule]]"),
        ("[[rule]]\naction = \"hold\n", "line 2, column"),
        (
            "[[rule]]\naction = \"mutate\"\napi = \"EndTxn\"\n[rule.set]\nproducer_epoch = 1979-05-27\n",
            "line 5, column 18: expected a text",
        ),
        (
            "[[rule]]\naction = \"hold\"\n\n[[rule]]\naction = \"hold\"\napi = [\"EndTxn\", \"Endtnx\"]\n",
            "line 6, column 7: no API is called \"Endtnx\"",
        ),
    ];
    for (text, expected) in cases {
        let error = from_toml(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}\n  {error}\n  {expected}");
    }
}

/// The outcomes of deciding about the same requests in turn, as `-` or the name of a rule.
fn check(texts: &[&str], requests: &[(ApiKey, i16, Vec<u8>)], expected: &str) {
    let mut rules = rules(texts);
    let mut found = Vec::new();
    for (api_key, version, body) in requests {
        let fired = rules.decide(&seen(*api_key, *version, body)).fired;
        found.push(fired.map_or("-".to_owned(), |fired| fired.rule.name.clone()));
    }
    assert_eq!(found.join(" "), expected, "{texts:?}");
}

#[test]
fn frames_are_matched_by_header_and_body() {
    let end = |id: &str, committed| (ApiKey::END_TXN, 5, end_txn(id, committed));
    let requests = || vec![end("t1", true), end("t2", true), end("t1", false), end("t1", true)];
    for (text, expected) in [
        ("hold EndTxn name=a", "a a a a"),
        ("hold name=a", "a a a a"),
        ("hold Produce name=a", "- - - -"),
        ("hold EndTxn transactional-id=t1 name=a", "a - a a"),
        ("hold any transactional-id=t1 name=a", "a - a a"),
        ("hold EndTxn transactional-id=*2 name=a", "- a - -"),
        ("hold EndTxn transactional-id=t1 nth=2 name=a", "- - a -"),
        ("hold EndTxn transactional-id=t1 nth=2- name=a", "- - a a"),
        ("hold EndTxn request.committed=false name=a", "- - a -"),
        ("hold EndTxn request.committed=false transactional-id=t2 name=a", "- - - -"),
        ("hold EndTxn producer-id=7 producer-epoch=3 name=a", "a a a a"),
        ("hold EndTxn producer-id=7 producer-epoch=4 name=a", "- - - -"),
        ("hold EndTxn version=-4 name=a", "- - - -"),
        ("hold EndTxn version=5 client-id=j*a name=a", "a a a a"),
        ("hold EndTxn client-id=go name=a", "- - - -"),
        ("hold EndTxn broker=2 name=a", "- - - -"),
        ("hold EndTxn connection=0 times=3 name=a", "a a a -"),
        ("hold EndTxn probability=0 name=a", "- - - -"),
        ("hold EndTxn probability=1 name=a", "a a a a"),
        ("black-hole EndTxn name=a", "a - - -"),
        ("throttle EndTxn rate=1 name=a", "a - - -"),
    ] {
        check(&[text], &requests(), expected);
    }
    let two = ["hold EndTxn nth=2 name=a", "delay EndTxn by=1s nth=2- name=b"];
    check(&two, &requests(), "- a b b");
}

#[test]
fn partitions_are_those_of_the_topic_that_is_meant() {
    let partition = |index: i32| Fields::new().with("partition_index", index);
    let topic = |name: &str, partitions: Vec<Fields>| {
        Fields::new().with("name", name).with("partitions", partitions)
    };
    let topics = vec![topic("a", vec![partition(0)]), topic("b", vec![partition(1)])];
    let fields = Fields::new().with("group_id", "g").with("topics", topics);
    let commit = body(ApiKey::TXN_OFFSET_COMMIT, Direction::Request, 3, &fields);
    for (text, expected) in [
        ("hold TxnOffsetCommit topic=a partition=0 name=x", "x"),
        ("hold TxnOffsetCommit topic=a partition=1 name=x", "-"),
        ("hold TxnOffsetCommit topic=b partition=1 name=x", "x"),
        ("hold TxnOffsetCommit partition=1 name=x", "x"),
        ("hold TxnOffsetCommit topic=c name=x", "-"),
        ("hold TxnOffsetCommit topic=b group=g name=x", "x"),
    ] {
        check(&[text], &[(ApiKey::TXN_OFFSET_COMMIT, 3, commit.clone())], expected);
    }
    let bare = Fields::new().with("name", "a").with("partitions", vec![4, 5]);
    let add = Fields::new().with("v3_and_below_topics", vec![bare]);
    let add = body(ApiKey::ADD_PARTITIONS_TO_TXN, Direction::Request, 3, &add);
    for (text, expected) in
        [("partition=5", "x"), ("partition=6", "-"), ("topic=a partition=4", "x")]
    {
        let text = format!("hold AddPartitionsToTxn {text} name=x");
        check(&[&text], &[(ApiKey::ADD_PARTITIONS_TO_TXN, 3, add.clone())], expected);
    }
}

/// A Produce request of version 12 with one batch.
fn produce() -> Vec<u8> {
    let mut batch = vec![0u8; BATCH_HEADER_BYTES];
    batch[8..12].copy_from_slice(&(BATCH_HEADER_BYTES as i32 - 12).to_be_bytes());
    batch[16] = 2;
    batch[43..51].copy_from_slice(&9i64.to_be_bytes());
    batch[51..53].copy_from_slice(&4i16.to_be_bytes());
    let partition = Fields::new().with("index", 3).with("records", batch);
    let topic = Fields::new().with("name", "t").with("partition_data", vec![partition]);
    let fields = Fields::new().with("acks", -1i16).with("topic_data", vec![topic]);
    body(ApiKey::PRODUCE, Direction::Request, 12, &fields)
}

#[test]
fn batches_say_who_produced_them() {
    for (text, expected) in [
        ("hold Produce producer-id=9 producer-epoch=4 name=x", "x"),
        ("hold Produce producer-id=9 name=x", "x"),
        ("hold Produce producer-id=9 producer-epoch=5 name=x", "-"),
        ("hold Produce topic=t partition=3 name=x", "x"),
    ] {
        check(&[text], &[(ApiKey::PRODUCE, 12, produce())], expected);
    }
}

#[test]
fn responses_are_matched_by_what_their_requests_said() {
    let mut rules =
        rules(&["drop-response EndTxn transactional-id=t1 response.error_code=51 name=a"]);
    let asks = |rules: &Rules, direction| {
        rules.wants(direction, NodeId(1), Connection(0), ApiKey::END_TXN, 5)
    };
    assert_eq!(asks(&rules, Direction::Request), Wants::Body);
    assert_eq!(asks(&rules, Direction::Response), Wants::Body);
    let answer = |code: i16| {
        let fields = Fields::new().with("error_code", code);
        body(ApiKey::END_TXN, Direction::Response, 5, &fields)
    };
    for (id, code, expected) in [("t1", 51, true), ("t1", 0, false), ("t2", 51, false)] {
        let request = end_txn(id, true);
        let decision = rules.decide(&seen(ApiKey::END_TXN, 5, &request));
        assert!(decision.fired.is_none());
        let body = answer(code);
        let response = Seen {
            direction: Direction::Response,
            client_id: None,
            request: decision.remembered.as_ref(),
            ..seen(ApiKey::END_TXN, 5, &body)
        };
        assert_eq!(rules.decide(&response).fired.is_some(), expected, "{id} {code}");
    }
}

#[test]
fn no_more_is_asked_for_than_a_rule_needs() {
    let wants = |text: &str, direction, api_key| {
        rules(&[text]).wants(direction, NodeId(1), Connection(0), api_key, 3)
    };
    use Direction::{Request, Response};
    for (text, request, response, other) in [
        ("hold EndTxn", Wants::Header, Wants::Nothing, Wants::Nothing),
        ("hold EndTxn client-id=x", Wants::Header, Wants::Nothing, Wants::Nothing),
        ("hold EndTxn transactional-id=x", Wants::Body, Wants::Nothing, Wants::Nothing),
        ("hold EndTxn response", Wants::Nothing, Wants::Header, Wants::Nothing),
        ("hold EndTxn response client-id=x", Wants::Header, Wants::Header, Wants::Nothing),
        ("hold EndTxn response response.error_code=3", Wants::Nothing, Wants::Body, Wants::Nothing),
        ("hold EndTxn version=5", Wants::Nothing, Wants::Nothing, Wants::Nothing),
        ("hold EndTxn broker=2", Wants::Nothing, Wants::Nothing, Wants::Nothing),
        ("hold any", Wants::Header, Wants::Nothing, Wants::Header),
    ] {
        assert_eq!(wants(text, Request, ApiKey::END_TXN), request, "{text}");
        assert_eq!(wants(text, Response, ApiKey::END_TXN), response, "{text}");
        assert_eq!(wants(text, Request, ApiKey::METADATA), other, "{text}");
    }
    let mut rules = rules(&["hold EndTxn times=1"]);
    assert!(rules.decide(&seen(ApiKey::END_TXN, 5, &end_txn("t", true))).fired.is_some());
    assert!(rules.interest().is_empty(), "a spent rule asks for nothing");
}

#[test]
fn a_seed_decides_alike_whatever_other_connections_do() {
    let frame = end_txn("t1", true);
    let decisions = |others: u64| {
        let mut rules = rules(&["delay EndTxn by=1s jitter=1s probability=0.5"]);
        let mut decide = |connection| {
            let seen =
                Seen { connection: Connection(connection), ..seen(ApiKey::END_TXN, 5, &frame) };
            rules.decide(&seen).fired.and_then(|fired| fired.wait())
        };
        let mut waits = Vec::new();
        for _ in 0..64 {
            (0..others).for_each(|other| {
                decide(100 + other);
            });
            waits.push(decide(1));
        }
        waits
    };
    let alone = decisions(0);
    assert_eq!(alone, decisions(3));
    let fired: Vec<Duration> = alone.iter().flatten().copied().collect();
    assert!((16..48).contains(&fired.len()), "{}", fired.len());
    let bounds = Duration::from_secs(1)..Duration::from_secs(2);
    assert!(fired.iter().all(|wait| bounds.contains(wait)));
    assert!(fired.windows(2).any(|two| two[0] != two[1]));
}

#[test]
fn whatever_the_bytes_a_decision_is_made() {
    let mut rules = rules(&[
        "hold any transactional-id=t",
        "hold any topic=t partition=1",
        "hold any producer-id=1",
        "hold Produce request.topic_data.partition_data.index=1",
    ]);
    for &api_key in ApiKey::ALL {
        for version in -1..20 {
            for bytes in [&[][..], &[0xff; 64], &[0x7f; 64], &[0; 64]] {
                rules.decide(&seen(api_key, version, bytes));
            }
        }
    }
    assert!(rules.iter().all(|(_, _, _, fired)| fired == 0));
}

#[tokio::test]
async fn releasing_removing_and_resetting_end_what_a_rule_does() {
    let board = Board::new(rules(&["hold EndTxn name=a", "hold Fetch name=b"]));
    let frame = end_txn("t", true);
    let fire = || board.decide(&seen(ApiKey::END_TXN, 5, &frame)).fired.unwrap();
    let first = fire();
    board.acted(&first, Phase::Began, "");
    assert_eq!((board.list()[0].fired, board.list()[0].lasting), (1, 1));
    assert!(!board.has_ended(first.ticket));
    assert!(board.release("a") && !board.release("c"));
    assert!(board.has_ended(first.ticket));
    board.until_ended(first.ticket).await;
    board.acted(&first, Phase::Ended, "");
    assert_eq!(board.list()[0].lasting, 0);
    let second = fire();
    assert!(!board.has_ended(second.ticket), "a release is for what was held then");
    let revision = board.revision();
    assert!(board.remove("a") && !board.remove("a"));
    assert!(board.has_ended(second.ticket) && board.revision() != revision);
    board.add(rule("drop-request Fetch")).unwrap();
    assert_eq!(
        board.add(rule("hold Fetch name=b")).unwrap_err(),
        "there is a rule named b already"
    );
    assert_eq!(board.list()[1].rule.name, "rule-1");
    board.reset();
    assert!(board.list().is_empty() && board.interest().is_empty());
    assert_eq!((board.fired(Class::Network), board.fired(Class::Forgery)), (2, 0));
}

fn message<'a>(api_key: ApiKey, api_version: i16, frame: &'a [u8], body_at: usize) -> Message<'a> {
    Message { direction: Direction::Request, api_key, api_version, frame, body_at }
}

/// A frame of a body, with a header of 8 bytes.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32 + 8).to_be_bytes().to_vec();
    frame.extend_from_slice(&[0, 26, 0, 5, 0, 0, 0, 9]);
    frame.extend_from_slice(body);
    frame
}

#[test]
fn alterations_change_what_they_say_and_nothing_else() {
    let frame = framed(&end_txn("t1", true));
    let altered = |text: &str| {
        let Action::Mutate(alterations) = rule(text).action else { panic!("{text}") };
        let altered = forge::altered(&alterations, &message(ApiKey::END_TXN, 5, &frame, 12), 0);
        assert_eq!(altered.troubles, Vec::<String>::new());
        altered.frame
    };
    let set = altered("mutate EndTxn set.producer_epoch=4 set.transactional_id=longer");
    let layout = schema::layout(ApiKey::END_TXN, schema::Direction::Request, 5).unwrap();
    let fields = layout.decode(&set[12..], schema::Limits::default()).fields;
    assert_eq!(fields.field("producer_epoch"), Some(&4i16.into()));
    assert_eq!(fields.field("transactional_id"), Some(&"longer".into()));
    assert_eq!(set.len(), frame.len() + 4);
    assert_eq!(set[..4], (set.len() as u32 - 4).to_be_bytes());
    let differs = |text: &str| {
        let altered = altered(text);
        let pairs = altered.iter().zip(&frame).enumerate();
        let places: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect();
        (places, altered.len() as i64 - frame.len() as i64)
    };
    assert_eq!(differs("mutate EndTxn flip=9"), (vec![13], 0));
    assert_eq!(differs("mutate EndTxn correlation-id=+1"), (vec![11], 0));
    assert_eq!(differs("mutate EndTxn length=+4"), (vec![3], 0));
    assert_eq!(differs("mutate EndTxn truncate=2"), (vec![3], -2));
    assert_eq!(differs("mutate EndTxn extend=2"), (vec![3], 2));
    assert_eq!(differs("mutate EndTxn truncate=9999").1, 12 - frame.len() as i64);
    assert_eq!(differs("mutate EndTxn flip=99999"), (vec![], 0));
}

#[test]
fn a_batch_gets_another_crc() {
    let body = produce();
    let frame = framed(&body);
    let altered = forge::altered(&[Alteration::Crc], &message(ApiKey::PRODUCE, 12, &frame, 12), 0);
    let places = altered.frame.iter().zip(&frame).enumerate().filter(|(_, (a, b))| a != b);
    let batch_at = frame.len() - BATCH_HEADER_BYTES - 3; // Three structs end in no tags.
    assert_eq!(places.map(|(at, _)| at).collect::<Vec<_>>(), [batch_at + 17]);
    let none = forge::altered(&[Alteration::Crc], &message(ApiKey::END_TXN, 5, &frame, 12), 0);
    assert_eq!(none.troubles, ["EndTxnRequest has no record batch"]);
}

#[test]
fn an_answer_names_what_the_request_named() {
    let answer = |api_key, version, body: &[u8], text: &str| {
        let Action::Respond(forgery) = rule(text).action else { panic!("{text}") };
        let frame = framed(body);
        let request = message(api_key, version, &frame, 12);
        let answer = forge::answer(&forgery, &request, CorrelationId(77)).unwrap();
        assert_eq!(answer[..4], (answer.len() as u32 - 4).to_be_bytes());
        assert_eq!(answer[4..8], 77u32.to_be_bytes());
        let layout = schema::layout(api_key, schema::Direction::Response, version).unwrap();
        let body_at = 8 + usize::from(layout.is_flexible());
        let decoded = layout.decode(&answer[body_at..], schema::Limits::default());
        decoded.walked.complete().unwrap();
        decoded.fields
    };
    let end = end_txn("t", true);
    let text = "respond EndTxn error=16 set.throttle_time_ms=5";
    let fields = answer(ApiKey::END_TXN, 5, &end, text);
    assert_eq!(fields.at("error_code"), Some(&16i16.into()));
    assert_eq!(fields.at("throttle_time_ms"), Some(&5.into()));
    let fields =
        answer(ApiKey::PRODUCE, 12, &produce(), "respond Produce error=NOT_LEADER_OR_FOLLOWER");
    assert_eq!(fields.at("responses[0].name"), Some(&"t".into()));
    assert_eq!(fields.at("responses[0].partition_responses[0].index"), Some(&3.into()));
    assert_eq!(fields.at("responses[0].partition_responses[0].error_code"), Some(&6i16.into()));
    let bare = Fields::new().with("name", "a").with("partitions", vec![4, 5]);
    let add = Fields::new().with("v3_and_below_topics", vec![bare]);
    let add = body(ApiKey::ADD_PARTITIONS_TO_TXN, Direction::Request, 3, &add);
    let text = "respond AddPartitionsToTxn error=51";
    let fields = answer(ApiKey::ADD_PARTITIONS_TO_TXN, 3, &add, text);
    let of = "results_by_topic_v3_and_below[0]";
    assert_eq!(fields.at(&format!("{of}.name")), Some(&"a".into()));
    let of = format!("{of}.results_by_partition[1]");
    assert_eq!(fields.at(&format!("{of}.partition_index")), Some(&5.into()));
    assert_eq!(fields.at(&format!("{of}.partition_error_code")), Some(&51i16.into()));
}

/// Texts as people give things names, some of them awkward.
fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z*]{1,6}", "[ -~\\n\\t\u{e9}]{0,8}"]
}

fn times() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..100_000u64).prop_map(Duration::from_millis),
        (0..10_000_000u64).prop_map(Duration::from_nanos)
    ]
}

fn actions() -> impl Strategy<Value = Action> {
    let cuts = (0..4, 0..100u32, times()).prop_map(|(how, at, after)| match how {
        0 => Cut::Close { at },
        1 => Cut::Reset { at },
        2 => Cut::HalfClose { at },
        _ => Cut::DeliverLater { after },
    });
    let alterations = prop_oneof![
        any::<i16>()
            .prop_map(|n| Alteration::Set { path: "producer_epoch".into(), value: n.to_string() }),
        any::<u32>().prop_map(|bit| Alteration::Flip(Where::Bit(bit))),
        Just(Alteration::Flip(Where::Anywhere)),
        any::<i32>().prop_map(Alteration::Length),
        any::<i32>().prop_map(Alteration::CorrelationId),
        (0..1000u32).prop_map(Alteration::Extend),
        Just(Alteration::Crc),
    ];
    prop_oneof![
        proptest::option::of(times()).prop_map(|until| Action::Hold { until }),
        (times(), times()).prop_map(|(by, jitter)| Action::Delay { by, jitter }),
        Just(Action::Drop),
        (times(), any::<bool>())
            .prop_map(|(after, elsewhere)| Action::Duplicate(Duplicate { after, elsewhere })),
        (1..9u32).prop_map(|behind| Action::Reorder { behind }),
        cuts.prop_map(Action::Cut),
        (proptest::option::of(times()), any::<bool>())
            .prop_map(|(lasts, both)| Action::BlackHole { lasts, both }),
        (1..u64::MAX).prop_map(|bytes_per_s| Action::Throttle { bytes_per_s }),
        (proptest::collection::vec(1..u32::MAX, 1..9), times())
            .prop_map(|(sizes, pause)| Action::Slice { sizes, pause }),
        alterations.prop_map(|one| Action::Mutate(vec![one])),
        any::<i16>().prop_map(|code| Action::Respond(Forgery {
            error: kafka_wire::ErrorCode(code),
            set: vec![("throttle_time_ms".into(), "7".into())],
        })),
    ]
}

prop_compose! {
    fn matches()(
        transactional_id in proptest::option::of(names()),
        client_id in proptest::option::of(names()),
        producer_id in proptest::option::of(any::<i64>()),
        first in 1..100u64,
        more in proptest::option::of(0..100u64),
        has_nth in any::<bool>(),
        connection in proptest::option::of(any::<u64>()),
        broker in proptest::option::of(any::<i32>()),
        probability in proptest::option::of(0.0..=1.0f64),
        versions in proptest::option::of((0..3i16, 0..3i16)),
        committed in proptest::option::of(any::<bool>()),
    ) -> Match {
        Match {
            apis: vec![ApiKey::END_TXN],
            versions: versions.map(|(min, more)| Versions { min: Some(min), max: Some(min + more) }),
            transactional_id: transactional_id.map(Pattern),
            client_id: client_id.map(Pattern),
            producer_id: producer_id.map(Into::into),
            nth: has_nth.then(|| Nth { first, last: more.map(|more| first + more) }),
            connection: connection.map(Connection),
            broker: broker.map(NodeId),
            probability,
            fields: committed.map(|is| FieldIs {
                of: Direction::Request,
                path: "committed".into(),
                value: Pattern(is.to_string()),
            }).into_iter().collect(),
            ..Match::any(Direction::Request)
        }
    }
}

proptest! {
    #[test]
    fn a_rule_is_read_back_from_the_line_it_writes(
        when in matches(),
        action in actions(),
        times in proptest::option::of(1..1000u64),
        name in "([a-z][a-z0-9.-]{0,9})?",
    ) {
        let once = matches!(action, Action::BlackHole { .. });
        let times = times.or(once.then_some(1));
        let rule = Rule { name, when, action, times };
        // EndTxn has `throttle_time_ms` since version 1 only.
        if Rules::check(&rule).is_ok() {
            let text = rule.to_string();
            prop_assert_eq!(text.parse::<Rule>(), Ok(rule), "{}", text);
        }
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in "[ -~\\n]{0,60}") {
        drop(text.parse::<Rule>());
        drop(from_toml(&text));
        drop(format!("hold EndTxn {text}").parse::<Rule>());
    }
}
