//! Captures that are read while they are written: through a pipe whose writer stops in the middle
//! of a packet, goes on, is killed, or never says anything.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use capture_file::conversation::{Conversation, Frame};
use capture_file::write::{self, PacketBlock};
use capture_file::{LinkType, Side};

/// How a capture is packed on its way.
#[derive(Debug, Clone, Copy)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// Takes the frames of a conversation.
type Emit<'e> = &'e mut dyn FnMut(Frame<'_>);

/// A capture of a client that asks for Metadata so many times, in blocks of pcapng: what comes
/// before the first exchange, then each exchange, then the end.
fn blocks(exchanges: i32) -> Vec<Vec<u8>> {
    let ends = [([10, 0, 0, 1], 40_000), ([10, 0, 0, 2], 9092)];
    let [client, broker] = ends.map(std::net::SocketAddr::from);
    let mut talk = Conversation::new(client, broker, 1);
    let mut now = 1_700_000_000_000_000_000;
    let mut said = |what: &mut dyn FnMut(Emit<'_>)| {
        let mut out = Vec::new();
        what(&mut |frame| {
            now += 1_000_000;
            let Frame { headers, payload } = frame;
            let packet =
                PacketBlock { interface: 0, time_ns: now, headers, payload, comments: &[] };
            write::packet(&mut out, &packet);
        });
        out
    };
    let mut first = Vec::new();
    write::section_header(&mut first, "a test");
    write::interface(&mut first, LinkType::ETHERNET, "here");
    first.extend(said(&mut |emit| talk.open(emit)));
    let mut all = vec![first];
    for id in 1..=exchanges {
        let id = id.to_be_bytes();
        let asked = [&[0, 0, 0, 19, 0, 3, 0, 1][..], &id, b"\0\x05slow!\xff\xff\xff\xff"].concat();
        let answer = [&[0, 0, 0, 16][..], &id, &[0; 12]].concat();
        all.push(said(&mut |emit| {
            talk.data(Side::Client, &asked, emit);
            talk.data(Side::Server, &answer, emit);
        }));
    }
    all.push(said(&mut |emit| talk.close(Side::Client, emit)));
    all
}

/// Writes to a child's standard input, packed, each piece whole at once.
struct Pipe(Box<dyn Write>);

impl Pipe {
    fn new(to: ChildStdin, packing: Packing) -> Self {
        Self(match packing {
            Packing::Plain => Box::new(to),
            Packing::Gzip => {
                Box::new(flate2::write::GzEncoder::new(to, flate2::Compression::fast()))
            }
            Packing::Zstd => Box::new(zstd::Encoder::new(to, 1).unwrap().auto_finish()),
        })
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }
}

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_fencepost"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lines of a child's output as they come; should none come, the test fails and does not hang.
fn lines(child: &mut Child) -> impl FnMut() -> Option<String> + use<> {
    lines_of(child.stdout.take().unwrap())
}

fn lines_of(from: impl Read + Send + 'static) -> impl FnMut() -> Option<String> {
    let out = BufReader::new(from);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        out.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
    });
    move || match receiver.recv_timeout(Duration::from_secs(60)) {
        Ok(line) => Some(line),
        Err(mpsc::RecvTimeoutError::Disconnected) => None,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing came for a minute"),
    }
}

fn errors(child: &mut Child) -> String {
    let lines: Vec<String> = std::iter::from_fn(lines_of(child.stderr.take().unwrap())).collect();
    lines.join("\n")
}

#[test]
fn exchanges_are_told_while_the_capture_is_still_being_written() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let mut child = start(&["dissect", "-"]);
        let mut pipe = Pipe::new(child.stdin.take().unwrap(), packing);
        let mut next = lines(&mut child);
        let blocks = blocks(3);
        // The beginning byte by byte, as nobody writes it.
        blocks[0].iter().for_each(|byte| pipe.say(&[*byte]));
        for (id, exchange) in (1..).zip(&blocks[1..4]) {
            // Not to the end: of the last packet half is missing.
            let (most, rest) = exchange.split_at(exchange.len() - 40);
            pipe.say(most);
            pipe.say(rest);
            let line = next().unwrap();
            assert!(line.contains(&format!("\"correlation_id\":{id},")), "{packing:?}: {line}");
        }
        pipe.say(&blocks[4]);
        drop(pipe);
        assert_eq!((next(), errors(&mut child).as_str()), (None, ""), "{packing:?}");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_writer_that_is_killed_leaves_what_it_said() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        for command in ["dissect", "check"] {
            let mut child = start(&[command, "-"]);
            let mut pipe = Pipe::new(child.stdin.take().unwrap(), packing);
            let mut next = lines(&mut child);
            let blocks = blocks(3);
            pipe.say(&blocks[..3].concat());
            // The third request, and half of its answer.
            pipe.say(&blocks[3][..blocks[3].len() - 40]);
            drop(pipe);
            let mut out: Vec<String> = Vec::new();
            out.extend(std::iter::from_fn(&mut next));
            let told = [out.join("\n"), errors(&mut child)].concat();
            let exit = child.wait().unwrap();
            assert!(told.contains("the file ends inside a packet"), "{command}: {told}");
            assert!(exit.success(), "{command}: {exit} {told}");
            assert!(command == "check" || out.len() == 3, "{told}");
        }
    }
}

#[test]
fn a_pipe_that_says_nothing_is_an_empty_file() {
    for command in ["dissect", "check"] {
        let mut child = start(&[command, "-"]);
        drop(child.stdin.take());
        let told = errors(&mut child);
        assert!(!child.wait().unwrap().success(), "{command}");
        assert!(told.contains("empty"), "{command}: {told}");
    }
}
