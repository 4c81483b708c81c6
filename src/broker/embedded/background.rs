//! What the broker does without being asked: writes markers, ends what takes too long.

use std::sync::Arc;
use std::time::Duration;

use super::bug::Bug;
use super::cluster::Cluster;
use super::log::Marker;
use super::node::Shared;

/// How long after the acknowledgement a broker with a bug keeps what it acknowledged.
const MISCHIEF_EVERY: Duration = Duration::from_millis(100);

/// How often groups with members are looked at.
const GROUP_TICK: Duration = Duration::from_millis(20);

/// Works until its task is dropped.
pub(super) async fn work(shared: Arc<Shared>) {
    let scan_ns = shared.config.transaction_scan_interval_ms.max(1).saturating_mul(1_000_000);
    let mut next_scan = shared.clock.now_ns().saturating_add(scan_ns);
    let mut next_mischief = 0;
    loop {
        if shared.lock().transactions.has_decided() {
            pause_before_markers(&shared).await;
            write_markers(&mut shared.lock(), shared.clock.unix_ms());
        }
        let now = shared.clock.now_ns();
        if now >= next_scan {
            shared.lock().transactions.expire(shared.clock.unix_ms());
            next_scan = now.saturating_add(scan_ns);
            continue;
        }
        let mut until = Duration::from_nanos(next_scan - now);
        if tick_groups(&shared) {
            until = until.min(GROUP_TICK);
        }
        if shared.config.bug.is_some() && now >= next_mischief {
            if shared.lock().make_mischief() {
                until = until.min(MISCHIEF_EVERY);
            }
            next_mischief = now.saturating_add(MISCHIEF_EVERY.as_nanos() as u64);
        }
        tokio::select! {
            () = shared.work.notified() => {}
            () = tokio::time::sleep(until) => {}
        }
    }
}

/// Ends sessions and rebalances whose time is up. Returns whether any are under way.
fn tick_groups(shared: &Shared) -> bool {
    let mut cluster = shared.lock();
    let has_timers = cluster.groups.has_timers();
    if has_timers {
        cluster.groups.tick(shared.clock.unix_ms());
    }
    has_timers
}

/// EndTxn is answered before its markers are written.
async fn pause_before_markers(shared: &Shared) {
    match shared.config.marker_delay_ms {
        0 => tokio::task::yield_now().await,
        delay_ms => tokio::time::sleep(Duration::from_millis(delay_ms)).await,
    }
}

/// Writes the markers of every decided transaction.
pub(super) fn write_markers(cluster: &mut Cluster, now_ms: i64) {
    while let Some((id, ending)) = cluster.transactions.next_decided() {
        let marker = Marker {
            producer_id: ending.producer_id,
            producer_epoch: ending.producer_epoch,
            commit: ending.commit,
            coordinator_epoch: 0,
            timestamp: now_ms,
        };
        // A bug: one of several partitions gets the wrong marker.
        let torn = marker.commit
            && ending.partitions.len() > 1
            && cluster.mischief.rolls(Bug::TornCommit, 4);
        for (nth, &key) in ending.partitions.iter().enumerate() {
            let commit = marker.commit && !(torn && nth == 0);
            if commit && cluster.mischief.rolls(Bug::LoseMarker, 20) {
                if let Some(partition) = cluster.partition_mut(key) {
                    partition.log.end_without_marker(&marker);
                }
                continue;
            }
            cluster.append_marker(key, &Marker { commit, ..marker });
        }
        let keeps_offsets = ending.commit && !cluster.mischief.rolls(Bug::DropTxnOffsets, 4);
        cluster.groups.end_transaction(ending.producer_id, keeps_offsets);
        cluster.transactions.complete(&id, now_ms);
    }
}
