//! A small HTTP client: one host, keep-alive, no redirects. Cheap to share; each request under
//! way has a connection of its own, and those that are free are used again.
//!
//! ```no_run
//! # async fn example() -> Result<(), mente_client::Error> {
//! let client = mente_client::Client::new("http://127.0.0.1:8480")?;
//! let topics = client.request("GET", "/topics", None, "").await?;
//! assert_eq!(topics.status, 200);
//! let mut tail = client.lines("/topics/orders/events?follow=true", "application/x-ndjson").await?;
//! while let Some(line) = tail.next().await? {
//!     println!("{line}");
//! }
//! # Ok(()) }
//! ```

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::tls::{ServerName, Trust, server_name};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is no server: give its address as http://HOST:PORT or https://HOST:PORT")]
    Url(String),
    #[error("{0}")]
    Trust(String),
    #[error("cannot make the request: {0}")]
    Request(String),
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        address: String,
        source: std::io::Error,
    },
    #[error("no TLS to {address}: {reason}")]
    Tls { address: String, reason: String },
    #[error("the connection to {address} broke: {source}")]
    Broken {
        address: String,
        source: hyper::Error,
    },
    #[error("a line of the answer is longer than {LINE_BYTES_MAX} bytes")]
    LongLine,
    #[error("the answer is longer than {0} bytes")]
    LongAnswer(usize),
    #[error("the server answers what is not understood: {}", begin(.0))]
    Strange(String),
    #[error("the server answered {}: {}", .0.status, .0.text())]
    Refused(Box<Response>),
}

/// Longest line that a tail takes: an event and its frame, with every byte escaped.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Most bytes that are taken of a refusal where the server is not trusted to be brief.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub struct Client {
    /// `host:port`.
    address: String,
    /// Path under which the server's paths lie; empty or `/like/this`.
    prefix: String,
    authorization: Option<HeaderValue>,
    tls: Option<Tls>,
    fence: Fence,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// Who the server must prove to be, and to whom.
#[derive(Debug)]
struct Tls {
    name: ServerName<'static>,
    trust: Trust,
}

/// Where a client connects to: every address that the server's name gives is asked about at each connection.
#[derive(Clone, Copy, Debug)]
pub struct Fence {
    pub allowed: fn(IpAddr) -> bool,
    /// Why not, and what to do about it: behind `it leads to ADDRESS, `.
    pub why: &'static str,
}

impl Default for Fence {
    /// Anywhere.
    fn default() -> Self {
        Self {
            allowed: |_| true,
            why: "",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What was taken of a body, and whether that is all of it.
struct Whole(Bytes, bool);

/// The body of an answer, as it comes.
#[derive(Debug)]
pub struct Pieces {
    address: String,
    body: Incoming,
}

/// The lines of an answer, as they come.
#[derive(Debug)]
pub struct Lines {
    pieces: Pieces,
    begun: BytesMut,
    /// Where a line break has not been looked for yet.
    looked: usize,
    ended: bool,
}

impl Client {
    /// `base` is `http://host:port` or `https://host:port`, with a path in front of the server's
    /// own if need be. An https server is believed by the authorities that this machine trusts.
    pub fn new(base: &str) -> Result<Self, Error> {
        Self::open(base, || Trust::system(None))
    }

    /// An https server is believed by the authorities in this PEM file, and by no others.
    pub fn trusting(base: &str, authorities: &Path) -> Result<Self, Error> {
        Self::open(base, || Trust::only(authorities))
    }

    /// The same for whoever has read their trust already, and connects within a fence only.
    pub fn within(base: &str, trust: Trust, fence: Fence) -> Result<Self, Error> {
        let client = Self::open(base, || Ok(trust))?;
        Ok(Self { fence, ..client })
    }

    fn open(base: &str, trust: impl FnOnce() -> Result<Trust, String>) -> Result<Self, Error> {
        let wrong = || Error::Url(base.to_owned());
        let uri: Uri = base.parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        if uri.query().is_some() {
            return Err(wrong());
        }
        let authority = uri.authority().ok_or_else(wrong)?;
        let tls = if is_tls {
            let host = authority.host().trim_matches(['[', ']']);
            Some(Tls {
                name: server_name(host).map_err(|_| wrong())?,
                trust: trust().map_err(Error::Trust)?,
            })
        } else {
            None
        };
        let port = authority
            .port_u16()
            .unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self {
            address: format!("{}:{port}", authority.host()),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            authorization: None,
            tls,
            fence: Fence::default(),
            idle: Mutex::default(),
        })
    }

    /// Which server, as people write it.
    pub fn base(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address, self.prefix)
    }

    /// Shows this key with every request.
    pub fn with_key(mut self, key: &str) -> Result<Self, Error> {
        let value = HeaderValue::from_str(&format!("SharedAccessKey {key}"));
        let mut value = value.map_err(|error| Error::Request(error.to_string()))?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    pub async fn request(
        &self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Result<Response, Error> {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, header(content_type)?);
        }
        self.request_with(method, path, headers, body).await
    }

    /// The same with any headers.
    pub async fn request_with(
        &self,
        method: &str,
        path: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<Response, Error> {
        let request = self.build(method, path, headers, body.into())?;
        self.exchange(request, usize::MAX, usize::MAX).await
    }

    /// The same, taking so many bytes of an answer at most, and a little of a refusal.
    pub async fn request_within(
        &self,
        method: &str,
        path: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
        bytes_max: usize,
    ) -> Result<Response, Error> {
        let request = self.build(method, path, headers, body.into())?;
        let refusal_max = REFUSAL_BYTES_MAX.min(bytes_max);
        self.exchange(request, bytes_max, refusal_max).await
    }

    /// A refusal is cut where it has said enough; an answer that is cut is none.
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
        refusal_max: usize,
    ) -> Result<Response, Error> {
        let (response, connection) = self.send(request).await?;
        let (parts, body) = response.into_parts();
        let is_refusal = parts.status.is_client_error() || parts.status.is_server_error();
        let most = if is_refusal { refusal_max } else { bytes_max };
        let whole = self.collect(body, most).await?;
        match whole {
            Whole(_, false) if !is_refusal => return Err(Error::LongAnswer(bytes_max)),
            Whole(_, true) => self.idle().push(connection),
            Whole(..) => {}
        }
        Ok(Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: whole.0,
        })
    }

