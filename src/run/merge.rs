//! Several operation histories of one run (its processes, its parts) as one, by time.
//!
//! Indices stay where no two files share one, else events are numbered anew by their times.
//! Processes of different files are different ones: where files share numbers, those of the later
//! files are moved up.
//!
//! Not checked: that the files' clocks have one zero.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::num::NonZeroUsize;

use crate::history::read::{Format, ReadError, Recorded, read_history};
use crate::history::write::write_history;

/// Why histories are not parts of one.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeError {
    /// The same events in two files.
    #[error("files {0} and {1} of those named hold the same events: name one of them")]
    Same(usize, usize),
    /// Memory or the reader refused.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Text could not be written to memory.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// One event, as a line of our own notation.
struct Event<'t> {
    file: usize,
    index: u64,
    time: &'t str,
    time_ns: i128,
    event_type: &'t str,
    process: Option<i64>,
    /// From the process on where that is a name, else from behind it.
    rest: &'t str,
}

/// Merges what was read of two or more files.
pub(super) fn merge(parts: &[Recorded], threads: NonZeroUsize) -> Result<Recorded, MergeError> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        let mut text = Vec::new();
        write_history(&part.history, Format::Jsonl, &mut text)?;
        let text = String::from_utf8(text).expect("what is written of texts is a text");
        if let Some(same) = texts.iter().position(|other| *other == text && !text.is_empty()) {
            return Err(MergeError::Same(same + 1, texts.len() + 1));
        }
        texts.push(text);
    }
    let mut events: Vec<Event<'_>> = Vec::new();
    for (file, text) in texts.iter().enumerate() {
        events.extend(text.lines().filter_map(|line| event(file, line)));
    }
    let mut indices: Vec<u64> = events.iter().map(|event| event.index).collect();
    indices.sort_unstable();
    let is_numbered = indices.windows(2).all(|pair| pair[0] != pair[1]);
    match is_numbered {
        true => events.sort_by_key(|event| event.index),
        // Of one file, the order is that of its indices.
        false => events.sort_by_key(|event| event.time_ns),
    }
    let raised = raised(&events, parts.len());
    let mut merged = String::with_capacity(texts.iter().map(String::len).sum());
    for (number, event) in events.iter().enumerate() {
        let index = if is_numbered { event.index } else { number as u64 };
        let Event { time, event_type, rest, .. } = event;
        let _ = write!(
            merged,
            "{{\"index\":{index},\"time\":{time},\"type\":{event_type},\"process\":"
        );
        if let Some(process) = event.process {
            let raised = if process < 0 { 0 } else { raised[event.file] };
            let _ = write!(merged, "{}", process.saturating_add(raised));
        }
        merged.push_str(rest);
        merged.push('\n');
    }
    Ok(read_history(merged.as_bytes(), Format::Jsonl, threads)?)
}

/// How far each file's processes are moved up.
fn raised(events: &[Event<'_>], files: usize) -> Vec<i64> {
    let mut of_files = vec![BTreeSet::new(); files];
    for event in events {
        of_files[event.file].extend(event.process.filter(|process| *process >= 0));
    }
    let distinct: BTreeSet<i64> = of_files.iter().flatten().copied().collect();
    if distinct.len() == of_files.iter().map(BTreeSet::len).sum::<usize>() {
        return vec![0; files];
    }
    let stride = distinct.last().map_or(0, |last| last.saturating_add(1));
    (0..files as i64).map(|file| file.saturating_mul(stride)).collect()
}

/// Takes a line that [`write_history`] wrote apart.
fn event(file: usize, line: &str) -> Option<Event<'_>> {
    let rest = line.strip_prefix("{\"index\":")?;
    let (index, rest) = rest.split_once(",\"time\":")?;
    let (time, rest) = rest.split_once(",\"type\":")?;
    let (event_type, rest) = rest.split_once(",\"process\":")?;
    let digits = rest.find(|c: char| c != '-' && !c.is_ascii_digit())?;
    let (number, behind) = rest.split_at(digits);
    let process = number.parse().ok();
    Some(Event {
        file,
        index: index.parse().ok()?,
        time,
        time_ns: time.parse().ok()?,
        event_type,
        process,
        rest: if process.is_some() { behind } else { rest },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Recorded {
        read_history(text.as_bytes(), Format::Jsonl, NonZeroUsize::MIN).expect("a history")
    }

    fn written(recorded: &Recorded) -> String {
        let mut out = Vec::new();
        write_history(&recorded.history, Format::Jsonl, &mut out).expect("memory takes it");
        String::from_utf8(out).expect("a text")
    }

    fn send(index: u64, time: u64, process: i64, value: i64) -> String {
        let line = |index, time, event_type: &str, value: String| {
            format!(
                "{{\"index\":{index},\"time\":{time},\"type\":\"{event_type}\",\"process\":{process},\
                 \"f\":\"send\",\"value\":[[\"send\",1,{value}]]}}\n"
            )
        };
        line(index, time, "invoke", value.to_string())
            + &line(index + 1, time + 1, "ok", format!("[{index},{value}]"))
    }

    #[test]
    fn processes_of_one_run_keep_their_numbers() {
        let (first, second) = (send(0, 10, 0, 7), send(2, 20, 1, 8));
        let merged = merge(&[read(&second), read(&first)], NonZeroUsize::MIN).expect("one history");
        assert_eq!(written(&merged), first + &second);
        assert_eq!(merged.observations.iter().count(), 0);
    }

    #[test]
    fn what_two_files_number_alike_is_kept_apart_and_ordered_by_time() {
        let parts = [read(&send(0, 10, 0, 7)), read(&send(0, 5, 0, 8))];
        let merged = merge(&parts, NonZeroUsize::MIN).expect("one history");
        let text = written(&merged);
        let processes: Vec<&str> =
            text.split("\"process\":").skip(1).filter_map(|rest| rest.split(',').next()).collect();
        assert_eq!(processes, ["1", "1", "0", "0"], "{text}");
        assert_eq!(merged.history.len(), 2);
    }

    #[test]
    fn one_file_named_twice_is_refused() {
        let part = || read(&send(0, 10, 0, 7));
        let error = merge(&[part(), part()], NonZeroUsize::MIN).expect_err("the same twice");
        assert!(error.to_string().contains("files 1 and 2"), "{error}");
    }
}
