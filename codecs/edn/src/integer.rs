//! Turns decimal digits into integers, eight at once, and back.

const ZEROS: u64 = 0x3030_3030_3030_3030;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Reads a decimal integer with an optional minus at the start of `bytes`; gives it and its length.
///
/// Absent where there is none, where it has a leading zero (Clojure reads that as octal), and
/// where an `i64` cannot hold it. What follows the digits is the caller's to look at.
#[inline(always)]
#[must_use]
pub fn integer(bytes: &[u8]) -> Option<(i64, usize)> {
    let (&first, rest) = bytes.split_first()?;
    if first == b'-' {
        return negative(rest).map(|(value, digits)| (value, digits + 1));
    }
    natural(bytes)
}

#[inline(always)]
fn natural(bytes: &[u8]) -> Option<(i64, usize)> {
    let Some(eight) = bytes.first_chunk::<8>() else { return one_by_one(bytes) };
    let word = u64::from_le_bytes(*eight) ^ ZEROS;
    // A byte is a digit if it is below ten now: adding 0x76 must not reach its high bit.
    let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & HIGH_BITS;
    // A carry out of one byte can only spoil bytes above the first that is no digit.
    let digits = (others.trailing_zeros() / 8) as usize;
    match digits {
        8 if eight[0] == b'0' => None,
        8 => longer(eight_digits(word) as i64, bytes),
        0 => None,
        2.. if eight[0] == b'0' => None,
        _ => Some((eight_digits(word << (64 - 8 * digits)) as i64, digits)),
    }
}

/// The numbers of `[40 1]`, if it begins the bytes, and its length. Absent also where a number is
/// long or negative, where blanks stand otherwise, and near the end of the bytes.
#[inline(always)]
pub(crate) fn short_pair(bytes: &[u8]) -> Option<(i64, i64, usize)> {
    let bytes = bytes.first_chunk::<{ 1 + 8 + 8 + 1 }>()?;
    let (first, length) = short(bytes[1..].first_chunk()?)?;
    let middle = 1 + length;
    let (second, length) = short(bytes[middle + 1..].first_chunk()?)?;
    let end = middle + 1 + length;
    (bytes[0] == b'[' && bytes[middle] == b' ' && bytes[end] == b']').then_some((
        first,
        second,
        end + 1,
    ))
}

/// A decimal integer of up to seven digits, without a leading zero, and its length.
#[inline(always)]
fn short(eight: &[u8; 8]) -> Option<(i64, usize)> {
    let word = u64::from_le_bytes(*eight) ^ ZEROS;
    let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & HIGH_BITS;
    let bits = others.trailing_zeros() & !7;
    let is_plain = bits == 8 || (word & 0xff != 0 && bits != 0 && bits != 64);
    is_plain.then(|| (eight_digits(word << (64 - bits)) as i64, (bits / 8) as usize))
}

/// The number of eight digit values, the most significant in the lowest byte.
#[inline]
fn eight_digits(word: u64) -> u64 {
    let pairs = (word.wrapping_mul(10) + (word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff
}

/// The number whose first eight digits are `value`.
#[inline]
fn longer(mut value: i64, bytes: &[u8]) -> Option<(i64, usize)> {
    let mut digits = 8;
    while let Some(digit) = bytes.get(digits).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
        digits += 1;
    }
    Some((value, digits))
}

#[cold]
fn negative(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0_i64;
    let mut digits = 0;
    while let Some(digit) = bytes.get(digits).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
        digits += 1;
    }
    let octal = digits > 1 && bytes[0] == b'0';
    (digits > 0 && !octal).then_some((value, digits))
}

/// Numbers that end near the end of the bytes.
#[cold]
fn one_by_one(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0_i64;
    let mut digits = 0;
    while let Some(digit) = bytes.get(digits).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
        digits += 1;
    }
    let octal = digits > 1 && bytes[0] == b'0';
    (digits > 0 && !octal).then_some((value, digits))
}

/// Appends the decimal digits of a number.
pub fn write_integer(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0_u8; 20];
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
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_are_read() {
        for exponent in 0..19 {
            for number in
                [10_i64.pow(exponent), 10_i64.pow(exponent) - 1, 7 * 10_i64.pow(exponent) / 3]
            {
                for tail in ["", " ", "]", " 12345678901", "x2345678", "\u{ff}234567"] {
                    for number in [number, -number] {
                        let text = format!("{number}{tail}");
                        let length = number.to_string().len();
                        assert_eq!(integer(text.as_bytes()), Some((number, length)), "{text}");
                    }
                }
            }
        }
        for number in [i64::MAX, i64::MIN] {
            assert_eq!(integer(number.to_string().as_bytes()).map(|r| r.0), Some(number));
        }
    }

    #[test]
    fn short_pairs_are_what_both_integers_are() {
        let numbers = ["0", "7", "40", "4096", "1234567", "12345678", "-1", "012", "00", "", "x"];
        for first in numbers {
            for second in numbers {
                for (text, is_plain) in [
                    (format!("[{first} {second}] [1 2] [3 4] [5 6]"), true),
                    (format!("[{first},{second}] [1 2] [3 4] [5 6]"), false),
                    (format!("[{first}  {second}] [1 2] [3 4] [5 6]"), false),
                    (format!("[{first} {second} ] [1 2] [3 4] [5 6]"), false),
                    (format!("({first} {second}) [1 2] [3 4] [5 6]"), false),
                    (format!("[{first} {second}]"), false),
                ] {
                    let short = |text: &str| {
                        let plain = text.len() < 8 && (text == "0" || !text.starts_with('0'));
                        text.parse::<i64>().ok().filter(|n| plain && *n >= 0)
                    };
                    let both = short(first).zip(short(second)).filter(|_| is_plain);
                    let length = first.len() + second.len() + 3;
                    let expected = both.map(|(first, second)| (first, second, length));
                    assert_eq!(short_pair(text.as_bytes()), expected, "{text}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_plain_integer_is_left() {
        for text in
            ["", "-", "x", "012", "01234567890", "9223372036854775808", "/1234567", ":1234567"]
        {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn written_integers_are_read_again() {
        for number in [0, 7, -7, 10, 99, 100, 3_000_000_000, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            write_integer(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
