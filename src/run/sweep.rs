//! Runs every order of a conversation against brokers, several at a time, judges each, and makes
//! the shortest conversation of each anomaly.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::clock;
use super::conversation::{ConversationError, Judged, With, unrecorded};
use crate::broker::Cluster;
use crate::client::Versions;
use crate::scenario::sweep::{Order, orders, shorter};
use crate::scenario::{Column, Conversation, Names, Style, chart, ground};
use crate::world::Clock;

/// Orders whose topics are made at once.
const BATCH: usize = 48;
/// How often a reproducer must show its anomaly again.
const REPEATED: usize = 3;
/// How often a conversation is shortened at most.
const ROUNDS_MAX: usize = 12;

/// How a sweep is run.
#[derive(Clone)]
pub struct Sweep {
    /// The brokers.
    pub cluster: Arc<dyn Cluster>,
    /// The clock.
    pub clock: Clock,
    /// Which style is spoken.
    pub style: Style,
    /// Which expectations apply.
    pub column: Column,
    /// What the brokers say they speak.
    pub versions: Arc<Versions>,
    /// Where other people's programs find their files.
    pub folder: PathBuf,
    /// Words of their commands.
    pub words: BTreeMap<String, String>,
    /// Orders that are held at a time: one, where each hurts the brokers of all.
    pub at_a_time: usize,
    /// Whether they begin before the leaders of their topics have heard of it.
    pub hasty: bool,
    /// Whether two requests are late at once, too.
    pub pairs: bool,
}

/// What one order came to.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Row {
    /// The request that was held, or whose answer was lost.
    pub held: String,
    /// Its place among the steps.
    pub held_at: usize,
    /// What the client did.
    pub mode: &'static str,
    /// After which step the request arrived.
    pub arrives: Option<String>,
    /// The place of that step.
    pub arrives_at: Option<usize>,
    /// What was found.
    pub anomalies: Vec<String>,
    /// What came of the late request.
    pub late: Option<String>,
    /// Why the order could not be held to its end.
    pub broken: Option<String>,
    /// Whether two requests were late.
    pub is_pair: bool,
    /// What was said, where something was found.
    #[serde(skip)]
    pub chart: Option<String>,
}

/// The shortest conversation that shows an anomaly.
pub struct Reproducer {
    /// What it shows.
    pub anomalies: Vec<String>,
    /// The conversation.
    pub conversation: Conversation,
    /// How often it was held again, and how often it showed the anomaly.
    pub repeated: (usize, usize),
    /// Orders that show the same.
    pub orders: usize,
    /// The last time it showed it.
    pub judged: Judged,
}

/// What a sweep came to.
pub struct Swept {
    /// Every order.
    pub rows: Vec<Row>,
    /// One of each kind of anomaly.
    pub reproducers: Vec<Reproducer>,
    /// Nanoseconds from the first order to the last verdict.
    pub elapsed_ns: u64,
    /// Nanoseconds to the first anomaly.
    pub first_found_ns: Option<u64>,
}

