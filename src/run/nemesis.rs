//! Faults in time: a seed into what is done to wire and brokers, and when; and the doing of it.
//!
//! A window of faults is drawn, stands for about the interval, and is healed; then it is calm for
//! a while. Faults of the wire are rules of network class only: what a broker then gets wrong, it
//! gets wrong by itself.
//!
//! Never: leaves a fault unhealed; forges a byte.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_wire::ids::NodeId;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::plan::Plan;
use super::target;
use crate::broker::Cluster;
use crate::history::event::EventValue;
use crate::history::recorder::{Moment, Recorder};
use crate::history::{EventType, Function, Process};
use crate::proxy::rule::{Act, Board, Listed, Phase, Rule};
use crate::world::{Chance, Clock};

/// How long healing waits for what was held to go on.
const HEALED_WITHIN: Duration = Duration::from_secs(10);
const HEALED_POLL: Duration = Duration::from_millis(10);

/// The event that tells how often each rule of a plan fired.
pub const RULES_OVER: &str = "rules-over";

/// How the names of drawn rules begin.
const DRAWN: &str = "wire-";
/// How the names of the rules of a cut begin.
const CUT: &str = "cut-";

/// Families of faults of the wire and how often each is drawn.
const FAMILIES: &[(&str, u32)] = &[
    ("late", 10),
    ("held", 2),
    ("slow", 2),
    ("sliced", 1),
    ("cut", 2),
    ("hole", 1),
    ("trickle", 1),
];

/// What may write within a transaction, and how often each is made late. An EndTxn that arrives
/// late is what KAFKA-17754 is about.
const LATE_IN_TRANSACTIONS: &[(&str, u32)] = &[
    ("EndTxn", 3),
    ("EndTxn request.committed=false", 3),
    ("Produce", 2),
    ("AddPartitionsToTxn", 2),
    ("TxnOffsetCommit", 1),
    ("AddOffsetsToTxn", 1),
];
const LATE_WITHOUT: &[(&str, u32)] = &[("Produce", 4), ("OffsetCommit", 1), ("Fetch", 1)];

/// Draws faults of the wire.
#[derive(Debug)]
pub struct Wire {
    chance: ChaCha8Rng,
    transactions: bool,
    request_timeout: Duration,
    /// The families of the mixture at hand.
    families: BTreeSet<&'static str>,
    drawn: u64,
}

impl Wire {
    /// Faults for a plan.
    #[must_use]
    pub fn new(plan: &Plan, chance: &Chance) -> Self {
        Self {
            chance: chance.stream("nemesis wire"),
            transactions: plan.workload.txn,
            request_timeout: Duration::from_millis(plan.client.request_timeout_ms),
            families: FAMILIES.iter().map(|(name, _)| *name).collect(),
            drawn: 0,
        }
    }

