//! Draws a cycle as SVG: operations one below the other, an arrow from each to the next with the
//! reason beside it, and one arrow from the last back to the first.
//!
//! Plain shapes only, so that every viewer shows the same. What is too long to draw is cut and
//! stands whole in the tooltip.

use std::fmt::Write as _;

use super::anomaly::find_anomaly;
use super::explain::{Cycle, CycleEdge, color, ending_color};
use crate::history::EventType;

/// Operations drawn; of longer cycles the last ones but one are left out.
const OPERATIONS_MAX: usize = 24;
/// Characters drawn of a line.
const LETTERS_MAX: usize = 120;
/// Where boxes begin; left of it runs the arrow back.
const LEFT: f64 = 56.0;
/// From the edge of a box to its text.
const INSET: f64 = 18.0;
/// Where arrows leave and enter boxes.
const ARROW: f64 = LEFT + 28.0;
/// Where the reason of an arrow begins, behind its kind.
const REASON: f64 = ARROW + 16.0;
/// From one box to the next.
const GAP: f64 = 58.0;
const LINE: f64 = 18.0;
/// Right of everything, and below.
const MARGIN: f64 = 20.0;
/// The size of most text.
const SIZE: f64 = 13.0;

impl Cycle {
    /// The cycle as a picture.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let mut pen = Pen::default();
        pen.heading(self.name);
        let count = self.operations.len();
        let is_cut = count > OPERATIONS_MAX;
        let drawn = if is_cut { OPERATIONS_MAX - 1 } else { count };
        let mut first_middle = 0.0;
        for place in (0..drawn).chain(is_cut.then_some(count - 1)) {
            let op = &self.operations[place];
            let middle = pen.operation(&self.lines(place, op), op.ending);
            if place == 0 {
                first_middle = middle;
            }
            match &self.edges[place] {
                edge if place + 1 == count => pen.back(edge, first_middle),
                edge => pen.down(edge),
            }
            if is_cut && place + 1 == drawn {
                pen.left_out(count - drawn - 1);
            }
        }
        pen.finish(self.name)
    }
}

/// How wide a text may be in Helvetica and what viewers take instead of it.
fn width(text: &str, size: f64, is_bold: bool) -> f64 {
    let of = |c: char| match c {
        'i' | 'j' | 'l' | '\'' | '|' => 0.26,
        ' ' | 'f' | 't' | 'I' | '.' | ',' | ':' | ';' | '!' | '/' | '\\' | '[' | ']' => 0.32,
        '(' | ')' | '-' | '`' | '{' | '}' | 'r' | '·' => 0.4,
        'm' | 'M' | 'W' | '%' | '@' | '…' => 1.0,
        'w' | 'A'..='Z' | '&' | '+' | '<' | '=' | '>' | '~' => 0.76,
        ' '..='~' => 0.6,
        '\u{80}'..='\u{2ff}' => 0.76,
        // Letters of other scripts are as wide as high.
        _ => 1.1,
    };
    let sum: f64 = text.chars().map(of).sum();
    sum * size * if is_bold { 1.14 } else { 1.06 }
}

/// How a text looks.
#[derive(Clone, Copy)]
struct Look {
    size: f64,
    is_bold: bool,
    color: &'static str,
}

const TITLE: Look = Look { size: 17.0, is_bold: true, color: "#111" };
const STRONG: Look = Look { size: SIZE, is_bold: true, color: "#111" };
const PLAIN: Look = Look { size: SIZE, is_bold: false, color: "#222" };
const QUIET: Look = Look { size: SIZE, is_bold: false, color: "#555" };

/// Draws downwards.
#[derive(Default)]
struct Pen {
    body: String,
    y: f64,
    width: f64,
}

impl Pen {
    fn heading(&mut self, name: &str) {
        self.y = 30.0;
        self.text(LEFT, name, TITLE);
        if let Some(row) = find_anomaly(name) {
            self.y += 22.0;
            self.text(LEFT, row.meaning, QUIET);
        }
        self.y += 20.0;
    }

