//! Turns a Java and its flags into something to start the broker's classes with.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::broker::{BrokerError, LogTail};

/// How Java is to be called for a cluster.
#[derive(Debug, Clone)]
pub(super) struct Java {
    pub(super) program: PathBuf,
    /// Everything before the name of the main class.
    pub(super) flags: Vec<OsString>,
}

/// `name` with a path as its value.
pub(super) fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(path);
    flag
}

/// What `java -version` prints, and that there is a Java at all.
pub(super) async fn version(who: &str, program: &Path) -> Result<String, BrokerError> {
    let doing = "find Java";
    let output = tokio::process::Command::new(program).arg("-version").output().await;
    let output = output.map_err(|source| match source.kind() {
        ErrorKind::NotFound => BrokerError::Refused {
            who: who.to_owned(),
            doing,
            reason: format!("{} is not there; install Java 17 or newer", program.display()),
        },
        _ => BrokerError::Io {
            who: who.to_owned(),
            doing,
            what: program.display().to_string(),
            source,
        },
    })?;
    // It prints to standard error.
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(BrokerError::Died {
        who: who.to_owned(),
        doing,
        status: output.status.to_string(),
        log: LogTail { path: program.to_owned(), lines: text.lines().map(str::to_owned).collect() },
    })
}
