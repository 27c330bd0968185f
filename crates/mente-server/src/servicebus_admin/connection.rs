//! Sockets: accepts and bounds connections; those that begin with a handshake speak HTTPS, the others HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mente_engine::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Door, router};

/// Connections at one time; administrators are few, and their clients keep one.
const CONNECTIONS: usize = 256;
/// Wait after an accept failed, as it does while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// What a TLS handshake begins with.
const HANDSHAKE: u8 = 0x16;

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
        loop {
            match listener.accept().await {
                Ok((socket, _)) => return Some((socket, seat)),
                Err(error) => {
                    tracing::warn!(%error, "an administrator's connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = door.stopped() => None,
        accepted = accept => accepted,
    }
}

async fn talk(socket: TcpStream, seat: OwnedSemaphorePermit, door: Arc<Door>) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let time = Duration::from_secs(limits::TLS_HANDSHAKE_SECONDS);
    let greeted = tokio::select! {
        greeted = timeout(time, greet(&socket)) => greeted,
        () = door.stopped() => return,
    };
    match greeted {
        Ok(Ok(HANDSHAKE)) => handshake(socket, time, door).await,
        Ok(Ok(_)) => converse(socket, &door, router(&door, "http")).await,
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
        Ok(Ok(stream)) => converse(stream, &door, router(&door, "https")).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn converse<S>(stream: S, door: &Door, router: Router)
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
        () = door.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an administrator's connection ended");
    }
}
