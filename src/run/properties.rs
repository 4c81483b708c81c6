//! Client properties under the names Kafka's users know, librdkafka's spellings included.
//!
//! One table says what each name sets in the plan. Names that Kafka knows and this client has no
//! use for are taken with a warning; so are unknown ones: pasted configuration must not fail.

use std::fmt;

use super::plan::Plan;

/// A value that a property cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadProperty {
    /// The property.
    pub name: String,
    /// The value.
    pub value: String,
    /// What was expected.
    pub expected: &'static str,
}

impl fmt::Display for BadProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}: expected {}", self.name, self.value, self.expected)
    }
}

impl std::error::Error for BadProperty {}

type Apply = fn(&mut Plan, &str) -> Option<()>;

struct Row {
    name: &'static str,
    aliases: &'static [&'static str],
    expected: &'static str,
    apply: Apply,
    show: fn(&Plan) -> String,
}

const ROWS: &[Row] = &[
    Row {
        name: "bootstrap.servers",
        aliases: &["metadata.broker.list"],
        expected: "HOST:PORT,...",
        apply: |plan, v| {
            plan.broker.kind = "external".into();
            plan.broker.bootstrap_server = Some(v.to_owned());
            Some(())
        },
        show: |plan| plan.broker.bootstrap_server.clone().unwrap_or_default(),
    },
    Row {
        name: "acks",
        aliases: &["request.required.acks"],
        expected: "all, -1, 1 or 0",
        apply: |plan, v| {
            plan.client.acks = match v {
                "all" | "-1" => "all",
                "1" => "1",
                "0" => "0",
                _ => return None,
            }
            .to_owned();
            Some(())
        },
        show: |plan| plan.client.acks.clone(),
    },
    Row {
        name: "enable.idempotence",
        aliases: &[],
        expected: "true or false",
        apply: |plan, v| boolean(v).map(|b| plan.client.idempotence = b),
        show: |plan| plan.client.idempotence.to_string(),
    },
    Row {
        name: "retries",
        aliases: &["message.send.max.retries"],
        expected: "a count",
        apply: |plan, v| v.parse().ok().map(|n| plan.client.retries = Some(n)),
        show: |plan| {
            plan.client.retries.map_or("until delivery.timeout.ms".into(), |n| n.to_string())
        },
    },
    Row {
        name: "delivery.timeout.ms",
        aliases: &["message.timeout.ms"],
        expected: "milliseconds",
        apply: |plan, v| v.parse().ok().map(|n| plan.client.delivery_timeout_ms = n),
        show: |plan| plan.client.delivery_timeout_ms.to_string(),
    },
    Row {
        name: "request.timeout.ms",
        aliases: &["socket.timeout.ms"],
        expected: "milliseconds",
        apply: |plan, v| v.parse().ok().map(|n| plan.client.request_timeout_ms = n),
        show: |plan| plan.client.request_timeout_ms.to_string(),
    },
    Row {
        name: "transaction.timeout.ms",
        aliases: &[],
        expected: "milliseconds",
        apply: |plan, v| v.parse().ok().map(|n| plan.client.transaction_timeout_ms = n),
        show: |plan| plan.client.transaction_timeout_ms.to_string(),
    },
    Row {
        name: "compression.type",
        aliases: &["compression.codec"],
        expected: "none, gzip, snappy, lz4 or zstd",
        apply: |plan, v| {
            ["none", "gzip", "snappy", "lz4", "zstd"]
                .contains(&v)
                .then(|| plan.client.compression_type = v.to_owned())
        },
        show: |plan| plan.client.compression_type.clone(),
    },
    Row {
        name: "group.protocol",
        aliases: &[],
        expected: "classic or consumer",
        apply: |plan, v| {
            ["classic", "consumer"].contains(&v).then(|| plan.client.group_protocol = v.to_owned())
        },
        show: |plan| plan.client.group_protocol.clone(),
    },
    Row {
        name: "isolation.level",
        aliases: &[],
        expected: "read_committed or read_uncommitted",
        apply: |plan, v| {
            ["read_committed", "read_uncommitted"]
                .contains(&v)
                .then(|| plan.client.isolation_level = v.to_owned())
        },
        show: |plan| plan.client.isolation_level.clone(),
    },
    Row {
        name: "auto.offset.reset",
        aliases: &[],
        expected: "earliest, latest or none",
        apply: |plan, v| {
            let v = match v {
                "earliest" | "smallest" | "beginning" => "earliest",
                "latest" | "largest" | "end" => "latest",
                "none" | "error" => "none",
                _ => return None,
            };
            plan.client.auto_offset_reset = v.to_owned();
            Some(())
        },
        show: |plan| plan.client.auto_offset_reset.clone(),
    },
    Row {
        name: "enable.auto.commit",
        aliases: &[],
        expected: "true or false",
        apply: |plan, v| boolean(v).map(|b| plan.client.enable_auto_commit = b),
        show: |plan| plan.client.enable_auto_commit.to_string(),
    },
];

fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Sets one property; answers whether this client has a use for it.
///
/// # Errors
/// Where the value is none the property can have.
pub fn set(plan: &mut Plan, name: &str, value: &str) -> Result<bool, BadProperty> {
    let Some(row) = ROWS.iter().find(|row| row.name == name || row.aliases.contains(&name)) else {
        return Ok(false);
    };
    (row.apply)(plan, value).map(|()| true).ok_or_else(|| BadProperty {
        name: name.to_owned(),
        value: value.to_owned(),
        expected: row.expected,
    })
}

/// All properties with their values in force, for `-X dump` and the head of a run.
pub fn effective(plan: &Plan) -> impl Iterator<Item = (&'static str, String)> + '_ {
    ROWS.iter().map(|row| (row.name, (row.show)(plan)))
}

/// All properties with what they take, for `-X list`.
pub fn known() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.iter().map(|row| (row.name, row.expected))
}

/// Reads a `.properties` file: `=`, `:` or white space between name and value, `#` and `!`
/// comments, `\` at the end of a line goes on, `\uXXXX`. Lines are never refused: a name without
/// a value has the empty one.
#[must_use]
pub fn parse(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while ends_open(&logical) {
            logical.pop();
            match lines.next() {
                Some(next) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        pairs.push(split(&logical));
    }
    pairs
}

/// Whether a line ends in an odd number of backslashes.
fn ends_open(line: &str) -> bool {
    line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (String, String) {
    let mut name = String::new();
    let mut chars = line.char_indices();
    let mut rest = "";
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => unescape(&mut chars, &mut name),
            '=' | ':' => {
                rest = &line[at + 1..];
                break;
            }
            c if c.is_whitespace() => {
                rest = line[at..].trim_start();
                rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
                break;
            }
            c => name.push(c),
        }
    }
    let mut value = String::new();
    let mut chars = rest.trim_start().char_indices();
    while let Some((_, c)) = chars.next() {
        if c == '\\' { unescape(&mut chars, &mut value) } else { value.push(c) }
    }
    (name, value)
}

fn unescape(chars: &mut std::str::CharIndices<'_>, out: &mut String) {
    match chars.next().map(|(_, c)| c) {
        Some('n') => out.push('\n'),
        Some('t') => out.push('\t'),
        Some('r') => out.push('\r'),
        Some('f') => out.push('\u{c}'),
        Some('u') => {
            let hex: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
            out.extend(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32));
        }
        Some(c) => out.push(c),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_files_are_read_as_java_reads_them() {
        let text = "# comment\n! too\n\n a.b = c d \nx:y\nn v\nlong=one \\\n  two\nu=\\u0041\\t\\=\nbare\n";
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(
            parse(text),
            [
                pair("a.b", "c d "),
                pair("x", "y"),
                pair("n", "v"),
                pair("long", "one two"),
                pair("u", "A\t="),
                pair("bare", ""),
            ]
        );
    }

    #[test]
    fn aliases_set_the_same_and_unknown_names_are_told_apart() {
        let mut plan = Plan::default();
        assert_eq!(set(&mut plan, "request.required.acks", "-1"), Ok(true));
        assert_eq!(plan.client.acks, "all");
        assert_eq!(set(&mut plan, "linger.msec", "1"), Ok(false));
        let error = set(&mut plan, "acks", "2").expect_err("acks has no 2");
        assert_eq!(error.to_string(), "acks=2: expected all, -1, 1 or 0");
    }
}
