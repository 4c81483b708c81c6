//! Who may import whom: the table of the design, and a test that the sources keep to it.
//!
//! Read are the paths `crate::room`, `super::…::room` and `fencepost::room` in `src/`, without
//! comments, strings and `#[cfg(test)]` modules.
//! Not checked: what a macro expands to; a room handed on through another's `pub use`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One row: layer, room, the rooms it may import, and whether it may touch the outside world
/// (sockets, processes, files). `world` is everybody's.
struct Row(u8, &'static str, &'static [&'static str], Outside);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outside {
    /// Values and `Read`/`Write` traits alone.
    None,
    /// Sockets, processes, files it is handed.
    World,
}
use Outside::{None as Nothing, World};

/// Lower never imports higher.
const TABLE: &[Row] = &[
    Row(0, "world", &[], Nothing),
    Row(1, "history", &[], Nothing),
    Row(2, "checker", &["history"], Nothing),
    Row(3, "client", &["history"], World),
    Row(3, "proxy", &["history"], World),
    Row(3, "broker", &["history"], World),
    Row(4, "capture", &["history"], World),
    Row(4, "pipeline", &["history", "client"], World),
    Row(5, "scenario", &["history", "client", "proxy", "broker", "pipeline", "checker"], World),
    Row(5, "workload", &["history", "client", "pipeline"], World),
    Row(
        6,
        "fuzzer",
        &["history", "client", "proxy", "broker", "pipeline", "checker", "capture", "scenario"],
        World,
    ),
    Row(7, "report", &["history", "checker"], Nothing),
    Row(
        8,
        "run",
        &[
            "history", "checker", "client", "proxy", "broker", "capture", "pipeline", "scenario",
            "workload", "fuzzer", "report",
        ],
        World,
    ),
    Row(
        9,
        "cli",
        &[
            "history", "checker", "client", "proxy", "broker", "capture", "pipeline", "scenario",
            "workload", "fuzzer", "report", "run",
        ],
        World,
    ),
];

/// Where clock, chance and environment are made; every other room gets them as arguments.
const MAKES_CLOCK_AND_CHANCE: &[&str] = &["run"];
const READS_ENVIRONMENT: &[&str] = &["run", "cli"];

const CLOCK_AND_CHANCE: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "rand::rng",
    "rand::thread_rng",
    "rand::random",
    "rand::rngs::ThreadRng",
    "rand::rngs::SysRng",
    "rand::rngs::OsRng",
];
const ENVIRONMENT: &[&str] = &["std::env::var", "std::env::vars", "std::env::var_os"];
/// Addresses are values; what opens them is not.
const OUTSIDE: &[&str] = &[
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::os::unix::net",
    "std::fs",
    "std::process",
    "tokio::net",
    "tokio::fs",
    "tokio::process",
    "socket2",
    "libc",
];

/// Something a file does that the table forbids.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Breach {
    line: usize,
    what: String,
}

/// What is forbidden in the text of a file of `room`, `depth` modules below the root.
fn breaches(room: &str, depth: usize, text: &str) -> Vec<Breach> {
    let row = TABLE.iter().find(|Row(_, name, ..)| *name == room);
    let Some(Row(_, _, may_import, outside)) = row else {
        return vec![Breach { line: 1, what: format!("{room} is no room of the table") }];
    };
    let mut found = BTreeSet::new();
    for (line, path) in paths(text) {
        if let Some(other) = room_of(&path, depth)
            && other != room
            && other != "world"
            && !may_import.contains(&other)
        {
            found.insert(Breach { line, what: format!("{room} may not import {other}") });
        }
        let is = |forbidden: &&&str| {
            path == **forbidden
                || path.strip_prefix(**forbidden).is_some_and(|rest| rest.starts_with("::"))
        };
        let mut forbid = |table: &[&str], applies: bool, why: &str| {
            if let Some(what) = table.iter().find(is).filter(|_| applies) {
                found.insert(Breach { line, what: format!("{room} may not use {what}: {why}") });
            }
        };
        forbid(CLOCK_AND_CHANCE, !MAKES_CLOCK_AND_CHANCE.contains(&room), "it is an argument");
        forbid(ENVIRONMENT, !READS_ENVIRONMENT.contains(&room), "it is an argument");
        forbid(OUTSIDE, *outside == Nothing, "the outside world is not its");
    }
    found.into_iter().collect()
}

/// The room a path leads into, absent where it stays inside or leaves the crate.
fn room_of(path: &str, depth: usize) -> Option<&str> {
    let mut segments = path.split("::").peekable();
    match segments.next()? {
        "crate" | "fencepost" => {}
        "super" => {
            let mut climbed = 1;
            while segments.next_if_eq(&"super").is_some() {
                climbed += 1;
            }
            if climbed < depth {
                return None;
            }
        }
        _ => return None,
    }
    let room = segments.next()?;
    TABLE.iter().any(|Row(_, name, ..)| *name == room).then_some(room)
}

