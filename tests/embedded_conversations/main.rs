//! Conversations with the embedded broker, each with the answers Apache Kafka 4.3.0 gives.
//!
//! A conversation is text: one request a line, `->`, the answer. The same text is held against a
//! real broker when `FENCEPOST_LIVE` names its address (`host:port`); that is how the answers were
//! found. Producer ids are letters in order of appearance, topics and ids are fresh each time.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "tests")]

mod talk;

use std::net::TcpStream;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fencepost::broker::embedded::{Config, Embedded, TransactionVersion};
use fencepost::world::{Chance, Clock};

use talk::{Talk, hold, run};

fn clock() -> Clock {
    let origin = Instant::now();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    Clock::new(unix, move || origin.elapsed().as_nanos() as u64)
}

/// Holds a conversation with the embedded broker, and with a real one where there is one.
fn check(transaction_version: TransactionVersion, conversation: &str) {
    // `FENCEPOST_LIVE=1` means the tests that start brokers of their own; an address means this.
    let address = std::env::var("FENCEPOST_LIVE").ok().filter(|live| live.contains(':'));
    if let (Some(address), TransactionVersion::Two) = (address, transaction_version)
        && let Err(difference) = run(&address, conversation)
    {
        panic!("Kafka: {difference}");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = Config { transaction_version, ..Config::default() };
    let broker = runtime.block_on(Embedded::start(config, clock(), Chance::from_seed(7))).unwrap();
    if let Err(difference) = run(&broker.bootstrap_servers(), conversation) {
        panic!("embedded: {difference}");
    }
}

/// To find out what a real broker says: a conversation from `FENCEPOST_CONVERSATION`, printed.
#[test]
fn a_conversation_of_ones_own_is_printed() {
    let Ok(path) = std::env::var("FENCEPOST_CONVERSATION") else { return };
    let conversation = std::fs::read_to_string(path).unwrap();
    for part in conversation.split("\n\n") {
        println!("----");
        if let Ok(address) = std::env::var("FENCEPOST_LIVE") {
            run(&address, part).unwrap();
        } else {
            check(TransactionVersion::Two, part);
        }
    }
}

#[test]
fn transactions_of_version_two_bump_the_epoch_at_every_end() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         produce12 tx A 0 p0 1+2 -> 0 @1
         latest p0 -> 0 3
         end5 tx A 0 commit -> 0 A 1
         state tx -> ~ CompleteCommit A 1
         latest p0 -> 4 4
         end5 tx A 0 commit -> 0 A 1
         end5 tx A 0 abort -> 48
         produce12 tx A 1 p0 0+1 -> 0 @4
         end5 tx A 0 commit -> 90
         end5 tx A 1 abort -> 0 A 2
         state tx -> ~ CompleteAbort A 2
         end5 tx A 2 commit -> 48
         end5 tx A 2 abort -> 0 A 3
         read p0 committed -> 0 0-0:A/0 1-2:A/0 3-3!:A/1 4-4:A/1 5-5!:A/2 aborted:A@4",
    );
}

#[test]
fn old_style_transactions_keep_their_epoch_and_repeat_their_answers() {
    check(
        TransactionVersion::Two,
        "init5 old -> 0 A 0
         add3 old A 0 p0 -> 0
         produce11 old A 0 p0 0+1 -> 0 @0
         end4 old A 0 commit -> 0
         state old -> ~ CompleteCommit A 0
         add3 old A 0 p0 -> 0
         produce11 old A 0 p0 1+1 -> 0 @2
         end4 old A 0 commit -> 0
         end4 old A 0 abort -> 48
         state old -> CompleteCommit A 0
         latest p0 -> 4 4
         end4 old A 0 abort -> 48
         read p0 all -> 0 0-0:A/0 1-1!:A/0 2-2:A/0 3-3!:A/0",
    );
}

