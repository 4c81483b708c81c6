//! Turns counts into Prometheus' text format.

use std::fmt::Write;

use crate::proxy::Total;
use crate::proxy::rule::Listed;

/// A family of one sample a rule: its name, its kind, what it means, and the count.
type Family = (&'static str, &'static str, &'static str, fn(&Listed) -> u64);

/// Everything that is counted. Names of rules have no character that would need escaping.
#[must_use]
pub fn text(rules: &[Listed], total: Total) -> String {
    let mut out = Text(String::new());
    out.family("connections_total", "counter", "Connections that clients opened.");
    out.sample("connections_total", "", total.connections);
    out.family("unreachable_total", "counter", "Connections whose broker was not reached.");
    out.sample("unreachable_total", "", total.unreachable);
    let help = "Connections whose client or broker did not shake hands for TLS.";
    out.family("handshakes_failed_total", "counter", help);
    out.sample("handshakes_failed_total", "", total.handshakes_failed);
    out.family("connections", "gauge", "Connections that are open.");
    out.sample("connections", "", total.open);
    let ways = ["request", "response"].map(|way| format!("{{direction=\"{way}\"}}"));
    out.family("bytes_total", "counter", "Bytes that came in.");
    for (way, bytes) in ways.iter().zip(total.traffic.bytes) {
        out.sample("bytes_total", way, bytes);
    }
    out.family("frames_total", "counter", "Requests and responses that came in.");
    for (way, frames) in ways.iter().zip(total.traffic.frames) {
        out.sample("frames_total", way, frames);
    }
    let families: [Family; 3] = [
        ("rule_matched_total", "counter", "Frames a rule was about.", |one| one.matched),
        ("rule_fired_total", "counter", "How often a rule fired.", |one| one.fired),
        ("rule_lasting", "gauge", "What a rule does at this moment.", |one| one.lasting),
    ];
    for (name, kind, help, count) in families {
        out.family(name, kind, help);
        for listed in rules {
            let (rule, action) = (&listed.rule.name, &listed.rule.action);
            let (verb, class) = (action.verb(), action.class().name());
            let labels = format!("{{rule=\"{rule}\",action=\"{verb}\",class=\"{class}\"}}");
            out.sample(name, &labels, count(listed));
        }
    }
    out.0
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP fencepost_proxy_{name} {help}"));
        self.line(format_args!("# TYPE fencepost_proxy_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        self.line(format_args!("fencepost_proxy_{name}{labels} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes every write");
    }
}
