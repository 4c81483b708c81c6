//! Every request of a conversation, held and let go after each later step, and with its answer
//! lost: the orders of a sweep, as conversations.
//!
//! What the client does meanwhile is legal: it sends the request again elsewhere and hears the
//! answer, or it gives up as `phrases.toml` says a careful client does, and goes on with its next
//! transaction.
//!
//! With pairs, a second request of each order is treated the same, so that two are late at once.

use std::collections::BTreeSet;

use super::conversation::{Conversation, Reaction, Step, Style};
use super::phrase::{self, Remedy, remedy_steps};

/// What the client does that does not hear the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The request is held; the client sends it again elsewhere and hears the answer.
    Retried,
    /// The request is held; the client gives up.
    GaveUp,
    /// The answer gets lost; the client sends the request again.
    LostRetried,
    /// The answer gets lost; the client gives up.
    LostGaveUp,
}

impl Mode {
    /// All, in the order of tables.
    pub const ALL: [Self; 4] = [Self::Retried, Self::GaveUp, Self::LostRetried, Self::LostGaveUp];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Retried => "held, client retried elsewhere",
            Self::GaveUp => "held, client gave up",
            Self::LostRetried => "answer lost, client retried",
            Self::LostGaveUp => "answer lost, client gave up",
        }
    }

    fn holds(self) -> bool {
        matches!(self, Self::Retried | Self::GaveUp)
    }

    fn gives_up(self) -> bool {
        matches!(self, Self::GaveUp | Self::LostGaveUp)
    }
}

/// One order of a conversation's requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The request it is about, in words.
    pub held: String,
    /// Its place among the conversation's steps.
    pub held_at: usize,
    /// What the client does.
    pub mode: Mode,
    /// After which step the request arrives, in words; absent where it was never held.
    pub arrives: Option<String>,
    /// The place of that step in the order's own conversation.
    pub arrives_at: Option<usize>,
    /// The order as a conversation.
    pub conversation: Conversation,
    /// Whether it is about two requests.
    pub is_pair: bool,
}

/// What the steps about one late request are called.
#[derive(Debug, Clone, Copy)]
struct Called {
    late: &'static str,
    slow: &'static str,
    again: &'static str,
}

const FIRST: Called = Called { late: "late", slow: "slow", again: "again" };
const SECOND: Called = Called { late: "later", slow: "slower", again: "once-more" };

/// All orders of a conversation in a style; with pairs, also those with two requests late.
#[must_use]
pub fn orders(conversation: &Conversation, style: Style, pairs: bool) -> Vec<Order> {
    let plain = plain(conversation, style);
    let mut all = with_one(&plain, style, 0, FIRST);
    if !pairs {
        return all;
    }
    let first = all.clone();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for one in first {
        // What was said before the first late request is another pair's.
        let from = one.held_at + 1;
        let two = with_one(&one.conversation, style, from, SECOND).into_iter();
        // Two ways may lead to one order.
        let two = two.filter(|two| known.insert(format!("{:?}", two.conversation.steps)));
        let pairs: Vec<Order> = two
            .map(|two| Order {
                held: format!("{} and {}", one.held, two.held),
                arrives: match (&one.arrives, &two.arrives) {
                    (Some(one), Some(two)) => Some(format!("{one}, and after {two}")),
                    (one, two) => one.clone().or_else(|| two.clone()),
                },
                held_at: one.held_at,
                is_pair: true,
                conversation: Conversation {
                    title: format!("{}; {}", one.conversation.title, two.conversation.title),
                    source: one.conversation.source.clone(),
                    ..two.conversation
                },
                ..two
            })
            .collect();
        all.extend(pairs);
    }
    all
}

/// All orders in which one request is late that stands at or behind a place.
fn with_one(plain: &Conversation, style: Style, from: usize, called: Called) -> Vec<Order> {
    let mut all = Vec::new();
    for at in from..plain.steps.len() {
        let step = &plain.steps[at];
        if step.send.is_none() || step.by.is_none() || step.hold || step.lose {
            continue;
        }
        for mode in Mode::ALL {
            let (steps, after) = without_answer(plain, style, (at, mode), called);
            if !mode.holds() {
                all.push(order(plain, (at, mode), steps, None));
                continue;
            }
            // It may arrive after whatever is said from then on.
            for arrives_at in after..steps.len() {
                let last = &steps[arrives_at];
                if last.send.is_none() && last.again.is_none() {
                    continue;
                }
                let mut steps = steps.clone();
                let release = Step { release: Some(called.late.into()), ..Step::default() };
                steps.insert(arrives_at + 1, release);
                all.push(order(plain, (at, mode), steps, Some(arrives_at)));
            }
        }
    }
    all
}