#[test]
fn a_timeout_aborts_and_the_late_end_is_told_by_its_epoch() {
    check(
        TransactionVersion::Two,
        "init5 tx timeout=1000 -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         state tx -> ~ CompleteAbort A 1
         end5 tx A 0 commit -> 48
         end5 tx A 0 abort -> 0 A 1
         end5 tx A 1 abort -> 0 A 2
         init5 tx own=A:1 -> 0 A 2
         init5 tx own=A:0 -> 90 -1 -1
         read p0 all -> 0 0-0:A/0 1-1!:A/1",
    );
}

#[test]
fn a_producer_that_says_who_it_is_goes_on_after_a_timeout() {
    check(
        TransactionVersion::Two,
        "init5 tx timeout=1000 -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         state tx -> ~ CompleteAbort A 1
         init5 tx own=A:0 -> 0 A 1
         init5 tx own=A:1 -> 0 A 2
         init5 tx own=A:0 -> 90 -1 -1
         init5 tx own=A:1 -> 0 A 2",
    );
}

#[test]
fn a_second_init_fences_aborts_and_skips_an_epoch() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         init5 tx -> ~ 0 A 2
         read p0 all -> 0 0-0:A/0 1-1!:A/1
         produce12 tx A 0 p0 1+1 -> 47
         produce12 tx A 1 p0 0+1 -> 47
         produce12 tx A 2 p0 1+1 -> 45
         produce12 tx A 2 p0 0+1 -> 0 @2
         produce12 tx A 2 p0 0+1 -> 0 @2
         produce12 tx A 2 p0 2+1 -> 45
         produce12 tx A 2 p1 5+1 -> 45
         state tx -> Ongoing A 2
         end5 tx A 2 commit -> 0 A 3
         state tx -> ~ CompleteCommit A 3
         read p1 all -> 0 0-0!:A/3",
    );
}

#[test]
fn styles_may_be_mixed_and_each_request_goes_by_its_own_version() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         add3 tx A 0 p0 -> 0
         end5 tx A 0 commit -> 0 A 1
         state tx -> ~ CompleteCommit A 1
         add3 tx A 0 p0 -> 90
         add3 tx A 1 p0 -> 0
         produce12 tx A 1 p0 0+1 -> 0 @1
         produce11 tx A 1 p1 0+1 -> 120
         end4 tx A 1 abort -> 0
         state tx -> ~ CompleteAbort A 1
         produce11 tx A 1 p0 1+1 -> 120
         produce10 tx A 1 p0 1+1 -> 48
         produce12 tx A 1 p0 1+1 -> 0 @3
         produce12 tx A 1 p0 0+1 -> 0 @1
         end5 tx A 1 commit -> 0 A 2
         state tx -> ~ CompleteCommit A 2
         read p0 all -> 0 0-0!:A/1 1-1:A/1 2-2!:A/1 3-3:A/1 4-4!:A/2",
    );
}

#[test]
fn offsets_in_transactions_show_when_the_marker_is_there() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         offsets5 tx A 0 g p0 7 -> 0
         committed g p0 -> 0 -1
         committed g p0 stable -> 88 -1
         end5 tx A 0 commit -> 0 A 1
         state tx -> ~ CompleteCommit A 1
         committed g p0 -> 0 7
         offsets5 tx A 0 g p0 9 -> 47
         offsets5 tx A 1 g p0 11 -> 0
         end5 tx A 1 abort -> 0 A 2
         state tx -> ~ CompleteAbort A 2
         committed g p0 -> 0 7
         addoffsets4 tx A 2 g -> 0
         offsets4 tx A 2 g p0 12 -> 0
         end4 tx A 2 commit -> 0
         state tx -> ~ CompleteCommit A 2
         committed g p0 -> 0 12
         offsets4 tx A 2 g p0 13 -> 120
         offsets3 tx A 2 g p0 13 -> 48
         addoffsets4 tx A 1 g -> 90
         addoffsets1 tx A 1 g -> 47",
    );
}

