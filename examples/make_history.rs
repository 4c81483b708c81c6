//! Writes a simulated history of so many operations to standard output, for benches by hand:
//!
//! `make_history clean|faulty|knot OPERATIONS SEED edn|jsonl > FILE`
//!
//! What was put in wrong is said on standard error.

use std::io::{self, Write};

use fencepost::history::read::Format;
use fencepost::history::simulated::{Plan, Simulation};
use fencepost::history::write::write_event;
use fencepost::world::Chance;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse::<u64>().ok());
    let (Some(operations), Some(seed)) = (number(1), number(2)) else {
        return Err(io::Error::other(
            "usage: make_history clean|faulty|knot OPERATIONS SEED edn|jsonl",
        ));
    };
    let plan = match args[0].as_str() {
        "faulty" => Plan::faulty(operations),
        "knot" => Plan::knot(operations),
        _ => Plan::clean(operations),
    };
    let jsonl = args.get(3).is_some_and(|format| format == "jsonl");
    let format = if jsonl { Format::Jsonl } else { Format::Edn };
    let mut simulation = Simulation::new(plan, &Chance::from_seed(seed));
    let mut out = io::stdout().lock();
    let mut text = Vec::new();
    for event in simulation.by_ref() {
        write_event(&event, format, &mut text);
        if text.len() > 1 << 20 {
            out.write_all(&text)?;
            text.clear();
        }
    }
    out.write_all(&text)?;
    for (fault, count) in simulation.injected().filter(|(_, count)| *count > 0) {
        writeln!(io::stderr(), "{fault} {count}")?;
    }
    Ok(())
}
