//! Looking at the brokers, and hurting them: waits, faults, reads, and everything at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_wire::ids::NodeId;
use tokio::time::{Instant, sleep};

use super::meaning::Now;
use super::talk::{Stop, Talk};
use super::{OFFSET_FETCH, PAUSE, WAITED_WITHIN};
use crate::broker::Cluster;
use crate::client::Fate;
use crate::client::cluster::TopicPartition;
use crate::client::fetch::IsolationLevel;
use crate::client::offsets::fetch_offsets;
use crate::scenario::conversation::{Stated, Step};
use crate::scenario::progress::{self, Stuck};
use crate::scenario::read::{Whole, read_from, whole};
use crate::scenario::steps::{Deed, Fault, Until};
use crate::scenario::switchboard::{NoWay, Party, Whom};
use crate::scenario::value;

impl Talk<'_, '_> {
    pub(super) async fn wait(&mut self, at: usize, step: &Step, until: &str) -> Result<(), Stop> {
        let until = Until::parse(self.conversation, until)?;
        let deadline = Instant::now() + step.within_ms.map_or(WAITED_WITHIN, Duration::from_millis);
        let began = Instant::now();
        let text = step.wait.clone().unwrap_or_default();
        loop {
            let (is_so, seen) = self.is_so(&until).await?;
            if is_so {
                let ms = began.elapsed().as_millis();
                self.note(Some(at), format!("waits until {text}: {seen}, after {ms} ms"));
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.note(Some(at), format!("waits in vain until {text}: {seen}"));
                let number = at + 1;
                self.held.surprises.push(format!("step {number}: {text} is never so: {seen}"));
                if matches!(until, Until::Ended(_)) && self.open.is_empty() {
                    let s = began.elapsed().as_secs_f64();
                    let why = format!(
                        "Step {number}: the transaction was ended by its client, and {s:.1} s later \
                         its coordinator says {seen}."
                    );
                    self.never.push(Stuck { name: progress::LEFT_OPEN, why });
                }
                return Ok(());
            }
            self.listen();
            sleep(PAUSE).await;
        }
    }

    pub(super) async fn is_so(&mut self, until: &Until) -> Result<(bool, String), Stop> {
        let words = |way: NoWay| way.to_string();
        match until {
            Until::Time(ms) => {
                sleep(Duration::from_millis(*ms)).await;
                Ok((true, "time has passed".into()))
            }
            Until::Moved(party) => {
                let whom = self.party(party, &Step::default())?;
                self.board.forget();
                let (node, _) = self.board.find(&whom).await.map_err(words)?;
                let has_moved = self.last_hurt != Some(node);
                if !has_moved {
                    sleep(Duration::from_millis(50)).await;
                }
                Ok((has_moved, format!("node {node}")))
            }
            Until::Fired(name) => self.has_fired(name).await,
            Until::Says(program, line) => {
                sleep(Duration::from_millis(10)).await;
                self.has_said(program, line)
            }
            Until::Ready => {
                let cluster = self.ground.cluster.ok_or("readiness needs brokers")?;
                let facts = cluster.ready().await.map_err(|error| error.to_string())?;
                self.board.forget();
                Ok((true, facts.to_string()))
            }
            Until::Stable(partition) => {
                let (topic, number) = self.conversation.partition(partition)?;
                let tp = self.ground.partition(topic, number);
                let all = whole(&mut self.board, &tp, IsolationLevel::ReadCommitted).await;
                let all = match all {
                    Err(NoWay::Fate(fate)) => return Ok(self.not_yet(&fate)),
                    all => all.map_err(words)?,
                };
                let seen = format!("{} of {}", all.last_stable_offset, all.high_watermark);
                Ok((all.is_stable(), seen))
            }
            Until::Ended(name) | Until::State(name, _) => {
                let id = self.producers.get(name).and_then(|p| p.transactional_id.clone());
                let id = id.ok_or_else(|| format!("{name} has no transactional id"))?;
                let state = match progress::state(&mut self.board, &id).await {
                    Err(NoWay::Fate(fate)) => return Ok(self.not_yet(&fate)),
                    state => state.map_err(words)?,
                };
                let now = state.unwrap_or_else(|error| error.to_string());
                let is_so = match until {
                    Until::State(_, wanted) => *wanted == now,
                    _ => progress::is_over(&now),
                };
                Ok((is_so, now))
            }
        }
    }

    /// Who leads or coordinates is not reached: a node that died is named for a while.
    fn not_yet(&mut self, fate: &Fate) -> (bool, String) {
        self.board.forget();
        (false, fate.to_string())
    }

