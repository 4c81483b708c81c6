//! Turns an error code or a connection's fate into ok, fail or info: for one attempt, for an
//! operation made of attempts, for a transaction made of its ends.
//!
//! The most dangerous tables of the project: one wrong row invents or hides anomalies. Rows are
//! looked at in order, the first that fits decides, each says why, and doubt is [`Outcome::Info`].
//!
//! Not checked: that an error code is one the API may answer (W3).

use kafka_wire::{ApiKey, ErrorCode};

use super::event::EventType;

/// What is known of an attempt or an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It happened.
    Ok,
    /// It definitely did not happen, and will not.
    Fail,
    /// It may have happened, or may yet.
    Info,
}

impl From<Outcome> for EventType {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Ok,
            Outcome::Fail => Self::Fail,
            Outcome::Info => Self::Info,
        }
    }
}

/// What came of a request, as far as its sender can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// An answer with this error code, 0 for none.
    Answered(ErrorCode),
    /// No byte of it left.
    NotSent,
    /// It left, and the connection ended before an answer.
    Lost,
    /// It left, and no answer came in time.
    TimedOut,
    /// What came back breaks the protocol.
    Broken,
    /// It left and asked for no answer (acks=0).
    Unasked,
    /// It left, and its sender stopped before an answer could come.
    Abandoned,
}

impl Fate {
    /// Whether any byte of it may have left.
    #[must_use]
    pub fn left(self) -> bool {
        self != Self::NotSent
    }
}

/// One attempt: what is needed to classify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Which API.
    pub api_key: ApiKey,
    /// Which version.
    pub api_version: i16,
    /// `acks` of a Produce; absent elsewhere.
    pub acks: Option<i16>,
    /// What came of it.
    pub fate: Fate,
}

