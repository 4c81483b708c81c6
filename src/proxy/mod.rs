//! Stands between any client and the brokers, and misbehaves on request.
//!
//! * [`rule`]: which frames something is done to, and what.
//! * [`server`]: a running proxy, as `run`, `scenario` and the command line hold it.
//! * [`control`]: its rules over HTTP, where that is asked for.
//! * [`doors`]: the listeners, one for each broker; `naming`: which responses name brokers, and
//!   what they are called instead.
//! * [`tls`]: PEM files into what handshakes need; `certificate`: whom to trust; `secure`: a socket
//!   inside TLS; [`trouble`]: what kept a connection from being served.
//! * `worker`: a thread and its connections; `opening`: their two ends; `link`: one of them, and
//!   its two sockets.
//! * `lane`, `flow`: the bytes of a connection cut into frames; `act`: what a rule does to one;
//!   `talk`: requests and responses paired; `outbox`: what waits to be written; `pipe`,
//!   `unseen`: bytes that nobody needs to see, from socket to socket.
//!
//! A worker has one read buffer for all of its connections. What is read is looked at and written
//! at once; only what the other side did not take is kept, and nothing more is read before that is
//! gone. So a connection at rest owns no buffer, and a slow side holds up its own connection only.
//! Of a large frame that nothing is done to only the header is looked at; the rest goes from socket
//! to socket within the kernel. Frames that must be seen whole (they name brokers, or a rule asks
//! for them) are gathered up to a bound; all others stream through, however long.
//!
//! Never: decides *when* to misbehave.

mod act;
mod certificate;
pub mod control;
pub mod doors;
pub mod endpoint;
mod errand;
mod flow;
mod lane;
mod link;
mod naming;
mod opening;
mod outbox;
mod pipe;
pub mod rule;
mod secure;
pub mod server;
mod talk;
pub mod tally;
pub mod tls;
mod transport;
pub mod trouble;
mod unseen;
mod worker;

pub use doors::{Door, Listen};
pub use endpoint::Endpoint;
pub use server::{Limits, Plan, Proxy, ProxyError, Tls, start};
pub use tally::{Open, Total, Traffic};
pub use tls::{BrokerTls, ListenTls, TlsError};
pub use trouble::{Trouble, Whom};
