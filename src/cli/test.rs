//! `fencepost test`: arguments to a plan, and the plan to a run.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgAction, Args};

use super::tls::BrokerTlsArguments;
use super::{Exit, Manner, OutputFormat, Usage, print, say};
use crate::broker::Facts;
use crate::broker::embedded::Bug;
use crate::history::recorder::Tallies;
use crate::proxy::Endpoint;
use crate::report::text;
use crate::run::story::Watch;
use crate::run::target::TARGETS;
use crate::run::{self, Plan, properties};
use crate::workload::{Stop, SubVia};
use crate::world::Chance;

/// What was typed; absent means the plan's own value.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fencepost test --time-limit 10\n  \
    fencepost test --broker kafka --broker-version 3.9.1 --time-limit 10\n  \
    fencepost test --bootstrap-server 127.0.0.1:9092 --no-txn\n  \
    fencepost test --plan store/latest/plan.toml\n\n\
    Durations of --…-limit and --…-interval are in seconds.")]
pub(crate) struct TestArguments {
    /// The system under test: embedded, kafka.
    #[arg(long, value_name = "NAME")]
    broker: Option<String>,
    /// Its version, such as 4.3.0 or 3.9.1.
    #[arg(long, value_name = "V")]
    broker_version: Option<String>,
    /// How many nodes.
    #[arg(long, value_name = "N")]
    nodes: Option<u16>,
    /// A cluster that already runs.
    #[arg(long, value_name = "HOST:PORT,...", conflicts_with = "broker")]
    bootstrap_server: Option<String>,
    #[command(flatten)]
    broker_tls: BrokerTlsArguments,
    /// A property of the brokers; transaction.version=1|2 holds for embedded and kafka.
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append)]
    broker_property: Vec<String>,
    /// An unpacked Kafka release to run instead of Maven's jars.
    #[arg(long, value_name = "DIR")]
    kafka_home: Option<PathBuf>,
    /// Where the embedded broker keeps its journal, replayed at its next start.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A bug planted in the embedded broker; `list` names them.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,

    /// A rule of the proxy between workload and brokers, such as
    /// 'delay EndTxn request by=50ms'; docs/RULES.md has them all.
    #[arg(long, value_name = "TEXT", action = ArgAction::Append)]
    rule: Vec<String>,
    /// A TOML file of rules.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Where the rules of that proxy can be listed, added, removed and released over HTTP while
    /// the main phase lasts, such as 127.0.0.1:8474.
    #[arg(long, value_name = "HOST:PORT")]
    control: Option<Endpoint>,
    /// Faults in time, each healed: wire (a proxy holds, delays, slows and cuts what it draws from
    /// the seed, as networks do), cut (nothing passes between clients and a broker), kill, pause
    /// (brokers), none, all.
    #[arg(long, value_name = "FAULT,...", value_delimiter = ',')]
    nemesis: Vec<String>,
    /// Seconds from one fault to the next, about.
    #[arg(long, value_name = "S")]
    nemesis_interval: Option<f64>,
    /// Seconds after which another mixture of faults is drawn; 0 keeps all all the time.
    #[arg(long, value_name = "S")]
    nemesis_stable_period: Option<f64>,
    /// Nodes that are killed, paused or cut off: one, majority, all, leader (of a partition drawn
    /// by chance), coordinator (of transactions or groups); drawn anew each time.
    #[arg(long, value_name = "WHO,...", value_delimiter = ',')]
    nemesis_target: Vec<String>,

    /// What is done.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Where all chance comes from; printed, and replayable.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A plan.toml of an earlier run; other flags change it.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Where run folders go.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// How many runs, each with the next seed; the first that is not valid ends them.
    #[arg(long, value_name = "N", default_value_t = 1)]
    test_count: u32,

    /// Seconds of the main phase.
    #[arg(long, value_name = "S")]
    time_limit: Option<f64>,
    /// Seconds the final polls may take.
    #[arg(long, value_name = "S")]
    final_time_limit: Option<f64>,
    /// Processes at a time; 3n is three a node.
    #[arg(long, value_name = "N|Nn")]
    concurrency: Option<String>,
    /// Operations a second over all processes; 0 is as fast as answers come.
    #[arg(long, short, value_name = "HZ")]
    rate: Option<f64>,
    /// Operations are transactions.
    #[arg(long, overrides_with = "no_txn")]
    txn: bool,
    /// They are not.
    #[arg(long, overrides_with = "txn")]
    no_txn: bool,
    /// Chance of an intended abort at each point of a transaction.
    #[arg(long, value_name = "P")]
    abort_p: Option<f64>,
    /// Chance that an operation is replaced by an assign or subscribe.
    #[arg(long, value_name = "P")]
    sub_p: Option<f64>,
    /// Ways to bind a consumer: assign, subscribe.
    #[arg(long, value_name = "WAY,...")]
    sub_via: Option<String>,
    /// Values sent to one key before another takes its place.
    #[arg(long, value_name = "N")]
    max_writes_per_key: Option<u32>,
    /// Processes crash on purpose.
    #[arg(long)]
    crash_clients: bool,
    /// Seconds between the crashes of one process.
    #[arg(long, value_name = "S")]
    crash_client_interval: Option<f64>,
    /// A crashed process' transactional id is taken by its successor, and only then does the old
    /// client send what it held.
    #[arg(long)]
    zombies: bool,
    /// Milliseconds a poll of the main phase waits for records.
    #[arg(long, value_name = "MS")]
    poll_wait: Option<u64>,
    /// Each send waits for its own acknowledgement, as Jepsen's client does.
    #[arg(long)]
    one_in_flight: bool,

    /// acks=all, earliest, no auto-commit, idempotence, read_committed, assign (the default).
    #[arg(long, short)]
    safe: bool,
    /// Who must acknowledge a write: all, 1, 0.
    #[arg(long, value_name = "V")]
    acks: Option<String>,
    /// Attempts after the first; without it, until the delivery timeout.
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// Batches carry sequences.
    #[arg(long, overrides_with = "no_idempotence")]
    idempotence: bool,
    /// They do not.
    #[arg(long, overrides_with = "idempotence")]
    no_idempotence: bool,
    /// read_committed or read_uncommitted.
    #[arg(long, value_name = "LEVEL")]
    isolation_level: Option<String>,
    /// Where a consumer without a committed offset begins: earliest, latest, none.
    #[arg(long, value_name = "V")]
    auto_offset_reset: Option<String>,
    /// Consumers commit on their own.
    #[arg(long, overrides_with = "disable_auto_commit")]
    enable_auto_commit: bool,
    /// They do not.
    #[arg(long, overrides_with = "enable_auto_commit")]
    disable_auto_commit: bool,
    /// A client property under Kafka's name; `list` and `dump` show them.
    #[arg(short = 'X', value_name = "KEY=VALUE", action = ArgAction::Append)]
    properties: Vec<String>,
    /// A .properties file of client properties.
    #[arg(long, short = 'F', value_name = "FILE")]
    command_config: Option<PathBuf>,
    /// Speak as a client of transaction version 1, whatever the broker has.
    #[arg(long)]
    old_style: bool,

    /// Infer write-write edges from offsets (the default).
    #[arg(long, overrides_with = "no_ww_deps")]
    ww_deps: bool,
    /// Do not.
    #[arg(long, overrides_with = "ww_deps")]
    no_ww_deps: bool,
    /// Anomalies that are reported and not bad.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    ignore_queue_errors: Vec<String>,
    /// Cases shown of each anomaly; 0 is all.
    #[arg(long, value_name = "N")]
    anomalies_max: Option<usize>,
    /// What is recorded of the wire: own, off; tcpdump runs beside our own and is judged in its
    /// place.
    #[arg(long, value_name = "HOW")]
    capture: Option<String>,
    /// Bytes of one capture file before the next begins.
    #[arg(long, value_name = "N")]
    capture_bytes_max: Option<u64>,
}

