//! What a conversation is held on: a broker, names nobody else has, and where it is recorded.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::DeleteTopicsRequest;
use kafka_wire::ErrorCode;

use super::conversation::{Column, Conversation, Style};
use super::switchboard::{NoWay, Switchboard, Whom};
use super::way_in::WayIn;
use crate::broker::Cluster;
use crate::client::admin::{NewTopic, create_topics};
use crate::client::cluster::{Metadata, TopicPartition, topic_name};
use crate::client::fetch::IsolationLevel;
use crate::client::offsets::{At, list_offsets};
use crate::client::{Conduct, Fate, Versions};
use crate::history::Recorder;
use kafka_wire::ApiKey;

/// How long topics may take to have leaders.
const LED_WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);
const CREATE_TOPICS: i16 = 5;
const DELETE_TOPICS: i16 = 5;
const METADATA: i16 = 12;
const LIST_OFFSETS: i16 = 5;

/// The names of a run: those of the file with an ending that no other run has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    ending: String,
}

impl Names {
    /// Names with that ending.
    #[must_use]
    pub fn ending(ending: impl Into<String>) -> Self {
        Self { ending: ending.into() }
    }

    /// A topic, transactional id or group as the broker knows it.
    #[must_use]
    pub fn of(&self, name: &str) -> String {
        format!("{name}-{}", self.ending)
    }
}

/// What one conversation is held on.
pub struct Ground<'g> {
    /// Addresses of brokers.
    pub bootstrap: Vec<String>,
    /// How connections behave; its tap records them.
    pub conduct: Conduct,
    /// Who takes operations.
    pub recorder: &'g Recorder,
    /// The brokers, where faults can be done to them.
    pub cluster: Option<&'g dyn Cluster>,
    /// The names of this run.
    pub names: Names,
    /// Which style is spoken.
    pub style: Style,
    /// Which column of the expectations applies.
    pub column: Column,
    /// What the brokers say they speak.
    pub versions: &'g Versions,
    /// The proxy before the brokers, where the conversation needs one.
    pub way_in: Option<Arc<WayIn>>,
    /// Where programs find their files and leave what they say.
    pub folder: &'g Path,
    /// Words of commands that are not as the conversation has them.
    pub words: &'g BTreeMap<String, String>,
}

impl Ground<'_> {
    /// The version a phrase is spoken in: its own, or the highest the broker has where that is less.
    #[must_use]
    pub fn phrase_version(&self, api_key: ApiKey, version: i16) -> i16 {
        match self.versions.advertised(api_key) {
            Some((min, max)) if max >= min => version.min(max),
            _ => version,
        }
    }

    /// A partition's name on the broker.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.names.of(topic).into(), partition }
    }
}

/// Which column applies to a style on a broker that advertises these versions.
#[must_use]
pub fn column(style: Style, versions: &Versions) -> Column {
    let is_tv2 = versions.finalized_feature("transaction.version").unwrap_or(0) >= 2;
    // AddPartitionsToTxn 4 is what leaders verify transactions with (KIP-890).
    let verifies = versions
        .advertised(ApiKey::ADD_PARTITIONS_TO_TXN)
        .is_some_and(|(_, version_max)| version_max >= 4);
    match (style, is_tv2, verifies) {
        (Style::New, ..) => Column::Tv2,
        (Style::Old, true, _) => Column::OldOnTv2,
        (Style::Old, false, true) => Column::Verified,
        (Style::Old, false, false) => Column::Unverified,
    }
}

