//! `fencepost broker NAME`: a broker left running for others.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgAction, Args};

use super::{Exit, Manner, Usage, print, say};
use crate::broker;
use crate::run::{Plan, clock, story};

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fencepost broker kafka --version 3.9.1\n  \
    fencepost broker kafka --nodes 3 --broker-property transaction.version=1\n\n\
    Prints bootstrap.servers=HOST:PORT,... once it is ready, and runs until Ctrl-C.")]
pub(crate) struct BrokerArguments {
    /// Which: embedded, kafka.
    name: String,
    /// Its version, such as 4.3.0 or 3.9.1.
    #[arg(long, visible_alias = "broker-version", value_name = "V")]
    version: Option<String>,
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    nodes: u16,
    /// A property of the brokers.
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append)]
    broker_property: Vec<String>,
    /// An unpacked Kafka release to run instead of Maven's jars.
    #[arg(long, value_name = "DIR")]
    kafka_home: Option<PathBuf>,
    /// Where the embedded broker keeps its journal, replayed at its next start.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where its files go; without it, a folder that is removed at the end.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Starts it, says where it is, and waits for Ctrl-C.
pub(crate) fn broker(arguments: &BrokerArguments, manner: Manner) -> anyhow::Result<Exit> {
    let mut plan = Plan::default();
    plan.broker.kind.clone_from(&arguments.name);
    plan.broker.version.clone_from(&arguments.version);
    plan.broker.nodes = arguments.nodes;
    plan.broker.kafka_home.clone_from(&arguments.kafka_home);
    plan.broker.data_dir.clone_from(&arguments.data_dir);
    for property in &arguments.broker_property {
        let (key, value) = broker::kafka::parse_property(property)
            .map_err(|error| Usage(format!("--broker-property: {error}")))?;
        plan.broker.properties.insert(key, value);
    }
    let own = match &arguments.folder {
        Some(_) => None,
        None => Some(story::ScratchFolder::new().context("cannot make a folder")?),
    };
    let folder = match (&arguments.folder, &own) {
        (Some(folder), _) => folder.clone(),
        (None, Some(own)) => own.path().to_owned(),
        (None, None) => unreachable!("one of the two is there"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        manner.detail(&format!("files in {}", folder.display()));
        let cluster = story::system_under_test(&plan, &folder, &clock::real())?;
        let facts = tokio::select! {
            facts = broker::bring_up(&*cluster) => facts?,
            _ = tokio::signal::ctrl_c() => {
                drop(broker::tear_down(&*cluster).await);
                return Ok(Exit::Valid);
            }
        };
        say(&facts.to_string());
        print(&format!("bootstrap.servers={}", cluster.bootstrap()));
        story::until_told_to_end().await;
        tokio::time::timeout(Duration::from_secs(30), broker::tear_down(&*cluster))
            .await
            .context("the broker did not stop within 30 s")??;
        Ok(Exit::Valid)
    })
}
