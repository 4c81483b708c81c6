//! Turns any value, pulled in pieces, into JSON or EDN text.
//!
//! Both ways agree, so that a field survives the way from EDN to JSON and back: a keyword is a
//! string with its colon, or a name without it; `#tag value` is `{"#tag": value}`.
//!
//! Not kept: that a string looks like a keyword or a number, that a vector was a list or a set.

use std::borrow::Cow;

use super::notation::{Malformed, Notation, Piece};

/// Appends the value that `piece` begins as JSON.
pub(crate) fn write_json<'a, N: Notation<'a>>(
    notation: &mut N,
    piece: Piece<'a>,
    out: &mut String,
) -> Result<(), Malformed> {
    match piece {
        Piece::Nil | Piece::End | Piece::Close => out.push_str("null"),
        Piece::Bool(bool) => out.push_str(if bool { "true" } else { "false" }),
        Piece::Integer(integer) => out.push_str(&integer.to_string()),
        Piece::Word(word) => write_json_string(out, &format!(":{word}")),
        Piece::Text(text) => write_json_string(out, &text),
        Piece::Other(text) if is_json_number(text) => out.push_str(text),
        Piece::Other(text) => write_json_string(out, text),
        Piece::Tag(name) => {
            out.push('{');
            write_json_string(out, &format!("#{name}"));
            out.push(':');
            let value = notation.piece()?;
            write_json(notation, value, out)?;
            out.push('}');
        }
        Piece::Seq => {
            out.push('[');
            let start = out.len();
            loop {
                let piece = notation.piece()?;
                if piece == Piece::Close {
                    break;
                }
                if out.len() > start {
                    out.push(',');
                }
                write_json(notation, piece, out)?;
            }
            out.push(']');
        }
        Piece::Map => {
            out.push('{');
            let start = out.len();
            loop {
                let name = notation.piece()?;
                if name == Piece::Close {
                    break;
                }
                if out.len() > start {
                    out.push(',');
                }
                let name = match name {
                    Piece::Word(word) => Cow::Borrowed(word),
                    Piece::Text(text) => text,
                    other => Cow::Owned(edn_text(notation, other)?),
                };
                write_json_string(out, &name);
                out.push(':');
                let value = notation.piece()?;
                let missing = value == Piece::Close;
                write_json(notation, value, out)?;
                if missing {
                    break;
                }
            }
            out.push('}');
        }
    }
    Ok(())
}

/// The value that `piece` begins as EDN, printed as Clojure prints it.
pub(crate) fn edn_text<'a, N: Notation<'a>>(
    notation: &mut N,
    piece: Piece<'a>,
) -> Result<String, Malformed> {
    let mut out = Vec::new();
    write_edn(notation, piece, &mut edn::Writer::new(&mut out))?;
    Ok(String::from_utf8(out).expect("what is written of texts is a text"))
}

/// Appends the value that `piece` begins as EDN.
pub(crate) fn write_edn<'a, N: Notation<'a>>(
    notation: &mut N,
    piece: Piece<'a>,
    out: &mut edn::Writer<'_>,
) -> Result<(), Malformed> {
    match piece {
        Piece::Nil | Piece::End | Piece::Close => out.nil(),
        Piece::Bool(bool) => out.raw(if bool { "true" } else { "false" }),
        Piece::Integer(integer) => out.integer(integer),
        Piece::Word(word) => out.keyword(word),
        Piece::Text(text) => out.string(&text),
        Piece::Other(text) => out.raw(text),
        Piece::Tag(name) => {
            out.tag(name);
            let value = notation.piece()?;
            write_edn(notation, value, out)?;
        }
        Piece::Seq => {
            out.open(edn::Shape::Vector);
            loop {
                let piece = notation.piece()?;
                if piece == Piece::Close {
                    break;
                }
                write_edn(notation, piece, out)?;
            }
            out.close();
        }
        Piece::Map => write_edn_map(notation, out)?,
    }
    Ok(())
}

fn write_edn_map<'a, N: Notation<'a>>(
    notation: &mut N,
    out: &mut edn::Writer<'_>,
) -> Result<(), Malformed> {
    let mut first = notation.piece()?;
    if let Piece::Text(name) = &first
        && N::NAMES_ARE_STRINGS
        && let Some(tag) = name.strip_prefix('#').filter(|tag| is_word(tag))
    {
        out.tag(tag);
        let value = notation.piece()?;
        write_edn(notation, value, out)?;
        return notation.leave(notation.depth() - 1);
    }
    out.open(edn::Shape::Map);
    while first != Piece::Close {
        match first {
            Piece::Text(name) if N::NAMES_ARE_STRINGS => write_edn_name(&name, out),
            other => write_edn(notation, other, out)?,
        }
        let value = notation.piece()?;
        if value == Piece::Close {
            out.nil();
            break;
        }
        write_edn(notation, value, out)?;
        first = notation.piece()?;
    }
    out.close();
    Ok(())
}

/// A JSON name: an integer or a keyword where it can be one.
fn write_edn_name(name: &str, out: &mut edn::Writer<'_>) {
    match name.parse::<i64>() {
        Ok(integer) if integer.to_string() == name => out.integer(integer),
        _ if is_word(name) => out.keyword(name),
        _ => out.string(name),
    }
}

/// Whether a keyword may be called so and be read again.
pub(crate) fn is_word(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_?!*+/.<>=$&%'".contains(c);
    !name.is_empty() && name.chars().all(plain)
}

fn is_json_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, rest) = digits.split_at(digits.find(['.', 'e', 'E']).unwrap_or(digits.len()));
    let whole_fits = whole == "0" || !whole.starts_with('0');
    whole_fits
        && !whole.is_empty()
        && whole.bytes().all(|b| b.is_ascii_digit())
        && !rest.ends_with('.')
        && !rest.contains(".e")
        && !rest.contains(".E")
        && text.parse::<f64>().is_ok()
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
}

/// Appends a JSON string with its quotes.
pub(crate) fn write_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// An error's words: a text as it is, anything else as EDN.
pub(crate) fn words<'a, N: Notation<'a>>(
    notation: &mut N,
    piece: Piece<'a>,
) -> Result<Cow<'a, str>, Malformed> {
    match piece {
        Piece::Text(text) => Ok(text),
        other => edn_text(notation, other).map(Cow::Owned),
    }
}
