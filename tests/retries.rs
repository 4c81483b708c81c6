//! What the pipeline does when answers are lost, late or unkind: against a scripted broker over
//! in-memory streams, on paused time.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use fake::{Fake, Step};
use fencepost::client::cluster::TopicPartition;
use fencepost::client::producer::Acks;
use fencepost::client::versions::TransactionVersion;
use fencepost::history::outcome::Outcome;
use fencepost::pipeline::{
    Attempt, Cluster, Consumer, ConsumerConfig, Producer, ProducerConfig, Record, RetryPolicy,
    SendId, Start,
};
use kafka_wire::ApiKey;

fn tp() -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: 0 }
}

async fn idempotent(cluster: &Cluster) -> Producer {
    Producer::open(cluster, ProducerConfig::default()).await.unwrap()
}

async fn transactional(cluster: &Cluster) -> Producer {
    let transactional_id = Some("txn".to_owned());
    let config = ProducerConfig { transactional_id, ..ProducerConfig::default() };
    Producer::open(cluster, config).await.unwrap()
}

/// Sends the values one request each, without waiting between them.
async fn send(producer: &mut Producer, values: &str) -> Vec<SendId> {
    let mut ids = Vec::new();
    for value in values.split_whitespace() {
        ids.push(producer.send(tp(), Record::of(value.as_bytes().to_vec())));
        producer.dispatch().await;
    }
    ids
}

/// What came of the attempts, shortly.
fn fates(attempts: &[Attempt]) -> String {
    let fates = attempts.iter().map(|attempt| match attempt.came.code() {
        Some(code) => code.0.to_string(),
        None => format!("{:?}", attempt.came.fate()),
    });
    fates.collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_with_the_same_sequence() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = idempotent(&cluster).await;
    fake.script(&[Step::LoseAnswer]);
    let ids = send(&mut producer, "a").await;
    producer.settle().await;
    let report = producer.report(ids[0]);
    assert_eq!((report.outcome, fates(&report.attempts).as_str()), (Outcome::Ok, "Lost 0"));
    assert_eq!(report.offset.unwrap().0, 0);
    assert_eq!(fake.log(), "a");
    assert_eq!(fake.sequences(), [0, 0]);
    assert_eq!(producer.take_notes(), []);
}

