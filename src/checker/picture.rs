//! Draws a cycle as SVG: operations one below the other, an arrow from each to the next with the
//! reason beside it, and one arrow from the last back to the first.
//!
//! Plain shapes only, so that every viewer shows the same.

use std::fmt::Write as _;

use super::anomaly::find_anomaly;
use super::explain::{Cycle, CycleEdge, color};

/// Operations drawn; of longer cycles the last ones but one are left out.
const OPERATIONS_MAX: usize = 24;
/// Where boxes begin; left of it runs the arrow back.
const LEFT: f64 = 56.0;
/// Where arrows leave and enter boxes.
const ARROW: f64 = LEFT + 28.0;
/// From one box to the next.
const GAP: f64 = 58.0;
const LINE: f64 = 18.0;
/// More than letters of this size are wide on average.
const LETTER: f64 = 7.4;

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
            let middle = pen.operation(&self.lines(place, &self.operations[place]));
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
        self.text(LEFT, name, "font-weight=\"bold\" font-size=\"17\"");
        if let Some(row) = find_anomaly(name) {
            self.y += 22.0;
            self.text(LEFT, row.meaning, "fill=\"#444\"");
        }
        self.y += 20.0;
    }

    fn text(&mut self, x: f64, text: &str, style: &str) {
        self.width = self.width.max(x + text.chars().count() as f64 * LETTER + 20.0);
        let y = self.y;
        let text = xml_text(text);
        let _ = writeln!(self.body, "<text x=\"{x:.0}\" y=\"{y:.0}\" {style}>{text}</text>");
    }

    /// A box of lines. Returns the height of its middle.
    fn operation(&mut self, lines: &[String]) -> f64 {
        let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let (width, height) = (longest as f64 * LETTER + 32.0, lines.len() as f64 * LINE + 14.0);
        let top = self.y;
        let _ = writeln!(
            self.body,
            "<rect x=\"{LEFT:.0}\" y=\"{top:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
             rx=\"6\" fill=\"#f6f7f9\" stroke=\"#333\"/>"
        );
        self.width = self.width.max(LEFT + width + 20.0);
        for (place, line) in lines.iter().enumerate() {
            self.y = top + 21.0 + place as f64 * LINE;
            let style = if place == 0 { "font-weight=\"bold\"" } else { "fill=\"#222\"" };
            self.text(LEFT + 14.0, line, style);
        }
        self.y = top + height;
        top + height / 2.0
    }

    fn reason(&mut self, edge: &CycleEdge) {
        let style = format!("font-weight=\"bold\" fill=\"{}\"", color(edge.kind));
        self.text(ARROW + 16.0, edge.kind, &style);
        let after = ARROW + 16.0 + (edge.kind.chars().count() as f64 + 2.0) * (LETTER + 1.0);
        self.text(after, &edge.because, "fill=\"#222\"");
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
        self.y = top + GAP / 2.0;
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
        self.y = top + GAP / 2.0;
        self.reason(edge);
        self.y = turn;
    }

    fn left_out(&mut self, count: usize) {
        self.y += 16.0;
        self.text(LEFT + 14.0, &format!("… {count} more operations …"), "fill=\"#444\"");
        self.y += 16.0;
    }

    fn finish(self, name: &str) -> String {
        let (width, height) = (self.width, self.y + 20.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\">\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
            xml_text(name),
            self.body
        )
    }
}

fn xml_text(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".into(),
            '<' => "&lt;".into(),
            '>' => "&gt;".into(),
            c if c.is_control() => " ".into(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::super::explain::CycleOperation;
    use super::*;

    fn cycle(count: u64) -> Cycle {
        let operation = |index| CycleOperation {
            index,
            process: "process 1".into(),
            summary: vec!["sent \"<&>\" to key 1".into()],
        };
        let edge = |place: u64| CycleEdge {
            kind: "ww",
            label: String::new(),
            because: format!("reason {place}"),
            step: Json::Null,
        };
        Cycle {
            name: "G0",
            operations: (0..count).map(operation).collect(),
            edges: (0..count).map(edge).collect(),
        }
    }

    #[test]
    fn every_operation_and_reason_of_a_short_cycle_is_drawn() {
        let svg = cycle(3).to_svg();
        for place in 0..3 {
            assert!(svg.contains(&format!("T{}  operation {place}", place + 1)), "{svg}");
            assert!(svg.contains(&format!("reason {place}")), "{svg}");
        }
        assert_eq!(svg.matches("sent \"&lt;&amp;&gt;\" to key 1").count(), 3);
    }

    #[test]
    fn a_long_cycle_keeps_its_last_operation_and_says_how_many_are_left_out() {
        let svg = cycle(1000).to_svg();
        assert_eq!(svg.matches("rx=\"6\"").count(), OPERATIONS_MAX);
        assert!(svg.contains("… 976 more operations …") && svg.contains("T1000"), "{svg}");
    }
}
