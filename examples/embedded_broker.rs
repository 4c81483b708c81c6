//! Starts an embedded broker and leaves it running: `embedded_broker [nodes] [transaction.version]`.

#![allow(clippy::print_stdout)] // The address is what it is started for.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fencepost::broker::embedded::{Config, Embedded, TransactionVersion};
use fencepost::world::{Chance, Clock};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let nodes = args.next().map_or(Ok(1), |n| n.parse())?;
    let transaction_version = match args.next().as_deref() {
        Some("1") => TransactionVersion::One,
        _ => TransactionVersion::Two,
    };
    let origin = Instant::now();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let clock = Clock::new(unix, move || origin.elapsed().as_nanos() as u64);
    let config = Config { nodes, transaction_version, ..Config::default() };
    let broker = Embedded::start(config, clock, Chance::from_seed(1)).await?;
    println!("bootstrap.servers={}", broker.bootstrap_servers());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
