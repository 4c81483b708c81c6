//! `fencepost dissect` from outside: captures made of invented conversations, lines and tables.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use capture_file::conversation::{Conversation, Frame};
use capture_file::write::{self, PacketBlock};
use capture_file::{LinkType, Side};
use kafka_wire::ApiKey;
use kafka_wire::batch::{
    Attributes, BatchBuilder, Compression, ControlRecord, ControlType, EndTxnMarker, Header,
    NewRecord, Scratch, StatedInBatch,
};
use kafka_wire::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use kafka_wire::schema::{self, Direction as Way, Fields, Value as Field};
use serde_json::{Value, json};

/// A frame with its prefix.
fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes(), body].concat()
}

/// A request of client "cli" with the body's bytes, as they are.
fn request(api_key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let head = [&api_key.to_be_bytes()[..], &version.to_be_bytes()].concat();
    frame(&[&head[..], &correlation_id.to_be_bytes(), b"\0\x03cli", body].concat())
}

fn response(correlation_id: i32, body: &[u8]) -> Vec<u8> {
    frame(&[&correlation_id.to_be_bytes()[..], body].concat())
}

/// Produce v3 of one partition.
fn produce(correlation_id: i32, acks: i16, records: &[u8]) -> Vec<u8> {
    let mut body = vec![0xff, 0xff];
    body.extend(acks.to_be_bytes());
    body.extend([0, 0, 0x75, 0x30, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0]);
    body.extend(frame(records));
    request(0, 3, correlation_id, &body)
}

fn produced(correlation_id: i32, error: i16) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0];
    body.extend(error.to_be_bytes());
    body.extend(42i64.to_be_bytes());
    body.extend((-1i64).to_be_bytes());
    body.extend([0; 4]);
    response(correlation_id, &body)
}

/// Fetch v4 of one partition.
fn fetch(correlation_id: i32) -> Vec<u8> {
    let mut body = vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 100, 0, 0, 0, 1, 0, 16, 0, 0, 1];
    body.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0]);
    body.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
    request(1, 4, correlation_id, &body)
}

fn fetched(correlation_id: i32, records: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    body.extend(9i64.to_be_bytes());
    body.extend(7i64.to_be_bytes());
    body.extend((-1i32).to_be_bytes());
    body.extend(records.map_or(vec![0xff; 4], frame));
    response(correlation_id, &body)
}

fn batch(compression: Compression, stated: StatedInBatch) -> Vec<u8> {
    let headers = [Header { key: b"h", value: None }, Header { key: b"h", value: Some(b"\xff") }];
    let records = [
        NewRecord { key: Some(b"k"), headers: &headers, ..NewRecord::of(b"va\"lue") },
        NewRecord { value: None, ..NewRecord::of(b"") },
        NewRecord::of(b"\xfe\xff"),
    ];
    let builder = BatchBuilder {
        base_offset: Offset(40),
        attributes: Attributes::default().with_compression(compression),
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(2),
        base_sequence: Sequence(11),
        stated,
        ..BatchBuilder::default()
    };
    let mut out = Vec::new();
    builder.encode(records, &mut Scratch::new(), &mut out);
    out
}

fn commit_marker() -> Vec<u8> {
    let key = ControlRecord { version: 0, control_type: ControlType::Commit }.encode();
    let value = EndTxnMarker { version: 0, coordinator_epoch: 3 }.encode();
    let attributes = Attributes::default().with_control(true).with_transactional(true);
    let builder = BatchBuilder { attributes, ..BatchBuilder::default() };
    let mut out = Vec::new();
    let record = NewRecord { key: Some(&key), ..NewRecord::of(&value) };
    builder.encode([record], &mut Scratch::new(), &mut out);
    out
}

/// A capture of conversations, a packet every millisecond from 10:15:02 on that Monday.
#[derive(Default)]
struct Capture {
    bytes: Vec<u8>,
    packets: u64,
}

/// Side and bytes.
type Said<'s> = (Side, &'s [u8]);

const TIME_NS: u64 = 1_795_428_902_000_000_000;

impl Capture {
    fn new() -> Self {
        let mut capture = Self::default();
        write::section_header(&mut capture.bytes, "a test");
        write::interface(&mut capture.bytes, LinkType::ETHERNET, "lo");
        capture
    }

    fn packet(&mut self, frame: Frame<'_>) {
        let block = PacketBlock {
            interface: 0,
            time_ns: TIME_NS + self.packets * 1_000_000,
            headers: frame.headers,
            payload: frame.payload,
            comments: &[],
        };
        write::packet(&mut self.bytes, &block);
        self.packets += 1;
    }

