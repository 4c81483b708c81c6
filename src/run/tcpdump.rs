//! Real tcpdump beside a run: what an eye that is not ours saw of it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::broker::Node;
use crate::broker::process::{Child, Launch, Signal};

/// The file that tcpdump writes into the run folder. Its name ends as tcpdump's confinement on
/// Debian and Ubuntu wants it.
pub const FILE: &str = "tcpdump.pcap";
const LOG: &str = "tcpdump.log";

/// How often its log and its file are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Looks until it must have begun.
const BEGIN_LOOKS_MAX: u32 = 100;
/// Looks at a file that does not grow after which everything is in it. The kernel hands packets
/// over once a second at the latest.
const STILL_LOOKS: u32 = 12;
/// Looks after which it is ended all the same.
const END_LOOKS_MAX: u32 = 150;

/// Why tcpdump is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TcpdumpError {
    /// It does not start.
    #[error("cannot start tcpdump (is it installed?)")]
    Start(#[source] io::Error),
    /// It ended, or never began to listen.
    #[error("tcpdump does not capture: {0}")]
    Refused(String),
    /// It cannot be told to end.
    #[error("cannot end tcpdump")]
    End(#[source] io::Error),
}

/// A tcpdump that runs.
#[derive(Debug)]
pub struct Tcpdump {
    child: Child,
    folder: PathBuf,
}

impl Tcpdump {
    /// Starts it on the ports of these nodes; returns once it listens.
    ///
    /// # Errors
    /// Where it is not installed, or may not.
    pub async fn start(nodes: &[Node], folder: &Path) -> Result<Self, TcpdumpError> {
        let folder = fs::canonicalize(folder).map_err(TcpdumpError::Start)?;
        let launch = Launch {
            program: "tcpdump".into(),
            arguments: arguments(nodes, &folder.join(FILE)),
            folder: folder.clone(),
            log: folder.join(LOG),
        };
        let child = launch.spawn().await.map_err(TcpdumpError::Start)?;
        let tcpdump = Self { child, folder };
        for _ in 0..BEGIN_LOOKS_MAX {
            let log = tcpdump.log();
            if log.contains("listening on") {
                return Ok(tcpdump);
            }
            if tcpdump.child.status().is_some() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(TcpdumpError::Refused(tcpdump.log().trim().replace('\n', "; ")))
    }

    /// Waits until all that passed is in its file, ends it, and says how many packets it counts as
    /// dropped.
    ///
    /// # Errors
    /// Where it cannot be ended.
    pub async fn finish(self) -> Result<u64, TcpdumpError> {
        let file = self.folder.join(FILE);
        let (mut still, mut bytes) = (0, 0);
        for _ in 0..END_LOOKS_MAX {
            let now = fs::metadata(&file).map_or(0, |file| file.len());
            still = if now == bytes { still + 1 } else { 0 };
            bytes = now;
            if still == STILL_LOOKS || self.child.status().is_some() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.child.signal(Signal::Term).map_err(TcpdumpError::End)?;
        self.child.exited().await;
        Ok(dropped(&self.log()))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join(LOG)).unwrap_or_default()
    }
}

fn arguments(nodes: &[Node], file: &Path) -> Vec<OsString> {
    let local = |node: &Node| {
        node.host == "localhost"
            || node.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    };
    let interface = if nodes.iter().all(local) { "lo" } else { "any" };
    let mut ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<String> = ports.iter().map(|port| format!("port {port}")).collect();
    let fixed = ["-n", "-U", "-s", "0", "-B", "131072", "--time-stamp-precision=nano", "-i"];
    let mut arguments: Vec<OsString> = fixed.iter().map(OsString::from).collect();
    arguments.extend([interface.into(), "-w".into(), file.into()]);
    arguments.push(format!("tcp and ({})", ports.join(" or ")).into());
    arguments
}

/// What its last words say: `3 packets dropped by kernel`.
fn dropped(log: &str) -> u64 {
    let counts = log.lines().filter_map(|line| line.strip_suffix(" dropped by kernel"));
    counts
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_from_its_last_words() {
        let log = "listening on lo\n7 packets captured\n20 packets received by filter\n\
                   3 packets dropped by kernel\n";
        assert_eq!(dropped(log), 3);
        assert_eq!(dropped("tcpdump: no"), 0);
    }

    #[test]
    fn it_listens_where_the_brokers_are() {
        let node = |host: &str, port| Node {
            node_id: kafka_wire::ids::NodeId(1),
            host: host.into(),
            port,
        };
        let said = |nodes: &[Node]| {
            let words = arguments(nodes, Path::new("f.pcap"));
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            words[8..].join(" ")
        };
        assert_eq!(
            said(&[node("127.0.0.1", 2), node("::1", 1), node("localhost", 2)]),
            "lo -w f.pcap tcp and (port 1 or port 2)"
        );
        assert_eq!(said(&[node("10.1.1.1", 9092)]), "any -w f.pcap tcp and (port 9092)");
    }
}
