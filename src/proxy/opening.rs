//! The two ends of a connection opened: TCP, and TLS where it is asked for.
//!
//! What fails is counted and told to whoever listens for troubles.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::doors::Door;
use super::secure::Secure;
use super::server::Shared;
use super::transport::{Side, connect};
use super::trouble::{Trouble, Whom, in_words};
use crate::history::tap::Connection;

/// The client's end of a connection that was accepted.
///
/// # Errors
/// Where it does not shake hands.
pub(super) async fn from_client(
    stream: TcpStream,
    client: SocketAddr,
    shared: &Shared,
    connection: Connection,
) -> io::Result<Box<dyn Side>> {
    stream.set_nodelay(true)?;
    let Some(tls) = &shared.tls.toward_clients else { return Ok(Box::new(stream)) };
    let tell = telling(shared, connection, Whom::Client(client));
    let timeout = shared.limits.handshake_timeout;
    match Secure::accept(stream, tls, timeout, Box::new(tell.clone())).await {
        Ok(side) => Ok(Box::new(side)),
        Err(error) => {
            shared.tally.handshake_failed();
            tell(&error);
            Err(error)
        }
    }
}

/// The broker's end, and its address.
///
/// # Errors
/// Where it is not reached, or does not shake hands.
pub(super) async fn to_broker(
    door: &Door,
    shared: &Shared,
    connection: Connection,
) -> io::Result<(Box<dyn Side>, SocketAddr)> {
    let broker = door.broker();
    let tell = telling(shared, connection, Whom::Broker(broker.clone()));
    let reached = connect(&broker, shared.limits.connect_timeout).await;
    let reached = reached.and_then(|stream| Ok((stream.peer_addr()?, stream)));
    let (address, stream) = reached.inspect_err(|error| {
        shared.tally.unreachable();
        tell(error);
    })?;
    door.reached(address);
    let Some(tls) = &shared.tls.toward_brokers else { return Ok((Box::new(stream), address)) };
    let timeout = shared.limits.handshake_timeout;
    let side = Secure::connect(stream, &broker.host, tls, timeout, Box::new(tell.clone())).await;
    let side = side.inspect_err(|error| {
        shared.tally.handshake_failed();
        tell(error);
    })?;
    Ok((Box::new(side), address))
}

fn telling(
    shared: &Shared,
    connection: Connection,
    whom: Whom,
) -> impl Fn(&io::Error) + Clone + Send + use<> {
    let listener = shared.troubles.clone();
    move |error| {
        let what = in_words(error);
        listener.tell(&Trouble { connection, whom: whom.clone(), what });
    }
}
