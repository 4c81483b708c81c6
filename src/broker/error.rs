//! What can go wrong with a system under test: who, doing what, and what it said last.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Our side of the world broke: a broker that does not start, a tool that is missing, a disk.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The child ended while something was expected of it.
    #[error("{who} could not {doing}: its process ended ({status}){log}")]
    Died {
        /// The broker or the tool.
        who: String,
        /// What it was doing.
        doing: &'static str,
        /// How the process ended.
        status: String,
        /// Its last log lines.
        log: LogTail,
    },
    /// It took longer than it may.
    #[error("{who} could not {doing} within {timeout_s} s; at last: {last}{log}")]
    TimedOut {
        /// The broker or the tool.
        who: String,
        /// What it was doing.
        doing: &'static str,
        /// How long it had.
        timeout_s: u64,
        /// The last answer, or why there was none.
        last: String,
        /// Its last log lines.
        log: LogTail,
    },
    /// What was asked for makes no sense, or not of this broker.
    #[error("{who} could not {doing}: {reason}")]
    Refused {
        /// The broker or the tool.
        who: String,
        /// What it was doing.
        doing: &'static str,
        /// Why not.
        reason: String,
    },
    /// A file, a socket or a process of ours.
    #[error("{who} could not {doing} ({what})")]
    Io {
        /// The broker or the tool.
        who: String,
        /// What it was doing.
        doing: &'static str,
        /// The file, address or program.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What a log says of the end: what it calls an error, and its last lines; without the frames of
/// stack traces. `Display` begins with a line break and is empty where there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogTail {
    /// The file they are from.
    pub path: PathBuf,
    /// Oldest first.
    pub lines: Vec<String>,
}

/// A broker that dies says why, then goes on about everything it shuts down: the first errors tell
/// the cause (the latest, where it had erred and gone on), the last lines how far it came.
const ERRORS_MAX: usize = 12;
const LAST_MAX: usize = 6;
const LINE_CHARS_MAX: usize = 400;
const TAIL_BYTES_MAX: u64 = 256 * 1024;

impl LogTail {
    /// Reads the end of a log; a file that cannot be read has no lines.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = read_end(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(says_something).collect();
        let errors = errors_among(&lines);
        let later = errors.len().saturating_sub(ERRORS_MAX / 2).max(ERRORS_MAX / 2);
        let first = errors.iter().take(ERRORS_MAX / 2);
        let last = lines.len().saturating_sub(LAST_MAX)..lines.len();
        let kept: BTreeSet<usize> =
            first.chain(errors.iter().skip(later)).copied().chain(last).collect();
        let kept = kept.into_iter().map(|at| cut(lines[at])).collect();
        Self { path: path.to_owned(), lines: kept }
    }
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Frames of a Java stack trace push the lines that tell the cause out of sight.
fn says_something(line: &&str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("at ") && !line.starts_with("... ")
}

fn errors_among(lines: &[&str]) -> Vec<usize> {
    let mut in_error = false;
    let is_error = |(at, line): (usize, &&str)| {
        // What a logger prints after its own line (an exception, its causes) has no time.
        let continues = !line.starts_with(|first: char| first.is_ascii_digit() || first == '[');
        in_error = tells_of_an_error(line) || (in_error && continues);
        in_error.then_some(at)
    };
    lines.iter().enumerate().filter_map(is_error).collect()
}

fn tells_of_an_error(line: &str) -> bool {
    line.starts_with("Caused by:")
        || line.starts_with("Exception in thread")
        || line.split_ascii_whitespace().any(|word| matches!(word, "ERROR" | "FATAL"))
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lines.is_empty() {
            return Ok(());
        }
        write!(f, "\nerrors and last lines of {}:", self.path.display())?;
        self.lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_keeps_the_causes_and_drops_the_frames() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("node-1.log");
        let trace =
            "ERROR fatal\njava.lang.X: boom\n\tat a.B.c(B.java:1)\nCaused by: Y\n\t... 3 more\n";
        std::fs::write(&path, "[INFO] old\n".repeat(50) + trace).expect("the log is written");
        let tail = LogTail::read(&path);
        assert_eq!(tail.lines.len(), LAST_MAX);
        assert_eq!(
            tail.lines[LAST_MAX - 3..],
            ["ERROR fatal", "java.lang.X: boom", "Caused by: Y"]
        );
        assert!(tail.to_string().starts_with("\nerrors and last lines of "));
    }

    #[test]
    fn a_cause_is_told_however_much_is_said_after_it_and_however_often() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("node-1.log");
        let cause =
            "[main] ERROR Fatal error during startup\nX: no.such.Reporter\n\tat a.B(B.java:1)\n";
        let farewell = "[main] INFO stopping\n".repeat(900);
        let echo = "[main] ERROR and again\n".repeat(100);
        std::fs::write(
            &path,
            cause.to_owned() + &farewell + &echo + &"[main] INFO stopped\n".repeat(9),
        )
        .expect("the log is written");
        let lines = LogTail::read(&path).lines;
        assert_eq!(lines[..2], ["[main] ERROR Fatal error during startup", "X: no.such.Reporter"]);
        assert_eq!(lines.last().map(String::as_str), Some("[main] INFO stopped"));
        assert_eq!(lines.len(), ERRORS_MAX + LAST_MAX);
    }

    #[test]
    fn a_missing_log_has_no_lines() {
        assert_eq!(LogTail::read(Path::new("/nowhere/at/all")).to_string(), "");
    }

    #[test]
    fn endless_lines_and_bytes_that_are_not_text_are_cut() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.log");
        std::fs::write(&path, vec![0xff; 200_000]).expect("the log is written");
        let tail = LogTail::read(&path);
        assert_eq!(tail.lines.len(), 1);
        assert_eq!(tail.lines[0].chars().count(), LINE_CHARS_MAX + 1);
    }
}
