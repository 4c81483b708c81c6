//! Holds a conversation with a broker and judges what was recorded of it.
//!
//! Recorded are operations and every byte, in a run folder or in memory; both are judged by the
//! path every record is judged by, and what does not go on is added to the verdict.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::broker::Cluster;
use crate::capture::PcapngTap;
use crate::capture::recorder::OpenFile;
use crate::checker::{self, Case, Expectation, Found, Verdict};
use crate::client::{Conduct, Tcp, Versions};
use crate::history::read::{Format, ReadError, read_history};
use crate::history::tap::{NoTap, Tap};
use crate::history::{History, Recorder};
use crate::scenario::progress::Stuck;
use crate::scenario::switchboard::{NoWay, Switchboard};
use crate::scenario::way_in::WayIn;
use crate::scenario::{Column, Conversation, Ground, Held, Names, Style, ground, hold};
use crate::world::Clock;

use super::nemesis;
use super::packets::{self, Source};
use crate::proxy::rule::Act;

/// How long an answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a capture in memory before the next begins: one is enough.
const CAPTURE_BYTES_MAX: u64 = 1 << 40;

/// What conversations are held with, and how.
#[derive(Clone, Copy)]
pub struct With<'w> {
    /// The brokers, where faults can be done to them.
    pub cluster: &'w dyn Cluster,
    /// The clock.
    pub clock: &'w Clock,
    /// Which style is spoken.
    pub style: Style,
    /// Which expectations apply.
    pub column: Column,
    /// What the brokers say they speak.
    pub versions: &'w Versions,
    /// Where other people's programs find their files and leave what they say.
    pub folder: &'w Path,
    /// Words of their commands that are not as the conversation has them.
    pub words: &'w BTreeMap<String, String>,
}

/// What a conversation came to, judged.
pub struct Judged {
    /// What was said and what came of it.
    pub held: Held,
    /// The verdict.
    pub verdict: Verdict,
    /// Every byte, as a capture.
    pub capture: Vec<u8>,
    /// Its operations, as lines of JSON.
    pub history: Vec<u8>,
}

/// Why a conversation could not be held or judged.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The brokers were not reached.
    #[error(transparent)]
    NoWay(#[from] NoWay),
    /// There is no proxy before them.
    #[error("{0}")]
    WayIn(String),
    /// Its record could not be read back.
    #[error("cannot read what was recorded")]
    Record(#[from] io::Error),
    /// Its history could not be read back.
    #[error("cannot read what was recorded")]
    History(#[from] ReadError),
}

/// How connections behave that are recorded by a tap.
fn conduct(tap: Arc<dyn Tap>, clock: &Clock) -> Conduct {
    let conduct = Conduct::new(Arc::new(Tcp::default()), tap, clock.clone());
    conduct.with_request_timeout(REQUEST_TIMEOUT)
}

fn bootstrap(cluster: &dyn Cluster) -> Vec<String> {
    cluster.nodes().iter().map(ToString::to_string).collect()
}

/// A switchboard whose connections nobody records, for what must be arranged.
#[must_use]
pub fn unrecorded(cluster: &dyn Cluster, clock: &Clock) -> Switchboard {
    Switchboard::new(conduct(Arc::new(NoTap), clock), bootstrap(cluster))
}

impl With<'_> {
    /// Holds a conversation whose topics are there already, and judges it.
    ///
    /// # Errors
    /// Where what was recorded cannot be read back.
    pub async fn hold(
        &self,
        conversation: &Conversation,
        names: Names,
    ) -> Result<Judged, ConversationError> {
        let (capture, history) = (Memory::default(), Memory::default());
        let recorder = Recorder::new(self.clock.clone(), Box::new(history.clone()));
        let recorder = Arc::new(recorder);
        let tap = Arc::new(PcapngTap::new(capture.clone().opener(), CAPTURE_BYTES_MAX)?);
        let conduct = conduct(tap.clone(), self.clock);
        let ground = Ground {
            bootstrap: bootstrap(self.cluster),
            conduct: conduct.clone(),
            recorder: &recorder,
            cluster: Some(self.cluster),
            names,
            style: self.style,
            column: self.column,
            versions: self.versions,
            way_in: self.way_in(conversation, &conduct, &recorder).await?,
            folder: self.folder,
            words: self.words,
        };
        for (name, text) in &conversation.files {
            std::fs::write(self.folder.join(name), text)?;
        }
        let board = Switchboard::new(conduct, ground.bootstrap.clone());
        let held = hold(conversation, &ground, board.through(ground.way_in.clone())).await;
        // The proxy ends with its last owner, and what passed is recorded then.
        drop(ground);
        // Dropped connections are closed by their tasks, which must have run.
        tokio::task::yield_now().await;
        recorder.finish()?;
        tap.finish()?;
        let (capture, history) = (capture.take(), history.take());
        let verdict = judge(&held, &capture, &history)?;
        Ok(Judged { held, verdict, capture, history })
    }

    /// The proxy before the brokers, where the conversation needs one.
    async fn way_in(
        &self,
        conversation: &Conversation,
        conduct: &Conduct,
        recorder: &Arc<Recorder>,
    ) -> Result<Option<Arc<WayIn>>, ConversationError> {
        if !conversation.needs_proxy() {
            return Ok(None);
        }
        let recorder = recorder.clone();
        let watch = move |act: &Act<'_>| {
            recorder.record(nemesis::act_event(act));
        };
        let way_in =
            WayIn::before(&bootstrap(self.cluster), conduct, conduct.tap.clone(), watch).await;
        Ok(Some(Arc::new(way_in.map_err(ConversationError::WayIn)?)))
    }

    /// Makes the topics of a conversation, holds it and judges it.
    ///
    /// # Errors
    /// Where the brokers are not reached, or the record cannot be read back.
    pub async fn prepare_and_hold(
        &self,
        conversation: &Conversation,
        names: Names,
    ) -> Result<Judged, ConversationError> {
        let mut board = unrecorded(self.cluster, self.clock);
        ground::prepare(&mut board, &[(conversation, &names)], false).await?;
        self.hold(conversation, names).await
    }
}