    /// Another mixture of families; late requests are always among them.
    pub fn change_mixture(&mut self) {
        self.families = FAMILIES
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| *name == "late" || self.chance.random_bool(0.4))
            .collect();
    }

    /// The rules of the next window.
    pub fn draw(&mut self) -> Vec<Rule> {
        let count = self.chance.random_range(2..=4);
        let mut rules: Vec<Rule> = Vec::new();
        for _ in 0..count {
            let families: Vec<_> =
                FAMILIES.iter().filter(|(name, _)| self.families.contains(name)).copied().collect();
            let text = match weighted(&mut self.chance, &families) {
                "late" => self.late(),
                "held" => self.held(),
                "slow" => self.slow(),
                "sliced" => self.sliced(),
                "cut" => self.cut(),
                "hole" => self.hole(),
                _ => self.trickle(),
            };
            self.drawn += 1;
            let text = format!("{text} name={DRAWN}{}", self.drawn);
            rules.push(text.parse().expect("what is drawn is a rule"));
        }
        rules
    }

    /// The client's side is reset, the client tries again elsewhere, and then the first copy
    /// arrives.
    fn late(&mut self) -> String {
        let what = self.write();
        // From within the next transaction to many transactions later.
        let after = self.between_log(10, 5_000);
        let p = self.probability(0.05, 0.5);
        let times = self.chance.random_range(5..=40);
        let (api, condition) = what.split_once(' ').unwrap_or((what, ""));
        format!(
            "cut {api} request {condition} deliver-after={after}ms probability={p} times={times}"
        )
    }

    /// Held for longer than clients wait: they give up, and it arrives all the same.
    fn held(&mut self) -> String {
        let what = self.write();
        let timeout = self.request_timeout.as_millis() as u64;
        let held = self.chance.random_range(timeout * 5 / 4..=timeout * 5 / 2);
        let times = self.chance.random_range(1..=4);
        let (api, condition) = what.split_once(' ').unwrap_or((what, ""));
        let p = self.probability(0.02, 0.2);
        format!("hold {api} request {condition} for={held}ms probability={p} times={times}")
    }

    fn slow(&mut self) -> String {
        let half = ["request", "response"][usize::from(self.chance.random_bool(0.5))];
        let by = self.between_log(1, 300);
        let jitter = self.between_log(1, 300);
        let p = self.probability(0.01, 0.3);
        format!("delay any {half} by={by}ms jitter={jitter}ms probability={p}")
    }

    fn sliced(&mut self) -> String {
        let sizes: Vec<String> =
            (0..3).map(|_| self.chance.random_range(1..200u32).to_string()).collect();
        format!("slice any request sizes={} pause=1ms probability=0.05 times=50", sizes.join(","))
    }

    /// The answer is lost in the middle: nobody knows what became of the request.
    fn cut(&mut self) -> String {
        let at = self.chance.random_range(0..60);
        let how = ["reset", "close"][usize::from(self.chance.random_bool(0.5))];
        let half = ["request", "response"][usize::from(self.chance.random_bool(0.7))];
        let p = self.probability(0.01, 0.1);
        let times = self.chance.random_range(1..=15);
        format!("cut any {half} how={how} at={at} probability={p} times={times}")
    }

    fn hole(&mut self) -> String {
        let half = ["request", "response", "both"][self.chance.random_range(0..3usize)];
        let timeout = self.request_timeout.as_millis() as u64;
        let lasts = self.chance.random_range(timeout / 4..=timeout * 3 / 2);
        format!("black-hole any {half} for={lasts}ms probability=0.05")
    }

    fn trickle(&mut self) -> String {
        let rate = self.between_log(20_000, 2_000_000);
        let half = ["request", "response"][usize::from(self.chance.random_bool(0.5))];
        format!("throttle any {half} rate={rate} probability=0.1 times=3")
    }

    fn write(&mut self) -> &'static str {
        let table = if self.transactions { LATE_IN_TRANSACTIONS } else { LATE_WITHOUT };
        weighted(&mut self.chance, table)
    }

    /// Every order of magnitude as likely as the next.
    fn between_log(&mut self, least: u64, most: u64) -> u64 {
        let (least, most) = (least as f64, most as f64);
        (least * (most / least).powf(self.chance.random::<f64>())) as u64
    }

    fn probability(&mut self, least: f64, most: f64) -> f64 {
        let p = least * (most / least).powf(self.chance.random::<f64>());
        (p * 1000.0).ceil() / 1000.0
    }
}

fn weighted<'t>(chance: &mut ChaCha8Rng, table: &[(&'t str, u32)]) -> &'t str {
    let sum: u32 = table.iter().map(|(_, weight)| weight).sum();
    let mut left = chance.random_range(0..sum.max(1));
    for (name, weight) in table {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return name,
        }
    }
    table.last().map_or("", |(name, _)| name)
}

/// Does a plan's faults while the main phase lasts.
pub struct Nemesis<'r> {
    plan: &'r Plan,
    chance: Chance,
    clock: Clock,
    recorder: Arc<Recorder>,
    board: Option<Arc<Board>>,
    brokers: &'r dyn Cluster,
    /// Nodes that something is the matter with, and what.
    hurt: Mutex<BTreeMap<NodeId, &'static str>>,
}

impl<'r> Nemesis<'r> {
    /// The faults of a plan, on the rules of a proxy, where there is one, and on brokers.
    #[must_use]
    pub fn new(
        plan: &'r Plan,
        (clock, chance): (Clock, Chance),
        recorder: Arc<Recorder>,
        board: Option<Arc<Board>>,
        brokers: &'r dyn Cluster,
    ) -> Self {
        Self { plan, chance, clock, recorder, board, brokers, hurt: Mutex::default() }
    }

    /// Faults until `limit` is over, each healed.
    pub async fn run(&self, limit: Duration) {
        let end = tokio::time::Instant::now() + limit;
        tokio::join!(self.wire(end), self.processes(end));
    }

