//! Moves bytes from one socket to another without copying them to us.
//!
//! The kernel hands the pages that a peer's bytes came in from the one socket's queue to the
//! other's. A pipe stands between the two; it is empty before and after, so that one serves all
//! connections of a worker.
//!
//! Never: sees what it moves; leaves bytes in the pipe for later.

use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What the pipe is asked to hold. It holds a number of pieces rather than of bytes, and many
/// pieces are short: this is more than is ever moved at once.
const PIPE_BYTES: usize = 1024 * 1024;

/// A pipe between any two sockets, empty.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Pipe {
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        // A smaller one, where the system grants no more, moves less at once.
        let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
        Ok(Self { reader, writer })
    }

    /// Takes what a socket has, up to a limit; says how much, which is nothing at its end.
    pub(super) fn poll_fill(
        &self,
        context: &mut Context<'_>,
        source: &TcpStream,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(source.poll_read_ready(context))?;
            match source.try_io(Interest::READABLE, || pass(source, &self.writer, limit)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                taken => return Poll::Ready(taken),
            }
        }
    }

    /// Gives a socket so many bytes that the pipe holds; returns those that it does not take now,
    /// for which the task is woken.
    ///
    /// # Errors
    /// Where the socket is gone: what the pipe still holds is gone with it.
    pub(super) fn drain(
        &mut self,
        context: &mut Context<'_>,
        sink: &TcpStream,
        count: usize,
    ) -> io::Result<Vec<u8>> {
        let mut left = count;
        while left > 0 {
            let Poll::Ready(ready) = sink.poll_write_ready(context) else { break };
            ready?;
            match sink.try_io(Interest::WRITABLE, || pass(&self.reader, sink, left)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                given => left -= given?,
            }
        }
        let mut rest = vec![0; left];
        self.reader.read_exact(&mut rest)?;
        Ok(rest)
    }
}

fn pass(from: impl AsFd, to: impl AsFd, limit: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, limit, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}
