//! Whether transactions end, last stable offsets move, and a new owner can take over.
//!
//! Asked when everything has been said: does the coordinator have a transaction open that no
//! client has; does InitProducerId for the same transactional id succeed; does the last stable
//! offset of every partition reach the high watermark then.
//!
//! Not checked: how long a broker takes within the bounds below.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::messages::{DescribeTransactionsRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use kafka_wire::ErrorCode;
use tokio::time::{Instant, sleep};

use super::conversation::Conversation;
use super::ground::Ground;
use super::read::whole;
use super::switchboard::{NoWay, Switchboard, Whom};
use crate::client::fetch::IsolationLevel;
use crate::client::producer::init_producer_id;

/// How long markers may take to be written where nothing stands in their way.
const ENDED_WITHIN: Duration = Duration::from_millis(1500);
/// How long a new owner may be told to wait.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(5);
/// How long the last stable offset may take to follow.
const STABLE_WITHIN: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(5);
const DESCRIBE_TRANSACTIONS: i16 = 0;
const INIT_PRODUCER_ID: i16 = 4;

/// Something that does not go on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Stuck {
    /// Its name in the verdict.
    pub name: &'static str,
    /// What is stuck, and how that was seen.
    pub why: String,
}

impl Stuck {
    /// Whether it is a client's doing, whatever the brokers did.
    #[must_use]
    pub fn is_of_client(&self) -> bool {
        [NEVER_ENDS, MISBEHAVES].contains(&self.name)
    }
}

/// A program did not end in time.
pub const NEVER_ENDS: &str = "client-never-ends";
/// A program ended otherwise, or said something else, than a client must.
pub const MISBEHAVES: &str = "client-misbehaves";
/// A transaction that no client has stays open until its timeout.
pub const LEFT_OPEN: &str = "transaction-left-open";
/// InitProducerId is refused though nobody has the transactional id.
pub const NOT_TAKEN_OVER: &str = "takeover-refused";
/// The last stable offset waits for a transaction that nobody can end.
pub const HANGING: &str = "hanging-transaction";

/// A request got no answer, though nobody hurt its broker.
pub const UNANSWERED: &str = "request-unanswered";

/// What a coordinator says of a transactional id: its state; absent where it knows none.
pub(super) async fn state(
    board: &mut Switchboard,
    transactional_id: &str,
) -> Result<Result<String, ErrorCode>, NoWay> {
    let whom = Whom::Transaction(transactional_id.to_owned());
    let (_, address) = board.find(&whom).await?;
    let connection = board.connection("questions", &address).await?;
    let id = TransactionalId(StrBytes::from_string(transactional_id.to_owned()));
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id]);
    let answer = connection.call(&request, DESCRIBE_TRANSACTIONS).await.map_err(NoWay::Fate)?;
    let Some(state) = answer.transaction_states.into_iter().next() else {
        return Ok(Err(ErrorCode::UNKNOWN_SERVER_ERROR));
    };
    Ok(ErrorCode(state.error_code).ok().map(|()| state.transaction_state.to_string()))
}

/// Whether a transaction in that state is decided and its markers are written, or there is none.
pub(super) fn is_over(state: &str) -> bool {
    matches!(state, "Empty" | "CompleteCommit" | "CompleteAbort" | "Dead")
}

/// Asks all of it. `left_open` names transactional ids whose clients left something open.
///
/// # Errors
/// Where the brokers do not answer.
pub async fn judge(
    board: &mut Switchboard,
    conversation: &Conversation,
    ground: &Ground<'_>,
    left_open: &BTreeSet<String>,
) -> Result<Vec<Stuck>, NoWay> {
    let mut stuck = Vec::new();
    let ids: BTreeSet<String> = conversation
        .producers
        .values()
        .filter(|id| !id.is_empty())
        .map(|id| ground.names.of(id))
        .collect();
    for id in &ids {
        if !left_open.contains(id) {
            ended(board, id, &mut stuck).await?;
        }
    }
    for id in &ids {
        taken_over(board, id, &mut stuck).await?;
    }
    for (name, topic, number) in conversation.partitions() {
        let partition = ground.partition(&topic, number);
        let deadline = Instant::now() + STABLE_WITHIN;
        loop {
            let all = whole(board, &partition, IsolationLevel::ReadCommitted).await?;
            if all.is_stable() {
                break;
            }
            if Instant::now() >= deadline {
                let why = format!(
                    "The last stable offset of {name} stays at {} below the high watermark {}, \
                     though a new owner has taken every transactional id over: consumers of \
                     committed records wait for a transaction nobody can end.",
                    all.last_stable_offset, all.high_watermark
                );
                stuck.push(Stuck { name: HANGING, why });
                break;
            }
            sleep(PAUSE).await;
        }
    }
    Ok(stuck)
}

async fn ended(board: &mut Switchboard, id: &str, stuck: &mut Vec<Stuck>) -> Result<(), NoWay> {
    let deadline = Instant::now() + ENDED_WITHIN;
    loop {
        let now = match state(board, id).await? {
            Ok(now) if is_over(&now) => return Ok(()),
            Err(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND) => return Ok(()),
            Ok(now) => now,
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            let why = format!(
                "Every transaction of {id} was ended by its client, and its coordinator says \
                 {now}: a transaction nobody has stays open until its timeout, which then fences \
                 whoever writes."
            );
            stuck.push(Stuck { name: LEFT_OPEN, why });
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

async fn taken_over(
    board: &mut Switchboard,
    id: &str,
    stuck: &mut Vec<Stuck>,
) -> Result<(), NoWay> {
    let deadline = Instant::now() + TAKEN_OVER_WITHIN;
    loop {
        let (_, address) = board.find(&Whom::Transaction(id.to_owned())).await?;
        let connection = board.connection("owner", &address).await?;
        let answer =
            init_producer_id(&connection, INIT_PRODUCER_ID, Some(id), 60_000, None).await?;
        let error = match answer {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if matches!(error, ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE) {
            board.forget();
        }
        if Instant::now() >= deadline {
            let why = format!(
                "InitProducerId for {id} is answered {error} for {} s: no new owner can take \
                 over.",
                TAKEN_OVER_WITHIN.as_secs()
            );
            stuck.push(Stuck { name: NOT_TAKEN_OVER, why });
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}