    fn talk(mut self, client: &str, said: &[Said<'_>]) -> Self {
        let broker = if client.starts_with('[') { "[::1]:9092" } else { "127.0.0.1:9092" };
        let (client, broker) = (client.parse().unwrap(), broker.parse().unwrap());
        let mut conversation = Conversation::new(client, broker, self.packets);
        conversation.open(&mut |f| self.packet(f));
        for (side, bytes) in said {
            conversation.data(*side, bytes, &mut |f| self.packet(f));
        }
        conversation.close(Side::Client, &mut |f| self.packet(f));
        self
    }
}

const CLIENT: &str = "127.0.0.1:40000";
use Side::{Client, Server};

fn dissect() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fencepost"));
    command.arg("dissect").env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    command
}

/// What the tool says of a capture on standard input.
fn run(capture: &[u8], arguments: &[&str]) -> Output {
    let mut child = dissect()
        .args(arguments)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(capture).unwrap();
    child.wait_with_output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", errors(output));
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The lines of one conversation.
fn told(said: &[Said<'_>], arguments: &[&str]) -> Vec<Value> {
    lines(&run(&Capture::new().talk(CLIENT, said).bytes, arguments))
}

fn pluck(lines: &[Value], pointer: &str) -> Vec<Value> {
    lines.iter().map(|line| line.pointer(pointer).cloned().unwrap_or(Value::Null)).collect()
}

fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_line_has_the_fields_of_the_manual() {
    let heartbeat = request(12, 0, 4, b"\0\x01g\0\0\0\x07\0\x01m");
    let lines = told(&[(Client, &heartbeat), (Server, &response(4, &[0, 27]))], &[]);
    let expected = json!({
        "n": 1,
        "time": "2026-11-23T10:15:02.003000000Z",
        "connection": "127.0.0.1:40000-127.0.0.1:9092",
        "api": "Heartbeat",
        "api_key": 12,
        "api_version": 0,
        "correlation_id": 4,
        "client_id": "cli",
        "frames": [4, 5],
        "latency_us": 1000,
        "request": {"group_id": "g", "generation_id": 7, "member_id": "m"},
        "response": {"error_code": 27},
        "errors": []
    });
    assert_eq!(lines, [expected]);
}

#[test]
fn lines_are_in_the_order_of_the_requests_whenever_the_responses_come() {
    let slow = Capture::new().talk(
        "[::1]:40000",
        &[
            (Client, &[fetch(1), produce(2, 0, &[]), fetch(3)].concat()),
            (Server, &fetched(1, None)),
            (Client, &produce(4, 1, &[])),
            (Server, &[fetched(3, Some(&[])), produced(4, 0)].concat()),
            (Client, &fetch(5)),
        ],
    );
    let lines = lines(&run(&slow.bytes, &[]));
    assert_eq!(pluck(&lines, "/correlation_id"), [1, 2, 3, 4, 5]);
    assert_eq!(pluck(&lines, "/n"), [1, 2, 3, 4, 5]);
    assert_eq!(lines[0]["connection"], "[::1]:40000-[::1]:9092");
    let frames: Vec<usize> =
        lines.iter().map(|line| line["frames"].as_array().unwrap().len()).collect();
    assert_eq!(frames, [2, 1, 2, 2, 1]);
    assert_eq!(
        pluck(&lines, "/response/throttle_time_ms"),
        json!([0, null, 0, 0, null]).as_array().unwrap()[..]
    );
    let records = "/response/responses/0/partitions/0/records";
    assert_eq!(lines[0].pointer(records), Some(&Value::Null));
    assert_eq!(lines[2].pointer(records), Some(&json!([])));
}

#[test]
fn batches_of_every_codec_are_decoded() {
    for compression in Compression::CODECS.into_iter().chain([Compression::None]) {
        let said = produce(1, 1, &batch(compression, StatedInBatch::default()));
        let lines = told(&[(Client, &said), (Server, &produced(1, 0))], &[]);
        let batches = &lines[0]["request"]["topic_data"][0]["partition_data"][0]["records"];
        let batch = &batches[0];
        let name = format!("{compression:?}").to_lowercase();
        assert_eq!(batch["compression"], name);
        let fields = ["base_offset", "producer_id", "producer_epoch", "base_sequence", "crc_ok"];
        let values: Vec<&Value> = fields.iter().map(|field| &batch[field]).collect();
        assert_eq!(json!(values), json!([40, 7, 2, 11, true]), "{batch}");
        let without_time = |record: &Value| {
            let mut record = record.clone();
            record.as_object_mut().unwrap().remove("timestamp");
            record
        };
        let records: Vec<Value> =
            batch["records"].as_array().unwrap().iter().map(without_time).collect();
        let headers =
            json!([{"key": "h", "value": null}, {"key": "h", "value": {"base64": "/w=="}}]);
        assert_eq!(
            records,
            [
                json!({"offset": 40, "key": "k", "value": "va\"lue", "headers": headers}),
                json!({"offset": 41, "key": null, "value": null, "headers": []}),
                json!({"offset": 42, "key": null, "value": {"base64": "/v8="}, "headers": []}),
            ]
        );
        assert_eq!(lines[0]["errors"], json!([]));
    }
}

#[test]
fn control_records_say_what_they_are_and_a_cut_batch_is_no_error() {
    let field = [commit_marker(), commit_marker()[..30].to_vec()].concat();
    let lines = told(&[(Client, &fetch(1)), (Server, &fetched(1, Some(&field)))], &[]);
    let records = &lines[0]["response"]["responses"][0]["partitions"][0]["records"];
    assert_eq!(records[0]["is_control_batch"], true);
    let control = json!({"type": "commit", "code": 1, "version": 0, "coordinator_epoch": 3});
    assert_eq!(records[0]["records"][0]["control"], control);
    assert_eq!(records[1], json!({"partial_batch_bytes": 30}));
    assert_eq!(lines[0]["errors"], json!([]));
}

#[test]
fn old_message_sets_are_decoded() {
    // Magic 1: offset, size, CRC, magic, attributes, timestamp, key, value.
    let mut inside = vec![1, 0];
    inside.extend(5i64.to_be_bytes());
    inside.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, b'v']);
    let crc = crc_of(&inside);
    let mut set = 9i64.to_be_bytes().to_vec();
    set.extend(frame(&[&crc.to_be_bytes()[..], &inside].concat()));
    let lines = told(&[(Client, &fetch(1)), (Server, &fetched(1, Some(&set)))], &[]);
    let batch = &lines[0]["response"]["responses"][0]["partitions"][0]["records"][0];
    assert_eq!((&batch["magic"], &batch["crc_ok"]), (&json!(1), &json!(true)), "{batch}");
    let record = json!({"offset": 9, "timestamp": 5, "key": null, "value": "v", "headers": []});
    assert_eq!(batch["records"], json!([record]));
    assert_eq!(batch.get("producer_id"), None);
}

