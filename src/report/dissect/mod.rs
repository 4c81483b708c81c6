//! Exchanges as JSON lines, or as tables over all of them.
//!
//! * [`lines`]: a sink that writes one object an exchange, in the order of the requests.
//! * [`order`]: lines that are ready before it is their turn.
//! * [`window`]: lines that come late are put where they belong.
//! * [`mod@line`]: what stands at the beginning of a line.
//! * [`bodies`]: bodies as JSON, and what is wrong with them; [`batches`] does their records.
//! * [`codes`]: the error codes of a response.
//! * [`names`]: names of topics beside their ids; [`sessions`]: what incremental fetches leave out.
//! * [`frame`]: single messages without a capture.
//! * [`totals`]: a sink that counts; [`tables`] is what it counted, as text.
//!
//! Never: opens a file, judges a broker.

pub mod batches;
pub mod bodies;
pub mod codes;
pub mod frame;
pub mod line;
pub mod lines;
pub mod names;
pub mod order;
pub mod sessions;
pub mod tables;
pub mod totals;
pub mod window;

pub use lines::{LineCounts, LineOptions, Lines};
pub use totals::{Totals, TotalsOptions};
