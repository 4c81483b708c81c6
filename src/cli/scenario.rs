//! `fencepost scenario list`, `run`, `sweep`: scripted conversations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{ArgAction, Args, Subcommand, ValueEnum};

use super::{Exit, Manner, OutputFormat, Usage, print, say};
use crate::broker::{self, Facts};
use crate::client::Versions;
use crate::client::versions::TransactionVersion;
use crate::report::text;
use crate::run::conversation::{Judged, With, unrecorded};
use crate::run::sweep::{self, Sweep, Swept};
use crate::run::{Plan, RunRecord, clock, story};
use crate::scenario::interpret::style_for;
use crate::scenario::operations::Meanings;
use crate::scenario::{Column, Conversation, Names, Style, chart, ground, library};

/// What was typed.
#[derive(Debug, Args)]
pub(crate) struct ScenarioArguments {
    #[command(subcommand)]
    command: ScenarioCommand,
}

#[derive(Debug, Subcommand)]
enum ScenarioCommand {
    /// Every scenario: what it proves, where it comes from, what is expected of which broker.
    List,
    /// Hold scenarios with a broker; exit 1 where it shows the anomaly.
    Run(RunArguments),
    /// Hold each request of a conversation and let it arrive after each later step.
    Sweep(SweepArguments),
}

/// The brokers.
#[derive(Debug, Args)]
struct BrokerArguments {
    /// A cluster that already runs.
    #[arg(long, value_name = "HOST:PORT,...", conflicts_with = "broker")]
    bootstrap_server: Option<String>,
    /// Brokers to start: embedded, kafka.
    #[arg(long, value_name = "NAME", default_value = "embedded")]
    broker: String,
    /// Their version, such as 4.3.0 or 3.9.1.
    #[arg(long, value_name = "V")]
    broker_version: Option<String>,
    /// How many nodes; without it, as many as the scenario needs.
    #[arg(long, value_name = "N")]
    nodes: Option<u16>,
    /// A property of the brokers; transaction.version=1|2 holds for embedded and kafka.
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append)]
    broker_property: Vec<String>,
    /// Where run folders go.
    #[arg(long, value_name = "DIR", default_value = "store")]
    store: PathBuf,
    /// Which requests clients speak; without it, the newest the scenario has and the broker serves.
    #[arg(long, value_enum)]
    style: Option<StyleName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StyleName {
    /// KIP-98: EndTxn ≤ 4, Produce ≤ 11.
    Old,
    /// KIP-890: EndTxn 5, Produce 12.
    New,
}

