//! Turns one request of the control into one reply.
//!
//! Never: sees a socket.

use serde_json::{Value, json};

use super::metrics;
use crate::proxy::Total;
use crate::proxy::rule::{Board, Listed, Rule, RuleError, file::from_toml};

/// The body of a reply, with its type and its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// As HTTP numbers them.
    pub status: u16,
    /// The type of the body.
    pub content_type: &'static str,
    /// The body; empty where there is nothing to say.
    pub body: String,
}

impl Reply {
    fn json(status: u16, value: &Value) -> Self {
        Self { status, content_type: "application/json", body: format!("{value}\n") }
    }

    fn done() -> Self {
        Self { status: 204, content_type: "application/json", body: String::new() }
    }

    /// A refusal in words.
    #[must_use]
    pub fn refused(status: u16, error: &str) -> Self {
        Self::json(status, &json!({ "error": error }))
    }
}

/// What the control answers, and does. `total` is what went through the proxy so far.
#[must_use]
pub fn answer(board: &Board, total: Total, method: &str, path: &str, body: &[u8]) -> Reply {
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
    match (method, steps.as_slice()) {
        ("GET", ["version"]) => Reply::json(200, &json!({ "version": env!("CARGO_PKG_VERSION") })),
        ("GET", ["metrics"]) => Reply {
            status: 200,
            content_type: "text/plain; version=0.0.4",
            body: metrics::text(&board.list(), total),
        },
        ("GET", ["rules"]) => {
            let rules: Vec<Value> = board.list().iter().map(as_json).collect();
            Reply::json(200, &json!({ "rules": rules }))
        }
        ("POST", ["rules"]) => add(board, body),
        ("GET", ["rules", name]) => match board.list().iter().find(|one| one.rule.name == *name) {
            Some(listed) => Reply::json(200, &as_json(listed)),
            None => no_rule(name),
        },
        ("DELETE", ["rules", name]) => one(name, board.remove(name)),
        ("POST", ["rules", name, "release"]) => one(name, board.release(name)),
        ("POST", ["reset"]) => {
            board.reset();
            Reply::done()
        }
        _ => not_there(method, &steps),
    }
}

fn one(name: &str, found: bool) -> Reply {
    if found { Reply::done() } else { no_rule(name) }
}

fn no_rule(name: &str) -> Reply {
    Reply::refused(404, &format!("there is no rule named {name}"))
}

fn not_there(method: &str, steps: &[&str]) -> Reply {
    let methods = match steps {
        ["version" | "metrics"] => "GET",
        ["rules"] => "GET or POST",
        ["rules", _] => "GET or DELETE",
        ["rules", _, "release"] | ["reset"] => "POST",
        _ => {
            let paths = "/rules, /rules/NAME, /rules/NAME/release, /reset, /metrics, /version";
            return Reply::refused(404, &format!("nothing there, expected one of {paths}"));
        }
    };
    Reply::refused(405, &format!("{method} is not done there, expected {methods}"))
}

/// Adds all rules of a body, or none.
fn add(board: &Board, body: &[u8]) -> Reply {
    let Ok(text) = std::str::from_utf8(body) else {
        return Reply::refused(400, "the body is not UTF-8");
    };
    let rules = match read(text) {
        Ok(rules) if rules.is_empty() => {
            let expected =
                "expected a rule: {\"rule\": \"hold EndTxn for=5s\"}, a line, or [[rule]]";
            return Reply::refused(400, expected);
        }
        Ok(rules) => rules,
        Err(refused) => return refused,
    };
    let mut added: Vec<String> = Vec::new();
    for rule in rules {
        match board.add(rule) {
            Ok(name) => added.push(name),
            Err(error) => {
                for name in &added {
                    board.remove(name);
                }
                return Reply::refused(409, &error);
            }
        }
    }
    let list = board.list();
    let added = list.iter().filter(|listed| added.contains(&listed.rule.name));
    Reply::json(201, &json!({ "rules": added.map(as_json).collect::<Vec<_>>() }))
}

/// The rules of a body: JSON by its brace, TOML by its brackets, else a rule a line.
fn read(text: &str) -> Result<Vec<Rule>, Reply> {
    let begin = text.trim_start();
    if begin.starts_with('{') {
        return lines_of_json(text)?.iter().map(|line| parse(line, 1)).collect();
    }
    if begin.starts_with("[[") || begin.starts_with('#') {
        return from_toml(text).map_err(|error| misread(&error));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(index, line)| parse(line, index as u32 + 1)).collect()
}

fn parse(text: &str, line: u32) -> Result<Rule, Reply> {
    text.parse().map_err(|mut error: RuleError| {
        error.at.line += line - 1;
        misread(&error)
    })
}

