//! `fencepost scenario sweep`: every order of a conversation, printed as a matrix and kept.

use super::run::{is_tv2, style};
use super::{Brokers, SweepArguments, find, runtime};
use crate::broker::{self, Facts};
use crate::cli::{Exit, Manner, OutputFormat, print, say};
use crate::run::sweep::{Sweep, Swept, matrix};
use crate::run::{RunRecord, clock, story};
use crate::scenario::{Conversation, Style, chart, library};

/// Sweeps one conversation after the other.
pub(super) fn sweep(arguments: &SweepArguments, manner: Manner) -> anyhow::Result<Exit> {
    let all: Vec<Conversation> = match arguments.names.iter().any(|name| name == "all") {
        // Those with faults need brokers of their own, and minutes.
        true => library::sweeps()?.into_iter().filter(|sweep| !sweep.hurts_brokers()).collect(),
        false => arguments.names.iter().map(|name| find(name)).collect::<Result<_, _>>()?,
    };
    let nodes = all.iter().map(|conversation| conversation.nodes).max().unwrap_or(1);
    let kafka = all.iter().flat_map(|conversation| conversation.kafka.clone()).collect();
    let plan = arguments.brokers.plan_with("sweep", nodes, &kafka)?;
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
pub(super) async fn sweep_one(
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
            folder: brokers.folder.path().to_owned(),
            words: arguments.brokers.words()?,
            at_a_time: if conversation.hurts_brokers() { 1 } else { arguments.at_a_time },
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
pub(super) fn keep_sweep(
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
    let drawn = matrix(&swept.rows);
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
    record.write("matrix.txt", drawn.as_bytes())?;
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
    print(&drawn);
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