/// CRC-32 as magic 0 and 1 have it.
fn crc_of(bytes: &[u8]) -> u32 {
    let bits = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    !bits
}

#[test]
fn a_damaged_batch_is_an_error_with_its_place_and_what_can_be_read_is_shown() {
    let stated = StatedInBatch { crc: Some(1), ..StatedInBatch::default() };
    let said = produce(1, 1, &batch(Compression::None, stated));
    let lines = told(&[(Client, &said), (Server, &produced(1, 2))], &[]);
    let batch = &lines[0]["request"]["topic_data"][0]["partition_data"][0]["records"][0];
    assert_eq!(batch["crc_ok"], false);
    assert_eq!(batch["records"].as_array().unwrap().len(), 3);
    let errors = lines[0]["errors"].as_array().unwrap();
    let path = "(topic_data[0].partition_data[0].records.batches[0].crc)";
    assert_eq!(errors.len(), 1);
    assert!(errors[0].as_str().unwrap().contains(path), "{errors:?}");
}

#[test]
fn bodies_that_stop_or_are_unknown_are_shown_as_far_as_they_go() {
    let stops = request(12, 0, 1, b"\0\x01g\0\0");
    let unknown = request(999, 0, 3, b"\xffx");
    // Too new for the broker: answered in the oldest form (KIP-511).
    let too_new = request(18, 77, 2, b"\0");
    let refused = response(2, &[0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    let lines = told(
        &[
            (Client, &fetch(0)),
            (Client, &[stops, too_new, unknown].concat()),
            (Server, &[fetched(0, None), response(1, &[0, 0]), refused].concat()),
        ],
        &[],
    );
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1]["request"], json!({"group_id": "g"}));
    assert_eq!(pluck(&lines[1]["errors"].as_array().cloned().unwrap(), "").len(), 1);
    assert_eq!(lines[2]["response"]["error_code"], 35);
    assert_eq!(lines[2]["response"]["api_keys"][0]["max_version"], 4);
    assert_eq!(lines[3]["api"], "Unknown(999)");
    assert_eq!(lines[3]["request"], json!({"undecoded": {"base64": "/3g="}}));
}

