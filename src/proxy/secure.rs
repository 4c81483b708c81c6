//! TLS as one end of a connection: the handshakes, and a side whose bytes are encrypted on the way.
//!
//! What the engine, the rules and the capture see is what was said inside. A side keeps what it
//! encrypted until the socket takes it (64 KiB at most), so that nothing more is read for it before.
//!
//! Never: goes on with one that does not speak TLS where it should.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::tls::{TowardBrokers, TowardClients};
use super::transport::Side;

/// The first byte of a TLS connection: a record of a handshake.
const HANDSHAKE: u8 = 0x16;

/// What is told of an error that ends the side.
type Tell = Box<dyn Fn(&io::Error) + Send>;

/// One end of a connection, inside TLS.
pub(super) struct Secure {
    stream: TlsStream<TcpStream>,
    tell: Tell,
    leave: Leave,
}

/// Whether the other end was told that nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    NotYet,
    Begun,
    Taken,
}

impl Secure {
    /// Shakes hands with a client.
    ///
    /// # Errors
    /// Where it speaks no TLS, or not as it should, or takes too long.
    pub(super) async fn accept(
        stream: TcpStream,
        tls: &TowardClients,
        timeout: Duration,
        tell: Tell,
    ) -> io::Result<Self> {
        let accepting = async {
            let mut first = [0];
            // An alert to one that speaks plain Kafka would be the length of a huge frame to it.
            if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
                return Err(io::Error::other(not_tls(first[0])));
            }
            tls.acceptor.accept(stream).await
        };
        let stream = in_time(timeout, accepting, "").await?;
        Ok(Self { stream: stream.into(), tell, leave: Leave::NotYet })
    }

    /// Shakes hands with a broker at that host.
    ///
    /// # Errors
    /// As [`Secure::accept`], and where its certificate is not taken.
    pub(super) async fn connect(
        stream: TcpStream,
        host: &str,
        tls: &TowardBrokers,
        timeout: Duration,
        tell: Tell,
    ) -> io::Result<Self> {
        let name = tls.name_of(host).map_err(io::Error::other)?;
        let connecting = tls.connector.connect(name, stream);
        let stream = in_time(timeout, connecting, ", as listeners without TLS do").await?;
        Ok(Self { stream: stream.into(), tell, leave: Leave::NotYet })
    }

    fn stream(&mut self) -> Pin<&mut TlsStream<TcpStream>> {
        Pin::new(&mut self.stream)
    }
}

fn not_tls(first: u8) -> String {
    match first {
        0 => "it speaks Kafka without TLS".to_owned(),
        byte => format!("what it says is no TLS: it begins with byte {byte:#04x}"),
    }
}

/// Whether an error is that the other end is not there any more.
fn is_end(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(kind, UnexpectedEof | ConnectionReset | BrokenPipe)
}

async fn in_time<T>(
    timeout: Duration,
    handshake: impl Future<Output = io::Result<T>>,
    who_ends: &str,
) -> io::Result<T> {
    match tokio::time::timeout(timeout, handshake).await {
        Ok(Err(error)) if is_end(error.kind()) => {
            let text = format!("it ended in the middle of the TLS handshake{who_ends}");
            Err(io::Error::new(error.kind(), text))
        }
        Ok(done) => done,
        Err(_) => {
            let text = format!("no TLS handshake within {timeout:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

impl AsyncRead for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.stream().poll_read(context, buffer) {
            // Many clients end without saying so inside TLS: an end as any other.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                (self.tell)(&error);
                Poll::Ready(Err(error))
            }
            read => read,
        }
    }
}

impl AsyncWrite for Secure {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.leave == Leave::Taken {
            return Poll::Ready(Ok(()));
        }
        self.leave = Leave::Begun;
        let left = self.stream().poll_shutdown(context);
        if left.is_ready() {
            self.leave = Leave::Taken;
        }
        left
    }
}

impl Side for Secure {
    fn end_by_reset(&self) {
        self.stream.get_ref().0.end_by_reset();
    }

    fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // What cannot be sent any more is not waited for; the next write says why.
        match self.leave {
            Leave::NotYet => self.stream().poll_flush(context).map(drop),
            _ => self.poll_left(context),
        }
    }

    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(self).poll_shutdown(context).map(drop)
    }
}
