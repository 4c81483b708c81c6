//! The pipeline against a real broker, where `FENCEPOST_LIVE` is set and `FENCEPOST_BOOTSTRAP`
//! names its addresses.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods, reason = "tests")]
#![allow(clippy::cloned_ref_to_slice_refs, reason = "one partition reads as a list of one")]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fencepost::client::cluster::TopicPartition;
use fencepost::client::fetch::IsolationLevel;
use fencepost::client::transaction::Membership;
use fencepost::client::versions::TransactionVersion;
use fencepost::client::{Conduct, Tcp};
use fencepost::history::outcome::Outcome;
use fencepost::history::tap::NoTap;
use fencepost::pipeline::group::Assignor;
use fencepost::pipeline::{
    Cluster, ClusterConfig, Consumer, ConsumerConfig, GroupConfig, GroupProtocol, Producer,
    ProducerConfig, Record, RetryPolicy, SendId, Start,
};
use fencepost::world::Clock;
use kafka_wire::ApiKey;
use kafka_wire::batch::Compression;
use kafka_wire::ids::Offset;

const V1: TransactionVersion = TransactionVersion::V1;
const V2: TransactionVersion = TransactionVersion::V2;

/// The cluster under test; absent where live tests are off.
async fn cluster() -> Option<Cluster> {
    std::env::var_os("FENCEPOST_LIVE")?;
    let bootstrap = std::env::var("FENCEPOST_BOOTSTRAP").ok()?;
    let origin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let begun = Instant::now();
    let clock = Clock::new(origin, move || begun.elapsed().as_nanos() as u64);
    let conduct = Conduct::new(Arc::new(Tcp::default()), Arc::new(NoTap), clock);
    let config = ClusterConfig {
        bootstrap: bootstrap.split(',').map(str::to_owned).collect(),
        conduct,
        retry: RetryPolicy::default(),
        partitions: 2,
        replication_factor: -1,
        force_transaction_version: None,
    };
    Some(Cluster::connect(config).await.expect("a broker answers"))
}

/// A name nobody used before.
fn unique(what: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{what}-{now:x}")
}

async fn topic(cluster: &Cluster) -> Arc<str> {
    let topic: Arc<str> = unique("live").into();
    cluster.ensure_topic(&topic, &mut Vec::new()).await.expect("the topic is made");
    topic
}

fn tp(topic: &Arc<str>, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.clone(), partition }
}

fn transactional(version: TransactionVersion) -> ProducerConfig {
    ProducerConfig {
        transactional_id: Some(unique("txn")),
        transaction_version: Some(version),
        ..ProducerConfig::default()
    }
}

/// Reads until `count` records have come or nothing comes for a while.
async fn read_all(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    isolation: IsolationLevel,
    count: usize,
) -> Vec<(i32, i64, String)> {
    let config = ConsumerConfig { isolation, ..ConsumerConfig::default() };
    let mut consumer = Consumer::open(cluster, config).await.unwrap();
    consumer.assign(partitions, Start::Beginning);
    let mut all = Vec::new();
    let mut silent = 0;
    while all.len() < count && silent < 10 {
        let report = consumer.poll(Duration::from_millis(300)).await;
        assert_eq!(report.error, None, "{:?}", report.attempts);
        silent = if report.records.is_empty() { silent + 1 } else { 0 };
        for (tp, records) in report.records {
            all.extend(records.into_iter().map(|(offset, value)| {
                let value = String::from_utf8(value.unwrap().to_vec()).unwrap();
                (tp.partition, offset.0, value)
            }));
        }
    }
    // Whatever else there is must not be there.
    let report = consumer.poll(Duration::ZERO).await;
    assert!(report.records.is_empty(), "more than expected: {report:?}");
    all
}

fn values(read: &[(i32, i64, String)], partition: i32) -> String {
    let of = read.iter().filter(|(p, ..)| *p == partition);
    of.map(|(.., value)| value.as_str()).collect::<Vec<_>>().join(" ")
}