#[test]
fn lines_can_be_narrowed_and_keep_their_numbers() {
    let said = [
        (Client, [produce(1, 1, &[]), fetch(2), produce(3, 1, &[])].concat()),
        (Server, [produced(1, 0), fetched(2, None), produced(3, 45)].concat()),
    ];
    let said: Vec<Said<'_>> = said.iter().map(|(side, bytes)| (*side, &bytes[..])).collect();
    let numbers = |arguments: &[&str]| pluck(&told(&said, arguments), "/n");
    assert_eq!(numbers(&[]), [1, 2, 3]);
    assert_eq!(numbers(&["--api", "produce"]), [1, 3]);
    assert_eq!(numbers(&["--api", "1,Heartbeat"]), [2]);
    assert_eq!(numbers(&["--errors-only"]), [3]);
    assert_eq!(numbers(&["--errors-only", "--headers"]), [3]);
    assert_eq!(numbers(&["--port", "9092,1"]), [1, 2, 3]);
    assert_eq!(numbers(&["--port", "1"]), [0; 0]);
    let headers = told(&said, &["--headers"]);
    assert_eq!(pluck(&headers, "/request"), [json!({}), json!({}), json!({})]);
    assert_eq!(pluck(&headers, "/response"), [json!({}), json!({}), json!({})]);
    assert_eq!(headers[0]["frames"], json!([4, 5]));
}

#[test]
fn what_is_not_whole_is_counted_and_shown_where_asked_for() {
    let said = [(Client, fetch(1)), (Server, fetched(1, None)), (Client, produce(2, 1, &[7; 900]))];
    let said: Vec<Said<'_>> = said.iter().map(|(side, bytes)| (*side, &bytes[..])).collect();
    let whole = Capture::new().talk(CLIENT, &said).bytes;
    let end = whole.len() - 1_000;
    let output = run(&whole[..end], &[]);
    assert_eq!(lines(&output).len(), 1);
    assert!(errors(&output).contains("the file ends inside a packet"), "{}", errors(&output));
    // Without its first packets: the response has no request.
    let mut conversation =
        Conversation::new(CLIENT.parse().unwrap(), "127.0.0.1:9092".parse().unwrap(), 1);
    let mut late = Capture::new();
    conversation.open(&mut |_| {});
    conversation.data(Client, &fetch(1), &mut |_| {});
    conversation.data(Server, &fetched(1, None), &mut |f| late.packet(f));
    conversation.data(Client, &fetch(2), &mut |f| late.packet(f));
    conversation.data(Server, &fetched(2, None), &mut |f| late.packet(f));
    let output = run(&late.bytes, &["--port", "9092"]);
    assert_eq!(pluck(&lines(&output), "/correlation_id"), [2]);
    assert!(
        errors(&output).contains("1 responses whose request is not here"),
        "{}",
        errors(&output)
    );
}

#[test]
fn several_files_are_one_capture() {
    let folder = tempfile::tempdir().unwrap();
    let first = Capture::new().talk(CLIENT, &[(Client, &fetch(1)), (Server, &fetched(1, None))]);
    let second = Capture::new().talk("127.0.0.1:40001", &[(Client, &produce(2, 0, &[]))]);
    let first = file(folder.path(), "first.pcapng", &first.bytes);
    let second = file(folder.path(), "second.pcapng", &second.bytes);
    let output = dissect().args([&first, &second]).output().unwrap();
    let lines = lines(&output);
    assert_eq!(pluck(&lines, "/correlation_id"), [1, 2]);
    let name = |path: &Path| path.display().to_string();
    assert_eq!(lines[0]["files"], json!([name(&first), name(&first)]));
    assert_eq!(lines[1]["files"], json!([name(&second)]));
}

#[test]
fn a_file_of_which_nothing_can_be_read_is_a_failure_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let head = &Capture::new().bytes;
    for (name, bytes, code, says) in [
        ("empty.pcap", &b""[..], 255, "empty.pcap: at byte 0: the file is empty"),
        ("text.pcap", b"no packets at all", 255, "text.pcap: at byte 0: neither"),
        ("cut.pcapng", &[&head[..], &[6, 0, 0, 0, 64, 0]].concat(), 255, "cut.pcapng: at byte"),
        ("none.pcapng", head, 0, ""),
    ] {
        let output = dissect().arg(file(folder.path(), name, bytes)).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{name}");
        assert!(errors(&output).contains(says), "{name}: {}", errors(&output));
    }
    let output = dissect().arg(folder.path().join("absent")).output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    for arguments in
        [&["--api", "Frobnicate", "x"][..], &["-", "-"], &["--stats", "--headers", "x"]]
    {
        let output = dissect().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(254), "{arguments:?}");
    }
}

