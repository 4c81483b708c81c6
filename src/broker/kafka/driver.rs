//! The cluster itself: nodes placed, software found, processes told what to do.

use std::ffi::OsString;
use std::path::PathBuf;
use std::pin::Pin;

use kafka_wire::ids::NodeId;
use rand::Rng;
use tokio::sync::OnceCell;

use super::java::{self, Java, flag};
use super::node::KafkaNode;
use super::ports::{self, HeldPort};
use super::properties::{Place, server_properties};
use super::software::{self, Software};
use super::{Settings, Version, archive};
use crate::broker::cluster::{all, first};
use crate::broker::probe::{Readiness, wait_until_ready};
use crate::broker::process::Signal;
use crate::broker::{BrokerError, Cluster, Facts, LogTail, Node, Step};
use crate::world::Chance;

/// Real Apache Kafka: KRaft, every node broker and controller. Dropped, it kills its nodes and
/// removes their data.
#[derive(Debug)]
pub struct Kafka {
    settings: Settings,
    /// "Apache Kafka 4.3.0".
    who: String,
    cluster_id: String,
    nodes: Vec<KafkaNode>,
    places: Vec<Place>,
    archive: Archive,
    /// Given beforehand where an archive is made of it.
    software: Option<Software>,
    provisioned: OnceCell<Provisioned>,
    _ports: Vec<HeldPort>,
}

#[derive(Debug)]
struct Provisioned {
    software: Software,
    java: Java,
}

/// What is done about an archive of classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Archive {
    /// Started with the one in the cache, which is made where there is none.
    Use,
    /// Started to write it.
    Write(PathBuf),
    /// Started without.
    Without,
}

/// The pseudo-property that is a feature (KIP-890) and not a line of `server.properties`.
const TRANSACTION_VERSION: &str = "transaction.version";
/// Where node 1 has 127.0.0.1, and every node a heap.
const NODES_MAX: u16 = 15;

impl Kafka {
    /// Places a cluster: addresses are taken, nothing is started. The cluster id is drawn from
    /// `chance`.
    ///
    /// # Errors
    /// Where the settings make no sense together, or no port is free.
    pub fn new(settings: Settings, chance: &Chance) -> Result<Self, BrokerError> {
        let archive = if settings.archive { Archive::Use } else { Archive::Without };
        Self::place(settings, None, archive, chance)
    }

    /// Places a cluster of software that is already there.
    pub(super) fn of_software(
        settings: Settings,
        software: Software,
        archive: Archive,
        chance: &Chance,
    ) -> Result<Self, BrokerError> {
        Self::place(settings, Some(software), archive, chance)
    }

    fn place(
        mut settings: Settings,
        software: Option<Software>,
        archive: Archive,
        chance: &Chance,
    ) -> Result<Self, BrokerError> {
        let who = match &settings.home {
            Some(home) => format!("Apache Kafka in {}", home.display()),
            None => format!("Apache Kafka {}", settings.version),
        };
        let broken = |what: String| {
            let who = who.clone();
            move |source| BrokerError::Io { who, doing: "be placed", what, source }
        };
        check_nodes(&who, settings.nodes)?;
        settings.folder = std::path::absolute(&settings.folder)
            .map_err(broken(settings.folder.display().to_string()))?;
        let mut ports = Vec::new();
        let mut places = Vec::new();
        let mut nodes = Vec::new();
        for number in 1..=settings.nodes {
            let last = u8::try_from(number).expect("checked to be few");
            let hold = || ports::hold(last).map_err(broken(format!("127.0.0.{last}")));
            let (port, controller) = (hold()?, hold()?);
            places.push(Place {
                node_id: number.into(),
                host: port.address.to_string(),
                port: port.port,
                controller_port: controller.port,
            });
            ports.extend([port, controller]);
            let folder = settings.folder.join(format!("node-{number}"));
            nodes.push(KafkaNode {
                who: format!("{who} node {number}"),
                data: folder.join("data"),
                log: settings.folder.join(format!("node-{number}.log")),
                folder,
                child: tokio::sync::Mutex::new(None),
            });
        }
        Ok(Self {
            cluster_id: cluster_id(chance),
            who,
            settings,
            nodes,
            places,
            archive,
            software,
            provisioned: OnceCell::new(),
            _ports: ports,
        })
    }