    /// Takes every rule away and brings every node back, whatever was under way; says how often
    /// each rule that there still was has fired.
    pub async fn heal_everything(&self) {
        let hurt = std::mem::take(&mut *self.hurt());
        for (node, fault) in hurt {
            self.heal(fault, node).await;
        }
        let Some(board) = &self.board else { return };
        let fired = |listed: &Listed| {
            serde_json::json!({
                "name": listed.rule.name,
                "rule": listed.rule.to_string(),
                "matched": listed.matched,
                "fired": listed.fired,
            })
        };
        let listed = board.list();
        let is_drawn = |name: &str| name.starts_with(DRAWN) || name.starts_with(CUT);
        let given = listed.iter().filter(|listed| !is_drawn(&listed.rule.name));
        let fired: Vec<_> = given.map(fired).collect();
        board.reset();
        settle(board).await;
        self.event(RULES_OVER, serde_json::Value::from(fired).to_string());
    }

    fn hurt(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, &'static str>> {
        self.hurt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wire(&self, end: tokio::time::Instant) {
        let Some(board) = self.board.as_ref().filter(|_| self.plan.nemesis.has("wire")) else {
            return;
        };
        let mut wire = Wire::new(self.plan, &self.chance);
        let mut pace = Pace::new(self.plan, &self.chance, "nemesis wire pace");
        while tokio::time::Instant::now() < end {
            if pace.mixture_is_over() {
                wire.change_mixture();
            }
            let rules = wire.draw();
            let texts: Vec<String> = rules.iter().map(ToString::to_string).collect();
            let text = serde_json::json!(texts).to_string();
            let names: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
            for rule in rules {
                board.add(rule).expect("names of drawn rules are never used again");
            }
            self.event("start-wire", text);
            tokio::time::sleep_until((tokio::time::Instant::now() + pace.fault()).min(end)).await;
            for name in &names {
                board.remove(name);
            }
            settle(board).await;
            self.event("stop-wire", serde_json::json!(names).to_string());
            tokio::time::sleep_until((tokio::time::Instant::now() + pace.calm()).min(end)).await;
        }
    }

    /// Kills, pauses and cuts off brokers, and brings them back.
    async fn processes(&self, end: tokio::time::Instant) {
        let mut faults = vec!["kill", "pause", "cut"];
        faults.retain(|fault| self.plan.nemesis.has(fault));
        if faults.is_empty() {
            return;
        }
        let mut pace = Pace::new(self.plan, &self.chance, "nemesis processes");
        loop {
            tokio::time::sleep_until((tokio::time::Instant::now() + pace.calm()).min(end)).await;
            if tokio::time::Instant::now() >= end {
                return;
            }
            let fault = faults[pace.chance.random_range(0..faults.len())];
            let nodes = self.targets(&mut pace.chance).await;
            let text = numbers(&nodes);
            self.event(fault, text.clone());
            for node in &nodes {
                self.hurt().insert(*node, fault);
                match fault {
                    "kill" => self.failed(fault, self.brokers.kill(*node).await),
                    "pause" => self.failed(fault, self.brokers.pause(*node).await),
                    _ => self.cut(*node),
                }
            }
            tokio::time::sleep_until((tokio::time::Instant::now() + pace.fault()).min(end)).await;
            for node in &nodes {
                self.hurt().remove(node);
                self.heal(fault, *node).await;
            }
        }
    }

    /// Nothing passes between clients and a node. Nodes still reach each other.
    fn cut(&self, node: NodeId) {
        let Some(board) = &self.board else { return };
        let text = format!("black-hole any both broker={node} name={CUT}{node}");
        let rule = text.parse().expect("a cut is a rule");
        board.add(rule).expect("a node that is cut off is not cut off again before it is healed");
    }

    async fn heal(&self, fault: &str, node: NodeId) {
        let (heal, done) = match fault {
            "kill" => ("start", self.brokers.start(node).await),
            "pause" => ("resume", self.brokers.resume(node).await),
            _ => {
                if let Some(board) = &self.board {
                    board.remove(&format!("{CUT}{node}"));
                    settle(board).await;
                }
                ("heal-cut", Ok(()))
            }
        };
        self.event(heal, numbers(&[node]));
        self.failed(heal, done);
    }

    /// The nodes of the next fault.
    async fn targets(&self, chance: &mut ChaCha8Rng) -> Vec<NodeId> {
        let targets = &self.plan.nemesis.targets;
        let target = targets.get(chance.random_range(0..targets.len().max(1)));
        let target = target.map_or("one", String::as_str);
        target::choose(target, self.brokers, &self.clock, chance).await
    }

    fn failed(&self, fault: &str, done: Result<(), crate::broker::BrokerError>) {
        if let Err(error) = done {
            let text = serde_json::json!(error.to_string()).to_string();
            self.event(&format!("{fault}-failed"), text);
        }
    }

    fn event(&self, function: &str, value: String) {
        self.recorder.record(nemesis_event(function, value));
    }
}

fn numbers(nodes: &[NodeId]) -> String {
    let numbers: Vec<i32> = nodes.iter().map(|node| node.0).collect();
    serde_json::json!(numbers).to_string()
}

/// How long faults last and calm is.
struct Pace {
    chance: ChaCha8Rng,
    interval_s: f64,
    stable_period_s: f64,
    since_mixture_s: f64,
}

impl Pace {
    fn new(plan: &Plan, chance: &Chance, name: &str) -> Self {
        Self {
            chance: chance.stream(name),
            interval_s: plan.nemesis.interval_s,
            stable_period_s: plan.nemesis.stable_period_s,
            since_mixture_s: f64::INFINITY,
        }
    }