/// Every path of a text with its line: those of `use` trees spelt out, and those in expressions,
/// their first segment replaced by what it was imported as.
fn paths(text: &str) -> Vec<(usize, String)> {
    let tokens = tokens(&without_tests(&without_comments(text)));
    let mut paths = Vec::new();
    let mut imported: Vec<(String, String)> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let (line, token) = &tokens[at];
        if token == "use" {
            at += 1;
            let mut tree = Vec::new();
            read_tree(&tokens, &mut at, "", &mut tree);
            for (line, path, name) in tree {
                imported.push((name, path.clone()));
                paths.push((line, path));
            }
        } else if is_name(token) {
            let mut path = token.clone();
            while tokens.get(at + 1).is_some_and(|(_, token)| token == "::")
                && let Some((_, next)) = tokens.get(at + 2).filter(|(_, next)| is_name(next))
            {
                path = format!("{path}::{next}");
                at += 2;
            }
            at += 1;
            paths.push((*line, path));
        } else {
            at += 1;
        }
    }
    for (_, path) in &mut paths {
        let (first, rest) = path.split_once("::").unwrap_or((path, ""));
        let import = imported.iter().find(|(name, full)| name == first && full != path);
        if let Some((_, full)) = import.filter(|_| !rest.is_empty()) {
            *path = format!("{full}::{rest}");
        }
    }
    paths
}

