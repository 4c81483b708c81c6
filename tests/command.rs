//! The binary from outside: exit codes, messages, and what is left behind when it is hurt.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn fencepost() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fencepost"));
    command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    command
}

fn run(arguments: &[&str]) -> Output {
    fencepost().args(arguments).output().expect("the binary runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A run on the embedded broker, short, in a store of its own.
fn test_in(store: &Path, more: &[&str]) -> Command {
    let mut command = fencepost();
    command.args(["test", "--time-limit", "1", "--store"]).arg(store).args(more);
    command
}

fn store() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

/// The one run folder in a store.
fn run_folder(store: &Path) -> PathBuf {
    let only = |folder: &Path| {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder)
            .expect("the store is there")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| !path.ends_with("latest"))
            .collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    };
    only(&only(store))
}

#[test]
fn wrong_arguments_are_told_apart_from_verdicts() {
    let cases: &[(&[&str], &str)] = &[
        (&["test", "--bogus"], "--bogus"),
        (&["frobnicate"], "frobnicate"),
        (&["test", "--acks", "7"], "expected all, -1, 1 or 0"),
        (&["test", "--concurrency", "0"], "expected 1 to 10000"),
        (&["test", "--abort-p", "2"], "expected a chance"),
        (&["test", "--broker", "rabbit"], "expected one of"),
        (&["test", "--workload", "nothing"], "expected one of"),
        (&["test", "--sub-via", "osmosis"], "expected assign, subscribe"),
        (&["test", "--broker-property", "novalue"], "expected KEY=VALUE"),
        (&["test", "--rule", "hold Produce for=soon"], "line 1, column"),
        (&["test", "--rule", "delay Telepathy request by=1ms"], "line 1, column"),
        (&["test", "--nemesis", "weather"], "expected one of"),
        (&["test", "--nemesis", "kill"], "--broker kafka"),
        (&["test", "--nemesis", "clock"], "not ours to set"),
        (&["test", "--nemesis-target", "cat"], "expected one of one, majority, all, leader"),
        (&["test", "--control", "192.0.2.1:0"], "others could reach it"),
    ];
    for (arguments, says) in cases {
        let output = run(arguments);
        assert_eq!(code(&output), 254, "{arguments:?}");
        let error = text(&output.stderr);
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
}

#[test]
fn help_teaches_and_succeeds() {
    for arguments in [&["--help"][..], &["test", "--help"], &["check", "--help"]] {
        let output = run(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}");
        assert!(text(&output.stdout).contains("fencepost "), "{arguments:?}");
    }
}

#[test]
fn a_file_that_is_no_history_is_named_with_its_byte() {
    let folder = store();
    let file = folder.path().join("rubbish.jsonl");
    fs::write(&file, "}{ this is no history").expect("the file is written");
    let output = fencepost().arg("check").arg(&file).output().expect("it runs");
    assert_eq!(code(&output), 255);
    let error = text(&output.stderr);
    assert!(error.contains("rubbish.jsonl") && error.contains("byte"), "{error}");
    let absent = run(&["check", "no/such/file"]);
    assert_eq!(code(&absent), 255);
    assert!(text(&absent.stderr).contains("no/such/file"));
    let folder = fencepost().arg("check").arg(folder.path()).output().expect("it runs");
    let error = text(&folder.stderr);
    assert!(code(&folder) == 255 && error.contains("is not the folder of a run"), "{error}");
}

#[test]
fn an_unreachable_broker_ends_the_run_with_its_address() {
    // A port that was free a moment ago: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let folder = store();
    let address = format!("127.0.0.1:{port}");
    let output = test_in(folder.path(), &["--bootstrap-server", &address])
        .env("FENCEPOST_READY_TIMEOUT_S", "2")
        .output()
        .expect("it runs");
    assert_eq!(code(&output), 255);
    assert!(text(&output.stderr).contains(&address), "{}", text(&output.stderr));
}

#[test]
fn a_run_is_valid_and_its_folder_says_so_again() {
    let folder = store();
    let output = test_in(folder.path(), &["--seed", "7"]).output().expect("it runs");
    let said = text(&output.stdout);
    assert_eq!(code(&output), 0, "{said}{}", text(&output.stderr));
    let run = run_folder(folder.path());
    let last: Vec<&str> = said.trim_end().lines().rev().take(2).collect();
    assert!(last[0].starts_with("valid: true"), "{said}");
    assert_eq!(Path::new(last[1]), run, "{said}");
    for name in ["plan.toml", "history.jsonl", "history.edn", "wire.pcapng", "results.json"] {
        assert!(run.join(name).metadata().is_ok_and(|m| m.len() > 0), "{name}");
    }
    for input in [run.clone(), run.join("history.jsonl"), run.join("history.edn")] {
        let again = fencepost().arg("check").arg(&input).output().expect("it runs");
        assert_eq!(code(&again), 0, "{input:?}");
        let verdict = text(&again.stdout);
        assert_eq!(verdict.trim_end().lines().last(), Some(last[0]), "{input:?}");
    }
    let json =
        fencepost().args(["check", "--output-format", "json"]).arg(&run).output().expect("it runs");
    let verdict: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(verdict["valid"], serde_json::json!(true));
    assert!(verdict["stats"]["operations"].as_u64().is_some_and(|n| n > 10), "{verdict}");
}

#[test]
fn a_plan_runs_again() {
    let folder = store();
    let first = test_in(folder.path(), &["--seed", "9", "--no-txn"]).output().expect("it runs");
    assert_eq!(code(&first), 0, "{}", text(&first.stdout));
    let plan = run_folder(folder.path()).join("plan.toml");
    let second = store();
    let output = fencepost()
        .args(["test", "--plan"])
        .arg(&plan)
        .arg("--store")
        .arg(second.path())
        .output()
        .expect("it runs");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let again = fs::read_to_string(run_folder(second.path()).join("plan.toml")).expect("a plan");
    assert!(again.contains("seed = 9") && again.contains("txn = false"), "{again}");
}

#[allow(clippy::zombie_processes, reason = "whoever asked for it waits for it")]
/// Starts a long run and waits until its history has some lines.
fn run_under_way(store: &Path) -> (Child, PathBuf) {
    let mut child = fencepost()
        .args(["test", "--time-limit", "600", "--store"])
        .arg(store)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let stderr = child.stderr.as_mut().expect("standard error is piped");
    // What it says on its way is waited for, not a time.
    let mut said = BufReader::new(stderr);
    let mut line = String::new();
    while !line.starts_with("main phase") {
        line.clear();
        assert!(said.read_line(&mut line).expect("text") > 0, "it ended early");
    }
    let history = run_folder(store).join("history.jsonl");
    loop {
        let now = fs::read(&history).expect("the history is there");
        if now.iter().filter(|byte| **byte == b'\n').count() >= 1000 {
            return (child, history);
        }
        std::thread::yield_now();
    }
}

fn signal(child: &Child, signal: libc::c_int) {
    let pid = i32::try_from(child.id()).expect("a process id");
    // SAFETY: the process is our own child and has not been waited for.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0);
}

#[test]
fn a_killed_run_can_be_checked_up_to_its_last_event() {
    let folder = store();
    let (mut child, history) = run_under_way(folder.path());
    signal(&child, libc::SIGKILL);
    child.wait().expect("it ends");
    let run = history.parent().expect("a run folder");
    let output =
        fencepost().args(["check", "--output-format", "json"]).arg(run).output().expect("it runs");
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(verdict["stats"]["operations"].as_u64().is_some_and(|n| n >= 400), "{verdict}");
    // Nobody read to the end; nothing else may be found.
    let bad: Vec<&str> = verdict["bad_types"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(serde_json::Value::as_str)
        .collect();
    assert!(bad.iter().all(|name| *name == "unseen"), "{bad:?}");
}

#[test]
fn an_interrupted_run_reads_everything_back_and_is_judged() {
    let folder = store();
    let (child, history) = run_under_way(folder.path());
    signal(&child, libc::SIGINT);
    let output = child.wait_with_output().expect("it ends");
    let said = text(&output.stdout);
    assert_eq!(code(&output), 0, "{said}");
    assert!(said.trim_end().lines().last().is_some_and(|l| l.starts_with("valid: true")), "{said}");
    assert!(history.with_file_name("results.json").exists());
}

#[test]
fn a_full_disk_keeps_the_history_so_far() {
    let folder = store();
    // Files of this run may not exceed a limit, which writes meet as they meet a full disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 400; exec {:?} test --time-limit 20 --store {:?}",
        assert_cmd::cargo::cargo_bin!("fencepost"),
        folder.path()
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("it runs");
    assert_eq!(code(&output), 255, "{}", text(&output.stdout));
    let error = text(&output.stderr);
    assert!(error.contains("cannot write"), "{error}");
    let run = run_folder(folder.path());
    let check = fencepost().arg("check").arg(run.join("history.jsonl")).output().expect("it runs");
    assert!(code(&check) < 254, "{}", text(&check.stderr));
    assert!(text(&check.stdout).contains("operations "));
}

/// Runs with rules or faults; the verdict, what was printed, and the history.
fn misbehaved(more: &[&str]) -> (i32, String, String) {
    let store = store();
    let output = test_in(store.path(), more).output().expect("the binary runs");
    let folder = run_folder(store.path());
    let again = run(&["check", folder.to_str().expect("a text")]);
    assert_eq!(code(&again), code(&output), "live and replayed: {}", text(&again.stdout));
    let history = fs::read_to_string(folder.join("history.jsonl")).expect("a history");
    (code(&output), text(&output.stdout), history)
}

#[test]
fn a_forgery_is_in_the_history_and_not_held_against_the_broker() {
    let (exit, out, history) = misbehaved(&[
        "--rule",
        "drop-response Produce probability=0.5 times=2",
        "--rule",
        "delay ListGroups request by=1ms",
    ]);
    assert_eq!(exit, 0, "{out}");
    assert!(out.contains("the proxy forged: 2 acts"), "{out}");
    assert!(out.contains("a rule never fired (0 frames matched): delay ListGroups"), "{out}");
    assert_eq!(history.matches("\"f\":\"drop\"").count(), 2);
}

#[test]
fn faults_of_the_wire_are_healed_and_a_broker_that_stands_them_is_valid() {
    let (exit, out, history) = misbehaved(&["--nemesis", "wire", "--nemesis-interval", "0.3"]);
    assert_eq!(exit, 0, "{out}");
    let begun = history.matches("\"f\":\"start-wire\"").count();
    assert!(begun > 1, "{begun}");
    assert!(!out.contains("forged"), "{out}");
}

#[test]
fn a_broker_that_clients_are_cut_off_from_comes_back_and_is_valid() {
    let cut = ["--nodes", "3", "--nemesis", "cut", "--nemesis-target", "leader,coordinator"];
    let (exit, out, history) = misbehaved(&[&cut[..], &["--nemesis-interval", "0.4"]].concat());
    assert_eq!(exit, 0, "{out}");
    for event in ["\"f\":\"cut\"", "\"f\":\"heal-cut\""] {
        assert!(history.contains(event), "{event} is not in the history");
    }
}

#[test]
fn the_parts_of_a_history_are_judged_as_the_whole() {
    let store = store();
    assert_eq!(code(&test_in(store.path(), &[]).output().expect("the binary runs")), 0);
    let whole = run_folder(store.path()).join("history.jsonl");
    let lines = fs::read_to_string(&whole).expect("a history");
    let is_first = |line: &&str| line.contains("\"process\":1,") || line.contains("\"process\":4,");
    let (first, second): (Vec<&str>, Vec<&str>) = lines.lines().partition(is_first);
    let parts = [("first.jsonl", first), ("second.jsonl", second)].map(|(name, lines)| {
        let path = store.path().join(name);
        fs::write(&path, lines.join("\n") + "\n").expect("a part");
        path.display().to_string()
    });
    let judged = |files: &[&str]| {
        let output = run(&[&["check", "--output-format", "json"], files].concat());
        let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (verdict["anomalies"].clone(), verdict["stats"].clone())
    };
    let whole = whole.display().to_string();
    assert_eq!(judged(&[&parts[0], &parts[1]]), judged(&[&whole]));
    let twice = run(&["check", &whole, &whole]);
    assert_eq!(code(&twice), 254, "{}", text(&twice.stderr));
    assert!(text(&twice.stderr).contains("the same events"));
}

#[test]
fn the_first_interrupt_is_for_whoever_writes_the_input() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus/captures/bug-accept-stale-commit.pcapng.gz");
    let capture = fs::read(&path).expect("a capture of the corpus");
    for arguments in [&["check"][..], &["dissect", "--stats"]] {
        let mut child = fencepost()
            .args(arguments)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut input = child.stdin.take().expect("a pipe");
        // More than a pipe holds: it has begun to read.
        let (first, rest) = capture.split_at(100_000);
        input.write_all(first).expect("it reads");
        signal(&child, libc::SIGINT);
        input.write_all(rest).expect("it reads on");
        drop(input);
        let piped = child.wait_with_output().expect("it ends");
        let file = run(&[arguments, &[path.to_str().expect("a path")]].concat());
        assert_eq!(code(&piped), code(&file), "{}", text(&piped.stderr));
        assert_eq!(text(&piped.stdout).lines().count(), text(&file.stdout).lines().count());
    }
}
