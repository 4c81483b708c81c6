//! The summary a person reads: what was found, the first witness in plain words, the last line
//! that scripts look for.

use std::fmt::Write;

use crate::checker::{Validity, Verdict};

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

/// The first case of the most telling anomaly, in the checker's own words.
fn witness(out: &mut String, verdict: &Verdict) {
    let Some(name) = verdict.primary.as_ref() else { return };
    let Some(case) = verdict.anomalies.get(name).and_then(|found| found.cases.first()) else {
        return;
    };
    line(out, format_args!("\n{name}:"));
    for paragraph in case.explanation.lines() {
        wrap(out, paragraph);
    }
    let under = verdict.groups.iter().find(|group| group.primary == *name);
    if let Some(group) = under.filter(|group| !group.consequences.is_empty()) {
        let said = format!("What may follow from it: {}.", group.consequences.join(", "));
        wrap(out, &said);
    }
    out.push('\n');
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
}
