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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn ends() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let near = TcpStream::connect(address).await.expect("somebody listens");
        (near, listener.accept().await.expect("somebody connects").0)
    }

    #[tokio::test]
    async fn what_the_sink_does_not_take_is_given_back_in_order() {
        let (mut far_source, source) = ends().await;
        let (sink, mut far_sink) = ends().await;
        let mut pipe = Pipe::new().expect("there are pipes");
        let mut said = Vec::new();
        // Nobody reads: at some time no more is taken.
        let rest = loop {
            let more: Vec<u8> = (0..100_000).map(|at| (at * 31 + said.len()) as u8).collect();
            far_source.write_all(&more).await.expect("it is read");
            said.extend(more);
            let mut rest = Vec::new();
            for left in [60_000, 40_000] {
                rest.extend(move_all(&mut pipe, &source, &sink, left, rest.is_empty()).await);
            }
            if !rest.is_empty() {
                break rest;
            }
        };
        assert!(rest.len() <= 100_000);
        let mut heard = vec![0; said.len() - rest.len()];
        far_sink.read_exact(&mut heard).await.expect("it was given to the socket");
        heard.extend(rest);
        assert!(heard == said, "bytes are missing or changed");
        drop(far_source);
        let filled = poll_fn(|context| pipe.poll_fill(context, &source, 10)).await;
        assert_eq!(filled.expect("the end is no error"), 0);
    }

    /// So many bytes from one to the other; returns those that are not taken.
    async fn move_all(
        pipe: &mut Pipe,
        source: &TcpStream,
        sink: &TcpStream,
        mut left: usize,
        may_give: bool,
    ) -> Vec<u8> {
        let mut rest = Vec::new();
        while left > 0 {
            let filled = poll_fn(|context| pipe.poll_fill(context, source, left)).await;
            let count = filled.expect("the source lives");
            assert!((1..=left).contains(&count));
            left -= count;
            let given = if may_give && rest.is_empty() { count } else { 0 };
            let drained = poll_fn(|context| Poll::Ready(pipe.drain(context, sink, given))).await;
            rest.extend(drained.expect("the sink lives"));
            if given == 0 {
                let mut kept = vec![0; count];
                pipe.reader.read_exact(&mut kept).expect("they are in the pipe");
                rest.extend(kept);
            }
        }
        rest
    }

    #[tokio::test]
    async fn a_sink_that_is_gone_is_an_error() {
        let (mut far_source, source) = ends().await;
        let (sink, far_sink) = ends().await;
        let mut pipe = Pipe::new().expect("there are pipes");
        drop(far_sink);
        // The first bytes may still leave before the other side says that it is gone.
        loop {
            far_source.write_all(&[7; 1000]).await.expect("it is read");
            let filled = poll_fn(|context| pipe.poll_fill(context, &source, 1000)).await;
            let count = filled.expect("the source lives");
            let drained = poll_fn(|context| Poll::Ready(pipe.drain(context, &sink, count))).await;
            if drained.is_err() {
                return;
            }
        }
    }
}