/// `{"rule": "…"}` or `{"rules": ["…"]}`.
fn lines_of_json(text: &str) -> Result<Vec<String>, Reply> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Reply::json(400, &json!({ "error": error.to_string(), "line": line, "column": column }))
    })?;
    let line = |value: &Value| value.as_str().map(str::to_owned);
    let lines = match (&value["rule"], &value["rules"]) {
        (Value::String(rule), Value::Null) => Some(vec![rule.clone()]),
        (Value::Null, Value::Array(rules)) => rules.iter().map(line).collect(),
        _ => None,
    };
    lines.ok_or_else(|| {
        Reply::refused(400, "expected {\"rule\": \"TEXT\"} or {\"rules\": [\"TEXT\", ...]}")
    })
}

fn misread(error: &RuleError) -> Reply {
    let (line, column) = (error.at.line, error.at.column);
    Reply::json(400, &json!({ "error": error.reason, "line": line, "column": column }))
}

fn as_json(listed: &Listed) -> Value {
    json!({
        "name": listed.rule.name,
        "rule": listed.rule.to_string(),
        "class": listed.rule.action.class().name(),
        "matched": listed.matched,
        "fired": listed.fired,
        "lasting": listed.lasting,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::rule::Rules;
    use crate::world::Chance;

    fn board() -> Board {
        Board::new(Rules::new(Chance::from_seed(1)))
    }

    /// The status and the body of the reply to each request in turn.
    fn check(board: &Board, requests: &[(&str, &str, &str, u16, &str)]) {
        for (method, path, body, status, says) in requests {
            let reply = answer(board, Total::default(), method, path, body.as_bytes());
            assert_eq!(reply.status, *status, "{method} {path} {body}: {}", reply.body);
            assert!(reply.body.contains(says), "{method} {path} {body}: {}", reply.body);
        }
    }

    #[test]
    fn rules_come_and_go() {
        check(
            &board(),
            &[
                ("GET", "/rules", "", 200, "{\"rules\":[]}"),
                ("POST", "/rules", "hold EndTxn for=5s name=late", 201, "\"name\":\"late\""),
                (
                    "POST",
                    "/rules",
                    "{\"rule\": \"drop-request Fetch\"}",
                    201,
                    "\"class\":\"forgery\"",
                ),
                ("POST", "/rules", "[[rule]]\naction = \"hold\"\nname = \"third\"\n", 201, "third"),
                ("POST", "/rules", "hold Fetch name=a\nhold Produce name=b\n", 201, "\"b\""),
                (
                    "GET",
                    "/rules/late",
                    "",
                    200,
                    "\"rule\":\"hold EndTxn request for=5s name=late\"",
                ),
                ("POST", "/rules/late/release", "", 204, ""),
                ("DELETE", "/rules/late", "", 204, ""),
                ("GET", "/rules/late", "", 404, "no rule named late"),
                ("DELETE", "/rules/late", "", 404, "no rule named late"),
                ("POST", "/reset", "", 204, ""),
                ("GET", "/rules", "", 200, "{\"rules\":[]}"),
            ],
        );
    }

    #[test]
    fn what_is_no_rule_is_refused_where_it_is_wrong() {
        let board = board();
        check(
            &board,
            &[
                ("POST", "/rules", "hold EndTnx", 400, "\"column\":6"),
                ("POST", "/rules", "hold EndTxn\n\nhold Fetch fro=1s", 400, "\"line\":3"),
                ("POST", "/rules", "{\"rule\": 3}", 400, "expected {"),
                ("POST", "/rules", "{\"rule\": ", 400, "\"line\":1"),
                ("POST", "/rules", "", 400, "expected a rule"),
                ("POST", "/rules", "[[rule]]\nfor = 3\n", 400, "no action"),
                ("POST", "/rules", "hold Fetch name=a\nhold EndTxn name=a", 409, "named a already"),
                ("PUT", "/rules", "", 405, "GET or POST"),
                ("GET", "/reset", "", 405, "POST"),
                ("GET", "/proxies", "", 404, "/rules/NAME/release"),
            ],
        );
        let reply = answer(&board, Total::default(), "POST", "/rules", &[0xff]);
        assert_eq!(reply.status, 400);
        assert!(board.list().is_empty(), "all rules of a body are added, or none");
    }

    #[test]
    fn counts_are_served_as_prometheus_reads_them() {
        let board = board();
        board.add("hold EndTxn name=late".parse().unwrap()).unwrap();
        let reply = answer(&board, Total::default(), "GET", "/metrics", b"");
        assert!(reply.content_type.starts_with("text/plain"));
        for line in [
            "# TYPE fencepost_proxy_connections_total counter",
            "fencepost_proxy_bytes_total{direction=\"request\"} 0",
            "fencepost_proxy_rule_fired_total{rule=\"late\",action=\"hold\",class=\"network\"} 0",
        ] {
            assert!(reply.body.lines().any(|have| have == line), "{line}\n{}", reply.body);
        }
    }
}