#[test]
fn identities_are_repeated_bumped_or_refused() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         init5 tx own=A:0 -> 0 A 1
         init5 tx own=A:0 -> 0 A 1
         init5 tx own=A:5 -> 90 -1 -1
         init5 tx own=A:1 -> 0 A 2
         init3 tx own=A:1 -> 0 A 2
         init3 tx own=A:0 -> 47 -1 -1
         init4 tx own=99:0 -> 90 -1 -1
         init5 none -> 0 B 0
         init5 tx timeout=0 -> 50 -1 -1
         init5 tx timeout=900001 -> 50 -1 -1
         init5 - -> 42 -1 -1
         init5 none own=A:0 -> 0 C 0
         end5 none2 A 0 commit -> 49
         add3 none2 A 0 p0 -> 49
         produce12 none2 A 2 p0 0+1 -> 49
         produce11 none2 A 2 p0 0+1 -> 49
         produce12 tx 77777 2 p0 0+1 -> 49
         produce11 tx 77777 2 p0 0+1 -> 49",
    );
}

#[test]
fn idempotence_remembers_five_batches() {
    check(
        TransactionVersion::Two,
        "init5 none -> 0 A 0
         produce12 - A 0 p0 0+1 -> 0 @0
         produce12 - A 0 p0 0+1 -> 0 @0
         produce12 - A 0 p0 0+2 -> 45
         produce12 - A 0 p0 2+1 -> 45
         produce12 - A 0 p0 -1+1 -> 87
         produce12 - A 0 p0 1+1 -> 0 @1
         produce12 - A 0 p0 2+1 -> 0 @2
         produce12 - A 0 p0 3+1 -> 0 @3
         produce12 - A 0 p0 4+1 -> 0 @4
         produce12 - A 0 p0 0+1 -> 0 @0
         produce12 - A 0 p0 5+1 -> 0 @5
         produce12 - A 0 p0 0+1 -> 45
         produce12 - A 1 p0 1+1 -> 45
         produce12 - A 1 p0 0+1 -> 0 @6
         produce12 - A 0 p0 6+1 -> 47
         produce12 - A 0 p1 7+1 -> 0 @0
         produce12 - A 0 p1 7+1 -> 0 @0
         produce13 - A 0 p1 8+1 -> 0 @1
         produce3 - A 0 p1 9+1 -> 0 @2",
    );
}

#[test]
fn a_topic_says_how_large_a_batch_may_be() {
    check(
        TransactionVersion::Two,
        "produce12 - -1 -1 p0 -1+20 -> 0 @0
         configure1 p0 max.message.bytes=200 -> 0
         produce12 - -1 -1 p0 -1+20 -> 10
         produce12 - -1 -1 p0 -1+1 -> 0 @20
         configure1 p0 max.message.bytes=2000000 -> 0
         produce12 - -1 -1 p0 -1+20 -> 0 @21",
    );
}

