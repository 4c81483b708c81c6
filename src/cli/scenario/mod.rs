//! `fencepost scenario list`, `run`, `sweep`: scripted conversations.

mod run;
mod sweep;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{ArgAction, Args, Subcommand, ValueEnum};

use crate::broker::{self, Facts};
use crate::cli::{Exit, Manner, OutputFormat, Usage, print};
use crate::client::Versions;
use crate::run::conversation::unrecorded;
use crate::run::{Plan, clock, story};
use crate::scenario::{Column, Conversation, Style, ground, library};

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
    /// A word of the commands of other people's programs: python, java, jars, where a scenario has
    /// them.
    #[arg(long, value_name = "WORD=VALUE", action = ArgAction::Append)]
    with: Vec<String>,
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
        ScenarioCommand::Run(arguments) => run::run(arguments, manner),
        ScenarioCommand::Sweep(arguments) => sweep::sweep(arguments, manner),
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
    let head = ["", "proves", "unverified", "verified", "old style on TV2", "TV2", "from"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for scenario in &all {
        let expected = Column::ALL.iter().map(|column| match scenario.expected.get(column) {
            None => "-".to_owned(),
            Some(names) if names.is_empty() => "valid".to_owned(),
            Some(names) => names.join("+"),
        });
        let name = [scenario.name.clone(), scenario.title.clone()].into_iter();
        rows.push(name.chain(expected).chain([scenario.source.clone()]).collect());
    }
    print(&aligned(&rows));
    print(
        "\nThe four columns say what is expected of brokers (-: not known): old-style clients (KIP-98) \
         where leaders do\nnot verify transactions, where they do (from Kafka 3.6), and where \
         transaction.version is 2; new-style clients\n(KIP-890) there. docs/SCENARIOS.md has what \
         each name means.",
    );
    print("\nFor sweeps:");
    for sweep in library::sweeps()? {
        print(&format!("{:20}  {}", sweep.name, sweep.title));
    }
    Ok(Exit::Valid)
}

/// Rows with each column as wide as its widest entry.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let entries = rows.iter().filter_map(|row| row.get(column));
        entries.map(|entry| entry.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let entries = row.iter().zip(&widths).map(|(entry, width)| format!("{entry:width$}"));
        entries.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
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

    /// Words of commands; `jars` are those of the Kafka that is started, where nobody says others.
    fn words(&self) -> Result<BTreeMap<String, String>, Usage> {
        let mut words = BTreeMap::new();
        let cache = broker::kafka::cache_folder(|name| std::env::var_os(name));
        if let Some(cache) = cache.filter(|_| self.broker == "kafka") {
            let settings = broker::kafka::Settings::new(PathBuf::new(), cache.clone());
            let version =
                self.broker_version.clone().unwrap_or_else(|| settings.version.to_string());
            let jars = cache.join(format!("kafka-{version}")).join("libs").join("*");
            words.insert("jars".to_owned(), jars.display().to_string());
        }
        for text in &self.with {
            let (word, value) = text
                .split_once('=')
                .ok_or_else(|| Usage(format!("--with {text}: expected WORD=VALUE")))?;
            words.insert(word.to_owned(), value.to_owned());
        }
        Ok(words)
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
    folder: story::ScratchFolder,
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
                Ok(Self { cluster, facts, versions: Arc::new(versions), folder })
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
