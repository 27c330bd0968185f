//! TLS to PostgreSQL, by the rustls that the rest of the house has.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::tls::{Trust, refusal, server_name};

/// Certificates are checked against the authorities that this machine trusts.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

pub(super) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

pub(super) struct Stream(TlsStream<Socket>);

impl Tls {
    pub(super) fn system() -> Result<Self, String> {
        // PostgreSQL 17 ends a handshake that offers protocols without its own among them.
        Trust::system(None).map(|trust| Self(trust.speaking(b"postgresql")))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = String;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, String> {
        Ok(Handshake {
            config: Arc::clone(&self.0),
            name: server_name(domain)?,
        })
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = String;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, String>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let shown = self.name.to_str().into_owned();
            let connecting = TlsConnector::from(self.config).connect(self.name, socket);
            connecting
                .await
                .map(Stream)
                .map_err(|error| refusal(&error, &shown))
        })
    }
}

impl tokio_postgres::tls::TlsStream for Stream {
    /// The certificate was checked, so nobody sits between the two ends.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