/// Reads one tree of a `use` from `at`: every leaf with its line, full path and local name.
fn read_tree(
    tokens: &[(usize, String)],
    at: &mut usize,
    prefix: &str,
    leaves: &mut Vec<(usize, String, String)>,
) {
    let join = |prefix: &str, name: &str| {
        if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") }
    };
    let mut path = prefix.to_owned();
    while let Some((line, token)) = tokens.get(*at) {
        *at += 1;
        match token.as_str() {
            "::" => {}
            "{" => {
                while tokens.get(*at).is_some_and(|(_, token)| token != "}") {
                    read_tree(tokens, at, &path, leaves);
                    if tokens.get(*at).is_some_and(|(_, token)| token == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            name => {
                path = if name == "self" && !prefix.is_empty() { path } else { join(&path, name) };
                let next = tokens.get(*at).map(|(_, token)| token.as_str());
                if next == Some("::") {
                    continue;
                }
                let mut local = path.rsplit("::").next().unwrap_or_default().to_owned();
                if next == Some("as") {
                    local = tokens.get(*at + 1).map(|(_, name)| name.clone()).unwrap_or_default();
                    *at += 2;
                }
                leaves.push((*line, path, local));
                return;
            }
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and every other character that is not a space, each with its line.
fn tokens(text: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                _ if rest.starts_with("::") => 2,
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                c => c.len_utf8(),
            };
            tokens.push((index + 1, rest[..length].to_owned()));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// The text with comments, strings and characters blanked, line breaks kept.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = raw_string(rest) {
            raw
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..length].chars().filter(|c| *c == '\n'));
        out.push(' ');
        rest = &rest[length..];
    }
    out
}

/// Length of a quoted text with its quotes, backslashes minded.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// A quote begins a character, not a lifetime, where another follows one character or escape later.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

/// Length of a raw string at the start of the text.
fn raw_string(text: &str) -> Option<usize> {
    let hashes_on = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = hashes_on.len() - hashes_on.trim_start_matches('#').len();
    let body = hashes_on[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + length)
}

/// The text with every `#[cfg(test)]` item blanked up to its closing brace or semicolon.
fn without_tests(text: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(MARK) {
        out.push_str(&rest[..start]);
        let mut open = 0;
        let end = rest[start + MARK.len()..].char_indices().find_map(|(at, c)| {
            open += i32::from(c == '{') - i32::from(c == '}');
            let is_end = open == 0 && matches!(c, '}' | ';');
            is_end.then_some(start + MARK.len() + at + 1)
        });
        let end = end.unwrap_or(rest.len());
        out.extend(rest[start..end].chars().filter(|c| *c == '\n'));
        rest = &rest[end..];
    }
    out + rest
}

fn source_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// The room of a file, absent for `lib.rs` and `main.rs`, and how deep its module is.
fn place(file: &Path) -> (Option<String>, usize) {
    let parts: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match parts.as_slice() {
        [root] if root == "lib" || root == "main" => (None, 0),
        [.., last] if last == "mod" => (Some(parts[0].clone()), parts.len() - 1),
        _ => (Some(parts[0].clone()), parts.len()),
    }
}

#[test]
fn no_room_imports_what_its_layer_forbids() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let mut complaints = Vec::new();
    for file in &files {
        let (Some(room), depth) = place(file.strip_prefix(&root).unwrap()) else { continue };
        // A module for tests alone is tests.
        if file.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        for Breach { line, what } in breaches(&room, depth, &std::fs::read_to_string(file).unwrap())
        {
            complaints.push(format!("{}:{line}: {what}", file.display()));
        }
    }
    assert!(files.len() > 10, "the sources are not where they are looked for");
    assert!(complaints.is_empty(), "forbidden:\n{}", complaints.join("\n"));
}

#[test]
fn codecs_know_no_runtime_and_no_room() {
    let codecs = Path::new(env!("CARGO_MANIFEST_DIR")).join("codecs");
    let mut seen = 0;
    for entry in std::fs::read_dir(codecs).unwrap() {
        let Ok(manifest) = std::fs::read_to_string(entry.unwrap().path().join("Cargo.toml")) else {
            continue;
        };
        seen += 1;
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        for name in dependencies.iter().flat_map(|table| table.keys()) {
            assert!(!["tokio", "fencepost"].contains(&name.as_str()), "a codec depends on {name}");
        }
    }
    assert!(seen >= 3, "the codecs are not where they are looked for");
}

#[test]
fn the_table_lets_nobody_import_a_higher_layer() {
    let layer = |room: &str| TABLE.iter().find(|Row(_, name, ..)| *name == room).unwrap().0;
    for Row(own, room, may_import, _) in TABLE {
        for other in *may_import {
            let is_lower = layer(other) < *own || (layer(other) == *own && other != room);
            assert!(is_lower, "{room} imports {other}");
        }
    }
}

/// What is found in a made-up file, as `line: what`.
fn check(room: &str, depth: usize, text: &str, expected: &[&str]) {
    let found: Vec<String> =
        breaches(room, depth, text).iter().map(|b| format!("{}: {}", b.line, b.what)).collect();
    assert_eq!(found, expected, "in\n{text}");
}

#[test]
fn a_forbidden_arrow_is_found_however_it_is_written() {
    let no_client = ["2: broker may not import client"];
    for text in [
        "\nuse crate::client::Connection;",
        "\npub(crate) use crate::{history::Event, client};",
        "\nuse crate::{world::{Clock, Chance}, client::{self as c, x::Y}};",
        "fn f() {\n    let x = crate::client::connect(1); }",
        "\nuse super::super::client::Connection;",
        "/* crate::run */ // crate::run\nuse crate::client as other; const S: &str = \"crate::run\";",
    ] {
        check("broker", 2, text, &no_client);
    }
    check("checker", 1, "use super::run::Plan;", &["1: checker may not import run"]);
    check("nowhere", 1, "", &["1: nowhere is no room of the table"]);
}

#[test]
fn what_the_table_allows_is_not_complained_about() {
    check("pipeline", 1, "use crate::client::Connection; use crate::world::Clock;", &[]);
    check("broker", 3, "use super::super::Node; use super::client::X; use crate::broker::Y;", &[]);
    check("broker", 1, "// use crate::client;\nfn f<'a>(x: &'a str) { let c = 'x'; }", &[]);
    check("broker", 1, "#[cfg(test)]\nmod tests { use crate::run::Plan; fn f() { {} } }", &[]);
    check("broker", 1, "const R: &str = r#\"crate::run \" \"#; use other::client::X;", &[]);
}

#[test]
fn clock_chance_and_environment_are_arguments() {
    let clock = ["1: client may not use std::time::Instant::now: it is an argument"];
    check("client", 1, "use std::time::{Duration, Instant}; fn f() { Instant::now(); }", &clock);
    check("client", 1, "fn f() { let _ = std::time::Instant::now(); }", &clock);
    check("client", 1, "use tokio::time::Instant; fn f() { Instant::now(); }", &[]);
    check("run", 1, "fn f() { let _ = std::time::SystemTime::now(); }", &[]);
    let chance = ["1: workload may not use rand::rng: it is an argument"];
    check("workload", 1, "fn f() { rand::rng(); }", &chance);
    check("workload", 1, "use rand::rng as dice; fn f() { dice(); }", &chance);
    let environment = ["1: broker may not use std::env::var: it is an argument"];
    check("broker", 1, "use std::env; fn f() { env::var(\"X\"); }", &environment);
    check("cli", 1, "fn f() { std::env::var(\"NO_COLOR\"); }", &[]);
    let outside = ["1: checker may not use std::fs: the outside world is not its"];
    check("checker", 1, "use std::fs::File;", &outside);
}
