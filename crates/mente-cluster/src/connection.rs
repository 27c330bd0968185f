//! One connection to one broker. Requests go out in the order of the calls, many at a time,
//! and their answers come back in that order.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, StrBytes, encode_request_header_into_buffer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::api::Request;
use crate::limits;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// The request certainly did not leave.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It left, or may have; what the broker made of it is not known.
    #[error("no answer: {0}")]
    Lost(String),
    /// The broker speaks no version of this request that we speak.
    #[error("the broker is too old or too new for {0}")]
    NoVersion(&'static str),
}

/// Cheap to ask whether it is open; closes when dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    calls: mpsc::Sender<Call>,
    closed: watch::Sender<bool>,
    next_id: AtomicI32,
    /// By API key: the versions that the broker speaks.
    versions: OnceLock<HashMap<i16, (i16, i16)>>,
}

struct Call {
    frame: Bytes,
    waiter: Waiter,
}

struct Waiter {
    id: i32,
    answer: oneshot::Sender<Bytes>,
}

/// A request that has its place on the connection and waits for its answer.
#[derive(Debug)]
pub(crate) struct Pending<R> {
    connection: Arc<Connection>,
    answer: oneshot::Receiver<Bytes>,
    version: i16,
    since: Instant,
    of: PhantomData<fn() -> R>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Arc<Self>, Trouble> {
        match timeout(limits::CONNECT, Self::greet(address)).await {
            Ok(connection) => connection,
            Err(_) => Err(Trouble::NotSent(format!("{address} does not answer"))),
        }
    }

    async fn greet(address: &str) -> Result<Arc<Self>, Trouble> {
        let failed = |error: std::io::Error| Trouble::NotSent(format!("{address}: {error}"));
        let socket = TcpStream::connect(address).await.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        let (calls, queue) = mpsc::channel(limits::PIPELINE);
        let closed = watch::Sender::new(false);
        tokio::spawn(carry(socket, queue, closed.clone()));
        let connection = Arc::new(Self {
            calls,
            closed,
            next_id: AtomicI32::new(0),
            versions: OnceLock::new(),
        });
        // Version 0 of this one is what every broker answers.
        let asked = connection.send(0, &ApiVersionsRequest::default()).await?;
        let spoken = asked.answer().await?.api_keys.into_iter();
        let versions = spoken.map(|api| (api.api_key, (api.min_version, api.max_version)));
        let _ = connection.versions.set(versions.collect());
        Ok(connection)
    }

    pub(crate) fn is_open(&self) -> bool {
        !*self.closed.borrow()
    }

    /// Whatever waits is lost.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// The highest version within `ours` that the broker speaks.
    pub(crate) fn version<R: Request>(
        &self,
        ours: &std::ops::RangeInclusive<i16>,
    ) -> Result<i16, Trouble> {
        let spoken = self
            .versions
            .get()
            .and_then(|versions| versions.get(&R::KEY));
        let (low, high) = spoken.copied().unwrap_or((0, -1));
        let version = high.min(*ours.end());
        if version >= low && version >= *ours.start() {
            Ok(version)
        } else {
            Err(Trouble::NoVersion(std::any::type_name::<R>()))
        }
    }

    /// Sends and waits for the answer.
    pub(crate) async fn ask<R: Request>(
        self: &Arc<Self>,
        ours: std::ops::RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Answer, Trouble> {
        self.send(self.version::<R>(&ours)?, request)
            .await?
            .answer()
            .await
    }

    /// Takes the next place on the connection. Whoever sends several in turn has them
    /// arrive in turn.
    pub(crate) async fn send<R: Request>(
        self: &Arc<Self>,
        version: i16,
        request: &R,
    ) -> Result<Pending<R>, Trouble> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = encode(id, version, request)?;
        let (answer, receiver) = oneshot::channel();
        let waiter = Waiter { id, answer };
        let call = Call { frame, waiter };
        let sent = timeout(limits::WRITE, self.calls.send(call)).await;
        if !matches!(sent, Ok(Ok(()))) || !self.is_open() {
            self.close();
            // Once in the queue it may have been written before the connection closed.
            let text = "the connection is closed".to_owned();
            let queued = matches!(sent, Ok(Ok(())));
            return Err(if queued {
                Trouble::Lost(text)
            } else {
                Trouble::NotSent(text)
            });
        }
        Ok(Pending {
            connection: Arc::clone(self),
            answer: receiver,
            version,
            since: Instant::now(),
            of: PhantomData,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl<R: Request> Pending<R> {
    pub(crate) async fn answer(self) -> Result<R::Answer, Trouble> {
        let answer = timeout(limits::ANSWER, self.answer).await;
        // Also when the clock ran on while this process stood still: an answer that comes
        // too late proves nothing about who owns a log now.
        if self.since.elapsed() > limits::ANSWER {
            self.connection.close();
            return Err(Trouble::Lost(format!("none within {:?}", limits::ANSWER)));
        }
        let Ok(Ok(mut bytes)) = answer else {
            return Err(Trouble::Lost("the connection was closed".into()));
        };
        let header = R::Answer::header_version(self.version);
        let decoded = ResponseHeader::decode(&mut bytes, header)
            .and_then(|_| R::Answer::decode(&mut bytes, self.version));
        decoded.map_err(|error| {
            self.connection.close();
            Trouble::Lost(format!("not understood: {error}"))
        })
    }
}

fn encode<R: Request>(id: i32, version: i16, request: &R) -> Result<Bytes, Trouble> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(StrBytes::from_static_str("mente")));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    encode_request_header_into_buffer(&mut frame, &header)
        .and_then(|()| request.encode(&mut frame, version))
        .map_err(|error| Trouble::NotSent(error.to_string()))?;
    let length = i32::try_from(frame.len() - 4).map_err(|e| Trouble::NotSent(e.to_string()))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

/// Moves requests and answers until either side ends; then all who wait are let go.
async fn carry(socket: TcpStream, queue: mpsc::Receiver<Call>, closed: watch::Sender<bool>) {
    let (reader, writer) = socket.into_split();
    let (sent, waiting) = mpsc::channel(limits::PIPELINE);
    let mut told = closed.subscribe();
    tokio::select! {
        () = write(writer, queue, sent) => {}
        () = read(reader, waiting) => {}
        _ = told.wait_for(|closed| *closed) => {}
    }
    closed.send_replace(true);
}

async fn write(
    mut socket: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Call>,
    sent: mpsc::Sender<Waiter>,
) {
    while let Some(call) = queue.recv().await {
        // Known as waiting before it is written, since its answer may be quick.
        if sent.send(call.waiter).await.is_err() {
            return;
        }
        let written = timeout(limits::WRITE, socket.write_all(&call.frame)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

async fn read(mut socket: OwnedReadHalf, mut waiting: mpsc::Receiver<Waiter>) {
    loop {
        let Ok(length) = socket.read_u32().await else {
            return;
        };
        let length = length as usize;
        if !(4..=limits::ANSWER_BYTES).contains(&length) {
            return;
        }
        let mut frame = BytesMut::zeroed(length);
        if socket.read_exact(&mut frame).await.is_err() {
            return;
        }
        let frame = frame.freeze();
        let id = frame.clone().get_i32();
        match waiting.try_recv() {
            // A caller that went away needs no answer.
            Ok(waiter) if waiter.id == id => drop(waiter.answer.send(frame)),
            _ => return,
        }
    }
}