    fn node(&self, node_id: NodeId) -> Result<&KafkaNode, BrokerError> {
        let index = usize::try_from(node_id.0).ok().and_then(|id| id.checked_sub(1));
        index.and_then(|index| self.nodes.get(index)).ok_or_else(|| BrokerError::Refused {
            who: self.who.clone(),
            doing: "be told anything about one node",
            reason: format!("it has no node {node_id}"),
        })
    }

    async fn provision_once(&self) -> Result<&Provisioned, BrokerError> {
        self.provisioned
            .get_or_try_init(|| async {
                let software = match &self.software {
                    Some(software) => software.clone(),
                    None => software::provide(&self.settings).await?,
                };
                let java = self.java(&software).await?;
                self.format(&software, &java).await?;
                Ok(Provisioned { software, java })
            })
            .await
    }

    /// How Java is called: flags, archive, class path.
    async fn java(&self, software: &Software) -> Result<Java, BrokerError> {
        let program = self.settings.java.clone();
        let jvm = java::version(&self.who, &program).await?;
        let mut flags: Vec<OsString> = self.settings.jvm.iter().map(OsString::from).collect();
        flags.extend(software.logging.iter().cloned());
        let archive = match &self.archive {
            Archive::Use => archive::provide(&self.settings, software, &jvm).await,
            Archive::Write(_) | Archive::Without => None,
        };
        if let Some(path) = archive {
            flags.push(flag("-XX:SharedArchiveFile=", &path));
            // Where the JVM finds it unfit after all, it says so once and goes on.
            flags.push("-Xshare:auto".into());
        }
        flags.extend(["-cp".into(), software.class_path()]);
        Ok(Java { program, flags })
    }

    async fn format(&self, software: &Software, java: &Java) -> Result<(), BrokerError> {
        let (features, properties) = self.split_properties(software.version)?;
        let mut steps: Vec<Step<'_>> = Vec::new();
        for (node, place) in self.nodes.iter().zip(&self.places) {
            let data = node.data.to_str().filter(|path| !path.contains(','));
            let data = data.ok_or_else(|| BrokerError::Refused {
                who: self.who.clone(),
                doing: "be configured",
                reason: format!("{} has a comma or is not UTF-8", node.data.display()),
            })?;
            let text = server_properties(software.version, place, &self.places, data, &properties);
            let features = &features;
            steps.push(Box::pin(async move {
                node.format(java, &text, &self.cluster_id, features).await
            }));
        }
        all(steps).await
    }

    /// Waits until the process of any node ends.
    async fn first_death(&self) -> BrokerError {
        let death = |node| -> Pin<Box<dyn Future<Output = BrokerError> + Send + '_>> {
            Box::pin(KafkaNode::died_early(node))
        };
        first(self.nodes.iter().map(death).collect()).await
    }

    /// The error with what the first node said last.
    fn with_log(&self, mut error: BrokerError) -> BrokerError {
        if let (BrokerError::TimedOut { log, .. }, Some(node)) = (&mut error, self.nodes.first()) {
            *log = LogTail::read(&node.log);
        }
        error
    }

    /// The features among the properties, and the rest.
    #[expect(clippy::type_complexity, reason = "two lists of the same pairs")]
    fn split_properties(
        &self,
        version: Version,
    ) -> Result<(Vec<(String, String)>, Vec<(String, String)>), BrokerError> {
        let (mut features, properties): (Vec<_>, Vec<_>) = self
            .settings
            .properties
            .iter()
            .cloned()
            .partition(|(key, _)| key == TRANSACTION_VERSION);
        // The last one counts, as of properties.
        let level = features.pop();
        let Some((_, level)) = &level else { return Ok((Vec::new(), properties)) };
        // Measured: 3.9 knows the feature at level 0 alone, 3.8 ignores it, 3.7 refuses the flag.
        let before = version < Version::new(4, 0, 0);
        match (level.as_str(), before) {
            ("0", true) => Ok((Vec::new(), properties)),
            ("0" | "1" | "2", false) => {
                Ok((vec![(TRANSACTION_VERSION.into(), level.clone())], properties))
            }
            _ => Err(BrokerError::Refused {
                who: self.who.clone(),
                doing: "be configured",
                reason: format!(
                    "transaction.version {level} is unknown to {version} ({})",
                    if before { "0 alone before 4.0" } else { "0, 1 and 2 are known" }
                ),
            }),
        }
    }
}

