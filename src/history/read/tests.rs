use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::history::columns::{Builder, MopRef, Op};
use crate::history::event::{Event, EventType, EventValue, Function, Mop, Process};
use crate::history::simulated::{Plan, Simulation};
use crate::history::write::{write_event, write_history};
use crate::world::Chance;

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).expect("at least one thread")
}

fn read(text: &str) -> Recorded {
    read_history(text.as_bytes(), Format::Auto, threads(1)).expect("a history")
}

/// An operation in one line.
fn op_line(history: &History, op: Op<'_>) -> String {
    let mut line = format!(
        "{:?}-{:?} {}-{} {} {:?} {}",
        op.invoke_index(),
        op.complete_index(),
        op.invoke_ns(),
        op.complete_ns(),
        op.kind().name(),
        history.process(op.process()),
        op.function().name(),
    );
    for mop in op.mops() {
        line.push_str(&mop_text(history, mop));
    }
    for key in op.bound_keys() {
        let _ = write!(line, " bound {}", history.key_name(*key));
    }
    for (name, text) in op.extras() {
        let _ = write!(line, " {name}={text}");
    }
    let _ = write!(line, " {:?} {} {}", op.error(), op.ends_process(), op.is_client());
    line
}

fn mop_text(history: &History, mop: MopRef<'_>) -> String {
    let offset = |offset: Option<i64>| offset.map_or("nil".to_owned(), |o| o.to_string());
    match mop {
        MopRef::Send { key, value, offset: at } => {
            format!(" s{}={}@{}", history.key_name(key), history.value_name(value), offset(at))
        }
        MopRef::Poll(poll) => {
            let mut text = format!(" p{}", if poll.ran() { "" } else { "?" });
            for run in poll.runs() {
                let _ = write!(text, "[{}", history.key_name(run.key));
                for (at, value) in run.records() {
                    let _ = write!(text, " {}:{}", offset(at), history.value_name(value));
                }
                text.push(']');
            }
            text
        }
        MopRef::Append { key, value } => {
            format!(" a{}={}", history.key_name(key), history.value_name(value))
        }
        MopRef::Read { key, values } => {
            let names = |values: &[_]| values.iter().map(|v| history.value_name(*v)).collect();
            let values: Option<Vec<_>> = values.map(names);
            format!(" r{}={values:?}", history.key_name(key))
        }
    }
}

fn lines(history: &History) -> Vec<String> {
    history.ops().map(|op| op_line(history, op)).collect()
}