    fn fault(&mut self) -> Duration {
        self.of(0.5, 1.0)
    }

    fn calm(&mut self) -> Duration {
        self.of(0.05, 0.25)
    }

    fn of(&mut self, least: f64, most: f64) -> Duration {
        let s = self.interval_s * self.chance.random_range(least..most);
        self.since_mixture_s += s;
        Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX)
    }

    fn mixture_is_over(&mut self) -> bool {
        let is_over = self.stable_period_s > 0.0 && self.since_mixture_s >= self.stable_period_s;
        if is_over {
            self.since_mixture_s = 0.0;
        }
        is_over
    }
}

/// Waits until what was held has gone on.
pub async fn settle(board: &Board) {
    let settled = async {
        while board.lasting() > 0 {
            tokio::time::sleep(HEALED_POLL).await;
        }
    };
    // Bytes for a broker that hears nothing may never go on; the run does.
    drop(tokio::time::timeout(HEALED_WITHIN, settled).await);
}

/// An event of the process `nemesis`; the value is JSON text.
#[must_use]
pub fn nemesis_event(function: &str, value: String) -> Moment {
    let process = Process::Named("nemesis".into());
    let function = Function::Other(function.into());
    let moment = Moment::invoke(process, function, EventValue::Json(value));
    Moment { event_type: EventType::Info, ..moment }
}

/// What a rule did, as an event: the action's word, and whose frame it was about.
#[must_use]
pub fn act_event(act: &Act<'_>) -> Moment {
    let fired = act.fired;
    let mut value = serde_json::json!({
        "rule": fired.rule.name,
        "phase": match act.phase { Phase::Began => "began", Phase::Ended => "ended" },
        "api": fired.api_key.to_string(),
        "version": fired.api_version,
        "correlation_id": fired.correlation_id.0,
        "connection": fired.connection.0,
        "broker": fired.broker.0,
    });
    if !act.detail.is_empty() {
        value["detail"] = act.detail.into();
    }
    let action = &fired.rule.action;
    let mut moment = nemesis_event(action.verb(), value.to_string());
    moment.extra.push(("class".into(), format!("{:?}", action.class().name())));
    moment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::rule::{Action, Class};

    fn drawn(seed: u64, txn: bool) -> Vec<Rule> {
        let mut plan = Plan::default();
        plan.workload.txn = txn;
        let mut wire = Wire::new(&plan, &Chance::from_seed(seed));
        let mut rules = Vec::new();
        for round in 0..40 {
            if round % 8 == 7 {
                wire.change_mixture();
            }
            rules.extend(wire.draw());
        }
        rules
    }

    #[test]
    fn every_fault_that_is_drawn_is_one_that_networks_have() {
        for seed in 0..40 {
            for rule in drawn(seed, seed % 4 != 0) {
                assert_eq!(rule.action.class(), Class::Network, "{rule}");
                assert_eq!(rule.to_string().parse(), Ok(rule));
            }
        }
    }

    #[test]
    fn a_seed_draws_the_same_faults_again() {
        assert_eq!(drawn(3, true), drawn(3, true));
        assert_ne!(drawn(3, true), drawn(4, true));
    }

    #[test]
    fn holds_outlast_the_patience_of_clients() {
        let patience = Duration::from_millis(Plan::default().client.request_timeout_ms);
        let holds = drawn(1, true).into_iter().filter_map(|rule| match rule.action {
            Action::Hold { until } => until,
            _ => None,
        });
        let holds: Vec<Duration> = holds.collect();
        assert!(!holds.is_empty() && holds.iter().all(|held| *held > patience));
    }
}