/// Which APIs a row is about.
enum Apis {
    Any,
    /// Requests that ask and change nothing but sessions.
    Reads,
    These(&'static [ApiKey]),
}

/// Which acknowledgements a row is about.
#[derive(Clone, Copy)]
enum Acks {
    Any,
    /// acks=1.
    Leader,
}

/// Which fates a row is about.
enum When {
    Is(Fate),
    /// Any of these error codes.
    Codes(&'static [ErrorCode]),
    /// Any error code but none.
    AnyError,
    Anything,
}

/// A row of the table of attempts.
struct Row {
    apis: Apis,
    /// The first version it is about. A request that never left may have none, which is −1.
    since: i16,
    acks: Acks,
    when: When,
    outcome: Outcome,
    why: &'static str,
}

type E = ErrorCode;

const READS: &[ApiKey] = &[
    ApiKey::FETCH,
    ApiKey::LIST_OFFSETS,
    ApiKey::METADATA,
    ApiKey::OFFSET_FETCH,
    ApiKey::FIND_COORDINATOR,
    ApiKey::API_VERSIONS,
    ApiKey::OFFSET_FOR_LEADER_EPOCH,
    ApiKey::DESCRIBE_CLUSTER,
    ApiKey::DESCRIBE_PRODUCERS,
    ApiKey::DESCRIBE_TRANSACTIONS,
    ApiKey::LIST_TRANSACTIONS,
];

const PRODUCE: Apis = Apis::These(&[ApiKey::PRODUCE]);
const END_TXN: Apis = Apis::These(&[ApiKey::END_TXN]);
const ADD_TO_TXN: Apis = Apis::These(&[ApiKey::ADD_PARTITIONS_TO_TXN, ApiKey::ADD_OFFSETS_TO_TXN]);
const OFFSETS: Apis = Apis::These(&[ApiKey::OFFSET_COMMIT, ApiKey::TXN_OFFSET_COMMIT]);
const INIT: Apis = Apis::These(&[ApiKey::INIT_PRODUCER_ID]);
const GROUP: Apis = Apis::These(&[
    ApiKey::JOIN_GROUP,
    ApiKey::SYNC_GROUP,
    ApiKey::HEARTBEAT,
    ApiKey::LEAVE_GROUP,
    ApiKey::CONSUMER_GROUP_HEARTBEAT,
]);
const TOPICS: Apis = Apis::These(&[
    ApiKey::CREATE_TOPICS,
    ApiKey::DELETE_TOPICS,
    ApiKey::CREATE_PARTITIONS,
    ApiKey::DELETE_RECORDS,
]);

/// Refusals of whoever asks, before anything is looked at.
const REFUSED: &[ErrorCode] = &[
    E::TOPIC_AUTHORIZATION_FAILED,
    E::GROUP_AUTHORIZATION_FAILED,
    E::CLUSTER_AUTHORIZATION_FAILED,
    E::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    E::UNSUPPORTED_VERSION,
    E::INVALID_REQUEST,
    E::UNSUPPORTED_FOR_MESSAGE_FORMAT,
    E::SASL_AUTHENTICATION_FAILED,
    E::ILLEGAL_SASL_STATE,
    E::POLICY_VIOLATION,
    E::THROTTLING_QUOTA_EXCEEDED,
];

/// The producer is not who it says, or its transaction is not where it says.
const PRODUCER_REFUSED: &[ErrorCode] = &[
    E::INVALID_PRODUCER_EPOCH,
    E::PRODUCER_FENCED,
    E::INVALID_PRODUCER_ID_MAPPING,
    E::UNKNOWN_PRODUCER_ID,
    E::INVALID_TXN_STATE,
    E::TRANSACTION_ABORTABLE,
];

const TABLE: &[Row] = &[
    row(Apis::Any, When::Is(Fate::NotSent), Outcome::Fail, "no byte of it left"),
    row(Apis::Any, When::Is(Fate::Answered(E::NONE)), Outcome::Ok, "the broker says so"),
    row(Apis::Reads, When::Anything, Outcome::Fail, "reading changes nothing, answered or not"),
    row(Apis::Any, When::Is(Fate::Lost), Outcome::Info, "it left; the broker may have served it"),
    row(Apis::Any, When::Is(Fate::TimedOut), Outcome::Info, "it left and may be served yet"),
    row(Apis::Any, When::Is(Fate::Broken), Outcome::Info, "served, but nobody knows how it ended"),
    row(Apis::Any, When::Is(Fate::Unasked), Outcome::Info, "nobody says that it arrived"),
    row(Apis::Any, When::Is(Fate::Abandoned), Outcome::Info, "it left; nobody saw the answer"),
    row(Apis::Any, When::Codes(REFUSED), Outcome::Fail, "refused before anything was done"),
    // Produce.
    row(
        PRODUCE,
        When::Codes(&[E::DUPLICATE_SEQUENCE_NUMBER]),
        Outcome::Ok,
        "the broker has that very batch already (KIP-98)",
    ),
    Row {
        apis: PRODUCE,
        since: i16::MIN,
        acks: Acks::Leader,
        when: When::Codes(MAYBE_AFTER_APPEND),
        outcome: Outcome::Fail,
        why: "with acks=1 these are answered before the local append or in place of it",
    },
    row(
        PRODUCE,
        When::Codes(MAYBE_AFTER_APPEND),
        Outcome::Info,
        "may be answered after the local append, which replicas may keep (KAFKA-13574)",
    ),
    row(
        PRODUCE,
        When::Codes(&[E::NOT_ENOUGH_REPLICAS]),
        Outcome::Fail,
        "looked at before the append",
    ),
    row(
        PRODUCE,
        When::Codes(&[E::NOT_ENOUGH_REPLICAS_AFTER_APPEND, E::REQUEST_TIMED_OUT]),
        Outcome::Info,
        "appended by the leader; replicas may follow",
    ),
    row(PRODUCE, When::Codes(PRODUCER_REFUSED), Outcome::Fail, "checked before the append"),
    row(
        PRODUCE,
        When::Codes(&[E::OUT_OF_ORDER_SEQUENCE_NUMBER]),
        Outcome::Fail,
        "its sequence is not the next: not appended by this attempt",
    ),
    Row {
        apis: PRODUCE,
        since: 11,
        acks: Acks::Any,
        when: When::Codes(&[
            E::CONCURRENT_TRANSACTIONS,
            E::COORDINATOR_LOAD_IN_PROGRESS,
            E::COORDINATOR_NOT_AVAILABLE,
            E::NOT_COORDINATOR,
        ]),
        outcome: Outcome::Fail,
        why: "the transaction is verified or joined before the append (KIP-890)",
    },
    row(
        PRODUCE,
        When::Codes(&[
            E::CORRUPT_MESSAGE,
            E::MESSAGE_TOO_LARGE,
            E::RECORD_LIST_TOO_LARGE,
            E::INVALID_TOPIC_EXCEPTION,
            E::INVALID_REQUIRED_ACKS,
            E::INVALID_TIMESTAMP,
            E::UNSUPPORTED_COMPRESSION_TYPE,
            E::INVALID_RECORD,
        ]),
        Outcome::Fail,
        "the batch itself is refused",
    ),
    // Ends of transactions.
    row(END_TXN, When::Codes(PRODUCER_REFUSED), Outcome::Fail, "refused before it was decided"),
    row(
        END_TXN,
        When::Codes(&[E::CONCURRENT_TRANSACTIONS]),
        Outcome::Fail,
        "an earlier decision is under way; this one was not taken",
    ),
    row(
        END_TXN,
        When::AnyError,
        Outcome::Info,
        "the coordinator may have written the decision before it lost its place (14, 15, 16, -1)",
    ),
    // What comes before the end.
    row(
        ADD_TO_TXN,
        When::Codes(PRODUCER_REFUSED),
        Outcome::Fail,
        "refused before anything was written",
    ),
    row(
        ADD_TO_TXN,
        When::Codes(&[
            E::CONCURRENT_TRANSACTIONS,
            E::UNKNOWN_TOPIC_OR_PARTITION,
            E::OPERATION_NOT_ATTEMPTED,
            E::INVALID_GROUP_ID,
        ]),
        Outcome::Fail,
        "nothing was added",
    ),
    row(
        OFFSETS,
        When::Codes(&[
            E::ILLEGAL_GENERATION,
            E::UNKNOWN_MEMBER_ID,
            E::REBALANCE_IN_PROGRESS,
            E::FENCED_INSTANCE_ID,
            E::FENCED_MEMBER_EPOCH,
            E::STALE_MEMBER_EPOCH,
            E::GROUP_ID_NOT_FOUND,
        ]),
        Outcome::Fail,
        "the member is not of that generation: nothing was committed",
    ),
    row(OFFSETS, When::Codes(PRODUCER_REFUSED), Outcome::Fail, "checked before the append"),
    row(
        OFFSETS,
        When::Codes(&[
            E::INVALID_GROUP_ID,
            E::OFFSET_METADATA_TOO_LARGE,
            E::INVALID_COMMIT_OFFSET_SIZE,
            E::UNKNOWN_TOPIC_OR_PARTITION,
            E::UNKNOWN_TOPIC_ID,
        ]),
        Outcome::Fail,
        "the offsets themselves are refused",
    ),
    // Who a producer is.
    row(INIT, When::Codes(PRODUCER_REFUSED), Outcome::Fail, "refused before anything was done"),
    row(
        INIT,
        When::Codes(&[E::INVALID_TRANSACTION_TIMEOUT]),
        Outcome::Fail,
        "refused before anything was done",
    ),
    row(
        INIT,
        When::AnyError,
        Outcome::Info,
        "the epoch may have been raised and an open transaction ended (51, 14, 15, 16)",
    ),
    // Groups and topics.
    row(
        GROUP,
        When::Codes(&[E::UNKNOWN_SERVER_ERROR, E::REQUEST_TIMED_OUT, E::NETWORK_EXCEPTION]),
        Outcome::Info,
        "nobody knows how far it came",
    ),
    row(GROUP, When::AnyError, Outcome::Fail, "the group stays as it was"),
    row(
        TOPICS,
        When::Codes(&[
            E::TOPIC_ALREADY_EXISTS,
            E::UNKNOWN_TOPIC_OR_PARTITION,
            E::UNKNOWN_TOPIC_ID,
            E::INVALID_TOPIC_EXCEPTION,
            E::INVALID_PARTITIONS,
            E::INVALID_REPLICATION_FACTOR,
            E::INVALID_REPLICA_ASSIGNMENT,
            E::INVALID_CONFIG,
            E::NOT_CONTROLLER,
            E::TOPIC_DELETION_DISABLED,
            E::OFFSET_OUT_OF_RANGE,
        ]),
        Outcome::Fail,
        "refused before anything was done",
    ),
    row(Apis::Any, When::Anything, Outcome::Info, "in doubt"),
];

/// What a leader may answer to a Produce with acks=all both before and after its own append.
const MAYBE_AFTER_APPEND: &[ErrorCode] = &[
    E::NOT_LEADER_OR_FOLLOWER,
    E::LEADER_NOT_AVAILABLE,
    E::UNKNOWN_TOPIC_OR_PARTITION,
    E::UNKNOWN_TOPIC_ID,
    E::KAFKA_STORAGE_ERROR,
];

const fn row(apis: Apis, when: When, outcome: Outcome, why: &'static str) -> Row {
    Row { apis, since: i16::MIN, acks: Acks::Any, when, outcome, why }
}

impl Row {
    fn fits(&self, attempt: &Attempt) -> bool {
        let api = match self.apis {
            Apis::Any => true,
            Apis::Reads => READS.contains(&attempt.api_key),
            Apis::These(keys) => keys.contains(&attempt.api_key),
        };
        let acks = match self.acks {
            Acks::Any => true,
            Acks::Leader => attempt.acks == Some(1),
        };
        let when = match (&self.when, attempt.fate) {
            (When::Anything, _) => true,
            (When::Is(fate), was) => *fate == was,
            (When::Codes(codes), Fate::Answered(code)) => codes.contains(&code),
            (When::AnyError, Fate::Answered(code)) => !code.is_none(),
            (When::Codes(_) | When::AnyError, _) => false,
        };
        api && acks && when && attempt.api_version >= self.since
    }
}

/// What is known of one attempt, and why.
#[must_use]
pub fn attempt(attempt: &Attempt) -> (Outcome, &'static str) {
    let row = TABLE.iter().find(|row| row.fits(attempt)).expect("the last row fits everything");
    (row.outcome, row.why)
}

/// What is known of an operation made of these attempts, in order: ok if one is ok; fail if every
/// one that left is a definite fail (one that never left counts as such); else info.
///
/// So OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH and PRODUCER_FENCED after an unanswered
/// attempt are info: that one may have been appended.
#[must_use]
pub fn operation<'a>(attempts: impl IntoIterator<Item = &'a Attempt>) -> Outcome {
    let mut known = Outcome::Fail;
    for each in attempts {
        match attempt(each).0 {
            Outcome::Ok => return Outcome::Ok,
            Outcome::Info => known = Outcome::Info,
            Outcome::Fail => {}
        }
    }
    known
}

/// What is known of several sends together, outside any transaction: what is known of each where
/// all agree, else info. One that happened and one that did not are neither.
#[must_use]
pub fn together(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let mut outcomes = outcomes.into_iter();
    let Some(first) = outcomes.next() else { return Outcome::Ok };
    if outcomes.all(|outcome| outcome == first) { first } else { Outcome::Info }
}

/// One EndTxn of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct End {
    /// Commit, or abort.
    pub commit: bool,
    /// The producer epoch it named.
    pub producer_epoch: i16,
    /// What came of it.
    pub fate: Fate,
    /// Which version it was.
    pub api_version: i16,
}