/// A message of fields, for a request with the header that its version has.
fn message(api: (i16, i16), id: i32, way: Way, fields: &Fields) -> Vec<u8> {
    let (api_key, version) = (ApiKey(api.0), api.1);
    let body = schema::layout(api_key, way, version).unwrap().encode(fields).unwrap();
    let tags: &[u8] = match way {
        Way::Request if schema::request_header_version(api_key, version) == Some(2) => &[0],
        Way::Response if schema::response_header_version(api_key, version) == Some(1) => &[0],
        _ => &[],
    };
    let body = [tags, &body].concat();
    match way {
        Way::Request => request(api.0, version, id, &body),
        Way::Response => response(id, &body),
    }
}

fn one(name: &'static str, inner: Fields) -> Fields {
    Fields::new().with(name, vec![inner])
}

#[test]
fn topics_have_their_names_beside_their_ids_and_sessions_what_they_leave_out() {
    const ID: &str = "bYF53O89SvSq6fS4K8hPQw";
    let partition = |index: i32| Fields::new().with("partition", index);
    let wanted = |partitions: Vec<Fields>| {
        one("topics", Fields::new().with("topic_id", ID).with("partitions", partitions))
    };
    let asked = |id, session: (i32, i32), fields: Fields| {
        let fields = fields.with("session_id", session.0).with("session_epoch", session.1);
        message((1, 16), id, Way::Request, &fields)
    };
    let forgotten = Fields::new().with("topic_id", ID).with("partitions", vec![Field::Int(0)]);
    let answered = |id| message((1, 16), id, Way::Response, &Fields::new().with("session_id", 7));
    let known = Fields::new().with("name", "t").with("topic_id", ID);
    let said = [
        (Client, asked(1, (0, 0), wanted(vec![partition(0), partition(3)]))),
        (Server, answered(1)),
        (Client, asked(2, (7, 1), Fields::new())),
        (Server, answered(2)),
        (
            Client,
            asked(
                3,
                (7, 2),
                wanted(vec![partition(5)]).with("forgotten_topics_data", vec![forgotten]),
            ),
        ),
        (Server, answered(3)),
        (Client, message((3, 12), 4, Way::Request, &Fields::new())),
        (Server, message((3, 12), 4, Way::Response, &one("topics", known))),
    ];
    let said: Vec<Said<'_>> = said.iter().map(|(side, bytes)| (*side, &bytes[..])).collect();
    let capture = Capture::new().talk(CLIENT, &said);
    // From a file: lines of a stream are written before names are known.
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "fetch.pcapng", &capture.bytes);
    let lines = lines(&dissect().arg(path).output().unwrap());
    assert_eq!(
        pluck(&lines, "/request/topics/0/topic_name")[..3],
        [json!("t"), Value::Null, json!("t")]
    );
    let session =
        |partitions: Value| json!([{"topic_id": ID, "topic_name": "t", "partitions": partitions}]);
    assert_eq!(
        pluck(&lines, "/request/session_topics"),
        [Value::Null, session(json!([0, 3])), session(json!([3, 5])), Value::Null]
    );
    assert_eq!(lines[3]["response"]["topics"][0].get("topic_name"), None);
}

#[test]
fn a_generation_has_its_name_of_the_version() {
    let commit = |version| {
        let fields = Fields::new().with("group_id", "g").with("generation_id_or_member_epoch", 7);
        let said = message((8, version), 1, Way::Request, &fields);
        told(&[(Client, &said)], &[]).remove(0)["request"].clone()
    };
    assert_eq!(commit(8)["generation_id"], 7);
    assert_eq!(commit(9)["generation_id_or_member_epoch"], 7);
}