impl Sweep {
    fn with(&self) -> With<'_> {
        With {
            cluster: &*self.cluster,
            clock: &self.clock,
            style: self.style,
            column: self.column,
            versions: &self.versions,
            folder: &self.folder,
            words: &self.words,
        }
    }

    /// Holds every order of a conversation. `tell` hears of each as it ends.
    ///
    /// # Errors
    /// Where the brokers are not reached, or a record cannot be read back.
    pub async fn run(
        &self,
        conversation: &Conversation,
        mut tell: impl FnMut(usize, usize, &Row),
    ) -> Result<Swept, ConversationError> {
        let began = self.clock.now_ns();
        let all = orders(conversation, self.style, self.pairs);
        let count = all.len();
        let stamp = clock::stamp(self.clock.unix_ns());
        let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
        let mut first_found_ns = None;
        let mut shortest: BTreeMap<Vec<String>, (usize, Order)> = BTreeMap::new();
        let mut numbered = all.into_iter().enumerate();
        loop {
            let batch: Vec<(usize, Order)> = numbered.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            let named: Vec<(usize, Order, Names)> = batch
                .into_iter()
                .map(|(n, order)| (n, order, Names::ending(format!("{stamp}-{n}"))))
                .collect();
            let topics: Vec<(&Conversation, &Names)> =
                named.iter().map(|(_, order, names)| (&order.conversation, names)).collect();
            ground::prepare(&mut unrecorded(&*self.cluster, &self.clock), &topics, self.hasty)
                .await?;
            let made: Vec<(Conversation, Names)> = named
                .iter()
                .map(|(_, order, names)| (order.conversation.clone(), names.clone()))
                .collect();
            let mut running = JoinSet::new();
            let mut waiting = named.into_iter();
            loop {
                while running.len() < self.at_a_time.max(1) {
                    let Some((n, order, names)) = waiting.next() else { break };
                    let sweep = self.clone();
                    running.spawn(async move {
                        let judged = sweep.with().hold(&order.conversation, names).await;
                        (n, order, judged)
                    });
                }
                let Some(ended) = running.join_next().await else { break };
                let (n, order, judged) = ended.map_err(std::io::Error::other)?;
                let row = row(&order, &judged?);
                if !row.anomalies.is_empty() {
                    first_found_ns.get_or_insert(self.clock.now_ns() - began);
                    let length = order.conversation.steps.len();
                    let entry =
                        shortest.entry(row.anomalies.clone()).or_insert_with(|| (0, order.clone()));
                    entry.0 += 1;
                    if length < entry.1.conversation.steps.len() {
                        entry.1 = order;
                    }
                }
                tell(rows.len() + 1, count, &row);
                rows.insert(n, row);
            }
            ground::clean(&mut unrecorded(&*self.cluster, &self.clock), &made).await?;
        }
        let elapsed_ns = self.clock.now_ns() - began;
        let reproducers = self.reproducers(conversation, shortest, &stamp).await?;
        Ok(Swept { rows: rows.into_values().collect(), reproducers, elapsed_ns, first_found_ns })
    }

    /// The shortest conversation of each kind of anomaly, all kinds at the same time.
    async fn reproducers(
        &self,
        conversation: &Conversation,
        shortest: BTreeMap<Vec<String>, (usize, Order)>,
        stamp: &str,
    ) -> Result<Vec<Reproducer>, ConversationError> {
        let mut reducing: JoinSet<Result<_, ConversationError>> = JoinSet::new();
        let mut all = BTreeMap::new();
        for (number, (anomalies, (orders, order))) in shortest.into_iter().enumerate() {
            // Orders that hurt brokers are held one at a time.
            while reducing.len() >= self.at_a_time.max(1)
                && let Some(reduced) = reducing.join_next().await
            {
                let (number, reproducer) = reduced.map_err(std::io::Error::other)??;
                all.insert(number, reproducer);
            }
            let (sweep, stamp) = (self.clone(), stamp.to_owned());
            let name = format!("{}-{}-{}", conversation.name, self.style.name(), number + 1);
            reducing.spawn(async move {
                let found = sweep.reduce(order.conversation, &anomalies, (&stamp, number)).await?;
                let reproducer = found.map(|(mut conversation, repeated, judged)| {
                    conversation.name = name;
                    conversation.expected = BTreeMap::from([(sweep.column, anomalies.clone())]);
                    Reproducer { anomalies, conversation, repeated, orders, judged }
                });
                Ok((number, reproducer))
            });
        }
        while let Some(reduced) = reducing.join_next().await {
            let (number, reproducer) = reduced.map_err(std::io::Error::other)??;
            all.insert(number, reproducer);
        }
        Ok(all.into_values().flatten().collect())
    }

    /// Holds conversations on names of their own, several at a time; answers in their order.
    async fn hold_all(
        &self,
        all: Vec<Conversation>,
        ending: &str,
    ) -> Result<Vec<(Conversation, Judged)>, ConversationError> {
        let named: Vec<(Conversation, Names)> = (0..)
            .zip(all)
            .map(|(n, conversation)| (conversation, Names::ending(format!("{ending}-{n}"))))
            .collect();
        let topics: Vec<(&Conversation, &Names)> = named.iter().map(|(c, n)| (c, n)).collect();
        ground::prepare(&mut unrecorded(&*self.cluster, &self.clock), &topics, false).await?;
        let made = named.clone();
        let mut ended = BTreeMap::new();
        let mut running = JoinSet::new();
        let mut waiting = named.into_iter().enumerate();
        loop {
            while running.len() < self.at_a_time.max(1) {
                let Some((n, (conversation, names))) = waiting.next() else { break };
                let sweep = self.clone();
                running.spawn(async move {
                    let judged = sweep.with().hold(&conversation, names).await;
                    (n, conversation, judged)
                });
            }
            let Some(one) = running.join_next().await else { break };
            let (n, conversation, judged) = one.map_err(std::io::Error::other)?;
            ended.insert(n, (conversation, judged?));
        }
        ground::clean(&mut unrecorded(&*self.cluster, &self.clock), &made).await?;
        Ok(ended.into_values().collect())
    }

    /// Shortens a conversation as long as it shows the same anomalies, and holds it again.
    async fn reduce(
        &self,
        mut conversation: Conversation,
        anomalies: &[String],
        (stamp, number): (&str, usize),
    ) -> Result<Option<(Conversation, (usize, usize), Judged)>, ConversationError> {
        for round in 0..ROUNDS_MAX {
            let ending = format!("{stamp}-r{number}-{round}");
            let tried = self.hold_all(shorter(&conversation), &ending).await?;
            let shows = |judged: &Judged| {
                judged.verdict.bad_types == anomalies && judged.held.broken.is_none()
            };
            let shortest = tried
                .into_iter()
                .filter(|(_, judged)| shows(judged))
                .min_by_key(|(shorter, _)| shorter.steps.len());
            let Some((shorter, _)) = shortest else { break };
            conversation = shorter;
        }
        let again = vec![conversation.clone(); REPEATED];
        let again = self.hold_all(again, &format!("{stamp}-r{number}-again")).await?;
        let shows =
            |judged: &Judged| anomalies.iter().all(|name| judged.verdict.bad_types.contains(name));
        let shown: Vec<Judged> =
            again.into_iter().map(|(_, judged)| judged).filter(|judged| shows(judged)).collect();
        let repeated = (REPEATED, shown.len());
        // One that depends on a race may not show again: what was seen once is in the rows.
        Ok(shown.into_iter().next().map(|judged| (conversation, repeated, judged)))
    }
}