/// The conversation in one style, its clients careful.
fn plain(conversation: &Conversation, style: Style) -> Conversation {
    let said = conversation.steps.iter().filter(|step| step.is_in(style));
    let steps = said.map(|step| Step { style: None, expect: None, ..step.clone() }).collect();
    Conversation {
        steps,
        styles: vec![style],
        client: Reaction::Careful,
        expected: Default::default(),
        ..conversation.clone()
    }
}

/// The steps where the client does not hear the answer to one, and the first after which the
/// request may arrive.
fn without_answer(
    plain: &Conversation,
    style: Style,
    (at, mode): (usize, Mode),
    called: Called,
) -> (Vec<Step>, usize) {
    let step = &plain.steps[at];
    let mut steps: Vec<Step> = plain.steps[..at].to_vec();
    steps.push(Step {
        name: Some(called.late.into()),
        hold: mode.holds(),
        lose: !mode.holds(),
        on: if mode.holds() { Some(called.slow.into()) } else { step.on.clone() },
        ..step.clone()
    });
    let after = steps.len();
    let rest = &plain.steps[at + 1..];
    if !mode.gives_up() {
        steps.push(Step {
            again: Some(called.late.into()),
            on: Some(called.again.into()),
            transaction: step.transaction.clone(),
            ..Step::default()
        });
        steps.extend(rest.iter().cloned());
        return (steps, after);
    }
    let gave_up = step.send.as_deref().and_then(phrase::phrase).and_then(|phrase| phrase.gave_up);
    // Who has no transaction to abort begins anew.
    let remedy = gave_up.map(|remedy| match step.transaction {
        Some(_) => remedy,
        None => Remedy::Restart,
    });
    let by = step.by.as_deref();
    let transaction = step.transaction.as_deref();
    if let Some(remedy) = remedy {
        steps.extend(remedy_steps(remedy, style, by, transaction));
    }
    let is_left_out =
        |other: &&Step| step.transaction.is_some() && other.transaction == step.transaction;
    steps.extend(rest.iter().filter(|other| !is_left_out(other)).cloned());
    (steps, after)
}

fn order(
    plain: &Conversation,
    (held_at, mode): (usize, Mode),
    steps: Vec<Step>,
    arrives_at: Option<usize>,
) -> Order {
    let held = words(&plain.steps[held_at]);
    let arrives = arrives_at.map(|at| words(&steps[at]));
    let what = match &arrives {
        Some(arrives) => format!("{held}: {}, arrives after {arrives}", mode.name()),
        None => format!("{held}: {}", mode.name()),
    };
    let conversation = Conversation {
        title: what,
        source: format!("an order of {}", plain.name),
        steps,
        ..plain.clone()
    };
    Order { held, held_at, mode, arrives, arrives_at, conversation, is_pair: false }
}

/// A step in a few words.
#[must_use]
pub fn words(step: &Step) -> String {
    if step.again.is_some() {
        let of = step.transaction.as_ref().map(|t| format!(" ({t})")).unwrap_or_default();
        return format!("its retry{of}");
    }
    let mut words = step.send.clone().unwrap_or_default();
    let mut add = |text: &str| {
        words.push(' ');
        words.push_str(text);
    };
    match step.committed {
        Some(true) => add("commit"),
        Some(false) => add("abort"),
        None => {}
    }
    if let Some(group) = &step.group {
        add(group);
    }
    if let Some(partition) = &step.partition {
        add(partition);
    }
    if let Some(transaction) = &step.transaction {
        add(&format!("({transaction})"));
    }
    if let Some(by) = &step.by
        && by != "p"
    {
        add(&format!("by {by}"));
    }
    words
}

