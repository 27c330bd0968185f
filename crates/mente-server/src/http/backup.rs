//! `GET /backup`: a copy of everything that is acknowledged by now, as a tar stream, while the
//! server goes on. One at a time; what an interrupted one lacks is its manifest, the last entry.

use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use mente_broker::Principal;
use mente_engine::limits;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Door;
use super::caller::Caller;
use super::error::{Refusal, Result};

/// Bytes that are sent at one time, and how many such pieces wait for a slow receiver.
const PIECE_BYTES: usize = 256 << 10;
const PIECES: usize = 4;

type Begun<'a> = Pin<Box<dyn Future<Output = mente_broker::Result<Box<dyn Archive>>> + Send + 'a>>;

/// Who can copy everything that a server keeps.
pub trait Backups: Send + Sync + fmt::Debug {
    /// Refuses whom the broker does not let manage everything.
    fn begin<'a>(&'a self, who: &'a Principal) -> Begun<'a>;
}

/// Everything as of one moment. Files on the disk are kept for it until it is dropped.
pub trait Archive: Send {
    fn write(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

pub(super) async fn get(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    let Some(backups) = &door.backups else {
        let message =
            "this server's events are in a Kafka cluster, which has its own means to copy them";
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "Unsupported",
            message,
        ));
    };
    let busy = |_| {
        let message = "a backup is under way: wait for it";
        Refusal::new(StatusCode::CONFLICT, "Conflict", message)
    };
    let alone = Arc::clone(&door.backing_up).try_acquire_owned();
    let alone = alone.map_err(busy)?;
    let mut archive = backups.begin(&who).await?;
    let (pieces, waiting) = mpsc::channel(PIECES);
    let mut out = Pieces {
        open: BytesMut::new(),
        pieces,
        executor: Handle::current(),
    };
    tokio::task::spawn_blocking(move || {
        let written = archive.write(&mut out).and_then(|()| out.flush());
        if let Err(error) = written.and_then(|()| out.send(Bytes::new())) {
            tracing::warn!(%error, "a backup was not finished");
        }
        drop((archive, alone));
    });
    let body = futures::stream::unfold(Some(waiting), async |waiting| {
        let mut waiting = waiting?;
        match waiting.recv().await {
            Some(piece) if piece.is_empty() => None,
            Some(piece) => Some((Ok(piece), Some(waiting))),
            // Without the empty piece it is not whole: the connection breaks, so that nobody
            // takes it for that.
            None => Some((Err(io::Error::other("the backup was not finished")), None)),
        }
    });
    let headers = [(header::CONTENT_TYPE, "application/x-tar")];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Sends what is written, piece by piece, to a receiver that takes them in time; an empty piece
/// is the end.
struct Pieces {
    open: BytesMut,
    pieces: mpsc::Sender<Bytes>,
    executor: Handle,
}

impl Pieces {
    fn send(&self, piece: Bytes) -> io::Result<()> {
        let wait = Duration::from_secs(limits::BACKUP_STALL_SECONDS);
        let sent = async { tokio::time::timeout(wait, self.pieces.send(piece)).await };
        match self.executor.block_on(sent) {
            Ok(sent) => sent.map_err(|_| io::Error::other("its receiver went away")),
            Err(_) => Err(io::Error::other("its receiver takes nothing any more")),
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open.extend_from_slice(bytes);
        if self.open.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let piece = self.open.split().freeze();
        self.send(piece)
    }
}
