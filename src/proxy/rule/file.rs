//! Turns a TOML file of rules into rules.
//!
//! Each `[[rule]]` says the keys and values of the one-line form; what the line says by its order
//! goes under `action`, `api` and `direction`. Dotted keys and tables say paths:
//! `set.producer_epoch = 3`.

use std::fmt::Write;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::Rule;
use super::draft::{Draft, Position, RuleError, Word};

/// Bytes a file of rules may have.
const FILE_MAX: usize = 4 << 20;
/// Tables within tables: a path has no more steps.
const DEPTH_MAX: usize = 16;

/// Reads a file of rules.
///
/// # Errors
/// Where it is not TOML or a rule is none: with line, column and what was expected.
pub fn from_toml(text: &str) -> Result<Vec<Rule>, RuleError> {
    let source = Source(text);
    if text.len() > FILE_MAX {
        let reason = format!("a file of rules has at most {FILE_MAX} bytes");
        return Err(source.error(0, reason));
    }
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.error(at, error.message().to_owned())
    })?;
    let mut rules = Vec::new();
    for (key, value) in table.get_ref() {
        if key.get_ref() != "rule" {
            let reason = format!("found {:?}, expected [[rule]]", key.get_ref());
            return Err(source.error(key.span().start, reason));
        }
        let expected = || source.error(value.span().start, "expected [[rule]]".to_owned());
        let DeValue::Array(array) = value.get_ref() else { return Err(expected()) };
        for element in array.iter() {
            let DeValue::Table(table) = element.get_ref() else { return Err(expected()) };
            rules.push(source.draft(table, element.span())?.rule()?);
        }
    }
    Ok(rules)
}

struct Source<'t>(&'t str);

impl Source<'_> {
    fn position(&self, byte_offset: usize) -> Position {
        let before = self.0.get(..byte_offset).unwrap_or(self.0);
        let line = before.matches('\n').count() as u32 + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + 1;
        Position { line, column }
    }

    fn error(&self, byte_offset: usize, reason: String) -> RuleError {
        RuleError { at: self.position(byte_offset), reason }
    }

    fn draft(&self, table: &DeTable<'_>, span: Range<usize>) -> Result<Draft, RuleError> {
        let mut pairs = Vec::new();
        self.add(table, "", 0, &mut pairs)?;
        // The order of the file, which is the order alterations are made in.
        pairs.sort_by_key(|(key, _): &(Word, Word)| key.at);
        let mut take = |name: &str| {
            let at = pairs.iter().position(|(key, _)| key.text == name)?;
            Some(pairs.remove(at).1)
        };
        let verb = take("action").ok_or_else(|| {
            self.error(span.start, "the rule has no action, expected action = \"hold\"".to_owned())
        })?;
        let (apis, direction) = (take("api"), take("direction"));
        Ok(Draft { verb, apis, direction, pairs })
    }

    /// Adds the pairs of a table, those of tables in it under their paths.
    fn add(
        &self,
        table: &DeTable<'_>,
        prefix: &str,
        depth: usize,
        pairs: &mut Vec<(Word, Word)>,
    ) -> Result<(), RuleError> {
        for (key, value) in table {
            let (at, path) = (key.span().start, format!("{prefix}{}", key.get_ref()));
            match value.get_ref() {
                DeValue::Table(_) if depth >= DEPTH_MAX => {
                    return Err(self.error(at, "tables within tables too deep".to_owned()));
                }
                DeValue::Table(table) => {
                    self.add(table, &format!("{path}."), depth + 1, pairs)?;
                }
                value_read => {
                    let value_at = value.span().start;
                    let text = self.text(value_read, value_at)?;
                    let word = |text, at| Word { text, at: self.position(at) };
                    pairs.push((word(path, at), word(text, value_at)));
                }
            }
        }
        Ok(())
    }

    /// A value as the one-line form writes it.
    fn text(&self, value: &DeValue<'_>, at: usize) -> Result<String, RuleError> {
        Ok(match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(is) => is.to_string(),
            DeValue::Array(array) => {
                let mut text = String::new();
                for element in array.iter() {
                    if matches!(element.get_ref(), DeValue::Array(_) | DeValue::Table(_)) {
                        return Err(self.error(at, "expected an array of plain values".to_owned()));
                    }
                    let comma = if text.is_empty() { "" } else { "," };
                    let one = self.text(element.get_ref(), element.span().start)?;
                    write!(text, "{comma}{one}").expect("a String takes every write");
                }
                text
            }
            DeValue::Datetime(_) | DeValue::Table(_) => {
                return Err(self.error(at, "expected a text, a number, true or false".to_owned()));
            }
        })
    }
}