/// Sends each value to the partition and settles; all must be ok.
async fn send(producer: &mut Producer, tp: &TopicPartition, values: &str) -> Vec<SendId> {
    let mut ids = Vec::new();
    for value in values.split_whitespace() {
        ids.push(producer.send(tp.clone(), Record::of(value.as_bytes().to_vec())));
        producer.dispatch().await;
    }
    producer.settle().await;
    for id in &ids {
        assert_eq!(producer.report(*id).outcome, Outcome::Ok, "{:?}", producer.report(*id));
    }
    ids
}

#[tokio::test]
async fn many_requests_in_flight_keep_their_order_and_their_offsets() {
    let Some(cluster) = cluster().await else { return };
    for compression in [Compression::None, Compression::Zstd, Compression::Lz4] {
        let topic = topic(&cluster).await;
        let config = ProducerConfig { compression, ..ProducerConfig::default() };
        let mut producer = Producer::open(&cluster, config).await.unwrap();
        let mut sent = Vec::new();
        for i in 0..400 {
            let to = tp(&topic, i % 2);
            let id = producer.send(to, Record::of(i.to_string().into_bytes()));
            producer.dispatch().await;
            sent.push((i, id));
        }
        producer.settle().await;
        let read =
            read_all(&cluster, &[tp(&topic, 0), tp(&topic, 1)], IsolationLevel::ReadCommitted, 400)
                .await;
        for (i, id) in sent {
            let report = producer.report(id);
            // A topic just made may have a leader that does not know it yet: tried again.
            assert_eq!(report.outcome, Outcome::Ok, "{report:?}");
            let at = (i % 2, report.offset.unwrap().0, i.to_string());
            assert!(read.contains(&at), "{at:?}");
        }
        for partition in 0..2 {
            let read = values(&read, partition);
            let expected = (0..400).filter(|i| i % 2 == partition).map(|i| i.to_string());
            assert_eq!(read, expected.collect::<Vec<_>>().join(" "));
        }
        assert_eq!(producer.take_notes(), []);
    }
}

#[tokio::test]
async fn read_committed_shows_committed_transactions_and_no_aborted_one() {
    let Some(cluster) = cluster().await else { return };
    let versions = match cluster.transaction_version() {
        V1 => vec![V1],
        V2 => vec![V2, V1],
    };
    for version in versions {
        let topic = topic(&cluster).await;
        let (p0, p1) = (tp(&topic, 0), tp(&topic, 1));
        let mut producer = Producer::open(&cluster, transactional(version)).await.unwrap();
        for (round, commit) in [true, false, true, false, false, true].into_iter().enumerate() {
            producer.begin().unwrap();
            send(&mut producer, &p0, &format!("a{round} b{round}")).await;
            send(&mut producer, &p1, &format!("c{round}")).await;
            let report = if commit { producer.commit().await } else { producer.abort().await };
            assert_eq!(report.error, None, "{version:?} {:?}", report.attempts);
            assert_eq!(report.outcome, if commit { Outcome::Ok } else { Outcome::Fail });
            assert!(!report.must_abort && !report.must_close);
        }
        // A transaction nobody wrote in costs nothing.
        producer.begin().unwrap();
        let report = producer.commit().await;
        assert_eq!((report.outcome, report.attempts.len()), (Outcome::Ok, 0));
        assert_eq!(producer.take_notes(), []);

        let both = [p0, p1];
        let committed = read_all(&cluster, &both, IsolationLevel::ReadCommitted, 9).await;
        assert_eq!(values(&committed, 0), "a0 b0 a2 b2 a5 b5", "{version:?}");
        assert_eq!(values(&committed, 1), "c0 c2 c5", "{version:?}");
        let all = read_all(&cluster, &both, IsolationLevel::ReadUncommitted, 18).await;
        assert_eq!(values(&all, 1), "c0 c1 c2 c3 c4 c5", "{version:?}");
        eprintln!("{version:?} topic {topic}");
    }
}

