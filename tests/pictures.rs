//! Cycles as pictures: what Graphviz and an XML parser make of them, and whether anything is drawn
//! over anything else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;

use fencepost::checker::explain::{Cycle, CycleEdge, CycleOperation};
use fencepost::checker::{ConsistencyModel, Expectation, Workload, check};
use fencepost::history::EventType;
use fencepost::history::read::{Format, read_history};

/// Texts that break pictures that are put together from strings.
const HOSTILE: [&str; 5] = [
    "sent \"<&>\" to key \\\"]; t9 -> t1 [label=\"",
    "polled key 4 up to 4]]> --> \\",
    "sent 'ключ' to key 鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵",
    "sent \u{0}\u{1b}[31m\n\t\u{ffff} to key \u{85}",
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW\
     WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
];

fn made(count: usize) -> Cycle {
    let kinds = ["ww", "wr", "rw", "realtime", "process"];
    let endings = [EventType::Ok, EventType::Info, EventType::Fail, EventType::Invoke];
    let hostile = |place: usize| HOSTILE[place % HOSTILE.len()].to_owned();
    let operation = |place: usize| CycleOperation {
        index: 1_000_000 * place as u64,
        process: format!("process {place}"),
        ending: endings[place % endings.len()],
        summary: (0..place % 4).map(|line| hostile(place + line)).collect(),
    };
    let edge = |place: usize| CycleEdge {
        kind: kinds[place % kinds.len()],
        label: hostile(place + 1),
        because: format!("reason {place} {}", hostile(place + 2)),
        step: serde_json::Value::Null,
    };
    Cycle {
        name: "G1c",
        operations: (0..count).map(operation).collect(),
        edges: (0..count).map(edge).collect(),
    }
}

/// Every cycle shown of every history of the corpus.
fn found() -> Vec<Cycle> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/histories");
    let mut cycles = Vec::new();
    for entry in fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_none_or(|extension| extension != "edn") {
            continue;
        }
        let is_lists = path.to_string_lossy().contains("list-append");
        let expected = Expectation {
            workload: if is_lists { Workload::ListAppend } else { Workload::Queue },
            consistency_model: ConsistencyModel::find("strict-serializable").expect("a model"),
            anomalies_max: Some(0),
            ..Expectation::default()
        };
        let file = File::open(path).expect("it can be opened");
        let read = read_history(file, Format::Edn, NonZeroUsize::MIN).expect("it can be read");
        let verdict = check(&read.history, &expected);
        let cases = verdict.anomalies.into_values().flat_map(|found| found.cases);
        cycles.extend(cases.filter_map(|case| case.cycle));
    }
    cycles
}

fn all() -> Vec<Cycle> {
    let mut cycles = found();
    let lengths: BTreeSet<usize> = cycles.iter().map(|cycle| cycle.operations.len()).collect();
    assert!(lengths.len() > 2 && lengths.contains(&2), "real cycles of lengths {lengths:?}");
    cycles.extend((2..=8).map(made));
    cycles
}

