//! The machine's clock, made a value; the only place that reads it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::world::Clock;

/// A clock that starts now.
#[must_use]
pub fn real() -> Clock {
    #[allow(clippy::disallowed_methods)] // This is the place that makes the clock.
    let (origin, wall) = (Instant::now(), SystemTime::now());
    let origin_unix_ns = wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    Clock::new(origin_unix_ns, move || origin.elapsed().as_nanos() as u64)
}

/// A clock that follows tokio's time, which tests can pause; it begins at 2026-01-01.
#[must_use]
pub fn simulated() -> Clock {
    let origin = tokio::time::Instant::now();
    Clock::new(1_767_225_600_000_000_000, move || origin.elapsed().as_nanos() as u64)
}

/// A seed for a run that was given none.
#[must_use]
pub fn fresh_seed() -> u64 {
    // The low bits of the time and the process number: printed, so any will do.
    let now = real().unix_ns();
    (now ^ (u64::from(std::process::id()) << 40)) & 0x7fff_ffff_ffff_ffff
}

/// A time in nanoseconds since 1970 as `YYYYMMDDTHHMMSS.mmmZ`, as run folders are named.
#[must_use]
pub fn stamp(unix_ns: u64) -> String {
    let (y, mo, d, h, mi, s) = civil(unix_ns / 1_000_000_000);
    let ms = unix_ns / 1_000_000 % 1000;
    format!("{y:04}{mo:02}{d:02}T{h:02}{mi:02}{s:02}.{ms:03}Z")
}

/// Year, month, day, hour, minute and second of a time in seconds since 1970 (proleptic
/// Gregorian calendar, by the days-from-civil method run backwards).
fn civil(seconds: u64) -> (u64, u64, u64, u64, u64, u64) {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let second = seconds % 86_400;
    (year, month, day, second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_utc() {
        assert_eq!(stamp(0), "19700101T000000.000Z");
        assert_eq!(stamp(1_795_429_502_113_000_000), "20261123T102502.113Z");
        assert_eq!(stamp(951_782_400_000_000_000), "20000229T000000.000Z");
    }
}