#[test]
fn a_single_message_is_read_without_a_capture() {
    let heartbeat = request(12, 0, 4, b"\0\x01g\0\0\0\x07\0\x01m");
    let answer = response(4, &[0, 27]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
    let both = [&heartbeat[..], &answer].concat();
    let is_request = |line: &Value| line["request"]["group_id"] == "g";
    for bytes in [&heartbeat, &heartbeat[4..], &both] {
        for input in [bytes.to_vec(), hex(bytes).into_bytes(), hex(bytes).replace(' ', "\n").into()]
        {
            let line = lines(&run(&input, &[])).remove(0);
            assert!(is_request(&line), "{line}");
            let error = &line["response"]["error_code"];
            assert_eq!(*error == json!(27), bytes.len() == both.len(), "{line}");
        }
    }
    let meant = ["--api", "Heartbeat", "--api-version", "0"];
    for input in [&answer[..], &answer[4..], &answer[8..], hex(&answer).as_bytes()] {
        let line = lines(&run(input, &meant)).remove(0);
        assert_eq!((&line["response"]["error_code"], &line["request"]), (&json!(27), &Value::Null));
    }
    let line = lines(&run(&heartbeat[17..], &meant)).remove(0);
    assert!(is_request(&line), "{line}");
    let output = run(&answer, &["--api-version", "0"]);
    assert_eq!(output.status.code(), Some(254));
    assert_eq!(run(&answer, &[]).status.code(), Some(255));
}

#[test]
fn what_clients_say_alone_is_shown_however_much_it_is() {
    let large = produce(0, 1, &{
        let mut out = Vec::new();
        let value = vec![b'v'; 1 << 20];
        BatchBuilder::default().encode([NewRecord::of(&value)], &mut Scratch::new(), &mut out);
        out
    });
    let many = 70;
    let mut capture = Capture::new();
    let mut conversation =
        Conversation::new(CLIENT.parse().unwrap(), "127.0.0.1:9092".parse().unwrap(), 1);
    conversation.open(&mut |_| {});
    for _ in 0..many {
        conversation.data(Client, &large, &mut |f| capture.packet(f));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "large.pcapng", &capture.bytes);
    let output = dissect().arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((text.lines().count(), text.matches("not shown").count()), (many, 0));
    assert!(text.lines().all(|line| line.len() > 1 << 20));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let many: Vec<u8> = (0..5_000).flat_map(|id| produce(id, 0, &[])).collect();
    let folder = tempfile::tempdir().unwrap();
    let capture = Capture::new().talk(CLIENT, &[(Client, &many)]);
    let path = file(folder.path(), "many.pcapng", &capture.bytes);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = dissect().arg(path).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), errors(&output)), (Some(0), String::new()));
}

#[test]
fn totals_count_versions_clients_errors_and_connections() {
    let mut versions = vec![0]; // Tags of the header.
    versions.extend(b"\x05name\x041.2\0");
    let hello = request(18, 3, 0, &versions);
    let said = [
        (Client, [hello, produce(1, 1, &[]), fetch(2)].concat()),
        (Server, [response(0, &[0, 0, 1, 0, 0, 0, 0, 0]), produced(1, 45)].concat()),
    ];
    let said: Vec<Said<'_>> = said.iter().map(|(side, bytes)| (*side, &bytes[..])).collect();
    let hello_tls = [&[22, 3, 1, 0, 40, 1, 0, 0, 36, 3, 3][..], &[9; 34]].concat();
    let capture =
        Capture::new().talk(CLIENT, &said).talk("127.0.0.1:40001", &[(Client, &hello_tls)]);
    let output = run(&capture.bytes, &["--stats", "--output-format", "json"]);
    let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        pluck(stats["apis"].as_array().unwrap(), "/api"),
        ["Produce", "Fetch", "ApiVersions"]
    );
    let produce = &stats["apis"][0];
    assert_eq!(produce["errors"], json!({"OUT_OF_ORDER_SEQUENCE_NUMBER": 1}));
    assert_eq!(produce["latency_us"], json!({"p50": 1000, "p99": 1000, "max": 1000}));
    assert_eq!(
        (&stats["apis"][1]["unanswered"], &stats["apis"][1]["latency_us"]),
        (&json!(1), &Value::Null)
    );
    let client = json!({
        "client_id": "cli", "software_name": "name", "software_version": "1.2",
        "connections": 1, "requests": 3,
    });
    assert_eq!(stats["clients"], json!([client]));
    assert_eq!(pluck(stats["connections"].as_array().unwrap(), "/protocol"), ["kafka", "tls"]);
    assert_eq!(stats["totals"]["connections_tls"], 1);
    let text = run(&capture.bytes, &["--stats"]).stdout;
    let text = String::from_utf8(text).unwrap();
    for said in ["OUT_OF_ORDER_SEQUENCE_NUMBER 1", "TLS (cannot be read) 1", "name", "1.2"] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
}
