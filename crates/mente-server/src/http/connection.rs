//! Sockets: accepts, bounds and drains HTTP connections, under TLS if the door has an identity.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mente_engine::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use super::{Door, Stopping, error};
use crate::tls::Identity;

/// Wait after an accept failed, as it does while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until the door stops, then lets those that are open finish.
pub(super) async fn serve(listener: TcpListener, door: Arc<Door>, router: Router) {
    let seats = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS));
    let mut open = JoinSet::new();
    while let Some((socket, seat)) = next(&listener, &seats, &door.stopping).await {
        while open.try_join_next().is_some() {}
        open.spawn(talk(socket, seat, Arc::clone(&door), router.clone()));
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

/// The next connection and its seat; `None` when the door stops. A connection beyond the limit
/// waits in the backlog of the port.
async fn next(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
    stopping: &Stopping,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let accept = async {
        let seat = Arc::clone(seats).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((socket, _)) => return Some((socket, seat)),
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
        accepted = accept => accepted,
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