#[tokio::test]
async fn offsets_of_a_transaction_are_committed_with_it_or_not_at_all() {
    let Some(cluster) = cluster().await else { return };
    let versions = match cluster.transaction_version() {
        V1 => vec![V1],
        V2 => vec![V2, V1],
    };
    for version in versions {
        let topic = topic(&cluster).await;
        let p0 = tp(&topic, 0);
        let group_id = unique("group");
        let config =
            ConsumerConfig { group_id: Some(group_id.clone()), ..ConsumerConfig::default() };
        let mut consumer = Consumer::open(&cluster, config).await.unwrap();
        let mut producer = Producer::open(&cluster, transactional(version)).await.unwrap();
        let membership = Membership::outside(&group_id);
        let mut seen = Vec::new();
        for (offset, commit) in [(3, true), (9, false), (5, true), (11, false)] {
            producer.begin().unwrap();
            send(&mut producer, &p0, "x").await;
            let offsets = [(p0.clone(), Offset(offset))];
            let report = producer.send_offsets(&membership, &offsets).await;
            assert_eq!(report.error, None, "{version:?} {:?}", report.attempts);
            let report = if commit { producer.commit().await } else { producer.abort().await };
            assert_eq!(report.error, None, "{version:?} {:?}", report.attempts);
            let committed = consumer.committed(&[p0.clone()], &mut Vec::new()).await.unwrap();
            seen.push(committed[&p0].unwrap().0);
        }
        assert_eq!(seen, [3, 3, 5, 5], "{version:?}");
        // A consumer without a position begins at what is committed.
        let mut attempts = Vec::new();
        consumer.commit(&[(p0.clone(), Offset(2))], &mut attempts).await.unwrap();
        consumer.assign(&[p0.clone()], Start::Committed);
        let report = consumer.poll(Duration::from_secs(2)).await;
        assert_eq!(report.records[0].1[0].0, Offset(4), "{report:?}");
    }
}

#[tokio::test]
async fn a_fenced_producer_must_close_and_its_transaction_is_not_said_to_have_happened() {
    let Some(cluster) = cluster().await else { return };
    let topic = topic(&cluster).await;
    let config = transactional(cluster.transaction_version());
    let mut old = Producer::open(&cluster, config.clone()).await.unwrap();
    old.begin().unwrap();
    send(&mut old, &tp(&topic, 0), "old").await;
    let mut new = Producer::open(&cluster, config).await.unwrap();
    assert!(new.state().producer_epoch > old.state().producer_epoch);
    let report = old.commit().await;
    assert!(report.must_close && report.error.is_some());
    assert_eq!(report.outcome, Outcome::Info, "a commit left and no abort was acknowledged");
    assert!(old.begin().is_err());
    new.begin().unwrap();
    send(&mut new, &tp(&topic, 0), "new").await;
    assert_eq!(new.commit().await.outcome, Outcome::Ok);
    let level = IsolationLevel::ReadCommitted;
    let read = read_all(&cluster, &[tp(&topic, 0), tp(&topic, 1)], level, 1).await;
    assert_eq!(values(&read, 0), "new");
}

#[tokio::test]
async fn a_write_of_a_fenced_producer_fails_and_closes_it() {
    let Some(cluster) = cluster().await else { return };
    let topic = topic(&cluster).await;
    let config = transactional(cluster.transaction_version());
    let mut old = Producer::open(&cluster, config.clone()).await.unwrap();
    let _new = Producer::open(&cluster, config).await.unwrap();
    old.begin().unwrap();
    let id = old.send(tp(&topic, 0), Record::of("late".as_bytes().to_vec()));
    old.settle().await;
    let report = old.report(id);
    assert_eq!(report.outcome, Outcome::Fail, "{report:?}");
    let report = old.abort().await;
    assert_eq!(report.outcome, Outcome::Fail);
    assert!(report.must_close, "{report:?}");
}