/// Makes the topics of conversations and waits until every partition is led; a hasty one goes on as
/// soon as Metadata names the leaders, which may not have heard of it themselves.
///
/// # Errors
/// Where that takes too long, or the broker refuses.
pub async fn prepare(
    board: &mut Switchboard,
    conversations: &[(&Conversation, &Names)],
    hasty: bool,
) -> Result<(), NoWay> {
    let wanted: Vec<(String, i32)> = conversations
        .iter()
        .flat_map(|(conversation, names)| {
            conversation.topics.iter().map(|(topic, count)| (names.of(topic), *count))
        })
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let (_, address) = board.find(&Whom::Anyone).await?;
    let connection = board.connection("questions", &address).await?;
    let deadline = tokio::time::Instant::now() + LED_WITHIN;
    let topics: Vec<NewTopic<'_>> = wanted
        .iter()
        .map(|(name, count)| NewTopic { name, partitions: *count, replication_factor: -1 })
        .collect();
    let nobody = |last: String| NoWay::Nobody { whom: "leader of the new topics".into(), last };
    loop {
        let codes = create_topics(&connection, CREATE_TOPICS, &topics, 10_000).await?;
        let allowed = [ErrorCode::NONE, ErrorCode::TOPIC_ALREADY_EXISTS];
        match codes.iter().find(|code| !allowed.contains(code)) {
            None => break,
            // A controller that is only just elected.
            Some(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Some(code) => return Err(nobody(format!("CreateTopics answers {code}"))),
        }
    }
    let names: Vec<Arc<str>> = wanted.iter().map(|(name, _)| name.as_str().into()).collect();
    loop {
        let metadata = Metadata::ask(&connection, METADATA, Some(&names)).await?;
        let led = wanted.iter().all(|(name, count)| {
            metadata.topics.get(name.as_str()).is_some_and(|topic| {
                let led =
                    topic.partitions.values().filter(|p| p.node.is_some() && p.error.is_none());
                led.count() == usize::try_from(*count).unwrap_or(0)
            })
        });
        board.note_leaders(&metadata);
        if led && (hasty || all_serve(board, &wanted).await?) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(nobody("not every partition has a leader in Metadata".into()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deletes the topics of conversations. Where a broker refuses, they stay.
///
/// # Errors
/// Where nobody is reached.
pub async fn clean(
    board: &mut Switchboard,
    conversations: &[(Conversation, Names)],
) -> Result<(), NoWay> {
    let (_, address) = board.find(&Whom::Anyone).await?;
    let connection = board.connection("questions", &address).await?;
    let names = conversations.iter().flat_map(|(conversation, names)| {
        conversation.topics.keys().map(|topic| topic_name(&names.of(topic)))
    });
    let request =
        DeleteTopicsRequest::default().with_topic_names(names.collect()).with_timeout_ms(10_000);
    connection.call(&request, DELETE_TOPICS).await?;
    Ok(())
}

/// Whether every leader serves its new partitions: Metadata names leaders that have not yet heard
/// of it themselves.
async fn all_serve(board: &mut Switchboard, wanted: &[(String, i32)]) -> Result<bool, NoWay> {
    let mut by_leader: BTreeMap<String, Vec<TopicPartition>> = BTreeMap::new();
    for (topic, count) in wanted {
        for partition in 0..*count {
            let tp = TopicPartition { topic: topic.as_str().into(), partition };
            let (_, address) = board.find(&Whom::Leader(tp.clone())).await?;
            by_leader.entry(address).or_default().push(tp);
        }
    }
    for (address, partitions) in by_leader {
        let connection = board.connection("questions", &address).await?;
        let level = IsolationLevel::ReadCommitted;
        let answers =
            list_offsets(&connection, LIST_OFFSETS, level, At::Latest, &partitions).await?;
        if answers.len() < partitions.len() || answers.values().any(Result::is_err) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a broker says it speaks.
///
/// # Errors
/// Where it does not answer.
pub async fn ask_versions(board: &mut Switchboard) -> Result<Versions, NoWay> {
    let (_, address) = board.find(&Whom::Anyone).await?;
    let connection = board.connection("questions", &address).await?;
    let versions = Versions::ask(&connection, 3).await?;
    match versions.error.is_none() {
        true => Ok(versions),
        false => {
            let why = format!("ApiVersions answers {}", versions.error);
            Err(NoWay::Fate(Fate::NotSent { why }))
        }
    }
}
