//! `fencepost proxy`: stands between any client and any cluster until Ctrl-C.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{ArgAction, Args};
use serde_json::json;
use tokio::net::TcpListener;

use super::tls::{self, BrokerTlsArguments, ListenTlsArguments};
use super::{Exit, Manner, OutputFormat, Usage, print, say};
use crate::capture::{PcapngTap, Recorded};
use crate::history::tap::Tap;
use crate::proxy::control::{Control, serve};
use crate::proxy::rule::{Board, Class, Listed, Phase, Rule, Rules, file::from_toml};
use crate::proxy::{self, Endpoint, Listen, Plan, Proxy, ProxyError, Total};
use crate::report::text::grouped;
use crate::run::{clock, listen, story};
use crate::world::Chance;

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fencepost proxy --bootstrap-server localhost:9092 \
    --capture wire.pcapng\n  fencepost proxy --bootstrap-server localhost:9092 \
    --rule 'hold EndTxn request nth=2 for=5s'\n  fencepost proxy --bootstrap-server b1:9092,b2:9092 \
    --listen 127.0.0.1:19092 --rules faults.toml --seed 7\n  fencepost proxy \
    --bootstrap-server b1:9093 --tls-ca ca.pem --listen-tls-cert proxy.pem\n\n\
    Prints bootstrap.servers=HOST:PORT,... once it listens: one port for each broker, those that \
    responses name included. Ctrl-C ends it with a summary. Rules: docs/RULES.md.")]
pub(crate) struct ProxyArguments {
    /// The brokers to begin with; those that responses name follow by themselves.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', required = true)]
    bootstrap_server: Vec<Endpoint>,
    /// Where to listen. The first broker gets this port and each other one the next that is free;
    /// 0 takes free ones.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: Endpoint,
    /// Listen where other machines can reach it.
    #[arg(long)]
    expose: bool,
    /// The host that clients are told instead of the address.
    #[arg(long, value_name = "HOST")]
    advertised_host: Option<String>,
    /// A rule; as often as there are rules.
    #[arg(long, value_name = "TEXT", action = ArgAction::Append)]
    rule: Vec<String>,
    /// A TOML file of rules, behind those of --rule.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// A pcapng file of all that clients said and heard.
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    /// Where the chance of rules comes from; without it, a fresh one.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where rules can be listed, added, removed and released over HTTP while it runs, such as
    /// 127.0.0.1:8474.
    #[arg(long, value_name = "HOST:PORT")]
    control: Option<Endpoint>,
    /// Threads that serve connections.
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,
    #[command(flatten)]
    broker_tls: BrokerTlsArguments,
    #[command(flatten)]
    listen_tls: ListenTlsArguments,
}

impl ProxyArguments {
    fn plan(&self, now_s: i64) -> anyhow::Result<Plan> {
        let address = loopback("--listen", &self.listen, self.expose)?;
        if address.is_unspecified() && self.advertised_host.is_none() {
            let text = "--listen on every address needs --advertised-host: what clients are told";
            return Err(Usage(text.into()).into());
        }
        Ok(Plan {
            tls: tls::read(&self.broker_tls, &self.listen_tls, now_s)?,
            troubles: tls::tell_troubles(),
            listen: Listen {
                address,
                port: self.listen.port,
                advertised_host: self.advertised_host.clone(),
                ..Listen::default()
            },
            workers: self.workers,
            ..Plan::to(self.bootstrap_server.clone())
        })
    }
}

/// The rules of `--rule` and `--rules`, in their order.
pub(super) fn read_rules(texts: &[String], file: Option<&Path>) -> anyhow::Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for text in texts {
        let rule = text.parse::<Rule>();
        rules.push(rule.map_err(|error| Usage(format!("--rule {text:?}: {error}")))?);
    }
    if let Some(file) = file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let more = from_toml(&text)
            .map_err(|error| Usage(format!("--rules {}: {error}", file.display())))?;
        rules.extend(more);
    }
    Ok(rules)
}

/// The address to listen at, which is this machine's own unless it is to be exposed.
pub(super) fn loopback(flag: &str, listen: &Endpoint, expose: bool) -> Result<IpAddr, Usage> {
    let resolved = (listen.host.as_str(), listen.port).to_socket_addrs();
    let address = resolved.ok().and_then(|mut all| all.next()).as_ref().map(SocketAddr::ip);
    match address {
        None => Err(Usage(format!("{flag} {listen}: no such host"))),
        Some(address) if address.is_loopback() || expose => Ok(address),
        Some(_) => Err(Usage(format!(
            "{flag} {listen}: others could reach it; --expose says that this is meant"
        ))),
    }
}