#[tokio::test]
async fn an_offset_out_of_range_is_reset_by_the_stated_policy() {
    let Some(cluster) = cluster().await else { return };
    let topic = topic(&cluster).await;
    let p0 = tp(&topic, 0);
    let mut producer = Producer::open(&cluster, ProducerConfig::default()).await.unwrap();
    send(&mut producer, &p0, "a b c").await;
    let mut consumer = Consumer::open(&cluster, ConsumerConfig::default()).await.unwrap();
    consumer.assign(&[p0.clone()], Start::Beginning);
    consumer.seek(&p0, Offset(100));
    let report = consumer.poll(Duration::from_secs(2)).await;
    assert_eq!(report.records[0].1.len(), 3, "{report:?}");
    assert!(report.noted.iter().any(|note| note.contains("out of range")), "{report:?}");
    assert_eq!(consumer.position(&p0), Some(Offset(3)));
    let ends = consumer.end_offsets(&[p0.clone()], &mut Vec::new()).await.unwrap();
    assert_eq!(ends[&p0], Ok(Offset(3)));
}

#[tokio::test]
async fn a_topic_that_does_not_exist_brings_nothing() {
    let Some(cluster) = cluster().await else { return };
    let mut consumer = Consumer::open(&cluster, ConsumerConfig::default()).await.unwrap();
    consumer.assign(&[tp(&unique("none").into(), 0)], Start::Committed);
    let report = consumer.poll(Duration::from_millis(50)).await;
    assert!(report.records.is_empty() && report.error.is_none(), "{report:?}");
}

/// Polls both until each has one of the two partitions, or the first has both; values as they
/// come, each once if positions are committed before partitions change hands.
async fn poll_both(a: &mut Consumer, b: &mut Consumer, shares: (usize, usize)) -> Vec<String> {
    let mut values = Vec::new();
    for _ in 0..200 {
        let wait = Duration::from_millis(50);
        let (from_a, from_b) = tokio::join!(a.poll(wait), b.poll(wait));
        for report in [from_a, from_b] {
            let records = report.records.into_iter().flat_map(|(_, records)| records);
            values.extend(records.map(|(_, v)| String::from_utf8(v.unwrap().to_vec()).unwrap()));
        }
        let mut attempts = Vec::new();
        // A generation that has just ended refuses; what was read is then read again.
        drop(a.commit_positions(&mut attempts).await);
        drop(b.commit_positions(&mut attempts).await);
        if (a.assignment().len(), b.assignment().len()) == shares {
            return values;
        }
    }
    let last = a.poll(Duration::ZERO).await;
    panic!("shares are {:?} {:?}: {last:?}", a.assignment(), b.assignment());
}