#[test]
fn a_producer_in_a_transaction_writes_nothing_else() {
    check(
        TransactionVersion::Two,
        "init5 tx -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         produce12 - A 0 p0 1+1 -> 48
         produce12 - A 0 p1 0+1 -> 0 @0
         end5 tx A 0 abort -> 0 A 1
         state tx -> ~ CompleteAbort A 1
         read p0 committed -> 0 0-0:A/0 1-1!:A/1 aborted:A@0
         read13 p0 committed -> 0 0-0:A/0 1-1!:A/1 aborted:A@0
         read4 p0 committed -> 0 0-0:A/0 1-1!:A/1 aborted:A@0
         read18 p0 all -> 0 0-0:A/0 1-1!:A/1",
    );
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = || {
        let data_dir = Some(directory.path().to_owned());
        let config = Config { data_dir, ..Config::default() };
        runtime.block_on(Embedded::start(config, clock(), Chance::from_seed(7))).unwrap()
    };
    let first = start();
    let mut talk = Talk::to(&first.bootstrap_servers());
    let before = "init5 tx -> 0 A 0
        produce12 tx A 0 p0 0+2 -> 0 @0
        offsets5 tx A 0 g p0 7 -> 0
        end5 tx A 0 commit -> 0 A 1
        state tx -> ~ CompleteCommit A 1
        produce12 tx A 1 p0 0+1 -> 0 @3
        offsets5 tx A 1 g p0 9 -> 0
        latest p0 -> 3 4";
    hold(&mut talk, before).unwrap();
    drop(first);
    let second = start();
    talk.stream = TcpStream::connect(second.bootstrap_servers()).unwrap();
    let after = "latest p0 -> 3 4
        committed g p0 -> 0 7
        committed g p0 stable -> 88 -1
        state tx -> Ongoing A 1
        produce12 tx A 1 p0 0+1 -> 0 @3
        produce12 tx A 1 p0 1+1 -> 0 @4
        end5 tx A 1 abort -> 0 A 2
        state tx -> ~ CompleteAbort A 2
        committed g p0 stable -> 0 7
        read p0 committed -> 0 0-1:A/0 2-2!:A/1 3-3:A/1 4-4:A/1 5-5!:A/2 aborted:A@3
        init5 other -> 0 B 0";
    hold(&mut talk, after).unwrap();
}

#[test]
fn classic_groups_join_sync_commit_and_leave() {
    check(
        TransactionVersion::Two,
        "join5 g - -> 79 -1 a - 0
         join5 g a -> 0 1 a a 1
         heartbeat4 g a 1 -> 0
         heartbeat4 g a 2 -> 22
         heartbeat4 g nobody 1 -> 25
         sync5 g a 1 other -> 23
         sync5 g a 2 -> 22
         sync5 g a 1 -> 0 all
         heartbeat4 g a 1 -> 0
         sync5 g a 1 -> 0 all
         commit8 g a 1 p0 5 -> 0
         commit8 g a 2 p0 6 -> 22
         commit8 g - -1 p0 6 -> 25
         commit8 g nobody 1 p0 6 -> 25
         committed g p0 -> 0 5
         describe5 g -> 0 Stable 1
         delete2 g -> 68
         join5 g a -> 0 2 a a 1
         sync5 g a 2 -> 0 all
         leave3 g nobody -> 0 25
         leave3 g a -> 0 0
         heartbeat4 g a 2 -> 25
         describe5 g -> 0 Empty 0
         describe6 g -> 0 Empty 0
         commit8 g - -1 p0 8 -> 0
         committed g p0 -> 0 8
         delete2 g -> 0
         delete2 g -> 69
         describe5 g -> 0 Dead 0
         describe6 g -> 69 Dead 0
         heartbeat4 h a 1 -> 25
         leave3 h a -> 0 25
         sync5 h a 1 -> 25
         join3 h - -> 0 1 b b 1
         join5 h - 10 -> 26 -1 - - 0
         join5 h nobody -> 25 -1 c - 0
         join5 - - -> 24 -1 - - 0
         heartbeat4 - a 1 -> 24
         commit8 i a 3 p0 5 -> 22
         commit9 i a 3 p0 5 -> 69",
    );
}

