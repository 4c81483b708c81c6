//! Each anomaly by a history that shows it and nothing else (but what cannot be without it), and by
//! one that comes near and shows nothing.

mod notation;

use fencepost::checker::{
    ConsistencyModel, Expectation, Isolation, SubVia, Validity, Verdict, Workload, check,
};
use notation::history;

fn judge(text: &str, expected: &Expectation) -> Verdict {
    check(&history(text), expected)
}

/// The types found, without those that are never bad and come with nearly every poll.
fn types(verdict: &Verdict) -> String {
    let quiet = ["G1b", "G-single", "G2-item", "int-send-skip"];
    let told = verdict.anomalies.iter().filter(|(name, _)| !quiet.contains(&name.as_str()));
    told.map(|(name, found)| format!("{name} {}", found.count)).collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn finds(text: &str, expected: &str) {
    assert_eq!(types(&judge(text, &Expectation::default())), expected, "in {text}");
}

#[test]
fn a_phantom_read_is_a_value_nobody_sent() {
    finds("0 s a1@0 | 1 p a1@0 a9@1", "phantom-read 1");
    finds("0 s a1@0 | 0 s! a9 | 1 p a1@0", "");
    // Jepsen stops at an unknown value; the other findings are there all the same.
    finds("0 s a1@0 | 0 s! a2@1 | 1 p a1@0 a2@1 a9@2", "G1a 1, phantom-read 1");
}

#[test]
fn two_values_at_one_offset_are_inconsistent() {
    finds("0 s a1@0 | 1 p a1@0 | 0 s? a2@0 | 2 p a2@0", "inconsistent-offsets 1");
    finds("0 s a1@0 | 1 p a1@0 | 0 s a2@1 | 1 p a2@1", "");
    // An undecided send takes part once one of its values was read.
    finds("0 s? a1@0 b1 | 1 s a2@0 | 2 p a2@0", "");
    finds(
        "0 s? a1@0 b1 | 1 s a2@0 | 2 p a2@0 b1@5",
        "inconsistent-offsets 1, lost-write 1, torn-transaction 1",
    );
}

#[test]
fn a_value_at_two_offsets_is_a_duplicate() {
    finds("0 s a1@1 | 1 p a1@3", "duplicate 1, duplicate-nonzero 1");
    // A bogus offset 0 in an acknowledgement is a duplicate, but not of the worse kind.
    finds("0 s a1@0 | 1 p a1@3", "duplicate 1");
    finds("0 s a1@1 | 0 s a2@2 | 1 p a1@1 a2@2", "");
    // What a failed poll saw counts, what a failed send was told does not.
    finds("0 s a0@1 | 0 s! a1@2 | 1 p! a0@11 a1@12 | 1 p a0@1", "duplicate 1, duplicate-nonzero 1");
}

#[test]
fn reading_what_failed_is_an_aborted_read() {
    finds("0 s! a1@0 | 1 p a1@0", "G1a 1");
    finds("0 s? a1@0 | 1 p a1@0", "");
    finds("0 s! a1@0 b1@0 | 2 s b9@1 | 1 p b9@1", "");
    let uncommitted =
        Expectation { isolation: Isolation::ReadUncommitted, ..Expectation::default() };
    let verdict = judge("0 s! a1@0 | 1 p a1@0", &uncommitted);
    assert_eq!((types(&verdict).as_str(), verdict.valid), ("G1a 1", Validity::True));
}

#[test]
fn polling_what_the_same_operation_sent_is_a_precommitted_read() {
    finds("0 t s a1@0 ; p a1@0 | 1 s b1@0 | 1 p b1@0", "precommitted-read 1");
    finds("0 t s a1@0 b1@0 ; p a1@0 b1@0 | 1 s c1@0 | 1 p c1@0", "precommitted-read 1");
    finds("0 t s a1@0 ; p | 0 t s a2@1 ; p a1@0 | 1 p a1@0 a2@1", "");
}

#[test]
fn an_acknowledged_write_that_readers_passed_is_lost() {
    finds("3 begin | 0 s a1@0 | 0 s a2@1 | 3 s? a3 | 1 p a3@2", "lost-write 2, unseen 2");
    finds("0 s a1@0 | 0 s a2@1 | 1 p a1@0", "unseen 1");
    // A failed read does not count as one.
    finds("0 s a1@0 | 0 s a2@1 | 1 p! a1@0 | 2 p a2@1", "lost-write 1, unseen 1");
    // Values at one offset: the last place of a lost one is what counts.
    finds(
        "0 s a1@0 | 0 s a2@0 a3@2 | 1 p a2@0 a3@2",
        "inconsistent-offsets 1, lost-write 1, unseen 1",
    );
}

#[test]
fn a_write_acknowledged_without_an_offset_can_be_lost_too() {
    finds("0 s a1 | 0 s a2@1 | 1 p a2@1", "lost-write 1, unseen 1");
    // It was under way when the other began: it may stand behind it.
    finds("0 begin | 1 s a2@1 | 0 s a1 | 1 p a2@1", "unseen 1");
}

#[test]
fn part_of_an_undecided_transaction_must_not_be_missing() {
    finds("0 s? a1@0 b1@0 | 1 s b2@1 | 2 p a1@0 | 2 p b2@1", "lost-write 1, torn-transaction 1");
    finds("0 s? a1@0 b1@0 | 1 s b2@1 | 2 p b2@1", "");
    finds("0 s? a1@0 b1@0 | 2 p a1@0", "");
    finds("0 s? a1@0 b1@0 | 2 p a1@0 b1@0", "");
}

#[test]
fn a_value_acknowledged_and_never_read_is_unseen() {
    finds("0 s a1@0 | 1 p | 0 s a2@1 | 1 p a1@0", "unseen 1");
    finds("0 s a1@0 | 0 s? a2@1 | 1 p a1@0", "");
}

#[test]
fn a_fenced_producers_write_that_is_read_is_a_zombies() {
    let edn = |error: &str| {
        format!(
            "{{:index 0, :type :invoke, :process 0, :f :send, :value [[:send 0 1]]}}
             {{:index 1, :type :fail, :process 0, :f :send, :value [[:send 0 [0 1]]], :error {error}}}
             {{:index 2, :type :invoke, :process 1, :f :poll, :value [[:poll]]}}
             {{:index 3, :type :ok, :process 1, :f :poll, :value [[:poll {{0 [[0 1]]}}]]}}"
        )
    };
    let found = |error| types(&check(&notation::parse(&edn(error)), &Expectation::default()));
    assert_eq!(found(":producer-fenced"), "G1a 1, zombie-write 1");
    assert_eq!(found(":no-client"), "G1a 1");
}

#[test]
fn records_stuck_behind_an_undecided_one_hang() {
    let start = "1 as a | 0 s a1@0 | 1 p a1@0 | 0 s? a2@1 | 2 s a3@2";
    finds(&format!("{start} | 1 p"), "hanging-transaction 1, unseen 1");
    // Nobody looked afterwards.
    finds(start, "unseen 1");
    // It did not hold them up.
    finds(&format!("{start} | 1 p a2@1 a3@2"), "");
}

const LOG: &str = "9 s a1@1 | 9 s a2@2 | 9 s a3@3 | 9 s a4@4 | 8 p a1@1 a2@2 a3@3 a4@4";

#[track_caller]
fn finds_after_log(text: &str, expected: &str) {
    finds(&format!("{LOG} | {text}"), expected);
}

#[test]
fn polls_within_one_operation_go_on_one_by_one() {
    finds_after_log("0 p a1@1 a4@4", "int-poll-skip 1");
    finds_after_log("0 p a1@1 ; a4@4", "int-poll-skip 1");
    finds_after_log("0 p a2@2 a1@1", "int-nonmonotonic-poll 1");
    finds_after_log("0 p a2@2 ; a2@2", "int-nonmonotonic-poll 1");
    finds_after_log("0 p a1@1 ; a2@2 a3@3", "");
    // An index that is not known is taken to be the next.
    finds("0 s a1 | 0 s a2@2 | 1 p a2@2 a1", "");
}

#[test]
fn polls_of_one_process_go_on_one_by_one() {
    finds_after_log("0 p a1@1 | 0 p a4@4", "poll-skip 1");
    finds_after_log("0 p a2@2 | 0 p a1@1", "nonmonotonic-poll 1");
    finds_after_log("0 p a1@1 | 1 p a4@4 | 0 p a2@2", "");
    // A binding that leaves the key out ends it, one that keeps it does not.
    finds_after_log("0 p a1@1 | 0 as b | 0 p a4@4", "");
    finds_after_log("0 p a1@1 | 0 su? b | 0 p a4@4", "");
    finds_after_log("0 p a1@1 | 0 as! b | 0 p a4@4", "poll-skip 1");
    finds_after_log("0 p a1@1 | 0 as a b | 0 su b a | 0 p a4@4", "poll-skip 1");
    finds_after_log("0 p a1@1 | 0 as a | 0 as b | 0 as a | 0 p a4@4", "");
}

#[test]
fn failed_polls_are_compared_and_move_nobody() {
    finds_after_log("0 p a1@1 | 0 p! a2@2 a3@3 | 0 p? a2@2 a3@3 | 0 p a2@2 a3@3", "");
    finds_after_log("0 p a1@1 | 0 p! a2@2 | 0 p! a3@3 a4@4", "poll-skip 1");
    let subscribed = Expectation { sub_via: SubVia::SUBSCRIBE, ..Expectation::default() };
    let text = format!("{LOG} | 0 p a1@1 | 0 p a4@4 | 0 p a1@1");
    let verdict = judge(&text, &subscribed);
    assert_eq!(types(&verdict), "nonmonotonic-poll 1, poll-skip 1");
    assert_eq!(verdict.valid, Validity::True);
}

#[test]
fn a_rebalanced_key_may_move_within_an_operation() {
    let edn = |log: &str| {
        format!(
            "{}{{:index 90, :type :invoke, :process 0, :f :txn, :value [[:poll]]}}
             {{:index 91, :type :ok, :process 0, :f :txn, :value [[:poll {{0 [[1 1] [4 4]]}}]]{log}}}",
            notation::edn(&notation::operations(LOG))
        )
    };
    let found = |log| types(&check(&notation::parse(&edn(log)), &Expectation::default()));
    assert_eq!(found(""), "int-poll-skip 1");
    assert_eq!(found(", :rebalance-log [{:type :assigned, :keys [0]}]"), "");
    assert_eq!(found(", :rebalance-log [{:type :assigned, :keys [7]}]"), "int-poll-skip 1");
}

#[test]
fn sends_stand_in_the_log_in_the_order_they_were_made() {
    let read = "| 5 p a1@1 a2@2";
    finds(&format!("0 s a2@2 a1@1 {read}"), "int-nonmonotonic-send 1");
    finds(&format!("0 s a2@2 | 0 s a1@1 {read}"), "G0-realtime 1, nonmonotonic-send 1");
    finds(&format!("0 s a1@1 | 0 s a2@2 {read}"), "");
    finds(&format!("0 s a2@2 | 0 as b | 0 s a1@1 {read}"), "G0-realtime 1");
    // Others' records between two sends are normal.
    let verdict =
        judge("0 begin | 1 s a2@2 | 0 s a1@1 a3@3 | 5 p a1@1 a2@2 a3@3", &Expectation::default());
    assert_eq!(verdict.types, ["G0", "int-send-skip"]);
    assert_eq!(verdict.valid, Validity::True);
}

#[test]
fn interleaved_writes_are_a_write_cycle() {
    let text = "0 begin | 1 s a2@1 b1@0 | 0 s a1@0 b2@1 | 2 p a1@0 a2@1 b1@0 b2@1";
    finds(text, "G0 1");
    let without = Expectation { ww_deps: false, ..Expectation::default() };
    assert_eq!(types(&judge(text, &without)), "");
    finds("0 begin | 1 s a2@1 b2@1 | 0 s a1@0 b1@0 | 2 p a1@0 a2@1 b1@0 b2@1", "");
}

#[test]
fn circular_information_flow_is_bad_without_write_edges() {
    let pure = "0 begin | 1 begin | 0 t s a1@0 ; p b1@0 | 1 t s b1@0 ; p a1@0";
    let without = Expectation { ww_deps: false, ..Expectation::default() };
    for expected in [&Expectation::default(), &without] {
        let verdict = judge(pure, expected);
        assert_eq!((types(&verdict).as_str(), verdict.valid), ("G1c 1", Validity::False));
    }
    let mixed = "0 begin | 1 begin | 0 t s a1@0 ; s b2@1 | 1 t p a1@0 ; s b1@0 | 2 p b1@0 b2@1";
    let verdict = judge(mixed, &Expectation::default());
    assert_eq!((types(&verdict).as_str(), verdict.valid), ("G1c 1", Validity::True));
    assert_eq!(types(&judge(mixed, &without)), "");
}

#[test]
fn a_cycle_may_need_time_to_close() {
    // 2 reads what 1 sends only after 2 has ended.
    let future = "0 p a1@0 | 1 s a1@0";
    finds(future, "G1c-realtime 1");
    assert_eq!(judge(future, &Expectation::default()).valid, Validity::False);
    finds("0 begin | 1 s a1@0 | 0 p a1@0", "");
    // Where invocations are missing only the order within a process is known.
    let edn = "{:index 0, :type :ok, :process 0, :f :poll, :value [[:poll {0 [[0 1]]}]]}
               {:index 1, :type :ok, :process 0, :f :send, :value [[:send 0 [0 1]]]}";
    let verdict = check(&notation::parse(edn), &Expectation::default());
    assert_eq!(types(&verdict), "G1c-process 1");
    let edn = "{:index 0, :type :ok, :process 0, :f :send, :value [[:send 0 [1 1]]]}
               {:index 1, :type :ok, :process 0, :f :assign, :value [7]}
               {:index 2, :type :ok, :process 0, :f :send, :value [[:send 0 [0 2]]]}
               {:index 3, :type :ok, :process 1, :f :poll, :value [[:poll {0 [[0 2] [1 1]]}]]}";
    let verdict = check(&notation::parse(edn), &Expectation::default());
    assert_eq!(types(&verdict), "G0-process 1");
}

#[test]
fn missing_a_record_and_seeing_what_follows_is_told_and_never_bad() {
    let all = |text: &str| judge(text, &Expectation::default());
    let verdict = all("0 s a1@0 | 1 begin | 0 s a2@1 b1@0 | 1 p a1@0 b1@0 | 2 p a2@1");
    assert_eq!((verdict.types, verdict.valid), (vec!["G-single".to_owned()], Validity::True));
    // Two readers that each saw one of two writes.
    let verdict =
        all("0 s a1@0 b1@0 | 1 s a2@1 | 2 s b2@1 | 3 p a1@0 a2@1 b1@0 | 4 p a1@0 b1@0 b2@1");
    assert_eq!((verdict.types, verdict.valid), (vec!["G2-item".to_owned()], Validity::True));
    let verdict = all("0 s a1@0 a2@1 | 1 p a1@0 | 2 p a1@0 a2@1");
    assert_eq!(verdict.types, ["G-single", "G1b"]);
    assert_eq!(verdict.valid, Validity::True);
}

#[test]
fn a_history_in_which_nothing_depends_on_anything_is_invalid() {
    finds("0 as a", "empty-transaction-graph 1");
    finds("", "empty-transaction-graph 1");
    finds("0 p | 1 p", "");
}

#[test]
fn ignored_anomalies_are_reported_and_not_bad() {
    let expected = Expectation { ignore: ["unseen".to_owned()].into(), ..Expectation::default() };
    let verdict = judge("0 s a1@0 | 0 s a2@1 | 1 p a1@0", &expected);
    assert_eq!((types(&verdict).as_str(), verdict.valid), ("unseen 1", Validity::True));
}

#[test]
fn consequences_stand_under_their_cause() {
    let verdict = judge(
        "0 s a1@0 | 0 s a2@1 | 0 s a3@2 | 1 p a1@0 a3@2 | 2 p a1@0 | 2 p a3@2",
        &Expectation::default(),
    );
    assert_eq!(verdict.primary.as_deref(), Some("lost-write"));
    let group = &verdict.groups[0];
    assert_eq!(group.primary, "lost-write");
    assert_eq!(group.consequences, ["int-poll-skip", "poll-skip", "unseen"]);
}

#[test]
fn what_only_rebalances_explain_is_held_against_brokers_and_said() {
    let text = format!("{LOG} | 0 su a | 0 p a1@1 | 0 p a4@4");
    let verdict = judge(&text, &Expectation::default());
    assert_eq!(verdict.bad_types, ["poll-skip"]);
    assert!(verdict.observations[0].starts_with("consumers subscribed: "), "{verdict:?}");
    let subscribed = Expectation { sub_via: SubVia::SUBSCRIBE, ..Expectation::default() };
    let verdict = judge(&text, &subscribed);
    assert!(verdict.bad_types.is_empty() && verdict.observations.is_empty(), "{verdict:?}");
}

#[test]
fn what_a_process_without_a_number_did_is_not_judged_and_said() {
    let edn = |process: &str| {
        format!(
            "{{:index 0, :type :invoke, :process {process}, :f :poll, :value [[:poll]]}}
             {{:index 1, :type :ok, :process {process}, :f :poll, :value [[:poll {{0 [[0 1]]}}]]}}"
        )
    };
    let judged = |process| check(&notation::parse(&edn(process)), &Expectation::default());
    assert_eq!(types(&judged("3")), "empty-transaction-graph 1, phantom-read 1");
    let verdict = judged("\"a worker\"");
    assert_eq!(types(&verdict), "empty-transaction-graph 1");
    assert!(
        verdict.observations[0].starts_with("not judged, as clients have numbers: "),
        "{verdict:?}"
    );
}

#[test]
fn an_offset_of_three_billion_costs_what_its_records_cost() {
    finds("0 s a1@0 | 0 s a2@3000000000 | 1 p a1@0 a2@3000000000", "");
    finds("0 s a1@9223372036854775807 | 1 p a1@9223372036854775807", "");
}

fn lists(text: &str, model: &str) -> String {
    let expected = Expectation {
        workload: Workload::ListAppend,
        consistency_model: ConsistencyModel::find(model).expect("a model"),
        ..Expectation::default()
    };
    let verdict = check(&history(text), &expected);
    verdict.types.join(", ")
}

#[track_caller]
fn finds_in_lists(text: &str, expected: &str) {
    assert_eq!(lists(text, "strict-serializable"), expected, "in {text}");
}

#[test]
fn lists_keep_to_their_own_transaction() {
    finds_in_lists("0 l +a1 a: | 1 l +b1 | 1 l b:1", "internal");
    finds_in_lists("0 l +a1 a:1 +a2 a:1,2 | 1 l a:1,2", "");
    finds_in_lists("1 l +b1 b:1 | 0 l a:1 +a1 a:1,1 b:1", "duplicate-elements, future-read");
    finds_in_lists("0 l a: +a1 a:1 | 1 l a:1", "");
}

#[test]
fn lists_show_no_aborted_or_half_done_transaction() {
    finds_in_lists("0 l! +a1 | 1 l +b1 | 1 l a:1 b:1", "G1a");
    finds_in_lists("0 l? +a1 | 1 l a:1", "");
    finds_in_lists("0 l +a1 +a2 | 1 l a:1 | 2 l a:1,2", "G-single-item, G1b");
    finds_in_lists("0 l! +a1 | 1 l +a2 | 2 l a:1,2", "G1a, dirty-update");
    finds_in_lists("0 l +a1 | 1 l +a2 | 2 l a:1,2", "");
}

#[test]
fn lists_have_one_order() {
    assert_eq!(
        lists("0 l +a1 | 1 l +a2 | 2 l a:1,2 | 3 l a:2", "read-committed"),
        "incompatible-order"
    );
    finds_in_lists("0 l +a1 | 1 l +a2 | 2 l a:1 | 3 l a:1,2", "G-single-item-realtime");
}

#[test]
fn two_updates_of_one_version_lose_one() {
    let text = "0 begin | 1 begin | 0 l a: +a1 | 1 l a: +a2 | 2 l a:1,2";
    assert_eq!(lists(text, "repeatable-read"), "G-single-item, lost-update");
    assert_eq!(lists(text, "read-committed"), "");
}

#[test]
fn anti_dependencies_are_told_apart() {
    let skew = "0 begin | 1 begin | 0 l a: +b1 | 1 l b: +a1 | 2 l a:1 b:1";
    assert_eq!(lists(skew, "serializable"), "G2-item");
    assert_eq!(lists(skew, "snapshot-isolation"), "");
    let fork =
        "0 begin | 1 begin | 2 begin | 3 begin | 0 l +a1 | 1 l +b1 | 2 l a:1 b: | 3 l a: b:1";
    assert_eq!(lists(fork, "snapshot-isolation"), "G-nonadjacent-item");
    assert_eq!(lists(fork, "serializable"), "G-nonadjacent-item");
    let stale = "0 l +a1 | 0 l a:";
    assert_eq!(lists(stale, "serializable"), "");
    assert_eq!(lists(stale, "strong-session-serializable"), "G-single-item-process");
    assert_eq!(lists(stale, "strict-serializable"), "G-single-item-realtime");
}

#[test]
fn a_list_history_without_a_dependency_is_neither_right_nor_wrong() {
    let expected = Expectation { workload: Workload::ListAppend, ..Expectation::default() };
    let verdict = check(&history("0 l +a1"), &expected);
    assert_eq!(verdict.types, ["empty-transaction-graph"]);
    assert_eq!(verdict.valid, Validity::Unknown);
}