/// Passes on until Ctrl-C, and says what came of it.
pub(crate) fn proxy(arguments: &ProxyArguments, manner: Manner) -> anyhow::Result<Exit> {
    let clock = clock::real();
    let plan = arguments.plan(clock.unix_ms() / 1000)?;
    let seed = arguments.seed.unwrap_or_else(clock::fresh_seed);
    let mut rules = Rules::new(Chance::from_seed(seed));
    for rule in read_rules(&arguments.rule, arguments.rules.as_deref())? {
        let text = rule.to_string();
        rules.add(rule).map_err(|error| Usage(format!("rule {text:?}: {error}")))?;
    }
    let board = Board::watched(rules, move |act| {
        let over = if act.phase == Phase::Ended { ": over" } else { "" };
        let colon = if act.detail.is_empty() { "" } else { ": " };
        let id = act.fired.connection.0;
        manner.detail(&format!("connection {id}: {}{over}{colon}{}", act.fired, act.detail));
    });
    let capture = match &arguments.capture {
        None => None,
        Some(file) => {
            let tap = PcapngTap::new(listen::numbered(file.clone(), None), u64::MAX);
            let tap = tap.with_context(|| format!("cannot write {}", file.display()))?;
            Some(Arc::new(tap))
        }
    };
    let tap = capture.clone().map(|tap| tap as Arc<dyn Tap>);
    let proxy = proxy::start(plan, Arc::new(board), tap, clock);
    let proxy = proxy.map_err(|error| match error {
        ProxyError::NoBroker => anyhow::Error::new(Usage("--bootstrap-server: no broker".into())),
        error => error.into(),
    })?;
    manner.detail(&format!("seed {seed}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let control = match &arguments.control {
        None => None,
        Some(at) => {
            let address = loopback("--control", at, arguments.expose)?;
            let listener = runtime.block_on(TcpListener::bind((address, at.port)));
            Some(listener.with_context(|| format!("the control cannot listen on {at}"))?)
        }
    };
    print(&format!("bootstrap.servers={}", proxy.bootstrap()));
    if let Some(listener) = &control {
        print(&format!("control=http://{}", listener.local_addr()?));
    }
    let proxy = Arc::new(proxy);
    runtime.block_on(until_told_to_end(&proxy, control));
    // What shares it was dropped with the control.
    let proxy = Arc::into_inner(proxy).context("the control still holds the proxy")?;
    let (board, doors) = (proxy.rules().clone(), proxy.doors().len());
    let total = proxy.stop();
    let recorded = capture.map(|capture| capture.finish()).transpose();
    tell(&board, total, doors, seed, manner)?;
    tell_capture(arguments, recorded.context("the capture is not complete")?);
    Ok(Exit::Valid)
}

/// Waits for the end; serves the control meanwhile, if there is one.
async fn until_told_to_end(proxy: &Arc<Proxy>, control: Option<TcpListener>) {
    let Some(listener) = control else { return story::until_told_to_end().await };
    let counted = proxy.clone();
    let total = Arc::new(move || counted.total());
    let control = Control { board: proxy.rules().clone(), total };
    tokio::select! {
        () = story::until_told_to_end() => {}
        () = serve(listener, control) => {}
    }
}

fn tell(
    board: &Board,
    total: Total,
    doors: usize,
    seed: u64,
    manner: Manner,
) -> anyhow::Result<()> {
    let rules = board.list();
    let forged = board.fired(Class::Forgery) > 0;
    if manner.format == OutputFormat::Json {
        let rules: Vec<_> = rules.iter().map(rule_as_json).collect();
        print(&serde_json::to_string(&json!({
            "connections": total.connections,
            "unreachable": total.unreachable,
            "handshakes_failed": total.handshakes_failed,
            "listeners": doors,
            "request_bytes": total.traffic.bytes[0],
            "response_bytes": total.traffic.bytes[1],
            "request_frames": total.traffic.frames[0],
            "response_frames": total.traffic.frames[1],
            "rules": rules,
            "forged": forged,
            "seed": seed,
        }))?);
        return Ok(());
    }
    print(&format!("{} connections through {doors} listeners", grouped(total.connections)));
    if total.unreachable > 0 {
        let count = grouped(total.unreachable);
        print(&format!("{count} connections ended at once: their broker could not be reached"));
    }
    if total.handshakes_failed > 0 {
        let count = grouped(total.handshakes_failed);
        print(&format!("{count} connections ended at once: their TLS handshake failed"));
    }
    for (what, way) in [("requests", 0), ("responses", 1)] {
        let (frames, bytes) = (total.traffic.frames[way], total.traffic.bytes[way]);
        print(&format!("{:>15} {what:<9} {:>18} bytes", grouped(frames), grouped(bytes)));
    }
    for Listed { rule, matched, fired, .. } in &rules {
        let what = match fired {
            0 => format!("never fired; {} frames matched", grouped(*matched)),
            1 => "fired once".to_owned(),
            fired => format!("fired {} times", grouped(*fired)),
        };
        print(&format!("{}: {what}: {rule}", rule.name));
    }
    if forged {
        print("a forgery fired: what brokers made of it is not held against them");
    }
    if !rules.is_empty() {
        print(&format!("seed {seed}"));
    }
    Ok(())
}

fn rule_as_json(Listed { rule, matched, fired, .. }: &Listed) -> serde_json::Value {
    json!({
        "name": rule.name,
        "rule": rule.to_string(),
        "class": rule.action.class().name(),
        "matched": matched,
        "fired": fired,
    })
}

fn tell_capture(arguments: &ProxyArguments, recorded: Option<Recorded>) {
    if let (Some(file), Some(recorded)) = (&arguments.capture, recorded) {
        let (packets, bytes) = (grouped(recorded.packets), grouped(recorded.bytes));
        say(&format!("{}: {packets} packets, {bytes} bytes", file.display()));
    }
}
