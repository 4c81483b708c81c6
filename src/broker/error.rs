//! What can go wrong with a system under test: who, doing what, and what it said last.

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

/// The last lines of a log file, without the frames of stack traces; `Display` begins with a
/// line break and is empty where there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogTail {
    /// The file they are from.
    pub path: PathBuf,
    /// Oldest first.
    pub lines: Vec<String>,
}

const LINES_MAX: usize = 16;
const LINE_CHARS_MAX: usize = 400;
const TAIL_BYTES_MAX: u64 = 64 * 1024;

impl LogTail {
    /// Reads the end of a log; a file that cannot be read has no lines.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = read_end(path).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().rev().filter(says_something).map(cut).collect();
        lines.truncate(LINES_MAX);
        lines.reverse();
        Self { path: path.to_owned(), lines }
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
        write!(f, "\nlast lines of {}:", self.path.display())?;
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
        std::fs::write(&path, "INFO old\n".repeat(50) + trace).expect("the log is written");
        let tail = LogTail::read(&path);
        assert_eq!(tail.lines.len(), LINES_MAX);
        assert_eq!(
            tail.lines[LINES_MAX - 3..],
            ["ERROR fatal", "java.lang.X: boom", "Caused by: Y"]
        );
        assert!(tail.to_string().starts_with("\nlast lines of "));
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
