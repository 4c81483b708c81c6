//! A thousand connections with ten requests each in flight to one broker, over real sockets:
//! nothing is lost, every answer is paired with its request.

use std::sync::Arc;

use fencepost::broker::embedded::{Config, Embedded};
use fencepost::client::cluster::{Metadata, TopicPartition};
use fencepost::client::connection::{Conduct, Connection};
use fencepost::client::fetch::IsolationLevel;
use fencepost::client::offsets::{At, list_offsets};
use fencepost::client::{Tcp, admin};
use fencepost::history::tap::NoTap;
use fencepost::run::clock;
use fencepost::world::Chance;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 1000;
const REQUESTS_EACH: i32 = 10;

#[tokio::test]
async fn ten_thousand_requests_in_flight_are_all_answered_and_paired() {
    let clock = clock::real();
    let broker = Embedded::start(Config::default(), clock.clone(), Chance::from_seed(1))
        .await
        .expect("the broker starts");
    let conduct = Conduct::new(Arc::new(Tcp::default()), Arc::new(NoTap), clock);
    let address = broker.bootstrap_servers();
    let first = Connection::open(&conduct, &address).await.expect("it listens");
    let topic = admin::NewTopic { name: "t", partitions: REQUESTS_EACH, replication_factor: -1 };
    admin::create_topics(&first, 7, &[topic], 1000).await.expect("the topic is made");
    Metadata::ask(&first, 12, None).await.expect("the topic is there");

    let mut opening = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (conduct, address) = (conduct.clone(), address.clone());
        opening.spawn(async move { Connection::open(&conduct, &address).await });
    }
    let mut connections = Vec::with_capacity(CONNECTIONS);
    while let Some(opened) = opening.join_next().await {
        connections.push(Arc::new(opened.expect("no panic").expect("a connection")));
    }

    // Each request asks about another partition: an answer that went astray names the wrong one.
    let mut asking = JoinSet::new();
    for connection in &connections {
        for partition in 0..REQUESTS_EACH {
            let connection = connection.clone();
            asking.spawn(async move {
                let asked = [TopicPartition { topic: "t".into(), partition }];
                let level = IsolationLevel::ReadUncommitted;
                let answer = list_offsets(&connection, 7, level, At::Latest, &asked).await;
                answer.expect("an answer").contains_key(&asked[0])
            });
        }
    }
    let mut paired = 0;
    while let Some(answer) = asking.join_next().await {
        assert!(answer.expect("no panic"), "an answer was for another request");
        paired += 1;
    }
    assert_eq!(paired, CONNECTIONS * REQUESTS_EACH as usize);
    assert!(connections.iter().all(|connection| connection.is_alive()));
}
