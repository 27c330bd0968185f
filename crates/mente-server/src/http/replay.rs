//! `POST /topics/{topic}/subscriptions/{subscription}/deadletters:replay?limit=N`: gives the oldest dead
//! letters back to their subscription, to be delivered again with a delivery count of 1.
//!
//! `{"replayed":3,"passed":0,"remaining":2,"exact":true}`. Each letter is given back once, by whichever call:
//! one that is repeated because its answer was lost goes on where the first one ended. `passed` are letters
//! whose events are not to be had any more, such as by retention: they can still be read, with `from=0`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mente_engine::limits;
use serde::Deserialize;
use serde_json::json;

use super::caller::Caller;
use super::error::Result;
use super::events::json_of;
use super::query::{Asked, Named, subscription_name, within};
use super::{Door, body};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    limit: Option<usize>,
}

pub(super) async fn replay(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((topic, name)): Named<(String, String)>,
    Asked(asked): Asked<Parameters>,
    body: Body,
) -> Result<Response> {
    let name = subscription_name(topic, name)?;
    let most = limits::REPLAY_LETTERS;
    let limit = within("limit", asked.limit.unwrap_or(most), 1, most)?;
    // It has none; one that comes is read, so that the connection stays usable.
    body::read(&door, body).await?;
    let done = door.broker.replay(&who, &name, limit).await?;
    let body = json!({
        "replayed": done.replayed,
        "passed": done.passed,
        "remaining": done.remaining,
        "exact": done.exact,
    });
    json_of(StatusCode::OK, &body)
}
