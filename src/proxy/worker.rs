//! A thread that serves connections, and the accepting of them.
//!
//! A connection stays with one worker; its two sockets are served by one task. The first worker
//! accepts and deals connections out in turn.

use std::io;
use std::net::{SocketAddr, TcpStream as PlainStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::doors::Door;
use super::errand::Errand;
use super::link::{Link, Scratch};
use super::opening::{from_client, to_broker};
use super::server::Shared;

/// Accepted connections that may wait for one worker.
const ACCEPTED_MAX: usize = 256;
/// Errands that may wait for one worker.
const ERRANDS_MAX: usize = 256;
/// How long no connection is accepted where the system has nothing to accept it with.
const OUT_OF_FILES: Duration = Duration::from_millis(50);

/// A connection that was accepted.
pub(super) struct Accepted {
    stream: PlainStream,
    client: SocketAddr,
    door: Arc<Door>,
}

/// Gives a worker connections.
pub(super) type Hand = mpsc::Sender<Accepted>;

pub(super) fn queue() -> (Hand, mpsc::Receiver<Accepted>) {
    mpsc::channel(ACCEPTED_MAX)
}

/// Starts a worker; one that has hands accepts too.
pub(super) fn start(
    number: usize,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Accepted>,
    hands: Vec<Hand>,
    stopping: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("proxy-{number}")).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = work(shared, queue, hands) => {}
            }
        });
    })
}

async fn work(shared: Arc<Shared>, mut queue: mpsc::Receiver<Accepted>, hands: Vec<Hand>) {
    let scratch = Arc::new(Mutex::new(Scratch::new()));
    let (errand, mut errands) = mpsc::channel(ERRANDS_MAX);
    let mut tasks = JoinSet::new();
    if !hands.is_empty() {
        tasks.spawn(accept(shared.clone(), hands));
    }
    loop {
        tokio::select! {
            Some(accepted) = queue.recv() => {
                let (shared, scratch, errand) = (shared.clone(), scratch.clone(), errand.clone());
                tasks.spawn(serve(accepted, shared, scratch, errand));
            }
            Some(errand) = errands.recv() => {
                tasks.spawn(errand.run(shared.clone()));
            }
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

/// Accepts at every door, now and as they are opened.
async fn accept(shared: Arc<Shared>, hands: Vec<Hand>) {
    let mut doors = JoinSet::new();
    let hands = Arc::new(hands);
    loop {
        for (listener, door) in shared.doors.opened() {
            match TcpListener::from_std(listener) {
                Ok(listener) => drop(doors.spawn(accept_at(listener, door, hands.clone()))),
                // Its clients are refused, which is what they would see of a broker gone.
                Err(_) => continue,
            }
        }
        shared.doors.more.notified().await;
    }
}

async fn accept_at(listener: TcpListener, door: Arc<Door>, hands: Arc<Vec<Hand>>) {
    for hand in hands.iter().cycle() {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                tokio::time::sleep(OUT_OF_FILES).await;
                continue;
            }
        };
        let Ok(stream) = stream.into_std() else { continue };
        if hand.send(Accepted { stream, client, door: door.clone() }).await.is_err() {
            return;
        }
    }
}

async fn serve(
    Accepted { stream, client, door }: Accepted,
    shared: Arc<Shared>,
    scratch: Arc<Mutex<Scratch>>,
    errands: mpsc::Sender<Errand>,
) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let connection = shared.next_connection();
    let meter = shared.tally.opened(connection, client, door.clone());
    let opened = async {
        let client_end = from_client(stream, client, &shared, connection).await?;
        let (broker_end, broker) = to_broker(&door, &shared, connection).await?;
        io::Result::Ok(([client_end, broker_end], broker))
    };
    let Ok((ends, broker)) = opened.await else { return shared.tally.closed(connection) };
    if let Some(tap) = &shared.tap {
        tap.opened(connection, client, broker, shared.clock.unix_ns());
    }
    Link::new(shared, door, (connection, meter), errands, ends, scratch).await;
}
