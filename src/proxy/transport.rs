//! The two streams of a connection: anything that reads and writes.
//!
//! The engine polls them, so that one read buffer serves all connections of a worker whatever
//! their transport is.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::endpoint::Endpoint;

/// One end of a connection.
pub(super) trait Side: AsyncRead + AsyncWrite + Send + Unpin {
    /// From now on its end is a reset, where the transport has such a thing.
    fn end_by_reset(&self) {}

    /// Ready when nothing that was written waits on this side of the socket any more. Until then
    /// nothing more is written.
    fn poll_settled(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Takes leave as the transport wants it, before it is dropped.
    fn poll_left(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// The socket, where what is written is what goes over the wire.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

impl Side for TcpStream {
    fn end_by_reset(&self) {
        // Where the kernel refuses, the connection ends in order: still an end.
        drop(socket2::SockRef::from(self).set_linger(Some(Duration::ZERO)));
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl Side for DuplexStream {}

/// Opens a connection to a broker, without Nagle's delay.
///
/// # Errors
/// Where no address of the host takes it within the time.
pub(super) async fn connect(to: &Endpoint, timeout: Duration) -> io::Result<TcpStream> {
    let opening = async {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address of that name");
        for address in lookup_host((to.host.as_str(), to.port)).await? {
            match connect_address(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    tokio::time::timeout(timeout, opening).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn connect_address(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    socket.connect(to).await
}
