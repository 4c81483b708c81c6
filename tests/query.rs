//! `fencepost query` from outside: questions about small histories, and what a run folder says of
//! its anomalies.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

/// Key 3: value 6 is acknowledged at offset 1 and never read, though readers went past; 8 stands at
/// two offsets; 9 was sent by an operation that failed.
const LOST: &str = r#"
{"index":0,"time":1000,"type":"invoke","process":0,"f":"send","value":[["send",3,5]]}
{"index":1,"time":2000,"type":"ok","process":0,"f":"send","value":[["send",3,[0,5]]]}
{"index":2,"time":3000,"type":"invoke","process":0,"f":"send","value":[["send",3,6]]}
{"index":3,"time":4000,"type":"ok","process":0,"f":"send","value":[["send",3,[1,6]]]}
{"index":4,"time":5000,"type":"invoke","process":1,"f":"send","value":[["send",3,7]]}
{"index":5,"time":6000,"type":"ok","process":1,"f":"send","value":[["send",3,[2,7]]]}
{"index":6,"time":7000,"type":"invoke","process":1,"f":"send","value":[["send",3,8]]}
{"index":7,"time":8000,"type":"ok","process":1,"f":"send","value":[["send",3,[3,8]]]}
{"index":8,"time":9000,"type":"invoke","process":1,"f":"send","value":[["send",3,9],["send",4,1]]}
{"index":9,"time":9500,"type":"fail","process":1,"f":"send","value":[["send",3,9],["send",4,1]],"error":"fenced"}
{"index":10,"time":10000,"type":"invoke","process":2,"f":"poll","value":[["poll"]]}
{"index":11,"time":11000,"type":"ok","process":2,"f":"poll","value":[["poll",{"3":[[0,5],[2,7],[3,8],[4,8]]}]]}
{"index":12,"time":12000,"type":"info","process":"nemesis","f":"kill","value":{"n1":"killed"}}
"#;

/// Two transactions that each read what the other sent.
const CIRCLE: &str = r#"
{:index 0 :time 0 :type :invoke :process 0 :f :txn :value [[:send :a 1] [:poll]]}
{:index 1 :time 1 :type :invoke :process 1 :f :txn :value [[:send "b c" 2] [:poll]]}
{:index 2 :time 2 :type :ok :process 0 :f :txn :value [[:send :a [0 1]] [:poll {"b c" [[0 2]]}]]}
{:index 3 :time 3 :type :ok :process 1 :f :txn :value [[:send "b c" [0 2]] [:poll {:a [[0 1]]}]]}
"#;

const LISTS: &str = r#"
{:index 0 :type :invoke :process 0 :f :txn :value [[:append :x 1] [:r :y nil]]}
{:index 1 :type :invoke :process 1 :f :txn :value [[:append :y 2] [:r :x nil]]}
{:index 2 :type :ok :process 0 :f :txn :value [[:append :x 1] [:r :y [2]]]}
{:index 3 :type :ok :process 1 :f :txn :value [[:append :y 2] [:r :x [1]]]}
"#;

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn of(history: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("history"), history.trim_start()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        run(&self.path("history"), arguments)
    }

    /// What is printed; the question must succeed.
    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Vec<Json> {
        let mut all = arguments.to_vec();
        all.extend(["--output-format", "json"]);
        serde_json::from_str(&self.text(&all)).unwrap()
    }

    /// The indices of the operations an answer has.
    fn indices(&self, arguments: &[&str]) -> Vec<u64> {
        self.json(arguments).iter().map(|object| object["index"].as_u64().unwrap()).collect()
    }
}

