//! Bytes as the text Kafka prints: base64, and UUIDs as URL-safe base64 without padding.

use std::fmt;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Writes bytes as base64 with padding.
pub(super) fn write_base64(out: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    write(out, bytes, STANDARD, true)
}

/// Writes a UUID as Kafka prints it: 22 characters.
///
/// ```
/// # let mut text = String::new();
/// kafka_wire::schema::write_uuid(&mut text, &[0; 16]).unwrap();
/// assert_eq!(text, "AAAAAAAAAAAAAAAAAAAAAA");
/// ```
///
/// # Errors
/// As the writer.
pub fn write_uuid(out: &mut impl fmt::Write, uuid: &[u8; 16]) -> fmt::Result {
    write(out, uuid, URL_SAFE, false)
}

fn write(out: &mut impl fmt::Write, bytes: &[u8], digits: &[u8; 64], pad: bool) -> fmt::Result {
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i <= chunk.len() {
                out.write_char(digits[(group >> (18 - 6 * i) & 63) as usize].into())?;
            } else if pad {
                out.write_char('=')?;
            }
        }
    }
    Ok(())
}

/// A UUID from Kafka's 22 characters or from 32 hexadecimal digits with or without dashes.
pub(super) fn uuid_from_text(text: &str) -> Option<[u8; 16]> {
    let (digits, bits): (Vec<u32>, u32) = match text.len() {
        22 => {
            let digit = |c| URL_SAFE.iter().position(|&d| d == c).map(|i| i as u32);
            (text.bytes().map(digit).collect::<Option<_>>()?, 6)
        }
        32 | 36 => {
            let hex = text.chars().filter(|&c| c != '-');
            (hex.map(|c| c.to_digit(16)).collect::<Option<_>>()?, 4)
        }
        _ => return None,
    };
    let (mut uuid, mut filled, mut rest, mut have) = ([0; 16], 0, 0u32, 0);
    for digit in digits {
        rest = rest << bits | digit;
        have += bits;
        if have >= 8 {
            have -= 8;
            *uuid.get_mut(filled)? = (rest >> have) as u8;
            rest &= (1 << have) - 1;
            filled += 1;
        }
    }
    (filled == 16).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xff\xfe", "//4="),
        ] {
            let mut text = String::new();
            write_base64(&mut text, bytes).unwrap();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn uuids_are_read_as_they_are_printed() {
        let uuid = *b"0123456789abcde\xff";
        let mut text = String::new();
        write_uuid(&mut text, &uuid).unwrap();
        assert_eq!(uuid_from_text(&text), Some(uuid));
        assert_eq!(uuid_from_text("30313233-3435-3637-3839-6162636465ff"), Some(uuid));
        assert_eq!(uuid_from_text("303132333435363738396162636465FF"), Some(uuid));
        assert_eq!(uuid_from_text("3031323334353637383961626364------65"), None);
        assert_eq!(uuid_from_text("not a uuid"), None);
    }
}