#[test]
fn groups_of_the_new_protocol_move_by_heartbeats() {
    check(
        TransactionVersion::Two,
        "beat1 g m1 0 p -> 0 2 [0, 1, 2, 3]
         beat1 g m1 2 p 0123 -> 0 2 same
         beat1 g m1 1 p 0123 -> 110 0 same
         commit9 g m1 2 p0 4 -> 0
         commit9 g m1 0 p0 4 -> 113
         commit9 g m1 3 p0 4 -> 113
         commit9 g nobody 1 p0 4 -> 25
         commit8 g m1 2 p0 4 -> 35
         commit9 g - -1 p0 4 -> 25
         committed g p0 -> 0 4
         beat1 g m2 0 p -> ~ 0 3 []
         beat1 g m1 2 p 0123 -> 0 2 [0, 1]
         beat1 g m1 2 p 01 -> 0 3 same
         beat1 g m2 3 p -> 0 3 [2, 3]
         beat1 g m1 3 p 01 -> 0 3 same
         beat1 g m1 2 p 01 -> 0 3 same
         beat1 g m2 5 p -> 110 0 same
         beat1 g nobody 3 p -> 25 0 same
         beat1 g2 m1 3 p -> 69 0 same
         beat1 g m1 -1 p -> 0 -1 same
         beat1 g m2 3 p -> ~ 0 4 [0, 1, 2, 3]
         beat1 g m2 4 p -> 0 4 same
         beat1 g m2 0 p -> 0 4 [0, 1, 2, 3]
         heartbeat4 g m2 3 -> 25
         describe5 g -> 0 Dead 0
         delete2 g -> 68
         beat1 - m1 0 p -> 42 0 same
         beat1 g3 - 0 p -> 42 0 same
         beat0 g3 - 0 p -> 0 2 [0, 1, 2, 3]",
    );
}

#[test]
fn fetch_sessions_and_offsets_are_answered_as_kafka_does() {
    check(
        TransactionVersion::Two,
        "init5 none -> 0 A 0
         produce12 - A 0 p0 0+2 -> 0 @0
         fetch12 0 -1 p0@0 -> 0 none 0:0:records:2
         fetch12 0 0 p0@0 p1@0 -> 0 session 0:0:records:2 1:0:empty:0
         fetch12 s 1 -> 0 session 0:0:records:2
         fetch12 s 2 p0@2 -> 0 session
         produce12 - A 0 p0 2+1 -> 0 @2
         fetch12 s 3 -> 0 session 0:0:records:3
         fetch12 s 3 -> 71 none
         fetch12 s 4 p0@3 -> 0 session
         fetch12 s 5 !p0 -> 0 session
         produce12 - A 0 p0 3+1 -> 0 @3
         fetch12 s 6 -> 0 session
         fetch12 s 9 -> 71 none
         fetch12 99 1 -> 70 none
         fetch13 s 7 -> 106 none
         fetch13 0 0 p0@0 -> 0 session 0:0:records:4
         fetch13 s 1 p0@1 -> 0 session 0:0:records:4
         fetch12 0 -1 p0@9 -> 0 none 0:1:empty:-1
         fetch12 0 -1 p0@0/5 -> 0 none 0:75:empty:-1
         fetch12 0 -1 p0@0/0 -> 0 none 0:0:records:4
         fetch12 0 -1 p9@0 -> 0 none 9:3:empty:-1
         fetch12 s 2 !p0 -> 106 none
         fetch4 0 -1 p0@4 -> 0 none 0:0:empty:4
         offsetsfor7 p0 -1 -> 0 4 0
         offsetsfor7 p0 -2 -> 0 0 0
         offsetsfor6 p0 -3 -> 35 -1 -1
         offsetsfor8 p0 -4 -> 0 0 0
         offsetsfor7 p0 -4 -> 35 -1 -1
         offsetsfor9 p0 -5 -> 0 -1 -1
         offsetsfor7 p0 0 -> 0 0 0
         offsetsfor7 p0 99999999999999 -> 0 -1 -1
         offsetsfor7 p1 -3 -> 0 -1 -1
         offsetsfor7 p1 -1 -> 0 0 0
         offsetsfor7 p9 -1 -> 3 -1 -1
         offsetsfor7 p0 -1 0 -> 0 4 0
         offsetsfor7 p0 -1 7 -> 75 -1 -1
         offsetsfor1 p0 -2 -> 0 0 -1
         offsetsfor3 p0 -1 -> 0 4 -1
         endofepoch4 p0 0 -> 0 0 4
         endofepoch4 p0 0 0 -> 0 0 4
         endofepoch4 p0 3 -> 0 -1 -1
         endofepoch4 p0 0 4 -> 75 -1 -1
         endofepoch4 p1 0 -> 0 0 0
         endofepoch4 p9 0 -> 3 -1 -1
         deleterecords2 p0 1 -> 0 1
         deleterecords2 p0 99 -> 1 -1
         deleterecords2 p0 -1 -> 0 4
         deleterecords2 p9 0 -> 3 -1
         offsetsfor7 p0 -2 -> 0 4 0
         fetch12 0 -1 p0@0 -> 0 none 0:1:empty:-1
         fetch12 0 -1 p0@4 -> 0 none 0:0:empty:4",
    );
}