    pub(super) async fn fault(&mut self, at: usize, fault: &str) -> Result<(), Stop> {
        let fault = Fault::parse(fault)?;
        let cluster = self.ground.cluster.filter(|cluster| cluster.is_ours());
        let cluster = cluster.ok_or("faults need brokers of our own: --broker")?;
        let whom = match (&fault.party, self.to_be_healed(fault.deed)) {
            (None, Some(node)) => Whom::Node(node.0),
            (party, _) => self.party(party.as_ref().unwrap_or(&Party::Hurt), &Step::default())?,
        };
        let (node, address) = match (&whom, self.last_hurt) {
            (Whom::Node(number), _) => (NodeId(*number), self.address(cluster, *number)),
            _ => self.board.find(&whom).await.map_err(|way| way.to_string())?,
        };
        let (done, what) = match fault.deed {
            Deed::Kill => (cluster.kill(node).await, "killed"),
            Deed::Start => (cluster.start(node).await, "started"),
            Deed::Pause => (cluster.pause(node).await, "paused"),
            Deed::Resume => (cluster.resume(node).await, "resumed"),
        };
        done.map_err(|error| error.to_string())?;
        match fault.deed {
            Deed::Kill | Deed::Pause => self.hurt.push((node, fault.deed)),
            Deed::Start | Deed::Resume => self.hurt.retain(|(hurt, _)| *hurt != node),
        }
        self.last_hurt = Some(node);
        let is_hurt = self.hurt.iter().any(|(hurt, _)| *hurt == node);
        self.board.avoid(&address, is_hurt);
        self.board.forget();
        // Nobody tells the address of a node that does not answer.
        self.board.know(Whom::Node(node.0), (node, address));
        self.note(Some(at), format!("node {node} is {what}"));
        Ok(())
    }

    /// The node that a start or resume is for where nobody says: the last that was killed or paused.
    fn to_be_healed(&self, deed: Deed) -> Option<NodeId> {
        let undone = match deed {
            Deed::Start => Deed::Kill,
            Deed::Resume => Deed::Pause,
            Deed::Kill | Deed::Pause => return None,
        };
        let last = self.hurt.iter().rev().find(|(_, done)| *done == undone);
        last.map(|(node, _)| *node)
    }

    pub(super) fn address(&self, cluster: &dyn Cluster, number: i32) -> String {
        let nodes = cluster.nodes();
        let node = nodes.iter().find(|node| node.node_id.0 == number);
        node.map(ToString::to_string).unwrap_or_default()
    }

    /// Starts and resumes what is still hurt.
    pub(super) async fn heal(&mut self) {
        let Some(cluster) = self.ground.cluster else { return };
        let hurt = std::mem::take(&mut self.hurt);
        for (node, _) in &hurt {
            // One of the two applies; the other is refused.
            drop(cluster.resume(*node).await);
            drop(cluster.start(*node).await);
            let address = self.address(cluster, node.0);
            self.board.avoid(&address, false);
            self.note(None, format!("node {node} is healed"));
        }
        if !hurt.is_empty() {
            drop(cluster.ready().await);
            self.board.forget();
        }
    }

    pub(super) async fn read(
        &mut self,
        at: usize,
        step: &Step,
        partition: &str,
    ) -> Result<(), Stop> {
        let isolation = match step.isolation.as_deref() {
            None | Some("read_committed") => IsolationLevel::ReadCommitted,
            Some("read_uncommitted") => IsolationLevel::ReadUncommitted,
            Some(other) => return Err(format!("isolation {other}")),
        };
        let (topic, number) = self.conversation.partition(partition)?;
        let tp = self.ground.partition(topic, number);
        if let Some(from) = &step.from {
            return self.read_there(at, step, &tp, from).await;
        }
        let all = whole(&mut self.board, &tp, isolation).await.map_err(|way| way.to_string())?;
        if let Some(limits) = &step.max_bytes {
            self.read_everywhere(at, &tp, isolation, (&all, limits)).await?;
        }
        let values = all.values();
        if isolation == IsolationLevel::ReadCommitted {
            self.operations.read(partition, &all.records);
        }
        self.note_read(Some(at), partition, isolation, &all);
        if let Some(expected) = &step.values
            && *expected != values
        {
            let number = at + 1;
            let text = format!("step {number}: {partition} holds {values:?}, not {expected:?}");
            self.held.surprises.push(text);
        }
        Ok(())
    }

    /// Reads what was acknowledged where it was acknowledged.
    pub(super) async fn read_there(
        &mut self,
        at: usize,
        step: &Step,
        tp: &TopicPartition,
        from: &Stated,
    ) -> Result<(), Stop> {
        let meaning = Now { talk: self, step, sequence: None };
        let from = value::stated(Some(from), 0, &meaning)?;
        let everything = IsolationLevel::ReadUncommitted;
        let count = step.values.as_ref().map_or(0, Vec::len);
        let deadline = Instant::now() + step.within_ms.map_or(WAITED_WITHIN, Duration::from_millis);
        let there = loop {
            let there = read_from(&mut self.board, tp, everything, (from, None)).await;
            let there = there.map_err(|way| way.to_string())?;
            // The high watermark of a new leader follows its replicas.
            if there.records.len() >= count || Instant::now() >= deadline {
                break there;
            }
            sleep(PAUSE).await;
        };
        let (number, partition) = (at + 1, step.read.as_deref().unwrap_or_default());
        let expected = (from..).zip(step.values.iter().flatten());
        for (offset, value) in expected {
            let found = there.records.iter().find(|(of, _)| *of == offset);
            let found = found.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
            let said = found.clone().map_or("nothing".to_owned(), |found| format!("{found:?}"));
            self.note(Some(at), format!("{partition} holds {said} at offset {offset}"));
            if found.as_ref() != Some(value) {
                let text = format!(
                    "step {number}: {partition} holds {said} at offset {offset}, where {value:?} \
                     was acknowledged"
                );
                self.held.surprises.push(text);
            }
        }
        Ok(())
    }