impl TestArguments {
    /// What was typed, made what it means.
    fn plan(&self) -> anyhow::Result<Plan> {
        let mut plan = match &self.plan {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Plan::from_toml(&text)
                    .map_err(|error| Usage(format!("{}: {error}", path.display())))?
            }
            None => Plan { seed: run::clock::fresh_seed(), ..Plan::default() },
        };
        self.broker_part(&mut plan)?;
        self.client_part(&mut plan)?;
        self.workload_part(&mut plan)?;
        set(&mut plan.seed, self.seed);
        set(&mut plan.store, self.store.clone());
        set(&mut plan.check.anomalies_max, self.anomalies_max);
        plan.check.ww_deps = pair(plan.check.ww_deps, self.ww_deps, self.no_ww_deps);
        if !self.ignore_queue_errors.is_empty() {
            plan.check.ignore_queue_errors.clone_from(&self.ignore_queue_errors);
        }
        set(&mut plan.capture.mode, self.capture.clone());
        set(&mut plan.capture.bytes_max, self.capture_bytes_max);
        one_of("--capture", &plan.capture.mode, &["own", "tcpdump", "off"])?;
        self.fault_part(&mut plan)?;
        Ok(plan)
    }

    fn fault_part(&self, plan: &mut Plan) -> anyhow::Result<()> {
        let rules = super::proxy::read_rules(&self.rule, self.rules.as_deref())?;
        plan.proxy.rules.extend(rules.iter().map(ToString::to_string));
        if let Some(at) = &self.control {
            let address = super::proxy::loopback("--control", at, false)?;
            plan.proxy.control = Some(SocketAddr::new(address, at.port).to_string());
        }
        let nemesis = &mut plan.nemesis;
        for fault in &self.nemesis {
            if fault == "clock" {
                let text = "--nemesis clock: a broker's clock is not ours to set; there is wire, \
                            cut, kill and pause";
                return Err(Usage(text.into()).into());
            }
            one_of("--nemesis", fault, &["wire", "cut", "kill", "pause", "none", "all"])?;
        }
        if !self.nemesis.is_empty() {
            let has = |name: &str| self.nemesis.iter().any(|fault| fault == name || fault == "all");
            let faults = ["wire", "cut", "kill", "pause"].into_iter().filter(|name| has(name));
            nemesis.faults = faults.map(str::to_owned).collect();
        }
        set(&mut nemesis.interval_s, self.nemesis_interval);
        set(&mut nemesis.stable_period_s, self.nemesis_stable_period);
        for (flag, s, least) in [
            ("--nemesis-interval", nemesis.interval_s, 0.01),
            ("--nemesis-stable-period", nemesis.stable_period_s, 0.0),
        ] {
            if !(least..=1e6).contains(&s) {
                return Err(Usage(format!("{flag} {s}: expected seconds from {least}")).into());
            }
        }
        for target in &self.nemesis_target {
            one_of("--nemesis-target", target, TARGETS)?;
        }
        if !self.nemesis_target.is_empty() {
            nemesis.targets.clone_from(&self.nemesis_target);
        }
        let hurts_brokers = nemesis.has("kill") || nemesis.has("pause");
        if hurts_brokers && plan.broker.kind != "kafka" {
            let text = "--nemesis kill and pause need brokers of this tool's own: --broker kafka";
            return Err(Usage(text.into()).into());
        }
        Ok(())
    }

    fn broker_part(&self, plan: &mut Plan) -> anyhow::Result<()> {
        let broker = &mut plan.broker;
        set(&mut broker.kind, self.broker.clone());
        if let Some(bootstrap) = &self.bootstrap_server {
            broker.kind = "external".into();
            broker.bootstrap_server = Some(bootstrap.clone());
        }
        if self.broker_version.is_some() {
            broker.version.clone_from(&self.broker_version);
        }
        set(&mut broker.nodes, self.nodes);
        for property in &self.broker_property {
            let (key, value) = key_value("--broker-property", property)?;
            broker.properties.insert(key.to_owned(), value.to_owned());
        }
        if self.kafka_home.is_some() {
            broker.kafka_home.clone_from(&self.kafka_home);
        }
        if self.data_dir.is_some() {
            broker.data_dir.clone_from(&self.data_dir);
        }
        if self.bug.is_some() {
            broker.bug.clone_from(&self.bug);
        }
        if let Some(tls) = self.broker_tls.asked() {
            if broker.kind != "external" {
                let text = "--tls is for a cluster that already runs: --bootstrap-server";
                return Err(Usage(text.into()).into());
            }
            broker.tls = Some(tls);
        }
        one_of("--broker", &broker.kind, &["embedded", "kafka", "external"])?;
        if broker.bug.is_some() && broker.kind != "embedded" {
            return Err(Usage("--bug plants a bug in the embedded broker only".into()).into());
        }
        if let Some(bug) = &broker.bug
            && Bug::from_name(bug).is_none()
        {
            return Err(Usage(format!("--bug {bug}: no such bug; --bug list names them")).into());
        }
        if broker.nodes == 0 {
            return Err(Usage("--nodes: expected at least 1".into()).into());
        }
        Ok(())
    }

    fn client_part(&self, plan: &mut Plan) -> anyhow::Result<()> {
        if let Some(path) = &self.command_config {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            for (name, value) in properties::parse(&text) {
                property(plan, &name, &value)?;
            }
        }
        for given in &self.properties {
            let (name, value) = key_value("-X", given)?;
            property(plan, name, value)?;
        }
        let named = [
            ("acks", self.acks.clone()),
            ("retries", self.retries.map(|n| n.to_string())),
            ("isolation.level", self.isolation_level.clone()),
            ("auto.offset.reset", self.auto_offset_reset.clone()),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                property(plan, name, &value)?;
            }
        }
        let client = &mut plan.client;
        client.idempotence = pair(client.idempotence, self.idempotence, self.no_idempotence);
        client.enable_auto_commit =
            pair(client.enable_auto_commit, self.enable_auto_commit, self.disable_auto_commit);
        client.old_style |= self.old_style;
        Ok(())
    }

    fn workload_part(&self, plan: &mut Plan) -> anyhow::Result<()> {
        let nodes = plan.broker.nodes;
        let bug = plan.broker.bug.as_deref().and_then(Bug::from_name);
        let provocation = bug.map(Bug::provocation).unwrap_or_default();
        let workload = &mut plan.workload;
        set(&mut workload.name, self.workload.clone());
        one_of("--workload", &workload.name, &["queue"])?;
        if let Some(text) = &self.concurrency {
            workload.concurrency = concurrency(text, nodes)?;
        }
        set(&mut workload.time_limit_s, self.time_limit);
        let provoked = provocation.final_time_limit_s.filter(|_| self.plan.is_none());
        set(&mut workload.final_time_limit_s, provoked.map(f64::from));
        set(&mut workload.final_time_limit_s, self.final_time_limit);
        set(&mut workload.rate_hz, self.rate);
        workload.txn &= self.plan.is_some() || !provocation.without_txn;
        workload.txn = pair(workload.txn, self.txn, self.no_txn);
        set(&mut workload.abort_p, self.abort_p);
        set(&mut workload.sub_p, self.sub_p);
        for (flag, p) in [("--abort-p", workload.abort_p), ("--sub-p", workload.sub_p)] {
            if !(0.0..=1.0).contains(&p) {
                return Err(Usage(format!("{flag} {p}: expected a chance from 0 to 1")).into());
            }
        }
        for (flag, s) in [
            ("--time-limit", workload.time_limit_s),
            ("--final-time-limit", workload.final_time_limit_s),
            ("--rate", workload.rate_hz),
        ] {
            if !(0.0..=1e9).contains(&s) {
                return Err(
                    Usage(format!("{flag} {s}: expected a number that is not negative")).into()
                );
            }
        }
        if let Some(text) = &self.sub_via {
            workload.sub_via = text
                .split(',')
                .map(|way| match way.trim() {
                    "assign" => Ok(SubVia::Assign),
                    "subscribe" => Ok(SubVia::Subscribe),
                    other => Err(Usage(format!("--sub-via {other}: expected assign, subscribe"))),
                })
                .collect::<Result<_, _>>()?;
        }
        if self.safe {
            workload.sub_via = vec![SubVia::Assign];
        }
        if self.sub_via.is_none() && provocation.subscribes {
            // Only groups show it.
            workload.sub_via = vec![SubVia::Subscribe];
        }
        set(&mut workload.max_writes_per_key, self.max_writes_per_key);
        workload.zombies |= self.zombies || provocation.zombies;
        workload.crash_clients |= self.crash_clients || workload.zombies;
        if workload.zombies && self.crash_client_interval.is_none() && self.plan.is_none() {
            workload.crash_client_interval_s = 2.0;
        }
        set(&mut workload.crash_client_interval_s, self.crash_client_interval);
        set(&mut workload.poll_wait_ms, self.poll_wait);
        workload.one_in_flight |= self.one_in_flight;
        Ok(())
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

/// A flag and its negation.
fn pair(now: bool, yes: bool, no: bool) -> bool {
    (now || yes) && !no
}

fn one_of(flag: &str, value: &str, names: &[&str]) -> Result<(), Usage> {
    if names.contains(&value) {
        return Ok(());
    }
    Err(Usage(format!("{flag} {value}: expected one of {}", names.join(", "))))
}

fn key_value<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str), Usage> {
    text.split_once('=').ok_or_else(|| Usage(format!("{flag} {text}: expected KEY=VALUE")))
}

