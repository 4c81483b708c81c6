//! Turns the place of a node in its cluster into the text of its `server.properties`.

use std::fmt::Write;

use super::Version;

/// One node's place, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node_id: i32,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) controller_port: u16,
}

/// The configuration of `place`, one of `all`; `overrides` come last, and the last line counts.
pub(super) fn server_properties(
    version: Version,
    place: &Place,
    all: &[Place],
    data: &str,
    overrides: &[(String, String)],
) -> String {
    let voters: Vec<String> = all
        .iter()
        .map(|voter| format!("{}@{}:{}", voter.node_id, voter.host, voter.controller_port))
        .collect();
    let replicas = all.len().min(3).to_string();
    let in_sync_min = if all.len() >= 3 { "2" } else { "1" };
    let Place { node_id, host, port, controller_port } = place;

    let mut lines: Vec<(&str, String)> = vec![
        ("process.roles", "broker,controller".into()),
        ("node.id", node_id.to_string()),
        ("controller.quorum.voters", voters.join(",")),
        ("listeners", format!("PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}")),
        ("controller.listener.names", "CONTROLLER".into()),
        ("inter.broker.listener.name", "PLAINTEXT".into()),
        ("log.dirs", data.to_owned()),
        ("offsets.topic.replication.factor", replicas.clone()),
        ("offsets.topic.num.partitions", "5".into()),
        ("transaction.state.log.replication.factor", replicas.clone()),
        ("transaction.state.log.min.isr", in_sync_min.into()),
        ("transaction.state.log.num.partitions", "5".into()),
        ("default.replication.factor", replicas.clone()),
        ("min.insync.replicas", in_sync_min.into()),
        ("group.initial.rebalance.delay.ms", "0".into()),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000".into()),
        ("auto.create.topics.enable", "false".into()),
        // 128 MiB otherwise, half of the heap.
        ("log.cleaner.dedupe.buffer.size", "2097152".into()),
    ];
    // Share groups (KIP-932) came with 4.0.
    if version >= Version::new(4, 0, 0) {
        lines.push(("share.coordinator.state.topic.replication.factor", replicas));
        lines.push(("share.coordinator.state.topic.min.isr", in_sync_min.into()));
        lines.push(("share.coordinator.state.topic.num.partitions", "5".into()));
    }
    let ours = lines.iter().map(|(key, value)| (*key, value.as_str()));
    let theirs = overrides.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let mut text = String::new();
    for (key, value) in ours.chain(theirs) {
        writeln!(text, "{key}={}", escape(value)).expect("writing to a string cannot fail");
    }
    text
}

/// A value as `java.util.Properties` reads it back: the file is Latin-1 with `\` as escape.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for unit in value.encode_utf16() {
        match char::from_u32(u32::from(unit)) {
            Some('\\') => escaped.push_str("\\\\"),
            Some(c @ ' '..='~') => escaped.push(c),
            _ => write!(escaped, "\\u{unit:04x}").expect("writing to a string cannot fail"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties_of(version: Version, nodes: i32, overrides: &[(&str, &str)]) -> String {
        let place = |node_id| Place {
            node_id,
            host: format!("127.0.0.{node_id}"),
            port: 9000,
            controller_port: 9100,
        };
        let all: Vec<Place> = (1..=nodes).map(place).collect();
        let overrides: Vec<(String, String)> =
            overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        server_properties(version, &all[0], &all, "/data", &overrides)
    }

    #[test]
    fn three_nodes_keep_three_replicas_and_one_keeps_one() {
        let three = properties_of(Version::DEFAULT, 3, &[]);
        assert!(three.contains(
            "controller.quorum.voters=1@127.0.0.1:9100,2@127.0.0.2:9100,3@127.0.0.3:9100\n"
        ));
        assert!(three.contains("transaction.state.log.min.isr=2\n"));
        assert!(three.contains("share.coordinator.state.topic.replication.factor=3\n"));
        let one = properties_of(Version::new(3, 9, 1), 1, &[]);
        assert!(one.contains("default.replication.factor=1\n"));
        assert!(!one.contains("share."));
    }

    #[test]
    fn what_the_user_says_comes_last_and_arrives_as_written() {
        let text = properties_of(Version::DEFAULT, 1, &[("a.b", "c:\\d é\n😀")]);
        assert!(text.ends_with("a.b=c:\\\\d \\u00e9\\u000a\\ud83d\\ude00\n"), "{text}");
    }
}
