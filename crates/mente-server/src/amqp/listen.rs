//! Sockets: accepts and bounds connections, and tells by their first bytes what they speak.
//!
//! ```text
//! 0x16  TLS, and inside one of the others
//! AMQP  the protocol itself
//! GET   a WebSocket with the protocol inside
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use mente_engine::limits;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Door, connection, websocket};
use crate::port;

/// What a TLS handshake begins with.
const HANDSHAKE: u8 = 0x16;
/// What is read to tell what a connection speaks.
const HEAD_BYTES: usize = 8 << 10;

/// What a browser is told that comes here.
const SPEAKS_AMQP: &str = "this port speaks AMQP 1.0, plain, in TLS or in a WebSocket at /$servicebus/websocket; events over HTTP have a port of their own\n";

/// Bytes in both directions, whatever is below them.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// As many connections as the house allows, or fewer where the process may not open so many files.
pub(super) fn seats() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let quarter = usize::try_from(files.unwrap_or(u64::MAX) / 4).unwrap_or(usize::MAX);
    limits::AMQP_CONNECTIONS.min(quarter)
}

/// Serves connections until the door stops, then waits for them to end.
pub(super) async fn serve(listener: TcpListener, door: Arc<Door>) {
    let mut open = JoinSet::new();
    while let Some(socket) = next(&listener, &door).await {
        while open.try_join_next().is_some() {}
        let Ok(seat) = Arc::clone(&door.seats).try_acquire_owned() else {
            tracing::warn!("an AMQP connection was hung up on: as many as are taken are open");
            continue;
        };
        open.spawn(talk(socket, seat, Arc::clone(&door)));
    }
    drop(listener);
    let drained = async { while open.join_next().await.is_some() {} };
    let time = Duration::from_secs(limits::HTTP_DRAIN_SECONDS);
    if timeout(time, drained).await.is_err() {
        tracing::warn!(
            connections = open.len(),
            "AMQP connections cut off: they did not end in time"
        );
    }
}

/// The next connection; `None` when the door stops.
async fn next(listener: &TcpListener, door: &Door) -> Option<TcpStream> {
    tokio::select! {
        biased;
        () = door.stopped() => None,
        socket = port::accept(listener) => Some(socket),
    }
}

async fn talk(socket: TcpStream, seat: OwnedSemaphorePermit, door: Arc<Door>) {
    let time = Duration::from_secs(limits::TLS_HANDSHAKE_SECONDS);
    let greeted = tokio::select! {
        greeted = timeout(time, greet(socket, &door)) => greeted,
        () = door.stopped() => return,
    };
    match greeted {
        Ok(Ok((socket, head))) => connection::converse(socket, head, door).await,
        Ok(Err(error)) => tracing::debug!(%error, "no AMQP connection"),
        Err(_) => tracing::debug!("an AMQP client took too long to begin"),
    }
    drop(seat);
}

/// The stream on which AMQP is spoken, and its first bytes.
async fn greet(socket: TcpStream, door: &Door) -> io::Result<(Box<dyn Socket>, BytesMut)> {
    let mut first = [0];
    socket.peek(&mut first).await?;
    if first != [HANDSHAKE] {
        return unwrap(socket).await;
    }
    let Some(identity) = &door.tls else {
        return Err(io::Error::other(
            "a TLS handshake, but this server has no certificate",
        ));
    };
    unwrap(identity.accept(socket).await?).await
}

/// Takes the WebSocket away that AMQP may be in.
async fn unwrap<S: Socket + 'static>(mut stream: S) -> io::Result<(Box<dyn Socket>, BytesMut)> {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    if stream.read_buf(&mut head).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if !head.starts_with(b"G") {
        return Ok((Box::new(stream), head));
    }
    let is_plain = is_plain_request(&head);
    let stream = Rewound {
        head: head.freeze(),
        stream,
    };
    if is_plain {
        let told = Router::new().fallback(|| async { (StatusCode::UPGRADE_REQUIRED, SPEAKS_AMQP) });
        port::converse(stream, std::future::pending(), told).await;
        return Err(io::Error::other("somebody speaks HTTP"));
    }
    let stream = websocket::accept(stream).await?;
    Ok((Box::new(stream), BytesMut::new()))
}

/// A whole request that asks for no WebSocket: somebody took the port for another.
fn is_plain_request(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    text.contains("\r\n\r\n") && !text.contains("\r\nupgrade:")
}

/// A stream whose first bytes were read, to be read again.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    head: Bytes,
    stream: S,
}

mod rewound {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Buf;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Rewound;

    impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.head.is_empty() {
                return Pin::new(&mut self.stream).poll_read(context, into);
            }
            let fitting = self.head.len().min(into.remaining());
            into.put_slice(&self.head[..fitting]);
            self.head.advance(fitting);
            Poll::Ready(Ok(()))
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }
    }
}
