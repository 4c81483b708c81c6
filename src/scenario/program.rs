//! A program of other people while a conversation is held: started, listened to, ended.
//!
//! Both its outputs go into one file. Lines that begin with `say ` are for the chart, and are what
//! `says` of a step is held against. Exit code 77 says that it cannot run on this machine.
//!
//! Never: leaves one behind: dropped, it is killed with all it started.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::broker::process::{Child, Exit, Launch};

/// Of what it says, this much is read.
const SAID_BYTES_MAX: u64 = 1 << 20;
/// The exit code of one that cannot run here (as test programs of automake have it).
pub(super) const CANNOT_RUN: i32 = 77;
const SAY: &str = "say ";

/// A program that was started.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    log: PathBuf,
    /// Bytes of the file that were read.
    read: u64,
    said: String,
    /// Bytes of `said` that were told.
    told: usize,
}

impl Program {
    /// Starts it in a folder, where `NAME.log` is what it says.
    ///
    /// # Errors
    /// Where there is no such program.
    pub(super) async fn start(
        folder: &Path,
        name: &str,
        command: &[String],
    ) -> Result<Self, String> {
        let log = folder.join(format!("{name}.log"));
        // What an earlier run of that name said is not its own.
        drop(std::fs::remove_file(&log));
        let (program, arguments) = command.split_first().ok_or("no program is named")?;
        let launch = Launch {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            folder: folder.to_owned(),
            log: log.clone(),
        };
        let child = launch.spawn().await.map_err(|error| format!("{program}: {error}"))?;
        Ok(Self { child, log, read: 0, said: String::new(), told: 0 })
    }

    /// Its end, to be waited for.
    pub(super) fn exit(&self) -> Exit {
        self.child.exit()
    }

    /// How it ended, absent while it runs.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.child.status()
    }

    /// Everything it said so far.
    pub(super) fn said(&mut self) -> &str {
        self.listen();
        &self.said
    }

    /// The whole lines for the chart that were not told yet.
    pub(super) fn news(&mut self) -> Vec<String> {
        self.listen();
        let untold = &self.said[self.told..];
        let whole = untold.rfind('\n').map_or(0, |at| at + 1);
        let news = lines(&untold[..whole]).map(str::to_owned).collect();
        self.told += whole;
        news
    }

    /// The lines for the chart, all of them.
    pub(super) fn lines(&mut self) -> Vec<String> {
        self.listen();
        lines(&self.said).map(str::to_owned).collect()
    }

    /// Reads what was said since; a file that cannot be read says nothing.
    fn listen(&mut self) {
        let Ok(mut file) = File::open(&self.log) else { return };
        if file.seek(SeekFrom::Start(self.read)).is_err() {
            return;
        }
        let mut bytes = Vec::new();
        let more = SAID_BYTES_MAX.saturating_sub(self.read);
        if file.take(more).read_to_end(&mut bytes).is_ok() {
            // A letter that is half written is read again; what is no text is shown as such.
            let taken = match std::str::from_utf8(&bytes) {
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                _ => bytes.len(),
            };
            self.read += taken as u64;
            self.said.push_str(&String::from_utf8_lossy(&bytes[..taken]));
        }
    }
}

fn lines(said: &str) -> impl Iterator<Item = &str> {
    said.lines().filter_map(|line| line.strip_prefix(SAY)).map(str::trim_end)
}

/// Whether the lines have the expected ones among them, in their order; else the first that is
/// missing.
pub(super) fn missing<'e>(lines: &[String], expected: &'e [String]) -> Option<&'e String> {
    let mut lines = lines.iter();
    expected.iter().find(|wanted| !lines.any(|line| line == *wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn what_a_program_says_for_the_chart_is_heard_once() {
        let folder = tempfile::tempdir().unwrap();
        let script = shell("echo say one; echo noise; echo say two >&2; exit 3");
        let mut program = Program::start(folder.path(), "p", &script).await.unwrap();
        assert_eq!(program.exit().wait().await.code(), Some(3));
        assert_eq!(program.news(), ["one", "two"]);
        assert!(program.news().is_empty());
        assert_eq!(program.lines(), ["one", "two"]);
        assert!(program.said().contains("noise"));
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_hide_nothing_after_them() {
        let folder = tempfile::tempdir().unwrap();
        let script = shell(r"printf 'say \377 one\nsay two\n'; echo say three");
        let mut program = Program::start(folder.path(), "p", &script).await.unwrap();
        program.exit().wait().await;
        assert_eq!(program.lines(), ["\u{fffd} one", "two", "three"]);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let none = ["no-such-program".to_owned()];
        let error = Program::start(folder.path(), "p", &none).await.unwrap_err();
        assert!(error.starts_with("no-such-program: "), "{error}");
    }

    #[test]
    fn lines_must_come_in_their_order_and_others_may_stand_between() {
        let all = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
        let said = all(&["a", "x", "b", "b"]);
        for (expected, first_missing) in [
            (all(&["a", "b"]), None),
            (all(&["a", "b", "b"]), None),
            (all(&["b", "a"]), Some("a")),
            (all(&["a", "a"]), Some("a")),
            (all(&[]), None),
        ] {
            assert_eq!(missing(&said, &expected).map(String::as_str), first_missing);
        }
    }
}
