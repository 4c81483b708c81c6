//! Committing offsets, and asking for offsets.

use std::collections::BTreeMap;

use kafka_wire::ids::{NodeId, Offset};
use kafka_wire::{ApiKey, ErrorCode};

use super::assign::Consumer;
use crate::client::cluster::{CoordinatorOf, TopicPartition};
use crate::client::fetch::IsolationLevel;
use crate::client::offsets::{self, Answers, At};
use crate::client::versions::TransactionVersion;
use crate::pipeline::attempt::{Attempt, Came, recorded};
use crate::pipeline::caller::{Caller, To};
use crate::pipeline::policy::Retry;
use crate::pipeline::question::{CommitOffsets, FetchOffsets, first_error};
use crate::pipeline::trouble::Trouble;

/// These requests are the same under both.
const V2: TransactionVersion = TransactionVersion::V2;

/// Asks a group's coordinator for committed offsets.
pub(super) async fn committed(
    caller: &mut Caller,
    (group_id, isolation): (&str, IsolationLevel),
    partitions: &[TopicPartition],
    attempts: &mut Vec<Attempt>,
) -> Result<Answers<Offset>, Trouble> {
    let api_key = ApiKey::OFFSET_FETCH;
    // Offsets of an open transaction are not there yet (KIP-447).
    let require_stable = isolation == IsolationLevel::ReadCommitted;
    let to = To::Coordinator(CoordinatorOf::Group, group_id);
    let question = FetchOffsets { group_id, require_stable, partitions };
    let answer = caller.ask(to, V2, &question, attempts).await?;
    answer.map_err(|code| Trouble::Answered { api_key, code })
}

/// Asks the leaders of partitions for offsets, each leader once. A partition without a known
/// leader answers LEADER_NOT_AVAILABLE.
pub(super) async fn listed(
    caller: &mut Caller,
    isolation: IsolationLevel,
    at: At,
    partitions: &[TopicPartition],
    attempts: &mut Vec<Attempt>,
) -> Result<Answers<Offset>, Trouble> {
    let api_key = ApiKey::LIST_OFFSETS;
    let mut answers = Answers::new();
    let mut by_leader: BTreeMap<NodeId, Vec<TopicPartition>> = BTreeMap::new();
    for tp in partitions {
        match caller.cluster.leader(tp) {
            Some(node) => by_leader.entry(node).or_default().push(tp.clone()),
            None => drop(answers.insert(tp.clone(), Err(ErrorCode::LEADER_NOT_AVAILABLE))),
        }
    }
    for (node, partitions) in by_leader {
        let link = caller.links.to(node, attempts).await?;
        let version = link.version(api_key, V2)?;
        let call = offsets::list_offsets(&link.connection, version, isolation, at, &partitions);
        let to = (api_key, version, node);
        match recorded(attempts, caller.cluster.clock(), to, call, first_error).await {
            Ok(found) => answers.extend(found),
            Err(came) => {
                caller.links.close(node);
                return Err(Trouble::Unanswered { api_key, came });
            }
        }
    }
    Ok(answers)
}

/// Whether a leader may have moved.
pub(super) fn leader_moved(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::LISTENER_NOT_FOUND
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::OFFSET_NOT_AVAILABLE
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID
    )
}

impl Consumer {
    /// Commits offsets to the group, with retries; error codes of partitions are in the answers.
    ///
    /// # Errors
    /// Where there is no group, or no answer came.
    pub async fn commit(
        &mut self,
        offsets: &[(TopicPartition, Offset)],
        attempts: &mut Vec<Attempt>,
    ) -> Result<Answers<()>, Trouble> {
        let membership = self.membership().ok_or(Trouble::NotNow("there is no group"))?;
        let to = To::Coordinator(CoordinatorOf::Group, &membership.group_id);
        let question = CommitOffsets { membership: &membership, offsets };
        let result = self.caller.ask(to, V2, &question, attempts).await;
        self.committed_at_ns = self.clock.now_ns();
        result
    }

    /// Commits where it stands (`commitSync`).
    ///
    /// # Errors
    /// As [`Consumer::commit`]; the first error code of a partition too.
    pub async fn commit_positions(&mut self, attempts: &mut Vec<Attempt>) -> Result<(), Trouble> {
        let positions = self.positions();
        if positions.is_empty() {
            return Ok(());
        }
        let answers = self.commit(&positions, attempts).await?;
        let api_key = ApiKey::OFFSET_COMMIT;
        first_error(&answers).ok().map_err(|code| Trouble::Answered { api_key, code })
    }

    /// The group's committed offsets, with retries; −1 where there is none.
    ///
    /// # Errors
    /// Where there is no group, no answer came, or the group refuses.
    pub async fn committed(
        &mut self,
        partitions: &[TopicPartition],
        attempts: &mut Vec<Attempt>,
    ) -> Result<Answers<Offset>, Trouble> {
        let group_id = self.config.group_id.clone().ok_or(Trouble::NotNow("there is no group"))?;
        let who = (group_id.as_str(), self.config.isolation);
        committed(&mut self.caller, who, partitions, attempts).await
    }

    /// The end of partitions, with retries: the last stable offset under `read_committed`, else
    /// the high watermark.
    ///
    /// # Errors
    /// Where some partition does not say.
    pub async fn end_offsets(
        &mut self,
        partitions: &[TopicPartition],
        attempts: &mut Vec<Attempt>,
    ) -> Result<Answers<Offset>, Trouble> {
        self.offsets_at(At::Latest, partitions, attempts).await
    }

    /// Offsets of partitions at a point of the log, with retries.
    ///
    /// # Errors
    /// Where some partition does not say.
    pub async fn offsets_at(
        &mut self,
        at: At,
        partitions: &[TopicPartition],
        attempts: &mut Vec<Attempt>,
    ) -> Result<Answers<Offset>, Trouble> {
        let isolation = self.config.isolation;
        let api_key = ApiKey::LIST_OFFSETS;
        let mut found = Answers::new();
        let mut retry = Retry::begin(self.config.retry, &self.clock);
        loop {
            let left: Vec<TopicPartition> =
                partitions.iter().filter(|tp| !found.contains_key(*tp)).cloned().collect();
            if left.is_empty() {
                return Ok(found);
            }
            let trouble = match listed(&mut self.caller, isolation, at, &left, attempts).await {
                Ok(answers) => {
                    let code = first_error(&answers);
                    let asked = answers.into_iter().filter(|(tp, _)| left.contains(tp));
                    let before = found.len();
                    found.extend(asked.filter(|(_, offset)| offset.is_ok()));
                    match code {
                        ErrorCode::NONE if found.len() > before => continue,
                        ErrorCode::NONE => {
                            let came = Came::Broken("the answer leaves partitions out".into());
                            Trouble::Unanswered { api_key, came }
                        }
                        code if leader_moved(code) => Trouble::Answered { api_key, code },
                        code => return Err(Trouble::Answered { api_key, code }),
                    }
                }
                Err(trouble) => trouble,
            };
            let topics: std::collections::BTreeSet<_> =
                left.iter().map(|tp| tp.topic.clone()).collect();
            let topics: Vec<_> = topics.into_iter().collect();
            drop(self.cluster.refresh(&topics, attempts).await);
            retry.pause(trouble).await?;
        }
    }
}
