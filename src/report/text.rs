//! The summary a person reads: what was found, of every cause a witness in plain words with the
//! packets that prove it, the last line that scripts look for.

use std::fmt::Write;

use super::dissect::line::Times;
use crate::checker::{ExchangeName, Found, Group, Validity, Verdict};

/// Columns a paragraph is broken at.
const COLUMNS: usize = 100;

/// The whole summary; its last line is the verdict line.
#[must_use]
pub fn summary(verdict: &Verdict) -> String {
    let mut out = String::new();
    let outcomes = &verdict.stats.outcomes;
    line(
        &mut out,
        format_args!(
            "operations {}: ok {}, fail {}, info {}; keys {}",
            grouped(outcomes.operations),
            grouped(outcomes.ok),
            grouped(outcomes.fail),
            grouped(outcomes.info),
            grouped(verdict.stats.keys),
        ),
    );
    if let Some(wire) = &verdict.wire {
        line(
            &mut out,
            format_args!(
                "wire: {} exchanges on {} connections, {} bytes undecoded, {} gaps",
                grouped(wire.exchanges),
                grouped(wire.connections),
                grouped(wire.undecoded_bytes),
                grouped(wire.gaps),
            ),
        );
    }
    for observation in &verdict.observations {
        line(&mut out, format_args!("observed: {observation}"));
    }
    if let Some(elapsed) = &verdict.elapsed {
        line(&mut out, format_args!("read {:.3} s, checked {:.3} s", elapsed.read, elapsed.check));
    }
    witness(&mut out, verdict);
    out.push_str(&verdict_line(verdict));
    out.push('\n');
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes every write");
}

/// Causes of which a case is told; the rest are named in the verdict line.
const CAUSES_MAX: usize = 4;

/// Exchanges of a case that are named.
const EXCHANGES_MAX: usize = 6;

/// The first case of every cause, in the checker's own words, the most telling one first.
fn witness(out: &mut String, verdict: &Verdict) {
    let Some(primary) = verdict.primary.as_ref() else { return };
    let is_told = |name: &str| name == primary || verdict.anomalies[name].bad;
    let mut causes: Vec<&Group> =
        verdict.groups.iter().filter(|group| is_told(&group.primary)).collect();
    causes.sort_by_key(|group| group.primary != *primary);
    for group in causes.iter().take(CAUSES_MAX) {
        cause(out, &group.primary, &verdict.anomalies[&group.primary], &group.consequences);
    }
    if causes.len() > CAUSES_MAX {
        line(out, format_args!("\n{} more causes stand below.", causes.len() - CAUSES_MAX));
    }
    if let Some(found) = verdict.anomalies.get(primary) {
        let next = if found.count > 1 && found.cases.len() > 1 { " 2" } else { "" };
        line(out, format_args!("\nWhole cases: fencepost query FILE explain {primary}{next}"));
    }
    out.push('\n');
}

/// One case of an anomaly, what proves it, and what may only be there because of it.
fn cause(out: &mut String, name: &str, found: &Found, consequences: &[String]) {
    let Some(case) = found.cases.first() else { return };
    let bad = if found.bad { "" } else { ", not bad here" };
    line(out, format_args!("\n{name} (1 of {}{bad}):", grouped(found.count)));
    for paragraph in case.explanation.lines() {
        wrap(out, paragraph);
    }
    // Where operations are judged, what their exchanges said is told in words.
    for said in case.wire.iter().take(EXCHANGES_MAX) {
        wrap(out, said);
    }
    if case.wire.is_empty() {
        for exchange in case.exchanges.iter().take(EXCHANGES_MAX) {
            line(out, format_args!("  {}", exchange_words(exchange)));
        }
        if !case.frames.is_empty() {
            let frames: Vec<String> = case.frames.iter().map(u64::to_string).collect();
            wrap(out, &format!("frames {}", frames.join(" ")));
        }
    }
    if !consequences.is_empty() {
        wrap(out, &format!("What may follow from it: {}.", consequences.join(", ")));
    }
}

