//! Turns a loopback address into a port that stays ours for as long as the cluster lives.
//!
//! A port that was free a moment ago may be taken when the broker binds it, and again when a
//! killed broker is restarted. So the port is held: a socket bound with `SO_REUSEADDR` that never
//! listens lets a broker, which sets the same option, listen there, and keeps the system from
//! handing the port to anybody who asks for just any.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Socket, Type};

/// A port of a loopback address, held until dropped.
#[derive(Debug)]
pub(super) struct HeldPort {
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
    _held: Socket,
}

/// Holds a port of the address with that last number, 127.0.0.1 where the system has no other
/// loopback address (any but Linux).
pub(super) fn hold(number: u8) -> io::Result<HeldPort> {
    match hold_at(Ipv4Addr::new(127, 0, 0, number)) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            hold_at(Ipv4Addr::LOCALHOST)
        }
        result => result,
    }
}

fn hold_at(address: Ipv4Addr) -> io::Result<HeldPort> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(address, 0)).into())?;
    let port = socket.local_addr()?.as_socket().map(|bound| bound.port());
    let port = port.ok_or_else(|| io::Error::other("a bound IPv4 socket has no port"))?;
    Ok(HeldPort { address, port, _held: socket })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_held_port_refuses_connections_until_somebody_listens_there() {
        let held = hold(2).expect("a port");
        let address = SocketAddrV4::new(held.address, held.port);
        let refused = TcpStream::connect(address).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        // The standard library sets SO_REUSEADDR, as Java does.
        let _listener = TcpListener::bind(address).expect("whoever shares the address may listen");
        TcpStream::connect(address).expect("somebody listens");
    }

    #[test]
    fn held_ports_are_distinct() {
        let held: Vec<HeldPort> = (0..200).map(|_| hold(1).expect("a port")).collect();
        let ports: std::collections::BTreeSet<u16> = held.iter().map(|held| held.port).collect();
        assert_eq!(ports.len(), held.len());
    }
}