fn check_nodes(who: &str, nodes: u16) -> Result<(), BrokerError> {
    if (1..=NODES_MAX).contains(&nodes) {
        return Ok(());
    }
    Err(BrokerError::Refused {
        who: who.to_owned(),
        doing: "be placed",
        reason: format!("{nodes} nodes are not between 1 and {NODES_MAX}"),
    })
}

/// 16 random bytes in base64 for URLs, without padding: 22 characters, the first of which must
/// not be a dash (it would look like a flag to the storage tool).
fn cluster_id(chance: &Chance) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; 16];
    chance.stream("broker.cluster-id").fill_bytes(&mut bytes);
    bytes[0] &= 0x7f; // The alphabet's first half has no dash.
    let bits = u128::from_be_bytes(bytes);
    let digit = |at: u32| {
        // 128 bits are 21 whole digits of six, and two bits more, to be filled up with zeros.
        let six = if at < 21 { bits >> (128 - 6 * (at + 1)) } else { bits << 4 };
        char::from(ALPHABET[(six & 0x3f) as usize])
    };
    (0..22).map(digit).collect()
}

impl Cluster for Kafka {
    fn nodes(&self) -> Vec<Node> {
        let node = |place: &Place| Node {
            node_id: NodeId(place.node_id),
            host: place.host.clone(),
            port: place.port,
        };
        self.places.iter().map(node).collect()
    }

    fn is_ours(&self) -> bool {
        true
    }

    fn provision(&self) -> Step<'_> {
        Box::pin(async { self.provision_once().await.map(|_| ()) })
    }

    fn start(&self, node_id: NodeId) -> Step<'_> {
        Box::pin(async move {
            let node = self.node(node_id)?;
            let provisioned = self.provision_once().await?;
            let mut java = provisioned.java.clone();
            if let Archive::Write(path) = &self.archive {
                java.flags.insert(0, flag("-XX:ArchiveClassesAtExit=", path));
            }
            node.start(&java).await
        })
    }

    fn ready(&self) -> Step<'_, Facts> {
        Box::pin(async {
            let readiness = Readiness {
                nodes_expected: Some(self.nodes.len()),
                transactions: true,
                timeout: self.settings.ready_timeout,
            };
            let bootstrap = self.nodes();
            let mut facts = tokio::select! {
                died = self.first_death() => Err(died),
                answered = wait_until_ready(&self.who, &bootstrap, &readiness) => {
                    answered.map_err(|error| self.with_log(error))
                }
            }?;
            facts.software = match self.provisioned.get() {
                Some(provisioned) => format!("Apache Kafka {}", provisioned.software.version),
                None => facts.software,
            };
            Ok(facts)
        })
    }

    fn stop(&self, node_id: NodeId) -> Step<'_> {
        Box::pin(async move { self.node(node_id)?.end(Some(self.settings.stop_timeout)).await })
    }

    fn kill(&self, node_id: NodeId) -> Step<'_> {
        Box::pin(async move { self.node(node_id)?.end(None).await })
    }

    fn pause(&self, node_id: NodeId) -> Step<'_> {
        Box::pin(async move { self.node(node_id)?.tell(Signal::Stop, "be paused").await })
    }

    fn resume(&self, node_id: NodeId) -> Step<'_> {
        Box::pin(async move { self.node(node_id)?.tell(Signal::Cont, "be resumed").await })
    }

    fn logs(&self) -> Vec<PathBuf> {
        self.nodes.iter().map(|node| node.log.clone()).collect()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // Killed and waited for before its data goes.
            drop(node.child.get_mut().take());
            if !self.settings.keep_data {
                let _ = std::fs::remove_dir_all(&node.data);
            }
        }
    }
}
