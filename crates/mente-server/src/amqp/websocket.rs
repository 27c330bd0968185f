//! AMQP inside a WebSocket, as Service Bus has it where only port 443 is let through: binary messages, which may end
//! anywhere within frames of AMQP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::listen::Socket;

const PATH: &str = "/$servicebus/websocket";
/// The protocol inside by the names that clients ask for: that of Service Bus, and that of AMQP's own standard, which
/// Go's example has.
const PROTOCOLS: [&str; 2] = ["AMQPWSB10", "amqp"];
const PROTOCOL_HEADER: &str = "sec-websocket-protocol";
/// Largest message of a client, of which its library makes one for each write.
const MESSAGE_BYTES: usize = 2 << 20;
/// Largest one of ours.
const WRITE_BYTES: usize = 64 << 10;

/// A stream of bytes.
pub(super) struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// Of the message that came last.
    rest: Bytes,
}

/// Answers the upgrade.
pub(super) async fn accept<S: Socket>(stream: S) -> io::Result<WebSocket<S>> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    let inner = accept_hdr_async_with_config(stream, check, Some(config))
        .await
        .map_err(to_io)?;
    Ok(WebSocket {
        inner,
        rest: Bytes::new(),
    })
}

fn check(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let refuse = |status, words: &str| {
        let mut refusal = ErrorResponse::new(Some(format!("{words}\n")));
        *refusal.status_mut() = status;
        Err(refusal)
    };
    if !request.uri().path().eq_ignore_ascii_case(PATH) {
        let words = "AMQP over WebSocket is at /$servicebus/websocket";
        return refuse(StatusCode::NOT_FOUND, words);
    }
    let offered = request.headers().get_all(PROTOCOL_HEADER);
    let offered = offered.iter().filter_map(|names| names.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|names| names.split(',')).collect();
    let is_offered = |protocol: &&str| {
        let mut names = offered.iter();
        names.any(|name| name.trim().eq_ignore_ascii_case(protocol))
    };
    let Some(chosen) = PROTOCOLS.into_iter().find(is_offered) else {
        let words = "this path wants Sec-WebSocket-Protocol: AMQPWSB10";
        return refuse(StatusCode::BAD_REQUEST, words);
    };
    let chosen = HeaderValue::from_static(chosen);
    response.headers_mut().insert(PROTOCOL_HEADER, chosen);
    Ok(response)
}

impl<S: Socket> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    let words = "text in a WebSocket that carries AMQP";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, words)));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
            }
        }
        let fitting = self.rest.len().min(into.remaining());
        into.put_slice(&self.rest[..fitting]);
        self.rest.advance(fitting);
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut self.inner;
        ready!(Pin::new(&mut *inner).poll_ready(context)).map_err(to_io)?;
        let part = &bytes[..bytes.len().min(WRITE_BYTES)];
        let message = Message::Binary(Bytes::copy_from_slice(part));
        Pin::new(inner).start_send(message).map_err(to_io)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context).map_err(to_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context).map_err(to_io)
    }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
