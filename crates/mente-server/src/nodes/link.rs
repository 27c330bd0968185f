//! The way to one other node: connections that are kept, each for one question at a time.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use mente_broker::{Error, Kind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Node, QUESTION_ID, SCHEME, not_owner, unknown};
use crate::push::{Reach, Target};
use crate::tls::Trust;

/// To reach a node and shake hands.
const CONNECT: Duration = Duration::from_secs(5);
/// Largest answer: what one receive call hands out is offsets only, what `verify` asks for is short.
const ANSWER_BYTES: usize = 16 << 20;
/// The header that names a refusal of Mente's own.
const CODE: &str = "x-ms-error-code";
/// Questions that may be under way to one node; each has a connection.
const QUESTIONS: usize = 1_024;
/// Connections that are kept for later.
const IDLE: usize = 64;

/// Ends its connection when it is dropped, so that whoever is asked knows that nobody waits.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) struct Link {
    node: String,
    address: String,
    secret: String,
    target: Target,
    trust: Trust,
    idle: Mutex<Vec<Line>>,
    places: Semaphore,
}

impl Link {
    pub(super) fn new(node: &Node, trust: Trust) -> Result<Self, String> {
        Ok(Self {
            node: node.name.clone(),
            address: node.address.clone(),
            secret: node.secret.clone(),
            target: Target::parse(&node.address)?,
            trust,
            idle: Mutex::default(),
            places: Semaphore::new(QUESTIONS),
        })
    }

    pub(super) fn leads_to(&self, node: &Node) -> bool {
        (&self.address, &self.secret) == (&node.address, &node.secret)
    }

    /// A question that may change something, and its answer.
    pub(super) async fn post(&self, path: &str, id: &str, body: Bytes) -> Result<Bytes> {
        self.exchange(Method::POST, path, id, body).await
    }

    pub(super) async fn get(&self, path: &str) -> Result<Bytes> {
        self.exchange(Method::GET, path, "progress", Bytes::new())
            .await
    }

    async fn exchange(&self, method: Method, path: &str, id: &str, body: Bytes) -> Result<Bytes> {
        let Ok(_place) = self.places.try_acquire() else {
            let message = format!(
                "{QUESTIONS} questions to node {} are under way: repeat",
                self.node
            );
            return Err(Error::new(Kind::Throttled, message));
        };
        let mut request = self.request(method, path, id, body)?;
        // One that is kept may have been closed meanwhile; what it gives back was never sent.
        while let Some(mut line) = self.kept() {
            match line.sender.try_send_request(request).await {
                Ok(answer) => return self.read(line, id, answer).await,
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broken(id, failed.error())),
                },
            }
        }
        let mut line = match tokio::time::timeout(CONNECT, self.connect()).await {
            Ok(line) => line.map_err(|error| not_owner(&self.unreached(&error)))?,
            Err(_) => return Err(not_owner(&self.unreached("no answer"))),
        };
        match line.sender.try_send_request(request).await {
            Ok(answer) => self.read(line, id, answer).await,
            Err(failed) => Err(self.broken(id, failed.error())),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        id: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.target.authority)
            .header(header::AUTHORIZATION, format!("{SCHEME}{}", self.secret))
            .header(QUESTION_ID, id)
            .body(Full::new(body));
        request.map_err(|error| not_owner(&self.unreached(&error.to_string())))
    }

    async fn connect(&self) -> Result<Line, String> {
        let address = self.target.resolve(Reach::Anywhere).await?;
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| error.to_string())?;
        // Small questions must not wait for each other; without it the exchange is only slower.
        let _ = stream.set_nodelay(true);
        match &self.target.tls {
            None => converse(stream).await,
            Some(name) => converse(self.trust.connect(name.clone(), stream).await?).await,
        }
    }

    async fn read(&self, line: Line, id: &str, answer: Response<Incoming>) -> Result<Bytes> {
        let status = answer.status();
        // What refuses in front of a door has no such header, and may have let the question through.
        let is_from_door = answer.headers().contains_key(CODE);
        let body = Limited::new(answer.into_body(), ANSWER_BYTES)
            .collect()
            .await;
        let body = body.map_err(|error| unknown(id, &format!("node {}: {error}", self.node)))?;
        self.keep(line);
        match status {
            StatusCode::OK => Ok(body.to_bytes()),
            StatusCode::PAYLOAD_TOO_LARGE if is_from_door => {
                let message = "the command is larger than one node takes from another: split it";
                Err(Error::new(Kind::TooLarge, message))
            }
            // Turned away at the door: nobody there looked at it.
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE
                if is_from_door =>
            {
                let why = format!("its door answers {status}");
                Err(not_owner(&self.unreached(&why)))
            }
            status => Err(unknown(id, &format!("node {} answers {status}", self.node))),
        }
    }

    fn kept(&self) -> Option<Line> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|line| !line.sender.is_closed());
        idle.pop()
    }

    fn keep(&self, line: Line) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(line);
        }
    }

    fn unreached(&self, why: &str) -> String {
        format!("node {} cannot be reached: {why}", self.node)
    }

    fn broken(&self, id: &str, error: &hyper::Error) -> Error {
        unknown(
            id,
            &format!("the connection to node {} broke: {error}", self.node),
        )
    }
}

async fn converse<S>(stream: S) -> Result<Line, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let task = tokio::spawn(async {
        // Whoever waits for an answer is told.
        let _ = connection.await;
    });
    Ok(Line { sender, task })
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("node", &self.node)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
