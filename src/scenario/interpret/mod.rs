//! Holds a conversation with a broker: step after step, as the file says it.
//!
//! Requests go out as the schema walker encodes them; a held one leaves but for its last byte. What
//! producers learn (producer ids, epochs, sequences) they learn from answers their client heard.
//!
//! Never: says anything a step, or the remedy of a careful client, does not say.

mod learn;
mod look;
mod meaning;
mod send;
mod strangers;
mod talk;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::scenario::chart::Line;
use crate::scenario::conversation::{Conversation, Style};
use crate::scenario::ground::Ground;
use crate::scenario::operations::Meanings;
use crate::scenario::progress::Stuck;
use crate::scenario::switchboard::Switchboard;
use talk::Talk;

/// How long a request is sent again at most.
const RETRIED_WITHIN: Duration = Duration::from_secs(15);
/// How long a wait takes at most.
const WAITED_WITHIN: Duration = Duration::from_secs(10);
/// Before something is said or asked again; requests wait longer from time to time.
const PAUSE: Duration = Duration::from_millis(3);
const PAUSE_MAX: Duration = Duration::from_millis(48);
const OFFSET_FETCH: i16 = 7;

/// What a conversation came to.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// Every line of its chart.
    pub lines: Vec<Line>,
    /// Answers that were not expected.
    pub surprises: Vec<String>,
    /// Why it could not be held to its end.
    pub broken: Option<String>,
    /// What does not go on.
    pub stuck: Vec<Stuck>,
    /// Offsets of groups that no committed transaction explains.
    pub offsets: Vec<Stuck>,
    /// What programs said.
    pub programs: BTreeMap<String, String>,
    /// How often the proxy did what no network does.
    pub forged: u64,
    /// What the keys and values of its history stand for.
    pub names: Meanings,
}

/// Holds a conversation, asks whether everything goes on, and reads everything back.
pub async fn hold(conversation: &Conversation, ground: &Ground<'_>, board: Switchboard) -> Held {
    let mut talk = Talk::new(conversation, ground, board);
    let said = talk.say_everything().await;
    talk.end_strangers().await;
    talk.heal().await;
    talk.never_awaited();
    talk.operations.close();
    let ended = match said {
        Ok(()) => talk.look_back().await.map_err(|way| way.to_string()),
        Err(why) => Err(why),
    };
    talk.held.broken = ended.err();
    talk.held.stuck.append(&mut talk.never);
    talk.held.names = talk.operations.names();
    talk.held
}

/// The style a conversation is held in, where nobody says which: the newest it has that the broker
/// serves.
#[must_use]
pub fn style_for(conversation: &Conversation, is_tv2: bool) -> Style {
    let newest = conversation.styles.contains(&Style::New) && is_tv2;
    if newest { Style::New } else { conversation.styles[0] }
}