    /// Writes a line, or its beginning. Returns where it ends.
    fn text(&mut self, x: f64, text: &str, look: Look) -> f64 {
        let (y, Look { size, is_bold, color }) = (self.y, look);
        let cut = cut(text);
        let end = x + width(&cut, size, is_bold);
        self.width = self.width.max(end + MARGIN);
        let weight = if is_bold { " font-weight=\"bold\"" } else { "" };
        let size = if size == SIZE { String::new() } else { format!(" font-size=\"{size:.0}\"") };
        let whole =
            if cut == text { String::new() } else { format!("<title>{}</title>", xml_text(text)) };
        let text = xml_text(&cut);
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.0}\" y=\"{y:.0}\"{size}{weight} fill=\"{color}\">{text}{whole}</text>"
        );
        end
    }

    /// A box of lines, in front of it the color of how the operation ended. Returns the height of
    /// its middle.
    fn operation(&mut self, lines: &[String], ending: EventType) -> f64 {
        let of = |(place, line): (usize, &String)| width(&cut(line), SIZE, place == 0);
        let longest = lines.iter().enumerate().map(of).fold(0.0, f64::max);
        let (width, height) = (longest + 2.0 * INSET, lines.len() as f64 * LINE + 14.0);
        let (top, color) = (self.y, ending_color(ending));
        let _ = writeln!(
            self.body,
            "<rect x=\"{LEFT:.0}\" y=\"{top:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
             rx=\"6\" fill=\"#f6f7f9\" stroke=\"#b8bcc2\"/>\n\
             <rect x=\"{LEFT:.0}\" y=\"{top:.0}\" width=\"6\" height=\"{height:.0}\" rx=\"3\" \
             fill=\"{color}\"/>"
        );
        self.width = self.width.max(LEFT + width + MARGIN);
        for (place, line) in lines.iter().enumerate() {
            self.y = top + 21.0 + place as f64 * LINE;
            self.text(LEFT + INSET, line, if place == 0 { STRONG } else { PLAIN });
        }
        self.y = top + height;
        top + height / 2.0
    }

    fn reason(&mut self, edge: &CycleEdge) {
        let end = self.text(REASON, edge.kind, Look { color: color(edge.kind), ..STRONG });
        self.text(end + 8.0, &edge.because, PLAIN);
    }

    fn down(&mut self, edge: &CycleEdge) {
        let (top, bottom) = (self.y, self.y + GAP);
        let color = color(edge.kind);
        let _ = writeln!(
            self.body,
            "<path d=\"M{ARROW} {top:.0}V{:.0}\" fill=\"none\" stroke=\"{color}\" \
             stroke-width=\"2\"/>\n<path d=\"M{ARROW} {bottom:.0}l-6 -11h12z\" \
             fill=\"{color}\"/>",
            bottom - 9.0
        );
        self.y = top + GAP / 2.0 + 4.0;
        self.reason(edge);
        self.y = bottom;
    }

    /// Out of the last box, up along the left, into the first.
    fn back(&mut self, edge: &CycleEdge, first_middle: f64) {
        let top = self.y;
        let (turn, x) = (top + GAP - 14.0, 22.0);
        let color = color(edge.kind);
        let _ = writeln!(
            self.body,
            "<path d=\"M{ARROW} {top:.0}V{:.0}q0 10 -10 10H{:.0}q-10 0 -10 -10V{:.0}\
             q0 -10 10 -10H{:.0}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n\
             <path d=\"M{LEFT} {first_middle:.0}l-11 -6v12z\" fill=\"{color}\"/>",
            turn - 10.0,
            x + 10.0,
            first_middle + 10.0,
            LEFT - 9.0
        );
        self.y = top + GAP / 2.0 + 4.0;
        self.reason(edge);
        self.y = turn;
    }

    fn left_out(&mut self, count: usize) {
        self.y += 16.0;
        self.text(LEFT + INSET, &format!("… {count} more operations …"), QUIET);
        self.y += 16.0;
    }

    fn finish(self, name: &str) -> String {
        let (width, height) = (self.width, self.y + MARGIN);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"Helvetica, Arial, sans-serif\" font-size=\"{SIZE:.0}\">\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
            xml_text(name),
            self.body
        )
    }
}

/// As much of a line as is drawn.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LETTERS_MAX) {
        None => text.to_owned(),
        Some(_) => text.chars().take(LETTERS_MAX - 1).chain(['…']).collect(),
    }
}

fn xml_text(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".into(),
            '<' => "&lt;".into(),
            '>' => "&gt;".into(),
            // XML has no way to say these.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => " ".into(),
            c => c.to_string(),
        })
        .collect()
}
