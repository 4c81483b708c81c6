//! Aligned columns, and words that flow over lines.

use std::fmt::Write;

/// Columns of text where nothing else is asked for.
pub const COLUMNS: usize = 100;

/// Where a column's cells stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings. A row never takes a second line: what is too wide is cut, and the cut
/// shows as `…`.
#[derive(Debug)]
pub struct Table {
    headings: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// One without rows.
    #[must_use]
    pub fn new(headings: Vec<(String, Align)>) -> Self {
        Self { headings, rows: Vec::new() }
    }

    /// Adds a row: as many cells as there are headings.
    pub fn push(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.headings.len(), "a cell for every heading");
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    /// Columns in which no row has anything are left out.
    pub fn drop_empty_columns(&mut self) {
        for column in (0..self.headings.len()).rev() {
            if self.rows.iter().all(|row| row[column].is_empty()) {
                self.headings.remove(column);
                for row in &mut self.rows {
                    row.remove(column);
                }
            }
        }
    }

    /// How wide it is, uncut.
    #[must_use]
    pub fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)
    }

    fn widths(&self) -> Vec<usize> {
        let width = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = self.headings.iter().map(|(text, _)| width(text)).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = width(cell).max(*widest);
            }
        }
        widths
    }

    /// As text. `columns` cuts what is wider; absent, nothing is cut.
    #[must_use]
    pub fn render(&self, columns: Option<usize>) -> String {
        let mut out = String::new();
        let widths = self.widths();
        let headings: Vec<String> = self.headings.iter().map(|(text, _)| text.clone()).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (place, cell) in row.iter().enumerate() {
                let between = if place == 0 { "" } else { "  " };
                let width = widths[place];
                let written = match self.headings[place].1 {
                    Align::Left => write!(line, "{between}{cell:<width$}"),
                    Align::Right => write!(line, "{between}{cell:>width$}"),
                };
                written.expect("a String takes every write");
            }
            out.push_str(&cut(line.trim_end(), columns));
            out.push('\n');
        }
        out
    }
}

/// A text's first so many columns.
fn cut(text: &str, columns: Option<usize>) -> String {
    match columns {
        Some(columns) if text.chars().count() > columns => {
            text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
        }
        _ => text.to_owned(),
    }
}

fn one_line(text: String) -> String {
    if text.contains(char::is_control) {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    } else {
        text
    }
}

/// Lets text flow: a line break only between words; `indent` columns before every line but the
/// first, which begins with `first`.
#[must_use]
pub fn flow(first: &str, indent: usize, text: &str) -> String {
    let mut out = String::from(first);
    let mut column = first.chars().count();
    let mut begun = false;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if begun && column + 1 + width > COLUMNS {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
            begun = false;
        }
        if begun {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
        begun = true;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(vec![
            ("N".into(), Align::Right),
            ("EMPTY".into(), Align::Left),
            ("WORD".into(), Align::Left),
        ]);
        table.push(vec!["7".into(), String::new(), "one\ntwo".into()]);
        table.push(vec!["1234".into(), String::new(), "three and more".into()]);
        table.drop_empty_columns();
        table
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        assert_eq!(table().render(None), "   N  WORD\n   7  one two\n1234  three and more\n");
    }

    #[test]
    fn a_row_never_takes_a_second_line() {
        assert_eq!(table().render(Some(12)), "   N  WORD\n   7  one t…\n1234  three…\n");
    }

    #[test]
    fn text_flows_under_its_own_beginning() {
        let text = flow("  poll  ", 8, &"word ".repeat(30));
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("        word")), "{text}");
        assert_eq!(text.matches("word").count(), 30);
    }
}
