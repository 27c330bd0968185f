//! For those who run the server: is it alive, is it ready, what has it done.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use mente_engine::limits;

use super::Door;
use super::error::{Refusal, Result};

/// How long a shard may take to answer before the server counts as not ready.
const PING_WAIT: Duration = Duration::from_secs(2);

/// The process answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Every shard answers, and the server is not stopping.
pub(super) async fn readyz(State(door): State<Arc<Door>>) -> Result<&'static str> {
    let not_ready = |why: &str| {
        let message = format!("not ready: {why}");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "NotReady", message)
    };
    if door.stopping.now() {
        return Err(not_ready("the server is stopping"));
    }
    match tokio::time::timeout(PING_WAIT, door.broker.ready()).await {
        Ok(Ok(())) => Ok("ok\n"),
        Ok(Err(error)) => Err(not_ready(&error.message)),
        Err(_) => Err(not_ready("a shard is still reading its journal")),
    }
}

pub(super) async fn metrics(State(door): State<Arc<Door>>) -> impl IntoResponse {
    let free = door.room.available_permits();
    let text = door.metrics.text(free, limits::HTTP_BODIES_BYTES);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
