//! Sockets: accepts, bounds and drains HTTP connections, under TLS if the door has an identity.
//!
//! Who comes when every seat is taken is told so, and not left waiting at the port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mente_engine::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use super::error::Refusal;
use super::{Door, Stopping, error};
use crate::tls::Identity;

/// Wait after an accept failed, as it does while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be accepted. Where a burst overflows it, the caller's kernel tries
/// again only after a second.
const BACKLOG: u32 = 4_096;
/// Connections at one time that are told that there is no seat; more are closed unheard.
const TURNED_AWAY: usize = 64;
/// How long one of them may take to hear it.
const TURN_AWAY_WAIT: Duration = Duration::from_secs(1);
/// Files that the process keeps for everything but its connections, where it may not have many.
const OTHER_FILES: u64 = 2_000;

/// Takes the port. One that was just given up is taken at once.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

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
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => return socket,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = stopping.wait() => None,
        socket = accept => Some(socket),
    }
}

/// The handshake, where there is one, and the requests; the seat is taken from the first byte on.
async fn talk(socket: TcpStream, seat: OwnedSemaphorePermit, door: Arc<Door>, router: Router) {
    // Answers are small and complete: waiting to fill a packet only delays them.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    match &door.tls {
        None => converse(socket, &door.stopping, router).await,
        Some(identity) => {
            let time = Duration::from_secs(limits::TLS_HANDSHAKE_SECONDS);
            let greeted = tokio::select! {
                greeted = tokio::time::timeout(time, greet(socket, identity)) => greeted,
                () = door.stopping.wait() => return,
            };
            match greeted {
                Ok(Ok(Greeted::Tls(stream))) => converse(stream, &door.stopping, router).await,
                Ok(Ok(Greeted::Plain(socket))) => {
                    let refuse = Router::new().fallback(error::speaks_tls);
                    converse(socket, &door.stopping, refuse).await;
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

async fn converse<S>(stream: S, stopping: &Stopping, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits::HTTP_SENDER_SECONDS))
        .max_buf_size(limits::HTTP_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}
