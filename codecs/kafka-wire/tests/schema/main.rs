//! The schema table and what reads and writes with it, over every message and version it knows.

#![allow(clippy::unwrap_used)] // A test may stop.

mod allocations;
mod edits;
mod headers;
mod hostile;
mod live;
mod random;
mod round_trip;
mod typed;

use kafka_wire::schema::{self, Layout};

/// Every message at every version.
fn every_layout() -> impl Iterator<Item = &'static Layout> {
    schema::messages().flat_map(|message| {
        let versions = message.versions();
        (versions.min..=versions.max).map(|version| {
            message.layout(version).unwrap_or_else(|| panic!("{} v{version}", message.name()))
        })
    })
}

fn name(layout: &Layout) -> String {
    format!("{} v{}", layout.message().name(), layout.version())
}
