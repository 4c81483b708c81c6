//! The beginning of a line: numbers, times and names, written by hand into one buffer.
//!
//! Never: allocates but in the buffer it is given.

/// Appends an integer.
pub fn write_integer(out: &mut String, value: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.push_str(std::str::from_utf8(&digits[at..]).expect("digits are ASCII"));
}

/// Writes times as RFC 3339 with nine digits; the text of the last second is remembered.
#[derive(Debug, Default)]
pub struct Times {
    /// The second after the one that is remembered, so that 0 is none.
    next: u64,
    text: String,
}

impl Times {
    /// Appends a time in nanoseconds since 1970.
    pub fn write(&mut self, out: &mut String, time_ns: u64) {
        const NANOSECONDS: u64 = 1_000_000_000;
        let (second, nanoseconds) = (time_ns / NANOSECONDS, time_ns % NANOSECONDS);
        if second + 1 != self.next {
            self.next = second + 1;
            self.text = second_text(second);
        }
        out.push_str(&self.text);
        let mut digits = [b'0'; 11];
        digits[0] = b'.';
        digits[10] = b'Z';
        let mut rest = nanoseconds;
        for digit in digits[1..10].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        out.push_str(std::str::from_utf8(&digits).expect("digits are ASCII"));
    }
}

/// `2026-11-23T10:15:02`.
fn second_text(second: u64) -> String {
    let (day, of_day) = (second / 86_400, second % 86_400);
    let (year, month, day) = date(day);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day since 1970, in the Gregorian calendar.
///
/// Years are counted from March, so that the day that comes and goes is their last; 400 of them
/// have always the same number of days.
fn date(day: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468; // Since 1 March of year 0.
    const DAYS_400_YEARS: u64 = 146_097;
    let day = day + DAYS_BEFORE_1970;
    let (cycle, day) = (day / DAYS_400_YEARS, day % DAYS_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next_year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_as_the_standard_library_prints_them() {
        for value in [0, 7, -1, 10, 1_234_567_890, i64::MAX, i64::MIN] {
            let mut out = String::new();
            write_integer(&mut out, value);
            assert_eq!(out, value.to_string());
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let mut times = Times::default();
        for (time_ns, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
            (951_782_399_999_999_999, "2000-02-28T23:59:59.999999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (1_795_428_902_113_000_001, "2026-11-23T10:15:02.113000001Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ] {
            let mut out = String::new();
            times.write(&mut out, time_ns);
            assert_eq!(out, expected);
        }
    }
}