fn seen(recorded: &Recorded) -> String {
    let one = |o: crate::history::observation::Observation| {
        format!("{} {}x from {}", o.oddity.name(), o.count, o.byte_offset)
    };
    recorded.observations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Reads `text`; `ops` are the ends of its operations' lines, `odd` what is observed.
fn check(text: &str, ops: &[&str], odd: &str) {
    let recorded = read(text);
    let lines = lines(&recorded.history);
    assert_eq!(lines.len(), ops.len(), "{lines:#?}");
    for (line, op) in lines.iter().zip(ops) {
        assert!(line.contains(op), "{line}\nlacks {op}");
    }
    assert_eq!(seen(&recorded), odd, "{text}");
    assert_eq!(recorded.stopped, None);
}

const HEAD: &str = "{:index 0, :time 5, :type :ok, :process 0, :f :txn, :value ";

/// Reads one completed transaction of these micro-operations, in EDN and in JSON.
fn check_value(edn: &str, json: &str, op: &str, odd: &str) {
    let invocation = "{:index 0 :time 1 :type :invoke :process 0 :f :txn :value nil}\n";
    let edn = format!("{invocation}{{:index 1 :time 5 :type :ok :process 0 :f :txn :value {edn}}}");
    check(&edn, &[op], odd);
    let invocation =
        "{\"index\":0,\"time\":1,\"type\":\"invoke\",\"process\":0,\"f\":\"txn\",\"value\":null}\n";
    let json = format!(
        "{invocation}{{\"index\":1,\"time\":5,\"type\":\"ok\",\"process\":0,\"f\":\"txn\",\"value\":{json}}}"
    );
    let recorded = read(&json);
    assert_eq!(recorded.format, Format::Jsonl);
    let lines = lines(&recorded.history);
    assert!(lines.len() == 1 && lines[0].contains(op), "{lines:?}\nlacks {op}");
}

#[test]
fn jepsens_lines_become_operations() {
    check(
        "{:index 0, :time 0, :type :info, :process :nemesis, :f :start, :value nil}\n\
         {:index 1, :time 10, :type :invoke, :process 0, :f :txn, :value [[:send 3 1] [:poll]]}\n\
         #jepsen.history.Op{:index 2, :time 20, :type :invoke, :process 1, :f :assign, :value [3 4], :seek-to-beginning? true}\n\
         {:index 3, :time 30, :type :ok, :process 0, :f :txn, :value [[:send 3 [40 1]] [:poll {3 [[40 1] [42 2]], 4 [[0 9]]}]]}\n\
         {:index 4, :time 40, :type :ok, :process 1, :f :assign, :value [3 4], :seek-to-beginning? true}\n",
        &[
            "None-Some(0) 0-0 info Named(\"nemesis\") start None false false",
            "Some(1)-Some(3) 10-30 ok Client(0) txn s3=1@40 p[3 40:1 42:2][4 0:9] None",
            "Some(2)-Some(4) 20-40 ok Client(1) assign bound 3 bound 4 seek_to_beginning=true None",
        ],
        "",
    );
}

#[test]
fn micro_operations_of_both_notations_agree() {
    check_value("[[:send 3 [40 1]]]", "[[\"send\",3,[40,1]]]", "txn s3=1@40 None", "");
    check_value("[[:send 3 1] [:poll]]", "[[\"send\",3,1],[\"poll\"]]", "txn s3=1@nil p? None", "");
    check_value("[[:poll {}]]", "[[\"poll\",{}]]", "txn p None", "");
    check_value(
        "[[:poll {3 [[3000000000 1] [3000000001 -2]]}]]",
        "[[\"poll\", {\"3\": [[3000000000, 1], [3000000001, -2]]}]]",
        "p[3 3000000000:1 3000000001:-2]",
        "",
    );
    check_value(
        "[[:append 3 1] [:r 3 [1 2]] [:r 4 nil] [:r 5 []]]",
        "[[\"append\",3,1],[\"r\",3,[1,2]],[\"r\",4,null],[\"r\",5,[]]]",
        "a3=1 r3=Some([\"1\", \"2\"]) r4=None r5=Some([])",
        "",
    );
    check_value(
        "[[:send 3 [-7 1]] [:send 3 [1 99999999999]]]",
        "[[\"send\",3,[-7,1]],[\"send\",3,[1,99999999999]]]",
        "s3=1@-7 s3=99999999999@1",
        "",
    );
}

#[test]
fn what_is_odd_is_read_and_counted() {
    let from = "from 63";
    check_value(
        "[[:send 3 [nil 1]]]",
        "[[\"send\",3,[null,1]]]",
        "s3=1@nil",
        &format!("offset-missing 1x {from}"),
    );
    check_value(
        "[[:poll {3 [[nil 1] [2 2]]}]]",
        "[[\"poll\",{\"3\":[[null,1],[2,2]]}]]",
        "p[3 nil:1 2:2]",
        &format!("offset-missing 1x {from}"),
    );
    check_value(
        "[[:send :a [0 \"x\"]] [:poll {:a [[0 \"x\"]]}]]",
        "[[\"send\",\":a\",[0,\"x\"]],[\"poll\",{\":a\":[[0,\"x\"]]}]]",
        "s:a=\"x\"@0 p[:a 0:\"x\"]",
        &format!("key-not-integer 2x {from}, value-not-integer 2x {from}"),
    );
    check_value(
        "[[:send \"k\" [0 :v]] [:poll {\"k\" [[0 :v] [1 2]]}]]",
        "[[\"send\",\"k\",[0,\":v\"]],[\"poll\",{\"k\":[[0,\":v\"],[1,2]]}]]",
        "s\"k\"=:v@0 p[\"k\" 0::v 1:2]",
        &format!("key-not-integer 2x {from}, value-not-integer 2x {from}"),
    );
    check_value(
        "[[:send 3 [0 9223372036854775808]]]",
        "[[\"send\",3,[0,9223372036854775808]]]",
        "s3=9223372036854775808@0",
        &format!("value-not-integer 1x {from}"),
    );
    check_value(
        "[[:send 3 #x/pair [0 1]] [:poll #x/sorted {3 #x/a #x/b [[0 1]]}]]",
        "[[\"send\",3,[0,1]],[\"poll\",{\"3\":[[0,1]]}]]",
        "s3=1@0 p[3 0:1]",
        &format!("tag-ignored 4x {from}"),
    );
    check_value(
        "[[:cas 3 1] [:send 3] :x [:send 3 1]]",
        "[[\"cas\",3,1],[\"send\",3],\"x\",[\"send\",3,1]]",
        "txn s3=1@nil None",
        &format!("mop-unknown 3x {from}"),
    );
    check_value(
        "{:a 1}",
        "{\"a\":1}",
        "txn value={\"a\":1} None",
        &format!("value-unreadable 1x {from}"),
    );
    check_value(
        "[[:poll {3 [[1 2 3] [1] 7 [4 4]]}]]",
        "[[\"poll\",{\"3\":[[1,2,3],[1],7,[4,4]]}]]",
        "p[3 4:4]",
        &format!("mop-unknown 3x {from}"),
    );
    check_value(
        "[[:poll {3}] [:send 1 2]]",
        "[[\"poll\",{}],[\"send\",1,2]]",
        "s1=2@nil",
        &format!("mop-unknown 1x {from}"),
    );
}

#[test]
fn events_without_this_or_that_get_what_they_lack() {
    check(
        "{:type :invoke, :value [[:append 1 1]]}\n{:type :ok, :value [[:append 1 1]]}\n{:type :invoke, :value [[:r 1 nil]]}\n{:type :ok, :value [[:r 1 [1]]]}\n",
        &[
            "Some(0)-Some(1) 0-0 ok Client(-1) txn a1=1",
            "Some(2)-Some(3) 0-0 ok Client(-2) txn r1=Some([\"1\"])",
        ],
        "missing-index 4x from 0, missing-time 4x from 0, missing-process 4x from 0, missing-function 4x from 0",
    );
    check(
        "{:index} {:index 1 :time \"noon\" :type :info :process :n :f [:role :kill]}",
        &["None-Some(1) 0-0 info Named(\"n\") [:role :kill]"],
        "missing-time 1x from 9, field-unreadable 2x from 0, not-an-event 1x from 0",
    );
    let line = "{:type :ok, :value [[:append 1 1]], :index 1, :time 1, :process 0, :f :txn}";
    check(
        &format!("7 {line} {{:index 0}} :x\n\n[]"),
        &["None-Some(1) 1-1 ok Client(0) txn a1=1"],
        "completion-without-invocation 1x from 2, not-an-event 4x from 0",
    );
}

#[test]
fn invocations_and_completions_that_do_not_match_are_counted() {
    check(
        "{:index 0 :time 1 :type :ok :process 0 :f :send :value [[:send 1 [0 1]]]}\n\
         {:index 1 :time 2 :type :invoke :process 0 :f :send :value [[:send 1 2]]}\n\
         {:index 2 :time 3 :type :invoke :process 0 :f :send :value [[:send 1 3]] :x 9}\n\
         {:index 3 :time 4 :type :fail :process 0 :f :send :value nil :error [:oh \"no\"]}\n\
         {:index 4 :time 5 :type :invoke :process 1 :f :assign :value [7]}\n",
        &[
            "None-Some(0) 1-1 ok Client(0) send s1=1@0",
            "Some(2)-Some(3) 3-4 fail Client(0) send s1=3@nil Some(\"[:oh \\\"no\\\"]\")",
            "Some(1)-None 2-2 info Client(0) send s1=2@nil",
            "Some(4)-None 5-5 info Client(1) assign bound 7",
        ],
        "completion-without-invocation 1x from 0, never-completed 2x from 74, process-overlaps 1x from 148",
    );
}

#[test]
fn unknown_fields_and_tags_are_kept_as_json() {
    check(
        &format!(
            "{HEAD}[], :a/b #inst \"2026\", :rebalance-log [{{:type :assigned, :keys [1 2]}}], :node \"n1\", :o #object[A 0x1f {{:s 1/2}}] :end-process? true}}"
        ),
        &[
            "a/b={\"#inst\":\"2026\"} rebalance_log=[{\"type\":\":assigned\",\"keys\":[1,2]}] node=\"n1\" o={\"#object\":[\"A\",31,{\"s\":\"1/2\"}]} None true",
        ],
        "completion-without-invocation 1x from 0",
    );
}

#[test]
fn a_text_that_is_cut_off_counts_up_to_there() {
    let whole = format!("{HEAD}nil}}");
    check(
        &format!("{whole}\n{}", &whole[..30]),
        &["ok"],
        &format!("completion-without-invocation 1x from 0, cut-off 1x from {}", whole.len() + 1),
    );
    check(
        &format!("[{whole} {whole}\n"),
        &["ok", "ok"],
        &format!(
            "index-out-of-order 1x from {}, completion-without-invocation 2x from 1, cut-off 1x from {}",
            whole.len() + 2,
            2 * whole.len() + 3
        ),
    );
    let zipped = gzip(format!("{whole}\n").repeat(3).as_bytes());
    let recorded = read_history(&zipped[..zipped.len() - 6], Format::Auto, threads(1));
    let stopped = recorded.expect("what can be unpacked is read").stopped;
    assert!(stopped.is_some_and(|stopped| stopped.byte_offset > 0));
}

#[test]
fn what_is_no_history_is_refused_where_it_breaks() {
    let whole = format!("{HEAD}nil}}\n");
    let recorded = read(&format!("{whole}{{:index 1 ]}}\n{whole}"));
    assert_eq!(recorded.history.len(), 1);
    let stopped = recorded.stopped.expect("the second line breaks off");
    assert_eq!(stopped.byte_offset, whole.len() as u64 + 10);
    for (text, place) in
        [("}", 0), ("{\"index\" 1}", 9), ("{:a \\nope}", 4), ("\n7 {:index 0} :x", 1)]
    {
        match read_history(text.as_bytes(), Format::Auto, threads(1)) {
            Err(ReadError::Malformed(stopped)) => assert_eq!(stopped.byte_offset, place, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(read("").history.is_empty());
    assert!(read("; nothing\n").history.is_empty());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(bytes).expect("a Vec takes all");
    zip.finish().expect("a Vec takes all")
}

fn simulated(plan: Plan, format: Format) -> (Vec<Event>, Vec<u8>) {
    let events: Vec<_> = Simulation::new(plan, &Chance::from_seed(5)).collect();
    let mut text = Vec::new();
    events.iter().for_each(|event| write_event(event, format, &mut text));
    (events, text)
}

#[test]
fn threads_blocks_and_zipping_make_no_difference() {
    let plan = Plan { writes_per_key: 64, info_p: 0.02, ..Plan::clean(300) };
    for format in [Format::Edn, Format::Jsonl] {
        let (events, text) = simulated(plan.clone(), format);
        let mut builder = Builder::new();
        events.into_iter().for_each(|event| builder.push(event));
        let expected = lines(&builder.finish());
        let zipped = gzip(&text);
        let observed = read_history(&text[..], format, threads(1)).expect("a history");
        for (count, block) in [(1, 7), (1, 1 << 20), (2, 1 << 10), (3, 100), (4, 1 << 14)] {
            for source in [&text, &zipped] {
                let recorded = read_in_blocks(&source[..], Format::Auto, threads(count), block)
                    .expect("a history");
                assert_eq!(lines(&recorded.history), expected, "{count} {block}");
                assert_eq!(recorded.observations, observed.observations);
                assert_eq!(recorded.bytes, text.len() as u64);
                assert_eq!((recorded.format, &recorded.stopped), (format, &None));
            }
        }
    }
}

#[test]
fn one_vector_of_events_is_read_like_lines() {
    let (_, text) = simulated(Plan::clean(100), Format::Edn);
    let text = String::from_utf8(text).expect("text");
    let expected = read(&text);
    let vector = format!("; all of it\n[{}]", text.replace('\n', " "));
    for count in [1, 2] {
        let recorded = read_in_blocks(vector.as_bytes(), Format::Auto, threads(count), 512)
            .expect("a history");
        assert_eq!(lines(&recorded.history), lines(&expected.history));
        let count =
            |recorded: &Recorded| recorded.observations.iter().map(|o| o.count).sum::<u64>();
        assert_eq!(count(&recorded), count(&expected));
    }
    let (_, text) = simulated(Plan::clean(100), Format::Jsonl);
    let text = String::from_utf8(text).expect("text");
    let array = format!("[{}]", text.trim().replace('\n', ","));
    assert_eq!(lines(&read(&array).history), lines(&read(&text).history));
}

#[test]
fn a_whole_history_is_written_and_read_again() {
    let (_, text) = simulated(Plan { writes_per_key: 64, ..Plan::clean(200) }, Format::Edn);
    let first = read_history(&text[..], Format::Edn, threads(1)).expect("a history");
    for format in [Format::Edn, Format::Jsonl] {
        let mut written = Vec::new();
        write_history(&first.history, format, &mut written).expect("a Vec takes all");
        let again = read_history(&written[..], format, threads(1)).expect("a history");
        assert_eq!(lines(&again.history), lines(&first.history));
    }
}

fn integers() -> impl Strategy<Value = i64> {
    prop_oneof![0..100_i64, 0..10_000_000_000_i64, -5..5_i64, any::<i64>()]
}

fn mops() -> impl Strategy<Value = Mop> {
    let records = prop::collection::vec((integers(), integers()), 1..4);
    let runs = prop::collection::btree_map(integers(), records, 0..3)
        .prop_map(|runs| runs.into_iter().collect::<Vec<_>>());
    prop_oneof![
        (integers(), integers()).prop_map(|(key, value)| Mop::Send {
            key,
            value,
            offset: None,
            run: false
        }),
        (
            integers(),
            integers(),
            prop::option::of(integers().prop_filter("none", |o| *o != i64::MIN))
        )
            .prop_map(|(key, value, offset)| Mop::Send { key, value, offset, run: true }),
        prop::option::of(runs).prop_map(|records| Mop::Poll { records }),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let words = prop_oneof![
        "[ -~é\n\t]{0,8}",
        Just("[:a \"b\" {:c 1}]".to_owned()),
        "[#:\\[({][ -~é\t]{0,8}",
        Just(":timeout".to_owned())
    ];
    let event_type = prop_oneof![
        Just(EventType::Invoke),
        Just(EventType::Ok),
        Just(EventType::Fail),
        Just(EventType::Info)
    ];
    let function = prop_oneof![
        Just(Function::Txn),
        Just(Function::Send),
        Just(Function::Assign),
        Just(Function::Other("kill".into())),
    ];
    let extras = prop::sample::subsequence(
        vec![
            ("poll_ms", "100"),
            ("node", "\"n1\""),
            ("rebalance_log", "[{\"keys\":[1],\"type\":\":lost\"}]"),
            ("a/b", "null"),
        ],
        0..=4,
    );
    let event = (
        event_type,
        0..4_i64,
        function,
        prop::collection::vec(mops(), 1..4),
        prop::collection::vec(integers(), 1..3),
        prop::option::of(words),
        any::<bool>(),
        0..3_u64,
        extras,
    );
    prop::collection::vec(event, 0..12).prop_map(|events| {
        let mut time_ns = 0;
        let mut index = 0;
        let event = |(
            event_type,
            process,
            function,
            mops,
            keys,
            error,
            end_process,
            later,
            extra,
        ): (_, _, _, _, _, _, _, u64, Vec<(&str, &str)>)| {
            time_ns += later * 3_000_000_000;
            index += 1 + later;
            let value = match function {
                Function::Assign => EventValue::Keys(keys),
                Function::Other(_) => EventValue::Json("{\"n1\":\":cut\"}".into()),
                _ => EventValue::Mops(mops),
            };
            let process = if process == 3 {
                Process::Named("nemesis".into())
            } else {
                Process::Client(process)
            };
            let extra = extra.into_iter().map(|(n, t)| (n.to_owned(), t.to_owned())).collect();
            Event {
                index,
                time_ns,
                event_type,
                process,
                function,
                value,
                error,
                end_process,
                extra,
            }
        };
        events.into_iter().map(event).collect()
    })
}

proptest! {
    #[test]
    fn events_survive_both_notations(events in events()) {
        let mut builder = Builder::new();
        events.iter().for_each(|event| builder.push(event.clone()));
        let expected = lines(&builder.finish());
        for format in [Format::Edn, Format::Jsonl] {
            let mut text = Vec::new();
            events.iter().for_each(|event| write_event(event, format, &mut text));
            prop_assert_eq!(text.iter().filter(|b| **b == b'\n').count(), events.len());
            let recorded = read_history(&text[..], format, threads(1)).expect("a history");
            prop_assert_eq!(&lines(&recorded.history), &expected, "{}", String::from_utf8_lossy(&text));
            prop_assert_eq!(recorded.stopped, None);
        }
    }

    #[test]
    fn mangled_texts_are_read_without_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..20),
        json: bool,
        block in 1..400_usize,
    ) {
        let format = if json { Format::Jsonl } else { Format::Edn };
        let (_, mut text) = simulated(Plan::clean(20), format);
        for (at, byte, what) in edits {
            let at = at.index(text.len().max(1));
            match what {
                0 => text.truncate(at.max(1)),
                1 => text.insert(at, byte),
                2 => { text.remove(at); }
                _ => text[at] = b"[]{}\"\\:,#_;-0 \nn"[usize::from(byte) % 16],
            }
            if text.is_empty() { break; }
        }
        let results = [(1, block), (1, 1 << 20), (3, block)].map(|(count, block)| {
            read_in_blocks(&text[..], format, threads(count), block)
                .map(|r| (lines(&r.history).len(), r.stopped.is_some()))
                .map_err(|e| e.to_string())
        });
        prop_assert_eq!(&results[0], &results[2], "threads make no difference");
    }
}
