//! What came of a request: codes and the few numbers a chart shows.

use kafka_wire::ErrorCode;
use kafka_wire::schema::{Fields, Value};

use crate::client::Fate;
use crate::history::outcome;

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// An answer.
    Answer(Fields),
    /// None.
    Nothing(Fate),
}

impl Came {
    /// The first error code of the answer that is one, else 0; absent where there is no answer.
    #[must_use]
    pub fn code(&self) -> Option<i16> {
        let Self::Answer(fields) = self else { return None };
        let mut codes = Vec::new();
        numbers(fields, &|name| name.ends_with("error_code"), &mut codes);
        let code = codes.into_iter().find(|code| *code != 0).unwrap_or(0);
        Some(i16::try_from(code).unwrap_or(-1))
    }

    /// The first number of that name, wherever it stands.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let Self::Answer(fields) = self else { return None };
        let mut found = Vec::new();
        numbers(fields, &|other| other == name, &mut found);
        found.first().copied()
    }

    /// As the table of outcomes takes it.
    #[must_use]
    pub fn fate(&self) -> outcome::Fate {
        match self {
            Self::Answer(_) => outcome::Fate::Answered(ErrorCode(self.code().unwrap_or(0))),
            Self::Nothing(Fate::NotSent { .. }) => outcome::Fate::NotSent,
            Self::Nothing(Fate::Lost { .. }) => outcome::Fate::Lost,
            Self::Nothing(Fate::TimedOut) => outcome::Fate::TimedOut,
            Self::Nothing(Fate::Broken(_)) => outcome::Fate::Broken,
        }
    }

    /// In a few words.
    #[must_use]
    pub fn brief(&self) -> String {
        let code = match self {
            Self::Nothing(fate) => return format!("({fate})"),
            Self::Answer(_) => self.code().unwrap_or(0),
        };
        if code != 0 {
            return ErrorCode(code).to_string();
        }
        let mut text = "NONE".to_owned();
        let shown = [
            ("producer_id", "producer"),
            ("producer_epoch", "epoch"),
            ("base_offset", "at offset"),
            ("committed_offset", "offset"),
            ("generation_id", "generation"),
        ];
        for (field, words) in shown {
            // No committed offset, which is −1, is an answer too.
            let is_told = |number: &i64| *number >= 0 || field == "committed_offset";
            if let Some(number) = self.number(field).filter(is_told) {
                text.push_str(&format!(" {words} {number}"));
            }
        }
        if let Self::Answer(fields) = self
            && let Some(state) = text_of(fields, "transaction_state")
        {
            text.push_str(&format!(" {state}"));
        }
        text
    }
}

fn numbers(fields: &Fields, wanted: &dyn Fn(&str) -> bool, found: &mut Vec<i64>) {
    for (name, value) in fields.iter() {
        match value {
            Value::Int(number) if wanted(name) => found.push(*number),
            _ => each_struct(value, &mut |inner| numbers(inner, wanted, found)),
        }
    }
}

fn text_of(fields: &Fields, wanted: &str) -> Option<String> {
    let mut found = None;
    for (name, value) in fields.iter() {
        match value {
            Value::String(text) if name == wanted => return Some(text.clone()),
            _ => each_struct(value, &mut |inner| {
                found = found.take().or_else(|| text_of(inner, wanted));
            }),
        }
    }
    found
}

fn each_struct(value: &Value, visit: &mut dyn FnMut(&Fields)) {
    match value {
        Value::Struct(inner) => visit(inner),
        Value::Array(elements) => elements.iter().for_each(|element| each_struct(element, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_of_any_depth_is_the_code() {
        let partition =
            Fields::new().with("index", 0).with("error_code", 47).with("base_offset", 3);
        let topic = Fields::new().with("partition_responses", vec![partition]);
        let came = Came::Answer(Fields::new().with("responses", vec![topic]));
        assert_eq!((came.code(), came.number("base_offset")), (Some(47), Some(3)));
        assert_eq!(came.brief(), "INVALID_PRODUCER_EPOCH (47)");
        let came = Came::Answer(Fields::new().with("error_code", 0).with("producer_epoch", 2));
        assert_eq!(came.brief(), "NONE epoch 2");
        assert_eq!(Came::Nothing(Fate::TimedOut).code(), None);
    }
}
