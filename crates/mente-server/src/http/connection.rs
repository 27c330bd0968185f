//! Sockets: accepts, bounds and drains HTTP connections, under TLS if the door has an identity.
//!
//! Who comes when every seat is taken is told so, and not left waiting at the port.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use mente_engine::limits;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use super::error::Refusal;
use super::{Door, Stopping, error};
use crate::port;
use crate::tls::Identity;

/// Connections at one time that are told that there is no seat; more are closed unheard.
const TURNED_AWAY: usize = 64;
/// How long one of them may take to hear it.
const TURN_AWAY_WAIT: Duration = Duration::from_secs(1);
/// Files that the process keeps for everything but its connections, where it may not have many.
const OTHER_FILES: u64 = 2_000;

/// Serves connections until the door stops, then lets those that are open finish.
pub(super) async fn serve(listener: TcpListener, door: Arc<Door>, router: Router) {
    let stools = Arc::new(Semaphore::new(TURNED_AWAY));
    let mut open = JoinSet::new();
    while let Some(socket) = next(&listener, &door.stopping).await {
        while open.try_join_next().is_some() {}
        if let Ok(seat) = Arc::clone(&door.seats).try_acquire_owned() {
            open.spawn(talk(socket, seat, Arc::clone(&door), router.clone()));
        } else if let Ok(stool) = Arc::clone(&stools).try_acquire_owned() {
            let told = talk(
                socket,
                stool,
                Arc::clone(&door),
                Router::new().fallback(full),
            );
            open.spawn(async { drop(tokio::time::timeout(TURN_AWAY_WAIT, told).await) });
        }
    }
    drop(listener);
    let drained = async { while open.join_next().await.is_some() {} };
    let time = Duration::from_secs(limits::HTTP_DRAIN_SECONDS);
    if tokio::time::timeout(time, drained).await.is_err() {
        tracing::warn!(
            connections = open.len(),
            "cut off: they did not finish in time"
        );
    }
}

/// As many connections as the house allows, or fewer where the process may not open so many
/// files: the log and the projections must never be without one.
pub(super) fn seats() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.unwrap_or(u64::MAX);
    let left = files - OTHER_FILES.min(files / 2);
    let seats = limits::HTTP_CONNECTIONS.min(usize::try_from(left).unwrap_or(usize::MAX));
    if seats < limits::HTTP_CONNECTIONS {
        tracing::warn!(
            connections = seats,
            "fewer connections than usual: raise the limit of open files (ulimit -n)"
        );
    }
    seats
}

async fn full() -> impl IntoResponse {
    let message =
        "as many connections are open as this server takes; try again, and close idle ones";
    let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ServerBusy", message);
    ([(header::CONNECTION, "close")], refusal)
}

/// The next connection; `None` when the door stops.
async fn next(listener: &TcpListener, stopping: &Stopping) -> Option<TcpStream> {
    tokio::select! {
        biased;
        () = stopping.wait() => None,
        socket = port::accept(listener) => Some(socket),
    }
}

/// The handshake, where there is one, and the requests; the seat is taken from the first byte on.
async fn talk(socket: TcpStream, seat: OwnedSemaphorePermit, door: Arc<Door>, router: Router) {
    match &door.tls {
        None => port::converse(socket, door.stopping.wait(), router).await,
        Some(identity) => {
            let time = Duration::from_secs(limits::TLS_HANDSHAKE_SECONDS);
            let greeted = tokio::select! {
                greeted = tokio::time::timeout(time, greet(socket, identity)) => greeted,
                () = door.stopping.wait() => return,
            };
            match greeted {
                Ok(Ok(Greeted::Tls(stream))) => {
                    port::converse(stream, door.stopping.wait(), router).await
                }
                Ok(Ok(Greeted::Plain(socket))) => {
                    let refuse = Router::new().fallback(error::speaks_tls);
                    port::converse(socket, door.stopping.wait(), refuse).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        }
    }
    drop(seat);
}

enum Greeted {
    Tls(Box<TlsStream<TcpStream>>),
    /// Somebody speaks plain HTTP, to be told so.
    Plain(TcpStream),
}

async fn greet(socket: TcpStream, identity: &Identity) -> io::Result<Greeted> {
    let mut first = [0];
    socket.peek(&mut first).await?;
    // A method begins with a letter, a handshake with 22.
    if first[0].is_ascii_uppercase() {
        return Ok(Greeted::Plain(socket));
    }
    let stream = identity.accept(socket).await?;
    Ok(Greeted::Tls(Box::new(stream)))
}
