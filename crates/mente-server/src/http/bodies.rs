//! `GET /topics/{topic}/bodies/{place}`: the data of an event that is too large to be with it. Its attribute `dataref`
//! names the path, which cannot be guessed. Whoever has that and may read the topic may read it.
//!
//! The answer has the event's own content type and the length. A sender says the type, so a browser is told to save
//! the data and, if it shows it all the same, to run nothing of it here. What turns out not to be what was kept breaks off
//! before its end. Data of an event that is no more in the topic may be gone: 404.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mente_broker::{Broker, EntityName, Error, KeptBody, Kind};
use mente_engine::limits;
use tokio::sync::mpsc;

use super::Door;
use super::caller::Caller;
use super::error::Result;
use super::query::Named;

/// Answers of this kind at one time; each has three pieces in memory at most: one read, one that waits, one on its way.
pub(super) const AT_ONCE: usize = 64;
/// How long their receivers may take nothing.
const STALL: Duration = Duration::from_secs(60);
/// And how long they may take for all of it, as who sends it may: a little now and then is no reason for a turn.
const WHOLE: Duration = Duration::from_secs(limits::UPLOAD_SECONDS);
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((topic, body)): Named<(String, String)>,
) -> Result<Response> {
    let topic = EntityName::new(topic)?;
    let body = door.broker.body_at(&who, &topic, &body).await?;
    let turn = Arc::clone(&door.bodies).try_acquire_owned();
    let turn = turn.map_err(|_| {
        let message = format!("{AT_ONCE} bodies are being read, as many as may be: ask again");
        Error::new(Kind::Throttled, message)
    })?;
    let declared = body.content_type();
    let declared = declared.and_then(|declared| HeaderValue::from_str(declared).ok());
    let headers = [
        (header::CONTENT_TYPE, declared.unwrap_or(OCTETS)),
        (header::CONTENT_LENGTH, HeaderValue::from(body.bytes())),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment"),
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("sandbox; default-src 'none'"),
        ),
    ];
    let (pieces, waiting) = mpsc::channel(1);
    let broker = door.broker.clone();
    // Nobody waits for its end.
    tokio::spawn(async move {
        let told = tokio::select! {
            told = tell(&broker, &body, &pieces) => told,
            () = tokio::time::sleep(WHOLE) => Err(io::Error::other("its receiver takes too long")),
            () = door.stopping.wait() => Err(io::Error::other("the server stops")),
        };
        drop(turn);
        if let Err(error) = told {
            tracing::debug!(%error, "the data of an event was not told to its end");
            let _ = pieces.try_send(Err(error));
        }
    });
    let told = futures::stream::unfold(waiting, async |mut waiting: mpsc::Receiver<_>| {
        Some((waiting.recv().await?, waiting))
    });
    Ok((headers, Body::from_stream(told)).into_response())
}

async fn tell(
    broker: &Broker,
    body: &KeptBody,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let (mut bytes, mut sum) = (0, 0);
    for index in 0..body.count() {
        let piece = broker.piece(body, index).await.map_err(io::Error::other)?;
        bytes += piece.len() as u64;
        sum = KeptBody::sum(sum, &piece);
        let is_last = index + 1 == body.count();
        if is_last && (bytes, sum) != (body.bytes(), body.checksum()) {
            tracing::error!("the data of an event is not what was kept of it");
            return Err(io::Error::other("the data is not what was kept"));
        }
        let sent = tokio::time::timeout(STALL, pieces.send(Ok(piece))).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(io::Error::other("its receiver is gone")),
            Err(_) => return Err(io::Error::other("its receiver takes nothing")),
        }
    }
    Ok(())
}
