//! What real packet tools say to the captures we write.
//!
//! On by environment: set `FENCEPOST_LIVE` where tcpdump and tshark are installed.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use fencepost::capture::PcapngTap;
use fencepost::history::{Connection, Direction, Tap};
use fencepost::run::annotate::annotate;
use fencepost::run::judge::{Given, judge};

/// Connections whose numbers begin so near the end that ten megabytes pass it.
const WRAPS: [u64; 2] = [2583, 376];

/// Records every shape of conversation: several brokers and address families, large writes, odd
/// lengths, silence, actions of rules, close by either side, reset, one that stays open.
fn record(path: &Path, file_bytes_max: u64) {
    let path = path.to_owned();
    let open = Box::new(move |number: u32| {
        Ok(Box::new(File::create(path.with_extension(number.to_string()))?) as Box<_>)
    });
    let tap = PcapngTap::new(open, file_bytes_max).unwrap();
    let mut now = 1_700_000_000_123_456_789;
    let mut tick = || {
        now += 12_345;
        now
    };
    let metadata = b"\0\0\0\x12\0\x03\0\x01\0\0\0\x07\0\x04test\xff\xff\xff\xff";
    // Together more than may be in flight unacknowledged. To Kafka's dissector an unknown API.
    let large = [&10_000_000_i32.to_be_bytes()[..], &vec![7; 10_000_000]].concat();
    let mut response = [0; 20];
    (response[3], response[7]) = (16, 7);
    // The last two pass the end of the sequence numbers, in IPv4 and in IPv6.
    for number in [0, 1, 2, 3, 4, 5, WRAPS[0], WRAPS[1]] {
        let connection = Connection(number);
        let (client, broker) = match number % 3 {
            0 => (format!("127.0.0.1:{}", 40_000 + number), "127.0.0.1:9092"),
            1 => (format!("[::1]:{}", 40_000 + number), "[::1]:9093"),
            _ => (format!("127.0.0.1:{}", 40_000 + number), "[::1]:9094"),
        };
        tap.opened(connection, client.parse().unwrap(), broker.parse().unwrap(), tick());
        for _ in 0..5 {
            tap.bytes(connection, Direction::Request, tick(), metadata);
            tap.action(connection, Direction::Request, tick(), "held for 20 ms");
            tap.bytes(connection, Direction::Request, tick(), metadata);
            tap.bytes(connection, Direction::Response, tick(), &response);
            tap.action(connection, Direction::Response, tick(), "said twice");
            tap.action(connection, Direction::Response, tick(), "and again");
        }
        for _ in 0..if number < 6 { 8 } else { 1 } {
            tap.bytes(connection, Direction::Request, tick(), &large);
        }
        match number {
            0 => tap.closed(connection, Direction::Request, tick()),
            1 => tap.closed(connection, Direction::Response, tick()),
            2 | 3 => tap.reset(connection, Direction::Response, tick()),
            4 => tap.reset(connection, Direction::Request, tick()),
            _ => {}
        }
    }
    tap.secrets(b"CLIENT_RANDOM 00 11\n");
    tap.finish().unwrap();
}

fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn packet_tools_have_nothing_to_complain_about() {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wire");
    record(&path, u64::MAX);
    let file = folder.path().join("wire.0");
    let file = file.to_str().unwrap();
    nothing_is_wrong_with(file, true);
    let comments = output(
        "tshark",
        &["-r", file, "-Y", "frame.comment", "-T", "fields", "-e", "frame.comment"],
    );
    assert_eq!(comments.matches("held for 20 ms").count(), 40);
    assert_eq!(comments.matches("and again").count(), 40);
    let lines = output("tcpdump", &["-nn", "-vv", "-r", file]);
    let bad = lines.lines().find(|line| ["incorrect", " bad "].iter().any(|w| line.contains(w)));
    assert_eq!((lines.contains("(correct)"), bad), (true, None));
    // A file among others begins in mid-stream.
    let rotated = folder.path().join("rotated");
    record(&rotated, 200_000_000);
    for number in 0..3 {
        nothing_is_wrong_with(rotated.with_extension(number.to_string()).to_str().unwrap(), true);
    }
}

/// No warning on frames, IP and TCP, and every checksum right; where `decoded`, of Kafka neither.
fn nothing_is_wrong_with(file: &str, decoded: bool) {
    let checks = [
        "-d",
        "tcp.port==9092-9094,kafka",
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
        "-r",
        file,
    ];
    // A reset is a warning of its own to tshark; the large frames hold nothing Kafka knows.
    let wrong = "tcp.analysis.flags || ip.checksum.status == 0 || tcp.checksum.status == 0 \
                 || ((_ws.malformed || _ws.expert.severity >= 0x600000) \
                 && tcp.flags.reset == 0 && frame.len < 1000)";
    let below = "tcp.analysis.flags || ip.checksum.status == 0 || tcp.checksum.status == 0";
    let wrong = if decoded { wrong } else { below };
    let complaints = output("tshark", &[&checks[..], &["-Y", wrong]].concat());
    assert_eq!(complaints, "");
    let unchecked = "ip.checksum.status != 1 || tcp.checksum.status != 1";
    assert_eq!(output("tshark", &[&checks[..], &["-Y", unchecked]].concat()), "");
}

#[test]
fn comments_stand_on_the_packets_that_a_verdict_names() {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return;
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/captures");
    let captures = ["bug-torn-commit", "bug-deliver-aborted"]
        .map(|name| corpus.join(format!("{name}.pcapng.gz")));
    let folder = tempfile::tempdir().unwrap();
    for captures in [&captures[..1], &captures[..]] {
        let verdict = judge(captures, &Given::default()).unwrap();
        let to = folder.path().join("annotated.pcapng");
        let packets = annotate(captures, &verdict, &to).unwrap();
        let fields = ["frame.number", "frame.comment", "frame.time_epoch"];
        let file = to.to_str().unwrap();
        let mut arguments = vec!["-r", file, "-Y", "frame.comment", "-T", "fields"];
        fields.iter().for_each(|field| arguments.extend(["-e", field]));
        let shown = output("tshark", &arguments);
        let shown: Vec<&str> = shown.lines().collect();
        assert_eq!(shown.len() as u64, packets, "{shown:?}");
        assert!(shown.iter().all(|line| line.contains("fencepost: ")), "{shown:?}");
        // Of one capture, packets keep their numbers. (Those of two simulations have the same ports.)
        if let [_] = captures {
            // Of versions that tshark does not know.
            nothing_is_wrong_with(to.to_str().unwrap(), false);
            let cases = verdict.anomalies.values().flat_map(|found| &found.cases);
            let named: std::collections::BTreeSet<u64> =
                cases.flat_map(|case| case.frames.iter().copied()).collect();
            let number = |line: &&str| line.split('\t').next().unwrap().parse().unwrap();
            assert_eq!(shown.iter().map(number).collect::<Vec<u64>>(), Vec::from_iter(named));
        }
    }
}