/// Shorter conversations whose clients are as legal: without a transaction, or without what a
/// transaction writes to one partition or group.
#[must_use]
pub fn shorter(conversation: &Conversation) -> Vec<Conversation> {
    let mut all = Vec::new();
    let is_kept = |step: &Step| step.hold || step.lose;
    let labels: BTreeSet<&String> =
        conversation.steps.iter().filter_map(|step| step.transaction.as_ref()).collect();
    let mut add = |steps: Vec<Step>| {
        if steps.len() < conversation.steps.len() {
            let shorter = Conversation { steps, ..conversation.clone() };
            // What a file may say is what a reader must be able to take.
            if Conversation::parse("shorter", &shorter.to_toml()).is_ok() {
                all.push(shorter);
            }
        }
    };
    for label in labels {
        let of = |step: &&Step| step.transaction.as_ref() == Some(label);
        if !conversation.steps.iter().filter(of).any(is_kept) {
            add(conversation.steps.iter().filter(|step| !of(step)).cloned().collect());
        }
        let writes: BTreeSet<(Option<&String>, Option<&String>)> = conversation
            .steps
            .iter()
            .filter(of)
            .filter(|step| matches!(step.send.as_deref(), Some("Produce" | "TxnOffsetCommit")))
            .map(|step| {
                (step.partition.as_ref().filter(|_| step.group.is_none()), step.group.as_ref())
            })
            .collect();
        if writes.len() < 2 {
            continue;
        }
        for (partition, group) in writes {
            let is_it = |step: &Step| match group {
                Some(_) => step.group.as_ref() == group,
                None => step.group.is_none() && step.partition.as_ref() == partition,
            };
            let part = |step: &&Step| of(step) && step.send.is_some() && is_it(step);
            if !conversation.steps.iter().filter(part).any(is_kept) {
                add(conversation.steps.iter().filter(|step| !part(step)).cloned().collect());
            }
        }
    }
    for (at, step) in conversation.steps.iter().enumerate() {
        let is_second = step.send.as_deref() == Some("Produce") && !is_kept(step);
        let is_same = |other: &&Step| {
            other.send == step.send
                && other.transaction == step.transaction
                && other.partition == step.partition
        };
        let is_one_of_several = conversation.steps.iter().filter(is_same).count() > 1;
        let is_idle = step.wait.is_some() && !conversation.hurts_brokers();
        if is_idle || (is_second && is_one_of_several) {
            let mut steps = conversation.steps.clone();
            steps.remove(at);
            add(steps);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::library;

    fn one_partition() -> Conversation {
        library::find("one-partition").unwrap().unwrap()
    }

    #[test]
    fn every_order_is_a_conversation_that_can_be_written_and_read() {
        for conversation in library::sweeps().unwrap() {
            for &style in &conversation.styles {
                let orders = orders(&conversation, style, false);
                assert!(orders.len() > 20, "{}", conversation.name);
                for order in orders {
                    let text = order.conversation.to_toml();
                    let read = Conversation::parse("order", &text);
                    assert_eq!(read.unwrap_or_else(|e| panic!("{e}\n{text}")), order.conversation);
                }
            }
        }
    }

    #[test]
    fn a_held_request_arrives_after_each_later_step() {
        let orders = orders(&one_partition(), Style::Old, false);
        let of = |held: &str, mode| -> Vec<String> {
            let all = orders.iter().filter(|o| o.held == held && o.mode == mode);
            all.filter_map(|order| order.arrives.clone()).collect()
        };
        let end = "EndTxn commit (T1)";
        let expected = [
            "its retry (T1)",
            "AddPartitionsToTxn t-0 (T2)",
            "Produce t-0 (T2)",
            "EndTxn commit (T2)",
        ];
        assert_eq!(of(end, Mode::Retried), expected);
        let produce = "Produce t-0 (T1)";
        assert_eq!(of(produce, Mode::GaveUp)[..2], ["EndTxn abort (T1)", "InitProducerId"]);
        assert!(of(produce, Mode::LostRetried).is_empty());
    }

    #[test]
    fn pairs_are_conversations_too_and_each_pair_comes_once() {
        let all = orders(&one_partition(), Style::New, true);
        let pairs: Vec<&Order> = all.iter().filter(|order| order.is_pair).collect();
        assert!(pairs.len() > 500, "{}", pairs.len());
        let mut texts: Vec<String> =
            pairs.iter().map(|pair| format!("{:?}", pair.conversation.steps)).collect();
        for pair in pairs.iter().step_by(50) {
            Conversation::parse("pair", &pair.conversation.to_toml()).unwrap();
        }
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), pairs.len());
    }

    #[test]
    fn what_is_held_stays_in_every_shorter_conversation() {
        let orders = orders(&one_partition(), Style::Old, false);
        let order = orders.iter().find(|o| o.held == "EndTxn commit (T1)").unwrap();
        let all = shorter(&order.conversation);
        assert!(all.iter().all(|c| c.steps.iter().any(|step| step.hold)));
        assert_eq!(all.len(), 1, "all of T2 can go, nothing else");
    }
}
