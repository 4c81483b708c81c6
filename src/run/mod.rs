//! One run from plan to record: seed, clock, faults in time, files.
//!
//! * [`plan`]: everything a run depends on, as a file that runs it again.
//! * [`properties`]: client properties under the names Kafka's users know.
//! * [`record`]: the run folder, written as things happen.
//! * [`story`]: the whole run in one function.
//! * `front`: a proxy in front of a cluster that speaks TLS.
//! * [`conversation`]: one conversation held with a broker, and judged.
//! * [`sweep`]: every order of a conversation's requests.
//! * [`nemesis`]: faults in time, each healed; [`target`]: whom the next one is done to.
//! * [`judge`]: reads what was recorded, from any file, and has it checked.
//! * [`annotate`](mod@annotate): a capture with the verdict as comments on its packets.
//! * [`listen`]: packets of an interface into capture files, until told to end.
//! * [`tcpdump`]: real tcpdump beside a run.
//! * [`replay`]: a capture's requests said again, the answers compared.
//! * [`clock`]: the machine's clock, made a value.
//!
//! Never: contains protocol or checking logic.

pub mod annotate;
pub mod clock;
pub mod conversation;
mod front;
pub mod judge;
pub mod listen;
mod merge;
pub mod nemesis;
mod packets;
pub mod plan;
pub mod properties;
pub mod record;
pub mod replay;
pub mod story;
pub mod sweep;
pub mod target;
pub mod tcpdump;

pub use plan::Plan;
pub use record::RunRecord;