impl End {
    fn outcome(&self) -> Outcome {
        let (api_key, api_version) = (ApiKey::END_TXN, self.api_version);
        attempt(&Attempt { api_key, api_version, acks: None, fate: self.fate }).0
    }
}

/// What is known of a transaction by the ends sent for it, in order: ok if a commit was
/// acknowledged; fail only if no commit ever left, or an abort was acknowledged to the producer
/// epoch of the transaction and no commit before it is in doubt; else info.
///
/// A commit that was refused without an acknowledged abort is info: under transactions of
/// version 1 an older EndTxn may still decide it (KAFKA-17754).
#[must_use]
pub fn transaction(producer_epoch: i16, ends: &[End]) -> Outcome {
    let mut commit_left = false;
    let mut commit_in_doubt = false;
    for end in ends {
        match (end.commit, end.outcome()) {
            (true, Outcome::Ok) => return Outcome::Ok,
            (true, known) => {
                commit_left |= end.fate.left();
                commit_in_doubt |= known == Outcome::Info;
            }
            (false, Outcome::Ok) if end.producer_epoch == producer_epoch && !commit_in_doubt => {
                return Outcome::Fail;
            }
            (false, _) => {}
        }
    }
    if commit_left { Outcome::Info } else { Outcome::Fail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// `Produce(-1)` is a Produce with acks=all; elsewhere acks are left out.
    fn parse(api: &str, fate: &str) -> Attempt {
        let (name, acks) = match api.strip_suffix(')').and_then(|api| api.split_once('(')) {
            Some((name, acks)) => (name, acks.parse().ok()),
            None => (api, None),
        };
        let fate = match fate {
            "not-sent" => Fate::NotSent,
            "lost" => Fate::Lost,
            "timed-out" => Fate::TimedOut,
            "broken" => Fate::Broken,
            "unasked" => Fate::Unasked,
            "abandoned" => Fate::Abandoned,
            code => Fate::Answered(ErrorCode(code.parse().expect("a number is an error code"))),
        };
        let api_key = ApiKey::from_name(name).expect("an API of that name");
        Attempt { api_key, api_version: 12, acks, fate }
    }

    /// One line for each row: an attempt that row decides, and what is known of it.
    const EXAMPLES: &[(&str, &str, &str)] = &[
        ("EndTxn", "not-sent", "Fail"),
        ("Produce(1)", "0", "Ok"),
        ("Fetch", "timed-out", "Fail"),
        ("EndTxn", "lost", "Info"),
        ("Produce(-1)", "timed-out", "Info"),
        ("TxnOffsetCommit", "broken", "Info"),
        ("Produce(0)", "unasked", "Info"),
        ("EndTxn", "abandoned", "Info"),
        ("Produce(-1)", "29", "Fail"),
        ("Produce(-1)", "46", "Ok"),
        ("Produce(1)", "6", "Fail"),
        ("Produce(-1)", "6", "Info"),
        ("Produce(-1)", "19", "Fail"),
        ("Produce(-1)", "20", "Info"),
        ("Produce(-1)", "47", "Fail"),
        ("Produce(-1)", "45", "Fail"),
        ("Produce(-1)", "51", "Fail"),
        ("Produce(-1)", "87", "Fail"),
        ("EndTxn", "90", "Fail"),
        ("EndTxn", "51", "Fail"),
        ("EndTxn", "16", "Info"),
        ("AddPartitionsToTxn", "48", "Fail"),
        ("AddOffsetsToTxn", "51", "Fail"),
        ("TxnOffsetCommit", "22", "Fail"),
        ("TxnOffsetCommit", "47", "Fail"),
        ("OffsetCommit", "12", "Fail"),
        ("InitProducerId", "90", "Fail"),
        ("InitProducerId", "50", "Fail"),
        ("InitProducerId", "51", "Info"),
        ("JoinGroup", "-1", "Info"),
        ("Heartbeat", "27", "Fail"),
        ("CreateTopics", "36", "Fail"),
        ("CreateTopics", "-1", "Info"),
    ];

    #[test]
    fn every_row_decides_what_its_example_says() {
        for (i, (api, fate, expected)) in EXAMPLES.iter().enumerate() {
            let seen = parse(api, fate);
            let row = TABLE.iter().position(|row| row.fits(&seen));
            assert_eq!(row, Some(i), "{api} {fate} is an example of another row");
            assert_eq!(format!("{:?}", attempt(&seen).0), *expected, "{api} {fate}");
        }
        assert_eq!(EXAMPLES.len(), TABLE.len(), "every row has its example");
    }

    /// The codes of an API at which something other than doubt is known.
    fn known(api: &str) -> String {
        let mut lines = String::new();
        for outcome in [Outcome::Ok, Outcome::Fail] {
            let codes = ErrorCode::ALL.iter().filter(|code| {
                let seen = parse(api, &code.0.to_string());
                attempt(&seen).0 == outcome
            });
            let codes: Vec<String> = codes.map(|code| code.0.to_string()).collect();
            lines.push_str(&format!("{outcome:?} {}\n", codes.join(" ")));
        }
        lines
    }

    #[test]
    fn the_known_codes_of_a_produce_are_these_and_all_others_are_in_doubt() {
        expect![[r#"
            Ok 0 46
            Fail 2 10 14 15 16 17 18 19 21 29 30 31 32 34 35 42 43 44 45 47 48 49 51 53 58 59 76 87 89 90 120
        "#]]
        .assert_eq(&known("Produce(-1)"));
    }

    #[test]
    fn the_known_codes_of_an_end_are_these_and_all_others_are_in_doubt() {
        expect![[r#"
            Ok 0
            Fail 29 30 31 34 35 42 43 44 47 48 49 51 53 58 59 89 90 120
        "#]]
        .assert_eq(&known("EndTxn"));
    }

    #[test]
    fn before_version_11_a_produce_that_meets_a_coordinator_is_in_doubt() {
        let seen = Attempt { api_version: 10, ..parse("Produce(-1)", "16") };
        assert_eq!(attempt(&seen).0, Outcome::Info);
        assert_eq!(attempt(&parse("Produce(-1)", "9999")).0, Outcome::Info);
        let seen = Attempt { api_version: -1, ..parse("Produce(-1)", "9999") };
        assert_eq!(attempt(&seen).0, Outcome::Info);
    }

    #[test]
    fn an_operation_is_ok_if_one_attempt_is_and_fail_only_if_all_are() {
        let check = |fates: &str, expected: Outcome| {
            let attempts = fates.split_whitespace().map(|fate| parse("Produce(-1)", fate));
            let attempts: Vec<Attempt> = attempts.collect();
            assert_eq!(operation(&attempts), expected, "{fates}");
        };
        check("", Outcome::Fail);
        check("not-sent not-sent", Outcome::Fail);
        check("19 0", Outcome::Ok);
        check("timed-out 46", Outcome::Ok);
        check("0 lost", Outcome::Ok);
        check("19 not-sent 87", Outcome::Fail);
        // What refuses a retry says nothing of the attempt before it.
        for refusal in ["45", "47", "90"] {
            check(refusal, Outcome::Fail);
            check(&format!("lost {refusal}"), Outcome::Info);
            check(&format!("6 {refusal}"), Outcome::Info);
        }
    }

    #[test]
    fn sends_that_do_not_agree_are_in_doubt_together() {
        use Outcome::{Fail, Info, Ok};
        for (outcomes, expected) in [
            (vec![], Ok),
            (vec![Ok, Ok], Ok),
            (vec![Fail, Fail], Fail),
            (vec![Ok, Fail], Info),
            (vec![Fail, Info], Info),
        ] {
            assert_eq!(together(outcomes.iter().copied()), expected, "{outcomes:?}");
        }
    }

    /// Ends in order: `c` commit or `a` abort, then its fate; `a'` names another producer epoch.
    #[test]
    fn a_transaction_fails_only_where_no_commit_can_ever_decide_it() {
        let check = |ends: &str, expected: Outcome| {
            let ends = ends.split_whitespace().map(|end| {
                let (what, fate) = end.split_once(':').expect("what and its fate");
                End {
                    commit: what == "c",
                    producer_epoch: if what == "a'" { 8 } else { 7 },
                    fate: parse("EndTxn", fate).fate,
                    api_version: 5,
                }
            });
            let ends: Vec<End> = ends.collect();
            assert_eq!(transaction(7, &ends), expected, "{ends:?}");
        };
        check("", Outcome::Fail);
        check("c:0", Outcome::Ok);
        check("c:lost c:0", Outcome::Ok);
        check("c:not-sent", Outcome::Fail);
        check("c:timed-out", Outcome::Info);
        check("c:90", Outcome::Info);
        check("c:120 a:0", Outcome::Fail);
        check("c:120 a:lost", Outcome::Info);
        check("c:lost a:0", Outcome::Info);
        check("c:16 a:0", Outcome::Info);
        check("c:120 a':0", Outcome::Info);
        check("a:lost", Outcome::Fail);
        check("a:0", Outcome::Fail);
    }
}
