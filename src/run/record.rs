//! The run folder `store/NAME/TIME/`, written as things happen.
//!
//! `plan.toml` is there before anything starts; `history.jsonl` and `wire.pcapng` grow with the
//! run; `results.json`, `history.edn` and the links named `latest` are written at its end. A run
//! that was killed leaves everything but the last three.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::clock;
use super::listen::numbered;
use super::plan::Plan;
use crate::capture::PcapngTap;
use crate::history::Recorder;
use crate::history::tap::{NoTap, Tap};
use crate::world::Clock;

/// A run's files.
pub struct RunRecord {
    folder: PathBuf,
    recorder: Arc<Recorder>,
    tap: Arc<dyn Tap>,
    capture: Option<Arc<PcapngTap>>,
}

/// A file of the run folder that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct RecordError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RecordError + '_ {
    |source| RecordError { path: path.to_owned(), source }
}

impl RunRecord {
    /// Makes the folder and opens what is written as things happen.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn begin(plan: &Plan, clock: &Clock) -> Result<Self, RecordError> {
        let parent = plan.store.join(plan.name());
        let folder = fresh_folder(&parent, clock.unix_ns())?;
        let plan_file = folder.join("plan.toml");
        fs::write(&plan_file, plan.to_toml()).map_err(at(&plan_file))?;
        let history = folder.join("history.jsonl");
        let sink = File::create(&history).map_err(at(&history))?;
        let recorder = Arc::new(Recorder::new(clock.clone(), Box::new(sink)));
        let capture = match plan.capture.mode.as_str() {
            "off" => None,
            _ => {
                let wire = folder.join("wire.pcapng");
                let tap = PcapngTap::new(numbered(wire.clone(), None), plan.capture.bytes_max);
                Some(Arc::new(tap.map_err(at(&wire))?))
            }
        };
        let tap: Arc<dyn Tap> = match &capture {
            Some(capture) => capture.clone(),
            None => Arc::new(NoTap),
        };
        Ok(Self { folder, recorder, tap, capture })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Who takes operations.
    #[must_use]
    pub fn recorder(&self) -> Arc<Recorder> {
        self.recorder.clone()
    }

    /// Who takes bytes.
    #[must_use]
    pub fn tap(&self) -> Arc<dyn Tap> {
        self.tap.clone()
    }

    /// Where operations stand.
    #[must_use]
    pub fn history_file(&self) -> PathBuf {
        self.folder.join("history.jsonl")
    }

    /// Flushes what is written as things happen; the history can be read back from then on.
    ///
    /// # Errors
    /// The first failure to write there was, also one in the middle of the run (a full disk).
    pub fn settle(&self) -> Result<(), RecordError> {
        let history = self.history_file();
        self.recorder.finish().map_err(at(&history))?;
        if let Some(capture) = &self.capture {
            capture.finish().map_err(at(&self.folder.join("wire.pcapng")))?;
        }
        Ok(())
    }

    /// Writes a file of the folder whole; one in a folder of its own where the name says so.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<(), RecordError> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        fs::write(&path, contents).map_err(at(&path))
    }

    /// Writes a file of the folder through a writer.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_with(
        &self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), RecordError> {
        let path = self.folder.join(name);
        let file = File::create(&path).map_err(at(&path))?;
        let mut out = io::BufWriter::new(file);
        fill(&mut out).and_then(|()| out.flush()).map_err(at(&path))
    }

    /// Points `store/latest` and `store/NAME/latest` here. A file system without symbolic links
    /// is no reason to fail a run.
    pub fn link_latest(&self) {
        let Some(parent) = self.folder.parent() else { return };
        let Some(time) = self.folder.file_name() else { return };
        relink(&parent.join("latest"), Path::new(time));
        if let (Some(store), Some(name)) = (parent.parent(), parent.file_name()) {
            relink(&store.join("latest"), &Path::new(name).join(time));
        }
    }
}

fn relink(link: &Path, target: &Path) {
    let beside = link.with_extension("new");
    // A leftover of a killed run must not stop this one.
    drop(fs::remove_file(&beside));
    if std::os::unix::fs::symlink(target, &beside).is_ok() {
        drop(fs::rename(&beside, link));
    }
}

/// Makes a folder named by the time that no other run has, a millisecond later where one has.
fn fresh_folder(parent: &Path, mut unix_ns: u64) -> Result<PathBuf, RecordError> {
    fs::create_dir_all(parent).map_err(at(parent))?;
    loop {
        let folder = parent.join(clock::stamp(unix_ns));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => unix_ns += 1_000_000,
            Err(error) => return Err(at(&folder)(error)),
        }
    }
}
