//! Everything a run depends on, as a file that runs it again: `test --plan plan.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::proxy::BrokerTls;
use crate::workload::SubVia;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// Where run folders go.
    pub store: PathBuf,
    /// The system under test.
    pub broker: BrokerPlan,
    /// What is done to it.
    pub workload: WorkloadPlan,
    /// How our client behaves.
    pub client: ClientPlan,
    /// What is judged.
    pub check: CheckPlan,
    /// What is recorded of the wire.
    pub capture: CapturePlan,
    /// What the proxy between workload and brokers does.
    pub proxy: ProxyPlan,
    /// Faults in time.
    pub nemesis: NemesisPlan,
}

/// The system under test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerPlan {
    /// `embedded`, `kafka`, or `external` where addresses were given.
    pub kind: String,
    /// Which version; absent means the driver's default.
    pub version: Option<String>,
    /// How many nodes.
    pub nodes: u16,
    /// Addresses of a cluster that already runs.
    pub bootstrap_server: Option<String>,
    /// How TLS is spoken to them; absent means that it is not.
    pub tls: Option<BrokerTls>,
    /// Broker properties.
    pub properties: BTreeMap<String, String>,
    /// An unpacked release to run from.
    pub kafka_home: Option<PathBuf>,
    /// A bug planted in the embedded broker.
    pub bug: Option<String>,
    /// Where the embedded broker keeps its journal; absent means in memory only.
    pub data_dir: Option<PathBuf>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkloadPlan {
    /// `queue`.
    pub name: String,
    /// Processes at a time.
    pub concurrency: u32,
    /// Seconds of the main phase.
    pub time_limit_s: f64,
    /// Seconds the final polls may take.
    pub final_time_limit_s: f64,
    /// Operations a second over all processes; 0 means as fast as answers come.
    pub rate_hz: f64,
    /// Whether operations are transactions.
    pub txn: bool,
    /// Chance of an intended abort at each point.
    pub abort_p: f64,
    /// Chance that an operation is replaced by an assign or subscribe.
    pub sub_p: f64,
    /// Ways to bind a consumer.
    pub sub_via: Vec<SubVia>,
    /// Values sent to one key before another takes its place.
    pub max_writes_per_key: u32,
    /// Whether processes crash on purpose.
    pub crash_clients: bool,
    /// Seconds between the crashes of one process.
    pub crash_client_interval_s: f64,
    /// Whether crashed processes come back as zombies: see `--zombies`.
    pub zombies: bool,
    /// Milliseconds a poll of the main phase waits for records.
    pub poll_wait_ms: u64,
    /// Processes that read everything back at the end.
    pub final_readers: u32,
    /// Whether each send waits for its own acknowledgement, as Jepsen's client does.
    pub one_in_flight: bool,
    /// Replicas of each topic; −1 for the broker's default.
    pub replication_factor: i16,
}

/// How our client behaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientPlan {
    /// `all`, `1` or `0`.
    pub acks: String,
    /// Attempts after the first; absent means until the delivery timeout.
    pub retries: Option<u32>,
    /// Whether batches carry sequences.
    pub idempotence: bool,
    /// `read_committed` or `read_uncommitted`.
    pub isolation_level: String,
    /// `earliest`, `latest` or `none`.
    pub auto_offset_reset: String,
    /// Whether consumers commit on their own.
    pub enable_auto_commit: bool,
    /// `delivery.timeout.ms`.
    pub delivery_timeout_ms: u64,
    /// `request.timeout.ms`.
    pub request_timeout_ms: u64,
    /// `transaction.timeout.ms`.
    pub transaction_timeout_ms: i32,
    /// `compression.type`.
    pub compression_type: String,
    /// `group.protocol`: `classic` or `consumer` (KIP-848).
    pub group_protocol: String,
    /// Transactions of version 1 even where the broker has version 2: an old client.
    pub old_style: bool,
}

/// What is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckPlan {
    /// Whether write-write edges are inferred from offsets.
    pub ww_deps: bool,
    /// Anomalies that are reported but not bad.
    pub ignore_queue_errors: Vec<String>,
    /// Cases shown of each anomaly; 0 is all.
    pub anomalies_max: usize,
}

/// What is recorded of the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CapturePlan {
    /// `own`, `tcpdump` (beside our own, and judged in its place) or `off`.
    pub mode: String,
    /// Bytes of one capture file before the next begins.
    pub bytes_max: u64,
}

/// What the proxy between workload and brokers does. Without rules and without faults of the wire
/// there is none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyPlan {
    /// Rules, each on one line: `docs/RULES.md`.
    pub rules: Vec<String>,
    /// Where rules are listed, added and taken away over HTTP while the run lasts.
    pub control: Option<String>,
}