fn property(plan: &mut Plan, name: &str, value: &str) -> anyhow::Result<()> {
    let used = properties::set(plan, name, value).map_err(|error| Usage(error.to_string()))?;
    if !used {
        say(&format!("warning: client property {name} has no use here"));
    }
    Ok(())
}

fn concurrency(text: &str, nodes: u16) -> Result<u32, Usage> {
    let (count, per_node) = match text.strip_suffix('n') {
        Some(count) => (count, u32::from(nodes)),
        None => (text, 1),
    };
    let count = count.parse::<u32>().ok().and_then(|n| n.checked_mul(per_node));
    match count {
        Some(n) if (1..=10_000).contains(&n) => Ok(n),
        _ => Err(Usage(format!("--concurrency {text}: expected 1 to 10000, or such as 3n"))),
    }
}

/// Runs as often as asked; the first run that is not valid ends them.
pub(crate) fn test(arguments: &TestArguments, manner: Manner) -> anyhow::Result<Exit> {
    if arguments.properties.iter().any(|p| p == "list") {
        properties::known().for_each(|(name, takes)| print(&format!("{name}\t{takes}")));
        return Ok(Exit::Valid);
    }
    if arguments.bug.as_deref() == Some("list") {
        for bug in Bug::ALL {
            let also: String = bug.also().iter().map(|name| format!(", {name}")).collect();
            print(&format!(
                "{}\t{}\tmust show: {}{also}",
                bug.name(),
                bug.does(),
                bug.must().join(" or ")
            ));
        }
        return Ok(Exit::Valid);
    }
    let mut plan = arguments.plan()?;
    if arguments.properties.iter().any(|p| p == "dump") {
        properties::effective(&plan).for_each(|(name, value)| print(&format!("{name}={value}")));
        return Ok(Exit::Valid);
    }
    let mut exit = Exit::Valid;
    for _ in 0..arguments.test_count.max(1) {
        exit = one(&plan, manner)?;
        if exit != Exit::Valid {
            break;
        }
        plan.seed = plan.seed.wrapping_add(1);
    }
    Ok(exit)
}

