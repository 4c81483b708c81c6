//! L3 and P1 of acknowledgements beside each other, where nobody read the log back.
//!
//! L3: of two batches of one producer epoch, as many records fit between the acknowledged offsets
//! as sequences are missing between them, and more; where they do not, the broker took a gap, or a
//! sequence twice. P1: no offset is acknowledged to two; on one connection, what is sent after an
//! answer stands behind what that answer acknowledged.
//!
//! Needs to have seen: both acknowledgements, with acks=all; and, where they name the topic by name,
//! that it was not created anew in between. It was not if Metadata says so, if the first batch is read
//! after the second was written, if the second followed at once, or if the next batch stands where it would, had the one in
//! between been told its true offset.
//!
//! Not checked: sequences of a new epoch; what was read without a hole, which `walk` looks at.

use std::cell::Cell;

use rustc_hash::FxHashMap;
use serde_json::json;

use super::invariant::Invariant::{self, L3, P1};
use super::log::{Ack, Body, Kind, Log};
use super::stage::Stage;

/// After so long a broker may have forgotten a producer, which then counts anew.
const FORGOTTEN_NS: u64 = 12 * 3_600_000_000_000;

/// Markers that may stand between two batches of one producer: of its transaction, and of the one
/// that a coordinator ended for it.
const MARKERS_BETWEEN_MAX: i64 = 2;
/// Times that a log is looked through for what shows that it is one log.
const LOOK_UPS_MAX: u32 = 256;

struct Broken {
    invariant: Invariant,
    acks: [Ack; 2],
    why: String,
}

/// Holds the acknowledgements of every log against each other.
pub(super) fn finish(stage: &mut Stage, is_whole: bool) {
    let Stage { ledger, topics, logs, .. } = stage;
    let mut found = Vec::new();
    for (id, log) in logs.all() {
        let is_certain = topics.is_certain_by_name(id);
        let is_usable = |ack: &Ack| is_certain || !ack.by_name;
        let acks: Vec<&Ack> = log.acks.iter().filter(|ack| is_usable(ack)).collect();
        // What was not captured, or is of another clock, may be what filled the room.
        let is_of_one_file = |ack: &&Ack| ack.mark.packets().all(|(file, _)| file == 0);
        let is_told_whole = is_whole && acks.iter().all(is_of_one_file);
        let looked = Cell::new(0);
        let is_one_log = |before: &Ack, ack: &Ack| {
            let answered = ack.mark.response().map_or(u64::MAX, |at| at.time_ns);
            !before.by_name && !ack.by_name
                || topics.is_confirmed(id, before.mark.request().time_ns, answered)
                || is_still_there(log, before, ack)
                || before.mark.is_just_before(&ack.mark)
                || is_told_whole
                    && looked.replace(looked.get() + 1) < LOOK_UPS_MAX
                    && has_left_room(&acks, ack)
        };
        let mut broken = Vec::new();
        let held = gaps(log, &acks, is_one_log, &mut broken);
        (0..held).for_each(|_| ledger.held(L3));
        for pair in &log.collisions {
            if pair.iter().all(is_usable) && is_one_log(&pair[0], &pair[1]) {
                collision(log, pair, &mut broken);
            } else {
                ledger.unknown(P1);
            }
        }
        backwards(&acks, is_one_log, &mut broken);
        found.extend(broken.into_iter().map(|broken| (id, broken)));
    }
    for (id, Broken { invariant, acks: [before, ack], why }) in found {
        let Body { producer_id, producer_epoch, sequence, .. } = ack.body;
        let mut fields = stage.place(id, ack.base);
        fields.extend([
            ("producer_id", json!(producer_id)),
            ("producer_epoch", json!(producer_epoch)),
            ("base_sequence", json!(sequence)),
        ]);
        let explanation = format!("In {}, {why}", stage.words(id));
        stage.ledger.broken(invariant, fields, &[before.mark, ack.mark], explanation);
    }
}

/// Whether the first of two batches was read at its offset after the second was acknowledged.
fn is_still_there(log: &Log, before: &Ack, ack: &Ack) -> bool {
    let read = log.index_of(before.base).map(|at| log.batches[at]);
    read.is_some_and(|batch| batch.body.is_same(&before.body) && ack.mark.is_before(&batch.mark))
}