#[test]
fn bytes_behind_the_last_field_are_nobodys_business() {
    check(
        TransactionVersion::Two,
        "behind xyz -> 3
         init5 tx -> 0 A 0
         produce12 tx A 0 p0 0+1 -> 0 @0
         end5 tx A 0 commit -> 0 A 1
         latest p0 -> ~ 2 2
         fetch4 0 -1 p0@0 -> 0 none 0:0:records:2
         join5 g - -> 79 -1 a - 0
         heartbeat4 g a 1 -> 25",
    );
}

#[test]
fn only_leaders_and_coordinators_answer_and_others_take_over() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { nodes: 3, ..Config::default() };
    let broker = runtime.block_on(Embedded::start(config, clock(), Chance::from_seed(7))).unwrap();
    let mut talk = Talk::to(broker.bootstrap_servers().split(',').next().unwrap());
    // Topics made on demand have a replica on each of three nodes.
    assert_eq!(talk.step("metadata12 q"), "0");
    let asked = |talk: &mut Talk, step: &str| -> Vec<String> {
        let ask = |address: &std::net::SocketAddr| {
            talk.stream = TcpStream::connect(address).ok()?;
            Some(talk.step(step))
        };
        broker.addresses().iter().filter_map(ask).collect()
    };
    let mut letters = asked(&mut talk, "init5 none");
    letters.truncate(1);
    assert_eq!(letters, ["0 A 0"]);
    let mut produced = asked(&mut talk, "produce12 - A 0 q0 0+1");
    let leader = 1 + produced.iter().position(|said| said == "0 @0").unwrap() as i32;
    produced.sort();
    assert_eq!(produced, ["0 @0", "6", "6"]);
    let mut identities = asked(&mut talk, "init5 tx");
    identities.sort();
    assert_eq!(identities[1..], ["16 -1 -1", "16 -1 -1"]);

    broker.kill(leader);
    // A dying node may still take a connection, and say nothing.
    let mut produced = asked(&mut talk, "produce12 - A 0 q0 1+1");
    produced.retain(|said| said != "closed");
    produced.sort();
    assert_eq!(produced, ["0 @1", "6"], "another leads");
    let listening = TcpStream::connect(broker.addresses()[(leader % 3) as usize]).unwrap();
    talk.stream = listening;
    assert_eq!(talk.step("endofepoch4 q0 0 1"), "0 0 1", "under a new leader epoch");
    runtime.block_on(broker.restart(leader)).unwrap();
    assert_eq!(asked(&mut talk, "produce12 - A 0 q0 2+1").len(), 3);
}

#[test]
fn the_oldest_goes_when_the_log_is_full() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { log_bytes_max: 200, ..Config::default() };
    let broker = runtime.block_on(Embedded::start(config, clock(), Chance::from_seed(7))).unwrap();
    let told = "init5 none -> 0 A 0
        produce12 - A 0 p0 0+1 -> 0 @0
        produce12 - A 0 p0 1+1 -> 0 @1
        offsetsfor7 p0 -2 -> 0 0 0
        produce12 - A 0 p0 2+1 -> 0 @2
        offsetsfor7 p0 -2 -> 0 1 0
        fetch12 0 -1 p0@0 -> 0 none 0:1:empty:-1
        produce12 - A 0 p0 3+1 -> 0 @3
        produce12 - A 0 p0 0+1 -> 0 @0
        offsetsfor7 p0 -2 -> 0 2 0";
    run(&broker.bootstrap_servers(), told).unwrap();
}
