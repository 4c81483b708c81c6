//! What was said, as a sequence chart in text: a line a request, with what came of it.
//!
//! `──▶` arrived; what the other arrows mean is said below a chart that has them.

use std::fmt::Write as _;

/// How a request fared at this line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrow {
    /// It was sent.
    Sent,
    /// All but its last byte was.
    Held,
    /// Its last byte was.
    Released,
    /// It was sent, and its answer got lost.
    Lost,
    /// Something else happened.
    Note,
}

impl Arrow {
    fn drawn(self) -> &'static str {
        match self {
            Self::Sent => "──▶",
            Self::Held => "──▏",
            Self::Released => "▕─▶",
            Self::Lost => "◀╳▶",
            Self::Note => "   ",
        }
    }
}

/// One line of the chart.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// When, in nanoseconds since the conversation began.
    pub at_ns: u64,
    /// The step it is of, from 1.
    pub step: Option<usize>,
    /// Whose it is: the producer, where one is named.
    pub who: String,
    /// The connection.
    pub connection: String,
    /// The node at its other end; −1 where that is not known.
    pub node: i32,
    /// How it fared.
    #[serde(serialize_with = "arrow_name")]
    pub arrow: Arrow,
    /// What was said.
    pub said: String,
    /// What came of it.
    pub came: String,
}

impl Line {
    fn is_repeated_by(&self, next: &Self) -> bool {
        Self { at_ns: self.at_ns, ..next.clone() } == *self && self.arrow == Arrow::Sent
    }
}

fn arrow_name<S: serde::Serializer>(arrow: &Arrow, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match arrow {
        Arrow::Sent => "sent",
        Arrow::Held => "held",
        Arrow::Released => "released",
        Arrow::Lost => "answer-lost",
        Arrow::Note => "note",
    })
}

/// The chart of a conversation.
#[must_use]
pub fn render(lines: &[Line]) -> String {
    let widest = |of: fn(&Line) -> &str| {
        lines.iter().map(|line| of(line).chars().count()).max().unwrap_or(0)
    };
    let who = widest(|line| &line.who).max(3);
    let over = widest(|line| &line.connection).max(10);
    let said = widest(|line| if line.arrow == Arrow::Note { "" } else { &line.said });
    let mut out = String::new();
    writeln!(out, "      ms  step  {:who$}  {:over$}     node  request", "who", "connection")
        .expect("a String takes every write");
    let kinds: Vec<Arrow> = lines.iter().map(|line| line.arrow).collect();
    let mut lines = lines.iter().peekable();
    while let Some(line) = lines.next() {
        // The same request with the same answer, again and again, is told once.
        let mut times = 1;
        while lines.next_if(|next| line.is_repeated_by(next)).is_some() {
            times += 1;
        }
        let ms = line.at_ns as f64 / 1e6;
        let step = line.step.map(|step| step.to_string()).unwrap_or_default();
        let node = if line.node < 0 { String::new() } else { line.node.to_string() };
        let text = match line.arrow {
            Arrow::Note => format!("{} {}", line.said, line.came),
            _ if times > 1 => format!("{:said$}  {}, {times} times", line.said, line.came),
            _ => format!("{:said$}  {}", line.said, line.came),
        };
        let row = format!(
            "{ms:8.1}  {step:>4}  {:who$}  {:over$}  {} {node:>3}  {text}",
            line.who,
            line.connection,
            line.arrow.drawn()
        );
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out + &legend(&kinds)
}

/// What the arrows mean that do not explain themselves, of those that were drawn.
fn legend(kinds: &[Arrow]) -> String {
    let all = [
        (Arrow::Held, "held back"),
        (Arrow::Released, "arrives only now"),
        (Arrow::Lost, "its answer gets lost"),
    ];
    let drawn = all.into_iter().filter(|(arrow, _)| kinds.contains(arrow));
    let meant: Vec<String> =
        drawn.map(|(arrow, means)| format!("{} {means}", arrow.drawn())).collect();
    match meant.is_empty() {
        true => String::new(),
        false => format!("\n{:16}{}\n", "", meant.join("    ")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_line_is_a_request_and_repeated_ones_are_told_once() {
        let line = |at_ms: u64, arrow, said: &str, came: &str| Line {
            at_ns: at_ms * 1_000_000,
            step: Some(1),
            who: "p".into(),
            connection: "main".into(),
            node: 1,
            arrow,
            said: said.into(),
            came: came.into(),
        };
        let lines = [
            line(0, Arrow::Held, "EndTxn 4 commit", "held"),
            line(1, Arrow::Sent, "Produce 11 t-0", "NOT_LEADER"),
            line(5, Arrow::Sent, "Produce 11 t-0", "NOT_LEADER"),
            line(9, Arrow::Sent, "Produce 11 t-0", "NONE"),
            line(10, Arrow::Released, "EndTxn 4 commit", "NONE"),
            line(11, Arrow::Note, "a wait", ""),
        ];
        // Without the blanks in front, which the macro cannot keep.
        let drawn: Vec<String> =
            render(&lines).lines().map(|line| line.trim_start().to_owned()).collect();
        expect![[r#"
            ms  step  who  connection     node  request
            0.0     1  p    main        ──▏   1  EndTxn 4 commit  held
            1.0     1  p    main        ──▶   1  Produce 11 t-0   NOT_LEADER, 2 times
            9.0     1  p    main        ──▶   1  Produce 11 t-0   NONE
            10.0     1  p    main        ▕─▶   1  EndTxn 4 commit  NONE
            11.0     1  p    main              1  a wait

            ──▏ held back    ▕─▶ arrives only now"#]]
        .assert_eq(&drawn.join("\n"));
    }
}
