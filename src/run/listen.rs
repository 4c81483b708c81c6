//! Packets of an interface into capture files, until told to end.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::clock;
use crate::capture::live::{LIVE_LINK_TYPE, packet_socket};
use crate::capture::recorder::OpenFile;
use crate::capture::{CaptureFiles, LiveCapture, LiveCounts, LiveError, LiveOptions, Recorded};

/// Longest time that what passed is not written yet.
const WAIT_MS: u32 = 100;

/// What is captured, and where it goes.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Of the interface.
    pub live: LiveOptions,
    /// The first file; `-` is standard output.
    pub file: PathBuf,
    /// Bytes of a file before the next begins.
    pub file_bytes_max: u64,
    /// Files that are kept; the oldest are removed.
    pub files_max: Option<u32>,
    /// How long.
    pub time_limit: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// What passed, and what of it is missing.
    pub counts: LiveCounts,
    /// What was written.
    pub recorded: Recorded,
}

/// Why nothing could be heard, or no more.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The interface.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// A file, or the interface while packets came.
    #[error("cannot capture into {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Captures until `told_to_end` is set or the time is over; `began` is called once nothing that
/// passes is missed any longer, `watch` several times a second.
///
/// # Errors
/// Where capturing or writing fails; what came before is in the files. That nobody reads standard
/// output any more is an end, not an error.
pub fn listen(
    asked: &Listen,
    told_to_end: &AtomicBool,
    began: impl FnOnce(),
    mut watch: impl FnMut(Heard, Duration),
) -> Result<Heard, ListenError> {
    let at = |source| ListenError::Io { path: asked.file.clone(), source };
    // First the right to listen: without it no file is made.
    let mut live = LiveCapture::new(packet_socket()?, &asked.live)?;
    let open = if asked.file == Path::new("-") {
        to_standard_output()
    } else {
        numbered(asked.file.clone(), asked.files_max)
    };
    let name = asked.live.interface.as_deref().unwrap_or("any");
    let mut files =
        CaptureFiles::new(open, asked.file_bytes_max, LIVE_LINK_TYPE, name).map_err(at)?;
    began();
    let clock = clock::real();
    let begin_ns = clock.now_ns();
    let mut heard = Heard::default();
    let done = live.record(&mut files, WAIT_MS, |counts, recorded| {
        heard = Heard { counts, recorded };
        let elapsed = Duration::from_nanos(clock.now_ns() - begin_ns);
        watch(heard, elapsed);
        !told_to_end.load(Ordering::Relaxed) && asked.time_limit.is_none_or(|limit| elapsed < limit)
    });
    match done {
        Ok(counts) => Ok(Heard { counts, recorded: files.recorded() }),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(heard),
        Err(error) => Err(at(error)),
    }
}

fn to_standard_output() -> OpenFile {
    Box::new(|_| Ok(Box::new(io::stdout())))
}

/// Opens `NAME.pcapng`, then `NAME.1.pcapng`, … as a capture rotates; so many are kept.
#[must_use]
pub fn numbered(first: PathBuf, files_max: Option<u32>) -> OpenFile {
    Box::new(move |number| {
        if let Some(old) = files_max.and_then(|max| number.checked_sub(max)) {
            // Somebody may have moved it away.
            drop(fs::remove_file(numbered_file(&first, old)));
        }
        let file: Box<dyn Write + Send> = Box::new(File::create(numbered_file(&first, number))?);
        Ok(file)
    })
}

/// The file with that number of a capture that rotates.
#[must_use]
pub fn numbered_file(first: &Path, number: u32) -> PathBuf {
    let extension = first.extension().unwrap_or_default().to_string_lossy();
    match (number, &*extension) {
        (0, _) => first.to_owned(),
        (_, "") => first.with_extension(number.to_string()),
        (_, extension) => first.with_extension(format!("{number}.{extension}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_follow_are_numbered_before_their_extension() {
        for (first, number, expected) in [
            ("a/wire.pcapng", 0, "a/wire.pcapng"),
            ("a/wire.pcapng", 1, "a/wire.1.pcapng"),
            ("wire", 12, "wire.12"),
            ("my.wire.pcap", 3, "my.wire.3.pcap"),
        ] {
            assert_eq!(numbered_file(Path::new(first), number), Path::new(expected));
        }
    }

    #[test]
    fn only_so_many_files_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut open = numbered(folder.path().join("w.pcapng"), Some(2));
        for number in 0..5 {
            open(number).expect("it opens");
        }
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        assert_eq!(names, ["w.3.pcapng", "w.4.pcapng"]);
    }
}