/// An exchange by connection, correlation id and moment: where to look in other logs.
pub(super) fn exchange_words(exchange: &ExchangeName) -> String {
    let ExchangeName { connection, correlation_id, time_ns } = exchange;
    let mut words = format!("{connection} correlation id {correlation_id}");
    if *time_ns > 0 {
        let mut time = String::new();
        Times::default().write(&mut time, *time_ns);
        // Milliseconds, as logs have them.
        words.push_str(&format!(", {}Z", &time[..time.len() - "000000Z".len()]));
    }
    words
}

/// Breaks a paragraph at word boundaries, indented by two.
fn wrap(out: &mut String, paragraph: &str) {
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        if column > 0 && column + 1 + word.len() > COLUMNS {
            out.push('\n');
            column = 0;
        }
        out.push_str(if column == 0 { "  " } else { " " });
        column += if column == 0 { 2 } else { 1 };
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
}

/// `valid: false   lost-write 2 (bad)   duplicate 1 (bad)   int-send-skip 14`: bad ones first.
#[must_use]
pub fn verdict_line(verdict: &Verdict) -> String {
    let mut text = format!(
        "valid: {}",
        match verdict.valid {
            Validity::True => "true",
            Validity::False => "false",
            Validity::Unknown => "unknown",
        }
    );
    let is_primary = |name: &String| verdict.primary.as_ref() != Some(name);
    let mut names: Vec<&String> = verdict.types.iter().collect();
    names.sort_by_key(|name| (!verdict.anomalies[*name].bad, is_primary(name), (*name).clone()));
    for name in names {
        let found = &verdict.anomalies[name];
        let bad = if found.bad { " (bad)" } else { "" };
        write!(text, "   {name} {}{bad}", found.count).expect("a String takes every write");
    }
    text
}

/// A number with its thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::{Case, Stats};

    #[test]
    fn thousands_stand_apart() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn paragraphs_break_between_words() {
        let mut out = String::new();
        wrap(&mut out, &"word ".repeat(50));
        assert!(out.lines().all(|line| line.len() <= COLUMNS + 2 && line.starts_with("  word")));
        assert_eq!(out.split_whitespace().count(), 50);
    }

    /// A verdict of what was found: name, count, whether it is bad, the packets of its case.
    fn verdict(found: &[(&str, u64, bool, &[u64])]) -> Verdict {
        let found = found.iter().map(|&(name, count, bad, frames)| {
            let named = |correlation_id, time_ns| {
                let connection = format!("a-{name}");
                ExchangeName { connection, correlation_id, time_ns }
            };
            let (exchange, seen) = (named(7, 0), named(8, 1_795_428_902_113_456_789));
            let case = Case {
                explanation: format!("Why it is a {name}."),
                exchanges: vec![exchange, seen],
                frames: frames.to_vec(),
                ..Case::default()
            };
            (name.to_owned(), Found { count, bad, cases: vec![case] })
        });
        Verdict::new(found.collect(), Stats::default(), Vec::new(), true)
    }

    #[test]
    fn every_bad_cause_is_told_with_the_packets_that_prove_it() {
        let text = summary(&verdict(&[
            ("P3-zombie-accepted", 2, true, &[68, 69]),
            ("L1-offsets-overlap", 1, true, &[5]),
            ("G0", 9, false, &[77]),
        ]));
        for said in [
            "P3-zombie-accepted (1 of 2):\n  Why it is a P3-zombie-accepted.",
            "  a-P3-zombie-accepted correlation id 7\n",
            "  a-P3-zombie-accepted correlation id 8, 2026-11-23T10:15:02.113Z\n  frames 68 69\n",
            "L1-offsets-overlap (1 of 1):",
            "  frames 5\n",
            "query FILE explain P3-zombie-accepted\n",
        ] {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        assert!(text.find("P3-zombie").unwrap() < text.find("L1-offsets").unwrap());
        assert!(!text.contains("77"), "what is not bad is only counted:\n{text}");
    }

    #[test]
    fn many_causes_are_counted() {
        let names = ["W1", "W2", "W3", "W4", "L1", "L2"];
        let found: Vec<_> = names.iter().map(|name| (*name, 1, true, &[1][..])).collect();
        let text = summary(&verdict(&found));
        assert_eq!(text.matches("Why it is").count(), CAUSES_MAX, "{text}");
        assert!(text.contains("2 more causes"), "{text}");
    }

    #[test]
    fn a_valid_history_has_no_witness() {
        assert_eq!(summary(&verdict(&[])).matches("query").count(), 0);
    }
}
