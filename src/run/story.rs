//! The whole run in one function: [`run`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::front::Front;
use super::judge::{self, JudgeError};
use super::nemesis::{self, Nemesis};
use super::plan::Plan;
use super::properties::BadProperty;
use super::record::{RecordError, RunRecord};
use super::tcpdump::{Tcpdump, TcpdumpError};
use crate::broker::{self, BrokerError, Facts};
use crate::checker::Verdict;
use crate::client::fetch::IsolationLevel;
use crate::client::producer::Acks;
use crate::client::versions::TransactionVersion;
use crate::client::{Conduct, Tcp};
use crate::history::event::EventValue;
use crate::history::recorder::{Moment, Tallies};
use crate::history::tap::NoTap;
use crate::history::{EventType, Function, Process};
use crate::pipeline::{
    self, AutoOffsetReset, ClusterConfig, GroupProtocol, OpenFailed, RetryPolicy,
};
use crate::proxy::control::{Control, serve};
use crate::proxy::rule::{Board, Rules};
use crate::proxy::{self, Proxy, ProxyError};
use crate::workload::{self, Drive, QueueOptions, Stop};
use crate::world::{Chance, Clock};

/// Why a run could not be told to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system under test did not do as asked.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A file could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// tcpdump was asked for and does not do it.
    #[error(transparent)]
    Tcpdump(#[from] TcpdumpError),
    /// The brokers and we do not shake hands for TLS.
    #[error("{0}")]
    Tls(String),
    /// TLS toward the brokers cannot be as the plan has it.
    #[error("TLS toward the brokers")]
    BadTls(#[from] proxy::TlsError),
    /// The proxy between workload and brokers could not start.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// What was recorded could not be read back.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The brokers could not be spoken to.
    #[error("cannot speak to the brokers")]
    Open(#[from] OpenFailed),
    /// A plan with a value it cannot have.
    #[error(transparent)]
    Property(#[from] BadProperty),
    /// Anything else about the plan.
    #[error("{0}")]
    Plan(String),
    /// Ended by the user before the workload began.
    #[error("interrupted before anything was done")]
    Interrupted,
}

/// Who is told how a run goes on.
pub trait Watch: Send + Sync {
    /// A part of the run begins.
    fn phase(&self, text: &str);
    /// How it stands in the main phase and the final polls.
    fn progress(&self, phase: &str, elapsed: Duration, limit: Duration, tallies: Tallies);
}

/// What a run came to.
pub struct Told {
    /// The verdict.
    pub verdict: Verdict,
    /// What the brokers said of themselves.
    pub facts: Facts,
    /// Where everything is.
    pub folder: PathBuf,
}

/// One run, from brokers to verdict.
///
/// # Errors
/// Where brokers do not start or files cannot be written. Anomalies are no errors.
pub async fn run(
    plan: &Plan,
    (clock, chance): (Clock, Chance),
    watch: &dyn Watch,
    stop: watch::Receiver<Stop>,
) -> Result<Told, RunError> {
    let record = RunRecord::begin(plan, &clock)?;
    watch.phase(&format!("run folder {}", record.folder().display()));
    let front = Front::of(plan, &clock)?;
    let behind = front.as_ref().map(|front| front.behind(plan));
    let brokers = system_under_test(behind.as_ref().unwrap_or(plan), record.folder(), &clock)?;
    let told = against(plan, (&clock, &chance), watch, stop, &record, &*brokers).await;
    let torn_down = broker::tear_down(&*brokers).await;
    let (verdict, facts) = told.map_err(|error| match &front {
        Some(front) => front.explained(error),
        None => error,
    })?;
    torn_down?;
    record.link_latest();
    Ok(Told { verdict, facts, folder: record.folder().to_owned() })
}

async fn against(
    plan: &Plan,
    (clock, chance): (&Clock, &Chance),
    watch: &dyn Watch,
    mut stop: watch::Receiver<Stop>,
    record: &RunRecord,
    brokers: &dyn broker::Cluster,
) -> Result<(Verdict, Facts), RunError> {
    watch.phase(&format!("starting {}", plan.broker.kind));
    let facts = tokio::select! {
        facts = broker::bring_up(brokers) => facts?,
        _ = stop.wait_for(|stop| *stop > Stop::Nothing) => return Err(RunError::Interrupted),
    };
    watch.phase(&facts.to_string());
    let tcpdump = match plan.capture.mode.as_str() {
        "tcpdump" => Some(Tcpdump::start(&brokers.nodes(), record.folder()).await?),
        _ => None,
    };
    let way_in = way_in(plan, (clock, chance), record, brokers)?;
    let control = control(plan, watch, way_in.as_ref()).await?;
    let config = cluster_config(plan, clock, record, (brokers, way_in.as_deref()));
    let cluster = pipeline::Cluster::connect(config).await?;
    let drive = Drive::new(
        queue_options(plan, clock)?,
        Arc::new(cluster),
        record.recorder(),
        (clock.clone(), *chance),
        stop,
    );
    let limits = (drive.options.time_limit, drive.options.final_time_limit);
    watch.phase("main phase");
    let nemesis = Nemesis::new(
        plan,
        (clock.clone(), *chance),
        record.recorder(),
        way_in.as_ref().map(|proxy| proxy.rules().clone()),
        brokers,
    );
    let work = async {
        tokio::join!(workload::drive(&drive), provoke(plan, brokers, limits.0, &drive));
    };
    let main = async {
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => {}
            () = nemesis.run(limits.0) => work.await,
        }
        // Ctrl-C ends the workload in the middle of a fault.
        nemesis.heal_everything().await;
    };
    let main = with_progress(watch, "main", limits.0, &drive, main);
    match control {
        None => main.await,
        Some((listener, control)) => tokio::select! {
            () = main => {}
            () = serve(listener, control) => unreachable!("it serves until it is dropped"),
        },
    }
    watch.phase("final polls");
    with_progress(watch, "final polls", limits.1, &drive, workload::read_back(&drive)).await;
    drop(drive);
    drop(way_in);
    record.settle()?;
    let dropped = match tcpdump {
        Some(tcpdump) => tcpdump.finish().await?,
        None => 0,
    };
    watch.phase("checking");
    let verdict = judge::judge_run(plan, record, &facts, dropped)?;
    Ok((verdict, facts))
}

/// Where the rules of the proxy are controlled while the main phase lasts.
async fn control(
    plan: &Plan,
    watch: &dyn Watch,
    way_in: Option<&Arc<Proxy>>,
) -> Result<Option<(TcpListener, Control)>, RunError> {
    let (Some(at), Some(proxy)) = (&plan.proxy.control, way_in) else { return Ok(None) };
    let listener = TcpListener::bind(at.as_str()).await;
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound
        .map_err(|error| RunError::Plan(format!("the control cannot listen on {at}: {error}")))?;
    watch.phase(&format!("control=http://{address}"));
    let counted = proxy.clone();
    let total = Arc::new(move || counted.total());
    Ok(Some((listener, Control { board: proxy.rules().clone(), total })))
}

/// The proxy that the workload goes through, where the plan has rules, a control of them, or faults
/// of the wire.
fn way_in(
    plan: &Plan,
    (clock, chance): (&Clock, &Chance),
    record: &RunRecord,
    brokers: &dyn broker::Cluster,
) -> Result<Option<Arc<Proxy>>, RunError> {
    if !plan.has_proxy() {
        return Ok(None);
    }
    let mut rules = Rules::new(*chance);
    for text in &plan.proxy.rules {
        let rule = text.parse().map_err(|error| RunError::Plan(format!("rule {text:?}: {error}")));
        let added = rules.add(rule?);
        added.map_err(|error| RunError::Plan(format!("rule {text:?}: {error}")))?;
    }
    let recorder = record.recorder();
    let board = Board::watched(rules, move |act| {
        recorder.record(nemesis::act_event(act));
    });
    let endpoint = |node: &broker::Node| {
        node.to_string().parse().map_err(|error| RunError::Plan(format!("broker {error}")))
    };
    let bootstrap = brokers.nodes().iter().map(endpoint).collect::<Result<_, _>>()?;
    let proxy = proxy::Plan::to(bootstrap);
    let proxy = proxy::start(proxy, Arc::new(board), Some(record.tap()), clock.clone())?;
    Ok(Some(Arc::new(proxy)))
}

/// Does to the brokers what a planted bug needs to show.
async fn provoke(plan: &Plan, brokers: &dyn broker::Cluster, limit: Duration, drive: &Drive) {
    let bug = plan.broker.bug.as_deref().and_then(broker::embedded::Bug::from_name);
    if !bug.is_some_and(|bug| bug.provocation().restart) {
        return;
    }
    tokio::time::sleep(limit / 2).await;
    for node in brokers.nodes() {
        let nemesis = |function: &str, error: Option<String>| {
            let value = EventValue::Json(format!("[\"{node}\"]"));
            let process = Process::Named("nemesis".into());
            let moment = Moment::invoke(process, Function::Other(function.into()), value);
            drive.recorder.record(Moment { event_type: EventType::Info, error, ..moment });
        };
        // What fails shows in the history, as what succeeds does.
        let failed = |done: Result<(), broker::BrokerError>| done.err().map(|e| e.to_string());
        nemesis("kill", None);
        nemesis("kill", failed(brokers.kill(node.node_id).await));
        nemesis("start", None);
        nemesis("start", failed(brokers.start(node.node_id).await));
    }
}

/// Tells how it stands once a second while `work` goes on.
async fn with_progress(
    watch: &dyn Watch,
    phase: &str,
    limit: Duration,
    drive: &Drive,
    work: impl Future<Output = ()>,
) {
    let begin = drive.clock.now_ns();
    let elapsed = || Duration::from_nanos(drive.clock.now_ns() - begin);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    tokio::pin!(work);
    loop {
        tokio::select! {
            () = &mut work => break,
            _ = ticks.tick() => watch.progress(phase, elapsed(), limit, drive.recorder.tallies()),
        }
    }
    watch.progress(phase, elapsed(), limit, drive.recorder.tallies());
}

/// The brokers a plan asks for; nothing is started.
///
/// # Errors
/// Where the plan names none, or the driver refuses its settings.
pub fn system_under_test(
    plan: &Plan,
    folder: &Path,
    clock: &Clock,
) -> Result<Box<dyn broker::Cluster>, RunError> {
    let asked = &plan.broker;
    match asked.kind.as_str() {
        "embedded" => {
            let config = embedded_config(plan)?;
            let chance = Chance::from_seed(plan.seed);
            Ok(Box::new(broker::InProcess::new(config, clock.clone(), chance)))
        }
        "kafka" => {
            let cache =
                broker::kafka::cache_folder(|name| std::env::var_os(name)).ok_or_else(|| {
                    RunError::Plan("no cache folder: set HOME or FENCEPOST_CACHE".into())
                })?;
            let mut settings = broker::kafka::Settings::new(folder.join("kafka"), cache);
            if let Some(version) = &asked.version {
                settings.version =
                    version.parse().map_err(|error: String| RunError::Plan(error))?;
            }
            settings.home.clone_from(&asked.kafka_home);
            settings.nodes = asked.nodes;
            settings.properties =
                asked.properties.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            let chance = Chance::from_seed(plan.seed);
            Ok(Box::new(broker::Kafka::new(settings, &chance)?))
        }
        "external" => {
            let bootstrap = asked.bootstrap_server.as_deref().unwrap_or_default();
            let timeout = Duration::from_secs(30);
            Ok(Box::new(broker::External::new(bootstrap, plan.workload.txn, timeout)?))
        }
        other => Err(RunError::Plan(format!("no broker named {other}"))),
    }
}

/// The embedded broker a plan asks for.
fn embedded_config(plan: &Plan) -> Result<broker::embedded::Config, RunError> {
    use broker::embedded::TransactionVersion;
    let mut config = broker::embedded::Config {
        nodes: plan.broker.nodes.into(),
        data_dir: plan.broker.data_dir.clone(),
        ..Default::default()
    };
    for (key, value) in &plan.broker.properties {
        match (key.as_str(), value.as_str()) {
            ("transaction.version", "1") => config.transaction_version = TransactionVersion::One,
            ("transaction.version", "2") => config.transaction_version = TransactionVersion::Two,
            ("auto.create.topics.enable", "true") => config.auto_create_topics = true,
            ("auto.create.topics.enable", "false") => config.auto_create_topics = false,
            ("num.partitions", count) if count.parse().is_ok_and(|n: i32| n > 0) => {
                config.num_partitions = count.parse().expect("just parsed");
            }
            _ => {
                let text = format!("the embedded broker has no property {key}={value}");
                return Err(RunError::Plan(text));
            }
        }
    }
    if let Some(name) = &plan.broker.bug {
        let unknown = || RunError::Plan(format!("no bug named {name}"));
        config.bug = Some(broker::embedded::Bug::from_name(name).ok_or_else(unknown)?);
    }
    Ok(config)
}

fn cluster_config(
    plan: &Plan,
    clock: &Clock,
    record: &RunRecord,
    (brokers, way_in): (&dyn broker::Cluster, Option<&Proxy>),
) -> ClusterConfig {
    // What passes the proxy is recorded there, with what was done to it.
    let (tap, bootstrap) = match way_in {
        Some(proxy) => {
            let doors = proxy.bootstrap();
            (Arc::new(NoTap) as _, doors.split(',').map(str::to_owned).collect())
        }
        None => (record.tap(), brokers.nodes().iter().map(ToString::to_string).collect()),
    };
    let conduct = Conduct::new(Arc::new(Tcp::default()), tap, clock.clone());
    ClusterConfig {
        bootstrap,
        conduct: conduct
            .with_request_timeout(Duration::from_millis(plan.client.request_timeout_ms)),
        retry: retry_policy(plan),
        partitions: 2,
        replication_factor: plan.workload.replication_factor,
        force_transaction_version: plan.client.old_style.then_some(TransactionVersion::V1),
    }
}

/// Which semantics the transactions of a run have: version 2 (KIP-890) takes a broker that has it
/// and a client that speaks it; before it, 0 and 1 differ in what brokers store only.
#[must_use]
pub fn transaction_version(plan: &Plan, facts: &Facts) -> i16 {
    match facts.transaction_version() {
        2.. if !plan.client.old_style => 2,
        level => level.min(1),
    }
}

fn retry_policy(plan: &Plan) -> RetryPolicy {
    RetryPolicy {
        delivery_timeout: Duration::from_millis(plan.client.delivery_timeout_ms),
        request_timeout: Duration::from_millis(plan.client.request_timeout_ms),
        retries: plan.client.retries,
        ..RetryPolicy::default()
    }
}

/// What a plan asks of the queue.
fn queue_options(plan: &Plan, clock: &Clock) -> Result<QueueOptions, RunError> {
    let (workload, client) = (&plan.workload, &plan.client);
    let refuse = |name: &str, value: &str, expected| BadProperty {
        name: name.into(),
        value: value.into(),
        expected,
    };
    let acks = match client.acks.as_str() {
        "all" => Acks::All,
        "1" => Acks::Leader,
        "0" => Acks::None,
        other => return Err(refuse("acks", other, "all, 1 or 0").into()),
    };
    let isolation = match client.isolation_level.as_str() {
        "read_committed" => IsolationLevel::ReadCommitted,
        "read_uncommitted" => IsolationLevel::ReadUncommitted,
        other => {
            let expected = "read_committed or read_uncommitted";
            return Err(refuse("isolation.level", other, expected).into());
        }
    };
    let auto_offset_reset = match client.auto_offset_reset.as_str() {
        "earliest" => AutoOffsetReset::Earliest,
        "latest" => AutoOffsetReset::Latest,
        "none" => AutoOffsetReset::None,
        other => {
            return Err(refuse("auto.offset.reset", other, "earliest, latest or none").into());
        }
    };
    // A cluster that outlives the run may hold the topics of earlier ones.
    let prefix = match plan.broker.kind.as_str() {
        "external" => format!("fencepost-{}-", super::clock::stamp(clock.unix_ns())),
        _ => String::new(),
    };
    let seconds = |s: f64| Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX);
    Ok(QueueOptions {
        concurrency: workload.concurrency,
        time_limit: seconds(workload.time_limit_s),
        final_time_limit: seconds(workload.final_time_limit_s),
        rate_hz: (workload.rate_hz > 0.0).then_some(workload.rate_hz),
        txn: workload.txn,
        abort_p: workload.abort_p,
        sub_p: workload.sub_p,
        sub_via: workload.sub_via.clone(),
        max_writes_per_key: workload.max_writes_per_key,
        active_keys: 10,
        crash_interval: workload.crash_clients.then(|| seconds(workload.crash_client_interval_s)),
        zombies: workload.zombies,
        poll_wait: Duration::from_millis(workload.poll_wait_ms),
        final_readers: workload.final_readers,
        one_in_flight: workload.one_in_flight,
        prefix,
        isolation,
        acks,
        idempotence: client.idempotence,
        auto_offset_reset,
        group_protocol: match client.group_protocol.as_str() {
            "classic" => GroupProtocol::Classic,
            "consumer" => GroupProtocol::Consumer,
            other => return Err(refuse("group.protocol", other, "classic or consumer").into()),
        },
        retry: retry_policy(plan),
        auto_commit: client.enable_auto_commit,
        transaction_timeout_ms: client.transaction_timeout_ms,
    })
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn until_told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

/// A folder that is removed when it is no longer needed.
#[derive(Debug)]
pub struct ScratchFolder(PathBuf);

impl ScratchFolder {
    /// Makes one under the system's folder for temporary files.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new() -> std::io::Result<Self> {
        let name = format!("fencepost-{:016x}", super::clock::fresh_seed());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