fn run(file: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fencepost"));
    command.arg("query").arg(file).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

#[test]
fn operations_are_found_by_what_they_did() {
    let case = Case::of(LOST);
    let cases: &[(&[&str], &[u64])] = &[
        (&["ops"], &[1, 3, 5, 7, 9, 11, 12]),
        (&["ops", "--key", "3"], &[1, 3, 5, 7, 9, 11]),
        (&["ops", "--key", "4"], &[9]),
        (&["ops", "--key", "3", "--value", "8"], &[7, 11]),
        (&["ops", "--value", "8"], &[7, 11]),
        (&["ops", "--key", "3", "--offset", "4"], &[11]),
        (&["ops", "--key", "3", "--value", "7", "--offset", "3"], &[]),
        (&["ops", "--type", "fail"], &[9]),
        (&["ops", "--process", "nemesis"], &[12]),
        (&["ops", "--process", "1", "--type", "ok"], &[5, 7]),
        (&["ops", "--function", "poll"], &[11]),
        (&["ops", "--limit", "2"], &[1, 3]),
        (&["ops", "--value", "77"], &[]),
    ];
    for (arguments, expected) in cases {
        assert_eq!(case.indices(arguments), *expected, "{arguments:?}");
    }
}

#[test]
fn an_operation_in_json_is_as_the_history_has_it() {
    let case = Case::of(LOST);
    let failed = &case.json(&["ops", "--type", "fail"])[0];
    assert_eq!(failed["value"], serde_json::json!([["send", 3, 9], ["send", 4, 1]]));
    assert_eq!((failed["error"].as_str(), failed["invoked"].as_u64()), (Some("fenced"), Some(8)));
    let poll = &case.json(&["ops", "--function", "poll"])[0];
    let records = serde_json::json!([["poll", {"3": [[0, 5], [2, 7], [3, 8], [4, 8]]}]]);
    assert_eq!(poll["value"], records);
}

#[test]
fn text_is_aligned_and_says_what_is_left_out() {
    let case = Case::of(LOST);
    let text = case.text(&["ops", "--key", "3", "--value", "6"]);
    assert_eq!(
        text,
        "INDEX  INVOKED      TIME  PROCESS  TYPE  F     VALUE\n    \
         3        2  0.000004        0  ok    send  send 3 6@1*\n"
    );
    let cut = case.run(&["ops", "--limit", "1"]);
    assert!(String::from_utf8_lossy(&cut.stderr).contains("1 of 7 operations"), "{cut:?}");
}

#[test]
fn the_neighbourhood_of_a_lost_write_shows_who_read_past_it() {
    let case = Case::of(LOST);
    let expected = "INDEX  PROCESS  TYPE  F     0   1*  2\n    \
        1        0  ok    send  s5\n    \
        3        0  ok    send      s6\n    \
        5        1  ok    send          s7\n   \
        11        2  ok    poll  r5      r7\n\ns sent, r read, * asked for\n";
    assert_eq!(case.text(&["around", "--key", "3", "--offset", "1", "-n", "1"]), expected);
    assert_eq!(case.text(&["around", "--key", "3", "--value", "6", "-n", "1"]), expected);
    let poll = &case.json(&["around", "--key", "3", "--offset", "1", "-n", "1"])[3];
    assert_eq!(poll["value"], serde_json::json!([["poll", {"3": [[0, 5], [2, 7]]}]]));
}

#[test]
fn a_value_is_found_at_all_its_places_and_where_it_has_none() {
    let case = Case::of(LOST);
    let doubled = case.text(&["around", "--key", "3", "--value", "8", "-n", "0"]);
    assert!(doubled.starts_with("INDEX  PROCESS  TYPE  F     3*  4*\n"), "{doubled}");
    let failed = case.text(&["around", "--key", "3", "--value", "9"]);
    assert!(failed.contains("NO OFFSET*") && failed.contains("s9"), "{failed}");
}

#[test]
fn the_order_of_a_key_has_writers_readers_and_what_is_odd() {
    let case = Case::of(LOST);
    let expected = "\
OFFSET  INDEX  VALUE  WRITER  PROCESS  OUTCOME  READERS  READ BY  NOTE
     0      0      5       1        0  ok             1  11
     1      1      6       3        0  ok             0
     2      2      7       5        1  ok             1  11
     3      3      8       7        1  ok             1  11       also at 4
     4      4      8       7        1  ok             1  11       also at 3
     -      -      9       9        1  fail           0
";
    assert_eq!(case.text(&["order", "--key", "3"]), expected);
    let order = case.json(&["order", "--key", "3"]);
    assert_eq!(order[3]["writers"][0]["acknowledged"], true);
    assert_eq!(order[4]["writers"][0]["acknowledged"], false);
    assert_eq!(order[5]["offset"], Json::Null);
}

#[test]
fn two_values_at_one_offset_and_a_value_of_nobody_are_noted() {
    let case = Case::of(
        r#"
{:index 0 :type :invoke :process 0 :f :send :value [[:send 1 1]]}
{:index 1 :type :ok :process 0 :f :send :value [[:send 1 [5 1]]]}
{:index 2 :type :invoke :process 1 :f :poll :value [[:poll]]}
{:index 3 :type :ok :process 1 :f :poll :value [[:poll {1 [[5 2]]}]]}
{:index 4 :type :invoke :process 0 :f :send :value [[:send 1 3] [:send 2 1]]}
{:index 5 :type :info :process 0 :f :send :value [[:send 1 [6 3]] [:send 2 [0 1]]]}
"#,
    );
    let text = case.text(&["order", "--key", "1"]);
    for says in ["one of 2 here; nobody sent it", "not counted: undecided, unread"] {
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn a_case_is_explained_whole() {
    let case = Case::of(LOST);
    let text = case.text(&["explain", "lost-write"]);
    for says in [
        "lost-write 1 of 1 (bad)",
        "operation 3 of process 0",
        "value           6",
        "send 3 6@1*",
        "poll 3[5@0 7@2 8@3 8@4]",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let json = case.json(&["explain", "lost-write", "1"]);
    assert_eq!((json.len(), &json[0]["case"]["value"]), (1, &Json::from(6)));
    assert_eq!(json[0]["history"][0]["index"], 3);
    let found = case.json(&["explain"]);
    assert!(found.iter().any(|row| row["anomaly"] == "duplicate" && row["bad"] == true));
}

#[test]
fn a_cycle_is_explained_step_by_step_and_drawn() {
    let case = Case::of(CIRCLE);
    let (svg, dot) = (case.path("cycle.svg"), case.path("cycle.dot"));
    let drawn = ["--svg", svg.to_str().unwrap(), "--dot", dot.to_str().unwrap()];
    let mut arguments = vec!["explain", "g1c", "--no-ww-deps"];
    arguments.extend(drawn);
    let text = case.text(&arguments);
    assert!(text.starts_with("G1c 1 of 1 (bad)"), "{text}");
    assert!(text.contains("T1 -> T2  wr") && text.contains("T2 -> T1  wr"), "{text}");
    let (svg, dot) = (fs::read_to_string(svg).unwrap(), fs::read_to_string(dot).unwrap());
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(dot.starts_with("digraph") && dot.contains("t2 -> t1"), "{dot}");
}

#[test]
fn names_that_are_no_numbers_are_found_as_people_type_them() {
    let case = Case::of(CIRCLE);
    assert_eq!(case.indices(&["ops", "--key", ":a"]), [2, 3]);
    assert_eq!(case.indices(&["ops", "--key", "b c", "--value", "2"]), [2, 3]);
}

#[test]
fn lists_have_an_order_and_cycles_too() {
    let case = Case::of(LISTS);
    let order = case.json(&["order", "--key", ":x"]);
    assert_eq!((order.len(), &order[0]["value"]), (1, &Json::from(1)));
    assert_eq!(order[0]["first_readers"], serde_json::json!([3]));
    let text = case.text(&["explain", "G1c"]);
    assert!(text.contains("append :x 1*") && text.contains("read :y[2*]"), "{text}");
}

#[test]
fn what_is_not_there_is_an_empty_answer_with_a_word_why() {
    let case = Case::of(LOST);
    let cases: &[(&[&str], &str)] = &[
        (&["ops", "--key", "7"], "no key 7: this history's 2 keys are 3, 4"),
        (&["order", "--key", "x"], "no key x"),
        (&["around", "--key", "3", "--offset", "999"], "no operation is like that"),
        (&["ops", "--value", "x"], "no value x"),
        (&["explain", "G1c"], "no G1c in this history, but"),
        (&["explain", "p3"], "no P3-zombie-accepted in this history, but"),
        (&["explain", "lost-write", "2"], "no case 2 of lost-write: there is one"),
    ];
    for (arguments, says) in cases {
        let output = case.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(case.json(arguments), Vec::<Json>::new(), "{arguments:?}");
    }
}

#[test]
fn what_makes_no_sense_is_told_apart_from_what_is_not_there() {
    let case = Case::of(LOST);
    let cases: &[(&[&str], i32, &str)] = &[
        (&["explain", "G7"], 254, "  lost-write\n"),
        (&["explain", "lost-write", "0"], 254, "from 1"),
        (&["around", "--key", "3"], 254, "--offset"),
        (&["ops", "--type", "maybe"], 254, "ok, fail, info"),
        (&[], 254, "explain"),
    ];
    for (arguments, code, says) in cases {
        let output = case.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
    let missing = run(&case.path("nowhere"), &["ops"]);
    assert_eq!(missing.status.code(), Some(255));
}

#[test]
fn a_run_folder_explains_itself_and_the_examples_of_every_help_work_as_pasted_in_it() {
    let store = tempfile::tempdir().unwrap();
    let fencepost = || {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fencepost"));
        command.current_dir(store.path()).env("NO_COLOR", "1");
        command
    };
    let run = fencepost()
        .args(["test", "--time-limit", "1", "--capture=off", "--bug", "lose-acked-write"])
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let told = store.path().join("store/latest/anomalies");
    let lost = fs::read_to_string(told.join("lost-write.txt")).unwrap();
    assert!(lost.contains("the write is lost") && lost.contains("operations ("), "{lost}");
    let results = fs::read_to_string(store.path().join("store/latest/results.json")).unwrap();
    let results: Json = serde_json::from_str(&results).unwrap();
    for name in results["types"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        assert!(told.join(format!("{name}.txt")).exists(), "{name}");
        if results["anomalies"][name]["cases"][0]["steps"].is_array() {
            let svg = fs::read_to_string(told.join(format!("{name}-1.svg"))).unwrap();
            assert!(svg.starts_with("<svg ") && told.join(format!("{name}-1.dot")).exists());
        }
    }
    let mut pasted = 0;
    for question in [
        &["--help"][..],
        &["ops", "--help"],
        &["around", "--help"],
        &["order", "--help"],
        &["explain", "--help"],
    ] {
        let mut arguments = vec!["query", "store/latest"];
        arguments.extend(question);
        if question.len() == 1 {
            arguments.remove(1);
        }
        let help = fencepost().args(&arguments).output().unwrap();
        assert_eq!(help.status.code(), Some(0), "{arguments:?}: {help:?}");
        for line in String::from_utf8(help.stdout).unwrap().lines() {
            let Some(example) = line.strip_prefix("  fencepost ") else { continue };
            let output = fencepost().args(example.split(' ')).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{example}: {output:?}");
            pasted += 1;
        }
    }
    assert!(pasted >= 10, "{pasted} examples");
}

#[test]
fn cases_beyond_those_a_check_shows_can_be_asked_for() {
    // On each of ten keys one poll skips value 2.
    let (mut sent, mut asked, mut polled) = (Vec::new(), Vec::new(), Vec::new());
    for key in 0..10 {
        sent.push(format!("[:send {key} [0 1]] [:send {key} [1 2]] [:send {key} [2 3]]"));
        asked.push(format!("[:send {key} 1] [:send {key} 2] [:send {key} 3]"));
        polled.push(format!("{key} [[0 1] [2 3]]"));
    }
    let case = Case::of(&format!(
        "{{:index 0 :type :invoke :process 0 :f :send :value [{}]}}\n\
         {{:index 1 :type :ok :process 0 :f :send :value [{}]}}\n\
         {{:index 2 :type :invoke :process 1 :f :poll :value [[:poll]]}}\n\
         {{:index 3 :type :ok :process 1 :f :poll :value [[:poll {{{}}}]]}}\n",
        asked.join(" "),
        sent.join(" "),
        polled.join(" ")
    ));
    for number in ["1", "8", "9", "10"] {
        let text = case.text(&["explain", "int-poll-skip", number]);
        assert!(text.starts_with(&format!("int-poll-skip {number} of 10 (bad)")), "{text}");
    }
    let beyond = case.run(&["explain", "int-poll-skip", "11"]);
    assert!(String::from_utf8_lossy(&beyond.stderr).contains("there are 10"), "{beyond:?}");
}
