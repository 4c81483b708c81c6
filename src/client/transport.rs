//! How a connection's bytes travel: anything that reads and writes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, lookup_host};

/// A stream of bytes both ways.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// An open stream with the addresses of its two ends, as captures name them.
pub struct Opened {
    /// The stream.
    pub transport: Box<dyn Transport>,
    /// Our end.
    pub client: SocketAddr,
    /// The broker's end.
    pub broker: SocketAddr,
}

/// What opening a stream takes.
pub type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<Opened>> + Send + 'a>>;

/// Opens streams to addresses of the form `host:port`.
pub trait Connector: Send + Sync {
    /// Opens one.
    fn connect<'a>(&'a self, address: &'a str) -> Opening<'a>;
}

/// Opens TCP connections, without Nagle's delay.
#[derive(Debug, Clone, Copy)]
pub struct Tcp {
    /// How long the three-way handshake may take.
    pub connect_timeout: Duration,
}

impl Default for Tcp {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5) }
    }
}

impl Connector for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> Opening<'a> {
        Box::pin(async move {
            let opening = async {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "no address of that name");
                for to in lookup_host(address).await? {
                    match connect_tcp(to).await {
                        Ok(opened) => return Ok(opened),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            };
            tokio::time::timeout(self.connect_timeout, opening)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        })
    }
}

async fn connect_tcp(to: SocketAddr) -> io::Result<Opened> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    let stream = socket.connect(to).await?;
    // A dead peer of an idle connection shows within a minute rather than in two hours.
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let (client, broker) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(Opened { transport: Box::new(stream), client, broker })
}