    /// Reads from every offset with every limit, and compares what is shown with one read of the
    /// whole.
    pub(super) async fn read_everywhere(
        &mut self,
        at: usize,
        tp: &TopicPartition,
        isolation: IsolationLevel,
        (all, limits): (&Whole, &[i32]),
    ) -> Result<(), Stop> {
        let mut reads = 0;
        for from in 0..=all.last_stable_offset {
            for &bytes_max in limits {
                let from_there = (from, Some(bytes_max));
                let shown = read_from(&mut self.board, tp, isolation, from_there).await;
                let shown = shown.map_err(|way| way.to_string())?.records;
                let expected = all.records.iter().filter(|(offset, _)| *offset >= from);
                reads += 1;
                if !shown.iter().eq(expected) {
                    let offsets: Vec<i64> = shown.iter().map(|(offset, _)| *offset).collect();
                    let number = at + 1;
                    self.held.surprises.push(format!(
                        "step {number}: read from offset {from} with {bytes_max} bytes shows \
                         offsets {offsets:?}, not what one read of the whole shows"
                    ));
                }
            }
        }
        self.note(
            Some(at),
            format!("{reads} reads, from each offset with each of {limits:?} bytes"),
        );
        Ok(())
    }

    pub(super) fn note_read(
        &mut self,
        at: Option<usize>,
        partition: &str,
        isolation: IsolationLevel,
        all: &Whole,
    ) {
        let records: Vec<String> = all
            .records
            .iter()
            .map(|(offset, value)| format!("{}@{offset}", String::from_utf8_lossy(value)))
            .collect();
        let level = match isolation {
            IsolationLevel::ReadCommitted => "read_committed",
            IsolationLevel::ReadUncommitted => "read_uncommitted",
        };
        self.note(
            at,
            format!(
                "{partition} {level}: [{}], stable {} of {}",
                records.join(" "),
                all.last_stable_offset,
                all.high_watermark
            ),
        );
    }

    /// Asks whether everything goes on, and reads everything back.
    pub(super) async fn look_back(&mut self) -> Result<(), NoWay> {
        let left_open: BTreeSet<String> = self.open.values().cloned().collect();
        self.held.stuck =
            progress::judge(&mut self.board, self.conversation, self.ground, &left_open).await?;
        for isolation in [IsolationLevel::ReadCommitted, IsolationLevel::ReadUncommitted] {
            for (name, topic, number) in self.conversation.partitions() {
                let tp = self.ground.partition(&topic, number);
                let all = whole(&mut self.board, &tp, isolation).await?;
                if isolation == IsolationLevel::ReadCommitted {
                    self.operations.read(&name, &all.records);
                }
                self.note_read(None, &name, isolation, &all);
            }
        }
        for (group, partition) in self.operations.groups() {
            self.look_at_offset(&group, &partition).await?;
        }
        Ok(())
    }

    pub(super) async fn look_at_offset(
        &mut self,
        group: &str,
        partition: &str,
    ) -> Result<(), NoWay> {
        let Ok((topic, number)) = self.conversation.partition(partition) else { return Ok(()) };
        let (tp, id) = (self.ground.partition(topic, number), self.ground.names.of(group));
        let deadline = Instant::now() + WAITED_WITHIN;
        let whom = Whom::Group(id.clone());
        let at = loop {
            let (_, address) = self.board.find(&whom).await?;
            let connection = self.board.connection("reader", &address).await?;
            let wanted = [tp.clone()];
            let answer = fetch_offsets(&connection, OFFSET_FETCH, &id, true, &wanted).await?;
            let answer = answer.and_then(|all| all.get(&tp).copied().unwrap_or(Ok((-1).into())));
            match answer {
                Ok(offset) => break Ok(offset.0),
                Err(error) if Instant::now() >= deadline => break Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        };
        let (may, must_not) = self.operations.offsets(group, partition);
        let (name, said) = match at {
            Err(error) => ("P8-offsets-not-atomic", format!("cannot be fetched: {error}")),
            Ok(at) => {
                self.note(None, format!("group {group} is at {at} in {partition}"));
                if may.contains(&at) {
                    return Ok(());
                }
                match must_not.contains(&at) {
                    true => ("P8-offsets-not-atomic", format!("{at}, of an aborted transaction")),
                    false => ("G3-offset-lost", at.to_string()),
                }
            }
        };
        let why = format!(
            "The offset of group {group} in {partition} is {said}. By what its clients were told \
             it is {may:?}."
        );
        self.held.offsets.push(Stuck { name, why });
        Ok(())
    }
}