impl From<StyleName> for Style {
    fn from(name: StyleName) -> Self {
        match name {
            StyleName::Old => Self::Old,
            StyleName::New => Self::New,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fencepost scenario run S1\n  \
    fencepost scenario run S1 S2 --broker kafka --broker-version 3.9.1\n  \
    fencepost scenario run my.toml --bootstrap-server 127.0.0.1:9092 --style old")]
struct RunArguments {
    /// Names of scenarios, or files.
    #[arg(required = true, value_name = "NAME|FILE")]
    names: Vec<String>,
    #[command(flatten)]
    brokers: BrokerArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fencepost scenario sweep one-partition\n  \
    fencepost scenario sweep one-partition --bootstrap-server 127.0.0.1:9092 --style old\n\n\
    Prints which request was held and when it arrived, with a letter for each kind of anomaly; the \
    shortest conversation of each is written as a file that `scenario run` takes.")]
struct SweepArguments {
    /// Names of conversations, or files; `all` is every one that comes with the tool.
    #[arg(required = true, value_name = "NAME|FILE")]
    names: Vec<String>,
    #[command(flatten)]
    brokers: BrokerArguments,
    /// Orders that are held at a time.
    #[arg(long, value_name = "N", default_value_t = 8)]
    at_a_time: usize,
    /// Begin as soon as Metadata names the leaders of new topics, before they have heard of it.
    #[arg(long)]
    hasty: bool,
    /// Let two requests be late at once, too: many orders.
    #[arg(long)]
    pairs: bool,
}

/// Does what was typed.
pub(crate) fn scenario(arguments: &ScenarioArguments, manner: Manner) -> anyhow::Result<Exit> {
    match &arguments.command {
        ScenarioCommand::List => list(manner),
        ScenarioCommand::Run(arguments) => run(arguments, manner),
        ScenarioCommand::Sweep(arguments) => sweep(arguments, manner),
    }
}

fn list(manner: Manner) -> anyhow::Result<Exit> {
    let all = library::scenarios()?;
    if manner.format == OutputFormat::Json {
        let sweeps = library::sweeps()?;
        let json = serde_json::json!({ "scenarios": all, "sweeps": sweeps });
        print(&serde_json::to_string_pretty(&json)?);
        return Ok(Exit::Valid);
    }
    let title = all.iter().map(|s| s.title.chars().count()).max().unwrap_or(0);
    let name = all.iter().map(|s| s.name.len()).max().unwrap_or(0);
    let head = "what is expected of brokers: unverified | verified | old style on TV2 | TV2";
    print(&format!("{:name$}  {:title$}  {head}", "", "proves"));
    for scenario in &all {
        let columns: Vec<String> = Column::ALL
            .iter()
            .map(|column| match scenario.expected.get(column) {
                None => "-".to_owned(),
                Some(names) if names.is_empty() => "valid".to_owned(),
                Some(names) => names.join("+"),
            })
            .collect();
        print(&format!(
            "{:name$}  {:title$}  {}  ({})",
            scenario.name,
            scenario.title,
            columns.join(" | "),
            scenario.source
        ));
    }
    print("\nFor sweeps:");
    for sweep in library::sweeps()? {
        print(&format!("{:20}  {}", sweep.name, sweep.title));
    }
    Ok(Exit::Valid)
}

/// A conversation by its name or file.
fn find(name: &str) -> anyhow::Result<Conversation> {
    if let Some(found) = library::find(name)? {
        return Ok(found);
    }
    if !name.contains(['/', '.']) {
        let text = format!("no scenario is called {name}; fencepost scenario list names them");
        return Err(Usage(text).into());
    }
    let text = std::fs::read_to_string(name).map_err(|error| Usage(format!("{name}: {error}")))?;
    Conversation::parse(name, &text).map_err(|error| Usage(error.to_string()).into())
}

impl BrokerArguments {
    /// Which column applies: Kafka can be told not to verify.
    fn column(&self, style: Style, versions: &Versions) -> Column {
        let is_off =
            |property: &String| property == "transaction.partition.verification.enable=false";
        match ground::column(style, versions) {
            Column::Verified if self.broker_property.iter().any(is_off) => Column::Unverified,
            column => column,
        }
    }

    /// The plan of the brokers.
    fn plan(&self, name: &str, nodes: u16) -> anyhow::Result<Plan> {
        self.plan_with(name, nodes, &BTreeMap::new())
    }

    /// The plan of the brokers, with properties the scenario asks of Kafka.
    fn plan_with(
        &self,
        name: &str,
        nodes: u16,
        kafka: &BTreeMap<String, String>,
    ) -> anyhow::Result<Plan> {
        let mut plan =
            Plan { seed: clock::fresh_seed(), store: self.store.clone(), ..Plan::default() };
        plan.workload.name = name.to_owned();
        plan.broker.kind.clone_from(&self.broker);
        plan.broker.version.clone_from(&self.broker_version);
        plan.broker.nodes = self.nodes.unwrap_or(nodes).max(1);
        if self.broker == "kafka" {
            plan.broker.properties.extend(kafka.clone());
        }
        if let Some(bootstrap) = &self.bootstrap_server {
            plan.broker.kind = "external".into();
            plan.broker.bootstrap_server = Some(bootstrap.clone());
        }
        for property in &self.broker_property {
            let (key, value) = broker::kafka::parse_property(property)
                .map_err(|error| Usage(format!("--broker-property: {error}")))?;
            plan.broker.properties.insert(key, value);
        }
        if !["embedded", "kafka", "external"].contains(&plan.broker.kind.as_str()) {
            let text = format!("--broker {}: expected embedded or kafka", plan.broker.kind);
            return Err(Usage(text).into());
        }
        Ok(plan)
    }
}

/// Brokers that run, and where their files are.
struct Brokers {
    cluster: Arc<dyn broker::Cluster>,
    facts: Facts,
    versions: Arc<Versions>,
    _folder: story::ScratchFolder,
}

impl Brokers {
    async fn start(plan: &Plan, clock: &crate::world::Clock) -> anyhow::Result<Self> {
        let folder = story::ScratchFolder::new().context("cannot make a folder")?;
        let cluster: Arc<dyn broker::Cluster> =
            Arc::from(story::system_under_test(plan, folder.path(), clock)?);
        let facts = tokio::select! {
            facts = broker::bring_up(&*cluster) => facts,
            () = story::until_told_to_end() => {
                drop(broker::tear_down(&*cluster).await);
                anyhow::bail!("interrupted");
            }
        };
        let asked = match facts {
            Ok(facts) => Self::ask(&*cluster, clock).await.map(|versions| (facts, versions)),
            Err(error) => Err(error.into()),
        };
        match asked {
            Ok((facts, versions)) => {
                Ok(Self { cluster, facts, versions: Arc::new(versions), _folder: folder })
            }
            Err(error) => {
                drop(broker::tear_down(&*cluster).await);
                Err(error)
            }
        }
    }

    /// What they say they speak.
    async fn ask(
        cluster: &dyn broker::Cluster,
        clock: &crate::world::Clock,
    ) -> anyhow::Result<Versions> {
        let mut board = unrecorded(cluster, clock);
        Ok(ground::ask_versions(&mut board).await?)
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn run(arguments: &RunArguments, manner: Manner) -> anyhow::Result<Exit> {
    let all: Vec<Conversation> =
        arguments.names.iter().map(|name| find(name)).collect::<Result<_, _>>()?;
    let nodes = all.iter().map(|conversation| conversation.nodes).max().unwrap_or(1);
    let kafka = all.iter().flat_map(|conversation| conversation.kafka.clone()).collect();
    let plan = arguments.brokers.plan_with("scenario", nodes, &kafka)?;
    let clock = clock::real();
    runtime()?.block_on(async {
        let brokers = Brokers::start(&plan, &clock).await?;
        let mut exit = Exit::Valid;
        let mut told = Ok(());
        for (number, conversation) in all.iter().enumerate() {
            let one = run_one(arguments, conversation, number, &brokers, &clock, manner);
            let ended = tokio::select! {
                ended = one => ended,
                () = story::until_told_to_end() => Err(anyhow::anyhow!("interrupted")),
            };
            match ended {
                Ok(Exit::Valid) => {}
                Ok(other) if exit != Exit::Invalid => exit = other,
                Ok(_) => {}
                Err(error) => {
                    told = Err(error);
                    break;
                }
            }
        }
        let torn_down = broker::tear_down(&*brokers.cluster).await;
        told?;
        torn_down?;
        Ok(exit)
    })
}

/// Holds one conversation, and writes and prints what it came to.
async fn run_one(
    arguments: &RunArguments,
    conversation: &Conversation,
    number: usize,
    brokers: &Brokers,
    clock: &crate::world::Clock,
    manner: Manner,
) -> anyhow::Result<Exit> {
    let mut plan = arguments.brokers.plan(&conversation.name, conversation.nodes)?;
    plan.workload.txn = true;
    let style = style(&arguments.brokers, conversation, &brokers.versions)?;
    let with = With {
        cluster: &*brokers.cluster,
        clock,
        style,
        column: arguments.brokers.column(style, &brokers.versions),
        versions: &brokers.versions,
    };
    let names = Names::ending(format!("{}-{number}", clock::stamp(clock.unix_ns())));
    let judged = with.prepare_and_hold(conversation, names).await?;
    let record = RunRecord::begin(&plan, clock)?;
    let results = results(conversation, &with, &judged, &brokers.facts);
    let drawn = chart::render(&judged.held.lines);
    record.write("scenario.toml", conversation.to_toml().as_bytes())?;
    record.write("chart.txt", drawn.as_bytes())?;
    record.write("history.jsonl", &judged.history)?;
    record.write("wire.pcapng", &judged.capture)?;
    record.write("results.json", &serde_json::to_vec_pretty(&results)?)?;
    record.link_latest();
    match manner.format {
        OutputFormat::Json => print(&serde_json::to_string_pretty(&results)?),
        OutputFormat::Text => {
            print(&head(conversation, &with, &brokers.facts));
            print(&drawn);
            print(&meaning(&judged));
            let summary = text::summary(&judged.verdict);
            let (body, verdict) = summary.trim_end().rsplit_once('\n').unwrap_or(("", &summary));
            print(body);
            print(&expected_line(conversation, with.column, &judged));
            print(&record.folder().display().to_string());
            print(verdict.trim_end());
        }
    }
    Ok(exit(&judged))
}

fn exit(judged: &Judged) -> Exit {
    match &judged.held.broken {
        Some(_) if judged.verdict.bad_types.is_empty() => Exit::Unknown,
        _ => super::check::exit(judged.verdict.valid),
    }
}

fn sweep(arguments: &SweepArguments, manner: Manner) -> anyhow::Result<Exit> {
    let all: Vec<Conversation> = match arguments.names.iter().any(|name| name == "all") {
        true => library::sweeps()?,
        false => arguments.names.iter().map(|name| find(name)).collect::<Result<_, _>>()?,
    };
    let nodes = all.iter().map(|conversation| conversation.nodes).max().unwrap_or(1);
    let plan = arguments.brokers.plan("sweep", nodes)?;
    let clock = clock::real();
    runtime()?.block_on(async {
        let brokers = Brokers::start(&plan, &clock).await?;
        let work = async {
            let mut exit = Exit::Valid;
            for conversation in &all {
                match sweep_one(arguments, conversation, &brokers, &clock, manner).await? {
                    Exit::Valid => {}
                    other if exit != Exit::Invalid => exit = other,
                    _ => {}
                }
            }
            anyhow::Ok(exit)
        };
        let told = tokio::select! {
            told = work => told,
            () = story::until_told_to_end() => Err(anyhow::anyhow!("interrupted")),
        };
        let torn_down = broker::tear_down(&*brokers.cluster).await;
        let exit = told?;
        torn_down?;
        Ok(exit)
    })
}

/// Sweeps one conversation in each of its styles that the broker serves.
async fn sweep_one(
    arguments: &SweepArguments,
    conversation: &Conversation,
    brokers: &Brokers,
    clock: &crate::world::Clock,
    manner: Manner,
) -> anyhow::Result<Exit> {
    let versions = &brokers.versions;
    let served = |style: &Style| *style == Style::Old || is_tv2(versions);
    let styles = match arguments.brokers.style {
        Some(_) => vec![style(&arguments.brokers, conversation, versions)?],
        None => conversation.styles.iter().copied().filter(served).collect(),
    };
    let mut exit = Exit::Valid;
    for style in styles {
        let sweep = Sweep {
            cluster: brokers.cluster.clone(),
            clock: clock.clone(),
            style,
            column: arguments.brokers.column(style, versions),
            versions: versions.clone(),
            at_a_time: arguments.at_a_time,
            hasty: arguments.hasty,
            pairs: arguments.pairs,
        };
        let mut known = std::collections::BTreeSet::new();
        let swept = sweep
            .run(conversation, |done, of, row| {
                if !row.anomalies.is_empty() && known.insert(row.anomalies.clone()) {
                    let arrives = row.arrives.as_deref().map(|at| format!(", arrives after {at}"));
                    say(&format!(
                        "found {}: {} {}{}",
                        row.anomalies.join(" + "),
                        row.held,
                        row.mode,
                        arrives.unwrap_or_default()
                    ));
                }
                if done.is_multiple_of(500) || done == of {
                    manner.detail(&format!("{done} of {of} orders"));
                }
            })
            .await?;
        if swept.rows.iter().any(|row| !row.anomalies.is_empty()) {
            exit = Exit::Invalid;
        } else if swept.rows.iter().all(|row| row.broken.is_some()) && exit == Exit::Valid {
            exit = Exit::Unknown;
        }
        keep_sweep(arguments, conversation, &sweep, &swept, &brokers.facts, manner)?;
    }
    Ok(exit)
}

/// Writes a sweep's folder and prints what it came to.
fn keep_sweep(
    arguments: &SweepArguments,
    conversation: &Conversation,
    sweep: &Sweep,
    swept: &Swept,
    facts: &Facts,
    manner: Manner,
) -> anyhow::Result<()> {
    let name = format!("sweep-{}-{}", conversation.name, sweep.style.name());
    let plan = arguments.brokers.plan(&name, conversation.nodes)?;
    let record = RunRecord::begin(&plan, &sweep.clock)?;
    let matrix = sweep::matrix(&swept.rows);
    let seconds = |ns: u64| ns as f64 / 1e9;
    let mut reproducers = Vec::new();
    for found in &swept.reproducers {
        let folder = format!("reproducers/{}", found.conversation.name);
        let file = format!("{folder}/{}.toml", found.conversation.name);
        record.write(&file, found.conversation.to_toml().as_bytes())?;
        let drawn = chart::render(&found.judged.held.lines);
        record.write(&format!("{folder}/chart.txt"), drawn.as_bytes())?;
        record.write(&format!("{folder}/wire.pcapng"), &found.judged.capture)?;
        record.write(&format!("{folder}/history.jsonl"), &found.judged.history)?;
        reproducers.push(serde_json::json!({
            "anomalies": found.anomalies,
            "file": record.folder().join(&file).display().to_string(),
            "title": found.conversation.title,
            "orders": found.orders,
            "held_again": found.repeated.0,
            "shown_again": found.repeated.1,
        }));
    }
    for (number, row) in (1..).zip(&swept.rows) {
        let Some(chart) = &row.chart else { continue };
        let arrives = row.arrives.as_deref().unwrap_or("never held");
        let head = format!(
            "{}\n{}; arrives after: {arrives}\n{}\n\n",
            row.held,
            row.mode,
            row.anomalies.join(" + ")
        );
        record.write(&format!("orders/{number}.txt"), (head + chart).as_bytes())?;
    }
    let anomalous = swept.rows.iter().filter(|row| !row.anomalies.is_empty()).count();
    let broken = swept.rows.iter().filter(|row| row.broken.is_some()).count();
    let results = serde_json::json!({
        "valid": anomalous == 0,
        "sweep": conversation.name,
        "style": sweep.style.name(),
        "column": sweep.column.name(),
        "broker": { "software": facts.software, "finalized_features": facts.finalized_features,
            "transaction_version": facts.transaction_version() },
        "orders": swept.rows,
        "reproducers": reproducers,
        "elapsed_s": seconds(swept.elapsed_ns),
        "first_found_s": swept.first_found_ns.map(seconds),
    });
    record.write("results.json", &serde_json::to_vec_pretty(&results)?)?;
    record.write("matrix.txt", matrix.as_bytes())?;
    record.write("scenario.toml", conversation.to_toml().as_bytes())?;
    record.link_latest();
    if manner.format == OutputFormat::Json {
        print(&serde_json::to_string_pretty(&results)?);
        return Ok(());
    }
    print(&format!(
        "{}: {}\nbroker: {facts}; clients speak the {} style: column {}\n",
        conversation.name,
        conversation.title,
        sweep.style.name(),
        sweep.column.name()
    ));
    print(&matrix);
    for found in &swept.reproducers {
        print(&format!(
            "{}: {}\n  {} orders; held again {} times, shown {} times\n  fencepost scenario run {}\n{}",
            found.anomalies.join(" + "),
            found.conversation.title,
            found.orders,
            found.repeated.0,
            found.repeated.1,
            record
                .folder()
                .join(format!("reproducers/{0}/{0}.toml", found.conversation.name))
                .display(),
            chart::render(&found.judged.held.lines),
        ));
    }
    let elapsed = seconds(swept.elapsed_ns);
    print(&record.folder().display().to_string());
    print(&format!(
        "{} orders in {elapsed:.1} s ({:.0} a minute), first anomaly after {}; {broken} could not \
         be held to their end\nvalid: {}   {anomalous} orders with anomalies",
        swept.rows.len(),
        swept.rows.len() as f64 / elapsed.max(0.001) * 60.0,
        swept.first_found_ns.map_or("none".to_owned(), |ns| format!("{:.2} s", seconds(ns))),
        anomalous == 0,
    ));
    Ok(())
}

/// In which style a conversation is held.
fn style(
    arguments: &BrokerArguments,
    conversation: &Conversation,
    versions: &Versions,
) -> anyhow::Result<Style> {
    let Some(name) = arguments.style else {
        return Ok(style_for(conversation, is_tv2(versions)));
    };
    let style = Style::from(name);
    if !conversation.styles.contains(&style) {
        let text = format!("{} has no {} style", conversation.name, style.name());
        return Err(Usage(text).into());
    }
    Ok(style)
}

fn is_tv2(versions: &Versions) -> bool {
    versions.transaction_version() == TransactionVersion::V2
}

fn head(conversation: &Conversation, with: &With<'_>, facts: &Facts) -> String {
    let features: Vec<String> =
        facts.finalized_features.iter().map(|(name, level)| format!("{name}={level}")).collect();
    format!(
        "{}: {} ({})\n{}\n\nbroker: {facts}; finalized features: {}\nclients speak the {} style: \
         column {}\n",
        conversation.name,
        conversation.title,
        conversation.source,
        conversation.proves.trim(),
        if features.is_empty() { "none".to_owned() } else { features.join(" ") },
        with.style.name(),
        with.column.name(),
    )
}

/// What the numbers of the verdict stand for.
fn meaning(judged: &Judged) -> String {
    let Meanings { keys, values } = &judged.held.names;
    let mut text = String::from("In the verdict");
    for (number, name) in keys {
        write!(text, " key {number} is {name},").expect("a String takes every write");
    }
    for (number, name) in values {
        write!(text, " value {number} is {name:?},").expect("a String takes every write");
    }
    format!("{}.\n", text.trim_end_matches(','))
}

fn expected_line(conversation: &Conversation, column: Column, judged: &Judged) -> String {
    let mut text = match conversation.expected.get(&column) {
        None => format!("expected in column {}: not known", column.name()),
        Some(names) => {
            let found = &judged.verdict.bad_types;
            let all = names.iter().all(|name| found.contains(name));
            let as_expected = if names.is_empty() { found.is_empty() } else { all };
            let names = if names.is_empty() { "no anomaly".to_owned() } else { names.join(", ") };
            let so = if as_expected { "so it is" } else { "it is NOT so" };
            format!("expected in column {}: {names}; {so}", column.name())
        }
    };
    if let Some(why) = &judged.held.broken {
        write!(text, "\ncould not be held to its end: {why}").expect("a String takes every write");
    }
    text
}

fn results(
    conversation: &Conversation,
    with: &With<'_>,
    judged: &Judged,
    facts: &Facts,
) -> serde_json::Value {
    let mut results = serde_json::to_value(&judged.verdict).expect("a verdict is JSON");
    results["scenario"] = serde_json::json!({
        "name": conversation.name,
        "style": with.style.name(),
        "column": with.column.name(),
        "expected": conversation.expected.get(&with.column),
        "surprises": judged.held.surprises,
        "broken": judged.held.broken,
        "chart": judged.held.lines,
        "keys": judged.held.names.keys,
        "values": judged.held.names.values,
    });
    results["broker"] = serde_json::json!({
        "software": facts.software,
        "finalized_features": facts.finalized_features,
        "transaction_version": facts.transaction_version(),
        "nodes": facts.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    results
}
