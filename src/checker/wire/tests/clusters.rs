//! Two brokers that say the same: two clusters, unless something shows that they are one.

use kafka_wire::ApiKey;

use super::scene::*;
use crate::history::facts::{Deed, Topic};

/// Makes both brokers one cluster, in the ways there are.
const WAYS: [fn(&mut Scene); 4] = [
    |scene| scene.exchange(ApiKey::METADATA, 1, metadata(None, &[0, ELSEWHERE])),
    |scene| {
        for connection in [0, ELSEWHERE] {
            let deed = metadata(Some("c"), &[0, ELSEWHERE]);
            scene.on(connection).exchange(ApiKey::METADATA, 9, deed);
        }
        scene.on(0);
    },
    |scene| {
        let deed = Deed::Nodes { cluster_id: None, nodes: nodes(&[ELSEWHERE]) };
        scene.exchange(ApiKey::FIND_COORDINATOR, 4, deed);
    },
    |scene| {
        for connection in [0, ELSEWHERE] {
            let mut fetched = read(Vec::new());
            fetched.topic = Topic::Id([7; 16]);
            scene.on(connection).fetch(fetched);
        }
        scene.on(0);
    },
];

/// What says nothing about two brokers, or that they are of two clusters.
const NO_WAYS: [fn(&mut Scene); 5] = [
    |_| {},
    |scene| {
        // Of two clusters, both made with the id that an image brings.
        for connection in [0, ELSEWHERE] {
            let deed = metadata(Some("c"), &[connection]);
            scene.on(connection).exchange(ApiKey::METADATA, 9, deed);
        }
        scene.on(0);
    },
    |scene| {
        for (connection, id) in [(0, "c"), (ELSEWHERE, "d")] {
            let deed = metadata(Some(id), &[0, ELSEWHERE]);
            scene.on(connection).exchange(ApiKey::METADATA, 9, deed);
        }
        scene.on(0);
    },
    |scene| {
        // The metadata of KRaft has one id everywhere.
        for connection in [0, ELSEWHERE] {
            let mut fetched = read(Vec::new());
            fetched.topic = Topic::Id([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            scene.on(connection).fetch(fetched);
        }
        scene.on(0);
    },
    |scene| scene.exchange(ApiKey::METADATA, 9, metadata(Some("c"), &[0])),
];

fn metadata(cluster_id: Option<&str>, of: &[u64]) -> Deed {
    let cluster_id = cluster_id.map(Into::into);
    Deed::Metadata { cluster_id, nodes: nodes(of), topics: Vec::new() }
}

/// Tells one story with every way to know that both brokers are one cluster, first and last, and
/// with none.
fn told(tell: fn(&mut Scene), first: &[&str], last: &[&str]) {
    for (number, way) in WAYS.iter().enumerate() {
        let mut scene = Scene::new();
        way(&mut scene);
        tell(&mut scene);
        assert_eq!(scene.names(), first, "way {number}, first");
        let mut scene = Scene::new();
        tell(&mut scene);
        way(scene.on(0));
        assert_eq!(scene.names(), last, "way {number}, last");
    }
    for (number, no_way) in NO_WAYS.iter().enumerate() {
        let mut scene = Scene::new();
        no_way(&mut scene);
        tell(&mut scene);
        no_way(scene.on(0));
        assert_eq!(scene.names(), [""; 0], "no way {number}");
    }
}

#[test]
fn both_give_out_the_first_producer_id() {
    let tell = |scene: &mut Scene| {
        scene.on(0).init(P);
        scene.on(ELSEWHERE).init(P);
    };
    told(tell, &["P4-producer-id-reused"], &["P4-producer-id-reused"]);
}

#[test]
fn both_have_other_records_at_one_offset_of_a_topic() {
    let tell = |scene: &mut Scene| {
        scene.on(0).fetch(read(vec![plain((1, 0), 0, 0, 1), plain((1, 0), 1, 1, 1)]));
        scene.on(ELSEWHERE).fetch(read(vec![plain((1, 0), 0, 7, 1), plain((1, 0), 1, 8, 1)]));
    };
    told(tell, &["L9-record-changed"], &["L9-record-changed"]);
}

#[test]
fn one_acknowledges_an_offset_and_the_other_has_another_batch_there() {
    let tell = |scene: &mut Scene| {
        scene.on(0).produce(plain((1, 0), 0, 0, 1), (0, 0));
        scene.on(ELSEWHERE).fetch(read(vec![plain((1, 0), 0, 7, 1)]));
    };
    told(tell, &["P1-ack-not-in-log"], &["P1-ack-not-in-log"]);
}

#[test]
fn one_ends_a_transaction_that_the_other_has_another_marker_for() {
    let tell = |scene: &mut Scene| {
        scene.on(0).init(P);
        scene.on(ELSEWHERE).produce(data(P, 0, 0, 1), (0, 0));
        scene.on(0).end(P, true);
        let mut fetched = read(vec![data(P, 0, 0, 1), marker(P, 1, false)]);
        fetched.aborted = vec![(P.0, 0)];
        scene.on(ELSEWHERE).fetch(fetched);
    };
    let found = ["P5-outcome-not-honoured"];
    told(tell, &found, &found);
}

#[test]
fn one_commits_the_offset_of_a_group_and_the_other_tells_another() {
    let tell = |scene: &mut Scene| {
        for offset in [5, 9] {
            scene.on(0).exchange(
                ApiKey::OFFSET_COMMIT,
                8,
                Deed::OffsetCommit(offsets(1, "m", offset)),
            );
        }
        scene.on(ELSEWHERE).exchange(ApiKey::OFFSET_FETCH, 7, offset_fetched(5, true));
    };
    let found = ["G3-offset-lost", "consumer-offset-regression"];
    told(tell, &found, &found);
}
