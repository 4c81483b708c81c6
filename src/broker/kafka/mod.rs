//! Real Apache Kafka on this machine: KRaft, every node both broker and controller.
//!
//! * [`settings`]: what is asked for; [`version`]: which releases there are.
//! * [`software`]: jars from Maven or an unpacked release, kept in a cache, as a class path.
//! * [`archive`]: the class-data archive that halves the start.
//! * [`properties`]: the configuration of a node; [`ports`]: addresses nobody else takes.
//! * [`driver`]: the cluster itself.
//!
//! Never: reads the environment; writes outside its folder and the cache.

mod archive;
mod driver;
mod java;
mod lock;
mod node;
mod ports;
mod properties;
mod settings;
mod software;
mod version;

pub use driver::Kafka;
pub use settings::{JVM_SMALL, JVM_THROUGHPUT, Settings, cache_folder, parse_property};
pub use software::provide as provide_software;
pub use version::Version;