#[tokio::test(start_paused = true)]
async fn order_holds_where_the_first_of_several_in_flight_is_refused() {
    for refused in [6, 19, 7] {
        let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
        let mut producer = idempotent(&cluster).await;
        send(&mut producer, "a").await;
        producer.settle().await;
        fake.script(&[Step::Refuse(refused)]);
        let ids = send(&mut producer, "b c d e f g").await;
        producer.settle().await;
        assert_eq!(fake.log(), "a b c d e f g", "{refused}");
        for (i, id) in ids.iter().enumerate() {
            let report = producer.report(*id);
            assert_eq!((report.outcome, report.offset.unwrap().0), (Outcome::Ok, i as i64 + 1));
        }
        let tries: Vec<String> =
            ids.iter().map(|id| fates(&producer.report(*id).attempts)).collect();
        // Five were in flight: those behind the refused one did not fit.
        assert_eq!(tries[0], format!("{refused} 0"));
        assert_eq!(tries[1..], ["45 0", "45 0", "45 0", "45 0", "0"], "{refused}");
        assert_eq!(producer.take_notes(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn order_holds_where_a_connection_with_several_requests_is_lost() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = idempotent(&cluster).await;
    send(&mut producer, "a").await;
    producer.settle().await;
    fake.script(&[Step::Serve, Step::LoseAnswer]);
    let ids = send(&mut producer, "b c d e").await;
    producer.settle().await;
    assert_eq!(fake.log(), "a b c d e");
    for id in ids {
        assert_eq!(producer.report(id).outcome, Outcome::Ok);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_batch_goes_alone_until_the_leader_knows_the_producer() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = idempotent(&cluster).await;
    // A leader that knows nothing of a producer takes any sequence as its first.
    fake.script(&[Step::Refuse(6)]);
    let ids = send(&mut producer, "a b c").await;
    producer.settle().await;
    assert_eq!(fake.log(), "a b c");
    assert_eq!(fates(&producer.report(ids[0]).attempts), "6 0");
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_timeout_and_the_batch_goes_out_on_a_new_connection() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = idempotent(&cluster).await;
    fake.script(&[Step::Silence]);
    let before = fake.connections();
    let ids = send(&mut producer, "a").await;
    producer.settle().await;
    let report = producer.report(ids[0]);
    assert_eq!((report.outcome, fates(&report.attempts).as_str()), (Outcome::Ok, "TimedOut 0"));
    assert!(fake.connections() > before + 1, "the connection was not opened again");
    assert_eq!(fake.log(), "a");
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_in_doubt_is_info_and_the_next_goes_under_another_producer_id() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = idempotent(&cluster).await;
    let id = producer.state().producer_id;
    fake.script(&[Step::LoseRequest; 40]);
    let ids = send(&mut producer, "a").await;
    producer.settle().await;
    let report = producer.report(ids[0]);
    assert_eq!(report.outcome, Outcome::Info);
    assert!(report.error.is_some() && report.attempts.len() > 3, "{report:?}");
    fake.script(&[]);
    let ids = send(&mut producer, "b").await;
    producer.settle().await;
    assert_eq!(producer.report(ids[0]).outcome, Outcome::Ok);
    assert_ne!(producer.state().producer_id, id);
    let notes = producer.take_notes();
    assert!(notes.len() == 1 && notes[0].what.contains("was given up"), "{notes:?}");
    assert_eq!(fake.log(), "b");
}

#[tokio::test(start_paused = true)]
async fn what_never_left_fails_and_leaves_no_gap() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = idempotent(&cluster).await;
    fake.accept(false);
    let ids = send(&mut producer, "a").await;
    producer.settle().await;
    let report = producer.report(ids[0]);
    assert_eq!(report.outcome, Outcome::Fail, "{report:?}");
    assert!(fates(&report.attempts).split(' ').all(|fate| fate == "NotSent"), "{report:?}");
    fake.accept(true);
    send(&mut producer, "b").await;
    producer.settle().await;
    assert_eq!((fake.log().as_str(), producer.take_notes().len()), ("b", 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_refused_for_good_takes_nothing_with_it() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = idempotent(&cluster).await;
    send(&mut producer, "a").await;
    producer.settle().await;
    fake.script(&[Step::Refuse(87)]);
    let ids = send(&mut producer, "b c d").await;
    producer.settle().await;
    let outcomes: Vec<Outcome> = ids.iter().map(|id| producer.report(*id).outcome).collect();
    assert_eq!(outcomes, [Outcome::Fail, Outcome::Ok, Outcome::Ok]);
    assert_eq!(fake.log(), "a c d");
    assert_eq!(producer.take_notes().len(), 1, "a new producer id is never silent");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_stops_waiting_loses_no_attempt() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = idempotent(&cluster).await;
    fake.script(&[Step::Silence]);
    let ids = send(&mut producer, "a").await;
    let dropped = tokio::time::timeout(Duration::from_millis(10), producer.settle()).await;
    assert!(dropped.is_err());
    let report = producer.report(ids[0]);
    assert_eq!((report.settled, report.outcome), (false, Outcome::Info));
    assert_eq!(fates(&report.attempts), "Abandoned");
    producer.settle().await;
    assert_eq!(producer.report(ids[0]).outcome, Outcome::Ok);
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgement_nothing_is_known() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let config =
        ProducerConfig { acks: Acks::None, idempotence: false, ..ProducerConfig::default() };
    let mut producer = Producer::open(&cluster, config).await.unwrap();
    let ids = send(&mut producer, "a b").await;
    producer.settle().await;
    let report = producer.report(ids[1]);
    assert_eq!((report.outcome, fates(&report.attempts).as_str()), (Outcome::Info, "Unasked"));
    fake.until_log("a b").await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_an_answer_is_sent_again_on_a_new_connection() {
    for version in [TransactionVersion::V1, TransactionVersion::V2] {
        let (fake, cluster) = Fake::start(version).await;
        let mut producer = transactional(&cluster).await;
        producer.begin().unwrap();
        send(&mut producer, "a").await;
        producer.settle().await;
        fake.script_ends(&[Step::LoseAnswer]);
        let report = producer.commit().await;
        assert_eq!(report.outcome, Outcome::Ok, "{report:?}");
        let ends = report.attempts.iter().filter(|a| a.api_key == ApiKey::END_TXN).cloned();
        assert_eq!(fates(&ends.collect::<Vec<_>>()), "Lost 0", "{version:?}");
        // The next transaction goes on as its version says.
        let epoch = producer.state().producer_epoch.0;
        assert_eq!(epoch, if version == TransactionVersion::V2 { 1 } else { 0 });
        producer.begin().unwrap();
        send(&mut producer, "b").await;
        assert_eq!(producer.commit().await.outcome, Outcome::Ok);
        assert_eq!(fake.log(), "a b");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_nobody_answers_is_in_doubt_and_closes_the_producer() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = transactional(&cluster).await;
    producer.begin().unwrap();
    send(&mut producer, "a").await;
    producer.settle().await;
    fake.script_ends(&[Step::LoseRequest; 40]);
    let report = producer.commit().await;
    assert!(report.must_close && report.outcome == Outcome::Info, "{report:?}");
    assert!(producer.begin().is_err());
    let abort = producer.abort().await;
    assert_eq!((abort.outcome, abort.attempts.len()), (Outcome::Info, 0));
}

#[tokio::test(start_paused = true)]
async fn a_send_that_fails_lets_the_transaction_only_be_aborted() {
    for version in [TransactionVersion::V1, TransactionVersion::V2] {
        let (fake, cluster) = Fake::start(version).await;
        let mut producer = transactional(&cluster).await;
        producer.begin().unwrap();
        fake.script(&[Step::Refuse(87)]);
        let ids = send(&mut producer, "a b").await;
        let report = producer.commit().await;
        assert_eq!((report.outcome, report.must_abort), (Outcome::Fail, true), "{report:?}");
        assert!(report.attempts.iter().all(|a| a.api_key != ApiKey::END_TXN), "{report:?}");
        assert_eq!(producer.report(ids[0]).outcome, Outcome::Fail);
        let report = producer.abort().await;
        assert_eq!((report.outcome, report.error), (Outcome::Fail, None));
        // Version 1 needs another epoch, as sequences are missing now.
        producer.begin().unwrap();
        send(&mut producer, "c d").await;
        assert_eq!(producer.commit().await.outcome, Outcome::Ok, "{version:?}");
        assert!(fake.log().ends_with("c d"));
        let notes = producer.take_notes().len();
        assert_eq!(notes, if version == TransactionVersion::V1 { 1 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_transactions_is_waited_out() {
    let (fake, cluster) = Fake::start(TransactionVersion::V1).await;
    let mut producer = transactional(&cluster).await;
    producer.begin().unwrap();
    fake.script_adds(&[Step::Refuse(51), Step::Refuse(51), Step::Refuse(14)]);
    send(&mut producer, "a").await;
    assert_eq!(producer.commit().await.outcome, Outcome::Ok);
    let attempts = producer.take_attempts();
    let adds = attempts.iter().filter(|a| a.api_key == ApiKey::ADD_PARTITIONS_TO_TXN).cloned();
    assert_eq!(fates(&adds.collect::<Vec<_>>()), "51 51 14 0");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_poll_loses_no_records() {
    let (fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = idempotent(&cluster).await;
    let mut consumer = Consumer::open(&cluster, ConsumerConfig::default()).await.unwrap();
    consumer.assign(&[tp()], Start::Beginning);
    assert_eq!(consumer.poll(Duration::ZERO).await.records, []);
    send(&mut producer, "a b").await;
    producer.settle().await;
    // Dropped at every point where it waits, until it is through.
    let mut polled = Vec::new();
    for patience in 0..50 {
        let poll = consumer.poll(Duration::from_millis(5));
        if let Ok(report) = tokio::time::timeout(Duration::from_micros(patience * 200), poll).await
        {
            polled.extend(report.records.into_iter().flat_map(|(_, records)| records));
        }
    }
    let offsets: Vec<i64> = polled.iter().map(|(offset, _)| offset.0).collect();
    assert_eq!(offsets, [0, 1]);
    assert_eq!(fake.log(), "a b");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_position_that_was_left_is_dropped() {
    let (_fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = idempotent(&cluster).await;
    let mut consumer = Consumer::open(&cluster, ConsumerConfig::default()).await.unwrap();
    consumer.assign(&[tp()], Start::Beginning);
    // A long poll is in flight when the application goes elsewhere.
    assert_eq!(consumer.poll(Duration::from_millis(1)).await.records, []);
    send(&mut producer, "a b c").await;
    producer.settle().await;
    consumer.seek(&tp(), kafka_wire::ids::Offset(2));
    let report = consumer.poll(Duration::from_secs(1)).await;
    let offsets: Vec<i64> = report.records[0].1.iter().map(|(offset, _)| offset.0).collect();
    assert_eq!(offsets, [2], "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn futures_of_the_pipeline_may_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let (_fake, cluster) = Fake::start(TransactionVersion::V2).await;
    let mut producer = transactional(&cluster).await;
    is_send(&producer.dispatch());
    is_send(&producer.commit());
    let membership = fencepost::client::transaction::Membership::outside("g");
    is_send(&producer.send_offsets(&membership, &[]));
    let mut consumer = Consumer::open(&cluster, ConsumerConfig::default()).await.unwrap();
    is_send(&consumer.poll(Duration::ZERO));
    is_send(&consumer.commit(&[], &mut Vec::new()));
    let policy: RetryPolicy = cluster.config().retry;
    is_send(&Arc::new(policy));
}
