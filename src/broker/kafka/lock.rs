//! Turns a path into the right to write beside it, one process at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Longer than the slowest download that can be meant.
const WAIT_MAX: Duration = Duration::from_secs(900);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for the lock of a file. It is given back when the answer is dropped, and by the system
/// when the process dies, so that no lock outlives its owner.
pub(super) async fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    let locked = timeout(WAIT_MAX, async {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    });
    match locked.await {
        Ok(result) => result.map(|()| file),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds the lock")),
    }
}
