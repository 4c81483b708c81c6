//! Turns what a cluster says of itself into the line a run prints.

use std::collections::BTreeMap;
use std::fmt;

use kafka_wire::ApiKey;

use super::Node;

/// What a cluster says of itself once it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Its software with its version, as far as known: "Apache Kafka 4.3.0" of one that we
    /// started, "speaks like Apache Kafka 4.3" of one that only answered ApiVersions.
    pub software: String,
    /// Finalized features by name (KIP-584); a feature at level 0 is not listed.
    pub finalized_features: BTreeMap<String, i16>,
    /// The versions it serves of each API, lowest and highest.
    pub api_versions: BTreeMap<ApiKey, (i16, i16)>,
    /// The brokers in Metadata, ordered by `node_id`.
    pub nodes: Vec<Node>,
}

impl Facts {
    /// The finalized level of a feature; one that is not finalized is at level 0.
    #[must_use]
    pub fn feature(&self, name: &str) -> i16 {
        self.finalized_features.get(name).copied().unwrap_or(0)
    }

    /// The finalized `transaction.version` (KIP-890): from 2 on, transactions are of version 2.
    #[must_use]
    pub fn transaction_version(&self) -> i16 {
        self.feature("transaction.version")
    }
}

impl fmt::Display for Facts {
    /// "Apache Kafka 4.3.0, transaction.version 2, 3 nodes".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes.len();
        let plural = if nodes == 1 { "" } else { "s" };
        let version = self.transaction_version();
        write!(f, "{}, transaction.version {version}, {nodes} node{plural}", self.software)
    }
}

/// What tells releases of Apache Kafka apart on the wire: an API and version that this release
/// serves and the one before does not, as measured on each; newest first.
const FIRST_SERVED: &[(&str, ApiKey, i16)] = &[
    ("4.4", ApiKey::API_VERSIONS, 5),
    ("4.3", ApiKey::DESCRIBE_LOG_DIRS, 5),
    ("4.2", ApiKey::LIST_OFFSETS, 11),
    ("4.1", ApiKey::FETCH, 18),
    ("4.0", ApiKey::METADATA, 13),
    ("3.9", ApiKey::FETCH, 17),
    ("3.8", ApiKey::PRODUCE, 11),
    ("3.7", ApiKey::FETCH, 16),
];

/// The release of Apache Kafka whose ApiVersions look like these, absent where none does.
///
/// Not checked: that it is Apache Kafka at all; others answer like the release they imitate.
#[must_use]
pub fn speaks_like(api_versions: &BTreeMap<ApiKey, (i16, i16)>) -> Option<&'static str> {
    let serves = |key: &ApiKey, version: i16| {
        api_versions.get(key).is_some_and(|&(_, version_max)| version_max >= version)
    };
    let (release, ..) = FIRST_SERVED.iter().find(|(_, key, version)| serves(key, *version))?;
    Some(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_run_names_version_feature_and_nodes() {
        let mut facts = Facts { software: "Apache Kafka 3.9.1".into(), ..Facts::default() };
        assert_eq!(facts.to_string(), "Apache Kafka 3.9.1, transaction.version 0, 0 nodes");
        facts.finalized_features.insert("transaction.version".into(), 2);
        facts.nodes.push(Node { node_id: 1.into(), host: "127.0.0.1".into(), port: 1 });
        assert_eq!(facts.to_string(), "Apache Kafka 3.9.1, transaction.version 2, 1 node");
    }
}