/// Judges operations, packets, and what does not go on.
fn judge(held: &Held, capture: &[u8], history: &[u8]) -> Result<Verdict, ConversationError> {
    let mut expectation = Expectation::default();
    // A conversation of few records has no cycles, and readers begin anew each time.
    expectation.ignore.insert("empty-transaction-graph".into());
    let read = Cursor::new(history.to_vec());
    let history = match history.is_empty() {
        true => History::default(),
        false => {
            let one = std::num::NonZeroUsize::MIN;
            read_history(read, Format::Jsonl, one)?.history
        }
    };
    let mut verdict = checker::check_on(1, &history, &expectation);
    let source = Source {
        path: "wire.pcapng".into(),
        read: Box::new(Cursor::new(capture.to_vec())),
        is_capture: true,
    };
    // Which offsets a group may have is decided by what clients meant and were told: on the wire a
    // late request of one transaction looks like one of the next.
    expectation.ignore.extend(["P8-offsets-not-atomic", "G3-offset-lost"].map(str::to_owned));
    packets::check(vec![source], &expectation, false, None)?.add_to(&mut verdict, &expectation);
    let (clients, brokers): (Vec<&Stuck>, Vec<&Stuck>) =
        held.stuck.iter().chain(&held.offsets).partition(|stuck| stuck.is_of_client());
    verdict.merge(brokers.into_iter().map(|stuck| found(stuck, held)));
    if held.forged > 0 {
        verdict.pardon(format!(
            "the proxy forged: {} acts that no network does; nothing is held against the brokers",
            held.forged
        ));
    }
    verdict.merge(clients.into_iter().map(|stuck| found(stuck, held)));
    verdict.types.retain(|name| name != "empty-transaction-graph");
    verdict.anomalies.remove("empty-transaction-graph");
    if let Some(why) = &held.broken {
        verdict.observations.push(format!("the conversation could not be held: {why}"));
    }
    verdict.observations.extend(held.surprises.iter().cloned());
    Ok(verdict)
}

/// What does not go on, as the verdict has it.
fn found(stuck: &Stuck, held: &Held) -> (String, Found) {
    let steps = held.lines.iter().filter_map(|line| line.step).max().unwrap_or(0);
    let case = Case {
        fields: vec![("steps", steps.into())],
        explanation: stuck.why.clone(),
        ..Case::default()
    };
    (stuck.name.to_owned(), Found { count: 1, bad: true, cases: vec![case] })
}

/// Bytes written by one and read by another.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn opener(self) -> OpenFile {
        Box::new(move |_| Ok(Box::new(self.clone())))
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