/// Whether the next batch stands just where it would if this one stood behind all before it; markers
/// may stand between batches of transactions.
fn has_left_room(acks: &[&Ack], ack: &Ack) -> bool {
    let before = acks.iter().filter(|before| before.mark.is_before(&ack.mark));
    let later = acks.iter().filter(|next| ack.mark.is_before(&next.mark));
    let next = later.min_by_key(|next| next.mark.request().time_ns);
    let (Some(end), Some(next)) = (before.map(|before| before.end()).max(), next) else {
        return false;
    };
    let behind = end + i64::from(ack.body.count);
    let markers = if ack.body.kind == Kind::Transactional { MARKERS_BETWEEN_MAX } else { 0 };
    (behind..=behind + markers).contains(&next.base)
}

/// Two batches with offsets that both were told.
fn collision(log: &Log, [other, ack]: &[Ack; 2], broken: &mut Vec<Broken>) {
    if other.base < log.log_start {
        return;
    }
    let said = |ack: &Ack| {
        let Body { producer_id, producer_epoch, sequence, count, .. } = ack.body;
        format!(
            "producer {producer_id} epoch {producer_epoch} sequence {sequence} with {count} records"
        )
    };
    let why = if other.base == ack.base {
        format!(
            "two different batches were acknowledged with the same offset {}: {}, and {}. At most \
             one of them is there.",
            ack.base,
            said(other),
            said(ack)
        )
    } else {
        format!(
            "two batches were acknowledged with offsets that they share: {} at {}, and {} at {}. At \
             most one of them is there.",
            said(other),
            other.base,
            said(ack),
            ack.base
        )
    };
    broken.push(Broken { invariant: P1, acks: [*other, *ack], why });
}

/// Sequences that are missing and have no room. Returns how often there was none missing.
fn gaps(
    log: &Log,
    acks: &[&Ack],
    is_one_log: impl Fn(&Ack, &Ack) -> bool,
    broken: &mut Vec<Broken>,
) -> u64 {
    let mut last: FxHashMap<i64, &Ack> = FxHashMap::default();
    let mut held = 0;
    for &ack in acks.iter().filter(|ack| ack.body.producer_id >= 0 && ack.body.sequence >= 0) {
        let Body { producer_id, producer_epoch, sequence, .. } = ack.body;
        let Some(before) = last.insert(producer_id, ack) else { continue };
        let is_one_epoch = before.body.producer_epoch == producer_epoch;
        if !is_one_epoch
            || before.base < log.log_start
            || before.mark.ns_apart(&ack.mark) > FORGOTTEN_NS
            // What was sent later and stands before has a wrong offset, which is no matter of sequences.
            || ack.mark.is_before(&before.mark)
            || log.is_covered(before.base, ack.end() - 1)
        {
            continue;
        }
        let follows = i64::from(before.body.sequence) + i64::from(before.body.count);
        let missing = (i64::from(sequence) - follows) & 0x7fff_ffff;
        let room = ack.base - before.end();
        if missing <= room {
            held += 1;
            continue;
        }
        // That the offsets of two topics meet like that is no accident to reckon with.
        if room > 0 && !is_one_log(before, ack) {
            continue;
        }
        let why = format!(
            "producer {producer_id} epoch {producer_epoch} was acknowledged sequence {sequence} at \
             offset {}, where {} follows: its batch before, of {} records from sequence {} on, was \
             acknowledged at offset {}, and {}. A broker answers OUT_OF_ORDER_SEQUENCE_NUMBER.",
            ack.base,
            follows & 0x7fff_ffff,
            before.body.count,
            before.body.sequence,
            before.base,
            match room {
                0 => "nothing is between the two".to_owned(),
                room => format!("only {room} records are between the two"),
            }
        );
        broken.push(Broken { invariant: L3, acks: [*before, *ack], why });
    }
    held
}

/// Offsets that went back on a connection.
fn backwards(acks: &[&Ack], is_one_log: impl Fn(&Ack, &Ack) -> bool, broken: &mut Vec<Broken>) {
    let mut acks = acks.to_vec();
    acks.sort_by_key(|ack| (ack.mark.connection(), ack.mark.request().order(), ack.base));
    for pair in acks.windows(2) {
        let [before, ack] = [pair[0], pair[1]];
        let is_one_connection = before.mark.connection() == ack.mark.connection();
        let went_back = ack.base < before.base && before.mark.is_before(&ack.mark);
        if !is_one_connection || !went_back || !is_one_log(before, ack) {
            continue;
        }
        let why = format!(
            "a batch was acknowledged with offset {}, acks=all, though it was sent after another had \
             been acknowledged with offset {} on the same connection: what is written later stands \
             behind it.",
            ack.base, before.base
        );
        broken.push(Broken { invariant: P1, acks: [*before, *ack], why });
    }
}