/// Faults in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NemesisPlan {
    /// Which: `wire`, `kill`, `pause`, `cut`; none without.
    pub faults: Vec<String>,
    /// Seconds that faults last, about, and as long from one to the next at most.
    pub interval_s: f64,
    /// Seconds after which another mixture of faults is drawn; 0 keeps all of them all the time.
    pub stable_period_s: f64,
    /// Which nodes: `one`, `majority`, `all`, `leader`, `coordinator`.
    pub targets: Vec<String>,
}

impl Default for NemesisPlan {
    fn default() -> Self {
        Self {
            faults: Vec::new(),
            interval_s: 15.0,
            stable_period_s: 0.0,
            targets: vec!["one".into(), "all".into()],
        }
    }
}

impl NemesisPlan {
    /// Whether a fault is asked for.
    #[must_use]
    pub fn has(&self, fault: &str) -> bool {
        self.faults.iter().any(|name| name == fault)
    }
}

impl Default for Plan {
    /// What `fencepost test` does without arguments: safe, on the embedded broker.
    fn default() -> Self {
        Self {
            seed: 0,
            store: "store".into(),
            broker: BrokerPlan {
                kind: "embedded".into(),
                version: None,
                nodes: 1,
                bootstrap_server: None,
                tls: None,
                properties: BTreeMap::new(),
                kafka_home: None,
                bug: None,
                data_dir: None,
            },
            workload: WorkloadPlan {
                name: "queue".into(),
                concurrency: 10,
                time_limit_s: 60.0,
                final_time_limit_s: 200.0,
                rate_hz: 0.0,
                txn: true,
                abort_p: 0.1,
                sub_p: 0.015625,
                sub_via: vec![SubVia::Assign],
                max_writes_per_key: 1024,
                crash_clients: false,
                crash_client_interval_s: 30.0,
                zombies: false,
                poll_wait_ms: 0,
                final_readers: 2,
                one_in_flight: false,
                replication_factor: -1,
            },
            client: ClientPlan {
                acks: "all".into(),
                retries: None,
                idempotence: true,
                isolation_level: "read_committed".into(),
                auto_offset_reset: "earliest".into(),
                enable_auto_commit: false,
                delivery_timeout_ms: 10_000,
                request_timeout_ms: 3_000,
                transaction_timeout_ms: 5_000,
                compression_type: "none".into(),
                group_protocol: "classic".into(),
                old_style: false,
            },
            check: CheckPlan { ww_deps: true, ignore_queue_errors: Vec::new(), anomalies_max: 8 },
            capture: CapturePlan { mode: "own".into(), bytes_max: 1 << 30 },
            proxy: ProxyPlan::default(),
            nemesis: NemesisPlan::default(),
        }
    }
}

/// What a file of an earlier version does not say is as in the default plan.
macro_rules! part_of_the_default {
    ($($part:ident $field:ident)*) => {
        $(impl Default for $part {
            fn default() -> Self {
                Plan::default().$field
            }
        })*
    };
}

part_of_the_default! {
    BrokerPlan broker
    WorkloadPlan workload
    ClientPlan client
    CheckPlan check
    CapturePlan capture
}

impl Plan {
    /// Whether a proxy stands between the workload and the brokers: rules, a control of them, or
    /// faults of the wire ask for it.
    #[must_use]
    pub fn has_proxy(&self) -> bool {
        let is_asked = !self.proxy.rules.is_empty() || self.proxy.control.is_some();
        is_asked || self.nemesis.has("wire") || self.nemesis.has("cut")
    }

    /// The name of the folder runs like this one share: workload and broker.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.workload.name, self.broker.kind)
    }

    /// As `plan.toml`.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a plan has only what TOML can express")
    }

    /// Reads a `plan.toml`.
    ///
    /// # Errors
    /// With line and column where it is not a plan.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_back_as_it_was() {
        let mut plan = Plan { seed: 77, ..Plan::default() };
        plan.broker.properties.insert("transaction.version".into(), "1".into());
        plan.client.retries = Some(3);
        plan.proxy.rules.push("hold EndTxn request client-id=\"a b\"".into());
        plan.nemesis.faults.push("wire".into());
        assert_eq!(Plan::from_toml(&plan.to_toml()).expect("a plan reads"), plan);
    }

    #[test]
    fn what_an_earlier_version_did_not_write_is_as_by_default() {
        let plan = Plan { seed: 77, ..Plan::default() };
        let text = plan.to_toml();
        let older: String = text
            .lines()
            .filter(|line| !line.starts_with("final_readers") && !line.starts_with("old_style"))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert!(older.len() < text.len());
        assert_eq!(Plan::from_toml(&older).expect("an older plan reads"), plan);
        assert_eq!(Plan::from_toml("seed = 77").expect("a short plan reads"), plan);
    }

    #[test]
    fn an_unknown_field_is_an_error_with_its_line() {
        let text = Plan::default().to_toml().replace("abort_p", "abort_q");
        let error = Plan::from_toml(&text).expect_err("abort_q is unknown").to_string();
        assert!(error.contains("abort_q") && error.contains("line"), "{error}");
    }
}