fn row(order: &Order, judged: &Judged) -> Row {
    let late = judged.held.lines.iter().rev().find(|line| line.said.ends_with(", arrives"));
    Row {
        held: order.held.clone(),
        held_at: order.held_at,
        mode: order.mode.name(),
        arrives: order.arrives.clone(),
        arrives_at: order.arrives_at,
        anomalies: judged.verdict.bad_types.clone(),
        late: late.map(|line| line.came.clone()),
        broken: judged.held.broken.clone(),
        is_pair: order.is_pair,
        chart: (!judged.verdict.bad_types.is_empty()).then(|| chart::render(&judged.held.lines)),
    }
}

/// The matrix held × arrived: a table for each thing a client does, a letter for each kind of
/// anomaly.
#[must_use]
pub fn matrix(rows: &[Row]) -> String {
    use std::fmt::Write as _;
    let mut kinds: BTreeMap<Vec<String>, char> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.anomalies.is_empty()) {
        let next = char::from(b'A' + (kinds.len() % 26) as u8);
        kinds.entry(row.anomalies.clone()).or_insert(next);
    }
    let letter = |row: &Row| match (&row.broken, kinds.get(&row.anomalies)) {
        (_, Some(letter)) => *letter,
        (Some(_), None) => '?',
        (None, None) => '.',
    };
    let mut out = String::new();
    let single: Vec<&Row> = rows.iter().filter(|row| !row.is_pair).collect();
    let width = single.iter().map(|row| row.held.chars().count()).max().unwrap_or(0);
    let mut modes: Vec<&str> = single.iter().map(|row| row.mode).collect();
    modes.sort_unstable();
    modes.dedup();
    for mode in modes {
        writeln!(out, "{mode}").expect("a String takes every write");
        let mut by_held: BTreeMap<usize, Vec<&Row>> = BTreeMap::new();
        for row in single.iter().filter(|row| row.mode == mode) {
            by_held.entry(row.held_at).or_default().push(row);
        }
        for (_, mut row) in by_held {
            row.sort_by_key(|row| row.arrives_at);
            let cells: String = row.iter().map(|row| format!(" {}", letter(row))).collect();
            writeln!(out, "  {:width$} {cells}", row[0].held).expect("a String takes every write");
            // Which arrivals the letters are of.
            for row in row.iter().filter(|row| letter(row) != '.') {
                if let Some(arrives) = &row.arrives {
                    let late = row.late.as_deref().unwrap_or("");
                    writeln!(
                        out,
                        "  {:width$}    {} arrives after {arrives}: {late}",
                        "",
                        letter(row)
                    )
                    .expect("a String takes every write");
                }
            }
        }
        out.push('\n');
    }
    let pairs = rows.len() - single.len();
    if pairs > 0 {
        writeln!(out, "and {pairs} orders with two late requests").expect("a String takes it");
    }
    for (anomalies, letter) in &kinds {
        let of = |pair: bool| {
            let is = |row: &&Row| row.anomalies == *anomalies && row.is_pair == pair;
            rows.iter().filter(is).count()
        };
        let names = anomalies.join(" + ");
        writeln!(out, "{letter}  {names} ({} orders, {} of pairs)", of(false), of(true))
            .expect("a String takes every write");
    }
    out
}