/// One run, with its progress and its summary.
fn one(plan: &Plan, manner: Manner) -> anyhow::Result<Exit> {
    say(&head(plan));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = runtime.block_on(async {
        let (sender, stop) = tokio::sync::watch::channel(Stop::Nothing);
        let world = (run::clock::real(), Chance::from_seed(plan.seed));
        let shown = Shown { manner };
        tokio::select! {
            told = run::story::run(plan, world, &shown, stop) => told,
            () = interrupts(&sender) => unreachable!("interrupts are listened to for ever"),
        }
    })?;
    match manner.format {
        OutputFormat::Json => print(&serde_json::to_string_pretty(&told.verdict)?),
        OutputFormat::Text => {
            let summary = text::summary(&told.verdict);
            let (body, verdict) = summary.trim_end().rsplit_once('\n').unwrap_or(("", &summary));
            print(&format!("{}; seed {}", told.facts, plan.seed));
            print(&in_force(plan, &told.facts));
            print(body);
            print(&told.folder.display().to_string());
            print(verdict.trim_end());
        }
    }
    Ok(super::check::exit(told.verdict.valid))
}

/// Which features the brokers finalized, and which semantics of transactions the run had: what a
/// reader needs to know before he believes a verdict.
fn in_force(plan: &Plan, facts: &Facts) -> String {
    let features: Vec<String> =
        facts.finalized_features.iter().map(|(name, level)| format!("{name} {level}")).collect();
    let features = if features.is_empty() { "none".into() } else { features.join(", ") };
    let transactions = match (plan.workload.txn, plan.client.old_style) {
        (false, _) => "no transactions".to_owned(),
        (true, old) => {
            let version = run::story::transaction_version(plan, facts);
            let client = if old { ", by an old-style client" } else { "" };
            format!("transactions of version {version}{client}")
        }
    };
    format!("{transactions}; finalized features: {features}")
}

