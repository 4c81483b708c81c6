//! `fencepost scenario run`: conversations held one after the other, printed and kept.

use std::fmt::Write as _;

use super::{BrokerArguments, Brokers, RunArguments, find, runtime};
use crate::broker::{self, Facts};
use crate::cli::{Exit, Manner, OutputFormat, Usage, print};
use crate::client::Versions;
use crate::client::versions::TransactionVersion;
use crate::report::text;
use crate::run::conversation::{Judged, With};
use crate::run::{RunRecord, clock, story};
use crate::scenario::interpret::style_for;
use crate::scenario::operations::Meanings;
use crate::scenario::{Column, Conversation, Names, Style, chart};

/// Holds one scenario after the other.
pub(super) fn run(arguments: &RunArguments, manner: Manner) -> anyhow::Result<Exit> {
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
pub(super) async fn run_one(
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
    let words = arguments.brokers.words()?;
    let with = With {
        cluster: &*brokers.cluster,
        clock,
        style,
        column: arguments.brokers.column(style, &brokers.versions),
        versions: &brokers.versions,
        folder: brokers.folder.path(),
        words: &words,
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
    for (name, said) in &judged.held.programs {
        record.write(&format!("{name}.log"), said.as_bytes())?;
    }
    for log in brokers.cluster.logs() {
        let name = log.file_name().map(|name| name.to_string_lossy().into_owned());
        if let (Some(name), Ok(said)) = (name, std::fs::read(&log)) {
            record.write(&format!("logs/{name}"), &said)?;
        }
    }
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

pub(super) fn exit(judged: &Judged) -> Exit {
    match &judged.held.broken {
        Some(_) if judged.verdict.bad_types.is_empty() => Exit::Unknown,
        _ => crate::cli::check::exit(judged.verdict.valid),
    }
}

/// In which style a conversation is held.
pub(super) fn style(
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

pub(super) fn is_tv2(versions: &Versions) -> bool {
    versions.transaction_version() == TransactionVersion::V2
}

pub(super) fn head(conversation: &Conversation, with: &With<'_>, facts: &Facts) -> String {
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
pub(super) fn meaning(judged: &Judged) -> String {
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

pub(super) fn expected_line(
    conversation: &Conversation,
    column: Column,
    judged: &Judged,
) -> String {
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

pub(super) fn results(
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
