//! Packets of the loopback interface, captured while they pass.
//!
//! On by environment: set `FENCEPOST_LIVE` where the process has CAP_NET_RAW.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use fencepost::capture::live::{LIVE_LINK_TYPE, packet_socket};
use fencepost::capture::{
    AssemblerOptions, CaptureFiles, LiveCapture, LiveError, LiveOptions, read_captures,
};
use fencepost::history::wire::{ConnectionSummary, Exchange, ExchangeSink, Outcome, Request};

#[derive(Default)]
struct Seen {
    answered: usize,
    summaries: Vec<ConnectionSummary>,
}

impl ExchangeSink for Seen {
    type Kept = ();

    fn request(&mut self, _: &Request<'_>) {}

    fn exchange(&mut self, exchange: Exchange<'_, ()>) {
        self.answered += usize::from(matches!(exchange.outcome, Outcome::Answered(_)));
    }

    fn closed(&mut self, summary: &ConnectionSummary) {
        self.summaries.push(*summary);
    }
}

const EXCHANGES: usize = 300;
const BODY_BYTES: usize = 100_000;

/// Asks Metadata with a long topic name so many times and is answered; IPv4 or IPv6.
fn talk(listener: &TcpListener) {
    let body = vec![b'x'; BODY_BYTES];
    let mut request = (BODY_BYTES as i32 + 13).to_be_bytes().to_vec();
    request.extend(b"\0\x03\0\x01\0\0\0\x07\0\x03cli");
    request.extend(&body);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut broker, _) = listener.accept().unwrap();
            let mut asked = vec![0; request.len()];
            for _ in 0..EXCHANGES {
                broker.read_exact(&mut asked).unwrap();
                broker.write_all(b"\0\0\0\x10\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
            }
        });
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut answer = [0; 20];
        for _ in 0..EXCHANGES {
            client.write_all(&request).unwrap();
            client.read_exact(&mut answer).unwrap();
        }
    });
}

#[test]
fn what_passes_on_loopback_is_captured_once_and_whole() {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return;
    }
    let nowhere = LiveOptions { interface: Some("no-such-0".into()), ..LiveOptions::default() };
    let refused = LiveCapture::new(packet_socket().unwrap(), &nowhere);
    assert!(matches!(refused, Err(LiveError::NoInterface(_))));

    for address in ["127.0.0.1:0", "[::1]:0"] {
        let wanted = TcpListener::bind(address).unwrap();
        let unwanted = TcpListener::bind(address).unwrap();
        let options = LiveOptions {
            interface: Some("lo".into()),
            ports: vec![wanted.local_addr().unwrap().port()],
            ..LiveOptions::default()
        };
        let mut capture = LiveCapture::new(packet_socket().unwrap(), &options).unwrap();
        talk(&wanted);
        talk(&unwanted);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let open = Box::new(move |number: u32| {
            Ok(Box::new(std::fs::File::create(path.join(number.to_string()))?) as Box<_>)
        });
        // So small that the capture begins several files.
        let mut files = CaptureFiles::new(open, 4_000_000, LIVE_LINK_TYPE, "lo").unwrap();
        let mut rounds = 0;
        let counts = capture.record(&mut files, 200, |_, _| {
            rounds += 1;
            rounds < 6
        });
        let counts = counts.unwrap();
        let written = files.recorded().files;
        assert!(written > 1);
        let file = |number: u32| std::fs::File::open(folder.path().join(number.to_string()));
        let files = (0..written).map(|number| file(number).unwrap()).collect();
        let (seen, summary) =
            read_captures(files, AssemblerOptions::default(), Seen::default()).unwrap();
        assert_eq!((seen.answered, seen.summaries.len()), (EXCHANGES, 1));
        assert_eq!((counts.received, counts.dropped), (summary.packets.packets, 0));
        let [client, broker] = seen.summaries[0].directions;
        assert_eq!(client.bytes as usize, EXCHANGES * (BODY_BYTES + 17));
        assert_eq!(broker.bytes as usize, EXCHANGES * 20);
        // On a busy machine TCP itself may send something again.
        assert_eq!((client.gaps, client.differing_overlaps), (0, 0));
        assert!(seen.summaries[0].syn && seen.summaries[0].fin);
    }
}
