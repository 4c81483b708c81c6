//! Turns a program and its arguments into a child that logs into a file and dies with the tool.
//!
//! Each child has a thread that starts it and then waits for it. That thread must live exactly as
//! long as the child: the kernel's parent-death signal fires when the *thread* that forked ends,
//! not the process. A tool killed by SIGKILL loses all its threads, so its children die too.
//!
//! Never: restarts anything; leaves a child behind, except where the system has no parent-death
//! signal (any but Linux) and the tool is killed by SIGKILL.

// `fork`, signals and `waitid` have no safe interface in the standard library. Each use says why
// it is sound.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

/// What to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program, looked up in `PATH` where it is a bare name.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Its standard output and error are appended to this file.
    pub log: PathBuf,
}

/// What a child can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End in good order.
    Term,
    /// End at once.
    Kill,
    /// Freeze.
    Stop,
    /// Go on.
    Cont,
}

/// A running or ended child. Dropped, it is killed and waited for.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    /// Whether the process id is still ours to signal: true until it is reaped.
    is_unreaped: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    thread: Option<JoinHandle<()>>,
}

/// The end of a child, which is yet to come or has been.
#[derive(Debug, Clone)]
pub struct Exit(watch::Receiver<Option<ExitStatus>>);

impl Exit {
    /// Waits for it.
    pub async fn wait(mut self) -> ExitStatus {
        match self.0.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            // The thread is gone without a word: it panicked, and the child is not known to run.
            Err(_) => ExitStatus::default(),
        }
    }
}

impl Launch {
    /// Starts the child.
    ///
    /// # Errors
    /// Where the program does not exist, or its log cannot be opened.
    pub async fn spawn(self) -> io::Result<Child> {
        let (started, start) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        let is_unreaped = Arc::new(Mutex::new(true));
        let flag = Arc::clone(&is_unreaped);
        let thread = std::thread::Builder::new().name("child".into()).spawn(move || {
            let mut child = match self.command().and_then(|mut command| command.spawn()) {
                Ok(child) => child,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            if started.send(Ok(child.id().cast_signed())).is_err() {
                // Whoever asked has gone, and nobody else would end it.
                let _ = child.kill();
            }
            wait_without_reaping(child.id());
            // From here on the process id may be given to somebody else.
            let mut is_unreaped = flag.lock().unwrap_or_else(PoisonError::into_inner);
            *is_unreaped = false;
            let status = child.wait().unwrap_or_default();
            drop(is_unreaped);
            let _ = ended.send(Some(status));
        })?;
        let pid =
            start.await.map_err(|_| io::Error::other("the thread of the child is gone"))??;
        Ok(Child { pid, is_unreaped, exit, thread: Some(thread) })
    }

    fn command(&self) -> io::Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: Ctrl-C at the terminal is for the tool, which ends its children
            // in the order it wants.
            .process_group(0);
        die_with_the_tool(&mut command);
        Ok(command)
    }
}

#[cfg(target_os = "linux")]
fn die_with_the_tool(command: &mut Command) {
    let tool = std::process::id();
    // SAFETY: between fork and exec only `prctl` and `getppid` are called, which are
    // async-signal-safe and allocate nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The tool may have died before the signal was asked for.
            if libc::getppid().cast_unsigned() != tool {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_the_tool(_: &mut Command) {}

/// Blocks until the child has ended, leaving its process id taken.
fn wait_without_reaping(pid: u32) {
    loop {
        // SAFETY: an all-zero `siginfo_t` is a valid place to write into; the call touches nothing
        // else of ours.
        let result = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOWAIT)
        };
        let interrupted =
            result != 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if !interrupted {
            return;
        }
    }
}

impl Child {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended, absent while it runs.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits for its end.
    pub async fn exited(&self) -> ExitStatus {
        self.exit().wait().await
    }

    /// Its end, to be waited for by somebody who does not hold the child.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit(self.exit.clone())
    }

    /// Sends a signal to the child and what it started itself; does nothing once it has ended.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let number = match signal {
            Signal::Term => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Cont => libc::SIGCONT,
        };
        let is_unreaped = self.is_unreaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_unreaped {
            return Ok(());
        }
        // SAFETY: plain system call; the lock keeps the process id from being reaped and reused.
        if unsafe { libc::kill(-self.pid, number) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.signal(Signal::Kill).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::sync::mpsc;
    use std::time::Duration;

    fn launch(program: &str, arguments: &[&str], log: &Path) -> Launch {
        Launch {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            folder: "/".into(),
            log: log.into(),
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(future)
    }

    #[test]
    fn what_a_child_says_goes_to_its_log_and_its_end_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let script = ["-c", "echo out; echo err >&2; exit 7"];
        block_on(async {
            for _ in 0..2 {
                let child = launch("sh", &script, &log).spawn().await.expect("a shell");
                assert_eq!(child.exited().await.code(), Some(7));
                child.signal(Signal::Kill).expect("the dead are told nothing");
            }
        });
        let said = std::fs::read_to_string(&log).expect("a log");
        assert_eq!(said, "out\nerr\nout\nerr\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let spawned = block_on(launch("no-such-program", &[], &folder.path().join("log")).spawn());
        assert_eq!(spawned.expect_err("no such program").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_frozen_child_ends_by_kill_and_a_dropped_one_as_well() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        block_on(async {
            let child = launch("sleep", &["1000"], &log).spawn().await.expect("a child");
            child.signal(Signal::Stop).expect("a signal");
            child.signal(Signal::Kill).expect("a signal");
            assert_eq!(child.exited().await.signal(), Some(libc::SIGKILL));

            let child = launch("sleep", &["1000"], &log).spawn().await.expect("a child");
            let exit = child.exit();
            drop(child);
            assert_eq!(exit.wait().await.signal(), Some(libc::SIGKILL));
        });
    }

    /// Not a test of its own: what the next one starts, as the tool whose child is watched.
    #[test]
    fn helper_that_starts_a_child_and_waits_for_its_own_death() {
        if std::env::var_os("FENCEPOST_TEST_DIES").is_none() {
            return;
        }
        block_on(async {
            // The child's log is the pipe the test reads: it ends when nobody holds it any more.
            let log = Path::new("/proc/self/fd/2");
            let child = launch("sh", &["-c", "echo alive; exec sleep 1000"], log).spawn().await;
            child.expect("a child").exited().await;
        });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_child_dies_with_the_tool_even_where_that_is_killed() {
        let name = "broker::process::tests::helper_that_starts_a_child_and_waits_for_its_own_death";
        let mut tool = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name, "--nocapture"])
            .env("FENCEPOST_TEST_DIES", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program again");
        let mut pipe = tool.stderr.take().expect("it is piped");
        let mut said = [0; 6];
        pipe.read_exact(&mut said).expect("the child says that it is alive");
        assert_eq!(&said, b"alive\n");
        tool.kill().expect("it runs");
        tool.wait().expect("it was killed");
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || ended.send(pipe.read_to_end(&mut Vec::new()).is_ok()));
        let is_dead = end.recv_timeout(Duration::from_secs(20));
        assert_eq!(is_dead, Ok(true), "the child outlives the tool");
    }
}