    /// So many bytes of a body at most, in one piece: it may come byte by byte, and each of those pieces would
    /// take its hundred bytes.
    async fn collect(&self, mut body: Incoming, bytes_max: usize) -> Result<Whole, Error> {
        let mut taken = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| self.broken(error))?.into_data() else {
                continue;
            };
            let room = bytes_max - taken.len();
            taken.extend_from_slice(data.get(..room).unwrap_or(&data));
            if data.len() > room {
                return Ok(Whole(taken.freeze(), false));
            }
        }
        Ok(Whole(taken.freeze(), true))
    }

    /// Begins an answer that is read line by line; one that is not 200 is an error.
    pub async fn lines(&self, path: &str, accept: &str) -> Result<Lines, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, header(accept)?);
        self.lines_with(path, headers).await
    }

    /// The same with any headers.
    pub async fn lines_with(&self, path: &str, headers: HeaderMap) -> Result<Lines, Error> {
        Ok(Lines {
            pieces: self.get(path, headers).await?,
            begun: BytesMut::new(),
            looked: 0,
            ended: false,
        })
    }

    /// Begins an answer of any length that is read piece by piece; one that is not 200 is an
    /// error.
    pub async fn download(&self, path: &str) -> Result<Pieces, Error> {
        self.get(path, HeaderMap::new()).await
    }

    async fn get(&self, path: &str, headers: HeaderMap) -> Result<Pieces, Error> {
        let request = self.build("GET", path, headers, Bytes::new())?;
        // The connection lives on in its own task and ends with the body.
        let (response, _) = self.send(request).await?;
        let (parts, body) = response.into_parts();
        if parts.status != 200 {
            let Whole(body, _) = self.collect(body, REFUSAL_BYTES_MAX).await?;
            return Err(Error::Refused(Box::new(Response {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            })));
        }
        let address = self.address.clone();
        Ok(Pieces { address, body })
    }

    fn build(
        &self,
        method: &str,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let wrong = |error: &dyn std::fmt::Display| Error::Request(error.to_string());
        let method: Method = method.parse().map_err(|error| wrong(&error))?;
        let uri: Uri = format!("{}{path}", self.prefix)
            .parse()
            .map_err(|error| wrong(&error))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let host = header(&self.address)?;
        request.headers_mut().insert(HOST, host);
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        Ok(request)
    }

    /// Sends on a free connection, or on a new one if the server has closed all of those.
    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(hyper::Response<Incoming>, SendRequest<Full<Bytes>>), Error> {
        loop {
            let free = self.idle().pop();
            let Some(mut connection) = free else {
                break;
            };
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                // Only what certainly was not sent is sent again.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broken(error.into_error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        let response = connection
            .send_request(request)
            .await
            .map_err(|error| self.broken(error))?;
        Ok((response, connection))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let unreachable = |source| Error::Unreachable {
            address: self.address.clone(),
            source,
        };
        let found = lookup_host(&self.address).await.map_err(unreachable)?;
        let found: Vec<SocketAddr> = found.collect();
        let allowed = self.fence.allowed;
        if let Some(barred) = found.iter().find(|found| !allowed(found.ip())) {
            let message = format!("it leads to {}, {}", barred.ip(), self.fence.why);
            return Err(unreachable(std::io::Error::other(message)));
        }
        let socket = TcpStream::connect(&found[..]).await.map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        let Some(tls) = &self.tls else {
            return self.converse(socket).await;
        };
        let stream = tls.trust.connect(tls.name.clone(), socket).await;
        let stream = stream.map_err(|reason| Error::Tls {
            address: self.address.clone(),
            reason,
        })?;
        self.converse(stream).await
    }

    async fn converse<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http1::handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| self.broken(error))?;
        // Its failure reaches whoever waits for an answer on it.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn broken(&self, source: hyper::Error) -> Error {
        Error::Broken {
            address: self.address.clone(),
            source,
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Response {
    /// The body, for people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Lines {
    /// The next line without its break; `None` at the end of the answer.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            let unseen = self.begun.iter().skip(self.looked);
            if let Some(at) = unseen.copied().position(|byte| byte == b'\n') {
                let mut line = self.begun.split_to(self.looked + at + 1);
                line.truncate(line.len() - 1);
                self.looked = 0;
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            self.looked = self.begun.len();
            if self.looked > LINE_BYTES_MAX {
                return Err(Error::LongLine);
            }
            if self.ended {
                let rest = self.begun.split();
                self.looked = 0;
                let rest = String::from_utf8_lossy(&rest).into_owned();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            match self.pieces.next().await? {
                None => self.ended = true,
                Some(piece) => self.begun.extend_from_slice(&piece),
            }
        }
    }
}

impl Pieces {
    /// The next bytes; `None` at the end of the answer. One that breaks off is an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| Error::Broken {
                address: self.address.clone(),
                source,
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// As much of a text as a message has room for.
fn begin(text: &str) -> String {
    text.chars().take(300).collect()
}

fn header(value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(value).map_err(|error| Error::Request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A server that answers with this head, then with a body that does not end, a byte at a time.
    async fn endless(head: &'static str) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let head = format!("HTTP/1.1 {head}\r\ntransfer-encoding: chunked\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
            let chunks = "1\r\nx\r\n".repeat(1_000);
            while socket.write_all(chunks.as_bytes()).await.is_ok() {}
        });
        client
    }

    #[tokio::test]
    async fn a_body_without_end_is_cut() {
        let client = endless("500 Broken").await;
        let refused = client.lines("/a", "*/*").await.unwrap_err();
        let Error::Refused(answer) = refused else {
            panic!("{refused}");
        };
        assert_eq!((answer.status, answer.body.len()), (500, REFUSAL_BYTES_MAX));
        let client = endless("429 Slowly").await;
        let asked = client.request_within("GET", "/a", HeaderMap::new(), "", 1 << 20);
        assert_eq!(asked.await.unwrap().body.len(), REFUSAL_BYTES_MAX);
        let client = endless("200 OK").await;
        let asked = client.request_within("GET", "/a", HeaderMap::new(), "", 100_000);
        assert!(matches!(asked.await, Err(Error::LongAnswer(100_000))));
    }

    #[test]
    fn only_http_and_https_addresses_are_taken() {
        let client = Client::new("http://localhost:81/ns/").unwrap();
        assert_eq!((&*client.address, &*client.prefix), ("localhost:81", "/ns"));
        assert_eq!(Client::new("http://[::1]:1").unwrap().address, "[::1]:1");
        assert_eq!(Client::new("https://[::1]").unwrap().address, "[::1]:443");
        for bad in [
            "",
            "localhost:80",
            "ftp://localhost",
            "https://",
            "https://h?a=b",
            "http://",
            "/x",
            "http://h?a=b",
        ] {
            assert!(Client::new(bad).is_err(), "{bad:?}");
        }
    }
}
