//! Sockets: accepts and bounds connections; those that begin with a handshake speak HTTPS, the others HTTP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mente_engine::limits;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Door, router};
use crate::port;

/// Connections at one time; administrators are few, and their clients keep one.
const CONNECTIONS: usize = 256;
/// What a TLS handshake begins with.
const HANDSHAKE: u8 = 0x16;

/// Serves connections until the door stops, then lets those that are open finish. Who comes when all seats are taken
/// waits in the backlog.
pub(super) async fn serve(listener: TcpListener, door: Arc<Door>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    while let Some((socket, seat)) = next(&listener, &seats, &door).await {
        while open.try_join_next().is_some() {}
        open.spawn(talk(socket, seat, Arc::clone(&door)));
    }
    drop(listener);
    let drained = async { while open.join_next().await.is_some() {} };
    let time = Duration::from_secs(limits::HTTP_DRAIN_SECONDS);
    if timeout(time, drained).await.is_err() {
        tracing::warn!(
            connections = open.len(),
            "administrators cut off: they did not finish in time"
        );
    }
}

/// The next connection and its seat; `None` when the door stops.
async fn next(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
    door: &Door,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let accept = async {
        let seat = Arc::clone(seats).acquire_owned().await.ok()?;
        Some((port::accept(listener).await, seat))
    };
    tokio::select! {
        biased;
        () = door.stopped() => None,
        accepted = accept => accepted,
    }
}

async fn talk(socket: TcpStream, seat: OwnedSemaphorePermit, door: Arc<Door>) {
    let time = Duration::from_secs(limits::TLS_HANDSHAKE_SECONDS);
    let greeted = tokio::select! {
        greeted = timeout(time, greet(&socket)) => greeted,
        () = door.stopped() => return,
    };
    match greeted {
        Ok(Ok(HANDSHAKE)) => handshake(socket, time, door).await,
        Ok(Ok(_)) => port::converse(socket, door.stopped(), router(&door, "http")).await,
        Ok(Err(error)) => tracing::debug!(%error, "an administrator said nothing"),
        Err(_) => tracing::debug!("an administrator took too long to begin"),
    }
    drop(seat);
}

/// The first byte, which stays to be read.
async fn greet(socket: &TcpStream) -> io::Result<u8> {
    let mut first = [0];
    match socket.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0]),
    }
}

async fn handshake(socket: TcpStream, time: Duration, door: Arc<Door>) {
    let Some(identity) = &door.tls else {
        tracing::info!(
            "an administrator wants TLS, and this server has no certificate: start it with --tls-cert and --tls-key"
        );
        return;
    };
    match timeout(time, identity.accept(socket)).await {
        Ok(Ok(stream)) => port::converse(stream, door.stopped(), router(&door, "https")).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}
