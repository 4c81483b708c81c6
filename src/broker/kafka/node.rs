//! One node: its configuration, its storage, its process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::java::Java;
use crate::broker::process::{Child, Launch, Signal};
use crate::broker::{BrokerError, LogTail};

/// A node that was placed.
#[derive(Debug)]
pub(super) struct KafkaNode {
    /// "Apache Kafka 4.3.0 node 1".
    pub(super) who: String,
    /// Where it runs; `server.properties` is in it.
    pub(super) folder: PathBuf,
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
    pub(super) child: Mutex<Option<Child>>,
}

/// Formatting storage is a second's work.
const FORMAT_TIMEOUT: Duration = Duration::from_secs(60);

impl KafkaNode {
    fn io_error(&self, doing: &'static str, what: String, source: std::io::Error) -> BrokerError {
        BrokerError::Io { who: self.who.clone(), doing, what, source }
    }

    fn died(&self, doing: &'static str, status: ExitStatus, log: &std::path::Path) -> BrokerError {
        let (who, status, log) = (self.who.clone(), status.to_string(), LogTail::read(log));
        BrokerError::Died { who, doing, status, log }
    }

    /// Writes its configuration and formats its storage.
    pub(super) async fn format(
        &self,
        java: &Java,
        properties: &str,
        cluster_id: &str,
        features: &[(String, String)],
    ) -> Result<(), BrokerError> {
        let doing = "format its storage";
        let file = self.folder.join("server.properties");
        std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::write(&file, properties))
            .map_err(|source| self.io_error(doing, file.display().to_string(), source))?;
        let mut arguments: Vec<OsString> =
            ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c"]
                .map(OsString::from)
                .to_vec();
        arguments.push(file.into());
        for (name, level) in features {
            arguments.push("--feature".into());
            arguments.push(format!("{name}={level}").into());
        }
        let log = self.folder.join("format.log");
        let child = self.launch(java, arguments, log.clone(), doing).await?;
        let Ok(status) = timeout(FORMAT_TIMEOUT, child.exited()).await else {
            return Err(BrokerError::TimedOut {
                who: self.who.clone(),
                doing,
                timeout_s: FORMAT_TIMEOUT.as_secs(),
                last: "it was still at it".into(),
                log: LogTail::read(&log),
            });
        };
        // 3.x exits with 0 after some errors; what counts is whether storage is there.
        if status.success() && self.data.join("meta.properties").exists() {
            return Ok(());
        }
        Err(self.died(doing, status, &log))
    }

    async fn launch(
        &self,
        java: &Java,
        arguments: Vec<OsString>,
        log: PathBuf,
        doing: &'static str,
    ) -> Result<Child, BrokerError> {
        let arguments = java.flags.iter().cloned().chain(arguments).collect();
        let launch =
            Launch { program: java.program.clone(), arguments, folder: self.folder.clone(), log };
        let program = java.program.display().to_string();
        launch.spawn().await.map_err(|source| self.io_error(doing, program, source))
    }

    /// Starts its process where none runs.
    pub(super) async fn start(&self, java: &Java) -> Result<(), BrokerError> {
        let mut child = self.child.lock().await;
        if child.as_ref().is_some_and(|child| child.status().is_none()) {
            return Ok(());
        }
        let file = self.folder.join("server.properties");
        let arguments = vec!["kafka.Kafka".into(), file.into()];
        *child = Some(self.launch(java, arguments, self.log.clone(), "start").await?);
        Ok(())
    }

    /// Waits until its process ends; for ever where it was never started.
    pub(super) async fn died_early(&self) -> BrokerError {
        let exit = self.child.lock().await.as_ref().map(Child::exit);
        match exit {
            Some(exit) => self.died("become ready", exit.wait().await, &self.log),
            None => std::future::pending().await,
        }
    }

    /// Ends its process: in good order within `stop_timeout`, else at once; at once where absent.
    pub(super) async fn end(&self, stop_timeout: Option<Duration>) -> Result<(), BrokerError> {
        let child = self.child.lock().await;
        let Some(child) = child.as_ref() else { return Ok(()) };
        let doing = if stop_timeout.is_some() { "stop" } else { "be killed" };
        let failed = |source| self.io_error(doing, format!("process {}", child.pid()), source);
        if let Some(stop_timeout) = stop_timeout {
            // A frozen process would not see the request to end.
            child.signal(Signal::Cont).map_err(failed)?;
            child.signal(Signal::Term).map_err(failed)?;
            if timeout(stop_timeout, child.exited()).await.is_ok() {
                return Ok(());
            }
        }
        child.signal(Signal::Kill).map_err(failed)?;
        child.exited().await;
        Ok(())
    }

    /// Freezes its process or lets it go on.
    pub(super) async fn tell(
        &self,
        signal: Signal,
        doing: &'static str,
    ) -> Result<(), BrokerError> {
        let child = self.child.lock().await;
        let running = child.as_ref().filter(|child| child.status().is_none());
        let Some(child) = running else {
            let (who, reason) = (self.who.clone(), "it does not run".to_owned());
            return Err(BrokerError::Refused { who, doing, reason });
        };
        let pid = child.pid();
        child.signal(signal).map_err(|error| self.io_error(doing, format!("process {pid}"), error))
    }
}