/// What is about to be done, in a few lines.
fn head(plan: &Plan) -> String {
    let (w, c) = (&plan.workload, &plan.client);
    let ways: Vec<&str> = w
        .sub_via
        .iter()
        .map(|way| match way {
            SubVia::Assign => "assign",
            SubVia::Subscribe => "subscribe",
        })
        .collect();
    let rate = if w.rate_hz > 0.0 { format!("{}/s", w.rate_hz) } else { "unlimited".into() };
    format!(
        "{} on {}{}: {} s, {} processes, rate {rate}, {}, abort-p {}, sub-via {}, sub-p {}\n\
         client: acks {}, idempotence {}, isolation {}, reset {}, auto-commit {}, \
         timeouts request {} ms, delivery {} ms, transaction {} ms\nseed {}",
        w.name,
        plan.broker.kind,
        plan.broker.version.as_ref().map(|v| format!(" {v}")).unwrap_or_default(),
        w.time_limit_s,
        w.concurrency,
        if w.txn { "transactions" } else { "no transactions" },
        w.abort_p,
        ways.join(","),
        w.sub_p,
        c.acks,
        c.idempotence,
        c.isolation_level,
        c.auto_offset_reset,
        c.enable_auto_commit,
        c.request_timeout_ms,
        c.delivery_timeout_ms,
        c.transaction_timeout_ms,
        plan.seed,
    )
}