async fn two_members_share_and_one_takes_over(protocol: GroupProtocol, assignor: Assignor) {
    let Some(cluster) = cluster().await else { return };
    let served = |api| cluster.versions(None).unwrap().choose(api, V2).is_some();
    if protocol == GroupProtocol::Consumer && !served(ApiKey::CONSUMER_GROUP_HEARTBEAT) {
        return;
    }
    if protocol == GroupProtocol::Consumer && cluster.transaction_version() == V1 {
        // 3.9 serves KIP-848 only where it is switched on.
        return;
    }
    let topic = topic(&cluster).await;
    let mut producer = Producer::open(&cluster, ProducerConfig::default()).await.unwrap();
    for i in 0..20 {
        send(&mut producer, &tp(&topic, i % 2), &i.to_string()).await;
    }
    let config = ConsumerConfig {
        group_id: Some(unique("group")),
        group: GroupConfig { protocol, assignor, ..GroupConfig::default() },
        ..ConsumerConfig::default()
    };
    let mut a = Consumer::open(&cluster, config.clone()).await.unwrap();
    let mut b = Consumer::open(&cluster, config).await.unwrap();
    a.subscribe(&[topic.clone()]).unwrap();
    let mut values = poll_both(&mut a, &mut b, (2, 0)).await;
    b.subscribe(&[topic.clone()]).unwrap();
    values.extend(poll_both(&mut a, &mut b, (1, 1)).await);
    assert_ne!(a.assignment(), b.assignment());
    for i in 20..40 {
        send(&mut producer, &tp(&topic, i % 2), &i.to_string()).await;
    }
    for _ in 0..5 {
        values.extend(poll_both(&mut a, &mut b, (1, 1)).await);
    }
    b.unsubscribe(&mut Vec::new()).await.unwrap();
    values.extend(poll_both(&mut a, &mut b, (2, 0)).await);
    let mut numbers: Vec<i32> = values.iter().map(|v| v.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "each once");
    let kinds = |consumer: &mut Consumer| {
        let log = consumer.take_rebalance_log();
        log.iter().map(|r| format!("{}{}", r.kind.name(), r.partitions.len())).collect::<Vec<_>>()
    };
    let log_a = kinds(&mut a);
    let log_b = kinds(&mut b);
    eprintln!("{protocol:?} {assignor:?} a {log_a:?} b {log_b:?}");
    assert!(log_a.starts_with(&["assigned2".to_owned()]), "{log_a:?}");
    assert!(log_b.contains(&"assigned1".to_owned()), "{log_b:?}");
    assert!(!log_a.iter().chain(&log_b).any(|entry| entry.starts_with("lost")));
    // Offsets within a transaction carry the member's generation; a stale one is refused.
    let mut producer =
        Producer::open(&cluster, transactional(cluster.transaction_version())).await.unwrap();
    let membership = a.membership().unwrap();
    let offsets = [(tp(&topic, 0), Offset(20))];
    producer.begin().unwrap();
    let report = producer.send_offsets(&membership, &offsets).await;
    assert_eq!(report.error, None, "{membership:?} {report:?}");
    assert_eq!(producer.commit().await.outcome, Outcome::Ok);
    let mut stale = membership;
    match protocol {
        GroupProtocol::Classic => stale.generation_id.0 -= 1,
        // Kafka 4.3 takes an older member epoch for a partition the member has kept since then.
        GroupProtocol::Consumer => stale.member_id = "nobody".to_owned(),
    }
    producer.begin().unwrap();
    let report = producer.send_offsets(&stale, &offsets).await;
    assert!(report.must_abort && report.error.is_some(), "{report:?}");
    assert_eq!(producer.abort().await.outcome, Outcome::Fail);
    a.unsubscribe(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn two_members_of_a_classic_group_share_and_one_takes_over() {
    two_members_share_and_one_takes_over(GroupProtocol::Classic, Assignor::Range).await;
    two_members_share_and_one_takes_over(GroupProtocol::Classic, Assignor::Sticky).await;
}

#[tokio::test]
async fn two_members_of_a_kip_848_group_share_and_one_takes_over() {
    two_members_share_and_one_takes_over(GroupProtocol::Consumer, Assignor::Range).await;
}

#[tokio::test]
async fn a_static_member_that_comes_back_keeps_its_place() {
    let Some(cluster) = cluster().await else { return };
    let topic = topic(&cluster).await;
    let config = ConsumerConfig {
        group_id: Some(unique("group")),
        group: GroupConfig { group_instance_id: Some("one".to_owned()), ..GroupConfig::default() },
        ..ConsumerConfig::default()
    };
    let mut generations = Vec::new();
    for _ in 0..2 {
        let mut consumer = Consumer::open(&cluster, config.clone()).await.unwrap();
        consumer.subscribe(&[topic.clone()]).unwrap();
        for _ in 0..50 {
            consumer.poll(Duration::from_millis(100)).await;
            if consumer.assignment().len() == 2 {
                break;
            }
        }
        assert_eq!(consumer.assignment().len(), 2);
        generations.push(consumer.membership().unwrap().generation_id.0);
        // Dropped without a word: the group keeps its place for the session timeout.
    }
    assert_eq!(generations[0], generations[1], "no rebalance was needed");
}
