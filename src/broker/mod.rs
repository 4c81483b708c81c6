//! The system under test: provisioned, started, killed, paused, cut off; or the embedded
//! reference broker.
//!
//! * [`cluster`]: the trait every system under test has, and how one is brought up and torn down.
//! * [`kafka`]: real Apache Kafka on this machine, from Maven or from an unpacked release.
//! * [`embedded`]: the reference broker in this process.
//! * [`in_process`]: the embedded broker as a system under test.
//! * [`external`]: a cluster that already runs.
//! * [`facts`]: what a cluster says of itself: version, finalized features.
//! * [`probe`]: the few questions that tell whether a cluster is ready.
//! * [`process`]: children that die with the tool.
//!
//! Never: knows the workload.

pub mod cluster;
pub mod embedded;
pub mod error;
pub mod external;
pub mod facts;
pub mod in_process;
pub mod kafka;
pub mod probe;
pub mod process;

pub use cluster::{Cluster, Node, Step, bring_up, tear_down};
pub use error::{BrokerError, LogTail};
pub use external::External;
pub use facts::Facts;
pub use in_process::InProcess;
pub use kafka::Kafka;
