//! Turns the words of a rule into times, sizes, numbers and ranges, and back.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use super::condition::{Nth, Versions};

/// The longest time a rule may name.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

const UNITS: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// `5s`, `1.5s`, `100ms`, `2m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if part.is_empty() || part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole = digits::<u64>(whole)?.checked_mul(*unit_ns)?;
    let scale = 10u128.pow(part.len() as u32);
    let part = u128::from(digits::<u64>(part)?) * u128::from(*unit_ns) / scale;
    let sum = Duration::from_nanos(whole.checked_add(part as u64)?);
    (sum <= DURATION_MAX).then_some(sum)
}

/// As [`duration`] reads it, in the largest unit that needs no fraction.
pub(super) fn duration_text(duration: Duration) -> String {
    let ns = duration.as_nanos();
    for (unit, unit_ns) in [("s", 1_000_000_000u128), ("ms", 1_000_000), ("us", 1_000)] {
        if ns.is_multiple_of(unit_ns) {
            return format!("{}{unit}", ns / unit_ns);
        }
    }
    format!("{ns}ns")
}

/// `4096`, `64KiB`, `10kB`, `1MiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) =
        text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let unit = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits::<u64>(number)?.checked_mul(unit)
}

/// Digits only: no sign, no blank.
pub(super) fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `+4` or `-4`: how much more or less.
pub(super) fn difference(text: &str) -> Option<i32> {
    if !text.starts_with(['+', '-']) {
        return None;
    }
    text.parse().ok()
}

/// `3`, `3-4`, `3-` or `-4`.
fn range<T: FromStr + PartialOrd + Copy>(text: &str) -> Option<(Option<T>, Option<T>)> {
    let bound = |text: &str| match text {
        "" => Some(None),
        text => digits(text).map(Some),
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (bound(first)?, bound(last)?),
        None => (digits(text), digits(text)),
    };
    let in_order = match (first, last) {
        (Some(first), Some(last)) => first <= last,
        (first, last) => first.is_some() || last.is_some(),
    };
    in_order.then_some((first, last))
}

/// `3`, `3-4`, `3-` or `-4`.
pub(super) fn versions(text: &str) -> Option<Versions> {
    range(text).map(|(min, max)| Versions { min, max })
}

/// `3`, `3-4` or `3-`, from 1.
pub(super) fn nth(text: &str) -> Option<Nth> {
    let (first, last) = range::<u64>(text)?;
    let first = first.filter(|first| *first > 0)?;
    Some(Nth { first, last })
}

/// A value as a rule's text has it: bare, or in quotes where it would not come back whole.
pub(super) fn quoted(value: &impl Display) -> String {
    let value = value.to_string();
    let is_plain =
        |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\\' | '#');
    if !value.is_empty() && value.chars().all(is_plain) {
        return value;
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// The name most like the text, where one is like it at all.
pub(super) fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = names.map(|name| (distance(text, name), name)).min()?;
    (near.0 <= 1 + text.len().div_ceil(4)).then_some(near.1)
}

/// How many letters must change, come or go; case does not count.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_unit_and_written_without_fraction() {
        let cases = [
            ("5s", Some("5s")),
            ("1.5s", Some("1500ms")),
            ("90s", Some("90s")),
            ("2m", Some("120s")),
            ("1h", Some("3600s")),
            ("0.25ms", Some("250us")),
            ("7ns", Some("7ns")),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1.s", None),
            ("1d", None),
            ("99999999h", None),
            ("18446744073709551615s", None),
        ];
        for (text, expected) in cases {
            let read = duration(text).map(duration_text);
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn sizes_and_ranges_are_read() {
        let sizes = [("64KiB", Some(65536)), ("10kB", Some(10_000)), ("1", Some(1)), ("1x", None)];
        for (text, expected) in sizes {
            assert_eq!(size(text), expected, "{text}");
        }
        for text in ["3", "3-4", "3-"] {
            assert_eq!(nth(text).map(|nth| nth.to_string()).as_deref(), Some(text));
            assert_eq!(versions(text).map(|v| v.to_string()).as_deref(), Some(text));
        }
        for text in ["0", "-3", "4-3", "-", "", "x", "+3"] {
            assert_eq!(nth(text), None, "{text}");
        }
        assert_eq!(versions("-4"), Some(Versions { min: None, max: Some(4) }));
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let names = || ["EndTxn", "Fetch", "Produce"].into_iter();
        let cases = [("EndTnx", Some("EndTxn")), ("prodcue", Some("Produce")), ("xyz", None)];
        for (text, expected) in cases {
            assert_eq!(nearest(text, names()), expected, "{text}");
        }
    }
}