/// The first Ctrl-C ends the main phase, the second the final polls; what happened is judged all
/// the same.
async fn interrupts(stop: &tokio::sync::watch::Sender<Stop>) {
    loop {
        run::story::until_told_to_end().await;
        let now = match *stop.borrow() {
            Stop::Nothing => Stop::Main,
            Stop::Main | Stop::FinalPolls => Stop::FinalPolls,
        };
        say(match now {
            Stop::Main => "interrupted: reading everything back; again to skip that",
            _ => "interrupted: checking what there is",
        });
        stop.send_replace(now);
    }
}

/// Shows a run's progress on standard error: a line redrawn on a terminal, else a line in ten
/// seconds.
struct Shown {
    manner: Manner,
}

impl Watch for Shown {
    fn phase(&self, text: &str) {
        say(text);
    }

    fn progress(&self, phase: &str, elapsed: Duration, limit: Duration, tallies: Tallies) {
        let text = format!(
            "{phase} {:.0}/{:.0} s: {} ok, {} fail, {} info, {:.0}/s",
            elapsed.as_secs_f64(),
            limit.as_secs_f64(),
            text::grouped(tallies.ok),
            text::grouped(tallies.fail),
            text::grouped(tallies.info),
            (tallies.ok + tallies.fail + tallies.info) as f64 / elapsed.as_secs_f64().max(0.001),
        );
        if self.manner.live {
            drop(write!(std::io::stderr(), "\r{text}\x1b[K"));
            if elapsed >= limit {
                say("");
            }
        } else if elapsed.as_secs() > 0 && elapsed.as_secs().is_multiple_of(10) {
            say(&text);
        }
    }
}