/// How wide Helvetica is from space to tilde, in thousandths of its size.
#[rustfmt::skip]
const HELVETICA: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// What a shape covers.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "what it is, is read by whoever reads a failure")]
struct Area {
    what: String,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Area {
    fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn holds(&self, other: &Self) -> bool {
        self.left <= other.left
            && other.right <= self.right
            && self.top <= other.top
            && other.bottom <= self.bottom
    }
}

fn number(node: roxmltree::Node<'_, '_>, name: &str) -> Option<f64> {
    node.attribute(name)?.parse().ok()
}

fn text_area(node: roxmltree::Node<'_, '_>) -> Area {
    let text = node.text().unwrap_or_default().to_owned();
    let size = number(node, "font-size").unwrap_or(13.0);
    // Bold is wider by a ninth at most.
    let scale = if node.attribute("font-weight").is_some() { 1.11 } else { 1.0 };
    let thousandths = |c: char| match c {
        ' '..='~' => HELVETICA[c as usize - 32],
        '·' => 278,
        _ => 1000,
    };
    let width: f64 = text.chars().map(|c| f64::from(thousandths(c))).sum();
    let (left, line) = (number(node, "x").expect("x"), number(node, "y").expect("y"));
    let right = left + width * scale * size / 1000.0;
    Area { what: text, left, right, top: line - 0.8 * size, bottom: line + 0.2 * size }
}

#[test]
fn a_picture_is_xml_in_which_nothing_lies_over_a_text_or_outside() {
    for cycle in all() {
        let svg = cycle.to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap_or_else(|e| panic!("{e}: {svg}"));
        let root = document.root_element();
        let view = root.attribute("viewBox").expect("a view");
        let view: Vec<f64> = view.split(' ').map(|n| n.parse().expect("a number")).collect();
        let view =
            Area { what: "view".into(), left: 0.0, top: 0.0, right: view[2], bottom: view[3] };
        let texts: Vec<Area> = root
            .children()
            .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")))
            .map(text_area)
            .collect();
        for (place, text) in texts.iter().enumerate() {
            assert!(view.holds(text), "{text:?} in {view:?}: {svg}");
            for other in &texts[place + 1..] {
                assert!(!text.meets(other), "{text:?} over {other:?}: {svg}");
            }
        }
        // Boxes do not meet, and each text is inside one or clear of all.
        let boxes: Vec<Area> = root.children().filter_map(box_area).collect();
        assert_eq!(boxes.len(), cycle.operations.len().min(24), "{svg}");
        for (place, shape) in boxes.iter().enumerate() {
            assert!(view.holds(shape) && boxes[place + 1..].iter().all(|b| !b.meets(shape)));
            for text in &texts {
                assert!(!shape.meets(text) || shape.holds(text), "{text:?} in {shape:?}: {svg}");
            }
        }
        assert_eq!(svg, cycle.to_svg(), "the same every time");
    }
}

fn box_area(node: roxmltree::Node<'_, '_>) -> Option<Area> {
    node.attribute("stroke").filter(|_| node.tag_name().name() == "rect")?;
    let (left, top) = (number(node, "x")?, number(node, "y")?);
    let (right, bottom) = (left + number(node, "width")?, top + number(node, "height")?);
    Some(Area { what: "box".into(), left, right, top, bottom })
}

/// All text of a picture, tooltips too.
fn words(svg: &str) -> String {
    let document = roxmltree::Document::parse(svg).expect("XML");
    document.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect()
}

#[test]
fn a_picture_names_every_operation_and_every_reason() {
    let plain = |text: &str| -> String {
        let is_odd = |c: char| c.is_control() || c == '\u{ffff}';
        text.chars().map(|c| if is_odd(c) { ' ' } else { c }).collect()
    };
    for cycle in all().iter().filter(|cycle| cycle.operations.len() <= 24) {
        let words = words(&cycle.to_svg());
        for (place, (op, edge)) in (1..).zip(cycle.operations.iter().zip(&cycle.edges)) {
            let title = format!("T{place} · operation {} · {}", op.index, op.process);
            for text in op.summary.iter().chain([&title, &edge.because]) {
                assert!(words.contains(&plain(text)), "{text} in {words}");
            }
        }
    }
}

#[test]
fn a_long_cycle_keeps_its_last_operation_and_says_how_many_are_left_out() {
    let words = words(&made(1000).to_svg());
    assert!(words.contains("… 976 more operations …") && words.contains("T1000 · "), "{words}");
}

/// The statements of a graph, each with the strings in it, unquoted and taken out.
fn statements(dot: &str) -> Vec<(String, Vec<String>)> {
    let body = dot.strip_prefix("digraph cycle {").expect("a graph begins");
    let body = body.trim_end().strip_suffix('}').expect("and ends");
    let mut statements = vec![(String::new(), Vec::new())];
    let mut chars = body.chars();
    let mut depth = 0;
    while let Some(c) = chars.next() {
        let (words, strings) = statements.last_mut().expect("there is always one");
        match c {
            '"' => {
                let mut text = String::new();
                loop {
                    match chars.next().expect("a string ends") {
                        '"' => break,
                        '\\' => text.push(chars.next().expect("something is escaped")),
                        c => text.push(c),
                    }
                }
                strings.push(text);
                words.push('$');
            }
            ';' => statements.push((String::new(), Vec::new())),
            c => {
                depth += i32::from(c == '[') - i32::from(c == ']');
                assert!((0..=1).contains(&depth) && c != '{' && c != '}', "{dot}");
                words.push(c);
            }
        }
    }
    assert_eq!(depth, 0, "{dot}");
    statements.retain(|(words, _)| !words.trim().is_empty());
    statements
}

#[test]
fn graphviz_is_told_every_operation_and_every_edge_once() {
    for cycle in all().into_iter().chain([made(1000)]) {
        let dot = cycle.to_dot();
        let count = cycle.operations.len();
        let statements = statements(&dot);
        let words = |(words, _): &(String, Vec<String>)| {
            words
                .trim()
                .split(' ')
                .take_while(|w| !w.starts_with('['))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let told: Vec<String> = statements.iter().map(words).collect();
        let nodes = (1..=count).map(|n| format!("t{n}"));
        let edges = (1..=count).map(|n| format!("t{n} -> t{}", n % count + 1));
        let defaults = ["node", "edge"].map(str::to_owned);
        assert_eq!(told, defaults.into_iter().chain(nodes).chain(edges).collect::<Vec<_>>());
        for (place, op) in cycle.operations.iter().enumerate() {
            let label = &statements[2 + place].1[0];
            assert!(label.starts_with(&format!("T{} · operation {} ", place + 1, op.index)));
        }
        for (place, edge) in cycle.edges.iter().enumerate() {
            let label = &statements[2 + count + place].1[0];
            assert!(label.starts_with(&format!(" {} ", edge.kind)), "{label}");
        }
        assert_eq!(dot, cycle.to_dot(), "the same every time");
    }
}
